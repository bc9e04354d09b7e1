"""What mixtures share whose components may have several scales, or Student's t for their tails."""

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.utils._param_validation import Interval, StrOptions

from .estimator import Mixture, Samples
from .families import Family, Scaled, Student
from .families.family import Scalable
from .families.scaled import check_scales
from .model import Model


class ScaledMixture(Mixture):
    """A mixture with the parameters `scales` and `tails`."""

    scales: int | ArrayLike
    tails: str

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Mixture._parameter_constraints,
        "scales": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "tails": [StrOptions({"normal", "t"})],
    }

    scales_: NDArray[np.float64]
    scale_weights_: NDArray[np.float64]
    df_: NDArray[np.float64]

    def _with_scales(self, family: Scalable) -> Family:
        """Return the family with the scales, or the tails, that the parameters name."""
        if isinstance(self.scales, Integral):
            scales: int | tuple[float, ...] = int(self.scales)
        else:
            given = np.array(self.scales, dtype=np.float64)
            check_scales(given)
            scales = tuple(given.tolist())
        if self.tails == "t":
            if scales != 1:
                raise ValueError('scales cannot be given with tails="t": every component has scales of all sizes then.')
            return Student(family)
        if scales == 1:
            return family
        if not family.is_centred:
            raise ValueError('scales need means="zero": a scale is that of the whole signal.')
        return Scaled(family, scales)

    @staticmethod
    def _scale_arrays(
        scale_weights: ArrayLike | None, df: ArrayLike | None, parameters: dict[str, Any]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the arrays of scales, or tails, that were given beside others; none of plain Gaussians."""
        if (parameters.get("tails") == "t") != (df is not None):
            raise ValueError('tails="t" and df, an array (K,), are needed together.')
        scales = parameters.get("scales", 1)
        if df is not None and scale_weights is None:
            return {"df": np.array(df, dtype=np.float64)}
        if np.ndim(scales) == 0 and scales == 1 and scale_weights is None:
            return {}
        if np.ndim(scales) != 1 or scale_weights is None:
            raise ValueError("scales, as an array (n_scales,), and scale_weights (K, n_scales) are needed together.")
        return {"scales": np.array(scales), "scale_weights": np.asarray(scale_weights)}

    def _check_warm_start(self, model: Model, family: Family, samples: Samples) -> None:
        super()._check_warm_start(model, family, samples)
        if isinstance(model.family, Student) != isinstance(family, Student):
            raise ValueError(f"warm_start=True goes on from a fit with other tails than {self.tails!r}.")
        fitted, now = model.arrays.get("scales"), getattr(family, "scales", 1)
        same = (
            (1 if fitted is None else len(fitted)) == now
            if isinstance(now, int)
            else fitted is not None and np.array_equal(fitted, now)
        )
        if not same:
            raise ValueError(
                f"warm_start=True goes on from a fit with the scales {1 if fitted is None else fitted}, but scales="
                f"{self.scales}; set warm_start=False."
            )

    def scale_posterior(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the posterior over scales, Σ_k p(k, s_j | x).

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.

        Returns
        -------
        probabilities : ndarray of shape (n, n_scales), float64
            Rows sum to 1; ``probabilities @ scales_`` is each sample's expected scale.

        Raises
        ------
        AttributeError
            If the mixture has no grid of scales.
        ValueError
            If a sample has no finite log-density under any component; names it.
        """
        model, samples = self._read(X)
        family = model.family
        if not isinstance(family, Scaled):
            raise AttributeError("this mixture has no grid of scales: fit it with scales=9, say.")
        threads = self._threads()
        samples = samples.astype(np.float64)
        values = model.values(samples, threads)
        joint = family.scale_posterior(model.prepared(values.dtype, threads), values, threads)
        return np.asarray(softmax(np.nan_to_num(joint, nan=-np.inf), axis=1))
