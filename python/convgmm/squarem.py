"""Extrapolation of EM's steps (Varadhan and Roland, Scandinavian Journal of Statistics 2008, scheme S3).

    r = θ₁ − θ₀,    v = (θ₂ − θ₁) − r,    α = ‖r‖ / ‖v‖,    θ' = θ₀ + 2 α r + α² v

θ₁ and θ₂ follow from θ₀ by steps of EM, in the family's unbounded coordinates; ‖·‖² weighs each coordinate by its
Fisher information. The next cycle begins at θ': the pass that tells its likelihood also gives the next step, so that a
cycle takes two. If the likelihood at θ' is below that at θ₁, EM goes on from θ₂: so it never falls. That costs the
pass.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .families import CollapseError, Family

# By what the longest step is multiplied when it was taken, and divided by when it was too long.
_STRETCH = 4.0


@dataclass(frozen=True, eq=False)
class Squarem:
    """Where a cycle is.

    Attributes
    ----------
    chain : tuple
        θ₀ and, if known, θ₁.
    tried : object or None
        θ', while it is not known whether it is better than θ₂, from which EM goes on otherwise.
    bound : float
        The likelihood at the last parameters that were kept.
    longest : float
        Largest α.
    """

    chain: tuple[Any, ...] = ()
    tried: Any = None
    bound: float = -np.inf
    longest: float = 1.0

    def rejects(self, bound: float, rounding: float) -> bool:
        """Say whether the parameters just tried are an extrapolation that lowers the likelihood."""
        return self.tried is not None and not bound >= self.bound - rounding

    def rejected(self) -> "Squarem":
        """Return where the cycle is when EM goes on from θ₂."""
        return Squarem((), None, self.bound, max(1.0, self.longest / _STRETCH))

    def after(self, family: Family, frame: Any, before: Any, parameters: Any, bound: float) -> "Squarem":
        """Return where the cycle is after a step of EM from `before`, whose bound this is, to `parameters`."""
        chain = (*(self.chain or (before,)), parameters)
        if len(chain) < 3:
            return Squarem(chain, None, bound, self.longest)
        first, second, third = (family.coordinates(each, frame) for each in chain)
        r = second - first
        v = third - second - r
        information = family.information(parameters, frame)
        length, change = (float(np.einsum("i,i,i->", information, each, each)) for each in (r, v))
        wanted = np.sqrt(length / change) if change > 0 else 1.0
        step = float(min(max(wanted, 1.0), self.longest))
        longest = self.longest * _STRETCH if step == self.longest else self.longest
        if step == 1.0:
            return Squarem((), None, bound, longest)
        try:
            tried = family.at_coordinates(first + 2 * step * r + step**2 * v, parameters, frame)
        except CollapseError:  # too far: without a pass
            return Squarem((), None, bound, max(1.0, self.longest / _STRETCH))
        return Squarem((), tried, bound, longest)
