"""Weak scaling: as many chains per device on 1, 2, ... devices; ideal is a constant time.

`python bench/weak_scaling.py 1 2` uses so many virtual CPU devices, each number in a process of its own, and prints
JSON. On a cluster, start it with `--here --hosts` on every host.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

CHAINS = 16_384
STEPS = 400


def measure(repeats: int, hosts: bool) -> dict[str, float]:
    """Best time of a run with CHAINS chains for each device, compilation left out."""
    import jax
    import numpy as np

    import sgdsim as ss

    if hosts:
        ss.use_all_hosts()
    problem = ss.LinearRegression(covariance=np.linspace(1, 0.1, 10), label_noise=0.5)
    devices = jax.device_count()

    def run() -> float:
        begun = time.perf_counter()
        ss.simulate(problem, ss.SGD(0.1), batch_size=64, chains=CHAINS * devices, steps=STEPS, burn_in=40)
        return time.perf_counter() - begun

    run()
    seconds = min(run() for _ in range(repeats))
    return {"devices": devices, "hosts": jax.process_count(), "chains": CHAINS * devices, "seconds": round(seconds, 4),
            "ns_per_chain_step_and_device": round(1e9 * seconds / CHAINS / STEPS, 2)}


def main() -> None:
    """Measure here, or in one process for each number of devices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", nargs="*", type=int, help="numbers of virtual CPU devices")
    parser.add_argument("--here", action="store_true", help="measure the devices of this process")
    parser.add_argument("--hosts", action="store_true", help="with --here: join the processes of a cluster first")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.repeats, given.hosts)))
        return
    rows = []
    for devices in given.devices or [1, 2]:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
        command = [sys.executable, __file__, "--here", "--repeats", str(given.repeats)]
        environment = os.environ | {"XLA_FLAGS": flags}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        rows[-1]["efficiency"] = round(rows[0]["seconds"] / rows[-1]["seconds"], 3)
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
