"""Recipe: every setting of a run, frozen, to and from TOML. The descriptions are the tooltips and the help."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from napari_disentangle.errors import InputError
from napari_disentangle.models import MODELS, model_info
from napari_disentangle.models.base import Augmentation, Move, Pairs
from napari_disentangle.particles import CONE, PoseMode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SCHEMA_VERSION = 1


def _listed(value: object) -> object:
    return tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else value


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSettings(_Settings):
    """What was trained on, and how its files were to be understood."""

    particles: Annotated[str, Field(description="The particle list, stack or folder of boxes, absolute.")] = ""
    sha256: Annotated[str | None, Field(description="Of the particle list's text; none for a bare stack.")] = None
    tomograms: Annotated[str | None, Field(description="The tomograms.star given with it.")] = None
    tomogram: Annotated[str | None, Field(description="The tomogram given with it.")] = None
    voxel_size: Annotated[float | None, Field(gt=0, description="Of the boxes, in A, where files do not say.")] = None
    tilt_range: Annotated[tuple[float, float] | None, Field(description="Lowest and highest tilt, degrees.")] = None
    size_from: Annotated[Literal["star", "volume"] | None, Field(description="Which tomogram size to believe.")] = None
    coordinate_pixel: Annotated[float | None, Field(gt=0, description="Pixel of the coordinates, in A.")] = None
    invert: Annotated[
        bool, Field(description="Protein is dark in the boxes; they are turned over as they are read.")
    ] = False
    selection: Annotated[str | None, Field(description="The selection of another run that was trained on.")] = None


class ModelSettings(_Settings):
    """Which model, and what it sees."""

    name: Annotated[str, Field(description="One of those that `models` lists.")] = "harmony"
    content_dims: Annotated[int, Field(ge=1, le=64, description="Dimensions of the content code.")] = 4
    transform_dims: Annotated[
        int, Field(ge=1, le=64, description="Dimensions of a transformation code that is not a pose.")
    ] = 4
    invariants: Annotated[
        bool, Field(description="Feed the power in Fourier shells to the content code; off for the paper's encoder.")
    ] = True
    soft_sphere: Annotated[bool, Field(description="Compare particles inside a soft sphere only.")] = True
    wedge: Annotated[bool, Field(description="Heed the missing wedge where the tilt range is known.")] = True
    moves: Annotated[
        tuple[Move, ...] | None,
        BeforeValidator(_listed),
        Field(
            description="What an explicit transformation of images does, with commas; without it, rotation, translation and scale of grey ones, "
            "contrast of coloured ones."
        ),
    ] = None
    kl: Annotated[
        float | None, Field(ge=0, description="Weight of the Kullback-Leibler terms; without it, the model's own.")
    ] = None
    cross_contrast: Annotated[
        bool, Field(description="Harmony compares each particle with its moved copy; off for its ablation.")
    ] = True
    content_pairs: Annotated[
        Pairs,
        Field(description="Pairs that shape DualContrast's content code; all but both are its ablations."),
    ] = "both"
    transform_pairs: Annotated[
        Pairs,
        Field(description="Pairs that shape DualContrast's transformation code."),
    ] = "both"
    augmentation: Annotated[
        Augmentation,
        Field(description="What makes the copy that shares a particle's content; volumes are rotated."),
    ] = "rotation"
    turn: Annotated[
        float, Field(gt=0, le=180, description="Largest angle that an image's copy is turned by, degrees.")
    ] = 180.0
    exchange: Annotated[
        bool, Field(description="DualContrast redraws each particle from its copy's content; off as published.")
    ] = True
    independence: Annotated[
        float, Field(ge=0, description="Weight of what DualContrast's codes know of each other; 0 as published.")
    ] = 1.0
    warp: Annotated[Literal["affine", "diffeomorphic"], Field(description="What VITAE bends images by.")] = (
        "diffeomorphic"
    )
    decoder: Annotated[
        Literal["standard", "dense"],
        Field(description="dense for the decoder that DualContrast was published with, of 5000 n^3 weights."),
    ] = "standard"


class PoseSettings(_Settings):
    """Where each particle may lie in its box."""

    mode: Annotated[
        PoseMode,
        Field(
            description="free: any; local: near the imported pose; fixed: the imported one; prior: near its tilt and psi, any rot."
        ),
    ] = "free"
    diameter: Annotated[
        float | None, Field(gt=0, description="Of the particle, in A; without it, the box's edge / 1.6.")
    ] = None
    max_shift: Annotated[
        float | None,
        Field(
            ge=0,
            le=0.5,
            description="Largest shift per axis, of the diameter; without it 0.25, with imported poses 0.1.",
        ),
    ] = None
    search: Annotated[
        bool,
        Field(
            description="After the coarse stage, group particles, and search each pose against its group's own average."
        ),
    ] = True
    cone: Annotated[
        float,
        Field(gt=0, le=180, description="Largest angle from the imported pose, or from its tilt and psi, degrees."),
    ] = CONE


class TrainingSettings(_Settings):
    """How long, how fast, from which seed."""

    seed: Annotated[int, Field(ge=0, description="Of every random number.")] = 0
    epochs: Annotated[int, Field(ge=0, description="Passes over the particles at the coarse size.")] = 6
    posed_epochs: Annotated[
        int, Field(ge=0, description="Further passes at the coarse size, after the search of poses.")
    ] = 0
    fine_epochs: Annotated[int, Field(ge=0, description="Passes at the fine size, afterwards.")] = 2
    batch_size: Annotated[int, Field(ge=2, description="Particles a step.")] = 64
    learning_rate: Annotated[
        float, Field(gt=0, description="Adam's; twice this where DualContrast sees grey images.")
    ] = 1e-3
    gamma: Annotated[
        float | None,
        Field(gt=0, description="Weight of the distances against the KL; without it particles / batch size."),
    ] = None
    distance: Annotated[
        Literal["mean", "sum"],
        Field(description="Squared errors over the voxels of a volume: their mean, or the paper's sum."),
    ] = "mean"
    coarse_size: Annotated[int, Field(ge=8, multiple_of=8, description="Voxels per edge of the coarse stage.")] = 16
    fine_size: Annotated[int, Field(ge=8, multiple_of=8, description="Most voxels per edge of the fine stage.")] = 32
    decay_every: Annotated[
        int | None, Field(ge=1, description="Epochs after which the learning rate becomes a tenth, again and again.")
    ] = None
    checkpoint_every: Annotated[int, Field(ge=1, description="Epochs between checkpoints.")] = 2

    @property
    def all_epochs(self) -> int:
        """Passes over the particles of all stages."""
        return self.epochs + self.posed_epochs + self.fine_epochs


class Recipe(_Settings):
    """Everything needed to repeat a run."""

    schema_version: int = SCHEMA_VERSION
    versions: Annotated[dict[str, str], Field(description="Of what made the run.")] = {}
    input: InputSettings = InputSettings()
    model: ModelSettings = ModelSettings()
    pose: PoseSettings = PoseSettings()
    training: TrainingSettings = TrainingSettings()

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """Return this recipe with some settings changed.

        Parameters
        ----------
        settings : iterable of str
            ``section.key=value``, as on the command line; ``none`` unsets.

        Raises
        ------
        InputError
            No such setting, or a value it cannot have.
        """
        values = self.model_dump()
        for setting in settings:
            name, sign, text = setting.partition("=")
            section, _, key = name.strip().partition(".")
            if not sign:
                raise InputError(f'"{name.strip()}" lacks a value; write KEY=VALUE, such as training.epochs=20.')
            if section not in ("model", "pose", "training") or key not in values[section]:
                raise InputError(
                    f'There is no setting "{name.strip()}"; choose one of {", ".join(_names(self))} and write KEY=VALUE.'
                )
            default = type(getattr(self, section)).model_fields[key].default
            values[section][key] = None if default is None and text.strip().lower() == "none" else text.strip()
        return _validated(values, "--set")

    @classmethod
    def preset(cls, name: str, model: str = "harmony") -> Recipe:
        """Return a model's recipe of a preset: "quick", "standard", "thorough" or "paper" (as published).

        Raises
        ------
        InputError
            No such preset, or no such model.
        """
        if name not in PRESETS:
            raise InputError(f'There is no preset "{name}"; choose one of {", ".join(PRESETS)}.')
        own = OF_MODEL.get(model, {})
        return cls().with_settings([f"model.name={model}", *own.get("", ()), *PRESETS[name], *own.get(name, ())])

    @classmethod
    def chosen(cls, preset: str, settings: Iterable[str] = ()) -> Recipe:
        """Return a preset with settings over it, for the model that the settings name.

        Raises
        ------
        InputError
            As `preset` and `with_settings`; or a setting means nothing to the model.
        """
        settings = list(settings)
        given = [(name.strip(), text.strip()) for name, _, text in (setting.partition("=") for setting in settings)]
        recipe = cls.preset(preset, *[text for name, text in given if name == "model.name"][-1:]).with_settings(
            settings
        )
        info = model_info(recipe.model.name)
        for name, _ in given:
            if not info.heeds(name):
                theirs = ", ".join(f"model.{one}" for one in info.settings)
                raise InputError(f"{name} means nothing to {info.title}, which heeds {theirs}; leave it out.")
        return recipe

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe's TOML.

        Raises
        ------
        InputError
            Missing, not a recipe, or of a newer schema than this version knows.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist; {path.parent} is not a run folder.") from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path} cannot be read as a recipe ({error}).") from error
        version = values.get("schema_version")
        if not isinstance(version, int):
            raise InputError(f"{path} has no schema_version, so it is not a recipe of napari-disentangle.")
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{path.parent} was written by a newer napari-disentangle (schema {version}, this one knows {SCHEMA_VERSION}); "
                "update napari-disentangle to open it."
            )
        return _validated(values, str(path))

    def to_toml(self) -> str:
        """Return the recipe as TOML, settings that are not set left out."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))


PRESETS: dict[str, tuple[str, ...]] = {
    "quick": ("training.epochs=4", "training.fine_epochs=0", "pose.search=false"),
    "standard": (),
    "thorough": ("training.epochs=20", "training.fine_epochs=10"),
    "paper": (
        "model.invariants=false", "model.soft_sphere=false", "model.wedge=false", "model.content_dims=10",
        "pose.search=false",
        "training.epochs=0", "training.fine_epochs=200", "training.coarse_size=32", "training.batch_size=100", "training.learning_rate=0.0001",
        "training.distance=sum",
    ),
}  # fmt: skip
"""Settings of each preset, over the default."""
OF_MODEL: dict[str, dict[str, tuple[str, ...]]] = {
    "dualcontrast": {
        "": ("model.transform_dims=8", "training.posed_epochs=24"),
        "quick": ("training.posed_epochs=0",),
        "thorough": ("training.posed_epochs=60",),
        "paper": (
            "model.content_dims=50", "model.transform_dims=50", "training.posed_epochs=0", "model.exchange=false", "model.independence=0",
            "training.batch_size=50", "training.decay_every=50", "training.distance=mean",
        ),
    },
}  # fmt: skip
"""Settings of a model's own, before those of a preset ("") and after them (the preset's name)."""


def _names(recipe: Recipe) -> list[str]:
    sections = {"model": recipe.model, "pose": recipe.pose, "training": recipe.training}
    return [f"{section}.{key}" for section, settings in sections.items() for key in type(settings).model_fields]


def _validated(values: dict[str, Any], where: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f'{where}: "{name}" cannot be {first["input"]!r}: {first["msg"].lower()}.') from error
    if recipe.training.all_epochs == 0:
        raise InputError(f"{where}: training.epochs and training.fine_epochs are both 0; give at least one epoch.")
    if recipe.model.name not in MODELS:
        raise InputError(f'{where}: there is no model "{recipe.model.name}"; choose one of {", ".join(MODELS)}.')
    return recipe
