"""The MNIST handwritten digits (LeCun, Cortes and Burges)."""

import hashlib
import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ._idx import read_idx
from ._location import cache_folder, data_folder, download

_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

# MD5 sums of the unpacked files, as published with the data set.
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load_mnist(
    split: Literal["train", "test"] = "train", data_dir: str | os.PathLike[str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load handwritten digits.

    Parameters
    ----------
    split : {"train", "test"}, default="train"
        60,000 digits to train on, or 10,000 to test with.
    data_dir : path, default=None
        Folder that holds ``mnist/*.gz``; by default the one that the environment variable ``CONVGMM_DATA`` names.
        Without either, the files are downloaded once into a cache, and their published MD5 sums are checked.

    Returns
    -------
    images : ndarray of shape (n, 28, 28), float32
        Brightness from 0 to 1.
    labels : ndarray of shape (n,), int64
        Digits from 0 to 9.

    Raises
    ------
    ValueError
        If `split` is unknown, or a file is truncated, oversized or otherwise not what it should be.
    FileNotFoundError
        If the folder lacks a file.
    ImportError
        If a download is needed and pooch is not installed.
    """
    if split not in _FILES:
        raise ValueError(f"split must be one of {sorted(_FILES)}, got {split!r}.")
    folder = data_folder(data_dir, "mnist")
    image_name, label_name = _FILES[split]
    images = _read(folder, image_name, 3)
    labels = _read(folder, label_name, 1)
    if images.shape[1:] != (28, 28):
        raise ValueError(f"{image_name} holds images of {images.shape[1:]}; digits are 28×28.")
    if len(images) != len(labels):
        raise ValueError(f"{image_name} holds {len(images)} images but {label_name} {len(labels)} labels.")
    if labels.max() > 9:
        raise ValueError(f"{label_name} holds the label {labels.max()}; digits go from 0 to 9.")
    return images.astype(np.float32) / np.float32(255), labels.astype(np.int64)


def _read(folder: Path | None, name: str, n_axes: int) -> NDArray[np.uint8]:
    if folder is not None:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return read_idx(path, n_axes)[0]
        raise FileNotFoundError(f"{folder} lacks {name}.gz.")
    path = download(f"{_MIRROR}{name}.gz", cache_folder() / "mnist")
    # What is published is the sum of the unpacked file: mirrors pack it differently.
    try:
        values, content = read_idx(path, n_axes)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != _MD5[name]:
            raise ValueError(f"{path} does not have the published MD5 sum.")
    except ValueError as error:
        path.unlink()
        raise ValueError(f"the download was damaged and has been removed; try again. ({error})") from error
    return values
