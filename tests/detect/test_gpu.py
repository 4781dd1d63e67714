"""What a CUDA device must do as the CPU does. Skipped, with the reason, where there is none."""

import pytest
import torch

from anchors import oriented_iou, oriented_nms
from detect.api import Detector
from detect.training.setup import train
from tests.anchors.test_oriented import random_boxes
from tests.reference.runs import remains, rows, settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_two_epochs_leave_finite_numbers_and_weights_that_any_device_loads(digits, tmp_path, precision):
    train(settings(digits, tmp_path / "run", device="cuda", precision=precision))
    lines = rows(tmp_path / "run")
    assert all(0 < row["box"] < 100 and 0 <= row["AP"] <= 1 for row in lines)
    found = []
    for device in ("cuda", "cpu"):
        detector = Detector.load(tmp_path / "run" / "best.safetensors", device, "float32")
        found.append([one for _, one in detector.predict(str(digits / "val"), conf=0.01)])
    assert len(found[0]) == 8
    for ours, reference in zip(*found, strict=True):
        assert len(ours) == pytest.approx(len(reference), abs=2)
        assert torch.allclose(ours.scores[:3], reference.scores[:3], atol=1e-2)


def test_a_deterministic_run_gives_the_same_bits_again(digits, tmp_path):
    for name in ("once", "again"):
        train(settings(digits, tmp_path / name, device="cuda", deterministic=True))
    assert remains(tmp_path / "once") == remains(tmp_path / "again")


def test_oriented_boxes_are_compared_as_on_the_cpu():
    boxes = random_boxes(300)
    scores, groups = boxes[:, 0].frac(), boxes[:, 1].long() % 3
    cuda = boxes.cuda()
    assert torch.allclose(oriented_iou(cuda, cuda).cpu(), oriented_iou(boxes, boxes), atol=1e-9)
    kept = oriented_nms(cuda, scores.cuda(), groups.cuda(), 0.3)
    assert kept.is_cuda and kept.tolist() == oriented_nms(boxes, scores, groups, 0.3).tolist()
