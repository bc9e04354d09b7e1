"""Data for mixtures of images: patches, digits, photographs and embedded samples."""

from ._bsds500 import load_bsds500
from ._mnist import load_mnist
from ._patches import Patches, extract_patches
from ._samples import load_sample_images

__all__ = ["Patches", "extract_patches", "load_bsds500", "load_mnist", "load_sample_images"]
