"""The graph, one for GPU and CPU: decode, one resampling a box, gather frames, augment, mirror, normalise, erase.

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
from .source import Cutter, Source

PREFETCH = 2
ANSWERS = 50
UINT8, INT32, INT64, FLOAT = DALIDataType.UINT8, DALIDataType.INT32, DALIDataType.INT64, DALIDataType.FLOAT


# (type, dimensions, layout) of the arrays in each form of a source's content, and of those that follow them.
ENCODED, DECODED = [(UINT8, 1, ""), (INT32, 1, "")], [(UINT8, 4, "FHWC")]
FORMS = {"encoded": ENCODED, "decoded": DECODED, "mixed": [*ENCODED, *DECODED, (INT32, 0, "")]}
REST = [(INT32, 2, ""), (FLOAT, 2, ""), (INT32, 0, ""), (INT64, 0, ""), (UINT8, 1, "")]
CORRECTION = [(FLOAT, 2, "")]
STEPS, ERASED = [(INT32, 1, ""), (FLOAT, 2, "")], [(FLOAT, 1, "")]
GREY = 128  # what imgaug's cutout leaves
augmentations: Any = auto_aug  # decorated beyond what a type checker follows


def build(source: Source, *, device_id: int | None, batch: int, workers: int, threads: int, depth: int) -> Pipeline:
    """Return the built pipeline; its outputs are the views (float32, C T H W), then flip, row and what is broken.

    `device_id=None` keeps everything on the CPU. `depth` is how many batches the workers prepare in advance.
    """
    conditional = source.form == "mixed" or source.corrects or source.cutter.augmented
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
    with no_main_module():
        pipeline.build()
    return pipeline


def guard(pipeline: Pipeline, sentinels: list[int]) -> None:
    """See to it that a dead worker process ends in an error of `pipeline.run()`, never in a wait without end.

    Sending a task wakes a sleeping worker and waits until it has woken; one that was killed in its sleep never does.
    DALI offers no way out, so a thread that sees a worker die answers in its stead.
    """
    # No public way leads to the pool: pyproject.toml bounds DALI's version by this line.
    awake = pipeline._py_pool.pool._general_task_queue.cv_not_empty._woken_count  # type: ignore[union-attr]

    def answer() -> None:
        connection.wait(sentinels)
        for _ in range(ANSWERS):
            time.sleep(0.1)
            awake.release()

    threading.Thread(target=answer, daemon=True).start()


def _graph(source: Source, on_gpu: bool, depth: int) -> tuple[Any, ...]:
    colors = CORRECTION if source.corrects else []
    arrays = [*FORMS[source.form], *REST, *colors, *_look(source.cutter)]
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
    correction, look = options[: len(colors)], options[len(colors) :]
    positions, boxes, flip, row, broken = outputs[count : count + len(REST)]
    if source.form == "mixed":
        video = _either(content, on_gpu)
    else:
        video = _shown(content[0], on_gpu) if source.form == "decoded" else _decode(content[0], content[1], on_gpu)
    count = 1 + max(box for box, _, _ in source.cutter.plan)
    resampled = [_resample(video, boxes[box], correction, source.cutter.size) for box in range(count)]
    return *_views(resampled, positions, flip, look, source.cutter, on_gpu), flip, row, broken


def _look(cutter: Cutter) -> list[Any]:
    """Return the (type, dimensions, layout) of the arrays of a look that the graph needs."""
    if not cutter.augmented:
        return []
    return [*(STEPS if cutter.augment.steps else []), *(ERASED if cutter.augment.erase else [])]


def _either(content: list[Any], on_gpu: bool) -> Any:
    """Take a sample's frames as they are, or decode its file: a condition of each sample, resolved in the graph."""
    encoded, frames, pictures, decoded = content
    if decoded == 1:  # noqa: SIM108 (DALI rewrites statements only)
        video = _shown(pictures, on_gpu)
    else:
        video = _decode(encoded, frames, on_gpu)
    return video


def _shown(pictures: Any, on_gpu: bool) -> Any:
    return pictures.gpu() if on_gpu else pictures


def _decode(encoded: Any, frames: Any, on_gpu: bool) -> Any:
    # The default `pad_mode` would show black frames where a frame is missing.
    return fn.decoders.video(encoded, device="mixed" if on_gpu else "cpu", frames=frames, pad_mode="none")


def decode(content: np.ndarray, frames: np.ndarray, *, device_id: int | None) -> None:
    """Decode one file's frames by themselves and drop them; whatever is wrong with the file is raised."""

    @pipeline_def
    def alone() -> Any:
        both = fn.external_source(lambda: ([content], [frames.astype(np.int32)]), num_outputs=2)
        return _decode(both[0], both[1], device_id is not None)

    pipeline = alone(batch_size=1, num_threads=1, device_id=device_id, prefetch_queue_depth=1)
    pipeline.build()
    pipeline.run()


def _resample(video: Any, box: Any, correction: list[Any], size: int) -> Any:
    """Resample a box of the video, then correct its colors: the pictures are smaller by then."""
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
    """Multiply the colors by a sample's matrix; those that need none are passed on, which costs nothing."""
    if correction[0, 0] != 1:
        pictures = fn.coord_transform(pictures, M=correction, dtype=UINT8)
    return pictures


def _views(resampled: list[Any], positions: Any, flip: Any, look: list[Any], cutter: Cutter, on_gpu: bool) -> list[Any]:
    """Pick each clip's frames from the resampled box, augment and normalize them."""
    views = []
    for box, clip, flipped in cutter.plan:
        picked = fn.sequence_rearrange(resampled[box], new_order=positions[clip])
        if look and cutter.augment.steps:
            picked = _augment(picked, look[0], look[1], cutter.augment, on_gpu)
        view = fn.crop_mirror_normalize(
            picked,
            output_layout="CFHW",
            mirror=1 if flipped else flip,
            mean=list(cutter.clip.mean),
            std=list(cutter.clip.std),
        )
        if look and cutter.augment.erase:
            view = fn.erase(view, anchor=look[-1][:2], shape=look[-1][2:], axis_names="HW", fill_value=0.0)
        views.append(view)
    return views


def _augment(clip: Any, operations: Any, numbers: Any, chosen: augment.Augment, on_gpu: bool) -> Any:
    for k in range(chosen.steps):
        clip = _step(clip, operations[k], numbers[k], chosen.policy, on_gpu)
    return clip


def _step(clip: Any, operation: Any, numbers: Any, policy: augment.Policy, on_gpu: bool) -> Any:
    """Do one operation to all frames of a clip, F H W 3: a condition of each sample, resolved in the graph."""
    number = numbers[0].gpu() if on_gpu else numbers[0]
    kernel: Any = fn.reshape(numbers, shape=[5, 5])
    if operation == augment.AFFINE:
        matrix = fn.reshape(numbers[:6], shape=[2, 3])
        interp = DALIInterpType.INTERP_LINEAR if policy.linear else DALIInterpType.INTERP_NN
        clip = fn.warp_affine(clip, matrix=matrix, fill_value=policy.fill, interp_type=interp, inverse_map=True)
    elif operation == augment.FILTER:
        clip = fn.filter(clip, kernel.gpu() if on_gpu else kernel)
    elif operation == augment.BRIGHTNESS:
        clip = augmentations.brightness.op(clip, numbers[0])
    elif operation == augment.CONTRAST:
        clip = augmentations.contrast.op(clip, number)
    elif operation == augment.COLOUR:
        clip = augmentations.color.op(clip, numbers[0])
    elif operation == augment.POSTERIZE:
        clip = augmentations.posterize.op(clip, fn.cast(number, dtype=UINT8))
    elif operation == augment.SOLARIZE:
        clip = augmentations.solarize.op(clip, number)
    elif operation == augment.EQUALIZE:
        clip = fn.equalize(clip)
    elif operation == augment.AUTOCONTRAST:
        clip = augmentations.auto_contrast.op(clip, None)
    elif operation == augment.CUTOUT:
        clip = fn.erase(clip, anchor=numbers[:2], shape=numbers[2:4], axis_names="HW", fill_value=float(GREY))
    return clip
