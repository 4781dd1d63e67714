"""Folds: near duplicates together, classes spread, every image once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from detect.data.sources.formats import load_data
from detect.data_check.images import Seen
from detect.errors import UserError
from detect.mistakes.folds import same_images, split_folds, train_folds


@given(st.data(), st.integers(2, 5), st.integers(0, 3))
def test_groups_stay_together_and_no_fold_is_empty(data, folds, seed):
    images = data.draw(st.integers(folds, 30))
    groups = np.concatenate(
        [np.arange(folds), data.draw(arrays.arrays(int, images, elements=st.integers(0, folds + 5)))]
    )
    groups = np.unique(groups, return_inverse=True)[1]
    counts = data.draw(arrays.arrays(int, (len(groups), 3), elements=st.integers(0, 4)))
    fold_of = split_folds(groups, counts, folds, seed)
    assert set(fold_of.tolist()) == set(range(folds))
    for group in np.unique(groups):
        assert len(set(fold_of[groups == group].tolist())) == 1
    assert (fold_of == split_folds(groups, counts, folds, seed)).all()


def test_a_rare_class_is_in_every_fold():
    counts = np.zeros((30, 2), int)
    counts[:, 0] = 3
    counts[[4, 5, 6], 1] = 1
    fold_of = split_folds(np.arange(30), counts, 3)
    assert sorted(fold_of[[4, 5, 6]].tolist()) == [0, 1, 2]
    assert np.bincount(fold_of).tolist() == [10, 10, 10]


def test_fewer_images_than_folds_are_refused():
    with pytest.raises(UserError, match="only 2 distinct images"):
        split_folds(np.array([0, 1, 1]), np.ones((3, 1), int), 3)


def test_equal_and_nearly_equal_images_are_one_group(tmp_path):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 255, (32, 32)).astype(np.uint8) for _ in range(2))
    seen = [Seen(tmp_path / str(n), str(digest), image) for n, (digest, image) in enumerate([(1, a), (2, b), (1, a)])]
    near = np.clip(b * 0.9 + 10, 0, 255).astype(np.uint8)
    groups = same_images([*seen, Seen(tmp_path / "3", "3", near), Seen(tmp_path / "4", problem="broken")])
    assert groups[0] == groups[2] and groups[1] == groups[3] and len(set(groups.tolist())) == 3


@pytest.mark.parametrize(("left", "resumes"), [("", None), ("best.safetensors", True), ("last.ckpt", True)])
def test_a_fold_that_was_broken_off_anywhere_goes_on(digits, tmp_path, monkeypatch, left, resumes):
    begun = []
    monkeypatch.setattr("detect.training.setup.train", lambda config: begun.append(config.resume))
    if left:
        (tmp_path / "fold-1/run").mkdir(parents=True)
        (tmp_path / "fold-1/run" / left).touch()
    annotations = load_data(digits, "train")
    next(train_folds(annotations, np.arange(len(annotations)) % 2, tmp_path, {"model": {"name": "yolo_n"}}))
    assert begun == [bool(resumes)]
