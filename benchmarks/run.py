"""Measure convgmm beside its peers; write results.json, results.md and pictures: ``python benchmarks/run.py``."""

import argparse
import os
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

from conv_cases import ConvBenchmark
from convgmm.files import writable_folder
from full_cases import FullBenchmark
from machine import forced_kernels, hardware, load_average, versions
from plots import draw_groups, draw_sweeps
from problem import Store, load_images
from report import Report, Section, write
from workers import Pool

_FAMILIES = {"conv": [ConvBenchmark], "full": [FullBenchmark], "all": [ConvBenchmark, FullBenchmark]}
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
        "kernels forced by the environment": forced_kernels() or "none",
    }
    sections: dict[str, Section] = {}
    with tempfile.TemporaryDirectory(prefix="convgmm-benchmark-") as scratch, Pool() as pool:
        store = Store(Path(scratch), images, options.data_dir)
        families = [family(pool, store, options.threads, options.quick) for family in _FAMILIES[options.family]]
        for section in chain.from_iterable(family.sections() for family in families):
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
        choices=_FAMILIES,
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


if __name__ == "__main__":
    sys.exit(main())
