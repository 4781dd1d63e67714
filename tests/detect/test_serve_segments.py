"""`detect serve` with a model of pixels: the answer, its description, and the page."""

import base64
import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("jsonschema")

from detect.commands.serve import ServeConfig
from detect.data.image_writer import save_image
from detect.inference.palette import color_of
from detect.masks import RleMasks
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.weights import save_weights
from detect.semantic import SemanticMap
from detect.serve.detection import Detection
from detect.serve.worker import Inference
from tests.browser import WIDTHS, check_width, until
from tests.detect.test_serve_api import require
from tests.detect.test_serve_page import downloaded, drop
from tests.reference.server import BOUNDS, Server


def inference_of(names):
    one = object.__new__(Inference)  # without its weights and its queue
    one.settings, one.labels_pixels = {"max_megapixels": 1}, True
    ids = [10 * i for i in range(1, len(names) + 1)]
    one.detector = SimpleNamespace(names=names, metadata=SimpleNamespace(category_ids=ids))
    return one


def labels_of(height, width, classes, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, classes + 1, (height, width), np.uint8))


MAPS = {
    "three classes": (["a", "b", "c"], labels_of(40, 60, 3)),
    "one class": (["a"], labels_of(40, 60, 1)),
    "background alone": (["a", "b"], torch.full((40, 60), 2, dtype=torch.uint8)),
    "no background": (["a", "b"], torch.zeros(40, 60, dtype=torch.uint8)),
    "a row of pixels": (["a", "b"], labels_of(1, 5000, 2)),
    "as many classes as can be": ([str(i) for i in range(253)], labels_of(40, 60, 253)),
}


@pytest.mark.parametrize("case", MAPS)
def test_a_class_map_is_answered_as_described(case, tmp_path, monkeypatch):
    names, labels = MAPS[case]
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "a.png", np.zeros((*labels.shape, 3), np.uint8))
    (tmp_path / "a.png").rename("upload")
    found = SemanticMap(labels, len(names))
    status, answer = inference_of(names).predict_image(lambda frames: [(frames[0], found)], False)
    require("/image", "post", status, answer)
    assert (answer["height"], answer["width"]) == tuple(labels.shape)
    image = Image.open(io.BytesIO(base64.b64decode(answer["label_map"])))
    assert image.mode == "P" and (np.asarray(image) == found.label_image("classes")).all()
    colors = np.asarray(image.convert("RGB"))
    for label, one in zip(found.areas(), answer["segments"], strict=True):
        assert (one["category"], one["category_id"]) == (names[label], 10 * (label + 1))
        size, counts = one["segmentation"]["size"], one["segmentation"]["counts"]
        mask = RleMasks(tuple(size), [counts.encode()]).decode(0)
        assert (mask == (labels == label).numpy()).all() and (colors[mask] == color_of(label)).all()


def test_videos_are_refused_in_a_line():
    status, answer = inference_of(["a"]).predict_video("x", lambda frames: [])
    require("/video", "post", status, answer)
    assert status == 400 and answer["error"] == "videos are for models of boxes and masks: send images"


def test_the_page_is_that_of_the_models_answers(tmp_path):
    service = Detection(ServeConfig("w"), tmp_path)
    assert service.page == "detect.html"
    service.workers.model = {"answers": "segments"}
    assert service.page == "segments.html"


@pytest.mark.slow
def test_the_page_shows_the_label_map_and_downloads_it(page_at, digits, tmp_path):
    torch.manual_seed(0)
    model = build(dataclasses.replace(model_config("unet"), width=8), ModelMetadata(["cat", "dog"], [3, 5], size=96))
    save_weights(tmp_path / "w.safetensors", model)
    server = Server(tmp_path / "w.safetensors", *BOUNDS)
    try:
        image = sorted((digits / "train").iterdir())[0].read_bytes()
        status, answer = server.ask("POST", "/image", image, "image/jpeg")
        require("/image", "post", status, answer)
        require("/model", "get", *server.ask("GET", "/model"))
        status, error = server.ask("POST", "/video", (digits / "video.mp4").read_bytes(), "video/mp4")
        assert status == 400 and "send images" in error["error"]
        page = page_at(server.url)
        page.wait_for_selector("html[data-ready]", state="attached")
        drop(page, ("a.jpg", "image/jpeg", image), ("b.mp4", "video/mp4", b"no image"))
        until(page, "document.querySelectorAll('#classes label').length > 0")
        shares = page.locator("#classes .number").all_inner_texts()
        total = answer["width"] * answer["height"]
        areas = sorted((one["area"] for one in answer["segments"]), reverse=True)
        assert shares == [f"{100 * area / total:.1f} %" for area in areas]
        assert downloaded(page, "#save") == base64.b64decode(answer["label_map"])
        painted = """(() => { const one = document.getElementById("boxes"); let count = 0;
            const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
            for (let i = 3; i < data.length; i += 4) count += data[i] > 0; return count; })()"""
        assert abs(page.evaluate(painted) - sum(areas)) <= 0.01 * total + 4
        page.click("#classes input >> nth=0")
        assert page.evaluate(painted) < sum(areas)
        assert downloaded(page, "#copy")[1:4] == b"PNG"
        assert page.locator("#files li").count() == 1
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            check_width(page)
        page.click("#clear")
        assert page.locator("#workplace").is_hidden()
    finally:
        server.stop()
