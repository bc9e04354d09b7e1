"""All samples of a fit in its frame, and passes over them: in memory, or read anew for every pass.

    census of blocks → frame → start → expect, expect, …

Whatever adds up may be summed elsewhere: see `Problem`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import zip_longest
from operator import add
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from . import _core
from .families import Assign, Family
from .families.family import SOFT, Data, Floats, Reading
from .model import no_density
from .reservoir import Drawing, Reservoir, reservoir_seed
from .source import Block, InMemory, Source

#: From prepared parameters to the family's statistics of some samples under them.
Sums: TypeAlias = Callable[[Any], Any]

# Samples of which something is remembered from one pass over a stream to the next, at most: 64 MiB of 4 bytes.
_MOST_REMEMBERED = 1 << 24


@dataclass(frozen=True, eq=False)
class Census:
    """What all samples together say before a fit; that of blocks adds up.

    Attributes
    ----------
    survey : object
        The family's.
    reservoir : Reservoir or None
        Samples for a start; None where all are in memory.
    n_samples, n_features : int
        Samples, and values in one.
    dtype : dtype
        What densities are computed in.
    """

    survey: Any
    reservoir: Reservoir | None
    n_samples: int
    n_features: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, family: Family, reading: Reading, n_threads: int, reservoir: Reservoir | None = None) -> "Census":
        """Return that of one block."""
        samples = reading.block.samples
        survey = family.survey(reading, n_threads)
        n, D = samples.shape
        return cls(survey, reservoir, n, D, reading.values.dtype)

    def __add__(self, other: "Census") -> "Census":
        both = None if self.reservoir is None or other.reservoir is None else self.reservoir + other.reservoir
        n_samples = self.n_samples + other.n_samples
        return Census(self.survey + other.survey, both, n_samples, self.n_features, self.dtype)


class Problem(ABC):
    """All samples in the frame of a fit, wherever they are: what `run` and its algorithms ask.

    An engine that keeps samples elsewhere derives from it: it sums the census of its blocks, and gives `expect`, the
    sum of the family's over its blocks in their order. `read` and `represent` of the family make its data; the places
    of samples are those of one numbering over all blocks.

    Parameters
    ----------
    family : Family
        Gives the verbs.
    census : Census
        Of all samples.
    n_threads : int
        Threads of the core.

    Attributes
    ----------
    frame : object
        The family's, of all samples.
    """

    def __init__(self, family: Family, census: Census, n_threads: int) -> None:
        self.family, self.census, self.n_threads = family, census, n_threads
        self.frame = family.frame(census.survey)

    @staticmethod
    def of(
        family: Family,
        source: Source,
        n_threads: int,
        rng: np.random.RandomState | None = None,
        *,
        progress: bool = False,
    ) -> "Problem":
        """Return the samples of a source: those in memory are kept as the family reads them, others read anew.

        Parameters
        ----------
        family : Family
            Gives the verbs.
        source : Source
            Samples.
        n_threads : int
            Threads of the core.
        rng : RandomState or None, default=None
            What a start will be drawn with: samples for it are drawn from a stream, without a change of `rng`.
        progress : bool, default=False
            Whether passes over a stream show a progress bar.

        Raises
        ------
        ValueError
            If the family cannot model them; says what to do.
        """
        if isinstance(source, InMemory):
            return Held(family, source, n_threads)
        return Streamed(family, source, n_threads, rng, progress=progress)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What densities are computed in."""
        return self.census.dtype

    @property
    def n_features(self) -> int:
        """Values in a sample."""
        return self.census.n_features

    @property
    def n_samples(self) -> int:
        """Samples whose weight is not 0."""
        return self.census.n_samples

    @abstractmethod
    def expect(self, prepared: Any, assign: Assign) -> Any:
        """Return the family's statistics of all samples.

        Raises
        ------
        ValueError
            If a sample has no density; names it by the caller's number.
        """

    @abstractmethod
    def batches(self, size: int, rng: np.random.RandomState) -> Iterator[Sums]:
        """Yield the sums of mini-batches of at most this size, of shuffled samples, each of which is in one of them."""

    @property
    def least_batch(self) -> int:
        """Fewest samples that a mini-batch should have here, if its size is not given."""
        return 1

    def memories(self) -> list[dict[str, Any]]:
        """Return what is remembered of samples from one pass to the next; not of mini-batches."""
        return []

    def start(self, given: Any, rng: np.random.RandomState) -> Any:
        """Return the family's starting parameters, from the samples of the reservoir."""
        assert self.census.reservoir is not None
        reading = self.family.read(self.census.reservoir.block(), self.n_threads)
        data = self.family.represent(reading, self.frame, self.n_threads)
        return self.family.start(given, data, self.frame, rng, self.n_threads)

    def some(self, n: int, rng: np.random.RandomState) -> Block:
        """Draw up to n samples, each at most once, from the reservoir."""
        assert self.census.reservoir is not None
        return drawn(self.census.reservoir.block(), n, rng)

    def whole(self) -> Floats | None:
        """Return the values of all of the caller's samples, None if they are not in memory or some were left out."""
        return None


class Held(Problem):
    """Samples in memory, in the form that the hot loop reads."""

    def __init__(self, family: Family, source: InMemory, n_threads: int) -> None:
        reading = family.read(source.block, n_threads)
        super().__init__(family, Census.of(family, reading, n_threads), n_threads)
        self.data = family.represent(reading, self.frame, n_threads)

    def expect(self, prepared: Any, assign: Assign) -> Any:
        """Return the statistics of all samples."""
        return expect(self.family, prepared, self.data, self.n_threads, assign)

    def batches(self, size: int, rng: np.random.RandomState) -> Iterator[Sums]:
        """Yield the sums of mini-batches of shuffled samples."""
        return sums(self.family, shuffled(self.data, size, rng), self.n_threads)

    def memories(self) -> list[dict[str, Any]]:
        """Return what is remembered of all samples."""
        return [self.data.memory]

    def start(self, given: Any, rng: np.random.RandomState) -> Any:
        """Return the family's starting parameters, from all samples."""
        return self.family.start(given, self.data, self.frame, rng, self.n_threads)

    def some(self, n: int, rng: np.random.RandomState) -> Block:
        """Draw up to n samples, each at most once; their weights stay as they are."""
        return drawn(self.data.block, n, rng)

    def whole(self) -> Floats | None:
        """Return the values of all samples if none was left out."""
        return self.data.values if self.data.block.numbers is None else None


class Streamed(Problem):
    """Samples that are read anew for every pass, block by block; no more than a block of them is in memory."""

    def __init__(
        self,
        family: Family,
        source: Source,
        n_threads: int,
        rng: np.random.RandomState | None = None,
        *,
        progress: bool = False,
    ) -> None:
        self._source, self._progress = source, progress
        self._memories: list[dict[str, Any]] = []
        self._lengths: list[int] = []
        drawing = Drawing(reservoir_seed(rng))
        census: Census | None = None
        for block in self._shown("survey"):
            drawing.add(block)
            found = Census.of(family, family.read(block, n_threads), n_threads)
            census = found if census is None else census + found
            if census.n_samples <= _MOST_REMEMBERED:
                self._memories.append({})
            self._lengths.append(len(block.samples))
        if census is None:
            raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
        super().__init__(family, replace(census, reservoir=drawing.reservoir()), n_threads)

    def _shown(self, what: str) -> Any:
        """Yield the blocks under a progress bar."""
        hidden = not self._progress
        return tqdm(self._source.blocks(), what, len(self._lengths) or None, leave=False, unit="block", disable=hidden)

    def data(self, what: str = "pass") -> Iterator[Data]:
        """Yield all samples in the form that the hot loop reads, block by block.

        Raises
        ------
        ValueError
            If the blocks are not as long as they were at first.
        """
        for index, (block, length) in enumerate(zip_longest(self._shown(what), self._lengths)):
            if block is None or len(block.samples) != length:
                raise ValueError(
                    f"X yielded blocks of other sizes when it was read again (from block {index} on): a source must "
                    f"yield the same samples every time, in the same blocks; fix its random state, or pass an object "
                    f"whose __iter__ starts anew."
                )
            reading = self.family.read(block, self.n_threads)
            data = self.family.represent(reading, self.frame, self.n_threads)
            memory = self._memories[index] if index < len(self._memories) else {}
            yield Data(data.values, data.block, memory)

    def expect(self, prepared: Any, assign: Assign) -> Any:
        """Return the statistics of all samples, added up in the order of the blocks."""
        return reduce(add, (expect(self.family, prepared, data, self.n_threads, assign) for data in self.data()))

    def batches(self, size: int, rng: np.random.RandomState) -> Iterator[Sums]:
        """Yield the sums of mini-batches of samples that are shuffled within each block."""
        for data in self.data("epoch"):
            yield from sums(self.family, shuffled(data, size, rng), self.n_threads)

    def memories(self) -> list[dict[str, Any]]:
        """Return what is remembered of the first blocks."""
        return self._memories


def shuffled(data: Data, size: int, rng: np.random.RandomState) -> Iterator[Data]:
    """Yield samples in mini-batches of about the same size, at most `size`, in random order."""
    n = len(data.values)
    for rows in np.array_split(rng.permutation(n), -(-n // size)):
        yield chosen(data, rows)


def chosen(data: Data, rows: NDArray[np.intp]) -> Data:
    """Return some samples; which of them are together is what counts, not their order."""
    block, rows = data.block, np.sort(rows)
    numbers = block.first + rows if block.numbers is None else block.numbers[rows]
    values = data.values[rows]
    return Data(values, Block(values, None if block.weight is None else block.weight[rows], 0, numbers))


def sums(family: Family, parts: Iterable[Data], n_threads: int) -> Iterator[Sums]:
    """Yield the sums of each of these parts."""
    for data in parts:
        yield partial(expect, family, data=data, n_threads=n_threads, assign=SOFT)


def drawn(block: Block, n: int, rng: np.random.RandomState) -> Block:
    """Draw up to n samples of a block, each at most once."""
    rows = rng.permutation(len(block.samples))[:n]
    return Block(block.samples[rows], None if block.weight is None else block.weight[rows])


def expect(family: Family, prepared: Any, data: Data, n_threads: int, assign: Assign) -> Any:
    """Return the family's statistics of some samples; a sample without density is named by the caller's number."""
    try:
        return family.expect(prepared, data, n_threads, assign)
    except _core.NoDensity as error:
        raise no_density(data.block.number(int(error.args[0]))) from None
