"""The process of one trial: `detect train --resume FOLDER`, which saves and ends when the process that tunes has died.

It writes no report: the study has a page, and `detect report --run FOLDER` makes one of any trial.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from detect.__main__ import guarded


def train(folder: str) -> None:
    """Train with the settings in the folder, from its checkpoint if there is one."""
    from detect.cli.parser import parse
    from detect.training.setup import train as run_training
    from detect.utils.interrupt import uninterrupted

    with uninterrupted():
        config = parse("train", ["--resume", folder])
    run_training(config)


def follow(parent: int) -> None:
    """Ask this process to save and end when its parent is another one than it was."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Train in the folder and below the parent that are named. Returns the exit status of `detect train`."""
    folder, parent = sys.argv[1], int(sys.argv[2])
    if sys.platform != "win32":  # there a child keeps the number of its parent
        threading.Thread(target=follow, args=(parent,), daemon=True).start()
    return guarded(lambda: train(folder))


if __name__ == "__main__":
    sys.exit(main())
