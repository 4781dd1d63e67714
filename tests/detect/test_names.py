"""Names of classes, keypoints and people: which may share a list, which are equal, how they are shown and filed."""

import json
import unicodedata

import pytest
import yaml

from detect.checking.findings import check
from detect.data.annotations import load_coco
from detect.data.formats import load_data
from detect.errors import UserError
from detect.evaluation.match import by_name
from detect.models.base import Card
from detect.names import distinct, file_names, find, key, require_names, shown
from tests.detect.test_formats import image, text, yolo

ROOT = [{"id": 0, "name": "person", "supercategory": "none"}, {"id": 1, "name": "person", "supercategory": "person"}]
ODD = {
    "path": "../../etc/passwd",
    "lines": "two\nlines\r\u2028more",
    "escape": "\x1b[31mred\x1b[0m\x9b2J",
    "nul": "a\0b",
    "half": "\ud83d",
    "turned": "\u202egnp.exe\u202c",
    "html": "<script>alert('&amp;')</script>",
    "markup": "[bold]x[/]",
    "long": "ä" * 500,
}


def coco(folder, categories, used=(1,), split="train"):
    """A COCO file of one image with an object of each of the `used` categories."""
    image(folder / "a.png")
    objects = [{"id": i, "image_id": 1, "category_id": c, "bbox": [1, 2, 30, 14]} for i, c in enumerate(used, 1)]
    images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}]
    path = folder / f"instances_{split}.json"
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    return path


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("car", "car "),
        ("traffic light", "traffic  light"),
        ("traffic light", "traffic\u00a0light"),
        ("traffic light", "trafficlight"),
        ("café", unicodedata.normalize("NFD", "café")),
        ("car", "c\u200bar"),
        ("car", "\ufeffcar"),
    ],
)
def test_blanks_invisible_letters_and_unicode_forms_make_no_other_name(a, b):
    assert a != b and key(a) == key(b)
    with pytest.raises(UserError, match=r"d.yaml: class 3 \(.*\) and 8 \(.*\) have names that differ in blanks or"):
        require_names(["x", a, b], [1, 3, 8], "d.yaml")
    assert key(a) != key(a.upper()) != key(f"{a}2")


@pytest.mark.parametrize("name", [True, False, None, 7, 1.5, ["a"], {"a": 1}])
def test_what_is_no_text_is_refused_with_its_remedy(name):
    with pytest.raises(UserError, match=r"f: the name of keypoint 2 is read as .*, not as text; quote it in the file"):
        require_names(["a", name], [1, 2], "f", "keypoint")


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u200b", "\0"])
def test_empty_names_are_refused(name):
    with pytest.raises(UserError, match="f: the name of class 1 is empty"):
        require_names([name], [1], "f")


def test_names_are_found_by_spelling_then_by_id():
    assert find(["b", "x", "a b"], [1, 2, 3], ["a  b", "b"], [7, 8], "w") == [1, -1, 0]
    assert find(["a"], [5], ["a ", "a"], [5, 6], "w") == [1]
    assert find(["a"], [6], ["a", "a"], [5, 6], "w") == [1]
    with pytest.raises(UserError, match=r"w has several classes 'a' \(ids 5, 6\), none of id 7: rename them"):
        find(["a"], [7], ["a", "a"], [5, 6], "w")
    assert distinct(["a", "b", "a"], [0, 1, 2]) == ["a (id 0)", "b", "a (id 2)"]


def test_a_name_is_shown_in_one_line_without_what_controls_a_terminal():
    for name in ODD.values():
        line = shown(name)
        assert line.encode("utf-8") and not set(line) & set("\n\r\0\x1b\x9b\u2028\u202e\ud83d")
    assert shown(ODD["lines"]) == r"two\nlines\r\u2028more" and shown("\x1b[31m") == r"\x1b[31m"
    for plain in ("person", "traffic light", "猫", "गाड़ी", "می\u200cخواهم", "👩\u200d🚀", "[bold]", "é", ""):
        assert shown(plain) == plain


def test_file_names_are_one_part_of_a_path_and_apart():
    names = [*ODD.values(), "a/b", "a_b", "A_B", "..", "", "nul", "COM1.txt", ".", "ok", "Ok"]
    parts = file_names(names)
    assert len({part.casefold() for part in parts}) == len(names)
    for part in parts:
        assert part.encode() and len(part.encode()) < 200 and part.strip(". ") == part
        assert not set(part) & set('/\\:*?"<>|\n\0') and part.lower() not in ("nul", "com1.txt")
    assert file_names(["traffic light", "猫"]) == ["traffic light", "猫"]


@pytest.mark.parametrize("categories", [ROOT, [*ROOT[:1], {"id": 1, "name": "car", "supercategory": "person"}]])
def test_a_root_without_annotations_is_dropped_aloud(tmp_path, capsys, categories):
    store = load_coco(coco(tmp_path, categories))
    assert store.names == [categories[1]["name"]] and store.category_ids.tolist() == [1]
    assert store.labels.tolist() == [0] and len(store.notes) == 1
    said = capsys.readouterr().err
    assert "category id 0 ('person') has no annotation and is the root of the others" in said and said.count("\n") == 1
    load_coco(tmp_path / "instances_train.json")
    assert capsys.readouterr().err == ""  # once is enough
    checked = check(str(tmp_path), 64)
    assert checked.splits["train"]["per_class"] == {categories[1]["name"]: 1}
    assert any(one.kind == "classes" and "category id 0" in one.text for one in checked.findings)


def test_other_categories_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"class 0 \('person'\) and 1 \('person'\) have the same name; merge the two"):
        load_coco(coco(tmp_path, ROOT, used=(0, 1)))
    with pytest.raises(UserError, match=r"class 1 \('a'\) and 2 \('a'\) have the same name"):
        load_coco(coco(tmp_path, [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]))
    with pytest.raises(UserError, match=r"class 1 \('2'\) and 2 \('2'\) have the same name"):
        load_coco(coco(tmp_path, [{"id": 1, "name": "2"}, {"id": 2}]))  # without a name its id is one
    with pytest.raises(UserError, match=r"keypoint 1 \('nose'\) and 3 \('nose '\) have names"):
        load_coco(coco(tmp_path, [{"id": 1, "name": "a", "keypoints": ["nose", "eye", "nose "]}]))
    kept = load_coco(coco(tmp_path, [{"id": 0, "name": "x"}, {"id": 1, "name": "y", "supercategory": "z"}]))
    assert kept.names == ["x", "y"] and kept.notes == []


def test_names_of_json_are_texts(tmp_path):
    for name in (None, 7, True):
        with pytest.raises(UserError, match=r"the name of class 1 is read as .* quote it"):
            load_coco(coco(tmp_path, [{"id": 1, "name": name}]))
    assert load_coco(coco(tmp_path, [{"id": 1}])).names == ["1"]


@pytest.mark.parametrize("names", ["[a, yes]", "[no, a]", "[007, a]", "[null, a]", "{0: a, 1: on}", "{0: a, 1: 1.5}"])
def test_what_yaml_reads_as_other_things_is_refused(tmp_path, names):
    path = yolo(tmp_path)
    path.write_text(f"train: images/train\nnames: {names}\n")
    with pytest.raises(UserError, match=r"data.yaml: the name of class \d is read as .* quote it"):
        load_data(path, "train")


@pytest.mark.parametrize("names", ["{0: a, 0: b}", "{0: a, 1: b, 00: c}", "{yes: a}", "{0: a, 1.0: b}", "[a, a ]"])
def test_keys_of_yaml_are_each_there_once(tmp_path, names):
    path = yolo(tmp_path)
    path.write_text(f"train: images/train\nnames: {names}\n")
    with pytest.raises(UserError, match=r"is there twice|keys of 'names' must be|have the same name"):
        load_data(path, "train")


def test_quoted_names_are_taken_as_they_are(tmp_path):
    path = yolo(tmp_path)
    path.write_text("train: images/train\nnames: {0: 'no', 1: '007'}\n")
    assert load_data(path, "train").names == ["no", "007"]


def test_folders_of_classes_and_csv_are_held_to_the_same(tmp_path):
    image(tmp_path / "set/cat/a.png")
    image(tmp_path / "set/cat /b.png")
    with pytest.raises(UserError, match=r"class 1 \('cat'\) and 2 \('cat '\) have names that differ in blanks"):
        load_data(tmp_path / "set", "train", whole="pictures")
    image(tmp_path / "x.png")
    image(tmp_path / "y.png")
    table = text(tmp_path / "t.csv", "file,label,split\nx.png,big  cat,train\ny.png,big cat,train\n")
    with pytest.raises(UserError, match="differ in blanks"):
        load_data(table, "train", whole="pictures")


def test_voc_classes_are_held_to_the_same(tmp_path):
    image(tmp_path / "JPEGImages/a.jpg")
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        for name in ("traffic light", "traffic  light")
    )
    text(tmp_path / "Annotations/a.xml", f"<annotation><filename>a.jpg</filename>{objects}</annotation>")
    with pytest.raises(UserError, match="differ in blanks"):
        load_data(tmp_path, "train")


def test_weights_with_two_classes_of_one_name_are_judged_by_id(tmp_path, capsys):
    store = load_coco(coco(tmp_path, [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]))
    twins = Card(["person", "person", "car"], [0, 1, 2])
    assert by_name(twins, store).tolist() == [-1, 0, 1]
    assert "lacks, not counted: person (id 0)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"several classes 'person' \(ids 5, 6\), none of id 1"):
        by_name(Card(["person", "person", "car"], [5, 6, 2]), store)
    assert by_name(Card([" car", "person"], [1, 2]), store).tolist() == [1, 0]


def test_any_name_of_text_comes_out_of_yaml_as_it_went_in(tmp_path):
    path = yolo(tmp_path)
    content = {"train": "images/train", "names": list(ODD.values())}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_data(path, "train").names == list(ODD.values())
