"""`detect serve` and those who mean it harm: what costs much, what never ends, what asks under a wrong name."""

import asyncio
import http.client
import os
import signal
import socket
import time
from math import inf
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from starlette.requests import HTTPConnection

from detect.__main__ import main
from detect.commands.serve import ServeConfig
from detect.data.toy import build as toy
from detect.errors import UserError
from detect.serve.access import Access
from detect.serve.connections import Connections, client_of
from detect.serve.responses import HEADERS, RequestRejected
from detect.serve.uploads import KEPT, Uploads
from detect.serve.workers import Workers
from tests.reference.server import BOUNDS, Server
from tools.hostile import jpeg_of_scans, moving_bar


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def server(served_weights, temporary):
    one = Server(served_weights, *BOUNDS, "--max-frame-megapixels", "1", temporary=temporary)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    scenes = toy(tmp_path_factory.mktemp("scenes") / "digits", train=1, val=1, size=96)
    return next(iter((scenes / "train").iterdir())).read_bytes()


def until(condition):
    """Wait for what is about to be true."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never was")


def uploads(temporary):
    """The folders of requests under way, and of workers that have ended."""
    folders = [one for one in temporary.glob("gridhead-*/*") if not one.name.endswith("-out")]
    workers = [one for one in folders if one.name.startswith("worker-")]
    return [one for one in folders if one not in workers] + workers[2:]  # two run


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
def test_a_worker_that_takes_too_long_is_ended_and_holds_up_nobody(server, image, temporary):
    first = server.workers()[0]
    os.kill(first, signal.SIGSTOP)  # as in a decoder that never ends
    replies = sorted((server.ask("POST", "/image", image, "image/jpeg") for _ in range(3)), key=lambda one: one[0])
    assert [status for status, _ in replies] == [200, 200, 422]
    assert "longer than 3 seconds" in replies[2][1]["error"]
    assert first not in server.workers() and uploads(temporary) == []


def test_large_frames_are_refused_before_they_take_memory(server, temporary):
    status, answer = server.ask("POST", "/video", moving_bar(1280, 1024, 1), "video/mp4")
    assert status == 400 and "1280 x 1024" in answer["error"] and "--" not in answer["error"]
    assert uploads(temporary) == []


def test_errors_name_no_folder_and_leave_no_file(server, temporary, image):
    for path, body, kind in [
        ("/video", b"no moving_bar at all" * 99, "video/mp4"),
        ("/video", moving_bar(64, 64, 3)[:900], "video/mp4"),
        ("/video", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "video/mp4"),
        ("/image", b"%!PS-Adobe-3.0\n(%pipe%touch x) (w) file\n", "image/jpeg"),
        ("/image", image[:500], "image/jpeg"),
        ("/image", jpeg_of_scans(2000, 20_000), "image/jpeg"),
        ("/image", b"x" * (3 << 20), "image/png"),
    ]:
        status, answer = server.ask("POST", path, body, kind)
        assert status in (400, 413), answer
        assert "/" not in answer["error"] and "gridhead-" not in answer["error"], answer
    assert uploads(temporary) == []


def test_a_video_that_nobody_waits_for_is_left(server, temporary):
    kept = set(temporary.glob("gridhead-*/*-out"))
    with socket.create_connection((server.host, server.port)) as one:
        body = moving_bar(64, 64, 3000)
        head = f"POST /video HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        one.sendall(head.encode() + body)
        until(lambda: list(temporary.glob("gridhead-*/*/out")))
    assert server.ask("POST", "/video", moving_bar(64, 64, 2), "video/mp4")[0] == 200
    until(lambda: uploads(temporary) == [])
    assert len(set(temporary.glob("gridhead-*/*-out")) - kept) == 1


def test_silent_connections_shut_nobody_out(server, image):
    silent = [socket.create_connection((server.host, server.port)) for _ in range(130)]
    slow = [socket.create_connection((server.host, server.port)) for _ in range(60)]
    try:
        for one in slow:
            one.sendall(b"POST /image HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\nx")
        for _ in range(60):
            assert server.ask("POST", "/image", image, "image/jpeg")[0] == 200
        silent[0].settimeout(60)
        assert silent[0].recv(1) == b""
    finally:
        for one in silent + slow:
            one.close()


def headers_of(server, request):
    with socket.create_connection((server.host, server.port)) as one:
        one.sendall(request)
        one.settimeout(60)
        reply = http.client.HTTPResponse(one)
        reply.begin()
        return reply.status, reply.headers


@pytest.mark.parametrize(
    ("request_line", "host", "expected"),
    [
        ("GET / HTTP/1.1", "127.0.0.1", 200),
        ("GET /none HTTP/1.1", "127.0.0.1", 404),
        ("GET /openapi.json HTTP/1.1", "127.0.0.1", 200),
        ("GET /static/detect.js HTTP/1.1", "127.0.0.1", 200),
        ("GET /static/..%2fapp.py HTTP/1.1", "127.0.0.1", 404),
        ("GET /static/style.css HTTP/1.1", "evil.example", 403),
        ("DELETE /image HTTP/1.1", "127.0.0.1", 405),
        ("GET / HTTP/1.1", "evil.example", 403),
        ("POST /image?conf=2 HTTP/1.1", "127.0.0.1", 400),
        ("GET /video/none/video.mp4 HTTP/1.1", "127.0.0.1", 404),
        ("no http at all", "127.0.0.1", 400),
    ],
)
def test_every_answer_has_the_headers_that_protect_it(server, request_line, host, expected):
    status, headers = headers_of(server, f"{request_line}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status == expected
    assert {name: headers.get_all(name) for name in HEADERS} == {name: [value] for name, value in HEADERS.items()}
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_an_open_server_warns_asks_for_the_token_and_ends_cleanly(served_weights, image, tmp_path):
    one = Server(served_weights, "--host", "0.0.0.0", "--token", "open-sesame", temporary=tmp_path)
    one.host = "127.0.0.1"
    try:
        assert one.ask("POST", "/image", image, "image/jpeg")[0] == 401
        secret = {"Authorization": "Bearer open-sesame"}
        assert one.ask("POST", "/image", image, "image/jpeg", **secret)[0] == 200
        assert one.ask("GET", "/", Host="evil.example", **secret)[0] == 403
        status, headers = headers_of(one, b"GET /?token=open-sesame HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        cookie = headers["Set-Cookie"].split(";")[0]
        assert status == 303 and headers["Location"] == "./" and "HttpOnly" in headers["Set-Cookie"]
        assert one.ask("GET", "/", Cookie=cookie)[0] == 200
        assert one.ask("GET", "/", Cookie=cookie + "0")[0] == 401
        until(lambda: len(one.workers()) == 2)
        workers = one.workers()
        with socket.create_connection((one.host, one.port)) as slow:
            slow.sendall(b"POST /image HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx")
            assert one.stop(signal.SIGTERM) == 143
    finally:
        one.process.kill()
    assert all(map(has_ended, workers)) and list(tmp_path.iterdir()) == []
    said = one.process.stderr.read()
    assert "--allowed-host" in said and "--token" not in said and "Traceback" not in said


def test_nothing_outlives_a_server_that_is_killed(served_weights, tmp_path):
    one = Server(served_weights, "--host", "0.0.0.0", "--workers", "1", temporary=tmp_path)
    workers = one.workers()
    assert workers and list(tmp_path.iterdir())
    one.process.kill()
    until(lambda: all(map(has_ended, workers)))
    until(lambda: not list(tmp_path.iterdir()))
    assert "lets everybody in" in one.process.stderr.read()


@pytest.mark.parametrize(
    ("bound", "local", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "127.0.0.1", "LOCALHOST.:8000", True),
        ("127.0.0.1", "127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "127.0.0.1", "evil.example", False),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:80@evil.example", False),
        ("127.0.0.1", "127.0.0.1", "", False),
        ("127.0.0.2", "127.0.0.2", "127.0.0.2:8000", True),
        ("127.0.0.2", "127.0.0.2", "evil.example", False),
        ("0.0.0.0", "192.168.1.5", "192.168.1.5:8000", True),
        ("0.0.0.0", "192.168.1.5", "192.168.1.6", False),
        ("0.0.0.0", "192.168.1.5", "evil.example", False),
        ("0.0.0.0", "192.168.1.5", "box.example:8000", True),
        ("::", "::ffff:192.168.1.5", "192.168.1.5", True),
        ("::", "fe80::1%eth0", "[fe80::1]:8000", True),
        ("::", "fe80::1", "evil.example", False),
        ("mine.local", "192.168.1.5", "mine.local:1", True),
    ],
)
def test_a_server_answers_to_its_own_names_alone(bound, local, host, expected):
    access = Access(ServeConfig("w", host=bound, allowed_host=["box.example", "fe80::2"]))
    scope = {"type": "http", "server": (local, 1), "headers": [(b"host", host.encode())], "query_string": b""}
    if expected:
        access.require(HTTPConnection(scope))
    else:
        with pytest.raises(RequestRejected, match="has no name"):
            access.require(HTTPConnection(scope))


@pytest.mark.parametrize("given", [{"allowed_host": ["http://box"]}, {"allowed_host": [""]}, {"token": "short"}])
def test_names_and_tokens_that_cannot_be_used_are_one_line(given):
    with pytest.raises(UserError, match=r"--(allowed-host|token)"):
        Access(ServeConfig("w", **given))


def test_uploads_stay_within_one_total(tmp_path):
    async def go():
        held = Uploads(tmp_path, 1000)
        for i in range(KEPT + 2):
            with held.open() as one:
                one.write(bytes(100))
                (one.folder / "out").mkdir()
                (one.folder / "out" / "video.mp4").write_bytes(bytes(50))
                held.keep(one)
            assert held.used == 50 * min(i + 1, KEPT)
            assert held.result(one.name, "video.mp4").read_bytes() == bytes(50)
        with held.open() as one, held.open() as other:
            one.write(bytes(900))
            assert held.used == 1000 and len(held.kept) == 2
            with pytest.raises(RequestRejected, match="the server is full"):
                other.write(bytes(101))
        assert held.used == 0 and list(tmp_path.iterdir()) == []

    asyncio.run(go())


class Waiting:
    """A connection in a phase, which it has been in for some seconds."""

    def __init__(self, phase, heard=0.0, seconds=0.0, client="a"):
        self.phase, self.heard, self.seconds, self.client_name, self.ended = phase, heard, seconds, client, False

    def lasted(self, now):
        return self.seconds

    def abort(self):
        self.ended = True


def test_of_too_many_connections_those_that_keep_waiting_are_closed(monkeypatch):
    async def go(client, *crowd):
        every.open = set(crowd)
        every.trim(client)
        return [one.ended for one in crowd]

    every = Connections(3, 60)
    working, answered, early, late = Waiting("work"), Waiting("answer", 1), Waiting("body", 2), Waiting("head", 3)
    other, new = Waiting("head", 0, client="b"), Waiting("head", inf)
    assert asyncio.run(go("a", working, answered, early, late, other)) == [False, False, True, False, False]
    assert asyncio.run(go("a", working, Waiting("work"), Waiting("work"), new)) == [False] * 4
    monkeypatch.setattr("detect.serve.connections.IN_ALL", 2)
    assert asyncio.run(go("b", working, answered, late, other)) == [False, False, True, True]


def test_connections_that_keep_waiting_for_long_are_closed(monkeypatch):
    async def at_once(_):
        if any(one.ended for one in waiting):
            raise asyncio.CancelledError

    every = Connections(9, 60)
    waiting = [Waiting("head", 0, 11), Waiting("body", 0, 61), Waiting("answer", 0, 601)]
    others = [Waiting("head", 0, 9), Waiting("body", 0, 59), Waiting("work", 0, 10_000)]
    every.open.update(waiting + others)
    monkeypatch.setattr(asyncio, "sleep", at_once)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(every.watch())
    assert all(one.ended for one in waiting) and not any(one.ended for one in others)


def test_one_household_is_one_client():
    assert client_of(("192.168.1.5", 1)) == client_of(("::ffff:192.168.1.5", 2)) == "192.168.1.5"
    assert client_of(("2001:db8::1", 1)) == client_of(("2001:db8::2", 1)) != client_of(("2001:db8:0:1::1", 1))


class Idle:
    """A worker for which a job takes the seconds that it may."""

    has_ended = False

    def __init__(self, clock, order):
        self.clock, self.order = clock, order

    async def run(self, job, seconds):
        self.order.append(job["name"])
        await asyncio.sleep(0)
        self.clock[0] += seconds
        return 200, b""


def order_of(jobs, count):
    """The names of jobs (client, kind, seconds, name) in the order in which `count` workers take them."""

    async def go():
        asyncio.get_running_loop().time = lambda: clock[0]
        workers = Workers({}, count)
        tasks = [
            asyncio.create_task(workers.run({"kind": kind, "name": name}, client, seconds))
            for client, kind, seconds, name in jobs
        ]
        await asyncio.sleep(0)
        for _ in range(count):
            workers._give(Idle(clock, order))
        await asyncio.gather(*tasks)
        assert workers.videos == 0 and len(workers.idle) == count

    order, clock = [], [0.0]
    asyncio.run(go())
    return order


def test_who_has_used_the_workers_least_is_next():
    jobs = [("heavy", "image", 9.0, name) for name in "abc"] + [("light", "image", 0.1, name) for name in "xy"]
    assert order_of(jobs, 1) == ["a", "x", "y", "b", "c"]


def test_videos_leave_a_worker_to_images_and_keep_their_place():
    jobs = [("one", "video", 1.0, name) for name in "abc"] + [("one", "image", 1.0, name) for name in "xyz"]
    assert order_of(jobs, 2) == ["a", "x", "b", "y", "c", "z"]
    assert order_of(jobs, 1) == ["a", "b", "c", "x", "y", "z"]


def test_a_full_temporary_folder_is_one_line(served_weights, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_, **__: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    assert main(["serve", "--weights", str(served_weights), "--port", "0"]) == 2
    assert "TMPDIR" in capsys.readouterr().err
