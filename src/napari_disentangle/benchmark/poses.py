"""Errors of poses as Markdown: of each kind of molecule, beside those of poses drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_disentangle.benchmark.results import RowResults
    from napari_disentangle.metrics import Score

ASKEW = {"proteasome-20s": "D7 about axes that are not the box's"}
"""Molecules whose symmetric copies are not told apart from errors, and why; nothing is said of their poses."""


def pose_errors(rows: Sequence[RowResults]) -> str:
    """Return the median errors, means over the seeds, of rows whose model finds poses; empty where none does."""
    head = "| row | particles | molecule | symmetry | median error | by chance | below 15 degrees | shift |"
    lines: list[str] = []
    left_out: set[str] = set()
    for name, results in rows:
        scored = [result for result in results if result.scores is not None and result.scores.pose]
        of = {one.identity: one for result in scored[::-1] for one in result.scores.pose}  # pyright: ignore[reportOptionalMemberAccess]
        for identity, first in of.items():
            if identity in ASKEW:
                left_out.add(identity)
                continue
            same = [one for r in scored for one in r.scores.pose if one.identity == identity]  # pyright: ignore[reportOptionalMemberAccess]
            cells = [
                name, str(results[0].particles), identity, first.symmetry, _mean([one.median for one in same], "{:.0f}"),
                "-" if first.median.chance is None else f"{first.median.chance:.0f}",
                _mean([one.close for one in same], "{:.2f}"), _mean([one.shift for one in same], "{:.0f} A"),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return ""
    about = "Poses after one rigid motion for each molecule, modulo its symmetry; degrees, means over the seeds:"
    notes = [f"- {name}: left out, {ASKEW[name]}." for name in sorted(left_out)]
    return "\n".join(
        [about, "", head, "| --- | --- | --- | --- | --- | --- | --- | --- |", *lines, *(["", *notes] if notes else [])]
    )


def _mean(scores: Sequence[Score], form: str) -> str:
    values = [score.value for score in scores if score.value is not None]
    return form.format(np.mean(values)) if values else "-"
