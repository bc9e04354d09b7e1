"""What every mixture shares: the EM driver, its monitor, and the estimator's contract.

EM is three verbs. ``expect(data, parameters)`` gives statistics, whose size does not depend on the number of samples;
statistics add up, in the core; ``maximize(statistics, parameters)`` gives parameters. A covariance family says what its
data, parameters and statistics are; everything else is here.
"""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from tqdm.auto import tqdm

#: float32 or float64, as the data is.
Floats: TypeAlias = NDArray[np.floating[Any]]

#: What `transform` can give: per sample, one value for each component.
OUTPUTS = ("log_density", "standardized", "likelihood", "posterior")

# In units of the dtype's resolution: what the mean log-likelihood may fall by before it is called a fall.
_ROUNDING = 8.0
# Responsibilities below this are dropped by the core in float32 (posterior.hpp).
_DROPPED = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-15}


class Statistics(Protocol):
    """What EM needs from data; two of them add up."""

    @property
    def responsibility(self) -> NDArray[np.float64]:
        """Weighted responsibilities summed over samples, (K,)."""

    @property
    def log_likelihood(self) -> float:
        """Weighted sum of log p(x) over samples."""


class Parameters(Protocol):
    """A mixture's parameters; `weights` (K,) and whatever describes K components."""

    @property
    def weights(self) -> NDArray[np.float64]:
        """Mixing proportions, (K,)."""

    def take(self, kept: NDArray[np.intp]) -> Self:
        """Return the components of these indices, their weights renormalised."""


P = TypeVar("P", bound=Parameters)
S = TypeVar("S", bound=Statistics)
D = TypeVar("D")  # what a family reads of all samples in every iteration


@dataclass(frozen=True)
class Pruning:
    """The removal of an empty component.

    Attributes
    ----------
    iteration : int
        Iteration, counted from 0, after whose M-step the component was removed.
    index : int
        Its index among the components that there were then.
    share : float
        Its share of the total sample weight.
    """

    iteration: int
    index: int
    share: float


class LikelihoodWarning(UserWarning):
    """The likelihood fell where plain EM cannot let it fall."""


class CollapseError(ValueError):
    """A component shrank so far that its covariance is not positive definite any more."""


@dataclass
class Monitor:
    """Watches the likelihood: says when EM has converged, and warns when the likelihood falls.

    Parameters
    ----------
    tol : float
        EM has converged when the mean log-likelihood gains less than this, in nats, and does not fall.
    relative, absolute : float
        How far the mean log-likelihood may fall by rounding alone: a share of its size, plus so many nats.
    may_fall : bool, default=False
        Whether the steps are such that a fall is no surprise. It then does not warn, nor does it count as converged.
    """

    tol: float
    relative: float
    absolute: float
    may_fall: bool = False
    lower_bounds: list[float] = field(default_factory=list)

    def converged(self, lower_bound: float, *, exempt: bool) -> bool:
        """Record an iteration; `exempt` when the step that led to it removed components."""
        gain = lower_bound - self.lower_bounds[-1] if self.lower_bounds else np.inf
        self.lower_bounds.append(lower_bound)
        if exempt:
            return False
        rounding = self.relative * abs(lower_bound) + self.absolute
        if gain < -rounding and not self.may_fall:
            warnings.warn(
                f"the mean log-likelihood fell by {-gain:.3g} nats in iteration {len(self.lower_bounds) - 1}, more "
                f"than rounding explains ({rounding:.1g}): please report this with the data.",
                LikelihoodWarning,
                stacklevel=2,
            )
        return bool(0 <= gain < self.tol)


@dataclass
class Run(Generic[P]):
    """The course of one EM run; brought up to date in every iteration, so that an interrupt loses nothing."""

    parameters: P
    lower_bounds: list[float]
    prunings: list[Pruning] = field(default_factory=list)
    converged: bool = False
    seconds: float = 0.0


def run_em(
    run: Run[P],
    monitor: Monitor,
    expect: Callable[[P], S],
    maximize: Callable[[S, P], P],
    *,
    max_iter: int,
    prune_threshold: float,
    out_of_reach: bool = False,
    progress: bool = False,
) -> None:
    """Iterate from ``run.parameters`` until the monitor calls it converged, or `max_iter` iterations are done.

    Parameters
    ----------
    run : Run
        Holds the start; holds the result afterwards, and what was reached when this is interrupted.
    monitor : Monitor
        Its list of bounds is the run's.
    expect, maximize : callable
        The family's verbs.
    max_iter : int
        Most iterations.
    prune_threshold : float
        Least share of the total weight; components below are removed, never the last one.
    out_of_reach : bool, default=False
        Whether no M-step could give the start, so that the first step may let the likelihood fall.
    progress : bool, default=False
        Whether a progress bar is shown.
    """
    run.lower_bounds = monitor.lower_bounds
    exempt = False  # may the step from the last iteration to this one let the likelihood fall?
    started = time.perf_counter()
    with tqdm(total=max_iter, desc="EM", unit="it", disable=not progress) as bar:
        for iteration in range(max_iter):
            statistics = expect(run.parameters)
            total = float(statistics.responsibility.sum())
            converged = monitor.converged(statistics.log_likelihood / total, exempt=exempt)
            share = statistics.responsibility / total
            parameters = maximize(statistics, run.parameters)
            full = share >= prune_threshold
            full[np.argmax(share)] = True
            pruned = not full.all()
            exempt = pruned or (iteration == 0 and out_of_reach)
            if pruned:
                parameters = parameters.take(np.flatnonzero(full))
                run.prunings += [Pruning(iteration, int(k), float(share[k])) for k in np.flatnonzero(~full)]
            run.parameters = parameters
            run.seconds = time.perf_counter() - started
            bar.set_postfix(bound=f"{monitor.lower_bounds[-1]:.4f}", components=len(parameters.weights), refresh=False)
            bar.update()
            if converged and not pruned:
                run.converged = True
                break


def largest_posteriors(joint: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Return the n best samples of each component, (K, n), from joint values log π_k + log p(x|k), (n_samples, K)."""
    rows = np.arange(len(joint))
    winner = joint.argmax(axis=1)
    # log γ/(1 − γ). For the winner, whose γ may round to 1, from the sum over the others.
    others = joint.copy()
    others[rows, winner] = -np.inf
    with np.errstate(divide="ignore"):
        log_odds = joint - logsumexp(joint, axis=1, keepdims=True)
        log_odds -= np.log1p(-np.exp(np.minimum(log_odds, np.log(0.5))))
    log_odds[rows, winner] = joint[rows, winner] - logsumexp(others, axis=1) if joint.shape[1] > 1 else joint[:, 0]
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    n = min(n, len(joint))
    best = np.argpartition(-log_odds, n - 1, axis=0)[:n]
    order = np.argsort(-np.take_along_axis(log_odds, best, axis=0), axis=0, kind="stable")
    return np.take_along_axis(best, order, axis=0).T.astype(np.int64)


class Mixture(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator, ABC, Generic[D, P, S]):  # type: ignore[misc]
    """A mixture of Gaussians as a scikit-learn estimator; the families derive from it."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "prune_threshold": [Interval(Real, 0, 1, closed="left")],
        "output": [StrOptions(set(OUTPUTS))],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "drop_last": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "verbose": ["verbose"],
        "weights_init": ["array-like", None],
    }

    n_components: int
    n_init: int
    max_iter: int
    tol: float
    prune_threshold: float
    output: str
    temperature: float
    drop_last: bool
    warm_start: bool
    random_state: int | np.random.RandomState | None
    n_threads: int | None
    verbose: int | bool
    weights_init: ArrayLike | None

    weights_: NDArray[np.float64]
    lower_bound_: float
    lower_bounds_: NDArray[np.float64]
    n_iter_: int
    converged_: bool
    pruned_: list[Pruning]
    seconds_per_iteration_: float
    _sample_shape: tuple[int, ...]
    n_features_in_: int

    # ---- what a family says ------------------------------------------------------------------------------------------

    @abstractmethod
    def _data(self, X: NDArray[Any]) -> Floats:
        """Turn validated samples (n, n_features) into what densities are computed from, (n, D)."""

    @abstractmethod
    def _check_start(self, n_samples: int) -> None:
        """Check the starting values that the user gave, before any work."""

    @abstractmethod
    def _begin(self, X: NDArray[Any], sample_weight: NDArray[np.float64] | None) -> D:
        """Check the samples for what this family cannot model, and return what `_expect` reads of them."""

    @abstractmethod
    def _start(self, data: D, sample_weight: NDArray[np.float64] | None, rng: np.random.RandomState) -> P:
        """Return starting parameters."""

    @abstractmethod
    def _parameters(self) -> P:
        """Return the fitted parameters."""

    @abstractmethod
    def _adopt(self, parameters: P) -> None:
        """Set the fitted attributes."""

    @abstractmethod
    def _expect(self, data: D, sample_weight: NDArray[np.float64] | None, parameters: P) -> S:
        """Return the statistics of all data."""

    @abstractmethod
    def _maximize(self, statistics: S, parameters: P) -> P:
        """Return the parameters that maximise the expected log-likelihood."""

    @abstractmethod
    def _log_density(self, data: Floats) -> Floats:
        """Return log p(x|k), (n, K)."""

    @abstractmethod
    def _posterior(self, data: Floats, *, weighted: bool = True) -> tuple[Floats, Floats]:
        """Return responsibilities (n, K), with or without the mixture's weights, and log p(x) (n,)."""

    @abstractmethod
    def _draw(self, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Return n samples (n, *shape) of one component."""

    @abstractmethod
    def _parameters_per_component(self) -> int:
        """Return the number of free parameters of one component, without its weight."""

    def _threads(self) -> int:
        return self.n_threads or 0  # 0: what OpenMP would use

    def _may_fall(self) -> bool:
        """Say whether the M-step is not that of EM, so that the likelihood may fall a little."""
        return False

    def _is_out_of_reach(self, start: P) -> bool:
        """Say whether no M-step could give these parameters, so that the likelihood may fall in the first."""
        return False

    # ---- input -------------------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @staticmethod
    def _flatten(X: Any) -> tuple[Any, tuple[int, ...] | None]:
        """Flatten images or volumes to (n, n_features); the shape of one sample, None for two-dimensional input."""
        n_axes = np.ndim(X) if isinstance(X, list | tuple) else getattr(X, "ndim", 2)
        if n_axes <= 2:
            return X, None
        array = np.asarray(X)
        if array.ndim > 4:
            raise ValueError(
                f"Found array with dim {array.ndim}, while dim <= 4 is required: (n, length) signals, "
                f"(n, height, width) images or (n, depth, height, width) volumes."
            )
        return array.reshape(len(array), -1 if array.size else int(np.prod(array.shape[1:]))), array.shape[1:]

    @abstractmethod
    def _check_sample_shape(self, shape: tuple[int, ...] | None, *, reset: bool) -> None:
        """Check the shape that a sample came in against `_sample_shape`, or with `reset` set that."""

    def _validate(self, X: Any, *, reset: bool) -> NDArray[Any]:
        flat, shape = self._flatten(X)
        checked: NDArray[Any] = validate_data(
            self, flat, dtype=[np.float64, np.float32], order="C", reset=reset, ensure_min_samples=2 if reset else 1
        )
        self._check_sample_shape(shape, reset=reset)
        return checked

    def _fitted_data(self, X: Any) -> Floats:
        check_is_fitted(self)
        return self._data(self._validate(X, reset=False))

    def _checked_weights_init(self) -> NDArray[np.float64] | None:
        if self.weights_init is None:
            return None
        weights = np.array(self.weights_init, dtype=np.float64)
        if weights.shape != (self.n_components,):
            raise ValueError(f"weights_init has shape {weights.shape}; ({self.n_components},) is needed.")
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("weights_init must be finite and not negative.")
        if abs(weights.sum() - 1) > 1e-6:
            raise ValueError(f"weights_init must sum to 1; it sums to {weights.sum():.9g}.")
        return weights

    # ---- fitting -----------------------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train by expectation–maximisation.

        Parameters
        ----------
        X : array-like of shape (n, n_features), (n, height, width) or (n, depth, height, width)
            Samples; the class says which dtype they are computed in.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample, not negative; a weight of 2 is the same as the sample twice.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the data or a parameter is out of range; the message says what to do.
        KeyboardInterrupt
            On Ctrl-C; the model is then what the last whole iteration made it.
        """
        self._fit(self._checked(X), sample_weight)
        return self

    def _checked(self, X: Any) -> NDArray[Any]:
        self._validate_params()
        if self.drop_last and self.output == "log_density":
            raise ValueError('drop_last=True has no meaning with output="log_density": its values are independent.')
        return self._validate(X, reset=True)

    def _fit(self, X: NDArray[Any], sample_weight: ArrayLike | None) -> None:
        self._check_start(len(X))
        weight: NDArray[np.float64] | None = None
        self._used: NDArray[np.intp] | slice = slice(None)  # the samples whose weight is not 0
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
            # Only ratios count; near 1 they fit every dtype, and a power of two changes no bits.
            weight = weight / np.ldexp(1.0, int(np.frexp(weight.max())[1]))
            self._used = np.flatnonzero(weight)
            if len(self._used) < len(X):
                X, weight = X[self._used], weight[self._used]
        if len(X) < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} components need at least as many samples, got "
                f"n_samples = {len(X)}; lower n_components or pass more samples."
            )
        data = self._begin(X, weight)
        rng = check_random_state(self.random_state)
        warm = self.warm_start and hasattr(self, "weights_")
        best: Run[P] | None = None
        current: Run[P] | None = None
        collapses: list[CollapseError] = []
        n_runs = 1 if warm else self.n_init
        try:
            for _ in range(n_runs):
                current = Run(self._parameters() if warm else self._start(data, weight, rng), [])
                try:
                    self._run(current, data, X.dtype, weight)
                except CollapseError as collapse:
                    collapses.append(collapse)
                    continue
                if best is None or current.lower_bounds[-1] > best.lower_bounds[-1]:
                    best = current
            if best is None:
                raise collapses[0]
        except BaseException:
            # What was reached is kept, unless it is itself what failed.
            reached = current if best is None else best
            if reached is not None and reached.lower_bounds:
                with suppress(ValueError):
                    self._keep(reached)
            raise
        self._keep(best)
        if collapses:
            warnings.warn(
                f"{len(collapses)} of {n_runs} starts were given up: {collapses[0]}", ConvergenceWarning, stacklevel=3
            )
        if not self.converged_:
            warnings.warn(
                f"EM did not converge in {self.n_iter_} iterations: raise max_iter or tol, or look at lower_bounds_.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _run(self, run: Run[P], data: D, dtype: np.dtype[Any], weight: NDArray[np.float64] | None) -> None:
        relative = _ROUNDING * float(np.finfo(dtype).eps)
        # Where the bound is near 0, it is the difference of terms of the size of the degrees of freedom.
        absolute = relative * self.n_features_in_ + len(run.parameters.weights) * _DROPPED[dtype]
        run_em(
            run,
            Monitor(self.tol, relative, absolute, may_fall=self._may_fall()),
            lambda parameters: self._expect(data, weight, parameters),
            self._maximize,
            max_iter=self.max_iter,
            prune_threshold=self.prune_threshold,
            out_of_reach=self._is_out_of_reach(run.parameters),
            progress=bool(self.verbose),
        )

    def _keep(self, run: Run[P]) -> None:
        self._adopt(run.parameters)
        self.lower_bounds_ = np.array(run.lower_bounds)
        self.lower_bound_ = run.lower_bounds[-1]
        self.n_iter_ = len(run.lower_bounds)
        self.converged_ = run.converged
        self.pruned_ = run.prunings
        self.seconds_per_iteration_ = run.seconds / self.n_iter_

    @property
    def n_components_(self) -> int:
        """Number of components that remain after pruning."""
        return len(self.weights_)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_ - int(self.drop_last)

    def fit_predict(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> NDArray[np.int64]:
        """Train, and return each sample's likeliest component, (n,); parameters and errors as in `fit`."""
        X = self._checked(X)
        self._fit(X, sample_weight)
        return self._likeliest(self._data(X))

    # ---- using the fitted model --------------------------------------------------------------------------------------

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return each sample's likeliest component.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.

        Returns
        -------
        components : ndarray of shape (n,), int64
        """
        return self._likeliest(self._fitted_data(X))

    def _likeliest(self, data: Floats) -> NDArray[np.int64]:
        return np.asarray(self._posterior(data)[0].argmax(axis=1), dtype=np.int64)

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the posterior π_k p(x|k) / Σ_j π_j p(x|j), (n, K), in the dtype of the computation."""
        return self._posterior(self._fitted_data(X))[0]

    def log_density(self, X: ArrayLike) -> Floats:
        """Return log p(x|k) in nats per sample, (n, K), without the components' weights."""
        return self._log_density(self._fitted_data(X))

    def score_samples(self, X: ArrayLike) -> Floats:
        """Return log p(x) in nats, (n,)."""
        return self._posterior(self._fitted_data(X))[1]

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean of `score_samples`, in nats per sample."""
        return float(self.score_samples(X).mean(dtype=np.float64))

    def transform(self, X: ArrayLike) -> Floats:
        """Return what the next layer sees of each sample, (n, K), as `output` says.

        ``"log_density"`` is log p(x|k); ``"standardized"`` the same with each sample's mean set to 0 and deviation to
        1; ``"likelihood"`` p(x|k) / Σ_j p(x|j); ``"posterior"`` π_k p(x|k) / Σ_j π_j p(x|j); both with p to the power
        1 / `temperature`. With `drop_last` the last component is left out, (n, K − 1).
        """
        values = self._output(self._fitted_data(X))
        return np.ascontiguousarray(values[:, :-1]) if self.drop_last else values

    def _output(self, data: Floats) -> Floats:
        weighted = self.output == "posterior"
        if self.output in ("likelihood", "posterior") and self.temperature == 1:
            return self._posterior(data, weighted=weighted)[0]
        values = self._log_density(data)
        if self.output in ("likelihood", "posterior"):
            values /= self.temperature
            if weighted:
                with np.errstate(divide="ignore"):  # a weight of 0
                    values += np.log(self.weights_).astype(values.dtype)
            return np.asarray(softmax(values, axis=1))
        if self.output == "standardized":
            values -= values.mean(axis=1, keepdims=True)
            deviation = values.std(axis=1, keepdims=True)
            values /= np.where(deviation > 0, deviation, 1)  # a single component, or equal ones: all zero
        return values

    def top_samples(self, X: ArrayLike, n: int = 10) -> NDArray[np.int64]:
        """Return for each component the samples with the largest posterior for it.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.
        n : int, default=10
            How many for each component, at most the number of samples.

        Returns
        -------
        indices : ndarray of shape (K, min(n, n_samples)), int64
            Largest posterior first. Posteriors that round to 1 are still told apart, by their log-odds.
        """
        return largest_posteriors(self._joint(self._fitted_data(X)), n)

    def _joint(self, data: Floats) -> NDArray[np.float64]:
        """Return log π_k + log p(x|k), (n, K)."""
        with np.errstate(divide="ignore"):  # a weight of 0
            return np.asarray(self._log_density(data) + np.log(self.weights_), dtype=np.float64)

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw from the mixture, with `random_state`.

        Parameters
        ----------
        n_samples : int, default=1
            How many.

        Returns
        -------
        X : ndarray of shape (n_samples, *shape of a sample), float64
        components : ndarray of shape (n_samples,), int64
            The component that each was drawn from.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        rng = check_random_state(self.random_state)
        components = rng.choice(self.n_components_, size=n_samples, p=self.weights_).astype(np.int64)
        counts = np.bincount(components, minlength=self.n_components_)
        drawn = np.concatenate([self._draw(k, int(count), rng) for k, count in enumerate(counts) if count])
        X = np.empty_like(drawn)
        X[np.argsort(components, kind="stable")] = drawn
        return X, components

    def _n_parameters(self) -> int:
        return self.n_components_ - 1 + self.n_components_ * self._parameters_per_component()

    def aic(self, X: ArrayLike) -> float:
        """Return Akaike's information criterion, 2 p − 2 log L, for p free parameters; lower is better."""
        return 2 * self._n_parameters() - 2 * float(self.score_samples(X).sum(dtype=np.float64))

    def bic(self, X: ArrayLike) -> float:
        """Return the Bayesian information criterion, p log n − 2 log L, for p free parameters; lower is better."""
        log_probability = self.score_samples(X)
        return float(self._n_parameters() * np.log(len(log_probability)) - 2 * log_probability.sum(dtype=np.float64))
