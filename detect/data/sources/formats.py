"""What `--data` takes, recognised: every form becomes the same store.

- a YAML with `train:`, `val:`, `test:`, each with `annotations:` (COCO json) and `images:` (folder, by default found as
  below); paths are relative to the YAML, or absolute
- a YOLO `data.yaml`, or a folder that holds one (see `yolo`)
- a folder with `instances_{split}.json` or `person_keypoints_{split}.json`, in it or in `annotations/`, with or
  without a year (COCO's own `instances_val2017.json` is the split `val`); of several years the last is taken, of both
  kinds the instances
- a folder with `{split}/_annotations.coco.json`
- a Pascal VOC folder (see `voc`)
- a csv of landmarks, or a folder with some (see `tables`)
- `toy`, the embedded set
- for classifiers and embedders also labels of whole pictures: a folder of classes, or a csv (see `labelled`)
- for classifiers also signals or volumes: an npz, or texts as the UCR archive has them (see `signal_files`)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from detect.data.annotations import Annotations
from detect.data.roots import Roots
from detect.data.sources.coco import load_coco
from detect.data.sources.csv_tables import table_splits
from detect.data.sources.image_folder import labelled_splits
from detect.data.sources.image_names import image_roots
from detect.data.sources.inventory import by_split, split_name
from detect.data.sources.signal_files import signal_splits
from detect.data.sources.voc import voc_splits
from detect.data.sources.yolo import yolo_splits
from detect.errors import UserError, unknown
from detect.utils.atomic_io import require_file
from detect.utils.names import require_names
from detect.utils.yaml_files import read_yaml

Splits = dict[str, Callable[[bool], Annotations]]  # split -> the function of skip_bad that loads it

_ACCEPTED = (
    "--data takes a YAML with train:/val:/test:, each with annotations: and images:, a YOLO data.yaml, a folder with "
    "instances_train.json or COCO's annotations/, a Pascal VOC folder, a csv of landmarks, or toy"
)
_WHOLE = (
    "with --task classify or embed also a folder with a folder of pictures for each class, or a csv; for classifiers "
    "also signals: an npz with x_train and y_train, or NAME_TRAIN.tsv and NAME_TEST.tsv"
)
_FILE = re.compile(r"(instances|person_keypoints)_(.+?)((?:19|20)\d\d)?\.json")


def load_data(
    spec: str | Path, split: str, skip_bad: bool = False, whole: str = "", allow_outside: bool = False
) -> Annotations:
    """The store of one split of the data that `spec` names (see above); `whole`: labels of whole pictures will do.

    Of these "pictures" of each class, or "classes", are held out where there are no splits. With `allow_outside` lists
    and links may lead to files outside the set (see `roots`).

    Raises UserError for what is not recognised, for a split that is not there, and for bad data (see `load_coco`).
    """
    found = recognise(spec, whole, allow_outside)
    split = split if split in found else split_name(split)
    if split not in found:
        raise UserError(f"{spec}: there is no split {split!r}; there are: {', '.join(found)}")
    return found[split](skip_bad)


def splits(spec: str | Path, whole: str = "", allow_outside: bool = False) -> list[str]:
    """The names of the splits of the data that `spec` names, train first."""
    return list(recognise(spec, whole, allow_outside))


def recognise(spec: str | Path, whole: str = "", allow_outside: bool = False) -> Splits:
    """The loader of each split of the data that `spec` names, train first; raises UserError as `load_data`."""
    if str(spec) == "toy":
        from detect.data.toy import toy_folder  # late: it draws the set when there is none yet

        spec = toy_folder()
    path = Path(spec).expanduser()
    inside = roots_of(path, allow_outside)
    found: Splits = {}
    if os.path.isdir(path):
        found = _folder(path, inside)
    elif not os.path.exists(path):
        raise UserError(f"{spec}: there is no such file or folder; {_ACCEPTED}")
    else:
        require_file(path)
        if path.suffix.lower() in (".yaml", ".yml"):
            found = _yaml(path, inside)
        elif path.suffix.lower() == ".csv":
            found = table_splits(path, inside)
    if not found and whole:
        signals = signal_splits(path, inside) if whole == "pictures" else {}
        found = {**signals} or labelled_splits(path, whole, inside)
    if not found and path.is_dir():
        found = voc_splits(path, True, inside)
    if not found:
        raise UserError(f"{spec}: not recognised as data; {_ACCEPTED}; {_WHOLE}")
    order = {name: place for place, name in enumerate(("train", "val", "test"))}
    return {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, len(order)), name))}


def roots_of(path: Path, allow_outside: bool = False) -> Roots:
    """The folder below which the files of the set at `path` lie: it, or that of a file."""
    return Roots(path if os.path.isdir(path) else path.parent, anywhere=allow_outside)


def _folder(folder: Path, inside: Roots) -> Splits:
    found = _coco_files(folder, folder, inside) or _coco_files(folder / "annotations", folder, inside)
    if not found:
        files = {path.parent.name: path for path in sorted(folder.glob("*/_annotations.coco.json"))}
        for split, name in by_split(folder, files).items():
            found[split] = coco_loader(files[name], image_roots(files[name].parent), inside)
    for name in ("data.yaml", "data.yml"):
        if not found and (folder / name).is_file():
            found = _yaml(folder / name, inside)
    return found or voc_splits(folder, inside=inside) or table_splits(folder, inside)


def _coco_files(folder: Path, base: Path, inside: Roots) -> Splits:
    found: Splits = {}
    matches = [match for path in sorted(folder.glob("*.json")) if (match := _FILE.fullmatch(path.name))]
    for kind in ("person_keypoints", "instances"):  # instances last: they win, and so does the last year
        files = {match[2]: match for match in matches if match[1] == kind}
        for split, name in by_split(folder, files).items():
            roots = image_roots(base, name + (files[name][3] or ""), name)
            found[split] = coco_loader(folder / files[name][0], roots, inside)
    return found


def coco_loader(path: Path, roots: list[Path], inside: Roots) -> Callable[[bool], Annotations]:
    """The loader of one COCO file, whose images lie in the first of `roots` that holds one of the first images."""
    inside.require(path)
    return partial(load_coco, path, roots, inside=inside)


def _yaml(path: Path, inside: Roots) -> Splits:
    content = read_yaml(path)
    if isinstance(content, dict) and "names" in content:
        return yolo_splits(path, content, inside)
    if not isinstance(content, dict) or not any(isinstance(part, dict) for part in content.values()):
        raise UserError(f"{path}: not a description of data; {_ACCEPTED}")
    names = require_names([*content], range(1, len(content) + 1), path, "split")
    given = by_split(path, (name for name in names if content[name] is not None))
    return {split: _part(path, name, content[name], inside) for split, name in given.items()}


def _part(path: Path, split: str, part: Any, inside: Roots) -> Callable[[bool], Annotations]:
    """One split of a YAML of our own form."""
    if not isinstance(part, dict) or not isinstance(part.get("annotations"), str):
        raise UserError(f"{path}: {split} needs annotations: FILE.json (and images: FOLDER)")
    for key in part:
        if key not in ("annotations", "images"):
            raise UserError(f"{path}: {split}: {unknown('key', str(key), ('annotations', 'images'))}")
    annotations = path.parent / Path(part["annotations"]).expanduser()
    images, inside = part.get("images"), inside.adding(annotations.parent)
    if images is None:
        return coco_loader(annotations, image_roots(annotations.parent, split), inside)
    if not isinstance(images, str):
        raise UserError(f"{path}: {split}: images must be one folder, not {images!r}")
    root = path.parent / Path(images).expanduser()
    if not os.path.isdir(root):
        raise UserError(f"{path}: {split}: there is no image folder {root}; images is relative to the YAML")
    return coco_loader(annotations, [root], inside.adding(root))
