"""The questions that the published experiments end with, each answered by figures and pictures of its own.

Every question is a function from the seeds and the data to an `Answer`. Figures are means over seeds, with the standard
deviation where a table says ±; sizes are such that all seven take minutes.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import confusion_matrix

from .. import plotting
from ..classifier import MixtureClassifier
from ..conv import ConvGMM
from ..datasets import load_mnist, load_sample_images
from ..deep import DeepGMM
from ..estimator import Mixture
from ..full import FullGMM
from ..initialize import k_means
from ._measures import class_measures, overlap
from ._recipes import RECIPES

Place = str | None  # of the data

# Samples of digits for classifiers and for layers, and of test digits for layers; bins of the two-sample test.
_POWERS = (0.9, 1.1, 1.25)
_CLASSIFIED, _LAYERED, _SHOWN, _BINS = 10_000, 3_000, 3_000, 50


@dataclass(frozen=True)
class Answer:
    """What is said, measured and shown: text, tables by their captions (header, then rows), pictures by their names."""

    text: str
    tables: dict[str, list[list[str]]]
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question as it was published, by its name in files, and what answers it."""

    name: str
    asked: str
    answer: Callable[[Place, range], Answer]
    n_seeds: int


def _spread(values: Any, digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def _digits(data_dir: Place, seed: int, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return n training digits, other ones for each seed, with their classes."""
    X, y = load_mnist("train", data_dir)
    rows = np.random.default_rng(seed).permutation(len(X))[:n]
    return X[rows], y[rows]


def _shown(data_dir: Place) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    X, y = load_mnist("test", data_dir)
    return X[:_SHOWN], y[:_SHOWN]


def _conv(n_components: int, seed: int, **options: Any) -> ConvGMM:
    defaults = {"remove_mean": False, "reg_spectrum": 1e-2, "max_iter": 15, "tol": 0}
    return ConvGMM(n_components, random_state=seed, **(defaults | options))


def _errors(classifier: MixtureClassifier, X: Any, y: Any) -> float:
    return float(1 - classifier.score(X, y))


# ---- 1: classes ------------------------------------------------------------------------------------------------------


def _classes(data_dir: Place, seeds: range) -> Answer:
    test, classes = load_mnist("test", data_dir)
    X, y = _digits(data_dir, seeds[0], _CLASSIFIED)
    small, labels = load_digits(return_X_y=True)
    small, half = small.reshape(-1, 8, 8) / 16, np.arange(len(small)) % 2 == 0
    large, little = (X, y, test, classes), (small[half], labels[half], small[~half], labels[~half])
    # Full covariances of 784 pixels take minutes; of half the resolution, seconds.
    pooled = (_pooled(X), y, _pooled(test), classes)

    def full(*numbers: int, reg_covar: float) -> list[Mixture]:
        return [FullGMM(K, reg_covar=reg_covar, max_iter=5, tol=0, random_state=seeds[0]) for K in numbers]

    cases: dict[str, tuple[tuple[Any, ...], list[Mixture]]] = {
        "ConvGMM, 28×28": (large, [_conv(4, seeds[0]), _conv(16, seeds[0])]),
        "FullGMM, 14×14": (pooled, full(2, 8, reg_covar=0.02)),
        "ConvGMM, 8×8": (little, [_conv(1, seeds[0]), _conv(3, seeds[0])]),
        "FullGMM, 8×8": (little, full(1, 2, reg_covar=0.01)),
    }
    rows, figures, accuracy = [], {}, {}
    for name, ((train, of_train, shown, known), candidates) in cases.items():
        fitted = [MixtureClassifier(mixture, random_state=0).fit(train, of_train) for mixture in candidates]
        best = min(fitted, key=lambda classifier: classifier.held_out_log_loss_)
        found = best.predict(shown)
        log_p = best.predict_log_proba(shown)[np.arange(len(known)), np.searchsorted(best.classes_, known)]
        accuracy[name] = float(np.mean(found == known))
        figures_of = [f"{accuracy[name]:.2%}", f"{-log_p.mean():.3f}", f"{best.temperature_:.1f}"]
        rows.append([name, str(best.mixture.n_components), *figures_of])
        if known is classes:
            counts = confusion_matrix(known, found)
            file = name.split(",")[0]
            figures[f"confusion-{file}"] = _matrix(np.log1p(counts), f"{name}: log(1 + n), class by prediction")
            figures[f"divergence-{file}"] = _matrix(
                best.divergence(50), f"{name}: divergence, nats, from row to column"
            )
    text = (
        f"Yes. One model per class, and Bayes' rule, classify {accuracy['ConvGMM, 28×28']:.1%} of the test digits with "
        f"power spectra and {accuracy['FullGMM, 14×14']:.1%} with full covariances (from {_CLASSIFIED:,} training "
        f"digits; the number of components was chosen on held-out training digits). Spectra do not see the phase: 6 "
        f"and 9, one turned into the other, have the same."
    )
    header = ["data, model", "components a class", "test accuracy", "test log-loss, nats", "temperature"]
    return Answer(text, {"Class-conditional mixtures.": [header, *rows]}, figures)


def _pooled(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images of half the resolution."""
    return np.asarray((images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]) / 4)


def _matrix(values: NDArray[np.float64], title: str) -> Any:
    figure = plotting._figure(5, 4.4)
    axes = figure.subplots()
    image = axes.imshow(values, cmap="Blues")
    figure.colorbar(image, ax=axes)
    axes.set_xticks(range(len(values)))
    axes.set_yticks(range(len(values)))
    axes.set_title(title, fontsize=9)
    return figure


# ---- 2: discriminative training, narrowness --------------------------------------------------------------------------


def _discrimination(data_dir: Place, seeds: range) -> Answer:
    test, classes = load_mnist("test", data_dir)
    points: dict[str, list[tuple[float, float, float]]] = {}
    fewer = []

    def measure(name: str, classifier: MixtureClassifier) -> float:
        apart = float(np.mean([overlap(mixture) for mixture in classifier.mixtures_]))
        wide = float(np.mean([_bandwidth(mixture) for mixture in classifier.mixtures_]))
        error = _errors(classifier, test, classes)
        points.setdefault(name, []).append((apart, wide, error))
        return error

    for seed in seeds:
        X, y = _digits(data_dir, seed, _CLASSIFIED)
        plain = MixtureClassifier(_conv(8, seed), temperature=12.0).fit(X, y)
        refined = clone(plain).set_params(refine="mmi", refine_max_iter=25).fit(X, y)
        fewer.append(1 - measure("refined", refined) / max(measure("likelihood", plain), 1e-9))
        for power in _POWERS:
            measure(f"spectra to the power {power:g}", _sharpened(plain, power))
    rows = [
        [name, *(_spread([value[i] for value in values], (1, 3, 4)[i]) for i in range(3))]
        for name, values in points.items()
    ]
    figure = plotting._figure(8, 3.6)
    for axes, index, label in zip(figure.subplots(1, 2, sharey=True), (0, 1), ("overlap", "bandwidth"), strict=True):
        for name, values in points.items():
            axes.scatter([value[index] for value in values], [1 - value[2] for value in values], label=name, s=14)
        axes.set_xlabel(
            "divergence to the nearest component, nats" if label == "overlap" else "share of frequencies in use"
        )
    figure.axes[0].set_ylabel("test accuracy")
    figure.axes[1].legend(fontsize=7)
    mean = {name: np.mean(values, axis=0) for name, values in points.items()}
    wide, narrow = (mean[f"spectra to the power {power:g}"] for power in (_POWERS[0], _POWERS[-1]))
    plain_error = mean["likelihood"][2]
    text = (
        f"Training the classes' mixtures against one another, with as many parameters, makes {np.mean(fewer):.0%} "
        f"fewer errors on the test digits ({min(fewer):.0%} to {max(fewer):.0%} over {len(seeds)} seeds), and "
        f"components lie further apart: {mean['refined'][0]:.0f} nats to the nearest, {mean['likelihood'][0]:.0f} "
        f"before. Their bands hold {mean['refined'][1]:.3f} and {mean['likelihood'][1]:.3f} of all frequencies. "
        f"They can be made narrower by force; spectra to the power {_POWERS[-1]:g} use {narrow[1]:.3f} of them, lie "
        f"{narrow[0]:.0f} nats apart and make {narrow[2]:.1%} errors, against {plain_error:.1%} as they were trained "
        f"and {wide[2]:.1%} to the power {_POWERS[0]:g}, where bands are wider ({wide[1]:.3f}). So distance alone is "
        "not discrimination."
    )
    header = ["components", "divergence to the nearest, nats", "share of frequencies in use", "test errors"]
    return Answer(text, {f"Over {len(seeds)} seeds.": [header, *rows]}, {"discrimination": figure})


def _bandwidth(mixture: Mixture) -> float:
    """Return the mean share of frequencies that a component's power is spread over, exp(entropy) / number."""
    power = mixture.model_.arrays["spectra"].reshape(mixture.n_components_, -1)
    share = power / power.sum(axis=1, keepdims=True)
    return float(np.exp(-np.sum(share * np.log(np.maximum(share, 1e-300)), axis=1)).mean() / power.shape[1])


def _sharpened(classifier: MixtureClassifier, power: float) -> MixtureClassifier:
    """Return the classifier with spectra raised to a power: above 1, of narrower bands."""
    changed = copy.deepcopy(classifier)
    for mixture in changed.mixtures_:
        spectra = mixture.model_.arrays["spectra"]
        axes = tuple(range(1, spectra.ndim))
        raised = spectra**power
        raised *= (spectra / raised).mean(axis=axes, keepdims=True)  # the likeliest scale for samples of the old ones
        mixture.spectra_ = raised
    return changed


# ---- 3: samples ------------------------------------------------------------------------------------------------------


def _samples(data_dir: Place, seeds: range) -> Answer:
    rows, figures = [], {}
    rng = np.random.RandomState(seeds[0])
    for name, recipe in RECIPES.items():
        if recipe.beyond:
            continue
        # The published models, with as many samples and iterations as a sheet needs.
        layers = tuple(replace(each, options={**each.options, "max_iter": 5}) for each in recipe.layers)
        small = replace(recipe, layers=layers)
        data = small.load(data_dir, seeds[0])
        rows_used = np.random.default_rng(seeds[0]).permutation(len(data.train))[: _LAYERED + _SHOWN]
        X, real = data.train[rows_used[:_LAYERED]], data.train[rows_used[_LAYERED:]]
        model = small.model(seeds[0], progress=False).fit(X)
        drawn, components = drawn_through(model, len(real), rng)
        figures[f"samples-{name}"] = _sheet(drawn[np.argsort(components[:96], kind="stable")], name)
        different, chance = different_bins(X, real, rng), different_bins(X, drawn, rng)
        rows.append([name, f"{chance:.0%}", f"{different:.0%}"])
    X, y = _digits(data_dir, seeds[0], _CLASSIFIED)
    classifier = MixtureClassifier(_conv(8, seeds[0]), temperature=12.0, priors=np.full(10, 0.1), random_state=seeds[0])
    drawn, labels = classifier.fit(X, y).sample(96)
    figures["samples-by-class"] = _sheet(drawn[np.argsort(labels, kind="stable")], "digits by class, power spectra")
    text = (
        "Samples of power spectra are textures: the phases are random, so no edge and no stroke is drawn; full "
        "covariances draw strokes, blurred. From an upper layer a sample is a row over the components below; "
        "it is taken "
        "as a choice among them, downwards to the first layer, which draws the pixels. So an upper layer can only say "
        "which components occur together; what is in a picture the first layer alone decides. The number of "
        "statistically different bins (Richardson and Weiss 2018) tells the samples of every model from real ones."
    )
    header = ["model", "bins that differ, samples", "bins that differ, other real samples"]
    return Answer(text, {f"Of {_BINS} bins, significant at 5 %.": [header, *rows]}, figures)


def drawn_through(model: DeepGMM, n: int, rng: np.random.RandomState) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Draw n samples (n, *shape) from the last layer down to the pixels, and the last layer's components (n,).

    What an upper layer draws is a row of outputs; the largest of them names the component below that draws on.
    """
    values, top = model.layers_[-1].model_.sample(n, rng)
    for layer in reversed(model.layers_[:-1]):
        mixture = layer.model_
        chosen = values.reshape(n, -1).argmax(axis=1)
        drawn = np.empty((n, *mixture.shape))
        for k in np.unique(chosen):
            rows = np.flatnonzero(chosen == k)
            drawn[rows] = mixture.family.draw(mixture.arrays, int(k), len(rows), rng).reshape(-1, *mixture.shape)
        values = drawn
    return values, top


def different_bins(reference: NDArray[Any], samples: NDArray[Any], rng: np.random.RandomState) -> float:
    """Return the share of bins of k-means that samples fall into with another frequency than the reference, at 5 %.

    The number of statistically different bins of Richardson and Weiss (2018).
    """
    X, S = (each.reshape(len(each), -1).astype(np.float64) for each in (reference, samples))
    centres = k_means(X[:4000], _BINS, rng, 0)
    squares = (centres**2).sum(axis=1)
    p, q = (
        np.bincount((squares - 2 * each @ centres.T).argmin(axis=1), minlength=_BINS) / len(each) for each in (X, S)
    )
    pooled = (p * len(X) + q * len(S)) / (len(X) + len(S))
    deviation = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / len(X) + 1 / len(S)), 1e-300))
    return float(np.mean(np.abs(p - q) / deviation > norm.isf(0.025)))


def _sheet(images: NDArray[Any], title: str) -> Any:
    """Show 96 images side by side, as one picture, each with its own contrast."""
    low, high = (images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True))
    tiles = np.pad((images - low) / np.maximum(high - low, 1e-12), ((0, 0), (1, 1), (1, 1)), constant_values=1)
    n, height, width = tiles.shape
    sheet = tiles.reshape(6, n // 6, height, width).transpose(0, 2, 1, 3).reshape(6 * height, -1)
    figure = plotting._figure(8, 3.4)
    axes = figure.subplots()
    axes.imshow(sheet, cmap="gray")
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
    return figure


# ---- 4: phases -------------------------------------------------------------------------------------------------------


def _phases(data_dir: Place, seeds: range) -> Answer:
    X, _ = _digits(data_dir, seeds[0], _LAYERED)
    model = _conv(8, seeds[0]).fit(X)
    filters = {phase: model.filters(phase=phase) for phase in ("zero", "minimum")}
    power = model.filter_spectra_
    rows, distances = [], []
    x = X[:200].astype(np.float64)
    for phase, impulse in filters.items():
        transfer = np.fft.fft2(impulse)
        off = float(np.max(np.abs(np.abs(transfer) ** 2 / power - 1)))
        flat = impulse.reshape(len(impulse), -1) ** 2
        first = flat[:, : flat.shape[1] // 4].sum(axis=1) / flat.sum(axis=1)
        answers = np.fft.ifft2(np.fft.fft2(x)[:, None] * transfer).real
        distances.append((answers**2).sum(axis=(2, 3)))
        rows.append([phase, f"{off:.1e}", _spread(first)])
    same = float(np.max(np.abs(distances[0] / distances[1] - 1)))
    photograph = load_sample_images()[0][:256, :256].astype(np.float64)
    spectrum = np.fft.fft2(photograph - photograph.mean())
    noise = np.exp(1j * np.angle(np.fft.fft2(np.random.default_rng(seeds[0]).standard_normal(photograph.shape))))
    whole = ConvGMM.from_parameters([1.0], 1 / np.maximum(np.abs(spectrum), 1e-9)[None] ** 2, remove_mean=False)
    shown = {
        "photograph": photograph,
        "its gain, its phase lost": np.fft.ifft2(np.abs(spectrum) * noise).real,
        "its gain, minimum phase": whole.filters(phase="minimum")[0],
        "its phase, gain 1": np.fft.ifft2(spectrum / np.maximum(np.abs(spectrum), 1e-9)).real,
    }
    figure = plotting._figure(10, 2.9)
    for axes, (title, image) in zip(figure.subplots(1, 4), shown.items(), strict=True):
        low, high = np.quantile(image, (0.01, 0.99))
        axes.imshow(image, cmap="gray", vmin=low, vmax=high)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    impulses = plotting._figure(8, 2.6)
    for row, (phase, impulse) in zip(impulses.subplots(2, len(power), squeeze=False), filters.items(), strict=True):
        for axes, image in zip(row, np.fft.fftshift(impulse, axes=(1, 2)), strict=True):
            axes.imshow(image, cmap="RdBu_r", vmin=-np.abs(image).max(), vmax=np.abs(image).max())
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(phase, fontsize=8)
    text = (
        "The phases of the filters cannot be reconstructed, as the density does not depend on them; they can "
        "be chosen. "
        "Zero phase makes a filter symmetric, minimum phase causal, with its energy first. For "
        "classification the choice "
        f"is of no importance: distances ‖f ∗ x‖² agree to {same:.0e}, and so does every posterior. The phases of the "
        "photograph are another matter: with its gains alone nothing is recognised, with its phases alone "
        "everything is."
    )
    header = ["phase", "largest relative error of |F|²", "energy in the first quarter"]
    return Answer(text, {"Eight filters of digits.": [header, *rows]}, {"phases": figure, "impulses": impulses})


# ---- 5 to 7: layers --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _layers(data_dir: Place, seed: int, options: tuple[tuple[str, Any], ...] = ()) -> tuple[DeepGMM, Any, Any]:
    """Return the three published layers, fitted to few digits, the digits and their classes."""
    X, y = _digits(data_dir, seed, _LAYERED)
    recipe = RECIPES["deep3"]
    layers = [each.estimator(**each.options, tol=0, random_state=seed) for each in recipe.layers]
    for layer in layers:
        given = {name: value for name, value in options if not (name == "drop_last" and layer is layers[-1])}
        layer.set_params(**({"max_iter": 10} | given))
        if isinstance(layer, FullGMM) and dict(options).get("drop_last"):
            layer.set_params(reg_covar=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return DeepGMM(layers).fit(X), X, y


def _measured(model: DeepGMM, data_dir: Place) -> list[dict[str, float]]:
    """Return figures of every layer on test digits."""
    X, y = _shown(data_dir)
    found = []
    for layer, values in model.layer_inputs(X):
        posterior, log_p = layer.posterior(values)
        components = posterior.argmax(axis=1)
        counts = np.zeros((10, layer.n_components_))
        np.add.at(counts, (y, components), 1)
        # exp(entropy): a class that is spread evenly over m components has m of them.
        effective = [_effective(counts), _effective(counts.T[counts.sum(axis=0) > 0])]
        found.append(
            class_measures(y, components)
            | {"log_likelihood": float(log_p.mean(dtype=np.float64)), "n_components": float(layer.n_components_)}
            | dict(zip(("components_a_class", "classes_a_component"), effective, strict=True))
        )
    return found


def _effective(counts: NDArray[np.float64]) -> float:
    """Return the mean over rows, by their totals, of exp(entropy)."""
    share = counts / counts.sum(axis=1, keepdims=True)
    entropy = -np.sum(share * np.log(np.maximum(share, 1e-300)), axis=1)
    return float(np.average(np.exp(entropy), weights=counts.sum(axis=1)))


_TRAININGS: dict[str, dict[str, Any]] = {
    "EM": {},
    "hard": {"algorithm": "hard"},
    "stochastic": {"algorithm": "stochastic"},
    "temperature 20": {"temperature": 20.0},
    "drop_last": {"drop_last": True},
    "3 starts": {"n_init": 3},
}


def _training(data_dir: Place, seeds: range) -> Answer:
    measures = ("purity", "nmi", "class_entropy", "log_likelihood")
    rows, nmi = [], {}
    for name, options in _TRAININGS.items():
        runs = [_measured(_layers(data_dir, seed, tuple(options.items()))[0], data_dir) for seed in seeds]
        for index in range(3):
            rows.append([name, str(index + 1), *(_spread([run[index][key] for run in runs]) for key in measures)])
        nmi[name] = [run[2]["nmi"] for run in runs]
    best = max(nmi, key=lambda name: float(np.mean(nmi[name])))
    wins = int(np.sum(np.array(nmi[best]) > np.array(nmi["EM"])))
    text = (
        f"The mechanism matters less than what a layer passes on. Of {', '.join(_TRAININGS)} the third layer's NMI is "
        f"largest for {best}, {np.mean(nmi[best]):.3f} against {np.mean(nmi['EM']):.3f} of EM, in {wins} of "
        f"{len(seeds)} "
        f"seeds. Log-likelihoods of upper layers can be compared within one kind of input only."
    )
    return Answer(text, {f"Over {len(seeds)} seeds.": [["training", "layer", *measures], *rows]})


def _top_down(data_dir: Place, seeds: range) -> Answer:
    kinds: dict[str, list[list[dict[str, float]]]] = {"before": [], "refined": [], "EM alone": [], "with labels": []}
    for seed in seeds:
        start, X, y = _layers(data_dir, seed)
        models = {name: copy.deepcopy(start) for name in kinds}
        models["refined"].refine(X, n_rounds=4)
        models["with labels"].refine(X, y, n_rounds=4)
        values = X
        for layer in models["EM alone"].layers_:  # as many iterations as follow the moves of four rounds
            if layer is not models["EM alone"].layers_[0]:
                given = {name: getattr(layer, name) for name in ("warm_start", "max_iter")}
                layer.set_params(warm_start=True, max_iter=12).fit(values)
                layer.set_params(**given)
            values = layer.transform(values)
        for name, model in models.items():
            kinds[name].append(_measured(model, data_dir))
    rows = []
    for name, runs in kinds.items():
        for index in range(3):
            cells = [_spread([run[index][key] for run in runs]) for key in ("purity", "nmi", "class_entropy")]
            rows.append([name, str(index + 1), *cells])
    nmi = {name: np.array([run[2]["nmi"] for run in runs]) for name, runs in kinds.items()}
    text = (
        f"Refined from the top, the third layer's NMI rises in {int((nmi['refined'] > nmi['before']).sum())} of "
        f"{len(seeds)} seeds, from {nmi['before'].mean():.3f} to {nmi['refined'].mean():.3f}; as many "
        f"iterations of EM in "
        f"the upper layers alone lead to {nmi['EM alone'].mean():.3f}, and are exceeded in "
        f"{int((nmi['refined'] > nmi['EM alone']).sum())} seeds. With labels on the top it is "
        f"{nmi['with labels'].mean():.3f}. Without labels the top knows no more than what came up to it, so what comes "
        f"down makes layers agree, and tells no class apart that was not told apart before."
    )
    return Answer(text, {f"Over {len(seeds)} seeds.": [["layers", "layer", "purity", "NMI", "class entropy"], *rows]})


def _concentration(data_dir: Place, seeds: range) -> Answer:
    measures = ("n_components", "purity", "class_entropy", "components_a_class", "classes_a_component")
    runs = [_measured(_layers(data_dir, seed)[0], data_dir) for seed in seeds]
    rows = [[str(i + 1), *(_spread([run[i][key] for run in runs]) for key in measures)] for i in range(3)]
    model = _layers(data_dir, seeds[0])[0]
    X, y = _shown(data_dir)
    figures = {
        f"classes-{i + 1}": plotting.plot_classes(y, layer.predict(values), layer.n_components_)
        for i, (layer, values) in enumerate(model.layer_inputs(X))
    }
    per_class, per_component, purity = (
        [np.mean([run[i][key] for run in runs]) for i in range(3)]
        for key in ("components_a_class", "classes_a_component", "purity")
    )
    text = (
        f"A digit is spread over {per_class[0]:.1f} components of the first layer, {per_class[1]:.1f} of the "
        f"second and "
        f"{per_class[2]:.1f} of the third (exp of the entropy): in this sense the third layer is more concentrated. It "
        f"has fewer components, and each holds more classes: {per_component[0]:.1f}, {per_component[1]:.1f} and "
        f"{per_component[2]:.1f}. Purity, {purity[0]:.2f}, {purity[1]:.2f} and {purity[2]:.2f}, says whether that is "
        f"knowledge or only a smaller number."
    )
    header = ["layer", "components", "purity", "class entropy", "components a class", "classes a component"]
    return Answer(text, {f"Over {len(seeds)} seeds.": [header, *rows]}, figures)


QUESTIONS = (
    Question(
        "classes",
        "Does training on different subsets of the data (e.g. different classes) give different enough "
        "models, which can "
        "be used to discriminate classes?",
        _classes,
        1,
    ),
    Question(
        "discrimination",
        "How can we reduce overlap between the filters so that there is more discriminative power? Also can "
        "the filters "
        "be made more narrow-band (and is this necessary)?",
        _discrimination,
        5,
    ),
    Question("samples", "Generate samples from these models to see what they look like.", _samples, 1),
    Question("phases", "How can we reconstruct the filter phases; and is this even important?", _phases, 1),
    Question(
        "training",
        "Do we expect that a different training mechanism would better fit these distributions?",
        _training,
        10,
    ),
    Question(
        "top-down",
        "Can we also do a top-down training which will take the output from the top layer and use that to "
        "refine the EM "
        "training of the lower layers?",
        _top_down,
        10,
    ),
    Question(
        "concentration",
        "The third layer seems much more concentrated; some digits span two components.",
        _concentration,
        10,
    ),
)
