"""Reading the data that `--data` names, whatever its format: each registered format is asked in turn."""

from __future__ import annotations

import os
from pathlib import Path

from detect.data.annotations import Annotations
from detect.data.sources.base import UNFINISHED, Format, Source, Splits, accepted
from detect.data.sources.inventory import split_name
from detect.errors import UserError
from detect.registry import REGISTRIES
from detect.storage.resolve import local
from detect.utils.atomic_io import require_file


class UnknownFormatError(UserError):
    """No format recognises the data; one that takes labels of whole images may."""


def load_data(
    spec: str | Path, split: str, skip_bad: bool = False, image_level_labels: str = "", allow_outside: bool = False
) -> Annotations:
    """Read one split of a dataset.

    Args:
        spec: the file or folder of the dataset, or "toy".
        split: the name of the split; other names of it will do, such as "valid" for "val".
        skip_bad: leave bad records out and list them in `Annotations.left_out`, instead of raising.
        image_level_labels: see `Source`.
        allow_outside: see `Source`.

    Raises:
        UserError: no format recognises it, it has no such split, or its data are bad (see `load_coco`).
    """
    found = recognise(spec, image_level_labels, allow_outside)
    split = split if split in found else split_name(split)
    if split not in found:
        raise UserError(f"{spec}: there is no split {split!r}; there are: {', '.join(found)}")
    return found[split](skip_bad)


def splits(spec: str | Path, image_level_labels: str = "", allow_outside: bool = False) -> list[str]:
    """Return the names of a dataset's splits, train first. Raises UserError as `recognise`."""
    return list(recognise(spec, image_level_labels, allow_outside))


def recognise(spec: str | Path, image_level_labels: str = "", allow_outside: bool = False) -> Splits:
    """Return the reader of each split of a dataset, train first.

    Raises:
        UserError: there is no such file, or it cannot be used.
        UnknownFormatError: no format recognises it.
    """
    path = local(spec)
    if path == Path("toy") and os.fspath(spec) != "toy":  # ./toy is no word, but a path, which loses its dot
        path = path.absolute()
    source = Source(path, image_level_labels, allow_outside)
    if os.path.exists(source.path) and not os.path.isdir(source.path):
        require_file(source.path)
    for folder in (source.path, *source.path.parents[:2]):
        if os.path.exists(folder / UNFINISHED):
            raise UserError(
                f"{folder}: this dataset is being written, or writing it was interrupted: write it again (what there "
                f"is of it can be read without the file {UNFINISHED} in it)"
            )
    found = next(filter(None, (form.splits(source) for form in _formats(image_level_labels))), None)
    if found is None:
        there = os.path.exists(source.path)
        problem = "this is not a dataset in a known format" if there else "there is no such file or folder"
        raise UnknownFormatError(f"{spec}: {problem}. {accepted()}")
    order = {name: place for place, name in enumerate(("train", "val", "test"))}
    return {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, len(order)), name))}


def _formats(image_level_labels: str) -> list[Format]:
    """The formats to try, in this order: those from outside, then the built-in ones."""
    registry = REGISTRIES["format"]
    names = sorted(registry, key=lambda name: not registry.origin(name))
    return [registry[name]() for name in names if image_level_labels or not registry[name].image_level]
