"""RELION particle lists of versions 3.0 to 5, and Warp's, as ParticleSets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix, matrix_to_euler
from napari_disentangle.io.particle_table import ANGLES, FRAME, IMAGE, ParticleTable
from napari_disentangle.io.placement import Placement, Where, detector_pixel, origins, place
from napari_disentangle.io.project import Project
from napari_disentangle.io.stacks import MissingBoxesError, open_boxes
from napari_disentangle.io.star import StarFile
from napari_disentangle.io.tomograms import same_size
from napari_disentangle.particles import ParticleSet, Pose

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.io.mrc import MrcVolumes

    Floats = NDArray[np.float64]

SET_OF_PARTICLES, SET_OF_TOMOGRAMS = "rlnTomoParticlesFile", "rlnTomoTomogramsFile"
IMAGE_PIXELS = ("rlnImagePixelSize", "rlnPixelSize")


def read_relion(path: Path, where: Where) -> ParticleSet:
    """Read a particle list, or the optimisation set that names it.

    Origins are subtracted: ``p = C - A_sub @ origin``. With boxes, poses are in the frame of the box (``A_part``,
    offsets ``-origin``); without, in that of the tomogram (``A_sub @ A_part``, offsets 0, since the box will be cut
    about the particle).

    Parameters
    ----------
    path : Path
    where : Where
        Tomograms given beside the list; they come before those of the optimisation set. Where none are given and the
        list has boxes, its voxel size is that of the boxes.

    Raises
    ------
    InputError
        Files are missing or damaged, lack columns, or contradict one another.
    """
    star = StarFile.read(path)
    names = optimisation_set(star)
    if names is None:
        return from_table(ParticleTable.of(star, path), path, where)
    project = Project(path)
    listed = project.find(names[SET_OF_PARTICLES])
    if listed is None:
        raise InputError(
            f"{path} names the particle list {names[SET_OF_PARTICLES] or 'of no file'}, which is not in its folder nor in any above "
            "it; copy the optimisation set into its project folder."
        )
    notes: list[str] = []
    table = ParticleTable.of(StarFile.read(listed), listed)
    if where.tomograms is None and where.tomogram is None and (named := names.get(SET_OF_TOMOGRAMS)):
        found = project.find(named)
        if found is None:
            notes.append(f"{path} names the tomograms {named}, which are not there.")
        particles = from_table(table, path, where, tomograms=found)
    else:
        particles = from_table(table, path, where)
    return replace(
        particles,
        optimisation_set=path.absolute(),
        project=particles.project or project.root,
        notes=(*notes, *particles.notes),
    )


def optimisation_set(star: StarFile) -> dict[str, str] | None:
    """Return what an optimisation set names, label -> file, whether it is written as pairs or as a loop of one row.

    None where the file is not an optimisation set.
    """
    for block in star.blocks:
        if SET_OF_PARTICLES in block or (SET_OF_TOMOGRAMS in block and block.name in ("", "optimisation_set")):
            if len(block) != 1 or SET_OF_PARTICLES not in block:
                raise InputError(
                    f"{star.path} is an optimisation set with {len(block)} rows and columns {', '.join(block.columns)}; it must "
                    f"name one {SET_OF_PARTICLES}."
                )
            return dict(zip(block.columns, block.rows[0], strict=True))
    return None


def from_table(table: ParticleTable, path: Path, where: Where, *, tomograms: Path | None = None) -> ParticleSet:
    """Return the particles of a table.

    Parameters
    ----------
    table : ParticleTable
    path : Path
        The file that was opened.
    where : Where
        What the caller said.
    tomograms : Path, optional
        The table of tomograms that an optimisation set names.

    Raises
    ------
    InputError
        As `read_relion`.
    """
    project = Project(table.path)
    volumes, no_boxes = _boxes(table, project)
    if table.has(IMAGE) and _are_tilt_images(table):
        known = tomograms is not None or where.tomograms is not None or where.tomogram is not None
        no_boxes = (
            f"{table.path} names RELION 5's 2D-stack pseudo-subtomograms, which are tilt images and not boxes: extract from the "
            f"tomograms instead, with napari-disentangle extract {path} OUT --box N"
            f"{'' if known else ' --tomograms TOMOGRAMS.star'}."
        )
    notes: list[str] = [no_boxes] if no_boxes else []
    of_boxes = None
    given = where.tomograms is not None or where.tomogram is not None
    if volumes is not None and not given:
        of_boxes, where = where.voxel_size, replace(where, voxel_size=None)
    pixel = _image_pixel(table, volumes, where.voxel_size if volumes is None else of_boxes, notes)
    if tomograms is not None:
        where = replace(where, tomograms=tomograms)
    placement = _place(table, where, pixel, needed=volumes is None or given)
    notes.extend(placement.notes)
    return ParticleSet(
        path=path,
        ids=np.arange(len(table)),
        volumes=volumes,
        voxel_size=None if volumes is None or pixel is None else float(pixel[0]),
        original=table.path.absolute(),
        text=table.text,
        project=project.root,
        pose=_pose(table, pixel, boxes=volumes is not None, notes=notes),
        positions=placement.positions,
        tomograms=placement.tomograms,
        tomogram=placement.tomogram,
        halves=_halves(table, notes),
        prior=_prior(table, boxes=volumes is not None),
        defocus=_defocus(table),
        frames=None if volumes is None else table.rotations(FRAME),
        tomograms_file=None if where.tomograms is None else where.tomograms.absolute(),
        no_boxes=no_boxes,
        notes=tuple(notes),
    )


def _place(table: ParticleTable, where: Where, pixel: Floats | None, *, needed: bool) -> Placement:
    """Place the particles; where they have boxes, a fault of their tomograms is only noted."""
    try:
        return place(table, where, pixel)
    except InputError as error:
        if needed:
            raise
        return Placement(notes=(f"The positions in tomograms are not used: {error}",))


def _boxes(table: ParticleTable, project: Project) -> tuple[MrcVolumes | None, str]:
    """Return the boxes, or None and which of those that the list names are not there."""
    if not table.has(IMAGE) or _are_tilt_images(table):
        return None, ""
    try:
        volumes = open_boxes(table.block.column(IMAGE), project, table.setting("rlnImageDimensionality"))
    except MissingBoxesError as error:
        return None, str(error)
    size = table.size("rlnImageSize")
    if size is not None and (wrong := np.flatnonzero(size != volumes.shape[-1])).size:
        file = volumes.files[int(volumes.file[wrong[0]])].path
        raise InputError(
            f"{table.path} says that images have {size[wrong[0]]:.0f} voxels (_rlnImageSize) and those of {file} have "
            f"{volumes.shape[-1]}; give the list that belongs to them."
        )
    return volumes, ""


def _are_tilt_images(table: ParticleTable) -> bool:
    """Return whether each image file of a list holds the tilts of one particle, a tilt per section."""
    if table.setting("rlnTomoSubTomosAre2DStacks") == 1:
        return True
    return table.setting("rlnImageDimensionality") == 2 and table.has("rlnTomoVisibleFrames")


def listed_pixel(table: ParticleTable) -> Floats | None:
    """Return the pixel (n,) of the images in Angstrom as the list says it, or its detector and magnification."""
    column = next((c for c in IMAGE_PIXELS if table.size(c) is not None), None)
    return table.size(column) if column else detector_pixel(table)


def _image_pixel(
    table: ParticleTable, volumes: MrcVolumes | None, voxel_size: float | None, notes: list[str]
) -> Floats | None:
    """Return the pixel of the boxes in Angstrom, (n,): as given, else as listed, else by the header."""
    listed = listed_pixel(table)
    if volumes is None:
        return listed if voxel_size is None or listed is not None else np.full(len(table), voxel_size)
    headers = {h.voxel_size for h in volumes.files if h.voxel_size is not None}
    if voxel_size is not None:
        others = [v for v in ([] if listed is None else [float(listed[0])]) if not same_size(v, voxel_size)]
        if others:
            notes.append(f"The voxel size given, {voxel_size:g} A, is used instead of {others[0]:g} A in {table.path}.")
        return np.full(len(table), voxel_size)
    if listed is not None:
        if not same_size(float(listed.min()), float(listed.max())):
            raise InputError(
                f"{table.path} has images of {listed.min():g} and of {listed.max():g} A per pixel; give one optics group at a time."
            )
        for header in sorted(headers):
            if not same_size(header, float(listed[0])):
                notes.append(
                    f"{volumes.files[0].path} has {header:g} A per voxel in its header; {listed[0]:g} A of {table.path} are used."
                )
                break
        return listed
    if not headers:
        return None
    if not same_size(min(headers), max(headers)):
        raise InputError(
            f"{table.path} names boxes of {min(headers):g} and of {max(headers):g} A per voxel by their headers; give --voxel-size."
        )
    return np.full(len(table), max(headers))


def _pose(table: ParticleTable, pixel: Floats | None, *, boxes: bool, notes: list[str]) -> Pose | None:
    rotations, frames = table.rotations(ANGLES), table.rotations(FRAME)
    if rotations is None:
        if frames is not None:
            notes.append(
                "The list has rlnTomoSubtomogramRot but not all of rlnAngleRot, Tilt and Psi; no poses are taken from it."
            )
        return None
    if frames is None and len(table) > 1 and np.allclose(rotations, np.eye(3)):
        notes.append("All angles are 0, so they are not taken as poses.")
        return None
    if boxes:
        return Pose(rotations, -origins(table, pixel))
    return Pose(rotations if frames is None else frames @ rotations, np.zeros((len(table), 3)))


def _halves(table: ParticleTable, notes: list[str]) -> NDArray[np.int64] | None:
    if not table.has("rlnRandomSubset"):
        return None
    halves = table.block.numbers("rlnRandomSubset").astype(np.int64)
    if not np.isin(halves, (1, 2)).all():
        notes.append("rlnRandomSubset holds other numbers than 1 and 2 and is not used.")
        return None
    return halves


def _prior(table: ParticleTable, *, boxes: bool) -> Floats | None:
    """Return the priors of tilt and psi, in the frame that `_pose` has: a turn by rot stays free in either."""
    columns = ("rlnAngleTiltPrior", "rlnAnglePsiPrior")
    if not table.has(*columns):
        return None
    prior = np.stack([table.block.numbers(c) for c in columns], axis=-1)
    frames = table.rotations(FRAME)
    if boxes or frames is None:
        return prior
    return matrix_to_euler(frames @ euler_to_matrix(np.pad(prior, ((0, 0), (1, 0)))))[:, 1:]


def _defocus(table: ParticleTable) -> Floats | None:
    if not table.has("rlnDefocusU"):
        return None
    u = table.block.numbers("rlnDefocusU")
    return (u + table.block.numbers("rlnDefocusV")) / 2 if table.has("rlnDefocusV") else u
