"""Compare a change with its base: ``python benchmarks/compare.py BASE_PYTHON CHANGED_PYTHON``.

Each argument is the interpreter of an environment in which convgmm is installed. The two fit the same samples by turns,
and what counts is the ratio of their times per iteration, which the machine's own speed and its mood cancel from. Only
what users call is called, so that any two versions can be compared.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

_CASES = {
    "ConvGMM, 100,000 patches of 16×16, 32 components": ("ConvGMM", (100_000, 16, 16), 32, {}, 30),
    "ConvGMM, 100,000 patches of 16×16, 256 components": ("ConvGMM", (100_000, 16, 16), 256, {}, 10),
    "FullGMM, 20,000 samples of 256 features, 16 components": ("FullGMM", (20_000, 256), 16, {"reg_covar": 1e-3}, 6),
    "FullGMM, 100,000 samples of 16 features, 16 components": ("FullGMM", (100_000, 16), 16, {"reg_covar": 1e-3}, 10),
}
_TURNS = 9
#: A change fails whose iterations take this many times as long.
_MOST = 1.15


def serve() -> None:
    """Fit one case for each line read; answer with the milliseconds of an iteration and the bound."""
    import warnings  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    import convgmm  # noqa: PLC0415

    warnings.simplefilter("ignore")
    samples: dict[tuple[int, ...], Any] = {}
    for line in sys.stdin:
        name, shape, k, options, iterations = _CASES[json.loads(line)]
        if shape not in samples:
            noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            rough = np.random.default_rng(1).random(shape[0], dtype=np.float32).reshape(-1, *[1] * (len(shape) - 1))
            samples = {shape: noise + rough * noise.cumsum(axis=-1)}  # of many kinds
        model = getattr(convgmm, name)(
            k, max_iter=iterations, tol=0, prune_threshold=0, init="random", random_state=0, n_threads=2, **options
        ).fit(samples[shape])
        print(json.dumps([1e3 * model.seconds_per_iteration_, model.lower_bound_]), flush=True)


class Side:
    """A version, in a process of its environment."""

    def __init__(self, python: str) -> None:
        command = [python, "-P", __file__, "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def fit(self, case: str) -> tuple[float, float]:
        """Return milliseconds an iteration, and the bound."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(case), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with status {self._process.wait()}")
        milliseconds, bound = json.loads(line)
        return milliseconds, bound


def main() -> int:
    """Write a table; return 1 if the change is slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="of the base, and of the change")
    parser.add_argument("--out", type=Path, help="also write the table into this file")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    base, change = map(Side, options.pythons)
    lines = ["| EM iteration, 2 threads | base | change | change / base (quartiles) |", "| --- | --: | --: | --: |"]
    slower = []
    for case in _CASES:
        pairs = [(base.fit(case), change.fit(case)) for _ in range(_TURNS + 1)][1:]
        before, after = ([side[0] for side in pair] for pair in zip(*pairs, strict=True))
        low, ratio, high = statistics.quantiles([b / a for a, b in zip(before, after, strict=True)], n=4)
        lines.append(
            f"| {case} | {statistics.median(before):.2f} ms | {statistics.median(after):.2f} ms | "
            f"{ratio:.2f} ({low:.2f} – {high:.2f}) |"
        )
        if ratio > _MOST:
            slower.append(case)
        old, new = pairs[0][0][1], pairs[0][1][1]
        if abs(old - new) > 1e-4 * abs(old):
            lines[-1] += f" bounds {old:.6g} and {new:.6g} |"
    verdict = f" **Slower: {'; '.join(slower)}.**" if slower else ""
    lines += ["", f"Medians of {_TURNS} fits in turns.{verdict}"]
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if options.out:
        options.out.write_text(table)
    return bool(slower)


if __name__ == "__main__":
    sys.exit(main())
