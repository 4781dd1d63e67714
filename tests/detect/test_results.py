"""What `predict` returns: results with their conversions, and the lazy sequence that makes them."""

import doctest
import json
import sys
import types
import weakref
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import detect
from detect.errors import UserError
from detect.inference.predictions import Predictions
from detect.inference.source import open_source
from detect.inference.video_writer import VideoWriter
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import save_weights
from detect.types import Classification, Detections, Distance, Embedding

NAMES, IDS = ["cat", "dog", "bird"], [1, 7, 9]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 40, 64, 3), np.uint8)


def detections(**more):
    boxes = torch.tensor([[1.0, 2, 11, 22], [3, 4, 5, 6.5]])
    return Detections(boxes, torch.tensor([0.9, 0.25]), torch.tensor([2, 0]), **more)


def library(monkeypatch, name, *classes):
    """A stand-in for a library that is not installed: each class keeps what it is made of."""
    module = types.ModuleType(name)
    for one in classes:
        made = lambda *args, **values: types.SimpleNamespace(**values, columns=dict(*args))  # noqa: E731
        setattr(module, one, made)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights that see a dog everywhere, two images and a video of four frames."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    model = build(YoloConfig(backbone="lenet5", neck="straight", levels=[2], width=8), ModelMetadata(NAMES, IDS, 64))
    for layer, _ in model.named_rows():
        layer.bias.data[1] = 4
    save_weights(folder / "best.safetensors", model)
    (folder / "images").mkdir()
    for name, image in zip("ab", IMAGES, strict=False):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
    video = VideoWriter(folder / "clip.mp4", Fraction(10))
    for i, image in enumerate(IMAGES):
        video.write(image, i / 10)
    video.close()
    return folder


def test_the_examples_of_the_page_are_true(files, monkeypatch):
    monkeypatch.chdir(files)
    library(monkeypatch, "pandas", "DataFrame")
    library(monkeypatch, "supervision", "Detections")
    ran = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert ran.attempted > 20 and not ran.failed


def test_detections_become_records_columns_and_arrays():
    points = torch.tensor([[[1.0, 2, 2]], [[3, 4, 0]]])
    found = detections(keypoints=points, tracks=torch.tensor([5, 6]), names=NAMES, category_ids=IDS)
    assert found.to_coco(3)[0] == {
        "image_id": 3,
        "category_id": 9,
        "category": "bird",
        "bbox": [1, 2, 10, 20],
        "score": 0.9,
        "keypoints": [1, 2, 2],
        "track_id": 5,
    }
    assert set(found.numpy()) == {"boxes", "scores", "labels", "keypoints", "tracks"}
    assert all(isinstance(value, np.ndarray) for value in found.numpy().values())
    columns = {name: list(values) for name, values in found.columns().items()}
    assert columns["x2"] == [11, 5] and columns["name"] == ["bird", "cat"] and columns["track"] == [5, 6]
    assert columns["x_0"] == [1, 3] and columns["visibility_0"] == [2, 0]
    assert found[1:].names == NAMES and found[1:].to_coco()[0]["category_id"] == 1


def test_without_names_a_label_stands_for_its_class():
    assert detections().to_coco()[0] == {"image_id": 1, "category_id": 2, "bbox": [1, 2, 10, 20], "score": 0.9}
    assert "name" not in detections().columns()
    assert detections().plot(IMAGES[0]).shape == Classification(torch.ones(1), torch.tensor([1])).plot(IMAGES[0]).shape
    assert Detections.none().to_coco() == [] and len(Detections.none().columns()["x1"]) == 0


def test_classifications_and_embeddings_convert_too(monkeypatch):
    found = Classification(torch.tensor([0.75]), torch.tensor([1]), names=NAMES, category_ids=IDS)
    assert found.to_coco() == [{"image_id": 1, "category_id": 7, "category": "dog", "score": 0.75}]
    vector = Embedding(np.array([0.5, -1], np.float32), Distance())
    assert vector.to_coco(2) == [{"image_id": 2, "embedding": [0.5, -1]}] and set(vector.numpy()) == {"values"}
    library(monkeypatch, "pandas", "DataFrame")
    library(monkeypatch, "supervision", "Classifications", "Detections")
    assert set(vector.to_dataframe().columns) == {"v_0", "v_1"}
    assert found.to_supervision().class_id.tolist() == [1]
    other = detections(tracks=torch.tensor([5, 6])).to_supervision()
    assert other.tracker_id.tolist() == [5, 6] and other.data == {}
    with pytest.raises(UserError, match="nothing to draw"):
        vector.plot(IMAGES[0])


@pytest.mark.parametrize("method", ["to_dataframe", "to_supervision"])
def test_a_library_that_is_missing_is_one_line(monkeypatch, method):
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k not in ("pandas", "supervision")})
    with pytest.raises(UserError, match=rf"^{method}\(\) needs \w+, which is not installed: pip install"):
        getattr(detections(), method)()


def test_a_result_is_saved_as_an_annotated_image_or_as_json(tmp_path):
    found = detections(names=NAMES, category_ids=IDS)
    found.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == found.to_coco()
    found.save(str(tmp_path / "a.png"), IMAGES[0])
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], found.plot(IMAGES[0]))
    with pytest.raises(UserError, match=r"a\.png: a result does not hold its image"):
        found.save(tmp_path / "a.png")


class Counted:
    """A predictor that notes the frames it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, frames):
        for frame in frames:
            self.seen.append((frame.name, frame.index))
            yield frame, Detections.none()


def test_an_index_runs_the_model_on_that_image_alone_and_once(files):
    predict = Counted()
    results = Predictions(lambda: open_source([str(files / "images"), IMAGES[2]]), predict)
    assert len(results) == 3 and predict.seen == []
    assert results[1].frame.name == "b.png" and results[1] is results[1] and results[-1].frame.index == 0
    assert predict.seen == [("b.png", 0), ("image-2", 0)]
    assert [one.frame.name for one in results[::2]] == ["a.png", "image-2"]
    with pytest.raises(IndexError):
        results[3]
    with pytest.raises(IndexError):
        results[-4]
    predict.seen.clear()
    assert len(list(results)) == len(list(results)) == 3 and len(predict.seen) == 6


def test_a_video_is_iterated_anew_and_indexed_from_its_start(files):
    predict = Counted()
    results = Predictions(lambda: open_source(str(files / "clip.mp4"), 2), predict)
    assert [frame.index for frame, _ in results] == [frame.index for frame, _ in results] == [0, 2]
    predict.seen.clear()
    assert results[1].frame.index == 2 and predict.seen == [("clip.mp4", 2)]
    for wrong in (lambda: len(results), lambda: results[-1], lambda: results[:1]):
        with pytest.raises(TypeError, match="is unknown before the video source is read"):
            wrong()
    with pytest.raises(IndexError):
        results[9]


def test_a_loop_keeps_no_frame(files):
    results, seen = Predictions(lambda: open_source(str(files / "clip.mp4")), Counted()), []
    for frame, _ in results:
        seen.append(weakref.ref(frame.image))
        del frame, _
        assert sum(one() is not None for one in seen) <= 2  # the one in the generators, and the one before
    assert len(seen) == 4 and all(one() is None for one in seen)


def test_frames_of_a_stream_have_no_numbers(files):
    source = open_source(str(files / "images"))
    source.kind = "stream"
    results = Predictions(lambda: source, Counted())
    with pytest.raises(TypeError, match="frames of a stream cannot be chosen by a number"):
        results[0]


def test_a_source_that_cannot_be_read_is_an_error_at_once(files):
    with pytest.raises(UserError, match="nowhere"):
        detect.load(files / "best.safetensors", "cpu").predict("nowhere.jpg")
