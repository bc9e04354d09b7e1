"""Reallocation: components are taken from where two overlap, and put where one fits worst.

EM's bad optima have several components on one group of samples and one component on several groups (Chen, Song, Xi and
Zhang 2024), and EM alone does not move a component from here to there. A trial merges a pair, splits a third component,
goes on with EM for a few iterations, and is kept only if the likelihood has risen by then: split and merge EM (Ueda,
Nakano, Ghahramani and Hinton 2000). What a trial would cost and gain is told beforehand on some of the samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from .em import Fit, Options, Pruning, run
from .families import DensityError
from .families.family import Data, joined, log_weights, shares
from .problem import Problem
from .source import Block

# Samples drawn for each component, more where a sample has many values; never more values than fit into 256 MiB of
# float32.
_DRAWS_PER_COMPONENT = 1000
_DRAWS_PER_FEATURE = 4
_MOST_VALUES = 1 << 26
# Pairs and components that are looked at closely. Measured, with the limits of a trial below, on 50,000 photograph
# patches of 16×16, 32 components, 6 seeds, 2026-11: more gain nothing.
_LOOKED_AT = 24
# EM iterations with the two halves of a component on its own samples.
_SPLIT_ITERATIONS = 8
# Most EM iterations with all components until a trial is judged, and after how many a hopeless one is given up.
_TRIAL_ITERATIONS = 60
_LEAST_ITERATIONS = 4
# A trial is hopeless that needs more than so many gains like its last one. Measured as above: the worst seed ends above
# the best one of plain EM; with trials of half the length, which take half the time, just above the median.
_MOST_STEPS_LEFT = 60


@dataclass(frozen=True)
class Reallocation:
    """A trial.

    Attributes
    ----------
    iteration : int
        How many EM iterations had been made.
    merged : tuple of 2 ints, or None
        The pair, by its indices among the components of that time; None: a component that had been pruned came back.
    split : int
        The component that was split.
    gain : float
        What the mean log-likelihood rose by, in nats per sample, until the trial was judged; negative: it fell.
    kept : bool
        Whether its components were kept.
    """

    iteration: int
    merged: tuple[int, int] | None
    split: int
    gain: float
    kept: bool

    @classmethod
    def from_values(
        cls, iteration: int, merged: list[int] | None, split: int, gain: float, kept: bool
    ) -> "Reallocation":
        """Return the trial that a file holds."""
        return cls(iteration, None if merged is None else (merged[0], merged[1]), split, gain, kept)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What to move, and the parameters to go on from."""

    merged: tuple[int, int] | None
    split: int
    parameters: Any


def reallocated(
    problem: Problem, fits: Iterator[Fit], options: Options, n_trials: int, rng: np.random.RandomState
) -> Iterator[Fit]:
    """Go on from where a run ends: yield its fits, and then one after every trial.

    The lower bounds of a trial that is kept are added from where they are above all before; those of others are not.

    Parameters
    ----------
    problem : Problem
        The samples.
    fits : iterator of Fit
        The run.
    options : Options
        Its options; EM goes on with them after the last trial that was kept.
    n_trials : int
        Most trials.
    rng : RandomState
        Draws the samples on which trials are planned.
    """
    fit: Fit | None = None
    for fit in fits:
        yield fit
    if fit is None:
        return
    short = replace(options, max_iter=min(_TRIAL_ITERATIONS, options.max_iter), progress=False)
    left, plans, moved = n_trials, _planned(problem, fit, rng), False
    while left and (plan := next(plans, None)):
        left -= 1
        bounds = fit.lower_bounds
        # What EM would gain in as many iterations without the trial is no merit of it.
        drift = max(bounds[-1] - bounds[-2], 0.0) if len(bounds) > 1 else 0.0
        reached = _tried(problem, plan.parameters, short, bounds[-1], drift)
        kept = reached is not None and reached.lower_bound > bounds[-1] + drift * len(reached.lower_bounds)
        gain = float("-inf") if reached is None else reached.lower_bound - bounds[-1]
        trial = Reallocation(len(bounds), plan.merged, plan.split, gain, kept)
        fit = replace(fit, reallocations=(*fit.reallocations, trial))
        if reached is not None and kept:
            fit, moved = _continued(fit, reached), True
            plans = _planned(problem, fit, rng)
        yield fit
    if moved and not fit.converged:
        for further in run(problem, fit.parameters, options, fit.lower_bound):
            yield _continued(fit, further)


def _tried(problem: Problem, start: Any, options: Options, bound: float, drift: float) -> Fit | None:
    """Run EM from a plan until it converges, or cannot gain any more; None if it cannot go on.

    To gain is to rise above the bound by more than EM would have without the trial, by `drift` in an iteration.
    """
    reached: Fit | None = None
    try:
        for reached in run(problem, start, options):
            found = reached.lower_bounds
            missing = bound + drift * len(found) - found[-1]
            if len(found) >= _LEAST_ITERATIONS and missing > _MOST_STEPS_LEFT * (found[-1] - found[-2] - drift):
                break
    except DensityError:
        return None
    return reached


def _continued(fit: Fit, further: Fit) -> Fit:
    """Return a fit that another one went on from."""
    before = np.flatnonzero(np.array(further.lower_bounds) <= fit.lower_bound)
    n_below = int(before[-1]) + 1 if len(before) else 0
    n_before, n_kept = len(fit.lower_bounds), len(further.lower_bounds) - n_below
    prunings = [Pruning(n_before + max(0, p.iteration - n_below), p.index, p.share) for p in further.prunings]
    return replace(
        further,
        lower_bounds=fit.lower_bounds + further.lower_bounds[n_below:],
        prunings=(*fit.prunings, *prunings),
        seconds=fit.seconds + further.seconds * n_kept / len(further.lower_bounds),
        reallocations=fit.reallocations,
    )


def _planned(problem: Problem, fit: Fit, rng: np.random.RandomState) -> Iterator[_Plan]:
    """Yield what may raise the likelihood, the most promising first, every pair and every split once."""
    samples = _Labelled.of(problem, fit.parameters, rng)
    free = len(fit.prunings) - sum(r.kept and r.merged is None for r in fit.reallocations)
    merges: list[tuple[float, tuple[int, int] | None, Any]] = [(0.0, None, None)] if free > 0 else samples.merges()
    found = []
    for gain, split, halves in samples.splits(rng):
        for loss, pair, merged in merges:
            if pair is None or split not in pair:
                found.append((gain - loss, pair, split, merged, halves))
    tried: set[Any] = set()
    weights = fit.parameters.weights
    for _, pair, split, merged, halves in sorted(found, key=lambda plan: -plan[0]):
        if split in tried or (pair and pair in tried):
            continue
        tried |= {split, pair}
        gone = [split, *(pair or ())]
        rest = np.setdiff1d(np.arange(len(weights)), gone)
        parts = [part for part in (fit.parameters.take(rest) if len(rest) else None, merged, halves) if part]
        shares = [weights[rest], weights[gone[1:]].sum(keepdims=True)[: len(gone[1:])], weights[split] * halves.weights]
        yield _Plan(pair, split, joined(parts, np.concatenate(shares)))


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Some samples, each with a component that was drawn from its posterior."""

    problem: Problem
    parameters: Any
    block: Block
    data: Data
    labels: NDArray[np.intp]

    @classmethod
    def of(cls, problem: Problem, parameters: Any, rng: np.random.RandomState) -> "_Labelled":
        """Draw them."""
        family, K = problem.family, len(parameters.weights)
        each = max(_DRAWS_PER_COMPONENT, _DRAWS_PER_FEATURE * problem.n_features)
        block = problem.some(min(each * K, _MOST_VALUES // problem.n_features), rng)
        data = family.represent(family.read(block, problem.n_threads), problem.frame, problem.n_threads)
        prepared = family.prepare(parameters, problem.frame, data.values.dtype, problem.n_threads)
        gamma, _ = family.posterior(prepared, data.values, problem.n_threads)
        below = gamma.cumsum(axis=1, dtype=np.float64)
        labels = (below <= rng.uniform(size=(len(gamma), 1)) * below[:, -1:]).sum(axis=1)
        return cls(problem, parameters, block, data, np.minimum(labels, K - 1))

    @property
    def weights(self) -> NDArray[np.float64]:
        """The components' weights, (K,)."""
        return np.asarray(self.parameters.weights)

    def part(self, rows: NDArray[np.intp]) -> Data:
        """Return the samples of these rows."""
        weight = None if self.block.weight is None else self.block.weight[rows]
        return Data(self.data.values[rows], Block(self.block.samples[rows], weight))

    def density(self, parameters: Any, data: Data) -> NDArray[np.float64]:
        """Return log p(x) of samples under a mixture, (n,)."""
        family, n_threads = self.problem.family, self.problem.n_threads
        prepared = family.prepare(parameters, self.problem.frame, data.values.dtype, n_threads)
        joint = family.log_density(prepared, data.values, n_threads) + log_weights(shares(parameters.weights))
        return np.asarray(logsumexp(joint.astype(np.float64), axis=1))

    def mean(self, values: NDArray[np.float64], data: Data) -> float:
        """Return the weighted mean over samples."""
        return float(np.average(values, weights=data.block.weight))

    def merges(self) -> list[tuple[float, tuple[int, int] | None, Any]]:
        """Return pairs that overlap most, with what merging each costs in nats per sample, and what becomes of them."""
        family, w = self.problem.family, self.weights
        arrays = family.to_arrays(self.parameters, self.problem.frame, self.problem.n_threads)
        # w_i D(i‖j) bounds from above what it costs to give the samples of i to j.
        moved = w[:, None] * family.divergence(arrays)
        pairs = sorted(combinations(range(len(w)), 2), key=lambda pair: min(moved[pair], moved[pair[::-1]]))
        found: list[tuple[float, tuple[int, int] | None, Any]] = []
        for pair in pairs[:_LOOKED_AT]:
            merged = family.merge(self.parameters, *pair)
            data = self.part(np.flatnonzero(np.isin(self.labels, pair)))
            loss = 0.0  # of two that nothing is drawn from
            if len(data.values):
                lost = self.density(self.parameters.take(np.array(pair)), data) - self.density(merged, data)
                loss = w[list(pair)].sum() * self.mean(lost, data)
            found.append((loss, pair, merged))
        return found

    def splits(self, rng: np.random.RandomState) -> Iterator[tuple[float, int, Any]]:
        """Yield components that fit worst: what splitting each gains in nats per sample, and its halves.

        The density of samples that a Gaussian fits varies by n/2 in its logarithm; where it varies more, there is more
        than one Gaussian. Halves are fitted to every other sample, and judged on those between.
        """
        family, problem, w = self.problem.family, self.problem, self.weights
        rows = [np.flatnonzero(self.labels == k) for k in range(len(w))]
        alone = {
            k: self.density(self.parameters.take(np.array([k])), self.part(of))
            for k, of in enumerate(rows)
            if len(of) > 9
        }
        worst = sorted(alone, key=lambda k: -w[k] * alone[k].std())
        for k in worst[:_LOOKED_AT]:
            fitted, judged = self.part(rows[k][::2]), self.part(rows[k][1::2])
            try:
                halves = family.start(family.fresh_start(2), fitted, problem.frame, rng, problem.n_threads)
                for _ in range(_SPLIT_ITERATIONS):
                    prepared = family.prepare(halves, problem.frame, fitted.values.dtype, problem.n_threads)
                    halves = family.maximize(family.expect(prepared, fitted, problem.n_threads), halves, problem.frame)
                gained = self.density(halves, judged) - alone[k][1::2]
            except ValueError:  # too few samples for two
                continue
            yield w[k] * self.mean(gained, judged), k, halves
