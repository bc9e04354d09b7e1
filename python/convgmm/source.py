"""Where samples come from: a source gives blocks of samples, again and again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive samples of a source.

    Attributes
    ----------
    samples : ndarray of shape (n, n_features), float32 or float64
        Finite values.
    weight : ndarray of shape (n,), float64, or None
        Positive weights; None: all 1.
    first : int
        The place of the first sample in the source: whatever is drawn or remembered for a sample is keyed by its
        place.
    numbers : ndarray of shape (n,), or None
        The caller's number of each sample, where samples were left out; None: `first`, `first` + 1, …
    """

    samples: NDArray[np.floating[Any]]
    weight: NDArray[np.float64] | None = None
    first: int = 0
    numbers: NDArray[np.intp] | None = None

    def number(self, index: int) -> int:
        """Return the caller's number of a sample of this block."""
        return self.first + index if self.numbers is None else int(self.numbers[index])


class Source(Protocol):
    """Something that yields the same blocks, in the same order, every time it is asked."""

    def blocks(self) -> Iterator[Block]:
        """Yield all samples, block by block."""


class InMemory:
    """All samples in one block, without those of weight 0.

    Parameters
    ----------
    samples : ndarray of shape (n, n_features)
        Checked samples.
    sample_weight : ndarray of shape (n,), float64, or None
        Finite weights, not negative.

    Raises
    ------
    ValueError
        If every weight is 0.
    """

    def __init__(self, samples: NDArray[np.floating[Any]], sample_weight: NDArray[np.float64] | None = None) -> None:
        self.block = Block(samples)
        if sample_weight is None:
            return
        largest = sample_weight.max()
        if not largest > 0:
            raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
        # Only ratios count; near 1 they fit every dtype, and a power of two changes no bits.
        weight = np.ldexp(sample_weight, -int(np.frexp(largest)[1]))
        used = np.flatnonzero(weight)
        if len(used) < len(samples):
            self.block = Block(samples[used], weight[used], numbers=used)
        else:
            self.block = Block(samples, weight)

    def blocks(self) -> Iterator[Block]:
        """Yield the block."""
        yield self.block
