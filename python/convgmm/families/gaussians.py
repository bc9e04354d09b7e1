"""Plain Gaussians in the two forms that the core restores patches with, as families hand them out.

Both estimate the signal x in patches y = x + noise of variance v:

    x̂_k = μ_k + C_k (C_k + v I)⁻¹ (y − μ_k),    k the component with the largest π_k N(y; μ_k, C_k + v I),

or the posterior mean Σ_k γ_k x̂_k.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import _core

Floats = NDArray[np.floating[Any]]

# The share of the mean variance below which a mixture does not model its patches' means.
_LEAST_MEAN = 0.01


@dataclass(frozen=True, eq=False)
class Gaussians:
    """A mixture of Gaussians that patches can be restored with.

    Attributes
    ----------
    log_weights : ndarray of shape (K,)
        log π_k.
    removes_mean : bool
        Whether a patch's mean is no part of the model: it is taken away before, and given back.
    components : ndarray of shape (K,), int64, or None
        Which component of the mixture each Gaussian is, where one has several scales.
    """

    log_weights: NDArray[np.float64]
    removes_mean: bool
    components: NDArray[np.int64] | None = field(default=None, kw_only=True)

    #: Does the order of a sample's values not matter, so that samples may be patches that were flattened?
    may_be_flattened: ClassVar[bool]
    #: The core's functions for this form.
    _estimate: ClassVar[Callable[..., tuple[Any, NDArray[np.int32]]]]
    _add_estimates: ClassVar[Callable[..., None]]

    def for_patches_without_mean(self) -> "Gaussians":
        """Return the mixture with patches' means taken away if it was trained on patches without them, else itself."""
        return self

    def _parts(self) -> tuple[NDArray[Any], ...]:
        raise NotImplementedError

    def estimate(
        self, patches: Floats, noise_var: float, *, average: bool = False, n_threads: int = 0
    ) -> tuple[Floats, NDArray[np.int32]]:
        """Return the estimates of flattened patches (n, n_values), and the component of each one's likeliest."""
        options = noise_var, self.removes_mean, average, n_threads
        estimates, likeliest = type(self)._estimate(patches, *options, *self._parts(), self.log_weights)
        return estimates, likeliest if self.components is None else self.components[likeliest].astype(np.int32)

    def adapted(self, patches: Floats, noise_var: float, prior_count: float, *, n_threads: int = 0) -> "Gaussians":
        """Return the mixture after one step of EM on noisy patches, as if `prior_count` more had followed the mixture.

        With F_k = C_k (C_k + v I)⁻¹, N_k = Σ γ_k, N patches, and a for the count, which every component has for itself,

            C_k ← [Σ γ_k F_k (y − μ_k)(y − μ_k)ᵀ F_kᵀ + N_k v F_k + a C_k] / (N_k + a),   π_k ← (N_k + a π_k) / (N + a).

        Means stay.

        Parameters
        ----------
        patches : ndarray of shape (n, n_values)
            Noisy patches, flattened, without their means where the model leaves them out.
        noise_var : float
            Variance v of the noise.
        prior_count : float
            The number a.
        n_threads : int, default=0
            Threads; 0: what OpenMP would use.

        Returns
        -------
        adapted : Gaussians
            Of the same form.

        Raises
        ------
        ValueError
            If a patch has no density.
        """
        with _density_explained():
            adapted, counts = self._adapted(patches, noise_var, prior_count, n_threads)
        weights = (counts + prior_count * np.exp(self.log_weights)) / (counts.sum() + prior_count)
        return replace(adapted, log_weights=np.log(np.maximum(weights, np.finfo(np.float64).tiny)))

    def _adapted(
        self, patches: Floats, noise_var: float, prior_count: float, n_threads: int
    ) -> tuple["Gaussians", NDArray[np.float64]]:
        """Return the mixture with adapted covariances, and N_k."""
        raise NotImplementedError

    def add_estimates(
        self,
        noisy: Floats,
        sums: Floats,
        counts: Floats,
        patch: tuple[int, ...],
        stride: int,
        seed: int,
        tiles: tuple[int, int],
        noise_var: float,
        *,
        average: bool,
        weighting: float,
        n_threads: int,
    ) -> None:
        """Add the estimates of the patches in some tiles of an image, times their weights, and the weights."""
        options = (*tiles, noise_var, self.removes_mean, average, weighting, n_threads)
        parts = *self._parts(), self.log_weights
        type(self)._add_estimates(noisy, sums, counts, patch, stride, seed, *options, *parts)


@dataclass(frozen=True, eq=False)
class Diagonal(Gaussians):
    """Zero-mean Gaussians that are diagonal in one orthonormal basis.

    Attributes
    ----------
    axes : ndarray of shape (n_values, E)
        The basis, as columns.
    group : ndarray of shape (E,), int64
        Which variance each coordinate has.
    variances : ndarray of shape (K, D)
        The variances.
    """

    axes: NDArray[np.float64]
    group: NDArray[np.int64]
    variances: NDArray[np.float64]

    may_be_flattened: ClassVar[bool] = False
    _estimate = staticmethod(_core.restore_diagonal)
    _add_estimates = staticmethod(_core.restore_add_diagonal)

    def _parts(self) -> tuple[NDArray[Any], ...]:
        return self.axes, self.group, self.variances

    def _adapted(
        self, patches: Floats, noise_var: float, prior_count: float, n_threads: int
    ) -> tuple["Diagonal", NDArray[np.float64]]:
        origin = np.zeros(patches.shape[1])
        first_of_groups = np.argsort(self.group, kind="stable")
        coordinates = _core.project(patches, origin, np.ascontiguousarray(self.axes[:, first_of_groups]), n_threads)
        size = np.bincount(self.group).astype(np.float64)
        begins = np.concatenate([[0], np.cumsum(size)[:-1]]).astype(np.int64)
        with np.errstate(over="ignore"):  # the core says which sample has no density
            squares = np.add.reduceat(coordinates**2, begins, axis=1) / size.astype(patches.dtype)
        noisy = self.variances + noise_var
        constants = self.log_weights - 0.5 * (np.log(noisy) * size).sum(axis=1)
        counts, power, _ = _core.spectral_expect(squares, size, noisy, constants, None, n_threads)
        share, gain = counts[:, None], self.variances / noisy
        sums = gain**2 * power + share * noise_var * gain + prior_count * self.variances
        return replace(self, variances=sums / (share + prior_count)), counts


@dataclass(frozen=True, eq=False)
class Rotated(Gaussians):
    """Gaussians with full covariances, in the coordinates (y − centre) · axes.

    Attributes
    ----------
    centre : ndarray of shape (n_values,)
        Origin of the coordinates.
    axes : ndarray of shape (n_values, E)
        Orthonormal columns.
    means : ndarray of shape (K, E)
        In these coordinates.
    covariances : ndarray of shape (K, E, E)
        In these coordinates.
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    may_be_flattened: ClassVar[bool] = True
    _estimate = staticmethod(_core.restore_rotated)
    _add_estimates = staticmethod(_core.restore_add_rotated)

    def for_patches_without_mean(self) -> "Gaussians":
        """Return the mixture with patches' means taken away if next to nothing is modelled of them, else itself."""
        # Of patches whose means were removed, nothing varies along the constant but what was added to the diagonal.
        D, weights = len(self.centre), np.exp(self.log_weights)
        constant = self.axes.T @ np.full(D, D**-0.5)
        along = np.einsum("i,kij,j->k", constant, self.covariances, constant)
        along += (self.means @ constant + self.centre.sum() * D**-0.5) ** 2
        mean = weights @ np.einsum("kii->k", self.covariances) / D
        return replace(self, removes_mean=self.removes_mean or bool(weights @ along < _LEAST_MEAN * mean))

    def _parts(self) -> tuple[NDArray[Any], ...]:
        return self.centre, self.axes, self.means, self.covariances

    def _adapted(
        self, patches: Floats, noise_var: float, prior_count: float, n_threads: int
    ) -> tuple["Rotated", NDArray[np.float64]]:
        coordinates = _core.project(patches, self.centre, self.axes, n_threads)
        factorize = _core.full_factorize_float32 if patches.dtype == np.float32 else _core.full_factorize_float64
        noisy = self.covariances + noise_var * np.eye(self.covariances.shape[1])
        whiteners, log_diagonal, _, _ = factorize(noisy, n_threads)
        unknown = np.full(len(patches), -1, dtype=np.int32)
        counts, _, moments, *_ = _core.full_expect(
            coordinates, self.means, whiteners, self.log_weights + log_diagonal, None, unknown, [], n_threads
        )
        covariances = _core.restore_adapt(self.covariances, moments, counts, noise_var, prior_count, n_threads)
        return replace(self, covariances=covariances), counts


def average_of_patches(
    gaussians: Gaussians,
    noisy: Floats,
    patch: tuple[int, ...],
    noise_var: float,
    *,
    average: bool = False,
    weighting: float = 0.0,
    stride: int = 1,
    seed: int = 0,
    n_threads: int = 0,
    progress: Iterable[tuple[int, int]] | None = None,
) -> Floats:
    """Return the mean, at every value of an image, of the estimates of all patches that hold it.

    Parameters
    ----------
    gaussians : Gaussians
        The mixture.
    noisy : ndarray, float32 or float64
        The image, C-contiguous.
    patch : tuple of int
        Shape of a patch.
    noise_var : float
        Variance of the noise.
    average : bool, default=False
        The posterior mean instead of the likeliest component's estimate.
    weighting : float, default=0
        Estimates under component k count with the weight (1 + tr C_k (C_k + v I)⁻¹) to the power −`weighting`: those
        that keep little of the noise the more.
    stride : int, default=1
        One patch in every cell of so many values a side, at most half a patch.
    seed : int, default=0
        Of the places of patches in their cells.
    n_threads : int, default=0
        Threads; 0: what OpenMP would use.
    progress : iterable of (first, last), default=None
        Tiles worked on together, as `tile_ranges` gives them.

    Returns
    -------
    mean : ndarray
        Of the image's shape and dtype.

    Raises
    ------
    ValueError
        If a patch has no density.
    """
    sums, counts = np.zeros_like(noisy), np.zeros_like(noisy)
    for tiles in progress or tile_ranges(noisy.shape, patch, stride):
        with _density_explained():
            gaussians.add_estimates(
                noisy,
                sums,
                counts,
                patch,
                stride,
                seed,
                tiles,
                noise_var,
                average=average,
                weighting=weighting,
                n_threads=n_threads,
            )
    sums /= counts
    return sums


@contextmanager
def _density_explained() -> Iterator[None]:
    try:
        yield
    except _core.NoDensity:
        raise ValueError(
            "a patch of the image has no finite log-density under any component: its values are too far from the "
            "model's; is data_range what white is?"
        ) from None


#: Tiles that one call of the core works on: beyond, it would be seconds between two looks at a progress bar.
_TILES = 512


def tile_ranges(image: tuple[int, ...], patch: tuple[int, ...], stride: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of tiles; they depend on the shapes alone."""
    n = _core.restore_tile_count(image, patch, stride)
    for first in range(0, n, _TILES):
        yield first, min(first + _TILES, n)
