"""The page of ways to detect: resamples, paired differences, and a small run."""

import json

import numpy as np
import pytest

from detect.data.sources.formats import load_data
from detect.evaluation.coco_protocol import Records, summarize
from tools import compare
from tools import side_by_side as ways


def guesses(store, rng, shift=3.0):
    """What a sloppy detector finds: boxes near the truth of most objects."""
    keep = rng.random(len(store.boxes)) < 0.8
    counts = np.array([keep[a:b].sum() for a, b in zip(store.starts[:-1], store.starts[1:], strict=True)])
    boxes = store.boxes[keep] + rng.uniform(-shift, shift, (keep.sum(), 4)).clip(-3, 3)
    return Records(store.image_ids.copy(), counts, boxes, rng.random(keep.sum()), store.labels[keep])


def naive(store, records, index):
    """The COCO dictionary and results of a resample, image by image, measured by pycocotools."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    whole = store.to_coco()
    images, annotations, found = [], [], []
    starts = np.append(0, records.counts.cumsum())
    for new, i in enumerate(index.tolist()):
        images.append({"id": new})
        for one in whole["annotations"]:
            if one["image_id"] == store.image_ids[i]:
                annotations.append({**one, "image_id": new, "id": len(annotations) + 1})
        row = records.image_ids.tolist().index(store.image_ids[i])
        for k in range(starts[row], starts[row + 1]):
            category = int(store.category_ids[records.labels[k]])
            box, score = records.boxes[k].tolist(), float(records.scores[k])
            found.append({"image_id": new, "category_id": category, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": images, "annotations": annotations, "categories": whole["categories"]}
        truth.createIndex()
        engine = COCOeval(truth, truth.loadRes(found), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine.stats[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_is_a_set_with_some_images_twice(digits, seed):
    rng, store = np.random.default_rng(seed), load_data(digits, "val")
    records, index = guesses(store, rng), rng.integers(len(store), size=len(store))
    got = summarize(*ways.resample(store, records, index)).numbers["AP"]
    assert got == pytest.approx(naive(store, records, index), abs=1e-12)
    same = summarize(*ways.resample(store, records, np.arange(len(store)))).numbers
    assert same == summarize(store, records).numbers


def test_chance_is_small_for_what_is_always_better():
    rng = np.random.default_rng(0)
    a = rng.normal(0.5, 0.05, 1000)
    assert ways.chance(a, a - 0.01) == 1 / 1000
    assert ways.chance(a, a) == 1.0
    assert ways.chance(a, rng.permutation(a)) > 0.5
    assert ways.chance(a, a + 0.01) == ways.chance(a + 0.01, a)


def test_the_page_of_two_models(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ways, "RESAMPLES", 20)
    flags = ["--epochs", "1", "--imgsz", "64", "--batch", "8", "--workers", "0", "--device", "cpu"]
    arguments = [
        "--data",
        str(digits),
        "--out",
        str(tmp_path / "out"),
        "--seeds",
        "2",
        "--models",
        "yolo_n",
        "yolo_grid",
    ]
    assert compare.main([*arguments, *flags]) == 0
    said = capsys.readouterr().out
    assert "| `yolo_n` |" in said and "(p " in said
    assert (tmp_path / "out" / "page.md").read_text().startswith("8 images of instances_val.json")
    assert (tmp_path / "out" / "images.jpg").stat().st_size > 1000
    assert {k: len(v) for k, v in json.loads((tmp_path / "out" / "page.json").read_text()).items()} == {
        "yolo_n": 20,
        "yolo_grid": 20,
    }
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/best.safetensors")}
    assert len(before) == 4
    assert compare.main([*arguments, *flags]) == 0  # trains nothing again
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_faults_of_the_truth_itself_and_of_half_of_it(digits):
    store = load_data(digits, "val")
    counts = np.diff(store.starts)
    truth = Records(store.image_ids, counts, store.boxes, np.ones(len(store.boxes)), store.labels)
    half = np.repeat(np.arange(len(store)) % 2 == 0, counts)  # every second image
    seen = np.where(np.arange(len(store)) % 2 == 0, counts, 0)
    part = Records(store.image_ids, seen, store.boxes[half], np.ones(half.sum()), store.labels[half])
    given = {name: [ways.SeedResult(None, records, 0.0)] for name, records in (("all", truth), ("half", part))}
    rows = [[float(cell) for cell in line.split("|")[2:-1]] for line in ways.error_table(store, given)[-2:]]
    assert rows[0] == [1.0] * 4 + [0.0] * 6
    assert 0 < rows[1][0] < 1 and rows[1][4:9] == [0.0] * 5 and rows[1][9] > 0.1  # nothing wrong but what is missed


def test_a_second_suppression_takes_the_weaker_of_near_boxes_of_one_class_and_image():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 8], [0, 0, 10, 8], [20, 0, 10, 10]], float)
    found = Records(
        np.array([7, 5, 9]), np.array([3, 0, 2]), boxes, np.array([0.5, 0.6, 0.4, 0.9, 0.1]), np.arange(5) // 2
    )
    got = ways.stricter_nms(found, 0.5)  # image 7 has labels 0, 0, 1, image 9 labels 1, 2
    assert got.counts.tolist() == [2, 0, 2] and got.scores.tolist() == [0.6, 0.4, 0.9, 0.1]
    none = Records(np.array([1]), np.array([0]), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    assert ways.stricter_nms(none, 0.5).counts.tolist() == [0]
