"""Pipelines of albumentations: planted points stay on their pixels, and what ground truth cannot follow is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detect.errors import UserError
from detect.types import Target
from tests.reference.outlined import check, tile
from tests.reference.planted import spot

albument = pytest.importorskip("detect.data.augment.albumentations_adapter")  # it needs the extra albumentations
TRANSFORMS, A, Pipeline, sources = albument.TRANSFORMS, albument.A, albument.Pipeline, albument.sources
NEEDED = {  # arguments without which a transform is none, or does nothing
    "Affine": {"rotate": (-40, 40), "scale": (0.7, 1.3), "shear": (-15, 15)},
    "AtLeastOneBBoxRandomCrop": {"height": 80, "width": 90},
    "CenterCrop": {"height": 80, "width": 100},
    "Crop": {"x_min": 5, "y_min": 7, "x_max": 120, "y_max": 90},
    "CropAndPad": {"px": (-10, 10)},
    "LongestMaxSize": {"max_size": 171},
    "Pad": {"padding": 7},
    "PadIfNeeded": {"min_height": 130, "min_width": 160},
    "Perspective": {"scale": (0.1, 0.2)},
    "RandomCrop": {"height": 80, "width": 100},
    "RandomResizedCrop": {"size": (100, 90), "scale": (0.6, 1)},
    "RandomScale": {"scale_limit": 0.4},
    "RandomSizedBBoxSafeCrop": {"height": 80, "width": 90},
    "RandomSizedCrop": {"min_max_height": (80, 90), "size": (160, 160)},
    "Resize": {"height": 150, "width": 100},
    "SmallestMaxSize": {"max_size": 141},
}
HIDING = (
    "CoarseDropout ConstrainedCoarseDropout Erasing FrequencyMasking GridDropout PixelDropout TimeMasking XYMasking"
)
TORN = {"GridDistortion", "PiecewiseAffine"}  # their maps have creases, where a spot has no one centre
REFUSED = """
    CenterCrop3D CoarseDropout3D CropNonEmptyMaskIfExists CubicSymmetry D4 GridElasticDeform HorizontalFlip MaskDropout
    Morphological Mosaic OverlayElements Pad3D PadIfNeeded3D RandomCrop3D RandomCropNearBBox RandomGridShuffle
    SquareSymmetry ThinPlateSpline TimeReverse Transpose VerticalFlip
"""
OUTLINES_REFUSED = """
    CenterCrop3D CoarseDropout3D CropNonEmptyMaskIfExists CubicSymmetry GridElasticDeform MaskDropout Morphological
    Mosaic OverlayElements Pad3D PadIfNeeded3D RandomCrop3D RandomCropNearBBox RandomGridShuffle ThinPlateSpline
"""
POINTS = [(30.5, 20.5), (64.0, 48.0), (90.3, 70.2), (40.5, 78.5)]
DUAL = sorted(name for name, made in TRANSFORMS.items() if issubclass(made, A.DualTransform))

pytestmark = pytest.mark.filterwarnings("ignore")


def make_target():
    points = torch.tensor([[(x, y, 2.0) for x, y in POINTS]])
    nothing = torch.zeros(1, dtype=torch.int64)
    return Target(torch.tensor([[10.0, 10.0, 110.0, 90.0]]), nothing, nothing.bool(), 0, (96, 128), points)


def moved(spec, keypoint, seed):
    """Where that point is said to be and where its spot is, (2,) each; None where the spot is not whole."""
    image, target = Pipeline([spec], 0.0, True, 0)(
        spot(96, 128, *POINTS[keypoint]), make_target(), np.random.default_rng(seed)
    )
    ink = np.where(image[..., 0] > 40, image[..., 0], 0).astype(float)
    if not len(target) or ink.sum() < 1500:
        return None
    y, x = (np.average(axis + 0.5, weights=ink) for axis in np.indices(ink.shape))
    if not (7 < x < ink.shape[1] - 7 and 7 < y < ink.shape[0] - 7):
        return None
    return target.keypoints[0, keypoint, :2].numpy(), np.array([x, y])


def farthest(spec, seeds=2):
    found = [moved(spec, keypoint, seed) for seed in range(seeds) for keypoint in range(len(POINTS))]
    found = [pair for pair in found if pair]
    assert len(found) > 2
    return max(np.abs(said - seen).max() for said, seen in found)


@pytest.mark.parametrize("name", [name for name in DUAL if name not in REFUSED.split()])
def test_points_stay_on_their_pixels(name):
    spec = {name: {**NEEDED.get(name, {}), "p": 1}}
    if name in HIDING.split():
        _, target = Pipeline([spec], 0.0, True, 0)(spot(96, 128, 64, 48), make_target(), np.random.default_rng(0))
        assert torch.allclose(target.keypoints, make_target().keypoints, atol=1e-3)
    else:
        assert farthest(spec) < (1 if name in TORN else 0.3)


@pytest.mark.parametrize(
    "spec",
    [
        {"Rotate": {"limit": (90, 90)}},
        {"Affine": {"rotate": (-40, 40), "fit_output": True}},
        {"ElasticTransform": {"alpha": 300, "sigma": 15}},
        {"OpticalDistortion": {"mode": "fisheye"}},
        {"OneOf": {"transforms": [{"RandomRotate90": {}}, {"Sequential": {"transforms": [{"Rotate": {"p": 1}}]}}]}},
    ],
)
def test_points_stay_on_their_pixels_with_other_arguments(spec):
    ((name, arguments),) = spec.items()
    assert farthest({name: {**arguments, "p": 1}}) < 0.3


@pytest.mark.parametrize("name", REFUSED.split())
def test_what_points_cannot_follow_is_refused_by_name(name):
    with pytest.raises(UserError, match=rf"augment\.albumentations: (.* )?{name}"):
        arguments = {"num_grid_xy": (4, 4), "magnitude": 8} if name == "GridElasticDeform" else {}
        Pipeline([{name: arguments}], 0.0, True, 0)(spot(96, 128, 64, 48), make_target(), np.random.default_rng(0))


@pytest.mark.parametrize("mode", [2, 4])
def test_mirror_images_at_the_border_are_refused_where_there_are_keypoints(mode):
    spec = [{"Rotate": {"border_mode": mode}}]
    Pipeline(spec, 0.0, False)
    with pytest.raises(UserError, match=f"Rotate with border_mode {mode} shows mirror images"):
        Pipeline(spec, 0.0, True)


@pytest.mark.parametrize("name", [name for name in DUAL if name not in OUTLINES_REFUSED.split()])
def test_outlines_stay_on_their_pixels(name):
    """Mirrors included; creases of a map, which tear an outline, cost a little of it."""
    pipeline, checked = Pipeline([{name: {**NEEDED.get(name, {}), "p": 1}}], 0.0, False, 0), 0
    for seed in range(1 if name == "PiecewiseAffine" else 2):  # which takes a second
        image, target = tile(seed, size=(96, 128))
        if name in HIDING.split():
            _, moved = pipeline(image.copy(), target, np.random.default_rng(seed))
            assert np.allclose(moved.outlines.points, target.outlines.points, atol=1e-3)
            checked += len(moved)
        else:
            checked += check(*pipeline(image.copy(), target, np.random.default_rng(seed)), 0.8 if name in TORN else 0.9)
    assert checked > 1


def test_outlines_cannot_follow_what_leads_keypoints_astray():
    pipeline = Pipeline([{"GridElasticDeform": {"num_grid_xy": (4, 4), "magnitude": 8}}], 0.0, False)
    image, target = tile(0)
    with pytest.raises(UserError, match="outlines cannot follow GridElasticDeform"):
        pipeline(image, target, np.random.default_rng(0))
    pipeline(image, replace(target, outlines=None), np.random.default_rng(0))


def test_many_points_through_a_map_are_few_points_many_times():
    rng = np.random.default_rng(0)
    rows, columns = np.indices((60, 80)).astype(np.float32)
    map_x, map_y = columns + 3 * np.sin(rows / 9), rows + 2 * np.cos(columns / 7)
    points = rng.uniform(5, 55, (200, 2))
    one_by_one = np.concatenate([sources(point[None], map_x, map_y) for point in points])
    assert np.allclose(sources(points, map_x, map_y), one_by_one, atol=1e-6)


def test_boxes_cannot_follow_a_transform_that_makes_objects_grow():
    with pytest.raises(UserError, match="boxes cannot follow Morphological"):
        Pipeline([{"Morphological": {}}], 0.0, False)


def test_points_through_a_map_by_hand():
    """A map that reads at twice the place, moved by (3, 1): a point goes to half of what is left of it."""
    rows, columns = np.indices((20, 30)).astype(np.float32)
    got = sources(np.array([[13.5, 7.5], [20.0, 12.0]]), 2 * columns + 3, 2 * rows + 1)
    assert got == pytest.approx(np.array([[5.5, 3.5], [8.75, 5.75]]))
    assert sources(np.zeros((0, 2)), columns, rows).shape == (0, 2)


def test_the_box_of_a_turned_object_can_be_chosen():
    """The ellipse's of a 100 x 80 box turned by 45 degrees is narrower than that of its four corners."""
    widths = {}
    for method in ("ellipse", "largest_box", None):
        arguments = {"limit": (45, 45), "p": 1} | ({"rotate_method": method} if method else {})
        target = make_target()
        target.boxes[:] = torch.tensor([44.0, 38.0, 84.0, 58.0])
        target.keypoints[:] = torch.tensor([64.0, 48.0, 2.0])
        _, turned = Pipeline([{"Rotate": arguments}], 0.0, True)(
            spot(96, 128, 64, 48), target, np.random.default_rng(0)
        )
        widths[method] = float(turned.boxes[0, 2] - turned.boxes[0, 0])
    assert widths[None] == widths["ellipse"] == pytest.approx((40**2 / 2 + 20**2 / 2) ** 0.5, abs=0.5)
    assert widths["largest_box"] == pytest.approx((40 + 20) / 2**0.5, abs=0.5)
