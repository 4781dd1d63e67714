"""Short names of files: the shortest end of a path that no other file of the dataset has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

LONGEST = 4  # folders and file that a short name has at most


class ShortNames:
    """Names for pages and captions: `cat.jpg` where one file is called so, else `train/cat.jpg`, and so on."""

    def __init__(self, paths: Iterable[str], base: str = "") -> None:
        """Count the ends of all paths.

        Args:
            paths: every file of the dataset.
            base: the folder of the dataset, with a slash at its end: other paths are shown relative to it.
        """
        self.counts, self.base = Counter(end for path in paths for end in _ends(path)), base

    def __call__(self, path: str) -> str:
        """Return the short name of a path."""
        return next((end for end in _ends(path) if self.counts[end] == 1), self.relative(path))

    def relative(self, text: str) -> str:
        """Return a text whose paths are relative to the folder of the dataset."""
        if not self.base:
            return text
        return text.replace(self.base, "").replace(self.base[:-1], PurePath(self.base).name)


def _ends(path: str) -> list[str]:
    parts = PurePath(path).parts
    return ["/".join(parts[-n:]) for n in range(1, min(LONGEST, len(parts) - 1) + 1)]
