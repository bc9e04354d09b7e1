"""An EM iteration on a Dask cluster beside one in memory.

Two workers, each a process with one thread, against one process with two threads: the same patches, cut where they
stay, half of them on either worker, and the same start, in turns. With as many workers as the machine has cores, what
Dask's processes do meanwhile is taken from those that compute: they watch themselves less often than they usually do.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.base import clone

from convgmm import distributed
from convgmm.datasets import extract_patches, load_bsds500

_N_BLOCKS = 8

# Of Dask's scheduler, workers and nannies.
_SELDOM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500 ms",
    "distributed.worker.memory.monitor-interval": "1 s",
    "distributed.admin.system-monitor.interval": "2 s",
}


def blocks(client: Client, n_samples: int, shape: tuple[int, int], data_dir: str | None) -> list[Any]:
    """Return patches without their means, (rows, n_features) each, as futures of the workers in turn."""
    workers, rows = sorted(client.scheduler_info()["workers"]), n_samples // _N_BLOCKS

    def cut(seed: int) -> np.ndarray:
        patches = extract_patches(load_bsds500("train", data_dir), shape, rows, random_state=seed)
        return (patches - patches.mean(axis=(1, 2), keepdims=True)).reshape(rows, -1)

    return [client.submit(cut, seed, workers=[workers[seed % len(workers)]]) for seed in range(_N_BLOCKS)]


def beside(
    mixtures: list[tuple[dict[str, Any], Any]],
    shape: tuple[int, int],
    n_samples: int,
    n_iter: int,
    n_repetitions: int,
    data_dir: str | None,
) -> Iterator[dict[str, Any]]:
    """Yield for each mixture what it is called, with the times of an iteration and how far the bounds are apart."""
    with (
        dask.config.set(_SELDOM),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as workers,
        Client(workers) as client,
    ):
        X = blocks(client, n_samples, shape, data_dir)
        held = np.concatenate(client.gather(X))
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
