"""Augmentations move outlines with their pixels: what is drawn and moved is what the moved outline encloses."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from anchors.oriented import oriented_iou_aligned, oriented_to_corners
from detect.config.augment import AugmentConfig
from detect.data.augment.finish import oriented_of, with_masks, with_oriented
from detect.data.augment.transforms import (
    Augmenter,
    Placement,
    letterboxed,
    merge,
    mirror,
    mosaic,
    place,
    single,
)
from detect.data.augment.warp import Warp
from detect.data.outline_clipping import clipped
from detect.data.outlines import Outlines
from detect.errors import UserError
from detect.types import Preprocess, Target
from tests.reference.outlined import check, tile

STILL = AugmentConfig(hue=0, saturation=0, value=0, flip=0, visibility=0)
MOVES = {
    "zoom": {},
    "crop": {"crop": 1.0, "crop_min": 0.4},
    "turn": {"rotate": 180.0},
    "shear": {"shear": 30.0},
    "perspective": {"perspective": 0.2},
    "warp": {"warp": 0.03},
    "all": {"crop": 0.7, "rotate": 90.0, "shear": 15.0, "perspective": 0.1, "warp": 0.02},
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("encoded", [False, True])
def test_a_single_image_takes_its_outlines_along(name, encoded):
    checked = 0
    for seed in range(4):
        config = replace(STILL, scale=0.3, translate=0.2, **MOVES[name])
        image, target = single(tile(seed, encoded=encoded), 200, config, np.random.default_rng(seed), 0)
        checked += check(image, target, 0.9 if encoded else 0.93)
    assert checked > 6


@pytest.mark.parametrize("name", MOVES)
def test_every_tile_of_a_mosaic_takes_its_outlines_along(name):
    checked = 0
    for seed in range(5):
        tiles = [tile(seed + k, (label,)) for k, label in enumerate((0, 1, 2))]
        tiles.insert(seed % 4, tile(seed, ()))
        config = replace(STILL, scale=0.3, **MOVES[name])
        image, target = mosaic(tiles, 200, config, np.random.default_rng(seed), 0)
        checked += check(image, target)
    assert checked > 6


def test_mirrors_letterboxes_and_mixtures_take_outlines_along():
    augment = Augmenter(replace(STILL, flip=1.0), Preprocess(pad=0))
    for seed in range(3):
        shown = letterboxed(tile(seed), 180, Preprocess(pad=0))
        assert check(*shown) == 3
        assert check(*augment(shown[0].copy(), shown[1], 180, np.random.default_rng(0))) == 3
        mixed = merge([shown[1], shown[1]], shown[1].size)
        assert len(mixed.outlines) == 6 and (mixed.outlines[3:].points == shown[1].outlines.points).all()


def test_an_object_counts_by_the_share_of_its_outline_that_is_seen():
    """The box of a thin object that lies at a slant is half seen, of the object itself nothing is."""
    line = np.array([[0.0, 0], [4, 0], [100, 96], [100, 100], [96, 100], [0, 4]])
    target = Target(
        torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool), 0, (100, 100)
    )
    target = replace(target, outlines=Outlines.of_polygons([[line]]))
    move = Placement((1.0, 1.0), (0.0, 0.0), (60, 0, 100, 40))
    assert len(place([target], [move], 0.0, (100, 100))) == 0
    for visibility, kept in [(0.3, 1), (0.45, 0)]:
        seen = place([target], [move._replace(view=(60, 0, 100, 100))], visibility, (100, 100))
        assert len(seen) == kept
    assert place([target], [move._replace(view=(60, 0, 100, 100))], 0.3, (100, 100)).boxes.tolist() == [
        [60, 56, 100, 100]
    ]


def test_what_is_cut_into_pieces_is_bounded_by_them():
    """A ring that passes around the corner of the view reaches neither the corner nor what lies outside."""
    band = np.array([[5.0, 40], [-20, 40], [-20, -20], [40, -20], [40, -10], [-10, -10], [-10, 30], [5, 30]])
    fork = np.array([[10.0, 50], [10, 150], [90, 150], [90, 50], [70, 50], [70, 130], [30, 130], [30, 50]])
    seen = clipped(Outlines.of_polygons([[band], [fork], [band + 500]]), np.array([0.0, 0, 100, 100]))
    assert seen.bounds().tolist() == [[0, 30, 5, 40], [10, 50, 90, 100], [0, 0, 0, 0]]
    assert np.diff(seen.object_starts).tolist() == [1, 2, 0]
    assert seen.grids(np.array([[10.0, 50, 90, 100]] * 3))[1].mean() == pytest.approx(255 / 2, abs=3)


def rectangles(oriented):
    """A target whose outlines are the corners of oriented boxes, in an image of 200 x 200."""
    oriented = torch.tensor(oriented, dtype=torch.float32).reshape(-1, 5)
    count = len(oriented)
    corners = oriented_to_corners(oriented).double().numpy()
    outlines = replace(Outlines.of_polygons([[ring] for ring in corners]), whole=True)
    nothing = torch.zeros(count, dtype=torch.bool)
    return Target(
        torch.zeros(count, 4), torch.zeros(count, dtype=torch.int64), nothing, 0, (200, 200), outlines=outlines
    )


def test_oriented_boxes_turn_with_their_image():
    """By every angle, those at the period included; the turned box is the box, turned."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 13)
    target = rectangles([[60 + 6 * k, 100, 40, 16, angle] for k, angle in enumerate(angles)])
    for turn in (*np.linspace(-180, 180, 17), 1e-7, 89.9999):
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        shift = np.array([[1, 0, 100], [0, 1, 100], [0, 0, 1.0]])
        matrix = shift @ [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]] @ np.linalg.inv(shift)
        move = Placement((1.0, 1.0), (0.0, 0.0), (0, 0, 200, 200), Warp(200, matrix))
        found = with_oriented(place([target], [move], 0.0, (200, 200))).oriented
        middle = torch.tensor(matrix[:2, :2] @ [[60 + 6 * k - 100 for k in range(13)], [0] * 13]).T + 100
        expected = torch.cat(
            [middle, torch.tensor([[40, 16.0]] * 13), torch.tensor(angles + np.radians(turn))[:, None]], 1
        )
        assert oriented_iou_aligned(found, expected.float()).min() > 0.999


def test_oriented_boxes_reach_out_of_the_canvas_and_upright_ones_do_not():
    target = rectangles([[190, 100, 60, 20, 0.3], [100, 100, 60, 20, 1.2], [250, 100, 60, 20, 0]])
    still = Placement((1.0, 1.0), (0.0, 0.0), (0, 0, 200, 200))
    seen = with_oriented(place([target], [still], 0.1, (200, 200)))
    assert torch.allclose(seen.oriented, torch.tensor([[190, 100, 60, 20, 0.3], [100, 100, 60, 20, 1.2]]), atol=1e-3)
    assert seen.boxes[0, 2] == 200 and seen.outlines is None
    mirrored = with_oriented(mirror(place([target], [still], 0.1, (200, 200)), None)).oriented
    assert torch.allclose(mirrored[1], torch.tensor([100, 100, 60, 20, -1.2]), atol=1e-3)


def test_a_sheared_rectangle_has_a_box_that_changes_smoothly():
    """Also a square's, whose sides are no longer told apart, and in whatever direction the corners go round."""
    for width in (20.0, 10.0):
        corners = np.array([[0.0, 0], [width, 0], [width, 10], [0, 10]])
        slants = np.linspace(-0.5, 0.5, 101)
        rows = [corners @ np.array([[1, 0], [slant, 1]]) for slant in slants]
        boxes = torch.from_numpy(oriented_of(np.array(rows)))
        assert oriented_iou_aligned(boxes[1:], boxes[:-1]).min() > 0.97
        backwards = torch.from_numpy(oriented_of(np.array(rows)[:, ::-1]))
        assert oriented_iou_aligned(boxes, backwards).min() > 0.99
        for box, row in zip(oriented_to_corners(boxes).float().numpy(), rows, strict=True):
            assert min(cv2.pointPolygonTest(box, point.tolist(), True) for point in row) > -1e-3


def test_a_transform_that_loses_the_outlines_is_named():
    target = replace(tile(0).target, outlines=None)
    with pytest.raises(UserError, match="image id 3 has no outlines after augmentation"):
        with_masks(target)
