"""Findings about a dataset before training on it: defects of records and images, and oddities.

Nothing is written into the data. Axes: I images, N objects.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anchors.boxes import xywh_to_xyxy
from anchors.kmeans import kmeans, mean_iou, recall
from detect.data.annotations import Annotations
from detect.data.bad_records import EmptyDatasetError
from detect.data.boxes import (
    REACH,
    away,
    called,
    faults,
    objects,
    owners,
    partly_relative,
    reach,
    relative,
    too_small,
)
from detect.data.orientation import settled
from detect.data.roots import Roots
from detect.data.sources.base import Source
from detect.data.sources.formats import recognise
from detect.data_check.doubled import doubled
from detect.data_check.images import Seen, look_at_all, near_pairs, same_files, unlisted
from detect.errors import UserError, unknown

# What is found, and how much it matters: an error stops training, a warning is a likely mistake, a note is a fact.
KINDS = {
    "record": ("error", "records that cannot be used"),
    "image": ("error", "images that are missing, broken, or of another size than annotated"),
    "empty": ("error", "splits without any object"),
    "flat": ("error", "boxes of no width or height: not to be learned, and counted by an evaluation all the same"),
    "away": ("error", "boxes that lie wholly outside their image"),
    "relative": ("error", "splits whose boxes are relative, 0 to 1, where pixels are expected"),
    "small": (
        "error",
        "training sets whose boxes all are less than 2 pixels high or wide at the image size of training",
    ),
    "classes": ("warning", "classes that splits do not share, or without objects, or that are none"),
    "leak": ("warning", "the same image in several splits"),
    "near_leak": ("warning", "almost the same image in several splits"),
    "duplicate": ("warning", "the same image several times in a split"),
    "doubled": ("warning", "objects marked twice: same class, IoU above 0.95"),
    "mixed": ("warning", "splits with boxes within the first pixel of an image: perhaps relative, 0 to 1"),
    "outside": ("warning", "boxes that reach more than a pixel out of their image"),
    "unfinished": ("warning", "JPEG files that lack their end mark or hold bytes too many, with all their pixels"),
    "turned": ("warning", "images that EXIF turns, where the annotated size does not say whether it counts"),
    "unlabelled": ("warning", "folders of images of which none has a label file"),
    "skeleton": ("warning", "skeletons that do not fit their keypoints"),
    "unlisted": ("warning", "images in the folders that no annotation lists"),
    "near_duplicate": ("note", "almost the same image several times in a split"),
    "tiny": ("note", "boxes less than 3 pixels high or wide at the image size of training"),
    "giant": ("note", "boxes that fill more than 98 % of their image"),
    "encoding": ("note", "images of unusual coding, or turned by EXIF"),
    "rare": ("note", "classes with less than a tenth of the objects that a class has on average"),
}
USUAL = ("train", "val", "test")
TINY, GIANT = 3.0, 0.98


@dataclass(frozen=True)
class Finding:
    """One finding: its kind, the split, the record or file, and what is wrong or odd."""

    kind: str
    split: str
    where: str
    text: str


@dataclass
class Checked:
    """The findings about a dataset, and statistics of each split."""

    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    anchors: dict[str, Any] = field(default_factory=dict)

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(one.kind == kind for one in self.findings)

    def level(self, level: str) -> int:
        """Return the number of errors, warnings or notes."""
        return sum(KINDS[one.kind][0] == level for one in self.findings)

    def plain(self) -> dict[str, Any]:
        """Return plain values, as they are written to a file."""
        counts = {kind: self.count(kind) for kind in KINDS}
        splits = {
            name: {k: v for k, v in facts.items() if not isinstance(v, np.ndarray)}
            for name, facts in self.splits.items()
        }
        found = [{"level": KINDS[one.kind][0], **asdict(one)} for one in self.findings]
        return {"counts": counts, "findings": found, "splits": splits, "anchors": self.anchors}


def check(data: str, size: int, k: int = 9, splits: Sequence[str] = (), allow_outside: bool = False) -> Checked:
    """Check the dataset `data` for training at image size `size`, with `k` anchors.

    Raises UserError where it is no data, or has no split of a name in `splits`.
    """
    checked, datasets, seen = Checked(), dict[str, Annotations](), dict[str, list[Seen]]()
    known = recognise(data, allow_outside=allow_outside)
    for split in splits or [name for name in USUAL if name in known] or known:
        if split not in known:
            raise unknown("split", split, known)
        annotations, told = load(known[split], split)
        checked.findings += told
        if annotations is None:
            continue
        seen[split] = look_at_all(annotations, f"look at {split}")
        datasets[split] = annotations = settled(annotations, [one.header for one in seen[split]])
        checked.findings += [Finding(kind, split, str(annotations.path), line) for kind, line in annotations.notes]
        checked.findings += images(split, annotations, seen[split])
        known_sizes = [
            (annotations.size(i) or one.header.shown) if one.header else (0, 0) for i, one in enumerate(seen[split])
        ]
        sizes = np.array(known_sizes).reshape(-1, 2)
        checked.findings += boxes(split, annotations, sizes, size)
        checked.splits[split] = facts(annotations, sizes, size)
    checked.findings += classes(datasets)
    checked.findings += copies(seen)
    everywhere = [datasets.get(split) or load(known[split], split)[0] for split in known]
    if all(everywhere):  # what an unreadable split lists is unknown
        checked.findings += nowhere(
            [one for one in everywhere if one],
            checked.findings,
            Source(Path(data), allow_outside=allow_outside).inside,
        )
    first = next(iter(checked.splits), "")
    checked.anchors = anchors_of(checked.splits[first]["sides"], k, size) if first else {}
    return checked


def load(loader: Callable[[bool], Annotations], split: str) -> tuple[Annotations | None, list[Finding]]:
    """Read a split: its annotations, None if none can be used, and a finding for each bad record."""
    try:
        annotations = loader(True)
    except EmptyDatasetError as error:
        found = [Finding("record", split, error.path, line) for line in error.left_out]
        return None, [*found, Finding("empty", split, error.path, "holds no image that can be used")]
    except UserError as error:
        return None, [Finding("record", split, split, str(error))]
    return annotations, [Finding("record", split, str(annotations.path), line) for line in annotations.left_out]


def nowhere(datasets: Sequence[Annotations], findings: Sequence[Finding], inside: Roots) -> Iterator[Finding]:
    """Yield images in the folders of the splits that no split lists and no finding names; links lead `inside`."""
    listed = {os.path.abspath(one.image_path(i)) for one in datasets for i in range(len(one))}
    said = "\n".join(one.text for one in findings if one.kind == "record")
    for path in unlisted(listed, inside):
        if path not in said:
            yield Finding("unlisted", "", path, "is in no annotation file")


def images(split: str, annotations: Annotations, seen: Iterable[Seen]) -> Iterator[Finding]:
    """Yield broken and odd images."""
    for i, one in enumerate(seen):
        if one.problem:
            yield Finding("image", split, str(one.path), one.problem)
        if one.unfinished:
            yield Finding("unfinished", split, str(one.path), one.unfinished)
        for oddity in one.oddities:
            yield Finding("encoding", split, str(one.path), oddity)
        if one.header is not None and one.header.orientation != 1:
            applied = "not applied" if one.header.turn(annotations.size(i), str(one.path)) == 1 else "applied"
            yield Finding("encoding", split, str(one.path), f"has EXIF orientation {one.header.orientation}, {applied}")


def boxes(split: str, annotations: Annotations, sizes: np.ndarray, size: int) -> Iterator[Finding]:
    """Yield boxes that cannot be learned, reach out, are tiny, giant or doubled; `sizes` (I, 2) are the images'."""
    for kind, row, text in faults(annotations, sizes):
        yield Finding(kind, split, called(annotations, row), text)
    if line := relative(annotations, sizes):
        yield Finding("relative", split, str(annotations.path), line)
    elif line := partly_relative(annotations, sizes):
        yield Finding("mixed", split, str(annotations.path), line)
    if split == "train" and (line := too_small(annotations, sizes, size)):
        yield Finding("small", split, str(annotations.path), line)
    room = sizes[owners(annotations)]
    known, sides = (room > 0).all(axis=1), annotations.boxes[:, 2:]
    plain = known & objects(annotations)
    out = np.where(known & ~away(annotations, sizes), reach(annotations.boxes, room), 0)
    share = sides.prod(axis=1) / np.maximum(room.prod(axis=1), 1)
    side = sides.min(axis=1, initial=np.inf) * size / np.maximum(room.max(axis=1, initial=0), 1)
    for row in np.flatnonzero(out > REACH).tolist():
        yield Finding("outside", split, called(annotations, row), f"reaches {out[row]:.1f} pixels out of the image")
    for row in np.flatnonzero(plain & (share > GIANT)).tolist():
        yield Finding("giant", split, called(annotations, row), f"fills {share[row]:.1%} of the image")
    for row in np.flatnonzero(plain & (side < TINY)).tolist():
        yield Finding("tiny", split, called(annotations, row), f"is {side[row]:.1f} pixels at {size} px")
    for i in np.flatnonzero(np.diff(annotations.starts) > 1).tolist():
        rows = np.arange(annotations.starts[i], annotations.starts[i + 1])
        corners = xywh_to_xyxy(torch.from_numpy(annotations.boxes[rows])).numpy()
        twin = doubled(corners, annotations.labels[rows], plain[rows])
        for n in np.flatnonzero(twin >= 0).tolist():
            yield Finding(
                "doubled", split, called(annotations, rows[n]), f"is annotation id {annotations.ids[rows[twin[n]]]}"
            )


def classes(datasets: Mapping[str, Annotations]) -> Iterator[Finding]:
    """Yield splits without objects; classes that only some splits have; classes without or with few objects."""
    every, first = sorted({name for one in datasets.values() for name in one.names}), next(iter(datasets), "")
    for split, dataset in datasets.items():
        counts = Counter(dataset.names[label] for label in dataset.labels[objects(dataset)].tolist())
        if not counts:
            yield Finding("empty", split, str(dataset.path), "has no object (crowd regions and flat boxes aside)")
            continue
        for name in every:
            if (first, split) == ("train", "val") and counts[name] and name not in datasets[first].names:
                text = f"has {counts[name]} objects of the class {name}, which {first} does not know"
                yield Finding("record", split, str(dataset.path), text)
            elif name not in dataset.names:
                yield Finding("classes", split, str(dataset.path), f"does not know the class {name}, which others have")
            elif not counts[name]:
                yield Finding("classes", split, str(dataset.path), f"has no object of the class {name}")
        if split == first:
            mean = sum(counts.values()) / len(dataset.names)
            for name, count in sorted(counts.items()):
                if count < mean / 10:
                    yield Finding(
                        "rare", split, str(dataset.path), f"has {count} of {name}; on average {mean:.0f} a class"
                    )


def copies(seen: Mapping[str, Sequence[Seen]]) -> Iterator[Finding]:
    """Yield images that occur more than once, exactly or nearly, within splits and across them."""
    every = [(split, one) for split, some in seen.items() for one in some]
    files = [one for _, one in every]
    for group in same_files(files):
        yield from _copies(every, group[0], group[1:], "leak", "duplicate", "is the same image as")
    splits = np.unique([split for split, _ in every], return_inverse=True)[1]
    near = np.full((2, len(every)), -1)  # the first image that is almost the same, and the first in another split
    for i, others in near_pairs(files):
        for kind, found in enumerate((others, others[splits[others] != splits[i]])):
            near[kind, found[near[kind, found] < 0]] = i
    for j in np.flatnonzero(near[0] >= 0).tolist():
        apart = int(near[1, j] if near[1, j] >= 0 else near[0, j])
        yield from _copies(every, apart, [j], "near_leak", "near_duplicate", "is almost the same image as")


def _copies(
    every: Sequence[tuple[str, Seen]], first: int, others: Sequence[int], across: str, within: str, text: str
) -> Iterator[Finding]:
    split, one = every[first]
    for i in others:
        kind = within if every[i][0] == split else across
        yield Finding(kind, every[i][0], str(every[i][1].path), f"{text} {one.path} of {split}")


def facts(annotations: Annotations, sizes: np.ndarray, size: int) -> dict[str, Any]:
    """Return the statistics of a split: numbers, and for charts `sides` (N, 2) at `size`, `aspects`, `shares` (N,)."""
    plain = ~annotations.crowd
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))[plain]
    known = sizes[owner].max(1) > 0
    sides, owner = annotations.boxes[plain][known][:, 2:], owner[known]
    longest = sizes[owner].max(1, keepdims=True)
    counts = np.bincount(annotations.labels[plain], minlength=len(annotations.names))
    shown = Counter(f"{w} x {h}" for h, w in sizes.tolist() if h)
    return {
        "file": str(annotations.path),
        "images": len(annotations),
        "without_objects": int((np.diff(annotations.starts) == 0).sum()),
        "objects": int(plain.sum()),
        "crowd_regions": int(annotations.crowd.sum()),
        "per_class": dict(zip(annotations.names, counts.tolist(), strict=True)),
        "image_sizes": dict(shown.most_common(10)),
        "objects_per_image": round(float(plain.sum() / max(1, len(annotations))), 2),
        "sides": sides * (size / np.maximum(longest, 1)),
        "aspects": sides[:, 0] / np.maximum(sides[:, 1], 1e-9),
        "shares": np.sqrt(sides.prod(1) / np.maximum(sizes[owner].prod(1), 1)),
    }


def anchors_of(sides: np.ndarray, k: int, size: int) -> dict[str, Any]:
    """Return how well `k` anchors computed from box sides (N, 2) fit them; nothing where there are too few boxes."""
    found = torch.from_numpy(sides).float()
    found = found[(found > 0).all(dim=1) & found.isfinite().all(dim=1)]
    if len(found.unique(dim=0)) < k:
        return {}
    best = kmeans(found, k)
    rows = [[round(v, 2) for v in row] for row in best.tolist()]
    return {
        "imgsz": size,
        "anchors": rows,
        "mean_iou": round(float(mean_iou(found, best)), 4),
        "recall": round(float(recall(found, best)), 4),
    }
