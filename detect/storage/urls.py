"""What a URL is, the store behind it, and the version of an object there."""

from __future__ import annotations

import base64
import importlib
import re
import zlib
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from detect.errors import UserError

_URL = re.compile(r"(?:[A-Za-z0-9+.-]+::)*([A-Za-z][A-Za-z0-9+.-]+)://")  # one letter alone is a drive of Windows
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
_PACKAGES |= {"http": "aiohttp", "https": "aiohttp", "az": "adlfs", "abfs": "adlfs", "oci": "ocifs", "oss": "ossfs"}
_EXTRA = ("s3fs", "gcsfs", "huggingface_hub", "aiohttp", "fsspec")
_HERE = ("memory", "file", "local")  # stores that need no network
_TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "crc32c", "blob_id", "sha256", "generation")
_TIMES = ("LastModified", "updated", "last_modified", "Last-Modified", "mtime", "created")
_SECONDS = 30  # a server that sends nothing for so long is asked again


def is_url(name: object) -> bool:
    """Whether a name is a URL rather than a path."""
    return isinstance(name, str) and _URL.match(name) is not None


def scheme_of(url: str) -> str:
    """The scheme of a URL in small letters, such as "s3"."""
    found = _URL.match(url)
    return found[1].lower() if found else ""


def is_web(url: str) -> bool:
    """Whether a URL is of a web server: its parts are quoted, and it can list nothing but pages of links."""
    return scheme_of(url) in ("http", "https")


def safe(url: str) -> str:
    """A URL as it may be shown: without its query, which can hold a signature."""
    return url.partition("?")[0] if is_web(url) else url


def joined(url: str, name: str) -> str:
    """The URL of the file `name`, a relative path with forward slashes, below the folder at `url`."""
    return f"{url.rstrip('/')}/{quote(name) if is_web(url) else name}" if name else url


def require_usable(url: str) -> None:
    """Raise a UserError for a URL that holds credentials, is made of several, or needs a network that is forbidden."""
    from detect.hub import OFFLINE, is_offline

    scheme = scheme_of(url)
    if "::" in url:
        raise UserError(f"{safe(url)}: a URL of several parts (::) is not read; name the file or folder itself")
    if "@" in urlsplit(url).netloc:
        raise UserError(
            f"{scheme}://…: the URL holds a user or password, which would be written into logs and settings; remove "
            "them and let the driver find its credentials in its own files or environment variables"
        )
    if scheme not in _HERE and is_offline():
        raise UserError(f"{safe(url)} is on the network, which --offline or {OFFLINE} forbids")


def connect(url: str) -> tuple[Any, str]:
    """The store (an fsspec file system) of a URL, and the path there. Credentials come from the driver's own places.

    Raises:
        UserError: the driver is not installed, or no driver knows the scheme.
    """
    scheme = scheme_of(url)
    package = _PACKAGES.get(scheme)
    try:
        fsspec = importlib.import_module("fsspec.core")
        if package:
            importlib.import_module(package)
        store, path = fsspec.url_to_fs(url, use_listings_cache=False, **_options(scheme))
    except ImportError as error:
        package = package or error.name or str(error)
        install = "'gridhead[remote]'" if package.partition(".")[0] in _EXTRA else package
        raise UserError(
            f"{safe(url)}: {scheme}:// needs the package {package}, which is missing: pip install {install}"
        ) from None
    except ValueError as error:
        raise UserError(f"{safe(url)}: this URL cannot be read ({' '.join(str(error).split())})") from None
    if hasattr(store, "retries"):  # of s3fs and gcsfs
        store.retries = 1
    return store, path


def _options(scheme: str) -> dict[str, Any]:
    """Options of drivers: repeating requests is up to `tries`, which knows when to stop."""
    if scheme in ("s3", "s3a"):
        retries = {"retries": {"mode": "standard", "total_max_attempts": 1}}
        return {"config_kwargs": {**retries, "connect_timeout": _SECONDS, "read_timeout": _SECONDS}}
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=_SECONDS, sock_read=_SECONDS)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    return {}


def version(info: dict[str, Any]) -> tuple[int, int]:
    """The size in bytes of an object, -1 if unknown, and its version: nanoseconds fit for the time of a file.

    The seconds are those of the last change, the microseconds a checksum of size and tag (ETag, MD5 …). So the times
    of a placeholder tell versions apart, as those of a local file do.
    """
    size, tag = info.get("size"), tag_of(info)
    size = -1 if size is None else int(size)
    return size, stamp(_seconds(info), size, tag)


def stamp(seconds: int, size: int, tag: str) -> int:
    """The version of an object in nanoseconds: see `version`."""
    return (seconds * 10**6 + zlib.crc32(f"{size}|{tag}".encode()) % 10**6) * 1000


def tag_of(info: dict[str, Any]) -> str:
    """The tag that changes with the content, "" where the store gives none; an MD5 in hexadecimal digits."""
    key = next((key for key in _TAGS if info.get(key)), "")
    tag = str(info.get(key, "")).removeprefix("W/").strip('"')
    if key in ("md5Hash", "Content-MD5"):
        try:
            return base64.b64decode(tag, validate=True).hex()
        except ValueError:
            return tag
    return tag


def _seconds(info: dict[str, Any]) -> int:
    time = next((info[key] for key in _TIMES if info.get(key)), None)
    try:
        if isinstance(time, str):
            time = parsedate_to_datetime(time) if "," in time else datetime.fromisoformat(time)
        return max(0, int(time.timestamp() if isinstance(time, datetime) else time or 0))
    except (ValueError, TypeError, OverflowError):
        return 0
