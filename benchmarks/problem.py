"""EM problems: samples, and the parameters that every implementation starts from, in files that all processes read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convgmm.basis import Fourier
from convgmm.datasets import load_bsds500, load_sample_images

_BLOCK = 4096
# A component that no sample belongs to has weight 0, whose logarithm not every peer bears.
_LEAST_WEIGHT = 1e-12


@dataclass(frozen=True)
class Problem:
    """An EM problem as a process receives it: names of files, and numbers.

    Attributes
    ----------
    family : {"conv", "full"}
        What the components are.
    samples : str
        File of at least n samples, (…, side, side) of mean-free patches for "conv", (…, D) for "full".
    start : str
        Folder that holds parameters.npz: weights (K,), and spectra on the plane or means and covariances. With full
        covariances likeliest.npy, (…,), each sample's component in the iteration before, and responsibilities.npy,
        (…, K), those of the parameters.
    n, threads : int
        How many of the samples, and of threads.
    reg_covar : float
        Added to the diagonal of every updated covariance.
    """

    family: str
    samples: str
    start: str
    n: int
    threads: int
    reg_covar: float = 0.0

    @property
    def basis(self) -> Fourier:
        """The half spectrum of the patches."""
        return Fourier(np.load(self.samples, mmap_mode="r").shape[1:], True)

    def load_samples(self) -> NDArray[np.float32]:
        """Return (n, …)."""
        return np.array(np.load(self.samples, mmap_mode="r")[: self.n])

    def load_parameters(self) -> dict[str, NDArray[np.float64]]:
        """Return the parameters."""
        with np.load(Path(self.start) / "parameters.npz") as stored:
            return dict(stored)

    def load_beside(self, name: str) -> NDArray[Any]:
        """Return what the folder of the start holds of each sample, (n, …)."""
        return np.array(np.load(Path(self.start) / f"{name}.npy", mmap_mode="r")[: self.n])

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield the samples in float64, block by block, with their places."""
        samples = np.load(self.samples, mmap_mode="r")
        for first in range(0, self.n, _BLOCK):
            place = slice(first, min(first + _BLOCK, self.n))
            yield place, samples[place].astype(np.float64)


def load_images(data_dir: str | None) -> tuple[list[NDArray[np.float32]], str]:
    """Return grey photographs, and what they are."""
    if data_dir is None:
        return load_sample_images(), "scikit-learn's two sample photographs (no BSDS500 folder was given)"
    return load_bsds500("train", data_dir), "the 200 training photographs of BSDS500"


@dataclass(frozen=True, eq=False)
class Store:
    """A folder of what problems are made of, each made once; photographs, and where digits are."""

    folder: Path
    images: Sequence[NDArray[np.float32]]
    data_dir: str | None

    def samples(self, name: str, make: Callable[[], NDArray[np.float32]]) -> str:
        """Return the file of samples of this name."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            np.save(path, make())
        return str(path)

    def start(
        self, name: str, make: Callable[[], tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[Any]]]]
    ) -> str:
        """Return the folder of the start of this name, of parameters and of what goes with each sample."""
        path = self.folder / name
        if not path.exists():
            parameters, beside = make()
            path.mkdir()
            np.savez(path / "parameters.npz", **parameters)
            for each, values in beside.items():
                np.save(path / f"{each}.npy", values)
        return str(path)


def positive(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights whose logarithms are finite."""
    raised = np.maximum(weights, _LEAST_WEIGHT)
    return np.asarray(raised / raised.sum())
