"""When a run has converged: a monitor says, and another may be put in its place."""

import warnings
from dataclasses import dataclass

import numpy as np


class LikelihoodWarning(UserWarning):
    """The likelihood fell where plain EM cannot let it fall."""


@dataclass(frozen=True)
class Progress:
    """What a monitor is told after each E-step.

    Attributes
    ----------
    lower_bounds : tuple of float
        Mean log-likelihood that each E-step of the run has found, in nats per sample; the last is new.
    tol : float
        The estimator's.
    previous : float or None, default=None
        The bound that an earlier run ended with, whose parameters this one goes on from, maybe with other samples.
    rounding : float, default=0
        How far the last bound may fall by rounding alone.
    exempt : bool, default=False
        Whether the step that led to the last bound may let it fall: one that removed components, or that went on from a
        start out of EM's reach.
    may_fall : bool, default=False
        Whether all steps are such that a fall is no surprise.
    window : int, default=1
        How many bounds are averaged before they are compared, where one is random.
    """

    lower_bounds: tuple[float, ...]
    tol: float
    previous: float | None = None
    rounding: float = 0.0
    exempt: bool = False
    may_fall: bool = False
    window: int = 1

    @property
    def gain(self) -> float | None:
        """What the last step gained; None: there is nothing to compare with."""
        before = self.lower_bounds[-2] if len(self.lower_bounds) > 1 else self.previous
        return None if self.exempt or before is None else self.lower_bounds[-1] - before


@dataclass(frozen=True)
class Monitor:
    """Says when a run has converged, and warns when the likelihood falls.

    EM has converged when the mean log-likelihood changes by less than `tol`: gains it, or falls no further than is no
    surprise. Where it is random, its mean over a window is compared with that over the window before.

    A mixture's `monitor` takes the place of this one: an object of a class that derives from it, or of any with such a
    method. It keeps nothing between two questions: what it says follows from the progress, so that a run that goes on
    from a checkpoint ends as one that was never cut off.
    """

    def converged(self, progress: Progress) -> bool:
        """Say whether the run has converged."""
        bounds, tol, window = progress.lower_bounds, progress.tol, progress.window
        if window > 1:
            last, before = bounds[-window:], bounds[-2 * window : -window]
            return len(before) == window and bool(abs(np.mean(last) - np.mean(before)) < tol)
        gain = progress.gain
        if gain is None:
            return False
        # Of the first bound nothing is known: the samples may be others than those of the earlier run.
        if gain < -progress.rounding and not progress.may_fall and len(bounds) > 1:
            warnings.warn(
                f"the mean log-likelihood fell by {-gain:.3g} nats in iteration {len(bounds) - 1}, more than rounding "
                f"explains ({progress.rounding:.1g}): please report this with the data.",
                LikelihoodWarning,
                stacklevel=2,
            )
        return -(tol if progress.may_fall else min(tol, progress.rounding)) < gain < tol
