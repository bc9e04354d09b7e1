"""Pictures of any dtype as planes of real numbers, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Plane = NDArray[np.float32]

# Grey and two differences, orthonormal but for 1/√3, so that grey keeps its range and all three share one noise.
_OPPONENT = np.array([[1, 1, 1], [np.sqrt(1.5), 0, -np.sqrt(1.5)], [np.sqrt(0.5), -np.sqrt(2), np.sqrt(0.5)]]) / 3


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as planes in units of its range.

    Attributes
    ----------
    planes : list of ndarray, float32
        One for grey; three for colour: grey, and two differences of colours.
    scale : float
        What noise of deviation 1 in the image has in the planes.
    image : ndarray
        The image as it was given.
    has_alpha : bool
        Whether its last channel is alpha.
    """

    planes: list[Plane]
    scale: float
    image: NDArray[Any]
    has_alpha: bool
    _range: float
    _colour: bool

    @classmethod
    def of(cls, image: ArrayLike, n_axes: int, data_range: float | None) -> "Picture":
        """Take an image apart.

        Parameters
        ----------
        image : array-like
            Grey, of `n_axes` axes; or with a last axis of 2 (grey, alpha), 3 (colour) or 4 (colour, alpha) more.
        n_axes : int
            Of the patches that it is to be compared with.
        data_range : float or None
            What counts as white; None: the largest value of integers of 8 or 16 bits, 1 for floats.

        Raises
        ------
        ValueError
            If it is no such image, holds values that are not finite, or wider integers without a range.
        """
        array = np.asarray(image)
        if array.dtype.kind not in "uif":
            raise ValueError(f"image has dtype {array.dtype}; integers or floats are needed.")
        channels = array.shape[-1] if array.ndim == n_axes + 1 else 0
        if array.ndim != n_axes and channels not in {2, 3, 4}:
            raise ValueError(
                f"image has shape {array.shape}; {n_axes} axes are needed, or one more for 3 colours or an alpha "
                f"channel (2 to 4 values). Look up a palette's colours first."
            )
        if not np.isfinite(array).all():
            raise ValueError("image holds NaN or infinite values; give them as the mask of inpaint, or replace them.")
        if data_range is None and array.dtype.kind in "ui" and array.dtype.itemsize > 2:
            raise ValueError(f"image has dtype {array.dtype}, which does not say what white is: pass data_range.")
        white = (
            float(np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1) if data_range is None else data_range
        )
        if not (np.isfinite(white) and white > 0):
            raise ValueError(f"data_range must be positive, got {data_range}.")
        colour, alpha = channels >= 3, channels in {2, 4}
        if not channels:
            planes = [array]
        else:
            seen = array[..., :-1] if alpha else array
            planes = [seen @ row for row in _OPPONENT] if colour else [seen[..., 0]]
        converted = [np.ascontiguousarray(plane / white, dtype=np.float32) for plane in planes]
        scale = (1 / np.sqrt(3) if colour else 1.0) / white
        return cls(converted, scale, array, alpha, white, colour)

    def rebuilt(self, planes: list[Plane]) -> NDArray[Any]:
        """Return an image of the same kind and dtype from new planes; alpha as it was, integers rounded."""
        if self._colour:
            values = np.stack(planes, axis=-1) @ np.linalg.inv(_OPPONENT).T.astype(np.float32)
        elif self.has_alpha:
            values = planes[0][..., None]
        else:
            values = planes[0]
        values = values * self._range
        dtype = self.image.dtype
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            largest = float(limits.max)
            if largest > limits.max:  # of 64 bits: rounded up to what would wrap around
                largest = np.nextafter(largest, 0)
            values = np.clip(np.rint(values.astype(np.float64)), limits.min, largest)
        values = values.astype(dtype)
        return np.concatenate([values, self.image[..., -1:]], axis=-1) if self.has_alpha else values

    def changed(self, change: Callable[[Plane], Plane]) -> NDArray[Any]:
        """Return the image with every plane changed."""
        return self.rebuilt([change(plane) for plane in self.planes])
