"""Measures speed: one table of ratios of gridhead to a peer, both measured in turns in one run.

    python tools/bench.py [--peer PYTHON] [--rows NAME ...] [--device cuda] [--json FILE]

PYTHON is the interpreter of an environment with ultralytics; without it, the rows that need it show our number only.
torchvision and pycocotools belong to the development environment; row oriented-nms has a peer where detectron2 is
installed.
Every round runs each side once, in alternating order, so that other load on the machine affects both; a ratio is the
median over the rounds, with the quartiles beside it. `by CPU` is the same ratio of CPU time, which depends less on
other load; it does not include loader processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # these files, not an installed copy


from detect.errors import quiet_pipe  # noqa: E402
from detect.utils.atomic_io import replace_text  # noqa: E402
from tools.bench_data import lay_out, random_dataset, untrained  # noqa: E402
from tools.bench_outlines import masks, oriented, oriented_nms  # noqa: E402
from tools.bench_pairs import NANO, Line, Setting, Side, by_turns, started, table, timed  # noqa: E402


def peers(setting: Setting, name: str, source: Path, job: dict[str, Any], models: Sequence[str]) -> dict[str, Side]:
    if not setting.peer:
        return {}
    data = lay_out(source, setting.folder / f"{name}-data")
    return {
        model: started(setting, setting.peer, "peer", name, {**job, "model": f"{model}.yaml", "data": data})
        for model in models
    }


def train(setting: Setting) -> list[Line]:
    from detect.data.sources.formats import load_data

    source = setting.data / "bccd"
    job = {"size": 320, "batch": 16, "out": str(setting.folder / "train")}
    ours = started(setting, sys.executable, "ours", "train", {**job, "model": "yolo_n", "data": str(source)})
    peer_sides = peers(setting, "train", source, {**job, "workers": setting.threads}, NANO)
    images = len(load_data(str(source), "train"))
    times = by_turns(setting.some(5), ours, peer_sides)
    return [Line("training images, bccd, 320 px, batch 16", ">= 3.5", *times, images, rate=True)]


def samples(setting: Setting) -> list[Line]:
    from detect.data.sources.formats import load_data

    source = setting.data / "bccd"
    job = {"size": 640, "batch": 16, "threads": 1, "out": str(setting.folder / "samples")}
    ours = started(setting, sys.executable, "ours", "samples", {**job, "data": str(source)})
    peer_sides = peers(setting, "samples", source, job, NANO[:1])
    times = by_turns(setting.some(10), ours, peer_sides)
    return [Line("augmented samples a core, bccd, 640 px", ">= 2", *times, len(load_data(str(source), "train")), True)]


def predict(setting: Setting) -> list[Line]:
    """Predict with untrained networks on both sides: the weights do not change the speed while detections are few."""
    from detect.data.sources.formats import load_data

    lines = []
    for name, size, together, target in (
        ("bccd", 640, False, ">= 3"),
        ("coco-mini", 640, False, ">= 3"),
        ("bccd", 320, False, ">= 1.5"),
        ("bccd", 640, True, ">= 3"),
        ("bccd", 320, True, ">= 1.5"),
    ):
        source = setting.data / name
        if not source.is_dir():
            continue
        annotations = load_data(str(source), "val")
        files = [str(annotations.image_path(i)) for i in range(min(len(annotations), setting.some(32)))]
        job = {"files": files, "size": size, "together": together}
        weights, _ = untrained(setting.folder)
        ours = started(setting, sys.executable, "ours", "predict", {**job, "model": str(weights)})
        peer_sides = {}
        if setting.peer:
            peer_sides = {
                n: started(setting, setting.peer, "peer", "predict", {**job, "model": f"{n}.yaml"}) for n in NANO
            }
        times = by_turns(setting.some(10), ours, peer_sides)
        what = "files in one call" if together else "file to boxes"
        lines.append(Line(f"predict, {what}, {name}, {size} px, batch 1", target, *times, len(files)))
    return lines


def exported(setting: Setting) -> list[Line]:
    """Compare each runtime with PyTorch and with the peer's export; untrained networks, as in `predict`."""
    import torch

    from detect.commands.export import ExportConfig
    from detect.data.sources.formats import load_data
    from detect.export.comparison import canvases, sample_images
    from detect.export.metadata import About
    from detect.export.quantize import Quantizer
    from detect.export.writers import to_onnx, write_onnx, write_openvino
    from detect.utils.precision import has_bfloat16

    source, folder, size = setting.data / "bccd", setting.folder, 640
    annotations = load_data(str(source), "val")
    files = [str(annotations.image_path(i)) for i in range(min(len(annotations), setting.some(32)))]
    weights, model = untrained(folder)
    job = {"files": files, "size": size}
    about = About(model.config.name, model.task, model.metadata, ["boxes", "scores"], square=False, dynamic=True)
    plain = to_onnx(model.fused().to(memory_format=torch.contiguous_format), about)
    some = sample_images(ExportConfig("", data=str(source)), "train", model.task, setting.some(128))
    forms = {
        what: Quantizer(plain, list(canvases(some, about)), folder, outputs=outputs)()
        for what, outputs in (("onnx", True), ("openvino", False))
    }
    data = lay_out(source, folder / "exported-data") if setting.peer else ""
    lines: list[Line] = []
    every = {"onnx": plain, "openvino": plain}
    for what, graphs, flags in (("", every, {}), (", int8", forms, {"int8": True, "data": data})):
        file, source_of_xml = folder / f"yolo_n{len(lines)}.onnx", folder / f"openvino{len(lines)}.onnx"
        xml = file.with_suffix(".xml")
        write_onnx(graphs["onnx"], about, file)
        write_onnx(graphs["openvino"], about, source_of_xml)
        write_openvino(source_of_xml, about, xml)
        runtimes = [("ONNX Runtime", "onnx", file, "auto"), ("OpenVINO", "openvino", xml, "auto")]
        if has_bfloat16():  # then OpenVINO's default
            runtimes.append(("OpenVINO in bfloat16", "openvino", xml, "bfloat16"))
        for runtime, form, path, precision in runtimes:
            ours = started(setting, sys.executable, "ours", "predict", {**job, "model": str(path), "as": precision})
            peer_sides = {
                "ours, torch": started(setting, sys.executable, "ours", "predict", {**job, "model": str(weights)})
            }
            for name in NANO if setting.peer else ():
                given = {**job, "model": f"{name}.yaml", "flags": {"format": form, **flags}}
                peer_sides[name] = started(setting, setting.peer, "peer", "exported", given)
            times = by_turns(setting.some(10), ours, peer_sides)
            lines.append(Line(f"predict with {runtime}{what}, bccd, {size} px, batch 1", "", *times, len(files)))
    return lines


def nms(setting: Setting) -> list[Line]:
    import torch
    from torchvision.ops import nms as compare_all

    from anchors.nms import nms as ours
    from tests.reference import box_scenes

    lines = []
    for scene in (box_scenes.sparse, box_scenes.half, box_scenes.crowded):
        for n in (100, 300, 1_000, 8_400, 30_000):
            boxes, scores = scene(setting.some(n), 0)
            kept = ours(boxes, scores, 0.5)
            if not torch.equal(kept, compare_all(boxes, scores, 0.5)):
                raise SystemExit(f"bench: nms of {n} {scene.__name__} boxes differs from torchvision's")
            times = max(1, 20_000 // n)
            sides = [timed(lambda f=f, b=boxes, s=scores: f(b, s, 0.5), times) for f in (ours, compare_all)]  # type: ignore[misc]
            target = ">= 10" if n > 8_000 and len(kept) > len(boxes) / 2 else ">= 1"
            samples = by_turns(setting.some(11), sides[0], {"torchvision": sides[1]})
            lines.append(
                Line(f"NMS, {n:,} boxes, {scene.__name__}, {len(kept) / len(boxes):.0%} stay", target, *samples)
            )
    return lines


def evaluate(setting: Setting) -> list[Line]:
    """Compute the twelve COCO numbers from ground truth and detections in memory; both sides must agree."""
    from contextlib import redirect_stdout
    from io import StringIO

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from detect.data.sources.coco import load_coco
    from detect.evaluation.coco_protocol import summarize

    ground_truth = setting.folder / "ground_truth.json"
    records = random_dataset(setting.some(2_000), 80, ground_truth)
    annotations = load_coco(ground_truth, setting.folder)
    images = records.image_ids.repeat(records.counts)
    rows = np.column_stack([images, records.boxes, records.scores, annotations.category_ids[records.labels]])
    with redirect_stdout(StringIO()):
        coco = COCO(str(ground_truth))

    def ours() -> list[float]:
        return list(summarize(annotations, records).numbers.values())

    def pycocotools() -> list[float]:
        with redirect_stdout(StringIO()):
            evaluator = COCOeval(coco, coco.loadRes(rows), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return evaluator.stats.tolist()

    if ours() != pycocotools():
        raise SystemExit(f"bench: {ours()} differ from the numbers of pycocotools, {pycocotools()}")
    times = by_turns(setting.some(3), timed(ours), {"pycocotools": timed(pycocotools)})
    return [Line(f"COCO evaluation, {len(annotations):,} images of 80 detections", ">= 20", *times)]


def windows(setting: Setting) -> list[Line]:
    """Run every window of an image pyramid: convolutionally, one pass a scale, and as crops, one row a batch."""
    import torch

    from detect.models.base import ModelMetadata
    from detect.models.builder import build
    from detect.models.configs.sliding_window import SlidingWindowConfig
    from detect.models.sliding_window import SlidingWindow

    lines = []
    for backbone, window, size in (("lenet5", 32, 320), ("resnet18", 435, 544))[: 1 if setting.scale < 1 else 2]:
        config = SlidingWindowConfig(backbone=backbone, window=window)
        model = build(config, ModelMetadata(["thing"], [1])).fused().to(setting.device)
        assert isinstance(model, SlidingWindow)
        image = torch.randint(256, (1, 3, size, size), dtype=torch.uint8).to(setting.device)
        with torch.inference_mode():
            one, other = model(image), model.by_crops(image)
            if (one.logits - other.logits).abs().max() > 1e-4:
                raise SystemExit(f"bench: the logits of {backbone} differ between the convolutional pass and crops")
            ours, by_crops = (timed(lambda f=f, x=image: f(x).logits.sum().item()) for f in (model, model.by_crops))  # type: ignore[misc]
            times = by_turns(setting.some(5), ours, {"crops": by_crops})
        lines.append(Line(f"{one.logits.shape[1]:,} windows of {window} px, {backbone}, {size} px", ">= 1", *times))
    return lines


def kmeans(setting: Setting) -> list[Line]:
    import torch

    from anchors.kmeans import kmeans as cluster

    count = setting.some(860_000, least=100)
    generator = torch.Generator().manual_seed(0)
    sizes = (torch.randn(count, 2, generator=generator) + torch.randn(count, 1, generator=generator) + 4).exp()
    times = by_turns(setting.some(5), timed(lambda: cluster(sizes, 9)), {})
    return [Line(f"K-means, {count:,} boxes, k = 9", "<= 3 s", *times)]


def start(setting: Setting) -> list[Line]:
    """Start new interpreters; wall time stands for CPU time, which the parent process cannot see."""
    lines = []
    for what, arguments, target in (
        ("detect --help", ["-m", "detect", "--help"], "<= 0.3 s"),
        ("import detect", ["-c", "import detect"], "<= 0.5 s"),
    ):

        def run(arguments: list[str] = arguments) -> None:
            subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

        lines.append(Line(what, target, by_turns(setting.some(11), timed(run), {})[0]))
    return lines


ROWS = {
    "train": train,
    "predict": predict,
    "exported": exported,
    "masks": masks,
    "oriented": oriented,
    "nms": nms,
    "oriented-nms": oriented_nms,
    "evaluate": evaluate,
    "samples": samples,
    "windows": windows,
    "kmeans": kmeans,
    "start": start,
}


def machine(device: str, threads: int) -> str:
    """Describe the machine in one line."""
    import torch

    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    cpu = f"{len(names)} x {names[0]}" if names else platform.processor()
    gpu = f", {torch.cuda.get_device_name()}" if device != "cpu" else ""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"{cpu}{gpu}; {threads} threads; torch {torch.__version__}{load}"


def main(arguments: Sequence[str] | None = None) -> list[Line]:
    """Measure the rows of --rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--peer", default="", metavar="PYTHON", help="interpreter of an environment with ultralytics")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    default_data = Path(os.environ.get("GRIDHEAD_DATA", ROOT / "../shared/data"))
    parser.add_argument("--data", type=Path, default=default_data, help="folder of datasets; default: $GRIDHEAD_DATA")
    parser.add_argument(
        "--trained", type=Path, metavar="FOLDER", help="trained weights for masks and oriented, by model"
    )
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the numbers of images, boxes and rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to this file")
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads)
    about, lines = machine(options.device, options.threads), []
    for name in options.rows:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            own = options.device, options.threads, options.scale, stack, folder, options.trained
            setting = Setting(options.data.resolve(), options.peer, *own)
            measured = ROWS[name](setting)
        print(table(measured), file=sys.stderr)
        lines += measured
    print(f"{about}\n\n{table(lines)}")
    if options.json:
        replace_text(options.json, json.dumps({"machine": about, "lines": [asdict(line) for line in lines]}, indent=1))
    return lines


if __name__ == "__main__":
    with quiet_pipe():
        main()
