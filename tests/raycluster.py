"""A Ray cluster of several nodes on this machine, in a process of its own: `kill NAME` on its standard input ends one.

    python tests/raycluster.py FOLDER one:south two:north

prints the cluster's address once all nodes, of one core each, are there; it ends with its standard input.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

CORES = 1
MEMORY = 80 * 2**20
HEALTH = {  # a node that was killed is missed within a second or so, and not within half a minute
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 10000,  # a busy one is given time: a dead one refuses at once
    "health_check_failure_threshold": 5,
    "enable_worker_prestart": False,
}


def main(folder: str, *nodes: str) -> None:
    """Start the nodes, NAME:ZONE each, and do what the standard input says."""
    Path(folder, "ray").mkdir(parents=True, exist_ok=True)
    os.environ.update(
        RAY_TMPDIR=folder,
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_BACKEND_LOG_LEVEL="fatal",
        RAY_AUTH_MODE="disabled",
    )
    logging.getLogger("ray").setLevel(logging.ERROR)
    from ray.cluster_utils import Cluster

    cluster, made = Cluster(), {}
    for number, node in enumerate(nodes):
        name, zone = node.split(":")
        common = {"num_cpus": CORES, "object_store_memory": MEMORY, "node_ip_address": "127.0.0.1"}
        head = {} if number else {"include_dashboard": False, "include_log_monitor": False, "_system_config": HEALTH}
        made[name] = cluster.add_node(node_name=name, labels={"zone": zone}, **common, **head)
    print(json.dumps({"address": cluster.address}), flush=True)
    for line in sys.stdin:
        cluster.remove_node(made.pop(line.removeprefix("kill").strip()), allow_graceful=False)
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
