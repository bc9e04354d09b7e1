"""The report's sections for circulant mixtures: what is measured on which cases."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from cases import Case, Plan, threads_label
from convgmm import _core, _cpu
from measure import Candidate, Group, Judgement, Result, measure
from problem import Problem, Store
from reference import TOLERANCES, Answer, answer_to
from report import Section
from tasks import expected_power
from timing import duration
from workers import Pool

_CLIMB_SLACK = 1e-3  # nats: less than an iteration gains, more than rounding loses
_MOST_CLIMB_ITERATIONS = 200

_NUMPY = "NumPy, float32"
_TORCH = "PyTorch, float32"
_NUMPY_IN_BLOCKS = "NumPy in blocks of 4096, float32"
_SCIKIT_LEARN = "scikit-learn diag, float32"
_CPLX_GMM = "cplx-gmm block-circulant, complex128"

# Bytes that a sample needs in each implementation at its peak, from the number of values v and components k: its
# arrays and the temporaries of an iteration or of the transform, counted on the safe side.
_BYTES: dict[str, Callable[[int, int, int], float]] = {
    "convgmm": lambda v, k, size: 2.5 * size * v,
    "numpy": lambda v, k, size: size * (3 * v + 2 * k),
    "torch": lambda v, k, size: size * (3 * v + 3 * k),
    "scikit-learn": lambda v, k, size: size * (4 * v + 6 * k),
    "cplx-gmm": lambda v, k, size: 16 * 4 * v + 8 * 8 * k,
}


def usable_levels() -> list[str]:
    """Return the instruction sets that are built and that this processor has, the best first."""
    supported = _cpu.processor_level()
    return sorted((level for level in _core.levels_built if level <= supported), reverse=True)


def own_name(level: str) -> str:
    """Return what convgmm is called in float32 with this instruction set."""
    return f"convgmm {level}, float32"


def em_candidates() -> list[Candidate]:
    """Return everything that can do an EM iteration; the first is what the others are compared with."""

    def candidate(name: str, family: str, dtype: str, **rest: Any) -> Candidate:
        level, needs = rest.pop("level", None), rest.pop("needs", None)
        options = {"family": family, "dtype": dtype, **rest}
        return Candidate(name, "implementations:iteration", options, level, needs)

    levels = usable_levels()
    return [
        *(candidate(own_name(level), "convgmm", "float32", level=level) for level in levels),
        candidate(f"convgmm {levels[0]}, float64", "convgmm", "float64", level=levels[0]),
        candidate(_NUMPY, "numpy", "float32"),
        candidate(_NUMPY_IN_BLOCKS, "numpy", "float32", block=4096),
        candidate(_TORCH, "torch", "float32", needs="torch"),
        candidate(_SCIKIT_LEARN, "scikit-learn", "float32"),
        candidate("scikit-learn diag, float64", "scikit-learn", "float64"),
        candidate(_CPLX_GMM, "cplx-gmm", "float64", needs="cplx_gmm"),
    ]


class EmIterations:
    """One EM iteration on the base case and on every case of the sweeps, each case once."""

    def __init__(self, pool: Pool, plan: Plan, store: Store) -> None:
        self._pool, self._plan, self._store = pool, plan, store
        self._groups: dict[Case, Group] = {}

    def sections(self) -> Iterator[Section]:
        """Measure; yield the base case's section, whose times tell what the others will take, and each sweep's.

        A sweep's section is yielded again with each case that it gains.
        """
        base = self._plan.base
        title = "One EM iteration"
        bounds = "; ".join(
            f"{of['log-likelihood']:g} and {of['sums']:g} in {dtype}" for dtype, of in TOLERANCES.items()
        )
        text = (
            "E-step and M-step from identical parameters; v2, v3 and v4 are levels of the x86-64 instruction set. "
            "Before being timed, and again afterwards, each result is compared with NumPy's in float64: the "
            "log-likelihood, relative to its size, and the summed responsibilities and power, relative to a mean "
            f"component's, may be off by {bounds}. Of scikit-learn and cplx-gmm the E- and M-step are called directly, "
            "without what `fit` adds. scikit-learn works on real and imaginary parts and cannot leave out means. "
            "cplx-gmm models complex data over all frequencies: its density of a real patch is squared, and it is "
            "compared with that."
        )
        yield Section(title, text, [self._group(base)])
        for sweep in self._plan.sweeps:
            columns: dict[str, Group] = {}
            for value, case in sweep.cases(base).items():
                columns[f"{value:,}"] = self._group(case)
                yield Section(
                    f"{title}: {sweep.title}",
                    f"The base case ({base.label}) with another value of one thing.",
                    list(columns.values()),
                    axis=sweep.title,
                    columns=list(columns),
                )
        yield self._threads()

    def _group(self, case: Case) -> Group:
        if case not in self._groups:
            self._groups[case] = self._measure(case)
        return self._groups[case]

    def _measure(self, case: Case) -> Group:
        problem = self._store.problem(case)
        group = Group(f"em n={case.n} side={case.side} k={case.k} threads={case.threads}", case.label)
        group.notes.append(f"{answer_to(problem).active:.1f} of {case.k} responsibilities of a patch are above 1e-6.")
        rules = replace(
            self._plan.rules,
            expected_seconds=lambda candidate: self._expected(candidate, case),
            expected_bytes=lambda candidate: case.n * _bytes_per_sample(candidate, case),
        )
        return measure(
            self._pool,
            group,
            em_candidates(),
            {"problem": asdict(problem)},
            case.threads,
            lambda candidate, result: judge_iteration(problem, candidate, result),
            rules,
        )

    def _threads(self) -> Section:
        """Measure convgmm with each number of threads side by side: minutes apart, the machine may be another."""
        base = self._plan.base
        problem = self._store.problem(base)
        counts = sorted({1, base.threads}, reverse=True)
        candidates = [
            with_threads(candidate, asdict(problem), count)
            for candidate in em_candidates()
            if candidate.options["family"] == "convgmm" and candidate.level == usable_levels()[0]
            for count in counts
        ]
        group = Group("threads in turns", base.size)

        def judge(candidate: Candidate, result: Result) -> Judgement:
            return judge_iteration(problem, candidate, result)

        measure(self._pool, group, candidates, {}, base.threads, judge, self._plan.rules)
        return Section("One EM iteration: threads in turns", "The same with one thread and with more.", [group])

    def _expected(self, candidate: Candidate, case: Case) -> float | None:
        """Return about how long a repetition will take, judged by the base case; None before that is measured."""
        base = self._plan.base
        if base not in self._groups:
            return None
        more = case_work(case) / case_work(base)
        row = self._groups[base].row(candidate.name)
        if row is None:  # it was too slow there, or could not be run
            return math.inf if more >= 1 else None
        return row.timing.median * more * base.threads / case.threads


def with_threads(candidate: Candidate, problem: Mapping[str, Any], threads: int) -> Candidate:
    """Return the candidate with so many threads, whatever the others have, in a process of its own."""
    name = f"{candidate.name}, {threads_label(threads)}"
    return replace(candidate, name=name, options={**candidate.options, "problem": {**problem, "threads": threads}})


def case_work(case: Case) -> float:
    """Return what the time of an iteration is proportional to, or nearly."""
    return case.n * case.side**2 * case.k


def _bytes_per_sample(candidate: Candidate, case: Case) -> float:
    size = np.dtype(candidate.options["dtype"]).itemsize
    return _BYTES[candidate.options["family"]](case.side**2, case.k, size)


def judge_iteration(problem: Problem, candidate: Candidate, result: Result) -> Judgement:
    """Compare one iteration's result with the float64 answer."""
    expected: Answer = answer_to(problem, complex_density=candidate.options["family"] == "cplx-gmm")
    return Judgement(expected.deviations(result), TOLERANCES[candidate.options["dtype"]])


# ---- time to a likelihood --------------------------------------------------------------------------------------------


def climb(pool: Pool, plan: Plan, store: Store) -> Section:
    """Measure the time from patches in memory to a likelihood, from one start."""
    problem = store.problem(plan.base, iterations=1)
    further = store.problem(plan.base, iterations=1 + plan.climb_iterations)
    target = answer_to(further).log_likelihood - _CLIMB_SLACK
    group = Group("climb", plan.base.label)
    group.notes.append(
        f"From {answer_to(problem).log_likelihood:.3f} to {target:.3f} nats per patch, where convgmm is after "
        f"{plan.climb_iterations} iterations."
    )
    group.left_out[_CPLX_GMM] = "its likelihood is another one"
    candidates = [
        Candidate(
            candidate.name,
            "tasks:climb",
            {**candidate.options, "target": target, "most_iterations": _MOST_CLIMB_ITERATIONS},
            candidate.level,
            candidate.needs,
        )
        for candidate in em_candidates()
        if candidate.options["family"] != "cplx-gmm" and candidate.level in (None, usable_levels()[0])
    ]

    def judge(candidate: Candidate, result: Result) -> Judgement:
        short = max(target - float(result["log_likelihood"]), 0.0)
        details = {name: float(result[name]) for name in ("iterations", "seconds of transform")}
        return Judgement({"nats short of the target": short}, {"nats short of the target": 0.0}, details)

    rules = replace(plan.rules, repetitions=plan.rules.slow_repetitions, limit_seconds=300)
    measure(pool, group, candidates, {"problem": asdict(problem)}, plan.base.threads, judge, rules)
    text = (
        "Each from its own transform of the patches to the first iteration whose E-step finds the likelihood, all from "
        "the same start. The peers' transform is numpy's FFT in blocks. scikit-learn's model has more parameters from "
        "the second iteration on, and may need fewer iterations."
    )
    return Section("Time to a given likelihood", text, [group])


# ---- transforms and patches ------------------------------------------------------------------------------------------


def half_spectra(pool: Pool, plan: Plan, store: Store) -> Section:
    """Measure squared half spectra."""
    # The processes that iterated serve again.
    candidates = [
        Candidate(f"convgmm {level}", "tasks:HalfSpectra", {"by": "convgmm"}, level, process=own_name(level))
        for level in usable_levels()
    ]
    candidates += [
        Candidate(name, "tasks:HalfSpectra", {"by": by}, process=process)
        for name, by, process in (
            ("numpy.fft.rfft2, squared modulus", "numpy", _NUMPY),
            ("the same in blocks of 8192", "numpy_in_blocks", _NUMPY_IN_BLOCKS),
            ("scipy.fft.rfft2 with threads, squared modulus", "scipy", _SCIKIT_LEARN),
        )
    ]
    groups = []
    for side in plan.transform_sides:
        case = replace(plan.base, side=side)
        problem = store.problem(case)
        expected = expected_power(problem)

        def judge(_: Candidate, result: Result, expected: Any = expected) -> Judgement:
            off = float(np.abs(result["power"] - expected).max() / expected.max())
            return Judgement({"power": off}, {"power": 1e-5})

        group = Group(f"half spectra side={side}", f"{case.n:,} patches of {side}×{side}")
        measure(pool, group, candidates, {"problem": asdict(problem)}, case.threads, judge, plan.rules)
        groups.append(group)
    text = (
        "|X(ω)|² of float32 patches in memory. numpy's FFT has no threads; the rfft2 arrays hold some pairs of "
        "frequencies twice and ω = 0, convgmm's result neither. Checked: no value off by more than 1e-5 of the largest."
    )
    return Section(
        "Squared half spectra", text, groups, axis="patch side", columns=[str(s) for s in plan.transform_sides]
    )


def extraction(pool: Pool, plan: Plan, data_dir: str | None) -> Section:
    """Measure the extraction of patches."""
    base = plan.base
    shape = (base.n, base.side, base.side)

    def judge(_: Candidate, result: Result) -> Judgement:
        return Judgement({"shape": float(tuple(result["shape"]) != shape)}, {"shape": 0.0})

    candidate = Candidate("convgmm.datasets.extract_patches", "tasks:Extraction", process=_NUMPY)
    group = Group("extraction", f"{base.n:,} patches of {base.side}×{base.side}, mean removed")
    arguments = {"n": base.n, "side": base.side, "data_dir": data_dir}
    measure(pool, group, [candidate], arguments, 1, judge, plan.rules)
    return Section("Patch extraction", "Random patches out of photographs in memory; one thread.", [group])


# ---- the machine -----------------------------------------------------------------------------------------------------


def matrix_product(pool: Pool, plan: Plan) -> Section:
    """Measure the machine's matrix-product rate, and say what an iteration would take at that rate."""
    base, size = plan.base, plan.product_size
    group = Group("matrix product", f"{size:,}×{size:,} by {size:,}×{size:,}, float32, {threads_label(base.threads)}")
    candidates = [
        Candidate("numpy.matmul", "tasks:MatrixProduct", {"by": "numpy"}, process=_NUMPY),
        Candidate("torch.mm", "tasks:MatrixProduct", {"by": "torch"}, needs="torch", process=_TORCH),
    ]
    arguments = {"size": size, "threads": base.threads}
    measure(pool, group, candidates, arguments, base.threads, lambda *_: Judgement(), plan.rules)
    for row in group.rows:
        rate = 2 * size**3 / row.timing.median
        n_coefficients = base.side**2 // 2 + 1
        e_step = 2 * base.n * n_coefficients * base.k
        group.notes.append(
            f"{row.name}: {rate / 1e9:.4g} GFLOP/s. The base case's E-step is a product of {base.n:,}×{n_coefficients} "
            f"by {n_coefficients}×{base.k} matrices, {e_step / 1e9:.3g} GFLOP: {duration(e_step / rate)} at that rate; "
            f"with an M-step that uses every responsibility, twice that."
        )
    text = "What BLAS libraries reach on large matrices: a yardstick for the iterations above."
    return Section("The machine's matrix product", text, [group])


def memory(plan: Plan) -> Section:
    """Measure the peak memory of a fit in a process of its own."""
    base = plan.base
    print("memory of a fit", file=sys.stderr, flush=True)
    sizes = {"n": plan.memory_n, "k": base.k, "side": base.side, "threads": base.threads}
    facts = peak_memory(Path(__file__).with_name("memory.py"), sizes)
    text = (
        f"Three iterations on {plan.memory_n:,} patches of {base.side}×{base.side} noise, K = {base.k}, float32, "
        f"{base.threads} threads. The last line is the peak less what the process held before the fit, patches "
        "included, and less the coefficients."
    )
    return Section("Memory of a fit", text, facts=facts)


def peak_memory(script: Path, options: Mapping[str, Any]) -> dict[str, str]:
    """Return what a script that measures memory prints, in MiB."""
    command = [
        sys.executable,
        str(script),
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "CONVGMM_ISA"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]}
    return {name: f"{value / 2**20:,.1f} MiB" for name, value in json.loads(done.stdout).items()}
