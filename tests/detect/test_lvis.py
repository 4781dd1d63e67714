"""LVIS: its files, what they say of each image's classes, and its numbers.

GRIDHEAD_LVIS names the interpreter of an environment with the lvis package and pycocotools: it brings another OpenCV.
"""

import json
import os

import numpy as np
import pytest
from PIL import Image

from detect.data.outline_checks import outlined
from detect.data.sources.coco import load_coco
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.evaluation import summarize
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_results import read_results
from detect.evaluation.tide import RIGHT, analyze_errors, confusion
from tests.reference.lvis import federated_file, masked, naive, package

PACKAGE = os.environ.get("GRIDHEAD_LVIS", "")
KINDS = ("bbox", "segm")


def summary(folder, truth, found, kind="bbox"):
    (folder / "lvis_v1_val.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    annotations = load_coco(folder / "lvis_v1_val.json")
    annotations = outlined(annotations) if kind == "segm" else annotations
    return summarize(annotations, read_results(annotations, folder / "found.json"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_plain_loops(tmp_path, seed, kind):
    truth, found = federated_file(seed, crowded=seed == 0)
    found = masked(truth, found) if kind == "segm" else found
    numbers = summary(tmp_path, truth, found, kind).numbers
    assert numbers == pytest.approx(naive(truth, found, kind), abs=1e-9)
    assert len(numbers) == 13


@pytest.mark.parametrize("seed", range(4))
def test_images_that_count_once_give_the_numbers(tmp_path, seed):
    truth, found = federated_file(seed, crowded=seed == 0)
    expected = summary(tmp_path, truth, found).numbers
    annotations = load_coco(tmp_path / "lvis_v1_val.json")
    evaluator = CocoEvaluator(annotations)
    evaluator.extend(read_results(annotations, tmp_path / "found.json"))
    got = evaluator.resampled(np.ones((2, len(annotations)), np.int32))
    assert expected.keys() <= got.keys()
    for name, value in expected.items():
        assert np.nan_to_num(got[name], nan=-1).tolist() == pytest.approx([value, value], abs=1e-9), name


@pytest.mark.skipif(not PACKAGE, reason="GRIDHEAD_LVIS names no interpreter with the lvis package and pycocotools")
def test_the_numbers_are_those_of_the_lvis_package_to_the_bit(tmp_path):
    cases, ours = [], []
    for seed in range(100, 220):
        truth, found = federated_file(seed, crowded=seed % 10 == 0)
        if found:
            path, kind = tmp_path / f"{seed}.json", KINDS[seed % 2]
            path.write_text(json.dumps(truth))
            found = masked(truth, found) if kind == "segm" else found
            cases.append((str(path), found, kind))
            ours.append(summary(tmp_path, truth, found, kind).numbers)
    assert ours == package(PACKAGE, cases)


def lvis_folder(folder):
    """Two images, in both of COCO's folders: three classes, one of which each image was not checked for."""
    image = {"width": 40, "height": 20}
    url = "http://images.cocodataset.org/{}/{:012d}.jpg"
    content = {
        "images": [
            image | {"id": 7, "coco_url": url.format("train2017", 7), "neg_category_ids": [3]},
            image | {"id": 2, "coco_url": url.format("val2017", 2), "neg_category_ids": []},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 8, 9], "area": 60},
            {"id": 2, "image_id": 2, "category_id": 5, "bbox": [0, 0, 9, 9], "area": 70},
        ],
        "categories": [
            {"id": i, "name": n, "frequency": f} for i, n, f in ((1, "a", "r"), (3, "b", "c"), (5, "c", "f"))
        ],
    }
    content["images"][0]["not_exhaustive_category_ids"] = [1]
    content["images"][1]["not_exhaustive_category_ids"] = []
    for one in content["images"]:
        path = folder / one["coco_url"].partition(".org/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(path)
    (folder / "annotations").mkdir()
    (folder / "annotations/lvis_v1_val.json").write_text(json.dumps(content))
    (folder / "annotations/lvis_v1_image_info_test_dev.json").write_text("{}")
    return content


def test_a_folder_of_lvis_is_recognised_and_its_images_found(tmp_path):
    lvis_folder(tmp_path)
    assert splits(tmp_path) == ["val"]
    annotations = load_data(tmp_path, "val")
    assert annotations.file_name(0) == "train2017/000000000007.jpg" and annotations.image_path(1).is_file()
    federation = annotations.federation
    assert [federation.complete(i, 3).tolist() for i in (0, 1)] == [[False, True, False], [False, False, True]]
    assert federation.frequency == ("r", "c", "f")
    described = annotations.to_coco()
    assert [one["neg_category_ids"] for one in described["images"]] == [[3], []]
    assert [one["not_exhaustive_category_ids"] for one in described["images"]] == [[1], []]
    assert [one["frequency"] for one in described["categories"]] == ["r", "c", "f"]
    assert annotations.select([1]).federation.checked.tolist() == [2]


def test_a_yaml_names_files_of_lvis_too(tmp_path):
    lvis_folder(tmp_path)
    (tmp_path / "d.yaml").write_text("val: {annotations: annotations/lvis_v1_val.json, images: .}\n")
    assert load_data(tmp_path / "d.yaml", "val").measured_as == "lvis"


def test_classes_of_another_order_keep_what_is_known(tmp_path):
    federation = load_federation(tmp_path)
    moved = federation.relabelled(np.array([2, -1, 0]), 3)
    assert [moved.checked_in(i).tolist() for i in (0, 1)] == [[2], [0]]
    assert moved.partial_in(0).tolist() == [2] and moved.frequency == ("f", "", "r")


def load_federation(folder):
    lvis_folder(folder)
    return load_data(folder, "val").federation


@pytest.mark.parametrize("value", [[99], ["a"], 3, [True]])
def test_ids_that_no_class_has_are_named_or_left_out(tmp_path, value):
    content = lvis_folder(tmp_path)
    content["images"][1]["neg_category_ids"] = value
    (tmp_path / "annotations/lvis_v1_val.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"lvis_v1_val\.json: image id 2 has .*neg_category_ids"):
        load_data(tmp_path, "val")
    rest = load_data(tmp_path, "val", skip_bad=True)
    assert len(rest) == 2 and len(rest.left_out) == 1 and rest.federation.checked_in(1).tolist() == [2]


def test_errors_and_confusion_leave_out_what_was_not_checked(tmp_path):
    lvis_folder(tmp_path)
    annotations = load_data(tmp_path, "val")
    far = [25, 10, 9, 9]  # matches nothing: class b was checked for in image 7, a is partial there, c was not checked
    found = [{"image_id": 7, "category_id": c, "bbox": far, "score": 0.9} for c in (1, 3, 5)]
    found.append({"image_id": 7, "category_id": 1, "bbox": [1, 2, 8, 9], "score": 0.8})
    (tmp_path / "found.json").write_text(json.dumps(found))
    records = read_results(annotations, tmp_path / "found.json")
    errors = analyze_errors(annotations, records)
    told = dict(zip(errors.row.tolist(), zip(errors.kind == RIGHT, errors.counts, strict=True), strict=True))
    assert told == {0: (False, False), 1: (False, True), 3: (True, True)}
    assert confusion(annotations, records, 0.5)[-1].tolist() == [0, 1, 0, 0]


def test_numbers_without_frequencies_have_no_groups(tmp_path):
    truth, found = federated_file(3)
    for category in truth["categories"]:
        del category["frequency"]
    numbers = summary(tmp_path, truth, found).numbers
    assert "APr" not in numbers and "AR300" in numbers and len(numbers) == 10
