import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.annotations import Annotations, encode_names
from detect.data.sources.coco import load_coco
from detect.errors import UserError
from detect.evaluation import NUMBERS, CocoEvaluator, evaluate_file
from detect.types import Detections
from tests.reference.coco import reference

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2] / "../shared/data"))


def make_annotations(image_ids, category_ids, objects) -> Annotations:
    """Make annotations of objects (image index, label, box, area, crowd), which are grouped by image here."""
    objects = sorted(objects, key=lambda o: o[0])
    image_ids, category_ids = np.array(image_ids, np.int64), np.sort(np.array(category_ids, np.int64))
    owner = np.array([o[0] for o in objects], np.int64)
    letters, name_starts = encode_names([f"{i}.jpg" for i in image_ids])
    return Annotations(
        path=Path("ground_truth.json"),
        root=Path(),
        image_ids=image_ids,
        sizes=np.full((len(image_ids), 2), 1000, np.int32),
        starts=np.searchsorted(owner, np.arange(len(image_ids) + 1)),
        boxes=np.array([o[2] for o in objects], np.float64).reshape(-1, 4),
        labels=np.array([o[1] for o in objects], np.int64),
        crowd=np.array([o[4] for o in objects], bool),
        areas=np.array([o[3] for o in objects], np.float64),
        ids=np.arange(1, len(objects) + 1),
        keypoints=None,
        category_ids=category_ids,
        names=[f"class {i}" for i in category_ids],
        name_bytes=letters,
        name_starts=name_starts,
    )


def random_case(rng: np.random.Generator, many: bool, pool: list[int]) -> tuple[Annotations, list[Detections]]:
    """Truth and detections with crowds, odd areas, ties of score and IoU, empty images and empty classes."""
    count, classes = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    image_ids = rng.choice(pool, count, replace=False)
    objects, found = [], []
    for image in range(count):
        n = int(rng.integers(0, 6)) if rng.random() < 0.8 else 0
        boxes = np.concatenate([rng.integers(0, 40, (n, 2)), rng.integers(1, 8, (n, 2)) * rng.choice([3, 15, 40])], 1)
        for box in boxes:
            area = float(rng.choice([box[2] * box[3], 500.0, 1024.0, 9216.0, 1e5]))
            objects.append((image, int(rng.integers(classes)), box.tolist(), area, bool(rng.random() < 0.2)))
        ours = [o for o in objects if o[0] == image]
        d = int(rng.integers(100, 260)) if many else int(rng.integers(0, 12))
        rows = np.concatenate([rng.integers(0, 60, (d, 2)), rng.integers(0, 100, (d, 2))], 1).astype(np.float32)
        labels = rng.integers(0, classes, d)
        for row in range(d):
            if ours and rng.random() < 0.7:
                _, labels[row], box, _, _ = ours[rng.integers(len(ours))]
                rows[row] = np.array(box) + rng.choice([0, 0, 0.37, 2.1], 4) * rng.choice([-1, 1], 4)
        rows[:, 2:] = np.maximum(rows[:, 2:], 0) + rows[:, :2]
        scores = rng.integers(0, 8, d) / 8 if rng.random() < 0.5 else rng.random(d)
        found.append(Detections(*(torch.from_numpy(x) for x in (rows, scores.astype(np.float32), labels))))
    category_ids = rng.choice([0, 1, 2, 7, 90, 2**33, -3], classes, replace=False)
    return make_annotations(image_ids, category_ids, objects), found


def assert_equal_to_reference(annotations: Annotations, evaluator: CocoEvaluator) -> None:
    stats, arrays = reference(annotations.to_coco(), json.loads(json.dumps(evaluator.detections())))
    assert [evaluator.result()[name] for name in NUMBERS] == pytest.approx(stats.tolist(), rel=0, abs=1e-12)
    np.testing.assert_allclose(evaluator.summary.precision, arrays["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(evaluator.summary.recall, arrays["recall"], rtol=0, atol=1e-12)


IDS = [0, 1, 2, 3, 17, 5, 139, 2**31, 2**53 + 1, 2**62, -1, -(2**40)]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_equal_to_pycocotools(seed):
    annotations, found = random_case(np.random.default_rng(seed), False, IDS)
    evaluator = CocoEvaluator(annotations)
    evaluator.update(annotations.image_ids.tolist(), found)
    assert_equal_to_reference(annotations, evaluator)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_equal_to_pycocotools_with_more_than_a_hundred(seed):
    annotations, found = random_case(np.random.default_rng(seed), True, IDS)
    evaluator = CocoEvaluator(annotations)
    evaluator.update(annotations.image_ids.tolist(), found)
    assert len(evaluator.detections()) == sum(map(len, found))
    assert_equal_to_reference(annotations, evaluator)


def test_no_detections_at_all():
    annotations = make_annotations([5, 6], [1, 2], [(0, 0, [1, 2, 30, 30], 900.0, False)])
    evaluator = CocoEvaluator(annotations)
    result = evaluator.result()
    assert result.pop("per_class") == {"class 1": 0.0, "class 2": None}
    expected = dict.fromkeys(NUMBERS, 0.0) | dict.fromkeys(["APm", "APl", "ARm", "ARl"], -1.0)
    assert result == expected
    assert_equal_to_reference(annotations, evaluator)


@pytest.mark.parametrize("objects", [[], [(0, 0, [0, 0, 9, 9], 81.0, True)]], ids=["no ground truth", "a crowd alone"])
def test_no_ground_truth_to_measure_by(objects):
    annotations = make_annotations([5, 6], [1], objects)
    evaluator = CocoEvaluator(annotations)
    one = Detections(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.tensor([0.5]), torch.tensor([0]))
    evaluator.update([6, 5], [one, Detections.none()])
    result = evaluator.result()
    assert result.pop("per_class") == {"class 1": None}
    assert set(result.values()) == {-1.0}
    assert_equal_to_reference(annotations, evaluator)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), ranks=st.integers(1, 3))
def test_ranks_together_equal_one(seed, ranks):
    annotations, found = random_case(np.random.default_rng(seed), False, IDS)
    ids = annotations.image_ids.tolist()
    alone, merged = CocoEvaluator(annotations), CocoEvaluator(annotations)
    alone.update(ids, found)
    for rank in range(ranks):
        part = CocoEvaluator(annotations)
        part.update(ids[rank::ranks], found[rank::ranks])
        merged.extend(part.records())
    np.testing.assert_array_equal(merged.summary.precision, alone.summary.precision)
    np.testing.assert_array_equal(merged.summary.recall, alone.summary.recall)
    assert merged.result() == alone.result()


def test_file_gives_the_same_bits(tmp_path):
    annotations, found = random_case(np.random.default_rng(4), False, IDS)
    evaluator = CocoEvaluator(annotations)
    for image, one in zip(annotations.image_ids.tolist(), found, strict=True):
        evaluator.update([image], [one])
    path = tmp_path / "a folder" / "found é.json"
    evaluator.write(path)
    assert json.loads(path.read_text()) == evaluator.detections() != []
    again = evaluate_file(annotations, path)
    assert again.numbers == {k: v for k, v in evaluator.result().items() if k != "per_class"}
    assert again.per_class == evaluator.result()["per_class"]
    np.testing.assert_array_equal(again.precision, evaluator.summary.precision)

    CocoEvaluator(annotations).write(path)
    assert json.loads(path.read_text()) == []
    assert evaluate_file(annotations, path).numbers == CocoEvaluator(annotations).summary.numbers


def test_update_leaves_what_it_was_given_alone_and_results_follow():
    annotations = make_annotations(
        [1, 2], [3], [(0, 0, [0, 0, 10, 10], 100.0, False), (1, 0, [0, 0, 10, 10], 100.0, False)]
    )
    boxes = torch.tensor([[5.0, 6.0, 15.0, 26.0]], dtype=torch.float64, requires_grad=True)
    evaluator = CocoEvaluator(annotations)
    evaluator.update([1], [Detections(boxes, torch.tensor([0.25], dtype=torch.bfloat16), torch.tensor([0]))])
    assert boxes.tolist() == [[5, 6, 15, 26]]
    expected = {"image_id": 1, "category_id": 3, "bbox": [5.0, 6.0, 10.0, 20.0], "score": 0.25}
    assert evaluator.detections() == [expected]
    assert evaluator.result()["AR1"] == 0
    evaluator.update([2], [Detections(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.5]), torch.tensor([0]))])
    assert evaluator.result()["AR1"] == 0.5
    evaluator.reset()
    assert evaluator.result()["AR1"] == 0 and evaluator.detections() == []
    evaluator.update([], [])
    evaluator.update([1], [Detections.none()])


def one(box=(0.0, 0.0, 9.0, 9.0), score=0.5, label=0) -> Detections:
    return Detections(torch.tensor([box]), torch.tensor([score]), torch.tensor([label]))


@pytest.mark.parametrize(
    ("ids", "found", "message"),
    [
        ([7], [one()], "image id 7 is not in ground_truth.json"),
        ([1, 1], [one(), one()], "image id 1 was evaluated twice"),
        ([2], [one()], "image id 2 was evaluated twice"),
        ([1], [one(score=float("nan"))], "detections of image id 1 are not finite"),
        ([1], [one(box=(0.0, 0.0, float("inf"), 1.0))], "detections of image id 1 are not finite"),
        ([1], [one(label=1)], "label 1 is none of the annotated classes"),
        ([1], [], "1 image ids for 0 records"),
    ],
)
def test_update_refuses(ids, found, message):
    evaluator = CocoEvaluator(make_annotations([1, 2], [3], []))
    evaluator.update([2], [Detections.none()])
    with pytest.raises(ValueError, match=message):
        evaluator.update(ids, found)
    assert evaluator.detections() == []


GOOD = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "broken json"),
        ("{}", "a list of detections, not a dict"),
        (json.dumps([GOOD, GOOD | {"image_id": 7}]), "detection 1 is of image 7, which is not in ground_truth.json"),
        (json.dumps([GOOD | {"image_id": 2**70}]), "detection 0"),
        (json.dumps([GOOD | {"image_id": 1.5}]), "detection 0"),
        (json.dumps([GOOD | {"category_id": 1}]), "detection 0 has category 1"),
        (json.dumps([GOOD | {"category_id": [1]}]), "detection 0"),
        (json.dumps([GOOD | {"bbox": [1, 2, 3]}]), "detection 0 needs"),
        (json.dumps([GOOD | {"bbox": []}]), "detection 0 needs"),
        (json.dumps([GOOD | {"bbox": [1, 2, 3, None]}]), "detection 0"),
        (json.dumps([GOOD | {"score": float("nan")}]), "detection 0 has a number that is not finite"),
        (json.dumps([{k: v for k, v in GOOD.items() if k != "score"}]), "detection 0 needs.*score"),
        (json.dumps([3]), "detection 0 needs"),
    ],
)
def test_bad_results_file(tmp_path, text, message):
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        evaluate_file(make_annotations([1, 2], [3], []), path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_results_file_that_is_absent(tmp_path):
    with pytest.raises(UserError, match=r"found\.json"):
        evaluate_file(make_annotations([1], [3], []), tmp_path / "found.json")


def test_measuring_is_silent(capfd):
    annotations, found = random_case(np.random.default_rng(0), False, IDS)
    evaluator = CocoEvaluator(annotations)
    evaluator.update(annotations.image_ids.tolist(), found)
    evaluator.result()
    assert capfd.readouterr() == ("", "")


def test_coco_mini_with_official_ids_and_crowds(tmp_path):
    """Jittered boxes of a real file, evaluated by pycocotools on the original json and on the file that was written."""
    path = DATA / "coco-mini/instances_val.json"
    if not path.exists():
        pytest.skip(f"{path} is absent: set GRIDHEAD_DATA")
    annotations = load_coco(path)
    rng = np.random.default_rng(0)
    evaluator = CocoEvaluator(annotations)
    for index in range(len(annotations)):
        ground_truth = annotations.target(index)
        pick = torch.from_numpy(rng.integers(0, max(len(ground_truth), 1), 3 * len(ground_truth)))
        boxes = ground_truth.boxes[pick]
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + sides * torch.from_numpy(rng.normal(0, 0.08, boxes.shape).astype(np.float32))
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
        labels = ground_truth.labels[pick].clone()
        wrong = torch.from_numpy(rng.random(len(labels)) < 0.1)
        labels[wrong] = torch.from_numpy(rng.integers(0, len(annotations.names), int(wrong.sum())))
        scores = torch.from_numpy(rng.random(len(labels)).astype(np.float32).round(2))
        evaluator.update([ground_truth.image_id], [Detections(boxes, scores, labels)])
    evaluator.write(tmp_path / "found.json")
    stats, _ = reference(json.loads(path.read_text()), json.loads((tmp_path / "found.json").read_text()))
    assert [evaluator.result()[name] for name in NUMBERS] == pytest.approx(stats.tolist(), rel=0, abs=1e-12)
    assert 0.1 < evaluator.result()["AP"] < 0.9
    assert annotations.crowd.sum() > 10 and annotations.category_ids.max() == 90
