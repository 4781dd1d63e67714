"""Lists of numbers that are read as one array."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.utils.json_numbers import number_lists

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1) | st.just(-0.0)


@given(st.lists(st.lists(NUMBERS, max_size=5), max_size=5), st.sampled_from([None, 1]))
def test_the_numbers_are_those_of_python(lists, indent):
    raw = msgspec.json.decode(json.dumps(lists, indent=indent), type=list[msgspec.Raw])
    values, lengths = number_lists(raw)
    assert values.tobytes() == np.array([float(one) for part in lists for one in part], np.float64).tobytes()
    assert lengths.tolist() == list(map(len, lists))


@pytest.mark.parametrize("odd", ["5", "[[5]]", "[[1], [2]]", "null", "[null]", '"[1]"', '["1"]', "{}", "[1e400]"])
@pytest.mark.parametrize("other", [[], ["[1, 2]"], ["5"], ["[[1]]"]])
def test_what_is_no_list_of_numbers_is_for_others(odd, other):
    assert number_lists([one.encode() for one in (*other, odd)]) is None


def test_an_integer_that_float64_would_round_twice_is_for_others():
    assert number_lists([b"[123456789012345678901234]"]) is None
