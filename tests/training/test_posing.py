"""Poses by search: right up to one rigid motion, one frame for groups that are alike, and for new particles too."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from napari_disentangle.geometry import euler_to_matrix, geodesic_angle, matrix_to_euler
from napari_disentangle.io import read_particles
from napari_disentangle.metrics import align_frame, read_truth
from napari_disentangle.models.base import MOST_FAMILIES
from napari_disentangle.particles import ParticleSet, Pose
from napari_disentangle.recipe import Recipe
from napari_disentangle.sample import MAPS
from napari_disentangle.simulate import simulate_stack
from napari_disentangle.training import prepare
from napari_disentangle.training.inputs import geometry_of, read_inputs
from napari_disentangle.training.posing import MOST_GROUPS, FoundPoses, find_poses, poses_like

KNOWN, FEW = 120, 80
SYMMETRY = "C3:z"
"""Of the spike at this resolution."""


@pytest.fixture(scope="module")
def spikes(tmp_path_factory):
    """150 boxes of one molecule at random poses, SNR 1, their true rotations, and contents that make two groups."""
    folder = tmp_path_factory.mktemp("spikes")
    (folder / "maps").mkdir()
    shutil.copy(MAPS / "spike_6vyb.mrc", folder / "maps")
    done = simulate_stack(folder / "maps", folder / "stack", per=150, snr=1.0, seed=5)
    content = np.random.default_rng(0).normal(0, 0.1, (150, 2)).astype(np.float32)
    content[::2] += 5
    return read_particles(done.particles), read_truth(done.truth).rotations, content


def searched(
    particles: ParticleSet, content: np.ndarray, recipe: Recipe, told: list[str] | None = None, device: str = "cpu"
) -> FoundPoses:
    """Search poses; what is told on the way is appended to `told`."""
    tell = [] if told is None else told
    inputs = read_inputs(particles, recipe)
    return find_poses(inputs, content, recipe, device=device, progress=lambda what, _: tell.append(what))


@pytest.fixture(scope="module")
def found(spikes):
    particles, _, content = spikes
    told: list[str] = []
    poses = searched(particles.subset(np.arange(KNOWN)), content[:KNOWN], Recipe(), told)
    assert told[0].startswith("poses of group 1 of 2 (60 particles)")
    return poses


def test_two_groups_of_one_molecule_share_a_frame(spikes, found):
    errors = align_frame(found.pose.rotations, spikes[1][:KNOWN], SYMMETRY).errors
    assert len(np.unique(found.group)) == 2
    assert len(np.unique(found.family)) == 1
    assert np.median(errors) < 10
    assert (errors < 20).mean() > 0.9


def test_a_gpu_finds_them_too(spikes, gpu):
    particles, truth, content = spikes
    posed = searched(particles.subset(np.arange(KNOWN)), content[:KNOWN], Recipe(), device=gpu)
    assert len(np.unique(posed.family)) == 1
    assert np.median(align_frame(posed.pose.rotations, truth[:KNOWN], SYMMETRY).errors) < 10


def test_about_imported_poses_groups_that_superpose_are_a_family(spikes):
    particles, truth, content = spikes
    first, recipe = np.arange(FEW), Recipe().with_settings(["pose.mode=local", "pose.cone=20"])
    given = Pose(truth[:FEW], np.zeros((FEW, 3)))

    def found_near(given: Pose) -> FoundPoses:
        return searched(replace(particles.subset(first), pose=given), content[:FEW], recipe)

    posed = found_near(given)
    assert len(np.unique(posed.group)) == 2
    assert len(np.unique(posed.family)) == 1
    assert geodesic_angle(posed.pose.rotations, truth[:FEW]).max() <= recipe.pose.cone + 1e-6
    one, two = (
        align_frame(posed.pose.rotations[rows], truth[:FEW][rows]).frame
        for rows in (posed.group == 0, posed.group == 1)
    )
    assert geodesic_angle(one, two) < 6, "in one frame"
    apart = given.rotations.copy()
    apart[content[:FEW, 0] > 2] = apart[content[:FEW, 0] > 2] @ euler_to_matrix([0.0, 90.0, 0.0])
    posed = found_near(replace(given, rotations=apart))
    assert len(np.unique(posed.family)) == 2, "no search turns what the list knows"
    moved = np.zeros((FEW, 3))
    moved[content[:FEW, 0] > 2] = truth[:FEW][content[:FEW, 0] > 2] @ [0.0, 0.0, 60.0]
    posed = found_near(replace(given, offsets=moved))
    assert len(np.unique(posed.family)) == 2, "nor moves it further than particles may be"
    reach = geometry_of(particles, recipe).max_shift * geometry_of(particles, recipe).edge
    assert np.linalg.norm(posed.pose.offsets - moved, axis=1).max() <= reach + 1e-6


def test_poses_that_are_fixed_stay_and_groups_that_superpose_are_a_family(spikes):
    particles, truth, content = spikes
    recipe = Recipe().with_settings(["pose.mode=fixed"])
    posed_as = replace(particles, pose=Pose(truth, np.zeros((len(content), 3))))
    apart = truth.copy()
    apart[content[:, 0] > 2] = apart[content[:, 0] > 2] @ euler_to_matrix([0.0, 90.0, 0.0])
    moved = np.zeros((len(content), 3))
    moved[content[:, 0] > 2] = truth[content[:, 0] > 2] @ [0.0, 0.0, 60.0]  # the same molecule, about another centre
    turned, shifted = Pose(apart, np.zeros((len(content), 3))), Pose(truth, moved)
    for known, families in ((posed_as, 1), (replace(particles, pose=turned), 2), (replace(particles, pose=shifted), 2)):
        first, rest = known.subset(np.arange(FEW)), known.subset(np.arange(FEW, FEW + 10))
        geometry = geometry_of(known, recipe)
        posed = searched(first, content[:FEW], recipe)
        np.testing.assert_allclose(posed.pose.rotations, first.pose.rotations, atol=1e-12)
        assert len(np.unique(posed.group)) == 2
        assert len(np.unique(posed.family)) == families
        new = poses_like(first, content[:FEW], posed, rest, content[FEW : FEW + 10], geometry, recipe, device="cpu")
        np.testing.assert_array_equal(new.pose.rotations, rest.pose.rotations)


def test_of_known_tilt_and_psi_the_rot_is_found(spikes):
    particles, truth, content = spikes
    recipe = Recipe().with_settings(["pose.mode=prior", "pose.cone=20"])
    angles = matrix_to_euler(truth)
    particles = replace(particles, pose=None, prior=angles[:, 1:])
    first, geometry = particles.subset(np.arange(FEW)), geometry_of(particles, recipe)
    posed = searched(first, content[:FEW], recipe)
    assert len(np.unique(posed.family)) == 1, "in one frame"
    assert np.median(align_frame(posed.pose.rotations, truth[:FEW], SYMMETRY).errors) < 10
    leans = np.degrees(np.arccos((posed.pose.rotations[..., 2] * truth[:FEW, :, 2]).sum(1).clip(-1, 1)))
    assert leans.max() <= 20 + 1e-6
    rest = np.arange(FEW, FEW + 10)
    new = poses_like(first, content[:FEW], posed, particles.subset(rest), content[rest], geometry, recipe, device="cpu")
    leans = np.degrees(np.arccos((new.pose.rotations[..., 2] * truth[rest, :, 2]).sum(1).clip(-1, 1)))
    assert leans.max() <= 20 + 1e-6


def test_new_particles_are_posed_in_the_same_frame(spikes, found):
    particles, truth, content = spikes
    rest, recipe = np.arange(KNOWN, 150), Recipe()
    new = poses_like(
        particles.subset(np.arange(KNOWN)), content[:KNOWN], found, particles.subset(rest), content[rest],
        geometry_of(particles, recipe), recipe, device="cpu",
    )  # fmt: skip
    together = np.concatenate([found.pose.rotations, new.pose.rotations])
    errors = align_frame(together, truth, SYMMETRY).errors[KNOWN:]
    assert np.median(errors) < 12
    assert (errors < 25).mean() > 0.9
    for k in np.unique(new.group):  # and in the family of their group
        assert set(new.family[new.group == k]) == set(found.family[found.group == k])


def test_a_wedge_that_is_not_to_be_heeded_is_not(spikes):
    particles, _, content = spikes
    few = np.arange(0, 80, 2)  # one group
    wedged, recipe = replace(particles.subset(few), tilt_range=(-40.0, 40.0)), Recipe()

    def posed(particles: ParticleSet, *settings: str) -> FoundPoses:
        return searched(particles, content[few], recipe.with_settings(settings))

    unheeded, whole = posed(wedged, "model.wedge=false"), posed(wedged.without_tilt_ranges())
    np.testing.assert_array_equal(unheeded.pose.rotations, whole.pose.rotations)
    assert not np.array_equal(unheeded.pose.rotations, posed(wedged).pose.rotations)


def test_a_group_of_two_molecules_is_two_that_are_aligned_anew(tmp_path):
    (tmp_path / "maps").mkdir()
    for name in ("spike_6vyb.mrc", "groel-groes_1aon_nm+00.mrc"):
        shutil.copy(MAPS / name, tmp_path / "maps")
    done = simulate_stack(tmp_path / "maps", tmp_path / "stack", per=40, snr=1.0, seed=6)
    truth = read_truth(done.truth)
    particles = replace(read_particles(done.particles), pose=Pose(truth.rotations, np.zeros((80, 3))))
    alike = np.random.default_rng(0).normal(0, 0.1, (80, 2)).astype(np.float32)
    told: list[str] = []
    posed = searched(particles, alike, Recipe().with_settings(["pose.mode=fixed"]), told)
    assert MOST_GROUPS < MOST_FAMILIES, "a group can be parted whatever the mixture has taken"
    groups = ["1 of 1 (80 particles)", "1 of 2 (40 particles)", "2 of 2 (40 particles)"]
    assert list(dict.fromkeys(told)) == [f"average of group {which}" for which in groups]
    assert len(np.unique(posed.family)) == 2
    for kind in np.unique(truth.identity):
        assert len(np.unique(posed.group[truth.identity == kind])) == 1, kind


def test_found_poses_come_back_from_disk(found, tmp_path):
    found.save(tmp_path / "poses.npz")
    again = FoundPoses.load(tmp_path / "poses.npz")
    np.testing.assert_array_equal(again.pose.rotations, found.pose.rotations)
    np.testing.assert_array_equal(again.pose.offsets, found.pose.offsets)
    np.testing.assert_array_equal(again.group, found.group)
    np.testing.assert_array_equal(again.family, found.family)


def test_poses_of_an_older_run_have_a_family_for_each_group(found, tmp_path):
    path = tmp_path / "poses.npz"
    np.savez(path, rotations=found.pose.rotations, offsets=found.pose.offsets, group=found.group)
    np.testing.assert_array_equal(FoundPoses.load(path).family, found.group)


def test_imported_poses_are_kept_locally_unless_told_otherwise(tiny_stack, tmp_path):
    assert prepare(tiny_stack, tmp_path / "a").recipe.pose.mode == "local"
    assert prepare(tiny_stack, tmp_path / "b", settings=["pose.mode=free"]).recipe.pose.mode == "free"
