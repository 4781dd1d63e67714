"""SGD with momentum, for parameters that get their first gradient late too."""

from __future__ import annotations

import torch


class Momentum(torch.optim.SGD):
    """SGD whose momentum starts at zero for every parameter, also for one that gets its first gradient late.

    Torch's fused step requires the momenta of all parameters or of none. A zero momentum gives the same first step.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"] if group["momentum"] else ():
                if p.grad is not None and self.state[p].get("momentum_buffer") is None:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        super().step(closure)
