"""Where FFTW's shared libraries are: those that the installed pyfftw carries, or the system's."""

import ctypes.util
import importlib.util
import sys
import sysconfig
from functools import cache
from pathlib import Path

from . import _core

#: File names start with these; what follows is a hash and a version that change with every release.
_SINGLE, _DOUBLE = "libfftw3f", "libfftw3"


@cache
def provide() -> None:
    """Name the libraries to the core, once; the core opens them when it first transforms.

    Raises
    ------
    ImportError
        If there are none; says what to install.
    """
    _core.set_fft_libraries(*shared_libraries())


@cache
def shared_libraries() -> tuple[str, str]:
    """Return the single- and the double-precision library: a path, or a name that the loader finds.

    Raises
    ------
    ImportError
        If pyfftw carries no such library and the system has none; says what to install.
    """
    folders: list[Path] = []
    spec = importlib.util.find_spec("pyfftw")
    if spec is not None and spec.submodule_search_locations:
        package = Path(next(iter(spec.submodule_search_locations)))
        # Linux wheels keep libraries beside the package, macOS wheels inside it.
        folders = [package.parent / "pyfftw.libs", package.parent / "pyFFTW.libs", package / ".dylibs", package]
    # Where environments and systems keep them: the core makes a copy of its own of a file, but not of a mere name.
    folders += [
        Path(sys.prefix) / "lib",
        Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or ""),
        Path("/usr/lib64"),
    ]
    return _find(folders, _SINGLE), _find(folders, _DOUBLE)


def _find(folders: list[Path], name: str) -> str:
    for folder in folders:
        for path in sorted(folder.glob(f"{name}[-.]*")):
            if ".so" in path.name or path.suffix == ".dylib":
                return str(path)
    found = ctypes.util.find_library(name.removeprefix("lib"))
    if found is None:
        raise ImportError(
            f"convolutional mixtures need FFTW, and neither pyfftw nor the system has {name}: pip install pyfftw (its "
            f"wheels carry it), or install the system's FFTW library."
        )
    return found
