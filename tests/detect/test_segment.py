"""The task segment by the command: training from the weights of a detector, evaluation, prediction, resuming."""

import dataclasses
import json
import signal

import pytest

from detect.__main__ import main
from detect.models.configs.yolo import YoloMasksConfig
from detect.training.setup import train
from tests.reference.doom import doomed
from tests.reference.runs import remains, settings, status, tiny_weights

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = YoloMasksConfig(width=16, levels=[3], neck="straight", head_convs=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def test_train_evaluate_and_predict_by_the_command(digits, weights, tmp_path, capsys):
    out = tmp_path / "run"
    train(settings(digits, out, model=MODEL, task="segment", weights=str(weights), epochs=1))
    assert "starting fresh" not in capsys.readouterr().err  # the classes of the detector are those of the set
    (row,) = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    assert {"masks", "AP", "mask_AP"} <= row.keys() and row["masks"] > 0
    numbers, found = tmp_path / "numbers.json", tmp_path / "found.json"
    given = ["--weights", str(out / "best.safetensors"), "--data", str(digits), "--workers", "0"]
    given += ["--device", "cpu", "--precision", "float32"]  # as in training
    assert main(["evaluate", *given, "--json", str(numbers), "--detections", str(found)]) == 0
    assert "masks  " in capsys.readouterr().out
    assert json.loads(numbers.read_text())["mask_AP"] == pytest.approx(row["mask_AP"], abs=0.01)
    source = ["--source", str(digits / "val"), "--out", str(tmp_path / "seen"), "--conf", "0.001"]
    assert main(["predict", "--weights", str(out / "best.safetensors"), *source]) == 0
    records = json.loads((tmp_path / "seen" / "detections.json").read_text())
    assert records and all(one["segmentation"]["size"] == [96, 96] for one in records)


@pytest.mark.slow
def test_killed_and_resumed_is_as_never_killed(digits, tmp_path):
    config = settings(digits, tmp_path / "whole", model=MODEL, task="segment", epochs=2)
    train(config)
    part = dataclasses.replace(config, out=str(tmp_path / "part"))
    assert status(doomed, part, "at_step", 6, "die") == -signal.SIGKILL
    train(dataclasses.replace(part, resume=True))
    assert remains(tmp_path / "part") == remains(tmp_path / "whole")


def test_data_without_outlines_is_refused_in_a_line(digits, tmp_path, capsys):
    content = json.loads((digits / "instances_train.json").read_text())
    for record in content["annotations"]:
        record.pop("segmentation", None)
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "d.yaml").write_text(f"train:\n  annotations: boxes.json\n  images: {digits}\n")
    out = str(tmp_path / "run")
    assert main(["train", "--data", str(tmp_path / "d.yaml"), "--task", "segment", "--epochs", "1", "--out", out]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no object has an outline" in said and "--task detect" in said
