"""Peak memory of a fit with full covariances beyond its samples; a process of its own, so that nothing else counts."""

import argparse
import json
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from convgmm import FullGMM
from memory import peak_bytes, resident_bytes


def main() -> None:
    """Fit three iterations and print the numbers, in bytes, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", required=True, help=".npy file")
    parser.add_argument("--reg-covar", type=float, required=True)
    for name in ("k", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()

    samples = np.load(options.samples)
    baseline = resident_bytes()
    model = FullGMM(
        options.k,
        max_iter=3,
        tol=0,
        reg_covar=options.reg_covar,
        prune_threshold=0,
        random_state=0,
        n_threads=options.threads,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(samples)
    peak = peak_bytes()
    print(
        json.dumps(
            {
                "samples, and as much again for the rotated ones": samples.nbytes,
                "covariances of all components, float64": model.covariances_.nbytes,
                "resident before the fit": baseline,
                "peak": peak,
                "beyond samples and rotated samples": peak - baseline - samples.nbytes,
            }
        )
    )


if __name__ == "__main__":
    main()
