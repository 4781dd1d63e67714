"""`detect serve`: images and videos by the page and by hand, whatever is sent, and many at once."""

import http.client
import json
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

import detect
from detect.__main__ import main
from detect.data.toy import build as toy
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.classifier import ClassifierConfig
from detect.models.weights import save_weights
from tests.reference.server import BOUNDS, Server
from tools.hostile import png_bomb


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("scenes") / "digits", train=4, val=4, size=96)


@pytest.fixture
def image_path(scenes):
    return next(path for path in sorted((scenes / "train").iterdir()))


def test_a_image_is_answered_as_predict_does(server, served_weights, image_path):
    status, answer = server.ask("POST", "/image?conf=0.02&iou=0.5", image_path.read_bytes(), "image/jpeg")
    detector = detect.load(str(served_weights), device="cpu", precision="float32")
    ((_, found),) = detector.predict(str(image_path), conf=0.02, iou=0.5)
    assert status == 200 and (answer["width"], answer["height"]) == (96, 96)
    assert len(answer["detections"]) == len(found) > 0
    left, top, right, bottom = found.boxes[0].tolist()
    first = answer["detections"][0]
    assert first["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.05)
    assert first["score"] == pytest.approx(found.scores[0].item(), abs=1e-4)
    assert first["category"] in ("cat", "dog") and first["category_id"] == {"cat": 3, "dog": 5}[first["category"]]


def test_a_video_is_answered_with_a_video(server, scenes):
    data = (scenes / "video.mp4").read_bytes()
    status, answer = server.ask("POST", "/video?conf=0.02", data, "video/mp4")
    assert status == 200 and 0 < answer["frames"] <= answer["of"] == 90
    status, film = server.ask("GET", f"/video/{answer['name']}/video.mp4")
    assert status == 200 and film[4:8] == b"ftyp"
    status, records = server.ask("GET", f"/video/{answer['name']}/detections.json")
    assert status == 200 and sum(answer["objects"].values()) == len(records)
    for path in ("/video/none/video.mp4", f"/video/{answer['name']}/..%2f..%2fetc%2fpasswd"):
        assert server.ask("GET", path)[0] == 404


HOSTILE = {
    "nothing": (b"", "image/png", 400, "the upload is empty"),
    "not an image": (b"<html>" * 99, "image/png", 400, "not a readable image"),
    "decompression bomb": (png_bomb(100_000), "image/png", 400, "the image is too large"),
    "hundred megapixels": (png_bomb(10_000), "image/png", 413, "more than 4 megapixels"),
    "wrong content type": (b"x" * 99, "text/html", 415, "not an image: the file's type is 'text/html'; image/"),
    "too large": (b"x" * (3 << 20), "image/png", 413, "more than 2 MB"),
}


def alive(server, image_path):
    return server.ask("POST", "/image", image_path.read_bytes(), "image/jpeg")[0] == 200


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_sent_is_answered_in_a_line_and_the_server_lives_on(server, image_path, name):
    body, kind, expected, said = HOSTILE[name]
    status, answer = server.ask("POST", "/image", body, kind)
    assert status == expected and said in answer["error"] and "\n" not in answer["error"]
    assert alive(server, image_path)


def test_a_truncated_image_and_a_video_that_is_none(server, image_path):
    data = image_path.read_bytes()
    status, answer = server.ask("POST", "/image", data[: len(data) // 2], "image/jpeg")
    assert status == 400 and "the image" in answer["error"]
    status, answer = server.ask("POST", "/video", b"no film at all" * 99, "video/mp4")
    assert status == 400 and answer["error"]
    for query in ("conf=2", "conf=x", "iou=nan", "polygons=1"):
        assert server.ask("POST", f"/image?{query}", data, "image/jpeg")[0] == 400
    assert alive(server, image_path)


def test_more_than_was_announced_is_cut_off(server, image_path):
    def parts():
        for _ in range(40):
            yield b"x" * (1 << 16)

    wire = http.client.HTTPConnection(server.host, server.port, timeout=300)
    try:
        wire.request("POST", "/image", parts(), {"Content-Type": "image/png"}, encode_chunked=True)
        answer = wire.getresponse()
        assert answer.status == 413 and "more than 2 MB" in json.loads(answer.read())["error"]
    except (BrokenPipeError, ConnectionResetError):
        pass  # it closed before all was sent
    finally:
        wire.close()
    assert alive(server, image_path)


def test_a_slow_sender_is_told_so_and_holds_up_nobody(server, image_path):
    with socket.create_connection((server.host, server.port)) as slow:
        head = "POST /image HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
        slow.sendall(head.encode() + b"x" * 10)
        started = time.monotonic()
        assert alive(server, image_path) and time.monotonic() - started < 2.5
        slow.settimeout(20)
        answer = slow.recv(4096)
        assert b" 408 " in answer.split(b"\r\n")[0]
    assert alive(server, image_path)


def test_other_sites_and_other_names_are_refused(server, image_path):
    data = image_path.read_bytes()
    status, answer = server.ask("POST", "/image", data, Origin="https://evil.example")
    assert status == 403 and "other sites" in answer["error"]
    assert server.ask("POST", "/image", data, "image/jpeg", Origin=server.url.rstrip("/"))[0] == 200
    assert server.ask("GET", "/", Host="evil.example:8000")[0] == 403
    assert server.ask("GET", "/")[0] == 200


def test_two_hundred_requests_sixteen_at_a_time(server, image_path):
    data = image_path.read_bytes()
    expected = server.ask("POST", "/image", data, "image/jpeg")
    with ThreadPoolExecutor(16) as pool:
        first = list(pool.map(lambda _: server.ask("POST", "/image", data, "image/jpeg"), range(100)))
        held = server.memory()
        second = list(pool.map(lambda _: server.ask("POST", "/image", data, "image/jpeg"), range(100)))
    assert all(answer == expected for answer in (*first, *second)) and expected[0] == 200
    assert server.memory() - held < 60  # megabytes: a hundred requests, and how freed memory lies


@pytest.mark.slow
def test_more_than_may_wait_are_turned_away(served_weights, image_path):
    one = Server(served_weights, *BOUNDS[:-1], "1")
    try:
        with ThreadPoolExecutor(24) as pool:
            data = image_path.read_bytes()
            statuses = list(pool.map(lambda _: one.ask("POST", "/image", data, "image/jpeg")[0], range(72)))
        assert set(statuses) <= {200, 503} and 200 in statuses and 503 in statuses
        assert alive(one, image_path)
    finally:
        assert one.stop(signal.SIGHUP) == 129
    assert not (one.process.stdout.read() + one.process.stderr.read()).count("Traceback")


def test_what_cannot_be_served_is_one_line(served_weights, tmp_path, monkeypatch, capsys):
    assert main(["serve", "--weights", str(served_weights), "--host", "no such host.invalid"]) == 2
    assert "cannot be used" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--weights", str(served_weights), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be used" in capsys.readouterr().err
    save_weights(
        tmp_path / "c.safetensors",
        build(ClassifierConfig(name="lenet5", backbone="lenet5"), ModelMetadata(["a", "b"], [1, 2], size=32)),
    )
    assert main(["serve", "--weights", str(tmp_path / "c.safetensors")]) == 2
    assert "is no detector" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--weights", str(served_weights)]) == 2
    assert "pip install 'gridhead[serve]'" in capsys.readouterr().err


def test_an_answer_takes_any_name():
    from detect.serve.app import JsonAnswer

    content = {"category": "half \ud83d, \x1b[31m and 猫"}
    body = JsonAnswer(content).body
    assert json.loads(body) == content and "猫".encode() in body and b"\x1b" not in body
