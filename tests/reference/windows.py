"""Naive sliding windows: loops over places, squares and crops."""

import torch


def slid(height, width, side, step):
    found = []
    y = 0
    while y + side <= height:
        x = 0
        while x + side <= width:
            found.append([x, y, x + side, y + side])
            x += step
        y += step
    return found


def square_iou(box, window):
    """The greatest IoU of the window with a square that holds the box and is as long as its longer side.

    Each axis's overlap is linear between the places where an end of the square meets an end of the window, so the
    greatest is at one of these or at a limit.
    """
    side = max(box[2] - box[0], box[3] - box[1])
    overlap = []
    for low, high, start, end in ((box[0], box[2], window[0], window[2]), (box[1], box[3], window[1], window[3])):
        places = [p for p in (high - side, low, start, end - side) if high - side - 1e-9 <= p <= low + 1e-9]
        overlap.append(max(max(0.0, min(p + side, end) - max(p, start)) for p in places))
    inter = overlap[0] * overlap[1]
    union = side**2 + (window[2] - window[0]) * (window[3] - window[1]) - inter
    return inter / union if union else 0.0


def answers(network, image, side, step):
    """What a network with dense layers says of each crop: (rows, columns, outputs)."""
    rows = []
    for y in range(0, image.shape[1] - side + 1, step):
        row = []
        for x in range(0, image.shape[2] - side + 1, step):
            row.append(network(image[None, :, y : y + side, x : x + side]).logits[0])
        rows.append(torch.stack(row))
    return torch.stack(rows)


def hardest(losses, among, count):
    ranked = sorted((i for i in range(len(losses)) if among[i]), key=lambda i: (-losses[i], i))
    return [i in ranked[:count] for i in range(len(losses))]
