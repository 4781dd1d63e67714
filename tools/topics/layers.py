"""One layer of a convolutional network, step by step, and a small network from a list of layers."""

from __future__ import annotations

import numpy as np
import torch
import yaml

from detect.explain.edges import filter_image
from detect.models.layers import layered_network
from tools.digit_crops import SIDE, accuracy, crops, fit
from tools.drawing import blocks, chart, photograph, shaded, sheet
from tools.tour import PAGES

BIASES = {"vertical": -20.0, "horizontal": -20.0}
EPOCHS, RATE = 10, 0.003


def draw() -> dict[str, np.ndarray]:
    """One layer of two filters on a photograph, a network as boxes, and how it learns."""
    return {"layers": _one(), "layers_network": _network(), "layers_training": _training()}


def _one() -> np.ndarray:
    photo = photograph("china")[40:320, 60:360]
    tiles = []
    for name, bias in BIASES.items():
        z = filter_image(photo, name) + bias
        tiles += [
            ("input, 3 channels", photo[::2, ::2]),
            (f"z = W ∗ x + b, {name}", shaded(z, signed=True)[::2, ::2]),
            ("a = g(z) = max(z, 0)", shaded(np.maximum(z, 0), top=200)[::2, ::2]),
        ]
    return sheet(tiles, 3)


def small() -> list[str]:
    """The layers of small.yaml, which the page shows."""
    text = (PAGES / "layers.md").read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    layers: list[str] = yaml.safe_load(text)["layers"]
    return layers


def _network() -> np.ndarray:
    layers = small()
    network = layered_network(layers, 10, 3, SIDE).eval()
    x, shapes = torch.zeros(1, 3, SIDE, SIDE), list[tuple[str, tuple[int, ...]]]([("image", (3, SIDE, SIDE))])
    for text, stage in zip(layers, network.stages, strict=False):
        x = stage(x)
        name = " ".join(word for word in text.split() if "=" not in word)
        shapes.append((name, tuple(x.shape[1:])))
    shapes += [("dense", (network.width,)), ("classes", (10,))]
    return blocks(shapes, 0.9, gap=26)


def _training() -> np.ndarray:
    """The loss and the validation accuracy by epoch, and digits with what the network says of them."""
    torch.manual_seed(0)
    network = layered_network(small(), 10, 3, SIDE)
    rows = []

    def note(epoch: int) -> None:
        network.eval()
        rows.append({"epoch": epoch + 1, "share": accuracy(lambda x: network(x).logits)})
        network.train()

    losses = fit(lambda x: network(x).logits, list(network.parameters()), EPOCHS, RATE, after=note)
    values = [row | {"loss": loss} for row, loss in zip(rows, losses, strict=True)]
    x = {"field": "epoch", "type": "ordinal", "axis": {"labelAngle": 0}}
    panels = [
        {
            "mark": {"type": "line", "point": True},
            "encoding": {"x": x, "y": {"field": field, "type": "quantitative", "title": title}},
            "width": 220,
            "height": 160,
        }
        for field, title in (("loss", "training loss"), ("share", "validation accuracy"))
    ]
    curves = chart({"data": {"values": values}, "hconcat": panels})
    return sheet([("", curves), ("what it says of validation digits", _answers(network.eval()))], 1)


def _answers(network: torch.nn.Module) -> np.ndarray:
    images, labels = crops("val")
    with torch.inference_mode():
        scores = network(images[:10]).logits.softmax(1)
    tiles = []
    for image, score, label in zip(images, scores, labels.tolist(), strict=False):
        picture = ((image + 1) * 127.5).byte().permute(1, 2, 0).numpy().repeat(2, axis=0).repeat(2, axis=1)
        best = int(score.argmax())
        tiles.append((f"{best}: {score[best]:.0%}" + ("" if best == label else " ✗"), picture))
    return sheet(tiles, 10, gap=8)
