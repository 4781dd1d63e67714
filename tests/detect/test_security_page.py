"""SECURITY.md names flags that are there."""

import dataclasses
import re
from pathlib import Path

from detect.__main__ import COMMANDS
from detect.commands import config_of

ROOT = Path(__file__).parents[2]


def test_every_flag_of_the_page_is_one_of_a_command():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    flags = {field.name for command in COMMANDS for field in dataclasses.fields(config_of(command))} | {
        "config",
        "plugin",
        "offline",
    }
    named = {name.replace("-", "_") for name in re.findall(r"`--([\w-]+)", page)}
    assert len(named) > 10 and named <= flags


def test_the_bounds_of_the_server_are_all_on_the_page():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    serve = {field.name for field in dataclasses.fields(config_of("serve"))}
    bounds = {name for name in serve if re.match(r"max_|.*seconds|waiting|connections|token|allowed_host", name)}
    assert {name for name in bounds if f"`--{name.replace('_', '-')}`" not in page} == set()
