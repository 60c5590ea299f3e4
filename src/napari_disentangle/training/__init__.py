"""Training: a run folder in, events, checkpoints and codes out."""

from __future__ import annotations

from napari_disentangle.training.encoding import decode, encode_particles, load_model
from napari_disentangle.training.fit import Progress, fit
from napari_disentangle.training.prepare import prepare

__all__ = ["Progress", "decode", "encode_particles", "fit", "load_model", "prepare"]
