"""Extraction: from positions in tomograms to boxes in a folder of their own."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle import __version__
from napari_disentangle.errors import InputError
from napari_disentangle.io.background import Background, measure_background
from napari_disentangle.io.boxes import BoxShape
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.folder import new_folder, spare
from napari_disentangle.io.mrc import open_map, write_volume_stack
from napari_disentangle.io.plan import Plan, named, plan_boxes
from napari_disentangle.io.record import ExtractedTomogram, ExtractionRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from napari_disentangle.io.plan import Edge
    from napari_disentangle.particles import ParticleSet, Tomogram

    Floats = NDArray[np.float64]

BOXES_NAME, LIST_NAME, ORIGINAL_NAME = "particles.mrcs", "particles.star", "original.star"


def extract(
    particles: ParticleSet,
    out: Path,
    *,
    box: int,
    bin: float = 1.0,
    invert: bool = False,
    edge: Edge = "refuse",
    normalise: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionRecord:
    """Cut every particle out of its tomogram and write the boxes as a stack with a particle list.

    A box is centred on the voxel nearest to its particle; the rest becomes the particle's origin, so that nothing is
    lost by rounding and nothing is interpolated. Binned boxes are cropped in Fourier space about that same voxel and
    their voxels are `bin` times the tomogram's exactly.

    Parameters
    ----------
    particles : ParticleSet
        With positions and tomograms.
    out : Path
        The folder to write: `particles.mrcs` (n, box, box, box), float32; `particles.star`; `original.star`, the list
        that the particles came from, byte for byte; and `extraction.json`, an `ExtractionRecord`.
    box : int
        Voxels after binning.
    bin : float
        Binning factor, 1 or more, fractional if need be.
    invert : bool
        Multiply by -1, to make protein bright where it is dark.
    edge : {"refuse", "skip", "pad"}
        What becomes of a box that reaches over its tomogram's edge: nothing is written, the particle is left out and
        counted, or the missing part gets the background's mean.
    normalise : bool
        Subtract the mean and divide by the standard deviation of the tomogram's background. One pair of numbers for a
        whole tomogram: particles keep their contrast relative to one another.
    seed : int
        For the places at which the background is measured.
    overwrite : bool
        Replace an earlier extraction, once the new one is whole.
    progress : callable, optional
        Called with the number of boxes written so far, and of all.

    Returns
    -------
    ExtractionRecord

    Raises
    ------
    InputError
        The particles have no positions, a tomogram is missing or has no voxel size, tomograms differ in voxel size,
        boxes lie outside, boxes hold voxels that are not numbers or are all the same, or `out` may not be written.
    """
    if box < 2:
        raise InputError(f"A box of {box} voxels is too small; give at least 2, such as --box 32.")
    if not (math.isfinite(bin) and bin >= 1):
        raise InputError(f"Binning by {bin:g} is not possible; give 1 or more, such as --bin 2.")
    if seed < 0:
        raise InputError(f"The seed is {seed}; give 0 or more.")
    with new_folder(out, marker=ExtractionRecord.file_name, overwrite=overwrite) as folder:
        plan = plan_boxes(particles, BoxShape(box, bin), edge)
        spare(out, particles.files())
        needed = normalise or edge == "pad"
        backgrounds = [_background(plan, k, seed, needed=needed) for k in range(len(plan.tomograms))]
        boxes = _boxes(plan, backgrounds, invert=invert, normalise=normalise, progress=progress)
        write_volume_stack(folder / BOXES_NAME, boxes, plan.voxel_size * bin)
        (folder / LIST_NAME).write_text(_list_text(plan), encoding="utf-8", newline="")
        if particles.text is not None:
            (folder / ORIGINAL_NAME).write_bytes(_original_bytes(particles.text))
        record = _record(plan, backgrounds, invert=invert, edge=edge, normalise=normalise, seed=seed)
        record.write(folder)
    return record


def _original_bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def _background(plan: Plan, index: int, seed: int, *, needed: bool) -> Background | None:
    tomogram, volume = plan.tomograms[index], open_map(plan.headers[index])
    background = measure_background(volume, plan.shape, plan.occupied[index], name=tomogram.name, seed=seed)
    if background is None and needed:
        raise InputError(
            f'{tomogram.path}, tomogram "{tomogram.name}", is constant or not a number wherever its background was '
            "measured, so its grey values cannot be normalised; check that the reconstruction is whole."
        )
    return background


def _boxes(
    plan: Plan,
    backgrounds: Sequence[Background | None],
    *,
    invert: bool,
    normalise: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[NDArray[np.float32]]:
    """Yield the boxes in the order of the list; refuse at the end if some are empty, and name all of them."""
    sign = np.float32(-1 if invert else 1)
    bad: list[int] = []
    n = len(plan.centres)
    for row, (k, centre) in enumerate(zip(plan.tomogram, plan.centres, strict=True)):
        background = backgrounds[k]
        fill = None if plan.whole[row] or background is None else background.mean
        box = plan.shape.read(open_map(plan.headers[k]), centre, fill)
        if not np.isfinite(box).all() or box.min() == box.max():
            bad.append(row)
            box = np.zeros_like(box)
        if normalise and background is not None:
            box = (box - np.float32(background.mean)) / np.float32(background.std)
        yield sign * box
        if progress is not None:
            progress(row + 1, n)
    if bad:
        names = ", ".join(sorted({f'"{plan.tomograms[plan.tomogram[row]].name}"' for row in bad}))
        raise InputError(
            f"{len(bad)} of {n} boxes are constant or hold voxels that are not numbers "
            f"({named(plan.particles.ids[bad])}; tomogram {names}); remove these particles from {plan.particles.path} or repair the tomogram."
        )


def _notes(plan: Plan, backgrounds: Sequence[Background | None], edge: Edge) -> tuple[str, ...]:
    notes: list[str] = []
    n = len(plan.centres)
    if plan.dropped:
        notes.append(
            f"{len(plan.dropped)} of {n + len(plan.dropped)} particles were left out: their boxes reach over an edge."
        )
    if edge == "pad" and not plan.whole.all():
        notes.append(
            f"{int((~plan.whole).sum())} of {n} boxes reach over an edge and were filled with the background's mean."
        )
    for tomogram, background in zip(plan.tomograms, backgrounds, strict=True):
        if background is None:
            notes.append(
                f'The background of tomogram "{tomogram.name}" could not be measured; its boxes are not normalised.'
            )
        elif not background.away:
            notes.append(
                f'Tomogram "{tomogram.name}" is too full: its background was measured at places that may hold particles.'
            )
    crowded = _crowded(plan)
    if crowded:
        notes.append(f"{crowded} of {n} particles are closer than half a box to another one; some may be picked twice.")
    return tuple(notes)


def _crowded(plan: Plan) -> int:
    """Return how many particles have a neighbour in their tomogram within half a box."""
    from scipy.spatial import KDTree

    near = plan.shape.size * plan.shape.bin / 2 * plan.voxel_size
    count = 0
    for k in range(len(plan.tomograms)):
        places = (plan.corners + plan.rests)[plan.tomogram == k]
        if len(places) > 1:
            count += int((np.asarray(KDTree(places).query(places, k=2)[0])[:, 1] < near).sum())
    return count


def _pixel_size(tomogram: Tomogram) -> float:
    """Return the bin-1 pixel in Angstrom; a volume that comes without its tilt series counts as unbinned."""
    size = tomogram.pixel_size or tomogram.voxel_size
    assert size is not None
    return size


def _record(
    plan: Plan, backgrounds: Sequence[Background | None], *, invert: bool, edge: Edge, normalise: bool, seed: int
) -> ExtractionRecord:
    particles = plan.particles
    tomograms: list[ExtractedTomogram] = []
    for tomogram, background in zip(plan.tomograms, backgrounds, strict=True):
        assert tomogram.path is not None
        assert tomogram.shape is not None
        assert tomogram.voxel_size is not None
        tomograms.append(
            ExtractedTomogram(
                name=tomogram.name,
                path=tomogram.path.absolute(),
                pixel_size=_pixel_size(tomogram),
                voxel_size=tomogram.voxel_size,
                shape=tomogram.shape,
                tilt_range=tomogram.tilt_range or particles.tilt_range,
                defocus=tomogram.defocus,
                background_mean=None if background is None else background.mean,
                background_std=None if background is None else background.std,
                background_boxes=0 if background is None else background.boxes,
            )
        )
    return ExtractionRecord(
        created_by=f"napari-disentangle {__version__}",
        source=_absolute(particles.original),
        source_sha256=None if particles.text is None else hashlib.sha256(_original_bytes(particles.text)).hexdigest(),
        project=_absolute(particles.project),
        optimisation_set=_absolute(particles.optimisation_set),
        tomograms_file=_absolute(particles.tomograms_file),
        ids=tuple(int(i) for i in particles.ids),
        dropped=plan.dropped,
        box=plan.shape.size,
        bin=plan.shape.bin,
        voxel_size=plan.voxel_size * plan.shape.bin,
        invert=invert,
        edge=edge,
        normalise=normalise,
        seed=seed,
        tomograms=tuple(tomograms),
        tomogram=tuple(int(k) for k in plan.tomogram),
        notes=(*particles.notes, *_notes(plan, backgrounds, edge)),
    )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def _list_text(plan: Plan) -> str:
    """Return `particles.star`: RELION's list of 3D boxes, whose frame is the tomogram's."""
    particles, n = plan.particles, len(plan.centres)
    pixel = np.array([_pixel_size(t) for t in plan.tomograms])
    voxel = plan.voxel_size * plan.shape.bin
    pixels, group = np.unique(pixel, return_inverse=True)
    optics = {
        "rlnOpticsGroup": range(1, len(pixels) + 1),
        "rlnOpticsGroupName": [f"opticsGroup{k + 1}" for k in range(len(pixels))],
        "rlnTomoTiltSeriesPixelSize": pixels,
        "rlnTomoSubtomogramBinning": voxel / pixels,
        "rlnImagePixelSize": [voxel] * len(pixels),
        "rlnImageSize": [plan.shape.size] * len(pixels),
        "rlnImageDimensionality": [3] * len(pixels),
    }
    columns: dict[str, Any] = {"rlnTomoName": [plan.tomograms[k].name for k in plan.tomogram]}
    corner = plan.corners / pixel[plan.tomogram, None]
    columns |= {f"rlnCoordinate{axis}": corner[:, k] for k, axis in enumerate("XYZ")}
    columns["rlnImageName"] = [f"{k + 1:06d}@{BOXES_NAME}" for k in range(n)]
    columns |= {f"rlnOrigin{axis}Angst": -plan.rests[:, k] for k, axis in enumerate("XYZ")}
    angles, prior = _angles(particles)
    if angles is not None:
        columns |= {f"rlnAngle{name}": angles[:, k] for k, name in enumerate(("Rot", "Tilt", "Psi"))}
    if prior is not None:
        columns |= {f"rlnAngle{name}Prior": prior[:, k] for k, name in enumerate(("Tilt", "Psi"))}
    if particles.halves is not None:
        columns["rlnRandomSubset"] = particles.halves
    defocus = _defocus(plan)
    if defocus is not None:
        columns["rlnDefocusU"] = defocus
    columns["rlnOpticsGroup"] = group[plan.tomogram] + 1
    return star_text({"general": {"rlnTomoSubTomosAre2DStacks": 0}, "optics": optics, "particles": columns})


def _angles(particles: ParticleSet) -> tuple[Floats | None, Floats | None]:
    """Return rot, tilt and psi (n, 3) and the priors of tilt and psi (n, 2), in degrees, in the frame of the tomogram.

    Those of a list with boxes are in the frame of its boxes, which may lie askew and are not used here. A prior leaves
    rot free, so that ``A_sub A(0, tilt, psi)`` holds the turned tilt and psi.
    """
    from napari_disentangle.geometry import matrix_to_euler

    rotations = None if particles.pose is None else particles.pose.rotations
    prior, poses = particles.prior, particles.prior_pose
    if particles.volumes is not None and particles.frames is not None:
        rotations = None if rotations is None else particles.frames @ rotations
        if poses is not None:
            prior = matrix_to_euler(particles.frames @ poses.rotations)[:, 1:]
    return None if rotations is None else matrix_to_euler(rotations), prior


def _defocus(plan: Plan) -> Floats | None:
    """Return the defocus (n,) in Angstrom, of the particle or else of its tomogram; None unless known for all."""
    of_tomograms = np.array([np.nan if t.defocus is None else t.defocus for t in plan.tomograms])[plan.tomogram]
    own = plan.particles.defocus
    defocus = of_tomograms if own is None else np.where(np.isfinite(own), own, of_tomograms)
    return defocus if np.isfinite(defocus).all() else None
