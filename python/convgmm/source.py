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


@dataclass(frozen=True)
class Layout:
    """What all blocks of a source agree in.

    Attributes
    ----------
    shape : tuple of int
        Shape of a sample, as the first block has it.
    dtype : dtype
        What samples are computed in: float32 if the first block is, else float64.
    weighted : bool
        Whether their samples have weights.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    weighted: bool

    @classmethod
    def of(cls, array: NDArray[Any], weight: NDArray[np.float64] | None) -> "Layout":
        """Return that of a block."""
        return cls(array.shape[1:], array.dtype, weight is not None)


class Blocks:
    """Samples that are asked for block by block, checked whenever they come.

    Parameters
    ----------
    given : iterable
        Yields anew, every time that it is iterated over, the same arrays (n, n_features) or (n, *shape) in the same
        order, or pairs of such an array and the weights of its samples (n,).

    Attributes
    ----------
    first : array-like
        The first block that is not empty, as it was given.

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
            array, weight = checked_block(each, index, None)
            if len(array):
                self.first, self._layout = parted(each)[0], Layout.of(array, weight)
                return
        raise ValueError("Found array with 0 sample(s): X yields no samples.")

    def pieces(self) -> Iterator[tuple[NDArray[Any], NDArray[np.float64] | None]]:
        """Yield the checked arrays, each with the weights of its samples or None."""
        for index, each in enumerate(self._given):
            yield checked_block(each, index, self._layout)

    def blocks(self) -> Iterator[Block]:
        """Yield all samples, without those of weight 0."""
        place = number = 0
        exponent: int | None = None
        for array, weight in self.pieces():
            exponent = weight_exponent(weight) if exponent is None else exponent
            block = block_of(array, weight, exponent or 0, place, number)
            number += len(array)
            place += len(block.samples)
            if len(block.samples):
                yield block


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


def checked_block(given: Any, index: int, layout: Layout | None) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Return the samples (n, n_features or *shape) and the weights (n,) of what a source yields, checked.

    Raises
    ------
    TypeError, ValueError
        If it holds no samples, or others than the layout says; names the block.
    """
    samples, given_weight = parted(given)
    wanted = [np.float64, np.float32] if layout is None else layout.dtype
    try:
        array = check_array(samples, dtype=wanted, order="C", allow_nd=True, ensure_min_samples=0)
    except (TypeError, ValueError) as error:
        raise type(error)(f"block {index} of X: {error}") from error
    if layout is not None and array.shape[1:] != layout.shape:
        raise ValueError(
            f"block {index} holds samples of shape {array.shape[1:]}, but block 0 of {layout.shape}: all blocks of X "
            f"must agree."
        )
    weight = None if given_weight is None else _checked_weight(given_weight, len(array), index)
    if layout is not None and len(array) and (weight is not None) != layout.weighted:
        raise ValueError(
            f"block {index} of X has {'no ' if layout.weighted else ''}weights, unlike block 0: give weights with "
            f"every block, or with none."
        )
    return np.asarray(array), weight


def weight_exponent(weight: NDArray[np.float64] | None) -> int | None:
    """Return the power of 2 by which weights are divided, None if all are 0: only ratios count, as in memory."""
    return None if weight is None or not weight.any() else int(np.frexp(weight.max())[1])


def block_of(array: NDArray[Any], weight: NDArray[np.float64] | None, exponent: int, place: int, number: int) -> Block:
    """Return checked samples as a block, without those of weight 0.

    Parameters
    ----------
    array : ndarray of shape (n, n_features) or (n, *shape)
        Samples.
    weight : ndarray of shape (n,) or None
        Weights.
    exponent : int
        The power of 2 by which all blocks' weights are divided.
    place, number : int
        How many samples of positive weight, and how many in all, are in the blocks before.
    """
    flat = np.require(array.reshape(len(array), prod(array.shape[1:])), requirements=["C", "A"])
    numbers = np.arange(number, number + len(flat))
    if weight is not None:
        used = np.flatnonzero(weight)
        weight = np.ldexp(weight[used], -exponent)
        if len(used) < len(flat):
            flat, numbers = flat[used], numbers[used]
    whole = len(flat) == len(array) and place == number
    return Block(flat, weight, place, None if whole else numbers)


def parted(given: Any) -> tuple[Any, Any]:
    """Return the samples and the weights of what a source yields."""
    return given if isinstance(given, tuple) and len(given) == 2 else (given, None)


def _checked_weight(given: Any, n: int, index: int) -> NDArray[np.float64]:
    weight = np.asarray(given, dtype=np.float64)
    if weight.shape != (n,):
        raise ValueError(f"block {index} of X: sample_weight has shape {weight.shape}; ({n},) is needed.")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError(f"block {index} of X: sample_weight must be finite and not negative.")
    return weight
