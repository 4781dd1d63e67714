"""Names of classes, keypoints and people: which may share a list, which are equal, how they are shown and filed."""

import json
import shutil
import unicodedata

import hotcoco
import numpy as np
import pytest
import torch
import yaml

import detect
from detect.__main__ import main
from detect.api import Detector
from detect.cli.parser import parse
from detect.data.categories import skeleton_pairs, with_classes_of
from detect.data.sources.coco import load_coco
from detect.data.sources.formats import load_data
from detect.data_check.findings import check
from detect.errors import UserError
from detect.evaluation.class_matching import by_name
from detect.evaluation.oks import nameless
from detect.inference.crops import CropSink
from detect.inference.draw import draw
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.inference.result_writers import JsonSink
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.classifier import ClassifierConfig
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import load_weights, save_weights
from detect.report.html import Page
from detect.training.setup import train
from detect.types import Detections, Frame
from detect.utils.names import distinct, file_names, find, json_text, key, require_names, shown
from tests.detect.test_formats import image, text, yolo
from tests.reference.models import fitting
from tests.reference.runs import CLOCK, settings

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
    "long": "ä" * 150,
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
    with pytest.raises(UserError, match=r"w has 'a' several times \(ids 5, 6\), none of id 7: rename them"):
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
        assert not set(part) & set('/\\:*?"<>|\n\0\u202e') and part.lower() not in ("nul", "com1.txt")
    assert file_names(["traffic light", "猫"]) == ["traffic light", "猫"]


@pytest.mark.parametrize("categories", [ROOT, [*ROOT[:1], {"id": 1, "name": "car", "supercategory": "person"}]])
def test_a_root_without_annotations_is_dropped_aloud(tmp_path, capsys, categories):
    annotations = load_coco(coco(tmp_path, categories))
    assert annotations.names == [categories[1]["name"]] and annotations.category_ids.tolist() == [1]
    assert annotations.labels.tolist() == [0] and len(annotations.notes) == 1
    said = capsys.readouterr().err
    assert "category id 0 ('person') has no annotation and is the root of the others" in said and said.count("\n") == 1
    load_coco(tmp_path / "instances_train.json")
    assert capsys.readouterr().err == ""  # once is enough
    for _ in range(2):
        assert main(["anchors", "--data", str(tmp_path), "--k", "1"]) == 0
        assert capsys.readouterr().err.count("is the root of the others") == 1
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


def held_out(folder, categories, labels=()):
    """The annotations of one image with an object of each of the category ids `labels`."""
    return load_coco(coco(folder, [{"id": i, "name": name} for i, name in categories.items()], labels))


@pytest.mark.parametrize(
    "categories",
    [{1: "dog", 2: "cat"}, {7: "cat", 9: "dog"}, {0: "do g", 1: "ca t"}, {1: "ape", 2: "dog", 3: "cat"}],
)
def test_classes_of_splits_meet_by_name(tmp_path, categories):
    train = held_out(tmp_path, {3: "cat", 5: "dog"})
    ids = {name.replace(" ", ""): i for i, name in categories.items()}
    other = held_out(tmp_path, categories, [ids["dog"], ids["cat"], ids["dog"]])
    matched = with_classes_of(other, train)
    assert matched.names == ["cat", "dog"]
    assert matched.labels.tolist() == [1, 0, 1]
    assert with_classes_of(held_out(tmp_path, {1: "dog"}, [1]), train).labels.tolist() == [1]


def test_an_object_of_a_class_that_training_does_not_know_is_refused(tmp_path):
    train = held_out(tmp_path, {3: "cat", 5: "dog"})
    with pytest.raises(UserError, match=r"unknown class 'Dog': did you mean 'dog'\?; declare it in .*its 2 objects"):
        with_classes_of(held_out(tmp_path, {1: "cat", 2: "Dog"}, [1, 2, 2]), train)


def test_training_is_measured_alike_whatever_the_order_of_the_classes(digits, tmp_path, one_thread):
    shutil.copytree(digits, tmp_path / "data")
    path = tmp_path / "data" / "instances_val.json"
    data = json.loads(path.read_text())
    data["categories"].reverse()
    for rank, category in enumerate(data["categories"]):
        for one in data["annotations"]:
            if one["category_id"] == category["id"]:
                one["new"] = 50 + rank
        category["id"] = 50 + rank
    for one in data["annotations"]:
        one["category_id"] = one.pop("new")
    path.write_text(json.dumps(data))
    measured = []
    for data, out in ((digits, "a"), (path.parent, "b")):
        train(settings(data, tmp_path / out, epochs=1))
        line = json.loads((tmp_path / out / "metrics.jsonl").read_text())
        measured.append({name: value for name, value in line.items() if name not in CLOCK})
    assert measured[0] == measured[1]


def test_names_of_json_are_texts(tmp_path):
    for name in (None, 7, True):
        with pytest.raises(UserError, match=r"the name of class 1 is read as .* quote it"):
            load_coco(coco(tmp_path, [{"id": 1, "name": name}]))
    assert load_coco(coco(tmp_path, [{"id": 1}])).names == ["1"]


@pytest.mark.parametrize("name", ["\ud83d.png", "a\0.png"])
def test_file_names_that_no_file_can_have_are_bad_records(tmp_path, name):
    path = coco(tmp_path, [{"id": 1, "name": "a"}])
    content = json.loads(path.read_text())
    content["images"].append({"id": 2, "file_name": name})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="has a file name that no file can have; fix it"):
        load_coco(path)
    assert [one.kind for one in check(str(tmp_path), 64).findings if "image id 2" in one.text] == ["record"]


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


def test_splits_of_yaml_are_texts(tmp_path):
    path = text(tmp_path / "d.yaml", "no: {annotations: a.json}\n")
    with pytest.raises(UserError, match="the name of split 1 is read as False"):
        load_data(path, "train")


def test_quoted_names_are_taken_as_they_are(tmp_path):
    path = yolo(tmp_path)
    path.write_text("train: images/train\nnames: {0: 'no', 1: '007'}\n")
    assert load_data(path, "train").names == ["no", "007"]


def test_folders_of_classes_and_csv_are_held_to_the_same(tmp_path):
    image(tmp_path / "set/cat/a.png")
    image(tmp_path / "set/cat /b.png")
    with pytest.raises(UserError, match=r"class 1 \('cat'\) and 2 \('cat '\) have names that differ in blanks"):
        load_data(tmp_path / "set", "train", image_level_labels="images")
    image(tmp_path / "x.png")
    image(tmp_path / "y.png")
    table = text(tmp_path / "t.csv", "file,label,split\nx.png,big  cat,train\ny.png,big cat,train\n")
    with pytest.raises(UserError, match="differ in blanks"):
        load_data(table, "train", image_level_labels="images")
    columns = text(tmp_path / "c.csv", "file,label,Label\nx.png,cat,dog\n")
    with pytest.raises(UserError, match="two columns are called 'label'"):
        load_data(columns, "train", image_level_labels="images")


def test_voc_classes_are_held_to_the_same(tmp_path):
    image(tmp_path / "JPEGImages/a.jpg")
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        for name in ("traffic light", "traffic  light")
    )
    text(tmp_path / "Annotations/a.xml", f"<annotation><filename>a.jpg</filename>{objects}</annotation>")
    with pytest.raises(UserError, match="differ in blanks"):
        load_data(tmp_path, "train")


def test_weights_with_two_classes_of_one_name_are_evaluated_by_id(tmp_path, capsys):
    annotations = load_coco(coco(tmp_path, [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]))
    twins = ModelMetadata(["person", "person", "car"], [0, 1, 2])
    assert by_name(twins, annotations).tolist() == [-1, 0, 1]
    assert "lacks, not counted: person (id 0)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"'person' several times \(ids 5, 6\), none of id 1"):
        by_name(ModelMetadata(["person", "person", "car"], [5, 6, 2]), annotations)
    assert by_name(ModelMetadata([" car", "person"], [1, 2]), annotations).tolist() == [1, 0]


def test_a_name_that_several_classes_have_means_them_all():
    model = build(YoloConfig(), ModelMetadata(["RBC", "WBC", "RBC", "wbc"], [1, 2, 3, 4]))
    detector = Detector(model, torch.device("cpu"), torch.float32)
    assert detector.labels("RBC") == detector.labels("rbc") == detector.labels(["RBC (id 1)", 2]) == (0, 2)
    assert detector.labels(["rbc (id 3)", "RBC", "WBC"]) == (2, 0, 1)
    with pytest.raises(UserError, match="unknown class 'Wbc'"):
        detector.labels("Wbc")


def test_any_name_of_text_comes_out_of_yaml_as_it_went_in(tmp_path):
    path = yolo(tmp_path)
    content = {"train": "images/train", "names": list(ODD.values())}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_data(path, "train").names == list(ODD.values())


def found(count):
    """As many detections, one of each class."""
    boxes = torch.tensor([[2.0, 3.0, 20.0, 18.0]]).repeat(count, 1)
    return Detections(boxes, torch.linspace(0.9, 0.5, count), torch.arange(count))


def test_any_name_can_be_drawn_and_a_crop_never_leaves_its_folder(tmp_path):
    names, frame = list(ODD.values()), Frame(np.zeros((64, 48, 3), np.uint8), "half \udcff.jpg")
    assert draw(frame.image, found(len(names)), [*names[:-1], "x" * 10**6]).any()
    crops = CropSink(OutputPaths(OutputFolder(tmp_path / "out")).within("crops"), names)
    crops.write(frame, found(len(names)), frame.image)
    folders = [path.name for path in (tmp_path / "out/crops").iterdir()]
    assert sorted(folders) == sorted(file_names(names)) and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_names_of_one_spelling_have_crops_apart(tmp_path):
    crops = CropSink(OutputPaths(OutputFolder(tmp_path)).within("crops"), ["a/b", "a_b", "A:B"])
    crops.write(Frame(np.zeros((30, 30, 3), np.uint8), "x.png"), found(3), np.zeros((30, 30, 3), np.uint8))
    assert sorted(path.name for path in (tmp_path / "crops").iterdir()) == ["A_B-3", "a_b", "a_b-2"]


def test_json_keeps_names_and_shows_nothing_of_what_hides(tmp_path):
    names = [*ODD.values(), "猫", "👩\u200d🚀"]
    results = JsonSink(OutputFolder(tmp_path), "detections.json", names, range(len(names)))
    results.write(Frame(np.zeros((30, 30, 3), np.uint8), "half \udcff \x9b.jpg"), found(len(names)), np.zeros(()))
    results.close()
    text = (tmp_path / "detections.json").read_text(encoding="utf-8")
    records = json.loads(text)
    assert [one["category"] for one in records] == names and records[0]["image"] == "half \udcff \x9b.jpg"
    assert shown(text.replace("\n", "")) == text.replace("\n", "") and "猫" in text and "\\u202e" in text
    assert json.loads(json_text({"a\ud83d": ["\x7f\U000e0041"]}, indent=1)) == {"a\ud83d": ["\x7f\U000e0041"]}


def test_a_page_holds_any_name(tmp_path):
    page, names = Page("\x1b<i>"), list(ODD.values())
    page.table(("class",), [(name,) for name in names])
    page.bars(dict.fromkeys(names, 1.0), names[3])
    page.curves({name: [(0, 1), (1, 2)] for name in names}, names[4], names[2], names[5])
    page.matrix(np.eye(len(names)), names, names, names[5])
    page.image(np.zeros((8, 8, 3), np.uint8), names[6])
    page.code("a: 1\nb: \x1b\ud83d")
    text = str(page)
    assert text.encode() and "<script>alert" not in text and "a: 1\nb: \\x1b\\ud83d" in text
    assert not set(text) & set("\0\x1b\x9b\u202e\u2028")


def test_weights_keep_any_name(tmp_path):
    metadata = ModelMetadata(list(ODD.values()), list(range(len(ODD))), 32, keypoint_names=["\ud83d", "\0"])
    save_weights(tmp_path / "w.safetensors", build(ClassifierConfig(name="lenet5", backbone="lenet5"), metadata))
    assert load_weights(tmp_path / "w.safetensors").metadata == metadata


def test_the_engine_for_keypoints_gets_no_names(tmp_path):
    path = coco(tmp_path, [{"id": 1, "name": "\ud83d", "keypoints": ["\ud83d"]}])
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"] = [1, 2, 2]
    path.write_text(json.dumps(content))
    assert hotcoco.COCO(nameless(load_coco(path)))


def test_an_error_names_what_it_will_in_one_line(capsys, tmp_path):
    assert main(["check", "--data", f"{tmp_path}/\x1b[31m\ud83d\nnone"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "\x1b" not in error and "\\x1b[31m\\ud83d none" in error


@pytest.mark.parametrize(
    "command",
    ["check --data {}", "train --data toy --out {}", "report --run {}", "anchors --data {}", "info yolo_n --json {}"],
)
def test_a_name_that_no_file_can_have_is_one_line(capsys, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    assert main(command.format("x\ud83d").split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "x\\ud83d" in error


def test_words_of_a_yaml_list_stay_words():
    flags = ["--weights", "w", "--source", "s"]
    assert parse("predict", [*flags, "--classes", "[no, 007, null, 'a b']"]).classes == ["no", "007", "null", "a b"]
    assert parse("predict", [*flags, "--classes", "no", "007"]).classes == ["no", "007"]


@pytest.mark.parametrize("kind", ["landmarker", "yolo_points"])
def test_keypoints_of_weights_and_data_meet_by_name(marked, tmp_path, capsys, kind, one_thread):
    names = ["left_top", "right_bottom", "middle"]
    neck = "straight" if kind == "landmarker" else "pan"
    config = fitting(kind, name=kind, width=8, levels=[4], head_convs=0, neck=neck)
    torch.manual_seed(0)
    model = build(config, ModelMetadata([*"0123456789"], list(range(10)), 64, keypoint_names=names))
    save_weights(tmp_path / "w.safetensors", model)
    other = [2, 0, 1]  # where each keypoint of the data is in the weights
    data = tmp_path / "data"
    shutil.copytree(marked, data)
    content = json.loads((data / "instances_val.json").read_text())
    for category in content["categories"]:
        category |= {"keypoints": [names[i] for i in other], "skeleton": []}
    for one in content["annotations"]:
        one["keypoints"] = [v for i in other for v in one["keypoints"][3 * i : 3 * i + 3]]
    (data / "instances_val.json").write_text(json.dumps(content))
    flags = {"weights": tmp_path / "w.safetensors", "split": "val", "workers": 0, "device": "cpu", "conf": 0.0001}
    flags |= {"precision": "float32"}
    if kind == "landmarker":
        del flags["conf"]
    plain, turned = (detect.evaluate(data=folder, detections=tmp_path / "d.json", **flags) for folder in (marked, data))
    numbers = [name for name, value in plain.items() if isinstance(value, float)]
    assert len(numbers) > 2 and [turned[n] for n in numbers] == pytest.approx([plain[n] for n in numbers], abs=1e-6)
    for category in content["categories"]:
        category["keypoints"][0] = "nose"
    (data / "instances_val.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="has a keypoint 'nose', which the weights lack; they have: left_top"):
        detect.evaluate(data=data, **flags)


def test_no_command_prints_what_controls_a_terminal(tmp_path, capsys):
    """Folders, files and classes whose names hold escape codes, markup, marks of direction and line breaks."""
    evil = "\x1b[31m[red]\u202e\nx\x9b2J"
    data, out = tmp_path / f"data{evil}", tmp_path / f"run{evil}"
    for split in ("train", "val"):
        names = [f"{i}{evil}.png" for i in range(2)]
        for name in names:
            image(data / split / name)
        images = [{"id": i, "file_name": name, "width": 40, "height": 20} for i, name in enumerate(names, 1)]
        objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 14 + 9 * i]} for i in (1, 2)]
        objects.append({"id": 3, "image_id": 1, "category_id": 2, "bbox": [-5, 2, -3, 14]})
        kinds = [{"id": i, "name": f"{i}{evil}"} for i in (1, 2)]
        content = {"images": images, "annotations": objects, "categories": kinds}
        (data / f"instances_{split}.json").write_text(json.dumps(content))
    (data / "train" / f"loose{evil}.png").write_bytes(b"?")
    flags = ["--device", "cpu", "--workers", "0", "--imgsz", "32", "--batch", "2", "--skip-bad"]
    small = ["--model.backbone", "lenet5", "--model.neck", "straight", "--model.levels", "[2]", "--model.width", "8"]
    weights = str(out / "best.safetensors")
    for arguments, status in (
        (["check", "--data", str(data)], 0),
        (["anchors", "--data", str(data), "--k", "1"], 2),
        (["anchors", "--data", str(data), "--k", "1", "--skip-bad"], 0),
        (["train", "--data", str(data), "--out", str(out), "--epochs", "1", *small, *flags], 0),
        (["train", "--data", str(data), "--out", str(out), "--epochs", "1", *small, *flags], 2),
        (["evaluate", "--data", str(data), "--weights", weights, *flags], 0),
        (["predict", "--source", str(data / "val"), "--weights", weights, "--out", str(tmp_path / f"p{evil}")], 0),
        (["predict", "--source", str(data / "none"), "--weights", weights, "--out", str(tmp_path / "p")], 2),
        (["predict", "--source", str(data / "val"), "--weights", weights, "--json", "--conf", "0"], 0),
        (["check", "--data", str(data / "none")], 2),
        (["check", "--data", evil], 2),
        (["train", f"--{evil}", evil], 2),
        (["train", "--data", str(data), "--model", evil], 2),
        ([evil], 2),
    ):
        if "predict" in arguments and "--out" not in arguments:
            arguments = [*arguments, "--out", str(tmp_path / "shown")]
        assert main(arguments) == status, arguments
        said = "".join(capsys.readouterr())
        assert not set(said) & set("\x1b\u202e\x9b\r"), arguments
        assert status == 0 or said.count("\n") == 1, said


@pytest.mark.parametrize("skeleton", [[[float("inf"), 2]], [[float("nan"), 1]], [[1e308, 2]], 7, [[1]], [["a", "b"]]])
def test_a_skeleton_of_no_numbers_is_none(skeleton):
    assert skeleton_pairs({"keypoints": ["a", "b"], "skeleton": skeleton})[0] == []
