"""Which image files are taken for whole, damaged, or without their end mark."""

import io
import json
import os
import shutil
import signal
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detect.data import jpegs
from detect.data.images import decode_image, read_image
from detect.data.validate import examine
from detect.errors import UserError
from detect.training.setup import train
from tests.reference.runs import settings

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
END = b"\xff\xd9"
SMALL = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
PICTURE = cv2.resize(SMALL, (200, 150), interpolation=cv2.INTER_CUBIC)
KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0, "quality": 97},
    "restarts": {"restart_marker_blocks": 5},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "thumbnail": {"exif": b"Exif\0\0" + bytes([255, 216]) + b"thumbnail" + END},
}


def jpeg(kind):
    options = dict(KINDS[kind])
    data = io.BytesIO()
    Image.fromarray(PICTURE).convert(options.pop("mode", "RGB")).save(data, "JPEG", **options)
    return data.getvalue()


def examined(folder, data, name="a.jpg"):
    (folder / name).write_bytes(data)
    return examine(folder / name, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_has_nothing_wrong_with_it(tmp_path, kind):
    for data in (jpeg(kind), jpeg(kind) + b"trailing bytes"):
        assert examined(tmp_path, data)[1:] == ("", "")


@pytest.mark.parametrize("share", [0.35, 0.5, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_and_ended_is_damaged_and_named(tmp_path, capfd, kind, share):
    data = jpeg(kind)
    for end in (END, b"", bytes(200)):  # a broken copy is often filled up with zeros
        problem = examined(tmp_path, data[: int(len(data) * share)] + end).problem
        assert problem.startswith(str(tmp_path / "a.jpg")) and "damaged or truncated" in problem
    assert "JPEG" not in capfd.readouterr().err  # libjpeg's own words name no file


@pytest.mark.parametrize("share", np.linspace(0.3, 0.9, 13).tolist())
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"CMYK"}))
def test_what_examine_calls_cut_no_reader_decodes(kind, share):
    data = jpeg(kind)
    if kind == "progressive":
        share *= 0.7  # of a damaged last scan, the finest details, only libjpeg knows
    for after in (END, END + b"trailing bytes"):
        with pytest.raises(UserError, match=r"^b.jpg: the image is damaged or truncated"):
            decode_image(data[: int(len(data) * share)] + after, "b.jpg")


@pytest.mark.parametrize("size", [(200, 150), (203, 157), (8, 8), (1, 1)])
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"CMYK"}))
def test_a_grey_image_is_whole(kind, size):
    options = dict(KINDS[kind])
    data, grey = io.BytesIO(), Image.new("RGB", size, (128, 128, 128))
    grey.convert(options.pop("mode", "RGB")).save(data, "JPEG", **options)
    assert decode_image(data.getvalue(), "grey.jpg").shape == (*size[::-1], 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_lacks_its_end_mark_alone_is_used_with_a_word(tmp_path, kind):
    data = jpeg(kind)
    for cut in (data[:-2], data[:-1], data[:-2] + bytes(64)):
        _, problem, oddity = examined(tmp_path, cut)
        assert problem == "" and oddity == f"{tmp_path / 'a.jpg'}: lacks its end mark, though not one of its pixels"
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), decode_image(data, "whole"))


def test_what_libjpeg_warns_of_is_told_with_the_name_of_the_file(tmp_path):
    data, found = jpeg("baseline"), []
    for place in range(1500, len(data) - 400, 700):
        _, problem, oddity = examined(tmp_path, data[:place] + bytes(300) + data[place + 300 :])
        assert not (problem + oddity) or (problem + oddity).startswith(str(tmp_path / "a.jpg"))
        found.append((bool(problem), bool(oddity)))
    assert (True, False) in found  # the others have as many pixels as they should, and libjpeg is content


def test_a_decoder_serves_many_threads_and_outlives_what_it_cannot_read(tmp_path):
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut \N{SNOWMAN}.jpg"
    whole.write_bytes(jpeg("baseline"))
    cut.write_bytes(jpeg("baseline")[:2000] + END)
    (tmp_path / "none.jpg").write_bytes(b"no image")
    paths = [str(tmp_path / name) for name in ("whole.jpg", cut.name, "none.jpg", "missing.jpg")] * 4
    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(jpegs.warning, paths))
    assert said == said[:4] * 4 and said[0] == "" and "premature end" in said[1] and said[2:4] == [None, None]
    decoder = jpegs.Decoder()
    decoder.process.kill()
    assert decoder.warning(str(whole)) is None and not decoder.usable
    assert jpegs.warning(str(whole)) == ""


def test_a_decoder_ends_with_its_parent_alone_and_needs_no_disk(tmp_path, monkeypatch):
    """By the end of its input, even while it decodes: a named pipe keeps it reading for ever."""
    (tmp_path / "whole.jpg").write_bytes(jpeg("baseline")[:2000] + END)
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    decoder = jpegs.Decoder()
    assert "premature end" in decoder.warning(str(tmp_path / "whole.jpg"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        decoder.process.send_signal(number)
    assert "premature end" in decoder.warning(str(tmp_path / "whole.jpg"))
    assert os.getpgid(decoder.process.pid) != os.getpgid(0)
    decoder.process.stdin.write(json.dumps(str(tmp_path / "pipe.jpg")).encode() + b"\n")
    decoder.process.stdin.close()
    assert decoder.process.wait(300) == 0


@pytest.mark.usefixtures("one_thread")
def test_training_refuses_or_leaves_out_what_is_damaged_and_says_what_is_odd(digits, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    first, second = sorted((data / "train").iterdir())[:2]
    first.write_bytes(first.read_bytes()[:1500] + END)
    second.write_bytes(second.read_bytes()[:-2])
    with pytest.raises(UserError, match=rf"{first.name}: the image is damaged or truncated.*--skip-bad"):
        train(settings(data, tmp_path / "run", epochs=1))
    train(settings(data, tmp_path / "run", epochs=1, skip_bad=True))
    assert first.name in (tmp_path / "run/left_out.txt").read_text()
    assert f"{second.name}: lacks its end mark" in capsys.readouterr().err


def png(change):
    """A PNG whose pixel data went through `change`."""
    data = io.BytesIO()
    Image.fromarray(PICTURE).save(data, "PNG")
    raw, parts, place = data.getvalue(), [], 8
    while place < len(raw):
        (size,) = struct.unpack(">I", raw[place : place + 4])
        kind, content = raw[place + 4 : place + 8], raw[place + 8 : place + 8 + size]
        parts.append((kind, change(content) if kind == b"IDAT" else content))
        place += 12 + size
    chunks = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts]
    return raw[:8] + b"".join(chunks)


@pytest.mark.parametrize("change", [lambda c: c[: len(c) // 2], lambda c: c[:99] + b"\0" * 50 + c[149:], lambda c: b""])
def test_png_data_that_end_early_or_are_changed_are_damaged(tmp_path, change):
    assert examined(tmp_path, png(lambda c: c), "a.png")[1:] == ("", "")
    assert "a.png" in examined(tmp_path, png(change), "a.png").problem


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_other_formats_cut_in_half_are_damaged(tmp_path, form):
    data = io.BytesIO()
    Image.fromarray(PICTURE).save(data, form)
    assert f"a.{form}" in examined(tmp_path, data.getvalue()[: data.tell() // 2], f"a.{form}").problem


@pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not at {DATA} (set GRIDHEAD_DATA)")
def test_real_files_are_whole():
    paths = sorted(DATA.rglob("*.jpg"))[::97]
    assert paths and [one for path in paths if any((one := examine(path, None))[1:])] == []


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no such image file"):
        read_image(tmp_path / "a.jpg")
    assert "a.jpg" in examine(tmp_path / "a.jpg", None).problem
