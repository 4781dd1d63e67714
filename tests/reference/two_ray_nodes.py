"""A Ray cluster of two nodes on this machine, on which a recipe runs; a line on stdin kills the second.

As a program: `python tests/reference/two_ray_nodes.py RECIPE STORAGE WORDS...`.
"""

import os
import runpy
import sys
import threading

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}


def obey(cluster, node) -> None:
    """Kill the second node when a line comes."""
    if sys.stdin.readline():
        cluster.remove_node(node, allow_graceful=False)


if __name__ == "__main__":
    recipe, storage, *words = sys.argv[1:]
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "600"}  # busy machines are slow
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    threading.Thread(target=obey, args=(nodes, nodes.add_node(**SMALL)), daemon=True).start()
    sys.argv = [recipe, "--workers", "1:2", "--address", nodes.address, "--storage", storage, "--", *words]
    runpy.run_path(recipe, run_name="__main__")
    ray.shutdown()
    nodes.shutdown()
