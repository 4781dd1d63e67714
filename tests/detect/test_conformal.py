"""`detect evaluate --guarantee`: conformal risk control keeps its promise on exchangeable images, and says its cost."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.__main__ import main
from detect.evaluation.conformal import Matches, controlled_score, covered, least_images
from detect.models.weights import read_weights
from tests.detect.test_thresholds import known, weights  # noqa: F401  (fixtures)

images = st.lists(st.lists(st.sampled_from([-1.0, *np.linspace(0.1, 0.9, 9)]), max_size=4), min_size=1, max_size=14)
recalls = st.sampled_from([0.3, 0.5, 0.75, 0.8, 0.9])


def matches_from(some):
    """Images as lists of objects: the score of the detection of each, -1 where there is none."""
    owner = np.repeat(np.arange(len(some)), [len(one) for one in some])
    scores = np.array([score for one in some for score in one])
    return Matches(scores[scores >= 0], owner[scores >= 0], np.array([len(one) for one in some]))


def loss(one, threshold):
    return 1 - sum(score >= threshold for score in one) / len(one)


def naive(some, recall):
    """The highest threshold by the inequality of the paper, tried score by score; None without one."""
    some = [one for one in some if one]
    for threshold in sorted({score for one in some for score in one if score >= 0}, reverse=True):
        if (sum(loss(one, threshold) for one in some) + 1) / (len(some) + 1) <= 1 - recall + 1e-12:
            return threshold
    return None


@given(images, recalls)
@settings(max_examples=60, deadline=None)
def test_the_threshold_is_that_of_the_naive_twin(some, recall):
    assert controlled_score(matches_from(some), recall) == naive(some, recall)


@given(images, recalls)
@settings(max_examples=60, deadline=None)
def test_whichever_image_is_the_new_one_the_mean_loss_is_controlled(some, recall):
    """The theorem, exactly: exchangeable means that each of n + 1 images is the new one equally often."""
    some = [one for one in some if one]
    if not some or np.mean([loss(one, 0) for one in some]) > 1 - recall:
        return  # even all detections miss more: nothing is promised
    losses = []
    for i, new in enumerate(some):
        threshold = controlled_score(matches_from(some[:i] + some[i + 1 :]), recall)
        losses.append(loss(new, 0 if threshold is None else threshold))
    assert np.mean(losses) <= 1 - recall + 1e-9


def drawn(count, rng):
    """Images of one to five objects, some images harder than others, with scores of any value."""
    objects = rng.integers(1, 6, count)
    owner = np.repeat(np.arange(count), objects)
    scores = rng.beta(4, 1.5, len(owner)) * rng.uniform(0.4, 1, count)[owner]
    return Matches(scores, owner, objects)


def test_the_guarantee_is_kept_and_costs_no_more_than_it_must():
    rng, recall, count = np.random.default_rng(0), 0.9, 40
    found = []
    for _ in range(300):
        every = drawn(count + 60, rng)
        order = np.arange(count + 60)
        threshold = np.nextafter(controlled_score(every.of(order[:count]), recall), 0)
        found.append(every.of(order[count:]).recall(threshold).mean())
    error = 3 * np.std(found) / np.sqrt(len(found))
    assert recall - error <= np.mean(found) <= recall + 2 / (count + 1) + error  # theorems 1 and 2 of the paper


def test_random_splits_hold_it_on_average():
    every = drawn(200, np.random.default_rng(1))
    every = Matches(every.scores, every.images, np.append(every.objects, [0, 0]))
    found, confs = covered(every, 0.9, 0.5, 60)
    assert 0.9 <= found.mean() <= 0.95 and (confs > 0).all()
    assert np.isnan(covered(every, 0.9, 0.02, 3)[0]).all()  # four images are too few
    again = covered(every, 0.9, 0.5, 60)
    assert (again[0] == found).all()


@pytest.mark.parametrize(("recall", "least"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_fewest_images(recall, least):
    perfect = [matches_from([[0.5]] * count) for count in (least - 1, least)]
    assert least_images(recall) == least
    assert [controlled_score(one, recall) for one in perfect] == [None, 0.5]


def test_it_is_printed_written_and_saved(known, tmp_path, capsys):  # noqa: F811
    out, report = tmp_path / "g.safetensors", tmp_path / "r.json"
    flags = ["--guarantee", "recall", "0.8", "--save-thresholds", str(out), "--json", str(report)]
    assert main([*known, *flags, "--resamples", "0"]) == 0
    said = capsys.readouterr().out
    assert "guaranteed recall 0.8 at IoU 0.5: conf" in said and "conformal risk control on 7 images" in said
    assert "exchangeable" in said and "false positives an image" in said
    told = json.loads(report.read_text())["guarantee"]
    assert told["mean_recall"] >= 0.8 and told["images"] == 7 and told["per_class"] and told["iou"] == 0.5
    metadata = read_weights(out)[1]
    assert metadata.confidence.basis == "guaranteed recall 0.8 on val of digits"
    assert set(metadata.confidence.classes) == {told["conf"]} == {metadata.confidence.overall}


@pytest.mark.slow
def test_the_page_is_at_the_threshold_and_tells_of_it(known, tmp_path):  # noqa: F811
    assert main([*known, "--guarantee", "recall", "0.8", "--page", str(tmp_path / "p.html"), "--resamples", "0"]) == 0
    page = (tmp_path / "p.html").read_text()
    assert "With a guarantee" in page and "chosen for guaranteed recall 0.8" in page and "not guaranteed" in page


REFUSED = (
    ("recall 0.95", "needs 19 images with objects or more, and val of"),
    ("recall 0.95", "has 7: label more images, or guarantee 0.875 at most"),
    ("precision 0.9", "only a recall can be guaranteed"),
    ("recall", "write one number between 0 and 1"),
    ("recall 1", "write one number between 0 and 1"),
    ("recall 0.8 --target-recall 0.8 --save-thresholds o.safetensors", "one threshold of each"),
)


def test_what_cannot_be_guaranteed_is_one_line(known, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    for flags, message in REFUSED:
        assert main([*known, "--guarantee", *flags.split()]) == 2
        err = capsys.readouterr().err
        assert message in err.strip().splitlines()[-1] and list(tmp_path.iterdir()) == []


def test_a_detector_that_misses_too_much_is_told_what_it_can(digits, tmp_path, capsys):
    truth = json.loads((digits / "instances_val.json").read_text())["annotations"]
    some = [one for n, one in enumerate(truth) if n % 3]
    keys = ("image_id", "category_id", "bbox")
    (tmp_path / "f.json").write_text(json.dumps([{**{k: one[k] for k in keys}, "score": 0.5} for one in some]))
    command = ["evaluate", "--results", str(tmp_path / "f.json"), "--data", str(digits), "--resamples", "0"]
    assert main([*command, "--guarantee", "recall", "0.85"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "of the objects of an image on average" in line
    most = line.split("; ")[1].split()[0]
    assert main([*command, "--guarantee", "recall", most]) == 0
    assert f"guaranteed recall {most} at IoU 0.5: conf 0.4" in capsys.readouterr().out
