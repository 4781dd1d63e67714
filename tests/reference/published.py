"""Weights files in the forms that other projects publish, with the tensors of small networks and twins of theirs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from tests.reference import picodet_twin, yolox_twin
from tools import fuzz_targets


def write_yolox(twin: yolox_twin.Twin, path: Path) -> None:
    """The twin's convolutions in the order they ran, batch normalization folded in; nothing else of its graph."""
    parts = []
    for name in twin.order:
        state = {k.removeprefix(f"{name}."): v.double() for k, v in twin.state.items() if k.startswith(f"{name}.")}
        if "conv.weight" in state:
            gain = state["bn.weight"] / (state["bn.running_var"] + 1e-3).sqrt()
            weight = state["conv.weight"] * gain[:, None, None, None]
            bias = state["bn.bias"] - state["bn.running_mean"] * gain
        else:
            weight, bias = state["weight"], state["bias"]
        parts.append([weight.float(), bias.float()])
    _write_convolutions(parts, [], path)


def write_picodet(parts: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Convolutions in the order they ran, and the size of the image; nothing else of the graph."""
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 320, 320])
    _write_convolutions(parts, [image], path)


def _write_convolutions(parts: Sequence[Sequence[Tensor]], inputs: list[onnx.ValueInfoProto], path: Path) -> None:
    nodes, values = [], []
    for i, part in enumerate(parts):
        values += [onnx.numpy_helper.from_array(t.numpy(), f"{kind}{i}") for kind, t in zip("wb", part, strict=True)]
        nodes.append(onnx.helper.make_node("Conv", [f"x{i}", f"w{i}", f"b{i}"], [f"x{i + 1}"]))
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "twin", inputs, [], values)), path)


def write_darknet(path: Path) -> Path:
    """The .weights of a small network for COCO's classes, its .cfg beside it."""
    cfg = fuzz_targets.CFG.replace("classes=2", "classes=80").replace("filters=14", "filters=170")
    path.with_suffix(".cfg").write_text(cfg)
    values = np.random.default_rng(0).random(4 * 8 + 8 * 27 + 8 + 8 * 18 + 170 + 170 * 8).astype("<f4")
    path.write_bytes(np.array([0, 2, 5, 64, 0], "<i4").tobytes() + values.tobytes())
    return path


def write_all(folder: Path, classes: int = 80) -> None:
    """Files of the names that the documentation has: YOLOX nano and s, PicoDet-S, and Darknet's."""
    nano, pico = yolox_twin.Twin(64, 1, True, classes), picodet_twin.Twin(classes)
    small = yolox_twin.Twin(128, 1, False, classes)
    image = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    for twin in (nano, small, pico):
        twin(image)
    write_yolox(nano, folder / "yolox_nano.onnx")
    write_yolox(small, folder / "yolox_s.onnx")
    torch.save({"start_epoch": 3, "model": small.state}, folder / "yolox_s.pth")
    for side in (320, 416):
        write_picodet(pico.parts, folder / f"picodet_s_{side}_coco.onnx")
    for name in ("mine", "yolo-fastest-1.1", "yolo-fastest-1.1-xl"):
        write_darknet(folder / f"{name}.weights")
    (folder / "mine.names").write_text("\n".join(f"class {i}" for i in range(classes)))
