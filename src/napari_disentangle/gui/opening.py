"""Opening: particle lists, stacks, points layers and runs; the tomogram in the viewer; the first look at boxes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_disentangle.errors import InputError
from napari_disentangle.gui.layers import OURS, contrast_of, import_for_layers, in_voxels, voxel_size_of
from napari_disentangle.gui.places import default_folder, free_name
from napari_disentangle.gui.worker import in_thread, sentence
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.mrc import open_map, read_header, write_volume
from napari_disentangle.particles import same_list
from napari_disentangle.preview import preview
from napari_disentangle.run import Run
from napari_disentangle.session import open_source, read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.particles import ParticleSet
    from napari_disentangle.preview import Preview
    from napari_disentangle.session import RunState, Source


@dataclass(frozen=True)
class Attempt:
    """What was opened last and refused: to be read again with other words of what its files do not say."""

    path: Path
    reading: Mapping[str, Any]
    diameter: float | None
    layers: tuple[Any, Any] | None


class Opening(QObject):
    """The first two of the five clicks."""

    previewed = Signal(object)
    """A `Preview`, or None while there is none."""
    tomogram_shown = Signal(str)
    """Its name."""
    refused = Signal()
    """Particles could not be read; `attempt` says which, where saying more could help."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._bench = bench
        self._round = 0
        self._run_round = 0
        self.preview: Preview | None = None
        self.tomogram: str | None = None
        """Name of the tomogram that is in the viewer."""
        self._volume: Path | None = None
        self._wanted: ParticleSet | None = None
        self._shown: ParticleSet | None = None
        self.attempt: Attempt | None = None
        self.looking = False
        """Whether boxes are being read for a preview."""
        self.unseen, self._looks = "", 0
        """Why none could be shown, a sentence."""
        colour = bench.turns.soon(self, self.colour_points)  # each of napari's layers' changes takes a while
        bench.session.selection_changed.connect(colour)
        bench.session.groups_changed.connect(colour)

    def open(
        self, path: Path, reading: Mapping[str, Any] | None = None, *, diameter: float | None = None,
        layers: tuple[Any, Any] | None = None,
    ) -> None:  # fmt: skip
        """Open a particle list, a stack, or a run folder.

        Parameters
        ----------
        path : Path
        reading : mapping, optional
            Keywords of `read_particles`.
        diameter : float, optional
            In Angstrom, where it is known.
        layers : (image, points), optional
            Layers in the viewer that show these particles already.
        """
        if (path / "recipe.toml").is_file():
            self.open_run(path)
            return
        bench = self._bench
        self._round += 1
        this = self._round
        words = f"reading {path.name}"
        bench.begin(words)

        def opened(source: Source) -> None:
            bench.leave_off(words)
            if this != self._round or bench.closed:
                return
            bench.problem.emit("particles", "")
            bench.folder = default_folder(source.path)
            self.attempt = None
            if layers is not None:
                bench.layers.adopt(*layers)
            bench.session.set_source(source)
            self.show_tomogram(None, source.particles)
            self.look()

        def failed(error: BaseException) -> None:
            bench.leave_off(words)
            if this == self._round:
                self.attempt = Attempt(path, dict(reading or {}), diameter, layers)
                bench.failing("particles")(error)
                self.refused.emit()

        in_thread(lambda: open_source(path, reading, diameter), done=opened, failed=failed)

    def open_together(self, paths: Sequence[Path]) -> None:
        """Open files that were dropped together: the particles, and their tomogram or the table of their tomograms."""
        volumes = [p for p in paths if p.suffix.lower() in (".mrc", ".rec", ".map")]
        tables = [p for p in paths if p.suffix.lower() == ".star" and "tomogram" in p.stem.lower()]
        lists = [p for p in paths if p.suffix.lower() in (".star", ".csv") and p not in tables]
        others = [p for p in paths if p not in (*volumes, *tables, *lists)]
        if not lists and not others:  # a list of particles may have "tomogram" in its name
            lists, tables = tables, []
        chosen = next(iter((*lists, *others, *volumes)), None)
        reading: dict[str, Any] = {}
        if tables:
            reading["tomograms"] = tables[0]
        elif volumes and chosen not in volumes:
            reading["tomogram"] = volumes[0]
        if chosen is not None:
            self.open(chosen, reading)

    def open_layer(self, layer: Any) -> bool:
        """Open what a layer of the samples, or of ours, says that it is of; False where it says nothing."""
        about = layer.metadata.get(OURS)
        if not isinstance(about, dict) or "open" not in about:
            return False
        path = Path(about["open"])
        source = self._bench.session.source
        if source is not None and source.path == path:
            return True
        image = next((one for one in self._bench.viewer.layers if one.metadata.get(OURS) == about and one.ndim == 3
                      and type(one).__name__ == "Image"), None)  # fmt: skip
        points = next((one for one in self._bench.viewer.layers if one.metadata.get(OURS) == about
                       and type(one).__name__ == "Points"), None)  # fmt: skip
        reading = {"tilt_range": tuple(about["tilt_range"])} if about.get("tilt_range") else {}
        self.open(path, reading, diameter=about.get("diameter"), layers=(image, points))
        return True

    def open_layers(self) -> None:
        """Open what the layers are of that were there before there was a panel."""
        session = self._bench.session
        if session.source is None and session.run is None:
            any(self.open_layer(layer) for layer in self._bench.viewer.layers)

    def open_sample(self) -> None:
        """Open the sample tomogram; the first time, it is made, which takes a few seconds."""
        bench = self._bench
        bench.begin("making the sample")

        def made(_: Any) -> None:
            bench.leave_off("making the sample")
            bench.viewer.open_sample("napari-disentangle", "tomogram")

        def failed(error: BaseException) -> None:
            bench.leave_off("making the sample")
            bench.failing("particles")(error)

        in_thread(_make_sample, done=made, failed=failed)

    def open_points(self, points: Any, image: Any, voxel_size: float | None = None) -> None:
        """Take the points of a napari layer for the particles of the tomogram in another.

        They are written as a RELION list beside the tomogram, so that they can be exported and found again.

        Parameters
        ----------
        points, image : napari.layers.Points, napari.layers.Image
        voxel_size : float, optional
            Of the image in Angstrom, where neither its file nor its layer says.
        """
        bench = self._bench
        if not len(points.data):
            bench.tell("particles", f'The points layer "{points.name}" holds no points; add some first.')
            return
        if image is None or image.ndim != 3:
            bench.tell(
                "particles", f'Points need a tomogram: open the volume that "{points.name}" was picked in first.'
            )
            return
        if points.ndim < 3:
            bench.tell("particles", f'The points of "{points.name}" have no depth; pick them in a layer of three axes.')
            return
        path = Path(image.source.path) if image.source.path else None
        if image is bench.layers.image:
            path = self._volume or path
        data, name, from_layer = image.data, points.name, voxel_size_of(image)
        places = in_voxels(points, image)

        def write() -> tuple[Path, dict[str, Any]]:
            size, volume = voxel_size, path
            if volume is not None and volume.suffix.lower() in (".mrc", ".rec", ".map"):
                size = size or read_header(volume).voxel_size or from_layer
            else:
                volume, size = None, size or from_layer
            if size is None:
                raise InputError(
                    f'The layer "{image.name}" does not say its voxel size in Angstrom; give it under "What the files do not say".'
                )
            folder = default_folder(volume or Path.home() / "points")
            folder.mkdir(parents=True, exist_ok=True)
            stem = free_name(folder, "".join(c if c.isalnum() else "_" for c in name) or "points")
            if volume is None:
                volume = stem.with_suffix(".mrc")
                write_volume(volume, np.asarray(data), size)
            table: dict[str, Any] = {"rlnTomoName": [volume.stem] * len(places)}
            table |= {f"rlnCoordinate{axis}": list(places[:, 2 - k]) for k, axis in enumerate("XYZ")}
            table["rlnOpticsGroup"] = [1] * len(places)
            optics = {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [size]}
            found = stem.with_suffix(".star")
            found.write_text(star_text({"optics": optics, "particles": table}), encoding="utf-8")
            return found, {"tomogram": volume, "voxel_size": size}

        def written(made: tuple[Path, dict[str, Any]]) -> None:
            self.open(made[0], made[1], diameter=bench.session.diameter, layers=(image, points))

        def failed(error: BaseException) -> None:
            self.attempt = None
            bench.failing("particles")(error)
            self.refused.emit()

        in_thread(write, done=written, failed=failed)

    def reread(self, **changed: Any) -> None:
        """Read particles again, with other words of what their files do not say: those refused, or else those shown."""
        source, last = self._bench.session.source, self.attempt
        if last is not None:
            self.open(last.path, {**last.reading, **changed}, diameter=last.diameter, layers=last.layers)
        elif source is not None:
            self.open(source.path, {**source.reading, **changed}, diameter=self._bench.session.diameter)

    def look(self) -> None:
        """Show some boxes of the particles that were opened, and their mean."""
        bench = self._bench
        source, diameter = bench.session.source, bench.session.diameter
        this = self._looks = self._looks + 1
        self.preview, self.unseen = None, ""
        self.looking = source is not None and (source.particles.volumes is not None or diameter is not None)
        self.previewed.emit(None)
        if source is None or not self.looking:
            return

        def seen(found: Preview) -> None:
            if this == self._looks:
                self.looking = False
                bench.problem.emit("particles", "")
                if not bench.session.contrast_chosen:
                    bench.session.invert = found.dark
                self.preview = found
                self.previewed.emit(found)

        def failed(error: BaseException) -> None:
            if this == self._looks:
                self.looking, self.unseen = False, sentence(error)
                bench.failing("particles")(error)
                self.previewed.emit(None)

        in_thread(lambda: preview(source.particles, diameter=diameter), done=seen, failed=failed)

    def set_diameter(self, diameter: float) -> None:
        """Take the particle's diameter, in A, and look at boxes of that size."""
        bench = self._bench
        if diameter != bench.session.diameter:
            bench.session.set_diameter(diameter)
            bench.layers.resize(diameter)
            self.look()

    def open_run(self, path: Path) -> None:
        """Show a run folder; if somebody trains it, follow that."""
        bench = self._bench
        if (
            bench.trainer.active
            and bench.trainer.ours
            and bench.trainer.run is not None
            and bench.trainer.run.path != path
        ):
            bench.tell(
                "training", f"{bench.trainer.run.path} is being trained; stop or pause it before opening another run."
            )
            return
        self._run_round += 1
        this = self._run_round
        words = f"reading {path.name}"
        bench.begin(words)

        def opened(found: tuple[RunState, list[dict[str, Any]], Source | None]) -> None:
            state, events, source = found
            bench.leave_off(words)
            if this != self._run_round or bench.closed:
                return
            self.attempt = None
            for room in ("particles", "training"):
                bench.problem.emit(room, "")
            if source is not None and bench.session.source is None:
                bench.folder = state.run.path.absolute().parent
                bench.session.set_source(source)
                self.look()
            self.show_run(state)
            if bench.trainer.active and bench.trainer.run is not None and bench.trainer.run.path == state.run.path:
                bench.trainer.events.emit(bench.trainer.told)
                return
            if state.writer is not None:
                bench.trainer.watch(state.run)
            else:
                bench.trainer.show(state.run, events)

        def failed(error: BaseException) -> None:
            bench.leave_off(words)
            bench.failing("particles")(error)

        alone = bench.session.source is None
        in_thread(lambda: _read(path, with_source=alone), done=opened, failed=failed)

    def show_run(self, state: RunState) -> None:
        """Put a run into the session, and its particles into the viewer."""
        bench = self._bench
        if bench.folder is None:
            bench.folder = state.run.path.absolute().parent
        for room in ("maps", "averages"):  # whatever was wrong, it was with another run
            bench.problem.emit(room, "")
        bench.session.set_run(state)
        self.show_tomogram(self.tomogram, state.particles, diameter=state.run.recipe.pose.diameter)
        bench.results.load_averages()

    def other_runs(self) -> list[Path]:
        """Return the run folders beside the one that is shown, the newest first."""
        run = self._bench.session.run
        folder = self._bench.folder if run is None else run.path.absolute().parent
        if folder is None or not folder.is_dir():
            return []
        found = [p.parent for p in folder.glob("*/recipe.toml")]
        return sorted(found, key=lambda p: (p / "recipe.toml").stat().st_mtime, reverse=True)

    def show_tomogram(
        self, name: str | None, particles: ParticleSet, *, diameter: float | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Show one of the particles' tomograms, the first where none has that name, and the particles in it."""
        bench = self._bench
        self._wanted = particles
        if not particles.tomograms or particles.tomogram is None or not len(particles):
            self.tomogram = None
            bench.layers.hide()
            return
        used = [int(k) for k in np.unique(particles.tomogram)]
        index = next((k for k in used if particles.tomograms[k].name == name), used[0])
        tomogram = particles.tomograms[index]
        self.tomogram = tomogram.name
        rows = np.flatnonzero(particles.tomogram == index)
        places = particles.positions

        def read() -> tuple[Any, tuple[float, float]] | None:
            import_for_layers()
            if tomogram.path is None or not tomogram.path.is_file():
                return None
            volume = open_map(read_header(tomogram.path))
            return volume, contrast_of(volume)

        def show(found: tuple[Any, tuple[float, float]] | None) -> None:
            if bench.closed or self.tomogram != tomogram.name or self._wanted is not particles:
                return
            if found is not None and tomogram.voxel_size is not None:
                bench.layers.show_tomogram(tomogram.name, found[0], tomogram.voxel_size, found[1])
                self._volume = tomogram.path
            else:
                bench.layers.hide(particles=False)  # another tomogram under these particles would be taken for theirs
            if places is not None and np.isfinite(places[rows]).all():
                size = diameter or bench.session.diameter or 100.0
                bench.layers.show_particles(particles.ids[rows], places[rows][:, ::-1].copy(), size)
                self._shown = particles
                self.colour_points()
            self.tomogram_shown.emit(tomogram.name)
            if then is not None:
                then()

        in_thread(read, done=show, failed=bench.failing("particles"))

    def choose_tomogram(self, name: str) -> None:
        """Show one of the tomograms of the list that is open, with the run's particles where it is of that list."""
        session = self._bench.session
        particles = session.particles if session.source is None else session.source.particles
        run = session.particles
        if run is not None and run.tomogram is not None and same_list(run, particles):
            used = {run.tomograms[k].name for k in np.unique(run.tomogram)}
            particles = run if name in used else particles
        if particles is not None:
            self.show_tomogram(name, particles)

    def shows(self, particles: ParticleSet, name: str) -> bool:
        """Return whether the viewer shows these particles, or others of the same list, in the tomogram of that name."""
        layers = self._bench.layers
        return self.tomogram == name and layers.points is not None and same_list(self._shown, particles)

    def colour_points(self) -> None:
        """Colour the particles in the viewer by group, and fill the selection, where they are of the run's list."""
        session, layers = self._bench.session, self._bench.layers
        ids = layers.ids
        labels, selected = np.full(len(ids), -1, np.int64), np.zeros(len(ids), np.bool_)
        layers.linked = session.particles is None or same_list(self._shown, session.particles)
        if layers.linked:
            for k, group in enumerate(session.groups):
                labels[np.isin(ids, group.ids)] = k
            if session.selection is not None:
                selected = np.isin(ids, session.selection.ids)
        layers.colour(labels, selected)


def _read(path: Path, *, with_source: bool) -> tuple[RunState, list[dict[str, Any]], Source | None]:
    """Read a run and its diary and, where nothing else is open, the particles that it was made of."""
    run = Run.open(path)
    given = run.recipe.input
    keys = ("tomograms", "tomogram", "voxel_size", "tilt_range", "size_from", "coordinate_pixel")
    reading = {key: getattr(given, key) for key in keys if getattr(given, key) is not None}
    for key in ("tomograms", "tomogram"):
        if key in reading:
            reading[key] = Path(reading[key])
    source = open_source(Path(given.particles), reading, run.recipe.pose.diameter) if with_source else None
    return read_run(run), run.events(), source


def _make_sample() -> None:
    """Write the sample tomogram, if it is not there yet, in a process of its own: simulating loads torch."""
    from napari_disentangle.sample import TOMOGRAM, sample_folder

    import_for_layers()
    folder = sample_folder() / TOMOGRAM
    if folder.exists():
        return
    code = "import sys, pathlib, napari_disentangle.sample as s; s.write_sample_tomogram(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if not folder.exists():
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise InputError(f"{folder}: the sample could not be written ({last}).")
