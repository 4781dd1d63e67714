"""Parser of Darknet cfg files: sections of `key=value` lines. Unknown content is rejected, never silently ignored.

The format is that of Darknet (Redmon, 2013 to 2018) as continued by Bochkovskiy (2020). Layers are numbered from the
section after [net]; [dropout] sections count as layers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from detect.errors import UserError, unknown

ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool"}
# For each kind of section, the keys that define what the network computes.
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
# The keys that only affect training in Darknet; all other keys of [net] do.
TRAINING = {
    "convolutional": "stopbackward burnin_update train_only_bn",
    "yolo": "jitter ignore_thresh truth_thresh random iou_thresh cls_normalizer iou_normalizer obj_normalizer "
    "delta_normalizer iou_loss iou_thresh_kind nms_kind beta_nms max max_delta resize focal_loss label_smooth_eps "
    "objectness_smooth map counters_per_class",
}
MOST = 65536  # largest number allowed (layers, channels, pixels); far above that of any real network
SECTIONS, LETTERS = 2000, 10**6  # largest number of sections, and of characters in a file


@dataclass(frozen=True)
class Section:
    """One section of a cfg.

    Attributes:
        number: 0 for [net]; layers follow.
        kind: name of the section, without aliases.
        values: values by key, as written.
        where: file and line of the section, for error messages.
    """

    number: int
    kind: str
    values: dict[str, str]
    where: str

    def error(self, text: str) -> UserError:
        """Return an error about this section, for the caller to raise."""
        return UserError(f"{self.where}, section {self.number} [{self.kind}]: {text}")

    def integers(self, key: str) -> list[int]:
        """Parse a list of integers. Raises UserError if it is empty, malformed or has too large a number."""
        return [int(v) for v in self.numbers(key, r"[+-]?\d+")]

    def numbers(self, key: str, form: str = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?") -> list[float]:
        """Parse a list of numbers. Raises UserError if it is empty, malformed or has too large a number."""
        words = [w for w in self.values.get(key, "").split(",") if w]
        if not words or not all(re.fullmatch(form, w) for w in words):
            raise self.error(f"{key}={self.values.get(key, '')[:60]} is no list of numbers: correct it")
        if not all(abs(float(w)) <= MOST for w in words):
            raise self.error(f"{key}={self.values[key][:60]}: numbers may be as large as {MOST}: correct it")
        return [float(w) for w in words]

    def number_of(self, key: str, default: float) -> float:
        """Parse one number; `default` if the key is absent."""
        return self._one(key, self.numbers(key)) if key in self.values else default

    def integer(self, key: str, default: int, least: int = 0) -> int:
        """Parse one integer of at least `least`; `default` if the key is absent."""
        value = int(self._one(key, self.integers(key))) if key in self.values else default
        if value < least:
            raise self.error(f"{key}={value}: it must be at least {least}")
        return value

    def _one(self, key: str, values: Sequence[float]) -> float:
        if len(values) != 1:
            raise self.error(f"{key}={self.values[key]}: it must be one number")
        return values[0]

    def text(self) -> str:
        """Return the section as text, with only the keys that define what the network computes."""
        kept = [f"{key}={self.values[key]}" for key in READ[self.kind].split() if key in self.values]
        return "\n".join([f"[{self.kind}]", *kept])


def parse(text: str, file: str) -> list[Section]:
    """Parse a cfg into its sections, [net] first.

    Args:
        text: contents of the cfg.
        file: its name, for error messages.

    Raises:
        UserError: the text is no cfg, or has an unknown section or key; the message names the file and the section.
    """
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
