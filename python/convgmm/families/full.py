"""Gaussians with full covariance matrices: brute force in result, not in cost.

    log p(x|k) = −½ (‖z‖² + D log 2π) + Σ_i log W_k,ii,    z = W_k (x − μ_k),    W_k = L_k⁻¹,    C_k = L_k L_kᵀ

Samples of a signal in white noise of variance v have the covariances C_k + v I.

The samples are rotated once to the principal axes of all data, largest variance first, because part of the sum ‖z‖²
then tells most about the rest.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from .. import _core
from ..initialize import draw, k_means, n_draws, nearest
from ..source import Block
from .family import (
    SOFT,
    Arrays,
    Assign,
    CollapseError,
    CoreScales,
    Data,
    Floats,
    Portrait,
    Reading,
    Scalable,
    effective_ranks,
    log_shares,
    log_weights,
    merged,
    shares,
    shares_of,
)
from .gaussians import Rotated

#: Below so many features float32 gains little, while they are easily so correlated (the log-densities of a layer below
#: are) that sums in it leave covariances that are not positive definite: float64 is computed in.
LEAST_SINGLE = 64
# Below so many features no component can be dropped early, and a rotation gains nothing.
_LEAST_ROTATED = 32
# Features whose scales differ by more are not rotated: in a sum the large ones' rounding would cover the small ones.
_MOST_UNEVEN = 1e4
# Leading eigenvectors shown of a covariance.
_EIGENVECTORS = 3


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Parameters in the frame's coordinates: weights (K,), means (K, D) and covariances (K, D, D).

    After an M-step also the second moments (K, D) that the covariances' diagonals are the differences of.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]
    moments: NDArray[np.float64] | None = None

    def take(self, kept: NDArray[np.intp]) -> "Gaussians":
        """Return the components of these indices, their weights renormalised."""
        weights = self.weights[kept]
        moments = None if self.moments is None else self.moments[kept]
        return Gaussians(shares(weights), self.means[kept], self.covariances[kept], moments)

    def with_weights(self, weights: NDArray[np.float64]) -> "Gaussians":
        """Return the same components in other proportions."""
        return replace(self, weights=weights)


@dataclass(frozen=True, eq=False)
class MomentStatistics:
    """Moments of what each component claims.

    Attributes
    ----------
    origin : ndarray of shape (K, D)
        What the moments are about: the means of the E-step, so that nothing cancels.
    responsibility : ndarray of shape (K,)
        Σ γ.
    first, second : ndarray of shapes (K, D) and (K, D, D)
        Σ γ (x − origin) and Σ γ (x − origin)(x − origin)ᵀ.
    log_likelihood : float
        Σ log p(x).
    walk : list of (rows, pairs)
        How the E-step pruned: the sample–component pairs evaluated up to so many rows of z.
    n_pairs : int
        All pairs.
    """

    origin: NDArray[np.float64]
    responsibility: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    log_likelihood: float
    walk: tuple[tuple[int, int], ...] = ()
    n_pairs: int = 1

    @property
    def details(self) -> dict[str, Any]:
        """The walk, as shares of all pairs."""
        return {"walk_": [(rows, pairs / self.n_pairs) for rows, pairs in self.walk]}

    def __add__(self, other: "MomentStatistics") -> "MomentStatistics":
        moved = other.recentred(self.origin)
        rows = sorted({*dict(self.walk), *dict(other.walk)})
        return MomentStatistics(
            self.origin,
            self.responsibility + moved.responsibility,
            self.first + moved.first,
            self.second + moved.second,
            self.log_likelihood + moved.log_likelihood,
            tuple((r, dict(self.walk).get(r, 0) + dict(other.walk).get(r, 0)) for r in rows),
            self.n_pairs + other.n_pairs,
        )

    def __mul__(self, factor: float) -> "MomentStatistics":
        return replace(
            self,
            responsibility=self.responsibility * factor,
            first=self.first * factor,
            second=self.second * factor,
            log_likelihood=self.log_likelihood * factor,
        )

    def recentred(self, origin: NDArray[np.float64]) -> "MomentStatistics":
        """Return the same moments about other points (K, D)."""
        if origin is self.origin or np.array_equal(origin, self.origin):
            return self
        # With d = old − new origin: Σγ(x−b) = f + N d;  Σγ(x−b)(x−b)ᵀ = S + f dᵀ + d fᵀ + N d dᵀ.
        shift = self.origin - origin
        share, outer = self.responsibility[:, None], shift[:, None, :] * self.first[:, :, None]
        return MomentStatistics(
            origin,
            self.responsibility,
            self.first + share * shift,
            self.second + outer + outer.transpose(0, 2, 1) + share[:, None] * shift[:, :, None] * shift[:, None, :],
            self.log_likelihood,
            self.walk,
            self.n_pairs,
        )


@dataclass(frozen=True, eq=False)
class FullSurvey:
    """Moments of all samples."""

    moments: MomentStatistics

    def __add__(self, other: "FullSurvey") -> "FullSurvey":
        return FullSurvey(self.moments + other.moments)


@dataclass(frozen=True, eq=False)
class FullFrame:
    """The coordinates of a fit: relative to the centre (D,), along the columns of axes (D, D) if there are any."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64] | None

    def project(self, X: Floats, n_threads: int) -> Floats:
        """Return samples (n, D) in these coordinates; a new array."""
        if self.axes is None:
            return np.asarray(X - self.centre.astype(X.dtype))
        return _core.project(X, self.centre, self.axes, n_threads)

    def project_means(self, means: NDArray[np.float64], n_threads: int) -> NDArray[np.float64]:
        """Return means (K, D) in these coordinates."""
        return np.asarray(self.project(means, n_threads), dtype=np.float64)

    def rotated(self, covariances: NDArray[np.float64], n_threads: int, *, back: bool = False) -> NDArray[np.float64]:
        """Return Aᵀ C A of covariances (K, D, D), with the axes A; with `back`, A C Aᵀ."""
        if self.axes is None:
            return covariances
        axes = np.ascontiguousarray(self.axes.T) if back else self.axes
        zero = np.zeros(len(axes))
        half = _core.project(covariances.reshape(-1, len(axes)), zero, axes, n_threads).reshape(covariances.shape)
        half = np.ascontiguousarray(half.transpose(0, 2, 1))
        whole = _core.project(half.reshape(-1, len(axes)), zero, axes, n_threads).reshape(covariances.shape)
        whole += whole.transpose(0, 2, 1).copy()  # rounding leaves it not quite symmetric
        whole *= 0.5
        return np.asarray(whole, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class FullStart:
    """What a user gives of a start, in the samples' coordinates; None where nothing is given."""

    n_components: int
    init: str
    weights: NDArray[np.float64] | None
    means: NDArray[np.float64] | None
    covariances: NDArray[np.float64] | None
    responsibilities: NDArray[np.float64] | None  # (n, K), of all samples of the caller


@dataclass(frozen=True, eq=False)
class PreparedGaussians:
    """Means (K, D), packed whiteners W_k in the type of the data, log-normalisers (K,) and log-weights (K,)."""

    means: NDArray[np.float64]
    whiteners: Floats
    log_normalisers: NDArray[np.float64]
    log_weights: NDArray[np.float64]
    resolution: float

    @property
    def dimension(self) -> float:
        """How many dimensions the density has."""
        return float(self.means.shape[1])


@dataclass(frozen=True)
class Full(Scalable):
    """Gaussians with full covariance matrices.

    Parameters
    ----------
    means : {"free", "zero"}
        Whether means are estimated, or all are 0.
    reg_covar : float
        Added to the diagonal of every updated covariance; with noise, the least variance along any axis instead.
    noise_var : float
        Variance of white noise in the samples, which covariances do not hold.
    """

    means: str = "free"
    reg_covar: float = 1e-6
    noise_var: float = 0.0

    @property
    def is_centred(self) -> bool:
        """Whether all components have the mean 0."""
        return self.means == "zero"

    # ---- samples -----------------------------------------------------------------------------------------------------

    def read(self, block: Block, n_threads: int) -> Reading:
        """Return the samples themselves, few features in float64."""
        return Reading(block, _computed_in(block.samples))

    def survey(self, reading: Reading, n_threads: int) -> FullSurvey:
        """Return the moments of the samples.

        Raises
        ------
        ValueError
            If their squares are beyond the number format.
        """
        X, block = reading.values, reading.block
        n, D = X.shape
        largest = max(float(X.max()), -float(X.min()))
        if largest > np.sqrt(np.finfo(X.dtype).max) / D:
            raise ValueError(
                f"X holds values up to {largest:.3g}, whose squares are beyond {X.dtype}: rescale X"
                + (", or pass float64." if X.dtype == np.float32 else ".")
            )
        weight = np.ones(n) if block.weight is None else block.weight
        # About 0, large means would leave only rounding. Of a mean with few bits differences are often exact, so that
        # the order of the samples does not matter.
        mantissa, exponent = np.frexp(X.mean(axis=0, keepdims=True, dtype=np.float64))
        origin = np.ldexp(np.round(mantissa * 2**8), exponent - 8)
        sums = _core.full_moments(X, np.array([0, n]), np.arange(n), weight, origin, n_threads)
        return FullSurvey(MomentStatistics(origin, *sums))

    def frame(self, survey: FullSurvey) -> FullFrame:
        """Return the centre and the principal axes of the samples."""
        total = survey.moments
        mean = total.origin[0] + total.first[0] / total.responsibility[0]
        centre = np.zeros(len(mean)) if self.means == "zero" else mean
        return FullFrame(centre, self._axes(total.recentred(centre[None]).second[0] / total.responsibility[0]))

    def _axes(self, scatter: NDArray[np.float64]) -> NDArray[np.float64] | None:
        if len(scatter) < _LEAST_ROTATED:
            return None
        scales = np.sqrt(np.maximum(np.diagonal(scatter), 0) + self.reg_covar)
        return None if scales.max() > _MOST_UNEVEN * scales.min() else _core.principal_axes(scatter)[1]

    def represent(self, reading: Reading, frame: FullFrame, n_threads: int) -> Data:
        """Return the samples in the frame's coordinates."""
        return Data(frame.project(reading.values, n_threads), reading.block)

    # ---- the start ---------------------------------------------------------------------------------------------------

    def start(
        self, given: FullStart, data: Data, frame: FullFrame, rng: np.random.RandomState, n_threads: int
    ) -> Gaussians:
        """Return the given parameters and, where some are not, those of samples assigned to centres."""
        data.memory.clear()
        weights, covariances = given.weights, given.covariances
        means = None if given.means is None else frame.project_means(given.means, n_threads)
        if self.means == "zero":
            means = np.zeros((given.n_components, data.values.shape[1]))
        if covariances is not None:
            covariances = frame.rotated(covariances, n_threads)
        if weights is None or means is None or covariances is None:
            found = self._from_assignment(given, data, means, rng, n_threads)
            weights = found.weights if weights is None else weights
            means = found.means if means is None else means
            covariances = found.covariances if covariances is None else covariances
        return Gaussians(weights, means, covariances)

    def _from_assignment(
        self,
        given: FullStart,
        data: Data,
        means: NDArray[np.float64] | None,
        rng: np.random.RandomState,
        n_threads: int,
    ) -> Gaussians:
        X, block = data.values, data.block
        (n, D), K = X.shape, given.n_components
        weight = np.ones(n) if block.weight is None else block.weight
        if given.responsibilities is not None:
            rows = given.responsibilities if block.numbers is None else given.responsibilities[block.numbers]
            resp = rows * weight[:, None]
            component, sample = np.nonzero(resp.T)
            gamma = resp[sample, component]
            total = np.maximum(resp.sum(axis=0), np.finfo(np.float64).tiny)
            # Not a matrix product: a library's may depend on its threads.
            origin = np.einsum("nk,nd->kd", resp, X) / total[:, None]
        else:
            if means is not None and self.means == "free":
                origin = means
            else:
                # In an order that rounding does not change, lest one random state mean another start for each dtype.
                chosen = draw(_order(block.samples), block.weight, n_draws(K, D, 8), rng)
                origin = _centres(X[chosen].astype(np.float64), given.init, K, rng, n_threads)
            labels = nearest(X, origin, n_threads)
            sample = np.argsort(labels, kind="stable")
            component = labels[sample]
            gamma = weight[sample]
        if self.means == "zero":
            origin = np.zeros((K, D))
        sums = _core.full_moments(
            X, np.searchsorted(component, np.arange(K + 1)), sample, gamma, np.ascontiguousarray(origin), n_threads
        )
        statistics = MomentStatistics(origin, *sums)
        # A centre that no sample is nearest to has no covariance of its own.
        whole = self._covariance(statistics.second.sum(axis=0) / statistics.responsibility.sum())
        previous = Gaussians(np.full(K, 1 / K), origin, np.broadcast_to(whole, (K, D, D)))
        return self.maximize(statistics, previous, FullFrame(np.zeros(D), None))

    # ---- EM ----------------------------------------------------------------------------------------------------------

    def may_fall(self) -> bool:
        """Say whether the diagonal is added to."""
        return self.reg_covar > 0 and not self.noise_var

    def can_reach(self, parameters: Gaussians, frame: FullFrame) -> bool:
        """Say whether, with noise, no variance is below the least one."""
        if not self.noise_var:
            return True
        return all(_core.principal_axes(c)[0][-1] >= self.reg_covar for c in parameters.covariances)

    def of_noisy(self, noise_var: float) -> "Full":
        """Return the family for noisy samples."""
        return replace(self, noise_var=noise_var)

    def prepare(
        self, parameters: Gaussians, frame: FullFrame, dtype: np.dtype[Any], n_threads: int
    ) -> PreparedGaussians:
        """Return the inverses of the covariances' Cholesky factors."""
        factorize = _core.full_factorize_float32 if dtype == np.float32 else _core.full_factorize_float64
        covariances = np.ascontiguousarray(parameters.covariances)
        if self.noise_var:
            covariances = covariances + self.noise_var * np.eye(covariances.shape[1])
        whiteners, log_diagonal, inverse_diagonal, failed = factorize(covariances, n_threads)
        if failed >= 0:
            raise _collapse(failed, self.reg_covar)
        D = parameters.means.shape[1]
        # Rounding a coordinate of size s to ε s moves z by W ε s, and the mean of ½‖z‖² by ½ ε² Σ_j (C⁻¹)_jj s_j².
        squares = np.diagonal(covariances, axis1=1, axis2=2) + parameters.means**2
        eps = float(np.finfo(dtype).eps)
        moved = 0.5 * eps**2 * (parameters.weights @ (inverse_diagonal * squares).sum(axis=1))
        if parameters.moments is not None:
            # The last M-step's sums are off by ε of themselves: a share r of a covariance that is what is left of them.
            # Near the optimum that costs the square.
            r = eps * (inverse_diagonal * parameters.moments).sum(axis=1)
            moved += 0.5 * float(parameters.weights @ np.minimum(r, r**2))
        return PreparedGaussians(
            parameters.means,
            whiteners,
            log_diagonal - 0.5 * D * np.log(2 * np.pi),
            log_weights(parameters.weights),
            float(moved),
        )

    def expect(
        self, prepared: PreparedGaussians, data: Data, n_threads: int, assign: Assign = SOFT
    ) -> MomentStatistics:
        """Return moments about the means; remembers each sample's likeliest component for the next time."""
        return self._statistics(prepared, data, self._sums(prepared, data, n_threads, assign, None))

    def expect_scaled(
        self, prepared: PreparedGaussians, scales: CoreScales, data: Data, n_threads: int, assign: Assign
    ) -> tuple[MomentStatistics, NDArray[np.float64]]:
        """Return the same with the weights γ u, and sums of the scales."""
        *sums, shares = self._sums(prepared, data, n_threads, assign, scales)
        return self._statistics(prepared, data, sums), shares

    def _sums(
        self, prepared: PreparedGaussians, data: Data, n_threads: int, assign: Assign, scales: CoreScales | None
    ) -> tuple[Any, ...]:
        n, K = len(data.values), len(prepared.means)
        if data.memory.get("n_components") != K:  # at first, and when components were removed and others renumbered
            data.memory.update(n_components=K, likeliest=np.full(n, -1, dtype=np.int32))
        return _core.full_expect(
            data.values,
            prepared.means,
            prepared.whiteners,
            prepared.log_normalisers + prepared.log_weights,
            data.block.weight,
            data.memory["likeliest"],
            self.stages(data.values.shape[1]),
            n_threads,
            *assign.arguments(data.block),
            scales,
        )

    def _statistics(self, prepared: PreparedGaussians, data: Data, sums: Any) -> MomentStatistics:
        responsibility, first, second, log_likelihood, rows, pairs = sums
        walk = tuple(zip(rows, pairs, strict=True))
        n_pairs = len(data.values) * len(prepared.means)
        return MomentStatistics(prepared.means, responsibility, first, second, log_likelihood, walk, n_pairs)

    def stages(self, n_features: int) -> list[int]:
        """Return after how many rows of z to look which components are left; none: the core plans them."""
        return []

    def maximize(self, statistics: MomentStatistics, parameters: Gaussians, frame: FullFrame) -> Gaussians:
        """Return new means and covariances, in the memory of the statistics.

        μ' = μ + m and C' = M − m mᵀ + reg · I, for moments about μ: m = Σ γ (x − μ) / N, M = Σ γ (x − μ)(x − μ)ᵀ / N.
        With noise, M − m mᵀ = U diag(λ) Uᵀ gives C' = U diag(max(λ − v, reg)) Uᵀ, the likeliest (Tipping and Bishop
        1999, of which a noise variance that is estimated is a special case).
        """
        share = statistics.responsibility
        means = statistics.origin.copy()
        covariances = statistics.second
        moments = np.zeros_like(means)
        for k in range(len(share)):
            if share[k] == 0:  # no sample belongs to it: it stays as it is
                covariances[k] = parameters.covariances[k]
                continue
            covariances[k] /= share[k]
            moments[k] = np.diagonal(covariances[k])
            if self.means == "free":
                shift = statistics.first[k] / share[k]
                means[k] += shift
                covariances[k] -= np.multiply.outer(shift, shift)
            covariances[k] = self._covariance(covariances[k])
        return Gaussians(share / share.sum(), means, covariances, moments)

    def _covariance(self, scatter: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the covariance (D, D) of a signal whose noisy samples have this scatter; may change the scatter."""
        if not self.noise_var:
            scatter.flat[:: len(scatter) + 1] += self.reg_covar
            return scatter
        variances, axes = _core.principal_axes(scatter)
        return _square(axes * np.sqrt(np.maximum(variances - self.noise_var, self.reg_covar)))

    def fresh_start(self, n_components: int) -> FullStart:
        """Return a start with nothing given."""
        return FullStart(n_components, "kmeans++", None, None, None, None)

    def merge(self, parameters: Gaussians, first: int, second: int) -> Gaussians:
        """Return one Gaussian with the moments of two: C = Σ_k s_k C_k + s_1 s_2 d dᵀ with d = μ_1 − μ_2, shares s."""
        both: Gaussians = merged(parameters, first, second)
        share = shares(parameters.weights[[first, second]])
        apart = parameters.means[first] - parameters.means[second]
        spread = share.prod() * np.multiply.outer(apart, apart)
        return replace(both, covariances=both.covariances + spread, moments=None)

    def expected(self, parameters: Gaussians, count: NDArray[np.float64], frame: FullFrame) -> MomentStatistics:
        """Return N_k (C_k − reg · I), with noise N_k (C_k + v I), about the means."""
        second = count[:, None, None] * parameters.covariances
        D = parameters.means.shape[1]
        second.reshape(len(second), -1)[:, :: D + 1] += (count * (self.noise_var or -self.reg_covar))[:, None]
        return MomentStatistics(parameters.means, count, np.zeros_like(parameters.means), second, 0.0)

    def forgetting(self, n_features: int) -> tuple[float, int]:
        """Return that a covariance needs several samples for each feature.

        Measured on 200,000 patches of 8×8, 32 components, 2026-11: with the exponent 0.55 an epoch reaches 0.5 nats
        less than with 0.7, and with 2.5 times as many samples remembered 0.8 less.
        """
        return 0.7, 4 * n_features

    def coordinates(self, parameters: Gaussians, frame: FullFrame) -> NDArray[np.float64]:
        """Return log π, Uᵀ μ, and of C⁻¹ = U Uᵀ with U = V diag(d): log d, and V above its diagonal of ones."""
        factors = precision_factors(parameters.covariances, 0)
        diagonal = np.diagonal(factors, axis1=1, axis2=2)
        above = np.triu_indices(factors.shape[1], 1)
        unit = (factors / diagonal[:, None, :])[:, above[0], above[1]]
        means = np.einsum("kij,ki->kj", factors, parameters.means)
        parts = (log_shares(parameters.weights), means, np.log(diagonal), unit)
        return np.concatenate([part.ravel() for part in parts])

    def at_coordinates(self, coordinates: NDArray[np.float64], like: Gaussians, frame: FullFrame) -> Gaussians:
        """Return the weights, means and covariances.

        Raises
        ------
        CollapseError
            If a covariance is beyond the number format.
        """
        K, D = like.means.shape
        shares, means, diagonal, unit = np.split(coordinates, np.cumsum([K, K * D, K * D]))
        above = np.triu_indices(D, 1)
        factors = np.zeros((K, D, D))
        factors[:, range(D), range(D)] = 1
        factors[:, above[0], above[1]] = unit.reshape(K, -1)
        with np.errstate(over="ignore", invalid="ignore"):
            factors *= np.exp(diagonal).reshape(K, 1, D)
        if not np.isfinite(factors).all():
            raise _collapse(0, self.reg_covar)
        inverses = precision_factors(squares(factors), 0)
        covariances = squares(inverses)
        # C U = U⁻ᵀ
        means = np.einsum("kij,kj->ki", covariances, np.einsum("kij,kj->ki", factors, means.reshape(K, D)))
        return Gaussians(shares_of(shares), means, covariances)

    def information(self, parameters: Gaussians, frame: FullFrame) -> NDArray[np.float64]:
        """Return π of log π and Uᵀ μ, 2 π of log d, and π d_j² C_ii of V_ij."""
        weights, D = parameters.weights, parameters.means.shape[1]
        above = np.triu_indices(D, 1)
        diagonal = np.diagonal(precision_factors(parameters.covariances, 0), axis1=1, axis2=2)
        variance = np.diagonal(parameters.covariances, axis1=1, axis2=2)
        unit = diagonal[:, above[1]] ** 2 * variance[:, above[0]]
        parts = (weights, np.repeat(weights, D), np.repeat(2 * weights, D), (weights[:, None] * unit).ravel())
        return np.concatenate(parts)

    # ---- questions to a model ----------------------------------------------------------------------------------------

    def log_density(
        self, prepared: PreparedGaussians, values: Floats, n_threads: int, scales: CoreScales | None = None
    ) -> Floats:
        """Return log p(x|k), (n, K), every component evaluated in full."""
        return _core.full_log_density(
            values, prepared.means, prepared.whiteners, prepared.log_normalisers, n_threads, scales
        )

    def posterior(
        self,
        prepared: PreparedGaussians,
        values: Floats,
        n_threads: int,
        scales: CoreScales | None = None,
        *,
        weighted: bool = True,
    ) -> tuple[Floats, Floats]:
        """Return responsibilities (n, K) and log p(x) (n,)."""
        constants = prepared.log_normalisers + (prepared.log_weights if weighted else 0)
        return _core.full_posterior(values, prepared.means, prepared.whiteners, constants, n_threads, scales)

    def sample_power(self, values: Floats) -> Floats:
        """Return the mean square of each sample's values, (n,)."""
        # Not a matrix product: a library's may depend on its threads.
        return np.asarray(np.einsum("nd,nd->n", values, values) / values.dtype.type(values.shape[1]))

    def amplified(self, values: Floats, factor: Floats) -> Floats:
        """Return samples times the root of `factor`."""
        return np.asarray(values * np.sqrt(factor)[:, None])

    def with_variance(self, arrays: Arrays, factor: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return covariances times `factor`."""
        return {**arrays, "covariances": arrays["covariances"] * factor[:, None, None]}

    def draw(self, arrays: Arrays, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Return n samples (n, D) of one component."""
        covariance = arrays["covariances"][component]
        zero = np.zeros(len(covariance))
        # C⁻¹ = U Uᵀ makes C U lower triangular, with C U (C U)ᵀ = C. By the core: a library's products and factors may
        # depend on its threads.
        factor = _core.project(covariance, zero, precision_factors(covariance[None], 0)[0], 0)
        white = rng.standard_normal((n, len(covariance)))
        drawn = np.asarray(_core.project(white, zero, np.ascontiguousarray(factor.T), 0), dtype=np.float64)
        return np.asarray(drawn + arrays["means"][component])

    def parameters_per_component(self, arrays: Arrays) -> int:
        """Return the number of values of a symmetric matrix, and of a mean if it is free."""
        D = arrays["means"].shape[1]
        return int(D * (D + 1) // 2 + (D if self.means == "free" else 0))

    def divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return ½ [tr C_j⁻¹C_k − log |C_k|/|C_j| − D + (μ_k − μ_j)ᵀ C_j⁻¹ (μ_k − μ_j)], (K, K)."""
        means, covariances = arrays["means"], arrays["covariances"]
        D = means.shape[1]
        factors = precision_factors(covariances, 0)
        precisions = squares(factors)
        # Not a library's matrix products: they may depend on its threads.
        trace = sum(
            _core.project(np.ascontiguousarray(c), np.zeros(D), np.ascontiguousarray(p.T), 0)
            for c, p in zip(covariances.transpose(1, 0, 2), precisions.transpose(1, 0, 2), strict=True)
        )
        log_determinant = -2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        apart = (_core.project(means, m, factor, 0) for m, factor in zip(means, factors, strict=True))
        shifts = np.stack([(each**2).sum(axis=1) for each in apart])
        return np.asarray(0.5 * (trace - (log_determinant[:, None] - log_determinant) - D + shifts.T))

    def effective_ranks(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return how many principal axes the variance of each component is spread over, (K,)."""
        # With other threads, other last digits. The core's principal axes have one thread too, but finding no axes here
        # takes a fifth of the time (784 features).
        with threadpool_limits(1, user_api="blas"):
            variances = np.stack([eigh(c, eigvals_only=True) for c in arrays["covariances"]])
        return effective_ranks(np.maximum(variances, 0))

    def portraits(self, arrays: Arrays, shape: tuple[int, ...]) -> list[Portrait]:
        """Return means, and eigenvectors by falling eigenvalue, each with zero in the middle of its own colours."""
        means, covariances = arrays["means"], arrays["covariances"]
        K, D = means.shape
        n_shown = min(_EIGENVECTORS, D)
        vectors = np.stack([eigh(c, subset_by_index=(D - n_shown, D - 1))[1][:, ::-1] for c in covariances])
        portraits = [] if self.means == "zero" else [Portrait("mean", means.reshape(K, *shape))]
        for i in range(n_shown):
            vector = vectors[:, :, i] / np.abs(vectors[:, :, i]).max(axis=1, keepdims=True)
            portraits.append(Portrait(f"axis {i + 1}", vector.reshape(K, *shape), (-1, 1), "RdBu_r"))
        return portraits

    def gaussians(self, parameters: Gaussians, frame: FullFrame) -> Rotated:
        """Return the mixture in the frame's coordinates."""
        D = len(frame.centre)
        axes = np.eye(D) if frame.axes is None else np.ascontiguousarray(frame.axes)
        weights = log_weights(parameters.weights)
        covariances = np.ascontiguousarray(parameters.covariances)
        return Rotated(weights, False, frame.centre, axes, parameters.means, covariances)

    # ---- arrays ------------------------------------------------------------------------------------------------------

    @property
    def array_names(self) -> tuple[str, ...]:
        """Means and covariances."""
        return ("means", "covariances")

    def to_arrays(self, parameters: Gaussians, frame: FullFrame, n_threads: int) -> dict[str, NDArray[np.float64]]:
        """Return weights (K,), means (K, D) and covariances (K, D, D) in the samples' coordinates."""
        means = parameters.means
        if frame.axes is not None:
            axes = np.ascontiguousarray(frame.axes.T)
            means = np.asarray(_core.project(means, np.zeros(len(axes)), axes, n_threads), dtype=np.float64)
        covariances = frame.rotated(parameters.covariances, n_threads, back=True)
        return {"weights": parameters.weights, "means": means + frame.centre, "covariances": covariances}

    def from_arrays(self, arrays: Arrays, frame: FullFrame, n_threads: int) -> Gaussians:
        """Return the parameters in the frame's coordinates."""
        means = frame.project_means(arrays["means"], n_threads)
        if self.means == "zero":
            means = np.zeros_like(means)
        return Gaussians(arrays["weights"], means, frame.rotated(arrays["covariances"], n_threads))

    def check_arrays(self, arrays: Arrays, n_threads: int) -> None:
        """Check means and covariances."""
        means, covariances, K = arrays["means"], arrays["covariances"], len(arrays["weights"])
        if means.ndim != 2 or len(means) != K or means.shape[1] < 1:
            raise ValueError(f"means has shape {means.shape}; ({K}, n_features) is needed.")
        if not np.isfinite(means).all():
            raise ValueError("means must be finite.")
        if self.means == "zero" and means.any():
            raise ValueError('means must be 0 with means="zero".')
        check_covariances(covariances, (K, means.shape[1], means.shape[1]), "covariances", n_threads)

    def check_usable(self, arrays: Arrays, n_threads: int) -> None:
        """Factor the covariances as they will be for samples, precisions, and when they are loaded."""
        precision_factors(arrays["covariances"], n_threads)

    def frame_of(self, arrays: Arrays) -> FullFrame:
        """Return the frame of samples with the mixture's own mean and covariance."""
        weights, means, covariances = arrays["weights"], arrays["means"], arrays["covariances"]
        centre = np.zeros(means.shape[1]) if self.means == "zero" else np.einsum("k,kd->d", weights, means)
        apart = means - centre
        within = np.einsum("k,kij->ij", weights, covariances)
        return FullFrame(centre, self._axes(within + np.einsum("k,ki,kj->ij", weights, apart, apart)))

    def frame_to_arrays(self, frame: FullFrame) -> dict[str, NDArray[np.float64]]:
        """Return the centre, and the axes if there are any."""
        return {"centre": frame.centre} | ({} if frame.axes is None else {"axes": frame.axes})

    def frame_from_arrays(self, arrays: Arrays) -> FullFrame:
        """Return the frame."""
        return FullFrame(arrays["centre"], arrays.get("axes"))


def check_covariances(
    covariances: NDArray[np.float64], shape: tuple[int, int, int], name: str, n_threads: int
) -> NDArray[np.float64]:
    """Return covariances (K, D, D) that are symmetric and positive definite, or raise a ValueError that names them."""
    if covariances.shape != shape:
        raise ValueError(f"{name} has shape {covariances.shape}; {shape} is needed.")
    if not np.isfinite(covariances).all():
        raise ValueError(f"{name} must be finite.")
    if not np.allclose(covariances, covariances.transpose(0, 2, 1), rtol=1e-8):
        raise ValueError(f"{name} must be symmetric.")
    failed = _core.full_factorize_float64(covariances, n_threads)[-1]
    if failed >= 0:
        raise ValueError(f"{name}[{failed}] is not positive definite.")
    return covariances


def precision_factors(covariances: NDArray[np.float64], n_threads: int) -> NDArray[np.float64]:
    """Return upper triangular U_k (K, D, D) with U_k U_kᵀ = C_k⁻¹."""
    whiteners, _, _, failed = _core.full_factorize_float64(covariances, n_threads)
    if failed >= 0:
        raise _collapse(failed)
    return _core.full_transpose_whiteners(whiteners, covariances.shape[1], n_threads)


def squares(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F_k F_kᵀ of factors (K, D, D), by the core: a library's products may depend on its threads."""
    return np.stack([_square(factor) for factor in factors])


def _computed_in(X: Floats) -> Floats:
    """Return samples (n, D) in the type that they are computed in: few features in float64."""
    return X if X.shape[1] >= LEAST_SINGLE else X.astype(np.float64, copy=False)


def _order(X: Floats) -> NDArray[np.float64]:
    """Return what a start orders samples (n, D) by: how far they are along one fixed direction.

    Of the samples as they were given and in float64: rounding does not change it, and only equal samples stand at one
    place.
    """
    direction = np.random.RandomState(0).standard_normal(X.shape[1])
    return np.asarray(np.einsum("nd,d->n", _computed_in(X), direction, dtype=np.float64))


def _square(factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F Fᵀ, symmetric, of a factor (D, D)."""
    product = _core.project(factor, np.zeros(len(factor)), np.ascontiguousarray(factor.T), 0)
    return np.asarray((product + product.T) / 2, dtype=np.float64)


def _collapse(component: int, reg_covar: float | None = None) -> CollapseError:
    now = "" if reg_covar is None else f" (it is {reg_covar:g}, in squared units of the data)"
    return CollapseError(
        f"the covariance of component {component} is not positive definite: its samples are too few or too alike. "
        f"Raise reg_covar{now}, or lower n_components."
    )


def _centres(
    drawn: NDArray[np.float64], init: str, n_components: int, rng: np.random.RandomState, n_threads: int
) -> NDArray[np.float64]:
    """Return centres (K, D) found among drawn samples (n, D)."""
    if init == "random":
        # Of equal samples one: a second centre at the same place would have no samples.
        distinct = drawn[np.sort(np.unique(drawn, axis=0, return_index=True)[1])]
        return np.resize(distinct, (n_components, drawn.shape[1]))
    return k_means(drawn, n_components, rng, n_threads)
