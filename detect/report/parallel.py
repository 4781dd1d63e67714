"""A chart of parallel coordinates: a line for each trial, an axis for each setting, the colour says how good it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detect.report.charts import HEIGHT, Spec, base_spec
from detect.utils.names import shown

TICKS = 4  # values that are written on an axis of numbers


def parallel_spec(
    rows: Sequence[Mapping[str, Any]],
    axes: Mapping[str, bool],
    value: str,
    lines: Sequence[str],
    best_low: bool = False,
) -> Spec:
    """Lines through parallel axes.

    Args:
        rows: the values of each line by axis; an axis that it lacks ends it there.
        axes: the axes from left to right, and whether each is logarithmic; axes of text have their values in order.
        value: the axis that gives the colour.
        lines: what each line is called.
        best_low: whether low values are good.
    """
    scales = {name: _scale([row[name] for row in rows if name in row], log) for name, log in axes.items()}
    points: list[Spec] = []
    for line, row in zip(lines, rows, strict=True):
        goodness = scales[value](row[value]) if value in row else 0.0
        for name in axes:
            if name in row:
                place = scales[name](row[name])
                told = {shown(one): _text(row[one]) for one in axes if one in row}
                points.append({"line": shown(line), "axis": shown(name), "at": place, "good": goodness, **told})
    names = [shown(name) for name in axes]
    x = {"field": "axis", "type": "nominal", "sort": names, "title": None, "axis": {"labelAngle": 0, "grid": True}}
    y = {"field": "at", "type": "quantitative", "axis": None, "scale": {"domain": [-0.02, 1.02]}}
    colour = {
        "field": "good",
        "type": "quantitative",
        "scale": {"range": ["#9db7cc", "#d55e00"], "domain": [1, 0] if best_low else [0, 1]},
        "legend": None,
    }
    tooltip = [{"field": name, "type": "nominal"} for name in ("line", *names)]
    lines_mark = {
        "mark": {"type": "line", "strokeWidth": 1.6, "opacity": 0.75},
        "encoding": {"color": colour, "detail": {"field": "line"}, "order": {"field": "axis", "sort": names}},
    }
    dots = {"mark": {"type": "circle", "size": 42}, "encoding": {"color": colour, "tooltip": tooltip}}
    text = {
        "data": {"values": _ticks(rows, axes)},
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 10, "color": "currentColor", "opacity": 0.75},
        "encoding": {"text": {"field": "text"}},
    }
    return base_spec(points, HEIGHT + 60, layer=[lines_mark, dots, text], encoding={"x": x, "y": y})


def _scale(values: Sequence[Any], log: bool) -> Any:
    """The function from a value of an axis to its height, 0 to 1."""
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        low, high = min(values, default=0), max(values, default=1)
        if log and low > 0 and high > low:
            return lambda value: math.log(value / low) / math.log(high / low)
        return lambda value: (value - low) / (high - low) if high > low else 0.5
    known = sorted(set(map(str, values)))
    return lambda value: known.index(str(value)) / max(1, len(known) - 1)


def _ticks(rows: Sequence[Mapping[str, Any]], axes: Mapping[str, bool]) -> list[Spec]:
    """The values that are written beside each axis, as points of the chart."""
    found: list[Spec] = []
    for name, log in axes.items():
        values = [row[name] for row in rows if name in row]
        scale = _scale(values, log)
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values) and values:
            low, high = min(values), max(values)
            steps = [i / (TICKS - 1) for i in range(TICKS)]
            logarithmic = log and low > 0
            marks = [low * (high / low) ** s if logarithmic else low + (high - low) * s for s in steps]
        else:
            marks = sorted(set(map(str, values)))
        known = {_text(mark): mark for mark in marks}
        found += [{"axis": shown(name), "at": scale(mark), "text": text} for text, mark in known.items()]
    return found


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else shown(str(value))
