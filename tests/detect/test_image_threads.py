"""Whether several threads are worth having for one image: measured, remembered, and used for that image alone."""

import json
import time

import numpy as np
import pytest
import torch

import detect
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.weights import save_weights
from detect.models.yolo import Yolo
from detect.utils import image_threads

SMALL, LARGE = 320 * 256, 640 * 512


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The file of an empty cache; nothing is remembered within the process, and the machine is quiet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("detect.utils.precision.time.process_time", time.perf_counter)
    image_threads.gains.cache_clear()
    yield tmp_path / "gridhead" / "precision.json"
    image_threads.gains.cache_clear()


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_measured_size_nearest_to_the_images_decides(cached, monkeypatch, two_threads):
    monkeypatch.setattr(image_threads, "measure_gains", lambda threads: {SMALL: 1.1, LARGE: 1.3})
    sizes = 0, 64 * 64, SMALL, SMALL * 2 - 10, SMALL * 2 + 10, LARGE, 20 * LARGE
    assert [image_threads.threads_for(pixels) for pixels in sizes] == [1, 1, 1, 1, 2, 2, 2]
    assert torch.get_num_threads() == 2


def test_one_thread_needs_no_measurement(cached, monkeypatch):
    monkeypatch.setattr(image_threads, "measure_gains", lambda threads: pytest.fail("it was measured"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert image_threads.threads_for(SMALL) == 1


def test_it_is_measured_once_and_a_damaged_cache_anew(cached, monkeypatch):
    calls = []
    monkeypatch.setattr(image_threads, "measure_gains", lambda threads: calls.append(threads) or {SMALL: 1.5, LARGE: 2})
    for _ in range(2):
        assert image_threads.gain(SMALL, 2) == 1.5
        image_threads.gains.cache_clear()  # as in another process
    assert calls == [2]
    assert image_threads.gain(LARGE, 4) == 2 and calls == [2, 4]
    content = json.loads(cached.read_text())
    for damage in ({}, [], {str(SMALL): 1.5}, {str(SMALL): "x", str(LARGE): 1}, {str(SMALL): 0, str(LARGE): -1}):
        cached.write_text(json.dumps(dict.fromkeys(content, damage)))
        image_threads.gains.cache_clear()
        assert image_threads.gain(SMALL, 2) == 1.5
    assert calls == [2, 4, 2, 2, 2, 2, 2]


def test_the_measurement_leaves_threads_and_random_numbers_as_they_were(two_threads):
    before = torch.get_rng_state()
    found = image_threads.measure_gains(2)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == 2
    assert sorted(found) == [SMALL, LARGE] and all(0 < one < float("inf") for one in found.values())


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_single_images_are_computed_by_as_many_threads_as_are_worth_it(tmp_path, monkeypatch, two_threads, gain):
    monkeypatch.setattr(image_threads, "gains", lambda threads: {SMALL: gain, LARGE: gain})
    path, seen = tmp_path / "w.safetensors", []
    save_weights(path, build(model_config("yolo_n"), ModelMetadata(["a"], [1], size=64)))
    decode = Yolo.postprocess

    def counted(self, raw, keep):
        seen.append(torch.get_num_threads())
        return decode(self, raw, keep)

    monkeypatch.setattr(Yolo, "postprocess", counted)
    model, image = detect.load(path), np.zeros((64, 64, 3), np.uint8)
    list(model.predict(image))
    list(model.predict([image] * 3))
    list(model.predict([image] * 2, batch=2))
    assert seen == [2 if gain > 1.5 else 1, 1, 1, 1, 1] and torch.get_num_threads() == 2
    monkeypatch.setattr(Yolo, "postprocess", lambda self, raw, keep: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(model.predict(image))
    assert torch.get_num_threads() == 2
