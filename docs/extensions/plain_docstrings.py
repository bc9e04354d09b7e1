"""Docstrings are written to be read as they are: |X|², (K, *shape) and lower_bounds_ are no markup, an indented formula
keeps its lines.
"""

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

_LITERAL = re.compile(r"(``.*?``|`[^`\n]+`)", re.DOTALL)


def _escaped(text: str) -> str:
    parts = _LITERAL.split(text)
    return "".join(
        part if index % 2 else re.sub(r"(?<=\w)_(?!\w)", r"\\_", re.sub(r"(?<!\\)([*|])", r"\\\1", part))
        for index, part in enumerate(parts)
    )


def _split(lines: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return what stands before the sections, the sections, and the examples."""
    headings = [i for i in range(len(lines) - 1) if lines[i].strip() and re.fullmatch(r"\s*-{3,}\s*", lines[i + 1])]
    first = headings[0] if headings else len(lines)
    examples = next((i for i in headings if lines[i].strip() == "Examples"), len(lines))
    return lines[:first], lines[first:examples], lines[examples:]


def _with_formulas(lines: list[str]) -> list[str]:
    """Return the lines with indented paragraphs as literal blocks."""
    result: list[str] = []
    inside = False
    for index, line in enumerate(lines):
        indented = line.startswith("    ")
        if indented and not inside and index and not lines[index - 1].strip():
            result += ["::", ""]
            inside = True
        elif line.strip() and not indented:
            inside = False
        result.append(line if indented and inside else _escaped(line))
    return result


def _process(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    before, sections, examples = _split(lines)
    lines[:] = _with_formulas(before) + _escaped("\n".join(sections)).split("\n") * bool(sections) + examples


def _process_properties(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Do the same for the summaries of properties, with which numpydoc replaces what "Attributes" says of them."""
    if what != "class":
        return
    summaries = [inspect.getdoc(member) or "" for _, member in inspect.getmembers(value, inspect.isdatadescriptor)]
    raw = {line.strip() for summary in summaries for line in summary.partition("\n\n")[0].splitlines()}
    lines[:] = [line.replace(line.strip(), _escaped(line.strip())) if line.strip() in raw else line for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Come before numpydoc, which makes markup of the docstrings, and after it."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    app.connect("autodoc-process-docstring", _process_properties, priority=900)
    return {"parallel_read_safe": True}
