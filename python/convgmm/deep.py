"""Layers of mixtures, each fed with what the one below makes of a sample."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from .mixture import Floats, Mixture

AnyMixture = Mixture[Any, Any, Any]


class DeepGMM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Layers of mixtures, fitted greedily from the first to the last.

    A layer's input is the output of the layer below: what that mixture's `transform` gives, by its `output`. The layers
    are those of ``make_pipeline(*layers)``, with the same parameters to the last bit; this class adds access to every
    layer. A component that is pruned in a layer is gone from the next one's input.

    Rows of the outputs ``"likelihood"`` and ``"posterior"`` sum to 1, so their covariance is singular. By default the
    `reg_covar` of the layer above makes it regular; a layer with ``drop_last=True`` passes on K − 1 independent values
    instead. In many dimensions densities are so peaked that such a row is nearly one-hot: `temperature` softens it.

    Parameters
    ----------
    layers : sequence of mixtures
        Left untouched; clones of them are fitted.
    warm_start : bool, default=False
        Whether `fit` keeps the fitted layers, from the first on, whose parameters are still those in `layers`. So a
        layer that is changed or added is fitted without those below it; those above a changed one are fitted anew.
    verbose : int, default=0
        Above 0, `fit` shows a progress bar over the layers.

    Attributes
    ----------
    layers_ : list of mixtures
        The fitted layers.
    n_features_in_ : int
        Number of values in a sample.

    Examples
    --------
    >>> import numpy as np
    >>> from convgmm import ConvGMM, DeepGMM, FullGMM
    >>> X = np.random.default_rng(0).standard_normal((500, 8, 8)).cumsum(axis=2)
    >>> layers = [ConvGMM(4, output="likelihood", tol=1e-2, random_state=0), FullGMM(2, random_state=0)]
    >>> DeepGMM(layers).fit(X).predict(X).shape
    (500,)
    """

    def __init__(self, layers: Sequence[AnyMixture], *, warm_start: bool = False, verbose: int | bool = 0) -> None:
        self.layers = layers
        self.warm_start = warm_start
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the layers, each on the output of the one below.

        Parameters
        ----------
        X : array-like
            Samples in a shape that the first layer takes.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample, in every layer.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError
            If `layers` is not a sequence of mixtures.
        ValueError
            If a layer refuses its input; the message names the layer.
        KeyboardInterrupt
            On Ctrl-C; layers that were finished are kept, and a fit with ``warm_start=True`` goes on from them.
        """
        given = self._checked_layers()
        kept = self._unchanged(given) if self.warm_start else []
        self.layers_: list[AnyMixture] = kept
        values: Any = X
        for layer in kept:
            values = layer.transform(values)
        with tqdm(total=len(given), initial=len(kept), desc="layers", unit="layer", disable=not self.verbose) as bar:
            for index in range(len(kept), len(given)):
                layer = clone(given[index])
                bar.set_postfix(layer=type(layer).__name__)
                try:
                    layer.fit(values, sample_weight=sample_weight)
                except ValueError as error:
                    raise ValueError(f"layer {index}, {type(layer).__name__}: {error}") from error
                self.layers_.append(layer)
                self.n_features_in_ = self.layers_[0].n_features_in_
                if index + 1 < len(given):
                    values = layer.transform(values)
                bar.update()
        return self

    def _checked_layers(self) -> list[AnyMixture]:
        layers = list(self.layers) if isinstance(self.layers, Sequence) else []
        if not layers or not all(isinstance(layer, Mixture) for layer in layers):
            raise TypeError("layers must be a sequence of at least one mixture, such as [ConvGMM(...), FullGMM(...)].")
        return layers

    def _unchanged(self, given: list[AnyMixture]) -> list[AnyMixture]:
        """Return the fitted layers, from the first on, that have the type and parameters of the given ones."""
        kept = []
        for fitted, layer in zip(getattr(self, "layers_", []), given, strict=False):
            if type(fitted) is not type(layer) or not _equal(fitted.get_params(), layer.get_params()):
                break
            kept.append(fitted)
        return kept

    def _input(self, X: ArrayLike, layer: int | None) -> tuple[AnyMixture, Any]:
        """Return a fitted layer and its input."""
        check_is_fitted(self, "layers_")
        if not self.layers_ or (layer is None and len(self.layers_) < len(self.layers)):
            raise NotFittedError(
                f"fit ended after {len(self.layers_)} of {len(self.layers)} layers; with warm_start=True it goes on, "
                f"and layer= asks a finished one."
            )
        index = len(self.layers_) - 1 if layer is None else layer
        if not -len(self.layers_) <= index < len(self.layers_):
            raise ValueError(f"layer must be between 0 and {len(self.layers_) - 1}, got {layer}.")
        index %= len(self.layers_)
        values: Any = X
        for below in self.layers_[:index]:
            values = below.transform(values)
        return self.layers_[index], values

    def transform(self, X: ArrayLike, layer: int | None = None) -> Floats:
        """Return a layer's output, (n, K) by that mixture's `output`; the last layer's by default."""
        mixture, values = self._input(X, layer)
        return mixture.transform(values)

    def predict(self, X: ArrayLike, layer: int | None = None) -> NDArray[np.int64]:
        """Return each sample's likeliest component in a layer, (n,); the last layer by default."""
        mixture, values = self._input(X, layer)
        return mixture.predict(values)

    def predict_proba(self, X: ArrayLike, layer: int | None = None) -> Floats:
        """Return the posterior over the components of a layer, (n, K); the last layer by default."""
        mixture, values = self._input(X, layer)
        return mixture.predict_proba(values)

    def log_density(self, X: ArrayLike, layer: int | None = None) -> Floats:
        """Return the log-densities of a layer's input under its components, (n, K); the last layer by default."""
        mixture, values = self._input(X, layer)
        return mixture.log_density(values)

    def score_samples(self, X: ArrayLike, layer: int | None = None) -> Floats:
        """Return the log-density of a layer's input in nats, (n,); the last layer by default."""
        mixture, values = self._input(X, layer)
        return mixture.score_samples(values)

    def score(self, X: ArrayLike, y: Any = None, layer: int | None = None) -> float:
        """Return the mean of `score_samples`."""
        mixture, values = self._input(X, layer)
        return mixture.score(values)

    def top_samples(self, X: ArrayLike, layer: int | None = None, n: int = 10) -> NDArray[np.int64]:
        """Return for each component of a layer the n samples with the largest posterior for it, (K, n)."""
        mixture, values = self._input(X, layer)
        return mixture.top_samples(values, n)

    @property
    def _n_features_out(self) -> int:
        return self.layers_[-1]._n_features_out


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Say whether two sets of parameters are the same; arrays by their values."""
    return a.keys() == b.keys() and all(
        a[name] is b[name] or (type(a[name]) is type(b[name]) and np.array_equal(a[name], b[name])) for name in a
    )
