"""The frozen model: a family, its frame and a mixture's arrays, prepared once for all questions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from .families import DensityError, Family, Floats, Portrait
from .families.family import check_weights, log_weights
from .families.gaussians import Gaussians
from .source import Block


@dataclass(frozen=True, eq=False)
class Model:
    """A mixture that can be asked, of samples that are already checked.

    What it has prepared for one question it keeps for the next; that is no part of a pickled model.

    Attributes
    ----------
    family : Family
        The kind of its components.
    frame : object
        The family's frame: that of the fit, or one made for the arrays.
    arrays : dict of str to ndarray, float64
        What describes the mixture to its users, `weights` (K,) among it; read-only.
    shape : tuple of int
        Shape of one sample.

    Raises
    ------
    ValueError
        If the arrays do not describe a mixture; says which and why.
    """

    family: Family
    frame: Any
    arrays: dict[str, NDArray[np.float64]]
    shape: tuple[int, ...]
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for array in self.arrays.values():
            array.setflags(write=False)

    @classmethod
    def from_arrays(
        cls, family: Family, arrays: dict[str, Any], shape: tuple[int, ...], n_threads: int, frame: Any = None
    ) -> "Model":
        """Check arrays and make a model of them; without a frame, one is made for them.

        Raises
        ------
        ValueError
            If they do not describe a mixture; says which and why.
        """
        checked = {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}
        weights = checked["weights"]
        if weights.ndim != 1 or not len(weights):
            raise ValueError(f"weights has shape {weights.shape}; (n_components,) is needed.")
        check_weights(weights)
        family.check_arrays(checked, n_threads)
        return cls(family, family.frame_of(checked) if frame is None else frame, checked, shape)

    def with_arrays(self, arrays: dict[str, Any], n_threads: int) -> "Model":
        """Return the same kind of model with other arrays."""
        shapes = {name: np.shape(array)[1:] for name, array in arrays.items()}
        if shapes != {name: array.shape[1:] for name, array in self.arrays.items()}:
            raise ValueError(f"arrays of shapes {shapes} do not belong to samples of shape {self.shape}.")
        return Model.from_arrays(self.family, arrays, self.shape, n_threads, self.frame)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _kept={})
        self.__post_init__()

    @property
    def weights(self) -> NDArray[np.float64]:
        """Mixing proportions, (K,)."""
        return self.arrays["weights"]

    @property
    def n_components(self) -> int:
        """Number of components, K."""
        return len(self.weights)

    def kept(self, name: Any, make: Any) -> Any:
        """Return what was made under this name, or make it and keep it."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def prepared(self, dtype: np.dtype[Any], n_threads: int) -> Any:
        """Return what densities of data of this type are computed from.

        Raises
        ------
        CollapseError
            If a covariance is not positive definite.
        """

        def prepare() -> Any:
            parameters = self.family.from_arrays(self.arrays, self.frame, n_threads)
            return self.family.prepare(parameters, self.frame, dtype, n_threads)

        return self.kept(dtype, prepare)

    # ---- questions ---------------------------------------------------------------------------------------------------

    def values(self, X: Floats, n_threads: int) -> Floats:
        """Return checked samples (n, n_features) in the form that densities are computed from."""
        return self.family.represent(self.family.read(Block(X), n_threads), self.frame, n_threads).values

    def log_density(
        self,
        X: Floats,
        n_threads: int,
        *,
        then: Callable[[Floats], Floats] = lambda density: density,
        dtype: np.dtype[Any] | None = None,
        values: Floats | None = None,
    ) -> Floats:
        """Return log p(x|k), (n, K), or what `then` makes of its rows, in a dtype: the samples' by default.

        A sample too distant for float32 is computed in float64. `values` are those of X, if they are known.

        Raises
        ------
        ValueError
            If a sample has no finite log-density under any component; names it.
        """

        def compute(values: Floats) -> Floats:
            return self.family.log_density(self.prepared(values.dtype, n_threads), values, n_threads)

        density = compute(self.values(X, n_threads) if values is None else values)
        distant = np.flatnonzero(~np.isfinite(density).any(axis=1) | np.isnan(density).any(axis=1))
        with np.errstate(over="ignore", invalid="ignore"):
            result = then(density).astype(X.dtype if dtype is None else dtype, copy=False)
            if len(distant):
                again = compute(self.values(self._in_float64(X, distant), n_threads))
                self._refuse(distant[~np.isfinite(again).any(axis=1)])
                result[distant] = then(again)
        return result

    def posterior(
        self, X: Floats, n_threads: int, *, weighted: bool = True, values: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Return responsibilities (n, K), with or without the weights, and log p(x) (n,), in the type of the samples.

        A sample too distant for float32 is computed in float64. `values` are those of X, if they are known.

        Raises
        ------
        ValueError
            If a sample has no finite log-density under any component; names it.
        """

        def compute(values: Floats) -> tuple[Floats, Floats]:
            prepared = self.prepared(values.dtype, n_threads)
            return self.family.posterior(prepared, values, n_threads, weighted=weighted)

        gamma, log_probability = compute(self.values(X, n_threads) if values is None else values)
        distant = np.flatnonzero(np.isnan(log_probability))
        with np.errstate(over="ignore"):
            gamma, log_probability = gamma.astype(X.dtype, copy=False), log_probability.astype(X.dtype, copy=False)
        if len(distant):
            again = compute(self.values(self._in_float64(X, distant), n_threads))
            self._refuse(distant[~np.isfinite(again[1])])
            with np.errstate(over="ignore"):  # of log p(x) in float32 only its sign may be left
                gamma[distant], log_probability[distant] = again
        return gamma, log_probability

    def _in_float64(self, X: Floats, rows: NDArray[np.intp]) -> Floats:
        if X.dtype == np.float64:
            self._refuse(rows)
        return X[rows].astype(np.float64)

    @staticmethod
    def _refuse(rows: NDArray[np.intp]) -> None:
        if len(rows):
            raise no_density(int(rows[0]))

    def joint(self, X: Floats, n_threads: int) -> NDArray[np.float64]:
        """Return log π_k + log p(x|k), (n, K)."""
        return self.log_density(X, n_threads, dtype=np.dtype(np.float64)) + log_weights(self.weights)

    def gaussians(self) -> Gaussians:
        """Return the mixture as plain Gaussians, to restore patches with."""

        def make() -> Gaussians:
            return self.family.gaussians(self.family.from_arrays(self.arrays, self.frame, 0), self.frame)

        gaussians: Gaussians = self.kept("gaussians", make)
        return gaussians

    def sample(self, n: int, rng: np.random.RandomState) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw n samples (n, *shape), and the component that each was drawn from (n,)."""
        components = rng.choice(self.n_components, size=n, p=self.weights / self.weights.sum()).astype(np.int64)
        counts = np.bincount(components, minlength=self.n_components)
        drawn = np.concatenate(
            [self.family.draw(self.arrays, k, int(count), rng) for k, count in enumerate(counts) if count]
        ).reshape(n, *self.shape)
        X = np.empty_like(drawn)
        X[np.argsort(components, kind="stable")] = drawn
        return X, components

    def n_parameters(self) -> int:
        """Return the number of free parameters."""
        return self.n_components - 1 + self.n_components * self.family.parameters_per_component(self.arrays)

    def divergence(self) -> NDArray[np.float64]:
        """Return the divergence from component k to j, (K, K), in nats per sample."""
        return self.family.divergence(self.arrays)

    def shape_divergence(self) -> NDArray[np.float64]:
        """Return the divergence from component k to j at the contrast where it is least, (K, K)."""
        return self.family.shape_divergence(self.arrays)

    def effective_ranks(self) -> NDArray[np.float64]:
        """Return how many dimensions each component's power is spread over, (K,)."""
        return self.family.effective_ranks(self.arrays)

    def portraits(self) -> list[Portrait]:
        """Return pictures of the components."""
        return self.family.portraits(self.arrays, self.shape)


def no_density(number: int) -> DensityError:
    """Return the error for a sample, by its number, that no component gives a density."""
    return DensityError(
        f"sample {number} has no finite log-density under any component: it is too far from the model for its dtype; "
        f"look for an outlier, or rescale X."
    )


def largest_posteriors(joint: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Return the n best samples of each component, (K, n), from joint values log π_k + log p(x|k), (n_samples, K)."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    rows = np.arange(len(joint))
    winner = joint.argmax(axis=1)
    # log γ/(1 − γ). For the winner, whose γ may round to 1, from the sum over the others.
    others = joint.copy()
    others[rows, winner] = -np.inf
    with np.errstate(divide="ignore"):
        log_odds = joint - logsumexp(joint, axis=1, keepdims=True)
        log_odds -= np.log1p(-np.exp(np.minimum(log_odds, np.log(0.5))))
    log_odds[rows, winner] = joint[rows, winner] - logsumexp(others, axis=1) if joint.shape[1] > 1 else joint[:, 0]
    n = min(n, len(joint))
    best = np.argpartition(-log_odds, n - 1, axis=0)[:n]
    order = np.argsort(-np.take_along_axis(log_odds, best, axis=0), axis=0, kind="stable")
    return np.take_along_axis(best, order, axis=0).T.astype(np.int64)
