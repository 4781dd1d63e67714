"""Style transfer by one and by several layers of a network that knows nothing but digits, and a film of its steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from detect.models.layers import layered_network
from detect.style.images import cover_crop, to_image, to_tensor
from detect.style.transfer import Objective, Terms, Weights, minimize
from tools.digit_crops import SIDE, fit
from tools.drawing import photograph, sheet

LAYERS = ["conv 32 5 norm=true", "max 2", "conv 48 3 norm=true", "max 2", "conv 64 3 norm=true", "max all"]
CONVS, CONTENT = ("0", "2", "4"), "2"  # places in the list
EPOCHS, STEPS, WIDTH = 4, 30, 240
SHOWN = (0, 2, 4, 6, 9, 13, 19, 30)  # steps in the film


class Painter:
    """A network trained on digits, which paints the pagoda in the style of the flower."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = layered_network(LAYERS, 10, 3, SIDE)
        fit(lambda x: self.network(x).logits, list(self.network.parameters()), EPOCHS, 0.003)
        self.network.eval().requires_grad_(False)
        self.content = np.array(photograph("china", WIDTH))
        self.style = cover_crop(photograph("flower"), *self.content.shape[:2])

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The feature maps of all stages, for images in 0..1."""
        x, found = x * 2 - 1, {}
        for i, stage in enumerate(self.network.stages):
            x = found[str(i)] = stage(x)
        return found

    def paint(self, layers: tuple[str, ...], beta: float = 100.0) -> Iterator[tuple[Tensor, Terms]]:
        """The image before each step and after the last."""
        content, style = (to_tensor(one, torch.device("cpu")) for one in (self.content, self.style))
        weights = Weights(CONTENT, dict.fromkeys(layers, 1 / len(layers)), 1.0, beta, 0.1)
        return minimize(Objective(self.maps, content, style, weights), content, STEPS, "lbfgs")


def draw() -> dict[str, np.ndarray | list[np.ndarray]]:
    """The result of each layer and of all, of several weights of style, and a film."""
    painter = Painter()
    tiles = [("content C", painter.content), ("style S", painter.style)]
    for layer in CONVS:
        *_, (image, _) = painter.paint((layer,))
        tiles.append((f"style of layer {CONVS.index(layer) + 1}", to_image(image)))
    steps = list(painter.paint(CONVS))
    tiles.append(("style of all three", to_image(steps[-1][0])))
    betas = []
    for beta in (1.0, 10.0, 1000.0):
        *_, (image, _) = painter.paint(CONVS, beta)
        betas.append((f"α = 1, β = {beta:.0f}", to_image(image)))
    film = [
        sheet([(f"step {i}: content {cost['content']:.2f}, style {cost['style']:.1f}", to_image(image))], 1)
        for i, (image, cost) in enumerate(steps)
        if i in SHOWN
    ]
    return {"style": sheet(tiles, 3), "style_weights": sheet(betas, 3), "style_steps": film}
