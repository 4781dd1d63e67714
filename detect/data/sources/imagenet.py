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

from detect.data.annotations import Annotations
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.image_folder import Pair, load_labelled
from detect.data.sources.inventory import Leftover, folders_in, take_stock
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

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        if not source.path.is_dir() or _list_of_classes(source) is None:
            return {}
        places = (source.path / place for place in _IMAGES)
        root = next((place for place in places if folders_in(place, ("val",))), None)
        if root is None:
            raise UserError(f"{source.path}: has {_list_of_classes(source)}, but no folder val/ of images")
        source.inside.require(root)
        splits: Splits = {"val": partial(_load_val, source, root)}
        if folders_in(root, ("train",)):
            splits["train"] = partial(_load_train, source, root)
        return splits


def _load_val(source: Source, root: Path, skip_bad: bool) -> Annotations:
    """The images of the flat folder, by the list of their classes. An image that it does not have is an error."""
    path = _list_of_classes(source)
    assert path is not None
    stock = take_stock(root / "val", inside=source.inside)
    stems = {os.path.splitext(os.path.basename(image))[0]: image for image in stock.images}
    synsets = _synsets_of(path, sorted(stems), source)
    names = _names(source, set(synsets.values()) | _train_synsets(root))
    left: list[Leftover] = [*stock.leading_out(), *stock.undecoded()]
    left += [(image, f"is not in {path}") for stem, image in stems.items() if stem not in synsets]
    left += [(stem, f"is in {path}, but there is no such image in {root / 'val'}") for stem in synsets.keys() - stems]
    base = os.path.abspath(root)
    pairs = [(_relative(stems[s], base), names[synset]) for s, synset in sorted(synsets.items()) if s in stems]
    return load_labelled(path, root, pairs, [*names.values()], source.inside, sorted(left), skip_bad)


def _load_train(source: Source, root: Path, skip_bad: bool) -> Annotations:
    """The images in the folders of synsets."""
    path = _list_of_classes(source)
    assert path is not None
    val = take_stock(root / "val", inside=source.inside)
    stems = sorted(os.path.splitext(os.path.basename(image))[0] for image in val.images)
    names = _names(source, set(_synsets_of(path, stems, source).values()) | _train_synsets(root))
    base, pairs, left = os.path.abspath(root), list[Pair](), list[Leftover]()
    for synset in sorted(_train_synsets(root)):
        stock = take_stock(root / "train" / synset, inside=source.inside)
        pairs += [(_relative(image, base), names[synset]) for image in stock.images]
        left += [*stock.leading_out(), *stock.undecoded(), *stock.misnamed()]
    return load_labelled(root / "train", root, pairs, [*names.values()], source.inside, left, skip_bad)


def _relative(file: str, base: str) -> str:
    return Path(os.path.relpath(file, base)).as_posix()


def _train_synsets(root: Path) -> set[str]:
    folder = root / "train"
    return {child.name for child in folder.iterdir() if _SYNSET.fullmatch(child.name)} if folder.is_dir() else set()


def _find(source: Source, pattern: str) -> Path | None:
    """The first file of a pattern in the folders of lists."""
    found = (path for place in _LISTS for path in sorted((source.path / place).glob(pattern)) if path.is_file())
    if (path := next(found, None)) is not None:
        source.inside.require(path)
    return path


def _list_of_classes(source: Source) -> Path | None:
    return _find(source, _SOLUTION) or _find(source, "*synset_labels.txt") or _find(source, _TRUTH)


def _synsets_of(path: Path, stems: list[str], source: Source) -> dict[str, str]:
    """The synset of each image of the validation set, by its name without suffix.

    Raises:
        UserError: a line is of another form, or there are not as many as images.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if path.name == _SOLUTION:
        rows = [line.replace(",", " ").split() for line in lines if not line.startswith("ImageId")]
        found = {row[0]: row[1] if len(row) > 1 else "" for row in rows}
    else:
        if len(lines) != len(stems):
            raise UserError(f"{path}: has {len(lines)} lines, but val/ has {len(stems)} images; one is incomplete")
        meaning = _numbered(source) if path.name == _TRUTH else {line: line for line in lines}
        found = {stem: meaning.get(line, "") for stem, line in zip(stems, lines, strict=True)}
    if bad := [stem for stem, synset in found.items() if not _SYNSET.fullmatch(synset)]:
        raise UserError(f"{path}: names no synset, such as n01440764, for {bad[0]!r}")
    return found


def _numbered(source: Source) -> dict[str, str]:
    """The synset of each number of ILSVRC's ground truth."""
    if path := _find(source, "map_clsloc.txt"):
        rows = [line.split() for line in read_text(path).splitlines()]
        return {row[1]: row[0] for row in rows if len(row) > 1}
    if path := _find(source, "meta.mat"):
        from scipy.io import loadmat  # late: few need it

        try:
            table = loadmat(str(path), squeeze_me=True)["synsets"]
            return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in table}
        except Exception as error:  # it raises what it likes
            raise UserError(f"{path}: cannot be read as ImageNet's table of synsets: {error}") from None
    raise UserError(
        f"{source.path}: the numbers of {_TRUTH} are not in the order of synsets: put map_clsloc.txt or the "
        f"development kit's meta.mat beside it, or take {_SOLUTION}"
    )


def _names(source: Source, synsets: set[str]) -> dict[str, str]:
    """The name of each class, by its synset, in their order; with a mapping all classes that it names."""
    path = _find(source, "LOC_synset_mapping.txt") or _find(source, "synset_words.txt")
    words = dict(line.split(maxsplit=1) for line in read_text(path).splitlines() if " " in line) if path else {}
    words = {synset: words.get(synset, synset).strip() for synset in sorted(synsets | words.keys())}
    first = {synset: text.split(",")[0].strip() for synset, text in words.items()}
    times, whole = Counter(first.values()), Counter(words.values())
    names = {synset: name if times[name] == 1 else words[synset] for synset, name in first.items()}
    return {s: name if whole[words[s]] == 1 else f"{name} ({s})" for s, name in names.items()}
