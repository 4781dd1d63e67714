"""Draws class maps: the pixels of each class in its colour, and a legend."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from detect.inference.draw import Caption, list_captions
from detect.inference.palette import color_of

if TYPE_CHECKING:
    from detect.semantic import SemanticMap

OPACITY = 0.55  # share of the colour in the pixels of a class


def draw_map(image: np.ndarray, found: SemanticMap, hide_legend: bool = False) -> np.ndarray:
    """A copy of an image with the pixels of each class in its colour; the background stays as it is.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: the class of each pixel.
        hide_legend: leave the list of classes out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    annotated = np.ascontiguousarray(image).copy()
    labels, areas = found.labels.numpy(), found.areas()
    colors = np.zeros((256, 3), np.uint8)
    for label in areas:
        colors[label] = color_of(label)
    mixed = cv2.addWeighted(colors[labels], OPACITY, annotated, 1 - OPACITY, 0)
    cv2.copyTo(mixed, (labels != found.background).astype(np.uint8), annotated)
    if not hide_legend:
        order = sorted(areas, key=areas.__getitem__, reverse=True)
        captions = [Caption("", found.name(i), f"{areas[i] / labels.size:.0%}", color_of(i)) for i in order]
        list_captions(annotated, captions, max(11, round(sum(labels.shape) / 90)))
    return annotated


def palette_png(found: SemanticMap) -> bytes:
    """A class map as PNG: the values of `SemanticMap.label_image`, and a palette of the classes' colours.

    Programs read the values, viewers show the colours; the background, 0, is transparent.
    """
    image = Image.fromarray(found.label_image("classes"))
    image.putpalette([0, 0, 0] + [part for label in range(found.background) for part in color_of(label)])
    with BytesIO() as file:
        image.save(file, "PNG", transparency=0)
        return file.getvalue()
