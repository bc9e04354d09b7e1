"""The package itself, by its own verbs: one EM iteration is `prepare`, `expect` and `maximize`."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

import convgmm
from adapters.em import Arrays, Em, Floats
from convgmm import _core
from convgmm.datasets import extract_patches
from convgmm.families import Family, Full, Spectral
from convgmm.families.full import MomentStatistics
from convgmm.source import InMemory
from machine import peak_bytes, resident_bytes
from problem import Problem, load_images

# What the core's float32 and float64 leave out of an M-step.
_LEAST_RESPONSIBILITY = {"float32": 1e-7, "float64": 1e-15}


class DenseFull(Full):
    """Full covariances with every component evaluated in full for every sample."""

    def stages(self, n_features: int) -> list[int]:
        """Return a single stage of all rows."""
        return [n_features]


class _Own(Em):
    """EM by any family of the package."""

    family: Family

    def load(self, samples: Floats) -> None:
        threads = self.problem.threads
        reading = self.family.read(InMemory(samples.reshape(len(samples), -1)).block, threads)
        self.frame = self.family.frame(self.family.survey(reading, threads))
        self.data = self.family.represent(reading, self.frame, threads)
        if self.data.values.dtype != self.dtype:
            raise ValueError(f"so few features are computed in {self.data.values.dtype}")
        self.first = self.family.from_arrays(self.begin, self.frame, threads)

    def start(self) -> None:
        self.current = self.first

    def prepared(self) -> Any:
        """Return the current parameters as densities are computed from them."""
        return self.family.prepare(self.current, self.frame, self.dtype, self.problem.threads)

    def iterate(self) -> None:
        self.statistics = self.family.expect(self.prepared(), self.data, self.problem.threads)
        self.current = self.family.maximize(self.statistics, self.current, self.frame)
        self.log_likelihood = self.statistics.log_likelihood / len(self.data.values)

    def parameters(self) -> Arrays:
        return self.family.to_arrays(self.current, self.frame, self.problem.threads)


class ConvGmm(_Own):
    """Power spectra."""

    def __init__(self, problem: Problem, dtype: str) -> None:
        super().__init__(problem, dtype)
        self.family = Spectral(problem.basis)


class FullGmm(_Own):
    """Full covariances, whose steps can be told apart, too.

    Parameters
    ----------
    known : bool, default=True
        Whether each sample's likeliest component is known from the iteration before, as it is but for the first.
    dense : bool, default=False
        Whether every component is evaluated in full for every sample.
    """

    def __init__(self, problem: Problem, dtype: str, known: bool = True, dense: bool = False) -> None:
        super().__init__(problem, dtype)
        self.family = (DenseFull if dense else Full)(reg_covar=problem.reg_covar)
        self.likeliest = problem.load_beside("likeliest") if known else np.full(problem.n, -1, dtype=np.int32)

    def start(self) -> None:
        super().start()
        self.data.memory.update(n_components=self.k, likeliest=self.likeliest.copy())

    def expect(self) -> None:
        prepared = self.prepared()
        self.gamma, log_probability = self.family.posterior(prepared, self.data.values, self.problem.threads)
        self.log_likelihood = float(log_probability.mean(dtype=np.float64))

    def give(self, responsibilities: NDArray[np.float32]) -> None:
        by_component = responsibilities.T
        component, sample = np.nonzero(by_component > _LEAST_RESPONSIBILITY[self.dtype.name])
        gamma = by_component[component, sample].astype(np.float64)
        gamma /= np.bincount(sample, weights=gamma)[sample]
        self.sparse = np.searchsorted(component, np.arange(self.k + 1)), sample, gamma

    def maximize(self) -> None:
        origin = self.first.means
        sums = _core.full_moments(self.data.values, *self.sparse, origin, self.problem.threads)
        self.current = self.family.maximize(MomentStatistics(origin, *sums), self.first, self.frame)

    def responsibility(self) -> NDArray[Any]:
        return np.asarray(self.gamma.sum(axis=0, dtype=np.float64))

    def details(self) -> Arrays:
        statistics = getattr(self, "statistics", None)
        return {} if statistics is None else {"walk": np.array(statistics.details["walk_"])}


EM: dict[str, type[Em]] = {"conv": ConvGmm, "full": FullGmm}


def squared_half_spectra(problem: Problem) -> Callable[[], Floats]:
    """Return what transforms patches, to (n, D)."""
    patches, basis = problem.load_samples().reshape(problem.n, -1), problem.basis
    return lambda: basis.coefficients(patches, problem.threads)


def extraction(n: int, side: int, data_dir: str | None) -> Callable[[], Floats]:
    """Return what takes random patches out of photographs in memory."""
    images, _ = load_images(data_dir)
    return lambda: extract_patches(images, (side, side), n, random_state=0)


def memory_of_fit(
    samples: str | tuple[int, ...], estimator: str, k: int, **options: Any
) -> Callable[[], NDArray[np.int64]]:
    """Return what fits three iterations and finds the bytes of the samples, of all before, and of all at the peak.

    `samples` are a file, or noise of this shape; the rest is as `fit_briefly` takes it.
    """
    if isinstance(samples, str):
        X = np.load(samples)
    else:
        X = np.empty(samples, dtype=np.float32)
        np.random.default_rng(0).standard_normal(dtype=np.float32, out=X)

    def measured() -> NDArray[np.int64]:
        before = resident_bytes()
        fit_briefly(estimator, k, X, 3, **options)
        return np.array([X.nbytes, before, peak_bytes()])

    return measured


def fit_briefly(estimator: str, k: int, samples: Floats, iterations: int, **options: Any) -> Any:
    """Fit exactly so many iterations from one start, and keep all components."""
    model = getattr(convgmm, estimator)(k, max_iter=iterations, tol=0, prune_threshold=0, random_state=0, **options)
    return fit_quietly(model, samples)


def fit_quietly(model: Any, samples: Floats) -> Any:
    """Fit, whether it converges or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(samples)
