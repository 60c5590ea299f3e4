"""Write some rows of a particle list as they were, token for token, and nothing that was not checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io import csv_list
from napari_disentangle.io.atomic import check_new_file, new_file, read_text, write_text
from napari_disentangle.io.particle_table import IMAGE, particle_block
from napari_disentangle.io.relion import SET_OF_PARTICLES, SET_OF_TOMOGRAMS, optimisation_set
from napari_disentangle.io.star import Block, StarFile, quote, split_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.particles import ParticleSet

    Ints = NDArray[np.int64]
    Columns = Mapping[str, Sequence[str]]


def write_subset(
    particles: ParticleSet,
    ids: Iterable[int],
    out: Path,
    *,
    columns: Columns | None = None,
    overwrite: bool = False,
) -> None:
    """Write the rows `ids` of the original list, in its order, and compare what was written with the original.

    All blocks, columns, comments and spaces stay; names of images stay relative to the project folder. A bare stack has
    no list: its boxes are named by a new one in the style of RELION 3.1.

    Parameters
    ----------
    particles : ParticleSet
    ids : iterable of int
        Rows of the original list, counted from 0. Written in the order of the list, each once.
    out : Path
        STAR file, or CSV where the original is one.
    columns : mapping, optional
        Label without underscore -> a value as text for each of the ids in ascending order; appended to the rows.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        No particles, ids that the list does not have, a column that it has already, an output that exists, or a written
        file that does not hold the original rows.
    """
    check_new_file(out, overwrite=overwrite)
    wanted = np.unique(np.fromiter(ids, dtype=np.int64))
    if not len(wanted):
        raise InputError(f"There are no particles to write to {out}; choose at least one.")
    added = dict(columns or {})
    for label, values in added.items():
        if len(values) != len(wanted):
            raise ValueError(f"{len(values)} values of {label} for {len(wanted)} particles")
    original = _Rows.of(particles)
    if wanted[0] < 0 or wanted[-1] >= len(original):
        raise InputError(
            f"{original.path} has {len(original)} rows, and particle {wanted[-1] if wanted[0] >= 0 else wanted[0]} is not one."
        )
    with new_file(out, overwrite=overwrite) as part:
        write_text(part, original.text_of(wanted, added), overwrite=True)
        _verify(original, _Rows.parse(read_text(part), original.path, csv=original.csv), wanted, added, out)


def write_optimisation_set(out: Path, particles: ParticleSet, particles_star: Path, *, overwrite: bool = False) -> bool:
    """Write the optimisation set of a subset: that of the original with another particle list.

    Parameters
    ----------
    out : Path
    particles : ParticleSet
        That the subset was taken from.
    particles_star : Path
        The subset, named relative to the project folder where it lies in it.

    Returns
    -------
    bool
        False, and nothing is written, where the original came neither from an optimisation set nor with a table of
        tomograms.
    """
    listed = _in_project(particles_star, particles.project)
    if particles.optimisation_set is not None and particles.optimisation_set.is_file():
        star = StarFile.read(particles.optimisation_set)
        names = optimisation_set(star) or {}
        block = next(b for b in star.blocks if SET_OF_PARTICLES in b)
        lines = split_lines(star.text)
        start, end = block.spans[block.columns.index(SET_OF_PARTICLES) if not block.loop else 0]
        row = "".join(lines[start:end])
        old = names[SET_OF_PARTICLES]
        at = row.rindex(old) if not block.loop else row.index(old)
        lines[start:end] = [_replaced(row, at, old, quote(listed))]
        text = "".join(lines)
    elif particles.tomograms_file is not None:
        tomograms = _in_project(particles.tomograms_file, particles.project)
        text = f"# version 50001\n\ndata_\n\n_{SET_OF_PARTICLES}   {quote(listed)}\n_{SET_OF_TOMOGRAMS}   {quote(tomograms)}\n"
    else:
        return False
    if (optimisation_set(StarFile.parse(text, out)) or {}).get(SET_OF_PARTICLES) != listed:
        raise InputError(
            f"{particles.optimisation_set} could not be rewritten for {particles_star}; write the optimisation set by hand."
        )
    write_text(out, text, overwrite=overwrite)
    return True


def _replaced(row: str, at: int, old: str, new: str) -> str:
    """Replace a value, with its quotes if it has any."""
    before, after = row[:at], row[at + len(old) :]
    if before[-1:] in ("'", '"') and after[:1] == before[-1:]:
        before, after = before[:-1], after[1:]
    return before + new + after


def _in_project(path: Path, project: Path | None) -> str:
    """Return a path as RELION wants it: relative to the project folder, absolute where it lies elsewhere."""
    absolute = path.absolute()
    if project is not None and absolute.resolve().is_relative_to(project.resolve()):
        return absolute.resolve().relative_to(project.resolve()).as_posix()
    return absolute.as_posix()


def count_original(particles: ParticleSet) -> int:
    """Return how many rows the original list has, or how many boxes a bare stack."""
    return len(_Rows.of(particles))


class _Rows:
    """The rows of an original list and the text around them."""

    def __init__(self, text: str, path: Path, block: Block, *, csv: bool) -> None:
        self.text, self.path, self.block, self.csv = text, path, block, csv

    @classmethod
    def of(cls, particles: ParticleSet) -> _Rows:
        path = particles.original or particles.path
        if particles.text is not None:
            return cls.parse(particles.text, path, csv=csv_list.is_csv(path))
        return cls.parse(_list_of_stack(particles), path, csv=False)

    @classmethod
    def parse(cls, text: str, path: Path, *, csv: bool) -> _Rows:
        if csv:
            return cls(text, path, csv_list.parse_csv(text, path).block, csv=True)
        return cls(text, path, particle_block(StarFile.parse(text, path)), csv=False)

    def __len__(self) -> int:
        return len(self.block)

    def text_of(self, rows: Ints, columns: Columns) -> str:
        """Return the text with only some rows (ascending), and columns appended."""
        if self.csv:
            for label in columns:
                if csv_list.label_of(label) in self.block.columns:
                    raise InputError(f"{self.path} has a column {label} already; it is not replaced.")
            return csv_list.with_rows(
                self.text, self.path, set(rows.tolist()), {k: list(v) for k, v in columns.items()}
            )
        star = StarFile.parse(self.text, self.path).with_rows(self.block, rows.tolist())
        return star.with_columns(particle_block(star), columns).text if columns else star.text


def _verify(original: _Rows, written: _Rows, rows: Ints, columns: Columns, out: Path) -> None:
    """Compare every value of what was written with the original's."""
    expected = [original.block.rows[k] for k in rows]
    expected = [[*row, *(v[k] for v in columns.values())] for k, row in enumerate(expected)]
    labels = [csv_list.label_of(c) if original.csv else c for c in columns]
    if written.block.rows != expected or written.block.columns != [*original.block.columns, *labels]:
        raise InputError(
            f"{out} would not hold the original rows of {original.path} and was not written; report this as a bug."
        )


def _list_of_stack(particles: ParticleSet) -> str:
    """Return a list in the style of RELION 3.1 that names every section of a bare stack."""
    from napari_disentangle.io.mrc import MrcVolumes
    from napari_disentangle.particles import InvertedVolumes

    volumes = particles.volumes
    while isinstance(volumes, InvertedVolumes):
        volumes = volumes.of
    if not isinstance(volumes, MrcVolumes) or particles.voxel_size is None:
        raise InputError(
            f"{particles.path} has no particle list and no stack with a voxel size that a new list could name."
        )
    header = volumes.files[0]
    optics = {
        "rlnOpticsGroup": "1",
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnImagePixelSize": f"{particles.voxel_size:.6f}",
        "rlnImageSize": str(header.box[-1]),
        "rlnImageDimensionality": str(len(header.box)),
    }
    labels = "".join(f"_{label} #{k}\n" for k, label in enumerate(optics, 1))
    rows = "".join(f"{quote(f'{k + 1:06d}@{header.path.absolute()}')} 1\n" for k in range(header.count))
    return (
        f"# version 30001\n\ndata_optics\n\nloop_\n{labels}{' '.join(optics.values())}\n\n"
        f"# version 30001\n\ndata_particles\n\nloop_\n_{IMAGE} #1\n_rlnOpticsGroup #2\n{rows}\n"
    )
