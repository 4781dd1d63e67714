import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.sources.coco import load_coco
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "convert.py"))
main, cut = TOOL["main"], TOOL["cut"]
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not at {DATA} (set GRIDHEAD_DATA)")


def run(*arguments):
    return main([str(argument) for argument in arguments])


def coco(path, count=50, seed=0):
    """`count` images, every fifth without objects; classes of different frequency; polygons and keys of its own."""
    rng = np.random.default_rng(seed)
    images, objects = [], []
    for image_id in range(1, count + 1):
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 30, "height": 20, "night": True})
        for _ in range(0 if image_id % 5 == 0 else rng.integers(1, 6)):
            record = {"id": len(objects) + 1, "image_id": image_id, "bbox": [1, 2, 8, 9], "segmentation": [[1, 2, 3]]}
            objects.append(record | {"category_id": int(rng.choice([3, 7, 9], p=[0.7, 0.2, 0.1]))})
    categories = [{"id": i, "name": f"c{i}", "supercategory": "s"} for i in (3, 7, 9)]
    content = {"info": {"year": 1}, "images": images, "annotations": objects, "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return content


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_split_keeps_records_and_proportions(tmp_path):
    content = coco(tmp_path / "in" / "all.json")
    before = snapshot(tmp_path / "in")
    assert run(tmp_path / "in" / "all.json", "--out", tmp_path / "out", "--split", 0.8) == 0
    parts = [json.loads((tmp_path / "out" / f"instances_{split}.json").read_text()) for split in ("train", "val")]
    assert [len(part["images"]) for part in parts] == [40, 10]
    for key in ("images", "annotations"):
        merged = sorted(parts[0][key] + parts[1][key], key=lambda record: record["id"])
        assert merged == content[key]
    assert all(part["categories"] == content["categories"] and part["info"]["year"] == 1 for part in parts)
    assert snapshot(tmp_path / "in") == before
    spec = tmp_path / "out" / "data.yaml"
    assert splits(spec) == ["train", "val"]
    assert load_data(spec, "val").root == (tmp_path / "in").resolve()


def test_split_is_seeded(tmp_path):
    coco(tmp_path / "all.json")
    annotations = load_coco(tmp_path / "all.json")
    first, again, other = cut(annotations, 0.8, 1), cut(annotations, 0.8, 1), cut(annotations, 0.8, 2)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("share", [0.01, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("count", [2, 3, 50])
def test_split_is_a_partition_in_proportion(tmp_path, share, count):
    coco(tmp_path / "all.json", count)
    annotations = load_coco(tmp_path / "all.json")
    train, val = cut(annotations, share, 0)
    assert sorted([*train, *val]) == list(range(count)) and len(train) and len(val)
    assert abs(len(train) - share * count) <= 1
    if count == 50 and 0.4 < share < 0.9:
        totals = np.bincount(annotations.labels, minlength=3)
        part = np.bincount(annotations.select(train).labels, minlength=3)
        assert np.abs(part - share * totals).max() <= 1.5


def test_split_without_any_object(tmp_path):
    content = coco(tmp_path / "all.json")
    (tmp_path / "all.json").write_text(json.dumps(content | {"annotations": []}))
    train, val = cut(load_coco(tmp_path / "all.json"), 0.7, 0)
    assert len(train) == 35 and len(val) == 15


def yolo(folder):
    for split, rows in (("train", "1 .5 .5 .5 .5\n0 .25 .25 .5 .5\n"), ("val", "")):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(folder / "images" / split / "a é.png")
        (folder / "labels" / split / "a é.txt").write_text(rows)
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return folder


def test_yolo_to_coco(tmp_path, capsys):
    before = snapshot(yolo(tmp_path / "in"))
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 0
    assert "cat 1, dog 1" in capsys.readouterr().out
    annotations = load_data(tmp_path / "out" / "data.yaml", "train")
    assert annotations.boxes.tolist() == [[10, 5, 20, 10], [0, 0, 20, 10]] and annotations.labels.tolist() == [1, 0]
    assert annotations.names == ["cat", "dog"] and annotations.read(0).shape == (20, 40, 3)
    assert len(load_data(tmp_path / "out" / "data.yaml", "val").boxes) == 0
    assert snapshot(tmp_path / "in") == before


@pytest.mark.parametrize("used", [False, True])
def test_a_set_that_was_not_written_to_its_end_is_not_read(tmp_path, monkeypatch, used):
    coco(tmp_path / "all.json")
    out, write = tmp_path / "out", TOOL["_write"]
    if used:  # by others, whose files stay readable
        coco(out / "instances_other.json")

    def interrupted(annotations, path, anew):
        if path.name != "instances_train.json":
            raise KeyboardInterrupt
        write(annotations, path, anew)

    monkeypatch.setitem(TOOL["convert"].__globals__, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TOOL["convert"](str(tmp_path / "all.json"), out, share=0.5)
    assert (out / "instances_train.json").exists()
    if used:
        assert len(load_data(out, "other")) == 50
    else:
        with pytest.raises(UserError, match="out: this dataset is being written, or writing it was interrupted"):
            load_data(out, "train")


def test_one_file(tmp_path, capsys):
    yolo(tmp_path / "in")
    assert run(tmp_path / "in", "--out", tmp_path / "x.json") == 2
    assert "cannot hold 2 sets" in capsys.readouterr().err
    (tmp_path / "in" / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    assert run(tmp_path / "in", "--out", tmp_path / "x.json") == 0
    written = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert written["info"]["images"] == str(tmp_path / "in" / "images" / "train")
    assert written["images"] == [{"id": 1, "file_name": "a é.png", "width": 40, "height": 20}]


def test_voc_to_coco(tmp_path):
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "JPEGImages" / "a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>8</ymax></bndbox>"
    (tmp_path / "Annotations" / "a.xml").write_text(f"<annotation><object><name>cat</name>{box}</object></annotation>")
    assert run(tmp_path, "--out", tmp_path / "out") == 0
    annotations = load_data(tmp_path / "out" / "data.yaml", "train")
    assert (
        annotations.boxes.tolist() == [[1, 2, 3, 6]]
        and annotations.names == ["cat"]
        and annotations.image_path(0).is_file()
    )


def test_mistakes_end_in_one_line_and_write_nothing(tmp_path, capsys):
    coco(tmp_path / "all.json")
    yolo(tmp_path / "yolo")
    out = tmp_path / "out"
    for arguments, message in (
        ((tmp_path / "none", "--out", out), "no such file"),
        ((tmp_path / "all.json", "--out", out, "--split", 1.5), "between 0 and 1"),
        ((tmp_path / "all.json", "--out", out, "--split", "nan"), "between 0 and 1"),
        ((tmp_path / "yolo", "--out", out, "--split", 0.5), "has splits already"),
        ((tmp_path / "all.json", "--out", tmp_path / "all.json"), "exists and is not overwritten"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not out.exists()
    assert run(tmp_path / "all.json", "--out", out, "--split", 0.5) == 0
    before = snapshot(out)
    assert run(tmp_path / "all.json", "--out", out, "--split", 0.6) == 2
    assert snapshot(out) == before


def test_skip_bad(tmp_path, capsys):
    content = coco(tmp_path / "all.json")
    content["annotations"][3]["bbox"] = [1, 2, -1, 0]
    (tmp_path / "all.json").write_text(json.dumps(content))
    assert run(tmp_path / "all.json", "--out", tmp_path / "out") == 2
    assert "annotation id 4 has a box of width -1" in capsys.readouterr().err
    assert run(tmp_path / "all.json", "--out", tmp_path / "out", "--skip-bad") == 0
    assert "left out: " in capsys.readouterr().out
    (split,) = splits(tmp_path / "out" / "data.yaml")
    assert len(load_data(tmp_path / "out" / "data.yaml", split).boxes) == len(content["annotations"]) - 1


@real
def test_real_classes_stay_in_proportion():
    for name in ("bccd/instances_train.json", "cards/instances_train.json"):
        annotations = load_coco(DATA / name)
        train, _ = cut(annotations, 0.8, 0)
        part = np.bincount(annotations.select(train).labels) / np.bincount(annotations.labels)
        assert np.abs(part - 0.8).max() < 0.02
