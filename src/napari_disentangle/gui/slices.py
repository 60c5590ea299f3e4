"""Central slices of volumes at one scale, and the bar that tells a scale: painted, where no graphics card is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget

from napari_disentangle.gui.gallery import grey_image, grey_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_disentangle.gui.surfaces import Volume


class Slices(QWidget):
    """The central slices of each volume, at one scale.

    Seen so that the hand is kept, as the surfaces are: along z with x right and y up, along y with x right and z up,
    along x with y right and z up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: Sequence[Volume] = ()
        self._images: list[list[QImage]] = []
        self.background, self.foreground = QColor(), QColor()

    def set_volumes(self, shown: Sequence[Volume]) -> None:
        """Cut volumes and paint the cuts, one grey scale for each volume."""
        self._shown = shown
        self._images = []
        for one in shown:
            cuts = [np.take(one.volume, one.volume.shape[axis] // 2, axis=axis)[::-1] for axis in range(3)]
            limits = grey_limits(cuts)
            self._images.append([grey_image(cut, *limits) for cut in cuts])
        self.update()

    def _cells(self) -> tuple[int, float, float]:
        """Return how many slices stand beside each other, and the sides of the area for one, in logical pixels."""
        width, height = self.width() / max(len(self._shown), 1), float(self.height())
        columns = max((3, 2, 1), key=lambda columns: min(width / columns, height / -(-3 // columns)))
        return columns, width / columns, height / -(-3 // columns)

    @property
    def angstrom_per_pixel(self) -> float:
        """Logical pixels, 0 without volumes."""
        if not self._shown:
            return 0.0
        _, across, down = self._cells()
        side = min(across, down - self.fontMetrics().height()) - 6
        return max(one.extent for one in self._shown) / max(side, 1.0)

    def paintEvent(self, a0: QPaintEvent) -> None:  # noqa: ARG002 (Qt's signature)
        """Paint the slices."""
        if not self._shown:
            return
        painter = QPainter(self)
        painter.fillRect(self.rect(), self.background)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self.foreground)
        columns, across, down = self._cells()
        line, scale = self.fontMetrics().height(), 1 / self.angstrom_per_pixel
        for k, (one, images) in enumerate(zip(self._shown, self._images, strict=True)):
            pixel = one.voxel_size * scale
            for axis, image in enumerate(images):
                row, column = divmod(axis, columns)
                left, top = (k * columns + column) * across, row * down
                size = image.width() * pixel, image.height() * pixel
                corner = left + (across - size[0]) / 2, top + (down - line - size[1]) / 2
                painter.drawImage(QRectF(*corner, *size), image)
                where = QRectF(left, corner[1] + size[1], across, line)
                painter.drawText(where, Qt.AlignmentFlag.AlignCenter, f"along {'zyx'[axis]}")


class ScaleBar(QWidget):
    """A bar of a round length, and what is going on."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(self.fontMetrics().height() + 10)
        self.foreground = QColor()
        self._angstrom_per_pixel = 0.0
        self.doing = ""

    def set_scale(self, angstrom_per_pixel: float) -> None:
        """Tell the size of a logical pixel; 0 paints no bar."""
        self._angstrom_per_pixel = angstrom_per_pixel
        self.update()

    def set_doing(self, text: str) -> None:
        """Write something at the right end."""
        self.doing = text
        self.setToolTip(text)
        self.update()

    @property
    def length(self) -> float:
        """In Angstrom: 1, 2 or 5 times a power of ten, not longer than 120 pixels; 0 for no bar."""
        most = 120 * self._angstrom_per_pixel
        if most <= 0:
            return 0.0
        decade = 10.0 ** np.floor(np.log10(most))
        return float(max(k * decade for k in (1, 2, 5) if k * decade <= most))

    @property
    def text(self) -> str:
        """The bar's length with its unit."""
        return f"{self.length / 10:g} nm" if self.length >= 10 else f"{self.length:g} Å"

    def paintEvent(self, a0: QPaintEvent) -> None:  # noqa: ARG002 (Qt's signature)
        """Paint the bar, its length, and what goes on."""
        painter = QPainter(self)
        painter.setPen(self.foreground)
        middle, line, left = self.height() / 2, self.fontMetrics().height(), 6.0
        if self.length:
            pixels = self.length / self._angstrom_per_pixel
            painter.fillRect(QRectF(left, middle - 1.5, pixels, 3), self.foreground)
            left += pixels + 8
            painter.drawText(QRectF(left, middle - line / 2, 100, line), Qt.AlignmentFlag.AlignLeft, self.text)
            left += self.fontMetrics().horizontalAdvance(self.text) + 20
        rest = QRectF(left, middle - line / 2, max(self.width() - 6 - left, 0), line)
        words = self.fontMetrics().elidedText(self.doing, Qt.TextElideMode.ElideRight, int(rest.width()))
        painter.drawText(rest, Qt.AlignmentFlag.AlignRight, words)
