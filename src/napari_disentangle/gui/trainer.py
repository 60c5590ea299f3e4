"""Training as the window sees it: a child process that writes a run folder, and the folder's events as they come."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_disentangle.gui.worker import follow, sentence, yield_to_window
from napari_disentangle.run.events import EventTail
from napari_disentangle.run.lock import holder

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_disentangle.run import Run

LOG = "train.log"
"""What the child printed, in the run folder."""
LOOK_EVERY = 1.0
"""Seconds between looks at the folder; what is new is painted, and without a graphics card training pays for that."""
RUNNING = frozenset({"starting", "running", "stopping"})


class Trainer(QObject):
    """Starts, stops and follows the training of one run at a time.

    `state` is "idle", "starting", "running", "stopping", or how it ended: "paused", "stopped", "finished", "failed",
    "cut off". A run that another process trains, on this machine or another, is followed in the same way; to stop it,
    the file ``stop`` is put into its folder, as for one of ours.
    """

    events = Signal(list)
    """New events of the diary, oldest first."""
    anew = Signal()
    """`events` tells the diary of a run that is followed from its beginning."""
    changed = Signal()
    """Another `state`, or other `why`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: Run | None = None
        self.state = "idle"
        self.why = ""
        """The sentence that goes with "failed" or "cut off"."""
        self.ours = False
        """Whether the process is our child."""
        self.told: list[dict[str, Any]] = []
        """What `events` has told of this run, for who comes later."""
        self._process: subprocess.Popen[bytes] | None = None
        self._leave = threading.Event()
        self._pausing = False
        self._round = 0
        self._begun = False
        """Whether the child has said that it started; before that it would not see a request to stop."""

    @property
    def active(self) -> bool:
        """Whether a run is being trained."""
        return self.state in RUNNING

    @property
    def pid(self) -> int | None:
        """Of our child; None where none runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def log(self) -> Path | None:
        """What the child of the present run printed, if it is there."""
        path = None if self.run is None else self.run.path / LOG
        return path if path is not None and path.is_file() else None

    def start(self, run: Run, device: str = "auto") -> None:
        """Train a run, or go on training it, in a child process.

        Raises
        ------
        OSError
            The folder may not be written to, or there is no memory for another process.
        """
        run.clear_stop()
        tail = EventTail(run.path)
        tail.skip()
        with (run.path / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "napari_disentangle", "train", str(run.path), "--device", device],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        yield_to_window(self._process.pid)
        self._begin(run, "starting", tail, ours=True)

    def watch(self, run: Run) -> None:
        """Follow a run that another process trains."""
        self._process = None
        self._begin(run, "running", EventTail(run.path), ours=False)

    def show(self, run: Run, events: list[dict[str, Any]]) -> None:
        """Tell the events of a run that nobody trains, as they were read."""
        self._leave.set()  # whoever followed an earlier run
        self._round += 1
        self._process = None
        self.run, self.ours, self.why = run, False, ""
        last = str(events[-1]["event"]) if events else "new"
        ended = {"finished": "finished", "stopped": "stopped", "failed": "failed", "new": "idle"}.get(last, "cut off")
        if ended == "failed":
            self.why = str(events[-1].get("why", ""))
        elif ended == "cut off":
            self.why = f"{run.path}: its training was cut off before the end; {_remedy(run.path)}."
        self.told = list(events)
        self._set(ended)
        self.events.emit(events)

    def pause(self) -> None:
        """Stop after the present step, to be resumed; memory is freed."""
        self._ask_to_stop(pausing=True)

    def stop(self) -> None:
        """Stop after the present step and keep the model as it is; it can be resumed too."""
        self._ask_to_stop(pausing=False)

    def leave(self) -> None:
        """Look no longer; the training itself goes on."""
        self._leave.set()

    def end(self) -> None:
        """Stop a training of ours and look no longer; one that has not begun would not see a request, and is ended."""
        if self.active and self.ours:
            begun = self._begun
            with suppress(OSError):  # the folder has gone
                self._ask_to_stop(pausing=False)
            if not begun and self._process is not None:
                self._process.terminate()
        self.leave()

    def let_go(self) -> None:
        """Take a training of ours for one that was started elsewhere: it is not stopped with the window."""
        self.ours = False

    def _ask_to_stop(self, *, pausing: bool) -> None:
        if self.run is not None and self.active:
            self._pausing = pausing
            self.run.ask_to_stop()
            self._set("stopping")

    def _begin(self, run: Run, state: str, tail: EventTail, *, ours: bool) -> None:
        self._leave.set()  # whoever followed an earlier run
        self._leave = threading.Event()
        self._round += 1
        same = ours and self.run is not None and self.run.path == run.path
        self.run, self.ours, self.why, self._pausing, self._begun = run, ours, "", False, not ours
        this, process, leave = self._round, self._process, self._leave
        if not same:
            self.told = []
            self.anew.emit()
        self._set(state)

        def told(events: list[dict[str, Any]]) -> None:
            if this == self._round and not leave.is_set():
                if any(e["event"] == "started" for e in events):
                    self._begun = True
                    if self.state == "stopping":
                        run.ask_to_stop()  # a start withdraws what was asked before it
                    elif self.state == "starting":
                        self._set("running")
                self.told += events
                self.events.emit(events)

        def done(last: dict[str, Any] | None) -> None:
            if this == self._round and not leave.is_set():
                self._ended(run, last, None if process is None else process.returncode)

        def failed(error: BaseException) -> None:
            if this == self._round:
                self.why = sentence(error)
                self._set("failed")

        follow(lambda: _events(run.path, tail, process, leave), told=told, done=done, failed=failed)

    def _ended(self, run: Run, last: dict[str, Any] | None, status: int | None) -> None:
        """Take how it ended: its last word, None where it ended before the first, and the status of a child of ours."""
        word = "" if last is None else last["event"]
        if word == "finished":
            self._set("finished")
        elif word == "stopped":
            self._set("paused" if self._pausing else "stopped")
        elif word == "failed" and last is not None:
            self.why = str(last.get("why", "")) or f"{run.path}: its training failed and gave no reason."
            self._set("failed")
        else:
            self.why = _why_cut_off(run.path, status)
            self._set("failed" if status else "cut off")

    def _set(self, state: str) -> None:
        self.state = state
        self.changed.emit()


def _events(
    folder: Path, tail: EventTail, process: subprocess.Popen[bytes] | None, leave: threading.Event
) -> Generator[list[dict[str, Any]], None, dict[str, Any] | None]:
    """Yield new events of a run until nobody trains it any more, or `leave` is set; return the last one."""
    last: dict[str, Any] | None = None
    while True:
        # Looked at before reading: what it writes last is read after it has gone.
        gone = process.poll() is not None if process is not None else holder(folder) is None
        found = tail.new()
        if found:
            last = found[-1]
            yield found
        if gone or leave.wait(LOOK_EVERY):
            return last


def _remedy(folder: Path) -> str:
    begun = (folder / "current").is_file()
    return "Resume goes on from its last checkpoint" if begun else "Resume begins it again: there was no checkpoint yet"


def _why_cut_off(folder: Path, status: int | None) -> str:
    remedy = _remedy(folder)
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        memory = ", most likely because memory ran out" if name == "SIGKILL" else ""
        return f"{folder}: the training process was ended by {name}{memory}; free some memory or choose smaller batches. {remedy}."
    if status:
        log = folder / LOG
        printed = log.read_text(errors="replace") if log.is_file() else ""  # somebody may have tidied up
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        last = lines[-1].removeprefix("napari-disentangle: ") if lines else ""
        return last or f"{folder}: the training process ended with status {status}; {remedy}."
    return f"{folder}: its training ended without a word; {remedy}."
