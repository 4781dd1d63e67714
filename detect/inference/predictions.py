"""What `Detector.predict` returns: predictions that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from detect.inference.source import Source
from detect.types import Frame

READ_AGAIN = ("images", "signals")  # the kinds of sources that can be read several times, with exact counts


class Prediction(NamedTuple):
    """An image with what the model predicts for it; `frame, result = prediction` takes it apart.

    result: Detections in pixels of the image, a Classification, or an Embedding, as is the task of the model.
    """

    frame: Frame
    result: Any

    def plot(self, **options: Any) -> np.ndarray:
        """The annotated image (H, W, 3) uint8 RGB, a copy; `options` as of `Result.plot`."""
        annotated: np.ndarray = self.result.plot(self.frame.image, **options)
        return annotated

    def save(self, path: str | Path, **options: Any) -> None:
        """Write the annotated image, or with the suffix .json the records of `to_coco`: see `Result.save`."""
        self.result.save(path, self.frame.image, **options)


class Predictions(Sequence[Prediction]):
    """The predictions for a source, made when they are asked for.

    Iterating runs the model on one image after the other and keeps none of them; a second loop opens the source again
    and runs again. An index runs the model on that image alone, and the prediction last asked for by its index is kept.
    `len` is known for images, folders and arrays. `list(predictions)` keeps all of them, images included.

    Args:
        open_source: opens the source; it is opened now, so that one that cannot be read is an error here.
        predict: frames to pairs of frame and result.
    """

    def __init__(self, open_source: Callable[[], Source], predict: Callable[..., Iterator[tuple[Frame, Any]]]) -> None:
        self._open_source, self._predict = open_source, predict
        self._opened: Source | None = open_source()
        self._count, self._kind = self._opened.count, self._opened.kind
        self._last: tuple[int, Prediction] | None = None

    def __iter__(self) -> Iterator[Prediction]:
        with self._source() as source, closing(self._predict(source)) as pairs:  # type: ignore[type-var]  # a generator
            for frame, result in pairs:
                yield Prediction(frame, result)

    def _source(self) -> Source:
        """The opened source: the same one for images, one that is opened again for what can be read once only."""
        source = self._opened or self._open_source()
        self._opened = source if self._kind in READ_AGAIN else None
        return source

    def __len__(self) -> int:
        """How many images there are.

        Raises:
            TypeError: the source is a video, camera or stream: what its file declares is often wrong.
        """
        if self._count is None or self._kind not in READ_AGAIN:
            raise TypeError(f"the number of frames is unknown before the {self._kind} source is read: use a loop")
        return self._count

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        """The prediction for one image, or a list of those of a slice.

        Raises:
            IndexError: there are fewer images.
            TypeError: the source is a camera or stream; or a video, and the index counts from its end.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._kind in ("camera", "stream"):
            raise TypeError(f"frames of a {self._kind} cannot be chosen by a number: use a loop")
        if index < 0:
            index += len(self)
        if self._last is None or self._last[0] != index:
            if index < 0:
                raise IndexError("the source has fewer images")
            with self._source() as source:
                ((frame, result),) = self._predict([source.frame(index)])
            self._last = index, Prediction(frame, result)
        return self._last[1]
