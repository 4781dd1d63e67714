"""Galleries that are damaged or crafted are refused in one line."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from detect.data.proposals import read_rows
from detect.embedding.gallery import Gallery
from detect.errors import UserError
from detect.inference.identity import digest
from detect.models.pretrained import read_state
from detect.models.weights import read_weights
from detect.training.state import read_record

FIRST = {"format": 1, "people": ["a", "b"], "files": ["a.png", "b.png"], "weights": "w", "fingerprint": "0"}
FIRST |= {"detectors": [["d", "1"]]}
ABOUT = {**FIRST, "format": 2, "weights": [["w", "0"], ["v", "2"]], "shares": [0.75, 0.25]}
del ABOUT["fingerprint"]
VECTORS = np.eye(2, 4, dtype=np.float32)


def load(folder, about=ABOUT, vectors=VECTORS):
    save_file({"vectors": vectors}, folder / "g", {"gridhead_gallery": json.dumps(about)})
    return Gallery.load(folder / "g")


@pytest.mark.parametrize(
    "changed",
    [
        *({"format": 1}, {"format": 3}, {"format": "1"}, {"format": None}),
        *({"people": 2}, {"people": "ab"}, {"people": [1, 2]}, {"people": ["a"]}, {"files": {"a": "b"}}),
        *({"weights": 1}, {"weights": [["w"]]}, {"weights": [["w", "0"]]}, {"weights": [], "shares": []}, {"other": 1}),
        *({"shares": [1]}, {"shares": [1, -1]}, {"shares": [1, float("nan")]}, {"shares": None}),
        *({"detectors": 3}, {"detectors": [["a"]]}, {"detectors": [["a", 1]]}, {"detectors": "ab"}),
    ],
)
def test_values_of_a_header_are_checked(tmp_path, changed):
    found = load(tmp_path)
    assert found.people == ["a", "b"] and found.detectors == [("d", "1")]
    with pytest.raises(UserError, match="/g"):
        load(tmp_path, ABOUT | changed)


@pytest.mark.parametrize("changed", [{"format": 2}, {"weights": [["w", "0"]]}, {"fingerprint": None}, {"shares": [1]}])
def test_a_gallery_of_the_first_format_has_one_embedder(tmp_path, changed):
    found = load(tmp_path, FIRST)
    assert found.weights == [("w", "0")] and found.shares == [1] and found.detectors == [("d", "1")]
    found.save(tmp_path / "g")
    again = Gallery.load(tmp_path / "g")
    assert (again.weights, again.shares, again.people) == (found.weights, found.shares, found.people)
    with pytest.raises(UserError, match="/g"):
        load(tmp_path, FIRST | changed)


@pytest.mark.parametrize("about", [[], 3, "a", {"format": 1}, {"format": 2}])
def test_a_header_of_another_kind_is_refused(tmp_path, about):
    with pytest.raises(UserError, match="/g"):
        load(tmp_path, about)


@pytest.mark.parametrize(
    "vectors",
    [
        VECTORS[0],
        VECTORS[:1],
        VECTORS[:0],
        VECTORS[:, :0],
        VECTORS.astype(int),
        VECTORS * np.nan,
        VECTORS.astype("f8"),
    ],
)
def test_vectors_are_finite_and_as_many_as_people(tmp_path, vectors):
    with pytest.raises(UserError, match="/g"):
        load(tmp_path, vectors=np.ascontiguousarray(vectors))


@pytest.mark.parametrize("length", [2, 3e38])
def test_vectors_are_no_longer_than_one(tmp_path, length):
    with pytest.raises(UserError, match="longer than 1"):
        load(tmp_path, vectors=VECTORS * np.float32(length))


def test_a_pipe_is_no_file_to_wait_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (Gallery.load, digest, read_weights, read_record, read_state, read_rows):
        with pytest.raises(UserError, match="pipe"):
            read(tmp_path / "pipe")
