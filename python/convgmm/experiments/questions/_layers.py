"""Layers: other mechanisms of training, refinement from the top, and how concentrated components are on classes."""

import copy
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import plotting
from ...deep import DeepGMM
from ...full import FullGMM
from .._measures import class_measures, effective_numbers
from .._recipes import RECIPES
from ._answer import Answer, Setting, spread

#: Trainings of all layers, by what they change.
_TRAININGS: dict[str, dict[str, Any]] = {
    "EM": {},
    "hard": {"algorithm": "hard"},
    "stochastic": {"algorithm": "stochastic"},
    "temperature 20": {"temperature": 20.0},
    "drop_last": {"drop_last": True},
    "3 starts": {"n_init": 3},
}
#: Rounds of refinement, and labels where few are known: one in so many.
_ROUNDS, _ONE_IN = 4, 20

_MEASURES = ("purity", "nmi", "class_entropy", "log_likelihood")

Figures = list[dict[str, Any]]  # of every layer


@lru_cache(maxsize=32)
def _layers(setting: Setting, seed: int, training: str = "EM") -> DeepGMM:
    """Return the three published layers, fitted to few digits. They are shared: copy them before they are changed."""
    layers = [each.estimator(**each.options, tol=0, random_state=seed) for each in RECIPES["deep3"].layers]
    options = _TRAININGS[training]
    for layer in layers:
        is_last = layer is layers[-1]
        given = {name: value for name, value in options.items() if not (name == "drop_last" and is_last)}
        layer.set_params(**({"max_iter": 10} | given))
        if isinstance(layer, FullGMM) and options.get("drop_last"):
            layer.set_params(reg_covar=1e-5)
    return DeepGMM(layers).fit(setting.training_digits(seed, setting.sizes.layered)[0])


def _measured(model: DeepGMM, setting: Setting) -> Figures:
    """Return figures of every layer on test digits."""
    X, y = setting.shown_digits()
    found = []
    for layer, values in model.layer_inputs(X):
        posterior, log_p = layer.posterior(values)
        components = posterior.argmax(axis=1)
        counts = np.zeros((10, layer.n_components_))
        np.add.at(counts, (y, components), 1)
        found.append(
            class_measures(y, components)
            | {
                "log_likelihood": float(log_p.mean(dtype=np.float64)),
                "n_components": layer.n_components_,
                "counts": counts,
                "components_a_class": effective_numbers(counts),
                "classes_a_component": _by_size(counts.T),
            }
        )
    return found


def _by_size(counts: NDArray[np.float64]) -> float:
    """Return the mean effective number of rows, by their totals."""
    total = counts.sum(axis=1)
    return float(np.average(effective_numbers(counts[total > 0]), weights=total[total > 0]))


def _rows(name: str, runs: list[Figures], measures: tuple[str, ...]) -> list[list[str]]:
    """Return a row of a table for every layer."""
    return [
        [name, str(index + 1), *(spread([np.mean(run[index][key]) for run in runs]) for key in measures)]
        for index in range(len(runs[0]))
    ]


def _of_the_top(runs: list[Figures], key: str) -> NDArray[np.float64]:
    return np.array([run[-1][key] for run in runs])


# ---- other mechanisms ------------------------------------------------------------------------------------------------


def training(setting: Setting) -> Answer:
    """Train all layers by each mechanism, and measure every one."""
    runs = {name: [_measured(_layers(setting, seed, name), setting) for seed in setting.seeds] for name in _TRAININGS}
    top = {name: _of_the_top(each, "nmi") for name, each in runs.items()}
    others = [name for name in runs if name != "EM"]
    wins = {name: int((top[name] > top["EM"]).sum()) for name in others}
    compared = "; ".join(
        f"{name} {top[name].mean():.3f}, above EM in {wins[name]} of {len(top[name])}" for name in others
    )
    first = {name: np.mean([run[0]["log_likelihood"] for run in each]) for name, each in runs.items()}
    best = max(top, key=lambda name: float(top[name].mean()))
    likeliest = max(first, key=lambda name: float(first[name]))
    n = len(setting.seeds)
    text = (
        f"NMI of the third layer over {n} seeds: EM {top['EM'].mean():.3f}; {compared}. "
        f"Largest is {best}. The first layer, the only one whose likelihoods can be compared, is likeliest on test "
        f"digits with {likeliest}, {first[likeliest]:.1f} nats against {first['EM']:.1f} of EM. "
    )
    header = ["training", "layer", "purity", "NMI", "class entropy, nats", "log-likelihood of test digits, nats"]
    table = [row for name, each in runs.items() for row in _rows(name, each, _MEASURES)]
    return Answer(text, {f"Over {n} seeds, on test digits.": [header, *table]}, {"training": _bars(top)})


def _bars(top: dict[str, NDArray[np.float64]]) -> Any:
    """Show one value of each seed, by mechanism, seeds joined."""
    figure = plotting._figure(7, 3.2)
    axes = figure.subplots()
    values = np.array(list(top.values()))
    axes.plot(values, color="0.8", linewidth=0.8)
    axes.plot(values, ".", color="C0")
    axes.plot(values.mean(axis=1), "_", color="k", markersize=22)
    axes.set_xticks(range(len(top)), list(top))
    axes.set_ylabel("NMI of the third layer")
    return figure


# ---- refinement from the top -----------------------------------------------------------------------------------------


def top_down(setting: Setting) -> Answer:
    """Refine layers from the top, without and with labels, beside as many iterations of EM."""
    runs: dict[str, list[Figures]] = {}
    objectives = []
    for seed in setting.seeds:
        X, y = setting.training_digits(seed, setting.sizes.layered)
        few = np.where(np.arange(len(y)) % _ONE_IN == 0, y, -1)
        refined = {name: copy.deepcopy(_layers(setting, seed)) for name in ("no labels", "few labels", "all labels")}
        for model, labels in zip(refined.values(), (None, few, y), strict=True):
            model.refine(X, labels, n_rounds=_ROUNDS)
        objectives.append(refined["no labels"].refinement_)
        models = {"before": _layers(setting, seed), "EM alone": _went_on(_layers(setting, seed), X), **refined}
        for name, model in models.items():
            runs.setdefault(name, []).append(_measured(model, setting))
    nmi, purity = ({name: _of_the_top(each, key) for name, each in runs.items()} for key in ("nmi", "purity"))

    def up(name: str, values: dict[str, NDArray[np.float64]], over: str = "before") -> int:
        return int((values[name] > values[over]).sum())

    n = len(setting.seeds)
    gained = np.mean([course[-1] - course[0] for course in objectives])
    falls = sum(bool((np.diff(course) < 0).any()) for course in objectives)
    reliable = max(up("no labels", nmi), up("no labels", purity)) >= 0.8 * n
    helps = "It can" if reliable else "Not reliably, without labels"
    text = (
        f"{helps}. Without labels the third layer's NMI rises in {up('no labels', nmi)} of {n} seeds, from "
        f"{nmi['before'].mean():.3f} to {nmi['no labels'].mean():.3f}, and purity in {up('no labels', purity)}, from "
        f"{purity['before'].mean():.3f} to {purity['no labels'].mean():.3f}; as many iterations of EM in the upper "
        f"layers alone lead to NMI {nmi['EM alone'].mean():.3f}, and are exceeded in "
        f"{up('no labels', nmi, 'EM alone')} seeds. With one label in {_ONE_IN} NMI is {nmi['few labels'].mean():.3f} "
        f"(up in {up('few labels', nmi)}), with all {nmi['all labels'].mean():.3f} (up in {up('all labels', nmi)}). "
        "The objective, the first layer's likelihood per value and the mutual information of samples and the top's "
        f"components, rose by {gained:.3f} nats, and fell in a round of {falls} seeds."
    )
    header = ["layers", "layer", "purity", "NMI", "class entropy, nats"]
    table = [row for name, each in runs.items() for row in _rows(name, each, _MEASURES[:3])]
    figures = {"objective": _courses(objectives), "top-down": _bars(nmi)}
    return Answer(text, {f"Over {n} seeds, on test digits.": [header, *table]}, figures)


def _went_on(model: DeepGMM, X: NDArray[np.float32]) -> DeepGMM:
    """Return the layers after as many iterations of EM, in the upper ones, as follow the moves of refinement."""
    model = copy.deepcopy(model)
    values: Any = X
    for index, layer in enumerate(model.layers_):
        if index:
            given = {name: getattr(layer, name) for name in ("warm_start", "max_iter")}
            layer.set_params(warm_start=True, max_iter=3 * _ROUNDS).fit(values)
            layer.set_params(**given)
        values = layer.transform(values)
    return model


def _courses(objectives: list[NDArray[np.float64]]) -> Any:
    """Show how far the objective rises over the rounds of every seed."""
    figure = plotting._figure(5, 3)
    axes = figure.subplots()
    for course in objectives:
        axes.plot(course - course[0], color="C0", alpha=0.5, marker=".")
    axes.set_xlabel("round")
    axes.set_ylabel("objective, gained nats")
    axes.set_xticks(range(max(map(len, objectives))))
    return figure


# ---- concentration ---------------------------------------------------------------------------------------------------


def concentration(setting: Setting) -> Answer:
    """Count over how many components a class is spread, and how many classes a component holds."""
    runs = [_measured(_layers(setting, seed), setting) for seed in setting.seeds]
    measures = ("n_components", "purity", "class_entropy", "components_a_class", "classes_a_component")
    rows = [row[1:] for row in _rows("", runs, measures)]
    spread_over, held, purity, kept = (
        [float(np.mean([np.mean(run[i][key]) for run in runs])) for i in range(3)]
        for key in ("components_a_class", "classes_a_component", "purity", "n_components")
    )
    third = np.array([run[2]["components_a_class"] for run in runs]).mean(axis=0)  # of each class
    relative = [each / number for each, number in zip(spread_over, kept, strict=True)]
    text = (
        f"A digit is spread over {spread_over[0]:.1f} components of the first layer, {spread_over[1]:.1f} of the "
        f"second and {spread_over[2]:.1f} of the third, exp of the entropy, over {len(runs)} seeds: fewer, as there "
        f"are fewer ({kept[0]:.0f}, {kept[1]:.0f} and {kept[2]:.1f}). As a share of all components it is "
        f"{relative[0]:.2f}, {relative[1]:.2f} and {relative[2]:.2f}. Components hold {held[0]:.1f}, {held[1]:.1f} and "
        f"{held[2]:.1f} classes, purity is {purity[0]:.2f}, {purity[1]:.2f} and {purity[2]:.2f}. So the third layer is "
        "concentrated in that it has few components, not in that each means a digit. In it the digit "
        f"{int(third.argmin())} is spread least, over {third.min():.1f} components, and {int(third.argmax())} most, "
        f"over {third.max():.1f}."
    )
    header = ["layer", "components", "purity", "class entropy, nats", "components a class", "classes a component"]
    X, y = setting.shown_digits()
    figures = {"concentration": _concentrations(runs)}
    for index, (layer, values) in enumerate(_layers(setting, setting.seeds[0]).layer_inputs(X)):
        figures[f"classes-layer-{index + 1}"] = plotting.plot_classes(y, layer.predict(values), layer.n_components_)
    return Answer(text, {f"Over {len(runs)} seeds, on test digits.": [header, *rows]}, figures)


def _concentrations(runs: list[Figures]) -> Any:
    """Show what share of a class its m foremost components hold, in every layer, and how many each class has."""
    figure = plotting._figure(9, 3.2)
    left, right = figure.subplots(1, 2)
    for index in range(len(runs[0])):
        courses = []
        for run in runs:
            counts = np.sort(run[index]["counts"], axis=1)[:, ::-1]
            courses.append((counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True)).mean(axis=0)[:10])
        n = min(map(len, courses))
        mean = np.mean([course[:n] for course in courses], axis=0)
        left.plot(np.arange(1, n + 1), mean, marker=".", label=f"layer {index + 1}")
    left.set_xlabel("components of a class, foremost first")
    left.set_ylabel("share of the class's digits")
    left.set_ylim(0, 1)
    left.legend(fontsize=7)
    numbers = np.array([[run[i]["components_a_class"] for run in runs] for i in range(len(runs[0]))]).mean(axis=1)
    image = right.imshow(numbers, cmap="Blues", vmin=0, aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        dark = number > 0.6 * numbers.max()
        right.text(column, row, f"{number:.1f}", ha="center", va="center", fontsize=7, color="white" if dark else "k")
    figure.colorbar(image, ax=right, label="components a class")
    right.set_xticks(range(numbers.shape[1]))
    right.set_yticks(range(len(numbers)), [str(i + 1) for i in range(len(numbers))])
    right.set_xlabel("digit")
    right.set_ylabel("layer")
    return figure
