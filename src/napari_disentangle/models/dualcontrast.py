"""DualContrast: a content and a transformation code, each shaped by positive and negative pairs.

Uddin and Xu, "DualContrast: unsupervised disentangling of content and transformations with implicit parameterization",
2024; written from its equations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from napari_disentangle.geometry import align_volumes
from napari_disentangle.models.augment import augmented, turned_volumes, wedged_again
from napari_disentangle.models.base import MOST_FAMILIES, Batch, Encoding, Losses
from napari_disentangle.models.losses import apply_wedge, dependence, kl_to_prior, sampled_region, squared_distance
from napari_disentangle.models.module import DisentanglingModel, draw
from napari_disentangle.models.nets import ConvEncoder, Decoder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.models.base import Pairs, Spec

    Code = tuple[Tensor, Tensor]

WIDTH = 256
"""Features of each encoder."""
LARGEST = 3.0
"""Absolute value of a code."""
FEWEST = 8
"""Particles of a family below which a batch says nothing about its mean."""
VOXELS = 4.0
"""Weight of the distances between voxels, as a fraction of the variance."""
WITHIN = 1.5
"""Weight of the spread of content within families, over all its spread."""
KL = 0.01
"""Weight of the Kullback-Leibler terms, the paper's."""
OUTSIDE = 0.01
"""Weight of what lies outside `LARGEST` before it is squashed, where a code no longer follows its loss."""


class DualContrast(DisentanglingModel):
    """DualContrast of volumes and images.

    With q(c, z | x) the encoder and p(x | c, z) the decoder of a particle x and of its turned copy Rx,

        loss = 4 [ L(x) + L(Rx) ] + 0.01 KL + L_con(c) + L_con(z) + 0.01 outside
        L(x) = D(p(c, z), x) / var(x),   KL = KL(c) + KL(z) of all that is drawn
        L_con(a) = mean(1 - |cos(a, a_positive)|) + mean |cos(a, a_negative)|

    D is the squared error inside a soft sphere, KL is against N(0, I). Of the content, Rx is the positive partner and
    all other particles are negative ones. Of the transformation, Rx is the negative partner, and positive ones are
    codes of two decoded particles of different content and the same z ~ N(0, I). `outside` is, of volumes, the squared
    distance to [-3, 3] of what is squashed to be a code.

    Beyond the paper: a particle is redrawn from the content of its copy, so that only z can say how it lies
    (`exchange`); what the two codes know of each other is a loss (`independence`); D is divided by the variance of the
    particles, so that the weights mean the same at any signal; a missing wedge is applied again to the copy, and voxels
    are compared where there are data; c may start from the particle's invariants.

    **Where poses are known, z is seen in the canonical pose**: the particle is aligned before z is read and compared,
    so that z is left with what no pose describes. Particles whose groups' averages superpose (`Batch.families`) are
    then pairs of the same content in different conformations, which is what (x, Rx) is in the paper: positive for c,
    which is pulled together within a family, and negative for z, which is centred within it. A particle is redrawn from
    the content of such a partner.

    Parameters
    ----------
    spec : Spec
        Of particular meaning here: `content_pairs` and `transform_pairs` choose the terms of L_con, `augmentation` is
        R, `kl` the weight of the KL terms.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.posed = spec.dims == 3 and spec.pose_mode in ("local", "fixed")
        self.encoder = ConvEncoder(spec, WIDTH)
        self.content = nn.Sequential(
            nn.Linear(WIDTH + spec.features, 128), nn.LeakyReLU(0.1), nn.Linear(128, 2 * spec.content)
        )
        self.linear = nn.Linear(spec.features, spec.content, bias=False) if spec.features else None
        self.transform_encoder = ConvEncoder(spec, WIDTH)
        self.transform = nn.Linear(WIDTH, 2 * spec.transform)
        self.decoder = Decoder(spec.content + spec.transform, spec)
        if spec.dims == 3 and spec.features:
            self.make_room("conformations", spec.transform)
        self.register_buffer("centres", torch.zeros(MOST_FAMILIES, spec.transform))  # running, for training
        self.register_buffer("settled", torch.zeros(MOST_FAMILIES, spec.transform))  # measured, for codes
        self._outside: list[Tensor] = []  # of the codes of one step

    def keep_poses(self) -> None:
        """See transformation codes in the pose of the batch from here on."""
        self.posed = True

    def anchor_content(self, mean: Tensor, scale: Tensor, anchor: Tensor) -> None:
        """As `DisentanglingModel.anchor_content`; the learned part starts small beside the map."""
        super().anchor_content(mean, scale, anchor)
        with torch.no_grad():
            assert self.linear is not None
            self.linear.weight.copy_(anchor.T)
            self.content[-1].weight.mul_(0.1)  # pyright: ignore[reportOperatorIssue, reportCallIssue]

    def _content(self, particles: Tensor, batch: Batch) -> Code:
        """Return mu and logvar (b, c) of the content."""
        features, scaled = self.encoder(self.small(particles)), self.features_of(batch)
        mean, logvar = self.content(torch.cat([features, scaled], 1)).chunk(2, 1)
        return self._bounded(mean if self.linear is None else mean + self.linear(scaled)), logvar.clamp(-8, 4)

    def take_eigenvolumes(self, mean: Tensor, axes: Tensor) -> None:
        """As `DisentanglingModel.take_eigenvolumes`; what is learned starts again, small beside them."""
        again = bool(self.get_buffer("eigen_axes").any())  # taken up at the very step
        super().take_eigenvolumes(mean, axes)
        if axes.any() and not again:
            with torch.no_grad():
                self.transform.weight.mul_(0.1)
                self.transform.bias.mul_(0.1)

    def _read(self, particles: Tensor, families: Tensor | None) -> Code:
        """Return mu and logvar (b, t) of the transformation as they are read."""
        small = self.small(particles)
        mean, logvar = self.transform(self.transform_encoder(small)).chunk(2, 1)
        if families is not None and self.takes_eigenvolumes:
            mean = mean + self.along_eigenvolumes(small, families)
        return self._bounded(mean), logvar.clamp(-8, 4)

    def _bounded(self, codes: Tensor) -> Tensor:
        """Return codes squashed to within `LARGEST`: cosines alone would let them grow without end."""
        if self.training and self.spec.dims == 3:
            self._outside.append((codes.abs() - LARGEST).clamp_min(0).square().sum(1).mean())
        return LARGEST * torch.tanh(codes / LARGEST)

    def _transform(self, particles: Tensor, families: Tensor | None = None) -> Code:
        """Return mu and logvar (b, t) of the transformation; mu is centred within each family."""
        mean, logvar = self._read(particles, families)
        return (mean if families is None else mean - self._centres(mean, families)), logvar

    def settle(self, transform: NDArray[np.float32] | None, families: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Centre each family where all its particles (n, t) put it, and return their codes from there."""
        centres = self.get_buffer("settled")
        if transform is None:
            centres.zero_()
            return None
        settled = transform.copy()
        for family in np.unique(families):
            mean = transform[families == family].mean(0)
            settled[families == family] -= mean
            if family < len(centres):
                centres[int(family)] = torch.as_tensor(mean).to(centres)
        return settled

    def _centres(self, z: Tensor, families: Tensor) -> Tensor:
        """Return the mean code (b, t) of each particle's family: of the batch in training, else as it was learned."""
        centres = self.get_buffer("centres")
        families = families.clamp(max=len(centres) - 1)
        if not self.training:
            return self.get_buffer("settled")[families]
        found = centres[families]
        for family in families.unique():
            own = families == family
            if own.sum() >= FEWEST:
                mean = z[own].mean(0)
                found = torch.where(own[:, None], mean, found)
                with torch.no_grad():
                    centres[family] += 0.1 * (mean - centres[family])
        return found

    def _decoder(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        return self.decoder(torch.cat([content, transform], 1), size)

    def _aligned(self, batch: Batch, content: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return particles in the canonical pose, and where they have data.

        What the missing wedge took is filled from the decoded mean conformation, so that the encoder of z cannot read
        how the wedge lies.
        """
        n = batch.volumes.shape[-1]
        aligned = align_volumes(batch.volumes, batch.rotations, batch.shifts * n)
        if batch.tilts is None:
            return aligned, None
        frames = batch.rotations if batch.frames is None else batch.frames @ batch.rotations
        seen = sampled_region(n, batch.tilts, frames)
        with torch.no_grad():
            mean = self._decoder(content, content.new_zeros(len(content), self.spec.transform), n)
            return apply_wedge(aligned, seen) + apply_wedge(mean, 1 - seen), seen

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return the means of both codes, and the pose that z was seen in where there is one."""
        content, _ = self._content(batch.volumes, batch)
        if not self.posed:
            return Encoding(content, self._transform(batch.volumes)[0])
        aligned, _ = self._aligned(batch, content)
        return Encoding(content, self._transform(aligned, batch.families)[0], batch.rotations, batch.shifts)

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return the particles of codes (b, c) and (b, t)."""
        return self._decoder(content, transform, size)

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        x = batch.volumes
        pairs: tuple[Pairs, Pairs] = (self.spec.content_pairs, self.spec.transform_pairs)
        seen: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.spec.dims == 2:
            copy = augmented(x, self.spec, generator)
        else:
            copy, seen_in_copy = wedged_again(*turned_volumes(x, generator), batch)
            if batch.tilts is not None:
                seen = sampled_region(x.shape[-1], batch.tilts, batch.frames), seen_in_copy
        c, copy_c = self._content(x, batch), self._content(copy, batch)
        content = _towards(c[0], copy_c[0], pairs[0])
        if self.posed:
            found, more, transform = self._posed_losses(batch, c, copy_c, pairs, generator)
            content = content + more
        else:
            content = content + _apart(c[0], pairs[0])
            found, transform = self._plain_losses(x, copy, seen, c, copy_c, pairs, generator)
        if pairs[1] in ("both", "positive"):
            transform = transform + self._redrawn_alike(c[0].detach(), batch.families, generator)
        kl = found.pop("kl")
        total = VOXELS * sum(found.values()) + (KL if self.spec.kl is None else self.spec.kl) * kl + content + transform
        terms = found | {"content_pairs": content, "transformation_pairs": transform, "kl": kl}
        if self._outside:
            terms["outside"] = torch.stack(self._outside).sum()
            total = total + OUTSIDE * terms["outside"]
            self._outside.clear()
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    def _plain_losses(
        self, x: Tensor, copy: Tensor, seen: tuple[Tensor | None, Tensor | None], c: Code, copy_c: Code, pairs: tuple[Pairs, Pairs],
        generator: torch.Generator,
    ) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
        """Return the terms of L_vae for a particle and its copy, and what else shapes z.

        Each is redrawn from the content of the other, so that only z can say how it lies.
        """
        sphere = self.sphere(x.shape[-1])
        z, copy_z = self._transform(x), self._transform(copy)
        variance = _variance(x * sphere)

        def redrawn(content: Code, transform: Code, particles: Tensor, measured: Tensor | None) -> Tensor:
            decoded = self._decoder(draw(*content, generator), draw(*transform, generator), x.shape[-1])
            return squared_distance(decoded, particles, sphere, measured) / variance

        terms = {
            "reconstruction": redrawn(copy_c if self.spec.exchange else c, z, x, seen[0]),
            "copy_reconstruction": redrawn(c if self.spec.exchange else copy_c, copy_z, copy, seen[1]),
            "kl": kl_to_prior(*c) + kl_to_prior(*z) + kl_to_prior(*copy_c) + kl_to_prior(*copy_z),
        }
        shaped = _away(z[0], copy_z[0], pairs[1])
        return terms, shaped + self._shared(z, c)

    def _posed_losses(
        self, batch: Batch, c: Code, copy_c: Code, pairs: tuple[Pairs, Pairs], generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the terms of L_vae for a particle in its canonical pose, and what else shapes c and z.

        It is redrawn from the content of another particle of its family, so that only z can say how it bends.
        """
        n, families = batch.volumes.shape[-1], batch.families
        sphere = self.sphere(n)
        aligned, seen = self._aligned(batch, c[0].detach())
        z = self._transform(aligned, families)
        kin = None if families is None else _partners(families, generator, same=True)
        strangers = None if families is None else _partners(families, generator, same=False)
        lent = draw(*(copy_c if self.spec.exchange else c), generator)
        content, transform = c[0].new_zeros(()), c[0].new_zeros(())
        if families is None:  # imported poses before a search: nothing tells which particles are alike
            transform = transform + self._shared(z, c)
            content = content + _apart(c[0], pairs[0])
        elif strangers is not None:  # of one family alone there is nothing to push apart
            content = content + _away(c[0][strangers[0]], c[0][strangers[1]], pairs[0])
        if kin is not None:
            rows, others = kin
            if self.spec.exchange:
                lent = lent.index_copy(0, rows, draw(c[0][others], c[1][others], generator))
            if pairs[0] in ("both", "positive"):
                within = (c[0][rows] - c[0][others]).square().mean()
                content = content + WITHIN * within / (c[0].var(0).mean() + 1e-3)
            transform = transform + _away(z[0][rows], z[0][others], pairs[1])
        decoded = self._decoder(lent, draw(*z, generator), n)
        reconstruction = squared_distance(decoded, aligned, sphere, seen) / _variance(aligned * sphere)
        return {"reconstruction": reconstruction, "kl": kl_to_prior(*c) + kl_to_prior(*z)}, content, transform

    def _shared(self, z: Code, c: Code) -> Tensor:
        """Return the weighted dependence of z on c; c has no say in it."""
        if not self.spec.independence or self.spec.transform_pairs == "none":
            return c[0].new_zeros(())
        return self.spec.independence * dependence(z[0], c[0].detach())

    def _redrawn_alike(self, content: Tensor, families: Tensor | None, generator: torch.Generator) -> Tensor:
        """Return how unlike the codes z are of two decoded particles of different content and the same z ~ N(0, I).

        Of half of the batch, and at the coarse size, at which z is read.
        """
        half = max(1, len(content) // 2)
        shared = torch.randn(half, self.spec.transform, generator=generator).to(content)
        order = torch.randperm(len(content), generator=generator).to(content.device)
        one, two = content[order[:half]], content[order[-half:]]
        drawn = self._decoder(torch.cat([one, two]), shared.repeat(2, 1), self.spec.coarse)
        of = None if families is None else torch.cat([families[order[:half]], families[order[-half:]]])
        first, second = self._read(drawn, of)[0].chunk(2)
        return _towards(first, second, "positive")


def _variance(particles: Tensor) -> Tensor:
    """Return the variance of particles (b, ...) about their mean particle, mean over voxels; of one alone, about 0."""
    mean = particles.mean(0) if len(particles) > 1 else 0.0
    return (particles - mean).square().mean().detach().clamp_min(1e-8)


def _apart(a: Tensor, pairs: Pairs) -> Tensor:
    """Return the mean |cos| over all pairs of different particles: as one random other each, with less noise."""
    if pairs not in ("both", "negative") or len(a) < 2:
        return a.new_zeros(())
    unit = torch.nn.functional.normalize(a, dim=1)
    return ((unit @ unit.T).abs().sum() - len(a)) / (len(a) * (len(a) - 1))


def _towards(a: Tensor, b: Tensor, pairs: Pairs) -> Tensor:
    return (1 - cosine_similarity(a, b).abs()).mean() if pairs in ("both", "positive") else a.new_zeros(())


def _away(a: Tensor, b: Tensor, pairs: Pairs) -> Tensor:
    return cosine_similarity(a, b).abs().mean() if pairs in ("both", "negative") else a.new_zeros(())


def _partners(families: Tensor, generator: torch.Generator, *, same: bool) -> tuple[Tensor, Tensor] | None:
    """Return rows of particles and of a random partner of the same, or of another, family; None where none has one."""
    fits = families[:, None] == families[None, :]
    fits = fits & ~torch.eye(len(families), dtype=torch.bool, device=families.device) if same else ~fits
    have = torch.nonzero(fits.any(1))[:, 0]
    if not len(have):
        return None
    chance = torch.rand(fits.shape, generator=generator).to(families.device) * fits
    return have, chance[have].argmax(1)
