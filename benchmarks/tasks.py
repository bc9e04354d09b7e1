"""What is timed beside single iterations: EM up to a likelihood, half spectra, extraction, a matrix product.

A task does all its setting up when it is made, the timed work in `run`, and hands over what it found in `result`.
"""

import math
import time
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from convgmm.datasets import extract_patches
from implementations import FAMILIES, Em, half_transform, rfft2_columns, squared_modulus
from problem import Problem, load_images

#: So many patches' spectra are compared with float64.
CHECKED_PATCHES = 500

_TRANSFORM_BLOCK = 8192


class Task(Protocol):
    """What a worker holds."""

    def run(self) -> None:
        """Do the timed work once."""

    def result(self) -> dict[str, Any]:
        """Return what the last run found, as arrays or numbers."""


class Climb:
    """From patches in memory to a likelihood: transform, then EM until its E-step finds at least `target`."""

    def __init__(self, em: Em, target: float, most_iterations: int) -> None:
        self.em, self.target, self.most_iterations = em, target, most_iterations
        self.patches = em.problem.load_patches().astype(em.dtype, copy=False)

    def run(self) -> None:
        started = time.perf_counter()
        self.em.load(self.patches)
        self.load_seconds = time.perf_counter() - started
        self.em.start()
        self.iterations, self.log_likelihood = 0, -math.inf
        while self.log_likelihood < self.target and self.iterations < self.most_iterations:
            self.log_likelihood = self.em.step()
            self.iterations += 1

    def result(self) -> dict[str, Any]:
        return {
            "log_likelihood": self.log_likelihood,
            "iterations": self.iterations,
            "seconds of transform": self.load_seconds,
        }


def climb(family: str, *, target: float, most_iterations: int, **options: Any) -> Climb:
    """Build the task for one of `implementations.FAMILIES`."""
    return Climb(FAMILIES[family](**options), target, most_iterations)


class HalfSpectra:
    """Squared half spectra of patches in memory; by an rfft2 and a squared modulus, or by convgmm."""

    def __init__(self, problem: dict[str, Any], by: str) -> None:
        self.problem = Problem(**problem)
        self.patches = self.problem.load_patches()
        self.by = by

    def run(self) -> None:
        self.power = getattr(self, f"_by_{self.by}")()

    def _by_convgmm(self) -> NDArray[np.floating[Any]]:
        return self.problem.half.coefficients(self.patches.reshape(len(self.patches), -1), self.problem.threads)

    def _by_numpy(self) -> NDArray[np.floating[Any]]:
        return squared_modulus(np.fft.rfft2(self.patches, norm="ortho"))

    def _by_scipy(self) -> NDArray[np.floating[Any]]:
        return squared_modulus(fft.rfft2(self.patches, norm="ortho", workers=self.problem.threads))

    def _by_numpy_in_blocks(self) -> NDArray[np.floating[Any]]:
        out = np.empty((len(self.patches), self.problem.side, self.problem.side // 2 + 1), dtype=np.float32)
        for first in range(0, len(out), _TRANSFORM_BLOCK):
            block = self.patches[first : first + _TRANSFORM_BLOCK]
            out[first : first + len(block)] = squared_modulus(np.fft.rfft2(block, norm="ortho"))
        return out

    def result(self) -> dict[str, Any]:
        some = self.power[:CHECKED_PATCHES]
        if self.by != "convgmm":
            some = some.reshape(len(some), -1)[:, rfft2_columns(self.problem.half)]
        return {"power": some}


def expected_power(problem: Problem) -> NDArray[np.float64]:
    """Return the float64 answer to `HalfSpectra`."""
    patches = np.array(np.load(problem.patches, mmap_mode="r")[: min(CHECKED_PATCHES, problem.n)], dtype=np.float64)
    return squared_modulus(half_transform(patches, problem.half)).astype(np.float64)


class Extraction:
    """Random patches out of photographs in memory."""

    def __init__(self, n: int, side: int, data_dir: str | None) -> None:
        self.n, self.side = n, side
        self.images, _ = load_images(data_dir)

    def run(self) -> None:
        self.patches = extract_patches(self.images, (self.side, self.side), self.n, random_state=0)

    def result(self) -> dict[str, Any]:
        return {"shape": np.array(self.patches.shape)}


class MatrixProduct:
    """The product of two large square float32 matrices by NumPy or PyTorch: what the machine can do."""

    def __init__(self, size: int, threads: int, by: str) -> None:
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
        self.out = np.empty_like(a)
        if by == "numpy":
            self.run = partial(np.matmul, a, b, out=self.out)
        else:
            import torch  # noqa: PLC0415 - an optional peer

            torch.set_num_threads(threads)
            self.run = partial(torch.mm, *map(torch.from_numpy, (a, b)), out=torch.from_numpy(self.out))

    def result(self) -> dict[str, Any]:
        return {"corner": self.out[0, 0]}
