"""ParticleSet: what is known of a list of particles, from whatever file it came; and Pose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

PoseMode = Literal["free", "local", "fixed", "prior"]
"""What is known of a pose: nothing; about where it is; all; tilt and psi, but not rot."""
CONE = 30.0
"""Degrees that a pose may turn away from what is known of it, unless told otherwise."""


def dimensions(shape: tuple[int, ...]) -> Literal[2, 3]:
    """Return 3 for the shape of a stack of volumes (n, z, y, x), 2 for images (n, y, x) or in colour (n, y, x, 3)."""
    return 3 if len(shape) == 4 and shape[-1] != 3 else 2


class Volumes(Protocol):
    """Boxes on disk, read when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, z, y, x)``, or ``(n, y, x)`` for images."""
        ...

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the boxes of `rows` (counted from 0 in this object), float32."""
        ...

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that are read."""
        ...

    def subset(self, rows: NDArray[np.int64]) -> Volumes:
        """Return the same kind of object for some rows, reading nothing."""
        ...


@dataclass(frozen=True)
class ArrayVolumes:
    """Boxes that are in memory already: a napari layer, a test, a .npz of images."""

    data: NDArray[Any]
    paths: tuple[Path, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array: ``(n, z, y, x)`` or ``(n, y, x)``."""
        return self.data.shape

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the boxes of `rows`, float32."""
        return np.asarray(self.data[rows], dtype=np.float32)

    def subset(self, rows: NDArray[np.int64]) -> ArrayVolumes:
        """Return some rows, as arrays in memory."""
        return ArrayVolumes(self.data[rows])


@dataclass(frozen=True)
class InvertedVolumes:
    """Boxes whose protein is dark, turned over as they are read."""

    of: Volumes

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the boxes themselves."""
        return self.of.shape

    @property
    def paths(self) -> tuple[Path, ...]:
        """As of the boxes themselves."""
        return self.of.paths

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the boxes of `rows`, times -1."""
        return -self.of.read(rows)

    def subset(self, rows: NDArray[np.int64]) -> InvertedVolumes:
        """Return some rows, reading nothing."""
        return InvertedVolumes(self.of.subset(rows))


@dataclass(frozen=True)
class Pose:
    """Where each particle's reference lies in its box.

    ``x_particle = A @ x_reference + p``, about voxel n // 2.
    """

    rotations: Floats
    """(n, 3, 3), ``A``, reference -> particle, in xyz."""
    offsets: Floats
    """(n, 3), ``p`` in Angstrom, xyz."""

    def subset(self, rows: NDArray[np.int64]) -> Pose:
        """Return the poses of `rows`, in that order."""
        return Pose(self.rotations[rows], self.offsets[rows])


@dataclass(frozen=True)
class Tomogram:
    """One tomogram that particles were picked in."""

    name: str
    path: Path | None = None
    """The reconstructed volume; None where the list names none or the file is not there."""
    pixel_size: float | None = None
    """Bin-1 pixel of the tilt series, in Angstrom (``rlnTomoTiltSeriesPixelSize``)."""
    size: tuple[float, float, float] | None = None
    """Size in bin-1 pixels, xyz, as the STAR file gives it."""
    voxel_size: float | None = None
    """Voxel of the reconstructed volume, in Angstrom."""
    shape: tuple[int, int, int] | None = None
    """Shape of the reconstructed volume's file, zyx voxels."""
    tilt_range: tuple[float, float] | None = None
    """Lowest and highest tilt, in degrees."""
    defocus: float | None = None
    """In Angstrom, positive for underfocus."""


@dataclass(frozen=True)
class ParticleSet:
    """A particle list: ids, and whatever else its files say. Volumes are read lazily.

    All arrays have one row per particle. Nothing is ever found by its position in a later file: `ids` are the rows of
    the *original* list, counted from 0, and stay with the particle through extraction, training and export.
    """

    path: Path
    """The file or folder that was opened."""
    ids: Ints
    """(n,) rows of the original particle list."""
    volumes: Volumes | None = None
    voxel_size: float | None = None
    """Of `volumes`, in Angstrom; None where no file says."""
    original: Path | None = None
    """The particle list that `ids` count in; None for a bare stack."""
    text: str | None = None
    """The original list's text, unchanged; None for a bare stack."""
    project: Path | None = None
    """The RELION project folder that paths inside the list are relative to."""
    pose: Pose | None = None
    """Imported pose, in the frame of the box (of the tomogram where there is no box yet)."""
    positions: Floats | None = None
    """(n, 3) centre of the particle, origins applied, in Angstrom from the tomogram's corner voxel, xyz."""
    tomograms: tuple[Tomogram, ...] = ()
    tomogram: Ints | None = None
    """(n,) index into `tomograms`."""
    halves: Ints | None = None
    """(n,) 1 or 2, ``rlnRandomSubset``."""
    prior: Floats | None = None
    """(n, 2) tilt and psi priors, in degrees."""
    defocus: Floats | None = None
    """(n,) in Angstrom."""
    frames: Floats | None = None
    """(n, 3, 3) rotation from the box to its tomogram (``A_sub``), where boxes are not cut along its axes."""
    tilt_range: tuple[float, float] | None = None
    """In degrees; for all particles whose tomogram has none of its own."""
    optimisation_set: Path | None = None
    """The RELION optimisation set that named the list."""
    tomograms_file: Path | None = None
    """The table that `tomograms` were read from."""
    no_boxes: str = ""
    """Why `volumes` is None although the list names boxes: a sentence for people."""
    notes: tuple[str, ...] = field(default=())
    """What was guessed, dropped or is missing, a sentence each."""

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, rows: NDArray[np.int64]) -> ParticleSet:
        """Return the particles of `rows` (positions in this set), in that order."""
        rows = np.asarray(rows, dtype=np.int64)

        def pick(values: NDArray[Any] | None) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            ids=self.ids[rows],
            volumes=None if self.volumes is None else self.volumes.subset(rows),
            pose=None if self.pose is None else self.pose.subset(rows),
            positions=pick(self.positions),
            tomogram=pick(self.tomogram),
            halves=pick(self.halves),
            prior=pick(self.prior),
            defocus=pick(self.defocus),
            frames=pick(self.frames),
        )

    @property
    def prior_pose(self) -> Pose | None:
        """The priors of tilt and psi as poses with rot 0, and the imported offsets or none; None without priors."""
        from napari_disentangle.geometry import euler_to_matrix

        if self.prior is None:
            return None
        rotations = euler_to_matrix(np.pad(self.prior, ((0, 0), (1, 0))))
        return Pose(rotations, np.zeros((len(self), 3)) if self.pose is None else self.pose.offsets)

    def files(self) -> tuple[Path, ...]:
        """Return the lists and tables that were read, the boxes and the tomograms."""
        listed = (
            self.path,
            self.original,
            self.optimisation_set,
            self.tomograms_file,
            *(t.path for t in self.tomograms),
        )
        boxes = () if self.volumes is None else self.volumes.paths
        return tuple(path for path in (*listed, *boxes) if path is not None)

    def inverted(self) -> ParticleSet:
        """Return the same particles with dark and bright exchanged."""
        return self if self.volumes is None else replace(self, volumes=InvertedVolumes(self.volumes))

    def rows_of(self, ids: NDArray[np.int64]) -> Ints:
        """Return the positions of `ids` in this set, in the order given; ids that are not in it raise KeyError."""
        return rows_of(self.ids, ids)

    def tilt_ranges(self) -> Floats | None:
        """Return (n, 2) lowest and highest tilts in degrees, or None where nothing is known to be missing.

        A particle whose range is not known has (-90, 90): nothing missing.
        """
        ranges = np.tile(np.array(self.tilt_range or (-90.0, 90.0), dtype=np.float64), (len(self), 1))
        if self.tomogram is not None:
            for k, tomogram in enumerate(self.tomograms):
                if tomogram.tilt_range is not None:
                    ranges[self.tomogram == k] = tomogram.tilt_range
        return None if (np.abs(ranges) >= 90).all() else ranges

    def without_tilt_ranges(self) -> ParticleSet:
        """Return the same particles as if nothing were known to be missing."""
        return replace(
            self, tilt_range=None, tomograms=tuple(replace(tomogram, tilt_range=None) for tomogram in self.tomograms)
        )


def rows_of(known: Ints, ids: Ints) -> Ints:
    """Return the positions of `ids` in `known`, in the order given; ids that are not in it raise KeyError."""
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known, ids, sorter=order)
    found = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros(len(ids), np.int64)
    if len(ids) and (not len(order) or (known[found] != ids).any()):
        raise KeyError("some ids are not in this particle set")
    return found


def same_list(one: ParticleSet | None, other: ParticleSet | None) -> bool:
    """Return whether ids of both are rows of the same list."""
    if one is None or other is None:
        return False
    return (one.original or one.path.absolute()) == (other.original or other.path.absolute())
