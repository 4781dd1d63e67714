"""What predict writes of masks and oriented boxes: rows of text files, label images, crops, records."""

import json
import math
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from anchors.oriented import oriented_to_corners
from detect.data.image_writer import save_image
from detect.data.outlines import Outlines
from detect.data.sources.formats import load_data
from detect.inference.crops import CropSink, upright
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.inference.writers import LabelImageSink, YoloTxtSink, label_image
from detect.inference.yolo_rows import joined, yolo_rows
from detect.masks import RleMasks
from detect.types import Detections, Frame

SIZE = (40, 60)
RING = np.pad(np.ones((6, 6), bool), 4)
RING = np.ones((14, 14), bool) ^ RING  # a hole in its middle


def masked(*windows: tuple[int, int, np.ndarray], size: tuple[int, int] = SIZE) -> Detections:
    boxes = [[x, y, x + mask.shape[1], y + mask.shape[0]] for x, y, mask in windows]
    count = len(windows)
    return Detections(
        torch.tensor(boxes).float().reshape(-1, 4),
        torch.linspace(0.9, 0.5, count),
        torch.arange(count) % 3,
        masks=RleMasks.of_windows(size, windows),
        names=["a", "b", "c"],
        category_ids=[1, 2, 3],
    )


def turned(*boxes: list[float]) -> Detections:
    oriented = torch.tensor(boxes).reshape(-1, 5)
    corners, count = oriented_to_corners(oriented), len(oriented)
    around = torch.cat([corners.amin(1), corners.amax(1)], 1)
    return Detections(around, torch.ones(count), torch.zeros(count).long(), oriented=oriented)


def pixels(row: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The mask of a row, as gridhead reads a polygon."""
    numbers = np.array(row.split()[1:-1], float).reshape(-1, 2) * (size[1], size[0])
    (left, top), inside = Outlines.of_polygons([[numbers]]).pixels(0, size)
    mask = np.zeros(size, bool)
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return mask


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (9, 12)))
def test_the_polygon_of_a_row_gives_any_mask_back(mask: np.ndarray) -> None:
    found = masked((20, 10, mask))
    rows = list(yolo_rows(found, *SIZE))
    assert len(rows) == mask.any()
    for row in rows:
        assert np.array_equal(pixels(row), found.masks.decode(0))


def test_parts_and_holes_become_one_polygon() -> None:
    two = np.zeros((14, 30), bool)
    two[:, :14], two[2:8, 20:] = RING, True
    two[6:8, 6:8] = True  # an island in the hole
    (row,) = yolo_rows(masked((5, 5, two)), *SIZE)
    label, *numbers, score = row.split()
    assert (label, score) == ("0", "0.90000") and len(numbers) % 2 == 0
    assert np.array_equal(pixels(row)[5:19, 5:35], two)
    assert joined([]).shape == (0, 2)


def test_rows_of_oriented_boxes_are_their_corners() -> None:
    (row,) = yolo_rows(turned([30, 20, 20, 10, math.pi / 2]), *SIZE)
    label, *numbers, score = row.split()
    points = np.array(numbers, float).reshape(4, 2) * (60, 40)
    assert (label, score) == ("0", "1.00000")
    assert sorted(map(tuple, points.round(2).tolist())) == [(25, 10), (25, 30), (35, 10), (35, 30)]


def test_text_files_have_a_row_for_each_object(tmp_path: Path) -> None:
    sink = YoloTxtSink(OutputPaths(OutputFolder(tmp_path)))
    found = masked((0, 0, RING), (20, 5, RING), (40, 5, np.zeros((0, 0), bool)))
    sink.write(Frame(np.zeros((*SIZE, 3), np.uint8), "a.png"), found, np.zeros(0))
    rows = (tmp_path / "a.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["0", "1"], "an empty mask has no polygon"


@pytest.mark.parametrize(("what", "values"), [("instances", [1, 2, 3, 4]), ("classes", [1, 2, 3, 1])])
def test_label_images_say_whose_the_pixels_are(tmp_path: Path, what: str, values: list[int]) -> None:
    small = np.ones((3, 3), bool)
    found = masked((0, 0, RING), (20, 5, RING), (40, 5, RING), (1, 1, small))
    frame = Frame(np.zeros((*SIZE, 3), np.uint8), "a.jpg")
    LabelImageSink(OutputPaths(OutputFolder(tmp_path)), what, found.names).write(frame, found, frame.image)
    labels = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert (tmp_path / "classes.txt").is_file() == (what == "classes")
    assert labels.shape == SIZE and labels.dtype == np.uint8
    for i, value in enumerate(values):
        left, top, mask = found.masks.window(i)
        seen = labels[top : top + mask.shape[0], left : left + mask.shape[1]][mask]
        assert value in seen and (i == 0 or (seen == value).all()), "the small mask lies on the large one"
    assert labels[6, 6] == 0 and labels[39, 59] == 0


def test_more_than_255_objects_take_16_bits(tmp_path: Path) -> None:
    found = masked(*((2 * (i % 30), 2 * (i // 30), np.ones((1, 1), bool)) for i in range(300)))
    frame = Frame(np.zeros((*SIZE, 3), np.uint8), "a.jpg")
    LabelImageSink(OutputPaths(OutputFolder(tmp_path)), "instances", []).write(frame, found, frame.image)
    labels = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint16 and labels[::2, ::2][:10].ravel().tolist() == list(range(1, 301))
    assert label_image(RleMasks(SIZE, []), []).dtype == np.uint8


def test_crops_are_transparent_outside_the_mask_on_request(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    found = masked((10, 5, RING), (30, 5, np.zeros((0, 0), bool)))
    folder = OutputFolder(tmp_path)
    for transparent in (False, True):
        paths = OutputPaths(folder).within("crops")
        CropSink(paths, ["a", "b", "c"], transparent=transparent).write(Frame(image, "x.png"), found[:1], image)
    assert [path.name for path in sorted((tmp_path / "crops").rglob("*.*"))] == ["x_0.jpg", "x_0.png"]
    crop = cv2.imread(str(tmp_path / "crops" / "a" / "x_0.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(crop[..., 2::-1], image[5:19, 10:24]) and np.array_equal(crop[..., 3] > 0, RING)


@pytest.mark.parametrize("angle", [0, 0.3, math.pi / 4, math.pi / 2, -1.2])
def test_the_crop_of_an_oriented_box_is_upright(angle: float) -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    corners = oriented_to_corners(torch.tensor([[60.0, 50, 50, 20, angle]]))[0].numpy()
    scaled = ((corners - 0.5) * 16).round().astype(np.int32)
    cv2.fillPoly(image, [scaled], (200, 100, 50), shift=4)
    crop = upright(image, 60, 50, 50, 20, angle)
    assert crop.shape == (20, 50, 3) and (crop[2:-2, 2:-2] == (200, 100, 50)).all()
    wide = upright(image, 60, 50, 56, 26, angle)
    assert (wide[0] == 0).all() and (wide[:, 0] == 0).all() and (wide[:, -1] == 0).all()


def test_an_upright_box_is_cut_exactly_and_what_is_outside_is_black() -> None:
    image = np.random.default_rng(0).integers(1, 256, (40, 60, 3), np.uint8)
    assert np.array_equal(upright(image, 30, 20, 20, 10, 0), image[15:25, 20:40])
    half = upright(image, 0, 20, 20, 10, 0)
    assert (half[:, :10] == 0).all() and np.array_equal(half[:, 10:], image[15:25, :10])
    assert (upright(image, 500, 20, 20, 10, 0) == 0).all()


def test_records_with_masks_load_as_coco_results() -> None:
    coco = pytest.importorskip("pycocotools.coco")
    found = masked((10, 5, RING), (30, 5, RING))
    records = json.loads(json.dumps(found.to_coco(7)))
    truth = coco.COCO()
    truth.dataset = {"images": [{"id": 7, "height": 40, "width": 60}], "annotations": [], "categories": []}
    truth.createIndex()
    loaded = truth.loadRes(records)
    assert loaded.annToRLE(loaded.anns[1]) == found.masks.to_coco(0) and loaded.anns[2]["score"] == 0.5


def test_arrays_and_columns_of_masks() -> None:
    found = masked((10, 5, RING), (30, 5, RING))
    assert found.numpy()["masks"].shape == (2, *SIZE) and found.numpy()["masks"].sum() == 2 * RING.sum()
    assert found.columns()["area"].tolist() == [RING.sum()] * 2
    assert found[:0].numpy()["masks"].shape == (0, *SIZE)


def test_columns_of_oriented_boxes_and_what_supervision_takes(monkeypatch) -> None:
    found = turned([30, 20, 20, 10, math.pi / 4])
    assert found.columns()["angle"] == pytest.approx([math.pi / 4]) and found.columns()["width"] == [20]
    library = types.SimpleNamespace(Detections=lambda **values: types.SimpleNamespace(**values))
    monkeypatch.setitem(sys.modules, "supervision", library)
    other = found.to_supervision()
    assert other.data["xyxyxyxy"].shape == (1, 4, 2) and other.mask is None
    assert masked((10, 5, RING)).to_supervision().mask.shape == (1, *SIZE)


def test_label_images_and_rows_without_scores_are_data_that_gridhead_reads(tmp_path: Path) -> None:
    found = masked((5, 5, RING), (30, 20, RING[:, :8]))
    frame, out = Frame(np.zeros((*SIZE, 3), np.uint8), "a.png"), OutputFolder(tmp_path / "out")
    (tmp_path / "images").mkdir()
    save_image(tmp_path / "images" / "a.png", frame.image)
    YoloTxtSink(OutputPaths(out).within("labels")).write(frame, found, frame.image)
    rows = [row.rpartition(" ")[0] for row in (tmp_path / "out" / "labels" / "a.txt").read_text().splitlines()]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("\n".join(rows))
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a, b, c]")
    read = load_data(str(tmp_path / "data.yaml"), "train")
    assert read.outlines is not None and read.labels.tolist() == [0, 1]
    for i in range(2):
        assert read.outlines.rle(i, SIZE) == found.masks.to_coco(i)
