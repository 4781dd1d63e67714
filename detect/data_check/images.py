"""Checks of image files: broken, oddly coded, turned, equal to another or nearly so.

Axes: I images, S side of a thumbnail.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice
from pathlib import Path

import cv2
import numpy as np

from detect.data.annotations import Annotations
from detect.data.datasets.signals import Signals
from detect.data.images import Header, count_pages, decode_image
from detect.data.roots import Roots
from detect.data.sources.inventory import take_stock
from detect.data.validate import examine
from detect.errors import UserError
from detect.utils.atomic_io import read_bytes
from detect.utils.progress import track

COARSE, FINE = 16, 32  # sides of the thumbnails that near duplicates are found by, and made sure of
ALIKE = (0.98, 0.99)  # the least correlation of each
FLAT = 3.0  # grey levels: images that vary less are like any other
CHUNK = 2048
PLAIN = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")}
ENDINGS = {"JPEG": {".jpg", ".jpeg", ".jpe"}, "PNG": {".png"}, "WEBP": {".webp"}, "BMP": {".bmp"}, "GIF": {".gif"}}


@dataclass(frozen=True)
class Seen:
    """One image: its path, the hash of its file, a grey thumbnail (FINE, FINE), and what is wrong or odd."""

    path: Path
    digest: str = ""
    thumbnail: np.ndarray | None = None
    header: Header | None = None  # None where there is a problem
    problem: str = ""
    unfinished: str = ""
    oddities: tuple[str, ...] = ()


def look(path: Path, size: tuple[int, int] | None) -> Seen:
    """Read and decode one image, whose annotated (h, w) is `size`."""
    header, problem, unfinished = examine(path, size)
    if problem or header is None:
        return Seen(path, problem=problem)
    try:
        data = read_bytes(path)
        image = decode_image(data, str(path))
    except OSError as error:
        return Seen(path, problem=f"{path}: {error.strerror or error}")
    except UserError as error:
        return Seen(path, problem=str(error))
    said = []
    if (header.format, header.mode) not in PLAIN:
        said.append(f"is {header.format} of mode {header.mode}")
    if path.suffix.lower() not in ENDINGS.get(header.format, {path.suffix.lower()}):
        said.append(f"is {header.format} inside, whatever its name says")
    if (pages := count_pages(path)) > 1:
        said.append(f"has {pages} pages or frames, of which the first is used")
    return Seen(path, hashlib.sha256(data).hexdigest(), thumbnail(image), header, "", unfinished, tuple(said))


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the grey thumbnail (FINE, FINE) of an image (H, W, 3) uint8 RGB, by which near duplicates are found."""
    return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (FINE, FINE), interpolation=cv2.INTER_AREA)


def look_at_all(annotations: Annotations, title: str, workers: int = 4) -> list[Seen]:
    """Yield `Seen` for every image of a dataset, in order."""

    def looked() -> Iterator[Seen]:
        indices = iter(range(len(annotations)))
        with ThreadPoolExecutor(workers) as pool:
            while chunk := list(islice(indices, 16 * workers)):
                annotations.fetch_ahead(chunk)
                yield from pool.map(lambda i: look(annotations.image_path(i), annotations.size(i)), chunk)

    return list(track(looked(), len(annotations), title))


def records(annotations: Signals) -> list[Seen]:
    """Return `Seen` for every signal or volume: they are in memory, and equal where all their numbers are."""
    return [
        Seen(annotations.image_path(i), hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest())
        for i, values in enumerate(annotations.values)
    ]


def same_files(seen: Sequence[Seen]) -> list[list[int]]:
    """Return groups of images whose files are equal, byte by byte, or one file that is listed several times."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(seen):
        if one.digest:
            groups[one.digest].append(i)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(seen: Sequence[Seen]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield images that show almost the same, though their files differ: i, and all j > i in some CHUNK of them.

    Thumbnails are compared by their correlation, which brightness and contrast do not change: small ones all with all,
    a product of matrices, then larger ones of the pairs that remain. Flat images are like none. For each j the i come
    in ascending order.
    """
    shown = {i: one.thumbnail for i, one in enumerate(seen) if one.thumbnail is not None}
    rows = np.array([i for i, thumbnail in shown.items() if thumbnail.std() >= FLAT], dtype=np.int64)
    if len(rows) < 2:
        return
    fine = np.stack([shown[i] for i in rows.tolist()]).astype(np.float32)
    coarse = _directions(fine.reshape(len(rows), COARSE, FINE // COARSE, COARSE, FINE // COARSE).mean((2, 4)))
    fine, files = _directions(fine), np.unique([seen[i].digest for i in rows.tolist()], return_inverse=True)[1]
    for start, other in combinations_with_replacement(range(0, len(rows), CHUNK), 2):
        alike = coarse[start : start + CHUNK] @ coarse[other : other + CHUNK].T >= ALIKE[0]
        for a in np.flatnonzero(alike.any(1)).tolist():
            i, near = start + a, other + np.flatnonzero(alike[a])
            near = near[(near > i) & (files[near] != files[i])]
            near = near[fine[near] @ fine[i] >= ALIKE[1]]
            if len(near):
                yield int(rows[i]), rows[near]


def _directions(images: np.ndarray) -> np.ndarray:
    """Images (I, S, S) as vectors (I, S * S) of mean 0 and length 1."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def unlisted(listed: set[str], inside: Roots) -> list[str]:
    """Yield images in and below the folders of annotated images that no annotation lists; all paths are absolute."""
    folders = {os.path.dirname(path) for path in listed}
    tops = [one for one in folders if os.path.isdir(one) and not folders & set(map(str, Path(one).parents))]
    stock = take_stock(*tops, inside=inside.adding(*tops))
    found = {*stock.images, *stock.unreadable, *(path for path, _ in stock.misnamed())} - listed
    known = {os.path.realpath(path) for path in listed} if found else set()  # a file may be listed through a link
    return sorted(path for path in found if os.path.isfile(path) and os.path.realpath(path) not in known)
