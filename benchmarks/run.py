"""Measure convgmm beside its peers; write results.json, results.md and pictures: ``python benchmarks/run.py``."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import full_cases
from cases import Plan, full_plan, quick_plan
from convgmm.files import writable_folder
from full_problem import FullStore
from full_sections import FullIterations
from machine import hardware, load_average, versions
from plots import draw_groups, draw_sweeps
from problem import Store, load_images
from report import Report, Section, write
from sections import EmIterations, climb, extraction, half_spectra, matrix_product, memory
from workers import Pool

_FOLDERS = {"conv": "results", "full": "results-full", "all": "results-all"}


def main() -> int:
    """Run everything; return 1 if an implementation gave another result than it should."""
    options = _parser().parse_args()
    started = time.monotonic()
    load_before = load_average()
    folder = writable_folder(options.out or Path(__file__).with_name(_FOLDERS[options.family]))
    images, source = load_images(options.data_dir)
    print(f"patches from {source}; load average {load_before[0]:.2f}", file=sys.stderr)
    settings = {
        "mode": "quick: the numbers mean nothing" if options.quick else "full",
        "threads": str(options.threads),
        "patches": f"{source}; mean removed, standard deviation at least 0.04",
    }
    sections: dict[str, Section] = {}
    with tempfile.TemporaryDirectory(prefix="convgmm-benchmark-") as scratch, Pool() as pool:
        for section in _measure(pool, options, images, Path(scratch)):
            # Written each time, so that an interrupt loses one case only.
            sections[section.title] = section
            settings["minutes"] = f"{(time.monotonic() - started) / 60:.1f}"
            report = Report(settings, hardware(), versions(), load_before, load_average(), list(sections.values()))
            written = write(report, folder)
            written += draw_groups([each for each in sections.values() if not each.columns], folder / "times.png")
            written += draw_sweeps(list(sections.values()), folder / "sweeps.png")
    print("\n".join(map(str, written)))
    for line in report.wrong():
        print(f"WRONG RESULT: {line}", file=sys.stderr)
    return 1 if report.wrong() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure convgmm beside its peers.")
    parser.add_argument(
        "--family",
        choices=_FOLDERS,
        default="conv",
        help="the convolutional mixture (default), the one with full covariances, or both in one report",
    )
    parser.add_argument("--quick", action="store_true", help="tiny problems: whether it works, not how fast")
    parser.add_argument("--threads", type=int, default=2, help="threads of the base case (default: 2)")
    parser.add_argument(
        "--data-dir",
        default=os.environ.get("CONVGMM_DATA") or None,
        help="folder with bsds500/ and mnist/ in it (default: $CONVGMM_DATA; without either, two sample photographs "
        "and no digits)",
    )
    parser.add_argument("--out", type=Path, help="folder for the results (default: one of the family's own)")
    return parser


def _most_patches(plan: Plan) -> dict[int, int]:
    """Return for each patch side how many patches are needed at most."""
    cases = [plan.base, *(case for sweep in plan.sweeps for case in sweep.cases(plan.base).values())]
    most = dict.fromkeys(plan.transform_sides, plan.base.n)
    for case in cases:
        most[case.side] = max(most.get(case.side, 0), case.n)
    return most


def _measure(
    pool: Pool, options: argparse.Namespace, images: list[NDArray[np.float32]], scratch: Path
) -> Iterator[Section]:
    if options.family in ("conv", "all"):
        plan = (quick_plan if options.quick else full_plan)(options.threads)
        store = Store(scratch, images, _most_patches(plan))
        yield from EmIterations(pool, plan, store).sections()
        yield matrix_product(pool, plan)
        yield climb(pool, plan, store)
        yield half_spectra(pool, plan, store)
        yield extraction(pool, plan, options.data_dir)
        yield memory(plan)
    if options.family in ("full", "all"):
        covariances = (full_cases.quick_plan if options.quick else full_cases.full_plan)(options.threads)
        yield from FullIterations(pool, FullStore(scratch, images, options.data_dir, covariances)).sections()


if __name__ == "__main__":
    sys.exit(main())
