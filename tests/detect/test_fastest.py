"""An exported file runs in the precision that is fastest on this machine, of those that give float32's results."""

import json

import pytest
import torch

from detect.errors import UserError
from detect.export import fastest as module
from detect.export.comparison import agree
from detect.export.fastest import fastest, measure
from detect.export.metadata import About
from detect.export.runtime import Exported
from detect.models.base import ModelMetadata

PRECISIONS = ["float32", "bfloat16", "float16"]


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The file of an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gridhead" / "precision.json"


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """From measured speeds to what is chosen for a file; returns it with the number of measurements so far."""
    (tmp_path / "m.xml").write_text("a file")
    calls = []

    def choice(**speeds):
        monkeypatch.setattr(module, "measure", lambda files: calls.append(list(files)) or speeds)
        monkeypatch.setattr(module, "watched", lambda run: (run(), True))  # a quiet machine
        file, *chosen = fastest(str.upper, PRECISIONS, "torch", [tmp_path / "m.xml"])
        assert file == chosen[0].upper()
        return *chosen, len(calls)

    return choice


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({"bfloat16": 1.5, "float16": 1.7}, ("float16", 1.7)),
        ({"bfloat16": 1.5, "float16": 0.0}, ("bfloat16", 1.5)),  # other results in float16
        ({"bfloat16": 1.05, "float16": 0.7}, ("float32", 1.0)),  # a near tie
    ],
)
def test_the_fastest_with_the_same_results_is_chosen(cached, choose, speeds, chosen):
    assert choose(**speeds)[:2] == chosen


def test_it_is_measured_once_for_a_file_and_a_machine(cached, choose, tmp_path, monkeypatch):
    assert choose(bfloat16=1.5, float16=0.0) == ("bfloat16", 1.5, 1)
    assert choose(bfloat16=0.0, float16=9.0) == ("bfloat16", 1.5, 1)  # from the cache
    (tmp_path / "m.xml").write_text("another file")
    assert choose(bfloat16=0.0, float16=9.0) == ("float16", 9.0, 2)
    monkeypatch.setattr(module, "processor", lambda: "another processor")
    assert choose(bfloat16=0.0, float16=0.0) == ("float32", 1.0, 3)
    content = json.loads(cached.read_text())
    cached.write_text(json.dumps({key: {"bfloat16": "fast"} for key in content}))
    assert choose(bfloat16=2.0, float16=0.0) == ("bfloat16", 2.0, 4)


def file_of(tmp_path, run, **changes):
    about = About("m", "detect", ModelMetadata(["a", "b"], [1, 2], 64), ["boxes", "scores"], **changes)
    return Exported(tmp_path / "m.xml", about, run)


def outputs(moved=0.0, raised=0.0):
    """Boxes of 20 px, the first one with a high score, moved to the right, and their scores."""
    corner = torch.arange(30.0)[:, None].expand(30, 2) + torch.tensor([moved, 0.0])
    scores = torch.full((30, 2), 0.01)
    scores[0, 1] = 0.9 + raised
    return [torch.cat([corner, corner + 20], 1)[None], scores[None]]


def test_results_agree_where_their_difference_cannot_be_seen(tmp_path):
    file = file_of(tmp_path, None)
    assert agree(file, [outputs()], [outputs(0.3, 0.03)])
    assert not agree(file, [outputs()], [outputs(3.0)]) and not agree(file, [outputs()], [outputs(raised=-0.2)])
    nowhere = outputs()
    nowhere[1][0, 3:] *= float("nan")
    assert not agree(file, [outputs()], [nowhere])
    rows = torch.tensor([[10.0, 10, 30, 30, 0.9, 1]])
    file = file_of(tmp_path, None, suppressed=True)
    assert agree(file, [[(rows,)]], [[(rows + torch.tensor([0.5, 0, 0.5, 0, 0.01, 0]),)]])
    none = [[(rows[:0],)]]
    assert not agree(file, [[(rows,)]], none) and not agree(file, none, none)  # nothing is shown


def test_masks_are_compared_too_each_in_its_box(tmp_path):
    """Prototype 0 is a half plane, prototype 1 its opposite: boxes and scores alone would not tell them apart."""
    about = About(
        "m", "segment", ModelMetadata(["a", "b"], [1, 2], 64), ["boxes", "scores", "coefficients", "prototypes"]
    )
    file = Exported(tmp_path / "m.xml", about, None)
    plane = torch.zeros(1, 32, 16, 16)
    plane[:, 0, :, :5], plane[:, 0, :, 5:] = 1.0, -1.0
    plane[:, 1] = -plane[:, 0]

    def masked(first, noise=0.0, beyond=0.0):
        coefficients = torch.zeros(1, 30, 32)
        coefficients[..., 0], coefficients[..., 1] = first, 1 - first
        prototypes = plane + noise * torch.randn(plane.shape, generator=torch.Generator().manual_seed(0))
        prototypes[:, 0, 15] += beyond  # of the last row, where no good box is
        return [*outputs(0.1), coefficients, prototypes]

    assert agree(file, [masked(1.0)], [masked(1.0, noise=0.1)])
    assert agree(file, [masked(1.0)], [masked(1.0, beyond=9.0)])
    assert not agree(file, [masked(1.0)], [masked(0.0)])
    assert not agree(file, [masked(1.0)], [masked(float("nan"))])


def test_a_precision_with_other_results_counts_for_nothing(tmp_path):
    files = {"float32": outputs(), "bfloat16": outputs(0.1), "float16": outputs(30.0)}
    speeds = measure({name: file_of(tmp_path, lambda images, x=x: x) for name, x in files.items()})
    assert speeds["bfloat16"] > 0 and speeds["float16"] == 0


def test_a_precision_that_fails_on_this_processor_is_never_chosen(cached, tmp_path, monkeypatch):
    def opened(name):  # as OpenVINO fails on some Xeons with an int8 file in float16, and others may at the first image
        def run(images):
            if name == "bfloat16":
                raise RuntimeError("could not append an elementwise post-op")
            return outputs()

        if name == "float16":
            raise UserError("could not append an elementwise post-op")
        return file_of(tmp_path, run)

    (tmp_path / "m.xml").write_text("a file")
    assert fastest(opened, PRECISIONS, "torch", [tmp_path / "m.xml"])[1:] == ("float32", 1.0)
    monkeypatch.setattr(module, "watched", lambda run: (run(), True))  # a quiet machine
    fastest(opened, PRECISIONS, "torch", [tmp_path / "m.xml"])
    assert [*json.loads(cached.read_text()).values()] == [{"bfloat16": 0.0, "float16": 0.0}]
