"""Where the particles of a list lie in their tomograms, in Angstrom, whatever the list counts in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.particle_table import CENTRED, CORNER, FRAME, ORIGIN, ORIGIN_PIXELS
from napari_disentangle.io.tomograms import TomogramTable, one_tomogram, read_tomograms, same_size, some
from napari_disentangle.particles import Tomogram

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.io.particle_table import ParticleTable

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

SizeFrom = Literal["star", "volume"]

TOLERANCE = 1.5
"""Voxels by which the size of a volume may differ from its list's: programs round, and some round to even numbers."""

ENOUGH = 5
"""Particles of a tomogram from which on the range of their coordinates means something."""

PIXELS = ("rlnTomoTiltSeriesPixelSize", "rlnMicrographOriginalPixelSize", "rlnMicrographPixelSize", "rlnPixelSize")


@dataclass(frozen=True)
class Where:
    """What the caller said about the tomograms."""

    tomograms: Path | None = None
    tomogram: Path | None = None
    voxel_size: float | None = None
    """Of the volumes, in Angstrom."""
    size_from: SizeFrom | None = None
    """Whose size centred coordinates count from where a list and a volume disagree; None refuses."""
    coordinate_pixel: float | None = None
    """In Angstrom: what corner coordinates count in, where the list does not say or is wrong."""
    in_voxels: bool = False
    """Whether corner coordinates count in voxels of the volumes, as those of CSV files do."""


@dataclass(frozen=True)
class Placement:
    """Tomograms of a list and the places of its particles in them."""

    tomograms: tuple[Tomogram, ...] = ()
    tomogram: Ints | None = None
    positions: Floats | None = None
    notes: tuple[str, ...] = ()


def place(table: ParticleTable, where: Where, image_pixel: Floats | None) -> Placement:
    """Find the tomograms of a list and the places of its particles.

    Parameters
    ----------
    table : ParticleTable
    where : Where
    image_pixel : (n,), optional
        Pixel of the boxes in Angstrom, which origins before RELION 3.1 count in.

    Raises
    ------
    InputError
        Files are missing or damaged, or contradict one another.
    """
    if not table.has(*CORNER) and not table.has(*CENTRED):
        return Placement()
    names = _tomogram_names(table)
    unique = list(dict.fromkeys(names))
    found = _tomograms(table, where, unique)
    order = {t.name: k for k, t in enumerate(found.tomograms)}
    index = np.array([order[name] for name in names], dtype=np.int64)
    notes = list(found.notes)
    tomograms, pixel = _pixel_sizes(table, where, found.tomograms, index, notes)
    if table.has(*CENTRED):
        places = _centred(table, where, tomograms, index, notes)
    else:
        places = _corner(table, where, tomograms, index, pixel, notes)
    if places is not None:
        places = places - tomogram_origins(table, image_pixel)
        _count_outside(places, tomograms, index, notes)
    return Placement(tomograms, index, places, tuple(notes))


def _tomogram_names(table: ParticleTable) -> list[str]:
    for column in ("rlnTomoName", "rlnMicrographName"):
        if table.has(column):
            return table.block.column(column)
    return ["tomogram"] * len(table)


def _tomograms(table: ParticleTable, where: Where, names: list[str]) -> TomogramTable:
    if where.tomogram is not None and where.tomograms is not None:
        raise InputError("Give either --tomograms with a STAR file or --tomogram with one volume, not both.")
    if where.tomogram is not None:
        if len(names) > 1:
            raise InputError(
                f"{table.path} has particles of {len(names)} tomograms ({names[0]}, {names[1]}, ...) and --tomogram gives one volume; "
                "give --tomograms with the project's tomograms.star."
            )
        return one_tomogram(where.tomogram, names[0], voxel_size=where.voxel_size)
    if where.tomograms is not None:
        return read_tomograms(where.tomograms, names=names, voxel_size=where.voxel_size)
    return TomogramTable(tuple(Tomogram(name) for name in names))


def _pixel_sizes(
    table: ParticleTable, where: Where, tomograms: tuple[Tomogram, ...], index: Ints, notes: list[str]
) -> tuple[tuple[Tomogram, ...], Floats | None]:
    """Return tomograms that know their bin-1 pixel, and (n,) what corner coordinates count in, if known."""
    column = next((c for c in PIXELS if table.size(c) is not None), None)
    listed = table.size(column) if column else detector_pixel(table)
    if listed is not None and column != PIXELS[0] and table.has(*CORNER) and where.coordinate_pixel is None:
        name = column or "rlnDetectorPixelSize"
        notes.append(f"Coordinates are taken in pixels of {listed[0]:g} A, the list's {name}.")
    known: list[Tomogram] = []
    differing: list[str] = []
    for k, tomogram in enumerate(tomograms):
        own = listed[index == k] if listed is not None else np.zeros(0)
        mine = float(own[0]) if len(own) else None
        if mine is not None and tomogram.pixel_size is not None and not same_size(mine, tomogram.pixel_size):
            differing.append(
                f"{tomogram.name} has a pixel size of {mine:g} A by {table.path} and {tomogram.pixel_size:g} A by {where.tomograms}"
            )
        known.append(replace(tomogram, pixel_size=tomogram.pixel_size or mine))
    if differing and not table.has(*CENTRED) and where.coordinate_pixel is None:
        raise InputError(f"Tomogram {differing[0]}; give the right one with --coordinate-pixel.")
    if differing:
        more = f", and {len(differing) - 1} more tomograms differ" if len(differing) > 1 else ""
        notes.append(f"Tomogram {differing[0]}{more}; the latter is used.")
    if where.coordinate_pixel is not None:
        return tuple(known), np.full(len(index), where.coordinate_pixel)
    if where.in_voxels:
        voxels = np.array([t.voxel_size or 0.0 for t in known])
        return tuple(replace(t, pixel_size=t.pixel_size or t.voxel_size) for t in known), voxels[
            index
        ] if voxels.all() else None
    if all(t.pixel_size is not None for t in known):
        return tuple(known), np.array([float(t.pixel_size or 0) for t in known])[index]
    if where.tomogram is not None and (where.voxel_size is not None or table.has(*CENTRED)):
        # Nothing says how the volume was binned: its own voxels count as bin 1.
        voxel = known[0].voxel_size or 0.0
        if not table.has(*CENTRED):
            notes.append(
                f"{table.path} has no pixel size: its coordinates are taken in voxels of {where.tomogram}, {voxel:g} A."
            )
        return tuple(replace(t, pixel_size=voxel) for t in known), np.full(len(index), voxel)
    return tuple(known), None


def detector_pixel(table: ParticleTable) -> Floats | None:
    """Return the pixel sizes in Angstrom of lists before RELION 3.1, (n,): detector pixel (um) / magnification."""
    detector = table.size("rlnDetectorPixelSize")
    if detector is None:
        return None
    magnification = table.size("rlnMagnification")
    return detector * 1e4 / (np.full(len(table), 1e4) if magnification is None else magnification)


def _corner(
    table: ParticleTable,
    where: Where,
    tomograms: tuple[Tomogram, ...],
    index: Ints,
    pixel: Floats | None,
    notes: list[str],
) -> Floats | None:
    coordinates = table.vectors(CORNER)
    assert coordinates is not None
    if pixel is None:
        if where.tomogram is not None:
            voxel = tomograms[0].voxel_size
            raise InputError(
                f"{table.path} has coordinates in pixels and does not say how large a pixel is; if they are voxels of "
                f"{where.tomogram}, give --voxel-size {voxel:g}."
            )
        notes.append(
            f"{table.path} has coordinates in pixels and does not say how large a pixel is: give its tomograms, or "
            "--coordinate-pixel in Angstrom."
        )
        return None
    if disagreeing := [t for t in tomograms if _disagree(t)]:
        more = f" ({len(disagreeing)} tomograms are like this)" if len(disagreeing) > 1 else ""
        notes.append(f"{_two_sizes(disagreeing[0], where)}{more}; corner coordinates do not depend on it.")
    places = coordinates * pixel[:, None]
    if where.coordinate_pixel is None:
        _refuse_binned(table, tomograms, index, places, pixel, notes)
    return places


def _refuse_binned(
    table: ParticleTable, tomograms: tuple[Tomogram, ...], index: Ints, places: Floats, pixel: Floats, notes: list[str]
) -> None:
    """Ask about coordinates that all lie in one corner of their tomograms, as binned ones do (Warp)."""
    binning = table.number("rlnTomoSubtomogramBinning")
    for k, tomogram in enumerate(tomograms):
        here = index == k
        extent = _extent(tomogram)
        factor = 1.0
        if tomogram.voxel_size is not None and tomogram.pixel_size:
            factor = tomogram.voxel_size / tomogram.pixel_size
        elif binning is not None:
            factor = float(binning[here][0])
        if extent is None or factor < 1.9 or here.sum() < ENOUGH:
            continue
        if (places[here] <= extent / factor).all():
            small, large = float(pixel[here][0]), float(pixel[here][0]) * factor
            words = (
                f"all {here.sum()} particles of {tomogram.name} lie in one corner of it if the coordinates of {table.path} are "
                f"pixels of {small:g} A; they look like voxels of {large:g} A"
            )
            if tomogram.path is not None:
                raise InputError(
                    f"{words}: give --coordinate-pixel {large:.6g} if they are, or --coordinate-pixel {small:g}."
                )
            notes.append(f"{words[0].upper()}{words[1:]} (--coordinate-pixel {large:.6g}).")
            return


def _centred(
    table: ParticleTable, where: Where, tomograms: tuple[Tomogram, ...], index: Ints, notes: list[str]
) -> Floats | None:
    coordinates = table.vectors(CENTRED)
    assert coordinates is not None
    half = np.zeros((len(tomograms), 3))
    by_volume: list[str] = []
    for k, tomogram in enumerate(tomograms):
        listed, volume = _listed_extent(tomogram), _volume_extent(tomogram)
        if _disagree(tomogram):
            if where.size_from is None:
                assert listed is not None
                assert volume is not None
                raise _sizes_disagree(tomogram, where, coordinates[index == k], listed, volume)
            notes.append(f"{_two_sizes(tomogram, where)}; coordinates are centred on that of the {where.size_from}.")
            extent = listed if where.size_from == "star" else volume
        elif listed is None and volume is not None:
            extent = volume
            by_volume.append(tomogram.name)
        else:
            extent = listed
        if extent is None:
            notes.append(
                f"{table.path} has coordinates from the middle of its tomograms, whose sizes are not known: give --tomograms, "
                "--tomogram or the optimisation set."
            )
            return None
        half[k] = extent / 2
    if by_volume:
        notes.append(f"Coordinates of {some(by_volume)} are centred on the size of the volume; no list gives another.")
    return coordinates + half[index]


def tomogram_origins(table: ParticleTable, image_pixel: Floats | None) -> Floats:
    """Return what is subtracted from positions, ``A_sub @ origin``, (n, 3) in Angstrom, xyz."""
    shifts = origins(table, image_pixel)
    frames = table.rotations(FRAME)
    return shifts if frames is None else np.einsum("nij,nj->ni", frames, shifts)


def origins(table: ParticleTable, image_pixel: Floats | None) -> Floats:
    """Return ``rlnOriginX/Y/ZAngst``, (n, 3) in Angstrom, xyz; zeros where the list has none.

    Parameters
    ----------
    image_pixel : (n,), optional
        Pixel of the boxes in Angstrom, which ``rlnOriginX/Y/Z`` (before RELION 3.1) count in.

    Raises
    ------
    InputError
        Origins count in pixels of a size that nothing says.
    """
    shifts = table.vectors(ORIGIN)
    if shifts is not None:
        return shifts
    pixels = table.vectors(ORIGIN_PIXELS)
    if pixels is None or not pixels.any():
        return np.zeros((len(table), 3))
    if image_pixel is None:
        raise InputError(
            f"{table.path} has _rlnOriginX in pixels and does not say how large a pixel is; give --voxel-size in Angstrom."
        )
    return pixels * image_pixel[:, None]


def _listed_extent(tomogram: Tomogram) -> Floats | None:
    if tomogram.size is None or tomogram.pixel_size is None:
        return None
    return np.array(tomogram.size) * tomogram.pixel_size


def _volume_extent(tomogram: Tomogram) -> Floats | None:
    if tomogram.shape is None or tomogram.voxel_size is None:
        return None
    return np.array(tomogram.shape[::-1], dtype=np.float64) * tomogram.voxel_size


def _extent(tomogram: Tomogram) -> Floats | None:
    """Return the size of a tomogram in Angstrom, xyz."""
    volume = _volume_extent(tomogram)
    return _listed_extent(tomogram) if volume is None else volume


def _disagree(tomogram: Tomogram) -> bool:
    listed, volume = _listed_extent(tomogram), _volume_extent(tomogram)
    if listed is None or volume is None or tomogram.voxel_size is None:
        return False
    return bool((np.abs(listed - volume) / tomogram.voxel_size > TOLERANCE).any())


def _two_sizes(tomogram: Tomogram, where: Where) -> str:
    listed, voxel = _listed_extent(tomogram), tomogram.voxel_size
    assert listed is not None
    assert voxel is not None
    assert tomogram.shape is not None
    by_list = " x ".join(f"{v:g}" for v in np.round(listed / voxel, 1))
    by_volume = " x ".join(str(v) for v in tomogram.shape[::-1])
    return f"The size of {tomogram.name} is {by_list} voxels (x, y, z) by {where.tomograms} and {by_volume} by the header of {tomogram.path}"


def _sizes_disagree(
    tomogram: Tomogram, where: Where, coordinates: Floats, listed: Floats, volume: Floats
) -> InputError:
    inside = [int(_inside(coordinates + extent / 2, volume).sum()) for extent in (listed, volume)]
    return InputError(
        f"{_two_sizes(tomogram, where)}, and coordinates that count from the middle depend on it; give --size-from volume "
        f"(then {inside[1]} of its {len(coordinates)} particles lie inside the volume), --size-from star ({inside[0]} lie inside), or the "
        "tomograms.star that belongs to the volume."
    )


def _inside(places: Floats, extent: Floats) -> NDArray[np.bool_]:
    return np.asarray(((places >= 0) & (places <= extent)).all(1))


def _count_outside(places: Floats, tomograms: tuple[Tomogram, ...], index: Ints, notes: list[str]) -> None:
    outside = 0
    for k, tomogram in enumerate(tomograms):
        extent = _extent(tomogram)
        if extent is not None:
            outside += int((~_inside(places[index == k], extent)).sum())
    if outside:
        notes.append(f"{outside} of {len(places)} particles lie outside their tomogram.")
