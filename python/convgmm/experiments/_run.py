"""Running an experiment: train, measure, draw, write."""

import io
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .. import plotting
from ..conv import ConvGMM
from ..extras import require
from ..files import writable_folder, write_atomically
from ..full import FullGMM
from ._measures import class_measures, overlap
from ._recipes import DEMO, RECIPES, Data, DataDir, Recipe

_DPI = 110


def demo(out: str | os.PathLike[str], *, seed: int = 0, progress: bool = True) -> dict[str, Any]:
    """Train on the embedded photographs; write pictures and ``metrics.json`` into the folder `out`.

    Returns
    -------
    metrics : dict
        What ``metrics.json`` holds.

    Raises
    ------
    OSError
        If the folder cannot be written.
    ImportError
        If matplotlib or pillow is not installed.
    """
    return _run(DEMO, writable_folder(out), None, seed, progress)


def reproduce(
    name: str,
    out: str | os.PathLike[str],
    *,
    data_dir: DataDir = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Run one of the published experiments; write pictures and ``metrics.json`` into the folder ``out/name``.

    Parameters
    ----------
    name : str
        One of `RECIPES`.
    out : path
        Folder for all experiments.
    data_dir : path, default=None
        Where the data is, as in `convgmm.datasets`.
    seed : int, default=0
        Source of patches and starts.
    progress : bool, default=True
        Whether progress bars are shown.

    Returns
    -------
    metrics : dict
        What ``metrics.json`` holds.

    Raises
    ------
    ValueError
        If the name is unknown or the data damaged.
    OSError
        If the folder cannot be written, or data is missing.
    ImportError
        If an extra is missing.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown experiment {name!r}; there are {', '.join(RECIPES)}.")
    return _run(RECIPES[name], writable_folder(Path(out) / name), data_dir, seed, progress)


def _run(recipe: Recipe, folder: Path, data_dir: DataDir, seed: int, progress: bool) -> dict[str, Any]:
    require("matplotlib", "plot", "drawing the pictures")
    started = time.perf_counter()
    data = recipe.load(data_dir, seed)
    loaded = time.perf_counter()
    model = recipe.estimator(**recipe.model, tol=0, random_state=seed, verbose=progress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0: all iterations are wanted
        model.fit(data.train)
    trained = time.perf_counter()
    metrics = _metrics(recipe, model, data, seed)
    metrics["seconds_data"] = loaded - started
    metrics["seconds"] = trained - loaded
    metrics["seconds_per_iteration"] = model.seconds_per_iteration_
    _draw(recipe, model, data, folder)
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    return metrics


_COMPARED = {
    "components": "n_components",
    "log-likelihood, training": "log_likelihood",
    "test": "log_likelihood_test",
    "purity": "purity",
    "NMI": "nmi",
    "ARI": "ari",
    "class entropy": "class_entropy",
    "empty on test": "empty_on_test",
    "seconds": "seconds",
}


def compare(out: str | os.PathLike[str]) -> str | None:
    """Write ``comparison.md``, a table of the experiments on digits that the folder `out` holds, side by side.

    Returns
    -------
    table : str or None
        In Markdown; None when there are fewer than two.
    """
    folder = Path(out)
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/metrics.json"))]
    found = [metrics for metrics in found if metrics.keys() >= set(_COMPARED.values())]
    if len(found) < 2:
        return None
    lines = ["| experiment | " + " | ".join(_COMPARED) + " |", "| --- " * (len(_COMPARED) + 1) + "|"]
    for metrics in found:
        cells = [metrics[key] for key in _COMPARED.values()]
        shown = [str(cell) if isinstance(cell, int) else f"{cell:.3f}" for cell in cells]
        lines.append(f"| `{metrics['name']}` | " + " | ".join(shown) + " |")
    table = "\n".join(lines) + "\n"
    write_atomically(folder / "comparison.md", table.encode())
    return table


def _metrics(recipe: Recipe, model: ConvGMM | FullGMM, data: Data, seed: int) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "name": recipe.name,
        "title": recipe.title,
        "seed": seed,
        "n_samples": len(data.train),
        "n_discarded": data.n_discarded,
        "n_components": model.n_components_,
        "lower_bounds": model.lower_bounds_.tolist(),
        "log_likelihood": model.lower_bound_,
        "overlap": overlap(model),
        "pruned": [[pruning.iteration, pruning.index, pruning.share] for pruning in model.pruned_],
    }
    if data.labels is not None:
        components = model.predict(data.shown)
        metrics["log_likelihood_test"] = model.score(data.shown)
        metrics["empty_on_test"] = model.n_components_ - len(np.unique(components))
        metrics |= class_measures(data.labels, components)
    return metrics


def _draw(recipe: Recipe, model: ConvGMM | FullGMM, data: Data, folder: Path) -> None:
    pages = plotting.plot_components(model, data.shown)
    figures = {f"components-{page}": figure for page, figure in enumerate(pages, start=1)}
    if isinstance(model, ConvGMM):
        figures["spectra"] = plotting.plot_spectra(model)
    figures["likelihood"] = plotting.plot_likelihood(model)
    figures["weights"] = plotting.plot_weights(model)
    for old in folder.glob("components-*.png"):  # a run with more pages leaves none behind
        if old.stem not in figures:
            old.unlink()
    for name, figure in figures.items():
        figure.suptitle(recipe.title, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
        write_atomically(folder / f"{name}.png", buffer.getvalue())
