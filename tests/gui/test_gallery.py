"""The gallery: what is drawn where, which picture is clicked, and how rows follow the width."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QHelpEvent, QImage, QMouseEvent
from qtpy.QtWidgets import QApplication, QToolTip, QVBoxLayout, QWidget

from napari_disentangle.gui.gallery import GAP, Gallery, grey_image, grey_limits

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton


def flat(value: float, side: int = 16) -> np.ndarray:
    return np.full((side, side), value, dtype=np.float32)


def grey(widget: QWidget, at: QPoint) -> int:
    """Lightness of a widget's pixel, at logical pixels."""
    picture = widget.grab()
    return picture.toImage().pixelColor(at * picture.devicePixelRatio()).lightness()


@pytest.fixture
def gallery(qtbot):
    gallery = Gallery(columns=4, side=40)
    qtbot.addWidget(gallery)
    gallery.resize(4 * (40 + GAP), 200)
    return gallery


@pytest.fixture
def shown(gallery, qtbot):
    """Six pictures in rows of four, from black to white."""
    gallery.set_pictures([flat(k) for k in range(6)])
    with qtbot.waitExposed(gallery):
        gallery.show()
    return gallery


def test_one_scale_for_all_goes_from_the_darkest_to_the_lightest(shown):
    drawn = [grey(shown, shown.place(k).center()) for k in range(6)]
    assert drawn == sorted(drawn)
    assert drawn[0] == 0
    assert drawn[-1] == 255


def test_a_scale_for_each_shows_a_faint_picture_too(gallery):
    faint = np.tile(np.linspace(0, 1e-3, 16, dtype=np.float32), (16, 1))
    for shared, contrast in ((True, 10), (False, 200)):
        gallery.set_pictures([faint, 1000 * faint], shared_scale=shared)
        square = gallery.place(0)
        left, right = QPoint(square.left() + 1, square.center().y()), QPoint(square.right() - 1, square.center().y())
        difference = grey(gallery, right) - grey(gallery, left)
        assert difference < contrast if shared else difference > contrast


def test_a_hot_voxel_does_not_turn_the_rest_black():
    noise = np.random.default_rng(0).normal(size=(64, 64))
    noise[3, 3] = 1e6
    low, high = grey_limits([noise])
    assert -3.5 < low < -2
    assert 2 < high < 3.5


def test_the_first_row_is_at_the_top_and_the_first_column_at_the_left():
    image = grey_image(np.array([[0.0, 1.0], [2.0, 3.0]]), 0, 3)
    assert [image.pixelColor(x, y).red() for y in (0, 1) for x in (0, 1)] == [0, 85, 170, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_drawn_and_does_not_move_the_scale(gallery, bad):
    picture = np.tile(np.linspace(0, 1, 16), (16, 1))
    without = grey_limits([picture])
    picture[:4] = bad
    assert grey_limits([picture]) == pytest.approx(without, abs=0.02)
    gallery.set_pictures([picture])
    gallery.grab()


def test_a_constant_or_unreadable_picture_is_grey(gallery):
    for picture in (flat(7.0), flat(np.nan)):
        gallery.set_pictures([picture])
        assert grey(gallery, gallery.place(0).center()) in (0, 128)


def test_pictures_are_smooth_between_their_pixels(gallery):
    gallery.set_pictures([np.array([[0.0, 1.0], [0.0, 1.0]])])
    square = gallery.place(0)
    across = [grey(gallery, QPoint(x, square.center().y())) for x in range(square.left(), square.right() + 1)]
    assert len(set(across)) > 8, "neighbours are blended, not repeated"


def test_each_screen_gets_its_own_pixels(gallery, monkeypatch):
    gallery.set_pictures([np.random.default_rng(0).random((64, 64))])
    for ratio in (1.0, 2.0, 1.5):
        monkeypatch.setattr(gallery, "devicePixelRatioF", lambda ratio=ratio: ratio)
        (pixmap,) = gallery._pixmaps()
        assert pixmap.width() == round(40 * ratio)
        assert pixmap.devicePixelRatio() == ratio


def test_a_wide_picture_keeps_its_shape(gallery):
    gallery.set_pictures([np.tile(np.linspace(1, 2, 40), (20, 1))])
    (pixmap,) = gallery._pixmaps()
    assert pixmap.width() == 2 * pixmap.height()


@pytest.mark.parametrize("pictures", [[np.zeros((3, 3, 3))], [np.zeros(3)], [np.zeros((0, 4))]])
def test_what_is_no_picture_is_refused(gallery, pictures):
    with pytest.raises(ValueError, match=r"\(h, w\)"):
        gallery.set_pictures(pictures)


# Clicks


def test_a_click_on_the_third_picture_is_told(shown, qtbot):
    with qtbot.waitSignal(shown.clicked) as told:
        qtbot.mouseClick(shown, LEFT, pos=shown.place(2).center())
    assert told.args == [2]


def test_a_click_on_the_second_row_is_told(shown, qtbot):
    with qtbot.waitSignal(shown.clicked) as told:
        qtbot.mouseClick(shown, LEFT, pos=shown.place(5).center())
    assert told.args == [5]


def test_only_a_whole_left_click_on_one_picture_counts(shown, qtbot):
    two, three = shown.place(1).center(), shown.place(2).center()
    with qtbot.assertNotEmitted(shown.clicked, wait=20):
        qtbot.mouseClick(shown, RIGHT, pos=two)
        qtbot.mouseClick(shown, LEFT, pos=QPoint(shown.place(1).right() + GAP // 2, two.y()))
        qtbot.mouseClick(shown, LEFT, pos=shown.place(5).center() + QPoint(40 + GAP, 0))
        qtbot.mousePress(shown, LEFT, pos=two)
        qtbot.mouseRelease(shown, LEFT, pos=three)


def test_the_hand_shows_what_can_be_clicked(shown):
    beside = QPoint(shown.place(0).right() + GAP // 2, 20)
    for place, shape in ((shown.place(0).center(), "PointingHandCursor"), (beside, "ArrowCursor")):
        at, none = QPointF(place), Qt.MouseButton.NoButton
        move = QMouseEvent(QEvent.Type.MouseMove, at, at, none, none, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(shown, move)
        assert shown.cursor().shape() == Qt.CursorShape[shape]


# Frames, captions, messages


def test_a_frame_has_its_colour_around_the_picture_and_not_on_it(shown):
    shown.set_outlines([None, "#ff0000"])
    image = shown.grab().toImage()
    for k, framed in ((0, False), (1, True), (2, False)):
        beside = shown.place(k).topLeft() - QPoint(2, -20)
        assert (image.pixelColor(beside * shown.devicePixelRatioF()) == QColor("#ff0000")) == framed
    assert grey(shown, shown.place(1).topLeft()) != QColor("#ff0000").lightness()


def test_new_pictures_have_no_frames(shown):
    shown.set_outlines(["#ff0000"] * 6)
    shown.set_pictures([flat(k) for k in range(6)])
    image = shown.grab().toImage()
    assert image.pixelColor((shown.place(0).topLeft() - QPoint(2, -20)) * shown.devicePixelRatioF()).saturation() == 0


def test_a_colour_that_is_none_is_refused(shown):
    with pytest.raises(ValueError, match='"cluster 3"'):
        shown.set_outlines(["cluster 3"])


def test_captions_are_drawn_under_their_pictures(gallery):
    gallery.set_pictures([flat(0), flat(1)], ["WWW"])
    image = gallery.grab().toImage()
    ratio = gallery.devicePixelRatioF()

    def shades(k: int) -> int:
        square = gallery.place(k)
        line = [
            (x, y)
            for x in range(square.left(), square.right())
            for y in range(square.bottom() + 4, square.bottom() + 14)
        ]
        return len({image.pixel(QPoint(*at) * ratio) for at in line})

    assert shades(0) > 1
    assert shades(1) == 1


def test_a_picture_has_its_tooltip_or_its_caption(gallery, qtbot):
    gallery.set_pictures([flat(0), flat(1), flat(2)], ["first", "second"], tooltips=["", "of tomogram 7"])
    gallery.setToolTip("sixteen particles")
    assert [gallery.tooltip_at(gallery.place(k).center()) for k in range(3)] == ["first", "of tomogram 7", ""]
    with qtbot.waitExposed(gallery):
        gallery.show()
    at = gallery.place(1).center()
    QApplication.sendEvent(gallery, QHelpEvent(QEvent.Type.ToolTip, at, gallery.mapToGlobal(at)))
    assert QToolTip.text() == "of tomogram 7"
    QToolTip.hideText()


def test_the_message_stands_only_where_there_are_no_pictures(gallery):
    gallery.set_message("No boxes yet.")
    written = gallery.grab().toImage()
    gallery.set_message("")
    assert gallery.grab().toImage() != written
    gallery.set_pictures([flat(0), flat(1)])
    pictures = gallery.grab().toImage()
    gallery.set_message("No boxes yet.")
    assert gallery.grab().toImage() == pictures
    gallery.clear()
    assert len(gallery) == 0
    assert gallery.grab().toImage() == written


# Rows


def test_rows_follow_the_width_up_to_the_most_columns(gallery):
    gallery.set_pictures([flat(k) for k in range(6)])
    pitch = 40 + GAP
    for width, columns in ((10 * pitch, 4), (4 * pitch, 4), (4 * pitch - 1, 3), (2 * pitch, 2), (pitch, 1), (10, 1)):
        gallery.resize(width, 300)
        tops = [gallery.place(k).top() for k in range(6)]
        assert tops.count(tops[0]) == columns
        assert gallery.heightForWidth(width) == -(-6 // columns) * pitch


def test_a_layout_gives_it_the_height_that_its_rows_need(qtbot):
    window = QWidget()
    qtbot.addWidget(window)
    gallery, rest = Gallery(columns=8, side=40), QWidget()
    layout = QVBoxLayout(window)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(gallery)
    layout.addWidget(rest, 1)
    gallery.set_pictures([flat(k) for k in range(8)])
    window.show()
    for width in (8 * (40 + GAP), 3 * (40 + GAP)):
        window.resize(width, 600)
        qtbot.waitUntil(lambda width=width: gallery.width() == width)
        assert gallery.height() >= gallery.heightForWidth(width)
        assert gallery.place(7).bottom() < gallery.height()


def test_pictures_are_set_and_drawn_quickly(shown):
    pictures = [np.random.default_rng(k).random((64, 64), dtype=np.float32) for k in range(32)]
    target = QImage(shown.size(), QImage.Format.Format_RGB32)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        shown.set_pictures(pictures)
        shown.render(target)
        times.append(time.perf_counter() - start)
    # 10 ms on an idle machine; the tests share theirs.
    assert min(times) < 0.03
