"""fit(): repeatable to the bit, stopped and resumed, and honest when it fails."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
import torch

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix, geodesic_angle, matrix_to_euler
from napari_disentangle.io import read_particles
from napari_disentangle.io.mrc import write_volume_stack
from napari_disentangle.models.base import Spec
from napari_disentangle.models.nets import Decoder, resample
from napari_disentangle.particles import Pose
from napari_disentangle.run import Run
from napari_disentangle.training import fit, prepare
from napari_disentangle.training import fit as fit_function
from napari_disentangle.training.device import choose_device
from napari_disentangle.training.posing import FoundPoses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_disentangle.models.base import Codes
    from napari_disentangle.particles import ParticleSet
    from napari_disentangle.training import Progress

fit_module = sys.modules[fit_function.__module__]
eigenvolumes_module = sys.modules[fit_module.eigenvolumes.__module__]


@pytest.fixture
def make(tiny_stack, tiny, tmp_path) -> Callable[..., Run]:
    """Prepare a run of the tiny stack in a folder of that name."""

    def prepared(name: str, *settings: str, stack: Path = tiny_stack, **reading: object) -> Run:
        return prepare(stack, tmp_path / name, settings=[*tiny, *settings], reading=reading)

    return prepared


def drain(run: Run) -> list[Progress]:
    return list(fit(run, device="cpu"))


def same(a: Codes, b: Codes) -> bool:
    """To the bit."""
    assert a.pose is not None
    assert b.pose is not None
    pairs = [
        (a.content, b.content), (a.transform, b.transform), (a.pose.rotations, b.pose.rotations),
        (a.pose.offsets, b.pose.offsets), (a.ids, b.ids),
    ]  # fmt: skip
    return a.fingerprint == b.fingerprint and all(x.tobytes() == y.tobytes() for x, y in pairs)


def events(run: Run) -> list[str]:
    return [event["event"] for event in run.events()]


def throw(error: BaseException) -> NoReturn:
    raise error


class TestWhatItTells:
    def test_progress_and_diary(self, make):
        run = make("run")
        told = drain(run)
        steps = [p for p in told if not p.message]
        assert [p.step for p in steps] == list(range(1, 13))  # three epochs of 30 particles in batches of 8 and 7
        assert {(p.epochs, p.steps) for p in told} == {(3, 12)}
        assert [p.epoch for p in steps] == [1] * 4 + [2] * 4 + [3] * 4
        assert [p.message for p in told if p.message] == [
            "epoch 1 of 3 at 8 voxels", "epoch 2 of 3 at 8 voxels", "epoch 3 of 3 at 16 voxels", "finished",
        ]  # fmt: skip
        for p in steps:
            assert p.losses.keys() >= {"total", "reconstruction", "kl"}
            assert all(math.isfinite(value) for value in p.losses.values())
            assert p.particles_per_second > 0
            assert p.eta_seconds is not None
            assert p.eta_seconds >= 0
            assert "on CPU" in p.device
        assert run.state() == "finished"
        assert [e for e in events(run) if e not in ("progress", "checkpoint")] == [
            "started",
            "epoch",
            "epoch",
            "epoch",
            "finished",
        ]
        for event in run.events():
            assert event["schema_version"] == 1
        codes = run.codes()
        assert codes.epoch == 3
        np.testing.assert_array_equal(codes.ids, np.arange(30))
        assert (codes.content.shape, codes.transform.shape) == ((30, 3), (30, 12))
        assert codes.fingerprint == run.fingerprint() == run.events()[-2]["fingerprint"]

    def test_the_map_of_invariants_is_there_before_the_first_step(self, make):
        run = make("run")
        steps = fit(run, device="cpu")
        next(steps)
        found = run.embedding("invariants", "pca")
        assert run.checkpoint() is None
        assert found is not None
        assert found.coordinates.shape == (30, 2)
        assert found.coordinates.std(0).min() > 0
        steps.close()

    def test_an_epochs_losses_are_the_means_over_its_particles(self, make):
        told = drain(make("run"))
        first = [p.losses["total"] for p in told[:4]]
        assert told[4].losses["total"] == pytest.approx((8 * sum(first[:2]) + 7 * sum(first[2:])) / 30)

    def test_the_transform_is_the_pose_in_voxels(self, make):
        run = make("run")
        drain(run)
        codes = run.codes()
        assert codes.pose is not None
        np.testing.assert_allclose(codes.transform[:, :9].reshape(-1, 3, 3), codes.pose.rotations, atol=1e-6)
        np.testing.assert_allclose(codes.transform[:, 9:] * 20, codes.pose.offsets, atol=1e-4)
        # 0.25 of the diameter, which is the edge / 1.6
        assert np.abs(codes.pose.offsets).max() <= 0.25 * 320 / 1.6 + 1e-3


class TestRepeatable:
    def test_one_seed_is_one_result_to_the_bit(self, make):
        a, b, c = make("a"), make("b"), make("c", "training.seed=1")
        for run in (a, b, c):
            drain(run)
        assert same(a.codes(), b.codes())
        assert not same(a.codes(), c.codes())

    @pytest.mark.parametrize("step", [1, 3, 4, 6, 8, 10])
    def test_stopped_and_resumed_is_as_if_never_stopped(self, make, step):
        """Four steps an epoch: at its boundary, in its middle, and in the fine stage."""
        whole, cut = make("whole", tilt_range=(-60.0, 60.0)), make("cut", tilt_range=(-60.0, 60.0))
        drain(whole)
        for progress in (told := fit(cut, device="cpu")):
            if progress.step == step and not progress.message:
                cut.ask_to_stop()
                break
        rest = list(told)
        assert rest[-1].message.startswith("stopped")
        assert cut.state() == "stopped"
        assert not cut.stop_asked()
        assert cut.codes().epoch == step // 4
        assert not same(cut.codes(), whole.codes())
        again = drain(Run.open(cut.path))
        assert [p.step for p in again if not p.message] == list(range(step + 1, 13))
        assert cut.state() == "finished"
        assert same(cut.codes(), whole.codes())

    def test_stopping_again_and_again(self, make):
        whole, cut = make("whole"), make("cut")
        drain(whole)
        for _ in range(20):
            for progress in (told := fit(cut, device="cpu")):
                if not progress.message:
                    cut.ask_to_stop()
                    break
            list(told)
            if cut.state() == "finished":
                break
        assert same(cut.codes(), whole.codes())
        assert len(list((cut.path / "checkpoints").iterdir())) == 2

    @pytest.mark.parametrize("step", [6, 9])
    def test_so_is_one_that_was_left_or_killed(self, make, step):
        whole, left = make("whole"), make("left")
        drain(whole)
        told = fit(left, device="cpu")
        for progress in told:
            if progress.step == step:
                break
        told.close()
        assert left.state() == "stopped"
        assert not (left.path / "lock").exists()
        drain(left)
        assert "resumed" in events(left)
        assert same(left.codes(), whole.codes())

    def test_a_finished_run_stays_as_it_is(self, make):
        run = make("run")
        drain(run)
        before = run.codes()
        told = drain(run)
        assert [p.message for p in told] == ["finished"]
        assert same(run.codes(), before)

    def test_leaving_after_the_last_word_is_no_stop(self, make):
        run = make("run")
        told = fit(run, device="cpu")
        for progress in told:
            if progress.message == "finished":
                break
        told.close()
        assert run.state() == "finished"


class TestWriters:
    def test_a_second_one_is_refused_and_the_first_goes_on(self, make):
        run = make("run")
        first = fit(run, device="cpu")
        next(first)
        with pytest.raises(InputError, match="is being written by process"):
            next(fit(Run.open(run.path), device="cpu"))
        command = [sys.executable, "-m", "napari_disentangle", "train", str(run.path), "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert "is being written by process" in done.stderr
        assert len(list(first)) > 10
        assert run.state() == "finished"
        assert "failed" not in events(run)

    def test_a_stop_from_before_is_forgotten(self, make):
        run = make("run")
        run.ask_to_stop()
        drain(run)
        assert run.state() == "finished"

    def test_whoever_overwrites_it_while_it_trains_is_refused(self, make, tiny_stack, tiny):
        run = make("run")
        told = fit(run, device="cpu")
        next(told)
        with pytest.raises(InputError, match="being written"):
            prepare(tiny_stack, run.path, settings=tiny, overwrite=True)
        told.close()


class TestFailures:
    def failed(self, run: Run, sentence: str) -> None:
        with pytest.raises(InputError, match=sentence) as error:
            drain(run)
        assert run.state() == "failed"
        assert run.events()[-1]["why"] == str(error.value)
        assert not (run.path / "lock").exists()
        for line in (run.path / "events.jsonl").read_text().splitlines():
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    def test_particles_pushed_out_of_the_box(self, make, monkeypatch):
        run = make("run", "pose.max_shift=0.5", "pose.diameter=319", "training.learning_rate=1e-6")
        build = fit_module.model_for

        def pushing(*args: object) -> object:
            model = build(*args)
            with torch.no_grad():
                model.pose.head.bias[6:] = 20.0  # tanh is 1: half a box along each axis
            return model

        monkeypatch.setattr(fit_module, "model_for", pushing)
        self.failed(run, "collapsed: .* out of the box; .*pose.max_shift")
        assert run.checkpoint() is None

    @pytest.mark.parametrize("rate", ["1e4", "1e15", "1e30"])
    def test_an_absurd_learning_rate(self, make, rate):
        run = make("run", f"training.learning_rate={rate}", "training.epochs=4")
        self.failed(run, "diverged at step .*smaller --set training.learning_rate|collapsed")
        if (run.path / "codes.npz").exists():
            assert np.isfinite(run.codes().content).all()

    def test_content_that_is_the_same_for_all_particles_is_never_saved(self, make, monkeypatch):
        run = make("run", "model.name=dualcontrast", "training.epochs=3", "training.checkpoint_every=1")
        step, build, built = torch.optim.Adam.step, fit_module.model_for, []
        monkeypatch.setattr(fit_module, "model_for", lambda *args: built.append(build(*args)) or built[-1])

        def saturate(self: torch.optim.Adam, *args: object) -> None:
            step(self, *args)
            if run.checkpoint() is not None:
                with torch.no_grad():
                    built[0].content[-1].bias.fill_(1e3)

        monkeypatch.setattr(torch.optim.Adam, "step", saturate)
        self.failed(run, "collapsed: content is the same for all particles.*smaller --set training.learning_rate than")
        assert run.codes().epoch == 1, "what was learnt before is kept"
        assert np.ptp(run.codes().content, axis=0).max() > 0.01

    def test_weights_that_are_no_numbers_are_never_saved(self, make, monkeypatch):
        """The loss of the last step is still a number, its gradient is not."""
        run = make("run", "training.epochs=1", "training.fine_epochs=0", "training.batch_size=30")
        step = torch.optim.Adam.step

        def ruin(self: torch.optim.Adam, *args: object) -> None:
            step(self, *args)
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))

        monkeypatch.setattr(torch.optim.Adam, "step", ruin)
        self.failed(run, "diverged")
        assert run.checkpoint() is None

    @pytest.mark.parametrize(
        "full",
        [
            lambda: torch.empty(2**58),  # the CPU's allocator itself
            lambda: np.empty(2**55),
            lambda: throw(MemoryError()),
            lambda: throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
            lambda: throw(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")),
        ],
        ids=["CPU", "numpy", "Python", "CUDA", "MPS"],
    )
    def test_memory_that_runs_out_is_a_sentence_with_a_remedy(self, make, monkeypatch, full):
        run = make("run")
        steps = iter(range(100))
        backward = torch.Tensor.backward

        def at_the_sixth(self: torch.Tensor, *args: object, **more: object) -> None:
            if next(steps) == 5:
                full()
            backward(self, *args, **more)

        monkeypatch.setattr(torch.Tensor, "backward", at_the_sixth)
        self.failed(run, r"memory ran out on CPU, .*smaller --set training\.batch_size=4\. The last checkpoint is kept")
        assert str(run.path) in run.events()[-1]["why"]
        assert run.codes().epoch == 1
        monkeypatch.undo()
        drain(run)
        assert run.state() == "finished"
        assert "resumed" in events(run)

    def test_any_other_runtime_error_is_not_taken_for_it(self, make, monkeypatch):
        run = make("run")
        monkeypatch.setattr(torch.Tensor, "backward", lambda *_: throw(RuntimeError("shapes do not match")))
        with pytest.raises(RuntimeError, match="shapes do not match"):
            drain(run)
        assert run.events()[-1]["why"] == "RuntimeError: shapes do not match"

    def test_an_error_of_ours_is_told_too(self, make, monkeypatch):
        run = make("run")
        monkeypatch.setattr(fit_module, "read_inputs", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            drain(run)
        assert run.state() == "failed"
        assert run.events()[-1]["why"].startswith("ZeroDivisionError")
        assert not (run.path / "lock").exists()

    @pytest.mark.parametrize(("value", "rows"), [(np.nan, [4]), (np.inf, [7, 21])])
    def test_voxels_that_are_no_numbers_name_their_particle(self, make, tmp_path, value, rows):
        boxes = np.random.default_rng(0).standard_normal((30, 16, 16, 16)).astype(np.float32)
        boxes[rows, 3, 4, 5] = value
        write_volume_stack(tmp_path / "bad.mrcs", boxes, 20.0)
        with pytest.raises(InputError, match=rf"bad\.mrcs: particles? {', '.join(map(str, rows))} .*NaN"):
            make("run", stack=tmp_path / "bad.mrcs")
        assert not (tmp_path / "run").exists()

    def test_so_does_a_constant_box(self, make, tmp_path):
        boxes = np.random.default_rng(0).standard_normal((30, 16, 16, 16)).astype(np.float32)
        boxes[12] = 3
        write_volume_stack(tmp_path / "bad.mrcs", boxes, 20.0)
        with pytest.raises(InputError, match=r"bad\.mrcs: particle 12 .*constant"):
            make("run", stack=tmp_path / "bad.mrcs")
        assert not (tmp_path / "run").exists()

    def test_too_few_particles(self, make, tmp_path):
        boxes = np.random.default_rng(0).standard_normal((8, 16, 16, 16)).astype(np.float32)
        write_volume_stack(tmp_path / "seven.mrcs", boxes[:7], 20.0)
        with pytest.raises(InputError, match="has 7 particles; training needs at least 8"):
            make("run", stack=tmp_path / "seven.mrcs")
        write_volume_stack(tmp_path / "eight.mrcs", boxes, 20.0)
        drain(make("eight", stack=tmp_path / "eight.mrcs"))

    def test_particles_that_changed_since(self, make, tmp_path, tiny_stack):
        for name in ("particles.star", "particles.mrcs"):
            (tmp_path / name).write_bytes((tiny_stack.parent / name).read_bytes())
        run = make("run", stack=tmp_path / "particles.star")
        (tmp_path / "particles.star").write_text((tmp_path / "particles.star").read_text() + "\n# touched\n")
        self.failed(run, "has changed since")


class TestSizes:
    def test_a_batch_larger_than_the_data_shrinks_with_a_notice(self, make):
        run = make("run", "training.batch_size=1000", "training.epochs=1")
        told = drain(run)
        assert told[0].message == "batches of 1000 shrink to the 30 particles there are"
        assert {p.steps for p in told[1:]} == {2}
        assert "notice" in events(run)

    @pytest.mark.parametrize("batch", [29, 7])
    def test_a_last_batch_of_few(self, make, batch):
        run = make("run", f"training.batch_size={batch}", "training.epochs=1", "training.fine_epochs=0")
        assert drain(run)[-1].message == "finished"

    def test_only_the_fine_stage(self, make):
        run = make("run", "training.epochs=0")
        assert "at 16 voxels" in drain(run)[4].message

    def test_the_fine_stage_starts_where_the_coarse_one_ended(self, make):
        """The first fine volume is the upsampled coarse one; the first fine step then learns."""
        run = make("run", "training.fine_epochs=0")
        drain(run)
        from napari_disentangle.training import load_model

        model, geometry, _ = load_model(run)
        content = torch.tensor(run.codes().content)
        none = torch.zeros(len(content), 0)
        with torch.no_grad():
            coarse, fine = (model.decode(content, none, size) for size in (geometry.coarse, geometry.fine))
        assert coarse.abs().max() > 0
        assert torch.equal(fine, resample(coarse, geometry.fine))
        decoder = Decoder(3, Spec(dims=3, coarse=8, fine=16))
        decoder(content, 16).square().sum().backward()
        assert decoder.correction[-1].weight.grad.abs().max() > 0


class TestDevices:
    def test_a_gpu_that_is_not_there_is_never_the_cpu(self, make, monkeypatch):
        run = make("run")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        for name in ("cuda", "mps"):
            with pytest.raises(InputError, match=rf"--device {name}: .*choose --device cpu"):
                next(fit(run, device=name))
        assert run.state() == "new"
        assert not (run.path / "lock").exists()
        assert choose_device("auto")[0] == "cpu"
        assert "no GPU found" in choose_device("auto")[1]

    def test_a_mac_whose_pytorch_cannot_move_volumes_is_told(self, monkeypatch):
        """As this one, which knows no Apple GPU at all."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        with pytest.raises(
            InputError, match=r"--device mps: .*\(Could not run '.*'MPS'.*\); update PyTorch, or choose"
        ):
            choose_device("mps")
        name, words = choose_device("auto")
        assert name == "cpu"
        assert "(the Apple GPU needs a newer PyTorch)" in words
        assert choose_device("cpu")[1].startswith("on CPU")

    def test_a_gpu_that_is_there_is_taken_and_the_cpu_when_asked(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
        assert choose_device("auto") == choose_device("cuda") == ("cuda", "on GPU, H100")
        assert choose_device("cpu")[0] == "cpu"


class TestPoseModes:
    def test_fixed_is_the_imported_pose_exactly(self, make, tiny_stack):
        run = make("run", "pose.mode=fixed")
        drain(run)
        given, found = read_particles(tiny_stack).pose, run.codes().pose
        np.testing.assert_allclose(found.rotations, given.rotations, atol=1e-6)
        np.testing.assert_allclose(found.offsets, given.offsets, atol=1e-4)

    def test_local_stays_near_the_imported_pose(self, make, tiny_stack):
        run = make("run", "pose.mode=local", "pose.cone=10", "training.learning_rate=0.01")
        drain(run)
        given, found = read_particles(tiny_stack).pose, run.codes().pose
        angles = geodesic_angle(given.rotations, found.rotations)
        assert 0.1 < angles.max() < 10.1
        assert 0 < np.abs(found.offsets - given.offsets).max() <= 0.1 * 200 + 1e-3  # a tenth of the diameter

    def test_prior_keeps_tilt_and_psi(self, make, tiny_stack):
        run = make("run", "pose.mode=prior", "training.learning_rate=0.01")
        drain(run)
        given = read_particles(tiny_stack)
        found = matrix_to_euler(run.codes().pose.rotations)
        np.testing.assert_allclose(found[:, 1], given.prior[:, 0], atol=0.1)
        np.testing.assert_allclose((found[:, 2] - given.prior[:, 1] + 180) % 360, 180, atol=0.5)
        assert np.abs(found[:, 0] - matrix_to_euler(given.pose.rotations)[:, 0]).max() > 1

    @pytest.mark.parametrize("model", ["harmony", "dualcontrast"])
    def test_a_search_keeps_near_the_prior(self, make, tiny_stack, model):
        run = make("run", f"model.name={model}", "pose.mode=prior", "pose.search=true", "pose.cone=15")
        drain(run)
        given, found = read_particles(tiny_stack).prior_pose, run.codes().pose
        leans = np.degrees(np.arccos((found.rotations[:, :, 2] * given.rotations[:, :, 2]).sum(1).clip(-1, 1)))
        assert leans.max() <= 15 + 1e-3
        assert geodesic_angle(found.rotations, given.rotations).max() > 30


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            ["model.invariants=false"], ["model.soft_sphere=false"], ["model.wedge=false"], ["training.distance=sum"],
            ["model.content_dims=40"], ["training.fine_size=8"], ["training.gamma=0.5"],
        ],
        ids=lambda s: s[0],
    )  # fmt: skip
    def test_every_switch_trains(self, make, settings):
        run = make("run", *settings, "training.epochs=1", tilt_range=(-60.0, 40.0))
        drain(run)
        assert run.state() == "finished"
        assert np.isfinite(run.codes().content).all()

    def test_the_wedge_counts_only_where_it_is_heeded(self, make):
        def losses(name: str, *settings: str, **reading: object) -> list[float]:
            return [p.losses["total"] for p in islice(fit(make(name, *settings, **reading), device="cpu"), 2)]

        wedge = {"tilt_range": (-60.0, 60.0)}
        assert losses("none") == losses("off", "model.wedge=false", **wedge)
        assert losses("off2", "model.wedge=false", **wedge) != losses("on", **wedge)


class TestSearch:
    """Poses are searched between the stages, kept in the folder, and never searched twice."""

    @pytest.fixture
    def searches(self, monkeypatch) -> list[int]:
        """A stand-in for the search, quick and as repeatable; counts how often it ran to its end."""
        done: list[int] = []

        def found(particles: ParticleSet, content: np.ndarray, *_: object, progress, **__: object) -> FoundPoses:
            progress("poses of group 1", 0.0)
            progress("poses of group 1", 0.5)
            done.append(len(particles))
            angles = 100 * content[:, :3].astype(np.float64)
            one = np.zeros(len(particles), np.int64)
            return FoundPoses(Pose(euler_to_matrix(angles), 5 * np.sign(angles)), one, one)

        monkeypatch.setattr(fit_module, "find_poses", found)
        return done

    def test_their_result_is_the_pose_from_there_on(self, make, searches):
        run = make("run", "pose.search=true")
        messages = [p.message for p in drain(run) if p.message]
        assert [m for m in messages if "pose" in m] == ["searching poses", "poses searched; groups: 1"]
        assert np.abs(np.abs(run.codes().pose.offsets) - 5).max() < 1e-3
        drain(run)
        assert searches == [30]

    @pytest.mark.parametrize("model", ["harmony", "dualcontrast"])
    @pytest.mark.parametrize("where", ["searching", "searched", "epoch 3"])
    def test_stopped_around_it_and_resumed_is_as_if_never_stopped(self, make, searches, where, model):
        settings = ("pose.search=true", "training.posed_epochs=2", f"model.name={model}", "training.checkpoint_every=1")
        whole, cut = make("whole", *settings), make("cut", *settings)
        drain(whole)
        for progress in (told := fit(cut, device="cpu")):
            if where in progress.message:
                cut.ask_to_stop()
                break
        assert list(told)[-1].message.startswith("stopped")
        assert (cut.path / "poses.npz").exists() is (where != "searching")
        drain(cut)
        assert same(cut.codes(), whole.codes())
        assert searches == [30, 30]

    @pytest.mark.parametrize(("model", "of", "found"), [("harmony", "kinds", 2), ("dualcontrast", "conformations", 8)])
    @pytest.mark.parametrize("where", ["looking for", "are read along", "epoch 3"])
    def test_stopped_around_the_search_for_eigenvolumes_and_resumed_is_as_if_never_stopped(
        self, make, searches, where, monkeypatch, model, of, found
    ):
        for name, value in (("FEWEST", 3), ("APART", 0.0), ("MORE", 0.0), ("LEFT", 0.0)):  # some in any particles
            monkeypatch.setattr(eigenvolumes_module, name, value)
        settings = (
            "pose.search=true", "training.posed_epochs=2", "training.checkpoint_every=1", f"model.name={model}",
        )  # fmt: skip
        whole, cut, without = make("whole", *settings), make("cut", *settings), make("without", *settings)
        assert f"{of} are read along {found} differences" in [p.message for p in drain(whole)]
        for progress in (told := fit(cut, device="cpu")):
            if where in progress.message:
                cut.ask_to_stop()
                break
        assert list(told)[-1].message.startswith("stopped")
        drain(cut)
        assert same(cut.codes(), whole.codes())
        assert searches == [30, 30]
        monkeypatch.setattr(eigenvolumes_module, "FEWEST", 20)
        drain(without)
        code = {"kinds": "content", "conformations": "transform"}[of]
        assert not np.allclose(getattr(without.codes(), code), getattr(whole.codes(), code), atol=0.5)

    def test_conformations_are_read_in_the_poses_that_were_found(self, make, searches):
        from napari_disentangle.training.encoding import codes_of, load_model
        from napari_disentangle.training.inputs import read_inputs, with_poses

        run = make("run", "pose.search=true", "model.name=dualcontrast", "training.posed_epochs=2")
        told = [p.message for p in drain(run) if p.message]
        assert [m for m in told if "pose" in m] == ["searching poses", "poses searched; groups: 1"]
        assert searches == [30]
        codes, found = run.codes(), FoundPoses.load(run.poses_path)
        assert codes.transform.shape == (30, 8)
        np.testing.assert_allclose(codes.transform.mean(0), 0, atol=1e-5)  # the one family there is
        np.testing.assert_allclose(codes.pose.offsets, found.pose.offsets, atol=1e-3)
        model, _, _ = load_model(run)
        inputs = with_poses(read_inputs(run.particles(), run.recipe), found.pose, found.family)
        again = codes_of(model, inputs, device="cpu", epoch=0, fingerprint="")
        np.testing.assert_allclose(again.transform, codes.transform, atol=1e-5)

    @pytest.mark.parametrize("model", ["harmony", "dualcontrast"])
    def test_fixed_poses_are_kept_and_groups_averaged(self, make, tiny_stack, model):
        run = make("run", f"model.name={model}", "pose.search=true", "pose.mode=fixed")
        told = [p.message for p in drain(run) if p.message]
        assert told.index("averaging groups") < told.index("poses kept; groups: 1")
        assert (FoundPoses.load(run.poses_path).family == 0).all()
        given, found = read_particles(tiny_stack).pose, run.codes().pose
        np.testing.assert_allclose(found.rotations, given.rotations, atol=1e-6)
        np.testing.assert_allclose(found.offsets, given.offsets, atol=1e-4)

    def test_a_run_that_an_earlier_version_trained_on_without_it_is_left_as_it_is(self, make):
        run = make("run", "pose.search=true", "pose.mode=fixed")
        drain(run)
        before = run.codes()
        run.poses_path.unlink()
        drain(run)
        assert not run.poses_path.exists()
        assert same(run.codes(), before)

    @pytest.mark.slow
    def test_the_real_one_is_repeatable_to_the_bit(self, make):
        a, b = make("a", "pose.search=true"), make("b", "pose.search=true")
        drain(a)
        drain(b)
        assert same(a.codes(), b.codes())


def test_reading_the_clock_does_not_divide_by_it(make, monkeypatch):
    # a coarse clock, as on Windows, may stand still for a whole step
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert drain(make("run", "training.epochs=1"))[-1].message == "finished"
