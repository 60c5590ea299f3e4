"""Harmony's distances are what its equations say, for particles whose pose and structure are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_disentangle.geometry import place_volumes, random_rotations
from napari_disentangle.models import build_model
from napari_disentangle.models.base import MOST_FAMILIES, Batch, Spec
from napari_disentangle.models.losses import apply_wedge, sampled_region

if TYPE_CHECKING:
    from napari_disentangle.models.harmony import Harmony

N, B = 24, 8
TERMS = ("reconstruction", "consistency", "copy_reconstruction")


@pytest.fixture(scope="module")
def reference() -> torch.Tensor:
    """A lopsided heap of blobs (n, n, n), smooth enough to be interpolated."""
    rng = np.random.default_rng(1)
    axis = np.arange(N) - N // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((N, N, N))
    for centre in rng.uniform(-4, 4, (8, 3)):
        volume += np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * 1.8**2))
    return torch.tensor(volume, dtype=torch.float32)


def particles(reference: torch.Tensor, *, tilts: tuple[float, float] | None, frames: bool = False) -> Batch:
    """The reference at known poses, with what the tilt series leaves of it."""
    rng = np.random.default_rng(2)
    rotations = torch.tensor(random_rotations(B, rng)).float()
    shifts = torch.tensor(rng.uniform(-1.5, 1.5, (B, 3))).float()
    turned = torch.tensor(random_rotations(B, rng)).float() if frames else None
    volumes = place_volumes(reference.repeat(B, 1, 1, 1), rotations, shifts)
    ranges = None if tilts is None else torch.tensor([tilts]).repeat(B, 1)
    if ranges is not None:
        volumes = apply_wedge(volumes, sampled_region(N, ranges, turned))
    return Batch(volumes, torch.zeros(B, 0), rotations, shifts / N, ranges, turned)


def knowing(reference: torch.Tensor, **changes: object) -> Harmony:
    """A model that has the imported poses, and decodes the reference whatever the code."""
    torch.manual_seed(0)
    spec = Spec(dims=3, coarse=8, fine=N, sphere=0.35, content=2, pose_mode="fixed", max_shift=0.15)
    model = build_model("harmony", replace(spec, **changes))
    model.decoder.forward = lambda codes, size: reference.repeat(len(codes), 1, 1, 1)  # noqa: ARG005
    return model


def relative(model: Harmony, batch: Batch, reference: torch.Tensor) -> dict[str, float]:
    """Each distance over the power of the reference inside the sphere."""
    power = (reference * model.get_buffer(f"sphere_{N}")).square().mean()
    terms = model(batch, torch.Generator().manual_seed(0)).terms
    return {key: float(terms[key] / power) for key in TERMS}


@pytest.mark.parametrize(("tilts", "frames"), [(None, False), ((-40.0, 40.0), False), ((-50.0, 20.0), True)])
def test_with_the_truth_nothing_is_left_but_interpolation(reference, tilts, frames):
    found = relative(knowing(reference), particles(reference, tilts=tilts, frames=frames), reference)
    assert found.pop("consistency") < 0.03
    assert max(found.values()) < 0.1, found


@pytest.mark.parametrize(("tilts", "frames"), [((-40.0, 40.0), False), ((-50.0, 20.0), True)])
def test_the_wedge_would_count_if_it_were_not_heeded(reference, tilts, frames):
    batch = particles(reference, tilts=tilts, frames=frames)
    heeded = relative(knowing(reference), batch, reference)
    ignored = relative(knowing(reference), replace(batch, tilts=None, frames=None), reference)
    for key in ("reconstruction", "copy_reconstruction"):
        assert ignored[key] > 3 * heeded[key]


@pytest.mark.parametrize("what", ["rotations", "shifts"])
def test_a_wrong_pose_costs(reference, what):
    batch = particles(reference, tilts=None)
    right = relative(knowing(reference), batch, reference)
    wrong = relative(knowing(reference), replace(batch, **{what: getattr(batch, what).flip(0)}), reference)
    assert wrong["reconstruction"] > 5 * right["reconstruction"]
    assert wrong["copy_reconstruction"] > 5 * right["copy_reconstruction"]


def test_the_total_is_gamma_times_the_distances_and_the_kl(reference):
    batch = particles(reference, tilts=None)
    for changes, weight in (({"weight": 3.0}, 3.0), ({"weight": 3.0, "summed": True}, 3.0 * N**3)):
        losses = knowing(reference, **changes)(batch, torch.Generator().manual_seed(0))
        expected = weight * sum(losses.terms[key] for key in TERMS) + losses.terms["kl"]
        assert losses.total.item() == pytest.approx(float(expected), rel=1e-5)


def test_aligned_energy_tells_a_particle_that_left_the_box(reference):
    batch = particles(reference, tilts=None)
    inside = knowing(reference)(batch, torch.Generator().manual_seed(0)).aligned_energy
    away = replace(batch, shifts=batch.shifts + 0.6)
    outside = knowing(reference)(away, torch.Generator().manual_seed(0)).aligned_energy
    assert 0.7 < inside < 1.4
    assert outside < 0.1


def test_the_content_starts_at_the_anchor(reference):
    model = knowing(reference, features=5)
    mean, scale, anchor = torch.arange(5.0), torch.full((5,), 2.0), torch.eye(5)[:, :2]
    model.anchor_content(mean, scale, anchor)
    invariants = mean + 2 * torch.randn(B, 5, generator=torch.Generator().manual_seed(0))
    found = model.encode(replace(particles(reference, tilts=None), invariants=invariants)).content
    expected = ((invariants - mean) / scale)[:, :2]
    assert (found - expected).abs().max() <= 0.5  # the learned correction is bounded
    far = model.encode(replace(particles(reference, tilts=None), invariants=invariants + 1e6)).content
    assert far.abs().max() <= 6.5  # and so is an outlier's code


def test_posed_content_is_read_along_the_eigenvolumes_of_its_family(reference):
    model = knowing(reference, features=3, content=4, coarse=N)
    model.anchor_content(torch.zeros(3), torch.ones(3), torch.ones(3, 4))
    batch = replace(
        particles(reference, tilts=None), invariants=torch.ones(B, 3), families=torch.arange(B) % 2
    )  # fmt: skip
    before = model.encode(batch).content
    mean, axes = torch.zeros(MOST_FAMILIES, N, N, N), torch.zeros(MOST_FAMILIES, 3, N, N, N)
    inside = reference * model.sphere(N)
    mean[1] = inside
    axes[:2, 0] = inside / inside.square().sum()
    axes[1, 1] = axes[1, 0]
    model.take_eigenvolumes(mean, axes)
    after = model.encode(batch).content
    assert torch.equal(after[:, :2], before[:, :2]), "what has no eigenvolume is as it was"
    learned = before - 3  # the invariants say 3 in each dimension
    along = after[:, 2:] - learned[:, 2:]
    assert (along[::2, 1] - 1).abs().max() < 0.15, "the reference has all of itself"
    assert along[::2, 0].abs().max() < 1e-5
    assert along[1::2].abs().max() < 0.15, "and nothing beyond itself"
    unposed = model.encode(replace(batch, families=None)).content
    assert torch.allclose(unposed[:, 2:], learned[:, 2:], atol=1e-5)


def test_a_model_that_sees_no_invariants_takes_no_eigenvolumes(reference):
    assert knowing(reference).takes_eigenvolumes is None
    assert knowing(reference, features=3).takes_eigenvolumes == "kinds"
