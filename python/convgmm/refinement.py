"""Refinement of layers from the top.

A layer's components k and those j of the layer above occur together, with M_jk = Σ_n Q(j|x_n) P(k|x_n) / Σ_n Q(j|x_n).
What the layer above believes of a sample, Q(j|x), is what it expects below; with the sample's own likelihood the target

    Q(k|x) ∝ p(x|k)^(1/T) Σ_j Q(j|x) M_jk,

which the layer is moved towards by extended Baum–Welch (`discriminative`), its components one against another; the
layers above follow by EM. At the top Q is the posterior, or, where a label c is known, Q(j|x) ∝ P(j|x) P(c|j).

The objective is the first layer's mean log-likelihood, per value of a sample, and the mutual information of samples and
the top's components, H(mean P(j|x)) − mean H(P(j|x)) (Bridle, Heading and MacKay 1991); with labels also the mean
log P(c|x), P(c|x) = Σ_j P(c|j) P(j|x). A move that lowers it is made smaller, or not at all. The upper layers' own
likelihoods are no part of it: outputs that are the same for all samples have the largest one.
"""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr
from sklearn.exceptions import ConvergenceWarning

from .discriminative import Contest, Rival
from .estimator import Mixture
from .families.family import log_weights
from .source import Block

# Steps e that are tried, and iterations of EM by which a layer follows the one below it.
_STEPS = (2.0, 8.0, 32.0, 128.0, 512.0)
_FOLLOW = 3
# What goes on telling of the fit.
_OF_THE_FIT = ("lower_bounds_", "lower_bound_", "n_iter_", "converged_", "pruned_", "reallocations_")
# Labelled samples that every component has of each class before any is counted.
_PRIOR_COUNT = 0.1


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers, their inputs, and the objective that they reach."""

    layers: list[Mixture]
    inputs: list[Any]
    objective: float


@dataclass(frozen=True, eq=False)
class Refinement:
    """Samples that layers are refined on.

    Attributes
    ----------
    X : array-like
        Samples, as the first layer reads them.
    label : ndarray of shape (n,), int64, or None
        The index of each one's class; −1 where it is not known.
    """

    X: Any
    label: NDArray[np.int64] | None

    def rounds(self, layers: list[Mixture], n_rounds: int) -> Iterator[Stack]:
        """Yield the start, and what each round makes of it; ends early where no move raises the objective."""
        reached = self.assess(layers)
        yield reached
        for _ in range(n_rounds):
            before = reached.objective
            for index in reversed(range(len(layers) - 1)):
                reached = self._refined(reached, index)
            yield reached
            if reached.objective == before:
                return

    def assess(self, layers: list[Mixture]) -> Stack:
        """Return layers with their inputs and objective."""
        values: Any = self.X
        inputs = [values]
        for layer in layers[:-1]:
            values = layer.transform(values)
            inputs.append(values)
        objective = layers[0].score(self.X) / layers[0].n_features_in_
        posterior = layers[-1].predict_proba(values).astype(np.float64)
        objective += float(entr(posterior.mean(axis=0)).sum() - entr(posterior).sum(axis=1).mean())
        if self.label is not None:
            known = self.label >= 0
            expected = posterior[known] @ self._classes(posterior)
            chosen = expected[np.arange(len(expected)), self.label[known]]
            objective += float(np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean())
        return Stack(layers, inputs, objective)

    def _classes(self, posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return P(c|j), (K, C), from samples whose label is known."""
        assert self.label is not None
        known = self.label >= 0
        counts = posterior[known].T @ np.eye(self.label.max() + 1)[self.label[known]] + _PRIOR_COUNT
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def _beliefs(self, stack: Stack, index: int) -> NDArray[np.float64]:
        """Return Q of the layer above `index`, (n, K)."""
        layers, inputs = stack.layers, stack.inputs
        belief = layers[-1].predict_proba(inputs[-1]).astype(np.float64)
        if self.label is not None:
            known = np.flatnonzero(self.label >= 0)
            belief[known] *= self._classes(belief)[:, self.label[known]].T
            belief /= belief.sum(axis=1, keepdims=True)
        for above in reversed(range(index + 1, len(layers) - 1)):
            belief = self._target(layers[above], inputs[above], belief)
        return belief

    @staticmethod
    def _target(layer: Mixture, values: Any, belief: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Q of a layer, (n, K), from that of the one above."""
        density = layer.log_density(values).astype(np.float64) / layer.temperature
        likelihood = np.exp(density - density.max(axis=1, keepdims=True))
        posterior = likelihood * layer.weights_
        posterior /= posterior.sum(axis=1, keepdims=True)
        together = belief.T @ posterior
        together /= np.maximum(together.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        target = likelihood * np.maximum(belief @ together, np.finfo(np.float64).tiny)
        return np.asarray(target / target.sum(axis=1, keepdims=True))

    def _refined(self, stack: Stack, index: int) -> Stack:
        """Return the layers with one moved towards its target, and those above after it, if that is no loss."""
        layer, values = stack.layers[index], stack.inputs[index]
        target = self._target(layer, values, self._beliefs(stack, index))
        model, n_threads = layer.model_, layer.n_threads or 0
        parameters = model.family.from_arrays(model.arrays, model.frame, n_threads)
        rivals = [Rival(parameters.take(np.array([k])), model.frame) for k in range(model.n_components)]
        reading = model.family.read(Block(layer._read(values)[1]), n_threads)
        log_prior = log_weights(model.weights)
        contest = Contest(
            model.family, reading, target, np.ones(len(target)), log_prior, 1 / layer.temperature, 0.0, n_threads
        )
        for moved in contest.moves(rivals, _STEPS):
            trial = self._followed(stack, index, moved)
            if trial is not None and trial.objective > stack.objective:
                return trial
        return stack

    def _followed(self, stack: Stack, index: int, moved: list[Rival]) -> Stack | None:
        """Return the layers after one was moved and those above went on with EM; None if one of them collapsed."""
        layers = list(stack.layers)
        layer = copy.deepcopy(layers[index])
        family, n_threads = layer.model_.family, layer.n_threads or 0
        parts = [family.to_arrays(rival.parameters, rival.frame, n_threads) for rival in moved]
        for name in parts[0]:
            if name != "weights":
                setattr(layer, f"{name}_", np.concatenate([part[name] for part in parts]))
        layers[index] = layer
        try:
            values = layer.transform(stack.inputs[index])
            for above in range(index + 1, len(layers)):
                layers[above] = _followed(layers[above], values)
                if above + 1 < len(layers):
                    values = layers[above].transform(values)
            return self.assess(layers)
        except ValueError:
            return None


def _followed(layer: Mixture, values: Any) -> Mixture:
    """Return a copy of a layer after a few more iterations on these values."""
    following: Mixture = copy.deepcopy(layer)
    plain = {"warm_start": True, "algorithm": "em", "max_iter": _FOLLOW, "tol": 0, "reallocate": 0, "verbose": 0}
    plain |= {"callback": None, "monitor": None, "checkpoint": None}  # these are of the fit
    given = {name: getattr(layer, name) for name in plain}
    following.set_params(**plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        following.fit(values)
    following.set_params(**given)
    for name in _OF_THE_FIT:
        setattr(following, name, getattr(layer, name))
    return following
