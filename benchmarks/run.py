"""Measure convgmm beside its peers; write results.json, results.md and pictures: ``python benchmarks/run.py``."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cases import Plan, full_plan, quick_plan
from convgmm.files import writable_folder
from machine import hardware, load_average, versions
from plots import draw_groups, draw_sweeps
from problem import Store, load_images
from report import Report, Section, write
from sections import EmIterations, climb, extraction, half_spectra, matrix_product, memory
from workers import Pool


def main() -> int:
    """Run everything; return 1 if an implementation gave another result than it should."""
    options = _parser().parse_args()
    started = time.monotonic()
    load_before = load_average()
    folder = writable_folder(options.out)
    plan = (quick_plan if options.quick else full_plan)(options.threads)
    images, source = load_images(options.data_dir)
    print(f"patches from {source}; load average {load_before[0]:.2f}", file=sys.stderr)
    settings = {
        "mode": "quick: the numbers mean nothing" if options.quick else "full",
        "base case": plan.base.label,
        "patches": f"{source}; mean removed, standard deviation at least 0.04",
    }
    sections: list[Section] = []
    with tempfile.TemporaryDirectory(prefix="convgmm-benchmark-") as scratch, Pool() as pool:
        store = Store(Path(scratch), images, _most_patches(plan))
        for section in _measure(pool, plan, store, options.data_dir):
            # Written each time, so that an interrupt loses one section only.
            sections.append(section)
            settings["minutes"] = f"{(time.monotonic() - started) / 60:.1f}"
            report = Report(settings, hardware(), versions(), load_before, load_average(), sections)
            written = write(report, folder)
            written += [folder / "times.png", folder / "sweeps.png"]
            draw_groups([each for each in sections if not each.columns], written[-2])
            draw_sweeps(sections, written[-1])
    print("\n".join(map(str, written)))
    for line in report.wrong():
        print(f"WRONG RESULT: {line}", file=sys.stderr)
    return 1 if report.wrong() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure convgmm beside its peers.")
    parser.add_argument("--quick", action="store_true", help="tiny problems: whether it works, not how fast")
    parser.add_argument("--threads", type=int, default=2, help="threads of the base case (default: 2)")
    parser.add_argument(
        "--data-dir",
        default=os.environ.get("CONVGMM_DATA") or None,
        help="folder with bsds500/ in it (default: $CONVGMM_DATA; without either, two sample photographs)",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="folder for the results")
    return parser


def _most_patches(plan: Plan) -> dict[int, int]:
    """Return for each patch side how many patches are needed at most."""
    cases = [plan.base, *(case for sweep in plan.sweeps for case in sweep.cases(plan.base).values())]
    most = dict.fromkeys(plan.transform_sides, plan.base.n)
    for case in cases:
        most[case.side] = max(most.get(case.side, 0), case.n)
    return most


def _measure(pool: Pool, plan: Plan, store: Store, data_dir: str | None) -> Iterator[Section]:
    yield from EmIterations(pool, plan, store).sections()
    yield matrix_product(pool, plan)
    yield climb(pool, plan, store)
    yield half_spectra(pool, plan, store)
    yield extraction(pool, plan, data_dir)
    yield memory(plan)


if __name__ == "__main__":
    sys.exit(main())
