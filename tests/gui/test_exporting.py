"""The export dialog: what it offers is what is written, and what was written is told with counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from driving import Window, click, mapped, tick
from qtpy.QtWidgets import QFileDialog

from napari_disentangle.export import read_average
from napari_disentangle.io.star import StarFile
from napari_disentangle.stages import average_selection

if TYPE_CHECKING:
    from pathlib import Path

    from napari_disentangle.run import Run


def block_of(path: Path) -> Any:
    return next(block for block in StarFile.read(path).blocks if "rlnImageName" in block)


def test_the_export_dialog(window: Window, trained: Run, tmp_path: Path, monkeypatch):
    bench, maps = window.bench, window.maps
    run = mapped(trained, tmp_path / "run")
    average_selection(run, run.selection("auto/0"), mode="fixed", rounds=0, starts=0)
    window.open_run(run.path)
    window.until(lambda: "auto/0" in bench.session.averages)
    original = block_of(run.particles().original)

    def written(dialog: Any) -> str:
        with window._qtbot.waitSignal(bench.results.exported, timeout=10_000) as told:
            click(dialog.write)
        window.until(lambda: not dialog.isVisible())
        assert window.told[-1].message == told.args[0], "it is a notification too"
        return told.args[0]

    assert not maps.export.isEnabled(), "nothing is selected"
    click(maps._chips.itemAt(0).widget())
    chosen = run.selection("auto/0").ids
    n = len(chosen)
    assert maps.export.text() == f"Export {n}…"

    # The rows alone, to the place that is offered, which is the run's own.
    click(maps.export)
    dialog = window.dialog()
    assert dialog.path.text() == str(run.path / "exports" / "run_auto_0.star")
    assert dialog.write.text() == f"Export {n}"
    out = run.path / "exports" / "run_auto_0.star"
    assert f"{n} of 30 particles" in written(dialog)
    assert block_of(out).rows == [original.rows[i] for i in chosen]
    assert sorted(p.name for p in out.parent.iterdir()) == ["run_auto_0.json", "run_auto_0.star"]

    # All that can be had, to a place that was browsed for.
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "all" / "mine.star"), ""))
    dialog = window.export_dialog(tmp_path / "elsewhere.star")
    click(next(b for b in dialog.findChildren(type(dialog.write)) if b.text() == "Browse…"))
    for box in (dialog.poses, dialog.rest, dialog.maps):
        tick(box)
    words = written(dialog)
    for part in (f"{n} of 30 particles", f"the other {30 - n} -> mine_rest.star", "maps -> mine_maps/"):
        assert part in words
    out = tmp_path / "all" / "mine.star"
    poses = block_of(out)
    added = poses.columns[len(original.columns) :]
    assert added == ["disentangleAngleRot", "disentangleAngleTilt", "disentangleAnglePsi", *(f"disentangleOrigin{k}Angst" for k in "XYZ")]  # fmt: skip
    assert [row[: len(original.columns)] for row in poses.rows] == [original.rows[i] for i in chosen]
    codes = run.codes()
    at = [int(np.flatnonzero(codes.ids == i)[0]) for i in chosen]
    shifts = np.array([[float(v) for v in row[-3:]] for row in poses.rows])
    np.testing.assert_allclose(shifts, -codes.pose.offsets[at], atol=1e-5)
    assert block_of(out.with_name("mine_rest.star")).rows == [
        original.rows[i] for i in range(30) if i not in chosen.tolist()
    ]
    kept = out.with_name("mine_maps")
    assert {p.name for p in kept.iterdir()} == {
        "average.mrc", "half1.mrc", "half2.mrc", "decoded.mrc", "fsc.csv", "average.json"
    }  # fmt: skip
    np.testing.assert_array_equal(read_average(kept).volume, bench.session.averages["auto/0"].volume)
    sidecar = json.loads(out.with_suffix(".json").read_text())
    assert sidecar["ids"] == chosen.tolist()
    assert sidecar["count"] == n
    assert sidecar["pose_columns"] == added
    assert sidecar["selection"] == "auto/0"

    # The same again is refused, and replaces all three once the box is ticked.
    (kept / "fsc.csv").unlink()
    dialog = window.export_dialog(out)
    for box in (dialog.rest, dialog.maps):
        tick(box)
    click(dialog.write)
    window.until(lambda: dialog.problem.text)
    assert "exists already" in dialog.problem.text
    assert dialog.isVisible()
    assert len(window.errors) == 1
    assert block_of(out).columns == poses.columns, "nothing was replaced"
    tick(dialog.overwrite)
    written(dialog)
    assert block_of(out).columns == original.columns
    assert (kept / "fsc.csv").is_file()

    # Maps of other particles are not offered: a stroke that leaves one out has no average, whatever its name.
    bench.session.select(chosen[1:], {"tool": "polygon", "points": [[0, 0], [1, 0], [1, 1]], "map": "content (umap)"})
    dialog = window.export_dialog(tmp_path / "drawn.star")
    assert not dialog.maps.isEnabled()
    written(dialog)
    sidecar = json.loads((tmp_path / "drawn.json").read_text())
    assert sidecar["how"] == {"tool": "polygon", "points": [[0, 0], [1, 0], [1, 1]], "map": "content (umap)"}
    assert block_of(tmp_path / "drawn.star").rows == [original.rows[i] for i in chosen[1:]]

    # Enlarged by hand afterwards, the dialog still exports what it says.
    dialog = window.export_dialog(tmp_path / "then.star")
    bench.session.select(bench.session.ids, {"tool": "all"})
    assert dialog.write.text() == f"Export {n - 1}"
    written(dialog)
    assert len(block_of(tmp_path / "then.star").rows) == n - 1
    assert len(window.errors) == 1


def test_maps_that_are_in_the_way_are_refused_before_anything_is_written(window: Window, trained: Run, tmp_path: Path):
    run = mapped(trained, tmp_path / "run")
    average_selection(run, run.selection("auto/0"), mode="fixed", rounds=0, starts=0)
    window.open_run(run.path)
    window.until(lambda: "auto/0" in window.bench.session.averages)
    click(window.maps._chips.itemAt(0).widget())
    (tmp_path / "mine_maps").mkdir()
    (tmp_path / "mine_maps" / "photo.jpg").touch()
    dialog = window.export_dialog(tmp_path / "mine.star")
    tick(dialog.maps)
    for _ in range(2):
        click(dialog.write)
        window.until(lambda: dialog.problem.text and dialog.write.isEnabled())
        tick(dialog.overwrite)
    assert "holds something else and is not overwritten" in dialog.problem.text
    assert len(window.errors) == 2
    assert not (tmp_path / "mine.star").exists()
    assert [p.name for p in (tmp_path / "mine_maps").iterdir()] == ["photo.jpg"]
    click(dialog.buttons.button(dialog.buttons.StandardButton.Cancel))
