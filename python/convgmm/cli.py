"""The command line: demonstrations, experiments, and what a mixture does to pictures."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import restore, texture
from .configuration import show_config
from .datasets import Patches
from .experiments import RECIPES, answer_questions, compare, demo, repeat, reproduce, train_prior, write_report
from .files import writable_folder
from .full import FullGMM
from .picture_file import check_writable, read_picture, write_picture

#: How the names of pictures end that `fit` reads.
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
#: Values of patches that `fit` keeps, 1 GiB; of more they are drawn anew in every iteration.
_HELD_VALUES = 1 << 28


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
        choices=["all", "prior", "questions", *RECIPES],
        metavar="NAME",
        help=f"{', '.join(RECIPES)}, or all: the published ones, and a report; or questions: what they leave open, "
        "answered; or prior: what photographs are restored with",
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

    _add_picture_commands(commands)
    commands.add_parser("info", help="show versions, compiler, instruction set, FFTW and threads")
    return parser


def _add_picture_commands(commands: Any) -> None:
    model = {"metavar": "FILE", "help": "a saved mixture of patches (default: the one that comes with the package)"}

    command = commands.add_parser("denoise", help="take white noise out of a picture")
    command.add_argument("input", metavar="IN")
    command.add_argument("output", metavar="OUT")
    command.add_argument(
        "--sigma", type=float, metavar="S", help="the noise's deviation in grey levels of the file (default: estimated)"
    )
    command.add_argument(
        "--stride", type=_count, default=1, metavar="N", help="one patch in N×N: 2 takes half the time (%(default)s)"
    )
    command.add_argument("--model", **model)

    command = commands.add_parser("inpaint", help="fill in what a mask marks as missing")
    command.add_argument("input", metavar="IN")
    command.add_argument("mask", metavar="MASK", help="a picture of the same size, not black where IN is missing")
    command.add_argument("output", metavar="OUT")
    command.add_argument("--model", **model)

    command = commands.add_parser("texture", help="make a texture of any size from a picture of one")
    command.add_argument("input", metavar="IN")
    command.add_argument("output", metavar="OUT")
    command.add_argument("--size", type=_count, nargs=2, default=(512, 512), metavar=("HEIGHT", "WIDTH"))
    command.add_argument("--periodic", action="store_true", help="make it tile")
    command.add_argument("--contours", action="store_true", help="by a mixture of patches: slower, with contours")
    command.add_argument("--seed", type=_seed, default=0, metavar="N", help="source of all chance (%(default)s)")

    command = commands.add_parser("fit", help="train a mixture of patches on a folder of pictures")
    command.add_argument("folder", metavar="DIR")
    command.add_argument("--out", required=True, metavar="FILE", help="the model, to be given as --model FILE")
    command.add_argument("--components", type=_count, default=100, metavar="K", help="how many (%(default)s)")
    command.add_argument("--side", type=_count, default=8, metavar="P", help="pixels a side of a patch (%(default)s)")
    command.add_argument("--patches", type=_count, default=200_000, metavar="N", help="how many (%(default)s)")
    command.add_argument("--seed", type=_seed, default=0, metavar="N", help="source of all chance (%(default)s)")


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
    if "questions" in options.names:
        if len(options.names) > 1:
            raise ValueError("questions are run alone: `convgmm reproduce questions`.")
        path = answer_questions(out, data_dir=options.data_dir, seed=options.seed)
        print(f"the answers are in {path.resolve()}")
        return
    names = (options.only or [name for name in RECIPES if not RECIPES[name].beyond]) if everything else options.names
    on_digits = []
    for name in names:
        if name == "prior":
            metrics = train_prior(out, data_dir=options.data_dir, seed=options.seed)
            print(
                f"{metrics['title']}\n  {metrics['log_likelihood']:.2f} nats, {metrics['seconds']:.0f} s; "
                f"{metrics['bytes']:,} bytes in {(out / 'prior' / 'prior.npz').resolve()}"
            )
            continue
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


def _demo(options: argparse.Namespace) -> None:
    _report(demo(options.out, seed=options.seed), Path(options.out))


def _denoise(options: argparse.Namespace) -> None:
    check_writable(options.output)
    image = read_picture(options.input)
    restored = restore.denoise(image, options.sigma, options.model, stride=options.stride, progress=sys.stderr.isatty())
    write_picture(options.output, restored)


def _inpaint(options: argparse.Namespace) -> None:
    check_writable(options.output)
    mask = read_picture(options.mask)
    missing = mask > 0 if mask.ndim == 2 else (mask[..., : 3 if mask.shape[-1] > 2 else 1] > 0).any(axis=-1)
    image = read_picture(options.input)
    write_picture(options.output, restore.inpaint(image, missing, options.model, progress=sys.stderr.isatty()))


def _texture(options: argparse.Namespace) -> None:
    check_writable(options.output)
    image = read_picture(options.input)
    learnt = texture.from_image(image, contours=options.contours)
    drawn = learnt.synthesize(tuple(options.size), periodic=options.periodic, random_state=options.seed)
    values = drawn[..., 0] if drawn.shape[-1] == 1 else drawn
    write_picture(options.output, values.round().clip(0, np.iinfo(image.dtype).max).astype(image.dtype))


def _fit(options: argparse.Namespace) -> None:
    target = Path(options.out)
    writable_folder(target.parent)
    if target.is_dir():
        raise ValueError(f"{target} is a folder; name a file.")
    paths = [path for path in sorted(Path(options.folder).iterdir()) if path.suffix.lower() in _PICTURES]
    if not paths:
        raise ValueError(f"{options.folder} holds no pictures.")
    # Pictures are read a few at a time.
    patches = Patches(paths, (options.side,) * 2, options.patches, min_std=0.004, random_state=options.seed)
    held = options.patches * options.side**2 <= _HELD_VALUES
    model = FullGMM(options.components, means="zero", tol=0.01, max_iter=50, random_state=options.seed, verbose=True)
    samples: Any = np.concatenate(list(patches)) if held else patches
    model.fit(samples).save(target)
    print(f"{model.n_components_} components, {model.lower_bound_:.2f} nats a patch, in {target.resolve()}")


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "reproduce": _reproduce,
    "denoise": _denoise,
    "inpaint": _inpaint,
    "texture": _texture,
    "fit": _fit,
    "info": lambda options: show_config(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 after an error, 130 after an interrupt."""
    options = _parser().parse_args(arguments)
    try:
        _COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("convgmm: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"convgmm: {error}", file=sys.stderr)
        return 1
    return 0
