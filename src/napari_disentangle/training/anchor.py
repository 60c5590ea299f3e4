"""Where the content code starts: at the common factors of the particles' invariants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from napari_disentangle.models.module import DisentanglingModel
    from napari_disentangle.recipe import Recipe
    from napari_disentangle.training.inputs import Inputs


def start_content(model: DisentanglingModel, inputs: Inputs, recipe: Recipe, device: str) -> None:
    """Start the content code at the common factors of the invariants: what shells share is signal, the rest noise."""
    import torch
    from sklearn.decomposition import FactorAnalysis

    values = inputs.invariants.astype(np.float64)
    mean, deviation = values.mean(0), values.std(0)
    deviation[deviation < 1e-9] = 1.0
    scaled = np.clip((values - mean) / deviation, -6, 6)
    dims = recipe.model.content_dims
    anchor = np.zeros((values.shape[1], dims))
    count = min(dims, values.shape[1], len(values) - 1)
    factors = FactorAnalysis(count, random_state=recipe.training.seed, svd_method="lapack").fit(scaled)
    weighted = factors.components_ / factors.noise_variance_
    posterior = np.linalg.inv(np.eye(count) + weighted @ factors.components_.T)
    linear = weighted.T @ posterior
    anchor[:, :count] = linear / np.maximum((scaled @ linear).std(0), 1e-9)

    def tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32).to(device)

    model.anchor_content(tensor(mean), tensor(deviation), tensor(anchor))
