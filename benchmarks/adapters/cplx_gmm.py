"""cplx-gmm's block-circulant mixture."""

import numpy as np
from cplx_gmm import GaussianMixtureCplx

from adapters.em import Arrays, Em, Floats
from adapters.scikit_learn import MixtureSteps

_TRANSFORM_BLOCK = 8192


class BlockCirculantMixture(MixtureSteps):
    """Zero means, in complex128.

    Its data are complex, so the density of a real patch is squared but for a constant: each frequency of a pair counts
    as one. The prepared data and the model's state are what its `fit` makes of patches with covariance_type=
    "block-circulant"; the E- and M-step are called directly, without the Fourier transform, the start by k-means, the
    last E-step and the conversion to full matrices, which `fit(max_iter=1)` would add.
    """

    def load(self, samples: Floats) -> None:
        shape = self.problem.basis.shape
        self.data = np.empty((len(samples), np.prod(shape)), dtype=np.complex128)
        for first in range(0, len(samples), _TRANSFORM_BLOCK):
            block = np.fft.fft2(samples[first : first + _TRANSFORM_BLOCK].astype(np.float64), norm="ortho")
            self.data[first : first + len(block)] = block.reshape(len(block), -1)
        self.model = GaussianMixtureCplx(self.k, covariance_type="block-circulant", zero_mean=True, blocks=shape)
        self.model._em_covariance_type = "diag"
        self.model._zero_mean = True
        self.model._F2 = self.model._sigma = None
        variances = self.begin["spectra"].reshape(self.k, -1).astype(np.complex128)
        variances[variances == 0] = 1 / np.pi  # ω = 0 carries nothing; with this variance its log-density is 0
        self.first = {
            "weights_": self.begin["weights"],
            "means_": np.zeros_like(variances),
            "covariances_": variances,
            "precisions_cholesky_": 1 / np.sqrt(variances),
        }

    def parameters(self) -> Arrays:
        planes = (self.model.covariances_.real - self.model.reg_covar).reshape(self.k, *self.problem.basis.shape)
        return {"weights": self.model.weights_, "spectra": planes}


EM: dict[str, type[Em]] = {"conv": BlockCirculantMixture}
