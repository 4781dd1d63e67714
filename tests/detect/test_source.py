"""Every kind of source gives upright RGB frames with their names and times, or one clear line."""

import contextlib
import gc
import itertools
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideData
from PIL import Image, ImageOps, TiffImagePlugin

from detect.data.images import read_header
from detect.errors import UserError
from detect.inference import video
from detect.inference.demuxers import allowed
from detect.inference.source import open_source
from tests.reference.planted import film, moving, planted


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in (10, 9, 1):
        save(tmp_path / "ä b" / f"shot {i}.png", planted(20, 30, (i, 0, i + 5, 5)))
    (tmp_path / "ä b" / "notes.txt").write_text("no image")
    save(tmp_path / "ä b" / ".hidden.png", planted(4, 4, None))
    return tmp_path / "ä b"


def test_one_image(folder: Path) -> None:
    source = open_source(str(folder / "shot 1.png"))
    assert (source.count, source.kind, source.is_video, source.fps) == (1, "images", False, None)
    (frame,) = source
    assert (frame.name, frame.index, frame.time) == ("shot 1.png", 0, None)
    assert np.array_equal(frame.image, planted(20, 30, (1, 0, 6, 5)))


def test_folder_in_natural_order(folder: Path) -> None:
    assert [f.name for f in open_source(folder)] == ["shot 1.png", "shot 9.png", "shot 10.png"]


def test_skipped_files_are_counted_by_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "x.png", planted(4, 4, None))
    with caplog.at_level(logging.WARNING):
        assert open_source(tmp_path).count == 1 and not caplog.records
        for name in ("notes.txt", "a.doc", ".DS_Store", "raw.cr2"):
            (tmp_path / name).write_text("x")
        (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
        save(tmp_path / "deep" / "y.png", planted(4, 4, None))
        assert open_source(tmp_path).count == 1
    (record,) = caplog.records
    said = record.getMessage()
    for reason in (
        "2 of other types (a.doc)",
        "1 hidden (.DS_Store)",
        "1 in formats that cannot be decoded (raw.cr2)",
        "1 broken links (gone.png)",
        "1 folders (deep)",
        "--recursive",
    ):
        assert reason in said
    assert "\n" not in said


def test_folders_are_looked_into_on_request_and_links_go_round_no_circle(tmp_path: Path) -> None:
    for name in ("x.png", "a/x.png", "a/b/10.png", "a/b/9.png", ".git/x.png"):
        save(tmp_path / "in" / name, planted(4, 4, None))
    save(tmp_path / "other" / "z.png", planted(4, 4, None))
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "a")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "other")
    assert [f.name for f in open_source(tmp_path / "in")] == ["x.png"]
    names = [f.name for f in open_source(tmp_path / "in", recursive=True)]
    assert names == ["a/b/9.png", "a/b/10.png", "a/x.png", "more/z.png", "x.png"]


def test_a_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        save(path, planted(4, 4, None))
    except OSError:
        pytest.skip("this file system takes only text")
    assert open_source(tmp_path).count == len(list(open_source(tmp_path))) == 1


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tif", "x.avif"])
def test_every_page_and_frame_is_given(tmp_path: Path, name: str) -> None:
    images = [Image.fromarray(planted(20, 30, (i, 0, i + 5, 5))) for i in range(3)]
    try:
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], lossless=True, quality=100)
    except (OSError, KeyError):
        pytest.skip("this Pillow does not write it")
    frames = list(open_source(tmp_path / name))
    assert [(f.name, f.index, f.time, f.pages) for f in frames] == [(name, i, None, 3) for i in range(3)]
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - np.asarray(image)).mean() < 6
    if name != "x.png":
        assert open_source(tmp_path / name).count == 3


def test_pages_of_any_kind_and_turn(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    grey = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    pages = [Image.fromarray(planted(20, 30, (0, 0, 9, 9))), Image.fromarray(grey), Image.new("CMYK", (8, 4))]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    shapes = [f.image.shape for f in open_source(tmp_path / "x.tif")]
    assert shapes == [(20, 30, 3), (20, 30, 3), (4, 8, 3)]
    second = list(open_source(tmp_path / "x.tif"))[1].image
    assert np.array_equal(second[..., 0], grey >> 8)
    pages[0].save(tmp_path / "y.webp", save_all=True, append_images=[pages[0].rotate(180)], exif=tags, lossless=True)
    first, second = (f.image for f in open_source(tmp_path / "y.webp"))
    assert first.shape == (30, 20, 3) and np.array_equal(second, first[::-1, ::-1])


def test_copies_in_small_and_hidden_images_are_counted_not_given(tmp_path: Path) -> None:
    image, small = (Image.fromarray(planted(h, 2 * h, (0, 0, 3, 3))) for h in (40, 20))
    reduced = TiffImagePlugin.ImageFileDirectory_v2()
    reduced[254] = 1
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "x.tif"), True) as file:
        image.save(file, "TIFF")
        file.newFrame()
        small.save(file, "TIFF", tiffinfo=reduced)
    source = open_source(tmp_path / "x.tif")
    assert [(f.image.shape, f.pages) for f in source] == [((40, 80, 3), 1)] and source.hidden == 1
    image.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[small])
    source = open_source(tmp_path / "x.jpg")
    assert [(f.image.shape, f.pages) for f in source] == [((40, 80, 3), 1)] and source.hidden == 1


def test_a_broken_page_is_named(tmp_path: Path) -> None:
    noise = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (60, 60, 3), np.uint8)) for i in range(3)]
    noise[0].save(tmp_path / "x.tif", save_all=True, append_images=noise[1:], compression="tiff_deflate")
    data = bytearray((tmp_path / "x.tif").read_bytes())
    with Image.open(tmp_path / "x.tif") as opened:
        opened.seek(1)
        start = opened.tag_v2[273][0]
    data[start : start + 4000] = bytes(4000)
    (tmp_path / "x.tif").write_bytes(data)
    frames = iter(open_source(tmp_path / "x.tif"))
    next(frames)
    with pytest.raises(UserError, match=r"x\.tif, page 1: "):
        next(frames)


def test_large_images_are_read_up_to_a_limit_that_has_a_flag(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "x.tif", compression="group4")  # above what Pillow refuses
    assert read_header(tmp_path / "x.tif").size == (10_000, 20_000)
    assert not recwarn.list
    with pytest.raises(UserError, match=r"x\.tif: .* 20000 x 10000 .*--max-pixels"):
        list(open_source(tmp_path / "x.tif", max_pixels=199_999_999))
    small, large = Image.new("L", (10, 10)), Image.new("L", (100, 100))
    small.save(tmp_path / "y.tif", save_all=True, append_images=[large])
    with pytest.raises(UserError, match=r"y\.tif, page 1: .* 100 x 100 "):
        list(open_source(tmp_path / "y.tif", max_pixels=5000))


def test_glob_names_keep_the_folders_that_differ(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x.png", planted(4, 4, None))
    save(tmp_path / "a" / "deep" / "x.png", planted(4, 4, None))
    assert [f.name for f in open_source(str(tmp_path / "**" / "*.png"))] == ["deep/x.png", "x.png"]
    assert [f.name for f in open_source(str(tmp_path / "a" / "*.png"))] == ["x.png"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    path = save(tmp_path / "a[1].png", planted(4, 4, None))
    assert [f.name for f in open_source(str(path))] == ["a[1].png"]


def test_an_image_without_suffix_is_known_by_its_content(tmp_path: Path) -> None:
    save(tmp_path / "x.png", planted(4, 6, None)).rename(tmp_path / "blob")
    (frame,) = open_source(tmp_path / "blob")
    assert frame.image.shape == (4, 6, 3)


def test_arrays_images_and_tensors() -> None:
    image = planted(20, 30, (3, 4, 9, 8))
    chw = torch.from_numpy(image).permute(2, 0, 1)
    given = [image, image[:, :, 0], Image.fromarray(image), chw, chw.float() / 255, image[::-1]]
    source = open_source(given)
    frames = [frame.image for frame in source]
    assert source.count == len({f.name for f in source}) == 6
    assert all(f.dtype == np.uint8 and f.shape == (20, 30, 3) and f.flags.c_contiguous for f in frames)
    assert all(np.array_equal(frames[i], image) for i in (0, 2, 3, 4))
    assert np.array_equal(frames[1], np.repeat(image[:, :, :1], 3, axis=2))
    assert np.array_equal(frames[5], image[::-1])


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        torch.zeros(4, 4, 3, dtype=torch.uint8),
        torch.full((3, 4, 4), 2.0),
        torch.full((3, 4, 4), float("nan")),
        object(),
    ],
)
def test_what_is_no_image_is_refused(bad: object) -> None:
    with pytest.raises(UserError, match="is not an image"):
        list(open_source(bad))


def test_a_mixed_list(folder: Path) -> None:
    names = [f.name for f in open_source([folder / "shot 9.png", planted(4, 4, None), str(folder / "shot 1.png")])]
    assert names == ["shot 9.png", "image-1", "shot 1.png"]


def test_mistakes_are_one_line(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "fake.mp4").write_text("this is text")
    for bad, message in {
        str(tmp_path / "nowhere.jpg"): "no such file",
        str(tmp_path / "empty"): "no image or video",
        str(tmp_path / "*.jpg"): "no image or video",
        "x" * 5000: "name too long",
        str(folder / "notes.txt"): "notes.txt",
        str(tmp_path / "fake.mp4"): "fake.mp4",
        "http://127.0.0.1:9/x.mp4": "127.0.0.1/x.mp4",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            open_source(bad)
        assert "\n" not in str(caught.value)
    for nothing in ([], None, True):
        with pytest.raises(UserError, match="name an image"):
            open_source(nothing)
    with pytest.raises(UserError, match="vid-stride"):
        open_source(folder, vid_stride=0)


def test_a_password_in_a_url_stays_out_of_messages() -> None:
    with pytest.raises(UserError) as caught:
        open_source("rtsp://me:secret@127.0.0.1:9/live")
    assert "secret" not in str(caught.value)


def test_video_frames_names_and_times(tmp_path: Path) -> None:
    images, _ = moving(12)
    rate = Fraction(30000, 1001)
    film(tmp_path / "clip é.mkv", images, [i / rate for i in range(12)], rate)
    film(tmp_path / "clip.mp4", images, [i / rate for i in range(12)], rate)
    source = open_source(tmp_path / "clip.mp4")
    assert (source.count, source.kind, source.is_video, source.fps) == (12, "video", True, rate)
    for path in (tmp_path / "clip.mp4", tmp_path / "clip é.mkv"):
        frames = list(open_source(path))
        assert [f.index for f in frames] == list(range(12))
        assert [f.time for f in frames] == pytest.approx([float(i / rate) for i in range(12)], abs=0.001)
        assert {f.name for f in frames} == {path.name}
        for frame, image in zip(frames, images, strict=True):
            assert np.abs(frame.image.astype(int) - image).mean() < 3


def test_a_variable_rate_keeps_its_times_and_a_source_can_be_read_twice(tmp_path: Path) -> None:
    times = [Fraction(n, 1000) for n in (0, 40, 80, 400, 410, 1000)]
    film(tmp_path / "v.mp4", moving(6)[0], times, Fraction(25))
    source = open_source(tmp_path / "v.mp4")
    for _ in range(2):
        assert [f.time for f in source] == pytest.approx([float(t) for t in times], abs=1e-4)


def test_stride(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", moving(10)[0], [Fraction(i, 10) for i in range(10)], Fraction(10))
    source = open_source(tmp_path / "v.mp4", vid_stride=3)
    frames = list(source)
    assert (source.count, source.fps) == (4, Fraction(10, 3))
    assert [f.index for f in frames] == [0, 3, 6, 9]
    assert [f.time for f in frames] == pytest.approx([0, 0.3, 0.6, 0.9])


def test_images_and_videos_of_a_folder(tmp_path: Path) -> None:
    save(tmp_path / "2.png", planted(4, 4, None))
    film(tmp_path / "10.mp4", moving(3)[0], [Fraction(i, 10) for i in range(3)], Fraction(10))
    source = open_source(tmp_path)
    assert (source.kind, source.count, source.rates) == ("mixed", 4, {"10.mp4": 10})
    assert [f.name for f in source] == ["2.png", "10.mp4", "10.mp4", "10.mp4"]


@pytest.mark.slow
def test_a_long_video_leaves_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", moving(60)[0], [Fraction(i, 10) for i in range(60)], Fraction(10))
    gc.collect()
    before = images_alive()
    gc.disable()
    try:
        for _ in open_source(tmp_path / "v.mp4"):
            pass
        left = images_alive() - before
    finally:
        gc.enable()
    assert left <= 4


def images_alive() -> int:
    return sum(type(thing) in (av.VideoFrame, SideDataContainer) for thing in gc.get_objects())


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda i: np.rot90(i, -1)),
        ((-1, 0, 0, -1), lambda i: np.rot90(i, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), np.fliplr),
    ],
)
def test_a_turned_video_is_set_upright(tmp_path: Path, matrix: tuple[int, ...], turn) -> None:
    path = tmp_path / "v.mp4"
    image = planted(96, 128, (4, 4, 40, 20))
    film(path, [image] * 2, [Fraction(0), Fraction(1, 10)], Fraction(10))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix of a track header of version 0
    a, b, c, d = (v << 16 for v in matrix)
    data[at : at + 20] = struct.pack(">5i", a, b, 0, c, d)
    path.write_bytes(data)
    for frame in open_source(path):
        assert frame.image.shape == turn(image).shape
        assert np.abs(frame.image.astype(int) - turn(image)).mean() < 3


def test_a_truncated_video_gives_what_can_be_decoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 96, 128, 3), np.uint8)
    film(tmp_path / "v.avi", list(noise), [Fraction(i, 10) for i in range(30)], Fraction(10))
    data = (tmp_path / "v.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(tmp_path / "cut.avi"))
    assert 5 < len(frames) < 30
    assert "cut.avi: " in caplog.text

    broken = bytearray(data)
    broken[len(data) // 2 : len(data) // 2 + 40_000] = bytes(40_000)
    (tmp_path / "broken.avi").write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(tmp_path / "broken.avi"))
    assert 5 < len(frames) < 30
    assert "broken.avi: " in caplog.text


def striped(number: int) -> np.ndarray:
    """An image (96, 128, 3) that tells its number below 64 in six bright or dark stripes, over noise."""
    image = np.random.default_rng(number).integers(90, 160, (96, 128, 3), np.uint8)
    for bit in range(6):
        image[16 * bit : 16 * bit + 16, :64] = 250 if number >> bit & 1 else 5
    return image


def told(image: np.ndarray) -> int:
    return sum(int(image[16 * bit + 8, 20:50].mean() > 128) << bit for bit in range(6))


def recorded(path: Path, count: int = 40, codec: str = "libx264") -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"g": "5"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(striped(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("name", ["v.mp4", "v.avi", "v.mkv", "v.ts"])
def test_frames_keep_their_numbers_where_others_are_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, stride: int
) -> None:
    data = bytearray(recorded(tmp_path / name))
    start, hole = len(data) * 2 // 5, len(data) // 6
    data[start : start + hole] = bytes(hole)
    (tmp_path / name).write_bytes(data)
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(tmp_path / name, stride))
    after = [f for f in frames if f.index >= 30]
    assert [f.index for f in after] == [n for n in range(30, 40) if n % stride == 0] == [told(f.image) for f in after]
    assert [f.time - frames[0].time for f in after] == pytest.approx([f.index / 10 for f in after], abs=0.01)
    assert all(f.index % stride == 0 for f in frames) and len(frames) < 40 / stride
    (record,) = caplog.records
    assert " of 40 frames could be read" in record.getMessage()


@pytest.mark.parametrize(("name", "said"), [("v.avi", " of 40 frames"), ("v.mkv", " s of 4.0 s")])
def test_a_video_that_ends_too_early_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    data = recorded(tmp_path / name)
    av.logging.set_level(av.logging.ERROR)  # as importing torchvision 0.21 does
    with caplog.at_level(logging.WARNING):
        assert len(list(open_source(tmp_path / name))) == 40 and not caplog.records
        (tmp_path / name).write_bytes(data[: len(data) * 3 // 5])
        numbers = [(f.index, told(f.image)) for f in open_source(tmp_path / name)]
    assert 10 < len(numbers) < 40 and all(index == true for index, true in numbers[:-2])
    assert [said in r.getMessage() for r in caplog.records] == [True]


def test_time_stamps_that_start_again_go_on(tmp_path: Path) -> None:
    data = recorded(tmp_path / "v.ts")
    (tmp_path / "v.ts").write_bytes(data * 3)
    frames = list(open_source(tmp_path / "v.ts"))
    assert frames[-1].index == 119 and frames[-1].time - frames[0].time == pytest.approx(11.9, abs=0.01)
    assert all(a.time < b.time and a.index < b.index for a, b in itertools.pairwise(frames))
    assert {f.index % 40 for f in frames} >= {told(f.image) for f in frames}
    assert [f.index % 40 for f in frames] == [told(f.image) for f in frames]


def test_times_of_an_avi_with_reordered_frames_do_not_run_back(tmp_path: Path) -> None:
    recorded(tmp_path / "v.avi")  # it keeps no presentation times
    frames = list(open_source(tmp_path / "v.avi"))
    assert [f.index for f in frames] == [told(f.image) for f in frames] == list(range(40))
    assert [f.time for f in frames] == pytest.approx([i / 10 for i in range(40)])


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_in_a_moving_image_turns_it(tmp_path: Path, turn: int) -> None:
    image = planted(96, 128, (4, 4, 40, 20))
    tags = Image.Exif()
    tags[0x0112] = turn
    Image.fromarray(image).save(tmp_path / "p.jpg", exif=tags, quality=95, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "p.jpg")).convert("RGB")).astype(int)
    data = (tmp_path / "p.jpg").read_bytes()
    (tmp_path / "v.mjpeg").write_bytes(data * 3)
    frames = list(open_source(tmp_path / "v.mjpeg"))
    assert len(frames) == 3
    for frame in frames:
        assert frame.image.shape == upright.shape and np.abs(frame.image - upright).mean() < 4


def test_side_data_that_cannot_be_read_is_ignored() -> None:
    class Picture:
        def __init__(self, data: object) -> None:
            self.data = data

        @property
        def side_data(self) -> object:
            if isinstance(self.data, Exception):
                raise self.data
            return self.data

    contents: list[object] = [None, b"", b"x", bytes(36), 7.5]
    for data in [ValueError("31"), KeyError(7), None, {}, *({SideData.DISPLAYMATRIX: c} for c in contents)]:
        assert video.display_matrix(Picture(data)) == (1, 0, 0, 1)
    turned = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], np.int32).tobytes()
    both = {SideData(99): b"x", SideData.DISPLAYMATRIX: turned}  # 99: a type that PyAV has no name for
    assert video.display_matrix(Picture(both)) == (0, 1 << 16, -1 << 16, 0)


def clip(path: Path, height: int = 96, width: int = 128) -> Path:
    """A video of three frames."""
    film(path, moving(3, height, width)[0], [Fraction(i, 10) for i in range(3)], Fraction(10))
    return path


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which the files of a folder can be fetched."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_jpeg_by_url_with_exif(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(planted(96, 128, (4, 4, 40, 20))).save(tmp_path / "p.jpg", exif=tags)

    with served(tmp_path) as address:
        frames = list(open_source(f"{address}/p.jpg"))
    assert [f.image.shape for f in frames] == [(128, 96, 3)]


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.webp", "p.bmp"])
def test_an_image_by_url_may_be_large(tmp_path: Path, name: str) -> None:
    """FFmpeg opens more than some kilobytes of an image in another way than less."""
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / name)
    with served(tmp_path) as address:
        frames = list(open_source(f"{address}/{name}"))
    assert [f.image.shape for f in frames] == [image.shape]


def test_a_playlist_that_names_a_url_opens_no_socket(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(1)
    called = []

    def listen() -> None:
        with contextlib.suppress(TimeoutError):
            called.append(server.accept())

    thread = threading.Thread(target=listen)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UserError):
        list(open_source(tmp_path / "list.mp4"))
    thread.join()
    server.close()
    assert not called


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
LISTS = {
    "list.m3u8": HLS.format("real.ts"),
    "list.mp4": "ffconcat version 1.0\nfile real.ts\n",
    "list.ffconcat": "ffconcat version 1.0\nfile real.ts\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "list.avi": ";FFMETADATA1\ntitle=x\n",
    "list.mkv": "[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:05.00,Default,,0,0,0,,x\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_file_that_names_others_is_no_video_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    clip(tmp_path / "real.ts")
    (tmp_path / name).write_text(LISTS[name])
    with pytest.raises(UserError, match=f"{name}: not .* opened .*playlists"):
        list(open_source(tmp_path / name))


@pytest.mark.parametrize("scheme", ["file", "http", "https", "rtsp", "rtmps", "udp", "tcp", "srt", "mms"])
def test_only_what_carries_the_named_scheme_may_be_opened(scheme: str) -> None:
    options = {key: value.split(",") for key, value in allowed(f"{scheme}://x").items()}
    assert scheme in options["protocol_whitelist"] and {"mov", "mpegts"} <= set(options["format_whitelist"])
    assert ("file" in options["protocol_whitelist"]) == (scheme == "file")
    assert ("hls" in options["format_whitelist"]) == scheme.startswith("http")
    assert ("image2" in options["format_whitelist"]) == scheme.startswith("http")
    assert not {"concat", "lavfi", "sdp", "tty", "ffmetadata"} & set(options["format_whitelist"])


def test_a_playlist_by_url_leads_to_its_parts_and_to_no_local_file(tmp_path: Path) -> None:
    clip(tmp_path / "real.ts")
    (tmp_path / "good.m3u8").write_text(HLS.format("real.ts"))
    (tmp_path / "bad.m3u8").write_text(HLS.format(f"file://{tmp_path}/real.ts"))
    with served(tmp_path) as address:
        assert len(list(open_source(f"{address}/good.m3u8"))) == 3
        with pytest.raises(UserError, match=r"bad\.m3u8"):
            list(open_source(f"{address}/bad.m3u8"))


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mpg", ".mkv", ".avi", ".flv", ".h264"])
def test_large_frames_of_a_video_are_refused_before_they_are_decoded(tmp_path: Path, suffix: str) -> None:
    path = clip(tmp_path / f"x{suffix}", 48, 64)
    assert len(list(open_source(path, max_pixels=48 * 64))) == 3
    with pytest.raises(UserError, match=r"x\..*: its frames have 64 x 48 pixels where 3,071 are read: .*--max-pixels"):
        open_source(path, max_pixels=48 * 64 - 1)
    good = save(tmp_path / "a.png", planted(4, 4, None))
    source = open_source([good, path], max_pixels=100, skip_bad=True)
    assert len(list(source)) == 1 and "64 x 48" in source.left_out[0]


def test_frames_that_grow_within_a_video_are_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small, large = clip(tmp_path / "small.ts", 48, 64).read_bytes(), clip(tmp_path / "large.ts").read_bytes()
    (tmp_path / "x.ts").write_bytes(small + large + small)
    with caplog.at_level(logging.WARNING):
        sizes = {frame.image.shape for frame in open_source(tmp_path / "x.ts", max_pixels=48 * 64)}
    assert sizes == {(48, 64, 3)}
    assert "128 x 96 pixels where 3,072 are read" in caplog.text


def test_a_video_without_a_decoder_is_one_line(tmp_path: Path) -> None:
    data = clip(tmp_path / "x.mp4").read_bytes()
    (tmp_path / "x.mp4").write_bytes(data.replace(b"avc1", b"none"))
    with pytest.raises(UserError, match=r"x\.mp4: there is no decoder"):
        list(open_source(tmp_path / "x.mp4"))


def test_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    class Capture:
        def __init__(self, index: int) -> None:
            self.open, self.left = index == 0, 3

        def isOpened(self) -> bool:
            return self.open

        def get(self, _: int) -> float:
            return 29.97

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (
                (True, cv2.cvtColor(planted(4, 6, (0, 0, 2, 2)), cv2.COLOR_RGB2BGR))
                if self.left >= 0
                else (False, None)
            )

        def release(self) -> None:
            self.open = False

    monkeypatch.setattr(video.cv2, "VideoCapture", Capture)
    with open_source("0") as source:
        assert (source.kind, source.count, source.is_video, source.fps) == ("camera", None, True, Fraction(2997, 100))
        frames = iter(source)
        first, second = next(frames), next(frames)
        assert np.array_equal(first.image, planted(4, 6, (0, 0, 2, 2)))
        assert first.name == "camera-0" and first.time is not None and first.time <= second.time
        next(frames)
        with pytest.raises(UserError, match="no more"):
            next(frames)
    with pytest.raises(UserError, match="camera 5"):
        open_source(5)
    for number in (-1, 2**40):  # OpenCV itself ends the process at the former
        with pytest.raises(UserError, match="give the number of one, from 0"):
            open_source(number)
