"""Batch normalization over the images of all ranks. Torch's own works on CUDA alone, this one on the CPU too."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as td
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm


class RankNorm(_BatchNorm):
    """Batch normalization (Ioffe and Szegedy, 2015) over the batches of all ranks, which may differ in size.

    The running statistics are equal on every rank, to the bit. The ranks exchange 2C + 1 numbers in the forward pass
    and 2C in the backward pass, C being the number of channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, ...) in any floating type and memory format; statistics are in the type of the weights."""
        if not self.training:
            return super().forward(x)
        mean, var, count = self._statistics(x)
        weight, bias = (self.weight, self.bias) if self.affine else (torch.ones_like(mean), torch.zeros_like(mean))
        return _Normalize.apply(x, weight, bias, mean, var, count, self.eps)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept signals, images and volumes alike."""

    @torch.no_grad()
    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute mean (C,), variance (C,) and count () over all ranks, and update the running statistics.

        The means and variances of the ranks are combined (Chan et al., 1979), which stays accurate for large means.
        """
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        spare = torch.zeros_like(self.running_mean)  # torch's own would be divided by 0 where a rank has one vector
        mean, var = torch.batch_norm_update_stats(x, spare, spare, 0.0)
        own = torch.cat([mean, var, mean.new_tensor([x.numel() / x.shape[1]])])
        everyone = own.new_empty(td.get_world_size(), len(own))
        td.all_gather(list(everyone), own)
        means, variances, counts = everyone.split([len(mean), len(mean), 1], 1)
        count = counts.sum()
        share = counts / count
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean).square())).sum(0)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return mean, var, count


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and var those of x over all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *statistics: Any) -> Tensor:
        mean, var, count, ctx.eps = statistics
        ctx.save_for_backward(x, weight, mean, var, count)
        return batch_norm(x, mean, var, weight, bias, False, 0.0, ctx.eps)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, weight, mean, var, count = ctx.saved_tensors
        direct, slope, shift = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([slope, shift])
        td.all_reduce(sums)
        # The part of the gradient that goes through mean and var is linear in x: the same kernel computes it.
        gain = -weight * (var + ctx.eps).rsqrt() / count
        through = batch_norm(x, mean, var, gain * sums[0], gain * sums[1], False, 0.0, ctx.eps)
        return direct.add_(through), slope, shift, None, None, None, None


def over_ranks(model: Any, device: torch.device) -> Any:
    """Make every batch normalization of a model one over all ranks; parameters keep their names.

    Args:
        model: changed in place.
        device: where it is.

    Returns:
        The model.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for layer in model.modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            layer.__class__ = RankNorm
    return model
