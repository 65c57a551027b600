"""How a GPU is used in earnest: weights and activations in bf16, then compiled, or replayed as a CUDA graph."""

from dataclasses import replace

from ..spec import Case


def on_cuda(case: Case) -> tuple[Case, Case, Case]:
    """Return a case in bf16: eager, compiled, as a CUDA graph."""
    bf16 = replace(case, precision="bf16")
    return bf16, replace(bf16, mode="compile"), replace(bf16, mode="cuda_graphs")
