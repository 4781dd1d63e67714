"""An S3 server on this machine (moto) behind a proxy that makes the faults of real ones."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)
Fault = Callable[[str, str], str]


class Store:
    """The proxy: `fault(method, path)` says what goes wrong with a request.

    "": nothing; "503": throttled; "403": denied; "cut": half of the content comes; "slow": a tenth of a second late.
    """

    def __init__(self, port: int) -> None:
        self.behind, self.requests, self.fault = port, Counter[str](), _none
        self.lock = threading.Lock()
        store = self

        class Proxy(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with store.lock:
                    store.requests[f"{self.command} {self.path.partition('?')[0]}"] += 1
                    fault = store.fault(self.command, self.path)
                if fault in ("503", "403"):
                    return self.answer(int(fault), {}, SLOW_DOWN if fault == "503" else DENIED)
                if fault == "slow":
                    time.sleep(0.1)
                server = http.client.HTTPConnection("127.0.0.1", store.behind)
                server.request(self.command, self.path, body, dict(self.headers))
                reply = server.getresponse()
                data = reply.read()
                headers = {key: value for key, value in reply.getheaders() if key.lower() not in HOPS}
                server.close()
                return self.answer(reply.status, headers, data, fault == "cut")

            def answer(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                if "content-length" not in map(str.lower, headers):
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                if cut:
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def reset(self) -> None:
        self.requests.clear()
        self.fault = _none


HOPS = ("transfer-encoding", "connection", "keep-alive", "date", "server")


def _none(method: str, path: str) -> str:
    return ""


@contextmanager
def s3_server() -> Iterator[Store]:
    """Run the server, and a proxy before it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    store = Store(server.get_host_and_port()[1])
    try:
        yield store
    finally:
        store.server.shutdown()
        store.server.server_close()
        server.stop()


def upload(store: Store, folder: Path, bucket: str, prefix: str) -> Any:
    """Create a bucket, put the files of a folder into it, and return the client."""
    import boto3

    client = boto3.client("s3", endpoint_url=store.url, region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")
    return client
