"""Components are those of numpy, independent sources come apart, and what was solved is loaded again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_disentangle.models import build_model, linear
from napari_disentangle.models.base import Batch, Spec
from napari_disentangle.models.nets import resample
from napari_disentangle.training import fit, load_model, prepare
from napari_disentangle.training.encoding import codes_of
from napari_disentangle.training.inputs import read_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_disentangle.models.linear import FastICA, Invariants

IMAGES = Spec(dims=2, coarse=12, fine=12, sphere=0.35, content=3)
VOLUMES = Spec(dims=3, coarse=8, fine=16, sphere=0.4, content=3)
COLOUR = replace(IMAGES, channels=3, sphere=0.0)
BOTH = pytest.mark.parametrize("name", ["pca", "fastica"])
KINDS = pytest.mark.parametrize("spec", [IMAGES, VOLUMES, COLOUR], ids=["images", "volumes", "colour"])


def batch(particles: NDArray[np.float32], invariants: NDArray[np.float32] | None = None) -> Batch:
    b = len(particles)
    seen = torch.zeros(b, 0) if invariants is None else torch.as_tensor(invariants)
    return Batch(torch.as_tensor(particles), seen, torch.eye(3).repeat(b, 1, 1), torch.zeros(b, 3))


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def solved(name: str, spec: Spec, particles: NDArray[np.float32], seed: int = 0) -> FastICA:
    model = build_model(name, spec)
    before = particles.copy()
    model.solve(particles, noise(len(particles), 5), seed)
    np.testing.assert_array_equal(particles, before)  # which are the run's own
    return model


def mixed(spec: Spec, sources: NDArray[np.float64]) -> NDArray[np.float32]:
    """Particles that are sums of fixed patterns, as many as sources (n, k)."""
    patterns = noise(sources.shape[1], *spec.shape(spec.coarse), seed=1)
    return (5 + np.tensordot(sources, patterns, 1)).astype(np.float32)


class TestPCA:
    @KINDS
    def test_components_are_those_of_the_singular_values(self, spec):
        particles = noise(40, *spec.shape(spec.coarse)) * np.linspace(0.5, 2, spec.coarse, dtype=np.float32)
        model = solved("pca", spec, particles)
        inside = model.get_buffer("inside").numpy()
        voxels = particles.reshape(40, -1)[:, inside].astype(np.float64)
        u, s, vt = np.linalg.svd(voxels - voxels.mean(0), full_matrices=False)
        found = model.encode(batch(particles)).content.numpy()
        signs = np.sign(np.sum(found * (u * s)[:, :3], 0))
        np.testing.assert_allclose(found * signs, (u * s)[:, :3], atol=1e-3)
        expected = np.zeros((40, inside.size))
        expected[:, inside] = voxels.mean(0) + (u[:, :3] * s[:3]) @ vt[:3]
        drawn = model.decode(torch.as_tensor(found), torch.zeros(40, 0), spec.coarse).numpy()
        np.testing.assert_allclose(drawn.reshape(40, -1), expected, atol=1e-3)

    def test_random_projections_find_them_too_and_the_seed_decides(self):
        spec = replace(VOLUMES, coarse=16, sphere=0.5)
        sources = np.random.default_rng(0).standard_normal((300, 3)) * (9, 6, 3)
        particles = mixed(spec, sources) + noise(300, 16, 16, 16)
        model, again = (solved("pca", spec, particles, seed=4) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(model.buffers(), again.buffers(), strict=True))
        found = model.encode(batch(particles)).content.numpy()
        explained = np.linalg.lstsq(found, sources - sources.mean(0), rcond=None)[1] / np.square(sources).sum(0)
        assert max(explained) < 0.01
        assert np.all(np.diff(found.var(0)) < 0)

    def test_the_fine_size_is_the_coarse_one_resampled(self):
        model = solved("pca", VOLUMES, noise(20, 8, 8, 8))
        code, none = torch.as_tensor(noise(2, 3)), torch.zeros(2, 0)
        torch.testing.assert_close(model.decode(code, none, 16), resample(model.decode(code, none, 8), 16))
        smooth = resample(torch.as_tensor(noise(4, 4, 4, 4)), 8)  # no power at the Nyquist limit
        small, large = (model.encode(batch(resample(smooth, size).numpy())).content for size in (8, 16))
        torch.testing.assert_close(large, small, atol=1e-4, rtol=1e-4)
        with pytest.raises(ValueError, match="not 12"):
            model.decode(code, none, 12)

    def test_outside_the_sphere_nothing_counts(self):
        particles = noise(20, 12, 12)
        model = solved("pca", IMAGES, particles)
        other = np.where(model.sphere(12) > 0, particles, 99).astype(np.float32)
        assert torch.equal(model.encode(batch(other)).content, model.encode(batch(particles)).content)
        assert not model.decode(torch.ones(1, 3), torch.zeros(1, 0), 12)[0, 0].any()


@BOTH
class TestFewParticles:
    def test_dimensions_beyond_the_particles_are_zero(self, name):
        particles = noise(8, 12, 12)
        model = solved(name, replace(IMAGES, content=12), particles)
        code = model.encode(batch(particles))
        assert code.content.shape == (8, 12)
        assert code.content[:, :7].std(0).min() > 0.1
        assert not code.content[:, 7:].any()
        inside = model.sphere(12).numpy() > 0
        drawn = model.reconstruct(batch(particles), code).numpy()
        np.testing.assert_allclose(drawn[:, inside], particles[:, inside], atol=1e-4)

    def test_copies_of_a_few_span_no_more_than_those(self, name):
        particles = np.repeat(noise(3, 12, 12), 5, 0)
        model = solved(name, replace(IMAGES, content=6), particles)
        code = model.encode(batch(particles))
        assert code.content.isfinite().all()
        assert not code.content[:, 2:].any()


class TestFastICA:
    @KINDS
    def test_two_independent_sources_come_apart(self, spec):
        rng = np.random.default_rng(0)
        sources = np.stack([rng.laplace(size=2000), 2 * rng.uniform(-1, 1, 2000)], 1)
        particles = mixed(spec, sources)
        model = solved("fastica", replace(spec, content=2), particles)
        found = model.encode(batch(particles)).content.numpy()
        correlation = np.abs(np.corrcoef(found.T, sources.T)[:2, 2:])
        np.testing.assert_allclose(correlation.max(0), 1, atol=0.01)
        assert correlation.min() < 0.1
        np.testing.assert_allclose(found.std(0), 1, atol=1e-3)
        inside = model.sphere(spec.coarse).numpy() > 0
        drawn = model.reconstruct(batch(particles), model.encode(batch(particles))).numpy()
        np.testing.assert_allclose(drawn[..., inside], particles[..., inside], atol=1e-3)
        assert model.remark == ""
        assert 0 < model.get_buffer("iterations") < 100

    def test_principal_components_alone_do_not_part_them(self):
        rng = np.random.default_rng(0)
        sources = np.stack([rng.laplace(size=2000), 2 * rng.uniform(-1, 1, 2000)], 1)
        particles = mixed(IMAGES, sources)
        found = solved("pca", replace(IMAGES, content=2), particles).encode(batch(particles)).content.numpy()
        assert np.abs(np.corrcoef(found.T, sources.T)[:2, 2:]).max(0).min() < 0.99

    def test_it_says_when_it_has_not_settled(self, monkeypatch):
        monkeypatch.setattr(linear, "ITERATIONS", 2)
        model = solved("fastica", IMAGES, noise(50, 12, 12))
        assert "not settled after 2 iterations" in model.remark
        assert model.get_buffer("iterations") == 2
        assert model.encode(batch(noise(50, 12, 12))).content.isfinite().all()


class TestInvariants:
    def built(self, invariants: NDArray[np.float32]) -> Invariants:
        model = build_model("invariants", replace(VOLUMES, features=invariants.shape[1]))
        model.solve(noise(len(invariants), 8, 8, 8), invariants, 0)
        return model

    def test_all_are_the_content_and_standardised(self):
        seen = 3 + noise(50, 7) * np.arange(1, 8, dtype=np.float32)
        code = self.built(seen).encode(batch(noise(50, 8, 8, 8), seen))
        np.testing.assert_allclose(code.content, (seen - seen.mean(0)) / seen.std(0), atol=1e-4)
        assert code.transform.shape == (50, 0)

    def test_one_that_never_changes_is_zero_and_an_outlier_is_cut(self):
        seen = noise(99, 2)
        seen[:, 0], seen[0, 1] = 4, 1e6
        code = self.built(seen).encode(batch(noise(99, 8, 8, 8), seen)).content
        assert not code[:, 0].any()
        assert code[0, 1] == 6


@pytest.mark.parametrize("name", ["pca", "fastica", "invariants"])
def test_what_was_solved_is_loaded(name, tiny, tiny_stack, tmp_path):
    own = [setting for setting in tiny if name != "invariants" or "content_dims" not in setting]
    run = prepare(tiny_stack, tmp_path / "run", settings=[*own, f"model.name={name}"])
    for _ in fit(run, device="cpu"):
        pass
    codes = run.codes()
    assert codes.content.shape == (
        30,
        3 if name != "invariants" else read_inputs(run.particles(), run.recipe).invariants.shape[1],
    )
    assert codes.transform.shape == (30, 0)
    model, _, fingerprint = load_model(run)
    again = codes_of(model, read_inputs(run.particles(), run.recipe), device="cpu", epoch=1, fingerprint=fingerprint)
    np.testing.assert_array_equal(again.content, codes.content)
    assert again.fingerprint == codes.fingerprint
