"""The fuzzer: what it damages, what it calls a finding, and that the valid files of every target are read."""

import random
import sys

import pytest

from detect.errors import UserError
from tools.fuzz import COMPANIONS, outcome
from tools.fuzz_mutations import CODECS, mutate
from tools.fuzz_targets import TARGETS

QUICK = [name for name in TARGETS if name != "onnx"]  # an export takes many seconds, and test_export does some


@pytest.mark.parametrize("name", QUICK)
def test_valid_files_are_read_and_damage_is_repeatable(name, tmp_path):
    TARGETS[name].make(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in COMPANIONS)
    assert files
    for path in files:
        assert outcome(TARGETS[name].read, path) == ("ok", "")
        data = path.read_bytes()
        damaged = [[mutate(data, path.suffix, random.Random(seed)) for seed in range(20)] for _ in range(2)]
        assert damaged[0] == damaged[1]
        assert len({one for one in damaged[0] if one != data}) > 10
        if path.suffix in CODECS:  # taken apart and put together, a file is still read
            tree, pack = CODECS[path.suffix](data)
            path.write_bytes(pack(tree))
            assert outcome(TARGETS[name].read, path) == ("ok", "")


def refuse(path):
    raise UserError("no")


def hide_a_bomb(path):
    try:
        bytearray(1 << 62)
    except MemoryError as error:
        raise UserError("cannot be read") from error


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (refuse, "rejected"),
        (hide_a_bomb, "finding"),
        (lambda path: [][0], "finding"),
        (lambda path: sys.exit(0), "finding"),
        (lambda path: None, "ok"),
    ],
)
def test_only_a_user_error_may_come_out(read, kind, tmp_path):
    assert outcome(read, tmp_path)[0] == kind
