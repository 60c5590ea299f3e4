"""Particle lists as comma-separated text: x, y, z in voxels of the tomogram, with a header."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import read_text
from napari_disentangle.io.particle_table import ParticleTable
from napari_disentangle.io.star import Block, split_lines

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {
    "x": "rlnCoordinateX",
    "y": "rlnCoordinateY",
    "z": "rlnCoordinateZ",
    "rot": "rlnAngleRot",
    "tilt": "rlnAngleTilt",
    "psi": "rlnAnglePsi",
    "class": "rlnClassNumber",
    "half": "rlnRandomSubset",
    "tomogram": "rlnTomoName",
}
"""Columns that are understood; others are kept and not used."""


def is_csv(path: Path) -> bool:
    """Return whether a file is such a list, by its ending."""
    return path.suffix.lower() == ".csv"


def read_csv(path: Path) -> ParticleTable:
    """Read a list with the columns x, y, z and, where there are any, rot, tilt, psi (degrees), class, half, tomogram.

    Raises
    ------
    InputError
        No such file, an empty list, or no columns x, y and z.
    """
    return parse_csv(read_text(path), path)


def parse_csv(text: str, path: Path) -> ParticleTable:
    """Find the table in the text of a list. Errors as `read_csv`."""
    lines = split_lines(text)
    full = [k for k, line in enumerate(lines) if line.strip()]
    if not full:
        raise InputError(f"{path} is empty.")
    names = [name.strip() for name in next(csv.reader([lines[full[0]].removeprefix("\ufeff")]))]
    columns = [label_of(name) for name in names]
    lacking = [short for short in "xyz" if LABELS[short] not in columns]
    if lacking:
        raise InputError(f"{path} has no column {', '.join(lacking)} in its first line; write a header such as x,y,z.")
    if len(full) < 2:
        raise InputError(f"{path} has no particles: there is nothing after its header.")
    rows = [[value.strip() for value in next(csv.reader([lines[k]]))] for k in full[1:]]
    for k, row in zip(full[1:], rows, strict=True):
        if len(row) != len(columns):
            raise InputError(f"{path}, line {k + 1}: the row has {len(row)} values for {len(columns)} columns.")
    block = Block("", columns, True, rows, (full[0], full[0] + 1), [(k, k + 1) for k in full[1:]], path)
    return ParticleTable(path, text, block)


def label_of(name: str) -> str:
    """Return the RELION label that a column's name stands for, or the name itself."""
    return LABELS.get(name.lower(), name)


def with_rows(text: str, path: Path, keep: set[int], columns: dict[str, list[str]]) -> str:
    """Return the text without the lines of the other rows, and with columns appended.

    Parameters
    ----------
    keep : set of int
        Rows, counted from 0.
    columns : dict
        Name -> a value for each row kept, in the order of the file.
    """
    block = parse_csv(text, path).block
    lines = split_lines(text)
    spans = {start: k for k, (start, _) in enumerate(block.spans)}
    added = iter(list(zip(*columns.values(), strict=True)) if columns else [()] * len(keep))
    out: list[str] = []
    for number, line in enumerate(lines):
        row = spans.get(number)
        if row is not None and row not in keep:
            continue
        values = () if row is None and number != block.header[0] else tuple(columns) if row is None else next(added)
        body = line.rstrip("\r\n")
        out.append("".join([body, *("," + v for v in values), line[len(body) :]]))
    return "".join(out)
