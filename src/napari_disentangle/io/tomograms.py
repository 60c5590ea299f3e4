"""Tomograms: what `tomograms.star`, the tilt series and the volumes' own headers say of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.mrc import SAME_SIZE, MrcHeader, read_header
from napari_disentangle.io.project import Project
from napari_disentangle.io.star import Block, StarFile
from napari_disentangle.particles import Tomogram

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

VOLUMES = ("rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised", "rlnTomoReconstructedTomogramHalf1")
TILTS = ("rlnTomoYTilt", "rlnTomoNominalStageTiltAngle", "rlnTomoTiltAngle")


@dataclass(frozen=True)
class TomogramTable:
    """The tomograms of a list, and what was guessed or is missing, a sentence each."""

    tomograms: tuple[Tomogram, ...]
    notes: tuple[str, ...] = ()


def tomogram_block(star: StarFile) -> Block | None:
    """Return the block of a STAR file that lists tomograms, or None where it lists none."""
    for block in sorted(star.blocks, key=lambda b: b.name != "global"):
        if "rlnTomoName" in block and ("rlnTomoSizeX" in block or "rlnTomoTiltSeriesPixelSize" in block):
            coordinates = {"rlnCoordinateX", "rlnCenteredCoordinateXAngst", "rlnImageName"}
            if not coordinates & set(block.columns):
                return block
    return None


def read_tomograms(
    path: Path, *, names: Collection[str] | None = None, voxel_size: float | None = None
) -> TomogramTable:
    """Read a ``tomograms.star`` of RELION 4 or 5 or of Warp, the tilt series it names, and the headers of its volumes.

    Parameters
    ----------
    path : Path
    names : collection of str, optional
        Only these tomograms; all by default.
    voxel_size : float, optional
        Of the volumes, in Angstrom, where the files do not say or are wrong.

    Raises
    ------
    InputError
        It lists no tomograms, or lacks one of `names`; a volume is damaged, or its voxel size is not the list's.
    """
    star = StarFile.read(path)
    block = tomogram_block(star)
    if block is None:
        raise InputError(
            f"{path} lists no tomograms (no block with _rlnTomoName and _rlnTomoSizeX); give the tomograms.star of the project."
        )
    listed = block.column("rlnTomoName")
    lacking = [n for n in names or () if n not in listed]
    if lacking:
        raise InputError(
            f"{path} does not list the tomogram {lacking[0]} ({len(lacking)} missing); it has {some(listed)}. "
            "Give the tomograms.star that belongs to the particles."
        )
    reader = _Reader(star, block, Project(path), voxel_size)
    tomograms = tuple(reader.read(row) for row, name in enumerate(listed) if names is None or name in names)
    return TomogramTable(tomograms, tuple(reader.notes()))


def one_tomogram(path: Path, name: str, *, voxel_size: float | None = None) -> TomogramTable:
    """Return the table of a single volume that all particles were picked in.

    Raises
    ------
    InputError
        The volume is missing or damaged, or nothing says its voxel size.
    """
    header = volume_header(path)
    notes: list[str] = []
    if voxel_size is not None and header.voxel_size is not None and not same_size(voxel_size, header.voxel_size):
        notes.append(
            f"The voxel size given, {voxel_size:g} A, is used instead of {header.voxel_size:g} A in the header of {path}."
        )
    voxel = voxel_size or header.voxel_size
    if voxel is None:
        raise no_voxel_size(path)
    return TomogramTable((Tomogram(name, path.absolute(), voxel_size=voxel, shape=_zyx(header)),), tuple(notes))


def volume_header(path: Path) -> MrcHeader:
    """Return the header of a tomogram; IMOD writes the space group of a stack of images, which does not matter here."""
    header = read_header(path)
    if header.kind == "volume stack":
        raise InputError(f"{path} is a stack of {header.count} volumes, not a tomogram.")
    return replace(header, kind="volume")


def no_voxel_size(path: Path) -> InputError:
    """Return the error for a file whose voxel size is 0 where it is needed."""
    return InputError(
        f"{path} has a voxel size of 0 in its header, and no list says it; give --voxel-size in Angstrom."
    )


def same_size(a: float, b: float) -> bool:
    """Return whether two voxel sizes are equal for all that headers can say."""
    return abs(a - b) <= SAME_SIZE * max(abs(a), abs(b))


class _Reader:
    """Reads one tomogram after the other and gathers what is missing into few sentences."""

    def __init__(self, star: StarFile, block: Block, project: Project, voxel_size: float | None) -> None:
        self._star, self._block, self._project, self._voxel_size = star, block, project, voxel_size
        self._missing: dict[str, list[str]] = {}
        self._notes: list[str] = []

    def notes(self) -> list[str]:
        path, missing = self._star.path, self._missing
        notes = list(self._notes)
        if volumes := missing.get("volume"):
            notes.append(f"{len(volumes)} reconstructed tomograms that {path} names are not there: {some(volumes)}.")
        if unnamed := missing.get("unnamed"):
            notes.append(
                f"{path} names no reconstructed volume for {some(unnamed)}; give one volume with --tomogram, or add _{VOLUMES[0]}."
            )
        if series := missing.get("series"):
            notes.append(f"{len(series)} tilt series that {path} names are not there: {some(series)}.")
        return notes

    def read(self, row: int) -> Tomogram:
        name = self._text(row, "rlnTomoName")
        pixel = self._number(row, "rlnTomoTiltSeriesPixelSize")
        binning = self._number(row, "rlnTomoTomogramBinning")
        sizes = [self._number(row, f"rlnTomoSize{k}") for k in "XYZ"]
        size = None if None in sizes else (float(sizes[0] or 0), float(sizes[1] or 0), float(sizes[2] or 0))
        listed = pixel * binning if pixel and binning else None
        path = self._volume(row, name)
        voxel, shape = listed, None
        if path is not None:
            header = volume_header(path)
            voxel, shape = self._voxel(name, header, listed), _zyx(header)
        series = self._series(row, name)
        tilt_range = None if series is None else _tilt_range(series)
        defocus = None if series is None else _defocus(series)
        return Tomogram(name, path, pixel, size, voxel, shape, tilt_range, defocus)

    def _text(self, row: int, column: str) -> str:
        return self._block.column(column)[row] if column in self._block else ""

    def _number(self, row: int, column: str) -> float | None:
        """Return a size, or None where it is absent, 0 or negative."""
        if column not in self._block:
            return None
        value = float(self._block.numbers(column)[row])
        return value if value > 0 else None

    def _volume(self, row: int, name: str) -> Path | None:
        named = {column: self._text(row, column) for column in VOLUMES if self._text(row, column)}
        for column, text in named.items():
            found = self._project.find(text)
            if found is not None:
                if column != VOLUMES[0]:
                    kind = "denoised volume" if column.endswith("Denoised") else "first half's volume"
                    note = f"The {kind} is used where the list names no full reconstruction that is there."
                    if note not in self._notes:
                        self._notes.append(note)
                return found
        self._missing.setdefault("volume" if named else "unnamed", []).append(next(iter(named.values()), name))
        return None

    def _voxel(self, name: str, header: MrcHeader, listed: float | None) -> float:
        if self._voxel_size is not None:
            if listed is not None and not same_size(self._voxel_size, listed):
                self._notes.append(
                    f"The voxel size given, {self._voxel_size:g} A, is used for {name} instead of {listed:g} A in {self._star.path}."
                )
            return self._voxel_size
        if header.voxel_size is None:
            if listed is None:
                raise no_voxel_size(header.path)
            self._notes.append(
                f"{header.path} has no voxel size in its header; {listed:g} A is taken from {self._star.path}."
            )
            return listed
        if listed is not None and not same_size(listed, header.voxel_size):
            raise InputError(
                f"The voxel size of {name} is {listed:g} A by {self._star.path} (pixel size x binning) and "
                f"{header.voxel_size:g} A by the header of {header.path}; give the right one with --voxel-size."
            )
        return listed or header.voxel_size

    def _series(self, row: int, name: str) -> Block | None:
        """Return the table with a row per tilt: a block of this file (RELION 4, Warp) or a file of its own."""
        for block in self._star.blocks:
            if block.name == name and block is not self._block:
                return block
        named = self._text(row, "rlnTomoTiltSeriesStarFile")
        if not named:
            return None
        found = self._project.find(named)
        if found is None:
            self._missing.setdefault("series", []).append(named)
            return None
        return next((b for b in StarFile.read(found).blocks if b.loop and len(b)), None)


def _tilt_range(series: Block) -> tuple[float, float] | None:
    """Return the lowest and highest tilt in degrees.

    A projection matrix turns the specimen by ``Ry(tilt)`` first, so that the third row, which is the direction of the
    beam in the tomogram, is ``(-sin tilt, 0, cos tilt)``.
    """
    for column in TILTS:
        if column in series and len(series):
            tilts = series.numbers(column)
            return float(tilts.min()), float(tilts.max())
    if "rlnTomoProjZ" in series and len(series):
        rows = np.array([[float(v) for v in text.strip("[]").split(",")[:3]] for text in series.column("rlnTomoProjZ")])
        tilts = -np.degrees(np.arcsin(np.clip(rows[:, 0] / np.linalg.norm(rows, axis=1), -1, 1)))
        return round(float(tilts.min()), 3), round(float(tilts.max()), 3)
    return None


def _defocus(series: Block) -> float | None:
    if "rlnDefocusU" not in series or not len(series):
        return None
    u = series.numbers("rlnDefocusU")
    v = series.numbers("rlnDefocusV") if "rlnDefocusV" in series else u
    return float((u + v).mean() / 2)


def _zyx(header: MrcHeader) -> tuple[int, int, int]:
    nz, ny, nx = header.shape
    return nz, ny, nx


def some(names: Collection[str], most: int = 3) -> str:
    """Return the first names of many."""
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:most]) + (f" and {len(unique) - most} more" if len(unique) > most else "")
