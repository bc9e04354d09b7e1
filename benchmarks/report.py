"""The report as JSON and as Markdown; it knows groups of timed rows, not what was timed."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convgmm.files import write_atomically
from measure import Group, Judgement, Row, duration, span

# Above this a processor was not idle when the run began.
_IDLE_LOAD = 0.3


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes
    ----------
    title, text : str
        Heading, and what was measured how.
    groups : list of Group
        Each is a table of its own, or with `columns` one column of a common table.
    axis : str or None
        What differs between the columns.
    columns : list of str
        Value of the axis for each group.
    facts : dict
        Numbers that are not times.
    """

    title: str
    text: str
    groups: list[Group] = field(default_factory=list)
    axis: str | None = None
    columns: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything that a run found."""

    settings: dict[str, str]
    machine: dict[str, str]
    versions: dict[str, str]
    load_before: tuple[float, float, float]
    load_after: tuple[float, float, float]
    sections: list[Section]
    taken: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def wrong(self) -> list[str]:
        """Say which implementations gave another result, each once."""
        groups = [group for section in self.sections for group in section.groups]
        lines = [f"{group.title}: {name}: {why}" for group in groups for name, why in group.wrong.items()]
        return list(dict.fromkeys(lines))


def write(report: Report, folder: Path) -> list[Path]:
    """Write results.json and results.md; return their paths."""
    contents = {"results.json": json.dumps(asdict(report), indent=1), "results.md": "\n".join(lines(report)) + "\n"}
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in contents]


def read(content: dict[str, Any]) -> Report:
    """Return the report that results.json holds."""

    def row(values: dict[str, Any]) -> Row:
        return Row(**{**values, "judgement": Judgement(**values["judgement"])})

    def group(values: dict[str, Any]) -> Group:
        return Group(**{**values, "rows": [row(each) for each in values["rows"]]})

    def section(values: dict[str, Any]) -> Section:
        return Section(**{**values, "groups": [group(each) for each in values["groups"]]})

    return Report(**{**content, "sections": [section(each) for each in content["sections"]]})


def lines(report: Report) -> Iterator[str]:
    yield "# Benchmark"
    yield ""
    yield f"Taken {report.taken}. Times are medians, with the shortest and the longest repetition."
    if report.load_before[0] > _IDLE_LOAD:
        yield ""
        yield f"**The machine was not idle when this run began (load average {report.load_before[0]:.2f}).**"
    loads = {"load average before": _loads(report.load_before), "load average after": _loads(report.load_after)}
    yield from _facts({**report.settings, **report.machine, **loads, **report.versions})
    for section in report.sections:
        yield ""
        yield f"## {section.title}"
        yield ""
        yield section.text
        if section.columns:
            yield from _common_table(section)
        else:
            for group in section.groups:
                yield from _table(group)
        if section.facts:
            yield from _facts(section.facts)
    if wrong := report.wrong():
        yield ""
        yield "## Wrong results"
        yield ""
        yield from (f"- {line}" for line in wrong)


def _facts(facts: dict[str, str]) -> Iterator[str]:
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in facts.items())


def _loads(load: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.2f}" for value in load) + " (1, 5, 15 min)"


def _table(group: Group) -> Iterator[str]:
    deviations = list(
        dict.fromkeys(name for row in group.rows for name, off in row.judgement.deviations.items() if off > 0)
    )
    details = list(dict.fromkeys(name for row in group.rows for name in row.judgement.details))
    compared, kernels = len(group.rows) > 1, any(row.kernel for row in group.rows)
    head = ["implementation", "median", "shortest – longest", "repetitions"]
    head += ["relative to the first"] * compared + [f"{name} off by" for name in deviations] + details
    head += ["BLAS kernel"] * kernels
    yield ""
    yield f"**{group.title}**"
    yield ""
    yield table_row(head)
    yield table_row(["---"] + ["--:"] * (len(head) - 1))
    for row in group.rows:
        off, numbers = row.judgement.deviations, row.judgement.details
        cells = [row.name, duration(row.median), span(row.seconds), str(len(row.seconds))]
        cells += [f"{row.median / group.rows[0].median:.2f}"] * compared
        cells += [f"{off[name]:.1e}" if name in off else "" for name in deviations]
        cells += [f"{numbers[name]:.3g}" if name in numbers else "" for name in details]
        cells += [_kernel(row)] * kernels
        yield table_row(cells)
    yield ""
    yield from _remarks(group)


def _kernel(row: Row) -> str:
    slower = [f"{kernel} {duration(seconds)}" for kernel, seconds in row.slower_kernels.items()]
    return f"{row.kernel}; slower: {', '.join(slower)}" if slower else row.kernel


def _common_table(section: Section) -> Iterator[str]:
    names = list(dict.fromkeys(row.name for group in section.groups for row in group.rows))
    yield ""
    yield table_row([str(section.axis), *section.columns])
    yield table_row(["---"] + ["--:"] * len(section.columns))
    for name in names:
        cells = []
        for row in (group.row(name) for group in section.groups):
            cells.append(f"{duration(row.median)} ({span(row.seconds)})" if row else "left out")
        yield table_row([name, *cells])
    yield ""
    for column, group in zip(section.columns, section.groups, strict=True):
        yield from _remarks(group, f"{section.axis} {column}: ")


def _remarks(group: Group, prefix: str = "") -> Iterator[str]:
    left_out = [f"Left out: {name}: {reason}." for name, reason in group.left_out.items()]
    load = f"Load average before {group.load_before[0]:.2f}, after {group.load_after[0]:.2f}."
    yield from (f"- {prefix}{line}" for line in [*group.notes, *left_out, load])


def table_row(cells: list[str]) -> str:
    """Write a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
