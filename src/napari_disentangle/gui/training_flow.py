"""From particles to a run that trains, and from a run that trains to groups, maps and words about them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_disentangle.gui.places import free_name, plain
from napari_disentangle.gui.worker import in_thread
from napari_disentangle.preview import box_for
from napari_disentangle.run import Run
from napari_disentangle.session import GROUPS, read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.io.boxes import BoxShape
    from napari_disentangle.session import RunState, Source

FIXED = 4
"""Particles whose reconstructions are watched while a run trains."""


class TrainingFlow(QObject):
    """The third of the five clicks."""

    estimated = Signal(object)
    """{"seconds", "memory_gb", "words"}, or None where it cannot be told yet."""
    learnt = Signal(list, list)
    """Sentences on what was learnt, and on what is suspicious."""
    reconstructed = Signal(object, object)
    """Raw (k, n, n, n) and decoded (k, m, m, m) volumes of the watched particles."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._bench = bench
        bench.trainer.events.connect(self._on_events)
        bench.trainer.changed.connect(self._on_training)

    def estimate(self, preset: str, settings: Sequence[str]) -> None:
        """Time some steps of a training; told by `estimated`."""
        source = self._bench.session.source
        if source is None:
            self.estimated.emit(None)
            return
        if source.particles.volumes is None and self._shape(source) is None:
            self.estimated.emit(None)
            return
        given = {
            "particles": str(source.path), "preset": preset, "settings": [*self._diameter(), *settings],
            "reading": plain(source.reading),
        }  # fmt: skip
        self._bench.helper.ask(
            "estimate", given, done=self.estimated.emit, failed=lambda _: self.estimated.emit(None)
        )  # what is wrong with the input is told when it is used

    def train(self, preset: str, settings: Sequence[str], device: str = "auto", *, selected: bool = False) -> None:
        """Make a run of the particles that were opened and train it; boxes are cut first where there are none.

        With `selected`, a run of the selection in the run that is shown.
        """
        bench = self._bench
        bench.problem.emit("training", "")
        if bench.trainer.active:
            bench.tell(
                "training", f"{bench.trainer.run and bench.trainer.run.path} is being trained; stop or pause it first."
            )
            return
        if selected:
            self._train_selection(preset, settings, device)
            return
        source, session = bench.session.source, bench.session
        if source is None:
            bench.tell("training", "No particles are open; open a list under Particles first.")
            return
        if source.particles.volumes is not None:
            given = {
                "particles": str(source.path), "reading": plain(source.reading), "invert": session.invert,
                "settings": [*self._diameter(), *settings],
            }  # fmt: skip
            self._make_run(given, preset, device, stem=source.path.stem)
            return
        if session.diameter is None:
            bench.tell("particles", "The particle's diameter is not known; give it in Angstrom.")
            return
        shape = self._shape(source)
        if shape is None:
            self._bench.tell(
                "particles",
                source.particles.no_boxes
                or f"{source.path}: no tomogram was found, or none says its voxel size; say where they are under "
                '"What the files do not say".',
            )
            return
        boxes = self._boxes(source, shape)

        def cut(found: dict[str, Any] | None) -> None:
            if found is not None and found["left_out"]:
                total = found["left_out"] + found["count"]
                bench.notice(
                    f"{found['left_out']} of {total} particles are left out: their boxes reach over the edge of the tomogram."
                )
            given = {
                "particles": str(boxes), "reading": {}, "invert": False, "settings": [*self._diameter(), *settings]
            }  # fmt: skip
            self._make_run(given, preset, device, stem=source.path.stem)

        if (boxes / "extraction.json").is_file():
            cut(None)
            return
        given = {
            "particles": str(source.path), "reading": plain(source.reading), "out": str(boxes), "box": shape.size,
            "bin": shape.bin, "invert": session.invert,
        }  # fmt: skip
        bench.ask("cut_boxes", given, cut, room="particles", words="cutting boxes")

    def _train_selection(self, preset: str, settings: Sequence[str], device: str) -> None:
        bench = self._bench
        chosen, run = bench.session.selection, bench.session.run
        if run is None or chosen is None or not len(chosen):
            bench.tell("training", "Nothing is selected; draw around particles in a map first.")
            return
        given = {
            "particles": str(run.path), "reading": {}, "invert": False, "selection": chosen.name, "settings": list(settings)
        }  # fmt: skip
        stem = run.path.name
        bench.results.save_selection(chosen, lambda: self._make_run(given, preset, device, stem=stem))

    def _make_run(self, given: dict[str, Any], preset: str, device: str, *, stem: str) -> None:
        bench = self._bench
        assert bench.folder is not None
        out = free_name(bench.folder, stem)

        def made(_: dict[str, Any]) -> None:
            in_thread(lambda: read_run(Run.open(out)), done=opened, failed=bench.failing("training"))

        def opened(state: RunState) -> None:
            bench.opening.show_run(state)
            bench.trainer.start(state.run, device)

        bench.ask(
            "make_run", {**given, "out": str(out), "preset": preset}, made, room="training", words="preparing the run"
        )

    def resume(self, device: str = "auto") -> None:
        """Go on with the run that is shown."""
        bench = self._bench
        if bench.session.run is not None and not bench.trainer.active:
            bench.problem.emit("training", "")
            bench.trainer.start(bench.session.run, device)

    def _diameter(self) -> list[str]:
        diameter = self._bench.session.diameter
        return [] if diameter is None else [f"pose.diameter={diameter:g}"]

    def _shape(self, source: Source) -> BoxShape | None:
        """Return the box that particles are cut in; None while the sizes are not known."""
        voxel = next((t.voxel_size for t in source.particles.tomograms if t.voxel_size), None)
        diameter = self._bench.session.diameter
        return None if voxel is None or diameter is None else box_for(diameter, voxel)

    def _boxes(self, source: Source, shape: BoxShape) -> Path:
        """Return the folder of the boxes of a list, named by all that goes into it: the same boxes are cut once."""
        assert self._bench.folder is not None
        what = [plain(source.reading), str(source.path.absolute()), shape.size, shape.bin, self._bench.session.invert]
        text = (source.particles.text or "").encode("utf-8", "surrogateescape")
        name = hashlib.sha256(text + json.dumps(what).encode()).hexdigest()[:8]
        return self._bench.folder / f"{source.path.stem}_boxes_{shape.size}_{name}"

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
        if state not in ("finished", "stopped", "paused"):
            return
        fresh = run.fingerprint()
        known = bench.session.maps.get(("content", "umap"))
        if fresh is None:
            return
        if known is None or known.fingerprint != fresh or not bench.session.groups:
            self.make_maps()
        else:
            self.watch_particles()
            self._say_learnt()

    def make_maps(self) -> None:
        """Group the particles by content, map content with UMAP, and say what was learnt."""
        bench = self._bench
        run = bench.session.run
        if run is None:
            return

        def grouped(_: Any) -> None:
            bench.refresh()
            bench.results.map("content", "umap", then=self._say_learnt)

        self.watch_particles()
        given = {"run": str(run.path), "on": "content", "name": GROUPS}
        bench.ask("group", given, grouped, room="maps", words="grouping by content")

    def _say_learnt(self) -> None:
        bench = self._bench
        if bench.session.run is None:
            return
        bench.helper.ask(
            "learnt", {"run": str(bench.session.run.path), "groups": GROUPS},
            done=lambda found: self.learnt.emit(found["words"], found["doubts"]), failed=bench.failing("training"),
        )  # fmt: skip

    def watch_particles(self) -> None:
        """Decode a few particles, always the same, to be seen beside what they are."""
        bench = self._bench
        run, particles = bench.session.run, bench.session.particles
        if run is None or particles is None:
            return
        ids = np.sort(np.random.default_rng(0).permutation(particles.ids)[:FIXED])
        out = bench.scratch / "watched.npz"

        def decoded(_: Any) -> None:
            in_thread(read, done=lambda pair: self.reconstructed.emit(*pair), failed=bench.failing("training"))

        def read() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            from napari_disentangle.gui.results import raw_boxes

            with np.load(out, allow_pickle=False) as stored:
                return raw_boxes(particles, stored["ids"])[0], stored["volumes"]

        given = {"run": str(run.path), "ids": ids.tolist(), "out": str(out)}
        bench.helper.ask("reconstruct", given, done=decoded, failed=bench.failing("training"))
