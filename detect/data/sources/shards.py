"""What shards of all kinds have in common: which are of which split, and COCO records from what their samples say.

Boxes are COCO's (x, y, width, height in pixels). Of a sample is read what is there: COCO's keys of image and objects,
or columns of objects (`objects: {bbox, category}`), as Hugging Face's datasets have them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords, EmptyDatasetError
from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import by_split, fold, split_name

_NUMBERED = re.compile(r"^(.*?)[-_.]?(\d+([-_]of[-_]\d+)?)?$")
_NAMES = ("category", "category_name", "label", "class")  # keys under which objects name their class
_BOXES = ("bbox", "box")


class Records:
    """COCO records of samples, as they are read from shard after shard.

    Args:
        path: what is read, for messages.
        root: the folder of the shards, to which file names are relative.
        inside: the folders whose files may be used.
        skip_bad: leave bad records out.
    """

    def __init__(self, path: Path, root: Path, inside: Roots, skip_bad: bool) -> None:
        self.path, self.root, self.inside = path, root, inside
        self.bad = BadRecords(path, skip_bad)
        self.images: list[dict[str, Any]] = []
        self.objects: list[dict[str, Any]] = []
        self.where: list[str] = []
        self.names: dict[Any, str] = {}  # by the id that objects give their class
        self.categories: list[dict[str, Any]] = []  # declared by the shards

    def add(self, file_name: str, content: Any, where: str) -> None:
        """Add an image and its objects; `content` is what its sample says, `where` names it in messages."""
        if isinstance(content, list):
            content = {"annotations": content}
        if not isinstance(content, dict):
            self.bad.reject(where, "has no labels (a json object with annotations)")
            return
        objects = content.get("annotations", content.get("objects"))
        if isinstance(objects, dict):  # columns
            columns = {key: column for key, column in objects.items() if isinstance(column, list)}
            if len({len(column) for column in columns.values()}) > 1:
                self.bad.reject(where, "has columns of objects of different lengths")
                return
            objects = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
            self.bad.reject(where, "has no list of objects ('annotations' or 'objects')")
            return
        number = len(self.images) + 1
        kept = {key: content[key] for key in ("width", "height") if content.get(key)}
        self.images.append({"id": number, "file_name": file_name, **kept})
        for row, one in enumerate(objects):
            box = next((one[key] for key in _BOXES if key in one), None)
            record = {key: value for key, value in one.items() if key not in ("id", *_BOXES)}
            self.objects.append(record | {"image_id": number, "bbox": box, "category_id": self._class(one)})
            self.where.append(f"{where} object {row}")

    def _class(self, one: dict[str, Any]) -> Any:
        """The id of an object's class, or its name where it has no id; names are collected."""
        said = next((one[key] for key in _NAMES if key in one), None)
        number = one.get("category_id", said)
        if isinstance(number, str):
            self.names.setdefault(number, number)
        elif isinstance(number, int):
            self.names.setdefault(number, said if isinstance(said, str) else str(number))
        return number

    def annotations(self) -> Annotations:
        """Return the dataset. Raises UserError as `from_coco`."""
        if not self.images:
            raise EmptyDatasetError(self.path, self.bad.lines)
        categories: Sequence[dict[str, Any]] = self.categories
        if not categories:
            words = sorted(key for key in self.names if isinstance(key, str))
            numbers = {name: i for i, name in enumerate(words)}
            for record in self.objects:
                if isinstance(record["category_id"], str):
                    record["category_id"] = numbers[record["category_id"]]
            named = {key: name for key, name in self.names.items() if isinstance(key, int)}
            named |= {i: name for name, i in numbers.items()} if not named else {}
            categories = [{"id": key, "name": name} for key, name in sorted(named.items())]
        data = {"images": self.images, "annotations": self.objects, "categories": list(categories)}
        return from_coco(data, self.path, self.root, self.bad, self.where, self.inside)


class Shards(Format):
    """A format of numbered files, each of many samples: a subclass says which files, and reads one."""

    suffix: ClassVar[str]

    def read(self, shard: Path, name: str, records: Records) -> None:
        """Add the samples of one file, called `name` in messages and paths. Raises UserError: it cannot be read."""
        raise NotImplementedError

    def splits(self, source: Source) -> Splits:
        """Return the reader of each split."""
        found = shards_of(source, self.suffix)
        for shards in found.values():
            source.inside.require(*shards)
        return {split: partial(self._load, source, shards) for split, shards in found.items()}

    def _load(self, source: Source, shards: list[Path], skip_bad: bool) -> Annotations:
        root = source.path if source.path.is_dir() else source.path.parent
        records = Records(source.path, root, source.inside, skip_bad)
        for shard in shards:
            self.read(shard, shard.relative_to(root).as_posix(), records)
        return records.annotations()


def shards_of(source: Source, suffix: str) -> dict[str, list[Path]]:
    """Return the shards of each split: files `train-000000.tar`, or files in `train/`, also below `data/`; in order.

    Files whose name means no split are the split train where there are no others.
    """
    if source.path.suffix.lower() == suffix and source.path.is_file():
        return {_split_of(source.path) or "train": [source.path]}
    if not source.path.is_dir():
        return {}
    found = defaultdict[str, list[Path]](list)
    for pattern in (f"*{suffix}", f"data/*{suffix}", f"*/*{suffix}"):
        for path in sorted(source.path.glob(pattern)):
            if path.is_file() and not path.name.startswith("."):
                name = _split_of(path) or (path.parent.name if path.parent != source.path else "")
                found[name if split_name(name) in ("train", "val", "test") else ""].append(path)
        if found:
            break
    if set(found) == {""}:
        return {"train": found[""]}
    found.pop("", None)  # files beside those of splits
    return {split: found[name] for split, name in by_split(source.path, found).items()}


def _split_of(path: Path) -> str:
    """The split that the name of a shard means; "" for none."""
    numbered = _NUMBERED.match(path.stem)
    name = numbered[1] if numbered else path.stem
    words = [name, *re.split(r"[-_.]", name)]
    return next((word for word in words if split_name(fold(word)) in ("train", "val", "test")), "")
