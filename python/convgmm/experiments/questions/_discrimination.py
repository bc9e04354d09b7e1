"""Overlap, bandwidth, and mixtures that are trained against one another."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ... import plotting
from ...classifier import MixtureClassifier
from .._measures import overlap
from ._answer import Answer, Setting, of_digits, spread

#: Components a class, and the temperature that classes are compared at.
_COMPONENTS, _TEMPERATURE = 8, 12.0
#: Shares of frequencies that components may stand above their background at.
_BANDWIDTHS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
#: Of the sweep's, those whose mixtures are also trained against one another.
_REFINED = (1.0, 0.05)
_ROUNDS = 40

_TRAININGS = ("by likelihood", "against one another")


def discrimination(setting: Setting) -> Answer:
    """Sweep the bandwidth, train by likelihood and against one another, and measure overlap, width and errors."""
    test = setting.test_digits()
    found: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    falls: list[float] = []
    rounds: list[int] = []
    for seed in setting.seeds:
        X, y = setting.training_digits(seed, setting.sizes.discriminated)
        for bandwidth in _BANDWIDTHS:
            plain = MixtureClassifier(of_digits(_COMPONENTS, seed, bandwidth=bandwidth), temperature=_TEMPERATURE)
            found.setdefault((_TRAININGS[0], bandwidth), []).append(_measured(plain.fit(X, y), *test))
            if bandwidth in _REFINED:
                refined = clone(plain).set_params(refine="mmi", refine_max_iter=_ROUNDS).fit(X, y)
                found.setdefault((_TRAININGS[1], bandwidth), []).append(_measured(refined, *test))
                falls.append(float(np.diff(refined.criterion_).min(initial=0)))
                rounds.append(len(refined.criterion_) - 1)
    means = {key: np.mean(values, axis=0) for key, values in found.items()}
    errors = {name: np.array(found[name, 1.0])[:, 2] for name in _TRAININGS}
    fewer = 1 - errors[_TRAININGS[1]] / np.maximum(errors[_TRAININGS[0]], 1e-9)
    likelihood, refined = (means[name, 1.0] for name in _TRAININGS)

    def told(name: str) -> str:
        rate = {bandwidth: mean[2] for (each, bandwidth), mean in means.items() if each == name}
        width, least = min(rate, key=rate.__getitem__), min(rate)
        limit = "without a limit" if width == 1 else f"with at most {width:.0%} of frequencies above the background"
        narrowest = "" if least == width else f", and {rate[least]:.1%} with {least:.0%}"
        return f"{name} errors are fewest {limit}, {rate[width]:.1%}{narrowest}"

    text = (
        f"By training the classes' mixtures against one another: with as many parameters they make {fewer.mean():.0%} "
        f"fewer errors on the test digits ({fewer.min():.0%} to {fewer.max():.0%} over {len(fewer)} seeds; "
        f"{likelihood[2]:.1%} before, {refined[2]:.1%} after {np.mean(rounds):.0f} rounds), and a component's nearest "
        f"is {refined[0]:.0f} nats away instead of {likelihood[0]:.0f}. The criterion never "
        f"fell{'' if min(falls) >= 0 else ', but once'}. Of narrower bands alone: trained "
        f"{told(_TRAININGS[0])}; trained {told(_TRAININGS[1])}."
    )
    header = ["training", "bandwidth", "divergence to the nearest, nats", "share of frequencies in use", "test errors"]
    rows = [
        [name, f"{b:g}", *(spread([each[i] for each in found[name, b]], (1, 3, 4)[i]) for i in range(3))]
        for name, b in sorted(found, key=lambda key: (_TRAININGS.index(key[0]), -key[1]))
    ]
    caption = (
        f"Over {len(fewer)} seeds, {_COMPONENTS} components a class, {setting.sizes.discriminated:,} training digits. "
        "Bandwidth: the largest share of frequencies at which a component may stand above its background."
    )
    return Answer(text, {caption: [header, *rows]}, {"discrimination": _drawn(found)})


def _measured(
    classifier: MixtureClassifier, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Return the divergence to the nearest component, the share of frequencies in use, and the share of errors."""
    apart = float(np.mean([overlap(mixture) for mixture in classifier.mixtures_]))
    wide = float(np.mean([mixture.model_.effective_ranks() / images[0].size for mixture in classifier.mixtures_]))
    return apart, wide, float(1 - classifier.score(images, labels))


def _drawn(found: dict[tuple[str, float], list[tuple[float, float, float]]]) -> Any:
    """Show overlap, bandwidth and accuracy: one point a seed, by bandwidth and training."""
    figure = plotting._figure(8, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    bandwidths = sorted({bandwidth for _, bandwidth in found})
    for (name, bandwidth), values in found.items():
        apart, wide, errors = np.array(values).T
        style = {
            "color": f"C{bandwidths.index(bandwidth)}",
            "marker": "o^"[_TRAININGS.index(name)],
            "s": 16,
        }
        left.scatter(apart, 1 - errors, **style)
        right.scatter(wide, 1 - errors, label=f"{name}, {bandwidth:g}", **style)
    left.set_xlabel("divergence to the nearest component, nats")
    left.set_ylabel("test accuracy")
    right.set_xlabel("share of frequencies in use")
    right.legend(fontsize=6, title="training, bandwidth", title_fontsize=6)
    return figure
