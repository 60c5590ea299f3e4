"""What the window asks for that needs torch, numba or minutes: done in one warm helper process, never in napari's.

``python -m napari_disentangle.tasks`` reads requests from standard input, a JSON object a line,
``{"id", "task", "with"}``, and answers on standard output with ``{"id", "told": [stage, fraction]}`` while it works and
then ``{"id", "result"}``, ``{"id", "error"}`` (a sentence for people) or ``{"id", "bug"}`` (a traceback). Quick tasks
do not wait for long ones. It ends when its standard input is closed, so that it never outlives napari. Results are
small, or files, most of them of the run folder.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.errors import InputError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_disentangle.models.module import DisentanglingModel
    from napari_disentangle.stages import Mode
    from napari_disentangle.training.device import DeviceName
    from napari_disentangle.training.inputs import Geometry

    Tell = Callable[[str, float], None]


def warm(tell: Tell) -> dict[str, Any]:
    """Import what the first click would otherwise wait for; return the process id and where training would run."""
    from napari_disentangle.training.device import choose_device

    del tell
    device, words = choose_device("auto")
    threading.Thread(target=_warm_umap, daemon=True).start()
    return {"pid": os.getpid(), "device": device, "words": words}


def _warm_umap() -> None:
    """Have UMAP compiled before the first map is asked for; that takes longer than the map."""
    from napari_disentangle.embedding import embed

    embed(np.random.default_rng(0).standard_normal((40, 3)), method="umap")


def cut_boxes(
    tell: Tell, particles: str, reading: Mapping[str, Any], out: str, box: int, bin: float, invert: bool
) -> dict[str, Any]:
    """Extract boxes into a folder; particles whose box reaches over an edge are left out and counted."""
    from napari_disentangle.io import read_particles
    from napari_disentangle.io.extract import extract

    found = read_particles(Path(particles), **_reading(reading))
    record = extract(
        found, Path(out), box=box, bin=bin, invert=invert, edge="skip",
        progress=lambda done, total: tell("cutting boxes", done / total),
    )  # fmt: skip
    return {"boxes": out, "count": len(record.ids), "left_out": len(record.dropped), "notes": list(record.notes)}


def make_run(
    tell: Tell, particles: str, out: str, preset: str, settings: Sequence[str], reading: Mapping[str, Any], invert: bool,
    selection: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make a run that is ready to train, and its map of invariants, which is there to look at while training starts."""
    from napari_disentangle.stages import embed_run
    from napari_disentangle.training import prepare

    tell("checking boxes", 0.0)
    run = prepare(
        Path(particles), Path(out), preset=preset, settings=settings, selection=selection, reading=_reading(reading),
        invert=invert,
    )  # fmt: skip
    tell("mapping invariants", 0.5)
    embed_run(run, "invariants", method="pca")
    return {"run": out}


def estimate(
    tell: Tell,
    particles: str,
    preset: str,
    settings: Sequence[str],
    reading: Mapping[str, Any],
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Return how long training would take and what memory it would need, from timed steps."""
    from napari_disentangle.training.estimate import estimate_training

    tell("timing a few steps", 0.0)
    found = estimate_training(
        Path(particles), preset=preset, settings=settings, reading=_reading(reading), device=device
    )
    return {"seconds": found.seconds, "memory_gb": found.memory_gb, "particles": found.particles, "words": found.words}


def map_codes(tell: Tell, run: str, on: str, method: str) -> dict[str, Any]:
    """Map the codes of a run."""
    from napari_disentangle.run import Run
    from napari_disentangle.stages import embed_run

    tell(f"mapping {on}", 0.0)
    return {"embedding": str(embed_run(Run.open(Path(run)), on, method=method))}  # pyright: ignore[reportArgumentType]


def group(
    tell: Tell, run: str, on: str, name: str, method: str = "gmm", k: int | None = None, within: str | None = None
) -> dict[str, Any]:
    """Group the particles of a run by their codes; without `k`, into as many groups as describe them best."""
    from napari_disentangle.clustering import suggest_count
    from napari_disentangle.run import Run
    from napari_disentangle.stages import cluster_run, space_of

    opened = Run.open(Path(run))
    tell("grouping", 0.0)
    if k is None:
        values = space_of(opened, on, within=within).values  # pyright: ignore[reportArgumentType]
        k = suggest_count(values, most=6)
    groups = cluster_run(opened, on, k=k, name=name, method=method, within=within)  # pyright: ignore[reportArgumentType]
    return {"names": [one.name for one in groups]}


def average(
    tell: Tell, run: str, selection: str, ids: Sequence[int], mode: Mode | None, rounds: int = 3, starts: int = 3
) -> dict[str, Any]:
    """Average particles of a run under a selection's name, whatever the folder has by that name."""
    from napari_disentangle.run import Run
    from napari_disentangle.selection import Selection
    from napari_disentangle.stages import average_selection
    from napari_disentangle.training.device import choose_device

    opened = Run.open(Path(run))
    average_selection(
        opened, Selection(selection, np.array(ids, np.int64)), mode=mode, rounds=rounds, starts=starts, device=choose_device("auto")[0],
        progress=tell,
    )  # fmt: skip  # pyright: ignore[reportArgumentType]
    return {"folder": str(opened.average_folder(selection))}


def compare(tell: Tell, run: str, selection: str, map: str, out: str) -> dict[str, Any]:
    """Turn and shift a map onto the average of a selection.

    `out` becomes an .npz: volume (n, n, n), frequency (k,) and fsc (k,).
    """
    from napari_disentangle.averaging import compare as compared
    from napari_disentangle.export import read_average
    from napari_disentangle.run import Run

    tell(f"comparing with {Path(map).name}", 0.0)
    opened = Run.open(Path(run))
    average = read_average(opened.average_folder(selection))
    diameter = opened.recipe.pose.diameter
    found = compared(average.volume, average.record.voxel_size, Path(map), diameter=diameter)
    _save(out, volume=found.volume, frequency=found.frequency, fsc=found.fsc)
    return {"file": out, "correlation": found.correlation, "resolution": found.resolution_A}


def reconstruct(tell: Tell, run: str, ids: Sequence[int], out: str) -> dict[str, Any]:
    """Write what the model makes of some particles, each turned and shifted as it lies in its box.

    `out` becomes an .npz: ids (k,), volumes (k, m, m, m), canonical (k, m, m, m), voxel_size in Angstrom.
    """
    import torch

    from napari_disentangle.geometry import place_volumes
    from napari_disentangle.run import Run
    from napari_disentangle.training.encoding import decode_with, placed_images

    tell("decoding", 0.0)
    opened = Run.open(Path(run))
    codes = opened.codes()
    at = np.concatenate([np.flatnonzero(codes.ids == i) for i in ids]) if len(ids) else np.zeros(0, np.int64)
    if not len(at):
        raise InputError(f"{run}: none of these particles was trained on, so the model has nothing to say of them.")
    model, geometry = _model(run, codes.fingerprint)
    volumes, voxel = decode_with(model, geometry, opened.recipe, codes.content[at], codes.transform[at])
    placed = volumes
    if codes.pose is not None:
        turns = torch.as_tensor(codes.pose.rotations[at], dtype=torch.float32)
        moves = torch.as_tensor(codes.pose.offsets[at] / voxel, dtype=torch.float32)
        placed = place_volumes(torch.as_tensor(volumes), turns, moves).numpy()
    elif model.explicit:
        placed = placed_images(model, codes.content[at], codes.transform[at])
    if geometry.channels > 1:  # grey, as the particles beside them
        volumes, placed = volumes.mean(1), placed.mean(1)
    _save(out, ids=codes.ids[at], volumes=placed, canonical=volumes, voxel_size=np.array(voxel))
    return {"file": out, "fingerprint": codes.fingerprint}


def learnt(tell: Tell, run: str, groups: str) -> dict[str, Any]:
    """Say in words what a training has learnt, and what is suspicious about it."""
    from napari_disentangle.learnt import learnt_in_words
    from napari_disentangle.run import Run

    tell("looking at what was learnt", 0.0)
    words, doubts = learnt_in_words(Run.open(Path(run)), groups)
    return {"words": words, "doubts": doubts}


def _save(out: str, **arrays: Any) -> None:
    """Write an .npz, whole or not at all."""
    part = Path(out).with_suffix(".part.npz")
    np.savez(part, **arrays)
    os.replace(part, out)


@lru_cache(maxsize=2)
def _model(run: str, fingerprint: str) -> tuple[DisentanglingModel, Geometry]:
    """Return the model of a run, kept for the next click."""
    del fingerprint  # other weights are another model, under whatever name
    from napari_disentangle.run import Run
    from napari_disentangle.training.encoding import load_model

    model, geometry, _ = load_model(Run.open(Path(run)))
    return model, geometry


def _reading(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords of `read_particles` as they were before they became JSON."""
    given = {key: value for key, value in reading.items() if value is not None}
    for key in ("tomograms", "tomogram"):
        if key in given:
            given[key] = Path(given[key])
    if "tilt_range" in given:
        given["tilt_range"] = tuple(given["tilt_range"])
    return given


LANES: dict[str, dict[str, Callable[..., dict[str, Any]]]] = {
    "quick": {"warm": warm, "map_codes": map_codes, "group": group, "reconstruct": reconstruct},
    "long": {"cut_boxes": cut_boxes, "make_run": make_run, "average": average, "compare": compare},
    "aside": {"estimate": estimate, "learnt": learnt},
}
"""Tasks of one lane wait for one another, those of different lanes do not."""


def _load() -> None:
    """Import what tasks need, in one thread: two that import torch at once each find half of it."""
    import torch
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    from napari_disentangle import learnt, stages, training
    from napari_disentangle.training import estimate

    del torch, PCA, GaussianMixture, learnt, stages, training, estimate


def serve() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    talking = threading.Lock()
    _load()

    def answer(**values: object) -> None:
        with talking:
            answers.write(json.dumps(values, allow_nan=False) + "\n")
            answers.flush()

    def work(number: int, task: Callable[..., dict[str, Any]], given: Mapping[str, Any]) -> None:
        try:
            answer(id=number, result=task(lambda stage, done: answer(id=number, told=[stage, done]), **given))
        except InputError as error:
            answer(id=number, error=str(error))
        except OSError as error:
            answer(id=number, error=f"{error.filename or 'the system'}: {error.strerror or error}")
        except Exception as error:
            if is_out_of_memory(error):
                answer(id=number, error="Memory ran out; close other programs, or try with fewer particles.")
            else:
                answer(id=number, bug=traceback.format_exc())

    lanes = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in LANES}
    for line in sys.stdin:
        request = json.loads(line)
        lane = next(name for name, tasks in LANES.items() if request["task"] in tasks)
        lanes[lane].submit(work, request["id"], LANES[lane][request["task"]], request["with"])
    os._exit(0)  # whoever asked has gone; a task that still runs has nobody to tell


if __name__ == "__main__":
    serve()
