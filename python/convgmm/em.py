"""Expectation–maximisation: from a start to a fit, by any algorithm, for any family."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from tqdm.auto import tqdm

from .families import Assign, CollapseError, DensityError
from .families.family import SOFT
from .problem import Problem

T = TypeVar("T")

# In units of the dtype's resolution: what the mean log-likelihood may fall by before it is called a fall.
_ROUNDING = 8.0
# Iterations of stochastic EM whose mean is compared with that of as many before.
_STOCHASTIC_WINDOW = 10
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
    window : int, default=1
        How many bounds are averaged before they are compared, where one is random.
    """

    tol: float
    may_fall: bool = False
    previous: float | None = None
    window: int = 1
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
        if self.window > 1:
            return self._averages_agree(lower_bound)
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

    def _averages_agree(self, lower_bound: float) -> bool:
        self.lower_bounds.append(lower_bound)
        last, before = self.lower_bounds[-self.window :], self.lower_bounds[-2 * self.window : -self.window]
        return len(before) == self.window and bool(abs(np.mean(last) - np.mean(before)) < self.tol)


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
    """

    parameters: Any
    lower_bounds: tuple[float, ...]
    prunings: tuple[Pruning, ...]
    converged: bool
    seconds: float
    details: dict[str, Any]
    reallocations: tuple[Any, ...] = ()

    @property
    def lower_bound(self) -> float:
        """The last of `lower_bounds`."""
        return self.lower_bounds[-1]


class Algorithm(Protocol):
    """How passes over the samples become new parameters."""

    @property
    def window(self) -> int:
        """Of the monitor."""

    def may_fall(self) -> bool:
        """Say whether the likelihood may fall."""

    def step(self, problem: Problem, prepared: Any, iteration: int) -> Any:
        """Return the statistics of one pass, that `maximize` turns into parameters."""


@dataclass(frozen=True)
class Batch:
    """Every pass asks for the statistics of all samples under the same parameters.

    Soft, it is EM (Dempster, Laird and Rubin 1977). Hard, classification EM (Celeux and Govaert 1992), which raises the
    likelihood of samples together with their components instead. Drawn, stochastic EM (Celeux and Diebolt 1985): a
    Markov chain about a maximum.

    Attributes
    ----------
    assign : Assign
        How posteriors become weights; its iteration is that of the pass.
    """

    assign: Assign = SOFT

    @property
    def window(self) -> int:
        """1, but more where the bound is random."""
        return _STOCHASTIC_WINDOW if self.assign.kind == "draw" else 1

    def may_fall(self) -> bool:
        """Say whether it is not plain EM."""
        return self.assign.kind != "soft"

    def step(self, problem: Problem, prepared: Any, iteration: int) -> Any:
        """Return the statistics of all samples."""
        return problem.expect(prepared, replace(self.assign, iteration=iteration))


#: The algorithms by their names, each with how it assigns.
ALGORITHMS: dict[str, Literal["soft", "hard", "draw"]] = {"em": "soft", "stochastic": "draw", "hard": "hard"}


def algorithm(name: str, rng: np.random.RandomState) -> Algorithm:
    """Return an algorithm of `ALGORITHMS`; one that draws takes a seed."""
    kind = ALGORITHMS[name]
    return Batch(Assign(kind, int(rng.randint(np.iinfo(np.int32).max)) if kind == "draw" else 0))


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
        Makes statistics of the samples.
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
    family, frame, algorithm = problem.family, problem.frame, options.algorithm
    monitor = Monitor(options.tol, family.may_fall() or algorithm.may_fall(), previous, algorithm.window)
    parameters = start
    prunings: tuple[Pruning, ...] = ()
    exempt = False  # may the step from the last iteration to this one let the likelihood fall?
    relative = _ROUNDING * float(np.finfo(problem.dtype).eps)
    started = time.perf_counter()
    with tqdm(total=options.max_iter, desc="EM", unit="it", disable=not options.progress) as bar:
        for iteration in range(options.max_iter):
            prepared = family.prepare(parameters, frame, problem.dtype, problem.n_threads)
            statistics = algorithm.step(problem, prepared, iteration)
            details = statistics.details
            total = float(statistics.responsibility.sum())
            share = statistics.responsibility / total
            bound = statistics.log_likelihood / total
            if not np.isfinite(bound):
                raise DensityError(
                    f"the mean log-likelihood of iteration {iteration} is {bound}: the parameters are too far from the "
                    f"samples; give another start, or rescale X."
                )
            # Where the bound is near 0, it is the difference of terms of the size of the features' number.
            rounding = relative * (abs(bound) + problem.n_features) + len(share) * _DROPPED[problem.dtype.name]
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
