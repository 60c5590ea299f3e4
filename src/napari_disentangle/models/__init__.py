"""The registry of models. torch is imported only when one is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from napari_disentangle.models.harmony import Harmony


@dataclass(frozen=True)
class ModelInfo:
    """A line of the menu."""

    name: str
    title: str
    summary: str
    citation: str
    dimensions: tuple[int, ...]
    pose_modes: tuple[str, ...]
    decodes: bool


MODELS: dict[str, ModelInfo] = {
    "harmony": ModelInfo(
        name="harmony",
        title="Harmony",
        summary="Content code, explicit pose and a decoded volume; for kinds of molecules at every orientation.",
        citation="Uddin, Howe, Zeng and Xu, CVPR 2022",
        dimensions=(3,),
        pose_modes=("free", "local", "fixed", "prior"),
        decodes=True,
    ),
}


def model_info(name: str) -> ModelInfo:
    """Return the registry's entry of a model; InputError for a name that is not there."""
    if name not in MODELS:
        raise InputError(f'There is no model "{name}"; choose one of {", ".join(MODELS)}.')
    return MODELS[name]


def build_model(name: str, **settings: object) -> Harmony:
    """Return an untrained model of the registry, its weights drawn from torch's global generator."""
    model_info(name)
    from napari_disentangle.models.harmony import Harmony

    return Harmony(**settings)  # pyright: ignore[reportArgumentType]
