"""Run every command, small, in one process: `python -m tests.reference.every_command FOLDER SECONDS`.

Then import every dependency, and wait for SECONDS, as some libraries report only some time after they were used. Where
SECONDS is 0 the demo and tuning are left out, which run commands that run here anyway.
"""

import os
import re
import shutil
import signal
import socket
import struct
import sys
import threading
import time
import tomllib
import urllib.request
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import cv2
import numpy as np

from detect.__main__ import COMMANDS, main
from detect.data.toy import build
from detect.hub.catalogue import RemoteFile, Source, catalogue

ROOT = Path(__file__).parents[2]
CFG = "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters=4\nsize=3\nstride=8\npad=1\nactivation=leaky\n"
CFG += "[convolutional]\nfilters=7\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=1\nmask=0\nanchors=8,8\n"
CFG_PARAMETERS = 4 * 28 + 7 * 5
TINY = """
{model: {width: 16, levels: [3], neck: straight}, imgsz: 64, epochs: 1, batch: 8,
 augment: {albumentations: [Rotate: {limit: 15, p: 0.5}]}}
"""
LENET = "{model: {backbone: lenet5}, imgsz: 32, epochs: 1, batch: 8}"


# Each finds what the ones before it have written. {f} is the folder.
JOBS = """
train --data {f}/data --out {f}/run --config {f}/tiny.yaml --workers 2 --callbacks tensorboard
train --data {f}/people --out {f}/who --model embedder --config {f}/lenet.yaml --workers 0
evaluate --weights {f}/run/best.safetensors --data {f}/data
predict --weights {f}/run/best.safetensors --source {f}/data/video.mp4 --out {f}/video
weights
weights pull tiny --file {f}/run/best.safetensors
predict --weights tiny --source {f}/face.png --out {f}/named
export --weights {f}/run/best.safetensors --format onnx --out {f}/m.onnx --conf 0.001
evaluate --weights {f}/m.onnx --data {f}/data --workers 0
predict --weights {f}/m.onnx --source {f}/face.png --out {f}/onnx
export --weights {f}/run/best.safetensors --format openvino --out {f}/m.xml --conf 0.001
evaluate --weights {f}/m.xml --data {f}/data --workers 0
predict --weights {f}/m.xml --source {f}/face.png --out {f}/openvino
bulk --weights {f}/run/best.safetensors --source {f}/data/val --out {f}/bulk --workers 0
next --weights {f}/run/best.safetensors --source {f}/data/val --out {f}/next --budget 2
label --weights {f}/run/best.safetensors --source {f}/data/val --out {f}/label
mistakes --weights {f}/run/best.safetensors --data {f}/data --split val --out {f}/mistakes
report --run {f}/run
check --data {f}/data --imgsz 64
anchors --data {f}/data --k 3 --imgsz 64
info yolo_n --imgsz 64
embed --weights {f}/who/best.safetensors --source {f}/people/val --out {f}/gallery.safetensors
verify {f}/face.png {f}/face.png --weights {f}/who/best.safetensors
identify --gallery {f}/gallery.safetensors --source {f}/face.png
import --cfg {f}/net.cfg --weights {f}/net.weights --names {f}/net.names --out {f}/net.safetensors
see --weights {f}/run/best.safetensors --data {f}/data --out {f}/see --channels 2
stylize --content {f}/face.png --style {f}/face.png --out {f}/s.png --backbone-weights {f}/net.pth --imgsz 32 --steps 1
serve --weights {f}/run/best.safetensors --port {port}
"""
LONGER = """
tune --data {f}/data --config {f}/tiny.yaml --trials 1 --confirm 0 --workers 0 --out {f}/tune
demo --epochs 1 --out {f}/demo
"""


def prepare(folder: Path) -> None:
    """The files that the commands read."""
    import torch
    from torchvision.models import squeezenet1_1

    build(folder / "data", train=8, val=4, size=64)
    rng = np.random.default_rng(0)
    for person in ("train/a", "train/b", "train/c", "train/d", "val/e", "val/f"):
        (folder / "people" / person).mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(folder / "people" / person / f"{i}.png"), rng.integers(0, 256, (32, 32, 3), np.uint8))
    shutil.copy(folder / "people/val/e/0.png", folder / "face.png")
    torch.save(squeezenet1_1(weights=None).state_dict(), folder / "net.pth")
    tiny = RemoteFile("tiny.safetensors", (Source("https://weights.example/tiny.safetensors"),))
    size = {"parameters": 0.06, "imgsz": 64, "classes": 10}
    catalogue()["tiny"] = replace(catalogue()["yolox_nano"], name="tiny", files=(tiny,), **size)
    (folder / "net.cfg").write_text(CFG)
    (folder / "net.names").write_text("cat\ndog\n")
    (folder / "net.weights").write_bytes(struct.pack("<iiiq", 0, 2, 5, 64) + np.zeros(CFG_PARAMETERS, "<f4").tobytes())
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "lenet.yaml").write_text(LENET)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def ask(port: int, image: Path) -> None:
    """Wait for the server, send it an image, and interrupt it."""
    opened = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    address = f"http://127.0.0.1:{port}/"
    while True:
        try:
            opened(address).close()
            break
        except OSError:
            time.sleep(0.1)
    opened(urllib.request.Request(address + "image", image.read_bytes(), {"Content-Type": "image/png"})).close()
    os.kill(os.getpid(), signal.SIGINT)


def every_command(folder: Path, longer: bool) -> None:
    """Run them all. Raises AssertionError for one that is missing or fails."""
    prepare(folder)
    port, every = free_port(), (JOBS + LONGER).split("\n")
    assert {line.split()[0] for line in every if line} == set(COMMANDS), "a command is not run here"
    for line in filter(None, every if longer else JOBS.split("\n")):
        words = [word.format(f=folder, port=port) for word in line.split()]
        if words[0] == "serve":
            threading.Thread(target=ask, args=(port, folder / "face.png"), daemon=True).start()
        status = main(words)
        assert status in ((0, 130) if words[0] == "serve" else (0,)), words


def every_dependency() -> None:
    """Import the modules of all dependencies and extras that are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    expected = {re.match(r"[\w.-]+", line)[0].lower() for line in project["dependencies"] + extras}
    for module, distributions in packages_distributions().items():
        if not module.startswith("_") and expected & {name.lower() for name in distributions}:
            with suppress(ImportError):
                import_module(module)


if __name__ == "__main__":
    every_command(Path(sys.argv[1]), longer=sys.argv[2] != "0")
    every_dependency()
    time.sleep(float(sys.argv[2]))
