"""Bases in which a patch's covariance is diagonal: from patches to squared coefficients and back.

A mixture sees squared coefficients (n, D), their multiplicities (D,) and variances (K, D), and never asks which basis
made them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import idctn

from . import _core, _fftw
from .phases import impulse_responses

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Basis(ABC):
    """An orthonormal basis of patches of one shape, with coefficients grouped by equal variance.

    Parameters
    ----------
    shape : tuple of 1 to 3 ints
        Shape of a patch.
    remove_mean : bool
        Whether the constant's coefficient is left out, because every patch's mean is removed.
    """

    shape: tuple[int, ...]
    remove_mean: bool

    #: What a picture of inverse variances shows: of one component, the label of its colours, of all components.
    portrait: ClassVar[tuple[str, str, str]]
    #: Is a component a stationary field, and its variances a power spectrum?
    is_stationary: ClassVar[bool]

    @property
    def degrees_of_freedom(self) -> int:
        """The number of values in a patch, less one when the mean is removed."""
        return degrees_of_freedom(self.shape, self.remove_mean)

    @property
    @abstractmethod
    def multiplicities(self) -> NDArray[np.float64]:
        """How many coefficients each group has, (D,); they add up to the degrees of freedom."""

    @abstractmethod
    def coefficients(self, patches: Floats, n_threads: int) -> Floats:
        """Return the mean squared coefficient of each group, (n, D), of flattened patches (n, prod(shape))."""

    @abstractmethod
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the basis as orthonormal columns (prod(shape), E), and the group of each, (E,)."""

    @abstractmethod
    def to_plane(self, spectra: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spread (K, D) over all coefficients, (K, *shape); 0 for the constant when that is left out."""

    @abstractmethod
    def from_plane(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take (K, D) out of (K, *shape)."""

    @abstractmethod
    def check_planes(self, planes: NDArray[np.float64], name: str) -> None:
        """Raise a ValueError that names them if variances (K, *shape) are not equal within each group."""

    @abstractmethod
    def draw(self, plane: NDArray[np.float64], n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Draw n patches (n, *shape) with these variances (*shape)."""

    @abstractmethod
    def squared_gains(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the squared gains of the filters (K, *shape) that make variances (K, *shape) white.

        Raises
        ------
        AttributeError
            If no convolution does.
        """

    @abstractmethod
    def filters(self, gains: NDArray[np.float64], phase: str) -> NDArray[np.float64]:
        """Return the impulse responses (K, *shape) of filters with these gains (K, *shape) and a phase.

        Raises as `squared_gains`, and a ValueError if there is no such phase.
        """

    @abstractmethod
    def centred(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (K, *shape) as it is best looked at."""


class Fourier(Basis):
    """The unitary discrete Fourier transform of real patches: one of each pair ω, −ω, with its multiplicity.

    Planes are in numpy's FFT order. Parameters as of `Basis`.
    """

    portrait = (
        "filter",
        "filter's power spectrum, log$_{10}$",
        "filters, zero frequency in the middle",
    )
    is_stationary = True

    @property
    def multiplicities(self) -> NDArray[np.float64]:
        """1 for a frequency that is its own conjugate, else 2; they add up to the degrees of freedom, (D,)."""
        return _half_spectrum(self.shape).multiplicities[int(self.remove_mean) :]

    def coefficients(self, patches: Floats, n_threads: int) -> Floats:
        """Return |X(ω)|² of the unitary transform, (n, D), of flattened patches (n, prod(shape))."""
        _fftw.provide()
        return _core.squared_coefficients(patches, self.shape, self.remove_mean, n_threads)

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return cosines and sines as orthonormal columns (prod(shape), E), and the frequency of each, (E,)."""
        half, n = _half_spectrum(self.shape), prod(self.shape)
        delta = np.zeros((len(half.first), n))
        delta[np.arange(len(half.first)), half.first] = 1
        waves = np.fft.ifftn(delta.reshape(-1, *self.shape), axes=tuple(range(1, len(self.shape) + 1)))
        waves = waves.reshape(-1, n)
        pairs = np.flatnonzero(half.multiplicities == 2)
        rows = np.concatenate([waves.real, waves.imag[pairs]])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        group = np.concatenate([np.arange(len(waves)), pairs])
        used = group >= int(self.remove_mean)
        return np.ascontiguousarray(rows[used].T), group[used].astype(np.int64) - int(self.remove_mean)

    def to_plane(self, spectra: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spread (K, D) over the full plane (K, *shape); 0 at ω = 0 when that is left out."""
        whole = np.pad(spectra, ((0, 0), (int(self.remove_mean), 0)))
        return whole[:, _half_spectrum(self.shape).place].reshape(len(spectra), *self.shape)

    def from_plane(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take (K, D) out of full planes (K, *shape)."""
        first = _half_spectrum(self.shape).first[int(self.remove_mean) :]
        return np.ascontiguousarray(planes.reshape(len(planes), -1)[:, first])

    def is_symmetric(self, planes: NDArray[np.float64]) -> bool:
        """Say whether full planes (K, *shape) have equal values, to 1e-6 of them, at ω and −ω."""
        half = _half_spectrum(self.shape)
        flat = planes.reshape(len(planes), -1)
        folded = flat[:, half.first][:, half.place]
        used = slice(int(self.remove_mean), None)
        return bool(np.allclose(flat[:, used], folded[:, used], rtol=1e-6, atol=0))

    def check_planes(self, planes: NDArray[np.float64], name: str) -> None:
        """Raise a ValueError that names them if full planes differ at ω and −ω."""
        if not self.is_symmetric(planes):
            raise ValueError(
                f"{name} must have equal values at ω and −ω, as the spectra of real samples have: the full plane in "
                f"numpy's FFT order is expected."
            )

    def draw(self, plane: NDArray[np.float64], n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Draw n patches (n, *shape): white noise through a filter of gain √S has the spectrum S (*shape)."""
        axes = tuple(range(1, plane.ndim + 1))
        white = np.fft.fftn(rng.standard_normal((n, *plane.shape)), axes=axes)
        return np.fft.ifftn(white * np.sqrt(plane), axes=axes).real

    def squared_gains(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1 / S, (K, *shape); 0 where S is 0."""
        return np.divide(1.0, planes, out=np.zeros_like(planes), where=planes > 0)

    def filters(self, gains: NDArray[np.float64], phase: str) -> NDArray[np.float64]:
        """Return impulse responses (K, *shape) of gains (K, *shape); of phase zero, symmetric about index 0."""
        return impulse_responses(gains, phase)

    def centred(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (K, *shape) with zero frequency in the middle."""
        return np.fft.fftshift(planes, axes=tuple(range(1, planes.ndim)))


class DCT(Basis):
    """The orthonormal discrete cosine transform of type II: patches continued by reflection, without wrap-around.

    A component is not stationary: it cannot tell a diagonal from its mirror image, and is no convolution (Ahmed,
    Natarajan and Rao, IEEE Trans. Computers, 1974). Planes have the constant's coefficient at index 0. Parameters as
    of `Basis`.
    """

    portrait = (
        "precision",
        "inverse variance of cosine coefficients, log$_{10}$",
        "inverse variances of cosine coefficients, the constant's at the upper left",
    )
    is_stationary = False

    @property
    def multiplicities(self) -> NDArray[np.float64]:
        """Ones, (D,)."""
        return np.ones(self.degrees_of_freedom)

    def coefficients(self, patches: Floats, n_threads: int) -> Floats:
        """Return squared coefficients (n, D) of flattened patches (n, prod(shape))."""
        _fftw.provide()
        return _core.squared_cosine_coefficients(patches, self.shape, self.remove_mean, n_threads)

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return products of cosines as orthonormal columns (prod(shape), D), each a group of its own, (D,)."""
        n = prod(self.shape)
        units = np.eye(n).reshape(n, *self.shape)
        waves = idctn(units, axes=tuple(range(1, len(self.shape) + 1)), norm="ortho").reshape(n, n)
        used = int(self.remove_mean)
        return np.ascontiguousarray(waves[used:].T), np.arange(n - used, dtype=np.int64)

    def to_plane(self, spectra: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (K, *shape); 0 for the constant when that is left out."""
        return np.pad(spectra, ((0, 0), (int(self.remove_mean), 0))).reshape(len(spectra), *self.shape)

    def from_plane(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take (K, D) out of (K, *shape)."""
        return np.ascontiguousarray(planes.reshape(len(planes), -1)[:, int(self.remove_mean) :])

    def check_planes(self, planes: NDArray[np.float64], name: str) -> None:
        """Do nothing: no two coefficients need the same variance."""

    def draw(self, plane: NDArray[np.float64], n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Draw n patches (n, *shape) with independent coefficients of these variances (*shape)."""
        coefficients = rng.standard_normal((n, *plane.shape)) * np.sqrt(plane)
        return np.asarray(idctn(coefficients, axes=tuple(range(1, plane.ndim + 1)), norm="ortho"))

    def squared_gains(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raise: no convolution makes such a component white."""
        raise AttributeError('a mixture with basis="dct" has no filters, as it is not stationary: use basis="fourier".')

    def filters(self, gains: NDArray[np.float64], phase: str) -> NDArray[np.float64]:
        """Raise as `squared_gains`."""
        return self.squared_gains(gains)

    def centred(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (K, *shape) as it is."""
        return planes


@dataclass(frozen=True, eq=False)
class _HalfSpectrum:
    """Multiplicities with ω = 0 (D,), where each frequency of the plane stands (prod(shape),), and where each is first
    found in the plane (D,).
    """

    multiplicities: NDArray[np.float64]
    place: NDArray[np.int64]
    first: NDArray[np.intp]


@lru_cache(maxsize=32)
def _half_spectrum(shape: tuple[int, ...]) -> _HalfSpectrum:
    multiplicities, place = _core.half_spectrum(shape)
    multiplicities.setflags(write=False)
    return _HalfSpectrum(multiplicities, place, np.unique(place, return_index=True)[1])


def degrees_of_freedom(shape: tuple[int, ...], remove_mean: bool) -> int:
    """Return the number of values in a patch, less one when the mean is removed."""
    return prod(shape) - int(remove_mean)


#: Every basis, by the name that stands in saved models.
BASES: dict[str, type[Basis]] = {basis.__name__: basis for basis in (Fourier, DCT)}
