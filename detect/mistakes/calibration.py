"""How far a model can be trusted, measured on the labels themselves: most of them are right.

Confident learning (Northcutt et al., 1911.00068) compares a prediction with what is usual for its class, so that a
class of which the model is never sure does not fill the list. Here each class gets curves of its own, drawn to those of
all classes where it has few objects.

Axes: N examples, F features, G groups (classes).
"""

from __future__ import annotations

import numpy as np

STRENGTH = 1.0  # of the pull from the curve of a class to that of all: a normal prior of this precision
WEAK = 0.01  # precision of the prior of the curve of all
LEAST = 1e-4  # scores below it are taken for it
FEW = 10.0  # objects that a class needs to count as much as all together in its usual IoU
PRIOR = 0.05  # share of labels that are thought wrong before anything is seen
SPREAD = 0.25  # least deviation of IoUs, on the scale of the logit


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x))."""
    y: np.ndarray = 0.5 * (1 + np.tanh(0.5 * x))
    return y


def logit(p: np.ndarray, least: float = LEAST) -> np.ndarray:
    """Return log(p / (1 - p)); p is kept at a distance `least` from 0 and 1."""
    p = np.clip(p, least, 1 - least)
    y: np.ndarray = np.log(p / (1 - p))
    return y


def logistic(x: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Fit a logistic regression by Newton's method.

    Args:
        x: (N, F).
        y: (N,) 0 or 1.
        prior: (F,) coefficients that the fit is drawn to.
        strength: (F,) precision of the prior, above 0.

    Returns:
        (F,) coefficients: the mode of the posterior.
    """
    beta = prior.copy()
    for _ in range(100):
        p = sigmoid(x @ beta)
        gradient = x.T @ (p - y) + strength * (beta - prior)
        hessian = (x.T * (p * (1 - p))) @ x + np.diag(strength)
        step = np.linalg.solve(hessian, gradient)
        beta = beta - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return beta


def by_class(x: np.ndarray, y: np.ndarray, labels: np.ndarray, used: np.ndarray, classes: int) -> np.ndarray:
    """Return (N,) the probability that y is 1, from a logistic regression for each class.

    Args:
        x: (N, F) features, without the constant one.
        y: (N,) 0 or 1.
        labels: (N,) the class of each example.
        used: (N,) bool, the examples to learn from.
        classes: G.
    """
    middle, scale = x[used].mean(0) if used.any() else 0.0, x[used].std(0) + 1e-6 if used.any() else 1.0
    x = np.hstack([(x - middle) / scale, np.ones((len(x), 1))])
    weak, strong = np.full(x.shape[1], WEAK), np.full(x.shape[1], STRENGTH)
    shared = logistic(x[used], y[used], np.zeros(x.shape[1]), weak)
    found = np.zeros(len(x))
    for label in range(classes):
        rows, own = labels == label, used & (labels == label)
        found[rows] = sigmoid(x[rows] @ logistic(x[own], y[own], shared, strong))
    return found


def wrong_box(overlap: np.ndarray, labels: np.ndarray, used: np.ndarray, classes: int) -> np.ndarray:
    """Return (N,) the probability that a label's box is wrong, from its IoU with the box of the prediction.

    A right box has an IoU as is usual for its class: the logit is normal, with the median and the median deviation of
    the class. A wrong one has any IoU, the lower the likelier: its density falls linearly from 0 to 1.

    Args:
        overlap: (N,) IoU.
        labels: (N,) the class of each.
        used: (N,) bool, the ones to learn from.
        classes: G.
    """
    z, found = logit(overlap, 1e-3), np.zeros(len(overlap))
    if not used.any():
        return found
    middle, spread = _middle(z[used])
    for label in range(classes):
        rows, own = labels == label, z[used & (labels == label)]
        mean, deviation = middle, spread
        if len(own):
            weight, (own_middle, own_spread) = len(own) / (len(own) + FEW), _middle(own)
            mean = weight * own_middle + (1 - weight) * middle
            deviation = weight * own_spread + (1 - weight) * spread
        u, t = np.clip(overlap[rows], 1e-3, 1 - 1e-3), (z[rows] - mean) / deviation
        right = np.exp(-0.5 * t * t) / (np.sqrt(2 * np.pi) * deviation * u * (1 - u))
        wrong = 2 * (1 - u)
        found[rows] = np.where(t < 0, PRIOR * wrong / (PRIOR * wrong + (1 - PRIOR) * right), 0.0)
    return found


def _middle(z: np.ndarray) -> tuple[float, float]:
    """The median, and the deviation of a normal distribution with this median absolute deviation."""
    median = float(np.median(z))
    return median, max(SPREAD, 1.4826 * float(np.median(np.abs(z - median))))
