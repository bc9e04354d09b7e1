"""One EM iteration of a mixture with full covariances, and its two steps apart, by convgmm and by each peer.

All start from the same parameters or, for an M-step alone, from the same responsibilities. A peer's M-step ends with
the factors of its covariances, convgmm's E-step begins with them.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from convgmm import FullGMM, _core
from convgmm.full import MomentStatistics
from full_problem import FullProblem

Part = Literal["iterate", "expect", "maximize"]
Result = dict[str, NDArray[Any]]

# What the core's float32 and float64 leave out of an M-step.
_LEAST_RESPONSIBILITY = {"float32": 1e-7, "float64": 1e-15}


class FullEm(ABC):
    """EM by one implementation.

    Parameters
    ----------
    problem : dict
        Fields of a `FullProblem`.
    dtype : str
        "float32" or "float64"; what the implementation computes in.
    """

    def __init__(self, problem: dict[str, Any], dtype: str) -> None:
        self.problem = FullProblem(**problem)
        self.dtype = np.dtype(dtype)
        self.begin = self.problem.load_start()
        self.k = len(self.begin.weights)
        self.log_likelihood = math.nan
        self.load(self.problem.load_samples().astype(self.dtype, copy=False))

    @abstractmethod
    def load(self, samples: NDArray[np.floating[Any]]) -> None:
        """Turn samples (n, D) and the parameters into what is read."""

    @abstractmethod
    def give(self, responsibilities: NDArray[np.float32]) -> None:
        """Turn responsibilities (n, K) into what `maximize` reads."""

    @abstractmethod
    def expect(self) -> None:
        """Do the E-step from the start's parameters: log-likelihood and responsibilities."""

    @abstractmethod
    def maximize(self) -> None:
        """Do the M-step from the responsibilities given, or found by `expect`."""

    def iterate(self) -> None:
        """Do both."""
        self.expect()
        self.maximize()

    @abstractmethod
    def responsibility(self) -> NDArray[Any]:
        """Return the summed responsibilities that `expect` found, (K,)."""

    @abstractmethod
    def updated(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return the weights, means and covariances that `maximize` found, in the samples' coordinates."""

    def details(self) -> Result:
        """Return what else the last iteration says."""
        return {}


class Step:
    """The task of a worker: an iteration, or a part of it."""

    def __init__(self, em: FullEm, part: Part) -> None:
        self.em, self.part = em, part
        if part == "maximize":
            em.give(em.problem.load_responsibilities())

    def run(self) -> None:
        """Do it, timed."""
        getattr(self.em, self.part)()

    def result(self) -> Result:
        """Return what the last run found."""
        found: Result = self.em.details()
        if self.part != "maximize":
            found["log_likelihood"] = np.array(self.em.log_likelihood)
        if self.part == "expect":
            found["responsibility"] = self.em.responsibility()
        else:
            weights, found["means"], found["covariances"] = self.em.updated()
            found["responsibility"] = weights * self.em.problem.n
        return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


def step(family: str, part: Part, **options: Any) -> Step:
    """Build the task for the named class below."""
    return Step(FAMILIES[family](**options), part)


# ---- the package -----------------------------------------------------------------------------------------------------


class ConvGmmFull(FullEm):
    """The estimator's own factors, expect and maximize, on samples along its axes.

    Parameters
    ----------
    winners : bool, default=True
        Whether each sample's likeliest component is known from the iteration before, as it is but for the first.
    dense : bool, default=False
        Whether every component is evaluated in full for every sample.
    """

    def __init__(self, problem: dict[str, Any], dtype: str, winners: bool = True, dense: bool = False) -> None:
        self.known, self.dense = winners, dense
        super().__init__(problem, dtype)

    def load(self, samples: NDArray[np.floating[Any]]) -> None:
        self.model = FullGMM(
            self.k,
            weights_init=self.begin.weights,
            means_init=self.begin.means,
            covariances_init=self.begin.covariances,
            reg_covar=self.problem.reg_covar,
            n_threads=self.problem.threads,
        )
        data = self.model._begin(self.model._validate(samples, reset=True), None)
        self.samples = data.rotated
        if self.samples.dtype != self.dtype:
            raise ValueError(f"so few features are computed in {self.samples.dtype}")
        self.start = self.model._start(data, None, np.random.RandomState(0))
        self.winners_before = self.problem.load_winners() if self.known else data.winners
        self.winners = np.empty_like(self.winners_before)
        self.stages = [self.samples.shape[1]] if self.dense else []
        self.walk: tuple[list[int], list[int]] = ([], [])

    def iterate(self) -> None:
        np.copyto(self.winners, self.winners_before)
        responsibility, first, second, log_likelihood, rows, pairs = _core.full_expect(
            self.samples,
            self.start.means,
            *self.model._factors(self.start.covariances, self.dtype),
            self.start.weights,
            None,
            self.winners,
            self.stages,
            self.problem.threads,
        )
        self.walk = rows, pairs
        self.new = self.model._maximize(MomentStatistics(responsibility, first, second, log_likelihood), self.start)
        self.log_likelihood = log_likelihood / len(self.samples)

    def expect(self) -> None:
        self.gamma, log_probability = _core.full_posterior(
            self.samples,
            self.start.means,
            *self.model._factors(self.start.covariances, self.dtype),
            self.start.weights,
            self.problem.threads,
        )
        self.log_likelihood = float(log_probability.mean(dtype=np.float64))

    def give(self, responsibilities: NDArray[np.float32]) -> None:
        by_component = responsibilities.T
        component, sample = np.nonzero(by_component > _LEAST_RESPONSIBILITY[self.dtype.name])
        gamma = by_component[component, sample].astype(np.float64)
        gamma /= np.bincount(sample, weights=gamma)[sample]
        self.sparse = np.searchsorted(component, np.arange(self.k + 1)), sample, gamma

    def maximize(self) -> None:
        sums = _core.full_moments(self.samples, *self.sparse, self.start.means, self.problem.threads)
        self.new = self.model._maximize(MomentStatistics(*sums), self.start)

    def responsibility(self) -> NDArray[Any]:
        return np.asarray(self.gamma.sum(axis=0, dtype=np.float64))

    def updated(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        self.model._adopt(self.new)
        return self.model.weights_, self.model.means_, self.model.covariances_

    def details(self) -> Result:
        rows, pairs = self.walk
        return {"rows": np.array(rows), "pairs": np.array(pairs)}


# ---- peers -----------------------------------------------------------------------------------------------------------


class ScikitLearnFull(FullEm):
    """GaussianMixture(covariance_type="full"), without the checks, the start and the last E-step of `fit`."""

    def load(self, samples: NDArray[np.floating[Any]]) -> None:
        self.samples = samples
        self.model = GaussianMixture(self.k, covariance_type="full", reg_covar=self.problem.reg_covar)
        upper = self.begin.whiteners().transpose(0, 2, 1)
        self.parameters = {
            "weights_": self.begin.weights.astype(self.dtype),
            "means_": self.begin.means.astype(self.dtype),
            "covariances_": self.begin.covariances.astype(self.dtype),
            "precisions_cholesky_": upper.astype(self.dtype, order="C"),
        }

    def give(self, responsibilities: NDArray[np.float32]) -> None:
        with np.errstate(divide="ignore"):
            self.log_responsibilities = np.log(responsibilities.astype(self.dtype, copy=False))

    def expect(self) -> None:
        for name, value in self.parameters.items():
            setattr(self.model, name, value)
        log_likelihood, self.log_responsibilities = self.model._e_step(self.samples)
        self.log_likelihood = float(log_likelihood)

    def maximize(self) -> None:
        self.model._m_step(self.samples, self.log_responsibilities)

    def responsibility(self) -> NDArray[Any]:
        return np.asarray(np.exp(self.log_responsibilities).sum(axis=0, dtype=np.float64))

    def updated(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        return self.model.weights_, self.model.means_, self.model.covariances_


class TorchFull(FullEm):
    """Matrix products by PyTorch, component by component on blocks of samples; all factors in float64, as convgmm's."""

    def load(self, samples: NDArray[np.floating[Any]]) -> None:
        import torch  # noqa: PLC0415 - an optional peer

        torch.set_num_threads(self.problem.threads)
        self.torch = torch
        self.samples = torch.from_numpy(samples)
        n, D = samples.shape
        self.blocks = [slice(first, first + max(1024, 2**20 // D)) for first in range(0, n, max(1024, 2**20 // D))]
        # Large arrays are made once: new ones in each iteration would cost page faults.
        self.gamma = self.samples.new_empty((self.k, n))
        self.centred, self.product = (self.samples.new_empty((min(n, self.blocks[0].stop), D)) for _ in range(2))
        self.covariances = self.samples.new_empty((self.k, D, D))
        whiteners = self.begin.whiteners()
        self.start = tuple(
            torch.from_numpy(values).to(self.samples.dtype)
            for values in (self.begin.means, whiteners, self.begin.constants(whiteners))
        )

    def give(self, responsibilities: NDArray[np.float32]) -> None:
        self.gamma.copy_(self.torch.from_numpy(responsibilities).T)

    def expect(self) -> None:
        torch = self.torch
        means, whiteners, constants = self.start
        with torch.inference_mode():
            for block in self.blocks:
                x = self.samples[block]
                centred, product = self.centred[: len(x)], self.product[: len(x)]
                for k in range(self.k):
                    torch.sub(x, means[k], out=centred)
                    torch.mm(centred, whiteners[k].T, out=product)
                    torch.sum(product.square_(), 1, out=self.gamma[k, block])
            self.gamma.mul_(-0.5).add_(constants[:, None])
            log_probability = torch.logsumexp(self.gamma, 0)
            self.gamma.sub_(log_probability).exp_()
            self.log_likelihood = float(log_probability.mean(dtype=torch.float64))

    def maximize(self) -> None:
        torch = self.torch
        with torch.inference_mode():
            total = self.gamma.sum(1)
            self.weights = total / total.sum()
            self.means = (self.gamma @ self.samples).div_(total[:, None])
            self.covariances.zero_()
            for block in self.blocks:
                x = self.samples[block]
                centred = self.centred[: len(x)]
                for k in range(self.k):
                    torch.sub(x, self.means[k], out=centred)
                    centred.mul_(self.gamma[k, block].sqrt()[:, None])
                    self.covariances[k].addmm_(centred.T, centred)
            self.covariances.div_(total[:, None, None])
            self.covariances.diagonal(dim1=1, dim2=2).add_(self.problem.reg_covar)
            factors = torch.linalg.cholesky(self.covariances.double())
            one = torch.eye(factors.shape[1], dtype=factors.dtype).expand_as(factors)
            whiteners = torch.linalg.solve_triangular(factors, one, upper=False)
            self.constants = whiteners.diagonal(dim1=1, dim2=2).log().sum(1) + self.weights.double().log()
            self.whiteners = whiteners.to(self.samples.dtype)

    def responsibility(self) -> NDArray[Any]:
        return np.asarray(self.gamma.sum(1, dtype=self.torch.float64))

    def updated(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        return np.asarray(self.weights), np.asarray(self.means), np.asarray(self.covariances)


FAMILIES: dict[str, type[FullEm]] = {
    "convgmm": ConvGmmFull,
    "scikit-learn": ScikitLearnFull,
    "torch": TorchFull,
}
