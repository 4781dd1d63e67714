import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.cluster import KMeans

from anchors.kmeans import kmeans, mean_iou, recall
from tests.reference import kmeans as naive

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def random_sizes(n, seed=0, d=2):
    return torch.exp(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * 0.8 + 4)


def euclidean(sizes, k):
    centers = KMeans(k, n_init=10, random_state=0).fit(sizes.numpy()).cluster_centers_
    return torch.as_tensor(centers, dtype=torch.float32)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_fit_equals_naive(d):
    sizes, anchors = random_sizes(60, d=d), random_sizes(4, 1, d)
    assert mean_iou(sizes, anchors) == pytest.approx(naive.mean_iou(sizes.tolist(), anchors.tolist()), abs=1e-6)
    for ratio in (1.5, 4.0):
        assert recall(sizes, anchors, ratio) == pytest.approx(naive.recall(sizes.tolist(), anchors.tolist(), ratio))


@pytest.mark.parametrize("n", [40, 3000, 6000])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_never_worse_than_euclidean(n, k):
    sizes = random_sizes(n, n + k)
    found = kmeans(sizes, k)
    assert mean_iou(sizes, found) >= mean_iou(sizes, euclidean(sizes, k))
    assert found.shape == (k, 2) and found.dtype == torch.float32
    assert (found.prod(1).diff() >= 0).all()
    assert torch.equal(found, kmeans(sizes, k))


@pytest.mark.parametrize("n", [300, 6000])
@pytest.mark.parametrize("d", [1, 3])
def test_other_dimensions(n, d):
    """Never worse than the Euclidean solution; the order of the axes changes nothing but the order of the sides."""
    sizes = random_sizes(n, n, d)
    found = kmeans(sizes, 4)
    assert found.shape == (4, d) and (found.prod(1).diff() >= 0).all()
    assert mean_iou(sizes, found) >= mean_iou(sizes, euclidean(sizes, 4))
    assert mean_iou(sizes.flip(1), found.flip(1)) == pytest.approx(mean_iou(sizes, found))
    assert recall(sizes.flip(1), found.flip(1)) == pytest.approx(recall(sizes, found))


def test_sizes_of_unit_depth_fit_as_their_faces():
    sizes, anchors = random_sizes(50), random_sizes(3, 1)
    deep = [torch.cat((x, torch.ones(len(x), 1)), 1) for x in (sizes, anchors)]
    assert mean_iou(*deep) == pytest.approx(mean_iou(sizes, anchors))


def test_many_sizes_use_the_histogram():
    sizes = random_sizes(120_000)
    assert mean_iou(sizes, kmeans(sizes, 5)) > mean_iou(sizes, euclidean(sizes, 5))


def test_histogram_when_sizes_hardly_differ():
    sizes = torch.full((6000, 2), 32.0)
    sizes[:3] = torch.tensor([[33.0, 32], [32, 33], [200, 10]])
    assert mean_iou(sizes, kmeans(sizes, 4)) == pytest.approx(1)


@pytest.mark.parametrize("name", ["bccd/instances_train.json", "coco-mini/instances_train.json"])
def test_never_worse_on_real_boxes(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is absent")
    rows = json.loads((DATA / name).read_text())["annotations"]
    sizes = torch.tensor([row["bbox"][2:] for row in rows if min(row["bbox"][2:]) > 0])
    assert mean_iou(sizes, kmeans(sizes, 6)) >= mean_iou(sizes, euclidean(sizes, 6))


def test_clear_clusters_are_found():
    true = torch.tensor([[10.0, 10], [30, 12], [20, 60], [100, 90]])
    g = torch.Generator().manual_seed(0)
    sizes = true.repeat(50, 1) * (1 + 0.02 * torch.randn(200, 2, generator=g))
    assert torch.allclose(kmeans(sizes, 4, seed=3), true, rtol=0.03)


def test_as_many_anchors_as_sizes():
    sizes = torch.tensor([[2.0, 3], [8, 9], [2, 3], [5, 5]])
    assert kmeans(sizes, 3).tolist() == [[2, 3], [5, 5], [8, 9]]


@pytest.mark.parametrize(
    ("sizes", "k", "message"),
    [
        (torch.zeros(0, 2), 1, "no sizes"),
        (torch.ones(5, 2), 2, "at most 1"),
        (torch.ones(5, 2), 0, "at least 1"),
        (torch.tensor([[1.0, 0]]), 1, "above zero"),
        (torch.tensor([[1.0, torch.nan]]), 1, "finite"),
        (torch.ones(5, 4), 1, r"\(N, d\), d at most 3"),
        (torch.ones(5, 0), 1, r"\(N, d\)"),
        (torch.ones(5), 1, r"\(N, d\)"),
        (torch.ones(4, 3), 2, "2 anchors for 1 different"),
    ],
)
def test_what_is_refused(sizes, k, message):
    with pytest.raises(ValueError, match=message):
        kmeans(sizes, k)


def test_sklearn_is_loaded_late():
    """Only who clusters pays for scikit-learn's import."""
    code = "import anchors, sys; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
