"""The commands of every page run as they stand, on what a reader would have, only smaller.

The blocks that are marked to be run are run by test_docs.py.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest
import torch
import torchvision

from detect.__main__ import main
from detect.hub import OFFLINE
from detect.hub.catalogue import RemoteFile, Source, catalogue
from detect.utils.atomic_io import cache_folder
from tests.reference.object_store import s3_server, upload
from tests.reference.reader_files import write_files
from tests.test_docs import BLOCKS, ROOT, commands_of, forgets_plugins, name_of  # noqa: F401

PAGES = [name_of(page) for page, blocks in BLOCKS.items() if any(b.language == "sh" and not b.run for b in blocks)]
SMALL = {"--epochs": "1", "--imgsz": "64", "--batch": "4", "--examples": "2", "--steps": "2", "--trials": "1"}
SMALL |= {"--confirm": "1", "--confirm-epochs": "1", "--optim.warmup": "0", "--seeds": "1", "--folds": "2"}
SMALL |= {"--storage": "sqlite:///study.db", "--index": "1", "--count": "4", "--splits": "5"}
SMALL |= {"--images": "8", "--per-class": "1", "--scale": "0.001", "--seconds": "2", "--longest": "1"}
SMALL |= {"--val-people": "2", "--save-steps": "2"}
PROGRAMS = Path(sys.executable).parent
NOTHING_NEW = ("--dry-run", "--no-deps", "--no-build-isolation")
# What makes a tool quick, beside smaller numbers: its own defaults are those of the study.
MORE = {
    "bench": "--rows nms --scale 0.002 --threads 1",
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
        write_files(folder)
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
    return folder


def small(words, kind="detect", tool="", there=()):
    """A command with few epochs and small images, and with our file in the place of one that is not there."""
    made, flag, about = [], "", (words or [""])[0]
    ours = dict.fromkeys(("--weights", "--against", "--fine-tune", "--teacher"), f"{kind}.safetensors")
    ours |= {"--data": "crowd" if tool == "verify" else DATA[kind], "--into": "points.yaml", "--unlabelled": "photos"}
    ours |= {"--detector": "detect.safetensors", "--run": "runs/plain", "--pictures": "photos", "--videos": "."}
    ours |= {"--test-csv": "pairs_of_people.csv", "--trackeval": sys.executable, "--peer": sys.executable}
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
            known = named or word in there or (Path(word).exists() and not unlike)
            less = SMALL.get(flag, "")
            if less and (word.isdigit() or not less.isdigit()):
                word = less
            elif not known:
                word = ours.get(flag, word)
        made.append(word)
    more = shlex.split(MORE.get(tool, ""))
    for flag, value in zip(more[::2], more[1::2], strict=True):
        made += [] if flag in made else [flag, value]
    if about in ("train", "tune", "demo") and "--resume" not in made:
        sizes = ("--imgsz", "--batch") if about != "demo" else ()
        made += [one for flag in ("--epochs", *sizes) if flag not in made for one in (flag, SMALL[flag])]
    if kind == "embed" and "--batch" in made:
        made[made.index("--batch") + 1] = "8"
    if about == "stylize" and "--steps" not in made:
        made += ["--steps", "2"]
    alone = about in ("train", "evaluate", "bulk") and not {"--results", "--workers", "--resume", "--address"} & {*made}
    return [*made, "--workers", "0"] if (alone and not tool) or (about == "bulk" and "--address" not in made) else made


def kind_of(words, page):
    """What a command is about."""
    if "tools/verify.py" in words:
        return "embed"
    return next((HINTS[word] for word in words if word in HINTS), PAGE_KINDS.get(page, "detect"))


class Reader:
    """Who types the commands of a page.

    Attributes:
        missing: programs that the page asks for and this machine lacks.
    """

    def __init__(self, page, capsys, monkeypatch, stack):
        self.page, self.capsys, self.monkeypatch, self.stack = page, capsys, monkeypatch, stack
        self.servers, self.missing, self.stored = list[str](), set[str](), set[str]()
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        }

    def enter(self, text):
        """Run the commands of a block; returns what went wrong."""
        filled = re.sub(r"\$\((python .*)\)", lambda found: self.output(found[1]), text)
        commands = [*commands_of(filled), []]
        failed = list[str]()
        for words, following in pairwise(commands):
            for before, word in pairwise(["", *(one.removeprefix("@") for one in words)]):
                if word.endswith((".jpg", ".png")) and before != "--out" and not ("://" in word or Path(word).exists()):
                    shutil.copy(next(Path("photos").glob("*.jpg")), word)
            if following[:1] == ["kill"]:
                self.begin(small(words[1:]))
            else:
                failed += getattr(self, f"enter_{words[0]}", self.enter_other)(words)
        return failed

    def enter_detect(self, words):
        """Run a command of ours in this process, start a server, or send the command to a cluster."""
        given = small(words[1:], kind_of(words, self.page), there=self.stored)
        if given[0] == "serve":
            return self.serve(given[1:])
        if given[0] in ("train", "tune", "stylize") and "--resume" not in given:
            self.clear(given)
        if "--pretrained" in given:
            self.pretrain([word for word in given if word in torchvision.models.list_models()])
        if "--address" in given:
            self.clear(given)
            return self.spread(given)
        with self.monkeypatch.context() as patch:
            if given[0] in ("import", "weights") or self.stored & {*given}:
                patch.delenv(OFFLINE)
            if main(given) == 0:
                if given[0] == "import":  # what was published has learned something
                    shutil.copy("detect.safetensors", given[given.index("--out") + 1])
                return []
        return [f"detect {shlex.join(given)}: {self.capsys.readouterr().err.splitlines()[-1:]}"]

    def enter_python(self, words):
        """Run a program in Python; a tool of ours in a copy of the repository, into which it may write."""
        rest = words[1:]
        if rest[0] == "-c":  # it makes the digits in another size
            shutil.rmtree("digits")
            return self.call(words)
        name = rest.pop(rest[0] == "-m")
        rest = [word for word in rest if word != "-m"]
        tool = name.removeprefix("tools.") if "/" not in name else Path(name).stem
        if not (ROOT / f"tools/{tool}.py").is_file():
            return self.call(["python", "-m", tool, *rest])
        given = small(rest, kind_of(words, self.page), tool)
        if "--out" in given:
            self.clear(given)
        return self.call(["python", str(self.repository / f"tools/{tool}.py"), *given])

    def enter_torchrun(self, words):
        """Train in several processes."""
        begin = words.index("detect") + 1
        given = small(words[begin:])
        self.clear(given)
        return self.call(["python", "-m", "torch.distributed.run", *words[1:begin], *given])

    def enter_curl(self, words):
        """Ask the server that was started last."""
        failed = [] if self.servers else self.serve(["--weights", "detect.safetensors"])
        here = [word.replace("http://127.0.0.1:8000/", self.servers[-1]) for word in words[1:]]
        return failed + self.call(["curl", "--fail", *here])

    def enter_pip(self, words):
        """Do all of an installation but what is downloaded and written: build this package, look for its extras."""
        here = [re.sub(r"^(gridhead|\.)(?=\[|$)", str(ROOT).replace("\\", "/"), word) for word in words[2:]]
        command = ["python", "-m", "pip", words[1], *NOTHING_NEW, *here]
        return self.call(command, never="does not provide the extra")

    def enter_uv(self, words):
        """The same by uv."""
        here = [str(ROOT) if word == "." else word for word in words[3:]]
        return self.enter_other(["uv", *words[1:3], "--python", sys.executable, *NOTHING_NEW, *here])

    def enter_make(self, words):
        """Make a target in a copy of the repository, of all tests one."""
        return self.call(["make", "--directory", str(self.repository), *words[1:]])

    def enter_kill(self, words):
        """Kill the run that the command before has begun, once it has saved something."""
        process, out = self.begun
        while process.poll() is None and not (out / "last.ckpt").exists():
            time.sleep(0.05)
        process.kill()
        process.communicate()
        return []

    def enter_aws(self, words):
        """Copy files to a store on this machine."""
        if not self.stored:
            store = self.stack.enter_context(s3_server())
            names = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
            for name, value in {**names, "AWS_DEFAULT_REGION": "us-east-1"}.items():
                self.monkeypatch.setenv(name, value)
                self.environment[name] = value
            Path("nothing").mkdir()
            upload(store, Path("nothing"), "bucket", "")
        self.stored.add(words[-1])
        return self.enter_other(words)

    def enter_tensorboard(self, words):
        """Start TensorBoard, and look at its first page."""
        failed = self.start(["-m", "tensorboard.main", *words[1:], "--port", "0"])
        return failed or self.call(["curl", "--fail", self.servers.pop()])

    def enter_other(self, words):
        """Run another program, if it is there."""
        if shutil.which(words[0], path=self.environment["PATH"]):
            return self.call(words)
        self.missing.add(words[0])
        return []

    def spread(self, given):
        """Run a command on a cluster of one node."""
        if find_spec("ray") is None:
            self.missing.add("ray")
            return []
        ray = ["python", "-m", "ray.scripts.scripts"]
        failed = self.call([*ray, "start", "--head", "--num-cpus", "2", "--disable-usage-stats"])
        try:
            return failed or self.call(["python", "-m", "detect", *given])
        finally:
            self.call([*ray, "stop", "--force"])

    def begin(self, given):
        """Start a run that will be killed."""
        self.clear(given)
        process = subprocess.Popen([sys.executable, "-m", "detect", *given], env=self.environment)
        self.begun = process, Path(given[given.index("--out") + 1])

    def pretrain(self, names):
        """Put random weights where those that were fetched are kept."""
        for name in names:
            file = listed(self.monkeypatch, name, "")
            (kept := cache_folder() / "weights" / file.name).parent.mkdir(parents=True, exist_ok=True)
            torch.save(torchvision.models.get_model(name).state_dict(), kept)

    def clear(self, given):
        """Remove the results of a command that the reader would not give as well."""
        out = Path(given[given.index("--out") + 1] if "--out" in given else f"runs/{given[0]}")
        if out.is_file():
            out.unlink()
        shutil.rmtree(out, ignore_errors=True)

    @cached_property
    def repository(self):
        """A copy of the repository with this environment; there `make demo` is short, and `make test` runs one test."""
        away = shutil.ignore_patterns(".git", ".venv", "site", "node_modules", "__pycache__", ".*_cache")
        copy = Path(shutil.copytree(ROOT, "repository", ignore=away)).absolute()
        (copy / ".venv/bin").mkdir(parents=True)
        for one in (*PROGRAMS.iterdir(), *PROGRAMS.parent.iterdir()):
            if one != PROGRAMS:
                (copy / ".venv" / one.relative_to(PROGRAMS.parent)).symlink_to(one)
        (demo := copy / ".venv/bin/detect").unlink()
        demo.write_text(f'#!/bin/sh\nexec "{PROGRAMS / "detect"}" "$@" --epochs 1\n')
        demo.chmod(0o755)
        (copy / ".venv/installed").unlink(missing_ok=True)
        (copy / ".venv/installed").touch()
        Path("docs").symlink_to(copy / "docs")
        self.environment["PYTEST_ADDOPTS"] = "tests/test_docs.py::test_guides_are_questions"
        return copy

    def output(self, command):
        """What a command in the place of an argument prints."""
        return subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, env=self.environment
        ).stdout.strip()

    def call(self, words, never="\0"):
        """Run another program, which must not say `never`."""
        command = [sys.executable, *words[1:]] if words[0] == "python" else ["sh", "-c", " ".join(map(_quoted, words))]
        ran = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        said = [line for line in ran.stderr.splitlines() if "rror" in line or never in line]
        return [] if ran.returncode == 0 and never not in ran.stderr else [f"{shlex.join(words)}: {said[:3]}"]

    def serve(self, flags):
        """Start a server of ours."""
        return self.start(["-m", "detect", "serve", *flags, "--port", "0"])

    def start(self, arguments):
        """Start a server; it runs until the page is done."""
        command = [sys.executable, *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
        )
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        said = list[str]()
        for line in process.stdout:
            if found := re.search(r"http://[\w.]+(:\d+)", line):
                self.servers.append(f"http://127.0.0.1{found[1]}/")
                return []
            said.append(line)
        return [f"{shlex.join(command)}: {said[-3:]}"]


def _quoted(word):
    return word if "*" in word else shlex.quote(word)


def listed(patch, name, url):
    """Let the catalogue say that published weights, with any content, are at this address; return the file."""
    file = RemoteFile(catalogue()[name].files[0].name, (Source(url),))
    patch.setitem(catalogue(), name, replace(catalogue()[name], files=(file,)))
    return file


@contextmanager
def published(folder, patch):
    """The published weights of which the folder has a file come from a server on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name, file in {"picodet_s_320": "picodet_s_320_coco.onnx", "yolox_s": "yolox_s.onnx"}.items():
            listed(patch, name, f"http://127.0.0.1:{server.server_port}/{file}")
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
    if page.startswith("examples/"):
        shutil.copytree((ROOT / page).parent, ".", ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    blocks = [block for block in BLOCKS[ROOT / page] if block.language == "sh" and not block.run]
    with ExitStack() as stack:
        stack.enter_context(published(reader, monkeypatch))
        someone = Reader(page, capsys, monkeypatch, stack)
        failed = [line for block in blocks for line in someone.enter(block.text)]
    assert failed == [], "\n".join(failed)
    if someone.missing:
        pytest.skip(f"all else was run, but this machine has no {', '.join(sorted(someone.missing))}")
