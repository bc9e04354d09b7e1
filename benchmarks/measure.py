"""Prepare, check, take turns, sum up: the same for every family of tasks."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from machine import available_memory, forced_kernels, load_average
from timing import Timing, alternate, duration
from workers import Pool, TaskError, Worker

Result = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Candidate:
    """An implementation that takes part.

    Attributes
    ----------
    name : str
        What the report calls it.
    task : str
        "module:callable" that builds the task.
    options : mapping
        Keyword arguments of its own, beside those that all candidates get.
    level : str or None
        Instruction set that convgmm must use; None where that does not matter.
    needs : str or None
        Module without which it cannot take part.
    process : str or None
        Which process it lives in, the name's own by default. No two candidates of a group share one; those of
        different groups may, which saves starting it, if they ask for the same level.
    blas : bool
        Whether its time depends on the kernels of a BLAS library. If the environment forces some, it is measured with
        those, too, and the better time counts.
    forced : bool
        Whether this is the one with the kernels that the environment forces.
    held : tuple of 2 floats
        Arrays as large as the samples, and values for each sample and component, that it holds at its peak: arrays and
        temporaries of an iteration or of a transform, counted on the safe side.
    """

    name: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    level: str | None = None
    needs: str | None = None
    process: str | None = None
    blas: bool = False
    forced: bool = False
    held: tuple[float, float] = (0, 0)

    def with_kernels(self) -> list["Candidate"]:
        """Return it with the kernels that its libraries choose, and with those that the environment forces if any."""
        if not (self.blas and forced_kernels()):
            return [self]
        return [self, replace(self, process=f"{self.place}, forced", forced=True)]

    @property
    def label(self) -> str:
        """What it is called among those of other kernels."""
        return f"{self.name}, {forced_kernels()}" if self.forced else self.name

    @property
    def place(self) -> str:
        """The name of its process."""
        return self.process or self.name

    def worker(self, pool: Pool) -> Worker:
        """Return its process."""
        return pool.worker(self.place, self.level, self.forced)


@dataclass(frozen=True)
class Row:
    """What was measured of one implementation.

    Attributes
    ----------
    name : str
        The candidate's.
    timing : Timing
        Its times.
    deviations, details, note : dict, dict and str
        How far its result was off, and numbers and words that it gave.
    kernel : str
        The BLAS library's kernels, where they matter.
    slower_kernels : dict
        Medians, in seconds, with other kernels.
    """

    name: str
    timing: Timing
    deviations: dict[str, float]
    details: dict[str, float]
    note: str = ""
    kernel: str = ""
    slower_kernels: dict[str, float] = field(default_factory=dict)

    def better(self, other: "Row") -> "Row":
        """Return the faster of two with different kernels, which names the other."""
        fast, slow = sorted((self, other), key=lambda row: row.timing.median)
        return replace(fast, slower_kernels={**fast.slower_kernels, slow.kernel: slow.timing.median})


@dataclass(frozen=True)
class Judgement:
    """Deviations of a result, the most that is let pass of each, and numbers and words to report."""

    deviations: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def faults(self) -> list[str]:
        """Say what is beyond its tolerance."""
        return [
            f"{name} off by {self.deviations[name]:.2g} where {most:.2g} is let pass"
            for name, most in self.tolerances.items()
            if not self.deviations[name] <= most
        ]


@dataclass
class Group:
    """What was measured side by side."""

    key: str
    title: str
    case: dict[str, Any] = field(default_factory=dict)  # what it was measured on, as numbers
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)  # left out because the result differs
    notes: list[str] = field(default_factory=list)
    load_before: tuple[float, float, float] = (0, 0, 0)
    load_after: tuple[float, float, float] = (0, 0, 0)

    def row(self, name: str) -> Row | None:
        """Return the row of this name, if it was measured."""
        return next((row for row in self.rows if row.name == name), None)

    def add(self, row: Row) -> None:
        """Add a row, or with other kernels the better of two."""
        known = self.row(row.name)
        if known is None:
            self.rows.append(row)
        else:
            self.rows[self.rows.index(known)] = known.better(row)

    def leave_out(self, candidate: Candidate, reason: str) -> None:
        """Note that a candidate is left out."""
        self.left_out[candidate.label] = reason

    def rejects(self, candidate: Candidate, judgement: Judgement) -> bool:
        """Say whether a result is wrong; note it if so."""
        if judgement.faults:
            reason = "its result differs: " + "; ".join(judgement.faults)
            self.wrong[candidate.label] = reason
            self.leave_out(candidate, reason)
        return bool(judgement.faults)


@dataclass(frozen=True)
class Rules:
    """How often a repetition is done, and when an implementation is left out.

    Attributes
    ----------
    repetitions, slow_repetitions : int
        How often; the second for one that needs more than `slow_seconds`.
    slow_seconds, limit_seconds : float
        One repetition must not need more than the limit.
    pause_seconds : float
        Rest before every repetition. OpenBLAS's threads were seen to spin for 0.1 s after their work before they sleep;
        they would take the processor from whoever is next.
    least_seconds : float
        A repetition of something shorter is so many runs in a row that they take this long.
    expected_seconds, expected_bytes : callable or None
        What a repetition will probably need; None where it is not known.
    """

    repetitions: int
    slow_repetitions: int
    slow_seconds: float
    limit_seconds: float
    pause_seconds: float = 0.2
    least_seconds: float = 0.5
    expected_seconds: Callable[[Candidate], float | None] | None = None
    expected_bytes: Callable[[Candidate], float] | None = None

    def reason_against(self, candidate: Candidate) -> str | None:
        """Say why a candidate is left out before it is tried, or None."""
        if candidate.needs is not None and importlib.util.find_spec(candidate.needs) is None:
            return f"{candidate.needs} is not installed"
        seconds = self.expected_seconds(candidate) if self.expected_seconds else None
        if seconds is not None and seconds > self.limit_seconds:
            return f"a repetition would need about {duration(seconds)}, more than {self.limit_seconds:g} s"
        return None

    def lacks_memory(self, candidate: Candidate) -> str | None:
        """Say how much memory a candidate needs if that is not there now, or None."""
        needed = self.expected_bytes(candidate) if self.expected_bytes else 0
        if needed > 0.8 * available_memory():
            return f"it would need about {needed / 1e9:.0f} GB of memory"
        return None


#: Whether it works, not how fast.
QUICK_RULES = Rules(
    repetitions=2, slow_repetitions=2, slow_seconds=10, limit_seconds=60, pause_seconds=0.02, least_seconds=0.02
)


def measure(
    pool: Pool,
    group: Group,
    candidates: Sequence[Candidate],
    arguments: Mapping[str, Any],
    threads: int,
    judge: Callable[[Candidate, Result], Judgement],
    rules: Rules,
) -> Group:
    """Fill a group: all are prepared and run once untimed, their results are judged, then they take turns.

    Parameters
    ----------
    pool : Pool
        Where the candidates' processes are.
    group : Group
        Is filled and returned.
    candidates : sequence of Candidate
        In the order of their turns.
    arguments : mapping
        Keyword arguments that all tasks get.
    threads : int
        How many each may use.
    judge : callable
        Says how far a result is off.
    rules : Rules
        When a candidate is left out, and how often one runs.
    """
    print(group.title, file=sys.stderr, flush=True)
    group.load_before = load_average()
    taking_part: dict[str, Candidate] = {}
    for candidate in candidates:
        if reason := rules.reason_against(candidate):
            group.leave_out(candidate, reason)
        else:
            taking_part |= {each.label: each for each in candidate.with_kernels()}
    for candidate in taking_part.values():
        candidate.worker(pool)  # starts, while others do
    kernels: dict[str, str] = {}
    repetitions: dict[str, int] = {}
    for label, candidate in taking_part.items():
        worker = candidate.worker(pool)
        try:
            if reason := rules.lacks_memory(candidate):
                group.leave_out(candidate, reason)
                continue
            kernels[label] = worker.prepare(candidate.task, {**arguments, **candidate.options}, threads)
            seconds = worker.run(rules.least_seconds)
            if seconds > rules.limit_seconds:
                took = f"a repetition took {duration(seconds)}, more than {rules.limit_seconds:g} s"
                group.leave_out(candidate, took)
            # Judged even if it is too slow: a wrong result is to be known.
            group.rejects(candidate, judge(candidate, worker.result()))
        except TaskError as error:
            group.leave_out(candidate, str(error))
            pool.drop(candidate.place)
            continue
        if label in group.left_out:
            worker.release()
        else:
            repetitions[label] = rules.slow_repetitions if seconds > rules.slow_seconds else rules.repetitions

    def run(label: str) -> float | None:
        try:
            return taking_part[label].worker(pool).run(rules.least_seconds)
        except TaskError as error:
            group.leave_out(taking_part[label], str(error))
            pool.drop(taking_part[label].place)
            return None

    timings = alternate({label: partial(run, label) for label in repetitions}, repetitions, rules.pause_seconds)
    for label, timing in timings.items():
        candidate = taking_part[label]
        worker = candidate.worker(pool)
        # Once more: what the last repetition found is what was timed.
        judgement = judge(candidate, worker.result())
        worker.release()
        if not group.rejects(candidate, judgement):
            kernel = f"{kernels[label]} ({forced_kernels()})" if candidate.forced else kernels[label]
            kernel = kernel if candidate.blas else ""
            deviations, details, note = judgement.deviations, judgement.details, judgement.note
            group.add(Row(candidate.name, timing, deviations, details, note, kernel))
    group.load_after = load_average()
    for name, reason in group.left_out.items():
        print(f"  left out: {name}: {reason}", file=sys.stderr)
    return group
