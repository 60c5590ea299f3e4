"""The viewer's layers: tomogram and particles. The only code that touches them; the user may delete any at any time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.gui.theme import rgba

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

UNITS = "angstrom"
OURS = "napari-disentangle"
"""Key of a layer's metadata that holds what it is of."""
MOST_HIGHLIGHTED = 20_000
"""Selected particles that get an outline; napari draws more of them slowly."""


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


class TomogramLayers:
    """The image of one tomogram and the points of its particles, in one viewer.

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
        self._ids: Ints = np.zeros(0, np.int64)
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
        """(k,) of the points, in the layer's order."""
        return self._ids

    def adopt(self, image: Any, points: Any) -> None:
        """Use layers that are there already instead of new ones."""
        self._image, self._points = image, points

    def show_tomogram(self, name: str, volume: NDArray[Any], voxel_size: float, limits: tuple[float, float]) -> None:
        """Show a tomogram, instead of the one before; `limits` are grey levels."""
        layer = self.image
        if layer is not None and layer.data is volume:
            return
        if layer is None:
            self._image = self._viewer.add_image(
                volume, name=name, contrast_limits=limits, **in_space(voxel_size), metadata={OURS: "tomogram"}
            )
            self._viewer.layers.move(self._viewer.layers.index(self._image), 0)
        else:
            layer.data, layer.name = volume, name
            layer.scale, layer.contrast_limits = (voxel_size,) * 3, limits
        self._viewer.scale_bar.visible = True

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
        self._ids = ids
        features = {"particle": ids}
        with self._silent():
            layer = self.points
            if layer is None:
                self._points = layer = self._viewer.add_points(
                    positions, name="Particles", size=diameter, face_color="transparent", border_color="orange",
                    border_width=0.06, projection_mode="rescale_spherical", features=features, **in_space(1.0),
                    metadata={OURS: "particles"},
                )  # fmt: skip
            else:
                layer.selected_data = set()
                layer.data = positions
                layer.features = features
                layer.size = diameter
            self._listen(layer)
            self._show_near(diameter)

    def _show_near(self, diameter: float) -> None:
        """Let the section that is shown take in the particles that it cuts, by napari's margins."""
        dims = self._viewer.dims
        margin = [max(m, diameter / 2) if k >= dims.ndim - 3 else m for k, m in enumerate(dims.margin_left)]
        dims.margin_left = dims.margin_right = margin

    def _listen(self, layer: Any) -> None:
        layer.selected_data.events.items_changed.connect(self._on_selected)

    def resize(self, diameter: float) -> None:
        """Draw particles of this diameter, in Angstrom."""
        if self.points is not None:
            self.points.size = diameter
            self._show_near(diameter)

    def colour(self, labels: Ints, selected: NDArray[np.bool_]) -> None:
        """Colour points by group; an outline for those that are selected.

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
        width = np.full(len(labels), 0.06)
        width[chosen] = 0.16
        with self._silent():
            layer.border_color, layer.face_color, layer.border_width = border, face, width
            features = layer.features.copy()
            features["group"], features["selected"] = labels, selected
            layer.features = features

    def go_to(self, particle: int) -> None:
        """Bring a particle into view, if it is in the tomogram that is shown."""
        layer = self.points
        at = np.flatnonzero(self._ids == particle)
        if layer is None or not len(at):
            return
        place = layer.data_to_world(layer.data[at[0]])
        for axis, value in zip(self._viewer.dims.order, np.asarray(place)[list(self._viewer.dims.order)], strict=True):
            if axis not in self._viewer.dims.displayed:
                self._viewer.dims.set_point(axis, float(value))
        self._viewer.camera.center = tuple(place)

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
        return [
            layer for layer in self._viewer.layers
            if any(str(unit) == "pixel" for unit in layer.units[-3:]) and layer.ndim >= 3
        ]  # fmt: skip

    def adopt_units(self) -> None:
        """Give those layers Angstrom as their unit, their scale as it is."""
        for layer in self.without_units():
            layer.units = (*layer.units[:-3], *(UNITS,) * 3)

    def _on_selected(self) -> None:
        layer = self.points
        if self._quiet or layer is None:
            return
        rows = np.array(sorted(layer.selected_data), np.int64)
        rows = rows[rows < len(self._ids)]
        if len(rows):
            self._selected(self._ids[rows])

    @contextmanager
    def _silent(self) -> Generator[None]:
        """Change layers without taking it for the user's doing."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before
