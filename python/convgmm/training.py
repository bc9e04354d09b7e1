"""Runs from several starts, told to a callback and kept in a checkpoint."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .checkpoint import Checkpoint
from .em import Best, Fit, Iteration, Options, run
from .families import CollapseError
from .model import Model
from .monitor import Monitor
from .problem import Problem


@dataclass(frozen=True)
class Training:
    """All runs of a fit.

    Attributes
    ----------
    problem : Problem
        The samples.
    n_runs : int
        How many starts.
    begin : callable
        Returns the options of the next run, its starting parameters, and the bound that it goes on from or None.
    rng : RandomState
        What `begin` draws from.
    model : callable
        Makes a model of a fit.
    then : callable
        What follows a run: takes its fits, and yields them and more.
    monitor : Monitor
        Says when a run has converged.
    callback : callable or None
        Is told every iteration; what it returns ends the run if it is true.
    checkpoint : Checkpoint or None
        Where the fit may go on from.
    progress : bool
        Whether a progress bar is shown.
    """

    problem: Problem
    n_runs: int
    begin: Callable[[], tuple[Options, Any, float | None]]
    rng: np.random.RandomState
    model: Callable[[Fit], Model]
    then: Callable[[Iterator[Fit]], Iterator[Fit]]
    monitor: Monitor = field(default_factory=Monitor)
    callback: Callable[[Iteration], Any] | None = None
    checkpoint: Checkpoint | None = None
    progress: bool = False

    def run(self, best: Best[Any]) -> None:
        """Run from every start, or from where the checkpoint says, and tell `best`.

        Raises
        ------
        CollapseError
            If no run can be used.
        ValueError
            If the checkpoint cannot be gone on from.
        """
        reached = self.checkpoint.read() if self.checkpoint else None
        if reached is not None:
            best.collapses += [CollapseError(message) for message in reached["collapses"]]
            if reached["best"] is not None:
                best.consider(iter([reached["best"]]))
        for number in range(reached["run"] if reached else 0, self.n_runs):
            here = reached if reached and reached["run"] == number else None
            best.consider(self.then(self._iterations(number, best, here)))
        if best.result is None:
            raise best.collapses[0]

    def _iterations(self, number: int, best: Best[Any], reached: dict[str, Any] | None) -> Iterator[Fit]:
        after: Fit | None = None
        if reached is None:
            options, start, previous = self.begin()
        else:
            after, start, previous = reached["fit"], reached["start"], reached["previous"]
            options = replace(reached["options"], progress=self.progress, monitor=self.monitor)
            self.rng.set_state(reached["rng"])
            for memory, kept in zip(self.problem.memories(), reached["memories"], strict=True):
                memory.update(kept)
            assert after is not None
            yield after
        for fit in run(self.problem, start, options, previous, after):
            if self.checkpoint:
                self.checkpoint.write(
                    {
                        "run": number,
                        "options": replace(options, monitor=Monitor()),  # which is not written: the fit gives its own
                        "start": start,
                        "previous": previous,
                        "fit": fit,
                        "best": best.fit,
                        "collapses": [str(collapse) for collapse in best.collapses],
                        "rng": self.rng.get_state(legacy=False),
                        "memories": self.problem.memories(),
                    }
                )
            yield fit
            if self.callback and self.callback(Iteration(number, fit, self.model)):
                return
