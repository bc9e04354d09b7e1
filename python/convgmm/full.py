"""The mixture with full covariance matrices."""

from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from .estimator import Samples
from .families import Family, Full
from .families.full import FullStart, check_covariances, precision_factors, squares
from .model import Model
from .scaled_mixture import ScaledMixture


class _Fitted(ScaledMixture):
    """The types of the attributes that a fit sets."""

    means_: NDArray[np.float64]
    covariances_: NDArray[np.float64]
    walk_: list[tuple[int, float]]


@dataclass(eq=False, repr=False)
class FullGMM(_Fitted):
    """Gaussian mixture model with full covariance matrices.

    C_k = M_k + `reg_covar` · I with M_k the weighted scatter about μ_k. With C_k = L_k L_kᵀ and z = L_k⁻¹ (x − μ_k),

        log p(x|k) = −½ (‖z‖² + D log 2π) − Σ log diag L_k.

    ‖z‖² is a sum of terms that are not negative, so part of it bounds the density from above. The samples are rotated
    once to the principal axes of all data, largest variance first; a sample's likeliest component is evaluated first,
    and every other one is dropped as soon as its bound shows that it cannot be seen in the sum. What is dropped changes
    the likelihood by less than the dtype resolves, so the results are those of the brute-force evaluation. Features
    whose scales differ by more than 10⁴ are left as they are.

    float32 samples of 64 features or more are computed in float32 with float64 sums, everything else in float64;
    answers are of the samples' dtype in either case.

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
    precisions_init : array-like of shape (n_components, n_features, n_features), default=None
        The same as their inverses.
    resp_init : array-like of shape (n_samples, n_components), default=None
        Responsibilities from which what is not given otherwise starts; rows sum to 1.
    <shared scales>
    <shared starts>
    reg_covar : float, default=1e-6
        Added to the diagonal of every updated covariance, in squared units of the data. Above 0 the likelihood may
        fall a little; such a step does not warn, and counts as converged if it is smaller than `tol`.
    <shared parameters>

    Attributes
    ----------
    weights_ : ndarray of shape (K,), float64
        Mixing proportions.
    means_ : ndarray of shape (K, n_features), float64
        Means.
    covariances_ : ndarray of shape (K, n_features, n_features), float64
        Covariances.
    precisions_ : ndarray of shape (K, n_features, n_features), float64
        Their inverses.
    precisions_cholesky_ : ndarray of shape (K, n_features, n_features), float64
        Upper triangular U_k with U_k U_kᵀ = C_k⁻¹, as in scikit-learn's GaussianMixture.
    <shared scale attributes>
    <shared attributes>
    walk_ : list of (rows, share)
        How the last E-step pruned: after so many rows of z, the share of sample–component pairs evaluated that far.

    Examples
    --------
    >>> import numpy as np
    >>> from convgmm import FullGMM
    >>> X = np.random.default_rng(0).standard_normal((500, 3)) * [[1, 2, 3]]
    >>> FullGMM(1).fit(X).covariances_.shape
    (1, 3, 3)
    """

    n_components: int = 1
    means: str = field(default="free", kw_only=True)
    init: str = field(default="kmeans++", kw_only=True)
    means_init: ArrayLike | None = field(default=None, kw_only=True)
    covariances_init: ArrayLike | None = field(default=None, kw_only=True)
    precisions_init: ArrayLike | None = field(default=None, kw_only=True)
    resp_init: ArrayLike | None = field(default=None, kw_only=True)
    scales: int | ArrayLike = field(default=1, kw_only=True)
    tails: str = field(default="normal", kw_only=True)
    reg_covar: float = field(default=1e-6, kw_only=True)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ScaledMixture._parameter_constraints,
        "means": [StrOptions({"free", "zero"})],
        "init": [StrOptions({"kmeans++", "random"})],
        "means_init": ["array-like", None],
        "covariances_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "resp_init": ["array-like", None],
        "reg_covar": [Interval(Real, 0, None, closed="left")],
    }

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike | Literal["zero"],
        covariances: ArrayLike,
        *,
        scale_weights: ArrayLike | None = None,
        df: ArrayLike | None = None,
        **parameters: Any,
    ) -> Self:
        """Make a fitted mixture of its weights, means and covariances.

        It answers every question, and is where a fit with ``warm_start=True`` goes on from.

        Parameters
        ----------
        weights : array-like of shape (K,)
            Mixing proportions; they sum to 1.
        means : array-like of shape (K, n_features), or "zero"
            Means; "zero" is the parameter of this name.
        covariances : array-like of shape (K, n_features, n_features)
            Covariances, symmetric and positive definite.
        scale_weights : array-like of shape (K, n_scales), default=None
            Each component's weights of the scales that are given as ``scales=(…)``; rows sum to 1.
        df : array-like of shape (K,), default=None
            Degrees of freedom, with ``tails="t"``.
        **parameters
            Parameters of the estimator.

        Returns
        -------
        mixture : FullGMM

        Raises
        ------
        ValueError
            If the arrays do not describe a mixture; says which and why.
        """
        covariances = np.asarray(covariances)
        if isinstance(means, str):
            parameters, means = {**parameters, "means": means}, np.zeros(covariances.shape[:2])
        arrays = {"weights": np.asarray(weights), "means": np.asarray(means), "covariances": covariances}
        arrays |= cls._scale_arrays(scale_weights, df, parameters)
        return cls._from_arrays(parameters, arrays, arrays["means"].shape[1:])

    @property
    def precisions_cholesky_(self) -> NDArray[np.float64]:
        """Upper triangular U_k with U_k U_kᵀ = C_k⁻¹, (K, n_features, n_features)."""
        model = self.model_
        make = partial(precision_factors, model.arrays["covariances"], self._threads())
        factors: NDArray[np.float64] = model.kept("precisions_cholesky", make)
        factors.setflags(write=False)
        return factors

    @property
    def precisions_(self) -> NDArray[np.float64]:
        """Inverses of the covariances, (K, n_features, n_features)."""
        return squares(self.precisions_cholesky_)

    # ---- what this estimator says of its family ----------------------------------------------------------------------

    def _shape_of(self, given: tuple[int, ...] | None, n_features: int) -> tuple[int, ...]:
        return (n_features,) if given is None else given

    def _is_shape(self, shape: tuple[int, ...], given: tuple[int, ...] | None, n_features: int) -> bool:
        return given is None or given == shape

    def _family(self, shape: tuple[int, ...]) -> Family:
        return self._with_scales(Full(self.means, self.reg_covar))

    def _given_start(self, family: Family, n_samples: int | None, n_features: int) -> FullStart:
        K, D = self.n_components, n_features
        weights = self._checked_weights_init()
        means = self._checked_array("means_init", (K, D))
        covariances = self._checked_array("covariances_init", (K, D, D))
        precisions = self._checked_array("precisions_init", (K, D, D))
        if self.resp_init is not None and n_samples is None:
            raise ValueError("resp_init cannot be given when X yields blocks: give weights, means or covariances.")
        resp = self._checked_array("resp_init", (n_samples or 0, K))
        for name, values in (("means_init", means), ("resp_init", resp)):
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{name} must be finite.")
        if self.means == "zero" and means is not None:
            raise ValueError('means_init cannot be given with means="zero".')
        if covariances is not None and precisions is not None:
            raise ValueError("covariances_init and precisions_init cannot both be given.")
        if precisions is not None:
            checked = check_covariances(precisions, (K, D, D), "precisions_init", self._threads())
            covariances = squares(precision_factors(checked, self._threads()))
        elif covariances is not None:
            check_covariances(covariances, (K, D, D), "covariances_init", self._threads())
        if resp is not None and ((resp < 0).any() or not np.allclose(resp.sum(axis=1), 1, atol=1e-6)):
            raise ValueError("resp_init must not be negative, and its rows must sum to 1.")
        return FullStart(K, self.init, weights, means, covariances, resp)

    def _check_warm_start(self, model: Model, family: Family, samples: Samples) -> None:
        super()._check_warm_start(model, family, samples)
        if self.means == "zero" and model.arrays["means"].any():
            raise ValueError('warm_start=True cannot go on with means="zero" from means that are not 0.')

    def _details(self) -> dict[str, Any]:
        return {"walk_": self.walk_} if hasattr(self, "walk_") else {}

    def _details_from(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: [(int(rows), float(share)) for rows, share in walk] for name, walk in values.items()}
