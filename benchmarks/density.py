"""Held-out density of patches: ``python benchmarks/density.py``; adds to density.json and density.md.

Patches of 8×8 follow the protocol of the literature: grey levels of 0 to 255 with uniform noise in [0, 1), over 256,
without the patch's mean; log-densities in the 63 dimensions that are left, in nats per patch. Those of 16×16 are what
the experiments are made of: without their means, without noise, none that is nearly flat.

Trained on patches of BSDS500's `train`, tested on patches of its `val`, the same for every model, so that differences
are taken patch by patch. Models can be measured a few at a time: what the folder holds of the same patches stays.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from convgmm import ConvGMM, FullGMM, TorusGMM
from convgmm._core import thread_count
from convgmm.datasets import extract_patches, load_bsds500
from machine import hardware, load_average
from report import table_row

#: Far below the variance of the noise, 1.3e-6, which the default would nearly double.
_REG_COVAR = 1e-9
#: The model that the others are compared with, patch by patch, by the patches' side.
_REFERENCES = {8: "full, K=200", 16: "circulant, K=128"}


@dataclass(frozen=True)
class Case:
    """A kind of model.

    Attributes
    ----------
    make : callable
        From the number of components and common options to an estimator.
    components : tuple of int
        How many components it has in the table of 8×8 patches.
    flat : bool
        Whether it sees the 63 coordinates of a patch, and not the patch.
    """

    make: Callable[..., Any]
    components: tuple[int, ...] = (24, 100, 200)
    flat: bool = False


def _with(estimator: Callable[..., Any], **more: Any) -> Callable[..., Any]:
    return lambda K, **options: estimator(K, **more, **options)


def _student(K: int, **options: Any) -> Any:
    from studenttmixture import EMStudentMixture  # noqa: PLC0415 - where it is installed

    # Of a run that has not converged it keeps nothing.
    return EMStudentMixture(K, fixed_df=False, reg_covar=_REG_COVAR, **options | {"max_iter": 1000})


CASES = {
    "circulant": Case(ConvGMM),
    "DCT": Case(_with(ConvGMM, basis="dct")),
    "torus 12": Case(_with(TorusGMM, torus_shape=(12, 12))),
    "torus 16": Case(_with(TorusGMM, torus_shape=(16, 16))),
    "full": Case(_with(FullGMM, means="zero", reg_covar=_REG_COVAR), flat=True),
    "circulant, 9 scales": Case(_with(ConvGMM, scales=9)),
    "DCT, 9 scales": Case(_with(ConvGMM, basis="dct", scales=9)),
    "torus 12, 9 scales": Case(_with(TorusGMM, torus_shape=(12, 12), scales=9)),
    "torus 16, 9 scales": Case(_with(TorusGMM, torus_shape=(16, 16), scales=9)),
    "full, 9 scales": Case(_with(FullGMM, means="zero", reg_covar=_REG_COVAR, scales=9), flat=True),
    "DCT, 15 scales": Case(_with(ConvGMM, basis="dct", scales=15), (24,)),
    "full, 15 scales": Case(_with(FullGMM, means="zero", reg_covar=_REG_COVAR, scales=15), (24,), flat=True),
    "circulant, 25 scales": Case(_with(ConvGMM, scales=25), (24,)),
    "DCT, 25 scales": Case(_with(ConvGMM, basis="dct", scales=25), (24,)),
    "full, 25 scales": Case(_with(FullGMM, means="zero", reg_covar=_REG_COVAR, scales=25), (24, 48, 100), flat=True),
    "circulant, t": Case(_with(ConvGMM, tails="t")),
    "DCT, t": Case(_with(ConvGMM, basis="dct", tails="t")),
    "torus 12, t": Case(_with(TorusGMM, torus_shape=(12, 12), tails="t")),
    "torus 16, t": Case(_with(TorusGMM, torus_shape=(16, 16), tails="t")),
    "torus 24, t": Case(_with(TorusGMM, torus_shape=(24, 24), tails="t"), (24, 200, 400)),
    "torus 24, 25 scales": Case(_with(TorusGMM, torus_shape=(24, 24), scales=25), (200, 400)),
    "full, t": Case(_with(FullGMM, means="zero", reg_covar=_REG_COVAR, tails="t"), flat=True),
    "scikit-learn, full": Case(_with(GaussianMixture, reg_covar=_REG_COVAR), (24,), flat=True),
    "studenttmixture": Case(_student, (24,), flat=True),
}


def patches_of(split: str, side: int, n: int, seed: int, data_dir: str) -> NDArray[np.float32]:
    """Return patches without their means, (n, side, side)."""
    images = load_bsds500(split, data_dir)
    if side != 8:
        return extract_patches(images, (side, side), n, random_state=seed)
    levels = [np.round(255 * image) for image in images]
    patches = extract_patches(levels, (side, side), n, remove_mean=False, min_std=0, random_state=seed)
    noisy = (patches + np.random.default_rng(seed).uniform(size=patches.shape)) / 256
    return np.asarray(noisy - noisy.mean(axis=(1, 2), keepdims=True), dtype=np.float32)


def measure(
    case: Case, K: int, train: NDArray[Any], test: NDArray[Any], options: dict[str, Any]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Fit one model; return its figures, and the log-density of every test patch."""
    n_dimensions = train[0].size - 1
    if case.flat:
        axes = helmert(train[0].size).T  # in float64, which one of the peers asks for
        train, test = (patches.reshape(len(patches), -1) @ axes for patches in (train, test))
    fitted = case.make(K, **options)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(train)
    seconds = time.perf_counter() - started
    scores = np.asarray(fitted.score_samples(test), dtype=np.float64)
    figures = {"nats": float(scores.mean()), "trained": float(np.mean(fitted.score_samples(train[: len(test)])))}
    if hasattr(fitted, "model_"):
        figures |= {"parameters": fitted.model_.n_parameters(), "components": fitted.n_components_}
        figures |= {"least gain": float(np.diff(fitted.lower_bounds_).min()), "iterations": fitted.n_iter_}
    else:  # free means and covariances, and Student's degrees of freedom
        each = n_dimensions * (n_dimensions + 3) // 2 + (not isinstance(fitted, GaussianMixture))
        figures |= {"parameters": K - 1 + K * each, "components": K}
    return figures | {"seconds": seconds, "threads": thread_count(0), "load": load_average()[0]}, scores


def table(results: dict[str, Any], reference_name: str, folder: Path) -> Iterator[str]:
    """Write a line for each model, with its lead over the reference and that lead's standard error."""
    heads = ["model", "nats, test", "nats, training", "lead", "parameters", "components left", "iterations"]
    heads += ["seconds", "threads", "load"]  # of the machine: seconds beside other work are not those of a quiet one
    yield table_row(heads)
    yield table_row(["---"] + ["--:"] * (len(heads) - 1))
    reference = np.load(folder / f"{reference_name}.npy") if reference_name in results else None
    for name, row in sorted(results.items(), key=lambda item: item[1]["nats"]):
        lead = ""
        if reference is not None:
            gain = np.load(folder / f"{name}.npy") - reference
            lead = f"{gain.mean():+.2f} ± {gain.std() / np.sqrt(len(gain)):.2f}"
        figures = [f"{row['nats']:.2f}", f"{row['trained']:.2f}", lead, f"{row['parameters']:,}"]
        counts = [str(row["components"]), str(row.get("iterations", ""))]
        yield table_row([name, *figures, *counts, f"{row['seconds']:.0f}", str(row["threads"]), f"{row['load']:.0f}"])


def main() -> None:
    """Measure what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description="Held-out density of patches.")
    parser.add_argument("--side", type=int, choices=_REFERENCES, default=8, help="of a patch (default: 8)")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), help="which (default: all)")
    parser.add_argument("--components", nargs="+", type=int, help="with these numbers of components")
    parser.add_argument("--train", type=int, default=200_000, help="training patches (default: 200,000)")
    parser.add_argument("--test", type=int, default=50_000, help="test patches (default: 50,000)")
    parser.add_argument("--max-iter", type=int, default=60, help="EM iterations (default: 60)")
    parser.add_argument("--tol", type=float, default=1e-2, help="gain that ends EM, nats a patch (default: 0.01)")
    parser.add_argument("--data-dir", default=os.environ.get("CONVGMM_DATA"), help="folder with bsds500/ in it")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-density"), help="folder")
    options = parser.parse_args()
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in ("side", "train", "test", "max_iter", "tol")}
    store = folder / "density.json"
    report = json.loads(store.read_text()) if store.exists() else {"settings": settings, "models": {}}
    if report["settings"] != settings:
        sys.exit(f"{store} was measured with {report['settings']}: pass another --out.")
    train = patches_of("train", options.side, options.train, 0, options.data_dir)
    test = patches_of("val", options.side, options.test, 1, options.data_dir)
    of_em = {"max_iter": options.max_iter, "tol": options.tol, "random_state": 0}
    for kind in options.models:
        for K in options.components or CASES[kind].components:
            name = f"{kind}, K={K}"
            if name in report["models"]:
                continue
            try:
                figures, scores = measure(CASES[kind], K, train, test, of_em)
            except ImportError as missing:
                print(f"{kind} is left out: {missing}", file=sys.stderr)
                continue
            np.save(folder / f"{name}.npy", scores)
            report = json.loads(store.read_text()) if store.exists() else report  # another process may have added to it
            report["models"][name] = figures
            store.write_text(json.dumps(report | {"machine": hardware()}, indent=1))
            print(name, figures, file=sys.stderr, flush=True)
    (folder / "density.md").write_text("\n".join(table(report["models"], _REFERENCES[options.side], folder)) + "\n")
    print((folder / "density.md").read_text())


if __name__ == "__main__":
    main()
