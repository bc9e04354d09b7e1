"""One EM iteration, E-step and M-step, by convgmm and by each peer.

All start from the same weights and spectra. Each turns the patches once, untimed, into what its iterations read.
"""

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from convgmm.half_spectrum import HalfSpectrum
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from convgmm import ConvGMM
from convgmm.conv import Spectra
from problem import Problem

Result = dict[str, NDArray[np.float64]]

_TRANSFORM_BLOCK = 8192


class Em(ABC):
    """EM by one implementation.

    Parameters
    ----------
    problem : dict
        Fields of a `Problem`.
    dtype : str
        "float32" or "float64"; what the implementation computes in.
    """

    def __init__(self, problem: dict[str, Any], dtype: str = "float32") -> None:
        self.problem = Problem(**problem)
        self.half = self.problem.half
        self.dtype = np.dtype(dtype)
        self.weights, self.spectra = self.problem.load_parameters()
        self.k = len(self.weights)

    @abstractmethod
    def load(self, patches: NDArray[np.floating[Any]]) -> None:
        """Turn patches (n, side, side) into what the iterations read."""

    @abstractmethod
    def start(self) -> None:
        """Go back to the start's parameters."""

    @abstractmethod
    def step(self) -> float:
        """Do one EM iteration; return the mean log-likelihood that its E-step found."""

    @abstractmethod
    def updated(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the summed responsibilities (K,) and the new half spectra (K, D) of the last step."""


class Iteration:
    """The task of a worker: one EM iteration from the start's parameters."""

    def __init__(self, em: Em) -> None:
        self.em = em
        em.load(em.problem.load_patches().astype(em.dtype, copy=False))
        self.log_likelihood = math.nan

    def run(self) -> None:
        """Do it, timed."""
        self.em.start()
        self.log_likelihood = self.em.step()

    def result(self) -> Result:
        """Return what the last run found."""
        responsibility, spectra = self.em.updated()
        return {
            "log_likelihood": np.array(self.log_likelihood),
            "responsibility": np.asarray(responsibility, dtype=np.float64),
            "spectra": np.asarray(spectra, dtype=np.float64),
        }


def iteration(family: str, **options: Any) -> Iteration:
    """Build the task for the named class below."""
    return Iteration(FAMILIES[family](**options))


# ---- the package -----------------------------------------------------------------------------------------------------


class ConvGmmEm(Em):
    """The estimator's own expect and maximize."""

    def load(self, patches: NDArray[np.floating[Any]]) -> None:
        self.model = ConvGMM(
            self.k,
            weights_init=self.weights,
            spectra_init=self.half.to_plane(self.spectra),
            max_iter=1,
            tol=0,
            prune_threshold=0,
            n_threads=self.problem.threads,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit(patches[: max(2 * self.k, 2)])  # makes it ready for patches of this shape
        self.data = self.model._data(patches.reshape(len(patches), -1))

    def start(self) -> None:
        self.parameters = Spectra(self.weights, self.spectra)

    def step(self) -> float:
        statistics = self.model._expect(self.data, None, self.parameters)
        self.parameters = self.model._maximize(statistics, self.parameters)
        return statistics.log_likelihood / len(self.data)

    def updated(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.parameters.weights * len(self.data), self.parameters.spectra


# ---- by hand ---------------------------------------------------------------------------------------------------------


def rfft2_columns(half: HalfSpectrum) -> NDArray[np.intp]:
    """Return where each frequency of the half spectrum stands in a flattened rfft2 array."""
    rows, columns = half.shape
    place = half.to_plane(np.arange(1.0, len(half.multiplicities) + 1)[None])[0, :, : columns // 2 + 1]
    present, first = np.unique(place, return_index=True)
    if len(present) - (present[0] == 0) != len(half.multiplicities):
        raise AssertionError(f"an rfft2 array of {rows}×{columns} patches lacks frequencies of the half spectrum")
    return first[present > 0]


def half_transform(patches: NDArray[np.floating[Any]], half: HalfSpectrum) -> NDArray[np.complexfloating[Any, Any]]:
    """Return the unitary transform's half spectrum by numpy, (n, D), in blocks that need little memory."""
    columns = rfft2_columns(half)
    kind = np.result_type(patches.dtype, np.complex64)
    out = np.empty((len(patches), len(columns)), dtype=kind)
    for first in range(0, len(patches), _TRANSFORM_BLOCK):
        block = np.fft.rfft2(patches[first : first + _TRANSFORM_BLOCK], norm="ortho")
        out[first : first + len(block)] = block.reshape(len(block), -1)[:, columns]
    return out


def squared_modulus(z: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.floating[Any]]:
    """Return |z|² without the square root of `abs`."""
    power: NDArray[np.floating[Any]] = np.square(z.real)
    power += np.square(z.imag)
    return power


class NumpyEm(Em):
    """Two matrix products and a softmax, on all samples at once or in blocks that stay in cache.

    Large arrays are made once: new ones in each iteration would cost page faults.
    """

    def __init__(self, problem: dict[str, Any], dtype: str = "float32", block: int | None = None) -> None:
        super().__init__(problem, dtype)
        self.block = block

    def load(self, patches: NDArray[np.floating[Any]]) -> None:
        self.data = squared_modulus(half_transform(patches, self.half)).astype(self.dtype, copy=False)
        self.floor = _floor(self.data, self.half)
        self.joint = np.empty((self.block or len(self.data), self.k), dtype=self.dtype)

    def start(self) -> None:
        self.current = self.weights, self.spectra

    def step(self) -> float:
        precisions, offsets = _quadratic(*self.current, self.half)
        precisions, offsets = precisions.T.astype(self.dtype, order="F"), offsets.astype(self.dtype)
        n = len(self.data)
        block = self.block or n
        log_likelihood, responsibility, power = 0.0, np.zeros(self.k), np.zeros(self.spectra.shape)
        for first in range(0, n, block):
            data = self.data[first : first + block]
            joint = np.matmul(data, precisions, out=self.joint[: len(data)])
            joint += offsets
            top = joint.max(axis=1, keepdims=True)
            joint -= top
            np.exp(joint, out=joint)
            total = joint.sum(axis=1, keepdims=True)
            joint /= total
            log_likelihood += float(top.sum(dtype=np.float64) + np.log(total).sum(dtype=np.float64))
            responsibility += joint.sum(axis=0, dtype=np.float64)
            power += joint.T @ data
        self.responsibility = responsibility
        self.current = _update(responsibility, power, n, self.floor)
        return log_likelihood / n

    def updated(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.responsibility, self.current[1]


class TorchEm(Em):
    """The same by PyTorch, all samples at once."""

    def load(self, patches: NDArray[np.floating[Any]]) -> None:
        import torch  # noqa: PLC0415 - an optional peer

        torch.set_num_threads(self.problem.threads)
        self.torch = torch
        data = squared_modulus(half_transform(patches, self.half)).astype(self.dtype, copy=False)
        self.floor = _floor(data, self.half)
        self.data = torch.from_numpy(data)
        self.joint, self.gamma = (torch.empty((len(data), self.k), dtype=self.data.dtype) for _ in range(2))

    def start(self) -> None:
        self.current = self.weights, self.spectra

    def step(self) -> float:
        torch = self.torch
        with torch.inference_mode():
            quadratic = _quadratic(*self.current, self.half)
            precisions, offsets = (torch.from_numpy(part).to(self.data.dtype) for part in quadratic)
            torch.addmm(offsets, self.data, precisions.T, out=self.joint)
            torch.softmax(self.joint, 1, out=self.gamma)
            # log p(x) = a_k − log γ_k for the likeliest k: torch.logsumexp would make another array of this size.
            log_probability = self.joint.amax(1) - self.gamma.amax(1).log()
            log_likelihood = float(log_probability.sum(dtype=torch.float64))
            responsibility = self.gamma.sum(0).numpy().astype(np.float64)
            power = (self.gamma.T @ self.data).numpy()
        self.responsibility = responsibility
        self.current = _update(responsibility, power.astype(np.float64), len(self.data), self.floor)
        return log_likelihood / len(self.data)

    def updated(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.responsibility, self.current[1]


def _quadratic(
    weights: NDArray[np.float64], spectra: NDArray[np.float64], half: HalfSpectrum
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return A (K, D) and b (K,) with log π_k + log p(x|k) = (A P + b)_k."""
    m = half.multiplicities
    return -0.5 * m / spectra, np.log(weights) - 0.5 * np.log(2 * np.pi * spectra) @ m


def _update(
    responsibility: NDArray[np.float64], power: NDArray[np.float64], n: int, floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    tiny = np.finfo(np.float64).tiny
    return responsibility / n, np.maximum(power / np.maximum(responsibility, tiny)[:, None], floor)


def _floor(data: NDArray[np.floating[Any]], half: HalfSpectrum) -> float:
    """Return convgmm's default floor of a spectrum."""
    return 1e-6 * float(data.mean(axis=0, dtype=np.float64) @ half.multiplicities) / half.degrees_of_freedom


# ---- other packages --------------------------------------------------------------------------------------------------


class ScikitLearnEm(Em):
    """GaussianMixture(covariance_type="diag") on real Fourier coefficients.

    √2 Re X and √2 Im X of each pair of frequencies, and Re X where a frequency is its own conjugate, are an orthonormal
    basis in which the circulant covariance is diagonal with S twice. It has means, too, and a variance of its own for
    each of Re and Im: from the second iteration on it is a larger model. Its E- and M-step are called directly, without
    the checks, the start and the last E-step of `fit`.
    """

    def load(self, patches: NDArray[np.floating[Any]]) -> None:
        transform = half_transform(patches, self.half)
        self.pairs = np.flatnonzero(self.half.multiplicities == 2)
        scale = np.sqrt(self.half.multiplicities).astype(self.dtype)
        self.data = np.empty((len(patches), self.half.degrees_of_freedom), dtype=self.dtype)
        n_real = len(scale)
        np.multiply(transform.real, scale, out=self.data[:, :n_real])
        np.multiply(transform.imag[:, self.pairs], scale[self.pairs], out=self.data[:, n_real:])
        self.model = GaussianMixture(self.k, covariance_type="diag")

    def start(self) -> None:
        variances = np.concatenate([self.spectra, self.spectra[:, self.pairs]], axis=1).astype(self.dtype)
        self.model.weights_ = self.weights.astype(self.dtype)
        self.model.means_ = np.zeros_like(variances)
        self.model.covariances_ = variances
        self.model.precisions_cholesky_ = 1 / np.sqrt(variances)

    def step(self) -> float:
        log_likelihood, log_responsibilities = self.model._e_step(self.data)
        self.model._m_step(self.data, log_responsibilities)
        return float(log_likelihood)

    def updated(self) -> tuple[NDArray[Any], NDArray[Any]]:
        moments = self.model.covariances_ - self.model.reg_covar + self.model.means_**2
        n_real = len(self.half.multiplicities)
        spectra = moments[:, :n_real].copy()
        spectra[:, self.pairs] = (spectra[:, self.pairs] + moments[:, n_real:]) / 2
        return self.model.weights_ * len(self.data), spectra


class CplxGmmEm(Em):
    """cplx-gmm's block-circulant mixture with zero means; it computes in complex128.

    Its data are complex, so the density of a real patch is squared but for a constant: each frequency of a pair counts
    as one. The prepared data and the model's state are what its `fit` makes of patches with covariance_type=
    "block-circulant"; the E- and M-step are called directly, without the Fourier transform, the start by k-means, the
    last E-step and the conversion to full matrices, which `fit(max_iter=1)` would add.
    """

    def load(self, patches: NDArray[np.floating[Any]]) -> None:
        from cplx_gmm import GaussianMixtureCplx  # noqa: PLC0415 - an optional peer

        self.data = np.empty((len(patches), self.problem.side**2), dtype=np.complex128)
        for first in range(0, len(patches), _TRANSFORM_BLOCK):
            block = np.fft.fft2(patches[first : first + _TRANSFORM_BLOCK].astype(np.float64), norm="ortho")
            self.data[first : first + len(block)] = block.reshape(len(block), -1)
        shape = (self.problem.side, self.problem.side)
        self.model = GaussianMixtureCplx(self.k, covariance_type="block-circulant", zero_mean=True, blocks=shape)
        self.model._em_covariance_type = "diag"
        self.model._zero_mean = True
        self.model._F2 = self.model._sigma = None

    def start(self) -> None:
        variances = self.half.to_plane(self.spectra).reshape(self.k, -1)
        variances[variances == 0] = 1 / np.pi  # ω = 0 carries nothing; with this variance its log-density is 0
        self.model.weights_ = self.weights
        self.model.means_ = np.zeros(variances.shape, dtype=np.complex128)
        self.model.covariances_ = variances.astype(np.complex128)
        self.model.precisions_cholesky_ = 1 / np.sqrt(self.model.covariances_)

    def step(self) -> float:
        log_likelihood, log_responsibilities = self.model._e_step(self.data)
        self.model._m_step(self.data, log_responsibilities)
        return float(log_likelihood)

    def updated(self) -> tuple[NDArray[Any], NDArray[Any]]:
        planes = self.model.covariances_.real - self.model.reg_covar
        return self.model.weights_ * len(self.data), self.half.from_plane(planes)


FAMILIES: dict[str, type[Em]] = {
    "convgmm": ConvGmmEm,
    "numpy": NumpyEm,
    "torch": TorchEm,
    "scikit-learn": ScikitLearnEm,
    "cplx-gmm": CplxGmmEm,
}
