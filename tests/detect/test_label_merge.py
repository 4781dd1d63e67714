"""`detect label --merge`: corrected labels come back."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detect.__main__ import main
from detect.data.bad_records import BadRecords
from detect.data.outlines import Outlines
from detect.data.sources.coco import from_coco
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.labelling.corrected import ImageIndex
from detect.labelling.labels import Labels
from detect.labelling.object_matching import Objects, has_moved, iou, pairs
from detect.labelling.writer import write_dataset
from detect.registry import REGISTRIES

NAMES = ["a.png", "sub/a.png", "c.png", "d e.png"]
BEFORE = [  # image, class, box
    (1, 1, [2, 3, 20, 20]),
    (1, 1, [30, 5, 20, 20]),
    (1, 2, [10, 25, 20, 15]),
    (2, 2, [5, 5, 30, 30]),
    (4, 1, [1, 1, 10, 10]),
]
AFTER = [
    (1, 1, [2, 3, 20, 20]),  # as before
    (1, 1, [33, 6, 20, 20]),  # moved
    (2, 1, [5, 5, 30, 30]),  # another class
    (2, 2, [40, 30, 12, 10]),  # added; of the first image one is removed
]


def annotations(folder, objects, images=(1, 2, 3, 4), names=("cat", "dog")):
    records = [{"id": i, "file_name": NAMES[i - 1], "width": 64, "height": 48} for i in images]
    content = {
        "images": records,
        "annotations": [
            {"id": 11 + row, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3]}
            for row, (image, label, box) in enumerate(objects)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
    }
    return from_coco(content, folder, folder, BadRecords(folder, False))


@pytest.fixture
def photos(tmp_path):
    for name in NAMES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (90, 120, 30)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def dataset(tmp_path, photos):
    """What was predicted, with a mark for review in each of two images."""
    review = np.array([True, False, False, False, True])
    labels = Labels(annotations(photos, BEFORE), scores=np.linspace(0.3, 0.9, 5), review=review)
    write_dataset({"train": labels}, tmp_path / "dataset")
    return tmp_path / "dataset"


def corrections(tmp_path, photos, form="coco", objects=AFTER, images=(1, 2), out="corrected", **options):
    labels = Labels(annotations(photos, objects, images, **options))
    write_dataset({"train": labels}, tmp_path / out, form, images="copy")
    return tmp_path / out


def merged(tmp_path, dataset, *corrected, options=(), out="merged"):
    words = ["label", "--merge", *map(str, corrected), "--into", str(dataset), "--out", str(tmp_path / out), *options]
    return main(words)


def rows(data):
    return sorted(
        (data.file_name(i), data.names[data.labels[row]], *data.boxes[row].round(3).tolist())
        for i in range(len(data))
        for row in range(*data.starts[i : i + 2].tolist())
    )


@pytest.mark.parametrize("form", list(REGISTRIES["labels"]))
@pytest.mark.parametrize("alone", [False, True])
def test_corrections_of_every_format_come_back(tmp_path, photos, dataset, form, alone, capsys):
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    corrected = corrections(tmp_path, photos, form)
    if alone:  # as exports without images are
        for folder in ("images", "JPEGImages"):
            shutil.rmtree(corrected / folder, ignore_errors=True)
        (corrected / "data.yaml").unlink(missing_ok=form == "yolo" or form != "coco")
        if form == "coco":
            corrected = corrected / "instances_train.json"
    assert merged(tmp_path, dataset, corrected) == 0
    printed = capsys.readouterr().out
    assert "2 images corrected, 0 new, 2 as before" in printed
    assert "1 object added, 1 removed, 1 changed, 1 of another class (dog -> cat 1), 1 unchanged" in printed
    expected = [*AFTER, BEFORE[4]]
    assert rows(load_data(tmp_path / "merged", "train")) == rows(annotations(photos, expected))
    changes = json.loads((tmp_path / "merged" / "changes.json").read_text())
    assert [len(changes["images"][0][what]) for what in ("added", "removed", "changed")] == [0, 1, 1]
    text = (tmp_path / "merged" / "changes.txt").read_text()
    assert "train/a.png: 1 removed (dog 1); 1 changed (cat 1)" in text
    assert "train/sub/a.png: 1 added (dog 1); 1 dog -> cat" in text
    assert before == {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    assert merged(tmp_path, dataset, corrected) == 2


def test_ids_stay_and_marks_of_images_without_correction(tmp_path, photos, dataset):
    assert merged(tmp_path, dataset, corrections(tmp_path, photos)) == 0
    content = json.loads((tmp_path / "merged" / "instances_train.json").read_text())
    known = {one["id"]: one for one in content["annotations"]}
    assert sorted(known) == [11, 12, 14, 15, 16]
    assert {number for number, one in known.items() if one.get("review")} == {15}
    assert {number for number, one in known.items() if "score" in one} == {15}
    assert (tmp_path / "merged" / "review.txt").read_text().endswith("d e.png\n")


def test_an_image_without_objects_is_a_correction(tmp_path, photos, dataset, capsys):
    assert merged(tmp_path, dataset, corrections(tmp_path, photos, objects=[], images=(1,))) == 0
    assert "0 objects added, 3 removed" in capsys.readouterr().out


def test_an_image_that_was_corrected_twice_is_named(tmp_path, photos, dataset, capsys):
    first = corrections(tmp_path, photos, out="first")
    second = corrections(tmp_path, photos, objects=AFTER[:1], images=(1,), out="second")
    again = corrections(tmp_path, photos, "yolo", out="again")
    assert merged(tmp_path, dataset, first, again) == 0
    capsys.readouterr()
    assert merged(tmp_path, dataset, first, second, out="x") == 2
    error = capsys.readouterr().err
    assert "a.png was corrected twice" in error and "--conflicts first or last" in error
    assert not (tmp_path / "x").exists()
    for which, count in (("first", 5), ("last", 4)):
        assert merged(tmp_path, dataset, first, second, options=("--conflicts", which), out=f"took {which}") == 0
        assert len(load_data(tmp_path / f"took {which}", "train").boxes) == count
        assert f"the {which} correction is taken" in (tmp_path / f"took {which}" / "changes.txt").read_text()


def test_classes_that_the_dataset_lacks_are_named(tmp_path, photos, dataset, capsys):
    corrected = corrections(tmp_path, photos, names=("cat", "bird"))
    assert merged(tmp_path, dataset, corrected) == 2
    assert "'bird' (1 objects)" in capsys.readouterr().err
    assert merged(tmp_path, dataset, corrected, options=("--new-classes", "true")) == 0
    assert load_data(tmp_path / "merged", "train").names == ["cat", "dog", "bird"]


def test_new_images_are_taken(tmp_path, photos, dataset, capsys):
    Image.new("RGB", (64, 48)).save(tmp_path / "new.png")
    content = {
        "images": [{"id": 1, "file_name": "new.png"}, {"id": 2, "file_name": "c.png"}],
        "annotations": [{"image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 5, "name": "dog"}],
    }
    (tmp_path / "more.json").write_text(json.dumps(content))
    assert merged(tmp_path, dataset, tmp_path / "more.json") == 0
    assert "1 image corrected, 1 new" in capsys.readouterr().out
    read = load_data(tmp_path / "merged", "train")
    assert len(read) == 5 and read.read(4).shape == (48, 64, 3)
    (tmp_path / "new.png").unlink()
    assert merged(tmp_path, dataset, tmp_path / "more.json", out="x") == 2
    assert "no image of the dataset, and there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--tta", "true"], "--tta is for predictions"),
        (["--accept", "0.5"], "--accept is for predictions"),
        (["--track", "true", "--tracker.low", "0.2"], "--track is for predictions"),
    ],
)
def test_options_of_predictions_are_refused(tmp_path, dataset, capsys, options, line):
    assert merged(tmp_path, dataset, dataset, options=options) == 2
    assert line in capsys.readouterr().err


def test_merge_needs_a_dataset(tmp_path, capsys):
    assert main(["label", "--merge", "x", "--out", str(tmp_path / "o")]) == 2
    assert "--into" in capsys.readouterr().err
    assert main(["label", "--new-classes", "true", "--weights", "w", "--source", "s"]) == 2
    assert "--new-classes" in capsys.readouterr().err


def objects_of(boxes, names, ids):
    return Objects(np.array(boxes, np.float64).reshape(-1, 4), names, ids, [{} for _ in ids])


some_boxes = st.lists(
    st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2, st.sampled_from("xy")), min_size=0, max_size=6
)


@given(some_boxes, some_boxes, st.booleans())
def test_every_object_is_in_one_pair_at_most(first, second, kept):
    before, after = (
        objects_of([b[:4] for b in one], [b[4] for b in one], [*range(len(one))]) for one in (first, second)
    )
    found = pairs(before, after, kept)
    assert len({i for i, _ in found}) == len({j for _, j in found}) == len(found)
    assert pairs(before, before, kept) == [(i, i) for i in range(len(first))] or len(set(first)) < len(first)
    if not kept and len(first) and len(second):
        overlap = iou(before.boxes, after.boxes)
        close = overlap >= 0.5
        for i, j in found:
            assert close[i, j] or np.abs(before.boxes[i] - after.boxes[j]).max() <= 1.1
        free = close.copy()
        free[[i for i, _ in found]] = False
        free[:, [j for _, j in found]] = False
        assert not free.any()


def test_what_moved_and_what_was_rounded():
    triangle = {"bbox": [0, 2, 10, 8], "segmentation": [[-4.2, 2, 10, 2, 10, 10]], "keypoints": [1, 2, 2, 0, 0, 0]}
    uncut = triangle | {"bbox": [-4, 2, 14, 8], "segmentation": [[-4, 2, 10, 2, 10, 10]]}
    square = {"bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    turned = triangle | {"segmentation": [[10, 10, -4.2, 2, 10, 2]]}  # the same, begun elsewhere
    assert not has_moved(turned, uncut, (20, 20)) and not has_moved(uncut, turned, (20, 20))
    assert not has_moved(triangle, uncut, (20, 20)) and not has_moved(square, {"bbox": [0, 0, 4.4, 4]}, (20, 20))
    assert has_moved(triangle, uncut | {"segmentation": [[-4, 2, 10, 2, 10, 14]]}, (20, 20))
    assert has_moved(triangle, triangle | {"keypoints": [1, 4, 2, 0, 0, 0]}, (20, 20))
    assert has_moved(triangle, triangle | {"keypoints": [1, 2, 1, 0, 0, 0]}, (20, 20))
    mask = Outlines.of_masks([np.pad(np.ones((4, 4), bool), ((0, 16), (0, 16)))]).segmentation(0)
    assert not has_moved(square, square | {"segmentation": mask}, (20, 20))
    assert has_moved(square, square | {"segmentation": [[0, 0, 4, 0, 4, 4]]}, (20, 20))


def test_images_are_found_by_what_is_left_of_their_paths(tmp_path):
    index = ImageIndex([(tmp_path / name, name) for name in ("a.png", "x/a.png", "y/x/a.png", "b.jpg", "z/B.png")])
    assert [index.find(name) for name in ("a.png", "x/a.png", "k/y/x/a.png", "b.jpg", "b.png")] == [0, 1, 2, 3, 4]
    assert index.find("q/b.png.png") == 4 and index.find("nothing.png") is None
    assert index.find("anything", tmp_path / "x" / "a.png") == 1


@pytest.fixture
def two_orders(photos):
    """A dataset whose splits declare their classes with other ids, in another order; one has a class of its own."""
    objects = {"train": [(1, 1, [2, 3, 20, 20])], "val": [(3, 1, [5, 5, 30, 30]), (3, 3, [40, 5, 9, 9])]}
    for split, names in (("train", ["cat", "dog"]), ("val", ["dog", "cat", "owl"])):
        content = annotations(photos, objects[split], (objects[split][0][0],), names).to_coco()
        (photos / f"instances_{split}.json").write_text(json.dumps(content))
    return photos


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_splits_that_number_their_classes_otherwise_keep_them(tmp_path, two_orders, form):
    corrected = corrections(tmp_path, two_orders, objects=[(1, 2, [2, 3, 20, 20])], images=(1,))
    expected = rows(load_data(two_orders, "val"))
    assert merged(tmp_path, two_orders, corrected, options=("--format", form)) == 0
    val = load_data(tmp_path / "merged", "val")
    assert [(name.rpartition("/")[2], *rest) for name, *rest in rows(val)] == expected
    write_dataset(
        {split: Labels(load_data(two_orders, split)) for split in ("train", "val")}, tmp_path / "written", form
    )
    val = load_data(tmp_path / "written", "val")
    assert [(name.rpartition("/")[2], *rest) for name, *rest in rows(val)] == expected


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("form", ["voc", "cvat", "label-studio", "labelme"])
def test_a_correction_that_removes_every_object_comes_back_in_files_that_name_no_class(
    tmp_path, photos, dataset, form, alone, capsys
):
    """These formats have no list of classes, so a file without objects names none."""
    corrected = corrections(tmp_path, photos, form, objects=[], images=(1, 2))
    if alone and form == "voc":
        shutil.rmtree(corrected / "JPEGImages")
    assert merged(tmp_path, dataset, corrected) == 0
    assert "0 objects added, 4 removed" in capsys.readouterr().out
    assert rows(load_data(tmp_path / "merged", "train")) == rows(annotations(photos, BEFORE[4:]))


def test_frames_of_a_video_file_are_left_out_where_images_are_linked(tmp_path, photos):
    train = annotations(photos, BEFORE)
    video = replace(train.select([0, 0]), image_ids=np.array([1, 2]))  # two records of one file
    sets = {"train": Labels(train), "video": Labels(video)}
    lines = write_dataset(sets, tmp_path / "out", "yolo")
    assert any(line.startswith("video is left out") for line in lines)
    assert list(splits(tmp_path / "out")) == ["train"]
    with pytest.raises(UserError, match="give --images refer"):
        write_dataset({"video": sets["video"]}, tmp_path / "other", "voc")


@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "labelme"])
def test_images_that_differ_in_their_suffix_alone_come_back(tmp_path, form):
    """As VOC, which lists names without suffixes, has them: a, and a.png for a.png.png."""
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    records = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in ((1, "a.jpg"), (2, "a.png"))]
    objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 10 * i, 9]} for i in (1, 2)]
    content = {"images": records, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    given = from_coco(content, tmp_path, tmp_path, BadRecords(tmp_path, False))
    write_dataset({"train": Labels(given)}, tmp_path / "out", form, images="copy")
    found = load_data(tmp_path / "out", "train")
    assert sorted(found.boxes[:, 2].tolist()) == [10, 20] and found.starts.tolist() == [0, 1, 2]


@pytest.mark.parametrize("folder", [False, True])
def test_tracks_of_cvat_come_back_without_their_images(tmp_path, photos, dataset, folder, capsys):
    """The frames of the task are the images of the dataset, in the order of their names."""
    labels = Labels(annotations(photos, [*AFTER, BEFORE[4]]), tracks=np.arange(5))
    write_dataset({"train": labels}, tmp_path / "tracks", "cvat")
    xml = tmp_path / "tracks" / "annotations.xml"
    assert "<track" in xml.read_text() and not list((tmp_path / "tracks").rglob("*.png"))
    assert merged(tmp_path, dataset, xml.parent if folder else xml) == 0
    assert rows(load_data(tmp_path / "merged", "train")) == rows(annotations(photos, [*AFTER, BEFORE[4]]))
    xml.write_text(xml.read_text().replace("<size>4</size>", "<size>9</size>"))
    capsys.readouterr()
    assert merged(tmp_path, dataset, xml.parent if folder else xml, out="other") == 2
    assert "annotations.xml: has tracks on 9 frames, and 4 images may be meant" in capsys.readouterr().err


@pytest.mark.parametrize("form", list(REGISTRIES["labels"]))
def test_images_with_odd_names_come_back_in_every_format(tmp_path, form):
    names = ["b%20c.png", "b c.png", "a#1.png", "plus+.png", "semi;colon.png", "quo'te.png", "amp&lt;.png", "ü 猫.png"]
    images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names, start=1)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [i, 2, 20, 20]} for i in range(1, len(names) + 1)]
    for name in names:
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "photos" / name)
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": '50% <cat>, "it\'s"'}]}
    given = from_coco(content, tmp_path / "x.json", tmp_path / "photos", BadRecords(tmp_path, False))
    write_dataset({"train": Labels(given)}, tmp_path / "dataset")
    write_dataset({"train": Labels(given)}, tmp_path / "corrected", form, images="copy")
    for folder in ("images", "JPEGImages"):
        shutil.rmtree(tmp_path / "corrected" / folder, ignore_errors=True)
    corrected = tmp_path / "corrected"
    alone = {"coco": "instances_train.json", "label-studio": "tasks_train.json"}.get(form)
    assert merged(tmp_path, tmp_path / "dataset", corrected / alone if alone else corrected) == 0
    changes = json.loads((tmp_path / "merged" / "changes.json").read_text())
    assert [image["unchanged"] for image in changes["images"]] == [1] * len(names)
    assert rows(load_data(tmp_path / "merged", "train")) == rows(given)


def test_a_folder_of_xml_files_of_other_images_is_no_empty_dataset(tmp_path, photos, dataset, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "nothing.xml").write_text("<annotation><filename>nothing.png</filename></annotation>")
    assert merged(tmp_path, dataset, tmp_path / "other") == 2
    assert "nothing.xml: there is no image of its name" in capsys.readouterr().err
