"""Several streams at once: none waits for another, what breaks off comes back, and memory has bounds."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from detect.__main__ import main
from detect.api import Detector
from detect.config.streams import StreamConfig
from detect.errors import UserError
from detect.inference import streams as module
from detect.inference.pipeline import Job, Summary, predict_jobs, predict_to
from detect.inference.predictor import Predictor
from detect.inference.source import Source, open_source
from detect.inference.stream_list import named_streams, read_streams, reader_of, streams_of
from detect.inference.streams import QUEUE, StreamReader, Streams, in_rounds
from detect.types import Frame, Postprocess
from tests.reference.planted import MagentaFinder, film, moving
from tests.reference.stalled import server

IMAGE = np.zeros((32, 48, 3), np.uint8)


class Part:
    """A camera whose frames come from `frames`, an iterable that may wait or raise."""

    rate, number, count, has_end, live, name = Fraction(10), 0, None, False, True, "cam"

    def __init__(self, frames):
        self.frames = frames

    def __iter__(self):
        for index, image in enumerate(self.frames):
            yield Frame(image, self.name, index, index / 10, part=self.number)

    def close(self):
        pass


def camera(name, *connections, **options):
    """The reader of a camera that gives one iterable of images for each time it is opened; then it cannot be."""
    waiting = iter(connections)

    def opened():
        frames = next(waiting, None)
        if frames is None:
            raise UserError("nobody is there")
        return Source([Part(frames)], "stream")

    return StreamReader(name, opened, **{"retries": 2, **options})


def then_fails(images):
    yield from images
    raise UserError("the cable is out")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "BACK_OFF", (0.01, 0.02))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Four videos, of two sizes."""
    folder = tmp_path_factory.mktemp("films")
    for i in range(4):
        film(
            folder / f"{i}.mkv", moving(9 + i, 96, 128 + 32 * (i % 2))[0], [j / 10 for j in range(9 + i)], Fraction(10)
        )
    return folder


def frames_of(streams):
    with streams:
        return list(itertools.chain.from_iterable(streams))


def test_every_frame_of_files_is_predicted_as_if_each_were_alone(films, tmp_path):
    finder = Predictor(MagentaFinder(), 128, Postprocess(), batch=3)
    paths = sorted(films.iterdir())
    jobs = [Job(reader_of(name, one), name) for name, one in streams_of([str(path) for path in paths]).items()]
    assert [job.folder for job in jobs] == ["0", "1", "2", "3"]
    names, out = (["a", "b"], [1, 2]), tmp_path / "all"
    summaries = predict_jobs(Streams([job.source for job in jobs], 3), jobs, in_rounds(finder), *names, out)
    for path, job, summary in zip(paths, jobs, summaries, strict=True):
        alone = predict_to(open_source(path), finder, *names, tmp_path / "one")
        assert (summary.frames, summary.objects) == (alone.frames, alone.objects) and alone.frames >= 9
        files = [folder / "detections.json" for folder in (tmp_path / "one", out / job.folder)]
        assert files[0].read_text() == files[1].read_text()
        assert len(list(open_source(out / job.folder / f"{job.folder}.mp4"))) == alone.frames
        assert job.source.line(summary.frames) == f"{job.folder}: {alone.frames} frames, 0 lost, 0 reconnects"
    predict_to(open_source(paths[0]), finder, *names, out)
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == ["0.mp4", "detections.json"]


def test_a_stream_that_breaks_off_comes_back_and_goes_on(caplog):
    reader = camera("door", then_fails([IMAGE] * 3), [IMAGE] * 2)
    frames = frames_of(Streams([reader]))
    times = [frame.time for frame in frames]
    back = 2 + max(1, round(10 * (times[3] - times[2])))  # its frames go on as many later as it missed
    assert [frame.index for frame in frames] == [0, 1, 2, back, back + 1]
    assert times == sorted(set(times)) and {frame.name for frame in frames} == {"door"}
    assert (reader.read, reader.lost, reader.reconnects) == (5, 0, 1)
    assert reader.line(5) == "door: 5 frames, 0 lost, 1 reconnect (nobody is there)"
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("door: the cable is out; opening it again in 0.01 s")
    assert said[1:] == [
        "door: is back after 1 attempt",
        "door: it ended; opening it again in 0.01 s, and until it is back",
        "door: given up after 2 attempts",
    ]


def test_a_stalled_stream_holds_up_no_other():
    stalled, came = threading.Event(), []

    def stall():
        yield IMAGE
        stalled.wait(60)

    readers = [camera("stalled", stall(), retries=1), camera("lively", [IMAGE] * 20, retries=1)]
    with Streams(readers) as streams:
        for frames in streams:
            came += [frame.part for frame in frames]
            if came.count(1) == 20:
                assert not stalled.is_set()
                stalled.set()
    assert (came.count(0), came.count(1)) == (1, 20)


def test_what_waits_has_bounds():
    large = np.zeros((1200, 1600, 3), np.uint8)
    given = {"small": IMAGE, "large": large, "latest": IMAGE}
    readers = [camera(name, itertools.repeat(one), latest=name == "latest") for name, one in given.items()]
    small, big, latest = readers
    ready = threading.Condition()
    for reader in readers:
        reader.start(0, 2 * large.nbytes, ready)
    while small.read < QUEUE + 1 or big.read < 3 or latest.read < 50:
        time.sleep(0.001)
    with ready:
        assert [len(reader.queue) for reader in readers] == [QUEUE, 2, 1]
        assert (small.read, big.read) == (QUEUE + 1, 3)  # one waits in the reader's hand
        assert (small.lost, big.lost, latest.lost) == (0, 0, latest.read - 1)
    for reader in readers:
        reader.stop()
        reader.join(60)
        assert reader.finished


def test_streams_take_turns(monkeypatch):
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 2)
    readers = [camera(f"{i}", [IMAGE] * 4, retries=1) for i in range(3)]
    streams, rounds = Streams(readers), []
    with streams:
        while not all(reader.finished for reader in readers):
            time.sleep(0.001)
        rounds += [[frame.part for frame in frames] for frames in streams]
    assert rounds == [[0, 1], [2, 0], [1, 2]] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_finishes_every_writer(number, tmp_path):
    jobs = [Job(camera(name, itertools.repeat(IMAGE), latest=latest), name) for name, latest in (("a", 1), ("b", 0))]
    jobs.append(Job(camera("stalled", iter(threading.Event().wait, True)), "stalled"))
    summaries = [Summary() for _ in jobs]
    finder, asked = in_rounds(Predictor(MagentaFinder(), 64, Postprocess())), []

    def until(streams):
        for pair in finder(streams):
            yield pair
            if min(summary.frames for summary in summaries[:2]) >= 3 and not asked:
                asked.append(os.kill(os.getpid(), number))

    frames = Streams([job.source for job in jobs])
    with pytest.raises(KeyboardInterrupt):
        predict_jobs(frames, jobs, until, ["a", "b"], [1, 2], tmp_path, summaries=summaries)
    for name, summary in zip("ab", summaries, strict=False):
        assert json.loads((tmp_path / name / "detections.part.json").read_text()) == []
        assert len(list(open_source(tmp_path / name / f"{name}.mp4"))) == summary.frames
    assert list((tmp_path / "stalled").iterdir()) == []


def test_a_full_disk_ends_all_and_says_what_is_kept(films, tmp_path, monkeypatch):
    jobs = [Job(reader_of(name, one), name) for name, one in streams_of([str(p) for p in films.iterdir()]).items()]

    def full(self, annotated, time):
        if time > 0.5:
            raise OSError(28, "No space left on device", "v.mp4")

    monkeypatch.setattr("detect.inference.video_writer.VideoWriter.write", full)
    finder, frames = in_rounds(Predictor(MagentaFinder(), 64, Postprocess())), Streams([job.source for job in jobs])
    with pytest.raises(UserError, match=r"v\.mp4: cannot be written \(No space.*\); the \d+ frames before are in .*\*"):
        predict_jobs(frames, jobs, finder, ["a", "b"], [1, 2], tmp_path)
    assert len(list(tmp_path.glob("*/detections.part.json"))) == 4


def test_streams_that_are_not_there_are_no_reason_to_wait_for_ever(films):
    with pytest.raises(UserError, match="no stream can be read; the first: door: nobody is there"):
        frames_of(Streams([camera("door", retries=0), camera("yard", retries=0)]))
    file, door = reader_of("f", streams_of([str(films / "0.mkv")])["0"]), camera("door", retries=0)
    assert len(frames_of(Streams([file, door]))) == 9
    assert door.line(0) == "door: 0 frames, 0 lost, 0 reconnects (nobody is there)"


@pytest.mark.slow
def test_a_server_that_stalls_is_asked_again_while_others_go_on(films, tmp_path, monkeypatch):
    film(tmp_path / "clip.ts", moving(20)[0], [Fraction(i, 10) for i in range(20)], Fraction(10))
    monkeypatch.setattr("detect.inference.video.NETWORK_TIMEOUT", (5.0, 5.0))
    url, _ = server("body", (tmp_path / "clip.ts").read_bytes())
    named = {"stalls": StreamConfig(url, "every"), "file": StreamConfig(str(films / "0.mkv"))}
    stalls, file = readers = [reader_of(name, one) for name, one in named.items()]
    came = []
    with Streams(readers) as streams:
        for frames in streams:
            came += [(frame.part, frame.index) for frame in frames]
            if stalls.reconnects == 2:
                break
    assert file.finished and [index for part, index in came if part == 1] == list(range(9))
    indices = [index for part, index in came if part == 0]
    breaks = [b - a for a, b in itertools.pairwise(indices) if b > a + 1]
    assert indices == sorted(set(indices)) and len(indices) > 20 and len(breaks) == 2


PRODUCER = """
import socket, sys, time
with open(sys.argv[2], "rb") as file:
    data = file.read()
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(server.getsockname()[1], flush=True)
while True:
    peer, _ = server.accept()
    peer.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Type: video/mp2t\\r\\n\\r\\n")
    for i in range(0, len(data), 1880):
        peer.sendall(data[i : i + 1880])
        time.sleep(0.02)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_producer_that_is_killed_holds_up_no_other_and_comes_back(films, tmp_path):
    """It is killed while it sends, and runs again once the other stream is at its end."""
    film(tmp_path / "clip.ts", moving(40)[0], [Fraction(i, 10) for i in range(40)], Fraction(10))

    def produce(port):
        words = [sys.executable, "-c", PRODUCER, str(port), str(tmp_path / "clip.ts")]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        return process, int(process.stdout.readline())

    process, port = produce(0)
    named = {
        "cut": StreamConfig(f"http://127.0.0.1:{port}/live.ts", "every"),
        "file": StreamConfig(str(films / "0.mkv")),
    }
    cut, file = readers = [reader_of(name, one) for name, one in named.items()]
    came, killed = {0: [], 1: []}, False
    with Streams(readers) as streams:
        for frames in streams:
            for frame in frames:
                came[frame.part].append(frame.index)
            if len(came[0]) > 5 and not killed:
                process.kill()
                process.wait()
                killed = True
            if killed and file.finished and process.returncode is not None:
                process, _ = produce(port)
            if cut.reconnects and len(came[0]) > 30:
                break
    process.kill()
    assert came[1] == list(range(9)) and cut.reconnects == 1 and came[0] == sorted(set(came[0]))


def test_streams_are_named_after_what_they_are():
    named = streams_of(["a/x.mp4", "b/X.mp4", "0", "rtsp://me:secret@10.0.0.7:554/live/1?key=2", "x y/c.d.mov"])
    assert list(named) == ["x", "X-2", "camera-0", "10.0.0.7-live-1", "c.d"]
    with pytest.raises(UserError, match="names a twice"):
        streams_of(["a", "b", "a"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "names no streams"),
        ("just words", "names no streams"),
        ("a: x.mp4\na: y.mp4", "there twice"),
        ("a: x.mp4\nA: y.mp4", "there twice"),
        ("../a: x.mp4", "cannot be the name"),
        ("a.: x.mp4", "cannot be the name"),
        ("a: {source: x.mp4, policyy: latest}", "did you mean 'policy'"),
        ("a: {source: x.mp4, policy: newest}", "policy"),
        ("a: {policy: latest}", "a.source is not there"),
        ("a: [x.mp4]", "a.source"),
        ("a: {source: x.mp4, lines: 3}", "a.lines"),
        ("a: missing.mp4", "stream a: source '.*missing.mp4': no such file"),
        ("a: text.mp4", "stream a: .*text.mp4: not an image or a video"),
        ("a: stills", "stream a: .*is a folder, or a list"),
        ("a: still.png", "is no video"),
    ],
)
def test_a_mistake_in_a_file_of_streams_is_named(text, said, tmp_path):
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "stills").mkdir()
    for name in ("still.png", "stills/1.png", "stills/2.png"):
        Image.fromarray(IMAGE).save(tmp_path / name)
    with pytest.raises(UserError, match=said):
        [reader_of(name, one) for name, one in read_streams(path).items()]


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("a: {source: 0, zones: [[0, 0, 1, 0, 1, 1]]}", [], "stream a has lines or zones, which are read with --track"),
        ("a: {source: 0, homography: [[1, 0, 0]]}", [], "stream a has a homography, which is read with --speed"),
        ("a: 0", ["--resume"], "--resume is for one source"),
        ("a: 0", ["--json"], "--json is for one source"),
        ("", ["--policy", "latest"], "--policy is for several sources"),
    ],
)
def test_options_that_nothing_would_read_are_refused(text, flags, said, tmp_path, capsys):
    (tmp_path / "cameras.yaml").write_text(text)
    source = tmp_path / "cameras.yaml" if text else "clip.mp4"
    assert main(["predict", "--weights", "w", "--source", str(source), *flags]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and said in errors[0]


def test_the_command_predicts_every_stream_into_its_own_folder(tmp_path, films, served_weights, capsys):
    path, out = tmp_path / "cameras.yaml", tmp_path / "out"
    (tmp_path / "2.mkv").symlink_to(films / "2.mkv")
    path.write_text(f"yard: 2.mkv\ndoor: {{source: {films / '3.mkv'}, lines: [[64, 0, 64, 96]]}}\n")
    flags = [
        *f"--weights {served_weights} --device cpu --precision float32".split(),
        "--out",
        str(out),
        "--track",
        "--imgsz",
        "64",
    ]
    assert main(["predict", "--source", str(path), *flags]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["yard: 11 frames, 0 lost, 0 reconnects", "door: 12 frames, 0 lost, 0 reconnects"]
    assert said[2].startswith("23 frames: ")
    assert sorted(p.name for p in (out / "yard").iterdir()) == ["2.mp4", "detections.json"]
    assert list(json.loads((out / "door" / "counts.json").read_text())) == ["3.mkv"]
    (tmp_path / "text.mp4").write_text("no video")
    both = ["--source", str(films / "2.mkv"), str(tmp_path / "text.mp4")]
    assert main(["predict", *both, *flags, "--skip-bad"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("2: 11 frames, 0 lost") and "left out: stream text: " in said.err
    assert not (out / "yard" / "detections.json").exists()


def test_streams_in_python(films, served_weights):
    model = Detector.load(served_weights, "cpu", "float32")
    sources = {"a": str(films / "0.mkv"), "b": {"source": str(films / "1.mkv"), "policy": "every"}}
    came = [(name, frame.index) for name, frame, result in model.streams(sources, imgsz=64) if result.names]
    assert [index for name, index in came if name == "a"] == list(range(9)) and len(came) == 19
    with pytest.raises(UserError, match="policy"):
        model.streams(sources, policy="newest")
    next(model.streams(sources, imgsz=64))[1].image  # noqa: B018  (left early)


def test_a_camera_may_be_a_number_and_files_are_relative_to_the_list(tmp_path):
    named = named_streams({"a": 0, 7: {"source": "x.mp4"}, "c": "rtsp://h/x"}, "list", tmp_path)
    assert [one.source for one in named.values()] == ["0", str(tmp_path / "x.mp4"), "rtsp://h/x"]
    assert list(named) == ["a", "7", "c"] and reader_of("a", named["a"]).latest
    assert not reader_of("a", named["a"], "every").latest
