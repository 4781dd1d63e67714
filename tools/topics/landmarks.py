"""Points of one object: heat maps, and the positions that they expect."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from detect.data.toy_images import background
from detect.explain.images import overlay_heat
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.landmarker import LandmarkerConfig
from detect.models.heads.single_object import expectation
from detect.types import Target
from tools.drawing import Tile, enlarged, numbers, sheet
from tools.one_object import fit

SIDE, TRAIN, EPOCHS, SHOWN = 64, 600, 22, 5
NAMES = ["tip", "left", "notch", "right"]
ARROW = np.array([(0, -1), (-0.8, 0.9), (0, 0.4), (0.8, 0.9)])  # the four points of the object
COLORS = ((214, 39, 40), (44, 160, 44), (31, 119, 180), (255, 217, 102))


def draw() -> dict[str, np.ndarray]:
    """The expected position of a small map, and the heat maps and points of new images."""
    images, targets = zip(*(_sample("train", i) for i in range(TRAIN)), strict=True)
    torch.manual_seed(0)
    metadata = ModelMetadata(["arrow"], [1], SIDE, keypoint_names=NAMES)
    model = build(LandmarkerConfig(head="heatmap", levels=[2, 4], hidden=[32]), metadata)
    fit(model, torch.stack(images), targets, EPOCHS)
    return {"landmarks": _answers(model), "landmarks_expected": _expected()}


def _sample(split: str, number: int) -> tuple[Tensor, Target]:
    """An arrow, turned a little, of any size, place and colour on a photograph, and its four points."""
    random = np.random.default_rng([("train", "val").index(split), number])
    image = np.ascontiguousarray(background(split, random, (SIDE, SIDE)).clip(0, 255).astype(np.uint8))
    angle, size = random.uniform(-0.6, 0.6), random.uniform(9, 17)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    points = ARROW @ turn * size + random.uniform(20, SIDE - 20, 2)
    color = tuple(random.integers(0, 256, 3).tolist())
    cv2.fillPoly(image, [np.rint(points * 16).astype(np.int32)], color, cv2.LINE_AA, shift=4)
    corners = torch.tensor([[*points.min(0), *points.max(0)]]).float()
    keypoints = torch.cat([torch.from_numpy(points + 0.5).float(), torch.full((4, 1), 2.0)], 1)[None]
    target = Target(corners, torch.zeros(1).long(), torch.zeros(1).bool(), number, (SIDE, SIDE), keypoints)
    return torch.from_numpy(image).permute(2, 0, 1), target


@torch.inference_mode()
def _answers(model: torch.nn.Module) -> np.ndarray:
    """New images with their points, and below each the maps of the tip and of the notch."""
    images = torch.stack([_sample("val", i)[0] for i in range(SHOWN)])
    raw = model(images)
    rows: list[list[Tile]] = [[], [], []]
    for image, points, heat in zip(images, raw.keypoints, raw.heat, strict=True):
        photo = enlarged(image.permute(1, 2, 0).numpy(), 2)
        canvas = photo.copy()
        for point, color in zip((points * 2).round().int().tolist(), COLORS, strict=True):
            cv2.circle(canvas, point, 4, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(canvas, point, 3, color, -1, cv2.LINE_AA)
        rows[0].append(("", canvas))
        for row, k in zip(rows[1:], (0, 2), strict=True):
            share = heat[k].flatten().softmax(0).reshape(heat[k].shape)
            grown = enlarged((share / share.max()).numpy(), photo.shape[0] // heat.shape[1])
            row.append((f"map of the {NAMES[k]}", overlay_heat(photo, torch.from_numpy(grown))))
    return sheet([one for row in rows for one in row], SHOWN)


def _expected() -> np.ndarray:
    """Maps of 1 x 5 cells and their expected positions: between cells, too."""
    tiles = []
    for share in ([0, 0, 1, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0.1, 0.6, 0.3, 0], [0.5, 0, 0, 0, 0.5]):
        x = float(expectation(torch.tensor(share).clamp(min=1e-9).log()[None, None, None])[0, 0, 0])
        tiles.append((f"x = {x:.1f}", numbers([share], 44, 1)))
    return sheet(tiles, 2)
