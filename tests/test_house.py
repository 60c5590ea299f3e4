"""The house rules that no other tool checks: what is imported, what is declared, what importing costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import napari_disentangle

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_disentangle"
MODULES = sorted(SOURCE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WINDOW = ("qtpy", "magicgui", "superqt", "vispy", "pyqtgraph", "PyQt5", "PyQt6", "PySide2", "PySide6")
IMPORT_NAMES = {"scikit-learn": "sklearn", "umap-learn": "umap"}
HEAVY = ("torch", "umap", "sklearn", "matplotlib", "napari", "pandas", "scipy", *WINDOW)


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in the file it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"napari_disentangle"}


def test_every_dependency_is_imported_and_every_import_declared():
    names = [re.split(r"[<>=!~\[; ]", line)[0] for line in PROJECT["dependencies"]]
    declared = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}
    used = set().union(*(imported(path) for path in MODULES))
    assert used == declared, "pyproject.toml and the imports disagree"


def test_versions_that_are_tested_are_pinned_for_every_dependency():
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    for requirement in PROJECT["dependencies"]:
        assert re.split(r"[<>=!~\[; ]", requirement)[0] in names


def test_the_core_needs_no_window():
    """Every module but the window's imports where importing napari, Qt or vispy fails."""
    code = f"""
import importlib, pkgutil, sys
class NoWindow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {("napari", *WINDOW)!r}:
            raise ImportError(name + " was asked for")
sys.meta_path.insert(0, NoWindow())
import napari_disentangle
for module in pkgutil.walk_packages(napari_disentangle.__path__, "napari_disentangle."):
    if "gui" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["napari_disentangle", "napari_disentangle.cli", "napari_disentangle._napari"])
def test_importing_stays_light(module: str):
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_says_what_it_is_for_and_stays_short(path: Path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "the first line says why this file exists"
    assert text.count("\n") <= 450, "a long file has a second reason to exist: split it"


def test_nothing_is_pickled():
    for path in MODULES:
        assert "pickle" not in imported(path)
        assert "allow_pickle=True" not in path.read_text()
        assert not re.search(r"torch\.(save|load)\(", path.read_text()), "torch.save and torch.load pickle"


def test_the_manifest_at_the_top_is_the_packaged_one():
    assert (ROOT / "napari.yaml").resolve() == (SOURCE / "napari.yaml").resolve()


def test_the_changelog_knows_this_version():
    assert f"## [{napari_disentangle.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
