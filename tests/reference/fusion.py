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
    """Lists of (box, score, label), one a view -> the mean of each object, best score first.

    Among members that are equally alike the first of the lists decides.
    """
    rows = [(score, view, box, label) for view, rows in enumerate(views) for box, score, label in rows]
    objects, owner = [], {}
    for i in sorted(range(len(rows)), key=lambda i: (-rows[i][0], i)):
        _, view, box, label = rows[i]
        best, where = 0.0, None
        for j in sorted(owner):
            if rows[j][3] != label or any(rows[k][1] == view for k in objects[owner[j]]):
                continue
            if overlap(rows[j][2], box) > best:
                best, where = overlap(rows[j][2], box), owner[j]
        if where is None or best < least:
            where = len(objects)
            objects.append([])
        objects[where].append(i)
        owner[i] = where
    result = []
    for members in objects:
        total = sum(rows[i][0] for i in members)
        box = [sum(rows[i][0] * rows[i][2][side] for i in members) / total for side in range(4)]
        result.append((box, total / len(views), rows[members[0]][3]))
    return result
