"""What is timed: an EM iteration or a step of it, EM up to a likelihood, and single functions.

A task does all its setting up when it is made, the timed work in `run`, and hands over what it found in `result`.
"""

import math
import time
from importlib import import_module
from typing import Any

import numpy as np

from adapters.em import Arrays, Em
from problem import Problem

#: So many rows of what a function returned are handed over.
HANDED_ROWS = 500


def _em(adapter: str, problem: Problem, options: dict[str, Any]) -> Em:
    em: Em = import_module(f"adapters.{adapter}").EM[problem.family](problem, **options)
    return em


class Step:
    """An EM iteration from the start's parameters; or `part` of it, "expect" or "maximize"."""

    def __init__(self, adapter: str, problem: Problem, part: str = "iterate", **options: Any) -> None:
        self.em, self.part = _em(adapter, problem, options), part
        self.em.load(problem.load_samples().astype(self.em.dtype, copy=False))
        if part == "maximize":
            self.em.give(problem.load_beside("responsibilities"))

    def run(self) -> None:
        self.em.start()
        getattr(self.em, self.part)()

    def result(self) -> Arrays:
        found: Arrays = self.em.details()
        if self.part != "maximize":
            found["log_likelihood"] = np.array(self.em.log_likelihood)
        if self.part == "expect":
            found["responsibility"] = self.em.responsibility()
        else:
            found |= self.em.parameters()
            found["responsibility"] = found.pop("weights") * self.em.problem.n
        return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


class Climb:
    """From samples in memory to a likelihood: transform, then EM until its E-step finds at least `target`."""

    def __init__(self, adapter: str, problem: Problem, target: float, most_iterations: int, **options: Any) -> None:
        self.em = _em(adapter, problem, options)
        self.target, self.most_iterations = target, most_iterations
        self.samples = problem.load_samples().astype(self.em.dtype, copy=False)

    def run(self) -> None:
        started = time.perf_counter()
        self.em.load(self.samples)
        self.load_seconds = time.perf_counter() - started
        self.em.start()
        self.iterations, self.em.log_likelihood = 0, -math.inf
        while self.em.log_likelihood < self.target and self.iterations < self.most_iterations:
            self.em.iterate()
            self.iterations += 1

    def result(self) -> dict[str, float]:
        return {
            "log_likelihood": self.em.log_likelihood,
            "iterations": self.iterations,
            "seconds of transform": self.load_seconds,
        }


class Call:
    """A function without arguments that returns an array: what `maker`, "module:function", returns for its own."""

    def __init__(self, maker: str, **arguments: Any) -> None:
        module, _, name = maker.partition(":")
        self.function = getattr(import_module(module), name)(**arguments)

    def run(self) -> None:
        self.found = self.function()

    def result(self) -> dict[str, Any]:
        return {"shape": self.found.shape, "rows": self.found[:HANDED_ROWS]}
