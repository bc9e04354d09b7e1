"""The answer that every implementation must give: full covariances, by NumPy and SciPy in float64."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from full_problem import FullProblem, Start
from reference import posterior

_BLOCK = 4096
_LEAST_RESPONSIBILITY = 1e-16  # smaller ones change no sum

# Largest deviations that are let pass: of the log-likelihood relative to its size, and of summed responsibilities,
# means and covariances relative to a mean component's.
TOLERANCES = {"float32": {"log-likelihood": 1e-5, "sums": 1e-3}, "float64": {"log-likelihood": 1e-9, "sums": 1e-6}}


@dataclass(frozen=True, eq=False)
class FullAnswer:
    """What one EM iteration finds, or an M-step alone."""

    log_likelihood: float  # mean, in nats per sample; of an M-step alone NaN
    responsibility: NDArray[np.float64]  # (K,)
    means: NDArray[np.float64]  # (K, D)
    covariances: NDArray[np.float64]  # (K, D, D)
    active: float  # responsibilities above 1e-6, per sample

    def deviations(self, result: dict[str, NDArray[np.float64]]) -> dict[str, float]:
        """Return how far a result is off, in the units of `TOLERANCES`; of what it holds."""
        off = {}
        if "log_likelihood" in result:
            off["log-likelihood"] = abs(float(result["log_likelihood"]) / self.log_likelihood - 1)
        share = self.responsibility / self.responsibility.mean()
        sums = [np.abs(result["responsibility"] - self.responsibility).max() / self.responsibility.mean()]
        if "means" in result:
            variances = np.trace(self.covariances, axis1=1, axis2=2)
            spread = np.sqrt(share @ (variances + np.square(self.means).sum(axis=1)) / len(share))
            sums.append((share * np.linalg.norm(result["means"] - self.means, axis=1)).max() / spread)
            size = (share * np.linalg.norm(self.covariances, axis=(1, 2))).mean()
            sums.append((share * np.linalg.norm(result["covariances"] - self.covariances, axis=(1, 2))).max() / size)
        return {**off, "sums": float(np.max(sums))}


def joint_values(block: NDArray[np.float64], start: Start, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log π_k + log p(x|k), (n, K), from the covariances' Cholesky factors (K, D, D)."""
    joint = np.empty((len(block), len(start.weights)))
    for k, L in enumerate(factors):
        z = solve_triangular(L, (block - start.means[k]).T, lower=True, overwrite_b=True, check_finite=False)
        joint[:, k] = -0.5 * np.einsum("dn,dn->n", z, z) - np.log(np.diag(L)).sum()
    return np.asarray(joint + np.log(start.weights) - 0.5 * block.shape[1] * np.log(2 * np.pi))


@lru_cache(maxsize=2)
def _answer(problem: FullProblem, given: bool) -> FullAnswer:
    start = problem.load_start()
    factors = np.asarray(np.linalg.cholesky(start.covariances), dtype=np.float64)
    samples, responsibilities = (
        np.load(path, mmap_mode="r")[: problem.n] for path in (problem.samples, problem.responsibilities)
    )
    responsibility = np.zeros(len(start.weights))
    first, second = np.zeros_like(start.means), np.zeros_like(start.covariances)
    log_likelihood, active = 0.0, 0
    for begin in range(0, problem.n, _BLOCK):
        block = samples[begin : begin + _BLOCK].astype(np.float64)
        if given:
            gamma = responsibilities[begin : begin + _BLOCK].astype(np.float64)
        else:
            gamma, log_probability = posterior(joint_values(block, start, factors))
            log_likelihood += float(log_probability.sum())
        active += int(np.count_nonzero(gamma > 1e-6))
        responsibility += gamma.sum(axis=0)
        for k, mean in enumerate(start.means):
            kept = gamma[:, k] > _LEAST_RESPONSIBILITY
            about = block[kept] - mean
            weighted = gamma[kept, k, None] * about
            first[k] += weighted.sum(axis=0)
            second[k] += weighted.T @ about
    positive = np.maximum(responsibility, np.finfo(np.float64).tiny)
    shift = first / positive[:, None]
    second /= positive[:, None, None]
    second -= shift[:, :, None] * shift[:, None, :]
    second += problem.reg_covar * np.eye(second.shape[1])
    return FullAnswer(
        np.nan if given else log_likelihood / problem.n,
        responsibility,
        start.means + shift,
        second,
        active / problem.n,
    )


def answer_to(problem: FullProblem, *, given: bool = False) -> FullAnswer:
    """Return the answer to a problem; with `given`, from its responsibilities instead of its parameters."""
    return _answer(replace(problem, threads=1), given)  # the number of threads is no part of it
