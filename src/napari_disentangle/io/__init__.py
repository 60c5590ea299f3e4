"""Paths to ParticleSets: everything that is opened comes in here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.csv_list import is_csv, read_csv
from napari_disentangle.io.describe import Description, describe
from napari_disentangle.io.extracted import RECORD, is_extracted, read_extracted
from napari_disentangle.io.npz import read_images
from napari_disentangle.io.placement import Where
from napari_disentangle.io.relion import from_table, read_relion
from napari_disentangle.io.stacks import MRC_SUFFIXES, read_stack
from napari_disentangle.io.tomograms import some
from napari_disentangle.particles import dimensions

if TYPE_CHECKING:
    from napari_disentangle.io.placement import SizeFrom
    from napari_disentangle.particles import ParticleSet, Volumes

__all__ = ["Description", "describe", "read_particles", "require_boxes"]


def read_particles(
    path: Path,
    *,
    tomograms: Path | None = None,
    tomogram: Path | None = None,
    voxel_size: float | None = None,
    tilt_range: tuple[float, float] | None = None,
    size_from: SizeFrom | None = None,
    coordinate_pixel: float | None = None,
) -> ParticleSet:
    """Read particles, whatever they are written in; volumes are only looked at, not read.

    Parameters
    ----------
    path : Path
        A STAR list of boxes or of positions, an optimisation set, a stack of boxes (.mrcs, .mrc), images (.npz), a list
        of positions (.csv), or a folder that `extract` wrote.
    tomograms : Path, optional
        The `tomograms.star` that a list of positions belongs to.
    tomogram : Path, optional
        Or the one volume that all positions are in.
    voxel_size : float, optional
        In Angstrom, where the files do not say or are wrong: of the tomograms given or, without any, of the boxes.
    tilt_range : (float, float), optional
        Lowest and highest tilt in degrees, for all particles; comes before what the files say.
    size_from : {"star", "volume"}, optional
        Which size of a tomogram to believe where its list and its volume disagree, which matters for coordinates that
        count from the middle (RELION 5); by default such a list is refused.
    coordinate_pixel : float, optional
        In Angstrom: what coordinates from the corner count in, where the list does not say or is wrong (Warp).

    Raises
    ------
    InputError
        A file is missing, damaged or of an unknown kind, lacks columns, or contradicts another.
    """
    path = Path(path)
    _check_numbers(voxel_size, tilt_range, coordinate_pixel)
    where = Where(tomograms, tomogram, voxel_size, size_from, coordinate_pixel)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name.")
    if is_extracted(path):
        particles = read_extracted(path)
    elif path.is_dir():
        raise InputError(f"{path} is a folder without {RECORD}; give a particle list, or a folder that extract wrote.")
    elif path.suffix.lower() == ".star":
        particles = read_relion(path, where)
    elif is_csv(path):
        particles = from_table(read_csv(path), path, replace(where, in_voxels=True))
    elif path.suffix.lower() == ".npz":
        particles = read_images(path, voxel_size)
    elif path.suffix.lower() in MRC_SUFFIXES:
        particles = read_stack(path, voxel_size)
    else:
        raise InputError(
            f'{path} ends in "{path.suffix}", which is not a particle list that can be read; give a .star, .csv, .mrcs or .npz file, or a '
            "folder that extract wrote."
        )
    return _say_unknown_tilts(particles) if tilt_range is None else _with_tilt_range(particles, tilt_range)


def require_boxes(particles: ParticleSet) -> Volumes:
    """Return the boxes of particles, for what cannot be done without.

    Raises
    ------
    InputError
        There are none yet, or nothing says the voxel size of volumes; images may do without.
    """
    if particles.volumes is None:
        raise InputError(
            particles.no_boxes
            or f"{particles.path} lists positions in tomograms, not boxes; cut them out first, with napari-disentangle "
            f"extract {particles.path} OUT --box N, and go on with OUT."
        )
    if particles.voxel_size is None and dimensions(particles.volumes.shape) == 3:
        raise InputError(f"Neither {particles.path} nor its boxes say their voxel size; give --voxel-size in Angstrom.")
    return particles.volumes


def _check_numbers(voxel_size: float | None, tilt_range: tuple[float, float] | None, pixel: float | None) -> None:
    for value, option in ((voxel_size, "--voxel-size"), (pixel, "--coordinate-pixel")):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"{option} {value:g} is no size; give Angstrom, greater than 0.")
    if tilt_range is not None and not -90 <= tilt_range[0] < tilt_range[1] <= 90:
        raise InputError(
            f"--tilt-range {tilt_range[0]:g},{tilt_range[1]:g} is no range of tilts; give the lowest and the highest in degrees, "
            "such as -60,60."
        )


def _say_unknown_tilts(particles: ParticleSet) -> ParticleSet:
    """Add a note where a wedge may be missing that nothing tells of; 2D images have none."""
    if particles.volumes is not None and dimensions(particles.volumes.shape) == 2:
        return particles
    used = [] if particles.tomogram is None else [particles.tomograms[k] for k in np.unique(particles.tomogram)]
    unknown = [t.name for t in used if t.tilt_range is None]
    if used and not unknown:
        return particles
    whose = f" of {some(unknown)}" if 0 < len(unknown) < len(used) else ""
    note = f"The tilt range{whose} is not known; give --tilt-range if a wedge is missing."
    return replace(particles, notes=(*particles.notes, note))


def _with_tilt_range(particles: ParticleSet, tilt_range: tuple[float, float]) -> ParticleSet:
    """Set the tilt range of all particles, and say where a file says otherwise."""
    used = set(range(len(particles.tomograms))) if particles.tomogram is None else {int(k) for k in particles.tomogram}
    others = [
        t for k, t in enumerate(particles.tomograms)
        if k in used and t.tilt_range is not None and not np.allclose(t.tilt_range, tilt_range, atol=0.5)
    ]  # fmt: skip
    notes = particles.notes
    if others:
        low, high = others[0].tilt_range or tilt_range
        more = f" ({len(others)} tomograms differ)" if len(others) > 1 else ""
        notes = (
            *notes,
            f"The tilt range given, {tilt_range[0]:g} to {tilt_range[1]:g} degrees, is used for all particles; by its files "
            f"{others[0].name} has {low:g} to {high:g}{more}.",
        )
    known = tuple(replace(t, tilt_range=tilt_range) for t in particles.tomograms)
    return replace(particles, tilt_range=tilt_range, tomograms=known, notes=notes)
