"""Stationary moments written from the update rule alone: every batch of a tiny data set, one by one."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest


def batches(n, b, sampling):
    if sampling == "with_replacement":
        return list(itertools.product(range(n), repeat=b))
    return list(itertools.combinations(range(n), b))


def recursion(features, targets, rate, momentum, b, sampling, gamma=0.0, label_noise=0.0, steps=4000):
    """E w and Cov w after `steps` steps from w = 0, m = 0, for w <- w - L m, by E[z z'] of z = (w, m, 1)."""
    n, dim = features.shape
    gamma = gamma * np.eye(dim) if np.ndim(gamma) == 0 else np.asarray(gamma)
    size = 2 * dim + 1
    square, noise = np.zeros((size**2, size**2)), np.zeros((size, size))
    enter = np.vstack([-rate, np.eye(dim), np.zeros((1, dim))])
    listed = batches(n, b, sampling)
    for batch in listed:
        x, y = features[list(batch)], targets[list(batch)]
        row = np.hstack([x.T @ x / b + gamma, momentum * np.eye(dim), -(x.T @ y / b)[:, None]])  # the new m
        step = np.zeros((size, size))
        step[:dim, :dim], step[-1, -1] = np.eye(dim), 1
        step[:dim] -= rate @ row
        step[dim : 2 * dim] = row
        square += np.kron(step, step) / len(listed)
        noise += enter @ (label_noise**2 * x.T @ x / b**2) @ enter.T / len(listed)
    z = np.zeros(size)
    z[-1] = 1
    moment = np.outer(z, z).ravel()
    for _ in range(steps):
        moment = square @ moment + noise.ravel()
    moment = moment.reshape(size, size)
    mean = moment[:dim, -1]
    return mean, moment[:dim, :dim] - np.outer(mean, mean)


def gaussian_gradient_covariance(a, sigma, residual, b):
    """Cov of the mean of b gradients x (x'd + e), d ~ (0, sigma), by Isserlis, entry by entry."""
    d = len(a)
    out = np.zeros((d, d))
    for i, j, k, l in itertools.product(range(d), repeat=4):
        fourth = a[i, j] * a[k, l] + a[i, k] * a[j, l] + a[i, l] * a[j, k]
        out[i, j] += (fourth - a[i, k] * a[j, l]) * sigma[k, l]
    return (out + residual * a) / b


@pytest.fixture(scope="session")
def oracles():
    return SimpleNamespace(
        batches=batches, recursion=recursion, gaussian_gradient_covariance=gaussian_gradient_covariance
    )
