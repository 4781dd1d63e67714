"""The interface of dataset formats: what `--data` accepts is whatever a registered `Format` recognises.

A format is one class. `splits` says whether a file or folder is of this format, and how each split of it is read:

    from detect.data.bad_records import BadRecords
    from detect.data.sources.base import Format, Source, Splits
    from detect.data.sources.coco import from_coco
    from detect.registry import register

    @register("format", "my_boxes")
    class MyBoxes(Format):
        accepts = "a folder with boxes_train.txt"

        def splits(self, source: Source) -> Splits:
            found = sorted(source.path.glob("boxes_*.txt")) if source.path.is_dir() else []
            return {path.stem.removeprefix("boxes_"): partial(read, path) for path in found}

    def read(path: Path, skip_bad: bool) -> Annotations:
        ...  # read the file into a COCO dictionary: images, annotations, categories
        return from_coco(coco, path, path.parent, BadRecords(path, skip_bad))

`from_coco` checks every record as it does those of a COCO file, so a format need only say what its files hold. A reader
hands records that it cannot turn into COCO ones to `BadRecords.reject`, which raises, or lists them with `--skip-bad`.
Formats from outside are tried before the built-in ones, in the order in which they were registered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from detect.data.annotations import Annotations
from detect.data.roots import Roots
from detect.errors import UserError
from detect.registry import REGISTRIES
from detect.utils.atomic_io import replace_text
from detect.utils.yaml_files import read_yaml

Splits = dict[str, Callable[[bool], Annotations]]
"""For each split the function that reads it; its argument is `skip_bad`."""


UNFINISHED = "unfinished-dataset"  # a file in the folder of a dataset as long as it is being written


@contextmanager
def being_written(folder: Path, beside: Collection[str] = ()) -> Iterator[None]:
    """Keep the file UNFINISHED in a new folder for the block, and after an error: no reader takes such a dataset.

    Many formats have several files, some of which would be read as a smaller dataset. Where nothing was written but
    files called as those in `beside`, it is removed.
    """
    new = not folder.exists()
    replace_text(folder / UNFINISHED, "", durable=False)
    try:
        yield
    except BaseException:
        if {entry.name for entry in os.scandir(folder)} <= {UNFINISHED, *beside}:
            (folder / UNFINISHED).unlink()
            if new:
                folder.rmdir()
        raise
    (folder / UNFINISHED).unlink()


@dataclass(frozen=True)
class Source:
    """What `--data` names.

    Attributes:
        path: the file or folder, or "toy". It need not exist. For a URL it is what stands for it in the cache.
        image_level_labels: whether one label for a whole image will do, as for classifiers: "" for no; else what the
            validation set is drawn from where the dataset has no splits, "images" of each class or whole "classes".
        allow_outside: whether links and lists may lead to files outside the dataset's folder.
    """

    path: Path
    image_level_labels: str = ""
    allow_outside: bool = False

    @cached_property
    def inside(self) -> Roots:
        """The folders whose files the dataset may use: the one that `path` names or lies in."""
        is_folder = os.path.isdir(self.path)
        folder = self.path if is_folder else self.path.parent
        return Roots(folder, anywhere=self.allow_outside, urls=not is_folder)

    @cached_property
    def yaml_path(self) -> Path | None:
        """The YAML that `--data` names, or the data.yaml in the folder that it names."""
        if self.path.suffix.lower() in (".yaml", ".yml") and self.path.is_file():
            return self.path
        return next((path for name in ("data.yaml", "data.yml") if (path := self.path / name).is_file()), None)

    @cached_property
    def yaml(self) -> Any:
        """The content of the YAML at `yaml_path`; None without one.

        Raises:
            UserError: it is broken.
        """
        return None if self.yaml_path is None else read_yaml(self.yaml_path)


@dataclass(frozen=True)
class NamedFiles:
    """The files that a YAML with `format:` names.

    Attributes:
        path: the YAML, for messages.
        files: those of the whole dataset, by the keys of `Format.files`.
        splits: those of each split, by the keys of `Format.split_files`.
        inside: the folders whose files the dataset may use, those that the YAML names included.
    """

    path: Path
    files: dict[str, Path]
    splits: dict[str, dict[str, Path]]
    inside: Roots

    def require(self, *keys: str, split: str = "") -> tuple[Path, ...]:
        """Return the files of some keys, of the dataset or of a split. Raises UserError where one is missing."""
        given = self.splits[split] if split else self.files
        if lacking := [key for key in keys if key not in given]:
            where = f"{split}: " if split else ""
            raise UserError(f"{self.path}: {where}has no {lacking[0]}:, which this format needs")
        return tuple(given[key] for key in keys)


class Format:
    """A dataset format. Register a subclass in the kind "format"; it is made without arguments.

    Attributes:
        accepts: what `--data` takes of this format, for the message that lists all formats.
        image_level: whether it has only labels of whole images, so that only tasks which do with these try it.
        files: keys of the files that a YAML with `format:` can name; `images` is a folder.
        split_files: keys of those that it can name for each split.
    """

    accepts: ClassVar[str] = ""
    image_level: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ()
    split_files: ClassVar[tuple[str, ...]] = ()

    def splits(self, source: Source) -> Splits:
        """Return the reader of each split of `source`; an empty dictionary if it is not of this format.

        Raises:
            UserError: it is of this format, but cannot be used.
        """
        raise NotImplementedError

    def named(self, source: Source, named: NamedFiles) -> Splits:
        """Return the reader of each split of the files that a YAML names; for formats with `files` or `split_files`.

        Raises:
            UserError: a file that the format needs is not named.
        """
        raise NotImplementedError


def accepted() -> str:
    """Return the end of an error message: what `--data` accepts, from the registered formats."""
    formats = REGISTRIES["format"].values()
    boxes, labels = ("; ".join(f.accepts for f in formats if f.accepts and f.image_level == kind) for kind in (0, 1))
    return f"--data accepts: {boxes}. With --task classify or embed also: {labels}"
