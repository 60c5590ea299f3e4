"""What a training will take, from a few steps: more work is more time, and nothing is left behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.io.mrc import write_volume_stack
from napari_disentangle.sample import MAPS
from napari_disentangle.simulate import simulate_tomogram
from napari_disentangle.training import prepare
from napari_disentangle.training.device import choose_device
from napari_disentangle.training.estimate import PYTORCH_GB, START, Estimate, estimate_training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def estimated(tiny_stack, tiny) -> Callable[..., Estimate]:
    """Estimate a training of the tiny stack with these settings."""

    def made(*settings: str, stack: Path = tiny_stack, **more: Any) -> Estimate:
        return estimate_training(stack, settings=[*tiny, *settings], device="cpu", **more)

    return made


def test_more_epochs_cost_more(estimated):
    few, many = estimated(), estimated("training.epochs=20000", "training.fine_epochs=20000")
    assert few.particles == many.particles == 30
    assert few.seconds >= START
    assert many.seconds > 100 * (few.seconds - START)
    assert many.seconds > few.seconds + 60, "40000 epochs of four steps are no minute"


def test_both_stages_count(estimated):
    coarse = estimated("training.epochs=20000", "training.fine_epochs=0")
    fine = estimated("training.epochs=0", "training.fine_epochs=20000")
    neither = estimated("training.epochs=1", "training.fine_epochs=0")
    for one in (coarse, fine):
        assert one.seconds > neither.seconds + 60


def test_smaller_batches_are_more_steps(estimated):
    """A step of two costs nearly what a step of thirty does, and there are fifteen times as many."""
    epochs = ("training.epochs=3000", "training.fine_epochs=0")
    small, large = estimated("training.batch_size=2", *epochs), estimated("training.batch_size=1000", *epochs)
    assert small.seconds > 1.5 * large.seconds


def test_a_search_of_poses_adds_its_time(estimated):
    """A second or more, even for these few and small ones; the few steps take less."""
    without, searched = estimated(), estimated("pose.search=true")
    assert searched.seconds > without.seconds + 0.5
    fixed = estimated("pose.search=true", "pose.mode=fixed")
    assert fixed.seconds < searched.seconds - 0.3, "imported poses are not searched"


def test_a_list_of_positions_is_estimated_before_its_boxes_are_cut(tiny, tmp_path):
    made = simulate_tomogram(MAPS, tmp_path / "tomogram", count=30, size=(48, 96, 96), snr=1.0, spacing=12)
    before = sorted(tmp_path.rglob("*"))
    settings = [*tiny, "training.epochs=20000"]
    found = estimate_training(made.optimisation_set, settings=[*settings, "pose.diameter=150"], device="cpu")
    assert found.particles == made.count
    assert found.seconds > 30
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="give the particle's diameter"):
        estimate_training(made.optimisation_set, settings=settings, device="cpu")


MEMORY = """
import sys
from pathlib import Path
from napari_disentangle.training.estimate import estimate_training
print(estimate_training(Path(sys.argv[1]), settings=sys.argv[2:], device="cpu").memory_gb)
"""


def test_memory_is_more_than_torch_alone_and_grows_with_the_steps(tmp_path, tiny):
    boxes = np.random.default_rng(0).standard_normal((24, 32, 32, 32)).astype(np.float32)
    write_volume_stack(tmp_path / "boxes.mrcs", boxes, 10.0)
    settings = [*tiny, "training.coarse_size=24", "training.fine_epochs=0"]

    def memory(size: int) -> float:
        """In a process of its own: memory that others gave back here would be used again, and not be seen."""
        words = [sys.executable, "-c", MEMORY, str(tmp_path / "boxes.mrcs"), *settings, f"training.batch_size={size}"]
        return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    small, large = memory(2), memory(24)
    assert small >= PYTORCH_GB
    assert large > small
    assert large < 8


def test_nothing_is_written(estimated, tiny_stack, tmp_path, monkeypatch):
    stack = tmp_path / "boxes" / "particles.star"
    shutil.copytree(tiny_stack.parent, stack.parent, ignore=shutil.ignore_patterns("full"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def listing() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    before = listing()
    estimated(stack=stack)
    assert listing() == before


def test_it_says_where_it_would_run(estimated, tiny_stack, tiny):
    words = estimated().words
    assert words == choose_device("cpu")[1]
    assert words.startswith("on CPU, ")
    found = estimate_training(tiny_stack, settings=tiny)
    assert found.words == choose_device("auto")[1]


class TestErrors:
    """What `prepare` refuses, this refuses with the same sentence, before a second is spent."""

    @pytest.fixture
    def same(self, tmp_path: Path) -> Callable[..., str]:
        def refused(particles: Path, **given: Any) -> str:
            with pytest.raises(InputError) as estimated:
                estimate_training(particles, **given)
            with pytest.raises(InputError) as prepared:
                prepare(particles, tmp_path / "run", **given)
            assert str(estimated.value) == str(prepared.value)
            return str(estimated.value)

        return refused

    def test_of_settings_and_files(self, same, tiny_stack, tiny, tmp_path):
        assert "does not exist" in same(tmp_path / "absent.star")
        assert "no preset" in same(tiny_stack, preset="slow")
        assert "no setting" in same(tiny_stack, settings=["training.speed=9"])
        assert "smaller than the 32" in same(tiny_stack, settings=[*tiny, "training.coarse_size=32"])
        assert "does not fit" in same(tiny_stack, settings=[*tiny, "pose.diameter=9000"])
        assert "no range of tilts" in same(tiny_stack, settings=tiny, reading={"tilt_range": (60.0, -60.0)})

    def test_of_particles(self, same, tiny_stack, tiny, tmp_path):
        with mrcfile.open(tiny_stack.with_suffix(".mrcs")) as file:
            boxes = file.data[:7]
        write_volume_stack(tmp_path / "seven.mrcs", boxes, 20.0)
        assert "training needs at least 8" in same(tmp_path / "seven.mrcs", settings=tiny)
        assert "poses" in same(tiny_stack.with_suffix(".mrcs"), settings=[*tiny, "pose.mode=local"])

    def test_of_a_gpu_that_is_not_there(self, tiny_stack, tiny):
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(InputError, match="--device cuda"):
            estimate_training(tiny_stack, settings=tiny, device="cuda")
