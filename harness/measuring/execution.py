"""How a model's forward pass is run: precision, memory format, compiled, or replayed as a CUDA graph.

What a machine cannot do is an `UnsupportedError`: the case's row says so instead of measuring something else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import UnsupportedError
from ...spec import Case

Forward = Callable[[Tensor], Tensor]
FP8 = torch.float8_e4m3fn
LARGEST_FP8 = torch.finfo(FP8).max


def prepare(model: nn.Module, case: Case, device: torch.device) -> Forward:
    """Return the forward pass of a model in the case's precision and mode, from N×3×T×H×W to logits, no gradients."""
    _check(case, device)
    _set_arithmetic(case.precision)
    if case.precision == "fp8":
        model, whole = copy.deepcopy(model), model
        quantise(model)
        whole.to("cpu")  # what counts parameters and FLOPs looks at it, the card's memory is for the quantised one
    if case.channels_last:
        to_channels_last(model)
    compiled = _compile(model, case.mode)

    def forward(clip: Tensor) -> Tensor:
        if case.channels_last:
            clip = clip.contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode(), autocast(device, case.precision):
            return compiled(clip)

    return Replayed(forward) if case.mode == "cuda_graphs" else forward


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast region of a precision; `fp32` and `tf32` are disabled ones, `fp8` runs the rest in bf16."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def to_channels_last(model: nn.Module) -> None:
    """Lay out the weights of 2D and 3D convolutions with the channels last."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def quantise(model: nn.Module) -> None:
    """Replace the linear layers whose sizes the 8-bit kernels take (multiples of 16) by 8-bit ones."""
    for name, child in model.named_children():
        if isinstance(child, nn.Linear) and child.in_features % 16 == 0 and child.out_features % 16 == 0:
            setattr(model, name, Float8Linear(child))
        else:
            quantise(child)


class Float8Linear(nn.Module):
    """A linear layer in 8-bit floating point (E4M3), …×in to …×out; each tensor has one scale, the input's found anew.

    Like the dynamic per-tensor scaling of P. Micikevicius and others, "FP8 formats for deep learning", 2022.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.scale = _scale(weight)
        self.weight = nn.Parameter((weight / self.scale).to(FP8), requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply in 8 bits, accumulate and return in bf16."""
        flat = x.reshape(-1, x.shape[-1])
        scale = _scale(flat)
        product = torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]
            (flat / scale).to(FP8), self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=torch.bfloat16
        )
        if self.bias is not None:
            product = product + self.bias.to(product.dtype)
        return product.reshape(*x.shape[:-1], -1)


def _scale(x: Tensor) -> Tensor:
    return (x.abs().amax().float() / LARGEST_FP8).clamp(min=1e-12)


class Replayed:
    """A forward pass captured once for each input shape, then replayed without the host's launching work."""

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.captured: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, clip: Tensor) -> Tensor:
        """Copy the clip in, replay, and return the logits, which the next call overwrites."""
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
        with torch.cuda.stream(side):  # lazy initialisation must not be captured
            for _ in range(3):
                self.forward(given)
        torch.cuda.current_stream(clip.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.forward(given)
        return graph, given, logits


def _compile(model: nn.Module, mode: str) -> Callable[[Tensor], Tensor]:
    if not mode.startswith("compile"):
        return model
    torch._dynamo.config.cache_size_limit = 64  # a batch sweep compiles once a batch
    # With dynamic shapes the kernels would serve every batch and suit none.
    return torch.compile(model, dynamic=False, mode="max-autotune" if mode == "compile_max_autotune" else None)


def _set_arithmetic(precision: str) -> None:
    """Say what 32-bit products are: torch lets cuDNN round them to TF32 unless told."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True  # shapes are fixed: warm-up pays for the choice of kernels


def _check(case: Case, device: torch.device) -> None:
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    needs = {"tf32": (8, 0), "fp8": (8, 9)}
    if capability < needs.get(case.precision, (0, 0)):
        major, minor = needs[case.precision]
        raise UnsupportedError(f"{case.precision} needs a GPU of compute capability {major}.{minor} or newer")
    if case.mode == "cuda_graphs" and device.type != "cuda":
        raise UnsupportedError("cuda_graphs needs a GPU: use mode='eager' or 'compile' on a CPU")
