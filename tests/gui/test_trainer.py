"""Training as the window sees it: a child process and a folder, from its start to however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from qtpy.QtCore import QCoreApplication, QThread

from napari_disentangle.gui.trainer import Trainer
from napari_disentangle.run import Run
from napari_disentangle.training import fit, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_MS = 120_000
LONG = "training.epochs=5000"
"""Minutes: never finished in a test, only stopped or killed."""


class Watched:
    """A trainer, every state that it had, and every event that it told."""

    def __init__(self, trainer: Trainer, qtbot: Any) -> None:
        self.trainer, self._qtbot = trainer, qtbot
        self.states: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.elsewhere = 0
        trainer.changed.connect(self._on_changed)
        trainer.events.connect(self._on_events)

    def _here(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.elsewhere += 1
        if QThread.currentThread() != QCoreApplication.instance().thread():
            self.elsewhere += 1

    def _on_changed(self) -> None:
        self._here()
        if self.states[-1:] != [self.trainer.state]:
            self.states.append(self.trainer.state)

    def _on_events(self, events: list[dict[str, Any]]) -> None:
        self._here()
        self.events.extend(events)

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    def until(self, *states: str) -> None:
        """Wait for one of these states; any other end is a failure that is told at once."""
        self._qtbot.waitUntil(lambda: self.trainer.state in states or not self.trainer.active, timeout=WAIT_MS)
        assert self.trainer.state in states, f"{self.trainer.state}: {self.trainer.why}"
        assert self.elsewhere == 0, "told on another thread than the GUI's"

    def heard(self, event: str) -> None:
        """Wait for an event of that name, or for an end."""
        self._qtbot.waitUntil(lambda: event in self.names or not self.trainer.active, timeout=WAIT_MS)
        assert event in self.names, f"{self.trainer.state}: {self.trainer.why}"

    def ended(self, state: str) -> None:
        """Wait for this end, after which nothing more is told and no process is left."""
        self.until(state)
        told, had = len(self.events), list(self.states)
        self._qtbot.wait(300)
        assert (len(self.events), self.states) == (told, had)
        assert not self.trainer.active
        assert self.trainer.pid is None


@pytest.fixture
def watched(qtbot: Any) -> Iterator[Watched]:
    trainer = Trainer()
    yield Watched(trainer, qtbot)
    trainer.leave()
    if trainer.pid is not None:
        os.kill(trainer.pid, signal.SIGKILL)
    if trainer._process is not None:
        trainer._process.wait()


@pytest.fixture
def make(tiny_stack: Path, tiny: tuple[str, ...], tmp_path: Path) -> Callable[..., Run]:
    """Prepare a run of the tiny stack in a folder of that name."""

    def prepared(name: str, *settings: str) -> Run:
        return prepare(tiny_stack, tmp_path / name, settings=[*tiny, *settings])

    return prepared


def of(run: Run) -> dict[str, Any]:
    with np.load(run.path / "codes.npz") as stored:
        return {name: stored[name].tobytes() for name in stored}


@pytest.fixture
def finished(trained: Run, tmp_path: Path) -> Run:
    """A finished run that may be written to."""
    return Run.open(shutil.copytree(trained.path, tmp_path / "run"))


class TestOurs:
    def test_from_start_to_finish(self, watched, make):
        run, trainer = make("run"), watched.trainer
        assert (trainer.state, trainer.active, trainer.pid, trainer.log) == ("idle", False, None, None)
        trainer.start(run, "cpu")
        assert (trainer.state, trainer.ours, trainer.run) == ("starting", True, run)
        command = psutil.Process(trainer.pid).cmdline()
        if not psutil.WINDOWS:
            assert psutil.Process(trainer.pid).nice() == 10, "it computes while the window rests"
        assert command[-6:] == ["-m", "napari_disentangle", "train", str(run.path), "--device", "cpu"]
        watched.ended("finished")
        assert watched.states == ["starting", "running", "finished"]
        assert watched.events == run.events(), "every one, once, in order"
        assert watched.names[0] == "started"
        assert watched.names[-1] == "finished"
        assert watched.names.count("epoch") == 3
        assert trainer.why == ""
        assert "epoch 3 of 3" in trainer.log.read_text()
        assert run.codes().epoch == 3

    def test_paused_and_resumed_is_as_if_never_paused(self, watched, make):
        whole, run, trainer = make("whole", "training.epochs=10"), make("run", "training.epochs=10"), watched.trainer
        for _ in fit(whole, device="cpu"):
            pass
        trainer.start(run, "cpu")
        watched.until("running")
        trainer.pause()
        assert trainer.state == "stopping"
        watched.ended("paused")
        assert watched.states == ["starting", "running", "stopping", "paused"]
        assert run.state() == "stopped"
        assert not run.stop_asked()
        assert run.codes().epoch < 11
        assert of(run) != of(whole)

        before = len(run.events())
        started: list[int] = []
        trainer.changed.connect(
            lambda: (
                started.append(sum(event["event"] == "started" for event in run.events()))
                if trainer.state == "running"
                else None
            )
        )
        watched.states.clear()
        watched.events.clear()
        trainer.start(run, "cpu")
        watched.ended("finished")
        assert watched.states == ["starting", "running", "finished"]
        assert started == [2], "it runs when the new process says so, not when the old diary is read"
        assert watched.events == run.events()[before:], "the earlier ones have been told"
        assert of(run) == of(whole)

    def test_a_pause_while_it_starts_is_honoured(self, watched, make):
        """A start withdraws what was asked before it, so the trainer asks again."""
        run, trainer = make("run", LONG), watched.trainer
        trainer.start(run, "cpu")
        trainer.pause()
        assert trainer.state == "stopping"
        watched.ended("paused")
        assert watched.states == ["starting", "stopping", "paused"]
        assert watched.names[-1] == "stopped"
        assert run.checkpoint() is not None, "and can be resumed"
        assert not run.stop_asked()

    def test_killed_it_failed_most_likely_for_want_of_memory(self, watched, make):
        run, trainer = make("run", LONG), watched.trainer
        trainer.start(run, "cpu")
        watched.until("running")
        os.kill(trainer.pid, signal.SIGKILL)
        watched.ended("failed")
        assert str(run.path) in trainer.why
        assert "ended by SIGKILL, most likely because memory ran out" in trainer.why
        assert "Resume" in trainer.why

    @pytest.mark.parametrize("last", ["finished", "stopped", "failed"])
    def test_killed_before_it_says_a_word_it_is_not_what_it_was_before(self, watched, finished, last):
        """How an earlier training of the folder ended says nothing of this one."""
        finished.say(last, why="of another day")
        trainer = watched.trainer
        trainer.start(finished, "cpu")
        os.kill(trainer.pid, signal.SIGKILL)
        watched.ended("failed")
        assert "SIGKILL" in trainer.why

    def test_one_that_cannot_even_start_says_why(self, watched, make):
        run, trainer = make("run"), watched.trainer
        run.say("started")
        run.say("stopped", why="a stop was asked for")
        with run.lock():
            trainer.start(run, "cpu")
            watched.ended("failed")
        assert trainer.why.startswith(f"{run.path} is being written by process {os.getpid()}")

    def test_nor_can_one_whose_folder_is_gone(self, watched, make):
        """Somebody tidied up; the child's last words have gone with it."""
        run, trainer = make("run"), watched.trainer
        trainer.start(run, "cpu")
        shutil.rmtree(run.path)
        watched.ended("failed")
        assert str(run.path) in trainer.why

    def test_a_folder_that_may_not_be_written_to_is_no_start(self, watched, make):
        run, trainer = make("run"), watched.trainer
        (run.path / "train.log").mkdir()
        with pytest.raises(OSError, match="Is a directory"):
            trainer.start(run, "cpu")
        assert (watched.states, trainer.state, trainer.pid) == ([], "idle", None)

    def test_ended_with_the_window_before_it_began_it_is_gone_at_once(self, watched, make):
        """It would withdraw a request to stop, and train on without a window."""
        run, trainer = make("run", LONG), watched.trainer
        trainer.start(run, "cpu")
        process = trainer._process
        trainer.end()
        assert process.wait(10) == -signal.SIGTERM
        assert run.state() == "new"

    def test_ended_with_the_window_it_stops_and_keeps_the_model(self, watched, make, qtbot):
        run, trainer = make("run", LONG), watched.trainer
        trainer.start(run, "cpu")
        watched.until("running")
        process = trainer._process
        trainer.end()
        told = len(watched.events)
        assert process.wait(60) == 0
        assert run.state() == "stopped"
        assert len(run.codes().ids) == 30
        qtbot.wait(300)
        assert len(watched.events) == told, "nobody looks any more"

    def test_a_failure_is_told_with_its_sentence(self, watched, tiny_stack, tiny, tmp_path):
        boxes = tmp_path / "boxes"
        shutil.copytree(tiny_stack.parent, boxes, ignore=shutil.ignore_patterns("full"))
        run, trainer = prepare(boxes / "particles.star", tmp_path / "run", settings=tiny), watched.trainer
        boxes.rename(tmp_path / "moved")
        trainer.start(run, "cpu")
        watched.ended("failed")
        assert trainer.why == f"{boxes / 'particles.star'} does not exist; check the name."
        assert watched.names == ["started", "failed"]


@pytest.fixture
def elsewhere(make: Callable[..., Run], qtbot: Any) -> Iterator[tuple[Run, subprocess.Popen[bytes]]]:
    """A run that another process trains, for long."""
    run = make("elsewhere", LONG)
    with subprocess.Popen(
        [sys.executable, "-m", "napari_disentangle", "train", str(run.path), "--device", "cpu"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        qtbot.waitUntil(lambda: process.poll() is not None or "progress" in str(run.events()), timeout=WAIT_MS)
        assert process.poll() is None
        yield run, process
        process.kill()


WRITER = """
import sys, time
from pathlib import Path
from napari_disentangle.run.events import append_event
from napari_disentangle.run.lock import Lock
folder = Path(sys.argv[1])
with Lock(folder):
    append_event(folder, "started")
    print("writing", flush=True)
    while True:
        append_event(folder, "epoch")
        time.sleep(0.1)
"""


@pytest.fixture
def writer(finished: Run) -> Iterator[tuple[Run, subprocess.Popen[str]]]:
    """A run folder that another process writes to, as a training does, without the seconds that one takes to start."""
    command = [sys.executable, "-c", WRITER, str(finished.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield finished, process
        process.kill()


class TestElsewhere:
    def test_it_is_followed_left_alone_and_stopped(self, watched, elsewhere, finished, qtbot):
        (run, process), trainer = elsewhere, watched.trainer
        trainer.watch(run)
        assert (trainer.state, trainer.ours, trainer.pid, trainer.log) == ("running", False, None, None)
        qtbot.waitUntil(lambda: "epoch" in watched.names, timeout=WAIT_MS)
        assert watched.names[0] == "started", "from the beginning"
        before = len(watched.events)
        qtbot.waitUntil(lambda: len(watched.events) > before, timeout=WAIT_MS)

        # Another run is looked at: nothing is told of the first any more, and it goes on.
        trainer.show(finished, finished.events())
        assert (trainer.state, trainer.run) == ("finished", finished)
        watched.events.clear()
        told = len(run.events())
        qtbot.waitUntil(lambda: len(run.events()) > told + 1, timeout=WAIT_MS)
        qtbot.wait(500)
        assert watched.events == []
        assert trainer.state == "finished"
        assert process.poll() is None

        # And back to it.
        trainer.watch(run)
        trainer.stop()
        assert trainer.state == "stopping"
        watched.ended("stopped")
        assert process.wait(20) == 0
        assert watched.events == run.events()
        assert run.state() == "stopped"

    def test_one_that_is_killed_there_was_cut_off(self, watched, writer):
        (run, process), trainer = writer, watched.trainer
        trainer.watch(run)
        watched.heard("epoch")
        process.kill()
        process.wait()
        watched.ended("cut off")
        assert watched.events == run.events()
        assert str(run.path) in trainer.why
        assert "Resume" in trainer.why

    def test_who_leaves_hears_no_more_and_it_goes_on(self, watched, writer, qtbot):
        (run, process), trainer = writer, watched.trainer
        trainer.watch(run)
        watched.heard("epoch")
        trainer.leave()
        watched.events.clear()
        told = len(run.events())
        qtbot.waitUntil(lambda: len(run.events()) > told, timeout=WAIT_MS)
        qtbot.wait(300)
        assert watched.events == []
        assert watched.states == ["running"]
        assert process.poll() is None
        assert not run.stop_asked()


class TestShown:
    @pytest.mark.parametrize(
        ("last", "state", "why"),
        [
            ({"event": "finished"}, "finished", ""),
            ({"event": "stopped", "why": "a stop was asked for"}, "stopped", ""),
            ({"event": "failed", "why": "memory ran out"}, "failed", "memory ran out"),
            ({"event": "progress"}, "cut off", "was cut off before the end; Resume"),
        ],
    )
    def test_how_it_ended(self, watched, finished, last, state, why):
        finished.say(**last)
        watched.trainer.show(finished, finished.events())
        assert (watched.states, watched.trainer.state) == ([state], state)
        assert why in watched.trainer.why
        assert bool(why) == bool(watched.trainer.why)
        assert watched.events == finished.events()
        assert not watched.trainer.active
        watched.trainer.pause()
        assert not finished.stop_asked(), "nobody is there to be asked"

    def test_a_new_one_is_idle(self, watched, make):
        run = make("run")
        watched.trainer.show(run, [])
        assert (watched.trainer.state, watched.trainer.run, watched.events) == ("idle", run, [])

    def test_an_earlier_why_is_forgotten(self, watched, finished, make):
        finished.say("failed", why="memory ran out")
        watched.trainer.show(finished, finished.events())
        watched.trainer.show(make("other"), [])
        assert watched.trainer.why == ""
