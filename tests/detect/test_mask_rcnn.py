"""Mask R-CNN: its head against torchvision's, masks in regions and on the image against slow twins."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection import roi_heads
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from detect.box_masks import INSIDE, BoxMasks, region_masks
from detect.data.letterbox import Letterbox, in_source
from detect.models import mask_rcnn
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.mask_rcnn import MaskHead
from detect.types import Postprocess, Target
from tests.reference.regions import boxes_in, make_target

CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=96)
SIZES = [[8.0 * (i + 1), 6.0 * (i + 1)] for i in range(9)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tiny = {"width": 16, "hidden": [16], "mask_width": 8, "anchors": SIZES}
    return build(dataclasses.replace(model_config("mask_rcnn"), **tiny), CARD)


def images(count=2, side=96):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def with_masks(target: Target) -> Target:
    masks = torch.zeros(len(target), 56, 56, dtype=torch.uint8)
    masks[:, 14:42, 7:49] = 255
    return dataclasses.replace(target, masks=masks)


def test_the_head_is_that_of_torchvision():
    torch.manual_seed(0)
    ours, features = MaskHead(16, 8, 3), torch.rand(5, 16, 14, 14)
    head, predictor = MaskRCNNHeads(16, (8,) * 4, 1), MaskRCNNPredictor(8, 8, 3)
    state = {f"{i}.0.{n}": ours.convolutions[i][0].get_parameter(n) for i in range(4) for n in ("weight", "bias")}
    head.load_state_dict(state)
    predictor.conv5_mask.load_state_dict(ours.up[0].state_dict())
    predictor.mask_fcn_logits.load_state_dict(ours.classify.state_dict())
    assert torch.allclose(ours(features), predictor(head(features)), atol=1e-6)
    assert ours(features).shape == (5, 3, 28, 28)


def test_it_trains_and_predicts_masks_for_what_it_detects(model):
    model.train()
    targets = [with_masks(make_target((10, 12, 40, 50, 1), (30, 30, 90, 80, 2))), with_masks(make_target())]
    terms = model.loss(model(images(), targets), targets)
    sum(term.total for term in terms.values()).backward()
    assert set(terms) == {"objectness", "regression", "classes", "box", "mask"}
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with torch.no_grad():
        assert model.loss(model(images(), targets[1:] * 2), targets[1:] * 2)["mask"].total == 0
        found = model.eval().postprocess(model(images()), Postprocess(score=0.0, limit=7))
    assert all(len(one) == 7 and one.masks.values.shape == (7, 28, 28) for one in found)
    moved = in_source(found[0], Letterbox.fit((192, 180), 96))
    assert moved.masks.size == (192, 180) and len(moved.masks) == len(moved)


def test_the_mask_loss_is_that_of_torchvision(model, monkeypatch):
    """On the same targets: torchvision learns shares of cells, ours are in or out."""
    torch.manual_seed(0)
    target = with_masks(make_target(*[(*row, i % 3) for i, row in enumerate(boxes_in(5, least=20).tolist())]))
    raw = model.train()(images(1), [target])
    index = mask_rcnn.matched_objects(raw.boxes[0], target)
    positive = index >= 0
    regions, objects = raw.boxes[0][positive], index[positive]
    wanted = region_masks(target.masks[objects], target.boxes[objects], regions, 28).float()
    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", lambda *_: wanted)
    logits = model.mask_head(model.pool(raw.maps, regions[None], 14)[0])
    labels = torch.cat((torch.zeros(1, 3), target.labels[None].expand(1, -1)), 1)[0].long()[3:]
    theirs = torch.cat((logits[:, :1], logits), 1)  # background first
    expected = roi_heads.maskrcnn_loss(theirs, [regions], [target.masks], [labels + 1], [objects])
    term = model.loss(raw, [target])["mask"]
    assert positive.sum() > 5 and torch.allclose(term.total / term.count, expected, rtol=1e-4)


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The distance (P,) of points inside a polygon from its border, negative outside."""
    contour = polygon.astype(np.float32).reshape(-1, 1, 2)
    return np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), True) for x, y in points])


def grid(polygon: np.ndarray, box: np.ndarray, side: int = 56) -> np.ndarray:
    """The share of each cell of a box that a polygon covers, by 16 points a cell."""
    steps = (np.arange(side * 4) + 0.5) / (side * 4)
    x, y = np.meshgrid(box[0] + steps * (box[2] - box[0]), box[1] + steps * (box[3] - box[1]))
    hits = inside(polygon, np.stack((x.ravel(), y.ravel()), 1)).reshape(side, 4, side, 4) >= 0
    return (hits.mean((1, 3)) * 255).round().astype(np.uint8)


def test_masks_of_regions_are_what_rasterizing_the_outline_there_gives():
    polygon = np.array([(20.0, 13), (61, 22), (70, 66), (44, 48), (25, 60)])
    box = np.concatenate([polygon.min(0), polygon.max(0)])
    regions = torch.tensor(box).float() + torch.tensor(
        [[0.0, 0, 0, 0], [-9, 4, 3, 12], [15, 15, -15, -15], [40, 40, 60, 60]]
    )
    masks = torch.from_numpy(grid(polygon, box))[None].expand(4, -1, -1)
    found = region_masks(masks, torch.tensor(box).float().expand(4, 4), regions, 28)
    for mask, region in zip(found, regions.tolist(), strict=True):
        steps = (np.arange(28) + 0.5) / 28
        x, y = np.meshgrid(*(region[i] + steps * (region[i + 2] - region[i]) for i in range(2)))
        distance = inside(polygon, np.stack((x.ravel(), y.ravel()), 1)).reshape(28, 28)
        wrong = mask.numpy() != (distance >= 0)
        assert (np.abs(distance[wrong]) < 50 / 56).all() and wrong.mean() < 0.02  # within one cell of the border


def pasted(values: torch.Tensor, box: list[float], size: tuple[int, int]) -> np.ndarray:
    """A mask on the image, pixel by pixel: bilinear between the middles of cells, nothing outside of the box."""
    mask, side = np.zeros(size, bool), len(values)
    padded = np.pad(values.numpy(), 1)
    for y in range(max(0, int(box[1])), min(size[0], int(np.ceil(box[3])))):
        for x in range(max(0, int(box[0])), min(size[1], int(np.ceil(box[2])))):
            u = np.clip((x + 0.5 - box[0]) / (box[2] - box[0]) * side + 0.5, 0, side + 1 - 1e-6)
            v = np.clip((y + 0.5 - box[1]) / (box[3] - box[1]) * side + 0.5, 0, side + 1 - 1e-6)
            i, j = int(v), int(u)
            rows = padded[i : i + 2, j : j + 2]
            value = np.array([1 - (v - i), v - i]) @ rows @ np.array([1 - (u - j), u - j])
            mask[y, x] = value >= INSIDE
    return mask


def blobs(count: int) -> torch.Tensor:
    """Smooth masks (count, 28, 28) of probabilities."""
    noise = np.random.default_rng(0).random((count, 28, 28)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), 4) for one in noise])
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    return torch.from_numpy((smooth - low) / (high - low))


def test_masks_are_pasted_between_the_middles_of_cells():
    fit = Letterbox.fit((120, 160), 80)
    places = torch.tensor([[3.2, 4.7, 31.9, 40.1], [10.0, 5.0, 70.0, 55.0], [-4.0, 20.0, 12.0, 36.5], [7.0, 7, 7.9, 9]])
    values = blobs(4)
    boxes = fit.undo(places, clip=True)
    found = BoxMasks(values, places).in_source(fit, boxes)
    wanted = [pasted(one, fit.undo(place).tolist(), (120, 160)) for one, place in zip(values[:2], places, strict=False)]
    assert all((found.decode(i) != one).mean() < 1e-3 for i, one in enumerate(wanted))
    assert found.areas[2] and found.window(2)[0] == 0  # what reaches out of the image is cut off
    assert len(BoxMasks(values, places)[torch.tensor([True, False, True, False])]) == 2


def test_masks_are_pasted_as_torchvision_does():
    boxes = torch.tensor([[20.0, 30.0, 80.0, 110.0], [3, 5, 150, 70]])
    x, y = np.meshgrid(*[(np.arange(28) + 0.5) / 14 - 1] * 2)
    values = torch.from_numpy(1.1 - np.stack((np.hypot(x, y), np.abs(x) + np.abs(y)))).float().clamp(0, 1)
    theirs = roi_heads.paste_masks_in_image(values[:, None], boxes, (128, 160))[:, 0] >= INSIDE
    found = BoxMasks(values, boxes).in_source(Letterbox.fit((128, 160), 160), boxes)
    for i, one in enumerate(theirs.numpy()):
        ours = found.decode(i)
        assert (ours & one).sum() / (ours | one).sum() > 0.93  # theirs rounds boxes to pixels
