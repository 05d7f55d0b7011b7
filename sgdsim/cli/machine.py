"""`sgdsim doctor` and `sgdsim bench`: what sgdsim runs on, and how fast."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import typer
from rich.markup import escape
from rich.table import Table

import sgdsim as ss
from sgdsim.cli.kept_programs import SWITCH
from sgdsim.cli.printing import console
from sgdsim.engine.plan.devices import local_devices

EXTRAS = {
    "plots": ("matplotlib",),
    "data": ("pandas", "sklearn"),
    "results": ("xarray", "h5netcdf", "h5py"),
    "diagnostics": ("arviz",),
    "cli": ("typer", "rich"),
    "notebook": ("ipywidgets",),
    "explore": ("bokeh",),
}
PACKAGES = ("sgdsim", "jax", "jaxlib", "optax", "flax", "numpy", "scipy")


def doctor(as_json: bool) -> None:
    """Print versions, devices, number type, cores, where compiled programs are kept, and extras."""
    facts = _facts()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        if isinstance(value, dict):
            for key, item in value.items():
                table.add_row(escape(f"{name} {key}"), escape(str(item)))
        else:
            table.add_row(name, escape(", ".join(value) if isinstance(value, list) else str(value)))
    console().print(table)


def bench(as_json: bool) -> None:
    """Run the bench of the source checkout."""
    runner = Path(ss.__file__).resolve().parent.parent / "bench" / "run.py"
    if not runner.is_file():
        raise ValueError(
            f"there is no {runner}; the bench lives in the source checkout: git clone it, then `make bench`"
        )
    local_devices()  # the bench is another process: what it cannot run on is said here
    table = 2 if as_json else None  # the file descriptor of standard error
    code = subprocess.run([sys.executable, str(runner)], check=False, stdout=table).returncode
    if as_json and code == 0:
        print((runner.parent / "results.json").read_text(encoding="utf-8"), end="")
    raise typer.Exit(code)


def where_kept() -> str:
    """The folder and its size, or why there is none; in words."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not jax.config.values["jax_enable_compilation_cache"]:
        return f"switched off by {SWITCH}"
    if not folder:
        return "nowhere"
    size = sum(file.stat().st_size for file in Path(folder).glob("*") if file.is_file())
    return f"{folder} ({size / 2**20:.0f} MiB; {SWITCH}=0 switches it off)"


def _facts() -> dict[str, str | int | list[str] | dict[str, str] | None]:
    ss.use_all_cores()
    missing = {extra: [m for m in modules if importlib.util.find_spec(m) is None] for extra, modules in EXTRAS.items()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "cores": cores,
        "dtype": str(jax.numpy.asarray(0.0).dtype),
        "compiled programs": where_kept(),
        "extra": {
            extra: "present" if not names else f"missing {', '.join(names)}: pip install 'sgdsim[{extra}]'"
            for extra, names in missing.items()
        },
    }
