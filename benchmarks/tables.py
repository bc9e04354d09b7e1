"""Print the README's tables from results: ``python benchmarks/tables.py RESULTS.JSON …``, of both families.

With ``--check README.md`` nothing is printed but the lines that the README lacks.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from measure import duration
from report import table_row

_COMPONENTS = ("32", "128", "256")  # of those that are measured
_LABELS = {
    "digits": "{n:,} digits of {d} pixels, {k} components",
    "synthetic": "{n:,} samples of a known mixture, {d} features, {k} components",
    "patches": "{n:,} samples of {d} features, {k} components",
    "patches64": "{n:,} patches of 8×8, {k} components",
}
_PEERS = {
    "PyTorch, float32: two matrix products and a softmax": ["PyTorch, float32"],
    "NumPy, float32: the same; in blocks that stay in cache": ["NumPy, float32", "NumPy in blocks of 4096, float32"],
    "scikit-learn, diagonal covariance on Fourier coefficients, float32": ["scikit-learn diag, float32"],
    "the same in float64": ["scikit-learn diag, float64"],
    "cplx-gmm, block-circulant": ["cplx-gmm block-circulant, complex128"],
}


def medians(group: dict[str, Any]) -> dict[str, float]:
    """Return the medians of a group by the names of the rows."""
    return {row["name"]: row["median"] for row in group["rows"]}


def cell(group: dict[str, Any], names: Sequence[str]) -> str:
    """Write the times of the rows of these names; nothing for one that was left out."""
    found = medians(group)
    return "; ".join(duration(found[name]) for name in names if name in found)


def conv_table(section: dict[str, Any]) -> Iterator[str]:
    """Write the table of convolutional mixtures, a column for each number of components."""
    measured = dict(zip(section["columns"], section["groups"], strict=True))
    columns = {k: group for k, group in measured.items() if k in _COMPONENTS} or measured
    first = next(iter(columns.values()))
    best = re.findall(r"convgmm (v\d|\w+), float32", "\n".join(medians(first)))[0]
    rows = {
        f"convgmm, float32 (x86-64-{best})": [f"convgmm {best}, float32"],
        "convgmm, float64": [f"convgmm {best}, float64"],
    }
    case = first["case"]
    yield table_row([f"{case['n']:,} patches of {case['side']}×{case['side']}, convolutional components", *columns])
    yield table_row(["---"] + ["--:"] * len(columns))
    for label, names in (rows | _PEERS).items():
        cells = [cell(group, names) for group in columns.values()]
        if any(cells):
            yield table_row([label, *cells])


def full_table(groups: list[dict[str, Any]]) -> Iterator[str]:
    """Write the table of full covariances, a row for each case."""
    heads = ["convgmm", "all evaluated in full", "PyTorch, float32", "scikit-learn, float32", "float64"]
    yield table_row(["full covariances", *heads])
    yield table_row(["---"] + ["--:"] * len(heads))
    for group in groups:
        case, own = group["case"], group["rows"][0]["name"]
        peers = ["PyTorch, float32", "scikit-learn full, float32", "scikit-learn full, float64"]
        label = _LABELS["patches64" if (case["data"], case["d"]) == ("patches", 64) else case["data"]].format(**case)
        yield table_row([label, *(cell(group, [name]) for name in (own, f"{own}, dense", *peers))])


def tables(report: dict[str, Any]) -> Iterator[str]:
    """Write the tables of a report's families."""
    for section in report["sections"]:
        if section["title"] == "One EM iteration: components K":
            yield from conv_table(section)
            yield ""
    groups = [group for section in report["sections"] for group in section["groups"]]
    if iterations := [group for group in groups if group["case"].get("part") == "iterate" and group["rows"]]:
        yield from full_table(iterations)


def summary(report: dict[str, Any]) -> str:
    """Say what was measured on."""
    machine, settings = report["machine"], report["settings"]
    return (
        f"One EM iteration on {machine['usable cores']} cores of {machine['processor']}, {settings['threads']} "
        f"threads, {report['taken'][:10]}: medians of repetitions taken in turns."
    )


def main() -> int:
    """Print what each file holds; with --check return 1 if a text lacks a line of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results.json of a run")
    parser.add_argument("--check", type=Path, metavar="README", help="a text that must hold these tables")
    options = parser.parse_args()
    held = set(options.check.read_text().splitlines()) if options.check else None
    missing = []
    for path in options.results:
        report = json.loads(path.read_text())
        lines = [summary(report), "", *tables(report)]
        if held is None:
            print("", *lines, sep="\n")
        else:
            lacking = [line for line in lines if line and line not in held]
            missing += [f"{options.check} lacks a line of {path}: {line}" for line in lacking]
    print(*missing, sep="\n", end="\n" * bool(missing))
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
