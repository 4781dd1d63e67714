"""Each rule that says why training goes badly: what it says, and that it is silent where nothing is wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detect.hub.catalogue import catalogue
from detect.training.diagnosis import PUBLISHED, RULES, Figures, diagnose

GOOD = Figures(
    metric="AP",
    detector=True,
    closed=True,
    epochs=60,
    steps=780,
    images=205,
    scratch=True,
    frozen=0,
    lr=0.002,
    default_lr=0.002,
    imgsz=320,
    stride=8,
    names=["red", "white", "platelet"],
    train_counts=np.array([2000, 180, 170]),
    val_counts=np.array([800, 80, 70]),
    train_sides=np.linspace(7, 150, 2350),
    val_sides=np.linspace(8, 140, 950),
)
TERMS = ("box", "classes")


def rows(losses, values, steps=13, metric="AP"):
    """Rows of metrics.jsonl: the sum of the loss terms and the metric of each epoch."""
    pairs = enumerate(zip(losses, values, strict=True))
    return [{"epoch": i, "step": steps * (i + 1), "box": loss - 1, "classes": 1.0, metric: v} for i, (loss, v) in pairs]


LEARNED = rows([9.7, 8.9, 7.4, 6.4, 5.5, 5.1], [0.0, 0.02, 0.1, 0.21, 0.32, 0.4])


@pytest.mark.parametrize("given", [LEARNED[:n] for n in range(len(LEARNED) + 1)])
def test_a_run_that_learns_is_not_warned(given):
    assert diagnose(GOOD, given, TERMS) == {}
    assert diagnose(replace(GOOD, scratch=False, steps=78, epochs=6), given, TERMS) == {}


def test_after_a_run_that_learned_nothing_is_said():
    assert diagnose(GOOD, LEARNED, TERMS, ended=True) == {}
    six = replace(GOOD, steps=78, epochs=6)
    assert list(diagnose(six, LEARNED, TERMS)) == []  # it was said before the first step


def test_a_newcomer_hears_why_ap_is_zero_before_the_first_step_and_at_the_end():
    """202 images, yolo_n from scratch, six epochs."""
    newcomer = replace(GOOD, steps=78, epochs=6)
    (said,) = diagnose(newcomer).values()
    assert said == (
        "78 steps are few; from scratch a detector needs some thousand, a few hundred where objects are easy: "
        "fine-tune with --weights picodet_s_416, or train longer (--epochs 77)"
    )
    zero = rows([9.7, 8.9, 7.4, 6.4, 5.5, 5.1], [0.0, 0.0001, 0, 0, 0, 0.0004])
    assert diagnose(newcomer, zero, TERMS) == {}
    found = diagnose(newcomer, zero, TERMS, ended=True)
    assert found["few_steps"] == said
    for part in (
        "AP is 0.000 after 6 epochs (78 steps), though the loss fell from 9.7 to 5.1: ",
        "3 of 3 validation classes have training objects",
        "the median object has 78 px at --imgsz 320; the finest stride is 8",
        "detect check",
    ):
        assert part in found["nothing_detected"], part


@pytest.mark.parametrize("steps", [780, 2999])
def test_enough_steps_for_easy_objects_are_few_where_ap_stayed_poor(steps):
    longer = replace(GOOD, steps=steps)
    assert diagnose(longer) == {}
    poor, fair = (rows([9, 8, 7], [value] * 3, steps // 3) for value in (0.05, 0.15))
    assert list(diagnose(longer, poor, TERMS, ended=True)) == ["few_steps"]
    assert diagnose(longer, fair, TERMS, ended=True) == {}


def test_other_tasks_need_fewer_steps_and_other_advice():
    classifier = replace(GOOD, metric="top1", detector=False, steps=90, epochs=3)
    assert diagnose(classifier)["few_steps"] == (
        "90 steps are few to learn from scratch: begin from pretrained weights, or train longer (--epochs 10)"
    )
    assert diagnose(replace(classifier, steps=100)) == {}


def test_fine_tuning_needs_fewer_steps_and_is_told_so():
    tuned = replace(GOOD, scratch=False, steps=26, epochs=2)
    assert diagnose(tuned) == {"few_steps": "26 steps are few even for fine-tuning: train longer (--epochs 24)"}
    assert diagnose(replace(tuned, steps=1, epochs=1))["few_steps"].startswith("1 step is few even for fine-tuning: ")
    assert diagnose(replace(tuned, steps=52, epochs=4)) == {}
    one = diagnose(tuned, rows([9], [0.0]), TERMS, ended=True)["nothing_detected"]
    assert one.startswith("AP is 0.000 after 1 epoch (13 steps): 3 of 3 ") and one.endswith(", and train longer")


def test_frozen_stages_need_weights():
    assert "--freeze keeps 5 stages" in diagnose(replace(GOOD, frozen=5))["frozen_at_random"]
    assert diagnose(replace(GOOD, frozen=5, scratch=False)) == {}


def test_validation_classes_that_training_lacks_are_named_with_their_number():
    lost = replace(GOOD, train_counts=np.array([2000, 0, 0]))
    said = diagnose(lost)["unknown_classes"]
    assert (
        "150 objects of 2 classes that no training object has: white (80), platelet (70): AP stays below 0.33" in said
    )
    many = replace(GOOD, names=[str(i) for i in range(80)], train_counts=np.ones(80, int), val_counts=np.ones(80, int))
    rare = replace(many, train_counts=np.array([0] + [1] * 79))
    assert diagnose(rare) == {}  # one of 80 classes, one of 80 objects
    assert diagnose(replace(lost, closed=False, detector=False, metric="auc")) == {}  # other people are wanted


def test_a_validation_set_of_another_mixture_or_scale_is_told_by_numbers():
    turned = replace(GOOD, val_counts=np.array([80, 800, 70]))
    assert "white is 84% of its objects, and 8% of those of training" in diagnose(turned)["other_classes"]
    near = replace(GOOD, val_sides=GOOD.val_sides * 2)
    assert "148 against 78 px (medians at --imgsz 320)" in diagnose(near)["other_sizes"]
    assert diagnose(replace(near, val_sides=near.val_sides[:20])) == {}  # too few to say


def test_objects_below_the_finest_stride_and_the_image_size_for_them():
    small = replace(GOOD, train_sides=np.linspace(2, 22, 1000), val_sides=np.linspace(2, 22, 1000))
    said = diagnose(small)["small_objects"]
    assert said == (
        "30% of the training objects are smaller than 8 px, the finest stride of the model, at --imgsz 320, and are "
        "hardly learned; at --imgsz 640 it is 10%"
    )
    tiny = replace(GOOD, train_sides=np.linspace(0.1, 1.9, 1000), val_sides=np.linspace(0.1, 1.9, 1000))
    assert "at --imgsz 1280 it is 100%, so cut the images into tiles as well" in diagnose(tiny)["small_objects"]
    assert diagnose(replace(small, stride=0)) == {}


RISING = "the learning rate may be too high: try --optim.lr 0.0002, or measure one with --find-lr"


@pytest.mark.parametrize(
    ("losses", "values", "said"),
    [
        ([9, 8, 7, 12, 14], [0.1] * 5, f"the loss rises: 9 in the first epoch, 7 at its lowest, 14 now; {RISING}"),
        ([9, 6, 9, 6, 9, 6], [0.1] * 6, f"the loss swings: 9 in the first epoch, 6 at its lowest, 6 now; {RISING}"),
        (
            [9, 8, 7, 6, 5, 4],
            [0.2, 0.4, 0.4, 0, 0.05, 0],
            f"AP was 0.400, and is at most 0.050 in the last 3 epochs; {RISING}",
        ),
    ],
    ids=["rising", "swinging", "lost"],
)
def test_a_learning_rate_that_is_too_high(losses, values, said):
    assert diagnose(GOOD, rows(losses, values), TERMS) == {"learning_rate": said}
    assert diagnose(replace(GOOD, steps=120), rows(losses, values, steps=2), TERMS) == {}  # two steps an epoch: noise


def test_nothing_detected_after_many_steps_is_said_at_once():
    zero = rows([9, 8, 7, 6, 5], [0.0] * 5, steps=130)
    said = diagnose(replace(GOOD, steps=7800, lr=0.1), zero, TERMS)["nothing_detected"]
    assert "AP is 0.000 after 5 epochs (650 steps)" in said
    assert "--optim.lr 0.1 is 50 times the optimizer's default" in said and "--optim.lr 0.01," in said
    assert diagnose(GOOD, zero[:4], TERMS) == {}
    flat = diagnose(GOOD, rows([9, 9, 8.9, 8.9, 8.8], [0.0] * 5, steps=130), TERMS)["nothing_detected"]
    assert "and the loss hardly fell, from 9 to 8.8" in flat
    higher = diagnose(GOOD, rows([8, 9, 9, 9, 9], [0.0] * 5, steps=130), TERMS)["nothing_detected"]
    assert "and the loss rose from 8 to 9" in higher


def test_a_classifier_that_guesses():
    classifier = replace(GOOD, metric="top1", detector=False)
    guess = rows([2, 2, 2, 2, 2], [0.84] * 5, steps=60, metric="top1")
    assert (
        "top1 is 0.840 after 5 epochs (300 steps), where always answering 'red' has 0.842"
        in (diagnose(classifier, guess, TERMS)["guessing"])
    )
    assert diagnose(classifier, rows([2] * 5, [0.85] * 5, 60, "top1"), TERMS) == {}


def test_an_error_to_be_small_is_read_as_one():
    points = replace(
        GOOD, metric="-nme", detector=False, names=["face"], train_counts=np.ones(1), val_counts=np.ones(1)
    )
    assert diagnose(points, rows([9, 8, 7, 6], [0.4, 0.3, 0.2, 0.1], metric="nme"), TERMS, ended=True) == {}


def test_the_weights_that_messages_offer_can_be_had():
    assert PUBLISHED in catalogue()


def test_every_rule_has_its_test():
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in RULES if f'"{name}"' not in tests] == []


def test_a_handful_of_images_is_not_advised_to_train_longer():
    told = diagnose(replace(GOOD, images=1, steps=2))["few_steps"]
    assert told == "1 image cannot teach what others look like, however long: annotate more of them"
