"""The page of `detect check`: what was found, shown in images; what the dataset asks for; what is in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from detect.data_check import charts, thumbnails
from detect.data_check.kinds import COPIES, KINDS, Checked, Finding
from detect.data_check.short_names import ShortNames
from detect.data_check.thumbnails import Thumbnail
from detect.report.html import Page
from detect.utils.names import counted

LARGEST = 4_900_000  # bytes of the page, so that it can be sent by mail and opens at once
LISTED = 200  # findings of a kind in its table; --json has all
OTHERS = 0.3  # of the room for images: those of classes and splits, the rest is for findings
PAIR, SINGLE = 460, 260  # pixels: width of thumbnails of two images side by side, and of one
TITLES = {
    "record": "Bad records",
    "image": "Broken images",
    "empty": "Empty splits",
    "flat": "Flat boxes",
    "away": "Boxes outside",
    "relative": "Relative boxes",
    "small": "Only small boxes",
    "classes": "Unshared classes",
    "leak": "Leaks",
    "near_leak": "Near leaks",
    "duplicate": "Duplicates",
    "doubled": "Marked twice",
    "mixed": "Relative boxes among others",
    "outside": "Boxes that reach out",
    "unfinished": "Unfinished files",
    "turned": "Turned images",
    "unlabelled": "Folders without labels",
    "skeleton": "Skeletons",
    "outline": "Unusable outlines",
    "no_outline": "Missing outlines",
    "crossing": "Crossing polygons",
    "leaves_box": "Outlines beside their boxes",
    "area": "Areas that do not fit",
    "unlisted": "Unlisted images",
    "unused": "Records passed over",
    "near_duplicate": "Near duplicates",
    "tiny": "Tiny boxes",
    "giant": "Giant boxes",
    "encoding": "Unusual coding",
    "outline_outside": "Outlines that reach out",
    "outlines": "Rows of outlines",
    "rare": "Rare classes",
}
REMEDIES = {
    "record": "Correct the records, or train with --skip-bad, which leaves them out.",
    "image": "Replace the files, or train with --skip-bad, which leaves them out.",
    "flat": "Draw the boxes again or remove them; --skip-bad leaves them out of training.",
    "away": "Usually x and y are swapped, or the boxes are of another image or of another size of it.",
    "leak": "A result on such images says nothing about new ones: keep each image in one split.",
    "near_leak": "Frames of one video, or one photo saved twice: keep them together in one split.",
    "duplicate": "Remove one of each pair; where labels contradict one another, keep the right ones.",
    "near_duplicate": "Redundant pairs do little harm; a label conflict teaches two answers for one image: correct it.",
    "doubled": "Remove one of the two boxes: a detector that finds the object once counts as having missed one.",
    "outside": "What lies outside is cut off in training. Large reaches hint at wrong sizes or swapped coordinates.",
    "turned": "Look whether the boxes fit the image as it is shown here; if not, save it without EXIF orientation.",
    "outline": "They stop tasks of masks alone: draw them again, or leave the objects out with --skip-bad.",
    "no_outline": "Draw the missing ones, or train masks with --skip-bad, which leaves these objects out.",
    "crossing": "A loop of a few pixels is harmless; draw outlines again where a large part is cut out.",
    "leaves_box": "Masks are learned within the boxes: make each box the one around its outline.",
    "area": "COCO's results by size go by the area: compute it from the outline.",
    "unlisted": "Annotate the images, list them as images without objects, or move them away.",
    "tiny": "Such boxes are hardly learned: use a larger --imgsz, or remove them if they are mistakes.",
    "giant": "Mistakes, or labels of whole images? If they are right, leave them.",
    "encoding": "They are read as they should be; know it if another tool shows them differently.",
    "rare": "Add images of these classes, or merge or drop the classes.",
}


def html(data: str, checked: Checked) -> str:
    """Return the page on the dataset `data`, of `LARGEST` bytes at most: it holds as many images as fit."""
    folder = data if os.path.isdir(data) else os.path.dirname(data) or "."
    names = ShortNames(thumbnails.every_path(checked), folder)
    room = LARGEST - len(str(_page(data, checked, names, {}, {})).encode())
    others = [*thumbnails.of_splits(checked, names), *thumbnails.of_classes(checked)]
    shown, taken = thumbnails.drawn(others, int(OTHERS * room))
    found, _ = thumbnails.drawn(thumbnails.of_findings(checked, names), room - taken)
    return str(_page(data, checked, names, shown, found))


def _page(
    data: str,
    checked: Checked,
    names: ShortNames,
    shown: dict[str, list[Thumbnail]],
    found: dict[str, list[Thumbnail]],
) -> Page:
    made = Page(f"{Path(data).name or data}: what there is to know before training")
    counts = ", ".join(counted(checked.level(level), level) for level in ("error", "warning", "note"))
    made.text(f"{counts}. Dataset: {data}")
    kinds = {kind: checked.of_kind(kind) for kind in KINDS}
    rows = [(TITLES[kind], len(some), some[0].level) for kind, some in kinds.items() if some]
    if rows:
        made.table(("kind of finding", "found", "level"), rows, filter=False)
    if checked.needs:
        made.heading("What the dataset asks for")
        made.table(("about", "what"), [line.split(": ", 1) for line in checked.needs])
    for kind, some in kinds.items():
        if some:
            _kind(made, kind, some, found.get(kind, []), names)
    charts.numbers(made, checked)
    charts.classes(made, checked)
    if shown.get("classes"):
        made.gallery([(one.image, one.caption, one.path) for one in shown["classes"]])
    charts.boxes(made, checked)
    charts.keypoints(made, checked)
    charts.images(made, checked)
    examples = list(chain.from_iterable(some for key, some in shown.items() if key != "classes"))
    if examples:
        made.heading("Images with their annotations")
        made.text("Spread evenly over each split: do the boxes fit, and are all objects marked?")
        made.gallery([(one.image, one.caption, one.path) for one in examples])
    return made


def _kind(made: Page, kind: str, some: Sequence[Finding], images: Sequence[Thumbnail], names: ShortNames) -> None:
    """Add the findings of a kind: what to do, images with the objects marked, and a table."""
    made.heading(f"{TITLES[kind]}: {len(some):,}")
    made.text(f"{some[0].level.capitalize()}: {KINDS[kind][1]}. {REMEDIES.get(kind, '')}")
    total = len(thumbnails.groups(some))
    if images:
        if len(images) < total:
            lack = "the others cannot be read, or there is no room for them on this page"
            made.text(f"{len(images):,} of {total:,} images are shown; {lack}.")
        made.gallery([(one.image, one.caption, one.path) for one in images], side=PAIR if kind in COPIES else SINGLE)
    listed = [(_where(one, names), names.relative(one.text.removeprefix(f"{one.where}: "))) for one in some[:LISTED]]
    made.table(("where", "what"), listed)
    if some[LISTED:]:
        made.text(f"… and {len(some) - LISTED:,} more: --json has them all.")


def _where(one: Finding, names: ShortNames) -> str:
    return f"{one.split}: {names(one.where)}" if one.split else names(one.where)
