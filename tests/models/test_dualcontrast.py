"""What DualContrast's pairs, its exchange of content and its canonical poses do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_disentangle.geometry import align_volumes, place_volumes, random_rotations
from napari_disentangle.models import build_model
from napari_disentangle.models.augment import augmented, turned_volumes, wedged_again
from napari_disentangle.models.base import MOST_FAMILIES, Batch, Spec
from napari_disentangle.models.losses import apply_wedge, dependence, sampled_region

N, B = 16, 24
SPEC = Spec(dims=3, coarse=N, fine=N, sphere=0.45, content=3, transform=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(*centres: tuple[float, float, float]) -> torch.Tensor:
    axis = torch.arange(float(N)) - N // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return sum(torch.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 5) for a, b, c in centres)


@pytest.fixture
def posed() -> Batch:
    """Two molecules, each with an arm that is up or down, at known poses."""
    two = [
        blob((0, 0, 0), (3, 0, 0), (3, 0, 2)), blob((0, 0, 0), (3, 0, 0), (3, 0, -2)),
        blob((0, 0, 0), (0, 4, 0), (0, 4, 2)), blob((0, 0, 0), (0, 4, 0), (0, 4, -2)),
    ]  # fmt: skip
    kind = np.arange(B) % 4
    turns = torch.tensor(random_rotations(B, np.random.default_rng(0))).float()
    shifts = torch.zeros(B, 3)
    volumes = place_volumes(torch.stack([two[k] for k in kind]), turns, shifts)
    return Batch(volumes, torch.zeros(B, 0), turns, shifts, families=torch.tensor(kind // 2))


def built(**changes: object):
    torch.manual_seed(0)
    return build_model("dualcontrast", replace(SPEC, **changes))


def trained(model, batch: Batch, steps: int = 150):
    optimiser, source = torch.optim.Adam(model.parameters(), 2e-3), generator(1)
    for _ in range(steps):
        optimiser.zero_grad()
        losses = model(batch, source)
        losses.total.backward()
        optimiser.step()
    return losses


def test_within_one_family_content_is_not_pushed_apart(posed):
    """Of one molecule in several conformations all particles have the same content."""
    model = built(content_pairs="negative")
    model.keep_poses()
    of_two, of_one = (
        model(replace(posed, families=families), generator()).terms["content_pairs"]
        for families in (posed.families, torch.zeros_like(posed.families))
    )
    assert of_two > 0
    assert of_one == 0


def test_conformations_are_found_in_the_canonical_pose(posed):
    model = built()
    model.keep_poses()
    trained(model, posed)
    model.eval()
    code = model.encode(posed)
    z = torch.as_tensor(model.settle(code.transform.numpy(), posed.families.numpy()))
    state = torch.arange(B) % 2
    for family in (0, 1):
        mine = posed.families == family
        assert z[mine].mean(0).abs().max() < 1e-5  # centred within the family
        up, down = z[mine & (state == 0)], z[mine & (state == 1)]
        apart = (up.mean(0) - down.mean(0)).norm()
        assert apart > 3 * max(up.std(0).norm(), down.std(0).norm())
    between = (code.content[posed.families == 0].mean(0) - code.content[posed.families == 1].mean(0)).norm()
    within = max(code.content[posed.families == k].std(0).norm() for k in (0, 1))
    assert between > 3 * within  # and content tells the molecules apart, not their states


def test_codes_come_back_from_their_bound(posed):
    model = built()
    model.keep_poses()
    heads = (model.content[-1].bias, SPEC.content), (model.transform.bias, SPEC.transform)
    with torch.no_grad():
        for bias, dimensions in heads:
            bias[:dimensions] = 200.0  # where tanh is flat
    model(posed, generator()).total.backward()
    for bias, dimensions in heads:
        assert (bias.grad[:dimensions] > 0.1).all()


def test_what_was_settled_is_what_is_encoded_from_then_on(posed):
    model = built()
    model.keep_poses()
    trained(model, posed, 5)
    model.eval()
    families = posed.families.numpy()
    settled = model.settle(model.encode(posed).transform.numpy(), families)
    np.testing.assert_allclose(model.encode(posed).transform, settled, atol=1e-5)
    before = model.state_dict()["settled"].clone()
    model.settle(None, families)
    again = model.settle(model.encode(posed).transform.numpy(), families)
    assert np.array_equal(settled, again)  # however often codes are made on the way
    assert torch.equal(before, model.state_dict()["settled"])


def test_posed_transformations_start_at_the_eigenvolumes_of_their_family(posed):
    batch = replace(posed, invariants=torch.zeros(B, 3))
    model = built(features=3).eval()
    model.keep_poses()
    without = model.encode(batch).transform
    arm = (blob((3, 0, 2)) - blob((3, 0, -2))) * model.sphere(N)
    mean, axes = torch.zeros(MOST_FAMILIES, N, N, N), torch.zeros(MOST_FAMILIES, 2, N, N, N)
    mean[0] = blob((0, 0, 0), (3, 0, 0)) + 0.5 * (blob((3, 0, 2)) + blob((3, 0, -2)))
    axes[0, 0] = 2 * arm / arm.square().sum()
    model.take_eigenvolumes(mean, axes)
    found = model.encode(batch).transform
    kind = np.arange(B) % 4
    assert (found[kind == 0, 0] > 0.6).all()
    assert (found[kind == 1, 0] < -0.6).all()
    assert found[kind >= 2].abs().max() < 0.2, "the other family has none, and what is learned starts small again"
    assert found[:, 1].abs().max() < 0.2
    weights = model.transform.weight.clone()
    model.take_eigenvolumes(mean, axes)
    assert torch.equal(model.transform.weight, weights), "taken up again at the same step"
    assert without.abs().max() < 0.6, "and is not what the particles say without them"


def test_a_reconstruction_lies_as_its_particle_does(posed):
    model = built()
    model.keep_poses()
    trained(model, posed)
    model.eval()
    model.settle(model.encode(posed).transform.numpy(), posed.families.numpy())
    sphere, drawn = model.sphere(N), model.reconstruct(posed, model.encode(posed))
    error = ((drawn - posed.volumes) * sphere).square().mean()
    assert error < 0.2 * ((posed.volumes - posed.volumes.mean(0)) * sphere).square().mean()


def test_poses_that_are_imported_are_used_from_the_start(posed):
    assert built(pose_mode="fixed").encode(posed).rotations is not None
    assert built().encode(posed).rotations is None


def test_what_a_wedge_took_is_filled_from_the_model(posed):
    tilts = torch.tensor([[-40.0, 40.0]]).repeat(B, 1)
    region = sampled_region(N, tilts, None)
    cut = replace(posed, volumes=apply_wedge(posed.volumes, region), tilts=tilts)
    model = built()
    whole = align_volumes(posed.volumes, posed.rotations, posed.shifts)
    model.decoder.forward = lambda *_: whole  # a model that knows the answer
    filled, seen = model._aligned(cut, torch.zeros(B, 3))
    bare = align_volumes(cut.volumes, posed.rotations, posed.shifts)
    assert seen is not None
    assert (filled - whole).square().mean() < 0.3 * (bare - whole).square().mean()


@pytest.mark.parametrize("content", ["both", "positive", "negative", "none"])
@pytest.mark.parametrize("transform", ["both", "none"])
def test_pairs_that_are_left_out_add_nothing(posed, content, transform):
    terms = built(content_pairs=content, transform_pairs=transform)(posed, generator()).terms
    assert (terms["content_pairs"] == 0) == (content == "none")
    assert (terms["transformation_pairs"] == 0) == (transform == "none")


class TestTheLoss:
    """Of images, whose codes are given and whose decoder notes what it is asked to draw."""

    x = torch.randn(6, 16, 16, generator=generator(3))
    c, copy_c, z, copy_z = (
        (torch.randn(6, d, generator=generator(4 + k)), torch.full((6, d), -8.0)) for k, d in enumerate((3, 3, 2, 2))
    )
    alike = torch.randn(6, 2, generator=generator(8))

    def run(self, monkeypatch: pytest.MonkeyPatch, **changes: object):
        torch.manual_seed(0)
        model = build_model("dualcontrast", Spec(dims=2, coarse=16, fine=16, content=3, transform=2, **changes))
        contents, transforms, drawn = iter([self.c, self.copy_c]), iter([self.z, self.copy_z]), []

        def decode(content: torch.Tensor, transform: torch.Tensor, size: int) -> torch.Tensor:
            drawn.append((content, transform))
            return torch.zeros(len(content), size, size)

        monkeypatch.setattr(model, "_content", lambda *_: next(contents))
        monkeypatch.setattr(model, "_transform", lambda *_: next(transforms))
        monkeypatch.setattr(model, "_read", lambda *_: (self.alike, self.alike))
        monkeypatch.setattr(model, "_decoder", decode)
        batch = Batch(self.x, torch.zeros(6, 0), torch.eye(3).repeat(6, 1, 1), torch.zeros(6, 3))
        return model(batch, generator()), drawn

    def test_pairs_are_cosines(self, monkeypatch):
        def cosines(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
            a, b = (v.numpy() / np.linalg.norm(v.numpy(), axis=1, keepdims=True) for v in (a, b))
            return np.abs(a @ b.T)

        found, _ = self.run(monkeypatch, independence=0.5)
        others = ~np.eye(6, dtype=bool)
        content = (
            np.mean(1 - cosines(self.c[0], self.copy_c[0]).diagonal()) + cosines(self.c[0], self.c[0])[others].mean()
        )
        assert float(found.terms["content_pairs"]) == pytest.approx(content, rel=1e-4)
        transform = cosines(self.z[0], self.copy_z[0]).diagonal().mean() + 0.5 * float(dependence(self.z[0], self.c[0]))
        transform += np.mean(1 - cosines(self.alike[:3], self.alike[3:]).diagonal())
        assert float(found.terms["transformation_pairs"]) == pytest.approx(transform, rel=1e-4)

    @pytest.mark.parametrize("weight", [None, 0.3])
    def test_the_total_is_the_weighted_sum(self, monkeypatch, weight):
        found, _ = self.run(monkeypatch, kl=weight)
        terms = {name: float(term) for name, term in found.terms.items()}
        variance = (self.x - self.x.mean(0)).square().mean()  # of a decoder that draws nothing
        assert terms["reconstruction"] == pytest.approx(float(self.x.square().mean() / variance), rel=1e-4)
        kl = sum(
            0.5 * float((m.square() + v.exp() - v - 1).mean()) for m, v in (self.c, self.copy_c, self.z, self.copy_z)
        )
        assert terms["kl"] == pytest.approx(kl, rel=1e-4)
        total = 4 * (terms["reconstruction"] + terms["copy_reconstruction"]) + (weight or 0.01) * kl
        total += terms["content_pairs"] + terms["transformation_pairs"]
        assert float(found.total) == pytest.approx(total, rel=1e-4)

    @pytest.mark.parametrize("exchange", [True, False])
    def test_content_is_exchanged(self, monkeypatch, exchange):
        """Redrawn from its copy's content, nothing of how a particle lies can come through the content."""
        _, drawn = self.run(monkeypatch, exchange=exchange)
        own, lent = (self.copy_c, self.c) if exchange else (self.c, self.copy_c)
        for (content, transform), of, lies in zip(drawn, (own, lent), (self.z, self.copy_z), strict=False):
            assert (content - of[0]).abs().max() < 0.1  # but for the draw, of deviation 0.018
            assert (transform - lies[0]).abs().max() < 0.1

    def test_what_is_redrawn_alike_shares_its_transformation_alone(self, monkeypatch):
        _, drawn = self.run(monkeypatch)
        (first, second), (one, two) = (part.chunk(2) for part in drawn[2])
        assert torch.equal(one, two)
        assert (first - second).abs().amin() > 0


class TestDependence:
    def test_of_itself_is_one_and_of_noise_small(self):
        a, b = torch.randn(400, 3, generator=generator()), torch.randn(400, 2, generator=generator(1))
        assert dependence(a, a) == pytest.approx(1, abs=1e-5)
        assert dependence(a, b) < 0.02
        assert dependence(a, a[:, :1] ** 2) > 0.08  # also what no line tells

    def test_of_three_particles_nothing_is_said(self):
        assert dependence(torch.randn(3, 2), torch.randn(3, 2)) == 0


class TestAugmentation:
    grey = torch.rand(6, 20, 20, generator=generator())
    colour = torch.rand(6, 3, 20, 20, generator=generator())

    def copies(self, images: torch.Tensor, kind: str, **more: object) -> torch.Tensor:
        spec = Spec(dims=2, coarse=20, fine=20, channels=3 if images.ndim == 4 else 1, augmentation=kind, **more)
        return augmented(images, spec, generator(2))

    @pytest.mark.parametrize("kind", ["rotation", "translation", "scale", "contrast", "blur", "saturation", "hue"])
    def test_every_kind_changes_every_image_and_none_the_same(self, kind):
        found = self.copies(self.colour, kind)
        assert found.shape == self.colour.shape
        change = (found - self.colour).flatten(1).abs().mean(1)
        assert change.min() > 1e-3
        assert len(change.unique()) == 6

    def test_what_colours_keep(self):
        weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
        brightness = [(x * weights).sum(1) for x in (self.colour, self.copies(self.colour, "saturation"))]
        torch.testing.assert_close(*brightness)
        torch.testing.assert_close(self.copies(self.colour, "hue").mean(1), self.colour.mean(1))
        torch.testing.assert_close(self.copies(self.grey, "contrast").mean((1, 2)), self.grey.mean((1, 2)))

    def test_turns_are_as_large_as_they_may(self):
        line = torch.zeros(200, 21, 21)
        line[:, 10, 11:] = 1.0
        spec = Spec(dims=2, coarse=21, fine=21, turn=30.0)
        x, y = torch.arange(21.0) - 10, (torch.arange(21.0) - 10)[:, None]
        turned = augmented(line, spec, generator(3))
        angles = torch.rad2deg(torch.atan2((turned * y).sum((1, 2)), (turned * x).sum((1, 2)))).abs()
        assert 25 < angles.max() < 31

    def test_a_turned_volume_has_data_where_both_wedges_had(self):
        """Its copy is compared nowhere that it has lost before the turn or after."""
        tilts = torch.tensor([[-60.0, 60.0]]).repeat(4, 1)
        noise = torch.randn(4, N, N, N, generator=generator())
        noise = apply_wedge(noise, sampled_region(N, tilts, None))
        given = Batch(noise, torch.zeros(4, 0), torch.eye(3).repeat(4, 1, 1), torch.zeros(4, 3), tilts)
        copy, seen = wedged_again(*turned_volumes(noise, generator(5)), given)
        power = torch.fft.rfftn(copy, dim=(1, 2, 3)).abs().square()
        low = torch.fft.rfftn(torch.randn(N, N, N), dim=(0, 1, 2)).abs() > -1
        low[5:-4], low[:, 5:-4], low[:, :, 5:] = False, False, False  # where interpolation leaves the wedge sharp
        inside = (power * seen)[:, low].sum() / seen[:, low].sum()
        wedge = sampled_region(N, tilts, None)
        lost = (wedge - seen)[:, low].clamp_min(0)
        assert lost.sum() > 50
        assert (power[:, low] * lost).sum() / lost.sum() < 0.5 * inside
