"""What a backbone is: stages one after the other, each stating its channels and stride."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Backbone(nn.Module):
    """A row of stages of which some are handed on.

    `stages` run in order; stage i turns its input into (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])).
    `levels` are exponents of two: level 3 is the last stage of stride 8. `channels` and `strides` are of those levels.
    """

    def __init__(
        self, stages: Sequence[nn.Module], channels: Sequence[int], strides: Sequence[int], levels: Sequence[int]
    ):
        super().__init__()
        last = {stride: i for i, stride in enumerate(strides)}
        missing = [2**level for level in levels if 2**level not in last]
        if missing:
            raise ValueError(f"this backbone has strides {sorted(last)}, not {missing}")
        self.taken = [last[2**level] for level in levels]
        self.stages = nn.ModuleList(stages[: max(self.taken) + 1])
        self.channels = [channels[i] for i in self.taken]
        self.strides = [strides[i] for i in self.taken]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.taken:
                maps.append(x)
        return maps
