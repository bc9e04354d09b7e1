"""Tables and a report of the experiments that a folder holds."""

import base64
import html
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration import configuration
from ..files import write_atomically
from ._recipes import RECIPES

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

_REPEATED = {
    "components": "n_components",
    "purity": "purity",
    "NMI": "nmi",
    "class entropy": "class_entropy",
    "largest posterior": "largest_posterior",
    "log-likelihood": "log_likelihood",
}

# The mean divergence to the nearest component, the same at whatever contrast, and how many dimensions a component has
# its power in.
_SHAPE = ("nats to the nearest", "to the nearest in shape", "dimensions in use")

# What is seen on a picture, by its name without layer and page.
_CAPTIONS = {
    "components": "Each row is a component, with the samples of largest posterior for it, and what it is: a filter's "
    "power spectrum (dark where the component has its energy), or a mean and leading eigenvectors. In brackets its "
    "weight; before it the number of shown samples that it claims. “No sample” marks a component that claims none.",
    "spectra": "All filters' power spectra on one logarithmic scale, zero frequency in the middle.",
    "classes": "How many test digits of each class each component claims; the darker, the larger the class's share of "
    "the component.",
    "likelihood": "The mean log-likelihood over the iterations; red lines mark iterations that removed components. The "
    "starting point is cut off where it would hide the rest.",
    "weights": "The components' weights, largest first.",
}

_STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; max-width: 68em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; font-size: 14px; }
th, td { border: 1px solid #ccc; padding: 3px 8px; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5em 0; } img { max-width: 100%; } figcaption { font-size: 14px; color: #555; }
h2 { margin-top: 2.5em; border-top: 1px solid #ccc; padding-top: 1em; }
"""


def compare(out: str | os.PathLike[str]) -> str | None:
    """Write ``comparison.md``, a table of the experiments on digits that the folder `out` holds, side by side.

    Returns
    -------
    table : str or None
        In Markdown; None when there are fewer than two.
    """
    folder = Path(out)
    compared = [metrics for metrics in _results(folder) if "purity" in metrics]
    if len(compared) < 2:
        return None
    table = _markdown(["experiment", *_COMPARED], [[f"`{m['name']}`", *_cells(m)] for m in compared])
    write_atomically(folder / "comparison.md", table.encode())
    return table


def write_report(out: str | os.PathLike[str], repeats: dict[str, list[dict[str, Any]]]) -> Path:
    """Write ``report.html``, one file that holds all pictures, of the experiments that the folder `out` holds.

    Parameters
    ----------
    out : path
        Folder of the experiments.
    repeats : dict
        For experiments that were run with several seeds, their metrics.

    Returns
    -------
    path : Path
        Where the report is.
    """
    folder = Path(out)
    results = _results(folder)
    compared = [metrics for metrics in results if "purity" in metrics]
    parts = ["<h1>Mixtures of images: the published experiments</h1>"]
    parts.append(f"<p>{len(results)} experiments, {sum(m['seconds'] for m in results):.0f} seconds of training.</p>")
    if len(compared) > 1:
        parts.append("<h2>Digits, side by side</h2><p>Figures of each experiment's last layer on the test digits.</p>")
        parts.append(_table(["experiment", *_COMPARED], [[m["name"], *_cells(m)] for m in compared]))
    if repeats:
        seeds = len(next(iter(repeats.values())))
        parts.append(f"<h2>Over {seeds} seeds</h2><p>Mean ± standard deviation of each layer.</p>")
        parts.append(_table(["experiment", "layer", *_REPEATED], _repeat_rows(repeats)))
    for metrics in results:
        parts += _section(folder / metrics["name"], metrics)
    parts.append("<h2>This machine</h2>")
    parts.append(_table(["", ""], [[name, value] for name, value in configuration().items()]))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>convgmm: the published experiments</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    path = folder / "report.html"
    write_atomically(path, page.encode())
    return path


def _results(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of finished experiments, in the order of the recipes."""
    paths = [folder / name / "metrics.json" for name in RECIPES]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def _cells(metrics: dict[str, Any]) -> list[str]:
    return [_shown(metrics[key]) for key in _COMPARED.values()]


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _repeat_rows(repeats: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    rows = []
    for name, runs in repeats.items():
        for index in range(len(runs[0]["layers"])):
            layers = [run["layers"][index] for run in runs]
            cells = []
            for key in _REPEATED.values():
                values = np.array([layer[key] for layer in layers], dtype=np.float64)
                cells.append(f"{values.mean():.3f} ± {values.std():.3f}")
            kept = sorted(layer["n_components"] for layer in layers)
            cells[0] += f" ({kept[0]} to {kept[-1]} of {layers[0]['n_components_start']})"
            rows.append([name, str(index + 1), *cells])
    return rows


def _section(folder: Path, metrics: dict[str, Any]) -> list[str]:
    parts = [f"<h2 id='{metrics['name']}'>{metrics['name']}</h2><p>{html.escape(metrics['title'])}.</p>"]
    parts.append(f"<p><b>Published:</b> {html.escape(RECIPES[metrics['name']].published)}.<br>")
    parts.append(f"<b>Here:</b> {html.escape(_outcome(metrics))}</p>")
    header = ["layer", "estimator", "components", "log-likelihood", *_SHAPE, "ms an iteration"]
    on_digits = ("purity", "nmi", "ari", "class_entropy", "largest_posterior", "empty_on_test")
    keys = [key for key in on_digits if key in metrics]
    rows = []
    for number, layer in enumerate(metrics["layers"], start=1):
        row = [str(number), layer["estimator"], f"{layer['n_components']} of {layer['n_components_start']}"]
        row += [f"{layer['log_likelihood']:.2f}", *_shape_cells(layer)]
        rows.append([*row, f"{layer['seconds_per_iteration'] * 1e3:.1f}", *(_shown(layer[key]) for key in keys)])
    parts.append(_table([*header, *(key.replace("_", " ") for key in keys)], rows))
    before = folder.parent / (RECIPES[metrics["name"]].before or ".") / "metrics.json"
    if before.is_file():
        pair = [json.loads(before.read_text()), metrics]
        rows = [[m["name"], f"{m['log_likelihood']:.2f}", *_shape_cells(m)] for m in pair]
        parts.append("<p>Before and after:</p>" + _table(["experiment", "log-likelihood", *_SHAPE], rows))
    for path in sorted(filter(picture_kind, folder.glob("*.png")), key=_reading_order):
        image = base64.b64encode(path.read_bytes()).decode()
        layer = re.match(r"layer(\d+)-", path.stem)
        caption = (f"Layer {layer[1]}. " if layer else "") + _CAPTIONS[picture_kind(path) or ""]
        parts.append(
            f'<figure><img alt="{path.stem}" src="data:image/png;base64,{image}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return parts


def _shape_cells(layer: dict[str, Any]) -> list[str]:
    """Return how far a layer's components are apart, and how narrow they are."""
    return [f"{layer[name]:.2f}" for name in ("overlap", "overlap_of_shapes")] + [f"{layer['effective_rank']:.1f}"]


def _outcome(metrics: dict[str, Any]) -> str:
    layers = metrics["layers"]
    kept = ", ".join(f"{layer['n_components']} of {layer['n_components_start']}" for layer in layers)
    text = f"{kept} components kept" + (", from the first layer to the last" if len(layers) > 1 else "")
    text += f"; {metrics['log_likelihood']:.2f} nats per sample"
    if "purity" in metrics:
        purity = ", then ".join(f"{layer['purity']:.3f}" for layer in layers)
        entropy = ", then ".join(f"{layer['class_entropy']:.3f}" for layer in layers)
        text += f"; purity {purity}; class entropy given the component {entropy} nats"
        text += f"; {metrics['empty_on_test']} components empty on the test digits"
    return f"{text}; seed {metrics['seed']}, {metrics['seconds']:.1f} s of training."


def picture_kind(path: Path) -> str | None:
    """Return which of the experiments' kinds of picture a file's name says that it is; None for any other file."""
    kind = re.sub(r"^layer\d+-|-\d+$", "", path.stem)
    return kind if kind in _CAPTIONS else None


def _reading_order(path: Path) -> tuple[str, int, int]:
    layer = re.match(r"layer\d+", path.stem)
    page = re.search(r"-(\d+)$", path.stem)
    return layer[0] if layer else "", list(_CAPTIONS).index(picture_kind(path) or ""), int(page[1]) if page else 0


def _table(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(header, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
