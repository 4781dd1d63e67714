"""Float16 and int8 files of masks, oriented boxes and classes of pixels, made of trained weights, judged by these."""

import json
import re

import numpy as np
import pytest
import torch

from detect.__main__ import main
from detect.cli.parser import parse
from detect.data.rng import SampleKey
from detect.data.sources.formats import load_data
from detect.data.toy import build as toy
from detect.export.comparison import matched_share, matching_boxes, on_canvas
from detect.export.metadata import About
from detect.masks import RleMasks
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.weights import save_weights
from detect.semantic import CanvasScores
from detect.tasks import get_task
from detect.types import Detections, Preprocess

STEPS = {"yolo_n_seg": 120, "yolo_n_obb": 120, "unet": 60}


def detections(dense: list[np.ndarray]) -> Detections:
    """Equal boxes of one class, with masks of their own."""
    count = len(dense)
    boxes = torch.tensor([[4.0, 4, 36, 36]]).expand(count, 4).contiguous()
    masks = RleMasks.of(np.stack(dense))
    return Detections(boxes, torch.linspace(0.9, 0.5, count), torch.zeros(count).long(), masks=masks)


def test_masks_decide_where_boxes_are_equal():
    whole = np.zeros((40, 40), bool)
    whole[4:36, 4:36] = True
    left, most = whole.copy(), whole.copy()
    left[:, 20:] = False
    most[:, 34:] = False
    assert matching_boxes(detections([whole]), detections([most]), 0.9) == 1
    assert matching_boxes(detections([whole]), detections([left]), 0.7) == 0
    assert matching_boxes(detections([whole, left]), detections([left, whole]), 0.9) == 2
    assert matching_boxes(detections([whole]), detections([whole & False]), 0.1) == 0


def test_classes_of_pixels_are_compared_as_a_file_returns_them():
    scores = torch.zeros(3, 40, 60)
    scores[2], scores[0, :20], moved = 0.5, 1, torch.zeros(3, 40, 60)
    moved[2], moved[0, 20:] = 0.5, 1
    about = About("m", "semantic", ModelMetadata(["a", "b"], [1, 2], 64), ["logits"], precision="float16")
    one, other = (on_canvas([CanvasScores(x)], torch.zeros(1, 3, 40, 60)) for x in (scores, moved))
    assert matched_share(about, one, one) == (1.0, 2) and matched_share(about, one, other) == (0.0, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight images of digits of one class, for training and validation alike."""
    folder = toy(tmp_path_factory.mktemp("one") / "digits", train=8, val=1, size=96)
    content = json.loads((folder / "instances_train.json").read_text())
    content["categories"] = [{"id": 1, "name": "digit"}]
    for record in content["annotations"]:
        record["category_id"] = 1
    (folder / "one.json").write_text(json.dumps(content))
    part = "{annotations: one.json, images: .}"
    (folder / "data.yaml").write_text(f"train: {part}\nval: {part}\n")
    return folder / "data.yaml"


def trained(kind: str, data, out) -> None:
    """Weights that know the images of the set, of a loop without augmentation."""
    torch.manual_seed(0)
    config = parse("train", ["--model", kind, "--data", str(data), "--imgsz", "96", "--augment.on", "false"])
    task = get_task(config.model.task)
    annotations = task.outlines(load_data(data, "train"), False)
    samples = task.training_data(annotations, config, Preprocess(), 1.0)
    images, targets = zip(*(samples[SampleKey(0, i, 96)] for i in range(len(annotations))), strict=True)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    model = build(config.model, ModelMetadata(annotations.names, [1], size=96)).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(STEPS[kind]):
        optimizer.zero_grad()
        sum(term.total / term.count.clamp_min(1) for term in model.loss(model(batch), targets).values()).backward()
        optimizer.step()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5  # the statistics of these weights, not of those on the way
    with torch.no_grad():
        for _ in range(8):
            model(batch)
    save_weights(out, model.eval())


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEPS)
def test_float16_and_int8_files_of_trained_weights_pass_their_check(kind, data, tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    weights = tmp_path / "w.safetensors"
    trained(kind, data, weights)
    metric = get_task({"yolo_n_seg": "segment", "yolo_n_obb": "obb", "unet": "semantic"}[kind]).metric
    exclude = ["--int8-exclude", "auto"] if kind == "yolo_n_obb" else []  # as the refusal of --int8 alone says
    for flags in (["--half"], ["--int8", *exclude]):
        said = []
        out = tmp_path / f"m{flags[0]}.onnx"
        status = main(["export", "--weights", str(weights), "--data", str(data), "--out", str(out), *flags])
        said.append("".join(capfd.readouterr()))
        print(kind, flags, said)
        assert status == 0, said
        share = re.search(r"([\d.]+)% of [\d.]+ detections match", said[0])
        assert share and float(share[1]) >= (95 if flags == ["--half"] else 80)
        if flags[0] == "--int8":
            *_, last = re.findall(
                rf"{metric} ([\d.]+) in float32, ([\d.]+) in int8", said[0]
            )  # with all that is left out
            before, after = map(float, last)
            assert before > 0.3 and after >= before - 0.0105
