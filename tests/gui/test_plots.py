"""Plots: what is kept, what is left out, what is drawn, and that a mouse cannot disturb them."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QWheelEvent
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from napari_disentangle.gui.plots import LINES, FscPlot, LossPlot
from napari_disentangle.palette import COLOURS


def shown(qtbot, plot):
    """The plot, in a panel on the screen."""
    panel = QWidget()
    QVBoxLayout(panel).addWidget(plot)
    plot.panel = panel  # which nothing else keeps
    panel.resize(420, 320)
    qtbot.addWidget(panel)
    with qtbot.waitExposed(panel):
        panel.show()
    return plot


@pytest.fixture
def losses(qtbot):
    plot = shown(qtbot, LossPlot())
    plot.set_theme("#000000", "#ffffff")
    return plot


@pytest.fixture
def fsc(qtbot):
    plot = shown(qtbot, FscPlot())
    plot.set_theme("#000000", "#ffffff")
    return plot


def data(plot):
    """(x, y) of each curve, without gaps."""
    return [curve.getOriginalDataset() for curve in plot.plot.getPlotItem().listDataItems()]


def coloured(widget: QWidget, colour: str) -> int:
    """Pixels of nearly a colour."""
    image = widget.grab().toImage()
    wanted = np.array(QColor(colour).getRgb()[:3])
    pixels = np.array(
        [image.pixelColor(x, y).getRgb()[:3] for x in range(image.width()) for y in range(image.height())]
    )
    return int((np.abs(pixels - wanted).max(axis=1) < 12).sum())


def test_losses_are_drawn_live_on_a_logarithmic_axis(losses, qtbot):
    for step in range(5):
        losses.add(step, {"total": 10.0**-step})
    qtbot.waitUntil(lambda: data(losses)[0][0] is not None)
    ((x, y),) = data(losses)
    np.testing.assert_allclose(x, range(5))
    np.testing.assert_allclose(y, [0, -1, -2, -3, -4])
    assert coloured(losses.plot, COLOURS[0]) > 50


def test_each_name_has_a_colour_of_its_own_and_is_in_the_legend(losses):
    for step in range(30):
        losses.add(step, {"reconstruction": 1.0, "content KL": 0.1})
    losses.redraw()
    assert coloured(losses.plot, COLOURS[0]) > 50
    assert coloured(losses.plot, COLOURS[1]) > 50
    for part in ("reconstruction", "content&nbsp;KL", COLOURS[0], COLOURS[1]):
        assert part in losses._legend.text()
    assert losses._legend.isVisible()


def test_many_names_are_all_told_apart(losses):
    assert len({(colour, style) for colour, style in LINES}) == 12
    losses.add(0, {f"loss {k}": 1.0 for k in range(14)})
    losses.redraw()
    assert len(data(losses)) == 14


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_what_has_no_logarithm_is_left_out(losses, bad):
    for step, loss in enumerate([1.0, bad, 100.0]):
        losses.add(step, {"total": loss, "only bad": bad})
    losses.redraw()
    ((x, y),) = data(losses)
    np.testing.assert_allclose(x, [0, 2])
    np.testing.assert_allclose(y, [0, 2])
    assert "only&nbsp;bad" in losses._legend.text(), "a loss that is 0 so far is told"


def test_a_stage_is_not_joined_to_the_one_before_and_keeps_its_colours(losses):
    for step in range(10):
        losses.add(step, {"total": 1.0, "other": 2.0}, gap=step == 4)
    losses.redraw()
    totals = [(x, y) for x, y in data(losses) if y[0] == 0]
    assert [list(x) for x, _ in totals] == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
    pens = {curve.opts["pen"].color().name() for curve in losses.plot.getPlotItem().listDataItems()}
    assert pens == {COLOURS[0].lower(), COLOURS[1].lower()}


def test_a_loss_that_comes_later_starts_where_it_comes(losses):
    losses.add(0, {"a": 1.0})
    losses.add(1, {"a": 1.0, "b": 1.0})
    losses.redraw()
    assert [list(x) for x, _ in data(losses)] == [[0, 1], [1]]


def test_clear_takes_all_away_and_a_new_run_starts_afresh(losses, qtbot):
    losses.add(0, {"a": 1.0, "b": 1.0})
    losses.clear()
    assert data(losses) == []
    assert not losses._legend.isVisible()
    qtbot.wait(150)
    assert data(losses) == []
    losses.add(0, {"b": 1.0})
    losses.redraw()
    assert COLOURS[0] in losses._legend.text()


def test_a_single_point_can_be_seen(losses):
    losses.add(3, {"a": 1.0})
    losses.redraw()
    assert coloured(losses.plot, COLOURS[0]) > 4
    losses.add(4, {"a": 1.0})
    losses.redraw()
    (curve,) = losses.plot.getPlotItem().listDataItems()
    assert curve.opts["symbol"] is None


def test_twenty_thousand_points_stay_quick(losses):
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for step in range(20_000):
        losses.add(step, {"a": float(rng.random()), "b": 1.0})
    added = time.perf_counter() - start
    start = time.perf_counter()
    losses.redraw()
    losses.plot.grab()
    drawn = time.perf_counter() - start
    assert added < 2.0  # 0.2 s on an idle machine
    assert drawn < 0.3  # 25 ms
    item = losses.plot.getPlotItem().listDataItems()[0]
    assert len(item.curve.getData()[0]) < 5000, "drawn thinned"
    assert item.curve.getData()[1].max() == pytest.approx(data(losses)[0][1].max()), "peaks are kept"


@pytest.mark.parametrize(("low", "high"), [(1e-6, 1e3), (0.5, 20.0), (0.30, 0.33), (1.0, 1.0001)])
def test_the_loss_axis_has_a_few_readable_numbers_at_any_range(losses, low, high):
    axis = losses.plot.getPlotItem().getAxis("left")
    ticks = [value for _, values in axis.tickValues(np.log10(low), np.log10(high), 200) for value in values]
    words = axis.tickStrings(ticks, 1, 1)
    assert 2 <= len(words) <= 12
    assert len(set(words)) == len(words)
    np.testing.assert_allclose([float(word) for word in words], 10.0 ** np.array(ticks), rtol=0.01)
    assert all(low * 0.999 <= 10**tick <= high * 1.001 for tick in ticks)


# FSC


def curve(at: float, n: int = 17):
    x = np.linspace(0, 0.05, n)
    return x, 1 / (1 + np.exp((x - at) * 300))


def test_fsc_curves_are_drawn_in_their_colours_with_names(fsc):
    fsc.set_curves([("halves of one model", COLOURS[0], *curve(0.03)), ("<b>", COLOURS[3], *curve(0.02))])
    assert coloured(fsc.plot, COLOURS[0]) > 50
    assert coloured(fsc.plot, COLOURS[3]) > 50
    assert "halves&nbsp;of&nbsp;one&nbsp;model" in fsc._legend.text()
    assert "&lt;b&gt;" in fsc._legend.text()


def test_the_threshold_is_a_line_at_0_143_that_stays(fsc):
    for _ in range(2):
        fsc.set_curves([("a", COLOURS[0], *curve(0.03))])
        fsc.clear()
    assert [line.value() for line in fsc.plot.getPlotItem().items if hasattr(line, "value")] == [0.143]
    assert data(fsc) == []


def test_the_top_axis_reads_the_resolution(fsc):
    fsc.set_curves([("a", COLOURS[0], *curve(0.03))])
    item = fsc.plot.getPlotItem()
    axis = item.getAxis("top")
    assert "resolution (Å)" in axis.label.toPlainText()
    assert "1/Å" in item.getAxis("bottom").label.toPlainText()
    low, high = item.getViewBox().viewRange()[0]
    ticks = [value for _, values in axis.tickValues(low, high, 340) for value in values]
    resolutions = [float(word) for word in axis.tickStrings(ticks, 1, 1)]
    np.testing.assert_allclose(1 / np.array(ticks), resolutions)
    assert {20.0, 30.0, 40.0} <= set(resolutions)
    assert np.diff(sorted(ticks)).min() * 340 / (high - low) >= 34, "numbers do not run into each other"


def test_the_view_goes_from_zero_to_the_highest_frequency(fsc):
    fsc.set_curves([("a", COLOURS[0], *curve(0.03)), ("b", COLOURS[1], np.array([0, 0.02]), np.array([1, 0.5]))])
    (low, high), (bottom, top) = fsc.plot.getPlotItem().getViewBox().viewRange()
    assert (low, high) == pytest.approx((0, 0.05))
    assert bottom < 0 < 1 < top


def test_gaps_stay_open_and_nothing_is_no_error(fsc):
    x = np.linspace(0, 0.05, 51)
    whole = np.full(51, 0.5)
    gap = np.where((x > 0.02) & (x < 0.04), np.nan, whole)
    pixels = []
    for y in (whole, gap):
        fsc.set_curves([("a", COLOURS[0], x, y), ("empty", COLOURS[1], np.zeros(0), np.zeros(0))])
        pixels.append(coloured(fsc.plot, COLOURS[0]))
    assert pixels[1] < 0.75 * pixels[0]
    fsc.set_curves([])
    assert coloured(fsc.plot, COLOURS[0]) == 0


# What a mouse and a theme do


@pytest.mark.parametrize("kind", [LossPlot, FscPlot])
def test_the_wheel_scrolls_the_panel_and_neither_zooms_nor_drags_the_plot(qtbot, kind):
    plot = shown(qtbot, kind())
    panel = plot.window()
    before = plot.plot.getPlotItem().getViewBox().viewRange()
    middle = plot.plot.mapTo(panel, plot.plot.rect().center())
    target = panel.childAt(middle)
    event = QWheelEvent(
        QPointF(target.mapFrom(panel, middle)), QPointF(panel.mapToGlobal(middle)), QPoint(), QPoint(0, 120),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(target, event)
    # Qt passes on only what the window system sends: left to the parent is all that can be seen here.
    assert target is plot
    assert not event.isAccepted()
    qtbot.mouseClick(target, Qt.MouseButton.RightButton, pos=target.mapFrom(panel, middle))
    qtbot.mousePress(target, Qt.MouseButton.LeftButton, pos=target.mapFrom(panel, middle))
    qtbot.mouseMove(target, target.mapFrom(panel, middle) + QPoint(50, 20))
    qtbot.mouseRelease(target, Qt.MouseButton.LeftButton, pos=target.mapFrom(panel, middle) + QPoint(50, 20))
    assert QApplication.activePopupWidget() is None
    assert plot.plot.getPlotItem().getViewBox().viewRange() == before


@pytest.mark.parametrize("kind", [LossPlot, FscPlot])
def test_a_theme_colours_the_paper_and_the_words(qtbot, kind):
    plot = shown(qtbot, kind())
    for background, foreground in (("#262930", "#f0f1f2"), ("#efebe9", "#3b3a39")):
        plot.set_theme(background, foreground)
        image = plot.plot.grab().toImage()
        assert image.pixelColor(1, 1).name() == background
        assert coloured(plot.plot, foreground) > 30
        assert foreground in plot._legend.styleSheet()


def test_pyqtgraph_takes_the_binding_that_qtpy_took():
    code = "import napari_disentangle.gui.plots, pyqtgraph, qtpy; print(pyqtgraph.Qt.QT_LIB.lower() == qtpy.API_NAME.lower())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
