"""Windows of stationary Gaussian fields on a torus larger than the patch: stationary components without wrap-around.

    C_k = B diag(λ_k) Bᴴ,    B the window's rows of the torus' unitary transform,    log p(x|k) = log N(x; 0, C_k)

Densities and their sums are those of full covariances with zero means; only what is made of the sums differs. Without
the mean, everything happens in the n − 1 dimensions orthogonal to the constant patch, where the torus' ω = 0 is not
seen.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert

from .. import _core
from ..basis import Fourier, degrees_of_freedom
from ..initialize import draw, n_draws
from ..source import Block
from .family import SHARED, SOFT, Arrays, Assign, CollapseError, CoreScales, Data, Floats, Portrait, Reading, Scalable
from .full import Full, FullFrame, FullSurvey, Gaussians, MomentStatistics, PreparedGaussians
from .gaussians import Rotated
from .spectral import Spectra, Spectral, SpectralFrame, SpectralStart, SpectralSurvey, room_above

# Steps of the first M-step, which begins with white spectra. Measured on photograph patches of 8×8 on tori of 12 and 16
# values a side, 2026-11: 30 leave less than 0.02 nats of 90.
_FIRST_STEPS = 30


#: Of the core: the lags between a window's values, cosines, multiplicities, axes, and whether means are removed.
WindowArguments: TypeAlias = tuple[
    NDArray[np.int32], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], bool
]


@dataclass(frozen=True, eq=False)
class TorusSpectra:
    """Parameters: spectra on the torus in its basis (K, F), and the zero-mean Gaussians of the windows in the frame.

    And how many threads an M-step may use.
    """

    spectra: NDArray[np.float64]
    gaussians: Gaussians
    n_threads: int = field(metadata=SHARED)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Mixing proportions, (K,)."""
        return self.gaussians.weights

    def take(self, kept: NDArray[np.intp]) -> "TorusSpectra":
        """Return the components of these indices, their weights renormalised."""
        return TorusSpectra(self.spectra[kept], self.gaussians.take(kept), self.n_threads)

    def with_weights(self, weights: NDArray[np.float64]) -> "TorusSpectra":
        """Return the same components in other proportions."""
        return replace(self, gaussians=self.gaussians.with_weights(weights))


@dataclass(frozen=True, eq=False)
class TorusSurvey:
    """The survey of the samples' moments, and that of their power."""

    moments: FullSurvey
    power: SpectralSurvey

    def __add__(self, other: "TorusSurvey") -> "TorusSurvey":
        return TorusSurvey(self.moments + other.moments, self.power + other.power)


@dataclass(frozen=True, eq=False)
class TorusFrame:
    """The floor of updated spectra, and the samples' principal axes (n, E), each of sum 0 when means are removed."""

    floor: float
    axes: NDArray[np.float64]

    @cached_property
    def coordinates(self) -> FullFrame:
        """The frame of the Gaussians."""
        return FullFrame(np.zeros(len(self.axes)), self.axes)


@dataclass(frozen=True)
class Torus(Scalable):
    """Zero-mean Gaussians of windows of stationary fields on a torus.

    Parameters
    ----------
    shape : tuple of 1 to 3 ints
        Shape of a patch.
    basis : Fourier
        The transform of the torus, and whether every patch's mean is removed.
    reg_spectrum : float
        Floor of updated spectra, as a share of the data's mean power per degree of freedom.
    inner_iter : int
        Steps of one M-step towards the spectra that its sums ask for.
    noise_var : float
        Variance of white noise in the samples, which spectra do not hold: windows of white noise have a white one.
    """

    shape: tuple[int, ...]
    basis: Fourier
    reg_spectrum: float = 1e-6
    inner_iter: int = 4
    noise_var: float = 0.0

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Torus":
        """Return the family with options that `to_values` gave."""
        basis = Fourier(tuple(values["basis"]["shape"]), values["basis"]["remove_mean"])
        return cls(**{**values, "shape": tuple(values["shape"]), "basis": basis})

    @property
    def _gaussians(self) -> Full:
        """The family that densities and sums are taken from."""
        return Full("zero", 0.0)

    @property
    def _noisy(self) -> Full:
        """The same for what the samples have: covariances of the signal, and noise."""
        return replace(self._gaussians, noise_var=self.noise_var)

    @property
    def _patches(self) -> Spectral:
        """The family with the patch's own transform: for a start, and the checks of power."""
        return Spectral(Fourier(self.shape, self.basis.remove_mean), self.reg_spectrum)

    @property
    def fields(self) -> Spectral:
        """The family of whole fields on the torus."""
        return Spectral(self.basis, self.reg_spectrum)

    def _window(self, axes: NDArray[np.float64]) -> WindowArguments:
        """Return what the core takes for a window with these axes."""
        lag, cosines = _window(self.shape, self.basis.shape, self.basis.remove_mean)
        return lag, cosines, self.basis.multiplicities, axes, self.basis.remove_mean

    def _covariances(
        self, spectra: NDArray[np.float64], axes: NDArray[np.float64], n_threads: int
    ) -> NDArray[np.float64]:
        return _core.torus_covariances(spectra, *self._window(axes), n_threads)

    # ---- samples -----------------------------------------------------------------------------------------------------

    def read(self, block: Block, n_threads: int) -> Reading:
        """Return the samples, without their means if those are removed."""
        reading = self._gaussians.read(block, n_threads)
        if not self.basis.remove_mean:
            return reading
        X = reading.values
        with np.errstate(over="ignore", invalid="ignore"):
            return Reading(block, X - X.mean(axis=1, keepdims=True, dtype=np.float64).astype(X.dtype))

    def survey(self, reading: Reading, n_threads: int) -> TorusSurvey:
        """Return the moments of the samples, and which have no power."""
        moments = self._gaussians.survey(reading, n_threads)
        return TorusSurvey(moments, self._patches.survey_power(reading.block, self.sample_power(reading.values)))

    def sample_power(self, X: Floats) -> Floats:
        """Return the power of read samples (n, n_features) per degree of freedom, (n,)."""
        # Not a matrix product: a library's may depend on its threads.
        power = np.einsum("nd,nd->n", X, X) / X.dtype.type(degrees_of_freedom(self.shape, self.basis.remove_mean))
        return np.asarray(power)

    def frame(self, survey: TorusSurvey) -> TorusFrame:
        """Return the floor, and the principal axes of the samples."""
        floor = self._patches.frame(survey.power).floor
        moments = survey.moments.moments
        scatter = moments.recentred(np.zeros((1, prod(self.shape)))).second[0] / moments.responsibility[0]
        return TorusFrame(floor, self._axes(scatter))

    def _axes(self, scatter: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the principal axes of a scatter (n, n), (n, E)."""
        n = len(scatter)
        seen = np.ascontiguousarray(helmert(n).T) if self.basis.remove_mean else np.eye(n)
        reduced = _along(scatter, seen)
        return np.asarray(_core.project(seen, np.zeros(len(reduced)), _core.principal_axes(reduced)[1], 0))

    def represent(self, reading: Reading, frame: TorusFrame, n_threads: int) -> Data:
        """Return the samples along the axes."""
        return self._gaussians.represent(reading, frame.coordinates, n_threads)

    # ---- EM ----------------------------------------------------------------------------------------------------------

    def start(
        self, given: SpectralStart, data: Data, frame: TorusFrame, rng: np.random.RandomState, n_threads: int
    ) -> TorusSpectra:
        """Return the given parameters; else those of samples, each given to the likeliest circulant spectrum.

        These spectra, of the patch's own size, are found as `Spectral` finds its start.
        """
        data.memory.clear()
        K = given.n_components
        weights = np.full(K, 1 / K) if given.weights is None else given.weights
        if given.spectra is not None:
            return self._at(weights, given.spectra, frame, n_threads)
        block, patches = data.block, self._patches
        power = self.sample_power(self.read(block, n_threads).values)
        chosen = draw(power, block.weight, n_draws(K, prod(self.shape), 8), rng)
        X = data.values[chosen].astype(np.float64)
        axes = np.ascontiguousarray(frame.axes.T)
        reading = patches.read(Block(_core.project(X, np.zeros(len(axes)), axes, n_threads)), n_threads)
        floor = SpectralFrame(frame.floor)
        given_order = None if data.order is None else data.order[chosen]
        represented = replace(patches.represent(reading, floor, 0), order=given_order)
        circulant = patches.start(given, represented, floor, rng, n_threads)
        prepared = patches.prepare(circulant, floor, X.dtype, n_threads)
        labels = patches.log_density(prepared, reading.values, n_threads).argmax(axis=1)
        order = np.argsort(labels, kind="stable")
        offsets = np.searchsorted(labels[order], np.arange(K + 1))
        sums = _core.full_moments(X, offsets, order, np.ones(len(X)), np.zeros((K, X.shape[1])), n_threads)
        white = np.full((K, len(self.basis.multiplicities)), frame.floor / self.reg_spectrum)
        first = replace(self, inner_iter=_FIRST_STEPS)
        statistics = MomentStatistics(np.zeros((K, X.shape[1])), *sums)
        begun = first.maximize(statistics, self._at(weights, white, frame, n_threads), frame)
        return self._at(weights, begun.spectra, frame, n_threads)

    def _at(
        self, weights: NDArray[np.float64], spectra: NDArray[np.float64], frame: TorusFrame, n_threads: int
    ) -> TorusSpectra:
        covariances = self._covariances(spectra, frame.axes, n_threads)
        return TorusSpectra(spectra, Gaussians(weights, np.zeros(covariances.shape[:2]), covariances), n_threads)

    def can_reach(self, parameters: TorusSpectra, frame: TorusFrame) -> bool:
        """Say whether all spectra are above the floor."""
        return bool((parameters.spectra >= frame.floor).all())

    def room(self, parameters: TorusSpectra, frame: TorusFrame) -> NDArray[np.float64]:
        """Return how far each spectrum is above the floor, (K,)."""
        return room_above(frame.floor, parameters.spectra)

    def divided(self, parameters: TorusSpectra, factor: NDArray[np.float64]) -> TorusSpectra:
        """Return spectra divided by `factor`: an M-step goes on from them."""
        return replace(parameters, spectra=parameters.spectra / factor[:, None])

    def prepare(
        self, parameters: TorusSpectra, frame: TorusFrame, dtype: np.dtype[Any], n_threads: int
    ) -> PreparedGaussians:
        """Return the inverses of the covariances' Cholesky factors."""
        return self._noisy.prepare(parameters.gaussians, frame.coordinates, dtype, n_threads)

    def of_noisy(self, noise_var: float) -> "Torus":
        """Return the family for noisy samples."""
        return replace(self, noise_var=noise_var)

    def expect(
        self, prepared: PreparedGaussians, data: Data, n_threads: int, assign: Assign = SOFT
    ) -> MomentStatistics:
        """Return moments about 0."""
        return self._gaussians.expect(prepared, data, n_threads, assign)

    def expect_scaled(
        self, prepared: PreparedGaussians, scales: CoreScales, data: Data, n_threads: int, assign: Assign
    ) -> tuple[MomentStatistics, NDArray[np.float64]]:
        """Return the same with the weights γ u, and sums of the scales."""
        return self._gaussians.expect_scaled(prepared, scales, data, n_threads, assign)

    def maximize(self, statistics: MomentStatistics, parameters: TorusSpectra, frame: TorusFrame) -> TorusSpectra:
        """Return spectra that are likelier under the scatter S_k of each component, none below the floor.

        Repeats λ ← λ [diag(Bᴴ Σ⁻¹ S Σ⁻¹ B) / diag(Bᴴ Σ⁻¹ B)]^½ with Σ = B diag(λ) Bᴴ, which never lowers the likelihood
        (Zhou, Hu, Zhou and Lange 2019); its cost does not depend on the number of samples.
        """
        n_threads = parameters.n_threads
        scatter = self._gaussians.maximize(statistics, parameters.gaussians, frame.coordinates)
        window, floor = self._window(frame.axes), frame.floor + self.noise_var
        try:
            spectra = _core.torus_maximize(
                scatter.covariances, parameters.spectra + self.noise_var, *window, floor, self.inner_iter, n_threads
            )
        except ValueError as error:
            raise CollapseError(f"{error}; raise reg_spectrum, or lower n_components.") from None
        spectra = np.maximum(spectra - self.noise_var, frame.floor)
        unclaimed = statistics.responsibility == 0
        spectra[unclaimed] = parameters.spectra[unclaimed]
        covariances = self._covariances(spectra, frame.axes, n_threads)
        return TorusSpectra(spectra, replace(scatter, covariances=covariances), n_threads)

    def fresh_start(self, n_components: int) -> SpectralStart:
        """Return a start with nothing given."""
        return self.fields.fresh_start(n_components)

    def expected(self, parameters: TorusSpectra, count: NDArray[np.float64], frame: TorusFrame) -> MomentStatistics:
        """Return N_k C_k."""
        return self._noisy.expected(parameters.gaussians, count, frame.coordinates)

    def coordinates(self, parameters: TorusSpectra, frame: TorusFrame) -> NDArray[np.float64]:
        """Return log π and log λ."""
        return self.fields.coordinates(Spectra(parameters.weights, parameters.spectra), SpectralFrame(frame.floor))

    def at_coordinates(self, coordinates: NDArray[np.float64], like: TorusSpectra, frame: TorusFrame) -> TorusSpectra:
        """Return the weights and spectra, these above the floor, and the Gaussians of the windows."""
        shaped = Spectra(like.weights, like.spectra)
        found = self.fields.at_coordinates(coordinates, shaped, SpectralFrame(frame.floor))
        return self._at(found.weights, found.spectra, frame, like.n_threads)

    def information(self, parameters: TorusSpectra, frame: TorusFrame) -> NDArray[np.float64]:
        """Return π of log π, and ½ π m q² of log λ, where the window is the share q of the torus.

        So it is of a white field; of others about.
        """
        whole = self.fields.information(Spectra(parameters.weights, parameters.spectra), SpectralFrame(frame.floor))
        K = len(parameters.weights)
        return np.concatenate([whole[:K], whole[K:] * (prod(self.shape) / prod(self.basis.shape)) ** 2])

    # ---- questions to a model ----------------------------------------------------------------------------------------

    def log_density(
        self, prepared: PreparedGaussians, values: Floats, n_threads: int, scales: CoreScales | None = None
    ) -> Floats:
        """Return log p(x|k), (n, K), every component evaluated in full."""
        return self._gaussians.log_density(prepared, values, n_threads, scales)

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
        return self._gaussians.posterior(prepared, values, n_threads, scales, weighted=weighted)

    def amplified(self, values: Floats, factor: Floats) -> Floats:
        """Return samples times the root of `factor`."""
        return self._gaussians.amplified(values, factor)

    def with_variance(self, arrays: Arrays, factor: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return spectra times `factor`."""
        return self.fields.with_variance(arrays, factor)

    def draw(self, arrays: Arrays, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Return n patches (n, *shape): windows of fields."""
        fields = self.fields.draw(arrays, component, n, rng)
        patches = fields[(slice(None), *(slice(size) for size in self.shape))]
        if self.basis.remove_mean:
            patches = patches - patches.mean(axis=tuple(range(1, patches.ndim)), keepdims=True)
        return np.ascontiguousarray(patches)

    def parameters_per_component(self, arrays: Arrays) -> int:
        """Return how many numbers of a spectrum its window's covariances tell.

        One covariance for each lag of the window up to its sign, where lags that are one on the torus count once; less
        their constant part when means are removed. More frequencies than these are not told apart by any sample.
        """
        sizes, torus = np.array(self.shape), np.array(self.basis.shape)
        lags = prod(np.minimum(2 * sizes - 1, torus))
        own_negatives = prod(1 + (2 * (sizes - 1) >= torus) * (torus % 2 == 0))
        return int(lags + own_negatives) // 2 - self.basis.remove_mean

    def divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return that of the windows' Gaussians, (K, K)."""
        return self._gaussians.divergence(self._seen(arrays))

    def _seen(self, arrays: Arrays) -> Arrays:
        """Return the windows' Gaussians in fixed axes, without the mean if that is removed."""
        axes = self._axes(np.eye(prod(self.shape)))
        covariances = self._covariances(self.basis.from_plane(arrays["spectra"]), axes, 0)
        return {**arrays, "means": np.zeros(covariances.shape[:2]), "covariances": covariances}

    def effective_ranks(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return how many principal axes the variance of each window is spread over, (K,)."""
        return self._gaussians.effective_ranks(self._seen(arrays))

    def portraits(self, arrays: Arrays, shape: tuple[int, ...]) -> list[Portrait]:
        """Return log₁₀ 1/λ_k, the filters' power spectra on the torus."""
        return self.fields.portraits(arrays, self.basis.shape)

    def gaussians(self, parameters: TorusSpectra, frame: TorusFrame) -> Rotated:
        """Return the Gaussians of the windows, along the axes."""
        gaussians = self._gaussians.gaussians(parameters.gaussians, frame.coordinates)
        return replace(gaussians, removes_mean=self.basis.remove_mean)

    def stationary_spectra(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return the spectra on the torus."""
        return arrays["spectra"]

    # ---- arrays ------------------------------------------------------------------------------------------------------

    @property
    def array_names(self) -> tuple[str, ...]:
        """The spectra."""
        return ("spectra",)

    def to_arrays(self, parameters: TorusSpectra, frame: TorusFrame, n_threads: int) -> dict[str, NDArray[np.float64]]:
        """Return weights (K,) and spectra on the full plane of the torus (K, *torus shape)."""
        return {"weights": parameters.weights, "spectra": self.basis.to_plane(parameters.spectra)}

    def from_arrays(self, arrays: Arrays, frame: TorusFrame, n_threads: int) -> TorusSpectra:
        """Return spectra in the basis, and the Gaussians of their windows."""
        return self._at(arrays["weights"], self.basis.from_plane(arrays["spectra"]), frame, n_threads)

    def check_arrays(self, arrays: Arrays, n_threads: int) -> None:
        """Check the spectra."""
        self.check_spectra(arrays["spectra"], len(arrays["weights"]), "spectra")

    def check_spectra(self, planes: NDArray[np.float64], n_components: int, name: str) -> NDArray[np.float64]:
        """Return spectra in the basis (K, F) of planes (K, *torus shape), or raise a ValueError that names them."""
        return self.fields.check_spectra(planes, n_components, name)

    def check_usable(self, arrays: Arrays, n_threads: int) -> None:
        """Do nothing: B Bᴴ = I, so spectra above a floor make covariances above it."""

    def frame_of(self, arrays: Arrays) -> TorusFrame:
        """Return a floor of 0, and the principal axes of the mixture's covariance."""
        seen = self._axes(np.eye(prod(self.shape)))
        whole = np.einsum("k,kij->ij", arrays["weights"], self._seen(arrays)["covariances"])
        return TorusFrame(0.0, self._axes(_along(whole, np.ascontiguousarray(seen.T))))

    def frame_to_arrays(self, frame: TorusFrame) -> dict[str, NDArray[np.float64]]:
        """Return the floor and the axes."""
        return {"floor": np.array(frame.floor), "axes": frame.axes}

    def frame_from_arrays(self, arrays: Arrays) -> TorusFrame:
        """Return the frame."""
        return TorusFrame(float(arrays["floor"]), arrays["axes"])


def _along(matrix: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Aᵀ M A, symmetric, of a matrix (n, n) and axes A (n, E)."""
    zero = np.zeros(len(matrix))
    half = np.ascontiguousarray(_core.project(matrix, zero, axes, 0).T)
    whole = np.asarray(_core.project(half, zero, axes, 0), dtype=np.float64)
    return (whole + whole.T) / 2


@lru_cache(maxsize=8)
def _window(
    shape: tuple[int, ...], torus_shape: tuple[int, ...], remove_mean: bool
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the number of the lag x − y, up to its sign, for all values of a patch (n, n), and cos(ω·l)/N (L, F).

    N is the number of values of the torus, ω its frequencies in the order of the basis.
    """
    places = np.indices(shape).reshape(len(shape), -1).T
    lags = places[:, None] - places
    # A lag and its negative are one: of the two that which stands later in the order of all lags.
    strides = np.cumprod([1, *(2 * size - 1 for size in shape[:0:-1])])[::-1]
    _, first, place = np.unique(np.abs(lags @ strides), return_index=True, return_inverse=True)
    one_of_each = lags.reshape(-1, len(shape))[first]
    basis = Fourier(torus_shape, remove_mean)
    frequencies = np.indices(torus_shape, dtype=np.float64).reshape(len(torus_shape), *torus_shape)
    omega = 2 * np.pi * basis.from_plane(frequencies) / np.array(torus_shape)[:, None]
    cosines = np.cos(np.einsum("la,af->lf", one_of_each.astype(np.float64), omega)) / prod(torus_shape)
    return place.reshape(len(places), -1).astype(np.int32), cosines
