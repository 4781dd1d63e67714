import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from detect.data.outline_checks import outlined
from detect.data.sources.formats import load_data, splits
from detect.data.sources.inventory import pair, take_stock
from detect.data.sources.voc import voc_splits
from detect.data.validate import verify
from detect.data_check.findings import check
from detect.errors import UserError

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not at {DATA} (set GRIDHEAD_DATA)")


def image(path, width=40, height=20, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "teal").save(path, **options)
    return path


def coco(path, *names):
    """A COCO file of images 40 x 20 with one object each."""
    images = [{"id": i, "file_name": name, "width": 40, "height": 20} for i, name in enumerate(names, 1)]
    objects = [{"id": i, "image_id": i, "category_id": 5, "bbox": [1, 2, 3, 4]} for i in range(1, len(names) + 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": [{"id": 5, "name": "a"}]}))
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
    return path


def test_own_yaml_relative_and_absolute(tmp_path):
    coco(tmp_path / "ann" / "t.json", "x.png")
    coco(tmp_path / "far" / "v.json", "y.png", "z.png")
    image(tmp_path / "ann" / "pictures of é" / "x.png")
    for name in ("y.png", "z.png"):
        image(tmp_path / "far" / "images" / name)
    spec = text(
        tmp_path / "ann" / "data.yaml",
        {
            "val": {"annotations": str(tmp_path / "far" / "v.json")},
            "train": {"annotations": "t.json", "images": "pictures of é"},
        },
    )
    assert splits(spec) == ["train", "val"]
    train, val = load_data(spec, "train"), load_data(str(spec), "val")
    assert train.image_path(0).is_file() and len(train) == 1
    assert val.image_path(1).is_file() and len(val) == 2
    with pytest.raises(UserError, match="no split 'test'; there are: train, val"):
        load_data(spec, "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: [1, 2", "broken YAML"),
        ("just words", "does not describe a dataset"),
        ("", "does not describe a dataset"),
        ("train: a.json", "does not describe a dataset"),
        ("train: {images: x}", "train needs annotations"),
        ("train: {annotations: a.json, image: x}", "did you mean 'images'"),
        ("train: {annotations: a.json, images: none}", "there is no image folder"),
        ("train: {annotations: a.json, images: [a, b]}", "must be one folder"),
        ("train: {annotations: none.json}", r"none\.json: cannot be read"),
    ],
)
def test_wrong_yaml(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        load_data(text(tmp_path / "data.yaml", content), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["", "images", "train", "images/train"])
def test_folder_finds_its_images(tmp_path, place):
    coco(tmp_path / "instances_train.json", "gone.png", "x.png")
    image(tmp_path / place / "x.png")
    annotations = load_data(tmp_path, "train")
    assert annotations.image_path(1) == tmp_path / place / "x.png"


@pytest.mark.parametrize("place", ["val2017", "images/val2017"])
def test_cocos_own_layout(tmp_path, place):
    for name in ("instances_val2014", "instances_val2017", "person_keypoints_val2017", "captions_val2017"):
        coco(tmp_path / "annotations" / f"{name}.json", "x.png")
    image(tmp_path / place / "x.png")
    assert splits(tmp_path) == ["val"]
    annotations = load_data(tmp_path, "val")
    assert annotations.path.name == "instances_val2017.json" and annotations.image_path(0) == tmp_path / place / "x.png"


def test_keypoint_files_and_one_folder_a_split(tmp_path):
    coco(tmp_path / "a" / "person_keypoints_val.json", "x.png")
    assert load_data(tmp_path / "a", "val").path.name == "person_keypoints_val.json"
    for split in ("train", "valid"):
        coco(tmp_path / "b" / split / "_annotations.coco.json", "x.png")
    assert splits(tmp_path / "b") == ["train", "val"]
    assert load_data(tmp_path / "b", "val").image_path(0) == tmp_path / "b" / "valid" / "x.png"


def test_unknown_forms(tmp_path):
    for spec in (tmp_path / "none", tmp_path, text(tmp_path / "x.csv", "a,b")):
        with pytest.raises(UserError, match="--data accepts: toy") as caught:
            load_data(spec, "train")
        assert str(spec) in str(caught.value)


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "val2017"])
def test_one_table_of_splits_for_coco(tmp_path, name):
    coco(tmp_path / "files" / f"instances_{name}.json", "x.png")
    image(tmp_path / "files" / "valid" / "x.png")
    assert splits(tmp_path / "files") == ["val"] and load_data(tmp_path / "files", "validation").image_path(0).is_file()
    coco(tmp_path / "folders" / name.strip("2017") / "_annotations.coco.json", "x.png")
    assert splits(tmp_path / "folders") == ["val"]
    spec = {name.strip("2017"): {"annotations": f"files/instances_{name}.json", "images": "files/valid"}}
    assert splits(text(tmp_path / "own.yaml", spec)) == ["val"]
    text(tmp_path / "two.yaml", spec | {"VALIDATION": spec[name.strip("2017")]})
    with pytest.raises(UserError, match="both mean the split 'val'"):
        splits(tmp_path / "two.yaml")
    coco(tmp_path / "files" / "instances_validation2018.json", "x.png")
    coco(tmp_path / "files" / "instances_VALID.json", "x.png")
    with pytest.raises(UserError, match="both mean the split 'val'"):
        splits(tmp_path / "files")


@pytest.mark.parametrize(
    ("places", "root"),
    [
        (["val2017/a.png", "train2017/b.png"], "."),
        (["images/val2017/a.png", "images/train2017/b.png"], "images"),
        (["a.png", "b.png"], "."),
        (["Images/a.png", "Images/b.png"], "Images"),
        (["val/a.png", "val/b.png"], "val"),
    ],
)
def test_images_that_are_named_by_their_url(tmp_path, places, root):
    path = coco(tmp_path / "instances_val.json", "a.png", "b.png")
    record = json.loads(path.read_text())
    for one, folder in zip(record["images"], ("val2017", "train2017"), strict=True):
        one["coco_url"] = f"http://images.cocodataset.org/{folder}/{one.pop('file_name')}"
    path.write_text(json.dumps(record))
    for place in places:
        image(tmp_path / place)
    annotations = load_data(tmp_path, "val")
    assert annotations.root == tmp_path / root and all(annotations.image_path(i).is_file() for i in range(2))
    for one in record["images"]:
        one["coco_url"] = "http://x/../../gone.png"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="leaves the image folder"):
        load_data(tmp_path, "val")


def classes(folder, *splits_):
    for split in splits_ or ("",):
        for name in ("cat", "dog"):
            for n in range(2):
                image(folder / split / name / f"{n}.png")
    return folder


def test_folders_of_classes_use_or_name_every_image(tmp_path):
    image(tmp_path / "far" / "far.jfif")
    folder = classes(tmp_path / "set", "Train", "Validation")
    (folder / "Train" / "cat" / "linked").symlink_to(tmp_path / "far")
    assert splits(folder, "images") == ["train", "val"]
    with pytest.raises(UserError, match=r"linked is a link that leads outside the folder of the dataset"):
        load_data(folder, "train", image_level_labels="images")
    assert len(load_data(folder, "train", image_level_labels="images", allow_outside=True)) == 5
    (folder / "Train" / "cat" / "linked").unlink()
    for name, said in (("new.heic", "cannot be decoded"), ("new.JPG_", "is an image, but its name")):
        image(tmp_path / "x.png").rename(folder / "Validation" / "dog" / name)
        assert len(load_data(folder, "train", image_level_labels="images").left_out) == 0
        with pytest.raises(UserError, match=said):
            load_data(folder, "val", image_level_labels="images")
        assert len(load_data(folder, "val", skip_bad=True, image_level_labels="images").left_out) == 1
        (folder / "Validation" / "dog" / name).unlink()
    classes(folder, "train", "valid")
    with pytest.raises(UserError, match="both mean the split"):
        splits(folder, "images")
    classes(tmp_path / "more", "train", "val", "extra")
    with pytest.raises(UserError, match="extra holds images, but is called like no split"):
        load_data(tmp_path / "more", "train", image_level_labels="images")
    image(tmp_path / "vehicles" / "Train" / "1.png")
    image(tmp_path / "vehicles" / "Bus" / "1.png")
    assert load_data(tmp_path / "vehicles", "train", image_level_labels="images").names == ["Bus", "Train"]


def test_tables_in_windows_encodings_and_splits_by_other_names(tmp_path):
    image(tmp_path / "x.png")
    (tmp_path / "valid.csv").write_bytes("file,x0,y0\r\nx.png,1,2\r\n".encode("utf-16"))
    assert splits(tmp_path) == ["val"] and len(load_data(tmp_path, "val")) == 1
    (tmp_path / "t.csv").write_bytes("file,label,split\r\nx.png,cat,Validation\r\n".encode("utf-16"))
    assert splits(tmp_path / "t.csv", "images") == ["val"]


def yolo(folder, rows="", **content):
    """A YOLO set with one image that has `rows`, one with an empty label file and one with none."""
    for name in ("one.png", "two.jpg", "sub/three.png"):
        image(folder / "images" / "train" / name)
    text(folder / "labels" / "train" / "one.txt", rows)
    text(folder / "labels" / "train" / "two.txt", "")
    return text(folder / "data.yaml", {"train": "images/train", "names": ["cat", "dog"]} | content)


def test_yolo(tmp_path):
    spec = yolo(tmp_path, "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.1 0.2\n")
    for given in (spec, tmp_path):
        annotations = load_data(given, "train")
        assert (
            len(annotations) == 3
            and annotations.names == ["cat", "dog"]
            and annotations.category_ids.tolist() == [0, 1]
        )
        assert sorted(annotations.file_name(i) for i in range(3)) == ["one.png", "sub/three.png", "two.jpg"]
        index = next(i for i in range(3) if annotations.file_name(i) == "one.png")
        target = annotations.target(index)
        assert target.labels.tolist() == [1, 0] and target.size == (20, 40)
        assert np.allclose(target.boxes, [[15, 5, 25, 15], [2, 2, 6, 6]])
        assert len(annotations.boxes) == 2 and annotations.image_path(index).is_file()


@pytest.mark.parametrize(
    "entry", [{"names": {1: "dog", 0: "cat"}}, {"path": "."}, {"train": ["images/train"]}, {"train": "../images/train"}]
)
def test_yolo_variants(tmp_path, entry):
    spec = yolo(tmp_path, "1 .5 .5 .5 .5", **entry)
    annotations = load_data(spec, "train")
    assert len(annotations) == 3 and annotations.names == ["cat", "dog"] and len(annotations.boxes) == 1


def test_yolo_lists_and_absolute_path(tmp_path):
    yolo(tmp_path / "set", "1 .5 .5 .5 .5")
    text(tmp_path / "set" / "list.txt", f"./images/train/one.png\n\n{tmp_path}/set/images/train/two.jpg\n")
    spec = text(tmp_path / "d.yaml", {"path": str(tmp_path / "set"), "val": "list.txt", "names": ["cat", "dog"]})
    annotations = load_data(spec, "val")
    assert len(annotations) == 2 and len(annotations.boxes) == 1
    text(tmp_path / "set" / "list.txt", "./images/train/one.png\nnone.png\n")
    with pytest.raises(UserError, match=r"none\.png: there is no such image"):
        load_data(spec, "val")
    assert len(load_data(spec, "val", skip_bad=True).left_out) == 1


@pytest.mark.parametrize("name", ["./a.pn" * 2000, "a" * 300, "nul\0"])
def test_a_line_that_no_file_can_be_called_is_named_shortly(tmp_path, name):
    yolo(tmp_path / "set", "1 .5 .5 .5 .5")
    text(tmp_path / "set" / "list.txt", f"./images/train/one.png\n{name}\n")
    spec = text(tmp_path / "d.yaml", {"path": str(tmp_path / "set"), "val": "list.txt", "names": ["cat", "dog"]})
    with pytest.raises(UserError, match=r"list\.txt line 2 names '.*which no file can be called") as caught:
        load_data(str(spec), "val")
    assert len(str(caught.value)) < 500


def test_yolo_polygons_pose_and_turned_images(tmp_path):
    spec = yolo(tmp_path, "0 0.1 0.2 0.5 0.2 0.3 0.8")
    annotations = load_data(spec, "train")
    assert np.allclose(annotations.boxes, [[4, 4, 16, 12]])
    assert np.allclose(annotations.outlines.points, [[4, 4], [20, 4], [12, 16]])
    assert annotations.notes[-1] == (
        "outlines",
        "all 1 rows are outlines: tasks that learn boxes take the box around each outline",
    )
    mixed = load_data(yolo(tmp_path, "0 .1 .2 .5 .2 .5 .8 .1 .8\n1 .5 .5 .5 .5\n"), "train")
    assert mixed.outlines.present.tolist() == [True, False] and "1 of 2 rows are boxes" in mixed.notes[-1][1]
    with pytest.raises(UserError, match=r"object 2 of one\.png\) has no outline"):
        outlined(mixed)
    assert load_data(yolo(tmp_path, "1 .5 .5 .5 .5\n"), "train").outlines is None
    pose = yolo(tmp_path, "0 .5 .5 .5 .5 .1 .1 2 .2 .2 0", kpt_shape=[2, 3])
    posed = load_data(pose, "train")
    assert np.allclose(posed.boxes, [[10, 5, 20, 10]])
    assert posed.keypoint_names == ["keypoint_1", "keypoint_2"] and posed.flip_pairs is None
    assert np.allclose(posed.keypoints, [[[4, 2, 2], [8, 4, 0]]])
    named = {"kpt_shape": [2, 2], "kpt_names": {0: ["tip", "toe"]}, "flip_idx": [1, 0]}
    posed = load_data(yolo(tmp_path, "0 .5 .5 .5 .5 .1 .1 0 0", **named), "train")
    assert posed.keypoint_names == ["tip", "toe"] and posed.flip_pairs == [[0, 1]]
    assert np.allclose(posed.keypoints, [[[4, 2, 2], [0, 0, 0]]])
    spec = yolo(tmp_path, "0 0.5 0.5 0.5 0.5")
    turned = Image.Exif()
    turned[0x0112] = 6
    image(tmp_path / "images" / "train" / "one.png", exif=turned)
    annotations = load_data(spec, "train")
    index = next(i for i in range(3) if annotations.file_name(i) == "one.png")
    assert np.allclose(annotations.boxes, [[5, 10, 10, 20]]) and annotations.read(index).shape == (40, 20, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0 .5 .5 .5 .5\n2 .5 .5 .5 .5", r"one\.txt line 2 has category 2"),
        ("-1 .5 .5 .5 .5", r"one\.txt line 1 has category -1"),
        ("0.5 .5 .5 .5 .5", "a class is a whole number"),
        ("0 .5 .5 .5", "has 4 numbers"),
        ("0 .5 .5 .5 .5 .9", "has 6 numbers"),
        ("0 nan .5 .5 .5", "NaN or infinite"),
        ("nan .5 .5 .5 .5", "NaN or infinite"),
        ("0 .5 .5 0 .5", "a box of width 0 and height 10"),
        ("0 .5 .5 -.5 .5", "a box of width -20 and height 10"),
        ("0 100 50 30 30", "relative to its sides"),
        ("cat .5 .5 .5 .5", "not a row of numbers"),
    ],
)
def test_bad_yolo_rows_are_named_or_left_out(tmp_path, rows, message):
    spec = yolo(tmp_path, rows)
    with pytest.raises(UserError, match=message) as caught:
        load_data(spec, "train")
    assert "one.txt line" in str(caught.value)
    annotations = load_data(spec, "train", skip_bad=True)
    assert len(annotations) == 3 and len(annotations.left_out) == 1 and len(annotations.boxes) == rows.count("\n")


def test_label_files_of_predict_are_read_without_their_scores(tmp_path):
    polygon = "0 0.1 0.1 0.4 0.1 0.4 0.4"
    annotations = load_data(yolo(tmp_path, f"1 0.5 0.5 0.5 0.5 0.91234\n{polygon} 1.00000\n"), "train")
    assert annotations.labels.tolist() == [1, 0] and annotations.outlines.present.tolist() == [False, True]
    with pytest.raises(UserError, match="line 1 has 8 numbers"):
        load_data(yolo(tmp_path, f"{polygon} 0.91234\n{polygon}\n"), "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": {0: "cat", 2: "dog"}}, "keys of 'names' must be 0 to 1"),
        ({"names": []}, "'names' must be"),
        ({"names": "cat"}, "'names' must be"),
        ({"nc": 3}, "nc is 3, but 'names' has 2"),
        ({"train": "elsewhere"}, "there is no .*elsewhere"),
        ({"train": "labels"}, "there is no image in"),
        ({"kpt_shape": 17}, "kpt_shape must be two numbers"),
        ({"kpt_shape": [2, 4]}, "a keypoint has 2 numbers or 3"),
        ({"kpt_shape": [2, 3], "kpt_names": ["tip"]}, "kpt_names must be 2 names"),
        ({"train": None}, "no train:, val: or test:"),
    ],
)
def test_wrong_yolo_yaml(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        load_data(yolo(tmp_path, **content), "train")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/images/a/images/b/x.tar.jpg", "/images/a/labels/b/x.tar.txt"),
        ("/a/b/images.jpg", "/a/b/images.txt"),
        ("/a/images/x.jpg", "/a/images/x.txt"),
        ("/a/Images/Train/x.JPG", "/a/LABELS/train/x.TXT"),
        ("/a/x.jpg", "/a/labels/x.jpg.txt"),
        ("/a/cafe\u0301/\u00e9.png", "/a/caf\u00e9/e\u0301.txt"),
        ("/a/JPEGImages/x.jpg", "/a/labels/x.txt"),
    ],
)
def test_labels_are_paired_as_people_read_names(image, label):
    assert pair([image], [label]).label == {image: label}


def test_what_cannot_be_paired_is_told(tmp_path):
    files = {"a.jpg": "", "a.png": "", "a.txt": "1", "b.jpg": "", "labels/b.txt": "1", "b.txt": "2", "c.txt": "3"}
    for name, content in files.items():
        text(tmp_path / name, content)
    stock = take_stock(tmp_path)
    pairs = pair(stock.images, stock.others[".txt"])
    place = f"{tmp_path}{os.sep}"
    assert pairs.shared == [(f"{place}a.png", f"{place}a.txt")] and pairs.orphans == [f"{place}c.txt"]
    assert pairs.others == [(f"{place}b.jpg", f"{place}labels{os.sep}b.txt")]
    assert pairs.label == {f"{place}a.jpg": f"{place}a.txt", f"{place}b.jpg": f"{place}b.txt"}
    names = ["/a/A.jpg", "/a/a.jpg", "/a/b.jpg", "/a/b.png"]
    labels = ["/a/A.txt", "/a/a.txt", "/a/b.jpg.txt", "/a/b.txt"]
    assert pair(names, labels[:3]).label == dict(zip(names[:3], labels[:3], strict=True))


def xml(folder, stem, *things, size=True):
    size_ = "<size><width>40</width><height>20</height><depth>3</depth></size>" if size else ""
    objects = "".join(
        f"<object><name>{name}</name><difficult>1</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in things
    )
    text(folder / "Annotations" / f"{stem}.xml", f"<annotation><filename>x</filename>{size_}{objects}</annotation>")


def voc(folder):
    for stem in ("a b", "c"):
        image(folder / "JPEGImages" / f"{stem}.png")
    xml(folder, "a b", ("dog", 1, 2, 11, 7), ("cat", 0, 0, 5, 5))
    xml(folder, "c", size=False)
    text(folder / "ImageSets" / "Main" / "train.txt", "a b\n\n")
    text(folder / "ImageSets" / "Main" / "val.txt", "c\n")
    text(folder / "ImageSets" / "Main" / "dog_val.txt", "c  -1\n")
    return folder


def test_voc(tmp_path):
    voc(tmp_path)
    assert splits(tmp_path) == ["train", "val"]
    train, val = load_data(tmp_path, "train"), load_data(tmp_path, "val")
    assert train.names == val.names == ["cat", "dog"] and train.category_ids.tolist() == [1, 2]
    assert train.boxes.tolist() == [[1, 2, 10, 5], [0, 0, 5, 5]] and train.labels.tolist() == [1, 0]
    assert len(val.boxes) == 0 and val.sizes.tolist() == [[20, 40]] and val.read(0).shape == (20, 40, 3)
    assert train.image_path(0) == tmp_path / "JPEGImages" / "a b.png"
    for path in (tmp_path / "ImageSets" / "Main").iterdir():
        path.unlink()
    assert splits(tmp_path) == ["train"] and len(load_data(tmp_path, "train")) == 2


def test_bad_voc(tmp_path):
    voc(tmp_path)
    xml(tmp_path, "c", ("cat", 1, 2, 3, 4))
    for things, message in (
        ([("dog", 1, 2, 1, 7)], r"a b\.xml object 1 has a box of width 0"),
        ([("dog", 1, 2, 3, 4), ("cat", "x", 2, 3, 4)], r"a b\.xml object 2 has bbox None"),
        ([("", 1, 2, 3, 4)], r"a b\.xml object 1 has category None"),
    ):
        xml(tmp_path, "a b", *things)
        with pytest.raises(UserError, match=message):
            load_data(tmp_path, "train")
        assert len(load_data(tmp_path, "train", skip_bad=True).boxes) == len(things) - 1
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "a b\nc\n")
    text(tmp_path / "Annotations" / "a b.xml", "<annotation>")
    with pytest.raises(UserError, match=r"a b\.xml: broken xml"):
        load_data(tmp_path, "train")
    assert len(load_data(tmp_path, "train", skip_bad=True).left_out) == 1
    (tmp_path / "Annotations" / "a b.xml").unlink()
    with pytest.raises(UserError, match=r"train\.txt line 1 names 'a b', but there is not one a b\.xml"):
        load_data(tmp_path, "train")


CAT = "<annotation><object><name>cat</name>{}</object></annotation>"
BOX = "<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("picture", "annotation"),
    [
        ("JPEGImages/x.jpg", "Annotations/x.XML"),
        ("JPEGImages/x.JPG", "annotations/sub/x.xml"),
        ("JPEGImages/sub/x.jpg", "Annotations/sub/x.xml"),
        ("images/x.png", "Annotations/x.xml"),
        ("Images/E\u0301.png", "xmls/\u00e9.xml"),
        ("x.png", "x.xml"),
        ("photos/x.png", "photos/x.xml"),
        ("train/x.png", "train/x.xml"),
        ("VOCdevkit/VOC2012/JPEGImages/x.jpg", "VOCdevkit/VOC2012/Annotations/x.xml"),
        ("VOC2007/JPEGImages/x.jpg", "VOC2007/Annotations/x.xml"),
        ("images/train/x.jpg", "annotations/training/x.xml"),
    ],
)
def test_voc_wherever_it_lies(tmp_path, picture, annotation):
    image(tmp_path / picture)
    text(tmp_path / annotation, CAT.format(BOX.format(1)))
    text(tmp_path / "openvino.xml" if "/" in annotation else tmp_path / "far" / "openvino.xml", "<net/>")
    annotations = load_data(tmp_path, "train")
    assert (
        splits(tmp_path) == ["train"]
        and annotations.boxes.tolist() == [[1, 2, 8, 7]]
        and annotations.image_path(0).is_file()
    )


def test_lists_name_files_whose_names_are_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    yolo(tmp_path / "set", "1 0.5 0.5 0.4 0.4\n")
    try:
        (tmp_path / "set" / "images" / "train" / "one.png").rename(
            tmp_path / "set" / "images" / "train" / f"{name}.png"
        )
    except OSError:
        pytest.skip("this file system takes only text")
    (tmp_path / "set" / "labels" / "train" / "one.txt").rename(tmp_path / "set" / "labels" / "train" / f"{name}.txt")
    (tmp_path / "set" / "list.txt").write_bytes(b"./images/train/caf\xe9.png\n")
    spec = text(tmp_path / "d.yaml", {"path": "set", "train": "list.txt", "names": ["cat", "dog"]})
    annotations = load_data(spec, "train")
    assert os.fsencode(annotations.file_name(0)).endswith(b"caf\xe9.png") and len(annotations.boxes) == 1
    assert verify(annotations).file_name(0) == annotations.file_name(0)


def test_voc_in_folders_of_splits_and_lists_by_other_names(tmp_path):
    for split in ("train", "valid", "Test"):
        image(tmp_path / split / f"{split}.jpg")
        text(tmp_path / split / f"{split}.xml", CAT.format(BOX.format(1)))
    assert splits(tmp_path) == ["train", "val", "test"]
    assert spots(load_data(tmp_path, "val")) == {"valid.jpg": 1}
    folder = voc(tmp_path / "listed")
    (folder / "ImageSets/Main/val.txt").rename(folder / "ImageSets/Main/valid.txt")
    (folder / "ImageSets/Main/train.txt").write_bytes("A B.png\r\n".encode("utf-16"))
    assert splits(folder) == ["train", "val"] and spots(load_data(folder, "train")) == {"a b.png": 2}
    text(folder / "ImageSets/Main/train.txt", "a b\na b\n")
    with pytest.raises(UserError, match=r"train\.txt line 2 names 'a b', which is named before"):
        load_data(folder, "train")


def test_all_boxes_of_an_object_but_not_of_its_parts(tmp_path):
    image(tmp_path / "JPEGImages/x.png")
    part = f"<part><name>head</name>{BOX.format(4)}</part>"
    text(tmp_path / "Annotations/x.xml", CAT.format(BOX.format(1) + part + BOX.format(3)))
    annotations = load_data(tmp_path, "train")
    assert annotations.boxes[:, 0].tolist() == [1, 3] and annotations.names == ["cat"]


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("gb2312", "\u732b"),
        ("GBK", "\u9555"),
        ("gb2312", "\u9555"),
        ("Shift_JIS", "\u732b"),
        ("big5", "\u8c93"),
        ("euc-kr", "\uace0"),
        ("windows-1251", "\u043a"),
        ("utf-16", "\u732b"),
    ],
)
def test_xml_in_any_encoding(tmp_path, encoding, name):
    image(tmp_path / "JPEGImages/x.png")
    content = f'<?xml version="1.0" encoding="{encoding}"?>\n' + CAT.format(BOX.format(1)).replace("cat", name)
    wider = "gb18030" if encoding == "gb2312" else encoding
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/x.xml").write_bytes(content.encode(wider))
    assert load_data(tmp_path, "train").names == [name]
    (tmp_path / "Annotations/x.xml").write_bytes(content.replace(encoding, "no-such").encode("utf-8"))
    with pytest.raises(UserError, match=r"x\.xml: broken xml: its encoding .no-such. is not one for text"):
        load_data(tmp_path, "train")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda f: image(f / "JPEGImages/new.png"), "new.png has no xml file"),
        (lambda f: text(f / "JPEGImages/new.heic", "?"), "new.heic has no xml file"),
        (lambda f: xml(f, "gone", ("cat", 1, 2, 3, 4)), "gone.xml: there is no image of its name"),
        (lambda f: text(f / "Annotations/c.XML", CAT.format(BOX.format(1))), "c.png has another xml file"),
        (lambda f: (f / "JPEGImages/c.png").rename(f / "JPEGImages/c.heic"), "c.heic: is in a format"),
        (lambda f: image(f / "JPEGImages/c.jpg"), "has no xml file"),
        (
            lambda f: (
                image(f / "JPEGImages/n.png"),
                text(f / "Annotations/n.xml", "<annotations><image/></annotations>"),
            ),
            "n.xml is no annotation of the VOC form: its root element is 'annotations'",
        ),
    ],
)
def test_what_voc_does_not_use_is_told(tmp_path, plant, said):
    voc(tmp_path)
    for path in (tmp_path / "ImageSets" / "Main").iterdir():
        path.unlink()
    plant(tmp_path)
    with pytest.raises(UserError, match=said):
        load_data(tmp_path, "train")
    assert len(load_data(tmp_path, "train", skip_bad=True).left_out) == 1


def test_voc_without_any_class_says_why(tmp_path):
    image(tmp_path / "JPEGImages/x.png")
    text(tmp_path / "Annotations/x.xml", "<annotation/>")
    with pytest.raises(UserError, match="none of 1 xml files has an object"):
        load_data(tmp_path, "train")
    text(tmp_path / "Annotations/x.xml", "<annotation>")
    with pytest.raises(UserError, match=r"the dataset is empty.*broken xml"):
        load_data(tmp_path, "train", skip_bad=True)


def test_several_voc_folders_are_one_too_many(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        voc(tmp_path / "VOCdevkit" / year)
    with pytest.raises(UserError, match="holds several VOC folders, VOC2007, VOC2012; name one"):
        splits(tmp_path)
    assert splits(tmp_path / "VOCdevkit" / "VOC2012") == ["train", "val"]


def test_toy():
    for split in splits("toy"):
        annotations = load_data("toy", split)
        assert annotations.image_path(0).is_file() and len(annotations.boxes)
    assert splits("toy")[:2] == ["train", "val"]


def test_a_folder_called_toy_is_not_mistaken_for_the_built_in_dataset(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"toy: is the name of the built-in dataset, and of {tmp_path / 'toy'}"):
        splits("toy")
    for path in (tmp_path / "toy", "./toy", "toy/", "./toy/"):
        with pytest.raises(UserError, match="not a dataset in a known format"):
            splits(path)


@real
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_voc_of_bccd_agrees_with_its_coco_files(split):
    reference = load_data(DATA / "bccd", split)
    ours = voc_splits(DATA / "bccd")[split](True)
    assert len(ours) == len(reference) and len(ours.boxes) == len(reference.boxes)
    places = {reference.file_name(index): index for index in range(len(reference))}
    for index in range(len(ours)):
        a, b = ours.target(index), reference.target(places[ours.file_name(index)])
        assert a.boxes.tolist() == b.boxes.tolist() and a.size == b.size
        assert [ours.names[i] for i in a.labels] == [reference.names[i] for i in b.labels]


@real
def test_real_folders():
    found = {folder: splits(DATA / folder) for folder in ("cards", "coco-mini", "coco-person-kp", "tud-campus")}
    assert found["tud-campus"] == ["val"]
    for folder, names in found.items():
        for split in names:
            annotations = load_data(DATA / folder, split)
            assert annotations.image_path(len(annotations) - 1).is_file()


def spots(annotations):
    """How many objects each image has, by its file name."""
    counts = np.diff(annotations.starts).tolist()
    return {Path(annotations.file_name(i)).name: count for i, count in enumerate(counts)}


ROW = "0 .5 .5 .5 .5\n"


@pytest.mark.parametrize(
    ("entry", "picture", "label"),
    [
        ("set", "set/x.png", "set/labels/x.txt"),
        ("set", "set/x.png", "labels/set/x.txt"),
        ("set/images", "set/images/x.png", "set/images/x.txt"),
        ("images/set/train", "images/set/train/x.png", "images/set/train/x.txt"),
        ("images/set/train", "images/set/train/x.png", "images/set/labels/train/x.txt"),
        ("Images/train", "Images/train/x.PNG", "Labels/Train/x.TXT"),
        ("images", "Images/x.png", "Labels/x.png.txt"),
        ("images", "images/sub/e\u0301.png", "labels/sub/\u00e9.txt"),
        ("list.txt", "Images/e\u0301.png", "Labels/\u00e9.txt"),
        (["images/x.png"], "images/x.png", "labels/x.txt"),
        (["images/x.png", "images/sub"], "images/x.png", "labels/x.txt"),
        ("images\\train", "images/train/x.png", "labels/train/x.txt"),
        ("images/train", "images/train/x.png", "labels/x.txt"),
        ("images/train", "images/train/sub/X.PNG", "Labels/x.png.txt"),
        ("train/images", "train/images/x.png", "labels/x.txt"),
        ("train/images", "train/images/x.png", "labels/train/x.txt"),
        ("train/images/a", "train/images/a/x.png", "labels/train/a/x.txt"),
        (["images/train/x.png"], "images/train/x.png", "labels/x.txt"),
    ],
)
def test_labels_that_can_be_meant_are_used(tmp_path, entry, picture, label):
    image(tmp_path / picture)
    if "images/sub" in entry:
        image(tmp_path / "images/sub/y.png")
    text(tmp_path / label, ROW)
    text(tmp_path / "list.txt", "images/\u00e9.png\n")
    annotations = load_data(text(tmp_path / "data.yaml", {"train": entry, "names": ["cat"]}), "train")
    assert len(annotations.boxes) == 1 and annotations.image_path(0).is_file()


def test_a_flat_label_that_may_belong_to_several_images_is_refused(tmp_path):
    for split in ("train", "val"):
        image(tmp_path / "images" / split / "x.png")
        image(tmp_path / "images" / split / f"{split}.png")
    for name in ("x", "train", "val"):
        text(tmp_path / "labels" / f"{name}.txt", ROW)
    spec = text(tmp_path / "data.yaml", {"train": "images/train", "val": "images/val", "names": ["cat"]})
    with pytest.raises(
        UserError, match=r"images/train/x.png may have the label file .*labels/x.txt, and so may .*val/x"
    ):
        load_data(spec, "train")
    assert spots(load_data(spec, "val", skip_bad=True)) == {"val.png": 1}


def test_a_flat_label_of_an_image_beside_it_is_of_no_other(tmp_path):
    for name in ("images/x.png", "images/empty/x.png"):
        image(tmp_path / name)
    text(tmp_path / "labels/x.txt", ROW)
    annotations = load_data(text(tmp_path / "data.yaml", {"train": "images", "names": ["cat"]}), "train")
    assert len(annotations) == 2 and len(annotations.boxes) == 1


@pytest.mark.parametrize("labels", ["labels_train", "annotations/train", "labels/train_labels"])
def test_folders_of_images_without_any_label_are_told(tmp_path, labels):
    for name in ("images/val/x.png", "images/train/x.png", "images/train/negative/y.png"):
        image(tmp_path / name)
    text(tmp_path / "labels/val/x.txt", ROW)
    spec = text(tmp_path / "data.yaml", {"train": "images/train", "val": "images/val", "names": ["cat"]})
    assert load_data(spec, "val").notes == []
    text(tmp_path / labels / "x.txt", ROW)
    kinds = {kind for kind, line in load_data(spec, "train").notes if "has a label file" in line}
    assert kinds == {"unlabelled"}


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".jp2", ".j2k", ".tga", ".qoi", ".pcx", ".dib", ".sgi", ".TIF"])
def test_every_format_that_can_be_decoded_is_used(tmp_path, suffix):
    image(tmp_path / "images" / f"x{suffix}")
    text(tmp_path / "labels/x.txt", ROW)
    annotations = load_data(text(tmp_path / "data.yaml", {"train": "images", "names": ["cat"]}), "train")
    assert len(annotations.boxes) == 1 and annotations.read(0).shape == (20, 40, 3)


def lose(folder, what):
    """Change a set so that something of it cannot be used."""
    images, labels = folder / "images" / "train", folder / "labels" / "train"
    if what == "orphan" or what == "empty orphan":
        text(labels / "gone.txt", "" if what.startswith("empty") else ROW)
    elif what == "orphan deeper":
        text(labels / "sub" / "deep" / "gone.txt", ROW)
    elif what == "shared":
        image(images / "one.jpg")
    elif what == "two labels":
        text(images / "one.txt", ROW + ROW)
    elif what == "two spellings":
        text(labels / "one.png.txt", ROW + ROW)
    elif what == "unusual suffix":
        text(labels / "two.text", ROW)
    elif what == "misnamed":
        image(images / "four.png").rename(images / "four.download")
    elif what == "repeated":
        text(folder / "data.yaml", {"train": "list.txt", "names": ["cat", "dog"]})
        text(folder / "list.txt", "images/train/one.png\n./images/train/one.png\n")
    else:
        text(images / f"new{what}", "?")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("orphan", "gone.txt is a label file without an image"),
        ("empty orphan", "gone.txt is a label file without an image"),
        ("orphan deeper", "gone.txt is a label file without an image"),
        ("unusual suffix", "two.text holds labels, but its name"),
        ("shared", "one.png has the label file of"),
        ("two labels", "are both labels of"),
        ("two spellings", "are both labels of"),
        ("misnamed", "four.download is an image, but its name"),
        ("repeated", "list.txt line 2 names"),
        (".heic", "cannot be decoded .\\.heic"),
        (".CR2", "cannot be decoded .\\.CR2"),
        (".jxl", "cannot be decoded"),
    ],
)
def test_what_no_reader_uses_is_refused_or_left_out(tmp_path, what, said):
    spec = yolo(tmp_path, ROW)
    lose(tmp_path, what)
    with pytest.raises(UserError, match=said):
        load_data(spec, "train")
    annotations = load_data(spec, "train", skip_bad=True)
    assert len(annotations.left_out) == 1 and sum(spots(annotations).values()) == 1
    assert [line for line in (f.text for f in check(str(spec), 96, 2).findings) if line == annotations.left_out[0]]


def test_ordinary_company_does_no_harm(tmp_path):
    spec = yolo(tmp_path, ROW)
    names = ("README.txt", "classes.txt", "notes.txt", "Thumbs.db", ".DS_Store", "._one.png", "x.json", "data.yml")
    for place in (tmp_path / "images" / "train", tmp_path / "labels" / "train"):
        for name in (*names, "train.cache", "one.npy", "old.zip", "one.png~", "predefined_classes.txt"):
            text(place / name, "some words of no number\n")
        text(place / "LICENSE", "free")
        text(place / "classes.txt", "")
    text(tmp_path / "images" / "train" / "one.txt", "a caption of it\n")
    text(tmp_path / "images" / "train" / "sub" / "one.txt", "caption")
    image(tmp_path / "images" / "train" / "one.png").rename(tmp_path / "images" / "train" / "one.png_original")
    image(tmp_path / "images" / "train" / "one.png")
    annotations = load_data(spec, "train")
    assert len(annotations) == 3 and spots(annotations)["one.png"] == 1


def test_annotations_of_another_format_beside_labels_do_no_harm(tmp_path):
    image(tmp_path / "train" / "images" / "x.png")
    text(tmp_path / "train" / "labels" / "x.txt", ROW)
    text(tmp_path / "train" / "annotations" / "x.txt", "684,8,273,116,0,0,0,0\n")
    text(tmp_path / "train" / "annotations" / "x.xml", "<annotation/>")
    for entry in ("train", "train/images"):
        annotations = load_data(text(tmp_path / "data.yaml", {"train": entry, "names": ["cat"]}), "train")
        assert len(annotations.boxes) == 1


def test_linked_folders_are_followed_once(tmp_path):
    spec = yolo(tmp_path / "set", ROW)
    for name in ("images", "labels"):
        text(tmp_path / "far" / name / "readme.txt", "far")
    image(tmp_path / "far" / "images" / "far.png")
    text(tmp_path / "far" / "labels" / "far.txt", ROW + ROW)
    for name in ("images", "labels"):
        (tmp_path / "set" / name / "train" / "linked").symlink_to(tmp_path / "far" / name)
        (tmp_path / "set" / name / "train" / "round").symlink_to(tmp_path / "set" / name)
    ours = {"one.png": 1, "two.jpg": 0, "three.png": 0}
    assert spots(load_data(spec, "train", allow_outside=True)) == ours | {"far.png": 2}
    with pytest.raises(UserError, match=r"linked is a link that leads outside the folder of the dataset"):
        load_data(spec, "train")
    annotations = load_data(spec, "train", skip_bad=True)
    assert spots(annotations) == ours and len(annotations.left_out) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_texts_in_windows_encodings(tmp_path, encoding):
    yolo(tmp_path, ROW)
    (tmp_path / "list.txt").write_bytes("images/train/one.png\r\nimages/train/two.jpg\r\n".encode(encoding))
    (tmp_path / "labels/train/one.txt").write_bytes(ROW.encode(encoding))
    spec = text(tmp_path / "data.yaml", {"train": "list.txt", "names": ["cat"]})
    assert spots(load_data(spec, "train")) == {"one.png": 1, "two.jpg": 0}
    (tmp_path / "list.txt").write_bytes("images/tr\u00e4in/one.png".encode("latin-1"))
    with pytest.raises(UserError, match=r"list\.txt: cannot be read: not UTF-8 at byte 9; save it"):
        load_data(spec, "train")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation"])
def test_one_table_of_splits_for_yolo(tmp_path, name):
    spec = yolo(tmp_path, ROW, **{name: "images/train"})
    assert splits(spec) == ["train", "val"] and len(load_data(spec, name)) == 3
    spec = yolo(tmp_path, ROW, **{name: "images/train", "VALID": "images"})
    with pytest.raises(UserError, match="both mean the split 'val'"):
        splits(spec)
