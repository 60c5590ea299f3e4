"""Models without training: principal and independent components of the voxels, and the invariants alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_disentangle.models.base import Batch, Encoding
from napari_disentangle.models.module import DisentanglingModel
from napari_disentangle.models.nets import resample

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.models.base import Spec

    Floats = NDArray[np.floating[Any]]

ITERATIONS = 1000
"""Most that FastICA takes."""


class _Components(DisentanglingModel):
    """Codes that are linear in the voxels inside the soft sphere at the coarse size, and the way back."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        inside = (self.sphere(spec.coarse) > 0).expand(spec.shape(spec.coarse)).flatten()
        self.register_buffer("inside", inside, persistent=False)
        voxels = int(inside.sum())
        self.register_buffer("mean", torch.zeros(voxels))
        self.register_buffer("unmixing", torch.zeros(voxels, spec.content))
        self.register_buffer("mixing", torch.zeros(spec.content, voxels))

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return ``(x - mean) @ unmixing`` of a batch's voxels x inside the sphere."""
        voxels = resample(batch.volumes, self.spec.coarse).flatten(1)[:, self.get_buffer("inside")]
        content = (voxels - self.get_buffer("mean")) @ self.get_buffer("unmixing")
        return Encoding(content, content[:, :0])

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return ``mean + content @ mixing``, 0 outside the sphere."""
        del transform
        if size not in (self.spec.coarse, self.spec.fine):
            raise ValueError(f"this model makes {self.spec.coarse} or {self.spec.fine} voxels, not {size}")
        inside = self.get_buffer("inside")
        particles = content.new_zeros(len(content), len(inside))
        particles[:, inside] = self.get_buffer("mean") + content @ self.get_buffer("mixing")
        return resample(particles.reshape(-1, *self.spec.shape(self.spec.coarse)), size)

    def _principal(self, particles: NDArray[np.float32], seed: int) -> tuple[Floats, Floats, Floats]:
        """Keep the mean; return principal components (k, v), scores (n, k) of variance 1, and deviations (k,).

        k is as many dimensions as asked for, but at most particles - 1 or voxels. Costs one copy of the particles.
        """
        from sklearn.decomposition import PCA as Solver

        voxels = particles.reshape(len(particles), -1)[:, self.get_buffer("inside").cpu().numpy()]
        count = min(self.spec.content, len(voxels) - 1, voxels.shape[1])
        # of many particles or voxels only the leading components are computed, by random projections
        solver = Solver(count, copy=False, svd_solver="auto", random_state=seed)
        scores = np.asarray(solver.fit_transform(voxels), dtype=np.float64)
        deviations = scores.std(0, ddof=1)
        kept = deviations > 1e-6 * deviations[0]  # copies of the same particle span fewer
        self.get_buffer("mean").copy_(torch.as_tensor(solver.mean_))
        return np.asarray(solver.components_)[kept], scores[:, kept] / deviations[kept], deviations[kept]

    def _keep(self, unmixing: Floats, mixing: Floats) -> None:
        """Keep (v, k) and (k, v); dimensions beyond k stay 0."""
        k = len(mixing)
        for name in ("unmixing", "mixing"):
            self.get_buffer(name).zero_()
        self.get_buffer("unmixing")[:, :k] = torch.as_tensor(unmixing)
        self.get_buffer("mixing")[:k] = torch.as_tensor(mixing)


class PCA(_Components):
    """Principal components (Pearson 1901): the linear code that explains most of the voxels' variance.

    Codes are in voxel units and uncorrelated, the first has the largest variance. Solved by scikit-learn; with many
    particles or voxels by random projections, whose seed is the recipe's.
    """

    def solve(self, particles: NDArray[np.float32], invariants: NDArray[np.float32], seed: int) -> None:
        """Find the components of particles (n, ...) at the coarse size."""
        del invariants
        components, _, _ = self._principal(particles, seed)
        self._keep(components.T, components)


class FastICA(_Components):
    """Independent components (Hyvärinen 1999): principal ones, whitened and turned to be as non-Gaussian as can be.

    With P the leading principal components, D their deviations and W the rotation that scikit-learn's parallel FastICA
    (contrast log cosh) finds, s = W D^-1 P (x - mean) has variance 1 and x = mean + P^T D W^T s. Components are ordered
    by the variance that they explain.
    """

    remark = ""
    """What `solve` had to say of its last solution; empty when it settled."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.register_buffer("iterations", torch.zeros((), dtype=torch.int64))

    def solve(self, particles: NDArray[np.float32], invariants: NDArray[np.float32], seed: int) -> None:
        """Find the components of particles (n, ...) at the coarse size."""
        import warnings

        from sklearn.decomposition import FastICA as Solver
        from sklearn.exceptions import ConvergenceWarning

        del invariants
        components, scores, deviations = self._principal(particles, seed)
        solver: Any = Solver(whiten=False, max_iter=ITERATIONS, random_state=seed)  # pyright: ignore[reportArgumentType]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `remark`
            turn = np.asarray(solver.fit(scores).components_)
        mixing = turn @ (deviations[:, None] * components)
        order = np.argsort(-np.square(mixing).sum(1))
        self._keep((components.T / deviations) @ turn[order].T, mixing[order])
        self.get_buffer("iterations").fill_(int(solver.n_iter_))
        self.remark = ""
        if solver.n_iter_ >= ITERATIONS:
            self.remark = (
                f"FastICA has not settled after {ITERATIONS} iterations, so its components depend on the seed; "
                "fewer --set model.content_dims may help."
            )


class Invariants(DisentanglingModel):
    """The power in Fourier shells as the content code: all of the m invariants, standardised, whatever `Spec.content`.

    Nothing is learned but their means and deviations. `Spec.features` is m.
    """

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return the invariants (b, m) of a batch in units of their deviations, cut at 6 of them."""
        content = self.features_of(batch)
        return Encoding(content, content[:, :0])

    def solve(self, particles: NDArray[np.float32], invariants: NDArray[np.float32], seed: int) -> None:
        """Find mean and deviation of invariants (n, m)."""
        del particles, seed
        values = invariants.astype(np.float64)
        deviation = values.std(0)
        deviation[deviation < 1e-9] = 1.0
        for name, found in (("feature_mean", values.mean(0)), ("feature_scale", deviation)):
            self.get_buffer(name).copy_(torch.as_tensor(found))
