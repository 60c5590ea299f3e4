"""Pictures of a run, as PNG bytes: maps, slices, curves. Matplotlib without pyplot: no window, no global state."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.palette import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

OTHERS = "#BBBBBB"


def scatter(panels: Mapping[str, NDArray[Any]], labels: NDArray[np.int64], names: Sequence[str]) -> bytes:
    """Draw the same particles on several maps, side by side.

    Parameters
    ----------
    panels : title -> (n, 2)
    labels : (n,)
        Index into `names`; -1 for none of them.
    names : (k,)

    Returns
    -------
    bytes
        A PNG file.
    """
    figure = _figure(4.4 * len(panels), 4.2)
    for axes, (title, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        size = float(np.clip(4000 / max(len(points), 1), 0.5, 14))
        for k in range(-1, len(names)):
            chosen = points[labels == k]
            if len(chosen):
                name = f"{names[k]} ({len(chosen)})" if k >= 0 else f"none ({len(chosen)})"
                colour = COLOURS[k % len(COLOURS)] if k >= 0 else OTHERS
                axes.scatter(chosen[:, 0], chosen[:, 1], s=size, color=colour, label=name, linewidths=0)
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, markerscale=2)
    return _png(figure)


def average(
    volumes: Mapping[str, NDArray[np.float32]], frequency: NDArray[np.float64], fsc: NDArray[np.float64]
) -> bytes:
    """Draw the central slices of volumes in one frame, and the FSC of half maps.

    Parameters
    ----------
    volumes : name -> (n, n, n)
        Drawn as they are, each on its own grey scale.
    frequency : (k,)
        In 1/A.
    fsc : (k,)

    Returns
    -------
    bytes
        A PNG file.
    """
    figure = _figure(11.0, 2.6 * len(volumes))
    grid = figure.add_gridspec(len(volumes), 4, width_ratios=(1, 1, 1, 1.7))
    for row, (name, volume) in enumerate(volumes.items()):
        for axis, along in enumerate("zyx"):
            axes = figure.add_subplot(grid[row, axis])
            axes.imshow(np.take(volume, volume.shape[axis] // 2, axis=axis), cmap="gray", interpolation="nearest")
            axes.set_title(f"{name}, along {along}", fontsize=9)
            axes.set_axis_off()
    axes = figure.add_subplot(grid[:, 3])
    axes.plot(frequency, fsc, color=COLOURS[0])
    axes.axhline(0.143, color=OTHERS, linewidth=1)
    axes.set_ylim(-0.2, 1.05)
    axes.set_xlabel("spatial frequency (1/A)")
    axes.set_ylabel("FSC of the half maps")
    return _png(figure)


def curves(lines: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], x: str, y: str) -> bytes:
    """Draw named lines, (x, y) each, NaN for gaps, on a logarithmic y axis where all values are positive."""
    figure = _figure(7.0, 3.4)
    axes = figure.subplots()
    for k, (name, (at, values)) in enumerate(lines.items()):
        axes.plot(at, values, ".-", label=name, color=COLOURS[k % len(COLOURS)])
    if all((np.nan_to_num(values, nan=1.0) > 0).all() for _, values in lines.values()):
        axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
