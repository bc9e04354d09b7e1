"""The convolutional mixture: every component a zero-mean stationary Gaussian, that is, a power spectrum."""

from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from .basis import DCT, Basis, Fourier
from .estimator import Samples
from .families import Family, Spectral
from .families.spectral import SpectralStart
from .model import Model
from .patch_mixture import PatchMixture
from .scaled_mixture import ScaledMixture

#: Bases by the names that users choose them by.
_BASES: dict[str, type[Basis]] = {"fourier": Fourier, "dct": DCT}


class _Fitted(ScaledMixture, PatchMixture):
    """The types of the attributes that a fit sets."""

    spectra_: NDArray[np.float64]


@dataclass(eq=False, repr=False)
class ConvGMM(_Fitted):
    """Convolutional Gaussian mixture model.

    Every component is a zero-mean Gaussian whose covariance is circulant, hence diagonal in the discrete Fourier
    transform: a power spectrum S_k. For a patch x of n values with the unitary transform X,

        log p(x|k) = −½ Σ_ω [ |X(ω)|² / S_k(ω) + log S_k(ω) + log 2π ].

    float32 samples are computed in float32 with float64 sums, everything else in float64.

    Equivalently a component is a filter f_k of squared gain 1 / S_k, with p(x|k) ∝ exp(−½‖f_k ∗ x‖²): see `filters`.

    A circulant covariance takes a patch's left border for the neighbour of its right one. With ``basis="dct"`` X is the
    orthonormal discrete cosine transform of type II instead, which continues a patch by its reflection (Ahmed,
    Natarajan and Rao, IEEE Trans. Computers, 1974): photographs are much likelier under it, but its components are not
    stationary and have no filters.

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
    basis : {"fourier", "dct"}, default="fourier"
        In which transform covariances are diagonal.
    init : {"kmeans++", "random"}, default="kmeans++"
        Start of the spectra: those of samples that are far from one another in likelihood, or averages over a few
        random samples. Neither depends on the order of the samples.
    weights_init : array-like of shape (n_components,), default=None
        Start of the weights; sums to 1. Equal by default.
    spectra_init : array-like of shape (n_components, *patch shape), default=None
        Start of the spectra on the full plane in numpy's FFT order, positive, with equal values at ω and −ω; or
        variances of cosine coefficients. The value at index 0 is ignored with `remove_mean`. Used exactly, without a
        floor.
    <shared scales>
    <shared starts>
    reg_spectrum : float, default=1e-6
        Floor of every updated spectrum, as a share of the data's mean power per degree of freedom.
    bandwidth : float, default=1.0
        Largest share of frequencies, above 0, at which a component's power may stand above its background, which is the
        same at all others. ω and −ω count as one; the few frequencies that are their own conjugates, as 0, stay free.
        Below 1 components are narrow bands, and filters pass everything else alike.
    <shared parameters>

    Attributes
    ----------
    weights_ : ndarray of shape (K,), float64
        Mixing proportions.
    spectra_ : ndarray of shape (K, *patch shape), float64
        Power spectra in numpy's FFT order, or the variances of cosine coefficients, in squared units of the data; 0 at
        index 0 with `remove_mean`.
    filter_spectra_ : ndarray of shape (K, *patch shape), float64
        Squared gains of the filters, 1 / spectra_; 0 at ω = 0 with `remove_mean`. Not with ``basis="dct"``.
    <shared scale attributes>
    <shared attributes>

    Examples
    --------
    >>> import numpy as np
    >>> from convgmm import ConvGMM
    >>> patches = np.random.default_rng(0).standard_normal((500, 8, 8)).cumsum(axis=2)
    >>> model = ConvGMM(2, tol=1e-2, random_state=0).fit(patches)
    >>> model.spectra_.shape
    (2, 8, 8)
    """

    n_components: int = 32
    patch_shape: tuple[int, ...] | None = field(default=None, kw_only=True)
    remove_mean: bool = field(default=True, kw_only=True)
    basis: str = field(default="fourier", kw_only=True)
    init: str = field(default="kmeans++", kw_only=True)
    spectra_init: ArrayLike | None = field(default=None, kw_only=True)
    scales: int | ArrayLike = field(default=1, kw_only=True)
    tails: str = field(default="normal", kw_only=True)
    reg_spectrum: float = field(default=1e-6, kw_only=True)
    bandwidth: float = field(default=1.0, kw_only=True)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PatchMixture._parameter_constraints,
        **ScaledMixture._parameter_constraints,
        "basis": [StrOptions(set(_BASES))],
        "init": [StrOptions({"kmeans++", "random"})],
        "spectra_init": ["array-like", None],
        "reg_spectrum": [Interval(Real, 0, None, closed="neither")],
        "bandwidth": [Interval(Real, 0, 1, closed="right")],
    }

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        spectra: ArrayLike,
        *,
        scale_weights: ArrayLike | None = None,
        df: ArrayLike | None = None,
        **parameters: Any,
    ) -> Self:
        """Make a fitted mixture of its weights and spectra.

        It answers every question, and is where a fit with ``warm_start=True`` goes on from.

        Parameters
        ----------
        weights : array-like of shape (K,)
            Mixing proportions; they sum to 1.
        spectra : array-like of shape (K, *patch shape)
            Power spectra on the full plane in numpy's FFT order, in squared units of the data: positive, with equal
            values at ω and −ω; or, with ``basis="dct"``, variances of cosine coefficients. The value at index 0 is
            ignored with ``remove_mean=True``.
        scale_weights : array-like of shape (K, n_scales), default=None
            Each component's weights of the scales that are given as ``scales=(…)``; rows sum to 1.
        df : array-like of shape (K,), default=None
            Degrees of freedom, with ``tails="t"``.
        **parameters
            Parameters of the estimator, such as `remove_mean` and `basis`.

        Returns
        -------
        mixture : ConvGMM

        Raises
        ------
        ValueError
            If the arrays do not describe a mixture; says which and why.
        """
        planes = np.array(spectra, dtype=np.float64)
        if not 2 <= planes.ndim <= 4:
            raise ValueError(f"spectra has shape {planes.shape}; (n_components, *patch shape) is needed.")
        if planes.size and parameters.get("remove_mean", True):
            planes.reshape(len(planes), -1)[:, 0] = 0
        arrays = {"weights": np.asarray(weights), "spectra": planes}
        arrays |= cls._scale_arrays(scale_weights, df, parameters)
        return cls._from_arrays(parameters, arrays, planes.shape[1:])

    @property
    def filter_spectra_(self) -> NDArray[np.float64]:
        """Squared gains of the filters, 1 / spectra_, (K, *patch shape); 0 at ω = 0 with `remove_mean`."""
        return _spectral(self.model_.family).basis.squared_gains(self.model_.arrays["spectra"])

    def filters(self, phase: str = "zero") -> NDArray[np.float64]:
        """Return the filters f_k as impulse responses.

        ‖f_k ∗ x‖², with circular convolution, is the squared Mahalanobis distance of x. Only a filter's power is
        identifiable; its phase is free.

        Parameters
        ----------
        phase : {"zero", "minimum"}, default="zero"
            "zero": the filter is symmetric about its origin, index 0. "minimum": it is causal, with its energy as early
            as can be; on several axes causal means a non-symmetric half plane, in the order of the rows (Ekstrom and
            Woods 1976).

        Returns
        -------
        filters : ndarray of shape (K, *patch shape), float64
            ``abs(fftn(filters[k]))**2`` is ``filter_spectra_[k]``.

        Raises
        ------
        ValueError
            If there is no such phase.
        AttributeError
            With ``basis="dct"``: such a component is no convolution.
        """
        return _spectral(self.model_.family).basis.filters(np.sqrt(self.filter_spectra_), phase)

    # ---- what this estimator says of its family ----------------------------------------------------------------------

    def _basis(self, shape: tuple[int, ...]) -> Basis:
        return _BASES[self.basis](shape, bool(self.remove_mean))

    def _family(self, shape: tuple[int, ...]) -> Family:
        return self._with_scales(Spectral(self._basis(shape), self.reg_spectrum, bandwidth=float(self.bandwidth)))

    def _given_start(self, family: Family, n_samples: int | None, n_features: int) -> SpectralStart:
        planes = None if self.spectra_init is None else np.array(self.spectra_init, dtype=np.float64)
        spectra = None if planes is None else _spectral(family).check_spectra(planes, self.n_components, "spectra_init")
        return SpectralStart(self.n_components, self.init, self._checked_weights_init(), spectra)

    def _check_warm_start(self, model: Model, family: Family, samples: Samples) -> None:
        super()._check_warm_start(model, family, samples)
        before, now = _spectral(model.family).basis, _spectral(family).basis
        if before != now:
            raise ValueError(
                f"warm_start=True goes on from a fit with {before}, but the parameters say {now}; set warm_start=False."
            )


def _spectral(family: Family) -> Spectral:
    single = family.unscaled
    assert isinstance(single, Spectral)
    return single
