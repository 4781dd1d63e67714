"""From what a source names to its images and videos: folders, patterns, lists, shards; tells what is skipped."""

from __future__ import annotations

import glob
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from detect.data.image_formats import is_image
from detect.errors import UserError
from detect.inference.skipped import FOLDERS, Skipped, reason_by_name
from detect.storage.resolve import as_local, local
from detect.storage.shards import MEMBER, is_shard, member_of
from detect.storage.urls import is_url, is_web
from detect.utils.atomic_io import require_file
from detect.utils.names import shown
from detect.utils.text_files import text_lines

VIDEOS = frozenset(".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv .mjpeg".split())  # noqa: SIM905
_STREAM = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|srt|mms)://", re.IGNORECASE)
_log = logging.getLogger("detect")


class Collect(Protocol):
    """Keeps paths as they come, in memory or elsewhere; where `sort` says so in natural order, each once."""

    def __call__(self, paths: Iterable[Path], sort: bool) -> Any: ...


def in_memory(paths: Iterable[Path], sort: bool) -> list[Path]:
    """The paths as a list: see `Collect`."""
    return sorted(set(paths), key=natural) if sort else list(paths)


def files_of(
    spec: str,
    recursive: bool = False,
    collect: Collect = in_memory,
    skip: Callable[[str, str], object] | None = None,
) -> Any:
    """The images and videos that a source names, as `open_source` takes them; none is opened.

    Args:
        spec: a path, folder, glob, text file of paths, shards, or a URL in a store.
        recursive: also take what is in the folders of a folder.
        collect: keeps the paths; what it returns is returned.
        skip: takes the path and the reason of whatever else is there, which a warning counts.

    Raises:
        UserError: there is none, or `spec` names a camera or a stream.
    """
    if is_web(spec) and is_video(Path(urlsplit(spec).path)):  # a file, which is fetched before it is played
        return collect([local(spec, anew=True)], sort=False)
    found = expanded(spec, recursive, collect, skip)
    if not isinstance(first := next(iter(found)), Path):
        raise UserError(f"source {first!r} is a camera or a stream, which has no end: detect predict reads it")
    return found


def expanded(
    spec: Any, recursive: bool, collect: Collect = in_memory, skip: Callable[[str, str], object] | None = None
) -> Any:
    """The items of one entry: paths of files, a camera index, a URL, or the image itself. Raises UserError for none."""
    if not isinstance(spec, str | os.PathLike):
        return [spec]
    text = os.fspath(spec)
    if _STREAM.match(text) and not _is_file_of_web(text):
        return [text]
    path, skipped = local(text, anew=True), Skipped(skip)
    try:
        if path.is_file() or member_of(str(path)):
            return _within(path, collect, skipped)
        if path.is_dir():
            return _among(lambda: walk(path) if recursive else entries(path), f"folder {text}", collect, skipped)
    except OSError as error:  # no permission, or a name longer than the system takes
        raise UserError(f"source {str(error.filename or text)!r}: {error.strerror}") from None
    if text.isdecimal():
        return [int(text)]
    if glob.has_magic(text):
        return _among(lambda: _matched(path), f"pattern {text}", collect, skipped)
    if os.path.exists(path):
        require_file(path)
    raise UserError(f"source {text!r}: no such file or folder")


def _matched(pattern: Path) -> Iterator[Path]:
    """What a pattern matches: without the folders, where it also names what is in them."""
    deep = "**" in pattern.parts
    return (one for one in map(Path, glob.iglob(str(pattern), recursive=True)) if not (deep and one.is_dir()))


def _within(path: Path, collect: Collect, skipped: Skipped) -> Any:
    """The files that a list names, the images and videos of a shard, or the file itself."""
    if is_list(path, _is_taken):
        return collect(listed(path, _is_taken), sort=False)
    if not is_shard(path):
        return collect([path], sort=False)
    return _told(collect(_files_in([path], skipped), sort=False), str(path), skipped)


def _among(paths: Callable[[], Iterable[Path]], what: str, collect: Collect, skipped: Skipped) -> Any:
    """The images and videos among paths; where there are none, those in shards. A warning counts all others."""
    if any(map(_is_taken, paths())) or not any(map(is_shard, paths())):
        return _told(collect(_usable(paths(), _is_taken, skipped), sort=True), what, skipped)
    shards = in_memory(_usable(paths(), is_shard, skipped), sort=True)
    return _told(collect(_files_in(shards, skipped), sort=False), what, skipped)


def _told(found: Any, what: str, skipped: Skipped) -> Any:
    """What was found, after a warning that counts the rest. Raises UserError where nothing was found."""
    if not found:
        raise UserError(f"{what}: no image or video in it, but {skipped}")
    if skipped.counts:
        _log.warning("%s", shown(f"{what}: skipped {skipped}"))
    return found


def _files_in(shards: Iterable[Path], skipped: Skipped) -> Iterator[Path]:
    """The images and videos of shards, as paths into them, in their order."""
    from detect.data.sources import parquet, webdataset  # late: they bring all that reads labels

    for shard in shards:
        if shard.suffix.lower() == ".tar":
            found = webdataset.places(shard, _is_taken, _ignored(shard, skipped, reason_by_name))
        else:
            found = parquet.places(shard, _ignored(shard, skipped, lambda _: "columns of Parquet files"))
        yield from (shard / place for place in found)


def _ignored(shard: Path, skipped: Skipped, reason_of: Callable[[PurePath], str]) -> Callable[[str, str], None]:
    """Counts what a shard holds and is not read: its name, and the reason where that is not `reason_of` the name."""
    return lambda name, reason: skipped.add(f"{shard}/{name}", reason or reason_of(PurePath(name)))


def _is_file_of_web(url: str) -> bool:
    """Whether a URL is that of images: of one by its suffix, or of a folder. Videos are played while they come."""
    path = url.partition("?")[0]
    return is_web(url) and (path.endswith("/") or is_image(Path(path)))


def _is_taken(path: PurePath) -> bool:
    return is_image(path) or is_video(path)


def common_folder(paths: Iterable[Path]) -> str:
    """The deepest folder that all files share; "" without any, and on several drives. A shard is a file."""
    root, last = "", ""
    for path in paths:
        folder = os.path.abspath(_folder(path))
        if folder == last:
            continue
        try:
            root = os.path.commonpath([root, folder]) if last else folder
        except ValueError:
            return ""
        last = folder
    return root


def name_below(path: Path, root: str) -> str:
    """The path of a file from a folder on, with forward slashes; its name alone for no folder."""
    return Path(os.path.relpath(os.path.abspath(path), root)).as_posix() if root else path.name


def _folder(path: Path) -> Path:
    return Path(found[1]).parent if (found := MEMBER.match(str(path))) else path.parent


def natural(path: Path | str) -> list[tuple[int, str]]:
    """The key of natural order: frame 9 comes before frame 10. Of equal numbers (9, 09) letters decide."""
    text = str(path)
    return [*((int(s), "") if s.isdecimal() else (-1, s) for s in re.split(r"(\d+)", text)), (-1, text)]


def entries(folder: Path) -> Iterator[Path]:
    """The paths in a folder, one after the other: there may be millions."""
    with os.scandir(folder) as found:
        for entry in found:
            yield folder / entry.name


def walk(folder: Path) -> Iterator[Path]:
    """All paths below a folder. Links to folders are followed, but no folder twice; hidden folders are skipped."""
    seen = {_identity(folder)}
    waiting = [folder]
    while waiting:
        inner = list[Path]()
        for path in entries(waiting.pop()):
            if path.is_dir() and not path.name.startswith("."):
                inner.append(path)
            else:
                yield path
        for path in sorted(inner, key=lambda one: (one.is_symlink(), one)):
            if (identity := _identity(path)) not in seen:
                seen.add(identity)
                waiting.append(path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _usable(paths: Iterable[Path], taken: Callable[[Path], bool], skipped: Skipped) -> Iterator[Path]:
    """The paths of files that `taken` accepts."""
    for path in paths:
        if reason := _reason(path, taken):
            skipped.add(path, reason)
        else:
            yield path


def is_list(path: Path, taken: Callable[[Path], bool]) -> bool:
    """Whether a file is a list: text whose first line that is not blank has the name of an image or video."""
    if path.suffix.lower() != ".txt":
        return False
    first = next((line for line in text_lines(path, "replace") if line.strip()), "").strip()
    return taken(Path(urlsplit(first).path if is_url(first) else first))


def listed(path: Path, taken: Callable[[Path], bool]) -> Iterator[Path]:
    """The images and videos that a text file lists, one a line: URLs, or paths relative to its folder.

    Args:
        path: the file.
        taken: whether a path is an image or a video, by its name.

    Raises:
        UserError: a file of the list is missing, or has another type; the line is named. Stores are not asked.
    """
    for number, line in enumerate(text_lines(path, errors="surrogateescape"), 1):
        if not (name := line.strip()):
            continue
        if is_url(name):
            yield _remote(name, f"{path}:{number}", taken)
            continue
        one = path.parent / Path(name).expanduser()
        if not (taken(one) and one.is_file()):
            what = "is no file" if taken(one) else "is not named as an image or video"
            raise UserError(f"{path}:{number}: {name!r} {what}; paths are relative to the list's folder")
        yield one


def _remote(url: str, where: str, taken: Callable[[Path], bool]) -> Path:
    """The path that stands for a URL of a list."""
    if urlsplit(url).query:
        raise UserError(f"{where}: URLs with a query (?…) are not read from lists: they may expire")
    if not taken(Path(unquote(urlsplit(url).path))):
        raise UserError(f"{where}: {url!r} is not named as an image or video")
    return Path(as_local(url))


def _reason(path: Path, taken: Callable[[Path], bool]) -> str:
    """Why a path is skipped, in the plural; "" if it is not. The system is asked once: there may be millions."""
    if path.name.startswith("."):
        return "hidden"
    try:
        mode = path.stat().st_mode
    except OSError:
        return "broken links"
    if stat.S_ISDIR(mode):
        return FOLDERS
    if not stat.S_ISREG(mode):
        return "that are not files"
    return "" if taken(path) else reason_by_name(path)


def is_video(path: PurePath) -> bool:
    return path.suffix.lower() in VIDEOS and not path.name.startswith(".")
