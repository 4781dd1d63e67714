"""Label errors that are planted, and the table of how many are found."""

import json

import numpy as np
import pytest

from detect.data.sources.formats import load_data
from tools.planted_errors import Planter, outlines_of
from tools.planted_scores import KINDS, Ranking, overlap, table


@pytest.fixture(scope="module")
def planted(digits):
    annotations = load_data(digits, "train")
    before = annotations.to_coco()
    planter = Planter(annotations.to_coco(), 1, outlines_of(annotations))
    planter.plant(0.1, {one["id"] for one in before["images"]})
    return before, planter


def test_of_every_kind_as_many_are_planted_and_no_label_gets_two(planted):
    before, planter = planted
    count = round(0.1 * len(before["annotations"]))
    kinds = [one["kind"] for one in planter.planted]
    assert [kinds.count(kind) for kind in KINDS] == [count] * len(KINDS) and count > 2
    touched = [one["annotation_id"] for one in planter.planted if one["annotation_id"] is not None]
    touched += [one["twin_id"] for one in planter.planted if one["twin_id"] is not None]
    assert len(set(touched)) == len(touched)
    assert len(planter.coco["annotations"]) == len(before["annotations"]) + count  # added twice, removed once


def test_outlines_and_corners_go_with_the_box(planted, tmp_path):
    _, planter = planted
    by_id = {one["id"]: one for one in planter.coco["annotations"]}
    moved = [by_id[one["annotation_id"]] for one in planter.planted if one["kind"] in ("location", "duplicate")]
    moved.sort(key=lambda one: (one["image_id"], one["id"]))
    (tmp_path / "instances_train.json").write_text(json.dumps(planter.coco | {"annotations": moved}))
    outlines = load_data(tmp_path, "train").outlines
    for one, (left, top, right, bottom) in zip(moved, outlines.bounds().tolist(), strict=True):
        assert overlap(np.array([left, top, right - left, bottom - top]), np.array([one["bbox"]])).item() > 0.7
        corners = np.array(one["corners"])
        assert np.allclose(corners.mean(0), np.array(one["bbox"][:2]) + np.array(one["bbox"][2:]) / 2, atol=8)


def test_each_error_counts_once_among_the_first_rows():
    error = {"image_id": 1, "annotation_id": 7, "twin_id": None, "was": {"bbox": [0, 0, 9, 9]}}
    gone = error | {"annotation_id": None, "was": {"bbox": [20, 20, 10, 10]}}
    rows = [{"image_id": 1, "annotation_id": 7, "bbox": []}] * 2
    rows += [{"image_id": 1, "annotation_id": None, "bbox": [21, 20, 10, 10]}]
    ranking = Ranking(rows, [error, gone])
    assert ranking.hits == [0, 0, 1] and ranking.recall(2, 2) == 0.5 and ranking.recall(3, 2) == 1


def test_the_table_has_means_of_several_scores(tmp_path, capsys):
    row = {"kind": "class", "planted": 4, "found in k": 0.5, "found in 2k": 1.0, "random": 0.0}
    row |= {"confidence alone in k": 0.25, "confidence alone in 2k": 0.25}
    for name, value in (("a", 0.5), ("b", 0.7)):
        (tmp_path / name).write_text(json.dumps([row | {"found in k": value}]))

    class Options:
        files = (tmp_path / "a", tmp_path / "b")

    table(Options)
    last = "0.25 ± 0.00 | 0.25 ± 0.00 | 0.00 ± 0.00 |"
    assert capsys.readouterr().out.splitlines()[2] == f"| class | 4 | 0.60 ± 0.14 | 1.00 ± 0.00 | {last}"
