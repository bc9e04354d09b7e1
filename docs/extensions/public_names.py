"""The reference holds every public name: modules are listed here, and a build without a name fails."""

import importlib
import inspect
import pkgutil
import typing
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

import convgmm

#: Modules that say how the package works inside, and are no part of what it offers.
INTERNAL = {
    *("classifier", "conv", "deep", "estimator", "full", "patch_mixture", "torus"),  # their classes stand above
    *("cli", "configuration", "extras", "files", "initialize", "model_file", "reservoir"),
}


def offered(module_name: str) -> list[str]:
    """Return what a module offers and none above it: what `__all__` names, or the classes and functions it defines."""
    module = importlib.import_module(module_name)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module_name
    ]
    parent = module_name.rpartition(".")[0]
    above = importlib.import_module(parent) if parent else None
    offered_above = set(getattr(above, "__all__", []))
    return [
        name
        for name in names
        if not name.startswith("_")
        and not inspect.ismodule(getattr(module, name))
        and typing.get_origin(getattr(module, name)) is None  # a name for a type
        and not (name in offered_above and getattr(above, name) is getattr(module, name))
    ]


def public_modules() -> list[str]:
    """Return the package, its modules that are not internal, and what a family follows."""
    found = [module.name for module in pkgutil.iter_modules(convgmm.__path__)]
    public = [name for name in found if not (name.startswith("_") or name in INTERNAL)]
    return ["convgmm", *(f"convgmm.{name}" for name in public), "convgmm.families.family"]


_INDEX = """\
Reference
=========

What the package offers, from its docstrings.

.. autosummary::
   :toctree: generated

{used}

Inside
------

What a mixture is made of, for those who :doc:`add to it </extending>`.

.. autosummary::
   :toctree: generated

{inside}
"""


def write_index(app: Sphinx, config: Config) -> None:
    """Write the list of modules: those that the package names, and those behind them."""
    named = {f"convgmm.{name}" for name in convgmm.__all__}
    modules = public_modules()
    used = [name for name in modules if name in named | {"convgmm", "convgmm.distributed", "convgmm.experiments"}]
    inside = [name for name in modules if name not in used]
    lists = {name: "\n".join(f"   {module}" for module in each) for name, each in (("used", used), ("inside", inside))}
    Path(app.srcdir, "reference").mkdir(exist_ok=True)
    Path(app.srcdir, "reference", "index.rst").write_text(_INDEX.format(**lists))


def _skip(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what classes inherit from other packages, whose own documentation describes it."""
    module = getattr(inspect.unwrap(value) if callable(value) else value, "__module__", None)
    if isinstance(value, property):
        module = getattr(value.fget, "__module__", None)
    return True if module and module.partition(".")[0] != "convgmm" else None


def _check(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.name != "html":
        return
    described = set(app.env.get_domain("py").objects)
    missing = [
        f"{module}.{name}"
        for module in public_modules()
        for name in offered(module)
        if f"{module}.{name}" not in described
    ]
    if missing:
        raise ExtensionError(f"not in the reference: {', '.join(missing)}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the checks."""
    app.config.autosummary_context = {"offered": {module: offered(module) for module in public_modules()}}
    app.connect("config-inited", write_index)
    app.connect("autodoc-skip-member", _skip)
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True}
