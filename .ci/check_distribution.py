"""Check what is to be published: sizes, licences, the instruction sets, and that FFTW is not inside."""

import sys
import tarfile
import zipfile
from pathlib import Path

_MEBIBYTE = 2**20
_LICENCES = {"LICENSE", "NOTICE.md", "MPL-2.0.txt"}


def faults(path: Path) -> list[str]:
    """Say what is wrong with a distribution."""
    is_wheel = path.suffix == ".whl"
    if is_wheel:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    else:
        with tarfile.open(path) as sources:
            names = sources.getnames()
    found = []
    limit = 2.5 if is_wheel else 1.0
    size = path.stat().st_size / _MEBIBYTE
    if size > limit:
        found.append(f"{size:.2f} MiB, more than {limit}")
    if missing := _LICENCES - {Path(name).name for name in names}:
        found.append(f"no {', '.join(sorted(missing))}")
    if fftw := [name for name in names if "fftw3" in name.lower()]:
        found.append(f"holds FFTW: {fftw}")
    needed = ["py.typed", "_cpu."] if is_wheel else ["CMakeLists.txt", "PKG-INFO", "/tests/registry.py"]
    if is_wheel and "x86_64" in path.name:
        needed += ["_core_v2.", "_core_v3.", "_core_v4."]
    found += [f"no {part}" for part in needed if not any(part in name for name in names)]
    print(f"{path.name}: {size:.2f} MiB, {len(names)} files", *found, sep="\n  ")
    return found


if __name__ == "__main__":
    sys.exit(sum(len(faults(Path(argument))) for argument in sys.argv[1:]) > 0)
