"""The whole path in a real window, with mouse and keys: open, look, train, lasso, export."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from driving import click, drag, rows_of
from matplotlib.path import Path as Outline
from napari.utils import progress
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDialog

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)
def test_open_look_train_lasso_export(make_napari_viewer, qtbot, cache: Path):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    _, panels = viewer.window.add_plugin_dock_widget("napari-disentangle", "Disentangle (all panels)")
    bench, rooms = panels.bench, panels.panel
    qtbot.waitUntil(lambda: not bench.turns, timeout=10_000)
    maps = next(dock for name, dock in viewer.window.dock_widgets.items() if "maps" in name).panel

    # 1. Open: the sample, by its button; it appears with its particles.
    qtbot.waitUntil(lambda: rooms.particles.sample_button.isVisible(), timeout=10_000)
    click(rooms.particles.sample_button)
    qtbot.waitUntil(lambda: bench.opening.preview is not None, timeout=60_000)
    assert [layer.name for layer in viewer.layers] == ["Tomogram", "Particles"]
    assert "100 particles in 1 tomogram" in rooms.particles.headline.text()
    assert len(viewer.layers["Particles"].data) == 100

    # 2. and 3. It looks right: boxes are cut, and a quick look is trained.
    click(rooms.particles.right)
    qtbot.waitUntil(lambda: bench.session.coordinates("invariants", "pca") is not None, timeout=120_000)
    assert bench.session.is_new, "the map of invariants is there before training has said anything"
    qtbot.waitUntil(lambda: any("training" in bar.desc for bar in progress._all_instances), timeout=120_000)
    qtbot.waitUntil(lambda: bench.trainer.state == "finished", timeout=300_000)
    assert not any("training" in bar.desc for bar in progress._all_instances), "its bar has left the activity dock"
    qtbot.waitUntil(lambda: ("content", "umap") in bench.session.maps and bool(bench.session.groups), timeout=120_000)
    qtbot.waitUntil(lambda: maps.content.described == "content (umap)", timeout=10_000)
    assert not rooms.training.problem.isVisible()
    ids = bench.session.ids
    assert len(ids) == 100

    # 4. A lasso around the left half of the map, drawn with the mouse after pressing L.
    canvas, places = maps.content.canvas, maps.content.coordinates
    canvas.window().activateWindow()
    canvas.native.setFocus()
    qtbot.waitUntil(canvas.native.hasFocus, timeout=5_000)
    QTest.keyClick(canvas.native, Qt.Key.Key_L)
    assert canvas.tool == "lasso"
    middle, low, high = np.median(places[:, 0]), places.min(0) - 0.5, places.max(0) + 0.5
    corners = np.array([low, (middle, low[1]), (middle, high[1]), (low[0], high[1])])
    pixels = np.clip(canvas.to_pixels(corners), 1, [canvas.native.width() - 2, canvas.native.height() - 2])
    along = np.concatenate([np.linspace(a, b, 12) for a, b in zip(pixels, np.roll(pixels, -1, 0), strict=True)])
    drag(canvas.native, along)
    qtbot.waitUntil(lambda: bench.session.selection is not None and len(bench.session.selection) > 0, timeout=5_000)
    chosen = bench.session.selection
    inside = Outline(canvas.to_map(np.round(along))).contains_points(places)
    np.testing.assert_array_equal(chosen.ids, np.sort(ids[inside]))
    assert 20 < len(chosen) < 80, "the lasso parts the map"
    assert f"{len(chosen)} selected" in maps.count.text()
    qtbot.waitUntil(lambda: not bench.turns)
    points = viewer.layers["Particles"]
    np.testing.assert_array_equal(points.features["particle"][points.features["selected"]], chosen.ids)
    qtbot.waitUntil(lambda: len(maps.gallery) > 0, timeout=10_000)

    # Its average, beside what the model makes of it.
    rooms.tabs.setCurrentIndex(2)
    click(rooms.averages.make)
    qtbot.waitUntil(lambda: chosen.name in bench.session.averages, timeout=120_000)
    qtbot.waitUntil(lambda: not bench.turns)
    assert f"n = {len(chosen)}" in rooms.averages.facts.text()

    # 5. Export, by the dialog.
    click(maps.export)
    qtbot.waitUntil(lambda: maps.findChild(QDialog, "export") is not None, timeout=5_000)
    dialog = maps.findChild(QDialog, "export")
    out = cache / "chosen.star"
    dialog.path.selectAll()
    QTest.keyClicks(dialog.path, str(out))
    with qtbot.waitSignal(bench.results.exported, timeout=30_000) as told:
        click(dialog.write)
    assert f"{len(chosen)} of 100 particles" in told.args[0]
    original = rows_of(cache / "tomogram" / "particles.star")
    assert rows_of(out) == [original[i] for i in chosen.ids]
    sidecar = json.loads(out.with_suffix(".json").read_text())
    assert sidecar["ids"] == chosen.ids.tolist()
    assert sidecar["how"]["tool"] == "lasso"

    # And closing leaves nothing, but the run.
    run = bench.session.run.path
    viewer.close()
    qtbot.waitUntil(lambda: bench.closed, timeout=5_000)
    assert (run / "codes.npz").is_file()
    np.testing.assert_array_equal(json.loads((run / "selections" / "drawn" / "0.json").read_text())["ids"], chosen.ids)
