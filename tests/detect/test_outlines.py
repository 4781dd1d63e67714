"""Outlines of objects: kept flat, rasterized as pycocotools does it."""

import json
import re
import time

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detect.data import rle
from detect.data.annotations import Annotations
from detect.data.image_writer import save_image
from detect.data.outline_checks import outlined, outlined_areas
from detect.data.outlines import Outlines
from detect.data.sources.coco import load_coco
from detect.data.sources.coco_outlines import fitting_images, packed, read_outlines, with_frames
from detect.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools on NumPy 2
SQUARE = np.array([[2.0, 1], [6, 1], [6, 5], [2, 5]])


def dense(outlines, index, size):
    """The mask (h, w) of one object, from its window."""
    (left, top), pixels = outlines.pixels(index, size)
    mask = np.zeros(size, bool)
    mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return mask


def random_masks(count=60, seed=0):
    """Masks of any shape and density, so of many islands and holes; the first are empty and full."""
    rng = np.random.default_rng(seed)
    masks = [rng.random(rng.integers(1, 40, 2)) < rng.random() for _ in range(count)]
    return [np.zeros((3, 4), bool), np.ones((4, 3), bool), *masks]


def random_polygons(count=100, seed=0):
    """For each object a size and one to three polygons, of which many cross themselves or leave the image."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        parts = [rng.normal(30, 20, (rng.integers(3, 9), 2)).round(index % 3) for _ in range(rng.integers(1, 4))]
        yield tuple(rng.integers(1, 60, 2).tolist()), parts


def test_masks_are_encoded_as_pycocotools_encodes_them():
    masks = random_masks()
    outlines = Outlines.of_masks(masks)
    assert not rle.broken(outlines.codes, outlines.code_starts, outlines.rle_sizes).any()
    bounds = outlines.bounds()
    for index, mask in enumerate(masks):
        expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert outlines.segmentation(index) == {"size": list(mask.shape), "counts": expected["counts"].decode()}
        assert (dense(outlines, index, mask.shape) == mask).all()
        x, y, w, h = coco_mask.toBbox(expected)
        assert bounds[index].tolist() == ([x, y, x + w, y + h] if mask.any() else [0, 0, 0, 0])


def test_traced_masks_give_the_pixels_back():
    masks = random_masks()
    outlines = Outlines.of_masks(masks)
    traced = outlines.as_rings()
    assert not len(traced.codes)
    assert traced.holes.any()
    for index, mask in enumerate(masks):
        assert (dense(traced, index, mask.shape) == mask).all()
    assert traced.bounds().tolist() == outlines.bounds().tolist()


def test_polygons_are_rasterized_as_pycocotools_rasterizes_them():
    for size, parts in random_polygons():
        outlines = Outlines.of_polygons([parts])
        expected = coco_mask.merge(coco_mask.frPyObjects([part.ravel().tolist() for part in parts], *size))
        assert outlines.rle(0, size) == {"size": list(size), "counts": expected["counts"].decode()}
        assert (dense(outlines, 0, size) == coco_mask.decode(expected)).all()


def test_bounds_in_a_view_are_those_of_what_is_seen():
    for size, parts in random_polygons(200, seed=1):
        outlines = Outlines.of_polygons([parts])
        fine = [part * 8 for part in parts]
        mask = dense(Outlines.of_polygons([fine]), 0, (size[0] * 8, size[1] * 8))
        found = outlines.bounds(size)[0]
        if mask.sum() > 200:  # thin tips are lost between pixels
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            expected = [columns[0] / 8, rows[0] / 8, (columns[-1] + 1) / 8, (rows[-1] + 1) / 8]
            assert (found[:2] <= np.add(expected[:2], 0.2)).all()
            assert (found[2:] >= np.subtract(expected[2:], 0.2)).all()
        corner = np.concatenate(parts)
        assert (found[:2] >= corner.min(0).clip(0) - 1e-9).all() or not found.any()
        assert (found[2:] <= corner.max(0).clip(0, size[::-1]) + 1e-9).all()


def test_bounds_of_what_surrounds_the_view_are_the_view():
    around = Outlines.of_polygons([[SQUARE * 100 - 300], [SQUARE + 100], []])
    assert around.bounds((20, 30)).tolist() == [[0, 0, 30, 20], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert around.bounds()[0].tolist() == [-100, -200, 300, 200]


def test_grids_hold_the_share_of_each_cell():
    rng = np.random.default_rng(0)
    masks = [rng.random((12, 12)) < 0.5 for _ in range(5)]
    outlines = Outlines.of_masks(masks)
    exact = outlines.grids(np.tile([0.0, 0, 12, 12], (5, 1)), side=12)
    assert ((exact > 127) == masks).all()
    halves = Outlines.of_polygons([[SQUARE]]).grids(np.array([[0.0, 1, 8, 5]]), side=4)[0]
    assert halves[:, 1:3].min() >= 191  # a sample that an edge passes through counts half
    assert halves[1:3, [0, 3]].max() <= 64
    assert Outlines.of_polygons([[SQUARE]]).grids(np.array([[2.0, 1, 6, 5]])).min() == 255
    assert Outlines.of_polygons([[]]).grids(np.zeros((1, 4))).max() == 0


def test_later_objects_cover_earlier_ones():
    outlines = Outlines.of_polygons([[SQUARE], [SQUARE + 2], []])
    labels = outlines.label_map(np.array([7, 3, 1]), (8, 9))
    assert labels.shape == (8, 9)
    assert (labels == 7).sum() == 16 - 4
    assert (labels == 3).sum() == 16
    assert (labels == 255).sum() == 72 - 28


def test_corners_are_those_of_the_file_or_of_the_smallest_rectangle():
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    turned = (SQUARE * [3, 1]) @ turn.T
    more = np.concatenate([turned, turned[:1] * 0.5 + turned[2:3] * 0.5])[[0, 1, 4, 2, 3]]
    corners = Outlines.of_polygons([[turned], [more], []]).corners()
    assert (corners[0] == turned).all()
    assert np.isnan(corners[2]).all()
    distances = np.linalg.norm(corners[1][:, None] - turned[None], axis=2)
    assert distances.min(0).max() < 1e-3


def test_corners_of_masks_are_those_of_their_traced_borders():
    """The naive twin traces each mask, and takes the smallest rectangle of what it finds."""
    rng = np.random.default_rng(0)
    masks = [*random_masks(12), np.ones((5, 7), bool), np.zeros((4, 4), bool), np.eye(9, dtype=bool)]
    masks += [rng.random((1, 50)) < 0.3, rng.random((50, 1)) < 0.3, rng.random((30, 40)) < 0.02]
    masks += [np.pad(np.ones((3, 6), bool), ((2, 1), (0, 4)))]
    outlines = Outlines.join([Outlines.of_masks(masks), Outlines.of_polygons([[SQUARE], [SQUARE, SQUARE * 2]])])
    found = outlines.corners()
    for i in range(len(outlines)):
        rings, holes = outlines.rings(i)
        points = np.concatenate([np.zeros((0, 2)), *(r for r, hole in zip(rings, holes, strict=True) if not hole)])
        assert np.isnan(found[i]).all() == (not len(points))
        if len(points):
            width, height = (np.linalg.norm(found[i][k] - found[i][k + 1]) for k in (0, 1))
            middle = points.mean(0)
            _, sides, _ = cv2.minAreaRect((points - middle).astype(np.float32))
            assert width * height == pytest.approx(sides[0] * sides[1], abs=1e-3)
            axes = (found[i][[1, 3]] - found[i][0]) / np.array([[width], [height]])
            along = (points - found[i][0]) @ axes.T  # every point is inside
            assert (along > -1e-3).all() and (along < np.array([width, height]) + 1e-3).all()
    assert found[14].tolist() == [[0, 0], [7, 0], [7, 5], [0, 5]] and found[-2].tolist() == SQUARE.tolist()


def test_objects_are_selected_and_joined():
    masks = random_masks(4)
    mixed = Outlines.join([Outlines.of_masks(masks), Outlines.of_polygons([[SQUARE, SQUARE + 9], [], [SQUARE * 2]])])
    assert len(mixed) == 9
    assert mixed.present.tolist() == [True] * 7 + [False, True]
    chosen = mixed[[8, 0, 6]]
    assert chosen.segmentation(0) == [(SQUARE * 2).ravel().tolist()]
    assert chosen.segmentation(1) == mixed.segmentation(0)
    assert len(chosen.segmentation(2)) == 2
    assert len(mixed[mixed.present]) == 8
    assert mixed[7:8].segmentation(0) == []
    again = Outlines.join([mixed[:3], mixed[3:]])
    assert [again.segmentation(i) for i in range(9)] == [mixed.segmentation(i) for i in range(9)]
    assert len(Outlines.join([])) == len(mixed[:0]) == 0
    assert mixed[:0].bounds().shape == (0, 4)
    assert mixed[:0].grids(np.zeros((0, 4))).shape == (0, 56, 56)


def test_moved_outlines_are_rings():
    masks = random_masks(3)
    moved = Outlines.of_masks(masks).moved(lambda points: points + np.array([5, 7]))
    for index, mask in enumerate(masks):
        assert (dense(moved, index, (60, 60))[7 : 7 + mask.shape[0], 5 : 5 + mask.shape[1]] == mask).all()


def test_corners_may_stand_beside_the_outlines():
    """They are an object's oriented box, whatever its outline; of objects without, the box is that of the outline."""
    turned = [[3.0, 1], [6, 3], [5, 5], [2, 3]]
    outlines, bad = Outlines.of_polygons([[SQUARE]] * 4), {}
    found = with_frames(outlines, [turned, None, [[1, 2]], "abc"], bad)
    assert found.corners().tolist() == [turned, *[SQUARE.tolist()] * 3]
    assert bad.keys() == {2, 3} and "not four pairs x, y" in bad[2]
    again = Outlines.join([found[1:], outlines, found[:1]])[[0, 7]]
    assert again.corners().tolist() == [SQUARE.tolist(), turned]
    assert again.moved(lambda points: points + 1).corners()[1].tolist() == (SQUARE + 1).tolist()
    assert with_frames(outlines, [None] * 4, {}) is outlines and with_frames(None, [turned], {}) is None


SIZES = np.array([[8, 9]] * 2)
GOOD = [2.0, 1, 6, 1, 6, 5, 2, 5]


def read_values(values):
    """The outlines of `segmentation`s in images of SIZES, and what is wrong with some."""
    outlines, bad = read_outlines(values)
    return fitting_images(outlines, SIZES, bad), bad


@pytest.mark.parametrize(
    ("value", "present", "reason"),
    [
        (None, False, None),
        ([], False, None),
        ({}, False, None),
        ([GOOD], True, None),
        (GOOD, True, None),
        ([GOOD, [1, 2, 3, 4]], True, "has a polygon of 2 points"),
        ([[1, 2]], False, "has a polygon of 1 points"),
        ([[]], False, "has a polygon of 0 points"),
        ([GOOD, [1, 2, 3, 4, 5, 6, 7]], False, "has a polygon of 7 numbers, not pairs"),
        ([[1, 2, 3, 4, 5, float("nan")]], False, "NaN or infinite"),
        ([[1, 2, 3, 4, 5, 1e9]], False, "pixels away from any image"),
        ([[1, 2, 3, 4, 5, 10**400]], False, "a segmentation is a list of polygons"),
        ([GOOD, ["a"] * 6], False, "a segmentation is a list of polygons"),
        ([[[1, 2], [3, 4], [5, 6]]], False, "a segmentation is a list of polygons"),
        ("abc", False, "a segmentation is a list of polygons"),
        (7, False, "a segmentation is a list of polygons"),
        ({"size": [8, 9], "counts": [10, 5, 57]}, True, None),
        ({"size": [8, 9], "counts": [10, 5]}, False, "counts add up to 15, not to its 9 x 8 pixels"),
        ({"size": [8, 9], "counts": [10, -5, 67]}, False, "a count of -5"),
        ({"size": [8, 9], "counts": [10, 2**70]}, False, "not whole numbers"),
        ({"size": [8, 9], "counts": [1.5, 70.5]}, False, "not whole numbers"),
        ({"size": [8, 9]}, False, "has an RLE of counts None"),
        ({"size": [9, 8], "counts": [72]}, False, "an RLE of 8 x 9 pixels where the image has 9 x 8"),
        ({"size": "ab", "counts": [72]}, False, "an RLE of size 'ab'"),
        ({"size": [8, 9], "counts": ""}, False, "not a list of numbers or a string"),
        ({"size": [8, 9], "counts": "\u00e9"}, False, "not a list of numbers or a string"),
    ],
)
def test_a_segmentation_has_one_reading_or_one_reason(value, present, reason):
    outlines, bad = read_values([[GOOD], value])
    again, worse = read_values([packed({"segmentation": v})["segmentation"] for v in ([GOOD], value)])
    assert (again.present.tolist(), worse) == (outlines.present.tolist(), bad)
    assert outlines.present.tolist() == [True, present]
    assert bad.keys() == ({1} if reason else set())
    assert reason is None or reason in bad[1]
    assert outlines.segmentation(0) == [GOOD]


@pytest.mark.parametrize("size", [[10**6, 10**6], [2**31, 1], [1, 2**32]])
@pytest.mark.parametrize("counts", [[1, 2], "12"])
def test_a_mask_too_large_for_any_memory_is_refused(size, counts):
    _, bad = read_outlines([{"size": size, "counts": counts}])
    assert f"an RLE of {size[1]} x {size[0]} pixels, larger than any image" in bad[0]


def coco(segmentations, crowd=()):
    boxes = [
        {"image_id": 1 + i % 2, "category_id": 1, "bbox": [2, 1, 4, 4], "id": i + 1} for i in range(len(segmentations))
    ]
    for index, (box, value) in enumerate(zip(boxes, segmentations, strict=True)):
        box |= {"segmentation": value} if value is not None else {}
        box["iscrowd"] = int(index in crowd)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 8} for i in (1, 2)]
    return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}


def read(folder, segmentations, **keys) -> Annotations:
    path = folder / "set.json"
    path.write_text(json.dumps(coco(segmentations, **keys)))
    return load_coco(path)


def test_a_coco_file_keeps_its_outlines_through_selections(tmp_path):
    mask = {"size": [8, 9], "counts": [10, 5, 57]}
    string = coco_mask.frPyObjects(mask, 8, 9)["counts"].decode()
    annotations = read(tmp_path, [[GOOD], mask, None, {**mask, "counts": string}, [[1, 2]]], crowd=(1,))
    assert annotations.ids.tolist() == [1, 3, 5, 2, 4]
    assert annotations.outlines.present.tolist() == [True, False, False, True, True]
    assert annotations.bad_outlines == {5: "has a polygon of 1 points; a polygon takes three or more"}
    second = annotations.select([1])
    packed = {"size": [8, 9], "counts": string}
    assert [second.outlines.segmentation(i) for i in range(2)] == [packed, packed]
    rest = annotations.without(annotations.crowd, [])
    assert rest.outlines.present.tolist() == [True, False, False, True]
    written = annotations.to_coco()["annotations"]
    assert [row["segmentation"] for row in written] == [[GOOD], [], [], packed, packed]


def test_a_coco_file_without_outlines_has_none(tmp_path):
    annotations = read(tmp_path, [None, [], None])
    assert annotations.outlines is None
    assert "segmentation" not in annotations.to_coco()["annotations"][0]


STRING = coco_mask.frPyObjects({"size": [8, 9], "counts": [10, 5, 57]}, 8, 9)["counts"].decode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "has no outline, as other objects have"),
        ([[1, 2]], "has a polygon of 1 points; a polygon takes three or more"),
        ([[1, 2, 3, 2, 5, 2]], "has an outline that encloses nothing"),
        ([[1, 2] * 4], "has an outline that encloses nothing"),
        ({"size": [8, 9], "counts": [72]}, "has an outline that encloses nothing"),
        ([[1, 20, 5, 20, 5, 30]], "has an outline wholly outside its image: x 1 to 5, y 20 to 30, in 9 x 8 pixels"),
        ([[-5, 2, 0, 2, -3, 4]], "has an outline wholly outside its image"),
        ({"size": [8, 9], "counts": STRING[:-1]}, "has an RLE whose counts do not fill its 9 x 8 pixels"),
        ({"size": [8, 9], "counts": STRING + "0"}, "has an RLE whose counts do not fill"),
        ({"size": [8, 9], "counts": "!!" + STRING}, "has an RLE whose counts do not fill"),
        ({"size": [8, 9], "counts": "o" * 40}, "has an RLE whose counts do not fill"),
        ({"size": [8, 9], "counts": "~~~~~"}, "has an RLE whose counts do not fill"),
    ],
)
def test_an_object_without_a_usable_outline_is_an_error_or_left_out(tmp_path, value, reason):
    annotations = read(tmp_path, [[GOOD], [GOOD], value])
    with pytest.raises(UserError, match=re.escape(f"annotation id 3 (object 2 of 1.jpg) {reason}")) as error:
        outlined(annotations)
    assert "--skip-bad" in str(error.value)
    rest = outlined(annotations, skip_bad=True)
    assert rest.ids.tolist() == [1, 2]
    assert len(rest.outlines) == 2
    assert reason in rest.left_out[0]


def test_a_set_without_outlines_is_told_what_to_do(tmp_path):
    with pytest.raises(UserError, match="no object has an outline, which this task learns: add 'segmentation'"):
        outlined(read(tmp_path, [None, None]))
    assert len(outlined(read(tmp_path, [])).outlines) == 0


def test_an_rle_is_compared_with_the_size_of_the_image_file(tmp_path):
    path = tmp_path / "set.json"
    mask = {"size": [8, 9], "counts": [10, 5, 57]}
    content = coco([mask, {"size": [9, 8], "counts": [10, 5, 57]}])
    for image in content["images"]:
        del image["width"], image["height"]
        save_image(tmp_path / image["file_name"], np.zeros((8, 9, 3), np.uint8))
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"id 2 .* has an RLE of 8 x 9 pixels where the image has 9 x 8"):
        outlined(load_coco(path))


def test_areas_are_those_of_pycocotools_for_masks_and_exact_for_polygons():
    masks = random_masks(20)
    assert outlined_areas(Outlines.of_masks(masks)).tolist() == [mask.sum() for mask in masks]
    assert outlined_areas(Outlines.of_masks(masks).as_rings()).tolist() == [mask.sum() for mask in masks]
    assert outlined_areas(Outlines.of_polygons([[SQUARE, SQUARE[:3] + 50], []])).tolist() == [24, 0]


@pytest.mark.slow
def test_a_million_polygons_are_read_into_flat_arrays(tmp_path):
    count, corners = 1_000_000, np.random.default_rng(0).uniform(0, 600, (1000, 20)).round(2).tolist()
    path = tmp_path / "set.json"
    with path.open("w") as file:
        images = ", ".join(
            f'{{"id": {i}, "file_name": "{i}.jpg", "width": 640, "height": 640}}' for i in range(count // 10)
        )
        file.write(f'{{"images": [{images}], "categories": [{{"id": 1, "name": "a"}}], "annotations": [')
        for i in range(count):
            head = f'{{"id": {i + 1}, "image_id": {i // 10}, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 600.5, '
            file.write(f'{head}"iscrowd": 0, "segmentation": [{corners[i % 1000]}]}}{"," * (i < count - 1)}\n')
        file.write("]}")
    start = time.process_time()
    outlines = load_coco(path).outlines
    print(f"{time.process_time() - start:.1f} s of a core")
    assert outlines.present.sum() == count
    taken = sum(value.nbytes for value in vars(outlines).values() if isinstance(value, np.ndarray))
    assert taken < 230 * count  # ten points of 16 bytes, and what says where each begins
    assert outlines[[5, -1]].segmentation(1) == [corners[-1]]


def test_hostile_codes_take_no_more_memory_than_their_mask():
    for codes in ("~" * 5000, "o" * 5000, "0" * 5000, "P" * 5000, "\x7f" * 50, "".join(map(chr, range(1, 127)))):
        outlines, bad = read_outlines([{"size": [30, 40], "counts": codes}])
        assert outlines.present.all()
        assert not bad
        box = outlines.bounds()[0]
        assert (box >= 0).all()
        assert (box <= (40, 30, 40, 30)).all()
        assert outlines.pixels(0, (30, 40))[1].size <= 30 * 40
        assert outlines.grids(np.array([[0.0, 0, 40, 30]]), 8).shape == (1, 8, 8)
