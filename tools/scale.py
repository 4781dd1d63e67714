"""Measures what bulk prediction and training cost on one core, and writes the plan of docs/scale.md from it.

    python tools/scale.py [--measure] [--data FOLDER]

Without --measure it computes the tables from docs/results/scale.json, the figures measured last, and writes them into
the page. --measure measures them again first, in about three minutes on one core: processor time of one thread,
the lowest of nine or more. FOLDER has the set coco-mini. What a table assumes is in `MACHINES`, `BULK`, `SETS` and the
constants there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # these files, not an installed copy

from detect.errors import UserError, in_one_line  # noqa: E402
from detect.utils.atomic_io import replace_text  # noqa: E402
from tools.backbones import table  # noqa: E402

PAGE, FIGURES = ROOT / "docs/scale.md", ROOT / "docs/results/scale.json"
SIDE, DETECTIONS = 640, 10  # pixels; detections of an image in the files of results
NETWORKS = ("yolo_n", "yolo_s", "yolo_m")

UTILISATION = {"yolo_n": 0.05, "yolo_s": 0.10, "yolo_m": 0.15}  # share of a GPU's peak: small networks reach less
VCPU = 0.6  # a virtual CPU that is half a core, in cores of the machine that was measured
LINE = 0.7  # share of the network's line that downloads of objects reach
REQUESTS = 0.40  # US dollars for a million GET requests, one for each image that is no part of a shard


class Machine(NamedTuple):
    """A machine to rent.

    Attributes:
        name: the provider's.
        price: US dollars an hour.
        cores: in cores of the machine that was measured.
        gbits: gigabits a second of the network.
        gpus: number and kind.
        peak: 1e12 operations a second of all GPUs, 16 bits, dense; 0: it computes on its cores.
    """

    name: str
    price: float
    cores: float
    gbits: float
    gpus: str
    peak: float


# AWS, on demand, us-east-1, Linux, list prices of 2025 (p5: after the reduction of June 2025). Peaks: NVIDIA's data
# sheets of A10G, L4 and H100 SXM, tensor cores, 16 bits, without sparsity.
MACHINES = (
    Machine("c7a.16xlarge", 3.285, 64, 25, "none, 64 cores of Zen 4", 0),
    Machine("g6.xlarge", 0.805, 4 * VCPU, 2.5, "1 L4", 121),
    Machine("g6.4xlarge", 1.323, 16 * VCPU, 10, "1 L4", 121),
    Machine("g5.4xlarge", 1.624, 16 * VCPU, 10, "1 A10G", 70),
    Machine("p5.48xlarge", 55.04, 192 * VCPU, 100, "8 H100", 8 * 989),
)
# Network and images of a bulk prediction.
BULK = (("yolo_n", "web"), ("yolo_m", "web"), ("yolo_n", "photo"))
# Name, images of the training set, epochs.
SETS = (("COCO", 118_287, 100), ("Objects365", 1_742_289, 30))


def at_prices(rent: Sequence[Machine], given: Sequence[str]) -> list[Machine]:
    """The machines at prices given as NAME=DOLLARS."""
    prices = {}
    for text in given:
        name, _, dollars = text.partition("=")
        try:
            prices[name] = float(dollars)
        except ValueError:
            raise UserError(f"--price {text}: give NAME=DOLLARS, such as p5.48xlarge=98.32") from None
    if unknown := sorted(prices.keys() - {m.name for m in rent}):
        raise UserError(f"--price {unknown[0]}: the machines are {', '.join(m.name for m in rent)}")
    return [m._replace(price=prices.get(m.name, m.price)) for m in rent]


def processor_time(work: Callable[[], object], least: int = 9, seconds: float = 3.0) -> float:
    """Milliseconds of processor time of a call: the lowest of `least` or more, disturbed least by other programs."""
    work()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def jpegs(folder: Path, count: int) -> dict[str, list[bytes]]:
    """The files of each kind of image: those of coco-mini's validation set, and 12 megapixels tiled of them."""
    import cv2
    import numpy as np

    from detect.data.images import decode_image

    paths = sorted((folder / "coco-mini" / "val2017").glob("*.jpg"))
    if not paths:
        raise UserError(f"{folder} has no coco-mini/val2017: --data names the folder with it")
    files = [path.read_bytes() for path in paths[:count]]
    photos = []
    for turn in range(2):
        canvas = np.zeros((3000, 4000, 3), np.uint8)
        images = [decode_image(data, "a file") for data in files]
        for i in range(30):
            row, column = 500 * (i // 5 % 6), 800 * (i % 5)
            canvas[row : row + 500, column : column + 800] = cv2.resize(images[(i + 30 * turn) % count], (800, 500))
        photos.append(cv2.imencode(".jpg", canvas[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return {"web": files, "photo": photos}


def image_costs(files: Sequence[bytes]) -> dict[str, float]:
    """Megapixels, kilobytes, and milliseconds to decode and to letterbox an image, each the mean over the files."""
    from detect.data.images import decode_image
    from detect.data.letterbox import Letterbox
    from detect.types import Preprocess

    images = [decode_image(data, "a file") for data in files]
    fits = [Letterbox.fit(image.shape[:2], SIDE, Preprocess()) for image in images]
    found = {"megapixels": sum(image.size / 3e6 for image in images), "kilobytes": sum(map(len, files)) / 1e3}
    found["decode_ms"] = processor_time(lambda: [decode_image(data, "a file") for data in files])
    found["letterbox_ms"] = processor_time(lambda: [fit.apply(i) for fit, i in zip(fits, images, strict=True)])
    return {name: round(value / len(files), 4) for name, value in found.items()}


def network_costs(name: str) -> dict[str, float]:
    """Multiply-accumulates of an image, and milliseconds for the network and for what follows it on one core."""
    import torch

    from detect.explain.summary import describe
    from detect.models.base import ModelMetadata
    from detect.models.builder import build
    from detect.models.configs import model_config
    from detect.types import Postprocess
    from detect.utils.device import autocast, pick_dtype

    device = torch.device("cpu")
    dtype = pick_dtype("auto", device)
    torch.manual_seed(0)
    model = build(model_config(name), ModelMetadata([str(c) for c in range(80)], list(range(80)), SIDE))
    net = model.for_inference(device, dtype)
    image, keep = torch.randint(0, 255, (1, 3, SIDE, SIDE), dtype=torch.uint8), Postprocess(score=0.25)
    with torch.inference_mode(), autocast(device, dtype):
        raw = net(image)
        forward = processor_time(lambda: net(image))
        after = processor_time(lambda: net.postprocess(raw, keep))
    macs = describe(name, SIDE, 80)["macs"]
    return {"macs": macs, "forward_ms": round(forward, 2), "after_ms": round(after, 3)}


def writing_costs() -> dict[str, float]:
    """Milliseconds and kilobytes to write the detections of an image as lines of JSON."""
    import torch

    from detect.types import Detections

    boxes = torch.rand(DETECTIONS, 4).cumsum(1) * 300
    found = Detections(boxes, torch.rand(DETECTIONS), torch.arange(DETECTIONS))
    lines = lambda: "".join(json.dumps(record) + "\n" for record in found.to_coco(123456))  # noqa: E731
    return {"ms": round(processor_time(lines), 4), "kilobytes": round(len(lines()) / 1e3, 3)}


def sample_costs(folder: Path, count: int) -> float:
    """Milliseconds to make an augmented training sample from files on one core, nothing of it cached."""
    from detect.config.augment import AugmentConfig
    from detect.data.datasets.detection import CocoDataset
    from detect.data.rng import SampleKey
    from detect.data.sources.formats import load_data

    data = CocoDataset(load_data(folder / "coco-mini", "train"), SIDE, AugmentConfig(), epochs=100, cache_gb=0.0)
    return round(processor_time(lambda: [data[SampleKey(0, i, SIDE)] for i in range(count)], 3) / count, 3)


def measure(folder: Path, count: int = 60, networks: Sequence[str] = NETWORKS) -> dict[str, Any]:
    """Measure all figures on one thread of this machine."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    figures: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    if hasattr(os, "getloadavg"):
        figures["load"] = round(os.getloadavg()[0], 1)
    figures["images"] = {kind: image_costs(files) for kind, files in jpegs(folder, count).items()}
    figures["networks"] = {name: network_costs(name) for name in networks}
    return figures | {"writing": writing_costs(), "sample_ms": sample_costs(folder, count)}


def rates(machine: Machine, core_ms: float, kilobytes: float, operations: float, share: float) -> dict[str, float]:
    """Images a second that each part of a machine could do alone; the least is the rate of all.

    Args:
        machine: the machine.
        core_ms: milliseconds of a core for an image.
        kilobytes: what is downloaded of an image.
        operations: those of an image on the GPU.
        share: of the GPU's peak.
    """
    found = {"CPU": 1000 * machine.cores / core_ms, "network": LINE * machine.gbits * 1e6 / 8 / kilobytes}
    if machine.peak:
        found["GPU"] = machine.peak * 1e12 * share / operations
    return found


def bulk_rates(figures: dict[str, Any], machine: Machine, network: str, kind: str) -> dict[str, float]:
    """`rates` of predicting images of a kind."""
    image, net = figures["images"][kind], figures["networks"][network]
    core_ms = image["decode_ms"] + image["letterbox_ms"] + net["after_ms"] + figures["writing"]["ms"]
    core_ms += 0 if machine.peak else net["forward_ms"]
    return rates(machine, core_ms, image["kilobytes"], 2 * net["macs"], UTILISATION[network])


def training_rates(figures: dict[str, Any], machine: Machine, network: str) -> dict[str, float]:
    """`rates` of training: a backward pass is twice the work of a forward pass."""
    work = 3 * 2 * figures["networks"][network]["macs"]
    return rates(machine, figures["sample_ms"], figures["images"]["web"]["kilobytes"], work, UTILISATION[network])


def amount(value: float) -> str:
    """A number with three significant digits; all digits before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def limits(found: dict[str, float]) -> list[str]:
    """Cells: the rate of a machine, what limits it, and how busy its GPU is then."""
    least = min(found, key=lambda name: found[name])
    busy = f"{100 * found[least] / found['GPU']:.0f} %" if "GPU" in found else "-"
    return [amount(found[least]), least, busy]


def bulk(figures: dict[str, Any], rent: Sequence[Machine]) -> str:
    """The table of bulk prediction: a machine's rate, and time and cost of three sizes."""
    rows = []
    for network, kind in BULK:
        for machine in rent:
            found = bulk_rates(figures, machine, network, kind)
            hours = 1e6 / min(found.values()) / 3600
            dollars = hours * machine.price
            cells = [amount(hours), amount(dollars), amount(100 * hours / 24), amount(100 * dollars)]
            cells += [amount(10_000 * hours / 24 / 30), amount(10_000 * dollars)]
            rows.append([f"`{network}`, {kind}: {machine.name}", *limits(found), *cells])
    header = ["network, images: machine", "images/s", "limit", "GPU busy", "1 M: hours", "$", "100 M: days", "$"]
    return table([*header, "10 B: machines for 30 days", "$"], rows)


def training(figures: dict[str, Any], rent: Sequence[Machine]) -> str:
    """The table of training: a machine's rate, and time and cost of two sets."""
    rows = []
    for network in figures["networks"]:
        for machine in filter(lambda one: one.peak, rent):
            found, cells = training_rates(figures, machine, network), []
            for _, images, epochs in SETS:
                hours = images * epochs / min(found.values()) / 3600
                cells += [amount(hours), amount(hours * machine.price)]
            rows.append([f"`{network}`: {machine.name}", *limits(found), *cells])
    header = [cell for name, _, epochs in SETS for cell in (f"{name}, {epochs} epochs: hours", "$")]
    return table(["network: machine", "images/s", "limit", "GPU busy", *header], rows)


def measured(figures: dict[str, Any]) -> str:
    """The table of what was measured."""
    rows = []
    for kind, one in figures["images"].items():
        size = f"{one['megapixels']:.2f} megapixels, {one['kilobytes']:.0f} kB"
        per = one["decode_ms"] / one["megapixels"]
        rows.append([f"decode a JPEG ({kind}: {size})", f"{one['decode_ms']:.2f}", f"{per:.2f} a megapixel"])
        rows.append([f"letterbox it to {SIDE} pixels ({kind})", f"{one['letterbox_ms']:.2f}", ""])
    for name, one in figures["networks"].items():
        rate = f"{2 * one['macs'] / one['forward_ms'] / 1e6:.0f} GFLOP/s"
        rows.append([f"`{name}`, {one['macs'] / 1e9:.2f} G multiply-accumulates", f"{one['forward_ms']:.1f}", rate])
        rows.append([f"`{name}`: boxes and NMS", f"{one['after_ms']:.2f}", ""])
    size = f"{figures['writing']['kilobytes']:.2f} kB"
    rows.append([f"write {DETECTIONS} detections as lines of JSON", f"{figures['writing']['ms']:.3f}", size])
    sample = figures["sample_ms"]
    rows.append(["make an augmented training sample from files", f"{sample:.1f}", f"{1000 / sample:.0f} a second"])
    return table(["on one core", "ms an image", ""], rows)


def machines(rent: Sequence[Machine]) -> str:
    """The table of machines."""
    rows = [
        [f"{m.name}: {m.gpus}", f"{m.price:.2f}", f"{m.cores:g}", f"{m.gbits:g}", f"{m.peak:g}" if m.peak else "-"]
        for m in rent
    ]
    return table(["machine: GPUs", "$ an hour", "cores as measured", "Gbit/s", "peak TFLOP/s"], rows)


def written(page: str, figures: dict[str, Any]) -> str:
    """Replace the table between each pair of markers of `page`."""
    tables = {"measured": measured(figures), "machines": machines(MACHINES), "bulk": bulk(figures, MACHINES)}
    for name, text in (tables | {"training": training(figures, MACHINES)}).items():
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        page = f"{before}<!-- {name} -->\n{text}\n{end}{after}"
    return page


@in_one_line
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure on this machine first")
    given = os.environ.get("GRIDHEAD_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(given), help="folder with coco-mini; default: $GRIDHEAD_DATA")
    said = "what a machine costs you, in US dollars an hour, such as p5.48xlarge=98.32; prints the tables alone"
    parser.add_argument("--price", action="append", default=[], metavar="NAME=DOLLARS", help=said)
    options = parser.parse_args(arguments)
    rent = at_prices(MACHINES, options.price)
    if options.measure:
        replace_text(FIGURES, json.dumps(measure(options.data), indent=1) + "\n")
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    if not options.price:
        replace_text(PAGE, written(PAGE.read_text(encoding="utf-8"), figures))
    for text in (measured(figures), machines(rent), bulk(figures, rent), training(figures, rent)):
        print(text, end="\n\n")


if __name__ == "__main__":
    sys.exit(main())
