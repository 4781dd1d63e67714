"""Where labels and legends go in an image: pure functions of rectangles.

They are plain Python: images have few labels, for which arrays would take longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels
Size = tuple[int, int]  # width and height in pixels

HIDDEN = 0.05  # share of the labels' area that may lie under other labels
CROWDED = 0.15  # share of the image that labels may cover


def place(boxes: Sequence[Rectangle], sizes: Sequence[Size], image: Size, line: int) -> list[Rectangle] | None:
    """Places for the labels of boxes: above each box, or where another place keeps them from hiding one another.

    Args:
        boxes: one for each label; the first one chooses first.
        sizes: of the labels.
        image: size of the image.
        line: width of the lines of the boxes, in pixels.

    Returns:
        A rectangle for each label, all inside the image; None: the labels are so many or so large that they would hide
        the image, or one another.
    """
    area = sum(w * h for w, h in sizes)
    if area > CROWDED * image[0] * image[1]:
        return None
    chosen, hidden = list[Rectangle](), 0
    for box, size in zip(boxes, sizes, strict=True):
        best, least = (0, 0, 0, 0), area + 1
        for candidate in places(box, size, image, line):
            under = sum(overlap(candidate, other) for other in chosen)
            if under < least:
                best, least = candidate, under
            if not under:
                break
        chosen.append(best)
        hidden += least
        if hidden > HIDDEN * area:
            return None
    return chosen


def places(box: Rectangle, size: Size, image: Size, line: int) -> Iterator[Rectangle]:
    """The places for a label in the order in which they are tried, all inside the image; larger labels are cut off.

    They are above the box, or in its upper corner where there is no room above; in that corner; below; above the right
    corner. The arguments are those of `place`.
    """
    (width, height), (w, h) = image, (min(size[0], image[0]), min(size[1], image[1]))
    left, top, bottom = box[0] - line // 2, box[1] - line // 2, box[3] + line // 2
    above, end = (top - h if top >= h else top), box[2] + line // 2 - w
    for x, y in ((left, above), (left, top), (left, bottom), (end, above)):
        x, y = min(max(x, 0), width - w), min(max(y, 0), height - h)
        yield x, y, x + w, y + h


def free_corner(boxes: Sequence[Rectangle], size: Size, image: Size) -> tuple[int, int]:
    """The left upper point of a legend in the corner of the image where it hides the least of the boxes.

    Args:
        boxes: a small one counts as much as a large one.
        size: of the legend.
        image: size of the image.
    """
    right, bottom = image[0] - size[0], image[1] - size[1]

    def hidden(corner: tuple[int, int]) -> float:
        x, y = corner
        legend = (x, y, x + size[0], y + size[1])
        return sum(overlap(legend, box) / max(1, (box[2] - box[0]) * (box[3] - box[1])) for box in boxes)

    return min(((right, 0), (0, 0), (right, bottom), (0, bottom)), key=hidden)


def overlap(a: Rectangle, b: Rectangle) -> int:
    """The area of the intersection, in pixels."""
    w = (a[2] if a[2] < b[2] else b[2]) - (a[0] if a[0] > b[0] else b[0])
    if w <= 0:
        return 0
    h = (a[3] if a[3] < b[3] else b[3]) - (a[1] if a[1] > b[1] else b[1])
    return w * h if h > 0 else 0
