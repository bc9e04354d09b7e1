"""Photographs that need no download."""

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

from ..extras import require


def load_sample_images() -> list[NDArray[np.float32]]:
    """Return scikit-learn's two photographs, a temple and a flower, in grey.

    They are decoded by pillow when it is installed.

    Returns
    -------
    images : list of 2 ndarray of shape (427, 640), float32
        Luma of ITU-R recommendation BT.601, from 0 to 1.

    Raises
    ------
    ImportError
        If pillow is not installed.
    """
    require("PIL", "data", "reading the sample photographs")
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32) / np.float32(255)
    return [image.astype(np.float32) @ weights for image in datasets.load_sample_images().images]
