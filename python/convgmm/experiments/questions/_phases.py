"""Phases: of filters, which can be chosen, and of images, which carry what is seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ... import plotting
from ...classifier import MixtureClassifier
from ...conv import ConvGMM
from ...datasets import extract_patches, load_sample_images
from ...full import FullGMM
from ._answer import Answer, Digits, Setting, of_digits, spread

#: Filters, and cells a side that their rectified responses are summed over.
_FILTERS, _CELLS = 8, 4
_TINY = 1e-12


def phases(setting: Setting) -> Answer:
    """Choose phases for filters, and take phases or gains from images; see what changes."""
    seed = setting.seeds[0]
    train, test = setting.training_digits(seed, setting.sizes.phased), setting.shown_digits()
    model = of_digits(_FILTERS, seed).fit(train[0])
    filters = _filters(model, seed)
    rows, distances = [], []
    for phase, impulses in filters.items():
        transfer = np.fft.fft2(impulses)
        off = float(np.max(np.abs(np.abs(transfer) ** 2 / model.filter_spectra_ - 1)))
        energy = impulses.reshape(len(impulses), -1) ** 2
        first = energy[:, : energy.shape[1] // 4].sum(axis=1) / energy.sum(axis=1)
        responses = _responses(impulses, test[0][:200].astype(np.float64))
        distances.append((responses**2).sum(axis=(2, 3)))
        accuracy = _pooled_accuracy(impulses, train, test)
        rows.append([phase, f"{off:.0e}", spread(first), f"{accuracy:.2%}"])
    same = float(np.max(np.abs(np.array(distances) / distances[0] - 1)))
    cut = {name: _cut_accuracies(cut, train, test, seed) for name, cut in _CUTS.items()}
    pooled = {name: row[3] for name, row in zip(filters, rows, strict=True)}
    whole, gains, alone = cut.values()
    text = (
        "The filters' phases cannot be reconstructed, since the density depends on their gains alone; they can be "
        "chosen. Zero phase makes a filter symmetric, minimum phase causal, with its energy first. A mixture's classes "
        f"do not depend on the choice: distances ‖f ∗ x‖² agree to {same:.0e}. They do where responses are rectified "
        "and summed over cells, so that it counts how far a filter reaches: of the test digits a linear classifier of "
        f"such sums of {_FILTERS} filters names "
        + ", ".join(f"{share} rightly with {name}" for name, share in pooled.items())
        + f". Images' own phases are another matter. Digits whose phases are random are classified {gains[1]:.1%} "
        f"rightly by full covariances, against {whole[1]:.1%} whole; those with phases alone {alone[1]:.1%}. Spectra, "
        f"which do not see phases, get {whole[0]:.1%}, {gains[0]:.1%} and, with phases alone, {alone[0]:.1%}. A "
        "photograph's gains with other phases show nothing of it, its phases alone every contour."
    )
    pictures, of_photograph = _photograph(seed)
    pictures_of_filters = plotting._figure(8, 3.4)
    for line, (phase, each) in zip(pictures_of_filters.subplots(len(filters), _FILTERS), filters.items(), strict=True):
        for axes, image in zip(line, np.fft.fftshift(each, axes=(1, 2)), strict=True):
            _draw(axes, image, "RdBu_r", np.abs(image).max())
        line[0].set_ylabel(phase, fontsize=7)
    tables = {
        f"{_FILTERS} filters of digits.": [
            ["filters", "largest relative error of |F|²", "energy in the first quarter", "accuracy, pooled responses"],
            *rows,
        ],
        "Accuracy on test digits of one mixture per class, trained on digits that are left the same.": [
            ["what is left", "ConvGMM", "FullGMM"],
            *([name, *(f"{each:.1%}" for each in shares)] for name, shares in cut.items()),
        ],
        "A photograph's responses to a filter of its patches, compared with those of zero phase.": [
            ["filter", "correlation", "correlation, rectified and summed over 16×16"],
            *of_photograph,
        ],
    }
    return Answer(text, tables, {"photograph": pictures, "impulses": pictures_of_filters})


def _photograph(seed: int) -> tuple[Any, list[list[str]]]:
    """Show what filters of each phase do to a photograph, and what is left without its phases or gains."""
    photograph = load_sample_images()[0][:256, :256]
    patches = extract_patches([photograph], (16, 16), 10_000, random_state=seed)
    model = ConvGMM(4, max_iter=20, tol=0, random_state=seed).fit(patches)
    image = photograph.astype(np.float64) - photograph.mean()
    chosen = int(np.argmax(model.weights_))
    responses = {}
    for phase, impulses in _filters(model, seed).items():
        centred = np.pad(np.fft.fftshift(impulses[chosen]), (0, 240))
        responses[f"{phase}: response"] = _responses(np.roll(centred, (-8, -8), (0, 1))[None], image[None])[0, 0]
    transform, noise = np.fft.fft2(image), np.fft.fft2(np.random.default_rng(seed).standard_normal(image.shape))
    whole = ConvGMM.from_parameters([1.0], 1 / np.maximum(np.abs(transform), _TINY)[None] ** 2, remove_mean=False)
    shown = {
        "photograph": image,
        **responses,
        "its gains, random phases": np.fft.ifft2(np.abs(transform) * _phase(noise)).real,
        "its gains, minimum phase": whole.filters(phase="minimum")[0],
        "its gains, zero phase": np.fft.fftshift(whole.filters(phase="zero")[0]),
        "its phases, gains 1": np.fft.ifft2(_phase(transform)).real,
    }
    figure = plotting._figure(10, 5.4)
    for axes, (title, each) in zip(figure.subplots(2, 4).flat, shown.items(), strict=True):
        _draw(axes, each, "gray", 3 * each.std())
        axes.set_title(title, fontsize=8)
    zero, *_ = responses.values()
    rows = []
    for name, each in responses.items():
        pooled = [np.abs(one).reshape(16, 16, 16, 16).mean(axis=(1, 3)).ravel() for one in (zero, each)]
        plain = np.corrcoef(zero.ravel(), each.ravel())[0, 1]
        rows.append([name.split(":")[0], f"{plain:.3f}", f"{np.corrcoef(*pooled)[0, 1]:.3f}"])
    return figure, rows


def _draw(axes: Any, image: NDArray[np.float64], colormap: str, limit: float) -> None:
    axes.imshow(image, cmap=colormap, vmin=-limit, vmax=limit)
    axes.set_xticks([])
    axes.set_yticks([])


def _filters(model: ConvGMM, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return the filters (K, *shape) with zero, minimum and random phase."""
    filters = {f"{phase} phase": model.filters(phase=phase) for phase in ("zero", "minimum")}
    noise = np.random.default_rng(seed).standard_normal(filters["zero phase"].shape)
    filters["random phase"] = np.fft.ifft2(np.sqrt(model.filter_spectra_) * _phase(np.fft.fft2(noise))).real
    return filters


def _phase(transform: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return the transform with a gain of 1."""
    return transform / np.maximum(np.abs(transform), _TINY)


def _responses(impulses: NDArray[np.float64], images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return f_k ∗ x, circular, (n, K, *shape)."""
    return np.asarray(np.fft.ifft2(np.fft.fft2(images)[:, None] * np.fft.fft2(impulses)).real)


def _pooled_accuracy(impulses: NDArray[np.float64], train: Digits, test: Digits) -> float:
    """Return the accuracy of a linear classifier of rectified responses, summed over a grid of cells."""

    def features(images: NDArray[np.float32]) -> NDArray[np.float64]:
        parts = []
        for block in np.array_split(images, max(1, len(images) // 500)):
            rectified = np.abs(_responses(impulses, block.astype(np.float64)))
            side = rectified.shape[-1] // _CELLS
            cells = rectified.reshape(len(block), len(impulses), _CELLS, side, _CELLS, side).mean(axis=(3, 5))
            parts.append(np.sqrt(cells.reshape(len(block), -1)))
        return np.concatenate(parts)

    linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3)
    return float(linear.fit(features(train[0]), train[1]).score(features(test[0]), test[1]))


# What is left of digits, from their transforms and those of noise.
_CUTS: dict[str, Any] = {
    "whole": lambda transform, noise: transform,
    "gains alone, phases random": lambda transform, noise: np.abs(transform) * _phase(noise),
    "phases alone, gains 1": lambda transform, noise: _phase(transform),
}


def _cut_accuracies(cut: Any, train: Digits, test: Digits, seed: int) -> list[float]:
    """Return the accuracy of one mixture per class, spectra and full covariances, on what a cut leaves of digits."""
    rng = np.random.default_rng(seed)

    def left(images: NDArray[np.float32]) -> NDArray[np.float32]:
        noise = np.fft.fft2(rng.standard_normal(images.shape))
        return np.asarray(np.fft.ifft2(cut(np.fft.fft2(images.astype(np.float64)), noise)).real, dtype=np.float32)

    seen, shown = left(train[0]), left(test[0])
    mixtures = (of_digits(_FILTERS, seed), FullGMM(1, reg_covar=0.05 * float(seen.var()), max_iter=2, tol=0))
    return [MixtureClassifier(each, temperature=1.0).fit(seen, train[1]).score(shown, test[1]) for each in mixtures]
