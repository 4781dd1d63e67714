"""Counts the files and functions of this project on an image's path to its loss and to its boxes.

    python tools/hops.py [--list]

It counts with sys.setprofile on the toy set with an untrained yolo_n, in every thread, after the start: reading and
decoding files counts, setting up (opening the source, building loader and predictor) does not. The path to the loss
ends with what the model returns to the training loop; the loop itself does not count. It also prints the lengths of
files and functions.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("anchors", "detect")
SIZE = 160  # pixels


class Counter:
    """While `on`, records every function that runs in this thread and in those started inside the block."""

    def __init__(self) -> None:
        self.on = False
        self.codes: set[CodeType] = set()

    def __enter__(self) -> Counter:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.on = False
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType | None, event: str, _: Any) -> None:
        while self.on and frame is not None:  # callers too: one may have started before the counting
            self.codes.add(frame.f_code)
            frame = frame.f_back

    def hops(self) -> set[tuple[str, str]]:
        """(file, function) of each recorded function of this project; comprehensions belong to their function."""
        folders = tuple(f"{ROOT / package}/" for package in PACKAGES)
        ours = [code for code in self.codes if code.co_filename.startswith(folders)]
        named = [code for code in ours if not code.co_name.startswith("<") or code.co_name == "<lambda>"]
        return {(str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname) for code in named}


def to_loss(folder: Path) -> set[tuple[str, str]]:
    """List the functions from image file to loss: those of the second batch of a loader without an image cache."""
    import torch

    from detect.config.augment import AugmentConfig
    from detect.data.datasets.detection import CocoDataset
    from detect.data.loader import TrainLoader
    from detect.data.sources.formats import load_data
    from detect.models.base import ModelMetadata
    from detect.models.builder import build
    from detect.models.configs import model_config

    torch.manual_seed(0)
    annotations = load_data(folder, "train").select(range(16))
    model = build(model_config("yolo_n"), ModelMetadata(annotations.names, annotations.category_ids.tolist()))
    loader = TrainLoader(CocoDataset(annotations, SIZE, AugmentConfig(), epochs=100, cache_gb=0.0), SIZE, batch=8)
    with Counter() as counter:
        for batch in loader.epoch(0):
            model.loss(model(batch.images), batch.targets)
            counter.on = True
    return counter.hops()


def to_boxes(folder: Path) -> set[tuple[str, str]]:
    """List the functions from image file to boxes: those of all but the first images of an opened source."""
    import torch

    from detect.inference.predictor import Predictor
    from detect.inference.source import open_source
    from detect.models.base import ModelMetadata
    from detect.models.builder import build
    from detect.models.configs import model_config
    from detect.types import Postprocess

    torch.manual_seed(0)
    model = build(model_config("yolo_n"), ModelMetadata([str(i) for i in range(10)], list(range(1, 11)), size=SIZE))
    model = model.for_inference(torch.device("cpu"), torch.float32)
    source = open_source([min((folder / "val").glob("*.jpg"))] * 16)
    ((_, everything), *_) = Predictor(model, SIZE, Postprocess(score=0.0))(source)
    keep = Postprocess(score=float(everything.scores[9]))  # a few boxes: the scores of an untrained network say nothing
    with Counter() as counter:
        predictions = Predictor(model, SIZE, keep)(source)
        for _ in range(8):  # it reads a few images ahead, but not to the end of the source
            next(predictions)
            counter.on = True
    return counter.hops()


def lengths() -> tuple[dict[str, int], dict[str, int]]:
    """Count the lines of every file and of every function of the packages and tools."""
    files, functions = {}, {}
    for package in (*PACKAGES, "tools"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(ROOT).as_posix()
            files[name] = text.count("\n")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    functions[f"{name}:{node.lineno} {node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    return files, functions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="also list the functions of each path")
    listed = parser.parse_args().list
    from detect.data.toy import toy_folder

    folder = toy_folder()
    for title, seen in (("image file to loss", to_loss(folder)), ("image file to boxes", to_boxes(folder))):
        print(f"{title}: {len({file for file, _ in seen})} files, {len(seen)} functions")
        if listed:
            for file, function in sorted(seen):
                print(f"  {file:<36} {function}")
    for title, table in zip(("files", "functions"), lengths(), strict=True):
        values = table.values()
        print(f"{len(table)} {title}: median {statistics.median(values):.0f} lines, longest {max(values)}")
        for name in sorted(table, key=lambda name: -table[name])[:5]:
            print(f"  {table[name]:>4}  {name}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # these files, not an installed copy
    from detect.errors import quiet_pipe

    with quiet_pipe():
        main()
