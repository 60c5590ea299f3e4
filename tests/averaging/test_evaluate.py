from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from molecules import VOXEL, Sample, molecule

from napari_disentangle.averaging import AverageEvaluation, average, evaluate_average
from napari_disentangle.averaging.evaluate import mean_map
from napari_disentangle.errors import InputError
from napari_disentangle.io.mrc import write_volume
from napari_disentangle.metrics.truth import Truth

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    write_volume(tmp_path / "blob_a.mrc", molecule(), VOXEL)
    write_volume(tmp_path / "blob_b.mrc", 3 * molecule(), VOXEL)
    write_volume(tmp_path / "blobby_c.mrc", -molecule(), VOXEL)
    return tmp_path


@pytest.fixture
def truth(clear: Sample, tmp_path: Path) -> Truth:
    """Shuffled, with particles that were not averaged, and one stranger in the selection."""
    order = np.random.default_rng(0).permutation(40)
    identity = np.array(["blob"] * 39 + ["junk"])[order]
    rotations = clear.truth.rotations[order].copy()
    rotations[identity == "junk"] = np.nan
    return Truth(
        path=tmp_path / "truth.csv",
        ids=np.append(clear.particles.ids[order], 500),
        identity=np.append(identity, "other"),
        state=np.array([""] * 41),
        rotations=np.concatenate([rotations, np.eye(3)[None]]),
        shifts=np.concatenate([clear.truth.offsets[order] / VOXEL, np.zeros((1, 3))]),
    )


def test_true_poses_are_all_the_way(clear: Sample, truth: Truth, maps: Path) -> None:
    aligned = average(clear.particles, clear.truth, mode="fixed").volume
    best = evaluate_average(aligned, clear.particles, truth, maps, selection="A/0")
    assert best.identity == "blob"
    assert best.purity == pytest.approx(39 / 40)
    assert best.fraction == pytest.approx(1, abs=0.05)
    assert best.unaligned < 0.9 < best.true_poses
    assert "A/0 (40 particles, 98% blob)" in str(best)
    assert AverageEvaluation.model_validate_json(best.model_dump_json()) == best
    assert json.loads(best.model_dump_json())["schema_version"] == 1


def test_the_mean_map_is_of_the_whole_identity_at_the_boxes_voxels(maps: Path) -> None:
    assert mean_map(maps, "blob", 20, VOXEL) == pytest.approx(2 * molecule(), abs=1e-5)
    coarse = mean_map(maps, "blob", 16, 20.0)
    assert coarse.shape == (16, 16, 16)
    assert coarse[8, 8, 8] == pytest.approx(2 * molecule()[10, 10, 10], rel=0.15)
    assert coarse[8, 8, 10] == pytest.approx(2 * molecule()[10, 10, 14], rel=0.15)


def test_bad_input_is_told(clear: Sample, truth: Truth, maps: Path) -> None:
    with pytest.raises(InputError, match="no map of virus"):
        mean_map(maps, "virus", 20, VOXEL)
    short = Truth(truth.path, truth.ids[:5], truth.identity[:5], truth.state[:5], truth.rotations[:5], truth.shifts[:5])
    with pytest.raises(InputError, match="does not list all"):
        evaluate_average(molecule(), clear.particles, short, maps)
    with pytest.raises(InputError, match="no poses"):
        evaluate_average(molecule(), clear.particles, Truth(truth.path, truth.ids, truth.identity, truth.state), maps)
