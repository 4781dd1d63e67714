"""Ending long work on request, without leaving anything half done."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any


class Interrupt:
    """Turns Ctrl-C and a request to terminate into a flag, `asked`, to be read where all is in order.

    That is between steps, or frames. A second request is heeded at once, unless it comes within two seconds: torchrun
    repeats what the terminal sent.
    """

    def __init__(self) -> None:
        self.asked, self.first = False, 0.0
        mine = threading.current_thread() is threading.main_thread()  # Python lets no other thread handle signals
        self.old = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)} if mine else {}

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and time.monotonic() - self.first > 2:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self.first = True, time.monotonic()

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self.old.items():
            signal.signal(number, handler)
