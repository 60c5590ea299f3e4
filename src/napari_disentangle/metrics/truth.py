"""The table of what every particle really is, for data where that is known."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ANGLES = ("rot", "tilt", "psi")
SHIFTS = ("shift_x", "shift_y", "shift_z")
JUNK = "junk"
"""Identity of boxes without a particle; they have no pose."""


@dataclass(frozen=True)
class Truth:
    """Labels and poses, a row per particle."""

    path: Path
    ids: NDArray[np.int64]
    """(n,) rows of the original list, counted from 0; each once."""
    identity: NDArray[np.str_]
    """(n,)"""
    state: NDArray[np.str_]
    """(n,) ; empty strings where the table has no such column."""
    rotations: NDArray[np.float64] | None = None
    """(n, 3, 3), ``A``, reference -> particle, xyz; NaN for particles without one."""
    shifts: NDArray[np.float64] | None = None
    """(n, 3), ``p`` in voxels of the input, xyz; NaN for particles without one."""

    def __len__(self) -> int:
        return len(self.ids)


def read_truth(path: Path | str) -> Truth:
    """Read a truth table, as `simulate` writes it.

    Parameters
    ----------
    path : Path
        CSV with the columns ``particle`` (row of the original list, from 0) and ``identity``, and where known
        ``state``, ``rot``, ``tilt``, ``psi`` (RELION's, in degrees) and ``shift_x``, ``shift_y``, ``shift_z`` (voxels).

    Raises
    ------
    InputError
        If the file is missing, is no such table, or names a particle twice.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or [])
            rows = list(table)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give the truth.csv that belongs to the particles."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a table of comma-separated values; give a truth.csv.") from error
    missing = [name for name in ("particle", "identity") if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {' and no column '.join(missing)}; a truth table needs particle and identity."
        )
    if not rows:
        raise InputError(f"{path} has no particles in it; a truth table needs a row for each.")
    ids = _numbers(path, rows, ("particle",))[:, 0]
    if not (np.isfinite(ids) & (ids == np.rint(ids))).all():
        raise InputError(f"{path} has a particle that is not a whole number; number them by row of the list, from 0.")
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{path} names particle {int(unique[counts.argmax()])} twice; each may have one row.")
    angles = _numbers(path, rows, ANGLES) if set(ANGLES) <= set(columns) else None
    return Truth(
        path=path,
        ids=ids.astype(np.int64),
        identity=np.array([row["identity"] or "" for row in rows], dtype=np.str_),
        state=np.array([row.get("state") or "" for row in rows], dtype=np.str_),
        rotations=None if angles is None else _rotations(angles),
        shifts=_numbers(path, rows, SHIFTS) if set(SHIFTS) <= set(columns) else None,
    )


def _numbers(path: Path, rows: Sequence[dict[str, str]], columns: Sequence[str]) -> NDArray[np.float64]:
    """Return (n, len(columns)); empty cells are NaN where a particle may do without."""
    result = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        for j, name in enumerate(columns):
            text = (row[name] or "").strip()  # None where the row is short
            try:
                result[i, j] = float(text) if text or name == "particle" else np.nan
            except ValueError as error:
                raise InputError(
                    f'{path} has "{text}" in column {name}, line {i + 2}, where a number should be.'
                ) from error
    return result


def _rotations(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(angles).all(axis=1)
    result = np.full((len(angles), 3, 3), np.nan)
    result[known] = euler_to_matrix(angles[known])
    return result
