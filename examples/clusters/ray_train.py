"""Train on a Ray cluster with Ray Train.

    python ray_train.py --workers 4 --gpu -- --data /shared/birds --global-batch 64 --out /shared/runs/birds

The words after `--` are those of `detect train`. On an existing cluster run it with `ray job submit`, or give its
address. When a worker or its machine dies, all workers start again from the last checkpoint. `--workers 2:4` takes as
many as the cluster has, between 2 and 4 (Ray 2.49 or newer). It needs the extra `ray`: pip install 'gridhead[ray]'.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anyone


def work(settings: dict[str, list[str]]) -> None:
    """Train in a worker of Ray, which has joined the process group of torch already."""
    from detect.__main__ import main

    status = main(["train", *settings["words"], "--resume"])
    if status:
        raise RuntimeError(f"detect train ended with status {status}: its message is in the log of the worker")


def main(arguments: list[str]) -> None:
    """Start the workers and wait for their end."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    arguments, words = arguments[:split], arguments[split + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog="-- OPTIONS OF DETECT TRAIN")
    parser.add_argument("--workers", default="2", help="number of workers, or the smallest and the largest: 2:4")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each worker")
    parser.add_argument("--cpus", type=int, default=1, help="CPU cores of each worker")
    parser.add_argument("--address", help="address of a cluster; default: $RAY_ADDRESS, or this machine alone")
    parser.add_argument("--restarts", type=int, default=100, help="how often workers may be lost")
    parser.add_argument("--storage", help="folder of Ray's own notes, which all machines share; default: ~/ray_results")
    options = parser.parse_args(arguments)

    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(options.address)
    numbers = [int(one) for one in options.workers.split(":")]
    scaling = ScalingConfig(
        num_workers=numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1]),
        use_gpu=options.gpu,
        resources_per_worker={"CPU": options.cpus, **({"GPU": 1} if options.gpu else {})},
    )
    run = RunConfig(storage_path=options.storage, failure_config=FailureConfig(max_failures=options.restarts))
    TorchTrainer(work, train_loop_config={"words": words}, scaling_config=scaling, run_config=run).fit()


if __name__ == "__main__":
    main(sys.argv[1:])
