"""What every mixture is as a scikit-learn estimator: parameters, fitting, questions, files. Families add their own.

An estimator is a shell. `fit` makes values, and sets all fitted attributes at once when it has ended: after a failure
the estimator is what it was before.
"""

import inspect
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import prod
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.special import softmax
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from . import _core, model_file
from .algorithms import ALGORITHMS, Pace, Stepwise, algorithm, stepwise
from .checkpoint import Checkpoint, Hashing, Identified
from .em import ACCELERATIONS, Best, Fit, Iteration, Options, Pruning
from .families import FAMILIES, CollapseError, Family, Floats
from .families.family import check_weights, log_weights
from .model import Model, largest_posteriors, no_density
from .monitor import Monitor
from .problem import Held, Problem, shuffled, sums
from .reallocation import Reallocation, reallocated
from .source import Blocks, InMemory, Rows, is_source
from .stationary import stationary_field
from .training import Training

T = TypeVar("T", bound=np.generic)

# Samples in a mini-batch: at least, for each component, and as a share of those that a component remembers at least.
# Measured on 200,000 patches of 8×8, K = 32 and 200, 2026-11.
_BATCH_SIZE = 250
_BATCH_SIZE_PER_COMPONENT = 2.5
_BATCH_SIZE_REMEMBERED = 1 / 16
# How many times as many samples are remembered when mini-batches go on from a fit.
_AFTER_A_FIT = 10

#: Why a stream is only fitted, or scored.
NO_ANSWERS = "X yields blocks, whose answers need not fit into memory: fit, then ask block by block."

# What an estimator remembers of features.
_FEATURES = ("n_features_in_", "feature_names_in_")

#: What `transform` can give: per sample, one value for each component.
OUTPUTS = ("log_density", "standardized", "likelihood", "posterior")

# What all mixtures share, put into the docstring of each in place of the line "<shared …>".
_SHARED_DOCUMENTATION = {
    "starts": """\
n_init : int, default=1
    Number of starts; the one with the largest `lower_bound_` is kept. One whose covariances do not stay positive
    definite is given up with a warning, or, if all are, with an error.
algorithm : {"em", "stochastic", "hard", "online"}, default="em"
    How a sample's posterior enters the sums of an iteration. "em": as it is. "hard": 1 for the likeliest component
    (classification EM, Celeux and Govaert 1992). "stochastic": 1 for a component drawn from the posterior (Celeux and
    Diebolt 1985), keyed by a seed from `random_state`, the iteration and the sample's place, so that neither threads
    nor blocks change it; EM then ends when the mean bound of 10 iterations is within `tol` of that of the 10 before.
    With both the likelihood may fall. "online": `n_epochs` passes of stepwise EM over shuffled mini-batches (Cappé and
    Moulines 2009; Liang and Klein 2009), each of which moves the sums by a share (t + 2)^−p towards its own, p being
    `step_exponent`, then EM. The share is never so large that a component remembers fewer than 4 samples, with full
    covariances 4 for each feature. A pass ends with the sums of its last half; its bound is that of each mini-batch
    before its step. A stream is shuffled within its blocks.
batch_size : int, default=None
    Samples in a mini-batch. None: 250, or 2.5 for each component, or one for each and 4 features of a full covariance,
    whatever is most.
n_epochs : int, default=1
    Passes of mini-batches.
step_exponent : float, default=None
    Above 0.5 and at most 1; the larger, the longer early mini-batches are remembered. None: 0.55, with full covariances
    0.7.
accelerate : {"momentum", "squarem"}, default=None
    How steps of EM are extrapolated. "momentum": each by a share of the way from the one before (Nesterov 1983), which
    takes fewest passes. "squarem": every second one, by what two of them tell (Varadhan and Roland 2008). An
    extrapolation that lowers the likelihood is taken back: its pass counts as an iteration whose bound is that of the
    one before. Only for "em", and for what follows the epochs of "online".
max_iter : int, default=100
    Most iterations, that is, passes over the samples; `reallocate` adds to them.
tol : float, default=1e-3
    EM stops when an iteration changes the mean log-likelihood by less than this, in nats per sample. 0 runs all
    `max_iter`.""",
    "scales": """\
scales : int or array-like of shape (n_scales,), default=1
    Each component is a Gaussian scale mixture p(x|k) = Σ_j ω_kj N(x; 0, s_j² C_k) with these factors s_j of the signal
    (Andrews and Mallows 1974), so that one component describes a structure at every contrast. An int: so many, in equal
    steps of the logarithm over the contrasts of the samples, of which the median is 1; chosen when a fit starts. 1:
    plain Gaussians. Posteriors over components are sums over scales; `scale_posterior` gives that over scales. Hard and
    stochastic assignments choose a component, whose scales still share the sample.
tails : {"normal", "t"}, default="normal"
    "t": components are multivariate Student's t, each with degrees of freedom of its own that are estimated (Peel and
    McLachlan 2000), so that a sample far from its component counts little. They are Gaussian scale mixtures, too, with
    scales of every size and one parameter to say which. Not together with `scales`.""",
    "scale attributes": """\
scales_ : ndarray of shape (n_scales,), float64
    The factors s_j. Only with `scales`, like the next. A component's covariance is Σ_j ω_kj s_j² times that at the
    scale 1, which the other attributes hold.
scale_weights_ : ndarray of shape (K, n_scales), float64
    Each component's weights ω_kj of the scales; rows sum to 1.
df_ : ndarray of shape (K,), float64
    Degrees of freedom ν_k, 10⁶ at most. Only with ``tails="t"``: the other attributes are then those at the scale 1. A
    component's covariance is ν_k / (ν_k − 2) times as large, and infinite for ν_k of up to 2.""",
    "parameters": """\
prune_threshold : float, default=1e-4
    Least share of the total sample weight; a component below it is removed during EM. 0 never removes one.
reallocate : int, default=0
    Most trials, after EM has ended, to move a component: the pair that overlaps most becomes one, the component that
    fits worst two, and both are kept if the likelihood has risen after a few iterations (Ueda et al. 2000). Each costs
    some twenty iterations, and no more than 60 or `max_iter`; after the last one that is kept, EM goes on for up to
    `max_iter` more. Only with ``algorithm="em"``.
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
    Above 0, `fit` shows a progress bar, and of streams one over the blocks.
callback : callable, default=None
    Called after each iteration with an `Iteration`: which it is, its bound, the model. What it returns ends the run if
    it is true.
monitor : Monitor, default=None
    Says when a run has converged, from its `Progress`; see `Monitor`. None: when an iteration changes the bound by less
    than `tol`.
checkpoint : path, default=None
    File that says how far a fit is. If it exists, `fit` goes on from there, and ends with the bits of a fit that was
    never cut off; if it belongs to other samples or parameters, that is an error. It is removed when the fit has ended.
    Writing takes at most a tenth of the time.""",
    "attributes": """\
n_components_ : int
    Number of components K that remain.
lower_bound_ : float
    The last of `lower_bounds_`.
lower_bounds_ : ndarray of shape (n_iter_,), float64
    Mean log-likelihood that each iteration's E-step found, in nats per sample; the first belongs to the start. The
    parameters kept are those after the last M-step.
n_iter_ : int
    Number of iterations: at most `max_iter`, or, with `reallocate`, twice that and those of the trials that are kept.
converged_ : bool
    Whether the monitor said so: without one, whether an iteration changed the bound by less than `tol`.
pruned_ : list of Pruning
    The removals: iteration, index among the components of that time, share.
reallocations_ : list of Reallocation
    The trials of `reallocate`: iteration, the pair that was merged, the component that was split, gain, whether kept.
    Of a trial that is kept, `lower_bounds_` holds what lies above all before.
seconds_per_iteration_ : float
    Mean time of an iteration.
n_features_in_ : int
    Number of values in a sample.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the features, if `fit` was given any.
model_ : Model
    The fitted mixture as one frozen value. Its arrays are those of the attributes above, and read-only; another array
    may be put in the place of one.""",
}


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked samples, and what is known of them.

    Attributes
    ----------
    source : object
        Gives them: a Source, or what another engine reads.
    n_samples : int or None
        How many the caller gave; None: reading them will tell.
    shape : tuple of int
        Shape of one.
    features : dict
        What an estimator remembers of their features.
    array : ndarray of shape (n_samples, n_features), or None
        All of them, if the caller gave an array.
    """

    source: Any
    n_samples: int | None
    shape: tuple[int, ...]
    features: dict[str, Any]
    array: NDArray[Any] | None


class Kept(BaseEstimator):  # type: ignore[misc]
    """An estimator that can be written into a file, and whose fitted attributes are set at once."""

    def _replace_fitted(self, attributes: dict[str, Any]) -> None:
        """Put these in the place of all fitted attributes: one assignment, which nothing can cut in two."""
        others = {name: value for name, value in vars(self).items() if not is_fitted_attribute(name)}
        self.__dict__ = others | attributes

    def save(self, path: str | os.PathLike[str], *, dtype: DTypeLike = np.float64) -> None:
        """Write the fitted estimator into a file, exactly of this name.

        The file is an .npz archive without pickled objects, with a header (format version, class, parameters) and a
        SHA-256 sum. It is written beside the target and moved into place: an interrupt or a full disk leaves what was
        there. `callback` and `monitor`, which only a running fit asks, are not in it.

        Parameters
        ----------
        path : path
            Where.
        dtype : {float64, float32, float16}, default=float64
            In which the arrays are kept; what is loaded answers as the saved one rounded to it. float16 keeps the
            Cholesky factors of covariances so, an eighth as large, and all else in float32. An array that its range or
            rounding would destroy keeps more bits.

        Raises
        ------
        NotFittedError
            If there is nothing to save.
        OSError
            If the file cannot be written.
        TypeError
            If a parameter cannot be written without pickle; names it.
        """
        check_is_fitted(self)
        if np.dtype(dtype) not in (np.float16, np.float32, np.float64):
            raise ValueError(f"dtype must be float64, float32 or float16, got {dtype!r}.")
        model_file.save(self, path, dtype)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an estimator that `save` wrote.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        estimator : object
            Of this class; its answers are those of the one that was saved, to the last bit.

        Raises
        ------
        ValueError
            If the file is damaged or cut short, holds another class, or was written by a later version; says which.
        OSError
            If it cannot be read.
        """
        estimator = model_file.load(path, cls)
        assert isinstance(estimator, cls)
        return estimator

    #: Parameters that `save` leaves out.
    _parameters_of_running: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def _fitted_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what `save` keeps of the fit: JSON values, and arrays."""

    @abstractmethod
    def _restore(self, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Set the fitted attributes from what `_fitted_state` returned."""


class Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, Kept):  # type: ignore[misc]
    """What mixtures and layers of mixtures share."""


def is_fitted_attribute(name: str) -> bool:
    """Say whether an attribute is one that `fit` sets."""
    return name in ("_model", "_stepwise", "_fitted_to") or (name.endswith("_") and not name.startswith("_"))


class Fitted(Estimator):
    """The types of the attributes that a fit sets."""

    weights_: NDArray[np.float64]
    lower_bound_: float
    lower_bounds_: NDArray[np.float64]
    n_iter_: int
    converged_: bool
    pruned_: list[Pruning]
    reallocations_: list[Reallocation]
    seconds_per_iteration_: float
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    _model: Model


@dataclass(eq=False, repr=False)
class Mixture(Fitted):
    """A mixture of Gaussians as a scikit-learn estimator; the estimator of each family derives from it."""

    n_components: int = 1
    n_init: int = field(default=1, kw_only=True)
    algorithm: str = field(default="em", kw_only=True)
    batch_size: int | None = field(default=None, kw_only=True)
    n_epochs: int = field(default=1, kw_only=True)
    step_exponent: float | None = field(default=None, kw_only=True)
    accelerate: str | None = field(default=None, kw_only=True)
    max_iter: int = field(default=100, kw_only=True)
    tol: float = field(default=1e-3, kw_only=True)
    weights_init: ArrayLike | None = field(default=None, kw_only=True)
    prune_threshold: float = field(default=1e-4, kw_only=True)
    reallocate: int = field(default=0, kw_only=True)
    output: str = field(default="posterior", kw_only=True)
    temperature: float = field(default=1.0, kw_only=True)
    drop_last: bool = field(default=False, kw_only=True)
    warm_start: bool = field(default=False, kw_only=True)
    random_state: int | np.random.RandomState | None = field(default=None, kw_only=True)
    n_threads: int | None = field(default=None, kw_only=True)
    verbose: int | bool = field(default=0, kw_only=True)
    callback: Callable[[Iteration], Any] | None = field(default=None, kw_only=True)
    monitor: Monitor | None = field(default=None, kw_only=True)
    checkpoint: str | os.PathLike[str] | None = field(default=None, kw_only=True)

    _parameters_of_running: ClassVar[tuple[str, ...]] = ("callback", "monitor")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "algorithm": [StrOptions(set(ALGORITHMS))],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "step_exponent": [Interval(Real, 0.5, 1, closed="right"), None],
        "accelerate": [StrOptions(set(ACCELERATIONS)), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "weights_init": ["array-like", None],
        "prune_threshold": [Interval(Real, 0, 1, closed="left")],
        "reallocate": [Interval(Integral, 0, None, closed="left")],
        "output": [StrOptions(set(OUTPUTS))],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "drop_last": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "verbose": ["verbose"],
        "callback": [callable, None],
        "monitor": [HasMethods("converged"), None],
        "checkpoint": [str, os.PathLike, None],
    }

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        document(cls, _SHARED_DOCUMENTATION)

    # ---- what an estimator says of its family ------------------------------------------------------------------------

    @abstractmethod
    def _shape_of(self, given: tuple[int, ...] | None, n_features: int) -> tuple[int, ...]:
        """Return the shape of a sample from that in which it was given, None for two-dimensional input; check it."""

    @abstractmethod
    def _family(self, shape: tuple[int, ...]) -> Family:
        """Return the family that these parameters name, for samples of this shape."""

    @abstractmethod
    def _given_start(self, family: Any, n_samples: int | None, n_features: int) -> Any:
        """Check the starting values that the user gave, before any work; return them for the family.

        The number of samples is None where reading them will tell.
        """

    def _check_warm_start(self, model: Model, family: Family, samples: Samples) -> None:
        """Refuse samples and parameters that the fitted ones do not belong to."""
        if model.shape != samples.shape:
            raise ValueError(
                f"warm_start=True goes on from samples of shape {model.shape}, but X holds {samples.shape}; pass such "
                f"samples, or set warm_start=False."
            )

    # ---- input -------------------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _threads(self) -> int:
        return self.n_threads or 0  # 0: what OpenMP would use

    def _check_parameters(self) -> None:
        self._validate_params()
        if self.drop_last and self.output == "log_density":
            raise ValueError('drop_last=True has no meaning with output="log_density": its values are independent.')
        if self.reallocate and self.algorithm != "em":
            raise ValueError(f'reallocate={self.reallocate} needs algorithm="em": trials are judged by the likelihood.')
        if self.accelerate and self.algorithm in ("hard", "stochastic"):
            raise ValueError(
                f"accelerate={self.accelerate!r} extrapolates EM; it has no meaning with algorithm={self.algorithm!r}."
            )

    def _read_new(self, X: Any, sample_weight: Any) -> Samples:
        """Check samples to be fitted, those of a stream as far as its first block; changes nothing here."""
        stream = _as_stream(X, sample_weight)
        if stream is not None:
            n_samples = None if is_source(X) else len(X)
            return self._described(stream, stream.first, n_samples, None if n_samples is None else flatten(X)[0])
        checked, shape, features = self._inspected(X, 2)
        array, weight = aligned(checked), None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, array, dtype=np.float64, ensure_non_negative=True)
        return Samples(InMemory(array, weight), len(array), shape, features, array)

    def _described(
        self, source: Any, first: Any, n_samples: int | None = None, array: NDArray[Any] | None = None
    ) -> Samples:
        """Return a source with what its first block tells of its samples."""
        _, shape, features = self._inspected(first, 1)
        return Samples(source, n_samples, shape, features, array)

    def _inspected(self, X: Any, n_least: int) -> tuple[NDArray[Any], tuple[int, ...], dict[str, Any]]:
        """Return checked samples (n, n_features), the shape of one, and what is to be remembered of their features."""
        flat, given = flatten(X)
        reader = object.__new__(type(self))  # what the checks remember of the features is kept only with the fit
        reader.__dict__.update(self.get_params(deep=False))
        checked = validate_data(reader, flat, dtype=_dtypes(flat), order="C", ensure_min_samples=n_least)
        features = {name: value for name, value in vars(reader).items() if is_fitted_attribute(name)}
        return checked, self._shape_of(given, checked.shape[1]), features

    def _read(self, X: Any) -> tuple[Model, NDArray[Any]]:
        """Return the fitted model, and checked samples (n, n_features)."""
        model = self.model_
        flat, given = flatten(X)
        checked = validate_data(self, flat, dtype=_dtypes(flat), order="C", reset=False)
        if not self._is_shape(model.shape, given, checked.shape[1]):
            found = checked.shape[1:] if given is None else given
            raise ValueError(f"X holds samples of shape {found}, but the model was fitted to {model.shape}; reshape X.")
        return model, aligned(checked)

    def _is_shape(self, shape: tuple[int, ...], given: tuple[int, ...] | None, n_features: int) -> bool:
        """Say whether samples in a given shape, None for two-dimensional input, are samples of this shape."""
        return self._shape_of(given, n_features) == shape

    # ---- the fitted model --------------------------------------------------------------------------------------------

    @property
    def model_(self) -> Model:
        """The fitted mixture as one frozen value.

        Raises
        ------
        NotFittedError
            If there is none.
        ValueError
            If an attribute was set by hand to what does not describe a mixture.
        """
        check_is_fitted(self)
        model = self._model
        arrays = {name: getattr(self, f"{name}_") for name in model.arrays}
        if all(arrays[name] is model.arrays[name] for name in arrays):
            return model
        model = model.with_arrays(arrays, self._threads())
        self.__dict__.update({"_model": model, **_as_attributes(model)})
        return model

    def __sklearn_is_fitted__(self) -> bool:
        return "_model" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        model = self.model_ if self.__sklearn_is_fitted__() else None  # checks what was set by hand
        state = dict(super().__getstate__())
        if model is not None:  # its arrays are the attributes
            state["_model"] = model.family, model.frame, model.shape
            if "_stepwise" in state:
                state["_stepwise"] = state["_stepwise"][1]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_model" in state:
            family, frame, shape = state["_model"]
            arrays = {name: state[f"{name}_"] for name in ("weights", *family.array_names)}
            model = Model(family, frame, arrays, shape)
            state = {**state, "_model": model}
            if "_stepwise" in state:
                state["_stepwise"] = (model, state["_stepwise"])
        super().__setstate__(state)

    def _fitted_attributes(self, model: Model, fit: Fit | None, features: dict[str, Any]) -> dict[str, Any]:
        bounds = fit.lower_bounds if fit else ()
        return {
            "_model": model,
            **_as_attributes(model),
            **features,
            **(fit.details if fit else {}),
            "lower_bounds_": np.array(bounds, dtype=np.float64),
            "lower_bound_": bounds[-1] if bounds else np.nan,
            "n_iter_": len(bounds),
            "converged_": bool(fit and fit.converged),
            "pruned_": list(fit.prunings) if fit else [],
            "reallocations_": list(fit.reallocations) if fit else [],
            "seconds_per_iteration_": fit.seconds / len(bounds) if fit else 0.0,
        }

    @classmethod
    def _from_arrays(cls, parameters: dict[str, Any], arrays: dict[str, Any], shape: tuple[int, ...]) -> Self:
        """Make a fitted estimator of a mixture's arrays."""
        estimator = cls(**{"n_components": max(1, np.size(arrays["weights"])), **parameters})
        estimator._check_parameters()
        shape = estimator._shape_of(shape, prod(shape))
        model = Model.from_arrays(estimator._family(shape), arrays, shape, estimator._threads())
        model.prepared(np.dtype(np.float64), estimator._threads())
        features = {"n_features_in_": prod(shape)}
        estimator._replace_fitted(estimator._fitted_attributes(model, None, features))
        return estimator

    def _fitted_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        model = self.model_
        names = getattr(self, "feature_names_in_", None)
        values = {
            "family": {"name": type(model.family).__name__, "options": model.family.to_values()},
            "shape": model.shape,
            "feature_names": None if names is None else [str(name) for name in names],
            "converged": self.converged_,
            "pruned": [[pruning.iteration, pruning.index, pruning.share] for pruning in self.pruned_],
            "reallocations": [list(vars(trial).values()) for trial in self.reallocations_],
            "seconds_per_iteration": self.seconds_per_iteration_,
            "details": self._details(),
        }
        arrays = {"lower_bounds": self.lower_bounds_, **model.arrays}
        frame = model.family.frame_to_arrays(model.frame)
        return values, arrays | {f"frame.{name}": array for name, array in frame.items()}

    def _restore(self, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        shape = tuple(values["shape"])
        family = FAMILIES[values["family"]["name"]].from_values(values["family"]["options"])
        of_frame = {name[6:]: array for name, array in arrays.items() if name.startswith("frame.")}
        of_model = {name: arrays[name] for name in ("weights", *family.array_names)}
        frame = family.frame_from_arrays(of_frame)
        model = Model.from_arrays(family, of_model, shape, self._threads(), frame)
        bounds = tuple(arrays["lower_bounds"].tolist())
        fit = Fit(
            None,
            bounds,
            tuple(Pruning(*pruning) for pruning in values["pruned"]),
            values["converged"],
            values["seconds_per_iteration"] * len(bounds),
            self._details_from(values["details"]),
            tuple(Reallocation.from_values(*trial) for trial in values.get("reallocations", ())),
        )
        features: dict[str, Any] = {"n_features_in_": prod(shape)}
        if values["feature_names"] is not None:
            features["feature_names_in_"] = np.array(values["feature_names"], dtype=object)
        attributes = self._fitted_attributes(model, fit if bounds else None, features)
        self._replace_fitted(attributes)

    def _details(self) -> dict[str, Any]:
        """Return what the family's E-step told, as JSON values."""
        return {}

    def _details_from(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    # ---- fitting -----------------------------------------------------------------------------------------------------

    def fit(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None, *, noise_var: float = 0.0
    ) -> Self:
        """Train by expectation–maximisation.

        Parameters
        ----------
        X : array-like of shape (n, n_features), (n, height, width) or (n, depth, height, width), or iterable of such
            Samples; the class says which dtype they are computed in. An iterable that is no sequence yields blocks of
            samples, or pairs of a block and the weights of its samples; it is iterated over anew in every iteration,
            and must yield the same samples each time. So is a memory-mapped array larger than scikit-learn's
            ``working_memory``, piece by piece. Of either no more than a block is in memory, and a start is drawn from
            some of the samples.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample, not negative; a weight of 2 is the same as the sample twice. Not for an iterable,
            which yields them.
        noise_var : float, default=0
            Variance v of white noise in the samples, in squared units of the data. The mixture is that of the signal:
            samples have the covariances C_k + v I in EM and in `lower_bounds_`, and the fitted mixture has C_k, none of
            whose variances is below the regularisation. Not with `scales`.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError
            If X can be iterated over only once.
        ValueError
            If the data or a parameter is out of range; the message says what to do. The estimator is then what it was.
        KeyboardInterrupt
            On Ctrl-C; the model is then what the last whole iteration made it, or, of several starts, the best that was
            finished.
        """
        self._check_parameters()
        if not (np.isfinite(noise_var) and noise_var >= 0):
            raise ValueError(f"noise_var must be 0 or more, got {noise_var}.")
        self._train(self._read_new(X, sample_weight), noise_var=float(noise_var))
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Go on training with a block of samples that need not be seen again, by steps of "online".

        The first block, of at least `n_components` samples, also gives the start and what is fixed for the whole fit:
        floors, axes, which samples are computed in what; so it should be one like all. After `fit` training goes on
        from the fitted model, with steps that are small from the first. Nothing is pruned.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` takes.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample within its mini-batch.

        Returns
        -------
        self : object
            `lower_bounds_` has one more value: the mean log-likelihood of the mini-batches, each before its step.

        Raises
        ------
        ValueError
            If the data or a parameter is out of range; the estimator is then what it was.
        """
        self._check_parameters()
        known = self.model_ if self.__sklearn_is_fitted__() else None
        if known is None:
            samples = self._read_new(X, sample_weight)
            family, shape, features = self._family(samples.shape), samples.shape, samples.features
            array = aligned(np.asarray(_required(samples)))
        else:
            array = self._read(X)[1]
            family, shape = known.family, known.shape
            features = {name: vars(self)[name] for name in _FEATURES if name in vars(self)}
        weight: NDArray[np.float64] | None = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, array, dtype=np.float64, ensure_non_negative=True)
        source, n_threads = InMemory(array, weight), self._threads()
        batch_size, pace = self._mini_batches(family, array.shape[1])
        if known is None:
            self._check_enough(len(source.block.samples))
            held, rng = Held(family, source, n_threads), check_random_state(self.random_state)
            frame, data = held.frame, held.data
            start = held.start(self._given_start(family, *array.shape), rng)
            state = Stepwise.at(family, start, frame)
        else:
            frame = known.frame
            data = family.represent(family.read(source.block, n_threads), frame, n_threads)
            kept = vars(self).get("_stepwise")
            if kept is not None and kept[0] is known:
                state = kept[1]
            else:
                state = Stepwise.at(family, family.from_arrays(known.arrays, frame, n_threads), frame)
                state = replace(state, n_steps=pace.steps_until(pace.largest / _AFTER_A_FIT))
        order = np.random.RandomState(state.n_steps)  # of blocks that are alike none comes in the same order
        batches = sums(family, shuffled(data, batch_size, order), n_threads)
        state, bound = stepwise(family, frame, data.values.dtype, state, batches, pace, n_threads)
        bounds = (*(self.lower_bounds_.tolist() if known is not None else ()), bound)
        model = Model(family, frame, family.to_arrays(state.parameters, frame, n_threads), shape)
        model.prepared(data.values.dtype, n_threads)
        family.check_usable(model.arrays, n_threads)
        fit = Fit(None, bounds, tuple(self.pruned_) if known is not None else (), False, 0.0, {})
        self._replace_fitted({**self._fitted_attributes(model, fit, features), "_stepwise": (model, state)})
        return self

    def fit_predict(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> NDArray[np.int64]:
        """Train, and return each sample's likeliest component, (n,); parameters and errors as in `fit`."""
        self._check_parameters()
        samples = self._read_new(X, sample_weight)
        array = _required(samples)
        problem = self._train(samples)
        if not isinstance(samples.source, InMemory):
            return self.predict(X)
        gamma, _ = self.model_.posterior(array, self._threads(), values=problem.whole())
        return np.asarray(gamma.argmax(axis=1), dtype=np.int64)

    def fit_transform(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Floats:
        """Train, and return what `transform` gives, (n, K); parameters and errors as in `fit`."""
        self._check_parameters()
        samples = self._read_new(X, sample_weight)
        array = _required(samples)
        problem = self._train(samples)
        if not isinstance(samples.source, InMemory):
            return self.transform(X)
        return self._output(self.model_, array, problem.whole())

    def _train(
        self, samples: Samples, problem_of: Callable[..., Problem] = Problem.of, noise_var: float = 0.0
    ) -> Problem:
        """Fit to samples; `problem_of` makes the problem of them, as `Problem.of` does."""
        family = self._family(samples.shape)
        trained = family.of_noisy(noise_var) if noise_var else family
        warm = self._model_to_go_on_from(family, samples)
        given = None if warm else self._given_start(family, samples.n_samples, prod(samples.shape))
        source, rng = samples.source, check_random_state(self.random_state)
        if isinstance(source, InMemory) and not warm:
            self._check_enough(len(source.block.samples))
        identified: Identified | None = None
        if self.checkpoint is not None and isinstance(source, InMemory):
            identified = Hashing(source)
            identified.read()
        elif self.checkpoint is not None:
            source = identified = Hashing(source) if isinstance(source, Blocks) else source
        problem = problem_of(trained, source, self._threads(), rng, progress=bool(self.verbose))
        if not warm:
            self._check_enough(problem.n_samples)

        def model_of(fit: Fit) -> Model:
            """Return the model of what a fit has reached, that was asked once and so can be asked."""
            arrays = family.to_arrays(fit.parameters, problem.frame, problem.n_threads)
            model = Model(family, problem.frame, arrays, samples.shape)
            model.prepared(problem.dtype, problem.n_threads)
            family.check_usable(arrays, problem.n_threads)
            return model

        def finish(fit: Fit) -> dict[str, Any]:
            return self._fitted_attributes(model_of(fit), fit, samples.features)

        def begin() -> tuple[Options, Any, float | None]:
            options = self._options(rng, problem)
            if not warm:
                return options, problem.start(given, rng), None
            start = family.from_arrays(warm.arrays, problem.frame, problem.n_threads)
            return options, start, self.lower_bound_ if np.isfinite(self.lower_bound_) else None

        best, n_runs = Best(finish), 1 if warm else self.n_init
        checkpoint = self._checkpoint(identified, warm, noise_var) if identified else None
        training = Training(
            problem,
            n_runs,
            begin,
            rng,
            model_of,
            lambda fits: reallocated(problem, fits, self._options_of_em(), self.reallocate, rng),
            self._monitor(),
            self.callback,
            checkpoint,
            progress=bool(self.verbose),
        )
        try:
            training.run(best)
        except KeyboardInterrupt:
            if best.result is not None:
                self._replace_fitted(best.result)
            raise
        assert best.result is not None
        self._replace_fitted(best.result)
        if checkpoint:
            checkpoint.remove()
        self._warn_of(best.collapses, n_runs)
        return problem

    def _options(self, rng: np.random.RandomState, problem: Problem) -> Options:
        batch_size, pace = self._mini_batches(problem.family, problem.n_features, problem.least_batch)
        return Options(
            self.tol,
            self.max_iter,
            self.prune_threshold,
            algorithm(
                self.algorithm,
                rng,
                batch_size=batch_size,
                pace=pace,
                n_epochs=self.n_epochs,
            ),
            progress=bool(self.verbose),
            accelerate=self.accelerate,
            monitor=self._monitor(),
        )

    def _options_of_em(self) -> Options:
        return Options(
            self.tol, self.max_iter, self.prune_threshold, progress=bool(self.verbose), monitor=self._monitor()
        )

    def _monitor(self) -> Monitor:
        return Monitor() if self.monitor is None else self.monitor

    def _mini_batches(self, family: Family, n_features: int, n_least: int = 1) -> tuple[int, Pace]:
        """Return the size of mini-batches, and how large the steps are."""
        exponent, n_remembered = family.forgetting(n_features)
        remembered = n_remembered * self.n_components
        usual = self.n_components * max(_BATCH_SIZE_PER_COMPONENT, _BATCH_SIZE_REMEMBERED * n_remembered)
        size = self.batch_size or max(_BATCH_SIZE, int(usual), n_least)
        return size, Pace(float(exponent if self.step_exponent is None else self.step_exponent), size / remembered)

    def _checkpoint(self, samples: Identified, warm: Model | None, noise_var: float) -> Checkpoint:
        assert self.checkpoint is not None
        others = ("checkpoint", "callback", "monitor", "verbose", "n_threads")
        values = {name: value for name, value in self.get_params(deep=False).items() if name not in others}
        values["noise_var"] = noise_var
        if warm:
            values |= {f"{name} of the warm start": array for name, array in warm.arrays.items()}
        named = {name: model_file.fingerprint(name, value) for name, value in values.items()}
        return Checkpoint(self.checkpoint, {"class": type(self).__name__, "samples": samples.digest, **named})

    def _check_enough(self, n_samples: int) -> None:
        if n_samples < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} components need at least as many samples, got n_samples = "
                f"{n_samples}; lower n_components or pass more samples."
            )

    def _warn_of(self, collapses: list[CollapseError], n_runs: int) -> None:
        if collapses:
            warnings.warn(
                f"{len(collapses)} of {n_runs} starts were given up: {collapses[0]}",
                ConvergenceWarning,
                stacklevel=4,
            )
        if not self.converged_:
            warnings.warn(
                f"EM did not converge in {self.n_iter_} iterations: raise max_iter or tol, or look at lower_bounds_.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _model_to_go_on_from(self, family: Family, samples: Samples) -> Model | None:
        if not (self.warm_start and self.__sklearn_is_fitted__()):
            return None
        self._check_warm_start(self.model_, family, samples)
        return self.model_

    def _checked_array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        """Return a parameter as an array of this shape, None if it is not given."""
        given = getattr(self, name)
        if given is None:
            return None
        values = np.array(given, dtype=np.float64)
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}; {shape} is needed.")
        return values

    def _checked_weights_init(self) -> NDArray[np.float64] | None:
        weights = self._checked_array("weights_init", (self.n_components,))
        if weights is not None:
            check_weights(weights, "weights_init")
        return weights

    @property
    def n_components_(self) -> int:
        """Number of components that remain after pruning."""
        return len(self.model_.weights)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_ - int(self.drop_last)

    # ---- using the fitted model --------------------------------------------------------------------------------------

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return each sample's likeliest component.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.

        Returns
        -------
        components : ndarray of shape (n,), int64
        """

        def likeliest(model: Model, samples: Floats) -> NDArray[np.int64]:
            return np.asarray(model.posterior(samples, self._threads())[0].argmax(axis=1), dtype=np.int64)

        return self._answered(X, likeliest)

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the posterior π_k p(x|k) / Σ_j π_j p(x|j), (n, K), in the dtype of the samples."""
        return self.posterior(X)[0]

    def posterior(self, X: ArrayLike) -> tuple[Floats, Floats]:
        """Return `predict_proba` (n, K) and `score_samples` (n,), from one pass."""
        pairs = [self._posterior(piece) for piece in _pieces(X)]
        return _joined([gamma for gamma, _ in pairs]), _joined([total for _, total in pairs])

    def _posterior(self, X: ArrayLike) -> tuple[Floats, Floats]:
        model, samples = self._read(X)
        return model.posterior(samples, self._threads())

    def _answered(self, X: ArrayLike, ask: Callable[[Model, Floats], NDArray[T]]) -> NDArray[T]:
        """Return what `ask` says of each sample; a large memory-mapped array is read piece by piece."""
        return _joined([ask(*self._read(piece)) for piece in _pieces(X)])

    def log_density(self, X: ArrayLike) -> Floats:
        """Return log p(x|k) in nats per sample, (n, K), without the components' weights."""
        return self._answered(X, lambda model, samples: model.log_density(samples, self._threads()))

    def score_samples(self, X: ArrayLike) -> Floats:
        """Return log p(x) in nats, (n,)."""
        return self._answered(X, lambda model, samples: model.posterior(samples, self._threads())[1])

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean of `score_samples`, in nats per sample; of a stream with its samples' weights."""
        total, n = self._log_likelihood(X)
        return total / n

    def _log_likelihood(self, X: Any) -> tuple[float, float]:
        """Return the sum of log p(x) over all samples, and how many they are; a weight of 2 is a sample twice."""
        if not is_source(X):
            found = self.score_samples(X)
            return float(found.sum(dtype=np.float64)), len(found)
        total = n = 0.0
        for samples, weight in Blocks(X).pieces():
            if len(samples):
                found = self.score_samples(samples).astype(np.float64)
                total += float(found.sum() if weight is None else weight @ found)
                n += len(found) if weight is None else float(weight.sum())
        if not n:
            raise ValueError("the weight of every sample is zero; at least one must be positive.")
        return total, n

    def transform(self, X: ArrayLike) -> Floats:
        """Return what the next layer sees of each sample, (n, K), as `output` says.

        ``"log_density"`` is log p(x|k); ``"standardized"`` the same with each sample's mean set to 0 and deviation to
        1; ``"likelihood"`` p(x|k) / Σ_j p(x|j); ``"posterior"`` π_k p(x|k) / Σ_j π_j p(x|j); both with p to the power
        1 / `temperature`. With `drop_last` the last component is left out, (n, K − 1).
        """
        return self._answered(X, self._output)

    def _output(self, model: Model, X: Floats, values: Floats | None = None) -> Floats:
        """Return the output for checked samples; `values` are those that densities are computed from, if known."""
        weighted = self.output == "posterior"

        def normalised(density: Floats) -> Floats:
            scaled = density / self.temperature
            if weighted:
                scaled = scaled + log_weights(model.weights).astype(scaled.dtype)
            return np.asarray(softmax(scaled, axis=1))

        def standardized(density: Floats) -> Floats:
            centred = density - density.mean(axis=1, keepdims=True)
            deviation = centred.std(axis=1, keepdims=True)
            return np.asarray(
                centred / np.where(deviation > 0, deviation, 1)
            )  # a single component, or equal ones: all zero

        if self.output in ("likelihood", "posterior") and self.temperature == 1:
            rows = model.posterior(X, self._threads(), weighted=weighted, values=values)[0]
        elif self.output == "log_density":
            rows = model.log_density(X, self._threads(), values=values)
        else:
            then = standardized if self.output == "standardized" else normalised
            rows = model.log_density(X, self._threads(), then=then, values=values)
        return np.ascontiguousarray(rows[:, :-1]) if self.drop_last else rows

    def top_samples(self, X: ArrayLike, n: int = 10) -> NDArray[np.int64]:
        """Return for each component the samples with the largest posterior for it.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.
        n : int, default=10
            How many for each component, at most the number of samples.

        Returns
        -------
        indices : ndarray of shape (K, min(n, n_samples)), int64
            Largest posterior first. Posteriors that round to 1 are still told apart, by their log-odds.
        """
        model, samples = self._read(X)
        return largest_posteriors(model.joint(samples, self._threads()), n)

    def map_component(self, X: ArrayLike, noise_var: float) -> NDArray[np.int64]:
        """Return the likeliest component of samples in white noise: the largest π_k N(y; μ_k, C_k + noise_var · I).

        With `scales`, that of the likeliest component and scale.

        Parameters
        ----------
        X : array-like
            Noisy samples in the shape that `fit` took.
        noise_var : float
            Variance of the noise, in squared units of the data.

        Returns
        -------
        components : ndarray of shape (n,), int64
        """
        return self._denoised(X, noise_var, average=False)[1].astype(np.int64)

    def posterior_mean(self, X: ArrayLike, noise_var: float) -> Floats:
        """Return the mean of the signal given samples in white noise (Zoran and Weiss 2011, MMSE).

            E[x | y] = Σ_k γ_k(y) [μ_k + C_k (C_k + noise_var · I)⁻¹ (y − μ_k)]

        Parameters
        ----------
        X : array-like
            Noisy samples y in the shape that `fit` took.
        noise_var : float
            Variance of the noise, in squared units of the data.

        Returns
        -------
        means : ndarray of the shape of X
            In the dtype of the samples. Where the model leaves a sample's mean out, it is kept.
        """
        return self._denoised(X, noise_var, average=True)[0].reshape(np.shape(X))

    def _denoised(self, X: ArrayLike, noise_var: float, *, average: bool) -> tuple[Floats, NDArray[np.int32]]:
        if not (np.isfinite(noise_var) and noise_var > 0):
            raise ValueError(f"noise_var must be positive, got {noise_var}.")
        model, samples = self._read(X)
        try:
            return model.gaussians().estimate(samples, float(noise_var), average=average, n_threads=self._threads())
        except _core.NoDensity as error:
            raise no_density(int(error.args[0])) from None

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw from the mixture, with `random_state`.

        Parameters
        ----------
        n_samples : int, default=1
            How many.

        Returns
        -------
        X : ndarray of shape (n_samples, *shape of a sample), float64
        components : ndarray of shape (n_samples,), int64
            The component that each was drawn from.
        """
        model = self.model_
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        return model.sample(n_samples, check_random_state(self.random_state))

    def synthesize(
        self,
        size: tuple[int, ...],
        component: int | None = None,
        *,
        periodic: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[np.float64]:
        """Draw a stationary field of any size from a component's spectrum.

        It has the component's spectrum and random phases, and so no contours. White noise passes the zero-phase filter
        of gain √S; between the frequencies of the patch, √S is interpolated.

        Parameters
        ----------
        size : tuple of ints
            Shape of the field, one size for each axis of a patch.
        component : int, default=None
            Which; None: one drawn by the weights.
        periodic : bool, default=False
            Whether the field tiles; False: it is cut out of a larger one.
        random_state : int, RandomState or None, default=None
            Source of the draw; None: the estimator's.

        Returns
        -------
        field : ndarray of shape `size`, float64
            In the unit of the data; without its mean where the model has none.

        Raises
        ------
        ValueError
            If the components are not stationary, or a parameter is out of range.
        """
        model = self.model_
        spectra = model.family.stationary_spectra(model.arrays)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if component is None:
            component = int(rng.choice(model.n_components, p=model.weights / model.weights.sum()))
        if not 0 <= component < model.n_components:
            raise ValueError(f"component must be from 0 to {model.n_components - 1}, got {component}.")
        return stationary_field(spectra[component], size, periodic=periodic, random_state=rng)

    def aic(self, X: ArrayLike) -> float:
        """Return Akaike's information criterion, 2 p − 2 log L, for p free parameters; lower is better."""
        return 2 * self.model_.n_parameters() - 2 * self._log_likelihood(X)[0]

    def bic(self, X: ArrayLike) -> float:
        """Return the Bayesian information criterion, p log n − 2 log L, for p free parameters; lower is better."""
        total, n = self._log_likelihood(X)
        return float(self.model_.n_parameters() * np.log(n) - 2 * total)


def flatten(X: Any) -> tuple[Any, tuple[int, ...] | None]:
    """Flatten images or volumes to (n, n_features); the shape of one sample, None for two-dimensional input."""
    n_axes = np.ndim(X) if isinstance(X, list | tuple) else getattr(X, "ndim", 2)
    if n_axes <= 2:
        return X, None
    array = np.asarray(X)
    if array.ndim > 4:
        raise ValueError(
            f"Found array with dim {array.ndim}, while dim <= 4 is required: (n, length) signals, (n, height, width) "
            f"images or (n, depth, height, width) volumes."
        )
    return array.reshape(len(array), prod(array.shape[1:])), array.shape[1:]


def _dtypes(X: Any) -> Any:
    """Return what `validate_data` may leave samples in: float32 also where a container says so in its own way."""
    both = [np.float64, np.float32]
    if hasattr(X, "iloc") or isinstance(getattr(X, "dtype", None), np.dtype) or not hasattr(X, "__array__"):
        return both
    try:  # a tensor, or a frame that is not pandas': its first row tells what the whole becomes
        return np.float32 if np.asarray(X[:1]).dtype == np.float32 else both
    except (TypeError, ValueError, RuntimeError):  # what it is not, the checks will say
        return both


def aligned(X: NDArray[Any]) -> NDArray[Any]:
    """Return the array with its values at addresses that are multiples of their size."""
    return np.require(X, requirements=["C", "A"])


def _as_stream(X: Any, sample_weight: Any) -> Blocks | None:
    """Return what is read block by block: an iterable, or a memory-mapped array that is large; None for others."""
    if is_source(X):
        if sample_weight is not None:
            raise ValueError("sample_weight cannot be given beside an iterable X: let it yield pairs (block, weights).")
        return Blocks(X)
    if not _is_large(X):
        return None
    if sample_weight is not None and np.shape(sample_weight) != (len(X),):
        raise ValueError(f"sample_weight.shape == {np.shape(sample_weight)}, expected {(len(X),)}!")
    return Blocks(Rows(X, None if sample_weight is None else np.asarray(sample_weight)))


def _is_large(X: Any) -> bool:
    """Say whether an array is in a file, and larger than scikit-learn's `working_memory`."""
    return isinstance(X, np.memmap) and X.ndim >= 2 and X.nbytes > get_config()["working_memory"] * 2**20


def _pieces(X: Any) -> Iterable[Any]:
    """Return the parts of X that are in memory at a time: all of it, or pieces of a large memory-mapped array.

    Raises
    ------
    ValueError
        If X yields blocks.
    """
    if is_source(X):
        raise ValueError(NO_ANSWERS)
    return Rows(X) if _is_large(X) else [X]


def _joined(parts: list[NDArray[T]]) -> NDArray[T]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _required(samples: Samples) -> NDArray[Any]:
    """Return all samples as an array.

    Raises
    ------
    ValueError
        If there is none.
    """
    if samples.array is None:
        raise ValueError(NO_ANSWERS)
    return samples.array


def _as_attributes(model: Model) -> dict[str, NDArray[np.float64]]:
    return {f"{name}_": array for name, array in model.arrays.items()}


def document(cls: type, sections: dict[str, str]) -> None:
    """Put sections of documentation in the place of the lines "<shared NAME>" of a class's docstring."""
    lines = []
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        name = line.strip().removeprefix("<shared ").removesuffix(">")
        lines += sections[name].splitlines() if line.strip() == f"<shared {name}>" else [line]
    cls.__doc__ = "\n".join(lines)
