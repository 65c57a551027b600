"""The DALI graph, the same for GPU and CPU: decode, resample each crop box, gather frames, augment, normalize, erase.

This is the only file that imports `nvidia.dali`.

    source -> content, frames -> decode -> F H W 3 --+-> box 0 -> F S S 3 -> colors -> clip 0 -> 3 T S S
                                                     |                          `----> clip 1 -> 3 T S S
                                                     `-> box 1 -> …
"""

from __future__ import annotations

import threading
import time
from multiprocessing import connection
from typing import Any

import numpy as np
import nvidia.dali.fn as fn
from nvidia.dali.auto_aug import augmentations as auto_aug
from nvidia.dali.pipeline import Pipeline, pipeline_def
from nvidia.dali.types import DALIDataType, DALIInterpType

from . import augment
from ._parallel import no_main_module
from ._workers import signals_wait
from .source import ClipSampler, EncodedSource

PREFETCH = 2
RELEASES = 50  # attempts to release the lock, 0.1 s apart
LOCK_TIMEOUT = 1.0  # seconds after which a queue's lock belongs to a dead worker
UINT8, INT32, INT64, FLOAT = DALIDataType.UINT8, DALIDataType.INT32, DALIDataType.INT64, DALIDataType.FLOAT


# (type, dimensions, layout) of the arrays of a sample: the content, by the source's form, then the rest.
ENCODED, DECODED = [(UINT8, 1, ""), (INT32, 1, "")], [(UINT8, 4, "FHWC")]
FORMS = {"encoded": ENCODED, "decoded": DECODED, "mixed": [*ENCODED, *DECODED, (INT32, 0, "")]}
REST = [(INT32, 2, ""), (FLOAT, 2, ""), (INT32, 0, ""), (INT64, 0, ""), (UINT8, 1, "")]
CORRECTION = [(FLOAT, 2, "")]
STEPS, ERASED = [(INT32, 1, ""), (FLOAT, 2, "")], [(FLOAT, 1, "")]
GRAY = 128  # the fill of imgaug's cutout
augmentations: Any = auto_aug  # its decorators hide the types


def build(
    source: EncodedSource, *, device_id: int | None, batch: int, workers: int, threads: int, depth: int
) -> Pipeline:
    """Return the built pipeline. Its outputs are the views (float32, C T H W), then flip, row, and skipped videos.

    There is one output per view, in the order of `ClipSampler.view_order`; row and skipped videos are those of
    `EncodedSource`. `device_id=None` means the CPU. `batch` is in videos, `workers` the number of processes, `threads`
    that of DALI's threads, `depth` the number of batches that the workers prepare in advance.
    """
    conditional = source.form == "mixed" or source.corrects or source.clip_sampler.augmented
    graph: Any = pipeline_def(enable_conditionals=conditional)(_graph)
    pipeline = graph(
        source,
        device_id is not None,
        depth,
        batch_size=batch,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=PREFETCH,
        py_num_workers=workers,
        py_start_method="spawn",
    )
    with no_main_module(), signals_wait():
        pipeline.build()
    return pipeline


def guard(pipeline: Pipeline, sentinels: list[int]) -> None:
    """Make `pipeline.run()` raise an error if a worker process dies, instead of waiting forever.

    To send a task, DALI notifies a sleeping worker and waits until it has woken, which a killed one never does. So a
    thread that sees a worker die releases that semaphore in its place.
    """
    awake = pipeline._py_pool.pool._general_task_queue.cv_not_empty._woken_count  # type: ignore[union-attr]

    def answer() -> None:
        connection.wait(sentinels)
        for _ in range(RELEASES):
            time.sleep(0.1)
            awake.release()

    threading.Thread(target=answer, daemon=True).start()


def free_locks(pipeline: Pipeline) -> None:
    """Release the locks of the queues that killed workers held: to close the pipeline would wait for them forever.

    All of its workers must have ended.
    """
    pool: Any = pipeline._py_pool.pool  # type: ignore[union-attr]  # private: DALI never takes a lock back
    for queue in (pool._result_queue, pool._general_task_queue):
        queue.lock.acquire(timeout=LOCK_TIMEOUT)  # the main process holds it for an instant only
        queue.lock.release()


def _graph(source: EncodedSource, on_gpu: bool, depth: int) -> tuple[Any, ...]:
    colors = CORRECTION if source.corrects else []
    arrays = [*FORMS[source.form], *REST, *colors, *_params_layout(source.clip_sampler)]
    outputs: Any = fn.external_source(
        source,
        num_outputs=len(arrays),
        batch=False,
        parallel=True,
        prefetch_queue_depth=depth,
        dtype=[kind for kind, _, _ in arrays],
        ndim=[dimensions for _, dimensions, _ in arrays],
        layout=[layout for _, _, layout in arrays],
    )
    count = len(FORMS[source.form])
    content, options = outputs[:count], outputs[count + len(REST) :]
    correction, params = options[: len(colors)], options[len(colors) :]
    positions, boxes, flip, row, skipped = outputs[count : count + len(REST)]
    if source.form == "mixed":
        video = _either(content, on_gpu)
    else:
        video = _shown(content[0], on_gpu) if source.form == "decoded" else _decode(content[0], content[1], on_gpu)
    count = 1 + max(box for box, _, _ in source.clip_sampler.view_order)
    resampled = [_resample(video, boxes[box], correction, source.clip_sampler.size) for box in range(count)]
    return *_views(resampled, positions, flip, params, source.clip_sampler, on_gpu), flip, row, skipped


def _params_layout(clip_sampler: ClipSampler) -> list[Any]:
    """Return (type, dimensions, layout) of the augmentation parameters that the graph uses."""
    if not clip_sampler.augmented:
        return []
    return [*(STEPS if clip_sampler.augment.steps else []), *(ERASED if clip_sampler.augment.erase else [])]


def _either(content: list[Any], on_gpu: bool) -> Any:
    """Use a sample's decoded frames, or decode its file: conditional execution per sample."""
    encoded, frames, pictures, decoded = content
    if decoded == 1:  # noqa: SIM108 (DALI traces `if` statements only)
        video = _shown(pictures, on_gpu)
    else:
        video = _decode(encoded, frames, on_gpu)
    return video


def _shown(pictures: Any, on_gpu: bool) -> Any:
    return pictures.gpu() if on_gpu else pictures


def _decode(encoded: Any, frames: Any, on_gpu: bool) -> Any:
    # The default `pad_mode` would return black frames for missing ones, without an error.
    return fn.decoders.video(encoded, device="mixed" if on_gpu else "cpu", frames=frames, pad_mode="none")


def decode(content: np.ndarray, frames: np.ndarray, *, device_id: int | None) -> None:
    """Decode the frames of one file and discard them. Raises RuntimeError if they cannot be decoded."""

    @pipeline_def
    def alone() -> Any:
        both = fn.external_source(lambda: ([content], [frames.astype(np.int32)]), num_outputs=2)
        return _decode(both[0], both[1], device_id is not None)

    pipeline = alone(batch_size=1, num_threads=1, device_id=device_id, prefetch_queue_depth=1)
    pipeline.build()
    pipeline.run()


def _resample(video: Any, box: Any, correction: list[Any], size: int) -> Any:
    """Resample a crop box of the video, then correct the colors of the (smaller) result."""
    resampled = fn.resize(
        video,
        roi_start=fn.stack(box[1], box[0]),
        roi_end=fn.stack(box[3], box[2]),
        size=(size, size),
        interp_type=DALIInterpType.INTERP_LINEAR,
        antialias=False,
    )
    return _corrected(resampled, correction[0]) if correction else resampled


def _corrected(pictures: Any, correction: Any) -> Any:
    """Multiply RGB by the sample's matrix, unless that is the identity."""
    if correction[0, 0] != 1:
        pictures = fn.coord_transform(pictures, M=correction, dtype=UINT8)
    return pictures


def _views(
    resampled: list[Any], positions: Any, flip: Any, params: list[Any], clip_sampler: ClipSampler, on_gpu: bool
) -> list[Any]:
    """Pick each clip's frames from the resampled box, augment and normalize them."""
    views = []
    for box, clip, flipped in clip_sampler.view_order:
        picked = fn.sequence_rearrange(resampled[box], new_order=positions[clip])
        if params and clip_sampler.augment.steps:
            picked = _augment(picked, params[0], params[1], clip_sampler.augment, on_gpu)
        view = fn.crop_mirror_normalize(
            picked,
            output_layout="CFHW",
            mirror=1 if flipped else flip,
            mean=list(clip_sampler.clip.mean),
            std=list(clip_sampler.clip.std),
        )
        if params and clip_sampler.augment.erase:
            view = fn.erase(view, anchor=params[-1][:2], shape=params[-1][2:], axis_names="HW", fill_value=0.0)
        views.append(view)
    return views


def _augment(clip: Any, operations: Any, arguments: Any, chosen: augment.Augment, on_gpu: bool) -> Any:
    for k in range(chosen.steps):
        clip = _step(clip, operations[k], arguments[k], chosen.policy, on_gpu)
    return clip


def _step(clip: Any, operation: Any, arguments: Any, policy: augment.Policy, on_gpu: bool) -> Any:
    """Apply one operation to all frames of a clip, F H W 3: conditional execution per sample."""
    argument = arguments[0].gpu() if on_gpu else arguments[0]
    kernel: Any = fn.reshape(arguments, shape=[5, 5])
    if operation == augment.AFFINE:
        matrix = fn.reshape(arguments[:6], shape=[2, 3])
        interp = DALIInterpType.INTERP_LINEAR if policy.linear else DALIInterpType.INTERP_NN
        clip = fn.warp_affine(clip, matrix=matrix, fill_value=policy.fill, interp_type=interp, inverse_map=True)
    elif operation == augment.FILTER:
        clip = fn.filter(clip, kernel.gpu() if on_gpu else kernel)
    elif operation == augment.BRIGHTNESS:
        clip = augmentations.brightness.op(clip, arguments[0])
    elif operation == augment.CONTRAST:
        clip = augmentations.contrast.op(clip, argument)
    elif operation == augment.COLOR:
        clip = augmentations.color.op(clip, arguments[0])
    elif operation == augment.POSTERIZE:
        clip = augmentations.posterize.op(clip, fn.cast(argument, dtype=UINT8))
    elif operation == augment.SOLARIZE:
        clip = augmentations.solarize.op(clip, argument)
    elif operation == augment.EQUALIZE:
        clip = fn.equalize(clip)
    elif operation == augment.AUTOCONTRAST:
        clip = augmentations.auto_contrast.op(clip, None)
    elif operation == augment.CUTOUT:
        clip = fn.erase(clip, anchor=arguments[:2], shape=arguments[2:4], axis_names="HW", fill_value=float(GRAY))
    return clip
