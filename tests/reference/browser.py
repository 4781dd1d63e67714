"""A real browser without a window, where one is installed, driven from several threads of a test."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"]


class Browser:
    """A page that is open in a browser without a window, driven over a pipe (the DevTools protocol)."""

    def __init__(self, url: str, folder: Path) -> None:
        to_read, self.write_end = os.pipe()
        self.read_end, to_write = os.pipe()
        command = shlex.join([BROWSER, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"])
        line = f"exec {command} 3<&{to_read} 4>&{to_write}"  # the browser reads at 3 and writes at 4
        self.process = subprocess.Popen(["bash", "-c", line], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.number, self.rest, self.complaints, self.session = 0, b"", [], ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Runtime.enable")
        self.ask("Log.enable")
        self.ask("Page.enable")
        self.ask("Page.navigate", url=url)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; its result. What the console says meanwhile is kept in `complaints`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            got = self._next()
            if got.get("id") == self.number:
                assert "error" not in got, got
                return got["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.read_end, 1 << 16)
            assert part, "the browser is gone"
            self.rest += part
        one, _, self.rest = self.rest.partition(b"\0")
        got = json.loads(one)
        wrong = got.get("method") == "Runtime.exceptionThrown"
        wrong |= got.get("method") == "Log.entryAdded" and got["params"]["entry"]["level"] == "error"
        if wrong:
            self.complaints.append(json.dumps(got["params"]))
        return got

    def run(self, script: str) -> Any:
        """What `script`, the body of an async function, returns."""
        expression = f"(async () => {{{script}}})()"
        got = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> Any:
        """Wait until the expression `condition` is true; its value."""
        script = f"""for (const end = Date.now() + {seconds * 1000}; Date.now() < end;) {{
            const value = {condition}; if (value) return value; await new Promise(done => setTimeout(done, 50)); }}"""
        value = self.run(script)
        assert value, condition
        return value

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.read_end)
        os.close(self.write_end)
