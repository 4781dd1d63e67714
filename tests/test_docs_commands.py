"""The commands of every page run as they stand, on what a reader would have, only smaller.

The blocks that are marked to be run are run by test_docs.py.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
import torchvision
import yaml

from detect.__main__ import main
from detect.data.toy import VERSION, build
from detect.hub import OFFLINE
from detect.hub.catalogue import RemoteFile, Source, catalogue
from detect.utils.atomic_io import cache_folder
from tests.reference.published import write_all
from tests.test_docs import BLOCKS, ROOT, commands_of, forgets_plugins, name_of  # noqa: F401

PAGES = [name_of(page) for page, blocks in BLOCKS.items() if any(b.language == "sh" and not b.run for b in blocks)]
SMALL = {"--epochs": "1", "--imgsz": "64", "--batch": "4", "--examples": "2", "--steps": "2", "--trials": "1"}
SMALL |= {"--confirm": "1", "--confirm-epochs": "1", "--optim.warmup": "0", "--seeds": "1", "--folds": "2"}
SMALL |= {"--storage": "sqlite:///study.db", "--index": "1", "--count": "4", "--splits": "5"}
SMALL |= {"--images": "8", "--per-class": "1", "--scale": "0.001", "--seconds": "2", "--longest": "1"}
SMALL |= {"--val-people": "2"}
ELSEWHERE = {  # commands and tools that take minutes, or a cluster or packages of their own; and what runs them
    "demo": ".github/workflows/release.yml",
    "--address": "tests/detect/test_bulk_ray.py",
    "bench": "tests/detect/test_bench.py",
    "figures": "tests/detect/test_figures.py",
    "licences": "tests/detect/test_licences.py",
    "scale": "tests/detect/test_scale_page.py",
}
# Other programs that are not run, and what runs what the page has them do: a file, and a word in it.
OTHERS = {
    "pip": ("Makefile", "pip install"),
    "uv": (".github/workflows/tests.yml", "uv pip install"),
    "make": (".ci/run", "make test"),
    "kill": ("tests/detect/test_resume.py", "killed"),
    "aws": ("tests/detect/test_storage_s3.py", "upload"),
    "tensorboard": ("tests/detect/test_callbacks.py", "tensorboard"),
    "cmake": ("tests/detect/test_export.py", '"cpp"'),
    "build/detect": ("tests/detect/test_export.py", '"cpp"'),
    "npm": ("tests/detect/test_export.py", "npm install"),
    "node": ("tests/detect/test_export.py", '"js"'),
}
# What makes a tool quick, beside smaller numbers: its own defaults are those of the study.
MORE = {
    "active_learning": "--rounds 2 --budget 4 --steps 2 --imgsz 64 --batch 4 --seeds 1",
    "bulk_kill": "--workers 0",
    "large_set": "--scale 0.001",
    "measure_set": "--seconds 2",
    "verify": "--val-people 2",
    "warps": "--imgsz 64",
}
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
UNLIKE |= {("verify", "--detector", "runs/points/best.safetensors"), ("evaluate", "--data", "data/tud-campus")}
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
        write_all(folder)
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
    for split, people in {"train": ("ann", "bob", "cas", "dan"), "test": ("eve", "fay")}.items():
        for name in people:
            shutil.copytree(folder / "digits/val", folder / "crowd" / split / name)
    _describe_street(folder)
    files = [
        f"test/{name}/{one.name}" for name in ("ann", "bob") for one in sorted((folder / "digits/val").iterdir())[:2]
    ]
    pairs = [f"{one},{other},{int(one[:8] == other[:8])}" for one in files for other in files if one < other]
    (folder / "pairs.csv").write_text("\n".join(["a,b,same", *pairs]))
    pairs = [one.replace("ann", "eve").replace("bob", "fay") for one in pairs]
    (folder / "pairs_of_people.csv").write_text("\n".join(["a,b,same", *pairs]))
    rng = np.random.default_rng(0)
    for name, separator in {"GunPoint_TRAIN.tsv": "\t", "GunPoint_TEST.tsv": "\t", "GunPoint_TRAIN.txt": " "}.items():
        signals = [[1 + i % 2, *rng.normal(i % 2, 1, 64).round(3).tolist()] for i in range(12)]
        (folder / name).write_text("\n".join(separator.join(map(str, signal)) for signal in signals))


def _describe_street(folder):
    """Write a film as MOTChallenge has it, and what stands for the package trackeval, which needs another OpenCV."""
    street = folder / "data/tud-campus"
    shutil.copytree(folder / "digits/val", street / "img1")
    rows = [f"{frame},1,{10 + frame},10,12,12,1,-1,-1,-1" for frame in range(1, 9)]
    for name in ("gt", "det"):
        (street / name).mkdir()
        (street / name / f"{name}.txt").write_text("\n".join(rows))
    answer = "lambda self, data: dict.fromkeys(['HOTA', 'MOTA', 'IDF1', 'IDSW', 'CLR_FN', 'CLR_FP'], 0)"
    (folder / "trackeval").mkdir()
    (folder / "trackeval/__init__.py").write_text("")
    kinds = [f"class {name}:\n    eval_sequence = {answer}" for name in ("CLEAR", "HOTA", "Identity")]
    (folder / "trackeval/metrics.py").write_text("\n".join(kinds))


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
    made, flag, about = [], "", (words or [""])[0]
    ours = dict.fromkeys(("--weights", "--against", "--fine-tune", "--teacher"), f"{kind}.safetensors")
    ours |= {"--data": "crowd" if tool == "verify" else DATA[kind], "--into": "points.yaml", "--unlabelled": "photos"}
    ours |= {"--detector": "detect.safetensors", "--run": "runs/plain", "--pictures": "photos", "--videos": "."}
    ours |= {"--test-csv": "pairs_of_people.csv", "--trackeval": sys.executable}
    ours |= {"--backbone-weights": "squeezenet1_1.pth", "--merge": next(map(str, Path("runs").glob("label/*.xml")), "")}
    if tool in ("convert", "windows"):
        ours[""] = "digits/instances_train.json" if "--split" in words else DATA[kind]
    streams = iter(["clip.mp4", "clip2.mp4", "clip3.mp4"])
    images = "digits/val" if about == "label" else "photos"  # corrections are of images of the dataset
    several = re.search(r"--source [^-]\S* [^-]", " ".join(words))
    for word in words:
        flag = word if word.startswith("--") else flag
        if flag in ("--arm", "--row") and word != flag:  # its name, and words for detect train
            name, colon, rest = word.rpartition(": ")
            made.append(f"{name}{colon}{shlex.join(small(shlex.split(rest), kind))}" if rest else word)
            continue
        if flag == "--source":
            ours[flag] = next(streams, "") if several and word != flag else images
        if word != flag:
            unlike = UNLIKE & {(kind, flag, word), (about, flag, word)}
            named = word == "toy" or (about == "import" and word in catalogue())
            known = named or (Path(word).exists() and not unlike)
            less = SMALL.get(flag, "")
            if less and (word.isdigit() or not less.isdigit()):
                word = less
            elif not known:
                word = ours.get(flag, word)
        made.append(word)
    more = shlex.split(MORE.get(tool, ""))
    for flag, value in zip(more[::2], more[1::2], strict=True):
        made += [] if flag in made else [flag, value]
    if about in ("train", "tune") and "--resume" not in made:
        made += [one for flag in ("--epochs", "--imgsz", "--batch") if flag not in made for one in (flag, SMALL[flag])]
    if kind == "embed" and "--batch" in made:
        made[made.index("--batch") + 1] = "8"
    if about == "stylize" and "--steps" not in made:
        made += ["--steps", "2"]
    alone = about in ("train", "evaluate", "bulk") and not {"--results", "--workers", "--resume"} & {*made}
    return [*made, "--workers", "0"] if about == "bulk" or (alone and not tool) else made


def kind_of(words, page):
    """What a command is about."""
    if "tools/verify.py" in words:
        return "embed"
    return next((HINTS[word] for word in words if word in HINTS), PAGE_KINDS.get(page, "detect"))


def test_what_is_not_run_here_is_run_elsewhere():
    places = {**{word: (file, word) for word, file in ELSEWHERE.items()}, **OTHERS}
    found = {word: said in (ROOT / file).read_text(encoding="utf-8") for word, (file, said) in places.items()}
    assert [word for word, there in found.items() if not there] == []


class Reader:
    """Who types the commands of a page."""

    def __init__(self, page, capsys, monkeypatch):
        self.page, self.capsys, self.monkeypatch = page, capsys, monkeypatch
        self.started, self.servers = list[subprocess.Popen](), list[str]()
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def enter(self, words):
        """Run a command; returns what went wrong."""
        program, *rest = words
        tool = ""
        if program == "python" and rest[0] != "-c":
            name = rest.pop(rest[0] == "-m")
            rest = [word for word in rest if word != "-m"]
            tool = name.removeprefix("tools.") if "/" not in name else Path(name).stem
        if {tool, program, *rest} & ELSEWHERE.keys() or program in OTHERS:
            return []
        for before, word in zip(["", *rest], (one.removeprefix("@") for one in rest), strict=False):
            if word.endswith((".jpg", ".png")) and before != "--out" and not ("://" in word or Path(word).exists()):
                shutil.copy(next(Path("photos").glob("*.jpg")), word)
        if program == "detect":
            return self.detect(small(rest, kind_of(words, self.page)))
        if program == "torchrun":
            begin = rest.index("detect") + 1
            given = small(rest[begin:])
            self.clear(given)
            return self.call(["python", "-m", "torch.distributed.run", *rest[:begin], *given])
        if program == "curl":
            self.servers or self.serve(["--weights", "detect.safetensors"])
            here = [word.replace("http://127.0.0.1:8000/", self.servers[-1]) for word in rest]
            return self.call(["curl", "--fail", *here])
        if tool and (ROOT / f"tools/{tool}.py").is_file():
            given = small(rest, kind_of(words, self.page), tool)
            if "--out" in given:
                self.clear(given)
            return self.call(["python", str(ROOT / f"tools/{tool}.py"), *given])
        if rest[0] == "-c":  # it makes the digits in another size
            shutil.rmtree("digits")
        return self.call(["python", "-m", tool, *rest] if tool else words)

    def detect(self, given):
        """Run a command of ours in this process, or start a server."""
        if given[0] == "serve":
            return self.serve(given[1:])
        if given[0] in ("train", "tune", "stylize") and "--resume" not in given:
            self.clear(given)
        if "--pretrained" in given:
            self.pretrain([word for word in given if word in torchvision.models.list_models()])
        with self.monkeypatch.context() as patch:
            if given[0] in ("import", "weights"):
                patch.delenv(OFFLINE)
            if main(given) == 0:
                if given[0] == "import":  # what was published has learned something
                    shutil.copy("detect.safetensors", given[given.index("--out") + 1])
                return []
        return [f"detect {shlex.join(given)}: {self.capsys.readouterr().err.splitlines()[-1:]}"]

    def pretrain(self, names):
        """Put random weights where torch keeps those that it has fetched."""
        self.monkeypatch.setenv("TORCH_HOME", "torch")
        kept = Path("torch/hub/checkpoints")
        kept.mkdir(parents=True, exist_ok=True)
        for name in names:
            file = torchvision.models.get_model_weights(name)["DEFAULT"].url.rpartition("/")[2]
            torch.save(torchvision.models.get_model(name).state_dict(), kept / file)

    def clear(self, given):
        """Remove the results of a command that the reader would not give as well."""
        out = Path(given[given.index("--out") + 1] if "--out" in given else f"runs/{given[0]}")
        if out.is_file():
            out.unlink()
        shutil.rmtree(out, ignore_errors=True)

    def call(self, words):
        """Run another program."""
        command = [sys.executable, *words[1:]] if words[0] == "python" else ["sh", "-c", " ".join(map(_quoted, words))]
        ran = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        said = [line for line in ran.stderr.splitlines() if "rror" in line]
        return [] if ran.returncode == 0 else [f"{shlex.join(words)}: {said[:3]}"]

    def serve(self, flags):
        """Start a server; it runs until the page is done."""
        command = [sys.executable, "-m", "detect", "serve", *flags, "--port", "0"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        self.started.append(process)
        found = re.search(r"http://[\w.]+(:\d+)", line := process.stdout.readline())
        if not found:
            process.kill()
            return [f"{shlex.join(command)}: {line} {process.stderr.read()}"]
        self.servers.append(f"http://127.0.0.1{found[1]}/")
        return []


def _quoted(word):
    return word if "*" in word else shlex.quote(word)


@contextmanager
def published(folder, patch):
    """The published weights of which the folder has a file come from a server on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name, file in {"picodet_s_320": "picodet_s_320_coco.onnx", "yolox_s": "yolox_s.onnx"}.items():
            source = Source(f"http://127.0.0.1:{server.server_port}/{file}")
            found = catalogue()[name]
            patch.setitem(catalogue(), name, replace(found, files=(RemoteFile(found.files[0].name, (source,)),)))
        yield
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("forgets_plugins")
def test_the_commands_of_a_page_run(page, reader, tmp_path, monkeypatch, capsys):
    shutil.copytree(reader, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(OFFLINE, "1")
    for block in BLOCKS[ROOT / page]:
        if block.file and not re.search(r"path:|://", block.text):  # all but data that is elsewhere
            Path(block.file).write_text(block.text, encoding="utf-8")
    for plugin in (ROOT / "examples/plugins").glob("*.py"):
        shutil.copy(plugin, ".")
    blocks = [block for block in BLOCKS[ROOT / page] if block.language == "sh" and not block.run]
    someone = Reader(page, capsys, monkeypatch)
    try:
        with published(reader, monkeypatch):
            failed = [line for block in blocks for words in commands_of(block.text) for line in someone.enter(words)]
    finally:
        for process in someone.started:
            process.kill()
            process.communicate()
    assert failed == [], "\n".join(failed)
