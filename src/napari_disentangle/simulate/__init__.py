"""Labelled particles, as a stack or in a tomogram, simulated from density maps."""

from napari_disentangle.simulate.stack import SimulatedStack, simulate_stack
from napari_disentangle.simulate.tomogram import SimulatedTomogram, simulate_tomogram

__all__ = ["SimulatedStack", "SimulatedTomogram", "simulate_stack", "simulate_tomogram"]
