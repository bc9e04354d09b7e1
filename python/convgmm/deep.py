"""Layers of mixtures, each fed with what the one below makes of a sample."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import _num_samples, check_is_fitted, column_or_1d
from tqdm.auto import tqdm

from . import model_file
from .estimator import NO_ANSWERS, Estimator, Mixture
from .families import Floats
from .refinement import Refinement
from .source import is_source, parted


class Outputs:
    """What a layer makes of every block of a source: a source again.

    Parameters
    ----------
    layer : mixture
        Fitted.
    source : iterable
        Yields the same blocks of its samples, or pairs of these and their weights, every time that it is iterated over.
    """

    def __init__(self, layer: Mixture, source: Iterable[Any]) -> None:
        self.layer, self.source = layer, source

    def __iter__(self) -> Iterator[Any]:
        for block in self.source:
            samples, weight = parted(block)
            if len(samples):
                rows = self.layer.transform(samples)
                yield rows if weight is None else (rows, weight)


class DeepGMM(Estimator):
    """Gaussian mixture models in layers, fitted greedily from the first to the last.

    A layer's input is the output of the layer below: what that mixture's `transform` gives, by its `output`. The layers
    are those of ``make_pipeline(*layers)``, with the same parameters to the last bit; this class adds access to every
    layer. A component that is pruned in a layer is gone from the next one's input.

    Rows of the outputs ``"likelihood"`` and ``"posterior"`` sum to 1, so their covariance is singular. By default the
    `reg_covar` of the layer above makes it regular; a layer with ``drop_last=True`` passes on K − 1 independent values
    instead. In many dimensions densities are so peaked that such a row is nearly one-hot: `temperature` softens it.

    Parameters
    ----------
    layers : sequence of mixtures
        Left untouched; clones of them are fitted. Their parameters are ``layers__0__n_components`` and so on.
    warm_start : bool, default=False
        Whether `fit` keeps the fitted layers, from the first on, whose parameters are still those in `layers`, if the
        samples and their weights are the same. So a layer that is changed or added is fitted without those below it;
        those above a changed one are fitted anew. After `refine`, and of a stream or objects, none is kept.
    random_state : int, RandomState or None, default=None
        Given, it seeds the layers that have no `random_state` of their own.
    verbose : int, default=0
        Above 0, `fit` shows a progress bar over the layers.

    Attributes
    ----------
    layers_ : list of mixtures
        The fitted layers.
    n_layers_ : int
        How many there were to be; after an interrupt fewer are fitted.
    refinement_ : ndarray of shape (n_rounds + 1,), float64
        After `refine`, its objective at the start and after each round.
    n_features_in_ : int
        Number of values in a sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `fit` was given any.

    Examples
    --------
    >>> import numpy as np
    >>> from convgmm import ConvGMM, DeepGMM, FullGMM
    >>> X = np.random.default_rng(0).standard_normal((500, 8, 8)).cumsum(axis=2)
    >>> layers = [ConvGMM(4, output="likelihood", tol=1e-2, random_state=0), FullGMM(2, random_state=0)]
    >>> DeepGMM(layers).fit(X).predict(X).shape
    (500,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    layers_: list[Mixture]
    refinement_: NDArray[np.float64]
    n_layers_: int
    n_features_in_: int
    _fitted_to: str

    def __init__(
        self,
        layers: Sequence[Mixture],
        *,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.layers = layers
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # ---- parameters --------------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep` also each layer, as ``layers__0``, and its, as ``layers__0__tol``."""
        parameters: dict[str, Any] = super().get_params(deep=False)
        if deep and isinstance(self.layers, Sequence):
            for index, layer in enumerate(self.layers):
                parameters[f"layers__{index}"] = layer
                if hasattr(layer, "get_params"):
                    of_layer = layer.get_params().items()
                    parameters.update({f"layers__{index}__{name}": value for name, value in of_layer})
        return parameters

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters by the names that `get_params` gives.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        nested = {name: parameters.pop(name) for name in list(parameters) if name.startswith("layers__")}
        super().set_params(**parameters)
        # Whole layers before the parameters of layers.
        for name, value in sorted(nested.items(), key=lambda item: item[0].count("__")):
            known = self.get_params()
            if name not in known:
                raise ValueError(f"Invalid parameter {name!r} for estimator {self}: there are {sorted(known)}.")
            _, index, *rest = name.split("__", 2)
            if rest:
                self.layers[int(index)].set_params(**{rest[0]: value})
            else:
                layers = list(self.layers)
                layers[int(index)] = value
                self.layers = layers
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # ---- fitting -----------------------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the layers, each on the output of the one below.

        Parameters
        ----------
        X : array-like, or iterable of such
            Samples in a shape that the first layer takes; or, as in `ConvGMM.fit`, an object that yields blocks of them
            anew whenever it is iterated over. Every pass of an upper layer then goes through those below it again, and
            holds no more than a block.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample, in every layer. Not for an iterable, which yields them.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError
            If `layers` is not a sequence of mixtures.
        ValueError
            If a layer refuses its input; the message names the layer. The estimator is then what it was.
        KeyboardInterrupt
            On Ctrl-C; layers that were finished are kept, and a fit with ``warm_start=True`` goes on from them.
        """
        self._fit(X, sample_weight)
        return self

    def fit_predict(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> NDArray[np.int64]:
        """Fit, and return each sample's likeliest component in the last layer, (n,); errors as in `fit`."""
        values = self._fit(_answerable(X), sample_weight)
        return self.layers_[-1].predict(values)

    def fit_transform(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Floats:
        """Fit, and return the last layer's output, (n, K); errors as in `fit`."""
        values = self._fit(_answerable(X), sample_weight)
        return self.layers_[-1].transform(values)

    def refine(self, X: ArrayLike, y: ArrayLike | None = None, *, n_rounds: int = 10) -> Self:
        """Refine fitted layers from the top: what an upper layer expects of a sample moves the layer below it.

        With the components k of a layer and j of the one above, of which Q(j|x) is believed, the target of a sample is
        Q(k|x) ∝ p(x|k)^(1/T) Σ_j Q(j|x) M_jk, where M_jk says how often k occurs with j. Extended Baum–Welch (Povey
        2003) moves the layer towards it, and those above follow by EM. At the top Q is the posterior. All samples count
        the same: weights cannot be given.

        The objective, in nats, is the first layer's mean log-likelihood per value of a sample, and the mutual
        information of samples and the last layer's components, H(mean P(j|x)) − mean H(P(j|x)) (Bridle, Heading and
        MacKay 1991); with labels also the mean log P(c|x). It never falls: a move that lowers it is made smaller, or
        not at all.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.
        y : array-like of int of shape (n,), default=None
            Classes of samples, −1 where they are not known: they bear on the top layer's beliefs.
        n_rounds : int, default=10
            Most rounds; in each, every layer but the last is moved once, from the top.

        Returns
        -------
        self : object
            With `refinement_`, the objective at the start and after each round. The layers' `lower_bounds_`, `n_iter_`
            and `converged_` go on telling of `fit`.

        Raises
        ------
        NotFittedError
            If not all layers are fitted.
        ValueError
            If there is one layer only, an output is no distribution over components, or `y` does not fit. The layers
            are then what they were, as they are after an interrupt.
        """
        self._layer(None)
        if len(self.layers_) < 2:
            raise ValueError("refine needs at least two layers: one that is refined, and one above it.")
        for index, layer in enumerate(self.layers_[:-1]):
            if layer.output not in ("likelihood", "posterior"):
                raise ValueError(
                    f"layer {index} passes on {layer.output!r}, which is no distribution over its components: refine "
                    f'needs output="likelihood" or "posterior".'
                )
        if n_rounds < 1:
            raise ValueError(f"n_rounds must be at least 1, got {n_rounds}.")
        label = None
        if y is not None:
            given = column_or_1d(y, dtype=np.int64)
            known = given >= 0
            n_samples = _num_samples(X)
            if len(given) != n_samples or not known.any():
                raise ValueError(f"y holds {len(given)} classes of {n_samples} samples, {known.sum()} of them known.")
            label = np.full(len(given), -1)
            label[known] = np.unique(given[known], return_inverse=True)[1]
        objective: list[float] = []
        for reached in Refinement(X, label).rounds(self.layers_, n_rounds):
            objective.append(reached.objective)
        # These layers are no longer what `fit` made of any samples: a warm start begins anew.
        self.__dict__.update(layers_=reached.layers, refinement_=np.array(objective), _fitted_to="")
        return self

    def _fit(self, X: ArrayLike, sample_weight: ArrayLike | None) -> Any:
        """Fit, and return the last layer's input."""
        self._validate_params()
        given = self._seeded_layers()
        samples = _digest(X, sample_weight)
        is_same = samples and getattr(self, "_fitted_to", "") == samples
        fitted = self._unchanged(given) if self.warm_start and is_same else []
        values: Any = X
        for layer in fitted[: len(given) - 1]:
            values = layer.transform(values)
        with tqdm(total=len(given), initial=len(fitted), desc="layers", unit="layer", disable=not self.verbose) as bar:
            try:
                for index in range(len(fitted), len(given)):
                    layer = given[index]
                    bar.set_postfix(layer=type(layer).__name__)
                    is_last = index + 1 == len(given)
                    try:
                        if is_last:
                            layer.fit(values, sample_weight=sample_weight)
                        elif is_source(values):
                            values = Outputs(layer.fit(values, sample_weight=sample_weight), values)
                        else:
                            values = layer.fit_transform(values, sample_weight=sample_weight)
                    except ValueError as error:
                        raise ValueError(f"layer {index}, {type(layer).__name__}: {error}") from error
                    fitted.append(layer)
                    bar.update()
            except KeyboardInterrupt:
                if fitted:
                    self._set_fitted(fitted, len(given), samples)
                raise
        self._set_fitted(fitted, len(given), samples)
        return values

    def _set_fitted(self, layers: list[Mixture], n_layers: int, samples: str) -> None:
        first = vars(layers[0])
        names = {name: first[name] for name in ("n_features_in_", "feature_names_in_") if name in first}
        self._replace_fitted({"layers_": layers, "n_layers_": n_layers, "_fitted_to": samples, **names})

    def _seeded_layers(self) -> list[Mixture]:
        """Return clones of the layers to be fitted."""
        layers = list(self.layers) if isinstance(self.layers, Sequence) else []
        if not layers or not all(isinstance(layer, Mixture) for layer in layers):
            raise TypeError("layers must be a sequence of at least one mixture, such as [ConvGMM(...), FullGMM(...)].")
        layers = [clone(layer) for layer in layers]
        if self.random_state is not None:
            rng = check_random_state(self.random_state)
            for layer in layers:
                seed = int(rng.randint(np.iinfo(np.int32).max))
                if layer.random_state is None:
                    layer.set_params(random_state=seed)
        return layers

    def _unchanged(self, given: list[Mixture]) -> list[Mixture]:
        """Return the fitted layers, from the first on, that have the type and parameters of the given ones."""
        kept = []
        for fitted, layer in zip(getattr(self, "layers_", []), given, strict=False):
            if type(fitted) is not type(layer) or not _equal(fitted.get_params(), layer.get_params()):
                break
            kept.append(fitted)
        return kept

    def __sklearn_is_fitted__(self) -> bool:
        return "layers_" in vars(self)

    # ---- using the fitted layers -------------------------------------------------------------------------------------

    def layer_inputs(self, X: ArrayLike) -> Iterator[tuple[Mixture, Any]]:
        """Yield every fitted layer with its input: all can be asked for one pass through those below them.

        Parameters
        ----------
        X : array-like
            Samples in the shape that `fit` took.

        Yields
        ------
        layer : mixture
            From the first to the last.
        values : array-like
            What this layer sees of the samples.
        """
        check_is_fitted(self)
        values: Any = X
        for index, layer in enumerate(self.layers_):
            yield layer, values
            if index + 1 < len(self.layers_):
                values = layer.transform(values)

    def _layer(self, layer: int | None) -> int:
        """Return the index of a fitted layer, from the first; None is the last."""
        check_is_fitted(self)
        n_fitted = len(self.layers_)
        if layer is None and n_fitted < self.n_layers_:
            raise NotFittedError(
                f"fit ended after {n_fitted} of {self.n_layers_} layers; with warm_start=True it goes on, and layer= "
                f"asks a finished one."
            )
        index = n_fitted - 1 if layer is None else layer
        if not -n_fitted <= index < n_fitted:
            raise ValueError(f"layer must be between 0 and {n_fitted - 1}, got {layer}.")
        return index % n_fitted

    def layer_input(self, X: ArrayLike, layer: int | None = None) -> tuple[Mixture, Any]:
        """Return a fitted layer, the last by default, and its input."""
        index = self._layer(layer)
        values: Any = X
        for below in self.layers_[:index]:
            values = below.transform(values)
        return self.layers_[index], values

    def transform(self, X: ArrayLike, *, layer: int | None = None) -> Floats:
        """Return a layer's output, (n, K) by that mixture's `output`; the last layer's by default."""
        mixture, values = self.layer_input(X, layer)
        return mixture.transform(values)

    def predict(self, X: ArrayLike, *, layer: int | None = None) -> NDArray[np.int64]:
        """Return each sample's likeliest component in a layer, (n,); the last layer by default."""
        mixture, values = self.layer_input(X, layer)
        return mixture.predict(values)

    def predict_proba(self, X: ArrayLike, *, layer: int | None = None) -> Floats:
        """Return the posterior over the components of a layer, (n, K); the last layer by default."""
        mixture, values = self.layer_input(X, layer)
        return mixture.predict_proba(values)

    def log_density(self, X: ArrayLike, *, layer: int | None = None) -> Floats:
        """Return the log-densities of a layer's input under its components, (n, K); the last layer by default."""
        mixture, values = self.layer_input(X, layer)
        return mixture.log_density(values)

    def score_samples(self, X: ArrayLike, *, layer: int | None = None) -> Floats:
        """Return the log-density of a layer's input in nats, (n,); the last layer by default."""
        mixture, values = self.layer_input(X, layer)
        return mixture.score_samples(values)

    def score(self, X: ArrayLike, y: Any = None, *, layer: int | None = None) -> float:
        """Return the mean of `score_samples`."""
        mixture, values = self.layer_input(X, layer)
        return mixture.score(values)

    def top_samples(self, X: ArrayLike, n: int = 10, *, layer: int | None = None) -> NDArray[np.int64]:
        """Return for each component of a layer the n samples with the largest posterior for it, (K, n)."""
        mixture, values = self.layer_input(X, layer)
        return mixture.top_samples(values, n)

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw from the last layer, with its `random_state`: values of its input (n, D), and components (n,)."""
        return self.layers_[self._layer(None)].sample(n_samples)

    @property
    def _n_features_out(self) -> int:
        if len(vars(self).get("layers_", [])) < vars(self).get("n_layers_", 1):
            raise AttributeError("not all layers are fitted")
        return self.layers_[-1]._n_features_out

    # ---- files -------------------------------------------------------------------------------------------------------

    def _fitted_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays: dict[str, NDArray[Any]] = {}
        if hasattr(self, "refinement_"):
            arrays["refinement"] = self.refinement_
        layers = [model_file.describe(layer, arrays, f"{i}.") for i, layer in enumerate(self.layers_)]
        return {"layers": layers, "n_layers": self.n_layers_, "samples": self._fitted_to}, arrays

    def _restore(self, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        layers = [model_file.restore(layer, arrays, f"{i}.") for i, layer in enumerate(values["layers"])]
        self._set_fitted(
            [layer for layer in layers if isinstance(layer, Mixture)], values["n_layers"], values["samples"]
        )
        if "refinement" in arrays:
            self.refinement_ = arrays["refinement"]


def _answerable(X: Any) -> Any:
    """Return X; a ValueError if it is a stream, before it is fitted to."""
    if is_source(X):
        raise ValueError(NO_ANSWERS)
    return X


def _digest(X: Any, sample_weight: Any) -> str:
    """Return what tells samples with their weights from others: a sum over their bytes, not the samples themselves.

    Empty for streams and arrays of objects, whose bytes are addresses.
    """
    total = hashlib.sha256()
    for values in (X, sample_weight):
        if values is not None:
            array = np.ascontiguousarray(values)
            if array.dtype.hasobject:
                return ""
            total.update(f"{array.dtype.str}{array.shape}".encode())
            total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Say whether two sets of parameters are the same; arrays by their values."""
    names = a.keys() - {"n_threads", "verbose"}  # which change nothing
    return a.keys() == b.keys() and all(
        a[name] is b[name] or (type(a[name]) is type(b[name]) and np.array_equal(a[name], b[name])) for name in names
    )
