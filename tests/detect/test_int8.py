"""Int8 export: which layers stay in float32, found by what their quantization changes, and judged by the metric."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from detect.commands.export import ExportConfig, export
from detect.errors import UserError
from detect.export import int8
from detect.export.metadata import About
from detect.export.quantize import Quantizer, _errors
from detect.models.base import ModelMetadata

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")
torch = pytest.importorskip("torch")

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
RANGES = " with averaged ranges"
LAYERS = ["backbone.0", "backbone.1", "head.0", "head.1"]


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory):
    """Two convolutions after one another; the weights of the second need more than eight bits for its input."""
    rng = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["x0"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Conv", ["x0", "model.stem.weight"], ["x1"], "first", kernel_shape=[1, 1]),
        onnx.helper.make_node("Conv", ["x1", "model.head.0.weight"], ["scores"], "second", kernel_shape=[1, 1]),
    ]
    first = rng.normal(size=(4, 3, 1, 1)).astype(np.float32)
    first[0] *= 1000  # the others of its outputs are lost in eight bits of one range
    second = rng.normal(size=(2, 4, 1, 1)).astype(np.float32)
    second[:, 0] = 0
    weights = {"model.stem.weight": first, "model.head.0.weight": second}
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 2, 8, 8])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    return Quantizer(model, images(), tmp_path_factory.mktemp("int8"))


def images(count=4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8, generator=generator) for _ in range(count)]


def in_int8(model):
    """Names of the convolutions whose weights are int8."""
    scaled = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in scaled}


def test_layers_are_left_out_by_name(quantizer):
    assert list(quantizer.layers) == ["stem", "head.0"]
    assert in_int8(quantizer()) == {"first", "second"}
    assert in_int8(quantizer(exclude=["stem"])) == {"second"} == in_int8(quantizer(only=["head.0"]))
    assert in_int8(quantizer(exclude=["stem", "head.0"])) == set()
    assert quantizer.matching(["head", "head.0", "stem"]) == ["head.0", "stem"]
    with pytest.raises(UserError, match=r"unknown layer 'hea': did you mean 'head'\?"):
        quantizer.matching(["hea"])


def test_without_int8_outputs_only_what_enters_a_convolution_is_quantized(quantizer, monkeypatch):
    def count():
        return sum(node.op_type == "QuantizeLinear" for node in quantizer().graph.node)

    assert count() == 3
    options = quantizer.options | {"OpTypesToExcludeOutputQuantization": ["Conv"]}
    monkeypatch.setattr(quantizer, "options", options)
    assert count() == 2


def test_averaged_ranges_leave_the_results_their_extremes(quantizer):
    """Rare scores are objects: their order must not be cut off."""
    before = dict(quantizer.ranges.items())
    quantizer.calibrate(images(), averaged=True)
    after = dict(quantizer.ranges.items())
    assert after["x1"].highest < before["x1"].highest and after["x1"].lowest > before["x1"].lowest
    assert after["scores"].range_value == before["scores"].range_value
    quantizer.calibrate(images())


def test_ranges_end_where_the_activation_tells_no_values_apart(quantizer, monkeypatch):
    monkeypatch.setitem(quantizer.useful, "x1", (-3.0, float("inf")))
    wide = quantizer.ranges["x1"].range_value
    quantizer.calibrate(images())
    assert wide[0] < -3 and quantizer.ranges["x1"].range_value == (-3, wide[1])
    monkeypatch.undo()
    quantizer.calibrate(images())


def test_the_layer_whose_quantization_changes_most_comes_first(quantizer):
    expected = quantizer._outputs(quantizer.source.read_bytes(), images())
    worst = {}
    for name in quantizer.layers:
        actual = quantizer._outputs(quantizer(only=[name]).SerializeToString(), images())
        worst[name] = np.mean([np.square(a["scores"] - b["scores"]) for a, b in zip(expected, actual, strict=True)])
    assert quantizer.by_sensitivity(images()) == sorted(worst, key=worst.__getitem__, reverse=True)


def test_the_largest_sums_are_not_cut_off(tmp_path):
    """Processors without VNNI add two products in 16 bits, which would halve this sum with signed weights."""
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Cast", ["images"], ["x"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Conv", ["x", "model.stem.weight"], ["scores"], "first", kernel_shape=[3, 3]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 16, 6, 6])],
        [onnx.numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "model.stem.weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    white = [torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)]
    quantizer = Quantizer(model, white, tmp_path)
    (found,) = quantizer._outputs(quantizer().SerializeToString(), white)
    np.testing.assert_allclose(found["scores"], 27 * 255, rtol=0.02)


def test_boxes_count_as_much_as_their_score():
    boxes, scores = np.zeros((1, 2, 4)), np.array([[[0.9, 0.1], [0.0, 0.0]]])
    moved = [boxes.copy(), boxes.copy()]
    moved[0][0, 0], moved[1][0, 1] = 1.0, 1.0
    shown, hidden = (_errors({"boxes": boxes, "scores": scores}, {"boxes": m, "scores": scores}) for m in moved)
    assert shown == pytest.approx([0.45, 0]) and hidden == [0, 0]
    assert _errors({"points": boxes[0]}, {"points": moved[0][0]}) == [0.5]


class Stub:
    """A quantizer whose model in int8 is the number of layers left in float32."""

    layers = dict.fromkeys(LAYERS)
    matching = Quantizer.matching

    def __init__(self, *given):
        self.averaged = False

    def calibrate(self, images, averaged):
        self.averaged = averaged

    def by_sensitivity(self, images):
        return LAYERS[::-1]

    def __call__(self, exclude):
        return [*exclude]


@pytest.fixture
def exported(monkeypatch, capsys):
    """What is left in float32, and what is printed, where the metric is 0.5 and falls by the given numbers."""

    def run(exclude, *losses, task="detect", matching=0):
        told = iter([0.0, *losses])
        sign = -1 if task == "landmarks" else 1
        monkeypatch.setattr(int8, "Quantizer", Stub)
        monkeypatch.setattr(int8, "sample_images", lambda *given: [])
        monkeypatch.setattr(int8, "_measure", lambda *given: lambda graph: sign * 0.5 - next(told))
        monkeypatch.setattr(int8, "_share", lambda *given: lambda kept: 0.7 if len(kept) < matching else 0.9)
        about = About("m", task, ModelMetadata(["a"], [1]), ["boxes", "scores"], precision="int8")
        kept = int8.to_int8(ExportConfig("w", int8=True, int8_exclude=exclude), about, None)
        return kept, capsys.readouterr().out.splitlines()

    return run


def test_layers_are_excluded_until_the_metric_is_kept(exported):
    assert exported([], 0.01) == ([], ["AP 0.500 in float32, 0.490 in int8"])
    kept, lines = exported(["auto"], 0.3, 0.2, 0.1, 0.004)
    assert kept == ["head.1", "head.0"] and len(lines) == 4
    assert lines[:2] == [f"AP 0.500 in float32, 0.{n}00 in int8{more}" for n, more in ((2, ""), (3, RANGES))]
    assert (
        lines[-1] == f"AP 0.500 in float32, 0.496 in int8{RANGES} and 2 of 4 convolutions in float32 (head.1, head.0)"
    )
    assert exported(["head"], -0.02)[0] == ["head.0", "head.1"]
    assert exported([], 0.005, task="landmarks")[1] == ["nme 0.500 in float32, 0.505 in int8"]


def test_layers_are_excluded_until_the_detections_match(exported):
    assert exported(["auto"], 0.004, 0.004, 0.004, 0.004, matching=2)[0] == ["head.1", "head.0"]
    losses = [0.0] * 5
    assert len(exported(["auto"], *losses, matching=9)[0]) == 3, "the last attempt, which the check then rejects"


def test_a_file_that_loses_too_much_is_rejected_with_what_to_do(exported):
    with pytest.raises(UserError, match=r"AP falls by 0\.200; up to 0\.01 .* try --int8-exclude auto, or --half"):
        exported([], 0.2)
    with pytest.raises(UserError, match=r"AP falls by 0\.150; .* try more images in --data, or --half"):
        exported(["auto"], 0.3, 0.2, 0.2, 0.2, 0.15)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not at {DATA} (set GRIDHEAD_DATA)")
@pytest.mark.parametrize(
    ("file", "form"),
    [*itertools.product(["yolox_nano/yolox_nano.onnx", "picodet/picodet_s_416_coco.onnx"], ["onnx", "openvino"])],
)
def test_published_detectors_lose_less_than_a_point(file, form, tmp_path, capsys):
    if form == "openvino":
        pytest.importorskip("openvino")
    out = tmp_path / f"m.{'onnx' if form == 'onnx' else 'xml'}"
    given = ExportConfig(str(DATA / "weights" / file), format=form, int8=True, int8_exclude=["auto"], out=str(out))
    export(ExportConfig(**{**vars(given), "data": str(DATA / "coco-mini")}))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("AP")]
    before, after = (float(word) for word in lines[-1].split() if word.startswith("0."))
    assert before > 0.28 and after >= before - 0.011
