"""What the whole suite shares: two devices, fixed seeds, derived tolerances, a count of compilations."""

from __future__ import annotations

import os

import jax
import numpy as np
import pytest
from scipy import stats

# Compiling is most of what the tests do, and most of that time makes programs faster than these short runs need.
os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0")
# Two devices, so that code for several of them runs; XLA_FLAGS of the caller wins.
if "xla_force_host_platform_device_count" not in os.environ["XLA_FLAGS"]:
    jax.config.update("jax_num_cpu_devices", 2)

FAMILY_WISE_ERROR = 1e-4
_compile_events: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **rest: _compile_events.append(event) if "compile" in event else None
)


def _assert_within_sigma(estimate, truth, stderr, comparisons=None):
    """Hold `estimate` against `truth`, two-sided, at a chance of 1e-4 of one false alarm in the whole family.

    Args:
        estimate, truth, stderr: arrays that broadcast against each other.
        comparisons: how many numbers are compared in the family; None means as many as there are here.
    """
    estimate, truth, stderr = (np.asarray(value, dtype=np.float64) for value in (estimate, truth, stderr))
    assert np.isfinite(estimate).all() and np.isfinite(truth).all(), "a number is not finite"
    assert (stderr > 0).all() and np.isfinite(stderr).all(), f"a standard error is not positive: {stderr}"
    z = (estimate - truth) / stderr
    k = float(stats.norm.isf(FAMILY_WISE_ERROR / 2 / (comparisons or z.size)))
    worst = np.unravel_index(np.abs(z).argmax(), z.shape)
    assert np.abs(z).max() <= k, (
        f"|z| = {abs(z[worst]):.2f} at index {tuple(map(int, worst))} is beyond {k:.2f} ({comparisons or z.size} "
        f"comparisons)\nestimate {estimate}\ntruth    {truth}\nstderr   {stderr}\nz        {z}"
    )


def pytest_collection_modifyitems(items):
    """Leave out what only a CPU can show."""
    if jax.default_backend() != "cpu":
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="needs JAX's CPU backend"))


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Compiled programs of one file are of no use to the next, and all of them together take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def assert_within_sigma():
    """`assert_within_sigma(estimate, truth, stderr, comparisons=None)`."""
    return _assert_within_sigma


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in every run."""
    return np.random.default_rng(20240601)


@pytest.fixture
def compilations():
    """`compilations()` is the number of times JAX has traced or compiled something since the test began."""
    before = len(_compile_events)
    return lambda: len(_compile_events) - before
