"""Read back a folder that `extract` wrote: boxes, and the particles of the original list that they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import read_text
from napari_disentangle.io.placement import Where
from napari_disentangle.io.relion import read_relion
from napari_disentangle.particles import ParticleSet, Tomogram

if TYPE_CHECKING:
    from pathlib import Path

RECORD, PARTICLES, ORIGINAL = "extraction.json", "particles.star", "original.star"


def is_extracted(path: Path) -> bool:
    """Return whether `path` is a folder that `extract` wrote, or the list of boxes in one."""
    folder = path if path.is_dir() else path.parent
    return (folder / RECORD).is_file() and (path.is_dir() or path.name == PARTICLES)


def read_extracted(path: Path) -> ParticleSet:
    """Return the boxes of a folder that `extract` wrote, with the ids, text and tomograms of the original list.

    Raises
    ------
    InputError
        A file of the folder is missing or damaged, or they do not belong together.
    """
    from napari_disentangle.io.record import ExtractionRecord

    folder = path if path.is_dir() else path.parent
    record = ExtractionRecord.read(folder)
    boxes = read_relion(folder / PARTICLES, Where())
    if boxes.volumes is None:
        raise InputError(f"{folder} has lost its boxes: {boxes.no_boxes}")
    if not len(boxes) == len(record.ids) == len(record.tomogram):
        raise InputError(
            f"{folder / PARTICLES} lists {len(boxes)} boxes and {folder / RECORD} {len(record.ids)}; extract the particles again."
        )
    original = folder / ORIGINAL
    tomograms = tuple(
        Tomogram(
            t.name,
            t.path,
            pixel_size=t.pixel_size,
            voxel_size=t.voxel_size,
            shape=t.shape,
            tilt_range=t.tilt_range,
            defocus=t.defocus,
        )
        for t in record.tomograms
    )
    return replace(
        boxes,
        path=path,
        ids=np.array(record.ids, dtype=np.int64),
        voxel_size=record.voxel_size,
        original=record.source,
        text=read_text(original) if original.is_file() else None,
        project=record.project,
        optimisation_set=record.optimisation_set,
        tomograms_file=record.tomograms_file,
        tomograms=tomograms,
        tomogram=np.array(record.tomogram, dtype=np.int64),
        notes=record.notes,
    )
