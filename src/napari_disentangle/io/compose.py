"""Compose the text of a new STAR file. Existing ones are edited token for token instead, see `star`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.io.star import quote

if TYPE_CHECKING:
    from collections.abc import Mapping


def star_text(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    """Return STAR text with a block for each entry.

    Parameters
    ----------
    blocks : mapping
        From a block's name to its labels, without underscore. A block whose values are all scalars is written as pairs,
        one whose values are sequences as a loop. Floats get six decimals, as RELION writes them.
    """
    parts = ["# version 50001\n"]
    for name, labels in blocks.items():
        parts.append(f"\ndata_{name}\n\n")
        if all(isinstance(value, (str, int, float, np.number)) for value in labels.values()):
            parts.extend(f"_{label} {_token(value)}\n" for label, value in labels.items())
            continue
        parts.append("loop_\n")
        parts.extend(f"_{label} #{k}\n" for k, label in enumerate(labels, 1))
        rows = zip(*labels.values(), strict=True)
        parts.extend("\t".join(_token(value) for value in row) + "\n" for row in rows)
        parts.append("\n")
    return "".join(parts)


def _token(value: object) -> str:
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.6f}"
    return quote(str(value))
