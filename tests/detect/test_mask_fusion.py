"""Masks of several views become one: mirrored and scaled views vote, tiles are united without a seam."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detect.inference.box_fusion import members_of
from detect.inference.mask_fusion import agreement, united, voted
from detect.inference.predictor import Predictor
from detect.inference.tiles import TiledPredictor
from detect.inference.tta import TTAPredictor, fuse_boxes, mirror
from detect.masks import RleMasks
from detect.types import Detections, Frame, Postprocess
from tests.reference.planted import MAGENTA, ShapeFinder

SIDE = 160
MASKS = arrays(bool, (5, 12, 15))


def tiled() -> TiledPredictor:
    return TiledPredictor(Predictor(ShapeFinder(), SIDE, batch=4), SIDE, Postprocess())


def scene(height: int, width: int, *shapes: np.ndarray) -> tuple[Frame, np.ndarray]:
    """An image with magenta polygons (V, 2), and their masks (N, height, width)."""
    masks = np.array([cv2.fillPoly(np.zeros((height, width), np.uint8), [shape], 1) for shape in shapes], bool)
    image = np.full((height, width, 3), 90, np.uint8)
    image[masks.any(0)] = MAGENTA
    return Frame(image, "x"), masks


def overlap(found: RleMasks, masks: np.ndarray) -> list[float]:
    return found.iou(RleMasks.of(masks)).max(0).tolist()


@settings(max_examples=30, deadline=None)
@given(MASKS, arrays(np.float64, 5, elements=st.sampled_from([0.25, 0.5, 1.0])))
def test_votes_are_counted_as_a_loop_over_pixels_counts_them(dense: np.ndarray, weights: np.ndarray) -> None:
    members = [np.array([0, 3]), np.array([1, 2, 4]), np.array([2])]
    result = voted(RleMasks.of(dense), members, weights).numpy()
    for mask, rows in zip(result, members, strict=True):
        votes = sum(weights[i] * dense[i] for i in rows)
        assert np.array_equal(mask, votes >= weights[rows].sum() / 2)


@settings(max_examples=30, deadline=None)
@given(MASKS)
def test_coarse_masks_count_only_where_no_fine_view_of_the_object_looked(dense: np.ndarray) -> None:
    places = np.array([[0, 0, 15, 12], [0, 0, 8, 12], [6, 0, 15, 12], [0, 0, 8, 6], [0, 0, 15, 12]])
    coarse = np.array([True, False, False, False, True])
    for (x1, y1, x2, y2), mask in zip(places, dense, strict=True):
        mask[:y1], mask[y2:], mask[:, :x1], mask[:, x2:] = (False,) * 4
    result = united(RleMasks.of(dense), [np.array([1, 2]), np.array([0, 3]), np.array([4])], places, coarse).numpy()
    assert np.array_equal(result[0], dense[1] | dense[2]) and np.array_equal(result[2], dense[4])
    outside = dense[0].copy()
    outside[:6, :8] = False
    assert np.array_equal(result[1], outside | dense[3])


@settings(max_examples=40, deadline=None)
@given(MASKS, st.integers(0, 15), st.integers(0, 12), st.integers(1, 15), st.integers(1, 12))
def test_masks_are_compared_in_a_zone(dense: np.ndarray, x: int, y: int, w: int, h: int) -> None:
    masks, zone = RleMasks.of(dense), dense[:2, y : y + h, x : x + w]
    both, either = (zone[0] & zone[1]).sum(), (zone[0] | zone[1]).sum()
    got = agreement(masks.window(0), masks.window(1), (x, y, x + w, y + h))
    assert got == pytest.approx(both / max(either, 1))


def test_members_are_the_rows_of_each_object() -> None:
    assert [rows.tolist() for rows in members_of(np.array([1, 0, 2, 1, 0]))] == [[1, 4], [0, 3], [2]]
    assert members_of(np.zeros(0, int)) == []


def test_the_mask_of_a_mirror_image_is_turned_back_and_votes() -> None:
    box, size = torch.tensor([[2.0, 3, 8, 9]]), (12, 15)
    left = Detections(
        box, torch.tensor([0.6]), torch.tensor([1]), masks=RleMasks.of_windows(size, [(2, 3, np.ones((6, 6), bool))])
    )
    right = Detections(
        box, torch.tensor([0.4]), torch.tensor([1]), masks=RleMasks.of_windows(size, [(2, 3, np.ones((6, 3), bool))])
    )
    assert np.array_equal(mirror(mirror(left, 15), 15).masks.decode(0), left.masks.decode(0))
    assert mirror(left, 15).masks.window(0)[:2] == (7, 3)
    fused = fuse_boxes([left, right, Detections.none()])
    assert np.array_equal(fused.masks.decode(0), left.masks.decode(0)), "0.6 of 1.0 have the right half, too"
    assert fuse_boxes([Detections.none()] * 2).masks is None


def test_test_time_augmentation_gives_masks() -> None:
    frame, masks = scene(
        120, 200, np.array([[20, 30], [80, 40], [60, 100]]), np.array([[130, 10], [190, 20], [150, 60]])
    )
    views = TTAPredictor([Predictor(ShapeFinder(), round(200 * s), batch=2) for s in (1.0, 1.2)], Postprocess())
    ((_, found),) = views([frame])
    assert len(found) == 2 and min(overlap(found.masks, masks)) > 0.93


def test_an_object_across_tiles_has_one_mask_without_a_seam() -> None:
    long = np.array([[20, 20], [60, 20], [480, 290], [440, 290]])  # a band that lies askew, too long for any tile
    frame, masks = scene(310, 500, long, np.array([[300, 20], [480, 20], [480, 150]]))
    ((_, found),) = tiled()([frame])
    assert len(found) == 2 and found.masks.size == (310, 500)
    assert overlap(found.masks, masks) == [1.0, 1.0]


def test_a_band_askew_through_the_corner_of_tiles_is_one_object() -> None:
    frame, masks = scene(300, 300, np.array([[30, 40], [50, 20], [280, 260], [260, 280]]))
    ((_, found),) = tiled()([frame])
    assert len(found) == 1 and overlap(found.masks, masks) == [1.0]
