"""The run file that `sgdsim run --example` prints."""

EXAMPLE = """\
# Run it with `sgdsim run experiment.toml`. Paths are relative to the folder of this file.
output = "output/first"        # left out, it is output/NAME-OF-THIS-FILE in the current folder

[problem]                      # what is learned
kind = "LinearRegression"      # inputs x ~ N(0, covariance), labels y = teacher.x + label noise
covariance = [1.0, 0.5]        # a diagonal, or a matrix [[1.0, 0.2], [0.2, 0.5]]
teacher = [1.0, -1.0]
label_noise = 0.5              # a standard deviation

[optimizer]
kind = "SGD"
learning_rate = 0.3
momentum = 0.5                 # heavy ball

[simulate]                     # or [sweep], where batch_size and learning_rate may be lists
batch_size = 8
chains = 10_000
steps = 2_000
burn_in = 500                  # steps that are not measured
seed = 0

[predict]                      # optional: the stationary law by theory
approximation = "exact"

[compare]                      # optional: verdicts; the exit code is 1 if a number disagrees
error_rate = 0.01              # chance of any "disagree" when theory is right
"""
