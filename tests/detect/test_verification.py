"""Verification and identification: measures of pairs, galleries, commands from folders of people to answers."""

import dataclasses
import json
import signal
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detect.__main__ import main
from detect.cli.parser import parse
from detect.data.alignment import Pose
from detect.data.datasets.crops import Crops
from detect.data.images import read_image
from detect.data.sources.formats import load_data
from detect.embedding import image_embedder as command
from detect.embedding.gallery import Gallery
from detect.errors import UserError
from detect.evaluation.verification import PairEvaluator, all_pairs, measure, pair_distances, pair_lines, threshold
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.embedder import EmbedderConfig, EmbedderLossConfig
from detect.models.weights import load_weights, save_weights
from detect.training.setup import train
from detect.types import Detections, Distance, Embedding, Frame, Postprocess
from tests.reference import embeddings as naive
from tests.reference.doom import doomed
from tests.reference.runs import remains, rows, status
from tests.reference.runs import settings as settings_of

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = ["--device", "cpu", "--precision", "float32", "--workers", "0"]
numbers = st.lists(st.integers(0, 12).map(lambda v: v / 4), min_size=1, max_size=12)


@given(same=numbers, different=numbers)
@settings(deadline=None)
def test_measures_are_those_of_the_plain_loops(same, different):
    distances = np.array(same + different)
    ground_truth = np.arange(len(distances)) < len(same)
    found = measure(distances, ground_truth)
    assert found["auc"] == pytest.approx(naive.area(same, different))
    assert found["tar_1pct"] == pytest.approx(naive.true_accepts(same, different, 0.01))
    assert found["tar_01pct"] == pytest.approx(naive.true_accepts(same, different, 0.001))
    assert found["eer"] == pytest.approx(naive.equal_error(same, different), abs=0.01)
    false, true = naive.rates(same, different, found["thresholds"]["accuracy"])
    assert (true + 1 - false) / 2 == pytest.approx(naive.best_accuracy(same, different))
    assert naive.rates(same, different, found["thresholds"]["far_1pct"])[0] <= 0.01
    assert (found["same"], found["different"]) == (len(same), len(different))
    assert found["accuracy"] == -1 or 0 <= found["accuracy"] <= 1
    assert found["roc"][0] == [0, 0] and found["roc"][-1] == [1, 1]
    json.dumps(found)
    assert len(list(pair_lines(found))) == 3


def test_accuracy_is_measured_on_pairs_that_did_not_choose_the_threshold():
    rng = np.random.default_rng(0)
    ground_truth = np.arange(400) < 100
    apart_by = np.where(ground_truth, 0.0, 1.0) + rng.normal(0, 0.05, 400)
    assert measure(apart_by, ground_truth)["accuracy"] == 1  # and unequal numbers do not matter
    noise = rng.random(60)
    chosen = naive.best_accuracy(noise[:30].tolist(), noise[30:].tolist())
    assert measure(noise, np.arange(60) < 30)["accuracy"] < chosen
    assert threshold(apart_by, ground_truth) == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize(("same", "different"), [(0, 0), (3, 0), (0, 3)])
def test_without_pairs_of_both_kinds_nothing_is_measured(same, different):
    found = measure(np.ones(same + different), np.arange(same + different) < same)
    assert {found[name] for name in ("auc", "eer", "tar_1pct", "tar_01pct", "accuracy")} == {-1}
    assert found["thresholds"] == {} and len(list(pair_lines(found))) == 2


@given(labels=st.lists(st.integers(0, 4), max_size=14), most=st.integers(2, 30))
@settings(deadline=None)
def test_pairs_are_all_of_them_or_a_drawn_part(labels, most):
    labels = np.array(labels, dtype=np.int64)
    first, second, same = all_pairs(labels, most)
    every = {(i, j) for i in range(len(labels)) for j in range(i + 1, len(labels))}
    found = {tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert np.array_equal(same, labels[first] == labels[second]) and found <= every
    if len(every) <= most:
        assert found == every and len(first) == len(every)
    else:
        ones = sum(labels[i] == labels[j] for i, j in every)
        assert len(first) <= most and same.sum() == min(ones, most // 2)
        assert all(np.array_equal(a, b) for a, b in zip((first, second), all_pairs(labels, most)[:2], strict=True))


def test_of_a_person_with_very_many_images_a_part_is_drawn():
    labels = np.repeat([0, 1], [300_000, 9])  # 45,000,000,000 pairs of one person
    first, second, same = all_pairs(labels)
    assert same.sum() == 100_000 == len(set(zip(first[same].tolist(), second[same].tolist(), strict=True)))
    assert np.array_equal(same, labels[first] == labels[second]) and (first != second).all()
    assert first.max() > 290_000 and first.min() < 10_000


def test_distances_of_many_pairs_are_those_of_each():
    values = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    first, second = np.random.default_rng(1).integers(30, size=(2, 9000))
    for distance in (Distance(), Distance(np.linspace(-1, 1, 5), 0.5)):
        found = pair_distances(values, first, second, distance)
        assert found.shape == (9000,)
        i, j = first[8999], second[8999]
        assert found[8999] == pytest.approx(float(distance(values[i], values[j])))
    assert float(Distance(np.ones(2), 0.5)(np.zeros(2), np.array([1.0, -2.0]))) == 2.5
    assert float(Distance()(np.zeros(2), np.array([3.0, 4.0]))) == 5


def portrait(person: int, rng: np.random.Generator) -> np.ndarray:
    """A person is a bar at an angle of his own, a little displaced, in noise."""
    image = rng.integers(0, 60, (40, 36, 3)).astype(np.uint8)
    angle, shift = person * np.pi / 7, rng.integers(-2, 3, 2)
    way = 16 * np.array([np.cos(angle), np.sin(angle)])
    start, end = ((np.array([18, 20]) + shift + sign * way).round().astype(int).tolist() for sign in (-1, 1))
    return cv2.line(image, start, end, (220, 220, 220), 5)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """train/ and val/, each with a folder a person: five and two people."""
    root, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    for split, names in (("train", "abcde"), ("val", "fg")):
        for person in names:
            folder = root / split / person
            folder.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(portrait(ord(person) - ord("a"), rng)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def weights(one_thread, people, tmp_path_factory):
    out = tmp_path_factory.mktemp("embedder") / "run"
    flags = ["--model", "embedder", "--model.backbone", "lenet5", "--model.in_channels", "1", "--imgsz", "32"]
    flags += [
        "--model.dimensions",
        "8",
        "--batch",
        "12",
        "--images-per-identity",
        "3",
        "--epochs",
        "6",
        "--optim.name",
        "adamw",
    ]
    flags += ["--optim.lr", "0.01", "--optim.warmup", "0", "--augment.flip", "0", *CPU]
    assert main(["train", "--data", str(people), "--out", str(out), *flags]) == 0
    return out / "best.safetensors"


def test_a_run_has_its_measures_its_report_and_its_thresholds(people, weights, tmp_path, capsys):
    history = rows(weights.parent)
    assert {"triplet", "auc", "eer", "tar_1pct", "tar_01pct", "accuracy"} <= history[0].keys()
    assert "true accepts by false accepts" in (weights.parent / "report.html").read_text()
    evaluate = ["evaluate", "--weights", str(weights), "--data", str(people), *CPU]
    assert main([*evaluate, "--json", str(tmp_path / "1.json")]) == 0
    found = json.loads((tmp_path / "1.json").read_text())
    best = max(history, key=lambda row: (row["auc"], row["epoch"]))
    assert found["auc"] == pytest.approx(best["auc"]) and (found["same"], found["different"]) == (30, 36)
    assert load_weights(weights).metadata.thresholds == pytest.approx(found["thresholds"], rel=1e-4)
    assert "auc" in capsys.readouterr().out
    pairs = tmp_path / "pairs.csv"
    table = "\ufeffA, b ,Same\r\nval/f/0.png,val/f/1.png,1\r\nval/f/0.png, val/g/1.png, No\r\n"  # as spreadsheets write
    pairs.write_text(table, encoding="utf-8", newline="")
    assert main([*evaluate, "--pairs", str(pairs), "--json", str(tmp_path / "2.json")]) == 0
    found = json.loads((tmp_path / "2.json").read_text())
    assert (found["same"], found["different"]) == (1, 1) and found["auc"] in (0, 1)


def test_thresholds_over_cached_features_are_those_of_images_with_their_mirror_images(people, tmp_path):
    flags = ["--model", "embedder", "--model.backbone", "lenet5", "--model.in_channels", "1", "--imgsz", "32"]
    flags += ["--model.dimensions", "8", "--batch", "12", "--epochs", "2", "--optim.lr", "0.01", "--multi-scale", "0"]
    flags += ["--model.mirror", "true", "--freeze", "-1", "--cache-features", "true", "--augment.on", "false", *CPU]
    assert main(["train", "--data", str(people), "--out", str(tmp_path / "run"), *flags]) == 0
    best = tmp_path / "run" / "best.safetensors"
    evaluate = ["evaluate", "--weights", str(best), "--data", str(people), "--json", str(tmp_path / "1.json"), *CPU]
    assert main(evaluate) == 0
    found = json.loads((tmp_path / "1.json").read_text())
    assert found["thresholds"] == pytest.approx(load_weights(best).metadata.thresholds, rel=1e-3)


def test_a_gallery_knows_who_is_in_it_and_who_is_not(people, weights, tmp_path, capsys):
    known, out = tmp_path / "known", str(tmp_path / "g.safetensors")
    for person in "ab":  # one image each: one in a folder, one called as its person
        image = people / "train" / person / "0.png"
        copy = known / person / "x.png" if person == "a" else known / "b.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(image.read_bytes())
    assert main(["embed", "--weights", str(weights), "--source", str(known), "--out", out, *CPU[:4]]) == 0
    assert "2 images of 2 people" in capsys.readouterr().out
    gallery = Gallery.load(tmp_path / "g.safetensors")
    assert gallery.people == ["a", "b"] and gallery.files == ["a/x.png", "b.png"] and gallery.vectors.shape == (2, 8)
    asked = ["identify", "--gallery", out, "--source", str(people / "train" / "a" / "0.png"), *CPU[:4]]
    assert main([*asked, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["person"] == record["nearest"] == "a" and record["distance"] == pytest.approx(0, abs=1e-5)
    assert record["threshold"] == load_weights(weights).metadata.thresholds["far_1pct"]
    stranger = [*asked[:3], "--source", str(people / "val" / "g" / "0.png"), "--threshold", "1e-6", *CPU[:4]]
    assert main(stranger) == 0
    assert capsys.readouterr().out.startswith("0.png: unknown (nearest ")


def test_a_gallery_replaces_nothing_but_a_gallery(people, weights, tmp_path, capsys):
    (copy := tmp_path / "w.safetensors").write_bytes(weights.read_bytes())
    (image := tmp_path / "p.png").write_bytes((people / "val" / "f" / "0.png").read_bytes())
    asked = ["embed", "--weights", str(copy), "--source", str(image), *CPU[:4], "--out"]
    for out in (copy, image, tmp_path):
        assert main([*asked, str(out)]) == 2
        assert f"{out} exists and is not a gallery file that gridhead wrote" in capsys.readouterr().err
    assert copy.read_bytes() == weights.read_bytes() and sorted(tmp_path.iterdir()) == [image, copy]
    for _ in range(2):
        assert main([*asked, str(tmp_path / "g")]) == 0


def test_weights_that_change_meanwhile_do_not_pass_for_those_that_made_a_gallery(
    people, weights, tmp_path, capsys, monkeypatch
):
    (copy := tmp_path / "w.safetensors").write_bytes(weights.read_bytes())

    def changed(*args):
        model = load_weights(copy)
        save_weights(copy, build(model.config, model.metadata))
        return read_image(*args)

    monkeypatch.setattr("detect.data.images.read_image", changed)
    asked = ["--source", str(people / "val" / "f" / "0.png"), *CPU[:4]]
    assert main(["embed", "--weights", str(copy), "--out", str(tmp_path / "g"), *asked]) == 0
    assert main(["identify", "--gallery", str(tmp_path / "g"), *asked]) == 2
    assert "was not built with" in capsys.readouterr().err


def test_verify_says_the_distance_of_two_images(people, weights, capsys):
    one, other = (str(people / "val" / name) for name in ("f/0.png", "g/0.png"))
    for words in ([one, one, "--weights", str(weights)], ["--weights", str(weights), one, one]):
        assert main(["verify", *words, *CPU[:4]]) == 0
        assert capsys.readouterr().out.startswith("distance 0.0000, threshold ")
    assert main(["verify", one, other, "--weights", str(weights), "--json", "--threshold", "9", *CPU[:4]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"] and found["threshold"] == 9 and 0 < found["distance"] <= 2


@pytest.fixture
def finders(monkeypatch):
    """Detector.load with finders by name: one whose box is the left half, one whose points lie a quarter turn off."""
    load, views = command.Detector.load, []

    class Fake:
        def __init__(self, task: str, found: Detections, shape: list[list[float]]) -> None:
            self.model, self.found = SimpleNamespace(task=task), found
            self.metadata = ModelMetadata(["a"], [1], size=64, shape=shape)

        def predictor(self, keep: Postprocess):
            def answer(frames):
                for frame in frames:
                    views.append(frame.image)
                    yield frame, self.found

            return answer

    def row(box: list[float], points: list[list[float]] | None) -> Detections:
        where = None if points is None else torch.tensor([points])
        return Detections(torch.tensor([box]), torch.tensor([0.9]), torch.zeros(1).long(), where)

    fakes = {
        "left": Fake("detect", row([0.0, 0, 16, 40], None), []),
        "turned": Fake("landmarks", row([5.0, 5, 6, 25], [[5.0, 5, 1], [5, 25, 1]]), [[0.25, 0.5], [0.75, 0.5]]),
    }
    monkeypatch.setattr(command.Detector, "load", lambda path, *rest: fakes.get(Path(path).name) or load(path, *rest))
    return views


def test_what_finders_find_is_cut_out_one_after_the_other(weights, finders):
    image = np.random.default_rng(0).integers(0, 256, (40, 36, 3)).astype(np.uint8)
    plain = command.ImageEmbedder([str(weights)], [], "cpu", "float32")
    both = command.ImageEmbedder([str(weights)], ["left", "turned"], "cpu", "float32")
    got = both(Frame(image, "p"))
    whole, cut = finders
    assert whole is image and np.array_equal(cut, image[:, :32])  # the box, its margin, and as wide as it is high
    view = Pose.of(np.array([[5.0, 5, 1], [5, 25, 1]]), np.array([[0.25, 0.5], [0.75, 0.5]])).view(cut)
    assert view.shape == (40, 40, 3) and np.array_equal(got, plain(Frame(view, "p")))
    turned = command.ImageEmbedder([str(weights)], ["turned"], "cpu", "float32")(Frame(image, "p"))
    assert not np.allclose(turned, plain(Frame(image, "p")), atol=1e-3)


def test_a_gallery_remembers_what_cut_its_images_out(people, weights, finders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("left", "turned"):
        (tmp_path / name).touch()
    image, out = people / "val" / "f" / "0.png", str(tmp_path / "g")
    named = ["--detector", "left", "--detector", "turned"]
    assert main(["embed", "--weights", str(weights), "--source", str(image), "--out", out, *named, *CPU[:4]]) == 0
    kept = [path for path, _ in Gallery.load(tmp_path / "g").detectors]
    assert kept == [str(tmp_path / "left"), str(tmp_path / "turned")]
    capsys.readouterr()
    near = []
    for words in ([], named, ["--detector", "left"], ["--detector", "[]"]):
        assert main(["identify", "--gallery", out, "--source", str(image), "--json", *words, *CPU[:4]]) == 0
        near.append(json.loads(capsys.readouterr().out)[0]["distance"])
    assert near[:2] == pytest.approx([0, 0], abs=1e-5) and min(near[2:]) > 1e-3
    (tmp_path / "left").write_text("trained again")
    assert main(["identify", "--gallery", out, "--source", str(image), *CPU[:4]]) == 2
    assert f"built with another {tmp_path / 'left'}" in capsys.readouterr().err
    (tmp_path / "left").unlink()
    assert main(["identify", "--gallery", out, "--source", str(image), *CPU[:4]]) == 2
    assert f"built with {tmp_path / 'left'}, which is not there" in capsys.readouterr().err


def test_words_that_belong_to_no_flag_have_names():
    for words in (["x", "y", "--weights", "w"], ["--weights", "w", "x", "y"], ["x", "--json", "y", "--weights=w"]):
        got = parse("verify", words)
        assert (got.a, got.b, got.weights) == ("x", "y", ["w"])
    for words in (
        ["x", "y", "--weights", "w", "v"],
        ["--weights", "w", "v", "x", "y"],
        ["x", "--weights", "w", "v", "y"],
    ):
        got = parse("verify", words)
        assert (got.a, got.b, got.weights) == ("x", "y", ["w", "v"])
    with pytest.raises(UserError, match="'z' belongs to no flag"):
        parse("verify", ["x", "y", "z", "--weights", "w"])


@pytest.fixture(scope="module")
def broken(people, weights, tmp_path_factory):
    """What can go wrong, by name."""
    root = tmp_path_factory.mktemp("broken")
    for name in ("empty", "bad", "one"):
        (root / name).mkdir()
    (root / "bad" / "p.png").write_bytes(b"no image")
    for person in "fg":
        (root / "two" / person).mkdir(parents=True)
        (root / "two" / person / "0.png").write_bytes((people / "val" / person / "0.png").read_bytes())
    (root / "notes.txt").write_text("text")
    Image.new("RGB", (3, 1)).save(root / "one" / "thin.png")
    main(
        ["embed", "--weights", str(weights), "--source", str(people / "val"), "--out", str(root / "g"), "--device=cpu"]
    )
    model = load_weights(weights)
    save_weights(root / "other.safetensors", build(model.config, model.metadata))
    bare = load_weights(weights)
    bare.calibrate({"thresholds": {}})
    save_weights(root / "bare.safetensors", bare)
    config = parse("train", ["--data", "toy", "--model", "yolo_n"]).model
    save_weights(root / "detector.safetensors", build(config, ModelMetadata(["a"], [1], size=64)))
    points = parse("train", ["--data", "toy", "--model", "landmarker"]).model
    metadata = ModelMetadata(["a"], [1], size=64, keypoint_names=["p", "q"], flip_pairs=[])
    save_weights(root / "points.safetensors", build(points, metadata))
    save_weights(
        root / "align.safetensors", build(points, dataclasses.replace(metadata, shape=[[0.3, 0.5], [0.7, 0.5]]))
    )
    Gallery(np.zeros((0, 8), np.float32), [], [], [(str(weights), "")], [1.0]).save(root / "nobody")
    Gallery(np.zeros((1, 8), np.float32), ["a"], ["a"], [(str(root / "gone"), "")], [1.0]).save(root / "orphan")
    (root / "p1.csv").write_text("a,b\n1,2\n")
    (root / "p2.csv").write_text("a,b,same\nval/f/0.png,val/x.png,1\n")
    (root / "p3.csv").write_text("a,b,same\nval/f/0.png,val/f/1.png,maybe\n")
    (root / "p4.csv").write_text("a,b,same\n")
    (root / "p5.csv").write_text("a,b,same\nval/f/0.png,val/f/1.png,1\nval/f/0.png,val/f/2.png,yes\n")
    (root / "p6.csv").write_text("a,b,same\nval/f/0.png,val/g/1.png,0\n")
    (root / "p7.csv").write_text("a,b,same\nval/f/0.png,val/f/1.png,1\nval/f/0.png,val/f/0.png,1\n")
    (root / "p8.csv").write_text("a,b,same\nval/f/0.png,val/f/1.png\n")
    return root


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("embed --weights {w} --source {b}/empty", "no image in it"),
        ("embed --weights {w} --source {b}/bad", "p.png"),
        ("embed --weights {w} --source {b}/gone", "no such file or folder"),
        ("evaluate --weights {b} --data {p}", "but a folder: name the file in it"),
        ("identify --gallery {b}/empty --source {b}/empty", "but a folder: name the file in it"),
        ("identify --gallery {b}/g --source {b}", "for those in its folders put /**/* after its name"),
        ("embed --weights {b}/detector.safetensors --source {p}/val", "is no embedder"),
        (
            "embed --weights {w} --source {p}/val --detector {b}/detector.safetensors",
            "find nothing in any of 12 images",
        ),
        ("embed --weights {w} --source {p}/val --detector {w}", "is no detector"),
        ("embed --weights {w} --source {p}/val --detector {b}/points.safetensors", "has no mean shape"),
        (
            "verify {p}/val/f/0.png {p}/val/f/1.png --weights {w} --detector {b}/align.safetensors "
            "--detector {b}/detector.safetensors",
            "align.safetensors and {b}/detector.safetensors detect nothing in it",
        ),
        ("verify {p}/val/f/0.png {b}/gone.png --weights {w}", "gone.png"),
        ("verify {p}/val/f/0.png --weights {w}", "needs --b"),
        ("verify {p}/val/f/0.png {p}/val/f/1.png --weights {b}/bare.safetensors", "give --threshold"),
        ("verify {p}/val/f/0.png {p}/val/f/1.png --weights {w} --detector {b}/detector.safetensors", "f/0.png: "),
        ("identify --gallery {b}/nobody --source {p}/val/f", "empty gallery"),
        ("identify --gallery {b}/orphan --source {p}/val/f", "which is not there"),
        ("identify --gallery {b}/notes.txt --source {p}/val/f", "not a gallery that can be read"),
        ("identify --gallery {w} --source {p}/val/f", "is not a gallery"),
        ("identify --gallery {b}/g --source {p}/val/f --weights {b}/other.safetensors", "was not built with"),
        ("identify --gallery {b}/g --source {b}/empty", "no image or video"),
        ("predict --weights {w} --source {p}/val/f --out {b}/out", "is an embedder"),
        ("export --weights {w} --data {p}", "is an embedder"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p1.csv", "columns a, b, same; its first line has: a, b"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p2.csv", "line 2: 'val/x.png' is not in"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p3.csv", "line 2: same is 'maybe'"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p4.csv", "p4.csv: the table is empty"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p5.csv", "p5.csv: all pairs are of one identity"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p6.csv", "p6.csv: all pairs are of two identities"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p7.csv", "line 3: a and b are one image, val/f/0.png"),
        ("evaluate --weights {w} --data {p} --pairs {b}/p8.csv", "line 2: same is ''"),
        ("evaluate --weights {w} --data {p} --tta", "--tta is for detectors"),
        ("train --model embedder --data {p} --out {b}/o --batch 40 --images-per-identity 4", "take --batch 20 at most"),
        (
            "train --model embedder --data {b}/two --out {b}/o",
            "of 2 classes, two become the split val and none is left",
        ),
        ("train --model embedder --data {p} --out {b}/o --batch 10 --images-per-identity 4", "no multiple"),
        (
            "train --model embedder --data {p} --out {b}/o --model.loss.kind siamese --model.loss.margin 1",
            "is read with",
        ),
    ],
)
def test_every_mistake_is_one_line(people, weights, broken, capsys, words, said):
    command, *rest = words.format(p=people, w=weights, b=broken).split()
    capsys.readouterr()
    workers = ["--workers", "0"] if command in ("train", "evaluate") else []
    device = [] if command == "export" else ["--device", "cpu"]
    assert main([command, *rest, *workers, *device]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("left out: ")]
    assert said.format(b=broken) in lines[-1] and len(lines) == 1, lines


def test_a_image_of_any_size_has_a_vector(weights, broken, tmp_path, capsys):
    out = str(tmp_path / "g")
    assert (
        main(["embed", "--weights", str(weights), "--source", str(broken / "one"), "--out", out, "--device=cpu"]) == 0
    )
    assert np.isfinite(Gallery.load(tmp_path / "g").vectors).all()


def test_vectors_come_once_and_of_known_crops(people):
    crops = Crops.of(load_data(people, "val", image_level_labels="classes"))
    found = [
        Embedding(np.random.default_rng(i).normal(size=3).astype(np.float32), Distance()) for i in range(len(crops))
    ]
    whole, parts = PairEvaluator(crops), [PairEvaluator(crops) for _ in range(2)]
    assert whole.result()["auc"] == -1
    whole.update(crops.ids.tolist(), found)
    for i, one in enumerate(parts):
        one.update(crops.ids[i::2].tolist(), found[i::2])
    parts[0].extend(parts[1].records())
    assert parts[0].result() == whole.result()
    with pytest.raises(ValueError, match="twice"):
        whole.update([int(crops.ids[0])], found[:1])
    with pytest.raises(ValueError, match="not known"):
        whole.update([10**6], found[:1])
    with pytest.raises(ValueError, match="1 crops for 0"):
        whole.update([1], [])


def test_the_table_has_the_baselines_and_the_rows(people, tmp_path, capsys):
    pytest.importorskip("skimage", reason="histograms of gradients are scikit-image's")
    from tools import verify

    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    (data / "train").symlink_to(people / "train")
    (data / "test").symlink_to(people / "val")
    flags = [
        "--imgsz",
        "32",
        "--batch",
        "6",
        "--images-per-identity",
        "3",
        "--epochs",
        "1",
        "--model.backbone",
        "lenet5",
        *CPU,
    ]
    asked = ["--data", str(data), "--out", str(out), "--val-people", "2", *flags]
    assert (
        verify.main(
            [*asked, "--row", "random: --model.loss.mining random", "--row", "twins: --model.loss.kind siamese"]
        )
        == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| pixels",
        "| pixels, LDA",
        "| HOG, LDA",
        "| random",
        "| twins",
    ]
    assert load_weights(out / "twins" / "best.safetensors").config.loss.kind == "siamese"
    table = out / "data" / "identities.csv"
    found = {
        one: load_data(table, one, image_level_labels="classes", allow_outside=True) for one in ("train", "val", "test")
    }
    assert [len(annotations) for annotations in found.values()] == [18, 12, 12]
    told = json.loads((out / "results.json").read_text())
    assert told["twins"]["minutes"] > 0 and told["pixels"]["same"] == 30
    assert verify.main(asked) == 0  # what is done is not done again
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")] == lines
    assert verify.main(["--data", str(tmp_path / "out"), "--out", str(out)]) == 2
    assert "has no people" in capsys.readouterr().err


def test_more_people_join_the_training_alone(people, tmp_path):
    from tools import verify

    for name in ("data", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train").symlink_to(people / "train")
        (tmp_path / name / "test").symlink_to(people / "val")
    alone = verify.prepared(tmp_path / "data", None, 2, tmp_path / "alone")
    joined = verify.prepared(tmp_path / "data", tmp_path / "others", 2, tmp_path / "joined")
    before, after = (set(table.read_text().splitlines()) for table in (alone, joined))
    new = [line.split(",") for line in sorted(after - before)]
    assert before < after and {split for _, _, split in new} == {"train"}
    assert all(who.startswith("more/") and file.startswith("more/train/") for who, file, _ in new)
    counts = [len(load_data(joined, one, False, "classes", True)) for one in ("train", "val", "test")]
    assert counts == [18 + len(new), 12, 12]


def test_an_embedder_killed_and_resumed_is_as_never_killed(people, tmp_path):
    """Random triplets are drawn by the seed of the step, and batches by the place in the epoch."""
    loss = EmbedderLossConfig(mining="random")
    model = EmbedderConfig(name="e", backbone="lenet5", dimensions=4, loss=loss)
    given = {
        "task": "embed",
        "model": model,
        "imgsz": 32,
        "batch": 12,
        "images_per_identity": 3,
        "multi_scale": 0.0,
        "save_steps": 2,
    }
    whole, killed = (settings_of(people, tmp_path / name, **given) for name in ("whole", "killed"))
    train(whole)
    assert status(doomed, killed, "at_step", 5, "die") == -signal.SIGKILL
    train(dataclasses.replace(killed, resume=True))
    assert remains(tmp_path / "killed") == remains(tmp_path / "whole")
