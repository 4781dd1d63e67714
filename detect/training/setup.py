"""From a configuration to a run that can start: data, model, state, loaders."""

from __future__ import annotations

import dataclasses
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from anchors.kmeans import kmeans
from detect.callbacks.base import make_callbacks
from detect.config.train import TrainConfig, with_task
from detect.data.annotations import Annotations, known_sizes
from detect.data.categories import with_classes_of
from detect.data.datasets.crops import Crops
from detect.data.datasets.signals import require_fit
from detect.data.loader import SampleLoader, TrainLoader
from detect.data.proposals import with_proposals
from detect.data.sources.formats import load_data, splits
from detect.data.validate import tell_notes, usable, verify
from detect.errors import UserError
from detect.models.base import Model, ModelMetadata
from detect.models.builder import build
from detect.models.configs.base import ModelConfig
from detect.tasks import get_task
from detect.tasks.base import EvalBatches
from detect.training.bn_statistics import samples, unfold
from detect.training.cached_features import FeatureLoader, Features, Top, about, cached
from detect.training.dist import Attempts, Ranks, ranks
from detect.training.loop import Trainer
from detect.training.run_record import Record, config_text, differences, facts_of, flat, require_same, settings_of
from detect.training.state import Run, read_record, seed_all
from detect.training.sync_batch_norm import over_ranks
from detect.training.transfer import begin, choose_pixels, find_source, frozen_parts, initialize, parts
from detect.utils.atomic_io import replace_text
from detect.utils.device import pick_device, pick_dtype, pick_workers, trained_in
from detect.utils.locks import locked_folder
from detect.utils.names import say, shown
from detect.utils.overwrite import require_own


def train(config: TrainConfig) -> Path:
    """Train as `config` says, on every rank. Returns the file of the best weights."""
    config, out = with_task(config), Path(config.out)
    device = pick_device(config.device)
    with ranks(device.type == "cuda") as here, locked_folder(out) if here.main else nullcontext():
        config = _claim(out, config, here)
        begun = read_record(out / "last.ckpt") if (out / "last.ckpt").exists() else {}
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to give the same bits
        if config.cache_features:
            config = without_augmentation(config, here.world)
        torch.use_deterministic_algorithms(config.deterministic)
        store, held_out = _stores(config, here)
        fitted = for_data(config, store, held_out)
        model = _model(with_weights(fitted, store), store, here)
        model.to(device).to(memory_format=model.layout)
        if here.world > 1:
            model = over_ranks(model, device)
        trainer = _trainer(fitted, model, store, held_out, device, here, begun)
        _put_down(trainer, config, begun)  # last: a mistake found before it leaves --out free
        if here.main:
            say(trained_in(trainer.device, trainer.dtype))
        trainer.train()
        if here.main:
            say(f"best weights: {out / 'best.safetensors'}")
    return out / "best.safetensors"


def _claim(out: Path, config: TrainConfig, here: Ranks) -> TrainConfig:
    """Refuse a folder that holds a run, unless it is to be resumed.

    A run that torchrun starts again, after a process of it has died, is to be resumed: the configuration says so then.
    """
    attempts = Attempts(str(out.resolve()))
    if attempts.again():
        config = dataclasses.replace(config, resume=True)
        if here.main:
            say("torchrun starts this run again: it goes on from its checkpoint", file=sys.stderr)
    held = [name for name in ("last.ckpt", "best.safetensors") if (out / name).exists()]
    if held and not config.resume:
        raise UserError(f"{out} holds a run already: continue it with --resume, or choose another --out")
    if not config.resume:
        require_own(out / "config.yaml", "configuration")
    if here.main and "last.ckpt" not in held and (config.resume or (out / "config.yaml").exists()):
        say(f"{out} holds no checkpoint: the run starts from the beginning", file=sys.stderr)
    here.wait()
    attempts.note()
    return config


def _stores(config: TrainConfig, here: Ranks) -> tuple[Annotations, Annotations]:
    """The training set, and the set that chooses the best weights: val, else test, else the training set itself."""
    task = get_task(config.task)
    whole = task.image_level_labels
    there = splits(config.data, whole, config.allow_outside)
    if "train" not in there:
        raise UserError(f"{config.data} has no split 'train'; it has: {', '.join(there) or 'none'}")
    other = next((s for s in ("val", "test") if s in there), "train")
    if other == "train" and here.main:
        say("no val split: training is measured on its own images, which choose the best weights", file=sys.stderr)
    checked = config.resume and (Path(config.out) / "last.ckpt").exists()  # when this run was started
    stores: list[Annotations] = []
    for split in ("train", other):
        store = load_data(config.data, split, config.skip_bad, whole, config.allow_outside)
        store = verify(store, skip_bad=config.skip_bad, decode=not checked)
        stores.append(usable(store, config.skip_bad, learned=not stores or not task.counts_degenerate_boxes))
    if here.main:
        tell_notes(*stores)
    if config.skip_bad and here.main:
        _report_left_out(Path(config.out), stores)
    stores[1] = with_classes_of(stores[1], stores[0])
    task.check_data(*stores)
    if config.model.needs_proposals:
        stores = _searched(config, stores, here)
    return stores[0], stores[1]


def _searched(config: TrainConfig, stores: list[Annotations], here: Ranks) -> list[Annotations]:
    """The stores with their proposals: one process searches, all read what it found."""
    folder = Path(config.proposals or Path(config.out) / "proposals")
    if not here.main:
        here.wait()
    found = [with_proposals(store, folder) for store in stores]
    if here.main:
        here.wait()
    return found


def for_data(config: TrainConfig, *stores: Annotations) -> TrainConfig:
    """`config` with the channels and the length of the records, where these are signals.

    Raises UserError for data of other dimensions than the network.
    """
    channels = stores[0].channels or config.model.in_channels
    for store in stores:
        require_fit(store, config.model.dims, channels)
    side = stores[0].side or config.imgsz
    return dataclasses.replace(config, imgsz=side, model=dataclasses.replace(config.model, in_channels=channels))


def with_weights(config: TrainConfig, store: Annotations) -> TrainConfig:
    """`config` with class weights of one over the size of a class, their mean over the objects 1, if it asks so."""
    if config.balance != "weights":
        return config
    counts = Crops.of(store).counts
    share = counts.sum() / max(1, (counts > 0).sum())
    weights = [float(share / n) if n else 1.0 for n in counts]
    return dataclasses.replace(config, model=config.model.with_class_weights(weights))


def _report_left_out(out: Path, stores: list[Annotations]) -> None:
    lines = [line for store in stores for line in store.left_out]
    if lines:
        replace_text(out / "left_out.txt", "".join(f"{shown(line)}\n" for line in lines))
        say(f"{len(lines)} bad records were left out; they are listed in {out / 'left_out.txt'}", file=sys.stderr)


def _model(config: TrainConfig, store: Annotations, here: Ranks) -> Model:
    source = find_source(config)
    pixels = (None if source else store.preprocess()) or choose_pixels(config, source)
    metadata = ModelMetadata(
        names=list(store.names),
        category_ids=store.category_ids.tolist(),
        size=config.imgsz,
        keypoint_names=list(store.keypoint_names),
        skeleton=store.skeleton,
        flip_pairs=store.flip_pairs,
        preprocess=pixels,
        folded=source is not None and source.folded,
        **get_task(config.task).metadata(store, pixels),
    )
    seed_all(config.seed)
    model = build(with_anchors(config.model, store, config.imgsz, config.seed), metadata)
    initialize(model, config.init)
    if source:
        begin(model, source, here.main)
    return model


def with_anchors(config: ModelConfig, store: Annotations, size: int, seed: int) -> ModelConfig:
    """`config` with anchors by K-means over the training boxes at `size`, where its head wants some and it has none."""
    missing = config.anchors_missing()
    if not missing:
        return config
    try:
        return config.with_anchors(kmeans(box_sizes(store, size), missing, seed=seed).tolist())
    except ValueError as error:
        raise UserError(f"{store.path}: no anchors can be computed: {error}; give --model.anchors") from error


def box_sizes(store: Annotations, size: int) -> torch.Tensor:
    """Widths and heights (N, 2) of the boxes that are no crowd, in pixels when the image's long side is `size`."""
    counts = torch.from_numpy(store.starts).diff()
    sides = torch.from_numpy(known_sizes(store)).amax(1).repeat_interleave(counts)
    boxes = torch.from_numpy(store.boxes[:, 2:]) * (size / sides.clamp(min=1))[:, None]
    return boxes[~torch.from_numpy(store.crowd)].float()


def _put_down(trainer: Trainer, config: TrainConfig, begun: Record) -> None:
    """Leave on the disk what the run runs with now, and say what a resumed one was begun with otherwise.

    The configuration comes before the checkpoint: killed between them, the next start finds the same differences.
    """
    run, here = trainer.run, trainer.ranks
    found = differences(begun, run.record) if begun else []
    if here.main and (found or not begun):
        replace_text(run.out / "config.yaml", config_text(settings_of(config, run.model), run.record))
    if here.main and begun:
        for one in found:
            say(f"resumed with {one}", file=sys.stderr)
        if found:
            run.note({one.name: [one.before, one.after] for one in found})
            trainer.print_lr_change([one.name for one in found])
        run.write_metrics()
    here.wait()


def _trainer(
    config: TrainConfig,
    model: Model,
    store: Annotations,
    held_out: Annotations,
    device: torch.device,
    here: Ranks,
    begun: Record,
) -> Trainer:
    """The trainer of a run, which goes on from its checkpoint where that was `begun` so."""
    out, pixels, workers = Path(config.out), model.metadata.preprocess, pick_workers(config.workers)
    same = config.precision == "auto" and begun.get("computed on") == device.type
    dtype = pick_dtype(begun["computed in"] if same else config.precision, device)
    dtype = here.gather(dtype)[0]  # each rank may have measured another
    pin = device.type == "cuda"
    share = config.cache_gb / 2 / here.world
    task = get_task(config.task)
    data = task.training_data(store, config, pixels, share)
    if model.metadata.folded:
        unfold(model, samples(data, config.imgsz))
    loader: TrainLoader | FeatureLoader = TrainLoader(
        data, config.imgsz, config.batch, workers, here.rank, here.world, config.multi_scale, pin
    )
    record = flat(settings_of(config, model))
    record |= flat(facts_of(model, (store, held_out), len(loader), here.world, device, dtype))
    callbacks = make_callbacks(config.callbacks)
    if active := [name for name, callback in callbacks.items() if not callback.passive]:
        record["callbacks that take part"] = active
    float16 = device.type == "cuda" and dtype == torch.float16
    run = Run(out, model, config.optim, float16, record, callbacks)
    if begun:
        require_same(begun, record, out, config.resume_anyway)
        run.load()
    validation = task.eval_loader(
        held_out, config.imgsz, config.batch, pixels, workers, here.rank, here.world, share, pin, model.square
    )
    if not config.cache_features:
        return Trainer(config, run, loader, validation, task, held_out, device, dtype, here)
    kept, still = _over_features(config, model, data, validation, (store, held_out), device, dtype)
    return Trainer(config, run, kept, still, task, held_out, device, dtype, here, Top)


def _over_features(
    config: TrainConfig,
    model: Model,
    data: Any,
    validation: EvalBatches,
    stores: tuple[Annotations, Annotations],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[FeatureLoader, Features]:
    """What the frozen trunk makes of the samples of training and validation, for these."""
    if config.unfreeze_every or frozen_parts(config, model, 0) != tuple(parts(model)):
        raise UserError("--cache-features keeps what a frozen trunk makes: add --freeze -1, without --unfreeze-every")
    folder = Path(config.features or Path(config.out) / "features")
    stills = SampleLoader(data, config.batch, pick_workers(config.workers)), validation
    train, val = (
        cached(folder / f"{name}.f32", still, model, about(model, store, config.imgsz, dtype), device, dtype)
        for name, still, store in zip(("train", "val"), stills, stores, strict=True)
    )
    return FeatureLoader(train, data, config.batch), val


def without_augmentation(config: TrainConfig, world: int) -> TrainConfig:
    """`config` for features that are computed once. Raises UserError for what they cannot follow."""
    if config.multi_scale or world > 1:
        given = "--multi-scale" if config.multi_scale else "several processes"
        raise UserError(f"--cache-features keeps features of one size, for one process: it does not go with {given}")
    say("cached features: augmentation is off", file=sys.stderr)
    return dataclasses.replace(config, augment=dataclasses.replace(config.augment, on=False))
