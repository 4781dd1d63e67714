"""The set-up of a run: from its configuration to data, model, state and loaders."""

from __future__ import annotations

import dataclasses
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from anchors.kmeans import kmeans
from detect.callbacks.base import make_callbacks
from detect.config.train import TrainConfig, with_task
from detect.convert.open import open_model
from detect.data.annotations import Annotations, known_sizes
from detect.data.datasets.crops import Crops
from detect.data.datasets.signals import require_fit
from detect.data.datasets.unlabelled import UnlabelledLoader, with_unlabelled
from detect.data.loader import TrainLoader
from detect.errors import UserError
from detect.hub import resolve
from detect.models.base import Model, ModelMetadata
from detect.models.builder import build
from detect.models.configs.base import ModelConfig
from detect.tasks import get_task
from detect.training.bn_statistics import samples, unfold
from detect.training.cached_features import FeatureLoader, Top, over_features, without_augmentation
from detect.training.datasets import load_annotations, load_images_without_labels
from detect.training.dist import Attempts, Ranks, join_ranks
from detect.training.distillation import Distillation, digest
from detect.training.find_lr import RangeTest
from detect.training.image_check import start_check
from detect.training.loop import Trainer
from detect.training.notes import Notes
from detect.training.pseudo_labels import PseudoLabels
from detect.training.run_record import (
    FORM,
    Record,
    config_text,
    differences,
    facts_of,
    fingerprint,
    flat,
    holds_run,
    require_same,
    settings_of,
)
from detect.training.state import Run, read_record, seed_all
from detect.training.sync_batch_norm import over_ranks
from detect.training.teacher import Teacher, require_dense
from detect.training.transfer import begin, choose_pixels, find_source, initialize, kept_preprocess
from detect.utils.atomic_io import replace_text
from detect.utils.device import autocast, pick_device, pick_dtype, pick_workers
from detect.utils.locks import locked_folder
from detect.utils.names import say
from detect.utils.overwrite import require_own
from detect.utils.precision import use_fused


def train(config: TrainConfig) -> Path:
    """Train a model, on every rank.

    Args:
        config: the settings of the run.

    Returns:
        The file of the best weights; with `find_lr` the file of the curve.

    Raises:
        UserError: a setting, the data or a file cannot be used.
    """
    config, out = with_task(config), Path(config.out)
    device = pick_device(config.device)
    with join_ranks(device.type == "cuda") as ranks, locked_folder(out) if ranks.main else nullcontext():
        config = _check_folder(out, config, ranks)
        resumed_from = read_record(out / "last.ckpt") if (out / "last.ckpt").exists() else {}
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
        if config.cache_features:
            config = without_augmentation(config, ranks.world)
        torch.use_deterministic_algorithms(config.deterministic)
        training, validation = load_annotations(config, ranks)
        unlabelled = load_images_without_labels(config, ranks)
        fitted = fitted_to(config, training, validation)
        model = _build_model(with_weights(fitted, training), training, ranks, resumed_from)
        model.to(device).to(memory_format=model.layout)
        if ranks.world > 1:
            model = over_ranks(model, device)
        trainer = _build_trainer(fitted, model, (training, validation, unlabelled), device, ranks, resumed_from)
        if config.find_lr:
            trainer.train()
            return out / "lr.svg"
        _write_settings(trainer, config, resumed_from)  # last: an error before it leaves --out free
        if ranks.main:
            trainer.notes = Notes(trainer, training)
        trainer.check = start_check(config, (training, validation), trainer.run.epoch > 0, ranks)
        trainer.train()
        if ranks.main:
            say(f"best weights: {out / 'best.safetensors'}")
    return out / "best.safetensors"


def _check_folder(out: Path, config: TrainConfig, ranks: Ranks) -> TrainConfig:
    """Check that the folder of a run may be written to.

    Returns:
        The settings; with `resume` where torchrun starts the run again after one of its processes has died.

    Raises:
        UserError: the folder holds a run that is not to be resumed.
    """
    attempts = Attempts(str(out.resolve()), ranks)
    if attempts.again():
        config = dataclasses.replace(config, resume=True)
        if ranks.main:
            say("torchrun starts this run again: it resumes from its checkpoint", file=sys.stderr)
    if config.find_lr and config.resume:
        raise UserError("--find-lr tries learning rates from the beginning: leave --resume out")
    if holds_run(out) and not config.resume:
        raise UserError(f"{out} holds a run already: resume it with --resume, or choose another --out")
    if not config.resume:
        require_own(out / "config.yaml", "configuration")
    if ranks.main and not (out / "last.ckpt").exists() and (config.resume or (out / "config.yaml").exists()):
        say(f"{out} holds no checkpoint: the run starts from the beginning", file=sys.stderr)
    ranks.wait()
    attempts.note()
    return config


def fitted_to(config: TrainConfig, *sets: Annotations) -> TrainConfig:
    """Take channels and length from the data, where it holds signals or volumes.

    Args:
        config: the settings.
        sets: the training set, and others.

    Raises:
        UserError: the data has other dimensions than the network.
    """
    channels = sets[0].channels or config.model.in_channels
    for one in sets:
        require_fit(one, config.model.dims, channels)
    side = sets[0].side or config.imgsz
    return dataclasses.replace(config, imgsz=side, model=dataclasses.replace(config.model, in_channels=channels))


def with_weights(config: TrainConfig, annotations: Annotations) -> TrainConfig:
    """With `--balance weights`, set class weights inversely proportional to class sizes; their mean over objects is 1.

    Args:
        config: the settings.
        annotations: the training set.
    """
    if config.balance != "weights":
        return config
    counts = Crops.of(annotations).counts
    share = counts.sum() / max(1, (counts > 0).sum())
    weights = [float(share / n) if n else 1.0 for n in counts]
    return dataclasses.replace(config, model=config.model.with_class_weights(weights))


def _build_model(config: TrainConfig, annotations: Annotations, ranks: Ranks, resumed_from: Record) -> Model:
    """Build the model for the classes of the training set, with initial or pretrained weights."""
    kept = kept_preprocess(resumed_from, config)
    source = None if kept else find_source(config)
    preprocess = kept or (None if source else annotations.preprocess()) or choose_pixels(config, source)
    metadata = ModelMetadata(
        names=list(annotations.names),
        category_ids=annotations.category_ids.tolist(),
        size=config.imgsz,
        keypoint_names=list(annotations.keypoint_names),
        skeleton=annotations.skeleton,
        flip_pairs=annotations.flip_pairs,
        preprocess=preprocess,
        folded=source is not None and source.folded,
        **get_task(config.task).metadata(annotations, preprocess),
    )
    seed_all(config.seed)
    model = build(with_anchors(config.model, annotations, config.imgsz, config.seed), metadata)
    initialize(model, config.init)
    if source:
        begin(model, source, ranks.main)
    return model


def with_anchors(config: ModelConfig, annotations: Annotations, size: int, seed: int) -> ModelConfig:
    """Compute anchor boxes by K-means over the training boxes, if the model needs some and none are configured.

    Args:
        config: the model.
        annotations: the training set.
        size: image size in pixels.
        seed: of K-means.

    Raises:
        UserError: the boxes are too few.
    """
    missing = config.anchors_missing()
    if not missing:
        return config
    try:
        return config.with_anchors(kmeans(box_sizes(annotations, size), missing, seed=seed).tolist())
    except ValueError as error:
        raise UserError(f"{annotations.path}: no anchors can be computed: {error}; give --model.anchors") from error


def box_sizes(annotations: Annotations, size: int) -> torch.Tensor:
    """Widths and heights (N, 2) of the boxes without crowd regions, in pixels where the longer image side is `size`."""
    counts = torch.from_numpy(annotations.starts).diff()
    sides = torch.from_numpy(known_sizes(annotations)).amax(1).repeat_interleave(counts)
    boxes = torch.from_numpy(annotations.boxes[:, 2:]) * (size / sides.clamp(min=1))[:, None]
    return boxes[~torch.from_numpy(annotations.crowd)].float()


def _write_settings(trainer: Trainer, config: TrainConfig, resumed_from: Record) -> None:
    """Write config.yaml, and print and save which settings of a resumed run have changed.

    The configuration is written before the checkpoint: killed between the two, the next start finds the same changes.

    Args:
        trainer: the run that is about to start.
        config: its settings.
        resumed_from: the record in the checkpoint that it resumes from; empty: there is none.
    """
    run, ranks = trainer.run, trainer.ranks
    changed = differences(resumed_from, run.record) if resumed_from else []
    if ranks.main and (changed or not resumed_from):
        replace_text(run.out / "config.yaml", config_text(settings_of(config, run.model), run.record))
    if ranks.main and resumed_from:
        for one in changed:
            say(f"resumed with {one}", file=sys.stderr)
        if changed:
            run.note({one.name: [one.before, one.after] for one in changed})
            trainer.print_lr_change([one.name for one in changed])
        run.write_metrics()
    ranks.wait()


def _build_trainer(
    config: TrainConfig,
    model: Model,
    sets: tuple[Annotations, Annotations, Annotations | None],
    device: torch.device,
    ranks: Ranks,
    resumed_from: Record,
) -> Trainer:
    """Make loaders, state and callbacks; take the state of the checkpoint with the record `resumed_from`, if any.

    The sets are the images to train with, those to validate with, and, for pseudo-labels, those without labels.
    """
    training, validation, unlabelled = sets
    out, preprocess, workers = Path(config.out), model.metadata.preprocess, pick_workers(config.workers)
    same = config.precision == "auto" and resumed_from.get("computed on") == device.type
    dtype = pick_dtype(resumed_from["computed in"] if same else config.precision, device)
    fused = _fuses_activations(device, dtype, resumed_from)
    dtype, fused = ranks.gather((dtype, fused))[0]  # each rank may have measured another
    pin = device.type == "cuda"
    cache_gb = config.cache_gb / (3 if config.unlabelled else 2) / ranks.world
    task = get_task(config.task)
    data = task.training_data(training, config, preprocess, cache_gb)
    if model.metadata.folded:
        unfold(model, samples(data, config.imgsz))
    kind_of_loader = TrainLoader
    if unlabelled is not None:
        data, kind_of_loader = with_unlabelled(config, data, unlabelled, preprocess, cache_gb), UnlabelledLoader
    loader: TrainLoader | FeatureLoader = kind_of_loader(
        data, config.imgsz, config.batch, workers, ranks.rank, ranks.world, config.multi_scale, pin, config.global_batch
    )
    record = flat(settings_of(config, model))
    record |= flat(
        facts_of(model, (training, validation), len(loader), (ranks.world, config.global_batch), device, dtype, fused)
    )
    kind = RangeTest if config.find_lr else Trainer
    callbacks = make_callbacks([] if config.find_lr else config.callbacks)
    if active := [name for name, callback in callbacks.items() if not callback.passive]:
        record["callbacks that take part"] = active
    float16 = device.type == "cuda" and dtype == torch.float16
    teachers, facts = _teachers(config, model, training, unlabelled, (device, dtype, fused), ranks)
    run = Run(out, model, config.optim, float16, record | facts, callbacks, teachers)
    if resumed_from:
        require_same(resumed_from, run.record, out, config.resume_anyway)
        run.load()
    _require_one_folder(run, ranks)
    sharing = workers, ranks.rank, ranks.world, cache_gb, pin
    batches = task.eval_loader(validation, config.imgsz, config.batch, preprocess, *sharing, model.square)
    if not config.cache_features:
        return kind(config, run, loader, batches, task, validation, device, dtype, ranks)
    features = over_features(config, model, data, batches, (training, validation), device, dtype)
    return kind(config, run, *features, task, validation, device, dtype, ranks, Top)


def _fuses_activations(device: torch.device, dtype: torch.dtype, resumed_from: Record) -> bool:
    """Whether teachers and evaluated models fuse activations: as the run did before, else where that is faster.

    It changes how sums are rounded, and what is measured on a busy machine changes from start to start.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    before = resumed_from.get(FORM) if resumed_from.get("computed on") == "cpu" else None
    return use_fused(dtype) if before is None else bool(before)


def _require_one_folder(run: Run, ranks: Ranks) -> None:
    """Raise UserError unless all ranks have found the same checkpoint, or none."""
    steps = ranks.gather(run.step)
    if len(set(steps)) > 1:
        other = next(rank for rank, step in enumerate(steps) if step != steps[0])
        found = [f"step {step}" if step else "no checkpoint" for step in (steps[0], steps[other])]
        raise UserError(
            f"process 0 finds {found[0]} in {run.checkpoint}, process {other} finds {found[1]}: "
            "put --out on a file system that all machines share"
        )


def _teachers(
    config: TrainConfig,
    model: Model,
    training: Annotations,
    unlabelled: Annotations | None,
    form: tuple[torch.device, torch.dtype, bool],
    ranks: Ranks,
) -> tuple[dict[str, Teacher], Record]:
    """The teachers of a run by name, and what its record says of them; `form` is that of `Model.for_inference`."""
    teachers, facts = dict[str, Teacher](), Record()
    if config.cache_features and (config.teacher or config.unlabelled):
        flag = "--teacher" if config.teacher else "--unlabelled"
        raise UserError(f"--cache-features keeps features without their images: it does not go with {flag}")
    if config.teacher:
        teacher = open_model(resolve(config.teacher))
        facts["weights of the teacher"] = digest(teacher)
        with autocast(*form[:2]):
            made = Distillation(model, teacher.for_inference(*form), config.distill, ranks.main)
        teachers["distillation"] = made.to(form[0])
    if unlabelled is not None:
        require_dense(model, "--unlabelled")
        facts["unlabelled images"] = fingerprint(unlabelled)
        teachers["pseudo_labels"] = PseudoLabels(config.pseudo, training, ranks).to(form[0])
    return teachers, facts
