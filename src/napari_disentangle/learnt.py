"""What a training has learnt, in words, and what is suspicious about it: never the truth, which nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_disentangle.run import Run

MOST = 2000
"""Particles that are looked at."""
REDRAWN = 300
"""Particles that are decoded with one another's transformation codes."""
HEEDED = 0.1
"""Part of the explained variance that such an exchange must cost."""
ABOVE_CHANCE = 0.15
"""By how much a code must beat chance at naming the tomogram before it is said."""
SECTORS = 48
"""Equal parts of the sphere of views."""


def learnt_in_words(run: Run, groups: str) -> tuple[list[str], list[str]]:
    """Return sentences on what was learnt, and sentences on what is suspicious.

    Parameters
    ----------
    run : Run
        Trained.
    groups : str
        Name of the clustering to speak of, such as "A" for A/0, A/1.

    Raises
    ------
    InputError
        Not trained yet.
    """
    from napari_disentangle.metrics import knn_accuracy

    codes, particles = run.codes(), run.particles()
    sizes = [len(run.selection(name)) for name in run.selections() if name.startswith(f"{groups}/")]
    words: list[str] = []
    doubts: list[str] = []
    if sizes:
        listed = ", ".join(str(size) for size in sizes)
        words.append(
            f"{len(sizes)} groups in content ({listed} particles)." if len(sizes) > 1 else "One group in content."
        )
    if codes.pose is not None:
        seen = views_covered(codes.pose.rotations)
        chance = 1 - (1 - 1 / SECTORS) ** len(codes.ids)
        words.append(f"Poses cover {seen:.0%} of all views.")
        if seen < 0.5 * chance:
            doubts.append(
                f"Poses crowd into {seen:.0%} of all views: the particles lie alike (a membrane, a filament), or poses are not found."
            )
    spread = codes.content.std(0)
    if not np.any(spread > 1e-3):
        doubts.append(
            "Content is the same for all particles: nothing was told apart. Train longer, or with invariants."
        )
    doubts += _of_transformations(run)
    where = particles.tomogram
    if where is not None and len(np.unique(where)) > 1:
        rows = np.random.default_rng(0).permutation(len(codes.ids))[:MOST]
        labels = where[particles.rows_of(codes.ids[rows])]
        common = np.isin(labels, [k for k in np.unique(labels) if (labels == k).sum() >= 10])
        score = knn_accuracy(codes.content[rows][common], labels[common])
        if score.value is not None and score.chance is not None and score.value - score.chance > ABOVE_CHANCE:
            doubts.append(
                f"Content predicts the tomogram at {score.value:.2f}, chance {score.chance:.2f}: groups may be of ice or defocus."
            )
    return words, doubts


def _of_transformations(run: Run) -> list[str]:
    """Return whether decoded particles change with the transformation code; an explicit transformation always moves."""
    from napari_disentangle.metrics import informativeness
    from napari_disentangle.models import model_info
    from napari_disentangle.training.informativeness import explained_variance

    info = model_info(run.recipe.model.name)
    if not (info.decodes and info.two_codes) or info.moves or run.checkpoint() is None:
        return []
    explained = explained_variance(run, most=REDRAWN)
    cost = informativeness(explained.own, explained.permuted["transformation"]).value
    if cost is None:
        return ["Decoded particles explain nothing of the data yet, so neither map is to be trusted. Train longer."]
    if cost < HEEDED:
        return [
            f"With another particle's transformation code only {max(cost, 0):.0%} of what decoded particles explain is lost: particles "
            "differ in little but their content, or training missed it; another seed may find more."
        ]
    return []


def views_covered(rotations: NDArray[np.float64]) -> float:
    """Return the share of `SECTORS` equal parts of the sphere from which some particle is seen.

    Parameters
    ----------
    rotations : (n, 3, 3)
        Reference -> particle, xyz. The view is where the beam (z of the box) comes from in the reference: row 3.
    """
    if not len(rotations):
        return 0.0
    x, y, z = rotations[:, 2, :].T
    rings = np.clip(((z + 1) / 2 * 6).astype(np.int64), 0, 5)  # equal heights of a sphere are equal areas
    turns = np.clip(((np.arctan2(y, x) / (2 * np.pi) + 0.5) * 8).astype(np.int64), 0, 7)
    return len(np.unique(rings * 8 + turns)) / SECTORS


def view_map(rotations: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the sphere of views as a flat map, (n, 2): Hammer's projection, which keeps areas.

    Parameters
    ----------
    rotations : (n, 3, 3)
        Reference -> particle, xyz.
    """
    x, y, z = rotations[:, 2, :].T
    longitude, latitude = np.arctan2(y, x), np.arcsin(np.clip(z, -1, 1))
    scale = np.sqrt(1 + np.cos(latitude) * np.cos(longitude / 2))
    across = 2 * np.sqrt(2) * np.cos(latitude) * np.sin(longitude / 2) / scale
    return np.stack([across, np.sqrt(2) * np.sin(latitude) / scale], 1).astype(np.float32)
