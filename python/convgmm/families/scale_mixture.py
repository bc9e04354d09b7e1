"""What families share whose components are another family's at several contrasts (Andrews and Mallows, 1974).

    x = s z,    z of the component at the scale 1,    s a random factor with a distribution of the component's own

One distance serves all scales. A sample has two weights in a component: its responsibility γ, and γ E[1/s² | x, k] for
moments. Where samples are assigned to one component, its scales still share them.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..source import Block
from .family import Arrays, CoreScales, Data, Family, Floats, Reading, Scalable
from .full import Full
from .spectral import Spectral
from .torus import Torus

# Bins of the histogram of contrasts: so many for each factor of 2 in power, from 2^-1100 on.
_BINS = 8
_OCTAVES = 1100

_SCALABLE: dict[str, type[Scalable]] = {family.__name__: family for family in (Spectral, Full, Torus)}


@dataclass(frozen=True, eq=False)
class ContrastSurvey:
    """A survey, and the weights of samples by the logarithm of their power, in bins."""

    single: Any
    histogram: NDArray[np.float64]

    def __add__(self, other: "ContrastSurvey") -> "ContrastSurvey":
        return ContrastSurvey(self.single + other.single, self.histogram + other.histogram)

    def power(self, share: float) -> float:
        """Return the power that this share of the samples does not exceed.

        Raises
        ------
        ValueError
            If no sample has power.
        """
        if not self.histogram.any():
            raise ValueError("X is zero everywhere: there is no contrast that scales could describe.")
        cumulative = np.cumsum(self.histogram)
        place = int(np.searchsorted(cumulative, share * cumulative[-1]))
        return float(2.0 ** ((place + 0.5) / _BINS - _OCTAVES))


@dataclass(frozen=True, eq=False)
class PreparedScales:
    """What is prepared at the scale 1, and the distribution of scales as the core takes it."""

    single: Any
    scales: CoreScales

    @property
    def resolution(self) -> float:
        """That at the scale 1."""
        return float(self.single.resolution)


@dataclass(frozen=True, eq=False)
class MixtureParameters:
    """Parameters at the scale 1; a family adds those of its scales."""

    single: Any

    @property
    def weights(self) -> NDArray[np.float64]:
        """Mixing proportions, (K,)."""
        return np.asarray(self.single.weights)

    def with_weights(self, weights: NDArray[np.float64]) -> Self:
        """Return the same components in other proportions."""
        return replace(self, single=self.single.with_weights(weights))


@dataclass(frozen=True, eq=False)
class MixtureStatistics:
    """Statistics whose moments have the weights γ u; a family adds those of its scales."""

    single: Any

    @property
    def log_likelihood(self) -> float:
        """Σ log p(x)."""
        return float(self.single.log_likelihood)

    @property
    def details(self) -> dict[str, Any]:
        """Those of the E-step."""
        return dict(self.single.details)


@dataclass(frozen=True)
class ScaleMixture(Family):
    """Components of another family at several scales.

    Their parameters, frames and surveys hold those of the other family as `single`.

    Parameters
    ----------
    single : Scalable
        The family at one scale.
    """

    single: Scalable

    @property
    def unscaled(self) -> Family:
        """The family at one scale."""
        return self.single

    def to_values(self) -> dict[str, Any]:
        """Return the options as JSON values, the family by its name."""
        options = {each.name: getattr(self, each.name) for each in fields(self)}
        single = {"name": type(self.single).__name__, "options": self.single.to_values()}
        return {**options, "single": single}

    @staticmethod
    def single_from(values: dict[str, Any]) -> Scalable:
        """Return the family at one scale of options that `to_values` gave."""
        single = values["single"]
        return _SCALABLE[single["name"]].from_values(single["options"])

    # ---- samples -----------------------------------------------------------------------------------------------------

    def read(self, block: Block, n_threads: int) -> Reading:
        """Read as at one scale."""
        return self.single.read(block, n_threads)

    def survey(self, reading: Reading, n_threads: int) -> ContrastSurvey:
        """Return the survey, with a histogram of contrasts."""
        single = self.single.survey(reading, n_threads)
        power = self.single.sample_power(reading.values).astype(np.float64)
        used = power > 0
        weight = None if reading.block.weight is None else reading.block.weight[used]
        place = np.floor((np.log2(power[used]) + _OCTAVES) * _BINS).astype(np.intp)
        return ContrastSurvey(single, np.bincount(place, weight, 2 * _BINS * _OCTAVES).astype(np.float64))

    def represent(self, reading: Reading, frame: Any, n_threads: int) -> Data:
        """Represent as at one scale."""
        return self.single.represent(reading, frame.single, n_threads)

    def forgetting(self, n_features: int) -> tuple[float, int]:
        """Return that of the family at one scale."""
        return self.single.forgetting(n_features)

    # ---- EM ----------------------------------------------------------------------------------------------------------

    def start_amplified(
        self,
        given: Any,
        data: Data,
        factor: Floats,
        frame: Any,
        rng: np.random.RandomState,
        n_threads: int,
    ) -> Any:
        """Return the start at one scale of samples with `factor` (n,) times their power."""
        values, order = self.single.amplified(data.values, factor), self.single.sample_power(data.values)
        single = self.single.start(given, Data(values, data.block, order=order), frame.single, rng, n_threads)
        data.memory.clear()
        return single

    def to_one_contrast(self, data: Data, power: float) -> Floats:
        """Return the factors that bring all samples to a power, (n,)."""
        own = self.single.sample_power(data.values)
        return np.divide(own.dtype.type(power), own, out=np.ones_like(own), where=own > 0)

    def may_fall(self) -> bool:
        """Say whether it may at one scale."""
        return self.single.may_fall()

    def can_reach(self, parameters: Any, frame: Any) -> bool:
        """Say whether the parameters at the scale 1 can be reached."""
        return self.single.can_reach(parameters.single, frame.single)

    def fresh_start(self, n_components: int) -> Any:
        """Return that at one scale."""
        return self.single.fresh_start(n_components)

    # ---- questions to a model ----------------------------------------------------------------------------------------

    def log_density(self, prepared: PreparedScales, values: Floats, n_threads: int) -> Floats:
        """Return log p(x|k), (n, K), over all scales."""
        return self.single.log_density(prepared.single, values, n_threads, prepared.scales)

    def posterior(
        self, prepared: PreparedScales, values: Floats, n_threads: int, *, weighted: bool = True
    ) -> tuple[Floats, Floats]:
        """Return responsibilities (n, K), summed over scales, and log p(x) (n,)."""
        return self.single.posterior(prepared.single, values, n_threads, prepared.scales, weighted=weighted)

    def shape_divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return that at one scale, (K, K)."""
        return self.single.shape_divergence(arrays)

    def effective_ranks(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return those at one scale, (K,)."""
        return self.single.effective_ranks(arrays)

    def check_usable(self, arrays: Arrays, n_threads: int) -> None:
        """Ask the family at one scale."""
        self.single.check_usable(arrays, n_threads)
