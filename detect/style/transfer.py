"""Style transfer by gradient descent on pixels (Gatys et al., 2015 and 2016).

J(G) = alpha J_content / u + beta sum_l lambda_l J_style[l] / u_l + tv J_tv / u_tv

The costs are those of `losses.style`. Their magnitudes differ by many powers of ten between networks and layers, so
each is measured in a unit u: the content cost of the style image, the style cost of the content image in a layer, the
total variation of the content image. The same weights then suit every network and size.
Pixels are RGB in 0..1, and stay there, since their logits are optimized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from detect.models.losses.style import content_cost, gram, style_cost, total_variation

Terms = dict[str, float]
Sees = Callable[[Tensor], dict[str, Tensor]]
OPTIMIZERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "lbfgs": lambda logits: torch.optim.LBFGS(logits, max_iter=1, history_size=20, line_search_fn="strong_wolfe"),
    "adam": lambda logits: torch.optim.Adam(logits, lr=0.05),
}
MARGIN = 0.05  # least distance from 0 and 1 at the start: the gradient of an extreme logit vanishes


class Weights(NamedTuple):
    """The layer of the content cost, lambda of each layer of the style cost, and the weight of each cost."""

    content: str
    styles: Mapping[str, float]
    alpha: float = 1.0
    beta: float = 1.0
    tv: float = 0.0


class Objective:
    """The costs of an image (1, 3, H, W) RGB in 0..1, given a content and a style image of the same size.

    Args:
        sees: returns the feature maps of the layers in `weights`, by name.
        content: (1, 3, H, W).
        style: (1, 3, H, W).
        weights: layers, and weights of the costs.
    """

    def __init__(self, sees: Sees, content: Tensor, style: Tensor, weights: Weights) -> None:
        self.sees, self.weights = sees, weights
        with torch.no_grad():
            content_maps, style_maps = sees(content), sees(style)
            self.content = content_maps[weights.content]
            self.grams = {name: gram(style_maps[name]) for name in weights.styles}
            self.units = {"content": content_cost(style_maps[weights.content], self.content)}
            self.units |= {name: style_cost(content_maps[name], self.grams[name]) for name in weights.styles}
            self.units["tv"] = total_variation(content)
        self.units = {name: torch.where(unit > 0, unit, torch.ones_like(unit)) for name, unit in self.units.items()}

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """The weighted costs content, style and tv, in their units; their sum is J."""
        w, maps = self.weights, self.sees(image)
        styles = [w.styles[n] * style_cost(maps[n], wanted) / self.units[n] for n, wanted in self.grams.items()]
        return {
            "content": w.alpha * content_cost(maps[w.content], self.content) / self.units["content"],
            "style": w.beta * torch.stack(styles).sum(),
            "tv": w.tv * total_variation(image) / self.units["tv"],
        }


def minimize(objective: Objective, start: Tensor, steps: int, optimizer: str) -> Iterator[tuple[Tensor, Terms]]:
    """Minimize the costs by gradient descent.

    Args:
        objective: the costs of an image.
        start: (1, 3, H, W) in 0..1, which is clamped to MARGIN within.
        steps: number of steps.
        optimizer: a key of OPTIMIZERS.

    Yields:
        The image (1, 3, H, W) before each step and after the last, with its costs.
    """
    logits = start.clamp(MARGIN, 1 - MARGIN).logit().contiguous().requires_grad_()
    terms: list[Terms] = []
    made, last = OPTIMIZERS[optimizer]([logits]), float("inf")

    def closure() -> Tensor:
        made.zero_grad()
        costs = objective(logits.sigmoid())
        terms.append({name: float(cost.detach()) for name, cost in costs.items()})
        total = torch.stack(list(costs.values())).sum()
        total.backward()
        return total

    for _ in range(steps):
        image = logits.detach().sigmoid()
        terms.clear()
        made.step(closure)  # type: ignore[arg-type]  # both take it
        total = sum(terms[0].values())
        if total == last:  # L-BFGS is stuck: forget its history
            made = OPTIMIZERS[optimizer]([logits])
        last = total
        yield image, terms[0]
    image = logits.detach().sigmoid()
    with torch.no_grad():
        yield image, {name: float(cost) for name, cost in objective(image).items()}
