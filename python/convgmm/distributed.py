"""Mixtures on a Dask cluster: samples stay on the workers, and only sums travel.

    from dask.distributed import Client
    from convgmm import ConvGMM, distributed

    client = Client("scheduler:8786")           # or none: a local cluster is made
    model = distributed.fit(ConvGMM(200), X)    # X: a dask.array chunked by rows
    labels = distributed.predict(model, X)      # lazy

It needs Dask: ``pip install 'convgmm[distributed]'``.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checkpoint import content
from .estimator import Mixture
from .extras import require
from .families import Assign, Family
from .families.family import SOFT, Data, Reading
from .problem import Census, Problem, Sums, chosen, expect
from .reservoir import Drawing, reservoir_seed
from .source import Layout, block_of, checked_block, weight_exponent

if TYPE_CHECKING:
    from dask.array import Array
    from dask.distributed import Client

M = TypeVar("M", bound=Mixture)
T = TypeVar("T")

#: How often a pass is begun anew when workers are lost in it.
_ATTEMPTS = 5
#: Which share of an iteration's time is to be left, at most, when blocks are moved.
_WORTH_MOVING = 0.95
#: How many results are added up at one place.
_MOST_SUMS = 8


def fit(
    mixture: M,
    X: Array | Sequence[Any],
    sample_weight: Array | ArrayLike | Sequence[Any] | None = None,
    *,
    client: Client | None = None,
) -> M:
    """Train a mixture on samples that a cluster holds.

    Every pass is one task on each worker that holds samples, with as many threads as the worker has; the sums of its
    samples, not the samples, travel. What is held for the fit, transformed or rotated samples, is about as large as
    they are. Where a worker is lost, what it held is computed anew from the graph of `X`.

    Every way to train is known here too. With ``algorithm="online"`` each mini-batch takes its share of samples from
    every block, and is a trip to the workers: if `batch_size` is not given, it is at least a hundredth of all samples.
    A fit that goes on from a `checkpoint` needs the same blocks, and ends as one that was never cut off up to rounding,
    as the workers may hold other blocks then.

    Parameters
    ----------
    mixture : ConvGMM, FullGMM or another mixture
        Its parameters say how; it is fitted in place. Starts are drawn from some of the samples.
    X : dask.array of shape (n, n_features) or (n, *shape), or sequence of delayed arrays or futures
        Samples; an array chunked by rows alone, ``X.rechunk((rows, -1))``.
    sample_weight : dask.array or array-like of shape (n,), or sequence as X, default=None
        Weight of each sample, not negative.
    client : dask.distributed.Client, default=None
        The cluster. None: the current client's, or, without one, a local cluster for the time of the fit.

    Returns
    -------
    mixture : the same mixture, fitted

    Raises
    ------
    ValueError
        If X is chunked over features, or as in `ConvGMM.fit`.
    RuntimeError
        If samples were lost with a worker and cannot be computed anew.
    ImportError
        If Dask is not installed.
    """
    if not isinstance(mixture, Mixture):
        raise TypeError(f"a {type(mixture).__name__} is not trained on a cluster: pass a mixture, such as a ConvGMM.")
    mixture._check_parameters()
    with _connected(client) as connected:
        partitions = Partitions(connected, _parts(X, sample_weight))
        mixture._train(mixture._described(partitions, partitions.first), Cluster)
    return mixture


def predict(mixture: Mixture, X: Array) -> Array:
    """Return each sample's likeliest component, a lazy dask.array (n,), int64."""
    return _lazily(mixture, "predict", X)


def predict_proba(mixture: Mixture, X: Array) -> Array:
    """Return posteriors, a lazy dask.array (n, K)."""
    return _lazily(mixture, "predict_proba", X)


def score_samples(mixture: Mixture, X: Array) -> Array:
    """Return log p(x) in nats, a lazy dask.array (n,)."""
    return _lazily(mixture, "score_samples", X)


def transform(mixture: Mixture, X: Array) -> Array:
    """Return what `ConvGMM.transform` gives, a lazy dask.array (n, K)."""
    return _lazily(mixture, "transform", X)


def _lazily(mixture: Mixture, method: str, X: Array) -> Array:
    _check_rows(X)
    da, dask = (require(name, "distributed", "convgmm.distributed") for name in ("dask.array", "dask"))
    one = getattr(mixture, method)(np.ones((1, *X.shape[1:]), dtype=X.dtype))
    answers: Array = da.map_blocks(
        _ask,
        X,
        dask.delayed(mixture, pure=True),
        method,
        one[:0],
        meta=one[:0],
        drop_axis=list(range(one.ndim, X.ndim)),
        chunks=(X.chunks[0], *((size,) for size in one.shape[1:])),
    )
    return answers


def _ask(block: NDArray[Any], mixture: Mixture, method: str, nothing: NDArray[Any]) -> Any:
    if not len(block):
        return nothing
    asked = copy.copy(mixture)
    asked.n_threads = 1  # each thread of a worker has a block of its own
    return getattr(asked, method)(block)


@contextmanager
def _connected(client: Client | None) -> Iterator[Client]:
    """Give the client, else the current one, else that of a local cluster for as long as it is needed."""
    distributed = _distributed()
    with ExitStack() as stack:
        if client is None:
            try:
                client = distributed.get_client()
            except ValueError:  # there is none
                client = stack.enter_context(distributed.Client(dashboard_address=":0"))
        yield client


# ---- samples ---------------------------------------------------------------------------------------------------------


def _check_rows(X: Any) -> None:
    if not hasattr(X, "chunks"):
        raise TypeError(
            f"X is a {type(X).__name__}; pass a dask.array chunked by rows: dask.array.from_array(X, chunks=(n, -1))."
        )
    if any(n_chunks > 1 for n_chunks in X.numblocks[1:]):
        whole = ", ".join(["-1"] * (X.ndim - 1))
        raise ValueError(
            f"X has chunks of {X.chunksize}, which cut samples of {X.shape[1:]} apart: chunk it by rows alone, "
            f"X.rechunk((n, {whole})) with chunks=(n, {whole}) of n samples."
        )


def _parts(X: Any, sample_weight: Any) -> list[tuple[Any, Any]]:
    """Return samples and weights block by block, delayed; None where there are no weights."""
    if isinstance(X, list | tuple):
        parts = list(X)
    else:
        _check_rows(X)
        parts = X.to_delayed().ravel().tolist()
    if sample_weight is None:
        return [(part, None) for part in parts]
    if isinstance(sample_weight, list | tuple):
        weights = list(sample_weight)
    else:
        if isinstance(X, list | tuple):
            raise ValueError("sample_weight must be a sequence of blocks, as X is.")
        if not hasattr(sample_weight, "chunks"):
            if np.isnan(X.shape[0]):
                raise ValueError("sample_weight must be a dask.array, as X does not know its length.")
            sample_weight = np.asarray(sample_weight)
            if sample_weight.shape != X.shape[:1]:
                raise ValueError(f"sample_weight.shape == {sample_weight.shape}, expected {X.shape[:1]}!")
            da = require("dask.array", "distributed", "convgmm.distributed")
            sample_weight = da.from_array(sample_weight, chunks=X.chunks[:1])
        elif sample_weight.shape == X.shape[:1] and not np.isnan(X.shape[0]):
            sample_weight = sample_weight.rechunk(X.chunks[:1])
        weights = sample_weight.to_delayed().ravel().tolist()
    if len(weights) != len(parts):
        raise ValueError(f"sample_weight has {len(weights)} blocks, but X {len(parts)}; one is needed for each.")
    return list(zip(parts, weights, strict=True))


@dataclass(frozen=True)
class _Part:
    """What is known of a block before it is read: samples, those of positive weight, the weights' exponent, layout."""

    n: int
    n_used: int
    exponent: int | None
    layout: Layout


def _inspect(samples: Any, weight: Any, index: int) -> _Part:
    array, checked = checked_block((samples, weight), index, None)
    n_used = len(array) if checked is None else int(np.count_nonzero(checked))
    return _Part(len(array), n_used, weight_exponent(checked), Layout.of(array, checked))


def _head(samples: Any) -> Any:
    return samples[:1]


def _content(samples: Any, weight: Any, index: int, layout: Layout) -> bytes:
    return content(*checked_block((samples, weight), index, layout))


class Partitions:
    """Blocks of samples on the workers of a cluster, checked and numbered.

    Parameters
    ----------
    client : dask.distributed.Client
        The cluster's.
    parts : list of pairs
        Samples and weights, delayed or futures; None for no weights.

    Raises
    ------
    ValueError
        If a block holds no samples, others than the first, or values that are not finite; names it.
    """

    def __init__(self, client: Client, parts: list[tuple[Any, Any]]) -> None:
        self.client = client
        self.parts = [
            tuple(client.compute([part, weight])) if weight is not None else (client.compute(part), None)
            for part, weight in parts
        ]
        asked = [client.submit(_inspect, *part, index, pure=False) for index, part in enumerate(self.parts)]
        inspected = list(client.gather(asked))
        filled = [index for index, part in enumerate(inspected) if part.n]
        if not filled:
            raise ValueError("Found array with 0 sample(s): X holds no samples.")
        self.layout = inspected[filled[0]].layout
        self.exponent = next((part.exponent for part in inspected if part.exponent is not None), 0)
        self.places = np.cumsum([0, *(part.n_used for part in inspected)]).tolist()
        self.numbers = np.cumsum([0, *(part.n for part in inspected)]).tolist()
        if not self.places[-1]:
            raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
        self.used = [index for index, part in enumerate(inspected) if part.n_used]
        self.first = client.submit(_head, self.parts[filled[0]][0], pure=False).result()

    @cached_property
    def digest(self) -> str:
        """A SHA-256 sum of all samples and weights, block by block."""
        asked = [
            self.client.submit(_content, *self.parts[index], index, self.layout, pure=False) for index in self.used
        ]
        return hashlib.sha256(b"".join(self.client.gather(asked))).hexdigest()

    def are_lost(self) -> bool:
        """Say whether some samples cannot be computed anew."""
        return any(future.cancelled() for pair in self.parts for future in pair if future is not None)


# ---- passes ----------------------------------------------------------------------------------------------------------


class Whole(Generic[T]):
    """A value that travels in one piece, so that its arrays come out aligned and writeable, as the core needs them."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (pickle.dumps(self.value, protocol=pickle.HIGHEST_PROTOCOL),)


def _unpacked(content: bytes) -> Whole[Any]:
    return Whole(pickle.loads(content))


def _hold(value: Whole[T]) -> Whole[T]:
    return value


def _read(
    family: Family, samples: Any, weight: Any, index: int, layout: Layout, exponent: int, place: int, number: int
) -> Whole[Reading]:
    block = block_of(*checked_block((samples, weight), index, layout), exponent, place, number)
    return Whole(family.read(block, 1))


def _take_census(family: Family, readings: list[Whole[Reading]], seed: int) -> Whole[Census]:
    drawing, n_threads = Drawing(seed), _worker_threads()
    for reading in readings:
        drawing.add(reading.value.block)
    census = reduce(add, (Census.of(family, reading.value, n_threads) for reading in readings))
    return Whole(replace(census, reservoir=drawing.reservoir()))


def _represent(family: Family, reading: Whole[Reading], frame: Whole[Any]) -> Whole[Data]:
    data = family.represent(reading.value, frame.value, 1)
    # The samples themselves are not needed any more.
    return Whole(replace(data, block=replace(data.block, samples=data.block.samples[:, :0].copy())))


@dataclass(frozen=True)
class _Share:
    """A mini-batch: one of `n_parts` parts of every block's samples in the order that `seed` shuffles them into."""

    seed: int
    part: int
    n_parts: int

    def rows(self, first: Any, n: Any) -> tuple[Any, Any]:
        """Return where the part of a block begins and ends; where blocks' parts cannot be equal, others are larger."""
        begin, end = ((n * part + first % self.n_parts) // self.n_parts for part in (self.part, self.part + 1))
        return begin, end

    def of(self, data: Data) -> Data:
        """Return the part of a block, whose order is kept for the next."""
        first, n = data.block.first, len(data.values)
        if data.memory.get("shuffled by") != self.seed:
            order = np.random.default_rng([self.seed, first]).permutation(n)
            data.memory.update({"shuffled by": self.seed, "order": order})
        return chosen(data, data.memory["order"][slice(*self.rows(first, n))])


def _pass(
    family: Family, prepared: Whole[Any], data: list[Whole[Data]], assign: Assign, share: _Share | None
) -> Whole[Any]:
    n_threads = _worker_threads()
    asked = [each.value if share is None else share.of(each.value) for each in data]
    found = [expect(family, prepared.value, each, n_threads, assign) for each in asked if len(each.values)]
    return Whole(reduce(add, found) if found else None)


def _added_up(parts: list[Whole[Any]]) -> Whole[Any]:
    return Whole(reduce(add, (part.value for part in parts if part.value is not None)))


def _worker_threads() -> int:
    """Return how many threads the worker has: its environment may say 1 to every library."""
    return int(_distributed().get_worker().state.nthreads)


def _distributed() -> Any:
    return require("distributed", "distributed", "convgmm.distributed")


def spread(where: list[str], sizes: list[int], n_threads: dict[str, int]) -> list[str]:
    """Return where blocks should be, so that no worker has much longer to compute than others.

    Parameters
    ----------
    where : list of str
        The worker that has each block.
    sizes : list of int
        Samples in each.
    n_threads : dict
        Threads of each worker.
    """
    n_threads = dict.fromkeys(where, 1) | n_threads
    work = dict.fromkeys(sorted(n_threads), 0.0)
    for worker, size in zip(where, sizes, strict=True):
        work[worker] += size / n_threads[worker]
    longest, better = max(work.values()), list(where)
    while True:
        slowest, fastest = max(work, key=work.__getitem__), min(work, key=work.__getitem__)
        after = {
            block: max(work[slowest] - size / n_threads[slowest], work[fastest] + size / n_threads[fastest])
            for block, size in enumerate(sizes)
            if better[block] == slowest
        }
        moved = min(after, key=after.__getitem__)
        if after[moved] >= work[slowest]:
            return better if work[slowest] < _WORTH_MOVING * longest else where
        work[slowest] -= sizes[moved] / n_threads[slowest]
        work[fastest] += sizes[moved] / n_threads[fastest]
        better[moved] = fastest


class Cluster(Problem):
    """Samples on the workers of a cluster, each pass one task on every worker that holds some.

    In the form of the fit a block is where it came from, but for a few that are moved once to workers that have less.

    Sums are taken in the order of the blocks on a worker, then in the order of the workers' first blocks, and where
    there are many workers by some of them.
    """

    def __init__(
        self,
        family: Family,
        partitions: Partitions,
        n_threads: int,
        rng: np.random.RandomState | None = None,
        *,
        progress: bool = False,
    ) -> None:
        self._client, self._partitions = partitions.client, partitions
        self._held: list[Any] = []  # futures: readings, then data
        seed = reservoir_seed(rng)

        def census() -> Census:
            self._held = self._readings(family)
            # Samples for a start come from every worker, but no more than a start needs go to the client.
            return cast(Census, self._sum(self._held, lambda held: (_take_census, family, held, seed), most=1))

        super().__init__(family, self._retried(census), n_threads)
        self._represent()
        self._retried(self._ready)

    def _readings(self, family: Family) -> list[Any]:
        known = self._partitions
        return [
            self._client.submit(
                _read,
                family,
                *known.parts[index],
                index,
                known.layout,
                known.exponent,
                known.places[index],
                known.numbers[index],
                pure=False,
            )
            for index in known.used
        ]

    def _ready(self) -> None:
        """Wait until the workers hold all samples as the hot loop reads them."""
        if not self._held:
            self._held = self._readings(self.family)
            self._represent()
        self._wait(self._held)

    def _represent(self) -> None:
        frame = self._client.submit(_hold, Whole(self.frame), pure=False)
        self._held = [
            self._client.submit(
                _represent, self.family, reading, frame, workers=[worker], allow_other_workers=True, pure=False
            )
            for reading, worker in zip(self._held, self._places(self._held), strict=True)
        ]

    def _places(self, readings: list[Any]) -> list[str]:
        """Return which worker is to hold each block in the form of the fit: where it is, unless others wait for it."""
        self._wait(readings)
        who_has = self._client.who_has(readings)
        sizes = np.diff(self._partitions.places)[self._partitions.used]
        where = [min(who_has.get(reading.key, ()), default="") for reading in readings]
        return spread(where, sizes.tolist(), self._client.nthreads())

    def expect(self, prepared: Any, assign: Assign, share: _Share | None = None) -> Any:
        """Return the statistics of all samples, or of a mini-batch of them."""

        def sums() -> Any:
            self._ready()
            scattered = self._client.scatter(Whole(prepared), broadcast=True, hash=False)
            return self._sum(
                self._held, lambda held: (_pass, self.family, scattered, held, assign, share), most=_MOST_SUMS
            )

        return self._retried(sums)

    @property
    def least_batch(self) -> int:
        """A hundredth of all samples: each mini-batch is a trip to the workers."""
        return self.n_samples // 100

    def batches(self, size: int, rng: np.random.RandomState) -> Iterator[Sums]:
        """Yield the sums of mini-batches, each with its share of every block's shuffled samples."""
        n_parts, seed = -(-self.n_samples // size), int(rng.randint(np.iinfo(np.int32).max))
        places = np.array(self._partitions.places)
        for share in (_Share(seed, part, n_parts) for part in range(n_parts)):
            begin, end = share.rows(places[:-1], np.diff(places))
            if (end > begin).any():
                yield partial(self.expect, assign=SOFT, share=share)

    def _retried(self, action: Callable[[], T]) -> T:
        """Do it again where a worker was lost in it, with samples that are read anew."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return action()
            except _lost_worker() as error:
                self._held = []
                if self._partitions.are_lost():
                    raise RuntimeError(
                        "samples were lost with a worker and cannot be computed anew: pass X as a dask.array or "
                        "delayed blocks, whose graph says how they are made, not as data that was scattered."
                    ) from error
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError

    def _sum(self, futures: list[Any], task: Callable[[list[Any]], tuple[Any, ...]], most: int) -> Any:
        """Run one task on each worker with what it holds of the futures, in their order; return the results' sum.

        Not more than `most` results come here: workers add them up before.
        """
        self._wait(futures)
        who_has = self._client.who_has(futures)
        held: dict[str, list[Any]] = {}
        for future in futures:
            workers = sorted(who_has.get(future.key, ()))
            held.setdefault(next((w for w in workers if w in held), workers[0] if workers else ""), []).append(future)
        tasks = [
            self._client.submit(
                *task(group), workers=[worker] if worker else None, allow_other_workers=bool(worker), pure=False
            )
            for worker, group in held.items()
        ]
        while len(tasks) > most:
            groups = [tasks[first : first + _MOST_SUMS] for first in range(0, len(tasks), _MOST_SUMS)]
            tasks = [self._client.submit(_added_up, group, pure=False) for group in groups]
        return _added_up(self._client.gather(tasks)).value

    def _wait(self, futures: list[Any]) -> None:
        """Wait until samples are where they are to be; raise what went wrong on a worker."""
        _distributed().wait(futures)
        for future in futures:
            if future.status == "error":
                future.result()


def _lost_worker() -> tuple[type[Exception], ...]:
    """Return what is raised where something was lost with a worker."""
    distributed = _distributed()
    return distributed.KilledWorker, distributed.CancelledError, OSError, TimeoutError
