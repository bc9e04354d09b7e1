"""The slow, obvious float64 mathematics that every fast path is compared with: full planes, dense responsibilities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, logsumexp

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


def cosine_squares(patches: NDArray, remove_mean: bool) -> Array:
    """Return the squared coefficients of the orthonormal DCT-II, (n, prod(shape)); NaN at 0 without the mean."""
    axes = tuple(range(1, patches.ndim))
    plane = dctn(patches.astype(np.float64), axes=axes, norm="ortho").reshape(len(patches), -1) ** 2
    if remove_mean:
        plane[:, 0] = np.nan
    return plane


#: Squared coefficients on the full plane, by the name of the basis.
SQUARES = {"fourier": periodograms, "dct": cosine_squares}


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
    basis: str = "fourier",
    noise_var: float = 0.0,
) -> Course:
    """Run plain EM with dense responsibilities, without pruning; samples are a signal in white noise."""
    plane = SQUARES[basis](patches, remove_mean)
    used = ~np.isnan(plane[0])
    spectra = spectra.reshape(len(spectra), -1).astype(np.float64).copy()
    w = np.ones(len(plane)) if sample_weight is None else sample_weight
    floor = reg_spectrum * (w @ plane[:, used].mean(axis=1)) / w.sum()
    bounds = []
    for _ in range(n_iter):
        joint = log_density(plane, spectra + noise_var) + np.log(weights)
        total = logsumexp(joint, axis=1)
        bounds.append(w @ total / w.sum())
        gamma = np.exp(joint - total[:, None]) * w[:, None]
        share = gamma.sum(axis=0)
        weights = share / share.sum()
        spectra[:, used] = np.maximum(gamma.T @ plane[:, used] / share[:, None] - noise_var, floor)
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
    noise_var: float = 0.0,
) -> FullCourse:
    """Run plain EM with dense responsibilities, without pruning; samples are a signal in white noise."""

    def signal(scatter: Array) -> Array:
        if not noise_var:
            return scatter + reg_covar * np.eye(len(scatter))
        variances, axes = np.linalg.eigh(scatter)
        return axes @ np.diag(np.maximum(variances - noise_var, reg_covar)) @ axes.T

    X = X.astype(np.float64)
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    bounds = []
    for _ in range(n_iter):
        with np.errstate(divide="ignore"):
            noisy = covariances + noise_var * np.eye(X.shape[1])
            joint = full_log_density(X, means, noisy) + np.log(weights)
        total = logsumexp(joint, axis=1)
        bounds.append(w @ total / w.sum())
        gamma = np.exp(joint - total[:, None]) * w[:, None]
        share = gamma.sum(axis=0)
        weights = share / share.sum()
        means = np.zeros_like(means) if zero_means else gamma.T @ X / share[:, None]
        covariances = np.stack(
            [signal((gamma[:, k, None] * (X - means[k])).T @ (X - means[k]) / share[k]) for k in range(len(share))]
        )
    return FullCourse(np.array(bounds), weights, means, covariances)


def torus_window(shape: tuple[int, ...], torus: tuple[int, ...]) -> NDArray[np.complex128]:
    """Return B (n, N): the rows of the torus' unitary inverse transform where the patch lies."""
    x = np.indices(shape).reshape(len(shape), -1).T
    omega = np.indices(torus).reshape(len(torus), -1).T / np.array(torus)
    return np.exp(2j * np.pi * (x @ omega.T)) / np.sqrt(len(omega))


def mean_free(shape: tuple[int, ...], remove_mean: bool) -> Array:
    """Return orthonormal columns (n, E) of sum 0, or all (n, n)."""
    n = int(np.prod(shape))
    if not remove_mean:
        return np.eye(n)
    return np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1]


@dataclass
class TorusCourse:
    lower_bounds: Array
    weights: Array
    spectra: Array  # (K, *torus)


def torus_em(
    patches: NDArray,
    weights: Array,
    spectra: Array,
    *,
    remove_mean: bool,
    n_iter: int,
    inner_iter: int,
    reg_spectrum: float,
    sample_weight: Array | None = None,
) -> TorusCourse:
    """Run EM for windows of fields, with complex transforms and dense responsibilities, without pruning."""
    shape, torus = patches.shape[1:], spectra.shape[1:]
    axes = mean_free(shape, remove_mean)
    X = patches.reshape(len(patches), -1).astype(np.float64) @ axes
    B = axes.T @ torus_window(shape, torus)
    used = np.abs(B).sum(axis=0) > 1e-9  # ω = 0 is not seen without the mean
    lam = spectra.reshape(len(spectra), -1).astype(np.float64).copy()
    lam[:, ~used] = 0
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    floor = reg_spectrum * (w @ (X**2).mean(axis=1)) / w.sum()
    bounds = []
    for _ in range(n_iter):
        covariances = np.stack([((B * each) @ B.conj().T).real for each in lam])
        joint = full_log_density(X, np.zeros((len(lam), X.shape[1])), covariances) + np.log(weights)
        total = logsumexp(joint, axis=1)
        bounds.append(w @ total / w.sum())
        gamma = np.exp(joint - total[:, None]) * w[:, None]
        share = gamma.sum(axis=0)
        weights = share / share.sum()
        for k in range(len(lam)):
            S = (gamma[:, k, None] * X).T @ X / share[k]
            for _ in range(inner_iter):
                inverse = np.linalg.inv(((B * lam[k]) @ B.conj().T).real)
                found = (B.conj() * (inverse @ S @ inverse @ B)).sum(axis=0).real
                expected = (B.conj() * (inverse @ B)).sum(axis=0).real
                lam[k, used] = np.maximum(lam[k, used] * np.sqrt(found[used] / expected[used]), floor)
    return TorusCourse(np.array(bounds), weights, lam.reshape(spectra.shape))


def mutual_information_counts(joint, label, exponent, smoothing):
    """Return the criterion's value, and what each sample counts for each class, from log P_c (C,) and log p(x|c)."""
    prior, density = joint
    scaled = exponent * density + prior
    log_posterior = scaled - np.log(np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
    log_posterior -= scaled.max(axis=1, keepdims=True)
    rows = np.arange(len(label))
    value = (log_posterior[rows, label] + smoothing * exponent * density[rows, label]).mean()
    target = np.zeros_like(density)
    target[rows, label] = 1
    return value, (1 + smoothing) * target - np.exp(log_posterior)


def signals_in_noise(
    patches: Array, weights: Array, means: Array, covariances: Array, noise_var: float
) -> tuple[Array, Array]:
    """Return log π_k N(y; μ_k, C_k + v I), (n, K), and C_k (C_k + v I)⁻¹ (y − μ_k), (K, n, D)."""
    n, D = patches.shape
    joint, signals = np.empty((n, len(weights))), np.empty((len(weights), n, D))
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        noisy = covariance + noise_var * np.eye(D)
        solved = np.linalg.solve(noisy, (patches - mean).T).T
        joint[:, k] = np.log(weights[k]) - 0.5 * (
            ((patches - mean) * solved).sum(axis=1) + np.linalg.slogdet(2 * np.pi * noisy)[1]
        )
        signals[k] = solved @ covariance
    return joint, signals


def denoised_patches(
    patches: Array, weights: Array, means: Array, covariances: Array, noise_var: float, *, average: bool
) -> tuple[Array, NDArray]:
    """Return the estimate of each patch (n, D) in white noise under a mixture, and its likeliest component."""
    joint, signals = signals_in_noise(patches, weights, means, covariances, noise_var)
    estimates = means[:, None] + signals
    best = joint.argmax(axis=1)
    gamma = np.exp(joint - logsumexp(joint, axis=1, keepdims=True)) if average else np.eye(len(weights))[best]
    return np.einsum("nk,knd->nd", gamma, estimates), best


def circulant(spectra: Array) -> Array:
    """Return the covariances (K, n, n) of spectra (K, *shape)."""
    shape = spectra.shape[1:]
    n = int(np.prod(shape))
    axes = tuple(range(1, len(shape) + 1))
    transform = np.fft.fftn(np.eye(n).reshape(n, *shape), axes=axes, norm="ortho").reshape(n, n)
    return np.stack([(transform.conj() @ np.diag(s.ravel()) @ transform.T).real for s in spectra])


def reflected(spectra: Array) -> Array:
    """Return the covariances (K, n, n) of variances of cosine coefficients (K, *shape)."""
    shape = spectra.shape[1:]
    n = int(np.prod(shape))
    cosines = dctn(np.eye(n).reshape(n, *shape), axes=tuple(range(1, len(shape) + 1)), norm="ortho").reshape(n, n)
    return np.stack([cosines @ np.diag(s.ravel()) @ cosines.T for s in spectra])


def denoised_image(
    image: Array,
    patch: tuple[int, ...],
    remove_mean: bool,
    *mixture: Array,
    noise_var: float,
    average: bool,
    weighting: float,
) -> Array:
    """Return the mean of the estimates of all patches at every value of an image, weighted by (1 + tr filter)^−w."""
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    places = list(np.ndindex(*(s - p + 1 for s, p in zip(image.shape, patch, strict=True))))
    slices = [tuple(slice(i, i + p) for i, p in zip(place, patch, strict=True)) for place in places]
    patches = np.stack([image[s].ravel() for s in slices])
    mean = patches.mean(axis=1, keepdims=True) if remove_mean else 0
    estimates, best = denoised_patches(patches - mean, *mixture, noise_var, average=average)
    unit = np.eye(patches.shape[1])
    traces = np.array([np.trace(np.linalg.solve(c + noise_var * unit, c)) for c in mixture[2]])
    for s, estimate, weight in zip(slices, estimates + mean, (1 + traces[best]) ** -weighting, strict=True):
        total[s] += weight * estimate.reshape(patch)
        count[s] += weight
    return total / count


def adapted_mixture(
    patches: Array, weights: Array, means: Array, covariances: Array, noise_var: float, prior_count: float
) -> tuple[Array, Array]:
    """Return weights and covariances after a step of EM on noisy patches (n, D), whose signals are what is missing.

    Every component's expected moments of the signal, given each patch, are averaged with `prior_count` of its own.
    """
    n, D = patches.shape
    joint, signals = signals_in_noise(patches, weights, means, covariances, noise_var)
    uncertain = [c - c @ np.linalg.solve(c + noise_var * np.eye(D), c) for c in covariances]
    moments = signals[..., :, None] * signals[..., None, :] + np.stack(uncertain)[:, None]
    gamma = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    counts = gamma.sum(axis=0)
    sums = np.einsum("nk,knij->kij", gamma, moments) + prior_count * covariances
    return (counts + prior_count * weights) / (n + prior_count), sums / (counts + prior_count)[:, None, None]


def by_octaves(image: Array, sigma: float, change: Callable[[Array, float], Array], n: int, share: float) -> Array:
    """Return a changed image whose lowest frequencies are those of its changed half, by products with matrices."""
    changed = change(image, sigma)
    if n == 1:
        return changed
    whole = [cosine_matrix(size) for size in image.shape]
    half = [cosine_matrix((size + 1) // 2) for size in image.shape]
    corner = np.ix_(*(range(len(c)) for c in half))
    scale = np.sqrt(np.prod([len(c) for c in half]) / image.size)
    smaller = scale * transformed(transformed(image, whole)[corner], [c.T for c in half])
    below = transformed(by_octaves(smaller, scale * sigma, change, n - 1, share), half) / scale
    kept = np.ix_(*(range(int(np.ceil(share * len(c)))) for c in half))
    frequencies = transformed(changed, whole)
    frequencies[kept] = below[kept]
    return transformed(frequencies, [c.T for c in whole])


def cosine_matrix(n: int) -> Array:
    """Return the orthonormal DCT-II (n, n): frequencies along the rows."""
    matrix = np.sqrt(2 / n) * np.cos(np.pi * np.outer(np.arange(n), np.arange(n) + 0.5) / n)
    matrix[0] /= np.sqrt(2)
    return matrix


def transformed(image: Array, matrices: list[Array]) -> Array:
    """Multiply every axis of an image by its matrix."""
    for axis, matrix in enumerate(matrices):
        image = np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
    return image


@dataclass
class ScaledCourse:
    lower_bounds: Array
    weights: Array
    variances: Array  # (K, n, n) covariances at the scale 1, or (K, n) their diagonals
    scale_weights: Array


def scaled_densities(squares: Array, determinants: Array, scales: Array, n: int) -> Array:
    """Return log N(x; 0, s_j² C_k), (N, K, J), of squared distances (N, K) at the scale 1 and log-determinants (K,)."""
    q = scales**2
    inner = squares[:, :, None] / q + n * np.log(q) + determinants[:, None] + n * np.log(2 * np.pi)
    return -0.5 * inner


def scaled_em(
    squared: Array | None,
    X: Array,
    weights: Array,
    variances: Array,
    scales: Array,
    scale_weights: Array,
    *,
    n_iter: int,
    floor: float = 0.0,
    sample_weight: Array | None = None,
) -> ScaledCourse:
    """Run plain EM of Gaussian scale mixtures, dense: diagonal with squared coefficients (N, n), else full with X."""
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    bounds = []
    n = X.shape[1] if squared is None else squared.shape[1]
    for _ in range(n_iter):
        if squared is None:
            distances = np.stack([(X * np.linalg.solve(C, X.T).T).sum(axis=1) for C in variances], axis=1)
            determinants = np.array([np.linalg.slogdet(C)[1] for C in variances])
        else:
            distances, determinants = squared @ (1 / variances).T, np.log(variances).sum(axis=1)
        joint = scaled_densities(distances, determinants, scales, n) + np.log(weights[:, None] * scale_weights)
        total = logsumexp(joint, axis=(1, 2))
        bounds.append(w @ total / w.sum())
        gamma = np.exp(joint - total[:, None, None]) * w[:, None, None]
        shares = gamma.sum(axis=0)
        N = shares.sum(axis=1)
        weights, scale_weights = N / N.sum(), shares / N[:, None]
        u = (gamma / scales**2).sum(axis=2)
        if squared is None:
            variances = np.stack([(u[:, k, None] * X).T @ X / N[k] for k in range(len(N))])
        else:
            variances = np.maximum(u.T @ squared / N[:, None], floor)
    return ScaledCourse(np.array(bounds), weights, variances, scale_weights)


@dataclass
class StudentCourse:
    lower_bounds: Array
    weights: Array
    means: Array  # (K, n)
    variances: Array  # (K, n, n) covariances of Gaussians at w = 1, or (K, n) their diagonals
    df: Array


def student_densities(squares: Array, determinants: Array, df: Array, n: int) -> Array:
    """Return log p(x|k), (N, K), of squared distances (N, K), log-determinants (K,) and degrees of freedom (K,)."""
    constant = gammaln((df + n) / 2) - gammaln(df / 2) - 0.5 * (n * np.log(df * np.pi) + determinants)
    return constant - 0.5 * (df + n) * np.log1p(squares / df)


def student_em(
    squared: Array | None,
    X: Array,
    weights: Array,
    means: Array,
    variances: Array,
    df: Array,
    *,
    n_iter: int,
    free_means: bool = False,
    sample_weight: Array | None = None,
) -> StudentCourse:
    """Run parameter-expanded EM of Student's t, dense: diagonal with squared coefficients (N, n), else full with X."""
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    bounds = []
    n = X.shape[1] if squared is None else squared.shape[1]
    for _ in range(n_iter):
        if squared is None:
            apart = [X - mean for mean in means]
            distances = np.stack(
                [(Y * np.linalg.solve(C, Y.T).T).sum(axis=1) for Y, C in zip(apart, variances, strict=True)], axis=1
            )
            determinants = np.array([np.linalg.slogdet(C)[1] for C in variances])
        else:
            distances, determinants = squared @ (1 / variances).T, np.log(variances).sum(axis=1)
        joint = student_densities(distances, determinants, df, n) + np.log(weights)
        total = logsumexp(joint, axis=1)
        bounds.append(w @ total / w.sum())
        gamma = np.exp(joint - total[:, None]) * w[:, None]
        # Of w given a sample: a Gamma distribution of the shape (df + n) / 2 and the rate (df + distance) / 2.
        shape, rate = (df + n) / 2, (df + distances) / 2
        u, logarithm = shape / rate, digamma(shape) - np.log(rate)
        N, U = gamma.sum(axis=0), (gamma * u).sum(axis=0)
        weights = N / N.sum()
        if squared is not None:
            variances = (gamma * u).T @ squared / U[:, None]
        else:
            if free_means:
                means = (gamma * u).T @ X / U[:, None]
            apart = [X - mean for mean in means]
            moments = [(gamma[:, k, None] * u[:, k, None] * Y).T @ Y for k, Y in enumerate(apart)]
            variances = np.stack(moments) / U[:, None, None]
        constant = (gamma * logarithm).sum(axis=0) / N - np.log(U / N)
        df = np.array([brentq(lambda v, c=c: np.log(v / 2) - digamma(v / 2) + c, 0.01, 1e6) for c in constant])
    return StudentCourse(np.array(bounds), weights, means, variances, df)
