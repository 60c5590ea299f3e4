"""What was understood of particles, in the words of the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_disentangle.io import Description


def headline(found: Description) -> str:
    """Return how many particles there are of what, in one line."""
    count = f"{found.particles or 0:,}"
    kinds = {
        "boxes": f"{count} particles in boxes of {' x '.join(str(n) for n in found.shape or ())} voxels",
        "images": f"{count} images of {' x '.join(str(n) for n in found.shape or ())} pixels",
        "positions": f"{count} particles in {len(found.tomograms)} tomogram{'s' if len(found.tomograms) != 1 else ''}",
        "list": f"{count} particles, but not their boxes",
    }
    return kinds.get(found.kind, found.kind)


def details(found: Description) -> str:
    """Return sizes, tilts, poses and half-sets, in one line."""
    sizes = {t.voxel_size for t in found.tomograms if t.voxel_size} if found.voxel_size is None else {found.voxel_size}
    parts = [f"{', '.join(f'{size:g}' for size in sorted(sizes))} Å voxels" if sizes else "voxel size: not known"]
    tilts = {t.tilt_range for t in found.tomograms if t.tilt_range} | (
        {found.tilt_range} if found.tilt_range else set()
    )
    if tilts:
        low, high = min(t[0] for t in tilts), max(t[1] for t in tilts)
        parts.append(f"tilts {low:g} to {high:g}°")
    parts.append(f"poses: {'yes' if found.poses else 'no'}")
    halves = "no" if found.halves is None else f"{found.halves[0]:,} and {found.halves[1]:,}"
    parts.append(f"half-sets: {halves}")
    return "; ".join(parts)
