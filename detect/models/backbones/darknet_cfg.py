"""Darknet's cfg files: sections of `key=value` lines. What is not known is refused, never ignored in silence.

The format is that of Darknet (Redmon, 2013 to 2018) as continued by Bochkovskiy (2020); layers count from the section
after [net], and [dropout] counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from detect.errors import UserError, unknown

ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool"}
# Of each kind of section the keys that say what the network computes.
READ = {
    "net": "width height channels letter_box",
    "convolutional": "batch_normalize filters size stride pad padding groups activation",
    "route": "layers groups group_id",
    "shortcut": "from activation",
    "maxpool": "size stride padding",
    "upsample": "stride",
    "dropout": "probability",
    "yolo": "mask anchors classes num scale_x_y new_coords",
}
# And those that speak of Darknet's training alone; those of [net] all do.
TRAINING = {
    "convolutional": "stopbackward burnin_update train_only_bn",
    "yolo": "jitter ignore_thresh truth_thresh random iou_thresh cls_normalizer iou_normalizer obj_normalizer "
    "delta_normalizer iou_loss iou_thresh_kind nms_kind beta_nms max max_delta resize focal_loss label_smooth_eps "
    "objectness_smooth map counters_per_class",
}
MOST = 65536  # of any whole number: layers, channels, pixels; far above those of any network
SECTIONS, LETTERS = 2000, 10**6


@dataclass(frozen=True)
class Section:
    """One section: its number (0 is [net], then the layers), kind, values as written, and where it stands."""

    number: int
    kind: str
    values: dict[str, str]
    where: str

    def error(self, text: str) -> UserError:
        """The error about this section, to be raised."""
        return UserError(f"{self.where}, section {self.number} [{self.kind}]: {text}")

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers. Raises UserError where there is none, or one that is too large."""
        return [int(v) for v in self.numbers(key, r"[+-]?\d+")]

    def numbers(self, key: str, form: str = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?") -> list[float]:
        """A list of numbers. Raises UserError where there is none."""
        words = [w for w in self.values.get(key, "").split(",") if w]
        if not words or not all(re.fullmatch(form, w) for w in words):
            raise self.error(f"{key}={self.values.get(key, '')[:60]} is no list of numbers: correct it")
        if not all(abs(float(w)) <= MOST for w in words):
            raise self.error(f"{key}={self.values[key][:60]}: numbers may be as large as {MOST}: correct it")
        return [float(w) for w in words]

    def number_of(self, key: str, default: float) -> float:
        """One number, `default` where the key is absent."""
        return self._one(key, self.numbers(key)) if key in self.values else default

    def integer(self, key: str, default: int, least: int = 0) -> int:
        """One whole number of at least `least`, `default` where the key is absent."""
        value = int(self._one(key, self.integers(key))) if key in self.values else default
        if value < least:
            raise self.error(f"{key}={value}: it must be at least {least}")
        return value

    def _one(self, key: str, values: Sequence[float]) -> float:
        if len(values) != 1:
            raise self.error(f"{key}={self.values[key]}: it must be one number")
        return values[0]

    def text(self) -> str:
        """The section again, with the keys alone that say what the network computes."""
        kept = [f"{key}={self.values[key]}" for key in READ[self.kind].split() if key in self.values]
        return "\n".join([f"[{self.kind}]", *kept])


def parse(text: str, file: str) -> list[Section]:
    """The sections of a cfg, [net] first. Raises UserError naming the file and section of what is not known."""
    if len(text) > LETTERS:
        raise UserError(f"{file} has {len(text)} letters: is this a Darknet cfg? They have thousands")
    sections: list[Section] = []
    for line, raw in enumerate(text.splitlines(), 1):
        content = re.sub(r"\s", "", raw)
        if not content or content[0] in "#;":
            continue
        if content.startswith("["):
            kind = ALIASES.get(content.strip("[]"), content.strip("[]"))
            sections.append(Section(len(sections), kind, {}, f"{file}, line {line}"))
            continue
        key, equals, value = content.partition("=")
        if not equals or not sections:
            raise UserError(
                f"{file}, line {line}: {raw.strip()!r} is no key=value of a section: is this a Darknet cfg?"
            )
        if sections[-1].values.setdefault(key, value) != value:
            raise sections[-1].error(f"{key} is given twice: keep one")
    if not sections or sections[0].kind != "net":
        raise UserError(f"{file} does not begin with [net]: is this a Darknet cfg?")
    if len(sections) > SECTIONS:
        raise UserError(f"{file} has {len(sections)} sections: at most {SECTIONS} can be imported")
    for section in sections:
        _check(section)
    return sections


def _check(section: Section) -> None:
    if section.kind not in READ:
        raise section.error(f"{unknown('kind of section', section.kind, READ)}; such a network cannot be imported")
    if section.kind == "net" and section.number:
        raise section.error("a second [net]: keep the first")
    known = {*READ[section.kind].split(), *TRAINING.get(section.kind, "").split()}
    for key in section.values if section.kind != "net" else ():
        if key not in known:
            raise section.error(f"{unknown('key', key, known)}; take it out if it is about training alone")
