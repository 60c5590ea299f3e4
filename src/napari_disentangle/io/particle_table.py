"""The rows of a particle list, with what their optics groups say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix
from napari_disentangle.io.tomograms import tomogram_block

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.io.star import Block, StarFile

    Floats = NDArray[np.float64]

IMAGE = "rlnImageName"
CORNER = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
FRAME = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
ORIGIN_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")


def particle_block(star: StarFile) -> Block:
    """Return the block of a STAR file that lists particles.

    Raises
    ------
    InputError
        There is none, it is empty, or its columns are not enough to find a particle.
    """
    named = [b for b in star.blocks if b.name == "particles" and b.columns]
    likely = [b for b in star.blocks if {IMAGE, *CORNER, *CENTRED} & set(b.columns)]
    if not named and not likely:
        if tomogram_block(star) is not None:
            raise InputError(
                f"{star.path} is a list of tomograms, not of particles; give the particle list and --tomograms {star.path}."
            )
        raise InputError(
            f"{star.path} has no block of particles: no data_particles, and no _rlnImageName, _rlnCoordinateX or "
            "_rlnCenteredCoordinateXAngst in any block."
        )
    block = (named or likely)[0]
    if IMAGE not in block and not any(set(kind) <= set(block.columns) for kind in (CORNER, CENTRED)):
        kind = CENTRED if set(CENTRED) & set(block.columns) else CORNER
        lacking = ", ".join(f"_{c}" for c in kind if c not in block)
        raise InputError(
            f"{star.path} has no _rlnImageName, and its coordinates lack {lacking}; export the list again with them."
        )
    if not len(block):
        raise InputError(f"{star.path} has no particles: its list is empty; give one with at least one row.")
    return block


@dataclass(frozen=True)
class ParticleTable:
    """A particle list as a table; columns of the optics groups count as columns of the particles."""

    path: Path
    text: str
    block: Block
    optics: Block | None = None
    general: Block | None = None

    @classmethod
    def of(cls, star: StarFile, path: Path) -> ParticleTable:
        """Return the table of a STAR file's particles. Errors as `particle_block`."""
        block = particle_block(star)
        optics = next((b for b in star.blocks if b.name == "optics" and len(b)), None)
        general = next((b for b in star.blocks if b.name == "general" and b.columns), None)
        return cls(path, star.text, block, optics, general)

    def __len__(self) -> int:
        return len(self.block)

    def has(self, *columns: str) -> bool:
        """Return whether the rows have all these columns."""
        return all(c in self.block for c in columns)

    def vectors(self, columns: tuple[str, str, str]) -> Floats | None:
        """Return three columns as (n, 3), a missing third as zeros; None where the first two are not both there."""
        if not self.has(*columns[:2]):
            return None
        return np.stack([self.block.numbers(c) if c in self.block else np.zeros(len(self)) for c in columns], axis=-1)

    def rotations(self, columns: tuple[str, str, str]) -> Floats | None:
        """Return the matrices (n, 3, 3) of rot, tilt and psi, or None unless all three are there."""
        angles = self.vectors(columns) if self.has(*columns) else None
        return None if angles is None else euler_to_matrix(angles)

    def number(self, column: str) -> Floats | None:
        """Return a column of the rows or of their optics groups, (n,); None where there is none."""
        if column in self.block:
            return self.block.numbers(column)
        if self.optics is None or column not in self.optics:
            return None
        return self.optics.numbers(column)[self._group()]

    def size(self, column: str) -> Floats | None:
        """Return a column of sizes; None where there is none, or where one of them is 0 or negative."""
        values = self.number(column)
        return None if values is None or (values <= 0).any() else values

    def setting(self, column: str) -> int | None:
        """Return a whole number that holds for the list: of ``data_general``, or one that all optics groups share."""
        for block in (self.general, self.optics):
            if block is not None and column in block and len(block):
                values = set(block.numbers(column))
                return int(values.pop()) if len(values) == 1 else None
        return None

    def _group(self) -> NDArray[np.int64]:
        """Return the row of the optics table of each particle."""
        assert self.optics is not None
        if "rlnOpticsGroup" not in self.block or "rlnOpticsGroup" not in self.optics:
            if len(self.optics) > 1:
                raise InputError(
                    f"{self.path} has {len(self.optics)} optics groups, and no _rlnOpticsGroup says which particle is in which."
                )
            return np.zeros(len(self), np.int64)
        rows = {int(group): k for k, group in enumerate(self.optics.numbers("rlnOpticsGroup"))}
        groups = self.block.numbers("rlnOpticsGroup")
        for row, group in enumerate(groups):
            if int(group) not in rows:
                raise InputError(
                    f"{self.path} has optics group {int(group)} in row {row + 1}, which data_optics does not list."
                )
        return np.array([rows[int(group)] for group in groups], dtype=np.int64)
