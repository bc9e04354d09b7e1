"""Photographs restored with a mixture of patches: noise, missing values, blur, and any other linear operator.

Every patch of the image is estimated under the mixture as if it were in white noise, and overlapping estimates are
averaged. Once is enough for noise, with a mixture that was adapted to the image (Luo, Chan and Nguyen 2016), and with
the lowest frequencies from the image at half its size, where patches see twice as far. Otherwise, by half-quadratic
splitting (Zoran and Weiss 2011),

    min_x  ‖A x − y‖² / σ²  +  β n/m Σ_i ‖z_i − R_i x‖²  −  2 Σ_i log p(z_i)

alternates, for growing β, between the patches z_i in noise of variance 1/β and a least-squares problem for x.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.signal import fftconvolve
from tqdm.auto import tqdm

from .families.gaussians import Gaussians, average_of_patches, tile_ranges
from .model import Model
from .octaves import by_octaves
from .picture import Picture, Plane

__all__ = ["deblur", "denoise", "estimate_sigma", "inpaint", "restore"]

#: How much more estimates count that keep little of the noise. Chosen on three photographs of BSDS500 `test`, 2026-11.
WEIGHTING = 0.25
#: About how many patches of the image a mixture is adapted to, how far apart they are at least, and like how many each
#: component counts. On five photographs of BSDS500 `test`, 2026-11, four times as many patches gain 0.006 dB in noise
#: of 25 grey levels, and counts from 2 to 75 differ by less than 0.01.
ADAPTING, LEAST_APART, PRIOR_COUNT = 10_000, 3, 8.0
#: Penalties of the splitting for noise alone, in units of 1/σ² (Zoran and Weiss 2011).
BETAS = (1.0, 4.0, 8.0, 16.0, 32.0)
#: Penalties where more than noise is to be undone, in units of 1/white²: patches first in noise of 0.14, last of 0.018.
_BETAS = tuple(50.0 * 2**power for power in range(7))
#: The same for missing values, each twice, down to 0.007. Neither schedule was searched for on photographs.
_FILLING_BETAS = tuple(float(beta) for beta in np.repeat(np.geomspace(50, 20000, 8), 2))

Operator = Callable[[NDArray[np.float32]], NDArray[Any]]


def denoise(
    image: ArrayLike,
    sigma: float | None = None,
    model: Any = None,
    *,
    betas: Sequence[float] | None = None,
    octaves: int = 3,
    adapt: int = 1,
    average: bool = False,
    stride: int = 1,
    data_range: float | None = None,
    seed: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> NDArray[Any]:
    """Take white Gaussian noise out of an image.

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels)
        Integers or floats. Three channels are colours, two or four have alpha last, which is kept as it is. With a
        model of signals or volumes, one or three axes instead of two.
    sigma : float, default=None
        Standard deviation of the noise, in the image's unit; None: `estimate_sigma`.
    model : ConvGMM, FullGMM, Model or path, default=None
        The mixture of patches, of images with white at 1; None: the one that comes with the package. Every patch's
        mean is taken away before and given back if the model leaves it out (`remove_mean`), and where full covariances
        have along the constant patch less than 1 % of a pixel's variance: they are those of patches without means.
    betas : sequence of float, default=None
        Rising penalties of half-quadratic splitting, in units of 1/σ²; None: one step.
    octaves : int, default=3
        Sizes at which the image is looked at, each half of the one before, as long as two patches fit along each axis:
        the lowest frequencies are those of the smaller image. 1: only as it is.
    adapt : int, default=1
        Steps of EM that the mixture makes first, on patches of the noisy image. 0: it stays as it is.
    average : bool, default=False
        The posterior mean of every patch instead of its likeliest component's estimate.
    stride : int, default=1
        One patch in each cell of so many pixels a side, at a place drawn in it: 2 takes half the time, and a quarter
        where nothing is adapted.
    data_range : float, default=None
        What counts as white; None: the largest value of integers of 8 or 16 bits, 1 for floats.
    seed : int, default=0
        Of the places of patches; without meaning for a stride of 1.
    n_threads : int, default=None
        Threads; None: what OpenMP would use. The result does not depend on it, to the last bit.
    progress : bool, default=False
        Whether a progress bar is shown.

    Returns
    -------
    restored : ndarray
        Of the image's shape and dtype; computed in float32.

    Raises
    ------
    ValueError
        If the image, sigma or another parameter is out of range; says what to do.
    TypeError
        If the model is no mixture of patches.
    OSError
        If the model's file cannot be read.
    """
    prior = Prior.of(model, np.ndim(image), average, stride, seed, n_threads, progress)
    picture = prior.read(image, data_range)
    if sigma is None:
        sigma = estimate_sigma(picture.planes[0]) / picture.scale
    noise = _checked_sigma(sigma) * picture.scale
    if octaves < 1 or int(octaves) != octaves:
        raise ValueError(f"octaves must be a positive int, got {octaves}.")
    if adapt < 0 or int(adapt) != adapt:
        raise ValueError(f"adapt must be an int, 0 or more, got {adapt}.")
    schedule = None if betas is None else _checked_betas(betas)
    if noise == 0:
        return picture.image.copy()

    def at_one_size(y: Plane, deviation: float) -> Plane:
        own = prior.adapted(y, deviation**2, int(adapt))
        if schedule is None:
            return own.estimate(y, deviation**2)
        return own.split(y, schedule / deviation**2, lambda z, beta: _mixed(y, z, beta * deviation**2))

    two_patches = tuple(2 * side for side in prior.patch)
    return picture.changed(lambda y: by_octaves(y, noise, at_one_size, two_patches, int(octaves)))


def inpaint(
    image: ArrayLike,
    mask: ArrayLike,
    model: Any = None,
    *,
    sigma: float = 0.0,
    betas: Sequence[float] | None = None,
    average: bool = False,
    stride: int = 1,
    data_range: float | None = None,
    seed: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> NDArray[Any]:
    """Fill in missing values.

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels)
        As in `denoise`; what it holds where values are missing does not matter.
    mask : array-like of shape (height, width), bool
        True where values are missing.
    model : ConvGMM, FullGMM, Model or path, default=None
        As in `denoise`.
    sigma : float, default=0
        Standard deviation of noise in the values that are known, in the image's unit; with 0 they are kept.
    betas : sequence of float, default=None
        Rising penalties of half-quadratic splitting, in units of 1/white².
    average, stride, data_range, seed, n_threads, progress
        As in `denoise`.

    Returns
    -------
    restored : ndarray
        Of the image's shape and dtype.

    Raises
    ------
    ValueError
        If a parameter is out of range, or nothing is known.
    """
    prior = Prior.of(model, np.ndim(image), average, stride, seed, n_threads, progress)
    array = np.asarray(image)
    missing = np.asarray(mask)
    if missing.dtype != np.bool_ or missing.shape != array.shape[: prior.n_axes]:
        raise ValueError(
            f"mask has shape {missing.shape} and dtype {missing.dtype}; a boolean one of shape "
            f"{array.shape[: prior.n_axes]} is needed, True where values are missing."
        )
    if missing.all():
        raise ValueError("mask is True everywhere: nothing is known.")
    picture = prior.read(
        np.where(missing.reshape(missing.shape + (1,) * (array.ndim - missing.ndim)), 0, array).astype(array.dtype),
        data_range,
    )
    noise = _checked_sigma(sigma) * picture.scale
    schedule = _checked_betas(_FILLING_BETAS if betas is None else betas)

    def fill(y: Plane) -> Plane:
        def solve(z: Plane, beta: float) -> Plane:
            return np.where(missing, z, _mixed(y, z, beta * noise**2))

        return prior.split(_filled(y, missing), schedule, solve)

    restored = picture.changed(fill)
    if noise == 0:  # what was known is not even rounded
        restored[~missing] = array[~missing]
    if picture.has_alpha:
        restored[..., -1] = array[..., -1]
    return restored


def deblur(
    image: ArrayLike,
    kernel: ArrayLike,
    sigma: float,
    model: Any = None,
    *,
    betas: Sequence[float] = _BETAS,
    average: bool = False,
    stride: int = 1,
    data_range: float | None = None,
    seed: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> NDArray[Any]:
    """Undo a known blur.

    The image is taken for what a larger one, unknown beyond the borders too, looks like after the convolution.

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels)
        As in `denoise`.
    kernel : array-like of shape (h, w)
        What a point became; its centre is that of the array.
    sigma : float
        Standard deviation of the noise, in the image's unit.
    model : ConvGMM, FullGMM, Model or path, default=None
        As in `denoise`.
    betas : sequence of float
        Rising penalties of half-quadratic splitting, in units of 1/white².
    average, stride, data_range, seed, n_threads, progress
        As in `denoise`.

    Returns
    -------
    restored : ndarray
        Of the image's shape and dtype.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the kernel larger than the image.
    """
    prior = Prior.of(model, np.ndim(image), average, stride, seed, n_threads, progress)
    picture = prior.read(image, data_range)
    point = np.asarray(kernel, dtype=np.float32)
    shape = picture.planes[0].shape
    if point.ndim != len(shape) or any(k > s for k, s in zip(point.shape, shape, strict=False)) or not point.size:
        raise ValueError(f"kernel has shape {point.shape}; it must have {len(shape)} axes, none longer than {shape}.")
    if not (np.isfinite(point).all() and point.any()):
        raise ValueError("kernel must hold finite values, not all 0.")
    before = [(size - 1) // 2 for size in point.shape]
    after = [size - 1 - b for size, b in zip(point.shape, before, strict=True)]
    mirrored = np.flip(point)

    def forward(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(fftconvolve(x, point, mode="valid"), dtype=np.float32)

    def backward(y: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(fftconvolve(y, mirrored, mode="full"), dtype=np.float32)

    # The sum of a point's values is what a flat image is multiplied by.
    total = float(point.sum()) or 1.0
    inside = tuple(slice(a, a + size) for a, size in zip(after, shape, strict=True))

    def sharpen(y: Plane) -> Plane:
        start = np.pad(y / np.float32(total), list(zip(after, before, strict=True)), mode="edge")
        return np.ascontiguousarray(
            prior.solve(y, forward, backward, _checked_sigma(sigma) * picture.scale, betas, start)[inside]
        )

    return picture.changed(sharpen)


def restore(
    y: ArrayLike,
    operator: Operator,
    adjoint: Operator,
    sigma: float,
    betas: Sequence[float] = _BETAS,
    model: Any = None,
    *,
    start: ArrayLike | None = None,
    average: bool = False,
    stride: int = 1,
    seed: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Estimate an image x from y = A x + noise, for a linear operator A.

    Parameters
    ----------
    y : array-like
        What was measured, in a unit in which the image's white is 1.
    operator, adjoint : callable
        x ↦ A x and y ↦ Aᵀ y, arrays to arrays; x has the shape that `adjoint` gives.
    sigma : float
        Standard deviation of the noise in y.
    betas : sequence of float
        Rising penalties of half-quadratic splitting, in units of 1/white².
    model : ConvGMM, FullGMM, Model or path, default=None
        As in `denoise`.
    start : array-like, default=None
        The image to start with; None: Aᵀ y.
    average, stride, seed, n_threads, progress
        As in `denoise`.

    Returns
    -------
    restored : ndarray, float32
        The image.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    measured = np.asarray(y, dtype=np.float32)
    if not np.isfinite(measured).all():
        raise ValueError("y holds NaN or infinite values.")
    first = np.array(adjoint(measured) if start is None else start, dtype=np.float32)
    prior = Prior.of(model, first.ndim, average, stride, seed, n_threads, progress)
    prior.check(first.shape)
    return prior.solve(measured, operator, adjoint, _checked_sigma(sigma), betas, first)


def estimate_sigma(image: ArrayLike) -> float:
    """Estimate the deviation of white Gaussian noise from the finest differences of a grey image, signal or volume.

    The median of |d| / 0.6745, over the diagonal differences d of the finest Haar wavelets at all places (Donoho and
    Johnstone 1994). Fine texture counts as noise.

    Parameters
    ----------
    image : array-like
        Values of one channel, at least two along each axis.

    Returns
    -------
    sigma : float
        In the image's unit.

    Raises
    ------
    ValueError
        If the image is too small, or holds values that are not finite.
    """
    difference = np.asarray(image)
    difference = difference.astype(np.promote_types(difference.dtype, np.float32))
    if difference.ndim == 0 or min(difference.shape) < 2:
        raise ValueError(f"image of shape {difference.shape} is too small for differences.")
    if not np.isfinite(difference).all():
        raise ValueError("image holds NaN or infinite values.")
    for axis in range(difference.ndim):
        difference = np.diff(difference, axis=axis) / np.sqrt(2)
    return float(np.median(np.abs(difference)) / 0.6744897501960817)


# ---- the prior -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prior:
    """A mixture of patches, and how it is applied to images."""

    gaussians: Gaussians
    patch: tuple[int, ...]
    average: bool
    stride: int
    seed: int
    n_threads: int
    progress: bool

    @classmethod
    def of(
        cls, model: Any, n_axes: int, average: bool, stride: int, seed: int, n_threads: int | None, progress: bool
    ) -> "Prior":
        """Make one of what users give, for images of so many axes."""
        if model is None:
            model = _shipped()
        elif isinstance(model, str | os.PathLike):
            path, model = model, _load(model)
            if not isinstance(getattr(model, "model_", None), Model):
                raise ValueError(f"{os.fspath(path)} holds a {type(model).__name__}; a mixture of patches is needed.")
        model = getattr(model, "model_", model)
        if not isinstance(model, Model):
            raise TypeError(f"model is a {type(model).__name__}; a fitted mixture of patches is needed.")
        if stride < 1 or int(stride) != stride:
            raise ValueError(f"stride must be a positive int, got {stride}.")
        gaussians, patch = model.gaussians().for_patches_without_mean(), model.shape
        side = round(patch[0] ** 0.5)
        if gaussians.may_be_flattened and len(patch) == 1 and n_axes > 1 and side**2 == patch[0]:
            patch = side, side
        return cls(gaussians, patch, average, int(stride), seed, n_threads or 0, progress)

    @property
    def n_axes(self) -> int:
        """Number of axes of an image."""
        return len(self.patch)

    def read(self, image: ArrayLike, data_range: float | None) -> Picture:
        """Take an image apart that is large enough."""
        picture = Picture.of(image, self.n_axes, data_range)
        self.check(picture.planes[0].shape)
        return picture

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse an image smaller than a patch, and strides that leave values uncovered."""
        if len(shape) != self.n_axes:
            raise ValueError(f"an image of shape {shape} has not as many axes as a patch of the model, {self.patch}.")
        if any(s < p for s, p in zip(shape, self.patch, strict=True)):
            raise ValueError(f"an image of shape {shape} is smaller than a patch of the model, {self.patch}.")
        if 2 * self.stride > min(self.patch) + 1:
            raise ValueError(f"stride must be at most {(min(self.patch) + 1) // 2} for patches of {self.patch}.")

    def adapted(self, y: Plane, noise_var: float, n_steps: int) -> "Prior":
        """Return the prior after some steps of EM on patches from all over a noisy image."""
        if not n_steps:
            return self
        places = np.prod([size - side + 1 for size, side in zip(y.shape, self.patch, strict=True)])
        apart = max(LEAST_APART, int(np.ceil((places / ADAPTING) ** (1 / self.n_axes))))
        chosen = sliding_window_view(y, self.patch)[(slice(None, None, apart),) * self.n_axes]
        patches = chosen.reshape(-1, np.prod(self.patch))
        gaussians = self.gaussians
        if gaussians.removes_mean:
            patches = patches - patches.mean(axis=1, keepdims=True)
        for _ in range(n_steps):
            gaussians = gaussians.adapted(patches, noise_var, PRIOR_COUNT, n_threads=self.n_threads)
        return replace(self, gaussians=gaussians)

    def estimate(self, y: Plane, noise_var: float, step: int = 0) -> Plane:
        """Return the mean of the estimates of all patches in noise of this variance."""
        ranges: Iterable[tuple[int, int]] = list(tile_ranges(y.shape, self.patch, self.stride))
        return average_of_patches(
            self.gaussians,
            y,
            self.patch,
            noise_var,
            average=self.average,
            weighting=WEIGHTING,
            stride=self.stride,
            seed=self.seed + step,
            n_threads=self.n_threads,
            progress=tqdm(ranges, unit="part", disable=not self.progress),
        )

    def split(self, start: Plane, betas: NDArray[np.float64], solve: Callable[[Plane, float], Plane]) -> Plane:
        """Alternate between patches and the image x = solve(their mean, β)."""
        x = start
        for step, beta in enumerate(betas):
            x = solve(self.estimate(x, 1 / float(beta), step), float(beta))
        return x

    def solve(
        self,
        y: NDArray[np.float32],
        operator: Operator,
        adjoint: Operator,
        sigma: float,
        betas: Sequence[float],
        start: Plane,
    ) -> Plane:
        """Alternate between patches and x = argmin ‖A x − y‖²/σ² + β ‖x − z‖², by conjugate gradients."""
        if not sigma > 0:
            raise ValueError("sigma must be positive: it weighs what was measured against the patches.")
        back = adjoint(y)

        def least_squares(z: Plane, beta: float) -> Plane:
            b = np.float32(beta * sigma**2)
            return _conjugate_gradients(lambda x: adjoint(operator(x)) + b * x, back + b * z, z)

        return self.split(start, _checked_betas(betas), least_squares)


def _load(path: str | os.PathLike[str]) -> Any:
    from .estimator import Estimator  # noqa: PLC0415 - that module knows what a model does to patches

    return Estimator.load(path)


@lru_cache(maxsize=1)
def _shipped() -> Any:
    return _load(Path(__file__).with_name("prior.npz"))


# ---- small parts -----------------------------------------------------------------------------------------------------


def _mixed(y: Plane, z: Plane, ratio: float) -> Plane:
    """Return argmin (x − y)² + ratio (x − z)²."""
    return np.asarray((y + np.float32(ratio) * z) / np.float32(1 + ratio), dtype=np.float32)


def _filled(y: Plane, missing: NDArray[np.bool_]) -> Plane:
    """Return an image with missing values from the nearest surroundings that are known."""
    known = np.where(missing, 0, y).astype(np.float32), (~missing).astype(np.float32)
    filled, left = y.copy(), missing.copy()
    for width in (1.0, 2.0, 4.0, 8.0):
        if not left.any():
            return filled
        value, share = (gaussian_filter(part, width, mode="nearest") for part in known)
        reached = left & (share > 1e-3)
        filled[reached] = value[reached] / share[reached]
        left &= ~reached
    nearest = distance_transform_edt(left, return_distances=False, return_indices=True)
    return np.asarray(filled[tuple(nearest)])


def _conjugate_gradients(
    multiply: Callable[[Plane], NDArray[Any]], target: NDArray[Any], start: Plane, tolerance: float = 1e-5
) -> Plane:
    """Solve multiply(x) = target for a symmetric positive definite operator (Hestenes and Stiefel 1952)."""

    def dot(a: NDArray[Any], b: NDArray[Any]) -> float:
        return float(np.sum(a * b, dtype=np.float64))  # a library's product may depend on its threads

    x = start.copy()
    residual = target - multiply(x)
    direction, square = residual.copy(), dot(residual, residual)
    enough = tolerance**2 * dot(target, target)
    for _ in range(100):
        if square <= enough:
            break
        image = multiply(direction)
        length = square / dot(direction, image)
        x += np.float32(length) * direction
        residual = residual - np.float32(length) * image
        previous, square = square, dot(residual, residual)
        direction = residual + np.float32(square / previous) * direction
    return x


def _checked_sigma(sigma: float) -> float:
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be 0 or more, got {sigma}.")
    return float(sigma)


def _checked_betas(betas: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(betas, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"betas must be positive numbers, at least one, got {betas!r}.")
    return values
