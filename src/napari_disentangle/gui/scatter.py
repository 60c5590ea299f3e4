"""MapCanvas: one latent map, drawn with vispy, and the tools that outline particles on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QKeyEvent, QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QGridLayout, QWidget
from vispy.visuals.transforms import STTransform

from napari_disentangle.gui.scene import BINS, Scene, reported
from napari_disentangle.gui.strokes import TOOLS, Stroke, ToolPane, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray
    from qtpy.QtCore import QObject
    from qtpy.QtGui import QCloseEvent, QHideEvent, QShowEvent

__all__ = ["TOOLS", "MapCanvas", "Stroke"]

MOST_MARKERS, MOST_OUTLINED = 50_000, 20_000
FAR = 1e4
"""Units from the map to where nobody sees a point."""
REACH, OUTLINE = 8.0, 1.0
"""In logical pixels: a click reaches this far; the selection's outline is this wide."""


class MapCanvas(QWidget):
    """A map of particles to look at, point at and draw on; it selects nothing itself.

    At most 50,000 markers are drawn, in random order, so that no cluster hides another by its place in the list;
    beyond that they are a sample, over an image of the density of all. The selected are drawn once more on top, each
    on a larger disc of the foreground colour: together, an outline that leaves their colours alone.

    Parameters
    ----------
    parent : QWidget, optional
        As for every widget. `close_canvas` is called when the widget is closed, not when a dock around it is hidden.
    after : int
        Milliseconds that its drawing waits for others: two maps drawn at once would keep the window twice as long.
    """

    drawn = Signal(object)
    """A `Stroke`, when a gesture ends."""
    picked = Signal(int)
    """Row of the point nearest to a click, within 8 pixels."""
    hovered = Signal(int)
    """Row of the point under the pointer, when it changes; -1 is none."""
    cancelled = Signal()
    """Escape put the tool away: it is ``pan`` again."""

    def __init__(self, parent: QWidget | None = None, *, after: int = 0) -> None:
        super().__init__(parent)
        self._after = after
        self._scene = Scene(self, self._lose)
        self._pane = ToolPane(self)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.addWidget(self._pane, 0, 0)
        self._closed = False
        self._stale: set[str] = set()
        self._refresh_timer = self._timer(after, self._refresh)
        self._hover_timer = self._timer(30, self._tell_hovered)
        self._reopen_timer = self._timer(0, self._reopen)
        self._n, self._hovered = 0, -1
        self._aimed = False
        """Whether the user has chosen what part of the map is seen."""
        self._colours: NDArray[np.float32] | None = None
        self._selected = np.zeros(0, np.bool_)
        # Points are kept and drawn as `unit` = (map - origin) / scale, within about -1..1, because vispy has only
        # single precision; `rows` are those with finite coordinates, `sample` the places among them that are drawn.
        self._origin, self._scale = np.zeros(2), 1.0
        self._rows, self._sample = np.zeros(0, np.intp), np.zeros(0, np.intp)
        self._unit = np.zeros((0, 2), np.float32)
        self._open()
        self.set_tool("pan")
        self.set_theme("#262930", "#f0f1f2")

    @property
    def native(self) -> QWidget:
        """The widget that gets mouse and key events; another one after a dock around it was pulled out or put back.

        napari takes what has a `native` apart, so a map goes into a dock inside another widget, and not alone.
        """
        return self._scene.native

    def _open(self) -> None:
        self._grid.addWidget(self.native, 0, 0)
        self._pane.raise_()
        self.native.installEventFilter(self)

    def _lose(self) -> None:
        # Later: Qt is just making the new context of the old widget.
        self._reopen_timer.start()

    def _reopen(self) -> None:
        if self._closed:
            return
        with reported():
            old = self._scene
            self._scene = Scene(self, self._lose)
            self._scene.camera.rect = old.camera.rect
            self._open()
            self.set_tool(self.tool)
            self.set_theme(self._pane.paper.name(), self._pane.ink.name())
            old.native.removeEventFilter(self)
            old.close()

    def _timer(self, milliseconds: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer

    def set_points(self, coordinates: ArrayLike | None, *, keep_view: bool = False) -> None:
        """Show a map.

        Parameters
        ----------
        coordinates : (n, 2), float, or None
            In map units, y upwards; None is an empty map. Points with a coordinate that is not finite are not drawn.
        keep_view : bool
            Stay where the user has panned and zoomed to, if they have, and go on with an unfinished stroke.

        Notes
        -----
        Colours and selection are kept when n is that of the map before, and dropped otherwise.
        """
        points = np.empty((0, 2)) if coordinates is None else np.asarray(coordinates, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"a map has coordinates (n, 2), these are {points.shape}")
        keep_view = keep_view and len(self._rows) > 0
        if len(points) != self._n:
            self._n, self._colours, self._selected = len(points), None, np.zeros(len(points), np.bool_)
        self._rows = np.flatnonzero(np.isfinite(points[:, 0]) & np.isfinite(points[:, 1]))
        points = np.take(points, self._rows, axis=0)
        stay = keep_view and (self._aimed or self._pane.drawing)
        if len(points) and not stay:
            # Halved first: the width of very large coordinates need not be a number.
            low, high = _bounds(points / 2)
            self._origin, self._scale = low + high, float((high - low).max()) or 1.0
        self._unit = ((points - self._origin) / self._scale).astype(np.float32)
        m = len(points)
        self._sample = np.random.default_rng(0).choice(m, min(m, MOST_MARKERS), replace=False)
        self._touch("density", "markers", "outline")
        self._set_hovered(-1)
        if not keep_view:
            self._pane.drop()
        if not stay:
            self.reset_view()

    def set_colours(self, rgba: ArrayLike) -> None:
        """Colour the points: (n, 4), float32, red, green, blue and opacity in 0..1."""
        colours = np.asarray(rgba, dtype=np.float32)
        if colours.shape != (self._n, 4):
            raise ValueError(f"{self._n} points take colours ({self._n}, 4), these are {colours.shape}")
        self._colours = colours
        self._touch("markers", "outline")

    def set_selected(self, mask: ArrayLike) -> None:
        """Outline the selected points: (n,), bool."""
        selected = np.asarray(mask, dtype=np.bool_)
        if selected.shape != (self._n,):
            raise ValueError(f"{self._n} points take a mask ({self._n},), this is {selected.shape}")
        self._selected = selected
        self._touch("outline")

    def set_message(self, text: str) -> None:
        """Show words in the middle of the map, over what is drawn; an empty text takes them away."""
        self._pane.message = text
        self._pane.update()

    def set_theme(self, background: str, foreground: str) -> None:
        """Set the colours of the map's ground, and of outlines, words and points without a colour; as #rrggbb."""
        self._pane.paper, self._pane.ink = QColor(background), QColor(foreground)
        if not self._closed:
            self._scene.canvas.bgcolor = background
        self._touch("density", "markers", "outline")
        self._pane.update()

    def _touch(self, *names: str) -> None:
        """Note what must be drawn anew: once, however much is set before the event loop runs or the map is shown."""
        self._stale.update(names)
        self._refresh_timer.start()

    def _refresh(self) -> None:
        if self._closed or not self.isVisible():
            return
        stale, self._stale = self._stale, set()
        with reported():
            size, sampled = np.clip(4000 / max(self._n, 1), 3.0, 9.0), len(self._sample) < len(self._rows)
            if "density" in stale:
                self._scene.density.visible = sampled
                if sampled:
                    self._set_density()
            if "markers" in stale:
                # So many cover the density, unless it shines through and their own opacity adds up to it.
                fade = np.array([1, 1, 1, 0.25 if sampled else 1], np.float32)
                _show(self._scene.markers, self._unit[self._sample], size, self._colours_of(self._sample) * fade)
            if "outline" in stale:
                chosen = np.flatnonzero(self._selected[self._rows])
                if len(chosen) > MOST_OUTLINED:
                    chosen = np.random.default_rng(0).choice(chosen, MOST_OUTLINED, replace=False)
                discs = np.broadcast_to(_floats(self._pane.ink, 1.0), (len(chosen), 4))
                sizes = np.repeat([size + 2 * OUTLINE, size], len(chosen))
                colours = np.concatenate([discs, self._colours_of(chosen)])
                _show(self._scene.outlined, np.tile(self._unit[chosen], (2, 1)), sizes, colours)
            self._scene.canvas.update()

    def warm(self) -> None:
        """Draw an outline that nobody sees, so that the first selection does not wait for its shader to be compiled."""
        if self._closed or not self.isVisible() or self._scene.outlined.visible:
            return
        with reported():
            _show(self._scene.outlined, np.full((1, 2), FAR, np.float32), 1.0, np.ones((1, 4), np.float32))
            self._scene.canvas.update()

    def _colours_of(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        if self._colours is None:
            return np.broadcast_to(_floats(self._pane.ink, 0.7), (len(places), 4))
        return self._colours[self._rows[places]]

    def _set_density(self) -> None:
        low, high = _bounds(self._unit)
        step = np.maximum(high - low, 1e-6) / BINS
        column, row = np.minimum((self._unit - low) / step, BINS - 1).astype(np.intp).T
        counts = np.log1p(np.bincount(row * BINS + column, minlength=BINS * BINS)).reshape(BINS, BINS)
        image = np.empty((BINS, BINS, 4), np.uint8)
        image[..., :3] = np.rint(255 * _floats(self._pane.ink, 1.0)[:3])
        image[..., 3] = 160 * counts / counts.max()
        self._scene.density.set_data(image)
        self._scene.density.transform = STTransform(scale=step, translate=low)

    def reset_view(self) -> None:
        """Show all points."""
        low, high = _bounds(self._unit) if len(self._unit) else (np.full(2, -1.0), np.full(2, 1.0))
        # Points on a line, or all in one place, still need a view with an area.
        half = np.maximum((high - low) / 2, 1e-3 * (high - low).max() or 1.0) * 1.08
        self._look((low + high) / 2 - half, 2 * half)
        self._aimed = False

    def to_pixels(self, coordinates: ArrayLike) -> NDArray[np.float64]:
        """Return where map coordinates (k, 2) are in the widget: (k, 2), logical pixels, y downwards."""
        unit = (np.asarray(coordinates, dtype=np.float64).reshape(-1, 2) - self._origin) / self._scale
        centre, zoom = self._frame()
        return np.array([self.width(), self.height()]) / 2 + (unit - centre) * [zoom, -zoom]

    def to_map(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Return the map coordinates (k, 2) of logical pixels (k, 2) of the widget."""
        return self._origin + self._scale * self._to_unit(pixels)

    def _to_unit(self, pixels: ArrayLike) -> NDArray[np.float64]:
        centre, zoom = self._frame()
        at = np.asarray(pixels, dtype=np.float64).reshape(-1, 2) - np.array([self.width(), self.height()]) / 2
        return centre + at / [zoom, -zoom]

    def _frame(self) -> tuple[NDArray[np.float64], float]:
        """Return the centre of the view (2,) in units, and pixels per unit: vispy's camera in double precision."""
        rect = self._scene.camera.rect
        return np.array(rect.center), min(max(self.width(), 1) / rect.width, max(self.height(), 1) / rect.height)

    def drag(self, start: QPointF, stop: QPointF) -> None:
        """Move the view, so that what was at one pixel is at another."""
        rect, self._aimed = self._scene.camera.rect, True
        self._look(rect.pos + self._to_unit([pair(start)])[0] - self._to_unit([pair(stop)])[0], rect.size)

    def zoom(self, pixel: QPointF, factor: float) -> None:
        """Show `factor` times as much, and keep in place what is at a pixel."""
        self._aimed = True
        rect, fixed = self._scene.camera.rect, self._to_unit([pair(pixel)])[0]
        # Deeper, single precision would show; further out, the map is a dot.
        factor = float(np.clip(factor, 1e-5 / max(rect.size), 1e3 / max(rect.size)))
        self._look(fixed + (rect.pos - fixed) * factor, np.array(rect.size) * factor)

    def _look(self, corner: ArrayLike, size: ArrayLike) -> None:
        """Show at least the rectangle with this lower left corner (2,) and size (2,), in units."""
        if not self._closed:
            self._scene.camera.rect = (*np.asarray(corner).tolist(), *np.asarray(size).tolist())
            self._pane.update()

    def nearest(self, pixel: QPointF) -> int:
        """Return the row of the point nearest to a pixel, or -1 beyond 8; 5 ms for a million points, without a tree."""
        if len(self._unit) == 0:
            return -1
        at = self._to_unit([pair(pixel)])[0].astype(np.float32)
        squared = (self._unit[:, 0] - at[0]) ** 2 + (self._unit[:, 1] - at[1]) ** 2
        place = int(squared.argmin())
        return int(self._rows[place]) if np.sqrt(squared[place]) * self._frame()[1] <= REACH else -1

    def _tell_hovered(self) -> None:
        with reported():
            self._set_hovered(self.nearest(self._pane.pointer) if self._pane.over and not self._pane.pressed else -1)

    def _set_hovered(self, row: int) -> None:
        if row != self._hovered:
            self._hovered = row
            self.hovered.emit(row)

    @property
    def tool(self) -> str:
        """The tool in hand, one of `TOOLS`."""
        return self._pane.tool

    def set_tool(self, name: str) -> None:
        """Take a tool, one of `TOOLS`; an unfinished stroke is dropped."""
        if name not in TOOLS:
            raise ValueError(f"the tools are {', '.join(TOOLS)}, not {name!r}")
        self._pane.drop()
        self._pane.tool = name
        shape = Qt.CursorShape.OpenHandCursor if name == "pan" else Qt.CursorShape.CrossCursor
        if not self._closed:
            self.native.setCursor(shape)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the events of the canvas before vispy does, which skips some moves."""
        with reported():
            if watched is self.native:
                return self._take(event)
        return False

    def _take(self, event: QEvent) -> bool:
        if isinstance(event, QMouseEvent):
            self._pane.mouse(event.type(), event.button(), event.position())
            if not self._hover_timer.isActive():
                self._hover_timer.start()
            return True
        if isinstance(event, QWheelEvent):
            self.zoom(event.position(), 1.2 ** (-event.angleDelta().y() / 120))
            return True
        if isinstance(event, QKeyEvent) and event.type() != QEvent.Type.KeyRelease:
            action = self._pane.action(event.key())
            if action is None:
                return False
            # First asked whether a shortcut of the window may have the key: accepting says no, and it comes as a press.
            event.accept()
            if event.type() == QEvent.Type.KeyPress:
                action()
                self._pane.update()
            return True
        if event.type() == QEvent.Type.Leave:
            self._pane.over = False
            self._pane.update()
            self._set_hovered(-1)
        return False

    def sizeHint(self) -> QSize:
        """Ask for less than vispy does, whose canvases start at 800 x 600."""
        return QSize(360, 300)

    def minimumSizeHint(self) -> QSize:
        """Leave room to draw around a cluster."""
        return QSize(120, 100)

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what was set while hidden."""
        super().showEvent(event)
        if self._after:
            self._refresh_timer.start()
        else:
            self._refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        """Drop a stroke that was being drawn: its release goes elsewhere."""
        super().hideEvent(event)
        self._pane.drop()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Free the canvas."""
        self.close_canvas()
        super().closeEvent(event)

    def close_canvas(self) -> None:
        """Free the GL canvas, for good; again does nothing."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._refresh_timer, self._hover_timer, self._reopen_timer):
            timer.stop()
        self.native.removeEventFilter(self)
        self._scene.close()


def _bounds(points: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the greatest (2,) of points (n, 2); along columns, ten times faster than over rows."""
    x, y = points.T
    return np.array([x.min(), y.min()], np.float64), np.array([x.max(), y.max()], np.float64)


def _show(markers: Any, at: NDArray[np.float32], size: ArrayLike, rgba: NDArray[np.float32]) -> None:
    # vispy takes no empty arrays.
    markers.visible = len(at) > 0
    if len(at):
        markers.set_data(at, size=size, face_color=rgba, edge_width=0)


def _floats(colour: QColor, alpha: float) -> NDArray[np.float32]:
    return np.array([colour.redF(), colour.greenF(), colour.blueF(), alpha], np.float32)
