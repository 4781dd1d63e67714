"""Writes the tables of docs/results/backbones.md: the cost of every network, and the AP of the smallest of each family.

    python tools/backbones.py [--latency] [--ap] [--only NAME ...] [--again]

It always counts parameters and multiply-accumulates. --latency times one image on the CPU; --ap trains the smallest
network of each family on the toy set. Every figure is written to docs/results/backbones.json at once, and is not
measured again unless --again is given, so that an interrupted command continues.

It runs on one thread. A core of an AMD EPYC at 2.6 GHz needs about a minute to count, eight for --latency and eighteen
for --ap, of which VGG takes five and csp_n one. Measure latencies on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # these files, not an installed copy

import torch  # noqa: E402

from detect.errors import quiet_pipe  # noqa: E402
from detect.explain.summary import describe  # noqa: E402
from detect.models.backbones import build_network  # noqa: E402
from detect.models.backbones.efficientnet import PUBLISHED, compound  # noqa: E402
from detect.models.base import fold  # noqa: E402
from detect.registry import REGISTRIES  # noqa: E402
from detect.utils.atomic_io import replace_text  # noqa: E402

PAGE, FIGURES = ROOT / "docs/results/backbones.md", ROOT / "docs/results/backbones.json"
SIZES = (224, 640)
BACKBONES = REGISTRIES["backbone"]
SMALLEST = [
    "lenet5",
    "alexnet",
    "vgg11",
    "nin",
    "googlenet",
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v1",
    "efficientnet_b0",
    "csp_n",
    "esnet_s",
]  # of each family
SIDE = 96
BUDGET = {"model": "yolo_n", "imgsz": SIDE, "epochs": 6, "optim.warmup": 1, "seed": 0, "workers": 0}
UNMIRRORED = {"flip": 0.0, "scale": 0.25}  # as in detect demo: a mirrored 2 is no digit


def counts(name: str) -> dict[str, Any]:
    """Count image size and receptive field of the published network, parameters, and MACs at the first of `SIZES`."""
    whole = describe(name)
    maps = [layer["field"] for layer in whole["layers"] if len(layer["output"]) == 3 and layer["output"][1] > 1]
    macs = describe(name, SIZES[0])["macs"]
    return {"size": whole["imgsz"], "field": max(maps), "params": whole["params"], "macs": macs}


def latency(name: str, size: int, least: int = 5, seconds: float = 2.0) -> float:
    """Time one image through the whole network as inference runs it: median milliseconds of at least five runs."""
    net = build_network(name, 1000).eval()
    net.drop_aux()
    fold(net)
    net = net.to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, size, size).to(memory_format=torch.channels_last)
    times: list[float] = []
    with torch.inference_mode():
        net(image)
        while len(times) < least or sum(times) < seconds:
            start = time.perf_counter()
            net(image)
            times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 2)


def precision(name: str) -> float:
    """Train yolo_n on this backbone with `BUDGET` on the toy set; returns its AP on the validation set."""
    from detect.cli.parser import from_values
    from detect.commands.evaluate import evaluate
    from detect.commands.train import train
    from detect.data.toy import build

    with tempfile.TemporaryDirectory() as scratch:
        data = build(Path(scratch) / "digits", size=SIDE)
        flags = {"data": data, "out": Path(scratch) / "run", "model.backbone": name, "device": "cpu"}
        weights = train(from_values("train", {**BUDGET, **flags, "augment": UNMIRRORED}))
        return round(evaluate(from_values("evaluate", {"weights": weights, "data": data}))["AP"], 3)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with numbers aligned right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def networks(figures: dict[str, dict[str, Any]]) -> str:
    """Format the table of all networks; a dash where nothing was measured."""
    header = ["network", "made for", "field", "parameters (M)", f"MACs at {SIZES[0]} (G)"]
    header += [*(f"ms at {size}" for size in SIZES), "AP"]
    rows = []
    for name in filter(figures.get, BACKBONES):
        one = figures[name]
        cells = [f"`{name}`", str(one["size"]), str(one["field"])]
        cells += [f"{one['params'] / 1e6:.2f}", f"{one['macs'] / 1e9:.3f}"]
        cells += [f"{one[key]:.1f}" if key in one else "-" for key in (f"ms{size}" for size in SIZES)]
        rows.append([*cells, f"{one['ap']:.3f}" if "ap" in one else "-"])
    return table(header, rows)


def scaling() -> str:
    """Format the table of compound scaling beside the published values."""
    rows = []
    for phi, (name, published) in enumerate(PUBLISHED.items()):
        formula = compound(phi)
        cells = [f"{formula.width:.2f}", f"{formula.depth:.2f}", f"{formula.size:.0f}"]
        rows.append([f"`{name}`", *cells, *(f"{value:g}" for value in published)])
    words = ("width", "depth", "side")
    return table(["network", *(f"{word} by formula" for word in words), *(f"{word} published" for word in words)], rows)


def written(page: str, figures: dict[str, dict[str, Any]]) -> str:
    """Replace the table between each pair of markers of `page`."""
    for name, text in (("networks", networks(figures)), ("scaling", scaling())):
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        page = f"{before}<!-- {name} -->\n{text}\n{end}{after}"
    return page


def measurements(name: str, timed: bool, trained: bool) -> dict[str, Callable[[], float]]:
    """Choose the functions that measure the requested figures of a network."""
    measures: dict[str, Callable[[], float]] = {}
    if timed:
        measures |= {f"ms{size}": partial(latency, name, size) for size in SIZES}
    if trained and name in SMALLEST:
        measures["ap"] = partial(precision, name)
    return measures


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", action="store_true", help="time every network")
    parser.add_argument("--ap", action="store_true", help="train the smallest of each family")
    parser.add_argument("--again", action="store_true", help="measure figures again that exist")
    names = list(BACKBONES)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="default: all networks")
    options = parser.parse_args(arguments)
    if options.latency or options.ap:
        torch.set_num_threads(1)  # free cores, and bits, vary otherwise

    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for name in options.only:
        one = figures.setdefault(name, {})
        one |= counts(name)
        for key, measure in measurements(name, options.latency, options.ap).items():
            if options.again or key not in one:
                one[key] = measure()
        replace_text(FIGURES, json.dumps(figures, indent=1) + "\n")
        print(name, one, flush=True)
    replace_text(PAGE, written(PAGE.read_text(encoding="utf-8"), figures))


if __name__ == "__main__":
    with quiet_pipe():
        main()
