import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors.assign import GridCell, MaxIoU, PaddedTargets, SimOTA, TaskAligned, VarifocalSimOTA, pad_targets
from anchors.grid import priors
from detect.registry import REGISTRIES
from tests.reference import assign as naive

SIZES = [torch.tensor([[10.0, 14], [24, 12]]), torch.tensor([[40.0, 30], [30, 60]])]
CONFIGURED = [
    ("task_aligned", {}),
    ("task_aligned", {"topk": 3, "alpha": 0.5}),
    ("sim_ota", {}),
    ("sim_ota", {"radius": 1.0, "pool": 4}),
    ("sim_ota_varifocal", {}),
    ("sim_ota_varifocal", {"radius": 1.5, "iou_cost": 2.0}),
    ("grid_cell", {}),
    ("grid_cell", {"ignore": 0.3}),
    ("max_iou", {}),
    ("max_iou", {"positive": 0.4, "negative": 0.1, "lowest": False}),
]


def scene(seed, B=2, M=6, C=3, anchors=True, whole=False):
    """Random predictions near their priors, random objects; `whole` puts them on whole pixels so that values tie."""
    g = torch.Generator().manual_seed(seed)
    p = priors([(8, 8), (4, 4)], [8, 16], SIZES if anchors else None)
    A = len(p.centers)
    center = torch.rand(B, M, 2, generator=g) * 64
    size = torch.rand(B, M, 2, generator=g) ** 2 * 50 + 1
    corners = torch.cat((center - size / 2, center + size / 2), -1).clamp(0, 64)
    corners[..., 2:] = corners[..., 2:].maximum(corners[..., :2] + 1)
    if whole:
        corners = corners.round()
    valid = torch.rand(B, M, generator=g) < 0.8
    crowd = torch.rand(B, M, generator=g) < 0.2
    ground_truth = PaddedTargets(corners, torch.randint(C, (B, M), generator=g), valid, crowd)
    middle = p.centers + torch.randn(B, A, 2, generator=g) * 3
    half = p.strides[:, None] * (0.3 + 2 * torch.rand(B, A, 2, generator=g))
    scores = torch.rand(B, A, C, generator=g, dtype=torch.float64)
    return (
        scores,
        torch.cat((middle - half, middle + half), -1).double(),
        p,
        ground_truth._replace(boxes=corners.double()),
    )


@pytest.mark.parametrize(("name", "options"), CONFIGURED, ids=str)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), anchors=st.booleans())
def test_equals_naive(name, options, seed, anchors):
    scores, boxes, p, ground_truth = scene(seed, anchors=anchors or name == "max_iou")
    p = type(p)(p.centers.double(), p.strides.double(), None if p.boxes is None else p.boxes.double())
    found = REGISTRIES["assigner"][name](**options)(scores, boxes, p, ground_truth)
    expected = getattr(naive, name)(scores, boxes, p, ground_truth, **options)
    for b, (index, weight) in enumerate(expected):
        assert found.index[b].tolist() == index
        assert found.weight[b].tolist() == pytest.approx(weight, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(REGISTRIES["assigner"])))
def test_what_holds_for_every_assigner(seed, name):
    scores, boxes, p, ground_truth = scene(seed, B=3, whole=True)
    scores.requires_grad_()
    index, weight = REGISTRIES["assigner"][name]()(scores, boxes, p, ground_truth)
    assert index.shape == weight.shape == (3, len(p.centers))
    assert index.dtype == torch.int64 and not weight.requires_grad
    assert ((index >= -2) & (index < 6)).all() and ((weight >= 0) & (weight <= 1 + 1e-6)).all()
    assert (weight[index < 0] == 0).all()
    answered = ground_truth.valid & ~ground_truth.crowd
    image, prior = (index >= 0).nonzero(as_tuple=True)
    assert answered[image, index[image, prior]].all()
    cut = [slice(b, b + 1) for b in range(3)]
    alone = [
        REGISTRIES["assigner"][name]()(scores[c], boxes[c], p, PaddedTargets(*(t[c] for t in ground_truth)))
        for c in cut
    ]
    assert torch.equal(torch.cat([a.index for a in alone]), index)


@pytest.mark.parametrize("name", sorted(REGISTRIES["assigner"]))
def test_empty(name):
    scores, boxes, p, _ = scene(0)
    no_object = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))
    for images in ([], [no_object] * 2):
        n = len(images)
        index, weight = REGISTRIES["assigner"][name]()(scores[:n], boxes[:n], p, pad_targets(images))
        assert index.shape == weight.shape == (n, len(p.centers))
        assert (index == -1).all() and (weight == 0).all()


def test_dense_pads_to_the_longest():
    one = (torch.ones(1, 4), torch.tensor([2]), torch.tensor([True]))
    none = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))
    two = (torch.ones(2, 4) * 3, torch.tensor([1, 0]), torch.tensor([False, False]))
    ground_truth = pad_targets([one, none, two])
    assert ground_truth.valid.tolist() == [[True, False], [False, False], [True, True]]
    assert ground_truth.crowd.tolist() == [[True, False], [False, False], [False, False]]
    assert ground_truth.labels.tolist() == [[2, 0], [0, 0], [1, 0]]
    assert ground_truth.boxes[2].tolist() == [[3.0] * 4] * 2
    assert [t.shape[:2] for t in pad_targets([])] == [(0, 0)] * 4


def target_of(*rows, crowd=False):
    boxes = torch.tensor(rows, dtype=torch.float32)
    return pad_targets([(boxes, torch.zeros(len(rows)), torch.full((len(rows),), crowd))])


def perfect(p, side=8.0):
    """Predictions of boxes of one side around each centre, with an even score."""
    return torch.full((1, len(p.centers), 1), 0.5), torch.cat((p.centers - side / 2, p.centers + side / 2), -1)[None]


@pytest.mark.parametrize("assigner", [TaskAligned(), SimOTA(), VarifocalSimOTA(), GridCell()])
def test_an_object_between_the_centres_gets_a_prior(assigner):
    p = priors([(8, 8)], [8])
    index, weight = assigner(*perfect(p), p, target_of([17.0, 17, 18, 18]))  # centres are at 12, 20
    assert index[0, 2 * 8 + 2] == 0 and weight[0, 2 * 8 + 2] > 0


def test_task_aligned_weight_tops_at_the_greatest_iou():
    p = priors([(8, 8)], [8])
    scores, boxes = perfect(p, 24.0)
    _, weight = TaskAligned()(scores, boxes, p, target_of([8.0, 8, 32, 32]))
    assert weight.max() == weight[0, 2 * 8 + 2] == pytest.approx(1)
    assert (weight > 0).sum() == 9  # the centres inside, fewer than topk


def test_grid_cell_collision_goes_to_the_more_similar_shape():
    p = priors([(4, 4)], [16], [torch.tensor([[16.0, 16]])])
    index, _ = GridCell()(*perfect(p), p, target_of([4.0, 4, 12, 12], [1, 1, 15, 15], [0, 0, 16, 4]))
    assert index[0, 0] == 1 and (index == -1).sum() == 15


def test_grid_cell_border_belongs_to_the_next_cell():
    p = priors([(2, 2)], [16])
    index, _ = GridCell()(*perfect(p), p, target_of([12.0, 0, 20, 8]))
    assert index.tolist() == [[-1, 0, -1, -1]]


def test_grid_cell_picks_the_level_that_suits_the_size():
    p = priors([(8, 8), (4, 4), (2, 2)], [8, 16, 32])
    levels = []
    for side in (20.0, 60.0, 63.9):
        index, _ = GridCell()(*perfect(p), p, target_of([0.0, 0, side, side], [70, 70, 80, 80]))
        levels.append(int(p.strides[(index[0] == 0).nonzero()[0, 0]]))
    index, _ = GridCell()(*perfect(p), p, target_of([-30.0, -30, 94, 94]))
    levels.append(int(p.strides[(index[0] == 0).nonzero()[0, 0]]))
    assert levels == [8, 16, 16, 32]


def test_max_iou_needs_boxes():
    p = priors([(2, 2)], [16])
    with pytest.raises(ValueError, match="sizes"):
        MaxIoU()(*perfect(p), p, target_of([0.0, 0, 8, 8]))


@pytest.mark.parametrize("name", sorted(REGISTRIES["assigner"]))
def test_crowd_regions_ignore_and_teach_nothing(name):
    p = priors([(4, 4)], [16], [torch.tensor([[16.0, 16]])])
    index, weight = REGISTRIES["assigner"][name]()(*perfect(p, 16.0), p, target_of([0.0, 0, 30, 30], crowd=True))
    assert index[0].reshape(4, 4).tolist() == [[-2, -2, -1, -1]] * 2 + [[-1] * 4] * 2
    assert (weight == 0).all()
