"""The Python API: a model loaded from its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detect import plugins
from detect.callbacks.base import Callback, watched
from detect.cli.applicability import refuse_unused
from detect.commands.predict import PredictConfig
from detect.config.constraints import check, from_values
from detect.convert.open import open_model
from detect.data.letterbox import in_source
from detect.errors import UserError, unknown
from detect.export.forms import form_of
from detect.export.runtime import Exported, is_exported, open_exported
from detect.hub import resolve
from detect.inference.landmark_refiner import LandmarkRefiner
from detect.inference.predictions import Predictions
from detect.inference.predictor import Predictor
from detect.inference.signal_predictor import SignalPredictor
from detect.inference.source import open_source
from detect.inference.streams import Streams, batch_of, in_rounds
from detect.models.base import Model, ModelMetadata
from detect.tasks import get_task
from detect.types import Frame, Postprocess
from detect.utils.device import computed_in, pick_device, pick_dtype
from detect.utils.names import distinct


class Detector:
    """A model ready for prediction: `for frame, detections in detector.predict("clip.mp4"): ...`."""

    def __init__(self, model: Model | Exported, device: torch.device, dtype: torch.dtype):
        self.model: Any = model.for_inference(device, dtype)
        self.device, self.dtype = device, dtype

    @staticmethod
    def load(weights: str | Path, device: str = "auto", precision: str = "auto") -> Detector:
        """Load a model from weights or from an exported file; plugins of installed packages are loaded first.

        Args:
            weights: a weights file, an exported file, a published file that `detect import` knows, or a name that
                `detect weights` lists; its file is downloaded on first use.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: auto, float32, bfloat16 or float16.

        Raises:
            UserError: the file, device or precision cannot be used, or the download fails.
        """
        plugins.load_installed()
        given = str(weights) if isinstance(weights, Path) else weights
        config = from_values(
            PredictConfig, {"weights": [given], "source": [], "device": str(device), "precision": precision}, ""
        )
        device, precision = config.device, config.precision
        weights = str(resolve(config.weights[0]))
        if is_exported(weights):  # it chooses device and precision itself
            return Detector(open_exported(weights, device, precision), torch.device("cpu"), torch.float32)
        where = pick_device(device)
        return Detector(open_model(weights), where, pick_dtype(precision, where))

    @property
    def metadata(self) -> ModelMetadata:
        """Class names, image size, preprocessing, keypoints: what is stored with the weights."""
        metadata: ModelMetadata = self.model.metadata
        return metadata

    @property
    def dims(self) -> int:
        """The dimensions of the input: 2, or 1 for signals and 3 for volumes."""
        return getattr(self.model, "dims", 2)  # exported files take images

    @property
    def channels(self) -> int:
        """The channels of the input; 3 for images."""
        return self.model.config.in_channels if self.dims != 2 else 3

    @cached_property
    def names(self) -> list[str]:
        """Class names by label; equal names, which weights from elsewhere may have, are told apart by their ids."""
        return distinct(self.metadata.names, self.metadata.category_ids)

    def computed(self, imgsz: int = 0) -> str:
        """One line that tells the device, the floating-point type and the canvas of images."""
        side = self.side(imgsz)
        if isinstance(self.model, Exported):
            about = self.model.about
            how = f"computed in {self.model.computed}, {self.model.path.suffix[1:]} file"
            if self.model.square and form_of(about.task).rows:
                return f"{how}, square canvas of {side} px (export with --dynamic for the canvases of the weights)"
        else:
            how = computed_in(self.device, self.dtype)
        if self.dims != 2:
            return how
        what = "shorter side" if self.metadata.preprocess.long_side > 1 else "longer side"
        if self.metadata.preprocess.stretch:
            return f"{how}, stretched to {side} px"
        return f"{how}, {'square canvas' if self.model.square else what} of {side} px"

    def computed_by(self) -> dict[str, Any]:
        """The device and the precision that were chosen, as options; {} for an exported file, which chooses itself."""
        if isinstance(self.model, Exported):
            return {}
        return {"device": self.device.type, "precision": str(self.dtype).removeprefix("torch.")}

    def predictor(self, keep: Postprocess, size: int = 0, batch: int = 1, tta: bool = False, tile: bool = False) -> Any:
        """The function from frames to pairs of frame and result, with these options.

        Args:
            keep: which predictions are kept, by scores of the network: see `ModelMetadata.postprocess`. The
                results have calibrated confidences where the weights have a calibration.
            size: image size in pixels; 0: the training size.
            batch: most images that go through the network together.
            tta: fuse the results of several sizes and mirror images.
            tile: predict images larger than `size` in overlapping tiles.

        Raises:
            UserError: the model does not take these options.
        """
        found = self._predictor(keep, size, batch, tta, tile)
        return self.metadata.calibration.after(found) if self.metadata.calibration else found

    def _predictor(self, keep: Postprocess, size: int, batch: int, tta: bool, tile: bool) -> Any:
        """`predictor`, of scores as the network gives them."""
        if self.dims != 2:
            if size or tta or tile:
                raise UserError("--imgsz, --tta and --tile are for images: leave them out")
            return SignalPredictor(self.model, keep, batch, self.device, self.dtype)
        side, views = self.side(size), get_task(self.model.task).views
        if (tta or tile) and not views:
            raise UserError("--tta and --tile are for detectors and segmenters: leave them out")

        def of(side: int, keep: Postprocess, finish: Any = in_source) -> Predictor:
            return Predictor(self.model, self.side(side), keep, batch, self.device, self.dtype, finish)

        if self.metadata.shape:
            return LandmarkRefiner(of(side, replace(keep, score=0.0)), np.array(self.metadata.shape), keep)
        return views(of, side, keep, tta, tile) if views and (tta or tile) else of(side, keep)

    def side(self, imgsz: int) -> int:
        """`imgsz`, or the training size if that is 0.

        Raises:
            UserError: the model does not take that size.
        """
        if imgsz and imgsz != self.metadata.size:
            self.model.require_side(imgsz)
        return imgsz or self.metadata.size

    def predict(
        self,
        source: Any,
        *,
        conf: float | None = None,
        iou: float = 0.7,
        max_det: int = 300,
        agnostic: bool = False,
        classes: str | int | Sequence[str | int] | None = None,
        imgsz: int = 0,
        batch: int = 1,
        vid_stride: int = 1,
        tta: bool = False,
        tile: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> Predictions:
        """Predict what is in each image of a source: `for frame, detections in detector.predict("clip.mp4"): ...`.

        Args:
            source: path, URL, camera, RGB array (H, W, 3) or tensor (3, H, W), PIL image, or a list: see `open_source`.
            conf: confidence threshold, 0 to 1; None: those stored with the weights, or 0.25.
            iou: IoU threshold of NMS, 0 to 1: of two boxes of a class that overlap more, the better one is kept.
            max_det: most detections of an image.
            agnostic: boxes of different classes suppress one another, too.
            classes: names or indices of the classes to keep; None: all.
            imgsz: image size in pixels; 0: the training size.
            batch: most images that go through the network together.
            vid_stride: every `vid_stride`-th frame of a video is taken.
            tta: fuse the results of several sizes and mirror images.
            tile: predict images larger than `imgsz` in overlapping tiles.
            callbacks: objects that see, and may change, every result.

        Returns:
            A lazy sequence of (frame, result), which runs the model when it is iterated or indexed: see `Predictions`.

        Raises:
            UserError: a value or the source cannot be used; raised at once, before the first image.
        """
        given = PredictConfig(
            weights=["the model"],
            source=[],
            conf=conf,
            iou=iou,
            max_det=max_det,
            agnostic=agnostic,
            imgsz=imgsz,
            batch=batch,
            vid_stride=vid_stride,
            tta=tta,
            tile=tile,
        )
        config = check(given, "")
        refuse_unused("predict", config, self.model.task)
        labels = None if classes is None else self.labels(classes)
        if labels == ():
            raise UserError("classes is an empty list: name some, or leave it out to keep all")
        keep = self.metadata.postprocess(config.conf, config.iou, config.max_det, agnostic=agnostic, classes=labels)
        predictor = self.predictor(keep, config.imgsz, config.batch, tta, tile)
        results = watched(partial(self._described, predictor), callbacks, self)
        return Predictions(partial(open_source, source, config.vid_stride), results)

    def streams(
        self,
        sources: Mapping[str, Any] | str | Path,
        *,
        policy: str = "auto",
        retries: int = 0,
        conf: float | None = None,
        imgsz: int = 0,
        batch: int = 1,
        vid_stride: int = 1,
    ) -> Iterator[tuple[str, Frame, Any]]:
        """Predict several videos, cameras and streams at once: `for name, frame, detections in detector.streams(...)`.

        None waits for another one; what breaks off is opened again. Leaving the loop stops reading.

        Args:
            sources: addresses by name, or a YAML file of these, as `detect predict --source` takes it.
            policy: latest, every, or auto: the latest frame of cameras and streams, every frame of files.
            retries: attempts in a row to open a camera or stream again; 0: until it is back.
            conf, imgsz, batch, vid_stride: as of `predict`.

        Returns:
            An iterator of the stream's name, a frame and its result, in the order in which frames come.

        Raises:
            UserError: a value or source cannot be used; raised at once, but that no stream can be read.
        """
        from detect.inference.stream_list import named_streams, read_streams, reader_of

        named = named_streams(sources, "sources") if isinstance(sources, Mapping) else read_streams(sources)
        given = PredictConfig(weights=["the model"], source=[], retries=retries, conf=conf, imgsz=imgsz)
        more: dict[str, Any] = {"policy": policy, "batch": batch, "vid_stride": vid_stride}
        config = check(replace(given, **more), "")
        keep = self.metadata.postprocess(config.conf, config.iou, config.max_det)
        most = batch_of(config.batch, len(named), self.device.type)
        predictor = partial(self._described, in_rounds(self.predictor(keep, config.imgsz, most)))
        readers = [reader_of(name, one, config.policy, retries, vid_stride) for name, one in named.items()]
        return _named_results(Streams(readers, most, device=self.device.type), predictor)

    def _described(self, predictor: Any, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Any]]:
        """The results of `predictor`, with class names, category ids and skeleton."""
        ids, skeleton = self.metadata.category_ids, [(a, b) for a, b in self.metadata.skeleton]
        with closing(predictor(frames)) as pairs:
            for frame, result in pairs:
                yield frame, result.described(self.names, ids, skeleton)

    def labels(self, classes: str | int | Sequence[str | int]) -> tuple[int, ...]:
        """The labels of classes.

        Args:
            classes: names, in any case, or indices. A name that several classes have stands for all of them.

        Raises:
            UserError: there is no such class.
        """
        given = [classes] if isinstance(classes, str | int) else classes
        if not isinstance(given, Iterable):
            raise UserError(f"classes is {classes!r}: give a list of names or indices")
        found = (label for one in given for label in _labels(one, self.names, self.metadata.names))
        return tuple(dict.fromkeys(found))


def _named_results(streams: Streams, predictor: Any) -> Iterator[tuple[str, Frame, Any]]:
    """Each frame of streams with the name of its stream and its result."""
    with streams, closing(predictor(streams)) as pairs:
        for frame, result in pairs:
            yield streams.readers[frame.part].name, frame, result


def _labels(one: Any, names: Sequence[str], shared: Sequence[str]) -> list[int]:
    """The labels of a name or an index; `names` are distinct, `shared` those of the weights."""
    number = isinstance(one, Integral) and not isinstance(one, bool)
    if number or (isinstance(one, str) and one.isdecimal() and one not in shared):
        if not 0 <= int(one) < len(names):
            raise UserError(f"class {one}: the model has {len(names)}, with the indices 0 to {len(names) - 1}")
        return [int(one)]
    for same in (str, str.casefold):
        for known in (names, shared):
            found = [i for i, name in enumerate(known) if same(name) == same(str(one))]
            if len({known[i] for i in found}) == 1 and isinstance(one, str):
                return found
    raise unknown("class", one, names)
