"""How passes over the samples become new parameters."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np

from .families import Assign
from .families.family import SOFT, Family
from .problem import Problem, Sums

# Iterations of stochastic EM whose mean is compared with that of as many before.
_STOCHASTIC_WINDOW = 10


class Algorithm(Protocol):
    """How passes over the samples become new parameters."""

    @property
    def window(self) -> int:
        """Of the monitor."""

    def may_fall(self) -> bool:
        """Say whether the likelihood may fall."""

    def is_em(self, iteration: int) -> bool:
        """Say whether the bound of an iteration is that of its parameters, and what follows them a step of EM."""

    def step(self, problem: Problem, parameters: Any, prepared: Any, iteration: int) -> tuple[Any, float]:
        """Return the statistics of one pass, that `maximize` turns into parameters, and the mean log-likelihood."""


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

    def is_em(self, iteration: int) -> bool:
        """Say yes."""
        return True

    def step(self, problem: Problem, parameters: Any, prepared: Any, iteration: int) -> tuple[Any, float]:
        """Return the statistics of all samples."""
        statistics = problem.expect(prepared, replace(self.assign, iteration=iteration))
        return statistics, statistics.log_likelihood / float(statistics.responsibility.sum())


@dataclass(frozen=True)
class Pace:
    """How large the steps of stepwise EM are: a_t = min((t + 2)^−p, a_max).

    Attributes
    ----------
    exponent : float
        p.
    largest : float
        a_max: a step that is larger would forget what components with many values need.
    """

    exponent: float
    largest: float

    def rate(self, t: int) -> float:
        """Return a_t."""
        return float(min((t + 2.0) ** -self.exponent, self.largest))

    def steps_until(self, rate: float) -> int:
        """Return the t at which steps are no larger than this."""
        return max(0, int(np.ceil(rate ** (-1 / self.exponent))) - 2)


@dataclass(frozen=True, eq=False)
class Stepwise:
    """What stepwise EM knows after some mini-batches (Cappé and Moulines, JRSS B 2009; Liang and Klein, NAACL 2009).

        S ← (1 − a_t) S + a_t S_batch,    parameters ← maximize(S),    a_t of a `Pace`

    Statistics are those of a weight of 1.

    Attributes
    ----------
    parameters : object
        The family's.
    statistics : object or None
        S; None: there was no mini-batch yet, and the parameters say nothing of it.
    n_steps : int
        t, mini-batches so far.
    """

    parameters: Any
    statistics: Any = None
    n_steps: int = 0

    @classmethod
    def at(cls, family: Family, parameters: Any, frame: Any) -> "Stepwise":
        """Begin where the parameters are."""
        try:
            return cls(parameters, family.expected(parameters, parameters.weights, frame))
        except NotImplementedError:
            return cls(parameters)

    def after(self, family: Family, frame: Any, batch: Any, pace: Pace) -> "Stepwise":
        """Return what is known after the statistics of one more mini-batch, under these parameters."""
        rate = pace.rate(self.n_steps)
        found = batch * (1 / float(batch.responsibility.sum()))
        statistics = found if self.statistics is None else self.statistics * (1 - rate) + found * rate
        parameters = family.maximize(statistics * 1.0, self.parameters, frame)  # which uses them up
        return Stepwise(parameters, statistics, self.n_steps + 1)


@dataclass
class LastHalf:
    """The sum of mini-batches' statistics without the first ones, less random than S (Cappé and Moulines 2009)."""

    n_left_out: int
    total: Any = None

    def of(self, batches: Iterable[Sums]) -> Iterator[Sums]:
        """Yield the sums of mini-batches, which are added up here when they are asked for."""
        for index, sums in enumerate(batches):
            yield sums if index < self.n_left_out else partial(self._added, sums)

    def _added(self, sums: Sums, prepared: Any) -> Any:
        found = sums(prepared)
        self.total = found * 1.0 if self.total is None else self.total + found
        return found


@dataclass(frozen=True)
class Online:
    """Stepwise EM over shuffled mini-batches, then EM.

    Attributes
    ----------
    seed : int
        Of the order of samples.
    batch_size : int
        Samples in a mini-batch.
    n_epochs : int, default=1
        Passes before EM.
    pace : Pace
        The steps' sizes.
    """

    seed: int
    batch_size: int
    pace: Pace
    n_epochs: int = 1

    @property
    def window(self) -> int:
        """1."""
        return 1

    def may_fall(self) -> bool:
        """Say no: only passes of mini-batches may let it fall."""
        return False

    def is_em(self, iteration: int) -> bool:
        """Say whether the mini-batches are over."""
        return iteration >= self.n_epochs

    def step(self, problem: Problem, parameters: Any, prepared: Any, iteration: int) -> tuple[Any, float]:
        """Return the sums of an epoch's last half; each mini-batch's likelihood is that before its step."""
        if self.is_em(iteration):
            return Batch().step(problem, parameters, prepared, iteration)
        family, frame, n_threads = problem.family, problem.frame, problem.n_threads
        # Mini-batches of all epochs in one row: later epochs take smaller steps.
        n_batches = -(-problem.n_samples // self.batch_size)
        state = replace(Stepwise.at(family, parameters, frame), n_steps=iteration * n_batches)
        batches = problem.batches(self.batch_size, np.random.RandomState([self.seed, iteration]))
        last_half = LastHalf(n_batches // 2)
        state, bound = stepwise(family, frame, problem.dtype, state, last_half.of(batches), self.pace, n_threads)
        return state.statistics if last_half.total is None else last_half.total, bound


def stepwise(
    family: Family,
    frame: Any,
    dtype: np.dtype[Any],
    state: Stepwise,
    batches: Iterable[Sums],
    pace: Pace,
    n_threads: int,
) -> tuple[Stepwise, float]:
    """Take a step for each mini-batch; return where that led, and the mean log-likelihood before each step."""
    log_likelihood = weight = 0.0
    for sums in batches:
        batch = sums(family.prepare(state.parameters, frame, dtype, n_threads))
        log_likelihood += batch.log_likelihood
        weight += float(batch.responsibility.sum())
        state = state.after(family, frame, batch, pace)
    return state, log_likelihood / weight


#: The algorithms by their names, each with how it assigns.
ALGORITHMS: dict[str, Literal["soft", "hard", "draw"]] = {
    "em": "soft",
    "stochastic": "draw",
    "hard": "hard",
    "online": "soft",
}


def algorithm(name: str, rng: np.random.RandomState, **of_online: Any) -> Algorithm:
    """Return an algorithm of `ALGORITHMS`; one that draws takes a seed."""
    kind = ALGORITHMS[name]
    seed = int(rng.randint(np.iinfo(np.int32).max)) if name in ("stochastic", "online") else 0
    return Online(seed, **of_online) if name == "online" else Batch(Assign(kind, seed))
