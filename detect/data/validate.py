"""Checks of a dataset before it is used: of its image files, boxes, skeleton and objects."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detect.data import jpegs
from detect.data.annotations import known_sizes
from detect.data.bad_records import BadRecords, EmptyDatasetError
from detect.data.boxes import (
    called,
    faults,
    objects,
    out_of_images,
    partly_relative,
    partly_small,
    relative,
    too_small,
)
from detect.data.checked_images import CheckedImages, Examined
from detect.data.image_formats import PAGED
from detect.data.images import Header, count_pages, has_end, read_header, read_image
from detect.data.orientation import settled
from detect.errors import UserError
from detect.utils.names import warn_once
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9|Warning: unknown|thumbnail")  # all pixels are there


def examine(path: Path, size: tuple[int, int] | None, decode: bool = True) -> Examined:
    """Check that an image file of annotated (h, w) `size` is there, readable, whole and of that size.

    Without `decode` only its header is read, which shows neither truncation nor damage of the pixels.
    """
    header = None
    try:
        header = read_header(path)
        header.turn(size, str(path))
        if not decode:
            return Examined(header)
        ended = header.format != "JPEG" or has_end(path)
        said = jpegs.warning(str(path)) if ended and header.format in ("JPEG", "MPO") else None
        if said is None:
            read_image(path)
            return Examined(header, "", "" if ended else f"{path}: lacks its end mark, though not one of its pixels")
    except UserError as error:
        return Examined(header, str(error))
    if said and not _HARMLESS.search(said):
        return Examined(header, f"{path}: the image is damaged or truncated ({said})")
    return Examined(header, "", f"{path}: odd, but with all its pixels ({said})" if said else "")


def check_images(
    annotations: Annotations, decode: bool = True, workers: int = 8, shown: bool = True
) -> Iterator[Examined]:
    """Yield what `examine` finds for every image of a dataset, in order, whichever thread is first.

    Images of large sets that were found in order before are not opened again: see `CheckedImages`.

    Args:
        annotations: the dataset.
        decode: see `examine`.
        workers: the most threads.
        shown: show the progress.
    """
    checked = CheckedImages(annotations)

    def look(index: int) -> Examined:
        size = annotations.size(index)
        if (header := checked.header(index)) is None:
            return checked.note(index, examine(annotations.image_path(index), size, decode), decode)
        if size is None or header.shown == size:
            return Examined(header)
        try:
            header.turn(size, str(annotations.image_path(index)))
        except UserError as error:
            return Examined(header, str(error))
        return Examined(header)

    def looked() -> Generator[Examined, None, None]:
        indices = iter(range(len(annotations)))
        with ThreadPoolExecutor(min(workers, os.cpu_count() or 1, 1 + len(annotations) // 64)) as pool:
            while chunk := list(islice(indices, 64 * workers)):
                annotations.fetch_ahead(chunk)
                yield from map(look, chunk) if checked.know(chunk) else pool.map(look, chunk)
                checked.keep_sometimes()

    with closing(checked), closing(looked()) as found:
        if not shown:
            yield from found
            return
        with closing(track(found, len(annotations), "check images")) as tracked:
            yield from tracked


def verify(annotations: Annotations, skip_bad: bool = False, decode: bool = True) -> Annotations:
    """Check the images, before the first step: the annotations of those that can be used, turned as their boxes fit.

    Every image is decoded once; without `decode`, for sets that were decoded before, only the headers are read. The
    first bad image raises UserError; with `skip_bad`, bad images are left out with their objects and listed in
    `left_out`. What is odd about the others is in `notes`. What has no images was looked at when it was read.
    """
    if annotations.dims != 2:
        return annotations
    lines, headers, notes = dict[int, str](), list[Header | None](), list[tuple[str, str]]()
    for index, (header, problem, oddity) in enumerate(check_images(annotations, decode=decode or skip_bad)):
        headers.append(header)
        if problem and not skip_bad:
            raise UserError(f"{problem}; fix it, or leave such images out with --skip-bad")
        if problem:
            objects = int(annotations.starts[index + 1] - annotations.starts[index])
            lines[index] = f"{problem} (image id {annotations.image_ids[index]}, left out with its {objects} objects)"
        if oddity:
            notes.append(("unfinished", oddity))
    notes += _pages(annotations)
    annotations = settled(replace(annotations, notes=[*annotations.notes, *notes]) if notes else annotations, headers)
    if not lines:
        return annotations
    good = np.delete(np.arange(len(annotations)), list(lines))
    if not len(good):
        raise EmptyDatasetError(annotations.path, [*annotations.left_out, *lines.values()])
    return annotations.select(good, left_out=[*annotations.left_out, *lines.values()])


def _pages(annotations: Annotations) -> Iterator[tuple[str, str]]:
    """A note on each file of several pages or frames: only the first has annotations."""
    for path in map(annotations.image_path, range(len(annotations))):
        if path.suffix.lower() in PAGED and (pages := count_pages(path)) > 1:
            yield "encoding", f"{path.name} has {pages} pages or frames, of which the first is used"


def usable(annotations: Annotations, skip_bad: bool = False, learned: bool = True) -> Annotations:
    """The annotations without boxes that cannot be learned: of no width or height, or wholly outside their image.

    By default the first is an error. Without `learned`, for evaluation as pycocotools does it, they stay: they are
    objects there, which nothing finds. Raises UserError where most boxes are relative, which neither can use.
    """
    if annotations.dims != 2:
        return annotations
    sizes = known_sizes(annotations)
    if problem := relative(annotations, sizes):
        raise UserError(f"{annotations.path}: {problem}")
    if line := partly_relative(annotations, sizes):
        annotations = replace(annotations, notes=[*annotations.notes, ("mixed", line)])
    bad_records, bad, found = (
        BadRecords(annotations.path, skip_bad),
        np.zeros(len(annotations.boxes), bool),
        list(faults(annotations, sizes)),
    )
    if found and not learned:
        notes = [(kind, f"{called(annotations, row)} {text}: it is measured all the same") for kind, row, text in found]
        return replace(annotations, notes=[*annotations.notes, *notes])
    if learned and (line := out_of_images(annotations, sizes)):
        annotations = replace(annotations, notes=[*annotations.notes, ("outside", line)])
    for _, row, text in found:
        bad_records.reject(called(annotations, row), text)
        bad[row] = True
    return annotations.without(bad, bad_records.lines) if found else annotations


def tell_notes(*datasets: Annotations) -> None:
    """Print what is odd about datasets to stderr: the first note of each kind, and how many there are."""
    for dataset in datasets:
        kinds: dict[str, list[str]] = {}
        for kind, line in dataset.notes:
            kinds.setdefault(kind, []).append(line)
        for lines in kinds.values():
            more = f" (and {len(lines) - 1} more like it: see detect check)" if lines[1:] else ""
            warn_once(f"{dataset.path}: {lines[0]}{more}")


def require_large(annotations: Annotations, size: int, stretch: bool) -> None:
    """Raises UserError when all boxes are too small to be learned at image size `size`; prints how many are."""
    sizes = known_sizes(annotations)
    if line := too_small(annotations, sizes, size, stretch):
        raise UserError(f"{annotations.path}: {line}")
    if line := partly_small(annotations, sizes, size, stretch):
        warn_once(f"{annotations.path}: {line}")


def require_skeleton(annotations: Annotations) -> None:
    """Raises UserError when the skeleton that a file declares cannot be drawn, for models that have it drawn."""
    for kind, line in annotations.notes:
        if kind == "skeleton":
            raise UserError(f"{annotations.path}: {line}; fix it, or remove it from the categories")


def require_objects(annotations: Annotations, validation: Annotations | None = None) -> None:
    """Raises UserError when there is nothing to learn from, or no validation image to measure with.

    That is no image, or not one object outside crowd regions that has an area.
    """
    for one, purpose in ((annotations, "training"), (validation, "validation")):
        if one is None or objects(one).any():
            continue
        what = "no object (crowd regions and boxes without area aside)" if len(one) else "no image"
        remedy = "check the file and its path"
        if purpose == "validation":
            remedy = "label it, or remove the split: training is then measured on its own images"
        raise UserError(f"{one.path}: the {purpose} set is empty: it holds {what}; {remedy}")
