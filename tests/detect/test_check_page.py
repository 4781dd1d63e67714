"""The page of `detect check`: its images, its short names, its charts, and what it says a dataset asks for."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from detect.__main__ import main
from detect.data.annotations import Annotations
from detect.data.sources.formats import load_data
from detect.data_check import charts, thumbnails
from detect.data_check.findings import check
from detect.data_check.kinds import KINDS, Checked, Finding
from detect.data_check.marked import BLUE, GAP, GREY, RED, grid, marked
from detect.data_check.needs import hidden, needs
from detect.data_check.page import LARGEST, REMEDIES, TITLES, html
from detect.data_check.short_names import ShortNames
from detect.data_check.statistics import facts
from detect.report.charts import bar_spec
from detect.report.html import Page
from tests.browser import WIDTHS, check_width
from tests.detect.test_copies import photo
from tests.reference.signals import bodies, waves, write


def near(image, color, of=40):
    """How many pixels have about this colour."""
    return int((np.abs(image.astype(int) - color).max(axis=2) < of).sum())


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Images of one class of which one is a copy with other labels, one reaches out, and many boxes are tiny."""
    folder = tmp_path_factory.mktemp("broken")
    for split, seeds in (("train", (0, 1, 2, 0)), ("val", (2, 4))):
        record = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "<b>cat"}]}
        for i, seed in enumerate(seeds, start=1):
            (folder / split).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / split / f"{i}.png"), photo(seed))
            record["images"].append({"id": i, "file_name": f"{split}/{i}.png", "width": 96, "height": 96})
            boxes = [[10, 10, 20, 30], [80, 80, 40, 20] if i == 2 else [50, 50, 9, 0.3 * i]]
            for box in boxes[: 1 + (i < 4)]:
                row = {"id": len(record["annotations"]) + 1, "image_id": i, "category_id": 1, "bbox": box}
                record["annotations"].append(row)
        (folder / f"instances_{split}.json").write_text(json.dumps(record))
    return folder


def test_a_box_is_marked_and_the_others_are_thin():
    image, boxes = np.zeros((100, 200, 3), np.uint8), np.array([[20.0, 20, 80, 80], [100, 20, 180, 80]])
    drawn = marked(image, boxes, ["cat", None], 400)
    assert drawn.shape == (200, 400, 3) and not image.any()
    assert near(drawn[:, :180], RED) > 400 and near(drawn[:, 200:], RED) == 0
    assert near(drawn[:, 200:], BLUE) > 300 and near(drawn[:, :180], BLUE) == 0
    assert near(marked(image, np.zeros((0, 4)), [], 50), RED) == 0


def test_what_lies_around_an_image_is_shown_where_a_box_reaches_out():
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = marked(image, np.array([[80.0, 40, 120, 90]]), [""], 250)
    assert near(drawn[:, -20:], GREY) > 1000 and drawn.shape[1] == 250 and drawn.shape[0] < 250
    far = marked(image, np.array([[5e6, 40, 6e6, 90]]), [""], 150)  # at the edge of what is shown, 150 pixels of width
    assert near(far[:, -5:], RED) >= 40 and far.shape == (100, 150, 3)
    assert near(marked(image, np.array([[80.0, 40, 120, 90]]), [None], 100), GREY) == 0


def test_a_small_box_is_magnified_beside_its_image():
    image = np.zeros((400, 400, 3), np.uint8)
    image[200:204, 200:204] = (0, 200, 0)
    drawn = marked(image, np.array([[200.0, 200, 204, 204]]), ["cat"], 400)
    assert drawn.shape == (400, 400 + GAP + 240, 3)
    assert near(drawn[:, 406:], (0, 200, 0)) > 20 * near(drawn[:, :400], (0, 200, 0))
    assert marked(image, np.array([[200.0, 200, 204, 204]]), ["cat"], 400, zoom=False).shape[1] == 400
    assert marked(image, np.array([[200.0, 200, 200, 200]]), [""], 400).shape[1] > 400  # flat


def test_a_grid_has_a_cell_for_each_image():
    sheet = grid([np.zeros((5, 40, 3), np.uint8)] * 5, 30, 4)
    assert sheet.shape == (60, 120, 3) and sheet[2, 2].max() == 0 and sheet[40, 40].min() == 255


def test_short_names_are_ends_that_no_other_has():
    names = ShortNames(["/d/train/a/1.jpg", "/d/val/a/1.jpg", "/d/val/a/2.jpg", "/d/val/b/1.jpg"], "/d/")
    assert [names(f"/d/{p}") for p in ("val/a/2.jpg", "val/b/1.jpg", "val/a/1.jpg")] == [
        "2.jpg",
        "b/1.jpg",
        "val/a/1.jpg",
    ]
    assert names("/d/new/3.jpg") == "new/3.jpg" and names("/e/3.jpg") == "/e/3.jpg"
    assert names.relative("/d/x.jpg is /d/y.jpg") == "x.jpg is y.jpg" and names.relative("/d") == "d"
    assert names.relative("/e/d/x.jpg, /data, a/d/, /d-2/x.jpg") == "/e/d/x.jpg, /data, a/d/, /d-2/x.jpg"


@pytest.mark.parametrize("folder", ["../sets/birds", "../sets/birds/", "birds", "./birds", "."])
def test_short_names_know_how_the_folder_was_named(folder, tmp_path, monkeypatch):
    for name in ("sets/birds", "here/birds"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    names = ShortNames([], folder)
    for spelled in (Path(folder) / "a/1.jpg", Path(folder).resolve() / "a/1.jpg"):
        assert names.relative(f"is like {spelled} of train") == "is like a/1.jpg of train"
    assert names.relative(str(Path(folder).resolve())) == ("here" if folder == "." else "birds")


def test_counts_on_bars_are_exact():
    def texts(values):
        spec = bar_spec(values)
        return [row["x"] for row in spec["data"]["values"]], spec["layer"][1]["encoding"]["text"]["format"]

    assert texts({"a": 262465, "b": 2381, "c": 0}) == ([262465, 2381, 0], ",d")
    assert texts({"a": 0.123456789, "b": 2}) == ([0.12346, 2], ",.3~r")


def test_images_are_drawn_until_there_is_no_room():
    drawn, rng = [], np.random.default_rng(0)

    def job(n):
        drawn.append(n)
        image = rng.integers(0, 256, (40, 40, 3), np.uint8)
        return None if n == 1 else thumbnails.Thumbnail(image, str(n), "")

    jobs = [("even" if n % 2 == 0 else "odd", lambda n=n: job(n)) for n in range(200)]
    found, taken = thumbnails.drawn(jobs, 30_000)
    assert 20_000 < taken <= 30_000 and len(drawn) < 60
    assert [one.caption for one in found["even"]][:3] == ["0", "2", "4"] and found["odd"][0].caption == "3"
    assert thumbnails.drawn([], 10) == ({}, 0)


def test_findings_of_one_image_share_its_thumbnail():
    some = [Finding("tiny", "train", "", "", image, (n,)) for n, image in enumerate((3, 3, 5, 3))]
    assert [[one.rows for one in group] for group in thumbnails.groups(some)] == [[(0,), (1,), (3,)], [(2,)]]
    assert thumbnails.groups([Finding("record", "train", "", "")]) == []
    coded = [Finding("encoding", "train", f"{n}", "is PPM" if n else "is GIF", n) for n in range(5)]
    assert [len(group) for group in thumbnails.groups(coded)] == [1, 4]
    assert len(thumbnails.groups([Finding("unlisted", "", f"{n}.jpg", "") for n in range(3)])) == 3


def test_every_kind_has_a_title():
    assert list(TITLES) == list(KINDS) and set(REMEDIES) <= set(KINDS)


def test_the_page_shows_what_is_found(broken):
    checked = check(str(broken), 96, 2)
    names = ShortNames(thumbnails.every_path(checked), f"{broken}/")
    found, _ = thumbnails.drawn(thumbnails.of_findings(checked, names), 10**6)
    captions = {kind: [one.caption for one in some] for kind, some in found.items()}
    assert set(captions) == {"leak", "duplicate", "outside", "tiny"}
    (copy,) = captions["duplicate"]
    assert copy.startswith("4.png (train) | train/1.png (train): label conflict: only the second has")
    assert captions["outside"][:1] == ["train/2.png (train): <b>cat (id 4) reaches 24.0 pixels out of the image"]
    assert found["leak"][0].path == f"{broken}/val/1.png | {broken}/train/3.png"
    assert all(near(one.image, RED) > 20 for one in found["outside"] + found["tiny"] + found["duplicate"])
    text = html(str(broken), checked)
    assert len(text.encode()) < LARGEST and text.count("data:image/jpeg") >= 10
    assert "&lt;b&gt;cat" in text and "<b>cat" not in text.split("</script>")[-1]
    assert f'title="{broken}/train/2.png"' in text


def test_a_page_without_room_says_what_is_not_shown(broken, monkeypatch):
    checked = check(str(broken), 96, 2)
    bare = len(html(str(broken), checked).encode())
    monkeypatch.setattr("detect.data_check.page.LARGEST", bare - 14_000)
    text = html(str(broken), checked)
    assert (
        len(text.encode()) <= bare - 14_000
        and "images are shown; the others cannot be read, or there is no room" in text
    )


def test_pages_of_classes_and_of_signals(tmp_path):
    for name, seeds in {"train/cat": (1, 2), "train/dog": (1, 3), "val/cat": (4,), "val/dog": (3, 5)}.items():
        (tmp_path / "c" / name).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(tmp_path / "c" / name / f"{seed}.png"), photo(seed))
    values, labels = waves(8)
    np.savez(tmp_path / "w.npz", x_train=values[:5], y_train=labels[:5], x_val=values[5:], y_val=labels[5:])
    write(tmp_path / "v.npz", bodies)
    for data, parts in (
        ("c", ("cat: 2 objects in train", "grey level")),
        ("w.npz", ("Signals of train",)),
        ("v.npz", ("Volumes of val", "middle slices of 4 of 16")),
    ):
        page = tmp_path / f"{data}.html"
        assert main(["check", "--data", str(tmp_path / data), "--page", str(page), "--k", "2"]) == 0
        text = page.read_text()
        assert [part for part in parts if part not in text] == [] and "mean IoU" not in text


def test_what_a_dataset_asks_for(broken):
    told = check(str(broken), 32, 2).needs
    assert [line.split(":")[0] for line in told] == ["Image size for a CPU", "Image size for a GPU", "Small objects"]
    assert told[2].startswith("Small objects: at --imgsz 32, 29% of the boxes are below 8 px") and "--tile" in told[2]
    assert "the images have only 96 px" in check(str(broken), 96, 2).needs[2]
    annotations, sizes = load_data(broken, "train"), np.full((4, 2), 96)
    many = facts(annotations, sizes, 96, np.full(4, 20.0)) | {"per_image": np.array([5, 101, 300, 7])}
    many["per_class"] = {"cat": 5, "dog": 2000}
    bright = facts(annotations, sizes, 96, np.full(4, 200.0))
    said = needs({"train": many, "val": bright}, {"train": annotations, "val": annotations}, 96)[3:]
    assert said[0].startswith("Crowded images: 2 images of 8 have more than 100 objects, up to 300")
    assert said[1].startswith("Rare classes: fewer than 30 objects in train for 1 of 2 classes (cat)")
    assert said[2] == "Unlike splits: the median image has a mean grey level of 20 in train and 200 in val."


def test_objects_that_nms_would_hide(broken):
    annotations: Annotations = load_data(broken, "train")
    assert hidden(annotations, 0.7) == (0, 7)
    annotations.boxes[1] = annotations.boxes[0]
    assert hidden(annotations, 0.7) == (1, 7)


def test_maps_and_samples():
    centers = np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]])
    shown = charts.heat(centers).sum(axis=2)
    side = len(shown)
    assert (
        shown[int(0.9 * side), int(0.1 * side)] > shown[int(0.1 * side), int(0.9 * side)] > shown[side // 2, side // 2]
    )
    assert (
        len(charts.sample(np.arange(10_000.0)[:, None])) == charts.DRAWN
        and len(charts.sample(np.zeros((3, 2)))) == 1 + 2
    )


def test_the_page_in_a_browser(broken, page_at, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html(str(broken), check(str(broken), 96, 2)), encoding="utf-8")
    page = page_at(path, WIDTHS[0])
    page.locator(".gallery img").first.click()
    assert str(broken) in page.locator("dialog[open] p").inner_text()
    assert page.locator(".plot svg").count() >= 6
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(50)
        check_width(page)


def test_how_often_keypoints_are_labelled(broken):
    annotations = load_data(broken, "train")
    points = np.zeros((7, 2, 3))
    points[0, :, 2] = 2
    points[1, 0, 2] = 1
    both = {"train": replace(annotations, keypoints=points, keypoint_names=["nose", "tail"]), "val": annotations}
    page = Page("")
    charts.keypoints(page, Checked(annotations=both))
    assert page.parts[-1]["rows"] == [["nose", 1.0, 0.5], ["tail", 0.5, 0.5]]
