"""Training throughput: steps timed after some that are not, and their spread."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.geometry import random_rotations
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose
from napari_disentangle.recipe import Recipe
from napari_disentangle.training.device import adam
from napari_disentangle.training.encoding import model_for
from napari_disentangle.training.inputs import read_inputs, with_poses

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTICLES = 400
"""Boxes of 32 voxels of noise, in memory."""
BOX = 32
FAMILIES = 3
WARM_UP, STEPS, REPEATS = 2, 4, 7


def measure(
    model: str, settings: Iterable[str], size: int, *, particles: int = PARTICLES, seed: int = 0, device: str = "cpu"
) -> tuple[float, ...]:
    """Return the particles per second of each repeat of some steps at `size` voxels per edge.

    A step reads its batch from memory, as training does, and updates all weights. At more than the coarse size it keeps
    poses, of particles of a few families, as training does after its search.
    """
    import torch

    recipe = Recipe.chosen("standard", [f"model.name={model}", *settings])
    boxes = np.random.default_rng(seed).standard_normal((particles, BOX, BOX, BOX)).astype(np.float32)
    inputs = read_inputs(ParticleSet(Path("noise"), np.arange(particles), ArrayVolumes(boxes), 10.0), recipe)
    torch.manual_seed(seed)
    built = model_for(recipe, inputs.geometry, inputs.invariants.shape[1], particles).to(device)
    if size > recipe.training.coarse_size and recipe.pose.search:
        rng = np.random.default_rng(seed)
        found = Pose(random_rotations(particles, rng), np.zeros((particles, 3)))
        inputs = with_poses(inputs, found, rng.integers(0, FAMILIES, particles))
        built.keep_poses()
    optimiser = adam(built, recipe.training.learning_rate, device)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    batch = min(recipe.training.batch_size, particles)

    def step() -> None:
        losses = built(inputs.batch(rng.choice(particles, batch, replace=False), size, device), generator)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        float(losses.total.detach())  # waits for a GPU

    for _ in range(WARM_UP):
        step()
    rates: list[float] = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        rates.append(round(STEPS * batch / (time.perf_counter() - began), 1))
    return tuple(rates)
