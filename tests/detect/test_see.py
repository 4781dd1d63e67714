"""Seeing inside: fixed edges, patches beside loops and planted ones, class-activation maps, and the page."""

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.__main__ import main
from detect.data.letterbox import Letterbox
from detect.data.loader import EvalLoader
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.explain.cam import explain_predictions, grad_cam
from detect.explain.edges import EDGES, edge_similarity, edges
from detect.explain.images import filter_tile, grid, map_tile, overlay_heat
from detect.explain.top_patches import BEST, PAD, cut, layer_map, shown, sight_of_cell, tile, top_patches
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.configs.classifier import ClassifierConfig
from detect.models.receptive_field import Sight
from detect.models.weights import save_weights
from detect.types import Batch, Postprocess, Target
from tests.browser import check_look
from tests.reference import seeing as twin
from tests.reference.marks import slowly

DIGITS = [str(i) for i in range(10)]


def model_of(name, side=96, keypoints=(), seed=0):
    torch.manual_seed(seed)
    config = model_config(name)
    if missing := config.anchors_missing():
        config = config.with_anchors([[20.0, 20.0]] * missing)
    return build(config, ModelMetadata(DIGITS, list(range(1, 11)), size=side, keypoint_names=list(keypoints))).eval()


def lenet(side=32, dims=2):
    torch.manual_seed(0)
    config = ClassifierConfig(name="lenet5", backbone="lenet5", padding="paper", dims=dims)
    return build(config, ModelMetadata(DIGITS, list(range(1, 11)), size=side)).eval()


# Edges


def answer(layer, image):
    """What a filter makes of an image, rows of numbers: whole ones, but for how sums are rounded."""
    return layer(image)[0, 0].round(decimals=3).tolist()


def test_edge_filters_give_the_numbers_worked_by_hand():
    rows = [[3, 0, 1, 2, 7, 4], [1, 5, 8, 9, 3, 1], [2, 7, 2, 5, 1, 3], [0, 1, 3, 1, 7, 8], [4, 2, 1, 6, 2, 8]]
    image = torch.tensor([*rows, [2, 4, 5, 2, 3, 9]]).float()[None, None]
    expected = [[-5, -4, 0, 8], [-10, -2, 2, 3], [0, -2, -4, -7], [-3, -2, -3, -16]]
    assert answer(edges("vertical"), image) == expected


@pytest.mark.parametrize(("name", "height"), [("vertical", 30), ("sobel_vertical", 40), ("scharr_vertical", 160)])
def test_an_edge_has_a_sign_and_its_transpose_another_direction(name, height):
    image = torch.zeros(1, 1, 6, 6)
    image[..., :3] = 10
    turned = name.replace("vertical", "horizontal")
    assert answer(edges(name), image) == [[0, height, height, 0]] * 4
    assert answer(edges(name), image.flip(3)) == [[0, -height, -height, 0]] * 4
    assert answer(edges(turned), image.mT) == [[0] * 4, [height] * 4, [height] * 4, [0] * 4]
    assert answer(edges(turned), image) == [[0] * 4] * 4


def test_quarters_and_one_colour():
    image = torch.zeros(1, 1, 6, 6)
    image[..., :3, :3] = image[..., 3:, 3:] = 10
    assert answer(edges("horizontal"), image) == [[0] * 4, [30, 10, -10, -30], [30, 10, -10, -30], [0] * 4]
    colours = torch.cat([torch.zeros_like(image), image, image], 1)
    assert answer(edges("horizontal", (1, 0, 0)), colours) == [[0] * 4] * 4
    assert answer(edges("horizontal", (1, 0, 0)), colours.flip(1)) == answer(edges("horizontal"), image)


def test_edges_are_fixed_and_keep_the_size_where_padded():
    for name in EDGES:
        layer = edges(name, (1 / 3,) * 3, padding=1)
        assert not any(p.requires_grad for p in layer.parameters())
        assert layer(torch.full((1, 3, 5, 7), 0.5)).abs().max() < 1e-5  # the border is no edge
        assert layer(torch.zeros(1, 3, 5, 7)).shape == (1, 1, 5, 7)
    with pytest.raises(UserError, match="unknown edge filter 'sobel_verical': did you mean 'sobel_"):
        edges("sobel_verical")


def test_a_filter_is_like_itself_unlike_its_opposite_and_the_other_direction():
    names = list(EDGES)
    filters = torch.stack([EDGES["vertical"], -EDGES["vertical"], EDGES["sobel_horizontal"], torch.ones(3, 3)])
    like = edge_similarity(torch.stack([filters, torch.zeros(4, 3, 3)], 1))  # in one of two channels
    assert like[0, names.index("vertical")].item() == pytest.approx(1)
    assert like[1, names.index("vertical")].item() == pytest.approx(-1)
    assert like[0, names.index("sobel_vertical")].item() == pytest.approx(8 / (6 * 12) ** 0.5)
    assert like[2, names.index("horizontal")] > 0.9 and like[2, names.index("vertical")].abs() < 1e-6
    assert like[3].abs().max() < 1e-6
    assert edge_similarity(torch.zeros(1, 3, 7, 7)).tolist() == [[0] * len(names)]
    wide = torch.tensor([1.0, 0.5, 0, -0.5, -1]).expand(1, 1, 5, 5)  # the vertical one, drawn larger
    assert edge_similarity(wide)[0, names.index("vertical")].item() == pytest.approx(1)


# Patches


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Twelve noisy images of several shapes, in each of which one place has a bright left and a dark right half."""
    folder, rng, places = tmp_path_factory.mktemp("edges"), np.random.default_rng(0), []
    images = []
    for i in range(12):
        height, width = ((32, 32), (24, 32), (32, 20))[i % 3]
        image = rng.normal(120, 2, (height, width, 3)).clip(0, 255)
        x, y = int(rng.integers(4, width - 4)), int(rng.integers(3, height - 3))
        step = 40 + 5 * i
        image[y - 3 : y + 3, x - 3 : x] += step
        image[y - 3 : y + 3, x : x + 3] -= step
        name = f"{i}.png"
        cv2.imwrite(str(folder / name), image.astype(np.uint8))
        places.append((x, y))
        images.append({"id": i + 1, "file_name": name, "width": width, "height": height})
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(DIGITS)]
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1 + i % 2, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0}
        for i in range(12)
    ]
    content = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "all.json").write_text(content)
    (folder / "data.yaml").write_text("val: {annotations: all.json, images: .}\n")
    return folder / "data.yaml", places


def stills(path, model):
    annotations = load_data(path, "val")
    return annotations, EvalLoader(
        annotations, model.metadata.size, 4, model.metadata.preprocess, cache_gb=0, square=True
    )


def test_a_channel_that_is_an_edge_filter_is_excited_by_that_edge(scenes):
    path, places = scenes
    model = lenet()
    first = model.network.stages[0][0]
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0] = torch.tensor([1.0, 1.0, 0.0, -1.0, -1.0])  # bright left, dark right, in all three colours
        first.weight[1] = -first.weight[0]
        first.bias.zero_()
    annotations, loader = stills(path, model)
    layer = "network.stages.0.0"
    found = top_patches(model, layer, sight_of_cell(model, layer, 32), loader, [0, 1])
    assert [p.image_id for p in found[0]] == list(range(12, 3, -1))  # by the height of their steps
    for patch in found[0]:
        index = patch.image_id - 1
        height, width = annotations.size(index)
        left, top = (32 - width) // 2, (32 - height) // 2  # of the letterbox
        x, y = places[index][0] + left, places[index][1] + top
        assert abs((patch.field[0] + patch.field[2]) / 2 - x) <= 0.5  # the edge is in the middle of the field
        assert abs((patch.field[1] + patch.field[3]) / 2 - y) <= 1
        assert patch.field[2] - patch.field[0] == patch.field[3] - patch.field[1] == 5
        grey = patch.tile.mean(2)
        assert grey[:, :20].mean() > grey[:, -20:].mean() + 60
    assert all(p.tile[:, :20].mean() < p.tile[:, -20:].mean() for p in found[1])  # and the opposite channel


@pytest.mark.parametrize("layer", ["network.stages.0.0", "network.stages.1.1", "network.stages.2"])
def test_patches_are_those_of_loops(scenes, layer):
    path, _ = scenes
    model = lenet()
    sight = sight_of_cell(model, layer, 32)
    _, loader = stills(path, model)
    found = top_patches(model, layer, sight, loader, [0, 3, 5])
    batches = list(loader)
    maps, fits, ids, images = [], [], [], []
    for batch in batches:
        maps += layer_map(model, layer, batch.images)
        fits += batch.fits
        ids += [t.image_id for t in batch.targets]
        images += batch.images
    for channel in (0, 3, 5):
        expected = []
        for i, one in enumerate(maps):

            def inside(row, column, fit=fits[i]):
                y, x = (sight.start[a] + sight.field[a] / 2 + sight.stride[a] * c for a, c in enumerate((row, column)))
                return 0 < y - fit.top < fit.inner[0] and 0 < x - fit.left < fit.inner[1]

            expected += [(cell[0], i, *cell[2:]) for cell in twin.strongest([one.tolist()], inside, channel, 1)]
        expected = sorted(expected, key=lambda cell: (-cell[0], cell[1]))[:BEST]
        assert [p.image_id for p in found[channel]] == [ids[i] for _, i, *_ in expected]
        assert [p.value for p in found[channel]] == pytest.approx([value for value, *_ in expected])
        for patch, (_, i, row, column) in zip(found[channel], expected, strict=True):
            left, top = (round(sight.start[a] + c * sight.stride[a]) for a, c in ((1, column), (0, row)))
            assert patch.field[:2] == (left, top)
            assert np.array_equal(patch.tile, tile(cut(images[i], patch.field)))


def test_of_fields_as_large_as_the_canvas_the_middle_is_shown():
    assert shown(Sight((5, 300)), 64) == (5, 32)
    model = lenet()
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    sight = sight_of_cell(model, "network.stages.2", 32)._replace(field=(40, 16), start=(-12, 0))
    fit = Letterbox.fit((32, 32), 32, square=True)
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), 1, (32, 32))
    (patch,) = top_patches(model, "network.stages.2", sight, [Batch(image, [target], [fit])], [0])[0]
    left, top, right, bottom = patch.field
    assert (bottom - top, right - left) == (16, 16)
    assert (top + bottom) / 2 % 4 == 0 and left % 4 == 0  # around the middle of the field of one of the cells


def test_what_is_cut_beyond_the_border_is_grey():
    image = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    piece = cut(image, (-2, 1, 7, 6))
    assert piece.shape == (5, 9, 3)
    assert np.array_equal(piece[:3, 2:7], image[:, 1:].permute(1, 2, 0).numpy())
    assert (piece[3:] == PAD).all() and (piece[:, :2] == PAD).all() and (piece[:, 7:] == PAD).all()


def test_fewer_images_than_patches_and_none(scenes):
    path, _ = scenes
    model = lenet()
    annotations = load_data(path, "val")
    sight = sight_of_cell(model, "network.stages.0", 32)
    few = EvalLoader(annotations.select([2, 5]), 32, 4, model.metadata.preprocess, cache_gb=0, square=True)
    assert sorted(p.image_id for p in top_patches(model, "network.stages.0", sight, few, [1])[1]) == [3, 6]
    assert top_patches(model, "network.stages.0", sight, [], [1, 2]) == {1: [], 2: []}


# Class-activation maps


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_class_activation_maps_are_those_of_loops(seed, local):
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randn(1, 4, 3, 5, generator=rng, dtype=torch.float64).requires_grad_()
    weight = torch.randn(1, 4, 3, 5, generator=rng, dtype=torch.float64)
    score = (weight * maps.tanh()).sum()
    (gradient,) = torch.autograd.grad(score, maps, retain_graph=True)
    expected = torch.tensor(twin.grad_cam(maps[0].tolist(), gradient[0].tolist(), local))
    found = grad_cam(score, [maps], (3, 5), local)
    torch.testing.assert_close(found, (expected / expected.max().clamp(min=1e-30)).float(), rtol=1e-4, atol=1e-6)


def test_behind_global_pooling_it_is_the_map_of_the_class():
    """CAM (Zhou et al., 2016): the maps weighed as the dense layer weighs their means; both forms agree there."""
    torch.manual_seed(0)
    maps, dense = torch.rand(1, 6, 4, 4, requires_grad=True), torch.nn.Linear(6, 3)
    score = dense(maps.mean((2, 3)))[0, 2]
    expected = (dense.weight[2][:, None, None] * maps[0]).sum(0).relu().detach()
    for local in (False, True):
        torch.testing.assert_close(grad_cam(score, [maps], (4, 4), local), expected / expected.max())


def test_each_cell_by_itself_shows_what_alone_was_used():
    maps = torch.ones(1, 2, 8, 8, requires_grad=True)
    other = torch.ones(1, 2, 4, 4, requires_grad=True)
    score = maps[0, :, 2, 5].sum()
    found = grad_cam(score, [maps, other], (8, 8), local=True)
    assert (found > 1e-6).nonzero().tolist() == [[2, 5]] and found.max() == pytest.approx(1)
    assert torch.allclose(grad_cam(score, [maps], (8, 8)), torch.ones(8, 8))  # Grad-CAM cannot tell where
    assert not grad_cam(score * 0 + other.sum() * 0, [maps], (8, 8)).any()


@pytest.mark.parametrize("name", ["yolo_n", "yolo_grid", "faster_rcnn"])
def test_scores_are_those_of_the_answers(name):
    model = model_of(name)
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    passed = explain_predictions(model, images, Postprocess(0.0, 0.5, 5))
    assert len(passed.result) == len(passed.scores) > 0
    assert [s.item() for s in passed.scores] == pytest.approx(passed.result.scores.tolist())
    assert passed.maps and all(m.requires_grad for m in passed.maps)
    assert grad_cam(passed.scores[0], passed.maps, (96, 96), local=True).max() == pytest.approx(1)


# Images


def test_numbers_become_images():
    weight = torch.zeros(3, 2, 2)
    weight[0, 0, 0], weight[2, 1, 1] = 2.0, -2.0  # red in a corner, the opposite of blue in the other
    assert filter_tile(weight, bgr=False, side=2).tolist() == [
        [[255, 128, 128], [128, 128, 128]],
        [[128, 128, 128], [128, 128, 0]],
    ]
    assert filter_tile(weight, bgr=True, side=2)[0, 0].tolist() == [128, 128, 255]
    assert filter_tile(torch.ones(2, 1, 1), bgr=False, side=1).tolist() == [[[255, 255, 255]]]
    assert map_tile(torch.tensor([[0.0, 3.0]]), 2)[0, :, 0].tolist() == [0, 255]
    assert map_tile(torch.tensor([[-3.0, 0.0, 3.0]]), 3)[0, :, 0].tolist() == [0, 128, 255]
    assert not map_tile(torch.zeros(2, 2), 4).any()
    assert grid([np.zeros((5, 6, 3), np.uint8)] * 3, 2).shape == (18, 20, 3)
    hot = overlay_heat(np.zeros((1, 2, 3), np.uint8), torch.tensor([[0.0, 1.0]]))
    assert hot[0, 0].argmax() == 2 and hot[0, 1].argmax() == 0  # blue is cold, red hot


# The command


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")

    def of(model, name):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_weights(path, model())
        return str(path)

    return of


def run(weights_, data, out, *words):
    small = ["--channels", "3", "--conf", "0", "--predictions", "2", "--device", "cpu"]
    return main(["see", "--weights", weights_, "--data", str(data), "--out", str(out), *small, *words])


def test_the_page_opens_offline(weights, digits, tmp_path, one_thread, page_at):
    path = weights(lambda: model_of("yolo_n"), "yolo_n")
    assert run(path, digits, tmp_path, "--layer", "backbone.stages.1") == 0
    page = page_at(tmp_path / "see.html")
    check_look(page)
    images = page.evaluate("[...document.images].filter(i => i.src).map(i => i.complete && i.naturalWidth > 0)")
    assert all(images) and len(images) == 3 + 1 + 3 + 2  # filters and edges, the image, channels, answers
    assert [head.removesuffix("#").strip() for head in page.locator("h2").all_inner_texts()] == [
        "Filters of the first layer, and edge filters",
        "Patches with the highest activations in backbone.stages.1",
        "Class-activation maps of predictions",
    ]
    text = page.locator("body").inner_text()
    assert "3 of its 64 channels" in text and "8 images" in text


@pytest.mark.parametrize("name", ["localizer", "faster_rcnn", *slowly("sliding_window", "yolo_n_points", "yolox_nano")])
def test_every_kind_is_looked_into(weights, digits, tmp_path, one_thread, name):
    points = ("a", "b") if name == "yolo_n_points" else ()
    path = weights(lambda: model_of(name, keypoints=points), name)
    assert run(path, digits, tmp_path, "--images", "4") == 0
    text = (tmp_path / "see.html").read_text()
    assert "Class-activation maps of predictions" in text and text.count("data:image/jpeg") >= 5


def test_a_classifier_and_a_image_of_odd_size(weights, scenes, tmp_path, one_thread):
    cv2.imwrite(str(tmp_path / "odd.png"), np.random.default_rng(0).integers(0, 256, (17, 61, 3), np.uint8))
    path = weights(lenet, "lenet5")
    assert run(path, scenes[0], tmp_path, "--layer", "stages.1.1", "--source", str(tmp_path / "odd.png")) == 0
    text = (tmp_path / "see.html").read_text()
    assert "Layer network.stages.1.1" in text and "cell is 14 x 14 pixels" in text


def test_what_scores_nothing_says_so(weights, marked, tmp_path, one_thread):
    path = weights(lambda: model_of("landmarker", keypoints=("left_top", "right_bottom", "middle")), "landmarker")
    assert run(path, marked, tmp_path) == 0
    assert "has no scores that a class-activation map could explain" in (tmp_path / "see.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--layer", "backbone.stages.1.0.convv"),
            "unknown layer 'backbone.stages.1.0.convv': did you mean 'backbone.s",
        ),
        (("--layer", "conv4_2"), "unknown layer 'conv4_2': known: "),
        (("--layer", "9"), "unknown layer '9': known: "),
        (("--layer", "neck"), "layer neck has the output 3 tensors, which is no feature map"),
        (("--source", "no.png"), "no.png: there is no such image file"),
        (("--split", "test"), "there is no split 'test'"),
        (("--channels", "0"), "--channels is 0"),
    ],
)
def test_what_cannot_be_is_one_line(weights, digits, tmp_path, words, said, capsys):
    path = weights(lambda: model_of("yolo_n"), "yolo_n")
    assert run(path, digits, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and said in error
    assert not (tmp_path / "out").exists()


def test_regions_and_missing_weights_are_one_line(weights, digits, tmp_path, capsys):
    path = weights(lambda: model_of("fast_rcnn"), "fast_rcnn")
    assert run(path, digits, tmp_path / "out") == 2 and "takes single regions, not images" in capsys.readouterr().err
    path = weights(lambda: lenet(dims=1), "signals")
    assert run(path, digits, tmp_path / "out") == 2 and "takes signals or volumes" in capsys.readouterr().err
    assert run("none.safetensors", digits, tmp_path / "out") == 2
    assert "none.safetensors is not a weights file" in capsys.readouterr().err
