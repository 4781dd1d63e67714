"""A Ray cluster of two nodes on this machine, for other processes; its address is the first line on stdout.

As a program: `python tests/reference/bulk_nodes.py`. A line on stdin kills the second node, the end of stdin ends all.
"""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "600"}  # busy machines are slow
    os.environ |= {"RAY_worker_register_timeout_seconds": "600"}
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20}
    nodes = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    # An address of its own: otherwise a driver may belong to this node, with which Ray ends it. Drivers of this machine
    # look into a file for the address of their node: that of the node which was added last, if it is not written anew.
    second = nodes.add_node(**small, node_ip_address="127.0.0.2")
    note = Path(nodes.head_node.get_session_dir_path()) / "node_ip_address.json"
    note.write_text(json.dumps({"node_ip_address": nodes.head_node.node_ip_address}))
    nodes.wait_for_nodes()
    print(nodes.address, flush=True)
    if sys.stdin.readline():
        nodes.remove_node(second, allow_graceful=False)
        print("lost", flush=True)
        sys.stdin.read()
    nodes.shutdown()
