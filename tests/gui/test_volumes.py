"""Volumes in a row: the hand is kept, scales are true, old surfaces are never shown, and nothing is left behind."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication, QDoubleSpinBox, QLabel, QPushButton, QSlider

from napari_disentangle.gui import surfaces
from napari_disentangle.gui.slices import ScaleBar
from napari_disentangle.gui.surfaces import SurfaceCanvas, Surfacing, surface
from napari_disentangle.gui.volumes import Shown, VolumeRow

RED, GREEN = "#ff0000", "#00ff00"


def ball(n: int = 24, centre=(0, 0, 0), radius: float = 5.0) -> np.ndarray:
    """A soft ball in (n, n, n); `centre` in xyz voxels from voxel n // 2."""
    z, y, x = np.mgrid[:n, :n, :n] - n // 2
    cx, cy, cz = centre
    r = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2)
    return np.clip(radius + 0.5 - r, 0, 1).astype(np.float32)


@pytest.fixture
def row(qtbot):
    """A row of 600 x 340 pixels on the screen, black."""
    row = VolumeRow()
    qtbot.addWidget(row, before_close_func=VolumeRow.close_canvas)
    row.set_theme("#000000", "#ffffff")
    row.resize(600, 340)
    with qtbot.waitExposed(row):
        row.show()
    return row


def settle(qtbot, row) -> None:
    """Wait until no surface is on its way."""
    qtbot.waitUntil(lambda: row._scale.doing != "drawing surfaces...", timeout=10_000)
    qtbot.wait(20)


def show(qtbot, row, *shown: Shown) -> None:
    row.set_volumes(shown)
    settle(qtbot, row)


def drawn(row) -> np.ndarray:
    """(h, w, 3) of the canvas, as numbers that do not wrap."""
    return row.canvas.render(alpha=False).astype(int)


def seen(row, colour: str) -> list[int]:
    """Pixels in which a primary colour leads, in each view."""
    k = (RED, GREEN).index(colour)
    image = drawn(row)
    views = np.array_split(image, len(row._surfaces.views), axis=1)
    return [int((view[..., k] > 40 + np.delete(view, k, axis=-1).max(axis=-1)).sum()) for view in views]


def on_screen(row, point, k: int = 0) -> np.ndarray:
    """(x right, y down, depth) in logical pixels of view k, of a point in Angstrom."""
    return np.asarray(row._surfaces.views[k].scene.transform.map(point))[:3]


# Surfaces


def test_a_surface_stands_where_its_density_is_in_angstrom_from_the_centre_voxel():
    mesh = surface(ball(centre=(6, -4, 2), radius=3), 10.0, 3.0)
    assert mesh is not None
    vertices = mesh.get_vertices()
    np.testing.assert_allclose(vertices.mean(axis=0), (60, -40, 20), atol=0.5)
    np.testing.assert_allclose(np.ptp(vertices, axis=0), 70, atol=3)


def test_the_hand_is_kept_by_the_mesh_and_by_the_camera(row, qtbot):
    # Four balls of falling size at the origin and on x, y and z: a mirror would swap two of them.
    volume = ball(32, (8, 0, 0), 4) + ball(32, (0, 8, 0), 3) + ball(32, (0, 0, 8), 2)
    show(qtbot, row, Shown("a", volume, 5.0))
    vertices = row._surfaces.meshes[0].mesh_data.get_vertices()
    for axis, radius in enumerate((4, 3, 2)):
        there = vertices[np.argmax(np.abs(vertices), axis=1) == axis]
        assert there[:, axis].min() > 0
        assert there[:, axis].max() == pytest.approx(5 * (8 + radius), abs=4)
    origin = on_screen(row, (0, 0, 0))
    to_screen = np.array([on_screen(row, e) - origin for e in np.eye(3)]).T
    right, down, depth = to_screen
    assert right[0] > 0  # x points right
    assert down[1] < 0  # y points up
    assert depth[2] < 0  # z points at the viewer
    np.testing.assert_allclose([right[1:], down[::2], depth[:2]], 0, atol=1e-6)
    # Right, up and towards the viewer, from x, y, z: a rotation, not a reflection.
    assert np.linalg.det(to_screen * [[1], [-1], [-1]]) > 0


def test_what_is_nearer_hides_what_is_behind(row, qtbot):
    red, green = Shown("slab", ball(centre=(0, 0, -6), radius=5), 5.0, RED), Shown("b", ball(radius=3), 5.0, GREEN)
    show(qtbot, row, red)
    from vispy.scene.visuals import Mesh

    for z, colour in ((6, GREEN), (-11, RED)):
        near = Mesh(
            meshdata=surface(ball(centre=(0, 0, z), radius=2), 5.0, 3.0), color=GREEN, shading="smooth",
            parent=row._surfaces.views[0].scene,
        )  # fmt: skip
        image = drawn(row)
        middle = image[image.shape[0] // 2, image.shape[1] // 2]
        assert np.argmax(middle) == (RED, GREEN).index(colour)
        near.parent = None
    assert green.extent == 120


def test_faces_look_outwards():
    mesh = surface(ball(), 2.0, 3.0)
    assert mesh is not None
    a, b, c = np.moveaxis(mesh.get_vertices()[mesh.get_faces()], 1, 0)
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.2)
    normals = mesh.get_vertex_normals()
    outwards = mesh.get_vertices() / np.linalg.norm(mesh.get_vertices(), axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", normals, outwards).min() > 0.8


def test_density_at_the_wall_is_closed():
    mesh = surface(ball(centre=(12, 0, 0), radius=6), 1.0, 1.0)
    assert mesh is not None
    edges = np.sort(mesh.get_faces()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all(), "each edge has a face on both sides"


@pytest.mark.parametrize("sigmas", [50.0, -50.0])
def test_a_contour_outside_the_data_has_no_surface(sigmas):
    assert surface(ball(), 1.0, sigmas) is None


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_a_volume_without_contrast_has_no_surface(value):
    assert surface(np.full((16, 16, 16), value, dtype=np.float32), 1.0, 3.0) is None


def test_what_is_not_finite_is_no_density():
    volume = ball()
    clean = surface(volume, 1.0, 3.0)
    volume[0, 0, :3] = np.nan, np.inf, -np.inf
    mesh = surface(volume, 1.0, 3.0)
    assert clean is not None
    assert mesh is not None
    np.testing.assert_allclose(mesh.get_vertices(), clean.get_vertices(), atol=0.02)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16])
def test_any_kind_of_number_will_do(dtype):
    assert surface((10 * ball()).astype(dtype), 1.0, 3.0) is not None


def test_uneven_boxes_and_very_large_ones_stay_where_they_are(monkeypatch):
    mesh = surface(ball(40)[10:30, :, 5:], 1.0, 2.0)
    assert mesh is not None
    np.testing.assert_allclose(mesh.get_vertices().mean(axis=0), (20 - 5 - 17, 0, 0), atol=0.1)
    monkeypatch.setattr(surfaces, "LARGEST", 32)
    mesh = surface(ball(64, (8, -8, 4), 10), 1.0, 2.0)
    assert mesh is not None
    assert len(mesh.get_vertices()) < 800
    np.testing.assert_allclose(mesh.get_vertices().mean(axis=0), (8, -8, 4), atol=0.5)


# The row


def test_surfaces_are_drawn_in_their_colours_side_by_side(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0, RED), Shown("b", ball(), 5.0, GREEN))
    reds, greens = seen(row, RED), seen(row, GREEN)
    assert reds[0] > 500
    assert greens[1] > 500
    assert reds[1] == greens[0] == 0


def test_the_light_comes_with_the_viewer(row, qtbot):
    from vispy.util.quaternion import Quaternion

    show(qtbot, row, Shown("a", ball(), 5.0, RED))
    for turn in (None, Quaternion(0.0, 1, 0, 0), Quaternion(0.6, 0.2, 0.7, 0.1), Quaternion(0.1, 0.1, 0.1, 1)):
        if turn is not None:
            row._surfaces.views[0].camera.set_state(_quaternion=turn)
        red = drawn(row)[..., 0]
        lit = np.argwhere(red > 0.9 * red.max()).mean(axis=0) - np.argwhere(red > 0).mean(axis=0)
        assert (lit < -2).all(), "the bright side is up and to the left"


def test_the_view_is_filled_by_particles_not_by_their_boxes_nor_by_noise(row, qtbot):
    volume = ball(48, radius=6)
    volume[2, 2, 2] = volume[-3, 4, -3] = 1
    show(qtbot, row, Shown("a", volume, 5.0, RED))
    image = drawn(row)
    across = np.flatnonzero((image[..., 0] > 30).sum(axis=1) > 20)
    assert 0.5 < np.ptp(across) / image.shape[0] < 0.95


def test_volumes_are_as_large_as_they_are_in_angstrom(row, qtbot):
    # The same ball of 40 A radius, sampled twice as finely, and in half the box.
    coarse, fine = ball(24, radius=4), ball(48, radius=8)
    small = coarse[6:18, 6:18, 6:18]
    row.set_contour(1.0)
    show(qtbot, row, Shown("a", coarse, 10.0, RED), Shown("b", fine, 5.0, RED), Shown("c", small, 10.0, RED))
    heights = []
    for view in np.array_split(drawn(row), 3, axis=1):
        rows = np.flatnonzero((view[..., 0] > 30).any(axis=1))
        heights.append(rows[-1] - rows[0])
    np.testing.assert_allclose(heights, heights[0], rtol=0.2)  # the soft edge is wider where it is sampled less


def test_the_bar_is_as_long_as_it_says(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 10.0), Shown("b", ball(), 10.0))
    for mode in ("surface", "slices"):
        row.set_mode(mode)
        qtbot.wait(10)
        bar = row._scale
        assert 30 < bar.length / bar._angstrom_per_pixel <= 120
        assert bar.text == f"{bar.length / 10:g} nm"
    row.set_mode("surface")
    qtbot.wait(10)
    pixels = on_screen(row, (100, 0, 0))[0] - on_screen(row, (0, 0, 0))[0]
    assert 100 / pixels == pytest.approx(row._scale._angstrom_per_pixel, rel=0.02)


@pytest.mark.parametrize(
    ("per_pixel", "text"), [(1.0, "10 nm"), (4.3, "50 nm"), (0.05, "5 Å"), (0.4, "2 nm"), (0.0, "0 Å")]
)
def test_bars_have_round_lengths(qtbot, per_pixel, text):
    bar = ScaleBar()
    qtbot.addWidget(bar)
    bar.set_scale(per_pixel)
    assert bar.text == text
    bar.grab()


def mouse(row, path, button=Qt.MouseButton.LeftButton, modifiers=Qt.KeyboardModifier.NoModifier) -> None:
    """Drag over the canvas; vispy takes a hundred moves a second at the most."""
    kinds = [QEvent.Type.MouseButtonPress, *[QEvent.Type.MouseMove] * (len(path) - 1)]
    for kind, place in zip(kinds, path, strict=True):
        at = QPointF(*place)
        QApplication.sendEvent(row.canvas.native, QMouseEvent(kind, at, at, button, button, modifiers))
        time.sleep(0.015)
    release = QMouseEvent(
        QEvent.Type.MouseButtonRelease, at, at, button, Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    )
    QApplication.sendEvent(row.canvas.native, release)


def test_turning_one_turns_all_and_the_front_follows_the_hand(row, qtbot):
    show(qtbot, row, *[Shown(name, ball(), 5.0) for name in "abc"])
    front = (0, 0, 30)
    before = [on_screen(row, front, k) for k in range(3)]
    mouse(row, [(300, 100), (310, 100), (320, 100)])
    moved = [on_screen(row, front, k) - before[k] for k in range(3)]
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], (3, 3)), atol=1e-6)
    assert moved[0][0] > 10
    assert abs(moved[0][1]) < 1
    find(row, QPushButton, "reset view").click()
    np.testing.assert_allclose([on_screen(row, front, k) for k in range(3)], before, atol=1e-3)


def test_the_wheel_zooms_all_and_the_bar(row, qtbot):
    show(qtbot, row, *[Shown(name, ball(), 5.0) for name in "ab"])
    before, scale = on_screen(row, (50, 0, 0), 1) - on_screen(row, (0, 0, 0), 1), row._scale._angstrom_per_pixel
    at = QPointF(100, 100)
    event = QWheelEvent(
        at, at, at.toPoint() * 0, at.toPoint() * 0 + QPointF(0, 240).toPoint(), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(row.canvas.native, event)
    after = on_screen(row, (50, 0, 0), 1) - on_screen(row, (0, 0, 0), 1)
    assert after[0] > 1.1 * before[0]
    assert row._scale._angstrom_per_pixel == pytest.approx(scale * before[0] / after[0], rel=1e-3)


def test_the_projection_stays_parallel_or_the_bar_would_lie(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0))
    mouse(row, [(100, 100), (100, 60), (100, 20)], Qt.MouseButton.RightButton, Qt.KeyboardModifier.ShiftModifier)
    assert row._surfaces.views[0].camera.fov == 0


def test_as_many_volumes_are_seen_from_where_the_last_were(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0), Shown("b", ball(), 5.0))
    row.set_contour(2.0)
    mouse(row, [(100, 100), (120, 110), (140, 120)])
    before = on_screen(row, (10, 20, 30))
    show(qtbot, row, Shown("c", ball(32), 7.0), Shown("d", ball(), 5.0))
    np.testing.assert_allclose(on_screen(row, (10, 20, 30)), before, atol=1e-6)
    assert row.contour == 2.0
    show(qtbot, row, Shown("c", ball(32), 7.0))
    assert len(row._surfaces.views) == 1
    assert row.contour == 2.0
    # From the front again.
    np.testing.assert_allclose((on_screen(row, (0, 0, 30)) - on_screen(row, (0, 0, 0)))[:2], 0, atol=1e-6)


# One contour for all


def test_the_contour_is_sigmas_above_the_mean_of_each_volume(row, qtbot):
    volume = ball()
    shown = [Shown("a", volume, 5.0), Shown("b", 1000 * volume + 77, 5.0)]
    show(qtbot, row, *shown)
    one, two = (mesh.mesh_data.get_vertices() for mesh in row._surfaces.meshes)
    np.testing.assert_allclose(one, two, atol=1e-2)
    row.set_contour(4.0)
    settle(qtbot, row)
    assert np.ptp(row._surfaces.meshes[0].mesh_data.get_vertices()) < np.ptp(one)


def test_number_and_slider_follow_the_contour_and_set_it(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0))
    number, slider = row.findChild(QDoubleSpinBox), row.findChild(QSlider)
    assert (row.contour, number.value(), slider.value()) == (3.0, 3.0, 30)
    slider.setValue(25)
    assert (row.contour, number.value()) == (2.5, 2.5)
    number.setValue(1.2)
    assert (row.contour, slider.value()) == (1.2, 12)
    row.set_contour(42.0)
    assert (row.contour, number.value(), slider.value()) == (42.0, 42.0, slider.maximum())
    settle(qtbot, row)


def test_a_contour_outside_the_data_is_empty_and_said(row, qtbot):
    show(qtbot, row, Shown("high", ball(radius=2), 5.0, RED), Shown("low", ball(radius=8), 5.0, RED))
    row.set_contour(5.0)
    settle(qtbot, row)
    assert seen(row, RED)[0] > 0
    assert seen(row, RED)[1] == 0
    assert row._scale.doing == "no surface at 5 \N{GREEK SMALL LETTER SIGMA}: low"
    row.set_contour(1.0)
    settle(qtbot, row)
    assert min(seen(row, RED)) > 0
    assert row._scale.doing == ""


# On a thread of their own


@pytest.fixture
def slow(monkeypatch):
    """Surfaces wait for `go`, and tell that they have begun; what was asked for is remembered."""
    go, begun, asked = threading.Event(), threading.Event(), []

    def waiting(volume, voxel_size, sigmas):
        asked.append((threading.current_thread(), sigmas))
        begun.set()
        assert go.wait(10)
        return surface(volume, voxel_size, sigmas)

    monkeypatch.setattr(surfaces, "surface", waiting)
    yield go, begun, asked
    go.set()


def test_surfaces_are_not_made_on_the_gui_thread(row, qtbot, slow):
    go, begun, asked = slow
    row.set_volumes([Shown("a", ball(), 5.0, RED)])
    assert begun.wait(10)
    assert asked[0][0] is not threading.main_thread()
    assert row._scale.doing == "drawing surfaces..."
    go.set()
    settle(qtbot, row)
    assert seen(row, RED)[0] > 0


def test_a_stale_surface_is_never_shown_and_only_the_newest_request_is_done(row, qtbot, slow, monkeypatch):
    go, begun, asked = slow
    taken = []
    show_meshes = surfaces.SurfaceCanvas.show_meshes

    def remember(self, meshes, colours):
        taken.append(list(colours))
        show_meshes(self, meshes, colours)

    monkeypatch.setattr(surfaces.SurfaceCanvas, "show_meshes", remember)
    row.set_volumes([Shown("old", ball(), 5.0, RED), Shown("old too", ball(), 5.0, RED)])
    assert begun.wait(10)
    for sigmas in (1.0, 2.0, 4.0):
        row.set_contour(sigmas)
    row.set_volumes([Shown("new", ball(), 5.0, GREEN), Shown("new too", ball(), 5.0, GREEN)])
    go.set()
    settle(qtbot, row)
    qtbot.wait(100)
    assert taken == [[GREEN, GREEN]]
    assert [sigmas for _, sigmas in asked] == [3.0, 4.0, 4.0], "what was stale was dropped half-way, or never begun"
    assert seen(row, RED) == [0, 0]


def test_only_the_newest_request_is_answered(qtbot, slow):
    go, begun, _ = slow
    surfacing, told = Surfacing(), []
    surfacing.done.connect(lambda number, meshes: told.append((number, len(meshes))))
    surfacing.ask([Shown("a", ball(), 5.0)], 3.0)
    assert begun.wait(10)
    newest = surfacing.ask([Shown("a", ball(), 5.0), Shown("b", ball(), 5.0)], 3.0)
    go.set()
    qtbot.waitUntil(lambda: bool(told) and surfacing._thread is None)
    qtbot.wait(20)
    assert told == [(newest, 2)]


def test_a_result_that_was_under_way_when_it_became_stale_is_dropped(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0, GREEN))
    stale = row._surfacing.newest
    row.set_volumes([Shown("b", ball(), 5.0, GREEN)])
    row._take(stale, [surface(ball(), 5.0, 3.0)])
    assert not row._surfaces.meshes[0].visible
    settle(qtbot, row)
    assert row._surfaces.meshes[0].visible


def test_old_surfaces_do_not_stand_under_new_titles(row, qtbot, slow):
    go, begun, _ = slow
    go.set()
    show(qtbot, row, Shown("a", ball(), 5.0, RED))
    go.clear()
    begun.clear()
    row.set_volumes([Shown("b", ball(), 5.0, RED)])
    assert begun.wait(10)
    assert seen(row, RED) == [0]


def test_a_failure_is_said_and_the_next_request_works(row, qtbot, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(surfaces, "surface", broken)
        show(qtbot, row, Shown("a", ball(), 5.0, RED))
        assert row._scale.doing == "surfaces cannot be drawn: no room"
        assert seen(row, RED) == [0]
    row.set_contour(2.0)
    settle(qtbot, row)
    assert seen(row, RED)[0] > 0


@pytest.mark.usefixtures("qapp")
def test_the_window_answers_while_a_large_surface_is_made():
    surfacing = Surfacing()
    rng = np.random.default_rng(0)
    volume = Shown("a", ball(96, radius=30) + 0.2 * rng.standard_normal((96, 96, 96)).astype(np.float32), 1.0)
    longest, done = 0.0, []
    surfacing.done.connect(lambda *result: done.append(result))
    surfacing.ask([volume], 1.0)
    last = time.perf_counter()
    while not done:
        QApplication.processEvents()
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    # Python code that holds the interpreter for the whole surface would stop this loop for half a second.
    assert longest < 0.15
    assert done[0][1][0] is not None


# Slices


def test_slices_are_cut_through_the_middle_and_keep_the_hand(row, qtbot):
    # Right of, above and before the middle, and a dark box elsewhere.
    volume = ball(24, (7, 0, 0), 2) + ball(24, (0, 7, 0), 2) + ball(24, (0, 0, 7), 2)
    row.set_mode("slices")
    row.set_volumes([Shown("a", volume, 5.0)])
    qtbot.wait(10)
    along_z, along_y, along_x = row._slices._images[0]

    def at(image, right, up):
        return image.pixelColor(12 + right, 11 - up).red()

    assert [at(along_z, *p) for p in ((7, 0), (0, 7), (-7, 0), (0, -7))] == [255, 255, 0, 0]  # x, y
    assert [at(along_y, *p) for p in ((7, 0), (0, 7), (-7, 0), (0, -7))] == [255, 255, 0, 0]  # x, z
    assert [at(along_x, *p) for p in ((7, 0), (0, 7), (-7, 0), (0, -7))] == [255, 255, 0, 0]  # y, z
    assert row.canvas is None, "no graphics card is asked"
    assert row._surfacing._thread is None, "and no surface made"
    assert row._scale.doing == ""


def test_each_volume_has_its_own_grey_scale(row, qtbot):
    row.set_mode("slices")
    row.set_volumes([Shown("a", ball(), 5.0), Shown("b", 1000 * ball() + 5, 5.0)])
    qtbot.wait(10)
    one, two = row._slices._images
    assert [image.pixelColor(12, 12).red() for image in (*one, *two)] == [255] * 6
    picture = row._slices.grab().toImage()
    lightness = [
        picture.pixelColor(x, y).lightness()
        for x in range(0, picture.width(), 3)
        for y in range(0, picture.height(), 3)
    ]
    assert max(lightness) > 240
    assert lightness.count(255) > 100


@pytest.mark.parametrize("size", [(900, 300), (300, 600), (200, 200), (10, 10)])
def test_slices_fit_in_and_have_one_scale(row, size):
    row.set_mode("slices")
    row.set_volumes([Shown("a", ball(), 10.0), Shown("b", ball(12), 10.0)])
    row._slices.resize(*size)
    columns, across, down = row._slices._cells()
    pixels = 240 / row._slices.angstrom_per_pixel
    assert pixels <= max(min(across, down), 1) + 1e-6
    assert columns in (1, 2, 3)
    row._slices.grab()


def test_modes_change_the_page_and_the_buttons(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0))
    surface_button, slices_button = (find(row, QPushButton, name) for name in ("surface", "slices"))
    assert surface_button.isChecked()
    slices_button.click()
    assert row.mode == "slices"
    assert row._slices.isVisible()
    assert not row.canvas.native.isVisible()
    assert not row.findChild(QSlider).isEnabled()
    surface_button.click()
    assert row.mode == "surface"
    settle(qtbot, row)
    assert row.canvas.native.isVisible()
    with pytest.raises(ValueError, match='"mesh"'):
        row.set_mode("mesh")


# Words


def find(row, kind, text):
    return next(widget for widget in row.findChildren(kind) if widget.text() == text)


def test_titles_stand_over_their_volumes_with_their_notes(row, qtbot):
    show(qtbot, row, Shown("raw <average>", ball(), 5.0), Shown("decoded", ball(), 5.0, note="model, not data"))
    labels = [label for label in row._titles.findChildren(QLabel) if label.isVisible()]
    assert [label.text() for label in labels] == [
        "<b>raw &lt;average&gt;</b>",
        "<b>decoded</b><br><i>model, not data</i>",
    ]
    width = row.width() / 2
    for k, label in enumerate(labels):
        assert abs(label.mapTo(row, label.rect().center()).x() - (k + 0.5) * width) < 8
    show(qtbot, row, Shown("only one", ball(), 5.0))
    assert [label.text() for label in row._titles.findChildren(QLabel) if label.isVisible()] == ["<b>only one</b>"]


def test_long_titles_wrap_and_leave_the_columns_alone(row, qtbot):
    for title in ("cluster 3 of the second clustering, refined, C7", "_".join(["groel"] * 20)):
        show(qtbot, row, Shown(title, ball(), 5.0), Shown("b", ball(), 5.0))
        qtbot.wait(10)
        one, two = [label for label in row._titles.findChildren(QLabel) if label.isVisible()]
        assert abs(one.width() - two.width()) <= 1
        assert row.width() == 600
        assert (one.height() >= 2 * row.fontMetrics().height()) == (" " in title)


def test_every_control_has_a_tooltip(row):
    for kind in (QPushButton, QDoubleSpinBox, QSlider):
        for control in row.findChildren(kind):
            assert control.toolTip()


def test_the_message_stands_where_there_are_no_volumes(row, qtbot):
    row.set_message("Select particles to see their average.")
    assert row._message.isVisible()
    show(qtbot, row, Shown("a", ball(), 5.0))
    assert not row._message.isVisible()
    row.set_volumes([])
    assert row._message.isVisible()
    assert not row._scale.isVisible()


def test_a_theme_colours_canvas_slices_and_words(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0))
    row.set_theme("#efebe9", "#3b3a39")
    np.testing.assert_allclose(drawn(row)[2, 2], (0xEF, 0xEB, 0xE9), atol=1)
    row.set_mode("slices")
    assert row._slices.grab().toImage().pixelColor(0, 0).name() == "#efebe9"
    assert "#3b3a39" in row._titles.findChildren(QLabel)[0].styleSheet()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (Shown("a", np.zeros((4, 4), np.float32), 1.0), "z, y, x"),
        (Shown("a", np.zeros((4, 4, 0), np.float32), 1.0), "z, y, x"),
        (Shown("a", ball(), 0.0), "voxel size"),
        (Shown("a", ball(), float("nan")), "voxel size"),
        (Shown("a", ball(), 1.0, "cluster 3"), '"cluster 3"'),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_changes(row, qtbot, wrong, match):
    show(qtbot, row, Shown("kept", ball(), 5.0))
    with pytest.raises(ValueError, match=match):
        row.set_volumes([wrong])
    assert row._shown[0].title == "kept"


# The end


def test_closing_frees_the_canvas_and_may_be_repeated(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0), Shown("b", ball(), 5.0))
    canvas, native = weakref.ref(row.canvas), row.canvas.native
    gone, closed = [], []
    row.canvas.events.close.connect(lambda _: closed.append(True))
    native.destroyed.connect(lambda *_: gone.append(True))
    del native
    row.close_canvas()
    row.close_canvas()
    assert row.canvas is None
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert canvas() is None
    assert gone
    assert closed == [True], "vispy is told too"


def test_nothing_is_drawn_after_closing_and_nothing_breaks(row, qtbot):
    show(qtbot, row, Shown("a", ball(), 5.0))
    row.close_canvas()
    row.set_volumes([Shown("b", ball(), 5.0)])
    row.set_contour(1.0)
    row.set_mode("slices")
    row.set_mode("surface")
    row.set_theme("#ffffff", "#000000")
    row.resize(300, 300)
    find(row, QPushButton, "reset view").click()
    qtbot.wait(50)
    assert row.canvas is None


def test_closing_drops_a_surface_that_is_under_way(row, qtbot, slow):
    go, begun, asked = slow
    row.set_volumes([Shown("a", ball(), 5.0), Shown("b", ball(), 5.0)])
    assert begun.wait(10)
    row.close_canvas()
    go.set()
    qtbot.waitUntil(lambda: row._surfacing._thread is None)
    assert len(asked) == 1


def test_views_come_one_in_each_turn_and_only_while_they_are_looked_at(row, qtbot, monkeypatch):
    """The first drawing of each has a shader compiled; all of them at once would keep the window."""
    row.hide()
    row.set_volumes([Shown(name, ball(24, radius=6), 10.0) for name in "abc"])
    canvas = row._surfaces
    qtbot.wait(100)
    assert canvas.views == []
    cold: list[tuple[int, int]] = []
    step = SurfaceCanvas._step

    def step_and_note(one: SurfaceCanvas) -> None:
        step(one)
        cold.append((len(one.views), sum(mesh.visible for mesh in one.meshes)))

    monkeypatch.setattr(SurfaceCanvas, "_step", step_and_note)
    canvas._next.timeout.disconnect()
    canvas._next.timeout.connect(canvas._step)
    row.show()
    qtbot.waitUntil(lambda: row._scale.doing == "", timeout=10_000)
    done = [cold[0], *(now for before, now in pairwise(cold) if now != before)]
    assert done == [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)], "a view, its shader, the next view"
