"""Weights without shipping weights: the rule that fills a state dict from its key names, and the goldens themselves.

A golden holds what the official implementation computed from weights and input that this rule makes: `state_dict`
lists the official file's keys and shapes, `logits` the network's output before softmax.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def fill(key: str, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of a parameter: normal numbers seeded by its name, scaled by what it is."""
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    last = key.rpartition(".")[2]
    if last == "running_var":
        n = 1 + 0.1 * np.abs(n)
    elif last == "running_mean":
        n = 0.1 * n
    elif last == "weight" and len(shape) == 1:
        n = 1 + 0.1 * n
    elif last in ("weight", "in_proj_weight"):
        n = n / math.sqrt(math.prod(shape[1:]))
    elif last in ("bias", "in_proj_bias"):
        n = 0.02 * n
    else:
        n = 0.2 * n
    return torch.from_numpy(np.asarray(n, dtype=np.float32))


def filled(golden: dict, keys: str = "state_dict", kept: str = "kept_buffers") -> dict[str, Tensor]:
    """Return the state dict of a golden, in the official file's naming, without the buffers a model computes itself."""
    state = {}
    for key, shape in golden[keys]:
        if key in golden.get(kept, ()) or key.endswith("num_batches_tracked"):
            continue
        state[key] = fill(key, tuple(shape))
        for exception in golden.get("fill_exceptions", ()):
            if key.endswith(exception["suffix"]):
                state[key] *= exception["multiply"]
    return state


def clip(golden: dict, *, ramp: bool = False) -> Tensor:
    """Return the golden's input as `N C T H W`; with `ramp`, frame t of T is scaled by 2 (t + 1) / T."""
    x = np.random.RandomState(0).standard_normal(golden["input"]["shape"]).astype(np.float32)
    if ramp:
        frames = x.shape[1]
        steps = np.arange(1, frames + 1, dtype=np.float32).reshape(1, frames, 1, 1, 1)
        x = x * steps / frames * 2
    return torch.from_numpy(x).permute(golden.get("permute_to_NCTHW", [0, 1, 2, 3, 4]))


def difference(output: Tensor, expected: list) -> float:
    """Return the largest difference, relative to the largest expected value."""
    target = torch.tensor(expected).flatten()
    return ((output.flatten() - target).abs().max() / target.abs().max()).item()


def same(model: torch.nn.Module, state: dict[str, Tensor]) -> bool:
    """Return whether every entry of the model's state dict is that of `state`, bit for bit."""
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
