"""What is measured of either family of components: iterations, their threads in turns, and the memory of a fit."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convgmm import _core, _cpu
from measure import Candidate, Group, Judgement, Result, Rules, measure
from problem import Problem, Store
from report import Section
from workers import Pool, TaskError

# What a component's factors and sums need at most, in values for each of its parameters.
_PARAMETER_COPIES = 6


@dataclass(frozen=True)
class Case(ABC):
    """An EM problem: n samples, k components, and the threads to use."""

    n: int
    k: int
    threads: int

    @property
    @abstractmethod
    def n_values(self) -> int:
        """Values in a sample."""

    @property
    @abstractmethod
    def size(self) -> str:
        """The case in words, but for its threads."""

    @property
    def n_parameters(self) -> int:
        """Values that describe a component, where they are many."""
        return 0


@dataclass(frozen=True, eq=False)
class Answer(ABC):
    """What one EM iteration finds."""

    log_likelihood: float  # mean, in nats per sample; of an M-step alone NaN
    responsibility: NDArray[np.float64]  # (K,)
    active: float  # responsibilities above 1e-6, per sample

    @abstractmethod
    def deviations(self, result: Result) -> dict[str, float]:
        """Return how far a result is off, by the names of the tolerances; of what it holds."""


def go_through(
    problem: Problem,
    joint: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    add: Callable[[NDArray[np.float64], NDArray[np.float64]], None],
    transform: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda block: block,
    given: NDArray[np.floating[Any]] | None = None,
) -> tuple[float, NDArray[np.float64], float]:
    """Do an E-step by NumPy in float64; return the first fields of an `Answer`.

    Samples (b, …) are transformed block by block. `joint` returns log π_k + log p(x|k), (b, K), of a transformed block;
    `add` is handed the block and its responsibilities, those `given` (n, K) if there are any.
    """
    log_likelihood, responsibility, active = 0.0, np.zeros(len(problem.load_parameters()["weights"])), 0
    for place, samples in problem.blocks():
        block = transform(samples)
        if given is not None:
            gamma, log_likelihood = given[place].astype(np.float64), np.nan
        else:
            values = joint(block)
            top = values.max(axis=1, keepdims=True)
            gamma = np.exp(values - top)
            total = gamma.sum(axis=1, keepdims=True)
            gamma /= total
            log_likelihood += float((top + np.log(total)).sum())
        active += int(np.count_nonzero(gamma > 1e-6))
        responsibility += gamma.sum(axis=0)
        add(block, gamma)
    return log_likelihood / problem.n, responsibility, active / problem.n


def usable_levels() -> list[str]:
    """Return the instruction sets that are built and that this processor has, the best first."""
    supported = _cpu.processor_level()
    return sorted((level for level in _core.levels_built if level <= supported), reverse=True)


def threads_label(threads: int) -> str:
    """Write a number of threads in words."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def em_candidate(name: str, adapter: str, dtype: str, held: tuple[float, float], **rest: Any) -> Candidate:
    """Return a candidate for an EM iteration: fields of a `Candidate`, and options of the adapter's class.

    Every peer calls a BLAS library; convgmm's core does not.
    """
    fields = {key: rest.pop(key) for key in ("level", "needs") if key in rest}
    options = {"adapter": adapter, "dtype": dtype, **rest}
    return Candidate(name, "tasks:Step", options, blas=adapter != "convgmm", held=held, **fields)


class FamilyBenchmark(ABC):
    """The report's sections for one family.

    Attributes
    ----------
    estimator : str
        The package's estimator of this family.
    samples_label : str
        What its samples are called when memory is told of.
    tolerances : dict
        Largest deviations from the float64 answer that are let pass, for each dtype.
    """

    estimator: ClassVar[str]
    samples_label: ClassVar[str]
    tolerances: ClassVar[dict[str, dict[str, float]]]

    def __init__(self, pool: Pool, store: Store, rules: Rules) -> None:
        self.pool, self.store, self.rules = pool, store, rules

    @abstractmethod
    def sections(self) -> Iterator[Section]:
        """Measure; yield sections, some again with each case that they gain."""

    @abstractmethod
    def answer(self, problem: Problem, candidate: Candidate) -> Answer:
        """Return what the candidate should find."""

    @property
    def bounds(self) -> str:
        """The tolerances in words."""
        return "; ".join(
            f"{of['log-likelihood']:g} and {of['sums']:g} in {dtype}" for dtype, of in self.tolerances.items()
        )

    def judge(self, case: Case, problem: Problem, candidate: Candidate, result: Result) -> Judgement:
        """Compare a result with the float64 answer."""
        deviations = self.answer(problem, candidate).deviations(result)
        most = self.tolerances[candidate.options["dtype"]]
        return Judgement(deviations, {name: most[name] for name in deviations})

    def measure(
        self, case: Case, problem: Problem, group: Group, candidates: Sequence[Candidate], **rules: Any
    ) -> Group:
        """Fill a group with iterations or their steps on a case."""

        def needed(candidate: Candidate) -> float:
            (arrays, values), size = candidate.held, np.dtype(candidate.options["dtype"]).itemsize
            parameters = 8 * _PARAMETER_COPIES * case.k * case.n_parameters
            return float(size * case.n * (arrays * case.n_values + values * case.k) + parameters)

        return measure(
            self.pool,
            group,
            candidates,
            {"problem": problem},
            problem.threads,
            lambda candidate, result: self.judge(case, problem, candidate, result),
            replace(self.rules, expected_bytes=needed, **rules),
        )

    def threads_in_turns(self, case: Case, problem: Problem, group: Group, candidates: Sequence[Candidate]) -> Group:
        """Measure the candidates with all threads and with one side by side: minutes apart the machine may be another.

        Each number of threads has a process of its own.
        """
        variants = [
            replace(
                candidate,
                name=f"{candidate.name}, {threads_label(threads)}",
                options={**candidate.options, "problem": replace(problem, threads=threads)},
            )
            for candidate in candidates
            for threads in sorted({1, problem.threads}, reverse=True)
        ]
        return self.measure(case, problem, group, variants)

    def memory(
        self, title: str, text: str, what: Mapping[str, Any], own: str, own_bytes: int, **beside: int
    ) -> Section:
        """Measure the peak memory of a fit in a process of its own, so that nothing else counts.

        Parameters
        ----------
        title, text : str
            Heading, and what is fitted.
        what : mapping
            Arguments of `memory_of_fit`.
        own, own_bytes : str and int
            What every fit must hold, and how much that is beside the samples.
        **beside : int
            Other sizes worth telling, in bytes.
        """
        print("memory of a fit", file=sys.stderr, flush=True)
        worker = self.pool.worker("memory of a fit")
        try:
            arguments = {"maker": "adapters.convgmm:memory_of_fit", "estimator": self.estimator, **what}
            worker.ask("prepare", "tasks:Call", arguments, what["n_threads"])
            worker.ask("run", 0)
            samples, before, peak = map(int, worker.ask("result")["rows"])
        except TaskError as error:
            return Section(title, text, facts={"failed": str(error)})
        finally:
            self.pool.drop("memory of a fit")
        sizes = {self.samples_label: samples, **beside, "resident before the fit": before, "peak": peak}
        sizes[f"beyond {own}"] = peak - before - own_bytes
        return Section(title, text, facts={name: f"{size / 2**20:,.1f} MiB" for name, size in sizes.items()})
