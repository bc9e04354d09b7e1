"""Types of the C++ core; each block mirrors one binding file."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", np.float32, np.float64)
_Float64 = NDArray[np.float64]

level: str
levels_built: list[str]

def _choose(built: list[str], supported: str, forced: str | None) -> str: ...

# module
compiler: str
eigen_version: str

def thread_count(requested: int) -> int: ...

# bind_fft
def fftw_version() -> str: ...
def half_spectrum(shape: Sequence[int]) -> tuple[_Float64, NDArray[np.int64]]: ...
def squared_coefficients(
    patches: NDArray[_T], shape: Sequence[int], remove_mean: bool, n_threads: int
) -> NDArray[_T]: ...

# bind_spectral
def spectral_expect(
    coefficients: NDArray[_T],
    multiplicities: _Float64,
    spectra: _Float64,
    weights: _Float64,
    sample_weight: _Float64 | None,
    n_threads: int,
) -> tuple[_Float64, _Float64, float]: ...
def spectral_log_density(
    coefficients: NDArray[_T], multiplicities: _Float64, spectra: _Float64, n_threads: int
) -> NDArray[_T]: ...
def spectral_posterior(
    coefficients: NDArray[_T],
    multiplicities: _Float64,
    spectra: _Float64,
    weights: _Float64 | None,
    n_threads: int,
) -> tuple[NDArray[_T], NDArray[_T]]: ...
