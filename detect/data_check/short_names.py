"""Short names of files: the shortest end of a path that no other file of the dataset has."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

LONGEST = 4  # folders and file that a short name has at most


class ShortNames:
    """Names for pages and captions: `cat.jpg` where one file is called so, else `train/cat.jpg`, and so on."""

    def __init__(self, paths: Iterable[str], folder: str = "") -> None:
        """Count the ends of all paths.

        Args:
            paths: every file of the dataset.
            folder: that of the dataset, as the user named it: paths in it are shown relative to it.
        """
        self.counts = Counter(end for path in paths for end in _ends(path))
        self.name = PurePath(os.path.abspath(folder)).name
        spelled = {str(PurePath(one)) for one in (folder, os.path.abspath(folder))} - {"."} if folder else set[str]()
        spellings = "|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))
        self.base = re.compile(rf"(?<![\w./\\-])(?:{spellings})(?:([/\\])|(?![\w-]))") if spelled else None

    def __call__(self, path: str) -> str:
        """Return the short name of a path."""
        return next((end for end in _ends(path) if self.counts[end] == 1), self.relative(path))

    def relative(self, text: str) -> str:
        """Return a text whose paths are relative to the folder of the dataset, which is called by its name."""
        return self.base.sub(lambda found: "" if found[1] else self.name, text) if self.base else text


def _ends(path: str) -> list[str]:
    parts = PurePath(path).parts
    return ["/".join(parts[-n:]) for n in range(1, min(LONGEST, len(parts) - 1) + 1)]
