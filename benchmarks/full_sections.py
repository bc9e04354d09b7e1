"""The report's sections for full covariances: what is measured on which cases."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cases import threads_label
from full_cases import TITLES, FullCase
from full_implementations import Part
from full_problem import FullProblem, FullStore
from full_reference import TOLERANCES, answer_to
from measure import Candidate, Group, Judgement, Result, measure
from report import Section
from sections import peak_memory, usable_levels, with_threads
from timing import duration
from workers import Pool

_PARTS: dict[Part, str] = {"iterate": "one EM iteration", "expect": "E-step alone", "maximize": "M-step alone"}

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

# Arrays as large as the samples, and values for each sample and component, that an implementation holds at its peak,
# counted on the safe side.
_ARRAYS = {"convgmm": (2.5, 2), "scikit-learn": (4, 6), "torch": (2, 4)}


def candidates(case: FullCase, part: Part) -> list[Candidate]:
    """Return everything that can do this part of an iteration; the first is what the others are compared with."""
    level = usable_levels()[0]
    first, *others = case.own_dtypes

    def candidate(name: str, family: str, dtype: str, **rest: Any) -> Candidate:
        known, needs = rest.pop("level", None), rest.pop("needs", None)
        options = {"family": family, "part": part, "dtype": dtype, **rest}
        return Candidate(f"{name}, {dtype}", "full_implementations:step", options, known, needs)

    def own(dtype: str, **rest: Any) -> Candidate:
        return candidate(f"convgmm {level}", "convgmm", dtype, level=level, **rest)

    variants = [
        replace(own(first, winners=False), name=f"{own(first).name}, first iteration"),
        replace(own(first, dense=True), name=f"{own(first).name}, dense"),
    ]
    return [
        own(first),
        *(variants if part == "iterate" else []),
        *map(own, others),
        candidate("PyTorch", "torch", "float32", needs="torch"),
        candidate("scikit-learn full", "scikit-learn", "float32"),
        candidate("scikit-learn full", "scikit-learn", "float64"),
    ]


class FullIterations:
    """One EM iteration, and its steps apart, on every case."""

    def __init__(self, pool: Pool, store: FullStore) -> None:
        self._pool, self._store, self._plan = pool, store, store.plan
        self._whole: dict[FullCase, Group] = {}

    def sections(self) -> Iterator[Section]:
        """Measure; yield what is measured how, a section for each kind of samples, memory, and ratios.

        A section is yielded again with each case that it gains.
        """
        bounds = "; ".join(
            f"{of['log-likelihood']:g} and {of['sums']:g} in {dtype}" for dtype, of in TOLERANCES.items()
        )
        yield Section("Full covariances", _TEXT.format(bounds=bounds, reg_covar=self._plan.reg_covar))
        for data, title in TITLES.items():
            cases = [case for case in self._plan.cases if case.data == data]
            if reason := self._store.lacks(data):
                yield Section(title, f"Left out: {reason}.")
                continue
            groups: list[Group] = []
            for case in cases:
                groups += self._groups(case)
                yield Section(title, "With full covariances; what is timed is said above.", list(groups))
        yield self._memory()
        yield self._ratios()

    def _groups(self, case: FullCase) -> list[Group]:
        problem = self._store.problem(case)
        self._whole[case] = self._iteration(case, problem)
        steps: tuple[Part, ...] = ("expect", "maximize")
        return [
            self._whole[case],
            *self._threads(case, problem),
            *(self._group(case, problem, part) for part in steps),
        ]

    def _iteration(self, case: FullCase, problem: FullProblem) -> Group:
        walks: dict[str, str] = {}
        group = self._group(case, problem, "iterate", walks)
        active = answer_to(problem).active
        group.notes.append(f"{active:.2f} of {case.k} responsibilities of a sample are above 1e-6.")
        if "float32" not in case.own_dtypes:
            group.notes.append("convgmm computes so few features in float64.")
        group.notes.append(f"Pairs of a sample and a component evaluated up to so many of {case.d} rows:")
        group.notes += [f"{name}: {walk}" for name, walk in walks.items() if group.row(name)]
        if truth := self._store.truth(case):
            true = answer_to(replace(problem, parameters=str(truth))).log_likelihood
            group.notes.append(
                f"Log-likelihood under these parameters {answer_to(problem).log_likelihood:.2f}, under those that the "
                f"samples were drawn from {true:.2f} nats per sample: what is fitted to samples may exceed the truth."
            )
        return group

    def _threads(self, case: FullCase, problem: FullProblem) -> list[Group]:
        """Measure the first row's implementation with one thread and with all, side by side."""
        if problem.threads == 1 or not self._whole[case].rows:
            return []
        first = candidates(case, "iterate")[0]
        group = Group(f"{self._whole[case].key} in turns", f"{case.label}: {_PARTS['iterate']}, threads in turns")
        both = [with_threads(first, asdict(problem), count) for count in (problem.threads, 1)]
        return [self._measure(case, problem, "iterate", group, both)]

    def _group(self, case: FullCase, problem: FullProblem, part: Part, walks: dict[str, str] | None = None) -> Group:
        key = f"full {part} data={case.data} n={case.n} d={case.d} k={case.k} threads={problem.threads}"
        group = Group(key, f"{case.label}: {_PARTS[part]}, {threads_label(problem.threads)}")
        return self._measure(case, problem, part, group, candidates(case, part), walks)

    def _measure(
        self,
        case: FullCase,
        problem: FullProblem,
        part: Part,
        group: Group,
        taking_part: list[Candidate],
        walks: dict[str, str] | None = None,
    ) -> Group:
        expected = answer_to(problem, given=part == "maximize")

        def judge(candidate: Candidate, result: Result) -> Judgement:
            details = {}
            if walks is not None and len(result.get("rows", ())):
                share, walks[candidate.name] = describe_walk(result["rows"], result["pairs"], case)
                details["share of the dense arithmetic"] = share
            deviations = expected.deviations(result)
            tolerances = TOLERANCES[candidate.options["dtype"]]
            return Judgement(deviations, {name: tolerances[name] for name in deviations}, details)

        rules = replace(self._plan.rules, expected_bytes=lambda candidate: _bytes(candidate, case))
        return measure(self._pool, group, taking_part, {"problem": asdict(problem)}, problem.threads, judge, rules)

    def _memory(self) -> Section:
        case = self._plan.memory_case
        title = "Memory of a fit with full covariances"
        if reason := self._store.lacks(case.data):
            return Section(title, f"Left out: {reason}.")
        options = {
            "samples": self._store.samples(case),
            "reg-covar": self._plan.reg_covar,
            "k": case.k,
            "threads": self._plan.threads,
        }
        print("memory of a fit", file=sys.stderr, flush=True)
        facts = peak_memory(Path(__file__).with_name("full_memory.py"), options)
        text = (
            f"Three iterations, with their start, on {TITLES[case.data]}, {case.label}, float32, {self._plan.threads} "
            "threads. The last line is the peak less what the process held before the fit, samples included, and less "
            "the rotated samples."
        )
        return Section(title, text, facts=facts)

    def _ratios(self) -> Section:
        """Sum up: what a sample costs, and how many times as much elsewhere."""
        facts = {}
        for case, group in self._whole.items():
            if group.rows:
                first, *others = group.rows
                ratios = "; ".join(f"{row.name} {row.timing.median / first.timing.median:.3g}" for row in others)
                each = duration(first.timing.median / case.n * 1000)
                facts[f"{TITLES[case.data]}, {case.label}"] = (
                    f"{first.name} {each} per 1000 samples; times as long: {ratios}"
                )
        text = "Medians of one EM iteration."
        return Section("Full covariances in short", text, facts=facts)


def describe_walk(rows: NDArray[Any], pairs: NDArray[Any], case: FullCase) -> tuple[float, str]:
    """Return the arithmetic of a walk relative to a dense one's, and how it went.

    The rows up to r of a triangular factor cost r² / 2 multiply–adds for each pair of a sample and a component.
    """
    squares = np.square(np.asarray(rows, dtype=np.float64))
    done = float(np.sum(pairs * np.diff(squares, prepend=0.0)))
    share = done / (case.n * case.k * case.d**2)
    shares = ", ".join(f"{100 * p / (case.n * case.k):.3g}% to {r:.0f}" for r, p in zip(rows, pairs, strict=True))
    return share, f"{shares}; {done / 2:.3g} multiply–adds, {share:.2%} of the dense count."


def _bytes(candidate: Candidate, case: FullCase) -> float:
    size: int = np.dtype(candidate.options["dtype"]).itemsize
    arrays, values = _ARRAYS[candidate.options["family"]]
    return size * case.n * (arrays * case.d + values * case.k) + 8 * 6 * case.k * case.d**2
