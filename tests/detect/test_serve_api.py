"""The HTTP API of `detect serve`: its OpenAPI document, what the server does, and the examples of its docs page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("jsonschema")

import jsonschema

import detect.serve
from detect.commands.serve import ServeConfig
from detect.data.image_writer import save_image
from detect.masks import RleMasks
from detect.serve.app import described
from detect.serve.detection import Detection
from detect.serve.live import LiveView
from detect.serve.worker import Inference
from detect.types import Detections
from tests.reference.server import ROOT

FOLDER = Path(detect.serve.__file__).parent
DOCUMENT = yaml.safe_load((FOLDER / "openapi.yaml").read_text(encoding="utf-8"))
PAGE = ROOT / "docs" / "reference" / "http_api.md"
JSON = "application/json"


@pytest.fixture
def services(tmp_path):
    """What both forms of the command serve."""
    (tmp_path / "config.yaml").write_text("{data: d, model: m, seed: 0, workers: 0}")
    return [Detection(ServeConfig("w"), tmp_path), LiveView(ServeConfig(run=[str(tmp_path)]), tmp_path)]


def operations():
    return {path: {kind.upper() for kind in one} for path, one in DOCUMENT["paths"].items()}


def responses(path, method):
    return DOCUMENT["paths"][path][method]["responses"]


def resolved(one):
    return DOCUMENT["components"]["responses"][one["$ref"].split("/")[-1]] if "$ref" in one else one


def require(path, method, status, answer):
    """Check that the document allows this answer."""
    schema = resolved(responses(path, method)[str(status)])["content"][JSON]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer)


def values(node):
    yield node
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from values(one)


def test_the_document_describes_every_request_and_no_other(services):
    routes = [route for one in services for route in one.routes() if route.include_in_schema]
    known = {route.path_format: route.methods - {"HEAD"} for route in routes}
    assert operations() == known | {"/openapi.json": {"GET"}}
    for service in services:
        own = {route.path_format for route in service.routes() if route.include_in_schema}
        assert set(described(service.routes())["paths"]) == own


def test_the_document_is_sound():
    assert None not in list(values(DOCUMENT))  # a text with a comma, in braces and without quotes, becomes a key
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert set(schema.get("required", ())) <= set(schema.get("properties", schema.get("required", ())))
    for reference in (one["$ref"] for one in values(DOCUMENT) if isinstance(one, dict) and "$ref" in one):
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    names = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)
    for path, one in DOCUMENT["paths"].items():
        given = {p["name"] for op in one.values() for p in op.get("parameters", ()) if p.get("in") == "path"}
        assert given == set(re.findall(r"{(\w+)}", path))


def test_every_status_that_the_server_gives_is_described():
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    given = set(re.findall(r"RequestRejected\(\s*(\d+)|return (\d+) if|return (\d{3}), ", text))
    statuses = {status for found in given for status in found if status}
    said = {status for path in DOCUMENT["paths"].values() for one in path.values() for status in one["responses"]}
    assert statuses <= said


def test_answers_are_as_described(server, digits):
    data = next(iter(sorted((digits / "train").iterdir()))).read_bytes()
    for path in ("/openapi.json", "/model"):
        require(path, "get", *server.ask("GET", path))
    require("/image", "post", *server.ask("POST", "/image?conf=0.02", data, "image/jpeg"))
    for body, kind in (
        (b"no image", "image/png"),
        (b"", "image/png"),
        (data, "text/html"),
        (bytes(3 << 20), "image/png"),
    ):
        status, answer = server.ask("POST", "/image", body, kind)
        assert status >= 400
        require("/image", "post", status, answer)
    status, answer = server.ask("POST", "/video?conf=0.02", (digits / "video.mp4").read_bytes(), "video/mp4")
    require("/video", "post", status, answer)
    path = "/video/{name}/{file}"
    require(path, "get", *server.ask("GET", f"/video/{answer['name']}/detections.json"))
    require(path, "get", *server.ask("GET", "/video/none/video.mp4"))
    assert server.ask("GET", "/static/..%2fapp.py")[0] == server.ask("GET", "/static/none.js")[0] == 404
    require("/image", "post", *server.ask("POST", "/image", data, "image/jpeg", Host="evil.example"))


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_examples_of_the_docs_run(server, digits, tmp_path):
    image = next(iter(sorted((digits / "train").iterdir())))
    (tmp_path / "street.jpg").write_bytes(image.read_bytes())
    (tmp_path / "clip.mp4").write_bytes((digits / "video.mp4").read_bytes())
    curl = "\n".join(one for one in blocks("sh") if "curl" in one)
    python = blocks("python")
    assert curl.count("curl") >= 3 and len(python) >= 2
    programs = [[sys.executable, "-c", one] for one in python] + [["bash", "-ec", curl]]
    for program in programs:
        given = [one.replace("http://127.0.0.1:8000/", server.url) for one in program]
        done = subprocess.run(given, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and done.stdout, done.stderr
        assert "error" not in done.stdout
    assert json.loads((tmp_path / "detections.json").read_text())


@pytest.mark.parametrize("polygons", [False, True])
def test_masks_and_oriented_boxes_are_in_the_answer_as_described(tmp_path, monkeypatch, polygons):
    inference = object.__new__(Inference)  # without its weights and its queue
    inference.settings = {"max_megapixels": 1}
    inference.detector = SimpleNamespace(names=["cat"], metadata=SimpleNamespace(category_ids=[3]))
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "a.png").rename("upload")
    boxes, scores, labels = torch.tensor([[5.0, 5, 25, 15]]), torch.ones(1), torch.zeros(1).long()
    masks = RleMasks.of_windows((40, 60), [(5, 5, np.ones((10, 20), bool))])
    masked = Detections(boxes, scores, labels, masks=masks)
    turned = Detections(boxes, scores, labels, oriented=torch.tensor([[15.0, 10, 20, 10, 0]]))
    for found, keys in (
        (masked, {"segmentation", *(["polygons"] if polygons else [])}),
        (turned, {"corners", "angle"}),
    ):
        status, answer = inference.predict_image(lambda frames, found=found: [(frames[0], found)], polygons)
        require("/image", "post", status, answer)
        assert set(answer["detections"][0]) == {"category_id", "category", "bbox", "score", *keys}
