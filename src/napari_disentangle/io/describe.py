"""Description: what was understood of a file, for people and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from napari_disentangle.io.mrc import read_header
from napari_disentangle.io.stacks import MRC_SUFFIXES
from napari_disentangle.io.star import StarFile
from napari_disentangle.io.tomograms import read_tomograms, tomogram_block
from napari_disentangle.particles import dimensions

if TYPE_CHECKING:
    from napari_disentangle.io.placement import SizeFrom
    from napari_disentangle.particles import ParticleSet, Tomogram

Range = tuple[float, float]

MOST_LINES = 12
"""Tomograms named in a text for people; the JSON names all."""


class TomogramDescription(BaseModel):
    """One tomogram of a list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    particles: int | None = None
    """How many of the list's are in it; None where there is no list."""
    path: Path | None = None
    pixel_size: float | None = None
    """Bin-1 pixel, in Angstrom."""
    size: tuple[float, float, float] | None = None
    """In bin-1 pixels, xyz, as the list gives it."""
    voxel_size: float | None = None
    """In Angstrom."""
    shape: tuple[int, int, int] | None = None
    """Of the volume, zyx voxels."""
    tilt_range: Range | None = None
    """In degrees."""
    defocus: float | None = None
    """In Angstrom."""


class Description(BaseModel):
    """What was understood of a file; ``str`` of it is for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    path: Path
    kind: Literal["boxes", "images", "positions", "list", "tomograms", "volume"]
    """A ``list`` names boxes that are not there, and no positions."""
    original: Path | None = None
    """The particle list that ids count in."""
    project: Path | None = None
    """RELION project folder."""
    particles: int | None = None
    shape: tuple[int, ...] | None = None
    """Of one box or image, or of the volume; zyx voxels."""
    voxel_size: float | None = None
    """Of boxes, images or the volume, in Angstrom."""
    poses: bool = False
    priors: bool = False
    halves: tuple[int, int] | None = None
    """Particles in half-sets 1 and 2."""
    defocus: Range | None = None
    """Least and most, in Angstrom."""
    tilt_range: Range | None = None
    """In degrees, for all particles whose tomogram has none of its own."""
    tomograms: tuple[TomogramDescription, ...] = ()
    notes: tuple[str, ...] = ()
    """What was guessed or is missing, a sentence each."""

    def __str__(self) -> str:
        return "\n".join([f"{self.path}: {_headline(self)}", *(f"  {line}" for line in _details(self))])


def describe(
    path: Path,
    *,
    tomograms: Path | None = None,
    tomogram: Path | None = None,
    voxel_size: float | None = None,
    tilt_range: tuple[float, float] | None = None,
    size_from: SizeFrom | None = None,
    coordinate_pixel: float | None = None,
) -> Description:
    """Say what was understood of a particle list, an optimisation set, a table of tomograms, a stack or a volume.

    Parameters and errors as `read_particles`.
    """
    from napari_disentangle.io import read_particles

    path = Path(path)
    if path.suffix.lower() in MRC_SUFFIXES and path.is_file():
        header = read_header(path)
        if header.kind == "volume":
            return Description(
                path=path,
                kind="volume",
                shape=header.shape,
                voxel_size=voxel_size or header.voxel_size,
                tilt_range=tilt_range,
            )
    if path.suffix.lower() == ".star" and path.is_file():
        block = tomogram_block(StarFile.read(path))
        if block is not None and len(block):
            table = read_tomograms(path, voxel_size=voxel_size)
            return Description(
                path=path,
                kind="tomograms",
                tilt_range=tilt_range,
                tomograms=tuple(_tomogram(t) for t in table.tomograms),
                notes=table.notes,
            )
    return describe_particles(
        read_particles(
            path,
            tomograms=tomograms,
            tomogram=tomogram,
            voxel_size=voxel_size,
            tilt_range=tilt_range,
            size_from=size_from,
            coordinate_pixel=coordinate_pixel,
        )
    )


def describe_particles(particles: ParticleSet) -> Description:
    """Say what is known of particles."""
    shape = None if particles.volumes is None else particles.volumes.shape[1:]
    counts = np.zeros(len(particles.tomograms), dtype=np.int64)
    if particles.tomogram is not None:
        counts = np.bincount(particles.tomogram, minlength=len(counts))
    halves, defocus = particles.halves, particles.defocus
    return Description(
        path=particles.path,
        kind=_kind(particles, shape),
        original=particles.original,
        project=particles.project,
        particles=len(particles),
        shape=shape,
        voxel_size=particles.voxel_size,
        poses=particles.pose is not None,
        priors=particles.prior is not None,
        halves=None if halves is None else (int((halves == 1).sum()), int((halves == 2).sum())),
        defocus=None if defocus is None else (float(defocus.min()), float(defocus.max())),
        tilt_range=particles.tilt_range,
        tomograms=tuple(_tomogram(t, int(n)) for t, n in zip(particles.tomograms, counts, strict=True) if n),
        notes=particles.notes,
    )


def _kind(particles: ParticleSet, shape: tuple[int, ...] | None) -> Literal["boxes", "images", "positions", "list"]:
    if shape is not None:
        return "boxes" if dimensions((len(particles), *shape)) == 3 else "images"
    return "list" if particles.tomogram is None else "positions"


def _tomogram(tomogram: Tomogram, particles: int | None = None) -> TomogramDescription:
    return TomogramDescription(
        name=tomogram.name,
        particles=particles,
        path=tomogram.path,
        pixel_size=tomogram.pixel_size,
        size=tomogram.size,
        voxel_size=tomogram.voxel_size,
        shape=tomogram.shape,
        tilt_range=tomogram.tilt_range,
        defocus=tomogram.defocus,
    )


def _headline(d: Description) -> str:
    shape = " x ".join(str(n) for n in d.shape or ())
    size = "voxel size not known" if d.voxel_size is None else f"{d.voxel_size:g} A per voxel"
    if d.kind == "volume":
        return f"one volume of {shape} voxels (z, y, x), {size}"
    if d.kind == "tomograms":
        return f"a table of {_count(len(d.tomograms), 'tomogram')}"
    if d.kind == "positions":
        return f"{_count(d.particles or 0, 'position')} of particles, no boxes yet"
    if d.kind == "list":
        return f"{_count(d.particles or 0, 'particle')}, but not their boxes"
    if d.kind == "images":
        return f"{_count(d.particles or 0, 'image')} of {shape} pixels, {size}"
    return f"{_count(d.particles or 0, 'particle')} in boxes of {shape} voxels, {size}"


def _details(d: Description) -> list[str]:
    lines: list[str] = []
    if d.particles is not None:
        halves = "none" if d.halves is None else f"{d.halves[0]} and {d.halves[1]} particles"
        lines.append(f"poses: {_yes(d.poses)}; pose priors: {_yes(d.priors)}; half-sets: {halves}")
    if d.defocus is not None:
        lines.append(f"defocus: {d.defocus[0]:.0f} to {d.defocus[1]:.0f} A")
    if d.tilt_range is not None:
        lines.append(f"tilt range: {d.tilt_range[0]:g} to {d.tilt_range[1]:g} degrees")
    if d.project is not None:
        lines.append(f"project folder: {d.project}")
    lines.extend(_tomogram_line(t) for t in d.tomograms[:MOST_LINES])
    if len(d.tomograms) > MOST_LINES:
        lines.append(f"and {len(d.tomograms) - MOST_LINES} more tomograms")
    lines.extend(f"note: {note}" for note in d.notes)
    return lines


def _tomogram_line(t: TomogramDescription) -> str:
    parts = [f"tomogram {t.name}:"]
    parts.append("" if t.particles is None else f"{_count(t.particles, 'particle')},")
    parts.append(
        "volume not found" if t.path is None else f"{' x '.join(str(n) for n in t.shape or ())} voxels (z, y, x)"
    )
    parts.append("" if t.voxel_size is None else f"of {t.voxel_size:g} A")
    line = " ".join(p for p in parts if p)
    tilts = (
        "tilt range not known" if t.tilt_range is None else f"tilts {t.tilt_range[0]:g} to {t.tilt_range[1]:g} degrees"
    )
    defocus = "" if t.defocus is None else f", defocus {t.defocus:.0f} A"
    return f"{line}, {tilts}{defocus}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
