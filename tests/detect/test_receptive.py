"""Receptive fields and strides against what gradients say: the pixels that one cell depends on."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detect.models.receptive_field import Sight, Sights
from tests.reference.footprint import spans

SIDE = 96


def sight(net: nn.Module, side: int = SIDE, channels: int = 1, placed: bool = False) -> Sight:
    """What one cell of the last map sees, by the pass on the meta device; and where, if `placed`."""
    image = torch.empty(1, channels, side, side, device="meta")
    with torch.no_grad(), Sights(image) as sights:
        found = sights.get(net.to("meta")(image))
    assert found is not None
    return found if placed else found._replace(start=(0, 0))


class Branches(nn.Module):
    def __init__(self, join, *branches):
        super().__init__()
        self.join, self.branches = join, nn.ModuleList(branches)

    def forward(self, x):
        return self.join([branch(x) for branch in self.branches])


class Every(nn.Module):
    def forward(self, x):
        return x[:, :, ::2, 1::3]


class Gate(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


def measured(net: nn.Module, cells: int = 2) -> Sight:
    """The same by gradients: means over `cells` cells in the middle, which must be far from the border."""
    axes = spans(net, SIDE, cells)
    fields = [sum(last - first + 1 for first, last in axis) / cells for axis in axes]
    strides = [(axis[-1][0] - axis[0][0]) / (cells - 1) for axis in axes]
    return Sight(tuple(fields), tuple(strides))


kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
strides = st.tuples(st.integers(1, 2), st.integers(1, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), kernels, strides, st.integers(1, 2)), min_size=1, max_size=3))
def test_a_chain_sees_the_pixels_that_gradients_reach(chain):
    net = nn.Sequential(
        *(nn.Conv2d(1, 1, k, s, k[0] // 2, d) if conv else nn.AvgPool2d(k, s) for conv, k, s, d in chain)
    )
    assert measured(net) == sight(net)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("factor", [2, 3])
def test_behind_upsampling_the_field_is_the_mean_over_cells(factor, kernel):
    net = nn.Sequential(nn.Conv2d(1, 1, 5, 4, 2), nn.Upsample(scale_factor=factor), nn.Conv2d(1, 1, kernel))
    field = measured(net, factor).field
    assert field == pytest.approx(sight(net).field) and field[0] >= 5


@pytest.mark.parametrize(("kernel", "stride", "cells"), [(2, 2, 1), (4, 2, 2), (3, 1, 3), (6, 3, 2)])
def test_a_cell_of_a_transposed_convolution_lies_under_some(kernel, stride, cells):
    net = nn.Sequential(nn.Conv2d(1, 1, 6, 6), nn.ConvTranspose2d(1, 1, kernel, stride))
    assert measured(net, stride + 1) == sight(net) == Sight((6 * cells,) * 2, (6 / stride,) * 2)


def test_unequal_sides_are_told_apart():
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 7)), nn.Conv2d(1, 1, (3, 1), (2, 1)))
    assert sight(net) == Sight((3, 7), (2, 1))


def test_taking_every_second_pixel_is_a_stride():
    net = nn.Sequential(nn.Conv2d(1, 1, 3), Every(), nn.Conv2d(1, 1, 3))
    assert measured(net) == sight(net) == Sight((7, 9), (2, 3))


@pytest.mark.parametrize("join", [lambda maps: torch.cat(maps, 1), sum], ids=["concatenated", "added"])
def test_the_widest_branch_counts(join):
    net = Branches(join, nn.Conv2d(1, 1, 3, 2, 1), nn.Sequential(nn.Conv2d(1, 1, 5, 1, 2), nn.Conv2d(1, 1, 3, 2, 1)))
    assert sight(net) == Sight((7, 7), (2, 2))


def test_pooling_all_flattening_and_dense_layers_see_the_whole_map():
    for last in (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(576, 2))):
        assert sight(nn.Sequential(nn.Conv2d(1, 1, 5, 4, 2), last)).field == (5 + 23 * 4,) * 2


def test_adaptive_pools_see_their_windows():
    assert sight(nn.AdaptiveAvgPool2d(16)) == Sight((6, 6), (6, 6))
    assert sight(nn.AdaptiveMaxPool2d(7)) == Sight((15, 15), (SIDE / 7, SIDE / 7))
    assert sight(nn.AdaptiveAvgPool2d(SIDE)) == Sight()


def test_upsampling_brings_cells_closer_and_bilinear_sees_two():
    down = nn.Conv2d(1, 1, 4, 4)
    assert sight(nn.Sequential(down, nn.Upsample(scale_factor=2))) == Sight((4, 4), (2, 2))
    assert sight(nn.Sequential(down, nn.Upsample(scale_factor=2, mode="bilinear"))) == Sight((8, 8), (2, 2))


def test_a_gate_does_not_widen_what_it_gates():
    assert sight(nn.Sequential(nn.Conv2d(1, 1, 3), Gate(), nn.Conv2d(1, 1, 3))) == Sight((5, 5), (1, 1))
    assert sight(nn.Sequential(nn.Conv2d(1, 1, SIDE), Gate())).field == (SIDE, SIDE)  # one cell is the whole map


def test_what_is_not_computed_from_the_image_sees_nothing():
    image = torch.empty(1, 1, 8, 8, device="meta")
    with Sights(image) as sights:
        other = torch.ones(3, device="meta") * 2
        assert sights.get(other) is None and sights.get(image) == Sight()


def begins(net: nn.Module, cells: int = 1) -> tuple[float, ...]:
    """Where the field of the first cell starts, by gradients: the mean over `cells` cells in the middle."""
    axes, shape = spans(net, SIDE, cells), net(torch.zeros(1, 1, SIDE, SIDE)).shape[2:]
    found = sight(copy.deepcopy(net), placed=True)
    starts = []
    for axis, step, n in zip(axes, found.stride, shape, strict=True):
        starts.append(sum(first - step * (n // 2 + i) for i, (first, _) in enumerate(axis)) / cells)
    return tuple(starts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), kernels, strides, st.integers(0, 3)), min_size=1, max_size=3))
def test_a_chain_sees_where_gradients_reach(chain):
    net = nn.Sequential(
        *(nn.Conv2d(1, 1, k, s, p) if conv else nn.AvgPool2d(k, s, min(p, min(k) // 2)) for conv, k, s, p in chain)
    )
    assert begins(net) == sight(net, placed=True).start


@pytest.mark.parametrize(
    ("net", "cells"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.ZeroPad2d((3, 0, 1, 2)), nn.Conv2d(1, 1, 4, 2)), 1),
        (nn.Sequential(nn.Conv2d(1, 1, 3), Every(), nn.Conv2d(1, 1, 3, 1, 1)), 1),
        (nn.Conv2d(1, 1, 3, padding="same"), 1),
        (Branches(sum, nn.Identity(), nn.Conv2d(1, 1, 5, 1, 2)), 1),
        (nn.Sequential(nn.Conv2d(1, 1, 5, 4, 2), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, 1, 1)), 2),
        (nn.Sequential(nn.Conv2d(1, 1, 4, 4), nn.Upsample(scale_factor=3)), 3),
        (nn.Sequential(nn.Conv2d(1, 1, 4, 4), nn.Upsample(scale_factor=2, mode="bilinear")), 2),
        (nn.Sequential(nn.Conv2d(1, 1, 6, 6), nn.ConvTranspose2d(1, 1, 4, 2, 1)), 2),
        (nn.Sequential(nn.Conv2d(1, 1, 6, 6), nn.ConvTranspose2d(1, 1, 2, 2)), 2),
        (nn.AdaptiveAvgPool2d(16), 1),
    ],
)
def test_fields_lie_where_gradients_say(net, cells):
    assert begins(net, cells) == pytest.approx(sight(net, placed=True).start)
