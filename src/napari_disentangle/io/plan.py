"""Plan of an extraction: which boxes are cut where, and what is refused before a voxel is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.record import DroppedParticle
from napari_disentangle.io.tomograms import volume_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_disentangle.io.boxes import BoxShape
    from napari_disentangle.io.mrc import MrcHeader
    from napari_disentangle.particles import ParticleSet, Tomogram

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Edge = Literal["refuse", "skip", "pad"]


@dataclass(frozen=True)
class Plan:
    """Which boxes are cut where."""

    particles: ParticleSet
    """Those that get a box; the arrays below have their rows."""
    shape: BoxShape
    tomograms: tuple[Tomogram, ...]
    """Those that boxes are cut from, with their shapes as on disk."""
    headers: tuple[MrcHeader, ...]
    """Of their volumes."""
    tomogram: Ints
    """(n,) index into `tomograms`."""
    centres: Ints
    """(n, 3) centre voxels, xyz."""
    rests: Floats
    """(n, 3) from the centre voxel to the particle, in Angstrom, xyz."""
    whole: NDArray[np.bool_]
    """(n,) whether the box lies inside its tomogram."""
    dropped: tuple[DroppedParticle, ...]
    occupied: tuple[Ints, ...]
    """For each tomogram the centres (k, 3) of all its particles, also those without a box; voxels, xyz."""
    voxel_size: float
    """Of the boxes before binning, in Angstrom; tomograms may differ from it by 0.1 %."""

    @property
    def corners(self) -> Floats:
        """(n, 3) centre voxels in Angstrom from the corner voxel, xyz, each by its own tomogram's voxel size."""
        sizes = np.array([t.voxel_size for t in self.tomograms], dtype=np.float64)
        return self.centres * sizes[self.tomogram, None]


def plan_boxes(particles: ParticleSet, shape: BoxShape, edge: Edge) -> Plan:
    """Place all boxes, judge them by the tomograms' edges, and check what can be checked before reading a voxel."""
    positions = _positions(particles)
    tomograms, headers, tomogram = _open_tomograms(particles)
    voxel_size = _common_voxel_size(tomograms)
    centres, rests = np.empty_like(positions, dtype=np.int64), np.empty_like(positions)
    whole, touching = np.zeros(len(particles), np.bool_), np.zeros(len(particles), np.bool_)
    for k, t in enumerate(tomograms):
        rows = tomogram == k
        assert t.shape is not None
        assert t.voxel_size is not None
        centres[rows], rests[rows] = shape.centres(positions[rows], t.voxel_size)
        whole[rows], touching[rows] = shape.inside(centres[rows], t.shape)
    keep, dropped = _judge_edges(particles, whole, touching, edge)
    rows = np.flatnonzero(keep)
    used, index = np.unique(tomogram[rows], return_inverse=True)
    return Plan(
        particles=particles.subset(rows),
        shape=shape,
        tomograms=tuple(tomograms[k] for k in used),
        headers=tuple(headers[k] for k in used),
        tomogram=index.astype(np.int64),
        centres=centres[rows],
        rests=rests[rows],
        whole=whole[rows],
        dropped=dropped,
        occupied=tuple(centres[tomogram == k] for k in used),
        voxel_size=voxel_size,
    )


def _positions(particles: ParticleSet) -> Floats:
    if not len(particles):
        raise InputError(f"{particles.path} holds no particles; give a list with at least one.")
    if particles.positions is None:
        raise InputError(
            f"{particles.path} gives no positions that can be placed in tomograms, so there is nothing to cut boxes at; give a list of "
            "coordinates, and where they count from the middle (RELION 5) the size too, with --tomograms tomograms.star or --tomogram "
            "volume.mrc."
        )
    finite = np.isfinite(particles.positions).all(1)
    if not finite.all():
        raise InputError(
            f"{particles.path} gives no finite position for {named(particles.ids[~finite])}; correct or remove them."
        )
    return particles.positions


def _open_tomograms(particles: ParticleSet) -> tuple[list[Tomogram], list[MrcHeader], Ints]:
    """Return the tomograms that hold particles, shapes as on disk; their headers; the index (n,) into them."""
    remedy = "give it with --tomograms tomograms.star or --tomogram volume.mrc"
    if not particles.tomograms:
        raise InputError(f"{particles.path} does not say which tomogram its particles are in; {remedy}.")
    index = particles.tomogram if particles.tomogram is not None else np.zeros(len(particles), np.int64)
    used, tomogram = np.unique(index, return_inverse=True)
    tomograms: list[Tomogram] = []
    headers: list[MrcHeader] = []
    for t in (particles.tomograms[k] for k in used):
        if t.path is None:
            listed = particles.tomograms_file or particles.path
            raise InputError(
                f'{listed}: the volume of tomogram "{t.name}" was not found where its list says; put it there, or {remedy}.'
            )
        header = volume_header(t.path)
        z, y, x = header.shape
        tomograms.append(replace(t, shape=(z, y, x)))
        headers.append(header)
    return tomograms, headers, tomogram.astype(np.int64)


def _common_voxel_size(tomograms: Sequence[Tomogram]) -> float:
    """Return the voxel size in Angstrom of all tomograms, which boxes of one stack must share."""
    for t in tomograms:
        if t.voxel_size is None or not t.voxel_size > 0:
            raise InputError(f'{t.path}, tomogram "{t.name}", does not say its voxel size; give it with --voxel-size.')
    first = tomograms[0]
    assert first.voxel_size is not None
    for t in tomograms[1:]:
        assert t.voxel_size is not None
        if not math.isclose(t.voxel_size, first.voxel_size, rel_tol=1e-3):
            raise InputError(
                f'Tomogram "{t.name}" has voxels of {t.voxel_size:g} A and "{first.name}" of {first.voxel_size:g} A; '
                "reconstruct them alike, or extract their particles separately."
            )
    return first.voxel_size


def _judge_edges(
    particles: ParticleSet, whole: NDArray[np.bool_], touching: NDArray[np.bool_], edge: Edge
) -> tuple[NDArray[np.bool_], tuple[DroppedParticle, ...]]:
    """Return which particles are kept under an edge policy, and the others with the reason."""
    ids, n = particles.ids, len(particles)
    advice = "check the voxel size, the binning and which tomogram the list belongs to"
    if not touching.any():
        raise InputError(f"Every one of the {n} boxes of {particles.path} lies outside its tomogram; {advice}.")
    if edge == "refuse" and not whole.all():
        over = ids[~whole]
        raise InputError(
            f"{len(over)} of {n} boxes of {particles.path} reach over the edge of their tomogram ({named(over)}); "
            "leave them out with --edge skip, or fill them up with --edge pad."
        )
    if edge == "pad" and not touching.all():
        away = ids[~touching]
        raise InputError(
            f"{len(away)} of {n} boxes of {particles.path} lie outside their tomogram altogether ({named(away)}); "
            "leave them out with --edge skip."
        )
    if edge == "skip" and not whole.any():
        raise InputError(
            f"Every one of the {n} boxes of {particles.path} reaches over the edge of its tomogram; "
            f"make the box smaller, use --edge pad, or {advice}."
        )
    if edge != "skip":
        return np.ones(n, np.bool_), ()
    reasons = {True: "the box reaches over the tomogram's edge", False: "the box lies outside the tomogram"}
    dropped = [
        DroppedParticle(id=int(i), why=reasons[bool(t)]) for i, t in zip(ids[~whole], touching[~whole], strict=True)
    ]
    return whole, tuple(dropped)


def named(ids: Ints) -> str:
    """Return the first few ids in words."""
    few = ", ".join(str(i) for i in ids[:5])
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    return f"particle{'s' if len(ids) > 1 else ''} {few}{more}, counted from 0"
