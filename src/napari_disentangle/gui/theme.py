"""Colours: napari's theme for every canvas of ours, and one colour per group, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.settings import get_settings
from napari.utils.theme import get_theme

from napari_disentangle.palette import COLOURS

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_GROUP = "#8c8c8c"
"""Of particles that belong to no group."""
WARNING = "#e69f00"
"""For words that ask for attention; told by their sign too, not by colour alone."""


def theme_colours(name: str | None = None) -> tuple[str, str]:
    """Return the background and the text colour of a theme of napari's, by default the one in use, as #rrggbb."""
    theme = get_theme(name or get_settings().appearance.theme)
    return _hex(theme.background), _hex(theme.text)


def group_colour(index: int) -> str:
    """Return the colour of a group as #rrggbb: Okabe and Ito's, told apart by colour-blind readers too."""
    return COLOURS[index % len(COLOURS)] if index >= 0 else NO_GROUP


def rgba(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (n, 4) the colours of groups (n,), -1 for none."""
    palette = np.array([_rgb(c) for c in (*COLOURS, NO_GROUP)], np.float32)
    colours = np.ones((len(labels), 4), np.float32)
    colours[:, :3] = palette[np.where(labels >= 0, labels % len(COLOURS), len(COLOURS))]
    return colours


def rgba_of_values(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (n, 4) colours from dark blue to yellow (viridis) for numbers (n,), grey where they are not finite."""
    from vispy.color import get_colormap

    known = np.isfinite(values)
    low, high = np.percentile(values[known], [1, 99]) if known.any() else (0.0, 1.0)
    scaled = np.clip((np.where(known, values, low) - low) / max(high - low, 1e-12), 0, 1)
    colours = np.asarray(get_colormap("viridis").map(scaled.astype(np.float32)), np.float32)
    colours[~known] = (*_rgb(NO_GROUP), 1.0)
    return colours


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return red, green, blue


def _hex(colour: object) -> str:
    """Return the #rrggbb of one of napari's theme colours."""
    as_hex = getattr(colour, "as_hex", None)
    text = str(as_hex(format="long") if as_hex is not None else colour)
    return text[:7]
