"""The commands end to end, as the shell and Python call them."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import detect
from anchors import oriented_to_corners
from detect.__main__ import main
from detect.api import Detector
from detect.commands import info
from detect.commands.predict import PredictConfig, predict
from detect.config.augment import AugmentConfig
from detect.config.train import OptimConfig
from detect.data.images import read_image
from detect.errors import UserError
from detect.evaluation.coco_protocol import NUMBERS
from detect.models.weights import load_weights, save_weights
from detect.training.setup import train
from tests.reference.marks import slowly
from tests.reference.quiet import call_home, whole_job
from tests.reference.runs import MODEL, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = ["--device", "cpu", "--precision", "float32"]


@pytest.fixture(scope="module")
def weights(one_thread, digits, tmp_path_factory):
    """Weights that find a little."""
    augment, optim = AugmentConfig(mosaic=0, flip=0, scale=0.1), OptimConfig(warmup=1, lr=0.01)
    out = tmp_path_factory.mktemp("trained") / "run"
    return train(settings(digits, out, epochs=20, imgsz=96, multi_scale=0.0, augment=augment, optim=optim))


def said(capsys) -> str:
    """The one line that a command wrote to stderr."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: "), err
    return err


def test_train_evaluate_predict_anchors_info(digits, tmp_path, capsys):
    """Every command in a row, with the flags that people use."""
    out = tmp_path / "run"
    small = ["--model.width", "16", "--imgsz", "64", "--batch", "8", "--workers", "0", *CPU]
    assert main(["train", "--data", str(digits), "--model", "yolo_n", "--epochs", "1", "--out", str(out), *small]) == 0
    assert {p.name for p in out.iterdir()} == {
        *("config.yaml", "metrics.jsonl", "notes.json", "best.safetensors", "last.ckpt", "report.html")
    }
    last = [f"best weights: {out / 'best.safetensors'}", f"report: {out / 'report.html'}"]
    last += [f"next: detect predict --weights {out / 'best.safetensors'} --source IMAGE_OR_FOLDER"]
    assert capsys.readouterr().out.splitlines()[-3:] == last
    again = ["train", "--config", str(out / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(again) == 0  # a run's own configuration starts it anew
    assert (tmp_path / "again" / "best.safetensors").read_bytes() == (out / "best.safetensors").read_bytes()
    assert main([*again, "--resume"]) == 0
    assert main(again) == 2 and "--resume" in capsys.readouterr().err
    best = str(out / "best.safetensors")
    assert main(["evaluate", "--weights", best, "--data", str(digits), "--workers", "0", *CPU]) == 0
    assert "AP50 0." in capsys.readouterr().out
    assert (
        main(["predict", "--weights", best, "--source", str(digits / "val"), "--out", str(tmp_path / "p"), *CPU]) == 0
    )
    assert len(list((tmp_path / "p").glob("*.jpg"))) == 8
    plotted = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.html")]
    assert main(["anchors", "--data", str(digits), "--k", "3", *plotted]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())
    assert printed.splitlines()[-1] == f"anchors: {json.dumps(found['anchors'])}"
    page = (tmp_path / "a.html").read_text()
    assert all(f'data-value="{side!r}"' in page for sides in found["anchors"] for side in sides)
    flags = ["--model", "yolo_anchor_n", "--model.levels", "[3]", "--model.anchors", json.dumps(found["anchors"])]
    with_anchors = ["train", "--data", str(digits), "--epochs", "1", "--out", str(tmp_path / "b"), *flags, *small]
    assert main(with_anchors) == 0  # in the form that --model.anchors takes
    assert load_weights(tmp_path / "b" / "best.safetensors").config.anchors == found["anchors"]


@pytest.mark.parametrize("split", [*slowly("train"), "val"])
def test_the_twelve_numbers_are_pycocotools_on_the_detections_file(digits, weights, tmp_path, split):
    files = {"json": str(tmp_path / "n.json"), "detections": str(tmp_path / "d.json")}
    result = detect.evaluate(weights=weights, data=digits, split=split, workers=0, device="cpu", **files)
    assert json.loads((tmp_path / "n.json").read_text()) == result
    ground_truth = COCO(str(digits / f"instances_{split}.json"))
    evaluator = COCOeval(ground_truth, ground_truth.loadRes(files["detections"]), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert [result[name] for name in NUMBERS] == pytest.approx(evaluator.stats.tolist(), rel=0, abs=1e-12)
    assert result["AP"] > 0.002 and result["AR100"] > 0.04
    assert result["per_class"].keys() == {str(i) for i in range(10)}


def test_training_and_evaluate_agree_on_ap(digits, weights):
    rows = [json.loads(line) for line in (weights.parent / "metrics.jsonl").read_text().splitlines()]
    result = detect.evaluate(
        weights=weights, data=digits, workers=0, device="cpu", precision="float32", batch=4, max_det=100
    )
    best = max(rows, key=lambda row: row["AP"])
    assert [result[name] for name in NUMBERS] == pytest.approx([best[name] for name in NUMBERS], abs=0.01)


def test_evaluate_says_what_annotation_id_zero_costs(digits, weights, tmp_path, capsys):
    data = shutil.copytree(digits, tmp_path / "digits")
    ground_truth = json.loads((data / "instances_val.json").read_text())
    ground_truth["annotations"][0]["id"] = 0
    (data / "instances_val.json").write_text(json.dumps(ground_truth))
    for source, lines in ((digits, 0), (data, 1)):
        assert main(["evaluate", "--weights", str(weights), "--data", str(source), "--workers", "0", *CPU]) == 0
        err = capsys.readouterr().err
        assert err.count("annotation id 0 counts as missed") == err.count("number from 1") == lines


def test_predict_on_a_video(digits, weights, tmp_path, capsys):
    flags = ["--conf", "0.002", "--vid-stride", "30", "--max-det", "2", "--json", *CPU]
    source = str(digits / "video.mp4")
    assert main(["predict", "--weights", str(weights), "--source", source, "--out", str(tmp_path), *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "detections.json").read_text())
    assert (tmp_path / "video.mp4").stat().st_size > 0
    frames = [record["frame"] for record in printed]
    assert frames and max(frames.count(frame) for frame in frames) <= 2


def test_predict_looks_for_the_classes_that_are_named(digits, weights, tmp_path, capsys):
    flags = ["--source", str(digits / "val"), "--out", str(tmp_path), "--conf", "0.01", *CPU]
    assert main(["predict", "--weights", str(weights), *flags, "--classes", "3", "7"]) == 0
    found = json.loads((tmp_path / "detections.json").read_text())
    assert {record["category"] for record in found} <= {"3", "7"} and found
    assert main(["predict", "--weights", str(weights), *flags, "--classes", "seven"]) == 2
    assert "unknown class 'seven'" in capsys.readouterr().err


def test_predict_again_and_with_bad_files(digits, weights, tmp_path, capsys, caplog):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(digits / "val", folder / "deep")
    first = min((folder / "deep").iterdir())
    (folder / "broken.jpg").write_bytes(first.read_bytes()[:300])
    (folder / "notes.txt").write_text("x")
    flags = ["--weights", str(weights), "--source", str(folder), "--out", str(out), "--recursive", "--save-crop", *CPU]
    assert main(["predict", *flags, "--conf", "0.01", "--max-det", "1"]) == 2
    assert "broken.jpg" in capsys.readouterr().err
    assert main(["predict", *flags, "--conf", "0.01", "--max-det", "1", "--skip-bad"]) == 0
    err = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[0] for line in err] == ["left", "images"]
    assert "1 of other types (notes.txt)" in caplog.text and "broken.jpg" in err[0] and "--max-det 1" in err[1]
    assert len(list((out / "crops").rglob("*.jpg"))) == len(json.loads((out / "detections.json").read_text())) > 0
    assert main(["predict", *flags, "--conf", "1", "--skip-bad"]) == 0
    assert not (out / "crops").exists() and json.loads((out / "detections.json").read_text()) == []
    (folder / "broken.jpg").unlink()
    assert main(["predict", *flags, "--max-pixels", "100"]) == 2
    assert "--max-pixels" in said_last(capsys)


def said_last(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_python_finds_what_the_command_finds(digits, weights, tmp_path):
    predict(
        PredictConfig(
            [str(weights)], [str(digits / "val")], str(tmp_path), conf=0.02, device="cpu", precision="float32"
        )
    )
    written = json.loads((tmp_path / "detections.json").read_text())
    detector = detect.load(weights, device="cpu", precision="float32")
    images = [read_image(path) for path in sorted((digits / "val").iterdir())]
    count = 0
    for image, (frame, found) in zip(images, detector.predict(images, conf=0.02), strict=True):
        assert np.array_equal(frame.image, image)
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
            record, count = written[count], count + 1
            assert record["category"] == detector.names[label] and record["score"] == pytest.approx(score, abs=1e-4)
            left, top, right, bottom = box
            assert record["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.02)
    assert count == len(written) > 0


def test_python_trains(digits, tmp_path):
    flags = {"epochs": 1, "imgsz": 64, "batch": 8, "workers": 0, "device": "cpu", "optim.lr": 0.003}
    best = detect.train(data=digits, model=dataclasses.asdict(MODEL), out=tmp_path / "run", **flags)
    assert best == tmp_path / "run" / "best.safetensors"
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "lr: 0.003" in config and "width: 16" in config
    assert len(detect.load(best, device="cpu").names) == 10
    assert detect.anchors(data=digits, k=2)["anchors"][0] < detect.anchors(data=digits, k=2)["anchors"][1]


def test_anchors_of_oriented_boxes_are_their_sides(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    corners = oriented_to_corners(torch.tensor([[50.0, 50, 40, 20, 0.5], [120, 50, 20, 40, 2.9]])).reshape(-1, 8)
    boxes = [{"bbox": [0, 0, 30, 30], "segmentation": [points]} for points in corners.tolist()]
    annotations = [one | {"id": k, "image_id": 1, "category_id": 1} for k, one in enumerate(boxes)]
    data = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "instances_train.json").write_text(json.dumps(data | {"annotations": annotations}))
    flags = {"data": tmp_path, "k": 1, "imgsz": 100}
    assert detect.anchors(**flags, oriented=True)["anchors"] == [pytest.approx([20, 10], abs=0.1)]
    assert detect.anchors(**flags)["anchors"] == [pytest.approx([15, 15], abs=0.1)]
    del annotations[1]["segmentation"]
    (tmp_path / "instances_train.json").write_text(json.dumps(data | {"annotations": annotations}))
    with pytest.raises(UserError, match="outline"):
        detect.anchors(**flags, oriented=True)


def renamed(weights, path, names):
    """The same network, its classes called otherwise."""
    model = load_weights(weights)
    model.metadata = dataclasses.replace(model.metadata, names=names)
    save_weights(path, model)
    return path


def test_classes_meet_by_name(digits, weights, tmp_path, capsys):
    flags = {"data": digits, "split": "train", "workers": 0, "device": "cpu", "precision": "float32"}
    plain = detect.evaluate(weights=weights, **flags)
    content = json.loads((digits / "instances_train.json").read_text())
    data = tmp_path / "other"
    shutil.copytree(digits, data)
    content["categories"] = [{"id": 900 - c["id"], "name": c["name"]} for c in content["categories"]]
    for one in content["annotations"]:
        one["category_id"] = 900 - one["category_id"]
    (data / "instances_train.json").write_text(json.dumps(content))
    turned = detect.evaluate(weights=weights, **{**flags, "data": data})
    assert list(turned["per_class"]) == list("9876543210") and turned["per_class"] == pytest.approx(plain["per_class"])
    assert [turned[name] for name in NUMBERS] == pytest.approx([plain[name] for name in NUMBERS])
    capsys.readouterr()

    fewer = renamed(weights, tmp_path / "w.safetensors", [*"01234", "cat", "dog", *"789"])
    result = detect.evaluate(weights=fewer, **flags)
    err = capsys.readouterr().err
    assert "lacks, not counted: cat, dog" in err and "lack, counted as missed: 5, 6" in err
    assert result["per_class"] == pytest.approx(plain["per_class"] | {"5": 0.0, "6": 0.0})

    none = renamed(weights, tmp_path / "n.safetensors", [*"abcdefghij"])
    with pytest.raises(UserError, match=r"none of the classes of the weights: a, b.*; it has 0, 1.*: choose weights"):
        detect.evaluate(weights=none, **flags)


def test_bad_records_are_told_of(digits, weights, tmp_path, capsys):
    data = tmp_path / "bad"
    shutil.copytree(digits, data)
    content = json.loads((data / "instances_val.json").read_text())
    content["annotations"][0]["bbox"][3] = -1
    (data / "instances_val.json").write_text(json.dumps(content))
    flags = ["--data", str(data), "--split", "val"]
    for command in (["evaluate", "--weights", str(weights), "--workers", "0", *CPU], ["anchors", "--k", "2"]):
        assert main([*command, *flags]) == 2
        assert "--skip-bad" in said(capsys)
        assert main([*command, *flags, "--skip-bad"]) == 0
        assert capsys.readouterr().err.count("left out") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate", "--weights", "{w}", "--data", "{d}", "--split", "tets"], "'tets'"),
        (["evaluate", "--weights", "{w}", "--data", "nowhere"], "nowhere"),
        (["evaluate", "--weights", "{d}", "--data", "{d}"], "not a weights file"),
        (["evaluate", "--weights", "{w}", "--data", "{d}", "--json", "{w}/x.json"], "x.json cannot be written"),
        (["evaluate", "--weights", "{w}", "--data", "{d}", "--device", "cuda:99"], "--device cuda:99"),
        (["predict", "--weights", "{w}", "--source", "no/such.jpg"], "no/such.jpg"),
        (["predict", "--weights", "{w}", "--source", "{d}/val", "--out", "{w}/deeper"], "cannot be written"),
        (["train", "--data", "{d}", "--out", "{w}/deeper"], "choose another --out"),
        (["train", "--data", "{d}", "--out", "{d}/new", "--weights", "no.safetensors"], "no.safetensors"),
        (["train", "--data", "{d}", "--out", "{d}/new", "--model.backbone", "csp_nn"], "did you mean 'csp_n'"),
        (["train", "--data", "{d}", "--out", "{d}/new", "--epochs", "many"], "--epochs is 'many'"),
        (["anchors", "--data", "{d}", "--k", "100000"], "instances_train.json"),
        (["anchors", "--data", "{d}", "--k", "2", "--json", "{w}/a.json"], "a.json cannot be written"),
        (["info", "yolo_q"], "unknown backbone or model 'yolo_q'"),
    ],
)
def test_every_mistake_is_one_line_and_status_2(digits, weights, tmp_path, capsys, arguments, named):
    data = tmp_path / "data"
    os.symlink(digits, data) if "{d}/new" not in arguments else shutil.copytree(digits, data)
    extra = ["--workers", "0"] if arguments[0] in ("evaluate", "train") else []
    assert main([a.format(w=weights, d=data) for a in [*arguments, *extra]]) == 2
    assert named in said(capsys)


def forged(weights, path, change):
    """The weights file with another header."""
    with safe_open(weights, "pt") as file:
        about = json.loads(file.metadata()["gridhead"])
    save_file(load_file(weights), path, {"gridhead": json.dumps(change(about))})
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about | {"format": 99},
        lambda about: about | {"model": about["model"] | {"dilation": 2}},
        lambda about: about | {"model": about["model"] | {"width": 0}},
        lambda about: about | {"model": about["model"] | {"width": 24}},
        lambda about: about | {"metadata": {"names": ["a"]}},
        lambda about: about | {"metadata": None},
        lambda about: {"format": 2},
        lambda about: [1, 2],
        lambda about: about | {"model": about["model"] | {"backbone": "os.system"}},
    ],
)
def test_a_header_that_lies_is_the_users_error(weights, tmp_path, change):
    with pytest.raises(UserError):
        Detector.load(forged(weights, tmp_path / "w.safetensors", change), "cpu")


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(info, "info", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # which Python ends with status 1
        main(["info", "yolo_n"])


def test_interrupted_anywhere_is_130(monkeypatch, capsys):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "info", interrupted)
    assert main(["info", "yolo_n"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_whole_job_asks_nobody_and_loads_no_pickle(digits, tmp_path):
    """Under an audit of the interpreter's own: sockets, name look-ups and classes found by pickles are refused."""
    assert status(whole_job, str(digits), str(tmp_path / "run"), ["socket.", "pickle.find_class"]) == 0
    assert json.loads((tmp_path / "run" / "p" / "detections.json").read_text()) is not None


def test_the_audit_would_notice(digits, tmp_path):
    assert status(whole_job, str(digits), str(tmp_path / "run"), ["open"]) == 3
    assert status(call_home) == 3


def test_loading_needs_no_gpu_and_changes_no_weights(weights):
    before = weights.read_bytes()
    detector = Detector.load(weights, "cpu")
    assert all(not p.requires_grad for p in detector.model.parameters()) and not detector.model.training
    list(detector.predict(np.zeros((40, 60, 3), np.uint8)))
    list(detector.predict(torch.zeros(3, 40, 60)))
    assert weights.read_bytes() == before
