"""Published weights by name: the catalogue, the cache, and the download."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from detect.errors import UserError
from detect.hub.cache import folder, is_cached, require_intact
from detect.hub.catalogue import Published, catalogue
from detect.utils.atomic_io import replace_file

OFFLINE = "GRIDHEAD_OFFLINE"


def resolve(weights: str | Path) -> Path:
    """The local file of what `--weights` names: a file, or published weights, which are downloaded on first use.

    Args:
        weights: a path, or a name of the catalogue in any case. A file that exists wins over a name.

    Raises:
        UserError: there is no such name, or its file cannot be had, or is not the published one.
    """
    path = Path(weights)
    if not isinstance(weights, str) or (path.exists() and not path.is_dir()):
        return path
    published = find(weights)
    if published is None:
        if path.suffix or len(path.parts) > 1:
            return path  # whoever opens it says that it is not there
        raise UserError(f"--weights {weights or repr(weights)}: neither a file nor {unlisted(weights)}")
    return pull(published)


def find(name: str) -> Published | None:
    """The published weights of a name, in any case and with hyphens or underscores; None where there are none."""
    return catalogue().get(name.lower().replace("-", "_"))


def in_cache(path: Path) -> Published | None:
    """The published weights that a file of the cache folder belongs to; None for any other file."""
    with suppress(UserError):  # there is no cache folder
        if path.parent == folder():
            return next((one for one in catalogue().values() if one.files[0].name == path.name), None)
    return None


def unlisted(name: str) -> str:
    """What is said of a name that no published weights have: the nearest one instead of a list of all."""
    near = get_close_matches(name.lower(), catalogue(), n=1)
    return "a name that `detect weights` lists" + (f": did you mean {near[0]!r}?" if near else "")


def is_offline() -> bool:
    """Whether the environment forbids downloads."""
    return os.environ.get(OFFLINE, "").lower() not in ("", "0", "false", "no")


@contextmanager
def offline() -> Iterator[None]:
    """Forbid downloads, in child processes too."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        os.environ.pop(OFFLINE)
        os.environ.update({OFFLINE: before} if before is not None else {})


def pull(published: Published) -> Path:
    """Download what is not in the cache yet, check all files, and return the one to open.

    Raises:
        UserError: a file cannot be had, or is not the published one, or the environment forbids downloads.
    """
    if not is_cached(published):
        from detect.hub.download import download  # late: it needs the network's modules

        if is_offline():
            where = f"{published.name} is not in {folder()}, and --offline or {OFFLINE} forbids the download"
            raise UserError(f"{where}: {by_hand(published)}")
        download(published)
    paths = [folder() / file.name for file in published.files]
    for path, file in zip(paths, published.files, strict=True):
        try:
            require_intact(path, file)
        except UserError as error:
            raise UserError(f"{error}; remove it, and name {published.name} again") from error
    return paths[0]


def copy_in(published: Published, path: Path) -> Path:
    """Copy a local file into the cache, once it has passed the checks, and return the copy.

    Of several files, as Darknet's .weights and .cfg, the others are taken from beside it.

    Raises:
        UserError: a file is missing, or is not the published one.
    """
    found = [path.with_suffix(Path(file.name).suffix) if len(published.files) > 1 else path for file in published.files]
    for one, file in zip(found, published.files, strict=True):
        require_intact(one, file)
    for one, file in zip(found, published.files, strict=True):
        replace_file(folder() / file.name, partial(shutil.copyfile, one))
    return folder() / published.files[0].name


def by_hand(published: Published) -> str:
    """How to get the files of published weights without the network of this machine."""
    urls = " and ".join(file.sources[0].url for file in published.files)
    names = " and ".join(file.name for file in published.files)
    return f"fetch {urls} elsewhere, and put {names} into that folder"
