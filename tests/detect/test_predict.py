"""Frames through the predictor: boxes in source pixels, order, batches, and a reading thread that behaves."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.api import Detector
from detect.data.letterbox import Letterbox, in_source
from detect.errors import UserError
from detect.evaluation.dataset_pass import predict_batches
from detect.inference import predictor as predict
from detect.inference.predictor import Predictor, parallel_map, prefetch
from detect.inference.source import open_source
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.yolo import YoloConfig
from detect.models.yolo import select_detections
from detect.types import Batch, Detections, Frame, Postprocess, Target
from tests.reference.planted import MagentaFinder, planted


def predictor(**options) -> Predictor:
    return Predictor(MagentaFinder(), 160, Postprocess(), **options)


def frame(height: int, width: int, box: tuple[int, int, int, int] | None, name: str = "x") -> Frame:
    return Frame(planted(height, width, box), name)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_planted_object_is_found_where_it_is(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(60, 400)), data.draw(st.integers(60, 400))
    x1, y1 = data.draw(st.integers(0, width - 40)), data.draw(st.integers(0, height - 40))
    box = (x1, y1, data.draw(st.integers(x1 + 30, width)), data.draw(st.integers(y1 + 30, height)))
    ((_, found),) = predictor()([frame(height, width, box)])
    pixel = max(height, width) / 160 + 1  # one of the canvas, and the blur of resizing
    assert found.boxes[0].tolist() == pytest.approx(box, abs=1.5 * pixel)
    assert found.labels.tolist() == [1] and found.scores.device.type == "cpu"


def test_nothing_found_and_no_frames() -> None:
    ((_, found),) = predictor()([frame(40, 50, None)])
    assert len(found) == 0 and found.boxes.shape == (0, 4)
    assert list(predictor()([])) == []


def test_order_is_kept_and_batches_hold_one_canvas() -> None:
    sizes = [(80, 160)] * 3 + [(160, 160)] * 2 + [(80, 160)] + [(40, 80)] * 2
    frames = [frame(h, w, (0, 0, 20, 20), str(i)) for i, (h, w) in enumerate(sizes)]
    finder = predictor(batch=2)
    assert [f.name for f, _ in finder(frames)] == [str(i) for i in range(8)]
    wide, square = (96, 160), (160, 160)
    assert [(s[0], s[2:]) for s in finder.model.shapes] == [(2, wide), (1, wide), (2, square), (2, wide), (1, wide)]


def test_batches_change_no_answer() -> None:
    frames = [frame(90, 120, (i, i, i + 40, i + 30)) for i in range(7)]
    one, many = ([found for _, found in predictor(batch=b)(frames)] for b in (1, 4))
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(one, many, strict=True))


def test_boxes_are_clipped_and_those_without_area_dropped() -> None:
    fit = Letterbox.fit((100, 200), 160)  # 0.8 of the size, 8 rows of padding above
    boxes = torch.tensor([[-8.0, 0, 80, 96], [0, 0, 40, 8], [40, 48, 40, 60], [80, 48, 160, 88]])
    points = torch.tensor([[[80.0, 48, 2]], [[0, 0, 0]], [[0, 0, 0]], [[160, 88, 1]]])
    found = in_source(Detections(boxes, torch.arange(4.0), torch.arange(4), points), fit)
    assert torch.allclose(found.boxes, torch.tensor([[0.0, 0, 100, 100], [100, 50, 200, 100]]))
    assert found.scores.tolist() == [0, 3] and found.labels.tolist() == [0, 3]
    assert found.keypoints is not None
    assert torch.allclose(found.keypoints, torch.tensor([[[100.0, 50, 2]], [[200, 100, 1]]]))


def test_evaluation_leaves_the_canvas_as_prediction_does() -> None:
    """Boxes without area in the image are in neither."""

    class Fixed(torch.nn.Module):
        square, needs_proposals, task = False, False, "detect"
        metadata = ModelMetadata(["a", "b", "c", "d"], [1, 2, 3, 4])

        def postprocess(self, raw: object, keep: Postprocess) -> list[Detections]:
            boxes = torch.tensor([[-8.0, 0, 80, 96], [0, 0, 40, 8], [40, 48, 40, 60], [80, 48, 160, 88]])
            return [Detections(boxes, torch.arange(4.0), torch.arange(4))]

        def forward(self, images: torch.Tensor) -> None:
            return None

    image = np.zeros((100, 200, 3), np.uint8)
    fit = Letterbox.fit((100, 200), 160)
    target = Target(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), 7, (100, 200))
    batch = Batch(torch.from_numpy(fit.apply(image)).permute(2, 0, 1)[None], [target], [fit])
    ((ids, (evaluated,)),) = predict_batches(Fixed(), [batch], Postprocess(), torch.device("cpu"), torch.float32)
    ((_, predicted),) = Predictor(Fixed(), 160)([Frame(image, "a")])
    assert ids == [7] and len(predicted) == 2
    assert evaluated.boxes.tolist() == predicted.boxes.tolist() and evaluated.labels.tolist() == [0, 3]
    keep = Postprocess(keep_empty=True)  # as for landmarks: one record for each, wherever it lies
    ((_, (every,)),) = predict_batches(Fixed(), [batch], keep, torch.device("cpu"), torch.float32)
    assert every.labels.tolist() == [0, 1, 2, 3]


def test_answers_are_ordinary_tensors_and_the_caller_keeps_its_gradients() -> None:
    for _, found in predictor()([frame(60, 60, (5, 5, 30, 30))]):
        weight = torch.ones(1, requires_grad=True)
        (found.boxes * weight).sum().backward()
        assert weight.grad is not None and not found.boxes.is_inference()


def test_sources_go_in_as_they_are() -> None:
    images = [planted(60, 80, (10, 10, 50, 40)), planted(60, 80, None)]
    assert [len(found) for _, found in predictor()(open_source(images))] == [1, 0]


def test_an_error_of_the_source_comes_after_the_frames_before_it() -> None:
    def frames() -> Iterator[Frame]:
        yield frame(60, 60, None)
        raise UserError("the second frame is broken")

    answers = predictor()(frames())
    assert len(next(answers)[1]) == 0
    with pytest.raises(UserError, match="second frame"):
        next(answers)


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_prefetch_is_bounded_and_its_thread_ends_with_it() -> None:
    made = []

    def endless() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    ahead = prefetch(endless(), ahead=3)
    assert [next(ahead), next(ahead)] == [0, 1]
    time.sleep(0.3)
    assert 2 <= len(made) <= 2 + 3 + 2
    ahead.close()
    assert threads() == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers()), st.integers(1, 5))
def test_prefetch_gives_the_same_items(items: list[int], ahead: int) -> None:
    assert list(prefetch(items, ahead)) == items
    assert threads() == []


def test_frames_are_not_copied_on_their_way() -> None:
    given_frame = Frame(np.zeros((32, 32, 3), np.uint8), "x")
    ((back, _),) = predictor()([given_frame])
    assert back is given_frame


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_values_come_in_the_order_of_the_items_whatever_the_number_of_threads(threads: int) -> None:
    before = torch.get_num_threads()

    def slow_first(i: int) -> tuple[int, int]:
        time.sleep(0.02 if i == 0 else 0)
        return i, torch.get_num_threads()

    values = list(parallel_map(slow_first, range(7), threads))
    assert [i for i, _ in values] == list(range(7))
    assert {n for _, n in values} == ({before} if threads == 1 else {1})
    assert torch.get_num_threads() == before
    assert list(parallel_map(slow_first, [], threads)) == []


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("where", ["items", "function"])
def test_an_error_comes_after_the_values_before_it(threads: int, where: str) -> None:
    def items() -> Iterator[int]:
        for i in range(5):
            if where == "items" and i == 3:
                raise UserError("broken")
            yield i

    def function(i: int) -> int:
        if where == "function" and i == 3:
            raise UserError("broken")
        return i

    seen = []
    with pytest.raises(UserError, match="broken"):
        for value in parallel_map(function, items(), threads):
            seen.append(value)
    assert seen == [0, 1, 2]


def test_several_threads_give_the_answers_of_one() -> None:
    detector = Detector(
        build(dataclasses.replace(YoloConfig(), width=16), ModelMetadata(["a"], [1], size=64)),
        torch.device("cpu"),
        torch.float32,
    )
    frames = [frame(90 + i % 3, 120, (i, i, i + 40, i + 30), str(i)) for i in range(9)]
    before = torch.get_num_threads()
    answers = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        answers.append(list(detector.predictor(Postprocess(score=0.0, limit=50), 64)(frames)))
    torch.set_num_threads(before)
    for (one, found), (other, same) in zip(*answers, strict=True):
        assert one.name == other.name and torch.allclose(found.scores, same.scores, atol=1e-4)


def test_large_images_do_not_pile_up_before_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "AHEAD", 11_000)
    made = []

    def frames() -> Iterator[Frame]:
        for i in range(8):
            made.append(i)
            yield Frame(np.zeros((60, 30, 3), np.uint8), str(i))  # 5,400 bytes

    with closing(prefetch(frames(), ahead=6)) as ahead:
        for i in range(8):
            assert next(ahead).name == str(i)
            assert len(made) <= i + 3  # the one given, and two in front
    assert threads() == []


@pytest.mark.parametrize("soft", [False, True])
def test_what_the_limits_cut_off_is_counted(soft: bool) -> None:
    count = 4200
    corners = torch.arange(count)[:, None] * 20.0
    boxes = torch.cat([corners, corners, corners + 10, corners + 10], 1)
    scores = torch.linspace(0.9, 0.3, count)[:, None]
    keep = Postprocess(limit=10, soft=soft)
    hits = keep.limit_hits
    assert len(select_detections(boxes[:10], scores[:10], keep)) == 10 and (hits.limited, hits.crowded) == (0, 0)
    assert len(select_detections(boxes[:11], scores[:11], keep)) == 10 and (hits.limited, hits.crowded) == (1, 0)
    if not soft:
        select_detections(boxes, scores, keep)
        assert (keep.limit_hits.limited, keep.limit_hits.crowded) == (2, 1)
        one, two = keep.limit_hits.lines(keep)
        assert "--max-det 10: 2;" in one and "4,096 boxes above --conf 0.25: 1;" in two
        wide = Postprocess(limit=5000)
        assert len(select_detections(boxes, scores, wide)) == count and wide.limit_hits.lines(wide) == []


def test_views_of_one_image_are_cut_once() -> None:
    keep = Postprocess(limit=3)
    with keep.limit_hits.one_image():
        keep.limit_hits.limited += 5
    with keep.limit_hits.one_image():
        keep.limit_hits.crowded += 2
    assert (keep.limit_hits.limited, keep.limit_hits.crowded) == (1, 1)
