"""Checkpoints that are damaged or crafted: refused in one line, before anything of them is taken."""

import io
import random

import pytest
import torch

from detect.config.train import OptimConfig
from detect.errors import UserError
from detect.training.checkpoint import FORMAT, sign
from detect.training.state import Run, read_record
from tools.fuzz_targets import small_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a checkpoint."""
    run = small_run(tmp_path_factory.mktemp("run"))
    run.save()
    return run.checkpoint.read_bytes()


def resumed(folder, content) -> Run:
    """The run that goes on from a checkpoint."""
    run = small_run(folder)
    run.checkpoint.write_bytes(content)
    read_record(run.checkpoint)
    run.load()
    return run


def test_a_checkpoint_is_read_by_torch_and_by_us(content, tmp_path):
    run = resumed(tmp_path, content)
    state = torch.load(io.BytesIO(content), weights_only=True)
    assert state["format"] == FORMAT and state["counts"] == [run.epoch, run.batch, run.step] == [1, 0, 1]
    assert all(torch.equal(v, state["model"][k]) for k, v in run.model.state_dict().items())


def test_every_flipped_bit_is_refused(content, tmp_path):
    rng, run = random.Random(0), small_run(tmp_path)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    places = [0, 1, len(content) - 1, len(content) - 5, len(content) - 20]
    for place in places + [rng.randrange(len(content)) for _ in range(60)]:
        data = bytearray(content)
        data[place] ^= 1 << rng.randrange(8)
        run.checkpoint.write_bytes(data)
        for read in (lambda: read_record(run.checkpoint), run.load):
            with pytest.raises(UserError, match=r"last\.ckpt is damaged .*checksum.*best\.safetensors"):
                read()
    for cut in (0, 1, 24, len(content) // 2, len(content) - 1):
        run.checkpoint.write_bytes(content[:cut])
        with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
            run.load()
    assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())
    assert (run.epoch, run.step) == (1, 1)


def first(tensors):
    return next(iter(tensors))


WRONG = {
    "format": lambda s: s.update(format=2),
    "a later format": lambda s: s.update(format=99),
    "many threads": lambda s: s.update(threads=10**6),
    "no threads": lambda s: s.update(threads=0),
    "threads of a text": lambda s: s.update(threads="1"),
    "a negative epoch": lambda s: s.update(counts=[-1, 0, 0]),
    "very many epochs": lambda s: s.update(counts=[2**52, 0, 7]),
    "an epoch without numbers": lambda s: s.update(counts=[7, 0, 7]),
    "a step of another kind": lambda s: s.update(counts=[1, 0, 1.5]),
    "two counts": lambda s: s.update(counts=[1, 0]),
    "no best": lambda s: s.update(best=[float("nan"), 0]),
    "a best to come": lambda s: s.update(best=[0.5, 5]),
    "history of no rows": lambda s: s.update(history="[1]"),
    "history of no json": lambda s: s.update(history="["),
    "history of a list": lambda s: s.update(history=[]),
    "a deep record": lambda s: s.update(record="[" * 100_000),
    "a record of a list": lambda s: s.update(record="[]"),
    "terms of numbers": lambda s: s.update(terms=[1]),
    "sums of another shape": lambda s: s.update(sums=torch.zeros(9)),
    "sums of a number": lambda s: s.update(sums=1.0),
    "an unknown key": lambda s: s.update(other=1),
    "no terms": lambda s: s.pop("terms"),
    "no optimizer": lambda s: s.pop("optimizer"),
    "no model": lambda s: s.update(model=[]),
    "a weight fewer": lambda s: s["model"].pop(first(s["model"])),
    "a weight of NaN": lambda s: s["ema"][first(s["ema"])].mul_(float("nan")),
    "a weight of another shape": lambda s: s["ema"].update({first(s["ema"]): torch.zeros(3)}),
    "a weight of another type": lambda s: s["model"].update({k: v.double() for k, v in s["model"].items()}),
    "a rate of NaN": lambda s: s["optimizer"]["param_groups"][0].update(lr=float("nan")),
    "a rate below zero": lambda s: s["optimizer"]["param_groups"][0].update(lr=-0.1),
    "a rate of a text": lambda s: s["optimizer"]["param_groups"][0].update(lr="0.1"),
    "a group fewer": lambda s: s["optimizer"]["param_groups"].pop(),
    "a moment of another shape": lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(2, 3)),
    "a moment of nobody": lambda s: s["optimizer"]["state"].update({999: {"exp_avg": torch.zeros(2, 3)}}),
}


@pytest.mark.parametrize("name", WRONG)
def test_values_are_checked_where_the_checksum_is_right(content, tmp_path, name):
    state = torch.load(io.BytesIO(content), weights_only=True)
    WRONG[name](state)
    out = io.BytesIO()
    torch.save(state, out)
    threads = torch.get_num_threads()
    with pytest.raises(UserError, match=r"last\.ckpt is damaged or no checkpoint") as caught:
        resumed(tmp_path, sign(out.getvalue()))
    assert "\n" not in str(caught.value) and torch.get_num_threads() == threads


def test_an_optimizer_that_was_never_used_is_resumed(tmp_path):
    run = small_run(tmp_path)
    fresh = Run(tmp_path, run.model, OptimConfig(lr=0.01, momentum=0.9, weight_decay=0.0), False, {})
    fresh.save()
    fresh.load()
    assert fresh.best == float("-inf")
