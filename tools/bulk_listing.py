"""How much memory the command of a bulk job takes for millions of inputs: listing, sorting, cutting, accounting.

    python tools/bulk_listing.py --count 10000000 --out runs/listing

The inputs are lines of a list, or with --folder that many hard links in folders of 10,000, which are sorted; all of
them are a few small images. Nothing is predicted: an engine that answers at once gives each part a file without
detections, so that the rest is what the command does by itself. The job begins, and is found finished when it is
started again. The last line is a JSON object: seconds, and the most resident memory in MB, before and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.bulk.engines import Computed
from detect.bulk.job import Output, run_job
from detect.bulk.manifest import Manifest, Part
from detect.bulk.part_results import COLUMNS, Work
from detect.bulk.ray_engine import WINDOW
from detect.commands.bulk import BulkConfig
from detect.errors import UserError, in_one_line
from detect.inference.parquet import write_rows
from detect.utils.atomic_io import replace_file, replace_text

_IMAGES, _IN_FOLDER, _LINKS = 1000, 10_000, 30_000  # images; links in a folder, and to one file


class Immediate(ExitStack):
    """An engine that predicts nothing: each part has no detections."""

    def computed_by(self, device: str, precision: str) -> dict[str, str]:
        """See `detect.bulk.engines.Engine`."""
        return {"device": "cpu", "precision": "float32"}

    def results(self, missing: Callable[[], Iterator[Part]], work: Work) -> Iterator[Computed]:
        """See `detect.bulk.engines.Engine`."""
        for part in missing():
            target, rows = BytesIO(), (_row(number, one.name) for number, one in enumerate(part.inputs, part.first))
            write_rows(target, rows, COLUMNS, work.column, work.fields)
            yield Computed(part.number, target.getvalue())


def _row(number: int, name: str) -> dict[str, Any]:
    return {"input": number, "image": name, "width": 1, "height": 1, "detections": []}


def peak() -> float:
    """The most resident memory of this process so far, in MB; 0 on Windows, which does not say."""
    if sys.platform == "win32":
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def listed(folder: Path, count: int) -> Path:
    """A list of so many lines, of a thousand images in turn."""
    for i in range(_IMAGES):
        Image.new("L", (1, 1)).save(folder / f"{i:04d}-of-a-camera-at-the-gate.png")

    def write(part: Path) -> None:
        with part.open("w") as file:
            file.writelines(f"{i % _IMAGES:04d}-of-a-camera-at-the-gate.png\n" for i in range(count))

    replace_file(folder / "list.txt", write)
    return folder / "list.txt"


def linked(folder: Path, count: int) -> Path:
    """Folders with so many hard links."""
    top, source = folder / "images", folder
    for i in range(count):
        if i % _LINKS == 0:
            source = folder / f"{i}.png"
            Image.new("L", (1, 1)).save(source)
        inner = top / f"{i // _IN_FOLDER}"
        if i % _IN_FOLDER == 0:
            inner.mkdir(parents=True)
        os.link(source, inner / f"image {i}.png")
    return top


@in_one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--folder", action="store_true", help="hard links in folders rather than a list")
    parser.add_argument("--out", type=Path, default=Path("runs/listing"), help="a folder that does not exist yet")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    source = (linked if options.folder else listed)(options.out, options.count)
    weights = options.out / "weights"
    replace_text(weights, "not read")
    config = BulkConfig([str(weights)], str(source), out=str(options.out / "job"), recursive=True)
    (options.out / "job").mkdir()
    engine: Any = Immediate()
    output, before, times = Output("detections", ("category", "score")), peak(), list[float]()
    for resume in (False, True):
        begun = time.monotonic()
        found = run_job(BulkConfig(**vars(config) | {"resume": resume}), output, engine)
        times.append(round(time.monotonic() - begun, 1))
        if found.empty != options.count:
            raise UserError(f"{found.empty:,} inputs are accounted for, not {options.count:,}")
    manifest = Manifest.load(options.out / "job")
    assert manifest
    sizes = [len(zlib.compress(part.to_json().encode(), 1)) for part in manifest.all_parts()]
    about = {"inputs": options.count, "parts": manifest.parts, "seconds": times[0], "again": times[1]}
    about |= {"MB before": round(before), "MB": round(peak()), "MB for Ray": round(sum(sizes[:WINDOW]) / 2**20)}
    print(json.dumps(about))


if __name__ == "__main__":
    main()
