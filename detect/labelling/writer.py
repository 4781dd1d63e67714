"""Writes labels as a dataset, or as files that a labelling program imports: `write_dataset`.

    from detect.labelling.labels import Labels
    from detect.labelling.writer import write_dataset

    lines = write_dataset({"train": Labels(annotations, scores=scores, review=doubtful)}, "out", "cvat")

A format is a `LabelFormat`, registered in the kind "labels". Formats from outside are legal like the built-in ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, Self

from detect.data.annotations import Annotations, encode_names
from detect.data.categories import with_same_classes
from detect.data.sources.base import being_written
from detect.errors import UserError
from detect.labelling.labels import REVIEW, Labels
from detect.registry import REGISTRIES
from detect.utils.atomic_io import STORED, read_bytes, replace_file
from detect.utils.locks import LOCK, locked_folder
from detect.utils.names import counted

Images = Literal["auto", "refer", "link", "copy"]


class LabelFormat:
    """A format of labels. Register a subclass in the kind "labels"; it is made without arguments.

    Attributes:
        beside: whether programs look for images in a folder beside the labels, so that they must be linked or copied.
        scores: whether the user asked for scores where a format has them only on request.
    """

    beside: ClassVar[bool] = False
    scores: bool = False

    def image_folder(self, split: str) -> str:
        """The folder, relative to that of the dataset, of images that are linked, copied or written."""
        return f"images/{split}"

    def write(self, sets: Mapping[str, Labels], out: Path) -> list[str]:
        """Write the labels of each split into the folder `out`.

        The images lie in `annotations.root` of each, which is inside `out` where they are linked or copied. All sizes
        are known.

        Returns:
            Lines that tell the user how to go on.

        Raises:
            UserError: the format cannot express the labels, or a file cannot be written.
        """
        raise NotImplementedError


def write_dataset(
    sets: Mapping[str, Labels],
    out: str | Path,
    form: str = "coco",
    *,
    images: Images = "auto",
    scores: bool = False,
) -> list[str]:
    """Write labels in a format, with the list review.txt of the images that a person should look at.

    Args:
        sets: the labels of each split, by its name, such as {"train": labels}. Classes are matched by name. Every image
            is written, with no objects as well.
        out: the folder, which must not exist or be empty.
        form: coco, yolo, voc, cvat, label-studio, labelme, or another registered format.
        images: "refer" to the images where they are, "link" (a hard link, else a symbolic one) or "copy" them into the
            folder; "auto" refers where the format can, and links otherwise.
        scores: write scores where the format has them only on request: the sixth column of YOLO.

    Returns:
        Lines that tell the user how to go on.

    Raises:
        UserError: the folder holds something, the format cannot express the labels, or an image or file cannot be read
            or written.
    """
    with DatasetFolder(out, form) as folder:
        return folder.write(sets, images, scores)


class DatasetFolder:
    """The folder of a new dataset: locked, and empty at first. It is a context manager.

    Until it is left without an error no reader takes it: see `being_written`.

    Args:
        out: the folder; it is created.
        form: the name of a registered format.

    Raises:
        UserError: the folder holds something or is in use, or there is no such format.
    """

    def __init__(self, out: str | Path, form: str) -> None:
        self.out, self.format = Path(out), REGISTRIES["labels"][form]()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self.out.is_dir() and any(entry.name != LOCK for entry in os.scandir(self.out)):
            raise UserError(f"{self.out} holds something already: remove it, or choose another --out")
        self._stack.enter_context(locked_folder(self.out))
        self._stack.enter_context(being_written(self.out, {LOCK}))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def images(self, split: str) -> Path:
        """The folder for images of a split that have no file of their own, such as frames of a video."""
        return self.out / str(self.format.image_folder(split))

    def placement(self, images: Images) -> str:
        """How images get into the dataset: "refer", "link" or "copy".

        Args:
            images: that, or "auto" for what suits the format.

        Raises:
            UserError: the format needs images beside the labels.
        """
        if images == "refer" and self.format.beside:
            raise UserError("this format keeps labels beside the images: give --images link or --images copy")
        return ("link" if self.format.beside else "refer") if images == "auto" else images

    def write(self, sets: Mapping[str, Labels], images: Images = "auto", scores: bool = False) -> list[str]:
        """Write the labels, see `write_dataset`. Images that lie in `images(split)` already stay there."""
        self.format.scores = scores
        how = self.placement(images)
        films = {split: labels for split, labels in sets.items() if how != "refer" and shares_files(labels.annotations)}
        sets = {split: labels for split, labels in sets.items() if split not in films}
        if not sets:
            raise UserError(f"{self.out}: several images share a file, as frames of a video do: give --images refer")
        classes = with_same_classes({split: labels.annotations for split, labels in sets.items()})
        same = {split: replace(labels, annotations=classes[split]) for split, labels in sets.items()}
        placed = {split: self._placed(labels.with_sizes(), split, how) for split, labels in same.items()}
        lines: list[str] = self.format.write(placed, self.out)
        lines += [
            f"{split} is left out: several of its images share a file, as frames of a video do" for split in films
        ]
        review = [name for labels in placed.values() for name in _to_review(labels, self.out)]
        if review:
            path = self.out / f"{REVIEW}.txt"  # a list that --source takes
            replace_file(path, lambda part: part.write_bytes(os.fsencode("".join(f"{one}\n" for one in review))), False)
            lines.append(f"{counted(len(review), 'image')} to look at: listed in {path}")
        return lines

    def _placed(self, labels: Labels, split: str, how: str) -> Labels:
        """The labels with their images where the format needs them."""
        data, folder = labels.annotations, self.images(split)
        if how == "refer" or Path(data.root).resolve() == folder.resolve():
            return labels
        names = [data.file_name(i) for i in range(len(data))]
        renamed = distinct_stems(names) if self.format.beside else names
        for i, name in enumerate(renamed):
            place(data.image_path(i), folder / name, how)
        return replace(labels, annotations=_renamed(data, folder, renamed))


def shares_files(data: Annotations) -> bool:
    """Whether several images are in one file, as frames of a video are: none can be linked or copied alone."""
    return len({data.file_name(i) for i in range(len(data))}) < len(data)


def _to_review(labels: Labels, out: Path) -> Iterable[str]:
    """The paths of the images to look at, relative to the folder where they are inside."""
    data, here = labels.annotations, os.path.abspath(out)
    for i in labels.to_review.nonzero()[0].tolist():
        path = os.path.abspath(data.image_path(i))
        yield os.path.relpath(path, here) if Path(path).is_relative_to(here) else path


def distinct_stems(names: Sequence[str]) -> list[str]:
    """Names of images that differ without their suffixes, too: of a.jpg and a.png the second becomes a.png.png.

    Programs that keep the labels of an image in a file of its stem would confuse the two.
    """
    taken, found = set[str](), list[str]()
    for name in names:
        stem, suffix = os.path.splitext(name)
        while stem.casefold() in taken:
            stem += suffix or "_"
        taken.add(stem.casefold())
        found.append(stem + suffix)
    return found


def _renamed(data: Annotations, root: Path, names: list[str]) -> Annotations:
    letters, starts = encode_names(names)
    return replace(data, root=root, name_bytes=letters, name_starts=starts)


def place(source: Path, target: Path, how: str) -> None:
    """Link or copy an image file."""
    stored = STORED.search(str(source)) is not None  # of an object store, or in a shard
    if not (source.is_file() or stored):
        raise UserError(f"{source}: there is no such image")
    if how == "copy" or stored:
        replace_file(target, lambda part: part.write_bytes(read_bytes(source)), durable=False)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or files of another user
            os.symlink(os.path.abspath(source), target)
    except OSError as error:
        raise UserError(f"{target} cannot be linked to its image: {error.strerror}; give --images copy") from None
