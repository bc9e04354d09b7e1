"""Expectation–maximisation: from a start to a fit, by any algorithm, for any family."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from tqdm.auto import tqdm

from . import _core
from .families import Assign, CollapseError, Family
from .families.family import SOFT, Data
from .model import no_density
from .source import Block, Source

T = TypeVar("T")

# In units of the dtype's resolution: what the mean log-likelihood may fall by before it is called a fall.
_ROUNDING = 8.0
# Responsibilities below this are dropped by the core (posterior.hpp).
_DROPPED = {"float32": 1e-7, "float64": 1e-15}


@dataclass(frozen=True)
class Pruning:
    """The removal of an empty component.

    Attributes
    ----------
    iteration : int
        Iteration, counted from 0, after whose M-step the component was removed.
    index : int
        Its index among the components that there were then.
    share : float
        Its share of the total sample weight.
    """

    iteration: int
    index: int
    share: float


class LikelihoodWarning(UserWarning):
    """The likelihood fell where plain EM cannot let it fall."""


@dataclass
class Monitor:
    """Watches the likelihood: says when EM has converged, and warns when the likelihood falls.

    Parameters
    ----------
    tol : float
        EM has converged when the mean log-likelihood changes by less than this, in nats: gains it, or falls no further
        than is no surprise.
    may_fall : bool, default=False
        Whether the steps are such that a fall is no surprise. Otherwise one beyond rounding warns.
    previous : float or None, default=None
        The bound that an earlier run ended with, whose parameters this one goes on from.
    """

    tol: float
    may_fall: bool = False
    previous: float | None = None
    lower_bounds: list[float] = field(default_factory=list)

    def converged(self, lower_bound: float, rounding: float, *, exempt: bool) -> bool:
        """Record an iteration.

        Parameters
        ----------
        lower_bound : float
            The mean log-likelihood that its E-step found.
        rounding : float
            How far that may fall by rounding alone.
        exempt : bool
            Whether the step that led to it may let it fall: one that removed components, or that went on from a start
            out of EM's reach.
        """
        before = self.lower_bounds[-1] if self.lower_bounds else self.previous
        known = bool(self.lower_bounds)  # else the samples may be others than those of the earlier run
        self.lower_bounds.append(lower_bound)
        if exempt or before is None:
            return False
        gain = lower_bound - before
        if gain < -rounding and not self.may_fall and known:
            warnings.warn(
                f"the mean log-likelihood fell by {-gain:.3g} nats in iteration {len(self.lower_bounds) - 1}, more "
                f"than rounding explains ({rounding:.1g}): please report this with the data.",
                LikelihoodWarning,
                stacklevel=2,
            )
        return bool(-(self.tol if self.may_fall else min(self.tol, rounding)) < gain < self.tol)


@dataclass(frozen=True, eq=False)
class Fit:
    """What EM has reached after an iteration.

    Attributes
    ----------
    parameters : object
        The family's parameters, in the frame, after the M-step.
    lower_bounds : tuple of float
        Mean log-likelihood that each E-step found, in nats per sample.
    prunings : tuple of Pruning
        The removals so far.
    converged : bool
        Whether the monitor says so.
    seconds : float
        Time since the start.
    details : dict
        What the last E-step told, as fitted attributes.
    """

    parameters: Any
    lower_bounds: tuple[float, ...]
    prunings: tuple[Pruning, ...]
    converged: bool
    seconds: float
    details: dict[str, Any]

    @property
    def lower_bound(self) -> float:
        """The last of `lower_bounds`."""
        return self.lower_bounds[-1]


class Algorithm(Protocol):
    """How a pass over the data becomes new parameters."""

    def step(self, family: Family, prepared: Any, data: Iterable[Data], iteration: int, n_threads: int) -> Any:
        """Return the statistics of one pass, that `maximize` turns into parameters."""


@dataclass(frozen=True)
class Batch:
    """Every pass reads all samples: the statistics of the blocks, added up in their order.

    Attributes
    ----------
    assign : Assign
        How posteriors become weights; its iteration is that of the pass.
    """

    assign: Assign = SOFT

    def step(self, family: Family, prepared: Any, data: Iterable[Data], iteration: int, n_threads: int) -> Any:
        """Return the statistics of all data.

        Raises
        ------
        ValueError
            If a sample has no density; names it by the caller's number.
        """
        assign = replace(self.assign, iteration=iteration)
        return reduce(add, (_expect(family, prepared, each, n_threads, assign) for each in data))


def _expect(family: Family, prepared: Any, data: Data, n_threads: int, assign: Assign) -> Any:
    try:
        return family.expect(prepared, data, n_threads, assign)
    except _core.NoDensity as error:
        raise no_density(data.block.number(int(error.args[0]))) from None


@dataclass(frozen=True, eq=False)
class Problem:
    """All samples in the frame of a fit.

    Attributes
    ----------
    family : Family
        Gives the verbs.
    survey, frame : object
        The family's, of all samples.
    data : list of Data
        The samples, block by block.
    n_threads : int
        Threads of the core.
    """

    family: Family
    survey: Any
    frame: Any
    data: list[Data]
    n_threads: int

    @classmethod
    def of(cls, family: Family, source: Source, n_threads: int) -> "Problem":
        """Read, survey and represent a source's samples.

        Raises
        ------
        ValueError
            If the family cannot model them; says what to do.
        """
        readings = [family.read(block, n_threads) for block in source.blocks()]
        survey = reduce(add, (family.survey(reading, n_threads) for reading in readings))
        frame = family.frame(survey)
        data = [family.represent(reading, frame, n_threads) for reading in readings]
        return cls(family, survey, frame, data, n_threads)

    def start(self, given: Any, rng: np.random.RandomState) -> Any:
        """Return the family's starting parameters; several blocks are put together for it."""
        data = self.data[0]
        if len(self.data) > 1:
            blocks = [each.block for each in self.data]
            weights = [np.ones(len(b.samples)) if b.weight is None else b.weight for b in blocks]
            samples = np.concatenate([block.samples for block in blocks])
            values = np.concatenate([each.values for each in self.data])
            data = Data(values, Block(samples, np.concatenate(weights)))
        return self.family.start(given, data, self.survey, self.frame, rng, self.n_threads)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What densities are computed in."""
        return self.data[0].values.dtype


@dataclass(frozen=True)
class Options:
    """How long EM runs, by which algorithm.

    Attributes
    ----------
    tol : float
        Of the monitor.
    max_iter : int
        Most iterations.
    prune_threshold : float
        Least share of the total weight; components below are removed, never the last one.
    algorithm : Algorithm
        Makes statistics of the data.
    progress : bool
        Whether a progress bar is shown.
    """

    tol: float
    max_iter: int
    prune_threshold: float
    algorithm: Algorithm = field(default_factory=Batch)
    progress: bool = False


def run(problem: Problem, start: Any, options: Options, previous: float | None = None) -> Iterator[Fit]:
    """Iterate until the monitor calls it converged, or for the most iterations; yield what each one reached.

    Parameters
    ----------
    problem : Problem
        The samples.
    start : object
        The family's parameters.
    options : Options
        When to stop.
    previous : float or None, default=None
        The bound that an earlier run ended with, whose parameters this one goes on from.
    """
    family, frame, n_threads = problem.family, problem.frame, problem.n_threads
    monitor = Monitor(options.tol, family.may_fall(), previous)
    parameters = start
    prunings: tuple[Pruning, ...] = ()
    exempt = False  # may the step from the last iteration to this one let the likelihood fall?
    n_features = problem.data[0].block.samples.shape[1]
    relative = _ROUNDING * float(np.finfo(problem.dtype).eps)
    started = time.perf_counter()
    with tqdm(total=options.max_iter, desc="EM", unit="it", disable=not options.progress) as bar:
        for iteration in range(options.max_iter):
            prepared = family.prepare(parameters, frame, problem.dtype, n_threads)
            statistics = options.algorithm.step(family, prepared, problem.data, iteration, n_threads)
            details = statistics.details
            total = float(statistics.responsibility.sum())
            share = statistics.responsibility / total
            bound = statistics.log_likelihood / total
            if not np.isfinite(bound):
                raise ValueError(
                    f"the mean log-likelihood of iteration {iteration} is {bound}: the parameters are too far from the "
                    f"samples; give another start, or rescale X."
                )
            # Where the bound is near 0, it is the difference of terms of the size of the features' number.
            rounding = relative * (abs(bound) + n_features) + len(share) * _DROPPED[problem.dtype.name]
            converged = monitor.converged(bound, rounding + _ROUNDING * prepared.resolution, exempt=exempt)
            parameters = family.maximize(statistics, parameters, frame)
            full = share >= options.prune_threshold
            full[np.argmax(share)] = True
            pruned = not full.all()
            exempt = pruned or (iteration == 0 and not family.can_reach(start, frame))
            if pruned:
                parameters = parameters.take(np.flatnonzero(full))
                prunings += tuple(Pruning(iteration, int(k), float(share[k])) for k in np.flatnonzero(~full))
            bar.set_postfix(bound=f"{bound:.4f}", components=len(parameters.weights), refresh=False)
            bar.update()
            ended = converged and not pruned
            seconds = time.perf_counter() - started
            yield Fit(parameters, tuple(monitor.lower_bounds), prunings, ended, seconds, details)
            if ended:
                return


@dataclass
class Best(Generic[T]):
    """The best of several runs, kept up to date so that an interrupt loses nothing.

    Attributes
    ----------
    finish : callable
        Makes the result of a fit, or raises a CollapseError if that cannot be used.
    result : object or None
        That of the best run so far; None: there is none that can be used.
    collapses : list of CollapseError
        Why others were given up.
    """

    finish: Callable[[Fit], T]
    result: T | None = None
    collapses: list[CollapseError] = field(default_factory=list)
    _bound: float = -np.inf

    def consider(self, iterations: Iterator[Fit]) -> None:
        """Run, and keep the result if it is the best."""
        reached: Fit | None = None
        try:
            for fit in iterations:
                reached = fit
            if reached is not None and (self.result is None or reached.lower_bound > self._bound):
                self.result = self.finish(reached)
                self._bound = reached.lower_bound
        except CollapseError as collapse:
            self.collapses.append(collapse)
        except KeyboardInterrupt:
            if self.result is None and reached is not None:
                with suppress(CollapseError):
                    self.result = self.finish(reached)
            raise
