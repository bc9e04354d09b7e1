"""Running an experiment: train, measure, draw, write."""

import io
import json
import os
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .. import plotting
from ..datasets import load_sample_images
from ..deep import DeepGMM
from ..extras import require
from ..files import writable_folder, write_atomically
from ..picture_file import write_picture
from ..restore import denoise
from ._measures import class_measures, overlap
from ._recipes import DEMO, RECIPES, Data, DataDir, Recipe
from ._report import picture_kind

_DPI = 110


def demo(out: str | os.PathLike[str], *, seed: int = 0, progress: bool = True) -> dict[str, Any]:
    """Train on the embedded photographs; write pictures and ``metrics.json`` into the folder `out`.

    The last picture, ``denoised.png``, is what `convgmm.restore.denoise` does to one of them.

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
    folder = writable_folder(out)
    metrics = _run(DEMO, folder, None, seed, progress)
    _draw_denoised(folder, seed)
    return metrics


def _draw_denoised(folder: Path, seed: int) -> None:
    """Write a photograph, the same with noise of 25 grey levels, and what the shipped prior makes of that."""
    clean = load_sample_images()[0]
    noisy = clean + np.float32(25 / 255) * np.random.RandomState(seed).standard_normal(clean.shape).astype(np.float32)
    images = np.concatenate([clean, noisy, denoise(noisy, 25 / 255)], axis=1)
    write_picture(folder / "denoised.png", (255 * images.clip(0, 1)).round().astype(np.uint8))


def reproduce(
    name: str,
    out: str | os.PathLike[str],
    *,
    data_dir: DataDir = None,
    seed: int = 0,
    resume: bool = False,
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
    resume : bool, default=False
        Whether an experiment that the folder holds already, with this seed and version, is left as it is.
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
    folder = writable_folder(Path(out) / name)
    finished = _finished(folder / "metrics.json", RECIPES[name], seed) if resume else None
    return finished or _run(RECIPES[name], folder, data_dir, seed, progress)


def repeat(
    name: str, out: str | os.PathLike[str], seeds: range, *, data_dir: DataDir = None, progress: bool = True
) -> list[dict[str, Any]]:
    """Run an experiment with several seeds, for its figures alone; those that ``out/name`` holds are kept.

    Returns
    -------
    metrics : list of dict
        One for each seed, as in `reproduce`.
    """
    recipe = RECIPES[name]
    folder = writable_folder(Path(out) / name / "repeats")
    results = []
    for seed in seeds:
        path = folder / f"seed-{seed}.json"
        metrics = _finished(path, recipe, seed) or _finished(folder.parent / "metrics.json", recipe, seed)
        if metrics is None:
            metrics = _train(recipe, data_dir, seed, progress)[2]
            _write_json(path, metrics)
        results.append(metrics)
    return results


def _identity(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Return what decides an experiment's figures, as it stands in its file."""
    layers = [[layer.estimator.__name__, layer.options] for layer in recipe.layers]
    return {"name": recipe.name, "seed": seed, "version": version("convgmm"), "definition": layers}


def _finished(path: Path, recipe: Recipe, seed: int) -> dict[str, Any] | None:
    """Return the metrics of the same experiment, if the file holds them. They are written last, and whole."""
    if not path.is_file():
        return None
    metrics: dict[str, Any] = json.loads(path.read_text())
    identity = _identity(recipe, seed)
    return metrics if {key: metrics.get(key) for key in identity} == identity else None


def _write_json(path: Path, metrics: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(metrics, indent=2) + "\n").encode())


def _run(recipe: Recipe, folder: Path, data_dir: DataDir, seed: int, progress: bool) -> dict[str, Any]:
    require("matplotlib", "plot", "drawing the pictures")
    (folder / "metrics.json").unlink(missing_ok=True)  # what it says would not belong to the new pictures
    model, data, metrics = _train(recipe, data_dir, seed, progress)
    _draw(recipe, model, data, folder)
    _write_json(folder / "metrics.json", metrics)
    return metrics


def _train(recipe: Recipe, data_dir: DataDir, seed: int, progress: bool) -> tuple[DeepGMM, Data, dict[str, Any]]:
    started = time.perf_counter()
    data = recipe.load(data_dir, seed)
    loaded = time.perf_counter()
    model = recipe.model(seed, progress=progress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all iterations are wanted
        model.fit(data.train)
    trained = time.perf_counter()
    layers = _layer_metrics(recipe, model, data)
    metrics = {
        **_identity(recipe, seed),
        "title": recipe.title,
        "n_samples": len(data.train),
        "n_discarded": data.n_discarded,
        "seconds_data": loaded - started,
        "seconds": trained - loaded,
        **layers[-1],
        "layers": layers,
    }
    return model, data, metrics


def _layer_metrics(recipe: Recipe, model: DeepGMM, data: Data) -> list[dict[str, Any]]:
    """Return the figures of every layer; those of the last are the experiment's."""
    found = []
    for definition, (layer, shown) in zip(recipe.layers, model.layer_inputs(data.shown), strict=True):
        metrics: dict[str, Any] = {
            "estimator": definition.estimator.__name__,
            "n_components_start": definition.options["n_components"],
            "n_components": layer.n_components_,
            "lower_bounds": layer.lower_bounds_.tolist(),
            "log_likelihood": layer.lower_bound_,
            "overlap": overlap(layer),
            "overlap_of_shapes": overlap(layer, of_shapes=True),
            "effective_rank": float(layer.weights_ @ layer.model_.effective_ranks()),
            "pruned": [[pruning.iteration, pruning.index, pruning.share] for pruning in layer.pruned_],
            "reallocations": [list(vars(trial).values()) for trial in layer.reallocations_],
            "seconds_per_iteration": layer.seconds_per_iteration_,
        }
        if data.labels is not None:
            posterior, log_probability = layer.posterior(shown)
            components = posterior.argmax(axis=1)
            metrics["log_likelihood_test"] = float(log_probability.mean(dtype=np.float64))
            metrics["empty_on_test"] = layer.n_components_ - len(np.unique(components))
            metrics["largest_posterior"] = float(posterior.max(axis=1).mean())
            metrics |= class_measures(data.labels, components)
        found.append(metrics)
    return found


def _draw(recipe: Recipe, model: DeepGMM, data: Data, folder: Path) -> None:
    figures: dict[str, Any] = {}
    for index, (layer, values) in enumerate(model.layer_inputs(data.shown)):
        prefix = f"layer{index + 1}-" if len(model.layers_) > 1 else ""
        pages = plotting.draw_components(layer, values, model.layers_[0], data.shown)
        figures |= {f"{prefix}components-{page}": figure for page, figure in enumerate(pages, start=1)}
        figures |= {f"{prefix}{name}": figure for name, figure in plotting.plot_sheets(layer).items()}
        if data.labels is not None:
            components = layer.predict(values)
            figures[f"{prefix}classes"] = plotting.plot_classes(data.labels, components, layer.n_components_)
        figures[f"{prefix}likelihood"] = plotting.plot_likelihood(layer)
        figures[f"{prefix}weights"] = plotting.plot_weights(layer)
    for old in folder.glob("*.png"):  # a run with more pages leaves none behind; what is not ours stays
        if picture_kind(old) and old.stem not in figures:
            old.unlink()
    for name, figure in figures.items():
        figure.suptitle(recipe.title, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
        write_atomically(folder / f"{name}.png", buffer.getvalue())
