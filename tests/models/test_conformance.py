"""What every model of the registry has to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import torch

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import random_rotations
from napari_disentangle.models import MODELS, build_model, model_info
from napari_disentangle.models.base import Batch
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose
from napari_disentangle.recipe import Recipe
from napari_disentangle.run.checkpoint import Counters, checkpoint_folder, load_checkpoint, save_checkpoint
from napari_disentangle.training import prepare
from napari_disentangle.training.encoding import model_for
from napari_disentangle.training.inputs import geometry_of, read_inputs

if TYPE_CHECKING:
    from napari_disentangle.models.harmony import Harmony

COARSE, FINE, DIMS, FEATURES = 8, 16, 3, 10

pytestmark = pytest.mark.parametrize("name", list(MODELS))


def built(name: str, *, seed: int = 0, **changes: object) -> Harmony:
    settings: dict[str, object] = {
        "dims": DIMS, "coarse": COARSE, "fine": FINE, "sphere": 0.4, "features": FEATURES, "gamma": 2.0, "summed": False,
        "mode": "free", "max_shift": 0.1, "cone": 30.0,
    }  # fmt: skip
    torch.manual_seed(seed)
    return build_model(name, **(settings | changes))


def batch(size: int, count: int = 6, *, wedge: bool = False, frames: bool = False, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    return Batch(
        volumes=torch.randn(count, size, size, size, generator=generator),
        invariants=torch.randn(count, FEATURES, generator=generator),
        rotations=torch.tensor(random_rotations(count, rng)).float(),
        shifts=torch.tensor(rng.uniform(-0.1, 0.1, (count, 3))).float(),
        tilts=torch.tensor([[-60.0, 50.0]]).repeat(count, 1) if wedge else None,
        frames=torch.tensor(random_rotations(count, rng)).float() if frames else None,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [COARSE, FINE])
def test_shapes(name, size):
    model, given = built(name), batch(size)
    losses = model(given, generator())
    assert losses.total.shape == ()
    assert losses.terms
    assert all(term.shape == () and not term.requires_grad for term in losses.terms.values())
    found = model.encode(given)
    assert found.content.shape == found.content_logvar.shape == (6, DIMS)
    assert (found.rotations.shape, found.shifts.shape) == ((6, 3, 3), (6, 3))
    assert not found.content.requires_grad
    if MODELS[name].decodes:
        assert model.decode(found.content, size).shape == (6, size, size, size)


@pytest.mark.parametrize("size", [COARSE, FINE])
@pytest.mark.parametrize(
    "changes",
    [{}, {"features": 0, "sphere": 0.0, "summed": True}, {"mode": "local"}, {"mode": "fixed"}, {"mode": "prior"}, {"fine": COARSE}],
    ids=["free", "paper", "local", "fixed", "prior", "one-size"],
)  # fmt: skip
@pytest.mark.parametrize(("wedge", "frames"), [(False, False), (True, False), (True, True)])
def test_losses_and_gradients_are_finite(name, size, changes, wedge, frames):
    if changes.get("mode", "free") not in MODELS[name].pose_modes or size > changes.get("fine", FINE):
        pytest.skip("not of this model")
    model = built(name, **changes)
    losses = model(batch(size, wedge=wedge, frames=frames), generator())
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(term.isfinite() for term in losses.terms.values())
    assert np.isfinite(losses.aligned_energy)
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert gradients
    assert all(g.isfinite().all() for g in gradients.values())
    used = [key for key, g in gradients.items() if g.abs().max() > 0]
    for part in ("encoder", "decoder", "content") + (("pose",) if changes.get("mode") != "fixed" else ()):
        assert any(key.startswith(part) for key in used), f"{part} learns nothing"


def test_one_particle_makes_a_batch(name):
    # the last batch of an epoch may have one
    losses = built(name)(batch(COARSE, 1, wedge=True), generator())
    losses.total.backward()
    assert losses.total.isfinite()


def test_the_same_seed_is_the_same_to_the_bit(name):
    def three_steps(seed: int, noise: int) -> list[torch.Tensor]:
        model = built(name, seed=seed)
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        source = generator(noise)
        for _ in range(3):
            optimiser.zero_grad()
            model(batch(COARSE, wedge=True), source).total.backward()
            optimiser.step()
        return [*model.state_dict().values(), model.encode(batch(COARSE)).content]

    once, again = three_steps(1, 2), three_steps(1, 2)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[-1], three_steps(1, 3)[-1])  # every random number comes from the generator
    assert not torch.equal(once[-1], three_steps(4, 2)[-1])


def test_encoding_uses_no_randomness_and_no_neighbours(name):
    model, given = built(name).eval(), batch(COARSE)
    before = torch.get_rng_state()
    first, second = model.encode(given), model.encode(given)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.content, second.content)
    assert torch.equal(first.shifts, second.shifts)
    rows = torch.tensor([4, 1])
    pair = Batch(given.volumes[rows], given.invariants[rows], given.rotations[rows], given.shifts[rows])
    np.testing.assert_allclose(model.encode(pair).content, first.content[rows], atol=1e-5)


def test_saved_is_loaded(name, tmp_path):
    model = built(name)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    source = generator()
    model(batch(COARSE), source).total.backward()
    optimiser.step()
    save_checkpoint(tmp_path, model, optimiser, source, Counters(3, 7, 1.5))

    other = built(name, seed=9)
    restored = torch.optim.Adam(other.parameters(), 5.0)
    stream = generator(9)
    found = checkpoint_folder(tmp_path)
    assert found is not None
    counters = load_checkpoint(found, other, restored, stream, "cpu")
    assert (counters.epoch, counters.step, counters.seconds) == (3, 7, 1.5)
    for _ in range(2):  # and goes on as if nothing had happened
        for m, o, s in ((model, optimiser, source), (other, restored, stream)):
            o.zero_grad()
            m(batch(FINE, wedge=True), s).total.backward()
            o.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_it_learns_eight_particles(name, tiny, tiny_stack):
    with mrcfile.open(tiny_stack.parent / "particles.mrcs") as file:
        boxes = file.data[:8].copy()
    particles = ParticleSet(Path("eight.mrcs"), np.arange(8), ArrayVolumes(boxes), 20.0)
    recipe = Recipe().with_settings([*tiny, f"model.name={name}"])
    inputs = read_inputs(particles, recipe)
    torch.manual_seed(0)
    model = model_for(recipe, inputs.geometry, inputs.invariants.shape[1], 8)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    source, rows = generator(), np.arange(8)
    losses = []
    for _ in range(150):
        loss = model(inputs.batch(rows, COARSE, "cpu"), source).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


class TestRefusals:
    def particles(self, shape: tuple[int, ...], **more: object) -> ParticleSet:
        return ParticleSet(
            Path("them.star"), np.arange(shape[0]), ArrayVolumes(np.zeros(shape)), **({"voxel_size": 20.0} | more)
        )

    @pytest.mark.parametrize(
        ("shape", "sentence"),
        [((9, 16, 16), "2D images"), ((9, 16, 16, 12), "not cubes"), ((9, 4, 4, 4), "smaller than the 8")],
    )
    def test_boxes_it_cannot_take(self, name, tiny, shape, sentence):
        with pytest.raises(InputError, match=rf"them\.star.*{sentence}"):
            geometry_of(self.particles(shape), Recipe().with_settings([*tiny, f"model.name={name}"]))

    def test_boxes_of_unknown_voxels(self, name):
        with pytest.raises(InputError, match=r"them\.star.*voxel size"):
            geometry_of(
                self.particles((9, 16, 16, 16), voxel_size=None), Recipe().with_settings([f"model.name={name}"])
            )

    @pytest.mark.parametrize("mode", ["local", "fixed", "prior"])
    def test_a_pose_mode_without_poses(self, name, tiny, mode):
        if mode not in MODELS[name].pose_modes:
            pytest.skip("not of this model")
        recipe = Recipe().with_settings([*tiny, f"model.name={name}", f"pose.mode={mode}"])
        bare = self.particles((9, 16, 16, 16))
        with pytest.raises(InputError, match=rf"them\.star has no .*--pose {mode}"):
            read_inputs(bare, recipe)
        noise = np.random.default_rng(0).standard_normal((9, 16, 16, 16))
        posed = replace(
            bare,
            volumes=ArrayVolumes(noise),
            pose=Pose(np.tile(np.eye(3), (9, 1, 1)), np.zeros((9, 3))),
            prior=np.zeros((9, 2)),
        )
        assert len(read_inputs(posed, recipe)) == 9

    def test_a_size_that_the_decoder_does_not_make(self, name):
        with pytest.raises(ValueError, match="not 12"):
            built(name).decode(torch.zeros(1, DIMS), 12)

    def test_a_name_that_is_not_there(self, name, tiny_stack, tmp_path):
        for ask in (build_model, model_info):
            with pytest.raises(InputError, match=rf'no model "{name}2"; choose one of'):
                ask(f"{name}2")
        with pytest.raises(InputError, match="no model"):
            prepare(tiny_stack, tmp_path / "run", settings=[f"model.name={name}2"])
        assert not list(tmp_path.iterdir())


def test_the_registry_describes_it(name):
    info = MODELS[name]
    assert info.name == name
    assert info.title
    assert info.summary.endswith(".")
    assert info.citation
    assert set(info.pose_modes) <= {"free", "local", "fixed", "prior"}
