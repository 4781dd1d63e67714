"""Bulk prediction on Ray: the files of a job in one process, whatever dies meanwhile."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reference.runs import tiny_weights

pytest.importorskip("ray", reason="the extra ray is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Ray's workers are as important as other processes: at their usual niceness of 15 a busy machine hardly runs them.
KNOWN = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
FLAGS = ["--conf", "0.001", "--max-det", "3", "--device", "cpu", "--precision", "float32", "--part-images", "10"]
PARTS = 60


@pytest.fixture(scope="module")
def words(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A job of 600 images, of which eight are different, and a broken one."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "broken.jpg").write_bytes(b"no image")
    images = sorted((digits / "val").iterdir())
    lines = [str(folder / "broken.jpg"), *(str(images[i % len(images)]) for i in range(599))]
    (folder / "list.txt").write_text("".join(f"{line}\n" for line in lines))
    weights = tiny_weights(folder / "w.safetensors")
    return ["--weights", str(weights), "--source", str(folder / "list.txt"), *FLAGS]


def start(words: list[str], out: Path, *more: str) -> subprocess.Popen:
    with out.with_suffix(".log").open("a") as log:
        command = [sys.executable, "-m", "detect", "bulk", *words, "--out", str(out), *more]
        return subprocess.Popen(command, env=KNOWN, stdout=log, stderr=log)


def finish(job: subprocess.Popen, out: Path) -> None:
    assert job.wait(1800) == 0, out.with_suffix(".log").read_text()


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def wait_for_parts(job: subprocess.Popen, out: Path, count: int) -> None:
    end = time.monotonic() + 1200
    while len(list(out.glob("part-*"))) < count:
        assert job.poll() is None and time.monotonic() < end, out.with_suffix(".log").read_text()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the job in one process."""
    out = tmp_path_factory.mktemp("whole") / "out"
    finish(start(words, out, "--workers", "0"), out)
    found = contents(out)
    assert len(found) == PARTS + 4
    return found


@pytest.fixture
def cluster():
    program = [sys.executable, str(ROOT / "tests/reference/bulk_nodes.py")]
    run = subprocess.Popen(program, env=KNOWN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdin and run.stdout
    try:
        run.address = run.stdout.readline().strip()  # type: ignore[attr-defined]
        yield run
    finally:
        run.stdin.close()
        run.wait(300)


def test_a_driver_that_is_killed_and_started_again_on_this_machine(words, whole, tmp_path) -> None:
    out = tmp_path / "out"
    job = start(words, out, "--workers", "2")
    wait_for_parts(job, out, 3)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert len(list(out.glob("part-*"))) < PARTS
    finish(start(words, out, "--workers", "2", "--resume", "true"), out)
    assert contents(out) == whole


def test_a_cluster_of_two_nodes_that_loses_one(words, whole, cluster, tmp_path) -> None:
    out = tmp_path / "out"
    job = start(words, out, "--workers", "2", "--address", cluster.address)
    wait_for_parts(job, out, 3)
    cluster.stdin.write("lose\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "lost\n" and len(list(out.glob("part-*"))) < PARTS
    finish(job, out)
    assert contents(out) == whole


def test_no_cluster_at_an_address_is_told_in_one_line(words, tmp_path) -> None:
    out = tmp_path / "out"
    assert start(words, out, "--address", "127.0.0.1:9").wait(600) == 2
    said = out.with_suffix(".log").read_text()
    assert "error: --address 127.0.0.1:9: " in said and "Traceback" not in said and not out.exists()


def test_other_weights_on_a_worker_are_told_in_one_line(words, tmp_path) -> None:
    out = tmp_path / "out"
    assert start(words, out, "--workers", "1", "--resume", "true").wait(900) == 0
    weights = Path(words[1])
    kept = weights.read_bytes()
    try:
        tiny_weights(weights, seed=1)
        (out / "part-00001.parquet").unlink()
        assert start(words, out, "--workers", "1", "--resume", "true").wait(900) == 2
    finally:
        weights.write_bytes(kept)
    assert "other weights" in out.with_suffix(".log").read_text()
