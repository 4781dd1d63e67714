"""Features of a frozen backbone, computed once and kept on disk, so that only the head runs in training.

There are two files. NAME.f32 holds the numbers of all samples, one after the other. NAME.json, written last, holds for
each sample where its numbers begin, their shapes, its target and its letterbox, and what the features depend on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from detect.config.train import TrainConfig
from detect.data.annotations import Annotations
from detect.data.letterbox import Letterbox
from detect.data.loader import SampleLoader
from detect.data.rng import batches
from detect.errors import UserError
from detect.models.base import Model
from detect.models.legacy import current_features
from detect.tasks.base import EvalBatches
from detect.training.transfer import frozen_parts, parts
from detect.types import Batch, LossTerm, Postprocess, Target
from detect.utils.atomic_io import replace_file, replace_text
from detect.utils.device import autocast, pick_workers
from detect.utils.names import say
from detect.utils.progress import track


class Maps(list[Tensor]):
    """The feature maps of a batch, in the place of its images."""

    def to(self, device: torch.device, non_blocking: bool = False) -> Maps:
        """All maps on a device."""
        return Maps(x.to(device, non_blocking=non_blocking) for x in self)


class Top(nn.Module):
    """The head of a model behind the model's interface: it takes feature maps where the model takes images."""

    def __init__(self, model: Model):
        super().__init__()
        self.model, self.task = model, model.task

    def forward(self, features: list[Tensor], given: Sequence[Target] | None = None) -> Any:
        return self.model.forward_head(features, given)

    def loss(self, raw: Any, targets: Sequence[Target]) -> dict[str, LossTerm]:
        return self.model.loss(raw, targets)

    def postprocess(self, raw: Any, keep: Postprocess) -> list[Any]:
        return self.model.postprocess(raw, keep)


def about(model: Model, annotations: Annotations, size: int, dtype: torch.dtype) -> dict[str, str]:
    """What features depend on, by name: a cache is used only where all of it is the same.

    Weights and labels enter by content, images by name, length and time of change.
    """
    weights, data = hashlib.sha256(), hashlib.sha256()
    for part in model.backbone_stages():
        for name, tensor in model.get_submodule(part).state_dict().items():
            weights.update(f"{part}.{name}".encode())
            weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    columns = annotations.image_ids, annotations.starts, annotations.boxes, annotations.labels, annotations.crowd
    federation = annotations.federation
    checked = () if federation is None else (federation.checked, federation.checked_starts, federation.partial)
    for array in (*columns, annotations.keypoints, annotations.proposals, annotations.proposal_starts, *checked):
        if array is None:
            continue
        data.update(np.ascontiguousarray(array).tobytes())
    for i in range(len(annotations)):
        found = annotations.image_path(i).stat()
        data.update(f"{annotations.file_name(i)} {found.st_size} {found.st_mtime_ns}".encode())
    options = {"padding": "auto", "output_stride": 0, "mirror": False} | model.config.feature_options()
    return {
        "weights": weights.hexdigest(),
        "data": data.hexdigest(),
        "image size": str(size),
        "preprocessing or precision": json.dumps([asdict(model.metadata.preprocess), str(dtype), options["padding"]]),
        "--model.output-stride or --model.mirror": f"{options['output_stride']} {options['mirror']}",
    }


class Features:
    """The samples of a loader as features, in the order of the loader.

    Args:
        file: the *.f32 file.
    """

    def __init__(self, file: Path):
        index = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        self.starts, self.shapes, self.lengths = index["starts"], index["shapes"], index["batches"]
        self.targets = [_target(values) for values in index["targets"]]
        self.fits = [Letterbox(**{k: _tuple(v) for k, v in values.items()}) for values in index["fits"]]
        self.flat = np.memmap(file, np.float32, "r", shape=(self.starts[-1],))

    def batch(self, rows: Sequence[int]) -> Batch:
        """A batch of these samples, whose features have the same shapes."""
        shapes = self.shapes[rows[0]]
        flat = torch.from_numpy(np.stack([self.flat[self.starts[i] : self.starts[i + 1]] for i in rows]))
        maps = flat.split([math.prod(shape) for shape in shapes], 1)
        images = Maps(x.reshape(len(rows), *shape) for x, shape in zip(maps, shapes, strict=True))
        targets, fits = [self.targets[i] for i in rows], [self.fits[i] for i in rows] if self.fits else []
        return Batch(images, targets, fits)  # type: ignore[arg-type]  # maps in the place of images

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Batch]:
        for start, end in pairwise(np.cumsum([0, *self.lengths]).tolist()):
            yield self.batch(range(start, end))


class FeatureLoader:
    """The batches of a `TrainLoader` without augmentation, as features.

    Args:
        features: the samples of the dataset, in its order.
        dataset: the training set, which orders the samples of each epoch.
        batch: samples in a batch.
    """

    def __init__(self, features: Features, dataset: Any, batch: int):
        self.features, self.dataset, self.parts = features, dataset, batches(len(dataset), batch)

    def __len__(self) -> int:
        return len(self.parts)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on."""
        for part in self.parts[start:]:
            yield self.features.batch([self.dataset.index(epoch, int(position)) for position in part])


def cached(file: Path, loader: Any, model: Model, whose: dict[str, str], device: torch.device, dtype: torch.dtype):
    """The features of a loader's batches, read from a file, or computed and written to it.

    Args:
        file: the *.f32 file.
        loader: the batches.
        model: what computes the features.
        whose: what they depend on, as `about` gives it.
        device: where the model is.
        dtype: what it computes in.

    Raises:
        UserError: the file holds the features of something else, or cannot be written.
    """
    index = file.with_suffix(".json")
    if not index.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        rows: dict[str, Any] = {"about": whose, "starts": [0], "shapes": [], "targets": [], "fits": [], "batches": []}

        def write(part: Path) -> None:
            with part.open("wb") as out:
                _write(out, rows, track(loader, len(loader), "features"), model, device, dtype)

        replace_file(file, write)
        replace_text(index, json.dumps(rows))
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        current, length = current_features(found["about"]), found["starts"][-1] * 4
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index} cannot be read as an index of features: delete it") from error
    for name, value in whose.items():
        if current.get(name) != value:
            raise UserError(f"{file} holds the features of other {name}: delete it, or name another folder: --features")
    if not file.exists() or file.stat().st_size != length:
        raise UserError(f"{file} does not have the {length} bytes that {index.name} says: delete both")
    return Features(file)


@torch.no_grad()
def _write(
    out: BinaryIO,
    rows: dict[str, Any],
    loader: Iterable[Batch],
    model: Model,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    model.eval()
    for batch in loader:
        with autocast(device, dtype):
            maps = model.features(batch.images.to(device), batch.proposals)
        flat = torch.cat([x.float().flatten(1) for x in maps], 1).cpu().numpy()
        out.write(flat.tobytes())
        for target in batch.targets:
            rows["starts"].append(rows["starts"][-1] + flat.shape[1])
            rows["shapes"].append([list(x.shape[1:]) for x in maps])
            rows["targets"].append(_plain(target))
        rows["fits"] += [asdict(fit) for fit in batch.fits]
        rows["batches"].append(len(batch))


def _plain(target: Target) -> dict[str, Any]:
    values = {name: getattr(target, name) for name in ("boxes", "labels", "crowd", "proposals")}
    if target.complete is not None:
        values |= {"complete": target.complete, "complete_in": target.complete_in}
    values["points"] = target.keypoints  # the key of every file so far
    lists = {name: None if v is None else v.tolist() for name, v in values.items()}
    return lists | {"image_id": target.image_id, "size": list(target.size)}


def _target(values: dict[str, Any]) -> Target:
    count, points, proposals = len(values["labels"]), values["points"], values.get("proposals")
    return Target(
        torch.tensor(values["boxes"], dtype=torch.float32).view(count, 4),
        torch.tensor(values["labels"], dtype=torch.int64),
        torch.tensor(values["crowd"], dtype=torch.bool),
        values["image_id"],
        _tuple(values["size"]),
        None if points is None else torch.tensor(points, dtype=torch.float32).view(count, -1, 3),
        None if proposals is None else torch.tensor(proposals, dtype=torch.float32).view(-1, 4),
        complete=torch.tensor(values["complete"]) if "complete" in values else None,
        complete_in=torch.tensor(values["complete_in"], dtype=torch.float32) if "complete" in values else None,
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def over_features(
    config: TrainConfig,
    model: Model,
    data: Any,
    batches: EvalBatches,
    sets: tuple[Annotations, Annotations],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[FeatureLoader, Features]:
    """The training and the validation samples as features of the frozen backbone, read or computed now."""
    if config.unfreeze_every or frozen_parts(config, model, 0) != tuple(parts(model)):
        raise UserError("--cache-features needs a frozen backbone: add --freeze -1, without --unfreeze-every")
    folder = Path(config.features or Path(config.out) / "features")
    loaders = SampleLoader(data, config.batch, pick_workers(config.workers)), batches
    train, val = (
        cached(folder / f"{name}.f32", one, model, about(model, annotations, config.imgsz, dtype), device, dtype)
        for name, one, annotations in zip(("train", "val"), loaders, sets, strict=True)
    )
    return FeatureLoader(train, data, config.global_batch or config.batch), val


def without_augmentation(config: TrainConfig, world: int) -> TrainConfig:
    """Turn augmentation off, for features that are computed once.

    Args:
        config: the settings.
        world: processes of the run.

    Raises:
        UserError: the features would have to change from step to step, or belong to several processes.
    """
    if config.multi_scale or world > 1:
        given = "--multi-scale" if config.multi_scale else "several processes"
        raise UserError(f"--cache-features keeps features of one size, for one process: it does not go with {given}")
    say("cached features: augmentation is off", file=sys.stderr)
    return dataclasses.replace(config, augment=dataclasses.replace(config.augment, on=False))
