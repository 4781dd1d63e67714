"""AP of parts of a split, equal to pycocotools with areas and images to match; and its best and worst images."""

from itertools import pairwise

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect.data.sources.coco import load_coco
from detect.evaluation.breakdown import ASPECTS, RATIOS, by_aspect, by_brightness, by_crowding, by_size, mean_brightness
from detect.evaluation.coco_protocol import summarize
from detect.evaluation.image_ranking import best_images, count_images, surprising_errors, worst_images
from detect.evaluation.tide import analyze_errors
from tests.detect.test_errors import held, scene


def results(annotations, records):
    """Detections as COCO results."""
    owner = np.repeat(records.image_ids, records.counts).tolist()
    columns = zip(owner, records.boxes.tolist(), records.scores.tolist(), records.labels.tolist(), strict=True)
    ids = annotations.category_ids.tolist()
    return [{"image_id": i, "bbox": b, "score": s, "category_id": ids[c]} for i, b, s, c in columns]


def pycocotools(annotations, records, ranges, attribute):
    """AP of objects in each range of an attribute of boxes, which pycocotools is told to be their area."""
    truth = COCO()
    truth.dataset = annotations.to_coco()
    for one in truth.dataset["annotations"]:
        one["area"] = attribute(one["bbox"])
    truth.createIndex()
    found = truth.loadRes(results(annotations, records))
    for one in found.anns.values():
        one["area"] = attribute(one["bbox"])
    engine = COCOeval(truth, found, "bbox")
    engine.params.areaRng, engine.params.areaRngLbl = ranges, list(map(str, range(len(ranges))))
    engine.evaluate()
    engine.accumulate()
    precision = engine.eval["precision"]
    cells = [precision[:, :, :, k, -1] for k in range(len(ranges))]
    return [cell[cell > -1].mean() if (cell > -1).any() else None for cell in cells]


@pytest.fixture(scope="module")
def evaluated():
    return held(scene(3, images=60))


def test_aspect_ratios_are_pycocotools_areas(evaluated, capsys):
    annotations, records = evaluated
    groups = by_aspect(annotations, records)
    ranges = [[low, min(high, 1e9)] for low, high in pairwise(RATIOS)]
    expected = pycocotools(annotations, records, ranges, lambda box: box[2] / box[3])
    assert [one.name for one in groups] == list(ASPECTS)
    assert [one.ap for one in groups] == pytest.approx(expected, abs=1e-12)
    assert sum(one.objects for one in groups) == (~annotations.crowd).sum()


def test_sizes_are_the_printed_numbers(evaluated):
    annotations, records = evaluated
    summary = summarize(annotations, records)
    groups = by_size(annotations, summary)
    numbers = summary.numbers
    assert [one.ap for one in groups[:2]] == [numbers["APs"], numbers["APm"]]
    assert [one.recall for one in groups[:2]] == [numbers["ARs"], numbers["ARm"]]
    assert groups[2][1:] == (0, 0, None, None, None)  # no object is that large
    assert sum(one.objects for one in groups) == (~annotations.crowd).sum()


def test_groups_of_images_are_splits_of_their_own(evaluated):
    annotations, records = evaluated
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    count = np.bincount(owner[~annotations.crowd], minlength=len(annotations))
    groups = by_crowding(annotations, records)
    assert [one.name for one in groups] == ["1 object", "2 to 3", "4 to 7"]
    assert sum(one.images for one in groups) == (count > 0).sum() < len(annotations)
    indices = np.flatnonzero((count >= 2) & (count < 4))
    alone = summarize(annotations.select(indices), records.of_images(annotations.image_ids[indices]))
    assert (groups[1].ap, groups[1].ap50) == (alone.numbers["AP"], alone.numbers["AP50"])
    brightness = np.linspace(0, 255, len(annotations))
    quarters = by_brightness(annotations, records, brightness)
    assert [one.images for one in quarters] == [15, 15, 15, 15] and quarters[0].name == "0 to 64"
    assert [one.images for one in by_brightness(annotations, records, np.zeros(len(annotations)))] == [60]


def test_brightness_is_the_mean_of_the_pixels(digits):
    annotations = load_coco(digits / "instances_val.json")
    values = mean_brightness(annotations)
    assert values.shape == (len(annotations),) and values[3] == pytest.approx(annotations.read(3).mean())


def test_images_are_ranked_by_f1_and_errors_by_score(evaluated):
    annotations, records = evaluated
    errors = analyze_errors(annotations, records)
    counts = count_images(annotations, errors, 0.3)
    for i in range(len(annotations)):
        here = (errors.image == i) & (errors.scores >= 0.3) & errors.counts
        objects = int((~annotations.crowd[annotations.starts[i] : annotations.starts[i + 1]]).sum())
        row = (int((here & (errors.kind < 0)).sum()), int(here.sum()), objects)
        assert (counts.right[i], counts.predicted[i], counts.annotated[i]) == row
    best, worst = best_images(counts, 5), worst_images(counts, 5)
    known = counts.f1[counts.annotated > 0]
    assert (
        counts.f1[best].tolist() == sorted(known, reverse=True)[:5] and counts.f1[worst].tolist() == sorted(known)[:5]
    )
    assert len(worst_images(counts, 1000)) == len(known)  # as many as wanted, and no more than there are
    surprising = surprising_errors(errors, 4)
    assert len({int(errors.image[n]) for n in surprising}) == 4 and (errors.kind[surprising] >= 0).all()
    wrong = errors.scores[(errors.kind >= 0) & errors.counts]
    assert errors.scores[surprising[0]] == wrong.max() and (np.diff(errors.scores[surprising]) <= 0).all()
