"""Prepare, check, take turns, sum up: the same for every kind of task."""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from machine import available_memory, forced_kernels, load_average
from workers import Pool, TaskError, Worker

Result = dict[str, Any]


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
    blas: bool = False
    forced: bool = False
    held: tuple[float, float] = (0, 0)

    @property
    def label(self) -> str:
        """What it is called among those of other kernels; its process, too, where groups that come later find it."""
        return f"{self.name}, {forced_kernels()}" if self.forced else self.name

    def with_kernels(self) -> list["Candidate"]:
        """Return it with the kernels that its libraries choose, and with those that the environment forces if any."""
        return [self, replace(self, forced=True)] if self.blas and forced_kernels() else [self]

    def worker(self, pool: Pool) -> Worker:
        """Return its process."""
        return pool.worker(self.label, self.level, self.forced)


@dataclass(frozen=True)
class Judgement:
    """Deviations of a result, the most that is let pass of each, and numbers and words to report."""

    deviations: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def faults(self) -> str:
        """What is beyond its tolerance; "" if nothing is."""
        off = [
            f"{name} off by {self.deviations[name]:.2g} where {most:.2g} is let pass"
            for name, most in self.tolerances.items()
            if not self.deviations[name] <= most
        ]
        return "its result differs: " + "; ".join(off) if off else ""


@dataclass(frozen=True)
class Row:
    """What was measured of one implementation: its repetitions' seconds, in their order, and what it found.

    `kernel` is that of the BLAS library, where it matters; `slower_kernels` has the medians with others.
    """

    name: str
    median: float
    seconds: list[float]
    judgement: Judgement
    kernel: str = ""
    slower_kernels: dict[str, float] = field(default_factory=dict)

    def better(self, other: "Row") -> "Row":
        """Return the faster of two with different kernels, which names the other."""
        fast, slow = sorted((self, other), key=lambda row: row.median)
        return replace(fast, slower_kernels={slow.kernel: slow.median})


@dataclass
class Group:
    """What was measured side by side."""

    title: str
    case: dict[str, Any] = field(default_factory=dict)  # what it was measured on, in numbers
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

    def rejects(self, candidate: Candidate, judgement: Judgement) -> bool:
        """Say whether a result is wrong; note it if so."""
        if faults := judgement.faults:
            self.wrong[candidate.label] = self.left_out[candidate.label] = faults
        return bool(faults)


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
    expected_seconds, expected_bytes : callable
        What a repetition will probably need; None where it is not known.
    """

    repetitions: int
    slow_repetitions: int
    slow_seconds: float
    limit_seconds: float
    pause_seconds: float = 0.2
    least_seconds: float = 0.5
    expected_seconds: Callable[[Candidate], float | None] = lambda _: None
    expected_bytes: Callable[[Candidate], float] = lambda _: 0

    def reason_against(self, candidate: Candidate) -> str | None:
        """Say why a candidate is left out before it is tried, or None."""
        if candidate.needs is not None and importlib.util.find_spec(candidate.needs) is None:
            return f"{candidate.needs} is not installed"
        seconds = self.expected_seconds(candidate)
        if seconds is not None and seconds > self.limit_seconds:
            return f"a repetition would need about {duration(seconds)}, more than {self.limit_seconds:g} s"
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
    kernels: dict[str, str] = {}

    def first_seconds(candidate: Candidate) -> float:
        """Prepare a candidate, run it once and judge it; raise a TaskError if it is left out."""
        if (needed := rules.expected_bytes(candidate)) > 0.8 * available_memory():
            raise TaskError(f"it would need about {needed / 1e9:.0f} GB of memory")
        worker = candidate.worker(pool)
        kernels[candidate.label] = worker.ask("prepare", candidate.task, {**arguments, **candidate.options}, threads)
        seconds: float = worker.ask("run", rules.least_seconds)
        # Judged even if it is too slow: a wrong result is to be known.
        if group.rejects(candidate, judge(candidate, worker.ask("result"))):
            raise TaskError(group.wrong[candidate.label])
        if seconds > rules.limit_seconds:
            raise TaskError(f"a repetition took {duration(seconds)}, more than {rules.limit_seconds:g} s")
        return seconds

    def leave_out(candidate: Candidate, reason: str) -> None:
        group.left_out[candidate.label] = reason
        pool.drop(candidate.label)  # with the memory that its task holds

    taking_part: dict[str, Candidate] = {}
    for candidate in candidates:
        if reason := rules.reason_against(candidate):
            group.left_out[candidate.name] = reason
        else:
            taking_part |= {each.label: each for each in candidate.with_kernels()}
    for candidate in taking_part.values():
        candidate.worker(pool)  # starts, while others do
    repetitions: dict[str, int] = {}
    for label, candidate in taking_part.items():
        try:
            slow = first_seconds(candidate) > rules.slow_seconds
            repetitions[label] = rules.slow_repetitions if slow else rules.repetitions
        except TaskError as error:
            leave_out(candidate, str(error))

    # A B C A B C …, never A A A B B B, so that a machine that gets busy is busy for all.
    seconds: dict[str, list[float]] = {label: [] for label in repetitions}
    for turn in range(max(repetitions.values(), default=0)):
        for label in [each for each in seconds if turn < repetitions[each]]:
            time.sleep(rules.pause_seconds)
            try:
                seconds[label].append(taking_part[label].worker(pool).ask("run", rules.least_seconds))
            except TaskError as error:
                leave_out(taking_part[label], str(error))
                del seconds[label]
    for label, taken in seconds.items():
        candidate = taking_part[label]
        worker = candidate.worker(pool)
        # Once more: what the last repetition found is what was timed.
        judgement = judge(candidate, worker.ask("result"))
        worker.ask("release")
        if not group.rejects(candidate, judgement):
            kernel = kernels[label] + f" ({forced_kernels()})" * candidate.forced
            group.add(Row(candidate.name, statistics.median(taken), taken, judgement, kernel if candidate.blas else ""))
    group.load_after = load_average()
    for name, reason in group.left_out.items():
        print(f"  left out: {name}: {reason}", file=sys.stderr)
    return group


def duration(seconds: float) -> str:
    """Write a time with three digits, in s or ms."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def span(values: Sequence[float]) -> str:
    """Write the smallest and the largest time."""
    return f"{duration(min(values))} – {duration(max(values))}"
