"""The processes that look at what is sent: each can be ended, whatever it is doing, and another one takes its place."""

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
from detect.serve.responses import Refused
from detect.utils.names import say

LONGEST = 2**26  # bytes of an answer
STOP_SECONDS = 3.0  # in which a worker that is told to stop has to
AGAIN_SECONDS = 10.0  # before a worker that could not start is tried again


class Worker:
    """A process that runs `detect.serve.worker`, and answers one task after the other, a line each."""

    def __init__(self, process: asyncio.subprocess.Process, temporary: Path) -> None:
        self.process, self.temporary = process, temporary
        assert process.stdin and process.stdout
        self.tasks, self.replies = process.stdin, process.stdout

    @staticmethod
    async def start(settings: dict[str, Any]) -> Worker:
        """A worker that has loaded the weights. Raises UserError for such as cannot be used."""
        temporary = Path(mkdtemp(prefix="worker-", dir=settings["folder"]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "detect.serve.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST,
            env=_environment(temporary),
            start_new_session=True,  # Ctrl-C is for the server alone
        )
        worker = Worker(process, temporary)
        try:
            worker._tell(settings | {"plugin": plugins.loaded()})
            said = json.loads(await worker.replies.readline() or '{"error": "the worker process ended while it began"}')
            if "error" in said:
                raise UserError(said["error"])
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more tasks."""
        return self.process.returncode is not None

    async def ask(self, task: dict[str, Any], seconds: float) -> tuple[int, bytes]:
        """The status and the json that it answers a task with; it is ended where that takes longer than `seconds`.

        Raises Refused where there is no answer. Cancelled, it lets the worker leave the task first.
        """
        try:
            async with asyncio.timeout(seconds):
                self._tell(task)
                reply = await self.replies.readline()
        except TimeoutError:
            await self.end()
            raise Refused(422, f"it takes more than {seconds:g} seconds to look at") from None
        except asyncio.CancelledError:
            await self._stop()
            raise
        status, _, answer = reply.rstrip(b"\n").partition(b" ")
        if not status:
            await self.end()
            raise Refused(422, "the process that looked at it has ended: it may need too much memory")
        return int(status), answer

    async def _stop(self) -> None:
        self._tell("stop")
        try:
            async with asyncio.timeout(STOP_SECONDS):
                reply = await self.replies.readline()
        except TimeoutError:
            reply = b""
        if not reply:
            await self.end()

    def _tell(self, what: Any) -> None:
        self.tasks.write(json.dumps(what).encode() + b"\n")

    async def end(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self.clear()

    def clear(self) -> None:
        """Remove the temporary files of a worker that has ended: libraries leave some where they are killed."""
        shutil.rmtree(self.temporary, ignore_errors=True)


def _environment(temporary: Path) -> dict[str, str]:
    """That of this process: the same modules are found, and what is temporary is in a folder of the worker's own.

    Threads that wait for one another leave the cores to others: where they wait in a loop, beside other work an image
    took 60 times as long.
    """
    path = os.pathsep.join(filter(None, sys.path))
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}


class _Waiting(NamedTuple):
    """A request that waits for its `turn`, the worker that it gets."""

    client: str
    is_video: bool
    turn: asyncio.Future[Worker]


class Workers:
    """`count` workers; whoever waits for one is served in turn, the client that has used them least before others.

    Videos leave one of several workers to pictures.
    """

    def __init__(self, settings: dict[str, Any], count: int) -> None:
        self.settings, self.count, self.closed = settings, count, False
        self.videos = 0  # that are worked on
        self.all, self.idle, self.starting = set[Worker](), list[Worker](), set[asyncio.Task[None]]()
        self.waiting: list[_Waiting] = []
        self.used = defaultdict[str, float](float)  # seconds of workers, by client

    async def __aenter__(self) -> Workers:
        """Start the workers; it is there when the first one is."""
        self._give(await Worker.start(self.settings))
        for _ in range(self.count - 1):
            self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all; whoever waits for an answer is told so."""
        self.closed = True
        for one in self.waiting:
            one.turn.cancel()
        for task in self.starting:
            task.cancel()
        await asyncio.gather(*self.starting, *(worker.end() for worker in self.all), return_exceptions=True)

    async def ask(self, task: dict[str, Any], client: str, seconds: float) -> tuple[int, bytes]:
        """What a worker answers: see `Worker.ask`."""
        async with self._one(client, task["kind"] == "video") as worker:
            return await worker.ask(task, seconds)

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
                raise Refused(503, "the server is ending") from None
            raise
        began = asyncio.get_running_loop().time()
        try:
            yield worker
        finally:
            self.used[client] += asyncio.get_running_loop().time() - began
            self._give(worker, is_video)

    def _serve(self) -> None:
        """Give idle workers to those who wait."""
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
        """Whose turn it is."""
        most = max(1, self.count - 1)
        able = (one for one in self.waiting if not one.is_video or self.videos < most)
        return min(able, key=lambda one: self.used[one.client], default=None)

    def _give(self, worker: Worker, was_video: bool = False) -> None:
        """Take back a worker, from a video or not, or a new one."""
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
                say(f"a worker cannot start, and is tried again in {AGAIN_SECONDS:g} s: {error}", sys.stderr)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return self._give(worker)
