"""Session: what is open, trained, mapped and selected, for one viewer; says when it changes. No Qt."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from psygnal import Signal

from napari_disentangle.errors import InputError
from napari_disentangle.io import describe, read_particles
from napari_disentangle.io.describe import describe_particles
from napari_disentangle.selection import History, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.io import Description
    from napari_disentangle.models.base import Codes
    from napari_disentangle.particles import ParticleSet
    from napari_disentangle.run import Embedding, Run

    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]

DRAWN = "drawn"
"""Name under which the selection at hand is kept in the run folder until the user names it."""
GROUPS = "auto"
"""Name of the groups that the window finds by itself."""


@dataclass(frozen=True)
class Source:
    """Particles as they were opened."""

    path: Path
    particles: ParticleSet
    description: Description
    reading: Mapping[str, Any] = field(default_factory=lambda: {})
    """Keywords of `read_particles`: what the user said that the files do not."""
    diameter: float | None = None
    """Of the particle in A, where whoever made the files knows it."""


def open_source(path: Path, reading: Mapping[str, Any] | None = None, diameter: float | None = None) -> Source:
    """Read a particle list and say what was understood of it.

    Raises
    ------
    InputError
        As `read_particles`; or a file that is not a list of particles, with what it is.
    """
    given = {key: value for key, value in (reading or {}).items() if value is not None}
    try:
        particles = read_particles(path, **given)
    except InputError:
        if not path.exists():
            raise
        # A table of tomograms has no particles: say so. Other faults of the file alone are not what was wrong first.
        found = None
        with suppress(InputError):
            found = describe(path, **{k: v for k, v in given.items() if k in ("voxel_size", "tilt_range")})
        if found is not None and found.kind == "tomograms":
            raise InputError(
                f"{path} is a table of {len(found.tomograms)} tomograms and names no particles; open the particle list, and give this "
                "table as its tomograms."
            ) from None
        raise
    return Source(path, particles, describe_particles(particles), given, diameter)


@dataclass(frozen=True)
class RunState:
    """What a run folder held when it was looked at; read in a thread, then shown."""

    run: Run
    particles: ParticleSet
    codes: Codes | None
    maps: Mapping[tuple[str, str], Embedding]
    """(space, method) -> coordinates."""
    groups: tuple[Selection, ...]
    grouping: str
    """Name of the clustering that `groups` are of."""
    saved: tuple[str, ...]
    """Names of all selections."""
    drawn: Selection | None
    state: str
    """As `Run.state`."""
    writer: str | None
    """Who trains it at present, in words."""


def read_run(run: Run, particles: ParticleSet | None = None, *, grouping: str | None = None) -> RunState:
    """Read what the window shows of a run.

    Parameters
    ----------
    run : Run
    particles : ParticleSet, optional
        Its particles, where they have been read before.
    grouping : str, optional
        Name of the clustering whose groups are shown; by default the window's own, or else the first there is.

    Raises
    ------
    InputError
        As `Run.particles` and `Run.codes`.
    """
    embeddings = [run.embedding(space, method) for space in SPACES for method in METHODS]
    codes = run.codes() if run.fingerprint() is not None else None
    names = run.selections()
    clusterings = [name.partition("/")[0] for name in names if name.endswith("/1")]
    if grouping is None:
        grouping = GROUPS if GROUPS in clusterings or not clusterings else clusterings[0]
    try:
        groups = _groups(run, grouping, names)
    except InputError:  # replaced by others while it was read
        names = run.selections()
        groups = _groups(run, grouping, names)
    return RunState(
        run=run,
        particles=run.particles() if particles is None else particles,
        codes=codes,
        maps={(one.space, one.method): one for one in embeddings if one is not None},
        groups=groups,
        grouping=grouping,
        saved=tuple(names),
        drawn=run.selection(f"{DRAWN}/0") if f"{DRAWN}/0" in names else None,
        state=run.state(),
        writer=run.writer(),
    )


def _groups(run: Run, grouping: str, names: Iterable[str]) -> tuple[Selection, ...]:
    return tuple(run.selection(name) for name in names if name.startswith(f"{grouping}/"))


SPACES = ("content", "transform", "invariants")
METHODS = ("umap", "pca")


class Session:
    """State of one viewer, and the only place where it changes.

    Every change is told by a signal without arguments; who listens reads the state. Selections are ids of the original
    list: they survive retraining, new maps and new groups.
    """

    source_changed: ClassVar[Signal] = Signal()
    run_changed: ClassVar[Signal] = Signal()
    maps_changed: ClassVar[Signal] = Signal()
    groups_changed: ClassVar[Signal] = Signal()
    selection_changed: ClassVar[Signal] = Signal()
    averages_changed: ClassVar[Signal] = Signal()

    def __init__(self) -> None:
        self.source: Source | None = None
        self.diameter: float | None = None
        self.invert = False
        """Whether protein is dark in the volumes that were opened."""
        self.contrast_chosen = False
        """Whether the user said so, and not the mean of the boxes."""
        self.run: Run | None = None
        self.particles: ParticleSet | None = None
        """Of the run."""
        self.ids: Ints = np.zeros(0, np.int64)
        """(n,) of the run; maps, labels and masks have these rows."""
        self.codes: Codes | None = None
        self.maps: dict[tuple[str, str], Embedding] = {}
        self.groups: tuple[Selection, ...] = ()
        self.grouping = GROUPS
        """Name of the clustering that `groups` are of."""
        self.saved: tuple[str, ...] = ()
        """Names of the selections in the run folder."""
        self.history = History(None)
        self.averages: dict[str, Any] = {}

    def set_source(self, source: Source) -> None:
        """Take particles that were opened; a run that is shown stays until another one is made or opened."""
        if self.source is None or source.path != self.source.path:
            self.invert = self.contrast_chosen = False
        self.source = source
        self.diameter = source.diameter or self._diameter_of_boxes(source)
        self.source_changed.emit()

    @staticmethod
    def _diameter_of_boxes(source: Source) -> float | None:
        """Return the box's edge / 1.6, which training assumes too."""
        found = source.particles
        if found.volumes is None or found.voxel_size is None:
            return None
        return round(found.volumes.shape[-1] * found.voxel_size / 1.6)

    def set_diameter(self, diameter: float) -> None:
        """Take the particle's diameter, in A."""
        self.diameter = diameter

    def set_run(self, state: RunState) -> None:
        """Show a run; the one before stays on disk as it is."""
        self.run, self.particles, self.ids = state.run, state.particles, state.particles.ids
        self.averages = {}
        self.history = History(state.drawn)
        self._take(state)
        self.run_changed.emit()
        self.maps_changed.emit()
        self.groups_changed.emit()
        self.selection_changed.emit()
        self.averages_changed.emit()

    def refresh(self, state: RunState) -> None:
        """Take new codes, maps and groups of the run that is shown; a state of another run is left alone."""
        if self.run is None or state.run.path != self.run.path:
            return
        groups, wanted = self.groups, self.grouping
        self._take(state)
        if state.grouping != wanted:  # other groups were chosen while it was read, and are on their way
            self.groups, self.grouping = groups, wanted
        self.maps_changed.emit()
        if [(g.name, g.ids.tobytes()) for g in groups] != [(g.name, g.ids.tobytes()) for g in self.groups]:
            self.groups_changed.emit()
        self.averages_changed.emit()

    def _take(self, state: RunState) -> None:
        self.codes, self.maps, self.groups = state.codes, dict(state.maps), state.groups
        self.grouping, self.saved = state.grouping, state.saved

    def rows_of(self, ids: Ints) -> Bools:
        """Return (n,) which of the run's particles are among `ids`."""
        return np.isin(self.ids, ids)

    def coordinates(self, space: str, method: str) -> NDArray[np.float32] | None:
        """Return (n, 2) coordinates of a map in the order of `ids`, NaN where it has none; None without a map."""
        found = self.maps.get((space, method))
        if found is None:
            return None
        placed = np.full((len(self.ids), 2), np.nan, np.float32)
        order = np.argsort(self.ids, kind="stable")
        at = np.searchsorted(self.ids, found.ids, sorter=order)
        at = order[np.minimum(at, len(order) - 1)]
        known = self.ids[at] == found.ids
        placed[at[known]] = found.coordinates[known]
        return placed

    def is_stale(self, space: str, method: str) -> bool:
        """Return whether a map was made from codes of an earlier training."""
        found = self.maps.get((space, method))
        return found is not None and bool(found.fingerprint) and found.fingerprint != self.fingerprint

    @property
    def fingerprint(self) -> str | None:
        """Of the present codes; None before any."""
        return None if self.codes is None else self.codes.fingerprint

    @property
    def is_new(self) -> bool:
        """Whether the run has no codes yet."""
        return self.codes is None

    def labels(self) -> Ints:
        """Return (n,) the group of each particle, -1 for none."""
        found = np.full(len(self.ids), -1, np.int64)
        for k, group in enumerate(self.groups):
            found[self.rows_of(group.ids)] = k
        return found

    @property
    def selection(self) -> Selection | None:
        """The selection at hand; None or an empty one where nothing is selected."""
        return self.history.present

    @property
    def selected(self) -> Bools:
        """(n,) which of the run's particles are selected."""
        chosen = self.selection
        return np.zeros(len(self.ids), np.bool_) if chosen is None else self.rows_of(chosen.ids)

    def select(self, ids: Ints, how: Mapping[str, Any], combine: str = "new") -> None:
        """Select particles.

        Parameters
        ----------
        ids : (k,)
        how : mapping
            How they were drawn: the tool and its polygon.
        combine : {"new", "add", "remove", "intersect"}
            With the selection at hand.
        """
        drawn = Selection(f"{DRAWN}/0", ids, dict(how))
        before = self.selection
        if before is None and combine in ("remove", "intersect"):
            before = Selection(drawn.name, np.zeros(0, np.int64))  # nothing less something, and its share, is nothing
        if combine != "new" and before is not None:
            algebra = {"add": Selection.__or__, "remove": Selection.__sub__, "intersect": Selection.__and__}
            found = algebra[combine](before, drawn)
            # A list of steps, and no nest: people combine hundreds of strokes.
            steps = before.how.get("steps") or [{"combine": "new", **before.how}]
            drawn = replace(found, name=f"{DRAWN}/0", how={"steps": [*steps, {"combine": combine, **how}]})
        self.history.push(drawn)
        self.selection_changed.emit()

    def choose(self, selection: Selection | None) -> None:
        """Make a saved selection, or none, the one at hand."""
        self.history.push(selection)
        self.selection_changed.emit()

    def undo(self) -> None:
        """Go back to the selection before."""
        self.history.undo()
        self.selection_changed.emit()

    def redo(self) -> None:
        """Take an undone selection again."""
        self.history.redo()
        self.selection_changed.emit()

    def keep_average(self, name: str, average: Any) -> None:
        """Take an average that was read from the run folder."""
        self.averages[name] = average
        self.averages_changed.emit()

    def keep_averages(self, averages: Mapping[str, Any]) -> None:
        """Take all averages of the run folder; those made since it was read stay."""
        self.averages = {**averages, **self.averages}
        self.averages_changed.emit()
