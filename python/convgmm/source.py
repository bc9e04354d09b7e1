"""Where samples come from: a source gives blocks of samples, again and again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

#: Values in a block of a memory-mapped array, 16 MiB in float32.
BLOCK_VALUES = 1 << 22


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


class Blocks:
    """Samples that are asked for block by block, checked whenever they come.

    Parameters
    ----------
    given : iterable
        Yields anew, every time that it is iterated over, the same arrays (n, n_features) or (n, *shape) in the same
        order, or pairs of such an array and the weights of its samples (n,).

    Attributes
    ----------
    shape : tuple of int, or None
        Shape of a sample, as the first block has it; None: its samples are flat.
    dtype : dtype
        What samples are computed in: float32 if the first block is, else float64.
    n_features : int
        Values in a sample.

    Raises
    ------
    TypeError
        If `given` can be read only once.
    ValueError
        If there are no samples, or a block is none or not as the first; names it.
    """

    def __init__(self, given: Iterable[Any]) -> None:
        if iter(given) is given:
            raise TypeError(
                "X can be read only once, but every iteration reads all samples: pass an object whose __iter__ starts "
                "anew (not a generator), or hand its blocks to partial_fit."
            )
        self._given = given
        for index, each in enumerate(given):
            samples, _ = _parted(each)
            array = _checked(samples, None, index)
            if not len(array):
                continue
            self.first = samples
            self.shape: tuple[int, ...] | None = tuple(array.shape[1:]) if array.ndim > 2 else None
            self.dtype = array.dtype
            self.n_features = prod(array.shape[1:])
            return
        raise ValueError("Found array with 0 sample(s): X yields no samples.")

    def blocks(self) -> Iterator[Block]:
        """Yield all samples, without those of weight 0."""
        place = number = 0
        exponent: int | None = None
        for index, each in enumerate(self._given):
            samples, given_weight = _parted(each)
            array = _checked(samples, self.dtype, index)
            if array.shape[1:] != (self.shape or (self.n_features,)):
                raise ValueError(
                    f"block {index} holds samples of shape {array.shape[1:]}, but block 0 of "
                    f"{self.shape or (self.n_features,)}: all blocks of X must agree."
                )
            if not len(array):
                continue
            flat = np.require(array.reshape(len(array), self.n_features), requirements=["C", "A"])
            numbers = np.arange(number, number + len(flat))
            number += len(flat)
            n_given = len(flat)
            weight: NDArray[np.float64] | None = None
            if given_weight is not None:
                weight = _checked_weight(given_weight, len(flat), index)
                if exponent is None and weight.any():  # as in memory: only ratios count
                    exponent = int(np.frexp(weight.max())[1])
                used = np.flatnonzero(weight)
                weight = np.ldexp(weight[used], -(exponent or 0))
                if len(used) < len(flat):
                    flat, numbers = flat[used], numbers[used]
            if len(flat):
                whole = len(flat) == n_given and place == numbers[0]
                yield Block(flat, weight, place, None if whole else numbers)
            place += len(flat)


class Rows:
    """The rows of an array in blocks of a bounded size: what a memory-mapped file is read by.

    Parameters
    ----------
    array : ndarray of shape (n, …)
        Samples.
    sample_weight : ndarray of shape (n,), or None
        Their weights.
    """

    def __init__(self, array: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> None:
        self._array, self._weight = array, sample_weight
        self._size = max(1, BLOCK_VALUES // max(1, prod(array.shape[1:])))

    def __iter__(self) -> Iterator[Any]:
        for first in range(0, len(self._array), self._size):
            part = slice(first, first + self._size)
            rows = self._array[part]
            yield rows if self._weight is None else (rows, self._weight[part])


def is_source(X: Any) -> bool:
    """Say whether X yields blocks of samples, rather than being samples itself."""
    return hasattr(X, "__iter__") and not any(hasattr(X, name) for name in ("__getitem__", "__array__", "shape"))


def _parted(given: Any) -> tuple[Any, Any]:
    """Return the samples and the weights of what a source yields."""
    return given if isinstance(given, tuple) and len(given) == 2 else (given, None)


def _checked(samples: Any, dtype: Any, index: int) -> NDArray[Any]:
    try:
        wanted = [np.float64, np.float32] if dtype is None else dtype
        array = check_array(samples, dtype=wanted, order="C", allow_nd=True, ensure_min_samples=0)
    except (TypeError, ValueError) as error:
        raise type(error)(f"block {index} of X: {error}") from error
    return np.asarray(array)


def _checked_weight(given: Any, n: int, index: int) -> NDArray[np.float64]:
    weight = np.asarray(given, dtype=np.float64)
    if weight.shape != (n,):
        raise ValueError(f"block {index} of X: sample_weight has shape {weight.shape}; ({n},) is needed.")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError(f"block {index} of X: sample_weight must be finite and not negative.")
    return weight
