import copy
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detect.data.sources.coco import flip_pairs, load_coco
from detect.data.validate import check_images, require_objects, verify
from detect.errors import UserError

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not at {DATA} (set GRIDHEAD_DATA)")


def sample():
    """Three images (the second without objects), official-looking ids out of order, and a crowd region."""
    return {
        "images": [
            {"id": 40, "file_name": "b.png", "width": 60, "height": 50},
            {"id": 7, "file_name": "empty.png", "width": 60, "height": 50},
            {"id": 13, "file_name": "sub/a b é.png", "width": 30, "height": 20},
        ],
        "annotations": [
            {"id": 5, "image_id": 13, "category_id": 90, "bbox": [1, 2, 10, 5.5], "area": 33.5, "iscrowd": 0},
            {"id": 3, "image_id": 40, "category_id": 2, "bbox": [-4, 0, 20, 30], "area": 600, "iscrowd": 1},
            {"id": 9, "image_id": 13, "category_id": 2, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0},
        ],
        "categories": [{"id": 90, "name": "brush"}, {"id": 2, "name": "bicycle"}, {"id": 17, "name": "cat"}],
    }


def write(folder, content, name="instances_train.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def make_images(folder, content):
    for record in content["images"]:
        path = folder / record["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (record["width"], record["height"]), "teal").save(path)


def load(folder, content, **options):
    return load_coco(write(folder, content), **options)


def test_columns(tmp_path):
    annotations = load(tmp_path, sample())
    assert len(annotations) == 3
    assert annotations.image_ids.tolist() == [40, 7, 13]
    assert annotations.sizes.tolist() == [[50, 60], [50, 60], [20, 30]]
    assert annotations.starts.tolist() == [0, 1, 1, 3]
    assert annotations.ids.tolist() == [3, 5, 9]
    assert annotations.boxes.tolist() == [[-4, 0, 20, 30], [1, 2, 10, 5.5], [0, 0, 4, 4]]
    assert annotations.category_ids.tolist() == [2, 17, 90]
    assert annotations.names == ["bicycle", "cat", "brush"]
    assert annotations.labels.tolist() == [0, 2, 0]
    assert annotations.crowd.tolist() == [True, False, False]
    assert annotations.areas.tolist() == [600, 33.5, 16]
    assert annotations.keypoints is None and annotations.keypoint_names == [] and annotations.flip_pairs is None
    kinds = {
        "image_ids": "i8",
        "sizes": "i4",
        "starts": "i8",
        "boxes": "f8",
        "labels": "i8",
        "areas": "f8",
        "ids": "i8",
    }
    for name, kind in kinds.items():
        assert getattr(annotations, name).dtype == kind
    assert annotations.file_name(2) == "sub/a b é.png"
    assert annotations.image_path(2) == tmp_path / "sub" / "a b é.png"


def test_target(tmp_path):
    annotations = load(tmp_path, sample())
    target = annotations.target(2)
    assert target.boxes.dtype == torch.float32
    assert target.boxes.tolist() == [[1, 2, 11, 7.5], [0, 0, 4, 4]]
    assert target.labels.tolist() == [2, 0] and target.image_id == 13 and target.size == (20, 30)
    assert annotations.target(0).crowd.tolist() == [True]
    empty = annotations.target(1)
    assert empty.boxes.shape == (0, 4) and empty.image_id == 7
    target.boxes[:] = -1
    target.labels[:] = -1
    assert annotations.target(2).boxes.min() == 0 and annotations.labels.min() == 0


def test_optional_fields_may_be_missing(tmp_path):
    content = sample()
    for record in content["annotations"]:
        for key in ("id", "area", "iscrowd"):
            del record[key]
    for record in content["images"]:
        del record["width"]
    for record in content["categories"]:
        del record["name"]
    annotations = load(tmp_path, content)
    assert annotations.areas.tolist() == [600, 55, 16]
    assert not annotations.crowd.any()
    assert annotations.names == ["2", "17", "90"]
    assert len(set(annotations.ids.tolist())) == 3 and annotations.ids.min() > 0
    assert annotations.sizes.tolist() == [[0, 0]] * 3 or annotations.size(0) is None
    content["annotations"][0]["id"] = 77
    ids = load(tmp_path, content).ids.tolist()
    assert 77 in ids and len(set(ids)) == 3


def test_images_without_any_object_and_file_root(tmp_path):
    content = sample() | {"annotations": []}
    annotations = load(tmp_path, content, root=tmp_path / "elsewhere")
    assert annotations.boxes.shape == (0, 4) and annotations.target(1).boxes.shape == (0, 4)
    assert annotations.image_path(0) == tmp_path / "elsewhere" / "b.png"
    with pytest.raises(UserError, match="training set is empty"):
        require_objects(annotations)
    crowd = sample()
    crowd["annotations"] = crowd["annotations"][1:2]
    with pytest.raises(UserError, match="training set is empty"):
        require_objects(load(tmp_path, crowd))
    require_objects(load(tmp_path, sample()))


def test_keypoints(tmp_path):
    content = sample()
    names = ["nose", "left_eye", "right_eye"]
    content["categories"][2] |= {"keypoints": names, "skeleton": [[1, 2], [2, 3]]}
    content["annotations"][2]["keypoints"] = [1, 2, 2, 3.5, 4, 1, 0, 0, 0]
    annotations = load(tmp_path, content)
    assert annotations.keypoints.shape == (3, 3, 3) and annotations.keypoints.dtype == np.float64
    assert annotations.keypoints[:2].max() == 0
    assert annotations.keypoints[2].tolist() == [[1, 2, 2], [3.5, 4, 1], [0, 0, 0]]
    assert (
        annotations.keypoint_names == names
        and annotations.skeleton == [[0, 1], [1, 2]]
        and annotations.flip_pairs == [[1, 2]]
    )
    assert annotations.target(2).keypoints.shape == (2, 3, 3) and annotations.target(2).keypoints.dtype == torch.float32
    content["annotations"][2]["keypoints"] = outside = [-5, 2, 2, 3.5, 1e4, 1, 0, 0, 0]  # kept, as COCO does
    assert load(tmp_path, content).keypoints[2].ravel().tolist() == outside
    for bad in ([1, 2], [1, 2, 2, float("nan"), 4, 1, 0, 0, 0], "abc"):
        content["annotations"][2]["keypoints"] = bad
        with pytest.raises(UserError, match="annotation id 9 has keypoints"):
            load(tmp_path, content)
    content["categories"][1]["keypoints"] = ["tip"]
    with pytest.raises(UserError, match="different keypoints"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["nose", "left_eye", "right_eye"], [[1, 2]]),
        (["right_a", "left_b", "left_a", "right_b"], [[1, 3], [2, 0]]),
        (["Left Wrist", "Right Wrist"], [[0, 1]]),
        (["tip", "base"], None),
        (["left_eye", "nose"], None),
        (["left_eye", "right_eye", "right_ear"], None),
        ([], None),
    ],
)
def test_flip_pairs(names, pairs):
    assert flip_pairs(names) == pairs


def test_select(tmp_path):
    annotations = load(tmp_path, sample())
    part = annotations.select([2, 0])
    assert part.image_ids.tolist() == [13, 40]
    assert part.file_name(0) == "sub/a b é.png" and part.file_name(1) == "b.png"
    for index, old in enumerate((2, 0)):
        ours, reference = part.target(index), annotations.target(old)
        assert torch.equal(ours.boxes, reference.boxes) and torch.equal(ours.labels, reference.labels)
        assert ours.image_id == reference.image_id and ours.size == reference.size
    none = annotations.select([])
    assert len(none) == 0 and none.boxes.shape == (0, 4) and none.starts.tolist() == [0]


def test_to_coco_round_trip(tmp_path):
    content = sample()
    content["categories"][2] |= {"keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}
    content["annotations"][2]["keypoints"] = [1, 2, 2, 3, 4, 0]
    annotations = load(tmp_path, content)
    coco = json.loads(json.dumps(annotations.to_coco()))
    again = load(tmp_path, coco)
    for name in (
        "image_ids",
        "sizes",
        "starts",
        "boxes",
        "labels",
        "crowd",
        "areas",
        "ids",
        "keypoints",
        "category_ids",
    ):
        assert np.array_equal(getattr(annotations, name), getattr(again, name))
    assert (
        again.skeleton == annotations.skeleton
        and again.flip_pairs == annotations.flip_pairs
        and again.names == annotations.names
    )
    assert [a.get("num_keypoints") for a in coco["annotations"]] == [0, 0, 1]


def change(path, value):
    def apply(content):
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return apply


ANNOTATION = "annotations"
BAD = {
    "category": (change((ANNOTATION, 0, "category_id"), 3), "annotation id 5 has category 3"),
    "category missing": (lambda c: c[ANNOTATION][0].pop("category_id"), "annotation id 5 has category None"),
    "nan": (change((ANNOTATION, 0, "bbox"), [1, 2, math.nan, 3]), "annotation id 5 has bbox"),
    "infinite": (change((ANNOTATION, 0, "bbox"), [math.inf, 2, 3, 3]), "annotation id 5 has bbox"),
    "huge": (change((ANNOTATION, 0, "bbox"), [10**400, 2, 3, 3]), "annotation id 5 has bbox"),
    "three": (change((ANNOTATION, 0, "bbox"), [1, 2, 3]), "annotation id 5 has bbox"),
    "text": (change((ANNOTATION, 0, "bbox"), ["a", 2, 3, 4]), "annotation id 5 has bbox"),
    "no box": (lambda c: c[ANNOTATION][0].pop("bbox"), "annotation id 5 has bbox None"),
    "negative": (change((ANNOTATION, 0, "bbox"), [1, 2, 4, -3]), "annotation id 5 has a box of width 4 and height -3"),
    "area": (change((ANNOTATION, 0, "area"), math.nan), "annotation id 5 has area"),
    "crowd": (change((ANNOTATION, 0, "iscrowd"), "yes"), "annotation id 5 has iscrowd"),
    "unknown image": (change((ANNOTATION, 0, "image_id"), 14), "annotation id 5 belongs to image 14"),
    "no image": (lambda c: c[ANNOTATION][0].pop("image_id"), "annotation id 5 belongs to image None"),
    "text image": (change((ANNOTATION, 0, "image_id"), "13"), "annotation id 5 belongs to image '13'"),
    "half image": (change((ANNOTATION, 0, "image_id"), 13.5), "annotation id 5 belongs to image 13.5"),
    "duplicate": (change((ANNOTATION, 2, "id"), 5), "annotation id 5 has an id that one before it has"),
    "text id": (change((ANNOTATION, 0, "id"), "x"), "annotation id 'x' has an id that is not a whole number"),
    "duplicate image": (change(("images", 2, "id"), 7), "image id 7 .* has an id that an image before it has"),
    "image id": (lambda c: c["images"][0].pop("id"), "image id None .* not a whole number"),
    "nameless": (lambda c: c["images"][1].pop("file_name"), "image id 7 .* has no 'file_name'"),
    "absolute": (change(("images", 1, "file_name"), "/etc/passwd"), "image id 7 .* leaves the image folder"),
    "drive": (change(("images", 1, "file_name"), "C:\\x.png"), "image id 7 .* leaves the image folder"),
    "parent": (change(("images", 1, "file_name"), "a/../../x.png"), "image id 7 .* leaves the image folder"),
    "backslash": (change(("images", 1, "file_name"), "..\\x.png"), "image id 7 .* leaves the image folder"),
    "far": (change((ANNOTATION, 0, "bbox"), [0, 0, 2**31, 5]), "annotation id 5 has bbox .* away from any image"),
    "far left": (change((ANNOTATION, 0, "bbox"), [-(2**40), 0, 2**41, 5]), "annotation id 5 .* away from any image"),
    "farthest": (change((ANNOTATION, 0, "bbox"), [1e308, 0, 1e308, 5]), "annotation id 5 .* away from any image"),
    "nul": (change(("images", 1, "file_name"), "a\0.png"), "image id 7 .* has a file name that no file can have"),
    "surrogate": (change(("images", 1, "file_name"), "\ud83d.png"), "image id 7 .* a file name that no file can have"),
    "long name": (change(("images", 1, "file_name"), "x" * 300), "image id 7 .* a file name that no file can have"),
    "long path": (change(("images", 1, "file_name"), "x/" * 3000), "image id 7 .* a file name that no file can have"),
    "url": (change(("images", 1), {"id": 7, "coco_url": "http://[x/y.png"}), "image id 7 .* has no 'file_name'"),
    "image true": (change(("images", 1, "id"), True), "image id True .* not a whole number"),
    "image beyond": (change(("images", 1, "id"), 2**70), "image id 1180591620717411303424 .* not a whole number"),
    "size": (change(("images", 1, "width"), -60), "image id 7 .* has width -60"),
    "size text": (change(("images", 1, "width"), "wide"), "image id 7 .* has width 'wide'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_records_are_named_or_left_out(tmp_path, kind):
    apply, message = BAD[kind]
    content = sample()
    apply(content)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, content)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "instances_train.json")) and "--skip-bad" in text and "\n" not in text

    annotations = load(tmp_path, content, skip_bad=True)
    assert annotations.left_out[0] in text
    assert len(annotations) + len(annotations.boxes) < 6


def test_annotations_of_an_image_left_out_go_with_it(tmp_path):
    content = sample()
    content["images"][2]["file_name"] = "../x.png"
    annotations = load(tmp_path, content, skip_bad=True)
    assert annotations.image_ids.tolist() == [40, 7] and annotations.ids.tolist() == [3]
    assert len(annotations.left_out) == 3
    assert "annotation id 5 belongs to image 13" in annotations.left_out[1]


def test_dots_in_names_are_no_folders(tmp_path):
    content = sample()
    content["images"][0]["file_name"] = "..b.png"
    content["images"][1]["file_name"] = "a..b/c...png"
    assert load(tmp_path, content).file_name(1) == "a..b/c...png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [\n  {"id": 1,}\n]}', r"broken json at line 2, column \d+"),
        ('{"images": [{"id": 1', "broken json at line 1"),
        ("", "broken json at line 1, column 1"),
        ("[" * 100_000, "cannot be read: lists and objects are nested too deeply"),
        ('{"images": ' + "1" * 5000 + "}", "cannot be read: .*digits"),
        ('{"images": [], "images": []}', "cannot be read: the key 'images' comes twice in an object"),
        ('{"a": [{"b": {"c": 1, "d": 2, "c": 3}}]}', "cannot be read: the key 'c' comes twice in an object"),
        ("{" + "".join(f'"{i}": 0, ' for i in range(200_000)) + '"199999": 1}', "the key '199999' comes twice"),
        ("[]", "is it a file of results"),
        ("3", "not COCO annotations"),
        ('{"images": [], "annotations": []}', "'categories' is not a list or is missing"),
        ('{"images": {}, "annotations": [], "categories": []}', "'images' is not a list"),
        ('{"images": [5], "annotations": [], "categories": []}', r"images\[0\] is not an object"),
        ('{"images": [], "annotations": [], "categories": []}', "'categories' is empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "the dataset is empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 1}]}', "category id 1 is declared twice"),
        ('{"images": [], "annotations": [], "categories": [{"name": "a"}]}', r"categories\[0\] has id None"),
    ],
)
def test_broken_files(tmp_path, text, message):
    for skip_bad in (False, True):
        with pytest.raises(UserError, match=message) as caught:
            load(tmp_path, text, skip_bad=skip_bad)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_keypoints_away_from_any_image_are_refused(tmp_path):
    content = sample()
    content["categories"] = [{**c, "keypoints": ["a"]} for c in content["categories"]]
    content[ANNOTATION][0]["keypoints"] = [1e300, 1, 2]
    with pytest.raises(UserError, match="annotation id 5 has a keypoint more than 10,000,000 pixels away"):
        load(tmp_path, content)


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_coco(tmp_path / "none.json")
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps(sample()).encode("utf-16"))
    assert len(load_coco(path))
    path.write_bytes(b"{\xff}")
    with pytest.raises(UserError, match="not UTF-8"):
        load_coco(path)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(sample()).encode())
    assert len(load_coco(path)) == 3


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=5),
    st.just({}), st.sampled_from([40, 7, 13, 90, 2, [1, 2, 3, 4], "../x", "a.png"]),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_gives_a_annotations_or_a_user_error(tmp_path_factory, data):
    content = sample()
    content["categories"][0]["keypoints"] = ["a", "b"]
    content["categories"][0]["skeleton"] = [[1, 2]]
    for _ in range(data.draw(st.integers(1, 4))):
        records = content[data.draw(st.sampled_from(sorted(content)))]
        record = records[data.draw(st.integers(0, 2))]
        keys = sorted({*record, "keypoints", "area", "skeleton", "width"})
        record[data.draw(st.sampled_from(keys))] = data.draw(VALUES)
    folder = tmp_path_factory.getbasetemp()
    before = copy.deepcopy(content)
    for skip_bad in (False, True):
        try:
            annotations = load(folder, content, skip_bad=skip_bad)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        assert annotations.starts[-1] == len(annotations.boxes) == len(annotations.labels) == len(annotations.ids)
        assert np.isfinite(annotations.boxes).all() and (annotations.boxes[:, 2:] >= 0).all()
        assert annotations.labels.max(initial=0) < len(annotations.names)
        assert len(set(annotations.ids.tolist())) == len(annotations.ids)
        assert skip_bad or not annotations.left_out
        for index in range(len(annotations)):
            annotations.target(index)
            assert annotations.image_path(index).is_relative_to(folder)
    assert str(content) == str(before)


def test_read_and_verify(tmp_path):
    content = sample()
    make_images(tmp_path, content)
    annotations = load(tmp_path, content)
    assert annotations.read(2).shape == (20, 30, 3)
    assert verify(annotations) is annotations
    assert verify(annotations, skip_bad=True) is annotations
    assert not any(problem or oddity for _, problem, oddity in check_images(annotations))


def test_bad_images(tmp_path):
    content = sample()
    make_images(tmp_path, content)
    annotations = load(tmp_path, content)
    whole = (tmp_path / "b.png").read_bytes()

    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png: there is no such image file; .*--skip-bad"):
        verify(annotations)
    Image.new("RGB", (61, 50)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png: annotated as 60 x 50 .* 61 x 50"):
        verify(annotations)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(UserError, match=r"b\.png: not a readable image"):
        verify(annotations)
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    assert verify(annotations, decode=False) is annotations  # the header is fine; reading it is not
    with pytest.raises(UserError, match=r"b\.png"):
        verify(annotations)
    with pytest.raises(UserError, match=r"b\.png"):
        annotations.read(0)
    left = verify(annotations, skip_bad=True)
    assert left.image_ids.tolist() == [7, 13] and left.ids.tolist() == [5, 9]
    assert len(left.left_out) == 1 and "b.png" in left.left_out[0] and "its 1 objects" in left.left_out[0]
    for name in ("empty.png", "sub/a b é.png"):
        (tmp_path / name).unlink()
    assert all(problem for _, problem, _ in check_images(annotations))
    with pytest.raises(UserError, match="no image that can be used"):
        verify(annotations, skip_bad=True)


@real
def test_real_files_match_pycocotools():
    from pycocotools.coco import COCO

    for name in ("bccd/instances_val.json", "coco-mini/instances_val.json", "coco-mini/person_keypoints_val.json"):
        annotations, coco = load_coco(DATA / name), COCO(DATA / name)
        assert sorted(annotations.image_ids.tolist()) == sorted(coco.getImgIds())
        assert annotations.category_ids.tolist() == sorted(coco.getCatIds())
        assert [coco.loadCats(i)[0]["name"] for i in annotations.category_ids.tolist()] == annotations.names
        for index in range(len(annotations)):
            rows = slice(annotations.starts[index], annotations.starts[index + 1])
            records = coco.imgToAnns[int(annotations.image_ids[index])]
            assert annotations.ids[rows].tolist() == [r["id"] for r in records]
            assert annotations.boxes[rows].tolist() == [r["bbox"] for r in records]
            assert annotations.areas[rows].tolist() == [r["area"] for r in records]
            assert annotations.crowd[rows].tolist() == [bool(r["iscrowd"]) for r in records]
            assert annotations.category_ids[annotations.labels[rows]].tolist() == [r["category_id"] for r in records]
        assert verify(annotations.select(range(20)), skip_bad=True).left_out == []
