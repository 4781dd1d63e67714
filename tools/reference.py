"""The pages of the reference that are made from the code: commands, models, published weights, and registries.

Nothing is written: `tools/mkdocs_hooks.py` adds the pages to the site while it is built.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_args, get_origin

from detect.__main__ import usage
from detect.cli.applicability import ignored_options
from detect.cli.help import GENERAL, IDENTITY, Help, facts_of, flag_of
from detect.cli.parser import parse
from detect.commands import COMMANDS, config_of
from detect.config.fields import Option
from detect.hub.catalogue import catalogue
from detect.models.configs import model_class, model_values, shipped_names
from detect.registry import REGISTRIES


def pages() -> dict[str, str]:
    """The Markdown of each page by its path in docs/."""
    found = {"reference/commands.md": commands()}
    found |= {f"reference/commands/{name}.md": command(name) for name in COMMANDS}
    found["reference/models.md"] = models()
    found |= {f"reference/models/{kind}.md": model(kind, names) for kind, names in by_kind().items()}
    found["reference/weights.md"] = weights()
    found["reference/registries.md"] = registries()
    return found


def by_kind() -> dict[str, list[str]]:
    """The names of models by kind; a kind of which no configuration is shipped stands for itself."""
    found = defaultdict[str, list[str]](list)
    for name in shipped_names():
        found[model_values(name)["kind"]].append(name)
    return {kind: sorted(found[kind], key=_size) or [kind] for kind in REGISTRIES["model"]}


def commands() -> str:
    """The list of commands, what all of them take, and the exit status."""
    rows = [(f"[`detect {name}`](commands/{name}.md)", _sentence(text)) for name, text in COMMANDS.items()]
    general = [(f"`{flag}`", _sentence(text)) for flag, text in GENERAL.items()]
    status = usage()[usage().index("exit status") :].replace("\n", " ")
    return "\n\n".join(
        [
            "# Commands",
            "`detect COMMAND --help` prints the options that most people need, `--help-all` all of them. In Python "
            "they are the keywords of `detect.train`, `detect.evaluate` and `detect.anchors`, with `_` for `-`.",
            _table(("command", "does"), rows),
            "## Options of every command",
            _table(("option", "meaning"), general),
            "## Exit status",
            _sentence(status),
        ]
    )


def command(name: str) -> str:
    """One command: what it does, and every option."""
    options = _trained() if name == "train" else list(Help(name, {}, everything=True).options())
    parts = [f"# detect {name}", f"```sh\n{_usage(name, options)}\n```", inspect.getdoc(config_of(name)) or ""]
    if name == "train":
        parts.append("The options `--model.…` depend on the model: see [Models](../models.md).")
    return "\n\n".join([*parts, *_sections(options)])


def models() -> str:
    """The list of models, by kind."""
    rows = []
    for kind, names in by_kind().items():
        first = (inspect.getdoc(model_class(kind)) or "").split("\n\n")[0].replace("\n", " ")
        rows.append((f"[`{kind}`](models/{kind}.md)", ", ".join(f"`{one}`" for one in names), first))
    return "\n\n".join(
        [
            "# Models",
            "`detect train --model NAME` takes these names, and those of all [backbones](registries.md#backbone), "
            "which then are classifiers. `detect info NAME` lists the layers of one.",
            _table(("kind, with its options", "names", "what it is"), rows),
        ]
    )


def model(kind: str, names: Sequence[str]) -> str:
    """One kind of model: its options, where its names differ, and which options of `detect train` differ."""
    options = {one: {option.name: option for _, option in _trained(one)} for one in names}
    plain = {one.name: one.default for _, one in _trained()}
    first = list(options[names[0]].values())
    own = [("Architecture", one) for one in first if one.name.startswith("model.") and one.name not in IDENTITY]
    changed = [one for one in first if one.name in plain.keys() - {"model"} and one.default != plain[one.name]]
    differing = [one.name for _, one in own if len({str(options[name][one.name].default) for name in names}) > 1]
    config = parse("train", ["--data", "toy", "--model", names[0]])
    ignored = ignored_options("train", config, config.task)
    parts = [f"# Model {kind}", inspect.getdoc(model_class(kind)) or "", f"Task: `{config.task}`."]
    parts.append(f"```sh\ndetect train --model {names[0]} --data DATA\n```")
    if differing:
        rows = [(f"`{name}`", *(_value(options[name][one].default) for one in differing)) for name in names]
        parts += ["## Names", _table(("`--model`", *(f"`--{_flag(one)}`" for one in differing)), rows)]
    if changed:
        rows = [(f"`--{_flag(one.name)}`", _value(one.default), _value(plain[one.name])) for one in changed]
        parts += ["## Other defaults of detect train", _table(("option", "here", "else"), rows)]
    if ignored:
        rows = [(f"`--{_flag(one)}`", why) for one, why in ignored.items()]
        parts += ["## Options that it does not take", _table(("option", "why"), rows)]
    return "\n\n".join([*parts, *_sections(own, f"of `{names[0]}`")])


def weights() -> str:
    """The published weights that have a name."""
    rows = [
        (
            *(f"`{one.name}`", one.task, f"`{one.model}`", one.classes, one.parameters, one.imgsz),
            *(f"{one.metric} {one.score:.1f}", f"{one.size:.1f} MB" if one.size else "", one.licence, one.publisher),
        )
        for one in catalogue().values()
    ]
    titles = ("name", "task", "model", "classes", "parameters, millions", "pixels", "as published", "download")
    return "\n\n".join(
        [
            "# Published weights by name",
            "What `--weights NAME` downloads on first use; [how to use them](../how-to/pretrained.md#weights-by-name).",
            _table((*titles, "licence", "publisher"), rows),
        ]
    )


def registries() -> str:
    """Every kind of registry and its built-in names."""
    parts = [
        "# Registries",
        "What a plugin can register, and the names that are built in. "
        "[What each kind has to be, and which option chooses it](../how-to/plugins.md#what-can-be-registered).",
    ]
    for kind, registry in REGISTRIES.items():
        names = ", ".join(f"`{name}`" for name in registry) or "none; plugins register them"
        parts += [f"## {kind}", f'`@register("{kind}", NAME)`', f"Built in: {names}."]
    return "\n\n".join(parts)


def _trained(name: str = "") -> list[tuple[str, Option]]:
    """The options of `detect train`, each with its heading, and with what a model makes of its default."""
    config = parse("train", ["--data", "toy", *(["--model", name] if name else [])])
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.name != "data"}
    values["task"] = "auto"
    options = Help("train", values, model=bool(name), everything=True).options()
    return [(heading, one) for heading, one in options if name or not one.name.startswith("model.")]


def _sections(options: Iterable[tuple[str, Option]], where: str = "") -> Iterator[str]:
    """A heading for each group of options, and one for each option with its type, facts and explanation."""
    groups = defaultdict[str, list[Option]](list)
    for heading, option in options:
        groups[heading].append(option)
    for heading, members in groups.items():
        yield f"## {heading}"
        for one in members:
            facts = [f"`{_type(one)}`", *facts_of(one, everything=True)]
            said = "; ".join(f"{fact} {where}".strip() if fact.startswith("default ") else fact for fact in facts)
            yield f"#### `{flag_of(one)}` {{#{_flag(one.name)}}}\n\n{_escaped(said)}\n{{.facts}}\n\n{one.explanation}"


def _usage(name: str, options: Iterable[tuple[str, Option]]) -> str:
    positional = getattr(config_of(name), "positional", ())
    required = [flag_of(one) for _, one in options if one.default is MISSING and one.name not in positional]
    return " ".join(["detect", name, *(word.upper() for word in positional), *required, "[--flag value ...]"])


def _type(option: Option) -> str:
    """The type of an option as Python writes it, without what annotations add."""

    def name(hint: Any) -> str:
        while hasattr(hint, "__metadata__"):
            hint = get_args(hint)[0]
        if get_origin(hint) is list:
            return f"list[{name(get_args(hint)[0])}]"
        if get_origin(hint) is dict:
            return f"dict[{', '.join(map(name, get_args(hint)))}]"
        return "str" if get_origin(hint) or not isinstance(hint, type) or option.nested else hint.__name__

    return name(option.hint)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _value(value: Any) -> str:
    return "unset" if value in ("", None, MISSING) or value == [] else f"`{value}`"


def _size(name: str) -> tuple[int, int, str]:
    """A key that sorts the names of models from small to large."""
    sizes: Mapping[str, int] = {size: i for i, size in enumerate(("nano", "n", "tiny", "s", "m", "l", "x"))}
    return min((sizes.get(word, 9) for word in name.split("_")), default=9), len(name), name


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_") if "`" not in text else text


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
