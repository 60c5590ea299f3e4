"""Particles that several tests share."""

from __future__ import annotations

import pytest
from molecules import Sample, sample


@pytest.fixture(scope="session")
def clear() -> Sample:
    """Forty particles, signal to noise ratio 1."""
    return sample(40, noise=1.0)
