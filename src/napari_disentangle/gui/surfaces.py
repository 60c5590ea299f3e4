"""Surfaces of volumes, marched on a thread of their own, in a canvas whose views turn together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import qtpy
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget
from vispy.scene import ArcballCamera, SceneCanvas
from vispy.scene.visuals import Mesh
from vispy.util.quaternion import Quaternion

from napari_disentangle.gui.scene import DPI

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from qtpy.QtGui import QResizeEvent, QShowEvent
    from vispy.geometry import MeshData

FACING = Quaternion(np.sqrt(0.5), -np.sqrt(0.5), 0, 0)
"""Turns vispy's z-up so that x points right, y up and z at the viewer, as in ChimeraX and as the z slice is drawn."""
LARGEST = 192
"""Voxels along a side of a mesh: finer volumes are thinned (and vispy's isosurface counts in bytes: 255 at most)."""
FAR = 1e6
"""Angstrom from the box to where nobody sees a triangle."""
LIGHT = (0.3, -0.4, -1.0, 0.0)
"""Where the light travels, seen by the camera (right, up, towards it): from over the viewer's left shoulder."""


class Volume(Protocol):
    """What surfaces and slices are made of."""

    @property
    def volume(self) -> NDArray[Any]:
        """(z, y, x)."""
        ...

    @property
    def voxel_size(self) -> float:
        """In Angstrom."""
        ...

    @property
    def extent(self) -> float:
        """Longest side of the box, in Angstrom."""
        ...


def surface(volume: NDArray[Any], voxel_size: float, sigmas: float) -> MeshData | None:
    """Return the surface at ``mean + sigmas * standard deviation``, with its normals.

    Slow enough to be kept off the GUI thread, which it does not block: it is NumPy, which lets other threads run.

    Parameters
    ----------
    volume : (z, y, x)
        What is not finite counts as the mean.
    voxel_size : float
        In Angstrom.
    sigmas : float

    Returns
    -------
    MeshData or None
        Vertices in xyz, in Angstrom from voxel ``n // 2``; faces are counter-clockwise seen from the lower densities,
        and closed at the walls of the box. None where the contour lies outside the data.
    """
    from vispy.geometry import MeshData
    from vispy.geometry.isosurface import isosurface

    volume = np.asarray(volume, dtype=np.float32)
    finite = np.isfinite(volume)
    if not finite.any():
        return None
    mean, deviation = float(volume[finite].mean(dtype=np.float64)), float(volume[finite].std(dtype=np.float64))
    volume = np.where(finite, volume, np.float32(mean))
    level = mean + sigmas * deviation
    origin = np.array([n // 2 for n in volume.shape], dtype=np.float64)
    step = -(-max(volume.shape) // LARGEST)
    inside = volume[::step, ::step, ::step] >= level
    if not inside.any():
        return None

    # Density fills a small part of most boxes: only its surroundings are marched through. A layer of the lowest value
    # closes the surface at the walls.
    around = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    starts = np.array([max(int(k[0]) - 1, 0) for k in around])
    part = volume[::step, ::step, ::step][tuple(slice(s, int(k[-1]) + 2) for s, k in zip(starts, around, strict=True))]
    part = np.pad(part, 1, constant_values=float(volume.min()))
    with np.errstate(over="ignore"):  # vispy's table of shifts is of bytes, which wrap around as they should
        vertices, faces = isosurface(part, level)
    if not len(faces):
        return None
    xyz = (((vertices + starts - 1) * step - origin) * voxel_size)[:, ::-1]
    mesh = MeshData(vertices=np.ascontiguousarray(xyz, dtype=np.float32), faces=np.ascontiguousarray(faces[:, ::-1]))
    # Kept by the mesh, so that the GUI thread finds them done.
    mesh.get_vertex_normals(indexed="faces")
    mesh.get_vertices(indexed="faces")
    mesh.get_bounds()
    return mesh


class Surfacing(QObject):
    """Makes surfaces on a thread; of several requests only the newest is answered.

    Signals
    -------
    done : (int, list of MeshData or None) or (int, Exception)
        The number that `ask` returned, and one surface for each volume. On the GUI thread.
    """

    done = Signal(int, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = threading.Lock()
        self._newest = 0
        self._next: tuple[int, Sequence[Volume], float] | None = None
        self._thread: threading.Thread | None = None

    @property
    def newest(self) -> int:
        """Number of the last request; anything older is stale."""
        return self._newest

    def ask(self, volumes: Sequence[Volume], sigmas: float) -> int:
        """Ask for surfaces at a contour, and drop what was asked before."""
        with self._lock:
            self._newest += 1
            self._next = self._newest, tuple(volumes), sigmas
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="disentangle-surfaces")
                self._thread.start()
            return self._newest

    def drop(self) -> None:
        """Make everything asked so far stale."""
        with self._lock:
            self._newest += 1
            self._next = None

    def _work(self) -> None:
        while True:
            with self._lock:
                request, self._next = self._next, None
                if request is None:
                    self._thread = None
                    return
            number, volumes, sigmas = request
            result: list[MeshData | None] | Exception = []
            try:
                for one in volumes:
                    if number != self._newest:
                        break
                    result.append(surface(one.volume, one.voxel_size, sigmas))
            except Exception as error:  # nobody would see it on this thread: the window says it
                result = error
            try:
                if number == self._newest:
                    self.done.emit(number, result)
            except RuntimeError:  # the window is gone
                return


class _Camera(ArcballCamera):
    """Turns without a horizon; parallel projection, which the scale bar needs, cannot be left."""

    def __init__(self) -> None:
        super().__init__(fov=0, scale_factor=1.0, center=(0, 0, 0))
        self.set_state(_quaternion=FACING)

    def viewbox_mouse_event(self, event: Any) -> None:
        if not (event.type == "mouse_move" and 2 in event.buttons and event.mouse_event.modifiers):
            super().viewbox_mouse_event(event)


class _Canvas(SceneCanvas):
    """Finds what is under the mouse by its place; vispy would draw everything once more to see it by its colour."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.unfreeze()
        self.targets: list[Any] = []
        self.freeze()

    def visual_at(self, pos: Sequence[float]) -> Any:
        """Return the view at a place (x, y), in logical pixels."""
        for view in self.targets:
            left, top = view.pos
            if left <= pos[0] < left + view.width and top <= pos[1] < top + view.height:
                return view
        return None


class SurfaceCanvas(QWidget):
    """One canvas with a view for each volume; turning one turns all."""

    zoomed = Signal()
    drawn = Signal()
    """All surfaces that were to be shown are."""

    def __init__(self) -> None:
        super().__init__()
        # dpi: or vispy starts xdpyinfo to ask for it.
        self.canvas: Any = _Canvas(keys=None, parent=self, app=qtpy.API_NAME.lower(), bgcolor="#262930", dpi=DPI)
        self.canvas.native.setMinimumSize(60, 60)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas.native)
        self._grid = self.canvas.central_widget.add_grid(spacing=0, margin=0)
        self.views: list[Any] = []
        self.canvas.targets = self.views
        self.meshes: list[Any] = []
        self._spare: list[tuple[Any, Any]] = []
        """Views that were needed before, and their meshes."""
        self._cold: list[Any] = []
        """Meshes that have not been drawn yet, whose shader has to be compiled."""
        self._count = 0
        self._surfaces: list[MeshData] = []
        self._coming: list[tuple[int, MeshData | None, str]] = []
        self._next = QTimer(self)
        self._next.setSingleShot(True)
        self._next.timeout.connect(self._step)
        self._extent = 0.0

    def resizeEvent(self, a0: QResizeEvent) -> None:
        """Tell that the scale has changed with the size."""
        super().resizeEvent(a0)
        self.zoomed.emit()

    def showEvent(self, a0: QShowEvent) -> None:
        """Go on with what came while it was hidden."""
        super().showEvent(a0)
        self._next.start(0)

    def set_count(self, count: int, extent: float) -> bool:
        """Make `count` views on boxes of `extent` Angstrom, and return True; nothing if there are as many.

        They come one after the other, as surfaces do, and only while they are looked at: the first drawing of each
        takes a while, and all of them at once would keep the window.
        """
        self._extent = extent
        if count == self._count:
            return False
        self._count, self._surfaces, self._coming = count, [], []
        for view, mesh in zip(self.views[count:], self.meshes[count:], strict=True):
            mesh.visible = False
            self._grid.remove_widget(view)
            view.parent = None
        self._spare[:0] = zip(self.views[count:], self.meshes[count:], strict=True)
        del self.views[count:], self.meshes[count:]
        self.look()
        self._next.start(0)
        return True

    def _step(self) -> None:
        """Make one view more or, once all are there, draw one surface more, and see to the next when that is seen."""
        if not self.isVisible():
            return
        column = len(self.views)
        if self._cold:
            self._cold.pop().visible = True  # far away: its shader is compiled before there is anything to see
        elif column < self._count:
            if self._spare:
                view, mesh = self._spare.pop(0)
                self._grid.add_widget(view, row=0, col=column)
            else:
                view, mesh = self._new_view(column)
                self._cold.append(mesh)
            self.views.append(view)
            self.meshes.append(mesh)
            self.look()
        elif self._coming:
            k, surface, colour = self._coming.pop(0)
            visual = self.meshes[k]
            visual.visible = surface is not None
            if surface is not None:
                visual.set_data(meshdata=surface, color=colour)
            if not self._coming:
                self.drawn.emit()
        else:
            return
        self.canvas.update()
        self._next.start(0)

    def _new_view(self, column: int) -> tuple[Any, Any]:
        """Return a view in the grid and the mesh in it."""
        view: Any = self._grid.add_view(row=0, col=column, camera=_Camera())
        # Shading wants normals, so that there has to be a triangle even where nothing is seen yet.
        mesh: Any = Mesh(vertices=np.eye(3) + FAR, faces=np.array([[0, 1, 2]]), shading="smooth", parent=view.scene)
        mesh.visible = False
        mesh.shading_filter.shininess = 20
        mesh.shading_filter.specular_light = (1, 1, 1, 0.1)
        mesh.shading_filter.ambient_light = (1, 1, 1, 0.3)
        view.camera.transform.changed.connect(self._light(view.camera, mesh))
        if self.views:
            self.views[0].camera.link(view.camera)
        else:
            view.camera.transform.changed.connect(self._tell)
        return view, mesh

    def _tell(self, _: Any) -> None:
        self.zoomed.emit()

    def _light(self, camera: _Camera, mesh: Any) -> Callable[[Any], None]:
        def follow(_: Any) -> None:
            mesh.shading_filter.light_dir = camera.transform.map(LIGHT)[:3]

        return follow

    def look(self) -> None:
        """Look from the front, as closely as shows nearly all surfaces from any side; at the boxes where none is."""
        size = self._extent
        if self._surfaces:
            corners: list[Any] = [mesh.get_vertices() for mesh in self._surfaces]
            vertices = np.concatenate(corners)
            # Specks of noise in the corners must not make the particles small.
            size = 2.8 * float(np.percentile(np.linalg.norm(vertices, axis=1), 85))
        size = float(np.clip(size, 0.2 * self._extent, self._extent))
        for view in self.views:
            # The depth buffer is spread over the box: vispy's million Angstrom leave too few steps for a particle.
            view.camera.depth_value = 10 * self._extent
        for view in self.views[:1]:
            view.camera.set_state(scale_factor=size, center=(0, 0, 0), _quaternion=FACING)
        for view in self.views:
            view.camera.set_default_state()  # where Backspace goes

    def show_meshes(self, meshes: Sequence[MeshData | None], colours: Sequence[str]) -> None:
        """Draw one surface in each view, one after the other; None draws nothing."""
        self._surfaces = [mesh for mesh in meshes if mesh is not None]
        self._coming = list(zip(range(self._count), meshes, colours, strict=True))
        self._step()

    def hide_meshes(self) -> None:
        """Draw nothing."""
        self._surfaces, self._coming = [], []
        for visual in self.meshes:
            visual.visible = False
        self.canvas.update()

    @property
    def angstrom_per_pixel(self) -> float:
        """Logical pixels, 0 without a view."""
        if not self.views:
            return 0.0
        side = min(self.width() / self._count, self.height())
        return self.views[0].camera.scale_factor / max(side, 1.0)

    def close_canvas(self) -> None:
        """Free the views and the context they are drawn in."""
        self._next.stop()
        self.canvas.close()
        self.canvas.native.setParent(None)
        self.canvas.native.deleteLater()
        self.setParent(None)
        self.deleteLater()
