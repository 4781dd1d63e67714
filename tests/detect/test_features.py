"""Cached features: the training on them gives what the training on images gives, and they belong to one run only."""

import dataclasses
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from detect.config.augment import AugmentConfig
from detect.config.train import OptimConfig
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import EvalLoader, SampleLoader
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.classifier import ClassifierConfig
from detect.models.configs.embedder import EmbedderConfig
from detect.training.cached_features import about, cached
from detect.training.setup import train
from tests.reference.runs import MODEL, rows, settings

LENET = ClassifierConfig(name="lenet5", backbone="lenet5")
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def frozen(digits, out, **changes):
    """Everything but the head frozen; no augmentation."""
    plain = {"freeze": -1, "multi_scale": 0.0, "augment": AugmentConfig(on=False), "optim": OptimConfig(warmup=0.5)}
    return settings(digits, out, **{**plain, "epochs": 2, **changes})


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_head_is_that_of_the_uncached_run(digits, tmp_path, task):
    changes = {"task": task, "model": MODEL if task == "detect" else LENET}
    heads = []
    for name in (False, True):
        best = train(frozen(digits, tmp_path / str(name), cache_features=name, **changes))
        heads.append(torch.load(best.parent / "last.ckpt", weights_only=True)["model"])
    assert heads[0].keys() == heads[1].keys()
    assert all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(heads[0].values(), heads[1].values(), strict=True)
    )
    start = build(changes["model"], ModelMetadata(load_data(digits, "train").names, list(range(10)), 64)).state_dict()
    assert any(not torch.equal(v, start[k]) for k, v in heads[1].items())
    losses = [[row["classes"] for row in rows(tmp_path / str(name))] for name in (False, True)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.fixture(scope="module")
def model(one_thread, digits):
    torch.manual_seed(0)
    return build(MODEL, ModelMetadata(load_data(digits, "train").names, list(range(10)), 64))


@pytest.mark.parametrize("kind", ["train", "still"])
def test_the_cache_holds_what_the_trunk_makes_of_each_sample(digits, tmp_path, model, kind):
    annotations = load_data(digits, "val")
    loader = SampleLoader(CocoDataset(annotations, 64), 3) if kind == "train" else EvalLoader(annotations, 64, 3)
    made = cached(tmp_path / "a.f32", loader, model, {}, CPU, torch.float32)
    for kept, batch in zip(made, loader, strict=True):
        with torch.no_grad():
            expected = model.eval().features(batch.images)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(kept.images, expected, strict=True))
        assert kept.fits == batch.fits and len(kept) == len(batch)
        for ours, reference in zip(kept.targets, batch.targets, strict=True):
            assert torch.equal(ours.boxes, reference.boxes) and torch.equal(ours.labels, reference.labels)
            assert (ours.image_id, ours.size) == (reference.image_id, reference.size)


def test_a_cache_is_used_again_and_refused_for_anything_else(digits, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    folder = tmp_path / "features"
    config = frozen(data, tmp_path / "first", cache_features=True, features=str(folder), epochs=1)
    first = load_file(train(config))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {path.name for path in before} == {"train.f32", "train.json", "val.f32", "val.json"}
    again = load_file(train(dataclasses.replace(config, out=str(tmp_path / "again"))))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    def refused(name, **changes):
        other = dataclasses.replace(config, out=str(tmp_path / name.replace(" ", "")), **changes)
        with pytest.raises(UserError, match=rf"train\.f32 holds the features of other {name}: .*--features") as caught:
            train(other)
        assert "\n" not in str(caught.value)

    refused("weights", seed=1)
    refused("image size", imgsz=96)
    refused("preprocessing or precision", pixels="caffe")
    image = next((data / "train").iterdir())
    os.utime(image, ns=(1, 1))
    refused("data")


def test_a_cache_belongs_to_what_an_embedder_reads(digits):
    annotations, metadata, seen = load_data(digits, "train"), ModelMetadata(["a"], [1], 64), set()
    for changes in ({}, {"output_stride": 8}, {"mirror": True}):
        torch.manual_seed(0)
        net = build(EmbedderConfig(name="e", backbone="squeezenet1_1", **changes), metadata)
        seen.add(json.dumps(about(net, annotations, 64, torch.float32)))
    assert len(seen) == 3


def test_a_damaged_cache_is_named(digits, tmp_path):
    config = frozen(digits, tmp_path / "a", cache_features=True, features=str(tmp_path / "f"), epochs=1)
    train(config)
    with (tmp_path / "f" / "train.f32").open("ab") as file:
        file.truncate(100)
    with pytest.raises(UserError, match=r"train\.f32 does not have the \d+ bytes"):
        train(dataclasses.replace(config, out=str(tmp_path / "b")))
    (tmp_path / "f" / "train.json").write_text("{")
    with pytest.raises(UserError, match=r"train\.json cannot be read"):
        train(dataclasses.replace(config, out=str(tmp_path / "c")))


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"freeze": 1}, "--freeze -1"), ({"unfreeze_every": 1}, "--freeze -1"), ({"multi_scale": 0.5}, "--multi-scale")],
)
def test_what_features_cannot_follow_is_refused(digits, tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        train(frozen(digits, tmp_path, cache_features=True, **changes))
    assert not (tmp_path / "config.yaml").exists()


def test_what_a_cache_belongs_to_is_the_same_in_another_process_and_plain(digits, model):
    annotations = load_data(digits, "train")
    whose = about(model, annotations, 64, torch.float32)
    assert whose == about(model, load_data(digits, "train"), 64, torch.float32)
    assert json.loads(json.dumps(whose)) == whose
