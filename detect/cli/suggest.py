"""What to write in place of a flag that a command does not have: spelling, dotted flags, other tools' words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from detect.commands import COMMANDS, config_of, trains
from detect.config.fields import options_of
from detect.errors import UserError
from detect.models.configs import model_class
from detect.registry import REGISTRIES

SURE, LIKELY = 0.85, 0.75  # how alike two names are: before other commands are asked for the name, and after

# Words of other tools and of older versions -> our options, the first that the command has; with a value where the
# word needs none.
PEERS: dict[str, tuple[str, ...]] = {
    "each": ("images_per_identity",),
    "thaw": ("unfreeze_every",),
    "tower": ("model.head_convs",),
    "step": ("model.output_stride",),
    "piece": ("model.crop_scale",),
    "graph": ("model.darknet_cfg",),
    "code": ("model.loss.regression",),
    "points": ("model.loss.keypoints",),
    "point_kind": ("model.loss.keypoint_kind",),
    "embed": ("model.loss.kind",),
    "answers": ("predictions",),
    "pictures": ("images",),
    **dict.fromkeys(["lr0", "learning_rate", "base_lr"], ("optim.lr",)),
    **dict.fromkeys(["lrf", "lr_final", "min_lr"], ("optim.final",)),
    **dict.fromkeys(["warmup_epochs", "warmup_iters"], ("optim.warmup",)),
    **dict.fromkeys(["scheduler", "lr_scheduler", "lr_schedule"], ("optim.schedule",)),
    **dict.fromkeys(["grad_clip", "clip_grad", "clip_grad_norm", "max_norm"], ("optim.clip",)),
    **dict.fromkeys(["nbs", "accumulate_grad_batches", "grad_accum"], ("optim.accumulate",)),
    "cos_lr": ("optim.schedule cosine",),
    "lr_steps": ("optim.milestones",),
    "lr_gamma": ("optim.gamma",),
    "wd": ("optim.weight_decay",),
    "optimizer": ("optim.name",),
    "opt": ("optim.name",),
    "hsv_h": ("augment.hue",),
    "hsv_s": ("augment.saturation",),
    "hsv_v": ("augment.value",),
    "fliplr": ("augment.flip",),
    "close_mosaic": ("augment.mosaic_off",),
    **dict.fromkeys(["degrees", "rotation"], ("augment.rotate",)),
    **dict.fromkeys(["elastic", "elastic_transform"], ("augment.warp",)),
    **dict.fromkeys(["random_crop", "random_resized_crop"], ("augment.crop",)),
    **dict.fromkeys(["flipud", "blur"], ("augment.albumentations",)),
    "augment": ("tta",),
    "line_thickness": ("line_width",),
    "cls": ("model.loss.classes",),
    "obj": ("model.loss.objectness",),
    "dfl": ("model.loss.regression",),
    "pose": ("model.loss.keypoints",),
    "label_smoothing": ("model.loss.smoothing",),
    "fl_gamma": ("model.loss.class_kind focal",),
    "depth_multiple": ("model.depth",),
    "width_multiple": ("model.width",),
    **dict.fromkeys(
        ["project", "exist_ok", "save_dir", "output", "output_dir", "logdir", "log_dir", "dest"], ("out", "page")
    ),
    "name": ("out",),
    "out": ("page",),
    **dict.fromkeys(["half", "fp16", "amp"], ("precision float16",)),
    "bf16": ("precision bfloat16",),
    **dict.fromkeys(["img", "img_size", "imgs", "image_size", "input_size", "size", "resolution"], ("imgsz",)),
    **dict.fromkeys(["batch_size", "bs"], ("batch",)),
    **dict.fromkeys(["num_epochs", "max_epochs"], ("epochs",)),
    "early_stopping": ("patience",),
    "save_period": ("save_steps",),
    "cfg": ("model",),
    "hyp": ("config",),
    **dict.fromkeys(["conf_thres", "conf_thresh", "conf_threshold", "confidence", "score_thr", "threshold"], ("conf",)),
    **dict.fromkeys(["iou_thres", "iou_thresh", "iou_threshold", "nms_thresh", "nms_threshold"], ("iou",)),
    **dict.fromkeys(["max_dets", "max_detections", "topk"], ("max_det",)),
    "agnostic_nms": ("agnostic",),
    "soft_nms": ("soft",),
    **dict.fromkeys(["model", "checkpoint", "ckpt", "weight", "load_from", "model_path"], ("weights",)),
    **dict.fromkeys(["source", "input", "inputs", "image", "images", "img_path", "path"], ("source",)),
    **dict.fromkeys(["dataset", "data_dir", "data_path", "data_root", "root", "yaml"], ("data",)),
    **dict.fromkeys(["view_img", "save_frames", "show_img", "display"], ("show",)),
    "save_json": ("json",),
    "line": ("lines",),
    "persist": ("track",),
    **dict.fromkeys(["gpu", "gpus", "gpu_ids", "cuda"], ("device",)),
    **dict.fromkeys(["num_workers", "dataloader_workers"], ("workers",)),
    "cache": ("cache_gb",),
    "frame_stride": ("vid_stride",),
    "include": ("format",),
}
# Words that no flag of ours stands for -> why.
NEEDLESS = {
    "task": "the task is that of the weights or the data",
    **dict.fromkeys(["nc", "num_classes"], "the classes are those of the data or the weights"),
    **dict.fromkeys(["nosave", "save"], "annotated images are always written to --out"),
    **dict.fromkeys(["rect"], "images are never padded to squares unless the network needs it"),
    **dict.fromkeys(["verbose", "plots", "val"], "it is always done"),
    **dict.fromkeys(["opset", "simplify"], "the file is as the runtimes need it"),
}


def flags_of(command: str, model: str = "") -> list[str]:
    """The options of a command by dotted name.

    Args:
        command: a key of `COMMANDS`.
        model: the kind of model whose options are among them. Default: those of every kind.
    """
    flags = ["config", "plugin", "offline", *(option.name for option in options_of(config_of(command)))]
    if not trains(command):
        return flags
    kinds = [model] if model else list(REGISTRIES["model"])
    own = (f"model.{option.name}" for kind in kinds for option in options_of(model_class(kind)))
    return list(dict.fromkeys([*(flag for flag in flags if not flag.startswith("model.")), *own]))


def instead(word: str, own: Sequence[str], cutoff: float = SURE) -> list[str]:
    """The options, by dotted name, that `word` may stand for among a command's `own`: best first, often one."""
    plain = _plain(word)
    last = plain.rpartition(".")[2]
    if plain in own:
        return [plain]
    for peer in (*PEERS.get(plain, ()), *PEERS.get(last, ())):
        if peer.split()[0] in own:
            return [peer]
    if ends := [flag for flag in own if flag.rpartition(".")[2] == last]:
        return ends
    by_end = {flag.rpartition(".")[2]: flag for flag in own}
    by_peer = {word: peer for word, peers in PEERS.items() for peer in peers[::-1] if peer.split()[0] in own}
    if near := difflib.get_close_matches(plain, own, 1, cutoff):
        return near
    if near := difflib.get_close_matches(last, by_end, 1, cutoff):
        return [by_end[near[0]]]
    return [by_peer[word] for word in difflib.get_close_matches(last, by_peer, 1, SURE)]


def unknown_flag(word: str, command: str, model: str = "") -> UserError:
    """The error for a flag or word that `command` does not have, or that a model of kind `model` has not.

    A word NAME=VALUE, as other tools have them, is answered with the flag and the value.
    """
    name, equals, value = word.partition("=")
    plain, own, is_flag = _plain(name), flags_of(command, model), word.startswith("-")
    what = f"unknown flag {name!r}" if is_flag else f"{word!r} belongs to no flag"
    if plain in NEEDLESS and plain not in own and plain not in PEERS:
        return UserError(f"{what} of detect {command}: {NEEDLESS[plain]}; leave it out")
    kinds = [kind for kind in REGISTRIES["model"] if model and plain in flags_of(command, kind)]
    if kinds:
        return UserError(f"{what} of a model of kind {model}: those of kind {' or '.join(kinds)} have it")
    found = instead(name, own)
    elsewhere = [other for other in COMMANDS if other != command and plain in flags_of(other)]
    if not found and elsewhere:
        return UserError(f"{what}: it is of detect {' and '.join(elsewhere[:2])}, not of detect {command}")
    found = found or instead(name, own, LIKELY)
    if not found or (not is_flag and not equals and plain not in own and plain not in PEERS):
        return UserError(f"{what}: detect {command} --help lists the flags")
    given = f" {value}" if equals and not is_flag and " " not in found[0] else ""
    flags = [f"'--{flag.replace('_', '-')}{given}'" for flag in found[:3]]
    return UserError(f"{what}: did you mean {' or '.join(flags)}?")


def _plain(word: str) -> str:
    return word.lstrip("-").replace("-", "_").lower()
