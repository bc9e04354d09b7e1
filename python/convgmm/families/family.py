"""What a kind of component says of itself: the only place that EM, models, estimators, pictures and files ask.

EM is three verbs. `expect` turns samples and parameters into statistics, whose size does not depend on the number of
samples; statistics add up; `maximize` turns them into parameters. A family is stateless: its fields are options, and
what belongs to data, to a fit or to a model is a value that is handed in.

    read(block) → Reading                 what is computed of samples once, without knowledge of the others
    survey(reading) → survey              additive: what all samples together say
    frame(survey, …) → frame              what is fixed for the whole fit
    represent(reading, frame) → Data      samples in the form that the hot loop reads
    start(given, data, frame) → parameters
    prepare(parameters, frame) → Prepared factors and constants, once for many questions
    expect(prepared, data, assign) → …    statistics: the hot loop, in C++; statistics + statistics
    maximize(statistics, parameters, frame) → parameters

Parameters live in the frame; `to_arrays` and `from_arrays` go between them and the arrays that users see.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..source import Block
from .gaussians import Gaussians

#: float32 or float64, as the data is.
Floats: TypeAlias = NDArray[np.floating[Any]]
#: The arrays that describe a mixture to its users, by their names without the underscore; `weights` (K,) is one.
Arrays: TypeAlias = Mapping[str, NDArray[np.float64]]
#: Of components of several scales: squared scales (J,), and log-weights (K, J); or of Student's t: degrees of freedom
#: (K,).
CoreScales: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]] | NDArray[np.float64]


class DensityError(ValueError):
    """The samples have no density under the parameters that EM has reached, so it cannot go on from them."""


class CollapseError(DensityError):
    """A component shrank so far that its covariance is not positive definite any more."""


class Parameters(Protocol):
    """A mixture's parameters; `weights` (K,) and whatever describes K components."""

    @property
    def weights(self) -> NDArray[np.float64]:
        """Mixing proportions, (K,)."""

    def take(self, kept: NDArray[np.intp]) -> Self:
        """Return the components of these indices, their weights renormalised."""

    def with_weights(self, weights: NDArray[np.float64]) -> Self:
        """Return the same components in other proportions."""


class Statistics(Protocol):
    """What EM needs from data: linear, so two add up, also of other parameters, and a number scales one."""

    @property
    def responsibility(self) -> NDArray[np.float64]:
        """Weighted responsibilities summed over samples, (K,)."""

    @property
    def log_likelihood(self) -> float:
        """Weighted sum of log p(x) over samples."""

    @property
    def details(self) -> dict[str, Any]:
        """What else the E-step found worth telling, as fitted attributes."""

    def __add__(self, other: Self) -> Self: ...

    def __mul__(self, factor: float) -> Self: ...


class Prepared(Protocol):
    """Parameters in the form that densities are computed from."""

    @property
    def resolution(self) -> float:
        """What the mean log-likelihood may be off by, in nats per sample, beyond the rounding of its own size."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A block, and what was computed of its samples, (n, D)."""

    block: Block
    values: Floats


@dataclass(frozen=True, eq=False)
class Data:
    """Samples in the form that the hot loop reads, (n, D), with their weights and numbers.

    `order` (n,) is what a start orders them by if their values cannot tell, as after they were brought to one contrast.
    Whatever an iteration remembers of samples for the next one lies in `memory`, by names of the family's own.
    """

    values: Floats
    block: Block
    memory: dict[str, Any] = field(default_factory=dict)
    order: Floats | None = None


@dataclass(frozen=True)
class Assign:
    """How a sample's posterior becomes the weights with which it enters the statistics.

    Attributes
    ----------
    kind : {"soft", "hard", "draw"}
        The posterior itself; 1 for the likeliest component, of equal ones the first; or 1 for a component drawn from
        the posterior, keyed by seed, iteration and the sample's place in the source, whatever the threads and blocks
        are.
    seed, iteration : int
        Of the draws.
    """

    kind: Literal["soft", "hard", "draw"] = "soft"
    seed: int = 0
    iteration: int = 0

    def arguments(self, block: Block) -> tuple[Literal["soft", "hard", "draw"], int, int, int]:
        """Return what the core takes for a block."""
        return self.kind, self.seed, self.iteration, block.first


#: The assignment of plain EM.
SOFT = Assign()


@dataclass(frozen=True)
class Portrait:
    """One picture of every component, with what its colours mean.

    Attributes
    ----------
    title : str
        What is seen.
    images : ndarray of shape (K, *shape of a sample)
        Values; NaN where there are none.
    limits : tuple of 2 floats, or None
        One scale for all components; None: each has its own.
    colormap : str
        A name of matplotlib's.
    scale : str
        The label of a colour bar; "": there is none.
    sheet, sheet_title : str
        Name and title of a sheet that shows all components' portraits side by side; "": there is none.
    """

    title: str
    images: NDArray[np.float64]
    limits: tuple[float, float] | None = None
    colormap: str = "gray"
    scale: str = ""
    sheet: str = ""
    sheet_title: str = ""


class Family(ABC):
    """A kind of component. Subclasses are frozen dataclasses whose fields are options."""

    # ---- samples -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, block: Block, n_threads: int) -> Reading:
        """Compute of a block's samples what does not depend on the others."""

    @abstractmethod
    def survey(self, reading: Reading, n_threads: int) -> Any:
        """Sum up what the samples say together; surveys of blocks add up."""

    @abstractmethod
    def frame(self, survey: Any) -> Any:
        """Return what is fixed for a whole fit, from the survey of all samples.

        Raises
        ------
        ValueError
            If the samples cannot be modelled; says what to do.
        """

    @abstractmethod
    def represent(self, reading: Reading, frame: Any, n_threads: int) -> Data:
        """Return the samples in the form that `expect` and the questions to a model read."""

    # ---- EM ----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, given: Any, data: Data, frame: Any, rng: np.random.RandomState, n_threads: int) -> Any:
        """Return starting parameters, from what the user gave of them and from samples: all, or a reservoir of them."""

    @abstractmethod
    def prepare(self, parameters: Any, frame: Any, dtype: np.dtype[Any], n_threads: int) -> Any:
        """Return the parameters as densities are computed from them, for data of this type.

        Raises
        ------
        CollapseError
            If a covariance is not positive definite.
        """

    @abstractmethod
    def expect(self, prepared: Any, data: Data, n_threads: int, assign: Assign = SOFT) -> Any:
        """Return the statistics of the data. Raises `_core.NoDensity` for a sample that has no density."""

    @abstractmethod
    def maximize(self, statistics: Any, parameters: Any, frame: Any) -> Any:
        """Return the parameters that maximise the expected log-likelihood; the statistics may be used up."""

    def expected(self, parameters: Any, count: NDArray[np.float64], frame: Any) -> Any:
        """Return the statistics of `count` (K,) samples of each component that have just these parameters.

        Of them alone `maximize` makes the same components. Needed for discriminative training; stepwise EM begins
        with those of its start, where they are known.
        """
        raise NotImplementedError(f"{type(self).__name__} components cannot be trained discriminatively.")

    def forgetting(self, n_features: int) -> tuple[float, int]:
        """Return how fast stepwise EM may forget: the exponent of its steps, and least samples a component remembers.

        Values that every sample tells of by itself, such as those of a spectrum, may be forgotten fast.
        """
        return 0.55, 4

    def coordinates(self, parameters: Any, frame: Any) -> NDArray[np.float64]:
        """Return the parameters as a vector whose values are not bounded.

        Raises
        ------
        ValueError
            If there is none for this family.
        """
        raise ValueError(f"accelerate is not known for {type(self).__name__}; pass accelerate=None.")

    def at_coordinates(self, coordinates: NDArray[np.float64], like: Any, frame: Any) -> Any:
        """Return the parameters of which `coordinates` gives this vector; those in `like` have the same sizes.

        Raises
        ------
        CollapseError
            If they are beyond the number format.
        """
        raise ValueError(f"accelerate is not known for {type(self).__name__}; pass accelerate=None.")

    def information(self, parameters: Any, frame: Any) -> NDArray[np.float64]:
        """Return what a change of each coordinate means: how much of Fisher's information a sample has of it.

        Of a sample whose component is known, and of each coordinate by itself: the diagonal of that matrix, or about.
        """
        raise ValueError(f"accelerate is not known for {type(self).__name__}; pass accelerate=None.")

    def of_noisy(self, noise_var: float) -> "Family":
        """Return the family for samples of a signal in white noise of this variance; parameters are the signal's.

        Raises
        ------
        ValueError
            If these components cannot be told from noise.
        """
        raise ValueError("noise_var is for components of one scale: noise added to several is none of them.")

    def may_fall(self) -> bool:
        """Say whether `maximize` is not that of EM, so that the likelihood may fall a little."""
        return False

    def can_reach(self, parameters: Any, frame: Any) -> bool:
        """Say whether `maximize` could give these parameters; if not, the likelihood may fall in the first step."""
        return True

    # ---- reallocation ------------------------------------------------------------------------------------------------

    @abstractmethod
    def fresh_start(self, n_components: int) -> Any:
        """Return a start for `start` of which nothing is given but the number of components."""

    def merge(self, parameters: Any, first: int, second: int) -> Any:
        """Return one component in the place of two, with their moments; a mean of both where those are linear in it."""
        return merged(parameters, first, second)

    # ---- questions to a model ----------------------------------------------------------------------------------------

    @abstractmethod
    def log_density(self, prepared: Any, values: Floats, n_threads: int) -> Floats:
        """Return log p(x|k), (n, K)."""

    @abstractmethod
    def posterior(
        self, prepared: Any, values: Floats, n_threads: int, *, weighted: bool = True
    ) -> tuple[Floats, Floats]:
        """Return responsibilities (n, K), with or without the weights, and log p(x) (n,); NaN where there is none."""

    @abstractmethod
    def draw(self, arrays: Arrays, component: int, n: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Return n samples of one component, (n, …)."""

    @abstractmethod
    def parameters_per_component(self, arrays: Arrays) -> int:
        """Return the number of free parameters of one component, without its weight."""

    @abstractmethod
    def divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return the divergence of Kullback and Leibler (1951) from component k to j, (K, K), in nats per sample."""

    def shape_divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return the least divergence from component k to j at any contrast, min over q of that to q C_j, (K, K).

        Where components have means, contrast cannot be told from shape: the divergence itself.
        """
        return self.divergence(arrays)

    @abstractmethod
    def effective_ranks(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return exp(−Σ p log p) of each component, (K,), for the shares p of its variance along its principal axes.

        The number of dimensions that a component's power is spread over (Roy and Vetterli 2007): of a stationary
        component that of its frequencies.
        """

    @abstractmethod
    def portraits(self, arrays: Arrays, shape: tuple[int, ...]) -> list[Portrait]:
        """Return pictures of the components of a mixture of samples of this shape."""

    @abstractmethod
    def gaussians(self, parameters: Any, frame: Any) -> Gaussians:
        """Return the mixture as plain Gaussians, to restore patches with."""

    def stationary_spectra(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return the power spectra of components that are stationary fields, (K, *shape).

        Raises
        ------
        ValueError
            If they are not.
        """
        raise ValueError(
            "these components are not stationary, so no field of another size has their spectra: use ConvGMM with "
            "basis='fourier', or TorusGMM; for patches of the model's own size, sample."
        )

    # ---- arrays ------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def array_names(self) -> tuple[str, ...]:
        """The arrays that describe a mixture, beside `weights`."""

    @property
    def unscaled(self) -> "Family":
        """The family of its components at one scale: itself, if it has no other."""
        return self

    @abstractmethod
    def to_arrays(self, parameters: Any, frame: Any, n_threads: int) -> dict[str, NDArray[np.float64]]:
        """Return the parameters as their users see them."""

    @abstractmethod
    def from_arrays(self, arrays: Arrays, frame: Any, n_threads: int) -> Any:
        """Return the parameters of checked arrays."""

    @abstractmethod
    def check_arrays(self, arrays: Arrays, n_threads: int) -> None:
        """Check a mixture's arrays beside its weights.

        Raises
        ------
        ValueError
            If they do not describe a mixture; says which and why.
        """

    @abstractmethod
    def check_usable(self, arrays: Arrays, n_threads: int) -> None:
        """Make sure that fitted arrays bear every question.

        Raises
        ------
        CollapseError
            If not.
        """

    @abstractmethod
    def frame_of(self, arrays: Arrays) -> Any:
        """Return a frame for a mixture that was made from arrays."""

    # ---- files -------------------------------------------------------------------------------------------------------

    def to_values(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Return the family with options that `to_values` gave."""
        return cls(**values)

    @abstractmethod
    def frame_to_arrays(self, frame: Any) -> dict[str, NDArray[np.float64]]:
        """Return the frame as arrays, to be kept with the model."""

    @abstractmethod
    def frame_from_arrays(self, arrays: Arrays) -> Any:
        """Return the frame that these arrays hold."""


def effective_ranks(variances: NDArray[np.float64], multiplicities: Floats | float = 1.0) -> NDArray[np.float64]:
    """Return exp(−Σ m p log p), (K,), of variances (K, D) with Σ m p = 1."""
    share = variances / (variances * multiplicities).sum(axis=1, keepdims=True)
    entropy = -(multiplicities * share * np.log(share, where=share > 0, out=np.zeros_like(share))).sum(axis=1)
    return np.asarray(np.exp(entropy))


#: Of a field of parameters that belongs to all components together: ``x: Any = field(metadata=SHARED)``.
SHARED = {"shared": True}


def joined(parts: Sequence[Any], weights: NDArray[np.float64]) -> Any:
    """Return the components of several parameters as one, with other weights (K,)."""

    def join(each: Field[Any]) -> Any:
        values = [getattr(part, each.name) for part in parts]
        if each.name == "weights":
            return weights
        if each.metadata.get("shared") or any(value is None for value in values):
            return values[0] if each.metadata.get("shared") else None
        return joined(values, weights) if is_dataclass(values[0]) else np.concatenate(values)

    return type(parts[0])(**{each.name: join(each) for each in fields(parts[0])})


def merged(parameters: Any, first: int, second: int) -> Any:
    """Return the mean of two components' parameters by their weights, with the sum of their weights."""
    pair = np.array([first, second])
    weights = parameters.weights[pair]

    def merge(part: Any) -> Any:
        if part is None or part is parameters.weights:
            return None if part is None else weights.sum(keepdims=True)
        if is_dataclass(part) and not isinstance(part, type):
            own = [each.name for each in fields(part) if not each.metadata.get("shared")]
            return replace(part, **{name: merge(getattr(part, name)) for name in own})
        return np.einsum("k,k...->...", shares(weights), part[pair])[None]

    return merge(parameters)


class Scalable(Family):
    """A family of Gaussians that a `ScaleMixture` gives several scales: it computes with them where it has to.

    What it prepares has `log_normalisers` (K,) and the `dimension` of densities.
    """

    @property
    def is_centred(self) -> bool:
        """Whether all components have the mean 0, so that samples differ in contrast."""
        return True

    def room(self, parameters: Any, frame: Any) -> NDArray[np.float64]:
        """Return what components' covariances can be divided by until they meet a floor, (K,)."""
        return np.full(len(parameters.weights), np.inf)

    def divided(self, parameters: Any, factor: NDArray[np.float64]) -> Any:
        """Return parameters with covariances divided by `factor` (K,), where `maximize` goes on from them."""
        return parameters

    @abstractmethod
    def sample_power(self, values: Floats) -> Floats:
        """Return the mean square of each sample (n,), of values as read or represented."""

    @abstractmethod
    def amplified(self, values: Floats, factor: Floats) -> Floats:
        """Return the values of samples with `factor` (n,) times their power."""

    @abstractmethod
    def with_variance(self, arrays: Arrays, factor: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return a mixture's arrays with `factor` (K,) times its components' covariances."""

    def shape_divergence(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return ½ (n log(t/n) − log det C_j⁻¹ C_k), (K, K), with t = tr C_j⁻¹ C_k: it is least at q = t/n."""
        if not self.is_centred:
            return self.divergence(arrays)
        K = len(arrays["weights"])
        twice = {name: np.concatenate([arrays[name]] * 2) for name in self.array_names}
        divergence = self.divergence(self.with_variance(twice, np.repeat([1.0, 2.0], K)))[:K]
        # To q C_j it is ½ (t/q − n + n log q − log det C_j⁻¹ C_k): t and n follow from those to C_j and 2 C_j.
        one, two = divergence[:, :K], divergence[:, K:]
        n = two[0, 0] * 2 / (np.log(2) - 0.5)
        trace = 4 * (one - two) + 2 * n * np.log(2)
        return np.asarray(one - 0.5 * (trace - n - n * np.log(trace / n)))

    @abstractmethod
    def expect_scaled(
        self, prepared: Any, scales: CoreScales, data: Data, n_threads: int, assign: Assign
    ) -> tuple[Any, NDArray[np.float64]]:
        """Return statistics with the weights γ u for moments, and sums of the scales.

        Of a grid, responsibilities of each scale (K, J); of Student's t Σ γ, Σ γ u and Σ γ log u (K, 3).
        """

    @abstractmethod
    def log_density(self, prepared: Any, values: Floats, n_threads: int, scales: CoreScales | None = None) -> Floats:
        """Return log p(x|k), (n, K)."""

    @abstractmethod
    def posterior(
        self,
        prepared: Any,
        values: Floats,
        n_threads: int,
        scales: CoreScales | None = None,
        *,
        weighted: bool = True,
    ) -> tuple[Floats, Floats]:
        """Return responsibilities (n, K), with or without the weights, and log p(x) (n,); NaN where there is none."""


def shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights that sum to 1 in the same proportions, equal ones if all are 0."""
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


#: Least weight that has coordinates.
_LEAST_WEIGHT = 1e-300


def log_shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coordinates of mixing proportions, finite also for one of 0."""
    return np.asarray(np.log(np.maximum(weights, _LEAST_WEIGHT)))


def shares_of(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mixing proportions of their coordinates, along the last axis."""
    exponentials = np.exp(logarithms - logarithms.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def log_weights(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log π_k, −inf for a weight of 0."""
    with np.errstate(divide="ignore"):
        return np.log(weights)


def check_weights(weights: NDArray[np.float64], name: str = "weights") -> None:
    """Check mixing proportions (K,).

    Raises
    ------
    ValueError
        If they are not finite, negative, or do not sum to 1.
    """
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"{name} must be finite and not negative.")
    if not abs(weights.sum() - 1) <= 1e-6:
        raise ValueError(f"{name} must sum to 1; it sums to {weights.sum():.9g}.")
