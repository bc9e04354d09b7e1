"""Convolutional mixtures: which cases are measured, their problems, the float64 answer, and the report's sections."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adapters.convgmm import fit_briefly
from adapters.numpy import rfft2_columns, squared_half_transform
from convgmm.basis import Fourier
from convgmm.datasets import extract_patches
from family import Answer, Case, FamilyBenchmark, em_candidate, go_through, threads_label, usable_levels
from measure import QUICK_RULES, Candidate, Group, Judgement, Result, Rules, duration, measure
from problem import Problem, Store, positive
from report import Section
from tasks import HANDED_ROWS
from workers import Pool

# What the published tables hold.
_COMPONENTS = (8, 32, 128, 256, 512)
_SIDES = (8, 16, 28)
_PATCHES = (10_000, 50_000, 200_000, 1_000_000)
_RULES = Rules(repetitions=9, slow_repetitions=3, slow_seconds=1.5, limit_seconds=8)

# A few iterations make responsibilities as sparse as they are in most of a fit.
_WARMING_ITERATIONS = 10
_WARMING_PATCHES = 200_000
_CLIMB_SLACK = 1e-3  # nats: less than an iteration gains, more than rounding loses
_MOST_CLIMB_ITERATIONS = 200

_CPLX_GMM = "cplx-gmm block-circulant, complex128"


# ---- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConvCase(Case):
    """Patches of side × side values."""

    side: int

    @property
    def n_values(self) -> int:
        """Values in a patch."""
        return self.side**2

    @property
    def size(self) -> str:
        """Name the case but for its threads."""
        return f"N = {self.n:,}, {self.side}×{self.side}, K = {self.k}"

    @property
    def label(self) -> str:
        """Name the case in one line."""
        return f"{self.size}, {threads_label(self.threads)}"

    @property
    def work(self) -> float:
        """What the time of an iteration is proportional to, or nearly."""
        return self.n * self.n_values * self.k


def sweeps(base: ConvCase, quick: bool) -> dict[str, dict[int, ConvCase]]:
    """Return cases that each vary one thing, by what is varied and its value."""
    ks, sides, ns = ((8, 16), (8, 16), (2_000, 4_000)) if quick else (_COMPONENTS, _SIDES, _PATCHES)
    counts = {1, base.threads} if quick else {1, 2, base.threads}
    return {
        "components K": {k: replace(base, k=k) for k in ks},
        "patch side": {side: replace(base, side=side) for side in sides},
        "patches N": {n: replace(base, n=n) for n in ns},
        "threads": {threads: replace(base, threads=threads) for threads in sorted(counts)},
    }


def candidates() -> list[Candidate]:
    """Return everything that can do an EM iteration; the first is what the others are compared with."""
    levels = usable_levels()
    own = partial(em_candidate, adapter="convgmm", held=(2.5, 0))
    return [
        *(own(f"convgmm {level}, float32", dtype="float32", level=level) for level in levels),
        own(f"convgmm {levels[0]}, float64", dtype="float64", level=levels[0]),
        em_candidate("NumPy, float32", "numpy", "float32", (3, 2)),
        em_candidate("NumPy in blocks of 4096, float32", "numpy", "float32", (3, 2), block=4096),
        em_candidate("PyTorch, float32", "torch", "float32", (3, 3), needs="torch"),
        em_candidate("scikit-learn diag, float32", "scikit_learn", "float32", (4, 6)),
        em_candidate("scikit-learn diag, float64", "scikit_learn", "float64", (4, 6)),
        em_candidate(_CPLX_GMM, "cplx_gmm", "float64", (8, 8), needs="cplx_gmm"),
    ]


# ---- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ConvAnswer(Answer):
    """With the power that the responsibilities weight."""

    power: NDArray[np.float64]  # (K, D)
    basis: Fourier

    def deviations(self, result: Result) -> dict[str, float]:
        """Return how far a result is off."""
        m = self.basis.multiplicities
        power = result["responsibility"][:, None] * self.basis.from_plane(result["spectra"])
        off_power = (np.abs(power - self.power) @ m).max() / (self.power @ m).mean()
        off_responsibility = np.abs(result["responsibility"] - self.responsibility).max() / self.responsibility.mean()
        return {
            "log-likelihood": abs(float(result["log_likelihood"]) - self.log_likelihood) / abs(self.log_likelihood),
            "sums": float(np.max([off_responsibility, off_power])),
        }


@lru_cache(maxsize=4)
def _answer(problem: Problem, complex_density: bool) -> ConvAnswer:
    basis, start = problem.basis, problem.load_parameters()
    weights, spectra, m = start["weights"], basis.from_plane(start["spectra"]), basis.multiplicities
    if complex_density:
        precisions, offsets = m / spectra, np.log(weights) - np.log(np.pi * spectra) @ m
    else:
        precisions, offsets = 0.5 * m / spectra, np.log(weights) - 0.5 * np.log(2 * np.pi * spectra) @ m
    power = np.zeros_like(spectra)
    found = go_through(
        problem,
        joint=lambda coefficients: offsets - coefficients @ precisions.T,
        add=lambda coefficients, gamma: np.add(power, gamma.T @ coefficients, out=power),
        transform=lambda block: basis.from_plane(np.abs(np.fft.fft2(block, norm="ortho")) ** 2),
    )
    return ConvAnswer(*found, power, basis)


def answer_to(problem: Problem, *, complex_density: bool = False) -> ConvAnswer:
    """Return one EM iteration in float64, with numpy's FFT, independently of the package's core.

    With `complex_density` the density is that of a complex, circularly symmetric Gaussian over all frequencies: the
    square of the real patch's density but for a constant. Its responsibilities differ.
    """
    return _answer(replace(problem, threads=1), complex_density)  # the number of threads is no part of it


# ---- what is measured ------------------------------------------------------------------------------------------------


class ConvBenchmark(FamilyBenchmark):
    """The report's sections for convolutional mixtures."""

    estimator, samples_label = "ConvGMM", "patches"
    # Of the log-likelihood relative to its size, and of the summed responsibilities and power relative to those of a
    # mean component.
    tolerances: ClassVar = {
        "float32": {"log-likelihood": 1e-6, "sums": 1e-3},
        "float64": {"log-likelihood": 1e-12, "sums": 1e-9},
    }

    def __init__(self, pool: Pool, store: Store, threads: int, quick: bool) -> None:
        super().__init__(pool, store, QUICK_RULES if quick else _RULES)
        n, k = (4_000, 16) if quick else (200_000, 32)
        self.base = ConvCase(n, k, threads, side=16)
        self.sweeps = sweeps(self.base, quick)
        # EM iterations that set the likelihood to be reached; rows and columns of the matrices in the machine's own
        # product; samples of the fit whose memory is measured.
        self.climb_iterations, self.product_size, self.memory_n = (5, 1024, 20_000) if quick else (30, 4096, 1_000_000)
        self._groups: dict[ConvCase, Group] = {}

    def sections(self) -> Iterator[Section]:
        """Measure everything; the base case's times tell what the others will take."""
        base = self.base
        title = "One EM iteration"
        text = (
            "E-step and M-step from identical parameters; v2, v3 and v4 are levels of the x86-64 instruction set. "
            "Before being timed, and again afterwards, each result is compared with NumPy's in float64: the "
            "log-likelihood, relative to its size, and the summed responsibilities and power, relative to a mean "
            f"component's, may be off by {self.bounds}. Of scikit-learn and cplx-gmm the E- and M-step are called "
            "directly, without what `fit` adds. scikit-learn works on real and imaginary parts and cannot leave out "
            "means. cplx-gmm models complex data over all frequencies: its density of a real patch is squared, and it "
            "is compared with that."
        )
        yield Section(title, text, [self._group(base)])
        for axis, cases in self.sweeps.items():
            text = f"The base case ({base.label}) with another value of one thing."
            columns: dict[str, Group] = {}
            for value, case in cases.items():
                columns[f"{value:,}"] = self._group(case)
                yield Section(f"{title}: {axis}", text, list(columns.values()), axis=axis, columns=list(columns))
        own = [each for each in self._of_best_level() if each.options["adapter"] == "convgmm"]
        group = self.threads_in_turns(base, self.problem(base), Group(base.size, asdict(base)), own)
        yield Section(f"{title}: threads in turns", "The same with one thread and with more.", [group])
        yield self._matrix_product()
        yield self._climb()
        yield self._half_spectra()
        yield self._extraction()
        yield self._memory()

    def problem(self, case: ConvCase, *, iterations: int = _WARMING_ITERATIONS) -> Problem:
        """Return the problem of a case; its parameters are those after so many EM iterations."""
        side = case.side
        cases = [each for sweep in self.sweeps.values() for each in sweep.values()]
        most = max(each.n for each in cases if each.side == side)
        samples = self.store.samples(
            f"patches-{side}", lambda: extract_patches(self.store.images, (side, side), most, random_state=0)
        )

        def make() -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[Any]]]:
            patches = np.array(np.load(samples, mmap_mode="r")[:_WARMING_PATCHES])
            model = fit_briefly("ConvGMM", case.k, patches, iterations)
            return {"weights": positive(model.weights_), "spectra": model.spectra_}, {}

        start = self.store.start(f"spectra-{side}-{case.k}-{iterations}", make)
        return Problem("conv", samples, start, case.n, case.threads)

    def answer(self, problem: Problem, candidate: Candidate) -> ConvAnswer:
        """Return what the candidate should find."""
        return answer_to(problem, complex_density=candidate.name == _CPLX_GMM)

    def _group(self, case: ConvCase) -> Group:
        """Measure a case, each once."""
        if case not in self._groups:
            problem = self.problem(case)
            group = Group(case.label, asdict(case))
            active = answer_to(problem).active
            group.notes.append(f"{active:.1f} of {case.k} responsibilities of a patch are above 1e-6.")
            expected = partial(self._expected_seconds, case)
            self._groups[case] = self.measure(case, problem, group, candidates(), expected_seconds=expected)
        return self._groups[case]

    def _expected_seconds(self, case: ConvCase, candidate: Candidate) -> float | None:
        """Return about how long a repetition will take, judged by the base case; None before that is measured."""
        base = self.base
        if base not in self._groups:
            return None
        more = case.work / base.work
        row = self._groups[base].row(candidate.name)
        if row is None:  # it was too slow there, or could not be run
            return math.inf if more >= 1 else None
        return row.median * more * base.threads / case.threads

    def _of_best_level(self) -> list[Candidate]:
        return [each for each in candidates() if each.level in (None, usable_levels()[0])]

    def _climb(self) -> Section:
        """Measure the time from patches in memory to a likelihood, from one start."""
        base = self.base
        problem = self.problem(base, iterations=1)
        further = self.problem(base, iterations=1 + self.climb_iterations)
        target = answer_to(further).log_likelihood - _CLIMB_SLACK
        group = Group(base.label, asdict(base))
        group.notes.append(
            f"From {answer_to(problem).log_likelihood:.3f} to {target:.3f} nats per patch, where convgmm is after "
            f"{self.climb_iterations} iterations."
        )
        group.left_out[_CPLX_GMM] = "its likelihood is another one"
        limits = {"target": target, "most_iterations": _MOST_CLIMB_ITERATIONS}
        climbing = [
            replace(each, task="tasks:Climb", options={**each.options, **limits})
            for each in self._of_best_level()
            if each.name != _CPLX_GMM
        ]

        def judge(candidate: Candidate, result: Result) -> Judgement:
            short = max(target - float(result["log_likelihood"]), 0.0)
            details = {name: float(result[name]) for name in ("iterations", "seconds of transform")}
            return Judgement({"nats short of the target": short}, {"nats short of the target": 0.0}, details)

        rules = replace(self.rules, repetitions=self.rules.slow_repetitions, limit_seconds=300)
        measure(self.pool, group, climbing, {"problem": problem}, base.threads, judge, rules)
        text = (
            "Each from its own transform of the patches to the first iteration whose E-step finds the likelihood, all "
            "from the same start. The peers' transform is numpy's FFT in blocks. scikit-learn's model has more "
            "parameters from the second iteration on, and may need fewer iterations."
        )
        return Section("Time to a given likelihood", text, [group])

    def _half_spectra(self) -> Section:
        """Measure squared half spectra."""
        own = "adapters.convgmm:squared_half_spectra"
        taking_part = [
            Candidate(f"convgmm {level}", "tasks:Call", {"maker": own}, level) for level in usable_levels()
        ] + [
            Candidate(name, "tasks:Call", {"maker": f"adapters.numpy:{by}"})
            for name, by in (
                ("numpy.fft.rfft2, squared modulus", "squared_rfft2"),
                ("the same in blocks of 8192", "squared_rfft2_in_blocks"),
                ("scipy.fft.rfft2 with threads, squared modulus", "squared_rfft2_by_scipy"),
            )
        ]
        groups = []
        cases = self.sweeps["patch side"]
        for side, case in cases.items():
            problem = self.problem(case)
            some = replace(problem, n=min(HANDED_ROWS, problem.n))
            expected = squared_half_transform(some.load_samples().astype(np.float64), some.basis)

            def judge(
                candidate: Candidate, result: Result, some: Problem = some, expected: Any = expected
            ) -> Judgement:
                power = result["rows"].reshape(some.n, -1)
                if candidate.options["maker"] != own:
                    power = power[:, rfft2_columns(some.basis)]
                off = float(np.abs(power - expected).max() / expected.max())
                return Judgement({"power": off}, {"power": 1e-5})

            group = Group(f"{case.n:,} patches of {side}×{side}", asdict(case))
            arguments = {"problem": problem}
            groups.append(measure(self.pool, group, taking_part, arguments, case.threads, judge, self.rules))
        text = (
            "|X(ω)|² of float32 patches in memory. numpy's FFT has no threads; the rfft2 arrays hold some pairs of "
            "frequencies twice and ω = 0, convgmm's result neither. Checked: no value off by more than 1e-5 of the "
            "largest."
        )
        columns = [str(side) for side in cases]
        return Section("Squared half spectra", text, groups, axis="patch side", columns=columns)

    def _extraction(self) -> Section:
        """Measure the extraction of patches."""
        base = self.base
        shape = (base.n, base.side, base.side)

        def judge(_: Candidate, result: Result) -> Judgement:
            return Judgement({"shape": float(tuple(result["shape"]) != shape)}, {"shape": 0.0})

        own = {"maker": "adapters.convgmm:extraction"}
        candidate = Candidate("convgmm.datasets.extract_patches", "tasks:Call", own)
        group = Group(f"{base.n:,} patches of {base.side}×{base.side}, mean removed", asdict(base))
        arguments = {"n": base.n, "side": base.side, "data_dir": self.store.data_dir}
        measure(self.pool, group, [candidate], arguments, 1, judge, self.rules)
        return Section("Patch extraction", "Random patches out of photographs in memory; one thread.", [group])

    def _matrix_product(self) -> Section:
        """Measure the machine's matrix-product rate, and say what an iteration would take at that rate."""
        base, size = self.base, self.product_size
        title = f"{size:,}×{size:,} by {size:,}×{size:,}, float32, {threads_label(base.threads)}"
        group = Group(title)
        taking_part = [
            Candidate(name, "tasks:Call", {"maker": f"adapters.{by}:matrix_product"}, needs=needs, blas=True)
            for name, by, needs in (("numpy.matmul", "numpy", None), ("torch.mm", "torch", "torch"))
        ]
        arguments = {"size": size, "threads": base.threads}
        measure(self.pool, group, taking_part, arguments, base.threads, lambda *_: Judgement(), self.rules)
        for row in group.rows:
            rate = 2 * size**3 / row.median
            n_coefficients = base.side**2 // 2 + 1
            e_step = 2 * base.n * n_coefficients * base.k
            group.notes.append(
                f"{row.name}: {rate / 1e9:.4g} GFLOP/s. The base case's E-step is a product of "
                f"{base.n:,}×{n_coefficients} by {n_coefficients}×{base.k} matrices, {e_step / 1e9:.3g} GFLOP: "
                f"{duration(e_step / rate)} at that rate; with an M-step that uses every responsibility, twice that."
            )
        text = "What BLAS libraries reach on large matrices: a yardstick for the iterations above."
        return Section("The machine's matrix product", text, [group])

    def _memory(self) -> Section:
        base, n = self.base, self.memory_n
        shape = (n, base.side, base.side)
        coefficients = n * len(Fourier(shape[1:], True).multiplicities) * 4
        text = (
            f"Three iterations on {n:,} patches of {base.side}×{base.side} noise, K = {base.k}, float32, "
            f"{base.threads} threads. The last line is the peak less what the process held before the fit, patches "
            "included, and less the coefficients."
        )
        return self.memory(
            "Memory of a fit",
            text,
            {"samples": shape, "k": base.k, "n_threads": base.threads},
            "patches and coefficients",
            coefficients,
            coefficients=coefficients,
        )
