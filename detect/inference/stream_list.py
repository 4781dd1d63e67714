"""Which streams `--source` names: several addresses, or a YAML file of names with addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from detect.config.constraints import from_values
from detect.config.fill import nested
from detect.config.streams import StreamConfig
from detect.errors import UserError, unknown
from detect.inference.folder import expanded
from detect.inference.source import Source, open_source
from detect.inference.streams import StreamReader
from detect.utils.yaml_files import read_yaml

_NAME = re.compile(r'[^\s<>:"/|?*\\\x00-\x1f.][^<>:"/|?*\\\x00-\x1f]{0,99}')
_EXAMPLE = "lines such as 'door: rtsp://10.0.0.7/live'"


def is_stream_file(sources: Sequence[str]) -> bool:
    """Whether the only source is a YAML file, which names streams."""
    return len(sources) == 1 and Path(sources[0]).suffix.lower() in (".yaml", ".yml")


def read_streams(path: str | Path) -> dict[str, StreamConfig]:
    """The streams that a YAML file names: each with its address, or with `source` and other options.

    Raises:
        UserError: it cannot be read, names nothing, or has a name or option that cannot be used.
    """
    values = read_yaml(path)
    if not isinstance(values, dict) or not values:
        raise UserError(f"{path}: it names no streams, which are {_EXAMPLE}")
    return named_streams(values, str(path), Path(path).parent)


def named_streams(values: Mapping[Any, Any], where: str, folder: Path | None = None) -> dict[str, StreamConfig]:
    """The streams of a mapping from names to addresses, or to mappings with `source` and other options.

    Args:
        values: the mapping.
        where: what messages call it.
        folder: what files are relative to.

    Raises:
        UserError: a name, option or value cannot be used.
    """
    known, found = [f.name for f in fields(StreamConfig)], dict[str, StreamConfig]()
    for key, value in values.items():
        name = str(key)
        if not _NAME.fullmatch(name) or name[-1] in ". ":
            raise UserError(f"{where}: {name!r:.60} cannot be the name of a stream, which is that of its folder, too")
        if name.casefold() in map(str.casefold, found):
            raise UserError(f"{where}: {name} is there twice but for the case of letters: names are those of folders")
        entry = value if isinstance(value, Mapping) else {"source": value}
        if extra := [one for one in entry if one not in known]:
            raise unknown(f"option of stream {name} in {where}", str(extra[0]), known)
        entry = dict(entry)
        if isinstance(entry.get("source"), int) and not isinstance(entry["source"], bool):
            entry["source"] = str(entry["source"])
        config = from_values(StreamConfig, nested(StreamConfig, entry, f"{where}: {name}."), f"{where}: {name}.")
        found[name] = replace(config, source=_relative(config.source, folder))
    return found


def _relative(source: str, folder: Path | None) -> str:
    """The path from where the command runs, of a file that is relative to a folder; other addresses as they are."""
    if folder is None or "://" in source or source.isdecimal():
        return source
    return os.path.join(folder, os.path.expanduser(source))


def streams_of(sources: Sequence[str]) -> dict[str, StreamConfig]:
    """Streams of several addresses, named after their files, cameras and hosts, and numbered where names are equal.

    Raises:
        UserError: one is there twice.
    """
    found = dict[str, StreamConfig]()
    for source in sources:
        if any(one.source == source for one in found.values()):
            raise UserError(f"--source names {_shown(source)} twice: leave one out")
        stem = re.sub(r'[<>:"/|?*\\\x00-\x1f\s]+', "-", _stem(source))[:90].strip("-. ") or "stream"
        name, number = stem, 1
        while name.casefold() in map(str.casefold, found):
            number += 1
            name = f"{stem}-{number}"
        found[name] = StreamConfig(source)
    return found


def _stem(source: str) -> str:
    if "://" in source:
        return _shown(source)
    return f"camera-{source}" if source.isdecimal() and not os.path.exists(source) else PurePosixPath(Path(source)).stem


def _shown(source: str) -> str:
    """An address as messages and results have it: a URL without user, password and query."""
    where = urlsplit(source)
    return f"{where.hostname or 'stream'}{where.path}".strip("/") if "://" in source else source


def reader_of(
    name: str,
    stream: StreamConfig,
    policy: str = "auto",
    retries: int = 0,
    vid_stride: int = 1,
    max_pixels: int = 0,
) -> StreamReader:
    """The reader of a stream. Files are opened, to see whether they can be read; cameras and streams are not yet.

    Args:
        name: the stream's name.
        stream: where it is, and its own options.
        policy: auto, latest or every, where the stream has none of its own. auto: latest for cameras and streams.
        retries: attempts in a row to open it again; 0: without end.
        vid_stride: every `vid_stride`-th frame is taken.
        max_pixels: most pixels of a frame; 0: the default.

    Raises:
        UserError: it is no video, camera or stream, or a file that cannot be read.
    """
    try:
        items = expanded(stream.source, recursive=False)
        opened: Source | None = None
        if any(isinstance(item, Path) for item in items):
            opened = open_source(items, vid_stride, max_pixels=max_pixels)
    except UserError as error:
        raise UserError(f"stream {name}: {error}") from None
    if opened and (opened.kind != "video" or len(opened.parts) > 1):
        what = "a folder, or a list, of several files" if len(opened.parts) > 1 else "no video"
        raise UserError(
            f"stream {name}: {_shown(stream.source)} is {what}: several sources are one video, camera or URL each; "
            "predict others in a run of their own"
        )
    chosen = policy if stream.policy == "auto" else stream.policy
    latest = not opened if chosen == "auto" else chosen == "latest"
    again = partial(open_source, items[0], vid_stride, max_pixels=max_pixels)
    return StreamReader(name, again, opened, latest, retries)
