"""Samples, and the parameters and responsibilities that every implementation starts from, in files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from convgmm import FullGMM
from convgmm.datasets import extract_patches, load_mnist
from full_cases import FullCase, FullPlan

_PATCH_SIDE = 8


@dataclass(frozen=True, eq=False)
class Start:
    """Weights (K,), means (K, D) and covariances (K, D, D)."""

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def whiteners(self) -> NDArray[np.float64]:
        """Return lower triangular W_k (K, D, D) with W_kᵀ W_k = C_k⁻¹, by SciPy."""
        one = np.eye(self.means.shape[1])
        return np.stack([solve_triangular(np.linalg.cholesky(C), one, lower=True) for C in self.covariances])

    def constants(self, whiteners: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log π_k + Σ log diag W_k − ½ D log 2π, (K,)."""
        log_diagonal = np.log(np.diagonal(whiteners, axis1=1, axis2=2)).sum(axis=1)
        return np.asarray(np.log(self.weights) + log_diagonal - 0.5 * self.means.shape[1] * np.log(2 * np.pi))


@dataclass(frozen=True)
class FullProblem:
    """An EM problem as a process receives it: names of files, and numbers."""

    samples: str
    parameters: str
    winners: str
    responsibilities: str
    n: int
    reg_covar: float
    threads: int

    def load_samples(self) -> NDArray[np.float32]:
        """Return (n, D)."""
        return np.array(np.load(self.samples, mmap_mode="r")[: self.n])

    def load_start(self) -> Start:
        """Return the parameters."""
        with np.load(self.parameters) as stored:
            return Start(stored["weights"], stored["means"], stored["covariances"])

    def load_winners(self) -> NDArray[np.int32]:
        """Return each sample's likeliest component in the iteration before, (n,)."""
        return np.array(np.load(self.winners, mmap_mode="r")[: self.n])

    def load_responsibilities(self) -> NDArray[np.float32]:
        """Return (n, K), those of the parameters."""
        return np.array(np.load(self.responsibilities, mmap_mode="r")[: self.n])


class FullStore:
    """Makes samples, parameters and responsibilities once, and keeps them in a folder."""

    def __init__(
        self, folder: Path, images: Sequence[NDArray[np.float32]], data_dir: str | None, plan: FullPlan
    ) -> None:
        self.plan = plan
        self._folder, self._images, self._data_dir = folder, images, data_dir

    def lacks(self, data: str) -> str | None:
        """Say why samples of this kind are not there, or None."""
        if data == "digits" and (self._data_dir is None or not (Path(self._data_dir) / "mnist").is_dir()):
            return "no folder with mnist/ in it was given"
        return None

    def problem(self, case: FullCase) -> FullProblem:
        """Return the problem of a case; parameters come from all samples of its kind, of which it takes the first."""
        samples = self.samples(case)
        name = f"{case.data}-{case.d}-{case.k}"
        parameters, winners, responsibilities = (
            self._folder / f"{what}-{name}" for what in ("parameters.npz", "winners.npy", "responsibilities.npy")
        )
        if not responsibilities.exists():
            X = np.load(samples)
            model = FullGMM(case.k, reg_covar=self.plan.reg_covar, prune_threshold=0, random_state=0)
            found = _iterate(model, X, self.plan.iterations)
            # A component that no sample belongs to has weight 0, whose logarithm not every peer bears.
            model.weights_ = np.maximum(model.weights_, 1e-12)
            model.weights_ /= model.weights_.sum()
            with parameters.open("wb") as file:
                np.savez(file, weights=model.weights_, means=model.means_, covariances=model.covariances_)
            with winners.open("wb") as file:
                np.save(file, found)
            with responsibilities.open("wb") as file:
                np.save(file, model.predict_proba(X.astype(np.float64)).astype(np.float32))
        return FullProblem(
            str(samples),
            str(parameters),
            str(winners),
            str(responsibilities),
            case.n,
            self.plan.reg_covar,
            self.plan.threads,
        )

    def truth(self, case: FullCase) -> Path | None:
        """Return the file of the parameters that the samples were drawn from, if there are such."""
        return self._folder / f"truth-{case.d}-{case.k}.npz" if case.data == "synthetic" else None

    def samples(self, case: FullCase) -> Path:
        """Return the file of all samples of the case's kind."""
        path = self._folder / f"samples-{case.data}-{case.d}-{case.k}.npy"
        if not path.exists():
            np.save(path, self._make(case))
        return path

    def _make(self, case: FullCase) -> NDArray[np.float32]:
        alike = [each.n for each in self.plan.cases if (each.data, each.d, each.k) == (case.data, case.d, case.k)]
        n = max([case.n, *alike])
        if case.data == "digits":
            return load_mnist("train", self._data_dir)[0][:n].reshape(n, -1)
        if case.data == "patches":
            patches = extract_patches(self._images, (_PATCH_SIDE, _PATCH_SIDE), n, random_state=0).reshape(n, -1)
            return patches if case.d == patches.shape[1] else leading_coordinates(patches, case.d)
        truth = known_mixture(case.d, case.k)
        path = self.truth(case)
        assert path is not None
        np.savez(path, weights=truth.weights, means=truth.means, covariances=truth.covariances)
        return draw(truth, n)


def leading_coordinates(samples: NDArray[np.float32], d: int) -> NDArray[np.float32]:
    """Return the d principal coordinates of the largest variance, (n, d)."""
    centred = samples - samples.mean(axis=0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    return np.ascontiguousarray(centred @ axes[:, :d], dtype=np.float32)


def known_mixture(d: int, k: int) -> Start:
    """Return k Gaussians with spectra that decay as a power, like those of pictures, along axes that nearly agree."""
    rng = np.random.default_rng(0)
    common = np.linalg.qr(rng.standard_normal((d, d)))[0]
    spectrum = 10.0 * np.arange(1, d + 1) ** -1.5 + 1e-3
    means = (np.sqrt(spectrum) * rng.standard_normal((k, d))) @ common.T
    covariances = np.empty((k, d, d))
    for covariance in covariances:
        axes = np.linalg.qr(common + 0.3 / np.sqrt(d) * rng.standard_normal((d, d)))[0]
        one = (axes * (spectrum * np.exp(0.3 * rng.standard_normal(d)))) @ axes.T
        covariance[:] = (one + one.T) / 2
    return Start(rng.dirichlet(np.full(k, 10.0)), means, covariances)


def draw(mixture: Start, n: int) -> NDArray[np.float32]:
    """Return n samples (n, D)."""
    rng = np.random.default_rng(1)
    component = rng.choice(len(mixture.weights), size=n, p=mixture.weights)
    samples = np.empty((n, mixture.means.shape[1]), dtype=np.float32)
    for k, (mean, covariance) in enumerate(zip(mixture.means, mixture.covariances, strict=True)):
        chosen = np.flatnonzero(component == k)
        samples[chosen] = rng.standard_normal((len(chosen), len(mean))) @ np.linalg.cholesky(covariance).T + mean
    return samples


def _iterate(model: FullGMM, X: NDArray[np.float32], iterations: int) -> NDArray[np.int32]:
    """Do so many EM iterations without pruning; return the winners of the last E-step, (n,)."""
    X = model._validate(X, reset=True)
    data = model._begin(X, None)
    parameters = model._start(data, None, np.random.RandomState(0))
    for _ in range(iterations):
        parameters = model._maximize(model._expect(data, None, parameters), parameters)
    model._adopt(parameters)
    return data.winners
