"""What a user does in the window, and what they do it with: mouse, keys, drops, and files of every kind."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog

from napari_disentangle.gui.worker import WORK
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.star import StarFile
from napari_disentangle.run import Embedding, Run
from napari_disentangle.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (40, 64, 72)
VOXEL = 8.0
AT = np.array([(14 + (5 * k) % 12, 14 + 12 * (k % 4), 14 + 14 * (k // 4) + k) for k in range(10)])
"""Where the particles of these tomograms are: voxels (10, 3), zyx; a box of 16 voxels holds one of them."""


LEFT = Qt.MouseButton.LeftButton


def click(widget: Any) -> None:
    assert widget.isVisible()
    assert widget.isEnabled(), f"{widget.text()} cannot be pressed"
    QTest.mouseClick(widget, LEFT)


def drag(native: Any, pixels: np.ndarray) -> None:
    """Press at the first place, move through the others and let go at the last."""
    places = [QPoint(round(float(x)), round(float(y))) for x, y in pixels]
    QTest.mousePress(native, LEFT, pos=places[0])
    for place in places[1:]:
        QTest.mouseMove(native, place, 5)
        QApplication.processEvents()
    QTest.mouseRelease(native, LEFT, pos=places[-1])


def rows_of(path: Path) -> list[list[str]]:
    """The rows of a list's particles, as they stand."""
    return next(block for block in StarFile.read(path).blocks if "rlnTomoName" in block and len(block) > 1).rows


class Window:
    """A napari window with all panels, and the notifications that it shows."""

    def __init__(self, viewer: Any, qtbot: Any, *, panels: bool = True) -> None:
        self.viewer, self._qtbot = viewer, qtbot
        self.told: list[Any] = []
        notification_manager.notification_ready.connect(self._hear)
        viewer.window.resize(1280, 800)
        if panels:
            self.add_panels()

    def add_panels(self) -> None:
        _, panels = self.viewer.window.add_plugin_dock_widget("napari-disentangle", "Disentangle (all panels)")
        self.bench, self.rooms = panels.bench, panels.panel
        self.until(lambda: not self.bench.turns)
        self.maps = next(dock for name, dock in self.viewer.window.dock_widgets.items() if "maps" in name).panel

    def _hear(self, notification: Any) -> None:
        self.told.append(notification)

    @property
    def errors(self) -> list[str]:
        """Sentences of all notifications of errors."""
        return [note.message for note in self.told if str(note.severity) == "error"]

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        self._qtbot.waitUntil(lambda: bool(condition()), timeout=round(1000 * seconds))

    def settle(self, *, helper: bool = False) -> None:
        """Wait until nothing is being done that could still say something; with `helper`, in its process neither."""
        for _ in range(2):
            self.until(lambda: not _working() and not (helper and self.bench.helper.busy), 120)
            self._qtbot.wait(30)

    def open(self, path: Path, **reading: Any) -> None:
        """Open particles, and wait for their boxes."""
        bench = self.bench
        with self._qtbot.waitSignal(
            bench.opening.previewed, timeout=30_000,
            check_params_cb=lambda found: found is not None and bench.session.source.path == path,
        ):  # fmt: skip
            bench.opening.open(path, reading)

    def open_run(self, path: Path) -> None:
        """Open a run folder."""
        self.bench.opening.open(path)
        self.until(lambda: self.bench.session.run is not None and self.bench.session.run.path == path)
        self.settle()

    def export_dialog(self, out: Path) -> Any:
        """Press the export button under the maps, and type where to."""
        click(self.maps.export)
        dialog = self.dialog()
        dialog.path.selectAll()
        QTest.keyClicks(dialog.path, str(out))
        return dialog

    def dialog(self) -> Any:
        """The export dialog, once it is there."""
        self.until(lambda: any(found.isVisible() for found in self.maps.findChildren(QDialog, "export")))
        return next(found for found in self.maps.findChildren(QDialog, "export") if found.isVisible())

    def close(self) -> None:
        bench = self.bench
        self.viewer.close()
        self.until(lambda: bench.closed)
        notification_manager.notification_ready.disconnect(self._hear)
        self.__dict__.clear()  # pytest keeps the fixture a little longer than the viewer may live


def _working() -> bool:
    return any(thread.name == WORK for thread in threading.enumerate())


def mapped(trained: Run, path: Path) -> Run:
    """A copy of a trained run with maps and two groups, so that opening it computes nothing that takes long."""
    run = Run.open(shutil.copytree(trained.path, path))
    codes = run.codes()
    for space, values in (("content", codes.content), ("transform", codes.transform)):
        for method, columns in (("umap", [0, 1]), ("pca", [1, 0])):
            run.save_embedding(Embedding(space, method, codes.ids, values[:, columns], codes.fingerprint))
    order = np.argsort(codes.content[:, 0])
    run.save_selections(
        "auto", [Selection(f"auto/{k}", codes.ids[part]) for k, part in enumerate((order[:18], order[18:]))]
    )
    return run


def tick(box: Any) -> None:
    """Click the square of a check box, whose middle may be empty."""
    assert box.isVisible()
    assert box.isEnabled(), f"{box.text()} cannot be ticked"
    before = box.isChecked()
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    assert box.isChecked() != before


def drop(widget: Any, *paths: Path) -> None:
    """Drop files as the desktop does: enter, then let go."""
    files = QMimeData()
    files.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(9, 9), Qt.DropAction.CopyAction, files, *keys)
    enter.ignore()
    QApplication.sendEvent(widget, enter)
    assert enter.isAccepted(), "the panel takes no files"
    QApplication.sendEvent(widget, QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, files, *keys))


def write_tomogram(path: Path, places: np.ndarray = AT, voxel: float = VOXEL) -> Path:
    """A tomogram of faint noise with a bright blob at each place (n, 3), voxels zyx."""
    volume = np.random.default_rng(1).normal(0, 0.01, SHAPE).astype(np.float32)
    grid = np.mgrid[:7, :7, :7] - 3
    blob = np.exp(-(grid**2).sum(0) / 4).astype(np.float32)
    for z, y, x in places:
        volume[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] += blob
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(volume)
        file.voxel_size = voxel
    return path


def write_list(path: Path, names: list[str], places: np.ndarray, **columns: list[Any]) -> Path:
    """A RELION 4 list of particles at places (n, 3), voxels zyx, whose pixel is the tomogram's voxel."""
    table: dict[str, Any] = {"rlnTomoName": names}
    table |= {f"rlnCoordinate{axis}": [float(v) for v in places[:, 2 - k]] for k, axis in enumerate("XYZ")}
    table |= {**columns, "rlnOpticsGroup": [1] * len(names)}
    optics = {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [VOXEL]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(star_text({"optics": optics, "particles": table}))
    return path


def write_table(path: Path, volumes: dict[str, str]) -> Path:
    """A tomograms.star: name -> file of the volume, as it is named there."""
    z, y, x = SHAPE
    table = {
        "rlnTomoName": list(volumes), "rlnTomoTiltSeriesPixelSize": [VOXEL] * len(volumes),
        "rlnTomoTomogramBinning": [1.0] * len(volumes), "rlnTomoSizeX": [x] * len(volumes),
        "rlnTomoSizeY": [y] * len(volumes), "rlnTomoSizeZ": [z] * len(volumes),
        "rlnTomoReconstructedTomogram": list(volumes.values()),
    }  # fmt: skip
    path.write_text(star_text({"global": table}))
    return path
