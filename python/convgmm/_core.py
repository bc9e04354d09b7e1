"""The C++ core, in the build for this processor's instruction set.

``CONVGMM_ISA`` (v2, v3 or v4) forces a build.
"""

import importlib
import os

from . import _cpu


def _choose(built: list[str], supported: str, forced: str | None) -> str:
    """Return the level to load: the forced one, or the highest built that the processor has.

    Raises
    ------
    ImportError
        If the forced level is unknown, not built or not supported, or if no build fits the processor.
    """
    fitting = [level for level in built if level <= supported]
    if forced:
        if forced not in built:
            raise ImportError(f"CONVGMM_ISA={forced!r} is not a level of this build; it has {', '.join(built)}.")
        if forced not in fitting:
            raise ImportError(
                f"CONVGMM_ISA={forced!r} is beyond this processor, which has {supported or 'less than v2'}."
            )
        return forced
    if not fitting:
        raise ImportError(f"this processor is older than x86-64-v2; convgmm was built for {', '.join(built)}.")
    return max(fitting)


levels_built = _cpu.levels_built.split()
level = _choose(levels_built, _cpu.processor_level(), os.environ.get("CONVGMM_ISA"))
_chosen = importlib.import_module(f"{__package__}._core_{level}")

NoDensity = _chosen.NoDensity
compiler: str = _chosen.compiler
eigen_version: str = _chosen.eigen_version
fft_library_version = _chosen.fft_library_version
full_expect = _chosen.full_expect
full_factorize_float32 = _chosen.full_factorize_float32
full_factorize_float64 = _chosen.full_factorize_float64
full_log_density = _chosen.full_log_density
full_moments = _chosen.full_moments
full_posterior = _chosen.full_posterior
full_transpose_whiteners = _chosen.full_transpose_whiteners
half_spectrum = _chosen.half_spectrum
principal_axes = _chosen.principal_axes
project = _chosen.project
restore_adapt = _chosen.restore_adapt
restore_add_diagonal = _chosen.restore_add_diagonal
restore_add_rotated = _chosen.restore_add_rotated
restore_diagonal = _chosen.restore_diagonal
restore_rotated = _chosen.restore_rotated
restore_tile_count = _chosen.restore_tile_count
set_fft_libraries = _chosen.set_fft_libraries
spectral_expect = _chosen.spectral_expect
spectral_log_density = _chosen.spectral_log_density
spectral_posterior = _chosen.spectral_posterior
squared_coefficients = _chosen.squared_coefficients
squared_cosine_coefficients = _chosen.squared_cosine_coefficients
thread_count = _chosen.thread_count
torus_covariances = _chosen.torus_covariances
torus_maximize = _chosen.torus_maximize
