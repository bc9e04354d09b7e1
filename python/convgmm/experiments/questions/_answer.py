"""What a question is, what an answer holds, and the digits that most of them ask about."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...conv import ConvGMM
from ...datasets import load_mnist

Digits = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Sizes:
    """How much data answers are got from: all seven take minutes.

    Attributes
    ----------
    classified : int
        Training digits of the classifiers whose hyper-parameters are chosen.
    discriminated : int
        Those of the classifiers that are trained against one another, with every seed.
    layered : int
        Those of layers, with every seed.
    sampled : int
        Samples that models which are drawn from are fitted to.
    phased : int
        Training digits whose phases or gains are taken away.
    shown : int
        Samples that are drawn, real ones that they are compared with, and test digits that layers are shown.
    bins : int
        Of the two-sample test.
    """

    classified: int = 60_000
    discriminated: int = 20_000
    layered: int = 3_000
    sampled: int = 20_000
    phased: int = 10_000
    shown: int = 3_000
    bins: int = 50


@dataclass(frozen=True)
class Setting:
    """Where the data is, the seeds, and the sizes."""

    data_dir: str | os.PathLike[str] | None
    seeds: range
    sizes: Sizes

    def training_digits(self, seed: int, n: int) -> Digits:
        """Return n training digits, other ones for each seed, with their classes."""
        X, y = load_mnist("train", self.data_dir)
        rows = np.random.default_rng(seed).permutation(len(X))[:n]
        return X[rows], y[rows]

    def test_digits(self) -> Digits:
        """Return all test digits with their classes."""
        return load_mnist("test", self.data_dir)

    def shown_digits(self) -> Digits:
        """Return the first test digits with their classes."""
        X, y = self.test_digits()
        return X[: self.sizes.shown], y[: self.sizes.shown]


@dataclass(frozen=True)
class Answer:
    """What is said, measured and shown: text, tables by their captions (header, then rows), pictures by their names."""

    text: str
    tables: dict[str, list[list[str]]]
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question as it was published, by its name in files, and what answers it."""

    name: str
    asked: str
    answer: Callable[[Setting], Answer]
    n_seeds: int


def spread(values: Any, digits: int = 3) -> str:
    """Return mean ± standard deviation."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def of_digits(n_components: int, seed: int, **options: Any) -> ConvGMM:
    """Return an unfitted mixture of power spectra for digits."""
    defaults = {"remove_mean": False, "reg_spectrum": 1e-2, "max_iter": 15, "tol": 0}
    return ConvGMM(n_components, random_state=seed, **(defaults | options))
