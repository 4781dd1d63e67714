"""The built-in toy dataset, by its name."""

from __future__ import annotations

from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import coco_folder


class Toy(Format):
    """`--data toy`: handwritten digits in photographs, drawn on first use (see `detect.data.toy`)."""

    accepts = "toy (the built-in dataset)"

    def splits(self, source: Source) -> Splits:
        """Return the readers of its splits; nothing for any other name."""
        if str(source.path) != "toy":
            return {}
        from detect.data.toy import toy_folder  # late: it imports what draws the dataset

        folder = toy_folder()
        return coco_folder(folder, Source(folder).inside)
