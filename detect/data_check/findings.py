"""Findings about a dataset before training on it: defects of records and images, and oddities.

Nothing is written into the data. Axes: I images, N objects.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from anchors.boxes import xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.bad_records import EmptyDatasetError
from detect.data.boxes import (
    REACH,
    away,
    called,
    faults,
    in_first_pixel,
    objects,
    owners,
    partly_relative,
    reach,
    relative,
    too_small,
)
from detect.data.datasets.signals import Signals
from detect.data.orientation import settled
from detect.data.roots import Roots
from detect.data.sources.base import Source, Splits
from detect.data.sources.formats import UnknownFormatError, recognise
from detect.data_check.copies import compared, copies
from detect.data_check.doubled import doubled
from detect.data_check.images import Seen, look_at_all, records, unlisted
from detect.data_check.kinds import Checked, Finding
from detect.data_check.needs import needs
from detect.data_check.outlines import outlines
from detect.data_check.statistics import anchors_of, facts, of_whole_images
from detect.errors import UserError, unknown
from detect.storage.resolve import local

USUAL = ("train", "val", "test")
TINY, GIANT = 3.0, 0.98


def check(data: str, size: int, k: int = 9, splits: Sequence[str] = (), allow_outside: bool = False) -> Checked:
    """Check the dataset `data` for training at image size `size`, with `k` anchors.

    Raises UserError where it is no data, or has no split of a name in `splits`.
    """
    checked = Checked(imgsz=size)
    known = known_splits(data, allow_outside)
    for split in splits or [name for name in USUAL if name in known] or known:
        if split not in known:
            raise unknown("split", split, known)
        annotations, told = load(known[split], split)
        checked.findings += told
        if annotations is not None:
            one_split(checked, split, annotations, size)
    checked.findings += classes(checked.annotations)
    checked.findings += compared([*copies(checked.seen)], checked.annotations)
    everywhere = [checked.annotations.get(split) or load(known[split], split)[0] for split in known]
    if all(one and one.dims == 2 for one in everywhere):  # what an unreadable split lists is unknown
        inside = Source(local(data), allow_outside=allow_outside).inside
        checked.findings += nowhere([one for one in everywhere if one], checked.findings, inside)
    first = next(iter(checked.splits.values()), None)
    if first and not first["whole_images"]:
        checked.anchors = anchors_of(first["sides"], k, size)
    checked.needs = needs(checked.splits, checked.annotations, size)
    return checked


def known_splits(data: str, allow_outside: bool = False) -> Splits:
    """Return the reader of each split of a dataset of boxes, else of labels of whole images or signals.

    Raises UserError where it is neither.
    """
    try:
        return recognise(data, allow_outside=allow_outside)
    except UnknownFormatError:
        return recognise(data, "images", allow_outside)


def one_split(checked: Checked, split: str, annotations: Annotations, size: int) -> None:
    """Add the findings in one split, and its statistics, to what is checked for image size `size`."""
    if isinstance(annotations, Signals):
        seen = records(annotations)
    else:
        seen = look_at_all(annotations, f"look at {split}")
        annotations = settled(annotations, [one.header for one in seen])
    checked.findings += notes(split, annotations)
    checked.findings += images(split, annotations, seen)
    known_sizes = [(annotations.size(i) or one.header.shown) if one.header else (0, 0) for i, one in enumerate(seen)]
    sizes = np.array(known_sizes).reshape(-1, 2)
    checked.findings += boxes(split, annotations, sizes, size)
    checked.findings += outlines(split, annotations, sizes)
    grey = np.array([np.nan if one.thumbnail is None else one.thumbnail.mean() for one in seen])
    checked.splits[split] = facts(annotations, sizes, size, grey)
    checked.seen[split] = seen
    filled = np.where(sizes > 0, sizes, annotations.sizes).astype(annotations.sizes.dtype)
    checked.annotations[split] = replace(annotations, sizes=filled)


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


def notes(split: str, annotations: Annotations) -> Iterator[Finding]:
    """Yield what the reader of the annotations notes; a line that begins with the name of a file is of that image."""
    lines = [(kind, line, line.split(": ")[0]) for kind, line in annotations.notes]
    index = {annotations.file_name(i): i for i in range(len(annotations) if lines else 0)}
    for kind, line, name in lines:
        yield Finding(kind, split, str(annotations.path), line, index.get(name, -1))


def images(split: str, annotations: Annotations, seen: Iterable[Seen]) -> Iterator[Finding]:
    """Yield broken and odd images."""
    for i, one in enumerate(seen):
        if one.problem:
            yield Finding("image", split, str(one.path), one.problem, i)
        if one.unfinished:
            yield Finding("unfinished", split, str(one.path), one.unfinished, i)
        for oddity in one.oddities:
            yield Finding("encoding", split, str(one.path), oddity, i)
        if one.header is not None and one.header.orientation != 1:
            applied = "not applied" if one.header.turn(annotations.size(i), str(one.path)) == 1 else "applied"
            text = f"has EXIF orientation {one.header.orientation}, {applied}"
            yield Finding("encoding", split, str(one.path), text, i)


def boxes(split: str, annotations: Annotations, sizes: np.ndarray, size: int) -> Iterator[Finding]:
    """Yield boxes that cannot be learned, reach out, are tiny, giant or doubled; `sizes` (I, 2) are the images'."""
    owner = owners(annotations)

    def found(kind: str, row: int, text: str) -> Finding:
        return Finding(kind, split, called(annotations, row), text, int(owner[row]), (row,))

    for kind, row, text in faults(annotations, sizes):
        yield found(kind, row, text)
    if line := relative(annotations, sizes):
        yield Finding("relative", split, str(annotations.path), line)
    elif line := partly_relative(annotations, sizes):
        rows = np.flatnonzero(in_first_pixel(annotations, sizes))
        yield Finding("mixed", split, str(annotations.path), line, int(owner[rows[0]]), (int(rows[0]),))
    if split == "train" and sizes.any() and (line := too_small(annotations, sizes, size)):
        yield Finding("small", split, str(annotations.path), line)
    room = sizes[owner]
    known, sides = (room > 0).all(axis=1), annotations.boxes[:, 2:]
    plain = known & objects(annotations)
    out = np.where(known & ~away(annotations, sizes), reach(annotations.boxes, room), 0)
    share = sides.prod(axis=1) / np.maximum(room.prod(axis=1), 1)
    side = sides.min(axis=1, initial=np.inf) * size / np.maximum(room.max(axis=1, initial=0), 1)
    for row in np.flatnonzero(out > REACH).tolist():
        yield found("outside", row, f"reaches {out[row]:.1f} pixels out of the image")
    for row in np.flatnonzero(plain & (share > GIANT)).tolist() if not of_whole_images(annotations, sizes) else ():
        yield found("giant", row, f"fills {share[row]:.1%} of the image")
    for row in np.flatnonzero(plain & (side < TINY)).tolist():
        yield found("tiny", row, f"is {side[row]:.1f} pixels at {size} px")
    yield from twice(split, annotations, plain)


def twice(split: str, annotations: Annotations, plain: np.ndarray) -> Iterator[Finding]:
    """Yield objects that are marked twice, of the boxes that are `plain` (N,)."""
    for i in np.flatnonzero(np.diff(annotations.starts) > 1).tolist():
        rows = np.arange(annotations.starts[i], annotations.starts[i + 1])
        corners = xywh_to_xyxy(torch.from_numpy(annotations.boxes[rows])).numpy()
        twin = doubled(corners, annotations.labels[rows], plain[rows])
        for n in np.flatnonzero(twin >= 0).tolist():
            row, first = int(rows[n]), int(rows[twin[n]])
            text = f"is annotation id {annotations.ids[first]}"
            yield Finding("doubled", split, called(annotations, row), text, i, (row, first))


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
                    text = f"has {count} of {name}; on average {mean:.0f} a class"
                    row = int(np.argmax(objects(dataset) & (dataset.labels == dataset.names.index(name))))
                    yield Finding("rare", split, str(dataset.path), text, int(owners(dataset)[row]), (row,))
