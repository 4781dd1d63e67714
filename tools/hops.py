"""How many of our files and functions an image passes from its file to its loss, and from its file to its boxes.

    python tools/hops.py [--list]

Also prints the lengths of files and functions. Counted with sys.setprofile on the embedded set and a fresh yolo_n.
"""

from __future__ import annotations

import ast
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("anchors", "detect")


@contextmanager
def counted() -> Iterator[set[tuple[str, str]]]:
    """Gathers (file, function) of every function of ours that is called meanwhile, in any thread."""
    seen: set[tuple[str, str]] = set()
    folders = tuple(f"{ROOT / package}/" for package in PACKAGES)

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        inner = code.co_name.startswith("<") and code.co_name != "<lambda>"  # comprehensions belong to their function
        if event == "call" and not inner and code.co_filename.startswith(folders):
            seen.add((str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def to_loss(folder: Path) -> Callable[[], Any]:
    """From an image file to its loss: everything made ready, then the path itself as a function."""
    from detect.cli import model_config
    from detect.config import AugmentConfig
    from detect.data.dataset import CocoDataset
    from detect.data.formats import load_data
    from detect.data.loader import TrainLoader
    from detect.models import build
    from detect.models.base import Card

    store = load_data(folder, "train").select(range(8))
    model = build(model_config("yolo_n"), Card(store.names, store.category_ids.tolist()))
    loader = TrainLoader(CocoDataset(store, 160, AugmentConfig(), epochs=100), 160, batch=2)

    def path() -> Any:
        batch = next(iter(loader.epoch(0)))
        return model.loss(model(batch.images), batch.targets)

    return path


def to_boxes(folder: Path) -> Callable[[], Any]:
    """From an image file to its boxes, with a fresh network that lets a few of them through."""
    import torch

    from detect.api import Detector
    from detect.cli import model_config
    from detect.models import build
    from detect.models.base import Card

    torch.manual_seed(0)
    model = build(model_config("yolo_n"), Card([str(i) for i in range(10)], list(range(1, 11)), size=160))
    detector = Detector(model, torch.device("cpu"), torch.float32)
    image = next((folder / "val").glob("*.jpg"))
    return lambda: list(detector.predict(image, conf=0.005))


def hops(path: Callable[[], Any]) -> set[tuple[str, str]]:
    """The (file, function) pairs that `path` passes; it runs twice, so that what is done once is left out."""
    path()
    with counted() as seen:
        path()
    return seen


def lengths() -> tuple[dict[str, int], dict[str, int]]:
    """Lines of every file, and of every function, of the packages and tools."""
    files, functions = {}, {}
    for package in (*PACKAGES, "tools"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            name = str(path.relative_to(ROOT))
            files[name] = text.count("\n")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    functions[f"{name}:{node.lineno} {node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    return files, functions


def main() -> None:
    from detect.data.toy import toy_folder

    folder = toy_folder()
    for title, path in (("image file to loss", to_loss(folder)), ("image file to boxes", to_boxes(folder))):
        seen = hops(path)
        print(f"{title}: {len({file for file, _ in seen})} files, {len(seen)} functions")
        if "--list" in sys.argv[1:]:
            for file, function in sorted(seen):
                print(f"  {file:<36} {function}")
    for title, table in zip(("files", "functions"), lengths(), strict=True):
        values = table.values()
        print(f"{len(table)} {title}: median {statistics.median(values):.0f} lines, longest {max(values)}")
        for name in sorted(table, key=lambda name: -table[name])[:5]:
            print(f"  {table[name]:>4}  {name}")


if __name__ == "__main__":
    main()
