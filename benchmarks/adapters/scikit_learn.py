"""scikit-learn's GaussianMixture, its E- and M-step called directly: no checks, start and last E-step of `fit`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from adapters.em import Arrays, Em, Floats, whiteners
from adapters.numpy import half_transform


class MixtureSteps(Em):
    """The two steps of a GaussianMixture, or of one that is built alike.

    Attributes
    ----------
    model : GaussianMixture
        Made by `load`.
    data : ndarray of shape (n, D)
        What its steps read, made by `load`.
    first : dict
        The model's attributes at the start, made by `load`.
    """

    def start(self) -> None:
        for name, value in self.first.items():
            setattr(self.model, name, value)

    def expect(self) -> None:
        log_likelihood, self.log_responsibilities = self.model._e_step(self.data)
        self.log_likelihood = float(log_likelihood)

    def maximize(self) -> None:
        self.model._m_step(self.data, self.log_responsibilities)

    def give(self, responsibilities: NDArray[np.float32]) -> None:
        with np.errstate(divide="ignore"):
            self.log_responsibilities = np.log(responsibilities.astype(self.dtype, copy=False))

    def responsibility(self) -> NDArray[Any]:
        return np.asarray(np.exp(self.log_responsibilities).sum(axis=0, dtype=np.float64))


class DiagonalMixture(MixtureSteps):
    """Diagonal covariances on real Fourier coefficients.

    √2 Re X and √2 Im X of each pair of frequencies, and Re X where a frequency is its own conjugate, are an orthonormal
    basis in which the circulant covariance is diagonal with S twice. It has means, too, and a variance of its own for
    each of Re and Im: from the second iteration on it is a larger model.
    """

    def load(self, samples: Floats) -> None:
        basis = self.problem.basis
        transform = half_transform(samples, basis)
        self.pairs = np.flatnonzero(basis.multiplicities == 2)
        scale = np.sqrt(basis.multiplicities).astype(self.dtype)
        n_real = len(scale)
        self.data = np.empty((len(samples), n_real + len(self.pairs)), dtype=self.dtype)
        np.multiply(transform.real, scale, out=self.data[:, :n_real])
        np.multiply(transform.imag[:, self.pairs], scale[self.pairs], out=self.data[:, n_real:])
        self.model = GaussianMixture(self.k, covariance_type="diag")
        spectra = basis.from_plane(self.begin["spectra"])
        variances = np.concatenate([spectra, spectra[:, self.pairs]], axis=1).astype(self.dtype)
        self.first = {
            "weights_": self.begin["weights"].astype(self.dtype),
            "means_": np.zeros_like(variances),
            "covariances_": variances,
            "precisions_cholesky_": 1 / np.sqrt(variances),
        }

    def parameters(self) -> Arrays:
        moments = self.model.covariances_ - self.model.reg_covar + self.model.means_**2
        n_real = len(self.problem.basis.multiplicities)
        spectra = moments[:, :n_real].astype(np.float64)
        spectra[:, self.pairs] = (spectra[:, self.pairs] + moments[:, n_real:]) / 2
        return {"weights": self.model.weights_, "spectra": self.problem.basis.to_plane(spectra)}


class FullMixture(MixtureSteps):
    """Full covariances."""

    def load(self, samples: Floats) -> None:
        self.data = samples
        self.model = GaussianMixture(self.k, covariance_type="full", reg_covar=self.problem.reg_covar)
        upper = whiteners(self.begin["covariances"]).transpose(0, 2, 1)
        first = {f"{name}_": value for name, value in self.begin.items()} | {"precisions_cholesky_": upper}
        self.first = {name: value.astype(self.dtype, order="C") for name, value in first.items()}

    def parameters(self) -> Arrays:
        return {name: getattr(self.model, f"{name}_") for name in ("weights", "means", "covariances")}


EM: dict[str, type[Em]] = {"conv": DiagonalMixture, "full": FullMixture}
