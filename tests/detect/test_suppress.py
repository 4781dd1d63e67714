"""Suppression as operators chooses what `select_detections` chooses, in ONNX Runtime and in OpenVINO."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.export.metadata import About
from detect.export.nms import with_suppression
from detect.export.runtime import Exported
from detect.models.base import ModelMetadata
from detect.models.yolo import select_detections
from detect.types import Postprocess

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")

CLASSES, POINTS, KEEP = 3, 2, Postprocess(0.3, 0.5, 6)
PLAIN = """<ir_version: 8, opset_import: ["" : 18]>
plain (float[B, A, 4] b, float[B, A, 3] s{0}) => (float[B, A, 4] boxes, float[B, A, 3] scores{1})
{{ boxes = Identity(b)  scores = Identity(s) {2} }}"""
SPOTS = (", float[B, A, 2, 3] p", ", float[B, A, 2, 3] points", "points = Identity(p)")


def about(points: bool) -> About:
    outputs = ["boxes", "scores", *(["points"] if points else [])]
    task = "keypoints" if points else "detect"
    metadata = ModelMetadata(["a"] * 3, [1, 2, 3], keypoint_names=["p", "q"] if points else [])
    return About("m", task, metadata, outputs, False, True, True, conf=0.3, iou=0.5, max_det=6)


def graph(points: bool):
    plain = onnx.parser.parse_model(PLAIN.format(*(SPOTS if points else [""] * 3)))
    made = with_suppression(plain, about(points))
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def inputs(points: bool, batch: int, count: int, seed: int) -> dict[str, torch.Tensor]:
    """Boxes that overlap, scores without ties on both sides of the threshold."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(batch, count, 2, generator=generator) * 30
    boxes = torch.cat([low, low + 5 + 20 * torch.rand(batch, count, 2, generator=generator)], -1)
    scores = torch.randperm(batch * count * CLASSES, generator=generator).view(batch, count, CLASSES)
    given = {"b": boxes, "s": scores / scores.numel()}
    return given | ({"p": torch.rand(batch, count, POINTS, 3, generator=generator)} if points else {})


def check(run, points: bool, batch: int, count: int, seed: int) -> None:
    given = inputs(points, batch, count, seed)
    file = Exported("m", about(points), lambda _: [torch.from_numpy(run({k: v.numpy() for k, v in given.items()}))])
    answers = file.postprocess(file(torch.zeros(batch, 3, 32, 32)), KEEP)
    for i, found in enumerate(answers):
        expected = select_detections(
            given["b"][i], given["s"][i], KEEP, **({"keypoints": given["p"][i]} if points else {})
        )
        assert torch.equal(found.boxes, expected.boxes) and found.labels.tolist() == expected.labels.tolist()
        assert torch.equal(found.scores, expected.scores) and len(found) <= KEEP.limit
        assert not points or torch.equal(found.keypoints, expected.keypoints)
    assert len(answers) == batch


@pytest.fixture(scope="module")
def sessions():
    return {
        points: runtime.InferenceSession(graph(points), providers=["CPUExecutionProvider"]) for points in (False, True)
    }


@settings(max_examples=60, deadline=None)
@given(points=st.booleans(), batch=st.integers(1, 3), count=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_rows_are_what_decoding_chooses(sessions, points, batch, count, seed):
    check(lambda given: sessions[points].run(None, given)[0], points, batch, count, seed)


def test_nothing_above_the_threshold_is_no_row(sessions):
    given = inputs(True, 2, 4, 0)
    rows = sessions[True].run(None, {k: (v * (k != "s")).numpy() for k, v in given.items()})[0]
    assert rows.shape == (0, 7 + 3 * POINTS)


@pytest.mark.parametrize("points", [False, True])
def test_openvino_chooses_the_same(points):
    pytest.importorskip("openvino", reason="openvino is not installed")
    from detect.export.libraries import load_openvino

    core = load_openvino().Core()
    compiled = core.compile_model(core.read_model(graph(points)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch, count, seed in ((1, 1, 0), (1, 30, 1), (3, 20, 2)):
        check(lambda given: compiled(given)[0].copy(), points, batch, count, seed)
