"""Where a study is kept: a file that processes of one machine share, or a database that several machines share."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend

from detect.errors import UserError, one_line
from detect.utils.locks import locked_in_turn

FILE = "study.jsonl"


class Journal(BaseJournalBackend):
    """Optuna's journal, a line for each change, in a file that survives processes that are killed.

    A process that dies while it writes leaves a part of a line. Optuna's own backend then reads neither that line nor
    any that follows; here the part is cut off before the next line is written. The lock is the system's, and ends with
    its process.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts = [0]  # byte at which each line begins

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append changes to the file, and flush them to the disk."""
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with locked_in_turn(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            try:
                os.lseek(descriptor, self._end(descriptor), os.SEEK_SET)
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @staticmethod
    def _end(descriptor: int) -> int:
        """The end of the last whole line; what lies behind it is cut off."""
        size = end = os.lseek(descriptor, 0, os.SEEK_END)
        while end and _read_at(descriptor, end - 1, 1) != b"\n":
            start = max(0, end - 4096)
            end = start + _read_at(descriptor, start, end - start).rfind(b"\n") + 1
        if end < size:
            os.ftruncate(descriptor, end)
        return end

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The changes from this one on; a last line that is not whole is left for the next time.

        Raises:
            UserError: a line is damaged.
        """
        number = min(log_number_from, len(self.starts) - 1)
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.starts[number])
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if number + 1 == len(self.starts):
                    self.starts.append(self.starts[number] + len(line))
                number += 1
                if number > log_number_from:
                    yield self._change(line, number)

    def _change(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            change: dict[str, Any] = json.loads(line)
            if isinstance(change, dict):
                return change
        except (ValueError, RecursionError):
            pass
        raise UserError(f"{self.path}: line {number} is damaged: start the study again with another --out")


def _read_at(descriptor: int, start: int, count: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, count)


def open_storage(url: str, folder: Path) -> BaseStorage:
    """The storage of a study.

    Args:
        url: a database, as SQLAlchemy names it. "": the file `FILE` in `folder`.
        folder: the folder of the study.

    Raises:
        UserError: the database cannot be reached, or its driver is not installed.
    """
    if not url:
        return JournalStorage(Journal(folder / FILE))
    try:
        with talking_to(url):
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (ImportError, ValueError) as error:  # no driver, or no address
        raise _of_database(url, error) from None


@contextmanager
def talking_to(url: str) -> Iterator[None]:
    """Errors of the database as a UserError of one line, without the password in its address."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _of_database(url, error.__cause__ or error) from None


def _of_database(url: str, error: BaseException) -> UserError:
    said = one_line(error).replace(_password(url) or "\0", "***")
    return UserError(f"--storage {without_password(url)}: {said}; check address, driver and rights")


def without_password(url: str) -> str:
    """The address of a database as it may be printed."""
    password = _password(url)
    return url.replace(f":{password}@", ":***@") if password else url


def _password(url: str) -> str:
    before = url.partition("://")[2].rpartition("@")[0]
    return before.partition(":")[2]


def quiet_optuna() -> None:
    """Let Optuna print nothing: what it has to say is said here, or no concern of the user."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module=r"optuna(\.|$)")
    logging.getLogger("alembic").setLevel(logging.ERROR)
