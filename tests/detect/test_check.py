"""`detect check`: every planted defect is found, none is invented; the page."""

import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anchors.boxes import iou_aligned
from detect.__main__ import main
from detect.data.sources.formats import load_data
from detect.data.validate import tell_notes, verify
from detect.data_check.copies import copies
from detect.data_check.doubled import DOUBLE, doubled
from detect.data_check.findings import check
from detect.data_check.images import Seen, near_pairs, same_files
from detect.data_check.kinds import KINDS
from detect.data_check.statistics import anchors_of
from detect.report.charts import library
from detect.report.html import Page
from tests.reference.doubles import doubled as naive_doubled

RNG = np.random.default_rng


def photo(seed, side=96):
    """A smooth image unlike those of other seeds."""
    small = RNG(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Twelve and six images with two boxes each, and nothing wrong with them."""
    folder, number = tmp_path_factory.mktemp("clean"), itertools.count(1)
    for split, seeds in (("train", range(12)), ("val", range(20, 26))):
        images, boxes = [], []
        (folder / split).mkdir()
        for seed in seeds:
            cv2.imwrite(str(folder / split / f"{seed}.jpg"), photo(seed))
            images.append({"id": seed, "file_name": f"{split}/{seed}.jpg", "width": 96, "height": 96})
            for k in (0, 1):
                box = [5 + 40 * k + seed % 3, 10 + seed % 7, 20 + seed % 5, 30]
                boxes.append({"id": next(number), "image_id": seed, "category_id": 1 + k, "bbox": box})
        names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        record = {"images": images, "annotations": boxes, "categories": names}
        (folder / f"instances_{split}.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def data(clean, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(clean, folder)
    return folder


def edit(folder, split, change):
    """Change the record of a split in place."""
    path = folder / f"instances_{split}.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def found(folder, **options):
    """The kinds of what is found, with how often."""
    return Counter(one.kind for one in check(str(folder), 96, 2, **options).findings)


def test_nothing_is_invented(clean, digits):
    before = {path: path.stat().st_mtime_ns for path in clean.rglob("*")}
    assert found(clean) == {}
    assert set(found(digits)) <= {"rare", "classes", "tiny"}  # ten classes on eight images
    assert {path: path.stat().st_mtime_ns for path in clean.rglob("*")} == before


def annotation(folder, split, n, **values):
    edit(folder, split, lambda record: record["annotations"][n].update(values))


def image(folder, split, n, **values):
    edit(folder, split, lambda record: record["images"][n].update(values))


def again(folder, split, n, **values):
    """Another annotation like the n-th."""
    edit(
        folder,
        split,
        lambda record: record["annotations"].append({**record["annotations"][n], "id": 999, **values}),
    )


def empty(folder, split):
    edit(folder, split, lambda record: record.update(annotations=[]))


def without(folder, name):
    edit(folder, "val", lambda r: r.update(annotations=[a for a in r["annotations"] if a["category_id"] != 2]))


def reencoded(path, target):
    """The image a little brighter, smaller, and coded anew."""
    image = cv2.imread(str(path))
    smaller = cv2.resize(image, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target), cv2.convertScaleAbs(smaller, alpha=1.05, beta=8), [cv2.IMWRITE_JPEG_QUALITY, 60])


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path).save(path, exif=exif)


def relative(folder):
    """Boxes of val as shares of their images."""
    edit(folder, "val", lambda r: [a.update(bbox=[v / 96 for v in a["bbox"]]) for a in r["annotations"]])


def small(folder):
    edit(folder, "train", lambda r: [a["bbox"].__setitem__(slice(2, 4), [1.5, 9]) for a in r["annotations"]])


def yolo(folder, form="{0} {1} {2} {3}", k=0.5):
    """The set in YOLO's form; `k` is how much of a box's side lies before the x and y of a row."""
    for split in ("train", "val"):
        path = folder / f"instances_{split}.json"
        for one in json.loads(path.read_text())["annotations"]:
            x, y, w, h = (v / 96 for v in one["bbox"])
            row = form.format(x + w * k, y + h * k, w, h, x + w, y + h)
            with (folder / split / f"{one['image_id']}.txt").open("a") as file:
                file.write(f"{one['category_id'] - 1} {row}\n")
        path.unlink()
    (folder / "data.yaml").write_text("train: train\nval: val\nnames: [cat, dog]\n")


def unlabelled(folder):
    """The set in YOLO's form, and one more folder of training images, without labels."""
    yolo(folder)
    (folder / "train" / "more").mkdir()
    cv2.imwrite(str(folder / "train/more/99.jpg"), photo(99))


def outlined(folder, n=3, **values):
    """A polygon along the box of every training object; the n-th annotation has other `values`."""
    edit(
        folder,
        "train",
        lambda record: [one.update(segmentation=[around(*one["bbox"])]) for one in record["annotations"]],
    )
    annotation(folder, "train", n, **values)


def around(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def skeleton(record):
    """Keypoints that COCO's pairs are not for."""
    record["categories"][0] |= {"keypoints": ["a", "b"], "skeleton": [[16, 14], [14, 12]]}


def moving(path):
    """The same image as the first frame of an animation."""
    opened = Image.open(path).convert("RGB")
    opened.save(path, "PNG", save_all=True, append_images=[opened.rotate(180)])


def as_wider_face(folder):
    """The set in the layout of WIDER FACE, with a row of zeros among the faces."""
    (folder / "wider_face_split").mkdir()
    for split in ("train", "val"):
        path = folder / f"instances_{split}.json"
        record, lines = json.loads(path.read_text()), []
        for image in record["images"]:
            boxes = [one["bbox"] for one in record["annotations"] if one["image_id"] == image["id"]]
            rows = [" ".join(f"{round(v)}" for v in box) + " 0 0 0 0 0 0" for box in boxes]
            rows += ["0 0 0 0 0 0 0 0 0 0"] * (not lines)
            lines += [image["file_name"].split("/")[-1], str(len(rows)), *(rows or ["0 0 0 0 0 0 0 0 0 0"])]
        (folder / f"wider_face_split/wider_face_{split}_bbx_gt.txt").write_text("\n".join(lines))
        (folder / f"WIDER_{split}").mkdir()
        (folder / split).rename(folder / f"WIDER_{split}/images")
        path.unlink()


PLANTED = {
    "broken json record": ("record", lambda f: annotation(f, "train", 3, bbox=[1, 2, -3, 4])),
    "record without image": ("record", lambda f: annotation(f, "train", 3, image_id=12345)),
    "truncated": ("image", lambda f: (f / "train/3.jpg").write_bytes((f / "train/3.jpg").read_bytes()[:700])),
    "missing": ("image", lambda f: (f / "val/21.jpg").rename(f / "gone")),
    "other size": ("image", lambda f: image(f, "train", 2, width=90)),
    "no objects": ("empty", lambda f: empty(f, "val")),
    "class without objects": ("classes", lambda f: without(f, "dog")),
    "other class": ("record", lambda f: edit(f, "val", lambda r: r["categories"][1].update(name="bird"))),
    "leak": ("leak", lambda f: shutil.copy(f / "train/3.jpg", f / "val/21.jpg")),
    "near leak": ("near_leak", lambda f: reencoded(f / "train/3.jpg", f / "val/21.jpg")),
    "duplicate": ("duplicate", lambda f: shutil.copy(f / "train/3.jpg", f / "train/4.jpg")),
    "listed twice": ("duplicate", lambda f: image(f, "train", 4, file_name="train/3.jpg")),
    "near duplicate": ("near_duplicate", lambda f: reencoded(f / "train/3.jpg", f / "train/4.jpg")),
    "doubled": ("doubled", lambda f: again(f, "train", 0)),
    "outside": ("outside", lambda f: annotation(f, "train", 0, bbox=[90, 10, 20, 30])),
    "unlisted": ("unlisted", lambda f: cv2.imwrite(str(f / "train/new.png"), photo(99))),
    "tiny": ("tiny", lambda f: annotation(f, "train", 0, bbox=[5, 5, 2, 30])),
    "giant": ("giant", lambda f: annotation(f, "train", 0, bbox=[0, 0, 96, 96])),
    "grey with alpha": (
        "encoding",
        lambda f: Image.open(f / "train/3.jpg").convert("LA").save(f / "train/3.jpg", "PNG"),
    ),
    "turned": ("encoding", lambda f: turned(f / "train/3.jpg")),
    "turned this way or that": ("turned", lambda f: turned(f / "train/3.jpg")),
    "no height": ("flat", lambda f: annotation(f, "val", 3, bbox=[1, 2, 30, 0])),
    "wholly outside": ("away", lambda f: annotation(f, "val", 3, bbox=[96, 2, 30, 40])),
    "relative boxes": ("relative", relative),
    "some relative boxes": ("mixed", lambda f: annotation(f, "val", 0, bbox=[0.1, 0.2, 0.3, 0.4])),
    "nothing but small boxes": ("small", small),
    "a folder without labels": ("unlabelled", unlabelled),
    "rows of corners": ("outlines", lambda f: yolo(f, "{0} {1} {4} {1} {4} {5} {0} {5}", k=0)),
    "two points": ("outline", lambda f: outlined(f, segmentation=[[1, 2, 3, 4]])),
    "a part of two points": ("outline", lambda f: outlined(f, 0, segmentation=[around(7, 12, 3, 4), [1, 2, 3, 4]])),
    "a mask of another size": ("outline", lambda f: outlined(f, segmentation={"size": [9, 9], "counts": [81]})),
    "a mask of nothing": ("outline", lambda f: outlined(f, segmentation={"size": [96, 96], "counts": [9216]})),
    "an outline outside": ("outline", lambda f: outlined(f, segmentation=[[100, 1, 120, 1, 100, 9]])),
    "an object without": ("no_outline", lambda f: outlined(f, segmentation=[])),
    "a crossing": ("crossing", lambda f: outlined(f, 0, segmentation=[[7, 12, 17, 22, 17, 12, 7, 22]])),
    "beside its box": ("leaves_box", lambda f: outlined(f, 0, segmentation=[[9, 12, 19, 22, 90, 12]])),
    "beyond the image": (
        "outline_outside",
        lambda f: outlined(f, bbox=[50, 10, 46, 30], segmentation=[around(50, 10, 60, 30)]),
    ),
    "another area": ("area", lambda f: outlined(f, area=1234)),
    "a foreign skeleton": ("skeleton", lambda f: edit(f, "train", skeleton)),
    "no end mark": (
        "unfinished",
        lambda f: (f / "train/3.jpg").write_bytes((f / "train/3.jpg").read_bytes()[:-2]),
    ),
    "cut and ended": (
        "image",
        lambda f: (f / "train/3.jpg").write_bytes((f / "train/3.jpg").read_bytes()[:900] + b"\xff\xd9"),
    ),
    "several frames": ("encoding", lambda f: moving(f / "train/3.jpg")),
    "faces without area": ("unused", lambda f: as_wider_face(f)),
    "rare": ("rare", lambda f: edit(f, "train", lambda r: [a.update(category_id=1) for a in r["annotations"][3:]])),
}
COMPANY = {
    "turned": {"turned"},  # a square says nothing of how it is turned
    "turned this way or that": {"encoding"},
    "relative boxes": {"tiny"},
    "some relative boxes": {"tiny"},
    "nothing but small boxes": {"tiny"},
    "a foreign skeleton": {
        "classes"
    },  # what a planted defect brings along: its kind, and another that is there with it
    "near leak": {"image"},  # another size than annotated
    "near duplicate": {"image"},
    "listed twice": {"unlisted"},
    "other class": {"classes"},
    "grey with alpha": {"encoding"},  # and its name says JPEG
    "several frames": {"encoding"},
    "record without image": set(),
}


@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_defect_is_found_and_no_other(data, name):
    kind, plant = PLANTED[name]
    plant(data)
    if name.startswith("near"):
        for split in ("train", "val"):
            edit(data, split, lambda record: [one.update(width=0, height=0) for one in record["images"]])
            edit(data, split, lambda record: [one.pop("width") + one.pop("height") for one in record["images"]])
        edit(data, "train", lambda r: r.update(annotations=[a for a in r["annotations"] if a["image_id"] != 4]))
        edit(data, "val", lambda r: r.update(annotations=[a for a in r["annotations"] if a["image_id"] != 21]))
    assert kind in found(data)
    assert set(found(data)) <= {kind} | COMPANY.get(name, set())
    assert kind in KINDS


def test_every_kind_has_a_planted_defect():
    assert {kind for kind, _ in PLANTED.values()} == set(KINDS)


def test_splits_by_name_and_their_files(data, capsys):
    shutil.copy(data / "train/3.jpg", data / "val/21.jpg")
    assert found(data, splits=["val"]) == {} and found(data, splits=["train", "val"]) == {"leak": 1}
    assert main(["check", "--data", str(data), "--splits", "[vall]"]) == 2
    assert "did you mean 'val'" in capsys.readouterr().err


def test_a_line_names_its_split_where_several_come_of_one_file(data, capsys):
    for split in ("train", "val"):
        (data / f"instances_{split}.json").unlink()
    (data / "data.yaml").write_text("train: train\nval: val\nnames: [cat, dog]\n")
    assert main(["check", "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for split in ("train", "val"):
        assert f"  {split}: {data / 'data.yaml'} has no object (crowd regions and flat boxes aside)" in lines


def test_a_set_of_which_nothing_is_usable_says_why(data, tmp_path, capsys):
    (data / "list.txt").write_text("train/none.jpg\ntrain/3.jpg\n")
    (data / "gone.txt").write_text("train/none.jpg\ntrain/neither.jpg\n")
    spec = data / "yolo.yaml"
    spec.write_text("names: [cat]\ntrain: list.txt\nval: gone.txt\ntest: nowhere\n")
    told = check(str(spec), 96, 2)
    assert Counter((one.kind, one.split) for one in told.findings if one.kind in ("record", "empty")) == {
        ("record", "train"): 1,
        ("record", "val"): 2,
        ("empty", "val"): 1,
        ("empty", "train"): 1,
        ("record", "test"): 1,
    }
    assert not told.count("unlisted") and list(told.splits) == ["train"]
    assert main(["check", "--data", str(spec), "--splits", "val"]) == 2
    said = capsys.readouterr()
    assert "neither.jpg: there is no such image file" in said.out and "neither.jpg: there is no such" in said.err
    edit(data, "train", lambda r: r.update(images=[one | {"id": "a"} for one in r["images"]]))
    (data / "instances_val.json").unlink()
    assert main(["check", "--data", str(data), "--json", str(tmp_path / "found.json")]) == 2
    assert "has an id that is not a whole number" in capsys.readouterr().err
    assert json.loads((tmp_path / "found.json").read_text())["counts"]["record"] >= 12


@pytest.mark.filterwarnings("error")
def test_sizes_that_no_image_has_are_the_only_error(data):
    edit(data, "train", lambda r: [one.update(width=999) for one in r["images"]])
    told = check(str(data), 96, 2)
    assert told.count("image") == told.splits["train"]["images"] and not told.count("small")


def test_images_that_no_annotation_lists_are_found_whatever_they_are(data):
    (data / "train" / "x.heic").write_text("?")
    shutil.copy(data / "train" / "3.jpg", data / "train" / "y.jpg_")
    (data / "deep").mkdir()
    cv2.imwrite(str(data / "deep" / "new.png"), photo(99))
    (data / "val" / "linked").symlink_to(data / "deep")
    (data / "val" / "again").symlink_to(data / "train")
    told = [Path(one.where).name for one in check(str(data), 96, 2).findings if one.kind == "unlisted"]
    assert sorted(told) == ["new.png", "x.heic", "y.jpg_"]


def test_text_json_and_page(data, tmp_path, capsys):
    for name in ("leak", "outside", "tiny"):
        PLANTED[name][1](data)
    annotation(data, "train", 6, bbox=[0, 0, 96, 96])
    given_ = ["check", "--data", str(data), "--imgsz", "96", "--k", "2"]
    files = {"json": tmp_path / "found.json", "page": tmp_path / "found.html"}
    assert main([*given_, "--json", str(files["json"]), "--page", str(files["page"])]) == 0
    said = capsys.readouterr().out
    assert "train: 12 images (0 without objects), 24 objects" in said and "cat 12, dog 12" in said
    assert "0 errors, 1 warnings, 2 notes" in said and "is the same image as" in said
    record = json.loads(files["json"].read_text())
    assert record["counts"]["leak"] == 1 and record["anchors"]["recall"] > 0.5
    assert {one["kind"] for one in record["findings"]} == {"leak", "tiny", "giant"}
    text = files["page"].read_text()
    assert text.startswith("<!DOCTYPE html>") and "application/json" in text
    assert "http" not in text.replace(library(), "").replace("http-equiv", "")


@given(st.integers(0, 6), st.integers(0, 2**31))
def test_doubles_are_those_of_the_naive_twin(count, seed):
    rng = RNG(seed)
    low = rng.integers(0, 3, (count, 2)) * 0.1
    corners, labels = np.hstack([low, low + 10 - low % 0.2]), rng.integers(0, 2, count)
    plain = rng.random(count) < 0.8
    twin = doubled(corners, labels, plain)
    for n in range(count):
        first = -1
        for m in range(n):
            w = min(corners[n, 2], corners[m, 2]) - max(corners[n, 0], corners[m, 0])
            h = min(corners[n, 3], corners[m, 3]) - max(corners[n, 1], corners[m, 1])
            areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (corners[n], corners[m])]
            same = plain[n] and plain[m] and labels[n] == labels[m]
            if first < 0 and same and w * h / (sum(areas) - w * h) > 0.95:
                first = m
        assert twin[n] == first


@given(st.integers(0, 40), st.integers(0, 2**31), st.sampled_from([1, 5, 1 << 18]))
def test_doubles_in_blocks_are_those_of_all_with_all(count, seed, pairs):
    rng = RNG(seed)
    low, sides = (
        rng.integers(0, 4, (count, 2)) * rng.choice([0.1, 1, 100]),
        rng.choice([10, 10.1, 9.7, 0.5], (count, 2)),
    )
    corners = np.hstack([low, low + sides])[rng.integers(0, max(1, count), count)]
    corners = corners + rng.choice([0, 1e6]) + rng.normal(0, rng.choice([0, 0.02]), corners.shape)
    labels, plain = rng.integers(0, 2, count), rng.random(count) < 0.9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detect.data_check.doubled.PAIRS", pairs)
        assert doubled(corners, labels, plain).tolist() == naive_doubled(corners, labels, plain, DOUBLE).tolist()


@pytest.mark.parametrize("kind", ["spread", "equal", "nested"])
def test_the_boxes_of_a_crowded_image_are_compared_in_small_blocks(monkeypatch, kind):
    count, blocks = 3000, []
    low, sides = {
        "spread": (RNG(0).random((count, 2)) * 1000, RNG(1).lognormal(3, 1, (count, 2))),
        "equal": (np.zeros((count, 2)), np.full((count, 2), 10.0)),
        "nested": (np.zeros((count, 2)), np.arange(1, count + 1)[:, None] * np.ones(2)),
    }[kind]
    monkeypatch.setattr("detect.data_check.doubled.PAIRS", 5000)
    counted = lambda a, b: blocks.append(len(a)) or iou_aligned(a, b)  # noqa: E731
    monkeypatch.setattr("detect.data_check.doubled.iou_aligned", counted)
    doubled(np.hstack([low, low + sides]), np.zeros(count, int), np.ones(count, bool))
    assert max(blocks) <= 5000 and sum(blocks) < count**2 / 4


def test_copies_are_told_of_the_first_in_another_split(monkeypatch):
    thumbnail = cv2.cvtColor(photo(1, 32), cv2.COLOR_BGR2GRAY)
    seen = [Seen(Path(f"{i}.png"), str(i), (thumbnail // 2 + i).astype(np.uint8)) for i in range(7)]
    for chunk in (2, 3, 2048):
        monkeypatch.setattr("detect.data_check.images.CHUNK", chunk)
        found = [*copies({"train": seen[:4], "val": seen[4:]})]
        assert [(one.kind, one.where) for one in found] == [
            *(("near_duplicate", f"{i}.png") for i in (1, 2, 3)),
            *(("near_leak", f"{i}.png") for i in (4, 5, 6)),
        ]
        assert all("image as 0.png of train" in one.text for one in found)


def test_near_pairs_over_chunks_are_those_of_one(monkeypatch):
    thumbnails = [cv2.cvtColor(photo(seed % 5, 32), cv2.COLOR_BGR2GRAY) for seed in range(11)]
    seen = [Seen(Path(f"{i}.png"), str(i), (t // 2 + i).astype(np.uint8)) for i, t in enumerate(thumbnails)]
    pairs = {(i, j) for i, others in near_pairs(seen) for j in others.tolist()}
    assert pairs == {(i, j) for i in range(11) for j in range(i + 1, 11) if i % 5 == j % 5}
    monkeypatch.setattr("detect.data_check.images.CHUNK", 3)
    assert {(i, j) for i, others in near_pairs(seen) for j in others.tolist()} == pairs
    flat = [Seen(Path("a"), "a", np.full((32, 32), 7, np.uint8)), Seen(Path("b"), "b", np.full((32, 32), 9, np.uint8))]
    assert [*near_pairs(flat)] == [] == [*near_pairs([])] and same_files([]) == []


def test_too_few_boxes_have_no_anchors():
    assert anchors_of(np.zeros((0, 2)), 3, 96) == {} and anchors_of(np.ones((5, 2)), 3, 96) == {}
    assert anchors_of(np.array([[1e-320, 1], [1e300, 2]]), 1, 96) == {}


def test_a_page_escapes_what_it_is_told():
    page = Page("<b>&")
    page.text("<script>")
    page.table(("a<", "b"), [("<i>", 1.5), (None, 3)])
    page.curves({"<x>": [(0, 1), (1, float("nan")), (2, 3)], "y": []}, "c>", log=True)
    page.histogram([], "none")
    page.bars({}, "none")
    page.dots({"a": []}, "none")
    page.image(np.zeros((4, 4, 3), np.uint8), 'a"b')
    page.matrix(np.array([[1, 0], [0, 0]]), ["<r>", "s"], ["t", "u"], "m")
    text = str(page).replace(library(), "")
    assert "<script>" not in text and "<i>" not in text and "<x>" not in text
    assert "nan" not in text and 'data-value="1.5">1.500' in text


def test_files_of_several_pages_are_told_of_before_training(data, capsys):
    opened = Image.open(data / "train/3.jpg")
    opened.save(data / "train/3.tif", save_all=True, append_images=[opened, opened])
    image(data, "train", 3, file_name="train/3.tif")
    tell_notes(verify(load_data(data, "train")))
    err = capsys.readouterr().err
    assert "3.tif has 3 pages or frames, of which the first is used" in err and err.count("first is used") == 1
    found = [one.text for one in check(str(data), 640).findings if one.kind == "encoding"]
    assert any("has 3 pages or frames, of which the first is used" in text for text in found)
