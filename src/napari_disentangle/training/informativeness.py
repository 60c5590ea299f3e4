"""Do the codes explain voxels? What the reconstruction explains with each particle's own code, and with another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.models import model_info
from napari_disentangle.training.encoding import load_model
from napari_disentangle.training.inputs import read_inputs, with_poses

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.run import Run

MOST = 1000
"""Particles that are looked at."""
_BATCH = 128


@dataclass(frozen=True)
class ExplainedVariance:
    """Of the voxels inside the soft sphere: the variance about the particles' mean that the reconstruction explains.

    In units of the background's variance, mean over voxels: the mean's squared error less the reconstruction's. Noise
    counts in neither.
    """

    own: float
    """With every particle's own codes."""
    permuted: dict[str, float]
    """With another particle's "content", "transformation" or, beside a transformation code, "pose"."""


def explained_variance(run: Run, *, device: str = "cpu", seed: int = 0, most: int = MOST) -> ExplainedVariance:
    """Return what the reconstructions of a trained run explain, of `most` particles, as they lie in their boxes.

    Raises
    ------
    InputError
        Not trained yet, or a model that decodes nothing.
    """
    import torch

    from napari_disentangle.models.base import Encoding

    info = model_info(run.recipe.model.name)
    if not info.decodes:
        raise InputError(f"{info.title} has no decoder, so that nothing of {run.path} can be reconstructed.")
    codes = run.codes()
    model, geometry, _ = load_model(run, device=device)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(codes.ids))[:most])
    everything = run.particles()
    some = codes.ids[rows]
    inputs = read_inputs(everything.subset(everything.rows_of(some)), run.recipe, scale=run.scale(some))
    if codes.pose is not None:
        inputs = with_poses(inputs, codes.pose.subset(rows))
    size = geometry.fine if run.recipe.training.fine_epochs else geometry.coarse
    order = rng.permutation(len(rows))
    sphere = model.sphere(size)
    every = np.arange(len(rows))
    batches = [every[k : k + _BATCH] for k in range(0, len(every), _BATCH)]

    def tensor(values: NDArray[np.float32]) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float32)).to(device)

    def error(content: NDArray[np.int64], transform: NDArray[np.int64], pose: NDArray[np.int64]) -> float:
        total = 0.0
        for at in batches:
            batch, moved = inputs.batch(at, size, device), pose[at]
            turns = None if codes.pose is None else tensor(inputs.rotations[moved])
            shifts = None if codes.pose is None else tensor(inputs.shifts[moved])
            code = Encoding(
                tensor(codes.content[rows[content[at]]]), tensor(codes.transform[rows[transform[at]]]), turns, shifts
            )
            difference = (model.reconstruct(batch, code) - batch.volumes) * sphere
            total += float(difference.square().mean()) * len(at)
        return total / len(rows)

    with torch.no_grad():
        sums = squares = torch.zeros((), dtype=torch.float64)
        for at in batches:
            volumes = (inputs.batch(at, size, device).volumes * sphere).double()
            sums, squares = sums + volumes.sum(0), squares + volumes.square().mean() * len(at)
        about_mean = float(squares / len(rows) - (sums / len(rows)).square().mean())
        variance = about_mean * len(rows) / max(len(rows) - 1, 1)  # their own mean explains a part of few particles
        own = variance - error(every, every, every)
        permuted = {"content": variance - error(order, every, every)}
        if model.explicit:
            permuted["transformation"] = variance - error(every, order, order)
        elif codes.transform.shape[1]:
            permuted["transformation"] = variance - error(every, order, every)
            if codes.pose is not None:
                permuted["pose"] = variance - error(every, every, order)
    return ExplainedVariance(own, permuted)
