"""Sliding windows: where they lie, the convolutional form of networks, the model, its samples, the commands."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from anchors.assign import pad_targets
from anchors.boxes import iou
from anchors.grid import Priors
from anchors.windows import assign, slid, square_iou
from detect.errors import UserError
from detect.models.backbones import build_network
from detect.models.backbones.fully_convolutional import convolutional
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.sliding_window import SlidingWindowConfig, WindowLossConfig
from detect.models.sliding_window import HARD, NEGATIVE, POSITIVE, SMOOTH_L1_BETA, hardest
from detect.models.weights import load_weights, save_weights
from detect.types import HeadOutput, Postprocess, Target
from tests.reference import windows as naive
from tools.backbones import SMALLEST

pytestmark = pytest.mark.usefixtures("one_thread")

CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=96)
LOSS = WindowLossConfig(box=1.0, classes=1.0)
SLIDING = SlidingWindowConfig(name="sliding_window", backbone="lenet5", loss=LOSS)
CPU = ["--device", "cpu", "--precision", "float32", "--workers", "0"]


def sliding(**changes):
    torch.manual_seed(0)
    return build(dataclasses.replace(SLIDING, **changes), CARD).eval()


def random_images(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def target(*rows, crowd=False, side=32):
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([int(row[4]) for row in rows], dtype=torch.int64)
    return Target(boxes, labels, torch.full((len(rows),), crowd), 0, (side, side))


def pad_all(*targets):
    return pad_targets([(t.boxes, t.labels, t.crowd) for t in targets])


# Where windows lie and what they answer for


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 9))
@settings(deadline=None)
def test_windows_are_those_of_the_naive_twin_and_leave_less_than_a_step(height, width, side, step):
    found = slid((height, width), side, step)
    assert found.tolist() == naive.slid(height, width, side, step)
    if len(found):
        left, top = width - found[:, 2].max(), height - found[:, 3].max()
        assert 0 <= left < step and 0 <= top < step
    else:
        assert found.shape == (0, 4) and min(height, width) < side


corner, length = st.floats(-20, 60), st.floats(0, 40)


@given(st.tuples(corner, corner, length, length), st.tuples(corner, corner, st.floats(0.5, 40)))
@settings(deadline=None)
def test_the_fit_of_a_window_is_that_of_the_naive_twin(box, window):
    box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    window = [window[0], window[1], window[0] + window[2], window[1] + window[2]]
    got = square_iou(torch.tensor([box], dtype=torch.float64), torch.tensor([window], dtype=torch.float64))
    assert got.shape == (1, 1) and got.item() == pytest.approx(naive.square_iou(box, window), abs=1e-6)


def test_the_fit_of_a_square_is_its_iou_and_of_a_long_box_that_of_its_square():
    windows = slid((96, 96), 32, 8)
    square = torch.tensor([[10.0, 20, 44, 54]])
    assert torch.allclose(square_iou(square, windows), iou(square, windows))
    flat = torch.tensor([[8.0, 30, 40, 34]])  # any window of its side that holds it shows it as well
    fits = square_iou(flat, windows)[0]
    holds = (windows[:, 0] == 8) & (windows[:, 1] <= 30) & (windows[:, 3] >= 34)
    assert holds.sum() == 3 and (fits[holds] == 1).all() and (fits[~holds] < 1).all()
    assert square_iou(torch.zeros(2, 0, 4), windows).shape == (2, 0, len(windows))


def test_a_window_answers_for_what_it_fits_best_and_for_none_far_from_all_and_in_no_crowd():
    boxes = torch.tensor([[0.0, 0, 32, 32], [10, 0, 42, 32], [16, 0, 48, 32], [60, 60, 92, 92], [120, 0, 152, 32]])
    priors = Priors((boxes[:, :2] + boxes[:, 2:]) / 2, torch.full((5,), 4.0), boxes)
    seen = [target((0, 0, 32, 32, 1), (8, 0, 40, 32, 2)), target(), target((100, -20, 160, 60, 0), crowd=True)]
    index = assign(priors, pad_all(*seen), 0.7, 0.4)
    assert index.tolist() == [[0, 1, -2, -1, -1], [-1] * 5, [-1, -1, -1, -1, -2]]
    assert assign(priors, pad_all(target(), target()), 0.7, 0.4).tolist() == [[-1] * 5] * 2
    with pytest.raises(ValueError, match="no"):
        assign(priors._replace(boxes=None), pad_all(target()), 0.7, 0.4)


# The convolutional form


SLOW_WINDOWS = [
    pytest.param(*one, marks=pytest.mark.slow) for one in (("lenet5", 52), ("vgg11", 224), ("resnet18", 435))
]


@pytest.mark.parametrize(
    ("name", "window"),
    [("lenet5", 32), ("alexnet", 227), ("nin", 224), *SLOW_WINDOWS],
)
def test_without_padding_one_pass_says_what_the_crops_say(name, window):
    """Dense layers over crops, one by one, and convolutions over the image, at several sizes of it."""
    torch.manual_seed(0)
    plain = build_network(name, 4, 1, "valid").eval()
    slides, step = convolutional(copy.deepcopy(plain), window), plain.stride
    assert any(isinstance(m, nn.Linear) for m in plain.modules()) or name == "nin"
    assert not any(isinstance(m, nn.Linear) for m in slides.modules())
    for height, width in ((window, window), (window + 3, window + step + 1), (window + 2 * step - 1, window + step)):
        image = torch.rand(1, height, width)
        with torch.no_grad():
            expected = naive.answers(plain, image, window, step)
            got = slides(image[None]).logits[0].permute(1, 2, 0)
        rows, columns = expected.shape[:2]
        assert (rows, columns) == ((height - window) // step + 1, (width - window) // step + 1)
        assert (got[:rows, :columns] - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "window"), [("resnet18", 64), ("lenet5", 20), ("mobilenet_v3_small", 64)])
def test_of_a_single_window_it_says_what_the_network_said_with_padding_too(name, window):
    torch.manual_seed(0)
    plain = build_network(name, 4, 3, "same").eval()
    slides = convolutional(copy.deepcopy(plain), window)
    with torch.no_grad():
        image = torch.rand(2, 3, window, window)
        assert torch.allclose(plain(image).logits, slides(image).logits[..., 0, 0], atol=1e-4)


@pytest.mark.parametrize(
    "backbone",
    SMALLEST,
)
def test_every_family_has_a_convolutional_form(backbone):
    with torch.device("meta"):
        net = build_network(backbone, 3, 3, "paper").eval()
        net.drop_aux()
        out = convolutional(net, net.size)(torch.empty(1, 3, net.size + 2 * net.stride, net.size)).logits
    assert out.shape[:2] == (1, 3) and out.shape[2] >= 3 and out.shape[3] >= 1


def test_a_window_that_cannot_be_is_named():
    with pytest.raises(UserError, match=r"window 31 will not do for lenet5: .* 4 x 4 cells, no multiple of 5; .* 32"):
        sliding(window=31)
    with pytest.raises(UserError, match=r"window 3 .* 0 x 0 cells"):
        sliding(window=3)
    with pytest.raises(UserError, match="googlenet cannot do without padding"):
        sliding(backbone="googlenet", window=224)
    net = build_network("lenet5", 3)
    net.neck.append(nn.AdaptiveMaxPool2d(2))
    with pytest.raises(ValueError, match="no convolutional form"):
        convolutional(net, 32)


def test_a_network_that_ends_early_says_of_every_window_what_it_says_of_its_crop():
    """VGG-11 without padding, up to its stage of stride 4: windows 4 pixels apart."""
    torch.manual_seed(0)
    model = sliding(backbone="vgg11", window=40, output_stride=4, hidden=[16], regress=False).eval()
    assert model.step == 4 and len(list(model.network.head)) == 1
    image = torch.randint(0, 256, (1, 3, 53, 61), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(model(image).logits, model.by_crops(image).logits, atol=1e-4)
        assert model(image).logits.shape[1] >= 4 * 6


def test_a_step_that_no_stage_has_is_named():
    with pytest.raises(UserError, match=r"csp_n: its strides are \[4, 8, 16, 32\], not 6"):
        sliding(backbone="csp_n", padding="same", output_stride=6)
    with pytest.raises(UserError, match=r"--model.hidden is read with --model.output-stride alone"):
        dataclasses.replace(SLIDING, hidden=[16]).validate()
    with pytest.raises(UserError, match="nothing is left"):
        sliding(backbone="vgg11", window=4, output_stride=16)


# The model


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (75, 96), (120, 40), (20, 96), (7, 5)])
@pytest.mark.parametrize("regress", [True, False])
def test_both_forms_say_the_same_of_every_window_of_the_pyramid(size, regress):
    model = sliding(regress=regress)
    images = random_images(2, *size)
    with torch.no_grad():
        one, other = model(images), model.by_crops(images)
    count = len(one.priors.boxes)
    assert count >= 1 and one.logits.shape == (2, count, 4) and one.regression.shape == (2, count, 4 * regress)
    assert (one.logits - other.logits).abs().max() < 1e-4
    assert torch.equal(one.priors.boxes, other.priors.boxes)
    if regress:
        assert (one.regression - other.regression).abs().max() < 1e-4


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([1.1, 1.26, 2.0]))
@settings(deadline=None, max_examples=25)
def test_the_pyramid_goes_down_to_one_window_and_boxes_are_those_of_its_levels(height, width, step):
    with torch.device("meta"):
        model = sliding(scale_step=step)
    got = [(tuple(level.shape[2:]), scale) for level, scale in model._levels(random_images(1, height, width))]
    expected, shrunk = [], 1.0
    while not expected or max(height, width) / shrunk >= 32 - 1e-6:
        h, w = max(1, round(height / shrunk)), max(1, round(width / shrunk))
        expected.append(((max(32, h), max(32, w)), (width / w, height / h)))
        shrunk *= step
    assert got == expected
    boxes = torch.cat([torch.tensor(naive.slid(*size, 32, 4)) * torch.tensor(scale * 2) for size, scale in expected])
    raw = model(random_images(1, height, width).to("meta"))
    assert raw.logits.shape == (1, len(boxes), 4) and raw.priors.centers.shape == (len(boxes), 2)
    assert (boxes[:, :2] < torch.tensor([width, height])).all()  # each begins within the image


def test_a_image_smaller_than_a_window_is_padded_up_to_it():
    model = sliding()
    small = random_images(1, 20, 12)
    whole = torch.full((1, 3, 32, 32), CARD.preprocess.pad, dtype=torch.uint8)
    whole[..., :20, :12] = small
    with torch.no_grad():
        got, expected = model(small), model(whole)
    assert torch.allclose(got.logits, expected.logits, atol=1e-5) and got.priors.boxes.tolist() == [[0, 0, 32, 32]]


def test_boxes_are_windows_moved_by_what_the_network_says():
    codes = torch.tensor([[[0.0, 0, 0, 0], [0.25, -0.5, 0, 0.125]]])
    windows = torch.tensor([[0.0, 0, 32, 32], [16, 32, 80, 96]])
    raw = HeadOutput(torch.zeros(1, 2, 4), codes, Priors(torch.zeros(2, 2), torch.ones(2), windows))
    boxes, scores = sliding().candidates(raw)
    assert boxes.tolist() == [[[0, 0, 32, 32], [32, 0, 80, 104]]] and scores.shape == (1, 2, 3)
    assert torch.allclose(scores, torch.full((1, 2, 3), 0.25))
    boxes, _ = sliding(regress=False).candidates(raw._replace(regression=torch.zeros(1, 2, 0)))
    assert torch.equal(boxes[0], windows)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=12), st.integers(0, 14), st.data())
@settings(deadline=None)
def test_the_hardest_are_those_of_the_naive_twin(losses, count, data):
    among = data.draw(st.lists(st.booleans(), min_size=len(losses), max_size=len(losses)))
    got = hardest(torch.tensor(losses), torch.tensor(among, dtype=torch.bool), torch.tensor(count))
    assert got.tolist() == naive.hardest(losses, among, count)


@pytest.mark.parametrize("size", [32, 75])
def test_the_loss_is_that_of_the_windows_with_objects_and_of_the_hardest_without(size):
    model = sliding(loss=WindowLossConfig(box=2.0, classes=3.0, class_weights=[1.0, 5.0, 0.5]))
    raw = model(random_images(3, size, size))
    seen = [target((2, 3, 30, 31, 1), (4, 4, 20, 36, 2)), target(), target((0, 0, 200, 200, 0), crowd=True)]
    index = assign(raw.priors, pad_all(*seen), POSITIVE, NEGATIVE)
    each, boxes, hard = [], [], []
    for b, a in np.ndindex(*index.shape):
        i = int(index[b, a])
        label = int(seen[b].labels[i]) if i >= 0 else 3
        loss = cross_entropy(raw.logits[b, a], torch.tensor(label)).item()
        if i >= 0:
            each.append((loss, [1.0, 5.0, 0.5][label]))
            window = raw.priors.boxes[a]
            expected = (seen[b].boxes[i] - window) / (window[2] - window[0])
            boxes.append(smooth_l1_loss(raw.regression[b, a], expected, beta=SMOOTH_L1_BETA, reduction="sum").item())
        elif i == -1:
            hard.append(loss)
    each += [(loss, 1.0) for loss in sorted(hard, reverse=True)[: HARD * len(boxes)]]
    assert boxes and hard
    terms, count = model.loss(raw, seen), sum(w for _, w in each)
    assert terms["classes"].count == terms["box"].count == pytest.approx(count)
    assert terms["classes"].total.item() == pytest.approx(3 * sum(v * w for v, w in each), rel=1e-4)
    assert terms["box"].total.item() == pytest.approx(2 * sum(boxes), rel=1e-4)


@pytest.mark.parametrize("regress", [True, False])
@pytest.mark.parametrize("objects", [True, False])
def test_it_trains_on_windows_with_objects_and_without_any(regress, objects):
    model = sliding(regress=regress).train()
    seen = [target((0, 0, 32, 32, 2)) if objects else target(), target()]
    terms = model.loss(model(random_images(2, 32, 32)), seen)
    assert set(terms) == ({"classes", "box"} if regress else {"classes"})
    total = sum(t.total / t.count for t in terms.values())
    total.backward()
    assert total.isfinite() and total > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    everything = [target((0, 0, 32, 32, 0))] * 2  # no background to be had
    assert model.loss(model(random_images(2, 32, 32)), everything)["classes"].count == 2


def test_it_learns_objects_of_two_sizes_and_finds_them_in_a_larger_image():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = sliding().train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def scene(side, *objects):
        image = rng.integers(100, 130, (3, side, side))
        for x0, y0, x1, y1, label in objects:
            image[label, y0:y1, x0:x1] = 250
        return torch.from_numpy(image.astype(np.uint8))

    for _ in range(150):
        images, targets = [], []
        for i in range(16):
            far, half = ((2, 14), (26, 14), (26, 28), (12, 6))[i % 4]  # in the middle, aside, too large, too small
            x, y = (rng.integers(-far, far + 1, 2) + 16).tolist()
            box = (x - half, y - half * 2 // 3, x + half, y + half * 2 // 3, int(rng.integers(3)))
            cut = [min(max(int(v), 0), 32) for v in box[:4]]
            images.append(scene(32, (*cut, box[4])))
            targets.append(target(box))
        optimizer.zero_grad()
        terms = model.loss(model(torch.stack(images)), targets)
        sum(t.total / t.count for t in terms.values()).backward()
        optimizer.step()
    objects = [(20, 30, 48, 48, 1), (60, 60, 116, 96, 2)]
    with torch.inference_mode():
        raw = model.eval()(scene(128, *objects)[None])
    found = model.postprocess(raw, Postprocess(score=0.5, iou=0.3))[0]
    for x0, y0, x1, y1, label in objects:
        ours = found[found.labels == label]
        assert len(ours) and iou(ours.boxes[:1], torch.tensor([[x0, y0, x1, y1]]).float()) > 0.4
    assert len(found[found.labels == 0]) == 0


def test_the_lean_copy_and_the_weights_file_say_the_same(tmp_path):
    model, images = sliding(), random_images(1, 64, 96)
    save_weights(tmp_path / "w.safetensors", model)
    again = load_weights(tmp_path / "w.safetensors")
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(again(images).logits, expected.logits)
        for copied in (model.fused(), model.for_inference(torch.device("cpu"), torch.float32)):
            assert torch.allclose(copied(images).logits, expected.logits, atol=1e-4)
