"""A bulk job from its beginning, or from where it was killed, to its account."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.bulk.accounting import Account, account, failed_parts, write_coco
from detect.bulk.engines import Computed, Engine
from detect.bulk.listing import Listing
from detect.bulk.manifest import Manifest, cut, part_size
from detect.bulk.part_results import Work
from detect.errors import UserError
from detect.hub import resolve
from detect.inference.identity import identity
from detect.inference.video import MAX_FRAME_PIXELS
from detect.inference.video_range import ranges_of
from detect.utils.atomic_io import replace_file
from detect.utils.names import counted, say
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.commands.bulk import BulkConfig

RANGE = 1024  # frames of a long video that are a part, by default
_FAILING = 10  # parts that fail at the beginning of a job, before any succeeds, until it is given up
# Options that change neither the results nor how they are cut.
BESIDE = frozenset({"weights", "source", "out", "resume", "retry_failed", "workers", "address", "coco"})


@dataclass(frozen=True)
class Output:
    """What the results are called, and what a record has.

    exported: the precision of an exported file, which chooses its device itself; "": the weights are no such file.
    """

    column: str
    fields: tuple[str, ...]
    exported: str = ""


def run_job(config: BulkConfig, output: Output, engine: Engine) -> Account:
    """Compute every part that has no results yet, and account for all of them.

    Args:
        config: the options.
        output: what the results are.
        engine: where parts are computed; it is started if there are parts to compute.

    Raises:
        UserError: the folder has another job, or something cannot be read or written.
    """
    folder = Path(config.out)
    before = Manifest.load(folder)
    if before and not config.resume:
        raise UserError(f"{folder} holds a bulk job: --resume continues it; or choose another --out")
    files = Listing(config.source, config.recursive, folder)
    if before:
        before.require_same(_run(config, files, before.run))
        if config.retry_failed:
            for path in failed_parts(before):
                path.unlink()
    if before is None or any(True for _ in before.missing()):
        with engine:
            manifest = before or _begun(config, output, engine, files)
            _compute(manifest, engine, config)
    else:
        manifest = before
    found = account(manifest)
    if config.coco:
        write_coco(manifest, Path(config.coco))
    return found


def _begun(config: BulkConfig, output: Output, engine: Engine, files: Listing) -> Manifest:
    """The job in the folder, which begins now. Raises UserError where the folder holds anything else."""
    folder = Path(config.out)
    chosen = {"device": config.device, "precision": output.exported}
    if not output.exported:
        chosen = engine.computed_by(config.device, config.precision)
    run = _run(config, files, {f"--{name}": value for name, value in chosen.items()})
    ranges = partial(
        ranges_of,
        size=(config.part_images or RANGE) * config.vid_stride,
        max_pixels=config.max_pixels or MAX_FRAME_PIXELS,
    )
    parts = cut(files, config.part_images or part_size(len(files)), ranges)
    Manifest.begin(folder, run, parts, output.column, output.fields, files.skipped)
    begun = Manifest.load(folder)
    assert begun is not None
    return begun


def _run(config: BulkConfig, files: Listing, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for the job to be continued; device and precision are `chosen` where they are auto."""
    used = {name: chosen[f"--{name}"] for name in ("device", "precision") if getattr(config, name) == "auto"}
    return identity(replace(config, **used), BESIDE, config.weights, files)


def _compute(manifest: Manifest, engine: Engine, config: BulkConfig) -> None:
    """Compute the missing parts, and write the file of each as soon as it is there."""
    missing, unit = dict[int, int](), "input"
    for part in manifest.missing():
        missing[part.number] = part.frames.taken(config.vid_stride) if part.frames else len(part.inputs)
        unit = "image or frame" if part.frames else unit
    if len(missing) < manifest.parts:
        done = manifest.parts - len(missing)
        say(f"{done:,} of {counted(manifest.parts, 'part')} were done before", sys.stderr)
    work = Work(_for_workers(config, manifest.run), manifest.run["weights"], manifest.column, manifest.fields)
    errors, inputs, begun = list[str](), sum(missing.values()), time.monotonic()
    results = _written(manifest, engine.results(manifest.missing, work), missing, errors)
    try:
        with closing(track(results, inputs, "bulk")) as progress:
            for _ in progress:
                pass
    except KeyboardInterrupt:
        done = manifest.parts - len(missing)
        say(f"{done:,} of {counted(manifest.parts, 'part')} are in {manifest.folder}; --resume continues", sys.stderr)
        raise
    seconds, inputs = time.monotonic() - begun, inputs - sum(missing.values())
    done = counted(inputs, unit).replace("image or frames", "images and frames")
    say(f"{done} in {seconds:,.1f} s, {inputs / max(seconds, 1e-9):,.1f} a second", sys.stderr)
    if missing:
        numbers = ", ".join(str(number) for number in sorted(missing)[:5])
        raise UserError(
            f"{counted(len(missing), 'part')} of {manifest.parts:,} could not be computed, such as {numbers}: "
            f"{errors[0] if errors else 'the worker ended each time'}; inputs.jsonl in {manifest.folder} lists their "
            "files, and --resume tries again"
        )


def _written(
    manifest: Manifest, results: Iterator[Computed], missing: dict[int, int], errors: list[str]
) -> Iterator[None]:
    """Write each part, which is then no longer missing. Yields once for each input or frame of it, for the progress.

    Args:
        manifest: the job.
        results: the parts as they are computed; where the first ones all fail, no more are asked for.
        missing: how many inputs, or frames of a long video, each part without a file has, by number.
        errors: takes the errors of parts.
    """
    wanted = len(missing)
    for number, data, error in results:
        if error:
            errors.append(f"part {number}: {error}")
            if len(errors) >= _FAILING and len(missing) == wanted:
                return
            continue
        if (inputs := missing.pop(number, None)) is None:  # computed twice
            continue
        replace_file(manifest.path(number), partial(_fill, data))
        yield from repeat(None, inputs)


def _fill(data: bytes, part: Path) -> None:
    part.write_bytes(data)


def _for_workers(config: BulkConfig, run: Mapping[str, Any]) -> BulkConfig:
    """The options as another process, in another folder, takes them."""
    weights = [str(path.absolute()) if (path := resolve(one)) == Path(one) else one for one in config.weights]
    return replace(config, weights=weights, device=run["--device"], precision=run["--precision"])
