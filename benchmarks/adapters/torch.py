"""By hand in PyTorch: spectra, full covariances, and the matrix product itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.em import Arrays, Em, Floats, whiteners
from adapters.numpy import SpectraByHand, random_matrices, squared_half_transform


class TorchSpectra(Em):
    """Spectra from two matrix products and a softmax, all samples at once."""

    def load(self, samples: Floats) -> None:
        torch.set_num_threads(self.problem.threads)
        data = squared_half_transform(samples, self.problem.basis).astype(self.dtype, copy=False)
        self.spectra = SpectraByHand(self.problem.basis, self.begin, data)
        self.data = torch.from_numpy(data)
        self.joint, self.gamma = (torch.empty((len(data), self.k), dtype=self.data.dtype) for _ in range(2))

    def start(self) -> None:
        self.spectra.start()

    def iterate(self) -> None:
        with torch.inference_mode():
            precisions, offsets = (torch.from_numpy(part).to(self.data.dtype) for part in self.spectra.quadratic())
            torch.addmm(offsets, self.data, precisions.T, out=self.joint)
            torch.softmax(self.joint, 1, out=self.gamma)
            # log p(x) = a_k − log γ_k for the likeliest k: torch.logsumexp would make another array of this size.
            log_probability = self.joint.amax(1) - self.gamma.amax(1).log()
            self.log_likelihood = float(log_probability.mean(dtype=torch.float64))
            sums = self.gamma.sum(0), self.gamma.T @ self.data
        self.spectra.update(*(part.numpy().astype(np.float64) for part in sums))

    def parameters(self) -> Arrays:
        return self.spectra.arrays()


class TorchFull(Em):
    """Full covariances: products component by component on blocks of samples; factors in float64, as convgmm's."""

    def load(self, samples: Floats) -> None:
        torch.set_num_threads(self.problem.threads)
        self.samples = torch.from_numpy(samples)
        n, D = samples.shape
        size = max(1024, 2**20 // D)
        self.blocks = [slice(first, first + size) for first in range(0, n, size)]
        # Large arrays are made once: new ones in each iteration would cost page faults.
        self.gamma = self.samples.new_empty((self.k, n))
        self.centred, self.product = (self.samples.new_empty((min(n, size), D)) for _ in range(2))
        self.covariances = self.samples.new_empty((self.k, D, D))
        W = whiteners(self.begin["covariances"])
        log_diagonal = np.log(np.diagonal(W, axis1=1, axis2=2)).sum(axis=1)
        constants = np.log(self.begin["weights"]) + log_diagonal - 0.5 * D * np.log(2 * np.pi)
        self.first = [torch.from_numpy(each).to(self.samples.dtype) for each in (self.begin["means"], W, constants)]

    def start(self) -> None:
        self.current = self.first

    def give(self, responsibilities: NDArray[np.float32]) -> None:
        self.gamma.copy_(torch.from_numpy(responsibilities).T)

    def expect(self) -> None:
        means, factors, constants = self.current
        with torch.inference_mode():
            for block in self.blocks:
                x = self.samples[block]
                centred, product = self.centred[: len(x)], self.product[: len(x)]
                for k in range(self.k):
                    torch.sub(x, means[k], out=centred)
                    torch.mm(centred, factors[k].T, out=product)
                    torch.sum(product.square_(), 1, out=self.gamma[k, block])
            self.gamma.mul_(-0.5).add_(constants[:, None])
            log_probability = torch.logsumexp(self.gamma, 0)
            self.gamma.sub_(log_probability).exp_()
            self.log_likelihood = float(log_probability.mean(dtype=torch.float64))

    def maximize(self) -> None:
        with torch.inference_mode():
            total = self.gamma.sum(1)
            self.weights = total / total.sum()
            means = (self.gamma @ self.samples).div_(total[:, None])
            self.covariances.zero_()
            for block in self.blocks:
                x = self.samples[block]
                centred = self.centred[: len(x)]
                for k in range(self.k):
                    torch.sub(x, means[k], out=centred)
                    centred.mul_(self.gamma[k, block].sqrt()[:, None])
                    self.covariances[k].addmm_(centred.T, centred)
            self.covariances.div_(total[:, None, None])
            self.covariances.diagonal(dim1=1, dim2=2).add_(self.problem.reg_covar)
            factors = torch.linalg.cholesky(self.covariances.double())
            one = torch.eye(factors.shape[1], dtype=factors.dtype).expand_as(factors)
            inverse = torch.linalg.solve_triangular(factors, one, upper=False)
            constants = inverse.diagonal(dim1=1, dim2=2).log().sum(1) + self.weights.double().log()
            constants -= 0.5 * len(one[0]) * np.log(2 * np.pi)
            self.current = [means, inverse.to(means.dtype), constants.to(means.dtype)]

    def responsibility(self) -> NDArray[Any]:
        return np.asarray(self.gamma.sum(1, dtype=torch.float64))

    def parameters(self) -> Arrays:
        found = {"weights": self.weights, "means": self.current[0], "covariances": self.covariances}
        return {name: np.asarray(value) for name, value in found.items()}


EM: dict[str, type[Em]] = {"conv": TorchSpectra, "full": TorchFull}


def matrix_product(size: int, threads: int) -> Callable[[], Any]:
    """Return what multiplies two matrices."""
    torch.set_num_threads(threads)
    a, b, out = map(torch.from_numpy, random_matrices(size))
    return lambda: torch.mm(a, b, out=out).numpy()
