"""The half spectrum: one of each pair ω, −ω of a real patch's frequencies, with its multiplicity."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core


class HalfSpectrum:
    """The D distinct frequencies of patches of one shape.

    Parameters
    ----------
    shape : tuple of int
        Shape of a patch.
    remove_mean : bool
        Whether ω = 0 is left out, because every patch's mean is removed.

    Attributes
    ----------
    multiplicities : ndarray of shape (D,), float64
        1 for a frequency that is its own conjugate, else 2; they add up to `degrees_of_freedom`.
    degrees_of_freedom : int
        Number of values in a patch, less one when the mean is removed.
    """

    def __init__(self, shape: tuple[int, ...], remove_mean: bool) -> None:
        self.shape = shape
        self.remove_mean = remove_mean
        multiplicities, self._place = _core.half_spectrum(shape)
        self._first = np.unique(self._place, return_index=True)[1]
        self._skip = int(remove_mean)
        self.multiplicities = multiplicities[self._skip :]
        self.degrees_of_freedom = int(self.multiplicities.sum())

    def coefficients(self, patches: NDArray[np.floating[Any]], n_threads: int) -> NDArray[np.floating[Any]]:
        """Return |X(ω)|² of the unitary transform, (n, D), of flattened patches (n, prod(shape))."""
        return _core.squared_coefficients(patches, self.shape, self.remove_mean, n_threads)

    def to_plane(self, spectra: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spread (K, D) over the full plane (K, *shape) in numpy's FFT order; 0 at ω = 0 when that is left out."""
        whole = np.pad(spectra, ((0, 0), (self._skip, 0)))
        return whole[:, self._place].reshape(len(spectra), *self.shape)

    def from_plane(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take (K, D) out of full planes (K, *shape)."""
        return np.ascontiguousarray(planes.reshape(len(planes), -1)[:, self._first[self._skip :]])

    def is_symmetric(self, planes: NDArray[np.float64]) -> bool:
        """Say whether full planes (K, *shape) have equal values, to 1e-6 of them, at ω and −ω."""
        flat = planes.reshape(len(planes), -1)
        folded = flat[:, self._first][:, self._place]
        return bool(np.allclose(flat[:, self._skip :], folded[:, self._skip :], rtol=1e-6, atol=0))


@lru_cache(maxsize=32)
def half_spectrum(shape: tuple[int, ...], remove_mean: bool) -> HalfSpectrum:
    """Return the half spectrum of a shape, kept for the next call."""
    return HalfSpectrum(shape, remove_mean)
