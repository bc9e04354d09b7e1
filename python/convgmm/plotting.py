"""Pictures of mixtures: functions of a fitted model, and data, that return matplotlib figures and never show them.

They need matplotlib: ``pip install 'convgmm[plot]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .deep import DeepGMM
from .estimator import Mixture
from .extras import require
from .families import Portrait
from .model import largest_posteriors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Least share of a cell that is left free around what it shows.
_GAP = 0.08
_CELL_INCHES = 0.55


def plot_components(
    model: Mixture | DeepGMM,
    X: ArrayLike,
    *,
    layer: int | None = None,
    n_patches: int = 10,
    rows_per_page: int = 16,
) -> list[Figure]:
    """Show what each component responds to, beside what it is.

    One row for each component: the samples with the largest posterior for it, each with its own contrast, and then, for
    a ConvGMM, the filter's power spectrum 1 / S_k, logarithmic, zero frequency in the middle; for a FullGMM the mean
    and the eigenvectors of the three largest eigenvalues; for an upper layer nothing, since it does not see the samples
    themselves. A component that claims no sample of `X` is shown as empty. Volumes are shown by their middle slice,
    signals as curves.

    Parameters
    ----------
    model : ConvGMM, FullGMM or DeepGMM
        A fitted model.
    X : array-like
        Samples in the shape that `fit` took.
    layer : int, default=None
        Which layer of a DeepGMM; the last by default.
    n_patches : int, default=10
        Samples in a row.
    rows_per_page : int, default=16
        Components in a figure.

    Returns
    -------
    figures : list of matplotlib.figure.Figure
        As many as the components need.

    Raises
    ------
    ValueError
        If `n_patches` or `rows_per_page` is below 1, or the samples do not fit the model.
    ImportError
        If matplotlib is not installed.
    """
    if n_patches < 1 or rows_per_page < 1:
        raise ValueError(f"n_patches and rows_per_page must be at least 1, got {n_patches} and {rows_per_page}.")
    if isinstance(model, DeepGMM):
        mixture, values = model.layer_input(X, layer)
        return draw_components(mixture, values, model.layers_[0], X, n_patches, rows_per_page)
    if layer is not None:
        raise ValueError(f"layer={layer} is for a DeepGMM; this model has no layers.")
    return draw_components(model, X, model, X, n_patches, rows_per_page)


def draw_components(
    mixture: Mixture, values: Any, lowest: Mixture, X: ArrayLike, n_patches: int = 10, rows_per_page: int = 16
) -> list[Figure]:
    """Show what each component of a layer responds to: as `plot_components`, where the layer's input is known.

    Parameters
    ----------
    mixture : mixture
        The layer.
    values : array-like
        What it sees of the samples.
    lowest : mixture
        The layer that sees the samples themselves.
    X : array-like
        The samples.
    n_patches, rows_per_page : int
        As in `plot_components`.

    Returns
    -------
    figures : list of matplotlib.figure.Figure
    """
    shown, samples = lowest._read(X)
    asked, seen = (shown, samples) if mixture is lowest else mixture._read(values)
    joint = asked.joint(seen, mixture._threads())
    best = largest_posteriors(joint, n_patches)
    claimed = np.bincount(joint.argmax(axis=1), minlength=asked.n_components)
    shape = shown.shape
    aspect = _aspect(shape)
    portraits = shown.portraits() if mixture is lowest else []

    figures = []
    for first in range(0, asked.n_components, rows_per_page):
        rows = range(first, min(first + rows_per_page, asked.n_components))
        figure = _figure(
            (n_patches + len(portraits)) * _CELL_INCHES + 2.9, max(2.4, len(rows) * _CELL_INCHES * aspect + 0.5)
        )
        grids = figure.subplots(1, 1 + len(portraits), width_ratios=[n_patches, *[1] * len(portraits)], squeeze=False)[
            0
        ]
        for axes, n_columns in zip(grids, [n_patches, *[1] * len(portraits)], strict=True):
            _prepare_grid(axes, n_columns, len(rows), aspect)
        samples_grid = grids[0]
        claiming = claimed[rows.start : rows.stop] > 0
        cells = np.argwhere(np.broadcast_to(claiming[:, None], (len(rows), best.shape[1])))
        chosen = best[rows.start : rows.stop][claiming].ravel()
        _draw_cells(samples_grid, samples[chosen].reshape(-1, *shape), cells, color="0.2")
        for row in np.flatnonzero(~claiming):
            samples_grid.text(n_patches / 2, row + 0.5, "no sample", ha="center", va="center", color="0.4", fontsize=8)
        samples_grid.set_yticks(
            np.arange(len(rows)) + 0.5, [f"{k}: {claimed[k]:,} ({asked.weights[k]:.1%})" for k in rows], fontsize=7
        )
        samples_grid.set_title(
            f"component: samples claimed (weight); its {best.shape[1]} samples of largest posterior", fontsize=8
        )
        for axes, portrait in zip(grids[1:], portraits, strict=True):
            axes.set_title(portrait.title, fontsize=8)
            cells = np.argwhere(np.ones((len(rows), 1)))
            drawn = _draw_portraits(axes, portrait, slice(rows.start, rows.stop), cells)
            if portrait.scale and drawn is not None:
                figure.colorbar(drawn, ax=axes, fraction=0.5, pad=0.15, aspect=15).set_label(portrait.scale, fontsize=8)
        figures.append(figure)
    return figures


def plot_spectra(model: Mixture, *, n_columns: int = 8) -> Figure:
    """Show every component's filter as its power spectrum, logarithmic, zero frequency in the middle.

    Parameters
    ----------
    model : ConvGMM
        A fitted model.
    n_columns : int, default=8
        Spectra in a row; components in order of their index.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the model's components have no spectra.
    """
    sheets = plot_sheets(model, n_columns=n_columns)
    if "spectra" not in sheets:
        raise ValueError(f"the components of a {type(model).__name__} are not described by spectra.")
    return sheets["spectra"]


def plot_sheets(model: Mixture, *, n_columns: int = 8) -> dict[str, Figure]:
    """Show all components side by side, by each portrait that is worth a sheet of its own.

    Parameters
    ----------
    model : mixture
        A fitted model.
    n_columns : int, default=8
        Components in a row, in order of their index.

    Returns
    -------
    figures : dict of str to matplotlib.figure.Figure
        By name, such as "spectra"; empty for components that are not described by such a portrait.
    """
    shape = model.model_.shape
    return {
        portrait.sheet: _sheet(portrait, shape, n_columns) for portrait in model.model_.portraits() if portrait.sheet
    }


def _sheet(portrait: Portrait, shape: tuple[int, ...], n_columns: int) -> Figure:
    n_components = len(portrait.images)
    n_columns = min(n_columns, n_components)
    n_rows = -(-n_components // n_columns)
    aspect = _aspect(shape)
    figure = _figure((n_columns + 2) * 1.5 * _CELL_INCHES, (n_rows + 1) * 1.5 * _CELL_INCHES * aspect)
    axes = figure.subplots()
    _prepare_grid(axes, n_columns, n_rows, aspect)
    cells = np.argwhere(np.ones((n_rows, n_columns)))[:n_components]
    drawn = _draw_portraits(axes, portrait, slice(None), cells)
    for k, (row, column) in enumerate(cells):
        label = axes.text(column + _GAP, row + _GAP, str(k), va="top", fontsize=6, color="white" if drawn else "0.4")
        label.set_in_layout(False)
    axes.set_title(portrait.sheet_title, fontsize=9)
    if drawn is not None and portrait.scale:
        figure.colorbar(drawn, ax=axes, fraction=0.05).set_label(portrait.scale, fontsize=8)
    return figure


def plot_likelihood(model: Mixture) -> Figure:
    """Show the mean log-likelihood over the iterations, with a mark where components were removed.

    Parameters
    ----------
    model : mixture
        A fitted model.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    check_is_fitted(model)
    if not model.n_iter_:
        raise ValueError("this model was made of parameters: it has no course of the likelihood.")
    figure = _figure(6, 3.5)
    axes = figure.subplots()
    axes.plot(model.lower_bounds_, marker="." if model.n_iter_ < 60 else None)
    for iteration in sorted({pruning.iteration for pruning in model.pruned_}):
        count = sum(pruning.iteration == iteration for pruning in model.pruned_)
        axes.axvline(iteration, color="tab:red", linewidth=0.8, linestyle=":")
        axes.annotate(f"−{count}", (iteration, 0.02), xycoords=("data", "axes fraction"), color="tab:red", fontsize=8)
    axes.set_xlabel("iteration" + (" (red: components removed)" if model.pruned_ else ""))
    axes.set_ylabel("log-likelihood, nats per sample")
    # The first steps gain so much more than the others that they would hide them.
    low, high = model.lower_bounds_[min(1, model.n_iter_ - 1)], model.lower_bounds_.max()
    if model.n_iter_ > 10 and high > low:
        axes.set_ylim(low - 0.02 * (high - low), high + 0.05 * (high - low))
    axes.grid(alpha=0.3)
    return figure


def plot_weights(model: Mixture) -> Figure:
    """Show the components' weights, largest first.

    Parameters
    ----------
    model : mixture
        A fitted model.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    check_is_fitted(model)
    order = np.argsort(-model.weights_, kind="stable")
    figure = _figure(max(4.0, 0.22 * len(order) + 1), 3)
    axes = figure.subplots()
    axes.bar(np.arange(len(order)), model.weights_[order])
    axes.set_xticks(np.arange(len(order)), order.astype(str), fontsize=6, rotation=90 if len(order) > 40 else 0)
    axes.margins(x=0.01)
    axes.set_xlabel("component")
    axes.set_ylabel("weight")
    return figure


def plot_classes(labels: ArrayLike, components: ArrayLike, n_components: int) -> Figure:
    """Show how many samples of each class each component claims.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Classes.
    components : array-like of shape (n,), int
        The component that each sample is assigned to.
    n_components : int
        Number of components; those without a sample are shown as empty rows.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    classes, place = np.unique(np.asarray(labels), return_inverse=True)
    counts = np.zeros((n_components, len(classes)), dtype=np.int64)
    np.add.at(counts, (np.asarray(components), place), 1)
    figure = _figure(0.45 * len(classes) + 1.5, 0.2 * n_components + 1)
    axes = figure.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(counts):
        color = "white" if share[row, column] > 0.6 else "black"
        label = axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=6, color=color)
        label.set_in_layout(False)  # it lies within the axes, and a layout that asked all of them would take seconds
    axes.set_xticks(np.arange(len(classes)), [str(c) for c in classes], fontsize=7)
    axes.set_yticks(np.arange(n_components), [str(k) for k in range(n_components)], fontsize=6)
    axes.set_xlabel("class", fontsize=8)
    axes.set_ylabel("component", fontsize=8)
    return figure


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, outside pyplot, so that nothing keeps or shows it."""
    figure: Figure = require("matplotlib.figure", "plot", "plotting").Figure((width, height), layout="constrained")
    return figure


def _aspect(shape: tuple[int, ...]) -> float:
    """Return height over width of a cell."""
    return shape[-2] / shape[-1] if len(shape) > 1 else 0.6


def _prepare_grid(axes: Axes, n_columns: int, n_rows: int, aspect: float) -> None:
    """Make axes in which the cell (column, row) is the unit square from there, rows downwards."""
    axes.set_xlim(0, n_columns)
    axes.set_ylim(n_rows, 0)
    axes.set_aspect(aspect)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def _draw_portraits(axes: Axes, portrait: Portrait, components: slice, cells: NDArray[np.intp]) -> Any:
    """Draw components' portraits; return what a colour bar describes, None for curves."""
    return _draw_cells(axes, portrait.images[components], cells, portrait.limits, portrait.colormap)


def _draw_cells(
    axes: Axes,
    values: NDArray[Any],
    cells: NDArray[np.intp],
    limits: tuple[float, float] | None = None,
    colormap: str = "gray",
    color: str = "tab:blue",
) -> Any:
    """Draw signals, images or volumes (m, *shape) in cells (row, column) (m, 2); without limits each has its own.

    All images are one, with free pixels between them: matplotlib's time goes with the number of images. Returns it;
    None for curves.
    """
    if values.ndim == 4:
        values = values[:, values.shape[1] // 2]
    if limits is None:
        axis = tuple(range(1, values.ndim))
        low, high = values.min(axis=axis, keepdims=True), values.max(axis=axis, keepdims=True)
        values = (values - low) / np.where(high > low, high - low, 1)
        limits = (0.0, 1.0)
    if values.ndim == 2:
        left = cells[:, 1] + _GAP / 2
        height = (values - limits[0]) / (limits[1] - limits[0])
        curves = cells[:, :1] + 1 - _GAP / 2 - (1 - _GAP) * height
        across = np.linspace(0, 1 - _GAP, values.shape[1])
        axes.plot(left + across[:, None], curves.T, color=color, linewidth=0.7)
        return None
    (n_columns, n_rows), shape = (int(axes.get_xlim()[1]), int(axes.get_ylim()[0])), values.shape[1:]
    free = [max(1, round(_GAP * side)) for side in shape]
    tiles = np.full((n_rows, n_columns, shape[0] + free[0], shape[1] + free[1]), np.nan)
    inner = tiles[:, :, free[0] // 2 :, free[1] // 2 :][:, :, : shape[0], : shape[1]]
    inner[cells[:, 0], cells[:, 1]] = values
    aspect = axes.get_aspect()
    drawn = axes.imshow(
        tiles.transpose(0, 2, 1, 3).reshape(n_rows * tiles.shape[2], -1),
        extent=(0, n_columns, n_rows, 0),
        interpolation="nearest",
        cmap=colormap,
        vmin=limits[0],
        vmax=limits[1],
    )
    axes.set_aspect(aspect)
    return drawn
