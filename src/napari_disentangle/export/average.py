"""The folder of an average: maps, FSC, and a record of what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_disentangle import __version__
from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import read_text
from napari_disentangle.io.folder import new_folder
from napari_disentangle.io.mrc import open_map, read_header, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.averaging import Average

    Map = NDArray[np.float32]
    Mode = Literal["free", "local", "fixed"]

RECORD = "average.json"


class AverageRecord(BaseModel):
    """``average.json``: what the maps beside it are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    created_by: str
    selection: Annotated[str, Field(description="Name of the selection that was averaged.")]
    count: Annotated[int, Field(description="Particles.")]
    voxel_size: Annotated[float, Field(description="Of the maps, in Angstrom.")]
    decoded_voxel_size: Annotated[
        float | None, Field(description="Of decoded.mrc, the model's own volume, in Angstrom; null without a decoder.")
    ]
    fsc_of: Annotated[str, Field(description="What the two half maps share, in words.")]
    resolution: Annotated[float | None, Field(description="Where their FSC falls below 0.143, in Angstrom.")]
    mode: Annotated[str, Field(description="free, local or fixed poses.")]
    rounds: Annotated[int, Field(description="Of local refinement.")]
    history: Annotated[tuple[tuple[str, float], ...], Field(description="Stages of the alignment and their scores.")]
    fingerprint: Annotated[str | None, Field(description="Of the codes at the time; stale where the run's differs.")]
    ids: Annotated[tuple[int, ...], Field(description="Rows of the original list that were averaged, from 0.")]

    def resolution_in_words(self) -> str:
        """Return how far the half maps agree, and what they share."""
        if self.resolution is None:
            return f"half maps that do not agree ({self.fsc_of})"
        return f"half maps that agree to {self.resolution:.0f} A ({self.fsc_of})"


@dataclass(frozen=True)
class StoredAverage:
    """An average as read back from its folder."""

    record: AverageRecord
    volume: Map
    """(n, n, n)."""
    decoded: Map | None
    """(m, m, m), the model's volume at the selection's mean codes, turned onto the average; None without a decoder."""
    frequency: NDArray[np.float64]
    """(k,) in 1/A."""
    fsc: NDArray[np.float64]
    """(k,)."""


def write_average(
    average: Average, decoded: Map | None, decoded_voxel: float | None, out: Path, selection: str, mode: Mode, fingerprint: str,
    *, overwrite: bool,
) -> AverageRecord:  # fmt: skip
    """Write average.mrc, half1.mrc, half2.mrc, decoded.mrc, fsc.csv and average.json: all of them, or none.

    Parameters
    ----------
    average : Average
    decoded : (m, m, m), optional
        The model's volume of the selection; None of a model without a decoder, and no file then.
    decoded_voxel : float, optional
        In Angstrom.
    out : Path
        Folder.
    selection, mode, fingerprint
        For the record.
    overwrite : bool
        Replace an earlier average.

    Raises
    ------
    InputError
        `out` exists, or cannot be written.
    """
    record = AverageRecord(
        created_by=f"napari-disentangle {__version__}",
        selection=selection,
        count=average.count,
        voxel_size=average.voxel_size,
        decoded_voxel_size=decoded_voxel,
        fsc_of=average.label,
        resolution=average.resolution_A,
        mode=mode,
        rounds=average.rounds,
        history=average.history,
        fingerprint=fingerprint,
        ids=tuple(average.ids.tolist()),
    )
    with new_folder(out, marker=RECORD, overwrite=overwrite) as folder:
        for name, volume in (("average", average.volume), ("half1", average.half1), ("half2", average.half2)):
            write_volume(folder / f"{name}.mrc", volume, average.voxel_size)
        if decoded is not None and decoded_voxel is not None:
            write_volume(folder / "decoded.mrc", decoded, decoded_voxel)
        rows = [f"{f:.7g},{c:.5f}" for f, c in zip(average.frequency, average.fsc, strict=True)]
        (folder / "fsc.csv").write_text("\n".join(["spatial_frequency_1_per_A,fsc", *rows]) + "\n", encoding="utf-8")
        (folder / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return record


def read_average(folder: Path) -> StoredAverage:
    """Read a folder that `average_selection` wrote.

    Raises
    ------
    InputError
        It is not one, or a file of it is missing or damaged.
    """
    try:
        record = AverageRecord.model_validate_json(read_text(folder / RECORD))
        table = np.loadtxt(folder / "fsc.csv", delimiter=",", skiprows=1, ndmin=2)
    except (ValidationError, ValueError, OSError) as error:
        raise InputError(f"{folder} is not a whole average ({type(error).__name__}); average again.") from error
    return StoredAverage(
        record=record,
        volume=_read_map(folder / "average.mrc"),
        decoded=None if record.decoded_voxel_size is None else _read_map(folder / "decoded.mrc"),
        frequency=table[:, 0],
        fsc=table[:, 1],
    )


def _read_map(path: Path) -> Map:
    return np.array(open_map(read_header(path)), dtype=np.float32)
