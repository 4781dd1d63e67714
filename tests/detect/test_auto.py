"""What `--auto` chooses: on constructed statistics, and from the command line to config.yaml."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import yaml

import detect
from detect.cli.parser import parse
from detect.errors import UserError
from detect.training.auto import Data, Machine, Network, choose, choose_weights, flip, image_size
from detect.training.auto_facts import knows, network_of
from tests.reference.runs import tiny_weights

CPU, GPU = Machine("CPU", 8 * 2**30, 2), Machine("GPU", 40 * 2**30, 8)
YOLO = Network(finest=8, coarsest=32, size=640, from_boxes=True, memory=500.0, batch=16, pretrained=False)


def data(images: int = 1000, side: int = 640, share: float = 0.1, names: tuple[str, ...] = ("cat",)) -> Data:
    return Data(images, np.full(images, side), np.full(3 * images, share), names)


@dataclass
class Offer:
    name: str
    imgsz: int
    parameters: float
    score: float
    metric: str = "AP"
    model: str = "some"
    publisher: str = "us"


OFFERS = [
    Offer("small_320", 320, 1.0, 27),
    Offer("small_416", 416, 1.0, 30),
    Offer("other_416", 416, 1.5, 25),
    Offer("large_640", 640, 9.0, 40),
    Offer("odd_320", 320, 1.0, 44, metric="AP50"),
    Offer("huge_640", 640, 90.0, 50, model="huge"),
]


@pytest.mark.parametrize(
    ("side", "share", "machine", "size"),
    [
        (640, 0.1, CPU, 320),  # large objects: 240 px would do, and less than 320 saves little
        (640, 0.05, CPU, 480),  # 24 px / 0.05
        (640, 0.01, CPU, 640),  # no more than the image has
        (2000, 0.01, CPU, 640),  # nor than a CPU can bear
        (2000, 0.01, GPU, 1280),
        (64, 0.5, CPU, 64),
        (64, 0.15, CPU, 160),  # a small image may be enlarged
        (64, 0.01, CPU, 320),  # but not without end
    ],
)
def test_the_image_size_lets_most_boxes_cover_three_cells(side: int, share: float, machine: Machine, size: int) -> None:
    chosen = image_size(data(side=side, share=share), machine, YOLO)
    assert chosen.value == size and f"{share * size:.0f} px" in chosen.reason
    assert ("would be better" in chosen.reason) == (share * size < 22)


def test_the_image_size_is_a_multiple_of_the_coarsest_stride() -> None:
    assert image_size(data(share=0.05), CPU, replace(YOLO, coarsest=64)).value == 512


def test_a_gpu_looks_at_smaller_boxes() -> None:
    mixed = Data(100, np.full(100, 1280), np.repeat([0.02, 0.1], [15, 85]), ["cat"])
    assert image_size(mixed, CPU, YOLO).value == 320 < image_size(mixed, GPU, YOLO).value == 1216


def test_models_of_one_object_keep_their_size_unless_the_images_are_smaller() -> None:
    classifier = replace(YOLO, size=224, from_boxes=False)
    assert image_size(data(side=500), CPU, classifier).value == 224
    assert image_size(data(side=28), CPU, classifier).value == 32


def test_the_batch_fits_into_half_of_the_memory() -> None:
    assert choose(data(), CPU, YOLO, {"imgsz": 640})["batch"].value == 16
    tight = choose(data(), replace(CPU, memory=2 * 2**30), YOLO, {"imgsz": 640})["batch"]
    assert tight.value == 4 and "195 MB" in tight.reason
    assert choose(data(5000), GPU, YOLO, {})["batch"].value == 32
    assert choose(data(100), CPU, YOLO, {})["batch"].value == 4, "enough steps in an epoch"
    assert choose(data(10), replace(CPU, memory=1), YOLO, {})["batch"].value == 2


def test_epochs_follow_from_the_steps_that_training_takes() -> None:
    assert choose(data(205), CPU, replace(YOLO, pretrained=True), {})["epochs"].value == 39
    assert choose(data(205), CPU, YOLO, {})["epochs"].value == 154
    assert choose(data(100_000), CPU, YOLO, {})["epochs"].value == 30
    assert choose(data(100_000), CPU, replace(YOLO, pretrained=True), {})["epochs"].value == 10
    few = choose(data(4), CPU, YOLO, {})
    assert few["epochs"].value == 300 and few["epochs"].reason.endswith("needed, but --auto chooses 300 epochs at most")
    assert few["batch"].reason == "1 step an epoch from 4 images"


def test_weights_that_know_all_classes_are_trained_at_a_tenth_of_the_learning_rate(digits, tmp_path) -> None:
    known = replace(YOLO, pretrained=True, known=True, lr=0.002)
    chosen = choose(data(), CPU, known, {})["optim.lr"]
    assert chosen.value == 0.0002 and "default of 0.002 would make them forget" in chosen.reason
    assert choose(data(), CPU, known, {"optim.lr": 0.01})["optim.lr"] == (0.01, "yours")
    assert "optim.lr" not in choose(data(), CPU, replace(known, known=False), {})
    weights = str(tiny_weights(tmp_path / "w.safetensors"))
    config = parse("train", ["--data", str(digits), "--auto", "--weights", weights])
    assert config.optim.lr == 0.0002
    assert knows(weights, ["3", "7"]) and not knows(weights, ["3", "cat"])


@pytest.mark.parametrize(
    ("name", "flips"),
    [("left hand", False), ("turn_right", False), ("Left", False), ("bright", True), ("leftover", True), ("b", True)],
)
def test_mirror_images_are_off_where_a_name_has_a_side(name: str, flips: bool) -> None:
    chosen = flip(["cat", name])
    assert bool(chosen.value) == flips and (flips or name in chosen.reason)


def test_what_is_given_stays_and_the_rest_follows_from_it() -> None:
    found = choose(data(205), CPU, YOLO, {"batch": 2, "augment.flip": 0.1})
    assert found["batch"] == (2, "yours") and found["augment.flip"] == (0.1, "yours")
    assert found["epochs"].value == 39, "of 103 steps"


def test_the_weights_suit_image_size_and_device() -> None:
    def best(share: float, machine: Machine) -> str:
        found = choose_weights(data(share=share), machine, OFFERS)
        assert found
        return found.value

    assert best(0.1, CPU) == "small_320" and best(0.055, CPU) == "small_416" and best(0.055, GPU) == "small_416"
    assert best(0.01, CPU) == "small_416" and best(0.01, GPU) == "large_640"
    assert choose_weights(data(), CPU, OFFERS[-1:]) is None
    named = choose_weights(data(), CPU, OFFERS, "huge")
    assert named and named.value == "huge_640" and "of huge: AP 50 by us" in named.reason
    given = choose_weights(data(share=0.1), GPU, OFFERS, size=640)
    assert given and given.value == "large_640"


@pytest.mark.parametrize("model", ["yolox_nano", "picodet_s", "faster_rcnn", "yolo_anchor_n", "resnet18", "landmarker"])
def test_the_memory_of_every_kind_of_network_is_estimated(model: str) -> None:
    network = network_of(parse("train", ["--data", "toy", "--model", model, "--imgsz", "128"]), ["cat"])
    assert 200 < network.memory < 2000 and network.coarsest == (64 if model == "picodet_s" else 32)
    assert network.finest == {"resnet18": 32, "landmarker": 16}.get(model, 8)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("GRIDHEAD_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_command_says_what_it_chose_and_why(digits, capsys) -> None:
    config = parse("train", ["--data", str(digits), "--auto", "--epochs", "7", "--augment.flip", "0"])
    said = capsys.readouterr().out
    assert (config.model.name, config.weights, config.imgsz, config.batch) == ("yolo_n", "", 160, 4)
    assert config.epochs == 7 and config.augment.flip == 0
    assert "for 16 images:" in said and "offline: only what is in the cache" in said
    assert said.count("yours") == 2 and "from scratch" in said


def test_where_a_download_fails_the_cache_has_to_do(digits, capsys, monkeypatch) -> None:
    def refuse(name: str) -> None:
        raise UserError(f"{name}: no network")

    monkeypatch.delenv("GRIDHEAD_OFFLINE")
    monkeypatch.setattr("detect.hub.resolve", refuse)
    assert parse("train", ["--data", str(digits), "--auto"]).weights == ""
    told = capsys.readouterr()
    assert "picodet_s_320: no network" in told.err and "only what is in the cache" in told.out


def test_other_tasks_and_models_are_served(digits, capsys) -> None:
    assert parse("train", ["--data", str(digits), "--auto", "--model", "resnet18"]).imgsz < 224
    assert parse("train", ["--data", str(digits), "--auto", "--model", "faster_rcnn"]).batch == 4
    assert "no published ones of faster_rcnn suit" in capsys.readouterr().out


def test_signals_and_several_processes_are_refused_in_one_line(digits, tmp_path, monkeypatch) -> None:
    np.savez(tmp_path / "s.npz", x=np.zeros((8, 1, 40), np.float32), y=np.arange(8) % 2)
    with pytest.raises(UserError, match="signals"):
        parse("train", ["--data", str(tmp_path / "s.npz"), "--auto", "--model", "resnet18", "--model.dims", "1"])
    with pytest.raises(UserError, match="needs --data"):
        parse("train", ["--auto"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun"):
        parse("train", ["--data", str(digits), "--auto"])


@pytest.mark.slow
def test_the_choices_are_recorded_and_a_resumed_run_keeps_them(digits, tmp_path, one_thread) -> None:
    flags = {"data": str(digits), "model": "yolo_n", "out": str(tmp_path / "run"), "auto": True, "device": "cpu"}
    detect.train(**flags, imgsz=64, epochs=1, workers=0)
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recorded["batch"] == 4 and recorded["imgsz"] == 64 and "auto" not in recorded
    resumed = parse("train", ["--data", str(digits), "--auto", "--resume", "--out", str(tmp_path / "run")])
    assert (resumed.batch, resumed.epochs, resumed.imgsz) == (4, 1, 64) and resumed.model.name == "yolo_n"
