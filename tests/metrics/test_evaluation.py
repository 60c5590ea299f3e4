"""The whole evaluation: matched by id, chance beside every number, no crash where a number cannot be had."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import random_rotations
from napari_disentangle.metrics import (
    Evaluation,
    Score,
    Truth,
    evaluate_codes,
    informativeness,
)
from napari_disentangle.particles import Pose

VOXEL = 10.0
IDENTITIES = ("groel-groes", "nucleosome", "spike")
EACH = 40


def one_hot(labels: np.ndarray, seed: int = 1) -> np.ndarray:
    names, index = np.unique(labels, return_inverse=True)
    return np.eye(len(names))[index] + 0.05 * np.random.default_rng(seed).standard_normal((len(labels), len(names)))


def random_codes(n: int, d: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def number(score: Score) -> float:
    assert score.value is not None, score.reason
    return score.value


def evaluate(truth: Truth, content: np.ndarray, transform: np.ndarray | None = None, **more: object) -> Evaluation:
    settings_ = {"pose": None, "voxel_size": VOXEL, **more}
    pose = settings_.pop("pose")
    return evaluate_codes(truth.ids, content, transform, pose, truth, **settings_)  # type: ignore[arg-type]


def test_disentangled_codes(truth: Truth) -> None:
    scores = evaluate(truth, one_hot(truth.identity), one_hot(truth.state)).model
    assert (scores.content, scores.transform) == (3, 2)
    assert number(scores.p) == number(scores.d_cc) == number(scores.d_zz) == number(scores.ari) == 1
    assert abs(number(scores.d_cz) - 1 / 3) < 0.15
    assert abs(number(scores.d_zc) - 0.5) < 0.15
    assert number(scores.sap_c) == pytest.approx(1 - number(scores.d_cz))
    assert number(scores.sap_z) > 0.3
    assert number(scores.sap_spaces) > 0.4


def test_swapped_codes_have_negative_sap(truth: Truth) -> None:
    scores = evaluate(truth, one_hot(truth.state), one_hot(truth.identity)).model
    assert number(scores.sap_c) < -0.5
    assert number(scores.sap_z) < -0.3
    assert number(scores.sap_spaces) < -0.4
    assert number(scores.p_transform) == 1


def test_collapsed_codes_score_chance(truth: Truth) -> None:
    scores = evaluate(truth, np.zeros((120, 4)), np.ones((120, 2))).model
    for score in (scores.p, scores.p1, scores.d_cc, scores.d_cz):
        assert number(score) == pytest.approx(1 / 3)
    assert number(scores.ari) == number(scores.nmi) == number(scores.sap) == 0


def test_particles_are_matched_by_id(truth: Truth) -> None:
    codes = one_hot(truth.identity)
    order = np.random.default_rng(7).permutation(120)
    ids = np.concatenate([truth.ids[order][:100], [100_000, 100_001]])
    shuffled = np.concatenate([codes[order][:100], np.full((2, 3), 9.0)])
    pose = Pose(
        np.concatenate([truth.rotations[order][:100], np.tile(np.eye(3), (2, 1, 1))]),  # type: ignore[index]
        np.concatenate([truth.shifts[order][:100] * VOXEL, np.zeros((2, 3))]),  # type: ignore[index]
    )
    result = evaluate_codes(ids, shuffled, None, pose, truth, voxel_size=VOXEL, invariants=shuffled)
    assert result.particles == 100
    assert number(result.model.p) == number(result.model.d_cc) == 1
    assert result.invariants is not None
    assert number(result.invariants.p) == 1
    assert all(number(p.median) < 1e-3 and number(p.shift) < 1e-3 for p in result.pose)
    assert any(note.startswith("2 particles with codes are not in") for note in result.notes)
    assert any(note.startswith("20 particles of") for note in result.notes)
    swapped = evaluate_codes(ids[::-1], shuffled, None, pose, truth, voxel_size=VOXEL)
    assert number(swapped.model.p) < 0.6


def test_an_explicit_pose_is_the_transformation_code(truth: Truth) -> None:
    assert truth.rotations is not None
    assert truth.shifts is not None
    rng = np.random.default_rng(8)
    frames = dict(zip(IDENTITIES, random_rotations(3, rng), strict=True))
    estimates = np.stack([a @ frames[str(i)] for a, i in zip(truth.rotations, truth.identity, strict=True)])
    pose = Pose(estimates, truth.shifts * VOXEL + rng.normal(size=(120, 3)))
    result = evaluate(truth, one_hot(truth.identity), pose=pose, symmetry={"spike": "C3:z"})
    assert result.model.transform == 12
    beside = evaluate(truth, one_hot(truth.identity), one_hot(truth.state), pose=pose).model
    assert beside.transform == 2  # a code of its own stands for itself
    assert number(beside.d_zz) == 1
    assert number(result.model.d_cz) < 0.55
    assert [p.identity for p in result.pose] == list(IDENTITIES)
    assert [p.symmetry for p in result.pose] == ["C1", "C1", "C3:z"]
    for scores in result.pose:
        assert scores.particles == EACH
        assert number(scores.median) < 1e-3  # each identity has a frame of its own
        assert number(scores.close) == 1
        assert (scores.median.chance or 0) > 50
        assert (scores.close.chance or 0) < 0.1
        assert 0.5 < number(scores.shift) < 3 < (scores.shift.chance or 0)
    steady = Pose(np.tile(np.eye(3), (120, 1, 1)), np.repeat(np.eye(3), EACH, axis=0))
    assert number(evaluate(truth, one_hot(truth.identity), pose=steady).model.p_transform) == 1  # shifts are in it


def test_junk_is_an_identity_without_a_pose(truth: Truth) -> None:
    assert truth.rotations is not None
    assert truth.shifts is not None
    junk = replace(truth, identity=np.where(truth.identity == "spike", "junk", truth.identity))
    pose = Pose(truth.rotations, truth.shifts * VOXEL)
    result = evaluate(junk, one_hot(junk.identity), pose=pose)
    assert number(result.model.p) == 1
    assert result.identities["junk"] == EACH
    assert [p.identity for p in result.pose] == ["groel-groes", "nucleosome"]


def test_a_truth_without_poses_or_voxels_says_so(truth: Truth) -> None:
    assert truth.rotations is not None
    assert truth.shifts is not None
    pose = Pose(truth.rotations, truth.shifts)
    (scores, *_) = evaluate(replace(truth, rotations=None), one_hot(truth.identity), pose=pose, voxel_size=None).pose
    assert "rotations for 0" in (scores.median.reason or "")
    assert scores.shift.reason == "the voxel size is not known"
    gaps = truth.rotations.copy()
    gaps[:36] = np.nan
    (scores, *_) = evaluate(replace(truth, rotations=gaps, shifts=None), one_hot(truth.identity), pose=pose).pose
    assert "rotations for 4" in (scores.median.reason or "")
    assert "shifts for 0" in (scores.shift.reason or "")


def test_the_table_shows_signs_chance_and_the_invariants(truth: Truth) -> None:
    assert truth.rotations is not None
    assert truth.shifts is not None
    pose = Pose(truth.rotations, truth.shifts * VOXEL)
    result = evaluate(truth, one_hot(truth.state), pose=pose, invariants=one_hot(truth.identity))
    rose = result.model_copy(update={"informativeness": {"content": informativeness(1.0, 0.8)}})
    lines = str(rose).splitlines()
    assert rose.table() == str(rose)
    assert lines[0] == "120 particles of truth.csv: groel-groes 40, nucleosome 40, spike 40"
    assert lines[2].split() == ["model", "invariants", "chance"]
    table = {line.split()[0]: line for line in lines if line}
    assert table["P(c|z)"].split()[2:4] == ["+1.000", "+0.333"]
    assert table["SAP(c)"].split()[1].startswith(("+", "-"))
    assert table["D(c|z)"].split()[2] == "-"
    assert "+0.200" in table["I(content)"]
    assert "0.0" in table["spike"]
    assert not any(line != line.rstrip() for line in lines)
    assert "invariants" not in str(evaluate(truth, one_hot(truth.state)))


def test_json_goes_there_and_back_and_is_versioned(truth: Truth) -> None:
    result = evaluate(truth, one_hot(truth.identity), invariants=one_hot(truth.state))
    again = Evaluation.model_validate_json(result.model_dump_json())
    assert again == result
    assert result.schema_version == 1
    assert (
        evaluate(truth, one_hot(truth.identity), invariants=one_hot(truth.state)) == result
    )  # nothing is left to luck


def test_one_identity_is_no_crash(truth: Truth) -> None:
    single = replace(truth, identity=np.repeat("spike", 120), state=np.repeat("6vxx", 120))
    result = evaluate(single, random_codes(120, 2), random_codes(120, 2, 9))
    assert result.model.p == Score(reason="fewer than two classes")
    assert result.model.sap_c.value is None
    assert result.model.d_zz.reason == "no identity has two states"
    assert "P(c|z): fewer than two classes." in str(result)


def test_bad_input(truth: Truth) -> None:
    codes = one_hot(truth.identity)
    with pytest.raises(InputError, match="none of the 3 particles"):
        evaluate_codes([-1, -2, -3], codes[:3], None, None, truth, voxel_size=None)
    with pytest.raises(InputError, match=r'no identity "groel" .* groel-groes, nucleosome, spike'):
        evaluate(truth, codes, symmetry={"groel": "C7"})
    pose = Pose(np.tile(np.eye(3), (120, 1, 1)), np.zeros((120, 3)))
    with pytest.raises(InputError, match="not a symmetry"):
        evaluate(truth, codes, pose=pose, symmetry={"spike": "C3:up"})
    with pytest.raises(InputError, match="twice"):
        evaluate_codes(np.repeat(truth.ids[:60], 2), codes, None, None, truth, voxel_size=None)
    with pytest.raises(InputError, match="content code of 120 particles"):
        evaluate(truth, codes[:5])
