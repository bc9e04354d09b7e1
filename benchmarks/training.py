"""What the ways to train are worth: ``python benchmarks/training.py CASE …``; writes training.json and training.md.

`online`: one pass of mini-batches, then three of EM, beside passes of EM. `memory`: fits to patches that are drawn anew
on every pass, each in a process of its own. `streamed`: an iteration over a file beside one in memory, in turns.
`accelerated`: passes to within 0.01 nats of the limit. `cluster`: an iteration of two Dask workers beside one process.
All on patches of BSDS500's `train`, held out of `val`. Times want the machine alone. What is measured is added to what
is there, a line that is measured again replaces the old one.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import cluster
from convgmm import ConvGMM, FullGMM, Monitor
from convgmm.datasets import Patches, extract_patches, load_bsds500
from convgmm.em import ACCELERATIONS
from convgmm.files import write_atomically
from machine import hardware, load_average, peak_bytes
from report import table_row

#: How close to its limit accelerated EM is to come, in nats.
_CLOSE = 0.01

#: What one line of a table says, by the heads of its columns.
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is measured, and how much of it."""

    families: tuple[str, ...]
    components: tuple[int, ...]
    samples: tuple[int, ...]
    seeds: tuple[int, ...]
    iterations: int
    side: int
    threads: int | None
    data_dir: str | None
    accelerate: tuple[str, ...] = ("momentum",)

    def mixture(self, family: str, n_components: int, **options: Any) -> Any:
        """Return a mixture that runs as many iterations as it is told."""
        options = {"tol": 0, "prune_threshold": 0, "n_threads": self.threads} | options
        if family == "full":
            return FullGMM(n_components, means="zero", **options)
        return ConvGMM(n_components, patch_shape=(self.side, self.side), **options)

    def patches(self, n: int, split: str = "train", seed: int = 0) -> NDArray[np.float32]:
        """Return random patches without their means, (n, side²)."""
        drawn = extract_patches(load_bsds500(split, self.data_dir), (self.side, self.side), n, random_state=seed)
        return drawn.reshape(n, -1)

    def cases(self, n: int) -> Iterator[tuple[str, int, Row]]:
        """Yield families with numbers of components, and what a line says of them and so many patches."""
        for family in self.families:
            for K in self.components:
                name = f"{type(self.mixture(family, K)).__name__}({K})"
                yield family, K, {"mixture": name, "patches": f"{n:,} of {self.side}×{self.side}"}


def online(settings: Settings) -> Iterator[Row]:
    """Yield an epoch beside ten iterations on the same patches, and an epoch and three iterations beside many."""
    n = settings.samples[0]
    X, unseen = settings.patches(n), settings.patches(50_000, "val", 1)
    for family, K, which in settings.cases(n):
        for seed in settings.seeds:
            make = partial(settings.mixture, family, K, random_state=seed)
            scores: dict[tuple[str, int], list[float]] = {}

            def keep(iteration: Any, algorithm: str, scores: Any = scores) -> None:
                passes = iteration.number + 1
                if passes in (1, 4, 10, settings.iterations):
                    scores[algorithm, passes] = [
                        iteration.model.posterior(each, settings.threads or 0)[1].mean(dtype=float)
                        for each in (X, unseen)
                    ]

            make(algorithm="online", max_iter=4, callback=partial(keep, algorithm="online")).fit(X)
            make(max_iter=settings.iterations, callback=partial(keep, algorithm="em")).fit(X)
            epoch, ten = scores["online", 1][0], scores["em", 10][0]
            few, many = scores["online", 4][1], scores["em", settings.iterations][1]
            yield which | {
                "seed": seed,
                "1 epoch": epoch,
                "10 iterations": ten,
                "lead": epoch - ten,
                "held out: 1 epoch + 3": few,
                f"{settings.iterations} iterations": many,
                "lead held out": few - many,
            }


def fit_stream(settings: Settings, family: str, n_components: int, n: int) -> tuple[float, float, int]:
    """Fit to patches that are drawn from files; return seconds in all and an iteration, and most bytes."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    folder = Path(settings.data_dir or "") / "bsds500" / "train"
    source = Patches(sorted(folder.glob("*.jpg")), (settings.side,) * 2, n, random_state=0)
    mixture = settings.mixture(family, n_components, random_state=0, max_iter=settings.iterations)
    started = time.perf_counter()
    mixture.fit(source)
    return time.perf_counter() - started, mixture.seconds_per_iteration_, peak_bytes()


def memory(settings: Settings) -> Iterator[Row]:
    """Yield time and memory of streamed fits of several sizes."""
    for n in settings.samples:
        for family, K, which in settings.cases(n):
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                whole, one, most = alone.submit(fit_stream, settings, family, K, n).result()
            yield which | {
                "seconds in all": whole,
                "seconds an iteration": one,
                "of a million": one / n * 1e6,
                "peak memory, MiB": round(most / 2**20),
            }


def streamed(settings: Settings) -> Iterator[Row]:
    """Yield an iteration over a memory-mapped file beside one in memory, of the same patches and start."""
    n = settings.samples[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patches.npy"
        held = settings.patches(n)
        np.save(path, held)
        for family, K, which in settings.cases(n):
            first = settings.mixture(family, K, max_iter=1, random_state=0).fit(held[:50_000])
            first.set_params(warm_start=True, max_iter=settings.iterations)
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in settings.seeds:
                for times, given in zip(seconds, (held, np.load(path, mmap_mode="r")), strict=True):
                    fitted = clone(first)
                    fitted.__dict__.update(vars(first))
                    with config_context(working_memory=1):
                        times.append(fitted.fit(given).seconds_per_iteration_)
            one, other = (statistics.median(times) for times in seconds)
            yield which | {"in memory, s": one, "streamed, s": other, "ratio": other / one}


@dataclass(frozen=True)
class _AtItsLimit(Monitor):
    """Ends a run whose last hundred passes together have gained a tenth of what counts as close."""

    n_passes: int = 100

    def converged(self, progress: Any) -> bool:
        super().converged(progress)
        bounds = progress.lower_bounds
        return len(bounds) > self.n_passes and bounds[-1] - bounds[-1 - self.n_passes] < _CLOSE / 10


def accelerated(settings: Settings) -> Iterator[Row]:
    """Yield after how many passes EM and accelerated EM are close to the limit, the lower of both fits' limits."""
    n = settings.samples[0]
    X = settings.patches(n)
    for family, K, which in settings.cases(n):
        for seed in settings.seeds:
            make = partial(
                settings.mixture, family, K, random_state=seed, max_iter=settings.iterations, monitor=_AtItsLimit()
            )
            em = make().fit(X).lower_bounds_
            for name in settings.accelerate:
                bounds = make(accelerate=name).fit(X).lower_bounds_
                level = min(em[-1], bounds[-1]) - _CLOSE
                plain, fast = (int(np.argmax(found > level)) + 1 for found in (em, bounds))
                yield which | {
                    "accelerate": name,
                    "seed": seed,
                    "EM's limit": float(em[-1]),
                    "accelerated": float(bounds[-1]),
                    "EM's passes": plain,
                    "accelerated passes": fast,
                    "ratio": fast / plain,
                    "EM's largest fall": max(0.0, -float(np.diff(em).min())),
                    "accelerated's": max(0.0, -float(np.diff(bounds).min())),
                }


def on_a_cluster(settings: Settings) -> Iterator[Row]:
    """Yield an iteration of two workers beside one in one process."""
    n = settings.samples[0]
    mixtures = []
    for family, K, which in settings.cases(n):
        options = {"max_iter": 2, "random_state": 0, "n_threads": 2}
        mixtures.append((which, settings.mixture(family, K, **options)))
    shape = (settings.side, settings.side)
    yield from cluster.beside(mixtures, shape, n, settings.iterations, len(settings.seeds), settings.data_dir)


def _shares(rows: list[Row]) -> Iterator[str]:
    """Yield what the ratios of all seeds say."""
    columns = ("mixture", "patches", "accelerate")
    for which in dict.fromkeys(tuple(row[column] for column in columns) for row in rows):
        those = [row for row in rows if tuple(row[column] for column in columns) == which]
        ratios = [row["ratio"] for row in those]
        half = sum(ratio <= 0.5 for ratio in ratios)
        middle, most = statistics.median(ratios), max(ratios)
        gained = statistics.fmean(row["accelerated"] - row["EM's limit"] for row in those)
        yield (
            f"{', '.join(which)}: {half} of {len(ratios)} in half of EM's passes or fewer, median {middle:.2f}, "
            f"at most {most:.2f}; limits higher by {gained:.3f} on average"
        )


@dataclass(frozen=True)
class Case:
    """What a table holds, what is usual, which columns tell lines apart, what they say together."""

    measure: Callable[[Settings], Iterator[Row]]
    title: str
    usual: dict[str, Any]
    keys: tuple[str, ...] = ("mixture", "patches")
    summary: Callable[[list[Row]], Iterator[str]] = lambda rows: iter(())
    is_timed: bool = True


CASES = {
    "online": Case(
        online,
        "Mini-batches beside EM, nats a patch",
        {"samples": (200_000,), "components": (32, 200), "seeds": (0, 1, 2), "iterations": 60},
        ("mixture", "patches", "seed"),
        is_timed=False,
    ),
    "memory": Case(
        memory,
        "Fits to patches that are drawn anew on every pass",
        {"samples": (2_000_000, 4_000_000, 10_000_000), "components": (200,), "iterations": 2},
    ),
    "streamed": Case(
        streamed,
        "An iteration over a memory-mapped file beside one in memory",
        {"samples": (500_000,), "components": (200,), "seeds": (0, 1, 2), "iterations": 3},
    ),
    "accelerated": Case(
        accelerated,
        "Passes to within 0.01 nats of the limit, the lower of both fits'",
        {"samples": (50_000,), "components": (32,), "seeds": tuple(range(20)), "iterations": 1500},
        ("mixture", "patches", "accelerate", "seed"),
        _shares,
        is_timed=False,
    ),
    "cluster": Case(
        on_a_cluster,
        "An iteration of two Dask workers with one thread each beside one process with two threads",
        {"samples": (2_000_000,), "components": (200,), "seeds": (0, 1, 2), "iterations": 3},
    ),
}


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:.1g}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"


def table(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of all tables."""
    for name, case in CASES.items():
        rows = report["cases"].get(name)
        if not rows:
            continue
        heads = list(dict.fromkeys(head for row in rows for head in row))
        marks = ["---" if isinstance(rows[0].get(head), str) else "--:" for head in heads]
        yield from (case.title, "", table_row(heads), table_row(marks))
        for row in rows:
            yield table_row([_shown(row.get(head, "")) for head in heads])
        yield ""
        for line in case.summary(rows):
            yield from (f"{line}.", "")


def add(store: Path, name: str, row: Row) -> None:
    """Add a line to what is stored, in the place of one of the same keys; another process may have added some."""
    report = json.loads(store.read_text()) if store.exists() else {"cases": {}}
    keys = CASES[name].keys
    rows = [each for each in report["cases"].get(name, []) if any(each[key] != row[key] for key in keys)]
    report["cases"][name] = sorted([*rows, row], key=lambda each: [str(each[key]).rjust(20) for key in keys])
    write_atomically(store, (json.dumps(report | {"machine": hardware()}, indent=1) + "\n").encode())
    write_atomically(store.with_suffix(".md"), ("\n".join(table(report)) + "\n").encode())


def main() -> None:
    """Measure, store and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("case", nargs="+", choices=CASES)
    parser.add_argument("--families", nargs="+", choices=("conv", "full"), default=["conv", "full"])
    parser.add_argument("--components", nargs="+", type=int)
    parser.add_argument("--samples", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, help="starts; for `streamed` and `cluster`, repetitions")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--accelerate", nargs="+", choices=ACCELERATIONS, help="what is beside EM (default: momentum)")
    parser.add_argument("--side", type=int, default=8, help="of a patch (default: 8)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data-dir", default=os.environ.get("CONVGMM_DATA"), help="folder with bsds500/ in it")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-training"), help="folder")
    given = vars(parser.parse_args())
    warnings.simplefilter("ignore", ConvergenceWarning)
    folder = given.pop("out")
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "training.json"
    for name in given.pop("case"):
        case = CASES[name]
        options = {"seeds": (0,)} | case.usual | {key: value for key, value in given.items() if value is not None}
        for row in case.measure(Settings(**{"threads": None, "data_dir": None} | options)):
            print(name, row, flush=True)
            add(store, name, row | ({"load": load_average()[0]} if case.is_timed else {}))
    print(store.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
