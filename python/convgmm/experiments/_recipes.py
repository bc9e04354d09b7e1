"""What each experiment is: its data and its layers."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conv import ConvGMM
from ..datasets import extract_patches, load_bsds500, load_mnist, load_sample_images
from ..deep import DeepGMM
from ..estimator import Mixture
from ..full import FullGMM
from ..torus import TorusGMM

DataDir = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Data:
    """Samples to train on, samples to show and measure (the same when there are no others), and their classes."""

    train: NDArray[np.float32]
    shown: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    n_discarded: int = 0


@dataclass(frozen=True)
class Layer:
    """A mixture that is to be fitted."""

    estimator: type[Mixture]
    options: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """An experiment.

    Parameters
    ----------
    name, title : str
        As on the command line, and as in pictures.
    published : str
        What is known of the published experiment.
    load : callable
        From the data folder and the seed to `Data`.
    layers : tuple of Layer
        From the first to the last.
    beyond : bool
        Whether it asks what the published experiments leave open: it is run by its name, and is no part of "all".
    before : str
        The experiment that it changes in one way, and is compared with.
    """

    name: str
    title: str
    published: str
    load: Callable[[DataDir, int], Data]
    layers: tuple[Layer, ...]
    beyond: bool = False
    before: str = ""

    def model(self, seed: int, *, progress: bool) -> DeepGMM:
        """Return the layers, unfitted; every one runs all its iterations."""
        return DeepGMM(
            [layer.estimator(**layer.options, tol=0, random_state=seed, verbose=progress) for layer in self.layers]
        )


def _patches(
    images: Callable[[DataDir], list[NDArray[np.float32]]], side: int, n_patches: int
) -> Callable[[DataDir, int], Data]:
    def load(data_dir: DataDir, seed: int) -> Data:
        patches, n_discarded = extract_patches(
            images(data_dir), (side, side), n_patches, random_state=seed, return_n_discarded=True
        )
        return Data(patches, patches, n_discarded=n_discarded)

    return load


def _digits(data_dir: DataDir, seed: int) -> Data:
    return Data(load_mnist("train", data_dir)[0], *load_mnist("test", data_dir))


def _photographs(data_dir: DataDir) -> list[NDArray[np.float32]]:
    return load_bsds500("train", data_dir)


def _conv(n_components: int, max_iter: int = 50, **options: Any) -> Layer:
    return Layer(ConvGMM, {"n_components": n_components, "max_iter": max_iter, **options})


def _full(n_components: int, max_iter: int = 50, **options: Any) -> Layer:
    return Layer(FullGMM, {"n_components": n_components, "max_iter": max_iter, **options})


DEMO = Recipe(
    "demo",
    "16 components on 50,000 patches of 16×16 from two photographs",
    "",
    _patches(lambda data_dir: load_sample_images(), 16, 50_000),
    (_conv(16, 60),),
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "bsds16",
            "32 components on 200,000 patches of 16×16 from the 200 BSDS500 training photographs",
            "patches of each of 32 components beside its filter's power spectrum; no figures",
            _patches(_photographs, 16, 200_000),
            (_conv(32),),
        ),
        Recipe(
            "bsds8",
            "24 components on 200,000 patches of 8×8 from the 200 BSDS500 training photographs",
            "patches of each of 24 components beside its filter's power spectrum; no figures",
            _patches(_photographs, 8, 200_000),
            (_conv(24),),
        ),
        Recipe(
            "mnist32",
            "32 components on 60,000 digits of 28×28, shown on the 10,000 test digits",
            "digits of each of 32 components beside its filter's power spectrum; no figures",
            _digits,
            (_conv(32, remove_mean=False),),
        ),
        Recipe(
            "mnist128",
            "128 components on 60,000 digits of 28×28, shown on the 10,000 test digits",
            "digits of each of 128 components beside its filter's power spectrum; no figures",
            _digits,
            (_conv(128, remove_mean=False),),
        ),
        Recipe(
            "mnist-full32",
            "32 full-covariance components on 60,000 digits of 28×28, shown on the 10,000 test digits",
            "“definitely better than the convolutional model”, some components empty on the test digits; no figures",
            _digits,
            (_full(32, 10),),
        ),
        Recipe(
            "deep2-standardized",
            "32 zero-mean full-covariance components on standardized log-densities of 32 convolutional ones",
            "digits that each second-layer component responds to most; no figures",
            _digits,
            (_conv(32, remove_mean=False, output="standardized"), _full(32, means="zero")),
        ),
        Recipe(
            "deep2-raw",
            "32 full-covariance components with free means on log-densities of 32 convolutional ones",
            "digits that each second-layer component responds to most; no figures",
            _digits,
            (_conv(32, remove_mean=False, output="log_density"), _full(32)),
        ),
        Recipe(
            "deep3",
            "17, then at most 16 full-covariance components above 32 convolutional ones, on normalised densities",
            "10 components were left of the third layer's 16; digits of each component in every layer",
            _digits,
            (
                _conv(32, remove_mean=False, output="likelihood"),
                # Random starts: components that begin alike compete, and the third layer gives up those that are left
                # with less than half of an equal share.
                _full(17, output="likelihood", init="random"),
                _full(16, init="random", prune_threshold=0.03),
            ),
        ),
        Recipe(
            "deep3-soft",
            "deep3 with densities to the power 1/50 before they are normalised",
            "not among the published experiments: what changes when rows are not nearly one-hot",
            _digits,
            (
                _conv(32, remove_mean=False, output="likelihood", temperature=50),
                _full(17, output="likelihood", temperature=50, init="random"),
                _full(16, init="random", prune_threshold=0.03),
            ),
        ),
        Recipe(
            "bsds16-scales",
            "bsds16 with 9 scales to each component, so that none is spent on a copy of another at another contrast",
            "not among the published experiments: what becomes of “significant overlaps in the power spectra of "
            "different filters”",
            _patches(_photographs, 16, 200_000),
            (_conv(32, scales=9),),
            beyond=True,
            before="bsds16",
        ),
        Recipe(
            "bsds16-tails",
            "bsds16 with Student's t for each component's tails, so that contrast needs no components of its own",
            "not among the published experiments: the same question as of bsds16-scales, with one parameter for it",
            _patches(_photographs, 16, 200_000),
            (_conv(32, tails="t"),),
            beyond=True,
            before="bsds16",
        ),
        Recipe(
            "bsds16-reallocated",
            "bsds16 with 40 trials to move a component from where two overlap to where one fits worst",
            "not among the published experiments: “significant overlaps in the power spectra of different filters” are "
            "what it looks into",
            _patches(_photographs, 16, 200_000),
            (_conv(32, reallocate=40),),
            beyond=True,
            before="bsds16",
        ),
        Recipe(
            "bsds8-dct",
            "bsds8 in the basis of the discrete cosine transform",
            "not among the published experiments: patches reflected at their borders, not wrapped around",
            _patches(_photographs, 8, 200_000),
            (_conv(24, basis="dct"),),
            beyond=True,
            before="bsds8",
        ),
        Recipe(
            "bsds8-torus",
            "bsds8 with patches as windows of fields on a torus of 16×16",
            "not among the published experiments: stationary components whose borders do not meet",
            _patches(_photographs, 8, 200_000),
            (Layer(TorusGMM, {"n_components": 24, "max_iter": 50, "torus_shape": (16, 16)}),),
            beyond=True,
            before="bsds8",
        ),
    )
}
