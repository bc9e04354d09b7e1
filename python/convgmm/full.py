"""The mixture with full covariance matrices: brute force in result, not in cost."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from threadpoolctl import threadpool_limits

from . import _core
from .initialize import draw
from .mixture import CollapseError, Floats, Mixture

# Below so many features float32 gains little, while they are easily so correlated (the log-densities of a layer below
# are) that sums in it leave covariances that are not positive definite.
_LEAST_SINGLE = 64
# Below so many features no component can be dropped early, and a rotation gains nothing.
_LEAST_ROTATED = 32
# Samples rotated at a time, so that no second copy of all of them is made.
_BLOCK = 8192
# Samples for each component from which the start is found.
_DRAWS_PER_COMPONENT = 100


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Parameters in rotated coordinates: weights (K,), means (K, D) and covariances (K, D, D)."""

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def take(self, kept: NDArray[np.intp]) -> "Gaussians":
        """Return the components of these indices, their weights renormalised."""
        weights = self.weights[kept]
        return Gaussians(weights / weights.sum(), self.means[kept], self.covariances[kept])


@dataclass(frozen=True, eq=False)
class MomentStatistics:
    """Summed responsibilities (K,), moments about the means of the E-step (K, D) and (K, D, D), log-likelihood."""

    responsibility: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    log_likelihood: float


@dataclass(eq=False)
class Samples:
    """Rotated samples (n, D), what a start orders them by, (n,), and each one's likeliest component, (n,).

    The order is that along one fixed direction, of the samples as they were given and in float64: rounding does not
    change it, and only equal samples stand at one place. A likeliest component is that of the last iteration, −1 where
    not known.
    """

    rotated: Floats
    places: NDArray[np.float64]
    winners: NDArray[np.int32]
    n_components: int


class FullGMM(Mixture[Samples, Gaussians, MomentStatistics]):
    """Gaussian mixture model with full covariance matrices.

    C_k = M_k + `reg_covar` · I with M_k the weighted scatter about μ_k. With C_k = L_k L_kᵀ and z = L_k⁻¹ (x − μ_k),

        log p(x|k) = −½ (‖z‖² + D log 2π) − Σ log diag L_k.

    ‖z‖² is a sum of terms that are not negative, so part of it bounds the density from above. The samples are rotated
    once to the principal axes of all data, largest variance first; a sample's likeliest component is evaluated first,
    and every other one is dropped as soon as its bound shows that it cannot be seen in the sum. What is dropped changes
    the likelihood by less than the dtype resolves, so the results are those of the brute-force evaluation. float32
    samples of 64 features or more are computed in float32 with float64 sums, everything else in float64.

    Parameters
    ----------
    n_components : int, default=1
        Number of components that EM starts with.
    means : {"free", "zero"}, default="free"
        Whether means are estimated, or all are 0.
    init : {"kmeans++", "random"}, default="kmeans++"
        Start: hard assignment to centres that are far from one another, refined by a few steps of k-means on some of
        the samples, or to random samples. Neither depends on the order of the samples.
    weights_init : array-like of shape (n_components,), default=None
        Start of the weights; sums to 1.
    means_init : array-like of shape (n_components, n_features), default=None
        Start of the means. Without `covariances_init`, covariances are those of the samples nearest to each.
    covariances_init : array-like of shape (n_components, n_features, n_features), default=None
        Start of the covariances, symmetric and positive definite. Used exactly: `reg_covar` is not added.
    resp_init : array-like of shape (n_samples, n_components), default=None
        Responsibilities from which what is not given otherwise starts; rows sum to 1.
    n_init : int, default=1
        Number of starts; the one with the largest `lower_bound_` is kept. One whose covariances do not stay positive
        definite is given up with a warning, or, if all are, with an error.
    max_iter : int, default=100
        Most EM iterations.
    tol : float, default=1e-3
        EM stops when an iteration gains less than this, in nats per sample, and loses nothing. 0 runs all `max_iter`.
    reg_covar : float, default=1e-6
        Added to the diagonal of every updated covariance, in squared units of the data. Above 0 the likelihood may
        fall a little; such a step neither warns nor counts as converged.
    prune_threshold : float, default=1e-4
        Least share of the total sample weight; a component below it is removed during EM. 0 never removes one.
    output : {"posterior", "likelihood", "log_density", "standardized"}, default="posterior"
        What `transform` returns.
    temperature : float, default=1
        The outputs "likelihood" and "posterior" raise densities to the power 1 / `temperature` before they normalise:
        above 1, rows are less peaked.
    drop_last : bool, default=False
        Whether `transform` leaves out the last component, which the others determine when rows sum to 1 (or, when
        standardized, to 0): K − 1 independent values instead of K. Not for "log_density".
    warm_start : bool, default=False
        Whether `fit` goes on from the fitted parameters; `n_components` and starts are then ignored.
    random_state : int, RandomState or None, default=None
        Source of the starts and of `sample`.
    n_threads : int, default=None
        Threads; None is what OpenMP would use. Results do not depend on it, to the last bit.
    verbose : int, default=0
        Above 0, `fit` shows a progress bar.

    Attributes
    ----------
    weights_ : ndarray of shape (K,), float64
        Mixing proportions.
    means_ : ndarray of shape (K, n_features), float64
        Means.
    covariances_ : ndarray of shape (K, n_features, n_features), float64
        Covariances.
    precisions_cholesky_ : ndarray of shape (K, n_features, n_features), float64
        Upper triangular U_k with U_k U_kᵀ = C_k⁻¹, as in scikit-learn's GaussianMixture.
    n_components_, lower_bound_, lower_bounds_, n_iter_, converged_, pruned_, seconds_per_iteration_, n_features_in_
        As in `ConvGMM`.
    walk_ : list of (rows, share)
        How the last E-step of the last start pruned: after so many rows of z, the share of sample–component pairs
        evaluated that far.

    Examples
    --------
    >>> import numpy as np
    >>> from convgmm import FullGMM
    >>> X = np.random.default_rng(0).standard_normal((500, 3)) * [[1, 2, 3]]
    >>> FullGMM(1).fit(X).covariances_.shape
    (1, 3, 3)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Mixture._parameter_constraints,
        "means": [StrOptions({"free", "zero"})],
        "init": [StrOptions({"kmeans++", "random"})],
        "means_init": ["array-like", None],
        "covariances_init": ["array-like", None],
        "resp_init": ["array-like", None],
        "reg_covar": [Interval(Real, 0, None, closed="left")],
    }

    means_: NDArray[np.float64]
    covariances_: NDArray[np.float64]
    precisions_cholesky_: NDArray[np.float64]
    walk_: list[tuple[int, float]]

    def __init__(
        self,
        n_components: int = 1,
        *,
        means: str = "free",
        init: str = "kmeans++",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        covariances_init: ArrayLike | None = None,
        resp_init: ArrayLike | None = None,
        n_init: int = 1,
        max_iter: int = 100,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        prune_threshold: float = 1e-4,
        output: str = "posterior",
        temperature: float = 1.0,
        drop_last: bool = False,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_threads: int | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.n_components = n_components
        self.means = means
        self.init = init
        self.weights_init = weights_init
        self.means_init = means_init
        self.covariances_init = covariances_init
        self.resp_init = resp_init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.prune_threshold = prune_threshold
        self.output = output
        self.temperature = temperature
        self.drop_last = drop_last
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags

    # ---- shapes and coordinates --------------------------------------------------------------------------------------

    def _check_sample_shape(self, shape: tuple[int, ...] | None, *, reset: bool) -> None:
        if reset:
            if self.warm_start and self.means == "zero" and np.any(getattr(self, "means_", 0)):
                raise ValueError('warm_start=True cannot go on with means="zero" from means that are not 0.')
            if self.warm_start and hasattr(self, "means_") and self.means_.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"warm_start=True goes on from samples of {self.means_.shape[1]} features, but X has "
                    f"{self.n_features_in_}; pass such samples, or set warm_start=False."
                )
            self._sample_shape = (self.n_features_in_,) if shape is None else shape
        elif shape is not None and shape != self._sample_shape:
            raise ValueError(f"X holds samples of shape {shape}, but the model was fitted to {self._sample_shape}.")

    def _validate(self, X: Any, *, reset: bool) -> NDArray[Any]:
        checked = super()._validate(X, reset=reset)
        return checked if checked.shape[1] >= _LEAST_SINGLE else checked.astype(np.float64, copy=False)

    def _data(self, X: NDArray[Any]) -> Floats:
        """Return the samples relative to the centre, along the axes; a new array."""
        if self._axes is None:
            return np.asarray(X - self._centre.astype(X.dtype))
        axes = self._axes.astype(X.dtype)
        centre = self._centre.astype(X.dtype)
        rotated = np.empty_like(X)
        for first in range(0, len(X), _BLOCK):
            block = slice(first, first + _BLOCK)
            np.matmul(X[block] - centre, axes, out=rotated[block])
        return rotated

    def _begin(self, X: NDArray[Any], sample_weight: NDArray[np.float64] | None) -> Samples:
        n, D = X.shape
        largest = float(np.abs(X).max())
        if largest > np.sqrt(np.finfo(X.dtype).max) / D:
            raise ValueError(
                f"X holds values up to {largest:.3g}, whose squares are beyond {X.dtype}: rescale X"
                + (", or pass float64." if X.dtype == np.float32 else ".")
            )
        everyone = np.arange(n)
        weight = np.ones(n) if sample_weight is None else sample_weight
        count, first, second, _ = _core.full_moments(
            X, np.array([0, n]), everyone, weight, np.zeros((1, D)), self._threads()
        )
        mean = first[0] / count[0]
        scatter = second[0] / count[0]
        self._centre = np.zeros(D) if self.means == "zero" else mean
        self._axes = None
        if D >= _LEAST_ROTATED:
            about = scatter - np.outer(self._centre, self._centre)
            self._axes = np.ascontiguousarray(np.linalg.eigh(about)[1][:, ::-1])
        direction = np.random.RandomState(0).standard_normal(D)
        places = np.einsum("nd,d->n", X, direction, dtype=np.float64)
        return Samples(self._data(X), places, np.full(n, -1, dtype=np.int32), 0)

    def _rotated_means(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = means - self._centre
        return centred if self._axes is None else centred @ self._axes

    def _rotated_covariances(self, covariances: NDArray[np.float64]) -> NDArray[np.float64]:
        return covariances if self._axes is None else self._axes.T @ covariances @ self._axes

    # ---- the start ---------------------------------------------------------------------------------------------------

    def _check_start(self, n_samples: int) -> None:
        self._checked_weights_init()
        self._checked_init("means_init", (self.n_components, self.n_features_in_))
        covariances = self._checked_init(
            "covariances_init", (self.n_components, self.n_features_in_, self.n_features_in_)
        )
        if covariances is not None:
            if not np.allclose(covariances, covariances.transpose(0, 2, 1), rtol=1e-8):
                raise ValueError("covariances_init must be symmetric.")
            failed = _core.full_factorize_float64(covariances, self._threads())[2]
            if failed >= 0:
                raise ValueError(f"covariances_init[{failed}] is not positive definite.")
        if self.means == "zero" and self.means_init is not None:
            raise ValueError('means_init cannot be given with means="zero".')
        self._checked_resp_init(n_samples)

    def _checked_resp_init(self, n_samples: int) -> NDArray[np.float64] | None:
        resp = self._checked_init("resp_init", (n_samples, self.n_components))
        if resp is not None and ((resp < 0).any() or not np.allclose(resp.sum(axis=1), 1, atol=1e-6)):
            raise ValueError("resp_init must not be negative, and its rows must sum to 1.")
        return resp

    def _checked_init(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        given = getattr(self, name)
        if given is None:
            return None
        values = np.array(given, dtype=np.float64)
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}; {shape} is needed.")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite.")
        return values

    def _start(self, data: Samples, sample_weight: NDArray[np.float64] | None, rng: np.random.RandomState) -> Gaussians:
        data.winners.fill(-1)
        K, D = self.n_components, self.n_features_in_
        weights = self._checked_weights_init()
        means = self._checked_init("means_init", (K, D))
        covariances = self._checked_init("covariances_init", (K, D, D))
        if means is not None:
            means = self._rotated_means(means)
        if self.means == "zero":
            means = np.zeros((K, D))
        if covariances is not None:
            covariances = np.ascontiguousarray(self._rotated_covariances(covariances))
        if weights is None or means is None or covariances is None:
            found = self._start_from_assignment(data, sample_weight, means, rng)
            weights = found.weights if weights is None else weights
            means = found.means if means is None else means
            covariances = found.covariances if covariances is None else covariances
        return Gaussians(weights, means, covariances)

    def _start_from_assignment(
        self,
        data: Samples,
        sample_weight: NDArray[np.float64] | None,
        means: NDArray[np.float64] | None,
        rng: np.random.RandomState,
    ) -> Gaussians:
        X = data.rotated
        n, D = X.shape
        K = self.n_components
        weight = np.ones(n) if sample_weight is None else sample_weight
        if self.resp_init is not None:
            resp = np.asarray(self.resp_init, dtype=np.float64)[self._used] * weight[:, None]
            component, sample = np.nonzero(resp.T)
            gamma = resp[sample, component]
            about = resp.T @ X / np.maximum(resp.sum(axis=0), np.finfo(np.float64).tiny)[:, None]
        else:
            centres = means if means is not None and self.means == "free" else self._centres(data, sample_weight, rng)
            labels = pairwise_distances_argmin(X, centres.astype(X.dtype))
            sample = np.argsort(labels, kind="stable")
            component = labels[sample]
            gamma = weight[sample]
            about = centres
        if self.means == "zero":
            about = np.zeros((K, D))
        statistics = MomentStatistics(
            *_core.full_moments(
                X,
                np.searchsorted(component, np.arange(K + 1)).astype(np.int64),
                np.ascontiguousarray(sample, dtype=np.int64),
                np.ascontiguousarray(gamma, dtype=np.float64),
                np.ascontiguousarray(about, dtype=np.float64),
                self._threads(),
            )
        )
        # A centre that no sample is nearest to has no covariance of its own.
        whole = statistics.second.sum(axis=0) / statistics.responsibility.sum() + self.reg_covar * np.eye(D)
        return self._maximize(
            statistics,
            Gaussians(np.full(K, 1 / K), np.asarray(about, dtype=np.float64), np.broadcast_to(whole, (K, D, D))),
        )

    def _centres(
        self, data: Samples, sample_weight: NDArray[np.float64] | None, rng: np.random.RandomState
    ) -> NDArray[np.float64]:
        # In an order that rounding does not change, lest one random state means another start for another dtype.
        chosen = draw(data.places, sample_weight, _DRAWS_PER_COMPONENT * self.n_components, rng)
        drawn = data.rotated[chosen].astype(np.float64)
        if self.init == "random":
            # Of equal samples one: a second centre at the same place would have no samples.
            distinct = drawn[np.sort(np.unique(drawn, axis=0, return_index=True)[1])]
            return np.resize(distinct, (self.n_components, drawn.shape[1]))
        with threadpool_limits(1):  # with more threads its sums, and so the start, differ from run to run
            found = KMeans(self.n_components, n_init=1, max_iter=20, random_state=rng).fit(drawn)
        return np.asarray(found.cluster_centers_, dtype=np.float64)

    # ---- the family's verbs ------------------------------------------------------------------------------------------

    def _may_fall(self) -> bool:
        return self.reg_covar > 0

    def _parameters(self) -> Gaussians:
        return Gaussians(
            self.weights_,
            self._rotated_means(self.means_),
            np.ascontiguousarray(self._rotated_covariances(self.covariances_)),
        )

    def _adopt(self, parameters: Gaussians) -> None:
        means, covariances = parameters.means, parameters.covariances
        if self._axes is not None:
            means = means @ self._axes.T
            covariances = self._axes @ covariances @ self._axes.T
            covariances = (covariances + covariances.transpose(0, 2, 1)) / 2  # rounding leaves it not quite symmetric
        whiteners = self._factors(covariances, np.dtype(np.float64))[0].astype(np.float64, copy=False)
        self.weights_ = parameters.weights
        self.means_ = means + self._centre
        self.covariances_ = covariances
        self.precisions_cholesky_ = _core.full_transpose_whiteners(whiteners, means.shape[1], self._threads())

    def _factors(self, covariances: NDArray[np.float64], dtype: np.dtype[Any]) -> tuple[Floats, NDArray[np.float64]]:
        factorize = _core.full_factorize_float32 if dtype == np.float32 else _core.full_factorize_float64
        whiteners, log_diagonal, failed = factorize(covariances, self._threads())
        if failed >= 0:
            raise CollapseError(
                f"the covariance of component {failed} is not positive definite: its samples are too few or too alike. "
                f"Raise reg_covar (it is {self.reg_covar:g}, in squared units of the data), or lower n_components."
            )
        return whiteners, log_diagonal - covariances.shape[1] / 2 * np.log(2 * np.pi)

    def _expect(
        self, data: Samples, sample_weight: NDArray[np.float64] | None, parameters: Gaussians
    ) -> MomentStatistics:
        if data.n_components != len(parameters.weights):  # components were removed, and the others renumbered
            data.winners.fill(-1)
            data.n_components = len(parameters.weights)
        responsibility, first, second, log_likelihood, rows, pairs = _core.full_expect(
            data.rotated,
            parameters.means,
            *self._weighted_factors(parameters, data.rotated.dtype),
            sample_weight,
            data.winners,
            [],
            self._threads(),
        )
        total = len(data.rotated) * len(parameters.weights)
        self.walk_ = [(r, p / total) for r, p in zip(rows, pairs, strict=True)]
        return MomentStatistics(responsibility, first, second, log_likelihood)

    def _maximize(self, statistics: MomentStatistics, parameters: Gaussians) -> Gaussians:
        # μ' = μ + m and C' = M − m mᵀ + reg · I, for moments about μ: m = Σ γ (x − μ) / N, M = Σ γ (x − μ)(x − μ)ᵀ / N.
        share = statistics.responsibility
        means = parameters.means.copy()
        covariances = statistics.second  # these sums are not needed again
        for k in range(len(share)):
            if share[k] == 0:  # no sample belongs to it: it stays as it is
                covariances[k] = parameters.covariances[k]
                continue
            covariances[k] /= share[k]
            if self.means == "free":
                shift = statistics.first[k] / share[k]
                means[k] += shift
                covariances[k] -= np.multiply.outer(shift, shift)
            covariances[k].flat[:: self.n_features_in_ + 1] += self.reg_covar
        return Gaussians(share / share.sum(), means, covariances)

    def _log_density(self, data: Floats) -> Floats:
        fitted = self._parameters()
        factors = self._factors(fitted.covariances, data.dtype)
        return _core.full_log_density(data, fitted.means, *factors, self._threads())

    def _posterior(self, data: Floats, *, weighted: bool = True) -> tuple[Floats, Floats]:
        fitted = self._parameters()
        factors = (
            self._weighted_factors(fitted, data.dtype) if weighted else self._factors(fitted.covariances, data.dtype)
        )
        return _core.full_posterior(data, fitted.means, *factors, self._threads())

    def _weighted_factors(self, parameters: Gaussians, dtype: np.dtype[Any]) -> tuple[Floats, NDArray[np.float64]]:
        whiteners, normalisers = self._factors(parameters.covariances, dtype)
        with np.errstate(divide="ignore"):
            return whiteners, normalisers + np.log(parameters.weights)

    def _draw(self, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        factor = np.linalg.cholesky(self.covariances_[component])
        drawn = rng.standard_normal((n, len(factor))) @ factor.T + self.means_[component]
        return np.asarray(drawn.reshape(n, *self._sample_shape))

    def _parameters_per_component(self) -> int:
        D = self.n_features_in_
        return D * (D + 1) // 2 + (D if self.means == "free" else 0)
