"""What `detect check` finds out about outlines."""

import numpy as np

from detect.data.outlines import Outlines
from detect.data_check import outlines as module
from detect.data_check.outlines import crossing


def crosses(ring):
    """Whether two edges of a ring cross, by every pair of them."""
    edges = [(ring[i], ring[(i + 1) % len(ring)]) for i in range(len(ring))]

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    return any(
        side(p, q, r) * side(p, q, s) < 0 and side(r, s, p) * side(r, s, q) < 0
        for i, (p, q) in enumerate(edges)
        for r, s in edges[:i]
    )


def rings(count, seed=0):
    """Rings around a middle, of which the angles of some are a little out of order."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        angles = np.linspace(0, 2 * np.pi, rng.integers(3, 12), endpoint=False)
        angles += rng.normal(0, rng.choice([0, 0.2, 0.6]), len(angles))
        radius = rng.uniform(5, 10, len(angles))
        yield np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1).round(2) + rng.uniform(-50, 50, 2)


def test_crossings_are_found_as_by_all_pairs(monkeypatch):
    several = list(rings(120))
    expected = [crosses(ring) for ring in several]
    assert 10 < sum(expected) < 110
    assert crossing(Outlines.of_polygons([[ring] for ring in several])).tolist() == expected
    monkeypatch.setattr(module, "TOGETHER", 7)
    monkeypatch.setattr(module, "PAIRS", 5)
    assert crossing(Outlines.of_polygons([[ring] for ring in several])).tolist() == expected
    masks = Outlines.of_masks([np.ones((3, 3), bool)])
    pairs = Outlines.join([masks, Outlines.of_polygons([[], [several[0], several[1]]])])
    assert crossing(pairs).tolist() == [False, False, expected[0] or expected[1]]


def test_touching_is_no_crossing():
    bow = np.array([[0, 0], [4, 0], [2, 2], [4, 4], [0, 4], [2, 2]], float)
    assert not crossing(Outlines.of_polygons([[bow], [bow[[0, 1, 1, 3, 4]]]])).any()


def test_a_polygon_of_endless_edges_takes_bounded_time():
    rng = np.random.default_rng(0)
    assert not crossing(
        Outlines.of_polygons([[rng.uniform(0, 100, (10_000, 2))]])
    ).any()  # more pairs than are looked at
