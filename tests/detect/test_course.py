"""The worked numbers of a course on convolutional networks, held against the layers that the networks are made of."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn.functional import conv1d, conv2d, conv3d

from detect.explain.summary import describe, trace

VERTICAL = [[1, 0, -1]] * 3
HORIZONTAL = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
SOBEL = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
SCHARR = [[3, 0, -3], [10, 0, -10], [3, 0, -3]]
IMAGE = [
    *([3, 0, 1, 2, 7, 4], [1, 5, 8, 9, 3, 1], [2, 7, 2, 5, 1, 3]),
    *([0, 1, 3, 1, 7, 8], [4, 2, 1, 6, 2, 8], [2, 4, 5, 2, 3, 9]),
]


def convolve(image, kernel, **options):
    """A grey image, rows of numbers, through a layer with that filter."""
    image, kernel = (torch.tensor(v, dtype=torch.float32)[None, None] for v in (image, kernel))
    return conv2d(image, kernel, **options)[0, 0].round(decimals=3).tolist()  # whole, but for how sums are rounded


def traced(net, *shape):
    with torch.device("meta"):
        return trace(net.to("meta"), torch.empty(1, *shape))


def costs(*rows):
    return sum(row["macs"] for row in rows)


# Convolutions


def test_the_filter_is_not_flipped():
    expected = [[-5, -4, 0, 8], [-10, -2, 2, 3], [0, -2, -4, -7], [-3, -2, -3, -16]]
    assert convolve(IMAGE, VERTICAL) == expected
    flipped = [row[::-1] for row in VERTICAL]
    assert convolve(IMAGE, flipped) == [[-v for v in row] for row in expected]


@pytest.mark.parametrize(("kernel", "height"), [(VERTICAL, 30), (SOBEL, 40), (SCHARR, 160)])
def test_a_vertical_edge_is_found_with_its_sign(kernel, height):
    half = [[10, 10, 10, 0, 0, 0]] * 6
    assert convolve(half, kernel) == [[0, height, height, 0]] * 4
    assert convolve([row[::-1] for row in half], kernel) == [[0, -height, -height, 0]] * 4


def test_a_horizontal_edge_changes_sign_where_the_quarters_meet():
    quarters = [[10, 10, 10, 0, 0, 0]] * 3 + [[0, 0, 0, 10, 10, 10]] * 3
    middle = [30, 10, -10, -30]
    assert convolve(quarters, HORIZONTAL) == [[0, 0, 0, 0], middle, middle, [0, 0, 0, 0]]


def test_a_filter_may_look_at_one_colour_alone():
    kernel = torch.zeros(1, 3, 3, 3)
    kernel[0, 0] = torch.tensor(VERTICAL)
    image = torch.rand(1, 3, 6, 6)
    other = image.clone()
    other[:, 1:] = torch.rand(2, 6, 6)
    assert torch.allclose(conv2d(image, kernel), conv2d(other, kernel), atol=1e-5)
    assert torch.allclose(conv2d(image, kernel), conv2d(image[:, :1], kernel[:, :1]), atol=1e-5)


def test_backpropagation_finds_the_edge_filter():
    torch.manual_seed(0)
    images = torch.rand(32, 1, 8, 8)
    edges = conv2d(images, torch.tensor(VERTICAL, dtype=torch.float32)[None, None])
    layer = nn.Conv2d(1, 1, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2, momentum=0.9)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(images) - edges).square().mean().backward()
        optimizer.step()
    assert torch.allclose(layer.weight[0, 0], torch.tensor(VERTICAL, dtype=torch.float32), atol=1e-3)
    assert abs(layer.bias.item()) < 1e-3


def test_filters_of_a_line_bring_out_lines_of_their_direction():
    images = np.stack(load_sample_images().images).astype(np.float32) / 255
    layer = nn.Conv2d(3, 2, 7, padding="same", bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :, :, 3] = 1
        layer.weight[1, :, 3, :] = 1
        maps = layer(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert maps.shape == (2, 2, *images.shape[1:3])
    down, across = (maps.diff(dim=axis).abs().mean((2, 3)) for axis in (2, 3))
    assert (down[:, 0] < across[:, 0]).all()  # along a vertical line less changes than across it
    assert (across[:, 1] < down[:, 1]).all()


def test_a_stride_of_two_begins_so():
    image = [
        *([2, 3, 7, 4, 6, 2, 9], [6, 6, 9, 8, 7, 4, 3], [3, 4, 8, 3, 8, 9, 7], [7, 8, 3, 6, 6, 3, 4]),
        *([4, 2, 1, 8, 3, 4, 6], [3, 2, 4, 1, 9, 8, 3], [0, 1, 3, 9, 2, 1, 4]),
    ]
    found = convolve(image, [[3, 4, 4], [1, 0, 2], [-1, 0, 3]], stride=2)
    assert [len(row) for row in found] == [3, 3, 3]
    assert found[0] == [91, 100, 88]  # a slide of the course says 83: 62 + 13 + 13 is 88
    assert found[1][0] == 69


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 3), st.integers(1, 4))
def test_the_output_size_formula(n, f, p, s):
    for layer in (nn.Conv2d(1, 1, f, s, p), nn.MaxPool2d(f, s, min(p, f // 2))):
        padding = layer.padding[0] if isinstance(layer, nn.Conv2d) else layer.padding
        side = math.floor((n + 2 * padding - f) / s + 1)
        if side < 1:
            continue
        (row,) = traced(layer, 1, n, n)
        assert row["output"][1:] == [side, side]
        assert row["params"] == (f * f + 1 if isinstance(layer, nn.Conv2d) else 0)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(st.integers(1, 40), st.integers(1, 7))
@settings(deadline=None)
def test_valid_and_same(n, f):
    if f <= n:
        assert traced(nn.Conv2d(1, 1, f), 1, n, n)[0]["output"] == [1, n - f + 1, n - f + 1]
    same = nn.Conv2d(1, 1, f, padding="same")
    assert traced(same, 1, n, n)[0]["output"] == [1, n, n]
    left, right = same._reversed_padding_repeated_twice[:2]
    assert left + right == f - 1 and (left == right) == (f % 2 == 1)


@pytest.mark.parametrize("side", [3, 6, 1000])
def test_ten_filters_have_280_parameters_whatever_the_image(side):
    (row,) = traced(nn.Conv2d(3, 10, 3), 3, side, side)
    assert row["params"] == 280 and row["output"] == [10, side - 2, side - 2]


def test_a_dense_layer_would_need_millions():
    (conv,) = traced(nn.Conv2d(1, 6, 5), 1, 32, 32)
    (dense,) = traced(nn.Linear(32 * 32 * 3, 28 * 28 * 6), 32 * 32 * 3)
    assert conv["params"] == 156 and conv["output"] == [6, 28, 28]
    assert dense["params"] == pytest.approx(14e6, rel=0.04)


def test_a_bottleneck_saves_nine_tenths():
    (direct,) = traced(nn.Conv2d(192, 32, 5, padding=2), 192, 28, 28)
    reduced = traced(nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2)), 192, 28, 28)
    assert direct["macs"] == 120_422_400
    assert [row["macs"] for row in reduced] == [2_408_448, 10_035_200] and costs(*reduced) == 12_443_648
    assert reduced[-1]["output"] == direct["output"] == [32, 28, 28]


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 5]))
def test_depthwise_separable_convolutions_cost_a_known_share(inputs, outputs, f):
    (full,) = traced(nn.Conv2d(inputs, outputs, f), inputs, 8, 8)
    parts = traced(
        nn.Sequential(nn.Conv2d(inputs, inputs, f, groups=inputs), nn.Conv2d(inputs, outputs, 1)), inputs, 8, 8
    )
    assert costs(*parts) / full["macs"] == pytest.approx(1 / outputs + 1 / f**2)


def test_2160_multiplications_against_672():
    (full,) = traced(nn.Conv2d(3, 5, 3), 3, 6, 6)
    parts = traced(nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 5, 1)), 3, 6, 6)
    assert full["macs"] == 2160 and [row["macs"] for row in parts] == [432, 240] and costs(*parts) == 672
    assert full["output"] == parts[-1]["output"] == [5, 4, 4]


def test_convolution_works_in_one_and_three_dimensions():
    assert conv1d(torch.rand(1, 1, 14), torch.rand(16, 1, 5)).shape == (1, 16, 10)
    assert conv3d(torch.rand(1, 1, 14, 14, 14), torch.rand(16, 1, 5, 5, 5)).shape == (1, 16, 10, 10, 10)


# Networks


def outputs(name, *kinds, **options):
    return [row["output"] for row in describe(name, **options)["layers"] if row["type"] in kinds]


def test_lenet():
    rows = describe("lenet5", in_channels=1)
    maps = [row["output"] for row in rows["layers"] if row["type"] in ("Conv2d", "AvgPool2d", "Flatten", "Linear")]
    assert maps == [[6, 28, 28], [6, 14, 14], [16, 10, 10], [16, 5, 5], [400], [120], [84], [10]]
    assert rows["imgsz"] == 32 and rows["params"] == 61_706 and rows["macs"] == 416_520


def test_alexnet():
    assert outputs("alexnet", "Conv2d", "MaxPool2d", "Flatten", "Linear") == [
        *([96, 55, 55], [96, 27, 27], [256, 27, 27], [256, 13, 13], [384, 13, 13], [384, 13, 13], [256, 13, 13]),
        *([256, 6, 6], [9216], [4096], [4096], [1000]),
    ]
    result = describe("alexnet")
    assert result["imgsz"] == 227 and result["params"] == pytest.approx(60e6, rel=0.05)
    assert {"ReLU"} == {row["type"] for row in result["layers"]} & {"ReLU", "Tanh", "Sigmoid", "SiLU"}


def test_vgg16():
    assert outputs("vgg16", "MaxPool2d") == [[64, 112, 112], [128, 56, 56], [256, 28, 28], [512, 14, 14], [512, 7, 7]]
    weighted = [row for row in describe("vgg16")["layers"] if row["params"]]
    assert len(weighted) == 16 and sum(row["params"] for row in weighted) == 138_357_544


def test_network_in_network_ends_in_a_map_a_class_and_its_mean():
    rows = describe("nin")["layers"]
    assert not any(row["type"] == "Linear" for row in rows)
    last = [row for row in rows if row["type"] in ("Conv2d", "AdaptiveAvgPool2d")][-2:]
    assert [row["output"] for row in last] == [[1000, 6, 6], [1000, 1, 1]]


def test_mobilenet_v1_is_a_ninth_of_its_full_convolutions():
    rows = [row for row in describe("mobilenet_v1")["layers"] if row["type"] == "Conv2d"]
    separable = costs(*rows[1:])
    full = sum(9 * pointwise["macs"] for pointwise in rows[2::2])
    assert 1 / 9 < separable / full < 1 / 8
