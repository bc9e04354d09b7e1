"""Which full-covariance problems are measured."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from convgmm import FullGMM
from measure import QUICK_RULES, Rules

TITLES = {
    "digits": "MNIST digits",
    "synthetic": "A known mixture",
    "patches": "Patches of 8×8",
}


@dataclass(frozen=True)
class FullCase:
    """An EM problem: n samples of d features, k components.

    Patches have 64 pixels; with fewer features they are those of the largest variance after a rotation.
    """

    data: Literal["digits", "synthetic", "patches"]
    n: int
    d: int
    k: int

    @property
    def label(self) -> str:
        """Name the case in one line."""
        return f"N = {self.n:,}, D = {self.d}, K = {self.k}"

    @property
    def own_dtypes(self) -> list[str]:
        """What convgmm computes in from float32 samples, which depends on their features, and from float64 ones."""
        computed = FullGMM()._validate(np.zeros((2, self.d), dtype=np.float32), reset=True).dtype.name
        return list(dict.fromkeys([computed, "float64"]))


@dataclass(frozen=True)
class FullPlan:
    """Everything that a run measures, and how often."""

    cases: tuple[FullCase, ...]
    memory_case: FullCase
    threads: int
    iterations: int  # EM iterations that lead to the parameters
    rules: Rules
    reg_covar: float = 1e-6  # is added to the diagonal of every updated covariance


def full_plan(threads: int) -> FullPlan:
    """Return what the published tables hold."""
    digits = FullCase("digits", 60_000, 784, 32)
    return FullPlan(
        cases=(
            FullCase("digits", 10_000, 784, 32),
            digits,
            FullCase("synthetic", 20_000, 784, 10),
            FullCase("patches", 200_000, 64, 200),
            FullCase("patches", 200_000, 32, 32),
            FullCase("patches", 200_000, 8, 32),
        ),
        memory_case=digits,
        threads=threads,
        iterations=5,
        rules=Rules(repetitions=9, slow_repetitions=2, slow_seconds=1.5, limit_seconds=150),
    )


def quick_plan(threads: int) -> FullPlan:
    """Return the same on problems so small that only the working can be judged, not the speed."""
    digits = FullCase("digits", 1_000, 784, 3)
    return FullPlan(
        cases=(
            digits,
            FullCase("synthetic", 1_000, 196, 3),
            FullCase("patches", 4_000, 64, 10),
            FullCase("patches", 4_000, 8, 4),
        ),
        memory_case=digits,
        threads=threads,
        iterations=2,
        rules=QUICK_RULES,
    )
