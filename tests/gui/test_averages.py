"""Averages beside what they are to be believed against: a control, and a map from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from driving import Window, click, mapped, tick
from qtpy.QtWidgets import QFileDialog

from napari_disentangle.export import read_average
from napari_disentangle.io.mrc import write_volume
from napari_disentangle.stages import average_selection

if TYPE_CHECKING:
    from pathlib import Path

    from napari_disentangle.run import Run


def test_a_map_and_a_control_beside_the_average(window: Window, trained: Run, tmp_path: Path, monkeypatch):
    run = mapped(trained, tmp_path / "run")
    group = run.selection("auto/0")
    average_selection(run, group, mode="fixed", rounds=0, starts=0)
    window.open_run(run.path)
    bench, panel = window.bench, window.rooms.averages
    window.rooms.tabs.setCurrentWidget(window.rooms.tabs.widget(2))
    window.until(lambda: bench.session.averages)
    assert not panel.compare.isEnabled(), "of both groups there is nothing to compare"
    panel.of.setCurrentIndex(panel.of.findData("auto/0"))
    window.until(lambda: len(panel._shown) == 2)

    # Compared with the average itself, shifted; a file that is no map is refused, and what was shown stays.
    given = tmp_path / "ribosome.mrc"
    shifted = np.roll(read_average(run.average_folder("auto/0")).volume, 2, axis=0)
    write_volume(given, shifted, bench.session.averages["auto/0"].record.voxel_size)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(given), ""))
    click(panel.compare)
    window.until(lambda: [one.title for one in panel._shown] == ["raw average", "decoded", "ribosome.mrc"], 60)
    assert "with ribosome.mrc: correlation 1.00" in panel.facts.text()
    assert "FSC 0.5 at" in panel.facts.text()
    assert "with&nbsp;ribosome.mrc" in panel.fsc._legend.text()
    back = panel._shown[2].volume
    assert np.corrcoef(back.ravel(), panel._shown[0].volume.ravel())[0, 1] > 0.9, "it is turned onto the average"
    bad = tmp_path / "notes.mrc"
    bad.write_text("not a map")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(bad), ""))
    click(panel.compare)
    window.until(lambda: window.errors)
    assert len(window.errors) == 1
    assert panel.problem.text == window.errors[0]
    assert window.errors[0].startswith(f"{bad} is not an MRC file")
    assert len(panel._shown) == 3

    # The control: as many others, averaged the same way, and kept.
    click(panel.control)
    window.until(lambda: "control: n = " in panel.facts.text(), 120)
    control = group.control(bench.session.ids)
    np.testing.assert_array_equal(run.selection(control.name).ids, control.ids)
    record = read_average(run.average_folder(control.name)).record
    assert record.ids == tuple(control.ids.tolist())
    tick(panel.decoded)
    window.until(
        lambda: [one.title for one in panel._shown] == ["group 1: average", "control: average", "ribosome.mrc"], 30
    )
    assert "group&nbsp;1" in panel.fsc._legend.text()
    assert "control" in panel.fsc._legend.text()

    # Of another group neither is shown.
    panel.of.setCurrentIndex(panel.of.findData("auto/1"))
    assert panel._shown == []
    assert not panel.control.isEnabled()
    window.settle(helper=True)


def test_volumes_that_come_after_the_panel_has_gone_are_left(window: Window, trained: Run, tmp_path: Path):
    run = mapped(trained, tmp_path / "run")
    average_selection(run, run.selection("auto/0"), mode="fixed", rounds=0, starts=0)
    window.open_run(run.path)
    panel = window.rooms.averages
    window.until(lambda: window.bench.session.averages and not window.bench.turns)
    window.settle()
    before = panel._shown
    panel.of.setCurrentIndex(panel.of.findData("auto/0"))  # a thread sees to its volumes
    panel.dispose()
    window.settle()
    assert panel._shown is before
