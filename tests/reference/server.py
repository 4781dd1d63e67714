"""`detect serve` in a process of its own, and a detector to serve."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import torch

from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.weights import save_weights

ROOT = Path(__file__).parents[2]
BOUNDS = ["--precision", "float32", "--max-mb", "2", "--max-megapixels", "4", "--seconds", "3", "--waiting", "32"]


def weights_file(path):
    """A detector that has learned nothing, and sees a few cats everywhere."""
    torch.manual_seed(0)
    model = build(model_config("yolo_n"), ModelMetadata(["cat", "dog"], [3, 5], size=64))
    with torch.no_grad():
        for level, bias in enumerate((-8.0, -8.0, 0.5)):  # four cells at most say anything
            model.get_parameter(f"head.classify.{level}.1.bias").copy_(torch.tensor([bias, -8.0]))
    save_weights(path, model)
    return path


class Server:
    """`detect serve` in a process of its own."""

    def __init__(self, weights, *flags, temporary=None):
        environment = {**os.environ, **({"TMPDIR": str(temporary)} if temporary else {})}
        command = [sys.executable, "-m", "detect", "serve", "--weights", str(weights), "--port", "0", "--device", "cpu"]
        self.process = subprocess.Popen(
            [*command, *flags], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        assert found, line + self.process.stderr.read()
        self.host, self.port = found[1], int(found[2])
        self.url = f"http://{self.host}:{self.port}/"

    def ask(self, method, path, body=None, kind="image/png", **headers):
        """Status, and the JSON that came back (or the bytes)."""
        wire = http.client.HTTPConnection(self.host, self.port, timeout=300)
        try:
            wire.request(method, path, body, {"Content-Type": kind, **headers} if body is not None else headers)
            answer = wire.getresponse()
            data = answer.read()
        finally:
            wire.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(data) if is_json else data

    def memory(self):
        """Megabytes that the process holds."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def workers(self):
        """The processes that it has started, and those of them that still run."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in pids]

    def stop(self, number=signal.SIGINT):
        """Its exit status after a signal."""
        self.process.send_signal(number)
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()
