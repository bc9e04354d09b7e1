"""Patches, and the parameters that every implementation starts from, in files that all processes read."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from convgmm.half_spectrum import HalfSpectrum, half_spectrum
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from cases import Case
from convgmm import ConvGMM
from convgmm.datasets import extract_patches, load_bsds500, load_sample_images

# A few iterations make responsibilities as sparse as they are in most of a fit.
_WARMING_ITERATIONS = 10
_WARMING_PATCHES = 200_000


@dataclass(frozen=True)
class Problem:
    """An EM problem as a process receives it: names of files, and numbers."""

    patches: str
    parameters: str
    n: int
    side: int
    threads: int

    @property
    def half(self) -> HalfSpectrum:
        """The half spectrum of mean-free patches."""
        return half_spectrum((self.side, self.side), True)

    def load_patches(self) -> NDArray[np.float32]:
        """Return (n, side, side), mean removed."""
        return np.array(np.load(self.patches, mmap_mode="r")[: self.n])

    def load_parameters(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights (K,) and half spectra (K, D)."""
        with np.load(self.parameters) as stored:
            return stored["weights"], stored["spectra"]


def load_images(data_dir: str | None) -> tuple[list[NDArray[np.float32]], str]:
    """Return grey photographs, and what they are."""
    if data_dir is None:
        return load_sample_images(), "scikit-learn's two sample photographs (no BSDS500 folder was given)"
    return load_bsds500("train", data_dir), "the 200 training photographs of BSDS500"


class Store:
    """Makes patches and parameters once for each shape and number of components, and keeps them in a folder."""

    def __init__(self, folder: Path, images: Sequence[NDArray[np.float32]], most_patches: dict[int, int]) -> None:
        """`most_patches` says for each side how many patches will be asked for."""
        self._folder = folder
        self._images = images
        self._most_patches = most_patches

    def problem(self, case: Case, *, iterations: int = _WARMING_ITERATIONS) -> Problem:
        """Return the problem of a case; its parameters are those after so many EM iterations."""
        patches = self._patches(case.side)
        parameters = self._folder / f"parameters-{case.side}-{case.k}-{iterations}.npz"
        if not parameters.exists():
            n = min(_WARMING_PATCHES, self._most_patches[case.side])
            model = fit_briefly(np.array(np.load(patches, mmap_mode="r")[:n]), case.k, iterations)
            # A component that no patch belongs to has weight 0, whose logarithm not every peer bears.
            weights = np.maximum(model.weights_, 1e-12)
            spectra = half_spectrum((case.side, case.side), True).from_plane(model.spectra_)
            np.savez(parameters, weights=weights / weights.sum(), spectra=spectra)
        return Problem(str(patches), str(parameters), case.n, case.side, case.threads)

    def _patches(self, side: int) -> Path:
        path = self._folder / f"patches-{side}.npy"
        if not path.exists():
            np.save(path, extract_patches(self._images, (side, side), self._most_patches[side], random_state=0))
        return path


def fit_briefly(patches: NDArray[np.float32], k: int, iterations: int, **options: Any) -> ConvGMM:
    """Fit exactly so many iterations, and keep all components."""
    model = ConvGMM(k, max_iter=iterations, tol=0, prune_threshold=0, random_state=0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(patches)
