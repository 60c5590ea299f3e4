"""Selecting: every tool with the mouse, undo by keys, points and maps, names, groups, and what survives."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from driving import AT, VOXEL, Window, click, drag, drop, mapped, write_list, write_table, write_tomogram
from matplotlib.path import Path as Outline
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QInputDialog

from napari_disentangle.fourier import low_passed
from napari_disentangle.gui.theme import group_colour, rgba
from napari_disentangle.io import read_particles
from napari_disentangle.io.extract import extract
from napari_disentangle.run import Run
from napari_disentangle.selection import Selection
from napari_disentangle.stages import embed_run
from napari_disentangle.tasks import reconstruct
from napari_disentangle.training import prepare

if TYPE_CHECKING:
    from pathlib import Path

LEFT = Qt.MouseButton.LeftButton


def press(window: Window, key: Any, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    """Press a key over the content map, in a window that has the keyboard."""
    canvas = window.maps.content.canvas
    canvas.window().activateWindow()
    canvas.native.setFocus()
    window.until(canvas.native.hasFocus, 5)
    QTest.keyClick(canvas.native, key, modifier)


def line(view: Any, corners: np.ndarray, *, close: bool = True) -> np.ndarray:
    """Pixels (k, 2) along the outline of map coordinates (m, 2), as far as they are on the canvas."""
    ends = np.roll(corners, -1, 0) if close else corners[1:]
    pixels = [view.canvas.to_pixels(corner)[0] for corner in corners]
    ends = [view.canvas.to_pixels(end)[0] for end in ends]
    along = np.concatenate([np.linspace(a, b, 14) for a, b in zip(pixels, ends, strict=False)])
    return np.round(np.clip(along, 1, [view.canvas.native.width() - 2, view.canvas.native.height() - 2]))


def half_plane(view: Any, axis: int, *, upper: bool) -> np.ndarray:
    """Corners of a rectangle around the points of a map that are above, or below, the middle gap of an axis."""
    places = view.coordinates
    low, high = places.min(0) - 0.03 * np.ptp(places, 0), places.max(0) + 0.03 * np.ptp(places, 0)
    known = np.sort(places[:, axis])
    k = len(known) // 3 + int(np.diff(known)[len(known) // 3 : -len(known) // 3].argmax())
    (low if upper else high)[axis] = (known[k] + known[k + 1]) / 2
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def inside(view: Any, ids: np.ndarray, pixels: np.ndarray) -> set[int]:
    """Ids of the points of a map within an outline of pixels."""
    return set(ids[Outline(view.canvas.to_map(pixels)).contains_points(view.coordinates)].tolist())


def outlined(view: Any) -> np.ndarray:
    return np.flatnonzero(view.canvas._selected)


def test_every_tool(window: Window, trained: Run, tmp_path: Path):
    bench, maps = window.bench, window.maps
    run = mapped(trained, tmp_path / "run")
    window.open_run(run.path)
    ids, content, transform = bench.session.ids, maps.content, maps.transform
    transform.kind.setCurrentIndex(transform.kind.findData("umap"))
    transform.kind.activated.emit(transform.kind.currentIndex())
    stored = run.path / "selections" / "drawn" / "0.json"
    history: list[set[int]] = []

    def selected(wanted: set[int], tool: str) -> None:
        window.until(lambda: bench.session.selection is not None and set(bench.session.selection.ids) == wanted, 5)
        rows = [k for k, i in enumerate(ids) if i in wanted]
        for view in maps.views:
            assert outlined(view).tolist() == rows
        assert f"{len(wanted)} selected" in maps.count.text()
        assert maps.export.text() == f"Export {len(wanted)}…"
        window.settle()
        kept = json.loads(stored.read_text())
        assert set(kept["ids"]) == wanted, "it is in the run folder"
        assert tool in json.dumps(kept["how"])
        window.until(lambda: len(maps.gallery) == min(len(wanted), 24))
        history.append(wanted)

    # A rectangle over one side of content: R, and the mouse from corner to corner.
    press(window, Qt.Key.Key_R)
    assert maps.tools["rectangle"].isChecked()
    assert transform.canvas.tool == "rectangle", "a tool is taken in both maps"
    corners = half_plane(content, 0, upper=False)
    outline = line(content, corners)
    drag(content.canvas.native, outline[[0, 5, 28]])
    first = inside(content, ids, outline)
    assert 5 < len(first) < 25
    selected(first, "rectangle")

    # A lasso in the other map, added.
    press(window, Qt.Key.Key_L)
    click(maps.combine["add"])
    outline = line(transform, half_plane(transform, 1, upper=True))
    drag(transform.canvas.native, outline)
    second = inside(transform, ids, outline)
    assert second - first, "it adds some"
    selected(first | second, "lasso")

    # A polygon, corner by corner, closed by a double click, taken out.
    press(window, Qt.Key.Key_P)
    click(maps.combine["remove"])
    corners = half_plane(content, 1, upper=True)
    places = line(content, corners)[[0, 14, 28, 42]]
    for x, y in places:
        QTest.mouseClick(content.canvas.native, LEFT, pos=QPoint(int(x), int(y)))
    QTest.mouseDClick(content.canvas.native, LEFT, pos=QPoint(*(int(v) for v in places[-1])))
    third = inside(content, ids, places)
    assert first | second != (first | second) - third != set(), "it takes some away, and not all"
    selected((first | second) - third, "polygon")

    # A brush along a path, and only what was selected under it stays.
    press(window, Qt.Key.Key_B)
    click(maps.combine["intersect"])
    some = sorted(history[-1])
    ends = content.coordinates[[int(np.flatnonzero(ids == i)[0]) for i in (some[0], some[-1])]]
    path = line(content, ends, close=False)
    drag(content.canvas.native, path)
    pixels = content.canvas.to_pixels(content.coordinates)
    a, b = path[0], path[-1]
    along = np.clip(((pixels - a) @ (b - a)) / max((b - a) @ (b - a), 1e-9), 0, 1)
    distance = np.linalg.norm(pixels - (a + along[:, None] * (b - a)), axis=1)
    window.until(lambda: set(bench.session.selection.ids) != history[-1])
    got = set(bench.session.selection.ids.tolist())
    assert {some[0], some[-1]} <= history[-1] & set(ids[distance < 19]) <= got <= history[-1] & set(ids[distance < 21])
    selected(got, "brush")
    assert [step["combine"] for step in bench.session.selection.how["steps"]] == ["new", "add", "remove", "intersect"]

    # Undo and redo by keys, as far as there is anything; then by the buttons.
    control, shift = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
    for wanted in (history[2], history[1], history[0]):
        press(window, Qt.Key.Key_Z, control)
        assert set(bench.session.selection.ids) == wanted
    press(window, Qt.Key.Key_Z, control)
    assert bench.session.selection is None
    assert not maps.undo.isEnabled()
    assert not maps.export.isEnabled()
    assert outlined(content).size == 0
    press(window, Qt.Key.Key_Z, control | shift)
    click(maps.redo)
    assert set(bench.session.selection.ids) == history[1]
    window.settle()
    assert set(json.loads(stored.read_text())["ids"]) == history[1], "after many changes at once, the last is kept"
    press(window, Qt.Key.Key_Escape)
    assert maps.tools["pan"].isChecked()
    assert {view.canvas.tool for view in maps.views} == {"pan"}

    click(maps.invert)
    assert set(bench.session.selection.ids) == set(ids.tolist()) - history[1]
    click(maps.clear)
    assert bench.session.selection is None
    assert window.errors == []


def test_a_clicked_point_and_colours(window: Window, trained: Run, tmp_path: Path, qtbot):
    bench, maps = window.bench, window.maps
    run = mapped(trained, tmp_path / "run")
    window.open_run(run.path)
    codes, particles, content = run.codes(), run.particles(), maps.content

    # Colours say one thing at a time; groups have the colours of their buttons.
    seen = {}
    for k in range(maps.colour.count()):
        maps.colour.setCurrentIndex(k)
        seen[maps.colour.currentText()] = content.canvas._colours.copy()
    order = np.argsort(codes.content[:, 0])
    np.testing.assert_array_equal(seen["group"][order[0]], rgba(np.zeros(1, np.int64))[0])
    np.testing.assert_array_equal(seen["group"][order[-1]], rgba(np.ones(1, np.int64))[0])
    assert group_colour(1) in maps._chips.itemAt(1).widget().styleSheet()
    values = {
        "content 1": codes.content[:, 0],
        "content 2": codes.content[:, 1],
        "shift": np.linalg.norm(codes.pose.offsets, axis=1),
    }
    for name, value in values.items():
        order = np.argsort(value)
        assert seen[name][order[0], 2] > seen[name][order[0], 1], f"the lowest {name} is dark blue"
        assert seen[name][order[-1], 0] > 0.9 > seen[name][order[-1], 2], f"the highest {name} is yellow"
    for name in ("tomogram", "half-set", "defocus"):
        assert (seen[name] == rgba(np.full(1, -1))[0]).all(), f"this list has no {name}"
    np.testing.assert_array_equal(maps.transform.canvas._colours, content.canvas._colours)

    # A click on a point shows that particle, raw and decoded.
    row = int(np.argmax(content.coordinates[:, 0]))
    where = content.canvas.to_pixels(content.coordinates[row])[0]
    with qtbot.waitSignal(bench.results.particle_shown, timeout=90_000) as told:
        QTest.mouseClick(content.canvas.native, LEFT, pos=QPoint(*(round(float(v)) for v in where)))
    found = told.args[0]
    assert found["id"] == bench.session.ids[row]
    at = particles.rows_of(np.array([found["id"]]))
    np.testing.assert_allclose(found["raw"], low_passed(particles.volumes.read(at), 20.0, 60.0)[0], atol=1e-4)
    reconstruct(lambda *_: None, str(run.path), run.ids().tolist(), str(tmp_path / "decoded.npz"))
    with np.load(tmp_path / "decoded.npz") as stored:
        decoded = stored["volumes"][np.argsort(stored["ids"])]
    errors = np.abs(decoded - found["decoded"]).max(axis=(1, 2, 3))
    assert errors.argmin() == at[0]
    assert errors.min() < 1e-3 < np.partition(errors, 1)[1]
    assert maps.side.currentWidget() is maps.particle
    assert maps.side.tabText(1) == f"particle {found['id']}"
    assert [one.title for one in maps.particle._shown] == [f"particle {found['id']}", "decoded"]
    assert "not data" in maps.particle._shown[1].note
    assert bench.session.selection is None, "a click selects nothing"
    assert window.errors == []


def test_names_groups_and_another_run(window: Window, trained: Run, tmp_path: Path, monkeypatch):
    bench, maps, rooms = window.bench, window.maps, window.rooms
    run = mapped(trained, tmp_path / "run")
    other = mapped(trained, tmp_path / "other")
    other.save_selections("drawn", [Selection("drawn/0", np.array([4, 9]), {"tool": "lasso"})])
    window.open_run(run.path)

    def name(text: str, *, accepted: bool = True) -> None:
        monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (text, accepted))
        click(maps.name)
        window.settle()

    # A name, once; the name of the groups, and what no file can be called, are refused in a sentence.
    bench.session.select(np.arange(12), {"tool": "test"})
    name("mine", accepted=False)
    assert "mine/0" not in run.selections()
    name("mine")
    assert run.selection("mine/0").ids.tolist() == list(range(12))
    window.until(lambda: maps.saved.currentText() == "mine/0")  # listed by a thread that begins when the save has ended
    bench.session.select(np.arange(20), {"tool": "test"})
    for taken in ("mine", "auto", "a/b", "two words"):
        before = len(window.errors)
        name(taken)
        assert len(window.errors) == before + 1
        assert taken in window.errors[-1]
        assert maps.problem.text == window.errors[-1]
        assert maps.problem.isVisible()
    assert run.selection("mine/0").ids.tolist() == list(range(12))
    assert bench.session.selection.ids.tolist() == list(range(20))
    name("second")
    assert maps.problem.isHidden()

    # One that was kept is chosen from the list.
    at = maps.saved.findData("mine/0")
    maps.saved.setCurrentIndex(at)
    maps.saved.activated.emit(at)
    window.until(lambda: bench.session.selection.ids.tolist() == list(range(12)))
    assert outlined(maps.content).tolist() == list(range(12))

    # Groups within it; those that were there stay, and so does the selection.
    auto = [run.selection(f"auto/{k}").ids.tolist() for k in range(2)]
    maps.within.setCurrentIndex(1)
    maps.k.setValue(2)
    click(maps.find_button)
    window.until(lambda: sum(len(group) for group in bench.session.groups) == 12, 120)
    assert len(bench.session.groups) == 2
    assert sorted(np.concatenate([group.ids for group in bench.session.groups])) == list(range(12))
    assert [run.selection(f"auto/{k}").ids.tolist() for k in range(2)] == auto
    assert run.selection("mine/0").ids.tolist() == list(range(12))
    labels = bench.session.labels()
    np.testing.assert_array_equal(maps.content.canvas._colours, rgba(labels))
    # And again, within another selection: the groups of the first are kept too.
    earlier = {one: run.selection(one).ids.tolist() for one in run.selections() if "drawn" not in one}
    bench.session.select(np.arange(10, 24), {"tool": "test"})
    click(maps.find_button)
    window.until(lambda: sum(len(group) for group in bench.session.groups) == 14, 60)
    assert {one: run.selection(one).ids.tolist() for one in earlier} == earlier

    # Another run shows nothing of this one.
    bench.results.show_particle(3)
    window.until(lambda: maps.side.tabText(1) == "particle 3", 60)
    bench.problem.emit("maps", "something of the first run")
    window.open_run(other.path)
    assert bench.session.selection.ids.tolist() == [4, 9]
    assert outlined(maps.content).tolist() == [4, 9]
    assert "2 selected" in maps.count.text()
    window.until(lambda: len(maps.gallery) == 2)
    assert maps.saved.findData("mine/0") < 0
    assert [maps._chips.itemAt(k).widget().text() for k in range(maps._chips.count())] == ["1: 18", "2: 12"]
    assert not maps.undo.isEnabled()
    assert maps.side.tabText(1) == "particle"
    assert maps.particle._shown == ()
    assert maps.problem.isHidden()
    assert bench.session.averages == {}
    assert rooms.averages.of.findText("the selection (2)") >= 0

    # The first is opened again, with its selection.
    window.open_run(run.path)
    assert bench.session.selection.ids.tolist() == list(range(10, 24))
    assert outlined(maps.content).tolist() == list(range(10, 24))
    assert maps.saved.findData("mine/0") >= 0


def test_maps_of_an_earlier_training(window: Window, trained: Run, tmp_path: Path):
    bench, maps = window.bench, window.maps
    run = mapped(trained, tmp_path / "run")
    window.open_run(run.path)
    bench.session.select(np.arange(5), {"tool": "test"})
    assert [view.note.text() for view in maps.views] == ["", ""]
    maps.transform.kind.setCurrentIndex(maps.transform.kind.findData("umap"))
    maps.transform.kind.activated.emit(maps.transform.kind.currentIndex())
    assert maps.transform.note.text() == ""
    shown = maps.content.coordinates.copy()

    run.save_codes(replace(run.codes(), content=run.codes().content * 2, fingerprint="of another training"))
    bench.refresh()
    for view in maps.views:
        window.until(lambda view=view: view.note.text() == "of an earlier training")
        assert view.update_button.isVisible()
    np.testing.assert_array_equal(maps.content.coordinates, shown), "what was computed is kept until it is replaced"
    assert bench.session.selection.ids.tolist() == list(range(5)), "selections are of particles and survive"
    assert outlined(maps.content).tolist() == list(range(5))

    # The same map, made anew from the present codes.
    maps.content.kind.setCurrentIndex(maps.content.kind.findData("pca"))
    maps.content.kind.activated.emit(maps.content.kind.currentIndex())
    click(maps.content.update_button)
    window.until(lambda: maps.content.note.text() == "", 120)
    assert maps.content.described == "content (pca)"
    assert run.embedding("content", "pca").fingerprint == "of another training"
    assert maps.transform.note.text() == "of an earlier training"
    assert window.errors == []


@pytest.fixture
def picked(tmp_path: Path) -> Run:
    """A run that was not trained, of particles in two tomograms, with its map of invariants and two groups."""
    for name in "ab":
        write_tomogram(tmp_path / f"{name}.mrc")
    names, places = ["a"] * 10 + ["b"] * 10, np.concatenate([AT, AT])
    halves = {"rlnRandomSubset": [1, 2] * 10, "rlnDefocusU": [float(10_000 + 1000 * k) for k in range(20)]}
    listed = write_list(tmp_path / "picks.star", names, places, **halves)
    table = write_table(tmp_path / "tomograms.star", {"a": "a.mrc", "b": "b.mrc"})
    extract(read_particles(listed, tomograms=table), tmp_path / "boxes", box=16)
    settings = ["pose.mode=free", "training.coarse_size=16", "pose.diameter=80"]
    run = prepare(tmp_path / "boxes", tmp_path / "run", settings=settings)
    embed_run(run, "invariants", method="pca")
    run.save_selections("auto", [Selection("auto/0", np.arange(0, 20, 2)), Selection("auto/1", np.arange(1, 20, 2))])
    return run


def test_points_and_maps(window: Window, picked: Run, tmp_path: Path):
    bench, maps, viewer = window.bench, window.maps, window.viewer
    window.open_run(picked.path)
    window.until(lambda: "Particles" in viewer.layers)
    points = viewer.layers["Particles"]
    assert points.features["particle"].tolist() == list(range(10))
    assert maps.content.described == "content (invariants)"
    np.testing.assert_allclose(
        points.border_color, rgba(np.arange(10) % 2), err_msg="a group has one colour everywhere"
    )

    # From the points to the maps.
    points.selected_data = {1, 4, 7}
    assert bench.session.selection.ids.tolist() == [1, 4, 7]
    assert outlined(maps.content).tolist() == [1, 4, 7]
    window.until(lambda: not window.bench.turns)
    assert points.features["selected"].tolist() == [k in (1, 4, 7) for k in range(10)]
    assert (points.face_color[[1, 4, 7], 3] > 0.3).all()
    assert (points.face_color[[0, 2, 3], 3] == 0).all()
    np.testing.assert_allclose(points.border_color, rgba(np.arange(10) % 2), err_msg="a selection recolours nothing")

    # From a map to the points, in whatever tomogram they are.
    press(window, Qt.Key.Key_L)
    outline = line(maps.content, half_plane(maps.content, 1, upper=True))
    drag(maps.content.canvas.native, outline)
    wanted = inside(maps.content, bench.session.ids, outline)
    window.until(lambda: set(bench.session.selection.ids.tolist()) == wanted)
    assert {i < 10 for i in wanted} == {True, False}, "it is of both tomograms"
    window.until(lambda: not window.bench.turns)
    assert set(points.features["particle"][points.features["selected"]]) == {i for i in wanted if i < 10}

    # A click on a point of the map goes to its tomogram, and to its section, though the viewer has another axis.
    press(window, Qt.Key.Key_Escape)
    stack = np.zeros((2, 4, 4, 4), np.float32)
    viewer.add_image(stack, name="stack", units=("pixel", *("angstrom",) * 3), visible=False)
    assert viewer.dims.ndim == 4
    row = next(k for k, i in enumerate(bench.session.ids) if i in wanted and i >= 10)
    where = maps.content.canvas.to_pixels(maps.content.coordinates[row])[0]
    QTest.mouseClick(maps.content.canvas.native, LEFT, pos=QPoint(*(round(float(v)) for v in where)))
    near = maps.content.canvas.nearest(maps.content.canvas._pane.pointer)
    particle = int(bench.session.ids[near])
    assert particle >= 10
    window.until(lambda: len(points.features) and points.features["particle"].tolist() == list(range(10, 20)))
    window.until(lambda: abs(viewer.dims.point[1] - AT[particle - 10][0] * VOXEL) <= VOXEL)
    assert viewer.layers["b"].visible
    window.until(lambda: not window.bench.turns)
    assert set(points.features["particle"][points.features["selected"]]) == {i for i in wanted if i >= 10}

    # Deleted layers come back with the next click on a map.
    viewer.layers.clear()
    bench.results.show_particle(particle)
    window.until(lambda: [layer.name for layer in viewer.layers] == ["b", "Particles"])
    points = viewer.layers["Particles"]
    window.until(lambda: not window.bench.turns)
    assert set(points.features["particle"][points.features["selected"]]) == {i for i in wanted if i >= 10}

    # Colours by what the list says.
    for name, value in (("half-set", np.arange(20) % 2), ("tomogram", np.arange(20) // 10)):
        maps.colour.setCurrentText(name)
        np.testing.assert_array_equal(maps.content.canvas._colours, rgba(value))
    maps.colour.setCurrentText("defocus")
    assert (np.diff(maps.content.canvas._colours[:, 1]) > 0).all(), "green rises from blue to yellow"

    # Other particles in the viewer have the same numbers, and are not those of the run.
    alone = write_list(tmp_path / "others.star", ["a"] * 4, AT[:4] + 1)
    before = bench.session.selection
    drop(window.rooms.particles, alone, tmp_path / "a.mrc")
    window.until(lambda: len(viewer.layers["Particles"].data) == 4)
    points = viewer.layers["Particles"]
    window.until(lambda: not window.bench.turns)
    assert not points.features["selected"].any()
    assert (points.features["group"] == -1).all()
    points.selected_data = {0, 1}
    assert bench.session.selection is before
    window.settle()
    assert window.errors == []


def test_a_selection_is_written_into_its_own_run(window: Window, trained: Run, tmp_path: Path, monkeypatch):
    """Also where another run is shown while the first one is being written."""
    bench = window.bench
    one, other = mapped(trained, tmp_path / "one"), mapped(trained, tmp_path / "other")
    window.open_run(one.path)
    writing, go_on = threading.Event(), threading.Event()
    save = Run.save_selections

    def slow(run: Run, group: str, selections: Any) -> None:
        writing.set()
        assert go_on.wait(30)
        save(run, group, selections)

    monkeypatch.setattr(Run, "save_selections", slow)
    bench.session.select(np.array([1, 2]), {"tool": "test"})
    assert writing.wait(30)
    bench.opening.open(other.path)
    window.until(lambda: bench.session.run.path == other.path)
    bench.session.select(np.array([7, 8, 9]), {"tool": "test"})
    go_on.set()
    window.settle()
    assert one.selection("drawn/0").ids.tolist() == [1, 2]
    assert other.selection("drawn/0").ids.tolist() == [7, 8, 9]


def test_groups_that_were_chosen_last_are_shown(window: Window, trained: Run, tmp_path: Path):
    """Not those that a reading has brought which began before."""
    bench = window.bench
    run = mapped(trained, tmp_path / "run")
    run.save_selections("other", [Selection(f"other/{k}", np.arange(10) + 10 * k) for k in range(3)])
    window.open_run(run.path)
    shown: list[str] = []
    bench.session.groups_changed.connect(lambda: shown.append(bench.session.grouping))
    bench.refresh()
    bench.session.grouping = "other"
    bench.refresh()
    window.until(lambda: len(bench.session.groups) == 3)
    window.settle()
    assert bench.session.grouping == "other"
    assert shown == ["other"]


def test_groups_of_a_selection_need_one(window: Window, trained: Run, tmp_path: Path):
    bench, maps = window.bench, window.maps
    run = mapped(trained, tmp_path / "run")
    window.open_run(run.path)
    before = [run.selection(f"auto/{k}").ids.tolist() for k in range(2)]
    maps.within.setCurrentIndex(1)
    click(maps.find_button)
    assert "Nothing is selected" in maps.problem.text
    window.settle(helper=True)
    assert [run.selection(f"auto/{k}").ids.tolist() for k in range(2)] == before
    assert bench.session.groups


def test_the_menu_of_what_is_kept_has_what_the_user_kept(window: Window, trained: Run, tmp_path: Path):
    run = mapped(trained, tmp_path / "run")
    for group in ("mine", "drawn", "control-12345678"):
        run.save_selections(group, [Selection(f"{group}/0", np.arange(4))])
    window.open_run(run.path)
    saved = window.maps.saved
    assert [saved.itemText(k) for k in range(saved.count())] == ["selections…", "group 1", "group 2", "mine/0"]
