"""YOLOX: its released files give the same numbers here, and what was folded into them can be trained further."""

import dataclasses
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import detect
from anchors.assign import pad_targets
from detect.__main__ import main
from detect.cli.parser import parse
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config, shipped_names
from detect.models.weights import load_weights
from detect.training.bn_statistics import samples, unfold
from detect.types import Postprocess, Preprocess, Target
from tests.reference.boxes import overlap
from tests.reference.published import write_yolox
from tests.reference.yolox_twin import Twin

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("GRIDHEAD_DATA", ROOT.parent / "shared" / "data"))
NANO = DATA / "weights" / "yolox_nano" / "yolox_nano.onnx"
REFERENCE = os.environ.get("GRIDHEAD_YOLOX", "")
SIZES = [name for name in shipped_names() if model_config(name).kind == "yolox"]
CLASSES = [f"class {i}" for i in range(5)]

pytestmark = pytest.mark.usefixtures("one_thread")
needs_nano = pytest.mark.skipif(not NANO.exists(), reason="no yolox_nano.onnx: set GRIDHEAD_DATA")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(folder with weights.pth, weights.onnx and names.txt, an image, what the twin says of it)."""
    folder, twin = tmp_path_factory.mktemp("published"), Twin(64, 1, True, len(CLASSES))
    image = torch.randint(0, 256, (1, 3, 96, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    said = twin(image.flip(1).double())
    torch.save({"start_epoch": 3, "model": twin.state}, folder / "weights.pth")
    write_yolox(twin, folder / "weights.onnx")
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n")
    return folder, image, said


def imported(folder: Path, suffix: str, out: Path):
    flags = ["--names", str(folder / "names.txt"), "--out", str(out)]
    assert main(["import", "--weights", str(folder / f"weights{suffix}"), *flags]) == 0
    return load_weights(out)


@pytest.mark.parametrize("suffix", [".pth", ".onnx"])
def test_a_released_file_says_what_its_twin_says(published, tmp_path, suffix):
    folder, image, said = published
    model = imported(folder, suffix, tmp_path / "w.safetensors")
    assert (model.config.name, model.metadata.size, model.metadata.folded) == ("yolox_nano", 416, suffix == ".onnx")
    assert model.metadata.names == CLASSES and model.metadata.category_ids == [1, 2, 3, 4, 5]
    assert model.metadata.preprocess == Preprocess(order="BGR", scale=1.0, pad=114, alignment="topleft")
    with torch.no_grad():
        raw = model.double()(image)
        fused = model.float().fused()(image)
    for one, tolerance in ((raw, 1e-5), (fused, 1e-3)):
        ours = torch.cat([one.regression, one.objectness[..., None], one.logits], -1)
        assert ours.shape == said.shape and said.std() > 0.5
        assert torch.allclose(ours.double(), said, rtol=tolerance, atol=tolerance)


def test_boxes_are_those_of_the_paper():
    model = build(model_config("yolox_nano"), ModelMetadata(CLASSES, [1, 2, 3, 4, 5])).eval()
    with torch.no_grad():
        raw = model(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
        codes = torch.randn(raw.regression.shape, generator=torch.Generator().manual_seed(0))
        raw = raw._replace(regression=codes)
        boxes, scores = model.candidates(raw)
    expected, i = [], 0
    for stride in (8, 16, 32):
        for row in range(64 // stride):
            for column in range(96 // stride):
                x, y, w, h = codes[0, i].tolist()
                x, y, w, h = (x + column) * stride, (y + row) * stride, np.exp(w) * stride, np.exp(h) * stride
                expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                i += 1
    assert torch.allclose(boxes[0], torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-3)
    assert torch.allclose(scores, raw.logits.sigmoid() * raw.objectness.sigmoid()[..., None])
    there = boxes[0]
    again = model.head.regression_loss(raw.at((torch.zeros(i, dtype=torch.int64), torch.arange(i))), there)
    assert again.abs().max() < 1e-3


@pytest.mark.parametrize(("size", "millions"), [("nano", 0.91), ("tiny", 5.06), ("m", 25.33)])
def test_it_has_the_parameters_of_the_released_one(size, millions):
    with torch.device("meta"):
        model = build(model_config(f"yolox_{size}"), ModelMetadata([str(i) for i in range(80)], list(range(80))))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_it_trains_and_every_weight_takes_part():
    torch.manual_seed(0)
    model = build(model_config("yolox_nano"), ModelMetadata(CLASSES, [1, 2, 3, 4, 5], size=64)).train()
    ground_truth = Target(torch.tensor([[8.0, 8, 40, 56]]), torch.tensor([3]), torch.tensor([False]), 0, (64, 64))
    raw = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    terms = model.loss(raw, [ground_truth, ground_truth[torch.tensor([False])]])
    loss = sum(t.total / t.count.clamp(min=1) for t in terms.values())
    loss.backward()
    assert loss.isfinite() and [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(
        len(d) == 7 for d in model.eval().postprocess(model.eval()(torch.zeros(2, 3, 64, 64)), Postprocess(0.0, 0.7, 7))
    )


def spread(model: nn.Module, images: torch.Tensor) -> float:
    """How far training mode is from evaluation mode, as a share of what is said."""
    with torch.no_grad():
        still = model.eval()(images).logits
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 0.0
        moving = model.train()(images).logits
    return float((moving - still).std() / still.std())


def test_unfolding_changes_no_answer_and_brings_the_modes_together(published, tmp_path):
    folder, _, _ = published
    model = imported(folder, ".onnx", tmp_path / "w.safetensors")
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (16, 3, 64, 64), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        before = model.eval()(images[:2])
        apart = spread(model, images)
        unfold(model, images.split(4))
        after = model.eval()(images[:2])
    assert not model.metadata.folded and apart > 0.3 and spread(model, images) < 0.01
    for ours, reference in zip(after[:2], before[:2], strict=True):
        assert torch.allclose(ours, reference, rtol=1e-3, atol=1e-3)


class Samples:
    """Sixty-six grey images."""

    def __len__(self) -> int:
        return 66

    def __getitem__(self, draw):
        return np.full((draw.size, draw.size, 3), draw.position, np.uint8), None


def test_statistics_are_of_the_first_samples():
    seen = list(samples(Samples(), 8))
    assert [tuple(x.shape) for x in seen] == [(8, 3, 8, 8)] * 8
    assert [int(x[i, 0, 0, 0]) for x in seen for i in range(8)] == list(range(64))


@pytest.mark.slow
def test_fine_tuning_is_one_command(published, digits, tmp_path):
    folder, _, _ = published
    weights = tmp_path / "w.safetensors"
    imported(folder, ".onnx", weights)
    config = parse("train", ["--data", "toy", "--weights", str(weights)])
    assert (config.model, config.imgsz, config.task) == (model_config("yolox_nano"), 416, "detect")
    config = parse("train", ["--data", "toy", "--weights", str(weights), "--imgsz", "96", "--model.loss.box", "3"])
    assert (config.imgsz, config.model.loss.box, config.model.kind) == (96, 3.0, "yolox")
    assert parse("train", ["--data", "toy", "--weights", str(weights), "--model", "yolo_n"]).model.kind == "yolo"
    flags = {"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "out": tmp_path / "run"}
    best = detect.train(data=digits, weights=weights, **flags)
    model = load_weights(best)
    assert len(model.metadata.names) == 10 and not model.metadata.folded and model.metadata.preprocess.order == "BGR"
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked > 0 for norm in norms)


def break_name(state):
    state["backbone.other.conv.weight"] = torch.zeros(1, 1, 1, 1)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s.pop("head.obj_preds.2.weight"), "is another network"),
        (lambda s: s.update({"head.cls_convs.0.9.conv.weight": torch.zeros(2, 2, 1, 1)}), "is another network"),
        (break_name, "is not a YOLOX"),
        (lambda s: s.update({"backbone.backbone.stem.conv.conv.weight": torch.zeros(7, 12, 3, 3)}), "has 7 outputs"),
        (lambda s: s.clear(), "no state dictionary"),
        (lambda s: s.update({"head.obj_preds.0.weight": 3}), "no state dictionary"),
    ],
)
def test_other_networks_are_refused(published, tmp_path, capsys, spoil, said):
    folder, _, _ = published
    state = torch.load(folder / "weights.pth", weights_only=True)
    spoil(state["model"])
    torch.save(state, tmp_path / "other.pth")
    flags = ["--names", str(folder / "names.txt"), "--out", str(tmp_path / "w.safetensors")]
    assert main(["import", "--weights", str(tmp_path / "other.pth"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and "other.pth" in error and error.count("\n") == 1
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("suffix", [".pth", ".onnx"])
def test_what_is_no_such_file_is_refused(tmp_path, capsys, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_text("nothing")
    assert main(["import", "--weights", str(path), "--out", str(tmp_path / "w.safetensors")]) == 2
    assert f"text{suffix}" in capsys.readouterr().err


def test_a_model_of_other_parts_is_refused():
    metadata = ModelMetadata(CLASSES, [1, 2, 3, 4, 5])
    flags = ["--data", "toy", "--model", "yolox_nano"]
    with pytest.raises(UserError, match=r"unknown flag '--model.head' of a model of kind yolox"):
        parse("train", [*flags, "--model.head", "point"])
    with pytest.raises(UserError, match=r"value of --model.backbone 'resnet18'"):
        parse("train", [*flags, "--model.backbone", "resnet18"])
    with pytest.raises(UserError, match="assigner max_iou compares anchor boxes"):
        build(parse("train", [*flags, "--model.assigner", "max_iou"]).model, metadata)


@pytest.mark.skipif(not REFERENCE, reason="GRIDHEAD_YOLOX names no interpreter with torch and pixeltable-yolox")
@pytest.mark.parametrize("name", SIZES)
def test_every_size_says_what_the_reference_package_says(name, tmp_path):
    script = ROOT / "tests" / "reference" / "yolox_reference.py"
    subprocess.run([REFERENCE, str(script), name, str(tmp_path)], check=True, cwd=tmp_path)
    out = tmp_path / "w.safetensors"
    assert main(["import", "--weights", str(tmp_path / "weights.pth"), "--out", str(out)]) == 0
    given = torch.load(tmp_path / "said.pt", weights_only=True)
    model = load_weights(out)
    assert model.config.name == name
    with torch.no_grad():
        raw = model(given["image"].flip(1))
    ours = torch.cat([raw.regression, raw.objectness.sigmoid()[..., None], raw.logits.sigmoid()], -1)
    assert given["said"][..., 5:].std() > 0.01
    assert (ours - given["said"]).abs().max() < 1e-5


@needs_nano
def test_the_real_file_says_what_onnx_runtime_says(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    out = tmp_path / "w.safetensors"
    assert main(["import", "--weights", str(NANO), "--out", str(out)]) == 0
    model = load_weights(out)
    image = torch.randint(0, 256, (1, 3, 416, 416), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    session = runtime.InferenceSession(NANO, providers=["CPUExecutionProvider"])
    said = torch.from_numpy(session.run(None, {"images": image.flip(1).float().numpy()})[0])
    with torch.no_grad():
        raw = model(image)
    ours = torch.cat([raw.regression, raw.objectness.sigmoid()[..., None], raw.logits.sigmoid()], -1)
    assert torch.allclose(ours, said, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
@needs_nano
def test_average_precision_of_the_real_file(tmp_path):
    """0.286 was measured with ONNX Runtime on square canvases of 416 pixels."""
    out = tmp_path / "w.safetensors"
    assert main(["import", "--weights", str(NANO), "--out", str(out)]) == 0
    result = detect.evaluate(weights=out, data=DATA / "coco-mini", device="cpu", precision="float32", workers=0)
    assert abs(result["AP"] - 0.286) < 0.006


def test_the_objectness_wanted_is_the_iou_of_the_predicted_box():
    """SimOTA's weight is that IoU already: it is neither squared nor lowered by what CIoU subtracts."""
    torch.manual_seed(0)
    model = build(
        dataclasses.replace(model_config("yolox_nano"), width=16), ModelMetadata(CLASSES, [1, 2, 3, 4, 5], 64)
    )
    ground_truth = Target(
        boxes=torch.tensor([[4.0, 6.0, 40.0, 30.0], [30.0, 34.0, 60.0, 62.0]]),
        labels=torch.tensor([1, 3]),
        crowd=torch.zeros(2, dtype=torch.bool),
        image_id=0,
        size=(64, 64),
    )
    raw = model.eval()(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    boxes, scores = model.candidates(raw)
    found = model.assigner(
        scores, boxes, raw.priors, pad_targets([(ground_truth.boxes, ground_truth.labels, ground_truth.crowd)])
    )
    expected = torch.zeros_like(raw.objectness)
    for a in torch.where(found.index[0] >= 0)[0].tolist():
        expected[0, a] = overlap(boxes[0, a].tolist(), ground_truth.boxes[found.index[0, a]].tolist())
    assert (expected > 0).sum() > 1
    each = nn.functional.binary_cross_entropy_with_logits(raw.objectness, expected, reduction="sum")
    term = model.loss(raw, [ground_truth])["objectness"]
    assert term.total.item() == pytest.approx(model.config.loss.objectness * each.item(), rel=1e-4)
