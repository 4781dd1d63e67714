"""Where frames come from: images, folders, globs, videos, cameras, streams, arrays, and lists of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from detect.data.image_formats import PAGED, is_image
from detect.data.images import MAX_PIXELS, count_pages, read_header, read_pages
from detect.data.sources.signals import SUFFIXES, unlabelled
from detect.errors import UserError
from detect.inference.arrays import as_rgb
from detect.inference.folder import common_folder, expanded, is_video, name_below
from detect.inference.video import MAX_FRAME_PIXELS, Camera, Video
from detect.inference.video_range import FrameRange, RepeatableVideo, VideoRange
from detect.storage.fetch import ahead
from detect.types import Frame
from detect.utils.atomic_io import TREES

_AHEAD = 32  # images of a store that are fetched ahead


class SourcePart(Protocol):
    """One image, video, camera, or file of signals: its frames, how many there are, and its number in the source."""

    name: str
    number: int
    count: int | None
    rate: Fraction | None

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class SignalPart:
    """A file of signals or volumes, read when it is opened; each is the array (C, ...) of a frame."""

    rate: Fraction | None = None
    number = 0

    def __init__(self, path: Path, name: str) -> None:
        self.name, self.datasets = name, list(unlabelled(path))
        self.count: int | None = sum(map(len, self.datasets))

    def __iter__(self) -> Iterator[Frame]:
        rows = ((dataset, i) for dataset in self.datasets for i in range(len(dataset)))
        for index, (dataset, i) in enumerate(rows):
            yield Frame(dataset.values[i], f"{self.name} {dataset.file_name(i)}", index, part=self.number)

    def close(self) -> None:
        """Do nothing: no file stays open."""


class Source:
    """The frames of one or more parts, one part after the other.

    count: number of frames, None if unknown; kind: "images", "video", "camera", "stream", "signals" or "mixed";
    is_live: whether frames come as they are taken, and each should be predicted before the next one comes; rates:
    frames a second of each video, camera or stream, by name; files: the files read, so that nothing overwrites them;
    unread: with `skip_bad`, a line for each part that cannot be read, by its number; first: the number of the part that
    reading begins with, for a run that is resumed.
    """

    def __init__(
        self, parts: Sequence[SourcePart], kind: str, files: Sequence[Path] = (), skip_bad: bool = False
    ) -> None:
        self.parts, self.kind, self.files, self.skip_bad = parts, kind, files, skip_bad
        self.unread: dict[int, str] = {}
        self.first = 0
        self.is_live = any(isinstance(part, Camera) or getattr(part, "live", False) for part in parts)
        for number, part in enumerate(parts):
            part.number = number
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
        """Frames a second of the only video, camera or stream; None if it is unknown or there are several."""
        return next(iter(self.rates.values())) if len(self.rates) == 1 else None

    def __iter__(self) -> Iterator[Frame]:
        parts = self.parts[self.first :]
        ahead = _fetched_ahead(parts) if any(TREES in str(file) for file in self.files) else parts
        return self._readable(ahead) if self.skip_bad else chain.from_iterable(ahead)

    def _readable(self, parts: Iterable[SourcePart]) -> Iterator[Frame]:
        for part in parts:
            try:
                yield from part
            except UserError as error:
                self.unread[part.number] = str(error)

    @property
    def left_out(self) -> list[str]:
        """The lines of the parts that cannot be read, in the order of the parts."""
        return [self.unread[number] for number in sorted(self.unread)]

    def frame(self, index: int) -> Frame:
        """The frame of a number, counted from 0 over all parts.

        Images before it are not read; frames of a video before it are decoded.

        Raises:
            IndexError: there are fewer frames.
        """
        for part in self.parts:
            if isinstance(part, ImagePart | SignalPart) and part.count is not None and index >= part.count:
                index -= part.count
                continue
            for frame in part:
                if not index:
                    return frame
                index -= 1
        raise IndexError("the source has fewer frames")

    @property
    def hidden(self) -> int:
        """How many images inside the files read so far are not pages, such as previews, and were skipped."""
        return sum(getattr(part, "hidden", 0) for part in self.parts)

    def close(self) -> None:
        for part in self.parts:
            part.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _fetched_ahead(parts: Sequence[SourcePart]) -> Iterator[SourcePart]:
    """Yield the parts; the images of those to come are being fetched from their store."""
    for i, part in enumerate(parts):
        if i % _AHEAD == 0:
            soon = (getattr(one, "image", None) for one in parts[i : i + 2 * _AHEAD])
            ahead(image for image in soon if isinstance(image, Path))
        yield part


class ImagePart:
    """One image: a path that is read when its turn comes, or an array, PIL image or tensor.

    A file with several pages or frames yields each of them. Images of more than `max_pixels` are an error.
    """

    rate: Fraction | None = None
    number = hidden = 0

    def __init__(self, image: Any, name: str, max_pixels: int = MAX_PIXELS) -> None:
        self.image, self.name, self.max_pixels = image, name, max_pixels
        self.count: int | None = 1
        if isinstance(image, Path) and image.suffix.lower() in PAGED:
            self.count = count_pages(image)

    def __iter__(self) -> Iterator[Frame]:
        if not isinstance(self.image, Path):
            yield Frame(as_rgb(self.image, self.name), self.name, part=self.number)
            return
        for page in read_pages(self.image, self.max_pixels):
            self.hidden += page.hidden
            yield Frame(page.image, self.name, page.number, pages=page.pages, part=self.number)

    def close(self) -> None:
        """Do nothing: no file stays open."""


class UnreadablePart(ImagePart):
    """A file that could not be opened, in a source that leaves such files out."""

    def __init__(self, path: Path, name: str, error: UserError) -> None:
        self.image, self.name, self.count, self.error = path, name, 1, error

    def __iter__(self) -> Iterator[Frame]:
        raise self.error


def open_source(
    spec: Any, vid_stride: int = 1, recursive: bool = False, skip_bad: bool = False, max_pixels: int = 0
) -> Source:
    """Open the source of frames that `spec` names. Frames of files are named by their path from the folder they share.

    Args:
        spec: the path of an image, video or folder; a text file that lists such paths, one a line; a glob (`*`, `**`);
            a camera index; the URL of a stream, or of an image, video, folder or pattern in a store; an array (H, W, 3)
            or (H, W) uint8 RGB; a PIL image; a tensor (3, H, W), uint8 or float in 0..1; a file of signals or volumes;
            shards of images (.tar or .parquet); or a list of these. Of a folder, images and videos are taken, or where
            it has none, shards; a warning counts the other files.
        vid_stride: every `vid_stride`-th frame of a video is taken.
        recursive: also take what is in the folders of a folder.
        skip_bad: leave out what cannot be read, and list it in `left_out`.
        max_pixels: most pixels of an image or video frame; 0: MAX_PIXELS, and MAX_FRAME_PIXELS for videos and streams.

    Raises:
        UserError: something cannot be found or read.
    """
    if isinstance(spec, Source):
        return spec
    if vid_stride < 1:
        raise UserError(f"vid-stride is {vid_stride}: take 1 for every frame, 2 for every other one")
    specs = list(spec) if isinstance(spec, list | tuple) else [spec]
    if not specs:
        raise UserError("the source is an empty list: name an image, a folder, a video, a camera or a URL")
    items = [item for one in specs for item in expanded(one, recursive)]
    names = _names([item for item in items if isinstance(item, Path)])
    parts, unreadable = list[SourcePart](), list[UnreadablePart]()
    for i, item in enumerate(items):
        try:
            parts.append(_part(item, names, i, vid_stride, max_pixels))
        except UserError as error:
            if not (skip_bad and isinstance(item, Path)):
                raise
            unreadable.append(UnreadablePart(item, names[item], error))
            parts.append(unreadable[-1])
    if len(unreadable) == len(parts):
        raise UserError(f"nothing can be read; the first: {unreadable[0].error}")
    return Source(parts, _kind(parts), [item for item in items if isinstance(item, Path)], skip_bad)


def open_part(
    path: Path, name: str, vid_stride: int = 1, max_pixels: int = 0, frames: FrameRange | None = None
) -> SourcePart:
    """One file of a source, with the same frames on every machine, or a range of the frames of a video.

    Raises:
        UserError: it cannot be read; arguments as of `open_source`.
    """
    if frames is not None:
        return VideoRange(path, name, frames, vid_stride, max_pixels or MAX_FRAME_PIXELS)
    return _part(path, {path: name}, 0, vid_stride, max_pixels, RepeatableVideo)


def _names(paths: list[Path]) -> dict[Path, str]:
    """The name of each file: its path from the deepest folder that all share."""
    root = common_folder(paths)
    return {path: name_below(path, root) for path in paths}


def _part(
    item: Any, names: dict[Path, str], index: int, stride: int, max_pixels: int, video: type[Video] = Video
) -> SourcePart:
    if isinstance(item, bool | None):
        raise UserError(f"source {item!r}: name an image, a folder, a video, a camera or a URL")
    if isinstance(item, int):
        return Camera(item, stride)
    if isinstance(item, str):
        where = urlsplit(item)  # without user and password: names are written into results
        name = f"{where.hostname or 'stream'}{where.path}".strip("/")
        return Video(item, name, stride, live=True, max_pixels=max_pixels or MAX_FRAME_PIXELS)
    if not isinstance(item, Path):
        return ImagePart(item, f"image-{index}")
    if item.suffix.lower() in SUFFIXES:
        return SignalPart(item, names[item])
    if _is_image(item):
        return ImagePart(item, names[item], max_pixels or MAX_PIXELS)
    return video(item, names[item], stride, max_pixels=max_pixels or MAX_FRAME_PIXELS)


def _is_image(path: Path) -> bool:
    """By the name of the file, or by its content if the name does not tell."""
    if is_image(path) or is_video(path):
        return is_image(path)
    try:
        read_header(path)
    except UserError:
        return False
    return True


def _kind(parts: Sequence[SourcePart]) -> str:
    kinds = {_kind_of(part) for part in parts if not isinstance(part, UnreadablePart)}
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _kind_of(part: SourcePart) -> str:
    if isinstance(part, Video):
        return "stream" if part.live else "video"
    if isinstance(part, SignalPart):
        return "signals"
    return "camera" if isinstance(part, Camera) else "images"
