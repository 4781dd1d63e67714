"""Precision and recall by confidence, thresholds for a target, and calibration: by hand, and by naive twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.evaluation.calibration import calibration_error, reliability
from detect.evaluation.operating_points import (
    LEVELS,
    Target,
    choose_thresholds,
    class_curves,
    curve_of,
    interval,
    overall_curve,
)
from detect.evaluation.tide import LIMIT, RIGHT, analyze_errors
from tests.detect.test_errors import held, scene

# Four of six detections are right; one of five objects is missed.
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
HITS = np.array([True, True, False, True, False, True])


def counted(scores, right, objects, conf):
    """Precision, recall and F1 above a threshold, counted one by one; precision is None without detections."""
    kept = [bool(hit) for score, hit in zip(scores, right, strict=True) if score > conf]
    f1 = 2 * sum(kept) / (len(kept) + objects) if kept or objects else None
    return (sum(kept) / len(kept) if kept else None, sum(kept) / objects if objects else None, f1)


def test_targets_by_hand():
    curve = curve_of(SCORES, HITS, 5)
    assert curve.precision == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5, 2 / 3])
    point = Target("precision", 0.75).choose(curve)  # the third is wrong, and the fourth makes up for it
    assert (point.conf, point.right, point.predicted, point.reached) == (0.55, 3, 4, True)
    point = Target("precision", 0.95).choose(curve)
    assert (point.conf, point.recall, point.reached) == (0.75, 0.4, True)
    point = Target("recall", 0.5).choose(curve)
    assert (point.conf, point.precision, point.recall) == (0.55, 0.75, 0.6)
    point = Target("recall", 0.9).choose(curve)  # one object is missed whatever the threshold: the nearest is 0.8
    assert (point.recall, point.reached) == (0.8, False) and 0.3 < point.conf < 0.4
    assert Target("F1").choose(curve).f1 == pytest.approx(8 / 11)
    assert str(Target("precision", 0.95)) == "precision 0.95" and str(Target("F1")) == "the best F1"


def test_a_precision_out_of_reach_is_the_best_one_with_reached_false():
    point = Target("precision", 0.9).choose(curve_of(SCORES, ~HITS, 5))
    assert not point.reached and point.precision == pytest.approx(0.4) and point.predicted == 5
    assert Target("precision", 0.9).choose(curve_of(SCORES, np.zeros(6, bool), 5)) is None
    assert Target("recall", 0.9).choose(curve_of(SCORES[:0], HITS[:0], 5)) is None
    assert Target("recall", 0.9).choose(curve_of(SCORES, np.zeros(6, bool), 0)) is None


def test_equal_scores_are_taken_together_or_not_at_all():
    curve = curve_of(np.array([0.5, 0.9, 0.5]), np.array([False, True, True]), 2)
    assert curve.scores.tolist() == [0.9, 0.5] and curve.right.tolist() == [1, 2] and curve.predicted.tolist() == [1, 3]


cases = st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=30)


@given(cases, st.integers(0, 10), st.sampled_from(["precision", "recall", "F1"]), st.floats(0.05, 1))
@settings(max_examples=200, deadline=None)
def test_thresholds_do_what_is_said_of_them(rows, missed, kind, value):
    scores, right = np.array([n / 40 for n, _ in rows]), np.array([hit for _, hit in rows], bool)
    objects = int(right.sum()) + missed
    point = Target(kind, value).choose(curve_of(scores, right, objects))
    if not right.any():
        assert point is None
        return
    chosen = counted(scores, right, objects, point.conf)
    assert (point.precision, point.recall, point.f1) == pytest.approx(chosen)  # as `detect predict` applies it: above
    every = [counted(scores, right, objects, conf) for conf in [0, *scores.tolist()]]
    some = [one for one in every if one[0] is not None]
    place = ["precision", "recall", "F1"].index(kind)
    reaching = [one for one in some if kind != "F1" and one[place] >= value]
    assert point.reached == (kind == "F1" or bool(reaching))
    if reaching:  # of those, none has a better value of the other
        assert chosen[place] >= value and chosen[1 - place] == pytest.approx(max(one[1 - place] for one in reaching))
    else:
        assert chosen[place] == pytest.approx(max(one[place] for one in some))


@given(cases, st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_curves_by_level_are_counts_at_each_level(rows, missed):
    scores, right = np.array([n / 40 for n, _ in rows]), np.array([hit for _, hit in rows], bool)
    objects = int(right.sum()) + missed
    curve = curve_of(scores, right, objects)
    levels = curve.by_level()
    for k in (0, 10, 25, 50, 99, 100):
        precision, recall, f1 = counted(scores, right, objects, LEVELS[k])
        point = curve.at(LEVELS[k])
        assert (point.precision, point.recall, point.f1) == (precision, recall, f1)
        assert levels["recall"][k] == pytest.approx(recall or 0) and levels["f1"][k] == pytest.approx(f1 or 0)
        assert np.isnan(levels["precision"][k]) if precision is None else levels["precision"][k] == precision


def test_classes_and_all_together_count_every_detection_once():
    annotations, records = held(scene(5, images=20))
    errors = analyze_errors(annotations, records)
    curves = list(class_curves(errors, 3))
    every = overall_curve(errors)
    assert sum(one.right[-1] for one in curves) == every.right[-1] == (errors.kind == RIGHT).sum()
    assert sum(one.predicted[-1] for one in curves) == every.predicted[-1] == errors.counts.sum()
    assert sum(one.objects for one in curves) == every.objects == (~annotations.crowd).sum()
    chosen = choose_thresholds(errors, annotations.names, Target("recall", 0.3))
    values = chosen.values()
    assert values["target"] == 0.3 and list(values["per_class"]) == annotations.names
    assert values["overall"]["recall"] >= 0.3 and values["overall"]["reached"] is True


def test_thresholds_count_every_detection_of_a_crowded_image_and_budgets_the_first_hundred():
    boxes = [[20.0 * (n % 20), 20.0 * (n // 20), 10.0, 10.0] for n in range(250)]
    found = [(0, 0, box, 1 - n / 1000) for n, box in enumerate(boxes)]
    one = {"images": 1, "classes": 1, "truth": [(0, 0, box, False) for box in boxes], "found": found}
    errors = analyze_errors(*held(one))
    assert choose_thresholds(errors, ["a"], Target("recall", 1.0)).values()["overall"]["recall"] == 1
    first = analyze_errors(*held(one), LIMIT)
    assert len(first.scores) == LIMIT == 100 and first.scores.min() == errors.scores[99]


def test_the_interval_is_wilsons():
    assert interval(0, 0) == (0, 1)
    assert interval(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)  # Newcombe (1998), the same formula
    assert interval(5, 5)[1] == 1 and interval(0, 5)[0] == 0


def test_calibration_by_hand():
    scores = np.array([0.95, 0.95, 0.65, 0.65, 0.05, 1.0])
    right = np.array([True, False, True, True, False, True])
    bins = reliability(scores, right)
    assert [(one.low, one.number) for one in bins] == [(0, 1), (0.6, 2), (0.9, 3)]
    assert [one.accuracy for one in bins] == pytest.approx([0, 1, 2 / 3])
    assert calibration_error(bins) == pytest.approx((1 * 0.05 + 2 * 0.35 + 3 * abs(2.9 / 3 - 2 / 3)) / 6)
    assert [one.low for one in reliability(scores, right, least=0.1)] == [0.6, 0.9]
    assert calibration_error([]) is None and reliability(scores[:0], right[:0]) == []


def test_confidences_that_are_frequencies_are_calibrated():
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    assert calibration_error(reliability(scores, rng.random(20_000) < scores)) < 0.02
    assert calibration_error(reliability(scores, rng.random(20_000) < scores**2)) > 0.1


def test_intervals_of_shares_hold_them():
    for total in range(60):
        for right in range(total + 1):
            low, high = interval(right, total)
            assert 0 <= low <= right / max(total, 1) <= high <= 1 or not total
