"""The examples in docstrings run, and say what they print; every parameter is documented."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import convgmm
from registry import ENTRIES

PACKAGE = Path(convgmm.__file__).parent
EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text()
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


def test_estimators_have_examples():
    assert {f"convgmm.{name}" for name in ("classifier", "conv", "deep", "full", "torus")} <= set(EXAMPLES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_parameter_and_attribute_is_documented(entry):
    estimator = entry.make(max_iter=2).fit(entry.samples())
    text = inspect.getdoc(type(estimator))
    parameters, attributes = text.split("Attributes\n----------")
    assert "<shared" not in text
    for name, parameter in inspect.signature(type(estimator)).parameters.items():
        assert f"\n{name} : " in parameters, name
        if parameter.default is not inspect.Parameter.empty:
            line = next(line for line in parameters.splitlines() if line.startswith(f"{name} : "))
            default = f'"{parameter.default}"' if isinstance(parameter.default, str) else None
            assert default is None or line.endswith(f"default={default}"), line
    for name in vars(estimator):
        if name.endswith("_") and not name.startswith("_"):
            assert f"\n{name} : " in attributes, name
