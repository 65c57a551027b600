"""The configurations that a case is measured in on a GPU: bf16 weights and activations, eager, compiled, CUDA graph."""

from dataclasses import replace

from ..spec import Case


def on_cuda(case: Case) -> tuple[Case, Case, Case]:
    """Return the case in bf16: eager, compiled, and as a CUDA graph."""
    bf16 = replace(case, precision="bf16")
    return bf16, replace(bf16, mode="compile"), replace(bf16, mode="cuda_graphs")
