"""Density maps placed at random, and the table of the truth about them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix, matrix_to_euler, place_volumes, random_rotations
from napari_disentangle.io.mrc import open_map, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.simulate.settings import Settings

    Ints = NDArray[np.int64]
    Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Maps:
    """Density maps (k, n, n, n) with the identity and state that their file names tell."""

    data: Boxes
    identity: list[str]
    state: list[str]

    @property
    def box(self) -> int:
        """Voxels along each axis."""
        return self.data.shape[-1]


def read_maps(folder: Path) -> Maps:
    """Read all the .mrc maps of a folder, named IDENTITY_STATE.mrc.

    Raises
    ------
    InputError
        There are none, they are not cubes of one size, or they hold voxels that are not numbers.
    """
    files = sorted(folder.glob("*.mrc"))
    if not files:
        raise InputError(f"{folder} holds no .mrc maps; give a folder of cubic maps named IDENTITY_STATE.mrc.")
    data = [np.asarray(open_map(read_header(f)), dtype=np.float32) for f in files]
    for file, volume in zip(files, data, strict=True):
        if volume.ndim != 3 or set(volume.shape) != {data[0].shape[0]}:
            raise InputError(f"{file} has shape {volume.shape}; all the maps must be cubes of one size.")
        if not np.isfinite(volume).all():
            raise InputError(f"{file} holds voxels that are not numbers; repair or remove it.")
    names = [f.stem.partition("_") for f in files]
    return Maps(np.stack(data).astype(np.float32), [n[0] for n in names], [n[2] for n in names])


def draw(maps: Maps, index: Ints, settings: Settings, rng: np.random.Generator) -> tuple[Boxes, list[dict[str, Any]]]:
    """Place the maps of `index` (n,) at random; return boxes (n, z, y, x) and a row of truth for each."""
    import torch

    n = len(index)
    angles = matrix_to_euler(random_rotations(n, rng))
    if settings.max_tilt < 180:  # uniform in the cap of directions around z, not in its angle
        angles[:, 1] = np.degrees(np.arccos(rng.uniform(np.cos(np.radians(settings.max_tilt)), 1, n)))
    rotations = torch.from_numpy(euler_to_matrix(angles).astype(np.float32))
    shifts = rng.uniform(-settings.shift, settings.shift, (n, 3))
    moves = torch.from_numpy(shifts.astype(np.float32))
    densities = torch.from_numpy(maps.data)
    boxes = np.empty((n, *maps.data.shape[1:]), np.float32)
    for at in range(0, n, 64):
        batch = slice(at, at + 64)
        boxes[batch] = place_volumes(densities[torch.from_numpy(index[batch])], rotations[batch], moves[batch]).numpy()
    truth: list[dict[str, Any]] = []
    names = ("rot", "tilt", "psi", "shift_x", "shift_y", "shift_z")
    for row, k in enumerate(index):
        pose = zip(names, (float(v) for v in (*angles[row], *shifts[row])), strict=True)
        truth.append({"particle": row, "identity": maps.identity[k], "state": maps.state[k], **dict(pose)})
    return boxes, truth


def write_truth(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of truth as a table: particle, identity, state, angles in degrees, shift in voxels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
