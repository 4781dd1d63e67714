"""Masks of every kind, drawn by hypothesis: what we measure on them is what pycocotools measures."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from detect.data.annotations import Annotations
from detect.data.sources.coco import load_coco
from detect.evaluation import NUMBERS, evaluate_file
from detect.evaluation.boundary import boundaries, boundary_matches
from detect.evaluation.coco_matching import measure_matches
from detect.evaluation.coco_protocol import summary_of
from detect.evaluation.coco_results import read_results
from detect.evaluation.masks import MaskEvaluator
from detect.masks import RleMasks
from detect.types import Detections
from tests.reference.boundary import boundary
from tests.reference.coco import reference

IMAGE_IDS = [0, 2, 17, 2**53, -1]
CATEGORY_IDS = [0, 1, 90, -3]
ANNOTATION_IDS = [0, 1, 2, 3, 5, 2**31, 2**53 + 1, -1, -7]
SCORES = [0.0, 0.25, 0.5, 1.0]  # few, so that most are tied
SIZE = st.sampled_from([(120, 130), (7, 40)])  # room for objects of all three sizes, or for small ones alone
unit, place, length = st.sampled_from([1, 4, 13]), st.integers(-1, 8), st.integers(0, 10)


def rectangle(draw) -> list[float]:
    """The corners of a rectangle or of half of one, which may reach out of the image or have no area."""
    u = draw(unit)
    x, y, w, h = u * draw(place), u * draw(place), u * draw(length), u * draw(length)
    corners = [x, y, x, y + h, x + w, y + h, x + w, y + 0.5]
    return corners[: draw(st.sampled_from([6, 8, 8]))]


def dense(draw, size: tuple[int, int]) -> np.ndarray:
    """A mask of one to three rectangles, cut out of one another: with holes and islands, perhaps empty."""
    mask = np.zeros(size, np.uint8)
    for k in range(draw(st.integers(1, 3))):
        u = draw(unit)
        x, y = max(0, u * draw(place)), max(0, u * draw(place))
        mask[y : y + u * draw(length), x : x + u * draw(length)] = 1 - k % 2
    return mask


def runs(mask: np.ndarray) -> list[int]:
    """The runs of a mask, uncompressed, as COCO's crowd regions have them."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    return np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()


def packed(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def segmentation(draw, size: tuple[int, int]):
    kind = draw(st.sampled_from(["polygons", "polygons", "runs", "packed"]))
    if kind == "polygons":
        return [rectangle(draw) for _ in range(draw(st.integers(1, 2)))]
    mask = dense(draw, size)
    return {"size": list(size), "counts": runs(mask)} if kind == "runs" else packed(mask)


@st.composite
def files(draw) -> dict:
    """A COCO file of masks: up to three images and classes, any of them empty, and eight objects."""
    size = draw(SIZE)
    images = draw(st.lists(st.sampled_from(IMAGE_IDS), min_size=1, max_size=3, unique=True))
    categories = draw(st.lists(st.sampled_from(CATEGORY_IDS), min_size=1, max_size=3, unique=True))
    annotations = [
        {
            "id": name,
            "image_id": draw(st.sampled_from(images)),
            "category_id": draw(st.sampled_from(categories)),
            "bbox": [1, 1, 5, 6],
            "iscrowd": int(draw(st.integers(0, 3)) == 0),
            "area": draw(st.sampled_from([0, 30, 1024, 1024.5, 9216, 9216.5, 2e10])),  # of the file, not of the mask
            "segmentation": segmentation(draw, size),
        }
        for name in draw(st.lists(st.sampled_from(ANNOTATION_IDS), max_size=8, unique=True))
    ]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": size[0], "width": size[1]} for i in images],
        "categories": [{"id": i, "name": f"class {i}"} for i in categories],
        "annotations": annotations,
    }


@st.composite
def results(draw, ground_truth: dict, most: int) -> list[dict]:
    """Detected masks, near objects and anywhere, some empty, in any order."""
    size = tuple(ground_truth["images"][0][side] for side in ("height", "width"))
    found = []
    for _ in range(draw(st.integers(0, most))):
        near = draw(st.sampled_from([None, *ground_truth["annotations"]]))
        mask = decoded(near["segmentation"], size) if near else dense(draw, size)
        mask = np.roll(mask, draw(st.sampled_from([0, 0, 1, 3])), axis=draw(st.sampled_from([0, 1])))
        keys = ("image_id", "category_id")
        anywhere = [draw(st.sampled_from(ground_truth[name]))["id"] for name in ("images", "categories")]
        one = {key: near[key] for key in keys} if near else dict(zip(keys, anywhere, strict=True))
        score = draw(st.sampled_from(SCORES)) if draw(st.booleans()) else draw(st.floats(0, 1, width=32))
        found += [one | {"segmentation": packed(mask), "score": score}] * (
            draw(st.sampled_from([1, 1, 1, 60])) if most > 8 else 1
        )
    return found


def decoded(segmentation, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size)))
    return coco_mask.decode(
        coco_mask.frPyObjects(segmentation, *size) if isinstance(segmentation["counts"], list) else segmentation
    )


def assert_equal(summary, ground_truth: dict, found: list[dict], kind: str = "segm") -> None:
    stats, arrays = reference(copy.deepcopy(ground_truth), copy.deepcopy(found), kind)
    assert [summary.numbers[name] for name in NUMBERS] == pytest.approx(stats.tolist(), rel=0, abs=1e-12)
    np.testing.assert_allclose(summary.precision, arrays["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(summary.recall, arrays["recall"], rtol=0, atol=1e-12)


def drawn(folder, data, most: int) -> tuple[dict, list[dict], Annotations]:
    """Ground truth and detections, written to files, and the annotations that are read."""
    ground_truth = data.draw(files())
    found = data.draw(results(ground_truth, most))
    (folder / "ground_truth.json").write_text(json.dumps(ground_truth))
    (folder / "found.json").write_text(json.dumps(found))
    return ground_truth, found, load_coco(folder / "ground_truth.json", folder)


def check(folder, data, most: int) -> None:
    """A file of results, and the same detections image by image, in an order of its own."""
    ground_truth, found, annotations = drawn(folder, data, most)
    assert_equal(evaluate_file(annotations, folder / "found.json"), ground_truth, found)
    evaluator = MaskEvaluator(annotations)
    categories = annotations.category_ids.tolist()
    for image in data.draw(st.permutations(sorted({one["image_id"] for one in found}))):
        ours = [one for one in found if one["image_id"] == image]
        masks = RleMasks(tuple(ours[0]["segmentation"]["size"]), [o["segmentation"]["counts"].encode() for o in ours])
        scores = torch.tensor([one["score"] for one in ours])
        labels = torch.tensor([categories.index(one["category_id"]) for one in ours])
        boxes = torch.arange(4.0).repeat(len(ours), 1) + torch.tensor([0, 0, 5, 5])
        evaluator.update([image], [Detections(boxes, scores, labels, masks=masks)])
    assert_equal(evaluator.summary, ground_truth, evaluator.detections())


@pytest.mark.parametrize(
    ("most", "examples"),
    [(8, 60), pytest.param(8, 1500, marks=pytest.mark.slow), pytest.param(14, 300, marks=pytest.mark.slow)],
)
def test_masks(tmp_path_factory, most, examples):
    folder = tmp_path_factory.mktemp("fuzz")
    settings(max_examples=examples, deadline=None)(given(data=st.data())(lambda data: check(folder, data, most)))()


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_boundaries(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    ground_truth, found, annotations = drawn(folder, data, 8)
    records = read_results(annotations, folder / "found.json")
    if found:
        summary = summary_of(annotations, *measure_matches(boundary_matches(annotations, records)))
        assert_equal(summary, ground_truth, found, "boundary")


def test_the_boundary_of_a_mask_is_that_of_the_definition():
    masks = [np.zeros((60, 80), bool) for _ in range(4)]  # 2 % of the diagonal are two pixels
    masks[0][10:30, 20:50] = True
    masks[1][:, :9] = True  # up to the border of the image
    masks[2][5:50, 5:60], masks[2][20:30, 20:22] = True, False  # a hole
    found = boundaries([coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks])
    for mask, own in zip(masks, found, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(own), boundary(mask.astype(np.uint8)))
