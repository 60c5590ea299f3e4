"""The training in napari's activity dock, where users look for what takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils import progress
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication, QLabel

if TYPE_CHECKING:
    from napari_disentangle.gui.trainer import Trainer

STEPS = 100
"""Of the bar: it is painted anew only when a whole per cent more is done."""


class Activity(QObject):
    """A bar in the activity dock while a run trains.

    Parameters
    ----------
    trainer : Trainer
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self._trainer = trainer
        self._bar: Any = None
        trainer.events.connect(self._advance)
        trainer.changed.connect(self._look)

    def _advance(self, events: list[dict[str, Any]]) -> None:
        told = [event for event in events if event.get("steps")]
        if not told or not self._trainer.active or self._trainer.run is None:
            return
        if self._bar is None:
            self._bar = progress(total=STEPS, desc=f"training {self._trainer.run.path.name}")
            _calm_spinner()
        done = STEPS * told[-1]["step"] // told[-1]["steps"]
        if done > self._bar.n:
            self._bar.update(done - self._bar.n)

    def _look(self) -> None:
        if not self._trainer.active:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


def _calm_spinner() -> None:
    """Let napari's spinner stand still, until the next bar starts it.

    Its 32 pictures a second are each a painting of the whole window: without a graphics card half a core for as long as
    a training takes, and a window that answers late.
    """
    for window in QApplication.topLevelWidgets():
        for label in window.findChildren(QLabel):
            if movie := label.movie():
                movie.setPaused(True)
