"""Every evaluator resampled: its numbers are those of a set that has some images several times, and others not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from detect.data.datasets.crops import Crops
from detect.data.outlines import Outlines
from detect.data.sources.formats import load_data
from detect.evaluation.bootstrap import bootstrap, draw_weights, leaves, nested
from detect.evaluation.classification import ClassEvaluator
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.landmarks import LandmarkEvaluator
from detect.evaluation.localization import LocalizationEvaluator
from detect.evaluation.masks import MaskEvaluator
from detect.evaluation.oks import KeypointEvaluator
from detect.evaluation.oriented import OrientedEvaluator
from detect.evaluation.semantic import SemanticEvaluator
from detect.evaluation.uncertainty import interval_lines, resample
from detect.evaluation.verification import PairEvaluator
from detect.masks import RleMasks
from detect.semantic import SemanticMap
from detect.types import Classification, Detections, Distance, Embedding

IMAGES = {
    "detect": CocoEvaluator,
    "localize": LocalizationEvaluator,
    "keypoints": KeypointEvaluator,
    "segment": MaskEvaluator,
    "obb": OrientedEvaluator,
    "semantic": SemanticEvaluator,
}
TASKS = (*IMAGES, "classify", "landmarks", "embed")


@pytest.fixture(scope="module")
def annotations(marked):
    """Digits with boxes, outlines and keypoints, all of them labelled."""
    found = load_data(marked, "val")
    x, y, w, h = found.boxes.T
    corners = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], 1).round()
    outlines = Outlines.of_polygons([[row.tolist()] for row in corners])
    keypoints = found.keypoints.copy()
    keypoints[..., :2] += 20  # of those without labels, too
    keypoints[..., 2] = 2
    return replace(found, outlines=outlines, keypoints=keypoints)


def prediction(task, annotations, i):
    """What a sloppy model says of image i: the same whenever it is asked."""
    rng, target = np.random.default_rng(i), annotations.target(i)
    keep = torch.from_numpy(rng.random(len(target)) < 0.8)
    count = int(keep.sum())
    boxes = target.boxes[keep] + torch.from_numpy(rng.integers(-4, 4, (count, 4)))
    found = Detections(boxes, torch.from_numpy(rng.random(count)).float(), target.labels[keep])
    if task == "keypoints":
        noise = torch.from_numpy(rng.normal(0, 3, (count, 3, 1))).float()
        return replace(found, keypoints=target.keypoints[keep] + noise * torch.tensor([1, 1, 0]))
    height, width = annotations.sizes[i].tolist()
    masks = np.zeros((count, height, width), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().clamp(min=0).tolist(), strict=True):
        mask[top:bottom, left:right] = True
    if task == "segment":
        return replace(found, masks=RleMasks.of(masks))
    if task == "obb":
        middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return replace(found, oriented=torch.cat([middle, side, 0 * side[:, :1] + 0.05], 1))
    if task == "semantic":
        labels = np.full((height, width), len(annotations.names), np.uint8)
        for mask, label in zip(masks, found.labels.tolist(), strict=True):
            labels[mask] = label
        return SemanticMap(torch.from_numpy(labels), len(annotations.names))
    return found[:1] if task == "localize" else found


def evaluated(task, annotations, images, seed=0):
    """An evaluator of some images, in this order; an image that comes twice is two images."""
    starts = annotations.starts
    objects = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in images])
    some = annotations.select(images)
    some = replace(some, image_ids=np.arange(len(images)), ids=np.arange(1, len(some.ids) + 1))
    rng = np.random.default_rng(seed)
    count = len(annotations.ids)
    if task in IMAGES:
        made = IMAGES[task](some)
        made.update(some.image_ids.tolist(), [prediction(task, annotations, i) for i in images])
    elif task == "classify":
        made, labels = ClassEvaluator(Crops.of(some)), rng.permuted(np.tile(np.arange(10), (count, 1)), axis=1)[:, :5]
        labels[::2, 0] = annotations.labels[::2]
        made.update(some.ids.tolist(), [Classification(torch.ones(5), torch.from_numpy(labels[n])) for n in objects])
    elif task == "landmarks":
        made, noise = LandmarkEvaluator(some), rng.normal(0, 2, (count, 3, 3)) * [1, 1, 0]
        points = {i: annotations.keypoints[n] + noise[n] for i, n in zip(some.ids.tolist(), objects, strict=True)}
        ids = made.instances.ids.tolist()
        made.update(ids, [landmarks(points[i]) for i in ids])
    else:
        made, values = PairEvaluator(Crops.of(some)), rng.random((count, 3)).astype(np.float32)
        made.update(some.ids.tolist(), [Embedding(values[n] + annotations.labels[n], Distance()) for n in objects])
    return made


def landmarks(points):
    shape = torch.from_numpy(points)[None].float()
    return Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1).long(), keypoints=shape)


def assert_same(found, expected, row=0):
    known = dict(leaves(expected))
    assert found and {name for name, _ in leaves(found)} <= set(known)
    for name, values in leaves(found):
        if known[name] is None or known[name] == -1:
            assert np.isnan(values[row]), name
        else:
            assert values[row] == pytest.approx(known[name], abs=1e-9), name


@pytest.mark.parametrize("task", TASKS)
def test_images_that_count_once_give_the_result(task, annotations):
    evaluator = evaluated(task, annotations, range(len(annotations)))
    result = evaluator.result()
    if task == "segment":
        result |= evaluator.boundary_result()
    found = evaluator.resampled(np.ones((2, len(annotations)), np.int32))
    assert_same(found, result)
    assert_same(found, result, 1)
    counted = ("instances", "images", "objects", "same", "different")
    singles = {name for name, value in leaves(result) if isinstance(value, float) and name[-1] not in counted}
    assert singles - {("thresholds", "accuracy"), ("thresholds", "far_1pct")} <= {name for name, _ in leaves(found)}


@pytest.mark.parametrize("task", [task for task in TASKS if task != "embed"])
def test_a_resample_is_a_set_with_some_images_twice(task, annotations):
    rng, count = np.random.default_rng(1), len(annotations)
    drawn = [rng.integers(count, size=count), np.array([0, 2, 5])]  # a part is a resample, too
    weights = np.stack([np.bincount(one, minlength=count) for one in drawn]).astype(np.int32)
    evaluator = evaluated(task, annotations, range(count))
    if task == "segment":
        evaluator.boundary_result()
    found = evaluator.resampled(weights)
    for row, images in enumerate(drawn):
        twin = evaluated(task, annotations, images)
        assert_same(found, twin.result() | (twin.boundary_result() if task == "segment" else {}), row)


def test_pairs_count_as_often_as_both_of_their_images(annotations):
    evaluator = evaluated("embed", annotations, range(len(annotations)))
    weights = draw_weights(len(annotations), 5)
    found = evaluator.resampled(weights)
    pairs, distances, same = evaluator._measured()
    rows = evaluator.crops.images
    for r, one in enumerate(weights):
        each = one[rows[pairs.first]] * one[rows[pairs.second]]
        assert found["auc"][r] == pytest.approx(roc_auc_score(same, -distances, sample_weight=each))
    assert all(((values >= 0) & (values <= 1)).all() for values in found.values())


@pytest.mark.parametrize("task", TASKS)
def test_every_number_has_an_interval(task, annotations):
    evaluator = evaluated(task, annotations, range(len(annotations)))
    found = resample(evaluator, annotations, 40)
    intervals = dict(leaves(found.intervals()))
    assert intervals.keys() == found.values.keys()
    known = {name: one for name, one in intervals.items() if one}
    assert known and all(low <= found.estimates[name] <= high for name, (low, high) in known.items() if len(name) == 1)
    lines = "\n".join(interval_lines(found, annotations))
    assert lines.startswith(f"95 % intervals (bootstrap: 40 resamples of the {len(annotations)} images)\n  ")
    assert max(map(len, lines.splitlines())) <= 120
    assert resample(evaluator, annotations, 0) is None and resample(object(), annotations) is None


def test_numbers_keep_their_places():
    tree = {"AP": 1, "per_class": {"a b": {"IoU": 2}, "c": 3}}
    assert nested(dict(leaves(tree))) == tree


def test_what_is_undefined_has_no_interval(annotations):
    evaluator = CocoEvaluator(annotations)
    found = bootstrap(evaluator, draw_weights(len(annotations), 20))
    assert found.estimates["AP",] == 0 and ("APl",) not in found.estimates
