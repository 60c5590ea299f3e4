"""One score over the signal-to-noise ratio: the tables of one data set at several SNR as a chart."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from napari_disentangle.benchmark.pictures import save_figure
from napari_disentangle.benchmark.published import PUBLISHED
from napari_disentangle.benchmark.tables import TABLES
from napari_disentangle.metrics.evaluation import CodeScores
from napari_disentangle.models import model_info

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_disentangle.benchmark.results import RowResults

SCORE = "p"
"""What is drawn."""
COLOURS = (
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c6d31", "#7f7f7f", "#b0a000", "#7b4fb5",
    "#ff9d9a",
)  # fmt: skip
"""Of the two papers' models first."""


def swept(found: Mapping[str, Sequence[RowResults]]) -> dict[str, dict[float, list[float]]]:
    """Return model -> SNR -> P(c|z) of each seed, of the tables that have an SNR; ablations are left out.

    Of a model with data of several sizes, those with the most seeds.
    """
    scores: dict[str, dict[float, list[float]]] = defaultdict(dict)
    for table, rows in found.items():
        snr = TABLES[table].snr
        for name, results in rows:
            if snr is None or name != results[0].model:
                continue
            values = [getattr(one.scores.model, SCORE).value for one in results if one.scores is not None]
            values = [value for value in values if value is not None]
            if len(values) > len(scores[name].get(snr, ())):
                scores[name][snr] = values
    return scores


def draw_sweep(found: Mapping[str, Sequence[RowResults]], path: Path) -> None:
    """Write the chart of `swept`: each model's seeds and their mean, with the papers' figures."""
    from matplotlib.figure import Figure

    ours = swept(found)
    names = sorted(ours, key=lambda name: (not model_info(name).first, name))
    steps = sorted({table.snr for table in TABLES.values() if table.snr is not None}, reverse=True)
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(names):
        style: dict[str, Any] = {
            "color": COLOURS[k % len(COLOURS)],
            "linewidth": 2.2 if model_info(name).first else 1.0,
        }
        line = sorted((steps.index(snr), values) for snr, values in ours[name].items())
        axes.plot([at for at, _ in line], [sum(values) / len(values) for _, values in line], ".-", label=name, **style)
        axes.plot(
            [at for at, values in line for _ in values], [one for _, values in line for one in values], ".", **style
        )
        printed = _printed(name)
        if printed:
            places = [steps.index(snr) for snr, _ in printed]
            axes.plot(places, [value for _, value in printed], "x--", label=f"{name}, the paper's", **style)
    axes.set_xticks(range(len(steps)), [f"{snr:g}" for snr in steps])
    axes.set_xlabel("SNR")
    axes.set_ylabel(CodeScores.model_fields[SCORE].title or SCORE)
    axes.set_ylim(0, 1.03)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    save_figure(figure, path)


def _printed(row: str) -> list[tuple[float, float]]:
    """Return SNR and the paper's figure of a row, where it prints one."""
    found = ((table.snr, PUBLISHED.get(table.name, {}).get(row, {}).get(SCORE)) for table in TABLES.values())
    return sorted((snr, value) for snr, value in found if snr is not None and value is not None)
