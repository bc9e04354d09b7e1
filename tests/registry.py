"""Every estimator, as the contract tests meet it: one entry each, and whatever is added joins in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convgmm import ConvGMM, DeepGMM, FullGMM, TorusGMM


@dataclass(frozen=True)
class Entry:
    """An estimator.

    Attributes
    ----------
    name : str
        Of the test.
    make : callable
        Makes it, unfitted; options are those that all mixtures share.
    shape : tuple of int
        Shape of the samples that it is fitted to.
    """

    name: str
    make: Callable[..., Any]
    shape: tuple[int, ...]

    def samples(self, n: int = 400, seed: int = 20) -> NDArray[np.float64]:
        """Return samples of two kinds, (n, *shape)."""
        X = np.random.default_rng(seed).standard_normal((n, *self.shape))
        X[n // 2 :] = X[n // 2 :].cumsum(axis=-1)
        return X


def _layers(**options: Any) -> DeepGMM:
    first, second = ({"random_state": seed} | options for seed in (0, 1))
    return DeepGMM([ConvGMM(3, output="likelihood", **first), FullGMM(2, reg_covar=1e-4, **second)])


ENTRIES = [
    Entry("ConvGMM", lambda **options: ConvGMM(**({"n_components": 3, "random_state": 0} | options)), (6, 6)),
    Entry(
        "ConvGMM, dct",
        lambda **options: ConvGMM(**({"n_components": 3, "basis": "dct", "random_state": 0} | options)),
        (5, 6),
    ),
    Entry(
        "ConvGMM, scales",
        lambda **options: ConvGMM(**({"n_components": 3, "scales": 4, "random_state": 0} | options)),
        (6, 6),
    ),
    Entry(
        "FullGMM, scales",
        lambda **options: FullGMM(
            **({"n_components": 2, "means": "zero", "scales": [0.5, 1.0, 2.0], "random_state": 0} | options)
        ),
        (2, 3),
    ),
    Entry(
        "ConvGMM, t",
        lambda **options: ConvGMM(**({"n_components": 3, "tails": "t", "random_state": 0} | options)),
        (6, 6),
    ),
    Entry(
        "FullGMM, t",
        lambda **options: FullGMM(**({"n_components": 2, "tails": "t", "random_state": 0} | options)),
        (2, 3),
    ),
    Entry("FullGMM", lambda **options: FullGMM(**({"n_components": 3, "random_state": 0} | options)), (2, 3)),
    Entry("FullGMM, rotated", lambda **options: FullGMM(**({"n_components": 2, "random_state": 0} | options)), (6, 6)),
    Entry("TorusGMM", lambda **options: TorusGMM(**({"n_components": 3, "random_state": 0} | options)), (6, 6)),
    Entry(
        "TorusGMM, t",
        lambda **options: TorusGMM(**({"n_components": 2, "tails": "t", "random_state": 0} | options)),
        (5, 5),
    ),
    Entry("DeepGMM", _layers, (6, 6)),
]


#: Those that are mixtures themselves, not layers of them.
MIXTURES = [entry for entry in ENTRIES if entry.name != "DeepGMM"]


def arrays(estimator: Any) -> list[NDArray[np.float64]]:
    """Return everything that a fit learnt."""
    if hasattr(estimator, "layers_"):
        return [array for layer in estimator.layers_ for array in arrays(layer)]
    return [*estimator.model_.arrays.values(), estimator.lower_bounds_]


def assert_same(a: Any, b: Any) -> None:
    """Assert that two fitted estimators are the same to the last bit."""
    for left, right in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(left, right)
