"""The page of ways to detect: its tables, and a small run."""

import json

import numpy as np
import pytest

from detect.data.sources.formats import load_data
from detect.evaluation.coco_protocol import Records
from tests.browser import check_look
from tools import compare
from tools import side_by_side as ways


@pytest.mark.slow
def test_the_page_of_two_models(digits, tmp_path, monkeypatch, capsys, page_at):
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
    assert "8 images of instances_val.json, none used in training" in said
    check_look(page_at(tmp_path / "out" / "page.html"))
    assert {k: len(v) for k, v in json.loads((tmp_path / "out" / "page.json").read_text()).items()} == {
        "yolo_n": 20,
        "yolo_grid": 20,
    }
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/best.safetensors")}
    assert len(before) == 4
    assert compare.main([*arguments, *flags]) == 0  # trains nothing again
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_faults_of_the_ground_truth_itself_and_of_half_of_it(digits):
    annotations = load_data(digits, "val")
    counts = np.diff(annotations.starts)
    ground_truth = Records(
        annotations.image_ids, counts, annotations.boxes, np.ones(len(annotations.boxes)), annotations.labels
    )
    half = np.repeat(np.arange(len(annotations)) % 2 == 0, counts)  # every second image
    seen = np.where(np.arange(len(annotations)) % 2 == 0, counts, 0)
    part = Records(annotations.image_ids, seen, annotations.boxes[half], np.ones(half.sum()), annotations.labels[half])
    given = {name: [ways.SeedResult(None, records, 0.0)] for name, records in (("all", ground_truth), ("half", part))}
    rows = [cells for _, *cells in ways.error_table(annotations, given).rows]
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
