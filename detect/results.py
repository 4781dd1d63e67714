"""What every result can become: numpy arrays, COCO records, a table, an annotated image, a file.

`Detections`, `Classification` and `Embedding` themselves are in `detect.types`. Libraries that draw or convert are
imported when a method needs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from anchors.oriented import oriented_to_corners
from detect.errors import UserError
from detect.masks import Masks, RleMasks

if TYPE_CHECKING:
    from torch import Tensor


class Result:
    """Base of all results, which are frozen dataclasses."""

    def numpy(self) -> dict[str, np.ndarray]:
        """The values as numpy arrays, by the names of the fields; fields that are None are left out.

        Masks are whole (N, H, W) bool: N times the pixels of the image, in bytes.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]  # a dataclass
        arrays = {name: value.numpy() if hasattr(value, "numpy") else value for name, value in values.items()}
        return {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}

    def described(
        self, names: Sequence[str], category_ids: Sequence[int], skeleton: Sequence[tuple[int, int]] = ()
    ) -> Self:
        """A copy with class names, category ids and skeleton; a result without classes is returned as it is.

        Args:
            names: class names by label.
            category_ids: their ids in the annotation file.
            skeleton: pairs of 0-based indices of keypoints to join in a plot.
        """
        return self

    def counted(self) -> list[str]:
        """The names that `detect predict` counts in its last line, one for each item."""
        return []

    def text(self) -> str:
        """The result in one line."""
        return ", ".join(self.counted())

    def records(self) -> list[dict[str, Any]]:
        """A record for each row, as in the json files of `detect predict` but for the image."""
        raise NotImplementedError

    def columns(self) -> dict[str, Any]:
        """The columns of `to_dataframe`, by their names."""
        raise NotImplementedError

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Records in COCO's results format, ready for `json.dump`.

        Args:
            image_id: the id of the image in the annotation file.
        """
        return [{"image_id": image_id} | record for record in self.records()]

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame` with a row for each detection, class or embedding.

        Raises:
            UserError: pandas is not installed.
        """
        return optional("pandas", "to_dataframe").DataFrame(self.columns())

    def plot(
        self,
        image: np.ndarray,
        *,
        line_width: int = 0,
        hide_labels: bool = False,
        hide_conf: bool = False,
        show_boxes: bool = False,
    ) -> np.ndarray:
        """An annotated copy of the image (H, W, 3) uint8 RGB.

        Args:
            image: the image.
            line_width: of boxes, in pixels; 0: by the size of image and boxes.
            hide_labels: draw boxes, masks and keypoints alone.
            hide_conf: leave the scores out.
            show_boxes: draw boxes beside masks, too.

        Raises:
            UserError: the result is an embedding.
        """
        return self._drawn(image, line_width, hide_labels, hide_conf, show_boxes)

    def _drawn(self, image: np.ndarray, *style: Any) -> np.ndarray:
        """The annotated copy of `plot`, whose options are `style`."""
        raise UserError("an embedding has nothing to draw: save it as .json, or compare it with another one")

    def save(self, path: str | Path, image: np.ndarray | None = None, **options: Any) -> None:
        """Write the result to a file, which is replaced if it exists.

        Args:
            path: `*.json` for the records of `to_coco`; the suffix of an image for the annotated image.
            image: the image (H, W, 3) uint8 RGB to annotate; json files need none.
            options: how to draw, as in `plot`: `line_width`, `hide_labels`, `hide_conf`, `show_boxes`.

        Raises:
            UserError: the file cannot be written, or an annotated image is wanted and `image` is missing.
        """
        from detect.data.image_writer import save_image
        from detect.utils.atomic_io import replace_text
        from detect.utils.names import json_text

        path = Path(path)
        if path.suffix.lower() == ".json":
            replace_text(path, json_text(self.to_coco(), indent=1) + "\n")
        elif image is None:
            raise UserError(f"{path}: a result does not hold its image: give it as well, as in save(path, frame.image)")
        else:
            save_image(path, self.plot(image, **options))


class ClassResult(Result):
    """Base of results whose rows each have a class: `scores` (N,) and `labels` (N,).

    names: class names by label; category_ids: their ids in the annotation file; skeleton: pairs of 0-based indices of
    keypoints to join in a plot. All are empty where nothing is known of the classes.
    """

    scores: Tensor
    labels: Tensor
    names: Sequence[str]
    category_ids: Sequence[int]
    skeleton: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def described(
        self, names: Sequence[str], category_ids: Sequence[int], skeleton: Sequence[tuple[int, int]] = ()
    ) -> Self:
        """A copy with names, ids and, where it has keypoints, their skeleton. Args: see `Result.described`."""
        known: dict[str, Any] = {"names": names, "category_ids": category_ids, "skeleton": skeleton}
        own = {f.name for f in fields(self)}  # type: ignore[arg-type]  # a dataclass
        return replace(self, **{name: value for name, value in known.items() if name in own})  # type: ignore[type-var]

    def counted(self) -> list[str]:
        """The class name of each row."""
        return [self.names[label] if self.names else str(label) for label in self.labels.tolist()]

    def text(self) -> str:
        """The class and score of each row."""
        rows = zip(ClassResult.counted(self), self.scores.tolist(), strict=True)
        return ", ".join(f"{name} {score:.2f}" for name, score in rows)

    def categories(self) -> list[dict[str, Any]]:
        """For each row `category_id` (the label, where ids are not known) and, where it is known, `category`."""
        labels: list[int] = self.labels.tolist()
        names = [{"category": self.names[label]} if self.names else {} for label in labels]
        ids = [self.category_ids[label] if self.category_ids else label for label in labels]
        return [{"category_id": id_} | name for id_, name in zip(ids, names, strict=True)]

    def records(self) -> list[dict[str, Any]]:
        """A record for each row: its category, and its score."""
        rows = zip(self.categories(), self.scores.tolist(), strict=True)
        return [category | {"score": round(score, 5)} for category, score in rows]

    def columns(self) -> dict[str, Any]:
        """Columns `score`, `label` and, where class names are known, `name`."""
        columns: dict[str, Any] = {"score": self.scores.numpy(), "label": self.labels.numpy()}
        return columns | ({"name": [self.names[label] for label in self.labels.tolist()]} if self.names else {})

    def _drawn(self, image: np.ndarray, *style: Any) -> np.ndarray:
        from detect.inference.draw import draw

        return draw(image, self, self.names, self.skeleton, *style)  # type: ignore[arg-type]  # one of the two there are


class BoxResult(ClassResult):
    """Base of results whose rows each have a box, and perhaps keypoints, a track's number, an oriented box, a mask."""

    boxes: Tensor
    keypoints: Tensor | None
    tracks: Tensor | None
    oriented: Tensor | None
    masks: Masks | None
    speeds: Tensor | None
    dwell: Tensor | None

    def records(self) -> list[dict[str, Any]]:
        """COCO records without an image id: category, `bbox` (x, y, width, height), score, `keypoints`, `track_id`.

        A mask adds its `segmentation`, as run-length encoding; an oriented box its four `corners` (x, y), clockwise on
        the screen, and its `angle` in radians. A track may have its `speed`, and `dwell`, its seconds in each zone.
        """
        records: list[dict[str, Any]] = []
        corners: list[Any] = [] if self.oriented is None else oriented_to_corners(self.oriented).tolist()
        rows = zip(self.categories(), self.boxes.tolist(), self.scores.tolist(), strict=True)
        for i, (category, (left, top, right, bottom), score) in enumerate(rows):
            box = [round(value, 3) for value in (left, top, right - left, bottom - top)]
            records.append(category | {"bbox": box, "score": round(score, 5)})
            if self.keypoints is not None:
                records[-1]["keypoints"] = [round(value, 3) for value in self.keypoints[i].flatten().tolist()]
            if self.tracks is not None:
                records[-1]["track_id"] = int(self.tracks[i])
            if self.speeds is not None and self.speeds[i] == self.speeds[i]:  # not NaN
                records[-1]["speed"] = round(float(self.speeds[i]), 3)
            if self.dwell is not None:
                records[-1]["dwell"] = [round(value, 3) for value in self.dwell[i].tolist()]
            if isinstance(self.masks, RleMasks):
                records[-1]["segmentation"] = self.masks.to_coco(i)
            if self.oriented is not None:
                records[-1]["corners"] = [[round(x, 3), round(y, 3)] for x, y in corners[i]]
                records[-1]["angle"] = round(float(self.oriented[i, 4]), 5)
        return records

    def columns(self) -> dict[str, Any]:
        """Columns `x1`, `y1`, `x2`, `y2`, `score`, `label`, and `name`, `track` and `x_0`, `y_0`, `visibility_0`…

        A mask adds its `area` in pixels; an oriented box `cx`, `cy`, `width`, `height` and `angle` in radians.
        """
        columns: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.numpy().T, strict=True))
        columns |= super().columns()
        if self.tracks is not None:
            columns["track"] = self.tracks.numpy()
        if self.speeds is not None:
            columns["speed"] = self.speeds.numpy()
        for k, seconds in enumerate([] if self.dwell is None else self.dwell.unbind(1)):
            columns[f"dwell_{k}"] = seconds.numpy()
        if isinstance(self.masks, RleMasks):
            columns["area"] = self.masks.areas
        if self.oriented is not None:
            columns |= dict(zip(("cx", "cy", "width", "height", "angle"), self.oriented.numpy().T, strict=True))
        for k, point in enumerate([] if self.keypoints is None else self.keypoints.unbind(1)):
            columns |= dict(zip((f"x_{k}", f"y_{k}", f"visibility_{k}"), point.numpy().T, strict=True))
        return columns

    def to_supervision(self) -> Any:
        """A `supervision.Detections`, with class names in `data["class_name"]`; keypoints are left out.

        Masks are whole: N times the pixels of the image, in bytes. The corners (N, 4, 2) of oriented boxes are in
        `data["xyxyxyxy"]`, where it looks for them.

        Raises:
            UserError: supervision is not installed.
        """
        arrays, columns = self.numpy(), super().columns()
        data = {"class_name": np.array(columns["name"])} if "name" in columns else {}
        if self.oriented is not None:
            data["xyxyxyxy"] = oriented_to_corners(self.oriented).numpy()
        return optional("supervision", "to_supervision").Detections(
            xyxy=arrays["boxes"],
            mask=arrays.get("masks"),
            confidence=arrays["scores"],
            class_id=arrays["labels"],
            tracker_id=arrays.get("tracks"),
            data=data,
        )


def optional(library: str, method: str) -> Any:
    """A library that only one method needs.

    Args:
        library: its name.
        method: the method, for the message.

    Raises:

        UserError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise UserError(f"{method}() needs {library}, which is not installed: pip install {library}") from None
