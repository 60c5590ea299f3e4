"""Lossless STAR text: what is not changed on purpose stays as it was, to the byte."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# A quoted value ends at the quote that a space or the end of the line follows; an unquoted "#" opens a comment.
_TOKEN = re.compile(r"""'((?:[^']|'(?=\S))*)'(?=\s|$)|"((?:[^"]|"(?=\S))*)"(?=\s|$)|(\#.*)|(\S+)""")


def _tokens(line: str) -> list[str]:
    """Split a line into values, without their quotes and without comments."""
    if "'" not in line and '"' not in line and "#" not in line:
        return line.split()
    found: list[str] = []
    for match in _TOKEN.finditer(line):
        single, double, comment, plain = match.groups()
        if comment is not None:
            break
        found.append(next(v for v in (single, double, plain) if v is not None))
    return found


def _end_of_values(line: str) -> int:
    """Return where the values of a line end: before its comment and line end, trailing spaces left to the values."""
    if "#" in line:
        for match in _TOKEN.finditer(line):
            if match.group(3) is not None:
                return len(line[: match.start()].rstrip())
    return len(line.rstrip("\r\n"))


def _line_end(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def quote(value: str) -> str:
    """Return a value as it must be written in a STAR file, in quotes where it needs them.

    Raises
    ------
    ValueError
        The value holds a line end, or spaces and both kinds of quote.
    """
    if "\n" in value or "\r" in value:
        raise ValueError("a STAR value may not hold a line end")
    if _tokens(value) == [value] and value[0] not in "_;'\"#$[" and not value.lower().startswith(("data_", "loop_")):
        return value
    for mark in "\"'":
        if _tokens(f"{mark}{value}{mark}") == [value]:
            return f"{mark}{value}{mark}"
    raise ValueError(f"{value!r} cannot be written as one STAR value")


@dataclass(frozen=True)
class Block:
    """One table of a STAR file: a loop with a row per particle, or pairs of label and value, which make one row."""

    name: str
    """What follows ``data_``; empty where nothing does."""
    columns: list[str]
    """Labels without the leading underscore."""
    loop: bool
    rows: list[list[str]]
    """Values of each row, quotes removed."""
    header: tuple[int, int]
    """First line of the labels and the line after the last one."""
    spans: list[tuple[int, int]]
    """First line of each row and the line after it. In pairs: of each pair."""
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def column(self, name: str) -> list[str]:
        """Return the values of a column as text, (n,).

        Raises
        ------
        InputError
            There is no such column.
        """
        if name not in self.columns:
            raise InputError(f"{self._title()} has no column _{name}.")
        k = self.columns.index(name)
        return [row[k] for row in self.rows]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return the values of a column as numbers, (n,).

        Raises
        ------
        InputError
            There is no such column, or a value is not a finite number.
        """
        values = self.column(name)
        try:
            numbers = np.array(values, dtype=np.float64)
        except ValueError:
            numbers = np.array([_number(v) for v in values])
        if not np.isfinite(numbers).all():
            bad = np.flatnonzero(~np.isfinite(numbers))
            more = f", and {len(bad) - 1} more rows like it" if len(bad) > 1 else ""
            raise InputError(
                f"{self._title()} has no number in _{name} at row {bad[0] + 1} (line {self.spans[bad[0]][0] + 1}): "
                f'"{values[bad[0]]}"{more}; correct or remove these rows.'
            )
        return numbers

    def _title(self) -> str:
        return f"{self.path or 'the STAR text'} (block data_{self.name})"


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


@dataclass(frozen=True)
class StarFile:
    """The text of a STAR file and where its tables lie in it."""

    text: str
    blocks: tuple[Block, ...]
    path: Path | None = None

    @classmethod
    def read(cls, path: Path) -> StarFile:
        """Read a STAR file.

        Raises
        ------
        InputError
            No such file, or it is not a STAR file.
        """
        return cls.parse(read_text(path), path)

    @classmethod
    def parse(cls, text: str, path: Path | None = None) -> StarFile:
        """Find the tables in the text of a STAR file; `path` is for messages.

        Raises
        ------
        InputError
            It is empty or not STAR, or a row has too many or too few values.
        """
        return cls(text, tuple(_Parser(text, path).blocks()), path)

    def block(self, name: str) -> Block:
        """Return the first block of this name, without ``data_``.

        Raises
        ------
        InputError
            There is none.
        """
        for block in self.blocks:
            if block.name == name:
                return block
        raise InputError(f"{self.path or 'the STAR text'} has no block data_{name}.")

    def with_rows(self, block: Block | str, keep: Iterable[int]) -> StarFile:
        """Return the same text without the lines of the other rows of one block.

        Parameters
        ----------
        block : Block or str
            Or the name of the first block that is meant.
        keep : (k,)
            Rows to keep, counted from 0. They stay in the order of the file.

        Raises
        ------
        IndexError
            A row is not in the block.
        """
        target = self.block(block) if isinstance(block, str) else block
        wanted = {int(k) for k in keep}
        if wanted and not 0 <= min(wanted) <= max(wanted) < len(target):
            raise IndexError(f"rows {min(wanted)} to {max(wanted)} of a block that has {len(target)}")
        if not target.loop:
            gone = set() if wanted else {i for start, end in target.spans for i in range(start, end)}
        else:
            gone = {i for k, (start, end) in enumerate(target.spans) if k not in wanted for i in range(start, end)}
        lines = split_lines(self.text)
        return StarFile.parse("".join(line for i, line in enumerate(lines) if i not in gone), self.path)

    def with_columns(self, block: Block | str, columns: Mapping[str, Sequence[str]]) -> StarFile:
        """Return the same text with columns appended to one block.

        Parameters
        ----------
        block : Block or str
            Or the name of the first block that is meant.
        columns : dict
            Label without underscore -> (n,) values as text; put in quotes where they need them.

        Raises
        ------
        InputError
            The block has a column of this name already.
        ValueError
            Not one value per row, or a value that STAR cannot hold.
        """
        target = self.block(block) if isinstance(block, str) else block
        for label, values in columns.items():
            if label in target.columns:
                raise InputError(f"{self.path or 'the STAR text'} has a column _{label} already; it is not replaced.")
            if len(values) != len(target):
                raise ValueError(f"{len(values)} values of {label} for {len(target)} rows")
        lines = split_lines(self.text)
        eol = "\r\n" if "\r\n" in self.text else "\n"
        last = target.header[1] - 1
        if not target.loop:
            labels = [f"_{label}  {quote(values[0])}{eol}" for label, values in columns.items() if len(values)]
        else:
            numbered = re.search(r"#\s*\d+\s*$", lines[last]) is not None
            count = len(target.columns)
            labels = [
                f"_{label} #{count + k + 1}{eol}" if numbered else f"_{label}{eol}" for k, label in enumerate(columns)
            ]
            for k, (start, end) in enumerate(target.spans):
                line = lines[end - 1]
                at = _end_of_values(line)
                gap = "\t" if "\t" in lines[start].strip() else " "
                lines[end - 1] = line[:at] + "".join(gap + quote(v[k]) for v in columns.values()) + line[at:]
        if labels and not _line_end(lines[last]):
            lines[last] += eol
        lines.insert(last + 1, "".join(labels))
        return StarFile.parse("".join(lines), self.path)


def split_lines(text: str) -> list[str]:
    """Split text into lines with their ends; only at line feeds and carriage returns, unlike ``str.splitlines``."""
    return list(io.StringIO(text, newline=""))


def _begins_block(words: list[str]) -> bool:
    """Return whether a line is the name of a block: alone, since file names in a row may begin like it."""
    return len(words) == 1 and words[0].lower().startswith("data_")


class _Parser:
    """Reads blocks off the lines of a STAR file."""

    def __init__(self, text: str, path: Path | None) -> None:
        self._lines = split_lines(text)
        self._path = path

    def blocks(self) -> list[Block]:
        """Return all blocks; a loop after pairs in one ``data_`` makes a second block of the same name."""
        found: list[Block] = []
        name: str | None = None
        at = 0
        while at < len(self._lines):
            words = self._words(at)
            if not words:
                at += 1
            elif _begins_block(words):
                name = words[0][5:]
                at += 1
                ahead = next((w for w in map(self._words, range(at, len(self._lines))) if w), ["data_"])
                if _begins_block(ahead):
                    found.append(Block(name, [], False, [], (at, at), [], self._path))
            elif name is None:
                raise self._error(at, "is not STAR: there is text before the first data_ block")
            elif words[0].lower() == "loop_":
                block, at = self._loop(name, at + 1)
                found.append(block)
            elif words[0].startswith("_"):
                block, at = self._pairs(name, at)
                found.append(block)
            else:
                raise self._error(at, "is not STAR: a value without a label")
        if name is None:
            raise InputError(
                f"{self._path or 'the STAR text'} is not a STAR file: it has no data_ block; give a RELION list."
            )
        return found

    def _words(self, at: int) -> list[str]:
        line = self._lines[at]
        return _tokens(line.removeprefix("\ufeff") if at == 0 else line)

    def _quoted(self, at: int) -> bool:
        return self._lines[at].lstrip()[:1] in "'\""

    def _pairs(self, name: str, at: int) -> tuple[Block, int]:
        columns: list[str] = []
        values: list[str] = []
        spans: list[tuple[int, int]] = []
        first = at
        while at < len(self._lines):
            words = self._words(at)
            if words and not words[0].startswith("_"):
                break
            if words:
                if len(words) != 2:
                    raise self._error(at, f"{words[0]} has {len(words) - 1} values, not one")
                columns.append(words[0][1:])
                values.append(words[1])
                spans.append((at, at + 1))
            at += 1
        header = (first, spans[-1][1])
        return Block(name, columns, False, [values], header, spans, self._path), at

    def _loop(self, name: str, at: int) -> tuple[Block, int]:
        columns: list[str] = []
        header = (at, at)
        while at < len(self._lines):
            words = self._words(at)
            if words and (not words[0].startswith("_") or self._quoted(at)):
                break
            if words:
                columns.append(words[0][1:])
                header = (header[0] if len(columns) > 1 else at, at + 1)
            at += 1
        if not columns:
            raise self._error(max(at - 1, 0), "loop_ without labels")
        rows: list[list[str]] = []
        spans: list[tuple[int, int]] = []
        row: list[str] = []
        start = at
        while at < len(self._lines):
            words = self._words(at)
            if words and not self._quoted(at) and self._ends_loop(words):
                break
            if words:
                if words[0].startswith(";"):
                    raise self._error(at, "holds a text of several lines, which is not supported")
                if not row:
                    start = at
                row = row + words if row else words
                if len(row) > len(columns):
                    found = len(row) if start == at else len(self._words(start))
                    raise self._error(start, f"the row has {found} values for {len(columns)} columns")
                if len(row) == len(columns):
                    rows.append(row)
                    spans.append((start, at + 1))
                    row = []
            at += 1
        if row:
            raise self._error(start, f"the row has {len(row)} values for {len(columns)} columns")
        return Block(name, columns, True, rows, header, spans, self._path), at

    @staticmethod
    def _ends_loop(words: list[str]) -> bool:
        return _begins_block(words) or words[0].lower() == "loop_" or words[0].startswith("_")

    def _error(self, at: int, what: str) -> InputError:
        return InputError(
            f"{self._path or 'the STAR text'}, line {at + 1}: {what}; repair the file or export it again."
        )
