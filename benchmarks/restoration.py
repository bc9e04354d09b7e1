"""Noise taken out of photographs, beside BM3D and scikit-image: ``python benchmarks/restoration.py``.

The 68 photographs of BSDS500 `val` that the field calls BSD68; the same seeded noise for everyone; the peak signal-to-
noise ratio of the mean squared error, clipped to [0, 1], and the structural similarity of scikit-image. What is
measured is written after every photograph, so that an interrupt loses one; a second call goes on where it ended.

Needs ``pip install bm3d scikit-image`` and the photographs, as `convgmm.datasets.load_bsds500` finds them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import restoration
from skimage.metrics import structural_similarity

from convgmm import load
from convgmm.datasets._location import cache_folder, data_folder
from convgmm.files import write_atomically
from convgmm.picture_file import read_grey
from convgmm.restore import BETAS, denoise
from machine import load_average

Image = NDArray[np.float32]

#: Never tuned on: whatever is chosen is chosen on `train` or `test`.
BSD68 = """
    101085 101087 102061 103070 105025 106024 108005 108070 108082 109053 119082 12084 123074 126007 130026
    134035 14037 143090 145086 147091 148026 148089 157055 159008 160068 16077 163085 167062 167083 170057
    175032 175043 182053 189080 19021 196073 197017 208001 210088 21077 216081 219090 220075 223061 227092
    229036 236037 24077 241004 241048 253027 253055 260058 271035 285079 291000 295087 296007 296059 299086
    300091 302008 304034 304074 306005 3096 33039 351093
""".split()  # noqa: SIM905 - 68 quoted numbers are hard to read


def _methods(prior: str | None, threads: int) -> dict[str, Callable[[Image, float], NDArray[Any]]]:
    """Return all methods: from a noisy photograph and the noise's deviation to an estimate."""
    from bm3d import bm3d  # noqa: PLC0415 - it opens a library at import

    methods: dict[str, Callable[[Image, float], NDArray[Any]]] = {
        "shipped": lambda y, s: denoise(y, s, n_threads=threads),
        "shipped, stride 2": lambda y, s: denoise(y, s, stride=2, n_threads=threads),
        "shipped, splitting": lambda y, s: denoise(y, s, betas=BETAS, n_threads=threads),
        "BM3D": lambda y, s: np.asarray(bm3d(y, s)),
        "wavelet": lambda y, s: restoration.denoise_wavelet(
            y, s, method="BayesShrink", mode="soft", rescale_sigma=True
        ),
        "non-local means": lambda y, s: restoration.denoise_nl_means(
            y, patch_size=5, patch_distance=6, h=0.8 * s, sigma=s, fast_mode=True
        ),
        "total variation": lambda y, s: restoration.denoise_tv_chambolle(y, weight=1.2 * s),
    }
    if prior:
        model = load(prior)
        name = f"{type(model).__name__} of {model.n_components_}"
        methods |= {
            name: lambda y, s: denoise(y, s, model, n_threads=threads),
            f"{name}, splitting": lambda y, s: denoise(y, s, model, betas=BETAS, n_threads=threads),
        }
    return methods


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what takes noise out of photographs.")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="in grey levels of 255")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th photograph alone")
    parser.add_argument("--methods", nargs="+", help="these alone")
    parser.add_argument("--model", metavar="FILE", help="another mixture to measure beside the shipped one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-dir")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-restoration.json"))
    return parser


def main() -> None:
    """Measure, and print a table."""
    options = _parser().parse_args()
    folder = (data_folder(options.data_dir, "bsds500") or cache_folder() / "bsds500") / "val"
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    methods = _methods(options.model, options.threads)
    names = options.methods or list(methods)
    results = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for sigma in options.sigma:
        for number, photograph in enumerate(BSD68):
            if number % options.every:
                continue
            clean = read_grey(folder / f"{photograph}.jpg")
            noise = np.random.default_rng([number, int(sigma)]).standard_normal(clean.shape)
            noisy = (clean + sigma / 255 * noise).astype(np.float32)
            for name in names:
                key = f"{sigma:g}/{name}/{photograph}"
                if key in results:
                    continue
                started = time.perf_counter()
                estimate = methods[name](noisy, sigma / 255)
                seconds = time.perf_counter() - started
                restored = np.clip(estimate, 0, 1).astype(np.float64)
                results[key] = {
                    "psnr": float(-10 * np.log10(np.mean((restored - clean) ** 2))),
                    "ssim": float(structural_similarity(restored, clean.astype(np.float64), data_range=1)),
                    "seconds": seconds,
                    "threads": options.threads,
                    "load": load_average()[0],
                }
            write_atomically(options.out, json.dumps(results, indent=1).encode())
            print(".", end="", file=sys.stderr, flush=True)
    print("\n" + table(results))


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the mean figures of each method at each noise, over the photographs that all methods have seen."""
    lines = ["| sigma | method | photographs | PSNR, dB | less BM3D | SSIM | s an image |", "|---" * 7 + "|"]
    keys = [key.split("/") for key in results]
    for sigma in sorted({float(key[0]) for key in keys}):
        mine = [key for key in keys if float(key[0]) == sigma]
        methods = list(dict.fromkeys(key[1] for key in mine))
        seen = [{key[2] for key in mine if key[1] == method} for method in methods]
        common = sorted(set.intersection(*seen))

        def mean(method: str, figure: str, common: list[str] = common, sigma: float = sigma) -> float:
            return float(np.mean([results[f"{sigma:g}/{method}/{each}"][figure] for each in common]))

        for method in methods:
            gain = f"{mean(method, 'psnr') - mean('BM3D', 'psnr'):+.2f}" if "BM3D" in methods else ""
            lines.append(
                f"| {sigma:g} | {method} | {len(common)} | {mean(method, 'psnr'):.2f} | {gain} "
                f"| {mean(method, 'ssim'):.3f} | {mean(method, 'seconds'):.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
