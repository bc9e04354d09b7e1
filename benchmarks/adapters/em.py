"""What every implementation of EM is asked, whatever its components are."""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from problem import Problem

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.floating[Any]]


class Em(ABC):
    """EM by one implementation for one family of components.

    Parameters
    ----------
    problem : Problem
        Samples, and the parameters that all implementations start from.
    dtype : str
        "float32" or "float64"; what the implementation computes in.

    Attributes
    ----------
    log_likelihood : float
        Mean log-likelihood that the last E-step found.
    """

    def __init__(self, problem: Problem, dtype: str) -> None:
        self.problem = problem
        self.dtype = np.dtype(dtype)
        self.begin = problem.load_parameters()
        self.k = len(self.begin["weights"])
        self.log_likelihood = math.nan

    @abstractmethod
    def load(self, samples: Floats) -> None:
        """Turn samples (n, …) into what the iterations read."""

    @abstractmethod
    def start(self) -> None:
        """Go back to the parameters that all start from."""

    def iterate(self) -> None:
        """Do an E-step and an M-step."""
        self.expect()
        self.maximize()

    @abstractmethod
    def parameters(self) -> Arrays:
        """Return weights, and spectra on the plane or means and covariances, that the last M-step found."""

    def details(self) -> Arrays:
        """Return what else the last iteration says."""
        return {}

    # What follows is asked of those alone whose two steps are told apart.

    def expect(self) -> None:
        """Do the E-step: log-likelihood and responsibilities."""
        raise NotImplementedError

    def maximize(self) -> None:
        """Do the M-step from the responsibilities given, or found by `expect`."""
        raise NotImplementedError

    def give(self, responsibilities: NDArray[np.float32]) -> None:
        """Turn responsibilities (n, K) into what `maximize` reads."""
        raise NotImplementedError

    def responsibility(self) -> NDArray[Any]:
        """Return the summed responsibilities that `expect` found, (K,)."""
        raise NotImplementedError


def whiteners(covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lower triangular W_k (K, D, D) with W_kᵀ W_k = C_k⁻¹, by SciPy, for peers that start from factors."""
    one = np.eye(covariances.shape[1])
    return np.stack([solve_triangular(np.linalg.cholesky(C), one, lower=True) for C in covariances])
