"""A copy of the evaluated weights with something that was learned from the evaluation in its metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from detect.commands.evaluate import EvaluateConfig
from detect.convert.open import open_model, open_weights
from detect.errors import UserError
from detect.export.runtime import is_exported
from detect.hub import resolve
from detect.models.weights import save_weights


def require_copy(config: EvaluateConfig, flag: str, out: str, what: str) -> None:
    """Check that a copy of the weights can be written.

    Args:
        config: the options.
        flag: the option that names the copy.
        out: the copy.
        what: it keeps, in messages.

    Raises:
        UserError: it cannot.
    """
    if Path(out).suffix != ".safetensors":
        raise UserError(f"{flag} {out}: a weights file ends in .safetensors")
    if len(config.weights) > 1:
        raise UserError(f"{flag} {out} keeps {what} of one model: give one --weights, or leave it out")
    weights = config.weights[0]
    if is_exported(weights):
        raise UserError(
            f"{weights} is an exported file: give {flag} with the weights that it was made of, and export what it "
            "writes"
        )
    if Path(out).exists() and Path(weights).exists() and Path(out).samefile(weights):
        raise UserError(f"{flag} {out} are the --weights themselves: name another file")


def write_copy(config: EvaluateConfig, out: str, **changes: Any) -> None:
    """Write the weights of `config` to `out`, with these fields of `ModelMetadata` changed."""
    path = resolve(config.weights[0])
    model, (_, _, tensors) = open_model(path), open_weights(path)  # the tensors as the file has them: perhaps float16
    model.metadata = replace(model.metadata, **changes)
    save_weights(Path(out), model, tensors)
