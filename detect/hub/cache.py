"""The folder that keeps published weights, and the checks that each file there passes before it is used."""

from __future__ import annotations

import hashlib
from pathlib import Path

from detect.errors import UserError
from detect.hub.catalogue import Published, RemoteFile
from detect.utils.atomic_io import cache_folder, open_file


def folder() -> Path:
    """The folder: `weights` in the user's cache folder. Files put there by hand are used like downloaded ones.

    Raises:
        UserError: the user has no home folder.
    """
    try:
        return cache_folder() / "weights"
    except OSError as error:
        raise UserError(f"there is no cache folder: {error}; let XDG_CACHE_HOME name one") from error


def is_cached(published: Published) -> bool:
    """Whether all its files are in the folder, whatever they hold."""
    return all((folder() / file.name).is_file() for file in published.files)


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is a web page: no format of weights begins with "<"."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def require_intact(path: Path, file: RemoteFile, name: str = "") -> None:
    """Check that a file is what one of the sources of `file` has, as far as that is known.

    Args:
        path: the file.
        file: what it should be.
        name: how messages call it. Default: its path.

    Raises:
        UserError: it cannot be read, has another length or SHA-256, or is a web page.
    """
    name = name or str(path)
    try:
        with open_file(path) as stream:
            page = is_page(stream.read(512))
            length = stream.seek(0, 2)
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}") from error
    if page or not length:
        raise UserError(f"{name} is {'a web page, a login or an error' if page else 'empty'}: it is no weights file")
    lengths = {source.bytes for source in file.sources}
    if 0 not in lengths and length not in lengths:
        wanted = " or ".join(f"{one:,}" for one in sorted(lengths))
        raise UserError(f"{name} has {length:,} bytes, the published file {wanted}: it is cut short, or another file")
    if not any(digest.startswith(source.sha256) for source in file.sources):
        raise UserError(f"{name} is not the published file: its SHA-256 is {digest[:12]}…, not that of {file.name}")
