"""The warm process that computes for the window: started once, asked by name, ended with the window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_disentangle.errors import InputError
from napari_disentangle.gui.worker import TaskBugError, yield_to_window

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class _Request:
    done: Callable[[Any], None]
    failed: Callable[[BaseException], None]
    told: Callable[[str, float], None] | None


class Helper(QObject):
    """One process that runs `napari_disentangle.tasks`, with torch loaded while the user looks around.

    Answers arrive on the GUI thread, in the callbacks given to `ask`. A helper that died is started again by the next
    question, and those that it leaves unanswered fail with a sentence.
    """

    _answered = Signal(object, object)
    _ended = Signal(object, int)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: subprocess.Popen[str] | None = None
        self._waiting: dict[int, _Request] = {}
        self._requests: SimpleQueue[str | None] = SimpleQueue()
        self._numbers = count(1)
        self._log: Any = None
        self._answered.connect(self._take)
        self._ended.connect(self._end)

    @property
    def pid(self) -> int | None:
        """Of the process, None where none runs."""
        return None if self._process is None else self._process.pid

    @property
    def busy(self) -> bool:
        """Whether something was asked and not answered yet."""
        return bool(self._waiting)

    def ask(
        self,
        task: str,
        given: dict[str, Any],
        *,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
        told: Callable[[str, float], None] | None = None,
    ) -> None:
        """Have `task` done.

        Parameters
        ----------
        task : str
            A name in `tasks.LANES`.
        given : dict
            Its arguments, JSON.
        done, failed, told : callable
            Called on the GUI thread with the result, an exception, or (stage, fraction done).
        """
        if self._process is None:
            self._launch()
        number = next(self._numbers)
        request = json.dumps({"id": number, "task": task, "with": given}) + "\n"
        self._waiting[number] = _Request(done, failed, told)
        self._requests.put(request)

    def stop(self) -> None:
        """End the process; what it was asked is dropped without a word."""
        self._waiting.clear()
        process, self._process = self._process, None
        if process is None:
            return
        self._requests.put(None)
        process.kill()
        _close_pipes(process)
        process.wait()
        self._log.close()

    def _launch(self) -> None:
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed when it ends)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "napari_disentangle.tasks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, encoding="utf-8", env=environment, bufsize=1, start_new_session=True,
        )  # fmt: skip
        yield_to_window(self._process.pid)
        self._requests = SimpleQueue()
        threading.Thread(target=self._listen, args=(self._process,), daemon=True, name="disentangle-helper").start()
        asking = (self._process, self._requests)
        threading.Thread(target=_pass_on, args=asking, daemon=True, name="disentangle-helper-asks").start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Pass on what the process says; in a thread of its own."""
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self._answered.emit(process, json.loads(line))
            self._ended.emit(process, process.wait())
        except (ValueError, OSError, RuntimeError):  # closed under our hands, or this object is gone: we were stopped
            return

    def _take(self, process: subprocess.Popen[str], answer: dict[str, Any]) -> None:
        if process is not self._process or answer["id"] not in self._waiting:
            return
        if "told" in answer:
            request = self._waiting[answer["id"]]
            if request.told is not None:
                request.told(*answer["told"])
            return
        request = self._waiting.pop(answer["id"])
        if "result" in answer:
            request.done(answer["result"])
        elif "error" in answer:
            request.failed(InputError(answer["error"]))
        else:
            request.failed(TaskBugError(answer["bug"].strip()))

    def _end(self, process: subprocess.Popen[str], status: int) -> None:
        if process is not self._process:
            return
        self._process = None
        self._requests.put(None)
        _close_pipes(process)
        waiting, self._waiting = self._waiting, {}
        self._log.seek(0)
        last = ([line.strip() for line in self._log if line.strip()] or [""])[-1]
        self._log.close()
        why = f"it ended with status {status}" + (f": {last}" if last else "")
        if status == -9:
            why = "it was killed, most likely because memory ran out"
        for request in waiting.values():
            request.failed(
                InputError(
                    f"The process that computes for the window has gone ({why}); it is started again: try once more."
                )
            )


def _pass_on(process: subprocess.Popen[str], requests: SimpleQueue[str | None]) -> None:
    """Write requests to the process, which may be long in reading them; in a thread of its own."""
    assert process.stdin is not None
    while (request := requests.get()) is not None:
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except (OSError, ValueError):  # it has just died, or its pipes are closed: its end fails what waits
            return


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # an unsent request: nobody waits for its answer any more
                pipe.close()
