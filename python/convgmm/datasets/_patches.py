"""Random patches of images."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

#: Drawing is given up when so many patches were discarded for each one that is wanted.
_MOST_DISCARDED = 50

#: Values drawn at a time, 32 MB.
_BLOCK_VALUES = 1 << 23


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
    views = [np.lib.stride_tricks.sliding_window_view(image, patch_shape) for image in arrays]
    ends = np.cumsum([int(np.prod(view.shape[: len(patch_shape)])) for view in views])

    patches = np.empty((n_patches, *patch_shape), dtype=np.float32)
    size = int(np.prod(patch_shape))
    # Drawn block by block into memory that is used again: fresh memory costs more than the copy into it.
    block = max(1, min(n_patches, _BLOCK_VALUES // size))
    drawn = np.empty((block, size), dtype=np.float32)
    n_kept = n_discarded = 0
    while n_kept < n_patches and n_discarded < _MOST_DISCARDED * n_patches + 1000:
        _gather(views, ends, rng.randint(0, ends[-1], size=block, dtype=np.int64), drawn.reshape(block, *patch_shape))
        mean = drawn.mean(axis=1, keepdims=True)
        centred = np.subtract(drawn, mean, out=drawn if remove_mean else None)
        variance = np.einsum("ij,ij->i", centred, centred) / size
        passing = np.flatnonzero(variance >= np.float32(min_std) ** 2)[: n_patches - n_kept]
        np.take(drawn, passing, axis=0, out=patches[n_kept : n_kept + len(passing)].reshape(-1, size), mode="clip")
        n_kept += len(passing)
        n_seen = block if n_kept < n_patches else int(passing[-1]) + 1  # what follows the last one was never needed
        n_discarded += n_seen - len(passing)
    if n_kept == n_patches:
        return (patches, n_discarded) if return_n_discarded else patches
    raise ValueError(
        f"only {n_kept} of {n_kept + n_discarded} drawn patches have a standard deviation of at least "
        f"min_std={min_std}: the images are too flat; lower min_std, and check that it is in the images' unit."
    )


def _checked_images(images: Sequence[ArrayLike] | NDArray[Any], patch_shape: tuple[int, ...]) -> list[NDArray[Any]]:
    if not patch_shape or any(int(size) != size or size < 1 for size in patch_shape):
        raise ValueError(f"patch_shape must be a tuple of positive ints, got {patch_shape!r}.")
    if isinstance(images, np.ndarray) and images.ndim == len(patch_shape):
        raise ValueError("images must be a sequence of images; for a single one pass [image].")
    if len(images) == 0:
        raise ValueError("images is empty: pass at least one image.")
    arrays = []
    for i, given in enumerate(images):
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
