"""The processes that run the model: each can be ended, whatever it is doing, and another takes its place."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from detect import plugins
from detect.errors import UserError
from detect.serve.responses import RequestRejected
from detect.utils.names import say

LONGEST = 2**26  # bytes of a response
STOP_SECONDS = 3.0  # in which a worker must leave a job that is cancelled
RETRY_SECONDS = 10.0  # before a worker that could not start is started again


class Worker:
    """A process that runs `detect.serve.worker`: it takes one job after the other, and answers each with a line."""

    def __init__(self, process: asyncio.subprocess.Process, temporary: Path) -> None:
        self.process, self.temporary = process, temporary
        self.model: dict[str, Any] = {}  # what it has said of it
        assert process.stdin and process.stdout
        self.jobs, self.responses = process.stdin, process.stdout

    @staticmethod
    async def start(settings: dict[str, Any]) -> Worker:
        """Start a worker and wait until it has loaded the weights. Raises UserError for weights that cannot be used."""
        temporary = Path(mkdtemp(prefix="worker-", dir=settings["folder"]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "detect.serve.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST,
            env=environment_of_worker(temporary),
            start_new_session=True,  # Ctrl-C is for the server alone
        )
        worker = Worker(process, temporary)
        try:
            worker._tell(settings | {"plugin": plugins.loaded()})
            said = json.loads(
                await worker.responses.readline() or '{"error": "the worker process ended while it started"}'
            )
            if "error" in said:
                raise UserError(said["error"])
            worker.model = said
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.returncode is not None

    async def run(self, job: dict[str, Any], seconds: float) -> tuple[int, bytes]:
        """Run a job.

        If it is cancelled, the worker leaves the job first.

        Args:
            job: what to do, as `detect.serve.worker` reads it.
            seconds: time limit, after which the process is ended.

        Returns:
            The HTTP status and the JSON of the response.

        Raises:
            RequestRejected: the time is over, or the process has ended.
        """
        try:
            async with asyncio.timeout(seconds):
                self._tell(job)
                response = await self.responses.readline()
        except TimeoutError:
            await self.end()
            raise RequestRejected(422, f"the upload takes longer than {seconds:g} seconds to process") from None
        except asyncio.CancelledError:
            await self._stop()
            raise
        status, _, answer = response.rstrip(b"\n").partition(b" ")
        if not status:
            await self.end()
            raise RequestRejected(422, "the process that ran the model has ended: the upload may need too much memory")
        return int(status), answer

    async def _stop(self) -> None:
        self._tell("stop")
        try:
            async with asyncio.timeout(STOP_SECONDS):
                response = await self.responses.readline()
        except TimeoutError:
            response = b""
        if not response:
            await self.end()

    def _tell(self, what: Any) -> None:
        self.jobs.write(json.dumps(what).encode() + b"\n")

    async def end(self) -> None:
        """End the process at once."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self.clear()

    def clear(self) -> None:
        """Remove the temporary files of a worker that has ended: libraries leave some when they are killed."""
        shutil.rmtree(self.temporary, ignore_errors=True)


def environment_of_worker(temporary: Path) -> dict[str, str]:
    """The environment of a worker: the same modules are found, and temporary files lie in a folder of its own.

    Threads that wait for one another sleep: when they waited in a loop, an image took 60 times as long beside other
    work.
    """
    path = os.pathsep.join(filter(None, sys.path))
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}


class _Waiting(NamedTuple):
    """A request that waits for a worker, which it gets through `turn`."""

    client: str
    is_video: bool
    turn: asyncio.Future[Worker]


class Workers:
    """A pool of workers. Requests wait in turn, those of the client that has used the workers least come first.

    Videos always leave one of several workers to images.

    Args:
        settings: what a worker is told when it starts.
        count: number of workers.
    """

    def __init__(self, settings: dict[str, Any], count: int) -> None:
        self.settings, self.count, self.closed = settings, count, False
        self.model: dict[str, Any] = {}  # its classes, colours and image size, once a worker has loaded it
        self.videos = 0  # in work
        self.all, self.idle, self.starting = set[Worker](), list[Worker](), set[asyncio.Task[None]]()
        self.waiting: list[_Waiting] = []
        self.used = defaultdict[str, float](float)  # seconds of workers, by client

    async def __aenter__(self) -> Workers:
        """Start the workers, and wait for the first one."""
        first = await Worker.start(self.settings)
        self.model = first.model
        self._give(first)
        for _ in range(self.count - 1):
            self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all workers; requests that wait are rejected."""
        self.closed = True
        for one in self.waiting:
            one.turn.cancel()
        for task in self.starting:
            task.cancel()
        await asyncio.gather(*self.starting, *(worker.end() for worker in self.all), return_exceptions=True)

    async def run(self, job: dict[str, Any], client: str, seconds: float) -> tuple[int, bytes]:
        """Run a job on the next free worker: see `Worker.run`."""
        async with self._one(client, job["kind"] == "video") as worker:
            return await worker.run(job, seconds)

    @asynccontextmanager
    async def _one(self, client: str, is_video: bool) -> AsyncIterator[Worker]:
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(_Waiting(client, is_video, turn))
        self._serve()
        try:
            worker = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(turn.result(), is_video)
            if self.closed:
                raise RequestRejected(503, "the server is shutting down") from None
            raise
        began = asyncio.get_running_loop().time()
        try:
            yield worker
        finally:
            self.used[client] += asyncio.get_running_loop().time() - began
            self._give(worker, is_video)

    def _serve(self) -> None:
        """Give idle workers to waiting requests."""
        self.waiting = [one for one in self.waiting if not one.turn.done()]
        while self.idle and (first := self._next()):
            worker = self.idle.pop(0)
            if worker.has_ended:
                self._replace(worker)
                continue
            self.waiting.remove(first)
            self.videos += first.is_video
            first.turn.set_result(worker)
        if not self.waiting:
            self.used.clear()

    def _next(self) -> _Waiting | None:
        """The request whose turn it is."""
        most = max(1, self.count - 1)
        able = (one for one in self.waiting if not one.is_video or self.videos < most)
        return min(able, key=lambda one: self.used[one.client], default=None)

    def _give(self, worker: Worker, was_video: bool = False) -> None:
        """Take back a worker, or a new one."""
        self.all.add(worker)
        self.videos -= was_video
        if worker.has_ended:
            self._replace(worker)
        else:
            self.idle.append(worker)
        self._serve()

    def _replace(self, worker: Worker) -> None:
        worker.clear()
        self.all.discard(worker)
        self._begin()

    def _begin(self) -> None:
        if self.closed:
            return
        task = asyncio.create_task(self._start())
        self.starting.add(task)
        task.add_done_callback(self.starting.discard)

    async def _start(self) -> None:
        while True:
            try:
                worker = await Worker.start(self.settings)
            except (UserError, OSError) as error:
                say(f"a worker cannot start; next attempt in {RETRY_SECONDS:g} s: {error}", sys.stderr)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return self._give(worker)
