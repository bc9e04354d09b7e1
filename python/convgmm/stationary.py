"""Stationary Gaussian fields of any size: white noise through a filter."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from sklearn.utils import check_random_state

Doubles = NDArray[np.float64]
RandomState = int | np.random.RandomState | None


def stationary_field(
    spectrum: ArrayLike, size: tuple[int, ...], *, periodic: bool = False, random_state: RandomState = None
) -> Doubles:
    """Draw a stationary Gaussian field of any size with the spectrum of a smaller one.

    White noise passes the zero-phase filter of gain √S, whose impulse response is as large as the spectrum is: between
    the spectrum's frequencies its gain is the trigonometric interpolation of √S.

    Parameters
    ----------
    spectrum : array-like of shape (s_1, …, s_d)
        Variances S of the unitary transform's coefficients, in numpy's FFT order.
    size : tuple of d ints
        Shape of the field.
    periodic : bool, default=False
        Whether it tiles; False: cut out of a larger one.
    random_state : int, RandomState or None, default=None
        Source of the noise.

    Returns
    -------
    field : ndarray of shape `size`, float64
        In the unit of √S.

    Raises
    ------
    ValueError
        If the spectrum is negative or its axes are not those of the size.
    """
    variances = np.asarray(spectrum, dtype=np.float64)
    if not (np.isfinite(variances).all() and (variances >= 0).all() and variances.size):
        raise ValueError("spectrum must be finite and not negative.")
    shape = checked_size(size, variances.ndim)
    response = np.fft.fftshift(np.fft.ifftn(np.sqrt(variances)).real)
    return filtered_noise(response[..., None], shape, periodic, check_random_state(random_state))[..., 0]


def checked_size(size: tuple[int, ...], n_axes: int) -> tuple[int, ...]:
    shape = tuple(int(s) for s in size)
    if len(shape) != n_axes or any(s < 1 for s in shape) or shape != tuple(size):
        raise ValueError(f"size must be {n_axes} positive ints, got {size!r}.")
    return shape


def filtered_noise(spot: Doubles, shape: tuple[int, ...], periodic: bool, rng: np.random.RandomState) -> Doubles:
    """Return one white noise convolved with each channel of a spot (*shape of the spot, channels)."""
    extent = spot.shape[:-1]
    axes = tuple(range(len(shape)))
    # A torus that the spot fits on; what is wanted of it is cut out.
    torus = tuple(max(s, e) if periodic else s + e - 1 for s, e in zip(shape, extent, strict=True))
    if not periodic:
        torus = tuple(fft.next_fast_len(s, real=True) for s in torus)
    elif torus != shape:
        spot = _folded(spot, shape)
        torus = shape
    noise = fft.rfftn(rng.standard_normal(torus))
    channels = [
        fft.irfftn(noise * fft.rfftn(spot[..., c], s=torus, axes=axes), s=torus, axes=axes)
        for c in range(spot.shape[-1])
    ]
    # Without wrap-around is what begins where the whole spot lies behind.
    start = [0 if periodic else e - 1 for e in extent]
    inside = tuple(slice(a, a + s) for a, s in zip(start, shape, strict=True))
    return np.stack([channel[inside] for channel in channels], axis=-1)


def _folded(spot: Doubles, shape: tuple[int, ...]) -> Doubles:
    """Return a spot wrapped around a torus that is smaller."""
    for axis, size in enumerate(shape):
        missing = -spot.shape[axis] % size
        padded = np.pad(spot, [(0, missing if a == axis else 0) for a in range(spot.ndim)])
        if padded.shape[axis] > size:
            cut = (*padded.shape[:axis], -1, size, *padded.shape[axis + 1 :])
            spot = padded.reshape(cut).sum(axis=axis)
    return spot
