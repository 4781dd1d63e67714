"""Naive assigners: one image, one object and one prior at a time. Each returns (index, weight), lists over B and A."""

import cmath
import math

from tests.reference.boxes import overlap
from tests.reference.losses import varifocal

SQUARE = 4  # strides, the side of a prior without a box


def _inside(point, box):
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _answer(priors, ground_truth, b, claims, inside=_inside):
    """claims: {prior: [(quality, object, weight)]}; the highest quality wins, then the earlier object."""
    index, weight = [], []
    for a, center in enumerate(priors.centers.tolist()):
        if a in claims:
            _, m, w = max(claims[a], key=lambda c: (c[0], -c[1]))
            index.append(m)
            weight.append(w)
            continue
        regions = [
            ground_truth.boxes[b, m].tolist()
            for m in range(ground_truth.valid.shape[1])
            if ground_truth.valid[b, m] and ground_truth.crowd[b, m]
        ]
        index.append(-2 if any(inside(center, r) for r in regions) else -1)
        weight.append(0.0)
    return index, weight


def _objects(ground_truth, b):
    for m in range(ground_truth.valid.shape[1]):
        if ground_truth.valid[b, m] and not ground_truth.crowd[b, m]:
            yield m, ground_truth.boxes[b, m].tolist(), int(ground_truth.labels[b, m])


def _claims(pairs):
    claims = {}
    for a, quality, m, w in pairs:
        claims.setdefault(a, []).append((quality, m, w))
    return claims


def _inside_grown(point, box, finest=0.0):
    if not finest:
        return _inside(point, box)
    x1, y1, x2, y2 = box
    cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, finest), max(y2 - y1, finest)
    return _inside(point, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))


def inside_oriented(point, box, finest=0.0):
    """Whether the vector from the centre, turned back by the angle, ends inside; a box holds a square of `finest`."""
    cx, cy, w, h, angle = box
    turned = complex(point[0] - cx, point[1] - cy) * cmath.exp(-1j * angle)
    held = finest * (abs(math.cos(angle)) + abs(math.sin(angle)))
    return abs(turned.real) <= max(w, held) / 2 and abs(turned.imag) <= max(h, held) / 2


def task_aligned(
    scores, boxes, priors, ground_truth, topk=10, alpha=1.0, beta=6.0, inside=_inside_grown, overlap=overlap
):
    finest = float(priors.strides.min())
    answers = []
    for b in range(len(boxes)):
        expected = []
        for m, box, label in _objects(ground_truth, b):
            scored = []
            for a, center in enumerate(priors.centers.tolist()):
                if inside(center, box, finest):
                    u = overlap(box, boxes[b, a].tolist())
                    scored.append((float(scores[b, a, label]) ** alpha * u**beta, u, a))
            expected += [(a, u, m, t) for t, u, a in sorted(scored, reverse=True)[:topk] if t > 0]
        winners = {a: max(c, key=lambda c: (c[0], -c[1])) for a, c in _claims(expected).items()}
        claims = {}
        for a, (u, m, t) in winners.items():
            ours = [c for c in winners.values() if c[1] == m]
            claims[a] = [(u, m, t / max(c[2] for c in ours) * max(c[0] for c in ours))]
        answers.append(_answer(priors, ground_truth, b, claims, inside))
    return answers


def sim_ota(scores, boxes, priors, ground_truth, radius=2.5, pool=10, iou_cost=3.0):
    answers = []
    for b in range(len(boxes)):
        expected = []
        for m, box, label in _objects(ground_truth, b):
            cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            near = []
            for a, (x, y) in enumerate(priors.centers.tolist()):
                if max(abs(x - cx), abs(y - cy)) <= radius * float(priors.strides[a]):
                    u = overlap(box, boxes[b, a].tolist())
                    p = [min(max(float(s), 1e-6), 1 - 1e-6) for s in scores[b, a]]
                    cost = -sum(math.log(s if c == label else 1 - s) for c, s in enumerate(p))
                    near.append((cost - iou_cost * math.log(max(u, 1e-8)), a, u))
            k = max(int(sum(sorted((u for _, _, u in near), reverse=True)[:pool])), 1)
            expected += [(a, -cost, m, u) for cost, a, u in sorted(near)[:k]]
        answers.append(_answer(priors, ground_truth, b, _claims(expected)))
    return answers


def sim_ota_varifocal(scores, boxes, priors, ground_truth, radius=2.5, pool=10, iou_cost=6.0):
    finest, answers = float(priors.strides.min()), []
    for b in range(len(boxes)):
        expected = []
        for m, box, label in _objects(ground_truth, b):
            cx, cy, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
            w, h = max(w, finest), max(h, finest)
            near = []
            for a, (x, y) in enumerate(priors.centers.tolist()):
                close = max(abs(x - cx), abs(y - cy)) <= radius * float(priors.strides[a])
                if close and _inside((x, y), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)):
                    predicted = boxes[b, a].tolist()
                    u, p = overlap(box, predicted), [min(max(float(s), 1e-6), 1 - 1e-6) for s in scores[b, a]]
                    cost = sum(varifocal(s, u if c == label else 0.0) for c, s in enumerate(p))
                    near.append((cost + iou_cost * (1 - overlap(box, predicted, "giou")), a, u))
            k = max(int(sum(sorted((u for _, _, u in near), reverse=True)[:pool])), 1)
            expected += [(a, -cost, m, u) for cost, a, u in sorted(near)[:k]]
        answers.append(_answer(priors, ground_truth, b, _claims(expected)))
    return answers


def grid_cell(scores, boxes, priors, ground_truth, ignore=1.0):
    answers = []
    for b in range(len(boxes)):
        expected, everything = [], list(_objects(ground_truth, b))
        for m, box, _ in everything:
            cx, cy, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
            alike = []
            for a, (x, y) in enumerate(priors.centers.tolist()):
                half = float(priors.strides[a]) / 2
                if -half <= cx - x < half and -half <= cy - y < half:
                    own = (0, 0, 2 * SQUARE * half, 2 * SQUARE * half)
                    if priors.boxes is not None:
                        own = priors.boxes[a].tolist()
                    pw, ph = own[2] - own[0], own[3] - own[1]
                    alike.append((overlap((-w, -h, w, h), (-pw, -ph, pw, ph)), -a))
            if alike:
                u, a = max(alike)
                expected.append((-a, u, m, 1.0))
        index, weight = _answer(priors, ground_truth, b, _claims(expected))
        if ignore < 1:
            for a, i in enumerate(index):
                if i == -1 and any(overlap(box, boxes[b, a].tolist()) > ignore for _, box, _ in everything):
                    index[a] = -2
        answers.append((index, weight))
    return answers


def max_iou(scores, boxes, priors, ground_truth, positive=0.5, negative=0.4, lowest=True):
    anchors = priors.boxes.tolist()
    answers = []
    for b in range(len(boxes)):
        table = {m: [overlap(box, anchor) for anchor in anchors] for m, box, _ in _objects(ground_truth, b)}
        chosen = {a for row in table.values() for a, u in enumerate(row) if lowest and u == max(row) and u > 0}
        claims, between = {}, []
        for a in range(len(anchors)):
            u, m = max(((row[a], -m) for m, row in table.items()), default=(0.0, 0))
            if u >= positive or a in chosen:
                claims[a] = [(u, -m, 1.0)]
            elif u >= negative:
                between.append(a)
        index, weight = _answer(priors, ground_truth, b, claims)
        for a in between:
            index[a] = -2
        answers.append((index, weight))
    return answers
