"""Rotation, shear, perspective, local warping and crops: geometry stays on the pixels that it belongs to."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.cli.parser import parse
from detect.config.augment import AugmentConfig
from detect.data.augment.transforms import ImageTarget, Placement, mosaic, paste, place, random_crop, single
from detect.data.augment.warp import Warp, random_warp
from detect.types import Target
from tests.reference import warp as naive
from tests.reference.planted import spot
from tests.reference.scenes import Store, ink
from tools import look

STILL = {"scale": 0, "translate": 0, "hue": 0, "saturation": 0, "value": 0, "flip": 0, "visibility": 0}
KINDS = {
    "rotate": {"rotate": 180},
    "shear": {"shear": 30},
    "perspective": {"perspective": 0.3},
    "warp": {"warp": 0.05},
    "all": {"rotate": 40, "shear": 15, "perspective": 0.2, "warp": 0.03},
}
ALL = [f"--augment.{each}" for each in ("rotate=30", "shear=10", "perspective=0.1", "warp=0.02", "crop=0.5")]
kinds = pytest.mark.parametrize("kind", KINDS)


def drawn(kind, size, seed):
    return random_warp(size, AugmentConfig(**KINDS[kind]), np.random.default_rng(seed))


def make_target(boxes, points=None, size=(100, 100), proposals=None):
    n = len(boxes)
    return Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(n),
        crowd=torch.arange(n) % 3 == 1,
        image_id=5,
        size=size,
        keypoints=None if points is None else torch.tensor(points, dtype=torch.float32),
        proposals=None if proposals is None else torch.tensor(proposals, dtype=torch.float32),
    )


def middle_of(image):
    """The centre (x, y) of the light in an image, and how much there is."""
    light = np.where(image[..., 0] > 40, image[..., 0], 0).astype(float)
    y, x = (np.average(axis + 0.5, weights=light + 1e-9) for axis in np.indices(light.shape))
    return np.array([x, y]), light.sum()


@pytest.mark.parametrize("scene", [single, lambda tile, *rest: mosaic([tile] * 4, *rest)])
def test_what_is_off_draws_nothing(scene):
    """So that the samples of a run without them are what they always were."""
    tile = ImageTarget(Store(2).read(1), Store(2).target(1))
    drawn = [np.random.default_rng(0) for _ in range(2)]
    image, _ = scene(tile, 64, AugmentConfig(), drawn[0], 114)
    drawn[1].uniform(size=3 if scene is single else 5)  # zoom and shift; the point where four images meet
    assert drawn[0].bit_generator.state == drawn[1].bit_generator.state
    for config in (AugmentConfig(crop=1), AugmentConfig(warp=0.03)):
        assert not np.array_equal(image, scene(tile, 64, config, np.random.default_rng(0), 114)[0])


@kinds
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(16, 900))
def test_backward_undoes_forward(kind, seed, size):
    warp = drawn(kind, size, seed)
    points = np.random.default_rng(seed).uniform(0, size, (40, 2))
    assert np.abs(warp.forward(warp.backward(points)) - points).max() < 0.01
    assert warp.forward(np.zeros((0, 3, 2))).shape == (0, 3, 2)


@settings(max_examples=15, deadline=None)
@given(angle=st.floats(-180, 180), seed=st.integers(0, 1000))
def test_a_rotation_turns_points_about_the_middle(angle, seed):
    class Drawn:
        def uniform(self, low, high, count):
            return np.array([angle / 180, 0, 0])[:count]

    warp = random_warp(100, AugmentConfig(rotate=180), Drawn())
    points = np.random.default_rng(seed).uniform(0, 100, (20, 2))
    x, y = (points - 50).T
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    assert np.allclose(warp.forward(points), np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) + 50)


@kinds
def test_settings_bound_what_is_drawn(kind):
    """Areas stay under rotation and shear; a perspective is as strong as it says; displacements never fold."""
    square = np.array([[50.0, 50], [51, 50], [50, 51]])
    for seed in range(20):
        warp = drawn(kind, 100, seed)
        a, b = warp.forward(square)[1:] - warp.forward(square)[0]
        turned = a[0] * b[1] - a[1] * b[0]
        assert turned > 0.1
        if kind in ("rotate", "shear"):
            assert turned == pytest.approx(1)
        if kind == "perspective":
            corner = warp.matrix[2, :2] * 50
            assert np.abs(corner).max() <= 0.3
        if kind == "warp":
            grid = np.stack(np.meshgrid(np.arange(101.0), np.arange(101.0)), axis=-1)
            assert np.abs(warp.displacement(grid)).max() <= 5


@kinds
@pytest.mark.parametrize("zoom", [0.6, 1.3])
def test_pixels_are_those_of_the_naive_twin(kind, zoom):
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (40, 30), interpolation=cv2.INTER_CUBIC)
    warp, corner = drawn(kind, 48, 5), (4.3, 7.8)
    canvas = np.full((48, 48, 3), 7, np.uint8)
    warp.draw(canvas, image, zoom, corner)
    expected = naive.draw(image, warp, zoom, corner)
    inside = np.isfinite(expected)
    assert inside.sum() > 100
    off = np.abs(canvas[..., 0] - expected)[inside]  # OpenCV places a pixel to 1/32
    assert off.max() < 5 and off.mean() < 0.8
    around = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert (canvas[around] == 7).all()


def test_an_image_that_shrinks_a_lot_is_averaged():
    """Stripes of one pixel become grey, not stripes."""
    image = np.zeros((160, 160, 3), np.uint8)
    image[:, ::2] = 200
    canvas = np.zeros((40, 40, 3), np.uint8)
    drawn("rotate", 40, 1).draw(canvas, image, 0.25, (0.0, 0.0))
    assert np.abs(canvas[14:26, 14:26].astype(int) - 100).max() < 3


@kinds
@pytest.mark.parametrize("zoom", [0.4, 1.0, 1.7])
def test_points_stay_on_their_pixels(kind, zoom):
    checked = 0
    for seed in range(6):
        warp = drawn(kind, 128, seed)
        place_at = np.random.default_rng(seed).uniform(30, 90, 2)
        corner = (64 - place_at * zoom + np.random.default_rng(seed).uniform(-20, 20, 2)).tolist()
        tile = ImageTarget(spot(110, 120, *place_at), make_target([[0, 0, 120, 110]], [[[*place_at, 2]]], (110, 120)))
        canvas = np.zeros((128, 128, 3), np.uint8)
        move = paste(canvas, tile, tuple(corner), zoom, warp)
        found = place([tile.target], [move], 0, (128, 128)).keypoints
        seen, light = middle_of(canvas)
        if light > 500 * zoom and np.abs(seen - 64).max() < 54:
            assert np.abs(found[0, 0, :2].numpy() - seen).max() < 0.35
            checked += 1
    assert checked > 3


def extents(image, label):
    rows, columns = np.nonzero(ink(image, label))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@kinds
@pytest.mark.parametrize("scene", ["single", "mosaic"])
def test_boxes_follow_ellipses_to_the_pixel(kind, scene):
    annotations, checked = Store(40, ellipses=True, side=(90, 140)), 0
    config = AugmentConfig(**{**STILL, "scale": 0.6}, **KINDS[kind])
    for i in range(1, 40):
        tiles = [
            ImageTarget(annotations.read(k), annotations.target(k)) for k in (i, 0, 5, 10)
        ]  # the others have no objects
        rng = np.random.default_rng(i)
        if scene == "single":
            image, target = single(tiles[0], 160, config, rng, 114)
        else:
            image, target = mosaic(tiles, 160, config, rng, 114)
        for label, box in zip(target.labels.tolist(), target.boxes.numpy(), strict=True):
            if box.min() > 2 and box.max() < 158 and (box[2:] - box[:2]).min() > 6:
                assert np.abs(box - extents(image, label)).max() <= 2
                checked += 1
    assert checked > 6


def test_a_still_warp_places_as_none_does():
    """The rules of visibility, of keypoints, crowd regions and proposals are the same ones."""
    rng = np.random.default_rng(0)
    low = rng.uniform(-30, 100, (60, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 60, (60, 2))], axis=1)
    points = np.concatenate([rng.uniform(-20, 120, (60, 2, 2)), rng.integers(0, 3, (60, 2, 1))], axis=2)
    moves = [
        Placement((0.7, 1.3), (5.0, -8.0), (5, 0, 60, 90)),
        Placement((1.0, 1.0), (40.0, 20.0), (60, 20, 100, 100)),
    ]
    parts = [
        make_target(boxes[:25].tolist(), points[:25], proposals=boxes[:9].tolist()),
        make_target(boxes[25:].tolist(), points[25:], proposals=boxes[9:].tolist()),
    ]
    for visibility in (0.0, 0.1, 0.5, 1.0):
        plain = place(parts, moves, visibility, (100, 100))
        still = [move._replace(warp=Warp(100, np.eye(3))) for move in moves]
        warped = place(parts, still, visibility - 1e-9, (100, 100))
        assert 0 < len(plain) < 60 and 0 < len(plain.proposals) < 60
        for one, other in zip(vars(plain).values(), vars(warped).values(), strict=True):
            if torch.is_tensor(one):
                assert one.shape == other.shape and torch.allclose(one.float(), other.float(), atol=1e-3)
            else:
                assert one == other


def test_what_a_warp_moves_out_of_sight_is_dropped():
    """A box at the side of a wide image is out of the canvas once the image is upright; a box outside it never was."""
    quarter = Warp(100, np.array([[0.0, -1, 100], [1, 0, 0], [0, 0, 1]]))
    target = make_target(
        [[0, 40, 20, 60], [90, 40, 110, 60], [-40, 40, -10, 60]], [[[5, 50, 2]], [[100, 50, 2]], [[0, 0, 0]]]
    )
    move = Placement((2.0, 1.0), (-50.0, 0.0), (-50, 0, 150, 100), quarter)
    found = place([target], [move], 0.1, (100, 100))
    assert len(found) == 0
    found = place([make_target([[25, 40, 35, 60]], [[[30, 50, 2]]])], [move], 0.1, (100, 100))
    assert found.boxes.tolist() == [pytest.approx([40, 0, 60, 20], abs=0.01)]
    assert found.keypoints.tolist() == [[pytest.approx([50, 10, 2], abs=0.01)]]


@pytest.mark.parametrize("shrunk", [1, 2])
def test_a_crop_takes_its_boxes_and_points_along(shrunk):
    """The image that is cropped may be a smaller copy of its source."""
    annotations, checked = Store(20, keypoints=2), 0
    config = AugmentConfig(**STILL, crop=1.0, crop_min=0.6)
    for i in range(1, 20):
        image, target = annotations.read(i), annotations.target(i)
        small = cv2.resize(image, None, fx=1 / shrunk, fy=1 / shrunk, interpolation=cv2.INTER_AREA)
        tile = random_crop(ImageTarget(small, target), config, np.random.default_rng(i))
        assert tile.target.size == tile.image.shape[:2]
        assert (np.array(tile.image.shape[:2]) >= np.floor(0.6 * np.array(small.shape[:2]))).all()
        canvas, found = single(ImageTarget(small, target), 128, config, np.random.default_rng(i), 114)
        for label, box in zip(found.labels.tolist(), found.boxes.numpy(), strict=True):
            if (ink(canvas, label)).any() and (box[2:] - box[:2]).min() > 6:
                assert np.abs(box - extents(canvas, label)).max() <= 1.5 * shrunk + 0.5
                checked += 1
        for x, y, seen in found.keypoints.reshape(-1, 3).tolist():
            if seen and 2 < x < 126 and 2 < y < 126:
                assert any(ink(canvas, label)[int(y), int(x)] for label in range(3))
    assert checked > 10


def test_a_crop_is_drawn_in_its_share_and_obeys_visibility():
    tile = ImageTarget(np.zeros((100, 100, 3), np.uint8), make_target([[40, 0, 60, 100]]))
    shares = AugmentConfig(**STILL, crop=0.3)
    drawn = [single(tile, 64, shares, np.random.default_rng(k), 0)[1].boxes for k in range(300)]
    whole = torch.tensor([[25.6, 0, 38.4, 64]])
    assert 180 < sum(len(boxes) == 1 and torch.allclose(boxes, whole, atol=0.7) for boxes in drawn) < 240
    strict = AugmentConfig(**{**STILL, "visibility": 1.0}, crop=1.0, crop_min=0.9)
    kept = [len(single(tile, 64, strict, np.random.default_rng(k), 0)[1]) for k in range(20)]
    assert sum(kept) == 0  # every crop cuts something off a box as high as the image


def people(folder, count=6):
    """A COCO set of dark images with one person each, whose two keypoints are soft lights."""
    rng, images, annotations = np.random.default_rng(1), [], []
    (folder / "images").mkdir(parents=True)
    for i in range(1, count + 1):
        points = rng.uniform([[65, 30], [30, 30]], [[90, 66], [55, 66]])
        light = np.maximum(*(spot(96, 120, *point) for point in points))
        cv2.imwrite(str(folder / "images" / f"{i}.png"), light)
        images.append({"id": i, "file_name": f"{i}.png", "width": 120, "height": 96})
        keypoints = np.concatenate([points, [[2], [2]]], axis=1).ravel().tolist()
        person = {"bbox": [10, 10, 100, 76], "area": 7600, "iscrowd": 0, "category_id": 1, "keypoints": keypoints}
        annotations.append({"id": i, "image_id": i, "num_keypoints": 2, **person})
    kind = {"id": 1, "name": "person", "keypoints": ["left_eye", "right_eye"], "skeleton": []}
    record = {"images": images, "annotations": annotations, "categories": [kind]}
    (folder / "ground_truth.json").write_text(json.dumps(record))
    text = "".join(f"{split}:\n  annotations: ground_truth.json\n  images: images\n" for split in ("train", "val"))
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"


def off_light(image, x, y):
    """How far a point is from the middle of the light about it; None where the dark around the light is not whole."""
    left, top = int(x) - 7, int(y) - 7
    around = image[top : top + 15, left : left + 15]
    if around.shape[:2] != (15, 15) or np.concatenate([around[[0, -1]], around[:, [0, -1]].swapaxes(0, 1)]).max() > 90:
        return None  # padding, an edge, or another light
    assert around.max() > 130
    return np.abs(middle_of(np.where(around > 130, 255, 0))[0] + (left, top) - (x, y)).max()


@pytest.mark.parametrize("model", ["yolo_n_points", "landmarker"])
def test_keypoints_of_every_task_stay_on_their_pixels(model, tmp_path):
    """Mirrored or not, alone or in a mosaic, cropped and warped: there is a light where a keypoint is said to be."""
    flags = ["--data", str(people(tmp_path)), "--model", model, "--imgsz", "128", "--augment.value", "0"]
    config = parse("train", [*flags, *ALL, "--augment.hue", "0", "--augment.saturation", "0"])
    checked = 0
    for epoch in range(4):
        for image, target in look.samples(config, "train", epoch, range(6))[0]:
            points = target.keypoints.reshape(-1, 3)[target.keypoints.reshape(-1, 3)[:, 2] > 0].tolist()
            for x, y, _ in points:
                if min(x, y) > 8 and (off := off_light(image, x, y)) is not None:
                    assert off < 0.6
                    checked += 1
    assert checked > 10


@pytest.mark.parametrize(
    "flags",
    [
        "--model yolo_n",
        "--model localizer",
        "--model faster_rcnn",
        "--model sliding_window --model.backbone lenet5",
        "--task classify --model lenet5",
        "--model embedder --batch 8",
    ],
)
def test_samples_of_every_task_are_warped_by_seed_epoch_and_position(flags, digits):
    moved = ALL[:-1] if "sliding" in flags else ALL
    flags = ["--data", str(digits), "--imgsz", "96", *flags.split(), "--workers", "0"]
    config, plain = parse("train", [*flags, *moved]), parse("train", flags)
    one = look.samples(config, "train", 1, range(8))[0]
    other = look.samples(config, "train", 1, [7, 3])[0]
    for (image, target), (again, same) in zip(other, (one[7], one[3]), strict=True):
        assert np.array_equal(image, again) and torch.equal(target.boxes, same.boxes)
    still = look.samples(plain, "train", 1, range(8))[0]
    assert not any(np.array_equal(a, b) for (a, _), (b, _) in zip(one, still, strict=True))
    for image, target in one:
        assert image.shape == still[0][0].shape and image.dtype == np.uint8
        assert torch.isfinite(target.boxes).all() and (target.boxes[:, 2:] > target.boxes[:, :2]).all()
        if "sliding_window" not in flags:
            assert (target.boxes >= 0).all() and (target.boxes <= 96).all()
