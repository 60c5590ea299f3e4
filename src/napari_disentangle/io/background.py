"""Grey values of a tomogram's background, from boxes at random places."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_disentangle.io.boxes import BoxShape

    Ints = NDArray[np.int64]

BOXES = 64
ENOUGH = 8
"""Fewer places than these away from the particles, and places anywhere serve better."""


@dataclass(frozen=True)
class Background:
    """Mean and standard deviation of a tomogram where there is no particle, as far as can be told."""

    mean: float
    std: float
    """Of the boxes after binning."""
    boxes: int
    away: bool
    """Whether all the boxes' centres are further than half a box from every particle."""


def measure_background(
    volume: NDArray[Any], shape: BoxShape, centres: Ints, *, name: str, seed: int = 0
) -> Background | None:
    """Measure the background of a tomogram on boxes cut and binned like those of the particles.

    The medians of the boxes' means and standard deviations: a gold bead or a carbon edge in a few of them does not
    count.

    Parameters
    ----------
    volume : (z, y, x)
        A memory map: only the boxes are read.
    shape : BoxShape
    centres : (k, 3)
        Centre voxels of the particles, xyz.
    name : str
        Of the tomogram: each has places of its own, whatever its number in the list.
    seed : int

    Returns
    -------
    Background or None
        None where every box is constant or holds voxels that are not numbers.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    places, away = _places(volume.shape, shape, centres, rng)
    means: list[float] = []
    stds: list[float] = []
    for place in places:
        box = shape.read(volume, place).astype(np.float64)
        if np.isfinite(box).all() and box.min() < box.max():
            means.append(float(box.mean()))
            stds.append(float(box.std()))
    if not means:
        return None
    return Background(float(np.median(means)), float(np.median(stds)), len(means), away)


def _places(
    volume_shape: tuple[int, ...], shape: BoxShape, centres: Ints, rng: np.random.Generator
) -> tuple[Ints, bool]:
    """Draw centre voxels (m, 3), xyz, of boxes inside the volume; and whether they are away from the particles."""
    from scipy.spatial import KDTree

    before, after = shape.reach
    size = np.array(volume_shape[::-1])
    low, high = np.full(3, before), size - after
    low, high = np.where(low < high, low, size // 2), np.where(low < high, high, size // 2 + 1)
    candidates = rng.integers(low, high, size=(40 * BOXES, 3))
    if not len(centres):
        return candidates[:BOXES], True
    distance = np.asarray(KDTree(centres).query(candidates)[0])
    free = candidates[distance > shape.size * shape.bin / 2]
    return (free[:BOXES], True) if len(free) >= ENOUGH else (candidates[:BOXES], False)
