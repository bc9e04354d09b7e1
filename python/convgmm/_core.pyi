"""Types of the C++ core; each block mirrors one binding file."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.floating[Any]]  # float32 or float64; results have the type of the data
_Float64 = NDArray[np.float64]
# Squared scales (J,) and log-weights (K, J), or degrees of freedom (K,).
_Scales: TypeAlias = tuple[_Float64, _Float64] | _Float64 | None
_Moments: TypeAlias = tuple[_Float64, _Float64, _Float64, float]

level: str
levels_built: list[str]

def _choose(built: list[str], supported: str, forced: str | None) -> str: ...

# module
compiler: str
eigen_version: str

def thread_count(requested: int) -> int: ...

class NoDensity(ValueError):
    """A sample has no density under any component; the argument is its index."""

# bind_fft
def fft_library_version() -> str: ...
def half_spectrum(shape: Sequence[int]) -> tuple[_Float64, NDArray[np.int64]]: ...
def set_fft_libraries(single_path: str, double_path: str) -> None: ...
def squared_coefficients(patches: _Floats, shape: Sequence[int], remove_mean: bool, n_threads: int) -> _Floats: ...
def squared_cosine_coefficients(
    patches: _Floats, shape: Sequence[int], remove_mean: bool, n_threads: int
) -> _Floats: ...

# bind_full
def full_factorize_float32(
    covariances: _Float64, n_threads: int
) -> tuple[NDArray[np.float32], _Float64, _Float64, int]: ...
def full_factorize_float64(covariances: _Float64, n_threads: int) -> tuple[_Float64, _Float64, _Float64, int]: ...
def full_transpose_whiteners(whiteners: _Float64, n_features: int, n_threads: int) -> _Float64: ...
def full_expect(
    samples: _Floats,
    means: _Float64,
    whiteners: _Floats,
    constants: _Float64,
    sample_weight: _Float64 | None,
    winners: NDArray[np.int32],
    stages: Sequence[int],
    n_threads: int,
    assignment: Literal["soft", "hard", "draw"] = "soft",
    seed: int = 0,
    iteration: int = 0,
    first_number: int = 0,
    scales: _Scales = None,
) -> tuple[Any, ...]: ...  # with scales one more array, (K, n_sums)
def full_moments(
    samples: _Floats,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int64],
    responsibilities: _Float64,
    means: _Float64,
    n_threads: int,
) -> _Moments: ...
def full_log_density(
    samples: _Floats, means: _Float64, whiteners: _Floats, constants: _Float64, n_threads: int, scales: _Scales = None
) -> _Floats: ...
def full_posterior(
    samples: _Floats, means: _Float64, whiteners: _Floats, constants: _Float64, n_threads: int, scales: _Scales = None
) -> tuple[_Floats, _Floats]: ...
def principal_axes(symmetric: _Float64) -> tuple[_Float64, _Float64]: ...
def project(samples: _Floats, centre: _Float64, axes: _Float64, n_threads: int) -> _Floats: ...

# bind_spectral
def spectral_expect(
    coefficients: _Floats,
    multiplicities: _Float64,
    spectra: _Float64,
    constants: _Float64,
    sample_weight: _Float64 | None,
    n_threads: int,
    assignment: Literal["soft", "hard", "draw"] = "soft",
    seed: int = 0,
    iteration: int = 0,
    first_number: int = 0,
    scales: _Scales = None,
) -> tuple[Any, ...]: ...  # with scales one more array, (K, n_sums)
def spectral_log_density(
    coefficients: _Floats,
    multiplicities: _Float64,
    spectra: _Float64,
    constants: _Float64,
    n_threads: int,
    scales: _Scales = None,
) -> _Floats: ...
def spectral_posterior(
    coefficients: _Floats,
    multiplicities: _Float64,
    spectra: _Float64,
    constants: _Float64,
    n_threads: int,
    scales: _Scales = None,
) -> tuple[_Floats, _Floats]: ...

# bind_torus
def torus_covariances(
    spectra: _Float64,
    lag: NDArray[np.int32],
    cosines: _Float64,
    multiplicities: _Float64,
    axes: _Float64,
    remove_mean: bool,
    n_threads: int,
) -> _Float64: ...
def torus_maximize(
    scatter: _Float64,
    spectra: _Float64,
    lag: NDArray[np.int32],
    cosines: _Float64,
    multiplicities: _Float64,
    axes: _Float64,
    remove_mean: bool,
    floor: float,
    n_steps: int,
    n_threads: int,
) -> _Float64: ...

# bind_restore
def restore_adapt(
    covariances: _Float64,
    moments: _Float64,
    counts: _Float64,
    noise_variance: float,
    prior_count: float,
    n_threads: int,
) -> _Float64: ...
def restore_add_diagonal(
    noisy: _Floats,
    sums: _Floats,
    counts: _Floats,
    patch: tuple[int, ...],
    stride: int,
    seed: int,
    first: int,
    last: int,
    noise_variance: float,
    remove_mean: bool,
    average: bool,
    weighting: float,
    n_threads: int,
    axes: _Float64,
    group: NDArray[np.int64],
    variances: _Float64,
    log_weights: _Float64,
) -> None: ...
def restore_add_rotated(
    noisy: _Floats,
    sums: _Floats,
    counts: _Floats,
    patch: tuple[int, ...],
    stride: int,
    seed: int,
    first: int,
    last: int,
    noise_variance: float,
    remove_mean: bool,
    average: bool,
    weighting: float,
    n_threads: int,
    centre: _Float64,
    axes: _Float64,
    means: _Float64,
    covariances: _Float64,
    log_weights: _Float64,
) -> None: ...
def restore_diagonal(
    noisy: _Floats,
    noise_variance: float,
    remove_mean: bool,
    average: bool,
    n_threads: int,
    axes: _Float64,
    group: NDArray[np.int64],
    variances: _Float64,
    log_weights: _Float64,
) -> tuple[_Floats, NDArray[np.int32]]: ...
def restore_rotated(
    noisy: _Floats,
    noise_variance: float,
    remove_mean: bool,
    average: bool,
    n_threads: int,
    centre: _Float64,
    axes: _Float64,
    means: _Float64,
    covariances: _Float64,
    log_weights: _Float64,
) -> tuple[_Floats, NDArray[np.int32]]: ...
def restore_tile_count(image: tuple[int, ...], patch: tuple[int, ...], stride: int) -> int: ...
