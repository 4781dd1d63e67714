"""Charts as Vega-Lite specifications (Satyanarayan et al., 2017): plain dicts, drawn by the page that holds them.

Text and grid have the colour of the page (`currentColor`), and marks have colours that stand out from a light and a
dark background and that colour-blind readers can tell apart (after Okabe and Ito, 2008).
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from detect.utils.atomic_io import cache_folder, read_bytes, replace_text
from detect.utils.names import shown

COLOURS = ("#1f7fc4", "#d55e00", "#009e73", "#cc79a7", "#7a5cc0", "#b87a00", "#7f7f7f")
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])  # of lines, each for as many as there are colours
HEIGHT = 260  # pixels of a chart without its axes
FEW = 4  # steps of an axis of whole numbers up to which each has its tick
MOST = 1500  # points of a group or line; more make a page large and slow, and are on top of each other

Points = Sequence[tuple[float, float]]
Spec = dict[str, Any]

_CONFIG = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.14,
        "domainColor": "currentColor",
        "domainOpacity": 0.5,
        "ticks": False,
        "labelPadding": 6,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelOverlap": True,
    },
}
_ON_WHITE = {"config": _CONFIG | {"background": "white"}}
_LOOK = {"config": _CONFIG, "autosize": {"type": "fit-x", "contains": "padding"}}
# Ctrl and the wheel zoom, as a pinch on a touchpad does; the wheel alone still scrolls the page, and so does a finger.
_ZOOM = {
    "name": "zoom",
    "bind": "scales",
    "select": {
        "type": "interval",
        "zoom": "wheel![event.ctrlKey]",
        "translate": "[pointerdown[event.pointerType === 'mouse'], window:pointerup] > window:pointermove!",
    },
}
_NEAREST = {"name": "near", "select": {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}}
_READ = {"tooltip": {"content": "data"}}  # a mark that is pointed at shows its values
_ONLY_SHOWN = [{"filter": "indexof(shown, datum.series) >= 0"}]


def line_spec(
    lines: Mapping[str, Points],
    x: str = "",
    y: str = "",
    log_x: bool = False,
    log_y: bool = False,
    height: int = HEIGHT,
) -> Spec:
    """Lines, each with a name.

    Args:
        lines: the points of each line, by its name. Those that are not finite are left out, and on a logarithmic axis
            those that are not positive.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is.
    """
    values, (colours, dashes) = _values(lines, log_x, log_y), styles(len(lines))
    colour = _named(lines, colours)
    alone = Counter(row["series"] for row in values)  # one point of a name makes no line
    near = {
        "condition": {"param": "near", "empty": False, "value": 1},
        "value": int(max(alone.values(), default=2) < 2),
    }
    layers = [
        {
            "mark": {"type": "line", "clip": True, "strokeWidth": 2},
            "encoding": {"color": colour, "strokeDash": _named(lines, dashes)},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "clip": True, **_READ},
            "params": [_ZOOM, _NEAREST],
            "encoding": {"color": colour, "opacity": near},
        },
    ]
    return base_spec(values, HEIGHT, lines, layer=layers, encoding=_axes(values, (x, y), (log_x, log_y)))


def dot_spec(groups: Mapping[str, Points], x: str = "", y: str = "") -> Spec:
    """A scatter plot, a colour for each group; the first is drawn small and translucent, below the others."""
    values = _values(groups)
    first = {"test": {"field": "series", "equal": shown(next(iter(groups), ""))}}
    encoding = _axes(values, (x, y), nice=True) | {
        "color": _named(groups, styles(len(groups))[0]),
        "opacity": {"condition": first | {"value": 0.35}, "value": 1},
        "size": {"condition": first | {"value": 18}, "value": 70},
    }
    mark = {"type": "circle", "clip": True, **_READ}
    return base_spec(values, HEIGHT, groups, mark=mark, params=[_ZOOM], encoding=encoding)


def bar_spec(values: Mapping[str, float]) -> Spec:
    """Horizontal bars with names and values, in the order given."""
    rows: list[Spec] = [
        {"series": shown(name), "x": _rounded(value)} for name, value in values.items() if math.isfinite(value)
    ]
    axis = {"title": None, "labelLimit": 150, "grid": False, "domain": False}
    most = max([row["x"] for row in rows], default=0)
    scale = {"domainMax": 1.3 * most} if most > 0 else {}  # room for the longest bar's value
    encoding = {
        "y": {"field": "series", "type": "nominal", "sort": None, "axis": axis},
        "x": {"field": "x", "type": "quantitative", "title": None, "axis": {"tickCount": 5}, "scale": scale},
    }
    text = {"type": "text", "align": "left", "dx": 4, "color": "currentColor", "fontSize": 11}
    digits = ",d" if all(float(row["x"]).is_integer() for row in rows) else ",.3~r"  # counts are not rounded
    layers = [
        {"mark": {"type": "bar", "color": COLOURS[0], "cornerRadiusEnd": 2, **_READ}},
        {"mark": text, "encoding": {"text": {"field": "x", "type": "quantitative", "format": digits}}},
    ]
    return base_spec(rows, 22 * max(1, len(rows)), layer=layers, encoding=encoding)


def interval_spec(values: Mapping[str, tuple[float, float, float]], x: str) -> Spec:
    """A dot for each name with its interval: (value, low, high), in the order given."""
    keys = ("x", "low", "high")
    rows: list[Spec] = [
        {"series": shown(name)} | dict(zip(keys, map(_rounded, given), strict=True)) for name, given in values.items()
    ]
    encoding = {
        "y": {"field": "series", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 150}},
        "x": {"field": "low", "type": "quantitative", "title": shown(x), "scale": {"zero": False}},
    }
    dot = {"field": "x", "type": "quantitative"}
    layers = [
        {
            "mark": {"type": "rule", "color": COLOURS[0], "strokeWidth": 3, **_READ},
            "encoding": {"x2": {"field": "high"}},
        },
        {"mark": {"type": "circle", "color": COLOURS[1], "size": 120, "opacity": 1, **_READ}, "encoding": {"x": dot}},
    ]
    return base_spec(rows, 36 * max(1, len(rows)), layer=layers, encoding=encoding)


def histogram_spec(values: Sequence[float], x: str = "", bins: int = 30) -> Spec:
    """Counts of the values in `bins` intervals."""
    finite = np.asarray(values, float)
    counts, edges = np.histogram(finite[np.isfinite(finite)], bins=bins)
    rows = [
        {"x": _rounded(low), "x2": _rounded(high), "y": count}
        for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    ]
    encoding = {
        "x": {"field": "x", "type": "quantitative", "title": shown(x) or None, "axis": {"grid": False}},
        "x2": {"field": "x2"},
        "y": {"field": "y", "type": "quantitative", "title": "count", "axis": _whole(0, int(counts.max()))},
        "y2": {"datum": 0},
    }
    return base_spec(
        rows, HEIGHT, mark={"type": "bar", "color": COLOURS[0], "binSpacing": 1, **_READ}, encoding=encoding
    )


def svg(spec: Spec, width: int = 560) -> str:
    """The chart as a file of its own, on white."""
    import vl_convert

    return vl_convert.vegalite_to_svg(_alone(spec, width) | _ON_WHITE)


def png(specs: Mapping[str, Spec], width: int = 440) -> bytes:
    """Charts beside each other under their titles, as the bytes of a PNG file."""
    import vl_convert

    parts = [_alone(spec, width) | {"title": shown(title)} for title, spec in specs.items()]
    return vl_convert.vegalite_to_png({"hconcat": parts, **_ON_WHITE}, scale=1.5)


def styles(count: int) -> tuple[list[str], list[list[int]]]:
    """The colours and dashes of as many lines or groups."""
    colours = [COLOURS[i % len(COLOURS)] for i in range(count)]
    return colours, [DASHES[i // len(COLOURS) % len(DASHES)] for i in range(count)]


@cache
def library() -> str:
    """The JavaScript of Vega, Vega-Lite and Vega-Embed, which draws charts without any other file.

    vl-convert puts it together in three seconds, so it is kept in the user's cache folder where there is one.
    """
    import vl_convert

    names = (version("vl-convert-python"), vl_convert.get_vega_version(), vl_convert.get_vega_embed_version())
    try:
        file = cache_folder() / f"charts-{'-'.join(names)}.js"
        return read_bytes(file).decode()
    except (OSError, ValueError):
        made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, made)
    except (OSError, UnboundLocalError):
        pass  # then the next page takes three seconds as well
    return made


def base_spec(
    values: list[Spec], height: int, groups: Iterable[str] = (), params: Sequence[Spec] = (), **parts: Any
) -> Spec:
    """A specification; `groups` are the names that the reader of a page can switch on and off."""
    spec: Spec = {"data": {"values": values}, "width": "container", "height": height, **_LOOK, **parts}
    switched = [{"name": "shown", "value": list(map(shown, groups))}]
    return spec | {"params": [*switched, *params], "transform": _ONLY_SHOWN} if groups else spec


def _named(groups: Iterable[str], values: Sequence[object]) -> Spec:
    """The channel that gives each group its colour or dashes."""
    scale = {"domain": list(map(shown, groups)), "range": list(values)}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": None}


def _values(groups: Mapping[str, Points], log_x: bool = False, log_y: bool = False) -> list[dict[str, Any]]:
    """The points of all groups as records; of a group of more than `MOST`, as many of them, evenly chosen."""
    rows = []
    for name, points in groups.items():
        known = [(a, b) for a, b in points if math.isfinite(a + b) and (a > 0 or not log_x) and (b > 0 or not log_y)]
        if len(known) > MOST:
            known = [known[i] for i in np.linspace(0, len(known) - 1, MOST).round().astype(int).tolist()]
        rows += [{"series": shown(name), "x": _rounded(a), "y": _rounded(b)} for a, b in known]
    return rows


def _axes(
    values: Sequence[Spec], titles: tuple[str, str], log: tuple[bool, bool] = (False, False), nice: bool = False
) -> Spec:
    """The channels of both axes; `nice` rounds the horizontal one outwards, as the vertical one is."""
    axes: Spec = {}
    for name, title, logarithmic in zip("xy", titles, log, strict=True):
        known = {row[name] for row in values}
        whole = bool(known) and all(value == int(value) for value in known)
        axis = _whole(int(min(known)), int(max(known))) if whole and not logarithmic else {}
        if len(known) == 1:
            axis = {"values": list(known), "format": ",.4~g"}  # else a lone 0.167 would stand at a tick named 0
        scale = {"type": "log"} if logarithmic else {"zero": False, "nice": name == "y" or nice}
        axes[name] = {
            "field": name,
            "type": "quantitative",
            "title": shown(title) or None,
            "axis": axis,
            "scale": scale,
        }
    return axes


def _whole(low: int, high: int) -> Spec:
    """An axis of whole numbers. Where there are few they are named, for Vega puts ticks between them: 1, 1.5, 2."""
    few = high - low < FEW
    return {"format": "d"} | ({"values": list(range(low, high + 1))} if few else {"tickMinStep": 1})


def _alone(spec: Spec, width: int) -> Spec:
    """The chart with a fixed width and a legend of its own."""
    layers = copy.deepcopy(spec["layer"])
    if len(layers[0]["encoding"]["color"]["scale"]["domain"]) > 1:
        layers[0]["encoding"]["color"]["legend"] = {"title": None, "orient": "top", "labelLimit": 200}
    del layers[1]["params"]
    layers[1]["encoding"]["opacity"].pop("condition")
    fixed = {key: value for key, value in spec.items() if key not in ("params", "transform", "config", "autosize")}
    return fixed | {"width": width, "layer": layers}


def _rounded(value: float) -> float:
    return float(value) if float(value).is_integer() else float(f"{value:.5g}")  # counts stay what they are
