"""Before training: how long it will take and what memory it needs, from a few timed steps of the same kind."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.io import read_particles
from napari_disentangle.models import model_info
from napari_disentangle.particles import ArrayVolumes
from napari_disentangle.preview import some_boxes
from napari_disentangle.recipe import Recipe
from napari_disentangle.training.device import DeviceName, adam, choose_device
from napari_disentangle.training.eigenvolumes import MOST
from napari_disentangle.training.encoding import model_for
from napari_disentangle.training.fit import searches_poses
from napari_disentangle.training.inputs import (
    check_few,
    geometry_of,
    imported_pose,
    known_pose,
    read_inputs,
    suited,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_disentangle.models.module import DisentanglingModel
    from napari_disentangle.particles import ParticleSet
    from napari_disentangle.training.inputs import Inputs

STEPS = 2
"""Timed steps at each size, after one that is not timed."""
SEARCHED = 24
"""Particles whose poses are searched to time the search."""
OVERHEAD = 120
"""Particles that the fixed part of a search is worth: CPU seconds of searches of 12 to 240 lie on such a line."""
GROUPS = 3
"""Searches that a training makes, one a group of like particles: nobody knows the number before."""
EIGENVOLUMES = 5
"""Copies of the coarse boxes while their principal components are sought: posed, and in double precision twice."""
START = 6.0
"""Seconds to start Python with torch and to read a recipe."""
PYTORCH_GB = 0.55
"""Of a process that has imported torch and the rest, before it has read a particle."""


@dataclass(frozen=True)
class Estimate:
    """What a training would take."""

    particles: int
    seconds: float
    memory_gb: float
    """The most that the process holds at once, in main memory."""
    words: str
    """Where it would run."""


def estimate_training(
    particles: Path,
    *,
    preset: str = "standard",
    settings: Iterable[str] = (),
    reading: Mapping[str, Any] | None = None,
    device: DeviceName = "auto",
    seed: int = 0,
) -> Estimate:
    """Time some steps and a small search of poses, and scale them up. Nothing is written.

    Parameters
    ----------
    particles, preset, settings, reading
        As `prepare`; or a list of positions, whose boxes would be cut first.
    device : "auto", "cpu", "cuda" or "mps"
    seed : int
        Of the choice of particles that are tried.

    Raises
    ------
    InputError
        As `prepare`, of the files and settings.
    """
    name, words = choose_device(device)
    settings = list(settings)
    recipe = Recipe.chosen(preset, settings)
    everything = read_particles(particles, **(reading or {}))
    order = np.random.default_rng(seed).permutation(len(everything))
    some = None
    if everything.volumes is None:
        rows, boxes, voxel = some_boxes(everything, order, recipe.pose.diameter, max(recipe.training.batch_size, 8))
        some = replace(everything.subset(rows), volumes=ArrayVolumes(boxes), voxel_size=voxel)
    recipe = suited(recipe, everything, settings)
    check_few(everything)
    n = len(everything)
    batch = min(recipe.training.batch_size, n)
    if some is None:
        some = everything.subset(np.sort(order[: max(batch, 8)]))
    geometry = geometry_of(some, recipe)
    imported_pose(some, recipe, geometry)
    began = time.monotonic()
    # Neighbours of one tomogram share a scale; the few that are tried need not.
    inputs = read_inputs(replace(some, tomogram=None), recipe)
    seconds = START + (time.monotonic() - began) * n / len(some)
    model = model_for(recipe, geometry, inputs.invariants.shape[1], n).to(name)
    per_epoch = -(-n // batch)
    held = 0.0
    if model_info(recipe.model.name).kind == "linear":
        began = time.monotonic()
        model.solve(inputs.coarse, inputs.invariants, recipe.training.seed)
        seconds += (time.monotonic() - began) * n / len(some)
        return Estimate(n, seconds, round(PYTORCH_GB + 3 * n * inputs.coarse[0].nbytes / 1e9, 2), words)
    training = recipe.training
    stages = ((training.epochs + training.posed_epochs, geometry.coarse), (training.fine_epochs, geometry.fine))
    for epochs, size in stages:
        if epochs:
            took, needs = _steps(model, inputs, size, name, training.learning_rate)
            seconds += took * per_epoch * epochs
            held = max(held, needs)
    if searches_poses(recipe, geometry):
        groups = min(GROUPS, max(1, n // 40))
        seconds += _search(some, recipe, name) * (groups * OVERHEAD + n)
        if model.takes_eigenvolumes:
            held = max(held, EIGENVOLUMES * min(n, MOST) * inputs.coarse[0].nbytes / 1e9)
    kept = n * (inputs.coarse[0].nbytes + 1024) / 1e9
    return Estimate(n, seconds, round(PYTORCH_GB + kept + held, 2), words)


def _steps(model: DisentanglingModel, inputs: Inputs, size: int, device: str, rate: float) -> tuple[float, float]:
    """Return the seconds of one step, and the gigabytes that it needs besides its particles."""
    import psutil
    import torch

    process = psutil.Process()
    generator = torch.Generator().manual_seed(0)
    optimiser = adam(model, rate, device)
    rows = np.arange(len(inputs))
    before = process.memory_info().rss
    most, times = before, []
    for _ in range(STEPS + 1):
        began = time.monotonic()
        losses = model(inputs.batch(rows, size, device), generator)
        optimiser.zero_grad()
        losses.total.backward()
        most = max(most, process.memory_info().rss)
        optimiser.step()
        float(losses.total.detach())  # waits for a GPU
        times.append(time.monotonic() - began)
    return float(np.median(times[1:])), (most - before) / 1e9


def _search(some: ParticleSet, recipe: Recipe, device: str) -> float:
    """Return the seconds that the search of poses takes for one particle, or for one that `OVERHEAD` counts."""
    from napari_disentangle.averaging import average

    few = some.subset(np.arange(min(SEARCHED, len(some))))
    began = time.monotonic()
    average(
        few,
        known_pose(few, recipe.pose.mode),
        diameter=recipe.pose.diameter,
        mode=recipe.pose.mode,
        cone=recipe.pose.cone,
        rounds=1,
        starts=1,
        device=device,
    )
    return (time.monotonic() - began) / (OVERHEAD + len(few))
