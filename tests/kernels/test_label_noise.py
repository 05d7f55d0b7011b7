"""Label noise, and the kernels of the problems that live on it, against definitions worked out in NumPy."""

import jax
import numpy as np
import pytest
from scipy import stats

import sgdsim as ss
from sgdsim._types import cast
from sgdsim.kernels import ellipse, make_kernel
from sgdsim.kernels.label_noise import DirectMean, FreshNoise, mean_noise

DRAWS = 40_000
RNG = np.random.default_rng(11)
TABLE = {
    "ellipse": ss.Ellipse(2.0, 1.0, 0.5),
    "ellipse-gaussian": ss.Ellipse(2.0, 1.0, 0.5, noise="gaussian"),
    "cycling": ss.CyclingToy(),
    "diagonal": ss.DiagonalNetwork.random(3, 4, 1, seed=2, label_noise=0.7),
    "diagonal-wide": ss.DiagonalNetwork.random(20, 4, 3, seed=2, label_noise=0.7, noise="gaussian"),
    "matrix": ss.MatrixFactorization.random(2, 1, 4, seed=3, label_noise=0.7, depth=3),
    "matrix-wide": ss.MatrixFactorization.random(2, 1, 4, seed=3, noise="sign", width=17),
}
POINTS = {name: 0.7 * RNG.standard_normal(problem.dimension) for name, problem in TABLE.items()}


def noise_draws(noise, seed, draws=DRAWS, dtype=np.float32):
    return np.asarray(jax.jit(lambda k: cast(noise, dtype).draw(k, draws, dtype))(jax.random.key(seed)), np.float64)


def gradient_draws(kernel, point, seed, dtype=np.float32, draws=DRAWS):
    """One gradient for each of many chains, (D, draws)."""
    params = np.tile(np.asarray(point, dtype)[:, None], (1, draws))

    def draw(key):
        made = cast(kernel, dtype)
        return made.draw(key, params, made.init(key, draws))[0]

    return np.asarray(jax.jit(draw)(jax.random.key(seed)))


def law_by_definition(problem, point, batch_size, sampling):
    """Mean and covariance of the batch gradient, from the gradients of single examples."""
    n = problem.n_examples or 1
    clean = np.stack([problem.example_gradient(point, (i, 0.0)) for i in range(n)])
    slopes = np.stack([problem.example_gradient(point, (i, -1.0)) for i in range(n)]) - clean
    mean = clean.mean(axis=0)
    factor = (n - batch_size) / (n - 1) if sampling == "without_replacement" else 1.0
    between = (clean - mean).T @ (clean - mean) / n
    return mean, (factor * between + float(problem.label_noise) ** 2 * slopes.T @ slopes / n) / batch_size


def assert_law(draws, mean, covariance, assert_within_sigma):
    """Means, and products of centred components, within their standard errors; what does not move is exact."""
    draws, n = draws.astype(np.float64), draws.shape[1]
    moving = np.diag(covariance) > 1e-12 * np.diag(covariance).max()
    np.testing.assert_allclose(draws[~moving], np.tile(mean[~moving, None], (1, n)), atol=1e-5)
    d = (draws - mean[:, None])[moving]
    error = d.std(axis=1) / np.sqrt(n)
    assert_within_sigma(d.mean(axis=1), 0.0, error, 40)
    rows, columns = np.tril_indices(len(d))
    products = d[rows] * d[columns]
    expected = covariance[np.ix_(moving, moving)][rows, columns]
    error = products.std(axis=1) / np.sqrt(n)
    fixed = products.std(axis=1) < 1e-4 * np.abs(products).mean(axis=1)  # the square of +-s does not move
    np.testing.assert_allclose(products.mean(axis=1)[fixed], expected[fixed], rtol=2e-5, atol=1e-6)
    if not fixed.all():
        assert_within_sigma(products.mean(axis=1)[~fixed], expected[~fixed], error[~fixed], 40 * len(rows))


@pytest.mark.parametrize("batch_size", [1, 3, 32, 45])
def test_the_mean_of_signs_is_binomial(batch_size):
    """Counts of every value against the binomial law, by chi-square; the law of another b would be seen."""
    mean = noise_draws(mean_noise(0.5, "sign", batch_size), 1)
    heads = (mean / 0.5 + 1) / 2 * batch_size
    np.testing.assert_allclose(heads, heads.round(), atol=1e-4 * batch_size)
    counts = np.bincount(heads.round().astype(int), minlength=batch_size + 1)
    expected = DRAWS * stats.binom.pmf(np.arange(batch_size + 1), batch_size, 0.5)
    common = expected > 20
    share = counts[common].sum() / expected[common].sum()
    assert stats.chisquare(counts[common], share * expected[common]).pvalue > 1e-5
    assert counts[~common].sum() <= stats.poisson.isf(1e-5, max(expected[~common].sum(), 1e-9))


@pytest.mark.parametrize("law", ["sign", "gaussian"])
def test_compressed_and_direct_means_have_one_law(law):
    batch_size = 5
    short = noise_draws(mean_noise(0.5, law, batch_size), 2)
    direct = noise_draws(DirectMean(FreshNoise(np.float64(0.5), law), batch_size), 3)
    if law == "gaussian":
        assert stats.ks_2samp(short, direct).pvalue > 1e-5
        assert stats.ks_2samp(1.15 * short, direct).pvalue < 1e-5
    else:
        table = [np.unique((v * batch_size).round(1), return_counts=True)[1] for v in (short, direct)]
        assert len(table[0]) == batch_size + 1 and stats.chi2_contingency(table).pvalue > 1e-5


def test_the_variance_of_the_mean_would_betray_a_wrong_one(assert_within_sigma):
    draws = noise_draws(mean_noise(0.5, "sign", 40), 4)
    error = (draws**2).std() / np.sqrt(DRAWS)
    assert_within_sigma((draws**2).mean(), 0.25 / 40, error)
    with pytest.raises(AssertionError):
        assert_within_sigma((draws**2).mean(), 0.25 / 38, error)


CASES = [("ellipse", 1, None), ("ellipse-gaussian", 5, None), ("cycling", 4, None),
         ("cycling", 4, "without_replacement"), ("diagonal", 3, "without_replacement"),
         ("diagonal", 4, "without_replacement"), ("diagonal-wide", 2, None), ("matrix", 2, None)]
SLOW_CASES = [("ellipse", 5, None), ("cycling", 1, None), ("diagonal", 1, None), ("matrix-wide", 1, None)]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES]


@pytest.mark.parametrize(("name", "batch_size", "sampling"), CASES)
def test_batches_have_the_mean_and_covariance_of_their_definition(name, batch_size, sampling, assert_within_sigma):
    problem, point = TABLE[name], POINTS[name]
    mode = sampling or ("online" if problem.n_examples is None else "with_replacement")
    kernel = make_kernel(problem, batch_size, mode, np.dtype(np.float32))
    draws = gradient_draws(kernel, point, 5, draws=DRAWS // 4 if "wide" in name else DRAWS)
    mean, covariance = law_by_definition(problem, point, batch_size, sampling)
    np.testing.assert_allclose(mean, problem.gradient(point), rtol=1e-12, atol=1e-13)
    assert_law(draws, mean, covariance, assert_within_sigma)


def test_the_comparison_would_see_a_wrong_law(assert_within_sigma):
    problem, point = TABLE["cycling"], POINTS["cycling"]
    draws = gradient_draws(make_kernel(problem, 4, "with_replacement", np.dtype(np.float32)), point, 5)
    mean, covariance = law_by_definition(problem, point, 4, "without_replacement")
    with pytest.raises(AssertionError):
        assert_law(draws, mean, covariance, assert_within_sigma)
    with pytest.raises(AssertionError):
        assert_law(draws, mean, 1.05 * law_by_definition(problem, point, 4, None)[1], assert_within_sigma)


@pytest.mark.parametrize("noise", ["sign", "gaussian"])
def test_the_ellipse_kernel_has_the_law_of_one_that_draws_every_delta(noise):
    """Across the whole law, not only two moments: both kernels at one point, one chain a draw."""
    problem, point = ss.Ellipse(2.0, 1.0, 0.5, noise), POINTS["ellipse"]
    short = gradient_draws(ellipse.ellipse_kernel(problem, 9, "online", np.float32), point, 6)
    direct = gradient_draws(ellipse.direct_kernel(problem, 9), point, 7)
    wrong = gradient_draws(ellipse.direct_kernel(problem, 7), point, 7)
    assert stats.ks_2samp(short[0].round(4), direct[0].round(4)).pvalue > 1e-5
    assert stats.ks_2samp(short[0].round(4), wrong[0].round(4)).pvalue < 1e-5


@pytest.mark.parametrize("name", ["cycling", "diagonal", pytest.param("matrix", marks=pytest.mark.slow)])
def test_a_shuffled_pass_uses_every_example_once(name):
    """Steps of an epoch at one point add up to n times the gradient: there the label noise is switched off."""
    problem, point = TABLE[name], POINTS[name]
    if name != "cycling":
        made = {"diagonal": ss.DiagonalNetwork, "matrix": ss.MatrixFactorization}[name]
        examples = problem.features if name == "diagonal" else problem.features.reshape(-1, 2, 2)
        problem = made(examples, problem.targets, **({} if name == "diagonal" else {"depth": 3}))
    n, size = problem.n_examples, 3
    kernel = make_kernel(problem, size, "epochs", np.dtype(np.float32))
    params = np.tile(point.astype("f")[:, None], (1, 8))

    @jax.jit
    def one_pass(key):
        state, total = kernel.init(key, 8), 0.0
        for step in range(-(-n // size)):
            gradient, state = kernel.draw(jax.random.fold_in(key, step), params, state)
            total = total + min(size, n - size * step) * gradient
        return total / n

    everything = np.asarray(one_pass(jax.random.key(8)))
    np.testing.assert_allclose(everything, np.tile(problem.gradient(point)[:, None], (1, 8)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TABLE)
def test_float64_chains_stay_float64_and_float32_float32(name):
    problem = TABLE[name]
    mode = "online" if problem.n_examples is None else "with_replacement"
    with jax.enable_x64(True):
        for dtype in (np.float32, np.float64):
            kernel = cast(make_kernel(problem, 3, mode, np.dtype(dtype)), dtype)
            shape = jax.ShapeDtypeStruct((problem.dimension, 8), dtype)
            made = jax.eval_shape(lambda key, w, kernel=kernel: kernel.draw(key, w, ())[0], jax.random.key(0), shape)
            assert made.dtype == dtype and made.shape == (problem.dimension, 8)


def test_on_its_minima_the_noise_is_the_hessian(assert_within_sigma):
    """Label noise alone is left there, sigma^2 H / b: what the slow dynamics of these problems live on."""
    for name in ("ellipse", "diagonal", "matrix"):
        problem = TABLE[name]
        point = problem.point(0.6) if name == "ellipse" else problem.minimum + 0.0
        if name != "ellipse":
            np.testing.assert_allclose(problem.residuals(point), 0.0, atol=1e-12)
        _, covariance = law_by_definition(problem, point, 2, None)
        np.testing.assert_allclose(covariance, problem.label_noise**2 * problem.hessian(point) / 2, atol=1e-12)


@pytest.mark.parametrize("name", ["ellipse", pytest.param("diagonal", marks=pytest.mark.slow),
                                  pytest.param("matrix", marks=pytest.mark.slow),
                                  pytest.param("cycling", marks=pytest.mark.slow)])
def test_simulate_runs_thousands_of_chains(name):
    problem = TABLE[name]
    rate = 0.01 if name == "matrix" else 0.05
    result = ss.simulate(problem, ss.SGD(rate), batch_size=2, chains=3000, steps=2000, burn_in=1900,
                         statistics=[ss.statistics.Losses()])
    floor = 4 / 13 if name == "cycling" else 0.5 * float(problem.label_noise) ** 2
    assert result.status == "ok" and floor < float(result.train_loss) < 2 * floor
