"""Fixtures that every test may use."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mrcfile
import pytest

from napari_disentangle.fourier import fourier_crop
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.mrc import write_volume_stack
from napari_disentangle.sample import MAPS
from napari_disentangle.simulate import simulate_stack

if TYPE_CHECKING:
    from napari_disentangle.run import Run

# Before Qt and napari are imported: one binding for pytest-qt and qtpy; pytest-xvfb's display rather than the user's
# Wayland; no settings read from or written to the user's home.
os.environ.setdefault("QT_API", "pyqt6")
os.environ["PYTEST_QT_API"] = os.environ["QT_API"]
os.environ["NAPARI_CONFIG"] = ""
if sys.platform == "linux":
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    for name in ("WAYLAND_DISPLAY", "XDG_SESSION_TYPE"):
        os.environ.pop(name, None)

TINY = (
    "training.coarse_size=8", "training.fine_size=16", "training.epochs=2", "training.fine_epochs=1", "training.batch_size=8",
    "training.checkpoint_every=1", "model.content_dims=3", "pose.mode=free", "pose.search=false",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that napari's fixtures ask for, and which only its plugin, switched off here, would add."""
    parser.addoption("--show-napari-viewer", action="store_true", help="show the viewers that tests make")
    parser.addoption(
        "--save-leaked-object-graph", action="store_true", help="draw what holds a leaked viewer (objgraph)"
    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files and density maps; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("DISENTANGLE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"needs the shared data folder, which is not at {root / 'data'} (set DISENTANGLE_SHARED)")
    return root / "data"


@pytest.fixture(scope="session")
def gpu() -> str:
    """The device of a GPU; tests that need one are skipped where there is none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, which PyTorch does not find here")
    return "cuda"


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Settings that train boxes of 16 voxels in a second."""
    return TINY


@pytest.fixture(scope="session")
def tiny_stack(tmp_path_factory) -> Path:
    """The list of 30 boxes of 16 voxels (20 A), five of each packaged map, at SNR 10, with true poses and priors."""
    folder = tmp_path_factory.mktemp("tiny_stack")
    done = simulate_stack(MAPS, folder / "full", per=5, snr=10, seed=3)
    with mrcfile.open(done.stack) as file:
        boxes = fourier_crop(file.data, 16)
    with done.truth.open(newline="") as file:
        truth = list(csv.DictReader(file))
    write_volume_stack(folder / "particles.mrcs", boxes, 20.0)
    n = len(boxes)
    table = {"rlnImageName": [f"{i + 1:06d}@particles.mrcs" for i in range(n)], "rlnOpticsGroup": [1] * n}
    for angle in ("Rot", "Tilt", "Psi"):
        table[f"rlnAngle{angle}"] = [float(row[angle.lower()]) for row in truth]
    for angle in ("Tilt", "Psi"):
        table[f"rlnAngle{angle}Prior"] = table[f"rlnAngle{angle}"]
    for axis in "XYZ":
        table[f"rlnOrigin{axis}Angst"] = [-10 * float(row[f"shift_{axis.lower()}"]) for row in truth]
    optics = {"rlnOpticsGroup": [1], "rlnImagePixelSize": [20.0], "rlnImageSize": [16], "rlnImageDimensionality": [3]}
    path = folder / "particles.star"
    path.write_text(star_text({"optics": optics, "particles": table}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tiny_stack, tmp_path_factory) -> Run:
    """A trained run, with a wedge and both stages; for reading only."""
    from napari_disentangle.training import fit, prepare

    run = prepare(
        tiny_stack, tmp_path_factory.mktemp("trained") / "run", settings=TINY, reading={"tilt_range": (-60.0, 60.0)}
    )
    for _ in fit(run, device="cpu"):
        pass
    return run
