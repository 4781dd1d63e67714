"""The page of `detect see`: filters, patches, feature maps and class-activation maps of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detect.commands.see import SeeConfig
from detect.convert.open import open_model
from detect.data.annotations import Annotations
from detect.data.images import read_image, resize, scaled
from detect.data.letterbox import Letterbox
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.explain.cam import explain_predictions, grad_cam
from detect.explain.edges import EDGES, edge_similarity, edges
from detect.explain.images import filter_tile, grid, map_tile, overlay_heat, row
from detect.explain.top_patches import layer_map, shown, sight_of_cell, top_patches
from detect.hub import resolve
from detect.inference.draw import draw
from detect.models.base import Model
from detect.models.hooks import LayerOutputs, find_layer
from detect.report.html import Page
from detect.tasks import get_task
from detect.types import Classification, Detections, Postprocess
from detect.utils.atomic_io import replace_text
from detect.utils.device import pick_device
from detect.utils.names import say
from detect.utils.overwrite import require_own
from detect.utils.progress import track

PAGE = "see.html"
SHOWN = 260  # pixels of the longer side of images
ALIKE = 6  # filters of the first layer whose similarity to edge filters is shown
FILTERS = 96  # most filters of the first layer that are shown


def write_page(config: SeeConfig) -> Path:
    """Write see.html into --out.

    Returns:
        The path of the page.

    Raises:
        UserError: the layer, model or image cannot be shown.
    """
    require_own(Path(config.out) / PAGE, "page")
    model = open_model(resolve(config.weights)).to(pick_device(config.device))
    if model.needs_proposals:
        raise UserError(f"{config.weights}: {model.config.name} takes single regions, not images: take another model")
    if model.config.dims != 2:
        raise UserError(f"{config.weights} takes signals or volumes: only models for images are shown")
    layer = find_layer(model, config.layer) if config.layer else ""
    image_level = get_task(model.task).image_level_labels
    annotations = load_data(config.data, config.split, False, image_level, config.allow_outside)
    if not len(annotations):
        raise UserError(f"{config.data} has no image in split {config.split!r}")
    annotations = annotations.select(range(min(len(annotations), config.images)))
    image = read_image(config.source) if config.source else annotations.read(0)
    fit = Letterbox.fit(image.shape[:2], model.metadata.size, model.metadata.preprocess, model.square)
    canvas = fit.apply(image)
    name = config.source or annotations.file_name(0)
    layer = layer or last_map(model, as_images(canvas))
    page = Page(f"{Path(config.weights).name}: inside {model.config.name}")
    page.text(f"Layer {layer}; images of {config.data} ({config.split}, {len(annotations)}); maps over {name}.")
    show_filters(page, model, canvas, resize(image, *fit.inner[::-1]))
    show_channels(page, model, layer, annotations, canvas, config)
    show_predictions(page, model, layer, canvas, config)
    out = Path(config.out) / PAGE
    replace_text(out, str(page))
    say(f"see {out}")
    return out


def last_map(model: Model, images: Tensor) -> str:
    """The last stage before the head that has one feature map for images (B, 3, H, W)."""
    with torch.inference_mode(), LayerOutputs(model, model.backbone_stages()) as taps:
        model(images.to(model.gain.device))
        return next(name for name in reversed(model.backbone_stages()) if len(taps.maps(name)) == 1)


def as_images(canvas: np.ndarray) -> Tensor:
    """(1, 3, H, W) uint8 of a canvas (H, W, 3)."""
    return torch.from_numpy(canvas).permute(2, 0, 1)[None]


def show_filters(page: Page, model: Model, canvas: np.ndarray, image: np.ndarray) -> None:
    """The filters of the first convolution and their maps of the canvas; edge filters and their maps of the image."""
    first = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        return
    page.heading("Filters of the first layer, and edge filters")
    name, conv = first
    colours = "in their colours" if conv.in_channels == 3 else f"the mean over {conv.in_channels} channels"
    tiles = [filter_tile(w, model.metadata.preprocess.order == "BGR") for w in conv.weight[:FILTERS]]
    height, width = conv.kernel_size
    page.image(
        grid(tiles, 12),
        f"The {len(tiles)} filters ({height} x {width}) of {name}, {colours}; grey is 0; each in its own scale.",
    )
    maps = layer_map(model, name, as_images(canvas))[0]
    page.image(
        grid([map_tile(m, 120) for m in maps[:24]], 8), f"The feature maps of the first {len(maps[:24])} of them."
    )
    images = as_images(image).float() / 255
    given = [edges(edge, (1 / 3,) * 3, 1)(images)[0, 0] for edge in EDGES]
    tiles = [
        row([filter_tile(EDGES[edge][None], False), map_tile(m, 180)]) for edge, m in zip(EDGES, given, strict=True)
    ]
    page.image(grid(tiles, 4), f"Edge filters to compare with, and their maps: {', '.join(EDGES)}.")
    like = edge_similarity(conv.weight)
    best = like.abs().max(1).values.argsort(descending=True)[:ALIKE].tolist()
    page.text(
        "The learned filters most similar to an edge filter (cosine of their means over colours; negative: opposite):"
    )
    page.table(("filter", *EDGES), [(i, *like[i].tolist()) for i in best])


def show_channels(
    page: Page, model: Model, layer: str, annotations: Annotations, canvas: np.ndarray, config: SeeConfig
) -> None:
    """For channels of the layer: the nine patches with the highest activations, and the map of the canvas."""
    maps = layer_map(model, layer, as_images(canvas))[0]
    sight = sight_of_cell(model, layer, model.metadata.size)
    channels = sorted(set(np.linspace(0, len(maps) - 1, config.channels).round().astype(int).tolist()))
    loader = get_task(model.task).eval_loader(
        annotations, model.metadata.size, config.batch, model.metadata.preprocess, square=model.square
    )
    found = top_patches(model, layer, sight, track(loader, len(loader), "patches"), channels)
    page.heading(f"Patches with the highest activations in {layer}")
    field, step, part = (f"{a:g} x {b:g}" for a, b in (sight.field, sight.stride, shown(sight, max(canvas.shape))))
    page.text(
        f"{len(channels)} of its {len(maps)} channels: for each, the nine patches of {len(annotations)} images with "
        "the highest activations, at most one of each image, and its map of the image below. The receptive field of a "
        f"cell is {field} pixels (rows x columns), of which the central {part} are shown; cells are {step} apart."
    )
    page.image(_small(canvas), "the image of the maps")
    rows = []
    for channel in channels:
        patches, here = found[channel], maps[channel]
        tiles = [grid([p.tile for p in patches], 3)] if patches else []
        values = f"{patches[0].value:.3g} to {patches[-1].value:.3g}" if patches else "none"
        caption = f"channel {channel}: {values} in the patches, {here.min():.3g} to {here.max():.3g} in the map"
        rows.append((row([*tiles, map_tile(here, 220)]), caption))
    page.gallery(rows, side=400)


def show_predictions(page: Page, model: Model, layer: str, canvas: np.ndarray, config: SeeConfig) -> None:
    """Class-activation maps of the predictions for the canvas."""
    page.heading("Class-activation maps of predictions")
    keep, images = Postprocess(config.conf, config.iou), as_images(canvas).to(model.gain.device)
    try:
        last, here = explain_predictions(model, images, keep), explain_predictions(model, images, keep, layer)
    except UserError as error:
        return page.text(f"{error}.")
    page.text(
        "On the left the prediction. Then Grad-CAM at the last maps before the head: channels are weighted by their "
        "mean gradient, so everything that looks alike lights up. Then the same with each cell weighted by its own "
        f"gradient, which shows what this prediction rests on: at the last maps, and at {layer}. Red is the maximum."
    )
    if not len(last.result):
        page.text(f"No prediction has a score of {config.conf:g} or more.")
    size = canvas.shape[:2]
    for i in range(min(config.predictions, len(last.scores))):
        one = _only(last.result, i)
        heats = [grad_cam(last.scores[i], last.maps, size), grad_cam(last.scores[i], last.maps, size, True)]
        heats += [grad_cam(here.scores[i], here.maps, size, True)] if here.maps else []
        shown_images = [draw(canvas, one, model.metadata.names), *(overlay_heat(canvas, heat) for heat in heats)]
        label = model.metadata.names[int(one.labels[0])]
        page.image(row([_small(image) for image in shown_images]), f"{label} {float(one.scores[0]):.3f}")
    return None


def _only(found: Detections | Classification, i: int) -> Detections | Classification:
    if isinstance(found, Detections):
        return found[i : i + 1]
    return replace(found, scores=found.scores[i : i + 1], labels=found.labels[i : i + 1])


def _small(image: np.ndarray) -> np.ndarray:
    return scaled(image, SHOWN / max(image.shape[:2]))
