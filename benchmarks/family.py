"""What is measured of either family of components: iterations, their threads in turns, and the memory of a fit."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from convgmm import _core, _cpu
from measure import Candidate, Group, Judgement, Result, Rules, measure
from problem import Problem, Store
from report import Section
from workers import Pool, TaskError

# What a component's factors and sums need at most, in values for each of its parameters.
_PARAMETER_COPIES = 6


class Case(Protocol):
    """An EM problem: so many samples, values in each, components and threads."""

    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def n_values(self) -> int:
        """Values in a sample."""

    @property
    def n_parameters(self) -> int:
        """Values that describe a component."""

    @property
    def size(self) -> str:
        """The case in words, but for its threads."""


class Answer(Protocol):
    """What an implementation should find."""

    @property
    def log_likelihood(self) -> float:
        """Mean, in nats per sample."""

    def deviations(self, result: Result) -> dict[str, float]:
        """Return how far a result is off, by the names of the tolerances; of what it holds."""


def usable_levels() -> list[str]:
    """Return the instruction sets that are built and that this processor has, the best first."""
    supported = _cpu.processor_level()
    return sorted((level for level in _core.levels_built if level <= supported), reverse=True)


def threads_label(threads: int) -> str:
    """Write a number of threads in words."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def em_candidate(name: str, adapter: str, dtype: str, held: tuple[float, float], **rest: Any) -> Candidate:
    """Return a candidate for an EM iteration: fields of a `Candidate`, and options of the adapter's class."""
    fields = {key: rest.pop(key) for key in ("level", "needs") if key in rest}
    options = {"adapter": adapter, "dtype": dtype, **rest}
    return Candidate(name, "tasks:Step", options, blas=adapter != "convgmm", held=held, **fields)


def posterior(joint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return responsibilities (n, K) and log p(x) (n,) from joint values log π_k + log p(x|k)."""
    top = joint.max(axis=1, keepdims=True)
    gamma = np.exp(joint - top)
    total = gamma.sum(axis=1, keepdims=True)
    return gamma / total, (top + np.log(total))[:, 0]


class FamilyBenchmark(ABC):
    """The report's sections for one family.

    Attributes
    ----------
    estimator : str
        The package's estimator of this family.
    tolerances : dict
        Largest deviations from the float64 answer that are let pass, for each dtype.
    """

    estimator: ClassVar[str]
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

    def judge(self, case: Any, problem: Problem, candidate: Candidate, result: Result) -> Judgement:
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
            {"problem": asdict(problem)},
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
                options={**candidate.options, "problem": asdict(replace(problem, threads=threads))},
            )
            for candidate in candidates
            for threads in sorted({1, problem.threads}, reverse=True)
        ]
        return self.measure(case, problem, group, variants)

    def memory(
        self, title: str, text: str, what: Mapping[str, Any], beside: Mapping[str, int], own: str, own_bytes: int
    ) -> Section:
        """Measure the peak memory of a fit in a process of its own, so that nothing else counts.

        Parameters
        ----------
        title, text : str
            Heading, and what is fitted.
        what : mapping
            Arguments of the task.
        beside : mapping
            Other sizes worth telling, in bytes.
        own, own_bytes : str and int
            What every fit must hold beside the samples, and how much that is.
        """
        print("memory of a fit", file=sys.stderr, flush=True)
        worker = self.pool.worker("memory of a fit")
        try:
            worker.prepare("adapters.convgmm:FitMemory", {"estimator": self.estimator, **what}, what["n_threads"])
            worker.run(0)
            found = {name: int(value) for name, value in worker.result().items()}
        except TaskError as error:
            return Section(title, text, facts={"failed": str(error)})
        finally:
            self.pool.drop("memory of a fit")
        sizes = {
            "samples": found["samples"],
            **beside,
            "resident before the fit": found["before"],
            "peak": found["peak"],
            f"beyond samples and {own}": found["peak"] - found["before"] - own_bytes,
        }
        return Section(title, text, facts={name: f"{size / 2**20:,.1f} MiB" for name, size in sizes.items()})
