"""The live view of training runs: `detect serve --run RUN`. The folders of the runs are only read."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from detect import plugins
from detect.commands.serve import ServeConfig
from detect.errors import UserError
from detect.report.charts import library, line_spec
from detect.report.run_files import read_settings
from detect.serve.responses import JsonAnswer, RequestRejected
from detect.serve.run_state import as_text, run_lines, run_state
from detect.serve.workers import environment_of_worker

WATCHED = 60.0  # seconds since the last request for which images are still drawn
LONGEST = 300.0  # seconds that drawing them may take
SHARE = 5  # of the time that drawing takes, the pause before it is done again


@dataclass
class Preview:
    """Validation images with predictions of a run.

    Attributes:
        run: the folder of the run.
        stamp: the file of weights that they, or the error, were made from.
        folder: where the images are.
        captions: one for each.
        error: why there are none.
        rest: until when they are not drawn again, by the monotonic clock.
    """

    run: Path
    stamp: tuple[int, ...] = ()
    folder: Path = Path()
    captions: list[str] = field(default_factory=list)
    error: str = ""
    rest: float = 0.0

    def now(self) -> tuple[int, ...]:
        """What the best weights are like now; empty before the first epoch's end."""
        try:
            stat = (self.run / "best.safetensors").stat()
        except OSError:
            return ()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def state(self) -> dict[str, Any]:
        """The images as the page wants them."""
        return {"version": "-".join(map(str, self.stamp)), "captions": self.captions, "error": self.error}


class LiveView:
    """What `detect serve --run RUN ...` does.

    Args:
        config: the options of `detect serve`.
        folder: folder for images.

    Raises:
        UserError: one of the folders is not that of a run.
    """

    page = "run.html"

    def __init__(self, config: ServeConfig, folder: Path) -> None:
        paths = [Path(run) for run in config.run]
        for path in paths:
            read_settings(path)
        self.folder, self.asked = folder, float("-inf")
        unique = len({path.resolve().name for path in paths}) == len(paths)
        self.runs = {path.resolve().name if unique else str(path): Preview(path) for path in paths}

    async def __aenter__(self) -> LiveView:
        self.watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the process that draws images."""
        self.watching.cancel()
        await asyncio.gather(self.watching, return_exceptions=True)

    def routes(self) -> list[Route]:
        """The requests that it answers."""
        return [
            Route("/runs", self.state),
            Route("/runs/{run:int}/{image:int}.jpg", self.image),
            Route("/charts.js", self.charts, include_in_schema=False),
        ]

    async def state(self, request: Request) -> Response:
        """The runs and their charts; status 304 where they are as the request says that it knows them."""
        self.asked = time.monotonic()
        answer = await asyncio.to_thread(self._state)
        tag = f'"{sha256(as_text(answer).encode()).hexdigest()[:16]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return JsonAnswer(answer, headers={"ETag": tag})

    def _state(self) -> dict[str, Any]:
        runs = []
        for name, preview in self.runs.items():
            try:
                runs.append(run_state(preview.run) | {"name": name, "images": preview.state()})
            except UserError as error:  # the folder was removed, or is being written by another program
                runs.append({"name": name, "error": str(error)})
        lines = run_lines({name: preview.run for name, preview in self.runs.items()})
        charts = [{"title": title, "names": list(one), "spec": line_spec(one, "epoch")} for title, one in lines.items()]
        return {"runs": runs, "charts": charts}

    async def image(self, request: Request) -> Response:
        """A validation image with predictions."""
        number, runs = request.path_params["image"], list(self.runs.values())
        preview = runs[request.path_params["run"]] if request.path_params["run"] < len(runs) else None
        if preview is None or number >= len(preview.captions):
            raise RequestRejected(404, "there is no such image")
        return FileResponse(preview.folder / f"{number}.jpg")

    async def charts(self, _: Request) -> Response:
        """The JavaScript that draws charts."""
        return Response(await asyncio.to_thread(library), media_type="text/javascript")

    async def _watch(self) -> None:
        """Draw the images of a run when its weights have changed, as long as somebody looks."""
        while True:
            await asyncio.sleep(1)
            for preview in self.runs.values():
                stamp, began = preview.now(), time.monotonic()
                looked_at = began - self.asked < WATCHED and began > preview.rest
                if stamp and stamp != preview.stamp and looked_at:
                    await self._draw(preview, stamp)
                    preview.rest = time.monotonic() + SHARE * (time.monotonic() - began)

    async def _draw(self, preview: Preview, stamp: tuple[int, ...]) -> None:
        folder = Path(mkdtemp(prefix="preview-", dir=self.folder))
        command = [sys.executable, "-P", "-m", "detect.serve.preview", str(preview.run), str(folder), *plugins.loaded()]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            env=environment_of_worker(folder),
            start_new_session=True,  # Ctrl-C is for the server alone
        )
        try:
            async with asyncio.timeout(LONGEST):
                said, _ = await process.communicate()
            answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        except (TimeoutError, ValueError, IndexError):
            answer = {"error": "the images could not be drawn; the log of the server has the details"}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        unused, preview.stamp, preview.error = folder, stamp, answer.get("error", "")
        if "captions" in answer:
            unused, preview.folder, preview.captions = preview.folder, folder, answer["captions"]
        if unused != Path():
            shutil.rmtree(unused, ignore_errors=True)
