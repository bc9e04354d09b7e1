"""Pictures of mixtures: functions of a fitted model, and data, that return matplotlib figures and never show them.

They need matplotlib: ``pip install 'convgmm[plot]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .conv import ConvGMM
from .extras import require
from .mixture import Mixture, largest_posteriors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Least share of a cell that is left free around what it shows.
_GAP = 0.08
_CELL_INCHES = 0.55
_SPECTRUM_LABEL = "filter's power spectrum, log$_{10}$"


def plot_components(model: ConvGMM, X: ArrayLike, *, n_patches: int = 10, rows_per_page: int = 16) -> list[Figure]:
    """Show what each component responds to, beside its filter.

    One row for each component: the patches with the largest posterior for it, each with its own contrast, and in the
    last column the filter's power spectrum 1 / S_k, logarithmic, zero frequency in the middle. A component that claims
    no sample of `X` is shown as empty. Volumes are shown by their middle slice, signals as curves.

    Parameters
    ----------
    model : ConvGMM
        A fitted model.
    X : array-like
        Samples in the shape that `fit` took.
    n_patches : int, default=10
        Patches in a row.
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
    check_is_fitted(model)
    samples = model._validate(X, reset=False)
    joint = model._joint(model._data(samples))
    best = largest_posteriors(joint, n_patches)
    claimed = np.bincount(joint.argmax(axis=1), minlength=model.n_components_)
    spectra = _log_filter_spectra(model)
    limits = _limits(spectra)
    shape = model.spectra_.shape[1:]
    aspect = shape[-2] / shape[-1] if len(shape) > 1 else 0.6

    figures = []
    for first in range(0, model.n_components_, rows_per_page):
        rows = range(first, min(first + rows_per_page, model.n_components_))
        figure = _figure((n_patches + 1.2) * _CELL_INCHES + 2.4, max(2.4, len(rows) * _CELL_INCHES * aspect + 0.5))
        left, right = figure.subplots(1, 2, width_ratios=[n_patches, 1])
        for axes, n_columns in ((left, n_patches), (right, 1)):
            _prepare_grid(axes, n_columns, len(rows), aspect)
        for row, k in enumerate(rows):
            if claimed[k]:
                for column, index in enumerate(best[k]):
                    _draw_sample(left, samples[index].reshape(shape), column, row)
            else:
                left.text(n_patches / 2, row + 0.5, "no sample", ha="center", va="center", color="0.4", fontsize=8)
            mappable = _draw_spectrum(right, spectra[k], row, limits)
        left.set_yticks(
            np.arange(len(rows)) + 0.5, [f"{k}: {claimed[k]:,} ({model.weights_[k]:.1%})" for k in rows], fontsize=7
        )
        left.set_title(
            f"component: samples claimed (weight); its {best.shape[1]} samples of largest posterior", fontsize=8
        )
        right.set_title("filter", fontsize=8)
        if mappable is not None:
            figure.colorbar(mappable, ax=right, fraction=0.5, pad=0.15, aspect=15).set_label(
                _SPECTRUM_LABEL, fontsize=8
            )
        figures.append(figure)
    return figures


def plot_spectra(model: ConvGMM, *, n_columns: int = 8) -> Figure:
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
    """
    check_is_fitted(model)
    spectra = _log_filter_spectra(model)
    limits = _limits(spectra)
    n_columns = min(n_columns, len(spectra))
    n_rows = -(-len(spectra) // n_columns)
    shape = model.spectra_.shape[1:]
    aspect = shape[-2] / shape[-1] if len(shape) > 1 else 0.6
    figure = _figure((n_columns + 2) * 1.5 * _CELL_INCHES, (n_rows + 1) * 1.5 * _CELL_INCHES * aspect)
    axes = figure.subplots()
    _prepare_grid(axes, n_columns, n_rows, aspect)
    for k, spectrum in enumerate(spectra):
        row, column = divmod(k, n_columns)
        mappable = _draw_spectrum(axes, spectrum, row, limits, column)
        axes.text(column + _GAP, row + _GAP, str(k), va="top", fontsize=6, color="white" if len(shape) > 1 else "0.4")
    axes.set_title("filters, zero frequency in the middle", fontsize=9)
    if mappable is not None:
        figure.colorbar(mappable, ax=axes, fraction=0.05).set_label(_SPECTRUM_LABEL, fontsize=8)
    return figure


def plot_likelihood(model: Mixture[Any, Any, Any]) -> Figure:
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
    if model.n_iter_ > 10:
        low, high = model.lower_bounds_[1], model.lower_bounds_.max()
        axes.set_ylim(low - 0.02 * (high - low), high + 0.05 * (high - low))
    axes.grid(alpha=0.3)
    return figure


def plot_weights(model: Mixture[Any, Any, Any]) -> Figure:
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


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, outside pyplot, so that nothing keeps or shows it."""
    figure: Figure = require("matplotlib.figure", "plot", "plotting").Figure((width, height), layout="constrained")
    return figure


def _log_filter_spectra(model: ConvGMM) -> NDArray[np.float64]:
    """Return log₁₀ 1/S_k with zero frequency in the middle; NaN where the model has no such frequency."""
    filters = model.filter_spectra_
    with np.errstate(divide="ignore"):
        logarithm = np.where(filters > 0, np.log10(filters), np.nan)
    return np.asarray(np.fft.fftshift(logarithm, axes=tuple(range(1, filters.ndim))))


def _limits(spectra: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of all spectra, so that one scale serves the whole picture."""
    low, high = float(np.nanmin(spectra)), float(np.nanmax(spectra))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


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


def _cell(column: int, row: int) -> tuple[float, float, float, float]:
    """Return the part of a cell that is drawn in, as left, right, bottom, top."""
    return column + _GAP / 2, column + 1 - _GAP / 2, row + 1 - _GAP / 2, row + _GAP / 2


def _draw_curve(axes: Axes, values: NDArray[Any], column: int, row: int, low: float, high: float, color: str) -> None:
    left, right, bottom, top = _cell(column, row)
    height = (values - low) / (high - low if high > low else 1)
    axes.plot(np.linspace(left, right, len(values)), bottom + (top - bottom) * height, color=color, linewidth=0.7)


def _draw_sample(axes: Axes, sample: NDArray[Any], column: int, row: int) -> None:
    if sample.ndim == 1:
        _draw_curve(axes, sample, column, row, float(sample.min()), float(sample.max()), "0.2")
    else:
        _draw_image(axes, _middle_slice(sample), column, row, cmap="gray")


def _draw_spectrum(
    axes: Axes, spectrum: NDArray[np.float64], row: int, limits: tuple[float, float], column: int = 0
) -> Any:
    """Draw a spectrum; return what a colour bar describes, None for a curve."""
    if spectrum.ndim == 1:
        _draw_curve(axes, spectrum, column, row, *limits, "tab:blue")
        return None
    return _draw_image(axes, _middle_slice(spectrum), column, row, cmap="viridis", vmin=limits[0], vmax=limits[1])


def _middle_slice(values: NDArray[Any]) -> NDArray[Any]:
    return values[len(values) // 2] if values.ndim == 3 else values


def _draw_image(axes: Axes, image: NDArray[Any], column: int, row: int, **options: Any) -> Any:
    limits = axes.get_xlim(), axes.get_ylim(), axes.get_aspect()
    drawn = axes.imshow(image, extent=_cell(column, row), interpolation="nearest", **options)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    axes.set_aspect(limits[2])
    return drawn
