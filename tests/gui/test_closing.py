"""Closing while something trains: the user is asked, and what was answered is what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
from driving import Window, click
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_disentangle.run import Run
from napari_disentangle.training import prepare

if TYPE_CHECKING:
    from pathlib import Path


class Answer:
    """Presses a button of the question as soon as it is asked, and remembers how often that was."""

    def __init__(self, text: str) -> None:
        self._text, self.asked = text, []
        self._timer = QTimer()
        self._timer.setInterval(30)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def _look(self) -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox) and box.objectName() == "closing":
            self.asked.append(box.text())
            QTest.mouseClick(next(b for b in box.buttons() if b.text() == self._text), Qt.MouseButton.LeftButton)

    def stop(self) -> None:
        self._timer.stop()


def close(window: Window, answer: str) -> list[str]:
    """Close the window as its frame's button does, and return what was asked."""
    answering, main = Answer(answer), window.viewer.window._qt_window
    # Napari's viewer cannot be closed once Qt has deleted its window, and pytest will close it.
    main.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    main.close()
    QApplication.processEvents()
    main.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, True)
    answering.stop()
    return answering.asked


def endless(tiny_stack: Path, out: Path, tiny: tuple[str, ...]) -> Run:
    """A run that trains for minutes, unless it is stopped."""
    return prepare(tiny_stack, out, settings=[*tiny, "training.epochs=5000"])


def train(window: Window, run: Run, *, state: str = "running") -> Any:
    """Open a run and resume it by its button; returns the child once it is that far."""
    window.open_run(run.path)
    window.rooms.tabs.setCurrentIndex(1)
    click(window.rooms.training.resume)
    trainer = window.bench.trainer
    window.until(lambda: trainer.state == state or not trainer.active, 120)
    assert trainer.state == state, trainer.why
    return trainer._process


def test_stay_then_stop_and_close(window: Window, tiny_stack: Path, tiny, tmp_path: Path):
    bench, main = window.bench, window.viewer.window._qt_window
    run = endless(tiny_stack, tmp_path / "run", tiny)
    child = train(window, run)
    helper = psutil.Process(bench.helper.pid)

    assert close(window, "Stay") == ["run is being trained."]
    assert main.isVisible()
    assert not bench.closed
    assert bench.trainer.state == "running"
    assert child.poll() is None
    assert not run.stop_asked()
    window.until(lambda: any(event["event"] == "checkpoint" for event in run.events()), 60)
    assert len(bench.session.ids) == 30, "the session is what it was"

    assert close(window, "Stop it and close") == ["run is being trained."]
    window.until(lambda: bench.closed)
    assert not main.isVisible()
    assert not helper.is_running()
    assert child.wait(timeout=60) == 0
    assert run.state() == "stopped"
    assert run.writer() is None
    assert not run.stop_asked(), "the next start is not stopped by this"
    assert run.checkpoint() is not None
    assert run.codes().ids.tolist() == list(range(30))
    assert window.errors == []


def test_stop_before_it_has_begun(window: Window, tiny_stack: Path, tiny, tmp_path: Path):
    run = endless(tiny_stack, tmp_path / "run", tiny)
    child = train(window, run, state="starting")
    assert close(window, "Stop it and close") == ["run is being trained."]
    window.until(lambda: window.bench.closed)
    assert child.wait(timeout=60) is not None
    assert run.writer() is None
    assert run.state() in ("new", "stopped")
    assert Run.open(run.path).particles() is not None


def test_let_it_run_on_and_find_it_again(make_napari_viewer, qtbot, tiny_stack: Path, tiny, tmp_path: Path):
    run = endless(tiny_stack, tmp_path / "run", tiny)
    first = Window(make_napari_viewer(show=True), qtbot)
    child = train(first, run)
    assert close(first, "Let it run on without napari") == ["run is being trained."]
    first.until(lambda: first.bench.closed)
    first.close()
    assert child.poll() is None
    assert not run.stop_asked()
    told = len(run.events())

    # Another window follows it, and leaves it alone when it goes: it did not start it.
    second = Window(make_napari_viewer(show=True), qtbot)
    second.open_run(run.path)
    second.until(lambda: "(started elsewhere)" in second.rooms.training.state.text())
    second.until(lambda: second.rooms.training.bar.value() > 0)
    assert close(second, "Stop it and close") == [], "nothing is asked about somebody else's training"
    second.until(lambda: second.bench.closed)
    assert second.errors == []
    second.close()
    assert child.poll() is None
    assert len(run.events()) > told
    assert not run.stop_asked()
    run.ask_to_stop()
    assert child.wait(timeout=60) == 0
    assert run.state() == "stopped"
