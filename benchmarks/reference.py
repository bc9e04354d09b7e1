"""The answer that every implementation must give before it is timed: one EM iteration by NumPy in float64."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from problem import Problem

_BLOCK = 4096

# Largest deviations that are let pass, for each dtype: of the log-likelihood relative to its size, and of the summed
# responsibilities and power relative to those of a mean component.
TOLERANCES = {"float32": {"log-likelihood": 1e-6, "sums": 1e-3}, "float64": {"log-likelihood": 1e-12, "sums": 1e-9}}


@dataclass(frozen=True, eq=False)
class Answer:
    """What one EM iteration finds."""

    log_likelihood: float  # mean, in nats per patch
    responsibility: NDArray[np.float64]  # (K,)
    spectra: NDArray[np.float64]  # (K, D), without a floor
    multiplicities: NDArray[np.float64]  # (D,)
    active: float  # responsibilities above 1e-6, per patch

    def deviations(self, result: dict[str, NDArray[np.float64]]) -> dict[str, float]:
        """Return how far a result is off, in the units of `TOLERANCES`."""
        mean_responsibility = self.responsibility.mean()
        power = self.responsibility[:, None] * self.spectra
        off_power = np.abs(result["responsibility"][:, None] * result["spectra"] - power) @ self.multiplicities
        off_responsibility = np.abs(result["responsibility"] - self.responsibility)
        off_likelihood = abs(float(result["log_likelihood"]) - self.log_likelihood)
        return {
            "log-likelihood": off_likelihood / abs(self.log_likelihood),
            "sums": float(
                max(
                    off_responsibility.max() / mean_responsibility,
                    off_power.max() / (power @ self.multiplicities).mean(),
                )
            ),
        }


def posterior(joint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return responsibilities (n, K) and log p(x) (n,) from joint values log π_k + log p(x|k)."""
    top = joint.max(axis=1, keepdims=True)
    gamma = np.exp(joint - top)
    total = gamma.sum(axis=1, keepdims=True)
    return gamma / total, (top + np.log(total))[:, 0]


@lru_cache(maxsize=4)
def answer(patches: str, parameters: str, n: int, side: int, complex_density: bool = False) -> Answer:
    """Compute the answer in float64, with numpy's FFT, independently of the package's core.

    With `complex_density` the density is that of a complex, circularly symmetric Gaussian over all frequencies: the
    square of the real patch's density but for a constant. Its responsibilities differ.
    """
    problem = Problem(patches, parameters, n, side, threads=1)
    half = problem.half
    weights, spectra = problem.load_parameters()
    m = half.multiplicities
    if complex_density:
        precisions = m / spectra
        offsets = np.log(weights) - np.log(np.pi * spectra) @ m
    else:
        precisions = 0.5 * m / spectra
        offsets = np.log(weights) - 0.5 * np.log(2 * np.pi * spectra) @ m
    responsibility, power = np.zeros(len(weights)), np.zeros_like(spectra)
    log_likelihood, active = 0.0, 0
    for first in range(0, n, _BLOCK):
        block = np.load(patches, mmap_mode="r")[first : min(first + _BLOCK, n)].astype(np.float64)
        coefficients = half.from_plane(np.abs(np.fft.fft2(block, norm="ortho")) ** 2)
        gamma, log_probability = posterior(offsets - coefficients @ precisions.T)
        log_likelihood += float(log_probability.sum())
        active += int(np.count_nonzero(gamma > 1e-6))
        responsibility += gamma.sum(axis=0)
        power += gamma.T @ coefficients
    tiny = np.finfo(np.float64).tiny
    updated = power / np.maximum(responsibility, tiny)[:, None]
    return Answer(log_likelihood / n, responsibility, updated, m, active / n)


def answer_to(problem: Problem, *, complex_density: bool = False) -> Answer:
    """Return the answer to a problem; the number of threads is no part of it."""
    return answer(problem.patches, problem.parameters, problem.n, problem.side, complex_density)
