"""Taking turns, and what is said of the times."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """The times of one implementation's repetitions, in the order in which they were taken."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Shortest, in seconds."""
        return min(self.seconds)

    @property
    def maximum(self) -> float:
        """Longest, in seconds."""
        return max(self.seconds)


def alternate(
    runs: Mapping[str, Callable[[], float | None]], repetitions: Mapping[str, int], pause_seconds: float
) -> dict[str, Timing]:
    """Run A B C A B C …, never A A A B B B, so that a machine that gets busy is busy for all.

    Parameters
    ----------
    runs : mapping of str to callable
        Does one repetition of the named implementation; returns its seconds, or None if it failed: it then drops out.
    repetitions : mapping of str to int
        How often each takes part; one with fewer drops out of the later rounds.
    pause_seconds : float
        Rest before every repetition, for the threads of the one before to go to sleep.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(max(repetitions.values(), default=0)):
        for name, run in runs.items():
            if turn >= repetitions[name] or name not in seconds:
                continue
            time.sleep(pause_seconds)
            taken = run()
            if taken is None:
                del seconds[name]
            else:
                seconds[name].append(taken)
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def duration(seconds: float) -> str:
    """Write a time with three digits, in s or ms."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def span(values: Sequence[float]) -> str:
    """Write the smallest and the largest time."""
    return f"{duration(min(values))} – {duration(max(values))}"
