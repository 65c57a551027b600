"""`reelbench data bench INDEX`: measure the speed of each decoder on an index and recommend the fastest.

NVDEC is not always faster than PyAV: it depends on codec, frame size and key-frame interval. Both are measured on real
training clips, dense and sparse, and `decoder="auto"` uses the winner from then on. NVDEC is measured with several
numbers of feeding threads, too; a run uses one that keeps every engine busy.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

import psutil
import torch

from ... import pipelines
from ...pipelines import nvdec
from ...pipelines.index import Index
from ...result import Metric
from ...spec import Clip, Device
from ..measuring.timing import summary
from . import decoder_load

Decoder = Literal["dali", "software"]

CLIPS = {"dense": Clip(frames=32, stride=2), "segments": Clip(frames=8, sampling="segments")}
BATCH = {"cpu": 4, "cuda": 16}  # smaller batches would leave NVDEC engines idle
WARM_UP = 5  # batches, which the workers prefetched before timing starts
WINDOW = 0.25  # seconds of one sample: batches come in bursts


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The measured speed of one decoder. `clips` is in clips/s, `memory` in MiB over this process and its workers.

    `frames` is frames/s delivered; `decoded` is the number of frames that must be decoded per delivered one, given the
    files' key frames. `cores` is the mean number of busy CPU cores, `nvdec` the utilization of the GPU's decoders in
    percent, `threads` DALI's threads besides the worker processes. `memory` counts shared pages once. `same` is set for
    other libraries only: (correct frames, checked frames).
    """

    device: Device
    sampling: str
    decoder: str
    clips: Metric
    frames: float
    decoded: float
    cores: float
    memory: float
    threads: int | None = None
    nvdec: float | None = None
    same: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The decoder's display name."""
        ours = {"software": "PyAV", "dali": "NVDEC (DALI)" if self.device == "cuda" else "DALI CPU"}
        return ours.get(self.decoder, self.decoder)


def bench(
    index: Index, *, device: Device, workers: int, seconds: float, report: Callable[[str], None],
    measured: Callable[[Speed], None] = lambda speed: None,
) -> tuple[Speed, ...]:  # fmt: skip
    """Measure every decoder that can read the index, dense and sparse, at each of `thread_counts`.

    Each measurement lasts `seconds` besides its startup; `report` receives its name, `measured` what it found.
    """
    found = []
    for sampling, decoder in itertools.product(CLIPS, pipelines.decoders(index, device)):
        for threads in thread_counts(decoder, device, workers):
            report(f"{sampling}, {decoder}, {threads} threads")
            found.append(
                speed(index, sampling, decoder, device=device, workers=workers, seconds=seconds, threads=threads)
            )
            measured(found[-1])
    return tuple(found)


def thread_counts(decoder: Decoder, device: Device, workers: int) -> list[int]:
    """Return the thread counts to measure, ascending: `workers`, and for DALI on a GPU 1, 2 and 4 per NVDEC engine.

    None is below `workers`.
    """
    if device == "cpu" or decoder == "software":
        return [workers]
    return sorted({workers, *(max(workers, times * nvdec.engines()) for times in (1, 2, 4))})


def recommend(speeds: tuple[Speed, ...]) -> dict[str, str]:
    """Return the fastest of our decoders by sampling, such as {"dense": "dali"}; other libraries are ignored."""
    fastest: dict[str, Speed] = {}
    for found in speeds:
        if found.decoder not in get_args(Decoder):
            continue
        best = fastest.setdefault(found.sampling, found)
        if found.clips.value > best.clips.value:
            fastest[found.sampling] = found
    return {sampling: found.decoder for sampling, found in fastest.items()}


def speed(
    index: Index,
    sampling: str,
    decoder: Decoder,
    *,
    device: Device,
    workers: int,
    seconds: float,
    threads: int | None = None,
) -> Speed:
    """Drain a training stream for `seconds` after its startup; `threads` overrides the stream's own choice.

    `sampling` is a key of `CLIPS`.
    """
    clip, batch = CLIPS[sampling], min(BATCH[device], len(index))
    with pipelines.open(
        index,
        clip=clip,
        batch=batch,
        transform=pipelines.TrainTransform(),
        device=device,
        workers=workers,
        decoder=decoder,
    ) as stream:
        threads = stream.threads = threads or stream.threads
        sizes = (len(batch.clip) for _ in itertools.count() for batch in stream.epoch())
        taken = drain(
            sizes, index, sampling, decoder, device=device, workers=f"{workers} workers, {threads} threads",
            seconds=seconds,
        )  # fmt: skip
        return dataclasses.replace(taken, threads=threads)


def drain(
    sizes: Iterator[int], index: Index, sampling: str, decoder: str, *, device: Device, workers: str, seconds: float,
    same: tuple[int, int] | None = None,
) -> Speed:  # fmt: skip
    """Consume an iterator of batch sizes (clips) for `seconds` after `WARM_UP` batches; it should be endless.

    `sampling` is a key of `CLIPS`; `workers` describes the producers, as text.
    """
    clip = CLIPS[sampling]
    batch = [next(sizes) for _ in range(WARM_UP)][-1]
    with decoder_load.watch(torch.device(device)) as load:
        busy, begin = _processor_seconds(), time.perf_counter()
        rates = list(_windows(sizes, device, seconds))
        passed = time.perf_counter() - begin
        cores, memory = (_processor_seconds() - busy) / passed, _resident() / 2**20
    convention = f"{clip.frames}x{clip.stride} {sampling}, {clip.size} pixels, {workers}, batch {batch}"
    metric = summary(rates, "clips/s", convention)
    return Speed(
        device=device, sampling=sampling, decoder=decoder, clips=metric, frames=metric.value * clip.frames,
        decoded=decoded_per_frame(index, clip), cores=cores, memory=memory,
        nvdec=load.percent, same=same,
    )  # fmt: skip


def _windows(sizes: Iterator[int], device: Device, seconds: float) -> Iterator[float]:
    """Yield clips/s over consecutive windows of `WINDOW` seconds."""
    deadline, start, clips = time.perf_counter() + seconds, time.perf_counter(), 0
    for size in sizes:
        clips += size
        if device == "cuda":
            torch.cuda.current_stream().synchronize()  # not the whole device: DALI is decoding the next batches
        now = time.perf_counter()
        if now - start >= WINDOW:
            yield clips / (now - start)
            start, clips = now, 0
        if now > deadline:
            return


def decoded_per_frame(index: Index, clip: Clip, videos: int = 200) -> float:
    """Return the number of frames decoded per frame kept, from the index's key frames; no file is opened.

    Clips are those of training in epoch 0, one of each of at most `videos` evenly spaced videos.
    """
    from ...pipelines._packets import groups
    from ...pipelines.source import ClipSampler

    clip_sampler = ClipSampler(clip=clip, transform=pipelines.TrainTransform())
    kept = decoded = 0
    for row in range(0, len(index), -(-len(index) // videos)):
        video = index[row]
        wanted = clip_sampler.sample(video.frames, (video.width, video.height), 0, row).frames + video.offset
        kept += len(wanted)
        decoded += sum(int(group[-1]) - key + 1 for key, group in groups(wanted, video.key_frames))
    return decoded / kept


def _processor_seconds() -> float:
    return sum(_of_all(lambda process: sum(process.cpu_times()[:2])))


def _resident() -> float:
    """Return the proportional set size (shared memory counted once) of all processes, in bytes."""
    return sum(_of_all(lambda process: process.memory_full_info().pss))


def _of_all(measure: Callable[[psutil.Process], float]) -> Iterator[float]:
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        with suppress(psutil.Error):  # the process may have ended
            yield measure(process)
