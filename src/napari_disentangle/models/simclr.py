"""SimCLR as a baseline of disentanglement: codes shaped by turned copies alone, and the same with a decoder.

Chen, Kornblith, Norouzi and Hinton, "A simple framework for contrastive learning of visual representations", ICML 2020.
Uddin and Xu 2024 (DualContrast) name its use for two codes, and leave open how. Written from the equations.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from napari_disentangle.geometry import sample_images
from napari_disentangle.models.augment import turned_volumes, wedged_again
from napari_disentangle.models.base import Batch, Encoding, Losses
from napari_disentangle.models.losses import apply_wedge, kl_to_prior, sampled_region, squared_distance
from napari_disentangle.models.module import DisentanglingModel, draw
from napari_disentangle.models.nets import ConvEncoder, Decoder
from napari_disentangle.models.warps import turns

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Spec

WIDTH = 256
"""Features of the encoder."""
TEMPERATURE = 0.5
NOISE = 0.5
"""Standard deviation of what is added to each view, in standardised units."""
GAIN = 0.2
"""Largest change of a view's contrast."""


def nt_xent(first: Tensor, second: Tensor) -> Tensor:
    """Return SimCLR's loss of pairs of codes (b, d) that should be alike: the normalised, tempered cross entropy.

    Each of the 2 b codes has to find its partner among the 2 b - 1 others by its cosine over `TEMPERATURE` (Chen et al.
    2020, equation 1); the mean over them.
    """
    codes = F.normalize(torch.cat([first, second]), dim=1)
    likeness = (codes @ codes.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(likeness, torch.arange(len(codes), device=codes.device).roll(len(first)))


def apart(one: Tensor, again: Tensor, other: Tensor) -> Tensor:
    """Return the same loss of codes (b, d) where `again` is alike and `other` the only one that is not.

    Anchors are `one` and `again`; other rows have no say.
    """
    alike = F.cosine_similarity(one, again)
    unlike = torch.stack([F.cosine_similarity(one, other), F.cosine_similarity(again, other)])
    return F.softplus((unlike - alike) / TEMPERATURE).mean()


class SimCLR(DisentanglingModel):
    """SimCLR with two codes and no decoder.

    Each particle is turned twice at random, R x and R' x, and each view has noise added and its contrast changed. With
    c and z the two heads of one encoder,

        loss = NT-Xent( c(R x), c(R' x) ) + NT-Xent( z(R x), z(R x) again; z(R' x) )

    Content codes of the two turns find each other among all particles of the batch. The transformation codes of two
    views of the *same* turn are a positive pair, and the other turn of the same particle is their negative: poses of
    raw particles are unknown, so no two particles are known to be turned alike. Neither view is the particle as it
    came, which would be told from a turned one by not having been interpolated. What a turned volume brings into its
    missing wedge is taken out again.
    """

    moments = 1
    """Numbers that a head gives for each dimension of its code: the mean, and perhaps the logarithm of the variance."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = ConvEncoder(spec, WIDTH)
        self.content = _head(spec.content * self.moments)
        self.transform = _head(spec.transform * self.moments)

    def _encode(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of both heads."""
        features = self.encoder(self.small(volumes))
        return self.content(features), self.transform(features)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return the means of both codes."""
        content, transform = self._encode(batch.volumes)
        return Encoding(content[:, : self.spec.content], transform[:, : self.spec.transform])

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        _, _, contents, transforms = self._views(batch, generator)
        total, terms = self._contrast(contents, transforms)
        return Losses(total, terms)

    def _views(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Return two turned copies of each particle (2 b, ...), where they have data, and heads of views (3 b, ...).

        Views are of the first copy, of the first again and of the second.
        """
        (first, one), (second, two) = (turned(batch, self.spec.dims, generator) for _ in range(2))
        views = [seen_again(copy, batch, generator) for copy in (first, first, second)]
        seen = None if one is None or two is None else torch.cat([one, two])
        return torch.cat([first, second]), seen, *self._encode(torch.cat(views))

    def _contrast(self, contents: Tensor, transforms: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the two losses of the heads' numbers of three views, as `_views` orders them, and their terms."""
        first, _, third = contents[:, : self.spec.content].chunk(3)
        content = nt_xent(first, third)
        transform = apart(*transforms[:, : self.spec.transform].chunk(3))
        terms = {"content_contrast": content.detach(), "transform_contrast": transform.detach()}
        return content + transform, terms


class GenerativeSimCLR(SimCLR):
    """SimCLR's two codes as Gaussians, with a decoder that redraws both turned copies from them.

        loss = gamma B + contrast,    B = D(x, g(c, z)) + 2 / V [ KL(q(c) || N(0, I)) + KL(q(z) || N(0, I)) ]

    B is the bound of `vae.TwoSpaceVAE`, mean over the two copies of a particle, which are compared without the noise
    that the encoder saw; the contrast is `SimCLR`'s, of the means.

    Parameters
    ----------
    spec : Spec
        Of particular meaning here: `weight` is gamma; `kl` is beta, the weight of both KLs, 1 unless given.
    """

    moments = 2

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.decoder = Decoder(spec.content + spec.transform, spec)

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return the particles of codes (b, c) and (b, t), as they lie in their boxes."""
        return self.decoder(torch.cat([content, transform], 1), size)

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        spec, n, b = self.spec, batch.volumes.shape[-1], len(batch.volumes)
        copies, seen, contents, transforms = self._views(batch, generator)
        contrast, terms = self._contrast(contents, transforms)
        (mean_c, logvar_c), (mean_z, logvar_z) = (
            torch.cat([numbers[:b], numbers[2 * b :]]).chunk(2, 1) for numbers in (contents, transforms)
        )
        logvar_c, logvar_z = logvar_c.clamp(-8, 4), logvar_z.clamp(-8, 4)
        drawn = self.decode(draw(mean_c, logvar_c, generator), draw(mean_z, logvar_z, generator), n)
        reconstruction = squared_distance(drawn, copies, self.sphere(n), seen)
        kl_c, kl_z = kl_to_prior(mean_c, logvar_c), kl_to_prior(mean_z, logvar_z)
        nats = (1.0 if spec.kl is None else spec.kl) * (spec.content * kl_c + spec.transform * kl_z)
        own = {"reconstruction": reconstruction, "kl_content": kl_c, "kl_transform": kl_z}
        return Losses(
            spec.weight * self.bound(reconstruction, nats) + contrast,
            {key: value.detach() for key, value in own.items()} | terms,
        )


def _head(numbers: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 128), nn.LeakyReLU(0.1), nn.Linear(128, numbers))


def turned(batch: Batch, dims: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Return the particles of a batch, each turned at random about its centre: volumes on SO(3), images in the plane.

    Outside an image lies the mean of its border; outside a volume zero, the background. Volumes lose their missing
    wedge again; where they have data after that comes second, None for all.
    """
    x = batch.volumes
    if dims == 3:
        return wedged_again(*turned_volumes(x, generator), batch)
    angles = torch.rand(len(x), generator=generator).to(x) * (2 * math.pi)
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1]], -1)
    level = border.mean(-1)[..., None, None]
    return sample_images(x - level, turns(angles), x.new_zeros(len(x), 2)) + level, None


def seen_again(copy: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
    """Return copies of a batch's particles with other noise and contrast."""
    b = len(copy)
    gain = 1 + GAIN * (2 * torch.rand(b, generator=generator) - 1)
    noise = NOISE * torch.randn(copy.shape, generator=generator)
    return measured(copy * gain.to(copy).reshape(b, *(1,) * (copy.ndim - 1)) + noise.to(copy), batch)


def measured(copy: Tensor, batch: Batch) -> Tensor:
    """Return copies of a batch's particles without what their tilt series did not measure."""
    if batch.tilts is None:
        return copy
    return apply_wedge(copy, sampled_region(copy.shape[-1], batch.tilts, batch.frames))
