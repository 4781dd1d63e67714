"""`detect.load(...).predict(...)`: values are checked when it is called, as on the command line."""

import numpy as np
import pytest
import torch
from PIL import Image

import detect
from detect.errors import UserError
from detect.inference.arrays import as_rgb
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.classifier import ClassifierConfig
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import save_weights
from detect.types import Postprocess

NAMES = ["Person", "fire truck", "7"]
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    torch.manual_seed(0)
    model = build(
        YoloConfig(backbone="lenet5", neck="straight", levels=[2], width=8), ModelMetadata(NAMES, [1, 2, 3], 64)
    )
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, model)
    return detect.load(path, "cpu", "FLOAT32")  # the case of names does not matter


def test_every_public_name_is_there():
    assert all(getattr(detect, name) is not None for name in detect.__all__)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["Person"], {0}),
        (["person", "FIRE TRUCK"], {0, 1}),
        ([1, np.int64(2)], {1, 2}),
        (["1"], {1}),
        (["7"], {2}),  # a name before an index
        ("fire truck", {1}),
        (2, {2}),
        (("Person", 0), {0}),
    ],
)
def test_classes_are_names_or_indices(detector, given, labels):
    ((_, found),) = detector.predict(IMAGE, conf=0.0, classes=given)
    assert set(found.labels.tolist()) == labels


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"conf": 25}, "conf is 25: it must be from 0 to 1"),
        ({"conf": float("nan")}, "conf is nan"),
        ({"conf": "0.5"}, "conf is '0.5': it must be a number"),
        ({"iou": None}, "iou is None: it must be a number"),
        ({"conf": True}, "conf is True: it must be a number"),
        ({"iou": -0.1}, "iou is -0.1"),
        ({"max_det": -1}, "max_det is -1: it must be at least 1"),
        ({"max_det": True}, "max_det is True: it must be a whole number"),
        ({"max_det": 3.0}, "max_det is 3.0: it must be a whole number"),
        ({"imgsz": -32}, "imgsz is -32: it must be from 0 to 8192"),
        ({"imgsz": (640, 480)}, "imgsz is (640, 480): it must be a whole number"),
        ({"batch": 0}, "batch is 0"),
        ({"vid_stride": 0}, "vid_stride is 0"),
        ({"tile": "yes"}, "tile is 'yes': it must be True or False"),
        ({"agnostic": 1}, "agnostic is 1: it must be True or False"),
        ({"classes": [99]}, "class 99: the model has 3, with the indices 0 to 2"),
        ({"classes": [-1]}, "class -1"),
        ({"classes": ["persn"]}, "unknown class 'persn': did you mean 'Person'?"),
        ({"classes": [True]}, "unknown class True"),
        ({"classes": [None]}, "unknown class None"),
        ({"classes": 0.5}, "classes is 0.5: give a list"),
        ({"classes": []}, "classes is an empty list"),
    ],
)
def test_a_value_out_of_range_is_refused_when_predict_is_called(detector, values, said):
    with pytest.raises(UserError) as caught:
        detector.predict(IMAGE, **values)
    assert said in str(caught.value)


def test_numbers_of_numpy_are_numbers(detector):
    ((_, found),) = detector.predict(IMAGE, conf=np.float32(0), max_det=np.int32(3), imgsz=np.int64(64))
    assert len(found) == 3


@pytest.mark.parametrize("values", [{"score": 2.0}, {"iou": float("nan")}, {"limit": 0}, {"soft": "no"}])
def test_keep_holds_the_same_ranges(values):
    with pytest.raises(UserError, match=r"Postprocess\.\w+ is"):
        Postprocess(**values)


@pytest.mark.parametrize("values", [{"precision": "float8"}, {"device": "gpu:x"}])
def test_load_names_what_it_cannot_use(values, tmp_path):
    with pytest.raises(UserError, match=next(iter(values.values()))):
        detect.load(tmp_path / "no.safetensors", **values)


def test_an_option_that_the_task_does_not_read_is_refused_as_on_the_command_line(tmp_path):
    save_weights(
        tmp_path / "c.safetensors",
        build(ClassifierConfig(backbone="lenet5"), ModelMetadata(NAMES, [1, 2, 3], 32)),
    )
    with pytest.raises(UserError, match=r"--iou is for detectors, .*keypoint detectors.*, and the model is none"):
        detect.load(tmp_path / "c.safetensors", "cpu").predict(IMAGE, iou=0.5)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "1", "RGBA", "YCbCr"])
def test_pil_images_become_what_they_show(mode):
    image = Image.fromarray(IMAGE).convert(mode)
    assert np.array_equal(as_rgb(image), np.array(image.convert("RGB")))


def test_pil_images_of_sixteen_bits_keep_the_upper_eight(tmp_path):
    deep = np.random.default_rng(1).integers(0, 65536, (8, 9)).astype(np.uint16)
    image = Image.fromarray(deep)
    assert image.mode == "I;16"
    assert np.array_equal(as_rgb(image), np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, 2))
    image.save(tmp_path / "a.png")
    assert np.array_equal(as_rgb(Image.open(tmp_path / "a.png")), as_rgb(image))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.fromarray(np.zeros((4, 4), np.int32)), "mode I has no known range; convert it to L, RGB or I;16"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), "floating-point pixels have no known range"),
        (np.zeros((4, 4), np.uint16), "(image >> 8).astype('uint8')"),
        (np.zeros((4, 4, 3), np.float32), "(image * 255).round().astype('uint8')"),
        (np.zeros((4, 4, 4), np.uint8), "image[..., :3]"),
        (np.zeros((4, 4, 2), np.uint8), "give (H, W, 3) uint8 RGB"),
        (np.zeros((4, 4, 3), np.int64), "give (H, W, 3) uint8 RGB"),
    ],
)
def test_pixels_of_unknown_meaning_are_refused_with_the_remedy(image, said):
    with pytest.raises(UserError) as caught:
        as_rgb(image)
    assert said in str(caught.value)


def test_one_channel_is_grey():
    assert np.array_equal(as_rgb(IMAGE[..., :1]), np.repeat(IMAGE[..., :1], 3, 2))


def test_a_turned_pil_image_is_set_upright():
    image = Image.fromarray(IMAGE)
    image.getexif()[0x0112] = 6
    assert np.array_equal(as_rgb(image), np.rot90(IMAGE, -1))


def test_weights_that_are_no_path_are_refused():
    for weights in (None, 5, [b"w"]):
        with pytest.raises(UserError, match="it must be text"):
            detect.load(weights)
