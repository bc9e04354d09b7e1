"""Optional dependencies: imported where they are needed, with a word on what to install."""

import importlib
from types import ModuleType


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional extra.

    Raises
    ------
    ImportError
        If it is not installed; says which extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {module.partition('.')[0]}: pip install 'convgmm[{extra}]'") from error
