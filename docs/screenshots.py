"""Make the pictures of the window in docs/images: python docs/screenshots.py [OUT].

Every panel empty, in use and in error, at 1280 x 800, dark and light, at scale 1 and 2; on the packaged sample, by the
same calls as mouse and keys make. It takes a few minutes, and a display: Xvfb is started where there is none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
SIZE = (1280, 800)
VARIANTS = (("dark", 1), ("light", 1), ("dark", 2), ("light", 2))
PICTURED_EVERYWHERE = ("particles", "maps", "averages")
"""Taken in every variant; the others in the first only."""


class Window:
    """A napari window with all panels, and the time it takes to draw."""

    def __init__(self, theme: str, out: Path, suffix: str) -> None:
        import napari
        from napari.settings import get_settings
        from qtpy.QtWidgets import QApplication

        get_settings().appearance.theme = theme
        self.out, self.suffix = out, suffix
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window.resize(*SIZE)
        _, self.dock = self.viewer.window.add_plugin_dock_widget("napari-disentangle", "Disentangle (all panels)")
        self.application = QApplication.instance()
        self.rooms: Any = self.dock.panel
        self.bench: Any = self.dock.bench
        self.wait(10.0, lambda: not self.bench.turns)
        docks = self.viewer.window.dock_widgets
        self.maps: Any = next(dock for name, dock in docks.items() if "maps" in name).panel
        self.wait(1.0)

    def wait(self, seconds: float, until: Callable[[], object] | None = None) -> None:
        """Let the event loop run, for some seconds or until something is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.application.processEvents()
            time.sleep(0.01)
            if until is not None and until():
                return
        if until is not None:
            raise TimeoutError("the window did not get there")

    def take(self, name: str, dialog: Any = None) -> None:
        """Take a picture of the window, or of a dialog, in few colours."""
        from PIL import Image

        self.wait(1.0)
        window = dialog or self.dock.window()
        path = self.out / f"{name}{self.suffix}.png"
        window.screen().grabWindow(0, *window.geometry().getRect()).save(str(path))
        Image.open(path).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
        print(path)


def first_look(window: Window) -> None:
    """Take everything up to a trained run."""
    bench, rooms = window.bench, window.rooms
    window.take("empty")
    rooms.tabs.setCurrentIndex(1)
    window.take("training_empty")
    rooms.tabs.setCurrentIndex(2)
    window.take("averages_empty")
    rooms.tabs.setCurrentIndex(0)
    rooms.particles.sample_button.click()
    window.wait(120, lambda: bench.opening.preview is not None)
    window.take("particles")
    rooms.tabs.setCurrentIndex(1)
    rooms.training.choose_preset("standard")
    window.wait(240, lambda: " GB" in rooms.training.cost.text())
    window.take("training_ready")
    rooms.training.start.click()
    window.wait(300, lambda: bench.session.codes is not None and len(rooms.training.watched) > 0)
    window.take("training")
    window.wait(600, lambda: bench.trainer.state == "finished")
    window.wait(120, lambda: ("content", "umap") in bench.session.maps and rooms.training.learnt.isVisible())
    window.take("training_done")


def results(window: Window, run: Path) -> None:
    """Take maps, averages and one particle of a trained run."""
    bench, rooms, maps = window.bench, window.rooms, window.maps
    if bench.session.run is None:
        bench.opening.open(run)
    window.wait(60, lambda: bench.session.run is not None and bool(bench.session.groups))
    if bench.opening.preview is None:
        bench.opening.open(run.parent.parent / "optimisation_set.star", diameter=200.0)
        window.wait(60, lambda: bench.opening.preview is not None)
    window.wait(60, lambda: len(window.viewer.layers) >= 2)
    rooms.tabs.setCurrentIndex(0)
    window.take("particles")
    import numpy as np

    places = maps.content.coordinates
    group = bench.session.labels() == 0
    middle, reach = places[group].mean(0), np.abs(places[group] - places[group].mean(0)).max(0) * 1.15
    from napari_disentangle.gui.scatter import Stroke

    turn = np.linspace(0, 2 * np.pi, 40)
    outline = middle + reach * np.stack([np.cos(turn), np.sin(turn)], 1)
    maps.choose_tool("lasso")
    maps.content.canvas.drawn.emit(Stroke("lasso", outline))
    window.wait(10, lambda: bench.session.selection is not None and len(bench.session.selection) > 0)
    window.wait(10, lambda: len(maps.gallery) > 0)
    rooms.tabs.setCurrentIndex(1)
    window.take("maps")
    rooms.tabs.setCurrentIndex(2)
    if bench.session.selection.name not in bench.session.averages:
        rooms.averages.make.click()
        window.wait(300, lambda: bench.session.selection.name in bench.session.averages)
    rooms.averages.difference.setChecked(True)
    window.wait(3)
    window.take("averages")
    bench.results.show_particle(int(bench.session.selection.ids[0]))
    maps.side.setCurrentWidget(maps.particle)
    window.wait(4)
    window.take("particle")


def beside(window: Window) -> None:
    """Take an average beside its control and a known map."""
    from napari_disentangle.sample import MAPS

    bench, panel = window.bench, window.rooms.averages
    panel.decoded.setChecked(False)
    panel.difference.setChecked(False)
    panel.control.click()
    window.wait(300, lambda: "control: n" in panel.facts.text())
    chosen = bench.session.selection
    alike = dict[float, Path]()
    bench.results.compared.connect(lambda found: alike.update({found.correlation: found.path}))
    for k, path in enumerate(sorted(MAPS.glob("*.mrc"))):
        bench.results.compare(chosen, path)
        window.wait(60, lambda k=k: len(alike) > k)
    bench.results.compare(chosen, alike[max(alike)])
    window.wait(60, lambda: len(panel._shown) == 3 and panel._shown[2].title == alike[max(alike)].name)
    window.wait(3)
    window.take("averages_beside")


def errors(window: Window, run: Path) -> None:
    """Take what is refused in every panel, and a training that was killed."""
    from qtpy.QtWidgets import QDialog

    bench, rooms, maps = window.bench, window.rooms, window.maps
    bench.results.compare(bench.session.selection, run / "recipe.toml")
    window.wait(60, lambda: rooms.averages.problem.isVisible())
    window.take("averages_error")
    bench.results.name_selection("auto")
    window.wait(20, lambda: maps.problem.isVisible())
    window.take("maps_error")
    maps.export.click()
    window.wait(10, lambda: maps.findChild(QDialog, "export") is not None)
    dialog = maps.findChild(QDialog, "export")
    dialog.path.setText(str(run / "recipe.toml" / "chosen.star"))
    dialog.write.click()
    window.wait(20, lambda: dialog.problem.isVisible())
    window.take("export_error", dialog)
    dialog.reject()
    rooms.tabs.setCurrentIndex(1)
    rooms.training.choose_preset("thorough")
    rooms.training.start.click()
    window.wait(120, lambda: bench.trainer.state == "running")
    os.kill(bench.trainer.pid, 9)
    window.wait(60, lambda: bench.trainer.state == "failed")
    window.take("training_error")
    rooms.tabs.setCurrentIndex(0)
    bench.opening.open(Path("/data/picks_of_nobody.star"))
    window.wait(20, lambda: rooms.particles.problem.isVisible())
    window.take("particles_error")


def main() -> None:
    """Take all pictures, each variant in a process of its own: Qt takes its scale when it starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=HERE / "images")
    parser.add_argument("--variant", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.variant is None:
        everything(given.out)
        return
    from napari_disentangle import sample

    sample.sample_folder = lambda: given.work
    theme, scale = VARIANTS[given.variant]
    suffix = "" if given.variant == 0 else f"_{theme}_{scale}x"
    window = Window(theme, given.out, suffix)
    folder = given.work / "tomogram" / "disentangle"
    if given.variant == 0:
        first_look(window)
    run = next(path.parent for path in sorted(folder.glob("*/recipe.toml")))
    results(window, run)
    if given.variant == 0:
        beside(window)
        errors(window, run)
    window.viewer.close()
    window.wait(1.0)


def everything(out: Path) -> None:
    """Run each variant on a screen large enough for it."""
    with tempfile.TemporaryDirectory() as work:
        for number, (_, scale) in enumerate(VARIANTS):
            display = f":{90 + number}"
            width, height = (scale * side + 100 for side in SIZE)
            screen = subprocess.Popen(["Xvfb", display, "-screen", "0", f"{width}x{height}x24"])
            time.sleep(1.0)
            environment = {**os.environ, "DISPLAY": display, "QT_SCALE_FACTOR": str(scale), "NAPARI_CONFIG": ""}
            command = [sys.executable, __file__, str(out), "--variant", str(number), "--work", work]
            try:
                subprocess.run(command, env=environment, check=True)
            finally:
                screen.terminate()
                screen.wait()
        for name in out.glob("*_*x.png"):
            if not name.name.startswith(PICTURED_EVERYWHERE) or name.name.startswith("particle_"):
                name.unlink()


if __name__ == "__main__":
    main()
