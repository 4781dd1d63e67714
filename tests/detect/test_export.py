"""Exported files say what torch says, stand in for weights, and are refused where they cannot."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import detect
from anchors.oriented import oriented_to_corners
from detect.api import Detector
from detect.commands.export import ExportConfig, export
from detect.errors import UserError
from detect.evaluation.coco_protocol import NUMBERS
from detect.export import comparison as check
from detect.export import formats, writers
from detect.export.forms import form_of, misfit
from detect.export.metadata import KEY, About
from detect.export.runtime import Exported, open_exported
from detect.models.backbones.blocks import Predict
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.weights import load_weights, save_weights
from detect.registry import REGISTRIES
from detect.tasks import get_task
from detect.types import Classification, Detections, Frame, Postprocess, Preprocess
from tests.reference.models import fitting

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
NAMES = [str(i) for i in range(10)]
KINDS = {
    "point": {"head": "point"},
    "anchor": {"head": "anchor", "anchors": [[8, 8], [16, 24]]},
    "grid": {"head": "grid", "anchors": [[8, 8], [16, 24]]},
    "keypoints": {"kind": "yolo_points"},
    "masks": {"kind": "yolo_seg"},
    "oriented": {"kind": "yolo_obb"},
    "classifier": {"kind": "classifier"},
    "localizer": {"kind": "localizer", "hidden": [8]},
    "landmarker": {"kind": "landmarker", "head": "coordinates"},
    "heatmap": {"kind": "landmarker", "head": "heatmap"},
    "sliding_window": {"kind": "sliding_window"},
    "faster_rcnn": {"kind": "faster_rcnn", "anchors": [[8, 8], [16, 24]]},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A function from a kind to the file of a tiny network of it, whose scores lie on both sides of a half."""

    def make(kind: str) -> Path:
        path = folder / f"{kind}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            given = {"backbone": "lenet5", "neck": "straight", "levels": [2], "width": 8, "anchors_per_level": 2}
            config = fitting(**{**given, "kind": "yolo", "name": kind, **KINDS[kind]})
            points = ["nose", "tail"] if config.kind in ("yolo_points", "landmarker") else []
            model = build(config, ModelMetadata(NAMES, [10 * i + 1 for i in range(10)], 64, keypoint_names=points))
            for module in model.modules():
                if isinstance(module, Predict):
                    torch.nn.init.normal_(module.weight, std=0.4)
                    torch.nn.init.normal_(module.bias)
            save_weights(path, model)
        return path

    folder = tmp_path_factory.mktemp("weights")
    return make


def exported(weights, kind, out, **flags):
    config = ExportConfig(str(weights(kind)), out=str(out), **flags)
    return export(config)


def frames(*sizes):
    rng = np.random.default_rng(0)
    return [Frame(rng.integers(0, 256, (h, w, 3), np.uint8), str(i)) for i, (h, w) in enumerate(sizes)]


def same(ours, reference, empty=False):
    """Equal to what a person can see of them; there is something, unless `empty`."""
    assert len(ours) == len(reference) and (len(ours) > 0 or empty)
    assert ours.labels.tolist() == reference.labels.tolist()
    assert torch.allclose(ours.scores, reference.scores, atol=1e-4)
    if isinstance(ours, Detections):
        assert torch.allclose(ours.boxes, reference.boxes, atol=0.02)
        if ours.oriented is not None:
            corners = [oriented_to_corners(one.oriented) for one in (ours, reference)]
            assert torch.allclose(*corners, atol=0.02)
        assert (ours.keypoints is None) == (reference.keypoints is None)
        assert ours.keypoints is None or torch.allclose(ours.keypoints, reference.keypoints, atol=0.02)
        assert (ours.masks is None) == (reference.masks is None)
        assert ours.masks is None or ours.masks.iou(reference.masks).diagonal().min() > 0.95


def both(weights, kind, path, images, keep, size=0, batch=2, empty=False):
    """What the weights and the file say of images is the same."""
    model, file = Detector.load(weights(kind), "cpu", "float32"), Detector.load(path)
    ours, reference = (one.predictor(keep, size, batch)(images) for one in (model, file))
    for (_, a), (_, b) in zip(ours, reference, strict=True):
        same(a, b, empty)


@pytest.fixture(scope="module")
def open_file(weights, tmp_path_factory):
    """A file for images of any size and number, which suppresses itself."""
    if not writers.DYNAMIC_ONNX:
        pytest.skip("needs torch 2.7")
    path = tmp_path_factory.mktemp("open") / "m.onnx"
    return exported(weights, "point", path, dynamic=True, nms=True, conf=0.6, max_det=20)


def test_an_open_file_with_suppression_answers_as_the_weights_do(weights, open_file):
    images = frames((64, 64), (64, 64), (40, 64), (96, 50))
    both(weights, "point", open_file, images, Postprocess(0.6, limit=20))
    both(weights, "point", open_file, images, Postprocess(0.62, limit=5), size=96)


@pytest.mark.parametrize("kind", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_file_with_suppression_has_masks(weights, tmp_path, kind):
    if kind == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    path = tmp_path / f"m{REGISTRIES['export'][kind].suffix}"
    exported(weights, "masks", path, format=kind, nms=True, conf=0.6, max_det=20)
    both(weights, "masks", path, frames((64, 64), (64, 40)), Postprocess(0.6, limit=20))


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (Postprocess(0.5, limit=20), "ask for --conf 0.6 --max-det 20"),
        (Postprocess(0.6, limit=21), "boxes at or below a score of 0.6 and more than 20"),
        (Postprocess(0.6, 0.5, 20), "ask for --iou 0.7 alone"),
        (Postprocess(0.6, limit=20, soft=True), "suppressed its boxes by IoU 0.7"),
    ],
)
def test_what_suppression_has_left_out_cannot_be_asked_for(open_file, keep, said):
    with pytest.raises(UserError, match=said):
        list(Detector.load(open_file).predictor(keep)(frames((64, 64))))


def test_classes_are_refused_only_where_the_limit_of_the_file_may_hide_some(weights, tmp_path):
    path = exported(weights, "point", tmp_path / "m.onnx", nms=True, conf=0.6, max_det=20)
    detector, images = Detector.load(path), frames((64, 64))
    ((_, best),) = detector.predictor(Postprocess(0.6, limit=20))(images)
    assert len(best) == 20
    label, above = int(best.labels[0]), float(best.scores[-4:-2].mean())
    count = int((best.labels == label).sum())
    with pytest.raises(UserError, match="larger --max-det, or without --nms"):
        list(detector.predictor(Postprocess(0.6, limit=20, classes=((label + 1) % 10,)))(images))
    for keep in (Postprocess(0.6, limit=count, classes=(label,)), Postprocess(above, limit=20, classes=(label,))):
        ((_, exact),) = Detector.load(weights("point"), "cpu", "float32").predictor(keep)(images)
        ((_, found),) = detector.predictor(keep)(images)
        assert len(found) > 0
        same(exact, found)


@pytest.mark.parametrize("form", ["weights", "onnx", "openvino", "torchscript"])
def test_several_threads_give_the_answers_of_one(weights, form, tmp_path):
    path = weights("point")
    if form != "weights":
        if form == "openvino":
            pytest.importorskip("openvino")
        path = exported(weights, "point", tmp_path / f"m{REGISTRIES['export'][form].suffix}", format=form)
    detector = Detector.load(path, "cpu")
    images = [frame.image for frame in frames(*[(64, 64)] * 8)]

    def answer(image):
        ((_, found),) = detector.predict(image, conf=0.6)
        return found

    alone = [answer(image) for image in images]
    assert len({tuple(one.scores.tolist()) for one in alone}) == len(images)  # no two images have one answer
    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(answer, images * 8)):
            same(found, alone[i % len(images)])


def test_a_processor_that_computes_in_one_precision_runs_a_file_in_it(weights, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(REGISTRIES["export"]["openvino"], "precisions", lambda self: ["float32"])
    path = exported(weights, "point", tmp_path / "m.xml", format="openvino")
    (auto, _), (asked, _) = (
        Detector.load(path, "cpu", precision).predict(np.zeros((64, 64, 3), np.uint8), conf=0.001)[0][::-1]
        for precision in ("auto", "float32")
    )
    same(auto, asked)
    with pytest.raises(UserError, match=r"--precision bfloat16: this processor runs .*m\.xml in float32 only"):
        Detector.load(path, "cpu", "bfloat16")


def test_a_file_of_one_size_answers_as_the_weights_do(weights, tmp_path, capsys):
    path = exported(weights, "anchor", tmp_path / "m.torchscript", format="torchscript")
    assert "of PyTorch's" in capsys.readouterr().out
    both(weights, "anchor", path, frames((64, 64), (64, 64)), Postprocess(0.3))
    with pytest.raises(UserError, match="takes images of 64 px only: leave --imgsz out"):
        Detector.load(path).predictor(Postprocess(), 96)
    ((_, found),) = Detector.load(path).predictor(Postprocess(0.3))(frames((40, 64)))
    assert len(found) and found.boxes[:, 3].max() <= 40


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "faster_rcnn"])
def test_every_kind_in_every_format(weights, kind, form, dynamic, tmp_path):
    if dynamic and form != "torchscript" and not writers.DYNAMIC_ONNX:
        pytest.skip("needs torch 2.7")
    path = exported(weights, kind, tmp_path / f"m{REGISTRIES['export'][form].suffix}", format=form, dynamic=dynamic)
    exact = REGISTRIES["export"][form]().precisions()[0]
    model, file = (Detector.load(w, "cpu", p).model for w, p in ((weights(kind), "float32"), (path, exact)))
    images, keep = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8), Postprocess(0.09, limit=50)
    results = (check.on_canvas(one.postprocess(one(images), keep), images) for one in (model, file))
    for ours, reference in zip(*results, strict=True):
        same(ours, reference)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_oriented_boxes_are_suppressed_in_the_file_as_outside(weights, form, tmp_path):
    if not writers.DYNAMIC_ONNX:
        pytest.skip("needs torch 2.7")
    path = tmp_path / f"m{REGISTRIES['export'][form].suffix}"
    exported(weights, "oriented", path, format=form, dynamic=True, nms=True, conf=0.8, iou=0.3, max_det=20)
    keep = Postprocess(0.8, 0.3, 20)
    both(weights, "oriented", path, frames((64, 64), (64, 64), (40, 64), (96, 50)), keep)
    both(weights, "oriented", path, frames((64, 64)), Postprocess(0.999, 0.3, 20), empty=True)


def test_a_torch_that_cannot_leave_sizes_open_is_named(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "DYNAMIC_ONNX", False)
    with pytest.raises(UserError, match=r"--dynamic .* torch 2\.7"):
        exported(weights, "point", tmp_path / "m.onnx", dynamic=True)
    assert not list(tmp_path.iterdir())


def test_evaluation_takes_an_exported_file_like_weights(weights, digits, tmp_path):
    path = exported(weights, "point", tmp_path / "m.torchscript", format="torchscript", dynamic=True)
    ours, reference = (
        detect.evaluate(weights=str(w), data=str(digits), precision=p, workers=0, batch=3)
        for w, p in ((weights("point"), "float32"), (path, "auto"))
    )
    assert [ours[name] for name in NUMBERS] == pytest.approx([reference[name] for name in NUMBERS], abs=0.01)
    assert ours["AP"] >= 0
    fixed = exported(weights, "point", tmp_path / "fixed.torchscript", format="torchscript")
    assert detect.evaluate(weights=str(fixed), data=str(digits), workers=0)["AR100"] >= 0
    with pytest.raises(UserError, match="64 px only"):
        detect.evaluate(weights=str(fixed), data=str(digits), workers=0, imgsz=96)


def test_a_classifier_is_evaluated_and_predicts(weights, digits, tmp_path):
    path = exported(weights, "classifier", tmp_path / "m.torchscript", format="torchscript", dynamic=True)
    ours, reference = (
        detect.evaluate(weights=str(w), data=str(digits), precision=p, workers=0, crops=2)
        for w, p in ((weights("classifier"), "float32"), (path, "auto"))
    )
    assert ours["top5"] == pytest.approx(reference["top5"], abs=0.1)
    both(weights, "classifier", path, frames((64, 64), (30, 64)), Postprocess())


def test_the_file_says_how_it_is_used(open_file):
    (entry,) = onnx.load(str(open_file)).metadata_props
    about = json.loads(entry.value)
    assert entry.key == KEY and about["task"] == "detect" and about["precision"] == "float32"
    assert about["metadata"]["names"] == NAMES and about["metadata"]["category_ids"][:2] == [1, 11]
    assert about["metadata"]["size"] == 64 and about["stride"] == 32 and about["dynamic"] and not about["square"]
    assert about["metadata"]["preprocess"]["pad"] == 114 and about["metadata"]["preprocess"]["alignment"] == "center"
    assert (about["conf"], about["iou"], about["max_det"], about["suppressed"]) == (0.6, 0.7, 20, True)
    assert open_exported(open_file).about == About.read(entry.value, open_file)


QUIET = """
import sys
events = []
sys.addaudithook(lambda event, arguments: events.append((event, arguments)) if event.startswith("socket.") else None)
from detect.__main__ import main
assert main(["export", "--weights", {weights!r}, "--format", "openvino", "--out", {out!r}]) == 0
predict = ["predict", "--weights", {out!r}, "--source", {image!r}, "--conf", "0.6", "--out"]
assert main([*predict, {folder!r}, "--precision", "float32"]) == 0
assert main([*predict, {folder!r} + "/auto"]) == 0
assert "openvino" in sys.modules and sys.modules["openvino_telemetry"] is None, "telemetry was imported"
assert not events, events
"""


def test_openvino_answers_sends_nothing_and_leaves_nothing_in_the_home_folder(weights, digits, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    pytest.importorskip("openvino_telemetry", reason="without openvino's telemetry nothing could be sent")
    home, out, image = tmp_path / "home", tmp_path / "m.xml", min((digits / "val").glob("*.jpg"))
    home.mkdir()
    code = QUIET.format(weights=str(weights("point")), out=str(out), image=str(image), folder=str(tmp_path))
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert list(home.rglob("*")) == [] and out.with_suffix(".bin").is_file()
    told = json.loads((tmp_path / "detections.json").read_text())
    model = Detector.load(weights("point"), "cpu", "float32")
    model.model.square = True  # as the file takes its images
    ((_, found),) = model.predict(str(image), conf=0.6)
    assert len(told) == len(found) > 0
    assert np.allclose([one["score"] for one in told], found.scores, atol=1e-3)


def test_fewer_bits_are_evaluated_by_the_boxes(weights, digits, tmp_path, monkeypatch, capsys):
    data = {"data": str(digits), "conf": 0.6}
    exported(weights, "point", tmp_path / "half.torchscript", format="torchscript", half=True, **data)
    assert "detections match PyTorch's" in capsys.readouterr().out
    half = load_weights(weights("point")).fused()
    assert {p.dtype for p in writers.halved(half).parameters()} == {torch.float16, torch.float32}
    monkeypatch.setitem(check.BOUNDS, "int8", (0.5, 0.0))
    path = exported(weights, "point", tmp_path / "int8.onnx", int8=True, **data)
    graph = onnx.load(str(path)).graph
    scales = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 3 and all(node.input[1] in scales for node in convolutions)


def test_too_few_answers_alike_are_refused_and_so_is_nothing_to_compare():
    about = About("m", "detect", ModelMetadata(["a"], [1]), ["boxes", "scores"], precision="int8")
    one = Detections(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.9]), torch.tensor([0]))
    assert check._compare_results(about, [one] * 4, [one] * 4).startswith("100.0% of 4 detections match PyTorch's")
    with pytest.raises(
        UserError, match=r"rejected: only 66.7% of 3 detections match PyTorch's \(same class, IoU 0.7\); 80% are"
    ):
        check._compare_results(about, [one] * 4, [one, one, *[Detections.none()] * 2])
    with pytest.raises(UserError, match=r"PyTorch detects nothing at --conf 0.25 to compare"):
        check._compare_results(about, [Detections.none()], [Detections.none()])


def test_a_file_that_says_something_else_is_not_written(weights, tmp_path, monkeypatch):
    writes = formats.write_torchscript

    def wrong(model, about, path):
        next(p for p in model.parameters() if p.ndim == 4).data[0] += 0.01
        writes(model, about, path)

    monkeypatch.setattr(formats, "write_torchscript", wrong)
    with pytest.raises(UserError, match=r"export rejected: .* differ from PyTorch's by"):
        exported(weights, "point", tmp_path / "m.torchscript", format="torchscript")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "flags", "said"),
    [
        ("faster_rcnn", {}, "no fixed graph to export"),
        ("point", {"half": True, "int8": True}, "exclude one another"),
        ("point", {"int8": True}, "give --data"),
        ("point", {"format": "torchscript", "nms": True}, "for --format onnx and openvino"),
        ("point", {"format": "openvino"}, "file ends in .xml"),
        ("classifier", {"nms": True}, "--nms is for detectors"),
        ("point", {"int8_exclude": ["head"]}, "--int8-exclude is for --int8"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(weights, kind, flags, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        exported(weights, kind, tmp_path / "m.onnx", **flags)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_files_that_are_not_ours_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"m\.onnx does not exist"):
        Detector.load(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"m\.onnx is not an ONNX file that can be read"):
        Detector.load(tmp_path / "m.onnx")
    (tmp_path / "m.torchscript").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"m\.torchscript cannot be read by torch"):
        Detector.load(tmp_path / "m.torchscript")
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
    )
    onnx.save(graph, str(tmp_path / "m.onnx"))
    with pytest.raises(UserError, match=r"m\.onnx holds no network that detect import knows"):
        Detector.load(tmp_path / "m.onnx")
    onnx.helper.set_model_props(graph, {"gridhead": ""})
    onnx.save(graph, str(tmp_path / "m.onnx"))
    with pytest.raises(UserError, match="was not written by detect export"):
        Detector.load(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="is an exported file"):
        export(ExportConfig(str(tmp_path / "m.onnx")))
    with pytest.raises(UserError, match="ONNX Runtime takes cpu or cuda"):
        Detector.load(tmp_path / "m.onnx", "mps")
    with pytest.raises(UserError, match="--precision bfloat16"):
        Detector.load(tmp_path / "m.onnx", precision="bfloat16")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr("detect.export.libraries.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnxruntime is not installed: pip install 'gridhead\[export\]'"):
        Detector.load(tmp_path / "m.onnx")


def test_what_is_alike_counts_once():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    ours = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1]))
    matches = check.matching_boxes
    assert matches(ours, ours, 0.99) == 3
    assert matches(ours, ours[:1], 0.99) == 1
    assert matches(ours, Detections(boxes, ours.scores, torch.tensor([0, 0, 0])), 0.99) == 2
    assert matches(ours, Detections.none(), 0.5) == matches(Detections.none(), ours, 0.5) == 0
    same, other = (Classification(torch.ones(1), torch.tensor([label])) for label in (2, 1))
    assert [get_task("classify").export.matches(same, one, 0.5) for one in (same, other)] == [1, 0]


def compiled(folder):
    """The example in C++ as a program; a skip where something that it needs is not there."""
    found = find_spec("openvino")
    if not shutil.which("g++") or not found:
        pytest.skip("the C++ example needs g++ and openvino")
    openvino = Path(found.submodule_search_locations[0])
    probe = subprocess.run(
        ["g++", "-E", "-x", "c++", "-"], input="#include <cstdio>\n#include <jpeglib.h>", text=True, capture_output=True
    )
    if probe.returncode or not (openvino / "include").is_dir():
        pytest.skip("the C++ example needs the headers of libjpeg and OpenVINO")
    library = min((openvino / "libs").glob("libopenvino.so*"))
    source, program = ROOT / "examples" / "cpp" / "detect.cpp", folder / "detect"
    paths = [f"-I{openvino / 'include'}", str(library), f"-Wl,-rpath,{library.parent}", "-ljpeg"]
    subprocess.run(["g++", "-std=c++17", "-O0", str(source), *paths, "-o", str(program)], check=True)
    return [str(program)]


def scripted(folder):
    """The example in JavaScript; a skip where something that it needs is not there."""
    script = ROOT / "examples" / "js" / "detect.js"
    if not shutil.which("node") or not (script.parent / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("the JavaScript example needs node, and npm install in examples/js")
    return ["node", str(script)]


@pytest.mark.parametrize("example", [compiled, scripted])
def test_examples_print_the_boxes_of_detect_predict(example, open_file, tmp_path):
    program = example(tmp_path)
    detector = Detector.load(open_file)
    for number, frame in enumerate(frames((64, 64), (40, 64), (200, 90))):
        image = tmp_path / f"{number}.jpg"
        smooth = cv2.GaussianBlur(frame.image, (0, 0), 3) if number == 2 else frame.image  # resized in other ways
        cv2.imwrite(str(image), smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])
        run = subprocess.run([*program, str(open_file), str(image)], capture_output=True, text=True, check=True)
        told = [line.split() for line in run.stdout.splitlines()]
        ((_, found),) = detector.predict(str(image), conf=0.6, max_det=20)
        assert [line[0] for line in told] == [NAMES[label] for label in found.labels] != []
        numbers = np.array([line[1:] for line in told], dtype=float)
        assert np.allclose(numbers[:, 0], found.scores, atol=0.01)
        assert np.allclose(numbers[:, 1:], found.boxes, atol=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("example", [compiled, scripted])
def test_examples_draw_the_masks_of_detect_predict(weights, example, tmp_path):
    program = example(tmp_path)
    path = exported(weights, "masks", tmp_path / "m.onnx", dynamic=writers.DYNAMIC_ONNX, nms=True, conf=0.6, max_det=20)
    for number, frame in enumerate(frames((64, 64), (40, 90))):
        image, drawn = tmp_path / f"{number}.jpg", tmp_path / f"{number}.{'ppm' if example is compiled else 'png'}"
        cv2.imwrite(str(image), frame.image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        command = [*program, str(path), str(image), str(drawn)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        areas = np.array([int(line.split()[-1]) for line in run.stdout.splitlines()])
        ((_, found),) = Detector.load(path).predict(str(image), conf=0.6, max_det=20)
        assert np.abs(areas - found.masks.areas).max() <= 0.03 * 64 * 64 and len(areas)
        changed = (cv2.imread(str(drawn)) != cv2.imread(str(image))).any(2)
        union = np.any([found.masks.decode(i) for i in range(len(found))], axis=0)
        assert (changed != union).mean() < 0.05


def script_of_the_page(path, picture, monkeypatch, capsys):
    """What the Python in docs/how-to/export.md prints of an image: (name, score, x1, y1, x2, y2) for each box."""
    page = (ROOT / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import.*?)```", page, re.DOTALL)
    assert code.startswith("import json, sys, cv2, numpy as np, onnxruntime\n") and code.count("import ") == 1
    monkeypatch.setattr(sys, "argv", ["boxes.py", str(path), str(picture)])
    capsys.readouterr()
    exec(compile(code, "docs/how-to/export.md", "exec"), {})
    lines = [line.rsplit(" ", 5) for line in capsys.readouterr().out.splitlines()]
    return [line[0] for line in lines], np.array([line[1:] for line in lines], float).reshape(-1, 5)


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_python_of_the_page_prints_the_boxes_of_detect_predict(weights, dynamic, tmp_path, monkeypatch, capsys):
    if dynamic and not writers.DYNAMIC_ONNX:
        pytest.skip("needs torch 2.7")
    path = exported(weights, "point", tmp_path / "m.onnx", dynamic=dynamic, conf=0.6, max_det=20)
    detector = Detector.load(path)
    for number, frame in enumerate(frames((64, 64), (40, 64), (200, 90))):
        cv2.imwrite(str(picture := tmp_path / f"{number}.png"), frame.image)
        names, told = script_of_the_page(path, picture, monkeypatch, capsys)
        ((_, found),) = detector.predict(str(picture), conf=0.6, max_det=20)
        assert names == [NAMES[label] for label in found.labels] != []
        assert np.allclose(told[:, 0], found.scores, atol=1e-3) and np.allclose(told[:, 1:], found.boxes, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["yolox_nano/yolox_nano.onnx", "picodet/picodet_s_416_coco.onnx"])
def test_python_of_the_page_reads_published_detectors(file, tmp_path, monkeypatch, capsys):
    data = Path(os.environ.get("GRIDHEAD_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "weights" / file).is_file():
        pytest.skip(f"real data are not at {data} (set GRIDHEAD_DATA)")
    path = export(ExportConfig(str(data / "weights" / file), out=str(tmp_path / "m.onnx")))
    detector = Detector.load(path)
    for picture in sorted((data / "coco-mini" / "val2017").glob("*.jpg"))[:6]:
        names, told = script_of_the_page(path, picture, monkeypatch, capsys)
        ((_, found),) = detector.predict(str(picture))
        assert names == [detector.names[label] for label in found.labels]
        assert np.allclose(told[:, 0], found.scores, atol=1e-3) and np.allclose(told[:, 1:], found.boxes, atol=0.02)


def test_what_is_computed_how_is_said_in_a_line(weights, tmp_path, capsys):
    path = exported(weights, "point", tmp_path / "m.onnx")
    assert "--dynamic keeps those of detect predict" in capsys.readouterr().out
    assert "float32, onnx file, square canvas of 64 px (export with --dynamic" in Detector.load(path).computed()
    detector = Detector.load(weights("point"), "cpu", "bfloat16")
    assert detector.computed(96) == "computed in bfloat16 on cpu, longer side of 96 px"
    detector.model.metadata = replace(detector.metadata, preprocess=Preprocess(stretch=True))
    assert detector.computed(96) == "computed in bfloat16 on cpu, stretched to 96 px"


def said_by(*outputs, task="detect", suppressed=False):
    """What is said of outputs for two images of a file for 2 classes and 1 keypoint."""
    names = list(form_of(task).outputs)
    metadata = ModelMetadata(["a", "b"], [1, 2], keypoint_names=["nose"])
    return misfit(About("m", task, metadata, names, suppressed=suppressed), outputs, 2)


def test_outputs_that_are_not_ours_are_refused():
    boxes, scores, points = torch.zeros(2, 5, 4), torch.zeros(2, 5, 2), torch.zeros(2, 5, 1, 3)
    rows = torch.zeros(3, 7)
    assert said_by(boxes, scores) == said_by(boxes, scores, points, task="keypoints") == ""
    assert said_by(scores[:, 0], task="classify") == said_by(rows, suppressed=True) == ""
    assert said_by(points[:, 0, :, :2], scores[:, 0, :1], task="landmarks") == ""
    wrong = [(boxes,), (boxes, scores, points), (scores, boxes), (boxes[:1], scores), (boxes, scores[:, :4])]
    wrong += [(boxes.long(), scores), (boxes, scores[..., :1]), (boxes[..., 0], scores), (boxes, torch.tensor(1.0))]
    assert all(said_by(*outputs) for outputs in wrong)
    assert said_by(rows[:, :6], suppressed=True) and said_by(rows + 2, suppressed=True)
    assert said_by(rows * float("nan"), suppressed=True) and said_by(boxes, scores, suppressed=True)


def test_a_file_that_cannot_be_run_is_refused(tmp_path):
    file = Exported(
        tmp_path / "m.onnx", About("m", "classify", ModelMetadata(["a"], [1]), ["scores"]), lambda images: [][0]
    )
    with pytest.raises(UserError, match=r"m\.onnx cannot be run"):
        file(torch.zeros(1, 3, 8, 8))


def test_a_full_temporary_folder_is_one_line(weights, tmp_path, monkeypatch):
    """Where torch writes the file itself it ends the process."""
    code = (
        "import resource, sys\nfrom detect.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nsys.exit(main(sys.argv[1:]))"
    )
    (tmp_path / "tmp").mkdir()
    flags = ["--weights", str(weights("point")), "--format", "torchscript", "--out", str(tmp_path / "a.torchscript")]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [sys.executable, "-c", code, "export", *flags], env=environment, capture_output=True, cwd=ROOT
    )
    assert done.returncode == 2 and f"error: {tmp_path / 'tmp'} is full; " in done.stderr.decode()
    assert not list((tmp_path / "tmp").glob("gridhead*")) and not (tmp_path / "a.torchscript").exists()
