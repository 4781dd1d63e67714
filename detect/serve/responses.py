"""Responses: JSON, one line for each error, and the headers that every response has."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse

from detect.utils.names import json_text

PAGE = Path(__file__).with_name("page.html")


class JsonAnswer(JSONResponse):
    """A JSON response, whatever characters its names have."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json_text(content).encode()


class RequestRejected(Exception):
    """A request that is rejected: the HTTP status and one line."""

    def __init__(self, status: int, line: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(line)
        self.status, self.headers = status, headers

    @property
    def response(self) -> JsonAnswer:
        """The response to such a request."""
        return JsonAnswer({"error": str(self)}, self.status, self.headers)


def _sources(tag: str, page: str) -> str:
    """The hashes of the page's own scripts or styles, the only ones that the browser may run."""
    inside = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in inside)


def _policy(page: str) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_sources('script', page)}",
            f"style-src {_sources('style', page)}",
            "connect-src 'self'",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


HEADERS = {
    "Content-Security-Policy": _policy(PAGE.read_text(encoding="utf-8")),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SAFE = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
