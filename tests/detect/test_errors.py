"""The error budget, curves and confusion: by hand, by naive twins, and equal to the authors' package where it is."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.bad_records import BadRecords
from detect.data.sources.coco import from_coco
from detect.evaluation.coco_protocol import Records, summarize
from detect.evaluation.operating_points import class_curves
from detect.evaluation.tide import KINDS, analyze_errors, confusion, error_costs

OTHERS = os.environ.get("GRIDHEAD_TIDE", "")
needs_tide = pytest.mark.skipif(not OTHERS, reason="GRIDHEAD_TIDE names no interpreter with tidecv")

TWIN = """
import contextlib, io, json, sys
import numpy as np
if not hasattr(np, "float"): np.float = float
from tidecv import TIDE, Data
given = json.load(sys.stdin)
answers = []
for scene in given:
    truth, found = Data("truth", 100), Data("found", 100)
    for c in range(scene["classes"]): truth.add_class(c, str(c)); found.add_class(c, str(c))
    for i in range(scene["images"]): truth.add_image(i, str(i)); found.add_image(i, str(i))
    for image, label, box, crowd in scene["truth"]:
        (truth.add_ignore_region if crowd else truth.add_ground_truth)(image, label, box)
    for image, label, box, score in scene["found"]: found.add_detection(image, label, score, box)
    with contextlib.redirect_stdout(io.StringIO()):
        tide = TIDE()
        run = tide.evaluate(truth, found, mode=TIDE.BOX)
        main, special = run.fix_main_errors(), run.fix_special_errors()
    names = {"Cls": "classification", "Loc": "localization", "Both": "both", "Dupe": "duplicate",
             "Bkg": "background", "Miss": "missed", "FalsePos": "fp", "FalseNeg": "fn"}
    counts = {names[k.short_name]: len(v) for k, v in run.error_dict.items()}
    costs = {names[k.short_name]: float(v) / 100 for k, v in {**main, **special}.items()}
    answers.append({"ap": run.ap / 100, "counts": counts, "costs": costs})
print(json.dumps(answers))
"""


def scene(seed, images=6, classes=3):
    """Objects, and detections that are right, shifted, of another class, doubled, or of nothing; some crowd regions."""
    rng = np.random.default_rng(seed)
    ground_truth, found = [], []
    for i in range(images):
        for _ in range(int(rng.integers(0, 5))):
            box, label = [*rng.uniform(0, 200, 2), *rng.uniform(20, 80, 2)], int(rng.integers(classes))
            ground_truth.append((i, label, box, bool(rng.random() < 0.1)))
            for _ in range(int(rng.integers(0, 3))):
                shift = rng.normal(0, rng.choice([2, 15]), 4)
                other = label if rng.random() < 0.7 else int(rng.integers(classes))
                moved = [*np.add(box[:2], shift[:2]), *np.maximum(np.add(box[2:], shift[2:]), 5)]
                found.append((i, other, moved, float(rng.uniform(0.05, 1))))
        for _ in range(int(rng.integers(0, 3))):
            stray = [*rng.uniform(0, 200, 2), *rng.uniform(20, 80, 2)]
            found.append((i, int(rng.integers(classes)), stray, float(rng.uniform(0.05, 1))))
    plain = [[float(v) for v in row[2]] for row in (*ground_truth, *found)]
    ground_truth = [(i, label, plain[n], crowd) for n, (i, label, _, crowd) in enumerate(ground_truth)]
    found = [(i, label, plain[len(ground_truth) + n], score) for n, (i, label, _, score) in enumerate(found)]
    return {"images": images, "classes": classes, "truth": ground_truth, "found": found}


def held(made):
    """A scene as annotations and records."""
    record = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 300, "height": 300} for i in range(made["images"])],
        "categories": [{"id": c, "name": str(c)} for c in range(made["classes"])],
        "annotations": [
            {"id": n + 1, "image_id": i, "category_id": c, "bbox": box, "iscrowd": int(crowd), "area": box[2] * box[3]}
            for n, (i, c, box, crowd) in enumerate(made["truth"])
        ],
    }
    path = Path("scene.json")
    annotations = from_coco(record, path, path.parent, BadRecords(path, False))
    order = sorted(range(len(made["found"])), key=lambda n: made["found"][n][0])
    rows = [made["found"][n] for n in order]
    counts = np.bincount([row[0] for row in rows], minlength=made["images"]) if rows else np.zeros(made["images"], int)
    boxes = np.array([row[2] for row in rows], float).reshape(-1, 4)
    scores, labels = np.array([row[3] for row in rows], float), np.array([row[1] for row in rows], np.int64)
    return annotations, Records(np.arange(made["images"]), counts, boxes, scores, labels)


@needs_tide
def test_budgets_are_those_of_the_authors_package():
    scenes = [scene(seed) for seed in range(200)]
    scenes = [one for one in scenes if one["truth"] and one["found"]]
    done = subprocess.run([OTHERS, "-c", TWIN], input=json.dumps(scenes), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = dict.fromkeys(KINDS, 0)
    for one, reference in zip(scenes, json.loads(done.stdout), strict=True):
        ours = error_costs(analyze_errors(*held(one)), one["classes"])
        costs = {**ours.costs, "fp": ours.false_positives, "fn": ours.false_negatives}
        assert ours.counts == reference["counts"]
        assert ours.ap == pytest.approx(reference["ap"], abs=1e-12)
        assert costs == pytest.approx(reference["costs"], abs=1e-12)
        seen = {kind: seen[kind] + ours.counts[kind] for kind in KINDS}
    assert min(seen.values()) > 20


def box(x, y=0.0, side=10.0):
    return [float(x), float(y), side, side]


def test_each_kind_of_error_by_hand():
    made = {
        "images": 1,
        "classes": 2,
        "truth": [(0, 0, box(0), False), (0, 0, box(50), False), (0, 1, box(100), False), (0, 1, box(200), False)],
        "found": [
            (0, 0, box(0), 0.9),  # right
            (0, 0, box(1), 0.8),  # once more
            (0, 0, box(55), 0.7),  # too far off
            (0, 0, box(100), 0.6),  # of the other class
            (0, 0, box(150), 0.5),  # nothing is there
            (0, 1, box(55), 0.4),  # too far off, and of the other class
        ],
    }
    errors = analyze_errors(*held(made))
    assert [KINDS[k] if k >= 0 else "right" for k in errors.kind] == [
        *("right", "duplicate", "localization", "classification", "background", "both")
    ]
    found = error_costs(errors, 2)
    assert found.counts == dict.fromkeys(KINDS, 1)  # the last object is missed; two others errors could have found
    assert errors.lost.tolist() == [False, False, False, True] and errors.found.tolist() == [True, False, False, False]
    # Class 0: the first of five is right, of two objects: precision 1 up to recall 0.5; class 1 finds nothing.
    assert found.ap == pytest.approx(51 / 101 / 2)
    # Mended, the third finds the second object: precision 2/3 above recall 0.5.
    assert found.costs["localization"] == pytest.approx(50 / 101 * 2 / 3 / 2)
    # Of the other class: its box counts there, before the wrong one: precision 1 up to half of the objects.
    assert found.costs["classification"] == pytest.approx(51 / 101 / 2)


@given(st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_kinds_are_complete_and_ap_is_cocos_without_crowds(seed):
    made = scene(seed)
    made["truth"] = [(i, c, b, False) for i, c, b, _ in made["truth"]]
    annotations, records = held(made)
    errors = analyze_errors(annotations, records)
    assert sorted(errors.row.tolist()) == list(range(len(records.scores)))
    assert errors.found.sum() == (errors.kind < 0).sum() and not (errors.found & errors.lost).any()
    found = error_costs(errors, made["classes"])
    assert all(cost >= -1e-9 for cost in found.costs.values())
    every = {c for _, c, _, _ in made["truth"]}
    if every and {c for _, c, _, _ in made["found"]} <= every:  # COCO leaves classes without objects out of the mean
        per_class = [v for v in summarize(annotations, records).per_class_ap50.values() if v is not None]
        assert found.ap == pytest.approx(np.mean(per_class), abs=0.02)  # which of several objects is taken differs


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_curves_and_confusion_count_everything_once(seed):
    made = scene(seed)
    annotations, records = held(made)
    errors = analyze_errors(annotations, records)
    for label, curve in enumerate(class_curves(errors, made["classes"])):
        scores, precision, recall = curve.scores, curve.precision, curve.recall
        assert (np.diff(scores) < 0).all() and (np.diff(recall) >= 0).all() and (recall <= 1).all()
        right = sum(k < 0 and c == label for k, c in zip(errors.kind, errors.labels, strict=True))
        assert not len(scores) or precision[-1] == pytest.approx(right / curve.predicted[-1])
    table = confusion(annotations, records, 0.3)
    objects = np.bincount([c for _, c, _, crowd in made["truth"] if not crowd], minlength=made["classes"])
    assert table[:-1].sum(1).tolist() == objects.tolist() and table[-1, -1] == 0
    sure = np.bincount([c for _, c, _, s in made["found"] if s >= 0.3], minlength=made["classes"])
    assert (table[:, :-1].sum(0) <= sure).all()
    if not annotations.crowd.any():
        assert table[:, :-1].sum(0).tolist() == sure.tolist()


def test_nothing_found_and_nothing_to_find():
    empty = {"images": 2, "classes": 2, "truth": [], "found": []}
    found = error_costs(analyze_errors(*held(empty)), 2)
    assert found.ap == 0 and found.counts == dict.fromkeys(KINDS, 0) and confusion(*held(empty), 0.1).sum() == 0
    one = {**empty, "truth": [(0, 1, box(0), False)]}
    found = error_costs(analyze_errors(*held(one)), 2)
    assert found.ap == 0 and found.counts["missed"] == 1 and found.false_negatives == 0
    stray = {**empty, "found": [(1, 1, box(0), 0.5)]}
    assert error_costs(analyze_errors(*held(stray)), 2).counts["background"] == 1


def test_equal_scores_hide_no_cost():
    """One object is found, one is missed, and something is seen where nothing is, all with one score."""
    made = {
        "images": 1,
        "classes": 1,
        "truth": [(0, 0, box(0), False), (0, 0, box(50), False)],
        "found": [(0, 0, box(0), 0.5), (0, 0, box(150), 0.5)],
    }
    found = error_costs(analyze_errors(*held(made)), 1)
    assert found.ap == pytest.approx(51 / 101)
    assert found.costs["missed"] == pytest.approx(50 / 101)
    assert found.costs["background"] == pytest.approx(0)


@pytest.mark.parametrize("seed", range(20))
def test_no_corrected_error_lowers_ap_where_scores_are_few(seed):
    made = scene(seed)
    made["found"] = [(i, c, b, round(score)) for i, c, b, score in made["found"]]
    errors = analyze_errors(*held(made))
    whole = error_costs(errors, made["classes"])
    mixed = set(errors.object_labels[errors.found].tolist()) & set(errors.object_labels[errors.lost].tolist())
    assert not mixed or whole.costs["missed"] > 0  # of a class of which some is found, what is missed costs something
