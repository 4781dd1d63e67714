"""Darknet's networks as a plain loop over the sections of a cfg, with numbers drawn as a .weights file holds them."""

import numpy as np
import torch
from torch.nn import functional as F

ACTIVATIONS = {
    "linear": lambda x: x,
    "leaky": lambda x: torch.where(x > 0, x, 0.1 * x),
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, 6),
    "mish": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
    "swish": lambda x: x / (1 + torch.exp(-x)),
    "logistic": lambda x: 1 / (1 + torch.exp(-x)),
}


def sections(text):
    found = []
    for line in text.splitlines():
        line = line.replace(" ", "")
        if line.startswith("["):
            found.append((line.strip("[]"), {}))
        elif line and line[0] not in "#;":
            key, value = line.split("=")
            found[-1][1][key] = value
    return found


class Twin:
    """numbers: those of the .weights file, random when first read; call(x) -> the output of each layer."""

    def __init__(self, text, seed=0):
        self.sections, self.random = sections(text)[1:], np.random.default_rng(seed)
        self.parts, self.next = [], 0

    @property
    def numbers(self):
        return np.concatenate([part.reshape(-1) for part in self.parts]).astype("<f4")

    def read(self, low, high, *shape):
        if self.next == len(self.parts):
            self.parts.append(self.random.uniform(low, high, shape).astype(np.float32))
        self.next += 1
        return torch.from_numpy(self.parts[self.next - 1]).double()

    def convolve(self, x, get):
        filters, size, groups = get("filters"), get("size"), get("groups", 1)
        shift = self.read(-1, 1, filters)
        ranges = [(0.5, 1.5), (-0.5, 0.5), (0.5, 1.5)] if get("batch_normalize", 0) else []
        norm = [self.read(*edges, filters) for edges in ranges]
        edge = (x.shape[1] // groups * size**2) ** -0.5 * 2
        kernel = self.read(-edge, edge, filters, x.shape[1] // groups, size, size)
        around = size // 2 if get("pad", 0) else get("padding", 0)
        x = F.conv2d(x, kernel, None, get("stride", 1), around, 1, groups)
        if norm:
            gain, mean, var = (t[None, :, None, None] for t in norm)
            x = (x - mean) / (var + 1e-6).sqrt() * gain
        return x + shift[None, :, None, None]

    def pool(self, x, size, stride):
        low, rows, columns = (size - 1) // 2, x.shape[2], x.shape[3]
        out = torch.empty(*x.shape[:2], -(-rows // stride), -(-columns // stride), dtype=x.dtype)
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                y, z = i * stride - low, j * stride - low
                out[:, :, i, j] = x[:, :, max(0, y) : y + size, max(0, z) : z + size].amax((2, 3))
        return out

    def __call__(self, x):
        self.next, out = 0, []
        for number, (kind, values) in enumerate(self.sections):
            x = out[-1] if out else x
            act = ACTIVATIONS[values.get("activation", "linear").lower()]

            def get(key, default=None, values=values):
                return int(values.get(key, default))

            def read(key, values=values, number=number, out=out):
                return [out[int(i) if int(i) >= 0 else number + int(i)] for i in values[key].split(",")]

            if kind == "convolutional":
                x = act(self.convolve(x, get))
            elif kind == "maxpool":
                x = self.pool(x, get("size"), get("stride"))
            elif kind == "upsample":
                x = x.repeat_interleave(get("stride"), 2).repeat_interleave(get("stride"), 3)
            elif kind == "shortcut":
                x = act(x + sum(read("from")))
            elif kind == "route":
                groups, part = get("groups", 1), get("group_id", 0)
                width = [m.shape[1] // groups for m in read("layers")]
                x = torch.cat([m[:, part * w : (part + 1) * w] for m, w in zip(read("layers"), width, strict=True)], 1)
            out.append(x)
        return out
