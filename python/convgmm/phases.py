"""Filters of a given gain: of all phases the zero one, or that of minimum phase.

The log-gain's transform, the cepstrum c(p), is even. Its part on one half of the plane, doubled, c(p) for p > 0 twice
and c(0) once, has the log-gain as the real part of its own transform and the phase as the imaginary part:

    F = exp Σ_p h(p) c(p) e^{−iωp},    h(p) = 2 for p > 0, 1 for p = −p, 0 for p < 0,    |F| = the gain, exactly.

Along one axis p > 0 means later, and F is the filter of minimum phase (Oppenheim and Schafer 1975, ch. 10): it and its
inverse are causal, and no other one of this gain has more energy in its first values. On more axes it means a
non-symmetric half plane, p ahead of −p along the first axis that tells them apart (Ekstrom and Woods 1976). The patch
is closed to a torus, where both are meant of the log-gain's trigonometric interpolation.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The phases that a filter can be given.
PHASES = ("zero", "minimum")


def impulse_responses(gains: NDArray[np.float64], phase: str) -> NDArray[np.float64]:
    """Return the filters (K, *shape) of these gains (K, *shape), in numpy's FFT order, and a phase.

    A gain of 0 stays 0. The others say what a filter of minimum phase is made of: in their cepstrum zeros count as the
    mean log-gain.

    Raises
    ------
    ValueError
        If there is no such phase.
    """
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {', '.join(PHASES)}, got {phase!r}.")
    axes = tuple(range(1, gains.ndim))
    if phase == "zero":
        return np.asarray(np.fft.ifftn(gains, axes=axes).real)
    passed = gains > 0
    logarithm = np.log(gains, where=passed, out=np.zeros_like(gains))
    mean = logarithm.sum(axis=axes, keepdims=True) / passed.sum(axis=axes, keepdims=True)
    cepstrum = np.fft.ifftn(np.where(passed, logarithm, mean), axes=axes).real
    transfer = np.exp(np.fft.fftn(cepstrum * _half_plane(gains.shape[1:]), axes=axes))
    return np.asarray(np.fft.ifftn(np.where(passed, transfer, 0), axes=axes).real)


def _half_plane(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return h (*shape)."""
    sign: NDArray[Any] = np.zeros(shape, dtype=np.int64)
    for axis, index in enumerate(np.indices(shape)):
        ahead = np.sign(-index % shape[axis] - index)  # 1 where the index is less than that of −p
        sign = np.where(sign == 0, ahead, sign)
    return np.asarray(1.0 + sign)
