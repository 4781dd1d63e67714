"""Sends hostile and honest requests to `detect serve`, many at once, for minutes.

python tools/soak.py [--weights W] [--minutes 5] [--requests 500] [--at-a-time 32]
Without weights it trains a small detector on the toy set first. It checks that each honest request gets the right
response in bounded time, that each hostile one is rejected, and that processes, memory, open files and the temporary
folder return to their initial state. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.data.toy import build
from detect.errors import UserError, in_one_line
from tools.hostile import jpeg_of_scans, moving_bar, png_bomb

DETECT = [sys.executable, "-m", "detect"]
BOUNDS = ["--image-seconds", "3", "--seconds", "10", "--max-mb", "16", "--device", "cpu", "--precision", "float32"]
LONGEST = 60.0  # seconds that an honest request may take among 31 others


class Server:
    """`detect serve` in a process of its own."""

    def __init__(self, weights: Path, temporary: Path) -> None:
        command = [*DETECT, "serve", "--weights", str(weights), "--port", "0", *BOUNDS]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        found = re.search(r"http://([\d.]+):(\d+)", self.process.stdout.readline())
        if not found:
            raise UserError("detect serve did not start")
        self.address, self.temporary = (found[1], int(found[2])), temporary

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send a request; returns status and body."""
        wire = http.client.HTTPConnection(*self.address, timeout=300)
        try:
            wire.request(method, path, body, headers)
            response = wire.getresponse()
            return response.status, response.read()
        finally:
            wire.close()

    def send(self, data: bytes, seconds: float) -> int:
        """Send raw bytes; returns the status, or 0 if none came within `seconds`."""
        with socket.create_connection(self.address) as wire:
            wire.settimeout(seconds)
            wire.sendall(data)
            try:
                response = wire.recv(4096)
            except TimeoutError:
                return 0
        return int(response.split()[1]) if response else 0

    def footprint(self) -> dict[str, float]:
        """Count processes, their megabytes, the server's open files, and files in the temporary folder."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        files = [one for one in self.temporary.rglob("*") if one.is_file() and not one.parent.name.endswith("-out")]
        counts = {"processes": 1 + len(children), "server MB": _memory(pid)}
        counts |= {f"worker {i} MB": _memory(int(child)) for i, child in enumerate(children)}
        counts |= {"open files": len(os.listdir(f"/proc/{pid}/fd"))}
        return counts | {"files on disk": len(files)}


def _memory(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return round(int(text.split("VmRSS:")[1].split()[0]) / 1024)


class Case(NamedTuple):
    """A kind of request: how it is sent, and whether its outcome is right."""

    name: str
    ask: Callable[[Server], object]
    is_right: Callable[[object], bool]
    is_honest: bool = False


def honest(scenes: Path, server: Server) -> list[Case]:
    """Honest requests, each with the response that it got alone before."""
    cases = [Case("the page", lambda one: one.ask("GET", "/")[0], lambda status: status == 200, True)]
    bodies = [("image", path.read_bytes()) for path in sorted((scenes / "val").iterdir())[:6]]
    for kind, body in [*bodies, ("video", moving_bar(96, 96, 12))]:
        send = partial(_detections, kind=kind, body=body)
        cases.append(Case(f"an honest {kind}", send, partial(_equals, send(server)), True))
    return cases


def _detections(server: Server, kind: str, body: bytes) -> object:
    status, text = server.ask("POST", f"/{kind}?conf=0.05", body)
    response = json.loads(text)
    response.pop("name", None)
    return status, response


def _equals(expected: object, got: object) -> bool:
    return got == expected


def hostile(scenes: Path) -> list[Case]:
    """Hostile requests, each with the statuses that it may get; 0: no response at all."""
    image = next((scenes / "val").iterdir()).read_bytes()
    clip, large = moving_bar(96, 96, 60), moving_bar(4096, 4096, 1)
    posted = {
        "an image of many scans": ("/image", jpeg_of_scans(4000, 3000)),
        "a slow image": ("/image", jpeg_of_scans(8000, 90)),
        "a decompression bomb": ("/image", png_bomb(30_000)),
        "half an image": ("/image", image[: len(image) // 2]),
        "PostScript as .jpg": ("/image", b"%!PS-Adobe-3.0\n{} loop\n"),
        "a text": ("/image", b"no image at all " * 999),
        "large frames": ("/video", large),
        "half a video": ("/video", clip[: len(clip) // 3]),
        "a playlist": ("/video", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"),
        "a large upload": ("/image", bytes(17 << 20)),
    }
    head = b"POST /video HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    sent = {
        "silence": (b"", 5.0),
        "half a header": (b"GET / HTTP/1.1\r\nHost: ", 5.0),
        "a slow body": (head % 1000 + b"x" * 10, 12.0),
        "half an upload": (head % len(clip) + clip[:5000], 0.1),
        "an abandoned video": (head % len(clip) + clip, 0.3),
        "no http": (b"\x16\x03\x01" * 99, 5.0),
        "a large Content-Length": (head % (1 << 40), 5.0),
        "another host name": (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 5.0),
        "a path": (b"GET /video/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 5.0),
        "another origin": (b"POST /image HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 5.0),
    }
    refused = {0, 400, 403, 404, 408, 413, 415, 422, 503}
    cases = [Case(name, partial(_status, path, body), refused.__contains__) for name, (path, body) in posted.items()]
    cases += [Case(name, lambda one, a=args: one.send(*a), refused.__contains__) for name, args in sent.items()]  # type: ignore[misc]
    return [*cases, Case("a hundred silences", _silences, refused.__contains__)]


def _status(path: str, body: bytes, server: Server) -> object:
    try:
        return server.ask("POST", path, body)[0]
    except (ConnectionError, TimeoutError, http.client.HTTPException):
        return 0


def _silences(server: Server) -> object:
    wires = [socket.create_connection(server.address) for _ in range(100)]
    time.sleep(3)
    for wire in wires:
        wire.close()
    return 0


def soak(server: Server, cases: list[Case], minutes: float, requests: int, at_a_time: int) -> bool:
    """Send rounds of `requests`, half of them honest, for `minutes`; returns whether all outcomes were right."""
    seconds, wrong, chance = defaultdict[str, list[float]](list), Counter[str](), random.Random(0)

    def ask(case: Case) -> None:
        began = time.monotonic()
        try:
            got = case.ask(server)
        except Exception as error:
            got = error
        seconds[case.name].append(time.monotonic() - began)
        late = case.is_honest and seconds[case.name][-1] > LONGEST
        if late or not case.is_right(got):
            wrong[f"{case.name}: {'late' if late else str(got)[:200]}"] += 1

    end = time.monotonic() + 60 * minutes
    kinds = [[one for one in cases if one.is_honest == is_honest] for is_honest in (True, False)]
    with ThreadPoolExecutor(at_a_time) as pool:
        while time.monotonic() < end:
            list(pool.map(ask, [chance.choice(kinds[i % 2]) for i in range(requests)]))
    for case in {one.name: one for one in cases}.values():
        took = sorted(seconds[case.name])
        if took:
            print(f"{case.name:26}{len(took):6} times, median {took[len(took) // 2]:6.2f} s, longest {took[-1]:6.2f} s")
    for line, times in wrong.items():
        print(f"WRONG {times} times: {line}")
    return not wrong


def run(weights: str, minutes: float, requests: int, at_a_time: int) -> bool:
    """Run the server and all requests; returns whether everything was right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = build(folder / "digits", train=64, val=8, size=96)
        if not weights:
            flags = ["--model", "yolo_n", "--epochs", "3", "--imgsz", "96", "--device", "cpu", "--out", f"{folder}/run"]
            subprocess.run([*DETECT, "train", "--data", f"{scenes}/data.yaml", *flags], check=True)
        (folder / "temporary").mkdir()
        server = Server(Path(weights or folder / "run" / "best.safetensors"), folder / "temporary")
        try:
            cases = [*honest(scenes, server), *hostile(scenes)]
            good = soak(server, cases, 0, 0, 1)
            _settle(server)
            before = server.footprint()
            good = soak(server, cases, minutes, requests, at_a_time)
            _settle(server)
            after = server.footprint()
            for key in before | after:
                print(f"{key:18} {before.get(key, 0):8g} before, {after.get(key, 0):8g} after")
        finally:
            server.process.send_signal(signal.SIGTERM)
            status = server.process.wait(60)
        left = list((folder / "temporary").iterdir())
        print(f"exit status {status}, files left: {[one.name for one in left]}")
        same = all(before[key] == after[key] for key in ("processes", "open files", "files on disk"))
        grown = max(after[key] - before.get(key, 0) for key in after if key.endswith("MB"))
        return good and same and grown < 300 and status == 143 and not left


def _settle(server: Server) -> None:
    """Wait until the server is idle and both workers run."""
    for _ in range(100):
        time.sleep(1)
        now = server.footprint()
        if now["processes"] == 3 and not now["files on disk"]:
            break
    time.sleep(12)  # silent connections are closed by now


@in_one_line
def main() -> None:
    """Exit status: 0, or 2 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="weights file; default: a detector trained on the toy set")
    parser.add_argument("--minutes", type=float, default=5.0, help="default: 5")
    parser.add_argument("--requests", type=int, default=500, help="requests in a round; default: 500")
    parser.add_argument("--at-a-time", type=int, default=32, help="concurrent requests; default: 32")
    given = parser.parse_args()
    if not run(given.weights, given.minutes, given.requests, given.at_a_time):
        raise UserError("the server failed: see above")


if __name__ == "__main__":
    sys.exit(main())
