"""The page of `detect serve` in a browser: files, thresholds, classes, downloads, camera; and the API it is made of."""

import csv
import io
import json
import re
import zipfile
from base64 import b64encode
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

import detect.serve
from anchors.oriented import oriented_to_corners
from detect.data.outlines import Outlines
from detect.masks import RleMasks
from detect.types import Detections
from tests.browser import WIDTHS, check_width, until

STATIC = Path(detect.serve.__file__).parent / "static"


@pytest.fixture(scope="module")
def images(digits):
    return sorted((digits / "train").iterdir())[:2]


@pytest.fixture
def page(page_at, server):
    one = page_at(server.url)
    one.wait_for_selector("html[data-ready]", state="attached")
    return one


def drop(page, *files):
    """Drop files, (name, type, bytes), on the page."""
    script = """files => { const all = new DataTransfer(); for (const [name, type, text] of files)
        all.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name, { type })); return all; }"""
    coded = [(name, kind, b64encode(data).decode()) for name, kind, data in files]
    page.dispatch_event("#drop", "drop", {"dataTransfer": page.evaluate_handle(script, coded)})
    until(page, r"/\d files? processed/.test(document.getElementById('said').textContent)")


def downloaded(page, button):
    with page.expect_download() as one:
        page.click(button)
    return Path(one.value.path()).read_bytes()


def slide(page, name, value):
    script = """([id, value]) => { const one = document.getElementById(id); one.value = value;
        one.dispatchEvent(new Event("input")); one.dispatchEvent(new Event("change")); }"""
    page.evaluate(script, [name, value])


def test_several_files_are_filtered_and_downloaded_without_asking_again(page, server, images):
    asked = []
    page.on("request", lambda one: asked.append(one.url))
    datas = [path.read_bytes() for path in images]
    found = [server.ask("POST", "/image?conf=0.01", data, "image/jpeg")[1] for data in datas]
    scores = sorted(d["score"] for one in found for d in one["detections"])
    slide(page, "conf", conf := round(scores[-2] - 0.005, 2))
    drop(page, *((f"{name}.jpg", "image/jpeg", data) for name, data in zip("ab", datas, strict=True)))
    sent = len(asked)
    kept = [[d for d in one["detections"] if d["score"] >= conf] for one in found]
    total = sum(map(len, kept))
    rows = page.locator("#files li")
    assert [f"{len(some)} detection" in text for some, text in zip(kept, rows.all_inner_texts(), strict=True)] == [
        True
    ] * 2
    assert page.locator("#classes label:visible").all_inner_texts() == [f"cat\n\n{total}"] or total
    coco = json.loads(downloaded(page, "#coco"))
    assert [one["file_name"] for one in coco["images"]] == ["a.jpg", "b.jpg"] and len(coco["annotations"]) == total
    assert {(one["bbox"][0], one["score"]) for one in coco["annotations"]} == {
        (d["bbox"][0], d["score"]) for some in kept for d in some
    }
    assert coco["categories"] == [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}]
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "#yolo"))) as archive:
        assert archive.testzip() is None
        assert yaml.safe_load(archive.read("data.yaml")) == {"names": ["cat", "dog"]}
        lines = archive.read("labels/a.txt").decode().split("\n")[:-1]
    assert len(lines) == len(kept[0])
    for line, one in zip(lines, kept[0], strict=True):
        left, top, width, height = one["bbox"]
        assert line.split()[0] == "0"
        relative = [(left + width / 2) / 96, (top + height / 2) / 96, width / 96, height / 96, one["score"]]
        assert [float(number) for number in line.split()[1:]] == pytest.approx(relative, abs=1e-5)
    table = list(csv.DictReader(io.StringIO(downloaded(page, "#csv").decode())))
    assert [row["image"] for row in table].count("b.jpg") == len(kept[1]) and len(table) == total
    page.uncheck("#classes input")
    assert "0 detections" in page.inner_text("#caption")
    assert json.loads(downloaded(page, "#coco"))["annotations"] == []
    page.click("#all")
    assert f"{len(kept[0])} detection" in page.inner_text("#caption")
    assert [url for url in asked[sent:] if not url.startswith("blob:")] == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        check_width(page)


def test_boxes_lie_over_the_image_that_was_chosen_last(page, images):
    colours = {"wide.png": ((48, 128, 3), 250), "high.png": ((128, 48, 3), 10)}
    datas = [
        (name, "image/png", cv2.imencode(".png", np.full(*one, np.uint8))[1].tobytes()) for name, one in colours.items()
    ]
    drop(page, *datas, ("c.jpg", "image/jpeg", images[0].read_bytes()))
    shape = "(i => i.complete && [i.naturalWidth, i.naturalHeight])(document.getElementById('image'))"
    assert until(page, shape) == [128, 48] and page.get_attribute("#files", "aria-activedescendant")
    page.focus("#files")
    page.keyboard.press("ArrowDown")
    assert until(page, shape) == [48, 128] and "high.png" in page.inner_text("#caption")
    page.keyboard.press("End")
    until(page, "document.getElementById('image').naturalWidth === 96")
    pixels = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(value => value)"
    painted = f"(c => {pixels})(document.getElementById('boxes'))"
    slide(page, "conf", 0.02)
    assert page.evaluate(painted) and page.evaluate(
        "document.getElementById('boxes').clientWidth === document.getElementById('image').clientWidth"
    )
    slide(page, "conf", 1)
    assert not page.evaluate(painted) and "c.jpg: 0 detections" in page.inner_text("#caption")
    slide(page, "conf", 0.02)
    page.click("summary")
    until(page, "document.querySelectorAll('#list tbody tr').length")
    assert page.locator("#list tbody tr").count() == int(re.search(r"(\d+) detection", page.inner_text("#caption"))[1])
    saved = cv2.imdecode(np.frombuffer(downloaded(page, "#save"), np.uint8), cv2.IMREAD_COLOR).astype(int)
    plain = cv2.imread(str(images[0])).astype(int)
    assert saved.shape == plain.shape and (np.abs(saved - plain) > 60).any() and np.median(np.abs(saved - plain)) < 12
    page.click("#clear")
    assert not page.is_visible("#workplace")


def test_a_video_has_its_boxes_over_it_and_what_is_no_image_is_told(browser, server, digits):
    page = browser.new_page()  # not by `page_at`: the console tells the status 400 of what is none
    page.goto(server.url)
    page.wait_for_selector("html[data-ready]", state="attached")
    drop(page, ("a.txt", "image/png", b"hello"), ("a.mp4", "video/mp4", (digits / "video.mp4").read_bytes()))
    assert "not a readable image" in page.locator("#files li.failed").inner_text()
    page.click("#after")
    assert re.search(r"a.mp4: (the first \d+ of )?90 frames, \d+ detections", page.inner_text("#caption"))
    until(page, "document.getElementById('video').readyState >= 2")
    frames = {one["file_name"] for one in json.loads(downloaded(page, "#coco"))["images"]}
    assert frames and all(re.fullmatch(r"a_\d{6}\.jpg", name) for name in frames)
    assert downloaded(page, "#save")[4:8] == b"ftyp"
    page.close()


def test_the_camera_is_sent_a_frame_at_a_time(page):
    at_once = []
    page.on("request", lambda one: at_once.append(1) if "/image?" in one.url else None)
    page.on("requestfinished", lambda one: at_once.append(-1) if "/image?" in one.url else None)
    page.click("#camera")
    until(page, "/frames a second/.test(document.getElementById('caption').textContent)")
    until(page, "performance.getEntriesByType('resource').filter(one => one.name.includes('/image?')).length > 3")
    sums = np.cumsum(at_once)
    assert sums.max() == 1
    page.click("#camera")
    assert not page.is_visible("#workplace") and page.evaluate("document.getElementById('video').srcObject === null")


def test_where_the_browser_gives_no_camera_the_page_says_why(page):
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined, configurable: true })")
    page.click("#camera")
    assert "only to pages at localhost or over HTTPS" in page.inner_text("#said")


def test_hidden_wins_over_every_display_of_the_style():
    assert re.search(
        r"\[hidden\]\s*{\s*display:\s*none\s*!important", (STATIC / "style.css").read_text(encoding="utf-8")
    )


def answered(side):
    """What the server may answer for an image: three masks of a class, one with a hole, and an oriented box."""
    ring = np.ones((64, 64), bool)
    ring[20:44, 20:44] = False
    windows = [(48, 68, ring), (110, 68, np.ones((72, 40), bool)), (240, 300, np.eye(36, dtype=bool))]
    masks, scores = RleMasks.of_windows((side, side), windows), torch.tensor([0.9, 0.8, 0.7])
    boxes = torch.tensor([[48.0, 68, 112, 132], [110, 68, 150, 140], [240, 300, 276, 336]])
    found = Detections(boxes, scores, torch.zeros(3).long(), masks=masks).described(["cat", "dog"], [3, 5])
    corners = oriented_to_corners(torch.tensor([240.0, 120, 120, 40, 0.5]))
    box = [*corners.amin(0).tolist(), *(corners.amax(0) - corners.amin(0)).tolist()]
    turned = {"category_id": 5, "category": "dog", "bbox": box, "score": 0.6, "corners": corners.tolist(), "angle": 0.5}
    return masks, [*found.records(), turned]


def test_masks_and_oriented_boxes_are_drawn_and_downloaded(page_at, server, side=384):
    masks, records = answered(side)
    tints = ["#ff0000", "#ff8888", "#880000", "#ffaaaa", "#aa0000"]
    classes = [("cat", 3, tints[0]), ("dog", 5, "#00ff00")]
    known = [{"id": i, "name": name, "color": color, "tints": tints, "conf": 0.25} for name, i, color in classes]
    page = page_at(server.url)
    model = {"weights": "w", "imgsz": side, "skeleton": [], "classes": known}
    for path, one in (("**/model", model), ("**/image?*", {"width": side, "height": side, "detections": records})):
        page.route(path, lambda route, _, one=one: route.fulfill(json=one))
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    drop(page, ("a.png", "image/png", cv2.imencode(".png", np.zeros((side, side, 3), np.uint8))[1].tobytes()))
    saved = cv2.imdecode(np.frombuffer(downloaded(page, "#save"), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert 90 < saved[120, 60, 0] < 140 and not saved[120, 60, 1:].any(), "translucent"
    assert not saved[100, 80].any(), "a hole"
    assert saved[120, 130, 1] > 40, "a neighbour of the class in another tint"
    assert not saved[115:126, 235:246].any() and saved[92:103, 240, 1].max() > 200, "an oriented box, by its lines"
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "#yolo"))) as archive:
        rows = archive.read("labels/a.txt").decode().splitlines()
    assert [len(row.split()) % 2 for row in rows] == [0] * 4 and len(rows[3].split()) == 10
    for row, mask in zip(rows[:3], masks.numpy(), strict=True):
        points = np.array(row.split()[1:-1], float).reshape(-1, 2) * side
        (left, top), inside = Outlines.of_polygons([[points]]).pixels(0, (side, side))
        assert np.array_equal(inside, mask[top : top + inside.shape[0], left : left + inside.shape[1]])
        assert inside.sum() == mask.sum()
    coco = json.loads(downloaded(page, "#coco"))["annotations"]
    assert [one["segmentation"] for one in coco[:3]] == [masks.to_coco(i) for i in range(3)]
    assert [one["area"] for one in coco] == pytest.approx([*masks.areas, 4800], abs=0.1)
    assert coco[3]["segmentation"] == [pytest.approx(np.ravel(records[3]["corners"]).tolist())]
    table = list(csv.DictReader(io.StringIO(downloaded(page, "#csv").decode())))
    assert table[0]["area"] == str(masks.areas[0]) and float(table[3]["y4"]) > float(table[3]["y1"])
