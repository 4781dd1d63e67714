"""A whole job under an audit hook, which no process can take off again: so in one of its own."""

import os
import socket
import sys

import torch

from detect.__main__ import main


def refuse(events: list[str]) -> None:
    """End this process with 3 at the first audit event whose name starts so."""

    def hook(event: str, arguments: tuple) -> None:
        if event.startswith(tuple(events)):
            os.write(2, f"refused: {event} {arguments}\n".encode())
            os._exit(3)

    sys.addaudithook(hook)


def whole_job(data: str, out: str, events: list[str]) -> None:
    """Train, resume, evaluate and predict, with these events refused."""
    torch.set_num_threads(1)
    refuse(events)
    model = ["--model.width", "16", "--model.levels", "[3]", "--model.neck", "straight", "--imgsz", "64"]
    run = ["train", "--data", data, "--out", out, *model, "--batch", "8", "--workers", "0", "--device", "cpu"]
    weights = ["--weights", f"{out}/best.safetensors", "--device", "cpu"]
    for arguments in (
        [*run, "--epochs", "1"],
        [*run, "--epochs", "2", "--resume"],
        ["evaluate", *weights, "--data", data, "--workers", "0"],
        ["predict", *weights, "--source", f"{data}/val", "--out", f"{out}/p"],
    ):
        if main(arguments):
            sys.exit(1)


def call_home() -> None:
    """What `refuse` is there for."""
    refuse(["socket."])
    socket.socket()
