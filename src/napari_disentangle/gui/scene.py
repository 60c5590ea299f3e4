"""What vispy draws of a latent map, for as long as one GL context lives."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import vispy.app
import vispy.scene
from qtpy import API_NAME
from qtpy.QtCore import Qt
from vispy.geometry import Rect
from vispy.visuals.transforms import STTransform

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qtpy.QtWidgets import QWidget

vispy.app.use_app(API_NAME)

BINS = 256
"""Per axis of the density image."""
DPI = 96.0
"""Of a canvas, whose text alone would heed it, and ours has none: vispy would start xdpyinfo to ask for it."""


@contextmanager
def reported() -> Generator[None]:
    """Tell an error to sys.excepthook, where napari listens: past a slot PyQt would abort, and vispy only logs it."""
    try:
        yield
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)


class Camera:
    """Looks at a rectangle, a unit as long across as up, at a third of what vispy's ViewBox and its camera cost.

    Parameters
    ----------
    canvas : SceneCanvas
    node : Node
        What is looked at; its transform is this camera's.
    """

    def __init__(self, canvas: Any, node: Any) -> None:
        self._canvas, self._rect = canvas, Rect(-1.0, -1.0, 2.0, 2.0)
        node.transform = self._transform = STTransform()
        canvas.events.resize.connect(self._fit)
        self._fit()

    @property
    def rect(self) -> Any:
        """The rectangle that is seen, and more of one direction where the canvas is longer in it; y upwards."""
        return Rect(self._rect)

    @rect.setter
    def rect(self, rect: Any) -> None:
        self._rect = Rect(rect)
        self._fit()

    def _fit(self, event: Any = None) -> None:
        del event
        width, height = (max(side, 1) for side in self._canvas.size)
        zoom = min(width / self._rect.width, height / self._rect.height)
        x, y = self._rect.center
        self._transform.scale = (zoom, -zoom)
        self._transform.translate = (width / 2 - zoom * x, height / 2 + zoom * y)


class Scene:
    """What vispy draws: a canvas, its camera and three visuals, for as long as one GL context lives.

    Qt throws a widget's context away with the window it was made in, as when a dock is pulled out of napari's. What
    vispy had sent to it is gone then, `when_lost` is called, and a new scene is needed.
    """

    def __init__(self, parent: QWidget, when_lost: Callable[[], None]) -> None:
        self.canvas: Any = vispy.scene.SceneCanvas(keys=None, parent=parent, dpi=DPI)
        self.native: QWidget = self.canvas.native
        self.native.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.native.setMouseTracking(True)
        map_ = vispy.scene.Node(parent=self.canvas.scene)
        self.camera = Camera(self.canvas, map_)
        visuals = vispy.scene.visuals
        empty = np.zeros((BINS, BINS, 4), np.uint8)
        self.density: Any = visuals.Image(empty, interpolation="linear", parent=map_)
        self.markers: Any = visuals.Markers(antialias=0, parent=map_)
        self.outlined: Any = visuals.Markers(antialias=0, parent=map_)
        for order, visual in enumerate((self.density, self.markers, self.outlined)):
            visual.order, visual.visible = order, False
            visual.set_gl_state("translucent", depth_test=False)
        self._contexts, self._when_lost = 0, when_lost
        self.canvas.events.initialize.connect(self._begin)
        # vispy logs what a callback raises, and goes on.
        self.canvas.events.draw.disconnect(self.canvas.on_draw)
        self.canvas.events.draw.connect(self._draw)

    def _begin(self, event: Any) -> None:  # noqa: ARG002 (vispy's signature)
        self._contexts += 1
        if self._contexts > 1:
            self._when_lost()

    def _draw(self, event: Any) -> None:
        with reported():
            if self._contexts == 1:
                self.canvas.on_draw(event)

    def close(self) -> None:
        """Free the widget; not by vispy's own close, which runs the event loop in the middle of whatever closes us."""
        self.canvas.events.draw.disconnect(self._draw)
        self.native.hide()
        self.native.deleteLater()
