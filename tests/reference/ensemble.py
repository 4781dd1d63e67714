"""The fusion of several models' boxes as plain loops; rows are (box, score, label, model), weights one a model."""

from tests.reference.fusion import overlap


def weighted_boxes(rows, weights, least):
    """(box, score, label) of each object, best first: see `detect.inference.fusion_methods.weighted_boxes`."""
    objects = []  # of one label: its rows, and its mean box
    for box, score, label, model in sorted(rows, key=lambda row: -row[1] * weights[row[3]]):
        likes = [overlap(one["box"], box) if one["label"] == label else -1.0 for one in objects]
        best = max(range(len(likes)), key=likes.__getitem__, default=None)
        if best is None or likes[best] <= least:
            objects.append({"label": label, "rows": []})
            best = len(objects) - 1
        objects[best]["rows"].append((score * weights[model], box))
        total = sum(score for score, _ in objects[best]["rows"])
        objects[best]["box"] = [sum(s * b[side] for s, b in objects[best]["rows"]) / total for side in range(4)]
    found = []
    for one in objects:
        scores = [score for score, _ in one["rows"]]
        share = min(len(weights), len(scores)) / sum(weights)
        found.append((one["box"], sum(scores) / len(scores) * share, one["label"]))
    return sorted(found, key=lambda row: -row[1])


def non_maximum_weighted(rows, weights, least):
    """As `weighted_boxes`, of `detect.inference.fusion_methods.non_maximum_weighted`."""
    objects = []
    for box, score, label, model in sorted(rows, key=lambda row: -row[1] * weights[row[3]]):
        score *= weights[model] / max(weights)
        likes = [overlap(one[0][1], box) if one[0][2] == label else -1.0 for one in objects]
        best = max(range(len(likes)), key=likes.__getitem__, default=None)
        if best is None or likes[best] <= least:
            objects.append([])
            best = len(objects) - 1
        objects[best].append((score, box, label))
    found = []
    for one in objects:
        shares = [score * overlap(box, one[0][1]) for score, box, _ in one]
        pairs = list(zip(shares, one, strict=True))
        mean = [sum(share * row[1][side] for share, row in pairs) / sum(shares) for side in range(4)]
        found.append((mean, one[0][0], one[0][2]))
    return sorted(found, key=lambda row: -row[1])
