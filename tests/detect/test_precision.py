"""Which type the processor is faster in: measured, remembered, and decided with a margin."""

import json

import pytest
import torch

from detect.utils import precision
from detect.utils.precision import Timing


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The file of an empty cache; nothing is remembered within the process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    precision.timings.cache_clear()
    yield tmp_path / "gridhead" / "precision.json"
    precision.timings.cache_clear()


@pytest.fixture
def slow(monkeypatch):
    """Stands in for the measurement: (float32, bfloat16) seconds, separate and fused; returns how often it was made."""
    calls = []

    def make(single: Timing, half: Timing):
        monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
        found = {"float32": single, "bfloat16": half}
        monkeypatch.setattr(precision, "measure", lambda: calls.append(1) or found)
        monkeypatch.setattr(precision.time, "process_time", precision.time.perf_counter)  # a quiet machine
        return calls

    return make


@pytest.mark.parametrize(
    ("single", "half", "dtype"),
    [
        (Timing(2.0, 1.0), Timing(1.0, 0.5), torch.bfloat16),
        (Timing(2.0, 1.0), Timing(2.0, 1.5), torch.float32),  # has the instructions, and is slower with them
        (Timing(2.0, 1.0), Timing(1.0, 0.95), torch.float32),  # a near tie
        (Timing(1.0, 9.0), Timing(0.8, 9.0), torch.bfloat16),  # the fused form is slow in both
        (Timing(1.0, 0.5), Timing(0.8, 9.0), torch.float32),
    ],
)
def test_the_faster_type_is_chosen_in_the_form_that_it_is_used_in(cached, slow, single, half, dtype):
    slow(single, half)
    assert precision.fastest() is dtype
    assert precision.use_fused(torch.float32) == (single.fused < 0.9 * single.separate)
    assert precision.use_fused(torch.bfloat16) == (half.fused < 0.9 * half.separate)
    assert not precision.use_fused(torch.float16)


def test_it_is_measured_once_for_a_processor_a_torch_and_a_number_of_threads(cached, slow, monkeypatch):
    calls = slow(Timing(2.0, 1.0), Timing(1.0, 0.5))
    for _ in range(2):
        assert precision.fastest() is torch.bfloat16
        precision.timings.cache_clear()  # as in another process
    assert len(calls) == 1 and len(json.loads(cached.read_text())) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    precision.fastest()
    monkeypatch.setattr(torch, "__version__", "99.0")
    precision.timings.cache_clear()
    precision.fastest()
    assert len(calls) == 3 and len(json.loads(cached.read_text())) == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "\x00"])
def test_a_broken_cache_is_measured_anew(cached, slow, content):
    calls = slow(Timing(2.0, 1.0), Timing(1.0, 0.5))
    cached.parent.mkdir()
    cached.write_text(content)
    assert precision.fastest() is torch.bfloat16 and len(calls) == 1
    precision.timings.cache_clear()
    assert precision.fastest() is torch.bfloat16 and len(calls) == 1


def test_a_cache_that_cannot_be_written_costs_a_measurement(cached, slow, monkeypatch):
    calls = slow(Timing(2.0, 1.0), Timing(1.0, 0.5))
    cached.parent.write_text("a file in the place of the folder")
    assert precision.fastest() is torch.bfloat16
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user without a home folder
    precision.timings.cache_clear()
    assert precision.fastest() is torch.bfloat16 and len(calls) == 2


def test_without_instructions_nothing_is_measured_and_bfloat16_is_not_chosen(cached, slow, monkeypatch):
    calls = slow(Timing(2.0, 1.0), Timing(1.0, 0.5))
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert precision.fastest() is torch.float32 and not calls and not precision.use_fused(torch.bfloat16)


def test_the_measurement_leaves_threads_and_random_numbers_as_they_were():
    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.get_num_threads()
    found = precision.measure()
    assert torch.equal(torch.get_rng_state(), before[0]) and torch.get_num_threads() == before[1]
    assert set(found) == ({"float32", "bfloat16"} if precision.has_bfloat16() else {"float32"})
    assert all(0 < seconds < float("inf") for timing in found.values() for seconds in timing)


def test_a_measurement_on_a_busy_machine_is_made_again(cached, slow, monkeypatch):
    calls = slow(Timing(2.0, 1.0), Timing(1.0, 0.5))
    clock = iter(range(100))
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(precision.time, "process_time", lambda: 0.0)  # others have the processor
    assert precision.fastest() is torch.bfloat16 and not cached.exists()
    precision.timings.cache_clear()
    monkeypatch.setattr(precision.time, "process_time", lambda: next(clock))
    assert precision.fastest() is torch.bfloat16 and len(calls) == 2 and cached.exists()
