"""Images, grey and coloured, through the window: opened, trained on, looked at, and averaged nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from driving import Window, click

if TYPE_CHECKING:
    from pathlib import Path

COUNT, SIDE = 60, 16


@pytest.mark.parametrize(("channels", "model"), [(1, "harmony"), (3, "vae-two-spaces")])
def test_images_go_the_same_way(window: Window, tmp_path: Path, channels: int, model: str):
    rng = np.random.default_rng(0)
    shape = (COUNT, SIDE, SIDE, 3) if channels == 3 else (COUNT, SIDE, SIDE)
    images = rng.normal(size=shape).astype(np.float32)
    images[::2, 4:12, 6:10] += 3
    images[1::2, 6:10, 4:12] += 3
    np.savez(tmp_path / "pictures.npz", images=images)
    bench = window.bench
    window.open(tmp_path / "pictures.npz")
    assert bench.problems.get("particles", "") == ""
    panel = window.rooms.particles
    assert len(panel.boxes._images) == 16
    assert panel.boxes._tooltips[0].startswith("particle ")
    assert "low-passed" not in panel.boxes._tooltips[0]
    assert panel.contrast_guess.text() == ""
    settings = [f"model.name={model}", "training.epochs=2", "training.fine_epochs=0", "training.batch_size=16"]
    bench.training.train("quick", settings, "cpu")
    window.until(lambda: bench.trainer.state == "finished", 120)
    window.until(lambda: window.errors or bench.session.coordinates("content", "umap") is not None, 60)
    assert window.errors == []
    window.settle(helper=True)
    assert bench.training.last_reconstructed is not None
    raw, decoded = bench.training.last_reconstructed
    assert raw.shape == decoded.shape == (4, SIDE, SIDE)
    bench.session.select(bench.session.ids[::2], {"tool": "test"})
    window.settle()
    assert len(window.maps.gallery._images) == 24
    shown = []
    bench.results.particle_shown.connect(shown.append)
    bench.results.show_particle(int(bench.session.ids[3]))
    window.until(lambda: shown)
    assert shown[0]["raw"].shape == shown[0]["decoded"].shape == (SIDE, SIDE)
    window.settle(helper=True)
    assert window.errors == []
    assert bench.problems.get("training", "") == bench.problems.get("maps", "") == ""
    click(window.maps.export)
    window.dialog().reject()
    window.settle()
