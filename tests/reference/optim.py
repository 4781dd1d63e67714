"""Optimizers and schedules one number at a time, as their papers have them.

An optimizer goes `steps` steps from `w` down the bowl 0.5 * a * (w - 1) ** 2, whose gradient is a * (w - 1).
"""

import math

import numpy as np


def sgd(w, a, steps, lr, momentum, decay):
    for _ in range(steps):
        w = w - lr * (a * (w - 1) + decay * w)
    return w


def heavy_ball(w, a, steps, lr, momentum, decay):
    """Polyak, 1964."""
    velocity = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + (a * (w - 1) + decay * w)
        w = w - lr * velocity
    return w


def nesterov(w, a, steps, lr, momentum, decay):
    """Nesterov, 1983, in the form of Sutskever et al., 2013: the step of the momentum is looked ahead."""
    velocity = 0.0
    for _ in range(steps):
        gradient = a * (w - 1) + decay * w
        velocity = momentum * velocity + gradient
        w = w - lr * (gradient + momentum * velocity)
    return w


def adagrad(w, a, steps, lr, momentum, decay):
    """Duchi et al., 2011."""
    total = 0.0
    for _ in range(steps):
        gradient = a * (w - 1) + decay * w
        total += gradient**2
        w = w - lr * gradient / (math.sqrt(total) + 1e-10)
    return w


def rmsprop(w, a, steps, lr, momentum, decay):
    """Tieleman and Hinton, 2012, with momentum."""
    mean, velocity = 0.0, 0.0
    for _ in range(steps):
        gradient = a * (w - 1) + decay * w
        mean = 0.99 * mean + 0.01 * gradient**2
        velocity = momentum * velocity + gradient / (math.sqrt(mean) + 1e-8)
        w = w - lr * velocity
    return w


def adam(w, a, steps, lr, momentum, decay):
    """Kingma and Ba, 2015; decay is part of the gradient."""
    m = v = 0.0
    for t in range(1, steps + 1):
        gradient = a * (w - 1) + decay * w
        m = momentum * m + (1 - momentum) * gradient
        v = 0.999 * v + 0.001 * gradient**2
        w = w - lr * (m / (1 - momentum**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


def adamw(w, a, steps, lr, momentum, decay):
    """Loshchilov and Hutter, 2019; decay acts on the weight itself."""
    m = v = 0.0
    for t in range(1, steps + 1):
        gradient = a * (w - 1)
        w = w - lr * decay * w
        m = momentum * m + (1 - momentum) * gradient
        v = 0.999 * v + 0.001 * gradient**2
        w = w - lr * (m / (1 - momentum**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


OPTIMIZERS = {
    "sgd": sgd,
    "momentum": heavy_ball,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "muon": adamw,  # for all that is no convolution before a normalization; see `muon` for these
}


def muon(weight, gradients, lr, momentum, decay):
    """Jordan et al., 2024, step by step, by singular values; every 64 rows are a matrix of their own, if they can."""
    if len(weight) > 64 and len(weight) % 64 == 0:
        parts = range(0, len(weight), 64)
        return np.concatenate(
            [muon(weight[i : i + 64], [g[i : i + 64] for g in gradients], lr, momentum, decay) for i in parts]
        )
    average = np.zeros_like(weight)
    for gradient in gradients:
        average = momentum * average + (1 - momentum) * gradient
        u, s, v = np.linalg.svd((1 - momentum) * gradient + momentum * average, full_matrices=False)
        s = s / math.sqrt((s**2).sum())
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        weight = (1 - lr * decay) * weight - lr * 0.4 * math.sqrt(max(weight.shape)) * (u * s) @ v
    return weight


def piecewise(step, warmup, total, final, milestones, gamma, epoch=1, constant=0):
    value = 1.0
    for milestone in milestones:
        if step >= milestone * total:
            value *= gamma
    return value


def done(step, warmup, total):
    return (step - warmup) / (total - warmup)


def exponential(step, warmup, total, final, milestones, gamma, epoch=1, constant=0):
    """lr0 * 10^(-t / C), t in epochs of `epoch` steps; without C, such that `final` is reached."""
    constant = constant or (total - warmup) / epoch / -math.log10(final)
    return 10 ** (-(step - warmup) / epoch / constant)


def one_over_t(step, warmup, total, final, milestones, gamma, epoch=1, constant=0):
    """lr0 / (1 + k t), t in epochs, k one over C; without C, such that `final` is reached."""
    k = 1 / constant if constant else (1 / final - 1) / ((total - warmup) / epoch)
    return 1 / (1 + k * (step - warmup) / epoch)


SCHEDULES = {
    "constant": lambda *_: 1.0,
    "piecewise": piecewise,
    "exponential": exponential,
    "1/t": one_over_t,
    "cosine": lambda s, w, n, final, *_: (1 + final) / 2 + (1 - final) / 2 * math.cos(math.pi * done(s, w, n)),
    "linear": lambda s, w, n, final, *_: (1 - done(s, w, n)) + final * done(s, w, n),
}
