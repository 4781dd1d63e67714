"""Renders text in any script: with OpenCV 5's built-in font if it has the letters, with fonts of the system if not.

OpenCV's font has Latin, Greek, Cyrillic, Chinese, Japanese and Korean, but joins no Arabic letters, writes nothing from
right to left, and prints question marks for scripts that it lacks. Those go to the first font of the system that has
the letters, through Pillow. A letter that no font has is written as its base letter (ű as u) or its code (\\u0935), and
a warning says so.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import unicodedata
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from detect.utils.names import shown

_PROBE = 24  # pixels at which glyphs are compared
_FROM_RIGHT = ("R", "AL")  # Unicode's bidirectional classes of Hebrew and Arabic letters
_MISSING = "\uffff"  # not a character: fonts draw it as they draw any glyph that they lack
_log = logging.getLogger("detect")


@lru_cache(maxsize=2048)
def render(text: str, size: int) -> np.ndarray:
    """The text as coverage (H, W) uint8, for letters of `size` pixels; H is the same for all texts."""
    runs = [(font, "".join(part for _, part in run)) for font, run in groupby(_fonts(text), key=lambda x: x[0])]
    return np.hstack([np.zeros((_height(size), 0), np.uint8), *(font.draw(run, size) for font, run in runs)])


def _height(size: int) -> int:
    return size + size // 3


def _fonts(text: str) -> list[tuple[_OpenCV | _Pillow, str]]:
    """Each letter, with its marks, and the font that draws it. Spaces and signs stay with the font before them."""
    found: list[tuple[_OpenCV | _Pillow, str]] = []
    for cluster in _clusters(unicodedata.normalize("NFC", shown(text))):
        if found and not cluster[0].isalpha() and found[-1][0].covers(cluster):
            font: _OpenCV | _Pillow | None = found[-1][0]
        else:
            font = _font_for(cluster)
        if font is None:
            _warn(text)
        found.append((font, cluster) if font else (_default(), _plain(cluster)))
    return found


def _clusters(text: str) -> list[str]:
    """The text cut before each character that is neither a mark nor a joiner."""
    found: list[str] = []
    for letter in text:
        kind = unicodedata.category(letter)
        if found and kind in ("Mn", "Mc", "Me", "Cf"):
            found[-1] += letter
        elif kind != "Cf":
            found.append(letter)
    return found


@cache
def _font_for(cluster: str) -> _OpenCV | _Pillow | None:
    """The first font that has the letter and its marks."""
    if _default().covers(cluster):
        return _default()
    fonts = (font for font in map(_font_file, _system_fonts()) if font is not None)
    return next((font for font in fonts if font.covers(cluster)), None)


@cache
def _plain(cluster: str) -> str:
    """The replacement of a letter that no font has: those of its parts that can be drawn, or else its code."""
    plain = "".join(part for part in unicodedata.normalize("NFKD", cluster) if _default().covers(part))
    return plain or cluster.encode("ascii", "backslashreplace").decode()


@cache
def _warn(text: str) -> None:
    _log.warning("no font here has all letters of %r: labels show their codes (install one, such as Noto)", text)


@cache
def _default() -> _OpenCV | _Pillow:
    return _OpenCV() if hasattr(cv2, "FontFace") else _Pillow(None)


class _OpenCV:
    """The font inside OpenCV 5."""

    def __init__(self) -> None:
        self.font = cv2.FontFace("sans")
        self.missing = self._mask(_MISSING, _PROBE)

    def covers(self, cluster: str) -> bool:
        if len(cluster) > 1 or unicodedata.bidirectional(cluster) in _FROM_RIGHT or unicodedata.combining(cluster):
            return False
        return cluster == "?" or not np.array_equal(self._mask(cluster, _PROBE), self.missing)

    def draw(self, text: str, size: int) -> np.ndarray:
        return self._mask(text, size)

    def _mask(self, text: str, size: int) -> np.ndarray:
        space = np.zeros((_height(size), 2 * size * (len(text) + 1)), np.uint8)
        (end, _), mask = cv2.putText(space, text, (0, size), (255,), self.font, size, 400)
        return mask[:, :end]


class _Pillow:
    """A font file, or the Latin one inside Pillow."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.missing = self._glyph(_MISSING)

    @lru_cache(maxsize=4)  # noqa: B019
    def sized(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        if self.path is None:
            return ImageFont.load_default(size)
        return ImageFont.truetype(str(self.path), size)

    def covers(self, cluster: str) -> bool:
        return all(letter == " " or self._glyph(letter) != self.missing for letter in cluster)

    def _glyph(self, letter: str) -> bytes:
        return bytes(self.sized(_PROBE).getmask(letter))  # pyrefly: ignore[bad-argument-type]

    def draw(self, text: str, size: int) -> np.ndarray:
        word = text.rstrip()  # a space at the end of a word that runs from right to left would land on its left
        if not features.check("raqm") and unicodedata.bidirectional(word[:1]) in _FROM_RIGHT:
            word = word[::-1]  # unshaped, yet in the order in which it is read
        font = self.sized(size)
        bitmap = Image.new("L", (math.ceil(font.getlength(word) + font.getlength(text[len(word) :])), _height(size)))
        ImageDraw.Draw(bitmap).text((0, size), word, fill=255, font=font, anchor="ls")
        return np.asarray(bitmap)


@cache
def _font_file(path: Path) -> _Pillow | None:
    try:
        return _Pillow(path)
    except (OSError, ValueError):  # bitmap fonts and damaged files
        return None


@cache
def _system_fonts() -> list[Path]:
    """Font files of the system, upright sans-serif ones first."""
    home = Path.home()
    folders = {
        "win32": [
            Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"),
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ],
        "darwin": [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"],
    }.get(sys.platform, [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts"])
    found = [p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf", ".ttc")]

    def order(path: Path) -> tuple[int, str]:
        name = path.stem.lower()
        odd = sum(word in name for word in ("bold", "italic", "oblique", "serif", "mono", "condensed", "light"))
        return odd - ("sans" in name), name

    return sorted(found, key=order)
