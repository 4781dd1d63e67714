"""Semantic segmentation: U-Net and its losses, class maps in pixels of the source, exact counts."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, jaccard_score
from torch.nn.functional import conv_transpose2d, cross_entropy, interpolate

from detect.__main__ import main
from detect.cli.parser import parse
from detect.data.annotations import Annotations
from detect.data.letterbox import Letterbox, in_source
from detect.data.outlines import Outlines
from detect.data.pixel_labels import image_labels, layered, require_pixels, with_label_map
from detect.data.rng import SampleKey
from detect.data.sources.coco import load_coco
from detect.errors import UserError
from detect.evaluation.semantic import SemanticEvaluator, pixel_classes, semantic_lines
from detect.masks import RleMasks
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.losses.pixels import dice_loss, pixel_cross_entropy
from detect.semantic import IGNORED, CanvasScores, SemanticMap, enlarged_labels, matching_classes
from detect.tasks import get_task
from detect.types import Postprocess, Preprocess, Target

CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=96)
PAPER = {"backbone": "unet_encoder:width=4", "levels": [0, 1, 2, 3, 4], "width": 4}
MOBILE = {"backbone": "mobilenet_v3_small", "levels": [1, 2, 3, 4, 5], "width": 8}
PLANS = [{"width": 8}, PAPER, MOBILE, {"levels": [3]}]


def unet(**changes):
    torch.manual_seed(0)
    return build(dataclasses.replace(model_config("unet"), **changes), CARD)


def target(labels: torch.Tensor) -> Target:
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    return Target(*nothing, 0, (labels.shape[0], labels.shape[1]), label_map=labels)


def squares(height=64, width=64):
    """An image (3, H, W) with a bright square of class b and a dark one of class c, and its label map."""
    image = torch.full((3, height, width), 90, dtype=torch.uint8)
    labels = torch.full((height, width), 3, dtype=torch.uint8)
    for label, value, top, left in ((1, 250, 5, 9), (2, 10, 30, 38)):
        image[:, top : top + 22, left : left + 18] = value
        labels[top : top + 22, left : left + 18] = label
    return image, labels


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.get("backbone", "csp_n"))
def test_every_pixel_gets_scores_whatever_the_canvas(plan):
    model = unet(**plan).train()
    images = torch.randint(0, 256, (2, 3, 72, 90), dtype=torch.uint8)  # no multiple of the strides
    raw = model(images)
    assert raw.logits.shape == (2, 4, 72, 90)
    labels = torch.randint(0, 4, (72, 90), dtype=torch.uint8)
    terms = model.loss(raw, [target(labels)] * 2)
    sum(term.total for term in terms.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(images).logits, model.fused()(images).logits, atol=1e-4)


def test_with_its_own_contracting_path_it_is_the_papers_network_but_for_padding_and_normalization():
    """31.0 M parameters: 9 pairs of 3x3 convolutions, 4 transposed ones, a 1x1; two classes."""
    widths = [64, 128, 256, 512, 1024]
    pairs = [*zip([3, *widths], widths, strict=False), *((2 * width, width) for width in widths[:-1])]
    count = sum(9 * a * b + 9 * b * b + 4 * b for a, b in pairs)
    count += sum(4 * 2 * width * width + width for width in widths[:-1]) + 64 * 2 + 2
    config = dataclasses.replace(model_config("unet"), backbone="unet_encoder", levels=[0, 1, 2, 3, 4], width=64)
    with torch.device("meta"):
        model = build(config, ModelMetadata(["cell"], [1]))
    assert sum(p.numel() for p in model.parameters()) == count == 31_037_698


def test_a_transposed_convolution_by_the_numbers_of_the_course():
    image, kernel = torch.tensor([[2.0, 1], [3, 2]]), torch.tensor([[1.0, 2, 1], [2, 0, 1], [0, 2, 1]])
    found = conv_transpose2d(image[None, None], kernel[None, None], stride=2, padding=1, output_padding=1)[0, 0]
    canvas = torch.zeros(6, 6)
    for i in range(2):
        for j in range(2):
            canvas[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += image[i, j] * kernel
    assert torch.equal(found, canvas[1:5, 1:5])
    assert found.tolist() == [[0, 4, 0, 1], [10, 7, 6, 3], [0, 7, 0, 2], [6, 3, 4, 2]]


def test_it_learns_where_the_classes_are():
    model = unet(width=8).train()
    image, labels = squares()
    images, targets = image[None].repeat(2, 1, 1, 1), [target(labels)] * 2
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(15):
        optimizer.zero_grad()
        sum(term.total for term in model.loss(model(images), targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        found = model(images).logits.argmax(1)[0]
    assert (found == labels).float().mean() > 0.95


def test_losses_are_those_of_their_formulas():
    torch.manual_seed(0)
    logits, weights = torch.randn(2, 4, 5, 6), torch.tensor([1.0, 2.0, 0.5, 1.0])
    labels = torch.randint(0, 3, (2, 5, 6))
    labels[0, 0] = IGNORED
    losses = pixel_cross_entropy(logits, labels, weights)
    for i in range(2):
        assert torch.allclose(losses[i], cross_entropy(logits[i : i + 1], labels[i : i + 1], weights, ignore_index=255))
    share, dice = logits.softmax(1), []
    for label in range(3):  # class 3 is not there
        hits = sum(share[b, label, y, x] for b, y, x in torch.nonzero(labels == label).tolist())
        total = sum(share[b, label, y, x] for b, y, x in torch.nonzero(labels != IGNORED).tolist())
        dice.append(1 - 2 * hits / ((labels == label).sum() + total))
    assert torch.allclose(dice_loss(logits, labels), torch.stack(dice).mean())
    nothing = torch.full((2, 5, 6), IGNORED)
    assert dice_loss(logits, nothing) == 0 and pixel_cross_entropy(logits, nothing, weights).sum() == 0


@pytest.mark.parametrize("size", [(300, 777), (20, 31), (48, 64), (1, 1)])
def test_scores_are_interpolated_before_classes_are_chosen(size):
    scores = torch.randn(5, 48, 64, generator=torch.Generator().manual_seed(0))
    expected = interpolate(scores[None], size=size, mode="bilinear")[0]
    best = expected.gather(0, enlarged_labels(scores, size)[None].long())[0]
    assert torch.allclose(best, expected.max(0).values, atol=1e-5)


def test_class_maps_are_in_pixels_of_the_source():
    fit = Letterbox.fit((50, 200), 100)
    scores = torch.zeros(3, *fit.canvas)
    scores[2] = 0.5
    scores[0, fit.top : fit.top + 10, fit.left : fit.left + 25] = 1  # the upper left 20 x 50 pixels
    scores[1, : fit.top] = 9  # the border of the canvas is no part of the image
    found = in_source(CanvasScores(scores), fit)
    assert found.labels.shape == (50, 200) and found.background == 2
    assert (found.labels[:19, :49] == 0).all() and (found.labels[21:] == 2).all() and (found.labels[:, 51:] == 2).all()
    assert in_source(CanvasScores(scores, classes=(1,)), fit).areas() == {}
    assert matching_classes(CanvasScores(scores), CanvasScores(scores.flip(2)), 0.9) == 1  # class 0 moves away


def test_a_speck_decides_over_no_class():
    """Of 10,000 pixels a class of eight moves away, and another appears; a class of a hundred that moves is another."""
    scores = torch.zeros(4, 100, 100)
    scores[3] = 0.5
    scores[0, :40] = 1
    scores[1, 50, :8] = 1
    scores[2, 60:70, :10] = 1
    moved = scores.clone()
    moved[1] = moved[1].roll(9, 1)
    a, b = CanvasScores(scores), CanvasScores(moved)
    assert len(a) == len(b) == matching_classes(a, b, 0.95) == 3
    moved[2] = moved[2].roll(9, 1)
    assert matching_classes(a, CanvasScores(moved), 0.95) == 2


def found_map() -> SemanticMap:
    labels = torch.full((40, 60), 2, dtype=torch.uint8)
    labels[5:15, 10:30], labels[20:30, 0:60] = 0, 1
    return SemanticMap(labels, 2).described(["road", "sky"], [7, 3])


def test_a_class_map_becomes_records_text_a_table_and_an_annotated_image():
    found = found_map()
    assert found.areas() == {0: 200, 1: 600} and found.counted() == ["road", "sky"]
    assert found.text() == "road 8.3%, sky 25.0%"
    records = json.loads(json.dumps(found.to_coco(4)))
    assert [(r["image_id"], r["category_id"], r["category"], r["area"]) for r in records] == [
        (4, 7, "road", 200),
        (4, 3, "sky", 600),
    ]
    for label, record in enumerate(records):
        mask = RleMasks(tuple(record["segmentation"]["size"]), [record["segmentation"]["counts"].encode()]).decode(0)
        assert (mask == (found.labels == label).numpy()).all()
    assert found.columns()["name"] == ["road", "sky"]
    image = np.full((40, 60, 3), 100, np.uint8)
    plain = found.plot(image, hide_labels=True)
    changed = (plain != image).any(2)
    assert (changed == (found.labels != 2).numpy()).all() and (image == 100).all()
    assert (found.plot(image) != plain).any()
    assert np.bincount(found.label_image("classes").ravel()).tolist() == [1600, 200, 600]
    with pytest.raises(UserError, match="instances is for single objects, which a class map lacks: give classes"):
        found.label_image("instances")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Annotations:
    """Two images with squares of two classes, the second with a crowd region."""
    folder = tmp_path_factory.mktemp("pixels")
    square = [[10, 10, 40, 10, 40, 30, 10, 30]]
    rows = [(1, 2, [[30, 20, 50, 20, 50, 38, 30, 38]], 0), (1, 1, square, 0), (2, 1, square, 0)]
    rows.append((2, 2, Outlines.of_masks([np.pad(np.ones((9, 60), bool), ((31, 0), (0, 0)))]).segmentation(0), 1))
    annotations = [
        {
            "id": i + 1,
            "image_id": image,
            "category_id": c,
            "segmentation": s,
            "iscrowd": crowd,
            "bbox": [0, 0, 9, 9],
            "area": 9,
        }
        for i, (image, c, s, crowd) in enumerate(rows)
    ]
    images = [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in (1, 2)]
    for one in images:
        cv2.imwrite(str(folder / one["file_name"]), np.zeros((40, 60, 3), np.uint8))
    categories = [{"id": 1, "name": "road"}, {"id": 2, "name": "sky"}]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "a.json").write_text(json.dumps(whole))
    return layered(load_coco(folder / "a.json", folder))


def test_small_objects_lie_on_large_ones_and_crowds_do_not_count(data):
    first, second = (image_labels(data, i, (40, 60)) for i in range(2))
    assert (first[10:20, 10:40] == 0).all() and (first[20:38, 30:50] == 1).all() and (first[:10] == 2).all()
    assert data.labels[:2].tolist() == [0, 1] and data.ids[:2].tolist() == [2, 1]  # the larger first
    assert (second[31:] == IGNORED).all() and (second[10:30, 10:40] == 0).all() and (second[:10] == 2).all()
    made = with_label_map(dataclasses.replace(data.target(0), outlines=data.outlines[0:2]), 2)
    assert made.outlines is None and (made.label_map.numpy() == first).all()


def test_counts_are_those_of_sklearn(data):
    rng, evaluator = np.random.default_rng(0), SemanticEvaluator(data)
    truths, guesses = [], []
    for index, image_id in enumerate(data.image_ids.tolist()):
        guess = rng.integers(0, 3, (40, 60)).astype(np.uint8)
        evaluator.update([image_id], [SemanticMap(torch.from_numpy(guess), 2)])
        truth = image_labels(data, index, (40, 60))
        truths.append(truth[truth != IGNORED])
        guesses.append(guess[truth != IGNORED])
    truth, guess, result = np.concatenate(truths), np.concatenate(guesses), evaluator.result()
    assert result["confusion"] == {
        "names": ["road", "sky", "background"],
        "counts": confusion_matrix(truth, guess, labels=range(3)).tolist(),
    }
    each = jaccard_score(truth, guess, average=None)
    assert [row["IoU"] for row in result["per_class"].values()] == pytest.approx(each.tolist())
    assert result["mIoU"] == pytest.approx(each.mean())
    assert result["pixel_accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert result["mean_accuracy"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert next(iter(semantic_lines(result))).startswith(f"mIoU {result['mIoU']:.3f}  pixel_accuracy")
    other = SemanticEvaluator(data)
    other.extend(evaluator.records())
    assert other.result() == result
    with pytest.raises(ValueError, match="image id 1 was evaluated twice"):
        other.update([1], [SemanticMap(torch.from_numpy(guess[:2400].reshape(40, 60)), 2)])
    assert SemanticEvaluator(data).result()["mIoU"] == -1


def test_classes_go_by_name_and_those_that_are_not_annotated_are_background(data, capsys):
    weights = ModelMetadata(["sky", "tree", "road"], [1, 2, 3])
    labels = pixel_classes(weights, data)
    assert labels.tolist() == [1, 2, 0, 2]
    found = SemanticMap(torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8), 3).relabelled(labels)
    assert found.labels.tolist() == [[1, 2, 0, 2]] and found.background == 2
    many = dataclasses.replace(data, names=[str(i) for i in range(254)])
    with pytest.raises(UserError, match="has 254 classes: a map of pixels can have 253"):
        require_pixels(many, data)


def test_of_the_classes_those_that_are_chosen_stay():
    model = unet(width=8).eval()
    with torch.no_grad():
        raw = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    (one,) = model.postprocess(raw, Postprocess(classes=(0, 2)))
    assert set(one.labels.unique().tolist()) <= {0, 2, 3}


def test_classes_go_with_their_pixels_through_augmentation(data, tmp_path):
    """Roads are red and skies blue in the images, so that colours tell what the label map has to be."""
    drawn, colors = dataclasses.replace(data.select([0]), root=tmp_path), [(255, 0, 0), (0, 0, 255), (0, 0, 0)]
    picture = np.array(colors, np.uint8)[image_labels(data, 0, (40, 60))]
    cv2.imwrite(str(tmp_path / "1.png"), picture[..., ::-1])
    drawn = drawn.select([0] * 4)
    flags = "--task semantic --data toy --imgsz 96 --augment.rotate 20 --augment.hue 0 --augment.saturation 0"
    config = parse("train", [*flags.split(), "--augment.value", "0", "--augment.mosaic", "0.5"])
    samples = get_task("semantic").training_data(drawn, config, Preprocess(pad=0), 0.1)
    shown = np.zeros(3, int)
    for position in range(4):
        image, made = samples[SampleKey(0, position, 96)]
        labels = made.label_map.numpy()
        wanted = np.stack([image[..., 0] > 128, image[..., 2] > 128, image.max(2) < 60])
        clear = wanted.any(0) & (image.reshape(-1, 3).std() > 0)
        right = np.take_along_axis(wanted, labels[None].astype(int), 0)[0]
        assert labels.shape == (96, 96) and right[clear].mean() > 0.97
        shown += np.bincount(labels.ravel(), minlength=3)
    assert (shown > 300).all()


@pytest.mark.slow
def test_it_trains_evaluates_exports_and_predicts_like_any_other(digits, tmp_path, monkeypatch):
    """`--save-masks classes` with its classes.txt is a dataset again, and the exported file gives the same maps."""
    monkeypatch.chdir(tmp_path)
    run, image = str(tmp_path / "run"), str(next((digits / "val").glob("*.jpg")))
    data, tiny = ["--data", str(digits)], ["--imgsz", "64", "--epochs", "1", "--batch", "8", "--workers", "0"]
    assert main(["train", "--task", "semantic", *data, *tiny, "--model.width", "8", "--out", run]) == 0
    assert "IoU of the classes" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    weights = ["--weights", f"{run}/best.safetensors"]
    assert main(["evaluate", *weights, *data, "--json", "r.json", "--workers", "0"]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert 0 <= result["mIoU"] <= 1 and np.sum(result["confusion"]["counts"]) == 8 * 96 * 96
    assert main(["export", *weights, "--out", "m.onnx", "--dynamic"]) == 0
    for out, used in (("torch", weights), ("onnx", ["--weights", "m.onnx"])):
        flags = ["--source", image, "--out", out, "--save-masks", "classes", "--precision", "auto"]
        assert main(["predict", *used, *flags]) == 0
    masks = [cv2.imread(str(next((tmp_path / out / "masks").glob("*.png"))), -1) for out in ("torch", "onnx")]
    assert masks[0].shape == (96, 96) and (masks[0] == masks[1]).mean() > 0.95  # torch may compute in bfloat16
    assert main(["predict", *weights, "--source", image, "--out", "views", "--tta", "--tile"]) == 0
    assert main(["evaluate", *weights, *data, "--tta", "--tile", "--workers", "0"]) == 0
