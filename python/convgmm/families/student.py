"""Student's t: each component of another family with tails of its own (Peel and McLachlan, 2000).

    w ~ Gamma(½ ν_k, rate ½ ν_k),    x | w ~ N(μ_k, C_k / w),    u_nk = E[w | x_n, k] = (ν_k + n) / (ν_k + δ_nk)

EM with the working parameters of Liu, Rubin and Wu (Biometrika, 1998): the factor α_k that w may have besides, which no
sample tells from the size of C_k, is estimated too, and divided out. With N_k = Σ_n γ_nk and U_k = Σ_n γ_nk u_nk,

    α_k = U_k / N_k,    μ_k = Σ_n γ_nk u_nk x_n / U_k,    C_k from Σ_n γ_nk u_nk (x_n − μ_k)(x_n − μ_k)ᵀ / (α_k N_k),
    log ½ν_k − ψ(½ν_k) + 1 + Σ_n γ_nk (E[log w | x_n, k] − log α_k − u_nk / α_k) / N_k = 0,

while plain EM, with α_k = 1, would need some n / ν_k times as many iterations to find the size of C_k.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaincinv, gammaln, polygamma
from scipy.stats import gamma as gamma_distribution

from .family import SOFT, Arrays, Assign, CollapseError, Data, Floats, Portrait
from .gaussians import Gaussians
from .scale_mixture import ContrastSurvey, MixtureParameters, MixtureStatistics, PreparedScales, ScaleMixture

# Degrees of freedom of a start, and between which they are estimated. Above the largest, tails are a Gaussian's.
_START = 4.0
_LEAST, _MOST = 0.01, 1e6
# A sample is an outlier whose power is so many times the median.
_FAR = 2.0
# Halvings of an interval of log ν: to the last digits.
_HALVINGS = 60
# Gaussians that stand for a component where only Gaussians serve, and the least w of one: at ν = 0.01, w may underflow.
_PARTS = 8
_LEAST_PRECISION = 1e-8
# Scales at which a component's density is drawn, and the octaves around the scale 1 that they go over at most.
_DRAWN = 65
_OCTAVES_DRAWN = 10


@dataclass(frozen=True, eq=False)
class StudentParameters(MixtureParameters):
    """Parameters at w = 1, and degrees of freedom (K,)."""

    df: NDArray[np.float64]

    def take(self, kept: NDArray[np.intp]) -> "StudentParameters":
        """Return the components of these indices, their weights renormalised."""
        return StudentParameters(self.single.take(kept), self.df[kept])


@dataclass(frozen=True, eq=False)
class StudentStatistics(MixtureStatistics):
    """Statistics with the weights γ u in the place of γ, Σ γ (K,), and Σ γ E[log w | x] (K,)."""

    responsibility: NDArray[np.float64]
    logarithm: NDArray[np.float64]

    def __add__(self, other: "StudentStatistics") -> "StudentStatistics":
        return StudentStatistics(
            self.single + other.single,
            self.responsibility + other.responsibility,
            self.logarithm + other.logarithm,
        )

    def __mul__(self, factor: float) -> "StudentStatistics":
        return StudentStatistics(self.single * factor, self.responsibility * factor, self.logarithm * factor)


@dataclass(frozen=True, eq=False)
class StudentFrame:
    """A frame, and the power that samples are brought to for a start; None with free means."""

    single: Any
    power: float | None


@dataclass(frozen=True)
class Student(ScaleMixture):
    """Components of another family, each with Student's t for its tails.

    Parameters
    ----------
    single : Scalable
        The family of Gaussians.
    """

    @property
    def array_names(self) -> tuple[str, ...]:
        """Those of Gaussians, and one more."""
        return (*self.single.array_names, "df")

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Student":
        """Return the family with options that `to_values` gave."""
        return cls(cls.single_from(values))

    def frame(self, survey: ContrastSurvey) -> StudentFrame:
        """Return the frame, and the median power."""
        return StudentFrame(self.single.frame(survey.single), survey.power(0.5) if self.single.is_centred else None)

    # ---- EM ----------------------------------------------------------------------------------------------------------

    def start(
        self, given: Any, data: Data, frame: StudentFrame, rng: np.random.RandomState, n_threads: int
    ) -> StudentParameters:
        """Return a start with the same degrees of freedom for all.

        Components are those of samples brought to one contrast, so that they differ in shape; with free means outliers
        are brought nearer, lest one of them be a component.
        """
        if frame.power is None:
            own = self.single.sample_power(data.values)
            limit = _FAR * _median(own, data.block.weight)
            factor = np.divide(limit, own, out=np.ones_like(own), where=own > limit)
        else:
            factor = self.to_one_contrast(data, frame.power)
        single = self.start_amplified(given, data, factor, frame, rng, n_threads)
        return StudentParameters(single, np.full(len(single.weights), _START))

    def prepare(
        self, parameters: StudentParameters, frame: StudentFrame, dtype: np.dtype[Any], n_threads: int
    ) -> PreparedScales:
        """Return Gaussians whose log-normalisers have what those of t add, and the degrees of freedom."""
        single = self.single.prepare(parameters.single, frame.single, dtype, n_threads)
        df, n = parameters.df, single.dimension
        added = gammaln((df + n) / 2) - gammaln(df / 2) - n / 2 * np.log(df / 2)
        return PreparedScales(replace(single, log_normalisers=single.log_normalisers + added), df)

    def expect(self, prepared: PreparedScales, data: Data, n_threads: int, assign: Assign = SOFT) -> StudentStatistics:
        """Return the statistics with both weights."""
        single, sums = self.single.expect_scaled(prepared.single, prepared.scales, data, n_threads, assign)
        half = (prepared.scales + prepared.single.dimension) / 2
        # w of a sample has a Gamma distribution of this shape and the mean u.
        logarithm = sums[:, 2] + sums[:, 0] * (digamma(half) - np.log(half))
        return StudentStatistics(replace(single, responsibility=sums[:, 1]), single.responsibility, logarithm)

    def maximize(
        self, statistics: StudentStatistics, parameters: StudentParameters, frame: StudentFrame
    ) -> StudentParameters:
        """Return what the family makes of its statistics, with U_k in the place of N_k, and degrees of freedom.

        Where covariances could not be divided by α_k without meeting a floor, α_k is what they can be divided by, so
        that the likelihood does not fall.

        Raises
        ------
        CollapseError
            If the weights of a component's moments do not sum to more than 0.
        """
        total, weight = statistics.responsibility, statistics.single.responsibility
        used = total > 0
        if not (weight[used] > 0).all():
            raise CollapseError("the weights of a component's moments do not sum to more than 0; lower n_components.")
        mean = np.divide(weight, total, out=np.ones_like(total), where=used)
        alpha = np.minimum(mean, self.single.room(parameters.single, frame.single))
        single = self.single.maximize(
            replace(statistics.single, responsibility=alpha * total),
            self.single.divided(parameters.single, alpha),
            frame.single,
        )
        logarithm = np.divide(statistics.logarithm, total, out=np.zeros_like(total), where=used)
        df = _degrees_of_freedom(1 + logarithm - np.log(alpha) - mean / alpha)
        return StudentParameters(single.with_weights(total / total.sum()), np.where(used, df, parameters.df))

    def expected(
        self, parameters: StudentParameters, count: NDArray[np.float64], frame: StudentFrame
    ) -> StudentStatistics:
        """Return those of Gaussians, since E[u] = 1 and E[u x xᵀ] = C of such samples, and N_k E[log w]."""
        single = self.single.expected(parameters.single, count, frame.single)
        half = parameters.df / 2
        return StudentStatistics(single, count, count * (digamma(half) - np.log(half)))

    def coordinates(self, parameters: StudentParameters, frame: StudentFrame) -> NDArray[np.float64]:
        """Return those of Gaussians, and log ν."""
        return np.concatenate([self.single.coordinates(parameters.single, frame.single), np.log(parameters.df)])

    def at_coordinates(
        self, coordinates: NDArray[np.float64], like: StudentParameters, frame: StudentFrame
    ) -> StudentParameters:
        """Return the Gaussians, and degrees of freedom within their limits."""
        K = len(like.df)
        single = self.single.at_coordinates(coordinates[:-K], like.single, frame.single)
        return StudentParameters(single, np.exp(np.clip(coordinates[-K:], np.log(_LEAST), np.log(_MOST))))

    def information(self, parameters: StudentParameters, frame: StudentFrame) -> NDArray[np.float64]:
        """Return that of Gaussians, and of log ν that of a known w: π ν² [ψ′(½ν)/4 − 1/(2ν)]."""
        single = self.single.information(parameters.single, frame.single)
        df = parameters.df
        return np.concatenate([single, parameters.weights * df**2 * (polygamma(1, df / 2) / 4 - 1 / (2 * df))])

    def merge(self, parameters: StudentParameters, first: int, second: int) -> StudentParameters:
        """Return what the family makes of two components, with the fewer degrees of freedom."""
        df = parameters.df[[first, second]].min(keepdims=True)
        return StudentParameters(self.single.merge(parameters.single, first, second), df)

    # ---- questions to a model ----------------------------------------------------------------------------------------

    def draw(self, arrays: Arrays, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Return n samples of one component, each with a w of its own."""
        drawn = self.single.draw(arrays, component, n, rng)
        mean = arrays["means"][component] if "means" in arrays else 0.0
        df = arrays["df"][component]
        scale = np.sqrt(df / rng.chisquare(df, n)).reshape(n, *[1] * (drawn.ndim - 1))
        return np.asarray(mean + (drawn - mean) * scale)

    def parameters_per_component(self, arrays: Arrays) -> int:
        """Return the number of a Gaussian, and one."""
        return self.single.parameters_per_component(arrays) + 1

    def divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return that of Gaussians with the covariances at w = 1, (K, K): t's own has no closed form."""
        return self.single.divergence(arrays)

    def portraits(self, arrays: Arrays, shape: tuple[int, ...]) -> list[Portrait]:
        """Return those of Gaussians, and the density of the logarithm of the scale w^−½ as a curve."""
        half = arrays["df"][:, None] / 2
        least, most = (-0.5 * np.log2(np.maximum(_quantile(half, share), _LEAST_PRECISION)) for share in (0.999, 0.001))
        low, high = max(least.min(), -_OCTAVES_DRAWN), min(most.max(), _OCTAVES_DRAWN)
        w = np.exp2(-2 * np.linspace(low, high, _DRAWN))
        curve = gamma_distribution.pdf(w, half, scale=1 / half) * w
        limits = (0.0, float(curve.max()))
        title = f"scales, 2^{low:.1f} to 2^{high:.1f}"
        return [
            *self.single.portraits(arrays, shape),
            Portrait("scales", curve, limits, sheet="scales", sheet_title=f"density of log {title}"),
        ]

    def gaussians(self, parameters: StudentParameters, frame: StudentFrame) -> Gaussians:
        """Return several Gaussians for each component, at the middles of equally likely parts of the range of w."""
        share = (np.arange(_PARTS) + 0.5) / _PARTS
        w = np.maximum(_quantile(parameters.df[:, None] / 2, share), _LEAST_PRECISION)
        component = np.repeat(np.arange(len(w)), _PARTS)
        single = self.single.to_arrays(parameters.single, frame.single, 0)
        arrays = {name: array[component] for name, array in single.items()}
        arrays = self.single.with_variance({**arrays, "weights": arrays["weights"] / _PARTS}, 1 / w.ravel())
        return self.single.gaussians(self.single.from_arrays(arrays, frame.single, 0), frame.single)

    def stationary_spectra(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return those at w = 1, if components are stationary."""
        return self.single.stationary_spectra(arrays)

    # ---- arrays ------------------------------------------------------------------------------------------------------

    def to_arrays(
        self, parameters: StudentParameters, frame: StudentFrame, n_threads: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return the arrays of Gaussians, and degrees of freedom (K,)."""
        return {**self.single.to_arrays(parameters.single, frame.single, n_threads), "df": parameters.df}

    def from_arrays(self, arrays: Arrays, frame: StudentFrame, n_threads: int) -> StudentParameters:
        """Return the parameters."""
        return StudentParameters(self.single.from_arrays(arrays, frame.single, n_threads), arrays["df"])

    def check_arrays(self, arrays: Arrays, n_threads: int) -> None:
        """Check degrees of freedom, and the others."""
        df, K = arrays["df"], len(arrays["weights"])
        if df.shape != (K,):
            raise ValueError(f"df has shape {df.shape}; ({K},) is needed.")
        if not ((df >= _LEAST) & (df <= _MOST)).all():
            raise ValueError(f"df must be between {_LEAST:g} and {_MOST:g}.")
        self.single.check_arrays(arrays, n_threads)

    def frame_of(self, arrays: Arrays) -> StudentFrame:
        """Return the frame of Gaussians with these covariances."""
        return StudentFrame(self.single.frame_of(arrays), 1.0 if self.single.is_centred else None)

    def frame_to_arrays(self, frame: StudentFrame) -> dict[str, NDArray[np.float64]]:
        """Return the frame of Gaussians, and the power if there is one."""
        power = {} if frame.power is None else {"power": np.array(frame.power)}
        return {**self.single.frame_to_arrays(frame.single), **power}

    def frame_from_arrays(self, arrays: Arrays) -> StudentFrame:
        """Return the frame."""
        power = float(arrays["power"]) if "power" in arrays else None
        return StudentFrame(self.single.frame_from_arrays(arrays), power)


def _median(values: Floats, weight: NDArray[np.float64] | None) -> float:
    """Return the value that half of the total weight does not exceed; a weight of 2 is a value twice."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(np.ones(len(values)) if weight is None else weight[order])
    # Rounding of weights must not decide where exactly half is reached.
    return float(values[order[np.searchsorted(total, total[-1] * (0.5 - 1e-9))]])


def _degrees_of_freedom(constant: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ν (K,) of log ½ν − ψ(½ν) + constant = 0, which falls with ν; within their limits."""
    low, high = np.full(len(constant), np.log(_LEAST)), np.full(len(constant), np.log(_MOST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        half = np.exp(middle) / 2
        above = np.log(half) - digamma(half) + constant > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(np.exp((low + high) / 2))


def _quantile(half: NDArray[np.float64], share: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the w that this share of a component does not exceed, for ½ ν."""
    return np.asarray(gammaincinv(half, share) / half)
