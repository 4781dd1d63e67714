"""Files that gridhead wrote before its names were changed: they load, predict and resume as they did.

`legacy/` was made by commit a04b66a with torch 2.14.1: a detector of the set of the fixture `digits`, a classifier of
signals, and a run that was killed in its second epoch; `expected.json` is what that commit predicted, and
`finished_metrics.jsonl` what the run has at its end.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import detect
from detect.cli.parser import parse
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.models.legacy import current_record, current_settings
from detect.models.weights import read_weights
from detect.training.setup import train
from detect.utils.yaml_files import read_yaml

LEGACY = Path(__file__).parent / "legacy"
EXPECTED = json.loads((LEGACY / "expected.json").read_text())
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_detector_predicts_what_it_did():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    model = detect.load(LEGACY / "yolo.safetensors", "cpu", "float32")
    ((_, found),) = model.predict(image, conf=0, max_det=5)
    for name, values in EXPECTED["yolo"].items():
        assert getattr(found, name).tolist() == pytest.approx(np.array(values), abs=1e-3), name


def test_a_classifier_of_signals_predicts_what_it_did(tmp_path):
    np.savez(tmp_path / "one.npz", x_test=np.sin(np.linspace(0, 9, 16)).astype(np.float32)[None, None])
    model = detect.load(LEGACY / "classifier.safetensors", "cpu", "float32")
    assert (model.model.config.dims, model.model.config.hidden) == (1, [8])
    ((_, found),) = model.predict(tmp_path / "one.npz")
    assert found.labels.tolist() == EXPECTED["classifier"]["labels"]
    assert found.scores.tolist() == pytest.approx(EXPECTED["classifier"]["scores"], abs=1e-4)


def test_the_checksum_is_that_of_the_header_as_it_was_written(tmp_path):
    with safe_open(LEGACY / "yolo.safetensors", "pt") as file:
        header = json.loads(file.metadata()["gridhead"])
    assert header["format"] == 1 and read_weights(LEGACY / "yolo.safetensors")[0].head_convs == 0
    header["model"]["hidden"] = [1]  # which a detector does not have
    save_file(load_file(LEGACY / "yolo.safetensors"), tmp_path / "w.safetensors", {"gridhead": json.dumps(header)})
    with pytest.raises(UserError, match="checksum"):
        read_weights(tmp_path / "w.safetensors")


def test_a_run_resumes_and_ends_as_it_would_have(digits, tmp_path):
    boxes = load_data(digits, "train").boxes
    if float(boxes.sum()) != EXPECTED["finished run"]["sum of boxes"]:
        pytest.skip("with these versions of libraries the toy set has other digits than those of the run")
    run = tmp_path / "run"
    shutil.copytree(LEGACY / "run", run)
    best = train(parse("train", ["--resume", str(run), "--data", str(digits)]))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    wanted = [json.loads(line) for line in (LEGACY / "finished_metrics.jsonl").read_text().splitlines()]
    for row, expected in zip(rows, wanted, strict=True):
        expected["regression"] = expected.pop("code")
        clock = {"seconds", "images_per_second"}
        assert row.keys() == expected.keys()
        same = {name: value for name, value in expected.items() if name not in clock}
        assert {name: row[name] for name in same} == pytest.approx(same, rel=1e-3, abs=1e-3)
    state = load_file(best)
    for name, total in EXPECTED["finished run"]["sums of tensors"].items():
        assert float(state[name].double().sum()) == pytest.approx(total, rel=1e-3, abs=1e-3), name


def test_settings_and_records_keep_what_a_kind_of_model_has():
    settings = read_yaml(LEGACY / "run" / "config.yaml")
    now = current_settings(settings)
    assert now["model"]["head_convs"] == 0 and now["model"]["loss"]["regression"] == 1.5
    assert now["images_per_identity"] == 4 and "graph" not in now["model"] and "hidden" not in now["model"]
    assert current_settings(now) == now
    record = {"model.graph": "", "model.kind": "embedder", "model.step": 8, "model.loss.embed": "siamese", "thaw": 1}
    found = current_record(record | {"task": "locate", "model.head": "point"})
    assert found.pop("task") == "localize"
    assert found == {
        "model.kind": "embedder",
        "model.output_stride": 8,
        "model.loss.kind": "siamese",
        "unfreeze_every": 1,
    }
