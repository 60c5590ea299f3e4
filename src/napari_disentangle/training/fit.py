"""fit(): train the run of a folder, as a generator of Progress."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.embedding import embed
from napari_disentangle.errors import InputError, OutOfMemoryError, is_out_of_memory
from napari_disentangle.models import model_info
from napari_disentangle.run import Embedding
from napari_disentangle.run.checkpoint import Counters, fingerprint, load_checkpoint, save_checkpoint
from napari_disentangle.training.anchor import start_content
from napari_disentangle.training.device import DeviceName, adam, choose_device
from napari_disentangle.training.eigenvolumes import eigenvolumes
from napari_disentangle.training.encoding import codes_of, model_for
from napari_disentangle.training.inputs import Inputs, read_inputs, with_poses
from napari_disentangle.training.posing import FoundPoses, find_poses

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import NDArray

    from napari_disentangle.models.base import Differences
    from napari_disentangle.models.module import DisentanglingModel
    from napari_disentangle.recipe import Recipe
    from napari_disentangle.run import Run
    from napari_disentangle.run.lock import Lock
    from napari_disentangle.training.inputs import Geometry

LOST_ENERGY = 0.3
"""Share of the particles' energy below which alignment has pushed them out of the box."""
SAME = 1e-5
"""Range of a content code that tells no particle from another."""
_TELL_EVERY = 1.0
"""Seconds between progress lines in the diary."""


@dataclass(frozen=True)
class Progress:
    """Where training stands."""

    epoch: int
    """The present epoch, from 1; 0 while particles are read."""
    epochs: int
    step: int
    """Steps done, of all epochs."""
    steps: int
    losses: dict[str, float]
    """Named terms: of the last step, or with `message` the means over an epoch."""
    particles_per_second: float
    eta_seconds: float | None
    device: str
    """In words."""
    message: str = ""
    """Something worth a line; empty for an ordinary step."""


_POSES = {
    "local": "poses: within {cone} degrees of the imported ones (--pose free tries all)",
    "fixed": "poses: the imported ones, unchanged",
    "prior": "poses: any rot, near the imported tilt and psi",
}


class _StopAskedError(Exception):
    """The user asked for a stop in the middle of a search."""


def fit(run: Run, device: DeviceName = "auto") -> Iterator[Progress]:
    """Train, or take training up where it was left, and yield what happens.

    Writes events, checkpoints and codes into the run folder. Appearance of the file ``stop`` there ends training after
    the present step; checkpoint and codes are written and training can be resumed at that very step. On the CPU the
    result is the same to the bit for the same recipe and number of threads, with stops or without.

    Parameters
    ----------
    run : Run
    device : "auto", "cpu", "cuda" or "mps"

    Yields
    ------
    Progress

    Raises
    ------
    InputError
        Particles that cannot be trained on, a device that is not there, another writer, a collapse or divergence (the
        last whole checkpoint is kept).
    """
    name, words = choose_device(device)
    with run.lock() as lock:
        run.clear_stop()
        run.say("started", device=name, words=words)
        try:
            yield from _train(run, lock, name, words)
        except GeneratorExit:
            if run.state() == "unfinished":
                run.say("stopped", why="whoever trained it left before the end")
            raise
        except InputError as error:
            if not lock.lost:  # else what follows is the other process's
                run.say("failed", why=str(error))
            raise
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                run.say("failed", why=f"{type(error).__name__}: {error}")
                raise
            why = (
                f"{run.path}: memory ran out {words}; free some (close other programs), or train again with a smaller "
                f"--set training.batch_size={max(2, run.recipe.training.batch_size // 2)}. The last checkpoint is kept."
            )
            run.say("failed", why=why)
            raise OutOfMemoryError(why) from error
        except BaseException as error:
            run.say("failed", why=f"{type(error).__name__}: {error}")
            raise
        finally:
            if not lock.lost:
                run.clear_stop()


def _train(run: Run, lock: Lock, device: str, words: str) -> Iterator[Progress]:
    import torch

    recipe, settings = run.recipe, run.recipe.training
    particles = run.particles()
    epochs = settings.all_epochs
    steps = -(-len(particles) // min(settings.batch_size, len(particles))) * epochs
    notices: list[str] = []
    if recipe.pose.mode in _POSES:
        notices.append(_POSES[recipe.pose.mode].format(cone=f"{recipe.pose.cone:g}"))
    if settings.batch_size > len(particles):
        notices.append(f"batches of {settings.batch_size} shrink to the {len(particles)} particles there are")
    for notice in notices:
        run.say("notice", message=notice)
        yield Progress(0, epochs, 0, steps, {}, 0.0, None, words, notice)

    def reading(_done: int, _count: int) -> None:
        lock.beat()

    inputs = read_inputs(particles, recipe, progress=reading)
    run.save_scale(particles.ids, inputs.scale)
    _map_invariants(run, inputs)
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    model = model_for(recipe, inputs.geometry, inputs.invariants.shape[1], len(inputs))
    if model_info(recipe.model.name).kind == "linear":
        yield from _solve(run, lock, inputs, model, generator, words)
        return
    model = model.to(device)
    if model.spec.features:
        start_content(model, inputs, recipe, device)
    optimiser = adam(model, settings.learning_rate, device)
    counters = Counters(0, 0, 0.0)
    found = run.checkpoint()
    if found is not None:
        counters = load_checkpoint(found, model, optimiser, generator, device)
        run.say("resumed", epoch=counters.epoch)
    loop = _Loop(run, lock, inputs, model, optimiser, generator, counters, device, words)
    yield from loop.run_epochs(settings.epochs, inputs.geometry.coarse)
    if loop.stopped:
        return
    if searches_poses(recipe, inputs.geometry):
        yield from loop.search_poses()
        if loop.stopped:
            return
    yield from loop.run_epochs(settings.epochs + settings.posed_epochs, inputs.geometry.coarse)
    if loop.stopped:
        return
    yield from loop.run_epochs(loop.epochs, inputs.geometry.fine)
    if not loop.stopped:
        yield loop.finish()


def searches_poses(recipe: Recipe, geometry: Geometry) -> bool:
    """Return whether training pauses between its stages to group particles and to search their poses."""
    posed = bool(model_info(recipe.model.name).pose_modes) and geometry.dims == 3
    return posed and recipe.pose.search


def _solve(
    run: Run, lock: Lock, inputs: Inputs, model: DisentanglingModel, generator: torch.Generator, words: str
) -> Iterator[Progress]:
    """Fit a linear model in one go; there is nothing to resume."""
    import torch

    began = time.monotonic()
    lock.beat()
    model.solve(inputs.coarse, inputs.invariants, run.recipe.training.seed)
    seconds = time.monotonic() - began
    if model.remark:
        run.say("notice", message=model.remark)
        yield Progress(1, 1, 1, 1, {}, 0.0, None, words, model.remark)
    nothing_trained = torch.optim.Adam([torch.zeros(0)])
    save_checkpoint(run.path, model, nothing_trained, generator, Counters(1, 1, seconds))
    checkpoint = run.checkpoint()
    assert checkpoint is not None
    weights = fingerprint(checkpoint)
    run.save_codes(codes_of(model, inputs, device="cpu", epoch=1, fingerprint=weights))
    run.say("checkpoint", epoch=1, name=checkpoint.name, fingerprint=weights)
    run.say("finished", epoch=1, seconds=seconds)
    yield Progress(1, 1, 1, 1, {}, len(inputs) / max(seconds, 1e-9), None, words, "finished")


class _Loop:
    """The state of one training: counters and clocks."""

    def __init__(
        self, run: Run, lock: Lock, inputs: Inputs, model: DisentanglingModel, optimiser: torch.optim.Optimizer,
        generator: torch.Generator, counters: Counters, device: str, words: str,
    ) -> None:  # fmt: skip
        self.run, self.lock, self.inputs, self.model, self.optimiser = run, lock, inputs, model, optimiser
        self.generator, self.device, self.words = generator, device, words
        self.settings = run.recipe.training
        self.epochs = self.settings.all_epochs
        self.batch = min(self.settings.batch_size, len(inputs))
        self.steps_per_epoch = -(-len(inputs) // self.batch)
        self.epoch, self.step, self.epoch_random = counters.epoch, counters.step, counters.epoch_random
        self.before, self.began = counters.seconds, time.monotonic()
        self.told, self.stopped = 0.0, False
        self.rates: dict[int, float] = {}

    def run_epochs(self, until: int, size: int) -> Iterator[Progress]:
        """Train at `size` voxels per edge until so many epochs are done."""
        while self.epoch < until:
            before = self.step - self.epoch * self.steps_per_epoch
            batches = self._batches(before)
            sums: dict[str, float] = {}
            energies: list[float] = []
            began = time.monotonic()
            for done, rows in enumerate(batches[before:], 1):
                if self.run.stop_asked():
                    if self.step == self.epoch * self.steps_per_epoch and self.epoch_random is not None:
                        self.generator.set_state(
                            self.epoch_random
                        )  # nothing done: the epoch is shuffled when it begins
                    yield self._stop(size)
                    return
                losses, energy = self._one_step(rows, size)
                for key, value in losses.items():
                    sums[key] = sums.get(key, 0.0) + value * len(rows) / sum(map(len, batches[before:]))
                energies.append(energy)
                self.step += 1
                self.rates[size] = min(done * self.batch, len(self.inputs)) / max(time.monotonic() - began, 1e-3)
                progress = self._progress(losses, size)
                if time.monotonic() - self.told > _TELL_EVERY:
                    self.told = time.monotonic()
                    self._tell("progress", progress)
                yield progress
            self.epoch += 1
            self._tell("epoch", self._progress(sums, size, "epoch"), size=size, aligned_energy=float(np.mean(energies)))
            yield self._progress(sums, size, f"epoch {self.epoch} of {self.epochs} at {size} voxels")
            self._check_collapse(float(np.mean(energies)))
            if self.epoch % self.settings.checkpoint_every == 0 and self.epoch < self.epochs:
                self._save()

    def search_poses(self) -> Iterator[Progress]:
        """Search poses, or take those that an earlier search has left, and keep them from here on."""
        path, kept = self.run.poses_path, self.run.recipe.pose.mode == "fixed"
        at_once = self.step == self.settings.epochs * self.steps_per_epoch
        if not (path.is_file() or at_once):  # trained on by a version that did not search poses of this mode
            return
        if not path.is_file():
            self._save()
            size = self.inputs.geometry.coarse
            yield self._progress({}, size, "averaging groups" if kept else "searching poses")
            told: set[str] = set()

            def tell(what: str, done: float) -> None:
                self._beat_or_stop()
                if what not in told:
                    told.add(what)
                    self.run.say("posing", message=what, done=round(done, 3))

            try:
                found = find_poses(
                    self.inputs, self.run.codes().content, self.run.recipe, device=self.device, progress=tell
                )
            except _StopAskedError:
                yield self._stop(size)
                return
            found.save(path)
            groups = len(np.unique(found.group))
            yield self._progress({}, size, f"poses {'kept' if kept else 'searched'}; groups: {groups}")
        found = FoundPoses.load(path)
        self.inputs = with_poses(self.inputs, found.pose, found.family)
        self.model.keep_poses()
        if self.model.takes_eigenvolumes and at_once:
            yield from self._take_eigenvolumes(self.model.takes_eigenvolumes)

    def _take_eigenvolumes(self, of: Differences) -> Iterator[Progress]:
        """Look for what the posed particles of each canonical frame differ by, where each of them is seen whole."""
        import torch

        if self.inputs.particles.tilt_ranges() is not None:  # heeded or not, it would be the first of them
            return
        size = self.inputs.geometry.coarse
        self.run.say("posing", message=f"{of} in each frame", done=1.0)
        yield self._progress({}, size, f"looking for {of} in each frame")
        mask, room = self.model.sphere(size).cpu().numpy(), self.model.get_buffer("eigen_axes").shape[1]
        try:
            found = eigenvolumes(
                self.inputs, mask, of, room, seed=self.settings.seed, device=self.device,
                progress=lambda _: self._beat_or_stop(),
            )  # fmt: skip
        except _StopAskedError:
            yield self._stop(size)
            return
        self.model.take_eigenvolumes(*(torch.as_tensor(array).to(self.device) for array in (found.mean, found.axes)))
        yield self._progress({}, size, f"{of} are read along {found.count} differences")

    def finish(self) -> Progress:
        """Write the last checkpoint and codes."""
        self._save()
        self.run.say("finished", epoch=self.epoch, seconds=self._seconds())
        return self._progress({}, self.inputs.geometry.coarse, "finished")

    def _beat_or_stop(self) -> None:
        self.lock.beat()
        if self.run.stop_asked():
            raise _StopAskedError

    def _stop(self, size: int) -> Progress:
        self.stopped = True
        self._save()
        self.run.say("stopped", why="a stop was asked for", epoch=self.epoch)
        return self._progress({}, size, "stopped; the model is kept and training can be resumed")

    def _batches(self, done: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
        """Return the rows of each step of this epoch, in the order in which it was begun if `done` steps were taken."""
        import torch

        if done and self.epoch_random is not None:
            shuffle = torch.Generator()
            shuffle.set_state(self.epoch_random)
        else:
            self.epoch_random = self.generator.get_state()
            shuffle = self.generator
        order = torch.randperm(len(self.inputs), generator=shuffle).numpy()
        return np.array_split(order, self.steps_per_epoch)  # a last batch of one would be no batch

    def _one_step(self, rows: np.ndarray[Any, np.dtype[np.int64]], size: int) -> tuple[dict[str, float], float]:
        self.lock.beat()
        self.model.train()
        if self.settings.decay_every is not None:
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.learning_rate * 0.1 ** (self.epoch // self.settings.decay_every)
        losses = self.model(self.inputs.batch(rows, size, self.device), self.generator)
        self.optimiser.zero_grad()
        losses.total.backward()
        total = float(losses.total.detach())
        if not np.isfinite(total):
            raise self._diverged()
        self.optimiser.step()
        return {"total": total} | {key: float(value) for key, value in losses.terms.items()}, losses.aligned_energy

    def _diverged(self) -> InputError:
        return InputError(
            f"{self.run.path}: training diverged at step {self.step} (the loss is no longer a number); start again with a smaller "
            "--set training.learning_rate."
        )

    def _check_collapse(self, energy: float) -> None:
        if energy < LOST_ENERGY:
            raise InputError(
                f"{self.run.path}: training collapsed: alignment keeps only {energy:.0%} of the particles' energy, so it pushes them out of "
                "the box; start again with a smaller --set pose.max_shift."
            )

    def _check_content(self, content: NDArray[np.float32]) -> None:
        if len(content) > 1 and np.ptp(content, axis=0).max() < SAME:
            raise InputError(
                f"{self.run.path}: training collapsed: content is the same for all particles, so nothing is told apart; start again "
                f"with a smaller --set training.learning_rate than {self.settings.learning_rate:g}."
            )

    def _save(self) -> None:
        self.lock.beat()
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise self._diverged()
        self.model.eval()
        families = self.inputs.families
        if families is not None:
            self.model.settle(None, families)
        codes = codes_of(self.model, self.inputs, device=self.device, epoch=self.epoch, fingerprint="")
        self._check_content(codes.content)
        settled = None if families is None else self.model.settle(codes.transform, families)
        if settled is not None:
            codes = replace(codes, transform=settled)
        save_checkpoint(
            self.run.path,
            self.model,
            self.optimiser,
            self.generator,
            Counters(self.epoch, self.step, self._seconds(), self.epoch_random),
        )
        checkpoint = self.run.checkpoint()
        assert checkpoint is not None
        weights = fingerprint(checkpoint)
        self.run.save_codes(replace(codes, fingerprint=weights))
        self.run.say("checkpoint", epoch=self.epoch, name=checkpoint.name, fingerprint=weights)

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def _tell(self, event: str, progress: Progress, **more: object) -> None:
        self.run.say(
            event, epoch=progress.epoch, epochs=progress.epochs, step=progress.step, steps=progress.steps,
            losses=progress.losses, particles_per_second=round(progress.particles_per_second, 1),
            eta_seconds=progress.eta_seconds, memory_gb=_memory(self.device), **more,
        )  # fmt: skip

    def _progress(self, losses: dict[str, float], size: int, message: str = "") -> Progress:
        rate, steps = self.rates.get(size, 0.0), self.steps_per_epoch * self.epochs
        left = (steps - self.step) * self.batch
        epoch = min(self.epoch + (0 if message else 1), self.epochs)
        eta = left / rate if rate else None
        return Progress(epoch, self.epochs, self.step, steps, losses, rate, eta, self.words, message)


def _map_invariants(run: Run, inputs: Inputs) -> None:
    """Keep the map that needs no training, so that there is something to look at from the first second."""
    power = inputs.invariants.astype(np.float64)
    if inputs.geometry.dims == 3:
        power = power[:, : power.shape[1] // 2]  # of the whole box
    spread = power.std(0)
    standardised = (power - power.mean(0)) / np.where(spread > 0, spread, 1.0)
    run.save_embedding(Embedding("invariants", "pca", inputs.particles.ids, embed(standardised, method="pca"), ""))


def _memory(device: str) -> float:
    """Return the gigabytes in use: the GPU's, or the most this process has held."""
    if device == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)
