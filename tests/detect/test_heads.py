"""Heads: the order of predictions, and decoding by hand and against naive twins."""

import math

import pytest
import torch
from torch import nn

from anchors.assign import pad_targets
from anchors.assign.grid_cell import GridCell
from anchors.grid import priors
from detect.models.backbones.blocks import flat
from detect.models.heads.anchor import AnchorHead, GridHead
from detect.models.heads.pico import PicoHead
from detect.models.heads.point import BINS, PointHead
from detect.types import HeadOutput
from tests.reference import losses as naive

ANCHORS = [[10.0, 20.0], [30.0, 15.0], [40.0, 50.0], [60.0, 70.0]]


def numbered(b: int, channels: int, h: int, w: int) -> torch.Tensor:
    """Maps whose value says where it stands: image, channel, row, column as digits."""
    digits = torch.meshgrid(*(torch.arange(n) for n in (b, channels, h, w)), indexing="ij")
    return sum(d * 10**p for d, p in zip(digits, (6, 3, 2, 0), strict=True)).float()


def test_predictions_run_over_rows_columns_anchors():
    got = flat(numbered(2, 6, 3, 4), anchors=2)
    assert got.shape == (2, 24, 3)
    for image in range(2):
        for row in range(3):
            for column in range(4):
                for anchor in range(2):
                    expected = [image * 10**6 + (3 * anchor + r) * 1000 + row * 100 + column for r in range(3)]
                    assert got[image, (row * 4 + column) * 2 + anchor].tolist() == expected


def passes(towers: nn.ModuleList, first: int) -> None:
    """Make prediction layers hand on their input, from channel `first`."""
    for tower in towers:
        layer = tower[-1]
        nn.init.zeros_(layer.bias)
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            for out in range(layer.out_channels):
                layer.weight[out, first + out] = 1.0


def test_point_head_lays_levels_end_to_end():
    head = PointHead([4 * BINS + 3] * 2, [8, 16], classes=3, depth=0)
    passes(head.classify, 4 * BINS)
    passes(head.regress, 0)
    maps = [numbered(2, 4 * BINS + 3, 2, 3), 5e7 + numbered(2, 4 * BINS + 3, 1, 2)]
    raw = head([maps[0].double().float(), maps[1]])
    expected = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
    assert torch.equal(raw.regression, expected[..., : 4 * BINS]) and torch.equal(raw.logits, expected[..., 4 * BINS :])
    assert raw.priors.centers.tolist()[:4] == [[4, 4], [12, 4], [20, 4], [4, 12]]
    assert raw.priors.centers.tolist()[6:] == [[8, 8], [24, 8]] and raw.priors.strides.tolist() == [8] * 6 + [16] * 2


def test_anchor_head_tells_codes_from_objectness():
    head = AnchorHead([10], [8], classes=2, depth=0, anchors=ANCHORS[:2])
    passes(head.classify, 0)
    passes(head.regress, 0)
    maps = numbered(1, 10, 2, 2)
    raw = head([maps])
    for row in range(2):
        for column in range(2):
            for anchor in range(2):
                at = (row * 2 + column) * 2 + anchor
                assert raw.regression[0, at].tolist() == maps[0, 5 * anchor : 5 * anchor + 4, row, column].tolist()
                assert raw.objectness[0, at] == maps[0, 5 * anchor + 4, row, column]
                assert raw.logits[0, at].tolist() == maps[0, 2 * anchor : 2 * anchor + 2, row, column].tolist()
                assert (raw.priors.boxes[at, 2:] - raw.priors.boxes[at, :2]).tolist() == ANCHORS[anchor]


@pytest.mark.parametrize("kind", [PointHead, PicoHead])
def test_point_boxes_are_their_naive_twin(kind):
    torch.manual_seed(0)
    head = kind([8, 8], [8, 16], classes=1, depth=0)
    where = priors([(2, 2), (1, 1)], [8, 16])
    raw = HeadOutput(torch.zeros(2, 5, 1), 2 * torch.randn(2, 5, 4 * head.bins), where)
    got = head.boxes(raw)
    for image in range(2):
        for a in range(5):
            sides = raw.regression[image, a].view(4, head.bins).tolist()
            expected = naive.point_box(sides, where.centers[a].tolist(), where.strides[a].item())
            assert got[image, a].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_a_point_box_by_hand():
    """Cell (1, 0) of a 2 x 2 grid of stride 32: centre (48, 16); 1 stride left, none up, half right, 15 down."""
    head = PointHead([8], [32], classes=1, depth=0)
    regression = torch.full((1, 4, 4, BINS), -1e4)
    regression[0, 1, 0, 1] = regression[0, 1, 1, 0] = regression[0, 1, 3, 15] = 0.0
    regression[0, 1, 2, :2] = 0.0  # as likely nothing as one stride
    raw = HeadOutput(torch.zeros(1, 4, 1), regression.flatten(2), priors([(2, 2)], [32]))
    assert head.boxes(raw)[0, 1].tolist() == pytest.approx([16, 16, 64, 496])
    assert head.scores(raw)[0, 1].item() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [AnchorHead, GridHead])
def test_anchor_boxes_are_their_naive_twin(kind):
    torch.manual_seed(0)
    head = kind([8, 8], [8, 16], classes=2, depth=0, anchors=ANCHORS)
    raw = head([torch.randn(2, 8, 2, 2), torch.randn(2, 8, 1, 1)])
    raw = raw._replace(regression=torch.randn_like(raw.regression))
    got, scores = head.boxes(raw), head.scores(raw)
    where = raw.priors
    for image in range(2):
        for a in range(10):
            anchor = ANCHORS[a % 2 if a < 8 else 2 + a % 2]
            codes, center = raw.regression[image, a].tolist(), where.centers[a].tolist()
            expected = naive.anchor_box(codes, center, where.strides[a].item(), anchor, kind is AnchorHead)
            assert got[image, a].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)
            objectness = naive.sigmoid(raw.objectness[image, a].item())
            expected = [objectness * naive.sigmoid(x) for x in raw.logits[image, a].tolist()]
            assert scores[image, a].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_grid_of_the_course_by_hand():
    """A 64 px image, a 2 x 2 grid: the box (10, 40, 30, 56) has its centre (20, 48) in the cell of row 1, column 0.

    Of that cell it says x = 20 / 32, y = 16 / 32, w = 20 / 32, h = 16 / 32; a box wider than its cell has w above 1.
    """
    head = GridHead([8], [32], classes=3, depth=0)
    raw = head([torch.zeros(1, 8, 2, 2)])
    box, wide = torch.tensor([[10.0, 40.0, 30.0, 56.0]]), torch.tensor([[-44.0, 40.0, 84.0, 56.0]])
    ground_truth = pad_targets([(box, torch.tensor([2]), torch.tensor([False]))])
    found = GridCell()(torch.zeros(1, 4, 3), torch.zeros(1, 4, 4), raw.priors, ground_truth)
    assert found.index.tolist() == [[-1, -1, 0, -1]] and found.weight.tolist() == [[0, 0, 1, 0]]
    at = torch.tensor([0]), torch.tensor([2])
    logit = math.log(0.625 / 0.375)
    for expected, codes in (
        (box, [logit, 0, math.log(0.625), math.log(0.5)]),
        (wide, [logit, 0, math.log(4), -0.6931]),
    ):
        said = raw._replace(regression=torch.zeros(1, 4, 4))
        said.regression[0, 2] = torch.tensor(codes)
        assert torch.allclose(head.boxes(said)[0, 2], expected[0], atol=1e-2)
        assert head.regression_loss(said.at(at), expected).item() == pytest.approx(0, abs=1e-6)
    blank = raw._replace(regression=torch.zeros(1, 4, 4))  # says the middle of the cell, and the cell's size
    expected = (0.625 - 0.5) ** 2 + math.log(0.625) ** 2 + math.log(0.5) ** 2
    assert head.regression_loss(blank.at(at), box).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [PointHead, PicoHead, AnchorHead, GridHead])
def test_code_loss_of_nothing_is_nothing(kind):
    head = kind([8], [8], classes=2, depth=1)
    raw = head([torch.randn(1, 8, 2, 2)])
    nothing = torch.zeros(0, dtype=torch.int64)
    loss = head.regression_loss(raw.at((nothing, nothing)), torch.zeros(0, 4))
    assert loss.shape == (0,)
    loss.sum().backward()
    assert all(p.grad is not None for p in head.regress.parameters())


def test_bounded_codes_are_least_wrong_at_the_box():
    head = AnchorHead([8], [8], classes=1, depth=0, anchors=[[12.0, 9.0]])
    raw = head([torch.zeros(1, 8, 2, 2)])
    box = torch.tensor([[3.0, 5.0, 21.0, 13.0]])
    at = torch.tensor([0]), torch.tensor([3])
    right = raw._replace(regression=torch.zeros(1, 4, 4))
    centers, strides = raw.priors.centers[3:], raw.priors.strides[3:]
    right.regression[0, 3] = head.encode(box, centers, strides, torch.tensor([[12.0, 9.0]]))
    assert torch.allclose(head.boxes(right)[0, 3], box[0], atol=1e-3)
    assert head.regression_loss(right.at(at), box).item() == pytest.approx(0, abs=1e-9)
    off = right._replace(regression=right.regression + 0.5)
    assert head.regression_loss(off.at(at), box).item() > 0.01
