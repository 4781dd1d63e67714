"""Published weights by name: the catalogue, the cache, and the download."""

from __future__ import annotations

import os
from pathlib import Path

from detect.errors import UserError, unknown
from detect.hub.cache import folder, is_cached, require_intact
from detect.hub.catalogue import CATALOGUE, Published

OFFLINE = "GRIDHEAD_OFFLINE"


def resolve(weights: str | Path, offline: bool | None = None) -> Path:
    """The local file of what `--weights` names: a file, or published weights, which are downloaded on first use.

    Args:
        weights: a path, or a name of the catalogue in any case. A file that exists wins over a name.
        offline: whether to forbid the download. Default: what the environment variable GRIDHEAD_OFFLINE says.

    Raises:
        UserError: there is no such name, or its file cannot be had, or is not the published one.
    """
    path = Path(weights)
    if not isinstance(weights, str) or (path.exists() and not path.is_dir()):
        return path
    published = find(weights)
    if published is None:
        if path.suffix or len(path.parts) != 1:
            return path  # whoever opens it says that it is not there
        hint = str(unknown("weights", weights, CATALOGUE)).partition(": ")[2]
        raise UserError(f"--weights {weights}: neither a file nor a name that `detect weights` lists: {hint}")
    return pull(published, is_offline() if offline is None else offline)


def find(name: str) -> Published | None:
    """The published weights of a name, in any case and with hyphens or underscores; None where there are none."""
    return CATALOGUE.get(name.lower().replace("-", "_"))


def is_offline() -> bool:
    """Whether the environment forbids downloads."""
    return os.environ.get(OFFLINE, "").lower() not in ("", "0", "false", "no")


def pull(published: Published, offline: bool = False) -> Path:
    """Download what is not in the cache yet, check all files, and return the one to open.

    Raises:
        UserError: a file cannot be had, or is not the published one.
    """
    if not is_cached(published):
        from detect.hub.download import download  # late: it needs the network's modules

        if offline:
            raise UserError(f"{published.name} is not in {folder()}, and no download is allowed: {by_hand(published)}")
        download(published)
    paths = [folder() / file.name for file in published.files]
    for path, file in zip(paths, published.files, strict=True):
        try:
            require_intact(path, file)
        except UserError as error:
            raise UserError(f"{error}; remove it, and name {published.name} again") from error
    return paths[0]


def by_hand(published: Published) -> str:
    """How to get the files of published weights without the network of this machine."""
    urls = " and ".join(file.sources[0].url for file in published.files)
    names = " and ".join(file.name for file in published.files)
    return f"fetch {urls} elsewhere, and put {names} into that folder"
