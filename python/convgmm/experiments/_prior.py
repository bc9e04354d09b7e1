"""The prior that comes with the package: a mixture of photograph patches to restore photographs with."""

import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..datasets import extract_patches, load_bsds500
from ..files import writable_folder, write_atomically
from ..full import FullGMM
from ._recipes import DataDir

#: The mixture, and how many patches it is trained on: as many components as 300 kB hold in float16, and what takes
#: minutes; not searched for on any photographs.
_COMPONENTS, _PATCHES, _ITERATIONS = 60, 300_000, 40
#: Patches flatter than this share of white, one grey level of 256, are those of saturated sky: they say nothing.
_MIN_STD = 0.004


def train_prior(
    out: str | os.PathLike[str], *, data_dir: DataDir = None, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Train the prior on BSDS500 `train`; write ``prior.npz`` and ``metrics.json`` into the folder ``out/prior``.

    Returns
    -------
    metrics : dict
        What ``metrics.json`` holds.

    Raises
    ------
    OSError
        If the folder cannot be written, or data is missing.
    ImportError
        If an extra is missing.
    """
    folder = writable_folder(Path(out) / "prior")
    started = time.perf_counter()
    images = load_bsds500("train", data_dir)
    patches, discarded = extract_patches(
        images, (8, 8), _PATCHES, min_std=_MIN_STD, random_state=seed, return_n_discarded=True
    )
    loaded = time.perf_counter()
    model = FullGMM(_COMPONENTS, means="zero", max_iter=_ITERATIONS, tol=0.01, random_state=seed, verbose=progress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many iterations are wanted
        model.fit(patches.reshape(len(patches), -1))
    model.save(folder / "prior.npz", dtype=np.float16)
    metrics = {
        "name": "prior",
        "title": f"{_COMPONENTS} components on {_PATCHES:,} patches of 8×8 from the 200 BSDS500 training photographs",
        "seed": seed,
        "n_samples": len(patches),
        "n_discarded": discarded,
        "n_components": model.n_components_,
        "log_likelihood": model.lower_bound_,
        "n_iter": model.n_iter_,
        "bytes": (folder / "prior.npz").stat().st_size,
        "seconds_data": loaded - started,
        "seconds": time.perf_counter() - loaded,
        "seconds_per_iteration": model.seconds_per_iteration_,
    }
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    return metrics
