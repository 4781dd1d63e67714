"""What must be the same for one run to continue another: options, weights and the files of the source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detect.config.fields import dotted
from detect.errors import UserError
from detect.hub import resolve
from detect.storage.shards import MEMBER
from detect.utils.atomic_io import open_file


def identity(
    config: Any, beside: Collection[str], weights: Sequence[str], files: Iterable[tuple[str, Path]]
) -> dict[str, Any]:
    """What a run is: the value of each option, and hashes of the content of the weights and of the list of files.

    Args:
        config: the configuration of the command.
        beside: fields that do not change the results.
        weights: files or names.
        files: names and paths of the files that are read.

    Raises:
        UserError: the weights cannot be read.
    """
    values = {name: value for name, value in asdict(config).items() if name not in beside}
    return {
        **{f"--{name.replace('_', '-')}": value for name, value in dotted(values).items()},
        "weights": [digest(resolve(one)) for one in weights],
        "files in --source": _listed(files),
    }


def digest(weights: Path) -> str:
    """The SHA-256 of a weights file, for OpenVINO with the file beside it.

    Raises:
        UserError: it cannot be read.
    """
    beside = [weights.with_suffix(".bin")] if weights.suffix == ".xml" else []
    digests = list[str]()
    for path in (weights, *beside):
        try:
            with open_file(path) as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return " ".join(digests)


def _listed(files: Iterable[tuple[str, Path]]) -> str:
    """The number of the files, and a hash of their names and sizes, those of their shards."""
    found, count = hashlib.sha256(), 0
    for name, path in files:
        shard = MEMBER.match(str(path))
        try:
            size = os.stat(shard[1] if shard else path).st_size
        except OSError:  # it will be among what cannot be read
            size = -1
        found.update(f"{name!r} {size}\n".encode())
        count += 1
    return f"{count}: {found.hexdigest()}"
