"""Curves that are read while and after training: losses over steps, and FSC against spatial frequency."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

# isort: split
# After qtpy: pyqtgraph takes the Qt that is loaded, which has to be the window's.
import pyqtgraph as pg

from napari_disentangle.palette import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# Yellow vanishes on light themes, and dark grey on dark ones: further curves are dashed in the first colours.
LINES = tuple((colour, style) for style in (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine) for colour in COLOURS[:6])
REDRAW = 100
"""Milliseconds between drawings of a live plot: training may report faster than anybody reads."""
THRESHOLD = 0.143


class _LogAxis(pg.AxisItem):
    """Labels powers of ten on an axis of logarithms, and numbers between them where few fit in."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        low, high = 10.0**minVal, 10.0**maxVal
        decades = np.arange(np.floor(minVal), np.ceil(maxVal) + 1)
        most = max(size / 28, 2)
        for multiples in ((1, 2, 5), (1, 3), (1,)):
            ticks = [k * 10.0**d for d in decades for k in multiples if low <= k * 10.0**d <= high]
            if len(ticks) <= most:
                break
        else:
            ticks = ticks[:: int(np.ceil(len(ticks) / most))]
        if len(ticks) < 3:
            # Within less than a decade, even steps tell more.
            ticks = [value for _, values in super().tickValues(low, high, size)[:2] for value in values if value > 0]
        return [(1.0, [float(np.log10(value)) for value in ticks])]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: ARG002 (pyqtgraph's)
        return [f"{10.0**value:.6g}" for value in values]


class _ResolutionAxis(pg.AxisItem):
    """Labels spatial frequencies with the resolutions that they are: 0.025 1/A as 40 A."""

    ROUND = tuple(k * 10**d for d in (0, 1, 2) for k in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8))

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        chosen: list[float] = []
        apart = 34 * (maxVal - minVal) / max(size, 1)
        for resolution in sorted(self.ROUND):
            frequency = 1 / resolution
            if max(minVal, 0) < frequency <= 1.001 * maxVal and (not chosen or chosen[-1] - frequency >= apart):
                chosen.append(frequency)
        return [(1.0, chosen)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: ARG002 (pyqtgraph's)
        return [f"{1 / value:.3g}" for value in values]


@dataclass(eq=False)
class _Curve:
    """The values of one loss in one stage."""

    drawn: Any
    steps: array[float] = field(default_factory=lambda: array("d"))
    logarithms: array[float] = field(default_factory=lambda: array("d"))


class _Plot(QWidget):
    """A plot that is only looked at, with its legend above it, where it covers nothing."""

    def __init__(self, axes: dict[str, pg.AxisItem], parent: QWidget | None) -> None:
        super().__init__(parent)
        self._legend = QLabel()
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self._legend.setWordWrap(True)
        self._legend.hide()
        self.plot: Any = pg.PlotWidget(axisItems=axes, enableMenu=False)
        self.plot.setMinimumSize(120, 90)
        item = self.plot.getPlotItem()
        item.hideButtons()
        # pyqtgraph makes this menu all the same, as a window of nobody that would outlive the plot.
        item.ctrlMenu.setParent(self.plot, item.ctrlMenu.windowFlags())
        for side in ("left", "bottom", "top"):
            item.getAxis(side).enableAutoSIPrefix(False)
            item.getAxis(side).setStyle(hideOverlappingLabels=False)  # the numbers at the ends
        # pyqtgraph lets the words at an axis, and the last number, stick out by some pixels.
        item.layout.setContentsMargins(6, 2, 20, 7)
        # No menu, no dragging, and the wheel scrolls the panel that this stands in.
        self.plot.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._legend)
        layout.addWidget(self.plot, 1)
        palette = self.palette()
        self.set_theme(
            palette.color(QPalette.ColorRole.Window).name(), palette.color(QPalette.ColorRole.WindowText).name()
        )

    def set_theme(self, background: str, foreground: str) -> None:
        """Take the colours of napari's theme, such as ``"#262930"`` and ``"#f0f1f2"``."""
        self.plot.setBackground(background)
        item = self.plot.getPlotItem()
        for side in ("left", "bottom", "top"):
            axis = item.getAxis(side)
            axis.setPen(foreground)
            axis.setTextPen(foreground)
        self._legend.setStyleSheet(f"color: {foreground}; background: transparent")

    def _name(self, curves: Sequence[tuple[str, str, Qt.PenStyle]]) -> None:
        """Write the legend: (name, colour, style) of each curve."""
        marks = {Qt.PenStyle.SolidLine: "\N{EM DASH}", Qt.PenStyle.DashLine: "- -"}
        names = [
            f'<span style="color: {colour}"><b>{marks[style]}</b></span>&nbsp;{escape(name).replace(" ", "&nbsp;")}'
            for name, colour, style in curves
        ]
        self._legend.setText(" &nbsp; ".join(names))
        self._legend.setVisible(bool(names))


class LossPlot(_Plot):
    """Named losses on a logarithmic axis, drawn as they arrive.

    Parameters
    ----------
    x : str
        What steps count.
    """

    def __init__(self, parent: QWidget | None = None, *, x: str = "step") -> None:
        super().__init__({"left": _LogAxis("left")}, parent)
        item = self.plot.getPlotItem()
        item.setLabel("bottom", x)
        item.setLabel("left", "loss (log scale)")
        item.showGrid(y=True, alpha=0.15)
        self._names: list[str] = []
        self._stage: dict[str, _Curve] = {}
        self._changed: set[_Curve] = set()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW)
        self._timer.timeout.connect(self.redraw)

    def clear(self) -> None:
        """Take all curves away."""
        self.plot.getPlotItem().clear()
        self._names, self._stage, self._changed = [], {}, set()
        self._name(())

    def add(self, step: float, losses: Mapping[str, float], *, gap: bool = False) -> None:
        """Append one value to each named curve; drawn within a tenth of a second.

        Parameters
        ----------
        step : float
        losses : name -> value
            What is not finite or not above 0 has no place on a logarithmic axis, and is left out.
        gap : bool
            Begin new curves, in the same colours: these losses are of another stage, at another scale.
        """
        if gap:
            self._stage = {}
        for name, loss in losses.items():
            if name not in self._names:
                self._names.append(name)
                self._name([(known, *LINES[k % len(LINES)]) for k, known in enumerate(self._names)])
            if np.isfinite(loss) and loss > 0:
                if name not in self._stage:
                    self._stage[name] = _Curve(self._new_curve(name))
                curve = self._stage[name]
                curve.steps.append(step)
                curve.logarithms.append(float(np.log10(loss)))
                self._changed.add(curve)
        if self._changed and not self._timer.isActive():
            self._timer.start()

    def redraw(self) -> None:
        """Draw what has been added, without waiting."""
        self._timer.stop()
        for curve in self._changed:
            # Where there is a line, symbols are a second thing to draw, and slow.
            symbol = "o" if len(curve.steps) == 1 else None
            curve.drawn.setData(np.array(curve.steps), np.array(curve.logarithms), symbol=symbol)
        self._changed = set()

    def _new_curve(self, name: str) -> Any:
        colour, style = LINES[self._names.index(name) % len(LINES)]
        pen = pg.mkPen(colour, width=2, style=style)
        curve = self.plot.getPlotItem().plot(pen=pen, symbolPen=None, symbolBrush=colour, symbolSize=4)
        curve.setDownsampling(auto=True, method="peak")
        curve.setClipToView(True)
        return curve


class FscPlot(_Plot):
    """Fourier shell correlation against spatial frequency, with the resolution on top and the 0.143 line."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({"top": _ResolutionAxis("top")}, parent)
        item = self.plot.getPlotItem()
        item.showAxis("top")
        item.setLabel("bottom", "spatial frequency (1/Å)")
        item.setLabel("top", "resolution (Å)")
        item.setLabel("left", "FSC")
        item.setYRange(-0.2, 1.05, padding=0)
        self._threshold = pg.InfiniteLine(
            THRESHOLD, angle=0, pen=pg.mkPen("#888888", style=Qt.PenStyle.DashLine),
            label=str(THRESHOLD), labelOpts={"position": 0.97, "anchors": [(1, 1), (1, 1)], "color": "#888888"},
        )  # fmt: skip
        self.clear()

    def clear(self) -> None:
        """Take all curves away."""
        item = self.plot.getPlotItem()
        item.clear()
        item.addItem(self._threshold, ignoreBounds=True)
        item.setXRange(0, 0.05, padding=0)
        self._name(())

    def set_curves(self, curves: Sequence[tuple[str, str, NDArray[Any], NDArray[Any]]]) -> None:
        """Show curves in place of those before.

        Parameters
        ----------
        curves : (name, colour, frequency, fsc) each
            Colour as ``"#0072B2"``; frequency (k,) in 1/A; fsc (k,).
        """
        self.clear()
        item = self.plot.getPlotItem()
        for _, colour, frequency, fsc in curves:
            item.plot(
                np.asarray(frequency), np.asarray(fsc), pen=pg.mkPen(colour, width=2), antialias=True, connect="finite"
            )
        self._name([(name, colour, Qt.PenStyle.SolidLine) for name, colour, _, _ in curves])
        highest = [float(np.nanmax(frequency)) for _, _, frequency, _ in curves if len(frequency)]
        if highest and max(highest) > 0:
            item.setXRange(0, max(highest), padding=0)
