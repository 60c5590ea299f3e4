"""What is made of a trained run: maps, groups, selections, particles to look at, averages and exports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_disentangle.errors import InputError
from napari_disentangle.export import read_average
from napari_disentangle.fourier import low_passed
from napari_disentangle.gui.worker import in_thread, sentence
from napari_disentangle.particles import dimensions
from napari_disentangle.preview import RESOLUTION, grey
from napari_disentangle.selection import CONTROL, Selection
from napari_disentangle.session import DRAWN, GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.particles import ParticleSet
    from napari_disentangle.run import Run

    Ints = NDArray[np.int64]

PICTURED = 24
"""Particles of a selection that are shown."""


@dataclass(frozen=True)
class Compared:
    """A map of the user's where an average has it."""

    average: Any
    """The `StoredAverage` that it was compared with; a later one has not been."""
    path: Path
    volume: NDArray[np.float32]
    """(n, n, n), at the average's voxels."""
    frequency: NDArray[np.float64]
    fsc: NDArray[np.float64]
    correlation: float
    resolution: float | None
    """Where the FSC falls below 0.5, in Angstrom."""


class Results(QObject):
    """The last two of the five clicks."""

    particle_shown = Signal(object)
    """{"id", "raw", "raw_voxel", "decoded" or None, "decoded_voxel"} of a particle that was clicked."""
    pictured = Signal(object)
    """(ids (k,), central slices [k of (n, n)]) of some particles of the selection."""
    compared = Signal(object)
    """A `Compared`."""
    exported = Signal(str)
    """What was written, in words."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._bench = bench
        self._looking = 0
        self._clicked = 0
        self._comparing = 0
        self._run: Run | None = None
        """Whose selection was told last."""
        self._unsaved: dict[Path, tuple[Run, Selection]] = {}
        """By run folder, the newest selection that is not written yet."""
        self._saving = False
        bench.session.selection_changed.connect(self._on_selection)

    def map(self, space: str, method: str, then: Callable[[], None] | None = None) -> None:
        """Make a map that is not there, or is stale."""
        bench = self._bench
        if bench.session.run is None:
            return

        def mapped(_: Any) -> None:
            bench.refresh()
            if then is not None:
                then()

        given = {"run": str(bench.session.run.path), "on": space, "method": method}
        bench.ask("map_codes", given, mapped, room="maps", words=f"mapping {space}")

    def group(self, space: str, k: int | None, within: Selection | None = None) -> None:
        """Group particles by their codes: into `k` groups, or as many as describe them best; `within` a selection.

        Groups within a selection have a name of their own, so that those it came from are kept.
        """
        bench = self._bench
        if bench.session.run is None:
            return
        given: dict[str, Any] = {"run": str(bench.session.run.path), "on": space, "k": k}

        def ask(name: str, kept: str | None) -> None:
            def grouped(_: Any) -> None:
                bench.session.grouping = name
                bench.refresh()

            words = f"grouping by {space}"
            bench.ask("group", {**given, "name": name, "within": kept}, grouped, room="maps", words=words)

        if within is None:
            ask(GROUPS, None)
        else:
            self.keep(within, lambda kept: ask(f"{kept.replace('/', '-')}-{space}", kept))

    def name_selection(self, name: str) -> None:
        """Keep the selection at hand under a name of the user's; a name that is taken, or no file's, is refused."""
        bench = self._bench
        chosen, run = bench.session.selection, bench.session.run
        if chosen is None or run is None or not len(chosen):
            return
        named = Selection(f"{name}/0", chosen.ids, chosen.how)

        def save() -> None:
            taken = {DRAWN, GROUPS, *(known.partition("/")[0] for known in run.selections())}
            if name in taken or name.startswith(CONTROL):
                raise InputError(f'There is a selection "{name}" in {run.path} already; choose another name.')
            run.save_selections(name, [named])

        def saved(_: Any) -> None:
            bench.problem.emit("maps", "")
            if bench.session.run is run:
                bench.session.choose(named)
                bench.refresh()

        in_thread(save, done=saved, failed=bench.failing("maps"))

    def keep(self, selection: Selection, then: Callable[[str], None]) -> None:
        """See that a selection is in the run folder, and go on with the name that it has there.

        That is its own name where the folder has these very particles under it, and no gesture or new grouping will
        replace them; else one that is made of its ids.
        """
        bench = self._bench
        run = bench.session.run
        if run is None:
            return

        def find() -> str:
            name = selection.name
            lasting = name.partition("/")[0] not in (DRAWN, GROUPS) and name in run.selections()
            if lasting and np.array_equal(run.selection(name).ids, selection.ids):
                return name
            group = f"kept-{selection.digest}"
            if f"{group}/0" not in run.selections():
                run.save_selections(group, [selection])
            return f"{group}/0"

        def found(name: str) -> None:
            if bench.session.run is run:
                then(name)

        in_thread(find, done=found, failed=bench.failing("maps"))

    def _on_selection(self) -> None:
        self._clicked += 1  # a particle that is on its way is of another moment
        session = self._bench.session
        if session.run is not None and session.run is self._run:
            chosen = session.selection or Selection(f"{DRAWN}/0", np.zeros(0, np.int64))
            self._unsaved[session.run.path] = session.run, chosen
            self._save_drawn()
        self._run = session.run
        self.picture_selection()

    def _save_drawn(self) -> None:
        """Write the selection at hand into the folder of its run: one writing at a time, and only the newest."""
        if self._saving or not self._unsaved:
            return
        (run, selection), self._saving = self._unsaved.pop(next(iter(self._unsaved))), True

        def after(_: Any = None) -> None:
            self._saving = False
            self._save_drawn()

        def failed(error: BaseException) -> None:
            self._bench.failing("maps")(error)
            self._unsaved.pop(run.path, None)
            after()

        in_thread(lambda: run.save_selections(DRAWN, [selection]), done=after, failed=failed)

    def picture_selection(self) -> None:
        """Read some particles of the selection, the first of a random order; told by `pictured`."""
        particles, chosen = self._bench.session.particles, self._bench.session.selection
        self._looking += 1
        this = self._looking
        if particles is None or chosen is None or not len(chosen):
            self.pictured.emit((np.zeros(0, np.int64), []))
            return
        known = chosen.ids[np.isin(chosen.ids, particles.ids)]
        ids = np.random.default_rng(0).permutation(known)[:PICTURED]

        def read() -> tuple[Ints, list[Any]]:
            return ids, [central(box) for box in raw_boxes(particles, ids)[0]]

        def seen(found: tuple[Ints, list[Any]]) -> None:
            if this == self._looking:
                self.pictured.emit(found)

        in_thread(read, done=seen, failed=self._bench.failing("maps"))

    def show_particle(self, particle: int) -> None:
        """Show one particle: its raw and its decoded volume, and its place in the tomogram."""
        bench = self._bench
        particles, run = bench.session.particles, bench.session.run
        if particles is None or run is None:
            return
        self._clicked += 1
        this = self._clicked

        def go() -> None:
            if this == self._clicked and not bench.closed:
                self._go_to(particles, particle)

        QTimer.singleShot(0, go)  # the click itself is painted first: another section takes napari a while
        out = bench.scratch / f"particle_{this}.npz"

        def read() -> dict[str, Any]:
            raw, voxel = raw_boxes(particles, np.array([particle]))
            found: dict[str, Any] = {
                "id": particle,
                "raw": raw[0],
                "raw_voxel": voxel,
                "decoded": None,
                "decoded_voxel": voxel,
            }
            if out.is_file():
                with np.load(out, allow_pickle=False) as stored:
                    found |= {"decoded": stored["volumes"][0], "decoded_voxel": float(stored["voxel_size"])}
                out.unlink()
            return found

        def show(_: Any = None) -> None:
            in_thread(read, done=seen, failed=bench.failing("maps"))

        def undecoded(error: BaseException) -> None:
            bench.failing("maps")(error)
            show()

        def seen(found: dict[str, Any]) -> None:
            if this == self._clicked:
                self.particle_shown.emit(found)

        if bench.session.is_new or bench.no_decoder:
            show()
            return
        given = {"run": str(run.path), "ids": [particle], "out": str(out)}
        bench.helper.ask("reconstruct", given, done=show, failed=undecoded)

    def _go_to(self, particles: ParticleSet, particle: int) -> None:
        opening, layers, turns = self._bench.opening, self._bench.layers, self._bench.turns
        if particles.tomogram is None:
            return

        def go() -> None:
            layers.show_section(particle)
            turns.add(self, lambda: layers.centre_on(particle))  # napari takes as long for this as for the section

        row = particles.rows_of(np.array([particle]))[0]
        name = particles.tomograms[int(particles.tomogram[row])].name
        if opening.shows(particles, name):
            go()
        else:
            run = self._bench.session.run
            diameter = None if run is None else run.recipe.pose.diameter
            opening.show_tomogram(name, particles, diameter=diameter, then=go)

    def average(self, selections: Sequence[Selection], *, refine: bool = False) -> None:
        """Average selections one after the other.

        With the poses that were searched in training, where they were; else, and to `refine`, the particles are aligned
        to their own average first, from any pose where the model knows none.
        """
        bench = self._bench
        run = bench.session.run
        if run is None or not selections:
            return
        first, rest = selections[0], list(selections[1:])
        codes = bench.session.codes
        posed = codes is None or codes.pose is not None
        known = posed and (run.poses_path.is_file() or run.recipe.pose.mode == "fixed")
        how: dict[str, Any] = {"mode": "fixed", "rounds": 0, "starts": 0}
        if refine or not known:
            how = {"mode": None, "rounds": 3 if refine else 1, "starts": 1}

        def averaged(_: Any) -> None:
            in_thread(lambda: read_average(run.average_folder(first.name)), done=take, failed=bench.failing("averages"))
            self.average(rest, refine=refine)

        def take(found: Any) -> None:
            if run is bench.session.run:
                bench.problem.emit("averages", "")
                bench.session.keep_average(first.name, found)

        given = {"run": str(run.path), "selection": first.name, "ids": first.ids.tolist(), **how}
        words = f"{'aligning and averaging' if how['rounds'] else 'averaging'} {len(first):,} particles"
        bench.ask("average", given, averaged, room="averages", words=words)

    def control(self, selection: Selection) -> None:
        """Average as many particles from outside a selection, taken at random, in the same way."""
        bench = self._bench
        run = bench.session.run
        if run is None:
            return
        control = selection.control(bench.session.ids)
        if len(control) < 2:
            bench.tell("averages", "A control takes particles from outside the selection, and there are none.")
            return

        def save() -> None:
            run.save_selections(control.name.partition("/")[0], [control])

        def saved(_: Any) -> None:
            if bench.session.run is run:
                bench.refresh()
                self.average([control])

        in_thread(save, done=saved, failed=bench.failing("averages"))

    def compare(self, selection: Selection, path: Path) -> None:
        """Turn and shift a map of the user's onto the average of a selection; told by `compared`."""
        bench = self._bench
        run, average = bench.session.run, bench.session.averages.get(selection.name)
        if run is None or average is None:
            return
        self._comparing += 1
        out = bench.scratch / f"compared_{self._comparing}.npz"

        def read(found: dict[str, Any]) -> Compared:
            with np.load(out, allow_pickle=False) as stored:
                return Compared(
                    average, path, stored["volume"], stored["frequency"], stored["fsc"],
                    found["correlation"], found["resolution"],
                )  # fmt: skip

        def done(found: dict[str, Any]) -> None:
            in_thread(lambda: read(found), done=tell, failed=bench.failing("averages"))

        def tell(found: Compared) -> None:
            bench.problem.emit("averages", "")
            self.compared.emit(found)

        given = {"run": str(run.path), "selection": selection.name, "map": str(path), "out": str(out)}
        bench.ask("compare", given, done, room="averages", words=f"comparing with {path.name}")

    def load_averages(self) -> None:
        """Read the averages that the run folder keeps."""
        bench = self._bench
        run = bench.session.run
        if run is None:
            return

        def read() -> dict[str, Any]:
            folders = {name: run.average_folder(name) for name in run.selections()}
            return {name: read_average(path) for name, path in folders.items() if (path / "average.json").is_file()}

        def take(found: dict[str, Any]) -> None:
            if run is bench.session.run:
                bench.session.keep_averages(found)

        in_thread(read, done=take, failed=bench.failing("averages"))

    def export(
        self, run: Run, selection: Selection, out: Path, *, poses: bool = False, complement: bool = False, maps: bool = False,
        overwrite: bool = False, done: Callable[[str], None] | None = None,
        failed: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        """Write the rows of the original list, and on request the rest of the list and the maps beside them."""
        from napari_disentangle.gui.exporting import write_export

        bench = self._bench

        def write() -> str:
            return write_export(run, selection, out, poses=poses, complement=complement, maps=maps, overwrite=overwrite)

        def wrote(words: str) -> None:
            bench.problem.emit("averages", "")
            bench.notice(words)
            self.exported.emit(words)
            if done is not None:
                done(words)

        def refused(error: BaseException) -> None:
            bench.failing("averages")(error)
            if failed is not None:
                failed(sentence(error))

        in_thread(write, done=wrote, failed=refused)


def raw_boxes(particles: ParticleSet, ids: Ints) -> tuple[NDArray[np.float32], float]:
    """Return low-passed boxes (k, n, n, n) of particles, for the eye, and their voxel size in Angstrom.

    Images (k, n, n) as they are, grey, of 1 A a pixel where no file says.
    """
    assert particles.volumes is not None, "particles of a run have boxes"
    boxes = particles.volumes.read(particles.rows_of(ids))
    if dimensions(particles.volumes.shape) == 2:
        return grey(boxes), particles.voxel_size or 1.0
    assert particles.voxel_size is not None, "boxes of a run have a voxel size"
    return low_passed(boxes, particles.voxel_size, max(RESOLUTION, 3 * particles.voxel_size)), particles.voxel_size


def how_shown(particles: ParticleSet | None) -> str:
    """Return what `raw_boxes` does to particles, in words that follow others; empty for images."""
    shape = () if particles is None or particles.volumes is None else particles.volumes.shape
    return "" if shape and dimensions(shape) == 2 else ", low-passed"


def central(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the central slice (n, n) of a volume; an image as it is."""
    return box[len(box) // 2] if box.ndim == 3 else box
