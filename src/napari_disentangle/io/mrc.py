"""MRC files: headers, boxes read when asked for, and maps written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import new_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Kind = Literal["volume", "volume stack", "image stack"]

MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
SAME_SIZE = 0.01
"""Sizes of voxels that differ by less than this fraction count as equal: headers keep few digits."""


@dataclass(frozen=True)
class MrcHeader:
    """What the header of an MRC file says, checked against the file."""

    path: Path
    shape: tuple[int, ...]
    """``(z, y, x)`` of a volume, ``(n, z, y, x)`` of a volume stack, ``(n, y, x)`` of an image stack."""
    kind: Kind
    voxel_size: float | None
    """In Angstrom; None where the header holds 0."""
    dtype: np.dtype[Any]
    offset: int
    """Byte at which the voxels begin."""
    changed: int = 0
    """When the file was last written (ns): a map of an older file is not used again."""

    @property
    def count(self) -> int:
        """Boxes or images in the file; 1 for a volume."""
        return 1 if self.kind == "volume" else self.shape[0]

    @property
    def box(self) -> tuple[int, ...]:
        """Shape of one box or image."""
        return self.shape if self.kind == "volume" else self.shape[1:]

    def stacked(self, kind: Kind) -> MrcHeader:
        """Return the header read as another kind, where the program that wrote it did not say which.

        Raises
        ------
        InputError
            The file cannot be of this kind.
        """
        if kind == self.kind:
            return self
        nz, ny, nx = self.shape if len(self.shape) == 3 else (self.shape[0] * self.shape[1], *self.shape[2:])
        if kind == "volume stack":
            if ny != nx or nz % ny:
                raise InputError(
                    f"{self.path} has {_by((nz, ny, nx))} voxels (z, y, x), which is not a stack of cubic boxes."
                )
            shape: tuple[int, ...] = (nz // ny, ny, ny, nx)
        else:
            shape = (nz, ny, nx)
        return replace(self, shape=shape, kind=kind)


def read_header(path: Path) -> MrcHeader:
    """Read and check the header of an MRC file.

    Space group 0 means a stack of images, 1 a volume, 401 and above a stack of volumes; where ``mz`` says that a
    "volume" is a column of cubes, it is a stack of volumes too.

    Raises
    ------
    InputError
        No such file, a folder, empty, not MRC, truncated, of a mode or axis order that is not supported, or its voxels
        are not cubic.
    """
    from mrcfile.dtypes import HEADER_DTYPE

    if path.is_dir():
        raise InputError(f"{path} is a folder, not an MRC file.")
    try:
        stat = path.stat()
        with path.open("rb") as file:
            raw = file.read(HEADER_DTYPE.itemsize)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the name.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if not raw:
        raise InputError(f"{path} is empty; copy it again.")
    if len(raw) < HEADER_DTYPE.itemsize:
        raise InputError(f"{path} is not an MRC file: it is shorter than an MRC header; copy it again.")

    order = _byte_order(raw)
    header = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
    mode, nx, ny, nz, mz = (int(header[k]) for k in ("mode", "nx", "ny", "nz", "mz"))
    offset = HEADER_DTYPE.itemsize + int(header["nsymbt"])
    named = bytes(header["map"]).startswith(b"MAP")
    plausible = min(nx, ny, nz) > 0 and int(header["nsymbt"]) >= 0
    if not plausible or (not named and mode not in MODES):
        raise InputError(f"{path} is not an MRC file; give an .mrc or .mrcs file.")
    if mode not in MODES:
        raise InputError(f"{path} has MRC mode {mode}; convert it to mode 2 (float32), or 0, 1, 6 or 12.")
    dtype = np.dtype(order + MODES[mode])
    expected = offset + nx * ny * nz * dtype.itemsize
    if stat.st_size != expected and not named:  # old programs leave out the name, but not the voxels
        raise InputError(f"{path} is not an MRC file; give an .mrc or .mrcs file.")
    if stat.st_size < expected:
        raise InputError(
            f"{path} is truncated: its header promises {expected:,} bytes and it has {stat.st_size:,}; copy it again."
        )
    axes = tuple(int(header[k]) for k in ("mapc", "mapr", "maps"))
    if axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(f"{path} stores its axes in the order {axes}, not (1, 2, 3); convert it to the usual order.")

    kind, shape = _kind(int(header["ispg"]), (nz, ny, nx), mz, path)
    voxel = _voxel_size(header, kind, path)
    return MrcHeader(path, shape, kind, voxel, dtype, offset, stat.st_mtime_ns)


def _byte_order(raw: bytes) -> Literal["<", ">"]:
    """Return the byte order of a header: by its machine stamp, and where that is missing, by what makes nx small."""
    stamp = raw[212]
    if stamp in (0x44, 0x11):
        return "<" if stamp == 0x44 else ">"
    return "<" if int.from_bytes(raw[:4], "little") < int.from_bytes(raw[:4], "big") else ">"


def _kind(ispg: int, shape: tuple[int, int, int], mz: int, path: Path) -> tuple[Kind, tuple[int, ...]]:
    nz, ny, nx = shape
    cubes = ny == nx and nz > ny and nz % ny == 0
    if 401 <= ispg <= 630:
        depth = ny if cubes and (mz == nz or mz <= 0 or nz % mz) else mz
        if depth <= 0 or nz % depth:
            raise InputError(f"{path} says it is a stack of volumes, but {nz} sections are not a multiple of {mz}.")
        return "volume stack", (nz // depth, depth, ny, nx)
    if ispg == 0:
        return "image stack", shape
    if cubes and mz == ny:
        return "volume stack", (nz // ny, ny, ny, nx)
    if nz > 1 and mz == 1:
        return "image stack", shape
    if path.suffix.lower() == ".mrcs" and not nz == ny == nx:
        return "image stack", shape
    return "volume", shape


def _voxel_size(header: Any, kind: Kind, path: Path) -> float | None:
    sizes: list[float] = []
    for axis in "xyz" if kind == "volume" else "xy":  # programs differ in what mz counts in a stack
        cell, count = float(header["cella"][axis]), int(header[f"m{axis}"])
        if count > 0 and np.isfinite(cell) and cell > 0:
            sizes.append(cell / count)
    if not sizes:
        return None
    if max(sizes) > (1 + SAME_SIZE) * min(sizes):
        raise InputError(
            f"{path} has voxels of {_by(f'{s:.4g}' for s in sizes)} A (x, y, z) by its header, which are not cubic; "
            "correct the header."
        )
    return float(f"{sizes[0]:.6g}")  # a quotient of float32: 10.5199995 was 10.52


def _by(numbers: Iterable[object]) -> str:
    return " x ".join(str(n) for n in numbers)


@lru_cache(maxsize=32)
def open_map(header: MrcHeader) -> NDArray[Any]:
    """Return the voxels of a file as a read-only memory map of ``header.shape``."""
    try:
        return np.memmap(header.path, header.dtype, "r", header.offset, header.shape)
    except (OSError, ValueError) as error:
        raise InputError(f"{header.path} cannot be read any more ({error}); was it moved or replaced?") from error


@dataclass(frozen=True)
class MrcVolumes:
    """Boxes in one or several MRC files, read when asked for; can be pickled, and be shared between threads."""

    files: tuple[MrcHeader, ...]
    file: NDArray[np.int64]
    """(n,) index into `files`."""
    section: NDArray[np.int64]
    """(n,) number of the box in its file, counted from 0."""

    @classmethod
    def of_stack(cls, header: MrcHeader) -> MrcVolumes:
        """Return all boxes of one file."""
        return cls((header,), np.zeros(header.count, np.int64), np.arange(header.count))

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, z, y, x)``, or ``(n, y, x)`` for images."""
        return (len(self.file), *self.files[0].box)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that are read."""
        return tuple(header.path for header in self.files)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the boxes of `rows` (counted from 0 in this object), float32."""
        rows = np.asarray(rows, dtype=np.int64)
        boxes = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        file, section = self.file[rows], self.section[rows]
        for k in np.unique(file):
            header = self.files[k]
            here = file == k
            voxels = open_map(header)
            boxes[here] = voxels[None] if header.kind == "volume" else voxels[section[here]]
        return boxes

    def subset(self, rows: NDArray[np.int64]) -> MrcVolumes:
        """Return the same kind of object for some rows, reading nothing."""
        return MrcVolumes(self.files, self.file[rows], self.section[rows])


def write_volume(path: Path, data: NDArray[Any], voxel_size: float, *, overwrite: bool = False) -> None:
    """Write one volume (z, y, x) as float32.

    Parameters
    ----------
    voxel_size : float
        In Angstrom.

    Raises
    ------
    InputError
        The file exists and may not be replaced, or cannot be written.
    """
    with new_file(path, overwrite=overwrite) as part:
        _write(part, np.asarray(data, dtype=np.float32), voxel_size)


def write_volume_stack(
    path: Path, volumes: NDArray[Any] | Iterable[NDArray[Any]], voxel_size: float, *, overwrite: bool = False
) -> int:
    """Write a stack of volumes (space group 401) as float32, one after the other, and return their number.

    Parameters
    ----------
    volumes : (n, z, y, x) or iterable of (z, y, x)
        Only one is in memory at a time.
    voxel_size : float
        In Angstrom.

    Raises
    ------
    InputError
        The file exists and may not be replaced, or cannot be written.
    ValueError
        There are no volumes, or they differ in shape.
    """
    with new_file(path, overwrite=overwrite) as part:
        return _write_stack(part, iter(volumes), voxel_size)


def _write(path: Path, data: NDArray[np.float32], voxel_size: float) -> None:
    import mrcfile

    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        file.voxel_size = voxel_size


def _write_stack(path: Path, volumes: Iterator[NDArray[Any]], voxel_size: float) -> int:
    """Let mrcfile write the header of the first box, append the others, and correct the header's counts."""
    from mrcfile.dtypes import HEADER_DTYPE

    first = next(volumes, None)
    if first is None:
        raise ValueError("there are no volumes to write")
    shape = first.shape
    _write(path, np.asarray(first, dtype=np.float32)[None], voxel_size)
    low, high, total, squares, count = np.inf, -np.inf, 0.0, 0.0, 0
    with path.open("r+b") as file:
        file.seek(HEADER_DTYPE.itemsize)
        for volume in chain([first], volumes):
            box = np.ascontiguousarray(volume, dtype=np.float32)
            if box.shape != shape:
                raise ValueError(f"a volume of shape {box.shape} in a stack of {shape}")
            file.write(box.data)
            low, high = min(low, float(box.min())), max(high, float(box.max()))
            total += float(box.sum(dtype=np.float64))
            squares += float(np.square(box, dtype=np.float64).sum())
            count += 1
    header = np.memmap(path, HEADER_DTYPE, "r+", shape=(1,))
    voxels = count * float(np.prod(shape))
    header["nz"] = count * shape[0]
    header["dmin"], header["dmax"], header["dmean"] = low, high, total / voxels
    header["rms"] = np.sqrt(max(squares / voxels - (total / voxels) ** 2, 0))
    header.flush()
    return count
