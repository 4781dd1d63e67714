"""Images that occur more than once, and whether their labels agree.

Two images that look alike in small may still differ where it counts: a ship that sails into an otherwise equal aerial
image. So where labels of near duplicates differ, the pixels there are compared before it is called a conflict.

Axes: N objects of an image, S side of a patch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import torch

from anchors.boxes import iou, xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.boxes import objects
from detect.data_check.images import Seen, near_pairs, same_files
from detect.data_check.kinds import CONFLICT, COPIES, Finding, Twin
from detect.errors import UserError
from detect.utils.names import counted
from detect.utils.progress import track

SAME_PLACE = 0.5  # IoU of boxes that mark one object in both images
SAME_POINTS = 0.1  # mean distance of its keypoints, as a share of the side of its box
PATCH = 10  # pixels: side of the patches that are compared; small, so that a shift of a pixel or two hardly counts
DIFFERENT = (0.5, 0.15)  # difference of patches that differ, as a share of their contrast and of the images'
BLOCK = 1 << 20  # pairs of boxes that are compared at once
NAMED = 4  # classes that a text names

Place = tuple[str, int, Seen]  # split, index in it, and the image


def copies(seen: Mapping[str, Sequence[Seen]]) -> Iterator[Finding]:
    """Yield images that occur more than once, exactly or nearly, within splits and across them."""
    every = [(split, i, one) for split, some in seen.items() for i, one in enumerate(some)]
    files = [one for _, _, one in every]
    for group in same_files(files):
        for other in group[1:]:
            yield _copy(every[group[0]], every[other], "leak", "duplicate", "is the same image as")
    splits = np.unique([split for split, _, _ in every], return_inverse=True)[1]
    near = np.full((2, len(every)), -1)  # the first image that is almost the same, and the first in another split
    for i, others in near_pairs(files):
        for kind, found in enumerate((others, others[splits[others] != splits[i]])):
            near[kind, found[near[kind, found] < 0]] = i
    for j in np.flatnonzero(near[0] >= 0).tolist():
        apart = int(near[1, j] if near[1, j] >= 0 else near[0, j])
        yield _copy(every[apart], every[j], "near_leak", "near_duplicate", "is almost the same image as")


def _copy(first: Place, other: Place, across: str, within: str, text: str) -> Finding:
    kind = within if first[0] == other[0] else across
    where, twin = f"{first[2].path} of {first[0]}", Twin(first[0], first[1])
    return Finding(kind, other[0], str(other[2].path), f"{text} {where}", other[1], twin=twin)


def compared(findings: Sequence[Finding], datasets: Mapping[str, Annotations]) -> list[Finding]:
    """Return findings with the labels of each copy compared with those of its twin; other findings as they are."""
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(partial(compare, datasets=datasets), findings)
        return list(track(done, len(findings), "compare labels of copies"))


def compare(finding: Finding, datasets: Mapping[str, Annotations]) -> Finding:
    """Return the finding of a copy with what its labels have in common with those of its twin."""
    twin = finding.twin
    if finding.kind not in COPIES or twin is None:
        return finding
    one, other = datasets[finding.split], datasets[twin.split]
    rows, other_rows = differing(one, finding.image, other, twin.image)
    words = {False: "redundant", True: "leak"}[finding.split != twin.split]
    said = _agreement(one, finding.image)
    if len(rows) or len(other_rows):
        said = _difference(one, rows, other, other_rows)
        same = finding.kind in ("leak", "duplicate") or alike(one, finding.image, rows, other, twin.image, other_rows)
        if same:
            words = CONFLICT if words == "redundant" else f"leak with {CONFLICT}"
        else:
            words = "similar" if words == "redundant" else words
            said += ", and the images differ there"
    twin = replace(twin, relation=words, rows=tuple(rows.tolist()), other_rows=tuple(other_rows.tolist()))
    return replace(finding, text=f"{finding.text}: {words}: {said}", twin=twin)


def differing(one: Annotations, i: int, other: Annotations, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of objects in either image that have no partner in the other: same class, place and keypoints.

    Args:
        one: the split of the first image.
        i: its index.
        other: the split of the second image, which may be of another size.
        j: its index.
    """
    rows, other_rows = _rows(one, i), _rows(other, j)
    size, other_size = _size(one, i), _size(other, j)
    scale = size / other_size if size.all() and other_size.all() else np.ones(2)
    boxes, other_boxes = one.boxes[rows], other.boxes[other_rows] * np.tile(scale, 2)
    names, other_names = _names(one, rows), _names(other, other_rows)
    free, other_free = np.ones(len(rows), bool), np.ones(len(other_rows), bool)
    for a, b in _pairs(boxes, other_boxes):
        fits = free[a] and other_free[b] and names[a] == other_names[b]
        if fits and _same_points(one, rows[a], other, other_rows[b], scale):
            free[a] = other_free[b] = False
    return rows[free], other_rows[other_free]


def _pairs(boxes: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield which of boxes (N, 4) and others (M, 4), x, y, width, height, are at one place, the best pairs first."""
    mine, theirs = (xywh_to_xyxy(torch.from_numpy(b)) for b in (boxes, others))
    found: list[np.ndarray] = [np.zeros((0, 3))]
    step = max(1, BLOCK // max(1, len(others)))
    for start in range(0, len(boxes), step):
        overlap = iou(mine[start : start + step], theirs).numpy()
        a, b = np.nonzero(overlap >= SAME_PLACE)
        found.append(np.stack([a + start, b, overlap[a, b]], axis=1))
    every = np.concatenate(found)
    yield from every[np.argsort(-every[:, 2], kind="stable"), :2].astype(int).tolist()


def _names(annotations: Annotations, rows: np.ndarray) -> list[str]:
    return [annotations.names[label] for label in annotations.labels[rows].tolist()]


def _same_points(one: Annotations, row: int, other: Annotations, other_row: int, scale: np.ndarray) -> bool:
    if one.keypoints is None or other.keypoints is None or one.keypoints.shape[1] != other.keypoints.shape[1]:
        return True
    a, b = one.keypoints[row], other.keypoints[other_row]
    both = (a[:, 2] > 0) & (b[:, 2] > 0)
    if not both.any():
        return (a[:, 2] > 0).any() == (b[:, 2] > 0).any()
    distance = np.linalg.norm(a[both, :2] - b[both, :2] * scale, axis=1).mean()
    return bool(distance <= SAME_POINTS * np.sqrt(one.boxes[row, 2:].prod()))


def alike(one: Annotations, i: int, rows: np.ndarray, other: Annotations, j: int, other_rows: np.ndarray) -> bool:
    """Return whether two images have the same pixels in most boxes of `rows` of the first, `other_rows` of the second.

    Args:
        one: the split of the first image.
        i: its index.
        rows: annotations of the first image.
        other: the split of the second image.
        j: its index.
        other_rows: annotations of the second image.
    """
    try:
        images = [_normalized(d.read(k)) for d, k in ((one, i), (other, j))]
    except UserError:
        return False
    sizes = [np.array(image.shape[1::-1], float) for image in images]
    boxes = np.vstack([one.boxes[rows] / np.tile(sizes[0], 2), other.boxes[other_rows] / np.tile(sizes[1], 2)])
    same = [_patches_agree(*(_patch(image, box) for image in images)) for box in boxes]
    return 2 * sum(same) >= len(same)


def _normalized(image: np.ndarray) -> np.ndarray:
    """An image in grey of mean 0 and deviation 1, which brightness and contrast do not change."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return (grey - grey.mean()) / max(float(grey.std()), 1.0)


def _patch(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of an image in a box (4,) x, y, width, height as shares of it, with a margin of a fifth."""
    height, width = image.shape
    low = (box[:2] - box[2:] / 5) * (width, height)
    high = (box[:2] + box[2:] * 6 / 5) * (width, height)
    x, y = np.clip(np.floor(low), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.maximum(np.clip(np.ceil(high), 0, (width, height)).astype(int), (x + 1, y + 1))
    return cv2.resize(image[y:bottom, x:right], (PATCH, PATCH), interpolation=cv2.INTER_AREA)


def _patches_agree(a: np.ndarray, b: np.ndarray) -> bool:
    difference = float((a - b - (a.mean() - b.mean())).std())
    return difference <= max(DIFFERENT[0] * max(float(a.std()), float(b.std())), DIFFERENT[1])


def _rows(annotations: Annotations, image: int) -> np.ndarray:
    rows = np.arange(annotations.starts[image], annotations.starts[image + 1])
    return rows[objects(annotations)[rows]]


def _size(annotations: Annotations, image: int) -> np.ndarray:
    return annotations.sizes[image, ::-1].astype(float)


def _agreement(annotations: Annotations, image: int) -> str:
    rows = _rows(annotations, image)
    if not len(rows):
        return "neither has an object"
    return f"both have the same {_named(annotations, rows).removeprefix('1 ')}"


def _difference(one: Annotations, rows: np.ndarray, other: Annotations, other_rows: np.ndarray) -> str:
    parts = [f"only the first has {_named(one, rows)}"] * bool(len(rows))
    parts += [f"only the second has {_named(other, other_rows)}"] * bool(len(other_rows))
    return ", ".join(parts)


def _named(annotations: Annotations, rows: np.ndarray) -> str:
    """Such as "3 objects (2 king, 1 queen)"."""
    counts = Counter(_names(annotations, rows)).most_common()
    names = ", ".join(f"{count} {name}" if len(rows) > 1 else name for name, count in counts[:NAMED])
    names += " …" * (len(counts) > NAMED)
    return f"{counted(len(rows), 'object')} ({names})"
