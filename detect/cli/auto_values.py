"""`detect train --auto`: what is chosen from the data becomes the lowest layer of values, below all that is given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.cli.plugin_flag import load_listed
from detect.cli.train_values import Layer, train_values
from detect.config.constraints import from_values
from detect.config.fill import merged, nested, settings
from detect.config.train import TrainConfig, with_task
from detect.errors import UserError, one_line
from detect.utils.names import counted, say

if TYPE_CHECKING:
    from detect.training.auto import Choice, Data, Machine


def chosen_layers(layers: Sequence[Layer]) -> list[Layer]:
    """The layer of values that `--auto` chooses; none without it.

    What a run has begun with is not chosen again: with `--resume` the layer is the run's config.yaml.

    Raises:
        UserError: the data cannot be read, or `--auto` does not go with what is given.
    """
    given = _given(layers)
    if given.get("auto") is not True or "data" not in given:  # without data the command is refused
        return []
    begun = Path(str(given.get("out", TrainConfig.out))) / "config.yaml"
    if given.get("resume") is True and begun.is_file():
        say(f"--auto: the settings stay those in {begun}")
        values = settings(begun)
        load_listed(values.pop("plugin", []), str(begun))
        return [(values, begun.parent)]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--auto chooses for one process: start once without torchrun, and give torchrun what it chose")
    from detect.training.auto import Choice, choose  # late: what measures the data needs torch
    from detect.training.auto_facts import data_of, machine_of, network_of

    config = _config(layers)
    data, machine, found = data_of(config), machine_of(config), dict[str, Choice]()
    if config.task in ("detect", "classify"):  # others have none that are published
        found["weights"] = _weights(config, data, machine, given)
        if "weights" not in given and found["weights"].value:
            config = _config([({"weights": found["weights"].value}, None), *layers])
    network = network_of(config, data.names)
    found |= choose(data, machine, network, given)
    say(f"--auto chose for {counted(data.images, 'image')}:")
    flags = [f"--{option.replace('_', '-')} {choice.value}" for option, choice in found.items()]
    for flag, choice in zip(flags, found.values(), strict=True):
        say(f"  {flag:<{max(map(len, flags))}}  {choice.reason}")
    return [({option: choice.value for option, choice in found.items() if option not in given}, None)]


def _given(layers: Sequence[Layer]) -> dict[str, Any]:
    """What the layers set, by dotted option; for a model, or an option of one, `model` alone."""
    found = dict[str, Any]()
    for layer, folder in layers:
        rest = {name: value for name, value in layer.items() if name.partition(".")[0] != "model"}
        found = merged(found, nested(TrainConfig, rest, folder=folder))
        if len(rest) < len(layer):
            found["model"] = layer.get("model", "")
    return dict(_dotted(found))


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and name != "model":
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _config(layers: Sequence[Layer]) -> TrainConfig:
    """The settings without `--auto`, every value checked."""
    return with_task(from_values(TrainConfig, train_values(layers), "--"))


def _weights(config: TrainConfig, data: Data, machine: Machine, given: Mapping[str, Any]) -> Choice:
    """Published weights to fine-tune: those of the given model, or of any; none where other weights are given."""
    from detect.training.auto import Choice

    if "weights" in given:
        return Choice(given["weights"], "yours")
    if own := next((option for option in ("backbone_weights", "pretrained") if option in given), ""):
        return Choice("", f"none: your --{own.replace('_', '-')} says what to start from")
    from detect.hub import is_offline, resolve

    chosen = _best(config, data, machine, given, is_offline())
    try:
        if chosen.value:
            resolve(chosen.value)
    except UserError as error:
        say(f"--auto: {one_line(error)}", sys.stderr)
        chosen = _best(config, data, machine, given, cached=True)
    return chosen


def _best(config: TrainConfig, data: Data, machine: Machine, given: Mapping[str, Any], cached: bool) -> Choice:
    """The weights to take: of any detector, unless the model is given or the task another; `cached`: in the cache."""
    from detect.hub import is_cached
    from detect.hub.catalogue import catalogue
    from detect.training.auto import Choice, choose_weights

    model = config.model.name if "model" in given or config.task != "detect" else ""
    offers = [one for one in catalogue().values() if one.task == config.task and (is_cached(one) or not cached)]
    chosen = choose_weights(data, machine, offers, model, int(given.get("imgsz", 0)))
    if chosen is None:
        chosen = Choice("", f"no published ones {f'of {model} ' * bool(model)}suit: from scratch")
    return chosen._replace(reason=f"{chosen.reason}; offline: only what is in the cache") if cached else chosen
