"""`detect evaluate --results` and `--protocol.*`: the numbers of pycocotools with the same parameters; bad files."""

import copy
import json

import numpy as np
import pytest

from detect.__main__ import main
from tests.reference.coco import reference

SIZES = [(0, 1e10), (0, 200), (200, 900), (900, 1e10)]


def boxes_and_masks(annotated, rng, odd=False):
    """Results of a sloppy detector: boxes, masks and keypoints near the objects of a COCO dictionary."""
    found = []
    for one in annotated["annotations"]:
        for _ in range(int(rng.integers(0, 3))):
            x, y, w, h = (np.array(one["bbox"]) + rng.integers(-3, 4, 4)).clip(1).tolist()
            category = one["category_id"] if rng.random() < 0.8 else int(rng.choice([1, 2, 3]))
            points = np.array(one["keypoints"], float).reshape(-1, 3) + np.append(rng.normal(0, 2, 2), 0)
            record = {"image_id": one["image_id"], "category_id": category, "bbox": [x, y, w, h]}
            found.append(record | {"score": int(rng.integers(0, 9)) / 8, "keypoints": points.ravel().tolist()})
    return found


@pytest.fixture(scope="module")
def annotated(marked):
    whole = json.loads((marked / "instances_val.json").read_text())
    for one in whole["annotations"]:
        x, y, w, h = one["bbox"]
        one |= {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]], "iscrowd": 0, "area": w * h}
    whole["annotations"][3]["iscrowd"] = 1
    return whole


@pytest.fixture
def data(annotated, marked, tmp_path):
    (tmp_path / "val.json").write_text(json.dumps(annotated))
    split = f"{{annotations: {tmp_path}/val.json, images: {marked}}}"
    (tmp_path / "data.yaml").write_text(f"train: {split}\nval: {split}\n")
    return tmp_path / "data.yaml"


def evaluate(data, results, *options):
    """The numbers of the command."""
    folder = data.parent
    (folder / "found.json").write_text(json.dumps(results))
    words = ["evaluate", "--results", str(folder / "found.json"), "--data", str(data), "--json", str(folder / "n.json")]
    assert main([*words, "--resamples", "0", "--allow-outside", *options]) == 0
    return json.loads((folder / "n.json").read_text())


def only(results, *names):
    return [{name: one[name] for name in ("image_id", "category_id", "score", *names)} for one in results]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_file_of_others_has_the_numbers_of_pycocotools(kind, annotated, data, capsys):
    results = boxes_and_masks(annotated, np.random.default_rng(0))
    if kind == "segm":
        for one in results:
            x, y, w, h = one["bbox"]
            one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        from pycocotools import mask

        sizes = {one["id"]: (one["height"], one["width"]) for one in annotated["images"]}
        for one in results:
            rle = mask.frPyObjects(one["segmentation"], *sizes[one["image_id"]])[0]
            one["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    results = only(results, {"bbox": "bbox", "segm": "segmentation"}[kind])
    got = evaluate(data, copy.deepcopy(results))
    expected, _ = reference(copy.deepcopy(annotated), copy.deepcopy(results), kind)
    prefix = {"bbox": "AP", "segm": "mask_AP"}[kind]
    names = [name for name in got if name.startswith((prefix, prefix.replace("AP", "AR"))) and "per" not in name]
    assert [got[name] for name in names] == pytest.approx(expected.tolist(), abs=1e-12) and len(names) == len(expected)


@pytest.mark.parametrize(
    "change",
    [lambda s: 100 * s, lambda s: 3 * s - 2, lambda s: -s, lambda s: 1e308 * (s - 0.5), lambda s: s + 1e17 * (s > 0.5)],
)
def test_scores_of_any_range_are_ranked_as_they_are(change, annotated, data, capsys):
    results = only(boxes_and_masks(annotated, np.random.default_rng(0)), "bbox")
    for one in results:
        one["score"] = change(one["score"])
    got = evaluate(data, copy.deepcopy(results), "--page", str(data.parent / "page.html"))
    assert "AP takes their order as it is; confidences are the scores scaled to 0 to 1" in capsys.readouterr().out
    expected, _ = reference(copy.deepcopy(annotated), results, "bbox")
    names = [name for name in got if name.startswith(("AP", "AR")) and "per" not in name]
    assert [got[name] for name in names] == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_parameters_are_those_of_pycocotools(seed, annotated, data):
    rng = np.random.default_rng(seed)
    results = only(boxes_and_masks(annotated, rng), "bbox")
    ious, limits = sorted({0.5, *rng.integers(1, 20, 3).tolist()}), sorted({1, *rng.integers(1, 6, 2).tolist()})
    ious = [iou / 20 if iou >= 1 else iou for iou in ious]
    options = ["--protocol.ious", str(sorted(ious)), "--protocol.max-dets", str(limits)]
    options += ["--protocol.area-edges", "[200, 900]", *(["--protocol.class-agnostic", "true"] if seed else [])]
    got = evaluate(data, results, *options)
    given = {"iouThrs": np.array(sorted(ious)), "maxDets": limits, "areaRng": SIZES, "useCats": 0 if seed else 1}
    _, arrays = reference(copy.deepcopy(annotated), results, areaRngLbl=list("asml"), **given)

    def mean(values):
        return values[values > -1].mean() if (values > -1).any() else -1

    precision, recall = arrays["precision"], arrays["recall"]
    assert got["AP"] == pytest.approx(mean(precision[..., 0, -1]), abs=1e-12)
    for s, name in enumerate("sml", 1):
        assert got[f"AP{name}"] == pytest.approx(mean(precision[..., s, -1]), abs=1e-12)
        assert got[f"AR{name}"] == pytest.approx(mean(recall[..., s, -1]), abs=1e-12)
    for m, limit in enumerate(limits):
        assert got[f"AR{limit}"] == pytest.approx(mean(recall[..., 0, m]), abs=1e-12)
    half = [k for k, iou in enumerate(sorted(ious)) if iou == 0.5]
    assert got["AP50"] == pytest.approx(mean(precision[half][..., 0, -1]), abs=1e-12)
    assert got["protocol"]["ious"] == sorted(ious)


def test_given_sigmas_are_those_of_pycocotools(annotated, data, monkeypatch):
    results = only(boxes_and_masks(annotated, np.random.default_rng(5)), "keypoints")
    sigmas = [0.02, 0.1, 0.3]
    got = evaluate(data, results, "--protocol.sigmas", str(sigmas))
    _, arrays = reference(copy.deepcopy(annotated), results, "keypoints", kpt_oks_sigmas=np.array(sigmas))
    for name, values in (("AP", arrays["precision"]), ("AR", arrays["recall"]), ("AP75", arrays["precision"][5:6])):
        found = values[..., 0, 0]
        assert got[f"OKS_{name}"] == pytest.approx(found[found > -1].mean(), abs=1e-12)


def test_what_is_not_cocos_says_so_and_what_does_not_count_is_told(annotated, data, capsys):
    results = only(boxes_and_masks(annotated, np.random.default_rng(1)), "bbox")
    page = data.parent / "page.html"
    evaluate(data, [*results, *results, *results], "--protocol.max-dets", "[1, 2]", "--page", str(page))
    said = capsys.readouterr().out
    assert "the protocol is not COCO's: max_dets 1 2" in said and "an image has 2 of a class at most" in said
    assert "max_dets 1 2." in page.read_text(encoding="utf-8")


BAD = {
    "is of image 999, which is not in": {"image_id": 999},
    "has category 77, not in": {"category_id": 77},
    "has a number that is not finite": {"score": float("nan")},
    "needs image_id, category_id, bbox of four numbers and score": {"bbox": [1, 2, 3]},
    "needs image_id, category_id, bbox of four numbers and score: TypeError('text": {"score": "0.5"},
    "needs image_id, category_id, bbox of four numbers and score: TypeError(": {"bbox": "1234"},
    "needs image_id, category_id, bbox of four numbers and score: T": {"score": None},
    "needs image_id, category_id, bbox of four numbers and score: TypeError('true": {"category_id": True},
    "is of image True, which is not in": {"image_id": True},
    "has a number that is not finite: [1": {"bbox": [1, 2, float("nan"), 4]},
    "has a negative width or height: a box is x, y, width, height: [9": {"bbox": [9, 8, -3, 4]},
    "has a negative width or height: a box is x, y, width, height: [8": {"bbox": [8, 9, 3, -1e-9]},
    "has a number that is not finite: [5": {"score": float("inf")},
}


@pytest.mark.parametrize("told", BAD)
def test_bad_records_are_named(told, annotated, data, capsys):
    results = only(boxes_and_masks(annotated, np.random.default_rng(1)), "bbox")
    results[2] |= BAD[told]
    (data.parent / "found.json").write_text(json.dumps(results))
    words = ["evaluate", "--results", str(data.parent / "found.json"), "--data", str(data), "--allow-outside"]
    assert main(words) == 2
    assert f"found.json: detection 2 {told}" in capsys.readouterr().err
    if "999" in told:
        assert main([*words, "--skip-bad", "--resamples", "0"]) == 0
        assert "detection 2 is of image 999, not annotated" in capsys.readouterr().err


def test_polygons_in_place_of_rles_are_named(annotated, data, capsys):
    results = only(boxes_and_masks(annotated, np.random.default_rng(1)))
    for one in results:
        one["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    (data.parent / "found.json").write_text(json.dumps(results))
    assert main(["evaluate", "--results", str(data.parent / "found.json"), "--data", str(data), "--allow-outside"]) == 2
    assert "detection 0 needs image_id, category_id, segmentation" in (said := capsys.readouterr().err)
    assert "polygons in place of an RLE" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--conf", "0.5"], "--conf has no effect on --results"),
        (["--protocol.ious", "[0.7, 0.5]"], "the values must ascend"),
        (["--protocol.sigmas", "[0.1]"], "--protocol.sigmas has 1 values"),
        (["--protocol.iou-type", "segm"], "detection 0 has no segmentation"),
        (["--weights", "w.safetensors"], "--weights has no effect on --results"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, told, annotated, data, capsys):
    results = only(boxes_and_masks(annotated, np.random.default_rng(1)), "bbox")
    (data.parent / "found.json").write_text(json.dumps(results))
    found = str(data.parent / "found.json")
    assert main(["evaluate", "--results", found, "--data", str(data), "--allow-outside", *words]) == 2
    assert told in capsys.readouterr().err


def test_keypoints_need_data_with_keypoints_and_numbers(annotated, data, capsys):
    results = only(boxes_and_masks(annotated, np.random.default_rng(1)), "keypoints")
    words = ["evaluate", "--results", str(data.parent / "found.json"), "--data", str(data), "--allow-outside"]
    results[1]["keypoints"][0] = "3"
    (data.parent / "found.json").write_text(json.dumps(results))
    assert main(words) == 2 and "detection 1 needs keypoints" in capsys.readouterr().err
    plain = annotated | {"categories": [{"id": one["id"], "name": one["name"]} for one in annotated["categories"]]}
    (data.parent / "val.json").write_text(json.dumps(plain))
    assert main(words) == 2 and "val.json has none: give" in capsys.readouterr().err


def test_options_of_predictions_are_for_the_weights_that_a_file_is_compared_with(annotated, data, capsys):
    results = only(boxes_and_masks(annotated, np.random.default_rng(1)), "bbox")
    (data.parent / "found.json").write_text(json.dumps(results))
    words = ["evaluate", "--results", str(data.parent / "found.json"), "--data", str(data), "--allow-outside"]
    (data.parent / "w.safetensors").write_text("")
    for against, told in (("w.safetensors", "w.safetensors"), ("found.json", "--device has no effect")):
        assert main([*words, "--device", "cpu", "--against", str(data.parent / against)]) == 2
        said = capsys.readouterr().err
        assert told in said and ("no effect" in said) == (against == "found.json")
