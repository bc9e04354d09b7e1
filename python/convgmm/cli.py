"""The command line: ``convgmm demo``, ``convgmm reproduce``, ``convgmm info``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .configuration import show_config
from .experiments import RECIPES, compare, demo, repeat, reproduce, write_report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="convgmm", description="Gaussian mixture models for images and signals.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("demo", help="train on two embedded photographs and write pictures; no download")
    command.add_argument("--out", default="convgmm-demo", metavar="DIR", help="folder for the results (%(default)s)")
    command.add_argument("--seed", type=_seed, default=0, metavar="N", help="source of all chance (%(default)s)")

    command = commands.add_parser("reproduce", help="run published experiments on photographs and digits")
    command.add_argument(
        "names",
        nargs="+",
        choices=["all", *RECIPES],
        metavar="NAME",
        help=f"{', '.join(RECIPES)}, or all: the published ones, and a report",
    )
    command.add_argument(
        "--only", nargs="+", choices=list(RECIPES), metavar="NAME", help="with all: only these experiments"
    )
    command.add_argument(
        "--repeats",
        type=_count,
        default=1,
        metavar="N",
        help="with all: run the experiments on digits with N seeds, and add a table of the spread",
    )
    command.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder that holds mnist/ and bsds500/ (default: $CONVGMM_DATA, else a download into a cache)",
    )
    command.add_argument(
        "--out", default="convgmm-experiments", metavar="DIR", help="folder for the results (%(default)s)"
    )
    command.add_argument("--seed", type=_seed, default=0, metavar="N", help="source of all chance (%(default)s)")

    commands.add_parser("info", help="show versions, compiler, instruction set, FFTW and threads")
    return parser


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and {2**32 - 1}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _report(metrics: dict[str, Any], folder: Path) -> None:
    print(f"{metrics['title']}")
    print(
        f"  {metrics['n_samples']:,} samples ({metrics['n_discarded']:,} flat ones discarded), "
        f"{metrics['n_components']} components kept"
    )
    print(f"  log-likelihood {metrics['log_likelihood']:.2f} nats per sample, overlap {metrics['overlap']:.2f} nats")
    if "purity" in metrics:
        print(
            "  test digits: "
            + ", ".join(f"{name} {metrics[name]:.3f}" for name in ("purity", "nmi", "ari", "class_entropy"))
            + f", log-likelihood {metrics['log_likelihood_test']:.2f}"
        )
    print(
        f"  data {metrics['seconds_data']:.2f} s, training {metrics['seconds']:.2f} s "
        f"({metrics['seconds_per_iteration'] * 1e3:.1f} ms an iteration)"
    )
    print(f"  pictures and metrics.json are in {folder.resolve()}")


def _reproduce(options: argparse.Namespace) -> None:
    everything = "all" in options.names
    if not everything and (options.only or options.repeats > 1):
        raise ValueError("--only and --repeats belong to `convgmm reproduce all`.")
    out = Path(options.out)
    names = (options.only or [name for name in RECIPES if not RECIPES[name].beyond]) if everything else options.names
    on_digits = []
    for name in names:
        metrics = reproduce(name, out, data_dir=options.data_dir, seed=options.seed, resume=everything)
        _report(metrics, out / name)
        if "purity" in metrics:
            on_digits.append(name)
    table = compare(out)
    if table:
        print(f"\nthe experiments on digits in {out.resolve()}:\n\n{table}", end="")
    if everything:
        seeds = range(options.seed, options.seed + options.repeats)
        repeats = {
            name: repeat(name, out, seeds, data_dir=options.data_dir) for name in on_digits if options.repeats > 1
        }
        print(f"\nthe report is {write_report(out, repeats).resolve()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 after an error, 130 after an interrupt."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "info":
            show_config()
        elif options.command == "demo":
            _report(demo(options.out, seed=options.seed), Path(options.out))
        else:
            _reproduce(options)
    except KeyboardInterrupt:
        print("convgmm: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"convgmm: {error}", file=sys.stderr)
        return 1
    return 0
