"""The demo goes the whole path and says where everything is; its parts are tested elsewhere, so here they are short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_disentangle import demo, stages
from napari_disentangle.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch):
    """Keep the wiring and leave out what takes long: epochs, searches, comparisons with maps."""
    average = stages.average_selection
    monkeypatch.setattr(
        stages, "average_selection", lambda run, group, **_: average(run, group, mode="fixed", rounds=0)
    )
    monkeypatch.setattr(stages, "evaluate_averages", lambda *_: [])
    monkeypatch.setattr(demo, "SHORT", ("training.epochs=1", "training.fine_epochs=0", "pose.search=false"))


@pytest.mark.usefixtures("short")
def test_the_demo_makes_everything_that_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    for name in ("report.html", "sample", "boxes", "chosen.star", "run"):
        assert (out / name).exists()
        assert str(out / name) in told
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 1 + demo.GROUPS + 1
    assert "P(c|z)" in page
    for k in range(demo.GROUPS):
        assert (out / "run" / "averages" / demo.NAME / str(k) / "average.mrc").exists()

    before = (out / "report.html").stat().st_mtime_ns
    assert main(["demo", "--out", str(out)]) == 1
    assert (out / "report.html").stat().st_mtime_ns == before


def test_the_demo_replaces_nothing_but_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "precious").write_text("")
    assert main(["demo", "--out", str(tmp_path), "--overwrite"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "precious").exists()
