"""How far an average has come: beside the unaligned one and the one at the true poses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_disentangle.averaging.match import match_volume
from napari_disentangle.averaging.refine import Poses, half_averages
from napari_disentangle.averaging.wedges import wedges_of
from napari_disentangle.errors import InputError
from napari_disentangle.fourier import resampled
from napari_disentangle.io.mrc import open_map, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.metrics.truth import Truth
    from napari_disentangle.particles import ParticleSet

    Map = NDArray[np.float32]

SMALL_GAP = 0.005
"""Of correlation between unaligned and true poses, below which a fraction of the way says nothing."""


class AverageEvaluation(BaseModel):
    """Correlations of one selection's averages with its identity's mean map. `str` gives the line that people read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    selection: Annotated[str, Field(description="Name of what was averaged.")]
    identity: Annotated[str, Field(description="The most frequent identity in it, by the truth table.")]
    particles: Annotated[int, Field(description="Particles averaged.")]
    purity: Annotated[float, Field(description="Fraction of them that are of that identity.")]
    radius: Annotated[float, Field(description="Of the sphere that is correlated, in Angstrom.")]
    unaligned: Annotated[float, Field(description="Correlation of the plain mean of the boxes.")]
    aligned: Annotated[float, Field(description="Of the average that is evaluated.")]
    true_poses: Annotated[float, Field(description="Of the average at the true poses: what can be had.")]
    to_true_average: Annotated[
        float, Field(description="Correlation of the evaluated average with the average at the true poses.")
    ]
    fraction: Annotated[
        float | None,
        Field(description="Of the way from unaligned to true poses; None where the two are nearly alike."),
    ]

    def __str__(self) -> str:
        way = "no gap to speak of" if self.fraction is None else f"{self.fraction:.2f} of the way"
        return (
            f"{self.selection} ({self.particles} particles, {self.purity:.0%} {self.identity}): unaligned "
            f"{self.unaligned:.3f}, average {self.aligned:.3f}, true poses {self.true_poses:.3f}: {way}"
        )


def evaluate_average(
    volume: Map,
    particles: ParticleSet,
    truth: Truth,
    maps: Path,
    *,
    selection: str = "",
    diameter: float | None = None,
    truth_voxel: float | None = None,
    device: str = "cpu",
) -> AverageEvaluation:
    """Correlate an average with the mean map of what most of its particles are.

    Three averages of the same particles - plain mean, `volume`, and at the true poses (wedge accounted for as in
    `average`) - each at best over one rigid motion, hand kept, in a sphere (METHODS, "Metrics").

    Parameters
    ----------
    volume : (n, n, n)
        The average.
    particles : ParticleSet
        What was averaged, with volumes.
    truth : Truth
        With poses.
    maps : Path
        Folder of IDENTITY_STATE.mrc.
    diameter : float, optional
        Of the sphere, in A; default box / 1.6.
    truth_voxel : float, optional
        Of the shifts in `truth`, in A; default the boxes'.

    Raises
    ------
    InputError
        The truth has no poses, does not know the particles, or there is no map of their identity.
    """
    if particles.volumes is None or particles.voxel_size is None:
        raise InputError(f"{particles.path} has no boxes with a voxel size; an average of them cannot be evaluated.")
    if truth.rotations is None or truth.shifts is None:
        raise InputError(f"{truth.path} has no poses (rot, tilt, psi, shift_x, shift_y, shift_z) to average at.")
    n, voxel = particles.volumes.shape[-1], particles.voxel_size
    order = np.argsort(truth.ids)
    at = order[np.minimum(np.searchsorted(truth.ids, particles.ids, sorter=order), len(order) - 1)]
    if (truth.ids[at] != particles.ids).any():
        raise InputError(
            f"{truth.path} does not list all the particles that were averaged; give the table of this data set."
        )
    names, counts = np.unique(truth.identity[at], return_counts=True)
    identity = str(names[counts.argmax()])
    reference = mean_map(maps, identity, n, voxel)
    radius = (n * voxel / 1.6 if diameter is None else diameter) / 2 / voxel
    rotations = np.where(np.isfinite(truth.rotations[at]), truth.rotations[at], np.eye(3))  # junk has no pose
    shifts = np.nan_to_num(truth.shifts[at]) * (truth_voxel or voxel) / voxel
    none = Poses(np.tile(np.eye(3), (len(at), 1, 1)), np.zeros((len(at), 3)))
    half = np.arange(len(at)) % 2 == 1
    unaligned = half_averages(particles, half, None, none, size=n, raw=True, device=device)[2]
    true = half_averages(
        particles, half, wedges_of(particles), Poses(rotations, shifts), size=n, raw=True, device=device
    )[2]
    low, ours, high = (match_volume(v, reference, radius=radius).correlation for v in (unaligned, volume, true))
    return AverageEvaluation(
        selection=selection,
        identity=identity,
        particles=len(at),
        purity=float(counts.max() / len(at)),
        radius=radius * voxel,
        unaligned=low,
        aligned=ours,
        true_poses=high,
        to_true_average=match_volume(volume, true, radius=radius).correlation,
        fraction=(ours - low) / (high - low) if high - low > SMALL_GAP else None,
    )


def mean_map(folder: Path, identity: str, size: int, voxel: float) -> Map:
    """Return the mean of ``IDENTITY_*.mrc``, (size, size, size) at `voxel` Angstrom.

    Raises
    ------
    InputError
        There is none, or they do not have one shape and a voxel size.
    """
    files = sorted(f for f in folder.glob("*.mrc") if f.stem.partition("_")[0] == identity)
    if not files:
        raise InputError(f"{folder} holds no map of {identity}; its maps should be named {identity}_STATE.mrc.")
    headers = [read_header(f) for f in files]
    if len({h.shape for h in headers}) > 1 or len(headers[0].shape) != 3 or len(set(headers[0].shape)) != 1:
        raise InputError(f"The maps of {identity} in {folder} are not cubes of one size.")
    step = voxel / (headers[0].voxel_size or voxel)
    total = np.mean([np.asarray(open_map(h), dtype=np.float32) for h in headers], axis=0)
    return resampled(total, size, step)
