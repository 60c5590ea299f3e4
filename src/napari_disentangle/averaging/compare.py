"""An average beside a map from elsewhere: an earlier reconstruction, a deposited map, a template."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging.fsc import fsc, resolution
from napari_disentangle.averaging.match import match_volume
from napari_disentangle.averaging.points import sphere
from napari_disentangle.errors import InputError
from napari_disentangle.fourier import resampled
from napari_disentangle.io.mrc import open_map, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Map = NDArray[np.float32]

THRESHOLD = 0.5
"""Of the FSC between an average and a map that does not come from the same particles (Rosenthal and Henderson 2003)."""


@dataclass(frozen=True)
class Comparison:
    """A map where the average has it, and how alike they are."""

    volume: Map
    """(n, n, n), the map at the average's voxels, turned and shifted onto it."""
    correlation: float
    """Pearson's, in the sphere."""
    frequency: NDArray[np.float64]
    """(n // 2 + 1,), in 1/A."""
    fsc: NDArray[np.float64]
    """(n // 2 + 1,), of average and map in a soft sphere."""
    resolution_A: float | None
    """Where that falls below 0.5, in Angstrom."""


def compare(average: Map, voxel_size: float, path: Path, *, diameter: float | None = None) -> Comparison:
    """Turn and shift a map onto an average, and correlate them.

    The hand is kept: an average of the other hand correlates less.

    Parameters
    ----------
    average : (n, n, n)
    voxel_size : float
        In Angstrom.
    path : Path
        MRC file of a map, of any voxel size and box.
    diameter : float, optional
        Of the sphere that is compared, in Angstrom; default box / 1.6.

    Raises
    ------
    InputError
        It is not one map, or does not say its voxel size.
    """
    header = read_header(path)
    cube = len(header.shape) == 3 and len(set(header.shape)) == 1
    if cube and path.suffix.lower() not in (".mrcs", ".st"):  # IMOD's maps have the space group of a stack of images
        header = replace(header, kind="volume")
    if header.kind != "volume":
        raise InputError(f"{path} is a stack, not one map; give the file of one map.")
    if header.voxel_size is None:
        raise InputError(f"{path} does not say its voxel size; write it into the header.")
    n = average.shape[-1]
    given = resampled(np.array(open_map(header), dtype=np.float32), n, voxel_size / header.voxel_size)
    if not np.isfinite(given).all() or given.std() == 0:
        raise InputError(f"{path} holds no density within a box of {n * voxel_size:.0f} A; is it the right map?")
    radius = (n * voxel_size / 1.6 if diameter is None else diameter) / 2 / voxel_size
    match = match_volume(given, average, radius=radius)
    moved = match.moved(given)
    frequency, correlation = fsc(average, moved, voxel_size, sphere(n, radius, soft=0.15 * n))
    return Comparison(
        moved, match.correlation, frequency, correlation, resolution(frequency, correlation, threshold=THRESHOLD)
    )
