"""Gaussian mixture models for images and signals, accelerated in C++."""

from importlib.metadata import version

from . import datasets, plotting
from .configuration import show_config
from .conv import ConvGMM
from .deep import DeepGMM
from .em import LikelihoodWarning, Pruning
from .full import FullGMM
from .model import Model

__version__ = version("convgmm")

__all__ = [
    "ConvGMM",
    "DeepGMM",
    "FullGMM",
    "LikelihoodWarning",
    "Model",
    "Pruning",
    "__version__",
    "datasets",
    "plotting",
    "show_config",
]
