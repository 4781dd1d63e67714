"""Several embedders as one: the joined distance against plain loops, and the commands from weights to answers."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import detect
from detect.__main__ import main
from detect.config.fusion import FusionConfig
from detect.data.images import read_image
from detect.embedding.gallery import Gallery
from detect.errors import UserError
from detect.inference.embedding_fusion import EmbeddingFusion
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.configs.embedder import EmbedderConfig, EmbedderLossConfig
from detect.models.weights import save_weights
from detect.types import Distance, Embedding, Postprocess, Preprocess
from tests.reference import embeddings as naive

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = ["--device", "cpu", "--precision", "float32"]


def member(dimensions: int, distance: Distance) -> SimpleNamespace:
    model = SimpleNamespace(config=SimpleNamespace(dimensions=dimensions), distance=lambda: distance)
    return SimpleNamespace(model=model, metadata=ModelMetadata(["a"], [1], thresholds={"accuracy": 1.0}))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    siamese=st.booleans(),
    equal=st.booleans(),
)
def test_the_joined_distance_is_the_mean_of_those_of_the_models(seed, lengths, siamese, equal):
    rng = np.random.default_rng(seed)
    shares = [1.0] * len(lengths) if equal else (10 ** rng.uniform(-3, 3, len(lengths))).tolist()
    units = [(rng.normal(size=n).astype(np.float32), float(rng.normal())) for n in lengths]
    distances = [Distance(*unit) if siamese else Distance() for unit in units]
    members = [member(n, one) for n, one in zip(lengths, distances, strict=True)]
    fuse = EmbeddingFusion(members, ["w"] * len(lengths), FusionConfig(weights=[] if equal else shares))
    both = []
    for _ in range(2):
        vectors = [rng.normal(size=n) for n in lengths]
        both.append([(one / np.linalg.norm(one)).astype(np.float32) for one in vectors])
    a, b = (fuse(Postprocess(), [Embedding(x, d) for x, d in zip(one, distances, strict=True)]) for one in both)
    first, second = ([one.tolist() for one in some] for some in both)
    assert np.linalg.norm(a.values) == pytest.approx(1, abs=1e-5), "as long as that of one model"
    assert a.values.dtype == np.float32 and len(a.values) == fuse.dimensions == sum(lengths)
    found = float(fuse.distance(a.values, b.values))
    if siamese:
        expected = naive.mean_of_logits(first, second, [(unit.tolist(), bias) for unit, bias in units], shares)
        assert found == pytest.approx(expected, abs=1e-4)
    else:
        assert found**2 == pytest.approx(naive.mean_of_squares(first, second, shares), abs=1e-4)
    if len(lengths) == 1:
        assert np.array_equal(a.values, both[0][0]) and fuse.metadata.thresholds
    else:
        assert not fuse.metadata.thresholds, "thresholds are of one model"


def test_a_logit_and_a_euclidean_distance_have_no_mean():
    members = [member(2, Distance()), member(2, Distance(np.ones(2, np.float32), 0.5))]
    for order, paths in ((members, ["a", "b"]), (members[::-1], ["b", "a"])):
        with pytest.raises(UserError, match="distance of a is Euclidean, that of b is minus the logit"):
            EmbeddingFusion(order, paths, FusionConfig())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Untrained embedders of other sizes, lengths, colours, preprocessing and losses; images of two people."""
    folder, rng = tmp_path_factory.mktemp("embedders"), np.random.default_rng(0)
    stretched, small = replace(Preprocess(), stretch=True), {"backbone": "lenet5", "dimensions": 4}
    for seed, (name, size, options, pixels) in enumerate(
        (
            ("one", 32, {"in_channels": 1}, Preprocess()),
            ("two", 48, {"dimensions": 6}, stretched),
            ("twins", 32, {"loss": EmbedderLossConfig(kind="siamese")}, Preprocess()),
        )
    ):
        torch.manual_seed(seed)
        metadata = ModelMetadata(["a"], [1], size=size, preprocess=pixels, thresholds={"accuracy": 1, "far_1pct": 1})
        save_weights(folder / name, build(EmbedderConfig(name="e", **small | options), metadata))
    for person in "fg":
        (folder / "people" / "val" / person).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "people" / "val" / person / f"{i}.png")
    return folder


def embedded(path: Path, image: str) -> list[float]:
    ((_, one),) = detect.load(path, "cpu", "float32").predict(read_image(Path(image)))
    return one.values.tolist()


def test_verify_and_evaluate_measure_the_mean_of_the_models(folder, tmp_path, capsys):
    pair = [str(folder / "people" / "val" / name) for name in ("f/0.png", "g/1.png")]
    both = ["--weights", str(folder / "one"), str(folder / "two"), "--fusion.weights", "[3,1]"]
    assert main(["verify", *pair, *both, "--threshold", "0.5", "--json", *CPU]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second = ([embedded(folder / name, one) for name in ("one", "two")] for one in pair)
    assert found["distance"] ** 2 == pytest.approx(naive.mean_of_squares(first, second, [3, 1]), rel=1e-3)
    assert main(["verify", *pair, *both, *CPU]) == 2
    said = capsys.readouterr().err
    assert "have no threshold together: give --threshold" in said and "detect evaluate" in said

    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,b,same\nval/f/0.png,val/g/1.png,0\nval/f/0.png,val/f/1.png,1\n")
    data = ["--data", str(folder / "people"), "--workers", "0", "--pairs", str(pairs), "--json", str(tmp_path / "m")]
    assert main(["evaluate", *both, *data, *CPU]) == 0
    assert "2 models, mean distance" in capsys.readouterr().out
    thresholds = json.loads((tmp_path / "m").read_text())["thresholds"]
    other = str(folder / "people" / "val" / "f" / "1.png")
    assert main(["verify", pair[0], other, *both, "--threshold", "0.5", "--json", *CPU]) == 0
    near, far = json.loads(capsys.readouterr().out)["distance"], found["distance"]
    middle = (near + far) / 2 if near < far else min(near, far)
    assert thresholds["accuracy"] == pytest.approx(middle, abs=1e-3), "of the same distances as those of verify"


def test_a_gallery_remembers_all_of_its_embedders(folder, tmp_path, capsys):
    one, two, out = str(folder / "one"), str(folder / "two"), str(tmp_path / "g")
    source = str(folder / "people" / "val")
    made = ["embed", "--weights", one, two, "--fusion.weights", "3", "--fusion.weights", "1", "--source", source]
    assert main([*made, "--out", out, *CPU]) == 0
    gallery = Gallery.load(tmp_path / "g")
    assert [path for path, _ in gallery.weights] == [one, two] and gallery.shares == [0.75, 0.25]
    asked = ["identify", "--gallery", out, "--source", f"{source}/g/1.png", "--threshold", "0.01", *CPU]
    for words in ([], ["--weights", one, two]):
        assert main([*asked, "--json", *words]) == 0
        (record,) = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert record["person"] == "g" and record["picture"] == "g/1.png"
    for words, said in (
        ([two, one], f"in another order: give --weights {one} {two}"),
        ([one], f"was not built with {one}: build it again"),
        ([one, one], "was not built with"),
        ([one, f"{folder}/gone.safetensors"], "gone.safetensors, which is not there"),
    ):
        assert main([*asked, "--weights", *words]) == 2
        assert said in capsys.readouterr().err
    assert main([*asked[:5], *CPU]) == 2
    assert "give --threshold" in capsys.readouterr().err


def test_what_cannot_be_joined_is_one_line(folder, tmp_path, capsys):
    torch.manual_seed(0)
    small = {"width": 8, "levels": [3], "neck": "straight"}
    detector = str(tmp_path / "detector")
    config = replace(model_config("yolo_n"), **small)
    save_weights(Path(detector), build(config, ModelMetadata(["a"], [1], size=64)))
    one, two, twins = (str(folder / name) for name in ("one", "two", "twins"))
    people, image = str(folder / "people"), str(folder / "people" / "val" / "f" / "0.png")
    data = ["--data", people, "--workers", "0"]
    for words, said in (
        (["embed", "--source", image, "--weights", one, detector], "several tasks (detect, embed)"),
        (["embed", "--source", image, "--weights", detector, detector], "is no embedder"),
        (["embed", "--source", image, "--weights", one, twins], "Siamese"),
        (["embed", "--source", image, "--weights", one, "--fusion.weights", "2"], "several --weights alone"),
        (["verify", image, image, "--weights", one, two, "--fusion.weights", "2"], "1 number for 2 --weights"),
        (["evaluate", *data, "--weights", one, detector], "several tasks (detect, embed)"),
        (["evaluate", *data, "--weights", one, two, "--fusion.method", "nms"], "--fusion.method is for"),
        (["evaluate", *data, "--weights", one, twins], "Siamese"),
        (["predict", "--source", image, "--out", str(tmp_path / "o"), "--weights", one, two], "is an embedder"),
    ):
        out = ["--out", str(tmp_path / "g")] if words[0] == "embed" else []
        assert main([*words, *out, *CPU]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert said in lines[-1] and len(lines) == 1, lines
    assert main(["verify", image, image, "--weights", twins, twins, "--threshold", "-1", *CPU]) == 0
    assert not (tmp_path / "g").exists()
