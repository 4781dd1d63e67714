"""Whether annotations mean images as EXIF turns them: the annotated size says so, unless the boxes do.

Axes: I images, N objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detect.data.annotations import Annotations
from detect.data.boxes import REACH, reach
from detect.data.images import Header, Size

WAYS = ("as they are stored", "as EXIF turns them")


def settled(annotations: Annotations, headers: Sequence[Header | None]) -> Annotations:
    """Return the annotations with the image sizes that fit their boxes, given the headers of the images.

    Some tools write the stored size of an image beside boxes that were drawn on the turned one. A box that leaves the
    image one way and not the other decides for its image; and where all boxes of a split decide alike, for the other
    images whose size was annotated that way. Each decision, and each image that nothing decides, is a note. Headers are
    None for images that cannot be read.
    """
    sizes, notes = annotations.sizes.copy(), list(annotations.notes)
    groups: tuple[dict[int, int], dict[int, int]] = ({}, {})  # by annotated way: image -> 1 to turn, -1 not to, 0
    for i, header in enumerate(headers):
        if header is None or header.orientation == 1 or not _tells(annotations, i):
            continue
        size = annotations.size(i) or header.shown
        if header.shown == header.size or header.orientation < 5:  # the size says nothing
            notes.append(("turned", _undecided(annotations, i, 1)))
        elif size in (header.shown, header.size):
            groups[size == header.shown][i] = _decision(annotations, i, size)
    for way, group in enumerate(groups):
        every = set(group.values()) - {0}
        common = every.pop() if len(every) == 1 else 0
        for i, decision in group.items():
            if (decision or common) > 0:
                header = headers[i]
                assert header is not None
                sizes[i] = header.size if way else header.shown
                line = f"read {WAYS[1 - way]}, whatever its annotated size: boxes fit only so"
                notes.append(("turned", f"{annotations.file_name(i)}: {line}"))
            elif not (decision or common) and (not way or annotations.size(i) is None):
                notes.append(("turned", _undecided(annotations, i, way)))
    return replace(annotations, sizes=sizes, notes=notes) if len(notes) > len(annotations.notes) else annotations


def _boxes(annotations: Annotations, index: int) -> np.ndarray:
    """The boxes (n, 4) of an image, crowd regions aside."""
    rows = slice(int(annotations.starts[index]), int(annotations.starts[index + 1]))
    return annotations.boxes[rows][~annotations.crowd[rows]]


def _tells(annotations: Annotations, index: int) -> bool:
    """Whether an image has a box that would lie elsewhere if the image were turned: one of the whole would not."""
    size = annotations.size(index)
    whole = (0, 0, *(size[::-1] if size else (0, 0)))
    return bool((_boxes(annotations, index) != whole).any())


def _decision(annotations: Annotations, index: int, size: Size) -> int:
    """1 where the boxes of an image leave `size` but not the turned size, -1 for the other way round, else 0."""
    boxes = _boxes(annotations, index)
    out, turned = (bool((reach(boxes, np.array([way])) > REACH).any()) for way in (size, size[::-1]))
    return int(out) - int(turned)


def _undecided(annotations: Annotations, index: int, way: int) -> str:
    return (
        f"{annotations.file_name(index)}: nothing tells whether its boxes are meant with EXIF: it is read {WAYS[way]}"
    )
