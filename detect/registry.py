"""Registries: the names that options may have, and the functions and classes that they stand for.

Built-in entries are a table of names and the modules that register them, so that `--help` and error messages know every
name without importing torch; a module is imported when one of its names is asked for. Anyone else registers with the
same decorator, before the command runs:

    from detect.registry import register

    @register("backbone", "my_net")
    def my_net(in_channels: int, padding: str) -> Parts: ...
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from inspect import signature
from typing import Any, TypeVar

from detect.errors import unknown

T = TypeVar("T")


class Registry(Mapping[str, Any]):
    """The entries of one kind, by name; names are lower case.

    Args:
        kind: what an entry is, as messages say it, such as "backbone".
        built_in: for each built-in name the module that registers it when imported, or "module:attribute".
    """

    def __init__(self, kind: str, built_in: Mapping[str, str] | None = None):
        self.kind = kind
        self._places = dict(built_in or {})
        self._entries: dict[str, Any] = {}
        self._modules = {name: place.partition(":")[0] for name, place in self._places.items()}

    def add(self, name: str, entry: Any, module: str) -> None:
        """Register `entry` as `name`.

        Args:
            name: in lower case.
            entry: a function, a class or an object; what it has to be is up to the kind.
            module: the module that registers it. It may do so again, as a cell of a notebook does that is run again.

        Raises:
            ValueError: the name is not lower case, or another module has registered it.
        """
        if name != name.lower() or not name:
            raise ValueError(f"{self.kind} {name!r}: names are lower case")
        if self._modules.setdefault(name, module) != module:
            raise ValueError(f"{self.kind} {name!r} is registered already, by {self._modules[name]}")
        self._entries[name] = entry

    def origin(self, name: str) -> str:
        """The module outside the package that registered `name`; "" for a built-in name, and for an unknown one."""
        return "" if name.lower() in self._places else self._modules.get(name.lower(), "")

    def __getitem__(self, name: str) -> Any:
        """The entry called `name`, whatever its case.

        Raises:
            UserError: there is no such name; the nearest one is suggested.
        """
        name = name.lower()
        if name not in self:
            raise unknown(self.kind, name, self)
        if name not in self._entries:
            module, _, attribute = self._places[name].partition(":")
            imported = importlib.import_module(module)
            if attribute:
                self._entries[name] = getattr(imported, attribute)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name.lower() in self._entries or name.lower() in self._places)

    def __iter__(self) -> Iterator[str]:
        """Every name: the built-in ones in the order of the table, then the others."""
        return iter(self._places | self._entries)

    def __len__(self) -> int:
        return len(self._places | self._entries)


def register(kind: str, *names: str) -> Callable[[T], T]:
    """A decorator that registers a function or class under one or several names.

    Args:
        kind: a key of `REGISTRIES`, such as "backbone", "loss.box" or "task".
        names: the names, lower case.

    Raises:
        UserError: there is no such kind.
        ValueError: another module has registered the name.
    """
    if kind not in REGISTRIES:
        raise unknown("kind of registry", kind, REGISTRIES)

    module = sys._getframe(1).f_globals["__name__"]  # not the entry's own: it may be an object of a class of ours

    def add(entry: T) -> T:
        for name in names:
            REGISTRIES[kind].add(name, entry, module)
        return entry

    return add


@cache
def parameters(entry: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a registered function, in their order, each with its default (`Parameter.empty`: none)."""
    return {name: parameter.default for name, parameter in signature(entry).parameters.items()}


def _built_in(package: str, **modules: str) -> dict[str, str]:
    """A table of built-in names, by the module of `package` that registers them."""
    return {name: f"{package}.{module}" for module, names in modules.items() for name in names.split()}


_TASKS = ("detect", "segment", "obb", "keypoints", "localize", "landmarks", "classify", "embed", "semantic")
_CRITERIA = ("uncertainty", "margin", "disagreement", "rarity", "diversity")


REGISTRIES: dict[str, Registry] = {
    "backbone": Registry(
        "backbone",
        _built_in(
            "detect.models.backbones",
            lenet="lenet5",
            alexnet="alexnet",
            vgg="vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
            nin="nin",
            inception="googlenet inception_v3",
            resnet="resnet18 resnet34 resnet50 resnet101 resnet152 resnet50_paper resnet101_paper resnet152_paper "
            "resnet18_identity resnet34_identity resnet18_projection resnet34_projection resnet18_plain resnet34_plain",
            squeezenet="squeezenet1_1",
            mobilenet="mobilenet_v1 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large",
            efficientnet="efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 "
            "efficientnet_b5 efficientnet_b6 efficientnet_b7",
            efficientnet_lite="efficientnet_lite0",
            csp="csp_n csp_s csp_m csp_l",
            esnet="esnet_s esnet_m esnet_l",
            unet="unet_encoder",
        ),
    ),
    "neck": Registry("neck", _built_in("detect.models", necks="pan fpn fpn_paper straight csp_pan")),
    "head": Registry("head", _built_in("detect.models.heads", point="point", anchor="anchor grid", pico="pico")),
    "head.landmarks": Registry("head", _built_in("detect.models.heads", single_object="coordinates heatmap")),
    "assigner": Registry(
        "assigner",
        {
            "grid_cell": "anchors.assign:GridCell",
            "max_iou": "anchors.assign:MaxIoU",
            "sim_ota": "anchors.assign:SimOTA",
            "sim_ota_varifocal": "anchors.assign:VarifocalSimOTA",
            "task_aligned": "anchors.assign:TaskAligned",
        },
    ),
    "loss.box": Registry("box loss", _built_in("detect.models.losses", boxes="iou giou diou ciou")),
    "loss.oriented": Registry("oriented box loss", _built_in("detect.models.losses", oriented="prob_iou")),
    "loss.coordinates": Registry("box loss", _built_in("detect.models.losses", boxes="l1 l2 smooth_l1")),
    "loss.class": Registry("class loss", _built_in("detect.models.losses", classes="bce focal varifocal")),
    "loss.keypoint": Registry("keypoint loss", _built_in("detect.models.losses", keypoints="wing smooth_l1")),
    "model": Registry(
        "model kind",
        _built_in(
            "detect.models.configs",
            yolo="yolo yolo_points yolo_seg yolo_obb",
            darknet="darknet",
            yolox="yolox",
            picodet="picodet",
            sliding_window="sliding_window",
            rcnn="faster_rcnn fast_rcnn rcnn mask_rcnn",
            localizer="localizer",
            landmarker="landmarker",
            classifier="classifier",
            layers="layers",
            embedder="embedder",
            unet="unet",
        ),
    ),
    "layer": Registry("layer", _built_in("detect.models", layers="conv separable residual max mean dense dropout")),
    "optimizer": Registry(
        "optimizer",
        _built_in("detect.training", optimizers="sgd momentum nesterov adagrad rmsprop adam adamw muon"),
    ),
    "schedule": Registry(
        "schedule", _built_in("detect.training", schedules="constant piecewise exponential 1/t cosine linear")
    ),
    "format": Registry(
        "dataset format",
        {  # they are tried in this order
            "toy": "detect.data.sources.toy:Toy",
            "named_yaml": "detect.data.sources.named_yaml:NamedYaml",
            "coco": "detect.data.sources.coco:Coco",
            "lvis": "detect.data.sources.lvis:Lvis",
            "objects365": "detect.data.sources.objects365:Objects365",
            "open_images": "detect.data.sources.open_images:OpenImages",
            "wider_face": "detect.data.sources.wider_face:WiderFace",
            "celeba": "detect.data.sources.celeba:CelebA",
            "imagenet": "detect.data.sources.imagenet:ImageNet",
            "yolo": "detect.data.sources.yolo:Yolo",
            "split_yaml": "detect.data.sources.split_yaml:SplitYaml",
            "voc": "detect.data.sources.voc:Voc",
            "voc_masks": "detect.data.sources.voc_masks:VocMasks",
            "dota": "detect.data.sources.dota:Dota",
            "label_images": "detect.data.sources.label_images:LabelImages",
            "cvat": "detect.data.sources.cvat:Cvat",
            "labelme": "detect.data.sources.labelme:Labelme",
            "label_studio": "detect.data.sources.label_studio:LabelStudio",
            "via": "detect.data.sources.via:Via",
            "webdataset": "detect.data.sources.webdataset:WebDataset",
            "parquet": "detect.data.sources.parquet:Parquet",
            "landmark_csv": "detect.data.sources.csv_tables:LandmarkCsv",
            "signals": "detect.data.sources.signals:SignalFiles",
            "image_folder": "detect.data.sources.image_folder:ImageFolder",
            "voc_anywhere": "detect.data.sources.voc:VocAnywhere",
        },
    ),
    "labels": Registry(
        "format of labels",
        {
            "coco": "detect.labelling.coco:CocoLabels",
            "yolo": "detect.labelling.yolo:YoloLabels",
            "voc": "detect.labelling.voc:VocLabels",
            "cvat": "detect.labelling.cvat:CvatLabels",
            "label-studio": "detect.labelling.label_studio:LabelStudioLabels",
            "labelme": "detect.labelling.labelme:LabelmeLabels",
        },
    ),
    "transform": Registry("transform"),
    "callback": Registry("callback", _built_in("detect.callbacks", loggers="tensorboard mlflow wandb")),
    "criterion": Registry("criterion", {name: f"detect.selection.{name}" for name in _CRITERIA}),
    "tracker": Registry("tracker", {name: f"detect.tracking.{name}" for name in ("bytetrack", "botsort", "ocsort")}),
    "importer": Registry(  # they are tried in this order
        "importer",
        {name: f"detect.convert.{name}" for name in ("darknet", "yolox", "picodet", "faster_rcnn", "imagenet")},
    ),
    "export": Registry("export format", _built_in("detect.export", formats="onnx torchscript openvino")),
    "task": Registry("task", {name: f"detect.tasks.{name}:TASK" for name in _TASKS}),
}
