"""Exports of labelling programs as COCO json: `tools/convert.py`."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from detect.data.sources.coco import load_coco
from detect.data.sources.label_studio import unpacked
from tools import convert

SIZE = (20, 40)


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], (90, 120, 30)).save(path)


def converted(folder, source=None, *options):
    """The status of a conversion, and the annotations that it wrote."""
    out = folder / "out.json"
    status = convert.main([str(source or folder / "export.json"), "--out", str(out), *options])
    return status, load_coco(out, folder) if status == 0 else None


def polygons(annotations):
    return [annotations.outlines.segmentation(i) for i in range(len(annotations.boxes))]


def via(*regions, name="a.png"):
    return {f"{name}123": {"filename": name, "size": 123, "regions": list(regions), "file_attributes": {}}}


def region(kind, attributes=None, **shape):
    attributes = {"class": "ship"} if attributes is None else attributes
    return {"shape_attributes": {"name": kind, **shape}, "region_attributes": attributes}


TRIANGLE = region("polygon", all_points_x=[1, 5, 5], all_points_y=[1, 1, 7])
VIA = [
    TRIANGLE,
    region("rect", {"type": {"boat": True, "raft": False}}, x=2, y=3, width=10, height=5),
    region("circle", {"anything": "buoy"}, cx=10, cy=10, r=4),
    region("ellipse", cx=20, cy=10, rx=8, ry=4, theta=np.pi / 2),
]


@pytest.mark.parametrize("form", ["export", "project", "old"])
def test_via(tmp_path, form):
    image(tmp_path / "images" / "a.png")
    content = via(*VIA)
    if form == "old":
        content["a.png123"]["regions"] = {str(i): one for i, one in enumerate(VIA)}
    content = {"_via_settings": {}, "_via_img_metadata": content} if form == "project" else content
    (tmp_path / "export.json").write_text(json.dumps(content))
    status, annotations = converted(tmp_path)
    assert status == 0
    assert annotations.names == ["boat", "buoy", "ship"]
    assert annotations.labels.tolist() == [2, 0, 1, 2]
    assert annotations.file_name(0) == "images/a.png"
    assert polygons(annotations)[:2] == [[[1, 1, 5, 1, 5, 7]], [[2, 3, 12, 3, 12, 8, 2, 8]]]
    assert np.allclose(annotations.boxes[2:], [[6, 6, 8, 8], [16, 2, 8, 16]])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (region("point", cx=1, cy=2), "region 2 is a shape without an inside (point)"),
        (region("polygon", all_points_x=[1, 5], all_points_y=[1, 1]), "has a polygon of 2 points"),
        (region("polygon", all_points_x=[1, 5, 5], all_points_y=[1, 1]), "region 2 all input arrays must have"),
        (region("rect", x=1, y=2), "region 2 is not written as a shape of its program"),
        (region("rect", x=1, y=2, width=0, height=3), "region 2 has a box of width 0"),
        (region("rect", {"a": "x", "b": "y"}, x=1, y=2, width=3, height=3), "has no class: call its attribute one of"),
        (region("circle", {}, cx=1, cy=2, r=3), "has no class"),
        ({}, "is not written as a shape"),
        ([], "is not written as a shape"),
    ],
)
def test_what_is_wrong_in_an_export_is_one_line_or_left_out(tmp_path, capsys, bad, reason):
    (tmp_path / "export.json").write_text(json.dumps(via(TRIANGLE, bad)))
    image(tmp_path / "a.png")
    assert converted(tmp_path)[0] == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert reason in lines[0]
    assert len(converted(tmp_path, None, "--skip-bad")[1].boxes) == 1
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    "export",
    [
        {"a": {"filename": "a.png", "regions": 5}},
        [{"data": {"image": 3}, "annotations": [{"result": [3]}]}],
        [{"data": {}, "annotations": 7}],
        {"shapes": [], "imagePath": None},
    ],
)
def test_an_export_that_is_none_is_one_line(tmp_path, capsys, export):
    (tmp_path / "export.json").write_text(json.dumps(export))
    assert converted(tmp_path)[0] == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def labelme(*shapes, path="../images\\a.png"):
    return {"version": "5", "shapes": list(shapes), "imagePath": path, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}


def shape(kind, points, label="ship", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def test_labelme(tmp_path):
    image(tmp_path / "images" / "a.png")
    mask = np.zeros((3, 4), bool)
    mask[1:, 1:] = True
    data = io.BytesIO()
    Image.fromarray(mask).save(data, "PNG")
    shapes = [
        shape("polygon", [[1, 1], [5, 1], [5, 7]], group_id=4),
        shape("rectangle", [[12, 8], [2, 3]], "raft"),
        shape("polygon", [[11, 1], [15, 1], [15, 7]], group_id=4),
        shape("circle", [[10, 10], [10, 14]], "raft", group_id=4),
        shape("mask", [[20, 5], [23, 7]], mask=base64.b64encode(data.getvalue()).decode()),
    ]
    (tmp_path / "a.json").write_text(json.dumps(labelme(*shapes)))
    status, annotations = converted(tmp_path, tmp_path)
    assert status == 0
    assert annotations.names == ["raft", "ship"]
    assert annotations.labels.tolist() == [1, 0, 0, 1]
    assert annotations.sizes.tolist() == [list(SIZE)]
    assert polygons(annotations)[0] == [[1, 1, 5, 1, 5, 7], [11, 1, 15, 1, 15, 7]]
    assert np.allclose(annotations.boxes[1:], [[2, 3, 10, 5], [6, 6, 8, 8], [21, 6, 3, 2]])


def packed(values):
    """Bytes as Label Studio packs them: literal blocks and repeated ones by turns."""
    bits = [f"{len(values):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    runs = np.split(values, np.flatnonzero(np.diff(values)) + 1)
    for run in runs:
        if len(run) > 4:
            bits += ["1", "11", f"{len(run) - 1:016b}", f"{run[0]:08b}"]
        else:
            bits += ["0", "01", f"{len(run) - 1:04b}", *(f"{value:08b}" for value in run)]
    joined = "".join(bits)
    return [int(joined[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(joined), 8)]


MASK = np.zeros(SIZE, np.uint8)
MASK[3:9, 5:30:3], MASK[12, 12] = 255, 255


def result(kind, **value):
    return {"type": kind, "original_width": SIZE[1], "original_height": SIZE[0], "value": value}


def task(*results, address="/data/upload/3/1a2b3c4d-a.png", **more):
    return {"id": 7, "data": {"image": address}, "annotations": [{"result": list(results)}], **more}


def test_label_studio(tmp_path, capsys):
    image(tmp_path / "a.png")
    image(tmp_path / "images" / "sub" / "b c.png")
    brush = packed(np.repeat(MASK.ravel(), 4))
    one = task(
        result("rectanglelabels", x=10, y=10, width=50, height=25, rotation=0, rectanglelabels=["ship"]),
        result("rectanglelabels", x=50, y=10, width=10, height=40, rotation=90, rectanglelabels=["ship"]),
        result("polygonlabels", points=[[0, 0], [50, 0], [50, 50]], polygonlabels=["raft"]),
        result("brushlabels", format="rle", rle=brush, brushlabels=["ship"]),
        result("ellipselabels", x=50, y=50, radiusX=10, radiusY=10, rotation=90, ellipselabels=["raft"]),
        {"type": "choices", "value": {"choices": ["night"]}},
    )
    one["annotations"] = [{"was_cancelled": True, "result": []}, *one["annotations"], {"result": []}]
    two = task(address="/data/local-files/?d=sub/b%20c.png")
    (tmp_path / "export.json").write_text(json.dumps([one, two]))
    status, annotations = converted(tmp_path)
    assert status == 0
    assert "task 7 has 2 annotations: the first is used" in capsys.readouterr().out
    assert [annotations.file_name(i) for i in range(2)] == ["a.png", "images/sub/b c.png"]
    assert annotations.labels.tolist() == [1, 1, 0, 1, 0]
    assert np.allclose(annotations.boxes, [[4, 2, 20, 5], [12, 2, 8, 4], [0, 0, 20, 10], [5, 3, 25, 10], [18, 6, 4, 8]])
    (left, top), pixels = annotations.outlines.pixels(3, SIZE)
    assert (pixels == (MASK[top : top + pixels.shape[0], left : left + pixels.shape[1]] > 0)).all()
    assert pixels.sum() == (MASK > 0).sum()


@pytest.mark.parametrize(
    ("rle", "reason"),
    [
        (packed(np.repeat(MASK.ravel(), 4))[:-9], "cut off"),
        (packed(np.repeat(MASK.ravel(), 3)), "has a mask of 2400 values of 8 bits, not of 3200"),
        ([255] * 40, "has a mask of 4294967295 values"),
        ([], "cut off"),
        ([300], "numbers that are no bytes"),
        (["a"], "is not written as a shape"),
    ],
)
def test_a_hostile_brush_is_one_line(tmp_path, capsys, rle, reason):
    image(tmp_path / "a.png")
    export = [task(result("brushlabels", format="rle", rle=rle, brushlabels=["ship"]))]
    (tmp_path / "export.json").write_text(json.dumps(export))
    assert converted(tmp_path)[0] == 2
    assert reason in capsys.readouterr().err


def test_brushes_are_unpacked_as_they_were_packed():
    rng = np.random.default_rng(0)
    for _ in range(10):
        values = np.repeat(rng.integers(0, 256, 40).astype(np.uint8), rng.integers(1, 30, 40))
        assert (unpacked(packed(values), len(values)) == values).all()
