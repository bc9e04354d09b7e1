"""Zero-mean Gaussians that are diagonal in a basis: with the Fourier basis, circulant ones, that is, power spectra.

log p(x|k) = −½ Σ_ω m(ω) [ |X(ω)|² / S_k(ω) + log S_k(ω) + log 2π ]

Samples of a signal in white noise of variance v have the spectra S_k + v.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..basis import BASES, Basis
from ..initialize import kmeans_plus_plus, random_averages
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
    shares,
    shares_of,
)
from .gaussians import Diagonal

# Values of a background agree to this, as they are a mean.
_SAME = 1e-9


@dataclass(frozen=True, eq=False)
class Spectra:
    """Parameters: weights (K,) and spectra in the basis (K, D)."""

    weights: NDArray[np.float64]
    spectra: NDArray[np.float64]

    def take(self, kept: NDArray[np.intp]) -> "Spectra":
        """Return the components of these indices, their weights renormalised."""
        weights = self.weights[kept]
        return Spectra(shares(weights), self.spectra[kept])

    def with_weights(self, weights: NDArray[np.float64]) -> "Spectra":
        """Return the same components in other proportions."""
        return replace(self, weights=weights)


@dataclass(frozen=True, eq=False)
class SpectralStatistics:
    """Summed responsibilities (K,), squared coefficients weighted by them (K, D), and the log-likelihood."""

    responsibility: NDArray[np.float64]
    power: NDArray[np.float64]
    log_likelihood: float

    @property
    def details(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def __add__(self, other: "SpectralStatistics") -> "SpectralStatistics":
        return SpectralStatistics(
            self.responsibility + other.responsibility,
            self.power + other.power,
            self.log_likelihood + other.log_likelihood,
        )

    def __mul__(self, factor: float) -> "SpectralStatistics":
        return SpectralStatistics(self.responsibility * factor, self.power * factor, self.log_likelihood * factor)


@dataclass(frozen=True, eq=False)
class SpectralSurvey:
    """Total weight and power per degree of freedom, and which samples are constant or 0."""

    weight: float
    power: float
    dtype: np.dtype[Any]
    n_samples: int
    n_constant: int
    first_constant: int | None
    all_zero: bool

    def __add__(self, other: "SpectralSurvey") -> "SpectralSurvey":
        return SpectralSurvey(
            self.weight + other.weight,
            self.power + other.power,
            self.dtype,
            self.n_samples + other.n_samples,
            self.n_constant + other.n_constant,
            other.first_constant if self.first_constant is None else self.first_constant,
            self.all_zero and other.all_zero,
        )


@dataclass(frozen=True)
class SpectralFrame:
    """The floor of every updated spectrum."""

    floor: float


@dataclass(frozen=True, eq=False)
class SpectralStart:
    """What a user gives of a start: the number of components, and their weights (K,) and spectra (K, D) or None."""

    n_components: int
    init: str
    weights: NDArray[np.float64] | None
    spectra: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class PreparedSpectra:
    """Spectra (K, D) with their multiplicities (D,), log-normalisers (K,) and log-weights (K,)."""

    spectra: NDArray[np.float64]
    multiplicities: NDArray[np.float64]
    log_normalisers: NDArray[np.float64]
    log_weights: NDArray[np.float64]

    @property
    def resolution(self) -> float:
        """0: no term cancels another."""
        return 0.0

    @property
    def dimension(self) -> float:
        """How many dimensions the density has."""
        return float(self.multiplicities.sum())


@dataclass(frozen=True)
class Spectral(Scalable):
    """Gaussians whose covariance is diagonal in a basis.

    Parameters
    ----------
    basis : Basis
        From patches to squared coefficients.
    reg_spectrum : float
        Floor of updated spectra, as a share of the data's mean power per degree of freedom.
    noise_var : float
        Variance of white noise in the samples, which spectra do not hold.
    bandwidth : float
        Largest share of frequencies at which an updated spectrum stands above its flat background. Those that are their
        own conjugates are always free, and not counted.
    """

    basis: Basis
    reg_spectrum: float = 1e-6
    noise_var: float = 0.0
    bandwidth: float = 1.0

    def to_values(self) -> dict[str, Any]:
        """Return the options as JSON values, the basis by its name."""
        return {**super().to_values(), "basis_name": type(self.basis).__name__}

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Spectral":
        """Return the family with options that `to_values` gave."""
        of_basis = {**values["basis"], "shape": tuple(values["basis"]["shape"])}
        return cls(
            BASES[values["basis_name"]](**of_basis), values["reg_spectrum"], bandwidth=values.get("bandwidth", 1.0)
        )

    # ---- samples -----------------------------------------------------------------------------------------------------

    def read(self, block: Block, n_threads: int) -> Reading:
        """Return squared coefficients."""
        return Reading(block, self.basis.coefficients(block.samples, n_threads))

    def survey(self, reading: Reading, n_threads: int) -> SpectralSurvey:
        """Return total power, and which samples have none."""
        return self.survey_power(reading.block, self.sample_power(reading.values))

    def survey_power(self, block: Block, power: Floats) -> SpectralSurvey:
        """Return the survey of samples with this power per degree of freedom, (n,)."""
        total = float(power.sum(dtype=np.float64) if block.weight is None else np.einsum("n,n->", block.weight, power))
        constant = constant_rows(block.samples) if self.basis.remove_mean else np.empty(0, dtype=np.intp)
        return SpectralSurvey(
            float(len(power) if block.weight is None else block.weight.sum()),
            total,
            power.dtype,
            len(power),
            len(constant),
            block.number(int(constant[0])) if len(constant) else None,
            not total > 0 and not block.samples.any(),
        )

    def sample_power(self, values: Floats) -> Floats:
        """Return each sample's power per degree of freedom, (n,)."""
        share = self.basis.multiplicities / self.basis.degrees_of_freedom
        # Not a matrix product: a library's may depend on its threads.
        return np.asarray(np.einsum("nd,d->n", values, share.astype(values.dtype)))

    def frame(self, survey: SpectralSurvey) -> SpectralFrame:
        """Return the floor."""
        if survey.n_constant:
            message = (
                f"{survey.n_constant} of {survey.n_samples} samples are constant (the first is sample "
                f"{survey.first_constant}): without their mean nothing is left of them. Leave them out "
                f"(extract_patches does, with min_std > 0), or pass remove_mean=False."
            )
            if survey.n_constant == survey.n_samples:
                raise ValueError(message)
            warnings.warn(message + " A component may shrink to the floor on them.", UserWarning, stacklevel=7)
        if survey.all_zero:
            raise ValueError("X is zero everywhere: there is no power to model.")
        mean_power = survey.power / survey.weight
        floor = self.reg_spectrum * mean_power
        largest = float(np.sqrt(np.finfo(survey.dtype).max))
        if not (1 / largest < mean_power < largest and _has_inverse(floor, survey.dtype)):
            raise ValueError(
                f"X has a mean power of {mean_power:.3g} in each value, and spectra a floor of {floor:.3g}: too far "
                f"from 1 for {survey.dtype}; rescale X" + (", or pass float64." if survey.dtype == np.float32 else ".")
            )
        return SpectralFrame(floor)

    def represent(self, reading: Reading, frame: SpectralFrame, n_threads: int) -> Data:
        """Return the squared coefficients as they are."""
        return Data(reading.values, reading.block)

    # ---- EM ----------------------------------------------------------------------------------------------------------

    def start(
        self, given: SpectralStart, data: Data, frame: SpectralFrame, rng: np.random.RandomState, n_threads: int
    ) -> Spectra:
        """Return the given parameters, and spectra of samples where none are given.

        Samples are drawn in the order of their power, so that it does not matter in which order they came.
        """
        weights, spectra, K = given.weights, given.spectra, given.n_components
        if weights is None:
            weights = np.full(K, 1 / K)
        if spectra is not None:
            least = float(spectra.min())
            if not _has_inverse(least, data.values.dtype):
                raise ValueError(f"spectra_init holds {least:.3g}, too small for {data.values.dtype}; pass float64.")
        elif given.init == "random":
            spectra = random_averages(data.values, self._order(data), data.block.weight, K, frame.floor, rng)
            spectra = self._signal(spectra, frame)
        else:
            spectra = kmeans_plus_plus(
                data.values,
                self.basis.multiplicities,
                self._order(data),
                data.block.weight,
                K,
                frame.floor,
                rng,
                n_threads,
            )
            spectra = self._signal(spectra, frame)
        return Spectra(weights, spectra)

    def _signal(self, spectra: NDArray[np.float64], frame: SpectralFrame) -> NDArray[np.float64]:
        """Return spectra without the noise, above the floor."""
        return np.asarray(np.maximum(spectra - self.noise_var, frame.floor))

    def of_noisy(self, noise_var: float) -> "Spectral":
        """Return the family for noisy samples."""
        return replace(self, noise_var=noise_var)

    def _order(self, data: Data) -> Floats:
        return self.sample_power(data.values) if data.order is None else data.order

    def can_reach(self, parameters: Spectra, frame: SpectralFrame) -> bool:
        """Say whether all spectra are above the floor, and as narrow as they have to be."""
        counted = parameters.spectra[:, self._counted]
        above = (counted > (1 + _SAME) * counted.min(axis=1, keepdims=True)).sum(axis=1)
        return bool((parameters.spectra >= frame.floor).all() and (above <= self._n_above).all())

    def room(self, parameters: Spectra, frame: SpectralFrame) -> NDArray[np.float64]:
        """Return how far each spectrum is above the floor, (K,)."""
        return room_above(frame.floor, parameters.spectra)

    def prepare(
        self, parameters: Spectra, frame: SpectralFrame, dtype: np.dtype[Any], n_threads: int
    ) -> PreparedSpectra:
        """Return spectra with their log-normalisers −½ Σ_ω m(ω) [log S_k(ω) + log 2π]."""
        m, spectra = self.basis.multiplicities, parameters.spectra + self.noise_var
        return PreparedSpectra(
            spectra,
            m,
            -0.5 * np.einsum("kd,d->k", np.log(2 * np.pi * spectra), m),
            log_weights(parameters.weights),
        )

    def expect(
        self, prepared: PreparedSpectra, data: Data, n_threads: int, assign: Assign = SOFT
    ) -> SpectralStatistics:
        """Return responsibilities summed, and squared coefficients weighted by them."""
        return SpectralStatistics(*self._sums(prepared, data, n_threads, assign, None))

    def expect_scaled(
        self, prepared: PreparedSpectra, scales: CoreScales, data: Data, n_threads: int, assign: Assign
    ) -> tuple[SpectralStatistics, NDArray[np.float64]]:
        """Return the same with the weights γ u for squared coefficients, and sums of the scales."""
        *sums, shares = self._sums(prepared, data, n_threads, assign, scales)
        return SpectralStatistics(*sums), shares

    def _sums(
        self, prepared: PreparedSpectra, data: Data, n_threads: int, assign: Assign, scales: CoreScales | None
    ) -> tuple[Any, ...]:
        return _core.spectral_expect(
            data.values,
            prepared.multiplicities,
            prepared.spectra,
            prepared.log_weights + prepared.log_normalisers,
            data.block.weight,
            n_threads,
            *assign.arguments(data.block),
            scales,
        )

    def maximize(self, statistics: SpectralStatistics, parameters: Spectra, frame: SpectralFrame) -> Spectra:
        """Return S_k = Σ_n γ_nk |X_n|² / N_k − v, narrowed, above the floor; one that no sample belongs to stays."""
        share = statistics.responsibility[:, None]
        spectra = np.divide(statistics.power, share, out=np.zeros_like(parameters.spectra), where=share > 0)
        spectra = np.where(share > 0, self._signal(self._narrowed(spectra), frame), parameters.spectra)
        return Spectra(statistics.responsibility / statistics.responsibility.sum(), spectra)

    @cached_property
    def _counted(self) -> NDArray[np.intp]:
        """Indices of the frequencies that `bandwidth` counts: pairs ω, −ω, where there are any."""
        return np.flatnonzero(self.basis.multiplicities == self.basis.multiplicities.max())

    @property
    def _n_above(self) -> int:
        """How many of them may stand above the background."""
        return int(self.bandwidth * len(self._counted))

    def _narrowed(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the likeliest spectra (K, D) of samples with this power that are as narrow as they have to be.

        With P the power and c ≤ S the background, S = P instead of S = c at a frequency gains m/2 (P/c − 1 − log P/c)
        nats a sample, more the further P is above c. So the strongest frequencies are kept, and c is the others' mean.
        """
        if self._n_above == len(self._counted):
            return power
        counted = power[:, self._counted]
        others = self._counted[np.argsort(-counted, axis=1, kind="stable")[:, self._n_above :]]
        background = np.take_along_axis(power, others, axis=1).mean(axis=1, keepdims=True)
        narrowed = power.copy()
        np.put_along_axis(narrowed, others, background, axis=1)
        return narrowed

    def fresh_start(self, n_components: int) -> SpectralStart:
        """Return a start with nothing given."""
        return SpectralStart(n_components, "kmeans++", None, None)

    def expected(self, parameters: Spectra, count: NDArray[np.float64], frame: SpectralFrame) -> SpectralStatistics:
        """Return N_k (S_k + v)."""
        return SpectralStatistics(count, count[:, None] * (parameters.spectra + self.noise_var), 0.0)

    def coordinates(self, parameters: Spectra, frame: SpectralFrame) -> NDArray[np.float64]:
        """Return log π and log S."""
        return np.concatenate([log_shares(parameters.weights), np.log(parameters.spectra).ravel()])

    def at_coordinates(self, coordinates: NDArray[np.float64], like: Spectra, frame: SpectralFrame) -> Spectra:
        """Return the weights and spectra, these narrowed and above the floor.

        Raises
        ------
        CollapseError
            If a spectrum is beyond the number format.
        """
        K, D = like.spectra.shape
        with np.errstate(over="ignore"):
            spectra = np.exp(coordinates[K:]).reshape(K, D)
        if not np.isfinite(spectra).all():
            raise CollapseError("a spectrum is beyond the number format.")
        spectra = np.maximum(self._narrowed(spectra), frame.floor)
        return Spectra(shares_of(coordinates[:K]), spectra)

    def information(self, parameters: Spectra, frame: SpectralFrame) -> NDArray[np.float64]:
        """Return π of log π, and ½ π m of log S."""
        weights = parameters.weights
        return np.concatenate([weights, np.outer(weights, 0.5 * self.basis.multiplicities).ravel()])

    # ---- questions to a model ----------------------------------------------------------------------------------------

    def log_density(
        self, prepared: PreparedSpectra, values: Floats, n_threads: int, scales: CoreScales | None = None
    ) -> Floats:
        """Return log p(x|k), (n, K)."""
        return _core.spectral_log_density(
            values, prepared.multiplicities, prepared.spectra, prepared.log_normalisers, n_threads, scales
        )

    def posterior(
        self,
        prepared: PreparedSpectra,
        values: Floats,
        n_threads: int,
        scales: CoreScales | None = None,
        *,
        weighted: bool = True,
    ) -> tuple[Floats, Floats]:
        """Return responsibilities (n, K) and log p(x) (n,)."""
        constants = prepared.log_normalisers + (prepared.log_weights if weighted else 0)
        return _core.spectral_posterior(values, prepared.multiplicities, prepared.spectra, constants, n_threads, scales)

    def draw(self, arrays: Arrays, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Return n patches of one component."""
        return self.basis.draw(arrays["spectra"][component], n, rng)

    def parameters_per_component(self, arrays: Arrays) -> int:
        """Return D, the background being one."""
        n_flat = len(self._counted) - self._n_above
        return len(self.basis.multiplicities) - n_flat + min(n_flat, 1)

    def divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return ½ Σ_ω m(ω) [S_k/S_j − log S_k/S_j − 1], (K, K)."""
        spectra, m = self.basis.from_plane(arrays["spectra"]), self.basis.multiplicities
        log_determinant = np.einsum("kd,d->k", np.log(spectra), m)
        difference = log_determinant[:, None] - log_determinant
        # Not a library's matrix product: it may depend on its threads.
        trace = _core.project(m * spectra, np.zeros(len(m)), np.ascontiguousarray((1 / spectra).T), 0)
        return np.asarray(0.5 * (trace - difference - m.sum()))

    def effective_ranks(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return how many frequencies the power of each spectrum is spread over, (K,)."""
        return effective_ranks(self.basis.from_plane(arrays["spectra"]), self.basis.multiplicities)

    def portraits(self, arrays: Arrays, shape: tuple[int, ...]) -> list[Portrait]:
        """Return log₁₀ 1/S_k, in the Fourier basis filters' power spectra; NaN where the model has no coefficient."""
        spectra = arrays["spectra"]
        logarithm = np.full(spectra.shape, np.nan)
        np.negative(np.log10(spectra, where=spectra > 0, out=logarithm), out=logarithm)
        low, high = float(np.nanmin(logarithm)), float(np.nanmax(logarithm))
        limits = (low, high) if high > low else (low - 0.5, high + 0.5)
        title, scale, sheet_title = self.basis.portrait
        return [Portrait(title, self.basis.centred(logarithm), limits, "viridis", scale, "spectra", sheet_title)]

    def gaussians(self, parameters: Spectra, frame: SpectralFrame) -> Diagonal:
        """Return the spectra in the basis of real coefficients."""
        axes, group = self.basis.axes()
        return Diagonal(log_weights(parameters.weights), self.basis.remove_mean, axes, group, parameters.spectra)

    def stationary_spectra(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return the spectra, if the basis makes them those of fields."""
        return arrays["spectra"] if self.basis.is_stationary else super().stationary_spectra(arrays)

    def amplified(self, values: Floats, factor: Floats) -> Floats:
        """Return squared coefficients times `factor`."""
        return np.asarray(values * factor[:, None])

    def with_variance(self, arrays: Arrays, factor: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return spectra times `factor`."""
        spectra = arrays["spectra"]
        return {**arrays, "spectra": spectra * factor.reshape(-1, *[1] * (spectra.ndim - 1))}

    # ---- arrays ------------------------------------------------------------------------------------------------------

    @property
    def array_names(self) -> tuple[str, ...]:
        """The spectra."""
        return ("spectra",)

    def to_arrays(self, parameters: Spectra, frame: SpectralFrame, n_threads: int) -> dict[str, NDArray[np.float64]]:
        """Return weights (K,) and spectra on the full plane (K, *shape)."""
        return {"weights": parameters.weights, "spectra": self.basis.to_plane(parameters.spectra)}

    def from_arrays(self, arrays: Arrays, frame: SpectralFrame, n_threads: int) -> Spectra:
        """Return weights and spectra in the basis."""
        return Spectra(arrays["weights"], self.basis.from_plane(arrays["spectra"]))

    def check_arrays(self, arrays: Arrays, n_threads: int) -> None:
        """Check the spectra."""
        self.check_spectra(arrays["spectra"], len(arrays["weights"]), "spectra")

    def check_usable(self, arrays: Arrays, n_threads: int) -> None:
        """Do nothing: spectra above a floor bear every question."""

    def check_spectra(self, planes: NDArray[np.float64], n_components: int, name: str) -> NDArray[np.float64]:
        """Return spectra in the basis (K, D) of planes (K, *shape), or raise a ValueError that names them."""
        expected = (n_components, *self.basis.shape)
        if planes.shape != expected:
            raise ValueError(f"{name} has shape {planes.shape}; {expected} is needed.")
        spectra = self.basis.from_plane(planes)
        if not (np.isfinite(spectra).all() and (spectra > 0).all()):
            raise ValueError(f"{name} must be finite and positive.")
        self.basis.check_planes(planes, name)
        return spectra

    def frame_of(self, arrays: Arrays) -> SpectralFrame:
        """Return a floor of 0."""
        return SpectralFrame(0.0)

    def frame_to_arrays(self, frame: SpectralFrame) -> dict[str, NDArray[np.float64]]:
        """Return the floor."""
        return {"floor": np.array(frame.floor)}

    def frame_from_arrays(self, arrays: Arrays) -> SpectralFrame:
        """Return the floor."""
        return SpectralFrame(float(arrays["floor"]))


def room_above(floor: float, spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what spectra (K, D) can be divided by until they meet a floor, but at least 1, (K,)."""
    if floor == 0:
        return np.full(len(spectra), np.inf)
    return np.asarray(np.maximum(spectra.min(axis=1) / floor, 1.0))


def _has_inverse(spectrum: float, dtype: np.dtype[Any]) -> bool:
    """Say whether the number format holds the inverse of a spectrum's least value."""
    return spectrum * float(np.finfo(dtype).max) > 4


def constant_rows(X: Floats) -> NDArray[np.intp]:
    """Return the indices of rows (n, n_features) whose values are all equal."""
    # The first two values tell nearly all others apart, and are one read.
    candidates = np.flatnonzero(X[:, 0] == X[:, min(1, X.shape[1] - 1)])
    chosen = X[candidates]
    return np.asarray(candidates[(chosen == chosen[:, :1]).all(axis=1)])
