"""`detect weights`: list the published weights that have a name, and get them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from detect.errors import UserError
from detect.hub import copy_in, find, pull, unlisted
from detect.hub.cache import folder, is_cached
from detect.hub.catalogue import Published, catalogue
from detect.utils.names import say


@dataclass(frozen=True)
class WeightsConfig:
    """List the published weights that --weights takes by name, or get some: `detect weights pull NAME`.

    A name is enough wherever a weights file is asked for: it is downloaded on first use, unless --offline forbids it.
    `pull` does that in advance. Files that you put into the cache folder yourself, under the names that the list shows,
    pass the same checks.
    """

    positional: ClassVar = ("action", "name")

    action: Literal["list", "pull"] = "list"
    """What to do: list all, or pull one."""
    name: str = ""
    """Name of the weights to pull."""
    file: str = ""
    """With pull: local copy of the published file, to take in place of a download."""

    @property
    def native(self) -> bool:
        """Whether torch is needed: to list the weights it is not."""
        return self.action == "pull"


def weights(config: WeightsConfig) -> list[Path]:
    """List the catalogue, or put published weights into the cache.

    Returns:
        With pull, the file to open; otherwise the files that are in the cache.

    Raises:
        UserError: there is no such name, or its file cannot be had, or is not the published one.
    """
    if config.action == "list":
        if config.name or config.file:
            raise UserError("detect weights list takes no name and no file: detect weights pull NAME [--file FILE]")
        for line in _table():
            say(line)
        return [folder() / one.files[0].name for one in catalogue().values() if is_cached(one)]
    if not config.name:
        raise UserError("detect weights pull needs the name of published weights: detect weights lists them")
    published = find(config.name)
    if published is None:
        raise UserError(f"detect weights pull {config.name}: this is not {unlisted(config.name)}")
    given = Path(config.file) if config.file else pull(published)
    said = _require_fit(published, given)
    path = copy_in(published, given) if config.file else given
    say(f"{published.name}: {path}: {said}, licence {published.licence}")
    return [path]


def _require_fit(published: Published, path: Path) -> str:
    """Open the file, so that each tensor must fit its network, and describe that. Raises UserError if it is another."""
    from detect.convert.open import open_model, require_fit  # late: it needs torch

    return require_fit(published, open_model(path), path)


def _table() -> list[str]:
    head = ("name", "task", "classes", "params, M", "px", "published", "MB", "licence", "file; *: in the cache")
    rows = [head, *(_row(one) for one in catalogue().values())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    pages = {one.publisher: one.page for one in catalogue().values()}
    lines += ["", "AP and AP50: COCO val2017; top-1: ImageNet; both in percent, as published:"]
    lines += [f"  {publisher}: {page}" for publisher, page in pages.items()]
    return [*lines, f"cache: {folder()}", "use one: detect predict --weights NAME --source image.jpg"]


def _row(one: Published) -> tuple[str, ...]:
    size = f"{one.size:.1f}" if one.size else "?"
    mark = "*" if is_cached(one) else " "
    files = " ".join(file.name for file in one.files)
    score = f"{one.metric} {one.score:.1f}"
    facts = (one.task, str(one.classes), f"{one.parameters:.3g}", str(one.imgsz), score, size, one.licence)
    return (one.name, *facts, f"{mark} {files}")
