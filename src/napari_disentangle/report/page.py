"""One self-contained HTML page: sections of words, tables and pictures, nothing fetched from anywhere."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from napari_disentangle.io.atomic import write_text

if TYPE_CHECKING:
    from pathlib import Path

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d1d1f; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; } code, pre { background: #f4f4f6; border-radius: 4px; padding: .1em .3em; }
pre { padding: .8em; overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; }
figcaption, .note { color: #555; font-size: .9rem; } figure { margin: 1rem 0; }
"""


@dataclass
class Section:
    """A heading and what stands under it, in order. All text is plain: it is escaped here."""

    title: str
    parts: list[str] = field(default_factory=lambda: [])

    def words(self, text: str) -> Section:
        """Add a paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")
        return self

    def commands(self, *lines: str) -> Section:
        """Add lines to type."""
        self.parts.append(f"<pre>{escape(chr(10).join(lines))}</pre>")
        return self

    def table(self, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> Section:
        """Add a table; an empty header leaves its row out."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        self.parts.append(f"<table><tr>{head}</tr>{body}</table>" if header else f"<table>{body}</table>")
        return self

    def picture(self, png: bytes, caption: str) -> Section:
        """Add a PNG with its caption, which also stands in for it where pictures are not seen."""
        said = escape(caption, quote=True)
        image = f'<img alt="{said}" src="data:image/png;base64,{b64encode(png).decode()}">'
        self.parts.append(f"<figure>{image}<figcaption>{said}</figcaption></figure>")
        return self


def write_page(path: Path, title: str, sections: list[Section], *, overwrite: bool = False) -> None:
    """Write the page in one go: it is there whole, or not at all.

    Raises
    ------
    InputError
        `path` exists and `overwrite` is not set, or its folder cannot be made.
    """
    body = "".join(f"<section><h2>{escape(part.title)}</h2>{''.join(part.parts)}</section>" for part in sections)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>\n'
    write_text(path, page, overwrite=overwrite)
