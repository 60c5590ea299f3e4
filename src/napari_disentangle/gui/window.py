"""The docks: each panel on its own, or all of them laid out; one workbench per viewer behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_disentangle.gui.forms import Links, fill, row
from napari_disentangle.gui.workbench import Workbench

# Panels are imported by the docks that have them: not all of them need pyqtgraph.

if TYPE_CHECKING:
    from pathlib import Path

MAPS = "Latent maps (Disentangle)"
"""As napari names the dock that its menu opens, which is ticked there while it is open."""
MAPS_HEIGHT = 270
"""Of their dock at first, in pixels: what is left at 1280 x 800 shows the tomogram and a panel."""
_benches: WeakKeyDictionary[Any, Workbench] = WeakKeyDictionary()


def workbench_of(viewer: Any) -> Workbench:
    """Return the workbench of a viewer, made at the first call; it ends with the viewer's window.

    Parameters
    ----------
    viewer : napari.Viewer
        Or the proxy that napari gives to plugins.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _benches or _benches[viewer].closed:
        _benches[viewer] = Workbench(viewer)
    return _benches[viewer]


def show(path: Path | None = None) -> None:
    """Open napari with all panels, and a run or particles in them; return when it is closed."""
    import napari

    viewer = napari.Viewer(title="napari-disentangle")
    viewer.window.add_plugin_dock_widget("napari-disentangle", "Disentangle (all panels)")
    if path is not None:
        workbench_of(viewer).opening.open(path)
    napari.run()


class Docked(QWidget):
    """What is around a panel in a dock. When napari takes it out of its dock, it is thrown away with all it holds.

    Parameters
    ----------
    bench : Workbench
    panel : QWidget
        With a method ``dispose``.
    scrolls : bool
        Whether to scroll it where the window is too low.
    """

    def __init__(self, bench: Workbench, panel: Any, *, scrolls: bool = True) -> None:
        super().__init__()
        self.bench, self.panel = bench, panel
        self.setObjectName(type(panel).__name__)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        inside = _page(panel) if scrolls else panel
        # Or napari pushes it to the top of its dock and leaves the rest empty.
        inside.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        layout.addWidget(inside)
        self._in_dock = False

    def event(self, a0: QEvent) -> bool:
        """See when it leaves its dock."""
        if a0.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._in_dock = True
            elif self._in_dock:
                self.dispose()
        return super().event(a0)

    def showEvent(self, a0: Any) -> None:
        """Find the main window, which has the dock only now."""
        self.bench.closing.watch(self)
        super().showEvent(a0)

    def dispose(self) -> None:
        """Let go of everything; the widget is gone when the event loop comes round."""
        self.panel.dispose()
        self.deleteLater()


class Particles(Docked):
    """Open particles and look at them."""

    def __init__(self, napari_viewer: Any) -> None:
        from napari_disentangle.gui.particles_panel import ParticlesPanel

        bench = workbench_of(napari_viewer)
        super().__init__(bench, ParticlesPanel(bench, lambda: bench.training.train("quick", [])))


class Training(Docked):
    """Train a model and watch it."""

    def __init__(self, napari_viewer: Any) -> None:
        from napari_disentangle.gui.training_panel import TrainingPanel

        bench = workbench_of(napari_viewer)
        super().__init__(bench, TrainingPanel(bench))


class LatentMaps(Docked):
    """Look at the latent maps, and select particles."""

    def __init__(self, napari_viewer: Any) -> None:
        from napari_disentangle.gui.maps_panel import MapsPanel

        bench = workbench_of(napari_viewer)
        super().__init__(bench, MapsPanel(bench), scrolls=False)


class Averages(Docked):
    """Average the selection, compare it with the model, and export it."""

    def __init__(self, napari_viewer: Any) -> None:
        from napari_disentangle.gui.averages_panel import AveragesPanel

        bench = workbench_of(napari_viewer)
        super().__init__(bench, AveragesPanel(bench))


class AllPanels(Docked):
    """Particles, training and averages as tabs of one dock, and the maps in another, below the canvas."""

    def __init__(self, napari_viewer: Any) -> None:
        bench = workbench_of(napari_viewer)
        super().__init__(bench, _Tabs(bench), scrolls=False)
        window = bench.viewer.window
        if not any(isinstance(widget, LatentMaps) for widget in window.dock_widgets.values()):
            dock = window.add_dock_widget(LatentMaps(bench.viewer), name=MAPS, area="bottom")
            dock.parent().resizeDocks([dock], [MAPS_HEIGHT], Qt.Orientation.Vertical)


class _Tabs(QWidget):
    """Tabs of the three rooms, the choice of the run, and a line on what is being computed."""

    def __init__(self, bench: Workbench) -> None:
        from napari_disentangle.gui.averages_panel import AveragesPanel
        from napari_disentangle.gui.particles_panel import ParticlesPanel
        from napari_disentangle.gui.training_panel import TrainingPanel

        super().__init__()
        self._bench = bench
        self._busy, self._trained = ("", 0.0), -1.0
        self.particles = ParticlesPanel(bench, self._quick_look)
        self.training = TrainingPanel(bench)
        self.averages = AveragesPanel(bench)
        self.tabs = QTabWidget()
        for panel, title, about in (
            (self.particles, "1 Particles", "Open particles and look at them"),
            (self.training, "2 Training", "Train a model and watch it"),
            (self.averages, "3 Averages", "Average the selection, compare it with the model, export it"),
        ):
            self.tabs.addTab(_page(panel), title)
            self.tabs.setTabToolTip(self.tabs.count() - 1, about)
        self.run = QComboBox()
        self.run.setToolTip("The run that is shown, and others beside it")
        self.run.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.run.setMinimumContentsLength(14)
        self.doing = QLabel("")
        self.doing.setToolTip("What is being computed")
        self.bar = QProgressBar()
        self.bar.setMaximumSize(90, 14)
        self.bar.setTextVisible(False)
        self.bar.setToolTip("How far it is")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(row("run", self.run, 1, self.doing, self.bar))
        layout.addWidget(self.tabs, 1)
        self.setMinimumWidth(400)
        self._links = Links(self)
        self._links.add(bench.busy, self._show_busy)
        self._links.add(bench.session.run_changed, self._list_runs)
        self._links.add(bench.session.source_changed, self._list_runs)
        self._links.add(bench.trainer.events, self._show_trained)
        self._links.add(bench.trainer.changed, self._say)
        self.run.activated.connect(self._open_run)
        self._list_runs()
        self._show_busy("", 0.0)

    def _quick_look(self) -> None:
        self.tabs.setCurrentIndex(1)
        self.training.choose_preset("quick")
        self._bench.training.train("quick", self.training.settings(), self.training.device.currentText())

    def _show_busy(self, words: str, done: float) -> None:
        self._busy = words, done
        self._say()

    def _show_trained(self, events: list[dict[str, Any]]) -> None:
        steps = [event["step"] / event["steps"] for event in events if event["event"] in ("progress", "epoch")]
        self._trained = steps[-1] if steps else self._trained
        self._say()

    def _say(self) -> None:
        """Say what the helper does or, while it does nothing, that a run is trained."""
        words, done = self._busy
        if self._bench.trainer.state == "starting":
            self._trained = -1.0
        if not words and self._bench.trainer.active:
            words, done = "training", self._trained
        self.doing.setText(words)
        self.bar.setVisible(bool(words) and done >= 0)
        fill(self.bar, 100 * max(done, 0))

    def _list_runs(self) -> None:
        self.run.clear()
        shown = self._bench.session.run
        runs = self._bench.opening.other_runs()
        if shown is None:
            self.run.addItem("choose a run…" if runs else "none yet", None)
        for path in runs:
            self.run.addItem(path.name, path)
            self.run.setItemData(self.run.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole)
            if shown is not None and path == shown.path.absolute():
                self.run.setCurrentIndex(self.run.count() - 1)

    def _open_run(self, index: int) -> None:
        path: Path | None = self.run.itemData(index)
        if path is not None and (self._bench.session.run is None or path != self._bench.session.run.path.absolute()):
            self._bench.opening.open_run(path)
            self._list_runs()

    def dispose(self) -> None:
        """Listen no more, in any of the rooms."""
        self._links.drop()
        for panel in (self.particles, self.training, self.averages):
            panel.dispose()


def _page(panel: QWidget) -> QWidget:
    """Return a panel that scrolls where the window is too low for it, with its next step always in sight below it."""
    area = QScrollArea()
    area.setWidget(panel)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setMinimumWidth(panel.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width() + 4)
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(2)
    layout.addWidget(area, 1)
    footer = getattr(panel, "footer", None)
    if footer is not None:
        layout.addWidget(footer)
    return page
