"""`detect bulk`: predict millions of images or frames, here or on a Ray cluster, into Parquet files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Natural, Range, ReadWith, ShareOrUnset
from detect.config.inference import ImageInferenceConfig
from detect.errors import UserError
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.bulk.accounting import Account


@dataclass(frozen=True)
class BulkConfig(ImageInferenceConfig):
    """Run a model on millions of images or frames, on this machine or a Ray cluster; the results are Parquet files.

    The inputs are cut into parts once, and the results of each part are one file, which appears as a whole. A job that
    was killed continues with --resume, and ends with the same files. What cannot be read is listed in failures.jsonl.
    """

    published: ClassVar = "picodet_s_416"  # what messages suggest as --weights

    source: str
    """Image, folder, glob, text file of paths or video; or the URL of one in a store. Workers on other machines find
    files at the same path."""
    out: str = "runs/bulk"
    resume: bool = False
    """Continue the job in --out that was killed or interrupted, with the same options: compute the parts that lack."""
    retry_failed: Annotated[bool, ReadWith("resume", "true")] = False
    """Also compute the parts again that have inputs which could not be read, as after a store did not answer."""
    conf: ShareOrUnset = None
    """Confidence threshold; default: that of the weights, else 0.25. Detections with a lower score are dropped."""
    part_images: Natural = 0
    """Images of a part, each a file of results. Default (0): 16 to 1,024, by the number of inputs. A video is a part
    of its own, or several: so many frames (0: 1,024) up to a key frame."""
    coco: str = ""
    """Also write all results as this file in COCO's results format, as detect predict does."""
    workers: Annotated[int, Range(-1)] = -1
    """Ray actors, each with one copy of the weights. Default (-1): one for each GPU, or without GPUs for each core. 0:
    work in this process, without Ray."""
    address: str = ""
    """Address of a Ray cluster that runs, such as auto or HOST:6379. Default: start Ray on this machine."""


def bulk(config: BulkConfig) -> Account:
    """Predict every image and frame of a source, in parts; write a Parquet file for each part to `out`.

    Returns:
        What became of the inputs.

    Raises:
        UserError: the weights, the source, the cluster or an option cannot be used, or no input can be read.
    """
    from pathlib import Path

    from detect.bulk.engines import engine_of
    from detect.bulk.job import Output, run_job
    from detect.cli.applicability import refuse_unused
    from detect.commands.predict import make_postprocess, require_record_fields, say_thresholds
    from detect.ensemble import members_of, open_detector
    from detect.export.runtime import Exported, is_exported
    from detect.hub import resolve
    from detect.tasks import get_task
    from detect.utils.arrow import require_arrow
    from detect.utils.locks import locked_files, locked_folder

    require_arrow()
    if config.address and not config.workers:
        raise UserError("--workers 0 works in this process, and --address names a cluster: leave one of them out")
    engine = engine_of(config.workers, config.address)
    exported = any(is_exported(str(resolve(one))) for one in config.weights)
    how = (config.device, config.precision) if exported else ("cpu", "float32")  # others are only looked into here
    detector = open_detector(config.weights, *how, config.fusion)
    task = get_task(detector.model.task)
    refuse_unused("bulk", config, task.name)
    require_record_fields(task, "detect bulk does not write", "detect predict writes them")
    if detector.dims != 2:
        raise UserError(f"{config.weights[0]} is of signals or volumes: detect predict reads them")
    detector.side(config.imgsz)
    make_postprocess(config, detector, config.conf)
    say_thresholds(config.conf, detector)
    column = Path(task.require_results_file(config.weights[0])).stem
    chosen = next((one.model.chosen for one in members_of(detector) if isinstance(one.model, Exported)), "")
    output = Output(column, tuple(task.record_fields), chosen)
    with locked_folder(Path(config.out)), locked_files(config.coco):
        found = run_job(config, output, engine)
    say(f"{found.text()}; see {config.out}")
    if found.first_failure:
        if not found.found + found.empty + found.cut:
            raise UserError(f"nothing could be read; the first: {found.first_failure}")
        parts = f", {found.cut:,} were read in part" if found.cut else ""
        said = f"{found.failed:,} failed{parts}; the first: {found.first_failure}; see failures.jsonl in {config.out}"
        say(said, sys.stderr)
    if found.skipped:
        say(f"skipped.jsonl in {config.out} lists the files of the source that were skipped", sys.stderr)
    return found
