"""The docks: they open from napari's menu, leave nothing when they close, show the same again, and import little."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import psutil
import pytest
from napari.utils.notifications import notification_manager
from npe2 import PluginManager
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QScrollArea
from vispy.scene import SceneCanvas

from napari_disentangle.gui import window as docks
from napari_disentangle.gui.turns import Turns
from napari_disentangle.gui.window import AllPanels, LatentMaps, workbench_of
from napari_disentangle.run.events import append_event
from napari_disentangle.run.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_disentangle.run import Run

ALL = "Disentangle (all panels)"
NAMES = (ALL, "Particles", "Training", "Latent maps", "Averages")
STEP = {
    "epoch": 1, "epochs": 4, "steps": 16, "size": 8, "particles_per_second": 30.0, "eta_seconds": 4.0, "memory_gb": 0.5,
    "losses": {"total": 1.0, "distance": 0.5},
}  # fmt: skip


def open_dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-disentangle", name)[1]


def settle(qtbot: Any) -> None:
    """Have everything deleted that is to be."""
    for _ in range(2):
        qtbot.wait(30)
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()


def counted(canvases: WeakSet[SceneCanvas]) -> dict[str, int]:
    """What there is in this process."""
    threads = [one for one in threading.enumerate() if not isinstance(one, threading._DummyThread)]
    return {
        "widgets": len(QApplication.allWidgets()), "windows": len(QApplication.topLevelWidgets()),
        "canvases": len(canvases), "threads": len(threads),
        "processes": len(psutil.Process().children(recursive=True)),
    }  # fmt: skip


def shown(make_napari_viewer: Any) -> Any:
    """A viewer that can be seen; no fixture, which would keep it alive for longer than a viewer may be."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    return viewer


@pytest.fixture
def canvases(monkeypatch) -> WeakSet[SceneCanvas]:
    """All of vispy's canvases, from now on."""
    made: WeakSet[SceneCanvas] = WeakSet()
    begin = SceneCanvas.__init__

    def begin_and_remember(canvas: SceneCanvas, *args: Any, **kwargs: Any) -> None:
        begin(canvas, *args, **kwargs)
        made.add(canvas)

    monkeypatch.setattr(SceneCanvas, "__init__", begin_and_remember)
    return made


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """Sentences that napari is told, worse than information."""
    told: list[str] = []

    def hear(note: Any) -> None:
        if str(note.severity) != "info":
            told.append(note.message)

    notification_manager.notification_ready.connect(hear)
    yield told
    notification_manager.notification_ready.disconnect(hear)


@pytest.fixture(scope="module")
def mapped(trained: Run, tmp_path_factory) -> Run:
    """A run with a map, groups and an average, so that every canvas has something to draw."""
    from napari_disentangle.run import Run
    from napari_disentangle.stages import average_selection, cluster_run, embed_run

    folder = tmp_path_factory.mktemp("mapped") / "run"
    shutil.copytree(trained.path, folder)
    run = Run.open(folder)
    embed_run(run, "content", method="pca")
    groups = cluster_run(run, "content", k=2, name="auto", method="gmm")
    average_selection(run, groups[0], mode="fixed", rounds=0, starts=0, device="cpu")
    return run


def show_run(viewer: Any, qtbot: Any, run: Run) -> Any:
    """Open a run, and wait until all that it has is there; return the workbench."""
    bench = workbench_of(viewer)
    bench.opening.open(run.path)
    qtbot.waitUntil(lambda: bool(bench.session.averages) and bench.session.run.path == run.path, timeout=20_000)
    return bench


@pytest.mark.parametrize("name", NAMES)
def test_opened_and_closed_it_leaves_nothing(make_napari_viewer, qtbot, mapped, canvases, errors, name: str):
    viewer = shown(make_napari_viewer)
    seen: list[dict[str, int]] = []
    for _ in range(5):
        widget = open_dock(viewer, name)
        qtbot.waitUntil(widget.isVisible, timeout=10_000)
        if not seen:
            show_run(viewer, qtbot, mapped)
        qtbot.wait(100)  # surfaces are made in a thread, and drawn
        viewer.window.remove_dock_widget("all")
        del widget
        settle(qtbot)
        seen.append(counted(canvases))
    assert seen[1:] == [seen[1]] * 4
    assert errors == []


@pytest.mark.slow
def test_twenty_rounds_of_all_docks_leave_nothing(make_napari_viewer, qtbot, mapped, canvases):
    viewer = shown(make_napari_viewer)
    seen: list[dict[str, int]] = []
    for _ in range(20):
        for name in NAMES:
            open_dock(viewer, name)
        if not seen:
            show_run(viewer, qtbot, mapped)
        qtbot.wait(200)
        viewer.window.remove_dock_widget("all")
        settle(qtbot)
        seen.append(counted(canvases))
    assert seen[1:] == [seen[1]] * 19


def test_opened_again_it_shows_the_same_run_and_selection(make_napari_viewer, qtbot, mapped):
    viewer = shown(make_napari_viewer)
    maps = open_dock(viewer, "Latent maps")
    bench = show_run(viewer, qtbot, mapped)
    bench.session.select(bench.session.ids[:7], {"tool": "test"})
    told, places = maps.panel.count.text(), maps.panel.content.coordinates.copy()
    assert "7 selected" in told
    maps.parent().title.close_button.click()
    settle(qtbot)
    assert not viewer.window.dock_widgets

    again = open_dock(viewer, "Latent maps").panel
    assert again is not maps.panel
    assert again.count.text() == told
    np.testing.assert_array_equal(again.content.coordinates, places)
    np.testing.assert_array_equal(again.content.canvas._selected, bench.session.selected)
    assert workbench_of(viewer) is bench
    assert open_dock(viewer, "Averages").panel.of.currentText() == "the selection (7)"
    assert mapped.path.name in open_dock(viewer, "Training").panel.state.text()
    assert mapped.path.name in open_dock(viewer, ALL).panel.run.currentText()


def test_two_docks_of_the_same_panel_show_the_same(make_napari_viewer, qtbot, mapped, errors):
    viewer = shown(make_napari_viewer)
    one, other = open_dock(viewer, "Latent maps"), LatentMaps(viewer)
    viewer.window.add_dock_widget(other, name="other maps", area="bottom")
    bench = show_run(viewer, qtbot, mapped)
    bench.session.select(bench.session.ids[:5], {"tool": "test"})
    assert one.panel.count.text() == other.panel.count.text() == f"{len(bench.session.ids)} shown, 5 selected"
    viewer.window.remove_dock_widget(other)
    settle(qtbot)
    bench.session.select(bench.session.ids[:4], {"tool": "test"})
    assert "4 selected" in one.panel.count.text()
    qtbot.wait(50)
    assert errors == []


def test_hidden_it_lives_on_and_shown_it_is_up_to_date(make_napari_viewer, qtbot, mapped):
    viewer = shown(make_napari_viewer)
    maps = open_dock(viewer, "Latent maps")
    bench = show_run(viewer, qtbot, mapped)
    canvas, dock = maps.panel.content.canvas, maps.parent()
    dock.title.hide_button.click()
    settle(qtbot)
    assert not maps.isVisible()
    bench.session.select(bench.session.ids[:3], {"tool": "test"})
    dock.show()
    qtbot.waitUntil(canvas.isVisible, timeout=10_000)
    assert "3 selected" in maps.panel.count.text()
    assert canvas._selected.sum() == 3
    qtbot.waitUntil(lambda: canvas._scene.outlined.visible, timeout=10_000)


def test_closed_while_a_training_goes_on_it_is_heard_no_more(
    make_napari_viewer, qtbot, tiny_stack, tiny, tmp_path, errors
):
    """The training is this test, which writes into the run folder as `train` does in another process."""
    viewer = shown(make_napari_viewer)
    from napari_disentangle.training import prepare

    run = prepare(tiny_stack, tmp_path / "run", settings=tiny)
    heard: list[str] = []
    open_dock(viewer, ALL)
    bench = workbench_of(viewer)
    bench.trainer.events.connect(lambda events: heard.extend(event["event"] for event in events))
    with Lock(run.path):
        append_event(run.path, "started")
        bench.opening.open(run.path)
        qtbot.waitUntil(lambda: bench.trainer.state == "running", timeout=10_000)
        append_event(run.path, "progress", step=1, **STEP)
        qtbot.waitUntil(lambda: "progress" in heard, timeout=10_000)
        viewer.window.remove_dock_widget("all")
        settle(qtbot)
        append_event(run.path, "progress", step=2, **STEP)
        qtbot.waitUntil(lambda: heard.count("progress") == 2, timeout=10_000)
        assert bench.trainer.state == "running"

        again = open_dock(viewer, ALL).panel
        assert "Training." in again.training.state.text()
        append_event(run.path, "epoch", step=3, **STEP)
        qtbot.waitUntil(lambda: again.training.bar.value() == 3, timeout=10_000)
        viewer.window.remove_dock_widget("all")
        append_event(run.path, "finished", step=16)
    qtbot.waitUntil(lambda: bench.trainer.state == "finished", timeout=10_000)
    settle(qtbot)
    assert errors == []


def test_the_menu_opens_each(make_napari_viewer, qtbot):
    viewer = shown(make_napari_viewer)
    manifest = PluginManager.instance().get_manifest("napari-disentangle")
    assert {one.display_name for one in manifest.contributions.widgets} == set(NAMES)
    menu = next(action.menu() for action in viewer.window.plugins_menu.actions() if action.text() == "Disentangle")
    actions = {action.text(): action for action in menu.actions()}
    assert set(actions) == set(NAMES)
    for name in NAMES[::-1]:
        actions[name].trigger()
    docks = viewer.window.dock_widgets
    assert set(docks) == {f"{name} (Disentangle)" for name in NAMES}, "and all panels take the maps that are there"
    assert len({widget.bench for widget in docks.values()}) == 1
    for widget in docks.values():
        dock = widget.parent()
        assert isinstance(dock, QDockWidget)
        qtbot.waitUntil(widget.isVisible, timeout=10_000)
    actions["Particles"].trigger()
    assert not docks["Particles (Disentangle)"].isVisible(), "the menu hides what is there"

    viewer.window.remove_dock_widget("all")
    actions[ALL].trigger()
    assert set(docks) == {f"{name} (Disentangle)" for name in (ALL, "Latent maps")}
    actions["Latent maps"].trigger()
    assert len(docks) == 2, "the maps are hidden, and not opened a second time"


def test_all_panels_have_what_they_need_of_napari_from_its_public_proxy(make_napari_viewer_proxy, qtbot):
    viewer = make_napari_viewer_proxy(show=True)
    panels = AllPanels(viewer)
    viewer.window.add_dock_widget(panels, name="panels")
    bench = workbench_of(viewer)
    assert panels.bench is bench
    assert len(viewer.window.dock_widgets) == 2, "the maps come with them"
    viewer.add_points(np.zeros((1, 3)), name="picks")
    assert panels.panel.particles.points.currentText() == "picks"
    viewer.theme = "light"
    qtbot.waitUntil(panels.isVisible, timeout=10_000)


PANELS = ("particles", "maps", "training", "averages")
"""In the order in which all panels build them."""


@pytest.fixture
def built(monkeypatch) -> list[str]:
    """What is built, and "|" after each piece of work that had waited for its turn."""
    names: list[str] = []

    def note(name: str) -> None:
        build = getattr(docks, f"_{name}")
        monkeypatch.setattr(docks, f"_{name}", lambda *given: (names.append(name), build(*given))[1])

    for name in PANELS:
        note(name)
    take = Turns._take

    def take_and_note(turns: Turns) -> None:
        take(turns)
        names.append("|")

    monkeypatch.setattr(Turns, "_take", take_and_note)
    return names


def test_all_panels_are_built_one_in_each_turn_of_the_event_loop(make_napari_viewer, qtbot, built):
    """All of them take more than half a second the first time, and nobody could click or see anything meanwhile."""
    viewer = shown(make_napari_viewer)
    panels = open_dock(viewer, ALL)
    maps = next(widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, LatentMaps))
    assert built == ["particles"], "the rest waits"
    assert [panels.panel.tabs.tabText(k) for k in range(3)] == ["1 Particles", "2 Training", "3 Averages"]
    qtbot.waitUntil(lambda: not panels.bench.turns, timeout=10_000)
    assert [one for one in built if one != "|"] == list(PANELS)
    assert all(one == "|" or other == "|" for one, other in pairwise(built[1:])), "one in each turn"
    assert maps.panel.isVisible()
    assert maps.height() == docks.MAPS_HEIGHT


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_at_its_right(make_napari_viewer, qtbot, mapped, name: str):
    viewer = shown(make_napari_viewer)
    dock = open_dock(viewer, name)
    bench = show_run(viewer, qtbot, mapped)
    qtbot.waitUntil(lambda: not bench.turns)
    pages = [area for area in dock.findChildren(QScrollArea) if area.widget() is not None]
    assert pages or name == "Latent maps"

    def whole() -> bool:
        return dock.width() >= dock.minimumSizeHint().width() and all(
            area.viewport().width() >= area.widget().minimumSizeHint().width() for area in pages
        )

    def settled() -> bool:
        # Layouts follow each other over several turns: what is wide enough for the first may not be for the last.
        width = dock.width()
        qtbot.wait(100)
        return whole() and dock.width() == width

    qtbot.waitUntil(settled)
    width = dock.width()
    bench.busy.emit("comparing with a_map_with_a_long_name_of_its_own_as_they_come_from_the_databank.mrc", 0.5)
    qtbot.wait(50)
    assert dock.width() == width, "what is being computed does not widen it"
    assert viewer.window._qt_window.width() == 1280, "wider than many a screen"
    dock.parentWidget().close()


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("closed", ["viewer", "docks", "maps"])
def test_closed_while_it_is_being_built_it_leaves_nothing(
    make_napari_viewer, qtbot, canvases, errors, built, turns: int, closed: str
):
    viewer = shown(make_napari_viewer)
    naparis = len(canvases)
    panels = open_dock(viewer, ALL)
    bench = panels.bench
    qtbot.waitUntil(lambda: built.count("|") >= turns, timeout=10_000)
    done = [name for name in built if name != "|"]
    if closed == "viewer":
        del panels
        viewer.close()
        naparis = 0
        qtbot.waitUntil(lambda: bench.closed, timeout=5_000)
        assert not bench.turns
    elif closed == "docks":
        del panels
        viewer.window.remove_dock_widget("all")
        assert not bench.turns
    else:
        maps = next(widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, LatentMaps))
        maps.parent().title.close_button.click()
        qtbot.waitUntil(lambda: not bench.turns, timeout=10_000)
        assert {"particles", "training", "averages"} <= set(built), "the other panels come all the same"
        assert panels.panel.averages.isVisibleTo(panels.panel.tabs.widget(2))
        del panels, maps
    settle(qtbot)
    if closed != "maps":
        assert [name for name in built if name != "|"] == done, "nothing is built for nobody"
        assert len(canvases) == naparis
    assert errors == []


def test_a_window_that_closes_while_volumes_are_made_says_nothing(make_napari_viewer, qtbot, mapped, errors):
    viewer = shown(make_napari_viewer)
    panel = open_dock(viewer, ALL).panel
    bench = show_run(viewer, qtbot, mapped)
    qtbot.waitUntil(lambda: not bench.turns)
    panel.tabs.setCurrentIndex(2)
    settle(qtbot)
    of = panel.averages.of
    of.setCurrentIndex(of.findData("auto/1" if of.currentData() == "auto/0" else "auto/0"))  # in a thread
    del panel, of
    viewer.close()
    settle(qtbot)
    assert errors == []


def test_a_run_that_is_opened_before_the_panels_are_there_is_shown_in_all(make_napari_viewer, qtbot, mapped, built):
    """As ``napari-disentangle open RUN`` does it."""
    viewer = shown(make_napari_viewer)
    panels = open_dock(viewer, ALL)
    bench = workbench_of(viewer)
    bench.opening.open(mapped.path)
    bench.tell("training", "something is wrong")
    assert built == ["particles"]
    qtbot.waitUntil(lambda: bool(bench.session.averages) and not bench.turns, timeout=20_000)
    rooms = panels.panel
    maps = next(widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, LatentMaps)).panel
    count = len(bench.session.ids)
    assert maps.count.text().startswith(f"{count} shown")
    assert maps.content.coordinates.shape == (count, 2)
    assert mapped.path.name in rooms.training.state.text()
    assert rooms.averages.of.findText("each of 2 groups") >= 0
    assert mapped.path.name in rooms.run.currentText()
    settle(qtbot)


def test_a_panel_that_is_asked_for_before_its_turn_is_built_at_once(make_napari_viewer, qtbot, built):
    viewer = shown(make_napari_viewer)
    panels = open_dock(viewer, ALL)
    panels.bench.tell("averages", "something is wrong")
    panels.panel.averages.problem.say("")
    assert panels.panel.training is panels.panel.training
    assert [one for one in built if one != "|"] == ["particles", "averages", "training"]
    qtbot.waitUntil(lambda: not panels.bench.turns, timeout=10_000)
    assert sorted(one for one in built if one != "|") == sorted(PANELS), "each once"


def test_what_went_wrong_before_a_panel_was_there_is_said_in_it(make_napari_viewer, qtbot):
    viewer = shown(make_napari_viewer)
    panels = open_dock(viewer, ALL)
    for room in ("training", "maps", "averages"):
        panels.bench.problem.emit(room, f"{room} are wrong")
    panels.bench.problem.emit("averages", "")
    qtbot.waitUntil(lambda: not panels.bench.turns, timeout=10_000)
    maps = next(widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, LatentMaps))
    told = [one.problem.text for one in (panels.panel.training, maps.panel, panels.panel.averages)]
    assert told == ["training are wrong", "maps are wrong", ""]


IMPORTS = """
import json, sys, time
from pathlib import Path

import napari
import numpy as np

viewer = napari.Viewer()
viewer.add_image(np.zeros((4, 4, 4)))
viewer.add_points(np.zeros((1, 3)), features={"a": [1]})
viewer.layers.clear()
application, there = napari.qt.get_qapp(), set(sys.modules)

from napari_disentangle import sample
from napari_disentangle.gui.window import workbench_of


def until(condition):
    end = time.monotonic() + 120
    while not condition():
        application.processEvents()
        time.sleep(0.01)
        assert time.monotonic() < end, condition


sample.sample_folder = lambda: Path(sys.argv[1])
docks = [viewer.window.add_plugin_dock_widget("napari-disentangle", name)[1] for name in json.loads(sys.argv[3])]
bench = workbench_of(viewer)
docks[0].panel.particles.sample_button.click()
until(lambda: bench.opening.preview is not None)
bench.opening.open(Path(sys.argv[2]))
until(lambda: bench.session.averages)
seen = []
bench.results.pictured.connect(seen.append)
bench.session.select(bench.session.ids[:5], {"tool": "test"})
until(lambda: seen)
docks[0].panel.tabs.setCurrentIndex(2)
docks[0].panel.averages.of.setCurrentIndex(docks[0].panel.averages.of.findData("auto/0"))
until(lambda: docks[0].panel.averages.volumes.canvas is not None)
print(json.dumps(sorted(set(sys.modules) - there)))
viewer.close()
until(lambda: bench.closed)
"""


def test_nothing_heavy_is_imported_into_naparis_process(mapped, tmp_path):
    """By all docks, the sample, which is made first, a trained run, a selection and its average."""
    words = [sys.executable, "-c", IMPORTS, str(tmp_path / "cache"), str(mapped.path), json.dumps(NAMES)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert "napari_disentangle" in found
    heavy = {"torch", "accelerate", "numba", "umap", "pynndescent", "sklearn", "matplotlib", "starfile"}
    assert not found & heavy
