"""The published weights that have a name: what they are, how good, from where, and under which licence.

The entries are in `configs/weights.yaml`. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from detect.config import CONFIGS
from detect.utils.yaml_files import read_yaml


@dataclass(frozen=True)
class Source:
    """A place that has a file.

    Attributes:
        url: its address.
        sha256: SHA-256 of the file there, in hexadecimal, or its first digits where only these are published; "": not
            known.
        bytes: length of the file there; 0: not known.
    """

    url: str
    sha256: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class RemoteFile:
    """A file of published weights: its name in the cache, and the places that have it, tried in turn."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Published:
    """Published weights.

    Attributes:
        name: the name, as `--weights` takes it.
        task: the task, such as "detect".
        model: the model or backbone of gridhead that they are for.
        classes: number of classes.
        parameters: number of parameters, in millions.
        imgsz: image size in pixels.
        score: what the publisher measured, in percent: AP or AP50 on COCO val2017, of boxes or of masks, or top-1
            accuracy on ImageNet's validation set.
        metric: "AP", "AP50", "mask AP" or "top-1".
        licence: SPDX identifier, or the name of the licence.
        publisher: who trained and released them.
        page: the publisher's page that has these figures.
        files: the files; the first one is opened.
        megabytes: size of the download in 10^6 bytes, where the exact length is not known; 0: not known either.
    """

    name: str
    task: str
    model: str
    classes: int
    parameters: float
    imgsz: int
    score: float
    metric: str
    licence: str
    publisher: str
    page: str
    files: tuple[RemoteFile, ...]
    megabytes: float = 0.0

    @property
    def size(self) -> float:
        """Size of the download in 10^6 bytes; 0: not known."""
        return sum(file.sources[0].bytes for file in self.files) / 1e6 or self.megabytes

    @property
    def limit(self) -> int:
        """The most bytes that a file may have: checkpoints hold up to three numbers of four bytes a parameter."""
        return int(self.parameters * 12e6) + 2**22


@cache
def catalogue() -> dict[str, Published]:
    """All published weights by name, in the order of `configs/weights.yaml`."""
    found = dict[str, Published]()
    for group in read_yaml(CONFIGS / "weights.yaml"):
        folder, weights = group.pop("folder"), group.pop("weights")
        for name, own in weights.items():
            files = tuple(_file(folder, **file) for file in own.pop("files"))
            found[name] = Published(name=name, files=files, **{"model": name, **group, **own})
    return found


def _file(
    folder: str, name: str, sha256: str = "", bytes: int = 0, copies: Sequence[dict[str, Any]] = ()
) -> RemoteFile:
    first = Source(f"{folder}/{name}", sha256, bytes)
    return RemoteFile(name, (first, *(Source(**copy) for copy in copies)))
