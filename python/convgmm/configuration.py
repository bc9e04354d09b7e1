"""What this installation is made of."""

import platform
from importlib.metadata import PackageNotFoundError, version

from . import _core, _fftw

_PACKAGES = ("numpy", "scikit-learn", "pyfftw", "tqdm", "matplotlib", "pooch", "pillow")


def configuration() -> dict[str, str]:
    """Return versions, compiler, instruction sets, FFTW's version and place, and the number of threads."""
    facts = {
        "convgmm": version("convgmm"),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "compiler": _core.compiler,
        "instruction sets": f"{' '.join(_core.levels_built)} built, {_core.level} in use",
        "Eigen": _core.eigen_version,
        **_fftw_facts(),
        "threads": str(_core.thread_count(0)),
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


def show_config() -> None:
    """Print what this installation is made of: `configuration`, a line each."""
    facts = configuration()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {value}")
