"""The mixture of stationary components on a torus larger than the patch."""

from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .basis import Fourier
from .estimator import Samples
from .families import Family, ScaleMixture, Torus
from .families.spectral import SpectralStart
from .model import Model
from .patch_mixture import PatchMixture
from .scaled_mixture import ScaledMixture


class _Fitted(ScaledMixture, PatchMixture):
    """The types of the attributes that a fit sets."""

    spectra_: NDArray[np.float64]


@dataclass(eq=False, repr=False)
class TorusGMM(_Fitted):
    """Gaussian mixture model of patches cut from stationary fields.

    The circulant components of `ConvGMM` join a patch's opposite borders. Here a patch is a window of a stationary
    field on a larger torus, so its own borders are left alone: with the torus' N frequencies ω and spectra λ_k,

        C_k(x, y) = 1/N Σ_ω λ_k(ω) cos(ω·(x − y)),    log p(x|k) = log N(x; 0, C_k).

    A torus as large as the patch makes the same components as `ConvGMM`. Densities cost what those of
    ``FullGMM(means="zero")`` cost, and are pruned as exactly. The M-step takes a few steps of the
    minorize–maximize algorithm for variance components (Zhou, Hu, Zhou and Lange 2019), which never lower the
    likelihood, and whose cost does not depend on the number of samples; windows of stationary fields are fitted by EM
    in Dembo, Mallows and Shepp (1989) and Guinness (2019).

    float32 samples of 64 features or more are computed in float32 with float64 sums, everything else in float64;
    answers are of the samples' dtype in either case.

    Parameters
    ----------
    n_components : int, default=32
        Number of components that EM starts with.
    torus_shape : tuple of 1 to 3 ints, default=None
        Shape of the torus, nowhere smaller than the patch. None: twice the patch in each direction.
    patch_shape : tuple of 1 to 3 ints, default=None
        Shape of a sample. None: two-dimensional input is signals, (n, length); three-dimensional input images;
        four-dimensional input volumes. Given: two-dimensional input is flattened samples of this shape.
    remove_mean : bool, default=True
        Whether every sample's mean is removed. The density is then that of the mean-free sample, in the n − 1
        dimensions orthogonal to the constant patch, and ω = 0 leaves the model.
    init : {"kmeans++", "random"}, default="kmeans++"
        Start: some samples, each with the likeliest of the circulant spectra that `ConvGMM` would start with. Does not
        depend on the order of the samples.
    weights_init : array-like of shape (n_components,), default=None
        Start of the weights; sums to 1. Equal by default.
    spectra_init : array-like of shape (n_components, *torus shape), default=None
        Start of the spectra on the torus in numpy's FFT order, positive, with equal values at ω and −ω. The value at
        ω = 0 is ignored with `remove_mean`. Used exactly, without a floor.
    <shared scales>
    <shared starts>
    reg_spectrum : float, default=1e-6
        Floor of every updated spectrum, as a share of the data's mean power per degree of freedom.
    inner_iter : int, default=4
        Steps of the M-step towards the spectra.
    <shared parameters>

    Attributes
    ----------
    weights_ : ndarray of shape (K,), float64
        Mixing proportions.
    spectra_ : ndarray of shape (K, *torus shape), float64
        Power spectra on the torus in numpy's FFT order, in squared units of the data; 0 at ω = 0 with `remove_mean`.
    filter_spectra_ : ndarray of shape (K, *torus shape), float64
        Squared gains of the filters, 1 / spectra_; 0 at ω = 0 with `remove_mean`.
    covariances_ : ndarray of shape (K, n_features, n_features), float64
        Covariances of patches; without their means with `remove_mean`, and then of rank n_features − 1.
    <shared scale attributes>
    <shared attributes>
    walk_ : list of (rows, share)
        How the last E-step pruned: after so many rows, the share of sample–component pairs evaluated that far.

    Examples
    --------
    >>> import numpy as np
    >>> from convgmm import TorusGMM
    >>> patches = np.random.default_rng(0).standard_normal((500, 6, 6)).cumsum(axis=2)
    >>> model = TorusGMM(2, torus_shape=(9, 9), tol=1e-2, random_state=0).fit(patches)
    >>> model.spectra_.shape, model.covariances_.shape
    ((2, 9, 9), (2, 36, 36))
    """

    n_components: int = 32
    torus_shape: tuple[int, ...] | None = field(default=None, kw_only=True)
    patch_shape: tuple[int, ...] | None = field(default=None, kw_only=True)
    remove_mean: bool = field(default=True, kw_only=True)
    init: str = field(default="kmeans++", kw_only=True)
    spectra_init: ArrayLike | None = field(default=None, kw_only=True)
    scales: int | ArrayLike = field(default=1, kw_only=True)
    tails: str = field(default="normal", kw_only=True)
    reg_spectrum: float = field(default=1e-6, kw_only=True)
    inner_iter: int = field(default=4, kw_only=True)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PatchMixture._parameter_constraints,
        **ScaledMixture._parameter_constraints,
        "torus_shape": ["array-like", None],
        "init": [StrOptions({"kmeans++", "random"})],
        "spectra_init": ["array-like", None],
        "reg_spectrum": [Interval(Real, 0, None, closed="neither")],
        "inner_iter": [Interval(Integral, 1, None, closed="left")],
    }

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        spectra: ArrayLike,
        patch_shape: tuple[int, ...],
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
        spectra : array-like of shape (K, *torus shape)
            Power spectra on the full plane of the torus in numpy's FFT order, in squared units of the data: positive,
            with equal values at ω and −ω. The value at ω = 0 is ignored with ``remove_mean=True``.
        patch_shape : tuple of 1 to 3 ints
            Shape of a patch, nowhere larger than the torus.
        scale_weights : array-like of shape (K, n_scales), default=None
            Each component's weights of the scales that are given as ``scales=(…)``; rows sum to 1.
        df : array-like of shape (K,), default=None
            Degrees of freedom, with ``tails="t"``.
        **parameters
            Parameters of the estimator, such as `remove_mean`.

        Returns
        -------
        mixture : TorusGMM

        Raises
        ------
        ValueError
            If the arrays do not describe a mixture; says which and why.
        """
        planes = np.array(spectra, dtype=np.float64)
        if not 2 <= planes.ndim <= 4:
            raise ValueError(f"spectra has shape {planes.shape}; (n_components, *torus shape) is needed.")
        if planes.size and parameters.get("remove_mean", True):
            planes.reshape(len(planes), -1)[:, 0] = 0
        parameters = {"torus_shape": planes.shape[1:], "patch_shape": patch_shape} | parameters
        shape = cls(**parameters)._checked_patch_shape()
        assert shape is not None
        arrays = {"weights": np.asarray(weights), "spectra": planes}
        return cls._from_arrays(parameters, arrays | cls._scale_arrays(scale_weights, df, parameters), shape)

    @property
    def filter_spectra_(self) -> NDArray[np.float64]:
        """Squared gains of the filters, 1 / spectra_, (K, *torus shape); 0 at ω = 0 with `remove_mean`."""
        spectra = self.model_.arrays["spectra"]
        return np.divide(1.0, spectra, out=np.zeros_like(spectra), where=spectra > 0)

    @property
    def covariances_(self) -> NDArray[np.float64]:
        """Covariances of patches, (K, n_features, n_features); of mean-free ones with `remove_mean`."""
        covariances: NDArray[np.float64] = self.model_.kept("covariances", partial(_covariances, self.model_))
        covariances.setflags(write=False)
        return covariances

    def filters(self, phase: str = "zero") -> NDArray[np.float64]:
        """Return the filters that whiten the fields, as impulse responses on the torus.

        Only a filter's power is identifiable; its phase is free.

        Parameters
        ----------
        phase : {"zero", "minimum"}, default="zero"
            As in `ConvGMM.filters`.

        Returns
        -------
        filters : ndarray of shape (K, *torus shape), float64
            ``abs(fftn(filters[k]))**2`` is ``filter_spectra_[k]``.

        Raises
        ------
        ValueError
            If there is no such phase.
        """
        return _torus(self.model_.family).basis.filters(np.sqrt(self.filter_spectra_), phase)

    def sample_field(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw whole fields on the torus, with `random_state`; `sample` draws windows of them.

        Parameters
        ----------
        n_samples : int, default=1
            How many.

        Returns
        -------
        fields : ndarray of shape (n_samples, *torus shape), float64
            Periodic; without ω = 0 with `remove_mean`, so that each has mean 0.
        components : ndarray of shape (n_samples,), int64
            The component that each was drawn from.
        """
        model = self.model_
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        fields = _torus(model.family).fields
        family = replace(model.family, single=fields) if isinstance(model.family, ScaleMixture) else fields
        whole = Model(family, None, dict(model.arrays), model.arrays["spectra"].shape[1:])
        return whole.sample(n_samples, check_random_state(self.random_state))

    # ---- what this estimator says of its family ----------------------------------------------------------------------

    def _shape_of(self, given: tuple[int, ...] | None, n_features: int) -> tuple[int, ...]:
        shape = super()._shape_of(given, n_features)
        self._checked_torus_shape(shape)
        return shape

    def _checked_torus_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.torus_shape is None:
            return tuple(2 * size for size in shape)
        torus = tuple(self.torus_shape)
        if len(torus) != len(shape) or not all(
            isinstance(size, Integral) and size >= least for size, least in zip(torus, shape, strict=True)
        ):
            raise ValueError(
                f"torus_shape must be a tuple of {len(shape)} int(s), none smaller than the patch's {shape}; got "
                f"{self.torus_shape!r}."
            )
        return tuple(int(size) for size in torus)

    def _family(self, shape: tuple[int, ...]) -> Family:
        basis = Fourier(self._checked_torus_shape(shape), bool(self.remove_mean))
        return self._with_scales(Torus(shape, basis, self.reg_spectrum, self.inner_iter))

    def _given_start(self, family: Family, n_samples: int | None, n_features: int) -> SpectralStart:
        planes = None if self.spectra_init is None else np.array(self.spectra_init, dtype=np.float64)
        spectra = None if planes is None else _torus(family).check_spectra(planes, self.n_components, "spectra_init")
        return SpectralStart(self.n_components, self.init, self._checked_weights_init(), spectra)

    def _check_warm_start(self, model: Model, family: Family, samples: Samples) -> None:
        super()._check_warm_start(model, family, samples)
        asked = self._checked_torus_shape(samples.shape)
        fitted = _torus(model.family).basis.shape
        if fitted != asked:
            raise ValueError(
                f"warm_start=True goes on from a fit with torus_shape={fitted}, but it is {asked}; set "
                f"warm_start=False."
            )

    def _details(self) -> dict[str, Any]:
        return {"walk_": self.walk_} if hasattr(self, "walk_") else {}

    def _details_from(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: [(int(rows), float(share)) for rows, share in walk] for name, walk in values.items()}


def _torus(family: Family) -> Torus:
    single = family.unscaled
    assert isinstance(single, Torus)
    return single


def _covariances(model: Model) -> NDArray[np.float64]:
    """Return C_k (K, n, n) of patches: the autocovariance at the lags between their values."""
    spectra, shape = model.arrays["spectra"], model.shape
    axes = tuple(range(1, spectra.ndim))
    by_lag = np.fft.ifftn(spectra, axes=axes).real
    places = np.indices(shape).reshape(len(shape), -1)
    lags = (places[:, :, None] - places[:, None]) % np.array(spectra.shape[1:])[:, None, None]
    covariances = np.asarray(by_lag[(slice(None), *lags)])
    if _torus(model.family).basis.remove_mean:
        covariances = covariances - covariances.mean(axis=1, keepdims=True)
        covariances = covariances - covariances.mean(axis=2, keepdims=True)
    return covariances
