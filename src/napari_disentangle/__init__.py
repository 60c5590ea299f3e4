"""Pull apart noisy particles of cryo-electron tomography, without labels."""

__version__ = "0.1.0"
