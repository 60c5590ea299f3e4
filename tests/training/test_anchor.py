"""Where training starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_disentangle.io import read_particles
from napari_disentangle.recipe import Recipe
from napari_disentangle.training.anchor import start_spread
from napari_disentangle.training.encoding import model_for
from napari_disentangle.training.inputs import read_inputs

if TYPE_CHECKING:
    from pathlib import Path


def test_a_model_is_told_how_far_particles_are_from_their_mean(tiny_stack: Path) -> None:
    recipe = Recipe.chosen("quick", ["model.name=dualcontrast", "pose.diameter=200"])
    inputs = read_inputs(read_particles(tiny_stack), recipe)
    model = model_for(recipe, inputs.geometry, inputs.invariants.shape[1], len(inputs))
    start_spread(model, inputs)
    axis = np.arange(inputs.geometry.coarse) - inputs.geometry.coarse // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    inside = np.sqrt(x**2 + y**2 + z**2) < inputs.geometry.sphere * inputs.geometry.coarse
    about = inputs.coarse[:, inside] - inputs.coarse[:, inside].mean(0)
    assert float(model.get_buffer("spread")) == pytest.approx(np.sqrt((about**2).mean()), rel=0.05)
