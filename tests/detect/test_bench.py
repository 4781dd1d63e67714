"""The benchmark runs and says what it measured; what the figures are is not a matter of tests."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from detect.data.toy import build
from detect.export.writers import DYNAMIC_ONNX

SLOW = ("exported", "predict", "windows")  # rows
TOOL = Path(__file__).parents[2] / "tools" / "bench.py"


@pytest.fixture(scope="module")
def bench():
    return runpy.run_path(str(TOOL))


def measured(bench, tmp_path, *flags):
    """Run the tool on a tiny dataset; returns its lines and the file of samples."""
    build(tmp_path / "bccd", train=8, val=2, size=64)
    small = ["--data", str(tmp_path), "--scale", "0.002", "--threads", "1", "--json", str(tmp_path / "samples.json")]
    lines = bench["main"]([*small, *flags])
    assert all(sample.wall > 0 for line in lines for sample in line.ours)
    return [line.what for line in lines], json.loads((tmp_path / "samples.json").read_text())["lines"]


@pytest.mark.slow
def test_every_row_is_measured_on_a_small_scale(bench, tmp_path, capsys):
    rows = [row for row in bench["ROWS"] if row not in SLOW]
    whats, kept = measured(bench, tmp_path, "--rows", *rows)
    words = ["training images", "NMS", "COCO evaluation", "augmented samples", "K-means"]
    for word in [*words, "--help"]:
        assert any(word in what for what in whats)
    assert len(kept) == len(whats)
    table = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")]
    assert len(table) == len(whats) + 2 and len({len(row) for row in table}) == 1


@pytest.mark.slow  # more than a minute, most of it quantization
@pytest.mark.skipif(not DYNAMIC_ONNX, reason="needs torch 2.7")
def test_slow_rows_are_measured_on_a_small_scale(bench, tmp_path):
    whats, _ = measured(bench, tmp_path, "--rows", *SLOW)
    for word in (
        "file to boxes",
        "windows of",
        "with ONNX Runtime, bccd",
        "with ONNX Runtime, int8",
        "with OpenVINO, bccd",
        "with OpenVINO, int8",
    ):
        assert any(word in what for what in whats)


def test_ratios_are_of_pairs_and_say_how_far_they_spread(bench):
    line, sample = bench["Line"], bench["by_turns"].__globals__["Sample"]
    ours = [sample(1.0, 2.0), sample(2.0, 2.0), sample(4.0, 2.0)]
    reference = [sample(3.0, 8.0), sample(6.0, 8.0), sample(12.0, 8.0)]
    assert line("x", ">= 2", ours).ratios(reference) == ("3.00 (3.00 to 3.00)", "4.00")
    assert line("x", ">= 2", ours, count=10, rate=True).show(ours) == "5.0 /s"
    assert line("x", ">= 2", ours, {"p": reference}).rows()[0][2:4] == ("p", "6,000.00 ms")


def test_sides_take_turns_and_the_first_round_does_not_count(bench):
    sample, called = bench["by_turns"].__globals__["Sample"], []

    def side(name):
        return lambda: called.append(name) or sample(len(called), 1.0)

    ours, reference = bench["by_turns"](2, side("a"), {"b": side("b")})
    assert called == ["a", "b", "b", "a", "a", "b"]
    assert [s.wall for s in ours] == [4, 5] and [s.wall for s in reference["b"]] == [3, 6]


@pytest.mark.slow
def test_a_side_that_ends_is_named_with_its_last_words(bench, tmp_path):
    build(tmp_path / "bccd", train=2, val=1, size=64)
    small = ["--rows", "predict", "--data", str(tmp_path), "--scale", "0.002", "--threads", "1"]
    with pytest.raises(SystemExit, match=r"peer predict ended:[\s\S]*No module named"):
        bench["main"]([*small, "--peer", sys.executable])  # where the peer is not installed
