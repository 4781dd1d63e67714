"""Views of an image in plain loops; an image is rows of numbers, one channel."""


def shrunk(image, side):
    """Every new pixel is the mean of old ones, weighted by a triangle as wide as it has to be."""
    return _columns(_columns(image, side), side)


def _columns(image, side):
    """`picture` with its rows resized to `side` and turned into columns."""
    step = len(image[0]) / side
    made = []
    for i in range(side):
        middle = (i + 0.5) * step
        weights = [max(0.0, 1 - abs(j + 0.5 - middle) / step) for j in range(len(image[0]))]
        made.append([sum(w * v for w, v in zip(weights, row, strict=True)) / sum(weights) for row in image])
    return made


def mirrored(image):
    return [row[::-1] for row in image]


def corner(image, side, bottom, right):
    top, left = (len(image) - side if bottom else 0), (len(image[0]) - side if right else 0)
    return [[image[top + y][left + x] for x in range(side)] for y in range(side)]


def views(image, side, count):
    """Whole, its mirror, the corners row by row, their mirrors: the first `count`; the whole is not rounded."""
    whole = image if len(image) == side else shrunk(image, side)
    corners = [corner(image, side, bottom, right) for bottom in (False, True) for right in (False, True)]
    return [whole, mirrored(whole), *corners, *map(mirrored, corners)][:count]


def mean_scores(scores, image, side, count):
    """The mean over its views of what `scores(view)`, a list, says of an image."""
    every = [scores(view) for view in views(image, side, count)]
    return [sum(column) / count for column in zip(*every, strict=True)]
