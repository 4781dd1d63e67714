"""The bootstrap over images: its AP is that of pycocotools on the resampled set."""

import json
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.sources.coco import load_coco
from detect.data.sources.formats import load_data
from detect.evaluation import coco_engine
from detect.evaluation.bootstrap import Bootstrap, centred, draw_weights, interval, p_value, resamples_for
from detect.evaluation.classification import ClassEvaluator
from detect.evaluation.coco_protocol import Records, summarize
from detect.evaluation.difference import difference
from detect.evaluation.protocol import NUMBERS
from detect.evaluation.resampled_ap import match, resampled_ap, resampled_numbers
from detect.types import Classification


def guesses(annotations, rng, shift=3.0):
    """What a sloppy detector finds: boxes near the ground truth of most objects."""
    keep = rng.random(len(annotations.boxes)) < 0.8
    counts = np.array([keep[a:b].sum() for a, b in zip(annotations.starts[:-1], annotations.starts[1:], strict=True)])
    boxes = annotations.boxes[keep] + rng.uniform(-shift, shift, (keep.sum(), 4)).clip(-3, 3)
    return Records(annotations.image_ids.copy(), counts, boxes, rng.random(keep.sum()), annotations.labels[keep])


def naive(store, records, index):
    """The COCO dictionary and results of a resample, image by image, measured by pycocotools."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    whole = store.to_coco()
    images, annotations, found = [], [], []
    starts = np.append(0, records.counts.cumsum())
    for new, i in enumerate(index.tolist()):
        images.append({"id": new})
        for one in whole["annotations"]:
            if one["image_id"] == store.image_ids[i]:
                annotations.append({**one, "image_id": new, "id": len(annotations) + 1})
        row = records.image_ids.tolist().index(store.image_ids[i])
        for k in range(starts[row], starts[row + 1]):
            category = int(store.category_ids[records.labels[k]])
            box, score = records.boxes[k].tolist(), float(records.scores[k])
            found.append({"image_id": new, "category_id": category, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = {"images": images, "annotations": annotations, "categories": whole["categories"]}
        ground_truth.createIndex()
        engine = COCOeval(ground_truth, ground_truth.loadRes(found), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine.stats


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_is_a_set_with_some_images_twice(digits, seed):
    rng, annotations = np.random.default_rng(seed), load_data(digits, "val")
    records, index = guesses(annotations, rng), rng.integers(len(annotations), size=len(annotations))
    weights = np.stack([np.bincount(index, minlength=len(annotations)), np.ones(len(annotations), int)])
    matches = match(annotations, records)
    found = resampled_numbers(matches, weights, annotations.names, NUMBERS)
    drawn, whole = (np.nan_to_num([found[name][row] for name in NUMBERS], nan=-1) for row in range(2))
    assert drawn == pytest.approx(naive(annotations, records, index), abs=1e-12)
    assert whole == pytest.approx(list(summarize(annotations, records).numbers.values()), abs=1e-12)
    assert resampled_ap(matches[0], weights).tolist() == found["AP"].tolist()


def test_images_in_any_order_crowds_and_id_zero_are_as_in_the_protocol(digits):
    annotations = load_data(digits, "val")
    records = guesses(annotations, np.random.default_rng(3))
    crowd = np.arange(len(annotations.ids)) % 5 == 0
    odd = replace(
        annotations, image_ids=annotations.image_ids[::-1].copy(), crowd=crowd, ids=np.arange(len(annotations.ids))
    )
    records = records._replace(image_ids=odd.image_ids)
    (ap,) = resampled_ap(match(odd, records)[0], np.ones((1, len(odd)), int))
    assert ap == pytest.approx(summarize(odd, records).numbers["AP"], abs=1e-12)


@pytest.mark.parametrize("first", [0, 1])
def test_images_are_matched_in_parts_as_at_once(digits, monkeypatch, first):
    annotations = load_data(digits, "val")
    annotations = replace(annotations, ids=annotations.ids - annotations.ids.min() + first)  # 0 matches nothing
    records = guesses(annotations, np.random.default_rng(7))
    whole = match(annotations, records)
    monkeypatch.setattr(coco_engine, "AT_ONCE", 3)
    for one, other in zip(chain(*whole), chain(*match(annotations, records)), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_intervals_hold_the_ap_and_no_objects_have_none(digits):
    annotations = load_data(digits, "val")
    matches = match(annotations, guesses(annotations, np.random.default_rng(4)))[0]
    weights = draw_weights(len(annotations), 50)
    assert (weights.sum(1) == len(annotations)).all() and (draw_weights(len(annotations), 50) == weights).all()
    (ap,) = resampled_ap(matches, np.ones((1, len(annotations)), int))
    low, high = interval(centred(resampled_ap(matches, weights), ap), ap)
    assert 0 <= low < ap < high <= 1
    assert np.isnan(resampled_ap(matches, np.zeros((1, len(annotations)), int))).all()
    assert resamples_for(80) == 1000 and resamples_for(1000) == 400 and resamples_for(10**6) == 200


numbers = st.one_of(st.floats(0, 1), st.floats(0, 50), st.floats(-2, 2), st.sampled_from([0.0, 1.0]))


@given(st.lists(numbers | st.just(np.nan), min_size=2, max_size=12).filter(lambda v: not np.isnan(v[0])), st.data())
@settings(max_examples=150, deadline=None)
def test_intervals_hold_their_number_and_stay_in_its_range(drawn, data):
    estimate, *values = drawn
    others = data.draw(st.lists(numbers, min_size=len(values), max_size=len(values)))
    a, b = (
        Bootstrap.of({("n",): estimate, ("m",): 0.5}, {("n",): np.array(one, float), ("m",): np.full(len(one), 0.5)})
        for one in (values, others)
    )
    for one, some in ((a, values), (b, others)):
        if (found := one.intervals().get("n")) is not None:
            every = [estimate, *(v for v in some if not np.isnan(v))]
            assert found[0] <= estimate <= found[1]
            assert found[0] >= (0 if min(every) >= 0 else -np.inf)
            assert found[1] <= (1 if min(every) >= 0 and max(every) <= 1 else np.inf)
        assert one.interval(("m",)) is None
    if ("n",) in a.values:
        one = difference(a, b, ("n",))
        assert one.interval is None or one.interval[0] <= one.difference <= one.interval[1]


def test_a_class_that_a_resample_lacks_says_nothing_of_its_precision():
    names, images = ["a", "b"], np.arange(4)
    crops = SimpleNamespace(ids=images, labels=np.array([0, 0, 0, 1]), names=names, images=images)
    evaluator = ClassEvaluator(crops, [*names, "never"])
    order = [torch.tensor([label, 1 - label]) for label in crops.labels.tolist()]
    evaluator.update(images.tolist(), [Classification(labels=one, scores=torch.tensor([0.8, 0.2])) for one in order])
    row = evaluator.result()["per_class"]["never"]
    assert row == {"count": 0, "precision": None, "recall": None, "f1": None}
    found = evaluator.resampled(np.array([[1, 1, 1, 1], [2, 1, 1, 0]]))["per_class"]
    assert found["b"]["precision"] == pytest.approx([1, np.nan], nan_ok=True)
    assert np.isnan(found["never"]["f1"]).all()


def test_p_is_small_for_what_is_always_better():
    rng = np.random.default_rng(0)
    a = rng.normal(0.5, 0.05, 1000)
    assert p_value(a, a - 0.01) == 1 / 1000
    assert p_value(a, a) == 1.0
    assert p_value(a, rng.permutation(a)) > 0.5
    assert p_value(a, a + 0.01) == p_value(a + 0.01, a)


POPULATION, SAMPLE, TRIALS = 3000, 100, 150


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """Many images with a few objects of three classes, some harder than others; and two detectors of one quality."""
    rng, folder, objects = np.random.default_rng(0), tmp_path_factory.mktemp("population"), []
    for image in range(POPULATION):
        for _ in range(rng.integers(0, 5)):
            box = [*rng.integers(0, 200, 2).tolist(), *rng.integers(20, 90, 2).tolist()]
            number = {"id": len(objects) + 1, "image_id": image, "category_id": int(rng.integers(3))}
            objects.append({**number, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    images = [{"id": i, "file_name": f"{i}.png", "width": 300, "height": 300} for i in range(POPULATION)]
    categories = [{"id": c, "name": f"class {c}"} for c in range(3)]
    content = {"images": images, "annotations": objects, "categories": categories}
    (folder / "a.json").write_text(json.dumps(content))
    annotations = load_coco(folder / "a.json", folder)
    return annotations, [guesses(annotations, np.random.default_rng(seed), 6.0) for seed in (1, 2)]


def ap_of(annotations, records, images, weights):
    """AP of some images, and of their resamples (R,)."""
    some = annotations.select(images)
    matches = match(some, records.of_images(some.image_ids))[:1]
    whole = np.ones((1, len(images)), np.int32)
    return resampled_ap(matches[0], np.concatenate([whole, weights]))


@pytest.mark.slow
def test_intervals_hold_the_ap_of_all_images_as_often_as_they_say(population):
    annotations, (records, _) = population
    truth, held = summarize(annotations, records).numbers["AP"], 0
    for trial in range(TRIALS):
        images = np.random.default_rng(trial).choice(POPULATION, SAMPLE, replace=False)
        values = ap_of(annotations, records, images, draw_weights(SAMPLE, 200, trial))
        low, high = interval(centred(values[1:], values[0]), values[0])
        held += low <= truth <= high
    assert 0.85 <= held / TRIALS <= 0.99


@pytest.mark.slow
def test_two_detectors_of_one_quality_seldom_seem_to_differ(population):
    annotations, sides = population
    found = []
    for trial in range(TRIALS):
        rng = np.random.default_rng(trial)
        images = rng.choice(POPULATION, SAMPLE, replace=False)
        ids = annotations.image_ids[images]
        swapped = ids[rng.random(SAMPLE) < 0.5]  # so that neither is better
        mixed = [
            Records.join([a.of_images(np.setdiff1d(ids, swapped)), b.of_images(swapped)])
            for a, b in (sides, sides[::-1])
        ]
        weights = draw_weights(SAMPLE, 200, trial)
        values = [ap_of(annotations, records, images, weights) for records in mixed]
        found.append(p_value(*(centred(one[1:], one[0]) for one in values)))
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.11


def test_a_number_that_is_0_in_a_few_resamples_alone_has_an_interval_around_it():
    found = Bootstrap.of({("precision",): 1.0}, {("precision",): np.array([1.0] * 997 + [0.0] * 3)})
    assert found.interval(("precision",)) == (1.0, 1.0)
