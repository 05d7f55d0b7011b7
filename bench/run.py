"""Run the named cases and write `bench/results.json` and a table: `python bench/run.py [case ...]`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import sgdsim as ss

ss.use_all_cores()

from cases import CASES  # noqa: E402  (devices are set before anything starts JAX)


def main(names: list[str]) -> int:
    """Run the cases called `names`, or all."""
    import jax

    unknown = sorted(set(names) - set(CASES))
    if unknown:
        print(f"unknown case {unknown[0]!r}; choose from {', '.join(CASES)}", file=sys.stderr)
        return 2
    rows = []
    for name in names or CASES:
        for row in CASES[name]():
            rows.append(row)
            print(f"{row['case']:36s} {row['ratio']:>10.3g}  x {row['against']:24s} goal {row['goal']}", flush=True)
    where = {"device": jax.devices()[0].device_kind, "devices": jax.device_count(), "jax": jax.__version__,
             "sgdsim": ss.__version__, "load": os.getloadavg()[0]}
    out = Path(__file__).parent / "results.json"
    out.write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")
    print(f"\n{where}\nwrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
