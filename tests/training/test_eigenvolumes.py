"""Eigenvolumes: found where one kind has more than the other, not where particles lie or bend in two ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import mrcfile
import numpy as np
import pytest
import torch

from napari_disentangle.averaging.points import sphere
from napari_disentangle.fourier import fourier_crop
from napari_disentangle.geometry import align_volumes, place_volumes, random_rotations
from napari_disentangle.sample import MAPS
from napari_disentangle.training.eigenvolumes import WIDEST, Eigenvolumes, eigenvolumes
from napari_disentangle.training.inputs import Geometry, Inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

N, M = 16, 120
GEOMETRY = Geometry(box=N, coarse=N, fine=N, voxel_size=20.0, sphere=0.4, max_shift=0.2)
MASK = np.ones((N, N, N), np.float32)
NOISE = 1.0


@pytest.fixture(scope="module")
def spike() -> NDArray[np.float32]:
    with mrcfile.open(MAPS / "spike_6vyb.mrc") as file:
        volume = fourier_crop(file.data, N)
    return (volume / volume.std()).astype(np.float32)


@pytest.fixture(scope="module")
def blob(spike) -> NDArray[np.float32]:
    """A subunit beside the spike, of half its mass."""
    volume = np.zeros_like(spike)
    volume[9:12, 9:12, 9:12] = 0.5 * spike[sphere(N, GEOMETRY.sphere * N) > 0].sum() / 27
    return volume


def posed(volumes: NDArray[np.float32], families: NDArray[np.int64], noise: float = NOISE) -> Inputs:
    """Particles of volumes (m, n, n, n) at known random poses, each with noise of its own."""
    rng = np.random.default_rng(1)
    turns, shifts = random_rotations(len(volumes), rng).astype(np.float32), rng.uniform(-1, 1, (len(volumes), 3))
    move = (torch.tensor(turns), torch.tensor(shifts, dtype=torch.float32))
    boxes = place_volumes(torch.tensor(volumes), *move).numpy() + noise * rng.standard_normal(volumes.shape)
    m = len(volumes)
    return Inputs(
        particles=cast("Any", None), geometry=GEOMETRY, coarse=boxes.astype(np.float32), invariants=np.zeros((m, 1), np.float32),
        scale=np.zeros((m, 2), np.float32), rotations=turns, shifts=(shifts / N).astype(np.float32), tilts=None, frames=None,
        families=families,
    )  # fmt: skip


def along(found: Eigenvolumes, inputs: Inputs, family: int) -> NDArray[np.float32]:
    """(m, k) of one family's particles."""
    batch = inputs.batch(np.flatnonzero(inputs.families == family), N, "cpu")
    aligned = align_volumes(batch.volumes, batch.rotations, batch.shifts * N).numpy()
    return np.einsum("mzyx,kzyx->mk", aligned - found.mean[family], found.axes[family])


def test_two_kinds_in_one_frame_are_told_apart_and_other_frames_are_left_alone(spike, blob):
    with_blob = np.arange(M) % 3 == 0
    volumes = np.concatenate([spike + blob * with_blob[:, None, None, None], np.repeat(spike[None], M, 0)])
    inputs = posed(volumes.astype(np.float32), np.repeat([0, 3], M))
    found = eigenvolumes(inputs, MASK, "kinds", 3, seed=0)
    assert found.count == 1
    assert not found.axes[[1, 2, 3, 4, 5]].any()
    assert not found.mean[1:].any()
    scores = along(found, inputs, 0)
    assert not scores[:, 1:].any()
    one, other = scores[with_blob, 0], scores[~with_blob, 0]
    assert min(one.min(), other.min()) < 0 < max(one.max(), other.max())
    assert one.max() < other.min() or other.max() < one.min(), "not one particle is in the wrong heap"
    assert max(one.std(), other.std()) < 1.2
    assert abs(one.mean() - other.mean()) < WIDEST + 0.5


def test_particles_that_lie_in_two_ways_are_of_one_kind(spike):
    volumes = np.where((np.arange(M) % 2 == 0)[:, None, None, None], spike, _turned(spike))
    inputs = posed(volumes.astype(np.float32), np.zeros(M, np.int64), noise=1.0)
    assert eigenvolumes(inputs, MASK, "kinds", 3, seed=0).count == 0


def test_particles_with_a_part_in_two_places_are_of_one_kind(spike, blob):
    elsewhere = np.roll(blob, (-6, 0, 0), (0, 1, 2))
    volumes = spike + np.where((np.arange(M) % 2 == 0)[:, None, None, None], blob, elsewhere)
    inputs = posed(volumes.astype(np.float32), np.zeros(M, np.int64))
    assert eigenvolumes(inputs, MASK, "kinds", 3, seed=0).count == 0


def test_a_part_in_two_places_is_a_conformation_and_a_turn_is_none(spike, blob):
    elsewhere, blob = 0.4 * np.roll(blob, (-6, 0, 0), (0, 1, 2)), 0.4 * blob
    bent = np.arange(M) % 2 == 0
    moved = spike + np.where(bent[:, None, None, None], blob, elsewhere)
    turned = np.where(bent[:, None, None, None], spike, _turned(spike))
    volumes = np.concatenate([moved, turned]).astype(np.float32)
    inputs = posed(volumes, np.repeat([0, 2], M), noise=0.3)
    found = eigenvolumes(inputs, MASK, "conformations", 2, seed=0)
    scores = along(found, inputs, 0)
    assert np.abs(scores.std(0)[0] - 1) < 0.05
    assert (scores[bent, 0] > 0).all() != (scores[~bent, 0] > 0).all()
    assert abs(scores[bent, 0].mean() - scores[~bent, 0].mean()) > 1.8, "two heaps of unit deviation together"
    towards = np.abs(along(found, inputs, 2)[bent].mean(0) - along(found, inputs, 2)[~bent].mean(0))
    assert towards.max() < 0.5, "no component says how a particle lies"


@pytest.mark.parametrize("count", [M, 30])
def test_nothing_is_found_in_noise_or_among_a_few(spike, count: int):
    volumes = np.repeat(spike[None], count, 0)
    assert eigenvolumes(posed(volumes, np.zeros(count, np.int64)), MASK, "kinds", 3, seed=0).count == 0


def test_a_seed_gives_the_same_again(spike, blob):
    volumes = spike + blob * (np.arange(M) % 2)[:, None, None, None]
    inputs = posed(volumes.astype(np.float32), np.zeros(M, np.int64))
    one, other = (eigenvolumes(inputs, MASK, "kinds", 3, seed=4) for _ in range(2))
    assert one.count == 1
    np.testing.assert_array_equal(one.axes, other.axes)


def _turned(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a volume turned by 50 degrees about x."""
    c, s = np.cos(np.radians(50)), np.sin(np.radians(50))
    turn = torch.tensor([[[1, 0, 0], [0, c, -s], [0, s, c]]], dtype=torch.float32)
    return align_volumes(torch.tensor(volume[None]), turn, torch.zeros(1, 3))[0].numpy()
