"""Training as the window sees it: a child process that writes a run folder, and the folder's events as they come."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_disentangle.gui.worker import follow, sentence
from napari_disentangle.run.events import EventTail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_disentangle.run import Run

LOG = "train.log"
"""What the child printed, in the run folder."""
LOOK_EVERY = 0.2
"""Seconds between looks at the folder."""
RUNNING = frozenset({"starting", "running", "stopping"})


class Trainer(QObject):
    """Starts, stops and follows the training of one run at a time.

    `state` is "idle", "starting", "running", "stopping", or how it ended: "paused", "stopped", "finished", "failed",
    "cut off". A run that another process trains, on this machine or another, is followed in the same way; to stop it,
    the file ``stop`` is put into its folder, as for one of ours.
    """

    events = Signal(list)
    """New events of the diary, oldest first."""
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
        self._process: subprocess.Popen[bytes] | None = None
        self._leave = threading.Event()
        self._pausing = False
        self._round = 0
        self._earlier = 0
        """Events of the diary that an earlier training wrote and that have not been told yet."""
        self._spoke = False
        """Whether the present training has written any."""

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
        """Train a run, or go on training it, in a child process."""
        run.clear_stop()
        earlier = len(run.events())
        with (run.path / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "napari_disentangle", "train", str(run.path), "--device", device],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._begin(run, "starting", ours=True, earlier=earlier)

    def watch(self, run: Run) -> None:
        """Follow a run that another process trains."""
        self._process = None
        self._begin(run, "running", ours=False, earlier=0)

    def show(self, run: Run) -> None:
        """Tell the events of a run that nobody trains."""
        self._leave.set()  # whoever followed an earlier run
        self._round += 1
        self._process = None
        self.run, self.ours, self.why = run, False, ""
        events = run.events()
        last = str(events[-1]["event"]) if events else "new"
        ended = {"finished": "finished", "stopped": "stopped", "failed": "failed", "new": "idle"}.get(last, "cut off")
        if ended == "failed":
            self.why = str(events[-1].get("why", ""))
        elif ended == "cut off":
            self.why = f"{run.path}: its training was cut off before the end; Resume goes on from its last checkpoint."
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

    def let_go(self) -> None:
        """Take a training of ours for one that was started elsewhere: it is not stopped with the window."""
        self.ours = False

    def _ask_to_stop(self, *, pausing: bool) -> None:
        if self.run is not None and self.active:
            self._pausing = pausing
            self.run.ask_to_stop()
            self._set("stopping")

    def _begin(self, run: Run, state: str, *, ours: bool, earlier: int) -> None:
        self._leave.set()  # whoever followed an earlier run
        self._leave = threading.Event()
        self._round += 1
        self.run, self.ours, self.why, self._pausing = run, ours, "", False
        self._earlier, self._spoke = earlier, False
        this, process, leave = self._round, self._process, self._leave
        self._set(state)

        def told(events: list[dict[str, Any]]) -> None:
            if this == self._round and not leave.is_set():
                present = events[self._earlier :]
                self._earlier = max(0, self._earlier - len(events))
                self._spoke = self._spoke or bool(present)
                if any(e["event"] == "started" for e in present):
                    if self.state == "stopping":
                        run.ask_to_stop()  # a start withdraws what was asked before it
                    elif self.state == "starting":
                        self._set("running")
                self.events.emit(events)

        def done() -> None:
            if this == self._round and not leave.is_set():
                self._ended(run, process)

        def failed(error: BaseException) -> None:
            if this == self._round:
                self.why = sentence(error)
                self._set("failed")

        follow(lambda: _events(run.path, process, leave), told=told, done=done, failed=failed)

    def _ended(self, run: Run, process: subprocess.Popen[bytes] | None) -> None:
        status = None if process is None else process.returncode
        # One that ends before its first word leaves the diary as an earlier training ended it.
        state = run.state() if self._spoke or not status else "unfinished"
        if state == "finished":
            self._set("finished")
        elif state == "stopped":
            self._set("paused" if self._pausing else "stopped")
        elif state == "failed":
            self.why = str(run.events()[-1].get("why", "")) or "it gave no reason"
            self._set("failed")
        else:
            self.why = _why_cut_off(run.path, status)
            self._set("failed" if status else "cut off")

    def _set(self, state: str) -> None:
        self.state = state
        self.changed.emit()


def _events(
    folder: Path, process: subprocess.Popen[bytes] | None, leave: threading.Event
) -> Iterator[list[dict[str, Any]]]:
    """Yield new events of a run until nobody trains it any more, or `leave` is set."""
    from napari_disentangle.run.lock import holder

    tail = EventTail(folder)
    while True:
        # Looked at before reading: what it writes last is read after it has gone.
        gone = process.poll() is not None if process is not None else holder(folder) is None
        found = tail.new()
        if found:
            yield found
        if gone or leave.wait(LOOK_EVERY):
            return


def _why_cut_off(folder: Path, status: int | None) -> str:
    remedy = "Resume goes on from its last checkpoint"
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        memory = ", most likely because memory ran out" if name == "SIGKILL" else ""
        return f"{folder}: the training process was ended by {name}{memory}; free some memory or choose smaller batches. {remedy}."
    if status:
        lines = [line.strip() for line in (folder / LOG).read_text(errors="replace").splitlines() if line.strip()]
        last = lines[-1].removeprefix("napari-disentangle: ") if lines else ""
        return last or f"{folder}: the training process ended with status {status}; {remedy}."
    return f"{folder}: its training ended without a word; {remedy}."
