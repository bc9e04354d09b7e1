"""Mixtures with full covariances: which cases are measured, their problems, the float64 answer, and the sections."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from adapters.convgmm import fit_briefly, fit_quietly
from convgmm import FullGMM
from convgmm.datasets import extract_patches, load_mnist
from convgmm.families import Full
from convgmm.source import InMemory
from family import Answer, Case, FamilyBenchmark, em_candidate, go_through, threads_label, usable_levels
from measure import QUICK_RULES, Candidate, Group, Judgement, Result, Rules, duration
from problem import Problem, Store, positive
from report import Section
from workers import Pool

TITLES = {"digits": "MNIST digits", "synthetic": "A known mixture", "patches": "Patches of 8×8"}
_PATCH_SIDE = 8
_REG_COVAR = 1e-6  # is added to the diagonal of every updated covariance
_RULES = Rules(repetitions=9, slow_repetitions=2, slow_seconds=1.5, limit_seconds=150)
_PARTS: dict[str, str] = {"iterate": "one EM iteration", "expect": "E-step alone", "maximize": "M-step alone"}
_LEAST_RESPONSIBILITY = 1e-16  # smaller ones change no sum

_TEXT = (
    "E-step and M-step from identical parameters, those after a few of convgmm's iterations. convgmm's iteration is "
    "the factors of the covariances, one pass that finds responsibilities and sums them up, and the new parameters; "
    "it knows each sample's likeliest component from the iteration before, except in the first. The dense row is the "
    "same pass with every component evaluated in full for every sample. Of scikit-learn the E- and M-step are called "
    "directly, without what `fit` adds. PyTorch's are written by hand: matrix products, component by component, on "
    "blocks of samples. Both peers factorise the covariances at the end of the M-step, convgmm at the beginning of "
    "the E-step, and each step alone is timed so. convgmm's E-step alone hands out all responsibilities and knows no "
    "likeliest component. The M-step alone starts from the same responsibilities for all; convgmm's is given a list "
    "of those that are not negligible. Rotating the samples, once for a fit, is not timed. Before being timed, and "
    "again afterwards, each result is compared with NumPy's and SciPy's in float64: the log-likelihood, relative to "
    "its size, and summed responsibilities, means and covariances, relative to a mean component's, may be off by "
    "{bounds}. {reg_covar:g} is added to the diagonals of new covariances. The known mixture has Gaussians whose "
    "spectra decay as a power and whose axes nearly agree, like those of pictures; patches of fewer than 64 features "
    "are the leading principal coordinates."
)


# ---- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FullCase(Case):
    """Samples of d features.

    Patches have 64 pixels; with fewer features they are those of the largest variance after a rotation.
    """

    data: Literal["digits", "synthetic", "patches"]
    d: int
    steps: bool = False  # whether E-step and M-step are timed apart, too

    @property
    def n_values(self) -> int:
        """Features."""
        return self.d

    @property
    def n_parameters(self) -> int:
        """Values of a covariance."""
        return self.d**2

    @property
    def size(self) -> str:
        """Name the case in one line."""
        return f"N = {self.n:,}, D = {self.d}, K = {self.k}"

    @property
    def kind(self) -> str:
        """Name the samples and the number of components."""
        return f"{self.data}-{self.d}-{self.k}"

    @property
    def own_dtypes(self) -> list[str]:
        """What convgmm computes in from float32 samples, which depends on their features, and from float64 ones."""
        some = InMemory(np.zeros((2, self.d), dtype=np.float32)).block
        return list(dict.fromkeys([Full().read(some, 1).values.dtype.name, "float64"]))


def published_cases(threads: int) -> list[FullCase]:
    """Return what the published tables hold."""
    return [
        FullCase(10_000, 32, threads, "digits", 784, steps=True),
        FullCase(60_000, 32, threads, "digits", 784),
        FullCase(20_000, 10, threads, "synthetic", 784),
        FullCase(200_000, 200, threads, "patches", 64),
        FullCase(200_000, 32, threads, "patches", 32, steps=True),
        FullCase(200_000, 32, threads, "patches", 8),
    ]


def quick_cases(threads: int) -> list[FullCase]:
    """Return cases so small that only the working can be judged, not the speed."""
    return [
        FullCase(1_000, 3, threads, "digits", 784, steps=True),
        FullCase(1_000, 3, threads, "synthetic", 196),
        FullCase(4_000, 10, threads, "patches", 64),
        FullCase(4_000, 4, threads, "patches", 8, steps=True),
    ]


def candidates(case: FullCase, part: str) -> list[Candidate]:
    """Return everything that can do this part of an iteration; the first is what the others are compared with."""
    level = usable_levels()[0]
    first, *others = case.own_dtypes

    def own(dtype: str, suffix: str = "", **rest: Any) -> Candidate:
        name = f"convgmm {level}, {dtype}{suffix}"
        return em_candidate(name, "convgmm", dtype, (2.5, 2), part=part, level=level, **rest)

    variants = [own(first, ", first iteration", known=False), own(first, ", dense", dense=True)]
    return [
        own(first),
        *(variants if part == "iterate" else []),
        *map(own, others),
        em_candidate("PyTorch, float32", "torch", "float32", (2, 4), part=part, needs="torch"),
        em_candidate("scikit-learn full, float32", "scikit_learn", "float32", (4, 6), part=part),
        em_candidate("scikit-learn full, float64", "scikit_learn", "float64", (4, 6), part=part),
    ]


# ---- samples ---------------------------------------------------------------------------------------------------------


def leading_coordinates(samples: NDArray[np.float32], d: int) -> NDArray[np.float32]:
    """Return the d principal coordinates of the largest variance, (n, d)."""
    centred = samples - samples.mean(axis=0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    return np.ascontiguousarray(centred @ axes[:, :d], dtype=np.float32)


@lru_cache(maxsize=1)
def known_mixture(d: int, k: int) -> dict[str, NDArray[np.float64]]:
    """Return k Gaussians with spectra that decay as a power, like those of pictures, along axes that nearly agree."""
    rng = np.random.default_rng(0)
    common = np.linalg.qr(rng.standard_normal((d, d)))[0]
    spectrum = 10.0 * np.arange(1, d + 1) ** -1.5 + 1e-3
    means = (np.sqrt(spectrum) * rng.standard_normal((k, d))) @ common.T
    covariances = np.empty((k, d, d))
    for covariance in covariances:
        axes = np.linalg.qr(common + 0.3 / np.sqrt(d) * rng.standard_normal((d, d)))[0]
        one = (axes * (spectrum * np.exp(0.3 * rng.standard_normal(d)))) @ axes.T
        covariance[:] = (one + one.T) / 2
    return {"weights": rng.dirichlet(np.full(k, 10.0)), "means": means, "covariances": covariances}


def draw(mixture: dict[str, NDArray[np.float64]], n: int) -> NDArray[np.float32]:
    """Return n samples (n, D)."""
    weights, means, covariances = (mixture[name] for name in ("weights", "means", "covariances"))
    rng = np.random.default_rng(1)
    component = rng.choice(len(weights), size=n, p=weights)
    samples = np.empty((n, means.shape[1]), dtype=np.float32)
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        chosen = np.flatnonzero(component == k)
        samples[chosen] = rng.standard_normal((len(chosen), len(mean))) @ np.linalg.cholesky(covariance).T + mean
    return samples


# ---- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FullAnswer(Answer):
    """With what the M-step makes of the responsibilities."""

    means: NDArray[np.float64]  # (K, D)
    covariances: NDArray[np.float64]  # (K, D, D)

    def deviations(self, result: Result) -> dict[str, float]:
        """Return how far a result is off; of what it holds."""
        off = {}
        if "log_likelihood" in result:
            off["log-likelihood"] = abs(float(result["log_likelihood"]) / self.log_likelihood - 1)
        share = self.responsibility / self.responsibility.mean()
        sums = [np.abs(result["responsibility"] - self.responsibility).max() / self.responsibility.mean()]
        if "means" in result:
            variances = np.trace(self.covariances, axis1=1, axis2=2)
            spread = np.sqrt(share @ (variances + np.square(self.means).sum(axis=1)) / len(share))
            sums.append((share * np.linalg.norm(result["means"] - self.means, axis=1)).max() / spread)
            size = (share * np.linalg.norm(self.covariances, axis=(1, 2))).mean()
            sums.append((share * np.linalg.norm(result["covariances"] - self.covariances, axis=(1, 2))).max() / size)
        return {**off, "sums": float(np.max(sums))}


def joint_values(
    block: NDArray[np.float64], start: dict[str, NDArray[np.float64]], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log π_k + log p(x|k), (n, K), from the covariances' Cholesky factors (K, D, D)."""
    joint = np.empty((len(block), len(factors)))
    for k, L in enumerate(factors):
        z = solve_triangular(L, (block - start["means"][k]).T, lower=True, overwrite_b=True, check_finite=False)
        joint[:, k] = -0.5 * np.einsum("dn,dn->n", z, z) - np.log(np.diag(L)).sum()
    return np.asarray(joint + np.log(start["weights"]) - 0.5 * block.shape[1] * np.log(2 * np.pi))


@lru_cache(maxsize=2)
def _answer(problem: Problem, given: bool) -> FullAnswer:
    start = problem.load_parameters()
    means, factors = start["means"], np.asarray(np.linalg.cholesky(start["covariances"]), dtype=np.float64)
    first, second = np.zeros_like(means), np.zeros_like(factors)

    def add(block: NDArray[np.float64], gamma: NDArray[np.float64]) -> None:
        for k, mean in enumerate(means):
            kept = gamma[:, k] > _LEAST_RESPONSIBILITY
            about = block[kept] - mean
            weighted = gamma[kept, k, None] * about
            first[k] += weighted.sum(axis=0)
            second[k] += weighted.T @ about

    responsibilities = problem.load_beside("responsibilities") if given else None
    found = go_through(problem, lambda block: joint_values(block, start, factors), add, given=responsibilities)
    share = np.maximum(found[1], np.finfo(np.float64).tiny)
    shift = first / share[:, None]
    second /= share[:, None, None]
    second -= shift[:, :, None] * shift[:, None, :]
    second += problem.reg_covar * np.eye(second.shape[1])
    return FullAnswer(*found, means + shift, second)


def answer_to(problem: Problem, *, given: bool = False) -> FullAnswer:
    """Return one iteration by NumPy and SciPy in float64; with `given` the M-step from the given responsibilities."""
    return _answer(replace(problem, threads=1), given)  # the number of threads is no part of it


# ---- what is measured ------------------------------------------------------------------------------------------------


class FullBenchmark(FamilyBenchmark):
    """The report's sections for full covariances: one EM iteration on every case, on some its steps apart."""

    estimator, samples_label = "FullGMM", "samples, and as much again for the rotated ones"
    # Of the log-likelihood relative to its size, and of summed responsibilities, means and covariances relative to a
    # mean component's.
    tolerances: ClassVar = {
        "float32": {"log-likelihood": 1e-5, "sums": 1e-3},
        "float64": {"log-likelihood": 1e-9, "sums": 1e-6},
    }

    def __init__(self, pool: Pool, store: Store, threads: int, quick: bool) -> None:
        super().__init__(pool, store, QUICK_RULES if quick else _RULES)
        self.cases = (quick_cases if quick else published_cases)(threads)
        self.iterations = 2 if quick else 5  # that lead to the parameters
        self._whole: dict[FullCase, Group] = {}

    def sections(self) -> Iterator[Section]:
        """Measure; yield what is measured how, a section for each kind of samples, memory, and ratios."""
        yield Section("Full covariances", _TEXT.format(bounds=self.bounds, reg_covar=_REG_COVAR))
        for data, title in TITLES.items():
            if reason := self._lacks(data):
                yield Section(title, f"Left out: {reason}.")
                continue
            groups: list[Group] = []
            for case in self.cases:
                if case.data == data:
                    groups += self._groups(case)
                    yield Section(title, "With full covariances; what is timed is said above.", list(groups))
        yield self._memory()
        yield self._ratios()

    def _lacks(self, data: str) -> str | None:
        """Say why samples of this kind are not there, or None."""
        folder = self.store.data_dir
        if data == "digits" and (folder is None or not (Path(folder) / "mnist").is_dir()):
            return "no folder with mnist/ in it was given"
        return None

    def problem(self, case: FullCase) -> Problem:
        """Return the problem of a case; parameters come from all samples of its kind, of which it takes the first."""
        samples = self._samples(case)

        def make() -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[Any]]]:
            X = np.load(samples)
            model = fit_briefly("FullGMM", case.k, X, self.iterations - 1, reg_covar=_REG_COVAR)
            likeliest = model.predict(X).astype(np.int32)
            fit_quietly(model.set_params(max_iter=1, warm_start=True), X)
            found = {"means": model.means_, "covariances": model.covariances_, "weights": positive(model.weights_)}
            gamma = FullGMM.from_parameters(**found).predict_proba(X.astype(np.float64)).astype(np.float32)
            return found, {"likeliest": likeliest, "responsibilities": gamma}

        start = self.store.start(f"start-{case.kind}", make)
        return Problem("full", samples, start, case.n, case.threads, _REG_COVAR)

    def _samples(self, case: FullCase) -> str:
        """Return the file of all samples of the case's kind."""
        n = max([case.n, *(each.n for each in self.cases if each.kind == case.kind)])

        def make() -> NDArray[np.float32]:
            if case.data == "digits":
                return load_mnist("train", self.store.data_dir)[0][:n].reshape(n, -1)
            if case.data == "synthetic":
                return draw(known_mixture(case.d, case.k), n)
            side = (_PATCH_SIDE, _PATCH_SIDE)
            patches = extract_patches(self.store.images, side, n, random_state=0).reshape(n, -1)
            return patches if case.d == patches.shape[1] else leading_coordinates(patches, case.d)

        return self.store.samples(f"samples-{case.kind}", make)

    def answer(self, problem: Problem, candidate: Candidate) -> FullAnswer:
        """Return what the candidate should find."""
        return answer_to(problem, given=candidate.options["part"] == "maximize")

    def judge(self, case: FullCase, problem: Problem, candidate: Candidate, result: Result) -> Judgement:
        """Compare a result with the float64 answer, and tell of the walk."""
        judgement = super().judge(case, problem, candidate, result)
        if "walk" not in result:
            return judgement
        share, words = describe_walk(result["walk"], case)
        return replace(judgement, details={"share of the dense arithmetic": share}, note=words)

    def _groups(self, case: FullCase) -> list[Group]:
        """Measure a case: a whole iteration, that with one thread and with all, and of some the steps apart."""
        problem = self.problem(case)
        whole = self._whole[case] = self._iteration(case, problem)
        groups = [whole]
        if case.threads > 1 and whole.rows:
            title = f"{case.size}: {_PARTS['iterate']}, threads in turns"
            group = Group(title, asdict(case))
            groups.append(self.threads_in_turns(case, problem, group, candidates(case, "iterate")[:1]))
        for part in ("expect", "maximize") if case.steps else ():
            groups.append(self.measure(case, problem, self._group(case, part), candidates(case, part)))
        return groups

    def _group(self, case: FullCase, part: str) -> Group:
        return Group(f"{case.size}: {_PARTS[part]}, {threads_label(case.threads)}", {**asdict(case), "part": part})

    def _iteration(self, case: FullCase, problem: Problem) -> Group:
        group = self.measure(case, problem, self._group(case, "iterate"), candidates(case, "iterate"))
        answer = answer_to(problem)
        group.notes.append(f"{answer.active:.2f} of {case.k} responsibilities of a sample are above 1e-6.")
        if "float32" not in case.own_dtypes:
            group.notes.append("convgmm computes so few features in float64.")
        group.notes.append(f"Pairs of a sample and a component evaluated up to so many of {case.d} rows:")
        group.notes += [f"{row.name}: {row.judgement.note}" for row in group.rows if row.judgement.note]
        if case.data == "synthetic":
            truth = self.store.start(f"truth-{case.kind}", lambda: (known_mixture(case.d, case.k), {}))
            true = answer_to(replace(problem, start=truth)).log_likelihood
            group.notes.append(
                f"Log-likelihood under these parameters {answer.log_likelihood:.2f}, under those that the samples were "
                f"drawn from {true:.2f} nats per sample: what is fitted to samples may exceed the truth."
            )
        return group

    def _memory(self) -> Section:
        case = max((each for each in self.cases if each.data == "digits"), key=lambda each: each.n)
        title = "Memory of a fit with full covariances"
        if reason := self._lacks(case.data):
            return Section(title, f"Left out: {reason}.")
        text = (
            f"Three iterations, with their start, on {TITLES[case.data]}, {case.size}, float32, {case.threads} "
            "threads. The last line is the peak less what the process held before the fit, samples included, and less "
            "the rotated samples."
        )
        samples = self._samples(case)
        options = {"samples": samples, "k": case.k, "reg_covar": _REG_COVAR, "n_threads": case.threads}
        rotated = np.load(samples, mmap_mode="r").nbytes
        beside = {"covariances of all components, float64": 8 * case.k * case.d**2}
        return self.memory(title, text, options, "samples and rotated samples", rotated, **beside)

    def _ratios(self) -> Section:
        """Sum up: what a sample costs, and how many times as much elsewhere."""
        facts = {}
        for case, group in self._whole.items():
            if group.rows:
                first, *others = group.rows
                ratios = "; ".join(f"{row.name} {row.median / first.median:.3g}" for row in others)
                each = duration(first.median / case.n * 1000)
                facts[f"{TITLES[case.data]}, {case.size}"] = (
                    f"{first.name} {each} per 1000 samples; times as long: {ratios}"
                )
        return Section("Full covariances in short", "Medians of one EM iteration.", facts=facts)


def describe_walk(walk: NDArray[np.float64], case: FullCase) -> tuple[float, str]:
    """Return the arithmetic of a walk relative to a dense one's, and how it went.

    Parameters
    ----------
    walk : ndarray of shape (m, 2)
        Up to so many rows of a triangular factor this share of all pairs of a sample and a component was evaluated.
        The rows up to r cost r² / 2 multiply–adds for each pair.
    case : FullCase
        What was walked over.
    """
    rows, shares = walk.T
    share = float(np.sum(shares * np.diff(np.square(rows), prepend=0.0))) / case.d**2
    done = share * case.n * case.k * case.d**2 / 2
    words = ", ".join(f"{100 * part:.3g}% to {r:.0f}" for r, part in walk)
    return share, f"{words}; {done:.3g} multiply–adds, {share:.2%} of the dense count."
