import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detect.data.letterbox import Letterbox, resize
from detect.types import Preprocess

sides = st.integers(1, 700)


@given(sides, sides, st.integers(1, 700), st.booleans(), st.booleans(), st.sampled_from(["center", "topleft"]))
def test_undo_is_the_inverse_of_forward(height, width, size, square, stretch, alignment):
    fit = Letterbox.fit((height, width), size, Preprocess(alignment=alignment, stretch=stretch), square)
    generator = torch.Generator().manual_seed(height * 701 + width)
    for last in (2, 3, 4):
        coords = torch.rand(5, last, generator=generator, dtype=torch.float64) * 900 - 100
        assert torch.allclose(fit.undo(fit.forward(coords)), coords, rtol=1e-12, atol=1e-9)
        assert fit.forward(coords[:0]).shape == (0, last)
    assert torch.equal(fit.forward(coords[:, :3])[:, 2], coords[:, 2])  # visibility is no coordinate


@given(sides, sides, st.integers(1, 700), st.booleans(), st.sampled_from([8, 32]))
def test_the_whole_image_lies_on_the_canvas(height, width, size, square, stride):
    fit = Letterbox.fit((height, width), size, square=square, stride=stride)
    corners = fit.forward(torch.tensor([[0.0, 0.0, width, height]]))
    x0, y0, x1, y1 = corners[0].tolist()
    h, w = fit.inner
    assert max(h, w) == size
    assert (x0, y0) == (fit.left, fit.top)
    assert (x1, y1) == pytest.approx((fit.left + w, fit.top + h), rel=1e-5)
    assert fit.canvas == ((size, size) if square else tuple(-(-v // stride) * stride for v in (h, w)))
    assert fit.left == (fit.canvas[1] - w) // 2 and fit.top == (fit.canvas[0] - h) // 2


def test_pixels_say_where_the_image_lies():
    assert Letterbox.fit((50, 100), 64, Preprocess(alignment="topleft"), square=True).top == 0
    stretched = Letterbox.fit((50, 100), 64, Preprocess(stretch=True))
    assert stretched.canvas == stretched.inner == (64, 64)
    assert stretched.scale == (0.64, 1.28)
    room = Letterbox.fit((50, 100), (64, 320), square=True)
    assert room.inner == (64, 128) and room.canvas == (64, 320) and room.left == 96


def test_apply_draws_what_forward_says():
    image = np.zeros((40, 80, 3), np.uint8)
    image[10:20, 30:50] = 255
    for size in (32, 80, 200):
        fit = Letterbox.fit((40, 80), size, Preprocess(pad=7), square=True)
        canvas = fit.apply(image)
        rows, columns = np.nonzero(canvas[..., 0] > 127)
        drawn = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert (drawn - fit.forward(torch.tensor([30.0, 10, 50, 20]))).abs().max() <= 1
        assert canvas.shape == (size, size, 3) and (canvas[: fit.top] == 7).all()
        assert not np.shares_memory(canvas, image)


def test_apply_refuses_another_image():
    fit = Letterbox.fit((40, 80), 64)
    with pytest.raises(ValueError, match="expected"):
        fit.apply(np.zeros((80, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="at least 1"):
        Letterbox.fit((0, 10), 64)
    with pytest.raises(ValueError, match="2, 3 or 4"):
        fit.undo(torch.zeros(3, 5))


def test_clip_keeps_to_the_source():
    fit = Letterbox.fit((40, 80), 64)
    assert fit.undo(fit.forward(torch.tensor([[-1.0, -2, 90, 39]])), clip=True).tolist() == [[0, 0, 80, 39]]
    assert fit.undo(fit.forward(torch.tensor([[-1.0, 50, 2]])), clip=True).tolist() == [[0, 40, 2]]
    assert fit.undo(torch.tensor([[-5.0, -5]])).min() < 0


@pytest.mark.parametrize("height, width", [(40, 80), (20, 40), (19, 40), (13, 11), (1, 1), (90, 170)])
def test_resize_keeps_the_mean_and_fills_what_it_is_given(height, width):
    image = np.random.default_rng(0).integers(0, 256, (40, 80, 3)).astype(np.uint8)
    out = np.zeros((height + 2, width + 2, 3), np.uint8)
    resize(image, width, height, out[1:-1, 1:-1])
    assert np.abs(out[1:-1, 1:-1].astype(int) - resize(image, width, height)).max() <= 1
    assert out[0].max() == out[:, 0].max() == out[-1].max() == out[:, -1].max() == 0
    assert abs(out[1:-1, 1:-1].mean() - image.mean()) < 4
