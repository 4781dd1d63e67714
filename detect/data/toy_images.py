"""Images of the toy dataset: handwritten digits inked onto photographs, both from scikit-learn.

A sprite is the ink of one digit, cut to its box: alpha (h, w) float32 in 0..1. Images are RGB.
"""

from __future__ import annotations

import colorsys
import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_sample_images

Box = tuple[int, int, int, int]  # x, y, w, h in pixels

INK = 0.4  # a pixel belongs to the digit when at least this much of it is ink
VISIBLE = 0.4  # a digit keeps at least this share of its ink
SHARED = 0.35  # of the smaller of two boxes, at most
SIDES = (0.15, 0.45)  # of a glyph, relative to the image
TURN = 25.0  # degrees either way: a 6 stays a 6
CONTRAST = 60.0  # least difference in luma between ink and most of what lies beneath
INKS = (((0.0, 0.2), (0.9, 1.0)), ((0.0, 0.5), (0.0, 0.2)), ((0.7, 1.0), (0.5, 1.0)))  # saturation, value of each kind
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class Stock:
    """What one split may use: glyphs (N, 8, 8) in 0..1, their digits (N,), and a region of every photograph."""

    glyphs: np.ndarray
    digits: np.ndarray
    photos: list[np.ndarray]


@functools.cache
def stock(split: str) -> Stock:
    """The material of "train" or "val": every fifth glyph of a class and the right 40 % of each photograph is val's."""
    data = load_digits()
    rank = np.zeros(len(data.target), dtype=int)  # of a glyph among those of its digit
    for digit in range(10):
        mine = data.target == digit
        rank[mine] = np.arange(mine.sum())
    chosen = (rank % 5 == 4) == (split == "val")
    photos = load_sample_images().images
    cut = [round(photo.shape[1] * 0.6) for photo in photos]
    parts = [p[:, c:] if split == "val" else p[:, :c] for p, c in zip(photos, cut, strict=True)]
    return Stock(data.images[chosen].astype(np.float32) / 16, data.target[chosen], parts)


def sprite(glyph: np.ndarray, side: float, angle: float) -> np.ndarray:
    """The ink of an (8, 8) glyph enlarged smoothly to about `side` pixels and turned by `angle` degrees."""
    span = math.ceil(side * 1.5)  # room for any turn
    matrix = cv2.getRotationMatrix2D((3.5, 3.5), angle, side / 8)
    matrix[:, 2] += np.array((span - 1) / 2 - 3.5)
    grey = cv2.warpAffine(glyph, matrix, (span, span), flags=cv2.INTER_CUBIC)
    alpha = np.clip((grey - 0.35) / 0.25, 0, 1)
    rows, columns = (np.flatnonzero((alpha >= INK).any(axis=axis)) for axis in (1, 0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def rectangle(alpha: np.ndarray, angle: float) -> np.ndarray:
    """The corners (4, 2) of the rectangle around the ink of a sprite that is turned as its glyph, by `angle` degrees.

    They begin at the glyph's upper left and go round clockwise, in pixels of the sprite.
    """
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    axes = np.array([[cos, -sin], [sin, cos]])  # rows: right and down of the glyph; OpenCV turns against the clock
    places = (np.argwhere(alpha >= INK)[:, ::-1] + 0.5) @ axes.T
    (left, top), (right, bottom) = places.min(axis=0) - 0.5, places.max(axis=0) + 0.5
    corners: np.ndarray = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ axes
    return corners


def background(split: str, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A random piece of a photograph, perhaps mirrored, at random brightness: (*size, 3) float32."""
    height, width = size
    photos = stock(split).photos
    photo = photos[rng.integers(len(photos))]
    zoom = min(photo.shape[0] / height, photo.shape[1] / width) * rng.uniform(0.5, 1.0)
    h, w = round(height * zoom), round(width * zoom)
    top, left = rng.integers(photo.shape[0] - h + 1), rng.integers(photo.shape[1] - w + 1)
    piece = cv2.resize(photo[top : top + h, left : left + w], (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return np.clip(piece.astype(np.float32) * np.float32(rng.uniform(0.7, 1.2)), 0, 255)


def ink(rng: np.random.Generator, below: np.ndarray) -> np.ndarray:
    """A light, dark or coloured ink (3,) that stands out from three quarters of the pixels `below` (h, w, 3)."""
    ground = below @ LUMA
    for _ in range(20):
        saturation, value = (rng.uniform(*limits) for limits in INKS[rng.integers(len(INKS))])
        colour = np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value)) * 255
        if np.quantile(np.abs(ground - colour @ LUMA), 0.25) >= CONTRAST:
            return colour
    return np.full(3, 0.0 if ground.mean() > 127 else 255.0)


class Canvas:
    """An image (H, W, 3) float32 that sprites are laid on, and which of them each pixel shows."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.owner = np.full(image.shape[:2], -1)  # the number of the digit on top, -1 none
        self.boxes: list[Box] = []
        self.corners: list[np.ndarray] = []  # (4, 2) of each digit's `rectangle`
        self.ink: list[int] = []

    def fits(self, alpha: np.ndarray, x: int, y: int) -> bool:
        """Whether a sprite may be laid with its corner at (x, y) and every digit stays legible."""
        h, w = alpha.shape
        for ox, oy, ow, oh in self.boxes:
            across, down = min(x + w, ox + ow) - max(x, ox), min(y + h, oy + oh) - max(y, oy)
            if across > 0 and down > 0 and across * down > SHARED * min(w * h, ow * oh):
                return False
        under = self.owner[y : y + h, x : x + w][alpha >= INK]
        lost = np.bincount(under[under >= 0], minlength=len(self.boxes))
        return bool((self.shown() - lost >= VISIBLE * np.array(self.ink)).all())

    def lay(self, alpha: np.ndarray, colour: np.ndarray, x: int, y: int, angle: float = 0.0) -> None:
        """Draw a sprite turned by `angle`, all of which must lie inside the image, over what is there."""
        h, w = alpha.shape
        patch = self.image[y : y + h, x : x + w]
        patch[:] = patch + alpha[..., None] * (colour - patch)
        self.owner[y : y + h, x : x + w][alpha >= INK] = len(self.boxes)
        self.boxes.append((x, y, w, h))
        self.corners.append(rectangle(alpha, angle) + np.array([x, y]))
        self.ink.append(int((alpha >= INK).sum()))

    def shown(self) -> np.ndarray:
        """How many pixels of ink of each digit are to be seen: (N,)."""
        return np.bincount(self.owner[self.owner >= 0], minlength=len(self.boxes))

    def legible(self) -> np.ndarray:
        """Which digits still show enough of their ink: (N,) bool."""
        return self.shown() >= VISIBLE * np.array(self.ink)

    def pixels(self) -> np.ndarray:
        """The image as uint8 RGB."""
        return np.clip(self.image + 0.5, 0, 255).astype(np.uint8)


def scene(split: str, rng: np.random.Generator, size: int, count: int) -> tuple[Canvas, list[int]]:
    """A square image with up to `count` digits (at least one, if any), and their classes."""
    material = stock(split)
    canvas = Canvas(background(split, rng, (size, size)))
    digits: list[int] = []
    for _ in range(count):
        pick = rng.integers(len(material.digits))
        side, angle = size * np.exp(rng.uniform(*np.log(SIDES))), rng.uniform(-TURN, TURN)
        alpha = sprite(material.glyphs[pick], side, angle)
        h, w = alpha.shape
        for _ in range(20):
            x, y = int(rng.integers(size - w + 1)), int(rng.integers(size - h + 1))
            if canvas.fits(alpha, x, y):
                colour = ink(rng, canvas.image[y : y + h, x : x + w])
                canvas.lay(alpha * rng.uniform(0.85, 1.0), colour, x, y, angle)
                digits.append(int(material.digits[pick]))
                break
    return canvas, digits


@dataclass(frozen=True, eq=False)
class Mover:
    """A digit on its way through a film: it bounces off the edges and rocks."""

    glyph: np.ndarray
    digit: int
    side: float
    colour: np.ndarray
    start: np.ndarray  # x, y: 0..1 there, 1..2 and back, over the free range
    speed: np.ndarray  # ranges a second
    phase: float

    def at(self, seconds: float, size: tuple[int, int]) -> tuple[np.ndarray, float, int, int]:
        """Its sprite, how far that is turned, and its upper left corner in an image of `size` (height, width)."""
        angle = TURN * math.sin(2 * seconds + self.phase)
        alpha = sprite(self.glyph, self.side, angle)
        free = np.array([size[1] - alpha.shape[1], size[0] - alpha.shape[0]])
        place = 1 - np.abs((self.start + self.speed * seconds) % 2 - 1)
        x, y = np.rint(place * free).astype(int)
        return alpha, angle, int(x), int(y)


def movers(rng: np.random.Generator, below: np.ndarray, count: int) -> list[Mover]:
    """Digits of val's stock, each of another class, that will cross the image `below` (height, width, 3)."""
    material = stock("val")
    cast = []
    for digit in rng.permutation(10)[:count]:
        glyph = material.glyphs[rng.choice(np.flatnonzero(material.digits == digit))]
        side = min(below.shape[:2]) * rng.uniform(0.18, 0.34)
        speed = rng.uniform(0.15, 0.45, 2) * rng.choice([-1.0, 1.0], 2)
        cast.append(
            Mover(glyph, int(digit), side, ink(rng, below), rng.uniform(0, 2, 2), speed, rng.uniform(0, math.tau))
        )
    return cast
