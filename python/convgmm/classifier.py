"""One mixture per class: Bayes' rule over their likelihoods."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from . import model_file
from .discriminative import Contest, Rival
from .estimator import Kept, Mixture, _dtypes, aligned, flatten, is_fitted_attribute
from .families import Floats
from .families.family import check_weights, log_weights
from .source import Block

# log T is looked for between 0 and this.
_LARGEST_LOG_TEMPERATURE = 12.0
# Stands for log 0, of a class with prior 0, in a loss.
_LEAST_LOG_PROBABILITY = -1e9


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Checked samples (n, …) of positive weight, the index of each one's class, their weights, and all classes."""

    X: NDArray[Any]
    label: NDArray[np.intp]
    weight: NDArray[np.float64]
    classes: NDArray[Any]

    def take(self, rows: NDArray[Any]) -> "_Labelled":
        return _Labelled(self.X[rows], self.label[rows], self.weight[rows], self.classes)


class MixtureClassifier(ClassifierMixin, Kept):  # type: ignore[misc]
    """A mixture for each class, and Bayes' rule over their likelihoods.

    With a mixture p(x|c) for each class c, its prior P_c and a temperature T,

        P(c|x) = P_c p(x|c)^(1/T) / Σ_j P_j p(x|j)^(1/T).

    The values of a patch are not as independent as the models say, so at T = 1 nearly every posterior is 0 or 1, also
    where it is wrong. The temperature that makes held-out training samples' classes likeliest says what is known (Guo
    et al. 2017); it softens, and with equal priors changes no prediction.

    Parameters
    ----------
    mixture : mixture
        Left untouched; a clone of it is fitted to each class.
    priors : array-like of shape (n_classes,), default=None
        Prior probability of each class, in the order of `classes_`; None: its share of the total sample weight.
    temperature : "auto" or float, default="auto"
        T. "auto": that of least log-loss on held-out samples of the training data, and not below 1, under mixtures that
        are fitted to the others; the mixtures that are kept are then fitted to all. 1 if no sample is held out.
    validation_fraction : float, default=0.1
        Share of each class's distinct samples that is held out, rounded down. Which ones depends on their values
        alone, not on their order, and equal samples stay together.
    refine : {"mmi"} or None, default=None
        "mmi": the mixtures are then trained against one another, for the mutual information of samples and classes at
        the temperature that was chosen: extended Baum–Welch (Gopalakrishnan et al. 1991, Povey 2003), see
        `criterion_`. Held-out samples take no part in the training and say when to stop, and which round is kept; the
        temperature is then chosen again.
    refine_max_iter : int, default=50
        Most rounds.
    refine_patience : int, default=5
        Training ends when so many rounds did not lower the log-loss of held-out samples.
    refine_smoothing : float, default=0.0
        ρ of the criterion: how much likelihood counts beside mutual information.
    random_state : int, RandomState or None, default=None
        Given, it seeds a mixture that has no `random_state` of its own; source of `sample` and `divergence`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    mixtures_ : list of mixtures
        The fitted mixture of each class; with `refine` their `lower_bounds_` tell of the fit before it.
    priors_ : ndarray of shape (n_classes,), float64
        Prior probabilities.
    temperature_ : float
        T.
    held_out_log_loss_ : float
        Mean of −log P(c|x), in nats, of the held-out samples at this temperature; NaN if none were held out.
    criterion_ : ndarray of shape (n_rounds + 1,), float64
        With `refine`, the mean over training samples of log P(c|x) + (ρ / T) log p(x|c), in nats: at the start, and
        after each round up to the one that is kept. It never falls. Else empty.
    n_features_in_ : int
        Number of values in a sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `fit` was given any.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from convgmm import FullGMM, MixtureClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = MixtureClassifier(FullGMM(1, reg_covar=1.0)).fit(X[:1000], y[:1000])
    >>> bool(classifier.score(X[1000:], y[1000:]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "priors": ["array-like", None],
        "temperature": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "refine": [StrOptions({"mmi"}), None],
        "refine_max_iter": [Interval(Integral, 1, None, closed="left")],
        "refine_patience": [Interval(Integral, 1, None, closed="left")],
        "refine_smoothing": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    classes_: NDArray[Any]
    mixtures_: list[Mixture]
    priors_: NDArray[np.float64]
    temperature_: float
    held_out_log_loss_: float
    criterion_: NDArray[np.float64]
    n_features_in_: int

    def __init__(
        self,
        mixture: Mixture,
        *,
        priors: ArrayLike | None = None,
        temperature: float | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        refine: Literal["mmi"] | None = None,
        refine_max_iter: int = 50,
        refine_patience: int = 5,
        refine_smoothing: float = 0.0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.mixture = mixture
        self.priors = priors
        self.temperature = temperature
        self.validation_fraction = validation_fraction
        self.refine = refine
        self.refine_max_iter = refine_max_iter
        self.refine_patience = refine_patience
        self.refine_smoothing = refine_smoothing
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if isinstance(self.mixture, Mixture):
            tags.input_tags = get_tags(self.mixture).input_tags
        return tags

    # ---- fitting -----------------------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit a mixture to the samples of each class, and choose the temperature.

        Parameters
        ----------
        X : array-like
            Samples in a shape that the mixture takes.
        y : array-like of shape (n,)
            Their classes.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample, not negative; a weight of 2 is the same as the sample twice, one of 0 as none.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError
            If `mixture` is not a mixture.
        ValueError
            If the data or a parameter is out of range, or a class's samples cannot be modelled; names the class. The
            estimator is then what it was, as it is after an interrupt.
        """
        self._validate_params()
        if not isinstance(self.mixture, Mixture):
            raise TypeError(f"mixture must be a mixture, such as ConvGMM(...), got {self.mixture!r}.")
        data, features = self._read_labelled(X, y, sample_weight)
        priors = self._priors_of(data)
        if self.refine and not priors.all():
            raise ValueError(
                f"priors={priors.tolist()}: refine needs each above 0, for a class that cannot be has no information."
            )
        mixture = clone(self.mixture)
        if self.random_state is not None and mixture.random_state is None:
            seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
            mixture.set_params(random_state=int(seed))
        self._replace_fitted(
            {"classes_": data.classes, "priors_": priors, **self._train(mixture, data, priors), **features}
        )
        return self

    def _read_labelled(self, X: Any, y: Any, sample_weight: Any) -> tuple[_Labelled, dict[str, Any]]:
        """Check samples with their classes and weights; also return what is remembered of their features."""
        flat, shape = flatten(X)
        reader = object.__new__(type(self))
        reader.__dict__.update(self.get_params(deep=False))
        X, y = validate_data(reader, flat, y, dtype=_dtypes(flat), order="C", ensure_min_samples=2)
        check_classification_targets(y)
        label = column_or_1d(y, warn=True)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
        used = np.flatnonzero(weight)
        X, weight = (X, weight) if len(used) == len(X) else (X[used], weight[used])
        classes, label = np.unique(label[used], return_inverse=True)
        X = aligned(X).reshape(len(X), *(shape or X.shape[1:]))
        weight = np.ldexp(weight, -int(np.frexp(weight.max())[1]))  # only ratios count
        features = {name: value for name, value in vars(reader).items() if is_fitted_attribute(name)}
        return _Labelled(X, label, weight, classes), features

    def _priors_of(self, data: _Labelled) -> NDArray[np.float64]:
        n_classes = len(data.classes)
        if self.priors is None:
            total = np.bincount(data.label, data.weight, n_classes)
            return np.asarray(total / total.sum())
        priors = np.array(self.priors, dtype=np.float64)
        if priors.shape != (n_classes,):
            raise ValueError(f"priors has shape {priors.shape}; ({n_classes},) is needed, one for each class.")
        check_weights(priors, "priors")
        return priors

    def _train(self, mixture: Mixture, data: _Labelled, priors: NDArray[np.float64]) -> dict[str, Any]:
        """Return the fitted attributes that are learnt."""
        auto = self.temperature == "auto"
        held_out, n_held_out = _held_out(data, self.validation_fraction)
        criterion: list[float] = []
        mixtures: list[Mixture] = []
        temperature, log_loss = 1.0 if auto else float(self.temperature), np.nan
        if n_held_out and (auto or self.refine):
            left_out, rest = data.take(held_out), data.take(~held_out)

            def choose(mixtures: list[Mixture]) -> tuple[float, float]:
                density = _log_densities(mixtures, left_out.X)
                best = best_temperature(density, left_out.label, left_out.weight, priors, n_held_out)
                return best if auto else (temperature, _log_loss(log_posterior(density, temperature, priors), left_out))

            with _no_convergence_warning():  # the fit to all samples will say
                mixtures = _fit_classes(mixture, rest, np.bincount(left_out.label, minlength=len(priors)))
            temperature, log_loss = choose(mixtures)
            if self.refine:
                mixtures, criterion = self._refine(mixtures, rest, left_out, priors, temperature)
                temperature, log_loss = choose(mixtures)
        elif self.refine:
            mixtures, criterion = self._refine(_fit_classes(mixture, data), data, None, priors, temperature)
        return {
            "mixtures_": mixtures if self.refine else _fit_classes(mixture, data),
            "temperature_": temperature,
            "held_out_log_loss_": log_loss,
            "criterion_": np.array(criterion),
        }

    def _refine(
        self,
        mixtures: list[Mixture],
        data: _Labelled,
        held_out: _Labelled | None,
        priors: NDArray[np.float64],
        temperature: float,
    ) -> tuple[list[Mixture], list[float]]:
        """Return mixtures that were trained against one another, and the criterion of each round that led to them."""
        models, n_threads = [mixture.model_ for mixture in mixtures], mixtures[0].n_threads or 0
        family = models[0].family

        def contest(of: _Labelled) -> Contest:
            return Contest(
                family,
                family.read(Block(of.X.reshape(len(of.X), -1)), n_threads),
                np.eye(len(priors))[of.label],
                of.weight / of.weight.mean(),
                log_weights(priors),
                1 / temperature,
                self.refine_smoothing,
                n_threads,
            )

        start = [Rival(family.from_arrays(model.arrays, model.frame, n_threads), model.frame) for model in models]
        rounds = contest(data).rounds(start, self.refine_max_iter)
        judge = None if held_out is None else contest(held_out)
        best, criterion, n_kept, least = start, [], 0, np.inf
        for reached in rounds:
            criterion.append(reached.criterion)
            loss = -reached.criterion
            if judge is not None and held_out is not None:
                loss = _log_loss(judge.log_posterior(reached.rivals), held_out)
            if loss < least:
                best, least, n_kept = reached.rivals, loss, len(criterion)
            elif len(criterion) - n_kept >= self.refine_patience:
                break
        for mixture, rival in zip(mixtures, best, strict=True):
            for name, array in family.to_arrays(rival.parameters, rival.frame, n_threads).items():
                setattr(mixture, f"{name}_", array)
            _ = mixture.model_  # takes them over
        return mixtures, criterion[:n_kept]

    # ---- using the fitted mixtures -----------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return "mixtures_" in vars(self)

    def _read(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        flat, shape = flatten(X)
        checked: NDArray[Any] = validate_data(self, flat, dtype=_dtypes(flat), order="C", reset=False)
        return aligned(checked).reshape(len(checked), *(shape or checked.shape[1:]))

    def log_density(self, X: ArrayLike) -> Floats:
        """Return log p(x|c) of each class in nats per sample, (n, n_classes), without prior and temperature.

        They are in the dtype of the samples; probabilities are float64.
        """
        X = self._read(X)
        return _log_densities(self.mixtures_, X)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return log P(c|x), (n, n_classes)."""
        X = self._read(X)
        density = _log_densities(self.mixtures_, X)
        distant = ~np.isfinite(density).any(axis=1)
        found = log_posterior(density, self.temperature_, self.priors_)
        if distant.any():  # of a density beyond float32 only its sign is left
            again = _log_densities(self.mixtures_, X[distant].astype(np.float64))
            found[distant] = log_posterior(again, self.temperature_, self.priors_)
        return found

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return P(c|x), (n, n_classes)."""
        return np.asarray(np.exp(self.predict_log_proba(X)))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return each sample's likeliest class.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.

        Returns
        -------
        classes : ndarray of shape (n,)
        """
        label = self.predict_log_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[label])

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Draw from the mixtures, with `random_state`.

        Parameters
        ----------
        n_samples : int, default=1
            How many.

        Returns
        -------
        X : ndarray of shape (n_samples, *shape of a sample), float64
        y : ndarray of shape (n_samples,)
            The class of each, drawn by `priors_`.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        rng = check_random_state(self.random_state)
        label = rng.choice(len(self.classes_), size=n_samples, p=self.priors_)
        order = np.argsort(label, kind="stable")
        counts = np.bincount(label, minlength=len(self.classes_))
        parts = [m.model_.sample(int(n), rng)[0] for m, n in zip(self.mixtures_, counts, strict=True) if n]
        drawn = np.concatenate(parts)
        X = np.empty_like(drawn)
        X[order] = drawn
        return X, self.classes_[label]

    def divergence(self, n_samples: int = 1000) -> NDArray[np.float64]:
        """Estimate how far the classes' mixtures are from one another, by samples of them.

        Parameters
        ----------
        n_samples : int, default=1000
            How many are drawn from each mixture, with `random_state`.

        Returns
        -------
        divergence : ndarray of shape (n_classes, n_classes), float64
            The divergence of Kullback and Leibler (1951) from mixture c to j, E log p(x|c) / p(x|j) over samples x of
            mixture c, in nats per sample; 0 for c = j.
        """
        check_is_fitted(self)
        rng = check_random_state(self.random_state)
        drawn = [mixture.model_.sample(n_samples, rng)[0] for mixture in self.mixtures_]
        mean = np.stack([_log_densities(self.mixtures_, X).mean(axis=0) for X in drawn])
        return np.asarray(np.diagonal(mean)[:, None] - mean)

    # ---- files -------------------------------------------------------------------------------------------------------

    def _fitted_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        names = getattr(self, "feature_names_in_", None)
        is_object = self.classes_.dtype == object
        classes = np.array(self.classes_.tolist()) if is_object else self.classes_
        if classes.dtype == object:
            raise TypeError(f"classes_={self.classes_!r} cannot be saved: they are not all numbers or all strings.")
        arrays: dict[str, NDArray[Any]] = {"classes": classes, "priors": self.priors_}
        values = {
            "mixtures": [model_file.describe(each, arrays, f"{c}.") for c, each in enumerate(self.mixtures_)],
            "objects": is_object,
            "temperature": self.temperature_,
            "held_out_log_loss": self.held_out_log_loss_,
            "criterion": self.criterion_.tolist(),
            "n_features": self.n_features_in_,
            "feature_names": None if names is None else [str(name) for name in names],
        }
        return values, arrays

    def _restore(self, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        classes = arrays["classes"]
        features: dict[str, Any] = {"n_features_in_": values["n_features"]}
        if values["feature_names"] is not None:
            features["feature_names_in_"] = np.array(values["feature_names"], dtype=object)
        self._replace_fitted(
            {
                "classes_": classes.astype(object) if values["objects"] else classes,
                "mixtures_": [model_file.restore(m, arrays, f"{c}.") for c, m in enumerate(values["mixtures"])],
                "priors_": arrays["priors"],
                "temperature_": values["temperature"],
                "held_out_log_loss_": values["held_out_log_loss"],
                "criterion_": np.array(values["criterion"]),
                **features,
            }
        )


def log_posterior(
    density: NDArray[np.floating[Any]], temperature: float, priors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log P(c|x), (n, n_classes), from log p(x|c)."""
    with np.errstate(invalid="ignore"):  # no density under any class
        return np.asarray(log_softmax(density.astype(np.float64) / temperature + log_weights(priors), axis=1))


def best_temperature(
    density: NDArray[np.floating[Any]],
    label: NDArray[np.intp],
    weight: NDArray[np.float64],
    priors: NDArray[np.float64],
    n_distinct: int,
) -> tuple[float, float]:
    """Return the temperature, at least 1, of least log-loss, and that loss in nats.

    n distinct samples without an error do not say that there are none: as Platt (1999) has it, the targets are
    1 − 1/(n + 2) for a sample's class, and the rest for the others. The loss is convex in 1/T, so it has one minimum
    over log T.
    """
    rows, n_classes = np.arange(len(label)), len(priors)
    doubt = 1 / (n_distinct + 2)

    def losses(log_temperature: float) -> tuple[float, float]:
        log_p = np.maximum(log_posterior(density, np.exp(log_temperature), priors), _LEAST_LOG_PROBABILITY)
        right = log_p[rows, label]
        others = (log_p.sum(axis=1) - right) / max(1, n_classes - 1)
        loss = -np.average(right, weights=weight)
        return float((1 - doubt) * loss - doubt * np.average(others, weights=weight)), float(loss)

    def smoothed(log_temperature: float) -> float:
        return losses(log_temperature)[0]

    found = minimize_scalar(smoothed, bounds=(0.0, _LARGEST_LOG_TEMPERATURE), method="bounded", options={"xatol": 1e-4})
    best = min((0.0, float(found.x)), key=smoothed)
    return float(np.exp(best)), losses(best)[1]


def _held_out(data: _Labelled, fraction: float) -> tuple[NDArray[np.bool_], int]:
    """Mark, in each class, the samples (n,) whose hashes are the lowest, so many of the distinct ones, rounded down.

    Also return how many distinct ones are marked.
    """
    X = np.ascontiguousarray(data.X.reshape(len(data.X), -1) + 0.0)  # of two zeros one
    words = X.view(np.dtype(f"u{X.itemsize}"))
    # A random linear function of the bits modulo 2⁶⁴, whose high bits tell samples apart (Dietzfelbinger 1996).
    factors = np.random.default_rng(0).integers(0, 2**63, words.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.einsum("nd,d->n", words, factors, dtype=np.uint64, casting="safe")
    held_out, total = np.zeros(len(X), dtype=bool), 0
    for c in range(len(data.classes)):
        rows = np.flatnonzero(data.label == c)
        distinct = np.unique(hashes[rows])
        n_held_out = int(fraction * len(distinct))
        held_out[rows] = np.isin(hashes[rows], distinct[:n_held_out])
        total += n_held_out
    return held_out, total


def _log_loss(log_posterior: NDArray[np.float64], data: _Labelled) -> float:
    return float(-np.average(log_posterior[np.arange(len(data.label)), data.label], weights=data.weight))


def _fit_classes(mixture: Mixture, data: _Labelled, n_held_out: NDArray[np.intp] | None = None) -> list[Mixture]:
    """Fit a mixture to each class; an error says how many samples of the class were held out."""
    mixtures = []
    for c, name in enumerate(data.classes):
        rows = np.flatnonzero(data.label == c)
        weight = data.weight[rows]
        if len(rows) == 1:  # mixtures refuse a single sample, but it may have the weight of several
            rows, weight = np.repeat(rows, 2), np.append(weight, 0.0)
        try:
            mixtures.append(clone(mixture).fit(data.X[rows], sample_weight=weight if np.ptp(weight) else None))
        except ValueError as error:
            without = ""
            if n_held_out is not None and n_held_out[c]:
                without = f" ({n_held_out[c]} of its samples held out; a smaller validation_fraction holds out fewer)"
            raise ValueError(f"class {name}{without}: {error}") from error
    return mixtures


def _log_densities(mixtures: list[Mixture], X: NDArray[Any]) -> Floats:
    return np.stack([mixture.score_samples(X) for mixture in mixtures], axis=1)


@contextmanager
def _no_convergence_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
