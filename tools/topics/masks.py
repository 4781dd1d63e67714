"""Masks: which pixels belong to an object, as a polygon, as a grid of bits, and as runs."""

from __future__ import annotations

import cv2
import numpy as np

from tools.drawing import INK, numbers, photograph, sheet, write

TOWER = [(105, 20), (118, 52), (172, 88), (160, 96), (176, 142), (165, 158), (196, 190), (160, 200), (52, 196)]
TOWER += [(36, 178), (58, 150), (50, 136), (66, 96), (58, 88), (92, 52)]  # pixels of the photograph at width 320
SMALL = [(1, 1), (6, 1), (6, 3), (4, 3), (4, 6), (2, 6), (2, 3), (1, 3)]  # a T on 8 x 8 pixels


def draw() -> dict[str, np.ndarray]:
    """A polygon, its mask and its box, and a small mask with its runs."""
    image = photograph("china", 320)
    corners = np.array(TOWER, np.int32)
    mask = cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), [corners], 1)
    outline, filled, boxed = image.copy(), image.copy(), image.copy()
    cv2.polylines(outline, [corners], True, (255, 217, 0), 2, cv2.LINE_AA)
    filled[mask > 0] = filled[mask > 0] // 2 + np.array([127, 60, 0], np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    cv2.rectangle(boxed, (left, top), (left + width, top + height), (214, 39, 40), 2)
    share = mask.sum() / (width * height)
    tiles = [("a polygon", outline), ("its mask", filled), (f"its box; the mask fills {share:.0%} of it", boxed)]
    return {"masks": sheet(tiles, 3), "masks_runs": _runs()}


def runs(mask: np.ndarray) -> list[int]:
    """The lengths of zeros and ones in turn, column by column, as COCO counts them; the first are zeros."""
    bits = mask.T.ravel()
    ends = np.flatnonzero(np.diff(bits)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [len(bits)]])).tolist()
    return [0, *lengths] if bits[0] else lengths


def _runs() -> np.ndarray:
    mask = cv2.fillPoly(np.zeros((8, 8), np.uint8), [np.array(SMALL, np.int32)], 1)
    text = np.full((60, 470, 3), 255, np.uint8)
    write(text, "runs, column by column, zeros first:", (0, 0), 16, INK)
    write(text, ", ".join(map(str, runs(mask))), (0, 26), 16, INK)
    return sheet([("8 × 8 pixels", numbers(mask, 30)), ("run-length encoding (RLE)", text)], 2)
