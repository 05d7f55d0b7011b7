"""The tail index of one heavy-tailed run: `powerlaw` against `estimators.tail_index`, on the same numbers."""

from __future__ import annotations

import time

import numpy as np

import sgdsim as ss


def tails(chains: int = 20_000) -> list[dict[str, object]]:
    """Seconds, estimate and interval of each; exact by quadrature."""
    import powerlaw

    problem, optimizer = ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(1.2)
    result = ss.simulate(problem, optimizer, batch_size=8, chains=chains, steps=300, burn_in=299, progress=False)
    exact = float(ss.predict(problem, optimizer, batch_size=8).tail_index)
    samples = np.abs(result.final[:, 0].astype(np.float64))

    begun = time.perf_counter()
    ours = ss.estimators.tail_index(samples)
    our_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    theirs = powerlaw.Fit(samples, verbose=False).power_law
    their_seconds = time.perf_counter() - begun
    # powerlaw gives the exponent of the density, one more than that of the survival function.
    index, error = theirs.alpha - 1, 1.96 * theirs.sigma
    return [
        {"who": "exact", "index": exact},
        {"who": "sgdsim", "index": ours.value, "low": ours.low, "high": ours.high, "seconds": our_seconds},
        {"who": "powerlaw", "index": index, "low": index - error, "high": index + error, "seconds": their_seconds},
    ]
