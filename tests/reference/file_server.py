"""A local server of one file, which cuts connections, lies about lengths, redirects, or shows a login page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 12000  # three megabytes


class FileServer(ThreadingHTTPServer):
    """Serves `content` at any path; the path says how: see `Handler`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag = CONTENT, '"one"'
        self.asked: list[tuple[str, str | None, str | None]] = []  # path, Range, If-Range
        self.halfway, self.go_on = threading.Event(), threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says.

    cut: each answer ends after a third of the file; stall: the first one stops halfway; whole: no ranges; login: a
    page; disguised: a page that claims to be a file; short, long: a wrong length; endless: none; missing: 404;
    to:URL: a redirect; other: as a server should.
    """

    def do_GET(self) -> None:
        server: FileServer = self.server  # type: ignore[assignment]
        path = self.path.lstrip("/")
        ranged, version = self.headers["Range"], self.headers["If-Range"]
        server.asked.append((path, ranged, version))
        if path.startswith("to:"):
            return self.answer(302, {"Location": path[3:], "Content-Length": "0"})
        if path == "missing":
            return self.answer(404, {"Content-Length": "0"})
        if path in ("login", "disguised"):
            kind = "text/html; charset=utf-8" if path == "login" else "application/octet-stream"
            return self.answer(200, {"Content-Type": kind}, b"\n<!DOCTYPE html><title>Sign in</title>")
        if ranged and path != "whole" and version in (None, server.etag):
            start = int(ranged.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                return self.answer(416, {"Content-Length": "0"})
            place = f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            return self.send(206, {"Content-Range": place}, server.content[start:], path)
        return self.send(200, {}, server.content, path)

    def send(self, status: int, headers: dict[str, str], content: bytes, path: str) -> None:
        server: FileServer = self.server  # type: ignore[assignment]
        length = len(content) + {"short": -7, "long": 7}.get(path, 0)
        headers |= {"ETag": server.etag} | ({} if path == "endless" else {"Content-Length": str(length)})
        if path == "cut":
            content = content[: len(server.content) // 3]
        if path == "stall" and not server.halfway.is_set():
            self.answer(status, headers, content[: len(content) // 2])
            server.halfway.set()
            server.go_on.wait(60)
            return
        self.answer(status, headers, content)

    def answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs in a thread of its own."""
    with FileServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()
