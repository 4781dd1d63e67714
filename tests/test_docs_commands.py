"""The commands of the pages that are read first run as they stand, on what a reader would have, only smaller.

The blocks that are marked to be run are run by test_docs.py.
"""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from detect.__main__ import main
from detect.data.toy import build
from tests.test_docs import BLOCKS, ROOT, commands_of

GUIDES = ["augmentation", "checking", "compare-runs", "confidence-intervals", "data", "export", "masks", "predict"]
GUIDES += ["report", "thresholds", "tracking"]
PAGES = ["README.md", "docs/index.md", *(f"docs/how-to/{name}.md" for name in GUIDES)]
SMALL = {"--epochs": "1", "--imgsz": "64", "--batch": "4", "--examples": "2"}
ELSEWHERE = {  # what takes minutes, does not end, or needs weights that have learned something; and what runs it
    "demo": ".github/workflows/release.yml",
    "serve": "tests/reference/server.py",
    "import": "tests/detect/test_open.py",
    "--int8": "tests/detect/test_mask_exports.py",
    "--guarantee": "tests/detect/test_conformal.py",
    "--save-thresholds": "tests/detect/test_thresholds.py",
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with images, a video, labels, results and weights."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build(Path("digits"), train=12, val=6, size=64)
        for split in ("train", "val"):
            labels = json.loads((path := Path(f"digits/instances_{split}.json")).read_text())
            for image in labels["images"]:
                image["camera"] = "left" if image["id"] % 2 else "right"
            path.write_text(json.dumps(labels))
        rows = [f"{image['file_name']},{'sun' if image['id'] % 2 else 'rain'}" for image in labels["images"]]
        Path("images.csv").write_text("\n".join(["image,weather", *rows]))
        files = {"train": "instances_train.json", "val": "instances_val.json", "test": "instances_val.json"}
        named = {split: {"annotations": f"digits/{name}", "images": "digits"} for split, name in files.items()}
        Path("tiny.yaml").write_text(yaml.safe_dump(named))
        shutil.copytree("digits/val", "photos")
        shutil.copy(next(Path("photos").iterdir()), "street.jpg")
        shutil.copy("digits/video.mp4", "clip.mp4")
        train = ["train", "--data", "tiny.yaml", "--model", "yolo_n", "--out", "runs/plain"]
        evaluate = ["evaluate", "--data", "tiny.yaml", "--weights", "runs/plain/best.safetensors"]
        assert main(small(train)) == main(small([*evaluate, "--detections", "found.json"])) == 0
        shutil.copy("runs/plain/best.safetensors", "tiny.safetensors")
        masks = ["train", "--data", "tiny.yaml", "--model", "yolo_n_seg", "--out", "runs/masks"]
        assert main(small(masks)) == 0
        shutil.copy("runs/masks/best.safetensors", "masks.safetensors")
        for name in ("mosaic", "large"):
            shutil.copytree("runs/plain", f"runs/{name}")
    return folder


def small(words):
    """A command with few epochs and small images, and with our file in the place of one that is not there."""
    made, flag, weights = [], "", "masks" if {"--save-masks", "--remove-background"} & {*words} else "tiny"
    ours = {"--weights": f"{weights}.safetensors", "--data": "tiny.yaml", "--source": "photos"}
    ours["--against"] = ours["--weights"]
    for word in words:
        flag = word if word.startswith("--") else flag
        if word != flag:
            word = SMALL.get(flag) or (word if word == "toy" or Path(word).exists() else ours.get(flag, word))
        made.append(word)
    if made[0] == "train" and "--resume" not in made:
        made += [word for flag, value in SMALL.items() if flag not in {*made, "--examples"} for word in (flag, value)]
    workers = made[0] in ("train", "evaluate") and not {"--resume", "--results", "--workers"} & {*made}
    return [*made, "--workers", "0"] if workers else made


def test_what_is_not_run_here_is_run_elsewhere():
    assert [word for word, file in ELSEWHERE.items() if word not in (ROOT / file).read_text(encoding="utf-8")] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page, reader, tmp_path, monkeypatch, capsys):
    shutil.copytree(reader, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDHEAD_OFFLINE", "1")
    blocks = [block for block in BLOCKS[ROOT / page] if block.language == "sh" and not block.run]
    failed = []
    for words in (words for block in blocks for words in commands_of(block.text)):
        if words[0] == "detect" and not ELSEWHERE.keys() & {*words}:
            given = small(words[1:])
            if main(given) != 0:
                failed.append(f"{shlex.join(given)}: {capsys.readouterr().err.splitlines()[-1:]}")
    assert failed == [], "\n".join(failed)
