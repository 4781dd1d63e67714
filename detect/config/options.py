"""What the commands other than train can be told: frozen dataclasses, as `config` has them for training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from detect.config.constraints import Choice, Count, Natural, Precision, Range, Share, Side, SideOrDefault


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a detector by the COCO protocol, a classifier, or an embedder. `imgsz` 0 is the size it was trained at.

    `tta` has a detector look at each picture in several sizes, and mirrored; `tile` at pictures larger than `imgsz` in
    tiles of that size too.

    Of classifiers several may be given: their probabilities are averaged, as they are over `crops` views of a picture:
    whole, mirrored, four corners, and their mirrors. `pairs` is a csv with columns a, b (files as in the data) and same
    (1 or 0): an embedder is then measured on these, else on all pairs of the split.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    weights: str
    data: str
    split: str = "val"
    imgsz: SideOrDefault = 0
    batch: Count = 16
    conf: Share = 0.001
    iou: Share = 0.7
    max_det: Count = 300
    crops: Annotated[int, Range(1, 10)] = 1
    tta: bool = False
    tile: bool = False
    json: str = ""
    detections: str = ""
    pairs: str = ""
    device: str = "auto"
    precision: Precision = "auto"
    workers: Annotated[int, Range(-1)] = -1
    skip_bad: bool = False
    allow_outside: bool = False


@dataclass(frozen=True)
class TrackConfig:
    """Following objects through frames (ByteTrack): see `PredictConfig.track`.

    Detections that score from `low` up to --conf carry on tracks but begin none; those at `margin` above --conf begin
    tracks. A track that is out of sight is looked for for `memory` frames. `appearance` are the weights of an embedder:
    what a detection looks like then has a say where several are near.
    """

    low: Share = 0.1
    margin: Share = 0.1
    memory: Natural = 30
    appearance: str = ""


@dataclass(frozen=True)
class PredictConfig:
    """Find objects, or say the class, of an image, folder, glob, video, camera (its number) or stream (its URL).

    `classes` keeps only those names or numbers; `json` also prints the detections on standard output. `tta` and `tile`
    are those of evaluate. `track` follows objects through the frames of a video, or the pictures of a folder: only what
    belongs to a track is told, with its number. `lines` [[x, y, x, y], …] and `zones` [[x, y, x, y, x, y, …], …], in
    pixels, count the tracks that go through them.

    `recursive` looks into the folders of a folder too. `skip_bad` leaves out what cannot be read, and lists it at the
    end, instead of ending there. `max_pixels`: width times height of the largest image or video frame that is read,
    since a small file can fill all memory; default (0): 500 million for an image, 35,651,584 (8192 x 4352) for a frame
    of a video or stream. What an earlier predict wrote into `out` is removed first.
    """

    weights: str
    source: str
    out: str = "runs/predict"
    recursive: bool = False
    skip_bad: bool = False
    max_pixels: Natural = 0
    imgsz: SideOrDefault = 0
    batch: Count = 1
    conf: Share = 0.25
    iou: Share = 0.7
    max_det: Count = 300
    agnostic: bool = False
    soft: bool = False
    classes: list[str] = field(default_factory=list)
    tta: bool = False
    tile: bool = False
    track: bool = False
    tracker: TrackConfig = field(default_factory=TrackConfig)
    lines: list[list[float]] = field(default_factory=list)
    zones: list[list[float]] = field(default_factory=list)
    vid_stride: Count = 1
    save_txt: bool = False
    save_crop: bool = False
    show: bool = False
    json: bool = False
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class EmbedConfig:
    """Write the gallery of known people: the vector of every picture under `source`, a folder.

    A picture in a folder there shows whom the folder is called after, any other whom its own name says. With `detector`
    the best box that those weights find is cut out of each picture first; what a landmarker finds is aligned too. Of
    several, each looks at what the one before it has cut out.
    """

    weights: str
    source: str
    out: str = "gallery.safetensors"
    detector: list[str] = field(default_factory=list)
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class VerifyConfig:
    """Say whether two pictures show one person: detect verify A B --weights W.

    They do where their vectors are no farther apart than `threshold` (0: that of the weights, the best for the pairs
    that were held out of training). `detector` is that of embed; `json` prints an object.
    """

    a: str
    b: str
    weights: str
    threshold: float = 0.0
    detector: list[str] = field(default_factory=list)
    json: bool = False
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class IdentifyConfig:
    """Say who of a gallery is in each picture of `source`: an image, folder, glob, video, camera or stream.

    It is the person of the nearest picture of the gallery, or nobody known where that is farther than `threshold` (0:
    that of the weights, which takes 1 % of the held-out pairs of two people for one). `weights` none are those that the
    gallery names; others than made it are refused. `detector` none are those that the gallery was made with, [] is
    nothing cut out; `json` prints a list of objects.
    """

    gallery: str
    source: str
    weights: str = ""
    threshold: float = 0.0
    detector: list[str] | None = None
    json: bool = False
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class CheckConfig:
    """Look through data before training on it: defects, duplicates, odd files, class balance, sizes, anchors.

    `splits` are looked at together (none named: train, val and test, those that there are). `imgsz` is the image size
    that training will have, `k` the number of anchors to try. Findings are printed; `json` and `page` name files for
    all of them. Nothing is written into the data.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    data: str
    splits: list[str] = field(default_factory=list)
    imgsz: Side = 640
    k: Count = 9
    json: str = ""
    page: str = ""
    allow_outside: bool = False


@dataclass(frozen=True)
class ServeConfig:
    """Serve a page to drop images and videos on, at http://HOST:PORT; by default only this machine can reach it.

    `workers`: processes that each hold the model; with 2 or more, images never wait for a video. `max_mb`: megabytes of
    one upload; `max_total_mb`: megabytes of all files that the server holds at a time. `max_megapixels` and
    `max_frame_megapixels`: largest image, and largest frame of a video. `seconds`: longest time to send an upload, and
    longest time to work on it: an image is then rejected, a video ends early; `image_seconds`: the same for images
    alone, where it is less. `waiting`: requests that may wait for a worker; `connections`: connections that one client
    address may hold. More are rejected.

    A `host` other than a loopback address opens the server to other machines: `token` is a secret that they have to
    know (open /?token=TOKEN, or send Authorization: Bearer TOKEN; a --config file keeps it out of the list of
    processes), `allowed_host` the names by which they may reach it besides its address.
    """

    weights: str
    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65535)] = 8000
    allowed_host: list[str] = field(default_factory=list)
    token: str = ""
    imgsz: SideOrDefault = 0
    workers: Annotated[int, Range(1, 64)] = 2
    max_mb: Annotated[float, Range(0.01)] = 64.0
    max_total_mb: Annotated[float, Range(0.01)] = 1024.0
    max_megapixels: Annotated[float, Range(0.01)] = 64.0
    max_frame_megapixels: Annotated[float, Range(0.01)] = 10.0
    seconds: Annotated[float, Range(0.1)] = 60.0
    image_seconds: Annotated[float, Range(0.1)] = 10.0
    waiting: Count = 128
    connections: Count = 48
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class ReportConfig:
    """Write report.html into the folder `run` of a run, as training does at its end."""

    run: str
    device: str = "auto"


@dataclass(frozen=True)
class AnchorsConfig:
    """Compute anchor boxes from the labels by K-means over 1 - IoU.

    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    data: str
    k: Count = 9
    imgsz: Side = 640
    split: str = "train"
    seed: Natural = 0
    json: str = ""
    skip_bad: bool = False
    allow_outside: bool = False


@dataclass(frozen=True)
class InfoConfig:
    """List the layers of a backbone or model: shapes, parameters, multiply-accumulates, receptive fields, strides.

    A backbone is shown whole, with the padding it was published with. `imgsz` 0 is the size it was made for, 640 for
    detectors; `classes` 0 the published number, 80 for detectors. `dims` 1 or 3 is for a backbone that looks at signals
    or volumes.
    """

    name: str
    imgsz: SideOrDefault = 0
    classes: Natural = 0
    in_channels: Count = 3
    dims: Annotated[int, Range(1, 3)] = 2
    json: str = ""


@dataclass(frozen=True)
class ImportConfig:
    """Make a weights file of a published one: Darknet's, with its cfg, or YOLOX's (.onnx or .pth).

    `names` is a file with the name of a class a line; without it the 80 of COCO are supposed. `imgsz` 0 is the size
    that the network was made for.
    """

    weights: str
    out: str
    cfg: str = ""
    names: str = ""
    imgsz: SideOrDefault = 0


@dataclass(frozen=True)
class ExportConfig:
    """Write weights as a file that other programs run, checked against torch on real pictures before it is there.

    `out` none is the weights' name with another suffix. `nms` puts suppression into the file, with `conf`, `iou` and
    `max_det`, which are otherwise written beside the classes for whoever reads it. `dynamic` leaves the batch, and for
    grid detectors the size, open; else it is one square picture of `imgsz` pixels (0: as trained). `half` and `int8`
    compute in fewer bits, the latter with ranges measured on training pictures of `data`; its `split` judges the file.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    weights: str
    format: Annotated[str, Choice("onnx", "torchscript", "openvino")] = "onnx"
    out: str = ""
    imgsz: SideOrDefault = 0
    dynamic: bool = False
    nms: bool = False
    half: bool = False
    int8: bool = False
    data: str = ""
    allow_outside: bool = False
    split: str = "val"
    conf: Share = 0.25
    iou: Share = 0.7
    max_det: Count = 300


@dataclass(frozen=True)
class StylizeConfig:
    """Give a picture, `content`, the style of another; or a `share` of the pictures of `data`, a copy in `out` of each.

    `backbone_weights` is a file of ImageNet weights of `backbone`, `pretrained` fetches torchvision's; `pixels` is how
    images become numbers (auto: as the weights want). Layers go by the names that detect info prints, or by the number
    of a stage; `style_layers` may carry weights, NAME=0.5 (none named: every stage, alike). `alpha`, `beta` and `tv`
    weigh content, style and smoothness. `imgsz` is the longer side while it is worked on, which a copy keeps not. After
    every `every` steps the picture so far is written to `out` (0: only the last). Of several styles each copy has one,
    drawn with `seed`.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    style: list[str]
    out: str
    content: str = ""
    data: str = ""
    allow_outside: bool = False
    split: str = "train"
    share: Share = 1.0
    backbone: str = "squeezenet1_1"
    backbone_weights: str = ""
    pretrained: bool = False
    pixels: Annotated[str, Choice("auto", "unit", "imagenet", "half", "caffe", "tensorflow")] = "auto"
    content_layer: str = ""
    style_layers: list[str] = field(default_factory=list)
    alpha: Annotated[float, Range(0)] = 1.0
    beta: Annotated[float, Range(0)] = 100.0
    tv: Annotated[float, Range(0)] = 0.1
    start: Annotated[str, Choice("content", "noise")] = "content"
    optimizer: Annotated[str, Choice("lbfgs", "adam")] = "lbfgs"
    steps: Count = 100
    imgsz: Side = 320
    every: Natural = 25
    seed: Natural = 0
    device: str = "auto"


@dataclass(frozen=True)
class SeeConfig:
    """Look inside a model: a page of its filters, of what excites a layer's channels, and of why it said something.

    `layer` goes by the name that detect info prints, or the number of a stage (none: the last map). The nine patches
    that excite each of so many `channels`, evenly chosen, most are looked for in a `split` of `data`, the first
    `pictures` of it. `source` is the picture whose maps are shown (none: the first of the split), with why the
    `answers` of highest scores, from `conf` on, were given.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    weights: str
    data: str
    allow_outside: bool = False
    layer: str = ""
    source: str = ""
    out: str = "runs/see"
    split: str = "val"
    channels: Count = 16
    pictures: Count = 1000
    answers: Natural = 3
    conf: Share = 0.25
    iou: Share = 0.7
    batch: Count = 8
    device: str = "auto"


@dataclass(frozen=True)
class DemoConfig:
    """Do the whole job on the embedded set: data, anchors, training, evaluation, pictures, video."""

    out: str = "runs/demo"
    epochs: Count = 28
    seed: Natural = 0
    device: str = "auto"
