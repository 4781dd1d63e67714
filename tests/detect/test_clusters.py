"""The recipes of examples/clusters, each run as far as one machine can: in namespaces, or on a local Ray cluster."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from detect.config.fields import options_of
from detect.config.train import TrainConfig
from detect.training.run_record import SHARING
from detect.utils.atomic_io import replace_text
from tests.reference.machines import ROOT, machines, possible
from tests.reference.runs import rows, settings

RECIPES = ROOT / "examples" / "clusters"
unix = pytest.mark.skipif(sys.platform == "win32", reason="torchrun over machines and Slurm are for Unix")
apart = pytest.mark.skipif(not possible(), reason="network namespaces need Linux, iproute2 and root")


EPOCHS, STEPS = 24, 4
GATE = """# A callback that lets a run begin only as many epochs as a file says, or the rest where its end is asked for.
import time
from pathlib import Path

from detect.callbacks import Callback
from detect.registry import register


@register("callback", "gate")
class Gate(Callback):
    passive = True

    def on_epoch_start(self, trainer):
        while int(Path({!r}).read_text()) <= trainer.run.epoch and not trainer.interrupt.asked:
            time.sleep(0.02)
"""


class Gated:
    """A run of 24 epochs of four steps of four images that waits for the test between epochs."""

    def __init__(self, digits, folder):
        self.folder, self.out, self.allowed = folder, folder / "run", folder / "allowed"
        config = settings(digits, self.out, epochs=EPOCHS, global_batch=4, save_steps=1, callbacks=["gate"])
        (folder / "given.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config)))
        (folder / "gate.py").write_text(GATE.format(str(self.allowed)))
        self.words = ["--config", str(folder / "given.yaml"), "--plugin", str(folder / "gate.py")]
        self.allow(0)

    def allow(self, epochs):
        """Let the run begin that many epochs."""
        replace_text(self.allowed, str(epochs))

    def reach(self, epochs, running):
        """Let the run end that many epochs, and wait for it."""
        self.allow(epochs)
        self.wait(lambda: len(self.rows()) >= epochs, running)

    def become(self, processes, running, more=0):
        """Let the run begin `more` epochs, and wait until it has that many processes."""
        self.allow(len(self.rows()) + more)
        self.wait(lambda: self.worlds()[-1:] == [processes], running)

    def wait(self, condition, running):
        end = time.monotonic() + 900
        while not condition():
            assert time.monotonic() < end and running.poll() is None, self.logs()
            time.sleep(0.05)

    def rows(self):
        return rows(self.out) if (self.out / "metrics.jsonl").exists() else []

    def worlds(self):
        """The numbers of processes that the run has had after the first."""
        changes = self.out / "changes.jsonl"
        lines = changes.read_text().splitlines() if changes.exists() else []
        return [json.loads(line)["changed"][SHARING][1] for line in lines]

    def logs(self):
        return "\n".join(path.read_text()[-4000:] for path in sorted(self.folder.glob("*.log")))

    def finish(self, running):
        """Let the run end; check that no step was left out or done twice."""
        self.allow(EPOCHS)
        assert running.wait(900) == 0, self.logs()
        expected = [(i, STEPS * (i + 1)) for i in range(EPOCHS)]
        assert [(row["epoch"], row["step"]) for row in self.rows()] == expected, self.logs()


@pytest.fixture
def run(digits, tmp_path):
    return Gated(digits, tmp_path)


@pytest.mark.slow
@apart
def test_a_lost_machine_comes_back(run):
    with machines(2) as made:

        def start(i):
            variables = {"HEAD": made[0].address, "NODES": "2", "NODE_RANK": str(i), "PROCESSES": "1"}
            return made[i].start([str(RECIPES / "static.sh"), *run.words], run.folder / f"{i}.log", **variables)

        first, _ = start(0), start(1)
        run.reach(2, first)
        made[1].lose()
        second = start(1)
        run.finish(first)
        assert second.wait(300) == 0
    assert run.worlds() == [] and "torchrun starts this run again" in run.logs()


@pytest.mark.slow
@apart
def test_machines_come_and_go(run):
    with machines(3) as made:

        def start(i):
            variables = {"HEAD": made[0].address, "NODES": "1:3", "PROCESSES": "1"}
            return made[i].start([str(RECIPES / "elastic.sh"), *run.words], run.folder / f"{i}.log", **variables)

        first = start(0)
        run.reach(1, first)
        start(1)
        run.become(2, first)
        start(2)
        run.become(3, first)
        made[1].lose()
        run.become(2, first, more=1)  # a lost process is missed in the next step
        made[2].lose()
        run.become(1, first, more=1)
        run.finish(first)


SRUN = """#!/usr/bin/env bash
# Starts the program once for each node, with the variables that tell it which one it is; passes SIGTERM on.
set -m
while [[ $1 == --* ]]; do shift; done
pids=()
for ((i = 0; i < SLURM_JOB_NUM_NODES; i++)); do
    SLURM_NODEID=$i SLURM_PROCID=$i SLURM_NTASKS=$SLURM_JOB_NUM_NODES PET_RDZV_CONF=is_host=$((i == 0)) "$@" &
    pids+=($!)
done
trap 'kill -TERM "${pids[@]}"' TERM
status=0
for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do wait "$pid" || status=$?; done
done
exit "$status"
"""


@pytest.fixture
def slurm(tmp_path, port):
    """The variables of a job of two nodes, and in PATH the commands of Slurm that its script uses."""
    asked = tmp_path / "scontrol.txt"
    scontrol = f'#!/bin/sh\nif [ "$1" = show ]; then echo localhost; else echo "$@" >> "{asked}"; fi\n'
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", scontrol)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    paths = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    known = {"PATH": paths, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PET_LOCAL_ADDR": "localhost"}
    job = {"SLURM_JOB_ID": str(port), "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "1"}
    return {**os.environ, **known, **job, "SLURM_JOB_NODELIST": "localhost"}, asked


@pytest.mark.slow
@unix
def test_a_job_of_slurm_goes_on_after_its_time_is_over(run, slurm):
    job, asked = slurm
    with (run.folder / "slurm.log").open("a") as log:

        def start():
            return subprocess.Popen(["bash", RECIPES / "slurm.sbatch", *run.words], env=job, stdout=log, stderr=log)

        first = start()
        run.reach(2, first)
        first.send_signal(signal.SIGUSR1)
        assert first.wait(900) != 0, run.logs()
        assert asked.read_text() == f"requeue {job['SLURM_JOB_ID']}\n"
        assert "saved at epoch" in run.logs() and 2 <= len(run.rows()) < EPOCHS
        run.finish(start())
    assert run.worlds() == [] and len(asked.read_text().splitlines()) == 1


@unix
@pytest.mark.parametrize("script", ["static.sh", "elastic.sh", "slurm.sbatch"])
def test_the_scripts_are_written_well(script):
    subprocess.run(["bash", "-n", RECIPES / script], check=True)
    if (shellcheck := Path(sys.executable).with_name("shellcheck")).exists():
        found = subprocess.run([shellcheck, "-S", "warning", RECIPES / script], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


def pytorch_job():
    return yaml.safe_load((RECIPES / "pytorchjob.yaml").read_text())


def test_the_file_for_kubernetes_has_what_the_operator_needs():
    """Against the schema and the code of release 1.9; the API server refuses a field that it does not know."""
    job = pytorch_job()
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    spec = job["spec"]
    assert spec.keys() <= {"runPolicy", "elasticPolicy", "nprocPerNode", "pytorchReplicaSpecs"}
    assert isinstance(spec["nprocPerNode"], str)
    elastic, worker = spec["elasticPolicy"], spec["pytorchReplicaSpecs"]["Worker"]
    assert elastic.keys() == {"rdzvBackend", "minReplicas", "maxReplicas", "maxRestarts"}
    assert elastic["minReplicas"] <= worker["replicas"] <= elastic["maxReplicas"]
    assert worker["restartPolicy"] in ("Always", "OnFailure", "Never", "ExitCode")
    pod = worker["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "pytorch" and container["ports"][0]["name"] == "pytorchjob-port"
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    assert all(isinstance(word, str) for word in container["command"] + container["args"])
    assert all(isinstance(one["value"], str) for one in container["env"])
    flags = [word.replace("=", " ", 1).split(" ") for word in container["args"]]
    known = options_of(TrainConfig)
    assert {flag[2:].replace("-", "_") for flag, *_ in flags} <= {one.name for one in known}


def variables_of_operator(job, address):
    """What the training operator 1.9 sets in each container of an elastic job."""
    elastic = job["spec"]["elasticPolicy"]
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    return {
        "PYTHONUNBUFFERED": "1",
        "PET_RDZV_ENDPOINT": f"{address}:{container['ports'][0]['containerPort']}",
        "PET_RDZV_BACKEND": elastic["rdzvBackend"],
        "PET_NNODES": f"{elastic['minReplicas']}:{elastic['maxReplicas']}",
        "PET_MAX_RESTARTS": str(elastic["maxRestarts"]),
        "PET_NPROC_PER_NODE": job["spec"]["nprocPerNode"],
        **{one["name"]: one["value"] for one in container["env"]},
    }


@pytest.mark.slow
@apart
def test_a_pod_of_kubernetes_is_evicted_and_comes_back(run):
    job = pytorch_job()
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    assert container["args"][-1] == "--resume"
    with machines(2) as made:

        def start(i):
            variables = variables_of_operator(job, made[0].address)
            words = [*container["command"], *run.words, "--resume"]
            return made[i].start(words, run.folder / f"{i}.log", **variables)

        first, second = start(0), start(1)
        run.reach(2, first)
        second.terminate()
        run.become(1, first, more=6)  # all stop at the next twentieth step
        assert second.wait(300) != 0
        start(1)
        run.become(2, first)
        run.finish(first)


@pytest.mark.slow
@unix
def test_ray_train_on_two_nodes_loses_one(run):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    program = [sys.executable, ROOT / "tests" / "reference" / "two_ray_nodes.py", RECIPES / "ray_train.py"]
    known = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (run.folder / "ray.log").open("a") as log:
        words = [*program, run.folder, *run.words]
        driver = subprocess.Popen(words, env=known, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
        run.reach(2, driver)
        driver.stdin.write("lose\n")
        driver.stdin.flush()
        run.become(1, driver, more=1)
        driver.stdin.close()
        run.finish(driver)
