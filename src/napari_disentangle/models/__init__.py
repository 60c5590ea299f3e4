"""The registry of models. torch is imported only when one is built."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from napari_disentangle.models.base import Spec
    from napari_disentangle.models.module import DisentanglingModel


@dataclass(frozen=True)
class ModelInfo:
    """A line of the menu."""

    name: str
    title: str
    summary: str
    citation: str
    kind: Literal["generative", "contrastive", "linear"]
    """Trained by steps with a decoder, by steps without one, or solved at once."""
    dimensions: tuple[int, ...]
    """2 for images, 3 for volumes."""
    decodes: bool
    pose_modes: tuple[str, ...] = ()
    """Of volumes; none for a model without poses."""
    two_codes: bool = True
    """Whether it has a transformation code beside the content code."""
    moves: tuple[str, ...] = ()
    """What its explicit transformation may do to images; none for a model without one."""
    own_settings: tuple[str, ...] = ()
    """Names in the recipe's [model] that mean something to it, beside those of nearly every model."""
    without: tuple[str, ...] = ()
    """Of those of nearly every model, what means nothing to it."""
    first: bool = False
    """One of the two papers' own, which stand first in menus."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Names in the recipe's [model] that mean something to it."""
        return (*(name for name in _OF_MOST if name not in self.without), *self.own_settings)

    def heeds(self, name: str) -> bool:
        """Return whether a setting ``section.key`` of the recipe means something to it; of other sections, all do."""
        section, _, key = name.partition(".")
        return section != "model" or key in self.settings

    @property
    def uses_invariants(self) -> bool:
        """Whether the content code may start from the invariants."""
        return "invariants" in self.own_settings


_OF_MOST = ("name", "content_dims", "soft_sphere", "wedge")


_ALL = (
    ModelInfo(
        name="harmony",
        title="Harmony",
        summary="Content code, explicit pose and a decoded volume; for kinds of molecules at every orientation.",
        citation="Uddin, Howe, Zeng and Xu, CVPR 2022",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        pose_modes=("free", "local", "fixed", "prior"),
        moves=("rotation", "translation", "scale", "contrast"),
        own_settings=("moves", "kl", "cross_contrast", "invariants", "decoder"),
        first=True,
    ),
    ModelInfo(
        name="dualcontrast",
        title="DualContrast",
        summary="Content code and transformation code, shaped by pairs; for conformations within kinds of molecules.",
        citation="Uddin and Xu, 2024",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        pose_modes=("free", "local", "fixed", "prior"),
        own_settings=(
            "transform_dims",
            "kl",
            "content_pairs",
            "transform_pairs",
            "augmentation",
            "turn",
            "exchange",
            "independence",
            "invariants",
            "decoder",
        ),
        first=True,
    ),
    ModelInfo(
        name="vae-two-spaces",
        title="VAE with two latent spaces",
        summary="A variational autoencoder with two codes and nothing that tells them apart; what others must beat.",
        citation="Kingma and Welling, ICLR 2014, with two codes as in Uddin and Xu, 2024",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        own_settings=("transform_dims", "kl", "decoder"),
    ),
    ModelInfo(
        name="vae",
        title="VAE",
        summary="A variational autoencoder with one code for everything.",
        citation="Kingma and Welling, ICLR 2014",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        two_codes=False,
        own_settings=("kl", "decoder"),
    ),
    ModelInfo(
        name="beta-vae",
        title="beta-VAE",
        summary="A VAE whose stronger prior pushes the dimensions of its one code apart.",
        citation="Higgins et al., ICLR 2017",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        two_codes=False,
        own_settings=("kl", "decoder"),
    ),
    ModelInfo(
        name="beta-tcvae",
        title="beta-TCVAE",
        summary="A VAE that penalises what the dimensions of its one code share.",
        citation="Chen, Li, Grosse and Duvenaud, NeurIPS 2018",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        two_codes=False,
        own_settings=("kl", "decoder"),
    ),
    ModelInfo(
        name="spatial-vae",
        title="SpatialVAE",
        summary="A VAE whose decoder is a function of turned and shifted coordinates.",
        citation="Bepler, Zhong, Kelley, Brignole and Berger, NeurIPS 2019",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        pose_modes=("free",),
        moves=("rotation", "translation"),
        own_settings=("moves", "kl"),
    ),
    ModelInfo(
        name="vitae",
        title="VITAE",
        summary="A VAE of how an image is warped and of what it shows before that.",
        citation="Detlefsen and Hauberg, NeurIPS 2019",
        kind="generative",
        dimensions=(2,),
        decodes=True,
        own_settings=("transform_dims", "kl", "warp", "decoder"),
        without=("wedge",),
    ),
    ModelInfo(
        name="deforming-autoencoder",
        title="Deforming Autoencoder",
        summary="An autoencoder of a texture in a template and of the deformation that brings it into place.",
        citation="Shu et al., ECCV 2018",
        kind="generative",
        dimensions=(2,),
        decodes=True,
        own_settings=("transform_dims", "decoder"),
        without=("wedge",),
    ),
    ModelInfo(
        name="simclr",
        title="SimCLR, discriminative",
        summary="Content that is alike in turned copies, and a second code that tells the turn; nothing is decoded.",
        citation="Chen, Kornblith, Norouzi and Hinton, ICML 2020",
        kind="contrastive",
        dimensions=(2, 3),
        decodes=False,
        own_settings=("transform_dims",),
    ),
    ModelInfo(
        name="simclr-generative",
        title="SimCLR, generative",
        summary="SimCLR's two codes, with a decoder that has to redraw the particle from them.",
        citation="Chen, Kornblith, Norouzi and Hinton, ICML 2020",
        kind="generative",
        dimensions=(2, 3),
        decodes=True,
        own_settings=("transform_dims", "kl", "decoder"),
    ),
    ModelInfo(
        name="pca",
        title="PCA",
        summary="Principal components of the voxels.",
        citation="Pearson, 1901",
        kind="linear",
        dimensions=(2, 3),
        decodes=True,
        two_codes=False,
        without=("wedge",),
    ),
    ModelInfo(
        name="fastica",
        title="FastICA",
        summary="Independent components of the voxels.",
        citation="Hyvärinen, IEEE Transactions on Neural Networks 1999",
        kind="linear",
        dimensions=(2, 3),
        decodes=True,
        two_codes=False,
        without=("wedge",),
    ),
    ModelInfo(
        name="invariants",
        title="Invariants",
        summary="The power of each particle in Fourier shells, unchanged by turns and shifts: the baseline without training.",
        citation="Classical; as descriptors Kazhdan, Funkhouser and Rusinkiewicz, SGP 2003",
        kind="linear",
        dimensions=(2, 3),
        decodes=False,
        two_codes=False,
        without=("content_dims", "soft_sphere"),
    ),
)
MODELS: dict[str, ModelInfo] = {info.name: info for info in _ALL}
_CLASSES = {
    "harmony": "harmony:Harmony",
    "dualcontrast": "dualcontrast:DualContrast",
    "vae-two-spaces": "vae:TwoSpaceVAE",
    "vae": "vae:VAE",
    "beta-vae": "vae:BetaVAE",
    "beta-tcvae": "vae:BetaTCVAE",
    "spatial-vae": "spatial_vae:SpatialVAE",
    "vitae": "vitae:VITAE",
    "deforming-autoencoder": "deforming:DeformingAutoencoder",
    "simclr": "simclr:SimCLR",
    "simclr-generative": "simclr:GenerativeSimCLR",
    "pca": "linear:PCA",
    "fastica": "linear:FastICA",
    "invariants": "linear:Invariants",
}
"""Where each model is written: module and class."""


def model_info(name: str) -> ModelInfo:
    """Return the registry's entry of a model; InputError for a name that is not there."""
    if name not in MODELS:
        raise InputError(f'There is no model "{name}"; choose one of {", ".join(MODELS)}.')
    return MODELS[name]


def build_model(name: str, spec: Spec) -> DisentanglingModel:
    """Return an untrained model of the registry, its weights drawn from torch's global generator."""
    model_info(name)
    module, _, found = _CLASSES[name].partition(":")
    return getattr(import_module(f"napari_disentangle.models.{module}"), found)(spec)
