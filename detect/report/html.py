"""One HTML file that opens offline: headings, text, sortable tables, charts as SVG, embedded images."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape as escaped

import cv2
import numpy as np

from detect.utils.names import shown

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
WIDTH, HEIGHT, LEFT, RIGHT, EDGE = 460, 260, 58, 20, 34  # of a chart and its margins, in pixels
Points = Sequence[tuple[float, float]]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 2em auto; max-width: 1180px;
  padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
th, td { padding: .2em .7em; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top; }
th { cursor: pointer; white-space: nowrap; background: #f4f4f4; } td.number { text-align: right; }
figure { display: inline-block; margin: .5em 1em .5em 0; vertical-align: top; } figcaption { font-size: .85em;
  max-width: 460px; color: #444; } .legend { font-size: .8em; max-width: 460px; margin-left: 58px; }
svg text { font: 11px system-ui, sans-serif; fill: #333; } pre { background: #f7f7f7;
  padding: .8em; overflow-x: auto; font-size: .85em; } img { max-width: 100%; }
"""
_SORT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const up = head.dataset.up !== "true";
  for (const other of table.querySelectorAll("th")) delete other.dataset.up;
  head.dataset.up = up;
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)], both = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
    return (up ? 1 : -1) * (both ? x - y : x.localeCompare(y));
  });
  body.append(...rows);
});
"""


def escape(text: str, quote: bool = True) -> str:
    """Text for a page: without markup, and without characters that hide or reverse the text around them."""
    return escaped(shown(text), quote)


class Page:
    """A page that is written from top to bottom; `str(page)` is the HTML. All text is escaped."""

    def __init__(self, title: str) -> None:
        self.title, self.parts = title, [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """Add the title of a section."""
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def code(self, text: str) -> None:
        """Add preformatted text."""
        lines = "\n".join(escape(line) for line in text.split("\n"))
        self.parts.append(f"<pre>{lines}</pre>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table, sorted by a click on a column title. Floats have three decimals, None is a dash.

        Without a `header` there is no row of titles.
        """
        head = "".join(f"<th>{escape(name)}</th>" for name in header)
        body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
        head = f"<thead><tr>{head}</tr></thead>" if head else ""
        self.parts.append(f"<table>{head}<tbody>{body}</tbody></table>")

    def image(self, image: np.ndarray, caption: str = "", width: int = 0) -> None:
        """Add an image (H, W, 3) uint8 RGB, as JPEG inside the page."""
        done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
        assert done
        source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        size = f' width="{width}"' if width else ""
        self._figure(f'<img src="{source}" alt="{escape(caption, quote=True)}"{size}>', caption)

    def curves(self, lines: Mapping[str, Points], caption: str, x: str = "", y: str = "", log: bool = False) -> None:
        """Add a chart of lines; `log` makes its y axis logarithmic. Values that are not finite are left out."""
        self._figure(_legend(list(lines)) + line_chart(lines, x, y, log_y=log), caption)

    def dots(self, groups: Mapping[str, Points], caption: str, x: str = "", y: str = "") -> None:
        """Add a scatter plot, a colour for each group."""
        frame, drawn = _Frame([p for points in groups.values() for p in points], x, y), []
        for i, points in enumerate(groups.values()):
            drawn += [
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{2 + 2 * bool(i)}" fill="{COLOURS[i % len(COLOURS)]}" '
                f'fill-opacity="{1.0 if i else 0.35}"/>'
                for u, v in map(frame.at, points)
            ]
        self._figure(_legend(list(groups)) + frame.svg(drawn), caption)

    def bars(self, values: Mapping[str, float], caption: str) -> None:
        """Add horizontal bars with names and values."""
        most, drawn = max([*values.values(), 1e-12]), []
        for i, (name, value) in enumerate(values.items()):
            top, length = 4 + 20 * i, max(0.0, value) / most * (WIDTH - 220)
            shown = name if len(name) < 24 else name[:22] + "…"
            drawn.append(f'<text x="140" y="{top + 12}" text-anchor="end">{escape(shown)}</text>')
            drawn.append(f'<rect x="146" y="{top}" width="{length:.1f}" height="15" fill="{COLOURS[0]}"/>')
            drawn.append(f'<text x="{150 + length:.1f}" y="{top + 12}">{_number(value)}</text>')
        height = 8 + 20 * len(values)
        self._figure(f'<svg width="{WIDTH}" height="{height}" role="img">{"".join(drawn)}</svg>', caption)

    def histogram(self, values: Sequence[float], caption: str, x: str = "", bins: int = 30) -> None:
        """Add a histogram."""
        counts, edges = np.histogram(np.asarray(values, float), bins=bins)
        frame, drawn = _Frame([(edges[0], 0), (edges[-1], float(counts.max(initial=0)))], x, ""), []
        for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            (u, v), (w, base) = frame.at((low, count)), frame.at((high, 0))
            size = f'width="{max(1.0, w - u - 1):.1f}" height="{base - v:.1f}"'
            drawn.append(f'<rect x="{u:.1f}" y="{v:.1f}" {size} fill="{COLOURS[0]}"/>')
        self._figure(frame.svg(drawn), caption)

    def matrix(self, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], caption: str) -> None:
        """Add counts (R, C) as a table; a cell is darker the larger its share of the row."""
        share = values / np.maximum(values.sum(1, keepdims=True), 1)
        head = "<th></th>" + "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = []
        for name, line, shares in zip(rows, values.tolist(), share.tolist(), strict=True):
            cells = "".join(
                f'<td class="number" style="background:rgba(31,119,180,{0.85 * s:.2f})">{_number(v)}</td>'
                for v, s in zip(line, shares, strict=True)
            )
            body.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        self._figure(table, caption)

    def _figure(self, content: str, caption: str) -> None:
        self.parts.append(f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>")

    def __str__(self) -> str:
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><link rel="icon" href="data:,">'
        body = "\n".join(self.parts)
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>'
            f"<body>\n{body}\n<script>{_SORT}</script></body></html>\n"
        )


def line_chart(
    lines: Mapping[str, Points], x: str, y: str, log_x: bool = False, log_y: bool = False, legend: bool = False
) -> str:
    """A chart of lines as SVG, for a page or a file of its own.

    Args:
        lines: the points of each line, by its name. Those that are not finite are left out, and on a logarithmic axis
            those that are not positive.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is.
        legend: whether the chart names its lines itself, at the lower left.
    """
    known = [
        [(a, b) for a, b in points if math.isfinite(a + b) and (a > 0 or not log_x) and (b > 0 or not log_y)]
        for points in lines.values()
    ]
    frame = _Frame([p for points in known for p in points], x, y, (log_x, log_y))
    drawn = []
    for i, points in enumerate(known):
        colour, path = COLOURS[i % len(COLOURS)], " ".join(f"{u:.1f},{v:.1f}" for u, v in map(frame.at, points))
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(points) == 1:
            u, v = frame.at(points[0])
            drawn.append(f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{colour}"/>')
    for i, name in enumerate(lines if legend else ()):
        colour, bottom = COLOURS[i % len(COLOURS)], HEIGHT - EDGE - 8 - 14 * (len(lines) - 1 - i)
        drawn.append(f'<text x="{LEFT + 6}" y="{bottom}" style="fill:{colour}">{escape(name)}</text>')
    return frame.svg(drawn)


class _Frame:
    """The axes of a chart: from values to pixels, with grid lines and numbers."""

    def __init__(self, points: Points, x: str, y: str, log: tuple[bool, bool] = (False, False)) -> None:
        self.log, self.names = log, (x, y)
        values = np.array([self._value(point) for point in points] or [[0, 0], [1, 1]], float)
        self.low, self.high = values.min(0), values.max(0)
        flat = self.high - self.low < 1e-12
        self.low, self.high = self.low - 0.5 * flat, self.high + 0.5 * flat

    def _value(self, point: tuple[float, float]) -> list[float]:
        return [math.log10(number) if log else number for number, log in zip(point, self.log, strict=True)]

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        """The pixel of a point."""
        u, v = ((np.array(self._value(point)) - self.low) / (self.high - self.low)).tolist()
        return LEFT + u * (WIDTH - LEFT - RIGHT), (HEIGHT - EDGE) - v * (HEIGHT - EDGE - 8)

    def svg(self, drawn: Sequence[str]) -> str:
        """The chart as SVG, around the shapes in it."""
        parts = []
        for i in range(5):
            a, b = (self.low + (self.high - self.low) * i / 4).tolist()
            numbers = [_number(10**n if log else n) for n, log in zip((a, b), self.log, strict=True)]
            u, v = LEFT + i / 4 * (WIDTH - LEFT - RIGHT), HEIGHT - EDGE - i / 4 * (HEIGHT - EDGE - 8)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}" stroke="#e4e4e4"/>')
            parts.append(f'<text x="{u:.1f}" y="{HEIGHT - EDGE + 14}" text-anchor="middle">{numbers[0]}</text>')
            parts.append(f'<text x="{LEFT - 5}" y="{v + 4:.1f}" text-anchor="end">{numbers[1]}</text>')
        x, y = map(escape, self.names)
        parts.append(f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{x}</text>')
        turn = f"rotate(-90 11 {HEIGHT / 2})"
        parts.append(f'<text x="11" y="{HEIGHT / 2}" text-anchor="middle" transform="{turn}">{y}</text>')
        style = 'font-family="sans-serif" font-size="11" style="background:#fff"'  # for a file of its own
        head = f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" {style}>'
        return f"{head}{''.join(parts)}{''.join(drawn)}</svg>"


def _legend(names: Sequence[str]) -> str:
    """The legend above a chart of several lines."""
    if len(names) < 2:
        return ""
    parts = [f'<span style="color:{COLOURS[i % len(COLOURS)]}">■ {escape(name)}</span>' for i, name in enumerate(names)]
    return f'<div class="legend">{" ".join(parts)}</div>'


def _cell(value: object) -> str:
    if value is None:
        return '<td data-value="">–</td>'
    if isinstance(value, bool | str):
        return f"<td>{escape(str(value))}</td>"
    if isinstance(value, int | float):
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        return f'<td class="number" data-value="{value!r}">{shown}</td>'
    return f"<td>{escape(str(value))}</td>"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
