"""ExtractionRecord: what `extraction.json` says of boxes cut from tomograms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_disentangle.errors import InputError

RECORD_NAME = "extraction.json"
SCHEMA_VERSION = 1


class DroppedParticle(BaseModel):
    """A particle of the original list that has no box."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    """Row of the original list, counted from 0."""
    why: str


class ExtractedTomogram(BaseModel):
    """A tomogram that boxes were cut from, and the grey values of its background."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: Path
    pixel_size: float
    """Bin-1 pixel of the tilt series, in Angstrom."""
    voxel_size: float
    """Voxel of the reconstructed volume, in Angstrom."""
    shape: tuple[int, int, int]
    """Of the reconstructed volume, zyx voxels."""
    tilt_range: tuple[float, float] | None
    """In degrees."""
    defocus: float | None
    """In Angstrom."""
    background_mean: float | None
    """Grey value of the raw tomogram, before inversion; None where no box of background could be measured."""
    background_std: float | None
    """Of binned boxes."""
    background_boxes: int


class ExtractionRecord(BaseModel):
    """All that is needed to repeat an extraction, and to find the original particles from the boxes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_name: ClassVar[str] = RECORD_NAME

    schema_version: Literal[1] = SCHEMA_VERSION
    created_by: str
    source: Path | None
    """Absolute path of the original list; None for particles that came from no file."""
    source_sha256: str | None
    """Of the list's bytes, which `original.star` repeats."""
    project: Path | None
    """RELION project folder that paths inside the list are relative to."""
    optimisation_set: Path | None
    """RELION optimisation set that named the list."""
    tomograms_file: Path | None
    """Table that the tomograms were read from."""
    ids: tuple[int, ...]
    """Row of the original list, counted from 0, of each box in its order."""
    dropped: tuple[DroppedParticle, ...]
    box: int
    """Voxels, after binning."""
    bin: float
    voxel_size: float
    """Of the boxes, in Angstrom."""
    invert: bool
    edge: Literal["refuse", "skip", "pad"]
    normalise: bool
    seed: int
    tomograms: tuple[ExtractedTomogram, ...]
    tomogram: tuple[int, ...]
    """Index into `tomograms` of each box."""
    notes: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> ExtractionRecord:
        """Read the record of an extraction's folder.

        Raises
        ------
        InputError
            The file is missing, damaged, or of a newer schema.
        """
        path = folder / RECORD_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); extract the particles again.") from error
        try:
            version = json.loads(text)["schema_version"]
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise InputError(
                    f"{path} has schema version {version}, newer than the {SCHEMA_VERSION} this program knows; update napari-disentangle."
                )
            return cls.model_validate_json(text)
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise InputError(f"{path} is damaged; extract the particles again.") from error

    def write(self, folder: Path) -> None:
        """Write the record into `folder`."""
        (folder / RECORD_NAME).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
