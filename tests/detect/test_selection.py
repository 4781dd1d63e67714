"""`detect next`: each criterion beside a naive twin, the greedy choice, and the command from start to end."""

import csv
import json
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detect.__main__ import main
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.weights import save_weights
from detect.registry import REGISTRIES
from detect.selection.base import Criterion, lower_shares
from detect.selection.choose import choose, parse_criteria
from detect.selection.disagreement import Disagreement, compare
from detect.selection.diversity import Diversity
from detect.selection.margin import Margin, closeness
from detect.selection.pool import Labelled, Pool, objects_of
from detect.selection.rarity import Rarity
from detect.selection.uncertainty import Uncertainty, entropies
from detect.types import Classification, Detections
from tests.reference import selection as naive
from tests.reference.marks import slowly
from tests.reference.models import fitting, with_anchors
from tests.reference.runs import tiny_weights

CLASSES = ["nine", "ten", "ace"]


def detections(rng, most=8):
    """Some boxes close to one another, in order of their scores as a model gives them."""
    n = int(rng.integers(0, most + 1))
    low = rng.choice([0, 4, 8, 40], (n, 2)) + rng.random((n, 2))
    boxes = np.concatenate([low, low + rng.choice([10, 12], (n, 2))], 1)
    scores = np.sort(rng.random(n))[::-1].copy()
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(rng.integers(0, len(CLASSES), n), dtype=torch.int64),
    )


def plain(found):
    objects = naive.objects(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), len(CLASSES))
    return objects, [(found.boxes[best].tolist(), of_class) for best, of_class in objects]


def pool_of(results, **more):
    return Pool([f"{i}.jpg" for i in range(len(results))], results, CLASSES, **more)


SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_objects_entropy_and_margin_are_those_of_plain_loops(seed):
    found = detections(np.random.default_rng(seed))
    objects, expected = objects_of(found, len(CLASSES)), plain(found)[0]
    assert objects.best.tolist() == [best for best, _ in expected]
    np.testing.assert_allclose(objects.scores, np.array([s for _, s in expected]).reshape(-1, 3), atol=1e-6)
    np.testing.assert_allclose(entropies(objects), [naive.entropy(s, False) for _, s in expected], atol=1e-5)
    np.testing.assert_allclose(closeness(objects), [naive.closeness(s, False) for _, s in expected], atol=1e-5)


@given(SEEDS)
def test_disagreement_and_rarity_are_those_of_plain_loops(seed):
    rng = np.random.default_rng(seed)
    a, b, counts = detections(rng), detections(rng), rng.integers(0, 9, len(CLASSES)).astype(float)
    compared = compare(a, b, len(CLASSES))
    np.testing.assert_allclose(sorted(compared.losses), sorted(naive.losses(plain(a)[1], plain(b)[1])), atol=1e-5)
    pool = pool_of([a], labelled=Labelled(["x"], np.zeros((1, 0)), counts), views=[[b, a]])
    assert Rarity(pool).values[0] == pytest.approx(naive.rarity(plain(a)[0], counts.tolist()), abs=1e-5)
    assert Disagreement(pool).values[0] == pytest.approx(compared.losses.sum() / 2, abs=1e-5)  # a agrees with itself
    assert len(Disagreement(pool).reason(0)) and len(Rarity(pool).reason(0))


@given(SEEDS, st.integers(1, 12), st.integers(0, 3))
def test_diversity_alone_is_greedy_k_center(seed, count, labelled):
    rng = np.random.default_rng(seed)
    points, centers = rng.random((count, 2)), rng.random((labelled, 2))
    known = Labelled([f"l{i}" for i in range(labelled)], centers, np.zeros(3)) if labelled else None
    pool = pool_of([Detections.none()] * count, features=points, labelled=known)
    choices, _ = choose(pool.names, {"diversity": Diversity(pool)}, {"diversity": 1.0}, count, {}, {})
    chosen = [one.image for one in choices]
    assert sorted(chosen) == list(range(count))
    if labelled:
        assert chosen == naive.k_center(points.tolist(), centers.tolist(), count)
    else:
        away = [math.dist(p, points.mean(0)) for p in points]
        assert away[chosen[0]] == pytest.approx(min(away))
        assert chosen[1:] == naive.k_center(points.tolist(), [points[chosen[0]].tolist()], count)[: count - 1]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_shares_count_what_is_lower(values):
    expected = [naive.lower_share(values, i) for i in range(len(values))]
    np.testing.assert_allclose(lower_shares(np.array(values, float)), expected, atol=1e-9)


def test_classifiers_have_one_object_an_image():
    sure = Classification(torch.tensor([0.97, 0.02]), torch.tensor([2, 0]))
    torn = Classification(torch.tensor([0.5, 0.4]), torch.tensor([0, 1]))
    pool = pool_of([sure, torn], views=[[sure, sure], [sure, torn]])
    assert objects_of(torn, 3).scores[0].tolist() == pytest.approx([0.5, 0.4, 0.1], abs=1e-6)
    for kind in (Uncertainty, Margin, Disagreement):
        values = kind(pool).values
        assert values[1] > values[0]
        assert kind(pool).reason(1)
    assert Margin(pool).values[1] == pytest.approx(0.9, abs=1e-6)
    assert Uncertainty(pool).values[1] == pytest.approx(naive.entropy([0.5, 0.4, 0.1], True), abs=1e-5)
    p, q = objects_of(torn, 3).scores[0], objects_of(sure, 3).scores[0]
    assert Disagreement(pool).values[1] == pytest.approx(naive.divergence(p, q) / 2, abs=1e-5)


@pytest.mark.parametrize("name", REGISTRIES["criterion"])
def test_every_criterion_takes_images_without_predictions_and_no_images(name):
    kind = REGISTRIES["criterion"][name]
    for count in (0, 3):
        pool = pool_of([Detections.none()] * count, views=[[Detections.none()]] * count, features=np.ones((count, 4)))
        made = kind(pool)
        assert made.shares().shape == (count,) and np.isfinite(made.shares()).all()
        assert all(made.reason(i) for i in range(count))


def test_values_of_objects_become_one_of_the_image():
    values = np.array([1.0, 3.0])
    assert [pool_of([], per_image=how).of_image(values) for how in ("sum", "mean", "max")] == [4, 2, 3]
    assert [pool_of([], per_image=how).of_image(values[:0]) for how in ("sum", "mean", "max")] == [0, 0, 0]


class Fixed(Criterion):
    def __init__(self, values):
        self.values = np.array(values, float)

    def reason(self, image):
        return f"value {self.values[image]:g}"


def test_near_duplicates_of_chosen_and_labelled_images_are_left_out():
    criteria = {"fixed": Fixed([5, 4, 3, 2, 1])}
    choices, left_out = choose("abcde", criteria, {"fixed": 2.0}, 3, {0: [1], 1: [0]}, {2: "known.jpg"})
    assert [one.image for one in choices] == [0, 3, 4]
    assert choices[0].score == 1.0 and choices[0].parts["fixed"].text == "value 5"
    assert [(one.image, one.twin, one.labelled) for one in left_out] == [(2, "known.jpg", True), (1, "a", False)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["uncertainty=1", "Uncertainty=2"], "names Uncertainty twice"),
        (["uncertaint=1"], "did you mean 'uncertainty'"),
        (["margin=x"], "'x' is no weight"),
        (["margin=-1"], "'-1' is no weight"),
        (["margin=nan"], "'nan' is no weight"),
        ([], "--criteria is empty"),
    ],
)
def test_wrong_criteria_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        parse_criteria(given)
    assert parse_criteria(["margin", "rarity=0.5"]) == {"margin": 1.0, "rarity": 0.5}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def photos(digits, tmp_path_factory):
    """The images of the embedded set; the first is there twice, as another file."""
    folder = tmp_path_factory.mktemp("photos")
    names = sorted(p for p in (digits / "val").iterdir())[:5]
    for i, path in enumerate(names):
        cv2.imwrite(str(folder / f"p{i}.png"), cv2.imread(str(path)))
    cv2.imwrite(str(folder / "p5.png"), np.clip(cv2.imread(str(folder / "p0.png")).astype(int) + 1, 0, 255))
    return folder


def test_the_command_from_start_to_end(weights, photos, digits, tmp_path, capsys):
    out = tmp_path / "next"
    every = [f"{name}=1" for name in REGISTRIES["criterion"]]
    words = ["next", "--weights", str(weights), "--budget", "4", "--imgsz", "64", "--device", "cpu", "--conf", "0.001"]
    assert main([*words, "--source", str(photos), "--out", str(out), "--criteria", *every, "--data", str(digits)]) == 0
    said = capsys.readouterr()
    assert "4 of 6 images, beside 16 labelled ones" in said.out and "1 image left out" in said.out
    content = json.loads((out / "next.json").read_text())
    chosen, (twin,) = content["chosen"], content["left_out"]
    assert [one["rank"] for one in chosen] == [1, 2, 3, 4]
    assert set(chosen[0]["criteria"]) == set(REGISTRIES["criterion"])
    assert {twin["image"].rpartition("/")[2], twin["like"]} == {"p0.png", "p5.png"}
    with (out / "next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == (out / "images.txt").read_text().splitlines()
    assert all(row["reasons"] and 0 <= float(row["score"]) <= 1 for row in rows)
    page = (out / "next.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "http" not in page.replace("http-equiv", "")

    again = tmp_path / "again"  # the list is a source, and the choice is always the same
    source = ["--source", str(out / "images.txt"), "--out", str(again)]
    assert main([*words, *source, "--criteria", *every, "--data", str(digits)]) == 0
    first = json.loads((again / "next.json").read_text())
    assert main([*words, *source, "--criteria", *every, "--data", str(digits)]) == 0  # replaces its own files
    assert json.loads((again / "next.json").read_text()) == first
    assert "only 4 images" not in capsys.readouterr().err and len(first["chosen"]) == 4


KINDS = ["yolo_seg", "yolo_points", "classifier", "embedder", *slowly("yolo_obb", "faster_rcnn", "landmarker")]


@pytest.mark.parametrize("kind", KINDS)
def test_detectors_of_all_kinds_and_classifiers_are_taken(kind, photos, digits, tmp_path, capsys):
    torch.manual_seed(0)
    small = {"name": kind, "backbone": "lenet5" if kind in ("classifier", "embedder") else "csp_n"}
    config = with_anchors(fitting(kind, **small, width=16, levels=[3], neck="straight", head_convs=0))
    points = ["left", "right"] if config.task in ("keypoints", "landmarks") else []
    metadata = ModelMetadata([str(i) for i in range(10)], list(range(1, 11)), 64, keypoint_names=points)
    save_weights(tmp_path / "w.safetensors", build(config, metadata))
    every = [f"{name}=1" for name in REGISTRIES["criterion"]]
    words = ["next", "--weights", str(tmp_path / "w.safetensors"), "--source", str(photos), "--criteria", *every]
    words += ["--device", "cpu", "--conf", "0.001", "--budget", "2", "--out", str(tmp_path / "out")]
    taken = config.task in ("segment", "obb", "keypoints", "classify", "detect")
    assert main(words) == (0 if taken else 2)
    if taken:
        assert len(json.loads((tmp_path / "out" / "next.json").read_text())["chosen"]) == 2
    else:
        said = capsys.readouterr().err.strip()
        assert "detect next takes classifiers of images, and detectors" in said and "\n" not in said


def test_images_without_a_prediction_are_counted(weights, photos, tmp_path, capsys):
    words = ["next", "--weights", str(weights), "--source", str(photos), "--out", str(tmp_path / "out"), "--conf", "1"]
    assert main([*words, "--budget", "2", "--device", "cpu"]) == 0
    assert "nothing is predicted in 6 of 6 images" in capsys.readouterr().err
    assert len((tmp_path / "out" / "images.txt").read_text().splitlines()) == 2


def test_files_of_the_user_stay(weights, photos, tmp_path, capsys):
    words = ["next", "--weights", str(weights), "--source", str(photos), "--out", str(tmp_path)]
    for name in ("images.txt", "next.csv", "next.json", "next.html"):
        (tmp_path / name).write_text("mine")
        assert main(words) == 2
        assert name in capsys.readouterr().err and (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()


def test_mistakes_are_told_in_a_line(weights, photos, tmp_path, capsys):
    listed = tmp_path / "list.txt"
    listed.write_text("missing.jpg\n")
    words = ["next", "--weights", str(weights), "--out", str(tmp_path / "out"), "--source"]
    for source, said in ((listed, "list.txt:1: 'missing.jpg' is no file"), (tmp_path / "none", "no such file")):
        assert main([*words, str(source)]) == 2
        assert said in capsys.readouterr().err
    listed.write_text(f"{photos / 'p0.png'}\n\nnotes.doc\n")
    assert main([*words, str(listed)]) == 2
    assert "list.txt:3: 'notes.doc' is not named as an image or video" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
