"""Masks and oriented boxes on images: where they are, what shows through, and what tells neighbours apart."""

import math

import numpy as np
import pytest
import torch

from detect.inference.draw import _captions, _classes, draw
from detect.inference.palette import color_of, instance_colors
from detect.masks import RleMasks
from detect.tracking.bytetrack import ByteTrack
from detect.types import Detections


def grey(level: int = 100) -> np.ndarray:
    return np.full((120, 200, 3), level, np.uint8)


def masked(*windows: tuple[int, int, int, int], labels: list[int] | None = None, **more) -> Detections:
    """Detections whose masks are rectangles: left, top, width, height."""
    masks = RleMasks.of_windows((120, 200), ((x, y, np.ones((h, w), bool)) for x, y, w, h in windows))
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in windows]).float().reshape(-1, 4)
    scores = torch.linspace(0.9, 0.5, len(windows))
    return Detections(boxes, scores, torch.tensor(labels or [0] * len(windows)), masks=masks, **more)


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_mask_is_translucent_inside_its_contour_and_nowhere_else(level: int) -> None:
    drawn = draw(grey(level), masked((50, 40, 40, 30)), ["a", "b"], hide_labels=True)
    assert (drawn[40, 50:90] == color_of(0)).all() and (drawn[40:70, 89] == color_of(0)).all()
    inside = drawn[45:65, 55:85].reshape(-1, 3)
    assert (inside == inside[0]).all() and (inside[0] != level).any() and tuple(inside[0]) != color_of(0)
    outside = drawn.copy()
    outside[40:70, 50:90] = level
    assert (outside == level).all()


def test_what_lies_under_a_mask_shows_through() -> None:
    image = grey(0)
    image[:, 70:] = 255
    drawn = draw(image, masked((50, 40, 40, 30)), ["a", "b"], hide_labels=True).astype(int)
    assert ((drawn[55, 80] - drawn[55, 60]) > 100).all()


def test_small_masks_lie_on_large_ones_whatever_their_scores() -> None:
    both = masked((10, 10, 150, 100), (50, 40, 20, 20), labels=[0, 1])
    for found in (both, both[torch.tensor([1, 0])]):
        assert tuple(draw(grey(), found, ["a", "b"], hide_labels=True)[40, 60]) == color_of(1)


def test_boxes_are_drawn_beside_masks_on_request() -> None:
    corner = np.eye(30, dtype=bool)
    found = Detections(
        torch.tensor([[50.0, 40, 80, 70]]),
        torch.ones(1),
        torch.tensor([0]),
        masks=RleMasks.of_windows((120, 200), [(50, 40, corner)]),
    )
    plain, boxed = (draw(grey(), found, ["a", "b"], hide_labels=True, show_boxes=show) for show in (False, True))
    assert tuple(plain[40, 70]) == (100,) * 3 and tuple(boxed[40, 70]) == color_of(0)


def test_an_empty_mask_draws_nothing_but_its_label() -> None:
    found = masked((50, 40, 0, 0))
    assert (draw(grey(), found, ["a"], hide_labels=True) == 100).all()
    assert (draw(grey(), found, ["a"]) != 100).any()
    assert (draw(grey(), found[:0], ["a"]) == 100).all()


def test_neighbours_of_a_class_differ_and_the_classes_keep_their_colours() -> None:
    boxes = np.array([[0, 0, 10, 10], [8, 0, 20, 10], [18, 0, 30, 10], [100, 0, 110, 10], [8, 0, 20, 10]], float)
    labels = [0, 0, 0, 0, 1]
    colors = instance_colors(boxes, labels, one_class=False)
    assert colors[0] == colors[3] == color_of(0) and colors[4] == color_of(1)
    assert colors[0] != colors[1] != colors[2]
    assert set(instance_colors(boxes, labels, one_class=True)) <= {color_of(i) for i in range(5)}
    assert instance_colors(np.zeros((0, 4)), [], False) == []
    crowd = instance_colors(np.tile([[0.0, 0, 10, 10]], (5, 1)), [0] * 5, False)
    assert len(set(crowd)) == 5


def test_a_track_gives_its_colour_to_the_mask_and_the_label() -> None:
    found = masked((50, 40, 40, 30), tracks=torch.tensor([7]))
    drawn = draw(grey(), found, ["a"])
    assert tuple(drawn[69, 60]) == color_of(7) and (drawn == color_of(7)).all(2)[:40].any()


def test_the_legend_of_a_crowd_has_a_line_for_each_class() -> None:
    found = masked(*((2 * i, 10, 6, 6) for i in range(40)), labels=[i % 2 for i in range(40)])
    assert [(one.name, count) for one, count in _classes(_captions(found, ["a", "b"], False))] == [("a", 20), ("b", 20)]


def test_an_oriented_box_is_turned_and_its_label_is_at_its_upper_side() -> None:
    found = Detections(
        torch.tensor([[65.0, 25, 135, 95]]),
        torch.ones(1),
        torch.tensor([0]),
        oriented=torch.tensor([[100.0, 60, 80, 20, math.pi / 4]]),
    )
    drawn = (draw(grey(), found, ["a"], line_width=1, hide_labels=True) != 100).any(2)
    assert drawn[60, 86] and drawn[60, 114] and not drawn[60, 92:108].any()
    assert not drawn[26, 110:135].any() and not drawn[:20].any()
    labelled = (draw(grey(), found, ["a"], line_width=1) != 100).any(2) & ~drawn
    assert labelled[:26, 60:].any() and not labelled[:, :60].any()


def test_tracks_carry_the_masks_of_their_detections() -> None:
    found = masked((10, 10, 40, 30), (100, 60, 40, 30), (60, 10, 10, 10), labels=[0, 1, 0])
    tracker = ByteTrack(0.55)
    for _ in range(2):
        tracked = tracker.update(found)
    assert tracked.tracks.tolist() == [1, 2] and isinstance(tracked.masks, RleMasks)
    assert tracked.masks.counts == found.masks.counts[:2]
