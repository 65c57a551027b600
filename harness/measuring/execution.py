"""Running a model's forward pass in a precision, memory format and mode: eager, compiled, exported, as a CUDA graph.

`bf16` and `fp16` cast weights and activations once; `amp_bf16` and `amp_fp16` are torch's autocast, which keeps fp32
weights and casts them in every pass, as in training. What the machine does not support raises UnsupportedError, so
that nothing else is measured instead.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ...errors import UnsupportedError, unknown
from ...spec import Arithmetic, Case
from . import exported

Forward = Callable[[Tensor], Tensor]
FP8 = torch.float8_e4m3fn
LARGEST_FP8 = torch.finfo(FP8).max
CAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
AUTOCAST = {"amp_bf16": torch.bfloat16, "amp_fp16": torch.float16, "fp8": torch.bfloat16}
# Largest deviation of logits from fp32's, in standard deviations of the latter: about 12 roundings.
TOLERANCE = {"bf16": 0.1, "amp_bf16": 0.1, "fp16": 0.0125, "amp_fp16": 0.0125}


def prepare(model: nn.Module, case: Case, device: torch.device) -> Forward:
    """Return the model's inference function in the case's precision and mode, from N×3×T×H×W to logits.

    The model must be in eval mode on the device; clips are fp32. If the precision casts or quantizes, a copy runs and
    the fp32 original moves to the CPU, where parameters and FLOPs are counted, to free GPU memory. With `cuda_graphs`
    the next call overwrites the logits. Sets global flags (`set_up`). Raises UnsupportedError if the device lacks the
    precision or mode.
    """
    set_up(case.precision, case.mode, device)
    original, model = model, cast(model, case.precision)
    if model is not original:
        original.to("cpu")
    if case.channels_last:
        to_channels_last(model)
    compiled = in_precision(_compile(model, case.mode, device), case.precision, device)

    def forward(clip: Tensor) -> Tensor:
        if case.channels_last:
            clip = clip.contiguous(memory_format=torch.channels_last_3d)
        return compiled(clip)

    return Replayed(forward) if case.mode == "cuda_graphs" else forward


def set_up(precision: str, mode: str, device: torch.device) -> None:
    """Set this process's TF32 and cuDNN flags. Raises UnsupportedError if the device lacks the precision or mode.

    TF32 is allowed only for precision `tf32`: by default torch lets cuDNN use it for fp32 convolutions. cuDNN's
    autotuning is switched on.
    """
    _check(precision, mode, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True  # shapes are fixed, so autotuning happens during warm-up


def cast(model: nn.Module, precision: str) -> nn.Module:
    """Return a copy with weights cast or quantized for `bf16`, `fp16`, `fp8` and `int8`, else the model itself."""
    if precision in CAST:
        return copy.deepcopy(model).to(CAST[precision])
    if precision == "fp8":
        model = copy.deepcopy(model)
        quantize(model)
    return to_int8(model) if precision == "int8" else model


def to_int8(model: nn.Module) -> nn.Module:
    """Return a copy with the linear layers in int8: weights quantized once, inputs in every pass; on a CPU only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, but its successor is a package of its own
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def in_precision(model: Callable[[Tensor], Tensor], precision: str, device: torch.device) -> Forward:
    """Return the inference function of a model that was `cast` to the precision; it takes fp32 clips.

    The logits have the dtype that the precision computes in.
    """
    dtype = CAST.get(precision, torch.float32)

    def forward(clip: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(device, AUTOCAST.get(precision)):
            return model(clip.to(dtype))

    return forward


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Return the autocast context of a dtype, disabled for None."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def training(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context for training in a precision: weights stay in fp32 in every one."""
    if precision not in get_args(Arithmetic):
        raise unknown("precision", precision, get_args(Arithmetic))
    return autocast(device, {**CAST, **AUTOCAST}.get(precision))


def to_channels_last(model: nn.Module) -> None:
    """Convert the weights of 2D and 3D convolutions to the channels-last memory format, in place."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def quantize(model: nn.Module) -> None:
    """Replace linear layers by fp8 ones, in place, where both sizes are multiples of 16 as the kernels require."""
    for name, child in model.named_children():
        if isinstance(child, nn.Linear) and child.in_features % 16 == 0 and child.out_features % 16 == 0:
            setattr(model, name, Float8Linear(child))
        else:
            quantize(child)


class Float8Linear(nn.Module):
    """A linear layer in fp8 (E4M3), …×in to …×out, with per-tensor scales; the input's scale is dynamic.

    After P. Micikevicius and others, "FP8 formats for deep learning", 2022.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = _scale(weight)
        self.weight = nn.Parameter((weight / self.scale).to(FP8), requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply in fp8 on a GPU; the result is bf16, whatever the input's dtype."""
        flat = x.reshape(-1, x.shape[-1])
        scale = _scale(flat)
        # The public torch.nn.functional.scaled_mm is younger than the oldest torch that pyproject.toml allows.
        product = torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]
            (flat / scale).to(FP8), self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=torch.bfloat16
        )
        if self.bias is not None:
            product = product + self.bias.to(product.dtype)
        return product.reshape(*x.shape[:-1], -1)


def _scale(x: Tensor) -> Tensor:
    return (x.abs().amax().float() / LARGEST_FP8).clamp(min=1e-12)


class Replayed:
    """A forward pass captured as a CUDA graph for each input shape, then replayed without launch overhead.

    All graphs share one memory pool, as only their logits must outlive a replay. Capture is thread-local, so that other
    threads, such as a decoder's, may allocate meanwhile. The first call with a shape runs the pass three times, then
    captures it, which raises RuntimeError if the pass synchronizes with the host.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.pool: Any = None
        self.captured: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, clip: Tensor) -> Tensor:
        """Copy the clip into the graph's input, replay, and return the logits, which the next call overwrites."""
        if clip.shape not in self.captured:
            self.captured[clip.shape] = self._capture(clip)
        graph, given, logits = self.captured[clip.shape]
        given.copy_(clip)
        graph.replay()
        return logits

    def _capture(self, clip: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        given = clip.clone()
        side = torch.cuda.Stream(clip.device)
        side.wait_stream(torch.cuda.current_stream(clip.device))
        with torch.cuda.stream(side):  # lazy initialization must not be captured
            for _ in range(3):
                self.forward(given)
        torch.cuda.current_stream(clip.device).wait_stream(side)
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            logits = self.forward(given)
        return graph, given, logits


def _compile(model: nn.Module, mode: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    if mode in exported.MODES:
        return exported.Exported(model, mode, device)
    if not mode.startswith("compile"):
        return model
    # A batch sweep recompiles for each batch size; older torch has no public name for this limit.
    torch._dynamo.config.cache_size_limit = 64
    # dynamic=False: one specialized kernel per batch size.
    return torch.compile(model, dynamic=False, mode="max-autotune" if mode == "compile_max_autotune" else None)


def _check(precision: str, mode: str, device: torch.device) -> None:
    if precision not in get_args(Arithmetic):
        raise unknown("precision", precision, get_args(Arithmetic))
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    needs = {"tf32": (8, 0), "fp8": (8, 9)}
    if capability < needs.get(precision, (0, 0)):
        major, minor = needs[precision]
        raise UnsupportedError(f"{precision} needs a GPU of compute capability {major}.{minor} or newer")
    if precision == "int8" and (device.type != "cpu" or not hasattr(torch.ao.quantization, "quantize_dynamic")):
        raise UnsupportedError("int8 runs on a CPU, by torch's dynamic quantization, which this machine lacks")
    if mode in exported.MODES:
        exported.check(precision, mode, device)
    if mode == "cuda_graphs" and device.type != "cuda":
        raise UnsupportedError("cuda_graphs needs a GPU: use mode='eager' or 'compile' on a CPU")
