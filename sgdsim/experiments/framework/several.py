"""Run several experiments, side by side where that is faster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from sgdsim import _checks
from sgdsim.experiments.framework.findings import Findings
from sgdsim.experiments.framework.registry import run
from sgdsim.experiments.framework.report import build_report


class Done(NamedTuple):
    """An experiment that ended; its figures are written, and no longer here."""

    name: str
    findings: Findings
    seconds: float


def run_several(
    ids: Sequence[str], scale: str, output: str | Path, inputs: Mapping[str, str] = {}
) -> Iterator[Done]:
    """Run experiments, write output/ID/ for each, and yield each as it ends.

    Short runs on a CPU spend most of their time in the compiler, which uses one core: they run in one process for each
    core. At larger scales, and on other devices, one experiment keeps the machine busy alone.

    Args:
        ids: names of experiments.
        scale: "smoke", "laptop" or "full".
        output: a folder, made if missing.
        inputs: data of one's own by name, see `run`.

    Yields:
        What was found, in the order in which they end.

    Raises:
        ImportError: matplotlib, xarray or h5netcdf is missing.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, len(ids)) if scale == "smoke" and jax.default_backend() == "cpu" else 1
    if jax.process_count() > 1:  # every process of a cluster must run the same experiment at the same time
        workers = 1
    try:
        if workers == 1:
            for name in ids:
                yield _run_one(name, scale, output, inputs)
        else:
            yield from _side_by_side(workers, ids, scale, output, inputs)
    finally:
        if _checks.path("output", output).is_dir():
            build_report(output)


def _side_by_side(
    workers: int, ids: Sequence[str], scale: str, output: str | Path, inputs: Mapping[str, str]
) -> Iterator[Done]:
    spawn = multiprocessing.get_context("spawn")  # a forked JAX deadlocks
    others = set(multiprocessing.active_children())
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        try:
            with _ignoring_interrupts():
                futures = [pool.submit(_run_one, x, scale, output, inputs) for x in ids]
            for done in concurrent.futures.as_completed(futures):
                yield done.result()
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes started within it leave Ctrl-C to this one: each would print its own traceback."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run_one(name: str, scale: str, output: str | Path, inputs: Mapping[str, str]) -> Done:
    start = time.perf_counter()
    findings = run(name, scale, output, report=False, inputs=inputs)
    return Done(name, dataclasses.replace(findings, figures=()), time.perf_counter() - start)
