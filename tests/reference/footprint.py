"""Receptive fields the slow way: one backward pass a cell, looking at which pixels got a gradient."""

import torch
from torch import Tensor, nn


def spans(net: nn.Module, side: int, cells: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """First and last row, and first and last column, that each of some neighbouring cells in the middle depends on."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)  # so that no two paths cancel
    image = torch.rand(1, 1, side, side, requires_grad=True)
    out = net(image)[0, 0]
    row, column = (n // 2 for n in out.shape)
    rows = [touched(image, out[row + i, column], 0) for i in range(cells)]
    return rows, [touched(image, out[row, column + i], 1) for i in range(cells)]


def touched(image: Tensor, cell: Tensor, axis: int) -> tuple[int, int]:
    """First and last pixel along `axis` that the cell depends on."""
    (gradient,) = torch.autograd.grad(cell, image, retain_graph=True)
    found = gradient[0, 0].abs().sum(1 - axis).nonzero().flatten()
    return int(found[0]), int(found[-1])
