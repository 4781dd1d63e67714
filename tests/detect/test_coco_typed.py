"""Records of COCO's own keys: the table that the typed parser makes is that of dictionaries, or there is none."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.sources.coco_table import AnnotationTable
from detect.data.sources.coco_typed import typed_table

NUMBERS = st.one_of(st.integers(-5, 10**6), st.floats(-1e3, 1e3), st.sampled_from([2**53 + 1, 1e22, -0.0]))
COUNTS = st.one_of(st.text(alphabet="0a:", max_size=3), st.lists(st.integers(0, 9), max_size=3))
ODD = st.sampled_from([None, True, "x", 2**64, 1.0, [], {}, [[1]]])
KEYS = {
    "id": st.integers(0, 2**62),
    "image_id": st.integers(0, 9),
    "category_id": st.integers(0, 9),
    "bbox": st.lists(NUMBERS, min_size=4, max_size=4),
    "area": NUMBERS,
    "iscrowd": st.integers(0, 1),
    "segmentation": st.lists(st.lists(NUMBERS, max_size=8), max_size=2)
    | st.fixed_dictionaries({"size": st.just([3, 4]), "counts": COUNTS}),
    "keypoints": st.lists(NUMBERS, max_size=6),
}
FIRST = ("id", "image_id", "category_id", "bbox")
RECORD = st.fixed_dictionaries(
    {key: KEYS[key] for key in FIRST}, optional={key: one for key, one in KEYS.items() if key not in FIRST}
)


def same(one, other):
    """Whether two tables hold the same to the bit."""
    for name in ("unnumbered", "points", "point_counts", "difficult"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("bad_outlines", "corners", "records"):
        assert repr(getattr(one, name)) == repr(getattr(other, name)), name
    for name in ("values", "odd"):
        pairs = getattr(one, name), getattr(other, name)
        assert all(np.array_equal(pairs[0][key], pairs[1][key]) for key in pairs[1]), name
    for a, b in zip(one.outlines, other.outlines, strict=True):
        assert all(
            getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in ("points", "codes", "rle_sizes")
        )
        assert np.array_equal(a.object_starts, b.object_starts)
        assert np.array_equal(a.ring_starts, b.ring_starts)
    return True


@given(records=st.lists(RECORD, min_size=1, max_size=4), odd=st.none() | st.tuples(st.sampled_from([*KEYS]), ODD))
@settings(max_examples=60, deadline=None)
def test_what_the_typed_parser_takes_is_what_dictionaries_say(records, odd):
    if odd:
        records[-1][odd[0]] = odd[1]
    text = json.dumps(records)
    table = typed_table(text.encode())
    assert table is None or same(table, AnnotationTable.of(json.loads(text)))


PLAIN = '{"id": 1, "image_id": 2, "category_id": 3, "bbox": [1, 2, 3.5, 4]'


def test_plain_records_are_taken():
    for more in ("", ', "area": 3', ', "segmentation": [[1, 1, 5, 1, 5, 5.5]], "iscrowd": 0'):
        assert typed_table(f"[{PLAIN}{more}}}, {PLAIN}}}]".encode()) is not None


@pytest.mark.parametrize(
    "more",
    [
        ', "id": 1',
        ', "\\u0069d": 1',
        ', "own": 1',
        ', "area": null',
        ', "area": 1e400',
        ', "bbox": [1, 2, 3]',
        ', "corners": [[1, 1], [5, 1], [5, 5], [1, 5]]',
        ', "segmentation": {"size": [3, 4], "counts": [12], "counts": [12]}',
        ', "segmentation": {"size": [3, 4], "counts": [12], "own": 1}',
        "}, 3, {",
        ",",
    ],
)
def test_what_is_unusual_is_left_to_the_general_reader(more):
    assert typed_table(f"[{PLAIN}{more}}}]".encode()) is None
