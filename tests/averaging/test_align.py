from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from molecules import VOXEL, Sample, sample
from scipy.spatial.transform import Rotation

from napari_disentangle.averaging import average, match_volume, pose_to
from napari_disentangle.averaging.boxes import level
from napari_disentangle.averaging.pose_search import centred
from napari_disentangle.averaging.refine import Poses
from napari_disentangle.errors import InputError
from napari_disentangle.geometry import align_volumes, geodesic_angle, random_rotations
from napari_disentangle.particles import CONE, ArrayVolumes, Pose


def residual(estimate: Pose, truth: Pose) -> tuple[float, float]:
    """Return median errors in degrees and voxels after the one rigid motion between the two frames."""
    turn = estimate.rotations[:, None].transpose(0, 1, 3, 2) @ truth.rotations[:, None]
    errors = [geodesic_angle(estimate.rotations @ q, truth.rotations) for q in turn[:, 0]]
    q = turn[int(np.argmin([np.median(e) for e in errors])), 0]
    # x = A x_ref + p and x_ref = Q x_true + g
    g = np.median(np.einsum("nji,nj->ni", estimate.rotations, truth.offsets - estimate.offsets), axis=0)
    left = truth.offsets - estimate.offsets - estimate.rotations @ g
    return float(np.median(geodesic_angle(estimate.rotations @ q, truth.rotations))), float(
        np.median(np.linalg.norm(left, axis=1)) / VOXEL
    )


@pytest.fixture(scope="module")
def found(clear: Sample):
    return average(clear.particles, starts=1, seed=3)


def test_recovers_poses_and_map_from_nothing(clear: Sample, found) -> None:
    degrees, voxels = residual(found.pose, clear.truth)
    assert degrees < 5
    assert voxels < 0.5
    assert match_volume(found.volume, clear.molecule, radius=8).correlation > 0.95
    plain = clear.particles.volumes.read(np.arange(40)).mean(0)
    assert match_volume(plain, clear.molecule, radius=8).correlation < 0.85


def test_says_what_it_is(clear: Sample, found) -> None:
    assert found.count == 40
    assert found.ids.tolist() == clear.particles.ids.tolist()
    assert found.voxel_size == VOXEL
    assert found.label == "halves of one model, aligned together"
    assert np.bincount(found.halves).tolist() == [0, 20, 20]
    assert found.volume.dtype == np.float32
    assert len(found.frequency) == len(found.fsc) == 11
    assert found.resolution_A is not None
    assert found.volume == pytest.approx((found.half1 + found.half2) / 2, abs=1e-4)
    assert [stage for stage, _ in found.history][-3:] == ["refinement 1", "refinement 2", "refinement 3"]


def test_the_volume_is_the_boxes_at_the_poses_returned(clear: Sample, found) -> None:
    again = average(clear.particles, found.pose, mode="fixed")
    assert again.volume == pytest.approx(found.volume, abs=1e-5)


@pytest.mark.parametrize("mode", ["free", "local"])
def test_a_gpu_finds_what_the_cpu_finds(clear: Sample, found, gpu: str, mode: str) -> None:
    there = average(clear.particles, None if mode == "free" else found.pose, mode=mode, starts=1, seed=3, device=gpu)
    degrees, voxels = residual(there.pose, clear.truth)
    assert degrees < 5
    assert voxels < 0.5
    assert match_volume(there.volume, found.volume, radius=8).correlation > 0.97


def test_the_same_seed_gives_the_same_bits(clear: Sample) -> None:
    few = clear.particles.subset(np.arange(8))
    told: list[float] = []
    one = average(few, rounds=1, starts=1, seed=5, progress=lambda _stage, done: told.append(done))
    two = average(few, rounds=1, starts=1, seed=5)
    assert one.volume.tobytes() == two.volume.tobytes()
    assert one.pose.rotations.tobytes() == two.pose.rotations.tobytes()
    assert told == sorted(told)
    assert told[-1] == 1


def test_fixed_poses_give_the_plain_mean_at_them(clear: Sample) -> None:
    got = average(clear.particles, clear.truth, mode="fixed")
    boxes = torch.as_tensor(clear.particles.volumes.read(np.arange(40)))
    shifts = torch.as_tensor(clear.truth.offsets / VOXEL).float()
    grey = torch.as_tensor(level(boxes.numpy()))  # of what comes from outside a box
    turns = torch.as_tensor(clear.truth.rotations).float()
    expected = (align_volumes(boxes - grey, turns, shifts) + grey).mean(0).numpy()
    assert got.volume == pytest.approx(expected, abs=1e-5)
    assert got.pose.offsets.tolist() == clear.truth.offsets.tolist()
    assert got.rounds == 0
    assert got.history == ()


def test_local_poses_improve_within_their_cone_and_reach(clear: Sample) -> None:
    rng = np.random.default_rng(1)
    axes = rng.standard_normal((40, 3))
    off = Rotation.from_rotvec(np.radians(18) * axes / np.linalg.norm(axes, axis=1, keepdims=True)).as_matrix()
    start = Pose(clear.truth.rotations @ off, clear.truth.offsets + rng.uniform(-4, 4, (40, 3)))
    got = average(clear.particles, start, mode="local", max_shift=9.0)
    assert geodesic_angle(got.pose.rotations, start.rotations).max() <= CONE + 1e-6
    assert np.linalg.norm(got.pose.offsets - start.offsets, axis=1).max() <= 9.0 + 1e-6
    assert residual(got.pose, clear.truth)[0] < 8
    wrong = Pose(random_rotations(40, rng), clear.truth.offsets)
    kept = average(clear.particles, wrong, mode="local", rounds=1)
    assert geodesic_angle(kept.pose.rotations, wrong.rotations).max() <= CONE + 1e-6
    narrow = average(clear.particles, start, mode="local", cone=5)
    assert geodesic_angle(narrow.pose.rotations, start.rotations).max() <= 5 + 1e-6, "narrower than the grid"
    exact = average(clear.particles, clear.truth, mode="local", cone=5)
    assert residual(exact.pose, clear.truth)[0] < 4


def known_but_for_rot(pose: Pose, rng: np.random.Generator, lean: float) -> Pose:
    """Return poses turned at random about their own z, which leans by up to some degrees."""
    count = len(pose.rotations)
    tilt = Rotation.from_euler(
        "xyz", np.c_[rng.uniform(-lean, lean, (count, 2)) / np.sqrt(2), np.zeros(count)], degrees=True
    )
    turn = Rotation.from_euler("z", rng.uniform(-180, 180, (count, 1)), degrees=True)
    return Pose(pose.rotations @ (tilt * turn).as_matrix(), pose.offsets)


def lean_of(one: Pose, other: Pose) -> np.ndarray:
    """Return the angle between the axes z of poses, in degrees."""
    return np.degrees(np.arccos(np.clip((one.rotations[:, :, 2] * other.rotations[:, :, 2]).sum(1), -1, 1)))


def test_of_a_prior_the_rot_is_searched_and_the_axis_kept(clear: Sample) -> None:
    prior = known_but_for_rot(clear.truth, np.random.default_rng(4), lean=10)
    assert geodesic_angle(prior.rotations, clear.truth.rotations).max() > 150
    narrow = known_but_for_rot(clear.truth, np.random.default_rng(4), lean=0)
    sharp = average(clear.particles, narrow, mode="prior", starts=1, cone=3, seed=0)
    assert residual(sharp.pose, clear.truth)[0] < 5, "all rots are tried however narrow the cone"
    assert lean_of(sharp.pose, narrow).max() <= 3 + 1e-6
    got = average(clear.particles, prior, mode="prior", starts=1, cone=25, seed=0)
    assert residual(got.pose, clear.truth)[0] < 5
    assert lean_of(got.pose, prior).max() <= 25 + 1e-6
    elsewhere = Pose(random_rotations(40, np.random.default_rng(5)), prior.offsets)
    held = average(clear.particles, elsewhere, mode="prior", starts=1, cone=25, rounds=1)
    assert lean_of(held.pose, elsewhere).max() <= 25 + 1e-6, "even where that is wrong"
    assert geodesic_angle(held.pose.rotations, elsewhere.rotations).max() > 90


def test_a_wedge_is_filled_by_other_particles() -> None:
    data = sample(60, noise=0.2, wedge=50)
    filled = average(data.particles, data.truth, mode="fixed").volume
    plain = average(replace(data.particles, tilt_range=None), data.truth, mode="fixed").volume
    whole = average(sample(60, noise=0.2).particles, data.truth, mode="fixed").volume
    power = np.vdot(whole, whole)
    assert np.vdot(filled, whole) / power == pytest.approx(1, abs=0.06)
    assert np.vdot(plain, whole) / power < 0.8


def test_a_wedge_does_not_pull_poses_along() -> None:
    data = sample(30, noise=0.5, wedge=60, seed=2)
    got = average(data.particles, starts=1, seed=0)
    assert residual(got.pose, data.truth)[0] < 8


def test_pure_noise_does_not_become_a_structure() -> None:
    noise = np.random.default_rng(0).standard_normal((40, 20, 20, 20)).astype(np.float32)
    data = sample(40, noise=0.0)
    got = average(replace(data.particles, volumes=ArrayVolumes(noise)), starts=1, seed=0)
    # Up to the search's common low-pass (diameter / 3.75) halves agree on what they were aligned to: that is the bias
    # the label warns of. Beyond it, each half had its own reference.
    beyond = got.frequency > 3.75 / (200 / 1.6) * 1.3
    assert got.fsc[beyond].mean() < 0.3


def test_particles_are_posed_to_a_given_reference(clear: Sample) -> None:
    few = clear.particles.subset(np.arange(12))
    pose = pose_to(few, clear.molecule)
    truth = clear.truth.subset(np.arange(12))
    assert np.median(geodesic_angle(pose.rotations, truth.rotations)) < 12
    assert np.median(np.linalg.norm(pose.offsets - truth.offsets, axis=1)) < VOXEL


def test_poses_to_a_reference_stay_near_those_they_have_to(clear: Sample) -> None:
    prior = known_but_for_rot(clear.truth, np.random.default_rng(4), lean=5)
    near = pose_to(clear.particles, clear.molecule, prior, mode="prior")
    assert np.median(geodesic_angle(near.rotations, clear.truth.rotations)) < 12
    wrong = Pose(random_rotations(40, np.random.default_rng(5)), clear.truth.offsets)
    assert lean_of(pose_to(clear.particles, clear.molecule, wrong, mode="prior"), wrong).max() <= CONE + 1e-6
    held = pose_to(clear.particles, clear.molecule, wrong, mode="local", max_shift=5.0, cone=5)
    assert geodesic_angle(held.rotations, wrong.rotations).max() <= 5 + 1e-6
    assert np.linalg.norm(held.offsets - wrong.offsets, axis=1).max() <= 5 + 1e-6


def test_centring_moves_no_particle() -> None:
    rng = np.random.default_rng(0)
    rotations = random_rotations(50, rng)
    poses = Poses(rotations, rotations @ np.array([2.0, -1.0, 0.5]) + rng.standard_normal((50, 3)) * 0.01)
    got = centred(poses)
    assert np.abs(got.shifts).max() < 0.1
    assert got.rotations is poses.rotations


@pytest.mark.parametrize(
    ("change", "mode", "message"),
    [
        ({"volumes": None}, "free", "no boxes to average"),
        ({"volumes": ArrayVolumes(np.zeros((40, 8, 8), np.float32))}, "free", "cubic volumes"),
        ({"voxel_size": None}, "free", "voxel size"),
        ({}, "local", "needs poses"),
        ({}, "guess", "not a way to align"),
    ],
)
def test_bad_input_is_told(clear: Sample, change: dict[str, object], mode: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        average(replace(clear.particles, **change), mode=mode)


def test_one_particle_is_no_average(clear: Sample) -> None:
    with pytest.raises(InputError, match="at least 2 particles"):
        average(clear.particles.subset(np.array([0])))
