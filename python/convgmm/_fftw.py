"""Where the installed pyfftw keeps FFTW's shared libraries."""

import importlib.util
from pathlib import Path

#: File names start with these; what follows is a hash and a version that change with every release.
_SINGLE, _DOUBLE = "libfftw3f", "libfftw3"


def library_paths() -> tuple[Path, Path]:
    """Return the single- and the double-precision library of the installed pyfftw.

    Raises
    ------
    ImportError
        If pyfftw is not installed, or carries no such library.
    """
    spec = importlib.util.find_spec("pyfftw")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("convgmm needs FFTW, which it takes from pyfftw: pip install pyfftw")
    package = Path(next(iter(spec.submodule_search_locations)))
    # Linux wheels keep libraries beside the package, macOS wheels inside it.
    folders = [package.parent / "pyfftw.libs", package.parent / "pyFFTW.libs", package / ".dylibs", package]
    return _find(folders, _SINGLE), _find(folders, _DOUBLE)


def _find(folders: list[Path], name: str) -> Path:
    for folder in folders:
        for path in sorted(folder.glob(f"{name}[-.]*")):
            if ".so" in path.name or path.suffix == ".dylib":
                return path
    looked_in = ", ".join(map(str, folders))
    raise ImportError(f"pyfftw is installed without {name}: convgmm looked in {looked_in}. Reinstall it from a wheel.")
