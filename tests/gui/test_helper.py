"""The warm process and its window: answers on the GUI thread, a death that is told, an end that leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from qtpy.QtCore import QCoreApplication, QThread

from napari_disentangle.errors import InputError
from napari_disentangle.gui.helper import Helper
from napari_disentangle.gui.worker import TaskBugError
from napari_disentangle.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANSWER_MS = 60_000


class Asked:
    """One question: what came back, in which order, and whether it came on the GUI thread."""

    def __init__(self, helper: Helper, task: str, **given: Any) -> None:
        self.came: list[tuple[str, Any]] = []
        self.elsewhere = 0
        helper.ask(task, given, done=self._on("done"), failed=self._on("failed"), told=self._on("told"))

    def _on(self, what: str) -> Callable[..., None]:
        def heard(*values: Any) -> None:
            app = QCoreApplication.instance()
            if threading.current_thread() is not threading.main_thread() or QThread.currentThread() != app.thread():
                self.elsewhere += 1
            self.came.append((what, values if what == "told" else values[0]))

        return heard

    @property
    def answered(self) -> bool:
        return any(what != "told" for what, _ in self.came)

    def wait(self, qtbot: Any) -> Any:
        """Wait for the answer; return it."""
        qtbot.waitUntil(lambda: self.answered, timeout=ANSWER_MS)
        qtbot.wait(20)
        assert [what for what, _ in self.came[:-1]] == ["told"] * (len(self.came) - 1), "one answer, and the last word"
        assert self.elsewhere == 0
        return self.came[-1][1]


def learnt(helper: Helper, run: Run) -> Asked:
    """A question that is answered at once, without torch."""
    return Asked(helper, "learnt", run=str(run.path), groups="A")


def working(helper: Helper, run: Run, qtbot: Any) -> Asked:
    """A question that takes minutes, and is being worked on."""
    given = {"run": str(run.path), "selection": "A/0", "ids": run.ids().tolist()}
    asked = Asked(helper, "average", **given, mode="free", rounds=50, starts=50)
    qtbot.waitUntil(lambda: bool(asked.came), timeout=ANSWER_MS)
    assert not asked.answered
    return asked


@pytest.fixture
def run(trained: Run, tmp_path) -> Run:
    return Run.open(shutil.copytree(trained.path, tmp_path / "run"))


@pytest.fixture
def new(qapp: Any) -> Iterator[Helper]:  # noqa: ARG001 (signals need an application)
    """A helper that was asked nothing yet."""
    found = Helper()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def helper(qapp: Any, trained: Run) -> Iterator[Helper]:
    """One that has answered once, for all tests that leave it alive: every process imports torch first."""
    found = Helper()
    asked = learnt(found, trained)
    while not asked.answered:
        qapp.processEvents()
        time.sleep(0.01)
    yield found
    found.stop()


def warm(helper: Helper) -> None:
    """Let it import what tasks need."""
    helper.ask("warm", {}, done=lambda _: None, failed=lambda _: None)


def test_answers_arrive_on_the_gui_thread(helper, run, qtbot):
    pid = helper.pid
    assert pid is not None
    assert not helper.busy
    asked = learnt(helper, run)
    assert helper.busy
    assert not asked.came, "never before ask returns"
    assert asked.wait(qtbot)["words"]
    assert asked.came[0] == ("told", ("looking at what was learnt", 0.0))
    assert not helper.busy
    assert helper.pid == pid, "one process for all"


def test_every_question_gets_its_own_answer(helper, run, qtbot, tmp_path):
    good = [learnt(helper, run) for _ in range(5)]
    bad = [Asked(helper, "learnt", run=str(tmp_path / f"absent{k}"), groups="A") for k in range(5)]
    for k in range(5):
        assert good[k].wait(qtbot)["words"]
        assert f"absent{k}" in str(bad[k].wait(qtbot))


def test_a_sentence_comes_as_an_input_error_and_a_bug_as_a_bug(helper, run, qtbot, tmp_path):
    error = Asked(helper, "learnt", run=str(tmp_path / "absent"), groups="A").wait(qtbot)
    assert type(error) is InputError
    assert "absent is not a run folder" in str(error)
    bug = Asked(helper, "learnt", run=str(run.path), nonsense=1).wait(qtbot)
    assert type(bug) is TaskBugError
    assert "nonsense" in str(bug).splitlines()[-1]


def test_what_cannot_be_asked_is_not_waited_for(helper, run, qtbot):
    with pytest.raises(TypeError, match="not JSON serializable"):
        Asked(helper, "learnt", run=run.path, groups="A")
    assert not helper.busy
    assert learnt(helper, run).wait(qtbot)["words"]


def test_a_kill_fails_what_waits_and_the_next_question_starts_another(new, run, qtbot):
    long = working(new, run, qtbot)
    assert learnt(new, run).wait(qtbot)["words"], "a click is answered while it works"
    assert not long.answered
    first = new.pid
    os.kill(first, signal.SIGKILL)
    error = long.wait(qtbot)
    assert type(error) is InputError
    assert "has gone (it was killed, most likely because memory ran out)" in str(error)
    assert "try once more" in str(error)
    assert (new.pid, new.busy) == (None, False)

    # The next one dies of a mistake of ours, and who hears of it asks again at once.
    again: list[Asked] = []
    died = Asked(new, "no such task")
    second = new.pid
    new.ask("learnt", {}, done=lambda _: None, failed=lambda _: again.append(learnt(new, run)))
    error = died.wait(qtbot)
    assert "has gone (it ended with status 1: StopIteration)" in str(error)
    assert again[0].wait(qtbot)["words"]
    assert len({first, second, new.pid, None}) == 4, "three processes, one after the other"


def test_asking_one_that_has_just_died_fails_with_the_same_sentence(new, run, qtbot):
    """Its death has not been noticed yet: nothing is lost in the pipe."""
    warm(new)
    process = psutil.Process(new.pid)
    process.kill()
    psutil.wait_procs([process], timeout=10)
    assert new.pid == process.pid, "what the listener says of it waits for the GUI thread"
    asked = [learnt(new, run) for _ in range(3)]
    for one in asked:
        assert "has gone" in str(one.wait(qtbot))
    assert (new.pid, new.busy) == (None, False)


def test_starting_warms_it_and_stopping_leaves_nothing(new, run, qtbot):
    assert (new.pid, new.busy) == (None, False)
    warm(new)
    pid = new.pid
    assert new.busy
    warm(new)
    assert new.pid == pid, "twice is once"
    assert psutil.Process(pid).cmdline()[-2:] == ["-m", "napari_disentangle.tasks"]
    if not psutil.WINDOWS:
        assert psutil.Process(pid).nice() == 10, "it computes while the window rests"
        assert os.getsid(pid) != os.getsid(0), "and the window's own session keeps its share"
    qtbot.wait(50)
    new.stop()
    assert not psutil.pid_exists(pid)

    # Asked after that, it starts again; stopped while it works, it drops what waits without a word.
    long = working(new, run, qtbot)
    pid, told = new.pid, len(long.came)
    new.stop()
    assert not psutil.pid_exists(pid)
    assert (new.pid, new.busy) == (None, False)
    qtbot.wait(200)
    assert len(long.came) == told
    assert not long.answered
    new.stop()


WINDOW = """
from qtpy.QtCore import QCoreApplication
from napari_disentangle.gui.helper import Helper
app = QCoreApplication([])
helper = Helper()
helper.ask("warm", {}, done=print, failed=print)
print(helper.pid, flush=True)
app.exec()
"""


def test_it_ends_with_a_window_that_is_killed():
    """Nobody calls stop: the system closes the pipe, while the process is still busy with its imports."""
    with subprocess.Popen([sys.executable, "-c", WINDOW], stdout=subprocess.PIPE, text=True) as window:
        assert window.stdout is not None
        process = psutil.Process(int(window.stdout.readline()))
        assert process.ppid() == window.pid
        window.kill()
    deadline = time.monotonic() + 60  # it reads that nobody is there once its imports are done
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it outlives the window"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not held there")
def test_a_long_question_does_not_wait_for_a_process_that_reads_none(qtbot):
    """Of more than a pipe holds: the window would be held for as long as torch is being loaded."""
    helper = Helper()
    try:
        first = Asked(helper, "group", run="/nowhere", on="content", name="A")
        assert helper.pid is not None
        os.kill(helper.pid, signal.SIGSTOP)
        asked = Asked(helper, "group", run="/nowhere", on="content", name="x" * 500_000)
        os.kill(helper.pid, signal.SIGCONT)
        for one in (first, asked):
            assert "/nowhere is not a run folder" in str(one.wait(qtbot))
    finally:
        helper.stop()
