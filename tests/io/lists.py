"""Small lists and volumes that tests write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from pathlib import Path

Columns = Mapping[str, Sequence[object]]


CORNERS = [[16.0, 40.0, 24.0], [150.0, 100.0, 60.5]]
ANGLES = {"rlnAngleRot": [10.0, -40.0], "rlnAngleTilt": [20.0, 70.0], "rlnAnglePsi": [30.0, 5.0]}
FRAMES = {
    "rlnTomoSubtomogramRot": [50.0, 1.0],
    "rlnTomoSubtomogramTilt": [60.0, 88.0],
    "rlnTomoSubtomogramPsi": [70.0, -9.0],
}
ORIGINS = {"rlnOriginXAngst": [1.0, 0.0], "rlnOriginYAngst": [2.0, -4.0], "rlnOriginZAngst": [-3.0, 0.5]}


def matrices(columns: dict[str, list[float]]) -> np.ndarray:
    """RELION's A(rot, tilt, psi) written out: Rz(psi) Ry(tilt) Rz(rot) of passive rotations (CONVENTIONS)."""
    return Rotation.from_euler("ZYZ", np.array(list(columns.values())).T, degrees=True).inv().as_matrix()


def star(**blocks: Columns | Mapping[str, object]) -> str:
    """Return STAR text: lists become loops, single values pairs."""
    parts: list[str] = []
    for name, columns in blocks.items():
        parts.append(f"\ndata_{name}\n")
        if all(isinstance(v, (list, tuple, np.ndarray)) for v in columns.values()):
            parts.append("loop_")
            parts += [f"_{label} #{k + 1}" for k, label in enumerate(columns)]
            parts += ["  ".join(str(v) for v in row) for row in zip(*columns.values(), strict=True)]
        else:
            parts += [f"_{label} {value}" for label, value in columns.items()]
    return "\n".join(parts) + "\n"


def write_star(path: Path, **blocks: Columns | Mapping[str, object]) -> Path:
    """Write `star` of blocks, and the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(star(**blocks))
    return path


def write_map(path: Path, data: np.ndarray, voxel: float = 10.0) -> Path:
    """Write a volume or, of four axes, a stack of volumes; a voxel size of 0 where it is 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.asarray(data, dtype=np.float32))
        file.voxel_size = voxel
    return path


def boxes(count: int, size: int = 6, seed: int = 0) -> np.ndarray:
    """Return (count, size, size, size) of noise."""
    return np.random.default_rng(seed).normal(size=(count, size, size, size)).astype(np.float32)


def coordinates(xyz: np.ndarray, *, centred: bool = False) -> dict[str, list[float]]:
    """Return coordinate columns of RELION 4, or of 5."""
    names = [f"rlnCenteredCoordinate{k}Angst" if centred else f"rlnCoordinate{k}" for k in "XYZ"]
    return {name: list(column) for name, column in zip(names, np.asarray(xyz, dtype=float).T, strict=True)}


def project(
    folder: Path,
    *,
    shape: tuple[int, int, int] = (20, 30, 40),
    voxel: float = 10.0,
    pixel: float = 2.5,
    size: tuple[float, float, float] | None = None,
    **columns: list[object],
) -> Path:
    """Write a RELION 5 project with one tomogram, binned by 4, and return its table of tomograms."""
    write_map(folder / "Tomograms/job1/rec_TS_1.mrc", np.zeros(shape), voxel)
    x, y, z = size or tuple(n * 4 for n in shape[::-1])
    table = {
        "rlnTomoName": ["TS_1"],
        "rlnTomoTiltSeriesPixelSize": [pixel],
        "rlnTomoTomogramBinning": [4.0],
        "rlnTomoSizeX": [x],
        "rlnTomoSizeY": [y],
        "rlnTomoSizeZ": [z],
        "rlnTomoReconstructedTomogram": ["Tomograms/job1/rec_TS_1.mrc"],
    }
    return write_star(folder / "Tomograms/job1/tomograms.star", **{"global": {**table, **columns}})


def picks(folder: Path, xyz: object, *, centred: bool = False, name: str = "picks", **columns: list[object]) -> Path:
    table = {"rlnTomoName": ["TS_1"] * len(np.asarray(xyz)), **coordinates(np.asarray(xyz), centred=centred)}
    return write_star(folder / f"Picks/job2/{name}.star", particles={**table, **columns})
