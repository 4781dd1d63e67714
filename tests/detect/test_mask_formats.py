"""Masks and classes that other programs write: VOC's two kinds of masks, projects of VIA 3, COCO without boxes."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from detect.data.pixel_labels import image_labels, layered
from detect.data.sources.coco import load_coco
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.semantic import IGNORED

OBJECTS = np.zeros((8, 12), np.uint8)
OBJECTS[1:5, 1:4], OBJECTS[3:7, 6:11] = 1, 2
KINDS = np.zeros((8, 12), np.uint8)
KINDS[1:5, 1:4], KINDS[3:7, 6:11] = 12, 15  # dog, person
for mask in (OBJECTS, KINDS):
    mask[0] = mask[:, 11] = 255


def palette(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values, "P")
    image.putpalette([i % 256 for i in range(768)])
    image.save(path)


@pytest.fixture
def voc(tmp_path):
    """Three images with masks, of which the lists name two, and one without."""
    for name in "abcd":
        (tmp_path / "JPEGImages").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "JPEGImages" / f"{name}.jpg"), np.zeros((8, 12, 3), np.uint8))
    for name in "abc":
        palette(tmp_path / "SegmentationObject" / f"{name}.png", OBJECTS)
        palette(tmp_path / "SegmentationClass" / f"{name}.png", KINDS)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    return tmp_path


@pytest.mark.parametrize("place", ["", "SegmentationObject"])
def test_objects_of_voc_masks_have_the_class_of_their_pixels(voc, place):
    assert list(splits(voc / place)) == ["train", "val"]
    train = load_data(voc / place, "train")
    assert [train.names[label] for label in train.labels] == ["dog", "person"] and len(train.names) == 20
    assert train.boxes.tolist() == [[1, 1, 3, 4], [6, 3, 5, 4]] and train.areas.tolist() == [12, 20]
    assert (train.outlines.pixels(1, (8, 12))[1] == (OBJECTS == 2)[3:7, 6:11]).all()


def test_classes_of_voc_masks_leave_void_pixels_out(voc):
    train = layered(load_data(voc / "SegmentationClass", "train"))
    labels = image_labels(train, 0, (8, 12))
    assert (labels[KINDS == 255] == IGNORED).all() and (labels[KINDS == 0] == len(train.names)).all()
    assert {train.names[label] for label in labels[(KINDS > 0) & (KINDS < 255)]} == {"dog", "person"}


def test_without_lists_every_image_needs_a_mask(voc):
    for path in (voc / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"d\.jpg has no label file in .*SegmentationObject"):
        load_data(voc, "train")
    assert len(load_data(voc, "train", skip_bad=True)) == 3


def test_other_classes_are_named_by_a_list(voc):
    (voc / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\n" + "x:1,1,1::\n" * 11)
    with pytest.raises(UserError, match=r"object 1 has class 12, which has no name; write its name into classes\.txt"):
        load_data(voc, "train")
    (voc / "classes.txt").write_text("12 hound\n15 walker\n")
    assert load_data(voc, "train").names == ["hound", "walker"]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (
            lambda voc: (voc / "ImageSets/Segmentation/train.txt").write_text("z"),
            "names 'z', of which there is no image",
        ),
        (
            lambda voc: (voc / "SegmentationClass/a.png").unlink(),
            "there is no image of its name in .*SegmentationClass",
        ),
        (lambda voc: palette(voc / "SegmentationClass/a.png", KINDS[:4]), "has 12 x 4 pixels, its image 12 x 8"),
        (
            lambda voc: palette(voc / "SegmentationClass/a.png", KINDS * 0),
            "object 1 has no class: its pixels are background",
        ),
        (lambda voc: (voc / "SegmentationObject/a.png").write_bytes(b"\x89PNG\r\n\x1a\nx"), r"a\.png"),
    ],
)
def test_broken_voc_masks_are_told_in_a_line(voc, break_it, said):
    break_it(voc)
    with pytest.raises(UserError, match=said) as error:
        load_data(voc, "train")
    assert "\n" not in str(error.value)


def test_masks_without_objects_are_images_without_objects(voc):
    palette(voc / "SegmentationObject/a.png", OBJECTS * 0)
    palette(voc / "SegmentationClass/a.png", KINDS * 0)
    train = load_data(voc, "train")
    assert len(train) == 1 and len(train.labels) == 0
    assert len(load_data(voc / "SegmentationClass", "train").labels) == 0


def test_a_voc_folder_with_objects_alone_needs_classes(voc):
    for path in (voc / "SegmentationClass").iterdir():
        path.unlink()
    (voc / "SegmentationClass").rmdir()
    with pytest.raises(UserError, match="SegmentationObject has no classes: add SegmentationClass beside it"):
        load_data(voc, "train")


def test_label_images_saved_as_jpeg_are_refused_by_name(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            cv2.imwrite(str(tmp_path / folder / f"{name}.jpg"), np.zeros((8, 12, 3), np.uint8))
    said = r"[ab]\.jpg:? has the label image .*masks.[ab]\.jpg, whose values JPEG has changed; export it as PNG"
    with pytest.raises(UserError, match=said):
        load_data(tmp_path, "train")
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), OBJECTS)
    with pytest.raises(UserError, match=said):
        load_data(tmp_path, "train")
    assert len(load_data(tmp_path, "train", skip_bad=True)) == 1


# COCO


def coco(tmp_path, *annotations):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 12, 3), np.uint8))
    records = [{"id": i, "image_id": 1, "category_id": 1} | one for i, one in enumerate(annotations, start=1)]
    images = [{"id": 1, "file_name": "a.png", "height": 8, "width": 12}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": records, "categories": [{"id": 1, "name": "x"}]}))
    return path


def test_a_coco_record_without_a_box_has_that_of_its_mask(tmp_path, capfd):
    mask = {"size": [8, 12], "counts": [9, 3, 84]}
    polygon = [[2.5, 1, 6, 1, 6, 5]]
    path = coco(tmp_path, {"segmentation": polygon}, {"segmentation": mask, "bbox": []}, {"bbox": [1, 2, 3, 4]})
    found = load_coco(path)
    assert found.boxes.tolist() == [[2.5, 1, 3.5, 4], [1, 1, 1, 3], [1, 2, 3, 4]]
    said = "2 annotations have a segmentation and no bbox: their boxes are those of their masks"
    assert said in capfd.readouterr().err and [line for _, line in found.notes] == [said]


@pytest.mark.parametrize(
    "segmentation", [None, [], [[1, 2]], {"size": [8, 12], "counts": [96]}, {"size": [9, 12], "counts": [9, 3, 96]}]
)
def test_without_a_mask_that_can_be_used_a_box_is_missed(tmp_path, segmentation):
    path = coco(tmp_path, {"segmentation": segmentation}, {"bbox": [1, 2, 3, 4]})
    with pytest.raises(UserError, match="annotation id 1 has bbox None, not four finite numbers"):
        load_coco(path)
    assert len(load_coco(path, skip_bad=True).boxes) == 1


# DOTA and VOC: difficult objects


def dota(tmp_path, *rows):
    for folder in ("images", "labelTxt"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((8, 12, 3), np.uint8))
    (tmp_path / "labelTxt" / "a.txt").write_text("".join(f"1 1 5 1 5 4 1 4 {row}\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("rows", [("plane 0", "plane hard"), ("plane 0", "plane X"), ("plane", "storage tank TRUE")])
def test_a_difficulty_that_is_a_word_is_no_part_of_the_class(tmp_path, rows):
    folder = dota(tmp_path, *rows)
    with pytest.raises(UserError, match=r"has difficulty '\w+'; write a number: 0, or 1 for a difficult object"):
        load_data(folder, "train")
    assert load_data(folder, "train", skip_bad=True).names == ["plane"]


def test_classes_of_two_words_stay(tmp_path):
    found = load_data(dota(tmp_path, "storage tank", "storage tank 1", "storage 0", "plane"), "train")
    assert found.names == ["plane", "storage", "storage tank"] and found.difficult.tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_difficult_objects_of_voc_are_marked(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 60, 3), np.uint8))
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    turned = "<robndbox><cx>20</cx><cy>20</cy><w>10</w><h>6</h><angle>0.3</angle></robndbox>"
    things = ((box, "1"), (turned, "1"), (box, "0"), (box, ""), (box, None))
    flags = ("" if flag is None else f"<difficult>{flag}</difficult>" for _, flag in things)
    text = "".join(f"<object><name>x</name>{f}{b}</object>" for (b, _), f in zip(things, flags, strict=True))
    (tmp_path / "a.xml").write_text(f"<annotation>{text}</annotation>")
    assert load_data(tmp_path, "train").difficult.tolist() == [True, True, False, False, False]


# VIA 3


def via(tmp_path, regions, **files):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((80, 120, 3), np.uint8))
    files = {"1": {"fid": 1, "fname": "a.png", "type": 2}, **files}
    content = {
        "project": {"pid": "x", "vid_list": ["1"]},
        "config": {},
        "attribute": {"1": {"aname": "class", "type": 3, "options": {"K": "sky", "0": "road"}}},
        "file": files,
        "view": {key: {"fid_list": [int(key)]} for key in files},
        "metadata": {str(i): {"vid": "1", "z": [], "av": {"1": "K"}} | one for i, one in enumerate(regions)},
    }
    path = tmp_path / "via.json"
    path.write_text(json.dumps(content))
    return path


def test_a_project_of_via_3_is_read(tmp_path):
    shapes = [
        [2, 10, 20, 30, 15],
        [3, 50, 40, 10],
        [4, 50, 40, 20, 10],
        [7, 1, 2, 30, 2, 30, 20],
        [8, 5, 10, 20, 4, 33, 9, 20, 30],
        [9, 60, 40, 50, 50, 40, 40],
    ]
    regions = [{"xy": xy} for xy in shapes] + [{"xy": []}]  # the last is of the whole file
    regions[0]["av"] = {"1": "0"}
    found = load_data(via(tmp_path, regions), "train")
    assert found.names == ["road", "sky"] and found.labels.tolist() == [0, 1, 1, 1, 1, 1]
    expected = [[10, 20, 30, 15], [40, 30, 20, 20], [30, 30, 40, 20], [1, 2, 29, 18], [5, 4, 28, 26], [40, 30, 20, 20]]
    assert np.abs(found.boxes - expected).max() < 0.1 and found.outlines.present.all()


@pytest.mark.parametrize(
    ("regions", "files", "said"),
    [
        ([{"xy": [6, 1, 2, 3, 4]}], {}, r"region 2 is a shape without an inside \(polyline\)"),
        ([{"xy": [7, 1, 2, 3, 4]}], {}, "has a polygon of 2 points"),
        ([{"xy": [9, 0, 0, 1, 1, 2, 2]}], {}, "is a circle through three points of one line"),
        ([{"xy": [2, 1, 2, 3, 4], "av": {}}], {}, "has no class: call its attribute one of class"),
        ([{"xy": [2, 1, 2, 3]}], {}, "is not written as a shape of its program"),
        ([{"xy": [2, 1, 2, 3, 4], "av": {"7": "0"}}], {}, "is not written as a shape of its program"),
        ([{"xy": [2, 1, 2, 3, 4], "vid": "9"}], {}, "is not written as an export of its program"),
        ([{"xy": [2, 1, 2, 3, 4], "vid": "2"}], {"2": {"fname": "b.mp4", "type": 4}}, "regions of videos are not read"),
    ],
)
def test_what_a_project_of_via_3_cannot_mean_is_told_in_a_line(tmp_path, regions, files, said):
    with pytest.raises(UserError, match=said):
        load_data(via(tmp_path, [{"xy": [2, 1, 2, 3, 4]}, *regions], **files), "train")
