"""Starting points.

Samples are drawn through the cumulative weight over an order that their values alone decide, so that a start does not
depend on the order of the samples, and a sample that is repeated counts like one with a larger weight.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

#: Samples drawn for each component. Measured with 50 iterations on 200,000 photograph patches of 16×16 and on the
#: digits, 2026-11: five times as many gain nothing. Fewer where they would fill more than so many bytes, but some.
_DRAWS_PER_COMPONENT = 100
_LEAST_DRAWS_PER_COMPONENT = 20
_DRAWN_BYTES = 1 << 26

#: How many samples the mean spectrum counts for beside the single sample that a component starts from.
_MEAN_COUNTS_FOR = 2.0

#: Values worked on at a time, 32 MiB in float64.
_BLOCK_VALUES = 1 << 22

#: Steps of k-means that refine its start, and the mean variance's share that ends them early.
_K_MEANS_STEPS = 20
_K_MEANS_TOLERANCE = 1e-4

#: Samples averaged for one component of the random start.
_SAMPLES_PER_RANDOM_COMPONENT = 20


def draw(
    power: NDArray[Any], sample_weight: NDArray[np.float64] | None, n: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Draw n sample indices with replacement, in proportion to `sample_weight`, ordered by `power` (n_samples,)."""
    order = np.argsort(power, kind="stable")
    if sample_weight is None:  # as weights of 1 would, without their sums in memory
        chosen = (rng.uniform(size=n) * len(order)).astype(np.intp)
    else:
        cumulative = np.cumsum(sample_weight[order])
        chosen = np.searchsorted(cumulative, rng.uniform(size=n) * cumulative[-1], side="right")
    return np.asarray(order[np.minimum(chosen, len(order) - 1)])


def n_draws(n_components: int, n_values: int, itemsize: int) -> int:
    """Return how many samples of `n_values` values a start for so many components draws."""
    fitting = _DRAWN_BYTES // (n_values * itemsize)
    return n_components * min(max(fitting // n_components, _LEAST_DRAWS_PER_COMPONENT), _DRAWS_PER_COMPONENT)


def _trials(distances: NDArray[np.float64], n: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Draw n indices in proportion to `distances`; all alike when they are 0, as when samples repeat."""
    cumulative = np.cumsum(distances)
    if not cumulative[-1] > 0:
        cumulative = np.arange(1.0, len(distances) + 1)
    drawn = np.searchsorted(cumulative, rng.uniform(size=n) * cumulative[-1], side="right")
    return np.asarray(np.minimum(drawn, len(distances) - 1))


def kmeans_plus_plus(
    coefficients: NDArray[Any],
    multiplicities: NDArray[np.float64],
    power: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    n_components: int,
    floor: float,
    rng: np.random.RandomState,
    n_threads: int,
) -> NDArray[np.float64]:
    """Choose spectra that are far apart, as k-means++ does for means (Arthur and Vassilvitskii, SODA 2007).

    Its squared distance becomes the log-likelihood that a sample lacks under the spectra chosen so far, compared with
    its own spectrum: the Itakura–Saito divergence. A sample's own spectrum is its periodogram drawn towards the mean
    spectrum at the sample's scale, since a periodogram alone is far too rough. Each spectrum is the best of several
    that are drawn in proportion to that distance.

    Parameters
    ----------
    coefficients : ndarray of shape (n, D), float32 or float64
        Squared coefficients.
    multiplicities : ndarray of shape (D,)
        Multiplicities of the frequencies.
    power : ndarray of shape (n,)
        Mean power of each sample per degree of freedom.
    sample_weight : ndarray of shape (n,) or None
        Weights.
    n_components : int
        Number of spectra, K.
    floor : float
        Least value of a spectrum.
    rng : RandomState
        Source of the draws.
    n_threads : int
        Threads for the densities.

    Returns
    -------
    spectra : ndarray of shape (K, D), float64
    """
    size = n_draws(n_components, coefficients.shape[1], coefficients.itemsize)
    drawn = coefficients[draw(power, sample_weight, size, rng)]
    mean = np.maximum(drawn.mean(axis=0, dtype=np.float64), floor)
    # Not matrix products here: a library's may depend on its threads.
    relative = multiplicities / multiplicities.sum()

    def own(samples: NDArray[Any]) -> NDArray[np.float64]:
        scale = np.einsum("nd,d->n", samples, relative / mean)[:, None]
        return np.asarray(np.maximum((samples + _MEAN_COUNTS_FOR * scale * mean) / (1 + _MEAN_COUNTS_FOR), floor))

    own_density = np.empty(len(drawn))
    step = max(1, _BLOCK_VALUES // drawn.shape[1])  # a float64 copy of all drawn samples would be large
    for first in range(0, len(drawn), step):
        block = drawn[first : first + step]
        spectra = own(block)
        density = np.einsum("nd,d->n", block / spectra + np.log(2 * np.pi * spectra), multiplicities)
        own_density[first : first + step] = -0.5 * density
    n_trials = 2 + int(np.log(n_components))
    spectra = np.empty((n_components, coefficients.shape[1]))
    best = np.full(len(drawn), -np.inf)
    for k in range(n_components):
        trials = _trials(np.maximum(own_density - best, 0) if k else np.ones(len(drawn)), n_trials, rng)
        tried = own(drawn[trials])
        normalisers = -0.5 * np.einsum("kd,d->k", np.log(2 * np.pi * tried), multiplicities)
        density = _core.spectral_log_density(drawn, multiplicities, tried, normalisers, n_threads)
        improved = np.maximum(best[:, None], density)
        winner = improved.sum(axis=0, dtype=np.float64).argmax()
        best = improved[:, winner].astype(np.float64)
        spectra[k] = tried[winner]
    return spectra


def random_averages(
    coefficients: NDArray[Any],
    power: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    n_components: int,
    floor: float,
    rng: np.random.RandomState,
) -> NDArray[np.float64]:
    """Average the squared coefficients of a few random samples for each component; (K, D)."""
    chosen = draw(power, sample_weight, _SAMPLES_PER_RANDOM_COMPONENT * n_components, rng)
    groups = coefficients[rng.permutation(chosen)].reshape(n_components, _SAMPLES_PER_RANDOM_COMPONENT, -1)
    return np.asarray(np.maximum(groups.mean(axis=1, dtype=np.float64), floor))


def k_means(
    samples: NDArray[np.float64], n_clusters: int, rng: np.random.RandomState, n_threads: int
) -> NDArray[np.float64]:
    """Return cluster centres: k-means++ (Arthur and Vassilvitskii, SODA 2007), refined by a few of Lloyd's steps.

    The bits of the result depend on the samples and the random state alone, unlike those of libraries that add up in
    threads, and nothing is changed for the rest of the process.

    Parameters
    ----------
    samples : ndarray of shape (n, D), float64
        At least one.
    n_clusters : int
        Number of centres, K.
    rng : RandomState
        Source of the draws.
    n_threads : int
        Threads for the distances.

    Returns
    -------
    centres : ndarray of shape (K, D), float64
    """
    offset = samples.mean(axis=0)
    samples = samples - offset
    norms = np.einsum("nd,nd->n", samples, samples)

    def squared_distances(centres: NDArray[np.float64]) -> NDArray[np.float64]:
        products = _products(samples, centres, n_threads)
        return np.asarray(np.maximum(norms[:, None] - 2 * products + np.einsum("kd,kd->k", centres, centres), 0))

    n_trials = 2 + int(np.log(n_clusters))
    # In proportion to weights of 1: as scikit-learn's k-means draws, so that a random state means the same start.
    chosen = [int(rng.choice(len(samples), p=np.full(len(samples), 1 / len(samples))))]
    nearest_so_far = squared_distances(samples[chosen])[:, 0]
    for _ in range(1, n_clusters):
        trials = _trials(nearest_so_far, n_trials, rng)
        tried = np.minimum(nearest_so_far[:, None], squared_distances(samples[trials]))
        best = tried.sum(axis=0).argmin()
        nearest_so_far = tried[:, best]
        chosen.append(int(trials[best]))
    centres = samples[chosen]
    labels = np.full(len(samples), -1)
    for _ in range(_K_MEANS_STEPS):
        before, labels = labels, squared_distances(centres).argmin(axis=1)
        order = np.argsort(labels, kind="stable")
        occupied, first = np.unique(labels[order], return_index=True)
        moved = centres.copy()  # a centre that no sample is nearest to stays
        moved[occupied] = np.add.reduceat(samples[order], first) / np.bincount(labels)[occupied, None]
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if np.array_equal(labels, before) or shift <= _K_MEANS_TOLERANCE * samples.var(axis=0).mean():
            break
    return np.asarray(centres + offset)


def nearest(samples: NDArray[Any], centres: NDArray[np.float64], n_threads: int) -> NDArray[np.intp]:
    """Return the index of the centre (K, D) that each sample (n, D) is nearest to, (n,)."""
    squares = np.einsum("kd,kd->k", centres, centres)
    labels = np.empty(len(samples), dtype=np.intp)
    step = max(1, _BLOCK_VALUES // len(centres))
    for first in range(0, len(samples), step):
        products = _products(samples[first : first + step], centres, n_threads)
        # ‖x − c‖² without ‖x‖²
        labels[first : first + step] = (squares.astype(products.dtype) - 2 * products).argmin(axis=1)
    return labels


def _products(samples: NDArray[Any], centres: NDArray[np.float64], n_threads: int) -> NDArray[Any]:
    """Return the inner products of samples (n, D) and centres (K, D), (n, K)."""
    return _core.project(samples, np.zeros(samples.shape[1]), np.ascontiguousarray(centres.T), n_threads)
