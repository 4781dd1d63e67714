"""Galleries that are damaged or crafted are refused in one line."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from detect.embedding.gallery import Gallery
from detect.errors import UserError

ABOUT = {"format": 1, "people": ["a", "b"], "files": ["a.png", "b.png"], "weights": "w", "fingerprint": "0"}
ABOUT |= {"detectors": [["d", "1"]]}
VECTORS = np.eye(2, 4, dtype=np.float32)


def load(folder, about=ABOUT, vectors=VECTORS):
    save_file({"vectors": vectors}, folder / "g", {"gridhead_gallery": json.dumps(about)})
    return Gallery.load(folder / "g")


@pytest.mark.parametrize(
    "changed",
    [
        *({"format": 2}, {"format": "1"}, {"format": None}),
        *({"people": 2}, {"people": "ab"}, {"people": [1, 2]}, {"people": ["a"]}, {"files": {"a": "b"}}),
        *({"weights": 1}, {"fingerprint": None}, {"other": 1}),
        *({"detectors": 3}, {"detectors": [["a"]]}, {"detectors": [["a", 1]]}, {"detectors": "ab"}),
    ],
)
def test_values_of_a_header_are_checked(tmp_path, changed):
    found = load(tmp_path)
    assert found.people == ["a", "b"] and found.detectors == [("d", "1")]
    with pytest.raises(UserError, match="/g"):
        load(tmp_path, ABOUT | changed)


@pytest.mark.parametrize("about", [[], 3, "a", {"format": 1}])
def test_a_header_of_another_kind_is_refused(tmp_path, about):
    with pytest.raises(UserError, match="/g"):
        load(tmp_path, about)


@pytest.mark.parametrize(
    "vectors",
    [VECTORS[0], VECTORS[:1], VECTORS[:0], VECTORS[:, :0], VECTORS.astype(int), VECTORS * np.nan, VECTORS.astype("f8")],
)
def test_vectors_are_finite_and_as_many_as_people(tmp_path, vectors):
    with pytest.raises(UserError, match="/g"):
        load(tmp_path, vectors=np.ascontiguousarray(vectors))
