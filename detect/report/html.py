"""One HTML file that opens offline: headings, text, sortable tables, charts, embedded images."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detect.data.images import scaled
from detect.report import charts
from detect.report.charts import Points, Spec
from detect.utils.names import shown

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
FILTERED = 25  # rows from which a table has a filter and scrolls in itself
DENSE = 24  # columns from which the cells of a matrix are squares without numbers
WHITE = 0.75  # share of its row from which a cell is dark
LARGEST = 1000  # pixels of the longer side of an image in a gallery
FIGURES = {"chart", "image", "matrix"}  # parts that stand beside each other where there is room


class Page:
    """A page that is written from top to bottom; `str(page)` is the HTML. All text is escaped.

    The same parts give the same bytes. A page holds everything that it shows, and asks for nothing else: its content
    security policy allows no request, and no script but its own.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[dict[str, Any]] = []

    def heading(self, text: str, level: int = 2) -> None:
        """Add the title of a section, or at level 3 of a part of one."""
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        same = sum(part.get("slug") == slug for part in self.parts)
        self._add("heading", title=text, level=level, slug=slug, id=f"{slug}-{same + 1}" if same else slug)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add("text", text=text)

    def code(self, text: str, summary: str = "") -> None:
        """Add preformatted text; with a `summary` it is folded below it."""
        self._add("code", lines=text.split("\n"), summary=summary)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]], filter: bool | None = None) -> None:
        """Add a table that is sorted by its column titles. Floats have three decimals, None is a dash.

        Args:
            header: column titles; none: no row of titles.
            rows: the cells of each row.
            filter: whether a field above the table filters its rows by words. Default: from `FILTERED` rows.
        """
        cells = [[_plain(value) for value in row] for row in rows]
        wanted = len(cells) >= FILTERED if filter is None else filter
        numbers = [any(map(_is_number, column)) for column in zip(*cells, strict=False)]
        self._add("table", header=list(header), rows=cells, filter=wanted, numbers=numbers)

    def image(self, image: np.ndarray, caption: str = "", width: int = 0) -> None:
        """Add an image (H, W, 3) uint8 RGB, as JPEG inside the page. It opens large."""
        self._add("image", source=_jpeg(image), caption=caption, width=width)

    def gallery(self, images: Sequence[tuple[np.ndarray, str] | tuple[np.ndarray, str, str]], side: int = 260) -> None:
        """Add thumbnails in rows that open large.

        Args:
            images: images (H, W, 3) uint8 RGB, each with its caption, and perhaps what is shown over the caption and
                below the large image, such as the full path; those larger than `LARGEST` are made smaller.
            side: width of a thumbnail in pixels.
        """
        kept = [
            {"source": _jpeg(_at_most(image, LARGEST)), "caption": caption, "title": "".join(title)}
            for image, caption, *title in images
        ]
        self._add("gallery", images=kept, side=side)

    def curves(self, lines: Mapping[str, Points], caption: str, x: str = "", y: str = "", log: bool = False) -> None:
        """Add a chart of lines; `log` makes its y axis logarithmic. Values that are not finite are left out."""
        self.chart(charts.line_spec(lines, x, y, log_y=log), caption, list(lines))

    def dots(self, groups: Mapping[str, Points], caption: str, x: str = "", y: str = "") -> None:
        """Add a scatter plot, a colour for each group."""
        self.chart(charts.dot_spec(groups, x, y), caption, list(groups))

    def bars(self, values: Mapping[str, float], caption: str) -> None:
        """Add horizontal bars with names and values."""
        self.chart(charts.bar_spec(values), caption)

    def histogram(self, values: Sequence[float], caption: str, x: str = "", bins: int = 30) -> None:
        """Add a histogram."""
        self.chart(charts.histogram_spec(values, x, bins), caption)

    def matrix(self, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], caption: str) -> None:
        """Add counts (R, C) as a table; a cell is darker the larger its share of the row."""
        share = values / np.maximum(values.sum(1, keepdims=True), 1)
        dense = len(columns) >= DENSE
        lines = [
            {"name": name, "cells": [_matrix_cell(v, s, dense) for v, s in zip(line, shares, strict=True)]}
            for name, line, shares in zip(rows, values.tolist(), share.tolist(), strict=True)
        ]
        self._add("matrix", rows=lines, columns=list(columns), caption=caption, dense=dense)

    def chart(self, spec: Spec, caption: str, names: Sequence[str] = ()) -> None:
        """Add a chart of `detect.report.charts`; the lines or groups `names` can be switched on and off."""
        styles = zip(map(shown, names), *charts.styles(len(names)), strict=True)
        known = [{"name": name, "colour": colour, "dash": " ".join(map(str, dash))} for name, colour, dash in styles]
        self._add("chart", spec=spec, caption=caption, names=known, height=spec["height"])

    def _add(self, kind: str, **content: Any) -> None:
        self.parts.append({"kind": kind, **content})

    def _sections(self) -> list[dict[str, Any]]:
        """The parts by section; figures that follow one another are one block."""
        sections: list[dict[str, Any]] = [{"id": "", "title": "", "parts": []}]
        for part in self.parts:
            if part["kind"] == "heading" and part["level"] == 2:
                sections.append({"id": part["id"], "title": part["title"], "parts": []})
            sections[-1]["parts"].append(part)
        for section in sections:
            groups = groupby(section.pop("parts"), lambda part: part["kind"] in FIGURES)
            section["blocks"] = [
                block for figures, parts in groups for block in ([{"parts": list(parts)}] if figures else parts)
            ]
        return sections

    def __str__(self) -> str:
        pages = _environment()
        kinds = {part["kind"] for part in self.parts}
        script, style = (_TEMPLATES.joinpath(f"page.{ending}").read_text(encoding="utf-8") for ending in ("js", "css"))
        scripts = [charts.library()] * ("chart" in kinds) + [script]
        allowed = " ".join(f"'sha256-{_digest(one)}'" for one in scripts)
        return pages.get_template("page.html.j2").render(
            title=self.title,
            policy=f"{POLICY}; script-src {allowed}",
            style=style,
            scripts=scripts,
            sections=self._sections(),
            charts="chart" in kinds,
            images=bool(kinds & {"image", "gallery"}),
        )


@cache
def _environment() -> Environment:
    """The templates; what they are given is escaped, and made visible where it would not be (`shown`)."""
    from jinja2 import Environment, FileSystemLoader  # late: few commands write a page

    def visible(value: Any) -> Any:
        return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    made = Environment(
        loader=FileSystemLoader(str(_TEMPLATES)),
        autoescape=True,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return made


def _plain(value: object) -> object:
    """The value of a cell as the template tells kinds apart: numbers of numpy and subclasses become Python's own."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _matrix_cell(value: float, share: float, dense: bool) -> dict[str, object]:
    """A count with the strength of its colour; a zero of a dense matrix is left empty.

    Among many classes a small share matters and has no number beside it: there the strength is its square root.
    Elsewhere a number is black up to `WHITE` and white above it; strengths on which neither is read well are left out.
    """
    text = "" if dense and not value else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
    if dense:
        strength = 0.04 + 0.96 * share**0.5
    else:
        strength = 0.85 + 0.6 * (share - WHITE) if share > WHITE else 0.04 + 0.9 * share
    return {"value": text, "strength": f"{strength:.2f}" if share > 0 else "", "deep": share > WHITE}


def _at_most(image: np.ndarray, side: int) -> np.ndarray:
    return scaled(image, min(1.0, side / max(image.shape[:2])))


def _jpeg(image: np.ndarray) -> str:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
