"""Boxes in MRC files: the sections that `rlnImageName` names, one file per particle, or a bare stack."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.mrc import MrcHeader, MrcVolumes, read_header
from napari_disentangle.io.tomograms import same_size
from napari_disentangle.particles import ParticleSet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_disentangle.io.project import Project

MRC_SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali")


class MissingBoxesError(Exception):
    """A file of boxes is not there; the message is a sentence for people."""


def open_boxes(names: Sequence[str], project: Project, dimensions: int | None = None) -> MrcVolumes:
    """Return the boxes of a list, in its order, after looking at the header of every file.

    Parameters
    ----------
    names : (n,)
        ``000012@stack.mrcs`` (counted from 1), or one MRC file per particle.
    project : Project
        Where the names are looked for.
    dimensions : int, optional
        2 or 3, ``rlnImageDimensionality``; None where the list does not say.

    Raises
    ------
    MissingBoxesError
        A file is not there.
    InputError
        A stack is shorter than its list, boxes differ in size or are not cubic, or images are mixed with volumes.
    """
    star = project.star
    files: dict[str, int] = {}
    headers: list[MrcHeader] = []
    file = np.zeros(len(names), np.int64)
    section = np.zeros(len(names), np.int64)
    for row, name in enumerate(names):
        number, at, path = name.partition("@")
        if not at or ("/" in name and not number.isdecimal()):  # no section, or an @ that is part of a folder's name
            at, path = "", name
        if path not in files:
            files[path] = len(headers)
            headers.append(_open(path, row, project, dimensions, stack=bool(at)))
        file[row] = files[path]
        if at:
            if not number.isdecimal() or int(number) < 1:
                raise InputError(
                    f'{star} names "{name}" in row {row + 1}; sections are counted from 1, as in 000001@stack.mrcs.'
                )
            section[row] = int(number) - 1
    volumes = MrcVolumes(tuple(headers), file, section)
    _check(volumes, names, project)
    return volumes


def _open(name: str, row: int, project: Project, dimensions: int | None, *, stack: bool) -> MrcHeader:
    found = project.find(name)
    if found is None:
        raise MissingBoxesError(
            f"{project.star} names {name or 'no file'} in row {row + 1}, which is not in its folder nor in any folder above "
            "it; copy the list into its project folder, or the boxes to where the list says."
        )
    header = read_header(found)
    if not stack:
        if len(header.shape) == 3 and len(set(header.shape)) == 1:  # whatever its space group says, a cube is one box
            return replace(header, kind="volume")
        if header.shape[0] == 1 and len(header.shape) == 3:
            return header
        raise InputError(
            f"{found}, named in row {row + 1} of {project.star}, holds {' x '.join(map(str, header.shape))} voxels, not one "
            "cubic box; a tilt series of 2D images (RELION 5) is no box: extract from the tomograms instead."
        )
    nz, ny, nx = header.shape[-3:]
    cubes = ny == nx and nz % ny == 0
    if header.kind == "volume stack":
        return header if dimensions != 2 else header.stacked("image stack")
    if dimensions == 3 or (dimensions is None and header.kind == "volume" and cubes):
        return header.stacked("volume stack")
    return header.stacked("image stack")


def _check(volumes: MrcVolumes, names: Sequence[str], project: Project) -> None:
    headers = volumes.files
    counts = np.array([h.count for h in headers])
    beyond = np.flatnonzero(volumes.section >= counts[volumes.file])
    if len(beyond):
        row = int(beyond[0])
        header = headers[volumes.file[row]]
        raise InputError(
            f"{header.path} has {header.count} {'images' if len(header.box) == 2 else 'boxes'} and is shorter than its list: "
            f"{project.star} names {names[row]} in row {row + 1} ({len(beyond)} of {len(names)} rows are beyond its end); give the whole stack, or the list that belongs to it."
        )
    first = headers[0].box
    for k, header in enumerate(headers):
        if header.box != first:
            row = int(np.flatnonzero(volumes.file == k)[0])
            raise InputError(
                f"{project.star} mixes boxes of different sizes: {' x '.join(map(str, first))} voxels in {headers[0].path} "
                f"and {' x '.join(map(str, header.box))} in {header.path} (row {row + 1}); give a list of one size."
            )
    if len(set(first)) != 1:
        raise InputError(
            f"{headers[0].path} has boxes of {' x '.join(map(str, first))} voxels, which are not "
            f"{'square' if len(first) == 2 else 'cubic'}; give square images or cubic boxes."
        )


def read_stack(path: Path, voxel_size: float | None = None) -> ParticleSet:
    """Read a bare stack of boxes (or of images), whose particles have no list: ids count its sections from 0.

    Raises
    ------
    InputError
        The file is missing or damaged, or is a single volume.
    """
    header = read_header(path)
    if header.kind == "volume":
        raise InputError(
            f"{path} is a single volume of {' x '.join(map(str, header.shape))} voxels (z, y, x), not a stack of boxes; give the "
            f"list of the particles in it, with --tomogram {path}, or a stack of volumes (space group 401)."
        )
    volumes = MrcVolumes.of_stack(header)
    if len(set(header.box)) != 1:
        raise InputError(
            f"{path} has boxes of {' x '.join(map(str, header.box))} voxels; give square images or cubic boxes."
        )
    notes: tuple[str, ...] = ()
    if voxel_size is not None and header.voxel_size is not None and not same_size(voxel_size, header.voxel_size):
        notes = (
            f"The voxel size given, {voxel_size:g} A, is used instead of {header.voxel_size:g} A in the header of {path}.",
        )
    return ParticleSet(
        path=path, ids=np.arange(header.count), volumes=volumes, voxel_size=voxel_size or header.voxel_size, notes=notes
    )
