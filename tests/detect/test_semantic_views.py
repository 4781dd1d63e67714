"""Class maps by several views: what tiles, sizes and mirror images say of a pixel is averaged."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from detect.api import Detector
from detect.inference.predictor import Predictor
from detect.inference.semantic_views import PlacedScores, SemanticViews, averaged_labels, canvas_scores
from detect.inference.tiles import tile_places
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.semantic import strip_rows
from detect.types import Frame, Postprocess

CLASSES = 3


class Grey:
    """A predictor whose logits of a pixel are of the class that its grey level, 0 to 2, names; it counts its images."""

    def __init__(self, sure=9.0):
        self.sure, self.shapes = sure, []

    def __call__(self, frames):
        for frame in frames:
            self.shapes.append(frame.image.shape[:2])
            classes = torch.from_numpy(np.ascontiguousarray(frame.image[..., 0])).long()
            yield frame, self.sure * torch.nn.functional.one_hot(classes, CLASSES).permute(2, 0, 1).float()


def frame_of(height, width, seed=0):
    grey = np.random.default_rng(seed).integers(0, CLASSES, (height, width, 1), np.uint8)
    return Frame(grey.repeat(3, 2), "x")


@pytest.mark.parametrize("size", [(1, 5000), (300, 1), (97, 41), (20, 30), (64, 64), (65, 200)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_tiles_and_mirror_images_give_each_pixel_its_class(size, mirrored):
    frame, predictors, side = frame_of(*size), [Grey()] * (2 if mirrored else 1), 64 if max(size) < 999 else 1000
    ((back, found),) = SemanticViews(predictors, side, mirrored, Postprocess())([frame])
    assert back is frame and found.background == 2
    assert (found.labels.numpy() == frame.image[..., 0]).all()
    assert max(max(shape) for shape in predictors[0].shapes) <= side
    ((_, some),) = SemanticViews(predictors, side, mirrored, Postprocess(classes=(1,)))([frame])
    assert (some.labels.numpy() == np.where(frame.image[..., 0] == 1, 1, 2)).all()


def test_overlapping_tiles_are_weighted_by_the_distance_from_their_borders(monkeypatch):
    """The naive twin adds whole tiles at once, and divides by the sum of the weights."""
    monkeypatch.setattr("detect.semantic.STRIP", 7)
    generator, (height, width) = torch.Generator().manual_seed(0), (90, 130)
    total, weights, parts = torch.zeros(5, height, width), torch.zeros(height, width), []
    for x1, y1, x2, y2 in tile_places(height, width, 40)[1:].tolist():
        scores = torch.rand(5, 23, 31, generator=generator)
        parts.append(PlacedScores((x1, y1, x2, y2), scores))
        edge = [torch.minimum(torch.arange(n) + 0.5, n - torch.arange(n) - 0.5) for n in (y2 - y1, x2 - x1)]
        weight = edge[0][:, None] * edge[1]
        total[:, y1:y2, x1:x2] += interpolate(scores[None], (y2 - y1, x2 - x1), mode="bilinear")[0] * weight
        weights[y1:y2, x1:x2] += weight
    labels, background = averaged_labels(iter(parts), (height, width))
    assert background == 4 and (weights > 0).all()
    best = (total / weights).topk(2, 0)
    clear = best.values[0] - best.values[1] > 1e-5
    assert clear.float().mean() > 0.99 and torch.equal(labels[clear].long(), best.indices[0][clear])


def test_strips_take_bounded_memory_whatever_the_classes():
    assert strip_rows(20, 4000) == 256 and strip_rows(254, 20_000) == 13 and strip_rows(254, 10**6) == 1


def test_an_unsure_view_yields_to_sure_ones():
    """Probabilities count, not votes: two views that are hardly for class 0, one that is sure of class 1."""
    image = np.zeros((8, 8, 3), np.uint8)
    predictors = [Grey(0.2), Grey(0.2), lambda frames: ((f, next(Grey()([f]))[1].roll(1, 0)) for f in frames)]
    ((_, found),) = SemanticViews(predictors, 0, True, Postprocess())([Frame(image, "x")])
    assert (found.labels == 1).all()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    card = ModelMetadata(["a", "b"], [1, 7], size=64)
    return build(dataclasses.replace(model_config("unet"), width=8), card).eval()


def test_one_view_alone_is_the_plain_prediction(model):
    frame = Frame(np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8), "x")
    ((_, plain),) = Predictor(model, 64)([frame])
    views = SemanticViews([Predictor(model, 64, finish=canvas_scores)], 64, False, Postprocess())
    assert torch.equal(next(iter(views([frame])))[1].labels, plain.labels)


def test_the_detector_takes_both_options(model):
    detector = Detector(model, torch.device("cpu"), torch.float32)
    image = np.random.default_rng(2).integers(0, 256, (90, 150, 3), np.uint8)
    maps = [
        next(iter(detector.predict(image, tta=tta, tile=tile)))[1]
        for tta, tile in [(True, False), (False, True), (True, True)]
    ]
    assert all(one.labels.shape == (90, 150) and one.names == ["a", "b"] for one in maps)
    assert all(int(one.labels.max()) <= 2 for one in maps)
