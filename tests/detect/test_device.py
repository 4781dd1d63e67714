"""Which device, type and number of workers are chosen."""

import os
import sys

import pytest
import torch

from detect.errors import UserError
from detect.utils.device import autocast, pick_device, pick_dtype, pick_workers, why_dtype


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine with so many CUDA devices, with or without MPS."""

    def make(cuda: int, mps: bool = False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return make


def test_auto_takes_the_best_there_is(machine, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for there, chosen in (((0, False), "cpu"), ((0, True), "mps"), ((2, False), "cuda:0"), ((2, True), "cuda:0")):
        machine(*there)
        assert str(pick_device("auto")) == chosen


def test_a_rank_takes_its_own_device(machine, monkeypatch):
    machine(2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(pick_device("cuda")) == "cuda:1" and str(pick_device("cuda:0")) == "cuda:0"


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "banana", "", "meta", "cuda:x", "cpu "])
def test_a_device_that_is_not_there_is_named(machine, name):
    machine(0)
    with pytest.raises(UserError, match="--device"):
        pick_device(name)


def test_a_device_beyond_the_last_is_named(machine):
    machine(2)
    with pytest.raises(UserError, match="2 CUDA devices"):
        pick_device("cuda:2")


def test_types_by_name_and_by_the_hardware(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda:0")
    assert pick_dtype("float16", cpu) is torch.float16 and pick_dtype("float32", cuda) is torch.float32
    for able in (True, False):
        monkeypatch.setattr("detect.utils.device.fastest", lambda able=able: torch.bfloat16 if able else torch.float32)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert pick_dtype("auto", cpu) is (torch.bfloat16 if able else torch.float32)
        assert pick_dtype("auto", cuda) is (torch.bfloat16 if able else torch.float16)
    assert pick_dtype("auto", torch.device("mps")) is torch.float32


def test_in_which_type_training_computes_and_why(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda:1")
    monkeypatch.setattr("detect.utils.device.bfloat16_speed", lambda: 0.7)
    said = why_dtype("auto", cpu, torch.float32)
    assert said == "float32 (bfloat16 was measured 0.70 times as fast as float32 here)"
    assert why_dtype("float32", cpu, torch.float32) == "float32 (--precision)"
    monkeypatch.setattr("detect.utils.device.bfloat16_speed", lambda: 0.0)
    assert why_dtype("auto", cpu, torch.float32) == "float32"
    assert why_dtype("auto", cuda, torch.float16) == "float16 (this GPU has no bfloat16)"
    assert why_dtype("auto", cuda, torch.bfloat16) == "bfloat16"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_the_type(dtype):
    layer = torch.nn.Conv2d(1, 1, 1)
    with autocast(torch.device("cpu"), dtype):
        assert layer(torch.zeros(1, 1, 2, 2)).dtype is dtype


def test_workers_are_half_of_the_cores_shared_among_ranks(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (pick_workers(0), pick_workers(5)) == (0, 5)
    for cores, ranks, expected in ((1, 1, 1), (2, 1, 1), (8, 1, 4), (64, 1, 8), (16, 4, 2), (16, 16, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
        assert pick_workers(-1) == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the page faults of glibc on Linux")
def test_on_the_cpu_freed_memory_serves_the_next_tensors():
    import resource

    pick_device("cpu")
    for _ in range(3):  # until the heap has grown enough
        torch.ones(2**24)  # 64 MB, 16,384 pages
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)
    # Fresh pages for each would be four times 2**14; the heap may grow once, where one is in the way.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 2 * 2**14
