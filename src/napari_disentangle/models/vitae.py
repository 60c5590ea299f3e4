"""VITAE: a variational autoencoder of how an image is warped, and of what it shows before that.

Detlefsen and Hauberg, "Explicit disentanglement of appearance and perspective in generative models", NeurIPS 2019;
written from its equations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.models.base import Batch, Encoding, Losses
from napari_disentangle.models.losses import kl_to_prior, squared_distance
from napari_disentangle.models.module import DisentanglingModel, draw
from napari_disentangle.models.nets import ConvEncoder, Decoder
from napari_disentangle.models.warps import AFFINE, affine_matrices, affine_points, flow_points, sample, still_points

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Spec

WIDTH = 256
"""Features of each encoder."""
KNOTS = 5
"""Per edge, of the velocity of a diffeomorphic warp."""


class VITAE(DisentanglingModel):
    """The conditional VITAE (C-VITAE) of images.

    Two codes have priors N(0, I). From the image x comes the perspective z_p ~ q(z_p | x), and from that the parameters
    of a warp T. The appearance z_a ~ q(z_a | x, z_p) is read from T^-1(x), the image with its warp undone; the decoded
    appearance is warped again:

        1/2 sum over pixels of (x - T(g(z_a)))^2 + beta [ KL(q(z_p | x) || N(0, I)) + KL(q(z_a | x, z_p) || N(0, I)) ]

    As in `vae.VAE`, the loss is this bound of unit variance times 2 / V, unless distances are summed over the V pixels.
    T is a bounded affine warp or the flow of a smooth velocity (`warps`); both are inverted by the opposite parameters.
    The content code is the mean of z_a, read with T at the mean of z_p; the transformation code is the mean of z_p.

    Parameters
    ----------
    spec : Spec
        Of particular meaning here: `warp`; `kl` is beta, 1 unless given; `max_shift` bounds shifts and velocities.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = ConvEncoder(spec, WIDTH)
        self.transform = nn.Linear(WIDTH, 2 * spec.transform)
        numbers = AFFINE if spec.warp == "affine" else 2 * KNOTS**2
        self.warp = nn.Sequential(nn.Linear(spec.transform, 64), nn.LeakyReLU(0.1), nn.Linear(64, numbers))
        with torch.no_grad():  # warps start small
            self.warp[-1].weight.mul_(0.1)  # pyright: ignore[reportOperatorIssue, reportCallIssue]
            self.warp[-1].bias.zero_()  # pyright: ignore[reportCallIssue]
        self.appearance = ConvEncoder(spec, WIDTH)
        self.content = nn.Linear(WIDTH, 2 * spec.content)
        self.decoder = Decoder(spec.content, spec)

    def _perspective(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logvar of z_p."""
        features = self.encoder(images * self.sphere(images.shape[-1]))
        mean, logvar = self.transform(features).chunk(2, 1)
        return mean, logvar.clamp(-8, 4)

    def _appearance(self, images: Tensor, perspective: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logvar of z_a, with the warp of z_p undone."""
        n = images.shape[-1]
        unwarped = sample(images, self._points(-self.warp(perspective), n))
        mean, logvar = self.content(self.appearance(unwarped * self.sphere(n))).chunk(2, 1)
        return mean, logvar.clamp(-8, 4)

    def _points(self, numbers: Tensor, n: int) -> Tensor:
        """Return the warp (b, n, n, 2) of its parameters (b, k); the opposite ones undo it."""
        if self.spec.warp == "affine":
            points = still_points(n, numbers).expand(len(numbers), n, n, 2)
            return affine_points(affine_matrices(numbers, self.spec.max_shift), points)
        velocity = torch.tanh(numbers).reshape(-1, 2, KNOTS, KNOTS) * (2 * self.spec.max_shift)
        return flow_points(velocity, n)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return the means of z_a and z_p."""
        perspective, _ = self._perspective(batch.volumes)
        return Encoding(self._appearance(batch.volumes, perspective)[0], perspective)

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return images of appearances (b, c), warped as perspectives (b, t) say."""
        return sample(self.decoder(content, size), self._points(self.warp(transform), size))

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        x, spec = batch.volumes, self.spec
        mean_p, logvar_p = self._perspective(x)
        z_p = draw(mean_p, logvar_p, generator)
        mean_a, logvar_a = self._appearance(x, z_p)
        decoded = self.decode(draw(mean_a, logvar_a, generator), z_p, x.shape[-1])
        reconstruction = squared_distance(decoded, x, self.sphere(x.shape[-1]))
        kl_p, kl_a = kl_to_prior(mean_p, logvar_p), kl_to_prior(mean_a, logvar_a)
        nats = (1.0 if spec.kl is None else spec.kl) * (spec.transform * kl_p + spec.content * kl_a)
        total = self.bound(reconstruction, nats)
        terms = {"reconstruction": reconstruction, "kl_content": kl_a, "kl_transform": kl_p}
        return Losses(total, {name: term.detach() for name, term in terms.items()})
