"""Weighted boxes fusion as plain loops over one list."""


def overlap(a, b):
    """IoU of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def fused(views, least):
    """Lists of (box, score, label), one a view -> the mean of each object, best score first."""
    rows = [(score, -v, -n, box, label) for v, view in enumerate(views) for n, (box, score, label) in enumerate(view)]
    objects = []
    for score, view, _, box, label in sorted(rows, key=lambda row: (-row[0], -row[1], -row[2])):
        best, where = 0.0, None
        for members in objects:
            if members[0][3] != label or any(m[1] == view for m in members):
                continue
            for member in members:
                if overlap(member[2], box) > best:
                    best, where = overlap(member[2], box), members
        if where is None or best < least:
            where = []
            objects.append(where)
        where.append((score, view, box, label))
    result = []
    for members in objects:
        total = sum(m[0] for m in members)
        box = [sum(m[0] * m[2][side] for m in members) / total for side in range(4)]
        result.append((box, total / len(views), members[0][3]))
    return result
