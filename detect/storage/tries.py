"""Requests to a store: repeated where that may help, one line of error where it cannot."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from detect.errors import FULL, UserError
from detect.storage.urls import connect, is_web, require_usable, safe

T = TypeVar("T")
TRIES = 7  # with the pauses below half a minute at most
_FIRST, _LONGEST = 0.5, 10.0  # seconds of the first and the longest pause
_DENIED = (401, 403)
_GONE = (404, 410)
_CREDENTIALS = ("NoCredentials", "Credential", "TokenRetrieval", "SSOToken", "ProfileNotFound", "RefreshError")


class DeniedError(UserError):
    """The store refuses: the rights or credentials are missing."""


def attempt(url: str, action: Callable[[Any, str], T]) -> T:
    """Return `action(store, path)` for a URL, tried up to `TRIES` times with growing, random pauses.

    Raises:
        FileNotFoundError: there is no such object.
        UserError: the driver is missing, the rights are, or the store did not answer as often as it was asked.
        OSError: the local disk is full.
    """
    require_usable(url)
    for number in range(TRIES):
        if number:
            pause(random.uniform(0.5, 1.0) * min(_LONGEST, _FIRST * 2 ** (number - 1)))
        try:
            return action(*connect(url))
        except UserError:
            raise
        except Exception as error:  # drivers raise what their libraries do
            if getattr(error, "errno", None) in FULL:
                raise
            _raise_final(error, url)
            last = error
    raise UserError(f"{safe(url)}: cannot be read; tried {TRIES} times, the last time: {_said(last, url)}")


def pause(seconds: float) -> None:
    """Wait before a request is repeated."""
    time.sleep(seconds)


def _raise_final(error: BaseException, url: str) -> None:
    """Raise what no repetition repairs."""
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in _GONE:
        raise FileNotFoundError(2, "no such file", safe(url)) from None
    if any(word in type(one).__name__ for one in _chain(error) for word in _CREDENTIALS):
        raise UserError(
            f"{safe(url)}: the driver found no valid credentials ({_said(error, url)}); set them where it looks for "
            "them (see docs/how-to/storage.md)"
        ) from None
    if isinstance(error, PermissionError) or status in _DENIED:
        raise DeniedError(
            f"{safe(url)}: access denied ({_said(error, url)}): check the credentials and their right to read and "
            "list it; some stores say the same of what does not exist"
        ) from None
    if isinstance(error, NotImplementedError | IsADirectoryError):
        raise UserError(f"{safe(url)}: cannot be read: {_said(error, url)}") from None


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised from."""
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error of aiohttp, botocore, gcsfs or requests."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = (
                getattr(response, "status_code", None) or getattr(one, "status", None) or getattr(one, "code", None)
            )
        if isinstance(status, int) or (isinstance(status, str) and status.isdecimal()):
            return int(status)
    return None


def _said(error: BaseException, url: str) -> str:
    """What an error says, in one line of bounded length, without the query of the URL."""
    query = url.partition("?")[2] if is_web(url) else ""
    text = " ".join(str(error).split())
    if query:
        text = text.replace(f"?{query}", "")
    name = type(error).__name__
    return f"{name}: {text[:200]}" if text else name
