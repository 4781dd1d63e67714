import pytest
import torch

from anchors.grid import priors


def test_order_is_level_row_column_anchor():
    sizes = [torch.tensor([[2.0, 4], [6, 6]]), torch.tensor([[10.0, 20]])]
    p = priors([(2, 3), (1, 2)], [8, 16], sizes)
    expected = []
    for (h, w), stride, level in zip([(2, 3), (1, 2)], [8, 16], sizes, strict=True):
        for y in range(h):
            for x in range(w):
                for aw, ah in level.tolist():
                    cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
                    expected.append([cx, cy, stride, cx - aw / 2, cy - ah / 2, cx + aw / 2, cy + ah / 2])
    assert torch.cat((p.centers, p.strides[:, None], p.boxes), 1).tolist() == expected


def test_without_anchors():
    p = priors([(2, 2), (1, 1)], [8, 16], dtype=torch.float64)
    assert p.boxes is None
    assert p.centers.dtype == p.strides.dtype == torch.float64
    assert p.centers.tolist() == [[4, 4], [12, 4], [4, 12], [12, 12], [8, 8]]


def test_levels_must_match():
    with pytest.raises(ValueError, match="levels"):
        priors([(2, 2)], [8, 16])
    with pytest.raises(ValueError, match="levels"):
        priors([(2, 2)], [8], [torch.ones(1, 2)] * 2)
