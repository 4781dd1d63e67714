"""The text of `detect COMMAND --help`: every option in a group, with unit, range, choices and default."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin

from detect.cli.plugin_flag import PLUGIN_HELP
from detect.commands import config_of
from detect.config.constraints import Choice, Range, ReadWith
from detect.config.fields import Option, own_options

INDENT = 30  # columns before the explanations
CHOICES = 8  # names that a line may list; --help-all lists all
FILES = (
    "fine_tune results train_options against slice_table "
    "weights backbone_weights json page detections cfg names pairs gallery appearance detector content style a b "
    "save_thresholds save_calibration teacher coco"
)
# The heading of an option, the same in every command. Options of nested classes come under the heading of the class.
GROUPS = {
    "Data": "results "
    "data split splits oriented source gallery a b content style share run runs skip_bad check_first allow_outside "
    "recursive max_pixels vid_stride policy retries pairs classes action file merge into new_classes conflicts",
    "Model": "fine_tune "
    "weights model task name cfg names backbone backbone_weights pretrained pixels init freeze unfreeze_every "
    "detector threshold in_channels dims imgsz layer",
    "Training": "folds train_options "
    "auto find_lr epochs batch seed patience multi_scale balance repeat "
    "global_batch images_per_identity deterministic proposals cache_features features teacher unlabelled",
    "Choice": "budget criteria per_image keep_duplicates",
    "Detection": "accept ask conf iou max_det agnostic soft crops tta tile boundary predictions target_precision "
    "target_recall",
    "Trust": "guarantee calibration resamples against slice slice_table",
    "Search": "space trials sampler pruner prune_after storage confirm confirm_epochs",
    "Tracking": "track lines zones point speed homography fps heatmap",
    "Style": "content_layer style_layers alpha beta tv start optimizer steps every",
    "Server": "host port allowed_host token max_mb max_total_mb max_megapixels max_frame_megapixels seconds "
    "image_seconds waiting connections",
    "Output": "min_score correct_above annotate resume retry_failed resume_anyway part_images "
    "out json coco page plot examples detections save_thresholds save_calibration format dynamic nms half int8 "
    "int8_exclude save_txt save_crop remove_background save_masks show line_width hide_labels hide_conf show_boxes "
    "save_seconds save_steps callbacks k channels images scores simplify",
    "Hardware": "device precision workers address cache_gb",
}
IDENTITY = ("model.name", "model.kind")  # what --model NAME has said
NESTED = {
    "optim": "Optimizer",
    "distill": "Training",
    "pseudo": "Training",
    "augment": "Augmentation",
    "tracker": "Tracking",
    "fusion": "Fusion of several weights",
    "protocol": "Protocol",
    "model": "Architecture",
}
GENERAL = {
    "--config FILE": "YAML file with any of these options; several: the later file wins",
    "--plugin PLUGIN": PLUGIN_HELP,
    "--offline": "forbid downloads: published weights must be in the cache",
    "--help, --help-all": "this text (beside --model NAME: with its options), or all in full",
}


@dataclass(frozen=True)
class Help:
    """What help is asked for.

    Args:
        command: the command.
        values: what to show as defaults in place of those of the configuration class, by field.
        model: whether to show the options of the model.
        everything: whether to show advanced options, and explanations as a whole.
        ignored: dotted names of options that the model does not read; only `everything` shows them.
    """

    command: str
    values: Mapping[str, Any]
    model: bool = False
    everything: bool = False
    ignored: Collection[str] = ()

    def text(self) -> str:
        """The whole text."""
        kind, width = config_of(self.command), max(80, min(shutil.get_terminal_size((100, 24)).columns, 120))
        blocks = [self._usage(), *self._description(inspect.getdoc(kind) or "", width)]
        groups: dict[str, list[Option]] = {heading: [] for heading in GROUPS}
        for heading, option in self.options():
            groups.setdefault(heading, []).append(option)
        for heading, options in groups.items():
            lines = [line for one in options for line in self._lines(flag_of(one), self._right(one), width)]
            blocks += ["\n".join([f"{heading}:", *lines])] if lines else []
        general = [
            line for flag, text in GENERAL.items() for line in self._lines(flag, f"{text[0].upper()}{text[1:]}.", width)
        ]
        return "\n\n".join([*blocks, "\n".join(["General:", *general])])

    def _usage(self) -> str:
        kind = config_of(self.command)
        words = [name.upper() for name in getattr(kind, "positional", ())]
        options = own_options(kind).values()
        words += [flag_of(o) for o in options if o.default is MISSING and o.name not in getattr(kind, "positional", ())]
        return " ".join(["usage: detect", self.command, *words, "[--flag value ...]"])

    def _description(self, text: str, width: int) -> list[str]:
        paragraphs = text.split("\n\n")
        return [textwrap.fill(" ".join(p.split()), width) for p in (paragraphs if self.everything else paragraphs[:1])]

    def options(self) -> Iterator[tuple[str, Option]]:
        """The options to show, each with its heading and with the value that it has here as default."""
        return self._options(config_of(self.command), self.values, "")

    def _options(self, kind: type, values: Any, prefix: str) -> Iterator[tuple[str, Option]]:
        for option in own_options(kind).values():
            value = values.get(option.name, MISSING) if isinstance(values, Mapping) else getattr(values, option.name)
            value = option.default if value is MISSING else value
            name = prefix + option.name
            if not option.nested or name == "model":
                shown = replace(option, name=name, default=getattr(value, "name", value))
                hidden = option.advanced or name in self.ignored or name in IDENTITY
                if self.everything or not hidden:
                    yield _heading(name), shown
            if option.nested and (self.model or self.everything or name != "model"):
                yield from self._options(type(value), value, f"{name}.")

    def _right(self, option: Option) -> str:
        said = option.explanation if self.everything else _first_sentence(option.explanation)
        facts = "; ".join(facts_of(option, self.everything))
        return f"{said} [{facts}]" if facts else said

    def _lines(self, left: str, right: str, width: int) -> list[str]:
        lines = textwrap.wrap(right, width - INDENT, break_long_words=False) or [""]
        first = f"  {left:<{INDENT - 3}} {lines[0]}" if len(left) < INDENT - 2 else f"  {left} {lines[0]}"
        if len(first) > width and len(left) >= INDENT - 2:
            return [f"  {left}", *(" " * INDENT + line for line in lines)]
        return [first, *(" " * INDENT + line for line in lines[1:])]


def _heading(name: str) -> str:
    above = name.partition(".")[0]
    if above != name:
        return NESTED.get(above, above)
    return next((heading for heading, names in GROUPS.items() if name in names.split()), "Options")


def flag_of(option: Option) -> str:
    """The flag and what comes after it."""
    flag = f"--{option.name.replace('_', '-')}"
    if option.hint is bool:
        return flag
    several = get_origin(option.hint) is list
    hint = get_args(option.hint)[0] if several else option.hint
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint  # of a list's items
    name = option.name.rpartition(".")[2]
    named = get_origin(hint) is Literal or any(isinstance(rule, Choice) for rule in option.rules)
    word = (
        {int: "N", float: "X"}.get(hint)
        or ("NAME" if named else "")
        or ("FILE" if name in FILES.split() else name.upper().replace("_", "-"))
    )
    return f"{flag} {word}" + " ..." * several


def facts_of(option: Option, everything: bool) -> Iterator[str]:
    """Required or not, choices or range, what it is read with, default."""
    if option.default is MISSING:
        yield "required"
    names = [str(one) for one in get_args(option.hint)] if get_origin(option.hint) is Literal else []
    items = get_args(option.hint) if get_origin(option.hint) is list else ()
    for rule in (*option.rules, *(rule for item in items for rule in getattr(item, "__metadata__", ()))):
        names += rule.names if isinstance(rule, Choice) else []
        if isinstance(rule, Range) and (everything or rule.high != float("inf")):
            yield f"{rule.low:g} to {rule.high:g}" if rule.high != float("inf") else f"from {rule.low:g}"
        if isinstance(rule, ReadWith):
            yield f"with --{rule.option.replace('_', '-')} {' or '.join(rule.values)}".removesuffix(" true").strip()
    if names:
        yield ", ".join(names) if everything or len(names) <= CHOICES else "names: --help-all"
    value = option.default
    if value is not MISSING and value not in ("", "auto", None, False, []):
        yield f"default {f'{value:g}' if isinstance(value, float) else 'on' if value is True else value}"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s+(?=[A-Z0-9`\"-])", text, maxsplit=1)[0]
