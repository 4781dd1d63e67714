"""Parts computed by actors of Ray Data: each has one copy of the weights, and takes one part after the other.

Ray Data is the engine, but does not write the files: its own writers name files by task and attempt, and a job that is
started again would not know what they hold. A block is one part, an actor returns the part's file as bytes, and the
driver, the only one that writes, gives it its name once it is whole. So nodes need no common folder for results, a part
that two attempts computed is one file, and a lost actor or node costs the parts that were being computed, which Ray
Data gives to others.

Ray is imported late, and its reports are off (see `detect.utils.telemetry`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import Any, Self

from detect import plugins
from detect.bulk.engines import Computed, chosen, compute
from detect.bulk.manifest import Part
from detect.bulk.part_results import PartPredictor, Work
from detect.errors import UserError, one_line
from detect.utils.atomic_io import temporary_folder
from detect.utils.device import usable_cores
from detect.utils.interrupt import ENDING

WINDOW = 16_384  # parts that Ray is given at once: those of 16 million images take some 200 MB of the driver
RETRIES = 3  # how often a part is computed again whose actor died; a file that ends its process would have no end
# Seconds for which Ray waits for processes that it starts here; on a busy machine its own limits are too short.
_PATIENCE = {"RAY_raylet_start_wait_time_s": "300", "RAY_worker_register_timeout_seconds": "600"}
_TASK_ERRORS = "ray.data._internal.execution.streaming_executor_state"  # logs a traceback for each part that is lost
_REACHED = 30  # seconds in which a cluster must accept a connection
_ROOM = 40  # letters of a temporary folder in which sockets still have room for their names


class Worker:
    """An actor: a part as a row of Ray Data to a row with its file."""

    def __init__(self, work: Work, named: list[str]) -> None:
        plugins.load(named)
        if work.config.device == "cpu":
            import torch

            torch.set_num_threads(1)  # an actor has one core
        self.predict: PartPredictor | None = None
        self.refused: UserError | None = None
        try:
            self.predict = PartPredictor(work)
        except UserError as error:  # raised here, Ray would start another actor
            self.refused = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with the file of a part; `stops` says that an error concerns all parts."""
        part = Part.from_json(zlib.decompress(row["part"]))
        try:
            if self.predict is None:
                raise self.refused or UserError("the weights cannot be used")
            return compute(self.predict, part)._asdict() | {"stops": False}
        except UserError as error:
            return Computed(part.number, b"", one_line(error))._asdict() | {"stops": True}


class OnRay:
    """Computes parts with Ray Data, on the cluster at an address or on this machine.

    Args:
        workers: how many actors; -1: one for each GPU of the cluster, or without GPUs for each core.
        address: of the cluster; "": Ray is started here, and ended at the end.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, workers: int, address: str) -> None:
        self.workers, self.address, self.stack = workers, address, ExitStack()
        self.ray = _require_ray()

    def __enter__(self) -> Self:
        with ExitStack() as stack, _handlers_kept():
            if not self.ray.is_initialized():
                _start(self.ray, stack, self.address, self.workers)
            self.stack = stack.pop_all()
        context = self.ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # one part that cannot be computed does not stop the others
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        logging.getLogger(_TASK_ERRORS).addFilter(shortened)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def computed_by(self, device: str, precision: str) -> dict[str, str]:
        """The device is a GPU if the cluster has one; precision is what a worker with one chooses."""
        if device == "auto":
            device = "cuda" if self._count("GPU") else "cpu"
        if device == "cpu":
            return chosen(device, precision)
        if not self._count("GPU"):
            raise UserError(f"--device {device}: the cluster has no GPU; use --device cpu")
        on_worker = self.ray.remote(num_gpus=1, num_cpus=0)(chosen)
        found: dict[str, str] = self.ray.get(on_worker.remote("cuda", precision))
        return found

    def results(self, missing: Callable[[], Iterator[Part]], work: Work) -> Iterator[Computed]:
        """The file of each part, as soon as it is there.

        With a node Ray Data may give up the parts that were on their way to it, and with an actor that dies again and
        again those that it had. They are asked for again, until that finishes none.

        Raises:
            UserError: a worker cannot use the weights, or the cluster is gone.
        """
        finished = True
        while finished:
            finished, parts = False, missing()
            while rows := [{"part": zlib.compress(part.to_json().encode(), 1)} for part in islice(parts, WINDOW)]:
                for one in self._once(rows, work):
                    finished = finished or not one.error
                    yield one

    def _once(self, rows: Sequence[dict[str, bytes]], work: Work) -> Iterator[Computed]:
        gpu = work.config.device == "cuda"
        count = self.workers if self.workers > 0 else int(self._count("GPU" if gpu else "CPU")) or 1
        data = self.ray.data.from_items(list(rows), override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=(work, plugins.loaded()),
            compute=self.ray.data.ActorPoolStrategy(size=min(count, len(rows))),
            num_cpus=0 if gpu else 1,
            num_gpus=1 if gpu else 0,
            max_task_retries=RETRIES,
        )
        try:
            for batch in data.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    if row.pop("stops"):
                        raise UserError(row["error"])
                    yield Computed(**row)
        except self.ray.exceptions.RayError as error:
            raise UserError(f"the cluster failed: {one_line(error)[:500]}") from error

    def _count(self, resource: str) -> float:
        return float(self.ray.cluster_resources().get(resource, 0))


def shortened(record: logging.LogRecord) -> bool:
    """Make one line of a message with a traceback: a filter of a logger."""
    if record.exc_info and record.exc_info[1]:
        record.msg, record.args = f"{record.getMessage()} ({one_line(record.exc_info[1])[:300]})", ()
        record.exc_info = record.exc_text = None
    return True


def _require_ray() -> Any:
    """Ray with Ray Data. Raises UserError where it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            f"detect bulk needs Ray, which is not installed ({one_line(error)}): pip install 'gridhead[ray]'; "
            "--workers 0 works in this process without it"
        ) from None
    return ray


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep our handlers of signals: Ray replaces that of SIGTERM."""
    here = threading.current_thread() is threading.main_thread()
    kept = {number: signal.getsignal(number) for number in ENDING} if here else {}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def _start(ray: Any, stack: ExitStack, address: str, workers: int) -> None:
    """Connect to the cluster at an address, or start Ray here."""
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        require_listener(address)
        options["address"] = address
    else:
        for name, seconds in _PATIENCE.items():
            os.environ.setdefault(name, seconds)
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        options["num_cpus"] = max(workers, usable_cores())
        folder = str(stack.enter_context(temporary_folder()))
        if len(folder) <= _ROOM:
            options["_temp_dir"] = folder
    try:
        ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"--address {address}" if address else "Ray cannot be started here"
        raise UserError(f"{where}: {one_line(error)}") from error
    stack.callback(_end, ray)


def require_listener(address: str) -> None:
    """Raise a UserError where nothing listens at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({one_line(error)})") from None


def _end(ray: Any) -> None:
    with suppress(Exception):
        ray.shutdown()
