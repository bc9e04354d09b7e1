"""By hand in NumPy: spectra from two matrix products and a softmax, transforms, and the matrix product itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from adapters.em import Arrays, Em, Floats
from convgmm.basis import Fourier
from problem import Problem

_TRANSFORM_BLOCK = 8192


class NumpySpectra(Em):
    """Spectra, on all samples at once or in blocks that stay in cache.

    Large arrays are made once: new ones in each iteration would cost page faults.
    """

    def __init__(self, problem: Problem, dtype: str, block: int | None = None) -> None:
        super().__init__(problem, dtype)
        self.block = block or problem.n

    def load(self, samples: Floats) -> None:
        self.data = squared_half_transform(samples, self.problem.basis).astype(self.dtype, copy=False)
        self.spectra = SpectraByHand(self.problem.basis, self.begin, self.data)
        self.joint = np.empty((self.block, self.k), dtype=self.dtype)

    def start(self) -> None:
        self.spectra.start()

    def iterate(self) -> None:
        precisions, offsets = self.spectra.quadratic()
        precisions, offsets = precisions.T.astype(self.dtype, order="F"), offsets.astype(self.dtype)
        n = len(self.data)
        log_likelihood, responsibility, power = 0.0, np.zeros(self.k), np.zeros(precisions.T.shape)
        for first in range(0, n, self.block):
            data = self.data[first : first + self.block]
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
        self.spectra.update(responsibility, power)
        self.log_likelihood = log_likelihood / n

    def parameters(self) -> Arrays:
        return self.spectra.arrays()


EM: dict[str, type[Em]] = {"conv": NumpySpectra}


class SpectraByHand:
    """Weights (K,) and half spectra (K, D), for whoever computes with them by hand."""

    def __init__(self, basis: Fourier, begin: Arrays, data: Floats) -> None:
        self.basis, self.n = basis, len(data)
        self.begin = begin["weights"], basis.from_plane(begin["spectra"])
        m = basis.multiplicities
        self.floor = 1e-6 * float(data.mean(axis=0, dtype=np.float64) @ m) / m.sum()  # convgmm's default

    def start(self) -> None:
        """Go back to the start."""
        self.current = self.begin

    def quadratic(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return A (K, D) and b (K,) with log π_k + log p(x|k) = (A P + b)_k."""
        (weights, spectra), m = self.current, self.basis.multiplicities
        return -0.5 * m / spectra, np.log(weights) - 0.5 * np.log(2 * np.pi * spectra) @ m

    def update(self, responsibility: NDArray[np.float64], power: NDArray[np.float64]) -> None:
        """Do the M-step from sums (K,) and (K, D)."""
        share = np.maximum(responsibility, np.finfo(np.float64).tiny)[:, None]
        self.current = responsibility / self.n, np.maximum(power / share, self.floor)

    def arrays(self) -> Arrays:
        """Return the weights, and the spectra on the plane."""
        weights, spectra = self.current
        return {"weights": weights, "spectra": self.basis.to_plane(spectra)}


# ---- transforms ------------------------------------------------------------------------------------------------------


def rfft2_columns(basis: Fourier) -> NDArray[np.intp]:
    """Return where each frequency of the half spectrum stands in a flattened rfft2 array."""
    rows, columns = basis.shape
    place = basis.to_plane(np.arange(1.0, len(basis.multiplicities) + 1)[None])[0, :, : columns // 2 + 1]
    present, first = np.unique(place, return_index=True)
    if len(present) - (present[0] == 0) != len(basis.multiplicities):
        raise AssertionError(f"an rfft2 array of {rows}×{columns} patches lacks frequencies of the half spectrum")
    return first[present > 0]


def half_transform(patches: Floats, basis: Fourier) -> NDArray[np.complexfloating[Any, Any]]:
    """Return the unitary transform's half spectrum, (n, D), in blocks that need little memory."""
    columns = rfft2_columns(basis)
    out = np.empty((len(patches), len(columns)), dtype=np.result_type(patches.dtype, np.complex64))
    for first in range(0, len(patches), _TRANSFORM_BLOCK):
        block = np.fft.rfft2(patches[first : first + _TRANSFORM_BLOCK], norm="ortho")
        out[first : first + len(block)] = block.reshape(len(block), -1)[:, columns]
    return out


def squared_modulus(z: NDArray[np.complexfloating[Any, Any]]) -> Floats:
    """Return |z|² without the square root of `abs`."""
    power: Floats = np.square(z.real)
    power += np.square(z.imag)
    return power


def squared_half_transform(patches: Floats, basis: Fourier) -> Floats:
    """Return the squared half spectrum (n, D)."""
    return squared_modulus(half_transform(patches, basis))


def squared_rfft2(problem: Problem) -> Callable[[], Floats]:
    """Return what transforms all patches at once, to squared rfft2 arrays; NumPy's FFT has no threads."""
    patches = problem.load_samples()
    return lambda: squared_modulus(np.fft.rfft2(patches, norm="ortho"))


def squared_rfft2_by_scipy(problem: Problem) -> Callable[[], Floats]:
    """Return the same by SciPy, with threads."""
    patches = problem.load_samples()
    return lambda: squared_modulus(fft.rfft2(patches, norm="ortho", workers=problem.threads))


def squared_rfft2_in_blocks(problem: Problem) -> Callable[[], Floats]:
    """Return the same in blocks."""
    patches = problem.load_samples()
    n, rows, columns = patches.shape

    def transformed() -> Floats:
        out = np.empty((n, rows, columns // 2 + 1), dtype=np.float32)
        for first in range(0, n, _TRANSFORM_BLOCK):
            block = patches[first : first + _TRANSFORM_BLOCK]
            out[first : first + len(block)] = squared_modulus(np.fft.rfft2(block, norm="ortho"))
        return out

    return transformed


def random_matrices(size: int) -> tuple[Floats, Floats, Floats]:
    """Return two large square matrices, and room for their product."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    return a, b, np.empty_like(a)


def matrix_product(size: int, threads: int) -> Callable[[], Floats]:
    """Return what multiplies two matrices."""
    a, b, out = random_matrices(size)
    return lambda: np.matmul(a, b, out=out)
