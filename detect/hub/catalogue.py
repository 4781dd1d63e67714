"""The published weights that have a name: what they are, how good, from where, and under which licence.

Every figure is the publisher's own. Sizes and hashes are given where they are known, and nothing is guessed. Only
permissive licences are listed. This module imports nothing heavy: `detect weights` and help read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_RAW = "https://raw.githubusercontent.com"
_RELEASE = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
_YOLOX_PAGE = "https://github.com/Megvii-BaseDetection/YOLOX/blob/main/docs/model_zoo.md"
_PADDLE = "https://paddledet.bj.bcebos.com/deploy/third_engine"
_PADDLE_PAGE = "https://github.com/PaddlePaddle/PaddleDetection/tree/release/2.6/configs/picodet/legacy_model"
_PADDLE_COPY = f"{_RAW}/hpc203/picodet-onnxruntime/dfe4d6cd0a18cd4126ee381e81df8a0b1e6ad97b/coco"
_FASTEST = f"{_RAW}/dog-qiuqiu/Yolo-Fastest/96a2900d163196c396e73f3fdab04ca4dd9a2f70/ModelZoo/yolo-fastest-1.1_coco"
_FASTEST_PAGE = "https://github.com/dog-qiuqiu/Yolo-Fastest"


@dataclass(frozen=True)
class Source:
    """A place that has a file.

    Attributes:
        url: its address.
        sha256: SHA-256 of the file there, in hexadecimal, or its first digits where only these are published; "": not
            known.
        bytes: length of the file there; 0: not known.
    """

    url: str
    sha256: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class RemoteFile:
    """A file of published weights: its name in the cache, and the places that have it, tried in turn."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Published:
    """Published weights.

    Attributes:
        name: the name, as `--weights` takes it.
        task: the task, such as "detect".
        model: the model or backbone of gridhead that they are for.
        classes: number of classes.
        parameters: number of parameters, in millions.
        imgsz: image size in pixels.
        score: AP on COCO val2017, or top-1 accuracy on ImageNet's validation set, in percent, by the publisher.
        metric: which of them.
        megabytes: size of the download, in 10^6 bytes; 0: not known.
        licence: SPDX identifier, or the name of the licence.
        publisher: who trained and released them.
        page: the publisher's page that has these figures.
        files: the files; the first one is opened.
    """

    name: str
    task: str
    model: str
    classes: int
    parameters: float
    imgsz: int
    score: float
    metric: str
    megabytes: float
    licence: str
    publisher: str
    page: str
    files: tuple[RemoteFile, ...]

    @property
    def limit(self) -> int:
        """The most bytes that a file may have: checkpoints hold up to three numbers of four bytes a parameter."""
        return int(self.parameters * 12e6) + 2**22


def _picodet() -> Iterator[Published]:
    known = {
        "s_320": ("d7852a1508b36bfc2739770ad52ff28bf81e219dc5c15dd7868d5ebdf007b6c8", 4040569),
        "s_416": ("cdab77bdde16e4f76bec734c4e5791801d1739e4c7ec1995e0e110e04300d0c2", 4040573),
    }
    rows = [("s", 320, 0.99, 27.1), ("s", 416, 0.99, 30.7), ("m", 320, 2.15, 30.9), ("m", 416, 2.15, 34.8)]
    rows += [("l", 320, 3.30, 32.9), ("l", 416, 3.30, 36.6), ("l", 640, 3.30, 40.9)]
    for size, side, parameters, ap in rows:
        file, fact = f"picodet_{size}_{side}_coco.onnx", known.get(f"{size}_{side}", ("", 0))
        places = (_PADDLE, _PADDLE_COPY) if fact[1] else (_PADDLE,)
        files = (RemoteFile(file, tuple(Source(f"{place}/{file}", *fact) for place in places)),)
        yield Published(
            f"picodet_{size}_{side}", "detect", f"picodet_{size}", 80, parameters, side, ap, "AP", fact[1] / 1e6,
            "Apache-2.0", "PaddleDetection", _PADDLE_PAGE, files,
        )  # fmt: skip


def _yolox() -> Iterator[Published]:
    copy = f"{_RAW}/Kazuhito00/YOLOX-ONNX-TFLite-Sample/3d4f1119d0694200671c08069ecb847aa0d8495a/model/yolox_nano.onnx"
    copies = {
        "nano": [Source(copy, "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14", 3660092)],
    }
    known = {
        "nano": ("c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d", 3659407),
        "tiny": ("427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7", 20219662),
        "s": ("c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063", 35858002),
    }
    rows = [("nano", 416, 0.91, 25.8), ("tiny", 416, 5.06, 32.8), ("s", 640, 9.0, 40.5)]
    rows += [("m", 640, 25.3, 46.9), ("l", 640, 54.2, 49.7), ("x", 640, 99.1, 51.1)]
    for size, side, parameters, ap in rows:
        name, fact = f"yolox_{size}", known.get(size, ("", 0))
        sources = (Source(f"{_RELEASE}/{name}.onnx", *fact), *copies.get(size, []))
        yield Published(
            name, "detect", name, 80, parameters, side, ap, "AP", fact[1] / 1e6,
            "Apache-2.0", "Megvii", _YOLOX_PAGE, (RemoteFile(f"{name}.onnx", sources),),
        )  # fmt: skip


CATALOGUE = {published.name: published for published in (*_picodet(), *_yolox())}
