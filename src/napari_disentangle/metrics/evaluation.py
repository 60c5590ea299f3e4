"""One evaluation of codes against a truth table, with chance and the invariants beside every number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_disentangle.errors import InputError
from napari_disentangle.metrics.codes import (
    Score,
    best_single,
    cluster_agreement,
    difference,
    knn_accuracy,
    logistic_accuracy,
    separated_predictability,
    single_accuracies,
    state_accuracy,
    state_agreement,
)
from napari_disentangle.metrics.poses import align_frame, chance_errors, shift_errors
from napari_disentangle.metrics.truth import JUNK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from napari_disentangle.metrics.truth import Truth
    from napari_disentangle.particles import Pose

    Floats = NDArray[np.float64]

CLOSE = 15.0
"""Degrees within which a pose counts as found."""
FEWEST_POSES = 5
"""Particles of an identity below which one rigid motion explains too much."""


class CodeScores(BaseModel):
    """What one model's codes (or the invariants) know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content: Annotated[int, Field(description="Dimensions of the content code.")]
    transform: Annotated[int, Field(description="Dimensions of the transformation code; an explicit pose has 12.")]
    p: Annotated[Score, Field(title="P(c|z)", description="identity from the content, 5 nearest neighbours")]
    p1: Annotated[Score, Field(title="P1", description="the same from its best single dimension")]
    p_transform: Annotated[Score, Field(title="P(c|t)", description="the same from the transformation")]
    d_cc: Annotated[Score, Field(title="D(c|c)", description="identity from the content, logistic regression")]
    d_cz: Annotated[Score, Field(title="D(c|z)", description="identity from the transformation")]
    d_zz: Annotated[Score, Field(title="D(z|z)", description="state within identities, from the transformation")]
    d_zc: Annotated[Score, Field(title="D(z|c)", description="state within identities, from the content")]
    sap: Annotated[Score, Field(title="SAP", description="Harmony's: best dimension - second best, kNN")]
    sap_spaces: Annotated[Score, Field(title="SAP spaces", description="P(c|z) - P(c|t)")]
    sap_c: Annotated[Score, Field(title="SAP(c)", description="DualContrast's: D(c|c) - D(c|z)")]
    sap_z: Annotated[Score, Field(title="SAP(z)", description="DualContrast's: D(z|z) - D(z|c), signed")]
    ari: Annotated[Score, Field(title="ARI", description="of a Gaussian mixture on the content, true number")]
    nmi: Annotated[Score, Field(title="NMI", description="of the same")]
    ari_z: Annotated[
        Score,
        Field(title="ARI(z)", description="of one on the transformation within identities, true number of states"),
    ] = Score(reason="not taken by the version that scored it")


class PoseScores(BaseModel):
    """Poses of one identity, after the one rigid motion between its canonical frame and the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    symmetry: Annotated[str, Field(description="Errors are to the nearest symmetric copy.")] = "C1"
    particles: int
    median: Annotated[Score, Field(description="Median geodesic error, in degrees.")]
    close: Annotated[Score, Field(description="Fraction of particles with less than 15 degrees.")]
    shift: Annotated[Score, Field(description="Median distance between centres, in Angstrom.")]


class Evaluation(BaseModel):
    """All scores of one set of codes. `str` gives the table that people read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    truth: Annotated[str, Field(description="The truth table.")]
    particles: Annotated[int, Field(description="Particles with both codes and truth.")]
    identities: Annotated[dict[str, int], Field(description="Particles of each identity.")]
    model: CodeScores
    invariants: Annotated[CodeScores | None, Field(description="The baseline, which trains nothing.")] = None
    pose: Annotated[tuple[PoseScores, ...], Field(description="Per identity; junk has no pose.")] = ()
    informativeness: Annotated[
        dict[str, Score], Field(description="Part of the explained variance that is lost when a code is permuted.")
    ] = {}
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """Return the scores as aligned plain text."""
        notes = [f"Note: {note}." for note in self.notes]
        return "\n".join([_heading(self), "", *_code_lines(self), *_pose_lines(self), *notes])

    def __str__(self) -> str:
        return self.table()


def evaluate_codes(
    ids: ArrayLike,
    content: ArrayLike,
    transform: ArrayLike | None,
    pose: Pose | None,
    truth: Truth,
    *,
    voxel_size: float | None,
    invariants: ArrayLike | None = None,
    symmetry: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score codes against what the particles are.

    Parameters
    ----------
    ids : (n,)
        Rows of the original list, each once. Particles are matched to the truth by these, never by position.
    content : (n, c)
        Means, as all codes.
    transform : (n, t) or None
    pose : Pose, optional
        The model's own; without a transformation code it stands for it, as its rotation matrix (9 numbers) and
        shift (3).
    truth : Truth
        From `read_truth`.
    voxel_size : float or None
        Of the truth's shifts, in Angstrom; without it shifts are not compared.
    invariants : (n, s), optional
        `invariants.invariants` of the same particles, the baseline.
    symmetry : dict, optional
        Point group of each identity's reference with its axis, as in ``{"groel-groes": "C7:z"}``; the others are C1.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If no particle is in the truth, an identity with a symmetry is not, or codes are not finite.
    """
    ids = np.asarray(ids, dtype=np.int64)
    rows, at, notes = _matched(ids, truth)
    symmetry = dict(symmetry or {})
    identity, state = truth.identity[at], truth.state[at]
    unknown = sorted(set(symmetry) - set(truth.identity.tolist()))
    if unknown:
        names = ", ".join(np.unique(truth.identity).tolist())
        raise InputError(f'{truth.path} has no identity "{unknown[0]}" to give a symmetry to; it has {names}.')
    codes = _matrix(content, len(ids), "content code")[rows]
    if transform is not None:
        moved = transform
    elif pose is not None:
        moved = np.concatenate([pose.rotations.reshape(-1, 9), pose.offsets], axis=1)
    else:
        moved = np.empty((len(ids), 0))
    moves = _matrix(moved, len(ids), "transformation code")[rows]
    names, counts = np.unique(identity, return_counts=True)
    baseline = None if invariants is None else _matrix(invariants, len(ids), "invariants")[rows]
    return Evaluation(
        truth=str(truth.path),
        particles=len(rows),
        identities={str(name): int(count) for name, count in zip(names, counts, strict=True)},
        model=_score_codes(codes, moves, identity, state),
        invariants=None if baseline is None else _score_codes(baseline, np.empty((len(rows), 0)), identity, state),
        pose=() if pose is None else _score_poses(pose.subset(rows), truth, at, voxel_size, symmetry),
        notes=tuple(notes),
    )


def _matched(ids: NDArray[np.int64], truth: Truth) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return rows of `ids` and of the truth that are the same particle, and notes on the rest."""
    if len(np.unique(ids)) != len(ids):
        raise InputError("A particle has codes twice; every id may come once.")
    _, rows, at = np.intersect1d(ids, truth.ids, assume_unique=True, return_indices=True)
    if not len(rows):
        raise InputError(f"{truth.path} has none of the {len(ids)} particles with codes; it is another list's.")
    notes: list[str] = []
    if len(rows) < len(ids):
        notes.append(f"{len(ids) - len(rows)} particles with codes are not in {truth.path} and are left out")
    if len(rows) < len(truth):
        notes.append(f"{len(truth) - len(rows)} particles of {truth.path} have no codes and are left out")
    return rows, at, notes


def _matrix(values: ArrayLike, count: int, name: str) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or len(x) != count:
        raise InputError(f"The {name} of {count} particles must have one row each, not the shape {x.shape}.")
    return x


def _score_codes(content: Floats, transform: Floats, identity: NDArray[np.str_], state: NDArray[np.str_]) -> CodeScores:
    p, p_transform = knn_accuracy(content, identity), knn_accuracy(transform, identity)
    d_cc, d_cz = logistic_accuracy(content, identity), logistic_accuracy(transform, identity)
    d_zz, d_zc = state_accuracy(transform, identity, state), state_accuracy(content, identity, state)
    singles = single_accuracies(content, identity)
    ari, nmi = cluster_agreement(content, identity)
    return CodeScores(
        content=content.shape[1],
        transform=transform.shape[1],
        p=p,
        p1=best_single(singles, identity),
        p_transform=p_transform,
        d_cc=d_cc,
        d_cz=d_cz,
        d_zz=d_zz,
        d_zc=d_zc,
        sap=separated_predictability(np.concatenate([singles, single_accuracies(transform, identity)]), identity),
        sap_spaces=difference(p, p_transform),
        sap_c=difference(d_cc, d_cz),
        sap_z=difference(d_zz, d_zc),
        ari=ari,
        nmi=nmi,
        ari_z=state_agreement(transform, identity, state),
    )


def _score_poses(
    pose: Pose, truth: Truth, at: NDArray[np.int64], voxel_size: float | None, symmetry: dict[str, str]
) -> tuple[PoseScores, ...]:
    scores: list[PoseScores] = []
    for name in np.unique(truth.identity[at]).tolist():
        mine = np.flatnonzero(truth.identity[at] == name)
        if name == JUNK:
            continue
        group = symmetry.get(name, "C1")
        median, close = _rotation_scores(pose.rotations[mine], truth.rotations, at[mine], group)
        shift = _shift_score(pose.subset(mine), truth.shifts, at[mine], voxel_size)
        scores.append(
            PoseScores(identity=name, symmetry=group, particles=len(mine), median=median, close=close, shift=shift)
        )
    return tuple(scores)


def _rotation_scores(
    estimates: Floats, truths: Floats | None, at: NDArray[np.int64], symmetry: str
) -> tuple[Score, Score]:
    known = np.zeros(len(at), np.bool_) if truths is None else np.isfinite(truths[at]).all(axis=(1, 2))
    if truths is None or known.sum() < FEWEST_POSES:
        score = Score(reason=f"the truth has rotations for {known.sum()} particles and {FEWEST_POSES} are needed")
        return score, score
    a, b = estimates[known], truths[at[known]]
    errors, chance = align_frame(a, b, symmetry).errors, chance_errors(a, b, symmetry)
    median = Score(value=float(np.median(errors)), chance=float(np.median(chance)))
    return median, Score(value=float((errors < CLOSE).mean()), chance=float((chance < CLOSE).mean()))


def _shift_score(pose: Pose, shifts: Floats | None, at: NDArray[np.int64], voxel_size: float | None) -> Score:
    if voxel_size is None:
        return Score(reason="the voxel size is not known")
    known = np.zeros(len(at), np.bool_) if shifts is None else np.isfinite(shifts[at]).all(axis=1)
    if shifts is None or known.sum() < FEWEST_POSES:
        return Score(reason=f"the truth has shifts for {known.sum()} particles and {FEWEST_POSES} are needed")
    found, true = pose.subset(np.flatnonzero(known)), shifts[at[known]] * voxel_size
    mixed = found.subset(np.random.default_rng(0).permutation(len(true)))
    value = np.median(shift_errors(found.rotations, found.offsets, true))
    return Score(value=float(value), chance=float(np.median(shift_errors(mixed.rotations, mixed.offsets, true))))


def _heading(evaluation: Evaluation) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in evaluation.identities.items())
    return f"{evaluation.particles} particles of {evaluation.truth}: {counts}"


def _code_lines(evaluation: Evaluation) -> list[str]:
    model, baseline = evaluation.model, evaluation.invariants
    lines = [f"{'':10}  {'model':>7}" + (f"  {'invariants':>10}" if baseline else "") + f"  {'chance':>7}"]
    reasons: list[str] = []
    for key, field in CodeScores.model_fields.items():
        if field.annotation is not Score:
            continue
        score: Score = getattr(model, key)
        middle = f"  {getattr(baseline, key)!s:>10}" if baseline else ""
        lines.append(f"{field.title:10}  {score!s:>7}{middle}  {_signed(score.chance):>7}  {field.description}")
        if score.reason:
            reasons.append(f"{field.title}: {score.reason}.")
    for name, score in evaluation.informativeness.items():
        middle = f"  {'-':>10}" if baseline else ""
        start = f"{'I(' + name[:7] + ')':10}  {score!s:>7}{middle}  {_signed(score.chance):>7}"
        lines.append(f"{start}  explained variance lost when the code is permuted")
    dimensions = f"{model.content} content and {model.transform} transformation dimensions"
    return [*lines, f"{dimensions}" + (f"; {baseline.content} invariants." if baseline else "."), *reasons]


def _pose_lines(evaluation: Evaluation) -> list[str]:
    if not evaluation.pose:
        return []
    width = max(len(p.identity) for p in evaluation.pose)
    columns = f"{'degrees':>7}  {'chance':>7}  {'< 15':>6}  {'chance':>6}  {'shift/A':>7}  {'chance':>7}"
    head = f"{'':{width}}  {'symmetry':8}  {columns}"
    lines = ["", "Median pose error after one rigid motion per identity", head]
    reasons: dict[str, None] = {}
    for p in evaluation.pose:
        turn = f"{_plain(p.median.value):>7}  {_plain(p.median.chance):>7}"
        near = f"{_plain(p.close.value, 3):>6}  {_plain(p.close.chance, 3):>6}"
        shift = f"{_plain(p.shift.value):>7}  {_plain(p.shift.chance):>7}"
        lines.append(f"{p.identity:{width}}  {p.symmetry:8}  {turn}  {near}  {shift}")
        reasons.update({f"{p.identity}: {s.reason}.": None for s in (p.median, p.shift) if s.reason})
    return [*lines, *reasons]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _plain(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
