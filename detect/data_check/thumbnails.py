"""Images of findings, copies, classes and splits, small enough that the page of `detect check` holds many.

An image is read only when it is drawn, and drawing ends where the room on the page does: time and memory are bounded by
the room, not by the number of findings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, zip_longest
from typing import NamedTuple

import cv2
import numpy as np
import torch

from detect.data.annotations import Annotations
from detect.data.boxes import objects
from detect.data.images import read_image, scaled
from detect.data_check.kinds import KINDS, Checked, Finding
from detect.data_check.marked import BLUE, YELLOW, grid, marked, side_by_side
from detect.data_check.short_names import ShortNames
from detect.errors import UserError
from detect.inference.draw import draw
from detect.types import Detections
from detect.utils.names import counted

SIDES = ((24, 800), (60, 560), (10**9, 400))  # pixels of an image, by how many there are to show at most
SMALLEST = 200  # pixels that a small image is enlarged to
TURN = 6  # images that a kind of finding gets before the next kind has its turn
TOLD, NAMED = 3, 6  # objects that a caption tells of, and up to how many in an image are named in it
CELL, CROPS, MOST_CROPS = 112, 240, 8  # pixels of a crop; crops of all classes together, and of one class
EXAMPLES, CLASSES = 6, 100  # images of each split, and classes, that are shown
TOGETHER = 16  # images that are drawn before the room is looked at again


class Thumbnail(NamedTuple):
    """An image (H, W, 3) uint8 RGB, what it shows, and the full paths of its files."""

    image: np.ndarray
    caption: str
    path: str


Job = tuple[str, Callable[[], Thumbnail | None]]  # the section of the page, and what draws the image for it


def drawn(jobs: Sequence[Job], room: int) -> tuple[dict[str, list[Thumbnail]], int]:
    """Draw images, the first of `jobs` first, until they take `room` bytes on a page.

    Returns:
        The images of each section, and the bytes that they take.
    """
    found, taken = defaultdict[str, list[Thumbnail]](list), 0
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(jobs), TOGETHER):
            some = jobs[start : start + TOGETHER]
            for (section, _), one in zip(some, pool.map(lambda job: job[1](), some), strict=True):
                size = 0 if one is None else _bytes(one)
                if one is None or taken + size > room:
                    continue
                found[section].append(one)
                taken += size
            if taken > 0.97 * room:
                break
    return found, taken


def _bytes(one: Thumbnail) -> int:
    code = cv2.imencode(".jpg", one.image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return len(code) * 4 // 3 + 2 * len(one.caption) + 2 * len(one.path) + 500


def groups(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Return findings by the image that shows them: the one that they are about, or of a coding, the first that has it.

    Copies are alone, and findings about no image are left out.
    """
    found = defaultdict[tuple[str, int, object], list[Finding]](list)
    for n, one in enumerate(findings):
        if one.kind == "encoding":
            found[one.split, -1, one.text].append(one)
        elif one.image >= 0 or one.kind == "unlisted":
            found[one.split, one.image, n if one.twin or one.image < 0 else -1].append(one)
    return list(found.values())


def of_findings(checked: Checked, names: ShortNames) -> list[Job]:
    """Return the images of all findings; each kind has its turn, the worst first."""
    kinds = [[(kind, group) for group in groups(checked.of_kind(kind))] for kind in KINDS]
    turns = zip_longest(*([kind[n : n + TURN] for n in range(0, len(kind), TURN)] for kind in kinds), fillvalue=[])
    order = list(chain.from_iterable(chain.from_iterable(turns)))
    side = next(side for most, side in SIDES if len(order) <= most)
    return [(kind, partial(of_finding, checked, group, names, side)) for kind, group in order]


def of_finding(checked: Checked, group: Sequence[Finding], names: ShortNames, side: int) -> Thumbnail | None:
    """Return the image of findings of one kind in one image, its objects marked; None if it cannot be read."""
    one = group[0]
    if one.twin:
        return _pair(checked, one, names, side)
    if one.image < 0:
        image = _read_file(one.where)
        return None if image is None else Thumbnail(_shrunk(image, side), names.relative(one.where), one.where)
    annotations = checked.annotations[one.split]
    path = str(annotations.image_path(one.image))
    rows = [row for finding in group for row in finding.rows]
    image = _marked(annotations, one.image, rows, side)
    told = list(dict.fromkeys(_told(annotations, finding, names) for finding in group))
    text = "; ".join(told[:TOLD]) + f"; and {len(told) - TOLD} more" * (len(told) > TOLD)
    text += f", as are {len(group) - 1:,} more" * (one.kind == "encoding" and len(group) > 1)
    return None if image is None else Thumbnail(image, f"{names(path)} ({one.split}): {text}", path)


def _pair(checked: Checked, one: Finding, names: ShortNames, side: int) -> Thumbnail | None:
    """Two copies side by side, with the objects marked that only one has."""
    twin = one.twin
    assert twin is not None
    places = ((one.split, one.image, twin.rows), (twin.split, twin.image, twin.other_rows))
    each = [checked.annotations[split] for split, _, _ in places]
    halves = [_marked(a, i, rows, round(0.6 * side), zoom=False) for a, (_, i, rows) in zip(each, places, strict=True)]
    shown = [half for half in halves if half is not None]
    if len(shown) < 2:
        return None
    paths = [str(a.image_path(i)) for a, (_, i, _) in zip(each, places, strict=True)]
    both = " | ".join(f"{names(path)} ({split})" for path, (split, _, _) in zip(paths, places, strict=True))
    said = one.text.split(f": {twin.relation}: ")[-1]
    return Thumbnail(side_by_side(shown), f"{both}: {twin.relation}: {said}", " | ".join(paths))


def _marked(
    annotations: Annotations, index: int, rows: Sequence[int], side: int, zoom: bool = True
) -> np.ndarray | None:
    image = _read(annotations, index)
    if image is None:
        return None
    here = range(int(annotations.starts[index]), int(annotations.starts[index + 1]))
    boxes = annotations.boxes[here.start : here.stop].copy()
    boxes[:, 2:] += boxes[:, :2]
    chosen = set(rows)
    named = len(annotations.names) > 1 and len(chosen) <= NAMED
    tags = [annotations.names[annotations.labels[row]] * named if row in chosen else None for row in here]
    if annotations.keypoints is not None:
        image = _dotted(image, annotations.keypoints[here.start : here.stop])
    image = _lined(image, annotations, [row for row in here if row in chosen])
    return marked(image, boxes, tags, min(side, max(SMALLEST, *image.shape[:2])), zoom)


def _dotted(image: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """A copy of an image with a dot at each keypoint (N, K, 3) that is labelled."""
    copy, radius = image.copy(), max(1, max(image.shape) // 150)
    for x, y, seen in keypoints.reshape(-1, 3).tolist():
        if seen:
            cv2.circle(copy, (round(x), round(y)), radius, BLUE, -1, cv2.LINE_AA)
    return copy


def _lined(image: np.ndarray, annotations: Annotations, rows: Sequence[int]) -> np.ndarray:
    """A copy of an image with the outlines of some annotations; the image itself where they have none."""
    if annotations.outlines is None or not len(rows):
        return image
    rings = annotations.outlines[np.array(rows)].as_rings()
    paths = np.split((rings.points * 16 - 8).round().astype(np.int32), rings.ring_starts[1:-1])
    thick = max(1, max(image.shape) // 300)
    return cv2.polylines(image.copy(), [path for path in paths if len(path)], True, YELLOW, thick, cv2.LINE_AA, 4)


def _told(annotations: Annotations, finding: Finding, names: ShortNames) -> str:
    """What a caption says of a finding: its object, by class and id, and what is wrong with it."""
    if not finding.rows:
        return names.relative(finding.text.removeprefix(f"{finding.where}: "))
    row = finding.rows[0]
    return f"{annotations.names[annotations.labels[row]]} (id {annotations.ids[row]}) {finding.text}"


def of_splits(checked: Checked, names: ShortNames) -> list[Job]:
    """Return some images of each split with all their annotations, spread evenly over it."""
    jobs: list[Job] = []
    for split, listed in checked.annotations.items():
        if listed.dims == 2 and not (checked.splits[split]["whole_images"] and listed.keypoints is None):
            places = np.unique(np.linspace(0, len(listed) - 1, EXAMPLES + 2).round().astype(int)[1:-1])
            jobs += [(split, partial(_annotated, listed, split, i, names)) for i in places.tolist()]
    return jobs


def _annotated(annotations: Annotations, split: str, index: int, names: ShortNames) -> Thumbnail | None:
    image, target = _read(annotations, index), annotations.target(index)
    if image is None:
        return None
    image = _lined(image, annotations, range(int(annotations.starts[index]), int(annotations.starts[index + 1])))
    scale = min(1.0, SIDES[1][1] / max(image.shape[:2]))
    keypoints = target.keypoints
    if keypoints is not None:
        keypoints = torch.cat([keypoints[..., :2] * scale, (keypoints[..., 2:] > 0).float()], dim=-1)
    known = Detections(target.boxes * scale, torch.ones(len(target)), target.labels, keypoints)
    skeleton = [(a, b) for a, b in annotations.skeleton]
    shown = draw(scaled(image, scale), known, annotations.names, skeleton, hide_conf=True)
    path = str(annotations.image_path(index))
    return Thumbnail(shown, f"{names(path)} ({split}): {counted(len(target), 'object')}", path)


def of_classes(checked: Checked) -> list[Job]:
    """Return a sheet for each class of the first split: objects from the middle to the largest, cut out."""
    split = next((name for name, one in checked.annotations.items() if one.dims == 2), None)
    if split is None:
        return []
    annotations = checked.annotations[split]
    counts = np.bincount(annotations.labels[objects(annotations)], minlength=len(annotations.names))
    order = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]][:CLASSES]
    each = min(MOST_CROPS, max(2, CROPS // max(1, len(order))))
    return [("classes", partial(_sheet, annotations, split, label, each)) for label in order]


def _sheet(annotations: Annotations, split: str, label: int, most: int) -> Thumbnail | None:
    rows = np.flatnonzero(objects(annotations) & (annotations.labels == label))
    by_area = rows[np.argsort(annotations.boxes[rows, 2:].prod(axis=1), kind="stable")]
    places = np.unique(np.linspace(len(rows) // 2, len(rows) - 1, most).round().astype(int))
    crops = [_crop(annotations, int(row)) for row in by_area[places]]
    shown = [crop for crop in crops if crop is not None]
    name = annotations.names[label]
    if not shown:
        return None
    return Thumbnail(grid(shown, CELL, 4), f"{name}: {counted(len(rows), 'object')} in {split}", name)


def _crop(annotations: Annotations, row: int) -> np.ndarray | None:
    """An object cut out, with a margin of a tenth."""
    image = _read(annotations, int(np.searchsorted(annotations.starts, row, "right")) - 1)
    if image is None:
        return None
    x, y, w, h = annotations.boxes[row].tolist()
    left, top = max(0, int(x - w / 10)), max(0, int(y - h / 10))
    part = image[top : max(top + 1, round(y + 1.1 * h)), left : max(left + 1, round(x + 1.1 * w))]
    return part.copy() if part.size else None  # a view would keep the whole image


def _read(annotations: Annotations, index: int) -> np.ndarray | None:
    """The image as annotated, or as its file has it where the two do not agree; None if it cannot be read."""
    try:
        return annotations.read(index)
    except UserError:
        return _read_file(str(annotations.image_path(index)))


def _read_file(path: str) -> np.ndarray | None:
    try:
        return read_image(path)
    except UserError:
        return None


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    return scaled(image, min(1.0, side / max(image.shape[:2])))


def every_path(checked: Checked) -> Iterator[str]:
    """Yield the path of every image of the splits."""
    return (str(one.path) for seen in checked.seen.values() for one in seen)
