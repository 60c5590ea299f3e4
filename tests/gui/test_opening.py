"""Opening, as a user does it: dialogs, drops, samples, points layers; what the card says; layers that come and go."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
from driving import AT, SHAPE, VOXEL, Window, click, drop, rows_of, write_list, write_table, write_tomogram
from napari.layers._source import layer_source
from qtpy.QtWidgets import QFileDialog

from napari_disentangle.gui.places import free_name
from napari_disentangle.io import read_particles
from napari_disentangle.io.extract import extract
from napari_disentangle.session import open_source
from napari_disentangle.training import prepare

if TYPE_CHECKING:
    from pathlib import Path


def brightest(slices: np.ndarray) -> np.ndarray:
    """Row and column of the brightest pixel of each slice (k, n, n), from the middle n // 2."""
    n = slices.shape[-1]
    return np.array([np.unravel_index(one.argmax(), one.shape) for one in slices]) - n // 2


def test_a_dialog_and_drops(window: Window, tiny_stack: Path, trained: Any, tmp_path: Path, monkeypatch):
    bench, panel = window.bench, window.rooms.particles
    stack = tmp_path / "particles.mrcs"
    shutil.copy(tiny_stack, tmp_path)
    shutil.copy(tiny_stack.with_name("particles.mrcs"), stack)
    tomogram = write_tomogram(tmp_path / "ts.mrc")
    picks = write_list(tmp_path / "picks.csv", ["ts"] * 10, AT).rename(tmp_path / "picked in tomogram ts.star")
    run = shutil.copytree(trained.path, tmp_path / "run")

    # The dialog; one that is cancelled changes nothing.
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(tiny_stack), ""))
    click(panel.open_button)
    window.until(lambda: bench.opening.preview is not None)
    assert bench.session.source.path == tiny_stack
    assert "30 particles in boxes of 16 x 16 x 16" in panel.headline.text()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: ("", ""))
    click(panel.open_button)
    window.settle()
    assert bench.session.source.path == tiny_stack

    # A list and its tomogram, in either order, whatever the list is called.
    for files in ((picks, tomogram), (tomogram, picks)):
        drop(panel, *files)
        window.until(lambda: bench.session.source.path == picks)
        window.settle()
        source = bench.session.source.particles
        np.testing.assert_allclose(source.positions, AT[:, ::-1] * VOXEL)
        assert [t.path for t in source.tomograms] == [tomogram]
        assert [layer.name for layer in window.viewer.layers] == ["ts", "Particles"]
        drop(panel, stack)
        window.until(lambda: bench.session.source.path == stack)
        window.settle()

    # A stack is 30 boxes without a list; with its list, it is the list that counts.
    assert "30 particles in boxes" in panel.headline.text()
    assert bench.session.source.particles.pose is None
    drop(panel, stack, tmp_path / "particles.star")
    window.until(lambda: bench.session.source.path == tmp_path / "particles.star")
    assert bench.session.source.particles.pose is not None

    drop(panel, run)
    window.until(lambda: bench.session.run is not None)
    assert bench.session.run.path == run
    assert f"{len(bench.session.ids)} shown" in window.maps.count.text()
    window.settle()
    assert window.errors == []


@pytest.mark.usefixtures("cache")
def test_samples_before_and_after_the_panels(make_napari_viewer, qtbot):
    window = Window(make_napari_viewer(show=True), qtbot, panels=False)
    window.viewer.open_sample("napari-disentangle", "tomogram")
    window.add_panels()
    bench, panel = window.bench, window.rooms.particles
    window.until(lambda: bench.opening.preview is not None)
    assert "100 particles in 1 tomogram" in panel.headline.text()
    assert panel.diameter.value() == 200
    assert [layer.name for layer in window.viewer.layers] == ["Tomogram", "Particles"], "its layers are used"
    assert not panel.use_points.isVisible(), "points that are the particles are not offered as particles"

    # The other sample, with the panels open; and a second panel finds it too, and opens nothing again.
    window.viewer.open_sample("napari-disentangle", "stack")
    window.until(lambda: bench.session.source.path.parent.name == "stack" and bench.opening.preview is not None)
    assert "360 particles in boxes of 32 x 32 x 32" in panel.headline.text()
    assert "tilts -90 to 90°" in panel.details.text()
    source = bench.session.source
    _, second = window.viewer.window.add_plugin_dock_widget("napari-disentangle", "Particles")
    assert second.panel.headline.text() == panel.headline.text()
    window.settle()
    assert bench.session.source is source
    assert window.errors == []
    window.close()


@pytest.mark.parametrize("kind", ["file", "pixels", "array"])
def test_points_become_particles(window: Window, tmp_path: Path, monkeypatch, kind: str):
    """Of a volume read from a file, in Angstrom or in pixels, and of a bare array in nanometres."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    bench, panel, viewer = window.bench, window.rooms.particles, window.viewer
    tomogram = write_tomogram(tmp_path / "data" / "ts.mrc")
    with mrcfile.open(tomogram) as file:
        volume = file.data.copy()
    if kind == "array":
        image = viewer.add_image(
            volume, name="cropped", scale=(0.8,) * 3, units=("nm",) * 3, translate=(5.0, -3.0, 2.0)
        )
        # Picked in another unit: Angstrom from the world's origin.
        picked = viewer.add_points((AT * 0.8 + image.translate) * 10, name="my picks [1]", units=("angstrom",) * 3)
    else:
        pixels = {} if kind == "pixels" else {"scale": (VOXEL,) * 3, "units": ("angstrom",) * 3}
        with layer_source(path=str(tomogram)):
            image = viewer.add_image(volume, name="ts", **pixels)
        viewer.layers.selection.active = image
        click(viewer.window._qt_viewer.layerButtons.newPointsButton)
        picked = viewer.layers[-1]
        picked.data = AT.astype(float)
        np.testing.assert_allclose(picked.scale, image.scale)  # so does napari, or this tests nothing
    world = np.array([picked.data_to_world(p) for p in picked.data])

    assert panel.points.currentText() == picked.name
    click(panel.use_points)
    window.until(lambda: bench.session.source is not None)
    particles = bench.session.source.particles
    np.testing.assert_allclose(particles.positions, AT[:, ::-1] * VOXEL, atol=1e-3)
    assert particles.tomograms[0].voxel_size == VOXEL
    folder = tmp_path / ("home" if kind == "array" else "data") / "disentangle"
    assert particles.path.parent == folder
    assert "10 particles in 1 tomogram" in panel.headline.text()

    # The diameter is asked for; then boxes hold their particles in the middle, and the layers are still in place.
    panel.diameter.setValue(80)
    window.until(lambda: bench.opening.preview is not None)
    window.settle()
    assert np.abs(brightest(bench.opening.preview.slices)).max() <= 1
    assert list(viewer.layers) == [image, picked], "the user's layers are used, and none is added"
    np.testing.assert_allclose([picked.data_to_world(p) for p in picked.data], world, atol=1e-2)
    assert image.data is volume
    # A point is drawn as large as its particle: 80 A are 10 voxels.
    side = np.linalg.norm(np.subtract(picked.data_to_world((0, 0, picked.size[0])), picked.data_to_world((0, 0, 0))))
    per_voxel = 10 * 0.8 if kind == "array" else image.scale[-1]
    assert side == pytest.approx(10 * per_voxel)
    assert panel.units.isVisible() == (kind == "pixels")
    if kind == "pixels":  # the remedy knows how large they are
        click(panel.units.findChild(type(panel.open_button)))
        assert {str(unit) for unit in viewer.layers.units} == {"angstrom"}
        assert image.scale.tolist() == picked.scale.tolist() == [VOXEL] * 3
        np.testing.assert_allclose([picked.data_to_world(p) for p in picked.data], AT * VOXEL)
        assert picked.size[0] * VOXEL == pytest.approx(80)

    # Boxes of theirs, and a selection of two, made by clicking points, goes back to the list.
    record = extract(particles, tmp_path / "boxes", box=16)
    assert len(record.ids) == 10
    with mrcfile.open(tmp_path / "boxes" / "particles.mrcs") as file:
        boxes = file.data
        assert (np.array([np.unravel_index(box.argmax(), box.shape) for box in boxes]) == 8).all()
    run = prepare(tmp_path / "boxes", tmp_path / "run", settings=["pose.mode=free", "training.coarse_size=16"])
    window.open_run(run.path)
    picked.selected_data = {2, 7}
    window.until(lambda: bench.session.selection is not None)
    assert bench.session.selection.ids.tolist() == [2, 7]
    dialog = window.export_dialog(tmp_path / "two.star")
    with window._qtbot.waitSignal(bench.results.exported, timeout=10_000):
        click(dialog.write)
    rows = rows_of(particles.path)
    assert rows_of(tmp_path / "two.star") == [rows[2], rows[7]]
    assert window.errors == []


def test_points_that_cannot_be_particles(window: Window, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    panel, viewer = window.rooms.particles, window.viewer
    assert not panel.use_points.isVisible(), "there are no points"
    viewer.add_points(np.zeros((0, 3)), name="none yet")
    click(panel.use_points)
    assert window.errors == ['The points layer "none yet" holds no points; add some first.'] == [panel.problem.text]
    viewer.layers["none yet"].data = np.ones((3, 3))
    click(panel.use_points)
    assert "open the volume" in window.errors[1]
    # A volume that says no size is asked for it, and then taken.
    viewer.add_image(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), name="bare")
    click(panel.use_points)
    window.until(lambda: len(window.errors) == 3)
    assert window.errors[2] == panel.problem.text
    assert 'The layer "bare" does not say its voxel size' in panel.problem.text
    assert list(tmp_path.glob("disentangle/*")) == []
    assert panel.voxel_size.isVisible(), "the remedy is in sight"
    panel.voxel_size.setValue(5)
    click(panel.use_points)
    window.until(lambda: window.bench.session.source is not None)
    assert window.bench.session.source.particles.positions.tolist() == [[5, 5, 5]] * 3
    assert len(window.errors) == 3


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Path]:
    """A list of two tomograms of ten and four particles, a table that finds both, and one that finds the first."""
    write_tomogram(tmp_path / "volumes" / "a.mrc")
    write_tomogram(tmp_path / "volumes" / "b.mrc", AT[:4])
    n = 14
    angles = {f"rlnAngle{k}": np.random.default_rng(0).uniform(0, 90, n).tolist() for k in ("Rot", "Tilt", "Psi")}
    names, places = ["a"] * 10 + ["b"] * 4, np.concatenate([AT, AT[:4]])
    halves = {"rlnRandomSubset": [1, 2, 2, 2] * 3 + [1, 2]}
    return {
        "list": write_list(tmp_path / "picks.star", names, places, **angles, **halves),
        "both": write_table(tmp_path / "tomograms.star", {"a": "volumes/a.mrc", "b": "volumes/b.mrc"}),
        "one": write_table(tmp_path / "tomograms_old.star", {"a": "volumes/a.mrc", "b": "gone/b.mrc"}),
    }


def test_the_card(window: Window, two: dict[str, Path], monkeypatch):
    bench, panel = window.bench, window.rooms.particles
    drop(panel, two["list"], two["one"])
    window.until(lambda: bench.session.source is not None)
    assert panel.card.title() == "picks.star"
    assert panel.headline.text() == "14 particles in 2 tomograms"
    assert panel.details.text() == "8 Å voxels; poses: yes; half-sets: 4 and 10"
    assert "gone/b.mrc" in panel.notes.text()
    assert "tilt range is not known" in panel.notes.text()
    assert [panel.tomograms.itemText(k) for k in range(2)] == ["a (10)", "b (4), not found"]

    # A tomogram that is not there is not mistaken for another; what is missing has its remedy beside it.
    window.until(lambda: [layer.name for layer in window.viewer.layers] == ["a", "Particles"])
    panel.tomograms.setCurrentIndex(1)
    panel.tomograms.activated.emit(1)
    window.until(lambda: len(window.viewer.layers["Particles"].data) == 4)
    assert not window.viewer.layers["a"].visible
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(two["both"]), ""))
    click(panel.locate)
    window.until(lambda: "gone" not in panel.notes.text())
    assert [panel.tomograms.itemText(k) for k in range(2)] == ["a (10)", "b (4)"]
    assert not panel.locate.isVisible()
    window.until(lambda: window.viewer.layers["a"].visible)
    # What no file says can be said.
    panel.unknowns.expand(animate=False)
    window.until(lambda: panel.read_again.height() > 10)
    panel.tilt_low.setValue(-60)
    panel.tilt_high.setValue(54)
    click(panel.read_again)
    window.until(lambda: "tilts -60 to 54°" in panel.details.text())
    assert "tilt range" not in panel.notes.text()
    assert [panel.tomograms.itemText(k) for k in range(2)] == ["a (10)", "b (4)"], "what was said before still holds"

    # The diameter, and from it the box; contrast as the mean suggests, and turned over.
    assert panel.diameter.text() == "not known"
    panel.diameter.setValue(80)
    window.until(lambda: bench.opening.preview is not None)
    assert panel.box.text() == "box 128 Å (16 voxels)"
    assert len(panel.boxes) == 14
    assert len(panel.mean) == 1
    assert panel.bright.isChecked()
    assert not bench.session.invert
    before = np.array([panel.boxes._images[0].pixelColor(x, 8).red() for x in range(16)])
    click(panel.dark)
    assert bench.session.invert
    after = np.array([panel.boxes._images[0].pixelColor(x, 8).red() for x in range(16)])
    assert before[8] > before[0] + 50
    assert after[8] < after[0] - 50

    # Other particles: nothing of these is left while theirs cannot be seen.
    alone = write_list(two["list"].with_name("alone.star"), ["x"] * 3, AT[:3])
    bench.opening.open(alone)
    window.until(lambda: bench.session.source.path == alone)
    assert panel.headline.text() == "3 particles in 1 tomogram"
    assert len(panel.boxes) == len(panel.mean) == 0
    assert panel.locate.isVisible()
    window.settle()
    assert window.errors == []


def test_layers_come_and_go(window: Window, two: dict[str, Path], tiny_stack: Path):
    bench, panel, viewer = window.bench, window.rooms.particles, window.viewer
    drop(panel, two["list"], two["both"])
    window.until(lambda: len(viewer.layers) == 2)
    panel.diameter.setValue(80)
    window.settle()
    image, points = viewer.layers
    for layer in (image, points):
        assert {str(unit) for unit in layer.units} == {"angstrom"}
    assert image.scale.tolist() == [VOXEL] * 3
    assert (image.name, len(points.data)) == ("a", 10)
    np.testing.assert_allclose(points.data, AT * VOXEL)
    assert points.features["particle"].tolist() == list(range(10))
    assert (points.size == 80).all()
    assert viewer.canvas.overlays.scale_bar.visible

    # Another tomogram, chosen in the list: in the same layers.
    panel.tomograms.setCurrentIndex(1)
    panel.tomograms.activated.emit(1)
    window.until(lambda: len(points.data) == 4)
    assert list(viewer.layers) == [image, points]
    assert image.name == "b"
    assert points.features["particle"].tolist() == [10, 11, 12, 13]
    assert panel.tomograms.currentText() == "b (4)"

    # A point is deleted by hand: those that are left keep their names.
    points.selected_data = {0}
    assert bench.session.selection.ids.tolist() == [10]
    points.remove_selected()
    points.selected_data = {0, 2}
    assert bench.session.selection.ids.tolist() == [11, 13]
    window.until(lambda: points.features["selected"].tolist() == [True, False, True])
    points.add([40.0, 40.0, 40.0])
    points.selected_data = {3}
    assert bench.session.selection.ids.tolist() == [11, 13], "a point that was added is no particle"

    # Layers are deleted, and come back with the next choice; nothing minds in between.
    viewer.layers.clear()
    bench.opening.colour_points()
    panel.diameter.setValue(88)
    panel.tomograms.setCurrentIndex(0)
    panel.tomograms.activated.emit(0)
    window.until(lambda: len(viewer.layers) == 2)
    assert [layer.name for layer in viewer.layers] == ["a", "Particles"]
    assert (viewer.layers["Particles"].size == 88).all()
    np.testing.assert_allclose(viewer.layers["Particles"].data, AT * VOXEL)

    # A layer without units takes everybody's away: that is told, and mended.
    assert not panel.units.isVisible()
    viewer.add_image(np.zeros((4, 4, 4), np.float32), name="mask", scale=(2, 2, 2))
    assert viewer.layers.units is None
    window.until(panel.units.isVisible)
    assert "mask" in panel.units.text
    click(panel.units.findChild(type(panel.open_button)))
    assert {str(unit) for unit in viewer.layers.units} == {"angstrom"}
    assert viewer.layers["mask"].scale.tolist() == [2, 2, 2]
    assert not panel.units.isVisible()
    viewer.add_points(np.zeros((1, 3)), name="by hand")
    window.until(panel.units.isVisible)
    del viewer.layers["by hand"]
    window.until(lambda: not panel.units.isVisible())

    # Boxes have no tomogram: the layers stay, and the list of tomograms goes.
    window.open(tiny_stack)
    assert not panel.tomograms.isVisible()
    assert window.errors == []


def test_a_list_opened_after_a_run_shows_its_own_tomograms(window: Window, two: dict[str, Path], tmp_path: Path):
    """The run's particles lie in other tomograms than those of a list that was opened after it."""
    bench, panel, viewer = window.bench, window.rooms.particles, window.viewer
    extract(read_particles(two["list"], tomograms=two["both"]), tmp_path / "boxes", box=16)
    small = ["pose.mode=free", "training.coarse_size=16", "pose.diameter=64"]
    run = prepare(tmp_path / "boxes", tmp_path / "run", settings=small)
    window.open_run(run.path)
    assert [layer.name for layer in viewer.layers] == ["a", "Particles"]
    assert (viewer.layers["Particles"].size == 64).all()
    window.bench.results.show_particle(12)
    window.until(lambda: viewer.layers["Particles"].features["particle"].tolist() == [10, 11, 12, 13])
    assert viewer.layers[0].name == "b"

    write_tomogram(tmp_path / "volumes" / "c.mrc")
    others = write_list(tmp_path / "others.star", ["c"] * 5 + ["b"] * 2, np.concatenate([AT[5:], AT[:2]]))
    table = write_table(tmp_path / "tomograms_bc.star", {"b": "volumes/b.mrc", "c": "volumes/c.mrc"})
    drop(panel, others, table)
    window.until(lambda: bench.session.source is not None)
    window.settle()
    assert panel.tomograms.count() == 2
    for index in (1, 0):
        name = panel.tomograms.itemData(index)
        panel.tomograms.setCurrentIndex(index)
        panel.tomograms.activated.emit(index)
        window.until(lambda name=name: viewer.layers[0].name == name)
        assert len(viewer.layers["Particles"].data) == {"c": 5, "b": 2}[name]
        assert panel.tomograms.currentData() == name
    # Their diameter is asked for; that of the run was another particle's.
    assert panel.diameter.value() == 0
    assert bench.session.diameter is None
    # The run is opened again, and leaves the list's card as it is.
    panel.diameter.setValue(100)
    window.open_run(run.path)
    assert panel.diameter.value() == bench.session.diameter == 100
    assert (viewer.layers["Particles"].size == 64).all()
    assert window.errors == []


def test_a_training_waits_until_boxes_tell_the_contrast(window: Window, tmp_path: Path, monkeypatch):
    """Boxes are never cut by a contrast that nobody has seen, however soon the button is pressed."""
    bench, panel = window.bench, window.rooms.particles
    with mrcfile.open(write_tomogram(tmp_path / "ts.mrc"), mode="r+") as file:
        file.set_data(-file.data)
    path = write_list(tmp_path / "picks.star", ["ts"] * 10, AT)
    bench.opening.open(path, {"tomogram": tmp_path / "ts.mrc"})
    window.until(lambda: bench.session.source is not None)
    asked: list[tuple[str, Any]] = []
    monkeypatch.setattr(bench.helper, "ask", lambda task, given, **_: asked.append((task, given.get("invert"))))
    bench.opening.set_diameter(64)
    assert bench.opening.preview is None
    assert not panel.dark.isChecked()
    assert not panel.bright.isChecked()
    bench.training.train("quick", ["model.name=harmony"])
    bench.training.train("quick", ["model.name=harmony"])
    assert [task for task, _ in asked if task == "cut_boxes"] == []
    window.until(lambda: bench.opening.preview is not None)
    assert bench.session.invert
    assert panel.dark.isChecked()
    assert [one for one in asked if one[0] == "cut_boxes"] == [("cut_boxes", True)]

    # Of another list nothing is known again, and what was waiting is not begun.
    bench.training._set_preparing(False)
    asked.clear()
    first = bench.session.source
    other = write_list(tmp_path / "others.star", ["ts"] * 10, AT)
    bench.session.set_source(open_source(other, {"tomogram": tmp_path / "ts.mrc"}, 64))
    bench.opening.look()
    assert not panel.dark.isChecked()
    bench.training.train("quick", ["model.name=harmony"])
    bench.session.set_source(first)
    bench.opening.set_diameter(72)
    window.until(lambda: bench.opening.preview is not None)
    window.settle()
    assert [task for task, _ in asked if task == "cut_boxes"] == []
    bench.leave_off("cutting boxes")


def test_what_was_said_of_tilts_is_read_again(window: Window, tmp_path: Path):
    """From -90 degrees too, which is a tilt and not a blank."""
    bench, panel = window.bench, window.rooms.particles
    write_tomogram(tmp_path / "ts.mrc")
    path = write_list(tmp_path / "picks.star", ["ts"] * 10, AT)
    bench.opening.open(path, {"tomogram": tmp_path / "ts.mrc", "tilt_range": (-90.0, 60.0)}, diameter=64)
    window.until(lambda: bench.opening.preview is not None)
    assert (panel.tilt_low.value(), panel.tilt_high.value()) == (-90, 60)
    before = bench.session.source
    panel.unknowns.expand(animate=False)
    window.until(lambda: panel.read_again.height() > 10)
    click(panel.read_again)
    window.until(lambda: bench.session.source is not before)
    assert bench.session.source.particles.tilt_range == (-90.0, 60.0)
    window.settle()
    assert window.errors == []


def test_a_renamed_layer_is_offered_by_its_new_name(window: Window):
    layer = window.viewer.add_points(np.zeros((3, 3)), name="Points")
    layer.name = "picks"
    points = window.rooms.particles.points
    assert [points.itemText(k) for k in range(points.count())] == ["picks"]


def test_a_name_is_free_whatever_is_in_it(tmp_path: Path):
    for number in (1, 2):
        assert free_name(tmp_path, "picks[1]") == tmp_path / f"picks[1]_{number:02d}"
        (tmp_path / f"picks[1]_{number:02d}.star").touch()
