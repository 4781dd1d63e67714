"""Labels written in every format: what is written is read back equal."""

import errno
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from anchors.oriented import oriented_to_corners
from detect.data.bad_records import BadRecords
from detect.data.outlines import Outlines
from detect.data.sources.base import UNFINISHED
from detect.data.sources.coco import from_coco
from detect.data.sources.formats import load_data
from detect.data.sources.label_studio import unpacked
from detect.errors import UserError
from detect.labelling.brush import packed
from detect.labelling.labels import Labels
from detect.labelling.writer import distinct_stems, write_dataset
from detect.registry import REGISTRIES

torch = pytest.importorskip("torch")
SIZE = (48, 64)
NAMES = ["a.png", "sub folder/a.png", "ü 1.png", "b.jpg", "b.png"]
FORMS = list(REGISTRIES["labels"])


def ring_mask():
    mask = np.zeros(SIZE, bool)
    mask[10:30, 20:50] = True
    mask[14:20, 30:40] = False
    return Outlines.of_masks([mask]).segmentation(0)


def corners(*values):
    return oriented_to_corners(torch.tensor([values], dtype=torch.float64))[0]


def objects(kind):
    """Two objects of the first image and one of the second, as COCO records."""
    turned = corners(30, 20, 20.5, 8.25, 0.4)
    shapes = {
        "boxes": [{}, {}, {}],
        "masks": [{"segmentation": ring_mask()}, {"segmentation": [[1, 2, 30.5, 4, 20, 40]]}, {}],
        "parts": [{"segmentation": [[1, 2, 30, 4, 20, 40], [40, 2, 50, 2, 50, 9]]}] * 3,
        "oriented": [{"segmentation": [turned.ravel().tolist()], "corners": turned.tolist()}] * 3,
        "keypoints": [{"keypoints": [3, 4, 2, 10, 12.5, 1, 0, 0, 0]}, {}, {"keypoints": [30, 40, 2] * 3}],
    }[kind]
    for row, (image, shape) in enumerate(zip((1, 1, 2), shapes, strict=True)):
        box = [3.25 + row, 2, 41.5, 40]
        if outline := shape.get("segmentation"):
            bounds = Outlines.of_polygons(
                [[np.reshape(r, (-1, 2)) for r in outline]] if type(outline) is list else [[]]
            )
            low, high = np.split(bounds.bounds()[0], 2) if type(outline) is list else ([20, 10], [50, 30])
            box = [*low, *np.subtract(high, low)]
        yield {"id": 7 + row, "image_id": image, "category_id": 3 + row % 2, "bbox": list(map(float, box))} | shape


def labels(folder, kind="boxes", **marks):
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (90, 120, 30)).save(folder / name)
    images = [{"id": i, "file_name": n, "width": SIZE[1], "height": SIZE[0]} for i, n in enumerate(NAMES, start=1)]
    points = {"keypoints": ["left_eye", "right_eye", "nose"], "skeleton": [[1, 2]]} if kind == "keypoints" else {}
    categories = [{"id": 3, "name": "cat"} | points, {"id": 4, "name": "a & <dog>"} | points]
    content = {"images": images, "annotations": list(objects(kind)), "categories": categories}
    annotations = from_coco(content, folder / "x.json", folder, BadRecords(folder, False))
    return Labels(annotations, **marks)


def mask_of(outlines, row):
    if outlines is None or not outlines.present[row]:
        return None
    (left, top), pixels = outlines.pixels(row, SIZE)
    mask = np.zeros(SIZE, bool)
    mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return mask


def compared(annotations):
    """What has to be equal: by the stem of each image, its objects with class, box, outline and keypoints."""
    found = {}
    for i in range(len(annotations)):
        rows = range(*annotations.starts[i : i + 2].tolist())
        stem = annotations.file_name(i).removeprefix("images/train/").removeprefix("JPEGImages/").partition(".")[0]
        found.setdefault(stem, []).extend(
            (
                annotations.names[annotations.labels[row]],
                annotations.boxes[row],
                mask_of(annotations.outlines, row),
                None if annotations.keypoints is None else annotations.keypoints[row],
            )
            for row in rows
        )
    return found


def assert_same(first, second, pixels=1e-5):
    first, second = compared(first), compared(second)
    assert first.keys() == second.keys()
    for stem, mine in first.items():
        assert len(mine) == len(second[stem])
        for (name, box, mask, points), (other, *values) in zip(mine, second[stem], strict=True):
            assert name == other
            assert np.allclose(box, values[0], atol=pixels)
            if mask is not None and values[1] is not None:
                assert np.array_equal(mask, values[1])
            if points is not None and points.any() and values[2] is not None:
                assert np.allclose(points, values[2], atol=1e-5)


@pytest.mark.parametrize("kind", ["boxes", "masks", "parts", "oriented", "keypoints"])
@pytest.mark.parametrize(("form", "images"), [("coco", "auto"), *((form, "copy") for form in FORMS)])
def test_what_is_written_is_read_back_equal(tmp_path, kind, form, images):
    given = labels(tmp_path / "photos", kind, scores=np.array([0.9, 0.3, 0.5]))
    write_dataset({"train": given}, tmp_path / "out", form, images=images)
    read = load_data(tmp_path / "out", "train")
    brushed = (form, kind) == ("label-studio", "parts")  # several polygons become one mask of pixels
    assert_same(given.annotations, read, 1 if brushed else 1e-5)
    assert read.keypoints is not None or kind != "keypoints" or form == "voc"
    assert (tmp_path / "out" / "images").exists() == (images == "copy" and form != "voc")


def test_scores_are_a_column_of_yolo_on_request_alone(tmp_path):
    given = labels(tmp_path / "photos", scores=np.array([0.9, 0.25, 0.5]))
    for scores, columns in ((False, 5), (True, 6)):
        out = tmp_path / f"out{scores}"
        write_dataset({"train": given}, out, "yolo", scores=scores)
        rows = (out / "labels" / "train" / "a.txt").read_text().splitlines()
        assert [len(row.split()) for row in rows] == [columns] * 2
        assert_same(given.annotations, load_data(out, "train"))
    assert [row.split()[-1] for row in rows] == ["0.90000", "0.25000"]


@pytest.mark.parametrize("form", FORMS)
def test_images_to_look_at_are_listed_and_marked(tmp_path, form):
    review = np.array([True, False, False])
    given = labels(tmp_path / "photos", scores=np.array([0.3, 0.9, 0.5]), review=review, notes=["a bird?", "", ""])
    out = tmp_path / "out"
    lines = write_dataset({"train": given}, out, form)
    assert "1 image to look at" in lines[-1]
    assert (out / "review.txt").read_text().endswith("a.png\n")
    texts = [path.read_text() for path in out.rglob("*") if path.suffix in (".json", ".xml") and path.is_file()]
    assert any("review" in text for text in texts) == (form != "yolo")
    assert any("a bird?" in text for text in texts) == (form != "yolo")


@pytest.mark.parametrize("form", FORMS)
def test_every_image_is_written_and_nothing_is_overwritten(tmp_path, form):
    given = labels(tmp_path / "photos")
    before = {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*.png")}
    write_dataset({"train": given}, tmp_path / "out", form)
    texts = "".join(p.read_text() for p in (tmp_path / "out").rglob("*") if p.suffix in (".json", ".xml"))
    names = [path.name for path in (tmp_path / "out").rglob("*")]
    stems = distinct_stems(NAMES)
    assert all(
        json.dumps(name)[1:-1] in texts
        or name in texts
        or (name.partition("/")[2] or name).replace(" ", "%20").replace("ü", "%C3%BC") in texts
        or stem.rpartition("/")[2].rpartition(".")[0] + ".txt" in names
        for name, stem in zip(NAMES, stems, strict=True)
    )
    with pytest.raises(UserError, match="holds something already"):
        write_dataset({"train": given}, tmp_path / "out", form)
    assert before == {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*.png")}


@pytest.mark.parametrize("form", FORMS)
def test_what_was_not_written_to_its_end_is_not_read(tmp_path, form, monkeypatch):
    kind, given, out = REGISTRIES["labels"][form], labels(tmp_path / "photos"), tmp_path / "out"
    write = kind.write

    def interrupted(self, sets, folder):
        write(self, sets, folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kind, "write", interrupted)
    with pytest.raises(OSError, match="No space"):
        write_dataset({"train": given}, out, form)
    for place in (out, *(path for path in out.rglob("*") if path.suffix in (".json", ".yaml") or path.name == "train")):
        if len(place.relative_to(out).parts) < 3:
            with pytest.raises(UserError, match="out: this dataset is being written, or writing it was interrupted"):
                load_data(place, "train")
    (out / UNFINISHED).unlink()
    load_data(out, "train", allow_outside=True)
    monkeypatch.setattr(kind, "write", lambda *_: (_ for _ in ()).throw(UserError("refused")))
    with pytest.raises(UserError, match="refused"):
        write_dataset({"train": given}, tmp_path / "other", form, images="copy" if kind.beside else "refer")
    assert kind.beside or not (tmp_path / "other").exists()


def test_names_without_suffix_stay_distinct():
    assert distinct_stems(["b.jpg", "b.png", "B.png", "c/b.png"]) == ["b.jpg", "b.png.png", "B.png.png.png", "c/b.png"]


@pytest.mark.parametrize("images", ["link", "copy"])
def test_images_are_linked_or_copied_on_request(tmp_path, images):
    given = labels(tmp_path / "photos")
    write_dataset({"train": given}, tmp_path / "out", "coco", images=images)
    placed = tmp_path / "out" / "images" / "train" / "sub folder" / "a.png"
    assert placed.samefile(tmp_path / "photos" / "sub folder" / "a.png") == (images == "link")
    assert_same(given.annotations, load_data(tmp_path / "out", "train"))


def test_tracks_are_those_of_a_video_in_cvat(tmp_path):
    given = labels(tmp_path / "photos", tracks=np.array([4, -1, 4]))
    given.annotations.labels[:] = 1
    write_dataset({"train": given}, tmp_path / "out", "cvat")
    root = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot()
    tracks = [[(box.get("frame"), box.get("outside")) for box in track.iter("box")] for track in root.iter("track")]
    assert sorted(NAMES).index("a.png") == 0 and sorted(NAMES).index("sub folder/a.png") == 3
    assert tracks == [[("0", "0"), ("1", "1"), ("3", "0"), ("4", "1")], [("0", "0"), ("1", "1")]]


def test_a_name_that_xml_cannot_hold_is_one_line(tmp_path):
    given = labels(tmp_path / "photos")
    given.annotations.names[0] = "cat\x01"
    with pytest.raises(UserError, match="which xml cannot hold"):
        write_dataset({"train": given}, tmp_path / "out", "cvat")


def test_a_brush_is_read_back():
    generator = np.random.default_rng(0)
    for count in (0, 1, 7, 100_000):
        values = np.repeat(generator.integers(0, 2, count // 3 + 1), 3)[:count].astype(np.uint8) * 255
        assert np.array_equal(unpacked(packed(values), count), values)


@pytest.mark.parametrize(
    ("size", "box", "kind"),
    [
        ((120, 40), (20, 60, 100, 10, np.pi / 2), "rectangle"),  # longer than the image is wide
        ((120, 40), (20, 60, 105, 4, 1.25), "rectangle"),
        ((40, 120), (60, 20, 10, 100, np.pi / 2), "rectangle"),
        ((60, 60), (30, 30, 70, 4, np.pi / 4), "polygon"),  # longer than either side
        ((60, 60), (55, 55, 20, 30, 0.3), "rectangle"),  # cut off by the edge
    ],
)
def test_label_studio_gets_no_share_above_100(tmp_path, size, box, kind):
    turned = corners(*box)
    Image.new("RGB", size[::-1]).save(tmp_path / "a.png")
    record = {"id": 1, "image_id": 1, "category_id": 1, "corners": turned.tolist()}
    record["segmentation"] = [turned.ravel().tolist()]
    image = {"id": 1, "file_name": "a.png", "width": size[1], "height": size[0]}
    content = {"images": [image], "annotations": [record], "categories": [{"id": 1, "name": "cat"}]}
    given = from_coco(content, tmp_path / "x.json", tmp_path, BadRecords(tmp_path, False))
    write_dataset({"train": Labels(given)}, tmp_path / "out", "label-studio", images="copy")
    (task,) = json.loads((tmp_path / "out" / "tasks_train.json").read_text())
    (region,) = task["annotations"][0]["result"]
    value = region["value"]
    assert region["from_name"] == kind and 0 <= value.get("rotation", 0) <= 360
    numbers = np.ravel(value["points"]) if kind == "polygon" else [value[k] for k in ("x", "y", "width", "height")]
    assert max(numbers) <= 100
    read = load_data(tmp_path / "out", "train").outlines.corners()[0]
    assert sorted(read.round(3).tolist()) == sorted(turned.numpy().round(3).tolist())


@pytest.mark.parametrize(("kind", "length"), [("boxes", 65), ("keypoints", 58)])
def test_names_that_cvat_does_not_take_are_named(tmp_path, kind, length):
    given = labels(tmp_path / "photos", kind)
    given.annotations.names[0] = "n" * length
    with pytest.raises(UserError, match=rf"CVAT takes names of 64 characters at most, not the 65 of 'n{{{length}}}"):
        write_dataset({"train": given}, tmp_path / "out", "cvat")


def test_label_studio_gets_boxes_and_keypoints_within_the_image(tmp_path):
    given = labels(tmp_path / "photos", "keypoints")
    given.annotations.boxes[0] = [60, 40, 30, 30]
    given.annotations.keypoints[0, :, :2] = [70, 50]
    write_dataset({"train": given}, tmp_path / "out", "label-studio", images="copy")
    first = json.loads((tmp_path / "out" / "tasks_train.json").read_text())[0]["annotations"][0]["result"]
    for region in first:
        value = region["value"]
        assert max(value["x"] + value["width"] * ("rotation" in value), value["y"]) <= 100


def test_yolo_gets_no_point_beyond_the_image(tmp_path):
    given = labels(tmp_path / "photos", "oriented")
    given.annotations.outlines.frames[0] += 50
    write_dataset({"train": given}, tmp_path / "out", "yolo")
    rows = (tmp_path / "out/labels/train/a.txt").read_text().splitlines()
    numbers = np.array([row.split() for row in rows], float)[:, 1:]
    assert numbers.shape == (2, 8) and numbers.min() >= 0 and numbers.max() == 1
