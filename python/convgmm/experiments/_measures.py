"""Figures that describe a mixture: how redundant its components are, how they follow known classes, what it draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ..estimator import Mixture
from ..initialize import k_means


def overlap(model: Mixture, *, of_shapes: bool = False) -> float:
    """Return the mean, over components, of the divergence to the nearest other one, in nats per sample.

    The divergence is that of Kullback and Leibler (1951). Small means redundant; NaN for a single
    component. Of shapes, it is that at the contrast where it is least: then a copy of a component at another contrast
    is redundant, too.
    """
    if model.n_components_ < 2:
        return float("nan")
    divergence = model.model_.shape_divergence() if of_shapes else model.model_.divergence()
    np.fill_diagonal(divergence, np.inf)
    return float(divergence.min(axis=1).mean())


def class_measures(labels: NDArray[np.int64], components: NDArray[np.int64]) -> dict[str, float]:
    """Compare components with classes.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Classes.
    components : ndarray of shape (n,)
        The component that each sample is assigned to.

    Returns
    -------
    measures : dict
        ``purity``, the share of samples in the commonest class of their component; ``nmi``, normalised mutual
        information (arithmetic mean); ``ari``, the adjusted Rand index; ``class_entropy``, the mean entropy of the
        class given the component, in nats.
    """
    counts = contingency_matrix(labels, components).astype(np.float64)  # (classes, components that occur)
    share = counts / counts.sum(axis=0)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1)), axis=0)
    return {
        "purity": float(counts.max(axis=0).sum() / counts.sum()),
        "nmi": float(normalized_mutual_info_score(labels, components)),
        "ari": float(adjusted_rand_score(labels, components)),
        "class_entropy": float(entropy @ counts.sum(axis=0) / counts.sum()),
    }


def effective_numbers(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return exp(−Σ p log p) of each row (n,) of counts (n, m): a row spread evenly over r columns has r of them."""
    share = counts / counts.sum(axis=1, keepdims=True)
    return np.asarray(np.exp(-np.sum(share * np.log(np.where(share > 0, share, 1)), axis=1)))


def different_bins(
    reference: NDArray[Any],
    compared: Sequence[NDArray[Any]],
    n_bins: int,
    rng: np.random.RandomState,
    level: float = 0.05,
) -> list[float]:
    """Return the share of bins that others fall into with another frequency than the reference, for each of them.

    The number of statistically different bins of Richardson and Weiss (2018), by a test of two proportions.

    Parameters
    ----------
    reference : ndarray of shape (n, …)
        Samples; the bins are the cells of k-means on up to 4,000 of them.
    compared : sequence of ndarray of shape (m, …)
        Others.
    n_bins : int
        How many.
    rng : RandomState
        Source of the bins.
    level : float, default=0.05
        How often samples of the same distribution differ in a bin.
    """
    flat = [each.reshape(len(each), -1).astype(np.float64) for each in (reference, *compared)]
    centres = k_means(flat[0][:4000], n_bins, rng, 0)
    squares = (centres**2).sum(axis=1)
    counts = [np.bincount((squares - 2 * each @ centres.T).argmin(axis=1), minlength=n_bins) for each in flat]
    n = len(reference)
    found = []
    for count, m in zip(counts[1:], map(len, compared), strict=True):
        pooled = (counts[0] + count) / (n + m)
        deviation = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n + 1 / m), 1e-300))
        found.append(float(np.mean(np.abs(counts[0] / n - count / m) / deviation > norm.isf(level / 2))))
    return found
