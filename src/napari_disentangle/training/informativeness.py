"""Do the codes explain voxels? The reconstruction error with each particle's own code, and with another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.training.encoding import load_model
from napari_disentangle.training.inputs import read_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.run import Run

MOST = 1000
"""Particles that are looked at."""
_BATCH = 128


@dataclass(frozen=True)
class ReconstructionErrors:
    """Squared differences of decoded and aligned particles inside the soft sphere, means over voxels and particles.

    In units of the background's variance: with noisy particles most of each number is noise.
    """

    own: float
    """With every particle's own codes."""
    content_permuted: float
    """With the content of another particle."""
    transform_permuted: float
    """With the pose of another particle."""


def reconstruction_errors(run: Run, *, device: str = "cpu", seed: int = 0) -> ReconstructionErrors:
    """Return the reconstruction errors of a trained run.

    Raises
    ------
    InputError
        Not trained yet, or a model without poses.
    """
    import torch

    from napari_disentangle.geometry import align_volumes
    from napari_disentangle.models.losses import sampled_region, squared_distance
    from napari_disentangle.models.nets import soft_sphere

    codes = run.codes()
    if codes.pose is None:
        raise InputError(
            f"{run.path} has a model without poses; its reconstruction cannot be compared with its particles."
        )
    model, geometry, _ = load_model(run, device=device)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(codes.ids))[:MOST])
    everything = run.particles()
    inputs = read_inputs(everything.subset(everything.rows_of(codes.ids[rows])), run.recipe)
    size = geometry.fine if run.recipe.training.fine_epochs else geometry.coarse
    sphere = (soft_sphere(size, geometry.sphere * size) if geometry.sphere else torch.ones((size,) * 3)).to(device)
    order = rng.permutation(len(rows))
    sums = np.zeros(3)

    def tensor(values: np.ndarray) -> Tensor:  # pyright: ignore[reportMissingTypeArgument]
        return torch.as_tensor(np.asarray(values, dtype=np.float32)).to(device)

    def error(at: np.ndarray, content: np.ndarray, moved: np.ndarray) -> float:  # pyright: ignore[reportMissingTypeArgument]
        batch = inputs.batch(at, size, device)
        turns = tensor(codes.pose.rotations[rows[moved]])  # pyright: ignore[reportOptionalMemberAccess]
        shifts = tensor(codes.pose.offsets[rows[moved]] / geometry.edge * size)  # pyright: ignore[reportOptionalMemberAccess]
        aligned = align_volumes(batch.volumes, turns, shifts)
        seen = None
        if batch.tilts is not None:
            seen = sampled_region(size, batch.tilts, turns if batch.frames is None else batch.frames @ turns)
        decoded = model.decode(tensor(codes.content[rows[content]]), size)
        return float(squared_distance(decoded, aligned, sphere, seen)) * len(at)

    with torch.no_grad():
        for start in range(0, len(rows), _BATCH):
            at = np.arange(start, min(start + _BATCH, len(rows)))
            sums += [error(at, at, at), error(at, order[at], at), error(at, at, order[at])]
    own, content, transform = (float(value) for value in sums / len(rows))
    return ReconstructionErrors(own, content, transform)
