"""Pictures of what a trained model decodes: transfers between particles, and traversals of its codes."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.io.atomic import new_file
from napari_disentangle.models import model_info

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.metrics import Truth
    from napari_disentangle.models.base import Codes
    from napari_disentangle.models.module import DisentanglingModel
    from napari_disentangle.run import Run
    from napari_disentangle.training.inputs import Inputs

    Picture = NDArray[np.float32]

SHOWN = 6
"""Particles of a transfer grid."""
READ = 64
"""Particles that are read for it; their grey values set the scale."""
STEPS = np.linspace(-2, 2, 7)
"""Of a traversal, in standard deviations from the mean."""
MOST_DIMENSIONS = 24
"""Of a code that are traversed."""
TURN = 30.0
"""Degrees of a step of a traversed pose."""
PIXELS = 64
"""Of a particle in a picture, about."""


def draw_pictures(run: Run, truth: Truth | None, folder: Path, name: str) -> tuple[str, ...]:
    """Write ``NAME-transfer.png`` and ``NAME-traversal.png`` and return their names; none for a model without decoder.

    A model with one code has nothing to transfer. Volumes are shown by their central section along z. An explicit
    transformation is applied; a transformation code is decoded in the canonical pose. A traversed pose turns about each
    axis and shifts along it.
    """
    from napari_disentangle.training import load_model
    from napari_disentangle.training.inputs import read_inputs, with_poses

    if not model_info(run.recipe.model.name).decodes:
        return ()
    model, geometry, _ = load_model(run)
    codes, everything = run.codes(), run.particles()
    size = geometry.fine if run.recipe.training.fine_epochs else geometry.coarse
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(codes.ids))[:READ])
    some = codes.ids[rows]
    inputs = read_inputs(everything.subset(everything.rows_of(some)), run.recipe, scale=run.scale(some))
    if codes.pose is not None:
        inputs = with_poses(inputs, codes.pose.subset(rows))
    written: list[str] = []
    if codes.transform.shape[1]:
        shown = _spread(codes.ids[rows], truth)
        written.append(f"{name}-transfer.png")
        _write(folder / written[-1], *_transfer(model, inputs, codes, rows, shown, size))
    written.append(f"{name}-traversal.png")
    _write(folder / written[-1], *_traversal(model, codes, size, geometry.edge))
    return tuple(written)


def _spread(ids: NDArray[np.int64], truth: Truth | None) -> NDArray[np.int64]:
    """Return places in `ids` of particles to show, of as many identities as there are."""
    if truth is None:
        return np.arange(min(SHOWN, len(ids)))
    names = {int(i): str(name) for i, name in zip(truth.ids, truth.identity, strict=True)}
    seen: dict[str, int] = {}
    turn: list[tuple[int, int]] = []
    for place, one in enumerate(ids):
        name = names.get(int(one), "")
        turn.append((seen.get(name, 0), place))
        seen[name] = seen.get(name, 0) + 1
    return np.array([place for _, place in sorted(turn)[:SHOWN]])


def _transfer(
    model: DisentanglingModel,
    inputs: Inputs,
    codes: Codes,
    rows: NDArray[np.int64],
    shown: NDArray[np.int64],
    size: int,
) -> tuple[list[list[Picture | None]], list[str], list[str], str]:
    """Rows: the content of a particle; columns: the transformation of another. Particles stand at the edges."""
    import torch

    from napari_disentangle.models.base import Encoding

    given = inputs.batch(shown, size, "cpu")
    k = len(shown)
    of_content, of_transform = np.repeat(np.arange(k), k), np.tile(np.arange(k), k)
    content, transform = codes.content[rows[shown]][of_content], codes.transform[rows[shown]][of_transform]
    if model.explicit:
        batch = replace(inputs.batch(shown[of_transform], size, "cpu"), tilts=None, frames=None)
        pose = (None, None) if codes.pose is None else (batch.rotations, batch.shifts)
        with torch.no_grad():
            code = Encoding(_tensor(content), _tensor(transform), *pose)
            decoded = model.reconstruct(batch, code) * model.sphere(size)
    else:
        decoded = _decoded(model, content, transform, size)
    originals, made = _pictures(given.volumes, model.spec.dims), _pictures(decoded, model.spec.dims)
    grid: list[list[Picture | None]] = [[None, *originals]]
    grid.extend([originals[i], *made[i * k : (i + 1) * k]] for i in range(k))
    return grid, [], [], "row: whose content; column: whose transformation"


def _traversal(
    model: DisentanglingModel, codes: Codes, size: int, edge: float
) -> tuple[list[list[Picture | None]], list[str], list[str], str]:
    """Each dimension of the codes from -2 to 2 standard deviations, the others at their mean; `edge` in A."""
    import torch

    from napari_disentangle.training.encoding import placed_images

    posed = model.explicit and codes.pose is not None
    spaces = {"content": codes.content} | ({} if posed else {"transformation": codes.transform})
    middle = {name: values.mean(0) for name, values in spaces.items()}
    grid: list[list[Picture | None]] = []
    names: list[str] = []
    for space, values in spaces.items():
        deviation = values.std(0)
        for dimension in range(min(values.shape[1], MOST_DIMENSIONS)):
            codes_at = {name: np.tile(mean, (len(STEPS), 1)) for name, mean in middle.items()}
            codes_at[space][:, dimension] += STEPS * deviation[dimension]
            moved = codes_at.get("transformation", np.zeros((len(STEPS), codes.transform.shape[1])))
            content, transform = (np.asarray(part, dtype=np.float32) for part in (codes_at["content"], moved))
            if space == "transformation" and model.explicit:
                decoded = torch.as_tensor(placed_images(model, content, transform))
            else:
                decoded = _decoded(model, content, transform, size)
            grid.append([*_pictures(decoded, model.spec.dims)])
            names.append(f"{space.removesuffix('ation')} {dimension}")
    title = "standard deviations from the mean"
    if posed:
        for name, moved in _placed(model, codes, size, edge):
            grid.append([*_pictures(moved, model.spec.dims)])
            names.append(name)
        title += f", of turns {TURN:g} degrees each"
    return grid, names, [f"{step:+.1f}" for step in STEPS], title


def _placed(model: DisentanglingModel, codes: Codes, size: int, edge: float) -> Iterator[tuple[str, Tensor]]:
    """Yield the volume of the mean content turned about each axis, and shifted along it by parts of the offsets."""
    import torch

    from napari_disentangle.geometry import place_volumes, rotation_from_vector

    assert codes.pose is not None
    volume = _decoded(model, codes.content.mean(0, keepdims=True), codes.transform[:1], size)
    volumes, nowhere = volume.expand(len(STEPS), -1, -1, -1), torch.zeros(len(STEPS), 3)
    steps = _tensor(STEPS)[:, None] * torch.eye(3)[:, None]  # along x, y and z
    spread = codes.pose.offsets.std(0) / edge * size
    for name, along in zip("xyz", steps, strict=True):
        yield f"turn {name}", place_volumes(volumes, rotation_from_vector(along * np.radians(TURN)), nowhere)
    for name, along, length in zip("xyz", steps, spread, strict=True):
        yield f"shift {name}", place_volumes(volumes, rotation_from_vector(nowhere), along * float(length))


def _decoded(model: DisentanglingModel, content: NDArray[Any], transform: NDArray[Any], size: int) -> Tensor:
    """Return what codes (b, c) and (b, t) decode to, in the canonical pose, inside the soft sphere."""
    import torch

    with torch.no_grad():
        return model.decode(_tensor(content), _tensor(transform), size) * model.sphere(size)


def _tensor(values: NDArray[Any]) -> Tensor:
    import torch

    return torch.as_tensor(np.asarray(values, dtype=np.float32))


def _pictures(particles: Tensor, dims: int) -> list[Picture]:
    """Return (n, n) or (n, n, 3) of particles (b, ...); volumes are cut through their centre."""
    found = particles.numpy()
    if dims == 3:
        found = found[:, found.shape[1] // 2]
    elif found.ndim == 4:
        found = np.moveaxis(found, 1, -1)
    return list(found)


def _write(
    path: Path, grid: Sequence[Sequence[Picture | None]], rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Draw a grid of pictures on one grey scale, which 1 % of their pixels leave at either end."""
    from matplotlib.figure import Figure

    shapes = [picture.shape for line in grid for picture in line if picture is not None]
    n, colours = shapes[0][0], shapes[0][2:]
    pixels = np.concatenate([picture.ravel() for line in grid for picture in line if picture is not None])
    low, high = np.percentile(pixels, [1, 99])
    whole = np.ones((len(grid) * (n + 1) - 1, len(grid[0]) * (n + 1) - 1, *colours), np.float32)
    for i, line in enumerate(grid):
        for j, picture in enumerate(line):
            if picture is not None:
                at = (slice(i * (n + 1), i * (n + 1) + n), slice(j * (n + 1), j * (n + 1) + n))
                whole[at] = ((picture - low) / max(high - low, 1e-9)).clip(0, 1)
    inches = PIXELS / 100
    figure = Figure(figsize=(inches * len(grid[0]) + 1.2, inches * len(grid) + 0.7), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(whole, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks([i * (n + 1) + n / 2 for i in range(len(rows))], rows, fontsize=7)
    axes.set_xticks([j * (n + 1) + n / 2 for j in range(len(columns))], columns, fontsize=7)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel(title, fontsize=8)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, instead of what is there."""
    out = BytesIO()
    figure.savefig(out, format="png")
    with new_file(path, overwrite=True) as part:
        part.write_bytes(out.getvalue())
