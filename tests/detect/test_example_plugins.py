"""The examples of plugins, as an outsider uses them: copied into a folder of their own, named on the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "plugins").glob("*.py"))
FAST = ["--imgsz", "64", "--batch", "8", "--device", "cpu", "--precision", "float32", "--cache-gb", "0"]
NAMES = ("separable_backbone", "alpha_iou_loss", "jsonl_format", "vertical_flip", "gradient_norm")
FIVE = [word for name in NAMES for word in ("--plugin", f"./{name}.py")]  # and a short run that uses all of them
FIVE += ["--model.backbone", "separable", "--model.loss.box_kind", "alpha_iou", "--callbacks", "gradient_norm"]
FIVE += ["--augment.transforms", "[{vertical_flip: {p: 0.5}}]"]
FIVE += ["--epochs", "1", "--workers", "1", "--model.levels", "[4]", "--model.width", "16"]


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder with the examples, outside the repository."""
    folder = tmp_path_factory.mktemp("outside")
    for path in EXAMPLES:
        shutil.copy(path, folder)
    return folder


def detect(folder, *arguments, launcher=()):
    """The finished command `detect`, run in `folder`, by a launcher such as torchrun."""
    command = [sys.executable, *launcher, "-m", "detect", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def as_jsonl(source, folder):
    """The COCO data of `source` in the format of the example."""
    for split in ("train", "val"):
        coco = json.loads((source / f"instances_{split}.json").read_text())
        names = {one["id"]: one["name"] for one in coco["categories"]}
        images = {one["id"]: {"image": one["file_name"], "boxes": []} for one in coco["images"]}
        for one in coco["annotations"]:
            images[one["image_id"]]["boxes"].append({"name": names[one["category_id"]], "box": one["bbox"]})
        shutil.copytree(source / split, folder / split)
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in images.values()))


@pytest.fixture(scope="module")
def run(outside, digits):
    """The folder of a run with a backbone, a loss, a dataset format, a transform and a callback of the examples."""
    (outside / "data").mkdir()
    as_jsonl(digits, outside / "data")
    found = detect(outside, "train", *FIVE, "--data", "data", "--out", "run", *FAST)
    assert found.returncode == 0, found.stderr
    return outside / "run"


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_with_five_plugins_is_resumed_from_its_folder_alone(run, outside):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert [Path(name).name for name in settings["plugin"]][:2] == ["separable_backbone.py", "alpha_iou_loss.py"]
    assert settings["augment"]["transforms"] == [{"vertical_flip": {"p": 0.5}}]
    found = detect(outside, "train", "--resume", "run", "--epochs", "2")
    assert found.returncode == 0, found.stderr
    assert [row["gradient_norm"] > 0 for row in metrics(run)] == [True, True]


@pytest.mark.slow
def test_plugins_work_in_every_process_that_torchrun_starts(run, outside):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = detect(outside, "train", *FIVE, "--data", "data", "--out", "two", *FAST, launcher=torchrun)
    assert found.returncode == 0, found.stderr
    (row,), (alone, *_) = metrics(outside / "two"), metrics(run)
    assert row["step"] == alone["step"] // 2 and row["gradient_norm"] > 0


@pytest.mark.slow
def test_weights_ask_for_the_plugins_that_they_were_made_with(run, outside):
    command = ["evaluate", "--weights", run / "best.safetensors", "--data", "data", *FAST[:6]]
    without = detect(outside, *command)
    assert without.returncode == 2 and without.stderr.count("\n") == 1
    assert "best.safetensors was made with the plugin " in without.stderr and "give --plugin PATH/" in without.stderr
    plugins = [word for path in EXAMPLES for word in ("--plugin", path.name)]
    assert "AP50" in detect(outside, *command, *plugins).stdout


def test_a_task_of_ones_own_trains_evaluates_and_predicts(outside, digits):
    assert len((ROOT / "examples" / "plugins" / "tagging.py").read_text().splitlines()) < 150
    plugin = ["--plugin", "./tagging.py"]
    small = ["--epochs", "1", "--workers", "0", "--model.dropout", "0.5", "--data", digits, "--out", "tags"]
    found = detect(outside, "train", *plugin, "--model", "tagger", *small, *FAST)
    assert found.returncode == 0, found.stderr
    assert 0 <= metrics(outside / "tags")[0]["mAP"] <= 1
    weights = ["--weights", "tags/best.safetensors"]
    image = next((digits / "val").iterdir())
    plugin += ["--plugin", "gradient_norm.py", "--callbacks", "gradient_norm"]
    found = detect(outside, "predict", *plugin, *weights, "--source", image, "--out", "seen", "--conf", "0.01")
    assert found.returncode == 0, found.stderr
    assert {"image", "category_id", "score"} <= json.loads((outside / "seen" / "tags.json").read_text())[0].keys()
    assert (outside / "tags" / "report.html").exists()
