"""Views of a picture in plain loops; a picture is rows of numbers, one channel."""


def shrunk(picture, side):
    """Every new pixel is the mean of old ones, weighted by a triangle as wide as it has to be."""
    return _columns(_columns(picture, side), side)


def _columns(picture, side):
    """`picture` with its rows resized to `side` and turned into columns."""
    step = len(picture[0]) / side
    made = []
    for i in range(side):
        middle = (i + 0.5) * step
        weights = [max(0.0, 1 - abs(j + 0.5 - middle) / step) for j in range(len(picture[0]))]
        made.append([sum(w * v for w, v in zip(weights, row, strict=True)) / sum(weights) for row in picture])
    return made


def mirrored(picture):
    return [row[::-1] for row in picture]


def corner(picture, side, bottom, right):
    top, left = (len(picture) - side if bottom else 0), (len(picture[0]) - side if right else 0)
    return [[picture[top + y][left + x] for x in range(side)] for y in range(side)]


def views(picture, side, count):
    """Whole, its mirror, the corners row by row, their mirrors: the first `count`; the whole is not rounded."""
    whole = picture if len(picture) == side else shrunk(picture, side)
    corners = [corner(picture, side, bottom, right) for bottom in (False, True) for right in (False, True)]
    return [whole, mirrored(whole), *corners, *map(mirrored, corners)][:count]


def mean_scores(scores, picture, side, count):
    """The mean over its views of what `scores(view)`, a list, says of a picture."""
    every = [scores(view) for view in views(picture, side, count)]
    return [sum(column) / count for column in zip(*every, strict=True)]
