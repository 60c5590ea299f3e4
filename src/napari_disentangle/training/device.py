"""Where to compute: asked for by name or chosen, said in words, never silently another; and its optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: DeviceName) -> tuple[str, str]:
    """Return the torch device and a sentence for the user.

    Parameters
    ----------
    name : "auto", "cpu", "cuda" or "mps"
        "auto" takes a GPU where there is one.

    Raises
    ------
    InputError
        A GPU was asked for by name and is not there.
    """
    import torch

    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        reason = "this PyTorch is a CPU build" if torch.version.cuda is None else "PyTorch finds no CUDA GPU"
        raise InputError(
            f"--device cuda: {reason}; check nvidia-smi and the installation of PyTorch, or choose --device cpu."
        )
    if name == "cuda" or (name == "auto" and cuda):
        return "cuda", f"on GPU, {torch.cuda.get_device_name(0)}"
    none = "no GPU found"
    if name in ("auto", "mps") and torch.backends.mps.is_available():
        lacking = _lacking("mps")
        if not lacking:
            return "mps", "on the Apple GPU"
        if name == "mps":
            raise InputError(
                f"--device mps: this PyTorch cannot move volumes on an Apple GPU ({lacking}); update PyTorch, or choose --device cpu."
            )
        none = "the Apple GPU needs a newer PyTorch"
    if name == "mps":
        raise InputError("--device mps: PyTorch finds no Apple GPU here; choose --device cpu.")
    cores = f"{torch.get_num_threads()} cores" if torch.get_num_threads() > 1 else "1 core"
    return "cpu", f"on CPU, {cores}" + (f" ({none})" if name == "auto" else "")


def _lacking(device: str) -> str:
    """Return why volumes cannot be moved on a device that is there, and learned from; empty where they can."""
    import torch
    import torch.nn.functional as F

    try:
        volume, grid = (
            torch.zeros(1, *shape, device=device, requires_grad=True) for shape in ((1, 2, 2, 2), (2, 2, 2, 3))
        )
        F.grid_sample(volume, grid, align_corners=False).sum().backward()
    except RuntimeError as error:  # of which NotImplementedError is one
        return str(error).partition(". ")[0].partition("\n")[0]
    return ""


def adam(model: torch.nn.Module, learning_rate: float, device: str) -> torch.optim.Adam:
    """Return the optimiser of a training; on a CPU, where it spares some of a step, in one pass over the weights."""
    import torch

    return torch.optim.Adam(model.parameters(), learning_rate, fused=device == "cpu")
