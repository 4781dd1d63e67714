"""DOTA: a text file for each image, whose rows are oriented boxes: `x1 y1 x2 y2 x3 y3 x4 y4 class difficulty`.

The four corners are in pixels, in order around the box; corners that are not are put in order where oriented boxes are
made of them. The lines `imagesource:…` and `gsd:…` at the head are passed over. `difficulty` may be missing; difficult
objects, those above 0, are ordinary ones to all but DOTA's evaluation. The texts lie in `labelTxt/`, or in `annfiles/`
or `labels/`, beside `images/`, also in folders of splits (see `paired`). Classes are numbered from 1 in the order of
their names, over all splits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.paired import Found, paired_files, paired_splits
from detect.errors import UserError
from detect.utils.text_files import read_text

FOLDERS = ("labeltxt", "labeltxt-v1.0", "labeltxt-v1.5", "labeltxt-v2.0", "annfiles", "labels", "label")
_HEADS = ("imagesource:", "gsd:")
_LOOKED_AT = 8  # files that tell whether this is the format
_WORDS = frozenset(("easy", "normal", "medium", "hard", "difficult", "yes", "no", "true", "false", "none", "null"))


class Dota(Format):
    """A folder of images and of DOTA's texts."""

    accepts = "a folder with images/ and DOTA's labelTxt/"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        return dota_splits(source.path, source.inside) if source.path.is_dir() else {}


def dota_splits(folder: Path, inside: Roots) -> Splits:
    """Return the reader of each split of a folder; nothing where its labels are not DOTA's."""
    parts = paired_files(folder, FOLDERS, (".txt",), inside)
    files = [label for part in parts.values() for label in part.labels.values()]
    firsts = (next(_rows(file), None) for file in files[:_LOOKED_AT])
    if not any(words is not None and _is_row(words) for _, words in filter(None, firsts)):
        return {}
    rows = [words for file in files for _, words in _rows(file) if _has_name(words)]
    rated = {_name(words) for words in rows if _has_difficulty(words)}
    names = sorted({_name(words) for words in rows if not _is_rated_by_word(words, rated)})
    return paired_splits(folder, parts, names, partial(_read, rated), inside)


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of each object in a file; nothing of one that cannot be read."""
    try:
        lines = read_text(path).splitlines()
    except UserError:
        return  # it is named where its split is read
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lower().startswith(_HEADS):
            yield number, line.split()


def _is_row(words: list[str]) -> bool:
    """Whether a row has eight numbers and a name."""
    return len(words) in (9, 10) and all(map(_is_number, words[:8])) and _has_name(words)


def _has_name(words: list[str]) -> bool:
    return len(words) > 8 and not _is_number(words[8])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _name(words: list[str]) -> str:
    """The class in a row: the words after the corners, without the difficulty."""
    return " ".join(words[8 : len(words) - _has_difficulty(words)])


def _has_difficulty(words: list[str]) -> bool:
    return len(words) > 9 and _is_number(words[-1])


def _is_rated_by_word(words: list[str], rated: Collection[str]) -> bool:
    """Whether the difficulty of a row is a word, which else would be the second one of its class.

    Args:
        words: of the row.
        rated: the classes of rows whose difficulty is a number.
    """
    if len(words) < 10 or _has_difficulty(words):
        return False
    return words[-1].lower() in _WORDS or (_name(words) not in rated and " ".join(words[8:-1]) in rated)


def _read(rated: Collection[str], path: str, found: Found) -> None:
    """Read the objects of a file; `rated` are the classes of rows whose difficulty is a number."""
    read_text(path)  # raises where it cannot be read
    for number, words in _rows(path):
        where = f"{path} line {number}"
        try:
            values = [float(word) for word in words[:8]]
        except ValueError:
            values = []
        if not _has_name(words) or not all(map(math.isfinite, values)) or not values:
            found.bad.append((where, f"has {' '.join(words)[:60]!r}; a row is eight numbers, a class and a difficulty"))
            continue
        if _is_rated_by_word(words, rated):
            found.bad.append(
                (where, f"has difficulty {words[-1]!r:.60}; write a number: 0, or 1 for a difficult object")
            )
            continue
        left, top = min(values[::2]), min(values[1::2])
        box = [left, top, max(values[::2]) - left, max(values[1::2]) - top]
        record = {"category_id": _name(words), "bbox": box, "segmentation": [values]}
        found.add(where, record | {"difficult": _has_difficulty(words) and float(words[-1]) > 0})
