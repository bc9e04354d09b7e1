"""Random patches of images."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from ..extras import require
from ..picture_file import read_grey

#: Drawing is given up when so many patches were discarded for each one that is wanted.
_MOST_DISCARDED = 50

#: Values drawn at a time, 32 MB.
_BLOCK_VALUES = 1 << 23

# Values of a block of `Patches`, 16 MB, and of the images that it reads at a time, 64 MB.
_PATCHES_VALUES = 1 << 22
_GROUP_VALUES = 1 << 24


@overload
def extract_patches(
    images: Sequence[ArrayLike] | NDArray[Any],
    patch_shape: tuple[int, ...],
    n_patches: int,
    *,
    remove_mean: bool = ...,
    min_std: float = ...,
    random_state: int | np.random.RandomState | None = ...,
    return_n_discarded: Literal[False] = ...,
) -> NDArray[np.float32]: ...
@overload
def extract_patches(
    images: Sequence[ArrayLike] | NDArray[Any],
    patch_shape: tuple[int, ...],
    n_patches: int,
    *,
    remove_mean: bool = ...,
    min_std: float = ...,
    random_state: int | np.random.RandomState | None = ...,
    return_n_discarded: Literal[True],
) -> tuple[NDArray[np.float32], int]: ...
def extract_patches(
    images: Sequence[ArrayLike] | NDArray[Any],
    patch_shape: tuple[int, ...],
    n_patches: int,
    *,
    remove_mean: bool = True,
    min_std: float = 0.04,
    random_state: int | np.random.RandomState | None = None,
    return_n_discarded: bool = False,
) -> NDArray[np.float32] | tuple[NDArray[np.float32], int]:
    """Draw patches uniformly from all positions of all images, without those that are nearly flat.

    Parameters
    ----------
    images : sequence of arrays, or one array (n_images, ...)
        Signals, grey images or volumes with finite values; their sizes may differ.
    patch_shape : tuple of int
        One size for each axis of an image.
    n_patches : int
        How many patches are returned.
    remove_mean : bool, default=True
        Whether each patch's mean is subtracted.
    min_std : float, default=0.04
        Least standard deviation of a patch, in the unit of the images. A flatter patch is discarded and drawn again;
        0 keeps all.
    random_state : int, RandomState or None, default=None
        Source of the positions; an int repeats the draw.
    return_n_discarded : bool, default=False
        Whether the number of discarded draws is returned too.

    Returns
    -------
    patches : ndarray of shape (n_patches, *patch_shape), float32
        In the order of the draws.
    n_discarded : int
        Only with ``return_n_discarded=True``.

    Raises
    ------
    ValueError
        If an image is smaller than the patch, has another number of axes or values that are not finite; if
        `n_patches` or `min_std` is out of range; or if nearly all patches are flatter than `min_std`.
    """
    arrays = _checked_images(images, patch_shape)
    if n_patches < 1:
        raise ValueError(f"n_patches must be at least 1, got {n_patches}.")
    if not min_std >= 0:
        raise ValueError(f"min_std must be 0 or more, got {min_std}.")
    rng = check_random_state(random_state)
    drawn = _Draw(arrays, patch_shape, remove_mean, min_std)
    patches, n_discarded = drawn(n_patches, rng)
    return (patches, n_discarded) if return_n_discarded else patches


class _Draw:
    """Patches of some checked images, as `extract_patches` draws them."""

    def __init__(
        self, arrays: list[NDArray[Any]], patch_shape: tuple[int, ...], remove_mean: bool, min_std: float
    ) -> None:
        self.patch_shape, self.remove_mean, self.min_std = patch_shape, remove_mean, min_std
        self.views = [np.lib.stride_tricks.sliding_window_view(image, patch_shape) for image in arrays]
        self.ends = np.cumsum([int(np.prod(view.shape[: len(patch_shape)])) for view in self.views])

    def __call__(self, n_patches: int, rng: np.random.RandomState) -> tuple[NDArray[np.float32], int]:
        """Return patches (n_patches, *patch_shape), and how many were discarded."""
        patches = np.empty((n_patches, *self.patch_shape), dtype=np.float32)
        size = int(np.prod(self.patch_shape))
        # Drawn block by block into memory that is used again: fresh memory costs more than the copy into it.
        block = max(1, min(n_patches, _BLOCK_VALUES // size))
        drawn = np.empty((block, size), dtype=np.float32)
        n_kept = n_discarded = 0
        while n_kept < n_patches and n_discarded < _MOST_DISCARDED * n_patches + 1000:
            positions = rng.randint(0, self.ends[-1], size=block, dtype=np.int64)
            _gather(self.views, self.ends, positions, drawn.reshape(block, *self.patch_shape))
            mean = drawn.mean(axis=1, keepdims=True)
            centred = np.subtract(drawn, mean, out=drawn if self.remove_mean else None)
            variance = np.einsum("ij,ij->i", centred, centred) / size
            passing = np.flatnonzero(variance >= np.float32(self.min_std) ** 2)[: n_patches - n_kept]
            np.take(drawn, passing, axis=0, out=patches[n_kept : n_kept + len(passing)].reshape(-1, size), mode="clip")
            n_kept += len(passing)
            n_seen = block if n_kept < n_patches else int(passing[-1]) + 1  # what follows the last was never needed
            n_discarded += n_seen - len(passing)
        if n_kept < n_patches:
            raise ValueError(
                f"only {n_kept} of {n_kept + n_discarded} drawn patches have a standard deviation of at least "
                f"min_std={self.min_std}: the images are too flat; lower min_std, and check that it is in the images' "
                f"unit."
            )
        return patches, n_discarded


class Patches:
    """Random patches that are drawn again whenever they are asked for, and never stored: samples for every `fit`.

    Images are read in groups of a bounded size, each group once a pass; from each group come patches in proportion to
    the positions that its images have, as `extract_patches` draws them. Every pass gives the same patches in the same
    order.

    Parameters
    ----------
    images : sequence of arrays or paths
        Signals, grey images or volumes with finite values; or the names of files: photographs, whose luma is from 0 to
        1, or arrays (``.npy``). Files are read when they are needed.
    patch_shape : tuple of int
        One size for each axis of an image.
    n_patches : int
        How many patches a pass gives.
    remove_mean : bool, default=True
        Whether each patch's mean is subtracted.
    min_std : float, default=0.04
        Least standard deviation of a patch; flatter ones are drawn again.
    random_state : int, RandomState or None, default=None
        Source of the positions; drawn from once, here.

    Raises
    ------
    ValueError
        If a parameter is out of range; when they are read, if images are not as `extract_patches` wants them.
    OSError
        If a file cannot be read.
    ImportError
        If pillow is not installed, for photographs.

    Examples
    --------
    >>> from convgmm import ConvGMM
    >>> from convgmm.datasets import Patches, load_sample_images
    >>> patches = Patches(load_sample_images(), (8, 8), 20_000, random_state=0)
    >>> ConvGMM(4, tol=0.1, random_state=0).fit(patches).spectra_.shape
    (4, 8, 8)
    """

    def __init__(
        self,
        images: Sequence[ArrayLike | str | os.PathLike[str]],
        patch_shape: tuple[int, ...],
        n_patches: int,
        *,
        remove_mean: bool = True,
        min_std: float = 0.04,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        if n_patches < 1:
            raise ValueError(f"n_patches must be at least 1, got {n_patches}.")
        if not min_std >= 0:
            raise ValueError(f"min_std must be 0 or more, got {min_std}.")
        self.images, self.patch_shape, self.n_patches = images, tuple(patch_shape), n_patches
        self.remove_mean, self.min_std = remove_mean, min_std
        self.seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        if not any(_is_path(image) for image in images):
            _checked_images(images, self.patch_shape)  # type: ignore[arg-type]
        elif not len(images):
            raise ValueError("images is empty: pass at least one image.")

    @cached_property
    def _groups(self) -> list[tuple[list[int], int]]:
        """Images that are read together, and the number of their positions."""
        groups: list[tuple[list[int], int]] = []
        n_values = _GROUP_VALUES
        for i in np.random.RandomState(self.seed).permutation(len(self.images)):  # a group is like all
            shape = _shape_of(self.images[i])
            n_positions = prod(have - want + 1 for have, want in zip(shape, self.patch_shape, strict=False))
            if n_values + prod(shape) > _GROUP_VALUES:
                groups.append(([], 0))
                n_values = 0
            n_values += prod(shape)
            members, total = groups.pop()
            groups.append(([*members, int(i)], total + max(0, n_positions)))
        return groups

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield patches (n, *patch_shape), float32, block by block."""
        rng = np.random.RandomState(self.seed)
        positions = np.array([total for _, total in self._groups], dtype=np.float64)
        counts = rng.multinomial(self.n_patches, positions / positions.sum()) if positions.sum() else [1]
        block = max(1, _PATCHES_VALUES // prod(self.patch_shape))
        for (members, _), count in zip(self._groups, counts, strict=False):
            if not count:
                continue
            names = [str(self.images[i]) if _is_path(self.images[i]) else i for i in members]
            arrays = _checked_images([_read(self.images[i]) for i in members], self.patch_shape, names)
            draw = _Draw(arrays, self.patch_shape, self.remove_mean, self.min_std)
            for first in range(0, int(count), block):
                yield draw(min(block, int(count) - first), rng)[0]


def _is_path(image: Any) -> bool:
    return isinstance(image, str | os.PathLike)


def _shape_of(image: Any) -> tuple[int, ...]:
    """Return the shape of an image; of a photograph without decoding it."""
    if not _is_path(image):
        return tuple(np.shape(image))
    if os.fspath(image).endswith(".npy"):
        return tuple(np.load(image, mmap_mode="r").shape)
    with require("PIL.Image", "data", "reading photographs").open(image) as photograph:
        return (int(photograph.height), int(photograph.width))


def _read(image: Any) -> Any:
    if not _is_path(image):
        return image
    return np.load(image) if os.fspath(image).endswith(".npy") else read_grey(image)


def _checked_images(
    images: Sequence[ArrayLike] | NDArray[Any], patch_shape: tuple[int, ...], names: Sequence[Any] | None = None
) -> list[NDArray[Any]]:
    """Return images as arrays of float32, or say what is wrong with one, by its name or number."""
    if not patch_shape or any(int(size) != size or size < 1 for size in patch_shape):
        raise ValueError(f"patch_shape must be a tuple of positive ints, got {patch_shape!r}.")
    if isinstance(images, np.ndarray) and images.ndim == len(patch_shape):
        raise ValueError("images must be a sequence of images; for a single one pass [image].")
    if len(images) == 0:
        raise ValueError("images is empty: pass at least one image.")
    arrays = []
    for i, given in zip(names or range(len(images)), images, strict=True):
        image = np.asarray(given)
        if image.dtype.kind not in "buif":
            raise ValueError(f"image {i} has dtype {image.dtype}; real numbers are needed.")
        if image.ndim != len(patch_shape):
            raise ValueError(
                f"image {i} has shape {image.shape}, but a patch_shape of {patch_shape} needs {len(patch_shape)} axes"
                + ("; convert colour images to grey first." if image.ndim == len(patch_shape) + 1 else ".")
            )
        if any(have < want for have, want in zip(image.shape, patch_shape, strict=True)):
            raise ValueError(f"image {i} of shape {image.shape} is smaller than the patch {patch_shape}.")
        image = image.astype(np.float32, copy=False)
        if not np.isfinite(image).all():
            raise ValueError(f"image {i} holds NaN or infinite values; replace them first.")
        arrays.append(image)
    return arrays


def _gather(
    views: list[NDArray[np.float32]], ends: NDArray[np.int64], positions: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Copy the patches at flat `positions`, image by image so that each image is brought into cache once."""
    order = np.argsort(positions, kind="stable")
    cuts = np.searchsorted(positions[order], ends)
    start = 0
    for i, view in enumerate(views):
        chosen = order[start : cuts[i]]
        start = int(cuts[i])
        first = int(ends[i - 1]) if i else 0
        out[chosen] = view[np.unravel_index(positions[chosen] - first, view.shape[: out.ndim - 1])]
