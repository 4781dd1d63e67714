"""ImageNet (Russakovsky et al. 2015, arXiv 1409.0575): folders of synsets for training, a flat folder for validation.

    LOC_synset_mapping.txt    n01440764 tench, Tinca tinca
    LOC_val_solution.csv      ILSVRC2012_val_00000001,n01751748 111 108 433 336
    ILSVRC/Data/CLS-LOC/train/n01440764/x.JPEG, …/val/ILSVRC2012_val_00000001.JPEG

The folders of images may also lie beside the lists, as `train/` and `val/`. Instead of the csv the classes of the
validation images may be in a text of synsets, one a line in the order of the images (`…synset_labels.txt`), or in
`ILSVRC2012_validation_ground_truth.txt`, whose numbers are not in the order of synsets: `map_clsloc.txt` (`n02119789 1
kit_fox`) or the development kit's `meta.mat` says what they mean. A class is called by the first of its synset's words,
by all of them where another has the same first one, and by the synset itself without a mapping; classes are in the
order of synsets, as the published weights have them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

from detect.data.annotations import Annotations
from detect.data.roots import Roots
from detect.data.sources.base import Format, NamedFiles, Source, Splits
from detect.data.sources.image_folder import Pair, load_labelled
from detect.data.sources.inventory import Leftover, folders_in, take_stock
from detect.data.sources.values import listed_once
from detect.errors import UserError
from detect.utils.text_files import read_text

_SYNSET = re.compile(r"n\d{8}")
_IMAGES = ("", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")
_LISTS = ("", "ILSVRC", "devkit/data", "ILSVRC2012_devkit_t12/data", "ILSVRC/devkit/data")
_SOLUTION, _TRUTH = "LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth.txt"


class ImageNet(Format):
    """A folder with such lists. Without one for a flat `val/` it is an ordinary folder of classes."""

    accepts = f"ImageNet's folder, with {_SOLUTION} or another list of the classes of a flat val/"
    image_level = True
    files = ("classes", "numbers")
    split_files = ("annotations", "images")

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        if not source.path.is_dir() or (solution := _list_of_classes(source)) is None:
            return {}
        places = (source.path / place for place in _IMAGES)
        root = next((place for place in places if folders_in(place, ("val",))), None)
        if root is None:
            raise UserError(f"{source.path}: has {solution}, but no folder val/ of images")
        source.inside.require(root)
        train = root / "train" if folders_in(root, ("train",)) else None
        mapping = _find(source, "LOC_synset_mapping.txt") or _find(source, "synset_words.txt")
        numbers = _find(source, "map_clsloc.txt") or _find(source, "meta.mat")
        return _splits(_Files(solution, root / "val", train, mapping, numbers), source.inside)

    def named(self, source: Source, named: NamedFiles) -> Splits:
        """Return the readers of the splits: see `Format.named`. The training images are in folders of synsets."""
        if lacking := [split for split in named.splits if split not in ("train", "val")]:
            raise UserError(f"{named.path}: {lacking[0]}: format imagenet has train: and val: alone")
        if "annotations" in named.splits.get("train", {}):
            raise UserError(f"{named.path}: train: annotations: is not read: its folders are the classes")
        if "val" not in named.splits:
            raise UserError(f"{named.path}: has no val:, with annotations: and images:, which this format needs")
        solution, images = named.require("annotations", "images", split="val")
        train = named.require("images", split="train")[0] if "train" in named.splits else None
        files = _Files(solution, images, train, named.files.get("classes"), named.files.get("numbers"))
        return _splits(files, named.inside)


class _Files(NamedTuple):
    """The list of the classes of the flat folder, the folders of images, the words and the numbers of synsets."""

    solution: Path
    val: Path
    train: Path | None
    mapping: Path | None
    numbers: Path | None


def _splits(files: _Files, inside: Roots) -> Splits:
    splits: Splits = {"val": partial(_load_val, files, inside)}
    if files.train is not None:
        splits["train"] = partial(_load_train, files, files.train, inside)
    return splits


def _load_val(files: _Files, inside: Roots, skip_bad: bool) -> Annotations:
    """The images of the flat folder, by the list of their classes. An image that it does not have is an error."""
    path, root = files.solution, files.val.parent
    stock = take_stock(files.val, inside=inside)
    stems = {os.path.splitext(os.path.basename(image))[0]: image for image in stock.images}
    synsets = _synsets_of(files, sorted(stems))
    names = _names(files.mapping, set(synsets.values()) | _train_synsets(files.train))
    left: list[Leftover] = [*stock.leading_out(), *stock.undecoded()]
    left += [(image, f"is not in {path}") for stem, image in stems.items() if stem not in synsets]
    left += [(stem, f"is in {path}, but there is no such image in {files.val}") for stem in synsets.keys() - stems]
    base = os.path.abspath(root)
    pairs = [(_relative(stems[s], base), names[synset]) for s, synset in sorted(synsets.items()) if s in stems]
    return load_labelled(path, root, pairs, [*names.values()], inside, sorted(left), skip_bad)


def _load_train(files: _Files, folder: Path, inside: Roots, skip_bad: bool) -> Annotations:
    """The images in the folders of synsets."""
    val = take_stock(files.val, inside=inside)
    stems = sorted(os.path.splitext(os.path.basename(image))[0] for image in val.images)
    names = _names(files.mapping, set(_synsets_of(files, stems).values()) | _train_synsets(folder))
    base, pairs, left = os.path.abspath(folder.parent), list[Pair](), list[Leftover]()
    for synset in sorted(_train_synsets(folder)):
        stock = take_stock(folder / synset, inside=inside)
        pairs += [(_relative(image, base), names[synset]) for image in stock.images]
        left += [*stock.leading_out(), *stock.undecoded(), *stock.misnamed()]
    return load_labelled(folder, folder.parent, pairs, [*names.values()], inside, left, skip_bad)


def _relative(file: str, base: str) -> str:
    return Path(os.path.relpath(file, base)).as_posix()


def _train_synsets(folder: Path | None) -> set[str]:
    if folder is None or not folder.is_dir():
        return set()
    return {child.name for child in folder.iterdir() if _SYNSET.fullmatch(child.name)}


def _find(source: Source, pattern: str) -> Path | None:
    """The first file of a pattern in the folders of lists."""
    found = (path for place in _LISTS for path in sorted((source.path / place).glob(pattern)) if path.is_file())
    if (path := next(found, None)) is not None:
        source.inside.require(path)
    return path


def _list_of_classes(source: Source) -> Path | None:
    return _find(source, _SOLUTION) or _find(source, "*synset_labels.txt") or _find(source, _TRUTH)


def _synsets_of(files: _Files, stems: list[str]) -> dict[str, str]:
    """The synset of each image of the validation set, by its name without suffix.

    Raises:
        UserError: a line is of another form, or there are not as many as images.
    """
    path = files.solution
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if path.suffix.lower() == ".csv":
        rows = [line.replace(",", " ").split() for line in lines if not line.startswith("ImageId")]
        found = listed_once(path, [(row[0], row[1] if len(row) > 1 else "") for row in rows if row])
    else:
        if len(lines) != len(stems):
            raise UserError(
                f"{path}: has {len(lines)} lines, but {files.val.name}/ has {len(stems)} images; one is incomplete"
            )
        meaning = _numbered(files) if all(map(str.isdecimal, lines)) else {line: line for line in lines}
        found = {stem: meaning.get(line, "") for stem, line in zip(stems, lines, strict=True)}
    if bad := [stem for stem, synset in found.items() if not _SYNSET.fullmatch(synset)]:
        raise UserError(f"{path}: names no synset, such as n01440764, for {bad[0]!r}")
    return found


def _numbered(files: _Files) -> dict[str, str]:
    """The synset of each number of ILSVRC's ground truth."""
    path = files.numbers
    if path is None:
        raise UserError(
            f"{files.solution}: its numbers are not in the order of synsets: put map_clsloc.txt or the development "
            f"kit's meta.mat beside it (numbers: of a YAML), or take {_SOLUTION}"
        )
    if path.suffix.lower() != ".mat":
        rows = [line.split() for line in read_text(path).splitlines()]
        return listed_once(path, [(row[1], row[0]) for row in rows if len(row) > 1])
    from scipy.io import loadmat  # late: few need it

    try:
        table = loadmat(str(path), squeeze_me=True)["synsets"]
        return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in table}
    except Exception as error:  # it raises what it likes
        raise UserError(f"{path}: cannot be read as ImageNet's table of synsets: {error}") from None


def _words(path: Path) -> dict[str, str]:
    """The words of each synset of a mapping."""
    rows = [line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    if bad := [row[0] for row in rows if not _SYNSET.fullmatch(row[0])]:
        raise UserError(f"{path}: a line begins with {bad[0][:60]!r}, not with a synset such as n01440764")
    return listed_once(path, [(row[0], row[-1]) for row in rows])


def _names(path: Path | None, synsets: set[str]) -> dict[str, str]:
    """The name of each class, by its synset, in their order; with a mapping all classes that it names."""
    words = _words(path) if path else {}
    words = {synset: words.get(synset, synset).strip() for synset in sorted(synsets | words.keys())}
    first = {synset: text.split(",")[0].strip() for synset, text in words.items()}
    times, whole = Counter(first.values()), Counter(words.values())
    names = {synset: name if times[name] == 1 else words[synset] for synset, name in first.items()}
    return {s: name if whole[words[s]] == 1 else f"{name} ({s})" for s, name in names.items()}
