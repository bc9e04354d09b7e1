"""An EM iteration on a Dask cluster beside one in memory.

Two workers, each a process with one thread, against one process with two threads: the same patches, cut where they
stay, and the same start, in turns.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.base import clone

from convgmm import distributed
from convgmm.datasets import extract_patches, load_bsds500

_N_BLOCKS = 8


def blocks(n_samples: int, shape: tuple[int, int], data_dir: str | None) -> list[da.Array]:
    """Return patches without their means as arrays of equal size, which are cut when they are asked for."""
    rows, n_features = n_samples // _N_BLOCKS, shape[0] * shape[1]

    def cut(seed: int) -> np.ndarray:
        patches = extract_patches(load_bsds500("train", data_dir), shape, rows, random_state=seed)
        return (patches - patches.mean(axis=(1, 2), keepdims=True)).reshape(rows, n_features)

    return [da.from_delayed(dask.delayed(cut)(seed), (rows, n_features), np.float32) for seed in range(_N_BLOCKS)]


def beside(
    mixtures: list[tuple[dict[str, Any], Any]],
    shape: tuple[int, int],
    n_samples: int,
    n_iter: int,
    n_repetitions: int,
    data_dir: str | None,
) -> Iterator[dict[str, Any]]:
    """Yield for each mixture what it is called, with the times of an iteration and how far the bounds are apart."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as workers, Client(workers):
        X = da.concatenate(blocks(n_samples, shape, data_dir)).persist()
        held = X.compute()
        for which, mixture in mixtures:
            mixture.fit(held[:50_000])
            mixture.set_params(warm_start=True, max_iter=n_iter)
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in range(n_repetitions):
                local, remote = (clone(mixture) for _ in range(2))
                for estimator in (local, remote):
                    estimator.__dict__.update(vars(mixture))  # both go on from the same model
                seconds[0].append(local.fit(held).seconds_per_iteration_)
                seconds[1].append(distributed.fit(remote, X).seconds_per_iteration_)
            one, two = (statistics.median(times) for times in seconds)
            apart = float(np.max(np.abs(remote.lower_bounds_ / local.lower_bounds_ - 1)))
            yield which | {"one process, s": one, "two workers, s": two, "ratio": two / one, "bounds apart by": apart}
