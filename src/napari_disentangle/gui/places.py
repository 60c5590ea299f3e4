"""Where boxes and runs are put, and what they are called."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def default_folder(path: Path) -> Path:
    """Return where the boxes and runs of a list are put: beside it, or in the home where that may not be written."""
    parent = path.parent.absolute()
    if parent.name == "disentangle":
        return parent
    return (parent if os.access(parent, os.W_OK) else Path.home()) / "disentangle"


def free_name(folder: Path, stem: str) -> Path:
    """Return ``folder/stem_01``, or the first number that no file or folder has."""
    number = 1
    while any(folder.glob(f"{glob.escape(stem)}_{number:02d}*")):
        number += 1
    return folder / f"{stem}_{number:02d}"


def plain(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords of `read_particles` as JSON."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in reading.items()}
