"""Oriented boxes of several views of an image: mirrored, fused, and merged from tiles, each object once."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors.oriented import canonical, oriented_bounds, oriented_iou, oriented_iou_aligned, oriented_to_corners
from detect.data.letterbox import Letterbox, in_source
from detect.inference.oriented_fusion import mean_oriented
from detect.inference.tiles import TiledPredictor, tile_places
from detect.inference.tta import fuse_boxes, mirror
from detect.types import Detections, Frame, Postprocess, Preprocess


def found(rows: torch.Tensor, scores: list[float] | None = None) -> Detections:
    oriented = canonical(rows.reshape(-1, 5))
    score = torch.full((len(oriented),), 0.9) if scores is None else torch.tensor(scores)
    return Detections(oriented_bounds(oriented), score, torch.zeros(len(oriented)).long(), oriented=oriented)


def scattered(seed: int, count: int, width: int, height: int) -> torch.Tensor:
    """Boxes of any angle whose circles do not meet: (N, 5)."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        x, y, w, share = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(20, 160), rng.uniform(0.2, 1)
        if all(math.hypot(x - a, y - b) > (w + c) * 0.75 for a, b, c, *_ in rows):
            rows.append((x, y, w, w * share, rng.uniform(-4, 4)))
    return torch.tensor(rows).float().reshape(-1, 5)


@pytest.mark.parametrize("stretch", [False, True])
def test_oriented_boxes_go_back_to_the_source_by_their_corners(stretch: bool) -> None:
    fit = Letterbox.fit((300, 500), 160, Preprocess(stretch=stretch), square=True)
    source = scattered(0, 30, 500, 300)
    if stretch:  # of boxes that lie askew no rectangle comes back: upright ones do
        source[:, 4] = 0
    canvas = fit.forward(oriented_to_corners(source))
    turned = torch.cat((canvas.mean(1), torch.zeros(len(source), 3)), 1)
    scale = torch.tensor(fit.scale)
    turned[:, 2:4], turned[:, 4] = source[:, 2:4] * scale, source[:, 4]
    back = in_source(found(turned), fit)
    assert back.oriented is not None
    inside = (back.boxes[:, None] == back.boxes).all(-1).any(1)
    assert oriented_iou(source, back.oriented).amax(1)[: len(back)].min() > 0.97 and inside.all()
    assert back.boxes[:, 2].max() <= 500 and back.boxes.min() >= 0  # the upright box is cut at the image's border
    over = in_source(found(torch.tensor([[2.0, 80, 40, 10, 0.3]])), fit)
    assert over.oriented is not None and over.boxes[0, 0] == 0
    assert oriented_to_corners(over.oriented)[..., 0].min() < 0  # and the oriented one is whole


@given(st.integers(0, 10**6))
def test_a_mirror_image_turns_boxes_the_other_way(seed: int) -> None:
    one = found(scattered(seed, 5, 200, 200))
    other = mirror(one, 200)
    assert one.oriented is not None and other.oriented is not None
    corners = oriented_to_corners(one.oriented)
    corners[..., 0] = 200 - corners[..., 0]
    gap = (corners[:, :, None] - oriented_to_corners(other.oriented)[:, None]).norm(dim=-1)
    assert gap.amin(2).max() < 1e-3
    assert torch.allclose(other.boxes, oriented_bounds(other.oriented), atol=1e-3)


def test_the_mean_of_boxes_has_the_period_of_a_box() -> None:
    near = torch.tensor([[0.0, 0, 40, 10, math.pi / 2 - 0.1], [2, 0, 42, 10, -math.pi / 2 + 0.1]]).double()
    square = torch.tensor([[50.0, 50, 10, 10, 0.7], [50, 50, 10.2, 10, 0.7 - math.pi / 2]]).double()
    mean = mean_oriented(torch.cat((near, square)).numpy(), np.array([0.5, 0.5, 0.9, 0.3]), np.array([0, 0, 1, 1]))
    assert mean[0].tolist() == pytest.approx([1, 0, 41, 10, -math.pi / 2], abs=1e-5)
    expected = torch.tensor([[50, 50, 10, 10.05, 0.7]]).double()
    assert oriented_iou_aligned(torch.from_numpy(mean[1:]), expected).item() > 0.999
    assert mean_oriented(np.zeros((0, 5)), np.zeros(0), np.zeros(0, int)).shape == (0, 5)


def test_views_are_fused_by_the_overlap_of_turned_boxes() -> None:
    """Two crossed bars have the same upright box, and are two objects."""
    bars = torch.tensor([[50.0, 50, 60, 8, math.pi / 4], [50, 50, 60, 8, -math.pi / 4]])
    moved = bars.clone()
    moved[:, 0] += 1
    fused = fuse_boxes([found(bars), found(moved)])
    assert len(fused) == 2 and fused.oriented is not None
    assert fused.oriented[:, 0].tolist() == pytest.approx([50.5, 50.5])
    assert sorted(fused.oriented[:, 4].tolist()) == pytest.approx([-math.pi / 4, math.pi / 4], abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_tiles_are_merged_to_each_object_once(seed: int) -> None:
    """Each tile shows the objects whose centre it holds; where it cuts them, the piece inside its borders at times."""
    height, width, side = 420, 900, 240
    objects, places = scattered(seed, 40, width, height), tile_places(height, width, side)
    rng, views = torch.Generator().manual_seed(seed), []
    for x1, y1, x2, y2 in places.tolist():
        rows = objects.clone()
        rows[:, :2] -= torch.tensor([x1, y1])
        rows = rows[((rows[:, :2] > 0) & (rows[:, :2] < torch.tensor([x2 - x1, y2 - y1]))).all(1)]
        rows[:, 2:4] *= 0.97 + 0.06 * torch.rand(len(rows), 2, generator=rng)
        views.append(found(rows, torch.rand(len(rows), generator=rng).add(1).div(2).tolist()))
    frame = Frame(np.zeros((height, width, 3), np.uint8), "x")
    tiled = TiledPredictor(lambda frames: [(frame, view) for view in views], side, Postprocess())
    ((_, merged),) = tiled([frame])
    assert merged.oriented is not None and len(merged) == len(objects)
    assert oriented_iou(objects, merged.oriented).amax(1).min() > 0.85


def test_a_piece_of_an_object_goes_with_it() -> None:
    places = np.array([[0, 0, 300, 100], [0, 0, 160, 100], [100, 0, 300, 100]])
    whole, piece = torch.tensor([[150.0, 50, 80, 20, 0.2]]), torch.tensor([[136.0, 47, 50, 20, 0.2]])
    views = [found(torch.zeros(0, 5)), found(piece, [0.95]), found(whole - torch.tensor([100.0, 0, 0, 0, 0]), [0.6])]
    tiled = TiledPredictor(lambda frames: [(frames[0], view) for view in views], 160, Postprocess())
    merged = tiled._merge(views, places)
    assert merged.oriented is not None and torch.allclose(merged.oriented, canonical(whole))
