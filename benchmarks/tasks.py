"""What is timed: EM iterations and their steps, EM up to a likelihood, half spectra, extraction, a matrix product.

A task does all its setting up when it is made, the timed work in `run`, and hands over what it found in `result`.
"""

import math
import time
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np

from adapters.em import Arrays, em_class
from adapters.numpy import rfft2_columns
from convgmm.datasets import extract_patches
from problem import Problem, load_images

Part = Literal["iterate", "expect", "maximize"]

#: So many patches' spectra are compared with float64.
CHECKED_PATCHES = 500


class Task(Protocol):
    """What a worker holds."""

    def run(self) -> None:
        """Do the timed work once."""

    def result(self) -> Arrays:
        """Return what the last run found."""


def named(name: str) -> Any:
    """Return what "module:name" names."""
    module, _, inner = name.partition(":")
    return getattr(import_module(module), inner)


class Step:
    """An EM iteration from the start's parameters, or a part of it."""

    def __init__(self, adapter: str, problem: dict[str, Any], part: Part = "iterate", **options: Any) -> None:
        of = Problem(**problem)
        self.em: Any = em_class(adapter, of.family)(of, **options)  # an M-step alone asks for an `EmInSteps`
        self.em.load(of.load_samples().astype(self.em.dtype, copy=False))
        self.part = part
        if part == "maximize":
            self.em.give(of.load_beside("responsibilities"))

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

    def __init__(
        self, adapter: str, problem: dict[str, Any], target: float, most_iterations: int, **options: Any
    ) -> None:
        of = Problem(**problem)
        self.em = em_class(adapter, of.family)(of, **options)
        self.target, self.most_iterations = target, most_iterations
        self.samples = of.load_samples().astype(self.em.dtype, copy=False)

    def run(self) -> None:
        started = time.perf_counter()
        self.em.load(self.samples)
        self.load_seconds = time.perf_counter() - started
        self.em.start()
        self.iterations, self.em.log_likelihood = 0, -math.inf
        while self.em.log_likelihood < self.target and self.iterations < self.most_iterations:
            self.em.iterate()
            self.iterations += 1

    def result(self) -> Arrays:
        found = {
            "log_likelihood": self.em.log_likelihood,
            "iterations": self.iterations,
            "seconds of transform": self.load_seconds,
        }
        return {name: np.array(value) for name, value in found.items()}


class HalfSpectra:
    """Squared half spectra of patches in memory, by the function that `by` names."""

    def __init__(self, problem: dict[str, Any], by: str) -> None:
        self.problem, self.transform = Problem(**problem), named(by)
        self.patches = self.problem.load_samples()

    def run(self) -> None:
        self.power = self.transform(self.patches, self.problem.threads)

    def result(self) -> Arrays:
        some = self.power[:CHECKED_PATCHES].reshape(min(CHECKED_PATCHES, len(self.power)), -1)
        basis = self.problem.basis
        return {"power": some if some.shape[1] == len(basis.multiplicities) else some[:, rfft2_columns(basis)]}


class Extraction:
    """Random patches out of photographs in memory."""

    def __init__(self, n: int, side: int, data_dir: str | None) -> None:
        self.n, self.side = n, side
        self.images, _ = load_images(data_dir)

    def run(self) -> None:
        self.patches = extract_patches(self.images, (self.side, self.side), self.n, random_state=0)

    def result(self) -> Arrays:
        return {"shape": np.array(self.patches.shape)}


class MatrixProduct:
    """The product of two large square float32 matrices, by the function that `by` names: what the machine can do."""

    def __init__(self, size: int, threads: int, by: str) -> None:
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
        self.out = np.empty_like(a)
        self.run = named(by)(a, b, self.out, threads)

    def result(self) -> Arrays:
        return {"corner": self.out[0, 0]}
