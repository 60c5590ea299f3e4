"""Tables and rows: which models are trained on which data, with which settings. This is the place to tune them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_disentangle.benchmark.datasets import SOURCES
from napari_disentangle.errors import InputError
from napari_disentangle.models import MODELS

THROUGHPUT = "throughput"
SEEDS = (0, 1, 2)
PAPERS_MINUTES, BASELINE_MINUTES = 120.0, 10.0


@dataclass(frozen=True)
class Row:
    """One model under one set of settings."""

    name: str
    model: str
    settings: tuple[str, ...] = ()
    """``section.key=value`` over the preset."""
    seeds: tuple[int, ...] = (0,)
    minutes: float = BASELINE_MINUTES
    """After which training is stopped, cleanly."""
    steps: int | None = None
    """Of a baseline: its epochs are as many as make about so many steps; None for the epochs of the settings."""

    def settings_for(self, particles: int, seed: int) -> list[str]:
        """Return all settings of a training of so many particles."""
        chosen = [f"model.name={self.model}", *self.settings, f"training.seed={seed}"]
        if self.steps is not None:
            chosen.append(f"training.epochs={max(2, round(self.steps * _BATCH / particles))}")
        return chosen


@dataclass(frozen=True)
class Table:
    """Rows on one data set."""

    name: str
    title: str
    source: str
    """Name of the data set; empty for one that needs none."""
    rows: tuple[Row, ...]
    states: bool = False
    """Whether the truth tells states within identities."""
    followed: bool = False
    """Whether P(c|z) is taken whenever codes are written, to see how soon it is there."""
    neighbours: str = ""
    """Identity whose states form a row, of which the confusion is given."""
    snr: float | None = None
    """Of the tables that are one data set at several."""


_BATCH = 100
_BASELINE = (
    f"training.batch_size={_BATCH}", "training.learning_rate=0.001", "training.fine_epochs=0", "training.checkpoint_every=10",
    "pose.search=false", "model.content_dims=10", "model.transform_dims=10",
)  # fmt: skip
"""Of every model that is not one of the two papers' own, where it means something to it."""
_STEPS = {2: 3000, 3: 1200}
"""Of baselines, by the dimensions of the particles."""
_TEN = "model.content_dims=10"
"""As many as there are digits, and as the baselines have."""
_OF_DIGITS = (
    "training.learning_rate=0.002", "training.batch_size=100", "training.epochs=12", "training.posed_epochs=0",
    "training.fine_epochs=0",
)  # fmt: skip
_OF_PAPERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("mnist-affine-one", "harmony"): (
        "model.content_dims=1", "training.epochs=80", "training.fine_epochs=0", "training.checkpoint_every=20",
    ),
    ("mnist-affine", "harmony"): (_TEN, "training.epochs=30", "training.fine_epochs=0"),
    ("mnist-affine", "dualcontrast"): (_TEN, "model.transform_dims=8", *_OF_DIGITS),
    ("mnist", "harmony"): (_TEN,),
    ("mnist", "dualcontrast"): (_TEN, "model.transform_dims=4", "model.turn=45", *_OF_DIGITS),
    ("rgb-contrast", "harmony"): ("model.moves=contrast",),
}  # fmt: skip
"""Settings of the two papers' models in one table, over their preset: (table, model)."""
_ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "harmony": {
        "harmony-no-cross-contrast": ("model.cross_contrast=false",),
        "harmony-no-kl": ("model.kl=0",),
        "harmony-gamma-1": ("training.gamma=1",),
    },
    "dualcontrast": {
        "dualcontrast-no-content-pairs": ("model.content_pairs=none",),
        "dualcontrast-no-transform-pairs": ("model.transform_pairs=none",),
        "dualcontrast-positive-only": ("model.content_pairs=positive", "model.transform_pairs=positive"),
        "dualcontrast-negative-only": ("model.content_pairs=negative", "model.transform_pairs=negative"),
    },
}
_ABLATED = {
    "harmony": ("mnist-affine-one", "five-0.1", "trio"),
    "dualcontrast": ("mnist", "linemod", "trio"),
}
"""Tables that have the ablations of a model."""
_AUGMENTATIONS = ("rotation", "translation", "scale", "contrast", "saturation", "hue", "blur")


def _rows(table: str, source: str, *, decoders: bool = False) -> tuple[Row, ...]:
    dims = SOURCES[source].dims
    rows: list[Row] = []
    for name, info in MODELS.items():
        if dims not in info.dimensions or (decoders and not info.decodes):
            continue
        if not info.first:
            settings = tuple(one for one in _BASELINE if info.heeds(one.partition("=")[0]))
            rows.append(Row(name, name, settings, steps=None if info.kind == "linear" else _STEPS[dims]))
            if name == "vitae" and table.startswith("mnist"):
                rows.append(replace(rows[-1], name="vitae-affine", settings=(*settings, "model.warp=affine")))
            continue
        own = Row(name, name, _OF_PAPERS.get((table, name), ()), SEEDS, PAPERS_MINUTES)
        rows.append(own)
        if table in _ABLATED[name]:
            rows += [
                replace(own, name=ablation, settings=(*own.settings, *changes), seeds=SEEDS[:1])
                for ablation, changes in _ABLATIONS[name].items()
            ]
    return tuple(rows)


def _table(name: str, title: str, *, states: bool = False, decoders: bool = False, snr: float | None = None) -> Table:
    on_trio = name.startswith("trio")
    return Table(
        name, title, name, _rows(name, name, decoders=decoders), states, followed=on_trio,
        neighbours="groel-groes" if on_trio else "", snr=snr,
    )  # fmt: skip


_ALL = (
    _table("mnist-affine-one", "Harmony's table 2: digits under affine transforms, one image of each"),
    _table("mnist-affine", "Ordinary digits under affine transforms"),
    _table("mnist", "DualContrast's table 1: MNIST"),
    _table("linemod", "DualContrast's table 1: LineMod"),
    Table(
        "augmentation",
        "DualContrast's table 2: what makes the copy that shares a particle's content, on LineMod",
        "linemod",
        tuple(Row(one, "dualcontrast", (f"model.augmentation={one}",), SEEDS, PAPERS_MINUTES) for one in _AUGMENTATIONS),
    ),
    _table("rgb-contrast", "Harmony on colour: LineMod under changes of contrast", states=True),
    _table("trio", "DualContrast's table 1: proteins", states=True),
    _table("trio-wedge", "The same with a missing wedge", states=True),
    _table("trio-junk", "The same with empty boxes among the particles", states=True),
    *(
        _table(f"five-{snr:g}", f"Harmony's table 1: five molecules, SNR {snr:g}", snr=snr)
        for snr in (100.0, 0.1, 0.05, 0.03, 0.01)
    ),
    _table("five-wedge", "Five molecules with a missing wedge"),
    _table("five-junk", "Five molecules with empty boxes among the particles"),
    _table("projections", "2D particles: simulated projections", states=True),
    _table("spa", "2D particles without truth", decoders=True),
    Table(
        THROUGHPUT,
        "Training throughput, beside the authors' programs",
        "",
        tuple(
            Row(f"{model}-{size}", model, (f"training.batch_size={batch}",))
            for model, batch in (("harmony", 100), ("dualcontrast", 50))
            for size in (16, 32)
        ),
    ),
)  # fmt: skip
TABLES: dict[str, Table] = {table.name: table for table in _ALL}


def table_named(name: str) -> Table:
    """Return a table; InputError for a name that is not there."""
    if name not in TABLES:
        raise InputError(f'There is no table "{name}"; choose one of {", ".join(TABLES)}.')
    return TABLES[name]
