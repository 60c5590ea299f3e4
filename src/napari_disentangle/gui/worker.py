"""Work off the GUI thread: a function, a generator, a process; every exception comes back and is told."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
from qtpy.QtCore import QObject, Signal

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


WORK = "disentangle-work"
"""Name of the threads of `in_thread`."""


class TaskBugError(Exception):
    """A task in the helper met a mistake of ours; the message is its traceback."""


def in_thread(
    function: Callable[[], Any],
    *,
    done: Callable[[Any], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Run `function` in a thread, then `done` with its result, or `failed` with its exception, on the GUI thread.

    Python does not end before the thread has: what it writes is written to the end.

    Notes
    -----
    Not by napari's workers: those and all that they were given stay in memory, under PySide they fail when their work
    does, and they drop a RuntimeError, which torch raises for most things.
    """
    _Thread().start(function, done=done, failed=failed, name=WORK, daemon=False)


def follow(
    make: Callable[[], Generator[Any, None, Any]],
    *,
    told: Callable[[Any], None],
    done: Callable[[Any], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Run a generator in a thread of its own: what it yields to `told`, what it returns to `done`, on the GUI thread.

    It is not stopped from outside: give it an event to look at, and let it return. Python does not wait for it.
    """
    thread = _Thread()

    def work() -> Any:
        generator = make()
        while True:
            try:
                value = next(generator)
            except StopIteration as stop:
                return stop.value
            thread.said.emit(told, value)

    thread.start(work, done=done, failed=failed, name="disentangle-follower", daemon=True)


class _Thread(QObject):
    """A thread that takes what it says to the GUI thread, in its order; kept until it has ended."""

    said = Signal(object, object)
    ended = Signal(object, object)
    _all: ClassVar[set[_Thread]] = set()

    def __init__(self) -> None:
        super().__init__()
        self._all.add(self)
        self.said.connect(self._hear)
        self.ended.connect(self._end)

    def start(
        self, work: Callable[[], Any], *, done: Callable[[Any], None], failed: Callable[[BaseException], None],
        name: str, daemon: bool,
    ) -> None:  # fmt: skip
        """Run `work`, then `done` with its result or `failed` with its exception."""

        def run() -> None:
            try:
                listener, value = done, work()
            except Exception as error:
                listener, value = failed, error
            with suppress(RuntimeError):  # the application has gone, and with it whoever would hear of it
                self.ended.emit(listener, value)

        threading.Thread(target=run, daemon=daemon, name=name).start()

    def _hear(self, listener: Callable[[Any], None], value: Any) -> None:
        listener(value)

    def _end(self, listener: Callable[[Any], None], value: Any) -> None:
        self._all.discard(self)
        listener(value)


def yield_to_window(pid: int) -> None:
    """Let a process that has just been started compute only while the window, and whatever else the user runs, rests.

    Only the processor is meant: alone on the machine, it is as fast as any other.
    """
    with suppress(psutil.Error):  # it has gone already, of which others tell
        psutil.Process(pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 10)
    if sys.platform == "linux":
        # Where desktops weigh sessions first, that of a process in its own counts; never lower the window's session.
        with suppress(OSError):
            if os.getsid(pid) != os.getsid(0):
                Path(f"/proc/{pid}/autogroup").write_text("10", encoding="ascii")


def sentence(error: BaseException) -> str:
    """Return what to tell the user of an exception."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    last = (str(error).strip().splitlines() or [""])[-1]  # of a task in the helper, the traceback comes before it
    what = last if isinstance(error, TaskBugError) else f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"this is a mistake in napari-disentangle, not yours ({what}); please report it."
