"""What a model begins with, and which of its parts train, when and how fast."""

import dataclasses
import os
import re
import signal
import socket
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from detect.cli.parser import parse
from detect.config.train import OptimConfig
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.hub import OFFLINE, catalogue
from detect.hub.catalogue import RemoteFile
from detect.hub.catalogue import Source as Place
from detect.models.backbones import build_network
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.classifier import ClassifierConfig
from detect.models.configs.yolo import YoloConfig
from detect.models.pretrained import PIXELS, pixels_of, read_state
from detect.models.weights import read_weights, transfer
from detect.training.loop import Trainer
from detect.training.optim import build_optimizer
from detect.training.setup import train
from detect.training.transfer import Source, _not_taken, begin, find_source, freeze, frozen_parts, initialize, parts
from detect.types import Preprocess
from tests.reference.doom import doomed
from tests.reference.marks import slowly
from tests.reference.rank import together, train_and_tell
from tests.reference.runs import MODEL, ready, remains, settings, status

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SQUEEZE = DATA / "weights/squeezenet1.1/squeezenet1_1_fp16_torchvision_keys.pth"
LITE = DATA / "weights/efficientnet_lite0/efficientnet-lite0-57934424_fp16.pth"
NAMES = ["cat", "dog", "cow"]

pytestmark = pytest.mark.usefixtures("one_thread")


def detector(**changes):
    torch.manual_seed(0)
    return build(dataclasses.replace(MODEL, **changes), ModelMetadata(NAMES, [1, 2, 3], 64))


def classifier(backbone="lenet5", names=NAMES, **changes):
    torch.manual_seed(0)
    config = ClassifierConfig(name=backbone, backbone=backbone, **changes)
    return build(config, ModelMetadata(names, list(range(len(names))), 32))


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def changed(model, before):
    """The parts of which some number is another than before, batch statistics included."""
    names = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    return {part for part in [*parts(model), "head"] if any(f".{k}".startswith(f".{part}.") for k in names)}


@pytest.mark.parametrize("count", [0, 1, 2, -1])
def test_frozen_parts_keep_weights_and_statistics_through_a_step(digits, tmp_path, monkeypatch, count):
    trainer = ready(settings(digits, tmp_path, freeze=count), monkeypatch)
    model = trainer.run.model
    everything = parts(model)
    frozen = everything if count < 0 else everything[:count]
    assert model.frozen == tuple(frozen)
    before, averaged = state(model), state(trainer.run.ema.module)
    trainer._step([next(iter(trainer.loader.epoch(0)))])
    assert changed(model, before) == {"head", *everything[len(frozen) :]}
    assert changed(trainer.run.ema.module, averaged) == {"head", *everything[len(frozen) :]}


def test_frozen_parts_stay_in_evaluation_mode_whatever_is_asked():
    model = detector()
    freeze(model, ("backbone.stages.0",))
    for asked in (model.train, model.eval, model.train):
        asked()
        assert not any(m.training for m in model.backbone.stages[0].modules())
    assert model.head.training and model.backbone.stages[1].training and model.training
    freeze(model, ())
    assert all(m.training for m in model.train().modules()) and all(p.requires_grad for p in model.parameters())


def test_parts_thaw_from_the_back_one_by_one(digits, tmp_path):
    model = detector()
    config = settings(digits, tmp_path, freeze=-1, unfreeze_every=2)
    everything = parts(model)
    for epoch in range(2 * len(everything) + 3):
        assert frozen_parts(config, model, epoch) == tuple(everything[: max(0, len(everything) - epoch // 2)])
    with pytest.raises(UserError, match=r"--freeze 99: yolo has \d parts: backbone\.stages\.0"):
        frozen_parts(dataclasses.replace(config, freeze=99), model, 0)


@pytest.mark.parametrize("name", ["muon", *slowly("nesterov")])
def test_a_gradual_thaw_resumes_to_the_bit(digits, tmp_path, name):
    optim = OptimConfig(name=name, warmup=0.5, layer_decay=0.5)
    config = settings(digits, tmp_path / "whole", freeze=-1, unfreeze_every=1, optim=optim)
    train(config)
    again = dataclasses.replace(config, out=str(tmp_path / "again"), save_steps=3)
    assert status(doomed, again, "at_step", 7, "die") == -signal.SIGKILL
    train(dataclasses.replace(again, resume=True))
    assert remains(tmp_path / "again") == remains(tmp_path / "whole")


@pytest.mark.slow
def test_ranks_thaw_together(digits, tmp_path):
    """Were the gradients of what thaws not summed over the ranks, these would part."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = settings(digits, tmp_path / "run", batch=2, freeze=-1, unfreeze_every=1)
    assert together(train_and_tell, config, port) == [0, 0]
    first, second = (torch.load(f"{config.out}-rank-{rank}.pt", weights_only=True)["model"] for rank in (0, 1))
    assert all(torch.equal(v, second[k]) for k, v in first.items())


def test_what_thaws_begins_to_train_at_that_epoch(digits, tmp_path, monkeypatch):
    trainer = ready(settings(digits, tmp_path, freeze=-1, unfreeze_every=1), monkeypatch)
    monkeypatch.setattr(Trainer, "_finish", lambda self, row: self.run.finish_epoch(row, self.task.metric, False))
    monkeypatch.setattr(Trainer, "_evaluate", lambda self: {"AP": 0.0, "AP50": 0.0})
    everything, seen = parts(trainer.run.model), []
    trainer.interrupt = types.SimpleNamespace(asked=False)
    for _ in range(3):
        before = state(trainer.run.model)
        trainer._epoch()
        seen.append(changed(trainer.run.model, before))
    assert seen == [{"head", *everything[len(everything) - n :]} for n in range(3)]


def test_earlier_stages_learn_more_slowly():
    model = detector()
    optimizer = build_optimizer(model, OptimConfig(layer_decay=0.5))
    scale = {id(p): group["scale"] for group in optimizer.param_groups for p in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    order = [*parts(model), "head"]
    for name, p in model.named_parameters():
        place = next(i for i, part in enumerate(order) if name.startswith(f"{part}."))
        assert scale[id(p)] == 0.5 ** (len(order) - 1 - place)
    plain = build_optimizer(model, OptimConfig())
    assert {group["scale"] for group in plain.param_groups} == {1.0}


def test_the_rate_of_a_step_is_that_of_the_part(digits, tmp_path, monkeypatch):
    optim = OptimConfig(layer_decay=0.5, lr=0.01, warmup=0, schedule="constant")
    trainer = ready(settings(digits, tmp_path, optim=optim), monkeypatch)
    trainer._step([next(iter(trainer.loader.epoch(0)))])
    rates = {group["lr"] for group in trainer.run.optimizer.param_groups}
    assert rates == {0.01 * 0.5**i for i in range(len(parts(trainer.run.model)) + 1)}


def test_what_is_taken_what_is_not_and_why(capsys):
    source, model = classifier(names=["a", "b"]), classifier()
    tensors = state(source)
    gone = next(k for k in tensors if k.startswith("network.stages.1"))
    del tensors[gone]
    tensors["else.weight"] = torch.zeros(1)
    begin(model, Source("--weights W", tensors, Preprocess(), "model"), tell=True)
    said = capsys.readouterr().err
    assert "1 of the file are not used" in said and f"{gone}: absent in the file" in said
    assert "else.weight: extra, the model has no such tensor" in said
    assert "shape [2, 84], the model's is [3, 84]" in said
    ours = model.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in tensors.items() if k in ours and ours[k].shape == v.shape)
    with pytest.raises(UserError, match="nothing in it fits"):
        begin(model, Source("--weights W", {"x": torch.zeros(1)}, Preprocess(), "model"), tell=False)


def test_tensors_that_are_not_taken_for_one_reason_share_a_line():
    reasons = {"a.weight": "shape", "a.bias": "absent", "b.weight": "shape", "c.weight": "shape"}
    lines = ["  not taken: a.weight and 2 more: shape", "  not taken: a.bias: absent"]
    assert list(_not_taken(reasons)) == lines


@pytest.mark.parametrize("backbone", ["lenet5", "squeezenet1_1"])
def test_new_hidden_layers_stand_in_the_place_of_the_last_one(backbone):
    model = classifier(backbone, hidden=[7, 5])
    shapes = [m.weight.shape for m in model.network.head.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(7, model.network.width), (5, 7), (3, 5)]
    raw = model.eval()(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert raw.logits.shape == (2, 3) and torch.equal(
        raw.logits, model.forward_head(model.features(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))).logits
    )
    moved = transfer(model, state(classifier(backbone)))
    assert {k.split(".")[1] for k in moved.left} == {k.split(".")[1] for k in moved.extra} == {"head"}
    trunk = {k for k in model.state_dict() if not k.startswith("network.head")}
    assert set(moved.taken) == trunk


def test_hidden_layers_are_a_flag():
    flags = ["--data", "toy", "--task", "classify", "--model", "lenet5"]
    assert parse("train", [*flags, "--hidden", "256", "128", "--epochs", "3"]).model.hidden == [256, 128]
    assert parse("train", [*flags, "--freeze", "-1"]).freeze == -1


def test_the_backbone_of_ours_serves_any_model(tmp_path, digits):
    weights = train(settings(digits, tmp_path / "first", epochs=1))
    config = settings(digits, tmp_path / "second", backbone_weights=str(weights))
    source = find_source(config)
    assert source is not None and source.part == "backbone"
    model = classifier("csp_n")
    begin(model, source, tell=False)
    reference = load_file(weights)
    for k, v in model.network.stages.state_dict().items():
        name = f"backbone.stages.{k}"
        assert name not in reference or torch.equal(v, reference[name])
    assert torch.equal(
        model.network.stages[0].state_dict()[(key := next(iter(model.network.stages[0].state_dict())))],
        reference[f"backbone.stages.0.{key}"],
    )


def test_fine_tuning_keeps_the_pixels_of_the_weights(digits, tmp_path, monkeypatch):
    weights = train(settings(digits, tmp_path / "first", epochs=1, pixels="caffe"))
    assert read_weights(weights)[1].preprocess == PIXELS["caffe"]
    again = ready(settings(digits, tmp_path / "second", weights=str(weights)), monkeypatch)
    assert again.run.model.metadata.preprocess == PIXELS["caffe"]


def test_pixels_are_those_that_the_weights_want(tmp_path):
    assert pixels_of("resnet18") == pixels_of("squeezenet1_1") == PIXELS["imagenet"]
    assert pixels_of("inception_v3") == PIXELS["half"]
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    assert pixels_of("squeezenet1_1", other) == PIXELS["imagenet"]
    x = torch.tensor([[[[255]], [[0]], [[51]]]], dtype=torch.uint8)
    expected = {
        "unit": [1, 0, 0.2],
        "imagenet": [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225],
        "half": [1, -1, -0.6],
        "caffe": [51 - 104, -117, 255 - 123],
        "tensorflow": [1, -127 / 128, (51 - 127) / 128],
    }
    assert set(expected) == set(PIXELS)
    for name, numbers in expected.items():
        model = build(MODEL, ModelMetadata(NAMES, [1, 2, 3], 64, PIXELS[name]))
        assert model.preprocess(x).flatten().tolist() == pytest.approx(numbers, abs=1e-4), name


def test_published_names_fit_a_detector_too(tmp_path, digits, capsys):
    file = tmp_path / "squeeze.safetensors"
    published = models.squeezenet1_1().state_dict()
    save_file(published, file)
    config = settings(digits, tmp_path, backbone_weights=str(file), model=YoloConfig(backbone="squeezenet1_1"))
    source = find_source(config)
    assert source is not None and source.part == "published"
    model = build(config.model, ModelMetadata(NAMES, [1, 2, 3], 64))
    begin(model, source, tell=True)
    assert torch.equal(model.backbone.stages[0][0].weight, published["features.0.weight"])
    assert "classifier.1.weight: extra" in capsys.readouterr().err
    nameless = dataclasses.replace(config, model=MODEL)
    with pytest.raises(UserError, match="has no published weights"):
        begin(detector(), find_source(nameless), tell=False)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_no_weights_are_the_users_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Evil(), "evil.pth")
    torch.save([1, 2], "list.pth")
    Path("noise.safetensors").write_bytes(b"\x07" * 99)
    for name in ("evil.pth", "list.pth", "noise.safetensors", "absent.pth"):
        with pytest.raises(UserError, match=name) as caught:
            read_state(Path(name))
        assert "\n" not in str(caught.value)
    assert not Path("pwned").exists()


def test_one_kind_of_weights_at_a_time(digits, tmp_path):
    with pytest.raises(UserError, match=r"--weights and --pretrained exclude one another"):
        find_source(settings(digits, tmp_path, weights="w", pretrained=True))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pretrained_is_a_file_of_the_catalogue_from_either_cache(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(OFFLINE, "1")
    monkeypatch.chdir(tmp_path)
    config = settings(digits, tmp_path, pretrained=True, model=YoloConfig(backbone="squeezenet1_1"))
    with pytest.raises(UserError, match=r"squeezenet1_1 is not in .*forbids the download: fetch https://"):
        find_source(config)
    published = catalogue()["squeezenet1_1"]
    ours = tmp_path / "cache/gridhead/weights" / published.files[0].name
    torchs = tmp_path / "torch/hub/checkpoints" / ours.name
    for kept in (ours, torchs):
        kept.parent.mkdir(parents=True)
        torch.save(state := models.squeezenet1_1().state_dict(), kept)
        with pytest.raises(UserError, match=rf"{re.escape(str(kept))} is not the published file.*; remove it"):
            find_source(config)
        with monkeypatch.context() as patch:
            unknown = RemoteFile(ours.name, (Place(published.files[0].sources[0].url),))
            patch.setitem(catalogue(), "squeezenet1_1", dataclasses.replace(published, files=(unknown,)))
            found = find_source(config).tensors
            assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)
            torch.save({"features.0.weight": Evil()}, kept)
            with pytest.raises(
                UserError, match=r"no file of weights that can be read safely: Weights only load failed"
            ):
                find_source(config)
            assert not Path("pwned").exists()
    with pytest.raises(UserError, match=r"torchvision publishes no weights that fit csp_n"):
        find_source(dataclasses.replace(config, model=MODEL))


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "xavier", "he"])
def test_an_initialization_has_the_moments_of_its_formula(kind):
    torch.manual_seed(0)
    model = classifier()
    conv, line = nn.Conv2d(64, 96, 3, groups=2), nn.Linear(300, 500)
    model.network.head = nn.Sequential(conv, line)
    biases = conv.bias.clone(), line.bias.clone()
    initialize(model, kind)
    for layer, inputs, outputs in ((conv, 32 * 9, 96 * 9), (line, 300, 500)):
        w = layer.weight.detach()
        bound = {"uniform": inputs**-0.5, "xavier": (6 / (inputs + outputs)) ** 0.5}.get(kind)
        std = bound / 3**0.5 if bound else {"gaussian": 0.01, "he": (2 / inputs) ** 0.5}[kind]
        assert w.std().item() == pytest.approx(std, rel=0.02) and abs(w.mean().item()) < std / 30
        assert w.abs().max() <= bound * (1 + 1e-6) if bound else w.abs().max() > 3 * std
    assert torch.equal(conv.bias, biases[0]) and torch.equal(line.bias, biases[1])


def test_the_initialization_of_the_paper_draws_nothing():
    model = classifier()
    before = state(model)
    initialize(model, "paper")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


PHOTOS = {"000000001818": 340, "000000000776": 850, "000000009448": 879}  # zebra, teddy, umbrella


@pytest.mark.parametrize(("backbone", "file"), [("squeezenet1_1", SQUEEZE), ("efficientnet_lite0", LITE)])
def test_the_local_files_know_what_is_in_photos(backbone, file):
    photos = {DATA / f"coco-mini/val2017/{photo}.jpg": label for photo, label in PHOTOS.items()}
    for needed in (file, *photos):
        if not needed.exists():
            pytest.skip(f"{needed} is not there; set GRIDHEAD_DATA")
    names = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
    pixels = pixels_of(backbone, file)
    assert pixels == PIXELS["caffe" if backbone == "squeezenet1_1" else "tensorflow"]
    config = ClassifierConfig(name=backbone, backbone=backbone)
    model = build(config, ModelMetadata(names, list(range(1000)), 224, pixels)).eval()
    begin(model, Source("F", read_state(file), pixels, "published"), tell=False)
    for photo, label in photos.items():
        with Image.open(photo) as image:
            middle = np.array(ImageOps.fit(image.convert("RGB"), (224, 224)))
        with torch.no_grad():
            raw = model(torch.from_numpy(middle).permute(2, 0, 1)[None])
        best = raw.logits[0].topk(3).indices.tolist()
        assert label in best, (photo.name, [names[i] for i in best])


@pytest.mark.parametrize(("backbone", "file"), [("squeezenet1_1", SQUEEZE), ("efficientnet_lite0", LITE)])
def test_a_detector_begins_with_the_local_files(digits, tmp_path, monkeypatch, backbone, file):
    if not file.exists():
        pytest.skip(f"{file} is not there; set GRIDHEAD_DATA")
    model = dataclasses.replace(MODEL, backbone=backbone)
    trainer = ready(settings(digits, tmp_path, model=model, backbone_weights=str(file), freeze=-1), monkeypatch)
    net = build_network(backbone, 1000)
    net.load_state_dict(net.renamed(read_state(file)))
    first = next(iter(trainer.run.model.backbone.stages[0].state_dict().items()))
    assert torch.equal(first[1], net.stages[0].state_dict()[first[0]])
    assert trainer.run.model.metadata.preprocess == pixels_of(backbone, file)
    assert load_data(digits, "train").names == trainer.run.model.metadata.names
