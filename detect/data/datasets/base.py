"""What training datasets have in common: samples are asked for by a SampleKey, in the order of its epoch."""

from __future__ import annotations

from torch.utils.data import Dataset

from detect.data.rng import EpochOrder


class TrainDataset(Dataset):
    """Training samples: `dataset[SampleKey(epoch, position, size)]` is (image (size, size, 3) uint8 RGB, Target).

    Attributes:
        order: which sample comes when; an epoch is as long as it.
        seed: the seed of the run.
    """

    order: EpochOrder
    seed: int

    def __len__(self) -> int:
        return len(self.order)

    def index(self, epoch: int, position: int) -> int:
        """Return the index of the sample at a position of an epoch's order."""
        return int(self.order(epoch)[position])
