"""Photographs restored, beside BM3D and scikit-image: ``python benchmarks/restoration.py``.

Noise of deviation 15, 25 and 50 on the 68 photographs of BSDS500 `val` that the field calls BSD68; 30 % of the pixels
missing, and a blur by a shaken camera, on some of `test`. Everyone has the same seeded noise, the peak signal-to-noise
ratio is that of the mean squared error, clipped to [0, 1], and the structural similarity is scikit-image's. What is
measured is written after every photograph, so that an interrupt loses one; a second call goes on where it ended, and
calls with other tasks or methods add to the same file. Ratios do not depend on what else the machine does, seconds do:
``--seconds`` measures them alone, on a few photographs.

Needs ``pip install bm3d scikit-image`` and the photographs, as `convgmm.datasets.load_bsds500` finds them; and for the
large mixture ``convgmm fit bsds500/train --components 200 --patches 1000000 --out full200.npz``, given as ``--model``.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve
from skimage import restoration
from skimage.metrics import structural_similarity

from convgmm import load
from convgmm.datasets._location import cache_folder, data_folder
from convgmm.files import write_atomically
from convgmm.picture_file import read_grey
from convgmm.restore import BETAS, deblur, denoise, inpaint
from machine import hardware, load_average, versions
from report import table_row

Image = NDArray[np.float32]

#: Never tuned on: whatever is chosen is chosen on `train` or `test`.
BSD68 = """
    101085 101087 102061 103070 105025 106024 108005 108070 108082 109053 119082 12084 123074 126007 130026
    134035 14037 143090 145086 147091 148026 148089 157055 159008 160068 16077 163085 167062 167083 170057
    175032 175043 182053 189080 19021 196073 197017 208001 210088 21077 216081 219090 220075 223061 227092
    229036 236037 24077 241004 241048 253027 253055 260058 271035 285079 291000 295087 296007 296059 299086
    300091 302008 304034 304074 306005 3096 33039 351093
""".split()  # noqa: SIM905 - 68 quoted numbers are hard to read
#: Of `test`, for what the field has no list of.
OTHERS = "100007 108069 141012 163096 196088 226043 259060 317043 388006 69000".split()  # noqa: SIM905 - likewise
#: Photographs whose restoration is timed.
_TIMED = 4
#: Deviation of the noise behind a blur, and what share of pixels is missing.
_BLUR_SIGMA, _MISSING = 0.01, 0.3


@dataclass(frozen=True)
class Damaged:
    """A photograph, what is left of it, and what is known of the damage: sigma, a mask or a kernel."""

    clean: Image
    seen: Image
    known: Any
    margin: int = 0  # pixels at each border that are not judged

    def judge(self, estimate: NDArray[Any]) -> dict[str, float]:
        """Return the ratio and the similarity."""
        inside = (slice(self.margin, -self.margin or None),) * 2
        restored, clean = (np.clip(image[inside], 0, 1).astype(np.float64) for image in (estimate, self.clean))
        return {
            "psnr": round(float(-10 * np.log10(np.mean((restored - clean) ** 2))), 4),
            "ssim": round(float(structural_similarity(restored, clean, data_range=1)), 4),
        }


def camera_shake(side: int = 19, seed: int = 3) -> Image:
    """Return the path of a point as a shaking hand draws it, (side, side), like the kernels of Levin et al. (2009)."""
    steps = gaussian_filter1d(np.random.default_rng(seed).standard_normal((2, 4000)), 200, axis=1, mode="constant")
    path = np.cumsum(steps, axis=1)
    path -= (path.max(axis=1, keepdims=True) + path.min(axis=1, keepdims=True)) / 2
    path = path / np.abs(path).max() * (side / 2 - 1.5) + side // 2
    kernel = np.histogram2d(*path, bins=side, range=[[-0.5, side - 0.5]] * 2)[0]
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def with_noise(clean: Image, number: int, sigma: float) -> Damaged:
    """Add noise of so many grey levels of 255."""
    noise = np.random.default_rng([number, int(sigma)]).standard_normal(clean.shape)
    return Damaged(clean, (clean + sigma / 255 * noise).astype(np.float32), sigma / 255)


def with_holes(clean: Image, number: int) -> Damaged:
    """Take pixels away."""
    missing = np.random.default_rng([number, 30]).random(clean.shape) < _MISSING
    return Damaged(clean, np.where(missing, 0, clean).astype(np.float32), missing)


def with_blur(clean: Image, number: int) -> Damaged:
    """Shake the camera; what lies beyond the borders is part of the blurred image, and unknown."""
    kernel = camera_shake()
    half = len(kernel) // 2
    blurred = fftconvolve(clean, kernel, mode="valid")
    seen = blurred + _BLUR_SIGMA * np.random.default_rng([number, 19]).standard_normal(blurred.shape)
    return Damaged(clean[half:-half, half:-half], seen.astype(np.float32), kernel, half)


def _continued(y: Image, kernel: Image, method: Callable[[Image, Image], NDArray[Any]]) -> NDArray[Any]:
    """Apply a method that takes an image for periodic to one that is continued by its mirror image, fading over."""
    margin = 2 * len(kernel)
    return method(np.pad(y, margin, mode="reflect"), kernel)[margin:-margin, margin:-margin]


def _peers() -> dict[str, dict[str, Callable[[Image, Any], NDArray[Any]]]]:
    """Return the methods of others for each kind of damage: from what is seen and known to an estimate."""
    from bm3d import bm3d  # noqa: PLC0415 - it opens a library at import

    return {
        "noise": {
            "BM3D": lambda y, s: np.asarray(bm3d(y, s)),
            "wavelet": lambda y, s: restoration.denoise_wavelet(
                y, s, method="BayesShrink", mode="soft", rescale_sigma=True
            ),
            "non-local means": lambda y, s: restoration.denoise_nl_means(
                y, patch_size=5, patch_distance=6, h=0.8 * s, sigma=s, fast_mode=True
            ),
            "total variation": lambda y, s: restoration.denoise_tv_chambolle(y, weight=1.2 * s),
        },
        "holes": {"biharmonic": restoration.inpaint_biharmonic},
        "blur": {
            "Wiener, unsupervised": lambda y, kernel: _continued(
                y, kernel, lambda y, kernel: restoration.unsupervised_wiener(y, kernel, rng=0, clip=False)[0]
            ),
            **{
                f"Wiener, balance {balance:g}": lambda y, kernel, balance=balance: _continued(
                    y, kernel, lambda y, kernel: restoration.wiener(y, kernel, balance, clip=False)
                )
                for balance in (0.001, 0.003, 0.01, 0.03, 0.1)
            },
            **{
                f"Richardson–Lucy, {n} steps": lambda y, kernel, n=n: _continued(
                    y, kernel, lambda y, kernel: restoration.richardson_lucy(y.clip(0), kernel, n, clip=False)
                )
                for n in (10, 30, 100)
            },
        },
    }


def _own(name: str, model: Any, threads: int) -> dict[str, dict[str, Callable[[Image, Any], NDArray[Any]]]]:
    """Return what a mixture does about each kind of damage."""
    plain = {"octaves": 1, "adapt": 0}
    ways = {"": {}, ", stride 2": {"stride": 2}, ", plain": plain, ", plain splitting": plain | {"betas": BETAS}}
    denoisers = {
        name + way: lambda y, s, options=options: denoise(y, s, model, n_threads=threads, **options)
        for way, options in ways.items()
    }
    return {
        "noise": denoisers,
        "holes": {name: lambda y, missing: inpaint(y, missing, model, n_threads=threads)},
        "blur": {name: lambda y, kernel: deblur(y, kernel, _BLUR_SIGMA, model, n_threads=threads)},
    }


def methods(prior: str | None, threads: int) -> dict[str, dict[str, Callable[[Image, Any], NDArray[Any]]]]:
    """Return all methods for each kind of damage."""
    sets = [_own("shipped prior", None, threads)]
    if prior:
        model = load(prior)
        sets.append(_own(f"{type(model).__name__} of {model.n_components_}", model, threads))
    sets.append(_peers())
    return {damage: {name: f for each in sets for name, f in each[damage].items()} for damage in sets[0]}


def _photographs(task: str, folder: Path, every: int) -> list[tuple[int, str, Path]]:
    """Return number, name and path of the photographs of a task."""
    names, split = (BSD68, "val") if task.startswith("noise") else (OTHERS, "test")
    return [(i, name, folder / split / f"{name}.jpg") for i, name in enumerate(names) if i % every == 0]


def _damaged(task: str, clean: Image, number: int) -> Damaged:
    if task.startswith("noise"):
        return with_noise(clean, number, float(task.removeprefix("noise-")))
    return {"holes": with_holes, "blur": with_blur}[task](clean, number)


def table(report: dict[str, Any]) -> str:
    """Return the mean figures of each method, over the photographs that all methods of a task have seen."""
    lines = []
    for task, results in report["results"].items():
        reference = next(name for name in ("BM3D", "biharmonic", "Wiener, unsupervised", *results) if name in results)
        seen = sorted(set.intersection(*(set(rows) for rows in results.values())))
        seconds = report.get("seconds", {}).get(task, {})

        def mean(name: str, figure: str, rows: Any = results, seen: list[str] = seen) -> float:
            return float(np.mean([rows[name][photograph][figure] for photograph in seen]))

        lines += ["", f"{_TITLES[task.split('-')[0]].format(sigma=task[6:])}, {len(seen)} photographs", ""]
        lines.append(table_row(["method", "PSNR, dB", f"less {reference}", "SSIM", "seconds an image"]))
        lines.append(table_row(["---", *["--:"] * 4]))
        for name in sorted(results, key=lambda name: -mean(name, "psnr")):
            figures = [f"{mean(name, 'psnr'):.2f}", f"{mean(name, 'psnr') - mean(reference, 'psnr'):+.2f}"]
            taken = f"{np.median(seconds[name]):.2f}" if name in seconds else ""
            lines.append(table_row([name, *figures, f"{mean(name, 'ssim'):.3f}", taken]))
    return "\n".join(lines[1:])


_TITLES = {
    "noise": "Noise of deviation {sigma} of 255",
    "holes": "30 % of the pixels missing",
    "blur": "A shaken camera (19×19 pixels), noise of deviation 0.01 of white",
}
_TASKS = ("noise-15", "noise-25", "noise-50", "holes", "blur")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what restores photographs.")
    parser.add_argument("--tasks", nargs="+", choices=_TASKS, default=list(_TASKS), help="these alone")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th photograph alone")
    parser.add_argument("--methods", nargs="+", help="these alone")
    parser.add_argument("--model", metavar="FILE", help="another mixture to measure beside the shipped one")
    parser.add_argument("--seconds", action="store_true", help="measure times, of a few photographs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-dir", default=os.environ.get("CONVGMM_DATA"), help="folder with bsds500/ in it")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-restoration.json"))
    return parser


def main() -> None:
    """Measure, and print a table."""
    options = _parser().parse_args()
    folder = data_folder(options.data_dir, "bsds500") or cache_folder() / "bsds500"
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    available = methods(options.model, options.threads)
    report = json.loads(options.out.read_text()) if options.out.is_file() else {"results": {}, "seconds": {}}
    report["machine"] = hardware() | versions() | {name: version(name) for name in ("bm3d", "scikit-image")}

    def save() -> None:
        write_atomically(options.out, (json.dumps(report, indent=1) + "\n").encode())
        write_atomically(options.out.with_suffix(".md"), (table(report) + "\n").encode())

    for task in options.tasks:
        chosen = {name: f for name, f in available[task.split("-")[0]].items() if name in (options.methods or [name])}
        for number, photograph, path in _photographs(task, folder, options.every)[
            : _TIMED if options.seconds else None
        ]:
            damaged = _damaged(task, read_grey(path), number)
            for name, method in chosen.items():
                if options.seconds:
                    method(damaged.seen[:64, :64], damaged.known if task != "holes" else damaged.known[:64, :64])
                    started = time.perf_counter()
                    method(damaged.seen, damaged.known)
                    taken = time.perf_counter() - started
                    report["seconds"].setdefault(task, {}).setdefault(name, []).append(round(taken, 4))
                    continue
                rows = report["results"].setdefault(task, {}).setdefault(name, {})
                if photograph not in rows:
                    rows[photograph] = damaged.judge(method(damaged.seen, damaged.known))
            print(".", end="", file=sys.stderr, flush=True)
            save()
    if options.seconds:
        report["settings"] = {"threads": options.threads, "load when timed": f"{load_average()[0]:.1f}"}
        save()
    print("\n" + table(report))


if __name__ == "__main__":
    main()
