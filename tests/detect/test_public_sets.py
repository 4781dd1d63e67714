"""Large public sets in their own layouts: Open Images, WIDER FACE, CelebA, Objects365, ImageNet."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from detect.data.federation import Federation
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.evaluation import CocoEvaluator
from detect.evaluation.bootstrap import bootstrap, draw_weights, leaves
from detect.evaluation.coco_protocol import Records
from detect.evaluation.own_protocols import own_matches, own_numbers, resampled_own
from tests.reference import open_images as naive


def image(path, width=40, height=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


# Open Images


BOX = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
NAMES = {"/m/07yv9": "Vehicle", "/m/0k4j": "Car", "/m/01bjv": "Bus", "/m/0bt9lr": "Dog", "/m/01yrx": "Cat"}
TREE = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {"LabelName": "/m/07yv9", "Subcategory": [{"LabelName": "/m/0k4j"}, {"LabelName": "/m/01bjv"}]},
        {"LabelName": "/m/0bt9lr", "Part": [{"LabelName": "/m/01yrx"}]},
    ],
}


def open_images(folder, boxes=None):
    boxes = boxes or [
        "a1,xclick,/m/0k4j,1,0.1,0.5,0.2,0.6,0,0,0,0,0",
        "a1,xclick,/m/0k4j,1,0.5,0.9,0.2,0.6,0,0,1,0,0",
        "gone,xclick,/m/0k4j,1,0.1,0.5,0.2,0.6,0,0,0,0,0",
    ]
    text(folder / "class-descriptions-boxable.csv", *(f"{label},{name}" for label, name in NAMES.items()))
    text(folder / "validation-annotations-bbox.csv", BOX, *boxes)
    labels = ("a1,verification,/m/01yrx,0", "a1,verification,/m/0bt9lr,1", "b2,verification,/m/07yv9,0")
    header = "ImageID,Source,LabelName,Confidence"
    text(folder / "validation-annotations-human-imagelabels-boxable.csv", header, *labels)
    (folder / "bbox_labels_600_hierarchy.json").write_text(json.dumps(TREE))
    for name in ("a1", "b2", "c3"):
        image(folder / f"validation/{name}.jpg")
    return folder


def test_open_images_is_read_with_what_was_checked(tmp_path):
    assert splits(open_images(tmp_path)) == ["val"]
    annotations = load_data(tmp_path, "val")
    assert annotations.names == [*NAMES.values()] and annotations.measured_as == "open_images"
    assert [annotations.file_name(i) for i in range(2)] == ["a1.jpg", "b2.jpg"] and len(annotations) == 2
    assert annotations.boxes.tolist() == pytest.approx(np.array([[4, 4, 16, 8], [20, 4, 16, 8]]))
    assert annotations.crowd.tolist() == [False, True]
    federation = annotations.federation
    assert federation.parents == ((), (0,), (0,), (), ())
    assert federation.checked_in(0).tolist() == [0, 1, 3, 4]  # a car is a vehicle; a dog it shows, and no cat
    assert federation.partial_in(0).tolist() == [0, 3]  # these it shows without boxes
    assert federation.checked_in(1).tolist() == [0, 1, 2] and federation.partial_in(1).tolist() == []
    kinds = [(kind, line) for kind, line in annotations.notes if kind == "unused"]
    assert "1 image" in kinds[0][1] and "gone" in kinds[0][1] and "c3" in kinds[1][1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a1,xclick,/m/none,1,0.1,0.5,0.2,0.6,0,0,0,0,0", "has a class '/m/none'"),
        ("a1,xclick,/m/0k4j,1,0.5,0.5,0.2,0.6,0,0,0,0,0", "has a box of width 0"),
        ("a1,xclick,/m/0k4j,1,x,0.5,0.2,0.6,0,0,0,0,0", "has bbox None"),
        ("a1,xclick,/m/0k4j,1", "has fewer columns"),
    ],
)
def test_bad_rows_of_open_images_are_named_or_left_out(tmp_path, row, reason):
    open_images(tmp_path, ["a1,xclick,/m/0k4j,1,0.1,0.5,0.2,0.6,0,0,0,0,0", row])
    with pytest.raises(UserError, match=rf"bbox\.csv: line 3.* {reason}"):
        load_data(tmp_path, "val")
    rest = load_data(tmp_path, "val", skip_bad=True)
    assert len(rest.boxes) == len(rest.left_out) == 1


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("class-descriptions-boxable.csv", "/m/0k4j,Car\n/m/0k4j,Van\n", "'/m/0k4j' is listed twice, with 'Car'"),
        ("class-descriptions-boxable.csv", "/m/0k4j,Car\n/m/01b\n", "'/m/01b' is not a label and the name of a class"),
        ("bbox_labels_600_hierarchy.json", '{"LabelName": [1]}', "a class of the hierarchy is"),
        ("bbox_labels_600_hierarchy.json", '{"LabelName": "/m/0k4j", "Subcategory": 3}', "a class of the hierarchy is"),
        ("bbox_labels_600_hierarchy.json", '{"LabelName": "a", "Subcategory": [null]}', "a class of the hierarchy is"),
        (
            "validation-annotations-human-imagelabels-boxable.csv",
            "ImageID,LabelName,Confidence\na1,/m/01yrx,nan\n",
            "has confidence 'nan', not 0 to 1",
        ),
    ],
)
def test_bad_lists_of_open_images_are_named(tmp_path, file, content, reason):
    (open_images(tmp_path) / file).write_text(content)
    with pytest.raises(UserError, match=f"{file}.*{reason}"):
        load_data(tmp_path, "val")


def scene(seed, base):
    """Annotations with random boxes of five classes, group-of boxes and checked classes; detections near them."""
    rng = np.random.default_rng(seed)
    parents = ((), (0,), (0,), (), (1, 0))
    objects, detections, checked = {}, {}, {}
    for number in base.image_ids.tolist():
        objects[number], detections[number] = [], []
        for _ in range(rng.integers(0, 7)):
            box, label = [*rng.integers(0, 50, 2), *rng.integers(5, 50, 2)], int(rng.integers(5))
            objects[number].append((box, label, bool(rng.random() < 0.3)))
            for _ in range(rng.integers(0, 4)):
                near = np.add(box, [*rng.normal(0, 3, 2), *rng.uniform(-4, 2, 2)])
                near[2:] = np.maximum(near[2:] * (0.5 if rng.random() < 0.3 else 1), 1)
                other = label if rng.random() < 0.8 else int(rng.integers(5))
                detections[number].append((near.tolist(), other, float(rng.random())))
        shown = {one for _, label, _ in objects[number] for one in (label, *parents[label])}
        checked[number] = shown | {k for k in range(5) if rng.random() < 0.3}
    rows = [one for number in objects for one in objects[number]]
    columns = {
        "starts": np.cumsum([0, *(len(some) for some in objects.values())]),
        "boxes": np.array([row[0] for row in rows], float).reshape(-1, 4),
        "labels": np.array([row[1] for row in rows], int),
        "crowd": np.array([row[2] for row in rows], bool),
        "areas": np.ones(len(rows)),
        "ids": np.arange(1, len(rows) + 1),
        "federation": Federation.of([*checked.values()], [set()] * len(checked), parents=parents),
    }
    found = [one for some in detections.values() for one in some]
    records = Records(
        np.array([*detections]),
        np.array([len(some) for some in detections.values()]),
        np.array([one[0] for one in found], float).reshape(-1, 4),
        np.array([one[2] for one in found]),
        np.array([one[1] for one in found], int),
    )
    return dataclasses.replace(base, **columns), records, (objects, detections, checked, dict(enumerate(parents)))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for n in range(6):
        image(folder / f"validation/i{n}.jpg", 120, 100)
    rows = [f"i{n},xclick,/m/0k4j,1,0.1,0.5,0.2,0.6,0,0,0,0,0" for n in range(6)]
    text(folder / "class-descriptions-boxable.csv", *(f"{label},{name}" for label, name in NAMES.items()))
    text(folder / "validation-annotations-bbox.csv", BOX, *rows)
    return load_data(folder, "val")


@pytest.mark.parametrize("seed", range(20))
def test_the_protocols_of_open_images_and_wider_face_are_those_of_plain_loops(seed, base):
    annotations, records, (objects, detections, checked, parents) = scene(seed, base)
    expected = naive.open_images(objects, detections, checked, parents)
    assert measured(annotations, records, "open_images")["OpenImages_per_class"] == pytest.approx(
        {name: expected[k] for k, name in enumerate(annotations.names)}, abs=1e-9
    )
    faces = {number: [(box, group) for box, _, group in some] for number, some in objects.items()}
    found = {number: [(box, score) for box, _, score in some] for number, some in detections.items()}
    assert measured(annotations, records, "wider_face")["WIDER_AP"] == pytest.approx(
        naive.wider_face(faces, found), abs=1e-9
    )


def measured(annotations, records, protocol):
    annotations = dataclasses.replace(annotations, measured_as=protocol)
    return own_numbers(annotations, own_matches(annotations, records))


@pytest.mark.parametrize("protocol", ["open_images", "wider_face"])
def test_resamples_of_their_numbers_are_those_of_a_set_with_images_several_times(protocol, base):
    annotations, records, _ = scene(3, dataclasses.replace(base, measured_as=protocol))
    weights = np.concatenate([np.ones((1, len(annotations)), np.int32), draw_weights(len(annotations), 8)])
    found = dict(leaves(resampled_own(annotations, own_matches(annotations, records), weights)))
    ends = records.counts.cumsum()
    for r, one in enumerate(weights):
        index = np.repeat(np.arange(len(annotations)), one)
        ids = np.arange(1, len(index) + 1)
        rows = np.concatenate([np.arange(ends[i] - records.counts[i], ends[i]) for i in index])
        boxes, scores, labels = records.boxes[rows], records.scores[rows], records.labels[rows]
        drawn = dataclasses.replace(annotations.select(index), image_ids=ids)
        expected = dict(leaves(measured(drawn, Records(ids, records.counts[index], boxes, scores, labels), protocol)))
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            undefined = value is None or value == -1
            assert np.isnan(found[name][r]) if undefined else found[name][r] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("protocol", ["open_images", "wider_face"])
def test_their_numbers_have_intervals_and_are_compared(protocol, base):
    annotations, records, _ = scene(3, dataclasses.replace(base, measured_as=protocol))
    evaluator = CocoEvaluator(annotations)
    evaluator.extend(records)
    name = ("OpenImages_AP50",) if protocol == "open_images" else ("WIDER_AP",)
    low, high = bootstrap(evaluator, draw_weights(len(annotations), 200)).interval(name)
    assert low < evaluator.result()[name[0]] < high
    assert set(name) <= evaluator.resampled(np.ones((1, len(annotations)), np.int32), only=name[0]).keys()


def test_their_numbers_stand_beside_cocos(base):
    evaluator = CocoEvaluator(base)
    result = evaluator.result()
    assert result["OpenImages_AP50"] == 0 and result["OpenImages_per_class"]["Dog"] is None and result["AP"] == 0
    faces = CocoEvaluator(dataclasses.replace(base, federation=None, measured_as="wider_face"))
    assert faces.result()["WIDER_AP"] == 0 and "OpenImages_AP50" not in faces.result()


# WIDER FACE


FACES = ["0--Parade/a.jpg", "3", "1 2 10 8 0 0 0 0 0 0 ", "20 2 5 5 2 0 0 1 2 1 ", "0 0 0 0 0 0 0 0 0 0 "]
NONE = ["0--Parade/b.jpg", "0", "0 0 0 0 0 0 0 0 0 0 "]


def wider_face(folder, *more, lines=()):
    lines = (*more, *lines)
    text(folder / "wider_face_split/wider_face_val_bbx_gt.txt", *lines)
    text(folder / "wider_face_split/wider_face_test_filelist.txt", "0--Parade/t.jpg")
    for name in "ab":
        image(folder / f"WIDER_val/images/0--Parade/{name}.jpg")
    return folder


def test_wider_face_is_read_and_invalid_faces_are_ignored(tmp_path):
    assert splits(wider_face(tmp_path, *NONE, *FACES)) == ["val"]
    annotations = load_data(tmp_path, "val")
    assert [annotations.file_name(i) for i in range(2)] == ["0--Parade/b.jpg", "0--Parade/a.jpg"]
    assert annotations.starts.tolist() == [0, 0, 2] and annotations.names == ["face"]
    assert annotations.boxes.tolist() == [[1, 2, 10, 8], [20, 2, 5, 5]] and annotations.crowd.tolist() == [False, True]
    assert annotations.measured_as == "wider_face" and "1 face without area" in annotations.notes[0][1]
    text(tmp_path / "d.txt", *NONE[:2], *FACES)  # some copies lack the row of zeros
    text(tmp_path / "wider_face_split/wider_face_val_bbx_gt.txt", *NONE[:2], *FACES)
    assert len(load_data(tmp_path, "val").boxes) == 2


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["0--Parade/a.jpg", "1", "1 2 3 4 0 0 0 0 0"], "line 3 is '1 2 3 4 0 0 0 0 0': a row is ten whole numbers"),
        (["0--Parade/a.jpg", "1", "1 2 0 4 0 0 0 0 0 0"], "line 3 has a box of width 0 and height 4"),
        (["0--Parade/a.jpg", "x", "1 2 3 4 0 0 0 0 0 0"], "line 2: after the name of an image stands the number"),
        (
            ["0--Parade/a.jpg", "9" * 5000, "1 2 3 4 0 0 0 0 0 0"],
            "line 2: after the name of an image stands the number",
        ),
        ([*FACES, *NONE, *FACES], "image 0--Parade/a.jpg is listed twice"),
        (["0--Parade/a.jpg", "9", "1 2 3 4 0 0 0 0 0 0"], "line 2: says 9 faces, but the file ends before"),
        (["../../a.jpg", "1", "1 2 3 4 0 0 0 0 0 0"], "leaves the image folder"),
    ],
)
def test_bad_texts_of_wider_face_are_named(tmp_path, lines, reason):
    wider_face(tmp_path, *lines)
    with pytest.raises(UserError, match=reason):
        load_data(tmp_path, "val")


# CelebA


def celeba(folder, aligned=False):
    names = [f"00000{n}.jpg" for n in range(1, 5)]
    text(folder / "Eval/list_eval_partition.txt", *(f"{name} {part}" for name, part in zip(names, "0012", strict=True)))
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    points = [f"{name}  5 6 9 6 7 8 5 10 9 10" for name in names]
    text(folder / f"Anno/list_landmarks{'_align' * aligned}_celeba.txt", "4", header, *points)
    boxes = [f"{name}    2   1  20  18" for name in names]
    text(folder / "Anno/list_bbox_celeba.txt", "4", "image_id x_1 y_1 width height", *boxes)
    text(
        folder / "Anno/identity_CelebA.txt", *(f"{name} {who}" for name, who in zip(names, (10, 9, 2, 2), strict=True))
    )
    for name in names:
        image(folder / f"Img/{'img_align_celeba' if aligned else 'img_celeba'}/{name}")
    return folder


def test_celeba_has_faces_points_and_identities(tmp_path):
    assert splits(celeba(tmp_path)) == ["train", "val", "test"]
    annotations = load_data(tmp_path, "train")
    assert annotations.names == ["face"] and annotations.boxes.tolist() == [[2, 1, 20, 18]] * 2
    assert annotations.keypoint_names[0] == "left_eye" and annotations.flip_pairs == [[0, 1], [3, 4]]
    assert annotations.keypoints[0, :2].tolist() == [[5, 6, 2], [9, 6, 2]] and annotations.image_path(0).is_file()
    people = load_data(tmp_path, "train", image_level_labels="classes")
    assert people.names == ["2", "9", "10"] and people.labels.tolist() == [2, 1]
    assert load_data(tmp_path, "test", image_level_labels="classes").labels.tolist() == [0]


def test_aligned_faces_of_celeba_are_whole_images(tmp_path):
    annotations = load_data(celeba(tmp_path, aligned=True), "val")
    assert annotations.boxes.tolist() == [[0, 0, 40, 20]] and annotations.keypoints is not None


def test_what_celebas_lists_lack_is_named(tmp_path):
    path = celeba(tmp_path) / "Anno/list_bbox_celeba.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-4] + lines[-3:]))
    with pytest.raises(UserError, match=r"list_eval_partition\.txt: 000001\.jpg is not in every list"):
        load_data(tmp_path, "train")
    assert len(load_data(tmp_path, "train", skip_bad=True)) == 1
    path.unlink()
    with pytest.raises(UserError, match=r"there is no list_bbox_celeba\.txt"):
        load_data(tmp_path, "train")


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("Eval/list_eval_partition.txt", "000009.jpg", r"line 5: '000009\.jpg' is not the name of an image and its"),
        ("Eval/list_eval_partition.txt", "00000", "line 5: '00000' is not the name of an image and its values"),
        ("Eval/list_eval_partition.txt", "000001.jpg 2", r"'000001\.jpg' is listed twice, with \['0'\] and \['2'\]"),
        ("Anno/list_bbox_celeba.txt", "000001.jpg 1 2 3 4", r"'000001\.jpg' is listed twice, with"),
        ("Anno/list_bbox_celeba.txt", "000002.jpg    2   1  20  18", ""),
    ],
)
def test_lines_of_celebas_lists_are_read_or_named(tmp_path, file, line, reason):
    path = celeba(tmp_path) / file
    path.write_text(path.read_text() + line)
    if not reason:
        assert len(load_data(tmp_path, "train")) == 2
        return
    with pytest.raises(UserError, match=reason):
        load_data(tmp_path, "train")


# Objects365


@pytest.mark.parametrize(
    ("file", "name", "place"),
    [
        (
            "zhiyuan_objv2_train.json",
            "images/v1/patch8/objects365_v1_00420917.jpg",
            "train/patch8/objects365_v1_00420917.jpg",
        ),
        ("annotations/zhiyuan_objv2_val.json", "images/v2/patch16/x.jpg", "val/images/v2/patch16/x.jpg"),
        ("val/zhiyuan_objv2_val.json", "images/v2/patch16/x.jpg", "images/val/patch16/x.jpg"),
        ("objects365_train.json", "obj365_train_000000000001.jpg", "train/obj365_train_000000000001.jpg"),
        ("annotations/zhiyuan_objv2_train_fixname.json", "images/v1/patch8/x.jpg", "images/train/x.jpg"),
    ],
)
def test_objects365_finds_images_in_the_layouts_of_its_archives(tmp_path, file, name, place):
    image(tmp_path / place)
    one = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1, "isfake": 0, "area": 12}
    content = {
        "images": [{"id": 7, "file_name": name, "width": 40, "height": 20, "license": 5}],
        "annotations": [one],
        "categories": [{"id": 3, "name": "Chair"}],
    }
    text(tmp_path / file, json.dumps(content))
    (split,) = splits(tmp_path)
    annotations = load_data(tmp_path, split)
    assert split in file and annotations.image_path(0) == tmp_path / place and annotations.crowd.tolist() == [True]


def test_objects365_without_a_list_of_images_is_named(tmp_path):
    text(tmp_path / "objects365_train.json", json.dumps({"images": 5, "annotations": [], "categories": []}))
    with pytest.raises(UserError, match="images"):
        load_data(tmp_path, "train")


# ImageNet


WORDS = {"n01440764": "tench, Tinca tinca", "n02012849": "crane", "n03126707": "crane, lifter", "n01443537": "goldfish"}


def imagenet(folder, data="ILSVRC/Data/CLS-LOC"):
    text(folder / "LOC_synset_mapping.txt", *(f"{synset} {words}" for synset, words in sorted(WORDS.items())))
    for n in (1, 2, 3):
        image(folder / data / f"val/ILSVRC2012_val_0000000{n}.JPEG")
    image(folder / data / "train/n01440764/n01440764_10026.JPEG")
    image(folder / data / "train/n03126707/n03126707_1.JPEG")
    return folder


SOLUTION = (
    "ImageId,PredictionString",
    "ILSVRC2012_val_00000002,n01440764 85 1 499 272",
    "ILSVRC2012_val_00000001,n03126707 85 1 499 272 n03126707 1 2 3 4 ",
    "ILSVRC2012_val_00000003,n02012849 1 1 9 9",
)


def test_the_flat_validation_set_of_imagenet(tmp_path):
    text(imagenet(tmp_path) / "LOC_val_solution.csv", *SOLUTION)
    assert splits(tmp_path, image_level_labels="images") == ["train", "val"]
    val = load_data(tmp_path, "val", image_level_labels="images")
    assert val.names == ["tench", "goldfish", "crane", "crane, lifter"]
    assert [val.file_name(i)[-6:] for i in range(3)] == ["1.JPEG", "2.JPEG", "3.JPEG"]
    assert val.labels.tolist() == [3, 0, 2] and val.boxes[0].tolist() == [0, 0, 40, 20]
    train = load_data(tmp_path, "train", image_level_labels="images")
    assert train.names == val.names and train.labels.tolist() == [0, 3]


def test_numbers_of_the_ground_truth_need_their_meaning(tmp_path):
    text(imagenet(tmp_path, "") / "ILSVRC2012_validation_ground_truth.txt", "490", "1", "77")
    with pytest.raises(UserError, match=r"map_clsloc\.txt or the development kit's meta\.mat"):
        load_data(tmp_path, "val", image_level_labels="images")
    text(tmp_path / "map_clsloc.txt", "n01440764 1 tench", "n03126707 490 crane", "n02012849 77 crane")
    assert load_data(tmp_path, "val", image_level_labels="images").labels.tolist() == [3, 0, 2]
    text(tmp_path / "ILSVRC2012_validation_ground_truth.txt", "490", "1")
    with pytest.raises(UserError, match="has 2 lines, but val/ has 3 images"):
        load_data(tmp_path, "val", image_level_labels="images")


def test_images_that_no_list_names_and_the_other_way_round(tmp_path):
    text(imagenet(tmp_path) / "LOC_val_solution.csv", *SOLUTION[:-1], "ILSVRC2012_val_00000009,n02012849 1 1 9 9")
    with pytest.raises(UserError, match="ILSVRC2012_val_0000000"):
        load_data(tmp_path, "val", image_level_labels="images")
    rest = load_data(tmp_path, "val", skip_bad=True, image_level_labels="images")
    assert len(rest) == 2 and len(rest.left_out) == 2


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        (
            "LOC_val_solution.csv",
            "ILSVRC2012_val_00000003,n01440764 1 1 9 9",
            "0003' is listed twice, with 'n02012849'",
        ),
        ("LOC_val_solution.csv", "ILSVRC2012_val_00000004,n0144", "names no synset"),
        ("LOC_synset_mapping.txt", "n0144", "a line begins with 'n0144', not with a synset"),
        ("LOC_synset_mapping.txt", "n01440764 carp", "'n01440764' is listed twice, with"),
    ],
)
def test_lines_that_no_list_of_imagenet_has_are_named(tmp_path, file, line, reason):
    text(imagenet(tmp_path) / "LOC_val_solution.csv", *SOLUTION)
    (tmp_path / file).write_text((tmp_path / file).read_text() + line)
    with pytest.raises(UserError, match=rf"{file}: .*{reason}"):
        load_data(tmp_path, "val", image_level_labels="images")


# A YAML that names the format and its files, wherever these lie


FORMS = {
    "open_images": "classes: {0}/class-descriptions-boxable.csv\nhierarchy: {0}/bbox_labels_600_hierarchy.json\n"
    "val:\n  annotations: {0}/validation-annotations-bbox.csv\n  images: {0}/validation\n"
    "  labels: {0}/validation-annotations-human-imagelabels-boxable.csv\n",
    "wider_face": "valid:\n  images: {0}/WIDER_val/images\n"
    "  annotations: {0}/wider_face_split/wider_face_val_bbx_gt.txt\n",
    "celeba": "partition: {0}/Eval/list_eval_partition.txt\nimages: {0}/Img/img_celeba\n"
    "boxes: {0}/Anno/list_bbox_celeba.txt\nlandmarks: {0}/Anno/list_landmarks_celeba.txt\n"
    "identities: {0}/Anno/identity_CelebA.txt\n",
    "imagenet": "classes: {0}/LOC_synset_mapping.txt\nval: {{annotations: {0}/LOC_val_solution.csv, images: {0}/val}}\n"
    "train: {{images: {0}/train}}\n",
}


def laid_out(form, folder):
    """A set of a format in its own layout."""
    if form == "imagenet":
        text(imagenet(folder, "") / "LOC_val_solution.csv", *SOLUTION)
        return folder
    return {"open_images": open_images, "celeba": celeba, "wider_face": partial(wider_face, lines=(*NONE, *FACES))}[
        form
    ](folder)


def same(left, right):
    assert left.names == right.names and left.measured_as == right.measured_as and left.notes == right.notes
    assert [left.image_path(i) for i in range(len(left))] == [right.image_path(i) for i in range(len(right))]
    for column in ("starts", "boxes", "labels", "crowd", "keypoints"):
        np.testing.assert_array_equal(getattr(left, column), getattr(right, column))
    assert (left.federation is None) == (right.federation is None)
    if left.federation:
        np.testing.assert_array_equal(left.federation.checked, right.federation.checked)
        assert left.federation.parents == right.federation.parents


@pytest.mark.parametrize("labels", ["", "images"])
@pytest.mark.parametrize("form", FORMS)
def test_a_yaml_that_names_the_files_is_read_as_the_folder(tmp_path, form, labels):
    if form == "imagenet" and not labels:
        pytest.skip("has labels of whole images alone")
    folder = laid_out(form, tmp_path / "set")
    by_files, by_path = tmp_path / "elsewhere" / "files.yaml", tmp_path / "elsewhere" / "path.yaml"
    text(by_files, f"format: {form}\n" + FORMS[form].format("../set"))
    text(by_path, f"format: {form}", f"path: {folder}")
    for name in splits(folder, labels):
        expected = load_data(folder, name, image_level_labels=labels)
        for path in (by_files, by_path):
            assert splits(path, labels) == splits(folder, labels)
            same(load_data(path, name, image_level_labels=labels), expected)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["format: wider_fase"], r"unknown format 'wider_fase': did you mean 'wider_face'"),
        (["format: [1]"], "unknown format"),
        (["format: wider_face"], "names no split; add train: or val:, with annotations and images"),
        (["format: wider_face", "val: 3"], "val: is no key of format wider_face"),
        (["format: wider_face", "val: {annotation: a.txt}"], "unknown key 'annotation': did you mean 'annotations'"),
        (["format: wider_face", "val: {annotations: [1]}"], r"annotations must be one file or folder, not \[1\]"),
        (["format: wider_face", "val: {annotations: no.txt}"], r"val: annotations: there is no file .*no\.txt"),
        (["format: wider_face", "val: {annotations: d.yaml}"], "val: has no images:, which this format needs"),
        (["format: celeba", "boxes: d.yaml"], "has no partition:"),
        (["format: celeba", "box: d.yaml"], "unknown key 'box': did you mean 'boxes'"),
        (["format: voc", "val: {images: .}"], "format voc is read from a folder: give path: FOLDER"),
        (["format: voc", "path: ."], "is not in the format voc: a Pascal VOC folder"),
        (["format: voc", "path: d.yaml"], "path: is this YAML itself"),
        (["format: voc", "path: none"], "path: there is no .*none; it is relative to the YAML"),
        (["format: named_yaml", "path: ."], "is this YAML itself"),
        (["format: imagenet", "path: ."], "labels of whole images alone; give --task classify or embed"),
    ],
)
def test_what_is_wrong_in_a_yaml_with_a_format_is_named(tmp_path, lines, reason):
    text(tmp_path / "d.yaml", *lines)
    with pytest.raises(UserError, match=rf"d\.yaml: .*{reason}"):
        load_data(tmp_path / "d.yaml", "val")


def test_a_named_list_of_numbers_needs_their_meaning(tmp_path):
    text(imagenet(tmp_path, "") / "truth.txt", "490", "1", "77")
    text(tmp_path / "map.txt", "n01440764 1 tench", "n03126707 490 crane", "n02012849 77 crane")
    yaml = ["format: imagenet", "val: {annotations: truth.txt, images: val}"]
    text(tmp_path / "d.yaml", *yaml)
    with pytest.raises(UserError, match="numbers: of a YAML"):
        load_data(tmp_path / "d.yaml", "val", image_level_labels="images")
    text(tmp_path / "d.yaml", *yaml, "numbers: map.txt")
    found = load_data(tmp_path / "d.yaml", "val", image_level_labels="images")
    assert [found.names[label] for label in found.labels] == ["n03126707", "n01440764", "n02012849"]
