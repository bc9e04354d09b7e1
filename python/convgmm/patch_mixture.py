"""What mixtures of stationary patches share: the shape of a patch, and whether its mean is removed."""

from math import prod
from numbers import Integral
from typing import Any, ClassVar

from .basis import degrees_of_freedom
from .estimator import Mixture, Samples
from .families import Family
from .model import Model


class PatchMixture(Mixture):
    """A mixture with the parameters `patch_shape` and `remove_mean`; its family has the option `remove_mean` too."""

    patch_shape: tuple[int, ...] | None
    remove_mean: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Mixture._parameter_constraints,
        "patch_shape": ["array-like", None],
        "remove_mean": ["boolean"],
    }

    def _shape_of(self, given: tuple[int, ...] | None, n_features: int) -> tuple[int, ...]:
        patch_shape = self._checked_patch_shape()
        if given is None:
            shape = patch_shape or (n_features,)
            if prod(shape) != n_features:
                raise ValueError(
                    f"patch_shape={shape} has {prod(shape)} values, but X has {n_features} features; a flattened "
                    f"sample needs as many."
                )
        elif patch_shape is not None and given != patch_shape:
            raise ValueError(f"X holds samples of shape {given}, but patch_shape={patch_shape}.")
        else:
            shape = given
        if degrees_of_freedom(shape, bool(self.remove_mean)) < 1:
            raise ValueError(
                f"Found samples with {n_features} feature(s) (n_features = {n_features}), of which remove_mean=True "
                f"leaves none; pass remove_mean=False or longer samples."
            )
        return shape

    def _checked_patch_shape(self) -> tuple[int, ...] | None:
        if self.patch_shape is None:
            return None
        shape = tuple(self.patch_shape)
        if not (1 <= len(shape) <= 3 and all(isinstance(size, Integral) and size > 0 for size in shape)):
            raise ValueError(f"patch_shape must be a tuple of 1 to 3 positive ints, got {self.patch_shape!r}.")
        return tuple(int(size) for size in shape)

    def _check_warm_start(self, model: Model, family: Family, samples: Samples) -> None:
        super()._check_warm_start(model, family, samples)
        fitted = model.family.unscaled.to_values()["basis"]["remove_mean"]
        if fitted != self.remove_mean:
            raise ValueError(
                f"warm_start=True goes on from a fit with remove_mean={fitted}, but remove_mean={self.remove_mean}; "
                f"set warm_start=False."
            )
