"""When the viewer's window goes: the user is asked while something trains, and nothing is left running by mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow, QMessageBox

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_disentangle.gui.workbench import Workbench


class Closing(QObject):
    """Ends a workbench with the window of its viewer.

    While a training of ours runs, closing asks: stop it and keep the model, let it run on without napari, or stay. The
    run can be resumed in any case.

    Parameters
    ----------
    bench : Workbench
    """

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._bench = bench
        self._watched: ref[QMainWindow] | None = None
        application = QApplication.instance()
        assert application is not None
        application.aboutToQuit.connect(bench.close)

    @property
    def _window(self) -> QMainWindow | None:
        """The main window, which holds the viewer and is therefore not held."""
        return None if self._watched is None else self._watched()

    def watch(self, widget: QWidget) -> None:
        """Watch the main window that a widget is docked in."""
        above = widget.parentWidget()
        while above is not None and not isinstance(above, QMainWindow):
            above = above.parentWidget()
        if above is not None and above is not self._window:
            self._watched = ref(above)
            above.installEventFilter(self)

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:
        """Ask before the window closes, and look afterwards whether it has: napari asks too, and may hear no."""
        if a1 is None or a0 is None or a0 is not self._window:
            return False
        if a1.type() == QEvent.Type.Hide and not a1.spontaneous():
            QTimer.singleShot(0, self._look)  # napari's own question may have come after the close event
        if a1.type() != QEvent.Type.Close:
            return False
        trainer = self._bench.trainer
        if trainer.active and trainer.ours and not self._bench.closed and not self._agreed():
            a1.ignore()
            return True
        QTimer.singleShot(0, self._look)
        return False

    def _agreed(self) -> bool:
        """Ask what becomes of the training; False to stay."""
        trainer = self._bench.trainer
        name = "" if trainer.run is None else trainer.run.path.name
        asking = QMessageBox(self._window)
        asking.setObjectName("closing")
        asking.setIcon(QMessageBox.Icon.Question)
        asking.setWindowTitle("A training is running")
        asking.setText(f"{name} is being trained.")
        asking.setInformativeText("Whatever you choose, the run is kept and can be resumed.")
        stop = asking.addButton("Stop it and close", QMessageBox.ButtonRole.AcceptRole)
        leave = asking.addButton("Let it run on without napari", QMessageBox.ButtonRole.AcceptRole)
        stay = asking.addButton("Stay", QMessageBox.ButtonRole.RejectRole)
        asking.setDefaultButton(stop)
        asking.setEscapeButton(stay)
        asking.exec()
        answer = asking.clickedButton()
        if answer is leave:
            trainer.let_go()
        elif answer is stop:
            trainer.stop()
        return answer in (stop, leave)

    def _look(self) -> None:
        if self._watched is None:
            return
        try:
            gone = (window := self._window) is None or not window.isVisible()
        except RuntimeError:  # deleted
            gone = True
        if gone:
            self._watched = None
            self._bench.close()
