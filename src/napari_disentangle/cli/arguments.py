"""Arguments that several commands share, with the help text that belongs to each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import Token


def _range(_type: object, tokens: Sequence[Token]) -> tuple[float, float]:
    words = tokens[0].value.split(",")
    try:
        low, high = (float(word) for word in words)
    except ValueError:
        raise ValueError("two angles in degrees with a comma between them, for example -60,60") from None
    if not -90 <= low < high <= 90:
        raise ValueError("the lower angle first, both between -90 and 90 degrees, for example -60,60")
    return low, high


def _size(_type: object, tokens: Sequence[Token]) -> tuple[int, int, int]:
    try:
        z, y, x = (int(word) for word in tokens[0].value.split(","))
    except ValueError:
        raise ValueError("three whole numbers of voxels with commas between them, for example 96,256,256") from None
    return z, y, x


Angstrom = Parameter(metavar="ANGSTROM")
TiltRange = Annotated[
    tuple[float, float] | None,
    Parameter(converter=_range, n_tokens=1, allow_leading_hyphen=True, metavar="LOW,HIGH"),
]
Size = Annotated[tuple[int, int, int], Parameter(converter=_size, n_tokens=1, metavar="Z,Y,X")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON, with a schema version, and nothing else.")]
Overwrite = Annotated[bool, Parameter(help="Replace what is there; without it nothing is overwritten.")]
Seed = Annotated[int, Parameter(help="Seed of everything random.")]
SelectionName = Annotated[str, Parameter(metavar="NAME", help="A selection of the run, such as A/0.")]
Space = Literal["content", "transform", "invariants"]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    Parameter(help="Where to compute; one that was named and is not there is an error, never silently the CPU."),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """What files do not say about particles, or say wrongly.

    Parameters
    ----------
    tomograms
        RELION's tomograms.star of the tomograms that the particles were picked in.
    tomogram
        The one tomogram that all particles were picked in.
    voxel_size
        Voxel size of the tomograms, or of the boxes where no tomogram is given, in Angstrom.
    tilt_range
        Lowest and highest tilt in degrees, such as -60,60, of all particles.
    size_from
        Which size of a tomogram to believe where its list and its volume disagree; without it they are refused.
    coordinate_pixel
        What coordinates count in, in Angstrom, where the list does not say or is wrong (Warp).
    """

    tomograms: Annotated[Path | None, Parameter(metavar="STAR")] = None
    tomogram: Annotated[Path | None, Parameter(metavar="MRC")] = None
    voxel_size: Annotated[float | None, Angstrom] = None
    tilt_range: TiltRange = None
    size_from: Literal["star", "volume"] | None = None
    coordinate_pixel: Annotated[float | None, Angstrom] = None

    def keywords(self) -> dict[str, Any]:
        """Return them as the keyword arguments of `io.read_particles` and `io.describe`."""
        return asdict(self)


AS_FILES_SAY = Reading()
