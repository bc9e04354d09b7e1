"""Gaussian mixture models for images and signals, accelerated in C++."""

import os
from importlib.metadata import version

from . import datasets, plotting, restore, texture
from .classifier import MixtureClassifier
from .configuration import show_config
from .conv import ConvGMM
from .deep import DeepGMM
from .em import Iteration, Pruning
from .estimator import Kept
from .full import FullGMM
from .model import Model
from .monitor import LikelihoodWarning, Monitor, Progress
from .reallocation import Reallocation
from .torus import TorusGMM

__version__ = version("convgmm")

__all__ = [
    "ConvGMM",
    "DeepGMM",
    "FullGMM",
    "Iteration",
    "LikelihoodWarning",
    "MixtureClassifier",
    "Model",
    "Monitor",
    "Progress",
    "Pruning",
    "Reallocation",
    "TorusGMM",
    "__version__",
    "datasets",
    "load",
    "plotting",
    "restore",
    "show_config",
    "texture",
]


def load(path: str | os.PathLike[str]) -> Kept:
    """Read a fitted estimator, of whichever class, that its `save` wrote; errors as in `ConvGMM.load`."""
    return Kept.load(path)
