"""Mixtures trained against one another: extended Baum–Welch towards given targets.

Rivals j, each a mixture, share samples by P(j|x) = P_j p(x|j)^κ / Σ_i P_i p(x|i)^κ. Given a target t_nj for each sample
and rival, the criterion is that of maximum mutual information (Bahl et al. 1986), with soft targets the negative
cross-entropy, and ρ κ times the likelihood (the H-criterion of Gopalakrishnan et al. 1988):

    F = Σ_n w_n Σ_j t_nj [ log P(j|x_n) + ρ κ log p(x_n|j) ] / Σ_n w_n.

Its gradient is κ times that of a likelihood in which sample n counts a_nj = w_n (t_nj − P(j|x_n) + ρ t_nj) for rival j:
numerator where that is positive, denominator where it is negative. Extended Baum–Welch (Gopalakrishnan et al. 1991;
Povey 2003) is an M-step of their difference, with so much of the old parameters added that it stays one:

    statistics_k = numerator_k − denominator_k + E_k · those of the old parameters,    E_k = e (N_num,k + N_den,k).

e grows until F does not fall, so F is monotone; it shrinks after a step that went well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from .families import Family
from .families.family import Reading
from .source import Block

# Of e: at first, after a good step, after a bad one, and where no step is small enough. Seen on digits (2026-11).
_FIRST, _SHRINK, _GROW, _LARGEST = 2.0, 0.7, 3.0, 1e5
# e is not below this: the mass of every component stays positive.
_LEAST = 1.0
# What a sample counts for a rival may be this small before it is left out.
_UNSEEN = 1e-6


@dataclass(frozen=True, eq=False)
class Rival:
    """A mixture: its parameters, and the frame that they live in."""

    parameters: Any
    frame: Any


@dataclass(frozen=True, eq=False)
class Round:
    """What a round has reached: the rivals, the criterion F, and log P(j|x) of all samples, (n, J)."""

    rivals: list[Rival]
    criterion: float
    log_posterior: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contest:
    """Samples that rivals are trained on.

    Attributes
    ----------
    family : Family
        Of all rivals.
    reading : Reading
        The samples; the weights of its block are not used.
    target : ndarray of shape (n, J)
        t; rows sum to 1.
    weight : ndarray of shape (n,)
        w, with a mean of 1.
    log_prior : ndarray of shape (J,)
        log P_j; it stays.
    exponent : float
        κ.
    smoothing : float
        ρ.
    n_threads : int
        Threads of the core.
    """

    family: Family
    reading: Reading
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    log_prior: NDArray[np.float64]
    exponent: float
    smoothing: float
    n_threads: int

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        return self.reading.values.dtype

    def assess(self, rivals: list[Rival]) -> Round:
        """Return the criterion and the posterior of rivals."""
        density = self._log_densities(rivals)
        log_posterior = log_softmax(self.exponent * density + self.log_prior, axis=1)
        reward = log_posterior + self.smoothing * self.exponent * density
        reward = np.where(self.target > 0, self.target * reward, 0).sum(axis=1)
        return Round(rivals, float(np.average(reward, weights=self.weight)), log_posterior)

    def log_posterior(self, rivals: list[Rival]) -> NDArray[np.float64]:
        """Return log P(j|x) of all samples, (n, J)."""
        return np.asarray(log_softmax(self.exponent * self._log_densities(rivals) + self.log_prior, axis=1))

    def rounds(self, rivals: list[Rival], max_iter: int) -> Iterator[Round]:
        """Yield the start, and what each round makes of it; ends early where no step raises the criterion."""
        reached, e = self.assess(rivals), _FIRST
        yield reached
        for _ in range(max_iter):
            sums = self._sums(reached)
            while True:
                trial = self._trial(reached.rivals, sums, e)
                if trial is not None and trial.criterion > reached.criterion:
                    break
                e *= _GROW
                if e > _LARGEST:
                    return
            reached, e = trial, max(_LEAST, e * _SHRINK)
            yield reached

    def moves(self, rivals: list[Rival], steps: tuple[float, ...]) -> Iterator[list[Rival]]:
        """Yield the rivals moved by one step each, for ever larger e, that is, ever less far."""
        sums = self._sums(self.assess(rivals))
        for e in steps:
            yield [self._moved(rival, *each, e) for rival, each in zip(rivals, sums, strict=True)]

    def _trial(self, rivals: list[Rival], sums: list[tuple[Any, Any]], e: float) -> Round | None:
        try:
            with np.errstate(invalid="ignore"):
                return self.assess([self._moved(rival, *each, e) for rival, each in zip(rivals, sums, strict=True)])
        except ValueError:  # a collapse, or weights of scales below 0: the step was too large
            return None

    def _moved(self, rival: Rival, numerator: Any, denominator: Any, e: float) -> Rival:
        family, old = self.family, rival.parameters
        counts = numerator.responsibility + denominator.responsibility
        if not counts.any():  # nothing is left to learn
            return rival
        kept = family.expected(old, e * counts, rival.frame)
        new = family.maximize(kept + numerator + denominator * -1.0, old, rival.frame)
        # Weights are a distribution of their own: the same step, as large for all of them as the most eager one bears.
        net = numerator.responsibility - denominator.responsibility
        inertia = e * np.max(counts / np.maximum(old.weights, np.finfo(np.float64).tiny))
        weights = np.maximum(net + inertia * old.weights, 0)
        return Rival(
            new.with_weights(weights / weights.sum()) if weights.any() else new.with_weights(old.weights), rival.frame
        )

    def _sums(self, reached: Round) -> list[tuple[Any, Any]]:
        """Return every rival's numerator and denominator."""
        counts = self.weight[:, None] * ((1 + self.smoothing) * self.target - np.exp(reached.log_posterior))
        return [(self._sum(rival, a), self._sum(rival, -a)) for rival, a in zip(reached.rivals, counts.T, strict=True)]

    def _sum(self, rival: Rival, count: NDArray[np.float64]) -> Any:
        """Return the statistics of the samples that count more than nothing."""
        rows = np.flatnonzero(count > _UNSEEN)
        if not len(rows):
            return self.family.expected(rival.parameters, np.zeros(len(rival.parameters.weights)), rival.frame)
        block = Block(self.reading.block.samples[rows], np.ascontiguousarray(count[rows]))
        data = self.family.represent(Reading(block, self.reading.values[rows]), rival.frame, self.n_threads)
        return self.family.expect(self._prepared(rival), data, self.n_threads)

    def _log_densities(self, rivals: list[Rival]) -> NDArray[np.float64]:
        density = np.empty((len(self.target), len(rivals)))
        for j, rival in enumerate(rivals):
            data = self.family.represent(self.reading, rival.frame, self.n_threads)
            density[:, j] = self.family.posterior(self._prepared(rival), data.values, self.n_threads)[1]
        return density

    def _prepared(self, rival: Rival) -> Any:
        return self.family.prepare(rival.parameters, rival.frame, self._dtype, self.n_threads)
