"""A first look at particles, before anything is computed from them: some boxes, their mean, and the sign of protein."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.fourier import low_passed
from napari_disentangle.io.boxes import BoxShape
from napari_disentangle.io.mrc import open_map, read_header
from napari_disentangle.particles import ParticleSet, dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Map = NDArray[np.float32]

SHOWN = 16
AVERAGED = 96
"""Boxes that the unaligned mean is of; the shown ones among them."""
RESOLUTION = 30.0
"""In A, for the eye; never finer than 3 voxels."""
BOX_OF_DIAMETER = 1.6
MOST_VOXELS = 32
"""Per edge of a box for training: finer boxes are cropped in Fourier space to so many."""
FEWEST_VOXELS = 16


@dataclass(frozen=True)
class Preview:
    """What the eye needs to say that boxes look right."""

    ids: Ints
    """(k,) of the boxes shown."""
    slices: Map
    """(k, n, n) their central slices, low-passed; images as they are."""
    mean: Map
    """(n, n) central slice of the unaligned mean, or the mean of images."""
    voxel_size: float | None
    """In A; None of images whose files do not say."""
    resolution: float | None
    """In A, that they are low-passed to; None of images, which are as they are."""
    dark: bool
    """Whether protein is darker than what surrounds it, by the mean."""


def box_for(diameter: float, voxel_size: float) -> BoxShape:
    """Return the box that a particle is extracted in: 1.6 diameters wide, at most 32 and at least 16 voxels.

    Parameters
    ----------
    diameter, voxel_size : float
        In Angstrom; the voxel size is the tomogram's.
    """
    voxels = BOX_OF_DIAMETER * diameter / voxel_size
    if voxels <= FEWEST_VOXELS:
        return BoxShape(FEWEST_VOXELS)
    if voxels <= MOST_VOXELS:
        return BoxShape(int(2 * np.ceil(voxels / 2)))
    return BoxShape(MOST_VOXELS, round(float(voxels / MOST_VOXELS), 3))


def preview(particles: ParticleSet, *, diameter: float | None, seed: int = 0) -> Preview:
    """Read some boxes, or cut them out of the tomograms, and average them as they lie.

    Parameters
    ----------
    particles : ParticleSet
    diameter : float, optional
        Of the particle, in A; needed where boxes have to be cut.
    seed : int
        Of the choice of particles.

    Raises
    ------
    InputError
        There are neither boxes nor tomograms, or no size in Angstrom.
    """
    order = np.random.default_rng(seed).permutation(len(particles))
    if particles.volumes is not None and dimensions(particles.volumes.shape) == 2:
        rows, boxes, voxel = order[:AVERAGED], grey(particles.volumes.read(order[:AVERAGED])), particles.voxel_size
    else:
        rows, boxes, voxel = some_boxes(particles, order, diameter, AVERAGED)
    axes = tuple(range(1, boxes.ndim))
    finite = np.isfinite(boxes).all(axis=axes)
    rows, boxes = rows[finite], boxes[finite]
    if not len(boxes):
        raise InputError(
            f"{particles.path}: none of the boxes that were looked at holds numbers only; check the volumes."
        )
    spread = boxes.std(axis=axes, keepdims=True)
    boxes = (boxes - boxes.mean(axis=axes, keepdims=True)) / np.where(spread > 0, spread, 1)
    ids = particles.ids[rows[:SHOWN]]
    if boxes.ndim == 3 or voxel is None:
        return Preview(ids, boxes[:SHOWN], boxes.mean(0), voxel, None, dark=False)
    resolution = max(RESOLUTION, 3 * voxel)
    shown = low_passed(boxes[:SHOWN], voxel, resolution)
    mean = low_passed(boxes.mean(0, keepdims=True), voxel, resolution)[0]
    n = mean.shape[-1]
    return Preview(ids, shown[:, n // 2], mean[n // 2], voxel, resolution, _is_dark(mean))


def grey(images: Map) -> Map:
    """Return images (b, y, x) as they are, and colours (b, y, x, 3) as their mean."""
    return images if images.ndim == 3 else images.mean(-1)


def some_boxes(particles: ParticleSet, order: Ints, diameter: float | None, most: int) -> tuple[Ints, Map, float]:
    """Read boxes, or cut them out of the tomograms as extraction would, in memory and not normalised.

    Parameters
    ----------
    particles : ParticleSet
    order : (n,)
        Rows, the first to try first; those whose box reaches over an edge are passed over.
    diameter : float, optional
        Of the particle, in A; needed where boxes have to be cut.
    most : int
        How many.

    Returns
    -------
    rows (k,), boxes (k, n, n, n), voxel size in A

    Raises
    ------
    InputError
        As `preview`.
    """
    if particles.volumes is not None:
        if particles.voxel_size is None:
            raise InputError(
                f"Neither {particles.path} nor its boxes say their voxel size; give --voxel-size in Angstrom."
            )
        rows = order[:most]
        return rows, particles.volumes.read(rows), particles.voxel_size
    if particles.positions is None or particles.tomogram is None or not any(t.path for t in particles.tomograms):
        raise InputError(
            particles.no_boxes
            or f"{particles.path} lists positions, and none of its tomograms was found; say where they are to see boxes."
        )
    if diameter is None:
        raise InputError(f"{particles.path} lists positions, not boxes; give the particle's diameter to see boxes.")
    shape: BoxShape | None = None
    rows, boxes, size = [], [], 0.0
    for row in order:
        tomogram = particles.tomograms[particles.tomogram[row]]
        if tomogram.path is None or tomogram.voxel_size is None:
            continue
        if shape is None:
            shape, size = box_for(diameter, tomogram.voxel_size), tomogram.voxel_size
        volume = open_map(read_header(tomogram.path))
        centres, _ = shape.centres(particles.positions[row : row + 1], tomogram.voxel_size)
        if not shape.inside(centres, volume.shape)[0][0]:
            continue
        rows.append(row)
        boxes.append(shape.read(volume, centres[0]))
        if len(rows) == most:
            break
    if shape is None or not boxes:
        raise InputError(
            f"{particles.path}: no box of {BOX_OF_DIAMETER * diameter:.0f} A lies inside its tomogram; check the diameter, the voxel "
            "size and which tomogram the list belongs to."
        )
    return np.array(rows, np.int64), np.stack(boxes), size * shape.bin


def _is_dark(mean: Map) -> bool:
    """Compare the middle of an unaligned mean (n, n, n) with its rim."""
    n = mean.shape[-1]
    z, y, x = np.ogrid[:n, :n, :n]
    radius = np.sqrt((z - n // 2) ** 2 + (y - n // 2) ** 2 + (x - n // 2) ** 2)
    return bool(mean[radius < 0.2 * n].mean() < mean[radius > 0.42 * n].mean())
