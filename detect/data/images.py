"""Reading and scaling images: whatever a file holds becomes (H, W, 3) uint8 RGB, or a `UserError` that names it.

Headers are read by Pillow (about 40 microseconds), pixels by OpenCV where it is right and the faster one (JPEG, PNG)
and by Pillow elsewhere: CMYK, 16-bit files that are not PNG, GIF, TIFF, WebP, BMP, PNM.
Grey is repeated, alpha is dropped, of 16 bits the upper 8 are kept, of an animation the first frame (but `read_pages`).

EXIF orientation. Annotations may have been drawn on the image as viewers show it, or on the rows as they are stored.
The annotated size tells which: the orientation is applied where the turned size equals it, ignored where only the
stored size does, and the image refused where neither does. Where both do (mirrored, upside down, square) it is applied,
as viewers do; and so it is when no size is known. Boxes that fit one way only know better: see `orientation`.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from detect.data.image_formats import FORMATS
from detect.data.jpegs import MOST_SCANS, ends_early, has_many_scans, silence, with_end
from detect.data.pngs import rows_missing
from detect.errors import UserError
from detect.utils.atomic_io import STORED, irregular, open_file, read_bytes

Size = tuple[int, int]
MAX_PIXELS = 500_000_000  # of an image, unless more are asked for: as 8-bit RGB they take 1.5 GB
_OPENCV_PIXELS, _OPENCV_SIDE = 2**30, 1_000_000  # what it decodes at most
_ORIENTATION, _SUBFILE = 0x0112, 0x00FE  # tags of EXIF and TIFF
_END, _SCAN = b"\xff\xd9", b"\xff\xda"

Image.MAX_IMAGE_PIXELS = None  # `_open` has the limit, with an error of ours; Pillow's would warn in other words first
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
silence()  # a broken file is one line of ours, not a page of theirs


class Page(NamedTuple):
    """One page of a file: image (H, W, 3) uint8 RGB, its number, the number of pages, and of those not read."""

    image: np.ndarray
    number: int = 0
    pages: int = 1
    hidden: int = 0


@dataclass(frozen=True)
class Header:
    """The header of an image file.

    Attributes:
        format, mode: in Pillow's words.
        size: (h, w) of the rows as they are stored.
        shown: (h, w) as a viewer shows it.
        orientation: EXIF orientation, 1 to 8.
    """

    format: str
    mode: str
    size: Size
    shown: Size
    orientation: int

    def turn(self, size: Size | None, name: str) -> int:
        """Return the orientation to apply for an annotated (h, w). Raises UserError when the file has another size."""
        if size is None or self.shown == tuple(size):
            return self.orientation
        if self.size == tuple(size):
            return 1
        (h, w), (ah, aw) = self.shown, size
        raise UserError(f"{name}: annotated as {aw} x {ah} pixels (width x height), but the file is {w} x {h}")


def read_image(path: str | PathLike[str], size: Size | None = None) -> np.ndarray:
    """Read an image file.

    Args:
        path: the file.
        size: its annotated (h, w), which also tells whether EXIF counts; None: unknown.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, unreadable, truncated or of another size than annotated.
    """
    name = fspath(path)
    try:
        if STORED.search(name):  # an object of a store, or in a shard
            data = read_bytes(name)
        elif not os.path.isfile(name):  # as `open_file`, for an image passes here on its way through few files
            raise irregular(name)
        else:
            with open(name, "rb") as file:
                data = file.read()
    except (OSError, ValueError) as error:
        raise _missing(name, error) from None
    return decode_image(data, name, size)


def read_pages(path: str | PathLike[str], most: int = MAX_PIXELS) -> Iterator[Page]:
    """Yield every page of a TIFF and frame of an animation; of other files the one image.

    Pages of a TIFF that repeat another one in small, and what a camera hides behind its JPEG (previews, gain maps), are
    counted and not read. Raises UserError as `read_image`, and for more than `most` pixels.
    """
    name = fspath(path)
    try:
        if STORED.search(name):  # an object of a store, or in a shard
            data = read_bytes(name)
        elif not os.path.isfile(name):  # as `open_file`, for an image passes here on its way through few files
            raise irregular(name)
        else:
            with open(name, "rb") as file:
                data = file.read()
    except (OSError, ValueError) as error:
        raise _missing(name, error) from None
    if data.startswith(b"\xff\xd8") and data.find(b"MPF\0", 0, 1 << 18) < 0:  # an ordinary JPEG
        yield Page(decode_image(data, name, most=most))
        return
    opened, header = _open(io.BytesIO(data), name, most)
    pages, hidden = _pages(opened, name)
    for index in pages:
        if index == 0:
            image = decode_image(data, name, most=most)
        else:
            image = _page(opened, index, f"{name}, page {index}", most)
            image = image if header.orientation == 1 else _oriented(image, header.orientation)
        yield Page(image, index, len(pages), hidden if index == pages[0] else 0)


def decode_image(data: bytes, name: str, size: Size | None = None, most: int = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of an image file, as `read_image`; `name` is for messages, `most` the limit on pixels."""
    if not data:
        raise UserError(f"{name}: the image file is empty")
    stream = io.BytesIO(data)
    opened, header = _open(stream, name, most)
    form, scan = header.format, stream.tell()
    turn = header.orientation if size in (None, header.shown) else header.turn(size, name)
    # OpenCV may decode a JPEG or PNG with its end in place; it fills what is missing with grey. Within the scan of
    # a JPEG the bytes FF D9 are nothing but the end mark; a thumbnail's lie before the scan. OpenCV 5 makes a black
    # image of an animated PNG (acTL) whose first image is none of its frames.
    if jpeg := form in ("JPEG", "MPO"):
        ended = data.endswith(_END) or (form == "JPEG" and data.rfind(_END, scan) >= 0)
    else:
        ended = form == "PNG" and data.rfind(b"IEND") >= 0 and data.find(b"acTL", 0, scan) < 0
    # Is it progressive, or has its first scan not all components?
    in_scans = jpeg and ("progressive" in opened.info or data[data.rfind(_SCAN, 0, scan) + 4] < len(opened.getbands()))
    if in_scans and has_many_scans(data):
        raise UserError(f"{name}: a JPEG of more than {MOST_SCANS} scans, which take minutes to decode: save it anew")
    if form == "JPEG" and not ended and (completed := with_end(data)):
        data, ended, opened = completed, True, Image.open(io.BytesIO(completed), formats=FORMATS)
    fits = math.prod(header.size) <= _OPENCV_PIXELS and max(header.size) <= _OPENCV_SIDE
    image = None
    if ended and header.mode != "CMYK" and fits:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        image = _convert(opened, name)
    filled = abs(image[-1, -1].astype(int) - 128).max() <= 2  # with grey, as libjpeg fills what is missing
    early = form == "JPEG" and (filled or in_scans) and ends_early(data, filled)
    if early or (form == "PNG" and not image[-1].any() and rows_missing(data)):
        raise UserError(f"{name}: the image is damaged or truncated (its data end early)")
    return image if turn == 1 else _oriented(image, turn)


def count_pages(path: str | PathLike[str]) -> int:
    """Return how many pages or frames `read_pages` finds in a file; 1 for one that cannot be read."""
    name = fspath(path)
    try:
        with open_file(name) as file:
            return len(_pages(_open(file, name)[0], name)[0])
    except (OSError, ValueError, UserError):
        return 1


def from_pillow(image: Image.Image, name: str) -> np.ndarray:
    """Convert a PIL image to (H, W, 3) uint8 RGB, turned as its EXIF says, as `read_image` does.

    Raises UserError for pixels whose range is not known: mode F, and mode I unless it was read from a file.
    """
    if image.mode == "I" and image.format is None:
        raise UserError(f"{name}: a PIL image of mode I has no known range; convert it to L, RGB or I;16")
    rgb = _convert(image, name)
    turn = image.getexif().get(_ORIENTATION, 1)  # after Pillow has turned a TIFF and removed its mark
    return _oriented(rgb, turn) if turn in range(2, 9) else rgb


def read_header(path: str | PathLike[str]) -> Header:
    """Return the header of an image file, without decoding it. Raises UserError when it is missing or not an image."""
    name = fspath(path)
    try:
        with open_file(name) as file:
            return _open(file, name)[1]
    except (OSError, ValueError) as error:
        raise _missing(name, error) from None


def parse_header(data: bytes, name: str) -> Header:
    """Return the header in the bytes of an image file, as `read_header`; `name` is for messages."""
    return _open(io.BytesIO(data), name)[1]


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    """Return an image (H, W, 3) uint8 at `factor` times its size, at least 1 pixel a side."""
    return resize(image, max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))


def resize(image: np.ndarray, width: int, height: int, out: np.ndarray | None = None) -> np.ndarray:
    """Scale (H, W, 3) uint8 to (height, width, 3), into `out` when given.

    Bilinear down to half size, where it still reads every source pixel (measured at 0.6: 8 times faster than area
    averaging); area averaging below, where bilinear would skip pixels and alias.
    """
    if image.shape[:2] == (height, width):
        if out is None:
            return image
        np.copyto(out, image)
        return out
    coarse = 2 * width < image.shape[1] or 2 * height < image.shape[0]
    return cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA if coarse else cv2.INTER_LINEAR)


def _missing(name: str, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{name}: there is no such image file")
    return UserError(f"{name!r}: the image file cannot be read ({getattr(error, 'strerror', None) or error})")


def _pages(opened: Image.Image, name: str) -> tuple[Sequence[int], int]:
    """The numbers of the pages that are images of their own, and how many are not.

    A PNG may claim two billion: what a file claims is never more than a range.
    """
    try:
        count = getattr(opened, "n_frames", 1)
        if opened.format == "MPO" or count == 1:
            return [0], count - 1
        own: Sequence[int] = range(count)
        if opened.format == "TIFF":
            own = [i for i in own if not _derived(opened, i)]
        opened.seek(0)
    except Exception as error:  # Pillow's plugins raise what they like on a damaged file
        raise UserError(f"{name}: the image is damaged or truncated ({error})") from None
    return own or [0], count - len(own or [0])


def _derived(opened: Any, page: int) -> bool:
    """Whether a page of a TIFF says that it is another one in small, or the mask of another one."""
    opened.seek(page)
    return bool(opened.tag_v2.get(_SUBFILE, 0) & 0b101)


def _page(opened: Image.Image, page: int, name: str, most: int) -> np.ndarray:
    """A page but the first, as Pillow has it."""
    try:
        opened.seek(page)
    except Exception as error:  # as above
        raise UserError(f"{name}: the image is damaged or truncated ({error})") from None
    if math.prod(opened.size) > most:
        raise _too_large(opened, name, most)
    return _convert(opened, name)


def _too_large(opened: Image.Image, name: str, most: int) -> UserError:
    """The error for an image whose pixels might not fit into memory."""
    width, height = opened.size
    return UserError(
        f"{name}: the image is too large, {width} x {height} pixels, and at most {most:,} pixels are read: scale it "
        "down, leave it out, or raise --max-pixels of detect predict"
    )


def _open(file: IO[bytes], name: str, most: int = MAX_PIXELS) -> tuple[Image.Image, Header]:
    """Pillow's image, not yet decoded, and its header; a JPEG is left at the start of its scan."""
    try:
        opened = Image.open(file, formats=FORMATS)
    except Exception:  # Pillow's plugins raise what they like on a damaged file
        raise UserError(f"{name}: not a readable image (damaged, truncated or of an unknown format)") from None
    width, height = opened.size
    if width * height > most:
        raise _too_large(opened, name, most)
    turn = 1
    if "exif" in opened.info and opened.format != "TIFF":  # Pillow turns a TIFF itself, and says the turned size
        try:
            turn = int(opened.getexif().get(_ORIENTATION, 1))
        except Exception:  # damaged EXIF: viewers show the image as it is stored
            turn = 1
    turn = turn if 1 <= turn <= 8 else 1
    shown = (height, width) if turn < 5 else (width, height)
    return opened, Header(opened.format or "", opened.mode, (height, width), shown, turn)


def has_end(path: str | PathLike[str]) -> bool:
    """Whether a JPEG file has its end mark. Raises UserError as `read_header`."""
    with open_file(path) as file:
        data = file.read()
    stream = io.BytesIO(data)
    _open(stream, fspath(path))
    return data.endswith(_END) or data.rfind(_END, stream.tell()) >= 0


def _convert(opened: Image.Image, name: str) -> np.ndarray:
    """Pillow's image as RGB; it raises on truncated files."""
    mode = opened.mode
    if mode == "F":
        raise UserError(f"{name}: floating-point pixels have no known range; convert them to 8 or 16 bits")
    try:
        if mode.startswith("I"):
            grey = np.asarray(opened)
            return np.repeat((np.clip(grey, 0, 65535) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        opened.load()
        if mode == "CMYK" and opened.format == "JPEG" and "adobe" not in opened.info:
            # Pillow takes every CMYK JPEG for an inverted one, as Adobe writes them; one without Adobe's mark is not.
            opened = Image.fromarray(255 - np.asarray(opened), "CMYK")
        return np.array(opened if opened.mode == "RGB" else opened.convert("RGB"))
    except Exception as error:  # as above
        raise UserError(f"{name}: the image is damaged or truncated ({error})") from None


def _oriented(image: np.ndarray, turn: int) -> np.ndarray:
    """The stored rows turned as EXIF orientation `turn` (2..8) says."""
    if turn >= 5:
        image = image.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        image = image[:, ::-1]
    if turn in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
