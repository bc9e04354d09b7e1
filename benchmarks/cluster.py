"""An EM iteration on a Dask cluster beside one in memory: ``python benchmarks/cluster.py``; prints a table.

Two workers, each a process with one thread, against one process with two threads: the same 8×8 patches of BSDS500's
`train`, cut where they stay, and the same start, in turns. Run it alone.
"""

import argparse
import os
import statistics
import warnings

import dask
import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from convgmm import ConvGMM, FullGMM, distributed
from convgmm.datasets import extract_patches, load_bsds500
from machine import hardware, load_average

_SIDE = 8


def blocks(n_samples: int, n_blocks: int, data_dir: str | None) -> list[da.Array]:
    """Return patches as arrays of equal size, which are cut when they are asked for."""
    rows = n_samples // n_blocks

    def cut(seed: int) -> np.ndarray:
        patches = extract_patches(load_bsds500("train", data_dir), (_SIDE, _SIDE), rows, random_state=seed)
        return (patches - patches.mean(axis=(1, 2), keepdims=True)).reshape(rows, -1)

    return [da.from_delayed(dask.delayed(cut)(seed), (rows, _SIDE**2), np.float32) for seed in range(n_blocks)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=2_000_000)
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--data-dir", default=os.environ.get("CONVGMM_DATA"))
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(hardware(), "load", load_average())
    options = {"max_iter": 2, "tol": 0, "prune_threshold": 0, "random_state": 0, "n_threads": 2}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        X = da.concatenate(blocks(given.samples, 8, given.data_dir)).persist()
        held = X.compute()
        print("| mixture | one process, two threads | two workers, one thread each | ratio | bounds differ by |")
        print("| --- | --: | --: | --: | --: |")
        for mixture in (
            FullGMM(given.components, means="zero", **options),
            ConvGMM(given.components, patch_shape=(_SIDE, _SIDE), **options),
        ):
            mixture.fit(held[:50_000])
            mixture.set_params(warm_start=True, max_iter=given.iterations)
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in range(given.repetitions):
                local, remote = (clone(mixture) for _ in range(2))
                for estimator in (local, remote):
                    estimator.__dict__.update(vars(mixture))  # both go on from the same model
                seconds[0].append(local.fit(held).seconds_per_iteration_)
                seconds[1].append(distributed.fit(remote, X).seconds_per_iteration_)
            one, two = (statistics.median(times) for times in seconds)
            off = float(np.max(np.abs(remote.lower_bounds_ / local.lower_bounds_ - 1)))
            name = f"{type(mixture).__name__}({given.components})"
            print(f"| {name} | {one:.3g} s | {two:.3g} s | {two / one:.2f} | {off:.1g} of themselves |", flush=True)


if __name__ == "__main__":
    main()
