"""The map: what a real mouse and real keys draw on it is what they meant, and what is drawn is where it says."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QImage, QKeySequence, QShortcut, QWheelEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_disentangle.gui.scatter import TOOLS, MapCanvas, Stroke

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
GRID = np.stack(np.meshgrid(np.arange(11.0), np.arange(11.0)), -1).reshape(-1, 2)
RED, BLUE = [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]


def row(x: int, y: int) -> int:
    """Row of `GRID` at x, y."""
    return 11 * y + x


@pytest.fixture
def canvas(qtbot):
    """A map of `GRID`, at 33.7 pixels per unit."""
    canvas = MapCanvas()
    qtbot.addWidget(canvas)
    canvas.resize(400, 400)
    canvas.set_theme("#000000", "#ffffff")
    canvas.set_points(GRID)
    with qtbot.waitExposed(canvas):
        canvas.show()
    return canvas


@pytest.fixture
def told(canvas):
    """Everything that the canvas told, in order."""
    told = []
    canvas.drawn.connect(told.append)
    canvas.picked.connect(lambda row: told.append(("picked", row)))
    canvas.cancelled.connect(lambda: told.append("cancelled"))
    return told


def pixel(canvas, place) -> QPoint:
    x, y = canvas.to_pixels([place])[0]
    return QPoint(round(x), round(y))


def drag(qtbot, canvas, places, *, release=True) -> None:
    """Press at the first place, move along the others a few pixels at a time, and release at the last."""
    corners = canvas.to_pixels(places)
    qtbot.mousePress(canvas.native, LEFT, pos=pixel(canvas, places[0]))
    for a, b in pairwise(corners):
        for t in np.linspace(0, 1, max(int(np.hypot(*(b - a)) / 7), 2)):
            x, y = a + t * (b - a)
            qtbot.mouseMove(canvas.native, QPoint(round(x), round(y)))
    if release:
        qtbot.mouseRelease(canvas.native, LEFT, pos=pixel(canvas, places[-1]))


def wheel(canvas, at: QPoint, clicks: int) -> None:
    where = QPointF(at)
    event = QWheelEvent(
        where, QPointF(canvas.native.mapToGlobal(at)), QPoint(), QPoint(0, 120 * clicks),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(canvas.native, event)


def picture(qtbot, canvas) -> np.ndarray:
    """Return what the screen shows of the canvas, (height, width, 3), uint8."""
    qtbot.wait(20)
    image = canvas.grab().toImage().convertToFormat(QImage.Format.Format_RGBX8888)
    data = image.constBits()
    if hasattr(data, "setsize"):  # PyQt's pointer knows no size
        data.setsize(image.sizeInBytes())
    return np.frombuffer(data, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)[:, :, :3].copy()


def centre_of(image: np.ndarray, colour) -> np.ndarray:
    """Return the middle (2,) of the pixels of a colour, in pixels, x first."""
    rows, columns = np.nonzero((image == np.array(colour, np.uint8)).all(-1))
    assert len(rows), "nothing of this colour is drawn"
    return np.array([columns.mean(), rows.mean()]) + 0.5


class TestOutlines:
    def test_a_lasso_dragged_around_points_takes_exactly_those(self, qtbot, canvas, told):
        canvas.set_tool("lasso")
        drag(qtbot, canvas, [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (2.5, 3.5), (2.5, 5.5), (1.5, 5.5)])
        [stroke] = told
        assert stroke.tool == "lasso"
        taken = set(np.flatnonzero(stroke.mask(GRID)).tolist())
        assert taken == {row(x, y) for x, y in [(2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (4, 3), (2, 4), (2, 5)]}

    def test_a_lasso_keeps_points_some_pixels_apart(self, qtbot, canvas, told):
        canvas.set_tool("lasso")
        start = pixel(canvas, (2, 2))
        qtbot.mousePress(canvas.native, LEFT, pos=start)
        for x, y in [(i, 0) for i in range(60)] + [(60, i) for i in range(60)]:
            qtbot.mouseMove(canvas.native, start + QPoint(x, y))
        qtbot.mouseRelease(canvas.native, LEFT, pos=start + QPoint(60, 60))
        steps = np.hypot(*np.diff(canvas.to_pixels(told[0].points), axis=0).T)
        assert 35 < len(steps) < 45
        assert steps[:-1].min() >= 3 - 1e-6

    @pytest.mark.parametrize("ends", [[(1.5, 1.5), (4.5, 3.5)], [(4.5, 1.5), (1.5, 3.5)], [(4.5, 3.5), (1.5, 1.5)]])
    def test_a_rectangle_takes_what_lies_between_its_corners(self, qtbot, canvas, told, ends):
        canvas.set_tool("rectangle")
        drag(qtbot, canvas, ends)
        [stroke] = told
        assert stroke.tool == "rectangle"
        assert stroke.points.shape == (4, 2)
        assert set(np.flatnonzero(stroke.mask(GRID))) == {row(x, y) for x in (2, 3, 4) for y in (2, 3)}

    @pytest.mark.parametrize("tool", ["lasso", "rectangle"])
    def test_a_line_takes_nothing(self, qtbot, canvas, told, tool):
        canvas.set_tool(tool)
        y = canvas.to_map([[0, 100]])[0, 1]
        drag(qtbot, canvas, [(2, y), (8, y)])
        assert told == []

    def test_the_brush_takes_what_its_circle_passes_over(self, qtbot, canvas, told):
        canvas.set_tool("brush")
        drag(qtbot, canvas, [(2, 5), (6, 5)])
        [stroke] = told
        scale = np.diff(canvas.to_pixels([(0, 0), (1, 0)])[:, 0])[0]
        assert stroke.tool == "brush"
        assert stroke.radius == pytest.approx(20 / scale)
        assert set(np.flatnonzero(stroke.mask(GRID))) == {row(x, 5) for x in range(2, 7)}

    def test_brackets_change_the_size_of_the_brush(self, qtbot, canvas, told):
        canvas.set_tool("brush")
        for keys in ("", "]]]]", "[[[[[["):
            qtbot.keyClicks(canvas.native, keys)
            drag(qtbot, canvas, [(2, 5), (6, 5)])
        usual, large, small = (stroke.radius for stroke in told)
        assert small < usual < large
        assert told[1].mask(GRID).sum() == 17
        qtbot.keyClicks(canvas.native, 60 * "]")
        assert canvas._pane._brush <= 200
        qtbot.keyClicks(canvas.native, 60 * "[")
        assert canvas._pane._brush >= 4

    @pytest.mark.parametrize("close", ["double click", "right click", "Return", "Enter"])
    def test_a_polygon_is_clicked_and_closed(self, qtbot, canvas, told, close):
        canvas.set_tool("polygon")
        corners = [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5)]
        for corner in corners:
            qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, corner))
        assert told == []
        if close == "double click":
            qtbot.mouseDClick(canvas.native, LEFT, pos=pixel(canvas, corners[-1]))
        elif close == "right click":
            qtbot.mouseClick(canvas.native, RIGHT, pos=pixel(canvas, (9, 9)))
        else:
            qtbot.keyClick(canvas.native, getattr(Qt.Key, f"Key_{close}"))
        [stroke] = told
        assert stroke.tool == "polygon"
        assert set(np.flatnonzero(stroke.mask(GRID))) == {row(x, y) for x in (2, 3, 4) for y in (2, 3)}

    def test_backspace_takes_the_last_corner_back(self, qtbot, canvas, told):
        canvas.set_tool("polygon")
        for corner in [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (9, 9), (9, 8)]:
            qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, corner))
        qtbot.keyClick(canvas.native, Qt.Key.Key_Backspace)
        qtbot.keyClick(canvas.native, Qt.Key.Key_Backspace)
        qtbot.keyClick(canvas.native, Qt.Key.Key_Return)
        np.testing.assert_allclose(told[0].points, [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5)], atol=0.05)

    def test_backspace_past_the_first_corner_is_nothing(self, qtbot, canvas, told):
        canvas.set_tool("polygon")
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, (2, 2)))
        for _ in range(3):
            qtbot.keyClick(canvas.native, Qt.Key.Key_Backspace)
        qtbot.mouseClick(canvas.native, RIGHT, pos=pixel(canvas, (9, 9)))
        assert told == []

    @pytest.mark.parametrize("corners", [[], [(1, 1)], [(1, 1), (4, 4)], [(1, 1), (4, 4), (1, 1)]])
    def test_too_few_corners_are_no_polygon(self, qtbot, canvas, told, corners):
        canvas.set_tool("polygon")
        for corner in corners:
            qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, corner))
        qtbot.mouseClick(canvas.native, RIGHT, pos=pixel(canvas, (9, 9)))
        assert told == []

    def test_a_polygon_stays_where_it_was_clicked_when_the_view_zooms(self, qtbot, canvas, told):
        canvas.set_tool("polygon")
        corners = [(3.5, 3.5), (6.5, 3.5), (6.5, 6.5), (3.5, 6.5)]
        for i, corner in enumerate(corners):
            qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, corner))
            wheel(canvas, QPoint(200, 200), 1 if i % 2 else -1)
        qtbot.keyClick(canvas.native, Qt.Key.Key_Return)
        np.testing.assert_allclose(told[0].points, corners, atol=0.05)

    @pytest.mark.parametrize(("size", "offset"), [(1e-12, 0.0), (1e12, 0.0), (1.0, 1e9), (1e300, 0.0)])
    def test_maps_may_have_any_units(self, qtbot, canvas, told, size, offset):
        points = offset + size * GRID
        canvas.set_points(points)
        canvas.set_tool("lasso")
        drag(qtbot, canvas, offset + size * np.array([(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5)]))
        assert set(np.flatnonzero(told[0].mask(points))) == {row(x, y) for x in (2, 3, 4) for y in (2, 3)}


class TestEscape:
    @pytest.mark.parametrize("tool", ["lasso", "rectangle", "brush"])
    def test_it_drops_the_stroke_and_keeps_the_tool(self, qtbot, canvas, told, tool):
        canvas.set_tool(tool)
        drag(qtbot, canvas, [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5)], release=False)
        qtbot.keyClick(canvas.native, Qt.Key.Key_Escape)
        qtbot.mouseMove(canvas.native, pixel(canvas, (6, 6)))
        qtbot.mouseRelease(canvas.native, LEFT, pos=pixel(canvas, (6, 6)))
        assert told == []
        assert canvas.tool == tool
        drag(qtbot, canvas, [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5)])
        assert len(told) == 1

    def test_it_drops_a_polygon_and_then_puts_the_tool_away(self, qtbot, canvas, told):
        canvas.set_tool("polygon")
        for corner in [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5)]:
            qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, corner))
        qtbot.keyClick(canvas.native, Qt.Key.Key_Escape)
        assert (canvas.tool, told) == ("polygon", [])
        qtbot.keyClick(canvas.native, Qt.Key.Key_Escape)
        assert (canvas.tool, told) == ("pan", ["cancelled"])
        qtbot.keyClick(canvas.native, Qt.Key.Key_Escape)
        assert told == ["cancelled"]

    def test_a_map_that_keeps_its_view_keeps_the_stroke(self, qtbot, canvas, told):
        canvas.set_tool("lasso")
        drag(qtbot, canvas, [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5)], release=False)
        canvas.set_points(GRID[::-1], keep_view=True)
        qtbot.mouseRelease(canvas.native, LEFT, pos=pixel(canvas, (1.5, 3.5)))
        assert told[0].mask(GRID).sum() == 6

    def test_another_tool_a_new_map_and_hiding_drop_the_stroke(self, qtbot, canvas, told):
        for interrupt in (
            lambda: canvas.set_tool("lasso"), lambda: canvas.set_points(GRID), lambda: (canvas.hide(), canvas.show()),
        ):  # fmt: skip
            canvas.set_tool("lasso")
            drag(qtbot, canvas, [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5)], release=False)
            interrupt()
            qtbot.mouseRelease(canvas.native, LEFT, pos=pixel(canvas, (4.5, 3.5)))
        assert told == []


class TestKeysOfTheWindow:
    """A window with shortcuts of its own, as napari's."""

    @pytest.fixture
    def pressed(self, qtbot, canvas):
        window = QWidget()
        qtbot.addWidget(window)
        window.resize(500, 450)
        canvas.setParent(window)
        canvas.show()
        pressed = []
        for key in ("Esc", "Return", "Backspace", "["):
            QShortcut(QKeySequence(key), window).activated.connect(lambda key=key: pressed.append(key))
        with qtbot.waitExposed(window):
            window.show()
        window.activateWindow()
        qtbot.wait(50)
        yield pressed
        # Before it ends with the window, so that it is closed as the other tests' are.
        canvas.setParent(None)

    def test_a_click_takes_the_focus_and_the_keys_that_mean_something(self, qtbot, canvas, pressed):
        canvas.set_tool("polygon")
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, (2, 2)))
        qtbot.waitUntil(canvas.native.hasFocus)
        qtbot.keyClick(canvas.native, Qt.Key.Key_Backspace)
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, (2, 2)))
        qtbot.keyClick(canvas.native, Qt.Key.Key_Return)
        qtbot.keyClick(canvas.native, Qt.Key.Key_Escape)
        assert (pressed, canvas.tool) == ([], "pan")

    def test_the_others_go_on_to_the_window(self, qtbot, canvas, pressed):
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, (2, 2)))
        qtbot.waitUntil(canvas.native.hasFocus)
        for key in (Qt.Key.Key_Escape, Qt.Key.Key_Return, Qt.Key.Key_Backspace, Qt.Key.Key_BracketLeft):
            qtbot.keyClick(canvas.native, key)
        assert pressed == ["Esc", "Return", "Backspace", "["]


class TestPointing:
    @pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "polygon"])
    def test_a_click_picks_the_nearest_point_within_eight_pixels(self, qtbot, canvas, told, tool):
        canvas.set_tool(tool)
        at = pixel(canvas, (7, 3))
        before = canvas.to_pixels(GRID)
        for move in (QPoint(0, 0), QPoint(6, -4), QPoint(10, 0), QPoint(-6, -7)):
            qtbot.mouseClick(canvas.native, LEFT, pos=at + move)
        assert told == [("picked", row(7, 3))] * 2
        np.testing.assert_array_equal(canvas.to_pixels(GRID), before)

    @pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "polygon"])
    def test_an_unsteady_click_is_a_click(self, qtbot, canvas, told, tool):
        canvas.set_tool(tool)
        at = pixel(canvas, (7, 3))
        before = canvas.to_pixels(GRID)
        qtbot.mousePress(canvas.native, LEFT, pos=at)
        qtbot.mouseMove(canvas.native, at + QPoint(2, 2))
        qtbot.mouseRelease(canvas.native, LEFT, pos=at + QPoint(2, 2))
        assert told == [("picked", row(7, 3))]
        np.testing.assert_array_equal(canvas.to_pixels(GRID), before)

    def test_a_corner_of_a_polygon_picks_nothing(self, qtbot, canvas, told):
        canvas.set_tool("polygon")
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, (7, 3)))
        assert told == []

    def test_a_drag_that_comes_back_is_no_click(self, qtbot, canvas, told):
        drag(qtbot, canvas, [(7, 3), (8, 4), (7, 3)])
        assert told == []

    def test_a_point_that_is_nowhere_is_never_picked(self, qtbot, canvas, told):
        points = GRID.copy()
        points[row(7, 3)], points[0] = (np.nan, 3), (np.inf, 0)
        canvas.set_points(points)
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, (7, 3)))
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, (8, 3)))
        assert told == [("picked", row(8, 3))]

    def test_the_row_under_the_pointer_is_told_when_it_changes(self, qtbot, canvas):
        told = []
        canvas.hovered.connect(told.append)
        for place in [(2, 2), (2.05, 2), (2.5, 2.5), (5, 5)]:
            qtbot.mouseMove(canvas.native, pixel(canvas, place))
            qtbot.wait(60)
        qtbot.mouseMove(canvas, QPoint(-30, -30))
        qtbot.waitUntil(lambda: told[-1:] == [-1])
        assert told == [row(2, 2), -1, row(5, 5), -1]

    def test_nothing_is_under_the_pointer_of_a_new_map(self, qtbot, canvas):
        told = []
        canvas.hovered.connect(told.append)
        qtbot.mouseMove(canvas.native, pixel(canvas, (2, 2)))
        qtbot.waitUntil(lambda: told == [row(2, 2)])
        canvas.set_points(None)
        assert told == [row(2, 2), -1]


def assert_all_seen(canvas: MapCanvas, points: np.ndarray) -> None:
    """Nothing is outside, and they fill the canvas."""
    inside = canvas.to_pixels(points)
    assert ((inside > 0) & (inside < 400)).all()
    assert np.ptp(inside, axis=0).min() > 350


class TestView:
    def test_pan_moves_the_map_with_the_pointer(self, qtbot, canvas, told):
        before = canvas.to_pixels(GRID)
        start, stop = pixel(canvas, (3, 3)), pixel(canvas, (5, 6))
        drag(qtbot, canvas, [(3, 3), (5, 6)])
        np.testing.assert_allclose(
            canvas.to_pixels(GRID) - before, [[(stop - start).x(), (stop - start).y()]] * len(GRID)
        )
        assert told == []

    @pytest.mark.parametrize("tool", TOOLS)
    def test_the_wheel_zooms_about_the_pointer_with_every_tool(self, canvas, tool):
        canvas.set_tool(tool)
        at = QPoint(90, 250)
        fixed = canvas.to_map([(90, 250)])
        before = np.ptp(canvas.to_pixels(GRID), axis=0)
        wheel(canvas, at, 2)
        np.testing.assert_allclose(np.ptp(canvas.to_pixels(GRID), axis=0), before * 1.44)
        np.testing.assert_allclose(canvas.to_map([(90, 250)]), fixed)
        wheel(canvas, at, -2)
        np.testing.assert_allclose(np.ptp(canvas.to_pixels(GRID), axis=0), before)

    def test_the_wheel_stops_before_numbers_do(self, canvas):
        for clicks in (1000, -2000):
            wheel(canvas, QPoint(90, 250), clicks)
            assert np.isfinite(canvas.to_map([(0, 0), (400, 400)])).all()
            assert (np.ptp(canvas.to_map([(0, 0), (400, 400)]), axis=0) > 0).all()

    def test_a_double_click_shows_all_again(self, qtbot, canvas):
        before = canvas.to_pixels(GRID)
        wheel(canvas, QPoint(90, 250), 3)
        drag(qtbot, canvas, [(3, 3), (3.4, 3.6)])
        qtbot.mouseDClick(canvas.native, LEFT, pos=QPoint(20, 20))
        np.testing.assert_allclose(canvas.to_pixels(GRID), before)

    def test_a_new_map_is_shown_whole_unless_asked_to_stay(self, canvas):
        wheel(canvas, QPoint(90, 250), 3)
        before = canvas.to_pixels([(0, 0), (1, 1)])
        canvas.set_points(GRID * 3, keep_view=True)
        np.testing.assert_allclose(canvas.to_pixels([(0, 0), (1, 1)]), before)
        canvas.set_points(GRID * 3)
        assert_all_seen(canvas, GRID * 3)

    def test_one_that_grows_as_it_is_trained_is_shown_whole_until_the_user_looks_closer(self, canvas):
        canvas.set_points(GRID * 5, keep_view=True)
        assert_all_seen(canvas, GRID * 5)
        wheel(canvas, QPoint(90, 250), 3)
        before = canvas.to_pixels([(0, 0), (1, 1)])
        canvas.set_points(GRID * 9, keep_view=True)
        np.testing.assert_allclose(canvas.to_pixels([(0, 0), (1, 1)]), before)
        canvas.reset_view()
        canvas.set_points(GRID * 2, keep_view=True)
        assert_all_seen(canvas, GRID * 2)

    def test_pixels_and_map_are_inverse(self, canvas):
        wheel(canvas, QPoint(90, 250), 3)
        np.testing.assert_allclose(canvas.to_map(canvas.to_pixels(GRID)), GRID, atol=1e-9)
        low, high = canvas.to_pixels([(0, 0), (0, 1)])
        assert high[1] < low[1]

    @pytest.mark.parametrize("size", [(400, 400), (520, 300), (260, 410)])
    def test_a_point_is_drawn_where_it_says(self, qtbot, canvas, size):
        canvas.resize(*size)
        colours = np.tile(np.float32(BLUE), (len(GRID), 1))
        colours[row(7, 3)] = RED
        canvas.set_colours(colours)
        np.testing.assert_allclose(
            centre_of(picture(qtbot, canvas), (255, 0, 0)), canvas.to_pixels([(7, 3)])[0], atol=1
        )
        wheel(canvas, QPoint(*(canvas.to_pixels([(6, 4)])[0].astype(int))), 3)
        drag(qtbot, canvas, [(6, 4), (5, 5)])
        np.testing.assert_allclose(
            centre_of(picture(qtbot, canvas), (255, 0, 0)), canvas.to_pixels([(7, 3)])[0], atol=1
        )

    def test_on_a_dense_screen_too(self, request):
        if os.environ.get("QT_SCALE_FACTOR"):
            pytest.skip("this is the dense screen")
        where = f"{__file__}::TestView::test_a_point_is_drawn_where_it_says_at_any_density"
        lasso = f"{__file__}::TestOutlines::test_a_lasso_dragged_around_points_takes_exactly_those"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", where, lasso],
            env={**os.environ, "QT_SCALE_FACTOR": "2"}, cwd=request.config.rootpath, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 passed" in done.stdout

    def test_a_point_is_drawn_where_it_says_at_any_density(self, qtbot, canvas):
        ratio = canvas.devicePixelRatioF()
        assert ratio == float(os.environ.get("QT_SCALE_FACTOR", "1"))
        canvas.set_colours(np.where((np.arange(len(GRID)) == row(7, 3))[:, None], RED, BLUE))
        at = centre_of(picture(qtbot, canvas), (255, 0, 0)) / ratio
        np.testing.assert_allclose(at, canvas.to_pixels([(7, 3)])[0], atol=1)


class TestDrawing:
    @pytest.fixture
    def sent(self, canvas, qtbot, monkeypatch):
        """Arguments of every `set_data` from now on, by visual."""
        qtbot.wait(20)
        sent = {"markers": [], "outlined": [], "density": []}
        for name, calls in sent.items():
            visual = getattr(canvas._scene, name)
            visual.unfreeze()
            set_data = visual.set_data

            def spy(*args, _calls=calls, _set_data=set_data, **kwargs):
                _calls.append((args[0], kwargs))
                _set_data(*args, **kwargs)

            monkeypatch.setattr(visual, "set_data", spy)
        return sent

    def test_each_thing_is_sent_once_a_change(self, qtbot, canvas, sent):
        canvas.set_points(GRID * 2)
        canvas.set_colours(np.tile(np.float32(RED), (len(GRID), 1)))
        canvas.set_selected(GRID[:, 0] > 4)
        canvas.set_theme("#000000", "#ffffff")
        qtbot.wait(50)
        assert {name: len(calls) for name, calls in sent.items()} == {"markers": 1, "outlined": 1, "density": 0}
        canvas.set_selected(GRID[:, 0] > 5)
        qtbot.wait(50)
        assert {name: len(calls) for name, calls in sent.items()} == {"markers": 1, "outlined": 2, "density": 0}

    def test_the_selection_is_an_outline_and_changes_no_colour(self, qtbot, canvas):
        canvas.set_colours(np.tile(np.float32(BLUE), (len(GRID), 1)))
        assert not (picture(qtbot, canvas) == 255).all(-1).any()
        canvas.set_selected(np.arange(len(GRID)) == row(7, 3))
        image = picture(qtbot, canvas)
        x, y = canvas.to_pixels([(7, 3)])[0].astype(int)
        around = image[y - 8 : y + 9, x - 8 : x + 9]
        assert (image[y, x] == [0, 0, 255]).all()
        assert (around == 255).all(-1).any()
        np.testing.assert_allclose(centre_of(image, (255, 255, 255)), canvas.to_pixels([(7, 3)])[0], atol=1)
        image[y - 8 : y + 9, x - 8 : x + 9] = 0
        assert not (image == 255).all(-1).any()
        canvas.set_selected(np.zeros(len(GRID), bool))
        assert not (picture(qtbot, canvas) == 255).all(-1).any()

    def test_a_large_map_is_a_sample_over_a_density_and_strokes_take_all(self, qtbot, canvas, told, sent):
        points = np.random.default_rng(0).uniform(0, 10, (120_000, 2))
        points = points[np.argsort(points[:, 0])]  # lists are often sorted, and a sample must not be their head
        points[::1000] = np.nan
        canvas.set_points(points)
        canvas.set_colours(np.tile(np.float32(BLUE), (len(points), 1)))
        qtbot.wait(20)
        [(at, how)], [(image, _)] = sent["markers"], sent["density"]
        assert at.shape == (50_000, 2)
        assert np.isfinite(at).all()
        assert len(np.unique(at, axis=0)) > 49_000
        np.testing.assert_allclose(np.quantile(at[:, 0], [0, 0.25, 0.5, 0.75, 1]), [-1, -0.5, 0, 0.5, 1], atol=0.02)
        assert how["face_color"][:, 3].max() < 0.5
        assert image.shape == (256, 256, 4)
        assert (image[..., 3] > 0).mean() > 0.75
        canvas.set_selected(points[:, 0] > 3)
        qtbot.wait(20)
        assert len(sent["outlined"][-1][0]) == 2 * 20_000
        canvas.set_tool("rectangle")
        drag(qtbot, canvas, [(2, 2), (8, 8)])
        (left, bottom), (right, top) = told[0].points.min(0), told[0].points.max(0)
        x, y = points.T
        np.testing.assert_array_equal(told[0].mask(points), (x > left) & (x < right) & (y > bottom) & (y < top))
        canvas.set_points(GRID)
        qtbot.wait(20)
        assert not canvas._scene.density.visible
        canvas.set_colours(np.tile(np.float32(BLUE), (len(GRID), 1)))
        qtbot.wait(20)
        assert (sent["markers"][-1][1]["face_color"] == BLUE).all()

    def test_colours_and_selection_stay_with_their_points_when_others_are_nowhere(self, qtbot, canvas):
        points = GRID.copy()
        points[:30:3] = np.nan
        chosen = np.arange(len(GRID)) == row(7, 3)
        canvas.set_points(points)
        canvas.set_colours(np.where(chosen[:, None], RED, BLUE))
        np.testing.assert_allclose(
            centre_of(picture(qtbot, canvas), (255, 0, 0)), canvas.to_pixels([(7, 3)])[0], atol=1
        )
        canvas.set_selected(chosen)
        for colour in [(255, 0, 0), (255, 255, 255)]:
            np.testing.assert_allclose(centre_of(picture(qtbot, canvas), colour), canvas.to_pixels([(7, 3)])[0], atol=1)

    def test_the_density_lies_under_the_points(self, qtbot, canvas):
        random = np.random.default_rng(0)
        points = np.concatenate([random.normal((2, 7), 0.02, (60_000, 2)), [(0, 0), (10, 10)]])
        canvas.set_points(points)
        canvas.set_colours(np.zeros((len(points), 4), np.float32))
        image = picture(qtbot, canvas)
        rows, columns = np.nonzero(image.sum(-1) > 200)
        np.testing.assert_allclose([columns.mean(), rows.mean()], canvas.to_pixels([(2, 7)])[0], atol=2)

    def test_what_is_set_while_hidden_is_there_when_shown(self, qtbot):
        canvas = MapCanvas()
        qtbot.addWidget(canvas)
        canvas.resize(400, 400)
        canvas.set_points(GRID)
        canvas.set_colours(np.where((np.arange(len(GRID)) == row(7, 3))[:, None], RED, BLUE))
        qtbot.wait(20)
        with qtbot.waitExposed(canvas):
            canvas.show()
        np.testing.assert_allclose(
            centre_of(picture(qtbot, canvas), (255, 0, 0)), canvas.to_pixels([(7, 3)])[0], atol=1
        )
        canvas.hide()
        canvas.set_colours(np.where((np.arange(len(GRID)) == row(2, 9))[:, None], RED, BLUE))
        qtbot.wait(20)
        canvas.show()
        np.testing.assert_allclose(
            centre_of(picture(qtbot, canvas), (255, 0, 0)), canvas.to_pixels([(2, 9)])[0], atol=1
        )

    @pytest.mark.parametrize(
        "points", [[(3, 4)], [(3, 4)] * 5, [(3, 4), (np.nan, 0)], [(1, 4), (5, 4)], [(3, 2), (3, 6)], [(3e9, 4e9)] * 2]
    )
    def test_few_points_and_points_in_one_place_have_a_view(self, qtbot, canvas, told, points):
        points = np.array(points, float)
        canvas.set_points(points)
        canvas.set_colours(np.tile(np.float32(RED), (len(points), 1)))
        seen = points[np.isfinite(points).all(1)]
        np.testing.assert_allclose(
            centre_of(picture(qtbot, canvas), (255, 0, 0)), canvas.to_pixels(seen).mean(0), atol=1
        )
        qtbot.mouseClick(canvas.native, LEFT, pos=pixel(canvas, seen[0]))
        assert told == [("picked", 0)]

    @pytest.mark.parametrize("points", [None, np.empty((0, 2)), [(np.nan, np.nan)] * 3])
    def test_nothing_to_show_is_shown_as_nothing(self, qtbot, canvas, told, points):
        picture(qtbot, canvas)
        canvas.set_points(points)
        assert not picture(qtbot, canvas).any()
        canvas.set_tool("lasso")
        drag(qtbot, canvas, canvas.to_map([(10, 10), (90, 10), (90, 90)]))
        qtbot.mouseClick(canvas.native, LEFT, pos=QPoint(50, 50))
        assert len(told) == 1
        assert np.isfinite(canvas.to_map([(0, 0)])).all()

    def test_words_stand_in_the_middle_and_leave_again(self, qtbot, canvas):
        canvas.set_points(None)
        canvas.set_message("Nothing to show yet: train a model first, or open a run that has been trained")
        image = picture(qtbot, canvas)
        rows, columns = np.nonzero(image.sum(-1) > 500)
        assert abs(rows.mean() - 200) < 12
        assert abs(columns.mean() - 200) < 12
        assert columns.min() > 10
        assert columns.max() < 390
        canvas.set_message("")
        assert not picture(qtbot, canvas).any()

    def test_an_unfinished_stroke_is_seen(self, qtbot, canvas):
        canvas.set_points(None)
        canvas.set_tool("lasso")
        drag(qtbot, canvas, canvas.to_map([(50, 50), (200, 50), (200, 250)]), release=False)
        image = picture(qtbot, canvas).sum(-1)
        assert image[50, 125] > 500
        assert image[150, 200] > 500
        assert 0 < image[100, 180] < 300
        qtbot.keyClick(canvas.native, Qt.Key.Key_Escape)
        assert not picture(qtbot, canvas).any()

    def test_the_circle_of_the_brush_follows_the_pointer(self, qtbot, canvas):
        canvas.set_points(None)
        canvas.set_tool("brush")
        qtbot.mouseMove(canvas.native, QPoint(150, 120))
        rows, columns = np.nonzero(picture(qtbot, canvas).sum(-1) > 400)
        radius = np.hypot(columns - 150, rows - 120)
        assert radius.min() > 17
        assert radius.max() < 23

    def test_the_theme_colours_ground_and_points(self, qtbot, canvas):
        canvas.set_theme("#ffffff", "#102030")
        canvas.set_colours(np.tile(np.float32(BLUE), (len(GRID), 1)))
        canvas.set_selected(np.arange(len(GRID)) == row(7, 3))
        image = picture(qtbot, canvas)
        assert (image[2, 2] == 255).all()
        np.testing.assert_allclose(centre_of(image, (0x10, 0x20, 0x30)), canvas.to_pixels([(7, 3)])[0], atol=1)


class TestManners:
    def test_what_does_not_fit_is_told(self, canvas):
        for points in ([1.0, 2.0], np.zeros((3, 3))):
            with pytest.raises(ValueError, match=r"coordinates \(n, 2\)"):
                canvas.set_points(points)
        with pytest.raises(ValueError, match=r"take colours \(121, 4\)"):
            canvas.set_colours(np.zeros((3, 4)))
        with pytest.raises(ValueError, match=r"take a mask \(121,\)"):
            canvas.set_selected(np.zeros(3, bool))
        with pytest.raises(ValueError, match="the tools are pan, lasso"):
            canvas.set_tool("magic wand")

    def test_colours_and_selection_go_with_particles_that_went(self, qtbot, canvas):
        canvas.set_colours(np.tile(np.float32(RED), (len(GRID), 1)))
        canvas.set_selected(np.ones(len(GRID), bool))
        canvas.set_points(GRID[:50])
        image = picture(qtbot, canvas)
        assert not (image == [255, 0, 0]).all(-1).any()
        assert not (image == 255).all(-1).any()

    def test_the_cursor_shows_the_tool(self, canvas):
        shapes = {}
        for tool in TOOLS:
            canvas.set_tool(tool)
            assert canvas.tool == tool
            shapes[tool] = canvas.native.cursor().shape()
        assert shapes.pop("pan") not in shapes.values()

    @pytest.mark.parametrize("name", ["mouse", "action", "_paint_message"])
    def test_a_mistake_in_a_callback_is_told_once_and_survived(self, qtbot, canvas, monkeypatch, name):
        def fail(*_):
            raise RuntimeError("a mistake")

        canvas.set_message("words" if name == "_paint_message" else "")
        qtbot.wait(20)
        with qtbot.captureExceptions() as raised, monkeypatch.context() as patch:
            patch.setattr(canvas._pane, name, fail)
            qtbot.mouseClick(canvas.native, LEFT, pos=QPoint(5, 5))
            qtbot.keyClick(canvas.native, Qt.Key.Key_Escape)
            canvas._pane.grab()  # paints, whether or not the screen has shown it yet
        assert {str(error) for _, error, _ in raised} == {"a mistake"}

    def test_a_mistake_while_drawing_is_told(self, qtbot, canvas, monkeypatch):
        def fail(*_):
            raise RuntimeError("a mistake")

        qtbot.wait(20)
        with qtbot.captureExceptions() as raised, monkeypatch.context() as patch:
            patch.setattr(canvas._scene.canvas, "_draw_scene", fail)
            canvas.grab()
        assert {str(error) for _, error, _ in raised} == {"a mistake"}

    def test_closing_frees_the_canvas_once(self, qtbot, canvas):
        gone = []
        canvas.native.destroyed.connect(lambda: gone.append(True))
        canvas.close()
        canvas.close_canvas()
        qtbot.waitUntil(lambda: gone == [True])
        # Results may still arrive.
        canvas.set_points(GRID * 2)
        canvas.set_colours(np.zeros((len(GRID), 4)))
        canvas.set_selected(np.zeros(len(GRID), bool))
        canvas.set_tool("lasso")
        canvas.set_theme("#ffffff", "#000000")
        canvas.set_message("late")
        canvas.reset_view()
        canvas.close_canvas()
        qtbot.wait(50)

    def test_pulling_a_dock_out_of_its_window_and_back_keeps_the_map(self, qtbot, told, canvas):
        canvas.set_colours(np.where((np.arange(len(GRID)) == row(7, 3))[:, None], RED, BLUE))
        window, dock = QMainWindow(), QDockWidget()
        qtbot.addWidget(window)
        dock.setWidget(canvas)
        window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        canvas.set_tool("lasso")
        canvas.set_theme("#001100", "#ffffff")
        with qtbot.waitExposed(window):
            window.show()
        for floating in (True, False):
            wheel(canvas, QPoint(100, 100), -1)
            middle = canvas.to_map([[canvas.width() / 2, canvas.height() / 2]])
            dock.setFloating(floating)
            qtbot.wait(100)
            np.testing.assert_allclose(canvas.to_map([[canvas.width() / 2, canvas.height() / 2]]), middle)
            image = picture(qtbot, canvas)
            np.testing.assert_allclose(centre_of(image, (255, 0, 0)), canvas.to_pixels([(7, 3)])[0], atol=1)
            assert (image[1, 1] == [0, 0x11, 0]).all()
            drag(qtbot, canvas, [(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5)])
            assert canvas.native.cursor().shape() == Qt.CursorShape.CrossCursor
        assert [stroke.mask(GRID).sum() for stroke in told] == [6, 6]
        # Before it ends with the window, so that the fixture finds it.
        dock.setWidget(QWidget())
        canvas.setParent(None)

    def test_hiding_frees_nothing(self, qtbot, canvas):
        canvas.hide()
        canvas.show()
        canvas.set_colours(np.tile(np.float32(RED), (len(GRID), 1)))
        assert (picture(qtbot, canvas) == [255, 0, 0]).all(-1).any()

    def test_a_stroke_is_a_value(self):
        stroke = Stroke("brush", np.array([[0.0, 0.0]]), 1.0)
        assert stroke.mask([[0.5, 0.5], [1, 1]]).tolist() == [True, False]
        with pytest.raises(AttributeError):
            stroke.tool = "lasso"


def test_outlines_are_drawn_once_where_nobody_sees_them_before_anything_is_selected(canvas, qtbot):
    """The first selection does not wait until its shader is compiled."""
    qtbot.wait(20)
    before = canvas._scene.canvas.render()
    canvas.warm()
    assert canvas._scene.outlined.visible
    np.testing.assert_array_equal(canvas._scene.canvas.render(), before)
    canvas.set_selected(np.zeros(len(GRID), np.bool_))
    qtbot.waitUntil(lambda: not canvas._scene.outlined.visible)
    canvas.set_selected(np.ones(len(GRID), np.bool_))
    qtbot.waitUntil(lambda: canvas._scene.outlined.visible)
    shown = canvas._scene.canvas.render()
    canvas.warm()
    np.testing.assert_array_equal(canvas._scene.canvas.render(), shown)
