"""The docks: each panel on its own, or all of them laid out; one workbench per viewer behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_disentangle.gui.forms import Links, fill, row
from napari_disentangle.gui.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable
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


class Room(QWidget):
    """The place of a panel, which is built when its turn comes, or at once for who asks for it.

    Parameters
    ----------
    bench : Workbench
    build : callable
        Returns the panel: a QWidget with a method ``dispose``.
    scrolls : bool
        Whether to scroll it where the window is too low.
    """

    def __init__(self, bench: Workbench, build: Callable[[], Any], *, scrolls: bool = True) -> None:
        super().__init__()
        self.bench = bench
        self._build, self._scrolls = build, scrolls
        self._panel: Any = None
        self._left = False
        self._inside = QVBoxLayout(self)
        self._inside.setContentsMargins(0, 0, 0, 0)

    @property
    def panel(self) -> Any:
        """The panel."""
        if self._panel is None:
            self._panel = self._build()
            inside = _page(self._panel) if self._scrolls else self._panel
            # Or napari pushes it to the top of its dock and leaves the rest empty.
            inside.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
            self._inside.addWidget(inside)
        return self._panel

    def furnish(self) -> None:
        """Build the panel, unless it is there, or nobody will see it any more."""
        if not self._left and not self.bench.closed:
            _ = self.panel

    def dispose(self) -> None:
        """Let go of everything."""
        self._left = True
        self.bench.turns.drop(self)
        if self._panel is not None:
            self._panel.dispose()


class Docked(Room):
    """A room of its own in a dock. When napari takes it out of its dock, it is thrown away with all it holds."""

    def __init__(
        self, bench: Workbench, build: Callable[[], Any], *, scrolls: bool = True, later: bool = False
    ) -> None:
        super().__init__(bench, build, scrolls=scrolls)
        self.setObjectName(type(self).__name__)
        self._in_dock = False
        if later:
            bench.turns.add(self, self.furnish)
        else:
            self.furnish()

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
        super().dispose()
        self.deleteLater()


class Particles(Docked):
    """Open particles and look at them."""

    def __init__(self, napari_viewer: Any) -> None:
        bench = workbench_of(napari_viewer)
        super().__init__(bench, lambda: _particles(bench, lambda: bench.training.train("quick", [])))


class Training(Docked):
    """Train a model and watch it."""

    def __init__(self, napari_viewer: Any) -> None:
        bench = workbench_of(napari_viewer)
        super().__init__(bench, lambda: _training(bench))


class LatentMaps(Docked):
    """Look at the latent maps, and select particles."""

    def __init__(self, napari_viewer: Any, *, later: bool = False) -> None:
        bench = workbench_of(napari_viewer)
        super().__init__(bench, lambda: _maps(bench), scrolls=False, later=later)
        self._width: int | None = bench.viewer.window.geometry()[2]

    def showEvent(self, a0: Any) -> None:
        """Go below the canvas the first time: napari puts docks at its right, where two maps are too wide."""
        super().showEvent(a0)
        width, self._width = self._width, None
        if width is not None:
            self.bench.turns.add(self, lambda: self._lie_below(width))

    def _lie_below(self, width: int) -> None:
        dock, window = self.parentWidget(), self.window()
        below = Qt.DockWidgetArea.BottomDockWidgetArea
        if isinstance(dock, QDockWidget) and isinstance(window, QMainWindow) and window.dockWidgetArea(dock) != below:
            window.addDockWidget(below, dock)
            window.resizeDocks([dock], [MAPS_HEIGHT], Qt.Orientation.Vertical)
            window.resize(width, window.height())


class Averages(Docked):
    """Average the selection, compare it with the model, and export it."""

    def __init__(self, napari_viewer: Any) -> None:
        bench = workbench_of(napari_viewer)
        super().__init__(bench, lambda: _averages(bench))


class AllPanels(Docked):
    """Particles, training and averages as tabs of one dock, and the maps in another, below the canvas.

    Particles are there at once. The maps, training and averages come in turns of the event loop that follow, so that
    the window is never kept for as long as all of them take.
    """

    def __init__(self, napari_viewer: Any) -> None:
        bench = workbench_of(napari_viewer)
        super().__init__(bench, lambda: _Tabs(bench), scrolls=False)
        window = bench.viewer.window
        if not any(isinstance(widget, LatentMaps) for widget in window.dock_widgets.values()):
            dock = window.add_dock_widget(LatentMaps(bench.viewer, later=True), name=MAPS, area="bottom")
            dock.parent().resizeDocks([dock], [MAPS_HEIGHT], Qt.Orientation.Vertical)
        self.panel.furnish_later()


# Panels are imported by who builds them: not all docks need pyqtgraph.


def _particles(bench: Workbench, quick_look: Callable[[], None]) -> QWidget:
    from napari_disentangle.gui.particles_panel import ParticlesPanel

    return ParticlesPanel(bench, quick_look)


def _training(bench: Workbench) -> QWidget:
    from napari_disentangle.gui.training_panel import TrainingPanel

    return TrainingPanel(bench)


def _averages(bench: Workbench) -> QWidget:
    from napari_disentangle.gui.averages_panel import AveragesPanel

    return AveragesPanel(bench)


def _maps(bench: Workbench) -> QWidget:
    from napari_disentangle.gui.maps_panel import MapsPanel

    return MapsPanel(bench)


class _Tabs(QWidget):
    """Tabs of the three rooms, the choice of the run, and a line on what is being computed."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self._busy, self._trained = ("", 0.0), -1.0
        self._rooms = (
            Room(bench, lambda: _particles(bench, self._quick_look)),
            Room(bench, lambda: _training(bench)),
            Room(bench, lambda: _averages(bench)),
        )
        self._rooms[0].furnish()
        self.tabs = QTabWidget()
        for room, title, about in zip(
            self._rooms,
            ("1 Particles", "2 Training", "3 Averages"),
            (
                "Open particles and look at them",
                "Train a model and watch it",
                "Average the selection, compare it with the model, export it",
            ),
            strict=True,
        ):
            self.tabs.addTab(room, title)
            self.tabs.setTabToolTip(self.tabs.count() - 1, about)
        self.run = QComboBox()
        self.run.setToolTip("The run that is shown, and others beside it")
        self.run.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.run.setMinimumContentsLength(14)
        self.doing = QLabel("")
        self.doing.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        # Takes what room there is: long words do not widen the dock.
        room = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        room.setHorizontalStretch(1)
        self.doing.setSizePolicy(room)
        self.bar = QProgressBar()
        self.bar.setMaximumSize(90, 14)
        self.bar.setTextVisible(False)
        self.bar.setToolTip("How far it is")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(row("run", self.run, self.doing, self.bar))
        layout.addWidget(self.tabs, 1)
        self._links = Links(self)
        self._links.add(bench.busy, self._show_busy)
        self._links.add(bench.session.run_changed, self._list_runs)
        self._links.add(bench.session.source_changed, self._list_runs)
        self._links.add(bench.trainer.events, self._show_trained)
        self._links.add(bench.trainer.changed, self._say)
        self.run.activated.connect(self._open_run)
        self._list_runs()
        self._show_busy("", 0.0)

    @property
    def particles(self) -> Any:
        """The `ParticlesPanel`."""
        return self._rooms[0].panel

    @property
    def training(self) -> Any:
        """The `TrainingPanel`."""
        return self._rooms[1].panel

    @property
    def averages(self) -> Any:
        """The `AveragesPanel`."""
        return self._rooms[2].panel

    def furnish_later(self) -> None:
        """Build the other rooms, one in each turn of the event loop."""
        for room in self._rooms:
            self._bench.turns.add(room, room.furnish)

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
        self.doing.setToolTip(words or "What is being computed")
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
        for room in self._rooms:
            room.dispose()


class _Upright(QScrollArea):
    """Scrolls up and down only: never narrower than what is in it, whatever that becomes."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """Return the width of what is in it, and of the scroll bar beside that."""
        least, inside, bar = super().minimumSizeHint(), self.widget(), self.verticalScrollBar()
        if inside is None:
            return least
        return QSize(inside.minimumSizeHint().width() + bar.sizeHint().width() + 4, least.height())

    def eventFilter(self, a0: Any, a1: Any) -> bool:
        """Hear that what is in it has become wider or narrower."""
        if a1.type() in (QEvent.Type.LayoutRequest, QEvent.Type.StyleChange):
            self.updateGeometry()
        return super().eventFilter(a0, a1)


def _page(panel: QWidget) -> QWidget:
    """Return a panel that scrolls where the window is too low for it, with its next step always in sight below it."""
    area = _Upright()
    area.setWidget(panel)
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(2)
    layout.addWidget(area, 1)
    footer = getattr(panel, "footer", None)
    if footer is not None:
        layout.addWidget(footer)
    return page
