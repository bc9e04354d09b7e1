"""What each experiment is: its data and its model."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conv import ConvGMM
from ..datasets import extract_patches, load_bsds500, load_mnist, load_sample_images
from ..full import FullGMM

DataDir = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Data:
    """Samples to train on, samples to show and measure (the same when there are no others), and their classes."""

    train: NDArray[np.float32]
    shown: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    n_discarded: int = 0


@dataclass(frozen=True)
class Recipe:
    """An experiment.

    Parameters
    ----------
    name, title : str
        As on the command line, and as in pictures.
    load : callable
        From the data folder and the seed to `Data`.
    estimator : type
        ConvGMM or FullGMM.
    model : dict
        Its arguments.
    """

    name: str
    title: str
    load: Callable[[DataDir, int], Data]
    estimator: type[ConvGMM] | type[FullGMM]
    model: dict[str, Any]


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


DEMO = Recipe(
    "demo",
    "16 components on 50,000 patches of 16×16 from two photographs",
    _patches(lambda data_dir: load_sample_images(), 16, 50_000),
    ConvGMM,
    {"n_components": 16, "max_iter": 60},
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "bsds16",
            "32 components on 200,000 patches of 16×16 from the 200 BSDS500 training photographs",
            _patches(_photographs, 16, 200_000),
            ConvGMM,
            {"n_components": 32, "max_iter": 50},
        ),
        Recipe(
            "bsds8",
            "24 components on 200,000 patches of 8×8 from the 200 BSDS500 training photographs",
            _patches(_photographs, 8, 200_000),
            ConvGMM,
            {"n_components": 24, "max_iter": 50},
        ),
        Recipe(
            "mnist32",
            "32 components on 60,000 digits of 28×28, shown on the 10,000 test digits",
            _digits,
            ConvGMM,
            {"n_components": 32, "max_iter": 50, "remove_mean": False},
        ),
        Recipe(
            "mnist128",
            "128 components on 60,000 digits of 28×28, shown on the 10,000 test digits",
            _digits,
            ConvGMM,
            {"n_components": 128, "max_iter": 50, "remove_mean": False},
        ),
        Recipe(
            "mnist-full32",
            "32 full-covariance components on 60,000 digits of 28×28, shown on the 10,000 test digits",
            _digits,
            FullGMM,
            {"n_components": 32, "max_iter": 10},
        ),
    )
}
