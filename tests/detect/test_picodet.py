"""PicoDet: its released files give the same numbers here, and it can be trained further."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import detect
from detect.__main__ import main
from detect.cli.parser import parse
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.necks import build_neck
from detect.models.weights import load_weights
from detect.types import Postprocess, Preprocess, Target
from tests.reference.picodet_twin import Twin
from tests.reference.published import write_picodet

onnx = pytest.importorskip("onnx", reason="needs onnx")

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("GRIDHEAD_DATA", ROOT.parent / "shared" / "data"))
FILES = {side: DATA / "weights" / "picodet" / f"picodet_s_{side}_coco.onnx" for side in (320, 416)}
CLASSES = [f"class {i}" for i in range(5)]
METADATA = ModelMetadata(CLASSES, [1, 2, 3, 4, 5], 64)
STRETCHED = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), stretch=True)

pytestmark = pytest.mark.usefixtures("one_thread")
needs_file = pytest.mark.skipif(not FILES[320].exists(), reason="no PicoDet weights: set GRIDHEAD_DATA")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(folder with weights.onnx and names.txt, the twin that has these weights)."""
    folder, twin = tmp_path_factory.mktemp("published"), Twin(len(CLASSES))
    twin(torch.zeros(1, 3, 64, 64, dtype=torch.float64))
    write_picodet(twin.parts, folder / "weights.onnx")
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n")
    return folder, twin


@pytest.fixture(scope="module")
def weights(published, tmp_path_factory):
    folder, _ = published
    out = tmp_path_factory.mktemp("imported") / "w.safetensors"
    flags = ["--names", str(folder / "names.txt"), "--out", str(out)]
    assert main(["import", "--weights", str(folder / "weights.onnx"), *flags]) == 0
    return out


def test_a_released_file_says_what_its_twin_says(published, weights):
    _, twin = published
    model = load_weights(weights)
    assert (model.config.name, model.metadata.size, model.metadata.folded) == ("picodet_s", 320, True)
    assert model.metadata.names == CLASSES and model.metadata.preprocess == STRETCHED
    image = torch.randint(0, 256, (1, 3, 128, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (STRETCHED.mean, STRETCHED.std))
    said = twin((image / 255 - mean) / std)
    with torch.no_grad():
        fused = model.fused()(image)
        raw = model.double()(image)
    for one, tolerance in ((raw, 1e-5), (fused, 1e-3)):
        mine = torch.cat([one.logits, one.regression], -1)
        assert mine.shape == said.shape and said.std() > 0.3
        assert torch.allclose(mine.double(), said, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("size", "millions"), [("s", 0.99), ("m", 2.15), ("l", 3.31)])
def test_it_has_the_parameters_of_the_paper(size, millions):
    """The paper's table says 3.30 of 3.305."""
    with torch.device("meta"):
        model = build(model_config(f"picodet_{size}"), ModelMetadata([str(i) for i in range(80)], list(range(80))))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_it_trains_and_every_weight_takes_part():
    torch.manual_seed(0)
    model = build(model_config("picodet_s"), METADATA).train()
    truth = Target(torch.tensor([[8.0, 8, 40, 56]]), torch.tensor([3]), torch.tensor([False]), 0, (64, 64))
    raw = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    terms = model.loss(raw, [truth, truth[torch.tensor([False])]])
    loss = sum(t.total / t.count.clamp(min=1) for t in terms.values())
    loss.backward()
    assert loss.isfinite() and [n for n, p in model.named_parameters() if p.grad is None] == []
    found = model.eval().postprocess(model(torch.zeros(2, 3, 64, 64)), Postprocess(0.0, 0.7, 7))
    assert [len(one) for one in found] == [7, 7]


def test_the_neck_adds_coarser_levels():
    neck = build_neck("csp_pan", [8, 12], [8, 16], [8, 16, 32, 64], 10, 1)
    sides = [(13, 18), (7, 9), (4, 5), (2, 3)]
    out = neck([torch.rand(2, c, *side) for c, side in zip((8, 12), sides, strict=False)])
    assert [tuple(m.shape) for m in out] == [(2, 10, *side) for side in sides]
    assert neck.channels == [10] * 4 and neck.strides == [8, 16, 32, 64]


def test_fine_tuning_is_one_command(weights, digits, tmp_path):
    config = parse("train", ["--data", "toy", "--weights", str(weights), "--model.loss.box", "3"])
    assert (config.imgsz, config.model.loss.box, config.model.loss.class_kind) == (320, 3.0, "varifocal")
    flags = {"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "out": tmp_path / "run"}
    model = load_weights(detect.train(data=digits, weights=weights, **flags))
    assert len(model.metadata.names) == 10 and not model.metadata.folded and model.metadata.preprocess == STRETCHED
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked > 0 for norm in norms)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda parts: parts.pop(40),
        lambda parts: parts.insert(9, parts[9]),
        lambda parts: parts[7][0].squeeze_(),
        lambda parts: parts[-1].__setitem__(1, torch.tensor(1.0)),
    ],
)
def test_a_file_that_only_begins_and_ends_like_one_is_refused(published, tmp_path, capsys, spoil):
    parts = [[t.clone() for t in part] for part in published[1].parts]
    spoil(parts)
    write_picodet(parts, tmp_path / "other.onnx")
    flags = ["--names", str(published[0] / "names.txt"), "--out", str(tmp_path / "w.safetensors")]
    assert main(["import", "--weights", str(tmp_path / "other.onnx"), *flags]) == 2
    error = capsys.readouterr().err
    assert "picodet_s, but is another network" in error and "other.onnx" in error and error.count("\n") == 1


def test_an_assigner_of_anchor_boxes_is_refused():
    with pytest.raises(UserError, match="assigner max_iou compares anchor boxes"):
        build(parse("train", ["--data", "toy", "--model", "picodet_s", "--model.assigner", "max_iou"]).model, METADATA)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "suffix"), [("onnx", "onnx"), ("torchscript", "torchscript"), ("openvino", "xml")])
def test_it_is_exported_in_every_format(weights, digits, tmp_path, form, suffix):
    """The command keeps a file only if its outputs are PyTorch's."""
    if form != "torchscript":
        pytest.importorskip("onnxscript" if form == "onnx" else "openvino", reason="needs the extra export")
    out = tmp_path / f"m.{suffix}"
    flags = ["--data", str(digits), "--imgsz", "64", "--format", form, "--out", str(out)]
    assert main(["export", "--weights", str(weights), *flags]) == 0
    assert out.exists()


@needs_file
@pytest.mark.parametrize("side", FILES)
def test_the_real_file_says_what_onnx_runtime_says(side, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    out = tmp_path / "w.safetensors"
    assert main(["import", "--weights", str(FILES[side]), "--out", str(out)]) == 0
    model = load_weights(out)
    assert (model.metadata.size, model.metadata.names[0]) == (side, "person")
    image = torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # the file lists its weights as inputs, each of which it would warn of
    session = runtime.InferenceSession(FILES[side], options, providers=["CPUExecutionProvider"])
    given = session.run(None, {"image": model.preprocess(image).contiguous().numpy()})
    scores, distances = (torch.cat([torch.from_numpy(x) for x in half], 1) for half in (given[:4], given[4:]))
    with torch.no_grad():
        raw = model(image)
    assert scores.std() > 0.001
    assert (model.head.scores(raw) - scores).abs().max() < 1e-4 and (raw.regression - distances).abs().max() < 1e-3


@pytest.mark.slow
@needs_file
@pytest.mark.parametrize(("side", "ap", "ap50"), [(320, 0.299, 0.440), (416, 0.332, 0.483)])
def test_average_precision_of_the_real_file(side, ap, ap50, tmp_path):
    """These were measured with ONNX Runtime on stretched images."""
    out = tmp_path / "w.safetensors"
    assert main(["import", "--weights", str(FILES[side]), "--out", str(out)]) == 0
    flags = {"conf": 0.025, "iou": 0.6, "max_det": 100, "device": "cpu", "precision": "float32", "workers": 0}
    result = detect.evaluate(weights=out, data=DATA / "coco-mini", **flags)
    assert result["AP"] == pytest.approx(ap, abs=0.004) and result["AP50"] == pytest.approx(ap50, abs=0.008)
