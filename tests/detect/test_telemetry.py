"""Nothing is reported to anybody: every command and every dependency, as the kernel sees them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from detect.utils.telemetry import BLOCKED, SWITCHES

ROOT = Path(__file__).parents[2]
STRACE = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
RESOLVERS = ("nscd/socket", "io.systemd.Resolve")
HERE = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"')


def environment(**given: str) -> dict[str, str]:
    """Only what a process needs: some libraries do not report from tests or continuous integration.

    With USER the name of the user is not looked up, which asks the same services as the name of a machine.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    kept |= {"PYTHONPATH": str(ROOT), "USER": "tester", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return kept | given


def reached(log: Path) -> list[str]:
    """The traced calls that go to another machine, or ask for the address of one.

    A resolver that is not there is asked nothing: glibc looks for one before it reads the names of this machine, such
    as localhost, in a file. For any other name it would ask a server next, at port 53.
    """
    lines = log.read_text(errors="replace").splitlines()
    there = [line for line in lines if "= -1 ENOENT" not in line]
    asked = [line for line in there if any(name in line for name in RESOLVERS) or "htons(53)" in line]
    return asked + [line for line in lines if "sa_family=AF_INET" in line and not HERE.search(line)]


def why_not_traced() -> str:
    """Why strace cannot be used; empty where it can."""
    if not shutil.which("strace"):
        return "strace is not installed"
    run = subprocess.run([*STRACE, "-o", os.devnull, "true"], capture_output=True, text=True)
    return run.stderr.strip()


@dataclass
class Traced:
    """The places where files may be left, and the trace: none where there is no strace."""

    places: tuple[Path, Path, Path]
    log: Path
    reason: str


def trace(folder: Path, *command: str) -> Traced:
    """Run a command of the interpreter with an empty home, working and temporary folder of its own."""
    home, here, temporary = places = (folder / "home", folder / "here", folder / "tmp")
    for place in places:
        place.mkdir()
    log, reason = folder / "trace.txt", why_not_traced()
    words = [*([] if reason else [*STRACE, "-o", str(log)]), sys.executable, *command]
    given = environment(HOME=str(home), TMPDIR=str(temporary))
    run = subprocess.run(words, env=given, cwd=here, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return Traced(places, log, reason)


@pytest.fixture(scope="module", params=["0", pytest.param("15", marks=pytest.mark.slow)])
def job(request, tmp_path_factory):
    """Every command, run once; the longer the process stays, the more it could report."""
    for name in ("albumentations", "onnx", "onnxruntime", "onnxscript", "openvino", "tensorboard", "uvicorn"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    folder = tmp_path_factory.mktemp("every")
    (folder / "work").mkdir()
    return trace(folder, "-m", "tests.reference.every_command", str(folder / "work"), request.param)


def test_no_command_and_no_dependency_reaches_another_machine(job):
    if job.reason:
        pytest.skip(job.reason)
    assert job.log.stat().st_size > 0 and reached(job.log) == []


def test_no_command_and_no_dependency_leaves_anything_but_our_own_cache(job):
    cache = job.places[0] / ".cache/gridhead"
    files = {path for place in job.places for path in place.rglob("*") if path.is_file()}
    ours = ("precision.json", "weights/tiny.safetensors")  # the second is what detect weights pull was told to keep
    assert files <= {*(cache / name for name in ours), *cache.glob("charts-*.js")}


@pytest.mark.parametrize(("address", "seen"), [("192.0.2.1", 1), ("127.0.0.1", 0)])
def test_the_trace_sees_a_socket(tmp_path, address, seen):
    code = f"import socket; socket.socket(type=socket.SOCK_DGRAM).connect(({address!r}, 9))"  # which sends nothing
    traced = trace(tmp_path, "-c", code)
    if traced.reason:
        pytest.skip(traced.reason)
    assert len(reached(traced.log)) == seen


def test_the_trace_sees_a_look_up_of_a_name(tmp_path):
    code = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.53', 53))"
    traced = trace(tmp_path, "-c", code)
    if traced.reason:
        pytest.skip(traced.reason)
    assert len(reached(traced.log)) == 1


CHILD = """
import os, subprocess, sys
import detect
code = "import os; print([os.environ.get(name) for name in sys.argv[1:]])"
subprocess.run([sys.executable, "-c", "import sys; " + code, *sys.argv[1:]], check=True)
assert all(sys.modules[name] is None for name in {blocked!r})
"""


def test_the_name_of_this_machine_is_looked_up_in_a_file(tmp_path):
    code = "import socket; socket.getaddrinfo('localhost', 1)"
    traced = trace(tmp_path, "-c", code)
    if traced.reason:
        pytest.skip(traced.reason)
    if any(name in line for name in RESOLVERS for line in traced.log.read_text().splitlines() if "= 0" in line):
        pytest.skip("a resolver runs here, which is asked for every name")
    assert reached(traced.log) == []


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_an_import_sets_every_switch_for_child_processes_whatever_it_was(value):
    given = environment() | ({} if value == "" else dict.fromkeys(SWITCHES, value))
    words = [sys.executable, "-c", CHILD.format(blocked=BLOCKED), *SWITCHES]
    run = subprocess.run(words, env=given, capture_output=True, text=True)
    assert run.stdout.strip() == str(list(SWITCHES.values())), run.stderr


def test_a_module_that_the_user_has_imported_is_not_taken_away():
    code = "import sys; sys.modules['openvino_telemetry'] = sys; import detect"
    code += "; assert sys.modules['openvino_telemetry'] is sys"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0
