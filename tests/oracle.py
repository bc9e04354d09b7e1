"""The slow, obvious float64 mathematics that every fast path is compared with: full planes, dense responsibilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[np.float64]


def periodograms(patches: NDArray, remove_mean: bool) -> Array:
    """Return |X(ω)|² on the full plane, (n, prod(shape)); NaN at ω = 0 when the mean is removed."""
    axes = tuple(range(1, patches.ndim))
    patches = patches.astype(np.float64)
    if remove_mean:
        patches = patches - patches.mean(axis=axes, keepdims=True)
    plane = np.abs(np.fft.fftn(patches, axes=axes, norm="ortho")).reshape(len(patches), -1) ** 2
    if remove_mean:
        plane[:, 0] = np.nan
    return plane


def log_density(plane: Array, spectra: Array) -> Array:
    """Return log p(x|k), (n, K): the sum runs over all frequencies that the model has."""
    spectra = spectra.reshape(len(spectra), -1)
    used = ~np.isnan(plane[0])
    P, S = plane[:, used], spectra[:, used]
    return -0.5 * (P @ (1 / S).T + np.log(S).sum(axis=1) + used.sum() * np.log(2 * np.pi))


@dataclass
class Course:
    lower_bounds: Array
    weights: Array
    spectra: Array  # (K, prod(shape)); 0 at ω = 0 when the mean is removed


def em(
    patches: NDArray,
    weights: Array,
    spectra: Array,
    *,
    remove_mean: bool,
    n_iter: int,
    reg_spectrum: float,
    sample_weight: Array | None = None,
) -> Course:
    """Run plain EM with dense responsibilities, without pruning."""
    plane = periodograms(patches, remove_mean)
    used = ~np.isnan(plane[0])
    spectra = spectra.reshape(len(spectra), -1).astype(np.float64).copy()
    w = np.ones(len(plane)) if sample_weight is None else sample_weight
    floor = reg_spectrum * (w @ plane[:, used].mean(axis=1)) / w.sum()
    bounds = []
    for _ in range(n_iter):
        joint = log_density(plane, spectra) + np.log(weights)
        total = logsumexp(joint, axis=1)
        bounds.append(w @ total / w.sum())
        gamma = np.exp(joint - total[:, None]) * w[:, None]
        share = gamma.sum(axis=0)
        weights = share / share.sum()
        spectra[:, used] = np.maximum(gamma.T @ plane[:, used] / share[:, None], floor)
    if not used[0]:
        spectra[:, 0] = 0
    return Course(np.array(bounds), weights, spectra)


def symmetric_spectra(rng: np.random.Generator, n_components: int, shape: tuple[int, ...]) -> Array:
    """Return random positive spectra (K, *shape) with equal values at ω and −ω."""
    axes = tuple(range(1, len(shape) + 1))
    spectra = rng.uniform(0.5, 2.0, size=(n_components, *shape))
    mirrored = np.roll(np.flip(spectra, axes), 1, axes)
    return (spectra + mirrored) / 2


def full_log_density(X: NDArray, means: Array, covariances: Array) -> Array:
    """Return log N(x; μ_k, C_k), (n, K), by solving with each covariance."""
    columns = []
    for mean, covariance in zip(means, covariances, strict=True):
        d = X.astype(np.float64) - mean
        squared = (d * np.linalg.solve(covariance, d.T).T).sum(axis=1)
        columns.append(-0.5 * (squared + np.linalg.slogdet(covariance)[1] + X.shape[1] * np.log(2 * np.pi)))
    return np.stack(columns, axis=1)


@dataclass
class FullCourse:
    lower_bounds: Array
    weights: Array
    means: Array
    covariances: Array


def full_em(
    X: NDArray,
    weights: Array,
    means: Array,
    covariances: Array,
    *,
    n_iter: int,
    reg_covar: float,
    zero_means: bool = False,
    sample_weight: Array | None = None,
) -> FullCourse:
    """Run plain EM with dense responsibilities, without pruning."""
    X = X.astype(np.float64)
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    bounds = []
    for _ in range(n_iter):
        with np.errstate(divide="ignore"):
            joint = full_log_density(X, means, covariances) + np.log(weights)
        total = logsumexp(joint, axis=1)
        bounds.append(w @ total / w.sum())
        gamma = np.exp(joint - total[:, None]) * w[:, None]
        share = gamma.sum(axis=0)
        weights = share / share.sum()
        means = np.zeros_like(means) if zero_means else gamma.T @ X / share[:, None]
        covariances = np.stack(
            [
                (gamma[:, k, None] * (X - means[k])).T @ (X - means[k]) / share[k] + reg_covar * np.eye(X.shape[1])
                for k in range(len(share))
            ]
        )
    return FullCourse(np.array(bounds), weights, means, covariances)
