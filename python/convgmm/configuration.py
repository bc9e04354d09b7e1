"""What this installation is made of."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from threadpoolctl import threadpool_info

from . import _core, _fftw

_PACKAGES = ("numpy", "scipy", "scikit-learn", "pyfftw", "tqdm", "matplotlib", "pooch", "pillow", "dask", "distributed")
# What of the environment changes results' last bits, or times.
_PREFIXES = ("CONVGMM_", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "NPY_")


def configuration() -> dict[str, str]:
    """Return what a report of a fault needs.

    Versions, compiler, processor and instruction sets, FFTW's version and place, the libraries with threads that are
    loaded, the number of threads, and the environment variables that matter to any of them.
    """
    facts = {
        "convgmm": version("convgmm"),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "compiler": _core.compiler,
        "instruction sets": f"{' '.join(_core.levels_built)} built, {_core.level} in use",
        "Eigen": _core.eigen_version,
        **_fftw_facts(),
        "processor": processor(),
        "threads": str(_core.thread_count(0)),
        "thread pools": _thread_pools(),
        "environment": " ".join(
            f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith(_PREFIXES)
        )
        or "sets nothing",
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _fftw_facts() -> dict[str, str]:
    try:
        _fftw.provide()
        return {"FFTW": _core.fft_library_version(), "FFTW found at": _fftw.shared_libraries()[0]}
    except (ImportError, RuntimeError) as error:
        return {"FFTW": str(error)}


def _thread_pools() -> str:
    pools = {
        f"{pool['internal_api']} {pool['version'] or ''}".strip()
        + (f" ({pool['architecture']})" if "architecture" in pool else "")
        for pool in threadpool_info()
    }
    return ", ".join(sorted(pools)) or "none"


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def show_config() -> None:
    """Print what this installation is made of: `configuration`, a line each."""
    facts = configuration()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {value}")
