"""Figures that describe a mixture: how redundant its components are, and how well they follow known classes."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ..estimator import Mixture


def overlap(model: Mixture) -> float:
    """Return the mean, over components, of the divergence to the nearest other one, in nats per sample.

    The divergence is that of Kullback and Leibler (1951). Small means redundant; NaN for a single
    component.
    """
    if model.n_components_ < 2:
        return float("nan")
    divergence = model.model_.divergence()
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
