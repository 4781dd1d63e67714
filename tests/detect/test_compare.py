"""The tool that compares arms over seeds: what it draws, what it averages, and a small run."""

import json
import statistics

from detect.data.sources.formats import load_data, splits
from tools import compare


def test_a_subset_is_drawn_by_its_seed_and_keeps_the_rest(digits, tmp_path):
    whole = load_data(digits, "train")
    found = [
        load_data(compare.subset(str(digits), 5, seed, tmp_path / str(i)), "train") for i, seed in enumerate((0, 0, 1))
    ]
    ids = [annotations.image_ids.tolist() for annotations in found]
    assert ids[0] == ids[1] != ids[2] and all(len(set(i)) == 5 and set(i) < set(whole.image_ids.tolist()) for i in ids)
    first = found[0].target(0)
    index = whole.image_ids.tolist().index(first.image_id)
    assert (first.boxes == whole.target(index).boxes).all() and found[0].names == whole.names
    path = tmp_path / "0" / "data.yaml"
    assert splits(str(path)) == splits(digits)
    assert len(load_data(path, "val")) == len(load_data(digits, "val"))


def test_few_shot_images_show_each_class_often_enough(digits, tmp_path):
    whole = load_data(digits, "train")
    found = [
        load_data(compare.few_shot(str(digits), 3, s, tmp_path / str(i)), "train") for i, s in enumerate((0, 0, 1))
    ]
    ids = [annotations.image_ids.tolist() for annotations in found]
    assert ids[0] == ids[1] != ids[2] and len(ids[0]) < len(whole)
    shown = [set(found[0].target(i).labels.tolist()) for i in range(len(ids[0]))]
    assert all(sum(label in labels for labels in shown) >= 3 for label in range(10))
    assert set(splits(str(tmp_path / "0" / "data.yaml"))) == {"train"}


def test_a_row_has_the_mean_and_the_deviation():
    values = [0.1, 0.3, 0.2]
    results = [{"AP": v, "AP50": 2 * v, "per_class": {"a": v, "b": None}, "seconds": 10 * v} for v in values]
    assert statistics.stdev(values) > 0.0999
    assert compare.row("x", results) == "| x | 0.200 ± 0.100 | 0.400 ± 0.200 | 0.200 ± 0.100 | 0.000 ± 0.000 | 2 |"
    masks = [one | {"mask_AP": 0.5, "mask_AP50": 0.75, "mask_per_class": {"a": 0.25}} for one in results]
    assert list(compare.metrics(masks[0])) == ["AP", "AP50", "mask_AP", "mask_AP50", "mask_AP a"]
    assert compare.row("x", masks).endswith("| 0.500 ± 0.000 | 0.750 ± 0.000 | 0.250 ± 0.000 | 2 |")


def test_arms_are_trained_measured_and_kept(digits, tmp_path, capsys):
    flags = [
        "--epochs",
        "1",
        "--imgsz",
        "64",
        "--batch",
        "8",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--model.width",
        "16",
        "--model.levels",
        "[3]",
    ]
    arguments = ["--data", str(digits), "--out", str(tmp_path), "--seeds", "1", "--images", "6"]
    arguments += ["--arm", "plain:", "--arm", "slow: --optim.lr 0.0001", *flags]
    assert compare.main(arguments) == 0
    table = capsys.readouterr().out.splitlines()[-4:]
    assert table[0].startswith("| arm | val AP | AP50 |") and [line.split()[1] for line in table[2:]] == [
        "plain",
        "slow",
    ]
    kept = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/result.json")}
    assert kept.keys() == {"plain_0", "slow_0"} and all(r["split"] == "val" for r in kept.values())
    before = (tmp_path / "plain_0" / "result.json").stat().st_mtime_ns
    assert compare.main(arguments) == 0
    assert (tmp_path / "plain_0" / "result.json").stat().st_mtime_ns == before
    assert compare.main([*arguments[: -len(flags)], "--epochs", "0", "--out", str(tmp_path / "b")]) == 2
