"""The files of a dataset's folders by kind, and which label file belongs to which image.

A reader uses every image and every label file, or names it in a `BadRecords`. Anything else is ordinary company (a
readme, a list of classes, json, caches, hidden files) and is passed over.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from detect.data.image_formats import SUFFIXES, UNREADABLE, has_signature
from detect.data.roots import OUTSIDE, Roots
from detect.errors import UserError
from detect.utils.atomic_io import open_file, read_bytes

IMAGE_FOLDERS = frozenset(("images", "image", "imgs", "img", "jpegimages"))
LABEL_FOLDERS = frozenset(("labels", "label", "annotations", "annotation", "xmls", "xml"))
# The names that people give to splits, in any case; all formats read them by this table.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS |= {"test": "test", "testing": "test"}
NEVER_IMAGES = frozenset((".txt", ".xml", ".json", ".npy", ".csv", ".yaml", ".yml", ".cache", ".bak", ".orig", ".old"))

Leftover = tuple[str, str]  # a file or record that cannot be used, and why


def split_name(name: str) -> str:
    """Return the split that a name means: `valid`, `Validation` and `val` are `val`; an unusual name is itself."""
    return SPLITS.get(name.casefold(), name)


def by_split(path: object, names: Iterable[str]) -> dict[str, str]:
    """Return the name that stands for each split. Raises UserError where two of them mean the same one."""
    found: dict[str, str] = {}
    for name in names:
        if (other := found.setdefault(split_name(name), name)) != name:
            raise UserError(
                f"{path}: {other!r} and {name!r} both mean the split {split_name(name)!r}; remove one of them"
            )
    return found


def fold(name: str) -> str:
    """Return a name for comparison, without regard to case and to how its accents are encoded."""
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).casefold()


def suffix_of(name: str) -> str:
    """Return the suffix in small letters, with its dot."""
    return os.path.splitext(name)[1].lower()


@dataclass
class Inventory:
    """The files below some folders, as sorted absolute paths: images, images that cannot be decoded, the rest."""

    images: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)  # links that lead out of the dataset: they are not followed
    others: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by suffix

    def add(self, path: str) -> None:
        """Add one file to its kind, by its name."""
        suffix = suffix_of(path)
        if suffix in SUFFIXES:
            self.images.append(path)
        elif suffix in UNREADABLE:
            self.unreadable.append(path)
        else:
            self.others[suffix].append(path)

    def leading_out(self) -> Iterator[Leftover]:
        """Yield each link that may not be followed."""
        for path in self.outside:
            yield path, f"is a link that {OUTSIDE}"

    def undecoded(self) -> Iterator[Leftover]:
        """Yield each image that cannot be decoded."""
        for path in self.unreadable:
            what = os.path.splitext(path)[1]
            yield path, f"is an image in a format that cannot be decoded ({what}); convert it to JPEG or PNG"

    def misnamed(self) -> Iterator[Leftover]:
        """Yield each image whose name does not end like one."""
        for suffix, paths in self.others.items():
            if suffix in NEVER_IMAGES or suffix.endswith(("~", "_original")):
                continue
            for path in filter(_looks_like_image, paths):
                yield path, "is an image, but its name does not end like one; rename it, such as to .jpg"


def take_stock(*folders: str | Path, inside: Roots | None = None) -> Inventory:
    """List all files below some folders, each once; links are followed `inside` of folders, by default of these."""
    found = Inventory()
    for path in sorted(walk(*folders, inside=inside or Roots(*folders), left=found.outside), key=parts_of):
        found.add(path)
    found.outside.sort(key=parts_of)
    return found


def parts_of(path: str) -> list[str]:
    """Return the parts of a path, as a key for sorting that keeps folders together."""
    return path.split(os.sep)


def walk(*folders: str | Path, inside: Roots, left: list[str]) -> Iterator[str]:
    """Yield the files below some folders but hidden ones; each folder is entered once.

    Links that lead out of `inside` are not followed, but put into `left`.
    """
    seen: set[tuple[int, int]] = set()
    stack, links = [os.path.abspath(folder) for folder in folders], list[str]()
    while stack or links:
        place = stack.pop() if stack else links.pop(links.index(min(links)))
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_symlink() and not inside.holds(entry.path):
                        left.append(entry.path)
                    elif not entry.is_dir():
                        yield entry.path
                    else:
                        (links if entry.is_symlink() else stack).append(entry.path)
        except OSError as error:
            raise UserError(f"{place}: the folder cannot be read: {error.strerror}") from None


def folders_in(folder: str | Path, names: Collection[str]) -> list[str]:
    """Return the folders directly in one whose names, in any case, are among `names`; sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if fold(entry.name) in names and entry.is_dir())
    except (OSError, ValueError):  # nothing there, or what can be no folder's name
        return []


class Finder:
    """Finds files by the names that lists give them; each folder is listed once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, dict[str, list[str]]]] = {}

    def find(self, path: str) -> str | None:
        """Return the path as it is on disk: as given, or the only one that differs in case or accents alone."""
        above, name = os.path.split(path)
        if not name:
            return path
        missing = [above]  # a loop, for a name may have thousands of parts
        while not (missing[-1] in self._known or os.path.isdir(missing[-1]) or missing[-1] in ("", os.sep)):
            missing.append(os.path.dirname(missing[-1]))
        for folder in reversed(missing):
            if folder not in self._known:
                place = folder if os.path.isdir(folder) else self.find(folder) or folder
                self._known[folder] = place, _names_in(place)
        place, names = self._known[above]
        alike = names.get(fold(name), [])
        if name in alike:
            return os.path.join(place, name)
        return os.path.join(place, alike[0]) if len(alike) == 1 else None


def _names_in(folder: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    try:
        for name in os.listdir(folder):
            found[fold(name)].append(name)
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        return {}
    return found


def label_folders(folder: str, base: str, finder: Finder) -> list[str]:
    """Return the folders where the labels of the images in a folder may lie, besides itself.

    For `A/images/B` that is `A/labels/B`; for `A/B`, where A is `base` or lies below it, `A/labels/B` too, in which
    words such as images may be missing (`A/labels/train` for `A/train/images`).
    """
    found = []
    for labels, rest in label_levels(folder, base):
        bare = [part for part in rest if fold(part) not in IMAGE_FOLDERS]
        mirrored = [rest[1:]] if rest and fold(rest[0]) in IMAGE_FOLDERS else []
        found += [os.path.join(labels, *parts) for parts in (*mirrored, rest, bare)]
    return list(dict.fromkeys(place for path in found if (place := finder.find(path)) and os.path.isdir(place)))


def label_levels(folder: str, base: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder of labels that lies in one above the images of `folder`, and the parts from there to these.

    That is one in `base`, below it, or beside an `images`.
    """
    parts = parts_of(folder)
    for depth in range(len(parts), 0, -1):
        above, rest = os.sep.join(parts[:depth]) or os.sep, parts[depth:]
        mirrored = bool(rest) and fold(rest[0]) in IMAGE_FOLDERS
        if mirrored or (above + os.sep).startswith(base.rstrip(os.sep) + os.sep):
            yield from ((labels, rest) for labels in folders_in(above, ("labels", "label")))


@dataclass
class Pairs:
    """Label files by image: the one that is used, others of the same image, and those that belong to no image."""

    label: dict[str, str] = field(default_factory=dict)
    others: list[tuple[str, str]] = field(default_factory=list)  # image, another label file of it
    shared: list[tuple[str, str]] = field(default_factory=list)  # image, the label file that is another image's too
    orphans: list[str] = field(default_factory=list)
    copies: set[str] = field(default_factory=set)  # label files that equal the one that is used


def pair(images: Sequence[str], labels: Iterable[str]) -> Pairs:
    """Which label file belongs to which image: `x.txt` or `x.jpg.txt` to `x.jpg`, in the same or the mirrored folder.

    Names are compared without regard to case and accents' encoding, folders without words such as images and labels;
    where that leaves several images, the nearest one has it (see `_distance`).
    """
    keys = Keys()
    index: dict[tuple[str, str], list[str]] = defaultdict(list)
    for image in images:
        place, name = os.path.split(image)
        for key in {fold(name), fold(os.path.splitext(name)[0])}:
            index[keys(place), key].append(image)
    pairs, claims = Pairs(), defaultdict[str, list[str]](list)
    for label in labels:
        place, name = os.path.split(label)
        known = index.get((keys(place), fold(os.path.splitext(name)[0])), [])
        if not known:
            pairs.orphans.append(label)
            continue
        nearest = _nearest(known, partial(_distance, label=label))
        claims[nearest[0]].append(label)
        pairs.shared += [(image, label) for image in nearest[1:]]
    pairs.shared = [(image, label) for image, label in pairs.shared if image not in claims]
    for image, found in claims.items():
        pairs.label[image] = used = _nearest(found, partial(_distance, image))[0]
        pairs.copies.update(label for label in found if label != used and _same(used, label))
        pairs.others += [(image, label) for label in found if label != used and label not in pairs.copies]
    return pairs


def _nearest(paths: list[str], distance: Callable[[str], int]) -> list[str]:
    """Those of the least distance, sorted; one alone is the nearest however far it is."""
    if len(paths) == 1:
        return paths
    least = min(map(distance, paths))
    return sorted(path for path in paths if distance(path) == least)


class Keys:
    """Folders as they are compared: folded, without the words that tell images from labels; remembered."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        if (key := self.known.get(place)) is None:
            words = [word for part in parts_of(place) if (word := fold(part)) not in IMAGE_FOLDERS | LABEL_FOLDERS]
            key = self.known[place] = os.sep.join(words)
        return key


def _distance(image: str, label: str) -> int:
    """How far a label file is from where that of an image lies by custom: 0 is there; a folder counts more than a name.

    Of the mirrored folders `labels` is the one for texts, others those for xml.
    """
    place, name = os.path.split(image)
    other, other_name = os.path.split(label)
    parts, others = [[fold(part) for part in parts_of(folder)] for folder in (place, other)]
    words = [i for i, part in enumerate(parts) if part in IMAGE_FOLDERS]
    apart = odd = False
    if words and len(others) == len(parts) and (word := others[words[-1]]) in LABEL_FOLDERS:
        odd = word.startswith("label") != (suffix_of(label) == ".txt")
        others[words[-1]] = parts[words[-1]]
    else:
        apart = bool(words)
    apart |= others != parts
    return 4 * apart + 2 * (os.path.splitext(name)[0] != os.path.splitext(other_name)[0]) + odd


def _same(a: str, b: str) -> bool:
    return os.path.isfile(a) and os.path.isfile(b) and read_bytes(a) == read_bytes(b)


def _looks_like_image(path: str) -> bool:
    try:
        with open_file(path) as file:
            return has_signature(file.read(16))
    except OSError:
        return False
