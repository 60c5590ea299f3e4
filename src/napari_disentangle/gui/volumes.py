"""Volumes side by side at one scale and one contour, apart from the viewer's layers: averages to compare by eye."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QButtonGroup,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_disentangle.gui.slices import ScaleBar, Slices
from napari_disentangle.gui.surfaces import SurfaceCanvas, Surfacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from qtpy.QtGui import QResizeEvent
    from vispy.scene import SceneCanvas

Mode = Literal["surface", "slices"]
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
MANY = 4
"""Volumes beside which titles of more are small."""
DEFAULT_CONTOUR = 3.0
SLIDER = (0.0, 10.0)
"""Standard deviations that the slider spans; the number beside it takes more."""


@dataclass(frozen=True)
class Shown:
    """One volume of the row."""

    title: str
    """For instance "raw average"."""
    volume: NDArray[Any]
    """(z, y, x)"""
    voxel_size: float
    """In Angstrom."""
    colour: str = "#d0d0d0"
    """Of the surface, hexadecimal."""
    note: str = ""
    """Under the title, for instance "model, not data", so that nobody takes the one for the other."""

    @property
    def extent(self) -> float:
        """Longest side of the box, in Angstrom."""
        return max(self.volume.shape) * self.voxel_size


def as_volume(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a volume as it is, and an image (y, x) as one of a single section."""
    return box if box.ndim == 3 else box[None]


class VolumeRow(QWidget):
    """Up to about eight volumes in a row, as surfaces at one contour or as central slices, at one scale.

    The canvas is made when the first surface is asked for. Call `close_canvas` before the window goes.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Shown, ...] = ()
        self._mode: Mode = "surface"
        self._contour = DEFAULT_CONTOUR
        palette = self.palette()
        self._background, self._foreground = palette.window().color().name(), palette.windowText().color().name()
        self._surfaces: SurfaceCanvas | None = None
        self._closed, self._unfitted, self._empty = False, False, ""
        self._surfacing = Surfacing(self)
        self._surfacing.done.connect(self._take)

        self._titles = QWidget()
        across = QHBoxLayout(self._titles)
        across.setContentsMargins(0, 0, 0, 0)
        across.setSpacing(0)
        self._message = QLabel()
        self._message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._message.setWordWrap(True)
        self._slices = Slices()
        self._pages = QStackedWidget()
        self._pages.addWidget(self._message)
        self._pages.addWidget(self._slices)
        # The canvas would ask for 600 pixels, and get them from a scroll area.
        self._pages.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self._pages.setMinimumHeight(60)
        self._scale = ScaleBar()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(self._toolbar())
        layout.addWidget(self._titles)
        layout.addWidget(self._pages, 1)
        layout.addWidget(self._scale)
        self._refresh()

    def _toolbar(self) -> QHBoxLayout:
        self._modes: dict[Mode, QPushButton] = {
            "surface": _choice(
                "surface", "Show each volume as a surface at the contour. Drag turns all, wheel zooms, Shift moves."
            ),
            "slices": _choice("slices", "Show the central slices of each volume along z, y and x, as grey pictures."),
        }
        group = QButtonGroup(self)
        for button in self._modes.values():
            group.addButton(button)
        group.buttonClicked.connect(self._choose)
        self._number = QDoubleSpinBox()
        self._number.setRange(-99.0, 99.0)
        self._number.setDecimals(1)
        self._number.setSingleStep(0.1)
        self._number.setKeyboardTracking(False)
        self._number.setMaximumWidth(90)
        self._number.setValue(self._contour)
        self._number.valueChanged.connect(self.set_contour)
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(round(10 * SLIDER[0]), round(10 * SLIDER[1]))
        self._slider.setValue(round(10 * self._contour))
        self._slider.setMinimumWidth(50)
        self._slider.setMaximumWidth(240)
        self._slider.valueChanged.connect(self._slide)
        self._contour_name, self._contour_unit = QLabel("contour"), QLabel(SIGMA)
        for part in self._contour_parts():
            part.setToolTip(
                "Density at which surfaces are drawn: standard deviations above the mean of each volume's own box."
            )
        self._reset = QPushButton("reset view")
        self._reset.setToolTip("Look from the front again (x right, y up), as large as fits.")
        self._reset.clicked.connect(self._look)
        across = QHBoxLayout()
        across.setContentsMargins(0, 0, 0, 0)
        for part in (*self._modes.values(), *self._contour_parts(), self._reset):
            across.addWidget(part, 3 if part is self._slider else 0)
        across.addStretch(1)
        return across

    def _choose(self, button: QPushButton) -> None:
        self.set_mode("surface" if button is self._modes["surface"] else "slices")

    def _slide(self, tenths: int) -> None:
        self.set_contour(tenths / 10)

    def _contour_parts(self) -> tuple[QWidget, ...]:
        return self._contour_name, self._number, self._contour_unit, self._slider

    @property
    def canvas(self) -> SceneCanvas | None:
        """What surfaces are drawn in; None before the first and after `close_canvas`."""
        return None if self._surfaces is None else self._surfaces.canvas

    @property
    def contour(self) -> float:
        """Standard deviations above the mean of each volume."""
        return self._contour

    @property
    def mode(self) -> Mode:
        """Whether surfaces or slices are shown."""
        return self._mode

    def set_volumes(self, shown: Sequence[Shown]) -> None:
        """Show volumes in place of those before; with as many as before, seen from where the user has turned them."""
        for one in shown:
            if one.volume.ndim != 3 or not one.volume.size or not one.voxel_size > 0:
                raise ValueError(f"A volume is (z, y, x) with a voxel size, not {one.volume.shape}, {one.voxel_size}.")
            if not QColor(one.colour).isValid():
                raise ValueError(f'"{one.colour}" is not a colour.')
        self._shown = tuple(shown)
        self._surfacing.drop()
        if self._surfaces is not None:
            # The old surfaces must not stand under the new titles while the new ones are made.
            self._surfaces.hide_meshes()
        self._slices.set_volumes(self._shown)
        self._set_titles()
        self._refresh()

    def set_contour(self, sigmas: float) -> None:
        """Draw all surfaces at ``mean + sigmas * standard deviation`` of each volume; empty outside its data."""
        self._contour = float(sigmas)
        with QSignalBlocker(self._number), QSignalBlocker(self._slider):
            self._number.setValue(self._contour)
            self._slider.setValue(round(10 * self._contour))
        self._ask()

    def set_mode(self, mode: Mode) -> None:
        """Show surfaces or slices."""
        if mode not in self._modes:
            raise ValueError(f'"{mode}" is neither "surface" nor "slices".')
        if mode != self._mode:
            self._mode = mode
            self._refresh()

    def set_message(self, text: str) -> None:
        """Say what stands in place of volumes while there are none."""
        self._message.setText(text)

    def set_theme(self, background: str, foreground: str) -> None:
        """Take the colours of napari's theme, such as ``"#262930"`` and ``"#f0f1f2"``."""
        self._background, self._foreground = background, foreground
        self._paint()

    def close_canvas(self) -> None:
        """Give the graphics memory back; nothing is drawn afterwards. Closing again does nothing."""
        self._closed = True
        self._surfacing.drop()
        surfaces, self._surfaces = self._surfaces, None
        if surfaces is not None:
            self._pages.removeWidget(surfaces)
            surfaces.close_canvas()

    # What is seen

    def _set_titles(self) -> None:
        across = self._titles.layout()
        assert across is not None
        while (item := across.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.hide()
                old.deleteLater()
        for one in self._shown:
            note = f"<br><i>{escape(one.note)}</i>" if one.note else ""
            text = f"<b>{escape(one.title)}</b>{note}"
            label = QLabel(f"<small>{text}</small>" if len(self._shown) > MANY else text)
            label.setToolTip(f"{one.title}\n{one.note}".strip())
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
            label.setWordWrap(True)
            label.setContentsMargins(4, 0, 4, 0)
            # Columns as wide as the views below, whatever the words.
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
            across.addWidget(label)
        self._paint()

    def _refresh(self) -> None:
        """Show the page of the mode, or the message."""
        as_surface = self._mode == "surface"
        for name, button in self._modes.items():
            button.setChecked(name == self._mode)
        for part in (*self._contour_parts(), self._reset):
            part.setEnabled(as_surface)
        self._titles.setVisible(bool(self._shown))
        self._scale.setVisible(bool(self._shown))
        if not self._shown:
            self._pages.setCurrentWidget(self._message)
        elif not as_surface:
            self._pages.setCurrentWidget(self._slices)
        elif not self._closed:
            if self._surfaces is None:
                self._surfaces = SurfaceCanvas()
                self._surfaces.zoomed.connect(self._measure)
                self._surfaces.drawn.connect(self._say_drawn)
                self._pages.addWidget(self._surfaces)
                self._paint()
            self._unfitted |= self._surfaces.set_count(len(self._shown), max(one.extent for one in self._shown))
            self._pages.setCurrentWidget(self._surfaces)
        self._ask()
        self._measure()

    def _ask(self) -> None:
        """Have surfaces made, if they are looked at."""
        if self._shown and self._mode == "surface" and not self._closed:
            self._surfacing.ask(self._shown, self._contour)
            self._scale.set_doing("drawing surfaces...")
        else:
            self._surfacing.drop()
            self._scale.set_doing("")

    def _take(self, number: int, result: Any) -> None:
        """Show surfaces, unless they are stale."""
        if number != self._surfacing.newest or self._surfaces is None:
            return
        if isinstance(result, Exception):
            self._surfaces.hide_meshes()
            self._scale.set_doing(f"surfaces cannot be drawn: {result}")
            return
        empty = [one.title for one, mesh in zip(self._shown, result, strict=True) if mesh is None]
        self._empty = f"no surface at {self._contour:g} {SIGMA}: {', '.join(empty)}" if empty else ""
        self._surfaces.show_meshes(result, [one.colour for one in self._shown])
        if self._unfitted:
            self._look()

    def _say_drawn(self) -> None:
        self._scale.set_doing(self._empty)

    def _look(self) -> None:
        if self._surfaces is not None:
            self._surfaces.look()
            self._unfitted = False

    def _measure(self) -> None:
        page = self._slices if self._mode == "slices" else self._surfaces
        self._scale.set_scale(page.angstrom_per_pixel if page is not None and self._shown else 0.0)

    def _paint(self) -> None:
        for part in (self._slices, self._scale):
            part.foreground = QColor(self._foreground)
            part.update()
        self._slices.background = QColor(self._background)
        for label in (self._message, *self._titles.findChildren(QLabel)):
            label.setStyleSheet(f"color: {self._foreground}; background: transparent")
        if self._surfaces is not None:
            self._surfaces.canvas.bgcolor = self._background

    def resizeEvent(self, a0: QResizeEvent) -> None:
        """Keep the scale bar true."""
        super().resizeEvent(a0)
        self._measure()


def _choice(name: str, tooltip: str) -> QPushButton:
    button = QPushButton(name)
    button.setCheckable(True)
    button.setToolTip(tooltip)
    return button
