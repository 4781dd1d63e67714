"""The record of a run: its settings and facts, and what happens where a run is resumed with others."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detect import plugins
from detect.config.train import TrainConfig
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.models.base import Model
from detect.models.configs import model_class
from detect.types import Preprocess
from detect.utils.yaml_files import dump_yaml

Record = dict[str, Any]  # values that JSON holds, by name

PREPROCESSING = "preprocessing of the model"
SHARING = "processes that share --global-batch"
FORM = "fused activations"
# Settings that the tensors and counts of a checkpoint depend on: they can never change.
STATE = (
    *("model.", PREPROCESSING, "classes", "seed", "imgsz", "batches an epoch"),
    *(
        "optim.name",
        "optim.accumulate",
        "optim.layer_decay",
        "freeze",
        "unfreeze_every",
        "cache_features",
        "balance",
        "repeat",
        "weights of the teacher",
        "distill.features",
    ),
)
# Settings that change no remaining step, except how many there are.
FREE = (
    *(
        "model.name",
        "task",
        "out",
        "data",
        "skip_bad",
        "check_first",
        "allow_outside",
        "train images",
        "val images",
        "proposals",
        "features",
        "torch",
    ),
    *(
        "weights",
        "backbone_weights",
        "pretrained",
        "init",
        "pixels",
        "teacher",
        "unlabelled",
    ),  # their effect is in the checkpoint
    *("device", "precision"),  # what was chosen is recorded as a fact
    FORM,
    SHARING,  # of a step they change how its sums are rounded, and what each draws within the network
    *("workers", "cache_gb", "save_seconds", "save_steps", "callbacks", "plugin", "epochs", "patience"),
)
ASKED = ("resume", "resume_anyway", "auto", "find_lr")  # requests, not settings of the run
# Fields of annotations whose first names are in the fingerprints of runs that go on.
HASHED_AS = {"keypoints": "points", "keypoint_names": "keypoints"}
LONGEST = 60  # letters of a value in a message


class Difference(NamedTuple):
    """A setting that differs between a resumed run and its checkpoint."""

    name: str
    before: Any
    after: Any

    @property
    def breaks(self) -> str:
        """What the change breaks: the "state" in the checkpoint, the remaining "steps", or nothing ("")."""
        if _matches(self.name, FREE):
            return ""
        return "state" if _matches(self.name, STATE) and not self.name.startswith("model.loss.") else "steps"

    def __str__(self) -> str:
        return f"{self.name}: {_short(self.before)} -> {_short(self.after)}"


def holds_run(out: Path) -> bool:
    """Whether a folder holds a run that was begun: one killed after its first weights may have no checkpoint yet."""
    return any((out / name).exists() for name in ("last.ckpt", "best.safetensors"))


def settings_of(config: TrainConfig, model: Model) -> dict[str, Any]:
    """The settings as nested plain values, with the model as it was built and the plugins: what `config.yaml` holds."""
    values = dataclasses.asdict(dataclasses.replace(config, model=model.config))
    named = {"plugin": plugins.loaded()} if plugins.loaded() else {}
    return named | {name: value for name, value in values.items() if name not in ASKED}


def facts_of(
    model: Model,
    sets: Sequence[Annotations],
    batches: int,
    sharing: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    fused: bool,
) -> Record:
    """What the settings came to on this machine with this data.

    Args:
        model: the model as it was built.
        sets: the training and the validation set.
        batches: batches in an epoch.
        sharing: processes of the run, and `--global-batch`, with which their number may change.
        device: where it runs.
        dtype: what it computes in.
        fused: whether copies for inference have fused activations.
    """
    world, shared = sharing
    facts: Record = {
        SHARING if shared else "processes": world,
        "computed on": device.type,
        "computed in": str(dtype).removeprefix("torch."),
        FORM: fused,
    }
    facts |= {"torch": torch.__version__, "classes": model.metadata.names}
    facts[PREPROCESSING] = dataclasses.asdict(model.metadata.preprocess)
    facts["batches an epoch (images / --batch / processes)"] = batches
    for name, one in zip(("train", "val"), sets, strict=True):
        facts[f"{name} images"] = str(one.root.resolve())
        facts[f"{name} annotations"] = fingerprint(one)
    return facts


def fingerprint(annotations: Annotations) -> str:
    """The size of a dataset and a hash of its annotations, which do not depend on where it lies."""
    digest = hashlib.sha256()
    values = {field.name: getattr(annotations, field.name) for field in dataclasses.fields(annotations)}
    for name in ("outlines", "federation"):  # nothing where there are none: runs from before these were read go on
        if (part := values.pop(name)) is not None:
            values |= {f"{name}.{field.name}": getattr(part, field.name) for field in dataclasses.fields(part)}
    if values["measured_as"] == "coco":
        del values["measured_as"]
    for name, value in values.items():
        if name in ("path", "root", "left_out", "bad_outlines", "difficult"):
            continue
        digest.update(HASHED_AS.get(name, name).encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update(repr(value).encode("utf-8", "surrogatepass"))
    return f"{len(annotations)} images, {len(annotations.labels)} objects, {digest.hexdigest()[:12]}"


def flat(values: dict[str, Any], prefix: str = "") -> Record:
    """Nested settings as one level with dotted names, and values as JSON returns them."""
    found: Record = {}
    for name, value in values.items():
        nested = isinstance(value, dict) and value and prefix + name != PREPROCESSING
        found |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: json.loads(json.dumps(value))}
    return found


def differences(before: Record, after: Record) -> list[Difference]:
    """The settings that differ. One that did not exist before counts as if it had had its default."""
    default = flat(dataclasses.asdict(TrainConfig(data="", model=model_class(after["model.kind"])())))
    if PREPROCESSING in before:
        before = before | {PREPROCESSING: dataclasses.asdict(Preprocess()) | before[PREPROCESSING]}
    before = {FORM: after.get(FORM)} | before  # runs from before it was recorded go on
    names = [*after, *(name for name in before if name not in after)]
    pairs = ((name, before.get(name, default.get(name)), after.get(name)) for name in names)
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def require_same(before: Record, after: Record, out: Path, anyway: bool) -> None:
    """Check that a run may be resumed with its present settings.

    Args:
        before: the record in the checkpoint.
        after: the record of now.
        out: the folder of the run, for messages.
        anyway: whether settings may change that only the remaining steps depend on.

    Raises:
        UserError: a setting has changed that must not; the line names its values.
    """
    found = differences(before, after)
    as_before = f"give the settings in {out / 'config.yaml'}"
    broken = [str(one) for one in found if one.breaks == "state"]
    if broken:
        what = f"{out / 'last.ckpt'} is of another run: {'; '.join(broken)}"
        raise UserError(f"{what}; {as_before}, or start with another --out")
    other = [str(one) for one in found if one.breaks == "steps"]
    if other and not anyway:
        what = f"the rest of the run in {out} would differ from how it was begun: {'; '.join(other)}"
        raise UserError(f"{what}; {as_before}, or add --resume-anyway to go on with these")


def _matches(name: str, rules: Sequence[str]) -> bool:
    """Whether a rule names the setting, or its group, such as `model.`; brackets in a name only explain it."""
    return any(name.partition(" (")[0] == rule or (rule[-1] == "." and name.startswith(rule)) for rule in rules)


def _short(value: Any) -> str:
    text = " ".join(str(value).split()) if value not in ("", [], None) else "unset"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def config_text(settings: dict[str, Any], record: Record) -> str:
    """The text of `config.yaml`: the facts as comments, then the settings."""
    facts = {name: record[name] for name in record.keys() - flat(settings).keys()}
    said = [f"# {name}: {json.dumps(facts[name])}" for name in sorted(facts) if isinstance(facts[name], str | int)]
    return "\n".join(said) + "\n" + dump_yaml(settings)
