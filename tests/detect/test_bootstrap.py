"""The bootstrap over images: its AP is that of pycocotools on the resampled set."""

from dataclasses import replace

import numpy as np
import pytest

from detect.data.sources.formats import load_data
from detect.evaluation.bootstrap import centred, draw_weights, interval, p_value, resamples_for
from detect.evaluation.coco_protocol import Records, summarize
from detect.evaluation.resampled_ap import match, resampled_ap


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
    return engine.stats[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_is_a_set_with_some_images_twice(digits, seed):
    rng, annotations = np.random.default_rng(seed), load_data(digits, "val")
    records, index = guesses(annotations, rng), rng.integers(len(annotations), size=len(annotations))
    weights = np.stack([np.bincount(index, minlength=len(annotations)), np.ones(len(annotations), int)])
    drawn, whole = resampled_ap(match(annotations, records)[0], weights)
    assert drawn == pytest.approx(naive(annotations, records, index), abs=1e-12)
    assert whole == pytest.approx(summarize(annotations, records).numbers["AP"], abs=1e-12)


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


def test_intervals_hold_the_ap_and_no_objects_have_none(digits):
    annotations = load_data(digits, "val")
    matches = match(annotations, guesses(annotations, np.random.default_rng(4)))[0]
    weights = draw_weights(len(annotations), 50)
    assert (weights.sum(1) == len(annotations)).all() and (draw_weights(len(annotations), 50) == weights).all()
    (ap,) = resampled_ap(matches, np.ones((1, len(annotations)), int))
    low, high = interval(centred(resampled_ap(matches, weights), ap))
    assert 0 <= low < ap < high <= 1
    assert np.isnan(resampled_ap(matches, np.zeros((1, len(annotations)), int))).all()
    assert resamples_for(80) == 1000 and resamples_for(1000) == 400 and resamples_for(10**6) == 200


def test_p_is_small_for_what_is_always_better():
    rng = np.random.default_rng(0)
    a = rng.normal(0.5, 0.05, 1000)
    assert p_value(a, a - 0.01) == 1 / 1000
    assert p_value(a, a) == 1.0
    assert p_value(a, rng.permutation(a)) > 0.5
    assert p_value(a, a + 0.01) == p_value(a + 0.01, a)
