"""The measured pull of sharpness in docs/theory/adam-bias.md: `python docs/_numbers/sharpness_of_digits.py`."""

import numpy as np

import sgdsim as ss
from sgdsim.experiments.framework.networks import digits, two_layers
from sgdsim.solver.adam_bias import adam_sharpness_coefficient, measured_sharpness_coefficient

data = digits(512)
problem = ss.FlaxNetwork(two_layers(16, 10), data.train, data.train_labels, "cross_entropy")
starts = ss.simulate(problem, ss.Adam(3e-3), batch_size=64, chains=8, steps=200, statistics=(),
                     initial=problem.random_start(seed=2, chains=8)).final
print("loss", np.mean([problem.loss(w) for w in starts]))
for b in (8, 32):
    for b1, b2 in ((0.9, 0.9), (0.9, 0.95), (0.9, 0.98), (0.5, 0.95)):
        found = measured_sharpness_coefficient(problem, starts, ss.Adam(3e-3, b1=b1, b2=b2), b, orders=16)
        ratio = float(np.mean(found.noise_ratio))
        print(b, b1, b2, f"{found.coefficient:.3f} +- {found.stderr:.3f}", f"cosine {found.correlation:.2f}",
              f"noise ratio {ratio:.1f}", f"resummed {adam_sharpness_coefficient(b1, b2, ratio, 'resummed'):.3f}")
