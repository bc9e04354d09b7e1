"""What reallocation gains over plain EM, seed by seed: ``python benchmarks/reallocation.py``.

Both begin with the same start. Mean log-likelihoods of the training samples, in nats a sample; plain EM, and EM after
the last trial, stop at the same tolerance. Adds to reallocation.json and reallocation.md: seeds that are there stay.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from convgmm import ConvGMM
from convgmm.datasets import extract_patches, load_bsds500, load_mnist
from machine import hardware
from report import table_row


@dataclass(frozen=True)
class Case:
    """Samples, and the mixture that is fitted to them.

    Attributes
    ----------
    load : callable
        From the data folder and a number to so many samples.
    n_samples, n_components, n_trials : int
        How many.
    options : dict
        Of the mixture.
    """

    load: Callable[[str | None, int], NDArray[np.float32]]
    n_samples: int
    n_components: int
    n_trials: int
    options: dict[str, Any]


def _patches(data_dir: str | None, n: int) -> NDArray[np.float32]:
    return extract_patches(load_bsds500("train", data_dir), (16, 16), n, random_state=0)


def _digits(data_dir: str | None, n: int) -> NDArray[np.float32]:
    return load_mnist("train", data_dir)[0][:n]


CASES = {
    "patches": Case(_patches, 50_000, 32, 40, {}),
    "digits": Case(_digits, 10_000, 128, 40, {"remove_mean": False}),
}


def measure(case: Case, X: NDArray[np.float32], seed: int) -> dict[str, Any]:
    """Fit with and without trials from one start."""
    figures: dict[str, Any] = {}
    for name, n_trials in ("plain", 0), ("reallocated", case.n_trials):
        options = {"tol": 1e-4, "max_iter": 500, "random_state": seed, "reallocate": n_trials} | case.options
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = ConvGMM(case.n_components, **options).fit(X)
        divergence = model.model_.divergence()
        np.fill_diagonal(divergence, np.inf)
        figures[name] = {
            "nats": model.lower_bound_,
            "seconds": time.perf_counter() - started,
            "components": model.n_components_,
            "nearest": float(np.median(divergence.min(axis=1))),
            "dimensions": float(np.median(model.model_.effective_ranks())),
            "kept": sum(trial.kept for trial in model.reallocations_),
            "trials": len(model.reallocations_),
        }
    return figures


def table(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Write a line for each case, without and with trials."""
    heads = [
        "case",
        "seeds",
        "trials",
        "worst",
        "median",
        "best",
        "nats to the nearest",
        "dimensions in use",
        "seconds",
    ]
    yield table_row(heads)
    yield table_row(["---"] + ["--:"] * (len(heads) - 1))
    for name, seeds in results.items():
        for which in "plain", "reallocated":
            runs = [run[which] for run in seeds.values()]
            nats = np.array([run["nats"] for run in runs])
            mean = {key: np.mean([run[key] for run in runs]) for key in runs[0]}
            yield table_row(
                [
                    f"{name}, {which}",
                    str(len(runs)),
                    f"{mean['kept']:.1f} of {mean['trials']:.1f} kept" if mean["trials"] else "",
                    *(f"{value:.3f}" for value in (nats.min(), np.median(nats), nats.max())),
                    f"{mean['nearest']:.1f}",
                    f"{mean['dimensions']:.1f}",
                    f"{mean['seconds']:.1f}",
                ]
            )


def main() -> None:
    """Measure the seeds that are asked for and are not there yet."""
    parser = argparse.ArgumentParser(description="Reallocation beside plain EM.")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(20)), help="which (default: 0 to 19)")
    parser.add_argument("--data-dir", default=os.environ.get("CONVGMM_DATA"), help="folder with bsds500/ and mnist/")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-reallocation"), help="folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    store = options.out / "reallocation.json"
    for name in options.cases:
        X = CASES[name].load(options.data_dir, CASES[name].n_samples)
        for seed in options.seeds:
            report = json.loads(store.read_text()) if store.exists() else {"cases": {}}
            runs = report["cases"].setdefault(name, {})
            if str(seed) in runs:
                continue
            runs[str(seed)] = measure(CASES[name], X, seed)
            store.write_text(json.dumps(report | {"machine": hardware()}, indent=1))
    results = json.loads(store.read_text())["cases"]
    (options.out / "reallocation.md").write_text("\n".join(table(results)) + "\n")
    print((options.out / "reallocation.md").read_text())


if __name__ == "__main__":
    main()
