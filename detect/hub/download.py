"""Downloads published weights into the cache: resumed after a cut, bounded, checked, and put in place as a whole."""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from detect.errors import UserError
from detect.hub.cache import folder, is_page, require_intact
from detect.hub.catalogue import Published, RemoteFile, Source
from detect.utils.atomic_io import replace_text
from detect.utils.interrupt import interruptible
from detect.utils.locks import locked_in_turn
from detect.utils.names import say
from detect.utils.progress import track

_PATIENCE = 20.0  # seconds without a byte
_CUTS = 5  # times that a connection may break at one address
_PIECE = 2**16
_MB = 10**6
_UNSATISFIABLE = 416
_PAGE = "a web page came in place of the file: a login, or an error"


class _FailedError(Exception):
    """One source cannot give the file; the next one is tried."""


def download(published: Published) -> None:
    """Put the files of published weights into the cache. A second process that wants the same waits for the first.

    Raises:
        UserError: no source has the file, or the disk is full.
        KeyboardInterrupt: what came stays, and the next call continues from there.
    """
    for file in published.files:
        target = folder() / file.name
        with interruptible(), locked_in_turn(target):
            if not target.is_file():
                _fetch(published, file, target)


def _fetch(published: Published, file: RemoteFile, target: Path) -> None:
    """Try the sources of a file in turn."""
    reasons = list[str]()
    for source in file.sources:
        part = target.with_name(f"{target.name}.part")
        try:
            _complete(source, part, published)
            _require_published(part, file, source)
        except _FailedError as error:
            reasons.append(f"{urlsplit(source.url).netloc}: {error}")
            if not part.is_file() or not part.stat().st_size:
                _drop(part)
            continue
        except KeyboardInterrupt as error:
            raise type(error)(f"{part} keeps what came: the same command continues from there") from None
        part.replace(target)
        _note_of(part).unlink(missing_ok=True)
        return
    why = "; ".join(dict.fromkeys(reasons))
    raise UserError(f"{published.name} cannot be downloaded ({why}): try again, or put {file.name} into {folder()}")


def _require_published(part: Path, file: RemoteFile, source: Source) -> None:
    """Remove a complete download that is not the published file."""
    try:
        require_intact(part, RemoteFile(file.name, (source,)), "what it sends")
    except UserError as error:
        _drop(part)
        raise _FailedError(str(error)) from None


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _note_of(part: Path) -> Path:
    """The file that says from where a part is, and which version of it."""
    return part.with_name(f"{part.name}.json")


def _complete(source: Source, part: Path, published: Published) -> None:
    """Download into `part`, and continue what an earlier call left there. Raises _FailedError, or UserError."""
    reason = ""
    for attempt in range(_CUTS):
        try:
            with closing(_open(source, part)) as response:
                if not attempt:
                    about = f"licence {published.licence}, published by {published.publisher}"
                    say(f"{published.name}: downloading {source.url} ({about})", sys.stderr)
                if _receive(response, source, part, published.limit):
                    return
            reason = "the connection broke"
        except HTTPError as error:
            error.close()
            if error.code != _UNSATISFIABLE or not part.exists():
                raise _FailedError(" ".join(f"HTTP {error.code} {error.reason}".split())) from None
            _drop(part)  # it is longer than the file there
        except URLError as error:  # no connection at all
            reason = getattr(error.reason, "strerror", None) or str(error.reason)
            if isinstance(error.reason, socket.gaierror):
                reason = f"no network, or no such host ({reason})"
            raise _FailedError(reason) from None
        except ValueError as error:  # of a header, or the address of a redirect
            raise _FailedError(f"its answer cannot be understood: {error}") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise _FailedError(f"broke off {_CUTS} times: {reason}")


def _open(source: Source, part: Path) -> Any:
    """Request what is missing of `part`: all of it where there is none of this source, or its version is unknown."""
    headers = {"User-Agent": "gridhead", "Accept-Encoding": "identity"}
    version = _version(part, source)
    if version and part.is_file() and part.stat().st_size:
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": version}
    opener = urllib.request.OpenerDirector()  # none of build_opener's handlers for file, ftp and data
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener.open(urllib.request.Request(source.url, headers=headers), timeout=_PATIENCE)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects from https to https alone, and from http to either."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new != "https" and (old, new) != ("http", "http"):
            raise _FailedError(f"it redirects from {old} to {new or 'nothing'}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _version(part: Path, source: Source) -> str:
    try:
        note = json.loads(_note_of(part).read_text(encoding="utf-8"))
        return note["version"] if note["url"] == source.url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _receive(response: Any, source: Source, part: Path, limit: int) -> bool:
    """Append what comes to `part`. Returns whether that is all."""
    start, total = _extent(response, part)
    wanted = source.bytes or total
    if total and source.bytes and total != source.bytes:
        raise _FailedError(f"it has {total:,} bytes there, the published file {source.bytes:,}")
    if wanted > limit:
        raise _FailedError(f"{wanted:,} bytes is more than these weights can have")
    if not start:
        etag = response.headers.get("ETag", "")
        version = response.headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        part.unlink(missing_ok=True)
        replace_text(_note_of(part), json.dumps({"url": source.url, "version": version}), durable=False)
    pieces = _written(response, part, start, wanted or limit)
    with closing(track(pieces, -(-(wanted - start) // _MB) if wanted else None, f"{part.stem} (MB)")) as shown:
        for _ in shown:
            pass
    return part.stat().st_size == wanted if wanted else response.isclosed()


def _extent(response: Any, part: Path) -> tuple[int, int]:
    """The first byte that the response has, and the length of the whole file (0: not said)."""
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise _FailedError(_PAGE)
    if headers.get("Content-Encoding", "identity") != "identity":
        raise _FailedError("it sends the file in another encoding")
    if response.status != 206:
        return 0, _number(headers.get("Content-Length"))
    start, have = headers.get("Content-Range", ""), part.stat().st_size
    if not start.startswith(f"bytes {have}-"):
        _drop(part)
        raise HTTPException("it sends another range than was asked for")
    return have, _number(start.rpartition("/")[2])


def _number(text: str | None) -> int:
    """A length in a header; 0: it says none."""
    return int(text) if text and text.isdecimal() else 0


def _written(response: Any, part: Path, size: int, most: int) -> Iterator[int]:
    """Append the body to `part`, and yield after each megabyte."""
    told = size
    with _written_to(part):
        file = part.open("ab")
    with file:
        while piece := response.read1(_PIECE):
            if not size and is_page(piece):
                raise _FailedError(_PAGE)
            size += len(piece)
            if size > most:
                file.truncate(0)
                raise _FailedError(f"it sends more than the {most:,} bytes that were announced")
            with _written_to(part):
                file.write(piece)
                file.flush()
            while size - told >= _MB:
                told += _MB
                yield size
        with _written_to(part):
            os.fsync(file.fileno())
    if size > told:
        yield size


@contextmanager
def _written_to(part: Path) -> Iterator[None]:
    """Turn the error of a disk into a UserError, so that it is not taken for one of the network."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{part} cannot be written: {error.strerror}; free some space: what came is kept") from error
