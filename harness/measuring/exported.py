"""Exported models as execution modes: AOTInductor's compiled package, ONNX Runtime, TensorRT.

Each is made of the model for one input shape, when that shape first comes, and run from its file: what is measured is
what would be deployed. What this machine or the model lacks raises UnsupportedError, so that nothing else is measured.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...errors import UnsupportedError, UserError

Forward = Callable[[Tensor], Tensor]
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
PROVIDERS = {"onnxruntime": {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"},
             "tensorrt": {"cuda": "TensorrtExecutionProvider"}}  # fmt: skip
MODES = ("aot_inductor", *PROVIDERS)


def check(precision: str, mode: str, device: torch.device) -> None:
    """Raise UnsupportedError if an exported mode cannot run here, or not in this precision."""
    known = ("fp32", "tf32", "bf16", "fp16") if mode == "aot_inductor" else ("fp32",)
    if precision not in known:
        raise UnsupportedError(f"{mode} runs {', '.join(known)} here, not {precision}")
    if mode == "aot_inductor":
        return
    if missing := missing_packages():
        raise UnsupportedError(f"{mode} needs {', '.join(missing)}: pip install {' '.join(missing)}")
    _provider(mode, device)


def missing_packages() -> list[str]:
    """Return the packages of ONNX that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


class Exported:
    """A model in an exported mode, from `N 3 T H W` to logits; each new input shape is exported first."""

    def __init__(self, model: nn.Module, mode: str, device: torch.device) -> None:
        self.model, self.mode, self.device = model, mode, device
        self.made: dict[torch.Size, Forward] = {}
        self.folder = tempfile.TemporaryDirectory(prefix="reelbench-")

    def __call__(self, clip: Tensor) -> Tensor:
        """Return the logits. Raises UnsupportedError if the model cannot be exported."""
        if clip.shape not in self.made:
            self.made[clip.shape] = self._export(clip)
        return self.made[clip.shape](clip)

    def _export(self, clip: Tensor) -> Forward:
        path = Path(self.folder.name) / f"{len(self.made)}{'.pt2' if self.mode == 'aot_inductor' else '.onnx'}"
        # Tensors made in inference mode cannot be traced.
        with torch.inference_mode(mode=False), torch.no_grad():
            example = clip.clone()
            self.model(example)  # fill caches, such as attention masks, before tracing
            try:
                if self.mode == "aot_inductor":
                    return _inductor(self.model, example, path)
                return _session(self.model, example, path, _provider(self.mode, self.device))
            except UserError as error:
                raise UnsupportedError(str(error)) from None


def traced(model: nn.Module, example: Tensor, sizes: dict[int, Any] | None = None) -> torch.export.ExportedProgram:
    """Return a model as a program; `sizes` are the dynamic ones of the example, by dimension.

    Raises UserError if it cannot be traced.
    """
    try:
        return torch.export.export(model, (example,), dynamic_shapes=(sizes,) if sizes else None)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        fixed = "constraints violated" in str(error).lower()
        hint = "it fixes the number of clips, as `len(clip)` does: use `clip.shape[0]`" if fixed else "see torch.export"
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
        raise UserError(f"torch cannot trace this model ({reason[:160]}): {hint}") from None


def _inductor(model: nn.Module, example: Tensor, path: Path) -> Forward:
    program = traced(model, example)
    # Documented, but in a private module, up to today's torch.
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return torch._inductor.aoti_load_package(package)


def to_onnx(model: nn.Module, example: Tensor, path: Path, sizes: dict[int, Any] | None = None) -> None:
    """Write a model as ONNX, from `clip` to `logits`; `sizes` are the dynamic ones of the example, by dimension.

    Raises UserError if ONNX lacks an operation.
    """
    # It warns that torchvision is missing, which no model here needs.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        # ONNX lacks fused attention for this layout.
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # raised by torch's own code
            torch.onnx.export(
                model, (example,), path, dynamo=True, dynamic_shapes=(sizes,) if sizes else None, input_names=["clip"],
                output_names=["logits"], external_data=False, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f"torch cannot translate this model to ONNX ({reason[:160]}): export it as .pt2") from None


def _session(model: nn.Module, example: Tensor, path: Path, provider: str) -> Forward:
    """Return what runs the model in ONNX Runtime; the logits stay on the device."""
    import onnxruntime  # type: ignore[import-not-found]

    to_onnx(model, example, path)
    logits = torch.empty_like(model(example))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    if provider not in session.get_providers():  # it falls back to another one with a mere warning
        raise UnsupportedError(f"ONNX Runtime cannot start its {provider} here: see its log")
    kind, number = example.device.type, example.device.index or 0

    def run(clip: Tensor) -> Tensor:
        clip, binding = clip.contiguous(), session.io_binding()
        for bind, name, tensor in ((binding.bind_input, "clip", clip), (binding.bind_output, "logits", logits)):
            bind(name, kind, number, "float32", tuple(tensor.shape), tensor.data_ptr())
        if kind == "cuda":
            torch.cuda.current_stream(clip.device).synchronize()  # it runs in a stream of its own
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return logits.clone()

    return run


def _provider(mode: str, device: torch.device) -> str:
    """Return ONNX Runtime's provider of a mode on a device. Raises UnsupportedError if it is not installed."""
    import onnxruntime  # type: ignore[import-not-found]

    wanted = PROVIDERS[mode].get(device.type)
    if wanted is None:
        raise UnsupportedError(f"{mode} needs a GPU")
    if wanted not in onnxruntime.get_available_providers():
        raise UnsupportedError(f"{mode} on {device.type} needs ONNX Runtime's {wanted}: pip install onnxruntime-gpu")
    return wanted
