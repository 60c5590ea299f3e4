"""Labels and codes whose scores are known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_disentangle.geometry import random_rotations
from napari_disentangle.metrics import Truth

IDENTITIES = ("groel-groes", "nucleosome", "spike")
EACH = 40


@pytest.fixture(scope="session")
def truth() -> Truth:
    """Three identities of two states each; ids are neither ordered nor without gaps."""
    rng = np.random.default_rng(0)
    n = EACH * len(IDENTITIES)
    return Truth(
        path=Path("truth.csv"),
        ids=rng.permutation(3 * n)[:n],
        identity=np.repeat(IDENTITIES, EACH),
        state=np.tile(["open", "closed"], n // 2),
        rotations=random_rotations(n, rng),
        shifts=rng.uniform(-2, 2, (n, 3)),
    )
