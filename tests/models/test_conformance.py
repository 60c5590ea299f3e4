"""What every model of the registry has to do, with every kind of particle that it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pytest
import torch

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import random_rotations
from napari_disentangle.models import MODELS, build_model, model_info
from napari_disentangle.models.base import Batch, Encoding, Spec
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose
from napari_disentangle.recipe import Recipe
from napari_disentangle.run.checkpoint import Counters, checkpoint_folder, load_checkpoint, save_checkpoint
from napari_disentangle.training import estimate, fit, load_model, prepare
from napari_disentangle.training.encoding import codes_of
from napari_disentangle.training.inputs import geometry_of, read_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_disentangle.models.module import DisentanglingModel
    from napari_disentangle.run import Run

CONTENT, TRANSFORM, SHELLS = 3, 2, 10
POSE_MODES = ("free", "local", "fixed", "prior")


@dataclass(frozen=True)
class Kind:
    """A kind of particle."""

    dims: Literal[2, 3]
    coarse: int
    fine: int
    channels: int = 1
    wedge: bool = False


KINDS = {
    "volumes": Kind(3, 8, 16),
    "wedge": Kind(3, 8, 16, wedge=True),
    "images": Kind(2, 12, 12),
    "digits": Kind(2, 28, 28),
    "colour": Kind(2, 12, 12, 3),
}


def cases(*, among: tuple[str, ...] = tuple(KINDS), linear: bool = True) -> list[tuple[str, str]]:
    """Every model with every kind that it takes; with `linear` off, those that are trained by steps."""
    return [
        (name, kind) for name, info in MODELS.items() for kind in among
        if KINDS[kind].dims in info.dimensions and (linear or info.kind != "linear")
    ]  # fmt: skip


def spec_of(name: str, kind: Kind, **changes: object) -> Spec:
    shown = name == "invariants" or (MODELS[name].uses_invariants and kind.dims == 3)
    spec = Spec(
        dims=kind.dims, coarse=kind.coarse, fine=kind.fine, channels=kind.channels, sphere=0.4, features=SHELLS * shown,
        content=CONTENT, transform=TRANSFORM, weight=2.0,
    )  # fmt: skip
    return replace(spec, **changes)


def built(name: str, kind: Kind, *, seed: int = 0, **changes: object) -> DisentanglingModel:
    torch.manual_seed(seed)
    return build_model(name, spec_of(name, kind, **changes))


def shapes(count: int, size: int, kind: Kind, seed: int = 0) -> torch.Tensor:
    """Particles that differ: heaps of blobs in noise, standardised."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[(np.arange(size) - size // 2) / size] * kind.dims, indexing="ij")
    made = []
    for _ in range(count * kind.channels):
        centres, widths = rng.uniform(-0.25, 0.25, (3, kind.dims)), rng.uniform(0.08, 0.2, 3)
        made.append(sum(np.exp(-sum((a - c) ** 2 for a, c in zip(axes, at, strict=True)) / (2 * w**2)) for at, w in zip(centres, widths, strict=True)))  # fmt: skip
    whole = np.array(made).reshape(count, *((kind.channels,) if kind.channels > 1 else ()), *(size,) * kind.dims)
    whole = whole + 0.05 * rng.standard_normal(whole.shape)
    return torch.tensor((whole - whole.mean()) / whole.std()).float()


def batch_of(kind: Kind, size: int, count: int = 6, *, frames: bool = False, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(
        volumes=shapes(count, size, kind, seed),
        invariants=torch.tensor(rng.standard_normal((count, SHELLS))).float(),
        rotations=torch.tensor(random_rotations(count, rng)).float(),
        shifts=torch.tensor(rng.uniform(-0.1, 0.1, (count, 3))).float(),
        tilts=torch.tensor([[-60.0, 50.0]]).repeat(count, 1) if kind.wedge else None,
        frames=torch.tensor(random_rotations(count, rng)).float() if frames else None,
    )


def solved(model: DisentanglingModel, batch: Batch, seed: int = 0) -> DisentanglingModel:
    model.solve(batch.volumes.numpy(), batch.invariants.numpy(), seed)
    return model


def ready(name: str, kind: Kind, **changes: object) -> DisentanglingModel:
    """A model that can encode: a linear one has seen particles."""
    model = built(name, kind, **changes)
    return (solved(model, batch_of(kind, kind.coarse, 16)) if MODELS[name].kind == "linear" else model).eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def steps(
    model: DisentanglingModel, batch: Batch, count: int, *, noise: int = 0,
    optimiser: torch.optim.Optimizer | None = None, source: torch.Generator | None = None,
) -> list[float]:  # fmt: skip
    """Train for some steps; return the losses."""
    optimiser = optimiser or torch.optim.Adam(model.parameters(), 1e-3)
    source = source or generator(noise)
    found = []
    for _ in range(count):
        loss = model(batch, source).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found


def explained(model: DisentanglingModel, batch: Batch) -> float:
    """Part of the variance of the particles about their mean that reconstructions explain, inside the sphere."""
    sphere = model.sphere(batch.volumes.shape[-1])
    with torch.no_grad():
        difference = (model.reconstruct(batch, model.encode(batch)) - batch.volumes) * sphere
        spread = (batch.volumes - batch.volumes.mean(0)) * sphere
    return 1 - float(difference.square().mean() / spread.square().mean())


class Noted(Spec):
    """A spec that knows which of its fields were read."""

    read: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> object:
        Noted.read.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("name", MODELS)
def test_its_settings_are_those_that_it_heeds(name: str) -> None:
    """Those of which the registry says so are read, and no others."""
    of_models = {one for info in MODELS.values() for one in info.own_settings} - {"invariants"}
    Noted.read.clear()
    for kind in (KINDS[kind] for of, kind in cases() if of == name):
        fields = vars(spec_of(name, kind))
        model = build_model(name, Noted(**fields))
        batch = batch_of(kind, kind.coarse)
        if MODELS[name].kind == "linear":
            solved(model, batch_of(kind, kind.coarse, 16))
        else:
            model(batch, generator())
        model.encode(batch)
    heeded = {one for one in of_models if {"transform_dims": "transform"}.get(one, one) in Noted.read}
    assert heeded == set(MODELS[name].own_settings) - {"invariants"}


@pytest.mark.parametrize("name", MODELS)
def test_settings_of_most_matter_where_they_are_heeded(name: str) -> None:
    kind = next(KINDS[kind] for kind in ("wedge", "images") if KINDS[kind].dims in MODELS[name].dimensions)

    def told(tilts: torch.Tensor | None, sphere: float) -> torch.Tensor:
        model, batch = ready(name, kind, sphere=sphere), replace(batch_of(kind, kind.coarse), tilts=tilts)
        if MODELS[name].kind != "linear":
            return model.train()(batch, generator()).total
        return model.encode(batch).content

    wide, narrow = (torch.tensor([[-tilt, tilt]]).repeat(6, 1) for tilt in (70.0, 30.0))
    heeds = MODELS[name].heeds
    if kind.dims == 3 and name != "invariants":  # which are taken from the boxes, wedge and all, before any model
        assert torch.equal(told(wide, 0.4), told(narrow, 0.4)) != heeds("model.wedge")
    assert told(wide, 0.4).equal(told(wide, 0.2)) != heeds("model.soft_sphere")
    widths = {ready(name, kind, content=count).encode(batch_of(kind, kind.coarse)).content.shape[1] for count in (2, 3)}
    assert (len(widths) == 2) == heeds("model.content_dims")


def assert_same(a: Encoding, b: Encoding) -> None:
    for one, other in zip((a.content, a.transform, a.rotations, a.shifts), (b.content, b.transform, b.rotations, b.shifts), strict=True):  # fmt: skip
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "kind"), cases())
def test_shapes(name: str, kind: str) -> None:
    what, info = KINDS[kind], MODELS[name]
    model = ready(name, what)
    for size in {what.coarse, what.fine}:
        batch = batch_of(what, size)
        if info.kind != "linear":
            losses = model(batch, generator())
            assert losses.total.shape == ()
            assert losses.terms
            assert all(term.shape == () and not term.requires_grad for term in losses.terms.values())
        if size != model.seen_size and info.kind == "linear":
            continue  # their only size is the coarse one
        code = model.encode(batch)
        assert not code.content.requires_grad
        assert not code.transform.requires_grad
        assert code.content.shape == (6, SHELLS if name == "invariants" else CONTENT)
        if not info.two_codes:
            assert code.transform.shape == (6, 0)
        elif not model.explicit:
            assert code.transform.shape == (6, TRANSFORM)
        else:
            assert code.transform.shape[0] == 6
        if code.rotations is not None or code.shifts is not None:
            assert what.dims == 3
            assert info.pose_modes
            assert (code.rotations.shape, code.shifts.shape) == ((6, 3, 3), (6, 3))
        if info.decodes:
            shape = (6, *model.spec.shape(size))
            assert batch.volumes.shape == shape
            assert model.decode(code.content, code.transform, size).shape == shape
            assert model.reconstruct(batch, code).shape == shape


@pytest.mark.parametrize(("name", "kind"), cases(linear=False))
def test_every_weight_learns_and_no_gradient_is_nan(name: str, kind: str) -> None:
    what = KINDS[kind]
    model = built(name, what)
    reached: set[str] = set()
    moved: set[str] = set()
    for size in (what.coarse, what.fine):
        model.zero_grad()
        losses = model(batch_of(what, size, frames=what.wedge), generator())
        losses.total.backward()
        assert losses.total.isfinite()
        assert all(term.isfinite() for term in losses.terms.values())
        assert np.isfinite(losses.aligned_energy)
        for key, weight in model.named_parameters():
            if weight.grad is not None:
                assert weight.grad.isfinite().all(), key
                reached.add(key)
                if weight.grad.abs().max() > 0:
                    moved.add(key.partition(".")[0])
    trainable = {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert reached == trainable, f"no stage trains {sorted(trainable - reached)}"
    assert moved == {key.partition(".")[0] for key in trainable}, "a part gets gradients that are all zero"


@pytest.mark.parametrize(
    ("name", "mode"), [(n, m) for n, info in MODELS.items() if 3 in info.dimensions for m in info.pose_modes]
)
@pytest.mark.parametrize("paper", [False, True], ids=["ours", "paper"])
def test_every_pose_mode_has_finite_losses(name: str, mode: str, paper: bool) -> None:
    changes = {"features": 0, "sphere": 0.0, "summed": True} if paper else {}
    for kind in (KINDS["volumes"], KINDS["wedge"], replace(KINDS["wedge"], fine=8)):
        model = built(name, kind, pose_mode=mode, **changes)
        for frames in {False, kind.wedge}:
            batch = batch_of(kind, kind.fine, frames=frames)
            losses = model(batch, generator())
            losses.total.backward()
            assert losses.total.isfinite()
            assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        code = model.encode(batch)
        if mode == "fixed" and code.rotations is not None:
            torch.testing.assert_close(code.rotations, batch.rotations)


@pytest.mark.parametrize(("name", "kind"), cases(linear=False))
def test_one_particle_makes_a_batch(name: str, kind: str) -> None:
    """As any other: a loss that is a thousand times the usual one would end all learning."""
    model = built(name, KINDS[kind])
    losses = model(batch_of(KINDS[kind], KINDS[kind].coarse, 1), generator())
    losses.total.backward()
    usual = built(name, KINDS[kind])(batch_of(KINDS[kind], KINDS[kind].coarse), generator())
    assert losses.total.abs() < 100 * (1 + usual.total.abs())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "kind"), cases(among=("wedge", "images", "colour"), linear=False))
def test_the_same_seed_is_the_same_to_the_bit(name: str, kind: str) -> None:
    what, drew = KINDS[kind], False
    batch = batch_of(what, what.coarse)

    def two_steps(seed: int, noise: int) -> list[torch.Tensor]:
        model = built(name, what, seed=seed)
        steps(model, batch, 2, noise=noise)
        return [*model.state_dict().values(), model.eval().encode(batch).content]

    source, model = generator(), built(name, what)
    everyones, own = torch.get_rng_state(), source.get_state()
    model(batch, source)
    assert torch.equal(everyones, torch.get_rng_state()), "every random number comes from the generator it is given"
    drew = not torch.equal(own, source.get_state())
    once, again = two_steps(1, 2), two_steps(1, 2)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[-1], two_steps(4, 2)[-1])
    assert drew != all(torch.equal(a, b) for a, b in zip(once, two_steps(1, 3), strict=True))


@pytest.mark.parametrize(("name", "kind"), cases(linear=False))
def test_a_gpu_finds_what_the_cpu_finds(name: str, kind: str, gpu: str) -> None:
    """The same losses and codes, as all random numbers are drawn on the CPU; and gradients that are finite."""
    what = KINDS[kind]
    model, other = built(name, what), built(name, what).to(gpu)
    for size in {what.coarse, what.fine}:
        batch = batch_of(what, size, frames=what.wedge)
        there = Batch(**{key: None if value is None else value.to(gpu) for key, value in vars(batch).items()})
        losses, found = model.train()(batch, generator()), other.train()(there, generator())
        found.total.backward()
        assert found.total.device.type == "cuda"
        assert losses.terms.keys() == found.terms.keys()
        for key, value in losses.terms.items():
            torch.testing.assert_close(
                found.terms[key].cpu(), value, atol=5e-3, rtol=1e-2, msg=lambda m, key=key: f"{key}: {m}"
            )
        assert all(p.grad.isfinite().all() for p in other.parameters() if p.grad is not None)
        ours, theirs = model.eval().encode(batch), other.eval().encode(there)
        torch.testing.assert_close(theirs.content.cpu(), ours.content, atol=5e-3, rtol=1e-2)
        torch.testing.assert_close(theirs.transform.cpu(), ours.transform, atol=5e-3, rtol=1e-2)
        if MODELS[name].decodes:
            shown = other.reconstruct(there, theirs)
            torch.testing.assert_close(shown.cpu(), model.reconstruct(batch, ours), atol=1e-2, rtol=2e-2)


@pytest.mark.parametrize(("name", "kind"), [case for case in cases() if MODELS[case[0]].kind == "linear"])
def test_linear_models_are_solved_the_same_again(name: str, kind: str) -> None:
    first, second = ready(name, KINDS[kind]), ready(name, KINDS[kind])
    stored = first.state_dict()
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in stored.items())
    assert all(value.isfinite().all() for value in stored.values())


@pytest.mark.parametrize(("name", "kind"), cases())
def test_encoding_uses_no_randomness_and_no_neighbours(name: str, kind: str) -> None:
    what = KINDS[kind]
    model, batch = ready(name, what), batch_of(what, what.coarse, frames=what.wedge)
    before = torch.get_rng_state()
    first, second = model.encode(batch), model.encode(batch)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.content, second.content)
    assert torch.equal(first.transform, second.transform)
    rows = torch.tensor([4, 1])

    def some(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values[rows]

    pair = Batch(*(some(getattr(batch, field)) for field in Batch.__dataclass_fields__))  # type: ignore[arg-type]
    alone = Encoding(*(some(getattr(first, field)) for field in Encoding.__dataclass_fields__))  # type: ignore[arg-type]
    assert_same(model.encode(pair), alone)


@pytest.mark.parametrize(("name", "kind"), cases(among=("wedge", "colour"), linear=False))
def test_saved_is_loaded_and_goes_on(name: str, kind: str, tmp_path: Path) -> None:
    what = KINDS[kind]
    model = built(name, what)
    optimiser, source = torch.optim.Adam(model.parameters(), 1e-3), generator()
    model(batch_of(what, what.coarse), source).total.backward()
    optimiser.step()
    save_checkpoint(tmp_path, model, optimiser, source, Counters(3, 7, 1.5))

    other = built(name, what, seed=9)
    restored, stream = torch.optim.Adam(other.parameters(), 5.0), generator(9)
    found = checkpoint_folder(tmp_path)
    assert found is not None
    counters = load_checkpoint(found, other, restored, stream, "cpu")
    assert (counters.epoch, counters.step, counters.seconds) == (3, 7, 1.5)
    for _ in range(2):  # and goes on as if nothing had happened
        for m, o, s in ((model, optimiser, source), (other, restored, stream)):
            o.zero_grad()
            m(batch_of(what, what.fine), s).total.backward()
            o.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize(("name", "kind"), cases(among=("volumes", "images", "colour")))
def test_it_learns_eight_particles(name: str, kind: str) -> None:
    what, info = KINDS[kind], MODELS[name]
    batch = batch_of(what, what.coarse, 8)
    if info.kind == "linear":
        model = solved(built(name, what, content=6, sphere=0.0), batch)
        if info.decodes:
            assert explained(model, batch) > 0.7
        assert model.encode(batch).content.isfinite().all()
        assert model.encode(batch).content.std(0).min() > 0
        return
    model = built(name, what, weight=20.0)
    before = max(explained(model.eval(), batch), 0.0) if info.decodes else 0.0
    optimiser, source, losses = torch.optim.Adam(model.parameters(), 1e-3), generator(), []

    def learnt() -> bool:
        ratio = np.mean(losses[-10:]) / np.mean(losses[:5])
        if info.kind == "contrastive":
            return ratio < 0.8
        return ratio < 0.5 or explained(model.eval(), batch) > before + 0.2

    while len(losses) < 20 or not learnt():
        assert len(losses) < 400, f"the loss went from {np.mean(losses[:5]):.3g} to {np.mean(losses[-10:]):.3g}"
        losses += steps(model.train(), batch, 20, optimiser=optimiser, source=source)


@pytest.fixture(scope="module")
def files(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind of particle."""
    folder = tmp_path_factory.mktemp("images")
    found = {"volumes": tiny_stack}
    for kind in ("images", "colour"):
        data = shapes(30, 12, KINDS[kind]).numpy()
        found[kind] = folder / f"{kind}.npz"
        np.savez(found[kind], images=np.moveaxis(data, 1, -1) if kind == "colour" else data)
    return found


def trained(run: Run, *, stop_after: int | None = None) -> None:
    for progress in fit(run, device="cpu"):
        if progress.step == stop_after:
            run.ask_to_stop()


def heeded(settings: Iterable[str], name: str) -> list[str]:
    return [one for one in settings if MODELS[name].heeds(one.partition("=")[0])]


@pytest.mark.parametrize(("name", "kind"), cases(among=("volumes", "images", "colour")))
def test_a_run_keeps_the_model(name: str, kind: str, files: dict[str, Path], tiny, tmp_path: Path) -> None:
    run = prepare(
        files[kind],
        tmp_path / "run",
        settings=[*heeded(tiny, name), "training.epochs=1", f"model.name={name}"],
    )
    trained(run)
    assert run.state() == "finished"
    model, _, weights = load_model(run)
    codes = run.codes()
    again = codes_of(model, read_inputs(run.particles(), run.recipe), device="cpu", epoch=0, fingerprint=weights)
    assert codes.fingerprint == weights
    assert len(codes.ids) == 30
    np.testing.assert_allclose(codes.content, again.content, atol=1e-5)
    np.testing.assert_allclose(codes.transform, again.transform, atol=1e-5)
    assert codes.transform.shape[1] > 0 or not MODELS[name].two_codes


@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, "volumes" if 3 in i.dimensions else "images") for n, i in MODELS.items() if i.kind != "linear"],
)
def test_it_stops_cleanly_and_is_resumed(name: str, kind: str, files: dict[str, Path], tiny, tmp_path: Path) -> None:
    settings = [*tiny, "training.fine_epochs=0", f"model.name={name}"]
    whole, cut = (prepare(files[kind], tmp_path / place, settings=settings) for place in ("whole", "cut"))
    trained(whole)
    trained(cut, stop_after=6)  # the second step of the second epoch
    assert cut.state() == "stopped"
    assert len(cut.codes().ids) == 30
    trained(cut)
    assert cut.state() == "finished"
    np.testing.assert_array_equal(cut.codes().content, whole.codes().content)
    np.testing.assert_array_equal(cut.codes().transform, whole.codes().transform)


def particles(shape: tuple[int, ...], **more: object) -> ParticleSet:
    given = {"voxel_size": 20.0} | more
    return ParticleSet(Path("them.star"), np.arange(shape[0]), ArrayVolumes(np.zeros(shape)), **given)


def recipe_of(name: str, *settings: str) -> Recipe:
    small = ("training.coarse_size=8", "training.fine_size=16", "model.content_dims=3")
    return Recipe().with_settings([*small, f"model.name={name}", *settings])


OF_DIMS = {2: (9, 16, 16), 3: (9, 16, 16, 16)}


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "dims"), [(n, d) for n, info in MODELS.items() for d in (2, 3) if d not in info.dimensions]
    )
    def test_particles_of_other_dimensions(self, name: str, dims: int) -> None:
        what = {2: "2D images", 3: "3D boxes"}[dims]
        with pytest.raises(InputError, match=rf"them\.star holds {what}; {name} trains on"):
            geometry_of(particles(OF_DIMS[dims]), recipe_of(name))

    @pytest.mark.parametrize("name", [n for n, info in MODELS.items() if 3 in info.dimensions])
    @pytest.mark.parametrize(
        ("shape", "sentence"), [((9, 16, 16, 12), "not cubes"), ((9, 4, 4, 4), "smaller than the 8")]
    )
    def test_boxes_of_other_shapes(self, name: str, shape: tuple[int, ...], sentence: str) -> None:
        with pytest.raises(InputError, match=rf"them\.star.*{sentence}"):
            geometry_of(particles(shape), recipe_of(name))

    @pytest.mark.parametrize("name", [n for n, info in MODELS.items() if 2 in info.dimensions])
    @pytest.mark.parametrize(
        ("shape", "sentence"), [((9, 16, 12), "square"), ((9, 6, 6), "smaller than 8"), ((9, 16, 12, 3), "square")]
    )
    def test_images_of_other_shapes(self, name: str, shape: tuple[int, ...], sentence: str) -> None:
        with pytest.raises(InputError, match=rf"them\.star.*{sentence}"):
            geometry_of(particles(shape), recipe_of(name))

    @pytest.mark.parametrize("name", [n for n, info in MODELS.items() if 3 in info.dimensions])
    def test_boxes_of_unknown_voxels(self, name: str) -> None:
        with pytest.raises(InputError, match=r"them\.star.*voxel size"):
            geometry_of(particles(OF_DIMS[3], voxel_size=None), recipe_of(name))

    @pytest.mark.parametrize(
        ("name", "dims", "mode"),
        [
            (n, d, m) for n, info in MODELS.items() for d in info.dimensions for m in POSE_MODES[1:]
            if d == 2 or m not in info.pose_modes
        ],
    )  # fmt: skip
    def test_a_pose_mode_that_it_lacks(self, name: str, dims: int, mode: str) -> None:
        with pytest.raises(InputError, match=rf"{name}.* does not take --pose {mode}; choose free"):
            read_inputs(particles(OF_DIMS[dims]), recipe_of(name, f"pose.mode={mode}"))

    @pytest.mark.parametrize(
        ("name", "mode"), [(n, m) for n, info in MODELS.items() for m in info.pose_modes if m != "free"]
    )
    def test_a_pose_mode_without_poses(self, name: str, mode: str) -> None:
        recipe, bare = recipe_of(name, f"pose.mode={mode}"), particles(OF_DIMS[3])
        with pytest.raises(InputError, match=rf"them\.star has no .*--pose {mode}"):
            read_inputs(bare, recipe)
        noise = np.random.default_rng(0).standard_normal(OF_DIMS[3])
        pose = Pose(np.tile(np.eye(3), (9, 1, 1)), np.zeros((9, 3)))
        posed = replace(bare, volumes=ArrayVolumes(noise), pose=pose, prior=np.zeros((9, 2)))
        assert len(read_inputs(posed, recipe)) == 9

    def test_a_prior_that_only_a_search_completes_without_one(self) -> None:
        noise = np.random.default_rng(0).standard_normal(OF_DIMS[3])
        known = replace(particles(OF_DIMS[3]), volumes=ArrayVolumes(noise), prior=np.zeros((9, 2)))
        unsearched = ("pose.mode=prior", "pose.search=false")
        assert len(read_inputs(known, recipe_of("harmony", *unsearched))) == 9, "its encoder finds rot"
        with pytest.raises(InputError, match=r"dualcontrast finds rot by the search.*pose\.search=true"):
            read_inputs(known, recipe_of("dualcontrast", *unsearched))

    @pytest.mark.parametrize(("name", "kind"), [case for case in cases() if MODELS[case[0]].decodes])
    def test_a_size_that_the_decoder_does_not_make(self, name: str, kind: str) -> None:
        model = ready(name, KINDS[kind])
        code = model.encode(batch_of(KINDS[kind], KINDS[kind].coarse))
        try:
            made = model.decode(code.content, code.transform, 20)
        except ValueError as error:
            assert "not 20" in str(error)  # noqa: PT017
        else:
            assert made.shape == (6, *model.spec.shape(20))  # a function of coordinates makes any size

    @pytest.mark.parametrize("name", list(MODELS))
    def test_a_name_that_is_not_there(self, name: str, tiny_stack: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=rf'no model "{name}2"; choose one of'):
            build_model(f"{name}2", spec_of(name, KINDS["volumes"]))
        with pytest.raises(InputError, match=rf'no model "{name}2"; choose one of'):
            model_info(f"{name}2")
        with pytest.raises(InputError, match="no model"):
            prepare(tiny_stack, tmp_path / "run", settings=[f"model.name={name}2"])
        assert not list(tmp_path.iterdir())


class Endless:
    """As many boxes as asked for, made when they are read."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((len(rows), *self.shape[1:])).astype(np.float32)

    def subset(self, rows: np.ndarray) -> Endless:
        return Endless(len(rows), *self.shape[1:])


@pytest.mark.parametrize(("name", "kind"), cases(among=("volumes", "digits")))
def test_it_states_its_memory(name: str, kind: str, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all, and so of each particle: what stands in memory, and with a linear model what it is solved by."""
    what = KINDS[kind]
    settings = [*heeded(tiny, name), f"model.name={name}"]

    def given(count: int) -> ParticleSet:
        return ParticleSet(Path("them.star"), np.arange(count), Endless(count, *(what.fine,) * what.dims), 20.0)

    def memory(count: int) -> float:
        them = given(count)
        monkeypatch.setattr(estimate, "read_particles", lambda *_, **__: them)
        found = estimate.estimate_training(Path("them.star"), settings=settings, device="cpu")
        assert np.isfinite(found.seconds)
        return found.memory_gb

    few, many = memory(100), memory(2_000_000)
    coarse = 4 * geometry_of(given(100), Recipe.chosen("standard", settings)).coarse ** what.dims
    assert few > 0.5  # PyTorch
    assert coarse <= (many - few) / (2_000_000 - 100) * 1e9 <= 3 * coarse + 1100


@pytest.mark.parametrize("name", list(MODELS))
def test_the_registry_describes_it(name: str) -> None:
    info = MODELS[name]
    assert info.name == name
    assert info.title
    assert info.summary.endswith(".")
    assert info.citation
    assert set(info.dimensions) <= {2, 3}
    assert info.dimensions
    assert set(info.pose_modes) <= set(POSE_MODES)
    assert info.decodes or info.kind != "generative"
