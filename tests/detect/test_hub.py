"""Published weights by name: the catalogue, the cache and the download, against a server on this machine."""

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detect.__main__ import main
from detect.convert.imagenet import SIZES
from detect.errors import UserError
from detect.hub import OFFLINE, cache, copy_in, download, find, pull, resolve
from detect.hub.catalogue import RemoteFile, Source, catalogue
from detect.models.backbones import build_network
from tests.reference.file_server import CONTENT, serving
from tests.reference.runs import tiny_weights

ROOT = Path(__file__).parents[2]
LENGTH = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PERMISSIVE = {"Apache-2.0", "BSD-3-Clause", "public domain (YOLO licence 2)"}
DATA = Path(os.environ.get("GRIDHEAD_DATA", "absent"), "weights")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A cache of its own for each test, and no proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in (OFFLINE, "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "cache/gridhead/weights"


@pytest.fixture(scope="module")
def serve():
    with serving() as server:
        yield server


@pytest.fixture
def server(serve):
    serve.asked.clear()
    serve.etag, serve.content = '"one"', CONTENT
    serve.halfway.clear()
    serve.go_on.clear()
    return serve


def made(*urls, sha256=SHA256, length=LENGTH):
    """Published weights of one file, which several places have."""
    file = RemoteFile("w.onnx", tuple(Source(url, sha256, length) for url in urls))
    return replace(catalogue()["yolox_nano"], name="made", files=(file,))


def failure(published):
    """What is said when it cannot be pulled, in one line; nothing but a part may be left."""
    with pytest.raises(UserError) as caught:
        pull(published)
    assert not (cache.folder() / "w.onnx").exists() and "\n" not in str(caught.value)
    return str(caught.value)


# --- the catalogue


def test_every_entry_is_permissive_and_has_a_place_of_its_own():
    entries = list(catalogue().values())
    assert {one.licence for one in entries} <= PERMISSIVE
    files = [file.name for one in entries for file in one.files]
    assert len(set(files)) == len(files)
    for one in entries:
        assert one.name == one.name.lower() and one.page.startswith("https://") and find(one.name) is one
        for source in (source for file in one.files for source in file.sources):
            assert source.url.startswith("https://") and source.bytes <= one.limit
            assert set(source.sha256) <= set("0123456789abcdef") and len(source.sha256) in (0, 8, 64)


def test_the_entries_of_torchvision_are_what_it_says_of_itself():
    models = pytest.importorskip("torchvision.models")
    entries = [one for one in catalogue().values() if one.publisher == "torchvision"]
    for one in entries:
        weights = models.get_model_weights(one.name)["DEFAULT"]
        (scores,), source = weights.meta["_metrics"].values(), one.files[0].sources[0]
        assert weights.url == source.url and f"-{source.sha256}.pth" in source.url
        assert one.score == pytest.approx(scores.get("acc@1", scores.get("mask_map", scores.get("box_map"))), abs=0.06)
        assert one.parameters == pytest.approx(weights.meta["num_params"] / 1e6, abs=0.006)
        assert one.size == pytest.approx(weights.meta["_file_size"] * 2**20 / 1e6, abs=0.06)
        if one.task == "classify":  # a network of ours that equals torchvision's
            with torch.device("meta"):
                network = build_network(one.model, 1000)
            assert network.names and SIZES.get(one.model, network.size) == one.imgsz
    assert len(entries) == 28


@pytest.mark.skipif(not DATA.is_dir(), reason="GRIDHEAD_DATA names no folder with weights")
@pytest.mark.parametrize("name", ["picodet_s_320", "picodet_s_416", "yolox_nano", "yolo_fastest", "yolo_fastest_xl"])
def test_released_files_pass_the_checks_of_their_entries(name):
    for file in catalogue()[name].files:
        cache.require_intact(next(DATA.glob(f"*/{file.name}")), file)


# --- names


def test_a_file_wins_over_a_name_and_a_name_may_be_written_in_any_case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detect.hub.pull", lambda published: Path("cached", published.name))
    assert resolve("YOLOX-Nano") == Path("cached/yolox_nano")
    Path("resnet18").mkdir()  # a folder is no file
    assert resolve("resnet18") == Path("cached/resnet18")
    Path("yolox_nano").touch()
    assert resolve("yolox_nano") == Path("yolox_nano")
    assert resolve(Path("picodet_s_416")) == Path("picodet_s_416")
    assert resolve("absent.onnx") == Path("absent.onnx") and resolve("runs/absent") == Path("runs/absent")
    with pytest.raises(UserError, match=r"neither a file nor a name that `detect weights` lists: did you mean 'yolox_"):
        resolve("yolox_nan")
    with pytest.raises(UserError, match="--weights '': neither a file nor a name"):
        resolve("")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "error: detect weights pull needs the name of published weights: detect weights lists them\n"),
        (["nothing"], "error: detect weights pull nothing: this is not a name that `detect weights` lists\n"),
        (["picodets416"], "a name that `detect weights` lists: did you mean 'picodet_s_416'?\n"),
    ],
)
def test_a_name_to_pull_that_is_missing_or_unknown_is_one_short_line(words, said, capsys):
    assert main(["weights", "pull", *words]) == 2
    assert capsys.readouterr().err.endswith(said)


# --- the download


def test_a_file_is_downloaded_once_and_its_licence_is_said(server, capsys):
    published = made(server.url("file"))
    for _ in range(2):
        assert pull(published).read_bytes() == CONTENT
    assert [path.name for path in cache.folder().iterdir()] == ["w.onnx"] and len(server.asked) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"made: downloading {server.url('file')} (licence Apache-2.0, published by Megvii)"
    ]
    assert said.out == ""


def test_a_cut_connection_is_continued_where_it_broke(server):
    assert pull(made(server.url("cut"))).read_bytes() == CONTENT
    third = len(CONTENT) // 3
    assert server.asked == [
        ("cut", None, None),
        ("cut", f"bytes={third}-", '"one"'),
        ("cut", f"bytes={2 * third}-", '"one"'),
    ]


def test_a_server_that_falls_silent_is_asked_for_the_rest(server, monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", 0.5)
    assert pull(made(server.url("stall"))).read_bytes() == CONTENT
    assert server.asked[1] == ("stall", f"bytes={len(CONTENT) // 2}-", '"one"')


@pytest.mark.parametrize("path", ["whole", "file"])
def test_where_a_range_is_refused_or_the_file_is_another_by_now_it_begins_again(server, path, monkeypatch):
    monkeypatch.setattr(download, "_CUTS", 1)
    published = made(server.url("cut"))
    assert "the connection broke" in failure(published)
    part, note = cache.folder() / "w.onnx.part", cache.folder() / "w.onnx.part.json"
    note.write_text(note.read_text().replace("cut", path))
    server.etag = '"two"'
    part.write_bytes(b"another version".ljust(part.stat().st_size))
    assert pull(made(server.url(path))).read_bytes() == CONTENT
    assert server.asked[-1] == (path, f"bytes={len(CONTENT) // 3}-", '"one"')


def test_a_part_that_is_longer_than_the_file_is_dropped(server, monkeypatch):
    monkeypatch.setattr(download, "_CUTS", 1)
    failure(made(server.url("cut")))
    part, note = cache.folder() / "w.onnx.part", cache.folder() / "w.onnx.part.json"
    note.write_text(note.read_text().replace("cut", "file"))
    part.write_bytes(bytes(len(CONTENT) + 9))
    monkeypatch.setattr(download, "_CUTS", 2)
    assert pull(made(server.url("file"))).read_bytes() == CONTENT


def test_a_connection_that_always_breaks_is_given_up(server):
    assert "broke off 5 times: the connection broke" in failure(made(server.url("long"), length=0))
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "HTTP 404 Not Found"),
        ("login", "a web page came in place of the file"),
        ("disguised", "a web page came in place of the file"),
        ("short", "it has 3,071,993 bytes there"),
        ("long", "it has 3,072,007 bytes there"),
        ("to:file:///etc/passwd", "HTTP 302 Found - Redirection to url 'file:///etc/passwd' is not allowed"),
        ("to:ftp://127.0.0.1/w", "it redirects from http to ftp, which is not followed"),
        ("to:/to:/to:/to:/to:/to:/to:/to:/to:/to:/to:/file", "HTTP 302"),
    ],
)
def test_what_is_no_file_is_told_in_one_line_and_another_source_is_tried(server, path, reason):
    bad = server.url(path)
    said = failure(made(bad))
    assert f"made cannot be downloaded (127.0.0.1:{server.server_port}: {reason}" in said
    assert "put w.onnx into" in said
    assert pull(made(bad, server.url("file"))).read_bytes() == CONTENT


def test_a_page_a_wrong_hash_and_an_endless_answer_are_recognized_without_a_length(server):
    unknown = {"sha256": "", "length": 0}
    assert "a web page came in place of the file" in failure(made(server.url("disguised"), **unknown))
    assert "its SHA-256 is " in failure(made(server.url("file"), sha256="0" * 64))
    small = replace(made(server.url("endless"), **unknown), parameters=-0.2)  # a limit below the length
    assert "it sends more than the " in failure(small)
    assert not list(cache.folder().glob("*"))
    assert pull(made(server.url("endless"), **unknown)).read_bytes() == CONTENT


def test_redirects_are_followed_but_never_from_https_to_http(server):
    assert pull(made(server.url(f"to:{server.url('to:/file')}"))).read_bytes() == CONTENT
    follow, request = download._Redirects().redirect_request, download.urllib.request.Request
    with pytest.raises(download._FailedError, match="from https to http"):
        follow(request("https://a.example/w"), None, 302, "Found", {}, "http://a.example/w")
    assert follow(request("http://a.example/w"), None, 302, "Found", {}, "https://b.example/w").host == "b.example"


def test_the_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url(""))
    assert pull(made("http://weights.example/file")).read_bytes() == CONTENT
    assert server.asked[0][0] == "http://weights.example/file"


def test_without_a_network_it_is_one_line_at_once(monkeypatch, capsys):
    asked = []

    def no_network(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert main(["weights", "pull", "picodet_s_416"]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and said.err.count("no network, or no such host") == 2
    assert len(asked) == 2 and not list(cache.folder().glob("*")) and said.out == ""


@pytest.mark.parametrize("words", [["--offline"], []])
def test_offline_no_connection_is_tried(words, monkeypatch, capsys):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    if not words:
        monkeypatch.setenv(OFFLINE, "1")
    assert main(["weights", "pull", "yolo_fastest", *words]) == 2
    said = capsys.readouterr().err
    assert (
        "--offline or GRIDHEAD_OFFLINE forbids the download" in said and "yolo-fastest-1.1.cfg into that folder" in said
    )
    assert os.environ.get(OFFLINE) == (None if words else "1")


def test_a_full_disk_is_told_and_what_came_is_kept(server, monkeypatch):
    monkeypatch.setattr(download.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(UserError, match=r"w\.onnx\.part cannot be written: No space left; free some space"):
        pull(made(server.url("file")))


# --- processes

CHILD = """
import sys
from dataclasses import replace
from detect.__main__ import main
from detect.hub import catalogue
from detect.hub.catalogue import RemoteFile, Source
files = (RemoteFile("w.onnx", (Source(sys.argv[1], sys.argv[2]),)),)
catalogue()["made"] = replace(catalogue()["yolox_nano"], name="made", files=files)
import detect.commands.weights as command
command._require_fit = lambda *_: "not opened"
command.WeightsConfig.native = False
sys.exit(main(["weights", "pull", "made"]))
"""


def child(url):
    words = [sys.executable, "-c", CHILD, url, SHA256]
    return subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_two_processes_at_once_download_once(server):
    first = child(server.url("stall"))
    assert server.halfway.wait(60)
    second = child(server.url("stall"))
    assert "w.onnx is in use by" in second.stderr.readline()
    threading.Timer(0.2, server.go_on.set).start()
    (out, err), status = first.communicate(), first.wait()
    assert status == 0 and second.wait() == 0, err
    assert (cache.folder() / "w.onnx").read_bytes() == CONTENT and "made: " in out
    assert [path for path, _, version in server.asked if version is None] == ["stall"]
    assert sorted(path.name for path in cache.folder().iterdir()) == ["w.onnx"]
    second.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGINT for one process")
def test_an_interrupt_ends_it_at_once_and_the_next_call_continues(server):
    process = child(server.url("stall"))
    assert server.halfway.wait(60)
    while not (part := cache.folder() / "w.onnx.part").exists() or part.stat().st_size < len(CONTENT) // 2:
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "w.onnx.part keeps what came" in err and "Traceback" not in err
    server.go_on.set()
    assert pull(made(server.url("stall"))).read_bytes() == CONTENT
    assert server.asked[-1] == ("stall", f"bytes={len(CONTENT) // 2}-", '"one"')


# --- files put there by hand


def test_a_file_put_there_by_hand_passes_the_same_checks(empty_cache, monkeypatch):
    monkeypatch.setenv(OFFLINE, "1")
    published = made("https://a.example/w.onnx", "https://b.example/w.onnx")
    (empty_cache).mkdir(parents=True)
    (empty_cache / "w.onnx").write_bytes(CONTENT)
    assert pull(published).read_bytes() == CONTENT
    for content, said in ((CONTENT[:-1], "3,071,999 bytes"), (CONTENT[::-1], "its SHA-256 is"), (b"", "is empty")):
        (empty_cache / "w.onnx").write_bytes(content)
        with pytest.raises(UserError, match=f"{said}.*remove it, and name made again"):
            pull(published)
    assert (empty_cache / "w.onnx").exists()  # it is the user's


def test_a_local_file_is_copied_in_once_it_has_passed(tmp_path):
    published = made("https://a.example/w.onnx")
    (tmp_path / "mine").write_bytes(CONTENT)
    assert copy_in(published, tmp_path / "mine").read_bytes() == CONTENT
    (tmp_path / "mine").write_bytes(b"<html>")
    with pytest.raises(UserError, match="mine is a web page"):
        copy_in(published, tmp_path / "mine")
    assert pull(published).read_bytes() == CONTENT


def test_a_name_is_enough_for_every_command_and_what_does_not_fit_is_not_pulled(tmp_path, monkeypatch, digits, capsys):
    weights = tiny_weights(tmp_path / "mine.safetensors")
    file = RemoteFile("tiny.safetensors", (Source("https://a.example/tiny.safetensors"),))
    tiny = replace(catalogue()["yolox_nano"], name="tiny", files=(file,), classes=10, parameters=0.06)
    monkeypatch.setitem(catalogue(), "tiny", tiny)
    monkeypatch.setitem(catalogue(), "other", replace(tiny, name="other", classes=80))
    assert main(["weights", "pull", "other", "--file", str(weights)]) == 2
    assert "is not other: it holds tiny, 0.06 M parameters, 10 classes, 64 px" in capsys.readouterr().err
    assert main(["weights", "pull", "tiny", "--file", str(weights)]) == 0
    monkeypatch.setattr(socket, "socket", None)
    assert main(["import", "--weights", "Tiny", "--out", str(tmp_path / "out.safetensors")]) == 2
    assert "tiny.safetensors is a weights file of gridhead's already" in capsys.readouterr().err
    assert main(["evaluate", "--weights", "Tiny", "--data", str(digits), "--workers", "0"]) == 0
    assert main(["weights"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny ")]
    assert line.endswith("* tiny.safetensors")


@pytest.mark.parametrize(("content", "said"), [("tiny", "is not made: it holds tiny"), ("", "can be read")])
def test_a_file_in_the_cache_that_is_damaged_or_another_is_told_on_use(
    empty_cache, content, said, digits, capsys, monkeypatch
):
    file = RemoteFile("w.safetensors", (Source("https://a.example/w.safetensors"),))
    monkeypatch.setitem(catalogue(), "made", replace(made(), files=(file,)))
    empty_cache.mkdir(parents=True)
    (empty_cache / file.name).write_bytes(b"nothing")
    if content:
        tiny_weights(empty_cache / file.name)
    assert main(["evaluate", "--weights", "made", "--data", str(digits), "--workers", "0"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.endswith("; remove it, and name made again\n")


def test_info_takes_published_weights_and_names_their_model(capsys):
    assert main(["info", "picodet_s_320"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("picodet_s_320: published weights of the model picodet_s\n")
    assert "picodet_s_416 (AP 30.7)" in out


def test_predict_without_weights_says_the_two_commands_that_work(capsys):
    assert main(["predict", "--source", "my street.jpg"]) == 2
    said = capsys.readouterr().err
    for weights in ("picodet_s_416", "runs/train/best.safetensors"):
        assert f"`detect predict --weights {weights} --source 'my street.jpg'`" in said
    assert main(["verify", "a", "b"]) == 2 and capsys.readouterr().err == "error: detect verify needs --weights\n"
