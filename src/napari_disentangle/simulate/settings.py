"""Settings that both kinds of simulation share, and the file that repeats them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_disentangle import __version__
from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

VOLTAGE, ABERRATION, AMPLITUDE = 300.0, 2.7, 0.07
"""Of the microscope that all simulated data come from: kV, mm, fraction of amplitude contrast."""
META = "meta.json"
NO_WEDGE = 90.0
"""Tilt range, in degrees to both sides, that leaves nothing out."""


@dataclass(frozen=True)
class Settings:
    """What both kinds of simulation ask for; see `simulate_stack`."""

    snr: float
    wedge: float
    defocus: float
    shift: float
    max_tilt: float
    voxel: float
    seed: int

    def __post_init__(self) -> None:
        if not self.snr > 0:
            raise InputError(f"The SNR is {self.snr:g}; give a number above 0, such as --snr 0.1.")
        if not 0 < self.wedge <= NO_WEDGE:
            raise InputError(
                f"The tilt range is {self.wedge:g} degrees; give --wedge above 0 and up to 90, where nothing is missing."
            )
        if not self.voxel > 0:
            raise InputError(f"The voxel size is {self.voxel:g} A; give a number above 0, such as --voxel 10.")
        if not 0 <= self.max_tilt <= 180:
            raise InputError(
                f"The largest tilt of a particle is {self.max_tilt:g} degrees; give --max-tilt between 0 and 180."
            )
        if self.shift < 0:
            raise InputError(f"The largest shift is {self.shift:g} voxels; give 0 or more.")
        if self.seed < 0:
            raise InputError(f"The seed is {self.seed}; give 0 or more.")


def optics_table(**columns: float) -> dict[str, list[Any]]:
    """Return the optics table of one group."""
    table: dict[str, Any] = {"rlnOpticsGroup": 1, "rlnOpticsGroupName": "opticsGroup1"} | columns
    table |= {"rlnVoltage": VOLTAGE, "rlnSphericalAberration": ABERRATION, "rlnAmplitudeContrast": AMPLITUDE}
    return {label: [value] for label, value in table.items()}


def write_meta(path: Path, settings: Settings) -> None:
    """Write what a reader of the boxes alone cannot know."""
    meta = {
        "schema_version": 1, "created_by": f"napari-disentangle {__version__}", "voxel": settings.voxel,
        "tilt_range": [-settings.wedge, settings.wedge], "defocus": settings.defocus, "snr": settings.snr, "seed": settings.seed,
    }  # fmt: skip
    path.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
