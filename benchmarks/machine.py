"""What a measurement was taken on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from threadpoolctl import threadpool_info

from convgmm.configuration import configuration

_PEERS = ("scipy", "threadpoolctl", "torch", "cplx-gmm")
# Where something is installed says nothing about speed.
_LEFT_OUT = ("FFTW found at", "threads")


def load_average() -> tuple[float, float, float]:
    """Return the mean number of running processes over the last 1, 5 and 15 minutes."""
    return os.getloadavg()


def hardware() -> dict[str, str]:
    """Return the processor's name, the number of usable cores, and the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"processor": _processor(), "usable cores": str(cores), "memory": f"{memory / 2**30:.1f} GiB"}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    facts = {name: value for name, value in configuration().items() if name not in _LEFT_OUT}
    for package in _PEERS:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    libraries = {
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', 'unknown')})"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    return facts | {"BLAS": ", ".join(sorted(libraries)) or "unknown"}


def available_memory() -> int:
    """Return how many bytes can be taken without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
