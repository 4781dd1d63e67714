"""Images without labels: which come when, what they are labelled with, and small runs."""

import dataclasses
import shutil
import signal

import numpy as np
import pytest
import torch

from detect.__main__ import main
from detect.config.augment import AugmentConfig
from detect.config.teacher import PseudoConfig
from detect.config.train import OptimConfig
from detect.data.augment.strong import erase, strong_view
from detect.data.datasets.detection import CocoDataset
from detect.data.datasets.unlabelled import UnlabelledLoader, with_unlabelled
from detect.data.sources.formats import load_data
from detect.data.sources.unlabelled import load_unlabelled, without_copies
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.weights import save_weights
from detect.training.dist import Ranks
from detect.training.pseudo_labels import PseudoLabels, target_of
from detect.training.setup import train
from detect.training.teacher import Lesson
from detect.types import Detections, LossTerm, Preprocess
from tests.reference.doom import doomed
from tests.reference.rank import together, train_and_tell
from tests.reference.runs import MODEL, remains, rows, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pool(digits, tmp_path_factory):
    """A folder of ten images without labels: five of them mirrored copies of training images, and five from val."""
    import cv2

    folder = tmp_path_factory.mktemp("pool")
    for i, path in enumerate(sorted((digits / "train").iterdir())[:9]):
        cv2.imwrite(str(folder / f"mirrored {i}.png"), cv2.imread(str(path))[:, ::-1])
    shutil.copy(sorted((digits / "val").iterdir())[0], folder / "leak.jpg")
    (folder / "readme.txt").write_text("no image")
    return folder


def test_images_that_are_in_a_split_are_left_out_by_name(digits, pool):
    found = load_unlabelled(pool)
    assert len(found) == 10 and not len(found.boxes)
    splits = {name: load_data(digits, name) for name in ("train", "val")}
    kept, copies = without_copies(found, splits)
    assert copies == {"val": 1} and len(kept) == 9
    assert "leak.jpg is the same image as" in kept.left_out[0] and "of val" in kept.left_out[0]
    with pytest.raises(UserError, match="none without labels"):
        without_copies(load_unlabelled(digits / "train"), splits)


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path, pool):
    with pytest.raises(UserError, match="no such folder"):
        load_unlabelled(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no image"):
        load_unlabelled(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"?")
    shutil.copy(pool / "mirrored 0.png", tmp_path)
    with pytest.raises(UserError, match="cannot be decoded"):
        load_unlabelled(tmp_path)
    assert len(load_unlabelled(tmp_path, skip_bad=True).left_out) == 1


def loader_of(digits, pool, augment, pseudo, batch=4, workers=0, rank=0, world=1):
    """Batches of the embedded set with images without labels."""
    config = settings(digits, pool / "out", pseudo=pseudo, augment=augment)
    labelled = CocoDataset(load_data(digits, "train"), 64, augment if augment.on else None, 3, 3)
    data = with_unlabelled(config, labelled, load_unlabelled(pool), Preprocess(), 1.0)
    return UnlabelledLoader(data, 64, batch, workers, rank, world)


def test_which_views_come_is_a_matter_of_the_position_alone(digits, pool):
    def views(epoch, start=0, **options):
        loader = loader_of(digits, pool, AugmentConfig(mosaic_off=1), PseudoConfig(burn_in=1, each=2), **options)
        return list(loader.epoch(epoch, start))

    assert all(batch.unlabelled is None for batch in views(0))
    one, two = views(1), views(2)
    whole = torch.cat([batch.unlabelled for batch in two])
    assert whole.shape == (32, 2, 3, 64, 64)
    assert not torch.equal(whole, torch.cat([batch.unlabelled for batch in one]))
    for options in ({"batch": 5}, {"workers": 1}):
        other = views(2, **options)
        assert torch.equal(torch.cat([batch.unlabelled for batch in other]), whole)
        assert torch.equal(torch.cat([b.images for b in other]), torch.cat([b.images for b in two]))
    assert torch.equal(views(2, start=2)[0].unlabelled, two[2].unlabelled)
    halves = [views(2, batch=2, rank=rank, world=2) for rank in (0, 1)]  # a rank has every second sample of a step
    pairs = [torch.stack([x.unlabelled.unflatten(0, (-1, 2)) for x in both], 1) for both in zip(*halves, strict=True)]
    assert torch.equal(torch.cat(pairs).flatten(0, 2), whole)


def test_every_image_comes_once_a_pass(digits, pool):
    loader = loader_of(digits, pool, AugmentConfig(on=False), PseudoConfig(burn_in=0))
    weak = torch.cat([batch.unlabelled[:, 0] for epoch in range(5) for batch in loader.epoch(epoch)])
    counts = torch.unique(weak.flatten(1), dim=0, return_counts=True)[1]
    assert len(weak) == 80 and counts.tolist() == [8] * 10


def test_the_strong_view_moves_nothing_and_stays_an_image():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        image = np.full((40, 60, 3), 90, np.uint8)
        image[10:20, 20:40] = (200, 40, 120)
        found = strong_view(image.copy(), rng)
        assert found.shape == image.shape and found.dtype == np.uint8
        again = strong_view(image.copy(), np.random.default_rng(seed))
        assert (found == again).all()
    image = np.zeros((50, 80, 3), np.uint8)
    erase(image, 0.2, np.random.default_rng(1))
    rows_, columns = np.nonzero(image.any(axis=2))
    assert 0.15 < (np.ptp(rows_) + 1) * (np.ptp(columns) + 1) / 4000 < 0.25


def test_what_is_sure_is_a_label_and_what_is_not_is_ignored():
    boxes = torch.tensor([[-5.0, 2, 30, 40], [1, 1, 9, 9], [3, 3, 20, 20], [70, 3, 90, 9]])
    found = Detections(boxes, torch.tensor([0.9, 0.5, 0.4, 0.9]), torch.tensor([0, 1, 0, 1]))
    target = target_of(found, torch.tensor([0.6, 0.5]), (50, 64))
    assert target.labels.tolist() == [0, 1, 0] and target.crowd.tolist() == [False, False, True]
    assert target.boxes[0].tolist() == [0, 2, 30, 40] and target.size == (50, 64)


def test_nothing_is_learned_of_an_image_without_a_label():
    for found in (Detections.none(), Detections(torch.ones(1, 4), torch.tensor([0.3]), torch.tensor([1]))):
        target = target_of(found, torch.tensor([0.6, 0.5]), (50, 64))
        assert target.boxes.tolist() == [[0, 0, 64, 50]] and target.crowd.tolist() == [True]


class Average:
    """Finds the same in every image."""

    def __init__(self, scores, labels):
        self.found = Detections(
            torch.tensor([[5.0, 5, 25, 25]] * len(scores)), torch.tensor(scores), torch.tensor(labels)
        )

    def __call__(self, images):
        return len(images)

    def postprocess(self, raw, keep):
        return [self.found] * raw


class Student(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, images, targets):
        return self.norm(images.float())

    def loss(self, raw, targets):
        count = torch.tensor(float(sum((~t.crowd).sum() for t in targets)))
        return {"box": LossTerm(3 * count, count)}


def teacher_of(digits, **options):
    teacher = PseudoLabels(PseudoConfig(**options), load_data(digits, "train"), Ranks())
    teacher.begin(Average([0.8, 0.4, 0.7], [0, 0, 1]))
    return teacher


def lesson(images, count=2.0):
    terms = {"box": LossTerm(torch.tensor(9.0), torch.tensor(count))}
    return Lesson(torch.zeros(2, 3, 32, 32), [], [], None, terms, images)


def test_thresholds_follow_the_labelled_images(digits):
    annotations = load_data(digits, "train")
    wanted = np.bincount(annotations.labels, minlength=10) / len(annotations)
    teacher, images = teacher_of(digits), torch.zeros(3, 2, 3, 32, 32, dtype=torch.uint8)
    terms = teacher(Student(), lesson(images))
    assert {name: (t.total.item(), t.count.item()) for name, t in terms.items()} == {"unlabelled_box": (6.0, 2.0)}
    for label, (found, threshold) in enumerate(zip([1, 1, *[0] * 8], teacher.thresholds.tolist(), strict=True)):
        error = float(np.clip((found - wanted[label]) / max(wanted[label], 1e-3), -1, 1))
        assert threshold == pytest.approx(0.5 + 0.02 * error, abs=1e-6)
    for _ in range(200):
        teacher(Student(), lesson(images))
    assert teacher.thresholds.min() >= 0.2 - 1e-6 and teacher.thresholds.max() <= 0.9 + 1e-6
    numbers = teacher.metrics()
    assert numbers["pseudo_labels"] > 1 and numbers["pseudo_labels_0"] > 0
    assert teacher.metrics()["pseudo_labels"] == 0


def test_given_thresholds_stay(digits):
    teacher = teacher_of(digits, threshold=0.75, class_thresholds={"1": 0.6})
    teacher(Student(), lesson(torch.zeros(3, 2, 3, 32, 32, dtype=torch.uint8)))
    assert teacher.thresholds.tolist() == pytest.approx([0.75, 0.6, *[0.75] * 8])
    assert teacher.labels.tolist() == [3, 3, *[0] * 8]
    with pytest.raises(UserError, match=r"class in --pseudo\.class-thresholds"):
        teacher_of(digits, class_thresholds={"eleven": 0.6})


def test_where_few_are_sure_the_background_weighs_as_in_labelled_images(digits):
    images = torch.zeros(3, 2, 3, 32, 32, dtype=torch.uint8)
    term = teacher_of(digits, threshold=0.75)(Student(), lesson(images, count=10.0))["unlabelled_box"]
    assert term.total.item() == pytest.approx(9 / (10 * 3 / 2) * 10)  # a loss of 9, over 3 images instead of 2


def test_strong_views_leave_the_running_statistics_alone(digits):
    student = Student().train()
    teacher_of(digits)(student, lesson(torch.full((3, 2, 3, 32, 32), 200, dtype=torch.uint8)))
    assert student.norm.running_mean.eq(0).all() and student.norm.running_var.eq(1).all()
    assert student.norm.momentum == 0.1
    student(torch.ones(2, 3, 4, 4), [])
    assert student.norm.running_mean.ne(0).all()


def test_without_images_the_terms_are_zero(digits):
    terms = teacher_of(digits)(Student(), lesson(None))
    assert {name: (t.total.item(), t.count.item()) for name, t in terms.items()} == {"unlabelled_box": (0.0, 2.0)}


@pytest.fixture(scope="module")
def confident(digits, tmp_path_factory):
    """Weights of a detector that has learned nothing, and finds all classes everywhere."""
    data, path = load_data(digits, "train"), tmp_path_factory.mktemp("confident") / "w.safetensors"
    torch.manual_seed(0)
    model = build(MODEL, ModelMetadata(data.names, data.category_ids.tolist(), 64))
    for tower in model.head.classify:
        torch.nn.init.constant_(tower[-1].bias, 1.0)
    save_weights(path, model)
    return str(path)


def half(digits, out, pool, **changes):
    """Pseudo-labels from the second of three epochs on, two batches a step."""
    more = {"optim": OptimConfig(accumulate=2, warmup=0.5), "pseudo": PseudoConfig(burn_in=1, threshold=0.01, each=2)}
    return settings(digits, out, unlabelled=str(pool), **{**more, **changes})


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(digits, tmp_path, pool, confident, capsys):
    train(half(digits, tmp_path / "whole", pool, weights=confident))
    assert "1 in val too: they are left out" in capsys.readouterr().err
    assert "leak.jpg" in (tmp_path / "whole" / "left_out_unlabelled.txt").read_text()
    config = half(digits, tmp_path / "run", pool, weights=confident, save_steps=1, workers=1)
    assert status(doomed, config, "at_step", 5, "die") == -signal.SIGKILL
    train(dataclasses.replace(config, resume=True))
    found, whole = remains(tmp_path / "run"), remains(tmp_path / "whole")
    assert found == whole and "pseudo_labels.thresholds" in whole["teachers"]
    got = rows(tmp_path / "whole")
    assert [row["unlabelled_classes"] > 0 for row in got] == [False, True, True]
    assert [row["pseudo_labels"] > 1 for row in got] == [False, True, True]
    with pytest.raises(UserError, match=r"pseudo\.weight"):
        train(dataclasses.replace(config, resume=True, epochs=4, pseudo=PseudoConfig(burn_in=1, weight=2)))


def test_models_that_do_not_predict_densely_are_refused(digits, pool, tmp_path, capsys):
    flags = ["train", "--data", str(digits), "--unlabelled", str(pool), "--out", str(tmp_path / "run"), "--imgsz", "64"]
    assert main([*flags, "--model", "faster_rcnn", "--model.backbone", "csp_n", "--workers", "0"]) == 2
    assert "has no dense head: --unlabelled takes" in capsys.readouterr().err
    assert main([*flags, "--task", "classify"]) == 2
    assert "--unlabelled is for" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_have_the_same_thresholds(digits, tmp_path, pool, port):
    config = half(digits, tmp_path / "run", pool, batch=2, pseudo=PseudoConfig(burn_in=1))
    assert together(train_and_tell, config, port) == [0, 0]
    one, two = (torch.load(f"{config.out}-rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])
