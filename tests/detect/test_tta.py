"""Test-time augmentation: views are turned back, and what they show of one object becomes one box."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.inference.predictor import Predictor
from detect.inference.tiles import TiledPredictor
from detect.inference.tta import SAME, SCALES, TTAPredictor, fuse_boxes, mirror
from detect.types import Detections, Frame, Postprocess
from tests.reference.fusion import fused
from tests.reference.planted import MAGENTA, ThingFinder, planted


def views(score: float = 0.25, scales: tuple[float, ...] = SCALES) -> TTAPredictor:
    finder = ThingFinder()
    return TTAPredictor([Predictor(finder, round(160 * s), batch=2) for s in scales], Postprocess(score))


def test_planted_things_are_found_where_they_are() -> None:
    image = planted(120, 200, (20, 30, 80, 90))
    image[10:60, 130:190] = MAGENTA
    ((frame, found),) = views()([Frame(image, "x")])
    assert frame.image is image and found.labels.tolist() == [1, 1]
    ground_truth = torch.tensor([[20.0, 30, 80, 90], [130, 10, 190, 60]])
    assert (found.boxes[found.boxes[:, 0].argsort()] - ground_truth).abs().max() < 3  # blur of resizing
    assert found.scores.tolist() == pytest.approx([0.9, 0.9])


def test_one_size_and_its_mirror_agree_with_the_size_alone() -> None:
    frames = [Frame(planted(96, 160, (i, 2 * i, 60 + i, 40 + i)), str(i)) for i in range(5)]
    alone = Predictor(ThingFinder(), 160)(frames)
    for (a, one), (b, both) in zip(alone, views(scales=(1.0,))(frames), strict=True):
        assert a is b and torch.allclose(one.boxes, both.boxes, atol=1e-3)


def test_what_few_views_show_counts_less() -> None:
    box, label = torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([3])
    once = [Detections(box, torch.tensor([0.9]), label), Detections.none(), Detections.none()]
    assert fuse_boxes(once).scores.tolist() == pytest.approx([0.3])
    assert fuse_boxes(once).labels.tolist() == [3] and fuse_boxes(once).boxes.tolist() == box.tolist()
    assert len(fuse_boxes([Detections.none()] * 3)) == 0


def test_no_frames_and_nothing_found() -> None:
    assert list(views()([])) == []
    ((_, found),) = views()([Frame(planted(60, 80, None), "x")])
    assert len(found) == 0


def test_tiles_take_views_for_a_predictor() -> None:
    image = planted(150, 400, (120, 30, 260, 120))
    image[10:50, 350:380] = MAGENTA
    ((_, found),) = TiledPredictor(views(), 160, Postprocess())([Frame(image, "x")])
    ground_truth = torch.tensor([[120.0, 30, 260, 120], [350, 10, 380, 50]])
    assert (found.boxes[found.boxes[:, 0].argsort()] - ground_truth).abs().max() < 3


boxes = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(5, 25), st.integers(5, 25)).map(
    lambda b: [float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3])]
)
found_rows = st.lists(st.tuples(boxes, st.integers(1, 63).map(lambda s: s / 64), st.integers(0, 1)), max_size=6)


def as_found(rows: list) -> Detections:
    box = torch.tensor([r[0] for r in rows]).reshape(-1, 4)
    return Detections(box, torch.tensor([r[1] for r in rows]).float(), torch.tensor([r[2] for r in rows]).long())


@settings(deadline=None)
@given(st.lists(found_rows, min_size=1, max_size=4))
def test_fusion_is_that_of_plain_loops(rows: list) -> None:
    ours = fuse_boxes([as_found(one) for one in rows])
    naive = fused(rows, SAME)
    assert np.allclose(ours.boxes.numpy(), np.array([r[0] for r in naive]).reshape(-1, 4), atol=1e-4)
    assert np.allclose(ours.scores.numpy(), [r[1] for r in naive])
    assert ours.labels.tolist() == [r[2] for r in naive]


@given(found_rows, st.integers(1, 50))
def test_mirrored_twice_is_as_it_was(rows: list, width: int) -> None:
    found = as_found(rows)
    assert torch.equal(mirror(mirror(found, width), width).boxes, found.boxes)
