"""The viewer's layers: tomogram and particles. The only code that touches them; the user may delete any at any time."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.gui.theme import rgba

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

UNITS = "angstrom"
OURS = "napari-disentangle"
"""Key of a layer's metadata that holds what it is of."""
HIDDEN = "napari-disentangle hid it"
"""Key of a layer's metadata while it is of particles that are not shown."""
MOST_HIGHLIGHTED = 20_000
"""Selected particles that are filled; napari draws more of them slowly."""


@cache
def import_for_layers() -> None:
    """Import what napari imports with its first layers: a second or two, which a thread has and the GUI's has not."""
    from napari.layers import Image, Points

    collects = gc.isenabled()
    gc.disable()  # so many new objects ask for full collections, and each stops all threads for some tenths of a second
    try:
        Image(np.zeros((2, 2, 2), np.float32))
        Points(np.zeros((1, 3)), features={"particle": [0]})
    finally:
        if collects:
            gc.enable()


def in_space(scale: float) -> dict[str, Any]:
    """Return the keywords that place a layer (z, y, x) of this voxel size in Angstrom."""
    return {"scale": (scale,) * 3, "units": (UNITS,) * 3, "axis_labels": ("z", "y", "x")}


def contrast_of(volume: NDArray[Any]) -> tuple[float, float]:
    """Return grey levels that show most of a tomogram, from its middle sections; reads little of a large file."""
    n = len(volume)
    some = np.asarray(volume[n // 2 - min(n // 2, 2) : n // 2 + 3], dtype=np.float32)
    some = some[np.isfinite(some)]
    low, high = (float(v) for v in np.percentile(some, [0.5, 99.5])) if some.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def voxel_size_of(image: Any) -> float | None:
    """Return the voxel size of a layer in Angstrom, or None where its unit is no length or it is not cubic."""
    from pint import DimensionalityError, Quantity

    sizes = np.abs(np.asarray(image.scale[-3:], np.float64))
    try:
        found = [
            float(s * Quantity(1, unit).to(UNITS).magnitude) for s, unit in zip(sizes, image.units[-3:], strict=True)
        ]
    except DimensionalityError:
        return None
    return found[0] if np.allclose(found, found[0], rtol=1e-3) else None


def in_voxels(points: Any, image: Any) -> NDArray[np.float64]:
    """Return where the points of a layer lie in an image (z, y, x): (k, 3) voxels, whatever space each layer is in."""
    matrix, offset = _voxels_of(points, image)
    return np.asarray(points.data, np.float64)[:, -3:] @ matrix.T + offset


def _voxels_of(points: Any, image: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return matrix (3, 3) and offset (3,) from the last three coordinates of a points layer to voxels of an image."""
    (matrix, offset), (of_image, its_offset) = _to_world(points), _to_world(image)
    length = np.array([_ratio(a, b) for a, b in zip(points.units[-3:], image.units[-3:], strict=True)])
    back = np.linalg.inv(of_image)
    return back @ (length[:, None] * matrix), back @ (length * offset - its_offset)


def _to_world(layer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return matrix and offset from a layer's data to the world, of the last three axes, in the layer's own units."""
    ends = np.concatenate([np.zeros((1, layer.ndim)), np.eye(layer.ndim)[-3:]])
    offset, *axes = [np.asarray(layer.data_to_world(end), np.float64)[-3:] for end in ends]
    return np.stack(axes, 1) - offset[:, None], offset


def _same_file(one: Any, other: Any) -> bool:
    name = getattr(one, "filename", None)
    return name is not None and name == getattr(other, "filename", None)


def _side(matrix: NDArray[np.float64]) -> float:
    """Return the edge of the cube that a matrix (3, 3) makes of the unit cube, were it one."""
    return float(abs(np.linalg.det(matrix)) ** (1 / 3))


def _ratio(unit: Any, other: Any) -> float:
    """Return how many of the other unit this one is; 1 where one of them is a pixel, as napari takes it."""
    from pint import DimensionalityError, Quantity

    try:
        return float(Quantity(1, unit).to(other).magnitude)
    except DimensionalityError:
        return 1.0


def image_around(points: Any, images: Sequence[Any]) -> Any:
    """Return the volume that most of the points lie in, the topmost of equals; None where there is no volume."""
    volumes = [image for image in images if image.ndim == 3]
    if not volumes or points.ndim < 3:
        return volumes[-1] if volumes else None

    def inside(image: Any) -> int:
        places = in_voxels(points, image)
        return int(((places >= -0.5) & (places <= np.array(image.data.shape) - 0.5)).all(1).sum())

    return max(reversed(volumes), key=inside)


class TomogramLayers:
    """The image of one tomogram and the points of its particles, in one viewer.

    Layers of the user's that show them already are used as they are: their grey values, places and transforms are left
    alone, and another tomogram is shown in layers of our own.

    Parameters
    ----------
    viewer : callable
        Returns the napari viewer; what it returns is not kept.
    selected : callable
        Called with the ids (k,) of the points that the user selects in the points layer.
    """

    def __init__(self, viewer: Callable[[], Any], selected: Callable[[Ints], None]) -> None:
        self._get_viewer = viewer
        self._selected = selected
        self._image: Any = None
        self._points: Any = None
        self._named: Any = None  # the points layer, once its features say which particle is which
        self._volume: NDArray[Any] | None = None
        self._voxel_size: float | None = None
        self._diameter = 0.0
        self._adopted = (False, False)
        self.linked = True
        """Whether the points are particles of the run, so that selecting them selects there."""
        self._quiet = False

    @property
    def _viewer(self) -> Any:
        return self._get_viewer()

    @property
    def image(self) -> Any:
        """The tomogram's layer, or None where there is none or the user has deleted it."""
        return self._image if self._image is not None and self._image in self._viewer.layers else None

    @property
    def points(self) -> Any:
        """The particles' layer, or None."""
        return self._points if self._points is not None and self._points in self._viewer.layers else None

    @property
    def ids(self) -> Ints:
        """(k,) of the points, in the layer's order; -1 for those that the user has added."""
        layer = self.points
        if layer is None or layer is not self._named:
            return np.zeros(0, np.int64)
        return layer.features["particle"].fillna(-1).to_numpy(np.int64)

    def adopt(self, image: Any, points: Any) -> None:
        """Use layers that are there already, and show what will be shown next, instead of new ones."""
        self._image, self._points = image, points
        self._adopted = (image is not None, points is not None)

    def show_tomogram(self, name: str, volume: NDArray[Any], voxel_size: float, limits: tuple[float, float]) -> None:
        """Show a tomogram, instead of the one before; `limits` are grey levels."""
        layer, self._voxel_size = self.image, voxel_size
        adopted, self._adopted = self._adopted[0], (False, self._adopted[1])
        before, self._volume = self._volume, volume
        self._viewer.canvas.overlays.scale_bar.visible = True
        theirs = layer is not None and OURS not in layer.metadata
        self._show(layer)
        if layer is not None and (
            layer.data is volume
            or (adopted and layer.data.shape == volume.shape)
            or (theirs and _same_file(before, volume))
        ):
            return
        if layer is None or theirs:
            self._image = self._viewer.add_image(
                volume, name=name, contrast_limits=limits, **in_space(voxel_size), metadata={OURS: "tomogram"}
            )
            self._viewer.layers.move(self._viewer.layers.index(self._image), 0)
        else:
            layer.data, layer.name = volume, name
            layer.scale, layer.contrast_limits = (voxel_size,) * 3, limits
            layer.metadata = {OURS: "tomogram"}

    @staticmethod
    def _show(layer: Any) -> None:
        if layer is not None and layer.metadata.pop(HIDDEN, False):
            layer.visible = True

    def hide(self, *, particles: bool = True) -> None:
        """Hide the tomogram, and its particles, while others are shown that have no place in it."""
        for layer in (self.image, self.points if particles else None):
            if layer is not None and layer.visible:
                layer.visible = False
                layer.metadata[HIDDEN] = True  # and not by the user

    def show_particles(self, ids: Ints, positions: NDArray[np.float64], diameter: float) -> None:
        """Show the particles of a tomogram, instead of those before.

        Parameters
        ----------
        ids : (k,)
        positions : (k, 3)
            In Angstrom, zyx.
        diameter : float
            In Angstrom.
        """
        layer = self.points
        self._show(layer)
        adopted, self._adopted = self._adopted[1], (self._adopted[0], False)
        if layer is not None and self._holds(ids, positions):
            self.resize(diameter)
            return
        with self._silent():
            if layer is None or (OURS not in layer.metadata and not (adopted and len(layer.data) == len(ids))):
                self._points = layer = self._viewer.add_points(
                    np.zeros((0, 3)), name="Particles", face_color="transparent", border_color="orange",
                    border_width=0.06, projection_mode="rescale_spherical", metadata={OURS: "particles"}, **in_space(1.0),
                )  # fmt: skip
                adopted = False
            layer.selected_data = set()
            if not adopted:
                matrix, offset = self._angstrom(layer)
                layer.data = np.linalg.solve(matrix, (positions - offset).T).T
            layer.features = {**(dict(layer.features) if adopted else {}), "particle": ids}
            self._named = layer
            self._listen(layer)
            self.resize(diameter)

    def _holds(self, ids: Ints, positions: NDArray[np.float64]) -> bool:
        """Return whether the points layer has these particles, at these places, already; ours has no others then."""
        known = self.ids
        if OURS in self.points.metadata and len(known) != len(ids):
            return False
        rows = np.flatnonzero(np.isin(known, ids))
        if len(rows) != len(ids) or not np.array_equal(known[rows], ids):
            return False
        matrix, offset = self._angstrom(self.points)
        return np.allclose(self.points.data[rows, -3:] @ matrix.T + offset, positions, atol=0.1)

    def _angstrom(self, points: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return matrix and offset from a points layer's data to Angstrom from the tomogram's corner voxel, zyx."""
        if self.image is None or self._voxel_size is None:
            return np.eye(3), np.zeros(3)
        matrix, offset = _voxels_of(points, self.image)
        return matrix * self._voxel_size, offset * self._voxel_size

    def _in_viewer(self, layer: Any) -> float:
        """Return how many units of the viewer's sliders one of a layer's is."""
        units = self._viewer.layers.units
        return 1.0 if units is None else _ratio(layer.units[-1], units[-1])

    def _show_near(self, distance: float) -> None:
        """Let the section that is shown take in the particles that it cuts, by napari's margins."""
        dims = self._viewer.dims
        margin = [max(m, distance) if k >= dims.ndim - 3 else m for k, m in enumerate(dims.margin_left)]
        dims.margin_left = dims.margin_right = margin

    def _listen(self, layer: Any) -> None:
        layer.selected_data.events.items_changed.connect(self._on_selected)
        layer.events.data.connect(self._on_data)

    def resize(self, diameter: float) -> None:
        """Draw particles of this diameter, in Angstrom."""
        layer, self._diameter = self.points, diameter
        if layer is not None:
            size = diameter / _side(self._angstrom(layer)[0])
            if not np.allclose(layer.size, size):
                layer.size = size
            self._show_near(size / 2 * _side(_to_world(layer)[0]) * self._in_viewer(layer))

    def colour(self, labels: Ints, selected: NDArray[np.bool_]) -> None:
        """Colour points by group, and fill those that are selected.

        Parameters
        ----------
        labels : (k,)
            Group of each point, -1 for none.
        selected : (k,)
        """
        layer = self.points
        if layer is None or len(layer.data) != len(labels):
            return
        border = rgba(labels)
        if not (labels >= 0).any():
            border[:] = (1.0, 0.65, 0.0, 1.0)  # orange, as the sample's
        face = border.copy()
        face[:, 3] = 0.0
        chosen = np.flatnonzero(selected)[:MOST_HIGHLIGHTED]
        face[chosen, 3] = 0.45
        with self._silent():
            for name, colours in (("border_color", border), ("face_color", face)):
                if not np.array_equal(getattr(layer, name), colours):
                    setattr(layer, name, colours)
            features = layer.features.copy()
            features["group"], features["selected"] = labels, selected
            if not features.equals(layer.features):
                layer.features = features

    def show_section(self, particle: int) -> None:
        """Show the section that a particle lies in, if it is in the tomogram that is shown."""
        place = self._place(particle)
        if place is None:
            return
        dims = self._viewer.dims
        # The sliders may have an axis more: that of a stack beside the tomogram.
        axes = zip(range(dims.ndim - 3, dims.ndim), place, strict=True)
        hidden = {axis: value for axis, value in axes if axis not in dims.displayed}
        dims.set_point(list(hidden), list(hidden.values()))  # all at once: each change slices every layer anew

    def centre_on(self, particle: int) -> None:
        """Bring a particle into the middle of the view, if it is in the tomogram that is shown."""
        place = self._place(particle)
        if place is not None:
            self._viewer.scene.camera.center = place

    def _place(self, particle: int) -> tuple[float, ...] | None:
        """Return where a particle is, (z, y, x) in the units of the viewer's sliders."""
        layer = self.points
        at = np.flatnonzero(self.ids == particle)
        if layer is None or not len(at):
            return None
        place = np.asarray(layer.data_to_world(layer.data[at[0]]))[-3:] * self._in_viewer(layer)
        return tuple(place.tolist())

    def add_volume(self, name: str, volume: NDArray[np.float32], voxel_size: float) -> None:
        """Add a volume as a layer of its own, in the middle of what is shown."""
        spread = float(volume.std()) or 1.0
        mean = float(volume.mean())
        corner = np.zeros(3)
        if self.image is not None:
            extent = np.asarray(self.image.extent.world)
            corner = extent.mean(0) - np.array(volume.shape) / 2 * voxel_size
        self._viewer.add_image(
            volume, name=name, rendering="iso", iso_threshold=mean + 3 * spread, translate=corner, **in_space(voxel_size),
            contrast_limits=(mean - spread, max(float(volume.max()), mean + spread)),
        )  # fmt: skip

    def without_units(self) -> list[Any]:
        """Return the user's layers that say no unit, for which napari drops everybody's."""
        return [layer for layer in self._viewer.layers if any(str(unit) == "pixel" for unit in layer.units[-3:])]

    def adopt_units(self) -> None:
        """Give those layers Angstrom as their unit.

        Their scale stays, unless the tomogram is among them, whose voxels are known: then all that lie in its pixels
        become as much larger.
        """
        layers, image, factor = self.without_units(), self.image, 1.0
        if image in layers and self._voxel_size is not None:
            factor = self._voxel_size / _side(_to_world(image)[0])
        for layer in layers:
            k = min(3, layer.ndim)
            layer.scale = [*layer.scale[:-k], *(factor * layer.scale[-k:])]
            layer.translate = [*layer.translate[:-k], *(factor * layer.translate[-k:])]
            layer.units = (*layer.units[:-k], *(UNITS,) * k)
        if self._diameter:
            self.resize(self._diameter)

    def _on_selected(self) -> None:
        layer = self.points
        if self._quiet or layer is None or not self.linked:
            return
        ids = self.ids
        rows = np.array(sorted(layer.selected_data), np.int64)
        chosen = ids[rows[rows < len(ids)]]
        if (chosen >= 0).any():
            self._selected(chosen[chosen >= 0])

    def _on_data(self, event: Any) -> None:
        """Give points that the user adds no particle: napari gives them the features of the last one selected."""
        layer = self.points
        if event.action == "added" and layer is not None and layer is self._named:
            features = layer.features.copy()
            features.loc[features.index[-len(event.data_indices) :], "particle"] = -1
            with self._silent():
                layer.features = features

    @contextmanager
    def _silent(self) -> Generator[None]:
        """Change layers without taking it for the user's doing."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before
