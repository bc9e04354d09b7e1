"""Textures of any size: fields of one spectrum, spot noise of an exemplar, and patches of an exemplar's mixture.

A stationary Gaussian field has a spectrum and random phases: sand, clouds, cloth. It has no contours. Those need the
mixture of patches, `PatchTexture`.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter, zoom
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from .full import FullGMM
from .stationary import RandomState, checked_size, filtered_noise, stationary_field

__all__ = ["PatchTexture", "SpotNoise", "from_image", "periodic_component", "stationary_field"]

Doubles = NDArray[np.float64]


def periodic_component(image: ArrayLike) -> Doubles:
    """Return the periodic component of an image, which differs from it by a smooth one (Moisan 2011).

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels)
        Finite values.

    Returns
    -------
    periodic : ndarray of the same shape, float64
    """
    u = np.asarray(image, dtype=np.float64)
    border = np.zeros_like(u)
    for axis in (0, 1):
        jump = np.take(u, [-1], axis) - np.take(u, [0], axis)
        first = (slice(None),) * axis + (slice(0, 1),)
        last = (slice(None),) * axis + (slice(-1, None),)
        border[first] += jump
        border[last] -= jump
    cosines = [2 * np.cos(2 * np.pi * np.arange(size) / size) for size in u.shape[:2]]
    laplacian = cosines[0][:, None] + cosines[1] - 4
    laplacian[0, 0] = 1
    smooth = fft.fft2(border, axes=(0, 1)) / laplacian.reshape(laplacian.shape + (1,) * (u.ndim - 2))
    smooth[0, 0] = 0
    return np.asarray(u - fft.ifft2(smooth, axes=(0, 1)).real)


@dataclass(frozen=True, eq=False)
class SpotNoise:
    """The Gaussian texture of one exemplar: its mean and its periodic component's spectrum, with random phases.

    Asymptotic discrete spot noise (Galerne, Gousseau and Morel 2011): white noise, the same in all channels, convolved
    with the exemplar, so that colours keep their correlations.

    Parameters
    ----------
    exemplar : ndarray of shape (height, width, channels), float64
    """

    exemplar: Doubles

    def synthesize(self, size: tuple[int, int], *, periodic: bool = False, random_state: RandomState = None) -> Doubles:
        """Draw a texture.

        Parameters
        ----------
        size : tuple of 2 ints
            Height and width, larger or smaller than the exemplar.
        periodic : bool, default=False
            Whether it tiles; False: cut out of a larger one.
        random_state : int, RandomState or None, default=None
            Source of the noise.

        Returns
        -------
        texture : ndarray of shape (*size, channels), float64
        """
        shape = checked_size(size, 2)
        spot = periodic_component(self.exemplar)
        mean = spot.mean(axis=(0, 1))
        spot = (spot - mean) / np.sqrt(prod(spot.shape[:2]))
        if shape != spot.shape[:2] or not periodic:
            # Beyond its borders the spot is 0; without a soft edge that would be a contour.
            window = _window(spot.shape[0])[:, None] * _window(spot.shape[1])
            window /= np.sqrt(np.mean(window**2))
            spot = spot * window[..., None]
        rng = check_random_state(random_state)
        return np.asarray(filtered_noise(spot, shape, periodic, rng) + mean)


def from_image(exemplar: ArrayLike, *, contours: bool = False, **options: Any) -> "SpotNoise | PatchTexture":
    """Learn a texture from one image.

    Parameters
    ----------
    exemplar : array-like of shape (height, width) or (height, width, channels)
        Integers or finite floats, at least 16 pixels a side.
    contours : bool, default=False
        A mixture of patches at several scales instead of one spectrum: slower, but with contours.
    **options
        Of `PatchTexture`.

    Returns
    -------
    texture : SpotNoise or PatchTexture
        With the method ``synthesize(size, periodic=False, random_state=None)``.

    Raises
    ------
    ValueError
        If the exemplar is no such image.
    """
    values = np.asarray(exemplar)
    if values.dtype.kind not in "uif" or values.ndim not in {2, 3} or min(values.shape[:2]) < 16:
        raise ValueError(
            f"exemplar has shape {values.shape} and dtype {values.dtype}; numbers of shape (height, width) or "
            f"(height, width, channels) are needed, at least 16 pixels a side."
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("exemplar holds NaN or infinite values.")
    layers = values if values.ndim == 3 else values[..., None]
    return PatchTexture(layers, **options).fit() if contours else SpotNoise(layers)


@dataclass(eq=False)
class PatchTexture:
    """A texture with contours: at each of several scales, patches that are those of the exemplar's mixture.

    From coarse to fine, every patch of the current image is given a component, in the proportions of the exemplar, and
    moved by the affine map that carries the patches of that component to the Gaussian of the exemplar's (the optimal
    transport of Gaussians, as in Galerne, Leclaire and Rabin 2018); overlapping patches are averaged.

    Parameters
    ----------
    exemplar : ndarray of shape (height, width, channels), float64
    n_components : int, default=16
        Gaussians at each scale.
    n_scales : int, default=4
        Each half as fine as the one before; fewer for small exemplars.
    patch_size : int, default=5
        Pixels a side.
    n_sweeps : int, default=4
        How often all patches are moved at each scale.
    random_state : int, default=0
        Of the mixtures.
    """

    exemplar: Doubles
    n_components: int = 16
    n_scales: int = 4
    patch_size: int = 5
    n_sweeps: int = 4
    random_state: int = 0
    _scales: tuple[tuple[Doubles, FullGMM], ...] = field(default=(), init=False, repr=False)

    def fit(self) -> Self:
        """Fit a mixture at every scale."""
        image, p = self.exemplar, self.patch_size
        unit = float(image.std()) or 1.0
        scales = []
        for _ in range(self.n_scales):
            patches = _patches(image, p)
            if len(patches) < 20 * self.n_components:
                break
            mixture = FullGMM(
                self.n_components,
                reg_covar=1e-4 * unit**2,
                tol=0.1 * patches.shape[1] ** 0.5,
                max_iter=50,
                random_state=self.random_state,
            )
            scales.append((image, mixture.fit(patches)))
            image = _halved(image)
        if not scales:
            raise ValueError(f"an exemplar of shape {self.exemplar.shape} is too small for n_components.")
        self._scales = tuple(scales)
        return self

    def synthesize(self, size: tuple[int, int], *, periodic: bool = False, random_state: RandomState = None) -> Doubles:
        """Draw a texture; parameters and result as in `SpotNoise.synthesize`."""
        if not self._scales:
            raise NotFittedError("this PatchTexture is not fitted yet: call fit first.")
        shape, p = checked_size(size, 2), self.patch_size
        factor = 2 ** (len(self._scales) - 1)
        # Whole coarse pixels, and margins that are cut off where it need not tile.
        margin = 0 if periodic else p * factor
        if periodic and any(s % factor for s in shape):
            raise ValueError(
                f"a texture of {len(self._scales)} scales tiles only if its sides are multiples of {factor}."
            )
        coarse = [-(-(s + margin) // factor) for s in shape]
        rng = check_random_state(random_state)
        image = SpotNoise(self._scales[-1][0]).synthesize((coarse[0], coarse[1]), periodic=True, random_state=rng)
        for level, (_, mixture) in enumerate(reversed(self._scales)):
            if level:
                image = zoom(image, (2, 2, 1), order=1, mode="grid-wrap", grid_mode=True)
            for _ in range(self.n_sweeps):
                image = _moved(image, mixture, p)
        return np.asarray(image[: shape[0], : shape[1]])


# ---- small parts -----------------------------------------------------------------------------------------------------


def _window(n: int) -> Doubles:
    """Return n values that are 1 inside, and fall smoothly to 0 over a tenth at each end."""
    ramp = max(1, n // 10)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    return np.concatenate([rise, np.ones(n - 2 * ramp), rise[::-1]])


def _halved(image: Doubles) -> Doubles:
    smooth = gaussian_filter(image, (0.8, 0.8, 0), mode="nearest")
    even = smooth[: smooth.shape[0] // 2 * 2, : smooth.shape[1] // 2 * 2]
    return np.asarray(even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, -1).mean(axis=(1, 3)))


def _patches(image: Doubles, p: int) -> Doubles:
    """Return all patches, flattened, channel by channel."""
    views = np.lib.stride_tricks.sliding_window_view(image, (p, p), axis=(0, 1))
    return np.ascontiguousarray(views).reshape(-1, image.shape[-1] * p * p)


def _moved(image: Doubles, mixture: FullGMM, p: int) -> Doubles:
    """Move every patch of an image on a torus to the mixture, and average where they overlap."""
    height, width, channels = image.shape
    patches = _patches(np.pad(image, ((0, p - 1), (0, p - 1), (0, 0)), mode="wrap"), p)
    density = mixture.log_density(patches).astype(np.float64, copy=False)
    labels = _in_proportion(density, mixture.weights_)
    moved = np.empty_like(patches)
    for k in range(mixture.n_components_):
        own = labels == k
        if own.any():
            moved[own] = _transported(patches[own], mixture.means_[k], mixture.covariances_[k])
    layers = moved.reshape(height, width, channels, p, p)
    total = np.zeros_like(image)
    for i, j in np.ndindex(p, p):
        total += np.roll(layers[..., i, j], (i, j), axis=(0, 1))
    return total / p**2


def _in_proportion(density: Doubles, weights: Doubles) -> NDArray[np.int64]:
    """Give samples to components so that each has about its share: a bias for each, found step by step."""
    bias = np.log(weights)
    labels = (density + bias).argmax(axis=1)
    scale = float(np.median(np.ptp(density, axis=1))) / 20
    for _ in range(30):
        share = np.bincount(labels, minlength=len(weights)) / len(labels)
        if np.abs(share - weights).max() < 0.1 / len(weights):
            break
        bias += scale * (weights - share) / np.maximum(weights, share)
        scale *= 0.93
        labels = (density + bias).argmax(axis=1)
    return np.asarray(labels)


def _transported(patches: Doubles, mean: Doubles, covariance: Doubles) -> Doubles:
    """Carry patches (n, D) to a Gaussian: x ↦ μ + A (x − m), A = Σ^−½ (Σ^½ C Σ^½)^½ Σ^−½ for their own m and Σ."""
    own_mean = patches.mean(axis=0)
    centred = patches - own_mean
    own = centred.T @ centred / len(patches) + 1e-3 * covariance
    values, vectors = eigh(own)
    values = np.maximum(values, 1e-9 * values[-1])
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    inner_values, inner_vectors = eigh(root @ covariance @ root)
    inner = (inner_vectors * np.sqrt(np.maximum(inner_values, 0))) @ inner_vectors.T
    return np.asarray(mean + centred @ (inverse @ inner @ inverse))
