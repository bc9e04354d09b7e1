"""The convolutional mixture: every component a zero-mean stationary Gaussian, that is, a power spectrum."""

import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from . import _core
from .half_spectrum import HalfSpectrum, half_spectrum
from .initialize import kmeans_plus_plus, random_averages
from .mixture import Floats, Mixture


@dataclass(frozen=True, eq=False)
class Spectra:
    """Parameters: weights (K,) and half spectra (K, D)."""

    weights: NDArray[np.float64]
    spectra: NDArray[np.float64]

    def take(self, kept: NDArray[np.intp]) -> "Spectra":
        """Return the components of these indices, their weights renormalised."""
        weights = self.weights[kept]
        return Spectra(weights / weights.sum(), self.spectra[kept])


@dataclass(frozen=True, eq=False)
class SpectralStatistics:
    """Summed responsibilities (K,), squared coefficients weighted by them (K, D), and the log-likelihood."""

    responsibility: NDArray[np.float64]
    power: NDArray[np.float64]
    log_likelihood: float


class ConvGMM(Mixture[Floats, Spectra, SpectralStatistics]):
    """Convolutional Gaussian mixture model.

    Every component is a zero-mean Gaussian whose covariance is circulant, hence diagonal in the discrete Fourier
    transform: a power spectrum S_k. For a patch x of n values with the unitary transform X,

        log p(x|k) = −½ Σ_ω [ |X(ω)|² / S_k(ω) + log S_k(ω) + log 2π ].

    float32 samples are computed in float32 with float64 sums, everything else in float64.

    Equivalently a component is a filter f_k of squared gain 1 / S_k, with p(x|k) ∝ exp(−½‖f_k ∗ x‖²): see `filters`.

    Parameters
    ----------
    n_components : int, default=32
        Number of components that EM starts with.
    patch_shape : tuple of 1 to 3 ints, default=None
        Shape of a sample. None: two-dimensional input is signals, (n, length); three-dimensional input images;
        four-dimensional input volumes. Given: two-dimensional input is flattened samples of this shape.
    remove_mean : bool, default=True
        Whether every sample's mean is removed. ω = 0 then leaves the model, and the density is that of the mean-free
        sample, with n − 1 degrees of freedom.
    init : {"kmeans++", "random"}, default="kmeans++"
        Start of the spectra: those of samples that are far from one another in likelihood, or averages over a few
        random samples. Neither depends on the order of the samples.
    weights_init : array-like of shape (n_components,), default=None
        Start of the weights; sums to 1. Equal by default.
    spectra_init : array-like of shape (n_components, *patch shape), default=None
        Start of the spectra on the full plane in numpy's FFT order, positive, with equal values at ω and −ω. The value
        at ω = 0 is ignored with `remove_mean`. Used exactly, without a floor.
    n_init : int, default=1
        Number of starts; the one with the largest `lower_bound_` is kept.
    max_iter : int, default=100
        Most EM iterations.
    tol : float, default=1e-3
        EM stops when an iteration gains less than this, in nats per sample, and loses nothing. 0 runs all `max_iter`.
    reg_spectrum : float, default=1e-6
        Floor of every updated spectrum, as a share of the data's mean power per degree of freedom.
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
    spectra_ : ndarray of shape (K, *patch shape), float64
        Power spectra in numpy's FFT order, in squared units of the data; 0 at ω = 0 with `remove_mean`.
    filter_spectra_ : ndarray of shape (K, *patch shape), float64
        Squared gains of the filters, 1 / spectra_; 0 at ω = 0 with `remove_mean`.
    n_components_ : int
        Number of components K that remain.
    lower_bound_ : float
        The last of `lower_bounds_`.
    lower_bounds_ : ndarray of shape (n_iter_,), float64
        Mean log-likelihood that each iteration's E-step found, in nats per sample; the first belongs to the start. The
        parameters kept are those after the last M-step.
    n_iter_ : int
        Number of iterations.
    converged_ : bool
        Whether an iteration gained less than `tol`.
    pruned_ : list of Pruning
        The removals: iteration, index among the components of that time, share.
    seconds_per_iteration_ : float
        Mean time of an iteration.
    n_features_in_ : int
        Number of values in a sample.

    Examples
    --------
    >>> import numpy as np
    >>> from convgmm import ConvGMM
    >>> patches = np.random.default_rng(0).standard_normal((500, 8, 8)).cumsum(axis=2)
    >>> model = ConvGMM(2, tol=1e-2, random_state=0).fit(patches)
    >>> model.spectra_.shape
    (2, 8, 8)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Mixture._parameter_constraints,
        "patch_shape": ["array-like", None],
        "remove_mean": ["boolean"],
        "init": [StrOptions({"kmeans++", "random"})],
        "spectra_init": ["array-like", None],
        "reg_spectrum": [Interval(Real, 0, None, closed="neither")],
    }

    spectra_: NDArray[np.float64]
    _half: HalfSpectrum

    def __init__(
        self,
        n_components: int = 32,
        *,
        patch_shape: tuple[int, ...] | None = None,
        remove_mean: bool = True,
        init: str = "kmeans++",
        weights_init: ArrayLike | None = None,
        spectra_init: ArrayLike | None = None,
        n_init: int = 1,
        max_iter: int = 100,
        tol: float = 1e-3,
        reg_spectrum: float = 1e-6,
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
        self.patch_shape = patch_shape
        self.remove_mean = remove_mean
        self.init = init
        self.weights_init = weights_init
        self.spectra_init = spectra_init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.reg_spectrum = reg_spectrum
        self.prune_threshold = prune_threshold
        self.output = output
        self.temperature = temperature
        self.drop_last = drop_last
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    @property
    def filter_spectra_(self) -> NDArray[np.float64]:
        """Squared gains of the filters, 1 / spectra_, (K, *patch shape); 0 at ω = 0 with `remove_mean`."""
        return np.divide(1.0, self.spectra_, out=np.zeros_like(self.spectra_), where=self.spectra_ > 0)

    def filters(self) -> NDArray[np.float64]:
        """Return the filters f_k as zero-phase impulse responses.

        ‖f_k ∗ x‖², with circular convolution, is the squared Mahalanobis distance of x. Only a filter's power is
        identifiable; of all phases zero is chosen, so a filter is symmetric about its origin, index 0.

        Returns
        -------
        filters : ndarray of shape (K, *patch shape), float64
            ``abs(fftn(filters[k]))**2`` is ``filter_spectra_[k]``.
        """
        check_is_fitted(self)
        axes = tuple(range(1, self.spectra_.ndim))
        return np.fft.ifftn(np.sqrt(self.filter_spectra_), axes=axes).real

    # ---- shapes ------------------------------------------------------------------------------------------------------

    def _given_patch_shape(self) -> tuple[int, ...] | None:
        if self.patch_shape is None:
            return None
        shape = tuple(self.patch_shape)
        if not (1 <= len(shape) <= 3 and all(isinstance(size, Integral) and size > 0 for size in shape)):
            raise ValueError(f"patch_shape must be a tuple of 1 to 3 positive ints, got {self.patch_shape!r}.")
        return tuple(int(size) for size in shape)

    def _check_sample_shape(self, shape: tuple[int, ...] | None, *, reset: bool) -> None:
        given = self._given_patch_shape()
        if shape is None:  # two-dimensional input
            shape = (self.n_features_in_,) if given is None else given
            if int(np.prod(shape)) != self.n_features_in_:
                raise ValueError(
                    f"patch_shape={given} has {int(np.prod(shape))} values, but X has {self.n_features_in_} features; "
                    f"a flattened sample needs as many."
                )
        elif given is not None and shape != given:
            raise ValueError(f"X holds samples of shape {shape}, but patch_shape={given}.")
        if reset:
            if self.warm_start and hasattr(self, "spectra_"):
                fitted = self._half
                if (fitted.shape, fitted.remove_mean) != (shape, bool(self.remove_mean)):
                    raise ValueError(
                        f"warm_start=True goes on from samples of shape {fitted.shape} with "
                        f"remove_mean={fitted.remove_mean}, but X holds {shape} and remove_mean={self.remove_mean}; "
                        f"set warm_start=False."
                    )
            self._sample_shape = shape
            self._half = half_spectrum(shape, bool(self.remove_mean))
        elif shape != self._sample_shape:
            raise ValueError(
                f"X holds samples of shape {shape}, but the model was fitted to {self._sample_shape}; reshape X."
            )
        if self._half.degrees_of_freedom < 1:
            raise ValueError(
                f"Found samples with {self.n_features_in_} feature(s) (n_features = {self.n_features_in_}), of which "
                f"remove_mean=True leaves none; pass remove_mean=False or longer samples."
            )

    # ---- the family's verbs ------------------------------------------------------------------------------------------

    def _data(self, X: NDArray[Any]) -> Floats:
        return self._half.coefficients(X, self._threads())

    def _check_start(self, n_samples: int) -> None:
        self._checked_weights_init()
        self._checked_spectra_init()

    def _checked_spectra_init(self) -> NDArray[np.float64] | None:
        """Return the half spectra (K, D) of `spectra_init`."""
        if self.spectra_init is None:
            return None
        planes = np.array(self.spectra_init, dtype=np.float64)
        expected = (self.n_components, *self._half.shape)
        if planes.shape != expected:
            raise ValueError(f"spectra_init has shape {planes.shape}; {expected} is needed.")
        spectra = self._half.from_plane(planes)
        if not (np.isfinite(spectra).all() and (spectra > 0).all()):
            raise ValueError("spectra_init must be finite and positive.")
        if not self._half.is_symmetric(planes):
            raise ValueError(
                "spectra_init must have equal values at ω and −ω, as the spectra of real samples have: the full plane "
                "in numpy's FFT order is expected."
            )
        return spectra

    def _begin(self, X: NDArray[Any], sample_weight: NDArray[np.float64] | None) -> Floats:
        if self.remove_mean:
            self._look_for_constant(X)
        data = self._data(X)
        mean_power = float(np.average(self._power(data), weights=sample_weight))
        if not X.any():
            raise ValueError("X is zero everywhere: there is no power to model.")
        self._floor = self.reg_spectrum * mean_power
        largest = float(np.sqrt(np.finfo(data.dtype).max))
        if not (1 / largest < mean_power < largest and self._has_inverse(self._floor, data.dtype)):
            raise ValueError(
                f"X has a mean power of {mean_power:.3g} in each value, and spectra a floor of {self._floor:.3g}: too "
                f"far from 1 for {data.dtype}; rescale X" + (", or pass float64." if data.dtype == np.float32 else ".")
            )
        return data

    def _power(self, data: Floats) -> Floats:
        """Return each sample's mean power per degree of freedom, (n,)."""
        # Not a matrix product: a library's may depend on its threads.
        multiplicities = (self._half.multiplicities / self._half.degrees_of_freedom).astype(data.dtype)
        return np.asarray(np.einsum("nd,d->n", data, multiplicities))

    @staticmethod
    def _has_inverse(spectrum: float, dtype: np.dtype[Any]) -> bool:
        """Say whether the number format holds the inverse of a spectrum's least value."""
        return spectrum * float(np.finfo(dtype).max) > 4

    @staticmethod
    def _look_for_constant(X: NDArray[Any]) -> None:
        constant = np.flatnonzero(X.max(axis=1) == X.min(axis=1))
        if not len(constant):
            return
        message = (
            f"{len(constant)} of {len(X)} samples are constant (the first is sample {constant[0]}): without their mean "
            f"nothing is left of them. Leave them out (extract_patches does, with min_std > 0), or pass "
            f"remove_mean=False."
        )
        if len(constant) == len(X):
            raise ValueError(message)
        warnings.warn(message + " A component may shrink to the floor on them.", UserWarning, stacklevel=5)

    def _start(self, data: Floats, sample_weight: NDArray[np.float64] | None, rng: np.random.RandomState) -> Spectra:
        weights = self._checked_weights_init()
        spectra = self._checked_spectra_init()
        if weights is None:
            weights = np.full(self.n_components, 1 / self.n_components)
        if spectra is not None and not self._has_inverse(float(spectra.min()), data.dtype):
            raise ValueError(f"spectra_init holds {spectra.min():.3g}, too small for {data.dtype}; pass float64.")
        if spectra is None and self.init == "random":
            spectra = random_averages(data, self._power(data), sample_weight, self.n_components, self._floor, rng)
        elif spectra is None:
            spectra = kmeans_plus_plus(
                data,
                self._half.multiplicities,
                self._power(data),
                sample_weight,
                self.n_components,
                self._floor,
                rng,
                self._threads(),
            )
        return Spectra(weights, spectra)

    def _is_out_of_reach(self, start: Spectra) -> bool:
        return bool((start.spectra < self._floor).any())

    def _parameters(self) -> Spectra:
        return Spectra(self.weights_, self._half.from_plane(self.spectra_))

    def _adopt(self, parameters: Spectra) -> None:
        self.weights_ = parameters.weights
        self.spectra_ = self._half.to_plane(parameters.spectra)

    def _expect(
        self, data: Floats, sample_weight: NDArray[np.float64] | None, parameters: Spectra
    ) -> SpectralStatistics:
        return SpectralStatistics(
            *_core.spectral_expect(
                data,
                self._half.multiplicities,
                parameters.spectra,
                self._constants(parameters),
                sample_weight,
                self._threads(),
            )
        )

    def _maximize(self, statistics: SpectralStatistics, parameters: Spectra) -> Spectra:
        # S_k = Σ_n γ_nk |X_n|² / N_k above the floor; a component that no sample belongs to stays as it is.
        share = statistics.responsibility[:, None]
        spectra = np.divide(statistics.power, share, out=parameters.spectra.copy(), where=share > 0)
        np.maximum(spectra, self._floor, out=spectra, where=share > 0)
        return Spectra(statistics.responsibility / statistics.responsibility.sum(), spectra)

    def _log_density(self, data: Floats) -> Floats:
        fitted = self._parameters()
        constants = self._constants(fitted, weighted=False)
        return _core.spectral_log_density(data, self._half.multiplicities, fitted.spectra, constants, self._threads())

    def _posterior(self, data: Floats, *, weighted: bool = True) -> tuple[Floats, Floats]:
        fitted = self._parameters()
        return _core.spectral_posterior(
            data, self._half.multiplicities, fitted.spectra, self._constants(fitted, weighted=weighted), self._threads()
        )

    def _constants(self, parameters: Spectra, *, weighted: bool = True) -> NDArray[np.float64]:
        # log π_k − ½ Σ m (log S_k + log 2π)
        normalisers = -0.5 * ((np.log(parameters.spectra) + np.log(2 * np.pi)) @ self._half.multiplicities)
        with np.errstate(divide="ignore"):
            return np.asarray(normalisers + np.log(parameters.weights) if weighted else normalisers)

    def _draw(self, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        # White noise through a filter of gain √S has the spectrum S.
        gain = np.sqrt(self.spectra_[component])
        axes = tuple(range(1, gain.ndim + 1))
        white = np.fft.fftn(rng.standard_normal((n, *gain.shape)), axes=axes)
        return np.fft.ifftn(white * gain, axes=axes).real

    def _parameters_per_component(self) -> int:
        return len(self._half.multiplicities)
