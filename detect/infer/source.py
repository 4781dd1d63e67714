"""Where frames come from: images, folders, globs, videos, cameras, streams, arrays, and lists of these."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image, ImageOps

from detect.data.images import is_image, read_header, read_image
from detect.data.signal_files import SUFFIXES, unlabelled
from detect.errors import UserError
from detect.infer.video import Camera, Video
from detect.types import Frame

VIDEOS = frozenset(".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv .mjpeg".split())  # noqa: SIM905
_STREAM = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|srt|mms)://", re.IGNORECASE)


class Part(Protocol):
    """One still image, video or camera."""

    name: str
    count: int | None
    rate: Fraction | None

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class Records:
    """A file of signals or volumes, read when it is opened: a frame each, of numbers (C, ...)."""

    rate: Fraction | None = None

    def __init__(self, path: Path, name: str) -> None:
        self.name, self.stores = name, list(unlabelled(path))
        self.count: int | None = sum(map(len, self.stores))

    def __iter__(self) -> Iterator[Frame]:
        rows = ((store, i) for store in self.stores for i in range(len(store)))
        for index, (store, i) in enumerate(rows):
            yield Frame(store.values[i], f"{self.name} {store.file_name(i)}", index)

    def close(self) -> None:
        """Nothing is held open."""


class Source:
    """Frames of one or more parts, one after the other.

    count: frames in all, None where unknown; kind: "images", "video", "camera", "stream", "records", or "mixed";
    is_live: whether frames come as they are taken, so that each should be answered before the next one is there;
    rates: frames a second of each moving part, by name; files: the files read, so that nothing writes over them.
    """

    def __init__(self, parts: Sequence[Part], kind: str, files: Sequence[Path] = ()) -> None:
        self.parts, self.kind, self.files = parts, kind, files
        self.is_live = any(isinstance(part, Camera) or getattr(part, "live", False) for part in parts)
        counts = [part.count for part in parts]
        self.count = None if None in counts else sum(c for c in counts if c is not None)
        self.rates = {part.name: part.rate for part in parts if part.rate}

    @property
    def is_video(self) -> bool:
        return self.kind in ("video", "camera", "stream")

    def __length_hint__(self) -> int:
        return NotImplemented if self.count is None else self.count

    @property
    def fps(self) -> Fraction | None:
        """Frames a second of the only video, camera or stream; None where it is unknown or there are several."""
        return next(iter(self.rates.values())) if len(self.rates) == 1 else None

    def __iter__(self) -> Iterator[Frame]:
        for part in self.parts:
            yield from part

    def close(self) -> None:
        for part in self.parts:
            part.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Still:
    """One image: a path that is read when its turn comes, or an array, PIL image or tensor already there."""

    count: int | None = 1
    rate: Fraction | None = None

    def __init__(self, image: Any, name: str) -> None:
        self.image, self.name = image, name

    def __iter__(self) -> Iterator[Frame]:
        image = read_image(self.image) if isinstance(self.image, Path) else as_rgb(self.image, self.name)
        yield Frame(image, self.name)

    def close(self) -> None:
        """Nothing is held open."""


def open_source(spec: Any, vid_stride: int = 1) -> Source:
    """The frames that `spec` names.

    spec: the path of an image, video or folder; a glob (`*`, `**`); a camera index; the URL of a stream; an array
    (H, W, 3) or (H, W) uint8 RGB; a PIL image; a tensor (3, H, W), uint8 or float 0..1; a file of signals or volumes
    (see `signal_files`); or a list of these.
    Of a video every `vid_stride`-th frame is taken. Frames of files are named by their path from the folder they share.
    Raises UserError for what cannot be found or read.
    """
    if isinstance(spec, Source):
        return spec
    if vid_stride < 1:
        raise UserError(f"vid-stride is {vid_stride}: take 1 for every frame, 2 for every other one")
    specs = list(spec) if isinstance(spec, list | tuple) else [spec]
    if not specs:
        raise UserError("the source is an empty list: name an image, a folder, a video, a camera or a URL")
    found = [item for one in specs for item in _expand(one)]
    names = _names([item for item in found if isinstance(item, Path)])
    parts = [_part(item, names, i, vid_stride) for i, item in enumerate(found)]
    return Source(parts, _kind(parts), [item for item in found if isinstance(item, Path)])


def _expand(spec: Any) -> list[Any]:
    """What one entry stands for: paths of files, a camera index, a URL, or the image itself."""
    if not isinstance(spec, str | os.PathLike):
        return [spec]
    text = os.fspath(spec)
    path = Path(text).expanduser()
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            return _usable(path.iterdir(), f"folder {text}")
    except OSError as error:  # no permission, or a name longer than the system takes
        raise UserError(f"source {text!r}: {error.strerror}") from None
    if text.isdecimal():
        return [int(text)]
    if _STREAM.match(text):
        return [text]
    if glob.has_magic(text):
        return _usable(map(Path, glob.iglob(str(path), recursive=True)), f"pattern {text}")
    raise UserError(f"source {text!r}: no such file or folder")


def _usable(paths: Any, what: str) -> list[Path]:
    """The images and videos among the paths, in natural order: frame 9 before frame 10."""
    every = list(paths)
    seen = [p for p in every if p.is_file()]
    kept = [p for p in seen if is_image(p) or _is_video(p)]
    if not kept:
        folders = any(p.is_dir() for p in every)
        hint = "; for those in its folders put /**/* after its name, quoted" if folders else ""
        raise UserError(f"{what}: no image or video among its {len(seen)} files{hint}")
    return sorted(kept, key=lambda p: [(int(s), "") if s.isdecimal() else (-1, s) for s in re.split(r"(\d+)", str(p))])


def _names(paths: list[Path]) -> dict[Path, str]:
    """Each file's path from the deepest folder that they share, with forward slashes."""
    try:
        root = os.path.commonpath([os.path.abspath(p.parent) for p in paths])
    except ValueError:  # none, or on several drives
        return {p: p.name for p in paths}
    return {p: Path(os.path.relpath(os.path.abspath(p), root)).as_posix() for p in paths}


def _part(item: Any, names: dict[Path, str], index: int, stride: int) -> Part:
    if isinstance(item, bool | None):
        raise UserError(f"source {item!r}: name an image, a folder, a video, a camera or a URL")
    if isinstance(item, int):
        return Camera(item, stride)
    if isinstance(item, str):
        where = urlsplit(item)  # without user and password: names are written into results
        return Video(item, f"{where.hostname or 'stream'}{where.path}".strip("/"), stride, live=True)
    if not isinstance(item, Path):
        return Still(item, f"image-{index}")
    if item.suffix.lower() in SUFFIXES:
        return Records(item, names[item])
    return Still(item, names[item]) if _is_still(item) else Video(item, names[item], stride)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and not path.name.startswith(".")


def _is_still(path: Path) -> bool:
    """By the name, or by the content where the name says nothing."""
    if is_image(path) or _is_video(path):
        return is_image(path)
    try:
        read_header(path)
    except UserError:
        return False
    return True


def _kind(parts: Sequence[Part]) -> str:
    kinds = {_kind_of(part) for part in parts}
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _kind_of(part: Part) -> str:
    if isinstance(part, Video):
        return "stream" if part.live else "video"
    if isinstance(part, Records):
        return "records"
    return "camera" if isinstance(part, Camera) else "images"


def as_rgb(image: Any, name: str = "image") -> np.ndarray:
    """An array, PIL image or tensor as (H, W, 3) uint8 RGB. Raises UserError for any other form."""
    if isinstance(image, Image.Image):
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    form = f"{type(image).__name__} {tuple(getattr(image, 'shape', ()))} {getattr(image, 'dtype', '')}".strip()
    wanted = "give (H, W, 3) uint8 RGB, a PIL image, or a tensor (3, H, W) uint8 or float 0..1"
    if isinstance(image, torch.Tensor) and image.ndim == 3 and image.shape[0] == 3:
        values = image.detach().cpu()
        if values.is_floating_point() and values.numel() and 0 <= float(values.min()) <= float(values.max()) <= 1:
            values = (values * 255).round().to(torch.uint8)
        image = values.permute(1, 2, 0).numpy() if values.dtype == torch.uint8 else None
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        if image.ndim == 2:
            return np.repeat(image[:, :, None], 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 3:
            return np.ascontiguousarray(image)
    raise UserError(f"{name}: {form} is no picture: {wanted}")
