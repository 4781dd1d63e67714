"""Windows as far as Linux can play it: `python -m tests.reference.fake_windows [COMMAND --flag value ...]`.

Imports every module of the project, which finds nothing that Windows lacks, and then runs the command. Files that this
process has open can be neither removed nor replaced. Libraries see Linux as it is.
"""

import builtins
import fcntl
import multiprocessing
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
PROJECT = ("anchors", "detect")
MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
NAMES = {
    os: "fork getegid geteuid getgid getloadavg getpgid getuid killpg memfd_create mkfifo nice O_DIRECTORY O_NOFOLLOW "
    "O_NONBLOCK pread pwrite register_at_fork sched_getaffinity set_blocking setpgid setsid statvfs sysconf uname",
    signal: "alarm pthread_sigmask setitimer SIG_BLOCK SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE sigtimedwait sigwait",
}


class Without:
    """A module without some of its names."""

    def __init__(self, module, names, **others):
        self.__dict__.update(others)
        self._module, self._names = module, names.split()

    def __getattr__(self, name):
        if name in self._names:
            raise AttributeError(f"Windows has no {self._module.__name__}.{name}")
        return getattr(self._module, name)


def every_module():
    files = [path.relative_to(ROOT) for name in PROJECT for path in sorted((ROOT / name).rglob("*.py"))]
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]


def _lock(descriptor, mode, count):
    """msvcrt.locking, by the locks of Linux."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(13, "Permission denied") from error


def _set_wakeup_fd(descriptor, **options):
    if descriptor >= 0:
        os.set_blocking(descriptor, False)  # which Linux demands
    return signal.set_wakeup_fd(descriptor, **options)


def _opened():
    for entry in os.scandir("/proc/self/fd"):
        if os.path.islink(entry.path):  # that of the scan itself may be gone
            yield os.path.realpath(entry.path)


def _closed_only(function):
    """A function of the module os that refuses a file that this process has open."""

    def refusing(*paths, **options):
        for path in paths:
            if isinstance(path, str | os.PathLike) and os.path.realpath(path) in _opened():
                raise PermissionError(13, "Another process is using the file", os.fspath(path))
        return function(*paths, **options)

    return refusing


def pretend():
    """Let the modules of the project, none of which is imported yet, see Windows."""
    fakes = {module.__name__: Without(module, names) for module, names in NAMES.items()}
    fakes["signal"].set_wakeup_fd = _set_wakeup_fd
    fakes["msvcrt"] = SimpleNamespace(locking=_lock, LK_NBLCK=2)
    fakes["sys"] = Without(sys, "", platform="win32")
    real = builtins.__import__

    def find(name, globals=None, *rest, **options):
        if (globals or {}).get("__name__", "").partition(".")[0] not in PROJECT:
            return real(name, globals, *rest, **options)
        if name in MODULES:
            raise ImportError(f"Windows has no module {name}")
        return fakes[name] if name in fakes else real(name, globals, *rest, **options)

    builtins.__import__ = find
    for name in ("remove", "rename", "replace", "unlink"):
        setattr(os, name, _closed_only(getattr(os, name)))
    multiprocessing.set_start_method("spawn")


if __name__ == "__main__":
    pretend()
    for module in every_module():
        import_module(module)
    if sys.argv[1:]:
        sys.exit(import_module("detect.__main__").main(sys.argv[1:]))
