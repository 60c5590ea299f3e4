"""Checkpoints: weights and optimiser as safetensors, counters and random state as JSON; never pickle."""

from __future__ import annotations

import base64
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_disentangle.errors import InputError
from napari_disentangle.models.base import BY_FAMILY

if TYPE_CHECKING:
    from pathlib import Path

    import torch

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Counters:
    """How far a run has come."""

    epoch: int
    """Epochs done, of both stages."""
    step: int
    """Steps done."""
    seconds: float
    """Spent training."""
    epoch_random: torch.Tensor | None = None
    """Random state in which the present epoch was begun: with it, an epoch that was cut short goes on as shuffled."""


def save_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    counters: Counters,
) -> None:
    """Write the next ``checkpoints/NNNN``, point ``current`` to it, and drop all but one older.

    Parameters
    ----------
    folder : Path
        The run folder.
    """
    root = folder / "checkpoints"
    root.mkdir(exist_ok=True)
    for left in root.glob(".*.part-*"):  # by a writer that was killed
        shutil.rmtree(left, ignore_errors=True)
    name = f"{max([0, *_numbers(root)]) + 1:04d}"  # never that of an older one: `current` may name it
    part = root / f".{name}.part-{os.getpid()}"
    part.mkdir()
    try:
        _write(part, model, optimiser, generator, counters)
        os.replace(part, root / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    pointer = folder / f".current.part-{os.getpid()}"
    pointer.write_text(name)
    os.replace(pointer, folder / "current")
    for old in _numbers(root)[:-2]:
        shutil.rmtree(root / f"{old:04d}", ignore_errors=True)


def _numbers(root: Path) -> list[int]:
    return sorted(int(p.name) for p in root.iterdir() if p.is_dir() and p.name.isdigit())


def _write(
    part: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator, counters: Counters
) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, part / "model.safetensors")
    moments = {
        f"{index}.{key}": value.contiguous().cpu()
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    save_file(moments, part / "optimiser.safetensors")
    state = {
        "schema_version": SCHEMA_VERSION,
        "epoch": counters.epoch,
        "step": counters.step,
        "seconds": counters.seconds,
        "random": _to_text(generator.get_state()),
        "epoch_random": None if counters.epoch_random is None else _to_text(counters.epoch_random),
        "learning_rate": [group["lr"] for group in optimiser.param_groups],
    }
    (part / "state.json").write_text(json.dumps(state))


def _to_text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _from_text(text: str) -> torch.Tensor:
    import torch

    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def checkpoint_folder(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a run folder, or None before the first.

    Raises
    ------
    InputError
        What `current` names is not there: the folder was damaged or copied in part.
    """
    try:
        name = (folder / "current").read_text().strip()
    except FileNotFoundError:
        return None
    found = folder / "checkpoints" / name
    if not all((found / file).is_file() for file in ("state.json", "model.safetensors", "optimiser.safetensors")):
        raise InputError(
            f"{folder / 'current'} names checkpoint {name}, which is not whole; copy the run again, or train it anew."
        )
    return found


def load_weights(checkpoint: Path, model: torch.nn.Module, device: str = "cpu") -> None:
    """Load the weights of a checkpoint into a model of the same settings.

    One of an earlier version may know fewer families of particles: what it has not is 0.
    """
    import torch
    from safetensors.torch import load_file

    stored = load_file(checkpoint / "model.safetensors", device=device)
    for name, buffer in model.named_buffers():
        if name in BY_FAMILY and len(stored.get(name, buffer)) < len(buffer):
            stored[name] = torch.cat([stored[name], buffer[len(stored[name]) :].to(stored[name])])
    model.load_state_dict(stored)


def load_checkpoint(
    checkpoint: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator, device: str
) -> Counters:
    """Restore weights, optimiser and random state; return the counters."""
    from safetensors.torch import load_file

    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    if state["schema_version"] > SCHEMA_VERSION:
        raise InputError(
            f"{checkpoint} was written by a newer napari-disentangle; update napari-disentangle to go on with it."
        )
    load_weights(checkpoint, model, device)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(checkpoint / "optimiser.safetensors").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    whole = optimiser.state_dict()
    whole["state"] = moments
    for group, rate in zip(whole["param_groups"], state["learning_rate"], strict=True):
        group["lr"] = rate
    optimiser.load_state_dict(whole)
    generator.set_state(_from_text(state["random"]))
    begun = state.get("epoch_random")
    return Counters(state["epoch"], state["step"], state["seconds"], None if begun is None else _from_text(begun))


def fingerprint(checkpoint: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights."""
    import hashlib

    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
