"""Variational autoencoders of whole particles, which know nothing of transformations: what the others must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.models.base import Batch, Encoding, Losses
from napari_disentangle.models.losses import (
    information_of_codes,
    kl_to_prior,
    sampled_region,
    squared_distance,
)
from napari_disentangle.models.module import DisentanglingModel, draw
from napari_disentangle.models.nets import ConvEncoder, Decoder

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Spec

WIDTH = 256
"""Features of the encoder."""


class VAE(DisentanglingModel):
    """Variational autoencoder with one code (Kingma and Welling 2014).

    With z ~ q(z|x) = N(mu, diag exp logvar) from the encoder, g the decoder and S the soft sphere, the bound that
    Gaussian voxels of unit variance give is, up to a sign and a constant,

        1/2 sum over voxels of S^2 (x - g(z))^2  +  beta sum over dimensions of KL( q(z|x) || N(0, 1) ),    beta = 1

    Particles are standardised by their background at the fine size, where unit variance is thus that
    of the noise; at the coarse size the sum still stands for voxels of the fine one. With distances that are means over
    those V voxels the same loss is multiplied by 2 / V, and nothing else changes. Where a wedge is missing, only
    frequencies that were measured are compared.

    Parameters
    ----------
    spec : Spec
        Of particular meaning here: `kl` is beta. `weight` has none.
    """

    beta = 1.0
    """Where the spec has no `kl`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        dims = spec.content + self.transform_dims(spec)
        self.encoder = ConvEncoder(spec, WIDTH)
        self.posterior = nn.Linear(WIDTH, 2 * dims)
        self.decoder = Decoder(dims, spec)
        self.strength = self.beta if spec.kl is None else spec.kl

    @staticmethod
    def transform_dims(_spec: Spec) -> int:
        """Return the dimensions of the transformation code: none."""
        return 0

    def _encode(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar of both codes together."""
        features = self.encoder(self.small(volumes))
        mean, logvar = self.posterior(features).chunk(2, 1)
        return mean, logvar.clamp(-8, 4)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return mu of a batch."""
        mean, _ = self._encode(batch.volumes)
        return Encoding(mean[:, : self.spec.content], mean[:, self.spec.content :])

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return the particles of codes, as they lie in their boxes."""
        used = transform[:, : self.transform_dims(self.spec)]
        return self.decoder(torch.cat([content, used], 1), size)

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        n = batch.volumes.shape[-1]
        mean, logvar = self._encode(batch.volumes)
        sample = draw(mean, logvar, generator)
        seen = None if batch.tilts is None else sampled_region(n, batch.tilts, batch.frames)
        reconstruction = squared_distance(self.decoder(sample, n), batch.volumes, self.sphere(n), seen)
        penalty, terms = self._penalty(sample, mean, logvar)
        return Losses(self.bound(reconstruction, penalty), {"reconstruction": reconstruction.detach()} | terms)

    def _penalty(self, sample: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what codes (b, d) cost, in nats a particle, and its terms."""
        del sample
        kl = kl_to_prior(mean, logvar)
        return self.strength * mean.shape[1] * kl, {"kl": kl.detach()}


class TwoSpaceVAE(VAE):
    """A VAE whose code is cut in two, content and transformation, by nothing but their names (Uddin and Xu 2024).

    What the two come to hold is chance: it is the baseline of models that shape them.
    """

    @staticmethod
    def transform_dims(spec: Spec) -> int:
        """Return the dimensions of the transformation code."""
        return spec.transform


class BetaVAE(VAE):
    """beta-VAE (Higgins et al. 2017): the same loss with beta above 1, for a code of independent dimensions."""

    beta = 4.0


class BetaTCVAE(VAE):
    """beta-TCVAE (Chen, Li, Grosse and Duvenaud 2018): beta weighs the total correlation alone.

    With q(z) the code of all particles together, the KL of the bound falls into three parts (their equation 2),

        mutual information of z and particle + beta TC(z) + sum over dimensions of KL( q(z_d) || N(0, 1) )

    the first two of which are estimated within the batch (`losses.information_of_codes`). Their sum is known exactly,
    so that the loss is KL + (beta - 1) TC: less noisy, and a VAE's for beta = 1.
    """

    beta = 6.0
    """As in its authors' example."""

    def _penalty(self, sample: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        whole = kl_to_prior(mean, logvar) * mean.shape[1]
        information, correlation = information_of_codes(sample, mean, logvar)
        terms = {
            "mutual_information": information,
            "total_correlation": correlation,
            "dimension_kl": whole - information - correlation,
        }
        return whole + (self.strength - 1) * correlation, {key: term.detach() for key, term in terms.items()}
