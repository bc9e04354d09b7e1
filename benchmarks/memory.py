"""Peak memory of a fit beyond its patches and their coefficients; a process of its own, so that nothing else counts."""

import argparse
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np
from convgmm.half_spectrum import half_spectrum

from problem import fit_briefly


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    try:
        # Of this program alone; getrusage's number is inherited from the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes() -> int:
    """Return the memory that this process holds now; its peak where that cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def main() -> None:
    """Fit three iterations to noise and print the numbers, in bytes, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("n", "k", "side", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()

    patches = np.empty((options.n, options.side, options.side), dtype=np.float32)
    np.random.default_rng(0).standard_normal(dtype=np.float32, out=patches)
    coefficients = options.n * len(half_spectrum((options.side, options.side), True).multiplicities) * 4
    baseline = resident_bytes()
    fit_briefly(patches, options.k, 3, n_threads=options.threads)
    peak = peak_bytes()
    print(
        json.dumps(
            {
                "patches": patches.nbytes,
                "coefficients": coefficients,
                "resident before the fit": baseline,
                "peak": peak,
                "beyond patches and coefficients": peak - baseline - coefficients,
            }
        )
    )


if __name__ == "__main__":
    main()
