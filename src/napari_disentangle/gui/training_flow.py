"""From particles to a run that trains, and from a run that trains to groups, maps and words about them."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_disentangle.errors import InputError
from napari_disentangle.gui.places import free_name, plain
from napari_disentangle.gui.results import raw_boxes
from napari_disentangle.gui.worker import in_thread
from napari_disentangle.preview import box_for
from napari_disentangle.run import Run
from napari_disentangle.session import GROUPS, read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.io.boxes import BoxShape
    from napari_disentangle.session import RunState, Source

LOOKING = "reading boxes"
FIXED = 4
"""Particles whose reconstructions are watched while a run trains."""


class TrainingFlow(QObject):
    """The third of the five clicks."""

    estimated = Signal(object)
    """{"seconds", "memory_gb", "words"}, or None where it cannot be told yet."""
    learnt = Signal(list, list)
    """Sentences on what was learnt, and on what is suspicious."""
    prepared = Signal()
    """`preparing` has changed."""
    reconstructed = Signal(object, object)
    """Raw (k, n, n, n) and decoded (k, m, m, m) volumes of the watched particles."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._bench = bench
        self.preparing = False
        """Whether boxes are being cut or a run is being made."""
        self.last_learnt: tuple[list[str], list[str]] = ([], [])
        """What `learnt` told last of the run that is shown."""
        self.last_reconstructed: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        """What `reconstructed` told last of it."""
        self._asked = 0
        self._watches = 0
        self._waiting: Callable[[], None] | None = None
        """The training that was asked for before boxes were seen."""
        bench.session.run_changed.connect(self._forget)
        bench.session.source_changed.connect(self._wait_no_more)
        bench.opening.previewed.connect(self._on_preview)
        bench.trainer.events.connect(self._on_events)
        bench.trainer.changed.connect(self._on_training)

    def _forget(self) -> None:
        self.last_learnt, self.last_reconstructed = ([], []), None

    def estimate(self, preset: str, settings: Sequence[str], device: str = "auto") -> None:
        """Time some steps of a training; told by `estimated`."""
        self._asked += 1
        this = self._asked
        source = self._bench.session.source
        if source is None or (source.particles.volumes is None and self._shape(source) is None):
            self.estimated.emit(None)
            return
        given = {
            "particles": str(source.path), "preset": preset, "settings": [*self._diameter(), *settings],
            "reading": plain(source.reading), "device": device,
        }  # fmt: skip

        def told(found: dict[str, Any] | None) -> None:
            if this == self._asked:
                self.estimated.emit(found)

        def failed(error: BaseException) -> None:
            told(None)
            if not isinstance(error, InputError):  # what is wrong with the input is told when it is used
                self._bench.failing("training")(error)

        self._bench.helper.ask("estimate", given, done=told, failed=failed)

    def train(self, preset: str, settings: Sequence[str], device: str = "auto", *, selected: bool = False) -> None:
        """Make a run of the particles that were opened and train it; boxes are cut first where there are none.

        With `selected`, a run of the selection in the run that is shown. It waits for the first look at boxes; all that
        it depends on is then taken, whatever the user does until they are cut.
        """
        bench, session = self._bench, self._bench.session
        self._wait_no_more()
        if self.preparing or bench.closed:
            return
        bench.problem.emit("training", "")
        if bench.trainer.active:
            where = "" if bench.trainer.run is None else bench.trainer.run.path
            bench.tell("training", f"{where} is being trained; stop or pause it first.")
            return
        if selected:
            self._train_selection(preset, settings, device)
            return
        source = session.source
        if source is None or bench.folder is None:
            bench.tell("training", "No particles are open; open a list under Particles first.")
            return
        needs_boxes = source.particles.volumes is None
        shape = self._shape(source) if needs_boxes else None
        if needs_boxes and session.diameter is None:
            bench.tell("particles", "The particle's diameter is not known; give it in Angstrom.")
            return
        if needs_boxes and shape is None:
            bench.tell(
                "particles",
                source.particles.no_boxes
                or f"{source.path}: no tomogram was found, or none says its voxel size; say where they are under "
                '"What the files do not say".',
            )
            return
        if bench.opening.preview is None and not session.contrast_chosen:
            self._wait_for_contrast(lambda: self.train(preset, settings, device))
            return
        given = {
            "particles": str(source.path), "reading": plain(source.reading), "invert": session.invert,
            "settings": [*self._diameter(), *settings], "preset": preset,
        }  # fmt: skip
        folder, stem = bench.folder, source.path.stem
        if shape is None:
            self._make_run(given, folder, stem, device)
            return
        boxes = folder / boxes_name(source, shape, session.invert)

        def cut(found: dict[str, Any] | None) -> None:
            if found is not None and found["left_out"]:
                total = found["left_out"] + found["count"]
                bench.notice(
                    f"{found['left_out']} of {total} particles are left out: their boxes reach over the edge of the tomogram."
                )
            self._make_run({**given, "particles": str(boxes), "reading": {}, "invert": False}, folder, stem, device)

        if (boxes / "extraction.json").is_file():
            cut(None)
            return
        cutting = {key: given[key] for key in ("particles", "reading", "invert")}
        cutting |= {"out": str(boxes), "box": shape.size, "bin": shape.bin}
        self._prepare("cut_boxes", cutting, cut, room="particles", words="cutting boxes")

    def _wait_for_contrast(self, train: Callable[[], None]) -> None:
        """Train once boxes have been seen: only they tell whether protein is dark, unless the user has said so.

        Where none could be read, tell why again.
        """
        bench, opening = self._bench, self._bench.opening
        if not opening.looking and not opening.unseen:
            opening.look()
        if opening.looking:
            if self._waiting is None:
                bench.begin(LOOKING)
            self._waiting = train
        else:
            bench.tell("particles", opening.unseen)

    def _wait_no_more(self) -> Callable[[], None] | None:
        waited, self._waiting = self._waiting, None
        if waited is not None:
            self._bench.leave_off(LOOKING)
        return waited

    def _on_preview(self, found: object) -> None:
        known = found is not None or self._bench.session.contrast_chosen
        if not self._bench.opening.looking and (train := self._wait_no_more()) is not None and known:
            train()

    def _train_selection(self, preset: str, settings: Sequence[str], device: str) -> None:
        bench = self._bench
        chosen, run = bench.session.selection, bench.session.run
        if run is None or chosen is None or not len(chosen):
            bench.tell("training", "Nothing is selected; draw around particles in a map first.")
            return
        known = run.recipe.pose.diameter
        given = {
            "particles": str(run.path), "reading": {}, "invert": False, "preset": preset,
            "settings": [*([] if known is None else [f"pose.diameter={known:g}"]), *settings],
        }  # fmt: skip
        folder, stem = run.path.absolute().parent, run.path.name
        bench.results.keep(chosen, lambda name: self._make_run({**given, "selection": name}, folder, stem, device))

    def _make_run(self, given: dict[str, Any], folder: Path, stem: str, device: str) -> None:
        bench = self._bench
        out = free_name(folder, stem)

        def made(_: dict[str, Any]) -> None:
            self._set_preparing(True)
            in_thread(lambda: read_run(Run.open(out)), done=opened, failed=failed)

        def opened(state: RunState) -> None:
            self._set_preparing(False)
            if bench.closed or bench.trainer.active:  # another run was opened meanwhile, and somebody trains it
                return
            bench.opening.show_run(state)
            bench.trainer.show(state.run, [])  # and not the run before, should this one not start
            self._start(state.run, device)

        def failed(error: BaseException) -> None:
            self._set_preparing(False)
            bench.failing("training")(error)

        self._prepare("make_run", {**given, "out": str(out)}, made, room="training", words="preparing the run")

    def _prepare(
        self, task: str, given: dict[str, Any], then: Callable[[dict[str, Any]], None], *, room: str, words: str
    ) -> None:
        """Have the helper do what comes before a training; meanwhile no other can be begun."""
        bench = self._bench

        def done(found: dict[str, Any]) -> None:
            bench.leave_off(words)
            self._set_preparing(False)
            if not bench.closed:
                then(found)

        def failed(error: BaseException) -> None:
            bench.leave_off(words)
            self._set_preparing(False)
            bench.failing(room)(error)

        self._set_preparing(True)
        bench.begin(words)
        bench.helper.ask(task, given, done=done, failed=failed, told=bench.busy.emit)

    def _set_preparing(self, preparing: bool) -> None:
        self.preparing = preparing
        self.prepared.emit()

    def _start(self, run: Run, device: str) -> None:
        try:
            self._bench.trainer.start(run, device)
        except OSError as error:
            self._bench.failing("training")(error)

    def resume(self, device: str = "auto") -> None:
        """Go on with the run that is shown; where another process writes there by now, say so and follow that."""
        bench = self._bench
        run = bench.session.run
        if run is None or bench.trainer.active:
            return
        bench.problem.emit("training", "")
        try:
            with run.lock():
                pass  # before a start, which withdraws requests to stop that are the other's
        except InputError as error:
            if run.writer() is not None:
                bench.trainer.watch(run)
            bench.failing("training")(error)
            return
        self._start(run, device)

    def _diameter(self) -> list[str]:
        diameter = self._bench.session.diameter
        return [] if diameter is None else [f"pose.diameter={diameter:g}"]

    def _shape(self, source: Source) -> BoxShape | None:
        """Return the box that particles are cut in; None while the sizes are not known."""
        voxel = next((t.voxel_size for t in source.particles.tomograms if t.voxel_size), None)
        diameter = self._bench.session.diameter
        return None if voxel is None or diameter is None else box_for(diameter, voxel)

    # ---- while it trains and afterwards ------------------------------------------------------------------------

    def _on_events(self, events: list[dict[str, Any]]) -> None:
        bench = self._bench
        mine = bench.session.run is not None and bench.trainer.run is not None
        if not mine or bench.session.run.path != bench.trainer.run.path or not bench.trainer.active:  # pyright: ignore[reportOptionalMemberAccess]
            return
        if any(event["event"] == "checkpoint" for event in events):
            bench.results.map("content", "pca", then=self.watch_particles)

    def _on_training(self) -> None:
        bench = self._bench
        state, run = bench.trainer.state, bench.session.run
        if bench.trainer.active:
            bench.problem.emit("training", "")
        if state in ("failed", "cut off") and bench.trainer.why:
            bench.tell("training", bench.trainer.why)
        if run is None or bench.trainer.run is None or run.path != bench.trainer.run.path or bench.closed:
            return
        if state == "idle" or bench.trainer.active:
            return
        in_thread(run.fingerprint, done=lambda fresh: self._look_at(run, fresh), failed=bench.failing("maps"))

    def _look_at(self, run: Run, fresh: str | None) -> None:
        """Make groups and maps of new codes, where they are not there and may be written."""
        bench = self._bench
        if fresh is None or run is not bench.session.run or bench.closed:
            return
        known = bench.session.maps.get(("content", "umap"))
        current = known is not None and known.fingerprint == fresh and bool(bench.session.groups)
        if current or not os.access(run.path, os.W_OK):
            self.watch_particles()
            self._say_learnt()
        else:
            self.make_maps()

    def make_maps(self) -> None:
        """Group the particles by content, map content with UMAP, and say what was learnt.

        A transformation that is no pose is mapped with UMAP too.
        """
        bench = self._bench
        run = bench.session.run
        if run is None:
            return

        def grouped(_: Any) -> None:
            bench.session.grouping = GROUPS
            bench.refresh()
            bench.results.map("content", "umap", then=mapped)

        def mapped() -> None:
            self._say_learnt()
            codes = bench.session.codes
            if codes is not None and codes.pose is None and codes.transform.shape[1]:  # no view sphere to look at
                bench.results.map("transform", "umap")

        self.watch_particles()
        given = {"run": str(run.path), "on": "content", "name": GROUPS}
        bench.ask("group", given, grouped, room="maps", words="grouping by content")

    def _say_learnt(self) -> None:
        bench = self._bench
        run = bench.session.run
        if run is None:
            return

        def told(found: dict[str, Any]) -> None:
            if run is bench.session.run:
                self.last_learnt = (found["words"], found["doubts"])
                self.learnt.emit(*self.last_learnt)

        given = {"run": str(run.path), "groups": bench.session.grouping}
        bench.helper.ask("learnt", given, done=told, failed=bench.failing("training"))

    def watch_particles(self) -> None:
        """Decode a few particles, always the same, to be seen beside what they are."""
        bench = self._bench
        run, particles = bench.session.run, bench.session.particles
        if run is None or particles is None or bench.no_decoder:
            return
        ids = np.sort(np.random.default_rng(0).permutation(particles.ids)[:FIXED])
        self._watches += 1
        out = bench.scratch / f"watched_{self._watches}.npz"

        def decoded(_: Any) -> None:
            in_thread(read, done=seen, failed=bench.failing("training"))

        def read() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            with np.load(out, allow_pickle=False) as stored:
                pair = raw_boxes(particles, stored["ids"])[0], stored["volumes"]
            out.unlink()
            return pair

        def seen(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
            if run is bench.session.run:
                self.last_reconstructed = pair
                self.reconstructed.emit(*pair)

        given = {"run": str(run.path), "ids": ids.tolist(), "out": str(out)}
        bench.helper.ask("reconstruct", given, done=decoded, failed=bench.failing("training"))


def boxes_name(source: Source, shape: BoxShape, invert: bool) -> str:
    """Return the name of the folder of a list's boxes, made of all that goes into them: the same are cut once."""
    given = [plain(source.reading), str(source.path.absolute()), shape.size, shape.bin, invert]
    files = [source.particles.tomograms_file, *(t.path for t in source.particles.tomograms)]
    changed = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p is not None and p.is_file()]
    text = (source.particles.text or "").encode("utf-8", "surrogateescape")
    name = hashlib.sha256(text + json.dumps([given, changed]).encode()).hexdigest()[:8]
    return f"{source.path.stem}_boxes_{shape.size}_{name}"
