"""The commands of every page run as they stand, on what a reader would have, only smaller.

The blocks that are marked to be run are run by test_docs.py.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml

from detect.__main__ import main
from detect.data.toy import VERSION, build
from detect.utils.atomic_io import cache_folder
from tests.test_docs import BLOCKS, ROOT, commands_of, forgets_plugins, name_of  # noqa: F401

PAGES = [name_of(page) for page, blocks in BLOCKS.items() if any(b.language == "sh" and not b.run for b in blocks)]
SMALL = {"--epochs": "1", "--imgsz": "64", "--batch": "4", "--examples": "2", "--steps": "2", "--trials": "1"}
SMALL |= {"--confirm": "1", "--confirm-epochs": "1", "--optim.warmup": "0", "--seeds": "1", "--folds": "2"}
SMALL |= {"--storage": "sqlite:///study.db", "--index": "1", "--count": "4", "--splits": "5"}
SMALL |= {"--images": "8", "--per-class": "1"}
ELSEWHERE = {  # what takes minutes, does not end, or needs a network, another service or an extra; and what runs it
    "demo": ".github/workflows/release.yml",
    "serve": "tests/reference/server.py",
    "import": "tests/detect/test_open.py",
    "pull": "tests/detect/test_hub.py",
    "--pretrained": "tests/detect/test_transfer.py",
    "--int8": "tests/detect/test_mask_exports.py",
    "--address": "tests/detect/test_bulk_ray.py",
    "--detector": "tests/detect/test_verification.py",
}
TOOLS = ("bulk_listing", "closer", "compare", "convert", "coverage", "curves", "fusion_table", "hold_out", "look")
TOOLS += ("planted_errors", "volumes", "windows")
# Words that tell what a command is about; pages where nothing tells it; and for each kind what stands for data and
# weights that only the reader has.
HINTS = {
    "embedder": "embed",
    "landmarker": "points",
    "yolo_n_points": "points",
    "runs/points/best.safetensors": "points",
}
HINTS |= {"resnet50-0676ba61.pth": "classify", "classify": "classify", "--save-masks": "masks"}
HINTS |= {"--remove-background": "masks", "--boundary": "masks", "--crops": "classify", "tools.hold_out": "points"}
HINTS |= {"data/facial-keypoints": "points", "runs/poses/best.safetensors": "points"}
PAGE_KINDS = {"docs/how-to/verification.md": "embed", "docs/tour/verification.md": "embed"}
PAGE_KINDS |= {"docs/how-to/classify.md": "classify", "docs/how-to/ensembles.md": "detect"}
DATA = {"detect": "tiny.yaml", "masks": "tiny.yaml", "points": "points.yaml", "classify": "classes", "embed": "classes"}
# What is there, but is something else for this kind or command.
UNLIKE = {("classify", "--data", "photos"), ("label", "--source", "photos")}
MODELS = {"masks": "--model yolo_n_seg", "points": "--model landmarker", "embed": "--model embedder --batch 8"}
MODELS |= {"classify": "--task classify --model lenet5"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with images, videos, labels, results and weights of each kind."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        build(cache_folder() / VERSION, train=24, val=8, size=64)  # the toy set of these tests is small, too
        shutil.copytree(cache_folder() / VERSION, "digits")
        _describe(folder)
        learn = ["train", "--data", "tiny.yaml", "--model", "yolo_n", "--out", "runs/plain", "--optim.lr", "0.005"]
        learn += ["--augment.mosaic", "0", "--augment.flip", "0", "--augment.scale", "0", "--augment.translate", "0"]
        assert main([*small(learn), "--epochs", "30"]) == 0
        shutil.copy("runs/plain/best.safetensors", "detect.safetensors")
        for split, name in {"train": "found_train.json", "val": "found.json"}.items():
            evaluate = ["evaluate", "--data", "tiny.yaml", "--split", split, "--weights", "detect.safetensors"]
            assert main([*evaluate, "--workers", "0", "--detections", name]) == 0
        for kind, words in MODELS.items():
            assert main(small(["train", "--data", DATA[kind], *words.split(), "--out", f"runs/{kind}"], kind)) == 0
            shutil.copy(f"runs/{kind}/best.safetensors", f"{kind}.safetensors")
        for name in ("mosaic", "large", "birds"):
            shutil.copytree("runs/plain", f"runs/{name}")
        torch.save(torchvision.models.squeezenet1_1().state_dict(), "squeezenet1_1.pth")
    return folder


def _describe(folder):
    """Write what describes the digits: splits, cameras, weather, keypoints, folders of classes, a file of pairs."""
    train, val = (json.loads((folder / f"digits/instances_{split}.json").read_text()) for split in ("train", "val"))
    for image in train["images"]:
        image["camera"] = "left" if image["id"] % 2 else "right"
    _write(folder / "tiny.yaml", train=train, val=train, test=val)  # val is train, so that little training is enough
    rows = [f"{image['file_name']},{'sun' if image['id'] % 2 else 'rain'}" for image in train["images"]]
    (folder / "images.csv").write_text("\n".join(["image,weather", *rows]))
    for labels in (train, val):
        _mark(labels)
    _write(folder / "points.yaml", train=train, val=val)
    other = build(folder / "other", seed=1, train=8, val=1, size=64)
    (folder / "photos").mkdir()
    for image in (other / "train").glob("*.jpg"):
        shutil.copy(image, folder / f"photos/photo-{image.name}")
    for name in ("clip", "clip2", "clip3"):
        shutil.copy(other / "video.mp4", folder / f"{name}.mp4")
    shutil.copytree(folder / "digits/train", folder / "photos/train")
    (folder / "labels").mkdir()
    for split in ("train", "val"):  # as the guides call them
        (folder / f"labels/{split}.json").write_text(json.dumps(train))
    for split in ("train", "val", "test"):
        for name in ("ann", "bob"):
            shutil.copytree(folder / "digits/val", folder / "classes" / split / name)
    files = [
        f"test/{name}/{one.name}" for name in ("ann", "bob") for one in sorted((folder / "digits/val").iterdir())[:2]
    ]
    pairs = [f"{one},{other},{int(one[:8] == other[:8])}" for one in files for other in files if one < other]
    (folder / "pairs.csv").write_text("\n".join(["a,b,same", *pairs]))
    rng = np.random.default_rng(0)
    for name, separator in {"GunPoint_TRAIN.tsv": "\t", "GunPoint_TEST.tsv": "\t", "GunPoint_TRAIN.txt": " "}.items():
        signals = [[1 + i % 2, *rng.normal(i % 2, 1, 64).round(3).tolist()] for i in range(12)]
        (folder / name).write_text("\n".join(separator.join(map(str, signal)) for signal in signals))


def _mark(labels):
    """Give each image one object with two keypoints."""
    for one in labels["categories"]:
        one |= {"keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}
    for one in labels["annotations"]:
        x, y, w, h = one["bbox"]
        one |= {"keypoints": [x, y, 2, x + w, y + h, 2], "num_keypoints": 2}
    labels["annotations"] = list({one["image_id"]: one for one in labels["annotations"]}.values())


def _write(path, **splits):
    for split, labels in splits.items():
        (path.parent / f"{path.stem}_{split}.json").write_text(json.dumps(labels))
    named = {split: {"annotations": f"{path.stem}_{split}.json", "images": "digits"} for split in splits}
    path.write_text(yaml.safe_dump(named))


def small(words, kind="detect", tool=""):
    """A command with few epochs and small images, and with our file in the place of one that is not there."""
    made, flag = [], ""
    ours = dict.fromkeys(("--weights", "--against", "--fine-tune", "--teacher"), f"{kind}.safetensors")
    ours |= {"--data": DATA[kind], "--into": "points.yaml", "--unlabelled": "photos"}
    ours |= {"--backbone-weights": "squeezenet1_1.pth", "--merge": next(map(str, Path("runs").glob("label/*.xml")), "")}
    if tool in ("convert", "windows"):
        ours[""] = "digits/instances_train.json" if "--split" in words else DATA[kind]
    streams = iter(["clip.mp4", "clip2.mp4", "clip3.mp4"])
    images = "digits/val" if words[0] == "label" else "photos"  # corrections are of images of the dataset
    several = re.search(r"--source [^-]\S* [^-]", " ".join(words))
    for word in words:
        flag = word if word.startswith("--") else flag
        if tool == "compare" and " " in word:  # an arm: its name, and words for detect train
            name, colon, rest = word.rpartition(": ")
            made.append(f"{name}{colon}{shlex.join(small(shlex.split(rest), kind, tool))}")
            continue
        if flag == "--source":
            ours[flag] = next(streams, "") if several and word != flag else images
        if word != flag:
            known = word == "toy" or (Path(word).exists() and not UNLIKE & {(kind, flag, word), (words[0], flag, word)})
            less = SMALL.get(flag, "")
            if less and (word.isdigit() or not less.isdigit()):
                word = less
            elif not known:
                word = ours.get(flag, word)
        made.append(word)
    if tool or made[0] not in ("train", "tune", "evaluate", "bulk") or "--resume" in made:
        return [*made, "--workers", "0"] if "bulk" in made[:1] else made
    if made[0] in ("train", "tune"):
        made += [one for flag in ("--epochs", "--imgsz", "--batch") if flag not in made for one in (flag, SMALL[flag])]
        if kind == "embed":
            made[made.index("--batch") + 1] = "8"
    return made if {"--results", "--workers"} & {*made} or made[0] == "tune" else [*made, "--workers", "0"]


def kind_of(words, page):
    """What a command is about."""
    return next((HINTS[word] for word in words if word in HINTS), PAGE_KINDS.get(page, "detect"))


def test_what_is_not_run_here_is_run_elsewhere():
    assert [word for word, file in ELSEWHERE.items() if word not in (ROOT / file).read_text(encoding="utf-8")] == []


def run(words, page, capsys):
    """Run a command of a page; returns what went wrong."""
    program, *rest = words
    tool = ""
    if program == "python":
        module = rest.pop(0) == "-m"
        tool = Path(rest[0].replace(".", "/") if module else words[1]).stem
        rest = rest[module:]
    if ELSEWHERE.keys() & {*words} or not (program == "detect" or tool in TOOLS):
        return []
    for before, word in zip(["", *rest], rest, strict=False):
        if word.endswith((".jpg", ".png")) and before != "--out" and not ("://" in word or Path(word).exists()):
            shutil.copy(next(Path("photos").glob("*.jpg")), word)
    given = small(rest, kind_of(words, page), tool)
    out = given[given.index("--out") + 1] if "--out" in given else f"runs/{given[0]}"
    if tool or (given[0] in ("train", "tune") and "--resume" not in given):
        shutil.rmtree(out, ignore_errors=True)  # of a command that the reader would not give as well
    if program == "detect":
        if main(given) == 0:
            return []
        said = capsys.readouterr().err
    else:
        ran = subprocess.run(
            [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *given], capture_output=True, text=True
        )
        if ran.returncode == 0:
            return []
        said = ran.stderr
    return [f"{program} {tool} {shlex.join(given)}: {said.splitlines()[-1:]}"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("forgets_plugins")
def test_the_commands_of_a_page_run(page, reader, tmp_path, monkeypatch, capsys):
    shutil.copytree(reader, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GRIDHEAD_OFFLINE", "1")
    for block in BLOCKS[ROOT / page]:
        if block.file and not re.search(r"path:|://", block.text):  # all but data that is elsewhere
            Path(block.file).write_text(block.text, encoding="utf-8")
    for plugin in (ROOT / "examples/plugins").glob("*.py"):
        shutil.copy(plugin, ".")
    blocks = [block for block in BLOCKS[ROOT / page] if block.language == "sh" and not block.run]
    failed = [line for block in blocks for words in commands_of(block.text) for line in run(words, page, capsys)]
    assert failed == [], "\n".join(failed)
