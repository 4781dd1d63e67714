"""What `detect next` writes: a ranked list as JSON and CSV, the paths alone, and a page of thumbnails."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.api import Detector
from detect.commands.next_images import NextImagesConfig
from detect.data.images import read_pages, scaled
from detect.errors import UserError
from detect.report.html import Page
from detect.selection.pool import objects_of
from detect.types import Classification
from detect.utils.atomic_io import replace_file, replace_text
from detect.utils.names import counted, json_text, say
from detect.utils.overwrite import require_own

if TYPE_CHECKING:
    from detect.selection.choose import Choice
    from detect.selection.run import Selection

LIST, TABLE, JSON, PAGE = "images.txt", "next.csv", "next.json", "next.html"
SHOWN, SIDE = 120, 640  # images on the page, and their longer side in pixels


def require_free(out: Path) -> None:
    """Check that only files of an earlier run would be replaced.

    Raises:
        UserError: a file of these names was not written by `detect next`.
    """
    require_own(out / JSON, "selection")
    require_own(out / PAGE, "page")
    for name in (LIST, TABLE):
        if os.path.lexists(out / name) and not (out / JSON).is_file():
            raise UserError(f"{out / name} is there, and detect next did not write it: choose another --out")


def write(config: NextImagesConfig, weights: Mapping[str, float], detector: Detector, selection: Selection) -> Path:
    """Write all files; returns the page."""
    out = Path(config.out)
    rows = list(_rows(selection))
    about = {"budget": config.budget, "weights": config.weights, "source": config.source, "data": config.data}
    about |= {"criteria": dict(weights), "per_image": config.per_image, "images": len(selection.found.names)}
    left_out = [
        {"image": str(selection.found.seen[one.image].path), "like": one.twin, "labelled": one.labelled}
        for one in selection.left_out
    ]
    replace_text(out / JSON, json_text({**about, "chosen": rows, "left_out": left_out}, indent=1) + "\n")
    replace_text(out / TABLE, _csv(rows, weights))
    paths = list(dict.fromkeys(row["path"] for row in rows))
    lines = [os.fsencode(path) for path in paths if "\n" not in path and path == path.strip()]
    if len(lines) < len(paths):
        say(
            f"{LIST} lacks {counted(len(paths) - len(lines), 'image')} whose names no list can hold; {JSON} has all",
            sys.stderr,
        )
    replace_file(out / LIST, lambda part: part.write_bytes(b"".join(line + b"\n" for line in lines)))
    replace_text(out / PAGE, str(_page(config, weights, detector, selection)))
    return out / PAGE


def _rows(selection: Selection) -> Iterator[dict[str, Any]]:
    for rank, one in enumerate(selection.choices, 1):
        parts = {
            name: {"value": round(part.value, 5), "share": round(part.share, 5), "reason": part.text}
            for name, part in one.parts.items()
        }
        path = os.path.abspath(selection.found.seen[one.image].path)
        found = {"rank": rank, "image": selection.found.names[one.image], "path": path}
        yield {**found, "score": round(one.score, 5), "criteria": parts}


def _csv(rows: list[dict[str, Any]], weights: Mapping[str, float]) -> str:
    """A row for each chosen image: rank, path, score, the share of each criterion, and the reasons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "image", "path", "score", *weights, "reasons"])
    for row in rows:
        parts = row["criteria"]
        reasons = "; ".join(part["reason"] for part in parts.values())
        shares = [parts[name]["share"] for name in weights]
        writer.writerow([row["rank"], row["image"], row["path"], row["score"], *shares, reasons])
    return text.getvalue()


def _page(config: NextImagesConfig, weights: Mapping[str, float], detector: Detector, selection: Selection) -> Page:
    found, choices = selection.found, selection.choices
    made = Page(f"Images to label next: {len(choices)} of {len(found.names):,}")
    beside = f", beside {selection.labelled:,} labelled images of {config.data}" if selection.labelled else ""
    made.text(f"From {config.source}{beside}, with the predictions of {config.weights}.")
    made.heading("Chosen images")
    made.text(
        "In the order in which they were chosen, with the predictions that the reasons speak of: the best of each "
        f"place, with scores from {config.conf:g}. Each criterion is on a scale from 0 to 1; the score of an image is "
        "their weighted mean."
    )
    skeleton = [(a, b) for a, b in detector.metadata.skeleton]
    shown = []
    for rank, one in enumerate(choices[:SHOWN], 1):
        result = best_of_places(found.results[one.image], detector.names)
        result = result.described(detector.names, detector.metadata.category_ids, skeleton)
        caption = f"{rank}. {found.names[one.image]} ({one.score:.2f}): {_reasons(one)}"
        shown.append((_drawn(selection, one, result), caption, str(found.seen[one.image].path)))
    if choices[SHOWN:]:
        made.text(f"The first {SHOWN} are shown; {JSON} and {TABLE} have all.")
    made.gallery(shown)
    made.heading("Ranked list")
    heads = ["rank", "image", "score", *(f"{name} (weight {weight:g})" for name, weight in weights.items())]
    rows = [
        [rank, found.names[one.image], one.score, *(one.parts[name].share for name in weights)]
        for rank, one in enumerate(choices, 1)
    ]
    made.table(heads, rows)
    if selection.left_out:
        made.heading("Duplicates left out")
        made.text("Labelling an image that is almost the same as another one teaches a model little.")
        pairs = [
            (found.names[one.image], one.twin, "labelled" if one.labelled else "chosen") for one in selection.left_out
        ]
        made.table(["image", "almost the same as", "which is"], pairs)
    return made


def _reasons(choice: Choice) -> str:
    return "; ".join(part.text for part in choice.parts.values())


def best_of_places(result: Any, names: Sequence[str]) -> Any:
    """The predictions that stand for objects (see `objects_of`); a classification as it is."""
    return result if isinstance(result, Classification) else result[objects_of(result, len(names)).best]


def _drawn(selection: Selection, choice: Choice, result: Any) -> np.ndarray:
    """The image with its predictions, small enough for a page."""
    path, page = selection.found.seen[choice.image].path, selection.found.pages[choice.image]
    image = next(one.image for one in read_pages(path) if one.number == page)
    annotated: np.ndarray = result.plot(image)
    return scaled(annotated, min(1.0, SIDE / max(image.shape[:2])))
