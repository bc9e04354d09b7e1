"""Gaussian mixture models for images and signals, accelerated in C++."""

from importlib.metadata import version

from . import datasets, plotting
from .configuration import show_config
from .conv import ConvGMM
from .deep import DeepGMM
from .full import FullGMM
from .mixture import LikelihoodWarning, Pruning

__version__ = version("convgmm")

__all__ = [
    "ConvGMM",
    "DeepGMM",
    "FullGMM",
    "LikelihoodWarning",
    "Pruning",
    "__version__",
    "datasets",
    "plotting",
    "show_config",
]
