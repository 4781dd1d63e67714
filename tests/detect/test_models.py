"""One contract for everything that is registered but backbones: necks, heads, assigners and model configurations."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from detect.errors import UserError
from detect.models.backbones.blocks import ACTIVATIONS, Conv, Fused
from detect.models.base import ModelMetadata, fold, fuse
from detect.models.builder import build
from detect.models.configs import model_config, shipped_names
from detect.models.configs.base import ModelConfig
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import load_weights, read_weights, save_weights, transfer
from detect.registry import REGISTRIES
from detect.types import HeadOutput, Postprocess, Preprocess, Target
from detect.utils.device import autocast
from detect.utils.precision import has_bfloat16
from tests.reference.marks import slowly
from tests.reference.models import with_anchors

CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=96, keypoint_names=["left_end", "right_end"])


HEADS, NECKS, ASSIGNERS = (REGISTRIES[kind] for kind in ("head", "neck", "assigner"))
KINDS = REGISTRIES["model"]


def tiny(**changes) -> ModelConfig:
    return with_anchors(dataclasses.replace(YoloConfig(width=16), **changes))


def target(*rows: tuple[float, ...], crowd: bool = False, image_id: int = 0) -> Target:
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([int(row[4]) for row in rows], dtype=torch.int64)
    return Target(boxes, labels, torch.full((len(rows),), crowd), image_id, (96, 96))


TRUTH = [target((10, 12, 40, 50, 1), (30, 30, 90, 80, 2)), target()]


def images(count: int = 2, height: int = 96, width: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def total(terms) -> torch.Tensor:
    return sum(t.total / t.count.clamp(min=1) for t in terms.values())


def test_every_kind_of_model_has_a_task_and_every_task_a_model():
    assert {KINDS[kind].task for kind in KINDS} == set(REGISTRIES["task"])


@pytest.mark.parametrize("name", NECKS)
def test_neck_keeps_levels_and_gives_one_width(name):
    neck = NECKS[name]([8, 12, 20], [8, 16, 32], 10, 1)
    sides = [(13, 18), (7, 9), (4, 5)]
    out = neck([torch.rand(2, c, *side) for c, side in zip((8, 12, 20), sides, strict=True)])
    assert [tuple(m.shape) for m in out] == [(2, 10, *side) for side in sides]
    assert neck.channels == [10, 10, 10]


@pytest.mark.parametrize("name", [name for name in shipped_names() if model_config(name).kind == "yolo"])
def test_model_shapes_and_size(name):
    config = with_anchors(model_config(name))
    with torch.device("meta"):
        model = build(config, CARD)
    if name == "yolo_n":
        assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    raw = model.eval()(torch.empty(2, 3, 96, 64, dtype=torch.uint8, device="meta"))
    cells = sum((96 // 2**level) * (64 // 2**level) for level in config.levels)
    predictions = cells * max(1, config.anchors_per_level if HEADS[config.head].uses_anchors else 1)
    assert raw.logits.shape == (2, predictions, 3)
    assert raw.priors.centers.shape == (predictions, 2)


PARTS = [
    *({"head": h} for h in HEADS),
    *({"neck": n} for n in NECKS),
    *({"assigner": a, "head": h} for a in ASSIGNERS for h in ("point", "anchor") if (a, h) != ("max_iou", "point")),
    *({"backbone": b} for b in ("csp_n", "resnet18", "lenet5")),
    {"levels": [4], "head": "grid", "assigner": "grid_cell", "anchors_per_level": 0},
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda p: "-".join(str(v) for v in p.values()))
def test_every_part_trains_and_answers(parts):
    torch.manual_seed(0)
    model = build(tiny(**parts), CARD).train()
    raw = model(images())
    assert isinstance(raw, HeadOutput)
    terms = model.loss(raw, TRUTH)
    loss = total(terms)
    assert loss.isfinite() and loss > 0
    loss.backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []
    model.eval()
    found = model.postprocess(model(images()), Postprocess(score=0.0, limit=5))
    assert len(found) == 2 and all(len(d) == 5 for d in found)
    assert (found[0].scores.diff() <= 0).all()


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_without_objects_trains(head):
    model = build(tiny(head=head), CARD).train()
    terms = model.loss(model(images()), [target(), target()])
    loss = total(terms)
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert all(p.grad is not None for p in model.parameters())


def test_crowd_regions_cost_nothing():
    """Predictions inside a crowd region are neither right nor wrong: with all ignored no loss is left."""
    model = build(tiny(), CARD).train()
    crowd = [target((-50, -50, 200, 200, 0), crowd=True)] * 2
    assert total(model.loss(model(images()), crowd)) == 0


@pytest.mark.parametrize("head", ["point", "grid", *slowly("anchor", "pico")])
def test_training_moves_predictions_onto_the_objects(head):
    torch.manual_seed(0)
    parts = {"levels": [4], "assigner": "grid_cell", "anchors_per_level": 0} if head == "grid" else {}
    model = build(tiny(head=head, **parts), CARD).train()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        total(model.loss(model(images()), TRUTH)).backward()
        optimizer.step()
    found = model.postprocess(model(images()), Postprocess(score=0.2))
    assert sorted(found[0].labels.unique().tolist()) == [1, 2]
    best = found[0][found[0].labels == 1][:1].boxes[0]
    assert (best - TRUTH[0].boxes[0]).abs().max() < 8
    assert len(found[1]) == 0


def test_lean_gives_the_same_answers_and_leaves_the_model_alone():
    torch.manual_seed(0)
    model = build(tiny(backbone="resnet18"), CARD)
    with torch.no_grad():
        for _ in range(3):
            model(images(4))  # statistics that are not the initial ones
        before = {k: v.clone() for k, v in model.state_dict().items()}
        fused = model.fused()
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
        expected, got = model.eval()(images()), fused(images())
    assert torch.allclose(expected.logits, got.logits, atol=1e-3)
    assert torch.allclose(expected.regression, got.regression, atol=1e-3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_numbers_follow_the_pixels_of_the_card():
    plain = build(tiny(), CARD)
    other = Preprocess(order="BGR", scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    metadata = dataclasses.replace(CARD, preprocess=other)
    x = images(1, 32, 32)
    assert torch.allclose(plain.preprocess(x), x / 255)
    bgr = x.flip(1) / 255
    expected = (bgr - torch.tensor(other.mean).view(1, 3, 1, 1)) / torch.tensor(other.std).view(1, 3, 1, 1)
    assert torch.allclose(build(tiny(), metadata).preprocess(x), expected, atol=1e-6)
    grey = build(tiny(in_channels=1), CARD)
    assert torch.allclose(grey.preprocess(x), x.float().mean(1, keepdim=True) / 255)


def test_keep_limits_and_filters_classes():
    model = build(tiny(), CARD).eval()
    raw = model(images(1))
    some = model.postprocess(raw, Postprocess(score=0.0, limit=20, classes=(2,)))[0]
    assert set(some.labels.tolist()) == {2} and len(some) == 20
    agnostic = model.postprocess(raw, Postprocess(score=0.0, iou=0.0, agnostic=True))[0]
    lows, highs = agnostic.boxes[:, None, :2], agnostic.boxes[:, None, 2:]
    overlap = (
        (torch.minimum(highs, highs.transpose(0, 1)) - torch.maximum(lows, lows.transpose(0, 1))).clamp(0).prod(-1)
    )
    assert (overlap.fill_diagonal_(0) == 0).all()
    soft = model.postprocess(raw, Postprocess(score=0.0, limit=7, soft=True))[0]
    assert len(soft) == 7 and (soft.scores.diff() <= 1e-6).all()


def test_weights_file_round_trip(tmp_path):
    model = build(tiny(head="anchor"), dataclasses.replace(CARD, keypoint_names=["nose"], flip_pairs=[[0, 0]])).eval()
    path = tmp_path / "w.safetensors"
    save_weights(path, model)
    again = load_weights(path)
    assert (again.metadata, again.config) == (model.metadata, model.config)
    assert torch.equal(again(images()).logits, model(images()).logits)
    first = path.read_bytes()
    save_weights(path, model)
    assert path.read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x04]q."])
def test_a_file_that_is_no_weights_file_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors"):
        read_weights(path)


def test_weights_of_other_software_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="not one of gridhead's"):
        read_weights(tmp_path / "w.safetensors")


def test_transfer_takes_what_fits_and_names_the_rest():
    source, other = build(tiny(), CARD), build(tiny(), ModelMetadata(["x"], [1]))
    taken, left, extra = transfer(other, source.state_dict())
    assert {k.split(".")[0] for k in left} == {"head"} and all("classify" in k for k in left) and not extra
    assert torch.equal(other.state_dict()[taken[0]], source.state_dict()[taken[0]])


def test_an_assigner_that_needs_anchors_refuses_a_head_without():
    with pytest.raises(UserError, match="max_iou"):
        build(tiny(head="point", assigner="max_iou"), CARD)


@pytest.mark.parametrize("part", ["backbone", "neck", "head", "assigner"])
def test_unknown_parts_are_named(part):
    with pytest.raises(UserError, match="unknown"):
        build(dataclasses.replace(YoloConfig(), **{part: "nothing"}), CARD)


def test_a_wrong_number_of_anchors_is_refused():
    with pytest.raises(UserError, match="3 levels of 3 anchors, but 1 are listed"):
        build(dataclasses.replace(YoloConfig(head="anchor"), anchors=[[1.0, 2.0]]), CARD)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_and_activation_are_joined_without_a_trace_in_the_numbers(act, dtype):
    if dtype == torch.bfloat16 and not has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    torch.manual_seed(0)
    plain = nn.Sequential(Conv(4, 8, act=act), Conv(8, 8, 3, 2, act, groups=2)).eval().requires_grad_(False)
    fold(plain)
    joined = copy.deepcopy(plain)
    fuse(joined)
    assert all(isinstance(m, Fused) for m in joined) == (act in ("silu", "relu", "hardswish", "identity"))
    for shape in ((1, 4, 9, 13), (3, 4, 16, 8)):  # the weights are laid out for the first one
        x = torch.randn(shape).to(dtype, memory_format=torch.channels_last)
        with autocast(torch.device("cpu"), dtype):
            assert torch.allclose(plain(x), joined(x), atol=1e-4 if dtype == torch.float32 else 0.05)


def test_ready_gives_the_answers_of_lean(monkeypatch):
    model = build(tiny(), CARD)
    monkeypatch.setattr("detect.models.base.use_fused", lambda dtype: False)
    assert not any(isinstance(m, Fused) for m in model.for_inference(torch.device("cpu"), torch.float32).modules())
    monkeypatch.setattr("detect.models.base.use_fused", lambda dtype: True)
    fused, ready = model.fused(), model.for_inference(torch.device("cpu"), torch.float32)
    assert any(isinstance(m, Fused) for m in ready.modules())
    assert not any(isinstance(m, Fused) for m in fused.modules())  # what is exported
    with torch.no_grad():
        expected, got = fused(images()), ready(images())
    assert torch.allclose(expected.logits, got.logits, atol=1e-4)
    assert torch.allclose(expected.regression, got.regression, atol=1e-4)
