"""Files of signals and volumes.

- NAME.npz with `x_SPLIT` and `y_SPLIT` for each split: signals (N, L) or (N, C, L), or volumes (N, D, H, W) or
  (N, C, D, H, W), and N classes, as numbers or words. `names` may name the classes that are numbers from 0.
- text in the form of the UCR archive (Dau et al., 2019): NAME_TRAIN.tsv and NAME_TEST.tsv, a record a line, first its
  class, then its values, between tabs, commas or spaces (.tsv, .csv, .txt); NAME_VAL too where there is one

Records of a split all have one shape. Nothing but numbers and words is read: no pickles.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from detect.data.bad_records import BadRecords
from detect.data.datasets.signals import Signals
from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.image_folder import FILES
from detect.errors import UserError
from detect.utils.atomic_io import open_file
from detect.utils.npy import UNREADABLE, read_npz

SUFFIXES = (".npz", ".tsv", ".csv", ".txt")
_NOT_FINITE = "holds a value that is no finite number, or more than single precision holds"
_MOST = float(np.finfo(np.float32).max)
_TEXT = re.compile(r"(.+)_(train|val|test)\.(tsv|csv|txt)", re.IGNORECASE)


class SignalFiles(Format):
    """An npz of signals or volumes, or texts in the form of the UCR archive: for classifiers."""

    accepts = "an npz with x_train and y_train, or NAME_TRAIN.tsv and NAME_TEST.tsv, of signals (classify)"
    image_level = True

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits; they have no identities, so embedders do not try them."""
        usable = source.image_level_labels == "images" and source.path.exists()
        return signal_splits(source.path, source.inside) if usable else {}


def signal_splits(path: Path, inside: Roots | None = None) -> Splits:
    """Return the reader of each split of a file or folder of signals; nothing where `path` is neither."""
    inside = inside or Roots(path if path.is_dir() else path.parent)
    if path.is_dir():
        found = {match[1] for file in path.iterdir() if (match := _TEXT.fullmatch(file.name))}
        if len(found) > 1:
            raise UserError(f"{path}: holds several sets of signals, {', '.join(sorted(found))}: name a file of one")
        return _beside(path, found.pop(), inside) if found else {}
    if path.suffix.lower() == ".npz":
        return {split: partial(load_npz, path, split) for split in _npz_splits(path)}
    match = _TEXT.fullmatch(path.name)
    return _beside(path.parent, match[1], inside, path.name) if match and not _names_files(path) else {}


def unlabelled(path: Path) -> Iterator[Signals]:
    """Yield the records of a file without labels, for prediction: every x of an npz, all lines of a text."""
    if path.suffix.lower() != ".npz":
        yield load_text(path, [path], False)
        return
    arrays = [name for name in _arrays(path) if re.fullmatch(r"x(_\w+)?", name)]
    if not arrays:
        raise UserError(f"{path}: has no array x, x_train and so on; it has: {', '.join(_arrays(path)) or 'none'}")
    for name in arrays:
        values = _values(path, name)
        records = [f"{name}[{i}]" for i in range(len(values))]
        for record, value in zip(records, values, strict=True):
            if not np.isfinite(value).all():
                raise UserError(f"{path}: {record} {_NOT_FINITE}")
        yield Signals.of(path, values, np.zeros(len(values)), ["?"], records)


def _names_files(path: Path) -> bool:
    """Whether the first line of a csv has a column of files, so that it is a table of images and no signals."""
    first = next(_lines(path), (1, []))[1] if path.suffix.lower() == ".csv" else []
    return any(word.lower() in FILES for word in first)


def _beside(folder: Path, name: str, inside: Roots, wanted: str = "") -> Splits:
    """The splits of the dataset `name` in a folder; of several files of a split, the one like `wanted`."""
    matches = [match for file in sorted(folder.iterdir()) if (match := _TEXT.fullmatch(file.name)) and match[1] == name]
    files: dict[str, Path] = {}
    for match in sorted(matches, key=lambda match: (match[0] != wanted, not wanted.endswith(match[3]))):
        other = files.setdefault(match[2].lower(), folder / match[0])
        if not wanted and other.name != match[0]:
            raise UserError(f"{folder}: {other.name} and {match[0]} are both its {match[2].lower()}: name one of them")
    inside.require(*(file for file in files.values() if file.name != wanted))
    return {split: partial(load_text, file, list(files.values())) for split, file in files.items()}


def load_text(path: Path, files: Sequence[Path], skip_bad: bool = False) -> Signals:
    """Read one text file; its classes are those of all `files`. Raises UserError for a bad record."""
    bad_records, rows, labels, records = BadRecords(path, skip_bad), list[np.ndarray](), list[str](), list[str]()
    for line, words in _lines(path):
        row = _numbers(words[1:])
        problem = _no_class(words[0]) or (row if isinstance(row, str) else "")
        if not problem and rows and len(row) != len(rows[0]):
            problem = f"has {len(row)} values, {records[0]} has {len(rows[0])}: signals must be of one length"
        if problem:
            bad_records.reject(f"line {line}", problem)
            continue
        rows.append(row)  # type: ignore[arg-type]  # no message
        labels.append(_plain(words[0]))
        records.append(f"line {line}")
    if not rows:
        raise UserError(f"{path}: the file is empty: it holds no record")
    names = _sorted({_plain(words[0]) for file in files for _, words in _lines(file) if not _no_class(words[0])})
    number = {name: i for i, name in enumerate(names)}
    place = np.array([number[label] for label in labels])
    return Signals.of(path, _narrowed(path, np.stack(rows))[:, None], place, names, records, left_out=bad_records.lines)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that is not empty, with its number; "" where nothing is between two commas or tabs."""
    try:
        with io.TextIOWrapper(open_file(path), "utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                between = next((mark for mark in ",\t" if mark in line), None)
                if line.strip(", \t\r\n"):
                    yield number, [word.strip() for word in line.rstrip(", \t\r\n").split(between)]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}") from None


def _numbers(words: Sequence[str]) -> np.ndarray | str:
    """The numbers (L,), or what is wrong with them."""
    if not words or "" in words:
        return f"has no value {words.index('') + 1}" if words else "has no values behind its class"
    try:
        row = np.array(words, dtype=np.float64)
    except ValueError as error:
        return f"has a value that is no number ({str(error).rpartition(': ')[2]})"
    bad = np.flatnonzero(~(np.abs(row) <= _MOST))
    return f"has {words[bad[0]]} for value {bad[0] + 1}" if len(bad) else row


def _no_class(word: str) -> str:
    """What is wrong with a class; nothing where it is a word or a number."""
    try:
        return "" if math.isfinite(float(word)) else f"has {word} for its class"
    except ValueError:
        return "" if word else "has no class"


def _narrowed(path: Path, values: np.ndarray, name: str = "its values") -> np.ndarray:
    """Values (N, ...) in single precision, as networks compute; looked at are a thousand records at most.

    Raises UserError where little would be left of what they differ by, as of times in seconds since 1970.
    """
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32, copy=False)
    if np.can_cast(values.dtype, np.float32):
        return narrow
    some = slice(None, None, max(1, len(values) // 1000))
    usable = np.isfinite(narrow[some])
    before, after = (x[some][usable].astype(np.longdouble) for x in (values, narrow))
    if len(before) and np.abs(after - before).max() > 0.01 * (spread := np.ptp(before)) > 0:
        raise UserError(
            f"{path}: {name} lie within {spread:.3g} around {before.mean():.6g}, too little for single precision: "
            "subtract a constant"
        )
    return narrow


def _plain(label: str) -> str:
    """A class as it is called: 1 for 1.0000000e+00."""
    try:
        return str(int(float(label))) if float(label).is_integer() else label
    except ValueError:
        return label


def _sorted(labels: Iterable[str]) -> list[str]:
    """Numbers by size, before words by letter."""
    return sorted(labels, key=lambda label: (0, int(label), "") if re.fullmatch(r"-?\d+", label) else (1, 0, label))


def load_npz(path: Path, split: str, skip_bad: bool = False) -> Signals:
    """Read one split of an npz. Raises UserError for arrays of another form than described above."""
    bad_records = BadRecords(path, skip_bad)
    values = _values(path, f"x_{split}")
    names, labels = _classes(path)
    if len(labels[split]) != len(values):
        raise UserError(f"{path}: x_{split} has {len(values)} records, y_{split} {len(labels[split])} classes")
    records = [f"x_{split}[{i}]" for i in range(len(values))]
    finite = np.array([np.isfinite(record).all() for record in values])
    kept = np.flatnonzero(bad_records.good(np.ones(len(values), bool), ~finite, lambda i: (records[i], _NOT_FINITE)))
    if not len(kept):
        raise UserError(f"{path}: x_{split} holds no record that can be used")
    if len(kept) < len(values):
        values = values[kept]
    return Signals.of(path, values, labels[split][kept], names, [records[i] for i in kept], left_out=bad_records.lines)


def _arrays(path: Path) -> list[str]:
    """The names of the arrays in an npz."""
    try:
        with open_file(path) as stream, np.load(stream, allow_pickle=False) as file:
            return list(file.files)
    except (AttributeError, TypeError):  # what numpy.save writes
        raise UserError(f"{path}: holds one array without a name: write it with numpy.savez, as x_train=...") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as an npz file: {error}") from None


def _array(path: Path, name: str) -> np.ndarray:
    try:
        return read_npz(path, name)
    except KeyError:
        raise UserError(f"{path}: has no array {name}; it has: {', '.join(_arrays(path)) or 'none'}") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: array {name} cannot be read: {error}") from None


def _npz_splits(path: Path) -> list[str]:
    found = [name[2:] for name in _arrays(path) if re.fullmatch(r"x_\w+", name)]
    if not found:
        raise UserError(f"{path}: has no array x_train; it has: {', '.join(_arrays(path)) or 'none'}")
    return found


def _values(path: Path, name: str) -> np.ndarray:
    """The array of that name as records (N, C, ...), in single precision or whole numbers of 8 or 16 bits."""
    values = _array(path, name)
    if values.dtype.kind not in "iufb" or values.ndim not in (2, 3, 4, 5):
        what = f"{name} is {values.dtype} {list(values.shape)}"
        raise UserError(f"{path}: {what}: it must be numbers, (N, L) or (N, C, L), or (N, D, H, W) or (N, C, D, H, W)")
    if not values.size:
        raise UserError(f"{path}: {name} is empty: its shape is {list(values.shape)}")
    if values.dtype.kind == "f" or values.dtype.itemsize > 2:  # small whole numbers stay as small as they are
        values = _narrowed(path, values, name)
    return values if values.ndim in (3, 5) else values[:, None]


def _classes(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of the classes, and of each split the class of each record."""
    words = {split: _words(path, f"y_{split}") for split in _npz_splits(path)}
    names = _sorted({word for row in words.values() for word in row})
    if "names" in _arrays(path):
        given = _words(path, "names")
        if len(set(given)) < len(given):
            raise UserError(f"{path}: names names two classes {max(given, key=given.count)}: give each its own")
        if unknown := next((word for word in names if not word.isdecimal() or int(word) >= len(given)), None):
            raise UserError(f"{path}: class {unknown} is none of 0 to {len(given) - 1}, which names has names for")
        return given, {split: np.array(row, dtype=np.int64) for split, row in words.items()}
    number = {name: i for i, name in enumerate(names)}
    return names, {split: np.array([number[word] for word in row]) for split, row in words.items()}


def _words(path: Path, name: str) -> list[str]:
    """An array (N,) of whole numbers or words, as words."""
    values = _array(path, name)
    if values.ndim != 1 or values.dtype.kind not in "iufUb":
        raise UserError(f"{path}: {name} is {values.dtype} {list(values.shape)}: it must be (N,) numbers or words")
    if values.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
    else:
        bad = np.flatnonzero(values == "") if values.dtype.kind == "U" else np.zeros(0, np.int64)
    if len(bad):
        what = values[bad[0]] if values.dtype.kind == "f" else "empty"
        raise UserError(f"{path}: {name}[{bad[0]}] is {what}: classes are whole numbers or words")
    return [str(int(value)) if values.dtype.kind in "ifub" else str(value) for value in values]
