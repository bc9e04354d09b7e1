"""Figures that describe a mixture: how redundant its components are, and how well they follow known classes."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ..conv import ConvGMM


def overlap(model: ConvGMM) -> float:
    """Return the mean, over components, of the divergence to the nearest other one, in nats per sample.

    Between zero-mean Gaussians of spectra S and T it is ½ Σ_ω [S/T − log S/T − 1] (Kullback and Leibler 1951). Small
    means redundant; NaN for a single component.
    """
    spectra = model.spectra_.reshape(model.n_components_, -1)
    spectra = spectra[:, spectra[0] > 0]
    if len(spectra) < 2:
        return float("nan")
    logs = np.log(spectra)
    # Σ S_k/S_j as a matrix product, Σ log S_k − Σ log S_j from row sums.
    divergence = 0.5 * (
        spectra @ (1 / spectra).T - (logs.sum(axis=1)[:, None] - logs.sum(axis=1)[None]) - spectra.shape[1]
    )
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
