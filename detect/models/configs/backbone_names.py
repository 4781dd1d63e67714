"""Names of backbones, which may have options: mobilenet_v1:width=0.5, resnet50:stages=3."""

from __future__ import annotations

from detect.config.constraints import Registered
from detect.errors import UserError
from detect.registry import REGISTRIES

TIMM = "timm:"  # before the name of a network of the library timm, which has no options


def split(name: str) -> tuple[str, dict[str, str]]:
    """The registered name, in lower case, and the options of a backbone.

    Args:
        name: NAME, NAME:OPTION=VALUE,OPTION=VALUE or timm:NAME.

    Raises:
        UserError: what follows the colon is no list of options.
    """
    if name.startswith(TIMM):
        return name, {}
    base, colon, rest = name.partition(":")
    options = {}
    for one in rest.split(",") if colon else ():
        key, _, value = one.partition("=")
        if not (key and value):
            raise UserError(f"backbone {name}: after the colon come options, NAME=VALUE, such as {base}:stages=3")
        options[key] = value
    return base.lower(), options


def is_backbone(name: str) -> bool:
    """Whether this is a name of timm or a registered one, with or without options, in any case."""
    return name.startswith(TIMM) or name.partition(":")[0].lower() in REGISTRIES["backbone"]


class BackboneNames(Registered):
    """The names that a backbone may have; their options are checked when it is built."""

    def find(self, value: str) -> str | None:
        """`value` as it is registered, with its options; None for a name that is not allowed."""
        if value.startswith(TIMM):
            return value
        base, options = split(value)
        found = super().find(base)
        return found and ":".join([found, *filter(None, [",".join(f"{k}={v}" for k, v in options.items())])])
