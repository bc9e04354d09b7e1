"""Kinds of components: one file each, and the protocol that they follow."""

from .family import Assign, CollapseError, DensityError, Family, Floats, Portrait, Reading
from .full import Full
from .scale_mixture import ScaleMixture
from .scaled import Scaled
from .spectral import Spectral
from .student import Student
from .torus import Torus

#: Every family, by the name that stands in saved models.
FAMILIES: dict[str, type[Family]] = {family.__name__: family for family in (Spectral, Full, Torus, Scaled, Student)}

__all__ = [
    "FAMILIES",
    "Assign",
    "CollapseError",
    "DensityError",
    "Family",
    "Floats",
    "Full",
    "Portrait",
    "Reading",
    "ScaleMixture",
    "Scaled",
    "Spectral",
    "Student",
    "Torus",
]
