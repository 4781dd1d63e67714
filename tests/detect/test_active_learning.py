"""The study of `detect next` against random choice: its table, and a whole small study."""

import json
import statistics

import pytest

from tests.reference.runs import tiny_weights
from tools.active_learning import area, main, table


def study(out, curves):
    """The files of finished rounds: AP by strategy and seed; the first value is that of the random start."""
    for strategy, seeds in curves.items():
        for seed, values in enumerate(seeds):
            places = [f"seed-{seed}/round-1", *(f"seed-{seed}/{strategy}/round-{n + 1}" for n in range(1, len(values)))]
            for place, value in zip(places, values, strict=True):
                (out / place).mkdir(parents=True, exist_ok=True)
                (out / place / "result.json").write_text(
                    json.dumps({"images": [], "objects": 40 * value, "metrics": {"AP": value}})
                )


def test_the_table_has_means_areas_and_paired_differences_of_finished_seeds(tmp_path):
    random, chosen = [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]], [[0.1, 0.4, 0.5], [0.2, 0.5]]
    study(tmp_path, {"random": random, "margin=1": chosen})
    head, _, first, second = table(tmp_path, "AP")
    assert head.split(" | ")[2:5] == ["round 1", "round 2", "round 3"]
    deviation = statistics.stdev([0.1, 0.2])
    assert first.split(" | ")[:3] == ["| random", "2", f"0.150 ± {deviation:.3f}"]
    assert first.endswith("| - |")
    assert area(chosen[0]) == pytest.approx((0.25 + 0.45) / 2)
    assert second == "| margin=1 | 1 | 0.100 | 0.400 | 0.500 | 0.350 | 20 | +0.150 |"  # its other seed has not finished


def test_the_interval_of_a_difference_is_students(tmp_path):
    study(tmp_path, {"random": [[0.1, 0.2], [0.2, 0.3], [0.3, 0.4]], "margin=1": [[0.1, 0.4], [0.2, 0.3], [0.3, 0.6]]})
    differences = [0.1, 0.0, 0.1]  # of the areas
    half = 4.3027 * statistics.stdev(differences) / 3**0.5  # the 97.5 % quantile of two degrees of freedom
    mean = statistics.mean(differences)
    assert f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f}) |" in table(tmp_path, "AP")[-1]


def test_nothing_is_a_table_without_rows(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("\n") == 2


def test_too_few_images_are_told_in_a_line(digits, tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--data", str(digits), "--rounds", "5"]) == 2
    assert "16 training images are fewer than the rounds choose" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_study_and_its_continuation(digits, tmp_path, capsys):
    weights = tiny_weights(tmp_path / "w.safetensors")
    words = ["--out", str(tmp_path / "study"), "--data", str(digits), "--weights", str(weights), "--seeds", "1"]
    words += ["--rounds", "3", "--budget", "4", "--imgsz", "64", "--steps", "2", "--batch", "4"]
    for strategy in ("random", "default", "margin=1,rarity=0.5"):
        assert main([*words, "--strategy", strategy]) == 0
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert [line.split()[1] for line in lines[2:]] == ["random", "default", "margin=1,rarity=0.5"]
    done = sorted((tmp_path / "study").rglob("result.json"))
    assert len(done) == 1 + 3 * 2
    images = [json.loads(path.read_text())["images"] for path in done]
    assert sorted(map(len, images)) == [4, 8, 8, 8, 12, 12, 12] and all(len(set(one)) == len(one) for one in images)
    times = [path.stat().st_mtime_ns for path in done]
    assert main([*words, "--strategy", "default"]) == 0  # all is done
    assert [path.stat().st_mtime_ns for path in done] == times
