import json

import hotcoco
import numpy as np
import pytest
import torch

from anchors import corners_to_oriented, oriented_bounds, oriented_to_corners
from detect.data.sources.coco import load_coco
from detect.errors import UserError
from detect.evaluation import NUMBERS, evaluate_file
from detect.evaluation.oriented import OrientedEvaluator, oriented_lines
from detect.evaluation.oriented_boxes import overlapping_pairs, rotated_iou
from detect.evaluation.resampled_ap import match
from detect.types import Detections

IMAGES, CATEGORIES = [5, 2, 17, 0], [0, 3, 90]


def draw_case(seed, objects=24, found=70, crowd=0.15):
    """Ground truth as a COCO dictionary, and detections near its boxes, many of equal score."""
    r = np.random.default_rng(seed)
    sides = r.uniform(5, 150, (objects, 2)) if seed % 2 else r.uniform(5, 50, (objects, 2))
    boxes = np.column_stack([r.uniform(0, 300, (objects, 2)), sides, r.uniform(-4, 4, objects)])
    image, label = r.integers(0, 3, objects), r.integers(0, 2, objects)  # an image and a class are empty
    corners = oriented_to_corners(torch.from_numpy(boxes)).reshape(-1, 8).tolist()
    near = oriented_bounds(torch.from_numpy(boxes)).numpy()
    annotations = [
        {"id": k, "image_id": IMAGES[image[k]], "category_id": CATEGORIES[label[k]], "iscrowd": int(r.random() < crowd)}
        | ({"difficult": 1} if seed % 3 == 2 and k % 4 == 1 else {})
        | {"bbox": [*near[k, :2], *(near[k, 2:] - near[k, :2])], "segmentation": [corners[k]]}
        for k in range(objects)
    ]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 300, "height": 300} for i in IMAGES],
        "categories": [{"id": c, "name": f"class {c}"} for c in CATEGORIES],
        "annotations": annotations,
    }
    pick = r.integers(0, objects, found)
    moved = boxes[pick] + r.normal(0, 1, (found, 5)) * r.choice([0.2, 1, 3]) * np.array([1, 1, 1, 1, 0.05])
    moved[:, 2:4] = np.abs(moved[:, 2:4]) + 1
    owner, labels = image[pick], np.where(r.random(found) < 0.9, label[pick], r.integers(0, 3, found))
    scores = r.integers(0, 20, found) / 20
    oriented = torch.from_numpy(moved)
    rows = [torch.from_numpy(np.flatnonzero(owner == i)) for i in range(4)]
    detections = [
        Detections(
            oriented_bounds(oriented[k]), torch.from_numpy(scores)[k], torch.from_numpy(labels)[k], oriented=oriented[k]
        )
        for k in rows
    ]
    return truth, detections


def evaluated(tmp_path, truth, detections):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    evaluator = OrientedEvaluator(load_coco(path, tmp_path))
    evaluator.update(IMAGES, detections)
    return evaluator


def hotcoco_reference(truth, records):
    """hotcoco's twelve numbers of a results file as it is."""
    corners = torch.tensor([one["segmentation"][0] for one in truth["annotations"]], dtype=torch.float64)
    boxes = corners_to_oriented(corners.reshape(-1, 4, 2))
    annotations = [
        one | {"id": k, "obb": box, "area": box[2] * box[3]}
        for k, (one, box) in enumerate(zip(truth["annotations"], boxes.tolist(), strict=True), 1)
    ]
    annotated = hotcoco.COCO(truth | {"annotations": annotations})
    engine = hotcoco.COCOeval(annotated, annotated.load_res(records), "obb")
    engine.run()
    return engine.stats


@pytest.mark.parametrize("seed", range(6))
def test_numbers_are_those_of_pycocotools_and_dota_over_shapely(tmp_path, seed):
    pytest.importorskip("shapely")
    from tests.reference.oriented_evaluation import coco_reference, dota_reference

    truth, detections = draw_case(seed)
    evaluator = evaluated(tmp_path, truth, detections)
    result = evaluator.result()
    stats, arrays = coco_reference(truth, evaluator.detections())
    np.testing.assert_allclose(evaluator.summary.precision, arrays["precision"], atol=1e-12)
    np.testing.assert_allclose(evaluator.summary.recall, arrays["recall"], atol=1e-12)
    assert [result[name] for name in NUMBERS] == pytest.approx(stats.tolist(), abs=1e-12)

    expected = [dota_reference(truth, evaluator.detections(), category) for category in CATEGORIES[:2]]
    assert result["DOTA_AP50"] == pytest.approx(np.mean([eleven for eleven, _ in expected]), abs=1e-12)
    assert result["DOTA_AP50_area"] == pytest.approx(np.mean([area for _, area in expected]), abs=1e-12)
    assert result["DOTA_per_class"]["class 90"] is None


@pytest.mark.filterwarnings("ignore:hotcoco")
def test_file_and_ranks_give_the_same(tmp_path):
    truth, detections = draw_case(1)
    truth["annotations"][0]["id"] = 99  # pycocotools loses an object of id 0, hotcoco does not
    evaluator = evaluated(tmp_path, truth, detections)
    path = tmp_path / "found.json"
    evaluator.write(path)
    assert evaluate_file(evaluator.annotations, path).numbers == pytest.approx(evaluator.summary.numbers, abs=1e-12)
    records = json.loads(path.read_text())
    assert hotcoco_reference(truth, records) == pytest.approx(list(evaluator.summary.numbers.values()), abs=1e-12)
    corners = [{k: v for k, v in one.items() if k != "obb"} for one in records]
    pairs = [one | {"corners": np.reshape(one.pop("poly"), (4, 2)).tolist()} for one in map(dict, corners)]
    for form in (corners, pairs):
        path.write_text(json.dumps(form))
        assert evaluate_file(evaluator.annotations, path).numbers == pytest.approx(evaluator.summary.numbers, abs=1e-9)
    path.write_text(json.dumps([records[0] | {"obb": [1, 2, 3]}]))
    with pytest.raises(UserError, match="detection 0 needs image_id, category_id, obb of five numbers and score"):
        evaluate_file(evaluator.annotations, path)

    merged = OrientedEvaluator(evaluator.annotations)
    merged.extend(OrientedEvaluator(evaluator.annotations).records())
    for rank in (0, 1):
        part = OrientedEvaluator(evaluator.annotations)
        part.update(IMAGES[rank::2], detections[rank::2])
        merged.extend(part.records())
    assert merged.result() == evaluator.result()
    assert len(list(oriented_lines(evaluator.result()))) == 2 + len(CATEGORIES)


def test_errors_and_matches_are_those_of_oriented_boxes(tmp_path):
    truth, detections = draw_case(3, crowd=0)
    turned = [
        Detections(one.boxes, one.scores, one.labels, oriented=one.oriented + torch.tensor([0, 0, 0, 0, 1.0]))
        for one in detections
    ]
    for found, least, most in ((detections, 0.5, 1.0), (turned, 0.0, 0.3)):
        evaluator = evaluated(tmp_path, truth, found)
        assert least <= evaluator.summary.numbers["AP50"] <= most
        right = sum(int(one.right[0].sum()) for one in match(evaluator.annotations, evaluator.records())[0])
        assert abs(evaluator.errors.found.sum() - right) <= 2


def test_nothing_and_bad_values(tmp_path):
    truth, detections = draw_case(5)
    evaluator = evaluated(tmp_path, truth, [Detections.none()] * 4)
    assert evaluator.result()["AP"] == evaluator.result()["DOTA_AP50"] == 0
    nothing = evaluated(tmp_path, truth | {"annotations": []}, detections)
    assert nothing.result()["AP"] == nothing.result()["DOTA_AP50_area"] == -1
    fresh = OrientedEvaluator(evaluator.annotations)
    with pytest.raises(ValueError, match="have no oriented boxes"):
        fresh.update([0], [Detections(torch.zeros(1, 4), torch.zeros(1), torch.zeros(1, dtype=torch.int64))])
    with pytest.raises(ValueError, match="not finite"):
        bad = detections[0]
        fresh.update([0], [Detections(bad.boxes, bad.scores, bad.labels, oriented=bad.oriented / 0)])
    del truth["annotations"][2]["segmentation"]
    with pytest.raises(UserError, match="annotation 2 has no outline"):
        evaluated(tmp_path, truth, detections)


def test_pairs_of_a_group_equal_all_pairs():
    r = np.random.default_rng(0)
    a, b = (
        np.column_stack([r.uniform(0, 60, (n, 2)), r.uniform(1, 40, (n, 2)), r.uniform(-4, 4, n)]) for n in (80, 50)
    )
    groups, others = r.integers(0, 4, 80), r.integers(0, 4, 50)
    rows, columns, values = overlapping_pairs(a, groups, b, others, 0.2)
    every = rotated_iou(a, b) * (groups[:, None] == others)
    expected = np.nonzero(every > 0.2)
    assert np.array_equal(np.stack((rows, columns)), np.stack(expected))
    np.testing.assert_allclose(values, every[expected], atol=1e-12)
