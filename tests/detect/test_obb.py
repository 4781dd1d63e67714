"""The task of oriented boxes from end to end: training, evaluation and prediction on the embedded set."""

import json

import pytest
import torch

import detect
from detect.__main__ import main
from detect.data.toy import build
from detect.models.base import ModelMetadata
from detect.models.builder import build as build_model
from detect.models.configs.yolo import YoloOrientedConfig
from detect.models.weights import save_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on a small embedded set: its folder, and that of the data."""
    folder = tmp_path_factory.mktemp("obb")
    data = build(folder / "digits", train=16, val=4, size=96)
    flags = ["--data", str(data), "--model", "yolo_n_obb", "--imgsz", "64", "--batch", "16", "--workers", "0"]
    flags += ["--augment.rotate", "180", "--device", "cpu", "--out", str(folder / "run")]
    assert main(["train", *flags, "--epochs", "2"]) == 0
    return folder / "run", data


def test_training_gives_metrics_over_rotated_iou(run):
    rows = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and {"AP", "AP50", "DOTA_AP50", "box", "regression"} <= rows[-1].keys()
    assert (run[0] / "report.html").is_file()


def test_weights_are_evaluated_and_predict_corners(digits, tmp_path, capsys):
    torch.manual_seed(0)
    config = YoloOrientedConfig(backbone="lenet5", neck="straight", levels=[2], width=8)
    model = build_model(config, ModelMetadata([str(i) for i in range(10)], list(range(1, 11)), 64))
    for layer, _ in model.named_rows():
        layer.bias.data[1] = 4  # it sees a one everywhere
    save_weights(tmp_path / "w.safetensors", model)
    weights, source = str(tmp_path / "w.safetensors"), str(next((digits / "val").iterdir()))
    assert main(["evaluate", "--weights", weights, "--data", str(digits), "--workers", "0", "--tta"]) == 0
    assert "DOTA's AP50" in capsys.readouterr().out
    for flags in ([], ["--tta"], ["--tile", "--imgsz", "48"], ["--track"]):
        out = tmp_path / "".join(flags[:1] or ["plain"])
        assert main(["predict", "--weights", weights, "--source", source, "--out", str(out), "--save-txt", *flags]) == 0
        records = json.loads((out / "detections.json").read_text())
        assert records and all(len(one["corners"]) == 4 and abs(one["angle"]) <= 1.5708 for one in records)
    (found,) = (result for _, result in detect.load(weights, "cpu").predict(source))
    assert isinstance(found.oriented, torch.Tensor) and found.oriented.shape == (len(found), 5)
