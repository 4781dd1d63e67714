"""Training curves of several runs, side by side."""

import json

import cv2
import numpy as np
import pytest

from detect.report.charts import COLOURS
from tools import curves as tool


@pytest.fixture
def runs(tmp_path):
    for name, losses in (("plain", [2.0, 1.5, 1.5]), ("residual", [2.0, 0.5])):
        (tmp_path / name).mkdir()
        rows = [json.dumps({"epoch": i, "classes": v, "top1": 1 - v / 4}) for i, v in enumerate(losses)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    return [str(tmp_path / "plain"), str(tmp_path / "residual")]


def test_the_table_has_every_epoch_of_every_run(runs, tmp_path, capsys):
    assert tool.main([*runs, "--of", "classes", "top1", "--out", str(tmp_path / "c.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| epoch | plain classes | residual classes | plain top1 | residual top1 |"
    assert lines[2:] == [
        "| 1 | 2.000 | 2.000 | 0.500 | 0.500 |",
        "| 2 | 1.500 | 0.500 | 0.625 | 0.875 |",
        "| 3 | 1.500 | - | 0.625 | - |",
    ]
    one, both = tool.plot({"a": {"x": [1.0, 2.0]}}), cv2.imread(str(tmp_path / "c.png"))
    assert both.shape[1] > 1.8 * one.shape[1]


def heights(image, colour):
    """The middle row of what has about that colour in each column, where a column has it."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    like = (abs(image.astype(int) - rgb) < 12).all(2)
    return {x: np.flatnonzero(like[:, x]).mean() for x in np.flatnonzero(like.any(0)).tolist()}


def test_a_curve_passes_through_its_numbers():
    drawn = tool.plot({"loss": {"a": [4.0, 2.0, 0.0], "b": [0.0, 4.0, 4.0]}})
    falls, rises = (heights(drawn[60:], colour) for colour in COLOURS[:2])  # below the legend
    left, right = min(rises), max(rises)
    bottom, top = rises[left], rises[right]
    assert falls[(left + right) // 2] == pytest.approx((top + bottom) / 2, abs=3)
    assert rises[(left + right) // 2 + 3] == pytest.approx(top, abs=3)
    assert falls[left + (right - left) // 4] == pytest.approx(top + (bottom - top) / 4, abs=4)


@pytest.mark.parametrize("line", [[1.0], [1.0, 1.0, 1.0]])
def test_a_curve_of_one_epoch_or_of_one_value_is_drawn(line):
    assert len(heights(tool.plot({"loss": {"a": line}}), COLOURS[0])) >= 5


def test_mistakes_are_one_line(runs, tmp_path, capsys):
    for given, said in (
        ([*runs, "--of", "top2"], "did you mean 'top1'"),
        ([str(tmp_path / "absent")], "name the folder of a run"),
        ([runs[0], runs[0]], "in folders of different names"),
    ):
        assert tool.main([*given, "--out", str(tmp_path / "c.png")]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "c.png").exists()
