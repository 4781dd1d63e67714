"""Targets of the fuzzer: for each kind of file, how to make small valid ones and how to read one.

A new target is two functions and a line in TARGETS: `make` fills an empty folder with valid files, which are damaged
one at a time (images are not); `read` gets the path of the damaged one, the files beside it are valid. Files are made
and read in different processes, so a reader must find everything it needs in that folder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from detect.config.train import OptimConfig
from detect.models.base import Model, ModelMetadata
from detect.models.builder import build
from detect.models.configs.base import ModelConfig
from detect.models.configs.landmarker import LandmarkerConfig
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import load_weights, save_weights
from tools import fuzz_data, fuzz_public

SMALL = YoloConfig(backbone="lenet5", neck="straight", levels=[2], width=8, head_convs=0)
METADATA = ModelMetadata(["cat", "dog"], [1, 7], 64)


class Target(NamedTuple):
    """`make` writes valid files into a folder; `read` reads the one at a path, or raises UserError."""

    make: Callable[[Path], object]
    read: Callable[[Path], object]


def _model(config: ModelConfig = SMALL, metadata: ModelMetadata = METADATA) -> Model:
    torch.manual_seed(0)
    return build(config, metadata)


def _weights(folder: Path) -> None:
    """A detector, and a landmarker with more metadata."""
    save_weights(folder / "yolo.safetensors", _model())
    points = LandmarkerConfig(backbone="lenet5", head="coordinates", hidden=[8])
    names = ["nose", "left eye", "right eye"]
    metadata = replace(METADATA, keypoint_names=names, flip_pairs=[[1, 2]], skeleton=[[0, 1]], shape=[[0.5, 0.5]] * 3)
    save_weights(folder / "points.safetensors", _model(points, metadata))


def _state_dict(folder: Path) -> None:
    """The state dict of a model of ours, and a part of YOLOX's."""
    torch.save(_model().state_dict(), folder / "model.pth")
    state = {"head.stems.0.conv.weight": torch.ones(4, 4, 1, 1), "head.stems.0.bn.bias": torch.ones(4)}
    torch.save({"model": state}, folder / "yolox.pth")


def _read_state_dict(path: Path) -> None:
    from detect.models.pretrained import read_state

    read_state(path)


def _checkpoint(folder: Path) -> None:
    small_run(folder).save()


def small_run(folder: Path):
    """Build the state of a run after one step."""
    from detect.training.state import Run

    model = _model()
    run = Run(folder, model, OptimConfig(lr=0.01, momentum=0.9, weight_decay=0.0, name="adamw"), False, {"seed": 0})
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    run.optimizer.step()
    run.history, run.terms, run.sums = [{"epoch": 0, "AP": 0.5}], ["box"], torch.zeros(1)
    run.epoch = run.step = 1
    return run


def _read_checkpoint(path: Path) -> None:
    from detect.training.state import read_record

    read_record(path)
    small_run(path.parent).load()


CFG = """[net]
width=96
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters=8
groups=4
size=3
stride=1
padding=1
activation=mish
[shortcut]
from=-2
activation=linear
[route]
layers=-1, 0
groups=2
group_id=1
[maxpool]
size=2
stride=2
[dropout]
probability=.2
[upsample]
stride=2
[convolutional]
filters=14
size=1
stride=1
pad=1
activation=linear
[yolo]
mask=0,1
anchors=8,10, 20,14
classes=2
num=2
scale_x_y=1.05
"""


def _cfg(folder: Path) -> None:
    (folder / "net.cfg").write_text(CFG)
    numbers = np.random.default_rng(0).random(4 * 8 + 8 * 27 + 8 + 8 * 18 + 14 + 14 * 8).astype("<f4")
    (folder / "net.weights").write_bytes(struct.pack("<iiiq", 0, 2, 5, 64) + numbers.tobytes())


def _read_cfg(path: Path) -> None:
    from detect.convert.open import import_model
    from detect.convert.published import PublishedFile

    import_model(PublishedFile(path, names=["0", "1"]))


def _npz(folder: Path) -> None:
    """Signals, the proposals of an image, and a gallery."""
    from detect.embedding.gallery import Gallery

    rng = np.random.default_rng(0)
    x, y = rng.random((6, 2, 16)).astype(np.float32), np.array([0, 1] * 3)
    np.savez(folder / "signals.npz", x_train=x, y_train=y, x_val=x[:2], y_val=y[:2], names=np.array(["a", "b"]))
    np.save(folder / "proposals.npy", rng.random((5, 4)).astype(np.float32))
    vectors = rng.random((2, 8)).astype(np.float32) / 3  # no longer than one
    Gallery(vectors, ["ann", "bo"], ["a/x.png", "b.png"], [("w.safetensors", "0" * 64)], [1.0]).save(
        folder / "gallery.safetensors"
    )


def _read_npz(path: Path) -> None:
    from detect.data.proposals import read_rows
    from detect.data.sources.formats import load_data, splits
    from detect.embedding.gallery import Gallery

    if path.suffix == ".safetensors":
        Gallery.load(path)
    elif path.suffix == ".npy":
        read_rows(path)
    else:
        for split in splits(path, "images"):
            load_data(path, split, image_level_labels="images")


def _onnx(folder: Path) -> None:
    from detect.commands.export import ExportConfig, export

    weights = folder / "model.safetensors"
    save_weights(weights, _model())
    export(ExportConfig(str(weights), out=str(folder / "model.onnx"), imgsz=64))
    weights.unlink()


def _read_onnx(path: Path) -> None:
    from detect.api import Detector

    Detector.load(path, "cpu").predict(np.zeros((64, 64, 3), np.uint8))


def _published(folder: Path) -> None:
    """A classifier of two classes, and a graph of two convolutions."""
    import onnx
    from onnx import helper, numpy_helper
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    state = squeezenet1_1(num_classes=2).state_dict()
    torch.save({"model": {name: tensor.half() for name, tensor in state.items()}}, folder / "squeezenet1_1.pth")
    values = [
        numpy_helper.from_array(np.ones((4, 12, 3, 3), np.float32), "v"),
        numpy_helper.from_array(np.ones((2, 4, 1, 1), np.float16), "w"),
    ]
    nodes = [
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.zeros(2, np.float32))),
        helper.make_node("Conv", ["x", "v"], ["y"]),
        helper.make_node("Conv", ["y", "w", "b"], ["z"]),
    ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "net", [], [], values)), folder / "net.onnx")


def _read_published(path: Path) -> None:
    """Import the classifier; of the graph, which is no detector's, take the convolutions as importers do."""
    from detect.convert.open import import_model
    from detect.convert.published import PublishedFile

    file = PublishedFile(path, names=["cat", "dog"])
    if path.stem == "net":
        _ = file.convolutions
    else:
        import_model(file)


TARGETS = {
    "weights": Target(_weights, load_weights),
    "pth": Target(_state_dict, _read_state_dict),
    "checkpoint": Target(_checkpoint, _read_checkpoint),
    "cfg": Target(_cfg, _read_cfg),
    "npz": Target(_npz, _read_npz),
    "onnx": Target(_onnx, _read_onnx),
    "published": Target(_published, _read_published),
    "json": Target(fuzz_data.make_json, fuzz_data.read_data),
    "outlines": Target(fuzz_data.make_outlines, fuzz_data.read_outlines),
    "xml": Target(fuzz_data.make_xml, fuzz_data.read_data),
    "yolo": Target(fuzz_data.make_yolo, fuzz_data.read_data),
    "shards": Target(fuzz_data.make_shards, fuzz_data.read_shards),
    "csv": Target(fuzz_data.make_csv, fuzz_data.read_csv),
    "yaml": Target(fuzz_data.make_yaml, fuzz_data.read_yaml),
    "public": Target(fuzz_public.make_public, fuzz_public.read_public),
    "results": Target(fuzz_public.make_results, fuzz_public.read_results),
    "labels": Target(fuzz_public.make_labels, fuzz_public.read_labels),
}
