"""Chosen particles, back to the list they came from: rows as they were, and a record of how they were chosen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_disentangle import __version__
from napari_disentangle.errors import InputError
from napari_disentangle.io import subset
from napari_disentangle.io.atomic import check_new_file, write_text
from napari_disentangle.io.csv_list import is_csv
from napari_disentangle.io.extracted import PARTICLES, is_extracted
from napari_disentangle.io.folder import spare
from napari_disentangle.io.particle_table import ANGLES, FRAME, IMAGE, ORIGIN, ORIGIN_PIXELS, ParticleTable
from napari_disentangle.io.placement import origins
from napari_disentangle.io.record import ExtractionRecord
from napari_disentangle.io.relion import listed_pixel
from napari_disentangle.io.star import StarFile
from napari_disentangle.particles import rows_of

if TYPE_CHECKING:
    from napari_disentangle.models.base import Codes
    from napari_disentangle.particles import ParticleSet
    from napari_disentangle.run import Run
    from napari_disentangle.selection import Selection

POSE_COLUMNS = (*ANGLES, *ORIGIN)
OWN = "disentangle"
"""Stands instead of ``rln`` in the labels of poses, where the list has poses of its own."""


class ExportRecord(BaseModel):
    """The JSON sidecar of an exported list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    created_by: str
    particles: Annotated[Path, Field(description="The list that was written, absolute.")]
    optimisation_set: Annotated[Path | None, Field(description="The RELION optimisation set beside it.")]
    count: Annotated[int, Field(description="Rows written.")]
    of: Annotated[int, Field(description="Rows of the original list.")]
    original: Annotated[Path | None, Field(description="The original list, absolute; null for a bare stack.")]
    original_sha256: Annotated[str | None, Field(description="Of its text as it was read.")]
    selection: Annotated[str, Field(description="Name of the selection in the run.")]
    how: Annotated[dict[str, Any], Field(description="How the selection was drawn: method, or polygon.")]
    complement: Annotated[bool, Field(description="All rows that are not in the selection were written.")]
    pose_columns: Annotated[tuple[str, ...], Field(description="Columns appended, empty without poses.")]
    run: Annotated[Path, Field(description="The run folder, absolute.")]
    fingerprint: Annotated[str | None, Field(description="Of the codes that the run held; null before any.")]
    ids: Annotated[tuple[int, ...], Field(description="Rows of the original list that were written, from 0.")]


def export_selection(
    run: Run, selection: Selection, out: Path, *, poses: bool = False, complement: bool = False, overwrite: bool = False
) -> ExportRecord:
    """Write the rows of the original list that a selection names, token for token, and a JSON sidecar.

    Parameters
    ----------
    run : Run
    selection : Selection
    out : Path
        The list to write; its record is the same name with ``.json``. Where the original came with tomograms, an
        optimisation set is written too, ``OUT_optimisation_set.star``.
    poses : bool
        Append the learned poses: the columns rlnAngleRot to rlnOriginZAngst, or, where the list has any of them or
        rlnOriginX, disentangleAngleRot to disentangleOriginZAngst.
    complement : bool
        Write all rows of the original list that are not in the selection, also those that were never trained on.
    overwrite : bool

    Raises
    ------
    InputError
        Nothing to write, a row without a learned pose, or an output that exists, cannot be written or is read from.
    """
    particles = run.particles()
    if out.suffix.lower() == ".json":
        raise InputError(f"{out} ends in .json, as its record does; give the list the ending of its original.")
    record_path, set_path = out.with_suffix(".json"), out.with_name(f"{out.stem}_optimisation_set.star")
    for path in (out, record_path, set_path):
        check_new_file(path, overwrite=overwrite)
        spare(path, particles.files())
    total = subset.count_original(particles)
    ids = np.setdiff1d(np.arange(total), selection.ids) if complement else selection.ids
    if not len(ids):
        what = "is all of the list, so nothing is left" if complement else "is empty"
        raise InputError(f"The selection {selection.name} {what}; {out} was not written.")
    columns = pose_columns(particles, run.codes(), ids) if poses else {}
    subset.write_subset(particles, ids.tolist(), out, columns=columns, overwrite=overwrite)
    made_set = subset.write_optimisation_set(set_path, particles, out, overwrite=overwrite)
    text = particles.text
    record = ExportRecord(
        created_by=f"napari-disentangle {__version__}",
        particles=out.absolute(),
        optimisation_set=set_path.absolute() if made_set else None,
        count=len(ids),
        of=total,
        original=particles.original,
        original_sha256=None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
        selection=selection.name,
        how=selection.how,
        complement=complement,
        pose_columns=tuple(columns),
        run=run.path.absolute(),
        fingerprint=run.fingerprint(),
        ids=tuple(ids.tolist()),
    )
    write_text(record_path, record.model_dump_json(indent=1) + "\n", overwrite=overwrite)
    return record


def pose_columns(particles: ParticleSet, codes: Codes, ids: np.ndarray[Any, Any]) -> dict[str, list[str]]:
    """Return the learned poses as columns of the original list.

    With boxes cut from tomograms, ``A_sub`` the list's rlnTomoSubtomogram* (1 without), ``p`` the learned shift and
    ``r`` the rest by which the box centre missed the imported position: ``A_part = A_sub^T A`` and
    ``origin = origin_before + A_sub^T (r - p)``. With RELION's own boxes, ``A_part = A`` and ``origin = -p``.

    Parameters
    ----------
    particles : ParticleSet
        As the run was trained on.
    codes : Codes
    ids : (n,)
        Ascending.

    Returns
    -------
    label without underscore -> (n,) numbers as text: degrees, and Angstrom

    Raises
    ------
    InputError
        The model has no poses, or some of `ids` have no codes.
    """
    from napari_disentangle.geometry import matrix_to_euler

    if particles.text is None or (particles.original is not None and is_csv(particles.original)):
        raise InputError(f"{particles.path} is no RELION list, so poses cannot be appended; export without --poses.")
    if codes.pose is None:
        raise InputError("This model learned no poses; export without --poses.")
    missing = np.setdiff1d(ids, codes.ids)
    if len(missing):
        raise InputError(
            f"{len(missing)} of the {len(ids)} particles have no learned pose, since they were not trained on (row {missing[0]} "
            "of the list is the first); export without --poses."
        )
    at = rows_of(codes.ids, ids)
    rotations, shifts = codes.pose.rotations[at], codes.pose.offsets[at]
    path = particles.original or particles.path
    table = ParticleTable.of(StarFile.parse(particles.text, path), path)
    if is_extracted(particles.path):
        frames = table.rotations(FRAME)
        inverse = np.tile(np.eye(3), (len(ids), 1, 1)) if frames is None else frames[ids].transpose(0, 2, 1)
        before = origins(table, _pixel(table, particles))[ids]
        rotations = inverse @ rotations
        new_origins = before + np.einsum("nij,nj->ni", inverse, _rests(particles, ids) - shifts)
    else:
        new_origins = -shifts
    own = any(column in table.block for column in (*POSE_COLUMNS, *ORIGIN_PIXELS))
    labels = [column.replace("rln", OWN, 1) for column in POSE_COLUMNS] if own else POSE_COLUMNS
    numbers = np.concatenate([matrix_to_euler(rotations), new_origins], axis=1)
    return {label: [f"{value:.6f}" for value in column] for label, column in zip(labels, numbers.T, strict=True)}


def _rests(particles: ParticleSet, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return (n, 3) by how much the box centres of `ids` were rounded, in Angstrom, xyz: the boxes' origins."""
    folder = particles.path if particles.path.is_dir() else particles.path.parent
    boxes = ParticleTable.of(StarFile.read(folder / PARTICLES), folder / PARTICLES)
    cut = np.array(ExtractionRecord.read(folder).ids)
    return -origins(boxes, None)[rows_of(cut, ids)]


def _pixel(table: ParticleTable, particles: ParticleSet) -> np.ndarray[Any, Any] | None:
    """Return the pixel (n,) that the original list's origins count in: as listed, else as given when boxes were cut."""
    listed, given = listed_pixel(table), particles.tomograms[0].voxel_size
    if listed is not None or given is None or table.has(IMAGE):  # by the header of boxes that nothing says here
        return listed
    return np.full(len(table), given)
