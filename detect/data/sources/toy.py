"""The built-in toy dataset, by its name."""

from __future__ import annotations

from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import coco_folder
from detect.errors import UserError


class Toy(Format):
    """`--data toy`: handwritten digits in photographs, drawn on first use (see `detect.data.toy`)."""

    accepts = "toy (the built-in dataset)"

    def splits(self, source: Source) -> Splits:
        """Return the readers of its splits; nothing for any other name.

        Raises:
            UserError: a file or folder in the current folder has that name, too.
        """
        if str(source.path) != "toy":
            return {}
        if source.path.exists():
            raise UserError(
                f"toy: is the name of the built-in dataset, and of {source.path.absolute()}; for the latter give that "
                "path, for the former start the command in another folder"
            )
        from detect.data.toy import toy_folder  # late: it imports what draws the dataset

        folder = toy_folder()
        return coco_folder(folder, Source(folder).inside)
