"""The protocols of Open Images and WIDER FACE as plain loops."""

import numpy as np


def iou(a, b, wider=0):
    """IoU of two boxes (x, y, w, h), and the share of the first in the second; sides are `wider` pixels more."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + wider
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + wider
    shared = max(w, 0) * max(h, 0)
    areas = [(box[2] + wider) * (box[3] + wider) for box in (a, b)]
    return shared / (sum(areas) - shared), shared / areas[0]


def area(rows, objects):
    """AP of rows (score, right): each rise of recall times the highest precision from there on."""
    rows = sorted(rows, key=lambda row: -row[0])
    hits = np.cumsum([right for _, right in rows])
    precision = [hit / (n + 1) for n, hit in enumerate(hits)]
    return sum(max(precision[n:]) / objects for n, (_, right) in enumerate(rows) if right)


def open_images(objects, detections, checked, parents):
    """AP by class.

    objects: image -> (box, class, group-of); detections: image -> (box, class, score); checked: image -> classes;
    parents: class -> all that it is a kind of.
    """
    values = {}
    for name in parents:
        rows, count = [], 0
        for image in sorted(objects):
            things = [(box, group) for box, label, group in objects[image] if name in (label, *parents[label])]
            count += len(things)
            if name not in checked[image]:
                continue
            found = [(s, box) for box, label, s in detections.get(image, []) if name in (label, *parents[label])]
            taken, groups = set(), {}
            for score, box in sorted(found, key=lambda one: -one[0]):
                single = [(iou(box, other)[0], -n) for n, (other, group) in enumerate(things) if not group]
                best, n = max(single, default=(0, 0))
                if best >= 0.5 and n not in taken:
                    taken.add(n)
                    rows.append((score, True))
                    continue
                share, n = max([(iou(box, o)[1], -n) for n, (o, group) in enumerate(things) if group], default=(0, 0))
                if share >= 0.5:
                    groups.setdefault(n, score)  # the highest, for it comes first
                else:
                    rows.append((score, False))
            rows += [(score, True) for score in groups.values()]
        values[name] = area(rows, count) if count else None
    return values


def wider_face(faces, detections):
    """AP of faces: image -> (box, invalid); detections: image -> (box, score)."""
    rows = []
    for image in sorted(faces):
        taken = set()
        for box, score in sorted(detections.get(image, []), key=lambda one: -one[1]):
            best, n = max([(iou(box, face, 1)[0], -n) for n, (face, _) in enumerate(faces[image])], default=(0, 0))
            if best < 0.5:
                rows.append((score, False))
            elif not faces[image][-n][1]:
                rows.append((score, n not in taken))
                taken.add(n)
    return area(rows, sum(not invalid for some in faces.values() for _, invalid in some))
