"""The head with masks: samples against a naive twin, the loss, and masks in source pixels without a shift or a seam."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from detect.data.letterbox import Letterbox, in_source
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.yolo import YoloMasksConfig
from detect.models.heads.masks import SEVERAL, best_of_each
from detect.models.losses.masks import MARGIN, mask_loss, sample_maps, sample_points
from detect.prototype_masks import PrototypeMasks
from detect.types import Detections, Postprocess, Target


def test_maps_are_sampled_as_grid_sample_does():
    maps = torch.randn(3, 5, 7, 6, requires_grad=True)
    image, places = torch.tensor([2, 0, 1, 2]), torch.rand(4, 9, 2) * 10 - 1
    ours = sample_maps(maps, image, places)
    grid = 2 * places / torch.tensor([6.0, 7.0]) - 1
    theirs = grid_sample(maps[image], grid[:, None], padding_mode="border", align_corners=False)[:, :, 0].mT
    assert torch.allclose(ours, theirs, atol=1e-5)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((x * weight).sum(), maps)[0] for x in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-5)


@pytest.mark.parametrize("count", [1, 600, 3000])
def test_points_are_in_the_middle_of_the_cells_whose_share_they_have(count):
    masks, boxes = torch.zeros(count, 56, 56, dtype=torch.uint8), torch.tensor([[8.0, 4.0, 64.0, 116.0]])
    masks[:, 3, 5] = 51
    points, shares = sample_points(masks, boxes.expand(count, 4))
    assert points.shape == (count, shares.shape[1], 2) and shares.shape[1] in (32**2, 16**2, 8**2)
    assert count * shares.shape[1] <= 2**19 * 1.2
    hit = shares[0] > 0
    assert hit.sum() <= 1 and torch.allclose(shares[0][hit], torch.tensor(0.2))
    assert torch.allclose(points[0][hit], torch.tensor([[8 + 5.5, 4 + 2 * 3.5]]).expand(int(hit.sum()), 2))
    low, high = points[0].aminmax(dim=0)
    margin = MARGIN * torch.tensor([1.0, 2.0])
    assert ((low - boxes[0, :2]).abs() < margin).all() and ((high - boxes[0, 2:]).abs() < margin).all()


def test_the_loss_of_a_mask_falls_to_zero_where_it_is_right():
    shares = (torch.rand(2, 50) > 0.5).float()
    samples = torch.stack([2 * shares - 1, torch.randn(2, 50)], -1)
    inside = torch.rand(2, 50) > 0.1
    right, wrong = torch.tensor([[[50.0, 0.0]]]).expand(2, 1, 2), torch.tensor([[[-50.0, 0.0]]]).expand(2, 1, 2)
    assert mask_loss(right, samples, shares, inside).max() < 1e-3
    assert mask_loss(wrong, samples, shares, inside).min() > 50
    changed = torch.where(inside[..., None], samples, 9.0)  # points that do not count have no part
    assert torch.equal(mask_loss(right, samples, shares, inside), mask_loss(right, changed, shares, inside))


def test_the_best_predictions_of_each_object_are_chosen():
    row = torch.tensor([1, 0, 1, 1, 2] + [0] * 20)
    weight = torch.tensor([0.5, 0.9, 0.7, 0.6, 0.1, *torch.linspace(0, 0.8, 20).tolist()])
    slots = best_of_each(row, weight, 3)
    assert slots.shape == (3, SEVERAL)
    assert slots[0].tolist() == [1, *range(24, 24 - SEVERAL + 1, -1)]
    assert slots[1].tolist() == [2, 3, 0] + [-1] * (SEVERAL - 3)
    assert slots[2].tolist() == [4] + [-1] * (SEVERAL - 1)
    assert best_of_each(row[:0], weight[:0], 0).shape == (0, 1)


def a_model(**options):
    small = {"width": 16, "levels": [3, 4], "neck": "straight", "head_convs": 0}
    return build(YoloMasksConfig(backbone="csp_n", **small, **options), ModelMetadata(["a", "b"], [1, 2]))


def a_target(count, masks=True):
    low = torch.rand(count, 2) * 60
    boxes, labels = torch.cat([low, low + 20 + 10 * torch.rand(count, 2)], 1), torch.randint(2, (count,))
    grids = (torch.rand(count, 56, 56) * 255).byte() if masks else None
    return Target(boxes, labels, torch.zeros(count, dtype=torch.bool), 1, (96, 96), masks=grids)


@pytest.mark.parametrize("counts", [(3, 0, 2), (0, 0, 0)])
def test_every_weight_takes_part_in_the_loss(counts):
    model = a_model()
    terms = model.loss(model(torch.zeros(3, 3, 96, 96, dtype=torch.uint8)), [a_target(n) for n in counts])
    assert torch.isfinite(terms["masks"].total) and (terms["masks"].total > 0) == (sum(counts) > 0)
    terms["masks"].total.backward()
    assert all(p.grad is not None for p in [*model.head.coefficients.parameters(), *model.head.prototypes.parameters()])


def test_targets_without_masks_have_no_loss_of_masks():
    model = a_model()
    terms = model.loss(model(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)), [a_target(2, masks=False)])
    assert terms["masks"].total == 0 and terms["box"].total > 0


@pytest.mark.parametrize("source", [(75, 100), (100, 37), (640, 480), (33, 33)])
def test_masks_in_the_source_are_where_their_prototype_is(source):
    """A disc as the distance to its rim, which bilinear interpolation keeps, up to the curvature within a cell."""
    fit, boxes = Letterbox.fit(source, 128), torch.tensor([[0.0, 0.0, source[1], source[0]]])
    rows, columns = (torch.arange(n // 4) * 4 + 2.0 for n in fit.canvas)
    center, radius = fit.forward(torch.tensor([source[1] * 0.45, source[0] * 0.6])), 20.0
    distance = torch.hypot(columns - center[0], rows[:, None] - center[1])
    masks = PrototypeMasks(torch.stack([distance, torch.ones_like(distance)]), torch.tensor([[-1.0, radius]]))
    dense = masks.in_source(fit, boxes).decode(0)
    y, x = (np.arange(n) + 0.5 for n in source)
    canvas = fit.forward(torch.from_numpy(np.stack(np.meshgrid(x, y), -1))).numpy()
    expected = np.hypot(*(canvas - center.numpy()).transpose(2, 0, 1)) < radius
    scale = fit.scale[0]
    assert (dense != expected).sum() <= 0.03 * expected.sum() + 2
    moved = [np.average(np.nonzero(m), axis=1) for m in (dense, expected)]
    assert np.abs(moved[0] - moved[1]).max() * scale < 0.1  # canvas pixels


def test_a_mask_ends_at_its_box_without_a_seam():
    """A mask that covers all is the box itself; two boxes that meet leave no gap and do not overlap."""
    fit = Letterbox.fit((60, 90), 128)
    masks = PrototypeMasks(torch.ones(1, *(n // 4 for n in fit.canvas)), torch.ones(3, 1))
    boxes = torch.tensor([[10.0, 20.0, 33.4, 50.0], [33.4, 20.0, 90.0, 50.0], [0.0, 0.0, 90.0, 60.0]])
    found = in_source(Detections(fit.forward(boxes), torch.ones(3), torch.zeros(3).long(), masks=masks), fit)
    left, right, whole = (found.masks.decode(i) for i in range(3))
    assert whole.all() and not (left & right).any()
    assert (left | right)[20:50, 10:].all() and (left | right).sum() == 30 * 80


def test_a_mask_goes_on_to_the_edge_of_the_image_where_its_box_ends_just_before():
    """Boxes end a little early at the border of a tile; the masks of two tiles would not meet."""
    fit = Letterbox.fit((100, 200), 128)
    masks = PrototypeMasks(torch.ones(1, *(n // 4 for n in fit.canvas)), torch.ones(2, 1))
    boxes = torch.tensor([[3.0, 1.0, 197.0, 99.0], [5.0, 3.0, 195.0, 97.0]])  # less and more than 2 % of a side away
    found = masks.in_source(fit, boxes)
    assert found.decode(0).all()
    assert found.areas.tolist() == [100 * 200, 94 * 190]


def test_a_logit_of_zero_at_the_rim_of_a_neighbour_does_not_leak():
    """Only the cells around the window are read, and they give what the whole map gives."""
    fit, maps = Letterbox.fit((200, 300), 160), torch.randn(4, 28, 40)
    masks = PrototypeMasks(maps, torch.randn(6, 4))
    low = 10 + torch.rand(6, 2) * torch.tensor([230.0, 120.0])  # away from the edges, to which masks go on
    boxes = torch.cat([low, low + 5 + 40 * torch.rand(6, 2)], 1)
    windows = masks.in_source(fit, boxes)
    whole = masks.in_source(fit, torch.tensor([[0.0, 0.0, 300.0, 200.0]]).expand(6, 4))
    for i, (x0, y0, x1, y1) in enumerate(boxes.round().int().tolist()):
        expected = np.zeros((200, 300), bool)
        expected[y0:y1, x0:x1] = whole.decode(i)[y0:y1, x0:x1]
        assert (windows.decode(i) == expected).all()


def test_a_model_gives_detections_with_masks():
    model = a_model().eval()
    raw = model(torch.randint(255, (2, 3, 96, 64), dtype=torch.uint8))
    fit = Letterbox.fit((48, 32), (96, 64))
    for found in model.postprocess(raw, Postprocess(score=0.0, limit=7)):
        assert len(found.masks) == len(found) == 7
        moved = in_source(found, fit)
        assert moved.masks.size == (48, 32) and len(moved.masks) == len(moved)


def test_hundreds_of_objects_on_a_large_image_take_little_memory():
    fit, maps = (
        Letterbox.fit((3000, 4000), 640),
        interpolate(torch.randn(1, 32, 15, 20), scale_factor=8, mode="bicubic"),
    )
    masks = PrototypeMasks(maps[0], torch.randn(300, 32))
    low = torch.rand(300, 2) * torch.tensor([3000.0, 2000.0])
    boxes = torch.cat([low, low + 1000 * torch.rand(300, 2)], 1)
    boxes[0] = torch.tensor([0.0, 0.0, 4000.0, 3000.0])
    tracemalloc.start()
    found = masks.in_source(fit, boxes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 300 and (found.areas > 0).sum() > 250
    assert peak < 40e6  # a single array of all pixels would have 12 million bytes, one for each object 3.6 billion
