"""Convert a checkpoint to DeepSpeed's universal form: a folder per parameter, for any ZeRO stage and number of ranks.

DeepSpeed's own converter knows neither stage 0 nor optimizers other than Adam, nor another stage than the saved one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from . import checkpoints

WEIGHT, STEP = "fp32", "step"
Named = dict[str, dict[str, Tensor]]  # parameter: {fp32, exp_avg, …, step}


def convert(checkpoint: Path, names: list[list[str]], zero: int) -> Path:
    """Write a checkpoint's universal form for a ZeRO stage beside it and return its folder; an earlier one is replaced.

    `names` are the trainable parameters of each of the optimizer's groups, as the job builds them. Raises UserError if
    the checkpoint was written with other parameters, or stage 3 is to load another optimizer's state than Adam's.
    """
    saved, target = checkpoints.read_state(checkpoint), checkpoints.universal(checkpoint)
    read = {0: _unsharded, 3: _sharded}.get(saved["zero"], _flat)
    found = read(checkpoint, names)
    if {name for group in names for name in group} != set(found):
        raise UserError(f"{checkpoint} holds other trainable parameters than this job: start anew in another --out")
    if zero == 3 and any(not {"exp_avg", STEP} <= set(values) for values in found.values()):
        raise UserError("DeepSpeed's ZeRO 3 can take over AdamW's state only: resume with --zero 0, 1 or 2")
    checkpoints.remove(target)
    for name, values in found.items():
        for key, value in values.items():
            path = target / "zero" / name / f"{key}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(value if key == STEP else {"param": value, "cat_dim": 0}, path)
    _write_rest(checkpoint, target, found, len(names), zero)
    return target


def load_plain(
    folder: Path, names: list[list[str]], parameters: dict[str, Any], optimizer: torch.optim.Optimizer
) -> None:
    """Load a universal form without ZeRO: into the parameters, by name, and the optimizer's state."""
    for name in (name for group in names for name in group):
        parameter = parameters[name]
        for path in (folder / "zero" / name).glob("*.pt"):
            value = _load(path)
            if path.stem == STEP:
                optimizer.state[parameter][STEP] = torch.as_tensor(float(value), device=parameter.device)
            elif path.stem == WEIGHT:
                parameter.data.copy_(value["param"])
            else:
                optimizer.state[parameter][path.stem] = value["param"].to(parameter.device)


def buffers(folder: Path) -> dict[str, Tensor]:
    """Return what a checkpoint holds of the model unsharded: its buffers, and below ZeRO 3 its weights."""
    return _model(folder)["module"]


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=False)  # this run's own file, with DeepSpeed's objects


def _model(folder: Path) -> dict[str, Any]:
    (path,) = [*folder.glob("mp_rank_00_model_states.pt"), *folder.glob("*zero_pp_rank_0_mp_rank_00_model_states.pt")]
    return _load(path)


def _shards(checkpoint: Path) -> Iterator[dict[str, Any]]:
    """Yield every rank's optimizer state, in rank order."""
    for rank in range(checkpoints.read_state(checkpoint)["ranks"]):
        (path,) = checkpoint.glob(f"*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        yield _load(path)["optimizer_state_dict"]


def _unsharded(checkpoint: Path, names: list[list[str]]) -> Named:
    """Read stage 0: torch numbers the parameters through the groups."""
    model = _model(checkpoint)
    state, order = model["optimizer"]["state"], [name for group in names for name in group]
    if sum(len(group["params"]) for group in model["optimizer"]["param_groups"]) != len(order):
        return {}
    return {name: {WEIGHT: model["module"][name].float(), **_tensors(state.get(n, {}))} for n, name in enumerate(order)}


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _flat(checkpoint: Path, names: list[list[str]]) -> Named:
    """Read stages 1 and 2: every rank has a part of each group, flattened; a parameter may lie in two of them."""
    pieces: dict[str, dict[str, list[Tensor]]] = {}
    for shard in _shards(checkpoint):
        for number, places in enumerate(shard["param_slice_mappings"]):
            state = shard["base_optimizer_state"]["state"].get(number, {})
            flat = {WEIGHT: shard["single_partition_of_fp32_groups"][number], **_tensors(state)}
            for name, place in places.items():
                _add(pieces.setdefault(name, {}), flat, place.start, place.numel)
    shapes = {name: value.shape for name, value in _model(checkpoint)["module"].items()}
    return _joined(pieces, shapes)


def _sharded(checkpoint: Path, names: list[list[str]]) -> Named:
    """Read stage 3: every rank has an equal part of each parameter, the last one padded."""
    shapes = [*_model(checkpoint)["param_shapes"]]
    ranks = checkpoints.read_state(checkpoint)["ranks"]
    pieces: dict[str, dict[str, list[Tensor]]] = {}
    for rank, shard in enumerate(_shards(checkpoint)):
        for number, group in enumerate(shapes):
            state = shard["optimizer_state_dict"]["state"].get(number, {})
            flat, start = {WEIGHT: shard["fp32_flat_groups"][number], **_tensors(state)}, 0
            for name, shape in group.items():
                share = -(-shape.numel() // ranks)
                _add(pieces.setdefault(name, {}), flat, start, min(share, max(0, shape.numel() - rank * share)))
                start += share
    return _joined(pieces, {name: shape for group in shapes for name, shape in group.items()})


def _add(pieces: dict[str, list[Tensor]], flat: dict[str, Tensor], start: int, count: int) -> None:
    for key, value in flat.items():
        pieces.setdefault(key, []).append(value if key == STEP else value[start : start + count].cpu())


def _joined(pieces: dict[str, dict[str, list[Tensor]]], shapes: dict[str, torch.Size]) -> Named:
    return {
        name: {key: parts[0] if key == STEP else torch.cat(parts).view(shapes[name]) for key, parts in states.items()}
        for name, states in pieces.items()
    }


def _write_rest(checkpoint: Path, target: Path, found: Named, groups: int, zero: int) -> None:
    """Write what DeepSpeed's two loaders read beside the parameters; rates and decay stay the job's own."""
    from importlib.metadata import version

    step = next(iter(found.values())).get(STEP, torch.zeros(()))
    stage_3 = {"state": {0: {STEP: step}}, "param_groups": [{}]}
    rest = {"ds_version": version("deepspeed"), "param_groups": [{}] * groups, "optimizer_state_dict": stage_3}
    torch.save(rest, target / "zero" / "optimizer_state.pt")
    name = "zero_pp_rank_0_mp_rank_00_model_states.pt" if zero == 3 else "mp_rank_00_model_states.pt"
    torch.save({**_model(checkpoint), "optimizer": None}, target / name)
