"""Figures that describe a mixture: how redundant its components are, and how well they follow known classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ..conv import ConvGMM
from ..full import FullGMM
from ..mixture import Mixture


def overlap(model: Mixture[Any, Any, Any]) -> float:
    """Return the mean, over components, of the divergence to the nearest other one, in nats per sample.

    The divergence is that of Kullback and Leibler (1951) between Gaussians. Small means redundant; NaN for a single
    component.
    """
    if model.n_components_ < 2:
        return float("nan")
    if isinstance(model, ConvGMM):
        divergence = _between_spectra(model)
    else:
        assert isinstance(model, FullGMM)
        divergence = _between_gaussians(model)
    np.fill_diagonal(divergence, np.inf)
    return float(divergence.min(axis=1).mean())


def _between_spectra(model: ConvGMM) -> NDArray[np.float64]:
    """Return ½ Σ_ω [S_k/S_j − log S_k/S_j − 1], (K, K)."""
    spectra = model.spectra_.reshape(model.n_components_, -1)
    spectra = spectra[:, spectra[0] > 0]
    log_determinant = np.log(spectra).sum(axis=1)
    difference = log_determinant[:, None] - log_determinant
    return np.asarray(0.5 * (spectra @ (1 / spectra).T - difference - spectra.shape[1]))


def _between_gaussians(model: FullGMM) -> NDArray[np.float64]:
    """Return ½ [tr C_j⁻¹C_k − log |C_k|/|C_j| − D + (μ_k − μ_j)ᵀ C_j⁻¹ (μ_k − μ_j)], (K, K)."""
    K, D = model.means_.shape
    factors = model.precisions_cholesky_
    precisions = factors @ factors.transpose(0, 2, 1)
    trace = model.covariances_.reshape(K, -1) @ precisions.reshape(K, -1).T
    log_determinant = -2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    shifts = np.stack([(((model.means_ - m) @ f) ** 2).sum(axis=1) for m, f in zip(model.means_, factors, strict=True)])
    return np.asarray(0.5 * (trace - (log_determinant[:, None] - log_determinant) - D + shifts.T))


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
