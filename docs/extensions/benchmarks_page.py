"""The page of benchmarks is made of the measurements in ``benchmarks/published/``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_TITLES = {
    "conv": "Convolutional mixtures",
    "density": "Densities of held-out patches of 8×8",
    "density16": "Densities of held-out patches of 16×16",
    "full": "Full covariances",
    "reallocation": "Components moved out of bad optima",
    "restoration": "Noise taken out of photographs",
    "training": "Ways to train",
}
_TEXT = """\
# Benchmarks

Times mean something beside other times: implementations take turns on the same samples from the same parameters, and
what counts is their ratio, on the machine that is described below each table. Before an implementation is timed, its
result is compared with NumPy's in float64. `benchmarks/README.md` says how to repeat all this.
"""


def _page() -> Iterator[str]:
    yield _TEXT
    files = sorted((_BENCHMARKS / "published").glob("*.json"))
    if not files:
        yield "This version comes without stored measurements; the README's tables say when and where they were taken."
    sys.path.insert(0, str(_BENCHMARKS))
    try:
        import report as reports  # noqa: PLC0415
        import tables  # noqa: PLC0415
    finally:
        sys.path.remove(str(_BENCHMARKS))
    for file in files:
        content = json.loads(file.read_text())
        yield f"## {_TITLES.get(file.stem, file.stem)}\n"
        if "sections" in content:
            yield tables.summary(content) + "\n"
            yield from tables.tables(content)
            yield "\n### Everything that was measured\n"
            _title, *others = reports.lines(reports.read(content))
            yield from (f"##{line}" if line.startswith("## ") else line for line in others)
        else:
            yield file.with_suffix(".md").read_text()
            facts = content.get("settings", {}) | content.get("machine", {})
            yield from ("", "| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items()))


def write_page(app: Sphinx, config: Config) -> None:
    """Write it among the pages."""
    Path(app.srcdir, "benchmarks.md").write_text("\n".join(_page()) + "\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the page before pages are read."""
    app.connect("config-inited", write_page)
    return {"parallel_read_safe": True}
