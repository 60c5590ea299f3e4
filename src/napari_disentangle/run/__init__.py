"""Run: the run folder, which the command line, the window and a cluster job all read and write."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import read_text, write_text
from napari_disentangle.io.folder import check_new_folder, new_folder
from napari_disentangle.recipe import Recipe
from napari_disentangle.run.checkpoint import checkpoint_folder
from napari_disentangle.run.events import LAST, append_event, read_events
from napari_disentangle.run.lock import Lock, holder
from napari_disentangle.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from numpy.lib.npyio import NpzFile
    from numpy.typing import NDArray

    from napari_disentangle.models.base import Codes
    from napari_disentangle.particles import ParticleSet

SCHEMA_VERSION = 1
_NAME = re.compile(r"[\w.+-]+(/[\w.+-]+)?")


@dataclass(frozen=True)
class Embedding:
    """Two-dimensional coordinates of codes."""

    space: str
    """"content", "transform" or "invariants"."""
    method: str
    """"umap" or "pca"."""
    ids: NDArray[np.int64]
    """(n,) rows of the original list."""
    coordinates: NDArray[np.float32]
    """(n, 2)."""
    fingerprint: str
    """Of the codes that it was made from; "" for invariants."""


class Run:
    """A run folder.

    Parameters
    ----------
    path : Path
        Use `Run.open` or `Run.create`; the constructor checks nothing.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        self.recipe = recipe

    @classmethod
    def create(cls, path: Path, recipe: Recipe, particles: ParticleSet, *, overwrite: bool = False) -> Run:
        """Make a run folder that is ready to train.

        Parameters
        ----------
        path : Path
        recipe : Recipe
        particles : ParticleSet
            Those to train on; their ids and the original list's text are kept in the folder.
        overwrite : bool
            Replace an earlier run.

        Raises
        ------
        InputError
            The folder exists, is being written, or cannot be made.
        """
        check_new_folder(path, marker="recipe.toml", overwrite=overwrite)
        if path.is_dir():
            with Lock(path):
                pass  # another process that writes here is refused before anything is made
        with new_folder(path, marker="recipe.toml", overwrite=overwrite) as part:
            (part / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
            kept = part / "particles"
            kept.mkdir()
            np.save(kept / "ids.npy", particles.ids, allow_pickle=False)
            if particles.text is not None:
                write_text(kept / "original.star", particles.text)
            source = {
                "schema_version": SCHEMA_VERSION,
                "path": str(particles.path.absolute()),
                "original": None if particles.original is None else str(particles.original.absolute()),
                "project": None if particles.project is None else str(particles.project.absolute()),
                "voxel_size": particles.voxel_size,
                "count": len(particles),
                "notes": list(particles.notes),
            }
            (kept / "source.json").write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")
        return cls(path, recipe)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run folder.

        Raises
        ------
        InputError
            Not a run folder, or of a newer schema.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path} is not a run folder; check the name.")
        if not (path / "recipe.toml").is_file():
            raise InputError(f"{path} is not a run folder: it has no recipe.toml.")
        return cls(path, Recipe.read(path / "recipe.toml"))

    def particles(self) -> ParticleSet:
        """Return the particles of this run, with the original list's text as it was when training began.

        Raises
        ------
        InputError
            Their files are no longer there, or hold other particles than before.
        """
        from napari_disentangle.io import read_particles

        given = self.recipe.input
        found = read_particles(
            Path(given.particles),
            tomograms=Path(given.tomograms) if given.tomograms else None,
            tomogram=Path(given.tomogram) if given.tomogram else None,
            voxel_size=given.voxel_size,
            tilt_range=given.tilt_range,
            size_from=given.size_from,
            coordinate_pixel=given.coordinate_pixel,
        )
        text = (
            read_text(self.path / "particles/original.star")
            if (self.path / "particles/original.star").exists()
            else None
        )
        if text != found.text:
            raise InputError(
                f"{found.original or found.path} has changed since {self.path} was trained on it; put the old list back (a copy is "
                f"{self.path / 'particles/original.star'}) or train again."
            )
        try:
            rows = found.rows_of(self.ids())
        except KeyError as error:
            raise InputError(
                f"{given.particles} no longer holds all particles of {self.path}; put them back or train again."
            ) from error
        found = replace(found.subset(rows), text=text)
        return found.inverted() if given.invert else found

    def ids(self) -> NDArray[np.int64]:
        """Return (n,) the rows of the original list that this run trains on."""
        return np.load(self.path / "particles/ids.npy", allow_pickle=False)

    def lock(self) -> Lock:
        """Return the writer's lock, to be entered."""
        return Lock(self.path)

    def writer(self) -> str | None:
        """Return who writes here at present, in words, or None."""
        return holder(self.path)

    def events(self) -> list[dict[str, Any]]:
        """Return everything the run has told, oldest first."""
        return read_events(self.path)

    def say(self, event: str, **values: object) -> None:
        """Append an event."""
        append_event(self.path, event, **values)

    def state(self) -> str:
        """Return "new", "finished", "stopped", "failed" or "unfinished" (running, or cut off)."""
        events = self.events()
        if not events:
            return "new"
        return str(events[-1]["event"]) if events[-1]["event"] in LAST else "unfinished"

    def ask_to_stop(self) -> None:
        """Ask whoever trains this run to stop cleanly and keep the model."""
        (self.path / "stop").touch()

    def stop_asked(self) -> bool:
        """Return whether a clean stop was asked for."""
        return (self.path / "stop").exists()

    def clear_stop(self) -> None:
        """Withdraw the request to stop."""
        (self.path / "stop").unlink(missing_ok=True)

    def checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint, or None before the first."""
        return checkpoint_folder(self.path)

    def fingerprint(self) -> str | None:
        """Return the fingerprint of the present codes, or None before any."""
        return self.codes().fingerprint if (self.path / "codes.npz").is_file() else None

    def codes(self) -> Codes:
        """Return the codes of this run's particles.

        Raises
        ------
        InputError
            Not trained yet.
        """
        from napari_disentangle.models.base import Codes
        from napari_disentangle.particles import Pose

        path = self.path / "codes.npz"
        if not path.is_file():
            raise InputError(
                f"{self.path} has no codes yet; train it first, with napari-disentangle train {self.path}."
            )
        with _stored(path) as stored:
            pose = Pose(stored["rotations"], stored["offsets"]) if "rotations" in stored else None
            return Codes(
                ids=stored["ids"], content=stored["content"], transform=stored["transform"], pose=pose,
                epoch=int(stored["epoch"]), fingerprint=str(stored["fingerprint"]),
            )  # fmt: skip

    def save_codes(self, codes: Codes) -> None:
        """Replace the codes."""
        pose = {} if codes.pose is None else {"rotations": codes.pose.rotations, "offsets": codes.pose.offsets}
        _save_arrays(
            self.path / "codes.npz", ids=codes.ids, content=codes.content, transform=codes.transform,
            epoch=np.array(codes.epoch), fingerprint=np.array(codes.fingerprint), **pose,
        )  # fmt: skip

    def scale(self, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return (n, 2), the mean and deviation by which boxes were standardised in training; None before it."""
        from napari_disentangle.particles import rows_of

        path = self.path / "particles" / "scale.npz"
        if not path.is_file():
            return None
        with _stored(path) as stored:
            return stored["scale"][rows_of(stored["ids"], ids)]

    def save_scale(self, ids: NDArray[np.int64], scale: NDArray[np.float32]) -> None:
        """Keep the mean and deviation (n, 2) by which training standardises boxes; of fewer they would be others."""
        _save_arrays(self.path / "particles" / "scale.npz", ids=ids, scale=scale)

    def embedding(self, space: str, method: str) -> Embedding | None:
        """Return a saved embedding, or None."""
        path = self.path / "embeddings" / f"{space}_{method}.npz"
        if not path.is_file():
            return None
        with _stored(path) as stored:
            return Embedding(space, method, stored["ids"], stored["coordinates"], str(stored["fingerprint"]))

    def save_embedding(self, embedding: Embedding) -> Path:
        """Replace the embedding of the same space and method; return its path."""
        path = self.path / "embeddings" / f"{embedding.space}_{embedding.method}.npz"
        path.parent.mkdir(exist_ok=True)
        _save_arrays(
            path, ids=embedding.ids, coordinates=embedding.coordinates, fingerprint=np.array(embedding.fingerprint)
        )
        return path

    def selections(self) -> list[str]:
        """Return the names of all selections, as ``A/0``."""
        root = self.path / "selections"
        groups = [group for group in _listed(root) if not group.startswith(".")]  # those are being written
        found = [f"{group}/{file[:-5]}" for group in groups for file in _listed(root / group) if file.endswith(".json")]
        return sorted(found, key=_natural)

    def selection(self, name: str) -> Selection:
        """Return a selection by its name.

        Raises
        ------
        InputError
            There is none of that name.
        """
        path = self.path / "selections" / f"{name}.json"
        if not _NAME.fullmatch(name) or not path.is_file():
            names = self.selections()
            known = f"it has {', '.join(names)}" if names else f"make some with napari-disentangle cluster {self.path}"
            raise InputError(f'{self.path} has no selection "{name}"; {known}.')
        stored = json.loads(path.read_text(encoding="utf-8"))
        _check_schema(path, stored["schema_version"])
        return Selection(stored["name"], np.array(stored["ids"], dtype=np.int64), stored["how"])

    def save_selections(self, group: str, selections: Iterable[Selection]) -> None:
        """Replace the whole group ``group`` by these selections, named ``group/0`` and so on.

        Raises
        ------
        InputError
            The name has characters that a file name should not have.
        """
        if not re.fullmatch(r"[\w+-][\w.+-]*", group):
            raise InputError(f'"{group}" cannot name a selection; use letters, digits, ".", "_", "+" and "-".')
        root = self.path / "selections"
        root.mkdir(exist_ok=True)
        part, old = (root / f".{group}.{what}-{os.getpid()}" for what in ("part", "old"))
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            for selection in selections:
                name = f"{group}/{selection.name.rpartition('/')[2]}"
                content = {
                    "schema_version": SCHEMA_VERSION,
                    "name": name,
                    "how": selection.how,
                    "ids": selection.ids.tolist(),
                }
                (part / f"{name.rpartition('/')[2]}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
            if (root / group).exists():
                os.replace(root / group, old)
            os.replace(part, root / group)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

    @property
    def poses_path(self) -> Path:
        """Where the poses and groups found after the coarse stage are kept; there once they have been."""
        return self.path / "poses.npz"

    def average_folder(self, name: str) -> Path:
        """Return where the average of a selection belongs."""
        return self.path / "averages" / name


def sha256_of(text: str | None) -> str | None:
    """Return the SHA-256 of a particle list's text, None for none."""
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    part = path.with_name(f".{path.stem}.part-{os.getpid()}.npz")
    try:
        with ZipFile(part, "w") as archive:  # as numpy.savez, which would pickle objects
            for name, array in ({"schema_version": np.array(SCHEMA_VERSION)} | arrays).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _stored(path: Path) -> Generator[NpzFile]:
    with path.open("rb") as file:  # numpy leaves a damaged one open
        try:
            stored = np.load(file, allow_pickle=False)
        except (OSError, EOFError, ValueError, BadZipFile) as error:
            raise InputError(f"{path} cannot be read ({error}); it is damaged and has to be made again.") from error
        with stored:
            _check_schema(path, int(stored["schema_version"]))
            yield stored


def _check_schema(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a newer napari-disentangle (schema {version}, this one knows {SCHEMA_VERSION}); "
            "update napari-disentangle to read it."
        )


def _listed(folder: Path) -> list[str]:
    """Return what is in a folder; nothing of one that is not there, or is being replaced."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(text), "") if text.isdigit() else (-1, text) for text in re.split(r"(\d+)", name)]
