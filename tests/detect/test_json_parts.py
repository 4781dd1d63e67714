"""Json read part by part: what it takes is what the strict reader makes of the file, whatever the file holds."""

import json
import os
import signal
import sys
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.outline_parts import picked
from detect.data.outlines import Outlines
from detect.data.sources.coco import load_coco
from detect.data.sources.coco_table import AnnotationTable, TableBuilder
from detect.errors import UserError
from detect.utils import json_parts
from detect.utils.array_pipes import receive, send
from detect.utils.json_files import read_json
from detect.utils.json_parts import Quick, read_in_parts

WORDS = st.text(alphabet='ab"\\{}[]:, \n\té', max_size=4)
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=True), st.sampled_from([0.0, -0.0, 1e308]))
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
RECORDS = st.lists(st.dictionaries(WORDS, VALUES, max_size=4), max_size=12)


def in_parts(path, size=1):
    """What a file holds, by the reader of parts; None where it leaves the file to the strict one."""
    found = {"a": [], "b": []}
    data = read_in_parts(path, {key: records.extend for key, records in found.items()})
    return None if data is None else {key: found.get(key, value) for key, value in data.items()}


def same(one, other):
    """Whether two values are equal to the type and the bit, NaN included."""
    return json.dumps(one) == json.dumps(other)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(json_parts, "SIZE", 16)


@given(a=RECORDS, b=RECORDS, other=VALUES, indent=st.sampled_from([None, 0, 1]), ascii=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_file_in_order_is_read_as_a_whole_one(tmp_path_factory, a, b, other, indent, ascii):
    path = tmp_path_factory.mktemp("json") / "file.json"
    content = {"a": a, "o": other, "b": b}
    path.write_bytes(json.dumps(content, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass"))
    found = in_parts(path)
    assert found is None or same(found, read_json(path))


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_damaged_file_is_refused_or_read_as_the_strict_reader_does(tmp_path_factory, data):
    text = bytearray(b'{"a": [{"k": [1.5, 2], "s": "x"}, {"k": {"n": 01e2}, "s": "\\u00e9"}], "b": [], "o": {"a": 1}}')
    if data.draw(st.booleans()):
        text = text.replace(b"01e2", b"1e2")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from(
                [b"", b'"', b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b".", b"\xff", b" ", b"e", b"\n"]
            )
        )
    path = tmp_path_factory.mktemp("json") / "file.json"
    path.write_bytes(text)
    try:
        expected = read_json(path)
    except UserError:
        assert in_parts(path) is None
        return
    found = in_parts(path)
    assert found is None or same(found, expected)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [{"k": 1, "k": 2}]}',
        '{"a": [{"k" : 1, "k"\n: 2}]}',
        '{"a": [{"k": {"n": 1, "n": 2}}]}',
        '{"a": [{"k": [{"n": 1, "n": 2}], "s": ":"}]}',
        '{"a": [], "a": []}',
        '{"a": [{"k": 1}, 2]}',
        '{"a": null}',
        '{"a": [{"k": 1}',
        '{"a": [{"k": 1}]} {}',
        '{"o": {"k": 1, "k": 2}}',
        "[1]",
        "",
    ],
)
def test_what_is_not_in_order_is_left_to_the_strict_reader(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    assert in_parts(path) is None


@pytest.mark.parametrize("text", ['{"a": [{"k": "http://x:1"}, {"k" : ":"}]}', '{"a": [{"k": [{"n": 1}, {"n": 2}]}]}'])
def test_colons_and_objects_within_records_are_no_trouble(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    assert in_parts(path) == json.loads(text)


@pytest.fixture
def halved(monkeypatch):
    """Every list is read by two processes."""
    monkeypatch.setattr(json_parts, "HALVED", 1)
    monkeypatch.setattr(json_parts, "_may_fork", lambda: sys.platform == "linux")


def quickly(text):
    """The records of a text, each with the process that has read it; None where one of them is odd."""
    try:
        records = json.loads(text)
    except ValueError:
        return None
    return None if any("odd" in record for record in records) else [(os.getpid(), record) for record in records]


QUICK = {"a": Quick(quickly, lambda parts: [one for part in parts for one in part])}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize(("odd", "nested", "readers"), [(40, 9, 2), (3, 30, 2), (30, 3, 1), (39, 9, 1), (40, 20, 1)])
@pytest.mark.parametrize("behind", ["", ', "b": [{"k": [{}, {}]}], "o": 1'])
def test_two_processes_read_a_half_each(tmp_path, halved, odd, nested, readers, behind):
    records = [{"k": i} | ({"odd": 1} if i == odd else {}) for i in range(40)]
    records[nested]["inner"] = [{"x": "}"}, {"x": "{"}, {}]  # in the middle it hides where records end
    (tmp_path / "file.json").write_text(f'{{"a": {json.dumps(records)}{behind}}}')
    found = []
    assert read_in_parts(tmp_path / "file.json", {"a": found.extend}, QUICK) is not None
    assert [one[1] if isinstance(one, tuple) else one for one in found] == records
    assert len({one[0] for one in found if isinstance(one, tuple)}) == readers


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_a_killed_process_leaves_its_half_to_the_other(tmp_path, halved, monkeypatch):
    records = [{"k": i} for i in range(40)]
    (tmp_path / "file.json").write_text(json.dumps({"a": records}))
    monkeypatch.setattr(json_parts, "_read_half", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    found = []
    assert read_in_parts(tmp_path / "file.json", {"a": found.extend}, QUICK) is not None
    assert [one for _, one in found] == records


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize("left", [1, 80, 81, 200])
def test_a_process_that_is_killed_while_it_sends_leaves_its_half_to_the_other(tmp_path, halved, monkeypatch, left):
    records = [{"k": i} for i in range(40)]
    (tmp_path / "file.json").write_text(json.dumps({"a": records}))
    send(sent := BytesIO(), ({"rows": np.arange(10)}, 99))

    def half(*arguments):
        arguments[-1].write(sent.getvalue()[:-left])
        arguments[-1].flush()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(json_parts, "_read_half", half)
    found = []
    assert read_in_parts(tmp_path / "file.json", {"a": found.extend}, QUICK) is not None
    assert [one for _, one in found] == records


def test_what_is_sent_is_received(tmp_path):
    value = {"rows": np.arange(10), "none": np.zeros((0, 2)), "turned": np.arange(6).reshape(2, 3).T, "text": "a" * 99}
    with (tmp_path / "pipe").open("wb") as pipe:
        send(pipe, value)
        send(pipe, [])
    with (tmp_path / "pipe").open("rb") as pipe:
        found = receive(pipe)
        assert found.keys() == value.keys()
        assert all(np.array_equal(found[key], value[key]) for key in value)
        found["rows"] += 1  # it can be written to
        assert receive(pipe) == []
        with pytest.raises(EOFError):
            receive(pipe)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_what_is_broken_in_the_second_half_is_broken(tmp_path, halved):
    text = json.dumps({"a": [{"k": i} for i in range(40)]})
    (tmp_path / "file.json").write_text(text.replace('"k": 37', '"k": 37, "k": 3').replace('"k": 33', '"k" 33'))
    assert in_parts(tmp_path / "file.json") is None
    assert (
        read_in_parts(
            tmp_path / "file.json",
            {"a": list},
            QUICK,
        )
        is None
    )


def test_outlines_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    objects = [[rng.random((int(rng.integers(3, 6)), 2)) for _ in range(int(rng.integers(3)))] for _ in range(9)]
    parts = [Outlines.of_polygons(objects[:4]), Outlines.of_polygons([]), Outlines.of_polygons(objects[4:])]
    for rows in (np.arange(9), rng.permutation(9), np.array([7, 2, 3]), np.zeros(0, int)):
        expected = Outlines.join(parts)[rows]
        found = picked(list(parts), rows)
        for name in ("points", "ring_starts", "object_starts", "holes", "code_starts", "rle_sizes"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_a_table_of_parts_is_that_of_the_whole():
    records = [{"id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 1, 5, 1, 5, 5]]}, {"id": "x"}, {}]
    records += [{"keypoints": [1, 2, 2], "area": 3}, {"keypoints": "no", "segmentation": 5, "corners": [1]}]
    builder = TableBuilder()
    for record in records:
        builder.add([record])
    found, expected = builder.table(), AnnotationTable.of(records)
    assert [found.raw(row, "id") for row in range(5)] == [1, "x", None, None, None]
    for name in ("bad_outlines", "corners", "records"):
        assert getattr(found, name) == getattr(expected, name), name
    for key in expected.values:
        assert np.array_equal(found.values[key], expected.values[key])
        assert np.array_equal(found.odd[key], expected.odd[key])
    assert found.point_counts.tolist() == expected.point_counts.tolist() == [0, 0, 0, 3, -1]


def test_annotations_do_not_depend_on_how_the_file_is_read(tmp_path, monkeypatch):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 8, "date": "10:20"} for i in (3, 1, 2)]
    polygon, mask = [[1, 1, 5, 1, 5, 5.5]], {"size": [8, 9], "counts": [10, 5, 57]}
    boxes = [
        {"id": i, "image_id": 1 + i % 3, "category_id": 1, "bbox": [1, 1, 4, 4], "segmentation": polygon}
        for i in range(20)
    ]
    boxes[3] |= {"segmentation": mask, "iscrowd": 1}
    boxes[5] |= {"segmentation": {"size": [8, 8], "counts": [64]}}
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}))
    fast = load_coco(path)
    monkeypatch.setattr("detect.data.sources.coco.read_in_parts", lambda *_: None)
    assert json.dumps(fast.to_coco()) == json.dumps(load_coco(path).to_coco())
    assert fast.bad_outlines == {5: "has an RLE of 8 x 8 pixels where the image has 9 x 8"}
