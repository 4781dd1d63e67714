import io
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from detect.data.image_formats import FORMATS, SUFFIXES, UNREADABLE, is_image
from detect.data.images import count_pages, decode_image, read_header, read_image, read_pages, scaled
from detect.data.letterbox import Letterbox
from detect.data.validate import examine
from detect.errors import UserError
from detect.types import Preprocess


def smooth_image(height=40, width=60, seed=0):
    """A smooth image, so that JPEG keeps it nearly as it is, without any symmetry."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(image, form, **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def exif(turn):
    tags = Image.Exif()
    tags[0x0112] = turn
    return tags


def near(a, b, limit=6.0):
    return a.shape == b.shape and np.abs(a.astype(float) - b.astype(float)).mean() < limit


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_colour_is_rgb_in_every_format(form):
    image = smooth_image()
    assert near(decode_image(encoded(image, form), "x"), image)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "PPM"])
def test_grey_is_repeated(form):
    grey = smooth_image()[..., 0]
    found = decode_image(encoded(grey, form), "x")
    assert found.shape == (40, 60, 3) and found.dtype == np.uint8
    assert near(found, np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_dropped(form):
    image = smooth_image()
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:20] = 90
    found = decode_image(encoded(np.concatenate([image, alpha], 2), form, lossless=True), "x")
    assert np.array_equal(found, image)
    two = Image.fromarray(image[..., 0]).convert("LA")
    assert np.array_equal(decode_image(encoded(two, "PNG"), "x")[..., 2], image[..., 0])


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_of_sixteen_bits_the_upper_eight_are_kept(suffix):
    values = np.random.default_rng(1).integers(0, 65536, (12, 17), dtype=np.uint16)
    found = decode_image(cv2.imencode(suffix, values)[1].tobytes(), "x")
    assert found.dtype == np.uint8
    assert np.abs(found[..., 1].astype(int) - (values >> 8)).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_colour(suffix):
    values = np.random.default_rng(1).integers(0, 65536, (12, 17, 3), dtype=np.uint16)
    found = decode_image(cv2.imencode(suffix, values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes(), "x")
    assert np.abs(found.astype(int) - (values[..., ::-1] >> 8)).max() <= 1


def test_palette_one_bit_and_animation():
    image = smooth_image()
    flat = Image.fromarray(image).quantize(16)
    assert np.array_equal(decode_image(encoded(flat, "PNG"), "x"), np.asarray(flat.convert("RGB")))
    bits = Image.fromarray(image).convert("1")
    assert np.array_equal(decode_image(encoded(bits, "PNG"), "x"), np.asarray(bits.convert("RGB")))
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "PNG", "WEBP"):
        moving = encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
        assert decode_image(moving, "x")[3, 4].tolist() == [255, 0, 0]


def test_cmyk_with_and_without_adobes_inversion():
    image = smooth_image()
    ink = Image.fromarray(image).convert("CMYK")
    data = encoded(ink, "JPEG", quality=95)  # Pillow writes Adobe's mark and inverts
    assert b"Adobe" in data
    assert near(decode_image(data, "x"), image)
    place = data.index(b"Adobe") - 4
    bare = data[:place] + data[place + 16 :]
    assert near(decode_image(bare, "x"), np.asarray(Image.fromarray(255 - np.asarray(ink), "CMYK").convert("RGB")))
    assert near(decode_image(encoded(ink, "TIFF"), "x"), image)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied_as_viewers_do(form, turn):
    data = encoded(smooth_image(), form, exif=exif(turn))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert near(decode_image(data, "x"), shown, 1.0)
    assert near(decode_image(data, "x", shown.shape[:2]), shown, 1.0)


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_ignored_where_the_stored_size_was_annotated(turn):
    image = smooth_image()
    data = encoded(image, "PNG", exif=exif(turn))
    found = decode_image(data, "x", (40, 60))
    if turn >= 5:
        assert np.array_equal(found, image)
    else:  # both sizes agree: as viewers do
        assert np.array_equal(found, decode_image(data, "x"))


def test_other_size_than_annotated_is_refused():
    data = encoded(smooth_image(), "JPEG", exif=exif(6))
    with pytest.raises(UserError, match=r"a\.jpg: annotated as 61 x 40 .* the file is 40 x 60"):
        decode_image(data, "a.jpg", (40, 61))


def test_damaged_orientation_is_none():
    data = encoded(smooth_image(), "JPEG", exif=exif(6))
    for value in (0, 9, 77):
        odd = data.replace(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06", bytes((1, 18, 0, 3, 0, 0, 0, 1, 0, value)))
        odd = odd.replace(b"\x12\x01\x03\x00\x01\x00\x00\x00\x06", bytes((18, 1, 3, 0, 1, 0, 0, 0, value)))
        assert odd != data
        assert decode_image(odd, "x").shape == (40, 60, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_truncated_files_are_refused_and_named(form):
    data = encoded(smooth_image(200, 300), form)
    for length in [*range(1, 40), *range(40, len(data) - 24, max(1, len(data) // 60))]:
        with pytest.raises(UserError, match="some file"):
            decode_image(data[:length], "some file")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "I;16"])
def test_a_png_without_its_last_rows_is_refused_though_it_ends_properly(mode):
    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    dark = Image.new(mode, (37, 23), 0)
    data = encoded(dark, "PNG")
    assert not decode_image(data, "dark.png").any()  # an image may be black
    start = data.index(b"IDAT") - 4
    rows = zlib.decompress(data[start + 8 : data.index(b"IEND") - 8])
    cut = data[:start] + chunk(b"IDAT", zlib.compress(rows[: len(rows) * 2 // 3])) + chunk(b"IEND", b"")
    with pytest.raises(UserError, match=r"cut\.png: the image is damaged or truncated"):
        decode_image(cut, "cut.png")


def test_truncated_after_an_embedded_thumbnail_is_refused():
    thumbnail = encoded(smooth_image(8, 12), "JPEG")
    data = encoded(smooth_image(200, 300), "JPEG", comment=thumbnail)
    start = data.index(thumbnail) + len(thumbnail)
    for length in range(start, len(data) - 2, 97):
        with pytest.raises(UserError):
            decode_image(data[:length], "x")


def test_progressive_and_trailing_bytes_are_fine():
    image = smooth_image(200, 300)
    data = encoded(image, "JPEG", progressive=True)
    assert near(decode_image(data, "x"), image)
    assert near(decode_image(data + b"trailer" * 50, "x"), image)
    for length in range(400, len(data) - 2, 50):
        with pytest.raises(UserError):
            decode_image(data[:length], "x")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_image_or_a_user_error(data):
    form = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"]))
    content = bytearray(encoded(smooth_image(20, 30), form))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_image(bytes(content), "x")
    except UserError as error:
        assert "x" in str(error) and "\n" not in str(error)
    else:
        assert found.ndim == 3 and found.shape[2] == 3 and found.dtype == np.uint8


@given(st.binary(max_size=64))
def test_noise_is_no_image(data):
    with pytest.raises(UserError):
        decode_image(data, "x")


def test_paths(tmp_path):
    image = smooth_image()
    for name in ("with space.png", "한글 é ß.png", "%41#.png"):
        path = tmp_path / name
        path.write_bytes(encoded(image, "PNG"))
        assert np.array_equal(read_image(path), image)
        assert np.array_equal(read_image(str(path), (40, 60)), image)
        assert read_header(path).size == (40, 60)
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match="empty"):
        read_image(tmp_path / "empty.png")
    for read in (read_image, read_header):
        with pytest.raises(UserError, match="no such image"):
            read(tmp_path / "none.png")
        with pytest.raises(UserError, match="cannot be read"):
            read(tmp_path)
        with pytest.raises(UserError, match="cannot be read"):
            read(tmp_path / "nul\0byte.png")


def test_floating_point_pixels_are_refused():
    with pytest.raises(UserError, match="floating-point"):
        decode_image(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "x")


def test_result_owns_contiguous_rows():
    for turn in (1, 3, 6):
        found = decode_image(encoded(smooth_image(), "JPEG", exif=exif(turn)), "x")
        assert found.flags.c_contiguous and found.flags.writeable


def test_is_image(tmp_path):
    assert is_image(tmp_path / "A.JPG") and not is_image(tmp_path / "._A.JPG") and not is_image(tmp_path / "a.txt")


def test_only_named_formats_are_opened_and_postscript_is_none(tmp_path):
    assert not {"EPS", "WMF", "HDF5"} & set(FORMATS) and not SUFFIXES & UNREADABLE
    with pytest.raises(UserError, match="not a readable image"):
        decode_image(encoded(smooth_image(), "EPS"), "x.jpg")
    assert not is_image(tmp_path / "x.eps") and is_image(tmp_path / "x.JFIF")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
OTHERS = {  # by their first bytes, of which Pillow would open each, or try to
    "EPS": POSTSCRIPT,
    "EPS in a DOS header": b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + b"\0" * 24 + POSTSCRIPT,
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(200),
    "EMF": b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(200),
    "OLE, of FPX and MIC": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "PDF": b"%PDF-1.4\n" + bytes(100),
    "FLI": bytes(4) + b"\x11\xaf" + bytes(200),
    "GBR": (28).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes(100),
    "FITS": b"SIMPLE  =                    T" + b" " * 2900,
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "GRIB": b"GRIB" + bytes(3) + b"\x01" + bytes(100),
    "BUFR": b"BUFR" + bytes(100),
}
WRITTEN = ("BLP", "DDS", "ICNS", "ICO", "MSP", "SPIDER", "XBM")


@pytest.mark.parametrize("name", [*OTHERS, *WRITTEN])
def test_a_format_that_is_not_named_is_opened_by_no_function(tmp_path, name):
    mode = {"SPIDER": "F", "BLP": "P"}.get(name, "1" if name in "MSP XBM" else "L")
    grey = Image.fromarray(smooth_image()).convert(mode)
    data = OTHERS.get(name) or encoded(grey.resize((64, 64)), name)
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    for read in (read_image, read_header, lambda one: list(read_pages(one)), lambda one: decode_image(data, "x.jpg")):
        with pytest.raises(UserError, match="not a readable image"):
            read(path)
    assert count_pages(path) == 1


def test_a_png_that_claims_two_billion_frames_is_damaged(tmp_path):
    data, claim = encoded(smooth_image(), "PNG"), b"acTL" + (2**31 - 1).to_bytes(4, "big") + bytes(4)
    chunk = (8).to_bytes(4, "big") + claim + zlib.crc32(claim).to_bytes(4, "big")
    (tmp_path / "x.apng").write_bytes(data[:33] + chunk + data[33:])
    assert np.array_equal(read_image(tmp_path / "x.apng"), smooth_image())
    with pytest.raises(UserError, match=r"x\.apng, page 1: .*damaged"):
        list(read_pages(tmp_path / "x.apng"))


@pytest.mark.parametrize("lead", [b"", b"\xff\xfe\0\x06\xff\xd9\xff\xd9"], ids=["", "after a comment that ends it"])
def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path, lead):
    data = encoded(smooth_image(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    (tmp_path / "x.jpg").write_bytes(data[:last] + lead + data[last:-2] * 3000 + data[-2:])
    for look in (read_image, lambda path: list(read_pages(path))):
        with pytest.raises(UserError, match=r"x\.jpg: a JPEG of more than 100 scans"):
            look(tmp_path / "x.jpg")
    assert "100 scans" in examine(tmp_path / "x.jpg", None).problem


def test_scans_of_single_components_are_counted_too():
    data = encoded(smooth_image(), "JPEG")
    place = data.rindex(b"\xff\xda")
    scans = [b"\xff\xda\0\x08\x01" + bytes([i % 3 + 1, 0x11 if i % 3 else 0, 0, 63, 0, 0]) for i in range(3000)]
    with pytest.raises(UserError, match="100 scans"):
        decode_image(data[:place] + b"".join(scans) + b"\xff\xd9", "x")


def test_marks_of_scans_that_are_none_are_not_counted(tmp_path):
    data = encoded(smooth_image(), "JPEG", progressive=True, comment=b"\xff\xda" * 300)
    assert decode_image(data + b"\xff\xda\0\x08" * 300 + b"\xff\xd9", "x").shape == smooth_image().shape


@given(st.integers(1, 5000), st.integers(1, 4), st.booleans(), st.floats(1e-4, 3))
def test_a_scaled_image_keeps_a_pixel_of_each_side(long, short, tall, factor):
    sides = (long, short) if tall else (short, long)
    image = scaled(np.zeros((*sides, 3), np.uint8), factor)
    assert image.shape == (*(max(1, round(side * factor)) for side in sides), 3)


@pytest.mark.parametrize("sides", [(4, 4000), (1, 3000), (3000, 1), (1, 1)])
@pytest.mark.parametrize("stretch", [False, True])
def test_thin_images_fit_a_canvas_and_back(sides, stretch):
    fit = Letterbox.fit(sides, 64, replace(Preprocess(), stretch=stretch))
    assert fit.apply(np.zeros((*sides, 3), np.uint8)).shape == (*fit.canvas, 3) and min(fit.inner) >= 1
    box = torch.tensor([[0.0, 0.0, sides[1], sides[0]]])
    assert torch.allclose(fit.undo(fit.forward(box)), box, rtol=1e-5)
