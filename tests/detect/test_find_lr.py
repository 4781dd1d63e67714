"""The learning-rate range test: what it suggests on constructed curves, and what it leaves behind for every task."""

import contextlib
import json
import math

import numpy as np
import pytest

import detect
from detect.errors import UserError
from detect.training import find_lr
from detect.training.find_lr import _diverges, smoothed, suggest

RATES = np.geomspace(1e-6, 1e-1, 100).tolist()


def fall(middle: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Losses that fall from 10 to 5, half of it before `middle`, and rise again at the end."""
    at = np.log10(RATES) - math.log10(middle)
    rise = np.maximum(0, np.log10(RATES) + 1.5) ** 2 * 40
    return (7.5 - 2.5 * np.tanh(2 * at) + rise + np.random.default_rng(seed).normal(0, noise, 100)).tolist()


@pytest.mark.parametrize("middle", [1e-5, 1e-4, 2e-3])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_suggestion_is_the_middle_of_the_fall(middle: float, noise: float) -> None:
    for seed in range(5 if noise else 1):
        found = suggest(RATES, fall(middle, noise, seed))
        assert found and middle / 1.6 < found < middle * 1.6


def test_a_loss_that_does_not_fall_gives_no_suggestion() -> None:
    assert suggest(RATES, [5.0] * 100) is None
    assert suggest(RATES, np.linspace(5, 9, 100).tolist()) is None
    assert suggest(RATES[:10], fall(1e-5)[:10]) is None, "too few"


def test_an_explosion_at_the_end_changes_nothing() -> None:
    losses = fall(1e-4)
    assert suggest(RATES, [*losses[:97], 500.0, 9000.0, 1e6]) == suggest(RATES, losses)


def test_it_stops_where_the_loss_explodes_and_not_where_it_is_noisy() -> None:
    losses = fall(1e-3, 1.0)
    assert not any(_diverges(losses[:i]) for i in range(1, 101))
    assert _diverges([*losses, *[40.0] * 4])


def test_smoothing_keeps_straight_lines() -> None:
    line = np.linspace(3, 8, 50)
    assert np.allclose(smoothed(line.tolist())[12:-12], line[12:-12], atol=1e-3)


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch, one_thread) -> None:
    monkeypatch.setattr(find_lr, "STEPS", 10)
    monkeypatch.setattr(find_lr, "SHORTEST", 5)


@pytest.mark.parametrize(
    ("model", "optimizer", "size"),
    [("yolo_n", "muon", 64), ("lenet5", "sgd", 32), ("embedder", "rmsprop", 32), ("landmarker", "adam", 32)],
)
def test_every_task_leaves_a_curve_and_no_weights(_short, marked, tmp_path, capsys, model, optimizer, size) -> None:
    out = tmp_path / "run"
    flags = {"data": str(marked), "model": model, "imgsz": size, "batch": 8, "workers": 0, "augment.flip": 0}
    try:
        curve = detect.train(**flags, **{"optim.name": optimizer}, out=str(out), find_lr=True)
    except UserError as error:  # so few steps may show no fall
        assert "falls at no learning rate" in str(error)
    else:
        assert curve == out / "lr.svg" and "--optim.lr" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["lr.jsonl", "lr.svg"]
    rows = [json.loads(line) for line in (out / "lr.jsonl").read_text().splitlines()]
    assert rows[0]["lr"] < rows[-1]["lr"] and len(rows) <= 10
    assert rows[0]["loss"] == pytest.approx(sum(v for name, v in rows[0].items() if name not in ("lr", "loss")))


def test_the_same_seed_gives_the_same_curve(_short, digits, tmp_path) -> None:
    flags = {"data": str(digits), "model": "lenet5", "imgsz": 32, "batch": 16, "workers": 0, "find_lr": True}
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with contextlib.suppress(UserError):  # so few steps may show no fall
            detect.train(**flags, seed=seed, out=str(tmp_path / name), **{"optim.accumulate": 2})
        texts.append((tmp_path / name / "lr.jsonl").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_it_does_not_go_with_resume(digits, tmp_path) -> None:
    with pytest.raises(UserError, match="leave --resume out"):
        detect.train(data=str(digits), out=str(tmp_path / "run"), find_lr=True, resume=True)
