"""The diary of a run: one JSON object a line, only ever appended to."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
LAST = frozenset({"finished", "stopped", "failed"})
"""Events after which nothing follows until the run is taken up again."""


def append_event(folder: Path, event: str, **values: object) -> None:
    """Append an event with its name and the time (seconds since 1970)."""
    line = json.dumps(
        {"schema_version": SCHEMA_VERSION, "event": event, "time": time.time(), **values}, allow_nan=False
    )
    with (folder / "events.jsonl").open("a+b") as file:
        if file.tell() and not _ends_a_line(file):
            line = "\n" + line  # whoever wrote the torn line was killed: what follows must not be lost with it
        file.write((line + "\n").encode())


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return all events, oldest first. A line that is still being written is left out."""
    try:
        text = (folder / "events.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return _parsed(text)


class EventTail:
    """Events as they are appended: every call of `new` returns those since the call before, the first returns all.

    Parameters
    ----------
    folder : Path
        Of the run; its diary need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.jsonl"
        self._at = 0

    def skip(self) -> None:
        """Leave out all that is there now."""
        with suppress(FileNotFoundError):
            self._at = self._path.stat().st_size

    def new(self) -> list[dict[str, Any]]:
        """Return events that are whole and were not returned before, oldest first."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return _parsed(whole.decode("utf-8", "replace"))


def _parsed(text: str) -> list[dict[str, Any]]:
    """Return the events of some lines; a torn or foreign line is left out."""
    events: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
