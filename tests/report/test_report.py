"""Pages hold what they are given, escaped and self-contained; pictures are PNGs that show all there is."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.palette import COLOURS
from napari_disentangle.report import figures
from napari_disentangle.report.page import Section, write_page

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"


class Tags(HTMLParser):
    """Checks that tags close in order, and keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 (HTMLParser's)
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def pixels(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    assert png.startswith(PNG)
    return imread(BytesIO(png))


def test_a_page_is_whole_and_fetches_nothing(tmp_path: Path):
    section = Section("Maps <of> a & b").words("1 < 2").table(("a", "b"), [(1, "<x>")]).commands("a > b")
    section.picture(PNG, 'a "picture"')
    write_page(tmp_path / "report.html", "A run", [section])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert {"Maps <of> a & b", "1 < 2", "<x>", "a > b"} <= set(tags.said)
    assert "data:image/png;base64," in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)


def test_a_page_is_not_overwritten_unless_told(tmp_path: Path):
    path = tmp_path / "report.html"
    write_page(path, "first", [])
    with pytest.raises(InputError, match="--overwrite"):
        write_page(path, "second", [])
    assert "first" in path.read_text()
    write_page(path, "second", [], overwrite=True)
    assert "second" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_map_shows_every_group_in_its_colour():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((90, 2))
    labels = np.repeat([0, 1, -1], 30)
    image = pixels(figures.scatter({"content": points, "invariants": points[::-1]}, labels, ["A/0", "A/1"]))
    seen = {tuple(colour) for colour in np.round(image[..., :3].reshape(-1, 3) * 255).astype(int)}
    for colour in (*COLOURS[:2], figures.OTHERS):
        assert tuple(bytes.fromhex(colour[1:])) in seen


def test_an_average_is_drawn_with_its_curve():
    volume = np.random.default_rng(0).standard_normal((16, 16, 16)).astype(np.float32)
    frequency = np.linspace(0, 0.05, 9)
    one = pixels(figures.average({"average": volume}, frequency, np.linspace(1, 0, 9)))
    two = pixels(figures.average({"average": volume, "decoded": volume}, frequency, np.linspace(1, 0, 9)))
    assert two.shape[0] == pytest.approx(2 * one.shape[0], abs=4)


def test_curves_with_nothing_below_zero_are_logarithmic():
    steps = np.arange(1, 5)
    assert pixels(figures.curves({"loss": (steps, 10.0**-steps)}, "epoch", "loss")).size
    assert pixels(figures.curves({"loss": (steps, -steps), "other": (steps, steps)}, "epoch", "loss")).size
