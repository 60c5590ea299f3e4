"""Tools that outline particles on a latent map: what the mouse draws, and how it looks while it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen, QTextOption
from qtpy.QtWidgets import QWidget

from napari_disentangle.gui.scene import reported
from napari_disentangle.selection import inside_polygon, near_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray
    from qtpy.QtGui import QPaintEvent

    from napari_disentangle.gui.scatter import MapCanvas

TOOLS = ("pan", "lasso", "polygon", "rectangle", "brush")
CLICK, STEP = 4.0, 3.0
"""In logical pixels: a press that moved less is a click; a free line keeps points this far apart."""


@dataclass(frozen=True)
class Stroke:
    """What a gesture drew, in the coordinates of the map."""

    tool: str
    """``lasso``, ``polygon``, ``rectangle`` or ``brush``."""
    points: NDArray[np.float64]
    """(k, 2) corners of the outline, or the path of the brush."""
    radius: float = 0.0
    """Of the brush, in map units."""

    def mask(self, coordinates: ArrayLike) -> NDArray[np.bool_]:
        """Return which points (n, 2) the stroke takes: inside the outline, or under the brush; (n,), bool."""
        if self.tool == "brush":
            return near_path(coordinates, self.points, self.radius)
        return inside_polygon(coordinates, self.points)


class ToolPane(QWidget):
    """The tool in hand, and what Qt draws over a map: lines in the making, the brush, and words.

    A pane of its own, so that a gesture repaints its lines and not fifty thousand markers.
    """

    def __init__(self, canvas: MapCanvas) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.tool, self.message, self.paper, self.ink = "pan", "", QColor(), QColor()
        self.pointer, self.over, self.pressed = QPointF(), False, False
        self._canvas = canvas
        self._start, self._last, self._moved = QPointF(), QPointF(), 0.0
        self._brush = 20.0
        """Radius in logical pixels."""
        self._trail: list[tuple[float, float]] = []
        """Of an unfinished stroke, in map coordinates, so that it stays in place when the view zooms."""

    def mouse(self, kind: QEvent.Type, button: Qt.MouseButton, pixel: QPointF) -> None:
        """Take one event of the mouse."""
        self.pointer, self.over = QPointF(pixel), True
        double, left = kind == QEvent.Type.MouseButtonDblClick, button == Qt.MouseButton.LeftButton
        if kind == QEvent.Type.MouseMove and self.pressed:
            self._move()
        elif kind == QEvent.Type.MouseButtonRelease and left and self.pressed:
            self._release()
        elif kind == QEvent.Type.MouseButtonPress or double:
            if self.tool == "polygon":
                if double or button == Qt.MouseButton.RightButton:
                    self._finish(self._trail)
                elif left:
                    self._trail.append(self._here())
            elif left and double and self.tool == "pan":
                self._canvas.reset_view()
            elif left:
                self.pressed, self._start, self._last, self._moved = True, self.pointer, self.pointer, 0.0
                self._trail = [] if self.tool == "pan" else [self._here()]
        if self.tool != "pan":
            self.update()

    def _move(self) -> None:
        self._moved = max(self._moved, _distance(self.pointer, self._start))
        if self.tool == "pan" and self._moved >= CLICK:
            self._canvas.drag(self._last, self.pointer)
            self._last = self.pointer
        elif self.tool in ("lasso", "brush") and _distance(self.pointer, self._last) >= STEP:
            self._trail.append(self._here())
            self._last = self.pointer

    def _release(self) -> None:
        trail, start = self._trail, self._start
        if self._moved < CLICK:
            self.drop()
            row = self._canvas.nearest(start)
            if row >= 0:
                self._canvas.picked.emit(row)
        elif self.tool == "rectangle":
            (left, top), (right, bottom) = trail[0], self._here()
            self._finish([(left, top), (right, top), (right, bottom), (left, bottom)])
        elif self.tool != "pan":
            self._finish([*trail, self._here()])
        else:
            self.drop()

    def _finish(self, trail: list[tuple[float, float]]) -> None:
        self.drop()
        points = np.array(trail, dtype=np.float64).reshape(-1, 2)
        pixels = self._canvas.to_pixels(points)
        if self.tool == "brush":
            ends = self._canvas.to_map([(0.0, 0.0), (self._brush, 0.0)])
            self._canvas.drawn.emit(Stroke("brush", points, float(ends[1, 0] - ends[0, 0])))
        # In pixels, because map units may be of any size; rank 2 is at least three corners that are not in one line.
        elif len(pixels) > 2 and np.linalg.matrix_rank(pixels[1:] - pixels[0], tol=1e-3) == 2:
            self._canvas.drawn.emit(Stroke(self.tool, points))

    def drop(self) -> None:
        """Forget an unfinished stroke, and that the button is down."""
        self._trail, self.pressed = [], False
        self.update()

    def action(self, key: int) -> Callable[[], None] | None:
        """Return what a key does now; None when it is not ours, and goes on to the window."""
        if key == Qt.Key.Key_Escape and (self._trail or self.tool != "pan"):
            return self.drop if self._trail else self._put_away
        if self.tool == "polygon" and self._trail:
            if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                return lambda: self._finish(self._trail)
            if key == Qt.Key.Key_Backspace:
                return lambda: self._trail.__delitem__(-1)
        if self.tool == "brush" and key in (Qt.Key.Key_BracketLeft, Qt.Key.Key_BracketRight):
            return lambda: self._resize(1.25 if key == Qt.Key.Key_BracketRight else 0.8)
        return None

    @property
    def drawing(self) -> bool:
        """Whether a stroke has been begun and not ended."""
        return bool(self._trail)

    def _put_away(self) -> None:
        self._canvas.set_tool("pan")
        self._canvas.cancelled.emit()

    def _resize(self, factor: float) -> None:
        self._brush = float(np.clip(self._brush * factor, 4.0, 200.0))

    def _here(self) -> tuple[float, float]:
        x, y = self._canvas.to_map([pair(self.pointer)])[0].tolist()
        return x, y

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 (Qt's signature)
        """Paint the stroke and the words."""
        painter = QPainter(self)
        with reported():
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            corners = [QPointF(x, y) for x, y in self._canvas.to_pixels(self._trail).tolist()]
            if self.tool == "brush":
                self._paint_brush(painter, corners)
            elif corners:
                self._paint_outline(painter, corners)
            if self.message:
                self._paint_message(painter)
        # Whatever happened: a painter that is left open takes Qt down.
        painter.end()

    def _paint_outline(self, painter: QPainter, corners: list[QPointF]) -> None:
        first, here = corners[0], self.pointer
        live = [first, QPointF(here.x(), first.y()), here, QPointF(first.x(), here.y())]
        outline = _line(live if self.tool == "rectangle" else [*corners, here])
        painter.fillPath(outline, _faint(self.ink, 30))
        self._paint_line(painter, outline)
        self._paint_line(painter, _line([outline.currentPosition(), first]), Qt.PenStyle.DashLine)
        if self.tool == "polygon":
            painter.setPen(QPen(self.paper, 1.0))
            painter.setBrush(self.ink)
            for corner in corners:
                painter.drawEllipse(corner, 3.5, 3.5)

    def _paint_brush(self, painter: QPainter, path: list[QPointF]) -> None:
        if path:
            pen = QPen(_faint(self.ink, 60), 2 * self._brush)
            pen.setCapStyle(Qt.PenCapStyle.RoundCap)
            pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
            painter.strokePath(_line([*path, self.pointer]), pen)
        if self.over:
            circle = QPainterPath()
            circle.addEllipse(self.pointer, self._brush, self._brush)
            self._paint_line(painter, circle)

    def _paint_line(self, painter: QPainter, path: QPainterPath, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> None:
        # Cased in the ground's colour, to be seen over markers of any colour.
        painter.strokePath(path, QPen(_faint(self.paper, 160), 3.5))
        painter.strokePath(path, QPen(self.ink, 1.5, style))

    def _paint_message(self, painter: QPainter) -> None:
        option = QTextOption(Qt.AlignmentFlag.AlignCenter)
        option.setWrapMode(QTextOption.WrapMode.WordWrap)
        room = QRectF(self.rect()).adjusted(24, 24, -24, -24)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_faint(self.paper, 215))
        painter.drawRoundedRect(painter.boundingRect(room, self.message, option).adjusted(-10, -6, 10, 6), 4, 4)
        painter.setPen(self.ink)
        painter.drawText(room, self.message, option)


def _faint(colour: QColor, alpha: int) -> QColor:
    return QColor(colour.red(), colour.green(), colour.blue(), alpha)


def _line(points: list[QPointF]) -> QPainterPath:
    path = QPainterPath(points[0])
    for point in points[1:]:
        path.lineTo(point)
    return path


def pair(point: QPointF) -> tuple[float, float]:
    """Return a point as two numbers."""
    return point.x(), point.y()


def _distance(a: QPointF, b: QPointF) -> float:
    return float(np.hypot(a.x() - b.x(), a.y() - b.y()))
