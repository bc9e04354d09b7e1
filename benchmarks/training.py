"""What the ways to train are worth: ``python benchmarks/training.py CASE …``; prints a table for each case.

`online`: one pass of mini-batches, then three of EM, beside passes of EM. `memory`: fits to patches that are drawn anew
on every pass, each in a process of its own. `streamed`: an iteration over a file beside one in memory, in turns.
`accelerated`: passes to within 0.01 nats of the limit. All on patches of BSDS500's `train`, held out of `val`. Times
want the machine alone.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
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

from convgmm import ConvGMM, FullGMM
from convgmm.datasets import Patches, extract_patches, load_bsds500
from machine import hardware, load_average, peak_bytes
from report import table_row

#: How close to its limit accelerated EM is to come, in nats.
_CLOSE = 0.01


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

    def cases(self) -> Iterator[tuple[str, int]]:
        """Yield families with numbers of components."""
        for family in self.families:
            for n_components in self.components:
                yield family, n_components


Table = tuple[Sequence[str], Iterator[Sequence[Any]]]


def online(settings: Settings) -> Table:
    """Return an epoch beside ten iterations on the same patches, and an epoch and three iterations beside many."""
    X, unseen = settings.patches(settings.samples[0]), settings.patches(50_000, "val", 1)

    def rows() -> Iterator[Sequence[Any]]:
        for family, K in settings.cases():
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
                figures: list[str] = []
                for place, few, many in ((0, 1, 10), (1, 4, settings.iterations)):
                    found = scores["online", few][place], scores["em", many][place]
                    figures += [f"{found[0]:.3f}", f"{found[1]:.3f}", f"{found[0] - found[1]:+.3f}"]
                yield family, K, seed, *figures

    many = f"{settings.iterations} iterations"
    heads = ("family", "K", "seed", "1 epoch", "10 iterations", "lead", "held out: 1 epoch + 3", many, "lead")
    return heads, rows()


def fit_stream(settings: Settings, family: str, n_components: int, n: int) -> tuple[float, float, int]:
    """Fit to patches that are drawn from files; return seconds in all and an iteration, and most bytes."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    folder = Path(settings.data_dir or "") / "bsds500" / "train"
    source = Patches(sorted(folder.glob("*.jpg")), (settings.side,) * 2, n, random_state=0)
    mixture = settings.mixture(family, n_components, random_state=0, max_iter=settings.iterations)
    started = time.perf_counter()
    mixture.fit(source)
    return time.perf_counter() - started, mixture.seconds_per_iteration_, peak_bytes()


def memory(settings: Settings) -> Table:
    """Return time and memory of streamed fits of several sizes."""

    def rows() -> Iterator[Sequence[Any]]:
        for family, K in settings.cases():
            for n in settings.samples:
                with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                    whole, one, most = alone.submit(fit_stream, settings, family, K, n).result()
                each = f"{one / n * 1e6:.3f} s"
                yield family, K, f"{n:,}", f"{whole:.1f} s", f"{one:.2f} s", each, f"{most / 2**20:.0f} MiB"

    return ("family", "K", "patches", "fit", "iteration", "iteration, a million", "peak memory"), rows()


def streamed(settings: Settings) -> Table:
    """Return an iteration over a memory-mapped file beside one in memory, of the same patches and start."""

    def rows() -> Iterator[Sequence[Any]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "patches.npy"
            held = settings.patches(settings.samples[0])
            np.save(path, held)
            for family, K in settings.cases():
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
                yield family, K, f"{len(held):,}", f"{one:.3f} s", f"{other:.3f} s", f"{other / one:.2f}"

    return ("family", "K", "patches", "in memory", "streamed", "ratio"), rows()


def accelerated(settings: Settings) -> Table:
    """Return after how many passes EM and accelerated EM are close to the limit, the lower of both fits' bounds."""
    X = settings.patches(settings.samples[0])

    def rows() -> Iterator[Sequence[Any]]:
        for family, K in settings.cases():
            shares = []
            for seed in settings.seeds:
                make = partial(settings.mixture, family, K, random_state=seed, max_iter=settings.iterations)
                bounds = [make(accelerate=name).fit(X).lower_bounds_ for name in (None, "squarem")]
                close = min(found[-1] for found in bounds) - _CLOSE
                plain, fast = (int(np.argmax(found > close)) + 1 for found in bounds)
                shares.append(fast / plain)
                fall = min(0.0, float(np.diff(bounds[1]).min()))
                ends = [f"{found[-1]:.3f}" for found in bounds]
                yield family, K, seed, *ends, plain, fast, f"{shares[-1]:.2f}", f"{fall:.1g}"
            half = sum(share <= 0.5 for share in shares)
            yield family, K, "all", "", "", "", "", f"{statistics.median(shares):.2f}", f"{half} of {len(shares)} ≤ 0.5"

    return ("family", "K", "seed", "EM", "accelerated", "passes", "accelerated", "ratio", "largest fall"), rows()


CASES: dict[str, tuple[Callable[[Settings], Table], dict[str, Any]]] = {
    "online": (online, {"samples": (200_000,), "components": (32, 200), "seeds": (0, 1, 2), "iterations": 60}),
    "memory": (memory, {"samples": (2_000_000, 4_000_000, 10_000_000), "components": (200,), "iterations": 2}),
    "streamed": (streamed, {"samples": (500_000,), "components": (200,), "seeds": (0, 1, 2), "iterations": 3}),
    "accelerated": (
        accelerated,
        {"samples": (50_000,), "components": (32,), "seeds": tuple(range(20)), "iterations": 1500},
    ),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("case", nargs="+", choices=CASES)
    parser.add_argument("--families", nargs="+", choices=("conv", "full"), default=["conv", "full"])
    parser.add_argument("--components", nargs="+", type=int)
    parser.add_argument("--samples", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--side", type=int, default=8, help="of a patch (default: 8)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data-dir", default=os.environ.get("CONVGMM_DATA"), help="folder with bsds500/ in it")
    given = vars(parser.parse_args())
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(hardware(), "load", load_average())
    for name in given.pop("case"):
        measure, usual = CASES[name]
        options = {"seeds": (0,)} | usual | {key: value for key, value in given.items() if value is not None}
        heads, rows = measure(Settings(**{"threads": None, "data_dir": None} | options))
        print(f"\n{name}\n\n{table_row(list(heads))}\n{table_row(['---'] * len(heads))}")
        for row in rows:
            print(table_row([str(value) for value in row]), flush=True)


if __name__ == "__main__":
    main()
