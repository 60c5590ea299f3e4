"""What runs in a thread ends in one of two callbacks, on the GUI thread, whatever it raised."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QCoreApplication, QThread

from napari_disentangle.errors import InputError
from napari_disentangle.gui.worker import TaskBugError, follow, in_thread, sentence

if TYPE_CHECKING:
    from collections.abc import Generator


class Heard:
    """Callbacks that remember what they were given, and on which thread."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.failed: list[BaseException] = []
        self.told: list[Any] = []
        self.elsewhere = 0

    def _here(self) -> None:
        if QThread.currentThread() != QCoreApplication.instance().thread() or threading.current_thread() is not MAIN:
            self.elsewhere += 1

    def on_done(self, *result: Any) -> None:
        self._here()
        self.done.append(result)

    def on_failed(self, error: BaseException) -> None:
        self._here()
        self.failed.append(error)

    def on_told(self, value: Any) -> None:
        self._here()
        self.told.append(value)


MAIN = threading.main_thread()


@pytest.fixture
def heard() -> Heard:
    return Heard()


def ended(qtbot: Any, heard: Heard, *, timeout: int = 5000) -> None:
    """Wait for an end, then a little more, in which a second one would come."""
    qtbot.waitUntil(lambda: bool(heard.done or heard.failed), timeout=timeout)
    qtbot.wait(30)
    assert len(heard.done) + len(heard.failed) == 1
    assert heard.elsewhere == 0, "called on another thread than the GUI's"


@pytest.mark.parametrize("work", [lambda: 1, lambda: 1 / 0])
def test_what_it_was_given_is_let_go_when_it_ends(qtbot, heard, work):
    class Window:
        pass

    window = Window()
    watched = weakref.ref(window)

    def give(window: Window) -> None:
        def done(result: Any) -> None:
            heard.on_done(result, window is not None)

        def failed(error: BaseException) -> None:
            heard.on_failed(error if window is not None else RuntimeError())

        in_thread(lambda: (window, work())[1], done=done, failed=failed)

    give(window)
    del window
    ended(qtbot, heard)
    heard.failed.clear()  # a traceback has frames
    gc.collect()
    assert watched() is None


ERRORS = [
    InputError("volume.mrc is damaged; copy it again."), OSError(28, "No space left on device", "/full"), KeyError("x"),
    MemoryError(), AssertionError("no"), RuntimeError("CUDA out of memory"), NotImplementedError("not yet"), RecursionError("deep"),
]  # fmt: skip

LATE = """
import time
from qtpy.QtCore import QCoreApplication
from napari_disentangle.gui.worker import in_thread
application = QCoreApplication([])
in_thread(lambda: (time.sleep(0.5), print("written")), done=print, failed=print)
"""


class TestFunctions:
    def test_its_result_arrives_on_the_gui_thread(self, qtbot, heard):
        where: list[threading.Thread] = []

        def work() -> dict[str, int]:
            where.append(threading.current_thread())
            return {"answer": 42}

        in_thread(work, done=heard.on_done, failed=heard.on_failed)
        ended(qtbot, heard)
        assert heard.done == [({"answer": 42},)]
        assert where[0] is not MAIN

    @pytest.mark.parametrize("result", [None, 0, False, [], (1, 2), "text"])
    def test_so_does_one_that_is_nothing(self, qtbot, heard, result):
        in_thread(lambda: result, done=heard.on_done, failed=heard.on_failed)
        ended(qtbot, heard)
        assert heard.done == [(result,)]

    @pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
    def test_an_error_arrives_as_it_is(self, qtbot, heard, error):
        def work() -> None:
            raise error

        in_thread(work, done=heard.on_done, failed=heard.on_failed)
        ended(qtbot, heard)
        assert heard.failed == [error]

    def test_python_waits_for_it(self):
        """What it writes when the window has been closed is written to the end."""
        done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
        assert done.stdout == "written\n"

    def test_the_window_goes_on_meanwhile(self, qtbot, heard):
        free = threading.Event()
        in_thread(lambda: free.wait(10), done=heard.on_done, failed=heard.on_failed)
        qtbot.wait(50)
        assert not heard.done
        free.set()
        ended(qtbot, heard)
        assert heard.done == [(True,)]


class TestGenerators:
    def test_what_it_yields_is_told_in_order_and_then_its_end(self, qtbot, heard):
        def work() -> Generator[int, None, str]:
            assert threading.current_thread() is not MAIN
            yield from range(200)
            return "the end"

        follow(work, told=heard.on_told, done=heard.on_done, failed=heard.on_failed)
        ended(qtbot, heard)
        assert heard.told == list(range(200))
        assert heard.done == [("the end",)]

    def test_it_is_told_while_it_works(self, qtbot, heard):
        free = threading.Event()

        def work() -> Generator[str]:
            yield "first"
            free.wait(10)
            yield "second"

        follow(work, told=heard.on_told, done=heard.on_done, failed=heard.on_failed)
        qtbot.waitUntil(lambda: heard.told == ["first"], timeout=5000)
        assert not heard.done
        free.set()
        ended(qtbot, heard)
        assert heard.told == ["first", "second"]

    def test_one_that_yields_nothing_ends(self, qtbot, heard):
        follow(lambda: (_ for _ in ()), told=heard.on_told, done=heard.on_done, failed=heard.on_failed)
        ended(qtbot, heard)
        assert (heard.told, heard.done) == ([], [(None,)])

    @pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
    def test_an_error_in_the_middle_comes_after_what_was_yielded(self, qtbot, heard, error):
        def work() -> Generator[int]:
            yield 1
            raise error

        follow(work, told=heard.on_told, done=heard.on_done, failed=heard.on_failed)
        ended(qtbot, heard)
        assert heard.told == [1]
        assert heard.failed == [error]

    def test_so_does_one_while_it_is_made(self, qtbot, heard):
        def make() -> Generator[int]:
            raise RuntimeError("no generator")

        follow(make, told=heard.on_told, done=heard.on_done, failed=heard.on_failed)
        ended(qtbot, heard)
        assert str(heard.failed[0]) == "no generator"

    def test_any_number_of_them_follow_at_once_and_none_waits_for_another(self, qtbot):
        """A pool of threads would be full."""
        leave, heards = threading.Event(), [Heard() for _ in range(12)]

        def work() -> Generator[str]:
            yield "here"
            leave.wait(10)

        for heard in heards:
            follow(work, told=heard.on_told, done=heard.on_done, failed=heard.on_failed)
        qtbot.waitUntil(lambda: all(heard.told == ["here"] for heard in heards), timeout=5000)
        leave.set()
        for heard in heards:
            ended(qtbot, heard)

    def test_it_is_ended_by_what_it_looks_at(self, qtbot, heard):
        leave = threading.Event()

        def work() -> Generator[float]:
            while not leave.wait(0.01):
                yield time.monotonic()

        follow(work, told=heard.on_told, done=heard.on_done, failed=heard.on_failed)
        qtbot.waitUntil(lambda: len(heard.told) > 3, timeout=5000)
        leave.set()
        ended(qtbot, heard)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("a.mrc is damaged; copy it again."), "a.mrc is damaged; copy it again."),
        (OSError(28, "No space left on device", "/full"), "/full: No space left on device"),
        (OSError(28, "No space left on device"), "the system: No space left on device"),
        (OSError("odd"), "the system: odd"),
        (ValueError("a\n  b"), "this is a mistake in napari-disentangle, not yours (ValueError: a b); please report it."),
        (
            TaskBugError("Traceback (most recent call last):\n  File ...\nKeyError: 'x'\n"),
            "this is a mistake in napari-disentangle, not yours (KeyError: 'x'); please report it.",
        ),
        (TaskBugError(""), "this is a mistake in napari-disentangle, not yours (); please report it."),
    ],
)  # fmt: skip
def test_what_the_user_is_told(error, said):
    assert sentence(error) == said
