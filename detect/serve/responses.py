"""Responses: JSON, one line for each error, and the headers that every response has."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from detect.utils.names import json_text


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


POLICY = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' blob: data:",
    "media-src 'self' blob:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
]
HEADERS = {
    "Content-Security-Policy": "; ".join(POLICY),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SAFE = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
