"""Formats of outlines other than COCO's: DOTA's texts, roLabelImg's xml, label images."""

import math
import re

import numpy as np
import pytest
from PIL import Image

from detect.data.outline_checks import outlined
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError

ROW = "10 2 30 2 30 12 10 12"


def image(path, width=40, height=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 30)).save(path)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def dota(folder, rows, labels="labelTxt"):
    """A set of two images of a split each, of which the second is without objects."""
    image(folder / "train/images/a.png")
    text(folder / f"train/{labels}/a.txt", f"imagesource:GoogleEarth\ngsd:0.14\n{rows}\n")
    image(folder / "val/images/b.png")
    text(folder / f"val/{labels}/b.txt", "imagesource:GoogleEarth\ngsd:null\n")
    return folder


@pytest.mark.parametrize("labels", ["labelTxt", "labelTxt-v1.5", "annfiles", "labels"])
def test_dota(tmp_path, labels):
    dota(tmp_path, f"{ROW} ship 0\n1 2 3 4 5 3 3 1 large vehicle 1\n{ROW} harbor", labels)
    assert splits(tmp_path) == ["train", "val"]
    train, val = load_data(tmp_path, "train"), load_data(tmp_path, "val")
    assert train.names == val.names == ["harbor", "large vehicle", "ship"]
    assert train.labels.tolist() == [2, 1, 0]
    assert train.difficult.tolist() == [False, True, False] and val.difficult is None
    assert [one.get("difficult", 0) for one in train.to_coco()["annotations"]] == [0, 1, 0]
    assert train.without(np.array([True, False, False]), []).difficult.tolist() == [True, False]
    assert train.select([0]).difficult.tolist() == [False, True, False]
    assert train.boxes[:2].tolist() == [[10, 2, 20, 10], [1, 1, 4, 3]]
    assert outlined(train).outlines.corners()[1].tolist() == [[1, 2], [3, 4], [5, 3], [3, 1]]
    assert len(val) == 1
    assert len(val.boxes) == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1 2 3 4 5 6 7 ship 0", "a row is eight numbers, a class and a difficulty"),
        ("1 2 3 4 5 6 7 x ship 0", "a row is eight numbers"),
        ("1 2 3 4 5 6 7 nan ship 0", "a row is eight numbers"),
        ("1 2 3 4 5 6 7 8", "a row is eight numbers"),
        ("1 2 3 4 5 6 7 8 5 5 red 0", "a row is eight numbers"),
        ("5 2 5 4 5 6 5 8 ship 0", "has a box of width 0 and height 6"),
    ],
)
def test_bad_rows_of_dota_are_named_or_left_out(tmp_path, row, reason):
    dota(tmp_path, f"{ROW} ship 0\n{row}")
    with pytest.raises(UserError, match=rf"a\.txt line 4 .*{reason}"):
        load_data(tmp_path, "train")
    rest = load_data(tmp_path, "train", skip_bad=True)
    assert len(rest.boxes) == len(rest.left_out) == 1


def test_corners_in_a_wrong_order_are_put_in_order_and_those_on_a_line_refused(tmp_path):
    dota(tmp_path, "10 2 30 12 30 2 10 12 ship 0")
    corners = outlined(load_data(tmp_path, "train")).outlines.corners()[0]
    assert np.abs(corners - np.roll(corners, 1, axis=0)).min(1).tolist() == [0] * 4  # no diagonal among the sides
    dota(tmp_path, "1 1 2 2 3 3 4 4 ship 0")
    with pytest.raises(UserError, match="has an outline that encloses nothing"):
        outlined(load_data(tmp_path, "train"))


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda f: image(f / "train/images/c.png"), r"c\.png has no label file"),
        (lambda f: text(f / "train/labelTxt/c.txt", ""), r"c\.txt is a label file without an image"),
        (lambda f: text(f / "train/annfiles/a.txt", ROW + " ship 0"), "is a second folder beside"),
        (lambda f: (f / "train/images/c.heic").write_bytes(b"x"), "format that cannot be decoded"),
    ],
)
def test_every_file_is_used_or_named(tmp_path, plant, said):
    plant(dota(tmp_path, f"{ROW} ship 0"))
    with pytest.raises(UserError, match=said):
        load_data(tmp_path, "train")
    assert len(load_data(tmp_path, "train", skip_bad=True).left_out) == 1


def turned(folder, *objects):
    image(folder / "images/a.png")
    things = "".join(f"<object><name>ship</name>{thing}</object>" for thing in objects)
    size = "<size><width>40</width><height>20</height></size>"
    text(folder / "annotations/a.xml", f"<annotation><filename>a.png</filename>{size}{things}</annotation>")
    return folder


def robndbox(cx=20, cy=10, w=10, h=4, angle=0.0):
    values = {"cx": cx, "cy": cy, "w": w, "h": h, "angle": angle}
    return f"<robndbox>{''.join(f'<{key}>{value}</{key}>' for key, value in values.items())}</robndbox>"


UPRIGHT = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>4</ymax></bndbox>"


def test_rolabelimg(tmp_path):
    swapped = robndbox(w=4, h=10, angle=math.pi / 2)
    annotations = load_data(turned(tmp_path, robndbox(), swapped, robndbox(angle=math.pi / 2), UPRIGHT), "train")
    assert np.allclose(annotations.boxes, [[15, 8, 10, 4], [15, 8, 10, 4], [18, 5, 4, 10], [1, 2, 4, 2]])
    corners = annotations.outlines.corners()
    assert np.allclose(corners[0], [[15, 8], [25, 8], [25, 12], [15, 12]])
    assert np.allclose(corners[3], [[1, 2], [5, 2], [5, 4], [1, 4]])
    assert load_data(turned(tmp_path, UPRIGHT), "train").outlines is None


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (robndbox(w=0), "has a robndbox of width 0 and height 4"),
        (robndbox(h=-1), "has a robndbox of width 10 and height -1"),
        (robndbox(angle="nan"), "NaN or infinite"),
        (robndbox(angle="x"), "without the five numbers"),
        ("<robndbox><cx>1</cx></robndbox>", "without the five numbers"),
    ],
)
def test_bad_oriented_boxes_are_named_or_left_out(tmp_path, box, reason):
    turned(tmp_path, robndbox(), box)
    with pytest.raises(UserError, match=rf"a\.xml object 2 .*{reason}"):
        load_data(tmp_path, "train")
    assert len(load_data(tmp_path, "train", skip_bad=True).boxes) == 1


def test_angles_in_degrees_are_refused_for_the_whole_set(tmp_path):
    turned(tmp_path, robndbox(angle=3), robndbox(angle=45))
    for skip_bad in (False, True):
        with pytest.raises(UserError, match="object 2 has an angle of 45, so angles are in degrees"):
            load_data(tmp_path, "train", skip_bad)


LABELS = np.zeros((20, 40), np.uint8)
LABELS[2:6, 3:9] = 1
LABELS[10:12, 20:30] = 2
LABELS[15:18, 3:9] = 2


def masks(folder, labels=LABELS, classes=None, mode=None, folders=("images", "masks")):
    image(folder / folders[0] / "a.jpg")
    path = folder / folders[1] / "a.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels, mode) if mode != "P" else Image.fromarray(labels).convert("L")
    if mode == "P":
        picture.putpalette([0] * 768)
        picture = Image.frombytes("P", picture.size, labels.tobytes())
        picture.putpalette([(7 * i) % 256 for i in range(768)])
    picture.save(path)
    if classes:
        text(folder / "classes.txt", classes)
    return folder


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "colours", "palette"])
def test_label_images_of_instances(tmp_path, kind):
    labels = LABELS.astype(np.uint16) * 300 if kind == "16 bits" else LABELS
    if kind == "colours":
        labels = np.repeat(LABELS[..., None], 3, axis=2)
    annotations = load_data(masks(tmp_path, labels, mode="P" if kind == "palette" else None), "train")
    assert annotations.names == ["object"]
    assert annotations.boxes.tolist() == [[3, 2, 6, 4], [3, 10, 27, 8]]
    assert annotations.areas.tolist() == [24, 38]
    drawn = annotations.outlines.label_map(np.array([1, 2]), (20, 40))
    assert (np.where(drawn == 255, 0, drawn) == LABELS).all()
    assert len(outlined(annotations).boxes) == 2


def test_the_border_of_a_palette_is_no_object(tmp_path):
    labels = LABELS.copy()
    labels[0] = 255
    assert len(load_data(masks(tmp_path, labels, mode="P"), "train").boxes) == 2
    assert len(load_data(masks(tmp_path, labels), "train").boxes) == 3  # a grey mask may be of 0 and 255 alone


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ("cell\ndish\n", ["cell", "dish"]),
        ("_background_\ncell\ndish", ["cell", "dish"]),
        ("2 dish\n1 cell\n7 other thing", ["cell", "dish", "other thing"]),
        ("0 background\n2 dish", ["background", "dish"]),
    ],
)
def test_label_images_of_classes(tmp_path, classes, names):
    annotations = load_data(masks(tmp_path, classes=classes), "train")
    assert annotations.names == names
    assert [names[label] for label in annotations.labels] == [name for name in names if name != "other thing"]


def test_values_above_a_thousand_are_objects_of_a_class(tmp_path):
    labels = LABELS.astype(np.uint16)
    labels[LABELS == 1], labels[LABELS == 2], labels[0] = 2001, 2002, 9
    annotations = load_data(masks(tmp_path, labels, "1 cell\n2 dish\n"), "train")
    assert annotations.labels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "classes", "reason"),
    [
        (LABELS[:10], None, "has 40 x 10 pixels, its image 40 x 20"),
        (np.dstack([LABELS, LABELS * 0, LABELS]), None, "is an image of colours (RGB)"),
        (LABELS, "1 cell\n1 dish", "value 1 has two names"),
        (LABELS, "background\n", "names no class"),
        (LABELS, "cell\ncell", "cell"),
    ],
)
def test_wrong_label_images_are_named(tmp_path, labels, classes, reason):
    with pytest.raises(UserError, match=re.escape(reason)):
        load_data(masks(tmp_path, labels, classes), "train")


@pytest.mark.parametrize(
    ("folders", "split"),
    [
        (("images/val", "masks/val"), "val"),
        (("valid/images", "valid/labels"), "val"),
        (("img", "annotations"), "train"),
    ],
)
def test_label_images_lie_where_people_put_them(tmp_path, folders, split):
    masks(tmp_path, folders=folders)
    assert splits(tmp_path) == [split]
    assert len(load_data(tmp_path, split).boxes) == 2


def test_label_images_of_fractions_are_refused(tmp_path):
    path = masks(tmp_path) / "masks/a.png"
    Image.fromarray(LABELS.astype(np.float32)).save(path.with_suffix(".tif"))
    path.unlink()
    with pytest.raises(UserError, match="has values that are not whole numbers"):
        load_data(tmp_path, "train")


def test_a_damaged_label_image_is_named(tmp_path):
    path = masks(tmp_path) / "masks/a.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"a\.png: the image is damaged or truncated"):
        load_data(tmp_path, "train")
