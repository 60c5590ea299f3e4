"""One writer at a time in a run folder."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

STALE_AFTER = 1800.0
"""Seconds without a heartbeat after which another host's lock counts as left behind."""
STALE_HERE = 3600.0
"""The same on this host, where the process can be seen: after a restart its number may belong to another one."""
_BEAT_EVERY = 5.0


class Lock:
    """The file ``lock`` of a run folder: host, pid and heartbeat of the process that writes there.

    Use as a context manager. A lock whose process is gone or silent for `STALE_HERE` seconds (same host), or silent for
    `STALE_AFTER` seconds (another host), is taken over.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        On entering, if another process is writing or the folder may not be written to; on a beat, if another process
        has taken the lock over, also where it has given it back since (`lost` is True then).
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._beaten = 0.0
        self._heard = 0.0
        self.lost = False

    def __enter__(self) -> Lock:
        for _ in range(2):
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                self._take_over()
                continue
            except OSError as error:
                raise InputError(
                    f"{self._path.parent} cannot be written to ({error.strerror}); check who owns it."
                ) from error
            with os.fdopen(descriptor, "w") as file:
                file.write(self._content())
            self._beaten, self._heard = time.monotonic(), time.time()
            return self
        raise InputError(f"{self._path} cannot be taken; another process has just started to write there.")

    def __exit__(self, *_: object) -> None:
        if self._is_mine():
            self._path.unlink(missing_ok=True)

    def beat(self) -> None:
        """Say that this process is alive; cheap, to be called often."""
        if time.monotonic() - self._beaten > _BEAT_EVERY:
            self._beaten = time.monotonic()
            given_back = not self._path.exists() and time.time() - self._heard > STALE_AFTER
            if given_back or (self._text() and not self._is_mine()):
                self.lost = True
                raise InputError(f"{self._path.parent} was taken over by another process; leave the writing to it.")
            self._heard = time.time()
            part = self._path.with_name(f".lock.part-{os.getpid()}")
            part.write_text(self._content())
            os.replace(part, self._path)

    def _take_over(self) -> None:
        """Remove a lock that was left behind; raise for one that is held."""
        text = self._text()
        holder = _parsed(text)
        if holder is not None and _alive(holder):
            raise InputError(
                f"{self._path.parent} is being written by process {holder.get('pid')} on {holder.get('host')}; wait for it, or "
                "stop it by creating the file stop in that folder."
            )
        if holder is None and self._age() < _BEAT_EVERY:
            raise InputError(f"{self._path.parent} is just being taken by another process; wait for it.")
        aside = self._path.with_name(f".lock.old-{os.getpid()}")
        with suppress(FileNotFoundError):
            os.replace(self._path, aside)
            if aside.read_text() != text and not self._path.exists():
                os.replace(aside, self._path)  # another process was faster, and this is its new lock
            aside.unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        holder = _parsed(self._text())
        return holder is not None and (holder.get("host"), holder.get("pid")) == (socket.gethostname(), os.getpid())

    def _age(self) -> float:
        try:
            return time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def _text(self) -> str:
        try:
            return self._path.read_text()
        except (OSError, UnicodeDecodeError):
            return ""

    @staticmethod
    def _content() -> str:
        return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()})


def holder(folder: Path) -> str | None:
    """Return who holds the lock of a run folder, such as "process 812 on cluster4"; None where nobody does."""
    try:
        found = _parsed((folder / "lock").read_text())
    except (OSError, UnicodeDecodeError):
        return None
    if found is None or not _alive(found):
        return None
    return f"process {found.get('pid')} on {found.get('host')}"


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        holder = json.loads(text)
    except ValueError:
        return None
    return holder if isinstance(holder, dict) else None


def _alive(holder: dict[str, Any]) -> bool:
    try:
        silence = time.time() - float(holder.get("heartbeat", 0))
        pid = int(holder["pid"])
    except (KeyError, TypeError, ValueError):
        return False
    if holder.get("host") != socket.gethostname() or os.name == "nt":  # there, os.kill with 0 is a Ctrl+C
        return silence < STALE_AFTER
    if silence > STALE_HERE:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
