"""The parts of the scores of label errors: matching, curves, usual boxes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.evaluation.coco_protocol import Records
from detect.mistakes.calibration import by_class, logistic, sigmoid, wrong_box
from detect.mistakes.evidence import overlaps, weigh
from tests.detect.test_mistakes import annotations_of, coco_of
from tests.reference.mistakes import logistic_loss, matched


def crowded(rng, images=4):
    """Labels and predictions that overlap in many ways."""
    coco = coco_of(rng, images, 4)
    for one in coco["annotations"]:
        one["bbox"] = [*rng.uniform(0, 60, 2).tolist(), *rng.uniform(20, 60, 2).tolist()]
    counts = rng.integers(0, 8, images)
    size = int(counts.sum())
    boxes = np.hstack([rng.uniform(0, 60, (size, 2)), rng.uniform(20, 60, (size, 2))])
    scores, labels = rng.permutation(size) / max(1, size), rng.integers(0, 3, size)
    annotations = annotations_of(coco)
    return annotations, Records(annotations.image_ids, counts, boxes, scores, labels)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_labels_and_predictions_are_matched_as_in_plain_loops(seed):
    annotations, records = crowded(np.random.default_rng(seed))
    evidence, first = weigh(annotations, records, overlaps(annotations, records)), 0
    for i, count in enumerate(records.counts.tolist()):
        rows, found = slice(*annotations.starts[i : i + 2].tolist()), slice(first, first + count)
        labels = list(zip(annotations.boxes[rows].tolist(), annotations.labels[rows].tolist(), strict=True))
        columns = (records.boxes[found].tolist(), records.labels[found].tolist(), records.scores[found].tolist())
        partner, free = matched(labels, list(zip(*columns, strict=True)))
        assert [n - first if n >= 0 else -1 for n in evidence.partner[rows].tolist()] == partner
        assert np.flatnonzero(evidence.free[found]).tolist() == free
        first += count
    for values in (evidence.support, evidence.presence, evidence.iou):
        assert ((values >= 0) & (values <= 1)).all()


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_a_logistic_curve_is_the_best_one(seed):
    rng = np.random.default_rng(seed)
    x, y = np.hstack([rng.normal(size=(20, 1)), np.ones((20, 1))]), rng.integers(0, 2, 20).astype(float)
    prior, strength = rng.normal(size=2), np.array([1.0, 0.5])
    beta = logistic(x, y, prior, strength)
    least = logistic_loss(x, y, beta, prior, strength)
    for step in rng.normal(0, 0.1, (20, 2)):
        assert logistic_loss(x, y, beta + step, prior, strength) >= least - 1e-9


def test_a_class_with_few_examples_has_the_curve_of_all():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 1))
    y = (rng.random(2000) < sigmoid(3 * x[:, 0])).astype(float)
    labels, used = np.zeros(2000, int), np.ones(2000, bool)
    labels[-20:], used[-20:] = 1, False
    found = by_class(x, y, labels, used, 2)
    assert np.abs(found - sigmoid(3 * x[:, 0])).max() < 0.08


def test_a_class_of_which_the_model_is_wrongly_sure_is_trusted_less():
    x, labels = np.full((400, 1), 3.0), np.repeat([0, 1], 200)
    x += np.random.default_rng(0).normal(0, 0.1, x.shape)
    y = np.where(labels == 0, np.arange(400) % 20 > 0, np.arange(400) % 2 > 0).astype(float)
    found = by_class(x, y, labels, np.ones(400, bool), 2)
    assert found[:200].min() > 0.85 and found[200:].max() < 0.65


def test_a_box_is_wrong_where_its_iou_is_unusual_for_the_class():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    overlap = np.clip(np.where(labels == 0, 0.95, 0.7) + rng.normal(0, 0.02, 400), 0.5, 0.99)
    overlap[[0, 200]] = 0.68
    found = wrong_box(overlap, labels, np.ones(400, bool), 2)
    assert found[0] > 0.8 and found[200] < 0.2 and found[1:200].max() < 0.5


def test_nothing_is_known_without_examples():
    none = np.zeros(0)
    assert len(by_class(np.zeros((0, 1)), none, none.astype(int), none.astype(bool), 3)) == 0
    assert wrong_box(np.array([0.5]), np.array([0]), np.array([False]), 1).tolist() == [0.0]
