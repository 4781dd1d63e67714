"""Several classifiers and several views of an image in `detect predict`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from detect.api import Detector
from detect.commands.predict import PredictConfig, predict
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.layers import LayersConfig
from detect.models.weights import save_weights

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    for seed, (name, names, size) in enumerate((("one", NAMES, 24), ("two", NAMES, 32), ("other", NAMES[::-1], 24))):
        torch.manual_seed(seed)
        model = build(LayersConfig(layers=["conv 8 3 stride=2", "mean 4"]), ModelMetadata(names, [1, 2, 3], size=size))
        torch.nn.init.normal_(model.network.head[-1].weight)
        save_weights(folder / f"{name}.safetensors", model)
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def predicted(folder, out, *names, **options):
    weights = [str(folder / f"{name}.safetensors") for name in names]
    predict(
        PredictConfig(
            weights, [str(folder / "*.png")], str(out), device="cpu", precision="float32", conf=0.0, **options
        )
    )
    found = {}
    for entry in json.loads((out / "classes.json").read_text()):
        found.setdefault(entry["image"], {})[entry["category_id"]] = entry["score"]
    return [{key: found[name][key] for key in sorted(found[name])} for name in sorted(found)]


def test_the_probabilities_of_several_classifiers_are_averaged(folder, tmp_path):
    one, two, both = (predicted(folder, tmp_path / str(len(n)) / n[0], *n) for n in (["one"], ["two"], ["one", "two"]))
    assert len(both) == 2
    for a, b, mean in zip(one, two, both, strict=True):
        assert mean == pytest.approx({key: (a[key] + b[key]) / 2 for key in mean}, abs=2e-4)
    again = predicted(folder, tmp_path / "again", "one", "one")
    assert again == [pytest.approx(scores, abs=2e-4) for scores in one]


def test_views_are_averaged(folder, tmp_path):
    straight, views = predicted(folder, tmp_path / "1", "one"), predicted(folder, tmp_path / "10", "one", crops=10)
    mirrored = tmp_path / "mirrored"
    mirrored.mkdir()
    for i in range(2):
        Image.fromarray(np.asarray(Image.open(folder / f"{i}.png"))[:, ::-1]).save(mirrored / f"{i}.png")
        (mirrored / "one.safetensors").write_bytes((folder / "one.safetensors").read_bytes())
    turned = predicted(mirrored, tmp_path / "turned", "one", crops=10)  # the same ten views, but for rounding
    assert [pytest.approx(scores, abs=0.02) for scores in views] == turned
    assert straight != views


def test_what_cannot_be_averaged_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="not those of the first weights"):
        predicted(folder, tmp_path, "one", "other")
    assert Detector.load(folder / "one.safetensors").names == NAMES
