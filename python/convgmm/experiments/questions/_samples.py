"""Samples of every published model, and how they differ from real ones."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import plotting
from ...classifier import MixtureClassifier
from ...deep import DeepGMM
from ...full import FullGMM
from .._measures import different_bins
from .._recipes import RECIPES, Recipe
from ._answer import Answer, Setting, of_digits

#: Iterations of every layer, and rows and columns of a sheet.
_ITERATIONS, _SHEET = 10, (6, 16)
#: Components of each class.
_OF_A_CLASS = 8


def samples(setting: Setting) -> Answer:
    """Draw from every published model, layers too, and from classes; compare with real samples."""
    seed, sizes = setting.seeds[0], setting.sizes
    rng, rows, figures = np.random.RandomState(seed), [], {}

    def compare(name: str, drawn: NDArray[Any], group: NDArray[Any], train: NDArray[Any], real: NDArray[Any]) -> None:
        chance, different = different_bins(train, (real, drawn), sizes.bins, rng)
        rows.append([name, f"{different:.0%}", f"{chance:.0%}"])
        figures[f"samples-{name.replace(', ', '-').replace(' ', '-')}"] = _sheet(drawn, group, real, name)

    for recipe in (each for each in RECIPES.values() if not each.beyond):
        data = recipe.load(setting.data_dir, seed)
        order = np.random.default_rng(seed).permutation(len(data.train))
        real, train = data.train[order[: sizes.shown]], data.train[order[sizes.shown :][: sizes.sampled]]
        model = _shorter(recipe).model(seed, progress=False).fit(train)
        n_layers = len(model.layers_)
        for depth in range(min(2, n_layers), n_layers + 1):  # the first of several layers is a model of its own
            name = recipe.name if n_layers == 1 else f"{recipe.name}, layer {depth}"
            compare(name, *drawn_through(model, depth, len(real), rng), train, real)
    X, y = setting.training_digits(seed, sizes.sampled + sizes.shown)
    real, train, labels = X[: sizes.shown], X[sizes.shown :], y[sizes.shown :]
    full = FullGMM(_OF_A_CLASS, reg_covar=0.01, max_iter=5, tol=0)
    for name, mixture in (("spectra", of_digits(_OF_A_CLASS, seed)), ("full", full)):
        classifier = MixtureClassifier(mixture, temperature=1.0, random_state=seed).fit(train, labels)
        compare(f"by class, {name}", *classifier.sample(len(real)), train, real)
    differing = ", ".join(f"{name} {different}" for name, different, _ in rows)
    text = (
        "Samples of power spectra are textures: phases are random, so no stroke and no edge is drawn; of patches of "
        "photographs they have grain and orientation, and no objects. Full covariances draw digits, with noise where "
        "pixels vary. From an upper layer a sample is a row of outputs: its largest value names the component of the "
        "layer below that draws on, down to the pixels. So an upper layer says which components occur and how often, "
        "and cannot say more of a picture than the first layer's component does. Bins of real samples that drawn ones "
        f"fill differently (Richardson and Weiss 2018): {differing}; for other real samples {rows[0][2]}."
    )
    caption = (
        f"Of {sizes.bins} bins of real samples, the share in which {sizes.shown:,} drawn ones, or as many other real "
        "ones, have a different frequency (at 5 %)."
    )
    return Answer(text, {caption: [["model", "drawn samples", "real samples"], *rows]}, figures)


def _shorter(recipe: Recipe) -> Recipe:
    """Return the recipe with as many iterations as a sheet needs."""
    layers = tuple(replace(each, options={**each.options, "max_iter": _ITERATIONS}) for each in recipe.layers)
    return replace(recipe, layers=layers)


def drawn_through(
    model: DeepGMM, depth: int, n: int, rng: np.random.RandomState
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Draw n samples (n, *shape) from a layer down to the pixels, and that layer's components (n,).

    What an upper layer draws is a row of outputs; the largest of them names the component below that draws on.
    """
    values, top = model.layers_[depth - 1].model_.sample(n, rng)
    for layer in reversed(model.layers_[: depth - 1]):
        mixture = layer.model_
        chosen = values.reshape(n, -1).argmax(axis=1)
        drawn = np.empty((n, *mixture.shape))
        for k in np.unique(chosen):
            rows = np.flatnonzero(chosen == k)
            drawn[rows] = mixture.family.draw(mixture.arrays, int(k), len(rows), rng).reshape(-1, *mixture.shape)
        values = drawn
    return values, top


def _sheet(drawn: NDArray[Any], group: NDArray[Any], real: NDArray[Any], title: str) -> Any:
    """Show samples in the order of their groups, and below them real ones, each with its own contrast."""
    rows, columns = _SHEET
    n = rows * columns
    order = np.argsort(group[:n], kind="stable")
    images = np.concatenate([drawn[:n][order], real[:columns]])
    low, high = (images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True))
    cells = np.pad((images - low) / np.maximum(high - low, 1e-12), ((0, 0), (1, 1), (1, 1)), constant_values=1)
    height, width = cells.shape[1:]
    cells = cells.reshape(-1, columns, height, width).transpose(0, 2, 1, 3).reshape(-1, columns * width)
    figure = plotting._figure(9, 4.6)
    for axes, part in zip(
        figure.subplots(2, 1, height_ratios=[rows, 1]), np.split(cells, [rows * height]), strict=True
    ):
        axes.imshow(part, cmap="gray")
        axes.set_axis_off()
    figure.axes[0].set_title(title, fontsize=9)
    figure.axes[1].set_title("real", fontsize=9)
    return figure
