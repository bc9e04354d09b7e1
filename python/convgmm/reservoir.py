"""A bounded sample of any number of samples: which ones, their places alone decide."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .source import Block

#: What the samples of a reservoir fill at most, 128 MiB: 500,000 patches of 8×8 in float32.
RESERVOIR_BYTES = 1 << 27
# Samples that are copied at a time from one reservoir to another.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Reservoir:
    """Samples drawn without replacement, in proportion to their weights; two add up to that of both their samples.

    Each sample has a key −log(u) / w, with u uniform and w its weight, and those of the smallest keys are kept
    (Efraimidis and Spirakis, Information Processing Letters 2006). u is a hash of the seed and of the sample's place,
    so neither blocks nor workers change what is kept.

    Attributes
    ----------
    capacity : int
        Most samples.
    samples : ndarray of shape (m, n_features)
        In the order of their places.
    weight : ndarray of shape (m,), float64, or None
        Their weights; None: all 1.
    places, numbers : ndarray of shape (m,), int64
        Where they stand in the source, and the caller's numbers.
    keys : ndarray of shape (m,), float64
        Of the draw.
    n_seen : int
        How many samples they were drawn from.
    """

    capacity: int
    samples: NDArray[np.floating[Any]]
    weight: NDArray[np.float64] | None
    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    keys: NDArray[np.float64]
    n_seen: int

    @classmethod
    def of(cls, block: Block, seed: int, capacity: int | None = None, below: float = np.inf) -> "Reservoir":
        """Draw from a block; only samples of keys below `below`, where it is known that no others will be kept."""
        n, D = block.samples.shape
        if capacity is None:
            capacity = max(1, RESERVOIR_BYTES // (D * block.samples.itemsize))
        places = np.arange(block.first, block.first + n)
        keys = -np.log(uniform(seed, places))
        if block.weight is not None:
            keys /= block.weight
        kept = np.flatnonzero(keys < below)
        if len(kept) > capacity:
            kept = np.sort(kept[np.argpartition(keys[kept], capacity - 1)[:capacity]])
        numbers = places if block.numbers is None else np.asarray(block.numbers, dtype=np.int64)
        weight = None if block.weight is None else block.weight[kept]
        # Of few samples a copy: what is kept must not keep the block.
        return cls(capacity, block.samples[kept], weight, places[kept], numbers[kept], keys[kept], n)

    def __add__(self, other: "Reservoir") -> "Reservoir":
        return Reservoir.merged([self, other])

    @classmethod
    def merged(cls, parts: Sequence["Reservoir"]) -> "Reservoir":
        """Return the sum of all parts. Beside them no more samples are held than are kept."""
        n_seen = sum(part.n_seen for part in parts)
        filled = [part for part in parts if len(part.keys)] or parts[:1]
        first = filled[0]
        if len(filled) == 1:
            return replace(first, n_seen=n_seen)
        keys, places, numbers = (
            np.concatenate([getattr(part, name) for part in filled]) for name in ("keys", "places", "numbers")
        )
        kept = np.arange(len(keys))
        if len(keys) > first.capacity:
            kept = np.argpartition(keys, first.capacity - 1)[: first.capacity]
        kept = kept[np.argsort(places[kept])]
        samples = np.empty((len(kept), first.samples.shape[1]), dtype=first.samples.dtype)
        begin = 0
        for part in filled:
            end = begin + len(part.keys)
            own = np.flatnonzero((kept >= begin) & (kept < end))
            for i in range(0, len(own), _ROWS):
                samples[own[i : i + _ROWS]] = part.samples[kept[own[i : i + _ROWS]] - begin]
            begin = end
        weight: NDArray[np.float64] | None = None
        if any(part.weight is not None for part in filled):
            weights = [np.ones(len(part.keys)) if part.weight is None else part.weight for part in filled]
            weight = np.concatenate(weights)[kept]
        return cls(first.capacity, samples, weight, places[kept], numbers[kept], keys[kept], n_seen)

    def block(self) -> Block:
        """Return the samples as a block: with their weights if it holds all that were seen, else of equal ones.

        What was drawn in proportion to weights has them already.
        """
        weight = self.weight if self.n_seen == len(self.keys) else None
        return Block(self.samples, weight, numbers=self.numbers)


class Drawing:
    """Draws a reservoir from one block after another.

    Parameters
    ----------
    seed : int
        Of the draw.
    capacity : int or None, default=None
        Most samples; None: as many as fit into `RESERVOIR_BYTES`.
    """

    def __init__(self, seed: int, capacity: int | None = None) -> None:
        self._seed, self._capacity = seed, capacity
        self._parts: list[Reservoir] = []

    def add(self, block: Block) -> None:
        """Draw from a block."""
        whole = self._parts[0] if self._parts else None
        full = whole is not None and len(whole.keys) == whole.capacity
        below = float(whole.keys.max()) if whole is not None and full else np.inf
        self._parts.append(Reservoir.of(block, self._seed, self._capacity, below))
        # To add up copies the whole: not for a few samples.
        enough = self._parts[0].capacity // 4 if full else len(self._parts[0].keys)
        if sum(len(part.keys) for part in self._parts[1:]) > enough:
            self.reservoir()

    def reservoir(self) -> Reservoir:
        """Return what was drawn."""
        self._parts = [Reservoir.merged(self._parts)]
        return self._parts[0]


def reservoir_seed(rng: np.random.RandomState | None) -> int:
    """Return the seed of a reservoir for a start that `rng` will draw, which stays as it is."""
    return int((np.random.RandomState(0) if rng is None else deepcopy(rng)).randint(np.iinfo(np.int32).max))


def uniform(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a number in (0, 1) for each key (seed, number), (n,): by the hash that the core draws by."""
    state = np.zeros(len(numbers), dtype=np.uint64)
    for part in (np.uint64(seed), numbers.astype(np.uint64)):
        state = (state ^ part) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
