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


@pytest.fixture
def helper(qapp: Any) -> Iterator[Helper]:  # noqa: ARG001 (signals need an application)
    found = Helper()
    yield found
    found.stop()


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


def test_answers_arrive_on_the_gui_thread(helper, run, qtbot):
    assert (helper.pid, helper.busy) == (None, False)
    asked = learnt(helper, run)
    assert helper.busy
    assert not asked.came, "never before ask returns"
    assert asked.wait(qtbot)["words"]
    assert asked.came[0] == ("told", ("looking at what was learnt", 0.0))
    assert not helper.busy
    pid = helper.pid
    assert pid is not None
    learnt(helper, run).wait(qtbot)
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


def test_a_click_is_answered_while_it_works_and_a_kill_fails_what_waits(helper, run, qtbot):
    long = working(helper, run, qtbot)
    assert learnt(helper, run).wait(qtbot)["words"]
    assert not long.answered
    pid = helper.pid
    os.kill(pid, signal.SIGKILL)
    error = long.wait(qtbot)
    assert type(error) is InputError
    assert "has gone (it was killed, most likely because memory ran out)" in str(error)
    assert "try once more" in str(error)
    assert (helper.pid, helper.busy) == (None, False)
    assert learnt(helper, run).wait(qtbot)["words"], "the next question starts another one"
    assert helper.pid not in (None, pid)


def test_one_that_ends_by_itself_says_its_last_words(helper, run, qtbot):
    learnt(helper, run).wait(qtbot)
    asked = Asked(helper, "no such task")  # a mistake so large that the process does not survive it
    error = asked.wait(qtbot)
    assert "has gone (it ended with status 1: StopIteration)" in str(error)
    assert learnt(helper, run).wait(qtbot)["words"]


def test_asking_one_that_has_just_died_fails_with_the_same_sentence(helper, run, qtbot):
    """Its death has not been noticed yet: nothing is lost in the pipe."""
    learnt(helper, run).wait(qtbot)
    process = psutil.Process(helper.pid)
    process.kill()
    psutil.wait_procs([process], timeout=10)
    assert helper.pid == process.pid, "what the listener says of it waits for the GUI thread"
    asked = [learnt(helper, run) for _ in range(3)]
    for one in asked:
        assert "has gone" in str(one.wait(qtbot))
    assert learnt(helper, run).wait(qtbot)["words"]


def test_a_callback_may_ask_again_when_it_died(helper, run, qtbot):
    learnt(helper, run).wait(qtbot)
    again: list[Asked] = []
    helper.ask(
        "no such task", {}, done=lambda _: pytest.fail("it cannot"), failed=lambda _: again.append(learnt(helper, run))
    )
    qtbot.waitUntil(lambda: bool(again), timeout=ANSWER_MS)
    assert again[0].wait(qtbot)["words"]


def test_what_cannot_be_asked_is_not_waited_for(helper, run, qtbot):
    with pytest.raises(TypeError, match="not JSON serializable"):
        Asked(helper, "learnt", run=run.path, groups="A")
    assert not helper.busy
    assert learnt(helper, run).wait(qtbot)["words"]


def test_stopping_leaves_no_process_and_drops_what_waits_without_a_word(helper, run, qtbot):
    long = working(helper, run, qtbot)
    pid, told = helper.pid, len(long.came)
    helper.stop()
    assert not psutil.pid_exists(pid)
    assert (helper.pid, helper.busy) == (None, False)
    qtbot.wait(200)
    assert len(long.came) == told
    assert not any(thread.name == "disentangle-helper" for thread in threading.enumerate())
    helper.stop()
    assert learnt(helper, run).wait(qtbot)["words"], "asked after that, it starts again"
    assert len(long.came) == told


def test_starting_warms_it_and_twice_is_once(helper, qtbot):
    helper.start()
    pid = helper.pid
    assert helper.busy
    helper.start()
    assert helper.pid == pid
    assert psutil.Process(pid).cmdline()[-2:] == ["-m", "napari_disentangle.tasks"]
    qtbot.wait(50)
    helper.stop()
    assert not psutil.pid_exists(pid)


WINDOW = """
from qtpy.QtCore import QCoreApplication
from napari_disentangle.gui.helper import Helper
app = QCoreApplication([])
helper = Helper()
helper.start()
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
    deadline = time.monotonic() + 20
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it outlives the window"
        time.sleep(0.05)
