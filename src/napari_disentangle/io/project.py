"""Find the files that RELION names relative to its project folder."""

from __future__ import annotations

from pathlib import Path


class Project:
    """The project folder of one STAR file, found by looking upwards until a named file exists."""

    def __init__(self, star: Path) -> None:
        self._folders = list(star.absolute().parents)
        self.star = star
        self.root: Path | None = None
        """The folder that the files found so far are relative to; None before the first."""

    def find(self, name: str) -> Path | None:
        """Return the path of a file as the STAR names it, or None where there is none in this folder or above."""
        path = Path(name)
        if path.is_absolute():
            return path if path.exists() else None
        for folder in self._folders if self.root is None else [self.root, *self._folders]:
            if name and (folder / path).is_file():
                self.root = self.root or folder
                return folder / path
        return None
