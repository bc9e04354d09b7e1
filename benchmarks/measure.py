"""Prepare, check, take turns, sum up: the same for every family of tasks."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from machine import available_memory, load_average
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
    """

    name: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    level: str | None = None
    needs: str | None = None
    process: str | None = None


@dataclass(frozen=True)
class Row:
    """What was measured of one implementation: its times, how far its result was off, and numbers that it gave."""

    name: str
    timing: Timing
    deviations: dict[str, float]
    details: dict[str, float]


@dataclass
class Group:
    """What was measured side by side."""

    key: str
    title: str
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)  # left out because the result differs
    notes: list[str] = field(default_factory=list)
    load_before: tuple[float, float, float] = (0, 0, 0)
    load_after: tuple[float, float, float] = (0, 0, 0)

    def row(self, name: str) -> Row | None:
        """Return the row of this name, if it was measured."""
        return next((row for row in self.rows if row.name == name), None)


@dataclass(frozen=True)
class Judgement:
    """Deviations of a result, the most that is let pass of each, and numbers to report."""

    deviations: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Say what is beyond its tolerance."""
        return [
            f"{name} off by {self.deviations[name]:.2g} where {most:.2g} is let pass"
            for name, most in self.tolerances.items()
            if not self.deviations[name] <= most
        ]


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
    for candidate in candidates:
        if reason := rules.reason_against(candidate):
            group.left_out[candidate.name] = reason
        else:
            pool.worker(candidate.process or candidate.name, candidate.level)  # starts, while others do
    running: dict[str, Worker] = {}
    repetitions: dict[str, int] = {}
    for candidate in candidates:
        if candidate.name in group.left_out:
            continue
        worker = pool.worker(candidate.process or candidate.name, candidate.level)
        try:
            first = _first_seconds(worker, group, candidate, arguments, threads, judge, rules)
        except TaskError as error:
            group.left_out[candidate.name] = str(error)
            pool.drop(candidate.process or candidate.name)
            continue
        if candidate.name in group.left_out:
            worker.release()
        else:
            running[candidate.name] = worker
            slow = first > rules.slow_seconds
            repetitions[candidate.name] = rules.slow_repetitions if slow else rules.repetitions

    def run(name: str) -> float | None:
        try:
            return running[name].run(rules.least_seconds)
        except TaskError as error:
            group.left_out[name] = str(error)
            return None

    timings = alternate({name: partial(run, name) for name in running}, repetitions, rules.pause_seconds)
    for candidate in candidates:
        if (name := candidate.name) in timings:
            # Once more: what the last repetition found is what was timed.
            judgement = judge(candidate, running[name].result())
            running[name].release()
            if not _reject_faulty(group, name, judgement):
                group.rows.append(Row(name, timings[name], judgement.deviations, judgement.details))
    group.load_after = load_average()
    for name, reason in group.left_out.items():
        print(f"  left out: {name}: {reason}", file=sys.stderr)
    return group


def _first_seconds(
    worker: Worker,
    group: Group,
    candidate: Candidate,
    arguments: Mapping[str, Any],
    threads: int,
    judge: Callable[[Candidate, Result], Judgement],
    rules: Rules,
) -> float:
    """Prepare a candidate, run it once and judge it; note in the group if it is left out."""
    if reason := rules.lacks_memory(candidate):
        group.left_out[candidate.name] = reason
        return 0.0
    worker.prepare(candidate.task, {**arguments, **candidate.options}, threads)
    seconds = worker.run(rules.least_seconds)
    if seconds > rules.limit_seconds:
        group.left_out[candidate.name] = f"a repetition took {duration(seconds)}, more than {rules.limit_seconds:g} s"
    _reject_faulty(group, candidate.name, judge(candidate, worker.result()))
    return seconds


def _reject_faulty(group: Group, name: str, judgement: Judgement) -> bool:
    if judgement.faults:
        group.wrong[name] = group.left_out[name] = "its result differs: " + "; ".join(judgement.faults)
    return bool(judgement.faults)
