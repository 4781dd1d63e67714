"""Machines on this one: network namespaces of Linux, each with an address of its own on one bridge."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Machine:
    """A network namespace.

    Attributes:
        name: of the namespace.
        address: its IPv4 address.
        host: whether it holds the meeting point of torchrun, which cannot tell: all have the name of this machine.
    """

    name: str
    address: str
    host: bool = False
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, words: list[str], log: Path, **variables: str) -> subprocess.Popen:
        """Start a program on the machine; what it prints is appended to `log`."""
        known = {"PET_LOCAL_ADDR": self.address, "PET_RDZV_CONF": f"is_host={int(self.host)}"}
        known |= {"GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
        paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT), **known, **variables}
        with log.open("a") as file:
            inside = ["ip", "netns", "exec", self.name, *words]
            self.started.append(subprocess.Popen(inside, env=env, stdout=file, stderr=file))
        return self.started[-1]

    def lose(self) -> None:
        """Kill all that runs on the machine, as a power cut does."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True).stdout
        for pid in listed.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for one in self.started:
            one.wait()


def possible() -> bool:
    """Whether this process may make network namespaces."""
    try:
        made = subprocess.run(["ip", "netns", "add", f"gridhead{os.getpid()}"], capture_output=True)
        subprocess.run(["ip", "netns", "del", f"gridhead{os.getpid()}"], capture_output=True)
    except FileNotFoundError:
        return False
    return made.returncode == 0


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Machines that reach one another and nothing else; all that runs on them is killed at the end."""
    mark = f"gh{os.getpid() % 100000}"
    made = [Machine(f"{mark}-{i}", f"10.213.0.{i + 1}", i == 0) for i in range(count)]

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True)

    try:
        ip("netns", "add", mark)  # the bridge has a namespace of its own: nothing of this machine is reached
        ip("-n", mark, "link", "add", "br0", "type", "bridge")
        ip("-n", mark, "link", "set", "br0", "up")
        for i, one in enumerate(made):
            ip("netns", "add", one.name)
            ip("-n", one.name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{i}", "netns", mark)
            ip("-n", mark, "link", "set", f"p{i}", "master", "br0", "up")
            ip("-n", one.name, "addr", "add", f"{one.address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", one.name, "link", "set", device, "up")
        yield made
    finally:
        for one in made:
            with suppress(subprocess.CalledProcessError):
                one.lose()
            ip("netns", "del", one.name, check=False)
        ip("netns", "del", mark, check=False)
