"""Targets of the fuzzer for annotations, tables and settings: see `fuzz_targets`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detect.errors import UserError

ROWS = "0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.5 0.2 0.3 0.8\n"
XML = """<?xml version="1.0" encoding="UTF-8"?>
<annotation><filename>{0}.png</filename><size><width>40</width><height>20</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12.5</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>5</xmin><ymin>1</ymin><xmax>39</xmax><ymax>19</ymax></bndbox></object>
</annotation>
"""
SETTINGS = """data: toy
epochs: 3
imgsz: 64
model: {name: small, backbone: csp_n, levels: [3, 4], anchors: [], loss: {box: 7.5, class_weights: [1.0, 2.0]}}
optim: {name: adamw, lr: 1e-3, schedule: piecewise, milestones: [0.6, 0.8]}
augment: {mosaic: 0.5, albumentations: [{Blur: {p: 0.1}}]}
callbacks: [tensorboard]
"""


def make_images(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 40, 3), np.uint8)).save(path)


def make_json(folder: Path) -> None:
    """COCO with keypoints, crowds and names in several scripts."""
    make_images(folder, "images/a.png", "images/b.png", "images/c.png")
    images = [{"id": i, "file_name": f"{name}.png", "width": 40, "height": 20} for i, name in enumerate("abc", 1)]
    category: dict[str, Any] = {"name": "cat", "supercategory": "animal"}
    category |= {"keypoints": ["left", "right"], "skeleton": [[1, 2]]}
    annotations = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 2, 10, 8.5],
            "area": 80,
            "keypoints": [1, 2, 2, 3, 4, 1],
        },
        {"id": 2, "image_id": 1, "category_id": 9, "bbox": [5, 5, 20, 10], "iscrowd": 1, "segmentation": []},
        {"id": 3, "image_id": 3, "category_id": 9, "bbox": [0, 0, 40, 20], "keypoints": [0, 0, 0, 0, 0, 0]},
    ]
    categories = [{"id": 1, **category}, {"id": 9, **category, "name": "d\u00f6g \u732b"}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances_train.json").write_text(json.dumps(content, ensure_ascii=False))


def make_xml(folder: Path) -> None:
    """Pascal VOC with a list of images."""
    make_images(folder, "JPEGImages/a.png", "JPEGImages/b.png")
    (folder / "Annotations").mkdir()
    for name in "ab":
        (folder / "Annotations" / f"{name}.xml").write_text(XML.format(name))
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\n")


def make_yolo(folder: Path) -> None:
    """YOLO: a folder of images with label files, a list of other images, and the data.yaml of both."""
    make_images(folder, "images/train/a.png", "images/train/b.png", "images/val/c.png")
    for name in ("train/a", "train/b", "val/c"):
        path = folder / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROWS)
    (folder / "list.txt").write_text("./images/val/c.png\nimages/train/a.png\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: list.txt\nnc: 2\nnames: {0: cat, 1: dog}\n")


def make_csv(folder: Path) -> None:
    """Tables of landmarks, of image labels, and of signals."""
    make_images(folder, "a.png", "b.png")
    (folder / "points.csv").write_text("file,x0,y0,x1,y1\na.png,1,2,3.5,4\nb.png,5,6,,\n")
    (folder / "labels.csv").write_text('file,label,split\na.png,cat,train\n"b.png","d,og",val\n')
    (folder / "signals_TRAIN.csv").write_text("1,0.5,0.25,1e-3\n2,1,2,3\n")
    (folder / "signals_TEST.csv").write_text("1 0.5 0.25 1e-3\n2 1 2 3\n")


def make_yaml(folder: Path) -> None:
    """A data YAML, settings of a run, and a model."""
    make_json(folder)
    (folder / "instances_train.json").rename(folder / "train.coco")
    (folder / "data.yaml").write_text(
        "train: &t {annotations: train.coco, images: images}\nval: *t\ntest:\n  <<: *t\n  images: images\n"
    )
    (folder / "settings.yaml").write_text(SETTINGS)
    (folder / "model.yaml").write_text("{name: small, backbone: csp_n, width: 16, levels: [3, 4], loss: {box: 5}}\n")


def make_outlines(folder: Path) -> None:
    """Outlines of every format: COCO polygons and RLEs, DOTA, roLabelImg, polygons and corners of YOLO, VIA."""
    for name in ("coco", "dota", "rolabelimg", "yolo", "via"):
        make_images(folder / name, "images/a.png")
    segmentations: list[Any] = [
        [[1, 2, 11, 2, 11, 10.5, 1, 10], [20, 5, 25.5, 5, 22, 9]],
        [[1, 2, 11, 12, 11, 2, 1, 12]],
        {"size": [20, 40], "counts": [45, 5, 15, 5, 730]},
        {"size": [20, 40], "counts": "]15?0[f0"},
    ]
    first = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 25, 10]}
    records = [{"id": i, **first, "segmentation": value} for i, value in enumerate(segmentations, start=1)]
    image = {"id": 1, "file_name": "a.png", "width": 40, "height": 20}
    content = {"images": [image], "annotations": records, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "coco/instances_train.json").write_text(json.dumps(content))
    (folder / "dota/labelTxt").mkdir()
    rows = "imagesource:x\ngsd:0.5\n1 2 11 2 11 10.5 1 10 cat 0\n20 5 30 9 25 15 15 9 dog 1\n"
    (folder / "dota/labelTxt/a.txt").write_text(rows)
    (folder / "rolabelimg/annotations").mkdir()
    box = "<robndbox><cx>20</cx><cy>10</cy><w>12</w><h>4.5</h><angle>0.7</angle></robndbox>"
    (folder / "rolabelimg/annotations/a.xml").write_text(XML.format("a").replace("<bndbox>", f"{box}<bndbox>", 1))
    (folder / "yolo/labels").mkdir()
    (folder / "yolo/labels/a.txt").write_text("0 0.1 0.2 0.5 0.2 0.3 0.8\n0 .1 .2 .5 .2 .5 .8 .1 .8\n")
    (folder / "yolo/data.yaml").write_text("train: images\nnames: [cat]\n")
    regions = [
        {
            "shape_attributes": {"name": "polygon", "all_points_x": [1, 5, 5], "all_points_y": [1, 1, 7]},
            "region_attributes": {"class": "cat"},
        },
        {
            "shape_attributes": {"name": "ellipse", "cx": 9, "cy": 9, "rx": 5, "ry": 3, "theta": 0.5},
            "region_attributes": {"class": "cat"},
        },
    ]
    export = {"a": {"filename": "a.png", "size": 1, "regions": regions, "file_attributes": {}}}
    (folder / "via/via.json").write_text(json.dumps(export))


def make_shards(folder: Path) -> None:
    """Shards of both kinds, each in a folder of its own."""
    from detect.data.shard_writers import write_shards
    from detect.data.sources.formats import load_data
    from detect.utils.atomic_io import temporary_folder

    with temporary_folder() as source:
        make_json(source)
        annotations = load_data(source, "train")
        for form in ("webdataset", "parquet"):
            write_shards(annotations, folder / form, "train", form).unlink()


def read_shards(path: Path) -> None:
    """Read a shard, with its labels and images."""

    def used(skip_bad: bool) -> None:
        annotations = load_data(path, "train", skip_bad)
        for i in range(len(annotations)):
            annotations.read(i)

    from detect.data.sources.formats import load_data

    each(lambda: used(True), lambda: used(False))


def read_outlines(path: Path) -> None:
    """Read the outlines of the dataset that the file belongs to, and make of them what tasks and commands do."""
    from detect.data.outline_checks import outlined
    from detect.data.sources.formats import load_data
    from detect.data_check.findings import check

    folder = next(place for place in path.parents if (place / "images").is_dir())

    def used(skip_bad: bool) -> None:
        annotations = load_data(path if path.name == "via.json" else folder, "train", skip_bad)
        kept = outlined(annotations, skip_bad)
        if kept.outlines is not None and len(kept.outlines):
            bounds = kept.outlines.bounds((20, 40))
            kept.outlines.grids(bounds, 8)
            kept.outlines.label_map(kept.labels % 255, (20, 40))
            kept.outlines.corners()
            json.dumps([kept.outlines.rle(i, (20, 40)) for i in range(len(bounds))])
            json.dumps(kept.to_coco())

    works = [lambda: used(True), lambda: used(False)]
    each(*works, *([] if path.name == "via.json" else [lambda: check(str(folder), 64, 2)]))


def read_data(path: Path) -> None:
    """Read the dataset that the file belongs to, as training and `detect check` do."""
    above = [*path.parents][:3]
    folder = next(
        p for p in above if any((p / n).exists() for n in ("data.yaml", "Annotations", "instances_train.json"))
    )
    _whole(folder / "data.yaml" if (folder / "data.yaml").exists() else folder)


def read_csv(path: Path) -> None:
    """Read a table as the kind that it was before the damage."""
    from detect.data.sources.formats import load_data, splits

    whole = "" if path.stem == "points" else "images"
    each(
        *(
            lambda skip_bad=s: [load_data(path, name, skip_bad, whole) for name in splits(path, whole)]
            for s in (True, False)
        )
    )


def read_yaml(path: Path) -> None:
    """Read a data YAML, or settings as a file and as the value of a flag."""
    from detect.cli.parser import parse

    if path.stem in ("data", "train"):
        _whole(path.with_name("data.yaml"))
    elif path.stem == "settings":
        parse("train", ["--config", str(path)])
    else:
        text = path.read_bytes().decode("utf-8", "replace")
        each(*(lambda v=v: parse("train", ["--data", "toy", f"--model={v}"]) for v in (str(path), text)))


def _whole(data: Path) -> None:
    from detect.data.sources.formats import load_data, splits
    from detect.data.validate import usable, verify
    from detect.data_check.findings import check

    def trained(skip_bad: bool) -> None:
        for split in splits(data):
            annotations = usable(verify(load_data(data, split, skip_bad), skip_bad), skip_bad)
            for i in range(len(annotations)):
                annotations.target(i)

    each(lambda: trained(True), lambda: trained(False), lambda: check(str(data), 64, 2))


def each(*works: Callable[[], object]) -> None:
    """Call all functions, then raise the first UserError."""
    refused: list[UserError] = []
    for work in works:
        try:
            work()
        except UserError as error:
            refused.append(error)
    if refused:
        raise refused[0]
