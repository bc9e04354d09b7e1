"""Expectation–maximisation: from a start to a fit, by any algorithm, for any family."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from .algorithms import Algorithm, Batch
from .families import CollapseError, DensityError, Family
from .model import Model
from .momentum import Momentum
from .monitor import Monitor, Progress
from .problem import Problem
from .squarem import Squarem

T = TypeVar("T")

# In units of the dtype's resolution: what the mean log-likelihood may fall by before it is called a fall.
_ROUNDING = 8.0
# In the same units, by what two evaluations of one likelihood differ, in their sums alone.
_NOISE = 0.25
# Responsibilities below this are dropped by the core (posterior.hpp).
_DROPPED = {"float32": 1e-7, "float64": 1e-15}


class Acceleration(Protocol):
    """Where an extrapolation of EM's steps is; `tried` is where the next pass goes, None: where EM is."""

    @property
    def tried(self) -> Any: ...

    def rejects(self, bound: float, rounding: float) -> bool:
        """Say whether the parameters just tried are an extrapolation that lowers the likelihood."""

    def rejected(self) -> Self:
        """Return where it is when EM goes on from its last step."""

    def after(self, family: Family, frame: Any, before: Any, parameters: Any, bound: float) -> Self:
        """Return where it is after a step of EM, from parameters of this bound."""


#: Accelerations by their names.
ACCELERATIONS: dict[str, type[Acceleration]] = {"momentum": Momentum, "squarem": Squarem}


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
    reallocations : tuple of Reallocation
        The trials so far.
    exempt : bool
        Whether the step that led to the parameters may let the likelihood fall.
    acceleration : Acceleration or None
        Where it is.
    """

    parameters: Any
    lower_bounds: tuple[float, ...]
    prunings: tuple[Pruning, ...]
    converged: bool
    seconds: float
    details: dict[str, Any]
    reallocations: tuple[Any, ...] = ()
    exempt: bool = False
    acceleration: Acceleration | None = None

    @property
    def lower_bound(self) -> float:
        """The last of `lower_bounds`."""
        return self.lower_bounds[-1]


@dataclass(frozen=True)
class Options:
    """How long EM runs, by which algorithm.

    Attributes
    ----------
    tol : float
        What the monitor is told.
    max_iter : int
        Most iterations.
    prune_threshold : float
        Least share of the total weight; components below are removed, never the last one.
    algorithm : Algorithm
        Makes statistics of the samples.
    progress : bool
        Whether a progress bar is shown.
    accelerate : str or None
        By which of `ACCELERATIONS` steps of EM are extrapolated.
    monitor : Monitor
        Says when EM has converged.
    """

    tol: float
    max_iter: int
    prune_threshold: float
    algorithm: Algorithm = field(default_factory=Batch)
    progress: bool = False
    accelerate: str | None = None
    monitor: Monitor = field(default_factory=Monitor)


def run(
    problem: Problem, start: Any, options: Options, previous: float | None = None, after: Fit | None = None
) -> Iterator[Fit]:
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
    after : Fit or None, default=None
        What this run had reached before it was cut off; it goes on from there.
    """
    family, frame, algorithm = problem.family, problem.frame, options.algorithm
    may_fall = family.may_fall() or algorithm.may_fall()
    anew = ACCELERATIONS[options.accelerate]() if options.accelerate else None
    reached = after or Fit(start, (), (), False, 0.0, {}, acceleration=anew)
    started = time.perf_counter() - reached.seconds
    iterations = range(len(reached.lower_bounds), 0 if reached.converged else options.max_iter)
    with tqdm(
        total=options.max_iter, initial=iterations.start, desc="EM", unit="it", disable=not options.progress
    ) as bar:
        for iteration in iterations:
            acceleration = reached.acceleration
            tried = reached.parameters if acceleration is None or acceleration.tried is None else acceleration.tried
            try:
                prepared = family.prepare(tried, frame, problem.dtype, problem.n_threads)
                statistics, bound = algorithm.step(problem, tried, prepared, iteration)
            except DensityError:
                if tried is reached.parameters:
                    raise
                bound = -np.inf
            if acceleration is not None and acceleration.rejects(bound, _noise(problem, bound)):
                bounds = (*reached.lower_bounds, reached.lower_bound)  # that of the parameters that are gone on from
                seconds = time.perf_counter() - started
                reached = replace(reached, lower_bounds=bounds, seconds=seconds, acceleration=acceleration.rejected())
                bar.update()
                yield reached
                continue
            if not np.isfinite(bound):
                raise DensityError(
                    f"the mean log-likelihood of iteration {iteration} is {bound}: the parameters are too far from the "
                    f"samples; give another start, or rescale X."
                )
            rounding = _rounding(problem, bound, len(tried.weights)) + _ROUNDING * prepared.resolution
            bounds = (*reached.lower_bounds, bound)
            progress = Progress(bounds, options.tol, previous, rounding, reached.exempt, may_fall, algorithm.window)
            converged = bool(options.monitor.converged(progress))
            details, share = statistics.details, statistics.responsibility / float(statistics.responsibility.sum())
            updated = family.maximize(statistics, tried, frame)
            parameters, removed = _prune(updated, share, options.prune_threshold, iteration)
            is_em = algorithm.is_em(iteration)
            if acceleration is not None:
                begins = removed or not is_em
                acceleration = anew if begins else acceleration.after(family, frame, tried, parameters, bound)
            reached = Fit(
                parameters,
                bounds,
                reached.prunings + removed,
                converged and not removed,
                time.perf_counter() - started,
                details,
                exempt=bool(removed) or (iteration == 0 and not family.can_reach(start, frame)) or not is_em,
                acceleration=acceleration,
            )
            bar.set_postfix(bound=f"{bound:.4f}", components=len(parameters.weights), refresh=False)
            bar.update()
            yield reached
            if reached.converged:
                return


def _noise(problem: Problem, bound: float) -> float:
    """Return by what the mean log-likelihood differs when samples are summed up otherwise."""
    return _NOISE * float(np.finfo(problem.dtype).eps) * (abs(bound) + problem.n_features)


def _rounding(problem: Problem, bound: float, n_components: int) -> float:
    """Return how far a mean log-likelihood may fall by rounding of its terms."""
    # Where the bound is near 0, it is the difference of terms of the size of the features' number.
    relative = _ROUNDING * float(np.finfo(problem.dtype).eps)
    return relative * (abs(bound) + problem.n_features) + n_components * _DROPPED[problem.dtype.name]


def _prune(
    parameters: Any, share: NDArray[np.float64], threshold: float, iteration: int
) -> tuple[Any, tuple[Pruning, ...]]:
    """Return the parameters without the components below a share, never without the last one; and the removals."""
    full = share >= threshold
    full[np.argmax(share)] = True
    if full.all():
        return parameters, ()
    removed = tuple(Pruning(iteration, int(k), float(share[k])) for k in np.flatnonzero(~full))
    return parameters.take(np.flatnonzero(full)), removed


@dataclass(frozen=True, eq=False)
class Iteration:
    """What a callback is told.

    Attributes
    ----------
    run : int
        Number of the start, from 0.
    fit : Fit
        What has been reached.
    """

    run: int
    fit: Fit
    _make: Callable[[Fit], Model]

    @property
    def number(self) -> int:
        """Which iteration this is, from 0."""
        return len(self.fit.lower_bounds) - 1

    @property
    def lower_bound(self) -> float:
        """Mean log-likelihood that the E-step found, in nats per sample."""
        return self.fit.lower_bound

    @property
    def n_components(self) -> int:
        """Components that are left."""
        return len(self.fit.parameters.weights)

    @property
    def seconds(self) -> float:
        """Time since the start of the run."""
        return self.fit.seconds

    @cached_property
    def model(self) -> Model:
        """The mixture after the M-step; made when it is asked for.

        Raises
        ------
        CollapseError
            If a covariance is not positive definite.
        """
        return self._make(self.fit)


@dataclass
class Best(Generic[T]):
    """The best of several runs, kept up to date so that an interrupt loses nothing.

    Attributes
    ----------
    finish : callable
        Makes the result of a fit, or raises a CollapseError if that cannot be used.
    fit : Fit or None
        The best so far; None: there is none that can be used.
    result : object or None
        Its result; None: there is none that can be used.
    collapses : list of CollapseError
        Why others were given up.
    """

    finish: Callable[[Fit], T]
    fit: Fit | None = None
    result: T | None = None
    collapses: list[CollapseError] = field(default_factory=list)

    def consider(self, iterations: Iterator[Fit]) -> None:
        """Run, and keep the result if it is the best."""
        reached: Fit | None = None
        try:
            for fit in iterations:
                reached = fit
            if reached is not None and (self.fit is None or reached.lower_bound > self.fit.lower_bound):
                self.result = self.finish(reached)
                self.fit = reached
        except CollapseError as collapse:
            self.collapses.append(collapse)
        except KeyboardInterrupt:
            if self.result is None and reached is not None:
                with suppress(CollapseError):
                    self.result = self.finish(reached)
            raise
