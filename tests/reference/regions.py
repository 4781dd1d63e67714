"""Small ground truth and proposals for models that look at regions."""

import torch

from detect.types import Target


def make_target(*rows: tuple[float, ...], crowd: bool = False) -> Target:
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([int(row[4]) for row in rows], dtype=torch.int64)
    return Target(boxes, labels, torch.full((len(rows),), crowd), 0, (96, 96))


def boxes_in(count: int, side: float = 96.0, least: float = 4.0, seed: int = 0) -> torch.Tensor:
    """Boxes (count, 4) within an image, no side below `least`."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * (side - least)
    room = side - least - low
    return torch.cat((low, low + least + torch.rand(count, 2, generator=generator) * room), 1)
