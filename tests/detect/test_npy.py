"""Arrays in damaged or crafted files of numpy's: refused before memory is asked for, whatever their header says."""

import io
import struct
import zipfile

import numpy as np
import pytest

from detect.data.proposals import read_rows
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.utils.npy import read_npy


def npy(shape="(4,)", kind="<f4", data=bytes(16)):
    """The bytes of an array whose header says so."""
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


WRONG = [
    npy("(1000000000000,)"),
    npy("(1000000, 1000000)"),
    npy(f"({2**62}, 4)"),
    npy("(-1,)"),
    npy("(-2, -2)"),
    npy("(5,)"),
    npy("(3,)"),
    npy("4"),
    npy("(4.0,)"),
    npy(kind="|O"),
    npy("(1000000000000,)", "|V0", b""),
    npy("(1,)", "<U1000000000", b"abcd"),
    npy("(4,)", "<U1", b"\xff" * 16),
    npy("(1,)", ">U1", b"a\0\0\0"),  # written the other way round
    npy("(4,)", "1U1", b"\xff" * 16),  # an array of one letter in each element
    npy("(2,)", "2f4"),
    npy("(2,)", [("a", "<f4"), ("b", "<f4")]),
    npy(kind="nonsense"),
    npy("(" * 3000),
    npy("(4,) 1L 1.2.3L"),
    npy()[:20],
    b"\x93NUMPY\x09\x09" + npy()[8:],
    b"",
]


@pytest.mark.parametrize("content", WRONG, ids=range(len(WRONG)))
def test_what_a_header_says_is_compared_with_the_file(content, tmp_path):
    assert read_npy(io.BytesIO(npy()), len(npy())).tolist() == [0] * 4
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npy cannot be read as proposals: .*; delete it"):
        read_rows(tmp_path / "a.npy")
    for name in ("x_train", "y_train"):
        with zipfile.ZipFile(tmp_path / "s.npz", "w") as file:
            file.writestr("x_train.npy", npy("(4, 8)", data=bytes(128)))
            file.writestr("y_train.npy", npy(kind="<i4"))
        assert len(load_data(tmp_path / "s.npz", "train", image_level_labels="images")) == 4
        with zipfile.ZipFile(tmp_path / "s.npz", "w") as file:
            for one in ("x_train", "y_train"):
                file.writestr(f"{one}.npy", content if one == name else npy("(4, 8)", data=bytes(128)))
        with pytest.raises(UserError, match=r"s\.npz: array \w+ cannot be read"):
            for split in splits(tmp_path / "s.npz", "images"):
                load_data(tmp_path / "s.npz", split, image_level_labels="images")


def test_an_array_that_unpacks_to_very_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("detect.utils.npy._LARGE", 10**6)
    np.savez_compressed(tmp_path / "s.npz", x_train=np.zeros((4, 1, 10**5), np.float32), y_train=np.arange(4))
    with pytest.raises(UserError, match=r"x_train cannot be read: it unpacks to \d+ times its size"):
        load_data(tmp_path / "s.npz", "train", image_level_labels="images")


def test_proposals_of_another_kind_are_refused(tmp_path):
    for rows in (np.zeros((2, 5), np.float32), np.zeros((2, 4)), np.full((1, 4), np.nan, np.float32)):
        np.save(tmp_path / "a.npy", rows)
        with pytest.raises(UserError, match="not finite float32"):
            read_rows(tmp_path / "a.npy")
