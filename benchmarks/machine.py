"""What a measurement was taken on."""

import os
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from threadpoolctl import threadpool_info

from convgmm.configuration import configuration, processor

_PEERS = ("scipy", "threadpoolctl", "torch", "cplx-gmm")
#: Variables with which an environment forces kernels on libraries that would choose faster, or slower, ones.
FORCING = (
    "OPENBLAS_CORETYPE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "BLIS_ARCH_TYPE",
    "NPY_DISABLE_CPU_FEATURES",
    "ATEN_CPU_CAPABILITY",
)
# Where something is installed says nothing about speed.
_LEFT_OUT = ("FFTW found at", "processor", "threads", "thread pools", "environment")


def load_average() -> tuple[float, float, float]:
    """Return the mean number of running processes over the last 1, 5 and 15 minutes."""
    return os.getloadavg()


def hardware() -> dict[str, str]:
    """Return the processor's name, the number of usable cores, and the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"processor": processor(), "usable cores": str(cores), "memory": f"{memory / 2**30:.1f} GiB"}


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


def blas_kernels() -> str:
    """Return which kernels the BLAS libraries in this process use, or what PyTorch says if that is here."""
    if torch := sys.modules.get("torch"):  # its own BLAS is linked into it, where threadpoolctl does not see it
        return str(torch.backends.cpu.get_cpu_capability())
    found = {pool.get("architecture", "unknown") for pool in threadpool_info() if pool["user_api"] == "blas"}
    return ", ".join(sorted(map(str, found)))


def forced_kernels() -> str:
    """Return what the environment forces on libraries, as variables with their values; "" if nothing."""
    return " ".join(f"{name}={os.environ[name]}" for name in FORCING if os.environ.get(name))


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


def available_memory() -> int:
    """Return how many bytes can be taken without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
