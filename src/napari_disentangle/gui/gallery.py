"""Small grey pictures in a grid, to look over before anything is computed: slices of particles and their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QHelpEvent, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GAP = 8
"""Between pictures, in logical pixels: two frames fit into it and do not touch."""
FRAME = 3
LIMITS = (1.0, 99.5)
"""Percentiles that become black and white: a hot voxel must not turn the rest black."""


def grey_limits(pictures: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Return the values that become black and white in pictures of any shapes; (0, 1) where nothing is finite."""
    values = np.concatenate([np.ravel(picture) for picture in pictures]) if len(pictures) else np.zeros(0)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    # np.percentile interpolates between ranks, for five times the time.
    ranks = [round(percent / 100 * (values.size - 1)) for percent in LIMITS]
    low, high = np.partition(values, ranks)[ranks]
    return float(low), float(high)


def grey_image(picture: NDArray[Any], low: float, high: float) -> QImage:
    """Return a picture as an image of 8-bit greys.

    Parameters
    ----------
    picture : (h, w)
        The first row is drawn at the top. What is not finite is drawn as `low`.
    low, high : float
        Become black and white; where they are equal, everything is the same grey.
    """
    values = np.nan_to_num(np.asarray(picture, dtype=np.float32), nan=low, posinf=high, neginf=low)
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.full_like(values, 128.0)
    bytes_ = np.ascontiguousarray(np.clip(scaled, 0, 255), dtype=np.uint8)
    height, width = bytes_.shape
    # The image does not own the array it is made from; its copy does.
    return QImage(bytes_.tobytes(), width, height, width, QImage.Format.Format_Grayscale8).copy()


class Gallery(QWidget):
    """Grey pictures in rows that reflow with the width, each of which can be clicked and framed.

    Parameters
    ----------
    columns : int
        The most pictures in a row.
    side : int
        Of a picture, in logical pixels; one that is not square is fitted into the square.
    """

    clicked = Signal(int)
    """Index of the picture that was clicked."""

    def __init__(self, *, columns: int = 8, side: int = 48, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._most, self._side = max(columns, 1), side
        self._images: list[QImage] = []
        self._captions: list[str] = []
        self._tooltips: list[str] = []
        self._outlines: list[str | None] = []
        self._message = ""
        self._scaled: tuple[float, list[QPixmap]] = (0.0, [])
        self._pressed: int | None = None
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setMouseTracking(True)

    def __len__(self) -> int:
        return len(self._images)

    def set_pictures(
        self,
        pictures: Sequence[NDArray[Any]],
        captions: Sequence[str] = (),
        *,
        tooltips: Sequence[str] = (),
        shared_scale: bool = True,
    ) -> None:
        """Show pictures in place of those before, without outlines.

        Parameters
        ----------
        pictures : each (h, w)
            Sizes may differ. The first row is drawn at the top.
        captions, tooltips : sequence of str
            One for each of the first pictures; the rest have none.
        shared_scale : bool
            One grey scale for all pictures, from their joint 1st to 99.5th percentile; otherwise one for each.
        """
        arrays = [np.asarray(picture) for picture in pictures]
        if any(array.ndim != 2 or not array.size for array in arrays):
            raise ValueError(f"Pictures are (h, w), not {[array.shape for array in arrays]}.")
        limits = [grey_limits(arrays)] * len(arrays) if shared_scale else [grey_limits([array]) for array in arrays]
        self._images = [grey_image(array, *pair) for array, pair in zip(arrays, limits, strict=True)]
        self._captions, self._tooltips, self._outlines = list(captions), list(tooltips), []
        self._pressed = None
        self._changed()

    def set_outlines(self, colours: Sequence[str | None]) -> None:
        """Frame the pictures, in their order, in colours that Qt knows (``"#0072B2"``); None draws no frame."""
        for colour in colours:
            if colour is not None and not QColor(colour).isValid():
                raise ValueError(f'"{colour}" is not a colour.')
        self._outlines = list(colours)
        self.update()

    def set_message(self, text: str) -> None:
        """Say what stands in place of pictures while there are none."""
        self._message = text
        self._changed()

    def clear(self) -> None:
        """Take the pictures away; the message stays."""
        self.set_pictures(())

    def place(self, index: int) -> QRect:
        """Return where a picture is drawn in this widget, in logical pixels."""
        row, column = divmod(index, self._columns(self.width()))
        across, down = self._pitch()
        return QRect(GAP // 2 + column * across, GAP // 2 + row * down, self._side, self._side)

    def index_at(self, position: QPoint) -> int | None:
        """Return the picture under a position in this widget; None between pictures and outside."""
        return next((k for k in range(len(self._images)) if self.place(k).contains(position)), None)

    # Sizes

    def heightForWidth(self, a0: int) -> int:
        """Return the height that all rows need."""
        if not self._images:
            flags = Qt.TextFlag.TextWordWrap.value
            return self.fontMetrics().boundingRect(QRect(0, 0, max(a0 - GAP, 1), 10**6), flags, self._message).height()
        rows = -(-len(self._images) // self._columns(a0))
        return rows * self._pitch()[1]

    def sizeHint(self) -> QSize:
        """Return the size of full rows."""
        width = self._most * self._pitch()[0]
        return QSize(width, self.heightForWidth(width))

    def minimumSizeHint(self) -> QSize:
        """Return the size of one picture."""
        across, down = self._pitch()
        return QSize(across, down if self._images else self.fontMetrics().height())

    def _columns(self, width: int) -> int:
        return int(np.clip(width // self._pitch()[0], 1, self._most))

    def _pitch(self) -> tuple[int, int]:
        """Return the distances between pictures, across and down."""
        caption = self.fontMetrics().height() if any(self._captions) else 0
        return self._side + GAP, self._side + GAP + caption

    def _changed(self) -> None:
        self._scaled = (0.0, [])
        self.updateGeometry()
        self.update()

    # Events

    def resizeEvent(self, a0: QResizeEvent) -> None:
        """Reflow."""
        super().resizeEvent(a0)
        self.updateGeometry()

    def paintEvent(self, a0: QPaintEvent) -> None:  # noqa: ARG002 (Qt's signature)
        """Draw pictures, frames and captions, or the message."""
        painter = QPainter(self)
        painter.setPen(self.palette().windowText().color())
        if not self._images:
            inner = self.rect().adjusted(GAP // 2, 0, -GAP // 2, 0)
            painter.drawText(inner, (Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self._message)
            return
        text = painter.pen()
        metrics = self.fontMetrics()
        for k, pixmap in enumerate(self._pixmaps()):
            square = self.place(k)
            size = pixmap.deviceIndependentSize()
            corner = QPointF((square.width() - size.width()) / 2, (square.height() - size.height()) / 2)
            painter.drawPixmap(QPointF(square.topLeft()) + corner, pixmap)
            colour = self._outlines[k] if k < len(self._outlines) else None
            if colour is not None:
                pen = QPen(QColor(colour), FRAME)
                pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
                painter.setPen(pen)
                painter.drawRect(QRectF(square).adjusted(-FRAME / 2, -FRAME / 2, FRAME / 2, FRAME / 2))
            if k < len(self._captions):
                painter.setPen(text)
                line = square.translated(0, square.height() + FRAME).adjusted(-FRAME, 0, FRAME, 0)
                line.setHeight(metrics.height())
                caption = metrics.elidedText(self._captions[k], Qt.TextElideMode.ElideRight, line.width())
                painter.drawText(line, Qt.AlignmentFlag.AlignCenter, caption)

    def _pixmaps(self) -> list[QPixmap]:
        """Return the pictures at the size of the screen's own pixels: smooth, and scaled only once."""
        ratio = self.devicePixelRatioF()
        if self._scaled[0] != ratio:
            side = round(self._side * ratio)
            modes = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            pixmaps = [QPixmap.fromImage(image.scaled(side, side, *modes)) for image in self._images]
            for pixmap in pixmaps:
                pixmap.setDevicePixelRatio(ratio)
            self._scaled = ratio, pixmaps
        return self._scaled[1]

    def mousePressEvent(self, a0: QMouseEvent) -> None:
        """Remember the picture: a click ends on the one where it began."""
        if a0.button() == Qt.MouseButton.LeftButton:
            self._pressed = self.index_at(a0.position().toPoint())

    def mouseReleaseEvent(self, a0: QMouseEvent) -> None:
        """Emit `clicked`."""
        if a0.button() != Qt.MouseButton.LeftButton:
            return
        pressed, self._pressed = self._pressed, None
        if pressed is not None and pressed == self.index_at(a0.position().toPoint()):
            self.clicked.emit(pressed)

    def mouseMoveEvent(self, a0: QMouseEvent) -> None:
        """Show with the cursor what can be clicked."""
        over = self.index_at(a0.position().toPoint()) is not None
        self.setCursor(Qt.CursorShape.PointingHandCursor if over else Qt.CursorShape.ArrowCursor)

    def event(self, a0: QEvent) -> bool:
        """Show a picture's own tooltip, or its caption, which may have been cut; the widget's elsewhere."""
        if isinstance(a0, QHelpEvent) and a0.type() == QEvent.Type.ToolTip:
            text = self.tooltip_at(a0.pos())
            if text:
                QToolTip.showText(a0.globalPos(), text, self)
                return True
        return super().event(a0)

    def tooltip_at(self, position: QPoint) -> str:
        """Return what the tooltip says at a position; empty between pictures."""
        k = self.index_at(position)
        if k is None:
            return ""
        return next((texts[k] for texts in (self._tooltips, self._captions) if k < len(texts) and texts[k]), "")
