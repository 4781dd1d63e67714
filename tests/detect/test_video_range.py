"""Ranges of a long video: together they are the frames of the undivided one, to the bit, or it is not divided."""

import tarfile
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from detect.inference import video_range
from detect.inference.folder import files_of
from detect.inference.video import Video
from detect.inference.video_range import RepeatableVideo, VideoRange, ranges_of

FRAMES, SIZE = 60, 20
X264 = {"g": "12", "bf": "3"}


def encode(path: Path, encoder: str, options: dict, times=None) -> Path:
    """A film of noise that moves, in which every frame differs from all others."""
    if encoder not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {encoder}")
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=25, options=options)
        stream.height, stream.width = noise.shape[:2]
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 12
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, (2 * i, 3 * i), (0, 1)), format="rgb24")
            if times:
                frame.pts, frame.time_base = times(i), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def rewrite(source: Path, target: Path, change=lambda number, packet: None) -> Path:
    """Copy the packets of a film into another container."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(video=0)):
            if packet.size:
                change(number, packet)
                packet.stream = stream
                written.mux(packet)
    return target


@pytest.fixture(autouse=True)
def short_is_long(monkeypatch):
    monkeypatch.setattr(video_range, "LEAST", 0)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("film") / "closed.mp4", "libx264", X264)


def pixels(frames):
    return [(one.index, one.time, one.name, one.image.tobytes()) for one in frames]


def of_ranges(path, ranges, stride=1):
    """The frames of all ranges, each opened anew, and what they report."""
    parts = [VideoRange(path, "film", one, stride) for one in ranges]
    return [frame for part in parts for frame in pixels(part)], [part.report for part in parts]


@pytest.mark.parametrize(
    ("name", "encoder", "options"),
    [
        ("b.mkv", "libx264", X264),
        ("hevc.mp4", "libx265", {"x265-params": "open-gop=0:keyint=12:bframes=3:log-level=none"}),
        ("vp9.webm", "libvpx-vp9", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}),
        ("mpeg4.mp4", "mpeg4", {"g": "12"}),
        ("mjpeg.mov", "mjpeg", {}),
    ],
)
def test_ranges_are_the_undivided_video(name, encoder, options, tmp_path) -> None:
    path = encode(tmp_path / name, encoder, options)
    ranges = ranges_of(path, SIZE)
    assert len(ranges) > 1 and min(one.length for one in ranges[:-1]) >= SIZE
    assert of_ranges(path, ranges) == (pixels(Video(path, "film")), [""] * len(ranges))


def test_ranges_of_a_film_with_a_stride_and_within_a_tar(film, tmp_path) -> None:
    ranges = ranges_of(film, SIZE)
    assert [(one.first, one.length) for one in ranges] == [(0, 24), (24, 24), (48, 12)]
    for stride in (1, 7, 50):
        expected = pixels(Video(film, "film", stride))
        assert of_ranges(film, ranges, stride) == (expected, [""] * 3)
        assert sum(one.taken(stride) for one in ranges) == len(expected)
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(film, "a/film.mp4")
    (inside,) = files_of(str(tmp_path / "shard.tar"))
    assert ranges_of(inside, SIZE) == ranges
    assert of_ranges(inside, ranges) == (pixels(Video(film, "film")), [""] * 3)


@pytest.mark.parametrize("kind", ["refresh", "open", "varying", "ts", "avi", "short", "cut", "no video"])
def test_what_cannot_be_divided_for_sure_stays_whole(kind, film, tmp_path, monkeypatch) -> None:
    path = film
    if kind == "refresh":  # no frame from which a decoder may begin
        path = encode(tmp_path / "r.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0"})
    elif kind == "open":  # frames before a key frame refer to it, and to those before
        path = encode(tmp_path / "o.mp4", "libx264", {"x264-params": "open-gop=1:bframes=3:keyint=12"})
    elif kind == "varying":
        path = encode(tmp_path / "v.mp4", "libx264", X264, lambda i: 3600 * i + 9000 * (i // 10))
    elif kind == "ts":
        path = rewrite(film, tmp_path / "film.ts")
    elif kind == "avi":
        path = encode(tmp_path / "film.avi", "mpeg4", {"g": "12"})
    elif kind == "short":
        monkeypatch.setattr(video_range, "LEAST", 4096)
    else:
        path = tmp_path / "film.mp4"
        path.write_bytes(b"no video" if kind == "no video" else film.read_bytes()[:-100])
    assert ranges_of(path, SIZE) == []


def test_a_container_that_lies_about_key_frames_changes_no_frame(film, tmp_path) -> None:
    def lie(number, packet):
        packet.is_keyframe = packet.is_keyframe or number in (20, 43)

    path = rewrite(film, tmp_path / "lies.mp4", lie)
    expected = pixels(Video(path, "film"))
    found = video_range._cut(*video_range._packets(path, 10**9), 10)
    assert len(found) > 4  # some begin at frames that are none
    assert of_ranges(path, found) == (expected, [""] * len(found))


def test_a_damaged_range_is_read_as_by_the_undivided_video(film, tmp_path) -> None:
    with av.open(str(film)) as container:
        hurt = next(islice(container.demux(video=0), 43, None))
        begin = hurt.pos + hurt.size // 4
    data = film.read_bytes()
    (tmp_path / "hurt.mp4").write_bytes(data[:begin] + bytes(hurt.size // 2) + data[begin + hurt.size // 2 :])
    ranges = ranges_of(tmp_path / "hurt.mp4", SIZE)
    assert len(ranges) == 3
    frames, reports = of_ranges(tmp_path / "hurt.mp4", ranges)
    for threads in ("NONE", "AUTO"):  # of them depends what a decoder makes of damage
        whole = RepeatableVideo(tmp_path / "hurt.mp4", "film")
        whole.threads = threads
        assert frames == pixels(whole)
    assert bool(whole.report) == (len(frames) < FRAMES) == bool(reports[1]) and not reports[0] + reports[2]
    plain = pixels(Video(tmp_path / "hurt.mp4", "film"))
    assert [one[:3] for one in plain] == [one[:3] for one in frames]
