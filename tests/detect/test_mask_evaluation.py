"""What else is made of masks that were evaluated: errors, thresholds, ranks, files and pages, by the IoU of masks."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from detect.commands.evaluate import EvaluateConfig
from detect.data.sources.coco import load_coco
from detect.errors import UserError
from detect.evaluation import NUMBERS
from detect.evaluation.bootstrap import draw_weights
from detect.evaluation.evaluate import relabelled
from detect.evaluation.masks import MaskEvaluator, mask_lines
from detect.evaluation.oriented import OrientedEvaluator
from detect.evaluation.resampled_ap import match, resampled_ap
from detect.evaluation.tide import BACKGROUND, LOCALIZATION, RIGHT, confusion
from detect.masks import RleMasks
from detect.report.detections import detection_section
from detect.report.examples import annotated, side_by_side
from detect.report.examples import detections as shown
from detect.report.html import Page
from detect.tasks import Evaluation
from detect.types import Detections
from tests.reference.coco import reference

HEIGHT, WIDTH = 60, 90
BOX = [10, 10, 50, 40]


def ring() -> np.ndarray:
    """A frame that has the box BOX and less than half of its pixels."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:50, 10:60], mask[16:44, 16:54] = True, False
    return mask


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Two images of one frame each, and of a crowd region in the second."""
    folder = tmp_path_factory.mktemp("masks")
    runs = RleMasks.of(np.stack([ring(), np.roll(ring(), 20, 1)]))
    objects = [(1, 1, 0, 0), (2, 2, 0, 0), (3, 2, 1, 1)]
    annotations = [
        {"id": i, "image_id": image, "category_id": 7, "bbox": BOX, "area": 936, "iscrowd": crowd}
        | {"segmentation": runs.to_coco(k)}
        for i, image, crowd, k in objects
    ]
    for image in (1, 2):
        cv2.imwrite(str(folder / f"{image}.png"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    images = [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)]
    content = {"images": images, "categories": [{"id": 7, "name": "frame"}], "annotations": annotations}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def detections(*masks: np.ndarray) -> Detections:
    count = len(masks)
    boxes = torch.tensor([[10.0, 10, 60, 50]] * count)
    scores = torch.linspace(0.9, 0.5, count)
    return Detections(boxes, scores, torch.zeros(count, dtype=torch.int64), masks=RleMasks.of(np.stack(masks)))


@pytest.fixture
def evaluator(coco):
    """The box of each detection is right; its mask is right, the whole box, in the crowd, or empty."""
    made = MaskEvaluator(load_coco(coco, coco.parent))
    filled, crowd = np.zeros((HEIGHT, WIDTH), bool), np.roll(ring(), 20, 1)
    filled[10:50, 10:60] = True
    made.update([2, 1], [detections(ring(), crowd, np.zeros_like(filled)), detections(filled)])
    return made


def test_errors_are_those_of_masks(evaluator):
    errors = evaluator.errors
    assert errors.kind.tolist() == [LOCALIZATION, RIGHT, LOCALIZATION, BACKGROUND]  # the whole box has an IoU of 0.47
    assert errors.counts.tolist() == [True, True, False, True]  # in the crowd region: neither right nor wrong
    assert confusion(evaluator.annotations, evaluator.records(), 0.6).tolist() == [[1, 1], [1, 0]]
    boxes = evaluator.records()._replace(masks=None)
    assert confusion(evaluator.annotations, boxes, 0.8).tolist() == [[2, 0], [0, 0]]


def test_the_bootstrap_is_that_of_masks(evaluator):
    ap = resampled_ap(match(evaluator.annotations, evaluator.records())[0], np.ones((1, 2)))
    assert ap.tolist() == pytest.approx([evaluator.result()["mask_AP"]])
    assert evaluator.result()["mask_AP"] < evaluator.result()["AP"]
    assert draw_weights(2, 3).shape == (3, 2)


def test_results_of_several_processes_are_joined(evaluator):
    alone, nothing = MaskEvaluator(evaluator.annotations), MaskEvaluator(evaluator.annotations)
    alone.extend(nothing.records())
    alone.extend(evaluator.records())
    assert alone.result() == evaluator.result()
    assert nothing.result()["mask_AP"] == 0 and nothing.detections() == []


def test_the_file_gives_the_numbers_of_both(evaluator, coco, tmp_path):
    evaluator.write(tmp_path / "found.json")
    found, ground_truth = json.loads((tmp_path / "found.json").read_text()), json.loads(coco.read_text())
    result = evaluator.result()
    masks, _ = reference(json.loads(coco.read_text()), [dict(one) for one in found], "segm")
    assert [result[f"mask_{name}"] for name in NUMBERS] == pytest.approx(masks.tolist())
    boxes, _ = reference(ground_truth, [one | {"bbox": one["box"]} for one in found])
    assert [result[name] for name in NUMBERS] == pytest.approx(boxes.tolist())


def test_only_the_best_hundred_masks_of_an_image_count(evaluator, coco):
    """As in pycocotools, whatever --max-det is."""
    made = MaskEvaluator(evaluator.annotations)
    made.update([1], [detections(*[~ring()] * 99, ring(), *[~ring()] * 20)])
    more = MaskEvaluator(evaluator.annotations)
    more.update([1], [detections(*[~ring()] * 100, ring(), *[~ring()] * 20)])
    for one, recall in ((made, 0.5), (more, 0.0)):
        stats, _ = reference(json.loads(coco.read_text()), one.detections(), "segm")
        assert [one.summary.numbers[name] for name in NUMBERS] == pytest.approx(stats.tolist())
        assert one.summary.numbers["AR100"] == recall


def test_lines_of_boxes_masks_and_boundaries(evaluator):
    lines = list(mask_lines(evaluator.result() | evaluator.boundary_result()))
    assert [line.split()[:2] for line in lines[:3]] == [["boxes", "AP"], ["masks", "AP"], ["boundaries", "AP"]]
    assert re.fullmatch(r"  frame +AP \d\.\d{3}  mask AP \d\.\d{3}", lines[3]) and len(lines) == 4


def test_bad_masks_are_refused(evaluator, coco, tmp_path):
    fresh = MaskEvaluator(evaluator.annotations)
    with pytest.raises(ValueError, match="2 detections have no masks"):
        fresh.update([1], [Detections(torch.rand(2, 4), torch.rand(2), torch.zeros(2, dtype=torch.int64))])
    with pytest.raises(ValueError, match=r"masks are of \(3, 4\) pixels, the image of \(60, 90\)"):
        fresh.update([1], [detections(np.ones((3, 4), bool))])
    content = json.loads(coco.read_text())
    del content["annotations"][1]["segmentation"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotation 2 has no mask"):
        MaskEvaluator(load_coco(tmp_path / "a.json", tmp_path))


def test_the_page_tells_of_masks_and_draws_them(evaluator):
    page = Page("masks")
    evaluation = Evaluation(evaluator.annotations, evaluator, "a.json", "2 images")
    detector = SimpleNamespace(metadata=SimpleNamespace(size=64), model=None)
    detection_section(page, evaluation, detector, EvaluateConfig(["w"], "d", boundary=True))
    text = str(page)
    for part in ("boundaries", "mask AP50", "mask IoU 0.5", "Worst images", "Best images"):
        assert part in text, part
    drawn = side_by_side(evaluator.annotations, evaluator.records(), 1, 0.8)
    tinted = (np.abs(drawn.astype(int) - 90) > 9).any(2)
    for left in (0, WIDTH + 6):
        assert tinted[12, left + 20] and not tinted[46, left + 3], "the frame is tinted, not what it surrounds"


def test_weights_of_other_classes_keep_the_masks_of_those_that_count():
    found = detections(ring(), ~ring(), np.roll(ring(), 5, 0))
    found = relabelled(replace(found, labels=torch.tensor([1, 0, 1])), torch.tensor([-1, 4]), None)
    assert found.labels.tolist() == [4, 4] and len(found.masks) == 2
    np.testing.assert_array_equal(found.masks.decode(1), np.roll(ring(), 5, 0))


def test_examples_show_oriented_boxes(coco):
    annotations = load_coco(coco, coco.parent)
    turned, made = torch.tensor([[35.0, 30, 50, 40, 0.4]]), OrientedEvaluator(annotations)
    made.update(
        [1], [Detections(torch.tensor([[5.0, 2, 65, 58]]), torch.ones(1), torch.zeros(1).long(), oriented=turned)]
    )
    assert shown(made.records(), annotations, 0, 0.5).oriented.tolist() == [pytest.approx(turned[0].tolist())]
    assert annotated(annotations, made.records(), 1).oriented.shape == (2, 5)
    assert side_by_side(annotations, made.records(), 0, 0.5).shape == (HEIGHT, 2 * WIDTH + 6, 3)
